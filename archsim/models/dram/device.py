"""Compiled timing state of the devices of one channel: when may a command be issued?

For every bank, bank group and rank the state holds the earliest cycle at which each command may
follow; issuing a command raises the entries by the distances of the constraint tables. A window
constraint (tFAW) and constraints between ranks are folded into the rank's entries.
"""

from __future__ import annotations

from archsim.models.dram.layout import (
    ACT,
    ACTB,
    D_BANKS,
    D_CROSS,
    D_GROUPS,
    D_RANKS,
    D_SAME_BANK,
    D_WINDOW,
    D_WINDOW_COUNT,
    NUM_COMMANDS,
    PRES,
    RANK_ACTIVE,
    RANK_CLOSED,
    REFB,
)
from archsim.models.jit import inlined, inner

# Columns of the rank state.
K_OPEN, K_SINCE, K_UNTIL, K_HEAD, K_SIZE = range(5)


@inlined
def ready(command, bank, group, rank, next_bank, next_group, next_rank, bus_next):
    """First cycle at which a command may be issued; no earlier than 0."""
    first = max(next_bank[bank, command], next_group[group, command])
    return max(first, max(next_rank[rank, command], bus_next[command]))


@inlined
def issue(
    command,
    bank,
    now,
    device,
    tables,
    length,
    bus_of,
    next_bank,
    next_group,
    next_rank,
    bus_next,
    window,
    rank_state,
    counts,
):
    """Take a command at cycle ``now``: raise what may follow, and count it.

    ``bank`` numbers the banks of the channel; commands to a rank or to a set of same banks name
    the rank, or the set, by any bank of it. ``tables`` holds the distances at bank, bank group,
    rank and other-rank scope.
    """
    groups, banks = device[D_GROUPS], device[D_BANKS]
    per_rank = groups * banks
    group = bank // banks
    rank = bank // per_rank
    counts[rank, command] += 1
    bus, free = bus_of[command], now + length[command]
    for then in range(NUM_COMMANDS):
        bus_next[then] = free if bus_of[then] == bus else bus_next[then]
    for then in range(NUM_COMMANDS):
        next_rank[rank, then] = max(next_rank[rank, then], now + tables[2, command, then])
    for other in range(device[D_RANKS]):
        if other != rank and device[D_CROSS]:
            for then in range(NUM_COMMANDS):
                later = now + tables[3, command, then]
                next_rank[other, then] = max(next_rank[other, then], later)
    if (command in (REFB, PRES)) and device[D_SAME_BANK]:
        for g in range(groups):
            one = rank * per_rank + g * banks + bank % banks
            for then in range(NUM_COMMANDS):
                next_bank[one, then] = max(next_bank[one, then], now + tables[0, command, then])
    else:
        for then in range(NUM_COMMANDS):
            later = now + tables[0, command, then]
            next_bank[bank, then] = max(next_bank[bank, then], later)
    for then in range(NUM_COMMANDS):
        next_group[group, then] = max(next_group[group, then], now + tables[1, command, then])
    if (command in (ACT, ACTB)) and device[D_WINDOW] > 0:
        count = device[D_WINDOW_COUNT]
        head = rank_state[rank, K_HEAD]
        window[rank, head] = now
        head = head + 1 if head + 1 < count else 0
        rank_state[rank, K_HEAD] = head
        first = window[rank, head] + device[D_WINDOW]
        next_rank[rank, ACT] = max(next_rank[rank, ACT], first)
        next_rank[rank, ACTB] = max(next_rank[rank, ACTB], first)


@inlined
def opened(rank, now, rank_state, counts, rows):
    """Account for rows that open: the rank is active."""
    if rank_state[rank, K_OPEN] == 0 and now > rank_state[rank, K_UNTIL]:
        counts[rank, RANK_ACTIVE] += rank_state[rank, K_UNTIL] - rank_state[rank, K_SINCE]
        rank_state[rank, K_SINCE] = now
    rank_state[rank, K_OPEN] += rows


@inlined
def closed(rank, when, rank_state, counts, rows):
    """Account for rows that close at a cycle, possibly a later one (auto-precharge)."""
    counts[rank, RANK_CLOSED] += rows
    rank_state[rank, K_OPEN] -= rows
    rank_state[rank, K_UNTIL] = max(rank_state[rank, K_UNTIL], when)


@inlined
def close_account(ranks, end, rank_state, counts):
    """Add the last active period of every rank, up to the end of the simulation."""
    for rank in range(ranks):
        until = rank_state[rank, K_UNTIL]
        if rank_state[rank, K_OPEN] > 0 or until > end:
            until = end
        counts[rank, RANK_ACTIVE] += max(until - rank_state[rank, K_SINCE], 0)


@inner
def take_out(line, at, count):
    """Take an entry out of a queue of ``count`` kept in an array."""
    for k in range(at, count - 1):
        line[k] = line[k + 1]
