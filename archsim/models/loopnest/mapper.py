"""Choosing tile sizes: the compiled search of a dataflow template's tilings.

Levels of temporal loops: the tier, then one level for every group of storages between fanouts. For
each candidate (unrolling, loop order) the tiles grow greedily, inner level first, always by the
step that saves most transfer energy for the capacity it takes; the exact kernel then judges the
candidates, and, at higher effort, a deterministic local search improves the best one.
"""

from __future__ import annotations

import numpy as np

from archsim.models.jit import inlined, inner
from archsim.models.lanes import LANES
from archsim.models.loopnest import kernel
from archsim.models.loopnest.kernel import (
    BITS,
    BLOCK,
    CAPACITY,
    COEFFICIENT,
    COMPUTE_CYCLES,
    CYCLES,
    ENERGY_J,
    INPUT,
    OVERFLOW,
    READ_J,
    SIZE,
    SLIDE_DIM,
    SLIDES,
    STILL,
    WRITE_J,
)

#: What a mapping is chosen for.
OBJECTIVES = ("edp", "energy", "latency")
#: Kernel evaluations a layer may spend beyond the template's own candidates.
EFFORTS = {"fast": 0, "thorough": 600, "optimal": 600}


@inlined
def score(objective, results, w):
    """The figure to minimise; an overflowing mapping is worse than any that fits."""
    if results[w, OVERFLOW] > 0.0:
        return 1e300 * (1.0 + min(results[w, OVERFLOW], 1e6))
    if objective == 0:
        return results[w, ENERGY_J] * results[w, CYCLES]
    # The other figure breaks ties: ten times more of it weighs as much as 0.02 % of this one.
    if objective == 1:
        return results[w, ENERGY_J] * results[w, CYCLES] ** 1e-4
    return results[w, CYCLES] * results[w, ENERGY_J] ** 1e-4


@inlined
def fullness(floats, ints, o, first, last, tile, changed, value, keep, slot_table, e):
    """How full the tightest storage among slots first..last is (above 1: does not fit).

    Args:
        tile: Extents of the group's tile; that of dimension ``changed`` is taken as ``value``.
    """
    dim_count = tile.shape[0]
    still = dim_count + STILL
    data, weight, result = 1.0, 1.0, 1.0
    for d in range(dim_count):
        extent = min(value if d == changed else tile[d], floats[o, d])
        data *= extent + (1.0 - extent) * floats[o, still + d]
        weight *= extent + (1.0 - extent) * floats[o, still + dim_count + d]
        result *= extent + (1.0 - extent) * floats[o, still + 2 * dim_count + d]
    for k in range(ints[o, SLIDES]):
        p, r = ints[o, SLIDE_DIM + 2 * k], ints[o, SLIDE_DIM + 2 * k + 1]
        area = min(value if p == changed else tile[p], floats[o, p])
        span = floats[o, dim_count + COEFFICIENT + 2 * k] * (area - 1.0) + 1.0
        if r >= 0:
            other = min(value if r == changed else tile[r], floats[o, r])
            span += floats[o, dim_count + COEFFICIENT + 2 * k + 1] * (other - 1.0)
            area *= other
        data *= span / area
    fullest = 0.0
    for s in range(first, last + 1):
        held = data * slot_table[e, s, BITS] if keep[0, s, 0] else 0.0
        held += weight * slot_table[e, s, BITS + 1] if keep[0, s, 1] else 0.0
        held += result * slot_table[e, s, BITS + 2] if keep[0, s, 2] else 0.0
        fullest = max(fullest, held / slot_table[e, s, CAPACITY])
    return fullest


@inlined
def transfer_cost(
    floats, ints, o, steps, visits, changed, value, all_value, order, hold, passing, price
):
    """Energy of filling a group's tiles, estimated: stationarity and multicast, no halo.

    Args:
        steps: Temporal steps outside the group along each dimension; ``visits`` all its tiles,
            over instances too. For dimension ``changed`` they are ``value`` and ``all_value``.
        order: int64[3, D] loop orders; ``hold`` the one in use outside the group.
        passing: Operand that the group does not store but its own loops hold still further in
            (-1: none): it is brought in once for every step outside the group.
        price: [3] J per word brought in.
    """
    dim_count = steps.shape[0]
    total = 0.0
    for t in range(3):
        if price[t] == 0.0:
            continue
        words = floats[o, dim_count + SIZE + t] * price[t]
        still = dim_count + STILL + t * dim_count
        moving = 1.0 if t == passing else 0.0
        for j in range(dim_count - 1, -1, -1):
            d = order[hold, j]
            n = value if d == changed else steps[d]
            rests = floats[o, still + d]
            words *= 1.0 + (n - 1.0) * rests * moving
            moving = max(moving, (1.0 - rests) * min(n - 1.0, 1.0))
        if t == INPUT:
            for k in range(ints[o, SLIDES]):
                p, r = ints[o, SLIDE_DIM + 2 * k], ints[o, SLIDE_DIM + 2 * k + 1]
                a = floats[o, dim_count + COEFFICIENT + 2 * k]
                n = all_value if p == changed else visits[p]
                span = a * (floats[o, p] - n) + n
                if r >= 0:
                    b = floats[o, dim_count + COEFFICIENT + 2 * k + 1]
                    m = all_value if r == changed else visits[r]
                    span = span * m + b * (floats[o, r] - m) * n
                words *= span
        total += words
    return total


@inlined
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
                left = np.ceil(left / factors[w, fanout_slots[g], d])
            take = min(free, left)
            if take < 2.0:
                continue
            rounds = np.ceil(left / take)
            take = np.ceil(left / rounds)
            factors[w, s, d] = take
            steps *= rounds / left
            free = np.floor(free / take)
    return steps


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
def outer_groups_fit(
    floats, ints, o, e, slot_table, keep, groups, g, fanout_slots, factors, w, grown, k, probe
):
    """Whether the storages outside group ``g`` hold its tile once dimension ``grown`` has ``k``."""
    fits = True
    for h in range(g):
        for d in range(probe.shape[0]):
            probe[d] = 1.0
            for s in range(groups[g, 0], factors.shape[1]):
                changed = s == groups[g, 1] and d == grown
                probe[d] *= k if changed else factors[w, s, d]
            for f in range(fanout_slots.shape[0]):
                if groups[h, 1] < fanout_slots[f] < groups[g, 0]:
                    probe[d] *= factors[w, fanout_slots[f], d]
        full = fullness(
            floats, ints, o, groups[h, 0], groups[h, 1], probe, -1, 0.0, keep, slot_table, e
        )
        fits = fits and full <= 1.0
    return fits


@inner
def grow_group(
    floats, ints, o, e, slot_table, keep, groups, g, element, template, order, hold, own_hold,
    fanout_slots, factors, w, tile, outside, steps, visits, probe, price,
):  # fmt: skip
    """Choose the temporal factors of one group of storages, all groups inside it being done.

    Args:
        groups: int64[G, 2] first and last slot of each group, outer to inner; a group's loops
            live in its last slot.
        hold: Operand the loops outside the group hold; ``own_hold`` the one its own loops hold.
        tile, outside, steps, visits, probe: Work vectors [D]; ``price`` [3].
    """
    dim_count = tile.shape[0]
    first, last = groups[g, 0], groups[g, 1]
    innermost = g == groups.shape[0] - 1
    for d in range(dim_count):
        tile[d], outside[d] = 1.0, 1.0
        for s in range(last + 1, factors.shape[1]):
            tile[d] *= factors[w, s, d]
        for f in range(fanout_slots.shape[0]):
            if fanout_slots[f] < first:
                outside[d] *= factors[w, fanout_slots[f], d]
        factors[w, last, d] = 1
        steps[d] = np.ceil(floats[o, d] / (tile[d] * outside[d]))
        visits[d] = np.ceil(floats[o, d] / tile[d])
    passing = price_words(keep, slot_table, e, first, last, -1 if innermost else own_hold, price)
    full = fullness(floats, ints, o, first, last, tile, -1, 0.0, keep, slot_table, e)
    cost = transfer_cost(floats, ints, o, steps, visits, -1, 0.0, 0.0, order, hold, passing, price)
    stuck = 0  # dimensions whose growth would overflow a storage further out
    while True:
        best_gain, best_d, best_k, best_cost, best_full = 0.0, -1, 1.0, cost, full
        for d in range(dim_count):
            if steps[d] <= 1.0 or (stuck >> d) & 1 or (innermost and not element[template, d]):
                continue
            extent, base = floats[o, d], tile[d] / factors[w, last, d]
            for attempt in range(2):  # far fewer steps; one fewer if that does not fit
                leap = 4.0 if steps[d] >= 16.0 else 2.0
                fewer = np.ceil(steps[d] / leap) if attempt == 0 else steps[d] - 1.0
                k = np.ceil(extent / (outside[d] * base * fewer))
                trial = base * k
                new_full = fullness(
                    floats, ints, o, first, last, tile, d, trial, keep, slot_table, e
                )
                if new_full <= 1.0:
                    new_cost = transfer_cost(
                        floats, ints, o, steps, visits, d, np.ceil(extent / (trial * outside[d])),
                        np.ceil(extent / trial), order, hold, passing, price,
                    )  # fmt: skip
                    gain = (cost - new_cost) / (max(new_full - full, 0.0) + 1e-3)
                    if gain > best_gain:
                        best_gain, best_d, best_k = gain, d, k
                        best_cost, best_full = new_cost, new_full
                    break
                if steps[d] <= 3.0:
                    break
        if best_d < 0:
            break
        d = best_d
        if g > 0 and not outer_groups_fit(
            floats, ints, o, e, slot_table, keep, groups, g, fanout_slots, factors, w, d, best_k,
            probe,
        ):  # fmt: skip
            stuck |= 1 << d
            continue
        tile[d] = tile[d] / factors[w, last, d] * best_k
        factors[w, last, d] = best_k
        steps[d] = np.ceil(floats[o, d] / (tile[d] * outside[d]))
        visits[d] = np.ceil(floats[o, d] / tile[d])
        cost, full = best_cost, best_full


@inlined
def finish(floats, o, factors, w):
    """Leave to the tier whatever the inner factors do not cover."""
    for d in range(factors.shape[2]):
        inside = 1.0
        for s in range(1, factors.shape[1]):
            inside *= factors[w, s, d]
        factors[w, 0, d] = np.ceil(floats[o, d] / inside)


@inlined
def set_order(order, groups, group_count, orders, w, hold_inner, hold_outer, dim_count):
    """Write loop orders: what the level outside the innermost group holds, and all others."""
    for d in range(dim_count):
        outermost = hold_inner if group_count == 1 else hold_outer
        orders[w, 0, d] = order[outermost, d]
        for g in range(group_count):
            hold = hold_inner if g >= group_count - 2 else hold_outer
            orders[w, groups[g, 1], d] = order[hold, d]


@inlined
def copy_row(factors, orders, source, target):
    """Copy a mapping between rows."""
    for s in range(factors.shape[1]):
        for d in range(factors.shape[2]):
            factors[target, s, d] = factors[source, s, d]
            orders[target, s, d] = orders[source, s, d]


@inner
def judge(
    floats, ints, problem_of, engine_of, fanout, keep, slot_table, engine, objective, factors,
    orders, results, best, candidates, work, no_counts,
):  # fmt: skip
    """Evaluate the candidates in rows 1..; the best mapping ends in row 0. Returns its score."""
    kernel.evaluate_some(
        1, 1 + candidates, problem_of, engine_of, floats, ints, factors, orders, keep, fanout,
        False, slot_table, engine, work, results, no_counts,
    )  # fmt: skip
    chosen = 0
    for w in range(1, candidates + 1):
        value = score(objective, results, w)
        if value < best:  # never if it is not a number
            chosen, best = w, value
    if chosen > 0:
        copy_row(factors, orders, chosen, 0)
        for k in range(results.shape[1]):
            results[0, k] = results[chosen, k]
    return best


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
        factor *= 2.0
    elif kind == 1:
        factor = np.ceil(factor / 2.0)
    elif kind == 2:
        factor += 1.0
    else:
        factor = max(1.0, factor - 1.0)
    factors[w, s, d] = 1
    inside = 1.0
    for q in range(1, factors.shape[1]):
        inside *= factors[w, q, d]
    factor = min(factor, np.ceil(floats[o, d] / inside))
    factors[w, s, d] = factor
    factors[w, 0, d] = np.ceil(floats[o, d] / (inside * factor))
    return state


@inner
def map_operation(
    floats, ints, problem_of, engine_of, fanout, keep, slot_table, engine, template, objective,
    extra, unroll, alternatives, element, stationary, order, groups, fanout_slots, axes, width,
    factors, orders, results, tile, outside, steps, seen, probe, price, work, no_counts,
):  # fmt: skip
    """Map one operation on one engine; the best mapping ends in row 0.

    Args:
        floats, ints: Problem tables; ``problem_of`` int64[1], row of both.
        engine_of: int64[1], row of ``slot_table`` and ``engine``.
        fanout: bool[S]; ``keep`` bool[1, S, 3], what the machine's slots hold.
        template, objective, extra: Template row, index into ``OBJECTIVES``, extra evaluations.
        unroll ... order: See :class:`TemplateTable`.
        groups, fanout_slots, axes, width: The nest's structure, see ``nest.py``.
        factors, orders: Work [1 + LANES, S, D]; ``results`` [1 + LANES, RESULTS].
        The rest: work space.

    Returns:
        The score of the best mapping.
    """
    dim_count = factors.shape[2]
    group_count = groups.shape[0]
    o, e = problem_of[0], engine_of[0]
    best = np.inf
    # What stands if no candidate can be priced at all: finite, and far from fitting.
    for k in range(results.shape[1]):
        results[0, k] = 0.0
    results[0, CYCLES], results[0, ENERGY_J], results[0, OVERFLOW] = 1e15, 1e9, 1e6
    results[0, COMPUTE_CYCLES] = 1e15
    hold_inner = stationary[template]
    chosen, fewest = 0, np.inf
    for a in range(alternatives[template]):
        rounds = unroll_fanouts(
            floats, o, dim_count, unroll, template, a, fanout_slots, axes, width, factors, 1
        )
        if rounds < fewest * (1.0 - 1e-9):
            chosen, fewest = a, rounds
    for pick in range(alternatives[template]):
        a = (chosen + pick) % alternatives[template]
        if pick > 0 and extra == 0:
            break
        for s in range(factors.shape[1]):
            for d in range(dim_count):
                factors[1, s, d] = 1
        unroll_fanouts(
            floats, o, dim_count, unroll, template, a, fanout_slots, axes, width, factors, 1
        )
        candidates = 3 if group_count > 1 else 1
        for hold_outer in range(candidates):
            w = 1 + hold_outer
            if hold_outer > 0:
                copy_row(factors, orders, 1, w)
            for g in range(group_count - 1, -1, -1):
                if g == group_count - 1 and hold_outer > 0:
                    continue  # the innermost group does not depend on what is held further out
                grow_group(
                    floats, ints, o, e, slot_table, keep, groups, g, element, template, order,
                    hold_inner if g == group_count - 1 else hold_outer,
                    hold_inner if g >= group_count - 2 else hold_outer,
                    fanout_slots, factors, w, tile, outside, steps, seen, probe, price,
                )  # fmt: skip
            finish(floats, o, factors, w)
            set_order(order, groups, group_count, orders, w, hold_inner, hold_outer, dim_count)
        best = judge(
            floats, ints, problem_of, engine_of, fanout, keep, slot_table, engine, objective,
            factors, orders, results, best, candidates, work, no_counts,
        )  # fmt: skip
    state = 88172645463325252
    for _ in range(extra // LANES):
        for w in range(1, LANES + 1):
            copy_row(factors, orders, 0, w)
            state = mutate(
                floats, o, dim_count, groups, group_count, order, factors, orders, w, state
            )
            if (state >> 40) % 3 == 0:
                state = mutate(
                    floats, o, dim_count, groups, group_count, order, factors, orders, w, state
                )
        best = judge(
            floats, ints, problem_of, engine_of, fanout, keep, slot_table, engine, objective,
            factors, orders, results, best, LANES, work, no_counts,
        )  # fmt: skip
    return best
