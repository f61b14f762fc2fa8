"""Labels: what everything inside a slot boundary costs at least, per visit of a tile.

A *label* of a tile at boundary s (the tile that enters slot s) stands for one or more ways to lay
out the slots from s inwards:

* ``E`` energy of all storages whose children lie inside and are refilled on every visit;
* ``L`` temporal steps of a visit;
* ``K`` energy the first touches of outputs save, for one copy of the output;
* for each operand, ``n`` words asked of the parent outside and ``p`` energy spent on them inside
  (fills, links), both per visit, and whether the operand is *open*: nothing inside moves it, so
  that a stationary loop outside leaves it in place.

Everything outside enters linearly, so a label that is nowhere larger than another makes the other
superfluous. Where more labels remain than there is room for, two merge into their component-wise
minimum: still a lower bound. Block and cycle rounding is left out (below), and the halo of an open
window is taken at the outermost tile (below); the kernel judges what survives.
"""

from __future__ import annotations

import numpy as np

from archsim.models.jit import inner
from archsim.models.loopnest.optimal.layout import LEAK, OUT_WORDS
from archsim.models.loopnest.optimal.outside import (
    A_OPEN,
    A_SHUT,
    ALONE,
    B_OPEN,
    B_SHUT,
    BASE,
    BEST,
    BOUND,
    COPIED,
    COPIES,
    EDP,
    ENERGY,
    FLOOR_CYCLES,
    FLOOR_J,
    KIND,
    LABEL,
    LATENCY,
    LEAST,
    MOST,
    PARETO,
    PRODUCT,
    ROOM,
    SHARED,
    STEPS,
    STORED,
    SUM,
    TOGETHER,
    TOLERANCE,
    VISITS,
    WEIGHT_D,
    WEIGHT_E,
    E,
    K,
    L,
    N,
    P,
    crowding,
    energy_of,
    fits,
    least_around,
    least_in_tier,
    least_state,
    least_window,
    list_tier_loops,
    merged_share,
    steps_of,
    survives,
    value_of,
    window_ratio,
)

__all__ = [
    "ALONE",
    "A_OPEN",
    "A_SHUT",
    "BASE",
    "BEST",
    "BOUND",
    "B_OPEN",
    "B_SHUT",
    "COPIED",
    "COPIES",
    "EDP",
    "ENERGY",
    "FLOOR_CYCLES",
    "FLOOR_J",
    "KIND",
    "LABEL",
    "LATENCY",
    "LEAST",
    "MOST",
    "PARETO",
    "PRODUCT",
    "ROOM",
    "SHARED",
    "STEPS",
    "STORED",
    "SUM",
    "TOGETHER",
    "TOLERANCE",
    "VISITS",
    "WEIGHT_D",
    "WEIGHT_E",
    "E",
    "K",
    "L",
    "N",
    "P",
    "build_labels",
    "count_refills",
    "crowding",
    "energy_of",
    "fits",
    "insert",
    "least_around",
    "least_in_tier",
    "least_state",
    "least_window",
    "list_tier_loops",
    "may_win",
    "merged_share",
    "promise",
    "settle",
    "steps_of",
    "survives",
    "through_fanout",
    "through_loops",
    "value_of",
    "window_ratio",
]


@inner
def insert(front, flags, keys, count, label, flag, key, energy_only):
    """Add a label to a front; returns the new count.

    Args:
        front: float64[ROOM, LABEL]; ``flags`` int64[ROOM]; ``keys`` float64[ROOM], the least value
            of each, used to choose what merges.
        energy_only: Compare without ``L`` (its minimum is kept).
    """
    slack = 1.0 + 1e-13
    i = 0
    while i < count:
        old_wins = (flags[i] & flag) == flag
        new_wins = (flags[i] & flag) == flags[i]
        for c in range(LABEL):
            if c == L and energy_only:
                continue
            a, b = front[i, c], label[c]
            if c == K:
                a, b = b, a
            if a > b * slack:
                old_wins = False
            if b > a * slack:
                new_wins = False
            if not (old_wins or new_wins):
                break
        if old_wins:
            front[i, L] = min(front[i, L], label[L])
            return count
        if new_wins:
            label[L] = min(front[i, L], label[L]) if energy_only else label[L]
            count -= 1
            for c in range(LABEL):
                front[i, c] = front[count, c]
            flags[i], keys[i] = flags[count], keys[count]
            continue
        i += 1
    if count < front.shape[0]:
        for c in range(LABEL):
            front[count, c] = label[c]
        flags[count], keys[count] = flag, key
        return count + 1
    near, least = 0, np.inf
    for i in range(count):
        apart = abs(keys[i] - key) + (0.0 if flags[i] == flag else 1e30)
        if apart < least:
            near, least = i, apart
    for c in range(LABEL):
        a, b = front[near, c], label[c]
        front[near, c] = max(a, b) if c == K else min(a, b)
    flags[near] |= flag
    keys[near] = min(keys[near], key)
    return count


@inner
def settle(sp, prices, s, shape, label, flag, fresh):
    """A label seen from outside slot s, which keeps what it keeps of the tile; its flags.

    Args:
        fresh: float64[LABEL], written: the label at this boundary.
    """
    for c in range(LABEL):
        fresh[c] = label[c]
    for t in range(3):
        if prices.kept[s, t]:
            spent = fresh[N + t] * prices.access[s, t] + fresh[P + t]
            words = sp.words[shape, t]
            if not (flag >> t) & 1:
                fresh[E] += spent
                spent = 0.0
            fresh[N + t] = words
            fresh[P + t] = spent + words * prices.fill[s, t]
            flag |= 1 << t
    fresh[K] += prices.credit[s]
    return flag


@inner
def promise(prices, state, goal, points, fresh, flag, tier, listed):
    """The least value a mapping with this label can have; inf if it cannot win.

    Args:
        fresh: The label; ``state`` what lies outside it costs at least.
        tier, listed: At boundary 1 the tier's loop orders, else none.
    """
    cycles = steps_of(state, fresh, prices)
    energy = energy_of(state, fresh, flag) + prices.scalars[LEAK] * cycles
    if not survives(goal, points, energy, cycles):
        return np.inf
    if listed:
        return least_in_tier(prices, tier, listed, goal, points, fresh, flag)
    energy += crowding(state, fresh, flag)
    if not survives(goal, points, energy, cycles):
        return np.inf
    return value_of(goal, energy, cycles)


@inner
def through_fanout(sp, prices, s, f, shape, old, flag, label):
    """A label of the tile of one branch, seen from outside the fanout."""
    fans, dims = prices.fans, sp.step.shape[0]
    units = 1.0
    for d in range(dims):
        units *= sp.values[d, fans[f, d]]
    label[E], label[L] = old[E] * units, old[L]
    share = merged_share(sp, shape, f, fans)
    for t in range(3):
        copies = 1.0
        for d in range(dims):
            if not (sp.relevant[t] >> d) & 1:
                copies *= sp.values[d, fans[f, d]]
        merged = share if t == 0 else 1.0
        toll = prices.toll[s] * prices.bits[s, t] * (units + copies) if units > 1.0 else 0.0
        asked = old[N + t] * units / copies * merged
        label[N + t] = asked
        label[P + t] = old[P + t] * units * merged + asked * toll * (2.0 if t == 2 else 1.0)
        if t == 2:
            label[K] = old[K] * copies + prices.scalars[OUT_WORDS] * toll


@inner
def count_refills(sp, bounds, orders, q, shape, times):
    """How often loops refill a tile that stays while it can, for each operand.

    Args:
        bounds: float64[D] loop bounds; ``q`` row of ``orders``.
        times: float64[3], written.

    Returns:
        The operands that stay all the time, a mask.
    """
    still = 0
    for t in range(3):
        times[t], counted = 1.0, orders.counted[q, t]
        if not counted:
            still |= 1 << t
            continue
        for d in range(bounds.shape[0]):
            if (counted >> d) & 1:
                times[t] *= bounds[d]
        if t == 0 and orders.mover[q] >= 0:
            d = orders.mover[q]
            times[t] *= window_ratio(sp, shape, d, bounds[d])
    return still


@inner
def through_loops(every, times, still, old, flag, label):
    """A label of the tile inside a storage's loops, seen from outside them; returns its flags.

    Args:
        every: Product of the loop bounds; ``times``, ``still`` from ``count_refills``.
    """
    label[E], label[L], label[K] = old[E] * every, old[L] * every, old[K]
    for t in range(3):
        turns = times[t] if (flag >> t) & 1 else every
        label[N + t], label[P + t] = old[N + t] * turns, old[P + t] * turns
    return flag & still


@inner
def may_win(goal, points, prices, label, around):
    """Whether a stored label can still win if the outermost edges cost ``around``."""
    cycles = label[FLOOR_CYCLES]
    energy = label[FLOOR_J] + around + prices.scalars[LEAK] * cycles
    return survives(goal, points, energy, cycles)


@inner
def build_labels(
    x, s, sp, orders, prices, goal, points, around, inside, pool, pool_flags, start, count, floor,
    corner, open_corner, used, work, most,
):  # fmt: skip
    """Labels of tile shapes x.. at boundary s, from those at boundary s + 1.

    Args:
        x: First shape.
        sp, orders, prices: Of the mapspace; ``goal``, ``points`` what a label must be able to beat.
        around: float64[X] least energy of the outermost edges outside this boundary (at boundary
            1: with exactly this tile in slot 1).
        inside: (labels, flags, start, count, floor, corners, flags of corners) at boundary s + 1.
        pool, pool_flags: Room for labels; ``start``, ``count`` int64[X]; ``floor`` float64[X, 2]
            least energy (without ``around``) and cycles; written.
        corner, open_corner: float64[X, LABEL], int64[X] the merger of a shape's labels; written.
        used: int64[2] labels in the pool, pairs of shapes looked at.
        work: (state, front, flags, keys, label, fresh, bounds, at, tier, times).
        most: Most shapes to do now.

    Returns:
        The first shape not done.
    """
    labels, label_flags, first, many, low, corners, open_corners = inside
    energy_only = goal[KIND] == ENERGY and goal[MOST] > 1e300
    state, front, flags, keys, label, fresh, bounds, at, tier, times = work
    dims = sp.step.shape[0]
    total = sp.volume.shape[0]
    table = prices.table[s]
    end = min(total, x + most)
    while x < end:
        if used[0] + front.shape[0] > pool.shape[0]:
            return x
        start[x], count[x] = used[0], 0
        floor[x, 0], floor[x, 1] = np.inf, np.inf
        if not prices.fanout[s] and not fits(sp, prices, s, x):
            x += 1
            continue
        outer = around[x] if s > 1 else 0.0  # slot 1 itself is part of a label at boundary 1
        least_state(sp, prices, s, x, outer, state)
        listed = list_tier_loops(sp, orders, prices, x, tier) if s == 1 else 0
        found = 0
        if prices.fanout[s]:
            for f in range(prices.fan_start[s], prices.fan_start[s + 1]):
                y, legal = 0, True
                for d in range(dims):
                    j = sp.quotient[d, sp.index[x, d], prices.fans[f, d]]
                    if j < 0:
                        legal = False
                        break
                    y += j * sp.strides[d]
                if not legal or many[y] == 0:
                    continue
                used[1] += 1
                for i in range(first[y], first[y] + many[y]):
                    if not may_win(goal, points, prices, labels[i], around[x]):
                        continue
                    through_fanout(sp, prices, s, f, y, labels[i], label_flags[i], label)
                    flag = settle(sp, prices, s, x, label, label_flags[i], fresh)
                    key = promise(prices, state, goal, points, fresh, flag, tier, listed)
                    if key < np.inf:
                        found = insert(front, flags, keys, found, fresh, flag, key, energy_only)
        else:
            # An odometer over the divisors of the shape: at[d] is the index of the inner tile.
            for d in range(dims):
                at[d] = 0
            y, more = 0, True
            while more:
                if many[y] > 0:
                    used[1] += 1
                    cycles = low[y, 1]
                    energy = low[y, 0] + around[x]
                    if survives(goal, points, energy + prices.scalars[LEAK] * cycles, cycles):
                        active, every, legal = 0, 1.0, True
                        for d in range(dims):
                            j = sp.quotient[d, sp.index[x, d], at[d]]
                            legal = legal and prices.allowed[s, d, j]
                            bounds[d] = sp.values[d, j]
                            every *= bounds[d]
                            active |= (1 if j > 0 else 0) << d
                        if legal:
                            for q in range(orders.start[table, active],
                                           orders.start[table, active + 1]):  # fmt: skip
                                still = count_refills(sp, bounds, orders, q, y, times)
                                if many[y] > 1:
                                    flag = through_loops(
                                        every, times, still, corners[y], open_corners[y], label
                                    )
                                    flag = settle(sp, prices, s, x, label, flag, fresh)
                                    key = promise(
                                        prices, state, goal, points, fresh, flag, tier, listed
                                    )
                                    if key == np.inf:
                                        continue
                                for i in range(first[y], first[y] + many[y]):
                                    if not may_win(goal, points, prices, labels[i], around[x]):
                                        continue
                                    flag = through_loops(
                                        every, times, still, labels[i], label_flags[i], label
                                    )
                                    flag = settle(sp, prices, s, x, label, flag, fresh)
                                    key = promise(
                                        prices, state, goal, points, fresh, flag, tier, listed
                                    )
                                    if key < np.inf:
                                        found = insert(
                                            front, flags, keys, found, fresh, flag, key,
                                            energy_only,
                                        )  # fmt: skip
                more = False
                for u in range(dims):
                    d = dims - 1 - u
                    top = sp.index[x, d]
                    y -= at[d] * sp.strides[d]
                    at[d] += 1
                    while at[d] <= top and sp.quotient[d, top, at[d]] < 0:
                        at[d] += 1
                    if at[d] <= top:
                        y += at[d] * sp.strides[d]
                        more = True
                        break
                    at[d] = 0
        for i in range(found):
            place = used[0] + i
            for c in range(LABEL):
                pool[place, c] = front[i, c]
            pool_flags[place] = flags[i]
            least = energy_of(state, front[i], flags[i]) + crowding(state, front[i], flags[i])
            pool[place, FLOOR_J] = least - outer
            pool[place, FLOOR_CYCLES] = steps_of(state, front[i], prices)
            floor[x, 0] = min(floor[x, 0], pool[place, FLOOR_J])
            floor[x, 1] = min(floor[x, 1], pool[place, FLOOR_CYCLES])
            for c in range(LABEL):
                a, b = front[i, c], corner[x, c]
                corner[x, c] = a if i == 0 else (max(a, b) if c == K else min(a, b))
            open_corner[x] = flags[i] if i == 0 else open_corner[x] | flags[i]
        count[x] = found
        used[0] += found
        x += 1
    return x
