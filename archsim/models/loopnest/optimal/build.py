"""Build the labels of a boundary from those of the next one inside, tile by tile.

See ``labels.py`` for what a label is; here every tile that enters a slot collects, from the tiles
that may lie inside it, the labels that no other makes superfluous and that can still win.
"""

from __future__ import annotations

from archsim.models.jit import inlined, inner
from archsim.models.loopnest.optimal.labels import (
    enter_loops,
    insert,
    next_inside,
    pass_loop,
    pass_loops,
    rules,
    settle,
    through_fanout,
)
from archsim.models.loopnest.optimal.outside import (
    A_OPEN,
    A_SHUT,
    ALONE,
    LABEL,
    K,
    N,
    P,
    fits,
    least_in_tier,
    least_states,
    list_tier_loops,
    promise,
)

# Counters of a boundary: inner labels, labels, labels tried.
PRE, POST, TRIED = range(3)
# A promise above this is none.
HOPELESS = 1e308


@inlined
def promise_outside(prices, work, cases, listed, goal, points, label, flag):
    """``promise``, and at boundary 1 (where the tier's orders are ``listed``) exactly."""
    if listed:
        return least_in_tier(prices, work.tier, listed, goal, points, label, flag)
    return promise(prices, work.states, cases, goal, points, label, flag)


@inner
def admit(s, found, prices, goal, points, work, cases, listed, label, flag):
    """Add a label to those of the tile at boundary s if it can win; returns how many there are."""
    key = promise_outside(prices, work, cases, listed, goal, points, label, flag)
    if key > HOPELESS:
        return found
    pace, strict = rules(goal, prices)
    return insert(
        work.outer, work.outer_flags, work.outer_keys, found, label, flag, key, prices.dearest[s],
        pace, strict,
    )  # fmt: skip


@inner
def prepare(s, c, x, cases, sp, prices, around, work):
    """What lies outside the loops of slot s, which makes choice c, costs at least.

    Returns:
        Cases in ``work.entered``.
    """
    kept, states, n = prices.choices[s, c], work.entered, cases
    if s == 1:  # seen from inside slot 1, which is what the cases of boundary 2 tell apart
        n = least_states(sp, prices, 2, x, around, c, c + 1, states)
    else:
        for i in range(cases):
            for v in range(states.shape[1]):
                states[i, v] = work.states[i, v]
    for i in range(n):
        for t in range(3):
            if (kept >> t) & 1:  # reads of the slot itself are in the label
                states[i, A_SHUT + t], states[i, A_OPEN + t] = 0.0, 0.0
                states[i, ALONE + t] = 0.0
    return n


@inner
def build_loops(
    s, c, x, found, sp, prices, goal, points, around, inside, pre, used, work, cases, listed
):  # fmt: skip
    """Labels of tile x at storage s if it makes choice c, from those one prime smaller.

    Args:
        found: Labels at boundary s so far; others as for ``build_labels``.

    Returns:
        Labels at boundary s.
    """
    front, flags, keys, label = work.inner, work.inner_flags, work.inner_keys, work.label
    pace, strict = rules(goal, prices)
    kept, size, dearest = prices.choices[s, c], 0, prices.dearest[s]
    n = prepare(s, c, x, cases, sp, prices, around, work)
    for i in range(inside.start[x], inside.start[x] + inside.count[x]):
        flag = enter_loops(prices, s, kept, inside.rows[i], inside.flags[i], strict, label)
        used[TRIED] += 1
        key = promise(prices, work.entered, n, goal, points, label, flag)
        if key < HOPELESS:
            size = insert(front, flags, keys, size, label, flag, key, dearest, pace, strict)
    for d in range(sp.step.shape[0]):
        top = sp.index[x, d]
        if not prices.loops[s, d]:
            continue
        primes = sp.edges[d, top, 0]
        for u in range(sp.edges[d, top, 1] if sp.partner[d] >= 0 else primes):
            j = sp.below[d, top, u]
            y = x - (top - j) * sp.strides[d]
            bound = sp.values[d, top] / sp.values[d, j]
            for i in range(pre.start[c, y], pre.start[c, y] + pre.count[c, y]):
                old, flag = pre.rows[i], pre.flags[i]
                # Several primes at once are only needed to slide an open window.
                if u >= primes and (not flag & 1 or old[N] + old[P] == 0.0):
                    continue
                flag = pass_loop(sp, prices, s, kept, y, d, bound, old, flag, label)
                used[TRIED] += 1
                key = promise(prices, work.entered, n, goal, points, label, flag)
                if key < HOPELESS:
                    size = insert(front, flags, keys, size, label, flag, key, dearest, pace, strict)
    pre.start[c, x], pre.count[c, x] = used[PRE], size
    for i in range(size):
        place = used[PRE] + i
        for v in range(LABEL):
            pre.rows[place, v] = front[i, v]
        pre.flags[place] = flags[i]
        flag = settle(sp, prices, s, kept, x, front[i], flags[i], work.fresh)
        found = admit(s, found, prices, goal, points, work, cases, listed, work.fresh, flag)
    used[PRE] += size
    return found


@inner
def build_pairs(
    s, c, x, found, sp, orders, prices, goal, points, inside, used, work, cases, listed
):  # fmt: skip
    """As ``build_loops`` where constraints fix orders or bounds: from all tiles inside."""
    bounds, at, label = work.bounds, work.at, work.label
    kept, table, y = prices.choices[s, c], prices.table[s], 0
    for d in range(at.shape[0]):
        at[d] = 0
    while True:
        active, every, legal = 0, 1.0, inside.count[y] > 0
        for d in range(at.shape[0]):
            j = sp.quotient[d, sp.index[x, d], at[d]]
            legal = legal and prices.allowed[s, d, j]
            bounds[d] = sp.values[d, j]
            every *= bounds[d]
            active |= (1 if j > 0 else 0) << d
        if legal:
            for q in range(orders.start[table, active], orders.start[table, active + 1]):
                for i in range(inside.start[y], inside.start[y] + inside.count[y]):
                    used[TRIED] += 1
                    # What the slot spends on what it keeps is taken before the loops.
                    flag = enter_loops(
                        prices, s, kept, inside.rows[i], inside.flags[i], True, work.inner[0]
                    )
                    flag = pass_loops(
                        sp, prices, s, kept, orders, q, every, bounds, y, work.inner[0], flag, label
                    )
                    flag = settle(sp, prices, s, kept, x, label, flag, work.fresh)
                    found = admit(
                        s, found, prices, goal, points, work, cases, listed, work.fresh, flag
                    )
        y = next_inside(sp, x, at, y)
        if y == 0:
            return found


@inner
def build_fanout(s, x, sp, prices, goal, points, inside, used, work, cases, listed):
    """Labels of tile x outside fanout s; returns how many."""
    label, found = work.label, 0
    for f in range(prices.fan_start[s], prices.fan_start[s + 1]):
        y = 0
        for d in range(sp.step.shape[0]):
            j = sp.quotient[d, sp.index[x, d], prices.fans[f, d]]
            if j < 0:
                y = -1
                break
            y += j * sp.strides[d]
        if y < 0 or inside.count[y] == 0:
            continue
        if inside.count[y] > 2:  # their merger first
            flag = inside.corner_flags[y]
            through_fanout(sp, prices, s, f, y, inside.corner[y], flag, label)
            key = promise_outside(prices, work, cases, listed, goal, points, label, flag)
            if key > HOPELESS:
                continue
        for i in range(inside.start[y], inside.start[y] + inside.count[y]):
            used[TRIED] += 1
            flag = inside.flags[i]
            through_fanout(sp, prices, s, f, y, inside.rows[i], flag, label)
            found = admit(s, found, prices, goal, points, work, cases, listed, label, flag)
    return found


@inner
def pass_idle(s, x, found, prices, goal, points, inside, used, work, cases, listed):
    """Labels of a tile at a storage that keeps nothing and has no loops: those inside it."""
    for i in range(inside.start[x], inside.start[x] + inside.count[x]):
        used[TRIED] += 1
        for c in range(LABEL):
            work.label[c] = inside.rows[i, c]
        flag = inside.flags[i]
        found = admit(s, found, prices, goal, points, work, cases, listed, work.label, flag)
    return found


@inner
def build_tile(
    x, s, sp, orders, prices, goal, points, around, outer, inside, pre, used, work
):  # fmt: skip
    """Labels of one tile at boundary s, in ``work.outer``; returns how many."""
    cases = least_states(sp, prices, s, x, outer, 0, prices.cases[s], work.states)
    if cases == 0:
        return 0
    listed, found = list_tier_loops(sp, orders, prices, x, work.tier) if s == 1 else 0, 0
    if prices.fanout[s]:
        return build_fanout(s, x, sp, prices, goal, points, inside, used, work, cases, listed)
    for c in range(prices.ways[s]):
        kept = prices.choices[s, c]
        if kept and not fits(sp, prices, s, kept, x):
            continue
        if kept == 0 and prices.idle[s]:
            found = pass_idle(s, x, found, prices, goal, points, inside, used, work, cases, listed)
        elif prices.pairwise[s]:
            found = build_pairs(
                s, c, x, found, sp, orders, prices, goal, points, inside, used, work, cases, listed
            )
        else:
            found = build_loops(
                s, c, x, found, sp, prices, goal, points, around, inside, pre, used, work, cases,
                listed,
            )  # fmt: skip
    return found


@inner
def build_labels(
    x, s, sp, orders, prices, goal, points, around, outer, inside, pre, post, used, work, most
):  # fmt: skip
    """Labels of tile shapes x.. at boundary s, from those at boundary s + 1.

    Args:
        x: First shape.
        sp, orders, prices: Of the mapspace; ``goal``, ``points`` what a label must be able to beat.
        around: float64[C, X] least energy between tier and slot 1 by what slot 1 keeps; ``outer``
            as far as it lies outside boundary s.
        inside: ``Labels`` at boundary s + 1; ``pre`` inside the storage's own tile, written;
        post: ``Labels`` of this boundary, written.
        used: int64[3], see above.
        work: ``Work``.
        most: Most labels to try now.

    Returns:
        The first shape not done.
    """
    last_try, total, room = used[TRIED] + most, sp.volume.shape[0], work.outer.shape[0]
    while x < total:
        full = used[PRE] + 8 * room > pre.rows.shape[0] or used[POST] + room > post.rows.shape[0]
        if full or used[TRIED] > last_try:
            return x
        twin = sp.twin[x]
        if twin != x:
            post.start[x], post.count[x] = post.start[twin], post.count[twin]
            for c in range(pre.start.shape[0]):
                pre.start[c, x], pre.count[c, x] = pre.start[c, twin], pre.count[c, twin]
            for v in range(LABEL):
                post.corner[x, v] = post.corner[twin, v]
            post.corner_flags[x] = post.corner_flags[twin]
            x += 1
            continue
        found = build_tile(
            x, s, sp, orders, prices, goal, points, around, outer, inside, pre, used, work
        )
        post.start[x], post.count[x] = used[POST], found
        for i in range(found):
            place = used[POST] + i
            for c in range(LABEL):
                a, b = work.outer[i, c], post.corner[x, c]
                post.rows[place, c] = a
                post.corner[x, c] = a if i == 0 else (max(a, b) if c == K else min(a, b))
            post.flags[place] = work.outer_flags[i]
            post.corner_flags[x] |= work.outer_flags[i]
        used[POST] += found
        x += 1
    return x
