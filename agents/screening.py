"""Screening: predict many designs by a learned model, evaluate the promising ones for real.

Multi-fidelity search in its plainest form (promotion by rank): every round draws designs at random
and around the best ones known, ranks them by the proxy that ``archsim proxy train`` made, and has
the environment evaluate the best unknown ones. Designs the proxy does not trust itself on are
promoted at most ``doubtful`` a round. Only real evaluations count and are recorded.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import Any

import numpy as np

from archsim.agents.evaluation import BudgetSpent, Evaluator, attribute
from archsim.agents.options import AgentOptions, option
from archsim.errors import InputError


@dataclass(frozen=True)
class Options(AgentOptions):
    """Options of screening."""

    model: str = option("", "File of `archsim proxy train`, for this very problem.")
    candidates: int = option(20_000, "Designs predicted a round.", low=10)
    promoted: int = option(16, "Designs evaluated for real a round.", low=1)
    doubtful: int = option(
        2, "Of these, at most so many that the model does not trust itself on.", low=0
    )
    local: float = option(0.3, "Share of candidates near the best designs.", low=0.0, high=1.0)
    seed: int = option(0, "Added to the seed of the run.", low=0)


class Screening:
    """Screen designs by a learned model (archsim proxy train), evaluate the promising ones."""

    encoding = "multidiscrete"
    vectorized = True
    extra = None

    def __init__(self, env: Any, seed: int = 0, options: Options | None = None) -> None:
        self.options = options or Options()
        self.evaluate = Evaluator(env, seed)
        self.rng = np.random.default_rng([seed, self.options.seed])
        if not self.options.model:
            raise InputError(
                "screening needs a learned model",
                field="model",
                expected="a file of archsim proxy train",
            )
        self.predict = attribute(env, "proxy")(self.options.model)
        self.count = self.evaluate.whole_steps(self.options.promoted)
        self.known: set[bytes] = set()

    @staticmethod
    def designs_per_step(options: Options) -> int:
        """Width of the vector environment this agent would like."""
        return options.promoted

    def candidates(self, designs: np.ndarray, rewards: np.ndarray) -> np.ndarray:
        """Random designs, and copies of the best ones with one or two values changed."""
        local = int(self.options.local * self.options.candidates) if len(designs) else 0
        drawn = self.evaluate.sample(self.rng, self.options.candidates - local)
        if not local:
            return drawn
        best = designs[np.argsort(-rewards, kind="stable")[: self.options.promoted]]
        near = best[self.rng.integers(len(best), size=local)].copy()
        for _ in range(2):
            columns = self.rng.integers(near.shape[1], size=local)
            near[np.arange(local), columns] = self.rng.integers(self.evaluate.sizes[columns])
        return np.concatenate([drawn, self.evaluate.repair(near)])

    def promote(self, candidates: np.ndarray) -> np.ndarray:
        """The most promising designs that were not evaluated yet, `count` of them."""
        found = self.predict(candidates)
        chosen: list[np.ndarray] = []
        doubtful = 0
        fresh: set[bytes] = set()
        passes = (True, False)  # the second one only if the first finds too few
        for careful in passes:
            for row in np.argsort(found["objective"], kind="stable"):
                if len(chosen) == self.count:
                    break
                key = candidates[row].tobytes()
                if key in fresh or (careful and key in self.known):
                    continue
                strange = bool(found["out_of_distribution"][row])
                if careful and strange and doubtful >= self.options.doubtful:
                    continue
                doubtful += strange
                fresh.add(key)
                chosen.append(candidates[row])
        while len(chosen) < self.count:  # fewer distinct candidates than places
            chosen.append(chosen[0])
        self.known |= fresh
        return np.stack(chosen)

    def search(self) -> None:
        """Predict, promote, evaluate, until the recorder's budget is spent."""
        designs = np.empty((0, len(self.evaluate.sizes)), dtype=np.int64)
        rewards = np.empty(0)
        with contextlib.suppress(BudgetSpent):
            while True:
                chosen = self.promote(self.candidates(designs, rewards))
                designs = np.concatenate([designs, chosen])
                rewards = np.concatenate([rewards, self.evaluate(chosen).reward])
