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
from archsim.models.loopnest.growth import describe, grow_group
from archsim.models.loopnest.kernel import COMPUTE_CYCLES, CYCLES, ENERGY_J, OVERFLOW

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


@inlined
def map_operation(
    floats, ints, problem_of, engine_of, fanout, keep, slot_table, engine, template, objective,
    extra, unroll, alternatives, element, stationary, order, groups, fanout_slots, axes, width,
    factors, orders, results, room, work, no_counts,
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
        room, work: Work space of the growth and of the kernel.

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
    describe(floats, ints, o, order, room)
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
                    floats, ints, o, e, slot_table, keep, groups, g, element, template,
                    hold_inner if g == group_count - 1 else hold_outer,
                    hold_inner if g >= group_count - 2 else hold_outer,
                    fanout_slots, factors, w, room,
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
