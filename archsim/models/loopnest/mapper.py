"""Choosing tile sizes: the compiled search of a dataflow template's tilings.

Levels of temporal loops: the tier, then one level for every group of storages between fanouts. For
each variant (unrolling, operands kept, operand held by the outer levels; see ``dataflows.py``) the
tiles grow greedily, inner level first, always by the step that saves most transfer energy for the
capacity it takes; the exact kernel then judges the variants, and, at higher effort, a deterministic
local search improves the best one. Variants lie side by side in the lanes of the kernel's own work
space; only the best is ever written as a row.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from archsim.models.jit import inlined, inner, serial
from archsim.models.lanes import LANES, load, round_up, spread, store
from archsim.models.loopnest.growth import describe, grow_group
from archsim.models.loopnest.kernel import (
    BITS,
    BLOCK,
    CAPACITY,
    COMPUTE_CYCLES,
    CYCLES,
    ENERGY_J,
    OVERFLOW,
    READ_J,
    RESULTS,
    WRITE_J,
    evaluate_lanes,
)
from archsim.models.loopnest.unrolling import unroll_fanouts, worth_using

#: What a mapping is chosen for.
OBJECTIVES = ("edp", "energy", "latency")
#: Kernel evaluations a layer may spend beyond the template's own variants.
EFFORTS = {"fast": 0, "thorough": 600, "optimal": 600}
# Columns of a variant, see ``TemplateTable.rows``.
UNROLLING, FRUGAL, KEPT, HOLDS, FIRST = range(5)


class Best(NamedTuple):
    """The best mapping of an operation so far.

    Attributes:
        factors: float64[S, D] loop bounds; ``order`` int64[S, D] loops, outer to inner.
        keep: bool[S, 3], operands kept; ``results`` float64[RESULTS].
    """

    factors: np.ndarray
    order: np.ndarray
    keep: np.ndarray
    results: np.ndarray


@serial
def make_best(slot_count, dim_count):
    """Room for a mapping."""
    order = np.zeros((slot_count, dim_count), np.int64)
    for s in range(slot_count):
        for d in range(dim_count):
            order[s, d] = d
    return Best(
        np.ones((slot_count, dim_count)), order, np.zeros((slot_count, 3), np.bool_),
        np.zeros(RESULTS),
    )  # fmt: skip


@inlined
def score(objective, energy, cycles, overflow):
    """The figure to minimise; an overflowing mapping is worse than any that fits."""
    if overflow > 0.0:
        return 1e300 * (1.0 + min(overflow, 1e6))
    if objective == 0:
        return energy * cycles
    # The other figure breaks ties: ten times more of it weighs as much as 0.02 % of this one.
    if objective == 1:
        return energy * cycles**1e-4
    return cycles * energy**1e-4


@inlined
def word_price(slot_table, e, t, outer, inner_slot):
    """J to read a word of operand ``t`` at one slot and write it at another."""
    return slot_table[e, inner_slot, BITS + t] * (
        slot_table[e, outer, READ_J] / slot_table[e, outer, BLOCK]
        + slot_table[e, inner_slot, WRITE_J] / slot_table[e, inner_slot, BLOCK]
    )


@inlined
def price_words(mask, masks, slot_table, e, groups, g, t, own_hold):
    """J a word of operand ``t`` brought into group ``g``; negative if it passes through.

    Args:
        own_hold: The operand the group's own loops hold, -1 in the innermost group: if the group
            does not store it, every step outside the group brings it in.
    """
    slot_count = masks.shape[1]
    parent = groups[g, 0] - 1
    while not masks[mask, parent, t]:
        parent -= 1
    for s in range(groups[g, 0], groups[g, 1] + 1):
        if masks[mask, s, t]:
            # Partial sums travel both ways.
            return word_price(slot_table, e, t, parent, s) * (2.0 if t == 2 else 1.0)
    inside = groups[g, 1] + 1
    while inside < slot_count and not masks[mask, inside, t]:
        inside += 1
    if t != own_hold or inside == slot_count:
        return 0.0
    return -word_price(slot_table, e, t, parent, inside)


@inner
def prepare_design(
    e, template, variants, masks, slot_table, groups, order, stationary, room,
):  # fmt: skip
    """Write what the variants of a design are, whatever the layer, into the work space.

    Args:
        variants: int64[T, LANES, 5], see ``TemplateTable.rows``; ``masks`` bool[K, S, 3].
    """
    group_count, dim_count = groups.shape[0], order.shape[1]
    hold_inner = stationary[template]
    for v in range(LANES):
        mask, hold_outer = variants[template, v, KEPT], variants[template, v, HOLDS]
        for j in range(dim_count):
            room.order[0, order[hold_inner, j], v] = j
            room.order[1, order[hold_outer, j], v] = j
        for s in range(masks.shape[1]):
            for t in range(3):
                kept = 1.0 if masks[mask, s, t] else 0.0
                room.kept[s, t, v] = kept
                room.share[s, t, v] = 0.0
                if kept > 0.0:
                    room.share[s, t, v] = slot_table[e, s, BITS + t] / slot_table[e, s, CAPACITY]
        for g in range(group_count):
            own_hold = hold_inner if g == group_count - 2 else hold_outer
            own_hold = -1 if g == group_count - 1 else own_hold
            for t in range(3):
                price = price_words(mask, masks, slot_table, e, groups, g, t, own_hold)
                room.price[g, t, v] = abs(price)
                room.passes[g, t, v] = 1.0 if price < 0.0 else 0.0


@inlined
def lay_loops(floats, o, fanout, groups, room, work):
    """The mappings grown in the lanes, as the kernel wants them: what they keep, their loop orders.

    The tier gets whatever the inner factors do not cover.
    """
    slot_count, dim_count = work.bounds.shape[0], work.bounds.shape[1]
    first_inner = groups[groups.shape[0] - 2, 0] if groups.shape[0] > 1 else 0
    for d in range(dim_count):
        inside = spread(1.0)
        for s in range(1, slot_count):
            inside = inside * load(work.bounds, (s, d))
        store(work.bounds, (0, d), round_up(floats[o, d] / inside))
        for s in range(slot_count):
            if not fanout[s]:
                hold = 0 if s >= first_inner else 1
                store(work.positions, (s, d), load(room.order, (hold, d)) + 1.0)
    for s in range(slot_count):
        if not fanout[s]:
            for t in range(3):
                store(work.kept, (s, t), load(room.kept, (s, t)))


@inlined
def recall(best, v, fanout, work):
    """Copy the best mapping into lane ``v``."""
    for s in range(work.bounds.shape[0]):
        for d in range(work.bounds.shape[1]):
            work.bounds[s, d, v] = best.factors[s, d]
            work.positions[s, best.order[s, d], v] = d + 1.0
        for t in range(3):
            work.kept[s, t, v] = 1.0 if best.keep[s, t] and not fanout[s] else 0.0


@inner
def judge(
    floats, ints, o, e, count, fanout, slot_table, engine, objective, least, best, work,
):  # fmt: skip
    """Evaluate the mappings in the first lanes; keep the best if it beats ``least``.

    Returns:
        The score of the best mapping.
    """
    evaluate_lanes(
        floats, ints, o, count, fanout, False, slot_table, engine, e, False, work
    )  # fmt: skip
    outcome, chosen = work.outcome, -1
    for v in range(count):
        value = score(objective, outcome[ENERGY_J, v], outcome[CYCLES, v], outcome[OVERFLOW, v])
        if value < least:  # never if it is not a number
            chosen, least = v, value
    if chosen >= 0:
        for s in range(work.bounds.shape[0]):
            for d in range(work.bounds.shape[1]):
                best.factors[s, d] = work.bounds[s, d, chosen]
                if not fanout[s]:
                    best.order[s, int(work.positions[s, d, chosen]) - 1] = d
            for t in range(3):
                best.keep[s, t] = work.kept[s, t, chosen] > 0.0 and not fanout[s]
        for k in range(RESULTS):
            best.results[k] = outcome[k, chosen]
    return least


@inner
def mutate(floats, o, groups, order, masks, fanout, v, state, work):
    """Change one thing about lane ``v``: a tile size, the order of one level, or what is kept."""
    bounds, positions, kept = work.bounds, work.positions, work.kept
    slot_count, dim_count, group_count = bounds.shape[0], bounds.shape[1], groups.shape[0]
    state = (state * 6364136223846793005 + 1442695040888963407) & 0x7FFFFFFFFFFFFFFF
    draw = state >> 33
    if draw % 5 == 0:
        level = (draw // 5) % (group_count + 1)
        hold = (draw // 64) % 3
        s = 0 if level == 0 else groups[level - 1, 1]
        if masks.shape[0] > 1 and (draw // 65536) % 4 == 0:
            mask = (draw // 262144) % masks.shape[0]
            for q in range(slot_count):
                for t in range(3):
                    kept[q, t, v] = 1.0 if masks[mask, q, t] and not fanout[q] else 0.0
        elif (draw // 256) % 2 == 0:
            for j in range(dim_count):
                positions[s, order[hold, j], v] = j + 1.0
        else:
            a, b = (draw // 512) % dim_count, (draw // 8192) % dim_count
            positions[s, a, v], positions[s, b, v] = positions[s, b, v], positions[s, a, v]
        return state
    d = (draw // 5) % dim_count
    s = groups[(draw // 64) % group_count, 1]
    factor = bounds[s, d, v]
    kind = (draw // 1024) % 4
    if kind == 0:
        factor *= 2.0
    elif kind == 1:
        factor = np.ceil(factor / 2.0)
    elif kind == 2:
        factor += 1.0
    else:
        factor = max(1.0, factor - 1.0)
    bounds[s, d, v] = 1.0
    inside = 1.0
    for q in range(1, slot_count):
        inside *= bounds[q, d, v]
    factor = min(factor, np.ceil(floats[o, d] / inside))
    bounds[s, d, v] = factor
    bounds[0, d, v] = np.ceil(floats[o, d] / (inside * factor))
    return state


@inlined
def unroll_variants(
    floats, o, e, unroll, template, variants, fanout_slots, axes, width, slot_table, engine, room,
):  # fmt: skip
    """Fill the fanouts in every lane."""
    frugal = worth_using(floats, o, e, slot_table, engine, width, room.factors.shape[1])
    for v in range(LANES):
        first = variants[template, v, FIRST]
        if first == v:
            unroll_fanouts(
                floats, o, unroll, template, variants[template, v, UNROLLING],
                frugal if variants[template, v, FRUGAL] else 1.0, fanout_slots, axes, width, v,
                room.factors, room.steps,
            )  # fmt: skip
            continue
        for f in range(fanout_slots.shape[0]):
            for d in range(room.factors.shape[1]):
                room.factors[fanout_slots[f], d, v] = room.factors[fanout_slots[f], d, first]


@inner
def map_operation(
    floats, ints, o, e, fanout, slot_table, engine, template, objective, extra, unroll, element,
    order, groups, fanout_slots, axes, width, variants, tried, masks, best, room, work,
):  # fmt: skip
    """Map operation ``o`` on engine ``e``.

    Args:
        floats, ints: Problem tables.
        fanout: bool[S].
        template, objective, extra: Template row, index into ``OBJECTIVES``, extra evaluations.
        unroll, element, order: See :class:`TemplateTable`.
        groups, fanout_slots, axes, width: The nest's structure, see ``nest.py``.
        variants, masks: See :func:`prepare_design`; ``tried``: how many of the variants.
        best: :class:`Best`, written.
        room, work: Work space of the growth and of the kernel; :func:`prepare_design` has been
            called for the engine.
    """
    # What stands if nothing can be priced at all: finite, and far from fitting.
    for k in range(RESULTS):
        best.results[k] = 0.0
    best.results[CYCLES], best.results[ENERGY_J], best.results[OVERFLOW] = 1e15, 1e9, 1e6
    best.results[COMPUTE_CYCLES] = 1e15
    describe(floats, ints, o, room)
    unroll_variants(
        floats, o, e, unroll, template, variants, fanout_slots, axes, width, slot_table, engine,
        room,
    )  # fmt: skip
    for g in range(groups.shape[0] - 1, -1, -1):
        grow_group(floats, ints, o, groups, g, element, template, fanout_slots, room)
    lay_loops(floats, o, fanout, groups, room, work)
    least = judge(
        floats, ints, o, e, tried, fanout, slot_table, engine, objective, np.inf, best, work
    )  # fmt: skip
    state = 88172645463325252
    for _ in range(extra // LANES):
        for v in range(LANES):
            recall(best, v, fanout, work)
            state = mutate(floats, o, groups, order, masks, fanout, v, state, work)
            if (state >> 40) % 3 == 0:
                state = mutate(floats, o, groups, order, masks, fanout, v, state, work)
        least = judge(
            floats, ints, o, e, LANES, fanout, slot_table, engine, objective, least, best, work
        )  # fmt: skip
