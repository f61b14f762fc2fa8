"""Arithmetic and interconnect: energy, area, leakage and delay of one unit.

Pure, vectorised NumPy functions; widths in bits, nodes in nm, energies in J per operation, areas
in mm2, leakage in W, delays in s. Memories are in ``sram``, off-chip kinds in ``tiers``, node
scaling in ``scaling``. Constants carry their source beside them; "estimate" marks the rest.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from archsim.hardware.scaling import Array, NodeLike, area_factor, energy_factor, fo4_s
from archsim.hardware.sram import (
    REGFILE_LEAKAGE_W_PER_BIT,
    REGFILE_NODE_NM,
    regfile,
    register_area_mm2,
    register_energy_j,
    wire_energy_j_per_bit_mm,
)

# ------------------------------------------------------------------- integer, Aladdin at 40 nm
# Y. Shao et al., "Aladdin", ISCA'14, 40 nm, as tabulated by Accelergy (hwcomponents-library,
# aladdin.py). Adder linear in width; multiplier linear in each operand's width.
ALADDIN_NODE_NM = 40.0
ADDER32_PJ, ADDER32_UM2, ADDER32_LEAK_W = 0.21, 278.0, 2.40e-6
MULT32_PJ, MULT32_UM2, MULT32_LEAK_W = 12.68, 6350.0, 8.00e-5

# --------------------------------------------------------------------- Horowitz's table, 45 nm
# M. Horowitz, "Computing's energy problem", ISSCC 2014, 45 nm 0.9 V: energies; areas of the same
# units from W. Dally's NIPS 2015 tutorial (synthesised, TSMC 45 nm; areas recalled, not checked
# against the slides). For 8-bit integers about four times below Aladdin, which neither source
# explains, so compare an fp_mac with int_mac_dense and never with int_mac (Aladdin).
HOROWITZ_NODE_NM = 45.0
INT8_MULT_PJ, INT32_MULT_PJ = 0.2, 3.1
INT8_MULT_UM2, INT32_MULT_UM2 = 282.0, 3495.0
INT32_ADD_PJ, INT32_ADD_UM2 = 0.1, 137.0
FP16_MULT_PJ, FP32_MULT_PJ = 1.1, 3.7
FP16_MULT_UM2, FP32_MULT_UM2 = 1640.0, 7700.0
FP16_ADD_PJ, FP32_ADD_PJ = 0.4, 0.9
FP16_ADD_UM2, FP32_ADD_UM2 = 1360.0, 4184.0
FP16_SIGNIFICAND, FP32_SIGNIFICAND = 11.0, 24.0
#: No leakage in that table: the Aladdin multiplier's leakage per area is used (estimate).
LEAK_W_PER_UM2 = MULT32_LEAK_W / MULT32_UM2

#: IEEE 754 (and FP8 E4M3) significand bits with the hidden one, by storage width; log-linear
#: between (estimate for widths that are no standard).
FP_BITS: Array = np.array([4.0, 8.0, 16.0, 32.0, 64.0])
FP_SIGNIFICAND: Array = np.array([2.0, 4.0, 11.0, 24.0, 53.0])


def significand_bits(bits: ArrayLike) -> Array:
    """Significand width, hidden bit included, of the IEEE-like format of that many bits."""
    return np.interp(np.log2(bits), np.log2(FP_BITS), FP_SIGNIFICAND)


def _power_law(x: Array, x0: float, x1: float, y0: float, y1: float) -> Array:
    return y0 * (x / x0) ** (np.log(y1 / y0) / np.log(x1 / x0))


def adder(bits: ArrayLike, node_nm: NodeLike) -> dict[str, Array]:
    """Integer adder (Aladdin), linear in width."""
    share = np.asarray(bits, dtype=np.float64) / 32.0
    energy = energy_factor(node_nm, ALADDIN_NODE_NM)
    return {
        "energy_j": ADDER32_PJ * 1e-12 * share * energy,
        "area_mm2": ADDER32_UM2 * 1e-6 * share * area_factor(node_nm, ALADDIN_NODE_NM),
        "leakage_w": ADDER32_LEAK_W * share * energy,
    }


def multiplier(bits_a: ArrayLike, bits_b: ArrayLike, node_nm: NodeLike) -> dict[str, Array]:
    """Integer multiplier (Aladdin), linear in each operand's width."""
    share = np.asarray(bits_a, dtype=np.float64) * np.asarray(bits_b, dtype=np.float64) / 1024.0
    energy = energy_factor(node_nm, ALADDIN_NODE_NM)
    return {
        "energy_j": MULT32_PJ * 1e-12 * share * energy,
        "area_mm2": MULT32_UM2 * 1e-6 * share * area_factor(node_nm, ALADDIN_NODE_NM),
        "leakage_w": MULT32_LEAK_W * share * energy,
    }


def _mac_delay_s(bits_a: Array, bits_b: Array, sum_bits: Array, node_nm: NodeLike) -> Array:
    """Slower stage of a two-stage MAC: carry-save tree or carry-lookahead adder, plus a register.

    3 FO4 a 3:2 level over log1.5(min operand width) levels, 2 FO4 a lookahead level, 3 FO4 of
    register overhead: textbook depths (Weste and Harris, chapter 11), an estimate.
    """
    narrow = np.maximum(np.minimum(bits_a, bits_b), 2.0)
    tree = 6.0 + 3.0 * np.log(narrow) / np.log(1.5)
    add = 4.0 + 2.0 * np.log2(sum_bits)
    return fo4_s(node_nm) * (np.maximum(tree, add) + 3.0)


def int_mac(
    bits_a: ArrayLike, bits_b: ArrayLike, sum_bits: ArrayLike, node_nm: NodeLike
) -> dict[str, Array]:
    """Integer MAC from Aladdin's multiplier and adder.

    Args:
        bits_a: Width of one factor.
        bits_b: Width of the other.
        sum_bits: Width of the accumulator.
        node_nm: Technology node.

    Returns:
        energy_j, area_mm2, leakage_w, delay_s. 8 x 8 + 16 bits at 40 nm: 0.8975 pJ.
    """
    product, add = multiplier(bits_a, bits_b, node_nm), adder(sum_bits, node_nm)
    a, b, s = (np.asarray(x, dtype=np.float64) for x in (bits_a, bits_b, sum_bits))
    total = {key: product[key] + add[key] for key in product}
    return total | {"delay_s": _mac_delay_s(a, b, s, node_nm)}


def int_mac_dense(
    bits_a: ArrayLike, bits_b: ArrayLike, sum_bits: ArrayLike, node_nm: NodeLike
) -> dict[str, Array]:
    """Integer MAC from Horowitz's 45 nm table: power law through its 8- and 32-bit points.

    Args and returns as :func:`int_mac`. 8 x 8 + 32 bits at 45 nm: 0.3 pJ.
    """
    a, b, s = (np.asarray(x, dtype=np.float64) for x in (bits_a, bits_b, sum_bits))
    width = np.sqrt(a * b)
    energy = _power_law(width, 8, 32, INT8_MULT_PJ, INT32_MULT_PJ) + INT32_ADD_PJ * s / 32.0
    area = _power_law(width, 8, 32, INT8_MULT_UM2, INT32_MULT_UM2) + INT32_ADD_UM2 * s / 32.0
    return _from_horowitz(energy, area, node_nm) | {"delay_s": _mac_delay_s(a, b, s, node_nm)}


def fp_mac(
    mantissa_a: ArrayLike, mantissa_b: ArrayLike, mantissa_sum: ArrayLike, node_nm: NodeLike
) -> dict[str, Array]:
    """Floating-point MAC: power laws in the significand width through Horowitz's FP16 and FP32.

    Args:
        mantissa_a: Significand bits of one factor, hidden bit included (fp16: 11, bf16: 8).
        mantissa_b: The other's.
        mantissa_sum: The accumulator's.
        node_nm: Technology node.

    Returns:
        As :func:`int_mac`. FP16 with FP16 accumulation at 45 nm: 1.5 pJ.
    """
    a, b, s = (np.asarray(x, dtype=np.float64) for x in (mantissa_a, mantissa_b, mantissa_sum))
    span = (FP16_SIGNIFICAND, FP32_SIGNIFICAND)
    width = np.sqrt(a * b)
    energy = _power_law(width, *span, FP16_MULT_PJ, FP32_MULT_PJ) + _power_law(
        s, *span, FP16_ADD_PJ, FP32_ADD_PJ
    )
    area = _power_law(width, *span, FP16_MULT_UM2, FP32_MULT_UM2) + _power_law(
        s, *span, FP16_ADD_UM2, FP32_ADD_UM2
    )
    # Alignment and normalisation shifters: two more FO4 a significand doubling (estimate).
    delay = _mac_delay_s(a, b, s, node_nm) + fo4_s(node_nm) * 2.0 * np.log2(s + 1.0)
    return _from_horowitz(energy, area, node_nm) | {"delay_s": delay}


def _from_horowitz(energy_pj: Array, area_um2: Array, node_nm: NodeLike) -> dict[str, Array]:
    energy = energy_factor(node_nm, HOROWITZ_NODE_NM)
    return {
        "energy_j": energy_pj * 1e-12 * energy,
        "area_mm2": area_um2 * 1e-6 * area_factor(node_nm, HOROWITZ_NODE_NM),
        "leakage_w": LEAK_W_PER_UM2 * area_um2 * energy,
    }


#: Significands of the formats whose width does not tell (16-bit brain floats; TensorFloat-32).
SIGNIFICANDS = {"bf16": 8.0, "tf32": 11.0}


def operation_energy_j(dtype: str, node_nm: NodeLike) -> Array:
    """Energy of one operation of a matrix unit, half a multiply-accumulate.

    Sums have 32 bits, those of fp64 64. Moving operands is not in it, so that a whole unit draws
    more: the A100's tensor cores are put at 0.32 pJ an FP16 operation, this says 0.09.

    Args:
        dtype: Number format, ``fp16``, ``int8`` ...
        node_nm: Technology node.

    Example:
        >>> round(float(operation_energy_j("fp16", 45.0)) * 1e12, 2)
        1.0
    """
    bits = int(dtype.lstrip("bfinpt"))
    if dtype.startswith("int"):
        return int_mac_dense(bits, bits, 32, node_nm)["energy_j"] / 2.0
    m = SIGNIFICANDS.get(dtype, significand_bits(bits))
    return fp_mac(m, m, np.maximum(m, FP32_SIGNIFICAND), node_nm)["energy_j"] / 2.0


def vector_lane(
    bits: ArrayLike, registers: ArrayLike, node_nm: NodeLike, floating: bool
) -> dict[str, Array]:
    """One lane of a vector engine: a MAC-capable unit and a small register file.

    A scalar operation is charged one MAC at that width, two register-file reads and one write
    (estimate: additions and comparisons cost less, transcendental functions take several
    operations and are counted so by the workload).

    Args:
        bits: Word width.
        registers: Words in the lane's register file.
        node_nm: Technology node.
        floating: Floating-point rather than integer unit (both from Horowitz's table).

    Returns:
        energy_j per operation, area_mm2, leakage_w.
    """
    width = np.asarray(bits, dtype=np.float64)
    if floating:
        m = significand_bits(width)
        unit = fp_mac(m, m, m, node_nm)
    else:
        unit = int_mac_dense(width, width, width, node_nm)
    file = regfile(width * np.asarray(registers, dtype=np.float64), width, 1.0, node_nm)
    return {
        "energy_j": unit["energy_j"] + 2.0 * file["read_energy_j"] + file["write_energy_j"],
        "area_mm2": unit["area_mm2"] + file["area_mm2"],
        "leakage_w": unit["leakage_w"] + file["leakage_w"],
    }


#: Index or indices into an enumeration.
Codes = int | NDArray[np.int64]
NETWORK_KINDS = ("bus", "systolic", "mesh")
#: Flip-flop accesses per bit and hop: none on a bus (a driven wire), one shift register in a
#: systolic chain; a mesh router writes and reads a buffer and drives a crossbar charged as two
#: more flip-flops. Flip-flops per bit and hop: 0.5 for a bus (its multicast match and latch), 1,
#: and 5 ports x 4 flits. Estimates, in the range of MIT's 45 nm mesh prototypes.
HOP_ACCESSES: Array = np.array([0.0, 1.0, 4.0])
HOP_FLIP_FLOPS: Array = np.array([0.5, 1.0, 20.0])


def hop_energy_j_per_bit(kind: Codes, pitch_mm: ArrayLike, node_nm: NodeLike) -> Array:
    """Energy for one bit to cross one child pitch.

    Args:
        kind: Index into ``NETWORK_KINDS``.
        pitch_mm: Distance between neighbouring children, mm.
        node_nm: Technology node.
    """
    wire = wire_energy_j_per_bit_mm(node_nm) * np.asarray(pitch_mm, dtype=np.float64)
    return wire + HOP_ACCESSES[kind] * register_energy_j(1.0, node_nm)


def hop_area_mm2(kind: Codes, bits: ArrayLike, node_nm: NodeLike) -> Array:
    """Network area at one child, mm2, for ``bits`` carried side by side."""
    return HOP_FLIP_FLOPS[kind] * register_area_mm2(bits, node_nm)


def hop_leakage_w(kind: Codes, bits: ArrayLike, node_nm: NodeLike) -> Array:
    """Leakage of the network at one child, W."""
    flip_flops = HOP_FLIP_FLOPS[kind] * np.asarray(bits, dtype=np.float64)
    return REGFILE_LEAKAGE_W_PER_BIT * flip_flops * energy_factor(node_nm, REGFILE_NODE_NM)
