"""NSGA-II: a population that spreads along the trade-off curve (Deb et al., IEEE TEC 6, 2002).

pymoo does what defines the method: constrained non-dominated sorting and crowding distance decide
who survives. Mating is done here on whole arrays of value indices (binary tournament on rank and
crowding, uniform crossover, one-value or any-value mutation), because pymoo's own mating loops over
individuals in Python, which would cost more than evaluating the designs.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import Any

import numpy as np

from archsim.agents.evaluation import BudgetSpent, Evaluator, attribute
from archsim.agents.options import AgentOptions, option, require


@dataclass(frozen=True)
class Options(AgentOptions):
    """Options of NSGA-II. To fill a front with 100,000 evaluations, use populations of 500-2000."""

    population: int = option(40, "Designs that survive a generation.", low=4)
    offspring: int | None = option(
        None, "Designs proposed a generation; None is the population.", low=1
    )
    crossover: float = option(
        0.9, "Share of children with two parents (Deb et al. 2002).", low=0.0, high=1.0
    )
    mutation: float | None = option(
        None, "Chance that a parameter mutates; None is 1 / parameters (ibid.).", low=0.0, high=1.0
    )
    step_mutation: float = option(
        0.5, "Share of mutations of ordered parameters that go one value up or down.", low=0, high=1
    )
    unique_tries: int = option(4, "Extra mutations to make a known design new.", low=0)


class Mating:
    """Makes children from a pymoo population; takes the place of ``pymoo.core.mating.Mating``.

    Args:
        evaluate: Knows sizes, order and constraints of the parameters.
        options: Rates.
        rng: Source of randomness.
    """

    def __init__(self, evaluate: Evaluator, options: Options, rng: np.random.Generator) -> None:
        self.evaluate, self.options, self.rng = evaluate, options, rng
        self.sizes, self.ordered = evaluate.sizes, evaluate.ordered
        self.known: set[bytes] = set()

    def do(self, problem: Any, population: Any, count: int, **_: Any) -> Any:
        """Select, cross and mutate; returns ``count`` children as a pymoo population."""
        designs, rank, crowding, violation = population.get("X", "rank", "crowding", "CV")
        violation = violation[:, 0]
        mothers = self.select(violation, rank, crowding, count)
        fathers = self.select(violation, rank, crowding, count)
        take = self.rng.random((count, designs.shape[1])) < 0.5
        take &= self.rng.random((count, 1)) < self.options.crossover
        children = np.where(take, designs[fathers], designs[mothers])
        return type(population).new("X", self.renew(self.mutate(children)))

    def select(
        self, violation: np.ndarray, rank: np.ndarray, crowding: np.ndarray, count: int
    ) -> np.ndarray:
        """i8[count]: winners of binary tournaments by violation, then rank, then crowding."""
        # pymoo ranks feasible designs only; an infeasible one has no rank.
        rank = np.where(violation > 0, 0, np.array(rank, dtype=object)).astype(np.float64)
        crowding = np.where(violation > 0, 0, np.array(crowding, dtype=object)).astype(np.float64)
        place = np.empty(len(rank), dtype=np.int64)
        place[np.lexsort((-crowding, rank, violation))] = np.arange(len(rank))
        drawn = self.rng.integers(len(rank), size=(count, 2))
        return drawn[np.arange(count), place[drawn].argmin(axis=1)]

    def mutate(self, designs: np.ndarray) -> np.ndarray:
        """Change some parameters: one value up or down, or to any other value."""
        rate = self.options.mutation
        rate = 1.0 / len(self.sizes) if rate is None else rate
        changed = (self.rng.random(designs.shape) < rate) & (self.sizes > 1)
        shift = self.rng.integers(1, np.maximum(self.sizes, 2), size=designs.shape)
        anywhere = (designs + shift) % self.sizes
        sign = np.where(self.rng.random(designs.shape) < 0.5, -1, 1)
        # At the edge the only neighbour is inside.
        sign = np.where(designs == 0, 1, np.where(designs == self.sizes - 1, -1, sign))
        step = self.ordered & (self.rng.random(designs.shape) < self.options.step_mutation)
        return np.where(changed, np.where(step, designs + sign, anywhere), designs)

    def renew(self, children: np.ndarray) -> np.ndarray:
        """Make children legal, and mutate again those that were proposed before.

        A set of keys does in linear time what pymoo's duplicate elimination does in quadratic.
        """
        for attempt in range(self.options.unique_tries + 1):
            children = self.evaluate.repair(children)
            keys = self.keys(children)
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

    @staticmethod
    def keys(designs: np.ndarray) -> list[bytes]:
        """One hashable key a design."""
        designs = np.ascontiguousarray(designs, dtype=np.int64)
        return designs.view(f"V{designs.shape[1] * 8}").ravel().tolist()


class Nsga2:
    """NSGA-II (pymoo): a population spread along the trade-off curve, constraints by violation."""

    encoding = "multidiscrete"
    vectorized = True
    extra = "search"

    def __init__(self, env: Any, seed: int = 0, options: Options | None = None) -> None:
        require("pymoo", self.extra)
        self.options = options or Options()
        self.evaluate = Evaluator(env, seed)
        self.rng = np.random.default_rng(seed)
        self.names = tuple(attribute(env, "objective_names") or ())
        self.batch = self.evaluate.whole_steps(self.options.offspring or self.options.population)
        self.mating = Mating(self.evaluate, self.options, self.rng)

    @staticmethod
    def designs_per_step(options: Options) -> int:
        """Width of the vector environment this agent would like."""
        return options.offspring or options.population

    def algorithm(self) -> Any:
        """pymoo's NSGA-II, set up on a problem that is evaluated elsewhere."""
        from pymoo.algorithms.moo.nsga2 import NSGA2
        from pymoo.core.problem import Problem
        from pymoo.core.termination import NoTermination

        sizes = self.evaluate.sizes
        problem = Problem(
            n_var=len(sizes),
            n_obj=max(1, len(self.names)),
            n_ieq_constr=1,
            xl=np.zeros(len(sizes)),
            xu=sizes - 1,
        )
        algorithm = NSGA2(
            pop_size=self.options.population,
            n_offsprings=self.batch,
            sampling=self.mating.renew(self.evaluate.sample(self.rng, self.batch)),
            mating=self.mating,
            eliminate_duplicates=False,
            output=None,
        )
        seed = int(self.rng.integers(2**31))
        algorithm.setup(problem, termination=NoTermination(), seed=seed, verbose=False)
        return algorithm

    def search(self) -> None:
        """Evolve until the recorder's budget is spent."""
        algorithm = self.algorithm()
        with contextlib.suppress(BudgetSpent):
            while True:
                children = algorithm.ask()
                scores = self.evaluate(children.get("X").astype(np.int64))
                # With no named objectives the scalar one is searched.
                metrics = [scores.metric(name) for name in self.names] or [scores.objective]
                children.set("F", np.stack(metrics, axis=1))
                # CV is what pymoo would sum up from G, a Python call for every design.
                children.set("CV", scores.violation[:, None])
                algorithm.tell(infills=children)
