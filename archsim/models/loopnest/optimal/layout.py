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


class Prices(NamedTuple):
    """What one choice of kept operands costs (a mask of the space).

    Attributes:
        kept: bool[S, 3]; ``fanout`` bool[S]; ``parent`` int64[S + 1, 3], the innermost slot
            outside boundary s that keeps an operand.
        access: float64[S, 3] J a word for a parent (outputs: read and write); ``fill`` [S, 3].
        toll: float64[S] half a hop, J a bit; ``bits`` [S, 3].
        credit: float64[S] J a copy of the output that its first touch saves at a storage.
        size: float64[4] words of each output copy, saved bits in the tier, words of W, I plain.
        capacity: float64[S]; ``slow`` float64[S, 3] read, write, shared cycles a bit.
        scalars: float64[..], see below.
        fan_start: int64[S + 1]; ``fans`` int64[F, D] divisor indices of the unrollings.
        allowed: bool[S, D, K] loop bounds that constraints allow at a storage.
        table: int64[S] order table of a slot.
        most: float64[S + 1, 4] most copies fanouts outside a boundary make, by operand and in all.
        touched: float64[S + 1] J that a copy of the output's first touches save at its parent
            outside a boundary (its reads: it starts at zero).
    """

    kept: np.ndarray
    fanout: np.ndarray
    parent: np.ndarray
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
    table: np.ndarray
    most: np.ndarray
    touched: np.ndarray


# Columns of Prices.scalars: constant energy, leakage per cycle, cycles per MAC, output words,
# output bits the tier saves, one over the least share of window words that branches may merge to,
# infinite if a dimension moves fewer than two operands, else 1.
CONSTANT, LEAK, MAC_TIME, OUT_WORDS, SAVED_BITS, LEAST_SHARE, JOINT = range(7)
