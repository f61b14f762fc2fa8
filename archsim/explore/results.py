"""Read a run directory: designs, fronts, and the comparison of its agents."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from archsim.errors import InputError
from archsim.explore import statistics as stats
from archsim.explore.records import Run
from archsim.explore.store import STORE_NAME, Store

#: An agent reached the goal of the sample-efficiency figure when it is this close to the best
#: objective any agent found, as a share of the spread between that and the median feasible design.
TARGET_SHARE = 0.05


class Results:
    """Everything stored in a run directory, as columns.

    Args:
        directory: The run directory.

    Attributes:
        directory: The run directory.
        meta: Text kept in the store (scenario digest, versions, ...).
        runs: All runs.
        evaluations: All evaluations, sorted by run and order.
        objectives: Names of the metrics to minimise.
        limits: Metric name -> upper bound.

    Raises:
        InputError: There is no readable store, or it holds no evaluation yet.
    """

    def __init__(self, directory: str | Path) -> None:
        import json

        self.directory = Path(directory)
        path = self.directory / STORE_NAME
        if not path.is_file():
            raise InputError(
                "no results here",
                source=self.directory,
                expected=f"a run directory with {STORE_NAME}, as `archsim run` makes it",
            )
        with Store(path, readonly=True) as store:
            self.meta = store.meta
            self.layout = store.layout
            self.runs = tuple(store.runs())
            self.evaluations = store.evaluations()
        if not len(self.evaluations.run):
            raise InputError("no evaluation is stored yet", source=self.directory)
        self.objectives: tuple[str, ...] = tuple(json.loads(self.meta["objectives"]))
        self.limits: dict[str, float] = json.loads(self.meta["limits"])
        self.budget = int(self.meta.get("budget", 0))

    @cached_property
    def problem(self) -> Any:
        """The scenario's problem, opened anew (to evaluate further designs)."""
        from archsim.explore.problem import open_problem

        opened = open_problem(self.directory / "scenario.yaml")
        if opened.digest != self.meta["digest"]:
            raise InputError(
                "the scenario beside the results is not the one they were made with",
                source=self.directory / "scenario.yaml",
            )
        return opened

    @property
    def metrics(self) -> dict[str, np.ndarray]:
        """name -> float64[D] of the distinct designs."""
        return self.evaluations.designs.metrics

    @property
    def indices(self) -> np.ndarray:
        """int64[D, P] of the distinct designs."""
        return self.evaluations.designs.indices

    @cached_property
    def feasible(self) -> np.ndarray:
        """bool[D] of the distinct designs."""
        return self.metrics["feasible"] > 0

    @cached_property
    def points(self) -> np.ndarray:
        """float64[D, K] objectives of the distinct designs."""
        return np.stack([self.metrics[name] for name in self.objectives], axis=1)

    @cached_property
    def front(self) -> np.ndarray:
        """int64[F] designs on the front of everything stored, by the first objective."""
        return stats.pareto_front(self.points, self.feasible)

    @cached_property
    def knee(self) -> int | None:
        """The knee of that front; None when nothing is feasible."""
        if not len(self.front):
            return None
        return int(self.front[stats.knee(self.points[self.front])])

    def chosen(self, by: str = "objective") -> int | None:
        """The best feasible design by one metric; of equals, the one with the better objective.

        Args:
            by: Metric to minimise.

        Raises:
            InputError: No such metric.
        """
        if by not in self.metrics:
            raise InputError("no such metric", found=by, expected=", ".join(sorted(self.metrics)))
        rows = np.flatnonzero(self.feasible)
        if not len(rows):
            return None
        ties = (*self.indices[rows].T[::-1], self.metrics["objective"][rows])
        keys = (*ties, self.metrics[by][rows])
        return int(rows[np.lexsort(keys)[0]])

    def design_rows(self, phase: str | None = None) -> np.ndarray:
        """int64: distinct designs some run of a phase asked for."""
        ids = [run.id for run in self.runs if phase in (None, run.phase)]
        return np.unique(self.evaluations.design[np.isin(self.evaluations.run, ids)])

    def of_run(self, run: Run) -> np.ndarray:
        """int64[E]: the designs a run asked for, in order."""
        lows, highs = (np.searchsorted(self.evaluations.run, run.id, side) for side in _SIDES)
        return self.evaluations.design[lows:highs]

    def compared(self) -> dict[str, list[Run]]:
        """Runs that may be compared, by agent: same phase and budget, done, not failed.

        While an exploration is under way and none is done, the unfinished ones are returned.
        """
        same = [
            run
            for run in self.runs
            if run.phase == "compare" and run.budget == self.budget and run.count
        ]
        ended = [run for run in same if run.status == "done"]
        groups: dict[str, list[Run]] = {}
        for run in ended or same:
            groups.setdefault(run.label, []).append(run)
        return groups


_SIDES: tuple[Any, Any] = ("left", "right")


@dataclass(frozen=True)
class AgentScore:
    """How one agent did under the common budget.

    Attributes:
        label: Agent and options.
        runs: Number of seeds.
        objective: Best-so-far objective over the grid: interquartile mean and band.
        hypervolume: Hypervolume over the grid: interquartile mean and band.
        final: float64[R] best objective of every run.
        igd_plus: float64[R] IGD+ of every run's front against the pooled front.
        target: float64[R] evaluations until the target was reached.
        feasible: Share of feasible evaluations.
        first_feasible: float64[R] evaluations until the first feasible design.
        distinct: Mean number of distinct designs of a run.
    """

    label: str
    runs: int
    objective: stats.Band
    hypervolume: stats.Band
    final: np.ndarray
    igd_plus: np.ndarray
    target: np.ndarray
    feasible: float
    first_feasible: np.ndarray
    distinct: float


@dataclass(frozen=True)
class Comparison:
    """All agents under one budget; evaluations that filled the front are not part of it.

    Attributes:
        grid: int64[T] evaluations at which the curves are sampled.
        budget: The common budget.
        best: Best objective any of them found.
        target: Objective that counts as reached (see `TARGET_SHARE`).
        scores: One entry an agent, best first (by final interquartile mean).
        improvement: float64[A, A] chance that a run of the row's agent ends better than one of
            the column's, same order.
    """

    grid: np.ndarray
    budget: int
    best: float
    target: float
    scores: tuple[AgentScore, ...]
    improvement: np.ndarray


def compare(results: Results, *, seed: int = 0, resamples: int = 2000) -> Comparison | None:
    """Compare the agents of a run directory under their common budget.

    Args:
        results: The run directory.
        seed: Seed of the bootstrap.
        resamples: Bootstrap replicates.

    Returns:
        The comparison; None when no run can be compared or nothing feasible was found.
    """
    groups = results.compared()
    sequences = {label: [results.of_run(run) for run in runs] for label, runs in groups.items()}
    if not sequences:
        return None
    pooled = np.unique(np.concatenate([s for group in sequences.values() for s in group]))
    pooled = pooled[results.feasible[pooled]]
    if not len(pooled):
        return None
    points = results.points[pooled]
    front = stats.pareto_front(points)
    # Scaled over the final fronts of all runs, so that every run has some volume.
    ends = [
        results.points[rows][stats.pareto_front(results.points[rows], results.feasible[rows])]
        for group in sequences.values()
        for rows in group
    ]
    reached = np.concatenate(ends)
    scale = stats.Scale.from_points(reached, np.arange(len(reached)))
    objective = results.metrics["objective"]
    best, median = objective[pooled].min(), np.median(objective[pooled])
    context = _Context(
        results,
        stats.evaluation_grid(max(len(s) for group in sequences.values() for s in group)),
        scale,
        points[front],
        float(best + TARGET_SHARE * (median - best)),
        seed,
        resamples,
    )
    scores = [_score(label, group, context) for label, group in sequences.items()]
    scores.sort(key=lambda score: (score.objective.value[-1], score.label))
    improvement = np.array(
        [[stats.probability_of_improvement(a.final, b.final)[0] for b in scores] for a in scores]
    )
    return Comparison(
        context.grid, results.budget, float(best), context.target, tuple(scores), improvement
    )


@dataclass(frozen=True)
class _Context:
    results: Results
    grid: np.ndarray
    scale: stats.Scale
    reference: np.ndarray
    target: float
    seed: int
    resamples: int


def _score(label: str, sequences: list[np.ndarray], context: _Context) -> AgentScore:
    """Score the runs of one agent."""
    results, grid = context.results, context.grid
    objective, feasible = results.metrics["objective"], results.feasible
    curves = [stats.best_so_far(objective[rows], feasible[rows]) for rows in sequences]
    volumes = [
        stats.hypervolume_curve(results.points[rows], feasible[rows], context.scale, grid)
        for rows in sequences
    ]
    igd = []
    for rows in sequences:
        own = stats.pareto_front(results.points[rows], feasible[rows])
        igd.append(stats.igd_plus(results.points[rows][own], context.reference, context.scale))

    def band(runs: list[np.ndarray]) -> stats.Band:
        return stats.bootstrap_iqm([np.stack(runs)], seed=context.seed, resamples=context.resamples)

    return AgentScore(
        label=label,
        runs=len(sequences),
        objective=band([stats.sample_curve(curve, grid) for curve in curves]),
        hypervolume=band(volumes),
        final=np.array([curve[-1] for curve in curves]),
        igd_plus=np.array(igd),
        target=np.array([stats.evaluations_to_target(c, context.target) for c in curves]),
        feasible=float(np.mean(np.concatenate([feasible[rows] for rows in sequences]))),
        first_feasible=np.array(
            [stats.evaluations_to_target(c, np.finfo(float).max) for c in curves]
        ),
        distinct=float(np.mean([len(np.unique(rows)) for rows in sequences])),
    )
