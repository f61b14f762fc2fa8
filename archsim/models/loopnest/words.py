"""Words of tiles: what a storage holds of an operand, and what all its tiles come to."""

from __future__ import annotations

from archsim.models.jit import inlined
from archsim.models.lanes import larger, load, smaller, spread, store, where
from archsim.models.loopnest.layout import (
    BOUND,
    COEFFICIENT,
    DIM_BITS,
    INPUT,
    INSIDE,
    MOVES,
    OUTSIDE,
    PLAIN,
    SIZE,
    SLIDE_DIM,
    SLIDES,
    WHICH,
    listed,
)
from archsim.models.loopnest.residual import odd_runs


@inlined
def window_words(floats, ints, o, s, count, fanout, residual, any_odd, pad, work):
    """Words of all the input tiles a storage is filled with, but for repeats."""
    bounds, tiles, visits, moving = work.bounds, work.tiles, work.visits, work.moving
    kept, totals, outcome = work.kept, work.totals, work.outcome
    dim_count = bounds.shape[1]
    words = spread(floats[o, dim_count + SIZE])
    if pad:
        words = charged_in_full(PLAIN, floats, ints, o, s, work)
    for k in range(ints[o, SLIDES]):
        p, r = ints[o, SLIDE_DIM + 2 * k] & DIM_BITS, ints[o, SLIDE_DIM + 2 * k + 1]
        a = floats[o, dim_count + COEFFICIENT + 2 * k]
        visits_p = load(visits, (s, p))
        tile_p = smaller(load(tiles, (s, p)), spread(floats[o, p]))
        extent_p = visits_p * tile_p if pad else spread(floats[o, p])
        total = a * (extent_p - visits_p) + visits_p
        if r >= 0:
            b = floats[o, dim_count + COEFFICIENT + 2 * k + 1]
            r = r & DIM_BITS
            visits_r = load(visits, (s, r))
            tile_r = smaller(load(tiles, (s, r)), spread(floats[o, r]))
            extent_r = visits_r * tile_r if pad else spread(floats[o, r])
            total = total * visits_r + b * (extent_r - visits_r) * visits_p
            # Words that stay as the window slides along the moving loop: on every step of it but
            # the first of each run. A run is one way of setting all the other loops.
            which = load(moving, (s, k, WHICH))
            along_p = which == 1.0
            all_moves = where(along_p, visits_p, visits_r)
            runs = all_moves / load(moving, (s, k, BOUND))
            if residual:
                outside = load(moving, (s, k, OUTSIDE))
                over_p = load(tiles, (0, p)) > floats[o, p]
                over_r = load(tiles, (0, r)) > floats[o, r]
                runs = where(along_p, where(over_p, outside, runs), where(over_r, outside, runs))
                if any_odd:
                    store(outcome, 0, runs)
                    odd_runs(floats, ints, o, k, s, count, fanout, work, outcome[0])
                    runs = load(outcome, 0)
            step, cross = where(along_p, a, spread(b)), where(along_p, b, spread(a))
            window, other = where(along_p, tile_p, tile_r), where(along_p, tile_r, tile_p)
            lines = where(along_p, visits_r, visits_p)
            extent = where(along_p, extent_r, extent_p)
            shift = step * (window - 1.0 - load(moving, (s, k, INSIDE))) + 1.0
            last = extent - (lines - 1.0) * other
            stay = (lines - 1.0) * larger(shift + cross * (other - 1.0), spread(0.0))
            stay = stay + larger(shift + cross * (last - 1.0), spread(0.0))
            total = total - where(which > 0.0, stay * (all_moves - runs), 0.0)
        if any_odd:
            keeps = load(kept, (s, INPUT)) > 0.0
            store(totals, (s, k), where(keeps, total, load(totals, (s + 1, k))))
        words = words * total
    return words


@inlined
def charged_in_full(which, floats, ints, o, s, work):
    """Words along listed ranks over all tiles if residual tiles are charged in full."""
    tiles, visits = work.tiles, work.visits
    words = spread(1.0)
    at, length = listed(ints, o, tiles.shape[1], which)
    for j in range(length):
        d = ints[o, at + j] & DIM_BITS
        tile = smaller(load(tiles, (s, d)), spread(floats[o, d]))
        words = words * load(visits, (s, d)) * tile
    return words


@inlined
def tile_words(t, floats, ints, o, s, work):
    """Words of operand ``t`` in the tile of slot ``s``."""
    tiles = work.tiles
    dim_count = tiles.shape[1]
    words = spread(1.0)
    at, length = listed(ints, o, dim_count, PLAIN if t == INPUT else MOVES + t)
    for j in range(length):
        d = ints[o, at + j] & DIM_BITS
        words = words * smaller(load(tiles, (s, d)), spread(floats[o, d]))
    if t == INPUT:
        for k in range(ints[o, SLIDES]):
            p, r = ints[o, SLIDE_DIM + 2 * k] & DIM_BITS, ints[o, SLIDE_DIM + 2 * k + 1]
            tile = smaller(load(tiles, (s, p)), spread(floats[o, p]))
            span = floats[o, dim_count + COEFFICIENT + 2 * k] * (tile - 1.0) + 1.0
            if r >= 0:
                tile = smaller(load(tiles, (s, r & DIM_BITS)), spread(floats[o, r & DIM_BITS]))
                span = span + floats[o, dim_count + COEFFICIENT + 2 * k + 1] * (tile - 1.0)
            words = words * span
    return words
