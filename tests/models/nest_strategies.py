"""Generated loop nests with a mapping, for every test of the loop-nest model.

One generator draws from a ``random.Random``: seeded for bulk runs, or Hypothesis's own (which can
shrink what fails).
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from itertools import combinations
from math import prod

import numpy as np
from hypothesis import strategies as st

from archsim.models.loopnest import kernel as k
from archsim.models.loopnest.oracle import NestWalker
from archsim.models.loopnest.problem import ProblemTable, pack
from archsim.workload.graph import Einsum, conv2d_einsum, matmul_einsum

KINDS = ("conv", "grouped", "depthwise", "gemm", "batched_gemm")


@dataclass(frozen=True, eq=False)
class Case:
    """A problem, a nest and a mapping."""

    einsum: Einsum
    problem: ProblemTable
    factors: np.ndarray
    order: np.ndarray
    keep: np.ndarray
    spatial: np.ndarray

    def __repr__(self) -> str:
        nest = []
        for s in range(len(self.spatial)):
            kept = "".join(c for c, kept in zip("IWO", self.keep[s], strict=True) if kept)
            loops = " ".join(
                f"{self.problem.dims[d]}{self.factors[s, d]}"
                for d in self.order[s]
                if self.factors[s, d] > 1
            )
            nest.append(f"{'X' if self.spatial[s] else '[' + kept + ']'} {loops}")
        ranks = [[dict(rank) for rank in access.ranks] for access in self.einsum.operands]
        return f"Case({dict(self.einsum.dims)}, {ranks}, {' / '.join(nest)})"


def _convolution(rng: random.Random, kind: str) -> Einsum:
    groups = {"conv": 1, "grouped": 2, "depthwise": rng.choice((2, 3))}[kind]
    each = (1, 1) if kind == "depthwise" else (rng.randint(1, 4), rng.randint(1, 3))
    return conv2d_einsum(
        "i", "w", "o",
        batch=rng.choice((1, 1, 2)),
        groups=groups,
        out_channels=groups * each[0],
        in_channels=groups * each[1],
        out_size=(rng.randint(1, 5), rng.randint(1, 3)),
        kernel=(rng.randint(1, 3), rng.randint(1, 2)),
        stride=(rng.choice((1, 1, 2, 3)), rng.choice((1, 2))),
        dilation=(rng.choice((1, 1, 2)), rng.choice((1, 1, 2))),
    )  # fmt: skip


def _einsum(rng: random.Random, kind: str) -> Einsum:
    if kind in ("gemm", "batched_gemm"):
        return matmul_einsum(
            "i", "w", "o",
            rows=rng.randint(1, 6), inner=rng.randint(1, 5), columns=rng.randint(1, 5),
            batch=rng.randint(1, 3), shared_weight=kind == "gemm",
        )  # fmt: skip
    return _convolution(rng, kind)


def draw_factors(rng: random.Random, problem: ProblemTable, spatial: list[bool], residual: bool):
    slots = len(spatial)
    factors = np.ones((slots, len(problem.dims)), np.int64)
    for d, extent in enumerate(problem.extents[0]):
        left = int(extent)
        for s in rng.sample(range(slots), slots):
            choices = [f for f in range(1, left + 1) if residual or left % f == 0]
            factors[s, d] = rng.choice(choices)
            left = -(-left // int(factors[s, d]))
        factors[0, d] *= left  # nothing else may be left uncovered
    return factors


def unrolls_a_diagonal(problem: ProblemTable, factors: np.ndarray, spatial: np.ndarray) -> bool:
    """Whether one fanout unrolls both dimensions of a sliding rank."""
    ints = problem.ints[0]
    pairs = ints[k.SLIDE_DIM : k.SLIDE_DIM + 2 * ints[k.SLIDES]].reshape(-1, 2)
    return any(
        spatial[s] and r >= 0 and factors[s, p] > 1 and factors[s, r] > 1
        for s in range(len(spatial))
        for p, r in pairs
    )


def overshoots(problem: ProblemTable, factors: np.ndarray) -> bool:
    """Whether some factors multiply to more than the extent."""
    return bool((factors.prod(axis=0) != problem.extents[0]).any())


def generate(
    rng: random.Random,
    *,
    kind: str | None = None,
    residual: bool | None = None,
    work: int = 1200,
) -> Case:
    """Draw a case.

    Args:
        rng: Where choices come from.
        kind: One of ``KINDS``; default any.
        residual: Factors may overshoot (True) or divide (False); default either.
        work: Most iterations, padded ones included, the case may have: the oracle walks them.
    """
    if residual is None:
        residual = rng.random() < 0.5
    while True:
        einsum = _einsum(rng, kind or rng.choice(KINDS))
        problem = pack([einsum])
        slots = rng.randint(1, 6)
        spatial = [False] + [rng.random() < 0.35 for _ in range(slots - 1)]
        keep = [[True] * 3] + [
            [not spatial[s] and rng.random() < 0.7 for _ in range(3)] for s in range(1, slots)
        ]
        factors = draw_factors(rng, problem, spatial, residual)
        if prod(factors.ravel().tolist()) > work:
            continue
        broad = np.array(spatial)
        dims = range(len(problem.dims))
        order = np.array([rng.sample(dims, len(dims)) for _ in range(slots)], np.int64)
        return Case(einsum, problem, factors, order, np.array(keep), broad)


def cases(**options) -> st.SearchStrategy[Case]:
    """Cases for Hypothesis; options as in :func:`generate`."""
    return st.randoms(use_true_random=False).map(lambda rng: generate(rng, **options))


def flat_engine(slots: int) -> tuple[np.ndarray, np.ndarray]:
    """Slot and engine tables in which everything costs one."""
    return np.ones((1, slots, k.SLOT_COLUMNS)), np.ones((1, k.ENGINE_COLUMNS))


def random_engine(rng: random.Random, slots: int) -> tuple[np.ndarray, np.ndarray]:
    """Slot and engine tables with uneven energies, widths, bandwidths and word sizes."""
    table, engine = flat_engine(slots)
    for s in range(slots):
        table[0, s, k.CAPACITY] = rng.choice((8.0, 200.0, 5000.0))
        table[0, s, k.BLOCK] = rng.choice((1.0, 8.0, 24.0, 64.0))
        for column in (k.READ_J, k.WRITE_J, k.LEAK_W, k.HOP_J):
            table[0, s, column] = rng.choice((0.0, 0.3, 1.0, 7.5))
        for column in (k.READ_SLOW, k.WRITE_SLOW, k.SHARED_SLOW):
            table[0, s, column] = rng.choice((0.0, 0.01, 0.25, 2.0))
        table[0, s, k.INSTANCES] = rng.choice((1.0, 12.0))
        table[0, s, k.BITS : k.BITS + 3] = [rng.choice((4.0, 8.0, 16.0)) for _ in range(3)]
    engine[0, k.MAC_J] = rng.choice((0.0, 0.7, 3.0))
    engine[0, k.MAC_CYCLES] = rng.choice((1.0, 4.0))
    engine[0, k.CLOCK_HZ] = rng.choice((1.0, 1e9))
    engine[0, k.FINAL_BITS] = min(rng.choice((4.0, 8.0)), table[0, 0, k.BITS + k.OUTPUT])
    return table, engine


def price(
    case: Case, tables: tuple[np.ndarray, np.ndarray], pad: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """The kernel's results [RESULTS] and counts [S, 3, 3] of a case."""
    slots = len(case.spatial)
    results, counts = np.zeros((1, k.RESULTS)), np.zeros((1, slots, 3, 3))
    zero = np.zeros(1, np.int64)
    k.evaluate_rows(
        zero, zero, case.problem.floats, case.problem.ints,
        case.factors[None].astype(np.float64), case.order[None],
        case.keep[None], case.spatial, pad, *tables, results, counts,
    )  # fmt: skip
    return results[0], counts[0]


def kernel_counts(case: Case, pad: bool = False) -> tuple[np.ndarray, int]:
    """The kernel's counts [S, 3, 3] and cycles."""
    results, counts = price(case, flat_engine(len(case.spatial)), pad)
    return counts, int(results[k.COMPUTE_CYCLES])


def operand_ranks(case: Case) -> list[list[list[tuple[int, int]]]]:
    """Ranks of input, weight and output in dimension indices, ranks of one point left out."""
    dims = case.problem.dims
    found = []
    for access in case.einsum.operands:
        ranks = [[(dims.index(d), c) for d, c in rank if d in dims] for rank in access.ranks]
        found.append([rank for rank in ranks if rank])
    return found


def oracle_counts(case: Case) -> tuple[np.ndarray, int]:
    """The oracle's counts and cycles."""
    extents = [int(x) for x in case.problem.extents[0]]
    walker = NestWalker(
        extents, operand_ranks(case), case.factors, case.order, case.keep, case.spatial
    )
    return walker.run()


def touched_words(case: Case) -> list[int]:
    """Words of input, weight and output that the computation uses."""
    extents = case.problem.extents[0]
    words = []
    for ranks in operand_ranks(case):
        total = 1
        for rank in ranks:
            sums = {0}
            for d, coefficient in rank:
                sums = {x + coefficient * i for x in sums for i in range(int(extents[d]))}
            total *= len(sums)
        words.append(total)
    return words


def utilised(case: Case) -> np.ndarray:
    """Instances of every slot that do any work."""
    inside = np.vstack([np.cumprod(case.factors[::-1], axis=0)[::-1], np.ones(len(case.order[0]))])
    needed = np.minimum(case.factors, np.ceil(case.problem.extents[0] / inside[1:]))
    used = np.where(case.spatial, needed.prod(axis=1), 1)
    return np.concatenate([[1], np.cumprod(used)[:-1]])


def differing(counts: np.ndarray, expected: np.ndarray) -> list[str]:
    """Where two count arrays differ, in words."""
    names = ("input", "weight", "output"), ("reads", "fills", "updates")
    return [
        f"slot {s}, {names[0][t]} {names[1][c]}: {counts[s, t, c]} instead of {expected[s, t, c]}"
        for s, t, c in zip(*np.nonzero(np.abs(counts - expected) > 1e-6), strict=True)
    ]


def pairs_of_loops(case: Case, slot: int) -> list[tuple[int, int]]:
    """Positions of two loops of a slot of which at least one has a bound of 1."""
    order, factors = case.order[slot], case.factors[slot]
    return [
        (i, j)
        for i, j in combinations(range(len(order)), 2)
        if factors[order[i]] == 1 or factors[order[j]] == 1
    ]
