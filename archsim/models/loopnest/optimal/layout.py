"""The arrays the compiled search reads. Imports no compiled module, on purpose (see ``jit.py``)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Orders(NamedTuple):
    """Order classes for every set of active dimensions (bound above 1) of several tables.

    Attributes:
        start: int64[T, 2**D + 1]; classes of active set b are rows start[b] .. start[b + 1] - 1.
        counted: int64[P, 3]; mask of the loops that refill operand t (0: none moves it).
        mover: int64[P]; the input's innermost relevant dimension, -1 if there is none.
        perm: int64[P, D]; a permutation of the class, outer to inner.
    """

    start: np.ndarray
    counted: np.ndarray
    mover: np.ndarray
    perm: np.ndarray


class Shapes(NamedTuple):
    """Tile shapes: one divisor of every extent, X in all; shape 0 is one point.

    Attributes:
        values: float64[D, K] divisors ascending; ``counts`` int64[D] how many there are.
        strides: int64[D]; ``index`` int64[X, D] divisor indices of a shape.
        quotient: int64[D, K, K] index of divisor i over divisor j, -1 if j does not divide it.
        words: float64[X, 3] words of each operand; ``volume`` float64[X] points.
        visits: float64[X, 3] tiles along the dimensions that move each operand.
        relevant: int64[3] masks; ``step`` float64[D] coefficient of a sliding dimension, else 0;
        partner: int64[D] the other dimension of its rank, -1 for none.
        twin: int64[X] the first shape that differs only by an exchange of dimensions that are
            alike in everything (rows and columns of a square convolution); itself if none does.
        edges: int64[D, K, 2] how many divisors lie a prime, and any step, below a divisor;
        below: int64[D, K, K] their indices, those a prime below first.
    """

    values: np.ndarray
    counts: np.ndarray
    strides: np.ndarray
    index: np.ndarray
    quotient: np.ndarray
    words: np.ndarray
    volume: np.ndarray
    visits: np.ndarray
    relevant: np.ndarray
    step: np.ndarray
    partner: np.ndarray
    twin: np.ndarray
    edges: np.ndarray
    below: np.ndarray


class Prices(NamedTuple):
    """What storages and fanouts cost, and what may be laid on them.

    Attributes:
        fanout: bool[S].
        choices: int64[S, 8] masks of the operands a storage may keep; ``ways`` int64[S] how many.
        idle: bool[S]; a storage that keeps nothing needs no loops: another lies right outside.
        access: float64[S, 3] J a word for a parent (outputs: read and write); ``fill`` [S, 3].
        toll: float64[S] half a hop, J a bit; ``bits`` [S, 3].
        credit: float64[S] J a copy of the output that its first touch saves where it is kept.
        capacity: float64[S]; ``slow`` float64[S, 3] read, write, shared cycles a bit.
        scalars: float64[..], see below.
        fan_start: int64[S + 1]; ``fans`` int64[F, D] divisor indices of the unrollings.
        allowed: bool[S, D, K] loop bounds that constraints allow at a storage.
        loops: bool[S, D] whether a dimension may have loops at a storage.
        table: int64[S] order table of a slot; ``pairwise`` bool[S], constraints fix bounds or
            orders of a storage, so that its loops cannot be built up prime by prime.
        most: float64[S + 1, 4] most copies fanouts outside a boundary make, by operand and in all.
        share: float64[S + 1] least share of the input's words that differ between their branches.
        cases: int64[S + 1] ways to choose what slot 1 keeps that a boundary tells apart;
        parent: float64[S + 1, 8, 3] least J a word of a parent outside, by case; ``shared``
            float64[S + 1, 8, 3] least share of the words asked for that it reads (multicast).
        touched: float64[S + 1, 8, 2] most J that a copy of the output's first touches save at its
            parent outside a boundary (its reads: it starts at zero), and most copies there.
        dearest: float64[S + 1, 4] most J a word can cost outside; most copies of the output.
    """

    fanout: np.ndarray
    choices: np.ndarray
    ways: np.ndarray
    idle: np.ndarray
    access: np.ndarray
    fill: np.ndarray
    toll: np.ndarray
    bits: np.ndarray
    credit: np.ndarray
    capacity: np.ndarray
    slow: np.ndarray
    scalars: np.ndarray
    fan_start: np.ndarray
    fans: np.ndarray
    allowed: np.ndarray
    loops: np.ndarray
    table: np.ndarray
    pairwise: np.ndarray
    most: np.ndarray
    share: np.ndarray
    cases: np.ndarray
    parent: np.ndarray
    shared: np.ndarray
    touched: np.ndarray
    dearest: np.ndarray


# Columns of Prices.scalars: constant energy, leakage per cycle, cycles per MAC, output words,
# output bits the tier saves, infinite if a dimension moves fewer than two operands, else 1.
CONSTANT, LEAK, MAC_TIME, OUT_WORDS, SAVED_BITS, JOINT = range(6)


class Work(NamedTuple):
    """Work space of the labels of one tile.

    Attributes:
        inner, inner_flags, inner_keys: Front inside a storage's loops: float64[R, LABEL], int64[R],
            float64[R]; ``outer``, ``outer_flags``, ``outer_keys`` likewise outside the slot.
        label, fresh: float64[LABEL].
        states, entered: float64[8, BOUND] what lies outside the slot, and outside its loops.
        tier: float64[Q, 3], see ``list_tier_loops``.
        bounds, at: float64[D], int64[D].
    """

    inner: np.ndarray
    inner_flags: np.ndarray
    inner_keys: np.ndarray
    outer: np.ndarray
    outer_flags: np.ndarray
    outer_keys: np.ndarray
    label: np.ndarray
    fresh: np.ndarray
    states: np.ndarray
    entered: np.ndarray
    tier: np.ndarray
    bounds: np.ndarray
    at: np.ndarray


class Labels(NamedTuple):
    """Labels of the tiles at a boundary.

    Attributes:
        rows: float64[R, LABEL]; ``flags`` int64[R], the open operands.
        start, count: int64[X] rows of a tile; int64[8, X] where kept by choice.
        corner, corner_flags: float64[X, LABEL], int64[X] the merger of a tile's labels.
    """

    rows: np.ndarray
    flags: np.ndarray
    start: np.ndarray
    count: np.ndarray
    corner: np.ndarray
    corner_flags: np.ndarray
