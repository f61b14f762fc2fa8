"""Exact counts where a dimension is both spatial and residual, lane by lane.

Elsewhere a residual only changes how often a tile is visited, and products of ratios of visits
count it (see ``loops.py``). Where branches of a fanout run out before others do, the loops outside
and inside it no longer factor, and the chain of loops over that dimension is followed instead.

:func:`odd_runs`, :func:`odd_requests` and :func:`odd_fills` correct what the kernel counted; the
others are functions of one lane. Arguments they share: ``v`` is the lane; ``bounds``, ``places``,
``tiles`` as in ``layout.py``; ``fanout`` bool[S]; ``child`` the slot whose tile is visited (S: the
units), so that only loops outside it matter; ``parent`` the storage it is filled from.
"""

from __future__ import annotations

import numpy as np

from archsim.models.jit import inlined, inner, serial
from archsim.models.loopnest.layout import (
    CHILD_SLOT,
    COEFFICIENT,
    DIM_BITS,
    INPUT,
    MASK,
    NONE,
    SLIDE_DIM,
    SLIDES,
    WHICH,
)


@inner
def chain_visits(
    extent, d, v, bounds, tiles, fanout, child, m_slot, outside_m, parent, below, above
):
    """Count tile visits along one dimension.

    Temporal loops outside the moving loop are counted, those inside it collapse to their largest
    iteration; spatial loops are counted or collapsed by side of the parent.

    Args:
        extent: True extent of the dimension ``d``.
        m_slot: Slot of the moving loop (-1: none, everything temporal collapses).
        outside_m: Whether this dimension's loop in ``m_slot`` lies outside (or is) the moving loop.
        below: Count spatial loops inside the parent (fills) or collapse them (reads).
        above: Count spatial loops outside the parent.

    Returns:
        Visits, as a float.
    """
    product = 1.0
    for s in range(child):
        if fanout[s]:
            counted = below if s > parent else above
        else:
            counted = s < m_slot or (s == m_slot and outside_m)
        if counted:
            product *= bounds[s, d, v]
    left, total = extent, 1.0
    for s in range(child):
        if bounds[s, d, v] == 1.0:
            continue
        if fanout[s]:
            counted = below if s > parent else above
        else:
            counted = s < m_slot or (s == m_slot and outside_m)
        tile = tiles[s + 1, d, v]
        if counted:
            product /= bounds[s, d, v]
            full = np.ceil(left / tile) - 1.0
            total += full * product
            left -= full * tile
        else:
            left = min(left, tile)
    return total


@inner
def chain_runs(extent, d, v, bounds, tiles, child, m_slot):
    """How often the moving loop, which is over dimension ``d``, starts over: all loops but it."""
    product = 1.0
    for s in range(child):
        product *= bounds[s, d, v] if s != m_slot else 1.0
    left, total = extent, 1.0
    for s in range(child):
        if bounds[s, d, v] == 1.0:
            continue
        tile = tiles[s + 1, d, v]
        if s == m_slot:
            left = min(left, tile)
        else:
            product /= bounds[s, d, v]
            full = np.ceil(left / tile) - 1.0
            total += full * product
            left -= full * tile
    return total


@inner
def moving_place(mask, v, places, fanout, child):
    """The moving loop of a tensor outside a slot: the innermost one over a dimension in ``mask``.

    Returns:
        Its slot (-1: none; S at the units, where every loop moves) and its place in the slot.
    """
    slot_count, dim_count = places.shape[0], places.shape[1]
    if child == slot_count:
        return slot_count, 0.0
    at, place = -1, 0.0
    for s in range(child):
        innermost = 0.0
        if not fanout[s]:
            for d in range(dim_count):
                if (mask >> d) & 1:
                    innermost = max(innermost, places[s, d, v])
        if innermost > 0.0:
            at, place = s, innermost
    return at, place


@inner
def odd_repeats(dims, floats, o, v, bounds, places, tiles, fanout, child, at, place, parent, below):
    """Repeats by the odd dimensions that do not move a tensor.

    Args:
        dims: Mask of those dimensions.
        floats, o: Problem table, its row.
        at, place: From :func:`moving_place`.
        below: As in :func:`chain_visits`.
    """
    repeats = 1.0
    for d in range(bounds.shape[1]):
        if (dims >> d) & 1 == 0:
            continue
        before = at == bounds.shape[0]
        if 0 <= at < bounds.shape[0]:
            before = places[at, d, v] < place
        repeats *= chain_visits(
            floats[o, d], d, v, bounds, tiles, fanout, child, at, before, parent, below, True
        )
    return repeats


@serial
def merged_windows(
    extent_p, extent_r, p, r, a, b, v, bounds, places, tiles, fanout, parent, child, at, place
):
    """Words a parent reads along one sliding rank, walking every window of its branches.

    Branches of one fanout share a read when everything requested below them is equal. Counted over
    all loops of the two dimensions outside the child: steps and places outside the parent one by
    one, fanouts between parent and child merged from the inside out.

    Args:
        extent_p, extent_r: Extents of the rank's dimensions ``p`` and ``r``; coefficients ``a``,
            ``b``.
        at, place: The moving loop, see :func:`moving_place`.
    """
    slots = bounds.shape[0]
    tile_p, tile_r = min(tiles[child, p, v], extent_p), min(tiles[child, r, v], extent_r)
    steps_p, steps_r, leaves = 1, 1, 1
    for s in range(child):
        if fanout[s] and s > parent:
            leaves *= int(bounds[s, p, v] * bounds[s, r, v])
        else:
            steps_p *= int(bounds[s, p, v])
            steps_r *= int(bounds[s, r, v])
    along_p = 0 <= at < slots and places[at, p, v] == place
    along_r = 0 <= at < slots and places[at, r, v] == place
    low, high = np.empty(leaves), np.empty(leaves)
    names, words = np.empty(leaves, np.int64), np.empty(leaves)
    kinds, count = np.empty(leaves, np.int64), np.empty(leaves, np.int64)
    total = 0.0
    for step in range(steps_p * steps_r):
        at_p, at_r, rest_p, rest_r, moved = 0.0, 0.0, step // steps_r, step % steps_r, False
        for u in range(child):
            s = child - 1 - u
            if not (fanout[s] and s > parent):
                digit_p, digit_r = rest_p % int(bounds[s, p, v]), rest_r % int(bounds[s, r, v])
                rest_p, rest_r = rest_p // int(bounds[s, p, v]), rest_r // int(bounds[s, r, v])
                at_p += digit_p * tiles[s + 1, p, v]
                at_r += digit_r * tiles[s + 1, r, v]
                if s == at:
                    moved = (along_p and digit_p > 0) or (along_r and digit_r > 0)
        for leaf in range(leaves):
            from_p, from_r, rest = at_p, at_r, leaf
            for u in range(child):
                s = child - 1 - u
                if fanout[s] and s > parent:
                    m, n = int(bounds[s, p, v]), int(bounds[s, r, v])
                    from_p += (rest % (m * n)) // n * tiles[s + 1, p, v]
                    from_r += rest % n * tiles[s + 1, r, v]
                    rest //= m * n
            names[leaf], words[leaf] = -1, 0.0
            if from_p >= extent_p or from_r >= extent_r:
                continue
            end_p, end_r = min(from_p + tile_p, extent_p) - 1, min(from_r + tile_r, extent_r) - 1
            low[leaf], high[leaf] = a * from_p + b * from_r, a * end_p + b * end_r
            if moved:  # what the window one step earlier held is not fetched again
                back_p = tiles[at + 1, p, v] if along_p else 0.0
                back_r = tiles[at + 1, r, v] if along_r else 0.0
                held_p = min(from_p - back_p + tile_p, extent_p) - 1.0
                held_r = min(from_r - back_r + tile_r, extent_r) - 1.0
                low[leaf] = max(low[leaf], a * held_p + b * held_r + 1.0)
            words[leaf] = max(0.0, high[leaf] - low[leaf] + 1.0)
            names[leaf] = leaf
            for other in range(leaf):
                if names[other] >= 0 and low[other] == low[leaf] and high[other] == high[leaf]:
                    names[leaf] = names[other]
                    break
        branches = leaves
        for u in range(child - parent - 1):
            s = child - 1 - u
            size = int(bounds[s, p, v] * bounds[s, r, v])
            if fanout[s] and size > 1:
                branches //= size
                merge_branches(branches, size, names, words, kinds, count)
        total += words[0]
    return total


@inner
def merge_branches(groups, size, names, words, kinds, count):
    """Merge every ``size`` neighbouring branches into one that asks once for each distinct request.

    Args:
        groups: Groups of branches.
        names: int64, in front ``groups * size`` branches, equal names for equal requests, -1 for
            none; overwritten in front by the names of the groups. ``words`` likewise.
        kinds, count: Work space as long.
    """
    for g in range(groups):
        found, asked = 0, 0.0
        for branch in range(g * size, (g + 1) * size):
            name = names[branch]
            # Insert into the group's sorted distinct names.
            k = found
            while k > 0 and kinds[g * size + k - 1] > name:
                k -= 1
            if name < 0 or (k > 0 and kinds[g * size + k - 1] == name):
                continue
            for j in range(found, k, -1):
                kinds[g * size + j] = kinds[g * size + j - 1]
            kinds[g * size + k] = name
            found += 1
            asked += words[branch]
        count[g], words[g] = found, asked
    for g in range(groups):
        names[g] = g if count[g] > 0 else -1
        for other in range(g):
            same = count[other] == count[g] and names[other] == other
            for j in range(count[g]):
                same = same and kinds[other * size + j] == kinds[g * size + j]
            if same and count[g] > 0:
                names[g] = other
                break


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
        dims = int(odd[dim_count, v])
        if dims == 0 or (dims & ~mask == 0 and t != INPUT):
            continue
        c = int(child[s + 1, CHILD_SLOT, t, v])
        at, place = moving_place(mask, v, places, fanout, c)
        if dims & ~mask:
            factors[1, v] *= odd_repeats(
                dims & ~mask, floats, o, v, bounds, places, tiles, fanout, c, NONE, 0.0, s, False
            )
        if pad and c == slot_count:
            continue
        if dims & ~mask:
            factors[0, v] *= odd_repeats(
                dims & ~mask, floats, o, v, bounds, places, tiles, fanout, c, at, place, s, False
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
    bounds, places, tiles = work.bounds, work.places, work.tiles
    mask = ints[o, MASK + t]
    for v in range(count):
        dims = int(work.odd[bounds.shape[1], v]) & ~mask
        if dims:
            at, place = moving_place(mask, v, places, fanout, s)
            factors[0, v] *= odd_repeats(
                dims, floats, o, v, bounds, places, tiles, fanout, s, at, place, NONE, True
            )
            factors[1, v] *= odd_repeats(
                dims, floats, o, v, bounds, places, tiles, fanout, s, NONE, 0.0, NONE, True
            )
