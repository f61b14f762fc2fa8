"""Coordinate descent: sweep one parameter at a time, keep its best value, restart when stuck.

The honest baseline: what an engineer does by hand. A method that cannot beat it has not earned its
complexity.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from archsim.agents.evaluation import BudgetSpent, Evaluator
from archsim.agents.options import AgentOptions, option


@dataclass(frozen=True)
class Options(AgentOptions):
    """Options of coordinate descent."""

    sweep: int = option(
        8, "Most values tried of a parameter in one sweep: evenly spread ones first.", low=2
    )
    shuffle: bool = option(True, "Visit the parameters in a new random order every round.")


class CoordinateDescent:
    """Sweep one parameter at a time and keep its best value; restart at a random design."""

    encoding = "multidiscrete"
    vectorized = False
    extra = None

    def __init__(self, env: Any, seed: int = 0, options: Options | None = None) -> None:
        self.options = options or Options()
        self.evaluate = Evaluator(env, seed)
        self.rng = np.random.default_rng(seed)
        self.known: dict[bytes, float] = {}

    def score(self, design: np.ndarray) -> float:
        """Reward of a design; one that was evaluated before is remembered."""
        key = design.tobytes()
        if key not in self.known:
            self.known[key] = float(self.evaluate(design[None]).reward[0])
        return self.known[key]

    def candidates(self, value: int, size: int) -> list[int]:
        """Values to try: all of a small range; neighbours and evenly spread ones of a large one."""
        if size <= self.options.sweep:
            return [other for other in range(size) if other != value]
        spread = np.linspace(0, size - 1, self.options.sweep - 1).round().astype(int).tolist()
        near = [value - 1, value + 1]
        return sorted({other for other in spread + near if 0 <= other < size and other != value})

    def search(self) -> None:
        """Descend and restart until the budget is spent or every legal design is known."""
        sizes = self.evaluate.sizes
        with contextlib.suppress(BudgetSpent):
            for start in self.starts():
                self.descend(start, sizes)

    def starts(self) -> Iterator[np.ndarray]:
        """Random unknown designs; once those become rare, all that are left, in order."""
        while True:
            batch = self.evaluate.sample(self.rng, 256)
            unknown = [design for design in batch if design.tobytes() not in self.known]
            if not unknown:
                break
            yield unknown[0]
        for index in np.ndindex(*(int(size) for size in self.evaluate.sizes)):
            design = np.array(index, dtype=np.int64)
            if design.tobytes() not in self.known and self.evaluate.is_legal(design[None])[0]:
                yield design

    def descend(self, design: np.ndarray, sizes: np.ndarray) -> None:
        """Rounds over all parameters until one round changes nothing."""
        reward = self.score(design)
        improved = True
        while improved:
            improved = False
            order = np.arange(len(sizes))
            for column in self.rng.permutation(order) if self.options.shuffle else order:
                for value in self.candidates(int(design[column]), int(sizes[column])):
                    trial = design.copy()
                    trial[column] = value
                    if not self.evaluate.is_legal(trial[None])[0]:
                        continue
                    value_reward = self.score(trial)
                    if value_reward > reward:
                        design, reward, improved = trial, value_reward, True
