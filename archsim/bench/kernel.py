"""Kernel speed: distinct random mappings of one convolution, evaluated in one batch."""

from __future__ import annotations

import os
import statistics
import time

import numpy as np

from archsim.hardware import load_machine, resolve
from archsim.models.loopnest import kernel as k
from archsim.models.loopnest.nest import build_nest, evaluate_mappings
from archsim.models.loopnest.problem import pack
from archsim.workload.graph import Einsum, conv2d_einsum

MAPPINGS = 200_000
#: (label, levels, slots that are fanouts)
NESTS = (
    ("4 levels, one of them a fanout", 4, (2,)),
    ("4 storage levels and two fanouts", 6, (2, 4)),
    ("7 levels, one of them a fanout", 7, (3,)),
)


def layer() -> Einsum:
    """A 3x3 convolution with all seven dimensions."""
    return conv2d_einsum(
        "x", "w", "y", batch=4, groups=1, out_channels=128, in_channels=64,
        out_size=(56, 56), kernel=(3, 3),
    )  # fmt: skip


def random_batch(levels: int, fanouts: tuple[int, ...], rows: int, seed: int = 0) -> tuple:
    """Arguments of :func:`kernel.evaluate_rows`: distinct random mappings of a 7-dimensional layer.

    Every prime factor of every extent goes to a random level, every loop order is random.
    """
    problem = pack([layer()])
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
    zero = np.zeros(1, np.int64)
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
        figures.append(("one evaluation through the Python API", f"{one_by_one(repeat):.1f} us"))
        figures += growth()
    finally:
        numba.set_num_threads(threads)
    return figures


def one_by_one(repeat: int, calls: int = 2_000) -> float:
    """Median CPU microseconds of :func:`evaluate_mappings` for one mapping to Eyeriss's 7 slots."""
    problem = pack([layer()])
    nest = build_nest(resolve(load_machine("eyeriss")))
    slots, dims = len(nest.fanout), len(problem.dims)
    factors = np.ones((slots, dims))
    factors[0] = problem.extents[0]
    order = np.tile(np.arange(dims), (slots, 1))
    evaluate_mappings(problem, nest, factors, order)
    times = []
    for _ in range(repeat):
        start = time.process_time()
        for _ in range(calls):
            evaluate_mappings(problem, nest, factors, order)
        times.append((time.process_time() - start) / calls)
    return statistics.median(times) * 1e6


def growth(small: int = 100_000, large: int = 10_000_000) -> list[tuple[str, str]]:
    """Time a row of a large batch over that of a small one, and memory a row.

    The rows of the large batch lie where the small one's do (a view that repeats them would cost
    no memory, and hide the traffic), so that 10 million rows of 4 levels take 3.6 GB; where less is
    free, a smaller batch is used and named.
    """
    small_batch = random_batch(4, (2,), small)
    row_bytes = sum(small_batch[i].nbytes for i in (4, 5, 6, 11)) // small
    large = min(large, free_bytes() // (2 * row_bytes) // small * small)
    times = {}
    for rows in (small, large):
        arrays = list(small_batch)
        for i in (4, 5, 6):
            arrays[i] = np.tile(small_batch[i], (rows // small, 1, 1))
        arrays[11] = np.zeros((rows, k.RESULTS))
        k.evaluate_rows(*arrays)
        start = time.process_time()
        k.evaluate_rows(*arrays)
        times[rows] = (time.process_time() - start) / rows
    label = f"time a row, {large:,} rows over {small:,}"
    return [(label, f"{times[large] / times[small]:.2f} (1.00: linear), {row_bytes} bytes a row")]


def free_bytes() -> int:
    """Memory that can be taken, as far as the system tells."""
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return 1 << 30
