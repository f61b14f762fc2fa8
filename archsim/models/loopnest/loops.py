"""The kernel's first half: mappings into lanes, their tiles and visits, and what loops repeat.

Residuals cost little extra: with ``visits[s, d] = ceil(extent / tile)`` the *effective* bound of
a loop is the ratio of the visits inside and outside it, and products of effective bounds telescope
to exact counts. Only a dimension that is both spatial and residual needs ``residual.py``.
"""

from __future__ import annotations

from archsim.models.jit import inlined, inner
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
)
from archsim.models.loopnest.layout import (
    BOUND,
    DIM_BITS,
    INPUT,
    INSIDE,
    MOVES,
    NONE,
    OUTSIDE,
    RESTS,
    SLIDE_DIM,
    SLIDES,
    WEIGHT,
    WHICH,
    listed,
)
from archsim.models.loopnest.residual import chain_visits


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
    found = False
    for v in range(count):
        exact, dims = steps[v], 0
        for d in range(dim_count):
            odd[d, v] = 0.0
            if tiles[0, d, v] == floats[o, d]:
                continue
            temporal, wide = 1.0, False
            for s in range(slot_count):
                if fanout[s]:
                    wide |= bounds[s, d, v] > 1.0
                else:
                    temporal *= bounds[s, d, v]
            visited = floats[o, d]
            if wide:
                odd[d, v] = 1.0
                dims |= 1 << d
                visited = chain_visits(
                    visited, d, v, bounds, tiles, fanout, slot_count, slot_count, True, NONE,
                    False, False,
                )  # fmt: skip
            exact = exact / temporal * visited  # whole numbers: the quotient is exact
        odd[dim_count, v] = dims
        found |= dims > 0
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
