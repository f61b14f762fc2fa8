"""Filling the fanouts: the unrollings a template offers for one operation."""

from __future__ import annotations

import numpy as np

from archsim.models.jit import inlined
from archsim.models.loopnest.layout import (
    BITS,
    FINAL_BITS,
    INPUT,
    MAC_CYCLES,
    MACS,
    OUTPUT,
    READ_SLOW,
    SHARED_SLOW,
    SIZE,
    WEIGHT,
    WRITE_SLOW,
)


@inlined
def unroll_fanouts(
    floats, o, unroll, template, alternative, scale, fanout_slots, axes, width, v, factors,
    left,
):  # fmt: skip
    """Fill the fanouts by a template's preferences.

    Args:
        unroll: int64[T, A, 2, L] of dimensions, see :class:`TemplateTable`.
        scale: Share of every fanout that may be used.
        fanout_slots: int64[F] slots, ``axes`` int64[F] their axis, ``width`` float64[F] children.
        factors: float64[S, D, LANES], written in lane ``v``; ``left`` [D, LANES] work space.
    """
    dim_count = factors.shape[1]
    for d in range(dim_count):
        left[d, v] = floats[o, d]
    for f in range(fanout_slots.shape[0]):
        s = fanout_slots[f]
        for d in range(dim_count):
            factors[s, d, v] = 1.0
        whole = np.ceil(width[f] * scale)
        free = whole
        for j in range(unroll.shape[3]):
            code = unroll[template, alternative, axes[f], j]
            if code < 0 or free < 2.0:
                break
            d = code if code < dim_count else code - dim_count
            if left[d, v] == 1.0:
                continue
            take = min(free, left[d, v])
            if code >= dim_count:
                take = min(take, np.floor(np.sqrt(whole)))
            if take < 2.0:
                continue
            rounds = np.ceil(left[d, v] / take)
            take = np.ceil(left[d, v] / rounds)
            factors[s, d, v] *= take
            left[d, v] = rounds
            free = np.floor(free / take)


@inlined
def worth_using(floats, o, e, slot_table, engine, width, dim_count):
    """Share of every fanout that keeps up with the tier's bandwidth, at most 1.

    More units would wait: no mapping moves less than every operand once.
    """
    sizes = dim_count + SIZE
    read = floats[o, sizes + INPUT] * slot_table[e, 0, BITS + INPUT]
    read += floats[o, sizes + WEIGHT] * slot_table[e, 0, BITS + WEIGHT]
    written = floats[o, sizes + OUTPUT] * engine[e, FINAL_BITS]
    cycles = max(read * slot_table[e, 0, READ_SLOW], written * slot_table[e, 0, WRITE_SLOW])
    cycles = max(cycles, (read + written) * slot_table[e, 0, SHARED_SLOW])
    units = 1.0
    for f in range(width.shape[0]):
        units *= width[f]
    needed = floats[o, dim_count + MACS] * engine[e, MAC_CYCLES] / max(cycles, 1.0)
    return min(1.0, needed / units) ** (1.0 / max(1.0, float(width.shape[0])))
