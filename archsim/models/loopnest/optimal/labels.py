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
from archsim.models.loopnest.optimal.layout import (
    CONSTANT,
    JOINT,
    LEAK,
    LEAST_SHARE,
    MAC_TIME,
    OUT_WORDS,
)

# Components of a label.
E, L, K, N, P = 0, 1, 2, 3, 6
LABEL = 9
# Beside a stored label: its least energy (without leakage and the outermost edges) and cycles.
FLOOR_J, FLOOR_CYCLES, STORED = 9, 10, 11
# What multiplies them, and the rest of the state outside a boundary (see search.py).
BASE, VISITS, COPIES, A_SHUT, A_OPEN, B_SHUT, B_OPEN, STEPS, LEAST = 0, 1, 2, 3, 6, 9, 12, 15, 16
SHARED = 17  # columns that search.py has as well
# Energy a word of a closed operand costs if no fanout outside shares it, the most copies that they
# can make of it, and the most of all operands together.
ALONE, COPIED, TOGETHER, BOUND = 17, 20, 23, 24
# Objectives: energy, latency, their product, weighted sum, weighted product, Pareto set.
ENERGY, LATENCY, EDP, SUM, PRODUCT, PARETO = range(6)
# Columns of a goal: kind, weights of energy and cycles, most cycles, incumbent, relative tolerance.
KIND, WEIGHT_E, WEIGHT_D, MOST, BEST, TOLERANCE = range(6)
ROOM = 24  # labels a shape may have


@inner
def value_of(goal, energy, cycles):
    """The figure to minimise."""
    kind = goal[KIND]
    if kind == ENERGY:
        return energy
    if kind == LATENCY:
        return cycles
    if kind in (EDP, PARETO):
        return energy * cycles
    if kind == SUM:
        return goal[WEIGHT_E] * energy + goal[WEIGHT_D] * cycles
    return energy ** goal[WEIGHT_E] * cycles ** goal[WEIGHT_D]


@inner
def survives(goal, points, energy, cycles):
    """Whether figures this low could still be better than what is known.

    Args:
        goal: See the columns above.
        points: float64[n, 2] known (energy, cycles), for the Pareto set.
    """
    slack = 1.0 + goal[TOLERANCE]
    if cycles > goal[MOST] * slack:
        return False
    if goal[KIND] == PARETO:
        for i in range(points.shape[0]):
            if points[i, 0] <= energy * slack and points[i, 1] <= cycles * slack:
                return False
        return True
    return value_of(goal, energy, cycles) * slack < goal[BEST]


@inner
def steps_of(state, label, prices):
    """Least cycles with a label inside."""
    return max(state[LEAST], state[STEPS] * label[L] * prices.scalars[MAC_TIME])


@inner
def energy_of(state, label, flags):
    """Least energy without leakage with a label inside."""
    total = state[BASE] + state[VISITS] * label[E] - state[COPIES] * label[K]
    for t in range(3):
        if (flags >> t) & 1:
            total += state[A_OPEN + t] * label[N + t] + state[B_OPEN + t] * label[P + t]
        else:
            total += state[A_SHUT + t] * label[N + t] + state[B_SHUT + t] * label[P + t]
    return total


@inner
def crowding(state, label, flags):
    """Energy that ``energy_of`` misses outside a boundary because copies compete for fanouts.

    A loop of a fanout copies at most one operand (every dimension moves two of the three), so the
    copies of all of them multiply to at most the units. The least of the sum of ``a_t / c_t`` with
    ``c_t`` at most their own limits and a bounded product: equal terms, except where limited.
    """
    left, apart, total = state[TOGETHER], 0.0, 0.0
    active = 0
    for t in range(3):
        a = state[ALONE + t] * label[N + t]
        if not (flags >> t) & 1 and a > 0.0:
            active |= 1 << t
            apart += a / state[COPIED + t]
    while active:
        count, product = 0, 1.0
        for t in range(3):
            if (active >> t) & 1:
                product *= state[ALONE + t] * label[N + t]
                count += 1
        product /= left
        if count == 3:
            level = product ** (1.0 / 3.0)
        else:
            level = np.sqrt(product) if count == 2 else product
        limited = False
        for t in range(3):
            if (active >> t) & 1:
                a = state[ALONE + t] * label[N + t]
                if a > level * state[COPIED + t]:
                    total += a / state[COPIED + t]
                    left /= state[COPIED + t]
                    active &= ~(1 << t)
                    limited = True
        if not limited:
            total += count * level
            break
    return max(0.0, total * (1.0 - 1e-12) - apart)


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
def window_ratio(sp, shape, d, bound):
    """Share of a window that a loop of ``bound`` steps along ``d`` really brings, on average.

    Args:
        shape: The tile inside the loop.
    """
    if d < 0 or sp.partner[d] < 0:
        return 1.0
    r = sp.partner[d]
    here = sp.step[d] * sp.values[d, sp.index[shape, d]]
    span = here - sp.step[d] + 1.0
    span += sp.step[r] * (sp.values[r, sp.index[shape, r]] - 1.0)
    return (1.0 + (bound - 1.0) * min(1.0, here / span)) / bound


@inner
def least_window(sp, shape):
    """Least share of the window's words a visit can bring, whatever loops run outside."""
    least = 1.0
    for d in range(sp.step.shape[0]):
        if sp.partner[d] >= 0:
            least = min(least, window_ratio(sp, shape, d, 1e300))
    return least


@inner
def merged_share(sp, shape, f, fans):
    """Share of the input's words that differ between the branches of a fanout.

    Args:
        shape: The tile of one branch; ``f`` the row of ``fans``.
    """
    share = 1.0
    for d in range(sp.step.shape[0]):
        r = sp.partner[d]
        if r <= d:
            continue
        m, n = sp.values[d, fans[f, d]], sp.values[r, fans[f, r]]
        if m > 1.0 and n > 1.0:
            step_m = sp.step[d] * sp.values[d, sp.index[shape, d]]
            step_n = sp.step[r] * sp.values[r, sp.index[shape, r]]
            x, y = int(step_m), int(step_n)
            while y > 0:
                x, y = y, x % y
            same = max(0.0, m - step_n / x) * max(0.0, n - step_m / x)
            share *= (m * n - same) / (m * n)
    return share


@inner
def fits(sp, prices, s, shape):
    """Whether what slot s keeps of a tile fits (a hair more is left to the kernel)."""
    held = 0.0
    for t in range(3):
        if prices.kept[s, t]:
            held += sp.words[shape, t] * prices.bits[s, t]
    return held <= prices.capacity[s] * (1.0 + 1e-9)


@inner
def least_state(sp, prices, s, shape, around, state):
    """What lies outside a boundary costs at least this much.

    Args:
        around: Least energy of the outermost edges given the tile.
        state: float64[BOUND], written.
    """
    most = prices.most
    visits = sp.volume[sp.volume.shape[0] - 1] / sp.volume[shape]
    # First touches save at most what the words they belong to cost. Of the edges outside, only
    # those of the outermost storage (``around``, net of them) and of the parents are charged.
    spread = visits / sp.visits[shape, 2]
    copies = min(most[prices.parent[s, 2], 2], spread)
    state[BASE] = prices.scalars[CONSTANT] + around - copies * prices.touched[s]
    state[VISITS] = visits
    state[COPIES] = min(most[s, 2], spread)
    for t in range(3):
        p = prices.parent[s, t]
        shared = prices.scalars[LEAST_SHARE] if t == 0 else 1.0
        at_least = sp.visits[shape, t] * (least_window(sp, shape) if t == 0 else 1.0)
        merged = max(visits * most[p, t] / most[s, t], sp.visits[shape, t])
        state[A_SHUT + t] = merged * prices.access[p, t] * shared
        state[A_OPEN + t] = at_least * prices.access[p, t] * shared
        state[B_SHUT + t] = visits * shared
        state[B_OPEN + t] = at_least * shared
        state[ALONE + t] = visits * prices.access[p, t] * shared
        state[COPIED + t] = visits / merged
    state[TOGETHER] = min(visits, most[s, 3]) * prices.scalars[JOINT]
    state[STEPS] = max(1.0, visits / most[s, 3])
    state[LEAST] = 0.0


@inner
def finish_label(sp, prices, s, shape, state, goal, points, label, flag, fresh, front, flags, keys,
                 count):  # fmt: skip
    """Keep what slot s keeps, drop the label if it cannot win, else insert it.

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
    cycles = steps_of(state, fresh, prices)
    energy = energy_of(state, fresh, flag) + prices.scalars[LEAK] * cycles
    if not survives(goal, points, energy, cycles):
        return count
    energy += crowding(state, fresh, flag)
    if not survives(goal, points, energy, cycles):
        return count
    key = value_of(goal, energy, cycles)
    kind = goal[KIND]
    return insert(
        front, flags, keys, count, fresh, flag, key, kind == ENERGY and goal[MOST] > 1e300
    )


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
def through_loops(sp, bounds, every, orders, q, shape, old, flag, label):
    """A label of the tile inside a storage's loops, seen from outside them; returns its flags.

    Args:
        bounds: float64[D] loop bounds; ``every`` their product; ``q`` row of ``orders``.
    """
    label[E], label[L], label[K] = old[E] * every, old[L] * every, old[K]
    for t in range(3):
        times = every
        if (flag >> t) & 1:
            times, counted = 1.0, orders.counted[q, t]
            if counted:
                for d in range(bounds.shape[0]):
                    times *= bounds[d] if (counted >> d) & 1 else 1.0
                if t == 0 and orders.mover[q] >= 0:
                    d = orders.mover[q]
                    times *= window_ratio(sp, shape, d, bounds[d])
                flag &= ~(1 << t)
        label[N + t], label[P + t] = old[N + t] * times, old[P + t] * times
    return flag


@inner
def may_win(goal, points, prices, label, around):
    """Whether a stored label can still win if the outermost edges cost ``around``."""
    cycles = label[FLOOR_CYCLES]
    energy = label[FLOOR_J] + around + prices.scalars[LEAK] * cycles
    return survives(goal, points, energy, cycles)


@inner
def build_labels(
    x, s, sp, orders, prices, goal, points, around, inside, pool, pool_flags, start, count, floor,
    used, work, most,
):  # fmt: skip
    """Labels of tile shapes x.. at boundary s, from those at boundary s + 1.

    Args:
        x: First shape.
        sp, orders, prices: Of the mapspace; ``goal``, ``points`` what a label must be able to beat.
        around: float64[X] least energy of the outermost edges outside this boundary (at boundary
            1: with exactly this tile in slot 1).
        inside: (labels, flags, start, count, floor) at boundary s + 1.
        pool, pool_flags: Room for labels; ``start``, ``count`` int64[X]; ``floor`` float64[X, 2]
            least energy (without ``around``) and cycles; written.
        used: int64[2] labels in the pool, pairs of shapes looked at.
        work: (state, front, flags, keys, label, fresh, bounds, at).
        most: Most shapes to do now.

    Returns:
        The first shape not done.
    """
    labels, label_flags, first, many, low = inside
    state, front, flags, keys, label, fresh, bounds, at = work
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
                    found = finish_label(
                        sp, prices, s, x, state, goal, points, label, label_flags[i], fresh,
                        front, flags, keys, found,
                    )  # fmt: skip
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
                                for i in range(first[y], first[y] + many[y]):
                                    if not may_win(goal, points, prices, labels[i], around[x]):
                                        continue
                                    flag = through_loops(
                                        sp, bounds, every, orders, q, y, labels[i],
                                        label_flags[i], label,
                                    )  # fmt: skip
                                    found = finish_label(
                                        sp, prices, s, x, state, goal, points, label, flag,
                                        fresh, front, flags, keys, found,
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
        count[x] = found
        used[0] += found
        x += 1
    return x


@inner
def least_around(sp, orders, prices, free, exact, around):
    """Least energy between the tier and slot 1 if slot 1 holds a tile, by shape; inf: no fit.

    Args:
        free: Whether slot 1 is a storage; if not, all zero.
        exact: float64[X], written; ``around`` float64[X], the least over all shapes that hold one.
    """
    total, dims = sp.volume.shape[0], sp.step.shape[0]
    full = total - 1
    for x in range(total):
        around[x] = 0.0 if not free else np.inf
        exact[x] = around[x]
        if not free or not fits(sp, prices, 1, x):
            continue
        active = 0
        for d in range(dims):
            active |= (1 if sp.index[x, d] < sp.index[full, d] else 0) << d
        for q in range(orders.start[0, active], orders.start[0, active + 1]):
            spent = 0.0
            if prices.kept[1, 2]:  # outputs start at zero: neither read nor filled at first
                spent -= prices.touched[1] + prices.scalars[OUT_WORDS] * prices.fill[1, 2]
            for t in range(3):
                if prices.kept[1, t]:
                    times = 1.0
                    for d in range(dims):
                        if (orders.counted[q, t] >> d) & 1:
                            bound = sp.values[d, sp.index[full, d]] / sp.values[d, sp.index[x, d]]
                            times *= bound
                            if t == 0 and d == orders.mover[q]:
                                times *= window_ratio(sp, x, d, bound)
                    words = sp.words[x, t] * times
                    spent += words * (prices.access[0, t] + prices.fill[1, t])
            around[x] = min(around[x], spent)
        exact[x] = around[x]
    for d in range(dims):
        for x in range(total - 1, -1, -1):
            # Supersets differ by one more prime, so by a divisor index whose quotient exists.
            for j in range(sp.index[x, d] + 1, sp.index[full, d] + 1):
                if sp.quotient[d, j, sp.index[x, d]] >= 0:
                    bigger = x + (j - sp.index[x, d]) * sp.strides[d]
                    around[x] = min(around[x], around[bigger])
