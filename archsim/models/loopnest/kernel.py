"""The hot loop: what mappings of a loop nest cost, counted exactly, compiled by Numba.

A *nest* is a list of slots, outer to inner. A storage slot holds temporal loops and (for the
tensors kept there) a tile; a fanout slot holds spatial loops. Slot 0 is the memory tier, and the
multiply-accumulate units lie inside the last slot. :func:`evaluate_block` works on a few mappings
of one problem at once, one a SIMD lane, so that its source reads like the count of a single one;
the batch entry point is a parallel loop over blocks. The undecorated functions (``.py_func``) run
too.

Counting rules (the policy the oracle in ``oracle.py`` walks word by word):

* A tile changes only when a relevant temporal loop outside its storage advances; loops inside the
  innermost such loop (the *moving* loop) leave it stationary.
* When the moving loop slides a window, only the words new to the window are fetched; a step of any
  loop outside it fetches the tile whole.
* Branches of a fanout that need the same words at the same step share one read of the parent
  (multicast); partial sums of one output word are added on the way up (spatial reduction).
* Multiply-accumulate units latch nothing.
* Partial sums: the first touch of an output word by a storage needs no read.
* Residual tiles (factors whose product exceeds the extent) are counted at their true size.

Residuals cost little extra: with ``visits[s, d] = ceil(extent / tile)`` the *effective* bound of
a loop is the ratio of the visits inside and outside it, and products of effective bounds telescope
to exact counts. Only a dimension that is both spatial and residual needs ``residual.py``.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import prange

from archsim.models.jit import inlined, inner, parallel, serial
from archsim.models.lanes import (
    LANES,
    anywhere,
    bring,
    larger,
    load,
    round_up,
    smaller,
    spread,
    store,
    where,
)  # fmt: skip
from archsim.models.loopnest.residual import (
    chain_runs,
    chain_visits,
    merged_windows,
    moving_place,
    odd_repeats,
)  # fmt: skip

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
        odd: [D + 1] 1.0 where a dimension is both spatial and residual; last row: any is.
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
def load_rows(first, count, factors, order, keep, fanout, work):
    """Bring rows first..first+count-1 into the lanes."""
    bounds, positions, kept = work.bounds, work.positions, work.kept
    slot_count, dim_count = factors.shape[1], factors.shape[2]
    # Scalars first: a vector load stalls if it follows scalar stores to its place too soon.
    for v in range(count):
        i = first + v
        q = min(i, keep.shape[0] - 1)
        for s in range(slot_count):
            if fanout[s]:
                continue
            for j in range(dim_count):
                positions[s, order[i, s, j] & DIM_BITS, v] = j + 1.0
            for t in range(3):
                kept[s, t, v] = 1.0 if keep[q, s, t] else 0.0
    width, quads = slot_count * dim_count, slot_count * dim_count // 4 if count == LANES else 0
    columns = bounds.reshape((width, LANES))
    rows = factors.reshape((factors.shape[0], width))
    for quad in range(quads):
        bring(columns, rows, first, 4 * quad)
    for v in range(count):
        for column in range(4 * quads, width):
            columns[column, v] = rows[first + v, column]


@inlined
def listed(ints, o, dim_count, which):
    """Where list ``which`` of problem ``o`` begins in ``ints``, and its length."""
    at = PROBLEM_INTS + which * (dim_count + 1)
    return at + 1, ints[o, at]


@inlined
def lay_tiles(floats, o, count, fanout, work):
    """Tiles inside out, and visits of perfect factors.

    Returns:
        The compute cycles (steps) of perfect factors, and whether any row is residual.
    """
    bounds, places, tiles, visits = work.bounds, work.places, work.tiles, work.visits
    slot_count, dim_count = bounds.shape[0], bounds.shape[1]
    cycles = spread(1.0)
    for d in range(dim_count):
        store(tiles, (slot_count, d), 1.0)
        store(visits, (0, d), 1.0)
    for u in range(slot_count):
        s = slot_count - 1 - u
        spatial = fanout[s]
        for d in range(dim_count):
            factor = load(bounds, (s, d))
            store(tiles, (s, d), load(tiles, (s + 1, d)) * factor)
            if not spatial:
                cycles = cycles * factor
                # Written to another place than read from: a masked store is slow.
                position = load(work.positions, (s, d))
                store(places, (s, d), where(factor > 1.0, position, 0.0))
    residual = False
    if count == LANES:
        over = load(tiles, (0, 0)) != floats[o, 0]
        for d in range(1, dim_count):
            over = over | (load(tiles, (0, d)) != floats[o, d])
        residual = anywhere(over)
    else:
        for d in range(dim_count):
            for v in range(count):
                residual |= tiles[0, d, v] != floats[o, d]
    if not residual:
        for s in range(slot_count):
            for d in range(dim_count):
                store(visits, (s + 1, d), load(visits, (s, d)) * load(bounds, (s, d)))
    return cycles, residual


@inner
def lay_residuals(floats, o, count, fanout, pad, work, steps):
    """Visits and effective bounds of rows of which some are residual.

    Args:
        steps: float64[LANES], compute cycles, corrected for exact residuals.

    Returns:
        Whether any row has a dimension both spatial and residual.
    """
    bounds, effective, tiles, visits = work.bounds, work.effective, work.tiles, work.visits
    odd = work.odd
    slot_count, dim_count = bounds.shape[0], bounds.shape[1]
    for d in range(dim_count):
        store(visits, (slot_count, d), floats[o, d])
        for s in range(slot_count):
            store(visits, (s, d), round_up(floats[o, d] / load(tiles, (s, d))))
    store(odd, dim_count, 0.0)
    found = False
    for v in range(count):
        exact = 1.0
        for d in range(dim_count):
            odd[d, v] = 0.0
            temporal, wide = 1.0, False
            for s in range(slot_count):
                if fanout[s]:
                    wide |= bounds[s, d, v] > 1.0
                else:
                    temporal *= bounds[s, d, v]
            if tiles[0, d, v] != floats[o, d]:
                temporal = floats[o, d]
                if wide:
                    odd[d, v], odd[dim_count, v] = 1.0, 1.0
                    found = True
                    temporal = chain_visits(
                        floats[o, d], d, v, bounds, tiles, fanout, slot_count, slot_count, True,
                        NONE, False, False,
                    )  # fmt: skip
            exact *= temporal
        if not pad:
            steps[v] = exact
    for s in range(slot_count):
        for d in range(dim_count):
            bound = load(bounds, (s, d))
            if not pad:
                bound = load(visits, (s + 1, d)) / load(visits, (s, d))
            store(effective, (s, d), where(load(odd, d) > 0.0, 1.0, bound))
    return found


@inlined
def repeat_loops(ints, o, fanout, residual, loops, work):
    """Outer to inner: refills by irrelevant loops, copies by fanouts, and the moving loop.

    Args:
        loops: Effective bounds [S, D].
    """
    bounds, places, tiles, visits = work.bounds, work.places, work.tiles, work.visits
    again, copies, used, moving = work.again, work.copies, work.used, work.moving
    slot_count, dim_count = bounds.shape[0], bounds.shape[1]
    slides = ints[o, SLIDES]
    every_0, every_1, every_2 = spread(1.0), spread(1.0), spread(1.0)
    for t in range(3):
        store(again, (0, t), 1.0)
        store(copies, (0, t), 1.0)
    for k in range(slides):
        store(moving, (0, k, WHICH), 0.0)
    store(used, 0, 1.0)
    for s in range(slot_count):
        spatial = fanout[s]
        utilised = load(used, s)
        if spatial:
            for d in range(dim_count):
                utilised = utilised * smaller(load(bounds, (s, d)), load(visits, (s + 1, d)))
        store(used, s + 1, utilised)
        last_input = spread(0.0)
        for t in range(3):
            rest, rests = listed(ints, o, dim_count, RESTS + t)
            if spatial:
                branches = load(copies, (s, t))
                for j in range(rests):
                    branches = branches * load(loops, (s, ints[o, rest + j] & DIM_BITS))
                store(copies, (s + 1, t), branches)
                store(again, (s + 1, t), load(again, (s, t)))
                continue
            last = spread(0.0)
            move, moves = listed(ints, o, dim_count, MOVES + t)
            for j in range(moves):
                last = larger(load(places, (s, ints[o, move + j] & DIM_BITS)), last)
            every = every_0 if t == 0 else (every_1 if t == 1 else every_2)
            before = every
            for j in range(rests):
                d = ints[o, rest + j] & DIM_BITS
                bound = load(loops, (s, d))
                before = before * where(load(places, (s, d)) < last, bound, 1.0)
                every = every * bound
            if t == INPUT:
                every_0, last_input = every, last
            elif t == WEIGHT:
                every_1 = every
            else:
                every_2 = every
            store(again, (s + 1, t), where(last > 0.0, before, load(again, (s, t))))
            store(copies, (s + 1, t), load(copies, (s, t)))
        for k in range(slides):
            p, r = ints[o, SLIDE_DIM + 2 * k] & DIM_BITS, ints[o, SLIDE_DIM + 2 * k + 1]
            which, inside = load(moving, (s, k, WHICH)), load(moving, (s, k, INSIDE))
            bound = load(moving, (s, k, BOUND))
            if not spatial:
                which = where(last_input > 0.0, 0.0, which)
                for c in range(2):
                    d = p if c == 0 else r & DIM_BITS
                    if c == 0 or r >= 0:
                        # A position of 0 (bound 1) must not match a slot without moving loops.
                        hit = load(places, (s, d)) == where(last_input > 0.0, last_input, -1.0)
                        which = where(hit, c + 1.0, which)
                        inside = where(hit, load(tiles, (s + 1, d)), inside)
                        bound = where(hit, load(bounds, (s, d)), bound)
            store(moving, (s + 1, k, WHICH), which)
            store(moving, (s + 1, k, INSIDE), inside)
            store(moving, (s + 1, k, BOUND), bound)
            if residual:  # else it follows from the visits of the slot and the bound
                outside = load(moving, (s, k, OUTSIDE))
                if not spatial:
                    outside = where(which == 1.0, load(visits, (s, p)), outside)
                    if r >= 0:
                        outside = where(which == 2.0, load(visits, (s, r)), outside)
                    outside = where(last_input > 0.0, outside, load(moving, (s, k, OUTSIDE)))
                store(moving, (s + 1, k, OUTSIDE), outside)
    store(again, (slot_count, 0), every_0)
    store(again, (slot_count, 1), every_1)
    store(again, (slot_count, 2), every_2)


@inlined
def odd_runs(floats, ints, o, k, s, count, fanout, work, runs):
    """Correct the runs of lanes whose moving dimension is spatial and residual."""
    bounds, tiles, moving, odd = work.bounds, work.tiles, work.moving, work.odd
    for v in range(count):
        if moving[s, k, WHICH, v] > 0.0:
            d = ints[o, SLIDE_DIM + 2 * k + int(moving[s, k, WHICH, v]) - 1] & DIM_BITS
            if odd[d, v] > 0.0:
                at, _ = moving_place(ints[o, MASK], v, work.places, fanout, s)
                runs[v] = chain_runs(floats[o, d], d, v, bounds, tiles, s, at)


@inlined
def window_words(floats, ints, o, s, count, fanout, residual, any_odd, pad, work):
    """Words of all the input tiles a storage is filled with, but for repeats."""
    bounds, tiles, visits, moving = work.bounds, work.tiles, work.visits, work.moving
    kept, totals, outcome = work.kept, work.totals, work.outcome
    dim_count = bounds.shape[1]
    words = spread(floats[o, dim_count + SIZE])
    if pad:
        words = charged_in_full(PLAIN, floats, ints, o, s, work)
    for k in range(ints[o, SLIDES]):
        p, r = ints[o, SLIDE_DIM + 2 * k] & DIM_BITS, ints[o, SLIDE_DIM + 2 * k + 1]
        a = floats[o, dim_count + COEFFICIENT + 2 * k]
        visits_p = load(visits, (s, p))
        tile_p = smaller(load(tiles, (s, p)), spread(floats[o, p]))
        extent_p = visits_p * tile_p if pad else spread(floats[o, p])
        total = a * (extent_p - visits_p) + visits_p
        if r >= 0:
            b = floats[o, dim_count + COEFFICIENT + 2 * k + 1]
            r = r & DIM_BITS
            visits_r = load(visits, (s, r))
            tile_r = smaller(load(tiles, (s, r)), spread(floats[o, r]))
            extent_r = visits_r * tile_r if pad else spread(floats[o, r])
            total = total * visits_r + b * (extent_r - visits_r) * visits_p
            # Words that stay as the window slides along the moving loop: on every step of it but
            # the first of each run. A run is one way of setting all the other loops.
            which = load(moving, (s, k, WHICH))
            along_p = which == 1.0
            all_moves = where(along_p, visits_p, visits_r)
            runs = all_moves / load(moving, (s, k, BOUND))
            if residual:
                outside = load(moving, (s, k, OUTSIDE))
                over_p = load(tiles, (0, p)) > floats[o, p]
                over_r = load(tiles, (0, r)) > floats[o, r]
                runs = where(along_p, where(over_p, outside, runs), where(over_r, outside, runs))
                if any_odd:
                    store(outcome, 0, runs)
                    odd_runs(floats, ints, o, k, s, count, fanout, work, outcome[0])
                    runs = load(outcome, 0)
            step, cross = where(along_p, a, spread(b)), where(along_p, b, spread(a))
            window, other = where(along_p, tile_p, tile_r), where(along_p, tile_r, tile_p)
            lines = where(along_p, visits_r, visits_p)
            extent = where(along_p, extent_r, extent_p)
            shift = step * (window - 1.0 - load(moving, (s, k, INSIDE))) + 1.0
            last = extent - (lines - 1.0) * other
            stay = (lines - 1.0) * larger(shift + cross * (other - 1.0), spread(0.0))
            stay = stay + larger(shift + cross * (last - 1.0), spread(0.0))
            total = total - where(which > 0.0, stay * (all_moves - runs), 0.0)
        if any_odd:
            keeps = load(kept, (s, INPUT)) > 0.0
            store(totals, (s, k), where(keeps, total, load(totals, (s + 1, k))))
        words = words * total
    return words


@inlined
def charged_in_full(which, floats, ints, o, s, work):
    """Words along listed ranks over all tiles if residual tiles are charged in full."""
    tiles, visits = work.tiles, work.visits
    words = spread(1.0)
    at, length = listed(ints, o, tiles.shape[1], which)
    for j in range(length):
        d = ints[o, at + j] & DIM_BITS
        tile = smaller(load(tiles, (s, d)), spread(floats[o, d]))
        words = words * load(visits, (s, d)) * tile
    return words


@inlined
def tile_words(t, floats, ints, o, s, work):
    """Words of operand ``t`` in the tile of slot ``s``."""
    tiles = work.tiles
    dim_count = tiles.shape[1]
    words = spread(1.0)
    at, length = listed(ints, o, dim_count, PLAIN if t == INPUT else MOVES + t)
    for j in range(length):
        d = ints[o, at + j] & DIM_BITS
        words = words * smaller(load(tiles, (s, d)), spread(floats[o, d]))
    if t == INPUT:
        for k in range(ints[o, SLIDES]):
            p, r = ints[o, SLIDE_DIM + 2 * k] & DIM_BITS, ints[o, SLIDE_DIM + 2 * k + 1]
            tile = smaller(load(tiles, (s, p)), spread(floats[o, p]))
            span = floats[o, dim_count + COEFFICIENT + 2 * k] * (tile - 1.0) + 1.0
            if r >= 0:
                tile = smaller(load(tiles, (s, r & DIM_BITS)), spread(floats[o, r & DIM_BITS]))
                span = span + floats[o, dim_count + COEFFICIENT + 2 * k + 1] * (tile - 1.0)
            words = words * span
    return words


@inlined
def start_at_units(floats, ints, o, pad, work):
    """The multiply-accumulate units as the first child: every step asks for its words anew."""
    again, copies, child, totals = work.again, work.copies, work.child, work.totals
    slot_count, dim_count = again.shape[0] - 1, work.bounds.shape[1]
    for t in range(3):
        words, stays = 1.0, 1.0
        for d in range(dim_count):
            if (ints[o, MASK + t] >> d) & 1:
                words *= floats[o, d]
            else:
                stays *= floats[o, d]
        store(child, (slot_count, CHILD_WORDS, t), words)
        # Padded or not, the units compute what there is, no more.
        repeats = load(again, (slot_count, t))
        store(
            child,
            (slot_count, CHILD_AGAIN, t),
            stays / load(copies, (slot_count, t)) if pad else repeats,
        )
        store(child, (slot_count, CHILD_SLOT, t), float(slot_count))
        store(child, (slot_count, CHILD_LINKS, t), 0.0)
    store(work.share, slot_count, 1.0)
    for k in range(ints[o, SLIDES]):
        p, r = ints[o, SLIDE_DIM + 2 * k] & DIM_BITS, ints[o, SLIDE_DIM + 2 * k + 1]
        store(totals, (slot_count, k), floats[o, p] * (floats[o, r & DIM_BITS] if r >= 0 else 1.0))


@inlined
def pass_child(ints, o, s, t, any_odd, work):
    """The child of slot ``s`` is also that of the next slot outside."""
    child, totals = work.child, work.totals
    for c in range(CHILD_SLOT + 1 if any_odd else CHILD_SLOT):
        store(child, (s, c, t), load(child, (s + 1, c, t)))
    if t == INPUT:
        store(work.share, s, load(work.share, s + 1))
        if any_odd:
            for k in range(ints[o, SLIDES]):
                store(totals, (s, k), load(totals, (s + 1, k)))


@inlined
def distinct_share(m, n, step_p, step_r):
    """Fraction of windows that differ when a fanout unrolls both dimensions of a sliding rank.

    Args:
        m, n: Branches along the two dimensions; ``step_p``, ``step_r`` words between neighbours.
    """
    common, rest = step_p, step_r  # Euclid
    while anywhere(rest > 0.0):
        divisor = where(rest > 0.0, rest, 1.0)
        left = common + round_up(0.0 - common / divisor) * rest
        common, rest = where(rest > 0.0, rest, common), where(rest > 0.0, left, 0.0)
    same = larger(spread(0.0), m - step_r / common) * larger(spread(0.0), n - step_p / common)
    return 1.0 - same / (m * n)


@inlined
def cross_fanout(floats, ints, o, s, count, any_odd, pad, slot_table, e, work):
    """Charge the links of a fanout, and find the windows its branches share.

    Delivered to ``g`` of ``n`` units in use along one axis, a word crosses ``(n + g) / 2`` links
    (the mean distance for one receiver, the whole axis for a broadcast); partial sums pay the same
    way up.
    """
    bounds, tiles, odd = work.bounds, work.tiles, work.odd
    child, share = work.child, work.share
    units = spread(1.0)
    for d in range(bounds.shape[1]):
        units = units * load(bounds, (s, d))
    toll = where(units > 1.0, 0.5 * slot_table[e, s, HOP_J], 0.0)
    for t in range(3):
        pass_child(ints, o, s, t, any_odd, work)
        branches = spread(1.0)
        at, length = listed(ints, o, bounds.shape[1], RESTS + t)
        for j in range(length):
            branches = branches * load(bounds, (s, ints[o, at + j] & DIM_BITS))
        spent = (units + branches) * toll * slot_table[e, s, BITS + t]
        links = load(child, (s, CHILD_LINKS, t)) * branches + spent
        store(child, (s, CHILD_LINKS, t), links)
    for k in range(ints[o, SLIDES]):
        p, r = ints[o, SLIDE_DIM + 2 * k] & DIM_BITS, ints[o, SLIDE_DIM + 2 * k + 1]
        if r < 0:
            continue
        r = r & DIM_BITS
        m, n = load(bounds, (s, p)), load(bounds, (s, r))
        shared = (m > 1.0) & (n > 1.0)
        if any_odd and not pad:  # exactly, see odd_requests
            shared = shared & (load(odd, p) + load(odd, r) == 0.0)
        if anywhere(shared):
            step_p = floats[o, bounds.shape[1] + COEFFICIENT + 2 * k] * load(tiles, (s + 1, p))
            step_r = floats[o, bounds.shape[1] + COEFFICIENT + 2 * k + 1] * load(tiles, (s + 1, r))
            distinct = where(shared, distinct_share(m, n, step_p, step_r), 1.0)
            store(share, s, load(share, s) * distinct)


@inner
def odd_requests(floats, ints, o, s, t, count, fanout, pad, work, factors):
    """Correct what slot ``s`` is asked for by lanes with dimensions both spatial and residual.

    Args:
        factors: float64[2, LANES], multiplied: requests, and words asked for the first time.
    """
    bounds, places, tiles, odd = work.bounds, work.places, work.tiles, work.odd
    child, totals = work.child, work.totals
    slot_count, dim_count = bounds.shape[0], bounds.shape[1]
    mask = ints[o, MASK + t]
    for v in range(count):
        if odd[dim_count, v] == 0.0:
            continue
        c = int(child[s + 1, CHILD_SLOT, t, v])
        at, place = moving_place(mask, v, places, fanout, c)
        factors[1, v] *= odd_repeats(
            mask, floats, o, v, odd, bounds, places, tiles, fanout, c, NONE, 0.0, s, False
        )
        if pad and c == slot_count:
            continue
        factors[0, v] *= odd_repeats(
            mask, floats, o, v, odd, bounds, places, tiles, fanout, c, at, place, s, False
        )
        if t != INPUT or pad:
            continue
        for k in range(ints[o, SLIDES]):
            p, r = ints[o, SLIDE_DIM + 2 * k] & DIM_BITS, ints[o, SLIDE_DIM + 2 * k + 1]
            if r < 0 or (odd[p, v] == 0.0 and odd[r & DIM_BITS, v] == 0.0):
                continue
            r = r & DIM_BITS
            together = False
            for f in range(s + 1, c):
                together |= fanout[f] and bounds[f, p, v] > 1.0 and bounds[f, r, v] > 1.0
            if together:
                merged = merged_windows(
                    floats[o, p], floats[o, r], p, r,
                    floats[o, dim_count + COEFFICIENT + 2 * k],
                    floats[o, dim_count + COEFFICIENT + 2 * k + 1],
                    v, bounds, places, tiles, fanout, s, c, at, place,
                )  # fmt: skip
                factors[0, v] *= merged / totals[s + 1, k, v]


@inner
def odd_fills(floats, ints, o, s, t, count, fanout, work, factors):
    """Correct how often slot ``s`` is filled in lanes with dimensions both spatial and residual.

    Args:
        factors: float64[2, LANES], multiplied: fills, and first fills.
    """
    bounds, places, tiles, odd = work.bounds, work.places, work.tiles, work.odd
    mask = ints[o, MASK + t]
    for v in range(count):
        if odd[bounds.shape[1], v] > 0.0:
            at, place = moving_place(mask, v, places, fanout, s)
            factors[0, v] *= odd_repeats(
                mask, floats, o, v, odd, bounds, places, tiles, fanout, s, at, place, NONE, True
            )
            factors[1, v] *= odd_repeats(
                mask, floats, o, v, odd, bounds, places, tiles, fanout, s, NONE, 0.0, NONE, True
            )


@inlined
def blocks_of(bits, per_block):
    """Block accesses that carry so many bits (tolerant of rounding in the ratio)."""
    blocks = bits * per_block
    return round_up(blocks - 1e-12 * blocks)


@inlined
def request_words(floats, ints, o, s, t, count, fanout, any_odd, pad, work):
    """Words slot ``s`` is asked for by its child, and those asked for the first time."""
    copies, child, outcome = work.copies, work.child, work.outcome
    above = load(copies, (s, t))
    requests = load(child, (s + 1, CHILD_WORDS, t)) * load(child, (s + 1, CHILD_AGAIN, t)) * above
    first = floats[o, work.bounds.shape[1] + SIZE + t] * above
    if any_odd:
        store(outcome, 0, 1.0)
        store(outcome, 1, 1.0)
        odd_requests(floats, ints, o, s, t, count, fanout, pad, work, outcome)
        requests, first = requests * load(outcome, 0), first * load(outcome, 1)
    if t == INPUT:
        requests = requests * load(work.share, s + 1)
    return requests, first


@inlined
def fill_words(floats, ints, o, s, t, count, fanout, residual, any_odd, pad, work):
    """Words slot ``s`` is filled with, all instances together; it becomes its parent's child."""
    again, copies, kept, child = work.again, work.copies, work.kept, work.child
    outcome = work.outcome
    keeps = load(kept, (s, t)) > 0.0
    size = floats[o, work.bounds.shape[1] + SIZE + t]
    if t == INPUT:
        words = window_words(floats, ints, o, s, count, fanout, residual, any_odd, pad, work)
    elif pad:
        words = charged_in_full(MOVES + t, floats, ints, o, s, work)
    else:
        words = spread(size)
    repeats, below = load(again, (s, t)), load(copies, (s, t))
    fills, first = words * repeats * below, size * below
    if any_odd:
        store(outcome, 0, 1.0)
        store(outcome, 1, 1.0)
        odd_fills(floats, ints, o, s, t, count, fanout, work, outcome)
        fills, first = fills * load(outcome, 0), first * load(outcome, 1)
    if t == OUTPUT:
        fills = fills - first
    store(child, (s, CHILD_WORDS, t), where(keeps, words, load(child, (s + 1, CHILD_WORDS, t))))
    store(child, (s, CHILD_AGAIN, t), where(keeps, repeats, load(child, (s + 1, CHILD_AGAIN, t))))
    store(child, (s, CHILD_LINKS, t), where(keeps, 0.0, load(child, (s + 1, CHILD_LINKS, t))))
    if t == INPUT:
        store(work.share, s, where(keeps, 1.0, load(work.share, s + 1)))
    if any_odd:
        store(
            child, (s, CHILD_SLOT, t), where(keeps, float(s), load(child, (s + 1, CHILD_SLOT, t)))
        )
    return fills


@inlined
def charge_slots(
    floats, ints, o, count, fanout, cycles, residual, any_odd, pad, slot_table, engine, e, wanted,
    work,
):  # fmt: skip
    """Inside out: count what every storage does for its operands, and price it.

    Every storage moves whole blocks. The slowest of compute and every storage's read, write and
    shared port sets the latency (perfect overlap). Leakage runs over all hardware for that time.
    """
    used, kept = work.used, work.kept
    child, counted, outcome = work.child, work.counted, work.outcome
    slot_count, dim_count = work.bounds.shape[0], work.bounds.shape[1]
    compute = round_up(cycles * engine[e, MAC_CYCLES])
    worst, bound_slot, overflow = compute, spread(-1.0), spread(0.0)
    energy, network = spread(0.0), spread(0.0)
    start_at_units(floats, ints, o, pad, work)
    for u in range(slot_count):
        s = slot_count - 1 - u
        if fanout[s]:
            cross_fanout(floats, ints, o, s, count, any_odd, pad, slot_table, e, work)
            continue
        instances = load(used, s)
        per_block = 1.0 / (slot_table[e, s, BLOCK] * instances)
        read_bits, write_bits, held = spread(0.0), spread(0.0), spread(0.0)
        blocks_read, blocks_written = spread(0.0), spread(0.0)
        for t in range(3):
            keeps = load(kept, (s, t)) > 0.0
            if not anywhere(keeps):
                pass_child(ints, o, s, t, any_odd, work)
                continue
            reads, first = request_words(
                floats, ints, o, s, t, count, fanout, any_odd, pad, work
            )  # fmt: skip
            flow, updates, fills = reads, spread(0.0), spread(0.0)
            if t == OUTPUT:
                updates = reads
                reads = reads - first
                flow = flow + reads
            network = network + where(keeps, flow * load(child, (s + 1, CHILD_LINKS, t)), 0.0)
            if s > 0:
                fills = fill_words(
                    floats, ints, o, s, t, count, fanout, residual, any_odd, pad, work
                )  # fmt: skip
            reads, fills = where(keeps, reads, 0.0), where(keeps, fills, 0.0)
            updates = where(keeps, updates, 0.0)
            if wanted:
                store(counted, (s, t, READS), reads)
                store(counted, (s, t, FILLS), fills)
                store(counted, (s, t, UPDATES), updates)
            bits = slot_table[e, s, BITS + t]
            held = held + where(keeps, tile_words(t, floats, ints, o, s, work) * bits, 0.0)
            reads, fills, updates = reads * bits, fills * bits, updates * bits
            if s == 0 and t == OUTPUT:
                # The last update of a word writes it in its final precision.
                saving = bits - engine[e, FINAL_BITS]
                updates = updates - saving * floats[o, dim_count + SIZE + OUTPUT]
            blocks_read = blocks_read + blocks_of(reads, per_block)
            blocks_written = blocks_written + blocks_of(fills, per_block)
            blocks_written = blocks_written + blocks_of(updates, per_block)
            read_bits = read_bits + reads
            write_bits = write_bits + (fills + updates)
        overflow = larger(overflow, held / slot_table[e, s, CAPACITY] - 1.0)
        energy = energy + instances * (
            blocks_read * slot_table[e, s, READ_J] + blocks_written * slot_table[e, s, WRITE_J]
        )
        demand = larger(
            read_bits * slot_table[e, s, READ_SLOW], write_bits * slot_table[e, s, WRITE_SLOW]
        )
        demand = larger(demand, (read_bits + write_bits) * slot_table[e, s, SHARED_SLOW])
        demand = demand / instances
        demand = round_up(demand - 1e-12 * demand)
        # Of equally slow slots the outermost is named, and compute before all of them.
        bound_slot = where((demand >= worst) & (demand > compute), float(s), bound_slot)
        worst = larger(worst, demand)
    leak_w = engine[e, MAC_LEAK_W] * engine[e, MAC_COUNT]
    for s in range(slot_count):
        leak_w += slot_table[e, s, LEAK_W] * slot_table[e, s, INSTANCES]
    leak = worst * (leak_w / engine[e, CLOCK_HZ])
    mac_energy = floats[o, dim_count + MACS] * engine[e, MAC_J]
    store(outcome, CYCLES, worst)
    store(outcome, ENERGY_J, energy + network + mac_energy + leak)
    store(outcome, COMPUTE_CYCLES, compute)
    store(outcome, BOUND_SLOT, bound_slot)
    store(outcome, OVERFLOW, overflow)
    store(outcome, MAC_ENERGY_J, mac_energy)
    store(outcome, NETWORK_J, network)
    store(outcome, LEAK_J, leak)


@inlined
def evaluate_block(
    floats, ints, o, first, count, factors, order, keep, fanout, pad, slot_table, engine, e,
    work, results, counts,
):  # fmt: skip
    """Evaluate ``count`` <= ``LANES`` rows from ``first`` on: problem ``o`` on engine ``e``."""
    load_rows(first, count, factors, order, keep, fanout, work)
    bounds, effective, kept = work.bounds, work.effective, work.kept
    counted, outcome = work.counted, work.outcome
    cycles, residual = lay_tiles(floats, o, count, fanout, work)
    any_odd, loops = False, bounds
    if residual:
        store(outcome, 0, cycles)
        any_odd = lay_residuals(floats, o, count, fanout, pad, work, outcome[0])
        cycles = load(outcome, 0)
        loops = effective
    repeat_loops(ints, o, fanout, residual, loops, work)
    wanted = counts.shape[0] > first
    charge_slots(
        floats, ints, o, count, fanout, cycles, residual, any_odd, pad, slot_table, engine, e,
        wanted, work,
    )  # fmt: skip
    if count == LANES == RESULTS:
        for lane in range(0, LANES, 4):
            bring(results[first : first + LANES], outcome, 0, lane)
    else:
        for v in range(count):
            for c in range(RESULTS):
                results[first + v, c] = outcome[c, v]
    if wanted:
        for v in range(count):
            for s in range(fanout.shape[0]):
                for t in range(3):
                    stores = kept[s, t, v] > 0.0 and not fanout[s]
                    for c in range(3):
                        counts[first + v, s, t, c] = counted[s, t, c, v] if stores else 0.0


@inner
def evaluate_some(
    begin, end, problem_of, engine_of, floats, ints, factors, order, keep, fanout, pad,
    slot_table, engine, work, results, counts,
):  # fmt: skip
    """Evaluate rows begin..end-1 in blocks; arguments as in :func:`evaluate_rows`.

    Args:
        problem_of, engine_of: int64[N], or of length 1 where the same for all rows.
        work: From :func:`make_work`.
    """
    first, last = begin, problem_of.shape[0] - 1
    last_engine = engine_of.shape[0] - 1
    while first < end:
        o, e = problem_of[min(first, last)], engine_of[min(first, last_engine)]
        count = 1
        while count < LANES and first + count < end:
            i = first + count
            if problem_of[min(i, last)] != o or engine_of[min(i, last_engine)] != e:
                break
            count += 1
        evaluate_block(
            floats, ints, o, first, count, factors, order, keep, fanout, pad, slot_table, engine,
            e, work, results, counts,
        )  # fmt: skip
        first += count


@serial
def evaluate_here(
    problem_of, engine_of, floats, ints, factors, order, keep, fanout, pad,
    slot_table, engine, results, counts,
):  # fmt: skip
    """Evaluate a few rows in the calling thread; arguments as in :func:`evaluate_rows`."""
    work = make_work(factors.shape[1], factors.shape[2])
    evaluate_some(
        0, factors.shape[0], problem_of, engine_of, floats, ints, factors, order, keep, fanout,
        pad, slot_table, engine, work, results, counts,
    )  # fmt: skip


@parallel
def evaluate_rows(
    problem_of, engine_of, floats, ints, factors, order, keep, fanout, pad,
    slot_table, engine, results, counts,
):  # fmt: skip
    """Evaluate many rows; row ``i`` is problem ``problem_of[i]`` on engine ``engine_of[i]``.

    Fastest where neighbouring rows are mappings of one problem to one engine.

    Args:
        problem_of, engine_of: int64[N], or of length 1 where the same for all rows.
        floats, ints: Problem tables, see ``problem.py``.
        factors: float64[N, S, D], whole numbers whose product over slots >= extent; ``order``
            integer[N, S, D], loop order outer to inner (of no meaning in fanouts); ``keep``
            bool[N or 1, S, 3], which operands a slot stores (slot 0: all).
        fanout: bool[S], which slots are spatial.
        pad: Charge residual tiles as full ones (Timeloop's way) instead of exactly.
        slot_table: float64[E, S, SLOT_COLUMNS]; ``engine`` float64[E, ENGINE_COLUMNS].
        results: float64[N, RESULTS], written.
        counts: float64[N, S, 3, 3], written, or of length 0 when not wanted.
    """
    rows = factors.shape[0]
    chunk = 64 * LANES
    for c in prange((rows + chunk - 1) // chunk):
        work = make_work(factors.shape[1], factors.shape[2])
        evaluate_some(
            c * chunk, min(rows, (c + 1) * chunk), problem_of, engine_of, floats, ints, factors,
            order, keep, fanout, pad, slot_table, engine, work, results, counts,
        )  # fmt: skip
