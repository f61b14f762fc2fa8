"""A systolic array stepped cycle by cycle: every word moves one register a cycle.

Nothing here knows a formula. Operands enter at the edges, each row (column) one cycle after its
neighbour; a unit multiplies what stands in its registers; what holds results shifts them out.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np


@dataclass
class Counts:
    """What happened on the way.

    Attributes:
        folds, cycles: Times the array was filled; steps taken.
        input_reads, weight_reads: Words that entered at the edges.
        output_writes: Words that left with a result or a partial sum.
        result: The product that came out.
    """

    folds: int = 0
    cycles: int = 0
    input_reads: int = 0
    weight_reads: int = 0
    output_writes: int = 0
    result: np.ndarray = field(default_factory=lambda: np.zeros((0, 0), np.int64))


def _output_stationary(a, b, rows, columns, counts):
    """One fold: a enters from the left, b from the top, sums stay and are shifted out below."""
    depth = a.shape[1]
    left, top = np.zeros((2, rows, columns), np.int64)
    sums = np.zeros((rows, columns), np.int64)
    macs = np.zeros((rows, columns), int)
    streams = 0
    while macs.min() < depth:
        left[:, 1:], top[1:] = left[:, :-1].copy(), top[:-1].copy()
        for r in range(rows):
            t = streams - r
            inside = 0 <= t < depth and r < len(a)
            left[r, 0] = a[r, t] if inside else 0
            counts.input_reads += inside
        for c in range(columns):
            t = streams - c
            inside = 0 <= t < depth and c < b.shape[1]
            top[0, c] = b[t, c] if inside else 0
            counts.weight_reads += inside
        sums += left * top
        r, c = np.indices(macs.shape)
        macs += (streams - r - c >= 0) & (streams - r - c < depth)
        streams += 1
    out = np.zeros_like(sums)
    for step in range(rows):
        row = rows - 1 - step
        out[row] = sums[-1]
        counts.output_writes += b.shape[1] * (row < len(a))
        sums[1:] = sums[:-1].copy()
    counts.cycles += streams + rows
    return out[: len(a), : b.shape[1]]


def _stationary(held, streamed, rows, columns, counts, held_name, streamed_name):
    """One fold: `held` [k, across] is shifted in from the top, `streamed` [t, k] passes."""
    weights = np.zeros((rows, columns), np.int64)
    for step in range(rows):
        weights[1:] = weights[:-1].copy()
        weights[0] = 0
        k = rows - 1 - step
        if k < len(held):
            weights[0, : held.shape[1]] = held[k]
            setattr(counts, held_name, getattr(counts, held_name) + held.shape[1])
    depth = len(streamed)
    left = np.zeros((rows, columns), np.int64)
    sums = np.zeros((rows, columns), np.int64)
    out = np.zeros((depth, columns), np.int64)
    left_to_come, step = depth * columns, 0
    while left_to_come:
        left[:, 1:], sums[1:] = left[:, :-1].copy(), sums[:-1].copy()
        sums[0] = 0
        for r in range(rows):
            t = step - r
            inside = 0 <= t < depth and r < len(held)
            left[r, 0] = streamed[t, r] if inside else 0
            setattr(counts, streamed_name, getattr(counts, streamed_name) + inside)
        sums += left * weights
        for c in range(columns):
            t = step - (rows - 1) - c
            if 0 <= t < depth:
                out[t, c] = sums[-1, c]
                left_to_come -= 1
                counts.output_writes += c < held.shape[1]
        step += 1
    counts.cycles += rows + step
    return out[:, : held.shape[1]]


def simulate(a: np.ndarray, b: np.ndarray, rows: int, columns: int, dataflow: str) -> Counts:
    """Multiply ``a`` [M, K] and ``b`` [K, N] on an array, fold after fold."""
    counts = Counts(result=np.zeros((len(a), b.shape[1]), np.int64))
    if dataflow == "output_stationary":
        for i in range(0, len(a), rows):
            for j in range(0, b.shape[1], columns):
                part = _output_stationary(
                    a[i : i + rows], b[:, j : j + columns], rows, columns, counts
                )
                counts.result[i : i + rows, j : j + columns] = part
                counts.folds += 1
        return counts
    held, streamed, names = b, a, ("weight_reads", "input_reads")
    if dataflow == "input_stationary":
        held, streamed, names = a.T, b.T, ("input_reads", "weight_reads")
    for i in range(0, len(held), rows):
        for j in range(0, held.shape[1], columns):
            part = _stationary(
                held[i : i + rows, j : j + columns], streamed[:, i : i + rows], rows, columns,
                counts, *names,
            )  # fmt: skip
            if dataflow == "input_stationary":
                counts.result[j : j + columns] += part.T
            else:
                counts.result[:, j : j + columns] += part
            counts.folds += 1
    return counts
