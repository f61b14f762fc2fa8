"""SRAM macros, register files and registers: energy, area, leakage and delay of one instance.

All functions are pure, vectorised and broadcast. Sizes are bits, energies J per access of
``width_bits``, areas mm2, leakage W, delays s, nodes nm.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from archsim.hardware.scaling import Array, NodeLike, area_factor, energy_factor, fo4_s, process

# --------------------------------------------------------------------------------------- SRAM
# CACTI 7, one bank, one read-write port, 64 bits an access (project notes, run through
# hwcomponents-cacti): KB; read pJ, write pJ, area mm2 at 45 nm; the same at 65 nm.
CACTI_KB: Array = np.array([1.0, 4.0, 16.0, 64.0, 128.0, 256.0, 512.0, 1024.0])
CACTI_READ_PJ: Array = np.array(
    [
        [1.67, 3.39, 11.61, 25.87, 32.29, 44.72, 68.35, 93.52],
        [3.12, 6.17, 20.98, 47.05, 59.34, 100.6, 126.2, 174.5],
    ]
)
CACTI_WRITE_PJ: Array = np.array(
    [
        [3.49, 6.45, 10.70, 19.65, 26.07, 38.50, 51.35, 76.18],
        [6.49, 11.95, 20.12, 37.30, 49.60, 73.10, 98.41, 146.1],
    ]
)
CACTI_AREA_MM2: Array = np.array(
    [
        [0.0036, 0.0135, 0.0507, 0.209, 0.430, 0.872, 1.645, 3.263],
        [0.0075, 0.0282, 0.106, 0.436, 0.896, 1.744, 3.432, 6.809],
    ]
)
CACTI_NODES_NM = (45.0, 65.0)
CACTI_WIDTH_BITS = 64.0
CACTI_MIN_NODE_NM = 22.0

#: Below CACTI's least depth (64 rows, so 0.5 KB at 64 bits) access energy goes with
#: size^(1.56/2); between 0.5 and 1 KB the first segment's slope holds. hwcomponents-cacti.
SMALL_KB = 0.5
SMALL_EXPONENT = 1.56 / 2
#: Width factor w x 0.7 + 0.3 with w relative to 64 bits. hwcomponents-cacti (found against CACTI).
WIDTH_SLOPE, WIDTH_FLOOR = 0.7, 0.3
#: Energy outside 45..65 nm and above 22 nm goes with node^1.70, the exponent of the 1 KB rows
#: (ln(3.12 / 1.67) / ln(65 / 45)); one exponent for all sizes keeps energy monotone in size. It
#: gives 18.1 / 14.3 pJ for 128 KB at 32 nm where CACTI gives 18.18 / 14.14.
ENERGY_NODE_EXPONENT = 1.70
#: Area goes with node^2 down to 22 nm (the tables' own ratio, 2.09 = (65 / 45)^2).
AREA_NODE_EXPONENT = 2.0
#: Column circuits of a port bit beyond CACTI's 64, in flip-flop areas (estimate).
IO_FLIP_FLOPS = 3.0
#: SRAM area is linear in size: smallest and largest rows differ by 11 % per bit.
#: Beyond the table (above 1 MB) energy keeps the slope of the last doubling, area stays linear.

#: Standby leakage of a low-standby-power array at 40 nm, W per bit: CACTI for 256 KB at 40 nm
#: gives 7.97 uW (energy table of the Timeloop reference cases). High-performance cells leak
#: orders of magnitude more; override leakage_w for them.
SRAM_LEAKAGE_W_PER_BIT, SRAM_LEAKAGE_NODE_NM = 7.97e-6 / (256 * 1024 * 8), 40.0

#: Energy of on-chip wires, J per bit and mm, at two nodes: 256 bits over 10 mm cost 310 pJ at
#: 40 nm and 200 pJ at 10 nm (high-frequency projection) with random data (half the bits toggle),
#: S. Keckler et al., "GPUs and the future of parallel computing", IEEE Micro 31(5), 2011, table 1
#: (checked against public transcriptions, not the print).
WIRE_NODES_NM: Array = np.array([10.0, 40.0])
WIRE_J_PER_BIT_MM: Array = np.array([200e-12 / 2560, 310e-12 / 2560])


def wire_energy_j_per_bit_mm(node_nm: NodeLike) -> Array:
    """Energy of moving one bit over 1 mm of on-chip wire (power law through two points)."""
    slope = np.log(WIRE_J_PER_BIT_MM[1] / WIRE_J_PER_BIT_MM[0]) / np.log(4.0)
    return WIRE_J_PER_BIT_MM[1] * (process(node_nm).nm / 40.0) ** slope


def _log_interp(log_x: Array, log_points: Array, log_values: Array) -> Array:
    """Piecewise linear in log-log, first and last slope kept outside the points."""
    inside = np.interp(log_x, log_points, log_values)
    first = (log_values[1] - log_values[0]) / (log_points[1] - log_points[0])
    last = (log_values[-1] - log_values[-2]) / (log_points[-1] - log_points[-2])
    low = np.minimum(log_x - log_points[0], 0.0)
    high = np.maximum(log_x - log_points[-1], 0.0)
    return inside + first * low + last * high


_LOG_KB = np.log(CACTI_KB)
_LOG_SMALL = np.log(SMALL_KB)
_LOG_NODES = np.log(np.array(CACTI_NODES_NM))


def _small_table(values: Array) -> tuple[Array, Array]:
    """CACTI column extended by the two points that carry the small-array rule."""
    log_values = np.log(values)
    first = (log_values[1] - log_values[0]) / (_LOG_KB[1] - _LOG_KB[0])
    at_small = log_values[0] + first * (_LOG_SMALL - _LOG_KB[0])
    points = np.concatenate([[_LOG_SMALL - 1.0, _LOG_SMALL], _LOG_KB])
    return points, np.concatenate([[at_small - SMALL_EXPONENT, at_small], log_values])


_READ = [_small_table(row) for row in CACTI_READ_PJ]
_WRITE = [_small_table(row) for row in CACTI_WRITE_PJ]
_AREA = [
    (np.concatenate([[_LOG_KB[0] - 1.0], _LOG_KB, [_LOG_KB[-1] + 1.0]]),
     np.concatenate([[np.log(row[0]) - 1.0], np.log(row), [np.log(row[-1]) + 1.0]]))
    for row in CACTI_AREA_MM2
]  # fmt: skip


def _across_nodes(
    log_kb: Array, node_nm: NodeLike, tables: list[tuple[Array, Array]], exponent: float
) -> Array:
    """Value at a size and node: log-log between the two CACTI nodes, a power law outside."""
    log_node = np.log(process(node_nm).nm)
    low = _log_interp(log_kb, *tables[0])
    high = _log_interp(log_kb, *tables[1])
    inside = np.clip(log_node, _LOG_NODES[0], _LOG_NODES[1])
    share = (inside - _LOG_NODES[0]) / (_LOG_NODES[1] - _LOG_NODES[0])
    return np.exp(low + (high - low) * share + exponent * (log_node - inside))


def _below_22nm(node_nm: NodeLike, exponent: float) -> tuple[Array, Array]:
    """Node clipped at CACTI's 22 nm, and the factor for what lies below (hwcomponents-cacti)."""
    node = process(node_nm).nm
    clipped = np.maximum(node, CACTI_MIN_NODE_NM)
    return clipped, (node / clipped) ** exponent


def sram(
    capacity_bits: ArrayLike, width_bits: ArrayLike, banks: ArrayLike, node_nm: NodeLike
) -> dict[str, Array]:
    """An SRAM of ``banks`` separate macros.

    One access moves ``width_bits`` in one bank. Energy: CACTI 7, log-log over the whole capacity
    and between 45 and 65 nm, times the width factor; below 22 nm with the square root of the node.
    Banks multiply bandwidth but do not save energy, because the tree that joins them replaces the
    one inside a macro: CACTI's 128 KB in 32 banks (energy table of the Timeloop reference cases,
    32 nm, 18.18 pJ) costs what one bank of that size does (18.1 pJ here). Area: CACTI over the
    size of one bank, plus sense amplifiers, drivers and latches of the bits beyond 64 and 2 % a
    doubling of banks for routing (estimates).

    Args:
        capacity_bits: All banks together.
        width_bits: Bits of one access.
        banks: Number of macros.
        node_nm: Technology node.

    Returns:
        read_energy_j, write_energy_j, area_mm2, leakage_w, delay_s.
    """
    capacity = np.asarray(capacity_bits, dtype=np.float64)
    banks = np.asarray(banks, dtype=np.float64)
    width = np.asarray(width_bits, dtype=np.float64)
    log_kb = np.log(capacity / 8192.0)
    log_bank_kb = np.log(capacity / banks / 8192.0)
    node, energy_below = _below_22nm(node_nm, 0.5)
    _, area_below = _below_22nm(node_nm, 1.0)
    factor = energy_below * (WIDTH_SLOPE * width / CACTI_WIDTH_BITS + WIDTH_FLOOR) * 1e-12
    read = _across_nodes(log_kb, node, _READ, ENERGY_NODE_EXPONENT) * factor
    write = _across_nodes(log_kb, node, _WRITE, ENERGY_NODE_EXPONENT) * factor
    bank_area = _across_nodes(log_bank_kb, node, _AREA, AREA_NODE_EXPONENT) * area_below
    bank_area = bank_area + register_area_mm2(
        IO_FLIP_FLOPS * np.maximum(width - CACTI_WIDTH_BITS, 0.0), node_nm
    )
    area = bank_area * banks * (1.0 + 0.02 * np.log2(banks))
    rows = np.maximum(capacity / banks / width, 1.0)
    return {
        "read_energy_j": read,
        "write_energy_j": write,
        "area_mm2": area,
        "leakage_w": SRAM_LEAKAGE_W_PER_BIT
        * capacity
        * energy_factor(node_nm, SRAM_LEAKAGE_NODE_NM),
        # Decoder (two FO4 a row-address bit), word and bit line, sense amplifier: estimate.
        "delay_s": fo4_s(node_nm) * (10.0 + 2.0 * np.log2(rows)),
    }


# ------------------------------------------------------------------------------ register files
#: Accelergy's smartbuffer_RF at 32 nm, 16 bits wide: entries; read pJ, write pJ (energy tables of
#: the Eyeriss-168 Timeloop reference cases). Log-log between; the notes' depth^0.78 below.
REGFILE_DEPTH: Array = np.array([12.0, 16.0, 192.0])
REGFILE_READ_PJ: Array = np.array([0.202442, 0.2513, 1.976602])
REGFILE_WRITE_PJ: Array = np.array([0.176713, 0.2191, 1.881657])
REGFILE_WIDTH_BITS, REGFILE_NODE_NM = 16.0, 32.0
#: Same source: 0.101 uW for 192 bits, 1.592 uW for 3072 bits.
REGFILE_LEAKAGE_W_PER_BIT = 1.592e-6 / 3072
#: Flip-flop: Aladdin (Shao et al., ISCA'14), 40 nm: pJ per bit read or written, um2 per bit.
REGISTER_PJ_PER_BIT, REGISTER_UM2_PER_BIT, REGISTER_NODE_NM = 0.009, 5.98, 40.0

_LOG_DEPTH = np.log(np.concatenate([[6.0], REGFILE_DEPTH]))
_REGFILE_LOG = [
    np.concatenate([[np.log(row[0]) - SMALL_EXPONENT * np.log(2.0)], np.log(row)])
    for row in (REGFILE_READ_PJ, REGFILE_WRITE_PJ)
]


def regfile(
    capacity_bits: ArrayLike, width_bits: ArrayLike, banks: ArrayLike, node_nm: NodeLike
) -> dict[str, Array]:
    """A flip-flop register file: every read passes a multiplexer as deep as the file.

    Energy over depth from three published points, linear in width (flip-flops of a word switch
    independently), scaled to the node as logic. Checked against a second source, Accelergy's 64 x
    8 bit at 40 nm (0.4256 pJ): 23 % above it. Area: Aladdin flip-flops; the multiplexer is not
    counted apart.

    Args and returns as :func:`sram`.
    """
    width = np.asarray(width_bits, dtype=np.float64)
    capacity = np.asarray(capacity_bits, dtype=np.float64)
    depth = np.maximum(capacity / np.asarray(banks, dtype=np.float64) / width, 1.0)
    log_depth = np.log(depth)
    scale = 1e-12 * (width / REGFILE_WIDTH_BITS) * energy_factor(node_nm, REGFILE_NODE_NM)
    return {
        "read_energy_j": np.exp(_log_interp(log_depth, _LOG_DEPTH, _REGFILE_LOG[0])) * scale,
        "write_energy_j": np.exp(_log_interp(log_depth, _LOG_DEPTH, _REGFILE_LOG[1])) * scale,
        "area_mm2": register_area_mm2(capacity, node_nm),
        "leakage_w": REGFILE_LEAKAGE_W_PER_BIT * capacity * energy_factor(node_nm, REGFILE_NODE_NM),
        # Clock to output, then a multiplexer tree of log2(depth) stages: estimate.
        "delay_s": fo4_s(node_nm) * (5.0 + 2.0 * np.log2(depth)),
    }


def register_area_mm2(bits: ArrayLike, node_nm: NodeLike) -> Array:
    """Area of flip-flops, mm2 (Aladdin, 40 nm, scaled as logic)."""
    return REGISTER_UM2_PER_BIT * 1e-6 * np.asarray(bits) * area_factor(node_nm, REGISTER_NODE_NM)


def register_energy_j(bits: ArrayLike, node_nm: NodeLike) -> Array:
    """Energy of reading or writing flip-flops once, J (Aladdin, 40 nm, scaled as logic)."""
    return REGISTER_PJ_PER_BIT * 1e-12 * np.asarray(bits) * energy_factor(node_nm, REGISTER_NODE_NM)


def register(
    capacity_bits: ArrayLike, width_bits: ArrayLike, banks: ArrayLike, node_nm: NodeLike
) -> dict[str, Array]:
    """Plain pipeline registers, directly wired (no addressing): Aladdin's flip-flop.

    Args and returns as :func:`sram`; ``banks`` does not matter.
    """
    capacity = np.asarray(capacity_bits, dtype=np.float64)
    energy = register_energy_j(width_bits, node_nm) + 0.0 * capacity
    return {
        "read_energy_j": energy,
        "write_energy_j": energy,
        "area_mm2": register_area_mm2(capacity, node_nm),
        "leakage_w": REGFILE_LEAKAGE_W_PER_BIT * capacity * energy_factor(node_nm, REGFILE_NODE_NM),
        "delay_s": fo4_s(node_nm) * 3.0 + 0.0 * capacity,
    }
