"""Simulated annealing with restarts (Kirkpatrick, Gelatt, Vecchi, Science 220, 1983).

One design at a time: change a few parameters, keep the result if it is better, or with probability
exp(difference / temperature) if it is worse. The first temperature is measured, not guessed: the
spread of the rewards of a few random designs (Ben-Ameur, Comput. Optim. Appl. 29, 2004, argues for
a temperature set from sampled differences).
"""

from __future__ import annotations

import contextlib
import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from archsim.agents.evaluation import BudgetSpent, Evaluator
from archsim.agents.options import AgentOptions, option


@dataclass(frozen=True)
class Options(AgentOptions):
    """Options of simulated annealing."""

    warmup: int = option(8, "Random designs that set the temperature; the best starts.", low=2)
    initial_temperature: float = option(
        0.5, "First temperature, in interquartile ranges of the warm-up rewards.", low=1e-9
    )
    cooling: float = option(
        0.97, "Factor on the temperature after every evaluation.", low=0.1, high=0.99999
    )
    patience: int = option(
        60, "Evaluations without a better design before a restart from a random one.", low=1
    )
    mutations: float = option(
        1.5, "Mean number of parameters changed by a move (at least one is).", low=1.0
    )
    reach: float = option(
        0.3, "Longest step of an ordered parameter, as a share of its values.", low=0.0, high=1.0
    )


class Annealing:
    """Simulated annealing on index vectors, its temperature measured, with random restarts."""

    encoding = "multidiscrete"
    vectorized = False
    extra = None

    def __init__(self, env: Any, seed: int = 0, options: Options | None = None) -> None:
        self.options = options or Options()
        self.evaluate = Evaluator(env, seed)
        self.rng = np.random.default_rng(seed)

    def score(self, design: np.ndarray) -> float:
        """Reward of one design."""
        return float(self.evaluate(design[None]).reward[0])

    def move(self, design: np.ndarray) -> np.ndarray:
        """A neighbour that keeps the constraints of the space."""
        sizes, ordered = self.evaluate.sizes, self.evaluate.ordered
        free = np.flatnonzero(sizes > 1)
        if not len(free):
            return design
        for _ in range(32):
            child = design.copy()
            chosen = free[self.rng.random(len(free)) < self.options.mutations / len(free)]
            for column in chosen if len(chosen) else self.rng.choice(free, 1):
                size = int(sizes[column])
                if ordered[column]:
                    reach = max(1, round(self.options.reach * size))
                    step = int(self.rng.integers(1, reach + 1)) * int(self.rng.choice((-1, 1)))
                    target = int(child[column]) + step
                    # A step over the edge turns back, so that edge values stay reachable.
                    if not 0 <= target < size:
                        target = int(child[column]) - step
                    child[column] = min(max(target, 0), size - 1)
                else:
                    child[column] = (child[column] + self.rng.integers(1, size)) % size
            if self.evaluate.is_legal(child[None])[0]:
                return child
        return self.evaluate.repair(child[None])[0]

    def search(self) -> None:
        """Anneal until the recorder's budget is spent."""
        with contextlib.suppress(BudgetSpent):
            while True:
                self.anneal()

    def anneal(self) -> None:
        """One descent from the best of a few random designs to where nothing better is found."""
        designs = self.evaluate.sample(self.rng, self.options.warmup)
        rewards = np.array([self.score(design) for design in designs])
        current, reward = designs[rewards.argmax()], float(rewards.max())
        lower, upper = np.percentile(rewards, (25, 75))
        temperature = self.options.initial_temperature * float(upper - lower) or 1e-9
        best, since = reward, 0
        while since < self.options.patience:
            candidate = self.move(current)
            value = self.score(candidate)
            accept = math.exp(min(0.0, (value - reward) / max(temperature, 1e-300)))
            if self.rng.random() < accept:
                current, reward = candidate, value
            since = 0 if value > best else since + 1
            best = max(best, value)
            temperature *= self.options.cooling
