"""Output-stationary arrays of dot-product units, bit-parallel or bit-serial: time and energy.

An array of R rows and C columns works on R output channels of C tokens at a time (*a tile*): each
unit adds up ``lanes`` products of its own output a step, so a matrix product of ``outputs`` x
``reduction`` weights with ``tokens`` inputs takes

    ceil(reduction / lanes) * ceil(outputs / R) * ceil(tokens / C)   steps,

each of one cycle, or of as many as a bit-serial unit needs terms for a weight. Where tokens are few
the same units may stand in ``fold`` times the rows; the faster of both is taken. Meanwhile operands
cross the memory's port: weights and inputs once where one of them fits its buffer; where neither
does, one is cut into pieces that do and the other comes again for each piece, whichever is less;
outputs leave once. Rows of weights fill whole bytes. The slower of both sets a product's time, as
all buffers are filled ahead (bitmod_sim of "BitMoD", HPCA 2025; ``tests/models`` walks the tiles
and pieces one by one).

Energy: every unit draws its energy in every cycle of computing; each step reads the weights of R
rows and the inputs of C columns from their buffers; what comes from and goes to memory is written
into a buffer in 64-bit words; memory takes its energy a bit.

``compat="bitmod"`` counts as the published simulator does where it differs: the buffers of a
bit-serial array are read half a step's words a step instead of all of them, a word written takes
its share of the energy of a row as wide as the array reads, cached operands take as many terms as
a weight has, and a product's memory cycles are rounded down. (Its shapes of attention are another
matter, see ``archsim.validate.papers.bitmod``.)

All quantities broadcast: a leading axis of designs, a last one of products.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from archsim.errors import InputError
from archsim.hardware.scaling import NodeLike
from archsim.hardware.sram import sram

Floats = NDArray[np.float64]
#: A figure of one array, or of B of them as an array [B, 1].
Figure = float | Floats

#: Bits of a word a buffer is written with.
WRITE_BITS = 64.0
#: Weights lie in their buffer in multiples of this many bits (bitmod_sim).
BUFFER_WORD_BITS = 4.0


@dataclass(frozen=True, eq=False)
class Products:
    """Matrix products, arrays of one shape.

    Attributes:
        outputs: Rows of the weights (output channels; rows of cached keys).
        reduction: Weights of a row.
        tokens: Columns of inputs.
        copies: Independent products of this size (groups, heads), one after the other.
        cached: Whether the weights are cached keys or values, or inputs of their own.
        input_words: Words of the inputs of one copy; default ``reduction * tokens``.
    """

    outputs: Floats
    reduction: Floats
    tokens: Floats
    copies: Floats
    cached: NDArray[np.bool_]
    input_words: Floats | None = None

    @property
    def macs(self) -> Floats:
        """Multiply-accumulates, all copies."""
        return self.outputs * self.reduction * self.tokens * self.copies


@dataclass(frozen=True, eq=False)
class DotProductArray:
    """The figures of an array for B designs; each a float or an array [B, 1].

    Attributes:
        rows, columns, fold, lanes: As in :class:`archsim.hardware.DotProductEngine`.
        serial_bits: Bits of a term; NaN for bit-parallel units.
        weight_bits: Bits of a weight without metadata; ``stored_bits`` with it.
        input_bits, kv_bits: Of inputs and outputs; of cached keys and values.
        weight_buffer_bytes, input_buffer_bytes, banks: Of the buffers.
        unit_energy_j: Of one unit a cycle.
        tier_bits_per_cycle: What memory moves.
        tier_read_j_per_bit, tier_write_j_per_bit: Of memory.
        node_nm: Technology.
    """

    rows: Figure
    columns: Figure
    fold: Figure
    lanes: Figure
    serial_bits: Figure
    weight_bits: Figure
    stored_bits: Figure
    input_bits: Figure
    kv_bits: Figure
    weight_buffer_bytes: Figure
    input_buffer_bytes: Figure
    banks: Figure
    unit_energy_j: Figure
    tier_bits_per_cycle: Figure
    tier_read_j_per_bit: Figure
    tier_write_j_per_bit: Figure
    node_nm: NodeLike


@dataclass(frozen=True, eq=False)
class ProductCost:
    """What products cost, all copies of each; float64 in the broadcast shape.

    Attributes:
        steps: Dot products the array takes side by side; ``compute_cycles`` their time.
        memory_cycles: Time of the traffic; ``cycles`` the slower of both.
        weight_bits_moved, input_bits_moved, output_bits_moved: Traffic with memory.
        unit_j, weight_buffer_j, input_buffer_j, tier_j: Energy of the units, of each buffer
            (outputs pass the inputs' one), of memory.
    """

    steps: Floats
    compute_cycles: Floats
    memory_cycles: Floats
    cycles: Floats
    weight_bits_moved: Floats
    input_bits_moved: Floats
    output_bits_moved: Floats
    unit_j: Floats
    weight_buffer_j: Floats
    input_buffer_j: Floats
    tier_j: Floats

    @property
    def energy_j(self) -> Floats:
        """The sum of its parts."""
        return self.unit_j + self.weight_buffer_j + self.input_buffer_j + self.tier_j


def terms(weight_bits: ArrayLike, serial_bits: ArrayLike) -> Floats:
    """Cycles a unit takes for a weight: its terms, or one where it is bit-parallel.

    A fraction of a bit (the mean of layers) takes no term of its own, and every weight two terms:
    the extended FP3 and FP4 of BitMoD are written as two (section IV-A).

    Args:
        weight_bits: Bits of a weight without metadata.
        serial_bits: Bits of a term; NaN for bit-parallel units.

    Example:
        >>> terms([8, 6, 4, 3], 2).tolist(), terms(16, float("nan")).tolist()
        ([4.0, 3.0, 2.0, 2.0], 1.0)
    """
    serial = np.asarray(serial_bits, np.float64)
    many = np.ceil(np.floor(weight_bits) / np.where(np.isnan(serial), 1.0, serial))
    return np.where(np.isnan(serial), 1.0, many)


def refetches(
    weight_bytes: Figure,
    input_bytes: Figure,
    weight_buffer_bytes: Figure,
    input_buffer_bytes: Figure,
) -> tuple[Floats, Floats]:
    """How often weights and inputs cross the memory's port.

    Example:
        >>> times = refetches(4096, 1024, 1024, 512)  # 4 pieces of weights, 2 of inputs
        >>> [float(x) for x in times]  # 2 * 4096 + 1024 beside 4096 + 4 * 1024
        [1.0, 4.0]
    """
    w, i = np.asarray(weight_bytes, np.float64), np.asarray(input_bytes, np.float64)
    pieces_w, pieces_i = np.ceil(w / weight_buffer_bytes), np.ceil(i / input_buffer_bytes)
    neither = (pieces_w > 1) & (pieces_i > 1)
    weights_again = neither & (pieces_i * w + i < pieces_w * i + w)
    inputs_again = neither & ~weights_again
    return np.where(weights_again, pieces_i, 1.0), np.where(inputs_again, pieces_w, 1.0)


def evaluate_products(
    products: Products, array: DotProductArray, compat: str | None = None
) -> ProductCost:
    """Cost of matrix products on arrays.

    Args:
        products: K products, arrays [K].
        array: Figures of B arrays, floats or arrays [B, 1].
        compat: ``"bitmod"`` to count as the published simulator, see the module.

    Raises:
        InputError: The compat mode is unknown.
    """
    if compat not in (None, "bitmod"):
        raise InputError("unknown compat mode", found=compat, expected="'bitmod' or None")
    given = {name: np.asarray(getattr(array, name), np.float64) for name in _NUMBERS}
    a = DotProductArray(**given, node_nm=array.node_nm)
    serial = ~np.isnan(a.serial_bits)
    published = compat == "bitmod"
    # The simulator's attention takes the terms of the weights, whatever it moves.
    digits = a.weight_bits if published else np.where(products.cached, a.kv_bits, a.weight_bits)
    steps, fold = _steps(products, a)
    compute = steps * terms(digits, a.serial_bits)
    bits = np.where(products.cached, a.kv_bits, a.stored_bits)
    words = products.input_words
    words = products.reduction * products.tokens if words is None else words
    weight_bytes = np.ceil(products.reduction * bits / 8.0) * products.outputs
    input_bytes = words * a.input_bits / 8.0
    again_w, again_i = refetches(
        weight_bytes, input_bytes, a.weight_buffer_bytes, a.input_buffer_bytes
    )
    moved_w = weight_bytes * 8.0 * again_w * products.copies
    moved_i = input_bytes * 8.0 * again_i * products.copies
    moved_o = products.outputs * products.tokens * products.copies * a.input_bits
    memory = (moved_w + moved_i + moved_o) / a.tier_bits_per_cycle
    if published:
        memory = np.floor(memory)

    # One access serves a step; a bit-serial array has at least two cycles for it.
    share = np.where(serial, 2.0, 1.0)
    held = a.stored_bits if published else bits
    row_bits = np.ceil(held / BUFFER_WORD_BITS) * BUFFER_WORD_BITS * a.lanes * a.rows * fold
    width_w = row_bits / share
    width_i = a.lanes * a.input_bits * a.columns / fold / share
    accesses = steps * (1.0 if published else share)
    weights = sram(a.weight_buffer_bytes * 8.0, width_w, a.banks, a.node_nm)
    inputs = sram(a.input_buffer_bytes * 8.0, width_i, a.banks, a.node_nm)
    if published:  # a share of a whole row's write; caches count as weights of that many bits
        write_w = weights["write_energy_j"] * WRITE_BITS / width_w
        write_i = inputs["write_energy_j"] * WRITE_BITS / width_i
        words_w = np.ceil(products.reduction * held / WRITE_BITS) * products.outputs
        words_w = words_w * again_w * products.copies
    else:
        write_w, write_i = (
            sram(size * 8.0, WRITE_BITS, a.banks, a.node_nm)["write_energy_j"]
            for size in (a.weight_buffer_bytes, a.input_buffer_bytes)
        )
        words_w = moved_w / WRITE_BITS
    return ProductCost(
        steps + 0.0 * memory,
        compute + 0.0 * memory,
        memory,
        np.maximum(compute, memory),
        moved_w,
        moved_i,
        moved_o,
        compute * a.unit_energy_j * a.rows * a.columns,
        accesses * weights["read_energy_j"] + words_w * write_w,
        accesses * inputs["read_energy_j"] + (moved_i + moved_o) / WRITE_BITS * write_i,
        (moved_w + moved_i) * a.tier_read_j_per_bit + moved_o * a.tier_write_j_per_bit,
    )


_NUMBERS = tuple(name for name in DotProductArray.__dataclass_fields__ if name != "node_nm")


def _steps(products: Products, a: DotProductArray) -> tuple[Floats, Floats]:
    """Steps of the faster arrangement, and how often its rows are folded."""

    def count(fold: Figure) -> Floats:
        down = np.ceil(products.outputs / (a.rows * fold))
        over = np.ceil(products.tokens / (a.columns / fold))
        return np.ceil(products.reduction / a.lanes) * down * over * products.copies

    square, tall = count(1.0), count(a.fold)
    return np.minimum(square, tall), np.where(tall < square, a.fold, 1.0)


__all__ = [
    "DotProductArray",
    "ProductCost",
    "Products",
    "evaluate_products",
    "refetches",
    "terms",
]
