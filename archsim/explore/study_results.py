"""Read a study back: regret of every run on every scenario, and who beats whom.

Regret is the objective above the best of the space; the objective is a logarithm, so a regret of
0.01 is 1 % of the metric (or of the geometric mean of metrics) that is minimised. To pool
scenarios it is scaled: 0 is the optimum, 1 the median feasible design of the space. Where the space
is not known as a whole, the best and the median of all that was evaluated take their place.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from archsim.errors import InputError
from archsim.explore import statistics as stats
from archsim.explore.records import agent_label
from archsim.explore.results import TARGET_SHARE, Results
from archsim.explore.runner import canonical
from archsim.explore.significance import holm, improvement, rank_test
from archsim.explore.study_run import PLAN_NAME, Exact
from archsim.explore.study_spec import StudySpec

#: Scaled regret that counts as close: 5 % of the way from the optimum to the median design.
CLOSE = TARGET_SHARE
#: Differences rarer than this by chance, all comparisons of a study taken together, are called so.
LEVEL = 0.05


@dataclass(frozen=True)
class CellScores:
    """What all agents made of one scenario.

    Attributes:
        name: Of the scenario.
        place: Entry by axis.
        title: In words.
        facts: What `study.json` says of it.
        exact: What is known of the whole space, if it is.
        best: Objective of the optimum, or the best found.
        median: Median objective of the feasible designs.
        curves: Label -> regret of the best so far, float64[R, T] on the grid of the study.
    """

    name: str
    place: Mapping[str, str]
    title: str
    facts: Mapping[str, Any]
    exact: Exact | None
    best: float
    median: float
    curves: Mapping[str, np.ndarray]

    @property
    def spread(self) -> float:
        """Regret of the median feasible design, the unit of scaled regret."""
        return max(self.median - self.best, 1e-12)

    def final(self, label: str) -> np.ndarray:
        """Regret at the end of every run, float64[R]."""
        return self.curves[label][:, -1]


class StudyResults:
    """A study that was carried out.

    Args:
        directory: Its folder.

    Attributes:
        spec: The study.
        cells: Its scenarios.
        grid: Evaluations at which curves are sampled, int64[T].
        labels: Agents with their options, in the order of the study.
        listed: Those of them that are listed, not swept: every two of them are compared.
        agent_of: Label -> name of the agent.
        command: What made it.
        versions: Of the libraries.
        short: Runs that ended before the budget, as lines.

    Raises:
        InputError: There is no finished study in the folder.
    """

    def __init__(self, directory: str | Path) -> None:
        self.directory = Path(directory)
        path = self.directory / PLAN_NAME
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            raise InputError(
                "no finished study here", source=directory, expected=f"{PLAN_NAME}"
            ) from None
        self.spec = StudySpec.model_validate(data["spec"])
        self.command: str = data["command"]
        self.versions: dict[str, str] = data["versions"]
        self.grid = stats.evaluation_grid(self.spec.budget)
        choices = self.spec.choices()
        names = [agent_label(c.name, canonical(c.options)) for c in choices]
        self.labels = tuple(names)
        self.listed = self.labels[: len(self.spec.agents)]
        self.agent_of = {label: c.name for label, c in zip(names, choices, strict=True)}
        self.short: list[str] = []
        self.cells = tuple(self._read(name, facts) for name, facts in data["cells"].items())

    def _read(self, name: str, facts: Mapping[str, Any]) -> CellScores:
        results = Results(self.directory / "cells" / name)
        objective, feasible = results.metrics["objective"], results.feasible
        exact = None if facts["exact"] is None else Exact(**facts["exact"])
        if exact is not None:
            best, median = exact.best, exact.median
        elif feasible.any():
            best, median = objective[feasible].min(), float(np.median(objective[feasible]))
        else:
            raise InputError("nothing feasible was found", source=results.directory)
        found: dict[str, list[np.ndarray]] = {label: [] for label in self.labels}
        wanted = {
            (choice.name, canonical(choice.options)): label
            for choice, label in zip(self.spec.choices(), self.labels, strict=True)
        }
        for run in results.runs:
            label = wanted.get((run.agent, run.options))
            same = run.phase == "compare" and run.budget == self.spec.budget
            if label is None or not same or run.seed >= self.spec.seeds or run.status != "done":
                continue
            rows = results.of_run(run)
            if len(rows) < self.spec.budget:
                self.short.append(f"{name}: {run.label} seed {run.seed}: {len(rows):,} evaluations")
            curve = stats.best_so_far(objective[rows], feasible[rows]) - best
            found[label].append(stats.sample_curve(curve, self.grid))
        missing = [label for label, runs in found.items() if not runs]
        if missing:
            raise InputError("no finished run", source=results.directory, found=missing[0])
        curves = {label: np.stack(runs) for label, runs in found.items()}
        return CellScores(
            name, facts["place"], facts["title"], facts, exact, float(best), float(median), curves
        )

    @property
    def exact(self) -> bool:
        """Whether every optimum is known."""
        return all(cell.exact is not None for cell in self.cells)

    def axis(self) -> str | None:
        """The axis by which results are split: the last one with several entries."""
        axes = [name for name, entries in self.spec.axes.items() if len(entries) > 1]
        return axes[-1] if axes else None

    def splits(self) -> dict[str, list[CellScores]]:
        """All scenarios, then those of each entry of the split axis."""
        found = {"all": list(self.cells)}
        axis = self.axis()
        if axis is not None:
            for entry in self.spec.axes[axis]:
                found[entry] = [cell for cell in self.cells if cell.place[axis] == entry]
        return found

    def band(self, cells: Sequence[CellScores], label: str) -> stats.Band:
        """Scaled regret over the grid: interquartile mean over scenarios and seeds."""
        return stats.bootstrap_iqm([cell.curves[label] / cell.spread for cell in cells])

    def on_the_way(self, cell: CellScores, label: str) -> np.ndarray:
        """Mean scaled regret over the whole search, none counted above 1: float64[R].

        A low one needs a good design soon; it tells agents apart that all end at the optimum.
        """
        curve = np.minimum(cell.curves[label] / cell.spread, 1.0)
        # the curve is a staircase: each sample holds until the next one
        weights = np.diff(self.grid, append=self.grid[-1] + 1)
        return curve @ (weights / weights.sum())

    @cached_property
    def duels(self) -> dict[str, Duels]:
        """Comparisons of all pairs of agents: by the end of the runs, and on the way to it."""
        measures: dict[str, Callable[[CellScores, str], np.ndarray]] = {
            "end": CellScores.final,
            "way": self.on_the_way,
        }
        return {
            name: Duels.of(self.listed, self.cells, measure) for name, measure in measures.items()
        }


@dataclass(frozen=True)
class Duels:
    """Every agent against every other one.

    Attributes:
        labels: The agents.
        chance: Chance that the row's agent is better than the column's, float64[A, A].
        low: Lower end of its 95 % interval.
        high: Upper end.
        adjusted: p-value of the pair, adjusted for the number of pairs, float64[A, A].
    """

    labels: tuple[str, ...]
    chance: np.ndarray
    low: np.ndarray
    high: np.ndarray
    adjusted: np.ndarray

    @classmethod
    def of(
        cls,
        labels: Sequence[str],
        cells: Sequence[CellScores],
        measure: Callable[[CellScores, str], np.ndarray],
    ) -> Duels:
        """Compare all pairs by a measure, lower being better."""
        count = len(labels)
        values = {label: [measure(cell, label) for cell in cells] for label in labels}
        chance, low, high = (np.full((count, count), 0.5) for _ in range(3))
        adjusted = np.ones((count, count))
        pairs = [(i, j) for i in range(count) for j in range(i + 1, count)]
        tests = []
        for i, j in pairs:
            ours, theirs = values[labels[i]], values[labels[j]]
            band = improvement(ours, theirs)
            chance[i, j], low[i, j], high[i, j] = band.value[0], band.low[0], band.high[0]
            chance[j, i], low[j, i], high[j, i] = 1 - chance[i, j], 1 - high[i, j], 1 - low[i, j]
            tests.append(rank_test(ours, theirs))
        for (i, j), p in zip(pairs, holm(tests), strict=True):
            adjusted[i, j] = adjusted[j, i] = p
        return cls(tuple(labels), chance, low, high, adjusted)

    def verdict(self, ours: str, theirs: str) -> int:
        """1 if ours is better beyond chance, -1 if worse, 0 if neither can be said."""
        i, j = self.labels.index(ours), self.labels.index(theirs)
        if self.adjusted[i, j] >= LEVEL:
            return 0
        return 1 if self.chance[i, j] > 0.5 else -1
