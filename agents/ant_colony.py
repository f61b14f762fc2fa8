"""Ant colony optimisation: a pheromone on every value of every parameter.

Max-min ant system (Stuetzle and Hoos, FGCS 16, 2000): ants build designs value by value, all at
once; pheromone evaporates, and the best ants lay new one, between bounds that keep every value
alive. ``greediness`` is the pseudo-random proportional rule of the ant colony system (Dorigo and
Gambardella, IEEE TEC 1, 1997): that share of choices takes the strongest value outright.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import Any

import numpy as np

from archsim.agents.evaluation import BudgetSpent, Evaluator
from archsim.agents.options import AgentOptions, option


@dataclass(frozen=True)
class Options(AgentOptions):
    """Options of the ant colony."""

    ants: int = option(16, "Designs a generation.", low=1)
    evaporation: float = option(0.15, "Share of pheromone lost a generation.", low=0.0, high=1.0)
    greediness: float = option(
        0.1, "Share of choices that take the strongest value.", low=0.0, high=1.0
    )
    elites: int = option(3, "Best designs of the search that lay pheromone.", low=1)
    floor: float = option(
        0.02, "Weakest pheromone, as a share of the uniform one.", low=1e-6, high=1.0
    )
    spread: float = option(
        0.25,
        "Share of a deposit that goes to the two neighbours of an ordered value.",
        low=0,
        high=1,
    )
    stagnation: int = option(
        12, "Generations without a better design before all pheromone is reset.", low=1
    )


class AntColony:
    """Ant colony (max-min ant system): pheromone per parameter value, laid by the best designs."""

    encoding = "multidiscrete"
    vectorized = True
    extra = None

    def __init__(self, env: Any, seed: int = 0, options: Options | None = None) -> None:
        self.options = options or Options()
        self.evaluate = Evaluator(env, seed)
        self.rng = np.random.default_rng(seed)
        self.sizes, self.ordered = self.evaluate.sizes, self.evaluate.ordered
        self.ants = self.evaluate.whole_steps(self.options.ants)
        self.reset()

    @staticmethod
    def designs_per_step(options: Options) -> int:
        """Width of the vector environment this agent would like."""
        return options.ants

    def reset(self) -> None:
        """The same pheromone on every value, and no memory of good designs."""
        self.pheromone = [np.full(size, 1.0 / size) for size in self.sizes]
        self.elite = np.empty((0, len(self.sizes)), dtype=np.int64)
        self.elite_rewards = np.empty(0)

    def build(self, count: int) -> np.ndarray:
        """i8[count, P]: designs drawn value by value from the pheromone."""
        designs = np.empty((count, len(self.sizes)), dtype=np.int64)
        for column, trail in enumerate(self.pheromone):
            cumulative = np.cumsum(trail / trail.sum())
            drawn = np.searchsorted(cumulative, self.rng.random(count), side="right")
            greedy = self.rng.random(count) < self.options.greediness
            designs[:, column] = np.where(greedy, trail.argmax(), drawn)
        return np.minimum(designs, self.sizes - 1)

    def walk(self) -> np.ndarray:
        """One generation of ants; those that break a constraint walk again, then are repaired."""
        designs = self.build(self.ants)
        for _ in range(16):
            illegal = np.flatnonzero(~self.evaluate.is_legal(designs))
            if not len(illegal):
                break
            designs[illegal] = self.build(len(illegal))
        return self.evaluate.repair(designs)

    def lay(self) -> None:
        """Evaporate, then let the elite lay pheromone: the better its rank, the more."""
        weights = 1.0 / np.arange(1, len(self.elite) + 1)
        weights *= self.options.evaporation / weights.sum()
        for column, trail in enumerate(self.pheromone):
            trail *= 1.0 - self.options.evaporation
            chosen = self.elite[:, column]
            aside = self.options.spread if self.ordered[column] else 0.0
            np.add.at(trail, chosen, weights * (1.0 - aside))
            for neighbour in (chosen - 1, chosen + 1):
                np.add.at(trail, neighbour.clip(0, len(trail) - 1), weights * aside / 2)
            np.maximum(trail, self.options.floor / len(trail), out=trail)

    def search(self) -> None:
        """Send generations of ants until the recorder's budget is spent."""
        waiting = 0
        with contextlib.suppress(BudgetSpent):
            while True:
                designs = self.walk()
                rewards = self.evaluate(designs).reward
                improved = not len(self.elite) or rewards.max() > self.elite_rewards[0]
                waiting = 0 if improved else waiting + 1
                designs = np.concatenate([self.elite, designs])
                rewards = np.concatenate([self.elite_rewards, rewards])
                _, first = np.unique(designs, axis=0, return_index=True)
                first.sort()
                best = first[np.argsort(-rewards[first], kind="stable")][: self.options.elites]
                self.elite, self.elite_rewards = designs[best], rewards[best]
                self.lay()
                if waiting >= self.options.stagnation:
                    self.reset()
                    waiting = 0
