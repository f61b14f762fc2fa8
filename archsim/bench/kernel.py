"""Kernel speed: distinct random mappings of one convolution, evaluated in one batch."""

from __future__ import annotations

import statistics
import time

import numpy as np

from archsim.models.loopnest import kernel as k
from archsim.models.loopnest.problem import pack
from archsim.workload.graph import conv2d_einsum

MAPPINGS = 200_000
#: (label, levels, slots that are fanouts)
NESTS = (
    ("4 levels, one of them a fanout", 4, (2,)),
    ("4 storage levels and two fanouts", 6, (2, 4)),
    ("7 levels, one of them a fanout", 7, (3,)),
)


def random_batch(levels: int, fanouts: tuple[int, ...], rows: int, seed: int = 0) -> tuple:
    """Arguments of :func:`kernel.evaluate_rows`: distinct random mappings of a 7-dimensional layer.

    Every prime factor of every extent goes to a random level, every loop order is random.
    """
    einsum = conv2d_einsum(
        "x", "w", "y", batch=4, groups=1, out_channels=128, in_channels=64,
        out_size=(56, 56), kernel=(3, 3),
    )  # fmt: skip
    problem = pack([einsum])
    rng = np.random.default_rng(seed)
    dims = len(problem.dims)
    factors = np.ones((rows, levels, dims))
    for d in range(dims):
        left, prime = int(problem.extents[0, d]), 2
        while left > 1:
            while left % prime == 0:
                factors[np.arange(rows), rng.integers(0, levels, rows), d] *= prime
                left //= prime
            prime += 1
    order = np.argsort(rng.random((rows, levels, dims)), axis=2).astype(np.int8)
    fanout = np.zeros(levels, np.bool_)
    fanout[list(fanouts)] = True
    keep = np.zeros((rows, levels, 3), np.bool_)
    keep[:, ~fanout] = True
    table = np.ones((1, levels, k.SLOT_COLUMNS))
    table[:, :, k.BITS : k.BITS + 3] = 8.0
    table[:, :, k.HOP_J] = np.where(fanout, 1.0, 0.0)
    engine = np.ones((1, k.ENGINE_COLUMNS))
    engine[:, k.FINAL_BITS] = 8.0
    zero = np.zeros(rows, np.int64)
    results = np.zeros((rows, k.RESULTS))
    no_counts = np.zeros((0, levels, 3, 3))
    return (
        zero, zero, problem.floats, problem.ints, factors, order, keep, fanout, False, table,
        engine, results, no_counts,
    )  # fmt: skip


def distinct(batch: tuple) -> int:
    """Mappings of a batch that differ in a factor or in the order of loops."""
    factors, order = batch[4], batch[5]
    rows = np.concatenate(
        [factors.reshape(len(factors), -1), order.reshape(len(order), -1)], axis=1
    )
    return len(np.unique(rows, axis=0))


def bench_kernel(repeat: int, scenario: str) -> list[tuple[str, str]]:
    """Evaluations a core-second at several depths, 7 dimensions and 3 operands each."""
    del scenario
    import numba

    threads = numba.get_num_threads()
    figures = []
    try:
        numba.set_num_threads(1)
        for label, levels, fanouts in NESTS:
            batch = random_batch(levels, fanouts, MAPPINGS)
            k.evaluate_rows(*batch)
            times = []
            for _ in range(repeat):
                start = time.process_time()
                k.evaluate_rows(*batch)
                times.append(time.process_time() - start)
            rate = MAPPINGS / statistics.median(times)
            figures.append(
                (f"{label}, {distinct(batch):,} mappings", f"{rate / 1e6:.2f} M evaluations/core-s")
            )
    finally:
        numba.set_num_threads(threads)
    return figures
