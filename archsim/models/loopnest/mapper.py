"""Choosing tile sizes: the compiled search of a dataflow template's tilings.

Levels of temporal loops: the tier, then one level for every group of storages between fanouts. For
each candidate (unrolling, loop order) the tiles grow greedily, inner level first, always by the
step that saves most transfer energy for the capacity it takes; the exact kernel then judges the
candidates, and, at higher effort, a deterministic local search improves the best one.
"""

from __future__ import annotations

import math

import numpy as np

from archsim.models.jit import inner
from archsim.models.loopnest import kernel
from archsim.models.loopnest.kernel import (
    BITS,
    BLOCK,
    CAPACITY,
    COEFFICIENT,
    CYCLES,
    ENERGY_J,
    INPUT,
    OVERFLOW,
    READ_J,
    SLIDE_DIM,
    SLIDES,
    STILL,
    WRITE_J,
)

#: What a mapping is chosen for.
OBJECTIVES = ("edp", "energy", "latency")
#: Kernel evaluations a layer may spend beyond the template's own candidates.
EFFORTS = {"fast": 0, "thorough": 600}


@inner
def score(objective, results, w):
    """The figure to minimise; an overflowing mapping is worse than any that fits."""
    if results[w, OVERFLOW] > 0.0:
        return 1e300 * (1.0 + min(results[w, OVERFLOW], 1e6))
    if objective == 0:
        return results[w, ENERGY_J] * results[w, CYCLES]
    return results[w, ENERGY_J] if objective == 1 else results[w, CYCLES]


@inner
def tile_bits(floats, ints, o, t, tile, bits, dim_count):
    """Bits of a tensor's tile (a vector of extents, clipped to the problem)."""
    words = bits
    still = dim_count + STILL + t * dim_count
    for d in range(dim_count):
        if floats[o, still + d] == 0.0:
            words *= min(tile[d], floats[o, d])
    if t == INPUT:
        for k in range(ints[o, SLIDES]):
            p, r = ints[o, SLIDE_DIM + 2 * k], ints[o, SLIDE_DIM + 2 * k + 1]
            area = min(tile[p], floats[o, p])
            span = floats[o, dim_count + COEFFICIENT + 2 * k] * (area - 1.0) + 1.0
            if r >= 0:
                other = min(tile[r], floats[o, r])
                span += floats[o, dim_count + COEFFICIENT + 2 * k + 1] * (other - 1.0)
                area *= other
            words *= span / area
    return words


@inner
def group_fits(floats, ints, o, first, last, tile, keep, slot_table, e, dim_count):
    """Fullness of the tightest storage among slots first..last (above 1: does not fit)."""
    fullest = 0.0
    for s in range(first, last + 1):
        held = 0.0
        for t in range(3):
            if keep[0, s, t]:
                held += tile_bits(floats, ints, o, t, tile, slot_table[e, s, BITS + t], dim_count)
        fullest = max(fullest, held / slot_table[e, s, CAPACITY])
    return fullest


@inner
def transfer_cost(floats, ints, o, tile, outside, order, hold, passing, price, dim_count):
    """Energy of filling a group's tiles, estimated: stationarity and multicast, no halo.

    Args:
        tile: Extents of the group's tile.
        outside: Product of fanout factors outside the group, a dimension each.
        order: int64[3, D] loop orders; ``hold`` the one in use outside the group.
        passing: Operand that the group does not store but its own loops hold still further in
            (-1: none): it is brought in once for every step outside the group.
        price: [3] J per word brought in.
    """
    total = 0.0
    for t in range(3):
        if price[t] == 0.0:
            continue
        words = 1.0
        still = dim_count + STILL + t * dim_count
        moving = t == passing
        for j in range(dim_count - 1, -1, -1):
            d = order[hold, j]
            extent = floats[o, d]
            steps = math.ceil(extent / (tile[d] * outside[d]))
            if floats[o, still + d] == 0.0:
                words *= extent
                moving |= steps > 1.0
            elif moving:
                words *= steps
        if t == INPUT:
            for k in range(ints[o, SLIDES]):
                p, r = ints[o, SLIDE_DIM + 2 * k], ints[o, SLIDE_DIM + 2 * k + 1]
                a = floats[o, dim_count + COEFFICIENT + 2 * k]
                n = math.ceil(floats[o, p] / tile[p])
                span = a * (floats[o, p] - n) + n
                words /= floats[o, p]
                if r >= 0:
                    b = floats[o, dim_count + COEFFICIENT + 2 * k + 1]
                    m = math.ceil(floats[o, r] / tile[r])
                    span = span * m + b * (floats[o, r] - m) * n
                    words /= floats[o, r]
                words *= span
        total += words * price[t]
    return total


@inner
def unroll_fanouts(
    floats, o, dim_count, unroll, template, alternative, fanout_slots, axes, width, factors, w
):  # fmt: skip
    """Fill the fanouts by a template's preferences.

    Args:
        fanout_slots: int64[F] slots, ``axes`` int64[F] their axis, ``width`` float64[F] children.

    Returns:
        Estimated temporal steps (fewer is better).
    """
    steps = 1.0
    for d in range(dim_count):
        steps *= floats[o, d]
    for f in range(fanout_slots.shape[0]):
        s = fanout_slots[f]
        for d in range(dim_count):
            factors[w, s, d] = 1
        free = width[f]
        for j in range(dim_count):
            d = unroll[template, alternative, axes[f], j]
            if d < 0 or free < 2.0:
                break
            left = floats[o, d]
            for g in range(f):
                left = math.ceil(left / factors[w, fanout_slots[g], d])
            take = min(free, left)
            if take < 2.0:
                continue
            rounds = math.ceil(left / take)
            take = math.ceil(left / rounds)
            factors[w, s, d] = int(take)
            steps *= rounds / left
            free = math.floor(free / take)
    return steps


@inner
def grow_tiles(
    floats, ints, o, e, dim_count, slot_table, keep, groups, group_count, element, template,
    order, hold_inner, hold_outer, fanout_slots, factors, w, tile, outside, trial, price,
):  # fmt: skip
    """Choose the temporal factors of every group, inner to outer, and the tier's remainder.

    Args:
        groups: int64[G, 2] first and last slot of each group of storages, outer to inner; the
            group's loops live in its last slot.
        hold_inner, hold_outer: Operand held by the loops just outside the innermost group, and by
            those further out.
        tile, outside, trial: Work vectors [D]; ``price`` [3].

    Returns:
        False if even single-word tiles do not fit somewhere.
    """
    for d in range(dim_count):
        tile[d] = 1.0
    fits = True
    slot_count = factors.shape[1]
    inner_edge = slot_count
    for g in range(group_count - 1, -1, -1):
        first, last = groups[g, 0], groups[g, 1]
        for d in range(dim_count):
            outside[d] = 1.0
            for f in range(fanout_slots.shape[0]):
                s = fanout_slots[f]
                if last < s < inner_edge:
                    tile[d] *= factors[w, s, d]
                elif s < first:
                    outside[d] *= factors[w, s, d]
            factors[w, last, d] = 1
        inner_edge = first
        for t in range(3):
            price[t] = 0.0
            for s in range(first, last + 1):
                if keep[0, s, t] and price[t] == 0.0:
                    parent = first - 1
                    while not keep[0, parent, t]:
                        parent -= 1
                    bits = slot_table[e, s, BITS + t]
                    price[t] = bits * (
                        slot_table[e, parent, READ_J] / slot_table[e, parent, BLOCK]
                        + slot_table[e, s, WRITE_J] / slot_table[e, s, BLOCK]
                    )
                    if t == 2:
                        price[t] *= 2.0
        hold = hold_inner if g == group_count - 1 else hold_outer
        # An operand only kept further in profits from this group's loops if they hold it still.
        passing = hold_inner if g >= group_count - 2 else hold_outer
        if g == group_count - 1 or price[passing] > 0.0:
            passing = -1
        else:
            inner, parent = last + 1, first - 1
            while inner < slot_count and not keep[0, inner, passing]:
                inner += 1
            while not keep[0, parent, passing]:
                parent -= 1
            if inner < slot_count:
                price[passing] = slot_table[e, inner, BITS + passing] * (
                    slot_table[e, parent, READ_J] / slot_table[e, parent, BLOCK]
                    + slot_table[e, inner, WRITE_J] / slot_table[e, inner, BLOCK]
                )
        full = group_fits(floats, ints, o, first, last, tile, keep, slot_table, e, dim_count)
        fits &= full <= 1.0
        cost = transfer_cost(floats, ints, o, tile, outside, order, hold, passing, price, dim_count)
        innermost = g == group_count - 1
        while True:
            best_gain, best_d, best_k, best_cost, best_full = 0.0, -1, 1.0, cost, full
            for d in range(dim_count):
                trial[d] = tile[d]
            for d in range(dim_count):
                if innermost and not element[template, d]:
                    continue
                reach = tile[d] * outside[d]
                visits = math.ceil(floats[o, d] / reach)
                if visits <= 1.0:
                    continue
                base = tile[d] / factors[w, last, d]
                for attempt in range(2):  # half as many visits; one fewer if that does not fit
                    fewer = math.ceil(visits / 2.0) if attempt == 0 else visits - 1.0
                    k = math.ceil(floats[o, d] / (outside[d] * base * fewer))
                    trial[d] = base * k
                    new_full = group_fits(
                        floats, ints, o, first, last, trial, keep, slot_table, e, dim_count
                    )
                    if new_full <= 1.0:
                        new_cost = transfer_cost(
                            floats, ints, o, trial, outside, order, hold, passing, price, dim_count
                        )
                        gain = (cost - new_cost) / (max(new_full - full, 0.0) + 1e-3)
                        if gain > best_gain:
                            best_gain, best_d, best_k = gain, d, k
                            best_cost, best_full = new_cost, new_full
                        break
                    if visits <= 2.0:
                        break
                trial[d] = tile[d]
            if best_d < 0:
                break
            tile[best_d] = tile[best_d] / factors[w, last, best_d] * best_k
            factors[w, last, best_d] = int(best_k)
            cost, full = best_cost, best_full
    for d in range(dim_count):
        for f in range(fanout_slots.shape[0]):
            if fanout_slots[f] < inner_edge:
                tile[d] *= factors[w, fanout_slots[f], d]
        factors[w, 0, d] = int(math.ceil(floats[o, d] / tile[d]))
    return fits


@inner
def set_order(order, groups, group_count, orders, w, hold_inner, hold_outer, dim_count):
    """Write loop orders: the level feeding the innermost group holds one operand, others another."""
    for d in range(dim_count):
        outermost = hold_inner if group_count == 1 else hold_outer
        orders[w, 0, d] = order[outermost, d]
        for g in range(group_count):
            hold = hold_inner if g >= group_count - 2 else hold_outer
            orders[w, groups[g, 1], d] = order[hold, d]


@inner
def copy_row(factors, orders, source, target):
    """Copy a mapping between rows."""
    for s in range(factors.shape[1]):
        for d in range(factors.shape[2]):
            factors[target, s, d] = factors[source, s, d]
            orders[target, s, d] = orders[source, s, d]


@inner
def mutate(floats, o, dim_count, groups, group_count, order, factors, orders, w, state):
    """Change one thing about row ``w``: a tile size, or the order of one level."""
    state = (state * 6364136223846793005 + 1442695040888963407) & 0x7FFFFFFFFFFFFFFF
    draw = state >> 33
    if draw % 5 == 0:
        level = (draw // 5) % (group_count + 1)
        hold = (draw // 64) % 3
        s = 0 if level == 0 else groups[level - 1, 1]
        if (draw // 256) % 2 == 0:
            for j in range(dim_count):
                orders[w, s, j] = order[hold, j]
        else:
            a, b = (draw // 512) % dim_count, (draw // 8192) % dim_count
            orders[w, s, a], orders[w, s, b] = orders[w, s, b], orders[w, s, a]
        return state
    d = (draw // 5) % dim_count
    s = groups[(draw // 64) % group_count, 1]
    factor = factors[w, s, d]
    kind = (draw // 1024) % 4
    if kind == 0:
        factor *= 2
    elif kind == 1:
        factor = (factor + 1) // 2
    elif kind == 2:
        factor += 1
    else:
        factor = max(1, factor - 1)
    factors[w, s, d] = 1
    inside = 1.0
    for q in range(1, factors.shape[1]):
        inside *= factors[w, q, d]
    factor = min(factor, int(math.ceil(floats[o, d] / inside)))
    factors[w, s, d] = factor
    factors[w, 0, d] = int(math.ceil(floats[o, d] / (inside * factor)))
    return state


@inner
def map_operation(
    floats, ints, o, e, fanout, keep, slot_table, engine, template, objective, extra,
    unroll, alternatives, element, stationary, order, groups, fanout_slots, axes, width,
    factors, orders, results, tile, outside, trial, price,
    tiles, visits, again, copies, moving, counts,
):  # fmt: skip
    """Map one operation on one engine; the best mapping ends in row 0.

    Args:
        floats, ints, o: Problem tables and row.
        e: Engine row of ``slot_table`` and ``engine``.
        fanout: bool[S]; ``keep`` bool[1, S, 3], what the machine's slots hold.
        template, objective, extra: Template row, index into ``OBJECTIVES``, extra evaluations.
        unroll ... order: See :class:`TemplateTable`.
        groups, fanout_slots, axes, width: The nest's structure, see ``nest.py``.
        factors, orders: Work [2, S, D]; ``results`` [2, RESULTS].
        The rest: work space.

    Returns:
        The score of the best mapping.
    """
    dim_count = factors.shape[2]
    group_count = groups.shape[0]
    best = np.inf
    hold_inner = stationary[template]
    chosen, fewest = 0, np.inf
    for a in range(alternatives[template]):
        steps = unroll_fanouts(
            floats, o, dim_count, unroll, template, a, fanout_slots, axes, width, factors, 1
        )  # fmt: skip
        if steps < fewest * (1.0 - 1e-9):
            chosen, fewest = a, steps
    for pick in range(alternatives[template]):
        a = (chosen + pick) % alternatives[template]
        if pick > 0 and extra == 0:
            break
        for hold_outer in range(3):
            if group_count == 1 and hold_outer > 0:
                break
            unroll_fanouts(
                floats, o, dim_count, unroll, template, a, fanout_slots, axes, width,
                factors, 1,
            )  # fmt: skip
            grow_tiles(
                floats, ints, o, e, dim_count, slot_table, keep, groups, group_count, element,
                template, order, hold_inner, hold_outer, fanout_slots, factors, 1,
                tile, outside, trial, price,
            )  # fmt: skip
            set_order(order, groups, group_count, orders, 1, hold_inner, hold_outer, dim_count)
            kernel.evaluate_row(
                floats, ints, o, factors, orders, keep, 1, 0, fanout, False, slot_table, engine, e,
                tiles, visits, again, copies, moving, counts, results, 1,
            )  # fmt: skip
            value = score(objective, results, 1)
            if value < best:
                best = value
                copy_row(factors, orders, 1, 0)
                for k in range(results.shape[1]):
                    results[0, k] = results[1, k]
    state = 88172645463325252
    for _ in range(extra):
        copy_row(factors, orders, 0, 1)
        state = mutate(floats, o, dim_count, groups, group_count, order, factors, orders, 1, state)
        if (state >> 40) % 3 == 0:
            state = mutate(
                floats, o, dim_count, groups, group_count, order, factors, orders, 1, state
            )
        kernel.evaluate_row(
            floats, ints, o, factors, orders, keep, 1, 0, fanout, False, slot_table, engine, e,
            tiles, visits, again, copies, moving, counts, results, 1,
        )  # fmt: skip
        value = score(objective, results, 1)
        if value < best:
            best = value
            copy_row(factors, orders, 1, 0)
            for k in range(results.shape[1]):
                results[0, k] = results[1, k]
    return best
