"""Generated small sparse nests, and their exact expectations by walking every placement."""

from __future__ import annotations

import random
from dataclasses import dataclass
from itertools import combinations, product
from math import prod

import numpy as np
from nest_strategies import Case, generate, kernel_counts

from archsim.models.sparse.density import Density, FixedStructured, Hypergeometric
from archsim.models.sparse.formats import RankFormat
from archsim.models.sparse.model import SparseCounts, sparse_counts
from archsim.models.sparse.spec import Action, ComputeSparsity, SlotSparsity, Sparsity
from archsim.models.sparse.tiles import Nest
from archsim.models.sparse.walker import SparseWalker

DENSE = FixedStructured(1.0)


@dataclass(frozen=True, eq=False)
class SparseCase:
    """A nest, what it does about zeros, and how many non-zeros input and weight have."""

    case: Case
    nest: Nest
    sparsity: Sparsity
    nonzeros: tuple[int, int]

    def __repr__(self) -> str:
        return f"{self.case!r} {self.sparsity} {self.nonzeros}"


def nest_of(case: Case) -> Nest:
    """The sparse model's view of a generated case."""
    return Nest(
        case.einsum,
        case.problem.dims,
        case.problem.extents[0].astype(np.int64),
        case.factors,
        case.order,
        case.keep,
        case.spatial,
    )


def random_sparsity(
    rng: random.Random, nest: Nest, *, actions: bool = True, kinds=("skip", "gate")
) -> Sparsity:
    """Formats and actions at random slots."""
    slots = []
    for s in range(len(nest.factors)):
        formats, found = [(), (), ()], []
        if not nest.fanout[s]:
            for t in (0, 1):
                if nest.keep[s, t] and rng.random() < 0.5:
                    formats[t] = (RankFormat(rng.choice(("cp", "b"))),)
            for t, others in ((0, (1,)), (1, (0,)), (2, (0, 1))):
                if actions and nest.keep[s, t] and rng.random() < 0.4:
                    on = tuple(rng.sample(others, rng.randint(1, len(others))))
                    found.append(Action(rng.choice(kinds), t, on))
        slots.append(SlotSparsity(tuple(formats), tuple(found)))
    compute = ComputeSparsity(
        gate_zeros=actions and "gate" in kinds and rng.random() < 0.4,
        skip_absent=actions and "skip" in kinds and rng.random() < 0.4,
        implied_updates=rng.random() < 0.7,
    )
    return Sparsity(tuple(slots), compute)


def words_of(nest: Nest) -> list[tuple[int, ...]]:
    """Shapes of the three tensors."""
    return [nest.shape(t, nest.extents) for t in range(3)]


def draw(rng: random.Random, placements: int = 600, work: int = 48) -> SparseCase:
    """A case of which every placement of the non-zeros can be walked."""
    while True:
        case = generate(rng, kind=rng.choice(("gemm", "batched_gemm")), residual=False, work=work)
        nest = nest_of(case)
        sizes = [prod(shape) for shape in words_of(nest)[:2]]
        counts = tuple(rng.randint(1, size) for size in sizes)
        total = 1
        for size, count in zip(sizes, counts, strict=True):
            total *= sum(1 for _ in combinations(range(size), count)) if size <= 8 else 10**9
        if total <= placements:
            return SparseCase(case, nest, random_sparsity(rng, nest), counts)


def expected(sparse: SparseCase, weights: Density | None = None) -> SparseCounts:
    """The model's counts, non-zeros anywhere (or the weights' as given)."""
    sizes = [prod(shape) for shape in words_of(sparse.nest)]
    densities: list[Density] = [
        Hypergeometric(count / size, size)
        for count, size in zip(sparse.nonzeros, sizes, strict=False)
    ]
    if weights is not None:
        densities[1] = weights
    counts, _ = kernel_counts(sparse.case)
    ones = np.ones((len(sparse.nest.factors), 3), np.int64)
    return sparse_counts(sparse.nest, sparse.sparsity, [*densities, DENSE], counts, ones)


def placements(shape: tuple[int, ...], count: int) -> list[np.ndarray]:
    """Masks of every placement of so many non-zeros."""
    masks = []
    for places in combinations(range(prod(shape)), count):
        mask = np.zeros(prod(shape), bool)
        mask[list(places)] = True
        masks.append(mask.reshape(shape))
    return masks


def walked(
    sparse: SparseCase, weights: list[np.ndarray] | None = None
) -> tuple[np.ndarray, dict[str, float]]:
    """Mean over every placement (or over given weights) of what the walker counts."""
    walker = SparseWalker(sparse.nest, sparse.sparsity)
    shapes = words_of(sparse.nest)
    inputs = placements(shapes[0], sparse.nonzeros[0])
    if weights is None:
        weights = placements(shapes[1], sparse.nonzeros[1])
    full = np.ones(shapes[2], bool)
    words, computes, times = 0.0, {}, 0
    for data, weight in product(inputs, weights):
        found, fates = walker.run([data, weight, full])
        words, times = words + found, times + 1
        for name, number in fates.items():
            computes[name] = computes.get(name, 0) + number
    return words / times, {name: number / times for name, number in computes.items()}
