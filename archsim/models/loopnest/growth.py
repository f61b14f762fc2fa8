"""Growing the tiles of several variants of a mapping side by side, a variant a lane.

A variant is an unrolling, the operands kept, and the operand the outer levels hold. Greedily, inner
group of storages first, a step makes the tile of one dimension larger, of each variant the step
that gains most: what it saves is the energy of bringing words into the group (stationarity and
multicast, no halo), what it takes is room in the fullest storage.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from archsim.models.jit import inlined, inner, serial
from archsim.models.lanes import (
    LANES,
    anywhere,
    larger,
    load,
    round_up,
    smaller,
    spread,
    store,
    where,
)
from archsim.models.loopnest.layout import (
    COEFFICIENT,
    DIM_BITS,
    INPUT,
    MAX_SLIDES,
    MOVES,
    OUTPUT,
    PLAIN,
    RESTS,
    SIZE,
    SLIDE_DIM,
    SLIDES,
    listed,
)

#: A step that takes no room is weighed as if it took this share of a storage.
LEAST_ROOM = 1e-3
#: Share of a storage that may be taken, with the rounding of a sum.
FULL = 1.0 + 1e-12


class Growth(NamedTuple):
    """Work space of :func:`grow_group`; the last axis of every array is the lane, a variant.

    Attributes:
        factors: [S, D] loop bounds, being found; ``inside`` [D] their product so far.
        base: [D] extents of the tile inside the group's own loops; ``factor`` [D] the bounds of
            these loops; ``tile`` [D] their product, at most the extent.
        shared: [D] ``base`` times the branches of the fanouts further out.
        steps: [D] temporal steps outside the group; ``visits`` [D] all its tiles, over instances.
        free: [D] 1 where the group may still grow.
        better, fewer, calls: [D] factor, steps and visits the next step leads to.
        beyond: [G, D] extents of the tiles of groups further out, but for ``factor``.
        words: [3] of every operand's tile; ``spans`` [MAX_SLIDES] along the input's sliding ranks.
        reach: [MAX_SLIDES] words along each sliding rank of all tiles, one behind the other.
        inmost: [3] place of the innermost loop outside the group that moves an operand.
        brought, settled: [3] energy of bringing an operand in, and if that loop had a single step.
        order: [2, D] places of the dimensions in loop orders: of the level outside the innermost
            group, and of those further out.
        kept: [S, 3] 1 where a slot keeps an operand; ``share`` [S, 3] of the slot's capacity
            that a word of it takes.
        price: [G, 3] J a word brought in; ``passes`` [G, 3] 1 where the group does not store
            an operand but its own loops hold it still further in.
        rank: int64[D], no lanes: the dimension's place among the sliding ranks', -1 if it has none.
    """

    factors: np.ndarray
    inside: np.ndarray
    base: np.ndarray
    factor: np.ndarray
    tile: np.ndarray
    shared: np.ndarray
    steps: np.ndarray
    visits: np.ndarray
    free: np.ndarray
    better: np.ndarray
    fewer: np.ndarray
    calls: np.ndarray
    beyond: np.ndarray
    words: np.ndarray
    spans: np.ndarray
    reach: np.ndarray
    inmost: np.ndarray
    brought: np.ndarray
    settled: np.ndarray
    order: np.ndarray
    kept: np.ndarray
    share: np.ndarray
    price: np.ndarray
    passes: np.ndarray
    rank: np.ndarray


@serial
def make_growth(factors, group_count):
    """Work space for nests of so many groups.

    Args:
        factors: float64[S, D, LANES], where the loop bounds go.
    """
    slot_count, dim_count = factors.shape[0], factors.shape[1]
    dims, three, slides = (dim_count, LANES), (3, LANES), (MAX_SLIDES, LANES)
    kept, price = (slot_count, 3, LANES), (group_count, 3, LANES)
    return Growth(
        factors, np.ones(dims), np.ones(dims), np.ones(dims), np.ones(dims), np.ones(dims),
        np.ones(dims), np.ones(dims), np.ones(dims), np.ones(dims), np.ones(dims), np.ones(dims),
        np.ones((group_count, dim_count, LANES)), np.ones(three), np.ones(slides), np.ones(slides),
        np.zeros(three), np.zeros(three), np.zeros(three), np.zeros((2, dim_count, LANES)),
        np.zeros(kept), np.zeros(kept), np.zeros(price), np.zeros(price),
        np.zeros(dim_count, np.int64),
    )  # fmt: skip


@inlined
def describe(floats, ints, o, room):
    """Begin with problem ``o``: nothing inside, and no loops along dimensions it does not have."""
    for d in range(room.inside.shape[0]):
        store(room.inside, d, 1.0)
        room.rank[d] = -1
        if floats[o, d] == 1.0:
            store(room.tile, d, 1.0)
            store(room.steps, d, 1.0)
            store(room.visits, d, 1.0)
            for s in range(room.factors.shape[0]):
                store(room.factors, (s, d), 1.0)
    for k in range(2 * ints[o, SLIDES]):
        d = ints[o, SLIDE_DIM + k]
        if d >= 0:
            room.rank[d] = k


@inlined
def sliding(floats, ints, o, k, dim_count):
    """Sliding rank ``k``: its dimensions (the second may be -1) and their coefficients."""
    p, r = ints[o, SLIDE_DIM + 2 * k] & DIM_BITS, ints[o, SLIDE_DIM + 2 * k + 1]
    at = dim_count + COEFFICIENT + 2 * k
    return p, r, floats[o, at], floats[o, at + 1]


@inlined
def reach_of(size_p, tiles_p, a, size_r, tiles_r, b):
    """Words along a sliding rank of all tiles brought in, one behind the other."""
    return (a * (size_p - tiles_p) + tiles_p) * tiles_r + b * (size_r - tiles_r) * tiles_p


@inlined
def begin_group(floats, o, groups, g, fanout_slots, element, template, room):
    """Start group ``g`` with the smallest tiles."""
    first, last = groups[g, 0], groups[g, 1]
    innermost = g == groups.shape[0] - 1
    next_in = room.factors.shape[0] if innermost else groups[g + 1, 0]
    for d in range(room.base.shape[0]):
        if floats[o, d] == 1.0:
            continue
        base, outside = load(room.inside, d), spread(1.0)
        for f in range(fanout_slots.shape[0]):
            if fanout_slots[f] < first:
                outside = outside * load(room.factors, (fanout_slots[f], d))
            elif last < fanout_slots[f] < next_in:
                base = base * load(room.factors, (fanout_slots[f], d))
        store(room.base, d, base)
        store(room.factor, d, 1.0)
        store(room.tile, d, smaller(base, spread(floats[o, d])))
        store(room.shared, d, base * outside)
        store(room.steps, d, round_up(floats[o, d] / (base * outside)))
        store(room.visits, d, round_up(floats[o, d] / base))
        store(room.free, d, 1.0 if not innermost or element[template, d] else 0.0)
        for h in range(g):
            beyond = base
            for f in range(fanout_slots.shape[0]):
                if groups[h, 1] < fanout_slots[f] < first:
                    beyond = beyond * load(room.factors, (fanout_slots[f], d))
            store(room.beyond, (h, d), beyond)


@inlined
def weigh_tiles(floats, ints, o, dim_count, room):
    """Words of every operand's tile, and reach of the sliding ranks."""
    for t in range(3):
        words = spread(1.0)
        at, length = listed(ints, o, dim_count, PLAIN if t == INPUT else MOVES + t)
        for j in range(length):
            words = words * load(room.tile, ints[o, at + j] & DIM_BITS)
        if t == INPUT:
            for k in range(ints[o, SLIDES]):
                p, r, a, b = sliding(floats, ints, o, k, dim_count)
                span = a * (load(room.tile, p) - 1.0) + 1.0
                size_r, tiles_r = 1.0, spread(1.0)
                if r >= 0:
                    r = r & DIM_BITS
                    span = span + b * (load(room.tile, r) - 1.0)
                    size_r, tiles_r = floats[o, r], load(room.visits, r)
                reach = reach_of(floats[o, p], load(room.visits, p), a, size_r, tiles_r, b)
                store(room.spans, k, span)
                store(room.reach, k, reach)
                words = words * span
        store(room.words, t, words)


@inlined
def weigh_transfers(floats, ints, o, dim_count, g, hold, room):
    """Energy of filling the group with each operand.

    An operand's tile is brought in again by every loop further out than the innermost one that
    moves the operand; loops inside that one leave it where it is. An operand that passes is brought
    in once for every step outside the group.
    """
    for t in range(3):
        inmost, next_in = spread(-1.0), spread(-1.0)
        at, length = listed(ints, o, dim_count, MOVES + t)
        for j in range(length):
            d = ints[o, at + j] & DIM_BITS
            place = where(load(room.steps, d) > 1.0, load(room.order, (hold, d)), -1.0)
            next_in = larger(next_in, smaller(place, inmost))
            inmost = larger(inmost, place)
        passing = load(room.passes, (g, t)) > 0.0
        inmost = where(passing, float(dim_count), inmost)
        next_in = where(passing, float(dim_count), next_in)
        times, next_times = spread(1.0), spread(1.0)
        at, length = listed(ints, o, dim_count, RESTS + t)
        for j in range(length):
            d = ints[o, at + j] & DIM_BITS
            steps, place = load(room.steps, d), load(room.order, (hold, d))
            times = times * where(place < inmost, steps, 1.0)
            next_times = next_times * where(place < next_in, steps, 1.0)
        words = load(room.price, (g, t)) * floats[o, dim_count + SIZE + t]
        if t == INPUT:
            for k in range(ints[o, SLIDES]):
                words = words * load(room.reach, k)
        store(room.inmost, t, inmost)
        store(room.brought, t, words * times)
        store(room.settled, t, words * next_times)


@inlined
def fullest(data, weight, result, first, last, room):
    """Share of its capacity that tiles of so many words take of the fullest storage."""
    most = spread(0.0)
    for s in range(first, last + 1):
        held = data * load(room.share, (s, 0)) + weight * load(room.share, (s, 1))
        most = larger(most, held + result * load(room.share, (s, 2)))
    return most


@inlined
def taken_with(floats, ints, o, d, rank, tile, first, last, room):
    """Share of the fullest storage taken if dimension ``d`` had such a tile."""
    dim_count = room.base.shape[0]
    now = load(room.tile, d)
    ratio = tile / now
    data, weight, result = load(room.words, 0), load(room.words, 1), load(room.words, 2)
    still = dim_count + COEFFICIENT + 2 * MAX_SLIDES
    if rank >= 0:
        step = floats[o, dim_count + COEFFICIENT + rank]
        data = data * (1.0 + step * (tile - now) / load(room.spans, rank >> 1))
    elif floats[o, still + d] == 0.0:
        data = data * ratio
    if floats[o, still + dim_count + d] == 0.0:
        weight = weight * ratio
    if floats[o, still + 2 * dim_count + d] == 0.0:
        result = result * ratio
    return fullest(data, weight, result, first, last, room)


@inlined
def saved_by(floats, ints, o, d, rank, hold, steps, fewer, calls, room):
    """Energy saved if dimension ``d`` had so many steps outside the group."""
    dim_count = room.base.shape[0]
    place = load(room.order, (hold, d))
    ratio = fewer / steps
    still = dim_count + COEFFICIENT + 2 * MAX_SLIDES
    saved = spread(0.0)
    for t in range(3):
        brought, inmost = load(room.brought, t), load(room.inmost, t)
        if floats[o, still + t * dim_count + d] > 0.0:
            saved = saved + where(place < inmost, brought - brought * ratio, 0.0)
            continue
        then = where((place == inmost) & (fewer <= 1.0), load(room.settled, t), brought)
        if t == INPUT and rank >= 0:
            p, r, a, b = sliding(floats, ints, o, rank >> 1, dim_count)
            tiles_p, size_r, tiles_r = load(room.visits, p), 1.0, spread(1.0)
            if r >= 0:
                size_r, tiles_r = floats[o, r & DIM_BITS], load(room.visits, r & DIM_BITS)
            if d == p:
                tiles_p = calls
            else:
                tiles_r = calls
            reach = reach_of(floats[o, p], tiles_p, a, size_r, tiles_r, b)
            then = then * (reach / load(room.reach, rank >> 1))
        saved = saved + (brought - then)
    return saved


@inlined
def try_dimension(floats, ints, o, d, hold, first, last, now, room):
    """What the next step of dimension ``d`` gains (0: nothing, or it does not fit)."""
    steps, shared, base = load(room.steps, d), load(room.shared, d), load(room.base, d)
    extent = floats[o, d]
    rank = room.rank[d]
    allowed = (steps > 1.0) & (load(room.free, d) > 0.0)
    # Far fewer steps; one fewer if that does not fit.
    factor = round_up(extent / (shared * round_up(steps * where(steps >= 16.0, spread(0.25), 0.5))))
    tile = smaller(base * factor, spread(extent))
    taken = taken_with(floats, ints, o, d, rank, tile, first, last, room)
    if anywhere(allowed & (taken > FULL)):
        less = round_up(extent / (shared * (steps - 1.0)))
        factor = where((taken > FULL) & (steps > 1.0), less, factor)
        tile = smaller(base * factor, spread(extent))
        taken = taken_with(floats, ints, o, d, rank, tile, first, last, room)
    fewer = round_up(extent / (shared * factor))
    calls = round_up(extent / tile) if rank >= 0 else fewer
    saved = saved_by(floats, ints, o, d, rank, hold, steps, fewer, calls, room)
    store(room.better, d, factor)
    store(room.fewer, d, fewer)
    store(room.calls, d, calls)
    gain = saved / (larger(taken - now, spread(0.0)) + LEAST_ROOM)
    return where(allowed & (taken <= FULL), gain, 0.0)


@inlined
def words_outside(t, floats, ints, o, dim_count, h, chosen, room):
    """Words of operand ``t`` in the tile of group ``h`` further out, after the chosen steps."""
    words = spread(1.0)
    at, length = listed(ints, o, dim_count, PLAIN if t == INPUT else MOVES + t)
    for j in range(length):
        words = words * tile_outside(floats, o, ints[o, at + j] & DIM_BITS, h, chosen, room)
    if t == INPUT:
        for k in range(ints[o, SLIDES]):
            p, r, a, b = sliding(floats, ints, o, k, dim_count)
            span = a * (tile_outside(floats, o, p, h, chosen, room) - 1.0) + 1.0
            if r >= 0:
                span = span + b * (tile_outside(floats, o, r & DIM_BITS, h, chosen, room) - 1.0)
            words = words * span
    return words


@inlined
def tile_outside(floats, o, d, h, chosen, room):
    """Extent of the tile of group ``h`` further out, after the chosen steps."""
    factor = where(chosen == float(d), load(room.better, d), load(room.factor, d))
    return smaller(load(room.beyond, (h, d)) * factor, spread(floats[o, d]))


@inlined
def take_steps(floats, ints, o, dim_count, groups, g, chosen, room):
    """Take the steps chosen (a dimension a lane, -1: none) where the storages outside hold them."""
    full = spread(0.0)
    for h in range(g):
        data = words_outside(INPUT, floats, ints, o, dim_count, h, chosen, room)
        weight = words_outside(1, floats, ints, o, dim_count, h, chosen, room)
        result = words_outside(OUTPUT, floats, ints, o, dim_count, h, chosen, room)
        share = fullest(data, weight, result, groups[h, 0], groups[h, 1], room)
        full = larger(full, share)
    for d in range(dim_count):
        mine = chosen == float(d)
        if not anywhere(mine):
            continue
        # Nor will it fit after other dimensions have grown.
        store(room.free, d, where(mine & (full > FULL), 0.0, load(room.free, d)))
        taken = mine & (full <= FULL)
        factor = where(taken, load(room.better, d), load(room.factor, d))
        store(room.factor, d, factor)
        store(room.tile, d, smaller(load(room.base, d) * factor, spread(floats[o, d])))
        store(room.steps, d, where(taken, load(room.fewer, d), load(room.steps, d)))
        store(room.visits, d, where(taken, load(room.calls, d), load(room.visits, d)))


@inner
def grow_group(floats, ints, o, groups, g, element, template, fanout_slots, room):
    """Choose the temporal factors of one group of storages, all groups inside it being done.

    Args:
        groups: int64[G, 2] first and last slot of each group, outer to inner; a group's loops
            live in its last slot.
        room: Work space, of which ``order``, ``share``, ``price`` and
            ``passes`` say what the variants are, and ``factors`` holds their unrolling;
            :func:`describe` has been called.
    """
    first, last, dim_count = groups[g, 0], groups[g, 1], room.base.shape[0]
    hold = 0 if g == groups.shape[0] - 1 else 1
    begin_group(floats, o, groups, g, fanout_slots, element, template, room)
    while True:
        weigh_tiles(floats, ints, o, dim_count, room)
        weigh_transfers(floats, ints, o, dim_count, g, hold, room)
        now = fullest(
            load(room.words, 0), load(room.words, 1), load(room.words, 2), first, last, room
        )
        most, chosen = spread(0.0), spread(-1.0)
        for d in range(dim_count):
            if floats[o, d] == 1.0:
                continue
            if anywhere((load(room.steps, d) > 1.0) & (load(room.free, d) > 0.0)):
                gain = try_dimension(floats, ints, o, d, hold, first, last, now, room)
                chosen = where(gain > most, float(d), chosen)
                most = larger(most, gain)
        if not anywhere(most > 0.0):
            break
        take_steps(floats, ints, o, dim_count, groups, g, chosen, room)
    for d in range(dim_count):
        if floats[o, d] > 1.0:
            store(room.factors, (last, d), load(room.factor, d))
            store(room.inside, d, load(room.base, d) * load(room.factor, d))
