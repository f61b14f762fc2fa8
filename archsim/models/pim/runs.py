"""Compiled: the time of a kernel by runs of commands, and by repetitions of runs.

A run of column commands in one row takes a time that the constraint table gives; where it starts
follows from what its banks and its rank did last. A kernel repeats itself: as soon as one
repetition takes as long as the one before, all that are left are added at once. What a repetition
is: as many rows as there are sets, inner or outer groups after which a row starts at the same
place, or passes.
"""

from __future__ import annotations

from archsim.models.dram.broadcast import AHEAD
from archsim.models.jit import inlined, inner

# Constants of a product, int64[P_SIZE]; distances in cycles (see closed.py).
(
    P_MAC, P_OPEN, P_OPEN_WRITE, P_LATE, P_CLOSE, P_CLOSE_WRITE, P_PRECHARGE, P_RAS, P_RC, P_WINDOW,
    P_WRITE, P_READ, P_REFRESH, P_ROW_COLUMNS, P_SETS, P_RANKS, P_LOCKSTEP, P_STREAMS, P_OUTPUTS,
    P_COLUMNS, P_ACCUMULATORS, P_THROUGH, P_WRITE_ROW, P_RESULT_ROW, P_BARRIER, P_BARRIER_CYCLES,
    P_BEGIN, P_SIZE,
) = range(28)  # fmt: skip
# A shape, int64[S_SIZE].
(
    S_PASSES, S_OUTPUTS, S_COLUMNS, S_STRETCH, S_WRITES, S_SHARE, S_RESULTS, S_SIZE,
) = range(8)  # fmt: skip
# What is found, float64[F_SIZE]: cycles by cause (the last of several), counts of commands, what
# refreshes would take at the places where rows are opened, lines of the program, the end, when
# the last row began to open, when the one before it in its set had been read, and when the
# controller saw the last line.
(
    F_ROWS, F_MODES, F_OPERANDS, F_RESULTS, F_MACS, F_WRITES, F_LEFT, F_SETS, F_STALL, F_PLACES,
    F_LINES, F_END, F_OPENED, F_FREED, F_SIGHT, F_SIZE,
) = range(16)  # fmt: skip
MAC, WRITE, READ = range(3)  # kinds of runs
NONE = -1  # no row; rows of weights are numbered from 0 in the order in which they are read,
OTHER = -2  # and any other row of the memory is this less its number
LONG_AGO = -(1 << 40)
# State: one line of the clock, one a rank, one a set of banks.
(
    K_LAST, K_FENCE, K_MAC, K_WHY, K_HERE, K_OPENED, K_FREED, K_FENCED, K_VISITS, K_EACH, K_RUNS,
    K_RECENT,
) = range(12)  # fmt: skip
# The last runs: lines of the program before them, lines of their own, from when, until when.
L_BEFORE, L_MANY, L_FROM, L_TO, L_SIZE = range(5)
RECENT = AHEAD + 8
K_SIZE = K_RECENT + RECENT * L_SIZE
R_SEEN, R_WINDOW, R_LAST, R_SIZE = 0, 1, 2, 5
B_ROW, B_ACT, B_CLOSES, B_SIZE = range(4)
# A mark of a repetition: its end and length, where it ended, how many groups were done, when the
# last row was opened.
M_TIME, M_TOOK, M_HERE, M_INDEX, M_OPENED, M_SIZE = range(6)
MARKS = 4  # rows, inner groups, outer groups, passes


@inlined
def _open(p, clock, ranks, sets, at, row, found):
    """Open a row of a set, as early as its banks, its rank and barriers let it."""
    rank = at % p[P_RANKS]
    act = max(max(ranks[rank, R_SEEN], ranks[rank, R_WINDOW]), clock[K_FENCE])
    if sets[at, B_ROW] != NONE:
        close = max(sets[at, B_CLOSES], sets[at, B_ACT] + p[P_RAS])
        close = max(close, ranks[rank, R_SEEN])
        act = max(act, max(close + p[P_PRECHARGE], sets[at, B_ACT] + p[P_RC]))
    sets[at, B_ROW] = row
    sets[at, B_ACT] = act
    ranks[rank, R_WINDOW] = act + p[P_WINDOW]
    ranks[rank, R_SEEN] = act + p[P_LATE]
    clock[K_OPENED] = act
    found[F_SETS] += 1.0


@inlined
def _run(p, within, between, clock, ranks, sets, found, kind, at, row, count, step, gap):
    """A run of ``count`` equal commands, ``step`` apart; returns the cycle of the first."""
    rank = at % p[P_RANKS]
    first = clock[K_LAST] + max(gap, 1)
    if clock[K_FENCED]:
        first = max(first, clock[K_LAST] + p[P_BARRIER_CYCLES])
    for other in range(p[P_RANKS]):
        for before in range(3):
            apart = within[before, kind] if other == rank else between[before, kind]
            first = max(first, ranks[other, R_LAST + before] + apart)
    if row != NONE:
        if sets[at, B_ROW] != row:
            # A refresh at this place closes all rows first, and the row is opened behind it.
            idle = max(clock[K_LAST] + 1, sets[0, B_CLOSES])
            for one in range(1, p[P_SETS]):
                idle = max(idle, sets[one, B_CLOSES])
            _open(p, clock, ranks, sets, at, row, found)
            opened = p[P_OPEN] if kind == MAC else p[P_OPEN_WRITE]
            first = max(first, sets[at, B_ACT] + opened)
            found[F_STALL] += max(idle + p[P_REFRESH] + opened - first, 0)
            found[F_PLACES] += 1.0
        else:
            opened = p[P_OPEN] if kind == MAC else p[P_OPEN_WRITE]
            first = max(first, sets[at, B_ACT] + opened)
            # Further runs in a row come into sight when all of it is open.
            clock[K_OPENED] = max(clock[K_OPENED], sets[at, B_ACT] + p[P_LATE])
    last = first + (count - 1) * step
    if p[P_BARRIER]:
        if kind == MAC:
            groups = (count - 1) // p[P_BARRIER]
            held = groups * max(p[P_BARRIER_CYCLES] - step, 0)
            last += held
            found[F_MODES] += held
        clock[K_FENCE] = last - step if count > 1 else clock[K_LAST]
        clock[K_FENCED] = 1
    if row != NONE:
        sets[at, B_CLOSES] = last + (p[P_CLOSE] if kind == MAC else p[P_CLOSE_WRITE])
    ranks[rank, R_LAST + kind] = last
    lines = 2 * count if p[P_LOCKSTEP] else 1
    if kind == MAC and p[P_BARRIER]:
        lines = (count - 1) // p[P_BARRIER] + 1
    place = K_RECENT + clock[K_RUNS] % RECENT * L_SIZE
    clock[place + L_BEFORE], clock[place + L_MANY] = int(found[F_LINES]), lines
    clock[place + L_FROM], clock[place + L_TO] = clock[K_LAST], last
    clock[K_RUNS] += 1
    found[F_LINES] += lines
    clock[K_LAST] = last
    return first


@inlined
def _sight(clock, found):
    """Cycle from which the last line was among those that the controller looks at."""
    target = int(found[F_LINES]) - AHEAD
    for k in range(min(clock[K_RUNS], RECENT)):
        place = K_RECENT + k * L_SIZE
        done = target - clock[place + L_BEFORE]
        if 0 <= done < clock[place + L_MANY]:
            took = clock[place + L_TO] - clock[place + L_FROM]
            return clock[place + L_FROM] + took * done / clock[place + L_MANY]
    return 0.0


@inlined
def _set_of(p, clock, visit):
    """Set in which a row of weights lies."""
    if visit >= clock[K_VISITS]:
        return p[P_SETS] - 1
    return visit % p[P_SETS] if p[P_STREAMS] else visit // clock[K_EACH]


@inlined
def _room(p, clock, end):
    """Columns that may be skipped: all but the last row of every set, or of the set read alone."""
    room = end - clock[K_HERE]
    if p[P_STREAMS]:
        room -= (p[P_SETS] + 1) * p[P_ROW_COLUMNS]
    else:
        part = clock[K_EACH] * p[P_ROW_COLUMNS]
        room = min(room, part - (clock[K_HERE] - 1) % part - 1)
    return room


@inner
def _repeats(p, clock, ranks, sets, found, marks, level, before, index, left, room):
    """Groups to skip: if the last repetition was like the one before, add all that are left.

    Args:
        index: Groups done.
        left: Groups that may be skipped.
        room: Columns that may be skipped.
    """
    columns = p[P_ROW_COLUMNS] * (p[P_RANKS] if p[P_STREAMS] else 1)
    mark = marks[level]
    moved = clock[K_HERE] - mark[M_HERE]
    skipped = 0
    if mark[M_INDEX] < 0 or moved % columns == 0:
        took = clock[K_LAST] - mark[M_TIME]
        each = index - mark[M_INDEX]
        # Rows that are opened ahead of time must not fall behind.
        steady = took == mark[M_TOOK] and clock[K_OPENED] - mark[M_OPENED] <= took
        if mark[M_INDEX] >= 0 and steady and each > 0:
            times = left // each
            if moved > 0:
                times = min(times, room // moved)
            if times > 0:
                skipped = times * each
                shift = took * times
                clock[K_LAST] += shift
                clock[K_FENCE] += shift
                clock[K_MAC] += shift
                clock[K_OPENED] += shift
                clock[K_FREED] += shift
                clock[K_HERE] += moved * times
                for rank in range(p[P_RANKS]):
                    for k in range(R_SIZE):
                        ranks[rank, k] += shift
                for one in range(p[P_SETS]):
                    if sets[one, B_ROW] >= 0:
                        sets[one, B_ROW] += moved // p[P_ROW_COLUMNS] * times
                    sets[one, B_ACT] += shift
                    sets[one, B_CLOSES] += shift
                for k in range(RECENT):
                    place = K_RECENT + k * L_SIZE
                    clock[place + L_BEFORE] += times * int(found[F_LINES] - before[level, F_LINES])
                    clock[place + L_FROM] += shift
                    clock[place + L_TO] += shift
                for k in range(F_LINES + 1):
                    found[k] += times * (found[k] - before[level, k])
        mark[M_TOOK] = took if mark[M_INDEX] >= 0 else -1
        mark[M_TIME] = clock[K_LAST]
        mark[M_HERE], mark[M_OPENED] = clock[K_HERE], clock[K_OPENED]
        mark[M_INDEX] = index + skipped
        for k in range(F_LINES + 1):
            before[level, k] = found[k]
    return skipped


@inner
def _macs(p, within, between, clock, ranks, sets, found, marks, before, times, stretch):
    """Multiply ``times`` columns, row by row."""
    row_columns, total = p[P_ROW_COLUMNS], p[P_SETS]
    gap = p[P_MAC] * stretch
    marks[0, M_INDEX] = -1
    rows = 0
    while times:
        here = clock[K_HERE]
        visit = here // row_columns
        at = _set_of(p, clock, visit)
        run = min(times, row_columns - here % row_columns)
        mac, why = clock[K_MAC], clock[K_WHY]
        opens = found[F_SETS]
        first = _run(
            p, within, between, clock, ranks, sets, found, MAC, at, visit, run, gap,
            gap if stretch > 1 else 1,
        )  # fmt: skip
        found[why if why >= 0 else F_ROWS] += first - mac - gap
        found[F_MACS] += run
        clock[K_MAC], clock[K_WHY] = clock[K_LAST], -1
        clock[K_HERE] = here + run
        if visit == clock[K_VISITS] - 1 - total:
            clock[K_FREED] = clock[K_LAST]  # for the last row
        times -= run
        rows += 1
        if times > row_columns and (here + run) % row_columns == 0 and found[F_SETS] > opens:
            turn = total if p[P_STREAMS] else 1
            if rows % turn == 0 and rows >= turn:
                skipped = _repeats(
                    p, clock, ranks, sets, found, marks, 0, before, rows, times // row_columns - 1,
                    _room(p, clock, clock[K_HERE] + times),
                )  # fmt: skip
                times -= skipped * row_columns
                rows += skipped


@inner
def _event(p, within, between, clock, ranks, sets, found, kind, row, count, cause):
    """Operands in or results out."""
    if count > 0:
        step = p[P_READ] if kind == READ else p[P_WRITE]
        at = p[P_THROUGH]
        if at < 0:
            at = _set_of(p, clock, clock[K_HERE] // p[P_ROW_COLUMNS])
        _run(p, within, between, clock, ranks, sets, found, kind, at, row, count, step, 1)
        clock[K_WHY] = max(clock[K_WHY], cause)


@inner
def _steps(p, within, between, clock, ranks, sets, found, steps):
    """Accesses of modes, int64[steps, 3]: set, row, times."""
    for k in range(steps.shape[0]):
        _run(
            p, within, between, clock, ranks, sets, found, WRITE, steps[k, 0], steps[k, 1],
            steps[k, 2], p[P_WRITE], 1,
        )  # fmt: skip
        clock[K_WHY] = max(clock[K_WHY], F_MODES)
        found[F_WRITES] += steps[k, 2]


@inner
def _pass(
    p, shape, within, between, clock, ranks, sets, found, marks, before, start, stop
):  # fmt: skip
    """All weights once."""
    outputs, columns, stretch = shape[S_OUTPUTS], shape[S_COLUMNS], shape[S_STRETCH]
    most = min(outputs, p[P_ACCUMULATORS])
    blocks = -(-outputs // p[P_ACCUMULATORS])
    tiles = -(-columns // p[P_COLUMNS])
    result = READ if p[P_RESULT_ROW] == NONE else WRITE
    keep = p[P_OUTPUTS]
    outer, inner_many = (blocks, tiles) if keep else (tiles, blocks)
    end = outputs * columns
    clock[K_HERE] = 0
    marks[2, M_INDEX] = -1
    o = 0
    while o < outer:
        marks[1, M_INDEX] = -1
        if keep:
            _steps(p, within, between, clock, ranks, sets, found, start)
        i = 0
        while i < inner_many:
            b, t = (o, i) if keep else (i, o)
            block = min(p[P_ACCUMULATORS], outputs - b * p[P_ACCUMULATORS])
            tile = min(p[P_COLUMNS], columns - t * p[P_COLUMNS])
            if (keep and (tiles > 1 or b == 0)) or (not keep and i == 0):
                moved = -(-tile * shape[S_WRITES] // shape[S_SHARE])
                found[F_WRITES] += moved
                _event(
                    p, within, between, clock, ranks, sets, found, WRITE, p[P_WRITE_ROW], moved,
                    F_OPERANDS,
                )  # fmt: skip
            if not keep:
                _steps(p, within, between, clock, ranks, sets, found, start)
            _macs(
                p, within, between, clock, ranks, sets, found, marks, before, block * tile, stretch,
            )  # fmt: skip
            if not keep or i == inner_many - 1:
                left = -(-shape[S_RESULTS] * block // most)
                found[F_LEFT] += left
                _event(
                    p, within, between, clock, ranks, sets, found, result, p[P_RESULT_ROW], left,
                    F_RESULTS,
                )  # fmt: skip
                _steps(p, within, between, clock, ranks, sets, found, stop)
            i += 1
            if i < inner_many - 1:
                i += _repeats(
                    p, clock, ranks, sets, found, marks, 1, before, i, inner_many - 1 - i,
                    _room(p, clock, end),
                )  # fmt: skip
        o += 1
        if o < outer - 1:
            o += _repeats(
                p, clock, ranks, sets, found, marks, 2, before, o, outer - 1 - o,
                _room(p, clock, end),
            )  # fmt: skip


@inner
def walk(
    p, shapes, within, between, enter, start, stop, leave, clock, ranks, sets, marks, before, found,
):  # fmt: skip
    """Fill ``found`` for every shape.

    Args:
        p: The product, int64[P_SIZE].
        shapes: int64[n, S_SIZE].
        within: Distances of kinds of runs in one rank, int64[3, 3].
        between: The same from one rank to another.
        enter, start, stop, leave: Accesses of modes to sets, int64[steps, 3].
        clock, ranks, sets, marks, before: Scratch.
        found: Out: float64[n, F_SIZE].
    """
    for k in range(shapes.shape[0]):
        shape, out = shapes[k], found[k]
        for one in range(p[P_RANKS]):
            for j in range(R_SIZE):
                ranks[one, j] = LONG_AGO if j >= R_LAST else 0
        parked = p[P_BEGIN] > 0
        for one in range(p[P_SETS]):
            # Parking leaves other rows open.
            sets[one, B_ROW] = OTHER if parked else NONE
            sets[one, B_ACT] = LONG_AGO
            sets[one, B_CLOSES] = p[P_BEGIN] - 1 + p[P_CLOSE_WRITE] if parked else LONG_AGO
        clock[K_LAST] = p[P_BEGIN] - 1
        clock[K_FENCE], clock[K_OPENED], clock[K_FREED], clock[K_FENCED] = 0, 0, 0, 0
        clock[K_RUNS] = 0
        clock[K_MAC], clock[K_WHY] = p[P_BEGIN] - p[P_MAC] * shape[S_STRETCH], -1
        for j in range(F_SIZE):
            out[j] = 0.0
        clock[K_VISITS] = -(-shape[S_OUTPUTS] * shape[S_COLUMNS] // p[P_ROW_COLUMNS])
        clock[K_EACH] = -(-clock[K_VISITS] // p[P_SETS])
        _steps(p, within, between, clock, ranks, sets, out, enter)
        marks[3, M_INDEX] = -1
        done = 0
        while done < shape[S_PASSES]:
            _pass(
                p, shape, within, between, clock, ranks, sets, out, marks, before, start, stop
            )  # fmt: skip
            done += 1
            # Passes read the same columns again.
            clock[K_HERE] = 0
            if done < shape[S_PASSES]:
                done += _repeats(
                    p, clock, ranks, sets, out, marks, 3, before, done, shape[S_PASSES] - done, 0
                )  # fmt: skip
        _steps(p, within, between, clock, ranks, sets, out, leave)
        out[F_RESULTS] += clock[K_LAST] - clock[K_MAC]
        out[F_END] = clock[K_LAST] + 1
        out[F_SIGHT] = _sight(clock, out)
        out[F_OPENED], out[F_FREED] = clock[K_OPENED], clock[K_FREED]
