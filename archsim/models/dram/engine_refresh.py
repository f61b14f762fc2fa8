"""Refreshes of a channel: when one falls due, is postponed or pulled in, and what it blocks."""

from __future__ import annotations

from archsim.models.dram.device import (
    K_OPEN,
    ready,
)
from archsim.models.dram.engine_state import (
    ALL_BANK,
    B_BLOCKED,
    B_CURRENT,
    B_ROW,
    F_COMMAND,
    F_FLEX,
    F_LEFT,
    F_NEXT,
    F_PULLED,
    F_SET,
    F_SKIP,
    FAR,
    NO_REFRESH,
    S_BEST_BANK,
    S_BEST_COMMAND,
    S_BEST_ID,
    S_BEST_TIME,
    S_LATE,
    SHIFT,
)
from archsim.models.dram.layout import (
    D_BANKS,
    D_GROUPS,
    D_RANKS,
    D_REFI,
    D_REFI_BANK,
    D_SAME_BANK,
    NONE,
    P_POSTPONE,
    P_PULL_IN,
    P_REFRESH,
    P_SEND_GAP,
    PRE,
    PREA,
    PRES,
    REFA,
    REFB,
)
from archsim.models.jit import inlined, inner


@inner
def _block(first, last, step, p, s, bank, command, soon):
    """Keep banks from issuing commands until they are refreshed.

    In the 4.0 release a command that is ready in this very cycle may still be issued: of ArchGym's
    binary that makes every makespan of its 2,400 reference rows come out to the cycle.
    """
    for b in range(first, last, step):
        if p[P_SEND_GAP]:
            if bank[b, B_BLOCKED] == 0:
                s[S_LATE] = 1
        else:
            command[b] = NONE
            soon[b] = FAR
        bank[b, B_BLOCKED] = 1


@inner
def _busy(first, last, step, bank):
    """Whether some bank works on a request."""
    found = False
    for b in range(first, last, step):
        if bank[b, B_CURRENT] >= 0:
            found = True
            break
    return found


@inner
def _refresh_all(rank, now, p, s, device, bank, command, soon, refresh, rank_state):
    """Decide on the refresh of a rank that is due."""
    per_rank = device[D_GROUPS] * device[D_BANKS]
    first, last = rank * per_rank, (rank + 1) * per_rank
    refresh[rank, F_COMMAND] = NONE
    if now >= refresh[rank, F_NEXT] + device[D_REFI]:
        refresh[rank, F_NEXT] += device[D_REFI]
        refresh[rank, F_PULLED] = 0
    forced = refresh[rank, F_PULLED] == 0 and refresh[rank, F_FLEX] == p[P_POSTPONE]
    if forced:
        _block(first, last, 1, p, s, bank, command, soon)
    if not forced and _busy(first, last, 1, bank):
        if refresh[rank, F_PULLED] == 0:
            refresh[rank, F_FLEX] += 1
        refresh[rank, F_PULLED] = 0
        refresh[rank, F_NEXT] += device[D_REFI]
    else:
        refresh[rank, F_COMMAND] = PREA if rank_state[rank, K_OPEN] > 0 else REFA


@inner
def _refresh_bank(rank, now, p, s, device, bank, command, soon, refresh):
    """The same for refreshes of one bank, or of the same bank of every group."""
    groups, banks = device[D_GROUPS], device[D_BANKS]
    per_rank = groups * banks
    same = device[D_SAME_BANK]
    sets = banks if same else per_rank
    step = banks if same else per_rank
    start = rank * per_rank
    refresh[rank, F_COMMAND] = NONE
    if now >= refresh[rank, F_NEXT] + device[D_REFI_BANK]:
        refresh[rank, F_NEXT] += device[D_REFI_BANK]
        refresh[rank, F_PULLED] = 0
    forced = refresh[rank, F_FLEX] == p[P_POSTPONE] * sets and refresh[rank, F_PULLED] == 0
    all_busy = True
    if refresh[rank, F_SKIP] == 0 or refresh[rank, F_PULLED]:
        chosen = -1
        for i in range(sets):
            if (refresh[rank, F_LEFT] >> i) & 1:
                if chosen < 0:
                    chosen = i
                if not _busy(start + i, start + per_rank, step, bank):
                    chosen = i
                    all_busy = False
                    break
        refresh[rank, F_SET] = chosen
    if all_busy and not forced:
        if refresh[rank, F_PULLED] == 0:
            refresh[rank, F_FLEX] += 1
        refresh[rank, F_PULLED] = 0
        refresh[rank, F_NEXT] += device[D_REFI_BANK]
    else:
        chosen = start + refresh[rank, F_SET]
        refresh[rank, F_COMMAND] = REFB
        for b in range(chosen, start + per_rank, step):
            if bank[b, B_ROW] >= 0:
                refresh[rank, F_COMMAND] = PRES if same else PRE
        if forced and refresh[rank, F_COMMAND] == REFB:
            _block(chosen, start + per_rank, step, p, s, bank, command, soon)
            refresh[rank, F_SKIP] = 1


@inner
def refresh_due(now, p, s, device, bank, command, soon, refresh, rank_state):
    """Let every rank whose refresh is due decide; the next time one falls due."""
    if p[P_REFRESH] != NO_REFRESH:
        for rank in range(device[D_RANKS]):
            if now >= refresh[rank, F_NEXT]:
                if p[P_REFRESH] == ALL_BANK:
                    _refresh_all(rank, now, p, s, device, bank, command, soon, refresh, rank_state)
                else:
                    _refresh_bank(rank, now, p, s, device, bank, command, soon, refresh)


@inner
def refreshed(rank, refresh, p, device):
    """Count a refresh that was issued: the next one may be pulled in."""
    interval, factor = device[D_REFI], 1
    if p[P_REFRESH] != ALL_BANK:
        interval = device[D_REFI_BANK]
        per_rank = device[D_GROUPS] * device[D_BANKS]
        factor = device[D_BANKS] if device[D_SAME_BANK] else per_rank
        refresh[rank, F_SKIP] = 0
        refresh[rank, F_LEFT] &= ~(1 << refresh[rank, F_SET])
        if refresh[rank, F_LEFT] == 0:
            refresh[rank, F_LEFT] = (1 << factor) - 1
    if refresh[rank, F_PULLED]:
        refresh[rank, F_FLEX] -= 1
    else:
        refresh[rank, F_PULLED] = 1
    if refresh[rank, F_FLEX] == -p[P_PULL_IN] * factor:
        refresh[rank, F_PULLED] = 0
        refresh[rank, F_NEXT] += interval
    refresh[rank, F_COMMAND] = NONE


@inlined
def select_refresh(
    now,
    best,
    p,
    s,
    device,
    refresh,
    length,
    group_of,
    next_bank_time,
    next_group_time,
    next_rank_time,
    bus_next,
):
    """Prefer the command of a refresh that is due to the best of the requests, if it is as soon."""
    per_rank = device[D_GROUPS] * device[D_BANKS]
    for rank in range(device[D_RANKS]):
        c = refresh[rank, F_COMMAND]
        if c != NONE:
            b = rank * per_rank
            if p[P_REFRESH] != ALL_BANK:
                b += refresh[rank, F_SET]
            t = now
            step = per_rank
            if device[D_SAME_BANK] and (c in (PRES, REFB)):
                step = device[D_BANKS]
            for one in range(b, (rank + 1) * per_rank, step):
                first = ready(
                    c, one, group_of[one], rank, next_bank_time, next_group_time, next_rank_time,
                    bus_next,
                )  # fmt: skip
                t = max(t, first)
            if ((t + length[c]) << SHIFT) < best:
                best = (t + length[c]) << SHIFT
                s[S_BEST_TIME] = t
                s[S_BEST_ID] = 0
                s[S_BEST_BANK] = b
                s[S_BEST_COMMAND] = c
