"""The hot loop: what one mapping of one loop nest costs, counted exactly, compiled by Numba.

A *nest* is a list of slots, outer to inner. A storage slot holds temporal loops and (for the
tensors kept there) a tile; a fanout slot holds spatial loops. Slot 0 is the memory tier, and the
multiply-accumulate units lie inside the last slot. Every function below works on one mapping; the
batch entry points are plain loops over rows. The undecorated functions (``.py_func``) run too.

Counting rules (the policy the oracle in ``oracle.py`` walks word by word):

* A tile changes only when a relevant temporal loop outside its storage advances; loops inside the
  innermost such loop leave it stationary.
* When that innermost moving loop slides a window, only the words new to the window are fetched;
  a step of any other loop fetches the tile whole.
* Instances of a fanout that need the same words at the same step share one read of the parent
  (multicast); partial sums of one output word are added on the way up (spatial reduction).
* Multiply-accumulate units latch nothing.
* Partial sums: the first touch of an output word by a storage needs no read.
* Residual tiles (factors whose product exceeds the extent) are counted at their true size.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit, prange

# Columns of the per-slot engine table.
CAPACITY, BLOCK, READ_J, WRITE_J, LEAK_W, READ_BW, WRITE_BW, SHARED_BW, HOP_J, INSTANCES = range(10)
BITS = 10  # first of three columns: bits of an input, weight, output (accumulator) word here
SLOT_COLUMNS = 13
# Columns of the per-engine scalars.
MAC_J, MAC_LEAK_W, MAC_CYCLES, CLOCK_HZ, FINAL_BITS, MAC_COUNT = range(6)
ENGINE_COLUMNS = 6
# Columns of a problem's rank table: dimension, coefficient, second dimension (-1: none), second.
RANK_D0, RANK_C0, RANK_D1, RANK_C1 = range(4)
MAX_RANKS = 6
# What a storage sees of one tensor.
READS, FILLS, UPDATES = range(3)
# Results of one row.
CYCLES, ENERGY_J, COMPUTE_CYCLES, BOUND_SLOT, OVERFLOW, MAC_ENERGY_J, NETWORK_J, LEAK_J = range(8)
RESULTS = 8

INPUT, WEIGHT, OUTPUT = range(3)


@njit(cache=True, fastmath=False, error_model="numpy")
def visits(dim, extent, padded, loops, first, moving, parent, inner_spatial, outer_spatial):
    """Count tile visits along one dimension whose factors overshoot its extent.

    Args:
        dim: The dimension.
        extent: Its true extent.
        padded: Product of all its factors (>= extent).
        loops: ``(count, dims, bounds, slots, spatial)``, inner to outer, bounds > 1.
        first: Index of the first loop outside the tile.
        moving: Temporal loops from this index outward are counted, those inside it collapse.
        parent: Slot of the parent storage.
        inner_spatial: Count spatial loops inside the parent (fills) or collapse them (reads).
        outer_spatial: Count spatial loops outside the parent, or collapse them (cycles).

    Returns:
        Sum over counted loops, maximum over collapsed ones, of the visits that really happen.
    """
    count, dims, bounds, slots, spatial = loops
    product = 1.0
    for i in range(first, count):
        if dims[i] == dim:
            if spatial[i]:
                counted = inner_spatial if slots[i] > parent else outer_spatial
            else:
                counted = i >= moving
            if counted:
                product *= bounds[i]
    tile = padded
    left = extent
    total = 1.0
    for i in range(count - 1, first - 1, -1):
        if dims[i] != dim:
            continue
        tile /= bounds[i]
        if spatial[i]:
            counted = inner_spatial if slots[i] > parent else outer_spatial
        else:
            counted = i >= moving
        if counted:
            product /= bounds[i]
            full = math.ceil(left / tile) - 1.0
            total += full * product
            left -= full * tile
        else:
            left = min(left, tile)
    return total


@njit(cache=True, fastmath=False, error_model="numpy")
def expand(extents, factors, order, spatial_slot, tiles, dims, bounds, slots, spatial, starts):
    """Unroll factors into the list of real loops (bound > 1), inner to outer, and tile extents.

    ``tiles[s, d]`` is the padded extent of dimension ``d`` inside and at slot ``s``; row ``S`` is
    a single point. ``starts[s]`` is the index of the first loop outside slot ``s``'s own loops.

    Returns:
        Number of loops, and 1.0 if the factors cover every extent with nothing to spare.
    """
    slot_count, dim_count = factors.shape
    for d in range(dim_count):
        tiles[slot_count, d] = 1.0
    starts[slot_count] = 0
    count = 0
    for s in range(slot_count - 1, -1, -1):
        for k in range(dim_count - 1, -1, -1):
            d = order[s, k]
            factor = factors[s, d]
            dims[count] = d
            bounds[count] = factor
            slots[count] = s
            spatial[count] = spatial_slot[s]
            tiles[s, d] = tiles[s + 1, d] * factor
            count += 1 if factor > 1 else 0
        starts[s] = count
    perfect = True
    for d in range(dim_count):
        perfect &= tiles[0, d] == extents[d]
    return count, perfect


@njit(cache=True, fastmath=False, error_model="numpy")
def rank_words(rank, rank_coefficient, extents, n):
    """Words of one rank summed over all tiles: ``n[d]`` tiles a dimension, residuals exact."""
    p = rank[0]
    total_p, tiles_p = extents[p], n[p]
    words = rank_coefficient[0] * (total_p - tiles_p) + tiles_p
    r = rank[1]
    if r >= 0:
        total_r, tiles_r = extents[r], n[r]
        words = words * tiles_r + rank_coefficient[1] * (total_r - tiles_r) * tiles_p
    return words


@njit(cache=True, fastmath=False, error_model="numpy")
def tile_words(tensor, slot, rank_count, rank_dims, rank_coefficients, extents, tiles):
    """Size in words of a tensor's tile at a slot (bounding box of its projection)."""
    words = 1.0
    for k in range(rank_count[tensor]):
        p = rank_dims[tensor, k, 0]
        r = rank_dims[tensor, k, 1]
        span = rank_coefficients[tensor, k, 0] * (min(tiles[slot, p], extents[p]) - 1.0) + 1.0
        if r >= 0:
            span += rank_coefficients[tensor, k, 1] * (min(tiles[slot, r], extents[r]) - 1.0)
        words *= span
    return words


@njit(cache=True, fastmath=False, error_model="numpy")
def halo_saved(rank, coefficient, moved, bound_index, child, loops, starts, extents, tiles, n):
    """Words of one sliding rank that stay in the child as the moving loop advances.

    Returns:
        Sum, over all steps of the moving loop but the first of each run, of the overlap between
        a window and the next one.
    """
    count, dims, bounds, slots, spatial = loops
    other, stride, step = rank[1], coefficient[0], coefficient[1]
    if moved == other:
        other, stride, step = rank[0], coefficient[1], coefficient[0]
    inner = tiles[slots[bound_index] + 1, moved]
    window = min(tiles[child, moved], extents[moved])
    shift = stride * (window - 1.0) + 1.0 - stride * inner
    tile = min(tiles[child, other], extents[other])
    last = extents[other] - (n[other] - 1.0) * tile
    kept = (n[other] - 1.0) * max(0.0, shift + step * (tile - 1.0))
    kept += max(0.0, shift + step * (last - 1.0))
    if kept == 0.0:
        return 0.0
    if tiles[0, moved] == extents[moved]:
        runs = n[moved] / bounds[bound_index]
    else:
        # Every loop of the dimension counts but the moving one, which starts a run.
        left, padded, product, runs = extents[moved], tiles[0, moved], 1.0, 1.0
        for i in range(starts[child], count):
            if dims[i] == moved and i != bound_index:
                product *= bounds[i]
        for i in range(count - 1, starts[child] - 1, -1):
            if dims[i] != moved:
                continue
            padded /= bounds[i]
            if i == bound_index:
                left = min(left, padded)
            else:
                product /= bounds[i]
                full = math.ceil(left / padded) - 1.0
                runs += full * product
                left -= full * padded
    return kept * (n[moved] - runs)


@njit(cache=True, fastmath=False, error_model="numpy")
def shared_windows(rank, coefficient, parent, child, factors, spatial_slot, tiles):
    """Fraction of the windows of a sliding rank that are distinct across the fanouts between."""
    p, r = rank[0], rank[1]
    share = 1.0
    for s in range(parent + 1, child):
        if not spatial_slot[s]:
            continue
        a, b = float(factors[s, p]), float(factors[s, r])
        if a > 1.0 and b > 1.0:
            step_p = coefficient[0] * tiles[s + 1, p]
            step_r = coefficient[1] * tiles[s + 1, r]
            x, y = step_p, step_r
            while y > 0.5:
                x, y = y, x % y
            same = max(0.0, a - step_r / x) * max(0.0, b - step_p / x)
            share *= (a * b - same) / (a * b)
    return share


@njit(cache=True, fastmath=False, error_model="numpy")
def edge_words(
    t, parent, child, relevant, rank_count, rank_dims, rank_coefficients,
    extents, factors, spatial_slot, loops, starts, tiles, n, span_of, perfect, pad, counts,
):  # fmt: skip
    """Traffic of one tensor between a storage and the next one inward (or the MACs).

    Adds the parent's reads (or updates and reads) and the child's fills to ``counts``.
    """
    count, dims, bounds, slots, spatial = loops
    dim_count = extents.shape[0]
    first = starts[child]
    at_macs = child == factors.shape[0]
    # Irrelevant loops: outside the innermost moving loop they repeat the traffic.
    repeat, inside, outside = 1.0, 1.0, 1.0
    moving = first if at_macs else count
    for i in range(first, count):
        bound = bounds[i]
        is_relevant = relevant[t, dims[i]]
        if spatial[i]:
            inner = slots[i] > parent
            inside *= bound if (not is_relevant and inner) else 1.0
            outside *= bound if (not is_relevant and not inner) else 1.0
        else:
            moving = i if (is_relevant and moving == count) else moving
            repeat *= bound if (not is_relevant and moving != count) else 1.0
    fill_repeat = repeat * inside * outside
    read_repeat = repeat * outside
    copies_outside, copies_inside = outside, inside * outside
    charge_full = pad and not at_macs
    if not perfect and not charge_full:
        fill_repeat, read_repeat, copies_outside, copies_inside = 1.0, 1.0, 1.0, 1.0
        for d in range(dim_count):
            if relevant[t, d]:
                continue
            e, q = extents[d], tiles[0, d]
            fill_repeat *= visits(d, e, q, loops, first, moving, parent, True, True)
            read_repeat *= visits(d, e, q, loops, first, moving, parent, False, True)
            copies_outside *= visits(d, e, q, loops, first, count, parent, False, True)
            copies_inside *= visits(d, e, q, loops, first, count, parent, True, True)
    for d in range(dim_count):
        tile = min(tiles[child, d], extents[d])
        n[d] = math.ceil(extents[d] / tile)
        span_of[d] = n[d] * tile if charge_full else extents[d]
    words, saved_rank, saved, share = 1.0, -1, 0.0, 1.0
    for k in range(rank_count[t]):
        rank = rank_dims[t, k]
        sliding = rank[1] >= 0
        if sliding:
            share *= shared_windows(
                rank, rank_coefficients[t, k], parent, child, factors, spatial_slot, tiles
            )
            if not at_macs and moving < count:
                moved = dims[moving]
                if moved == rank[0] or moved == rank[1]:
                    saved_rank = k
                    saved = halo_saved(
                        rank, rank_coefficients[t, k], moved, moving, child,
                        loops, starts, span_of, tiles, n,
                    )  # fmt: skip
        span = rank_words(rank, rank_coefficients[t, k], span_of, n)
        if sliding and saved_rank == k:
            span -= saved
        words *= span
    if t == OUTPUT:
        size = 1.0
        for d in range(dim_count):
            size *= extents[d] if relevant[t, d] else 1.0
        updates = words * read_repeat
        counts[parent, t, UPDATES] = updates
        counts[parent, t, READS] = updates - size * copies_outside
        if not at_macs:
            counts[child, t, FILLS] = words * fill_repeat - size * copies_inside
    else:
        counts[parent, t, READS] = words * read_repeat * share
        if not at_macs:
            counts[child, t, FILLS] = words * fill_repeat


@njit(cache=True, fastmath=False, error_model="numpy")
def count_words(
    extents, rank_count, rank_dims, rank_coefficients, relevant,
    factors, order, keep, spatial_slot, pad, scratch, counts,
):  # fmt: skip
    """Count reads, fills and updates of every tensor at every slot, in words over all instances.

    Args:
        extents: float64[D].
        rank_count: int64[3] ranks an operand; ``rank_dims`` int64[3, R, 2] and
            ``rank_coefficients`` float64[3, R, 2] their dimensions (-1: none) and coefficients.
        relevant: bool[3, D].
        factors: float64[S, D], product over slots >= extent.
        order: int64[S, D], loop order outer to inner (ignored in fanout slots).
        keep: bool[S, 3], which operands each slot stores; slot 0 keeps all.
        spatial_slot: bool[S].
        pad: Charge residual tiles as full ones (Timeloop's way) instead of exactly.
        scratch: From :func:`make_scratch`.
        counts: float64[S, 3, 3], written.

    Returns:
        Compute cycles (temporal steps).
    """
    tiles, dims, bounds, slots, spatial, starts, n, span_of = scratch
    slot_count, dim_count = factors.shape
    count, perfect = expand(
        extents, factors, order, spatial_slot, tiles, dims, bounds, slots, spatial, starts
    )
    loops = (count, dims, bounds, slots, spatial)
    counts[:, :, :] = 0.0
    for t in range(3):
        child = slot_count
        for s in range(slot_count - 1, -1, -1):
            if keep[s, t]:
                edge_words(
                    t, s, child, relevant, rank_count, rank_dims, rank_coefficients,
                    extents, factors, spatial_slot, loops, starts, tiles, n, span_of,
                    perfect, pad, counts,
                )  # fmt: skip
                child = s
    cycles = 1.0
    if perfect or pad:
        for i in range(count):
            cycles *= 1.0 if spatial[i] else bounds[i]
    else:
        for d in range(dim_count):
            cycles *= visits(d, extents[d], tiles[0, d], loops, 0, 0, -1, False, False)
    return cycles


@njit(cache=True, fastmath=False, error_model="numpy")
def network_energy(counts, factors, relevant, keep, spatial_slot, slot_table):
    """Energy of words crossing fanouts: a copy travels half the used width, a broadcast all of it.

    A word delivered to ``g`` of ``n`` units along one axis crosses ``(n + g) / 2`` links: the mean
    distance for one receiver, the whole axis for a broadcast. Partial sums pay the same way up.
    """
    slot_count, dim_count = factors.shape
    energy = 0.0
    for s in range(slot_count):
        if not spatial_slot[s] or slot_table[s, HOP_J] == 0.0:
            continue
        used = 1.0
        for d in range(dim_count):
            used *= factors[s, d]
        if used <= 1.0:
            continue
        for t in range(3):
            copies = 1.0
            for d in range(dim_count):
                copies *= 1.0 if relevant[t, d] else factors[s, d]
            parent = s
            spread = 1.0  # copies made by fanouts between the parent and this one
            while not keep[parent, t]:
                parent -= 1
                if spatial_slot[parent]:
                    for d in range(dim_count):
                        spread *= 1.0 if relevant[t, d] else factors[parent, d]
            words = (counts[parent, t, READS] + counts[parent, t, UPDATES]) * spread
            energy += 0.5 * (used + copies) * words * slot_table[s, BITS + t] * slot_table[s, HOP_J]
    return energy


@njit(cache=True, fastmath=False, error_model="numpy")
def price(
    macs, cycles, extents, rank_count, rank_dims, rank_coefficients, relevant,
    factors, keep, spatial_slot, slot_table, engine, scratch, counts, result,
):  # fmt: skip
    """Turn counts into cycles and energy, and check capacities; see ``RESULTS`` for the columns."""
    tiles = scratch[0]
    slot_count, dim_count = factors.shape
    compute = math.ceil(cycles * engine[MAC_CYCLES])
    worst, bound_slot, overflow, energy = compute, -1.0, 0.0, 0.0
    used = 1.0  # utilised instances of a slot
    final_saving = 0.0
    if engine[FINAL_BITS] != slot_table[0, BITS + OUTPUT]:
        size = 1.0
        for d in range(dim_count):
            size *= extents[d] if relevant[OUTPUT, d] else 1.0
        final_saving = size * (slot_table[0, BITS + OUTPUT] - engine[FINAL_BITS])
    for s in range(slot_count):
        if spatial_slot[s]:
            for d in range(dim_count):
                if factors[s, d] > 1:
                    used *= min(factors[s, d], math.ceil(extents[d] / tiles[s + 1, d]))
            continue
        read_bits, write_bits, held = 0.0, 0.0, 0.0
        block = slot_table[s, BLOCK] * used
        for t in range(3):
            if not keep[s, t]:
                continue
            bits = slot_table[s, BITS + t]
            reads = counts[s, t, READS] * bits
            fills = counts[s, t, FILLS] * bits
            updates = counts[s, t, UPDATES] * bits
            read_bits += reads
            write_bits += fills + updates
            if s == 0 and t == OUTPUT:
                updates -= final_saving
            energy += math.ceil(reads / block) * used * slot_table[s, READ_J]
            energy += math.ceil(fills / block) * used * slot_table[s, WRITE_J]
            energy += math.ceil(updates / block) * used * slot_table[s, WRITE_J]
            held += bits * tile_words(
                t, s, rank_count, rank_dims, rank_coefficients, extents, tiles
            )
        if s == 0:
            write_bits -= final_saving
        overflow = max(overflow, held / slot_table[s, CAPACITY] - 1.0)
        demand = max(read_bits / slot_table[s, READ_BW], write_bits / slot_table[s, WRITE_BW])
        demand = max(demand, (read_bits + write_bits) / slot_table[s, SHARED_BW]) / used
        demand = math.ceil(demand - 1e-9 * demand)
        if demand > worst:
            worst, bound_slot = demand, float(s)
    leak_w = engine[MAC_LEAK_W] * engine[MAC_COUNT]
    for s in range(slot_count):
        leak_w += slot_table[s, LEAK_W] * slot_table[s, INSTANCES]
    network = network_energy(counts, factors, relevant, keep, spatial_slot, slot_table)
    leak = leak_w * worst / engine[CLOCK_HZ]
    mac_energy = macs * engine[MAC_J]
    result[CYCLES] = worst
    result[ENERGY_J] = energy + network + mac_energy + leak
    result[COMPUTE_CYCLES] = compute
    result[BOUND_SLOT] = bound_slot
    result[OVERFLOW] = overflow
    result[MAC_ENERGY_J] = mac_energy
    result[NETWORK_J] = network
    result[LEAK_J] = leak


@njit(cache=True)
def make_scratch(slot_count, dim_count):
    """Work space of one thread: tiles, the loop list, and tile counts."""
    size = slot_count * dim_count + 1
    return (
        np.empty((slot_count + 1, dim_count)),
        np.empty(size, np.int64),
        np.empty(size),
        np.empty(size, np.int64),
        np.empty(size, np.bool_),
        np.empty(slot_count + 1, np.int64),
        np.empty(dim_count),
        np.empty(dim_count),
    )


@njit(cache=True, parallel=True)
def evaluate_rows(
    problem_of, engine_of, extents, macs, rank_count, rank_dims, rank_coefficients, relevant,
    factors, order, keep, spatial_slot, pad, slot_table, engine, results, counts,
):  # fmt: skip
    """Evaluate many rows; row ``i`` is problem ``problem_of[i]`` on engine ``engine_of[i]``.

    Args:
        problem_of, engine_of: int64[N].
        extents: float64[O, D]; ``macs`` float64[O]; the rank tables [O, 3, ...]; ``relevant``
            bool[O, 3, D].
        factors: integer[N, S, D]; ``order`` integer[N, S, D]; ``keep`` bool[N, S, 3].
        spatial_slot: bool[S].
        pad: See :func:`count_words`.
        slot_table: float64[E, S, SLOT_COLUMNS]; ``engine`` float64[E, ENGINE_COLUMNS].
        results: float64[N, RESULTS], written.
        counts: float64[N, S, 3, 3] written, or float64[0, S, 3, 3] when not wanted.
    """
    rows = problem_of.shape[0]
    slot_count, dim_count = factors.shape[1], factors.shape[2]
    chunk = 256
    wanted = counts.shape[0] == rows
    for c in prange((rows + chunk - 1) // chunk):
        scratch = make_scratch(slot_count, dim_count)
        own = np.empty((slot_count, 3, 3))
        loop_factors = np.empty((slot_count, dim_count))
        for i in range(c * chunk, min(rows, (c + 1) * chunk)):
            o, e = problem_of[i], engine_of[i]
            for s in range(slot_count):
                for d in range(dim_count):
                    loop_factors[s, d] = factors[i, s, d]
            cycles = count_words(
                extents[o], rank_count[o], rank_dims[o], rank_coefficients[o], relevant[o],
                loop_factors, order[i], keep[i], spatial_slot, pad, scratch, own,
            )  # fmt: skip
            price(
                macs[o], cycles, extents[o], rank_count[o], rank_dims[o], rank_coefficients[o],
                relevant[o], loop_factors, keep[i], spatial_slot, slot_table[e], engine[e],
                scratch, own, results[i],
            )  # fmt: skip
            if wanted:
                counts[i] = own
