"""Growing the tiles of one group of storages, greedily, by what a step saves and takes.

A step makes the tile of one dimension larger. What it saves is the energy of bringing words into
the group (stationarity and multicast, no halo); what it takes is room in the fullest storage. As
one dimension grows and the others stay, the words held are linear in its tile, the words along a
sliding rank linear in the number of its tiles, and the times a tile is brought in linear in its
steps. So each round first works out these lines for every dimension, then tries the steps of all
dimensions side by side, a dimension a lane.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from archsim.models.jit import inlined, serial
from archsim.models.lanes import (
    LANES,
    anywhere,
    larger,
    largest,
    load,
    product,
    round_up,
    smaller,
    spread,
    store,
    where,
)
from archsim.models.loopnest.layout import (
    BITS,
    BLOCK,
    CAPACITY,
    COEFFICIENT,
    INPUT,
    READ_J,
    SIZE,
    SLIDE_DIM,
    SLIDES,
    STILL,
    WRITE_J,
)

#: A step that takes no room is weighed as if it took this share of a storage.
LEAST_ROOM = 1e-3
# ``d // LANES`` and ``d % LANES``, without the care for negative numbers.
SHIFT, LANE = LANES.bit_length() - 1, LANES - 1


class Growth(NamedTuple):
    """Work space of :func:`grow_group`: dimension ``d`` is lane ``[d // LANES, d % LANES]``.

    Attributes:
        extent: [C, LANES] of the problem; 1 in the lanes past the last dimension.
        base: [C, LANES] extents of the tile inside the group's own loops.
        factor: [C, LANES] bounds of the group's own loops; the tile is ``base * factor``.
        outside: [C, LANES] branches of the fanouts further out.
        steps: [C, LANES] temporal steps outside the group; ``visits`` [C, LANES] all its tiles,
            over instances.
        free: [C, LANES] 1 where the group may still grow.
        counted: [3, C, LANES] 1 where a dimension multiplies the tile of an operand, 0 where it
            does not, or slides.
        rests: [3, C, LANES] 1 where an operand does not depend on a dimension.
        place: [3, C, LANES] of a dimension in each loop order, outer to inner.
        extents, held: [3, C, LANES] words of every operand's tile are ``held + extents * tile``.
        brought, again: [2, C, LANES] energy of the input per word along its sliding ranks, and of
            weight and output, is ``brought + again * steps``; ``settled`` [2, C, LANES] less where
            a single step is left.
        reach, stretch: [C, LANES] words along the input's sliding ranks: ``reach + stretch *
            visits``.
        gain, better: [C, LANES] of the step tried, and the factor it leads to.
        beyond: [G, C, LANES] extents of the tiles of groups further out, but for ``factor``.
        price: [3] J per word brought in.
    """

    extent: np.ndarray
    base: np.ndarray
    factor: np.ndarray
    outside: np.ndarray
    steps: np.ndarray
    visits: np.ndarray
    free: np.ndarray
    counted: np.ndarray
    rests: np.ndarray
    place: np.ndarray
    extents: np.ndarray
    held: np.ndarray
    brought: np.ndarray
    again: np.ndarray
    settled: np.ndarray
    reach: np.ndarray
    stretch: np.ndarray
    gain: np.ndarray
    better: np.ndarray
    beyond: np.ndarray
    price: np.ndarray


@serial
def make_growth(dim_count, group_count):
    """Work space for nests of so many dimensions and groups."""
    c = (dim_count + LANES - 1) // LANES
    one, three = (c, LANES), (3, c, LANES)
    return Growth(
        np.ones(one), np.ones(one), np.ones(one), np.ones(one), np.ones(one), np.ones(one),
        np.ones(one), np.ones(three), np.ones(three), np.zeros(three), np.zeros(three),
        np.zeros(three), np.zeros((2, c, LANES)), np.zeros((2, c, LANES)),
        np.zeros((2, c, LANES)), np.zeros(one), np.zeros(one), np.zeros(one), np.ones(one),
        np.ones((group_count, c, LANES)), np.ones(3),
    )  # fmt: skip


@inlined
def fullest(data, weight, result, first, last, keep, slot_table, e):
    """Share of its capacity that tiles of so many words take of the fullest slot."""
    most = 0.0
    for s in range(first, last + 1):
        held = data * slot_table[e, s, BITS] if keep[0, s, 0] else 0.0
        held += weight * slot_table[e, s, BITS + 1] if keep[0, s, 1] else 0.0
        held += result * slot_table[e, s, BITS + 2] if keep[0, s, 2] else 0.0
        most = max(most, held / slot_table[e, s, CAPACITY])
    return most


@inlined
def fullness(floats, ints, o, first, last, tile, keep, slot_table, e):
    """How full the tightest storage among slots first..last is (above 1: does not fit).

    Args:
        tile: [D] extents of the group's tile.
    """
    dim_count = tile.shape[0]
    still = dim_count + STILL
    data, weight, result = 1.0, 1.0, 1.0
    for d in range(dim_count):
        extent = min(tile[d], floats[o, d])
        data *= extent + (1.0 - extent) * floats[o, still + d]
        weight *= extent + (1.0 - extent) * floats[o, still + dim_count + d]
        result *= extent + (1.0 - extent) * floats[o, still + 2 * dim_count + d]
    for k in range(ints[o, SLIDES]):
        p, r = ints[o, SLIDE_DIM + 2 * k], ints[o, SLIDE_DIM + 2 * k + 1]
        area = min(tile[p], floats[o, p])
        span = floats[o, dim_count + COEFFICIENT + 2 * k] * (area - 1.0) + 1.0
        if r >= 0:
            other = min(tile[r], floats[o, r])
            span += floats[o, dim_count + COEFFICIENT + 2 * k + 1] * (other - 1.0)
            area *= other
        data *= span / area
    return fullest(data, weight, result, first, last, keep, slot_table, e)


@inlined
def word_price(slot_table, e, t, outer, inner_slot):
    """J to read a word of operand ``t`` at one slot and write it at another."""
    return slot_table[e, inner_slot, BITS + t] * (
        slot_table[e, outer, READ_J] / slot_table[e, outer, BLOCK]
        + slot_table[e, inner_slot, WRITE_J] / slot_table[e, inner_slot, BLOCK]
    )


@inlined
def price_words(keep, slot_table, e, first, last, passing, price):
    """Price what a group brings in, see :func:`transfer_cost`; returns ``passing`` or -1."""
    slot_count = keep.shape[1]
    for t in range(3):
        price[t] = 0.0
        parent = first - 1
        while not keep[0, parent, t]:
            parent -= 1
        for s in range(first, last + 1):
            if keep[0, s, t] and price[t] == 0.0:
                # Partial sums travel both ways.
                price[t] = word_price(slot_table, e, t, parent, s) * (2.0 if t == 2 else 1.0)
    if passing < 0 or price[passing] > 0.0:
        return -1
    inside = last + 1
    while inside < slot_count and not keep[0, inside, passing]:
        inside += 1
    if inside == slot_count:
        return -1
    parent = first - 1
    while not keep[0, parent, passing]:
        parent -= 1
    price[passing] = word_price(slot_table, e, passing, parent, inside)
    return passing


@inlined
def describe(floats, ints, o, order, room):
    """Note the extents of problem ``o``, and which dimensions move which operand, or slide."""
    dim_count = order.shape[1]
    for d in range(dim_count):
        c, v = d >> SHIFT, d & LANE
        room.extent[c, v] = floats[o, d]
        for t in range(3):
            still = floats[o, dim_count + STILL + t * dim_count + d]
            room.rests[t, c, v], room.counted[t, c, v] = still, 1.0 - still
    for k in range(2 * ints[o, SLIDES]):
        d = ints[o, SLIDE_DIM + k]
        if d >= 0:
            room.counted[INPUT, d >> SHIFT, d & LANE] = 0.0
    for hold in range(3):
        for j in range(dim_count):
            d = order[hold, j]
            room.place[hold, d >> SHIFT, d & LANE] = j


@inlined
def begin_group(floats, o, groups, g, fanout_slots, element, template, factors, w, room):
    """Start group ``g`` of row ``w`` with the smallest tiles."""
    first, last = groups[g, 0], groups[g, 1]
    innermost = g == groups.shape[0] - 1
    for d in range(factors.shape[2]):
        base, outside = 1.0, 1.0
        for s in range(last + 1, factors.shape[1]):
            base *= factors[w, s, d]
        for f in range(fanout_slots.shape[0]):
            if fanout_slots[f] < first:
                outside *= factors[w, fanout_slots[f], d]
        c, v = d >> SHIFT, d & LANE
        room.base[c, v], room.outside[c, v], room.factor[c, v] = base, outside, 1.0
        room.steps[c, v] = np.ceil(floats[o, d] / (base * outside))
        room.visits[c, v] = np.ceil(floats[o, d] / base)
        room.free[c, v] = 1.0 if not innermost or element[template, d] else 0.0
        for h in range(g):
            room.beyond[h, c, v] = base
            for f in range(fanout_slots.shape[0]):
                if groups[h, 1] < fanout_slots[f] < first:
                    room.beyond[h, c, v] *= factors[w, fanout_slots[f], d]


@inlined
def tile_of(room, d):
    """Extent of the group's tile along a dimension."""
    c, v = d >> SHIFT, d & LANE
    return min(room.base[c, v] * room.factor[c, v], room.extent[c, v])


@inlined
def sliding(floats, ints, o, k, dim_count):
    """Sliding rank ``k``: its dimensions (the second may be -1) and their coefficients."""
    p, r = ints[o, SLIDE_DIM + 2 * k], ints[o, SLIDE_DIM + 2 * k + 1]
    at = dim_count + COEFFICIENT + 2 * k
    return p, r, floats[o, at], floats[o, at + 1]


@inlined
def weigh_tiles(floats, ints, o, dim_count, room):
    """For every dimension, the words of each operand's tile as a line over the dimension's tile."""
    for t in range(3):
        whole = spread(1.0)
        for c in range(room.extent.shape[0]):
            tile = smaller(load(room.base, c) * load(room.factor, c), load(room.extent, c))
            whole = whole * (1.0 + (tile - 1.0) * load(room.counted, (t, c)))
        words, spans = product(whole), 1.0
        if t == INPUT:
            for k in range(ints[o, SLIDES]):
                p, r, a, b = sliding(floats, ints, o, k, dim_count)
                span = a * (tile_of(room, p) - 1.0) + 1.0
                spans *= span + b * (tile_of(room, r) - 1.0) if r >= 0 else span
        for c in range(room.extent.shape[0]):
            counted = load(room.counted, (t, c))
            tile = smaller(load(room.base, c) * load(room.factor, c), load(room.extent, c))
            # Whole numbers, so the quotient is exact.
            others = (spans * words) / (1.0 + (tile - 1.0) * counted)
            store(room.extents, (t, c), others * counted)
            store(room.held, (t, c), others * (1.0 - counted))
        if t == INPUT:
            for k in range(ints[o, SLIDES]):
                p, r, a, b = sliding(floats, ints, o, k, dim_count)
                along_p = a * (tile_of(room, p) - 1.0)
                along_r = b * (tile_of(room, r) - 1.0) if r >= 0 else 0.0
                others = spans / (along_p + along_r + 1.0) * words
                room.extents[t, p >> SHIFT, p & LANE] = others * a
                room.held[t, p >> SHIFT, p & LANE] = others * (1.0 - a + along_r)
                if r >= 0:
                    room.extents[t, r >> SHIFT, r & LANE] = others * b
                    room.held[t, r >> SHIFT, r & LANE] = others * (1.0 - b + along_p)


@inlined
def inmost_mover(room, t, hold, outside_of):
    """Place of the innermost loop that moves operand ``t`` (-1: none), of those outside a place."""
    found = spread(-1.0)
    for c in range(room.extent.shape[0]):
        place = load(room.place, (hold, c))
        moves = (load(room.rests, (t, c)) == 0.0) & (load(room.steps, c) > 1.0)
        found = larger(found, where(moves & (place < outside_of), place, -1.0))
    return largest(found)


@inlined
def times_brought(room, t, hold, outside_of):
    """How often the loops outside a place that leave operand ``t`` bring it in all the same."""
    times = spread(1.0)
    for c in range(room.extent.shape[0]):
        again = (load(room.rests, (t, c)) > 0.0) & (load(room.place, (hold, c)) < outside_of)
        times = times * where(again, load(room.steps, c), 1.0)
    return product(times)


@inlined
def weigh_transfers(floats, o, dim_count, room, hold, passing):
    """For every dimension, the energy of filling the group as a line over the dimension's steps.

    An operand's tile is brought in again by every loop further out than the innermost one that
    moves the operand; loops inside that one leave it where it is.

    Args:
        hold: The loop order in use outside the group, by the operand it holds.
        passing: Operand that the group does not store but its own loops hold still further in
            (-1: none): it is brought in once for every step outside the group.
    """
    for c in range(room.extent.shape[0]):
        for part in range(2):
            store(room.brought, (part, c), 0.0)
            store(room.again, (part, c), 0.0)
            store(room.settled, (part, c), 0.0)
    for t in range(3):
        if room.price[t] == 0.0:
            continue
        part = 0 if t == INPUT else 1
        # Places of the innermost and the next loop that moves the operand, and how often the loops
        # outside of each bring it in.
        inmost = float(dim_count) if t == passing else inmost_mover(room, t, hold, dim_count)
        next_in = inmost if t == passing else inmost_mover(room, t, hold, inmost)
        times, next_times = (
            times_brought(room, t, hold, inmost),
            times_brought(room, t, hold, next_in),
        )
        words = floats[o, dim_count + SIZE + t] * room.price[t]
        for c in range(room.extent.shape[0]):
            place = load(room.place, (hold, c))
            repeats = (load(room.rests, (t, c)) > 0.0) & (place < inmost)
            now = spread(words * times)
            again = where(repeats, now / load(room.steps, c), 0.0)
            store(room.again, (part, c), load(room.again, (part, c)) + again)
            brought = load(room.brought, (part, c)) + where(repeats, 0.0, now)
            store(room.brought, (part, c), brought)
            saved = where(place == inmost, words * (times - next_times), 0.0)
            store(room.settled, (part, c), load(room.settled, (part, c)) + saved)


@inlined
def weigh_reach(floats, ints, o, dim_count, room):
    """For every dimension, the words along the sliding ranks as a line over its number of tiles."""
    total = 1.0
    for k in range(ints[o, SLIDES]):
        total *= reach_of(floats, ints, o, k, dim_count, room)
    for c in range(room.extent.shape[0]):
        store(room.reach, c, total)
        store(room.stretch, c, 0.0)
    for k in range(ints[o, SLIDES]):
        p, r, a, b = sliding(floats, ints, o, k, dim_count)
        others = total / reach_of(floats, ints, o, k, dim_count, room)
        size_p, tiles_p = floats[o, p], room.visits[p >> SHIFT, p & LANE]
        size_r, tiles_r = 1.0, 1.0
        if r >= 0:
            size_r, tiles_r = floats[o, r], room.visits[r >> SHIFT, r & LANE]
            room.reach[r >> SHIFT, r & LANE] = others * b * size_r * tiles_p
            more = a * (size_p - tiles_p) + (1.0 - b) * tiles_p
            room.stretch[r >> SHIFT, r & LANE] = others * more
        room.reach[p >> SHIFT, p & LANE] = others * a * size_p * tiles_r
        more = b * (size_r - tiles_r) if r >= 0 else 0.0
        room.stretch[p >> SHIFT, p & LANE] = others * ((1.0 - a) * tiles_r + more)


@inlined
def reach_of(floats, ints, o, k, dim_count, room):
    """Words along sliding rank ``k`` of all tiles brought in, one behind the other."""
    p, r, a, b = sliding(floats, ints, o, k, dim_count)
    tiles = room.visits[p >> SHIFT, p & LANE]
    reach = a * (floats[o, p] - tiles) + tiles
    if r >= 0:
        others = room.visits[r >> SHIFT, r & LANE]
        reach = reach * others + b * (floats[o, r] - others) * tiles
    return reach


@inlined
def room_taken(room, c, tile, first, last, keep, slot_table, e):
    """Share of its capacity taken of the fullest slot as each dimension in turn has ``tile``."""
    tile = smaller(tile, load(room.extent, c))
    data = load(room.held, (0, c)) + load(room.extents, (0, c)) * tile
    weight = load(room.held, (1, c)) + load(room.extents, (1, c)) * tile
    result = load(room.held, (2, c)) + load(room.extents, (2, c)) * tile
    most = spread(0.0)
    for s in range(first, last + 1):
        bits_0 = slot_table[e, s, BITS] if keep[0, s, 0] else 0.0
        bits_1 = slot_table[e, s, BITS + 1] if keep[0, s, 1] else 0.0
        bits_2 = slot_table[e, s, BITS + 2] if keep[0, s, 2] else 0.0
        held = data * bits_0 + weight * bits_1 + result * bits_2
        most = larger(most, held / slot_table[e, s, CAPACITY])
    return most


@inlined
def cost_of(room, c, steps, visits):
    """Energy of filling the group (J) as each dimension in turn takes so many steps and visits."""
    single = steps <= 1.0
    data = load(room.brought, (0, c)) + load(room.again, (0, c)) * steps
    data = data - where(single, load(room.settled, (0, c)), 0.0)
    rest = load(room.brought, (1, c)) + load(room.again, (1, c)) * steps
    rest = rest - where(single, load(room.settled, (1, c)), 0.0)
    return data * (load(room.reach, c) + load(room.stretch, c) * visits) + rest


@inlined
def try_steps(room, first, last, keep, slot_table, e):
    """For every dimension, what its next step gains (0: nothing, or it does not fit)."""
    for c in range(room.extent.shape[0]):
        extent, steps, base = load(room.extent, c), load(room.steps, c), load(room.base, c)
        shared = load(room.outside, c) * base
        # Far fewer steps; one fewer if that does not fit.
        fewer = round_up(steps / where(steps >= 16.0, spread(4.0), 2.0))
        factor = round_up(extent / (shared * fewer))
        taken = room_taken(room, c, base * factor, first, last, keep, slot_table, e)
        if anywhere(taken > 1.0):
            less = round_up(extent / (shared * (steps - 1.0)))
            factor = where((taken > 1.0) & (steps > 1.0), less, factor)
            taken = room_taken(room, c, base * factor, first, last, keep, slot_table, e)
        tile = base * factor
        now = room_taken(room, c, base * load(room.factor, c), first, last, keep, slot_table, e)
        saved = cost_of(room, c, steps, load(room.visits, c)) - cost_of(
            room, c, round_up(extent / (shared * factor)), round_up(extent / tile)
        )
        gain = saved / (larger(taken - now, 0.0) + LEAST_ROOM)
        allowed = (taken <= 1.0) & (steps > 1.0) & (load(room.free, c) > 0.0)
        store(room.gain, c, where(allowed, gain, 0.0))
        store(room.better, c, factor)


@inlined
def outer_groups_fit(floats, ints, o, dim_count, e, slot_table, keep, groups, g, room):
    """Whether the storages outside group ``g`` hold its tile."""
    fits = True
    for h in range(g):
        data, weight, result = spread(1.0), spread(1.0), spread(1.0)
        for c in range(room.extent.shape[0]):
            tile = smaller(load(room.beyond, (h, c)) * load(room.factor, c), load(room.extent, c))
            data = data * (1.0 + (tile - 1.0) * load(room.counted, (0, c)))
            weight = weight * (1.0 + (tile - 1.0) * load(room.counted, (1, c)))
            result = result * (1.0 + (tile - 1.0) * load(room.counted, (2, c)))
        spans = 1.0
        for k in range(ints[o, SLIDES]):
            p, r, a, b = sliding(floats, ints, o, k, dim_count)
            c, v = p >> SHIFT, p & LANE
            tile_p = min(room.beyond[h, c, v] * room.factor[c, v], room.extent[c, v])
            span = a * (tile_p - 1.0) + 1.0
            if r >= 0:
                c, v = r >> SHIFT, r & LANE
                tile_r = min(room.beyond[h, c, v] * room.factor[c, v], room.extent[c, v])
                span += b * (tile_r - 1.0)
            spans *= span
        full = fullest(
            product(data) * spans, product(weight), product(result), groups[h, 0], groups[h, 1],
            keep, slot_table, e,
        )  # fmt: skip
        fits = fits and full <= 1.0
    return fits


@inlined
def grow_group(
    floats, ints, o, e, slot_table, keep, groups, g, element, template, hold, own_hold,
    fanout_slots, factors, w, room,
):  # fmt: skip
    """Choose the temporal factors of one group of storages, all groups inside it being done.

    Args:
        groups: int64[G, 2] first and last slot of each group, outer to inner; a group's loops
            live in its last slot.
        hold: Operand the loops outside the group hold; ``own_hold`` the one its own loops hold.
        room: Work space, :func:`describe` having been called for problem ``o``.
    """
    first, last, dim_count = groups[g, 0], groups[g, 1], factors.shape[2]
    begin_group(floats, o, groups, g, fanout_slots, element, template, factors, w, room)
    passing = price_words(
        keep, slot_table, e, first, last, -1 if g == groups.shape[0] - 1 else own_hold, room.price
    )
    grown = 0
    while grown >= 0:
        weigh_tiles(floats, ints, o, dim_count, room)
        weigh_transfers(floats, o, dim_count, room, hold, passing)
        weigh_reach(floats, ints, o, dim_count, room)
        try_steps(room, first, last, keep, slot_table, e)
        while True:
            most, grown = 0.0, -1
            for d in range(dim_count):
                if room.gain[d >> SHIFT, d & LANE] > most:
                    most, grown = room.gain[d >> SHIFT, d & LANE], d
            if grown < 0:
                break
            c, v = grown >> SHIFT, grown & LANE
            before, room.factor[c, v] = room.factor[c, v], room.better[c, v]
            if outer_groups_fit(floats, ints, o, dim_count, e, slot_table, keep, groups, g, room):
                tile = room.base[c, v] * room.factor[c, v]
                room.steps[c, v] = np.ceil(floats[o, grown] / (tile * room.outside[c, v]))
                room.visits[c, v] = np.ceil(floats[o, grown] / tile)
                break
            # Nor will it fit after other dimensions have grown.
            room.factor[c, v], room.gain[c, v], room.free[c, v] = before, 0.0, 0.0
    for d in range(dim_count):
        factors[w, last, d] = room.factor[d >> SHIFT, d & LANE]
