"""CMA-ES: a Gaussian that learns the shape of the landscape (Hansen, arXiv:1604.00772), by cma.

Searches the unit cube of the box encoding. Values are finite there, so the landscape is a stair:
the step size of every coordinate is kept from shrinking below a part of a stair where the space
tells how many values a parameter has, and the search restarts with a larger population (Auger and
Hansen, "A restart CMA evolution strategy with increasing population size", CEC 2005) when it
stalls.
"""

from __future__ import annotations

import contextlib
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np

from archsim.agents.evaluation import BudgetSpent, Evaluator
from archsim.agents.options import AgentOptions, option, require


@dataclass(frozen=True)
class Options(AgentOptions):
    """Options of CMA-ES."""

    population: int = option(
        12, "Designs a generation; 4 + 3 ln(parameters) in Hansen 2016: 9 to 13 for 6 to 20.", low=3
    )
    sigma: float = option(
        0.3, "First standard deviation in the unit cube (the manual's advice).", low=1e-3, high=1.0
    )
    growth: int = option(2, "Factor on the population at a restart (Auger and Hansen 2005).", low=1)
    stall: int = option(12, "Generations without a better design before a restart.", low=1)
    stair: float = option(
        0.2, "Smallest standard deviation, in values of a parameter.", low=0.0, high=1.0
    )


class Cmaes:
    """CMA-ES (cma) on the unit cube, with restarts and growing populations."""

    encoding = "box"
    vectorized = True
    extra = "search"

    def __init__(self, env: Any, seed: int = 0, options: Options | None = None) -> None:
        require("cma", self.extra)
        self.options = options or Options()
        self.evaluate = Evaluator(env, seed)
        self.rng = np.random.default_rng(seed)
        space = self.evaluate.action_space
        self.low = space.low.ravel().astype(np.float64)
        self.high = space.high.ravel().astype(np.float64)

    @staticmethod
    def designs_per_step(options: Options) -> int:
        """Width of the vector environment this agent would like."""
        return options.population

    def floors(self) -> np.ndarray:
        """f8[P]: smallest standard deviations, from the number of values where it is known."""
        if self.evaluate.space is None:
            return np.zeros(len(self.low))
        return self.options.stair / self.evaluate.space.cardinalities

    def strategy(self, population: int, start: np.ndarray) -> Any:
        """A fresh CMA-ES. One spare coordinate in one dimension, which cma does not support."""
        import cma

        floors = self.floors()
        if len(start) == 1:
            start, floors = np.append(start, 0.5), np.append(floors, 0.0)
        settings = {
            "bounds": [0, 1],
            "popsize": population,
            # Drawing from our generator leaves NumPy's global state alone; NaN: do not seed it.
            "seed": float("nan"),
            "randn": lambda *shape: self.rng.standard_normal(shape),
            "minstd": floors,
            "verbose": -9,
            "verb_log": 0,
            "verb_disp": 0,
        }
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return cma.CMAEvolutionStrategy(start, self.options.sigma, settings)

    def search(self) -> None:
        """Descend and restart until the recorder's budget is spent."""
        dimensions = len(self.low)
        population = self.options.population
        start = np.full(dimensions, 0.5)
        with contextlib.suppress(BudgetSpent):
            while True:
                self.descend(self.evaluate.whole_steps(population), start)
                population = min(population * self.options.growth, 4096)
                start = self.rng.uniform(0.2, 0.8, dimensions)

    def descend(self, population: int, start: np.ndarray) -> None:
        """Generations from one start until nothing better is found."""
        strategy = self.strategy(population, start)
        best, waiting = -np.inf, 0
        while waiting < self.options.stall and not strategy.stop():
            points = strategy.ask()
            unit = np.asarray(points)[:, : len(self.low)]
            actions = self.low + unit * (self.high - self.low)
            dtype = self.evaluate.action_space.dtype
            actions = np.clip(actions.astype(dtype), self.low, self.high)
            rewards = self.evaluate(actions).reward
            strategy.tell(points, (-rewards).tolist())
            waiting = 0 if rewards.max() > best else waiting + 1
            best = max(best, float(rewards.max()))
