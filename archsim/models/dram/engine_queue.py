"""Requests of a channel: how they arrive, wait in the buffers of their banks and are answered."""

from __future__ import annotations

from archsim.models.dram.engine_state import (
    B_BLOCKED,
    B_CHAINED,
    B_COUNT,
    B_CURRENT,
    B_FRESH,
    B_FRONT,
    B_KEEP,
    B_READ,
    B_ROW,
    B_WRITE,
    BANKWISE,
    CLOSED_ADAPTIVE,
    FAR,
    FIFO,
    FR_FCFS_GRP,
    OPEN,
    OPEN_ADAPTIVE,
    READ_WRITE,
    S_ACCEPTED,
    S_ARRIVAL,
    S_BACK,
    S_END,
    S_ENTERED,
    S_LAST_BACK,
    S_LAST_BANK,
    S_LAST_OUT,
    S_LAST_WRITE,
    S_NEXT_COLUMN,
    S_OUT,
    S_READS,
    S_SERVED,
    S_STUCK,
    S_WITH_CLOCK,
    S_WRITES,
)
from archsim.models.dram.layout import (
    ACT,
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
    P_PAGE,
    P_RESPONSE,
    P_RESPONSE_GAP,
    P_SCHEDULER,
    P_SEND_GAP,
    P_THINK_FW,
    PRE,
    R_READ_HITS,
    R_ROW_HITS,
    RD,
    RDA,
    WR,
    WRA,
)
from archsim.models.jit import inlined, inner


@inner
def unserved(i, n, next_same, served):
    """First request from ``i`` along a chain that is not served."""
    while i < n and served[i]:
        i = next_same[i]
    return i


@inlined
def _pick(b, p, s, bank, row, write, address, next_same, served):
    """The request the bank's scheduler offers."""
    front = bank[b, B_FRONT]
    if bank[b, B_ROW] < 0 or p[P_SCHEDULER] == FIFO:
        return front
    accepted = s[S_ACCEPTED]
    read, write_hit = bank[b, B_READ], bank[b, B_WRITE]
    first = min(read, write_hit)
    if first >= accepted:
        return front
    if p[P_SCHEDULER] == FR_FCFS_GRP:
        same = write_hit if s[S_LAST_WRITE] == 1 else read
        if same < accepted and same != first:
            # A younger hit of the right direction, unless an older one has its address.
            n = row.size
            while same < accepted:
                older = unserved(first, n, next_same, served)
                hazard = False
                while older < same:
                    if address[older] == address[same]:
                        hazard = True
                        break
                    older = unserved(next_same[older], n, next_same, served)
                if not hazard:
                    return same
                same = unserved(next_same[same], n, next_same, served)
    return first


@inner
def _further_hit(b, p, s, bank, row, next_bank, next_same, served):
    """Whether a second request of the bank's queue hits the open row."""
    accepted = s[S_ACCEPTED]
    if p[P_SCHEDULER] == FIFO:
        second = next_bank[bank[b, B_FRONT]]
        return second < accepted and row[second] == bank[b, B_ROW]
    read, write_hit = bank[b, B_READ], bank[b, B_WRITE]
    if read < accepted and write_hit < accepted:
        return True
    first = min(read, write_hit)
    if first >= accepted:
        return False
    return unserved(next_same[first], row.size, next_same, served) < accepted


@inlined
def evaluate(
    b, p, s, bank, command, soon, who, chain, length, next_bank_time, row, write, address,
    next_bank, next_same, served,
):  # fmt: skip
    """Choose the bank's request and the command it needs."""
    command[b] = NONE
    soon[b] = FAR
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
            close = page != OPEN
            if page == CLOSED_ADAPTIVE or (page == OPEN_ADAPTIVE and bank[b, B_COUNT] >= 2):
                close = not _further_hit(b, p, s, bank, row, next_bank, next_same, served)
            elif page == OPEN_ADAPTIVE:
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
def space(p, s, bank):
    """Whether the buffer takes another request; the bank-wise one looks at the bank last used."""
    kind = p[P_BUFFER]
    if kind == BANKWISE:
        return bank[s[S_LAST_BANK], B_COUNT] < p[P_DEPTH_READ]
    if kind == READ_WRITE:
        return s[S_READS] < p[P_DEPTH_READ] and s[S_WRITES] < p[P_DEPTH_WRITE]
    return s[S_READS] + s[S_WRITES] < p[P_DEPTH_READ]


@inlined
def arrive(p, s, n, arrival, freed, begin):
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
def accept(b, is_write, s, bank):
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
def respond(i, done, p, s, data_end, back, freed):
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


@inlined
def serve(i, b, s, bank, result, row, write, next_same, served, next_bank):
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
            bank[b, B_WRITE] = unserved(next_same[i], n, next_same, served)
    elif bank[b, B_READ] == i:
        bank[b, B_READ] = unserved(next_same[i], n, next_same, served)
