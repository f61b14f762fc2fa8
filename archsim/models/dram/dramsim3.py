"""Compiled controller of one channel, after DRAMsim3.

Requests enter a read queue or a write buffer, one a cycle. From there one a cycle moves to the
command queue of its bank; writes move in batches, once the buffer is full, or holds more than a
mark while the command queues are empty. Banks take turns; each offers the first command of its
queue that is ready, a precharge only when no request of its queue hits the open row or four have.
A refresh that is due stops the banks of its rank, closes their rows one by one and goes first.
Writes are answered at once; a read of data that wait to be written, too.
"""

from __future__ import annotations

from archsim.models.dram.device import close_account, closed, issue, opened, ready, take_out
from archsim.models.dram.layout import (
    ACT,
    D_BANKS,
    D_GROUPS,
    D_RANKS,
    D_RAS,
    D_READ_CLOSE,
    D_READ_END,
    D_REFI,
    D_SPLIT_BUS,
    D_WRITE_CLOSE,
    NEVER,
    NUM_COMMANDS,
    PRE,
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

# Settings of the controller.
Q_DEPTH, Q_TRANSACTIONS, Q_WRITE_MARK, Q_CLOSE, Q_HIT_LIMIT, Q_REFRESH, Q_SIZE = range(7)
Z_RELEASED, Z_SIZE = 0, 15  # kept state: see run
# Columns of the bank state: open row, hits since it opened, entries queued, what it may do next.
C_ROW, C_HITS, C_COUNT, C_READ, C_WRITE, C_PRE, C_ACTIVATED, C_SIZE = range(8)


@inner
def _options(b, q, bank, queue, row, write, column):
    """Find which commands the bank's queue asks for: positions of its first hits, a precharge."""
    bank[b, C_READ], bank[b, C_WRITE], bank[b, C_PRE] = -1, -1, 0
    count = bank[b, C_COUNT]
    for k in range(count):
        i = queue[b, k]
        if row[i] == bank[b, C_ROW]:
            if write[i] == 0:
                if bank[b, C_READ] < 0:
                    bank[b, C_READ] = k
            elif bank[b, C_WRITE] < 0:
                depends = False
                for j in range(k):
                    other = queue[b, j]
                    if write[other] == 0 and row[other] == row[i] and column[other] == column[i]:
                        depends = True
                if not depends:
                    bank[b, C_WRITE] = k
    if count > 0 and bank[b, C_ROW] >= 0 and row[queue[b, 0]] != bank[b, C_ROW]:
        pending = False
        for k in range(count):
            pending = pending or row[queue[b, k]] == bank[b, C_ROW]
        if not pending or bank[b, C_HITS] >= q[Q_HIT_LIMIT]:
            bank[b, C_PRE] = 1


@inlined
def _offer(b, now, q, device, bank, next_bank, next_group, next_rank, bus_next, offer):
    """First time the bank can issue something, and what: offer = time, command, place."""
    banks = device[D_BANKS]
    group = b // banks
    rank = group // device[D_GROUPS]
    offer[0] = NEVER
    if bank[b, C_ROW] < 0:
        if bank[b, C_COUNT] > 0:
            offer[0] = ready(ACT, b, group, rank, next_bank, next_group, next_rank, bus_next)
            offer[1] = ACT
            offer[2] = 0
    else:
        place = NEVER
        for kind in range(3):
            at, c = -1, PRE
            if kind == 0 and bank[b, C_PRE]:
                at = 0
            elif kind == 1:
                at, c = bank[b, C_READ], RDA if q[Q_CLOSE] else RD
            elif kind == 2:
                at, c = bank[b, C_WRITE], WRA if q[Q_CLOSE] else WR
            if at >= 0:
                t = ready(c, b, group, rank, next_bank, next_group, next_rank, bus_next)
                # Of what is ready now the first in the queue, else what is ready first.
                t = max(t, now)
                if t < offer[0] or (t == offer[0] and at < place):
                    offer[0] = t
                    offer[1] = c
                    offer[2] = at
                    place = at


@inlined
def _refresh_offer(rank, device, bank, next_bank, next_group, next_rank, bus_next, offer):
    """The next command of a refresh that is due: a precharge while rows are open."""
    per_rank = device[D_GROUPS] * device[D_BANKS]
    offer[0], offer[1], offer[2] = NEVER, REFA, rank * per_rank
    for b in range(rank * per_rank, (rank + 1) * per_rank):
        if bank[b, C_ROW] >= 0:
            group = b // device[D_BANKS]
            t = ready(PRE, b, group, rank, next_bank, next_group, next_rank, bus_next)
            if t < offer[0]:
                offer[0], offer[1], offer[2] = t, PRE, b
    if offer[0] == NEVER:
        b = rank * per_rank
        group = b // device[D_BANKS]
        offer[0] = ready(REFA, b, group, rank, next_bank, next_group, next_rank, bus_next)


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
    column,
    place,
    pending_write,
    pending_read,
    next_pending,
    begin,
    back,
    queue,
    reads,
    writes,
    bank,
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
    """Serve a trace, or go on serving it; arrays as in engine.py.

    The arrival of requests from number ``z[Z_RELEASED]`` on is not known yet: once those before
    are accepted the state is kept in ``z``, and another call goes on. ``place`` numbers distinct
    addresses; ``pending_write`` and ``pending_read`` (first of a chain through ``next_pending``)
    tell what of them is under way. One function for the same reason as there.
    """
    n = arrival.size
    banks, ranks = bank.shape[0], device[D_RANKS]
    per_rank = banks // ranks
    step = device[D_REFI] // ranks
    released = z[Z_RELEASED]
    now, turn, tries = z[1], z[2], z[3] == 1
    accepted, done, last = z[4], z[5], z[6]
    waiting_reads, waiting_writes, draining, queued = z[7], z[8], z[9], z[10]
    next_refresh, due_first, due_count = step + z[11], z[12], z[13]
    in_refresh = z[14] - 1
    offer = bus_next[NUM_COMMANDS:]
    while done < n and (accepted < released or released == n):
        # Refreshes fall due one rank after the other.
        while q[Q_REFRESH] and next_refresh <= now:
            due_count += 1
            next_refresh += step
        soonest = next_refresh if q[Q_REFRESH] else NEVER
        issued, first_column = 0, False
        while issued < 1 + device[D_SPLIT_BUS]:
            c, b, at = -1, -1, -1
            if issued == 0 and due_count > 0:
                in_refresh = due_first
                _refresh_offer(
                    due_first, device, bank, next_bank, next_group, next_rank, bus_next,
                    offer,
                )  # fmt: skip
                if offer[0] <= now:
                    c, b = offer[1], offer[2]
                else:
                    soonest = min(soonest, offer[0])
            if c < 0:
                for k in range(1, banks + 1):
                    one = turn + k
                    if one >= banks:
                        one -= banks
                    if bank[one, C_COUNT] == 0 or one // per_rank == in_refresh:
                        continue
                    _offer(
                        one, now, q, device, bank, next_bank, next_group, next_rank, bus_next,
                        offer,
                    )  # fmt: skip
                    if offer[0] <= now:
                        c, b, at = offer[1], one, offer[2]
                        turn = one
                        break
                    soonest = min(soonest, offer[0])
            if c < 0:
                break
            column_command = RD <= c <= WRA
            if issued == 1 and column_command == first_column:
                soonest = now + 1
                break
            first_column = column_command
            issued += 1
            soonest = now + 1
            i = -1
            rank = b // per_rank
            issue(
                c, b, now, device, tables, length, bus_of, next_bank, next_group, next_rank,
                bus_next, window, rank_state, counts,
            )  # fmt: skip
            # A command later in the same cycle is held up by its own constraints only.
            if device[D_SPLIT_BUS]:
                bus_next[:NUM_COMMANDS] = now
            if c == ACT:
                i = queue[b, 0]
                bank[b, C_ROW] = row[i]
                bank[b, C_HITS] = 0
                bank[b, C_ACTIVATED] = now
                opened(rank, now, rank_state, counts, 1)
            elif c == PRE:
                bank[b, C_ROW] = -1
                bank[b, C_HITS] = 0
                closed(rank, now, rank_state, counts, 1)
            elif c == REFA:
                due_count -= 1
                due_first = due_first + 1 if due_first + 1 < ranks else 0
                in_refresh = -1
            else:
                i = queue[b, at]
                take_out(queue[b], at, bank[b, C_COUNT])
                bank[b, C_COUNT] -= 1
                queued -= 1
                if bank[b, C_HITS] > 0:
                    result[R_ROW_HITS] += 1
                    result[R_READ_HITS] += 1 - write[i]
                bank[b, C_HITS] += 1
                if c in (RDA, WRA):
                    after = device[D_READ_CLOSE] if c == RDA else device[D_WRITE_CLOSE]
                    bank[b, C_ROW] = -1
                    when = max(now + after, bank[b, C_ACTIVATED] + device[D_RAS])
                    closed(rank, when, rank_state, counts, 1)
                where = place[i]
                if write[i]:
                    pending_write[where] = 0
                else:
                    j = pending_read[where]
                    while j >= 0:
                        back[j] = now + device[D_READ_END]
                        last = max(last, back[j])
                        done += 1
                        j = next_pending[j]
                    pending_read[where] = -1
                tries = True
            line = result[R_LOGGED]
            if line < log.shape[0]:
                log[line, 0], log[line, 1], log[line, 2] = now, c, b
                log[line, 3], log[line, 4] = row[i] if i >= 0 else -1, i
            result[R_LOGGED] = line + 1
            if c != REFA:
                _options(b, q, bank, queue, row, write, column)
        # One request moves to the queue of its bank.
        if draining == 0 and (
            waiting_writes >= q[Q_TRANSACTIONS]
            or (queued == 0 and waiting_writes > q[Q_WRITE_MARK])
        ):
            draining = waiting_writes
            tries = True
        if tries:
            tries = False
            line = writes if draining > 0 else reads
            count = waiting_writes if draining > 0 else waiting_reads
            for k in range(count):
                i = line[k]
                b = bank_of[i]
                if bank[b, C_COUNT] < q[Q_DEPTH]:
                    tries = True
                    soonest = now + 1
                    if write[i] and pending_read[place[i]] >= 0:
                        draining = 0
                        break
                    if write[i]:
                        draining -= 1
                        waiting_writes -= 1
                    else:
                        waiting_reads -= 1
                    take_out(line, k, count)
                    queue[b, bank[b, C_COUNT]] = i
                    bank[b, C_COUNT] += 1
                    queued += 1
                    _options(b, q, bank, queue, row, write, column)
                    break
        # The next request enters at the end of the cycle.
        if accepted < n:
            i = accepted
            if arrival[i] > now:
                soonest = min(soonest, arrival[i])
            elif (waiting_writes if write[i] else waiting_reads) < q[Q_TRANSACTIONS]:
                begin[i] = now
                accepted += 1
                tries = True
                soonest = now + 1
                where = place[i]
                if write[i]:
                    back[i] = now + 2
                    last = max(last, back[i])
                    done += 1
                    if pending_write[where] == 0:
                        pending_write[where] = 1
                        writes[waiting_writes] = i
                        waiting_writes += 1
                elif pending_write[where]:
                    back[i] = now + 2
                    last = max(last, back[i])
                    done += 1
                else:
                    if pending_read[where] < 0:
                        reads[waiting_reads] = i
                        waiting_reads += 1
                        next_pending[i] = -1
                    else:
                        next_pending[i] = pending_read[where]
                    pending_read[where] = i
        now = max(now + 1, soonest)
    z[1], z[2], z[3] = now, turn, tries
    z[4], z[5], z[6] = accepted, done, last
    z[7], z[8], z[9], z[10] = waiting_reads, waiting_writes, draining, queued
    z[11], z[12], z[13] = next_refresh - step, due_first, due_count
    z[14] = in_refresh + 1
    if done < n:
        return
    # The last cycle is the one after that of the last answer.
    close_account(ranks, last, rank_state, counts)
    result[R_END] = last + 1
    for i in range(n):
        result[R_READS] += 1 - write[i]
        result[R_WRITES] += write[i]
        if write[i] == 0:
            result[R_LATENCY] += back[i] - begin[i]
