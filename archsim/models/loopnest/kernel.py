"""The hot loop: what mappings of a loop nest cost, counted exactly, compiled by Numba.

A *nest* is a list of slots, outer to inner. A storage slot holds temporal loops and (for the
tensors kept there) a tile; a fanout slot holds spatial loops. Slot 0 is the memory tier, and the
multiply-accumulate units lie inside the last slot. :func:`evaluate_block` works on a few mappings
of one problem at once, one a SIMD lane, so that its source reads like the count of a single one;
the batch entry point is a parallel loop over blocks. The undecorated functions (``.py_func``) run
too.

Counting rules (the policy the oracle in ``oracle.py`` walks word by word):

* A tile changes only when a relevant temporal loop outside its storage advances; loops inside the
  innermost such loop (the *moving* loop) leave it stationary.
* When the moving loop slides a window, only the words new to the window are fetched; a step of any
  loop outside it fetches the tile whole.
* Branches of a fanout that need the same words at the same step share one read of the parent
  (multicast); partial sums of one output word are added on the way up (spatial reduction).
* Multiply-accumulate units latch nothing.
* Partial sums: the first touch of an output word by a storage needs no read.
* Residual tiles (factors whose product exceeds the extent) are counted at their true size.

``layout.py`` says what the tables hold, ``loops.py`` works out tiles, visits and repeats,
``words.py`` what tiles hold, and this module charges every storage for them.
"""

from __future__ import annotations

from numba import prange

from archsim.models.jit import inlined, inner, parallel, serial
from archsim.models.lanes import (
    LANES,
    anywhere,
    bring,
    larger,
    load,
    round_up,
    spread,
    store,
    where,
)
from archsim.models.loopnest.layout import (  # noqa: F401 (whoever calls the kernel needs them)
    BITS,
    BLOCK,
    BOUND,
    BOUND_SLOT,
    CAPACITY,
    CHILD_AGAIN,
    CHILD_LINKS,
    CHILD_SLOT,
    CHILD_WORDS,
    CLOCK_HZ,
    COEFFICIENT,
    COMPUTE_CYCLES,
    CYCLES,
    DIM_BITS,
    ENERGY_J,
    ENGINE_COLUMNS,
    FEW,
    FILLS,
    FINAL_BITS,
    HOP_J,
    INPUT,
    INSIDE,
    INSTANCES,
    LEAK_J,
    LEAK_W,
    LISTS,
    MAC_COUNT,
    MAC_CYCLES,
    MAC_ENERGY_J,
    MAC_J,
    MAC_LEAK_W,
    MACS,
    MASK,
    MAX_DIMS,
    MAX_SLIDES,
    MOVES,
    NETWORK_J,
    NONE,
    OUTPUT,
    OUTSIDE,
    OVERFLOW,
    PLAIN,
    PROBLEM_INTS,
    READ_J,
    READ_SLOW,
    READS,
    RESTS,
    RESULTS,
    SHARED_SLOW,
    SIZE,
    SLIDE_DIM,
    SLIDES,
    SLOT_COLUMNS,
    STILL,
    UPDATES,
    WEIGHT,
    WHICH,
    WRITE_J,
    WRITE_SLOW,
    listed,
    make_work,
)
from archsim.models.loopnest.loops import lay_residuals, lay_tiles, load_rows, repeat_loops
from archsim.models.loopnest.residual import odd_fills, odd_requests
from archsim.models.loopnest.words import charged_in_full, tile_words, window_words


@inlined
def start_at_units(floats, ints, o, pad, work):
    """The multiply-accumulate units as the first child: every step asks for its words anew."""
    again, copies, child, totals = work.again, work.copies, work.child, work.totals
    slot_count, dim_count = again.shape[0] - 1, work.bounds.shape[1]
    for t in range(3):
        words, stays = 1.0, 1.0
        for d in range(dim_count):
            if (ints[o, MASK + t] >> d) & 1:
                words *= floats[o, d]
            else:
                stays *= floats[o, d]
        store(child, (slot_count, CHILD_WORDS, t), words)
        # Padded or not, the units compute what there is, no more.
        repeats = load(again, (slot_count, t))
        store(
            child,
            (slot_count, CHILD_AGAIN, t),
            stays / load(copies, (slot_count, t)) if pad else repeats,
        )
        store(child, (slot_count, CHILD_SLOT, t), float(slot_count))
        store(child, (slot_count, CHILD_LINKS, t), 0.0)
    store(work.share, slot_count, 1.0)
    for k in range(ints[o, SLIDES]):
        p, r = ints[o, SLIDE_DIM + 2 * k] & DIM_BITS, ints[o, SLIDE_DIM + 2 * k + 1]
        store(totals, (slot_count, k), floats[o, p] * (floats[o, r & DIM_BITS] if r >= 0 else 1.0))


@inlined
def pass_child(ints, o, s, t, any_odd, work):
    """The child of slot ``s`` is also that of the next slot outside."""
    child, totals = work.child, work.totals
    for c in range(CHILD_SLOT + 1 if any_odd else CHILD_SLOT):
        store(child, (s, c, t), load(child, (s + 1, c, t)))
    if t == INPUT:
        store(work.share, s, load(work.share, s + 1))
        if any_odd:
            for k in range(ints[o, SLIDES]):
                store(totals, (s, k), load(totals, (s + 1, k)))


@inlined
def distinct_share(m, n, step_p, step_r):
    """Fraction of windows that differ when a fanout unrolls both dimensions of a sliding rank.

    Args:
        m, n: Branches along the two dimensions; ``step_p``, ``step_r`` words between neighbours.
    """
    common, rest = step_p, step_r  # Euclid
    while anywhere(rest > 0.0):
        divisor = where(rest > 0.0, rest, 1.0)
        left = common + round_up(0.0 - common / divisor) * rest
        common, rest = where(rest > 0.0, rest, common), where(rest > 0.0, left, 0.0)
    same = larger(spread(0.0), m - step_r / common) * larger(spread(0.0), n - step_p / common)
    return 1.0 - same / (m * n)


@inlined
def cross_fanout(floats, ints, o, s, count, any_odd, pad, slot_table, e, work):
    """Charge the links of a fanout, and find the windows its branches share.

    Delivered to ``g`` of ``n`` units in use along one axis, a word crosses ``(n + g) / 2`` links
    (the mean distance for one receiver, the whole axis for a broadcast); partial sums pay the same
    way up.
    """
    bounds, tiles, odd = work.bounds, work.tiles, work.odd
    child, share = work.child, work.share
    units = spread(1.0)
    for d in range(bounds.shape[1]):
        units = units * load(bounds, (s, d))
    toll = where(units > 1.0, 0.5 * slot_table[e, s, HOP_J], 0.0)
    for t in range(3):
        pass_child(ints, o, s, t, any_odd, work)
        branches = spread(1.0)
        at, length = listed(ints, o, bounds.shape[1], RESTS + t)
        for j in range(length):
            branches = branches * load(bounds, (s, ints[o, at + j] & DIM_BITS))
        spent = (units + branches) * toll * slot_table[e, s, BITS + t]
        links = load(child, (s, CHILD_LINKS, t)) * branches + spent
        store(child, (s, CHILD_LINKS, t), links)
    for k in range(ints[o, SLIDES]):
        p, r = ints[o, SLIDE_DIM + 2 * k] & DIM_BITS, ints[o, SLIDE_DIM + 2 * k + 1]
        if r < 0:
            continue
        r = r & DIM_BITS
        m, n = load(bounds, (s, p)), load(bounds, (s, r))
        shared = (m > 1.0) & (n > 1.0)
        if any_odd and not pad:  # exactly, see odd_requests
            shared = shared & (load(odd, p) + load(odd, r) == 0.0)
        if anywhere(shared):
            step_p = floats[o, bounds.shape[1] + COEFFICIENT + 2 * k] * load(tiles, (s + 1, p))
            step_r = floats[o, bounds.shape[1] + COEFFICIENT + 2 * k + 1] * load(tiles, (s + 1, r))
            distinct = where(shared, distinct_share(m, n, step_p, step_r), 1.0)
            store(share, s, load(share, s) * distinct)


@inlined
def blocks_of(bits, per_block):
    """Block accesses that carry so many bits (tolerant of rounding in the ratio)."""
    blocks = bits * per_block
    return round_up(blocks - 1e-12 * blocks)


@inlined
def request_words(floats, ints, o, s, t, count, fanout, any_odd, pad, work):
    """Words slot ``s`` is asked for by its child, and those asked for the first time."""
    copies, child, outcome = work.copies, work.child, work.outcome
    above = load(copies, (s, t))
    requests = load(child, (s + 1, CHILD_WORDS, t)) * load(child, (s + 1, CHILD_AGAIN, t)) * above
    first = floats[o, work.bounds.shape[1] + SIZE + t] * above
    if any_odd:
        store(outcome, 0, 1.0)
        store(outcome, 1, 1.0)
        odd_requests(floats, ints, o, s, t, count, fanout, pad, work, outcome)
        requests, first = requests * load(outcome, 0), first * load(outcome, 1)
    if t == INPUT:
        requests = requests * load(work.share, s + 1)
    return requests, first


@inlined
def fill_words(floats, ints, o, s, t, count, fanout, residual, any_odd, pad, work):
    """Words slot ``s`` is filled with, all instances together; it becomes its parent's child."""
    again, copies, kept, child = work.again, work.copies, work.kept, work.child
    outcome = work.outcome
    keeps = load(kept, (s, t)) > 0.0
    size = floats[o, work.bounds.shape[1] + SIZE + t]
    if t == INPUT:
        words = window_words(floats, ints, o, s, count, fanout, residual, any_odd, pad, work)
    elif pad:
        words = charged_in_full(MOVES + t, floats, ints, o, s, work)
    else:
        words = spread(size)
    repeats, below = load(again, (s, t)), load(copies, (s, t))
    fills, first = words * repeats * below, size * below
    if any_odd:
        store(outcome, 0, 1.0)
        store(outcome, 1, 1.0)
        odd_fills(floats, ints, o, s, t, count, fanout, work, outcome)
        fills, first = fills * load(outcome, 0), first * load(outcome, 1)
    if t == OUTPUT:
        fills = fills - first
    store(child, (s, CHILD_WORDS, t), where(keeps, words, load(child, (s + 1, CHILD_WORDS, t))))
    store(child, (s, CHILD_AGAIN, t), where(keeps, repeats, load(child, (s + 1, CHILD_AGAIN, t))))
    store(child, (s, CHILD_LINKS, t), where(keeps, 0.0, load(child, (s + 1, CHILD_LINKS, t))))
    if t == INPUT:
        store(work.share, s, where(keeps, 1.0, load(work.share, s + 1)))
    if any_odd:
        store(
            child, (s, CHILD_SLOT, t), where(keeps, float(s), load(child, (s + 1, CHILD_SLOT, t)))
        )
    return fills


@inlined
def charge_slots(
    floats, ints, o, count, fanout, cycles, residual, any_odd, pad, slot_table, engine, e, wanted,
    work,
):  # fmt: skip
    """Inside out: count what every storage does for its operands, and price it.

    Every storage moves whole blocks. The slowest of compute and every storage's read, write and
    shared port sets the latency (perfect overlap). Leakage runs over all hardware for that time.
    """
    used, kept = work.used, work.kept
    child, counted, outcome = work.child, work.counted, work.outcome
    slot_count, dim_count = work.bounds.shape[0], work.bounds.shape[1]
    compute = round_up(cycles * engine[e, MAC_CYCLES])
    worst, bound_slot, overflow = compute, spread(-1.0), spread(0.0)
    energy, network = spread(0.0), spread(0.0)
    start_at_units(floats, ints, o, pad, work)
    for u in range(slot_count):
        s = slot_count - 1 - u
        if fanout[s]:
            cross_fanout(floats, ints, o, s, count, any_odd, pad, slot_table, e, work)
            continue
        instances = load(used, s)
        per_block = 1.0 / (slot_table[e, s, BLOCK] * instances)
        read_bits, write_bits, held = spread(0.0), spread(0.0), spread(0.0)
        blocks_read, blocks_written = spread(0.0), spread(0.0)
        for t in range(3):
            keeps = load(kept, (s, t)) > 0.0
            if not anywhere(keeps):
                pass_child(ints, o, s, t, any_odd, work)
                continue
            reads, first = request_words(
                floats, ints, o, s, t, count, fanout, any_odd, pad, work
            )  # fmt: skip
            flow, updates, fills = reads, spread(0.0), spread(0.0)
            if t == OUTPUT:
                updates = reads
                reads = reads - first
                flow = flow + reads
            network = network + where(keeps, flow * load(child, (s + 1, CHILD_LINKS, t)), 0.0)
            if s > 0:
                fills = fill_words(
                    floats, ints, o, s, t, count, fanout, residual, any_odd, pad, work
                )  # fmt: skip
            reads, fills = where(keeps, reads, 0.0), where(keeps, fills, 0.0)
            updates = where(keeps, updates, 0.0)
            if wanted:
                store(counted, (s, t, READS), reads)
                store(counted, (s, t, FILLS), fills)
                store(counted, (s, t, UPDATES), updates)
            bits = slot_table[e, s, BITS + t]
            held = held + where(keeps, tile_words(t, floats, ints, o, s, work) * bits, 0.0)
            reads, fills, updates = reads * bits, fills * bits, updates * bits
            if s == 0 and t == OUTPUT:
                # The last update of a word writes it in its final precision.
                saving = bits - engine[e, FINAL_BITS]
                updates = updates - saving * floats[o, dim_count + SIZE + OUTPUT]
            blocks_read = blocks_read + blocks_of(reads, per_block)
            blocks_written = blocks_written + blocks_of(fills, per_block)
            blocks_written = blocks_written + blocks_of(updates, per_block)
            read_bits = read_bits + reads
            write_bits = write_bits + (fills + updates)
        overflow = larger(overflow, held / slot_table[e, s, CAPACITY] - 1.0)
        energy = energy + instances * (
            blocks_read * slot_table[e, s, READ_J] + blocks_written * slot_table[e, s, WRITE_J]
        )
        demand = larger(
            read_bits * slot_table[e, s, READ_SLOW], write_bits * slot_table[e, s, WRITE_SLOW]
        )
        demand = larger(demand, (read_bits + write_bits) * slot_table[e, s, SHARED_SLOW])
        demand = demand / instances
        demand = round_up(demand - 1e-12 * demand)
        # Of equally slow slots the outermost is named, and compute before all of them.
        bound_slot = where((demand >= worst) & (demand > compute), float(s), bound_slot)
        worst = larger(worst, demand)
    leak_w = engine[e, MAC_LEAK_W] * engine[e, MAC_COUNT]
    for s in range(slot_count):
        leak_w += slot_table[e, s, LEAK_W] * slot_table[e, s, INSTANCES]
    leak = worst * (leak_w / engine[e, CLOCK_HZ])
    mac_energy = floats[o, dim_count + MACS] * engine[e, MAC_J]
    store(outcome, CYCLES, worst)
    store(outcome, ENERGY_J, energy + network + mac_energy + leak)
    store(outcome, COMPUTE_CYCLES, compute)
    store(outcome, BOUND_SLOT, bound_slot)
    store(outcome, OVERFLOW, overflow)
    store(outcome, MAC_ENERGY_J, mac_energy)
    store(outcome, NETWORK_J, network)
    store(outcome, LEAK_J, leak)


@inlined
def evaluate_lanes(
    floats, ints, o, count, fanout, pad, slot_table, engine, e, wanted, work,
):  # fmt: skip
    """Evaluate the first ``count`` lanes: mappings of problem ``o`` to engine ``e``.

    Args:
        wanted: Whether counts are.
        work: ``bounds``, ``positions`` and ``kept`` say what the mappings are; ``outcome`` and
            ``counted`` are written.
    """
    cycles, residual = lay_tiles(floats, o, count, fanout, work)
    any_odd, loops = False, work.bounds
    if residual:
        store(work.outcome, 0, cycles)
        any_odd = lay_residuals(floats, o, count, fanout, pad, work, work.outcome[0])
        cycles = load(work.outcome, 0)
        loops = work.effective
    repeat_loops(ints, o, fanout, residual, loops, work)
    charge_slots(
        floats, ints, o, count, fanout, cycles, residual, any_odd, pad, slot_table, engine, e,
        wanted, work,
    )  # fmt: skip


@inlined
def evaluate_block(
    floats, ints, o, first, count, factors, order, keep, fanout, pad, slot_table, engine, e,
    work, results, counts,
):  # fmt: skip
    """Evaluate ``count`` <= ``LANES`` rows from ``first`` on: problem ``o`` on engine ``e``."""
    load_rows(first, count, factors, order, keep, fanout, work)
    kept, counted, outcome = work.kept, work.counted, work.outcome
    wanted = counts.shape[0] > first
    evaluate_lanes(
        floats, ints, o, count, fanout, pad, slot_table, engine, e, wanted, work
    )  # fmt: skip
    if count == LANES == RESULTS:
        for lane in range(0, LANES, 4):
            bring(results[first : first + LANES], outcome, 0, lane)
    else:
        for v in range(count):
            for c in range(RESULTS):
                results[first + v, c] = outcome[c, v]
    if wanted:
        for v in range(count):
            for s in range(fanout.shape[0]):
                for t in range(3):
                    stores = kept[s, t, v] > 0.0 and not fanout[s]
                    for c in range(3):
                        counts[first + v, s, t, c] = counted[s, t, c, v] if stores else 0.0


@inner
def evaluate_some(
    begin, end, problem_of, engine_of, floats, ints, factors, order, keep, fanout, pad,
    slot_table, engine, work, results, counts,
):  # fmt: skip
    """Evaluate rows begin..end-1 in blocks; arguments as in :func:`evaluate_rows`.

    Args:
        problem_of, engine_of: int64[N], or of length 1 where the same for all rows.
        work: From :func:`make_work`.
    """
    first, last = begin, problem_of.shape[0] - 1
    last_engine = engine_of.shape[0] - 1
    while first < end:
        o, e = problem_of[min(first, last)], engine_of[min(first, last_engine)]
        count = 1
        while count < LANES and first + count < end:
            i = first + count
            if problem_of[min(i, last)] != o or engine_of[min(i, last_engine)] != e:
                break
            count += 1
        evaluate_block(
            floats, ints, o, first, count, factors, order, keep, fanout, pad, slot_table, engine,
            e, work, results, counts,
        )  # fmt: skip
        first += count


@serial
def evaluate_here(
    problem_of, engine_of, floats, ints, factors, order, keep, fanout, pad,
    slot_table, engine, results, counts,
):  # fmt: skip
    """Evaluate a few rows in the calling thread; arguments as in :func:`evaluate_rows`."""
    work = make_work(factors.shape[1], factors.shape[2])
    evaluate_some(
        0, factors.shape[0], problem_of, engine_of, floats, ints, factors, order, keep, fanout,
        pad, slot_table, engine, work, results, counts,
    )  # fmt: skip


@parallel
def evaluate_rows(
    problem_of, engine_of, floats, ints, factors, order, keep, fanout, pad,
    slot_table, engine, results, counts,
):  # fmt: skip
    """Evaluate many rows; row ``i`` is problem ``problem_of[i]`` on engine ``engine_of[i]``.

    Fastest where neighbouring rows are mappings of one problem to one engine.

    Args:
        problem_of, engine_of: int64[N], or of length 1 where the same for all rows.
        floats, ints: Problem tables, see ``problem.py``.
        factors: float64[N, S, D], whole numbers whose product over slots >= extent; ``order``
            integer[N, S, D], loop order outer to inner (of no meaning in fanouts); ``keep``
            bool[N or 1, S, 3], which operands a slot stores (slot 0: all).
        fanout: bool[S], which slots are spatial.
        pad: Charge residual tiles as full ones (Timeloop's way) instead of exactly.
        slot_table: float64[E, S, SLOT_COLUMNS]; ``engine`` float64[E, ENGINE_COLUMNS].
        results: float64[N, RESULTS], written.
        counts: float64[N, S, 3, 3], written, or of length 0 when not wanted.
    """
    rows = factors.shape[0]
    chunk = 64 * LANES
    for c in prange((rows + chunk - 1) // chunk):
        work = make_work(factors.shape[1], factors.shape[2])
        evaluate_some(
            c * chunk, min(rows, (c + 1) * chunk), problem_of, engine_of, floats, ints, factors,
            order, keep, fanout, pad, slot_table, engine, work, results, counts,
        )  # fmt: skip
