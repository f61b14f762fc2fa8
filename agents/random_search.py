"""Random search: independent designs, uniform over the legal ones. The baseline of every study."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import Any

import numpy as np

from archsim.agents.evaluation import BudgetSpent, Evaluator
from archsim.agents.options import AgentOptions, option


@dataclass(frozen=True)
class Options(AgentOptions):
    """Options of random search."""

    batch: int = option(256, "Designs proposed together; does not change the sequence.", low=1)


class RandomSearch:
    """Uniform random designs that keep the constraints of the space; the baseline to beat."""

    encoding = "multidiscrete"
    vectorized = True
    extra = None

    def __init__(self, env: Any, seed: int = 0, options: Options | None = None) -> None:
        self.options = options or Options()
        self.evaluate = Evaluator(env, seed)
        self.rng = np.random.default_rng(seed)

    @staticmethod
    def designs_per_step(options: Options) -> int:
        """Width of the vector environment this agent would like."""
        return options.batch

    def search(self) -> None:
        """Propose until the recorder's budget is spent."""
        with contextlib.suppress(BudgetSpent):
            while True:
                batch = self.evaluate.whole_steps(self.options.batch)
                self.evaluate(self.evaluate.sample(self.rng, batch))
