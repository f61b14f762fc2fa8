"""Compiled: commands to sets of banks, given one by one or as columns that open rows on demand.

The timing state is that of the controllers (device.py), with one difference: a command of a memory
that computes raises the limits of every bank of its set. ``sets[command, bank]`` numbers the sets
of each command; banks of a rank with the same number take the command together.
"""

from __future__ import annotations

from archsim.models.dram.layout import (
    ACT,
    ACTB,
    D_BANKS,
    D_CROSS,
    D_GROUPS,
    D_RANKS,
    D_REFI,
    D_WINDOW,
    D_WINDOW_COUNT,
    FREE,
    MACB,
    NEVER,
    NUM_COMMANDS,
    PRE,
    PREA,
    PREB,
    RDB,
    REFA,
    WRB,
)
from archsim.models.jit import inlined, inner

# Columns of a program, one line a run of equal column commands.
C_COMMAND, C_BANK, C_ROW, C_GAP, C_TIMES, C_FENCE, C_SIZE = range(7)
AHEAD = 24  # lines whose rows may be open before they are used; a refresh waits for them
_LOOK = 4  # lines beyond these among which each rank's next row is found
# Columns of the log, as the checker takes them.
_CYCLE, _COMMAND, _BANK, _ROW, _WHO = range(5)


@inlined
def _rowless(command, row):
    """Whether a command goes to registers or a buffer rather than to banks."""
    return command in (WRB, RDB) and row < 0


@inlined
def ready_set(command, bank, row, device, sets, next_bank, next_group, next_rank, bus_next):
    """First cycle at which a command to a set may be issued."""
    per_rank = device[D_GROUPS] * device[D_BANKS]
    rank = bank // per_rank
    first = max(next_rank[rank, command], bus_next[command])
    first = max(first, next_group[bank // device[D_BANKS], command])
    if not _rowless(command, row):
        mine = sets[command, bank]
        for one in range(rank * per_rank, (rank + 1) * per_rank):
            if sets[command, one] == mine:
                first = max(first, next_bank[one, command])
    return first


@inlined
def issue_set(
    command, bank, row, now, device, tables, length, bus_of, sets, activations, next_bank,
    next_group, next_rank, bus_next, window, heads, counts,
):  # fmt: skip
    """Take a command at cycle ``now``: raise what may follow in its whole set, and count it."""
    per_rank = device[D_GROUPS] * device[D_BANKS]
    rank = bank // per_rank
    group = bank // device[D_BANKS]
    counts[rank, command] += 1
    free = now + length[command]
    for then in range(NUM_COMMANDS):
        if bus_of[then] == bus_of[command]:
            bus_next[then] = free
        next_rank[rank, then] = max(next_rank[rank, then], now + tables[2, command, then])
        next_group[group, then] = max(next_group[group, then], now + tables[1, command, then])
    if device[D_CROSS]:
        for other in range(device[D_RANKS]):
            if other != rank:
                for then in range(NUM_COMMANDS):
                    later = now + tables[3, command, then]
                    next_rank[other, then] = max(next_rank[other, then], later)
    if not _rowless(command, row):
        mine = sets[command, bank]
        for one in range(rank * per_rank, (rank + 1) * per_rank):
            if sets[command, one] == mine:
                for then in range(NUM_COMMANDS):
                    later = now + tables[0, command, then]
                    next_bank[one, then] = max(next_bank[one, then], later)
    if command in (ACT, ACTB) and device[D_WINDOW] > 0:
        count = device[D_WINDOW_COUNT]
        many = activations if command == ACTB else 1
        # More rows than the window allows count as if opened in its steps, one after another.
        at = now + (max(many - 1, 0) // count) * device[D_WINDOW]
        head = heads[rank]
        for _ in range(min(many, count)):
            window[rank, head] = at
            head = head + 1 if head + 1 < count else 0
        heads[rank] = head
        next_rank[rank, ACT] = max(next_rank[rank, ACT], window[rank, head] + device[D_WINDOW])
        # A set needs as many free places of the window as it opens rows.
        last = (head + min(activations, count) - 1) % count
        first = window[rank, last] + device[D_WINDOW]
        next_rank[rank, ACTB] = max(next_rank[rank, ACTB], first)


@inner
def issue_in_order(
    lines, first, device, tables, length, bus_of, sets, activations, next_bank, next_group,
    next_rank, bus_next, window, heads, counts,
):  # fmt: skip
    """Fill in column 0 of ``lines`` (cycle, command, bank, row, ...); ``first``: earliest cycles.

    Every command is issued at the first legal cycle that is not before the last one's.
    """
    now = 0
    for k in range(lines.shape[0]):
        c, b, row = lines[k, _COMMAND], lines[k, _BANK], lines[k, _ROW]
        t = ready_set(c, b, row, device, sets, next_bank, next_group, next_rank, bus_next)
        now = max(max(now, first[k]), t)
        lines[k, _CYCLE] = now
        issue_set(
            c, b, row, now, device, tables, length, bus_of, sets, activations, next_bank,
            next_group, next_rank, bus_next, window, heads, counts,
        )  # fmt: skip


@inlined
def _open_in(command, bank, row, device, sets, bank_row):
    """Whether a column command finds its row open in every bank of its set."""
    if row < 0:
        return True
    per_rank = device[D_GROUPS] * device[D_BANKS]
    rank = bank // per_rank
    found = True
    for one in range(rank * per_rank, (rank + 1) * per_rank):
        if sets[command, one] == sets[command, bank] and bank_row[one] != row:
            found = False
            break
    return found


@inlined
def _mark(command, bank, row, number, device, sets, last_use):
    """Note the line of the program for which the banks of a set were opened last."""
    if row >= 0:
        per_rank = device[D_GROUPS] * device[D_BANKS]
        rank = bank // per_rank
        for one in range(rank * per_rank, (rank + 1) * per_rank):
            if sets[command, one] == sets[command, bank]:
                last_use[one] = number


@inlined
def _needed(command, bank, row, at, device, sets, bank_row, last_use):
    """The row command that brings a set nearer to its row: ``(command, bank)``, or -1.

    A bank whose open row is still needed by lines from ``at`` on is left alone.
    """
    per_rank = device[D_GROUPS] * device[D_BANKS]
    rank = bank // per_rank
    single = command != MACB and command != WRB
    opening, target = -1, -1
    if row < 0:
        return opening, target
    for one in range(rank * per_rank, (rank + 1) * per_rank):
        if sets[command, one] == sets[command, bank]:
            if bank_row[one] >= 0 and bank_row[one] != row:
                if last_use[one] >= at:
                    opening, target = -1, -1
                else:
                    opening, target = (PRE if single else PREB), one
                break
            if bank_row[one] < 0 and opening < 0:
                opening, target = (ACT if single else ACTB), one
    return opening, target


@inner
def drive(
    program, refreshing, device, tables, length, bus_of, sets, activations, next_bank, next_group,
    next_rank, bus_next, window, heads, bank_row, last_use, due, counts, log,
):  # fmt: skip
    """Issue column commands in order; rows are opened on demand, ahead where banks are free.

    One function, as the controllers' loops are: a call with so many arrays costs more than a step.

    A refresh of a rank that is due waits until the rows that were opened, and the rest of a set
    that is being opened, have been used, and commands that need no row have been issued; then the
    rank is precharged and refreshed.

    Args:
        program: Column commands, int64[n, C_SIZE]: command, a bank of the set, row (-1: registers),
            cycles to wait at least after the command before (its own distance when 0), times, and
            1 for a fence behind it: rows for what follows are not opened before the last command
            in front of the fence is the next to be issued.
        refreshing: 1 to refresh every ``tREFI``.
        sets: int64[NUM_COMMANDS, banks].
        activations: Of one ACTB in the four-activate window.
        log: int64[m, 5] for cycle, command, bank, row, line; what does not fit is only counted.

    Returns:
        ``(cycles, issued)``: cycle after the last column command, and commands in all;
        ``(-1, line)`` if a line of the program can never be issued.
    """
    n = program.shape[0]
    ranks = device[D_RANKS]
    per_rank = device[D_GROUPS] * device[D_BANKS]
    at, ahead, done, issued = 0, 0, 0, 0
    last, now = -1, 0
    wall = 0  # first line behind the next fence
    opening = -1  # line whose row was opened last
    while at < n:
        while wall < n and (at >= wall or (at == wall - 1 and done == program[at, C_TIMES] - 1)):
            wall += 1
            while wall < n and not program[wall - 1, C_FENCE]:
                wall += 1
        # Lines whose rows are open, or that need none, are left behind by the row commands.
        held = -1
        if refreshing:
            for rank in range(ranks):
                if now >= due[rank] and (held < 0 or due[rank] < due[held]):
                    held = rank
        while ahead < min(wall, at + AHEAD) and (
            held < 0 or opening == ahead or program[ahead, C_ROW] < 0
        ) and _open_in(
            program[ahead, C_COMMAND], program[ahead, C_BANK], program[ahead, C_ROW], device, sets,
            bank_row,
        ):  # fmt: skip
            _mark(
                program[ahead, C_COMMAND], program[ahead, C_BANK], program[ahead, C_ROW], ahead,
                device, sets, last_use,
            )  # fmt: skip
            ahead += 1
        c, b, row, who = -1, -1, -1, at
        t = NEVER
        if at < ahead:
            c, b, row = program[at, C_COMMAND], program[at, C_BANK], program[at, C_ROW]
            t = ready_set(c, b, row, device, sets, next_bank, next_group, next_rank, bus_next)
            if last >= 0:
                t = max(t, last + program[at, C_GAP])
            t = max(t, now)
        if held >= 0 and at == ahead and opening != ahead:
            c, b, row, who = REFA, held * per_rank, -1, -1
            for one in range(held * per_rank, (held + 1) * per_rank):
                if bank_row[one] >= 0:
                    c = PREA
                    break
            t = ready_set(c, b, row, device, sets, next_bank, next_group, next_rank, bus_next)
            t = max(t, now)
        elif held < 0 or opening == ahead:
            # One line of every rank: rows of two ranks change at the same time.
            seen = 0
            for line in range(ahead, min(n, ahead + (_LOOK if held < 0 else 1))):
                other = program[line, C_BANK] // per_rank
                if (seen >> other) & 1:
                    continue
                seen |= 1 << other
                want = program[line, C_ROW]
                rc, rb = _needed(
                    program[line, C_COMMAND], program[line, C_BANK], want, at, device, sets,
                    bank_row, last_use,
                )  # fmt: skip
                if rc in (PRE, PREB) or (rc >= 0 and line < wall):
                    early = ready_set(
                        rc, rb, want, device, sets, next_bank, next_group, next_rank, bus_next
                    )
                    if max(early, now) < t:
                        c, b, row, who, t = rc, rb, want, line, max(early, now)
        if c < 0:
            return -1, at
        now = t
        issue_set(
            c, b, row, now, device, tables, length, bus_of, sets, activations, next_bank,
            next_group, next_rank, bus_next, window, heads, counts,
        )  # fmt: skip
        if issued < log.shape[0]:
            log[issued, _CYCLE] = now
            log[issued, _COMMAND] = c
            log[issued, _BANK] = b
            log[issued, _ROW] = row
            log[issued, _WHO] = who
        issued += 1
        rank = b // per_rank
        if c == REFA:
            due[rank] += device[D_REFI]
        elif c in (ACT, ACTB, PRE, PREB, PREA):
            opened = row if c in (ACT, ACTB) else -1
            opening = who if opened >= 0 else opening
            for one in range(rank * per_rank, (rank + 1) * per_rank):
                if sets[c, one] == sets[c, b]:
                    bank_row[one] = opened
        else:
            last = now
            done += 1
            if done == program[at, C_TIMES]:
                done = 0
                at += 1
    return last + 1, issued


#: Start of the activation windows: no activation so far.
NO_ACTIVATION = FREE
