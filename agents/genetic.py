"""A genetic algorithm: tournament selection, uniform crossover, mutation, elitism.

The textbook form (Goldberg, "Genetic Algorithms", 1989; uniform crossover: Syswerda, ICGA 1989):
a generation is one batch, parents and children compete for the next (the "plus" strategy), and a
design that was proposed before is mutated again rather than paid for twice.
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
    """Options of the genetic algorithm."""

    population: int = option(24, "Designs that survive, and children a generation.", low=2)
    tournament: int = option(3, "Designs drawn for each parent; the best one wins.", low=1)
    crossover: float = option(
        0.9, "Share of children with two parents; the others copy one.", low=0.0, high=1.0
    )
    mutation: float | None = option(
        None, "Chance that a parameter mutates; None is 1.5 / parameters.", low=0.0, high=1.0
    )
    step_mutation: float = option(
        0.5, "Share of mutations of ordered parameters that go one value up or down.", low=0, high=1
    )
    unique_tries: int = option(8, "Extra mutations to make a known design new.", low=0)


class Genetic:
    """Genetic algorithm: tournament selection, uniform crossover, mutation, elitism."""

    encoding = "multidiscrete"
    vectorized = True
    extra = None

    def __init__(self, env: Any, seed: int = 0, options: Options | None = None) -> None:
        self.options = options or Options()
        self.evaluate = Evaluator(env, seed)
        self.rng = np.random.default_rng(seed)
        self.sizes, self.ordered = self.evaluate.sizes, self.evaluate.ordered
        self.children = self.evaluate.whole_steps(self.options.population)
        self.known: set[bytes] = set()

    @staticmethod
    def designs_per_step(options: Options) -> int:
        """Width of the vector environment this agent would like."""
        return options.population

    def select(self, rewards: np.ndarray) -> np.ndarray:
        """i8[children]: the winners of as many tournaments."""
        drawn = self.rng.integers(len(rewards), size=(self.children, self.options.tournament))
        return drawn[np.arange(self.children), rewards[drawn].argmax(axis=1)]

    def cross(self, mothers: np.ndarray, fathers: np.ndarray) -> np.ndarray:
        """Children that take every parameter from either parent."""
        take = self.rng.random(mothers.shape) < 0.5
        take &= self.rng.random((len(mothers), 1)) < self.options.crossover
        return np.where(take, fathers, mothers)

    def mutate(self, designs: np.ndarray) -> np.ndarray:
        """Change some parameters: one value up or down, or to any other value."""
        rate = self.options.mutation
        rate = min(1.0, 1.5 / len(self.sizes)) if rate is None else rate
        changed = (self.rng.random(designs.shape) < rate) & (self.sizes > 1)
        shift = self.rng.integers(1, np.maximum(self.sizes, 2), size=designs.shape)
        anywhere = (designs + shift) % self.sizes
        sign = self.rng.choice((-1, 1), size=designs.shape)
        # At the edge the only neighbour is inside.
        sign = np.where(designs == 0, 1, np.where(designs == self.sizes - 1, -1, sign))
        step = self.ordered & (self.rng.random(designs.shape) < self.options.step_mutation)
        return np.where(changed, np.where(step, designs + sign, anywhere), designs)

    def renew(self, children: np.ndarray) -> np.ndarray:
        """Make children legal, and mutate again those that were proposed before."""
        for attempt in range(self.options.unique_tries + 1):
            children = self.evaluate.repair(children)
            keys = [child.tobytes() for child in children]
            fresh: set[bytes] = set()
            stale = np.zeros(len(keys), dtype=bool)
            for row, key in enumerate(keys):
                stale[row] = key in self.known or key in fresh
                fresh.add(key)
            if attempt == self.options.unique_tries or not stale.any():
                break
            children = children.copy()
            children[stale] = self.mutate(children[stale])
        self.known.update(keys)
        return children

    def search(self) -> None:
        """Evolve until the recorder's budget is spent."""
        with contextlib.suppress(BudgetSpent):
            designs = self.renew(self.evaluate.sample(self.rng, self.children))
            rewards = self.evaluate(designs).reward
            while True:
                mothers, fathers = self.select(rewards), self.select(rewards)
                children = self.mutate(self.cross(designs[mothers], designs[fathers]))
                children = self.renew(children)
                designs = np.concatenate([designs, children])
                rewards = np.concatenate([rewards, self.evaluate(children).reward])
                survivors = np.argsort(-rewards, kind="stable")[: self.options.population]
                designs, rewards = designs[survivors], rewards[survivors]
