"""What the kernel reads and writes: columns of its tables, and the work space of one thread."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from archsim.models.jit import inlined, serial
from archsim.models.lanes import LANES

# Columns of the per-slot engine table; *_SLOW are cycles per bit of one instance's ports.
CAPACITY, BLOCK, READ_J, WRITE_J, LEAK_W, READ_SLOW, WRITE_SLOW, SHARED_SLOW, HOP_J, INSTANCES = (
    range(10)
)
BITS = 10  # first of three columns: bits of an input, weight, output (accumulator) word here
SLOT_COLUMNS = 13
# Columns of the per-engine scalars.
MAC_J, MAC_LEAK_W, MAC_CYCLES, CLOCK_HZ, FINAL_BITS, MAC_COUNT = range(6)
ENGINE_COLUMNS = 6
# A problem is one row of floats and one of integers. Floats: D extents, then from column D on the
# sizes and coefficients below, then for each operand D flags, 1.0 where a dimension leaves it in
# place; integers: masks of the dimensions that move each operand, the data operand's sliding ranks,
# then from PROBLEM_INTS on lists of dimensions, each a length and D places: those that move input,
# weight, output, those that leave them in place, and the input's outside its sliding ranks.
MACS, SIZE, COEFFICIENT = 0, 1, 4  # offsets after the extents
MASK, SLIDES, SLIDE_DIM = 0, 3, 4
MAX_SLIDES = 3
STILL, PROBLEM_INTS = COEFFICIENT + 2 * MAX_SLIDES, SLIDE_DIM + 2 * MAX_SLIDES
MOVES, RESTS, PLAIN, LISTS = 0, 3, 6, 7
# What a storage sees of one tensor.
READS, FILLS, UPDATES = range(3)
# Results of one row.
CYCLES, ENERGY_J, COMPUTE_CYCLES, BOUND_SLOT, OVERFLOW, MAC_ENERGY_J, NETWORK_J, LEAK_J = range(8)
RESULTS = 8

INPUT, WEIGHT, OUTPUT = range(3)
NONE = -1
# A dimension read from memory is masked, so that the compiler sees it cannot be a negative index.
MAX_DIMS = 32
DIM_BITS = MAX_DIMS - 1
# Fewer rows than this are not worth a second thread.
FEW = 512
# What ``moving`` tells of a sliding rank: whether its first (1) or second (2) dimension is moved
# by the moving loop, the tile inside that loop, its bound, and the visits outside it.
WHICH, INSIDE, BOUND, OUTSIDE = range(4)


class Work(NamedTuple):
    """Work space of one thread; the last axis of every array is the lane, a row of the batch.

    Attributes:
        bounds: [S, D] loop bounds; ``effective`` [S, D] those that count residuals.
        positions: [S, D] positions of loops in their slot, 1 outermost; ``places`` [S, D] the same
            but 0 where the bound is 1.
        tiles: [S + 1, D] padded extents at and inside a slot (row S: one point).
        visits: [S + 1, D] how often such a tile is visited.
        again: [S + 1, 3] how often irrelevant loops refill a slot with an operand.
        copies: [S + 1, 3] in how many branches outside a slot a word of an operand is needed.
        used: [S + 1] instances in use.
        moving: [S + 1, MAX_SLIDES, 4] what the moving loop outside a slot does to a sliding rank.
        kept: [S, 3] 1.0 where a slot stores an operand.
        odd: [D + 1] 1.0 where a dimension is both spatial and residual; last row: mask of those.
        child: [S + 1, 4, 3] of the outermost storage at or inside a slot that keeps an operand, see
            ``CHILD_WORDS``.
        share: [S + 1] the share of its requests for input that get through to the slot.
        totals: [S + 1, MAX_SLIDES] words along each sliding rank in all tiles of that storage.
        counted: [S, 3, 3] reads, fills and updates.
        outcome: [RESULTS].
    """

    bounds: np.ndarray
    effective: np.ndarray
    positions: np.ndarray
    places: np.ndarray
    tiles: np.ndarray
    visits: np.ndarray
    again: np.ndarray
    copies: np.ndarray
    used: np.ndarray
    moving: np.ndarray
    kept: np.ndarray
    odd: np.ndarray
    child: np.ndarray
    share: np.ndarray
    totals: np.ndarray
    counted: np.ndarray
    outcome: np.ndarray


@serial
def make_work(slot_count, dim_count):
    """Work space of one thread."""
    return Work(
        np.ones((slot_count, dim_count, LANES)),
        np.ones((slot_count, dim_count, LANES)),
        np.ones((slot_count, dim_count, LANES)),
        np.ones((slot_count, dim_count, LANES)),
        np.ones((slot_count + 1, dim_count, LANES)),
        np.ones((slot_count + 1, dim_count, LANES)),
        np.ones((slot_count + 1, 3, LANES)),
        np.ones((slot_count + 1, 3, LANES)),
        np.ones((slot_count + 1, LANES)),
        np.ones((slot_count + 1, MAX_SLIDES, 4, LANES)),
        np.ones((slot_count, 3, LANES)),
        np.zeros((dim_count + 1, LANES)),
        np.zeros((slot_count + 1, 4, 3, LANES)),
        np.ones((slot_count + 1, LANES)),
        np.ones((slot_count + 1, MAX_SLIDES, LANES)),
        np.zeros((slot_count, 3, 3, LANES)),
        np.zeros((RESULTS, LANES)),
    )


# What is known of a slot's child, the next storage inside that keeps an operand: the words of all
# its fills but for repeats, the repeats, and energy the links on the way to it spend on a word;
# where a row is odd, also its slot.
CHILD_WORDS, CHILD_AGAIN, CHILD_LINKS, CHILD_SLOT = range(4)


@inlined
def listed(ints, o, dim_count, which):
    """Where list ``which`` of problem ``o`` begins in ``ints``, and its length."""
    at = PROBLEM_INTS + which * (dim_count + 1)
    return at + 1, ints[o, at]
