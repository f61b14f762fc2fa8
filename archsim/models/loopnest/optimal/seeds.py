"""A first incumbent: a small, deterministic evolution over perfect tilings."""

from __future__ import annotations

import numpy as np

from archsim.models.loopnest import kernel as k
from archsim.models.loopnest.optimal import outside as lb
from archsim.models.loopnest.optimal.enumeration import judge_rows
from archsim.models.loopnest.optimal.space import Mapspace

#: Survivors and children of a round; rounds, and rounds for the latency, whose bounds are flat
#: (many mappings keep all units busy): there the search needs a guide.
POPULATION, CHILDREN, ROUNDS, MORE_ROUNDS = 16, 256, 40, 160


def primes(n: int) -> list[int]:
    """Prime factors of n with multiplicity."""
    found, p = [], 2
    while p * p <= n:
        while n % p == 0:
            found.append(p)
            n //= p
        p += 1
    return found + [n] * (n > 1)


def first_guess(space: Mapspace, goal: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A good mapping, without any guarantee.

    Returns:
        factors [N, S, D], orders [N, S, D], keep [N, S, 3]: the last generation; N is 0 where the
        space has constraints (the guess knows nothing of them).
    """
    slots, dims = len(space.nest.names), len(space.problem.dims)
    if space.constraints.slots:
        none = np.zeros((0, slots, dims))
        return none, none.astype(np.int64), np.zeros((0, slots, 3), bool)
    rng = np.random.default_rng(1)
    parts = [(d, p) for d, e in enumerate(space.extents) for p in primes(e)]
    dim = np.array([d for d, _ in parts], np.int64)
    prime = np.array([p for _, p in parts], np.float64)
    masks = np.array(space.masks())
    perms = space.orders.perm
    width = np.array(
        [space.width(s) if space.nest.fanout[s] else np.inf for s in range(slots)]
    )  # fmt: skip
    place = np.zeros((CHILDREN, len(parts)), np.int64)
    place[1:] = rng.integers(0, slots, (CHILDREN - 1, len(parts)))
    order = rng.integers(0, len(perms), (CHILDREN, slots))
    mask = np.where(rng.random(CHILDREN) < 0.8, 0, rng.integers(0, len(masks), CHILDREN))
    best, scores = None, None
    rounds = MORE_ROUNDS if goal[lb.KIND] == lb.LATENCY else ROUNDS
    for _ in range(rounds):
        factors = _factors(place, dim, prime, slots, dims)
        results = judge_rows(space, factors, perms[order], masks[mask])
        crowded = np.maximum(factors.prod(axis=2) / width, 1.0).prod(axis=1) - 1.0
        misfit = np.maximum(results[:, k.OVERFLOW], 0.0) + crowded
        value = _values(goal, results)
        value = np.where(misfit > 0, 1e300 * (1 + np.minimum(misfit, 1e6)), value)
        group = (place, order, mask, value, results[:, k.ENERGY_J])
        if best is not None:
            group = tuple(np.concatenate(pair) for pair in zip(best, group, strict=True))
        keep = np.lexsort((group[4], group[3]))[:POPULATION]  # of the fastest, the most frugal
        best = tuple(column[keep] for column in group)
        scores = best[3]
        place, order, mask = (column[rng.integers(0, POPULATION, CHILDREN)] for column in best[:3])
        parent = rng.integers(0, min(POPULATION, len(scores)), CHILDREN)
        place, order, mask = best[0][parent], best[1][parent], best[2][parent]
        rows = np.arange(CHILDREN)
        for chance in (1.0, 0.5):
            if len(parts):
                moved = rng.random(CHILDREN) < chance
                one = rng.integers(0, len(parts), CHILDREN)
                place[rows[moved], one[moved]] = rng.integers(0, slots, moved.sum())
        turned = rng.random(CHILDREN) < 0.4
        order[rows[turned], rng.integers(0, slots, turned.sum())] = rng.integers(
            0, len(perms), turned.sum()
        )
        other = rng.random(CHILDREN) < 0.1
        mask[other] = rng.integers(0, len(masks), other.sum())
    fit = best[3] < 1e299
    place, order, mask = (column[fit] for column in best[:3])
    return _factors(place, dim, prime, slots, dims), perms[order], masks[mask]


def _factors(place, dim, prime, slots: int, dims: int) -> np.ndarray:
    factors = np.ones((len(place), slots, dims))
    rows = np.arange(len(place))
    for i in range(len(dim)):
        factors[rows, place[:, i], dim[i]] *= prime[i]
    return factors


def _values(goal: np.ndarray, results: np.ndarray) -> np.ndarray:
    energy, cycles = results[:, k.ENERGY_J], results[:, k.CYCLES]
    kind = goal[lb.KIND]
    if kind == lb.ENERGY:
        return np.where(cycles > goal[lb.MOST], 1e299, energy)
    if kind == lb.LATENCY:
        return cycles
    if kind == lb.SUM:
        return goal[lb.WEIGHT_E] * energy + goal[lb.WEIGHT_D] * cycles
    if kind == lb.PRODUCT:
        return energy ** goal[lb.WEIGHT_E] * cycles ** goal[lb.WEIGHT_D]
    return energy * cycles
