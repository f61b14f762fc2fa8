"""Compiled controller of one channel, after the controller DRAMSys models.

Time advances from one event to the next: the arrival of a request, a refresh that falls due, or
the first cycle at which some command may be issued. Within a cycle the order is that of DRAMSys:
requests that arrive with the clock, refresh, one command, then requests handed on in the same
cycle. Every helper here is compiled into :func:`run` and shares its state (``s`` holds the
scalars), which is why the module is a long one.
"""

from __future__ import annotations

from archsim.models.dram.device import (
    K_OPEN,
    close_account,
    closed,
    issue,
    opened,
    ready,
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
    D_REFI,
    D_REFI_BANK,
    D_SAME_BANK,
    D_SPLIT_BUS,
    D_WRITE_CLOSE,
    D_WRITE_END,
    NEVER,
    NONE,
    P_ACTIVE,
    P_ARB_BW,
    P_ARB_FW,
    P_ARBITER,
    P_BATCH_RESPONSES,
    P_BUFFER,
    P_DEPTH_READ,
    P_DEPTH_WRITE,
    P_MUX,
    P_PAGE,
    P_PHY_BW,
    P_PHY_FW,
    P_POSTPONE,
    P_PULL_IN,
    P_REFRESH,
    P_RESPONSE,
    P_RESPONSE_GAP,
    P_SCHEDULER,
    P_SEND_GAP,
    P_THINK_BW,
    P_THINK_FW,
    PRE,
    PREA,
    PRES,
    R_END,
    R_LATENCY,
    R_LOGGED,
    R_READ_HITS,
    R_READS,
    R_ROW_HITS,
    R_WRITES,
    RD,
    RDA,
    REFA,
    REFB,
    WR,
    WRA,
)
from archsim.models.jit import inlined, inner

# Columns of the bank state. B_READ and B_WRITE: oldest unserved hits of the open row.
B_ROW, B_CURRENT, B_KEEP, B_BLOCKED, B_FRONT, B_COUNT, B_READ, B_WRITE, B_FRESH = range(9)
B_ACTIVATED, B_CHAINED = 9, 10
B_SIZE = 16
# Columns of the refresh state of a rank; F_LEFT: sets not yet refreshed in this round.
F_NEXT, F_PULLED, F_FLEX, F_COMMAND, F_SET, F_SKIP, F_LEFT, F_SIZE = range(8)
# Shared scalars.
(
    S_ACCEPTED,
    S_ARRIVAL,  # when the next request reaches the controller
    S_WITH_CLOCK,  # it arrives with the clock, before the command of that cycle
    S_STUCK,  # it has arrived and finds no space
    S_END,  # end of the last request at the controller, -1 before the first
    S_ENTERED,  # when it entered the arbiter's queue
    S_LAST_BANK,
    S_READS,
    S_WRITES,
    S_LAST_WRITE,  # direction of the last column command
    S_LAST_OUT,  # last response that left the controller
    S_LAST_BACK,  # last response at the initiator
    S_OUT,  # responses that left the controller
    S_BACK,
    S_SERVED,
    S_NEXT_COLUMN,  # request whose column command is due next (strict)
    S_BEST_TIME,
    S_BEST_ID,
    S_BEST_BANK,
    S_BEST_COMMAND,
    S_LATE,  # banks were blocked in this cycle, whose commands may still be issued
    S_STALE,  # rank whose limits changed, the number of ranks for all of them
    S_SIZE,
) = range(23)
_SHIFT = 26  # requests of a trace are numbered below 2**26
_ID_MASK = (1 << _SHIFT) - 1
MAX_REQUESTS = (1 << _SHIFT) - 2
_FAR = 1 << 36  # an end that is never reached; a key of it still fits into 63 bits
_NO_KEY = _FAR << _SHIFT
_DEMAND = 12  # leading columns of the tables: all but broadcast commands, in whole vectors

# Policy values, plain numbers for the compiler (see layout.py).
_OPEN, _OPEN_ADAPTIVE, _CLOSED, _CLOSED_ADAPTIVE = range(4)
_FIFO, _FR_FCFS, _FR_FCFS_GRP = range(3)
_BANKWISE, _READ_WRITE, _SHARED = range(3)
_NO_REFRESH, _ALL_BANK, _PER_BANK, _SAME_BANK = range(4)


@inner
def _unserved(i, n, next_same, served):
    """First request from ``i`` along a chain that is not served."""
    while i < n and served[i]:
        i = next_same[i]
    return i


@inlined
def _pick(b, p, s, bank, row, write, address, next_same, served):
    """The request the bank's scheduler offers."""
    front = bank[b, B_FRONT]
    if bank[b, B_ROW] < 0 or p[P_SCHEDULER] == _FIFO:
        return front
    accepted = s[S_ACCEPTED]
    read, write_hit = bank[b, B_READ], bank[b, B_WRITE]
    first = min(read, write_hit)
    if first >= accepted:
        return front
    if p[P_SCHEDULER] == _FR_FCFS_GRP:
        same = write_hit if s[S_LAST_WRITE] == 1 else read
        if same < accepted and same != first:
            # A younger hit of the right direction, unless an older one has its address.
            n = row.size
            while same < accepted:
                older = _unserved(first, n, next_same, served)
                hazard = False
                while older < same:
                    if address[older] == address[same]:
                        hazard = True
                        break
                    older = _unserved(next_same[older], n, next_same, served)
                if not hazard:
                    return same
                same = _unserved(next_same[same], n, next_same, served)
    return first


@inner
def _further_hit(b, p, s, bank, row, next_bank, next_same, served):
    """Whether a second request of the bank's queue hits the open row."""
    accepted = s[S_ACCEPTED]
    if p[P_SCHEDULER] == _FIFO:
        second = next_bank[bank[b, B_FRONT]]
        return second < accepted and row[second] == bank[b, B_ROW]
    read, write_hit = bank[b, B_READ], bank[b, B_WRITE]
    if read < accepted and write_hit < accepted:
        return True
    first = min(read, write_hit)
    if first >= accepted:
        return False
    return _unserved(next_same[first], row.size, next_same, served) < accepted


@inlined
def _evaluate(
    b, p, s, bank, command, soon, who, chain, length, next_bank_time, row, write, address,
    next_bank, next_same, served,
):  # fmt: skip
    """Choose the bank's request and the command it needs."""
    command[b] = NONE
    soon[b] = _FAR
    who[b] = 0
    if bank[b, B_BLOCKED] == 0 and bank[b, B_COUNT] > 0:
        new = _pick(b, p, s, bank, row, write, address, next_same, served)
        is_open = bank[b, B_ROW]
        if bank[b, B_KEEP] == 0 or row[new] == is_open:
            bank[b, B_CURRENT] = new
        current = bank[b, B_CURRENT]
        if is_open < 0:
            command[b] = ACT
        elif row[current] != is_open:
            command[b] = PRE
        else:
            page = p[P_PAGE]
            close = page != _OPEN
            if page == _CLOSED_ADAPTIVE or (page == _OPEN_ADAPTIVE and bank[b, B_COUNT] >= 2):
                close = not _further_hit(b, p, s, bank, row, next_bank, next_same, served)
            elif page == _OPEN_ADAPTIVE:
                close = False
            if write[current]:
                command[b] = WRA if close else WR
            else:
                command[b] = RDA if close else RD
        who[b] = current + 1
        soon[b] = next_bank_time[b, command[b]] + length[command[b]]
        if bank[b, B_CHAINED] == 0:
            bank[b, B_CHAINED] = 1
            chain[b] = chain[command.size]
            chain[command.size] = b


@inlined
def _space(p, s, bank):
    """Whether the buffer takes another request; the bank-wise one looks at the bank last used."""
    kind = p[P_BUFFER]
    if kind == _BANKWISE:
        return bank[s[S_LAST_BANK], B_COUNT] < p[P_DEPTH_READ]
    if kind == _READ_WRITE:
        return s[S_READS] < p[P_DEPTH_READ] and s[S_WRITES] < p[P_DEPTH_WRITE]
    return s[S_READS] + s[S_WRITES] < p[P_DEPTH_READ]


@inlined
def _arrive(p, s, n, arrival, freed, begin):
    """Find when the next request reaches the controller."""
    i, end = s[S_ACCEPTED], s[S_END]
    s[S_STUCK] = 0
    s[S_ARRIVAL] = NEVER
    if i < n:
        # The 4.0 release adds no think delay to a request.
        think = p[P_THINK_FW] if p[P_SEND_GAP] == 0 else 0
        delay = p[P_ARB_FW] + think
        if p[P_ARBITER] == 0:
            sent = arrival[i] if end < 0 else max(arrival[i], end + p[P_SEND_GAP])
            begin[i] = sent
            s[S_ARRIVAL] = sent + delay
            s[S_WITH_CLOCK] = delay > 0 or sent > end + p[P_SEND_GAP]
        else:
            if begin[i] < 0:
                sent = arrival[i]
                if i > 0:
                    sent = max(sent, s[S_ENTERED] + p[P_SEND_GAP])
                begin[i] = sent
            slot = i - p[P_ACTIVE]
            if slot < s[S_BACK]:
                entered = begin[i] if slot < 0 else max(begin[i], freed[slot])
                s[S_ENTERED] = entered
                entered += p[P_ARB_FW]
                if entered > end or end < 0:
                    s[S_ARRIVAL] = entered + think
                    s[S_WITH_CLOCK] = think > 0
                else:
                    s[S_ARRIVAL] = end + 1 + think
                    s[S_WITH_CLOCK] = 1


@inlined
def _accept(b, is_write, s, bank):
    """Store the next request in the buffer of its bank."""
    i = s[S_ACCEPTED]
    if bank[b, B_COUNT] == 0:
        bank[b, B_FRONT] = i
    bank[b, B_COUNT] += 1
    s[S_LAST_BANK] = b
    s[S_READS] += 1 - is_write
    s[S_WRITES] += is_write
    s[S_ACCEPTED] = i + 1


@inlined
def _respond(i, done, p, s, data_end, back, freed):
    """The data of request ``i`` end at cycle ``done``: order the responses, and deliver them."""
    arbiter, ordered = p[P_ARBITER], p[P_RESPONSE] == 1
    gap = 1 + p[P_ARB_BW]
    if arbiter != 0:
        gap = 0 if p[P_BATCH_RESPONSES] else 1
    spacing = p[P_RESPONSE_GAP]
    n = back.size
    data_end[i] = done
    j = s[S_OUT] if ordered else i
    while j < n and data_end[j] >= 0:
        out = max(data_end[j], s[S_LAST_OUT] + gap)
        s[S_LAST_OUT] = out
        seen = out + p[P_ARB_BW]
        if arbiter == 0:
            back[j] = seen
            s[S_LAST_BACK] = seen
            s[S_BACK] += 1
        elif arbiter == 1:
            seen = max(seen, s[S_LAST_BACK] + spacing)
            back[j] = seen
            s[S_LAST_BACK] = seen
            freed[s[S_BACK]] = seen + spacing - 1
            s[S_BACK] += 1
        else:
            back[j] = -2 - seen
            k = s[S_BACK]
            while k < n and back[k] <= -2:
                seen = max(-2 - back[k], s[S_LAST_BACK] + spacing)
                s[S_LAST_BACK] = seen
                back[k] = seen
                freed[k] = seen + spacing - 1
                k += 1
            s[S_BACK] = k
        if not ordered:
            break
        j += 1
        s[S_OUT] = j


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
            soon[b] = _FAR
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
def _refresh_due(now, p, s, device, bank, command, soon, refresh, rank_state):
    """Let every rank whose refresh is due decide; the next time one falls due."""
    if p[P_REFRESH] != _NO_REFRESH:
        for rank in range(device[D_RANKS]):
            if now >= refresh[rank, F_NEXT]:
                if p[P_REFRESH] == _ALL_BANK:
                    _refresh_all(rank, now, p, s, device, bank, command, soon, refresh, rank_state)
                else:
                    _refresh_bank(rank, now, p, s, device, bank, command, soon, refresh)


@inner
def _refreshed(rank, refresh, p, device):
    """Count a refresh that was issued: the next one may be pulled in."""
    interval, factor = device[D_REFI], 1
    if p[P_REFRESH] != _ALL_BANK:
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
            for c in range(_DEMAND):
                limit[g, c] = max(next_group_time[g, c], next_rank_time[rank, c]) + length[c]
    s[S_STALE] = NONE
    buses = groups * ranks
    for c in range(_DEMAND):
        limit[buses, c] = max(bus_next[c], now) + length[c]
    best, column_best = _NO_KEY, _NO_KEY
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
            key = (t << _SHIFT) | who[b]
            column = c >= RD and c <= WRA
            if strict and column and who[b] != s[S_NEXT_COLUMN] + 1:
                key = _NO_KEY
            if split and column:
                column_best = min(column_best, key)
            else:
                best = min(best, key)
            before = b
        b = after
    s[S_BEST_TIME] = NEVER
    s[S_BEST_ID] = NEVER
    if best < _NO_KEY:
        i = best & _ID_MASK
        c = command[bank_of[i - 1]]
        s[S_BEST_TIME] = (best >> _SHIFT) - length[c]
        s[S_BEST_ID] = i
        s[S_BEST_BANK] = bank_of[i - 1]
        s[S_BEST_COMMAND] = c
    if p[P_REFRESH] != _NO_REFRESH:
        _select_refresh(
            now, best, p, s, device, refresh, length,  group_of, next_bank_time,
            next_group_time, next_rank_time, bus_next,
        )  # fmt: skip
    if column_best < _NO_KEY:
        i = column_best & _ID_MASK
        c = command[bank_of[i - 1]]
        t = (column_best >> _SHIFT) - length[c]
        if t < s[S_BEST_TIME] or (t == s[S_BEST_TIME] and i < s[S_BEST_ID]):
            s[S_BEST_TIME] = t
            s[S_BEST_ID] = i
            s[S_BEST_BANK] = bank_of[i - 1]
            s[S_BEST_COMMAND] = c


@inlined
def _select_refresh(
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
            if p[P_REFRESH] != _ALL_BANK:
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
            if ((t + length[c]) << _SHIFT) < best:
                best = (t + length[c]) << _SHIFT
                s[S_BEST_TIME] = t
                s[S_BEST_ID] = 0
                s[S_BEST_BANK] = b
                s[S_BEST_COMMAND] = c


@inlined
def _column(i, b, s, bank, result, row, write, next_same, served, next_bank):
    """Serve request ``i`` of a bank with a column command."""
    served[i] = 1
    direction = write[i]
    s[S_LAST_WRITE] = direction
    s[S_READS] -= 1 - direction
    s[S_WRITES] -= direction
    s[S_SERVED] += 1
    s[S_NEXT_COLUMN] = i + 1
    bank[b, B_COUNT] -= 1
    bank[b, B_CURRENT] = NONE
    bank[b, B_KEEP] = 0
    n = row.size
    if bank[b, B_FRONT] == i:
        j = next_bank[i]
        while j < n and served[j]:
            j = next_bank[j]
        bank[b, B_FRONT] = j
    if bank[b, B_FRESH]:
        bank[b, B_FRESH] = 0
    else:
        result[R_ROW_HITS] += 1
        result[R_READ_HITS] += 1 - direction
    if direction:
        if bank[b, B_WRITE] == i:
            bank[b, B_WRITE] = _unserved(next_same[i], n, next_same, served)
    elif bank[b, B_READ] == i:
        bank[b, B_READ] = _unserved(next_same[i], n, next_same, served)


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
        other = _unserved(next_other[i], row.size, next_same, served)
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
    refreshing = p[P_REFRESH] != _NO_REFRESH
    now, changed = 0, True
    s[S_ARRIVAL] = NEVER
    s[S_STALE] = ranks
    while True:
        if s[S_ARRIVAL] == NEVER and s[S_ACCEPTED] < n:
            _arrive(p, s, n, arrival, freed, begin)
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
                        _refreshed(rank, refresh, p, device)
                elif c >= RD and c <= WRA:
                    before = s[S_LAST_WRITE]
                    _column(i, b, s, bank, result, row, write, next_same, served, next_in_bank)
                    done = now + p[P_PHY_FW] + p[P_PHY_BW] + p[P_THINK_BW]
                    done += device[D_WRITE_END] if write[i] else device[D_READ_END]
                    _respond(i, done, p, s, data_end, back, freed)
                    if p[P_SCHEDULER] == _FR_FCFS_GRP and before != s[S_LAST_WRITE]:
                        low, high = 0, command.size
                    s[S_END] = now + p[P_THINK_FW] if s[S_STUCK] else s[S_END]
                    accepts = s[S_STUCK] == 1
            else:
                accepts = arrives <= now and s[S_LATE] == 0
            if s[S_LATE]:
                s[S_LATE] = 0
                low, high = 0, command.size
        if accepts:
            if _space(p, s, bank):
                taker = bank_of[s[S_ACCEPTED]]
                _accept(taker, write[s[S_ACCEPTED]], s, bank)
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
                _evaluate(
                    b, p, s, bank, command, soon, who, chain, length, next_bank_time, row, write,
                    address, next_in_bank, next_same, served,
                )  # fmt: skip
                changed = changed or c != command[b] or i != who[b] or t != soon[b]
        if refreshing and (due <= now or pending):
            _refresh_due(now, p, s, device, bank, command, soon, refresh, rank_state)
            changed = True
    close_account(ranks, s[S_LAST_BACK], rank_state, counts)
    result[R_END] = s[S_LAST_BACK]
    for i in range(n):
        result[R_READS] += 1 - write[i]
        result[R_WRITES] += write[i]
        if write[i] == 0:
            result[R_LATENCY] += back[i] - begin[i]
