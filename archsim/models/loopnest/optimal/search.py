"""Depth-first branch and bound, outer slots first, over everything the labels cannot rule out.

The state outside a boundary multiplies the components of a label inside it (see ``labels.py``); the
least of these sums over the labels of a child is the child's bound. Children are taken in the order
of their bounds. Complete mappings are handed out in batches for the exact kernel to judge.
"""

from __future__ import annotations

import numpy as np

from archsim.models.jit import inner
from archsim.models.loopnest.optimal.labels import (
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
    VISITS,
    N,
    energy_of,
    fits,
    merged_share,
    steps_of,
    survives,
    value_of,
    window_ratio,
)
from archsim.models.loopnest.optimal.layout import LEAK, OUT_WORDS, SAVED_BITS

# The state's further columns: words asked of the parent a word, closed and open, instances in use;
# then bits read and written at every slot as far as decided, and the instances of every slot.
R_SHUT, R_OPEN, USED = SHARED, SHARED + 3, SHARED + 6
DECIDED = SHARED + 7
# Work registers of a search: level, nodes, children pruned, mappings handed out.
LEVEL, NODES, PRUNED, LEAVES = range(4)
# Why a call came back.
DONE, BATCH, ROOM_NEEDED, PAUSE = range(4)


@inner
def start_state(prices, slots, state):
    """The state outside slot 0: nothing decided, everything kept in the tier."""
    for c in range(state.shape[0]):
        state[c] = 0.0
    state[BASE], state[VISITS], state[COPIES] = prices.scalars[0], 1.0, 1.0
    state[STEPS], state[USED] = 1.0, 1.0
    for s in range(slots):
        state[DECIDED + 2 * slots + s] = 1.0
    state[BASE] -= prices.credit[0]
    for t in range(3):
        state[A_SHUT + t], state[A_OPEN + t] = prices.access[0, t], prices.access[0, t]
        state[B_SHUT + t], state[B_OPEN + t] = 1.0, 1.0
        state[R_SHUT + t], state[R_OPEN + t] = 1.0, 1.0


@inner
def enter_storage(sp, prices, s, shape, slots, state):
    """Charge what fills slot s with its tile; from here on it is the parent."""
    size = prices.scalars[OUT_WORDS]
    state[DECIDED + 2 * slots + s] = state[USED]
    for t in range(3):
        if not prices.kept[s, t]:
            continue
        words, p = sp.words[shape, t], prices.parent[s, t]
        fills = state[B_OPEN + t] * words
        state[BASE] += state[A_OPEN + t] * words + fills * prices.fill[s, t]
        asked = state[R_OPEN + t] * words
        decide(prices, p, t, asked, state)
        if t == 2:
            state[BASE] -= prices.credit[s] * state[COPIES]
            fills -= size * state[COPIES]
        state[DECIDED + 2 * s + 1] += fills * prices.bits[s, t]
        for c in range(2):
            times = state[B_SHUT + t] if c == 0 else state[B_OPEN + t]
            if c == 0:
                times = state[VISITS]
                state[B_SHUT + t] = times
            column = t if c == 0 else 3 + t
            state[A_SHUT + column] = times * prices.access[s, t]
            state[R_SHUT + column] = times
    slow_slots(prices, slots, state)


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
def pass_loops(sp, prices, bounds, every, orders, q, shape, old, state):
    """The state inside a storage's loops (``shape`` the tile there), from that outside them."""
    for c in range(state.shape[0]):
        state[c] = old[c]
    state[VISITS] = old[VISITS] * every
    state[STEPS] = old[STEPS] * every
    for t in range(3):
        counted, times = orders.counted[q, t], 1.0
        if counted:
            for d in range(bounds.shape[0]):
                times *= bounds[d] if (counted >> d) & 1 else 1.0
            if t == 0 and orders.mover[q] >= 0:
                times *= window_ratio(sp, shape, orders.mover[q], bounds[orders.mover[q]])
            state[A_OPEN + t] = old[A_SHUT + t] * times
            state[B_OPEN + t] = old[B_SHUT + t] * times
            state[R_OPEN + t] = old[R_SHUT + t] * times
        state[A_SHUT + t] = old[A_SHUT + t] * every
        state[B_SHUT + t] = old[B_SHUT + t] * every
        state[R_SHUT + t] = old[R_SHUT + t] * every


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
        asked = units / copies * merged
        for c in range(2):
            a, b, r = A_SHUT + 3 * c + t, B_SHUT + 3 * c + t, R_SHUT + 3 * c + t
            state[a] = asked * (old[a] + old[b] * paid)
            state[b] = old[b] * units * merged
            state[r] = asked * old[r]
        if t == 2:
            state[BASE] -= old[COPIES] * prices.scalars[OUT_WORDS] * toll
            state[COPIES] = old[COPIES] * copies
    state[VISITS] = old[VISITS] * units
    state[USED] = old[USED] * units


@inner
def bound_child(state, prices, s, labels, flags, first, many, goal, points, found):
    """Least value with any of the labels ``first`` .. inside; inf if none can win.

    Args:
        found: float64[2], written: least energy and cycles among those that can.
    """
    least, slots = np.inf, prices.kept.shape[0]
    found[0], found[1] = np.inf, np.inf
    for i in range(first, first + many):
        cycles = steps_of(state, labels[i], prices)
        for t in range(3):
            # The parent's read port alone, as far as it will be asked.
            p = prices.parent[s, t]
            asked = state[R_OPEN + t] if (flags[i] >> t) & 1 else state[R_SHUT + t]
            asked *= labels[i, N + t]
            if t == 2:
                # First touches: at most as many as there are copies now and further inside.
                asked -= prices.scalars[OUT_WORDS] * state[COPIES]
            read = state[DECIDED + 2 * p] + max(0.0, asked) * prices.bits[p, t]
            busy = max(
                read * prices.slow[p, 0],
                (read + state[DECIDED + 2 * p + 1]) * prices.slow[p, 2],
            )
            cycles = max(cycles, busy / state[DECIDED + 2 * slots + p])
        energy = energy_of(state, labels[i], flags[i]) + prices.scalars[LEAK] * cycles
        if survives(goal, points, energy, cycles):
            value = value_of(goal, energy, cycles)
            found[0], found[1] = min(found[0], energy), min(found[1], cycles)
            least = min(least, value)
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
        level: Slot; ``shape`` the tile that enters it; its state is ``states[level]``.
        tables: (labels, flags, start, count) of all boundaries; start, count int64[S + 1, X].
        values, tiles, rows: Children: bound, tile inside, row of ``orders`` or ``fans``.
        heap: int64[S + 2, 2] first place and size of a level's children.

    Returns:
        False if there is no room.
    """
    labels, label_flags, start, many = tables
    state, bounds, at, found = work
    dims, slots = sp.step.shape[0], prices.kept.shape[0]
    if level > 0 and not prices.fanout[level]:
        if not fits(sp, prices, level, shape):
            heap[level, 1] = 0
            return True
        enter_storage(sp, prices, level, shape, slots, states[level])
    first = heap[level, 0]
    size, table = 0, prices.table[level]
    last = slots == level + 1
    if prices.fanout[level]:
        for f in range(prices.fan_start[level], prices.fan_start[level + 1]):
            y, legal = 0, True
            for d in range(dims):
                j = sp.quotient[d, sp.index[shape, d], prices.fans[f, d]]
                if j < 0:
                    legal = False
                    break
                y += j * sp.strides[d]
            if not legal or many[level + 1, y] == 0:
                continue
            if first + size + 1 >= values.shape[0]:
                return False
            pass_fanout(sp, prices, level, f, y, states[level], state)
            value = bound_child(
                state, prices, level + 1, labels, label_flags, start[level + 1, y],
                many[level + 1, y], goal, points, found,
            )  # fmt: skip
            if value < np.inf:
                values[first + size], tiles[first + size], rows[first + size] = value, y, f
                size += 1
            else:
                registers[PRUNED] += 1
    else:
        for d in range(dims):
            at[d] = 0
        y, more = 0, True
        while more:
            if many[level + 1, y] > 0:
                active, every, legal = 0, 1.0, True
                for d in range(dims):
                    j = sp.quotient[d, sp.index[shape, d], at[d]]
                    legal = legal and prices.allowed[level, d, j]
                    bounds[d] = sp.values[d, j]
                    every *= bounds[d]
                    active |= (1 if j > 0 else 0) << d
                if legal:
                    for q in range(orders.start[table, active], orders.start[table, active + 1]):
                        if first + size + 1 >= values.shape[0]:
                            return False
                        pass_loops(sp, prices, bounds, every, orders, q, y, states[level], state)
                        value = bound_child(
                            state, prices, level + 1, labels, label_flags, start[level + 1, y],
                            many[level + 1, y], goal, points, found,
                        )  # fmt: skip
                        if value < np.inf:
                            values[first + size] = value
                            tiles[first + size], rows[first + size] = y, q
                            size += 1
                        else:
                            registers[PRUNED] += 1
            more = False
            if last:
                break  # only one point lies inside the last slot
            for u in range(dims):
                d = dims - 1 - u
                top = sp.index[shape, d]
                y -= at[d] * sp.strides[d]
                at[d] += 1
                while at[d] <= top and sp.quotient[d, top, at[d]] < 0:
                    at[d] += 1
                if at[d] <= top:
                    y += at[d] * sp.strides[d]
                    more = True
                    break
                at[d] = 0
    for i in range(size // 2 - 1, -1, -1):
        sink(values, tiles, rows, first, size, i)
    heap[level, 1] = size
    return True


@inner
def search(
    sp, orders, prices, goal, points, tables, states, values, tiles, rows, heap, chosen,
    registers, quantum, work, factors, order, bounds_out,
):  # fmt: skip
    """Go on until done, the batch is full, room is needed, or ``quantum`` nodes are visited.

    Args:
        chosen: int64[S + 1, 2] tile entering a slot; row of ``orders`` or ``fans`` taken there.
        registers: int64[4]; level -1 when done; all zero with ``heap`` zero at the start.
        factors, order, bounds_out: [N, S, D] and [N] a batch of complete mappings, written from
            ``registers[LEAVES]`` on.

    Returns:
        Why it came back.
    """
    slots, dims = prices.kept.shape[0], sp.step.shape[0]
    state = work[0]
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
            place = registers[LEAVES]
            for s in range(slots):
                a, b = chosen[s, 0], chosen[s + 1, 0]
                for d in range(dims):
                    j = sp.quotient[d, sp.index[a, d], sp.index[b, d]]
                    factors[place, s, d] = sp.values[d, j]
                    order[place, s, d] = d
                    if not prices.fanout[s]:
                        order[place, s, d] = orders.perm[chosen[s, 1], d]
            bounds_out[place] = values[first]
            registers[LEAVES] += 1
        else:
            if prices.fanout[level]:
                pass_fanout(sp, prices, level, row, y, states[level], state)
            else:
                every = 1.0
                for d in range(dims):
                    j = sp.quotient[d, sp.index[shape, d], sp.index[y, d]]
                    work[1][d] = sp.values[d, j]
                    every *= sp.values[d, j]
                pass_loops(sp, prices, work[1], every, orders, row, y, states[level], state)
            for c in range(state.shape[0]):
                states[level + 1, c] = state[c]
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
