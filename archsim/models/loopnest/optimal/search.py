"""Depth-first branch and bound, outer slots first, over everything the labels cannot rule out.

The state outside a boundary multiplies the components of a label inside it (see ``labels.py``); the
least of these sums over the labels of a child is the child's bound. A child is what a storage keeps
(nothing to choose at a fanout and in the tier), its loops, and the tile inside them. Children are
taken in the order of their bounds. Complete mappings are handed out in batches for the exact kernel
to judge.
"""

from __future__ import annotations

import numpy as np

from archsim.models.jit import inlined, inner
from archsim.models.loopnest.optimal.labels import next_inside, rules
from archsim.models.loopnest.optimal.layout import LEAK, OUT_WORDS, SAVED_BITS
from archsim.models.loopnest.optimal.outside import (
    A_OPEN,
    A_SHUT,
    B_OPEN,
    B_SHUT,
    BASE,
    BEST,
    COPIES,
    KIND,
    LEAST,
    PARETO,
    SHARED,
    STEPS,
    TOLERANCE,
    N,
    energy_of,
    fits,
    merged_share,
    steps_of,
    survives,
    value_of,
    window_ratio,
)

# The state's further columns: share of the words a child asks for that its parent is asked for,
# closed and open, instances in use, and the parent of each operand; then what the loop that slides
# an open window outside does (words a step, bound, and the share of the window taken to be new);
# then bits read and written at every slot as far as decided, and the instances of every slot.
R_SHUT, R_OPEN, USED, PARENT = SHARED, SHARED + 3, SHARED + 6, SHARED + 7
SLIDE, SHIFT, TURNS, RATIO = SHARED + 10, SHARED + 11, SHARED + 12, SHARED + 13
DECIDED = SHARED + 14
# Work registers of a search: level, nodes, children pruned, mappings handed out.
LEVEL, NODES, PRUNED, LEAVES = range(4)
# Why a call came back.
DONE, BATCH, ROOM_NEEDED, PAUSE = range(4)


@inner
def start_state(prices, slots, state):
    """The state outside slot 0: nothing decided, everything kept in the tier."""
    for c in range(state.shape[0]):
        state[c] = 0.0
    state[BASE], state[COPIES] = prices.scalars[0] - prices.credit[0], 1.0
    state[STEPS], state[USED], state[SLIDE], state[RATIO] = 1.0, 1.0, -1.0, 1.0
    for s in range(slots):
        state[DECIDED + 2 * slots + s] = 1.0
    for t in range(3):
        state[A_SHUT + t], state[A_OPEN + t] = prices.access[0, t], prices.access[0, t]
        state[B_SHUT + t], state[B_OPEN + t] = 1.0, 1.0
        state[R_SHUT + t], state[R_OPEN + t] = 1.0, 1.0


@inner
def enter_storage(sp, prices, s, kept, shape, slots, state):
    """Charge what fills slot s with the tile of what it keeps, of which it is the parent now."""
    size = prices.scalars[OUT_WORDS]
    visits = sp.volume[sp.volume.shape[0] - 1] / sp.volume[shape]
    state[DECIDED + 2 * slots + s] = state[USED]
    for t in range(3):
        if not (kept >> t) & 1:
            continue
        if t == 0 and state[SLIDE] >= 0.0:
            fit_window(sp, shape, state)
        words, p = sp.words[shape, t] * visits, int(state[PARENT + t])
        fills = state[B_OPEN + t] * words
        state[BASE] += state[A_OPEN + t] * words + fills * prices.fill[s, t]
        decide(prices, p, t, state[R_OPEN + t] * words, state)
        if t == 2:
            state[BASE] -= prices.credit[s] * state[COPIES]
            fills -= size * state[COPIES]
        state[DECIDED + 2 * s + 1] += fills * prices.bits[s, t]
        state[B_SHUT + t] = 1.0
        state[A_SHUT + t] = prices.access[s, t]
        state[A_OPEN + t] = state[B_OPEN + t] * prices.access[s, t]
        state[R_SHUT + t], state[R_OPEN + t] = 1.0, state[B_OPEN + t]
        state[PARENT + t] = s
    slow_slots(prices, slots, state)


@inlined
def fit_window(sp, shape, state):
    """Take the share of a sliding window that is new from the tile that is really kept.

    Until a storage keeps it, the tile inside the sliding loop stands for it: fanouts between make
    that larger, so that its windows overlap more.
    """
    d = int(state[SLIDE])
    r = sp.partner[d]
    span = sp.step[d] * (sp.values[d, sp.index[shape, d]] - 1.0) + 1.0
    span += sp.step[r] * (sp.values[r, sp.index[shape, r]] - 1.0)
    ratio = (1.0 + (state[TURNS] - 1.0) * min(1.0, state[SHIFT] / span)) / state[TURNS]
    for column in (A_OPEN, B_OPEN, R_OPEN):
        state[column] *= ratio / state[RATIO]
    state[RATIO] = ratio


@inner
def decide(prices, p, t, asked, state):
    """Add what slot p is asked for, in words over all instances, to its ports' load."""
    bits = prices.bits[p, t]
    if t == 2:
        # Copies of the parent are not at hand: at most those of now, which lie further inside.
        first = prices.scalars[OUT_WORDS] * state[COPIES]
        state[DECIDED + 2 * p] += max(0.0, asked - first) * bits
        written = asked * bits
        if p == 0:
            written -= prices.scalars[SAVED_BITS] * prices.scalars[OUT_WORDS]
        state[DECIDED + 2 * p + 1] += written
    else:
        state[DECIDED + 2 * p] += asked * bits


@inner
def slow_slots(prices, slots, state):
    """Raise the least cycles to what the busiest port decided on needs."""
    for p in range(slots):
        read, written = state[DECIDED + 2 * p], state[DECIDED + 2 * p + 1]
        busy = max(read * prices.slow[p, 0], written * prices.slow[p, 1])
        busy = max(busy, (read + written) * prices.slow[p, 2])
        state[LEAST] = max(state[LEAST], busy / state[DECIDED + 2 * slots + p])


@inner
def pass_storage(sp, bounds, every, orders, q, shape, old, state):
    """The state inside a storage's loops (``shape`` the tile there), from that outside them."""
    for c in range(state.shape[0]):
        state[c] = old[c]
    for t in range(3):
        counted, times, o = orders.counted[q, t], 1.0, t
        if counted:
            for d in range(bounds.shape[0]):
                times *= bounds[d] if (counted >> d) & 1 else 1.0
            d = orders.mover[q]
            if t == 0:
                state[RATIO] = window_ratio(sp, shape, d, bounds[d]) if d >= 0 else 1.0
                times *= state[RATIO]
                slides = d >= 0 and sp.partner[d] >= 0
                state[SLIDE] = d if slides else -1.0
                if slides:
                    state[SHIFT] = sp.step[d] * sp.values[d, sp.index[shape, d]]
                    state[TURNS] = bounds[d]
        else:
            o = 3 + t  # nothing moves it here: as often as outside
        times /= every
        state[A_OPEN + t] = old[A_SHUT + o] * times
        state[B_OPEN + t] = old[B_SHUT + o] * times
        state[R_OPEN + t] = old[R_SHUT + o] * times


@inner
def pass_fanout(sp, prices, s, f, shape, old, state):
    """The state inside a fanout (``shape`` the tile of one branch), from that outside it."""
    fans, dims = prices.fans, sp.step.shape[0]
    for c in range(state.shape[0]):
        state[c] = old[c]
    units = 1.0
    for d in range(dims):
        units *= sp.values[d, fans[f, d]]
    share = merged_share(sp, shape, f, fans)
    for t in range(3):
        copies = 1.0
        for d in range(dims):
            if not (sp.relevant[t] >> d) & 1:
                copies *= sp.values[d, fans[f, d]]
        merged = share if t == 0 else 1.0
        toll = prices.toll[s] * prices.bits[s, t] * (units + copies) if units > 1.0 else 0.0
        paid = toll * (2.0 if t == 2 else 1.0)
        asked = merged / copies
        for c in range(2):
            a, b, r = A_SHUT + 3 * c + t, B_SHUT + 3 * c + t, R_SHUT + 3 * c + t
            state[a] = asked * (old[a] + old[b] * paid)
            state[b] = old[b] * merged
            state[r] = asked * old[r]
        if t == 2:
            state[BASE] -= old[COPIES] * prices.scalars[OUT_WORDS] * toll
            state[COPIES] = old[COPIES] * copies
    state[STEPS] = old[STEPS] / units
    state[USED] = old[USED] * units


@inlined
def busy_ports(state, prices, label, flags, p):
    """Cycles the ports of slot p need for what is decided and what a label inside asks for."""
    slots = prices.fanout.shape[0]
    read, written = state[DECIDED + 2 * p], state[DECIDED + 2 * p + 1]
    for t in range(3):
        if int(state[PARENT + t]) != p:
            continue
        asked = state[R_OPEN + t] if (flags >> t) & 1 else state[R_SHUT + t]
        asked *= label[N + t]
        if t == 2:
            # First touches: at most as many as there are copies now and further inside.
            written += asked * prices.bits[p, t]
            if p == 0:
                written -= prices.scalars[SAVED_BITS] * prices.scalars[OUT_WORDS]
            asked = max(0.0, asked - prices.scalars[OUT_WORDS] * state[COPIES])
        read += asked * prices.bits[p, t]
    busy = max(read * prices.slow[p, 0], written * prices.slow[p, 1])
    busy = max(busy, (read + written) * prices.slow[p, 2])
    return busy / state[DECIDED + 2 * slots + p]


@inner
def bound_child(state, prices, labels, flags, first, many, ports, goal, points):
    """Least value with any of the labels ``first`` .. inside; inf if none can win.

    Args:
        ports: Whether labels have the least words as well as the least energy (see ``insert``).
    """
    least = np.inf
    for i in range(first, first + many):
        cycles = steps_of(state, labels[i], prices)
        for t in range(3):
            if ports:
                p = int(state[PARENT + t])
                cycles = max(cycles, busy_ports(state, prices, labels[i], flags[i], p))
        energy = energy_of(state, labels[i], flags[i]) + prices.scalars[LEAK] * cycles
        if survives(goal, points, energy, cycles):
            least = min(least, value_of(goal, energy, cycles))
    return least


@inner
def sink(values, tiles, rows, first, size, i):
    """Restore a heap (least value first) below place i."""
    while True:
        child = 2 * i + 1
        if child >= size:
            return
        if child + 1 < size and values[first + child + 1] < values[first + child]:
            child += 1
        if values[first + i] <= values[first + child]:
            return
        swap(values, tiles, rows, first + i, first + child)
        i = child


@inner
def swap(values, tiles, rows, i, j):
    """Exchange two children."""
    values[i], values[j] = values[j], values[i]
    tiles[i], tiles[j] = tiles[j], tiles[i]
    rows[i], rows[j] = rows[j], rows[i]


@inner
def expand(
    level, shape, sp, orders, prices, goal, points, tables, states, values, tiles, rows, heap,
    registers, work,
):  # fmt: skip
    """List the children of a node that may win, as a heap.

    Args:
        level: Slot; ``shape`` the tile that enters it; the state there is ``states[level]``.
        tables: (labels, flags, start, count) of all boundaries; start, count int64[S + 1, X].
        values, tiles, rows: Children: bound, tile inside, row of ``orders`` or ``fans`` and choice
            of kept operands in one number.
        heap: int64[S + 2, 2] first place and size of a level's children.

    Returns:
        False if there is no room.
    """
    labels, label_flags, start, many = tables
    state, entered, bounds, at = work
    dims, slots = sp.step.shape[0], prices.fanout.shape[0]
    first, size, table = heap[level, 0], 0, prices.table[level]
    ports = rules(goal, prices)[1]
    for choice in range(prices.ways[level]):
        kept, y, more = prices.choices[level, choice], 0, True
        if level > 0 and not prices.fanout[level]:
            if not fits(sp, prices, level, kept, shape):
                continue
            for c in range(state.shape[0]):
                entered[c] = states[level, c]
            enter_storage(sp, prices, level, kept, shape, slots, entered)
        else:
            for c in range(state.shape[0]):
                entered[c] = states[level, c]
        f, last = prices.fan_start[level], prices.fan_start[level + 1]
        more = not prices.fanout[level] or f < last
        for d in range(dims):
            at[d] = 0
        if prices.idle[level] and kept == 0:
            y = shape
            for d in range(dims):
                at[d] = sp.index[shape, d]
        while more:
            active, every, legal = 0, 1.0, True
            if prices.fanout[level]:
                y = 0
                for d in range(dims):
                    j = sp.quotient[d, sp.index[shape, d], prices.fans[f, d]]
                    legal = legal and j >= 0
                    y += j * sp.strides[d]
                legal = legal and many[level + 1, y] > 0
                q, end = f, f + 1
            elif many[level + 1, y] > 0:
                for d in range(dims):
                    j = sp.quotient[d, sp.index[shape, d], at[d]]
                    legal = legal and prices.allowed[level, d, j]
                    bounds[d] = sp.values[d, j]
                    every *= bounds[d]
                    active |= (1 if j > 0 else 0) << d
                q, end = orders.start[table, active], orders.start[table, active + 1]
            else:
                legal, q, end = False, 0, 0
            while legal and q < end:
                if first + size + 1 >= values.shape[0]:
                    return False
                if prices.fanout[level]:
                    pass_fanout(sp, prices, level, f, y, entered, state)
                else:
                    pass_storage(sp, bounds, every, orders, q, y, entered, state)
                value = bound_child(
                    state, prices, labels, label_flags, start[level + 1, y], many[level + 1, y],
                    ports, goal, points,
                )  # fmt: skip
                if value < np.inf:
                    values[first + size], tiles[first + size] = value, y
                    rows[first + size] = 8 * q + choice
                    size += 1
                else:
                    registers[PRUNED] += 1
                q += 1
            if prices.fanout[level]:
                f += 1
                more = f < last
            elif (prices.idle[level] and kept == 0) or level + 1 == slots:
                more = False  # no loops, or only one point inside the last slot
            else:
                y = next_inside(sp, shape, at, y)
                more = y > 0
    for i in range(size // 2 - 1, -1, -1):
        sink(values, tiles, rows, first, size, i)
    heap[level, 1] = size
    return True


@inner
def hand_out(sp, orders, prices, chosen, place, factors, order, keep):
    """Write the mapping chosen at all levels to place ``place`` of the batch."""
    for s in range(prices.fanout.shape[0]):
        a, b, row = chosen[s, 0], chosen[s + 1, 0], chosen[s, 1] // 8
        kept = prices.choices[s, chosen[s, 1] % 8]
        for d in range(sp.step.shape[0]):
            j = sp.quotient[d, sp.index[a, d], sp.index[b, d]]
            factors[place, s, d] = sp.values[d, j]
            order[place, s, d] = d if prices.fanout[s] else orders.perm[row, d]
        for t in range(3):
            keep[place, s, t] = (kept >> t) & 1 and not prices.fanout[s]


@inner
def search(
    sp, orders, prices, goal, points, tables, states, values, tiles, rows, heap, chosen,
    registers, quantum, work, factors, order, keep,
):  # fmt: skip
    """Go on until done, the batch is full, room is needed, or ``quantum`` nodes are visited.

    Args:
        chosen: int64[S + 1, 2] tile entering a slot; what was chosen there, see ``rows``.
        registers: int64[4]; level -1 when done; all zero with ``heap`` zero at the start.
        factors, order, keep: [N, S, D], [N, S, D] and [N, S, 3] a batch of complete mappings,
            written from ``registers[LEAVES]`` on.

    Returns:
        Why it came back.
    """
    slots, dims = prices.fanout.shape[0], sp.step.shape[0]
    state, entered, bounds, _ = work
    first_node = registers[NODES]
    if registers[LEVEL] == 0 and registers[NODES] == 0:
        chosen[0, 0] = sp.volume.shape[0] - 1
        start_state(prices, slots, states[0])
        heap[0, 0] = 0
        if not expand(
            0, chosen[0, 0], sp, orders, prices, goal, points, tables, states, values, tiles, rows,
            heap, registers, work,
        ):  # fmt: skip
            return ROOM_NEEDED
        registers[NODES] = 1
    while registers[LEVEL] >= 0:
        level = registers[LEVEL]
        first, size = heap[level, 0], heap[level, 1]
        hopeless = goal[KIND] != PARETO and goal[BEST] <= values[first] * (1.0 + goal[TOLERANCE])
        if size > 0 and hopeless:
            registers[PRUNED] += size
            heap[level, 1] = 0
            size = 0
        if size == 0:
            registers[LEVEL] -= 1
            continue
        if registers[NODES] - first_node >= quantum:
            return PAUSE
        if registers[LEAVES] >= factors.shape[0]:
            return BATCH
        y, row = tiles[first], rows[first]
        chosen[level, 1], chosen[level + 1, 0] = row, y
        shape = chosen[level, 0]
        if level + 1 == slots:
            hand_out(sp, orders, prices, chosen, registers[LEAVES], factors, order, keep)
            registers[LEAVES] += 1
        else:
            if prices.fanout[level]:
                pass_fanout(sp, prices, level, row // 8, y, states[level], states[level + 1])
            else:
                every = 1.0
                for d in range(dims):
                    j = sp.quotient[d, sp.index[shape, d], sp.index[y, d]]
                    bounds[d] = sp.values[d, j]
                    every *= sp.values[d, j]
                for c in range(state.shape[0]):
                    entered[c] = states[level, c]
                if level > 0:
                    kept = prices.choices[level, row % 8]
                    enter_storage(sp, prices, level, kept, shape, slots, entered)
                pass_storage(sp, bounds, every, orders, row // 8, y, entered, states[level + 1])
            heap[level + 1, 0] = first + size
            if not expand(
                level + 1, y, sp, orders, prices, goal, points, tables, states, values, tiles,
                rows, heap, registers, work,
            ):  # fmt: skip
                return ROOM_NEEDED  # the child is still on the heap: it is expanded again
        registers[NODES] += 1
        size -= 1
        swap(values, tiles, rows, first, first + size)
        heap[level, 1] = size
        sink(values, tiles, rows, first, size, 0)
        if level + 1 < slots:
            registers[LEVEL] = level + 1
    return DONE
