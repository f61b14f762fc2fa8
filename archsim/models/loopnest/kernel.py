"""The hot loop: what one mapping of one loop nest costs, counted exactly, compiled by Numba.

A *nest* is a list of slots, outer to inner. A storage slot holds temporal loops and (for the
tensors kept there) a tile; a fanout slot holds spatial loops. Slot 0 is the memory tier, and the
multiply-accumulate units lie inside the last slot. Every function below works on one mapping; the
batch entry point is a plain parallel loop over rows. The undecorated functions (``.py_func``) run
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

Residuals cost nothing extra: with ``visits[s, d] = ceil(extent / tile)`` the *effective* bound of
a loop is the ratio of the visits inside and outside it, and products of effective bounds telescope
to exact counts. Only a dimension that is both spatial and residual needs the slower
:func:`chain_visits`.
"""

from __future__ import annotations

import numpy as np
from numba import prange

from archsim.models.jit import inlined, inner, parallel, serial

# Columns of the per-slot engine table; *_SLOW are cycles per bit of one instance's ports.
CAPACITY, BLOCK, READ_J, WRITE_J, LEAK_W, READ_SLOW, WRITE_SLOW, SHARED_SLOW, HOP_J, INSTANCES = (
    range(10)
)
BITS = 10  # first of three columns: bits of an input, weight, output (accumulator) word here
SLOT_COLUMNS = 13
# Columns of the per-engine scalars.
MAC_J, MAC_LEAK_W, MAC_CYCLES, CLOCK_HZ, FINAL_BITS, MAC_COUNT = range(6)
ENGINE_COLUMNS = 6
# A problem is one row of floats and one of integers. Floats: D extents, then from column D on the
# sizes and coefficients below, then for each operand D flags, 1.0 where a dimension leaves it in
# place; integers: masks of the dimensions that move each operand, the data operand's sliding ranks.
MACS, SIZE, COEFFICIENT = 0, 1, 4  # offsets after the extents
MASK, SLIDES, SLIDE_DIM = 0, 3, 4
MAX_SLIDES = 3
STILL, PROBLEM_INTS = COEFFICIENT + 2 * MAX_SLIDES, SLIDE_DIM + 2 * MAX_SLIDES
# What a storage sees of one tensor.
READS, FILLS, UPDATES = range(3)
# Results of one row.
CYCLES, ENERGY_J, COMPUTE_CYCLES, BOUND_SLOT, OVERFLOW, MAC_ENERGY_J, NETWORK_J, LEAK_J = range(8)
RESULTS = 8

INPUT, WEIGHT, OUTPUT = range(3)
NONE = -1
# A dimension read from memory is masked, so that the compiler sees it cannot be a negative index.
PLACE_BITS = 5
MAX_DIMS = 1 << PLACE_BITS
DIM_BITS = MAX_DIMS - 1


@inner
def chain_visits(
    extent, d, factors, i, tiles, fanout, child, m_slot, outside_m, parent, below, above
):
    """Count tile visits along one dimension that is both spatial and residual.

    Temporal loops outside the moving loop are counted, those inside it collapse to their largest
    iteration; spatial loops are counted or collapsed by side of the parent.

    Args:
        extent: True extent of the dimension ``d``.
        factors, i, tiles, fanout: As in :func:`count_words`.
        child: The slot whose tile is visited; only loops outside it matter.
        m_slot: Slot of the moving loop (-1: none, everything temporal collapses).
        outside_m: Whether this dimension's loop in ``m_slot`` lies outside (or is) the moving loop.
        parent: Slot of the parent storage.
        below: Count spatial loops inside the parent (fills) or collapse them (reads).
        above: Count spatial loops outside the parent.

    Returns:
        Visits, as a float.
    """
    product = 1.0
    for s in range(child):
        if fanout[s]:
            counted = below if s > parent else above
        else:
            counted = s < m_slot or (s == m_slot and outside_m)
        if counted:
            product *= factors[i, s, d]
    left, total = extent, 1.0
    for s in range(child):
        if factors[i, s, d] == 1:
            continue
        if fanout[s]:
            counted = below if s > parent else above
        else:
            counted = s < m_slot or (s == m_slot and outside_m)
        tile = tiles[s + 1, d]
        if counted:
            product /= factors[i, s, d]
            full = np.ceil(left / tile) - 1.0
            total += full * product
            left -= full * tile
        else:
            left = min(left, tile)
    return total


@inner
def chain_runs(extent, d, factors, i, tiles, child, m_slot):
    """How often the moving loop of a spatial, residual dimension starts over: all loops but it."""
    product = 1.0
    for s in range(child):
        product *= factors[i, s, d] if s != m_slot else 1
    left, total = extent, 1.0
    for s in range(child):
        if factors[i, s, d] == 1:
            continue
        tile = tiles[s + 1, d]
        if s == m_slot:
            left = min(left, tile)
        else:
            product /= factors[i, s, d]
            full = np.ceil(left / tile) - 1.0
            total += full * product
            left -= full * tile
    return total


@inner
def odd_repeats(mask, odd, extents, o, factors, order, i, tiles, fanout, child, parent):
    """Exact repeats of the dimensions in ``odd`` that do not move a tensor.

    Returns:
        Visits for fills, for reads of the parent, and instances outside the parent and the child.
    """
    slot_count, dim_count = factors.shape[1], factors.shape[2]
    fills, reads, above, below = 1.0, 1.0, 1.0, 1.0
    # The moving loop: the innermost relevant temporal loop outside the child.
    at, place = NONE, 0
    if child == slot_count:
        at = slot_count
    else:
        for s in range(child):
            for j in range(dim_count):
                d = order[i, s, j]
                if not fanout[s] and (mask >> d) & 1 and factors[i, s, d] > 1:
                    at, place = s, j
    for d in range(dim_count):
        if (mask >> d) & 1 or not (odd >> d) & 1:
            continue
        before = at == slot_count
        if 0 <= at < slot_count:
            for j in range(place):
                before |= order[i, at, j] == d
        e = extents[o, d]
        fills *= chain_visits(
            e, d, factors, i, tiles, fanout, child, at, before, parent, True, True
        )
        reads *= chain_visits(
            e, d, factors, i, tiles, fanout, child, at, before, parent, False, True
        )
        above *= chain_visits(
            e, d, factors, i, tiles, fanout, child, -1, False, parent, False, True
        )
        below *= chain_visits(e, d, factors, i, tiles, fanout, child, -1, False, parent, True, True)
    return fills, reads, above, below


@inner
def distinct_share(p, a, r, b, parent, child, factors, i, fanout, tiles):
    """Fraction of a sliding rank's windows that differ across the branches of each fanout.

    Exact for full windows; where a residual truncates a window in a fanout that unrolls both
    dimensions, the fraction of full windows is used.
    """
    share = 1.0
    for s in range(parent + 1, child):
        if fanout[s] and factors[i, s, p] > 1 and factors[i, s, r] > 1:
            m, n = float(factors[i, s, p]), float(factors[i, s, r])
            step_p, step_r = a * tiles[s + 1, p], b * tiles[s + 1, r]
            x, y = step_p, step_r
            while y > 0.5:
                x, y = y, x % y
            same = max(0.0, m - step_r / x) * max(0.0, n - step_p / x)
            share *= (m * n - same) / (m * n)
    return share


@inner
def charged_in_full(mask, o, floats, ints, tiles, visits, child, data):
    """Words of a tensor's plain ranks over all tiles when residual tiles are charged in full."""
    words = 1.0
    for d in range(tiles.shape[1]):
        if (mask >> d) & 1:
            words *= visits[child, d] * min(tiles[child, d], floats[o, d])
    if data:
        for k in range(2 * ints[o, SLIDES]):
            d = ints[o, SLIDE_DIM + k]
            if d >= 0:
                words /= visits[child, d] * min(tiles[child, d], floats[o, d])
    return words


@inlined
def count_words(
    floats, ints, o, factors, order, keep, i, q, fanout, pad,
    tiles, visits, again, copies, moving, counts,
):  # fmt: skip
    """Count reads, fills and updates of every tensor at every slot, in words over all instances.

    One long function on purpose: splitting it at its natural seams (unrolling, one edge, one
    sliding rank) made it four times slower, because Numba counts references at every seam.

    Args:
        floats, ints, o: Problem tables (see ``problem.py``) and the row of this problem.
        factors: float64[N, S, D], whole numbers whose product over slots >= extent; ``order``
            integer[N, S, D], loop order outer to inner (of no meaning in fanouts); ``keep``
            bool[N, S, 3], which operands a slot stores (slot 0: all); ``i`` the row of this
            mapping in ``factors`` and ``order``, ``q`` its row in ``keep``.
        fanout: bool[S], which slots are spatial.
        pad: Charge residual tiles as full ones (Timeloop's way) instead of exactly.
        tiles, visits, again, copies, moving: Work space from :func:`make_scratch`. Left behind:
            ``tiles[s]``, the padded extents inside and at slot ``s`` (row S: one point), and
            ``visits[s]``, how often such a tile is visited.
        counts: float64[S, 3, 3]; entries of kept tensors are written, the others left alone.

    Returns:
        Compute cycles (temporal steps).
    """
    slot_count, dim_count = factors.shape[1], factors.shape[2]
    # Tile extents and visits; the dimensions that overshoot and those that fan out.
    wide, odd, cycles = 0, 0, 1.0
    for d in range(dim_count):
        tiles[slot_count, d] = 1.0
        visits[slot_count, d] = floats[o, d]
    for u in range(slot_count):
        s = slot_count - 1 - u
        if fanout[s]:
            for d in range(dim_count):
                tiles[s, d] = tiles[s + 1, d] * factors[i, s, d]
                wide |= (factors[i, s, d] > 1.0) << d
        else:
            for d in range(dim_count):
                tiles[s, d] = tiles[s + 1, d] * factors[i, s, d]
                cycles *= factors[i, s, d]
    for d in range(dim_count):
        odd |= (tiles[0, d] != floats[o, d]) << d
        visits[0, d] = 1.0
    for s in range(1, slot_count):
        for d in range(dim_count):
            visits[s, d] = visits[s - 1, d] * factors[i, s - 1, d]
    if odd != 0:
        for s in range(slot_count):
            for d in range(dim_count):
                visits[s, d] = np.ceil(floats[o, d] / tiles[s, d])
    if odd != 0 and not pad:
        cycles = 1.0
        for d in range(dim_count):
            cycles *= chain_visits(
                floats[o, d], d, factors, i, tiles, fanout, slot_count, slot_count, True,
                NONE, False, False,
            )  # fmt: skip
    residual = odd != 0
    odd &= wide
    # Outer to inner, for all three operands at once: products of irrelevant bounds, of all loops
    # so far (every) and of those outside the moving loop (again), and of fanouts (copies).
    # Written without branches: still[t, d] is 1.0 where dimension d leaves operand t in place. The
    # moving loop is noted as its place + 1.
    still_0 = dim_count + STILL
    still_1, still_2 = still_0 + dim_count, still_0 + 2 * dim_count
    every_0, every_1, every_2 = 1.0, 1.0, 1.0
    again_0, again_1, again_2 = 1.0, 1.0, 1.0
    copies_0, copies_1, copies_2 = 1.0, 1.0, 1.0
    mover = 0
    for s in range(slot_count):
        again[s, 0], again[s, 1], again[s, 2] = again_0, again_1, again_2
        copies[s, 0], copies[s, 1], copies[s, 2] = copies_0, copies_1, copies_2
        moving[s] = mover
        if fanout[s]:
            for d in range(dim_count):
                more = factors[i, s, d] - 1.0
                if residual:
                    more = more if pad else visits[s + 1, d] / visits[s, d] - 1.0
                    more = 0.0 if (odd >> d) & 1 else more
                copies_0 *= 1.0 + more * floats[o, still_0 + d]
                copies_1 *= 1.0 + more * floats[o, still_1 + d]
                copies_2 *= 1.0 + more * floats[o, still_2 + d]
            continue
        for j in range(dim_count):
            d = order[i, s, j] & DIM_BITS
            factor = factors[i, s, d]
            steps = 1.0 if factor > 1.0 else 0.0
            more = factor - 1.0
            if residual:
                more = more if pad else visits[s + 1, d] / visits[s, d] - 1.0
                more = 0.0 if (odd >> d) & 1 else more
            rests_0, rests_1 = floats[o, still_0 + d], floats[o, still_1 + d]
            rests_2 = floats[o, still_2 + d]
            every_0 *= 1.0 + more * rests_0
            every_1 *= 1.0 + more * rests_1
            every_2 *= 1.0 + more * rests_2
            here = steps - steps * rests_0
            again_0 = again_0 * (1.0 - here) + every_0 * here
            here = steps - steps * rests_1
            again_1 = again_1 * (1.0 - here) + every_1 * here
            here = steps - steps * rests_2
            again_2 = again_2 * (1.0 - here) + every_2 * here
            moves = (ints[o, MASK] >> d) & (factor > 1.0)
            mover = max(mover, ((s << PLACE_BITS | j) + 1) * moves)
    again[slot_count, 0], again[slot_count, 1], again[slot_count, 2] = every_0, every_1, every_2
    copies[slot_count, 0], copies[slot_count, 1], copies[slot_count, 2] = (
        copies_0,
        copies_1,
        copies_2,
    )
    slides = ints[o, SLIDES]
    for t in range(3):
        mask = ints[o, MASK + t]
        size = floats[o, dim_count + SIZE + t]
        parent = NONE
        for s in range(slot_count + 1):
            at_macs = s == slot_count
            if at_macs or keep[q, s, t]:
                if parent >= 0:
                    above, below, base = copies[parent, t], copies[s, t], again[s, t]
                    words, share, whole, instances = size, 1.0, size * above, size * below
                    fills, reads = base * below, base * above
                    if pad:
                        if at_macs:  # the units compute what there is, no more
                            base = 1.0
                            for d in range(dim_count):
                                base *= 1.0 if (mask >> d) & 1 else floats[o, d]
                            fills, reads = base, base * above / below
                        else:
                            words = charged_in_full(mask, o, floats, ints, tiles, visits, s, t == 0)
                    if odd != 0:
                        f, r, x, y = odd_repeats(
                            mask, odd, floats, o, factors, order, i, tiles, fanout, s, parent
                        )  # fmt: skip
                        whole, instances = whole * x, instances * y
                        if not (pad and at_macs):
                            fills, reads = fills * f, reads * r
                    if t == INPUT:
                        m_slot, m_dim = NONE, NONE
                        if not at_macs and moving[s] > 0:
                            m_slot = (moving[s] - 1) >> PLACE_BITS
                            m_dim = order[i, m_slot, (moving[s] - 1) & DIM_BITS] & DIM_BITS
                        for k in range(slides):
                            p = ints[o, SLIDE_DIM + 2 * k] & DIM_BITS
                            r = ints[o, SLIDE_DIM + 2 * k + 1]
                            a = floats[o, dim_count + COEFFICIENT + 2 * k]
                            extent_p, visits_p = floats[o, p], visits[s, p]
                            tile_p = tiles[s, p] if tiles[s, p] < extent_p else extent_p
                            extent_p = visits_p * tile_p if (pad and not at_macs) else extent_p
                            total = a * (extent_p - visits_p) + visits_p
                            if r >= 0:
                                b = floats[o, dim_count + COEFFICIENT + 2 * k + 1]
                                extent_r, visits_r = floats[o, r], visits[s, r]
                                tile_r = tiles[s, r] if tiles[s, r] < extent_r else extent_r
                                extent_r = visits_r * tile_r if (pad and not at_macs) else extent_r
                                total = total * visits_r + b * (extent_r - visits_r) * visits_p
                                if (wide >> p) & (wide >> r) & 1:
                                    share *= distinct_share(
                                        p, a, r, b, parent, s, factors, i, fanout, tiles
                                    )
                                if m_dim >= 0 and m_dim in (p, r):
                                    # Words that stay as the window slides along the moving loop:
                                    # on every step of it but the first of each run.
                                    runs = visits[m_slot, m_dim]
                                    if (odd >> m_dim) & 1:
                                        runs = chain_runs(
                                            floats[o, m_dim], m_dim, factors, i, tiles, s, m_slot
                                        )
                                    elif (wide >> m_dim) & 1:
                                        runs = visits[s, m_dim] / factors[i, m_slot, m_dim]
                                    along_p = m_dim == p
                                    step, cross = (a, b) if along_p else (b, a)
                                    window = tile_p if along_p else tile_r
                                    other = tile_r if along_p else tile_p
                                    lines = visits_r if along_p else visits_p
                                    extent = extent_r if along_p else extent_p
                                    moves = (visits_p if along_p else visits_r) - runs
                                    shift = step * (window - 1.0 - tiles[m_slot + 1, m_dim]) + 1.0
                                    last = extent - (lines - 1.0) * other
                                    stay = shift + cross * (other - 1.0)
                                    kept = (lines - 1.0) * (stay if stay > 0.0 else 0.0)
                                    stay = shift + cross * (last - 1.0)
                                    kept += stay if stay > 0.0 else 0.0
                                    total -= kept * moves
                            words *= total
                    if t == OUTPUT:
                        counts[parent, t, UPDATES] = words * reads
                        counts[parent, t, READS] = words * reads - whole
                    else:
                        counts[parent, t, READS] = words * reads * share
                        counts[parent, t, UPDATES] = 0.0
                    if not at_macs:
                        counts[s, t, FILLS] = words * fills - (instances if t == OUTPUT else 0.0)
                else:
                    counts[0, t, FILLS] = 0.0
                parent = s
    return cycles


@inlined
def blocks_of(bits, per_block):
    """Block accesses that carry so many bits (tolerant of rounding in the ratio)."""
    blocks = bits * per_block
    return np.ceil(blocks - 1e-12 * blocks)


@inlined
def price(
    floats, ints, o, cycles, factors, keep, i, q, fanout, slot_table, engine, e,
    tiles, visits, counts, result, w,
):  # fmt: skip
    """Turn counts into cycles and energy, and check capacities; see ``RESULTS`` for the columns.

    Every storage moves whole blocks. The slowest of compute and every storage's read, write and
    shared port sets the latency (perfect overlap). Leakage runs over all hardware for that time.

    Words that cross a fanout pay for its links: delivered to ``g`` of ``n`` units in use along one
    axis, a word crosses ``(n + g) / 2`` of them (the mean distance for one receiver, the whole
    axis for a broadcast); partial sums pay the same way up.
    """
    slot_count, dim_count = factors.shape[1], factors.shape[2]
    compute = np.ceil(cycles * engine[e, MAC_CYCLES])
    worst, bound_slot, overflow, energy = compute, -1.0, 0.0, 0.0
    still = dim_count + STILL
    slides = ints[o, SLIDES]
    leak_w = engine[e, MAC_LEAK_W] * engine[e, MAC_COUNT]
    network = 0.0
    # Words between the last storage passed and the next, with the copies fanouts made of them.
    flow_0, flow_1, flow_2 = 0.0, 0.0, 0.0
    used = 1.0  # utilised instances of a slot
    final_saving = slot_table[e, 0, BITS + OUTPUT] - engine[e, FINAL_BITS]
    final_saving *= floats[o, dim_count + SIZE + OUTPUT]
    for s in range(slot_count):
        leak_w += slot_table[e, s, LEAK_W] * slot_table[e, s, INSTANCES]
        if fanout[s]:
            here, copies_0, copies_1, copies_2 = 1.0, 1.0, 1.0, 1.0
            for d in range(dim_count):
                factor = factors[i, s, d]
                here *= factor
                copies_0 *= 1.0 + (factor - 1.0) * floats[o, still + d]
                copies_1 *= 1.0 + (factor - 1.0) * floats[o, still + dim_count + d]
                copies_2 *= 1.0 + (factor - 1.0) * floats[o, still + 2 * dim_count + d]
                used *= factor if factor < visits[s + 1, d] else visits[s + 1, d]
            crossing = (here + copies_0) * flow_0 * slot_table[e, s, BITS]
            crossing += (here + copies_1) * flow_1 * slot_table[e, s, BITS + 1]
            crossing += (here + copies_2) * flow_2 * slot_table[e, s, BITS + 2]
            network += crossing * slot_table[e, s, HOP_J] * (0.5 if here > 1.0 else 0.0)
            flow_0, flow_1, flow_2 = flow_0 * copies_0, flow_1 * copies_1, flow_2 * copies_2
            continue
        read_bits, write_bits, held, blocks_read, blocks_written = 0.0, 0.0, 0.0, 0.0, 0.0
        per_block = 1.0 / (slot_table[e, s, BLOCK] * used)
        words_0, words_1, words_2 = 1.0, 1.0, 1.0
        for d in range(dim_count):
            tile = tiles[s, d] if tiles[s, d] < floats[o, d] else floats[o, d]
            words_0 *= tile + (1.0 - tile) * floats[o, still + d]
            words_1 *= tile + (1.0 - tile) * floats[o, still + dim_count + d]
            words_2 *= tile + (1.0 - tile) * floats[o, still + 2 * dim_count + d]
        for t in range(3):
            if not keep[q, s, t]:
                continue
            bits = slot_table[e, s, BITS + t]
            reads = counts[s, t, READS] * bits
            writes = counts[s, t, FILLS] * bits
            blocks_read += blocks_of(reads, per_block)
            blocks_written += blocks_of(writes, per_block)
            words = words_0
            if t == WEIGHT:
                words, flow_1 = words_1, counts[s, t, READS]
            elif t == OUTPUT:
                words, flow_2 = words_2, counts[s, t, READS] + counts[s, t, UPDATES]
                updates = counts[s, t, UPDATES] * bits
                updates -= final_saving if s == 0 else 0.0
                blocks_written += blocks_of(updates, per_block)
                writes += updates
            else:
                flow_0 = counts[s, t, READS]
                for k in range(slides):
                    p, r = ints[o, SLIDE_DIM + 2 * k] & DIM_BITS, ints[o, SLIDE_DIM + 2 * k + 1]
                    area = tiles[s, p] if tiles[s, p] < floats[o, p] else floats[o, p]
                    span = floats[o, dim_count + COEFFICIENT + 2 * k] * (area - 1.0) + 1.0
                    if r >= 0:
                        tile = tiles[s, r] if tiles[s, r] < floats[o, r] else floats[o, r]
                        span += floats[o, dim_count + COEFFICIENT + 2 * k + 1] * (tile - 1.0)
                        area *= tile
                    words *= span / area
            read_bits += reads
            write_bits += writes
            held += bits * words
        overflow = max(overflow, held / slot_table[e, s, CAPACITY] - 1.0)
        energy += used * (
            blocks_read * slot_table[e, s, READ_J] + blocks_written * slot_table[e, s, WRITE_J]
        )
        demand = max(
            read_bits * slot_table[e, s, READ_SLOW], write_bits * slot_table[e, s, WRITE_SLOW]
        )
        demand = max(demand, (read_bits + write_bits) * slot_table[e, s, SHARED_SLOW]) / used
        demand = np.ceil(demand - 1e-12 * demand)
        bound_slot = float(s) if demand > worst else bound_slot
        worst = max(worst, demand)
    leak = leak_w * worst / engine[e, CLOCK_HZ]
    mac_energy = floats[o, dim_count + MACS] * engine[e, MAC_J]
    result[w, CYCLES] = worst
    result[w, ENERGY_J] = energy + network + mac_energy + leak
    result[w, COMPUTE_CYCLES] = compute
    result[w, BOUND_SLOT] = bound_slot
    result[w, OVERFLOW] = overflow
    result[w, MAC_ENERGY_J] = mac_energy
    result[w, NETWORK_J] = network
    result[w, LEAK_J] = leak


@inlined
def evaluate_row(
    floats, ints, o, factors, order, keep, i, q, fanout, pad, slot_table, engine, e,
    tiles, visits, again, copies, moving, counts, result, w,
):  # fmt: skip
    """Evaluate mapping ``i`` of problem ``o`` on engine ``e`` into row ``w`` of ``result``."""
    cycles = count_words(
        floats, ints, o, factors, order, keep, i, q, fanout, pad,
        tiles, visits, again, copies, moving, counts,
    )  # fmt: skip
    price(
        floats, ints, o, cycles, factors, keep, i, q, fanout, slot_table, engine, e,
        tiles, visits, counts, result, w,
    )  # fmt: skip


@serial
def make_scratch(slot_count, dim_count):
    """Work space of one thread: tiles, visits, again, copies, moving, counts (zero)."""
    return (
        np.empty((slot_count + 1, dim_count)),
        np.empty((slot_count + 1, dim_count)),
        np.empty((slot_count + 1, 3)),
        np.empty((slot_count + 1, 3)),
        np.empty(slot_count, np.int64),
        np.zeros((slot_count, 3, 3)),
    )


@inner
def evaluate_some(
    first, last, problem_of, engine_of, floats, ints, factors, order, keep, fanout, pad,
    slot_table, engine, tiles, visits, again, copies, moving, own, results, counts,
):  # fmt: skip
    """Evaluate rows first..last-1; arguments as in :func:`evaluate_rows` and its work space."""
    wanted = counts.shape[0] == problem_of.shape[0]
    for i in range(first, last):
        evaluate_row(
            floats, ints, problem_of[i], factors, order, keep, i, i, fanout, pad,
            slot_table, engine, engine_of[i],
            tiles, visits, again, copies, moving, own, results, i,
        )  # fmt: skip
        if wanted:
            for s in range(own.shape[0]):
                for t in range(3):
                    for c in range(3):
                        counts[i, s, t, c] = own[s, t, c] if keep[i, s, t] else 0.0


@parallel
def evaluate_rows(
    problem_of, engine_of, floats, ints, factors, order, keep, fanout, pad,
    slot_table, engine, results, counts,
):  # fmt: skip
    """Evaluate many rows; row ``i`` is problem ``problem_of[i]`` on engine ``engine_of[i]``.

    Args:
        problem_of, engine_of: int64[N].
        floats, ints: Problem tables, see ``problem.py``.
        factors: float64[N, S, D]; ``order`` integer[N, S, D]; ``keep`` bool[N, S, 3]; ``fanout``
            bool[S].
        pad: See :func:`count_words`.
        slot_table: float64[E, S, SLOT_COLUMNS]; ``engine`` float64[E, ENGINE_COLUMNS].
        results: float64[N, RESULTS], written.
        counts: float64[N, S, 3, 3], written, or of length 0 when not wanted.
    """
    rows = problem_of.shape[0]
    chunk = 512
    for c in prange((rows + chunk - 1) // chunk):
        tiles, visits, again, copies, moving, own = make_scratch(factors.shape[1], factors.shape[2])
        evaluate_some(
            c * chunk, min(rows, (c + 1) * chunk), problem_of, engine_of, floats, ints, factors,
            order, keep, fanout, pad, slot_table, engine, tiles, visits, again, copies, moving,
            own, results, counts,
        )  # fmt: skip
