"""Compiled controller of one channel, after the controller DRAMSys models.

Time advances from one event to the next: the arrival of a request, a refresh that falls due, or
the first cycle at which some command may be issued. Within a cycle the order is that of DRAMSys:
requests that arrive with the clock, refresh, one command, then requests handed on in the same
cycle. The requests are kept by :mod:`~archsim.models.dram.engine_queue`, refreshes by
:mod:`~archsim.models.dram.engine_refresh`; all of it is compiled into :func:`run` and shares the
arrays of :mod:`~archsim.models.dram.engine_state` (``s`` holds the scalars).
"""

from __future__ import annotations

from archsim.models.dram.device import (
    close_account,
    closed,
    issue,
    opened,
)
from archsim.models.dram.engine_queue import (
    accept,
    arrive,
    evaluate,
    respond,
    serve,
    space,
    unserved,
)
from archsim.models.dram.engine_refresh import refresh_due, refreshed, select_refresh
from archsim.models.dram.engine_state import (
    B_ACTIVATED,
    B_BLOCKED,
    B_CHAINED,
    B_CURRENT,
    B_FRESH,
    B_KEEP,
    B_READ,
    B_ROW,
    B_WRITE,
    DEMAND,
    F_COMMAND,
    F_NEXT,
    FR_FCFS_GRP,
    ID_MASK,
    NO_KEY,
    NO_REFRESH,
    S_ACCEPTED,
    S_ARRIVAL,
    S_BEST_BANK,
    S_BEST_COMMAND,
    S_BEST_ID,
    S_BEST_TIME,
    S_END,
    S_LAST_BACK,
    S_LAST_WRITE,
    S_LATE,
    S_NEXT_COLUMN,
    S_SERVED,
    S_STALE,
    S_STUCK,
    S_WITH_CLOCK,
    SHIFT,
)
from archsim.models.dram.layout import (
    ACT,
    D_BANKS,
    D_CROSS,
    D_GROUPS,
    D_RANKS,
    D_RAS,
    D_READ_CLOSE,
    D_READ_END,
    D_SAME_BANK,
    D_SPLIT_BUS,
    D_WRITE_CLOSE,
    D_WRITE_END,
    NEVER,
    NONE,
    P_MUX,
    P_PHY_BW,
    P_PHY_FW,
    P_REFRESH,
    P_SCHEDULER,
    P_THINK_BW,
    P_THINK_FW,
    PRE,
    PREA,
    PRES,
    R_END,
    R_LATENCY,
    R_LOGGED,
    R_READS,
    R_WRITES,
    RD,
    RDA,
    REFA,
    REFB,
    WRA,
)
from archsim.models.jit import inlined, inner


@inlined
def _select(
    now,
    p,
    s,
    device,
    bank,
    command,
    soon,
    who,
    chain,
    limit,
    bank_of,
    refresh,
    length,
    group_of,
    next_bank_time,
    next_group_time,
    next_rank_time,
    bus_next,
):
    """Find the command that can end first, of the oldest request among equals.

    ``soon`` holds for every bank the earliest end of its command as far as the bank alone is
    concerned, ``who`` its request; ``limit`` what group, rank and bus add.
    """
    groups, ranks = device[D_GROUPS], device[D_RANKS]
    # Row `g` of `limit`: what the group and its rank add; the last row: the buses, and the time.
    for g in range(groups * ranks):
        rank = g // groups
        if s[S_STALE] == rank or s[S_STALE] == ranks:
            for c in range(DEMAND):
                limit[g, c] = max(next_group_time[g, c], next_rank_time[rank, c]) + length[c]
    s[S_STALE] = NONE
    buses = groups * ranks
    for c in range(DEMAND):
        limit[buses, c] = max(bus_next[c], now) + length[c]
    best, column_best = NO_KEY, NO_KEY
    split, strict = device[D_SPLIT_BUS] == 1, p[P_MUX] == 1
    # Banks with a command form a chain; those without are dropped from it on the way.
    before = command.size
    b = chain[before]
    while b >= 0:
        c = command[b]
        after = chain[b]
        if c == NONE:
            chain[before] = after
            bank[b, B_CHAINED] = 0
        else:
            t = max(max(soon[b], limit[group_of[b], c]), limit[buses, c])
            key = (t << SHIFT) | who[b]
            column = c >= RD and c <= WRA
            if strict and column and who[b] != s[S_NEXT_COLUMN] + 1:
                key = NO_KEY
            if split and column:
                column_best = min(column_best, key)
            else:
                best = min(best, key)
            before = b
        b = after
    s[S_BEST_TIME] = NEVER
    s[S_BEST_ID] = NEVER
    if best < NO_KEY:
        i = best & ID_MASK
        c = command[bank_of[i - 1]]
        s[S_BEST_TIME] = (best >> SHIFT) - length[c]
        s[S_BEST_ID] = i
        s[S_BEST_BANK] = bank_of[i - 1]
        s[S_BEST_COMMAND] = c
    if p[P_REFRESH] != NO_REFRESH:
        select_refresh(
            now, best, p, s, device, refresh, length,  group_of, next_bank_time,
            next_group_time, next_rank_time, bus_next,
        )  # fmt: skip
    if column_best < NO_KEY:
        i = column_best & ID_MASK
        c = command[bank_of[i - 1]]
        t = (column_best >> SHIFT) - length[c]
        if t < s[S_BEST_TIME] or (t == s[S_BEST_TIME] and i < s[S_BEST_ID]):
            s[S_BEST_TIME] = t
            s[S_BEST_ID] = i
            s[S_BEST_BANK] = bank_of[i - 1]
            s[S_BEST_COMMAND] = c


@inlined
def _take(c, b, now, device, bank, rank_state, counts, row, write, next_same, next_other, served):
    """Change the state of the rows a command opens or closes."""
    per_rank = device[D_GROUPS] * device[D_BANKS]
    rank = b // per_rank
    if c == ACT:
        i = bank[b, B_CURRENT]
        bank[b, B_ROW] = row[i]
        bank[b, B_KEEP] = 1
        bank[b, B_FRESH] = 1
        bank[b, B_ACTIVATED] = now
        other = unserved(next_other[i], row.size, next_same, served)
        bank[b, B_WRITE] = i if write[i] else other
        bank[b, B_READ] = other if write[i] else i
        opened(rank, now, rank_state, counts, 1)
    elif c == PRE:
        bank[b, B_ROW] = -1
        bank[b, B_KEEP] = 0
        closed(rank, now, rank_state, counts, 1)
    elif c in (RDA, WRA):
        after = device[D_READ_CLOSE] if c == RDA else device[D_WRITE_CLOSE]
        bank[b, B_ROW] = -1
        closed(rank, max(now + after, bank[b, B_ACTIVATED] + device[D_RAS]), rank_state, counts, 1)
    elif c in (PREA, PRES):
        first, step = rank * per_rank, 1
        if c == PRES:
            first, step = b, device[D_BANKS]
        for one in range(first, (rank + 1) * per_rank, step):
            if bank[one, B_ROW] >= 0:
                closed(rank, now, rank_state, counts, 1)
            bank[one, B_ROW] = -1
            bank[one, B_KEEP] = 0
            bank[one, B_FRESH] = 0
    elif c in (REFA, REFB):
        first, step = rank * per_rank, 1
        if c == REFB:
            first = b
            step = device[D_BANKS] if device[D_SAME_BANK] else per_rank
        for one in range(first, (rank + 1) * per_rank, step):
            bank[one, B_BLOCKED] = 0


@inlined
def _record(c, b, i, now, row, log, result):
    """Write one line of the command log, if there is room for it."""
    line = result[R_LOGGED]
    if line < log.shape[0]:
        log[line, 0] = now
        log[line, 1] = c
        log[line, 2] = b
        log[line, 3] = row[i] if i >= 0 else -1
        log[line, 4] = i
    result[R_LOGGED] = line + 1


@inner
def run(
    p,
    device,
    tables,
    length,
    bus_of,
    group_of,
    rank_of,
    arrival,
    write,
    bank_of,
    row,
    address,
    next_in_bank,
    next_same,
    next_other,
    served,
    begin,
    back,
    data_end,
    freed,
    s,
    bank,
    command,
    soon,
    who,
    chain,
    limit,
    refresh,
    next_bank_time,
    next_group_time,
    next_rank_time,
    bus_next,
    window,
    rank_state,
    counts,
    log,
    result,
):
    """Serve a trace. All arrays are prepared by the caller; see simulate.py for their shapes.

    One function, because a call between compiled functions with this many arrays costs more than
    an average step of the loop.
    """
    n = arrival.size
    ranks = device[D_RANKS]
    per_rank = device[D_GROUPS] * device[D_BANKS]
    refreshing = p[P_REFRESH] != NO_REFRESH
    now, changed = 0, True
    s[S_ARRIVAL] = NEVER
    s[S_STALE] = ranks
    while True:
        if s[S_ARRIVAL] == NEVER and s[S_ACCEPTED] < n:
            arrive(p, s, n, arrival, freed, begin)
        if changed:
            changed = False
            _select(
                now, p, s, device, bank, command, soon, who, chain, limit, bank_of, refresh, length,
                 group_of, next_bank_time, next_group_time, next_rank_time, bus_next,
            )  # fmt: skip
        due, pending = NEVER, False
        if refreshing:
            for rank in range(ranks):
                if refresh[rank, F_COMMAND] == NONE:
                    due = min(due, refresh[rank, F_NEXT])
                else:
                    pending = True
        arrives = NEVER if s[S_STUCK] else s[S_ARRIVAL]
        t = min(min(s[S_BEST_TIME], due), arrives)
        if s[S_LATE]:
            t = min(t, now)
        if s[S_SERVED] == n and t > s[S_LAST_BACK]:
            break
        now = max(now, t)
        # Banks to look at anew: those from `low` to `high`, and one that takes a request.
        low, high, taker = 0, 0, -1
        accepts = arrives <= now and s[S_WITH_CLOCK] == 1
        if not accepts and due > now:
            if s[S_BEST_TIME] <= now:
                c, b = s[S_BEST_COMMAND], s[S_BEST_BANK]
                i = -1 if s[S_BEST_ID] == 0 else bank[b, B_CURRENT]
                _record(c, b, i, now, row, log, result)
                _take(
                    c, b, now, device, bank, rank_state, counts, row, write, next_same,
                    next_other, served,
                )  # fmt: skip
                issue(
                    c, b, now, device, tables, length, bus_of, next_bank_time, next_group_time,
                    next_rank_time, bus_next, window, rank_state, counts,
                )  # fmt: skip
                low, high = b, b + 1
                s[S_STALE] = ranks if device[D_CROSS] else rank_of[b]
                if i < 0:
                    rank = rank_of[b]
                    low, high = rank * per_rank, (rank + 1) * per_rank
                    if c in (REFA, REFB):
                        refreshed(rank, refresh, p, device)
                elif c >= RD and c <= WRA:
                    before = s[S_LAST_WRITE]
                    serve(i, b, s, bank, result, row, write, next_same, served, next_in_bank)
                    done = now + p[P_PHY_FW] + p[P_PHY_BW] + p[P_THINK_BW]
                    done += device[D_WRITE_END] if write[i] else device[D_READ_END]
                    respond(i, done, p, s, data_end, back, freed)
                    if p[P_SCHEDULER] == FR_FCFS_GRP and before != s[S_LAST_WRITE]:
                        low, high = 0, command.size
                    s[S_END] = now + p[P_THINK_FW] if s[S_STUCK] else s[S_END]
                    accepts = s[S_STUCK] == 1
            else:
                accepts = arrives <= now and s[S_LATE] == 0
            if s[S_LATE]:
                s[S_LATE] = 0
                low, high = 0, command.size
        if accepts:
            if space(p, s, bank):
                taker = bank_of[s[S_ACCEPTED]]
                accept(taker, write[s[S_ACCEPTED]], s, bank)
                if s[S_STUCK] == 0:
                    s[S_END] = now
                s[S_STUCK] = 0
                s[S_ARRIVAL] = NEVER
            else:
                s[S_STUCK] = 1
        changed = high > low
        for k in range(low, high + 1):
            b = k if k < high else taker
            if b >= 0:
                c, i, t = command[b], who[b], soon[b]
                evaluate(
                    b, p, s, bank, command, soon, who, chain, length, next_bank_time, row, write,
                    address, next_in_bank, next_same, served,
                )  # fmt: skip
                changed = changed or c != command[b] or i != who[b] or t != soon[b]
        if refreshing and (due <= now or pending):
            refresh_due(now, p, s, device, bank, command, soon, refresh, rank_state)
            changed = True
    close_account(ranks, s[S_LAST_BACK], rank_state, counts)
    result[R_END] = s[S_LAST_BACK]
    for i in range(n):
        result[R_READS] += 1 - write[i]
        result[R_WRITES] += write[i]
        if write[i] == 0:
            result[R_LATENCY] += back[i] - begin[i]
