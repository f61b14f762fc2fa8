"""Compiled controller of one channel, after Ramulator 2.1 (GenericDDR and HBM12, FRFCFS).

Requests wait in a read and in a write buffer; one that had its row opened moves to a buffer of
its own, which goes first. A refresh goes next and lets no further request start. Then comes the
oldest ready request of the reads, or of the writes while those drain; a precharge waits for
requests that had the row opened and, under FRFCFS-RowHit, for older hits. Where rows and columns
have buses of their own, a cycle holds a column and a row command.
"""

from __future__ import annotations

from archsim.models.dram.device import close_account, closed, issue, opened, ready, take_out
from archsim.models.dram.layout import (
    ACT,
    D_BANKS,
    D_GROUPS,
    D_RANKS,
    D_READ_CLOSE,
    D_READ_END,
    D_REFI,
    D_SPLIT_BUS,
    D_WRITE_CLOSE,
    NEVER,
    NONE,
    NUM_COMMANDS,
    PRE,
    PREA,
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
    WR,
    WRA,
)
from archsim.models.jit import inlined, inner

# Settings: buffer sizes, and the fills at which writes start (above) and stop (below) to drain.
Q_READS, Q_WRITES, Q_HIGH, Q_LOW, Q_REFRESH, Q_KEEP_HITS, Q_CAP, Q_SIZE = range(8)
Z_RELEASED, Z_SIZE = 0, 13  # kept state: see run
_ANY, _COLUMN, _ROW = range(3)


@inlined
def _best(
    now, slot, ordered, keep_hits, line, count, device, bank_row, busy, hit, bank_of, row, write,
    next_bank, next_group, next_rank, bus_next, found,
):  # fmt: skip
    """The oldest ready request of a buffer: found = place, command, first time one is ready.

    ``ordered``: the buffer holds its requests in the order in which they came.
    """
    found[0], found[1], found[2] = -1, NONE, NEVER
    for k in range(count):
        hit[bank_of[line[k]]] = -1
    for k in range(count - 1, -1, -1):
        i = line[k]
        if row[i] == bank_row[bank_of[i]]:
            hit[bank_of[i]] = i
    for k in range(count):
        i = line[k]
        b = bank_of[i]
        if bank_row[b] < 0:
            c = ACT
        elif row[i] == bank_row[b]:
            c = WR if write[i] else RD
        else:
            c = PRE
            if busy[b] > 0 or (keep_hits and 0 <= hit[b] <= i):
                continue
        if slot != _ANY and (slot == _COLUMN) != (c in (RD, WR)):
            continue
        group = b // device[D_BANKS]
        rank = group // device[D_GROUPS]
        t = ready(c, b, group, rank, next_bank, next_group, next_rank, bus_next)
        if t > now:
            found[2] = min(found[2], t)
        elif found[0] < 0 or i < line[found[0]]:
            found[0], found[1] = k, c
            if ordered:
                break


@inner
def run(
    q,
    device,
    tables,
    length,
    bus_of,
    arrival,
    write,
    bank_of,
    row,
    place,
    pending_write,
    begin,
    back,
    reads,
    writes,
    active,
    bank_row,
    busy,
    hit,
    seen,
    used,
    first,
    next_bank,
    next_group,
    next_rank,
    bus_next,
    window,
    rank_state,
    counts,
    log,
    result,
    z,
):
    """Serve a trace; arrays and ``z`` as in dramsim3.py, and one function for the same reason.

    ``busy`` counts the requests that had the row of a bank opened, ``seen`` marks requests whose
    hit or miss is counted; ``used`` counts column commands to an open row, -1 once its precharge
    is asked for; ``first`` lists what goes before requests: a precharge of a bank, or a refresh of
    rank ``r`` as ``-1 - r``. The clock of the controller is one ahead of the cycle of a request.
    """
    n = arrival.size
    ranks = device[D_RANKS]
    per_rank = device[D_GROUPS] * device[D_BANKS]
    released = z[Z_RELEASED]
    now, accepted, done, last, last_back = 1 + z[1], z[2], z[3], z[4], z[5]
    waiting_reads, waiting_writes, started = z[6], z[7], z[8]
    draining = z[9] == 1
    next_refresh, waiting_first, cap = device[D_REFI] + z[10], z[11], q[Q_CAP]
    found = bus_next[NUM_COMMANDS:]
    slots = 2 if device[D_SPLIT_BUS] else 1
    while done < n and (accepted < released or released == n):
        soonest = NEVER
        # The next request is sent before the tick of its cycle.
        if accepted < n and arrival[accepted] <= now - 1:
            i = accepted
            where = place[i]
            took = True
            if write[i]:
                if pending_write[where]:
                    back[i] = now - 1
                    done += 1
                elif waiting_writes < q[Q_WRITES]:
                    writes[waiting_writes] = i
                    waiting_writes += 1
                    pending_write[where] = 1
                else:
                    took = False
            elif pending_write[where]:
                last_back = max(last_back, now - 1)
                back[i] = last_back
                done += 1
            elif waiting_reads < q[Q_READS]:
                reads[waiting_reads] = i
                waiting_reads += 1
            else:
                took = False
            if took:
                begin[i] = now - 1
                last = max(last, back[i])
                accepted += 1
                soonest = now + 1
        if accepted < n and arrival[accepted] > now - 1:
            soonest = min(soonest, arrival[accepted] + 1)
        if q[Q_REFRESH]:
            if now == next_refresh:
                next_refresh += device[D_REFI]
                for rank in range(min(ranks, first.size - waiting_first)):
                    first[waiting_first] = -1 - rank
                    waiting_first += 1
            soonest = min(soonest, next_refresh)
        if cap > 0:
            # A row that was used often enough is closed as soon as it may be.
            for b in range(bank_row.size):
                if used[b] >= cap:
                    group = b // device[D_BANKS]
                    rank = b // per_rank
                    t = ready(PRE, b, group, rank, next_bank, next_group, next_rank, bus_next)
                    if t <= now and waiting_first < first.size:
                        first[waiting_first] = b
                        waiting_first += 1
                        used[b] = -1
                    elif t > now:
                        soonest = min(soonest, t)
        for turn in range(slots):
            slot = _ANY if slots == 1 else _COLUMN + turn
            c, b, at, source = NONE, -1, -1, -1
            if slot != _ROW:
                _best(
                    now, slot, False, q[Q_KEEP_HITS], active, started, device, bank_row, busy, hit,
                    bank_of, row, write, next_bank, next_group, next_rank, bus_next, found,
                )  # fmt: skip
                at, c, source = found[0], found[1], 0
                soonest = min(soonest, found[2])
            if c == NONE and waiting_first > 0 and slot != _COLUMN:
                source = 3
                low = first[0]
                high = low + 1
                c = PRE
                if low < 0:
                    low = (-1 - low) * per_rank
                    high = low + per_rank
                    c = REFA
                free = True
                for one in range(low, high):
                    if bank_row[one] >= 0 and c == REFA:
                        c = PREA
                    free = free and busy[one] == 0
                b = low
                group = b // device[D_BANKS]
                rank = b // per_rank
                t = ready(c, b, group, rank, next_bank, next_group, next_rank, bus_next)
                if t > now or not (free or c == REFA):
                    if t > now:
                        soonest = min(soonest, t)
                    c = NONE
            if c == NONE and waiting_first == 0:
                if not draining:
                    draining = waiting_writes * 10 > q[Q_HIGH] or waiting_reads == 0
                else:
                    draining = waiting_writes * 10 >= q[Q_LOW] or waiting_reads == 0
                source = 2 if draining else 1
                _best(
                    now, slot, True, q[Q_KEEP_HITS], writes if draining else reads,
                    waiting_writes if draining else waiting_reads, device, bank_row, busy, hit,
                    bank_of, row, write, next_bank, next_group, next_rank, bus_next, found,
                )  # fmt: skip
                at, c = found[0], found[1]
                soonest = min(soonest, found[2])
            if c == NONE:
                continue
            soonest = now + 1
            i = -1
            if source != 3:
                i = active[at] if source == 0 else (reads[at] if source == 1 else writes[at])
                b = bank_of[i]
                if seen[i] == 0:
                    seen[i] = 1
                    if c in (RD, WR):
                        result[R_ROW_HITS] += 1
                        result[R_READ_HITS] += 1 - write[i]
            rank = b // per_rank
            # With a row bus of its own nothing could open the row again for a request that had it
            # opened: it stays open for that one.
            others = busy[b] - 1 if source == 0 else busy[b]
            if c in (RD, WR) and cap > 0 and used[b] >= cap and (slots == 1 or others == 0):
                closing = RDA if c == RD else WRA
                group = b // device[D_BANKS]
                t = ready(closing, b, group, rank, next_bank, next_group, next_rank, bus_next)
                if t <= now:
                    c = closing
            issue(
                c, b, now, device, tables, length, bus_of, next_bank, next_group, next_rank,
                bus_next, window, rank_state, counts,
            )  # fmt: skip
            entry = result[R_LOGGED]
            if entry < log.shape[0]:
                log[entry, 0], log[entry, 1], log[entry, 2] = now, c, b
                log[entry, 3], log[entry, 4] = row[i] if i >= 0 else -1, i
            result[R_LOGGED] = entry + 1
            if source == 3 and c != PREA:
                take_out(first, 0, waiting_first)
                waiting_first -= 1
            if c == PREA:
                for one in range(rank * per_rank, (rank + 1) * per_rank):
                    if bank_row[one] >= 0:
                        closed(rank, now, rank_state, counts, 1)
                    bank_row[one] = -1
                    used[one] = 0
            elif c == PRE:
                if bank_row[b] >= 0:
                    closed(rank, now, rank_state, counts, 1)
                bank_row[b] = -1
                used[b] = 0
            elif c != REFA:
                if c in (RDA, WRA):
                    after = device[D_READ_CLOSE] if c == RDA else device[D_WRITE_CLOSE]
                    closed(rank, now + after, rank_state, counts, 1)
                    bank_row[b] = -1
                    used[b] = 0
                elif c in (RD, WR) and used[b] >= 0:
                    used[b] += 1
                if source == 0:
                    take_out(active, at, started)
                    started -= 1
                    busy[b] -= 1
                elif source == 1:
                    take_out(reads, at, waiting_reads)
                    waiting_reads -= 1
                else:
                    take_out(writes, at, waiting_writes)
                    waiting_writes -= 1
                    pending_write[place[i]] = 0
                if c == ACT:
                    bank_row[b] = row[i]
                    opened(rank, now, rank_state, counts, 1)
                    active[started] = i
                    started += 1
                    busy[b] += 1
                else:
                    done += 1
                    back[i] = now - 1
                    if c in (RD, RDA):
                        last_back = max(last_back, now - 1 + device[D_READ_END])
                        back[i] = last_back
                    last = max(last, back[i])
        now = max(now + 1, soonest)
    z[1], z[2], z[3], z[4], z[5] = now - 1, accepted, done, last, last_back
    z[6], z[7], z[8], z[9] = waiting_reads, waiting_writes, started, draining
    z[10], z[11] = next_refresh - device[D_REFI], waiting_first
    if done < n:
        return
    close_account(ranks, last + 1, rank_state, counts)
    result[R_END] = last + 1
    for i in range(n):
        result[R_READS] += 1 - write[i]
        result[R_WRITES] += write[i]
        if write[i] == 0:
            result[R_LATENCY] += back[i] - begin[i]
