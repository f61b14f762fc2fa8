"""Labels: what everything inside a slot boundary costs at least.

A *label* of a tile at boundary s (the tile that enters slot s) stands for one or more ways to lay
out the slots from s inwards, whatever they keep. All figures are totals, of all visits:

* ``E`` energy of all storages whose children lie inside and are refilled on every visit;
* ``L`` temporal steps, or the time of a storage's ports in steps, for one unit outside;
* ``K`` energy the first touches of outputs save, for one copy of the output;
* for each operand, ``n`` words asked of the parent outside and ``p`` energy spent on them inside
  (fills, links), and whether the operand is *open*: nothing inside moves it, so that a stationary
  loop outside leaves it in place.

Being totals, they do not change when a loop moves an operand: a stationary loop divides ``n`` and
``p`` of an open operand, and the first loop that moves it closes it. So a storage's loops are built
up from the inside one prime factor at a time, in every order that matters, and a tile has a handful
of predecessors instead of all the tiles inside it. Splitting a loop in two with others between
them, which the mapspace has not, is never better (see ``orders.py``), so bounds stay bounds. Only
the loop that slides the input's window comes in one piece, whatever its bound.

Everything outside enters linearly, so a label that cannot cost less than another, whatever lies
outside, is superfluous. Where more labels remain than there is room for, two merge into their
component-wise minimum: still a lower bound. Block and cycle rounding is left out, and the halo of
an open window is taken at the outermost tile; the kernel judges what survives.
"""

from __future__ import annotations

from archsim.models.jit import inlined, inner
from archsim.models.loopnest.optimal.layout import LEAK, MAC_TIME, OUT_WORDS
from archsim.models.loopnest.optimal.outside import (
    ENERGY,
    KIND,
    LABEL,
    MOST,
    E,
    K,
    L,
    N,
    P,
    least_window,
    merged_share,
    window_ratio,
)

# How nearly equal figures are equal.
NEAR = 1e-14


@inlined
def covers(front, flags, i, label, flag, dearest, pace, strict):
    """Whether label ``i`` of a front never costs more than another, whatever lies outside.

    A word costs at most ``dearest`` outside, a joule of ``p`` a joule; so what label ``i`` has
    more of them must not exceed what it has less of ``E``.

    Args:
        pace: J a step costs at most (leakage), negative: more steps are not made up for;
        strict: more words are not made up for (they load ports, and so take time).
    """
    spare = label[E] * (1.0 + NEAR) - front[i, E]
    if front[i, L] > label[L] * (1.0 + NEAR):
        if pace < 0.0:
            return False
        spare -= (front[i, L] - label[L]) * pace
    if spare < 0.0:
        return False
    spare -= max(0.0, label[K] - front[i, K]) * dearest[3] * (1.0 - NEAR)
    for t in range(3):
        freed = (flag & ~flags[i]) >> t & 1  # the other may stay in place where this one cannot
        words, spent = front[i, N + t], front[i, P + t]
        if not freed:
            words -= label[N + t] * (1.0 + NEAR)
            spent -= label[P + t] * (1.0 + NEAR)
        if words > 0.0:
            if strict:
                return False
            spare -= words * dearest[t]
        spare -= max(0.0, spent)
        if spare < 0.0:
            return False
    return True


@inlined
def covered(front, flags, i, label, flag, dearest, pace, strict):
    """The same the other way round."""
    spare = front[i, E] * (1.0 + NEAR) - label[E]
    if label[L] > front[i, L] * (1.0 + NEAR):
        if pace < 0.0:
            return False
        spare -= (label[L] - front[i, L]) * pace
    if spare < 0.0:
        return False
    spare -= max(0.0, front[i, K] - label[K]) * dearest[3] * (1.0 - NEAR)
    for t in range(3):
        freed = (flags[i] & ~flag) >> t & 1
        words, spent = label[N + t], label[P + t]
        if not freed:
            words -= front[i, N + t] * (1.0 + NEAR)
            spent -= front[i, P + t] * (1.0 + NEAR)
        if words > 0.0:
            if strict:
                return False
            spare -= words * dearest[t]
        spare -= max(0.0, spent)
        if spare < 0.0:
            return False
    return True


@inner
def insert(front, flags, keys, count, label, flag, key, dearest, pace, strict):
    """Add a label to a front; returns the new count.

    Args:
        front: float64[ROOM, LABEL]; ``flags`` int64[ROOM]; ``keys`` float64[ROOM], the least value
            of each, used to choose what merges.
        dearest, pace, strict: See ``covers``.
    """
    for i in range(count):
        if covers(front, flags, i, label, flag, dearest, pace, strict):
            if i > 0:  # what covers one often covers the next
                for c in range(LABEL):
                    front[0, c], front[i, c] = front[i, c], front[0, c]
                flags[0], flags[i] = flags[i], flags[0]
                keys[0], keys[i] = keys[i], keys[0]
            return count
    i = 0
    while i < count:
        if covered(front, flags, i, label, flag, dearest, pace, strict):
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
    near, least = 0, 1e308
    for i in range(count):
        apart = abs(keys[i] - key) + (0.0 if flags[i] == flag else 1e300)
        if apart < least:
            near, least = i, apart
    for c in range(LABEL):
        a, b = front[near, c], label[c]
        front[near, c] = max(a, b) if c == K else min(a, b)
    flags[near] |= flag
    keys[near] = min(keys[near], key)
    return count


@inlined
def rules(goal, prices):
    """How labels are compared, ``pace`` and ``strict`` of ``covers``."""
    if goal[KIND] == ENERGY and goal[MOST] > 1e300:
        pace = prices.scalars[LEAK] * prices.scalars[MAC_TIME]
        return pace, pace > 0.0
    return -1.0, True


@inlined
def enter_loops(prices, s, kept, old, flag, strict, label):
    """A label as slot s, keeping ``kept``, sees it from inside its loops; returns its flags.

    What the slot spends on an operand it keeps (reads, and what was spent inside) is put in ``p``
    while the operand is open, then in ``E``; ``n`` is left for the load of the slot's ports.
    """
    for c in range(LABEL):
        label[c] = old[c]
    for t in range(3):
        if (kept >> t) & 1:
            label[P + t] += label[N + t] * prices.access[s, t]
            if not strict:
                label[N + t] = 0.0
            if not (flag >> t) & 1:
                label[E] += label[P + t]
                label[P + t] = 0.0
    return flag


@inlined
def pass_loop(sp, prices, s, kept, shape, d, bound, old, flag, label):
    """A label outside one more loop of slot s; returns its flags.

    Args:
        shape: The tile inside the loop; ``d`` and ``bound`` the loop.
    """
    for c in range(LABEL):
        label[c] = old[c]
    for t in range(3):
        if not (flag >> t) & 1:
            continue
        if not (sp.relevant[t] >> d) & 1:
            label[N + t] /= bound
            label[P + t] /= bound
            continue
        if t == 0 and sp.partner[d] >= 0:
            ratio = window_ratio(sp, shape, d, bound)
            label[N] *= ratio
            label[P] *= ratio
        flag &= ~(1 << t)
        if (kept >> t) & 1 or t > 0 or prices.share[s] == 1.0:  # nothing outside can spare it
            label[E] += label[P + t]
            label[P + t] = 0.0
    return flag


@inlined
def settle(sp, prices, s, kept, shape, label, flag, fresh):
    """A label outside slot s, which keeps ``kept`` of the tile; returns its flags.

    Args:
        label: From ``enter_loops`` and ``pass_loop``; ``fresh`` the label outside, written.
    """
    for c in range(LABEL):
        fresh[c] = label[c]
    visits = sp.volume[sp.volume.shape[0] - 1] / sp.volume[shape]
    read, written = 0.0, 0.0
    for t in range(3):
        if (kept >> t) & 1:
            words = sp.words[shape, t] * visits
            once = sp.visits[shape, t] / visits * (least_window(sp, shape) if t == 0 else 1.0)
            asked = label[N + t] * (once if (flag >> t) & 1 else 1.0) * prices.bits[s, t]
            filled = words * once * prices.bits[s, t]
            if t == 2:  # first touches are neither read nor filled
                written += asked
                first = prices.scalars[OUT_WORDS] * prices.bits[s, 2]
                first *= min(prices.most[s, 2], visits / sp.visits[shape, 2])
                asked, filled = max(0.0, asked - first), max(0.0, filled - first)
            read += asked
            written += filled
            fresh[N + t] = words
            fresh[P + t] += words * prices.fill[s, t]
    busy = max(read * prices.slow[s, 0], written * prices.slow[s, 1])
    busy = max(busy, (read + written) * prices.slow[s, 2])
    fresh[L] = max(fresh[L], busy / prices.scalars[MAC_TIME])
    if (kept >> 2) & 1:
        fresh[K] += prices.credit[s]
    return flag | kept


@inlined
def through_fanout(sp, prices, s, f, shape, old, flag, label):
    """A label of the tile of one branch, seen from outside the fanout."""
    fans, dims = prices.fans, sp.step.shape[0]
    units = 1.0
    for d in range(dims):
        units *= sp.values[d, fans[f, d]]
    share = merged_share(sp, shape, f, fans)
    label[E], label[L], label[K] = old[E], old[L] / units, old[K]
    for t in range(3):
        copies = 1.0
        for d in range(dims):
            if not (sp.relevant[t] >> d) & 1:
                copies *= sp.values[d, fans[f, d]]
        merged = share if t == 0 else 1.0
        toll = prices.toll[s] * prices.bits[s, t] * (units + copies) if units > 1.0 else 0.0
        asked = old[N + t] / copies * merged
        spent = old[P + t] * merged + asked * toll * (2.0 if t == 2 else 1.0)
        label[N + t], label[P + t] = asked, spent
        if not (flag >> t) & 1 and (t > 0 or prices.share[s] == 1.0):
            label[E] += spent
            label[P + t] = 0.0
        if t == 2:
            label[K] = old[K] * copies + prices.scalars[OUT_WORDS] * toll


@inner
def pass_loops(sp, prices, s, kept, orders, q, every, bounds, shape, old, flag, label):
    """A label outside all loops of slot s at once; returns its flags.

    Args:
        bounds: float64[D] loop bounds, ``every`` their product; ``q`` row of ``orders``.
        shape: The tile inside them.
    """
    for c in range(LABEL):
        label[c] = old[c]
    for t in range(3):
        if not (flag >> t) & 1:
            continue
        times, counted = 1.0 / every, orders.counted[q, t]
        for d in range(bounds.shape[0]):
            if (counted >> d) & 1:
                times *= bounds[d]
        if t == 0 and counted and orders.mover[q] >= 0:
            times *= window_ratio(sp, shape, orders.mover[q], bounds[orders.mover[q]])
        label[N + t] *= times
        label[P + t] *= times
        if counted:
            flag &= ~(1 << t)
            if (kept >> t) & 1 or t > 0 or prices.share[s] == 1.0:
                label[E] += label[P + t]
                label[P + t] = 0.0
    return flag


@inlined
def next_inside(sp, shape, at, inside):
    """The next tile inside a shape: an odometer over the divisors of every dimension.

    Args:
        at: int64[D], divisor indices of tile ``inside``, changed to those of the next.

    Returns:
        The next tile; 0 after the last (the first is shape 0).
    """
    dims = at.shape[0]
    for u in range(dims):
        d = dims - 1 - u
        top = sp.index[shape, d]
        inside -= at[d] * sp.strides[d]
        at[d] += 1
        while at[d] <= top and sp.quotient[d, top, at[d]] < 0:
            at[d] += 1
        if at[d] <= top:
            return inside + at[d] * sp.strides[d]
        at[d] = 0
    return 0
