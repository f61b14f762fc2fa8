"""What lies outside a slot boundary costs at least, and whether a label inside can still win.

The columns of labels, states and goals are defined here; see ``labels.py``. All energies, words and
steps of a label are totals: of all visits of the tile together.
"""

from __future__ import annotations

import numpy as np

from archsim.models.jit import inlined, inner
from archsim.models.loopnest.optimal.layout import (
    CONSTANT,
    JOINT,
    LEAK,
    MAC_TIME,
    OUT_WORDS,
    SAVED_BITS,
)

# Components of a label.
E, L, K, N, P = 0, 1, 2, 3, 6
LABEL = 9
# What multiplies them, and the rest of the state outside a boundary (see search.py).
BASE, COPIES, STEPS, LEAST, A_SHUT, A_OPEN, B_SHUT, B_OPEN = 0, 1, 2, 3, 4, 7, 10, 13
SHARED = 16  # columns that search.py has as well
# Energy a word of a closed operand costs if no fanout outside shares it, the most copies that they
# can make of it, and the most of all operands together.
ALONE, COPIED, TOGETHER, BOUND = 16, 19, 22, 23
# Objectives: energy, latency, their product, weighted sum, weighted product, Pareto set.
ENERGY, LATENCY, EDP, SUM, PRODUCT, PARETO = range(6)
# Columns of a goal: kind, weights of energy and cycles, most cycles, incumbent, relative tolerance.
KIND, WEIGHT_E, WEIGHT_D, MOST, BEST, TOLERANCE = range(6)


@inlined
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


@inlined
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


@inlined
def steps_of(state, label, prices):
    """Least cycles with a label inside."""
    return max(state[LEAST], state[STEPS] * label[L] * prices.scalars[MAC_TIME])


@inlined
def energy_of(state, label, flags):
    """Least energy without leakage with a label inside."""
    total = state[BASE] + label[E] - state[COPIES] * label[K]
    for t in range(3):
        o = 3 if (flags >> t) & 1 else 0
        total += state[A_SHUT + o + t] * label[N + t] + state[B_SHUT + o + t] * label[P + t]
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


@inlined
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


@inlined
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


@inlined
def fits(sp, prices, s, kept, shape):
    """Whether the operands ``kept`` of a tile fit slot s (a hair more is left to the kernel)."""
    held = 0.0
    for t in range(3):
        if (kept >> t) & 1:
            held += sp.words[shape, t] * prices.bits[s, t]
    return held <= prices.capacity[s] * (1.0 + 1e-9)


@inner
def least_states(sp, prices, s, shape, around, first, last, states):
    """What lies outside a boundary costs at least this much, for each way slot 1 may keep operands.

    Args:
        s: Boundary; ``shape`` the tile that enters it.
        around: float64[C, X] least energy of the outermost edges given the tile, inf: impossible.
        first, last: Cases wanted, rows of ``prices.parent[s]`` and of ``around``.
        states: float64[C, BOUND], written.

    Returns:
        States written: the possible cases.
    """
    found = 0
    visits = sp.volume[sp.volume.shape[0] - 1] / sp.volume[shape]
    spread = visits / sp.visits[shape, 2]
    window = least_window(sp, shape)
    for c in range(first, last):
        if around[c, shape] == np.inf:
            continue
        state = states[found]
        # First touches save at most what the words they belong to cost. Of the edges outside, only
        # those of the outermost storage (``around``, net of them) and the parents' are charged.
        saved = min(prices.touched[s, c, 1], spread) * prices.touched[s, c, 0]
        state[BASE] = prices.scalars[CONSTANT] + around[c, shape] - saved
        state[COPIES] = min(prices.most[s, 2], spread)
        state[STEPS] = 1.0 / min(visits, prices.most[s, 3])
        state[LEAST] = 0.0
        for t in range(3):
            once = sp.visits[shape, t] / visits
            share = prices.share[s] if t == 0 else 1.0
            price = prices.parent[s, c, t] * share
            merged = max(prices.shared[s, c, t] / share, once)
            at_least = once * (window if t == 0 else 1.0)
            state[A_SHUT + t] = merged * price
            state[A_OPEN + t] = min(at_least, merged) * price
            state[B_SHUT + t] = share
            state[B_OPEN + t] = at_least * share
            state[ALONE + t] = price
            state[COPIED + t] = 1.0 / merged
        state[TOGETHER] = min(visits, prices.most[s, 3]) * prices.scalars[JOINT]
        found += 1
    return found


@inner
def promise(prices, states, cases, goal, points, label, flag):
    """The least value a mapping with this label can have; inf if it cannot win.

    Args:
        states: float64[C, BOUND], what lies outside costs at least, of which ``cases`` are filled.
    """
    least = np.inf
    for c in range(cases):
        state = states[c]
        cycles = steps_of(state, label, prices)
        energy = energy_of(state, label, flag) + prices.scalars[LEAK] * cycles
        if not survives(goal, points, energy, cycles):
            continue
        energy += crowding(state, label, flag)
        if survives(goal, points, energy, cycles):
            least = min(least, value_of(goal, energy, cycles))
    return least


@inner
def list_tier_loops(sp, orders, prices, shape, tier):
    """How much of the words of slot 1's tile the tier's loops bring, for every order of them.

    Args:
        tier: float64[Q, 3], written: refills of each operand over visits.

    Returns:
        Orders listed; 0 if there are more than ``tier`` has room for.
    """
    dims, full, active = sp.step.shape[0], sp.volume.shape[0] - 1, 0
    visits = sp.volume[full] / sp.volume[shape]
    for d in range(dims):
        active |= (1 if sp.index[shape, d] < sp.index[full, d] else 0) << d
    first, last = orders.start[prices.table[0], active], orders.start[prices.table[0], active + 1]
    if last - first > tier.shape[0]:
        return 0
    for i in range(last - first):
        mover = orders.mover[first + i]
        for t in range(3):
            times = 1.0
            for d in range(dims):
                if (orders.counted[first + i, t] >> d) & 1:
                    times *= sp.values[d, sp.index[full, d]] / sp.values[d, sp.index[shape, d]]
            if t == 0 and mover >= 0 and times > 1.0:
                bound = sp.values[mover, sp.index[full, mover]]
                bound /= sp.values[mover, sp.index[shape, mover]]
                times *= window_ratio(sp, shape, mover, bound)
            tier[i, t] = times / visits
    return last - first


@inner
def least_in_tier(prices, tier, listed, goal, points, label, flag):
    """Least value of a label at boundary 1 inside any of the tier's loop orders.

    Args:
        tier, listed: See ``list_tier_loops``.
    """
    least = np.inf
    alike = prices.scalars[CONSTANT] - prices.credit[0] + label[E] - label[K]
    for i in range(listed):
        energy, read, written = alike, 0.0, 0.0
        for t in range(3):
            times = tier[i, t] if (flag >> t) & 1 else 1.0
            energy += times * (prices.access[0, t] * label[N + t] + label[P + t])
            asked = times * label[N + t] * prices.bits[0, t]
            if t == 2:
                written = asked - prices.scalars[SAVED_BITS] * prices.scalars[OUT_WORDS]
                asked = max(0.0, asked - prices.scalars[OUT_WORDS] * prices.bits[0, 2])
            read += asked
        cycles = max(read * prices.slow[0, 0], written * prices.slow[0, 1])
        cycles = max(cycles, (read + written) * prices.slow[0, 2])
        cycles = max(cycles, label[L] * prices.scalars[MAC_TIME])
        energy += prices.scalars[LEAK] * cycles
        if survives(goal, points, energy, cycles):
            least = min(least, value_of(goal, energy, cycles))
    return least


@inner
def least_around(sp, orders, prices, kept, around):
    """Least energy between the tier and slot 1 if slot 1 holds at least a tile; inf: no fit.

    Args:
        kept: Operands a storage in slot 1 keeps, a mask.
        around: float64[X], written.
    """
    total, dims = sp.volume.shape[0], sp.step.shape[0]
    full = total - 1
    for x in range(total):
        around[x] = np.inf
        if not fits(sp, prices, 1, kept, x):
            continue
        if kept == 0:
            around[x] = 0.0
            continue
        active = 0
        for d in range(dims):
            active |= (1 if sp.index[x, d] < sp.index[full, d] else 0) << d
        for q in range(orders.start[0, active], orders.start[0, active + 1]):
            spent = 0.0
            if (kept >> 2) & 1:  # outputs start at zero: neither read nor filled at first
                spent -= prices.credit[0] + prices.scalars[OUT_WORDS] * prices.fill[1, 2]
            for t in range(3):
                if (kept >> t) & 1:
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
    for d in range(dims):
        for x in range(total - 1, -1, -1):
            # Every larger shape is reached by steps along one dimension after another.
            for j in range(sp.index[x, d] + 1, sp.index[full, d] + 1):
                if sp.quotient[d, j, sp.index[x, d]] >= 0:
                    bigger = x + (j - sp.index[x, d]) * sp.strides[d]
                    around[x] = min(around[x], around[bigger])
