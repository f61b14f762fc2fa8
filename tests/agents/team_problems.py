"""Two made-up controllers: one whose choices add up, one whose choices must fit one another."""

from __future__ import annotations

import numpy as np

from archsim.envs.objective import Objective
from archsim.space import DesignSpace, Parameter

#: Values of each parameter: as many as ArchGym's memory controller has.
SIZES = (4, 3, 3, 8, 2, 2, 8, 8, 3, 128)
ROLES = ("controller",) * 4 + ("interconnect",) + ("memory",) * 3 + ("interconnect",) * 2


class Additive:
    """Every choice costs by itself; of 28,311,552 designs one has cost 0."""

    metric_names = ("latency_s",)

    def __init__(self, seed: int = 0) -> None:
        self.space = DesignSpace(
            [
                Parameter(f"p{at}", tuple(range(n)), role=role, ordered=n > 4)
                for at, (n, role) in enumerate(zip(SIZES, ROLES, strict=True))
            ]
        )
        self.objective = Objective(("latency_s",))
        self.features = np.zeros(1, dtype=np.float32)
        rng = np.random.default_rng([77, seed])
        self.best = rng.integers(self.space.cardinalities)
        self.weights = rng.dirichlet(np.full(len(SIZES), 2.0))

    def distance(self, indices: np.ndarray) -> np.ndarray:
        """f8[B, P]: how far each choice is from the best one, 0 to 1."""
        apart = np.abs(indices - self.best)
        ordered = np.array(SIZES) > 4
        return np.where(ordered, apart / np.array(SIZES), apart != 0)

    def cost(self, indices: np.ndarray) -> np.ndarray:
        """f8[B] in [0, 1]."""
        return self.distance(indices) @ self.weights

    def evaluate(self, indices: np.ndarray) -> dict[str, np.ndarray]:
        """Metrics of designs i8[B, P]."""
        metrics = {"latency_s": np.exp(4.0 * self.cost(np.atleast_2d(indices)))}
        return {**metrics, **self.objective.score(metrics)}


class Matching(Additive):
    """A choice pays only beside the right choice of a neighbour: pairs that fit half cost more."""

    def cost(self, indices: np.ndarray) -> np.ndarray:
        """f8[B] in [0, 1]: of every pair of neighbours, one right choice is worse than none."""
        off = self.distance(indices)
        pairs = [(at, (at + 1) % len(SIZES)) for at in range(len(SIZES))]
        shares = [
            np.maximum(off[:, a] * (1.0 - off[:, b]), off[:, b] * (1.0 - off[:, a]))
            + 0.5 * off[:, a] * off[:, b]
            for a, b in pairs
        ]
        return np.stack(shares, axis=1) @ (self.weights + np.roll(self.weights, -1)) / 2.0
