"""The lottery of hyperparameters: how much of an agent's rank is its settings.

After S. Krishnan et al., "ArchGym", ISCA 2023: with other settings almost any searcher can be
shown to win. Every setting of a swept agent is judged by the interquartile mean of its scaled
regret over scenarios and seeds; agents are ranked by their best, their median and their worst.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from archsim.explore.statistics import interquartile_mean
from archsim.explore.study_results import StudyResults


@dataclass(frozen=True)
class Draw:
    """All settings of one agent.

    Attributes:
        agent: Its name.
        labels: The settings.
        regret: Scaled regret of each at the end, float64[settings].
        default: Scaled regret with the agent's defaults, None where they were not run.
    """

    agent: str
    labels: tuple[str, ...]
    regret: np.ndarray
    default: float | None

    @property
    def best(self) -> str:
        """The luckiest setting; the first of equals."""
        return self.labels[int(np.argmin(self.regret))]

    @property
    def worst(self) -> str:
        """The unluckiest one."""
        return self.labels[int(np.argmax(self.regret))]

    @property
    def spread(self) -> float:
        """From the luckiest setting to the unluckiest that finds a feasible design."""
        found = self.regret[np.isfinite(self.regret)]
        return float(np.ptp(found)) if len(found) else 0.0

    @property
    def lost(self) -> int:
        """Settings that find no feasible design, in the interquartile mean of their runs."""
        return int(np.isinf(self.regret).sum())

    @property
    def quartiles(self) -> tuple[float, float]:
        """Between which the middle half of the settings lies."""
        low, high = np.percentile(self.regret, [25, 75], method="nearest")  # some are infinite
        return float(low), float(high)


def pooled(results: StudyResults, label: str) -> float:
    """Scaled regret at the end of one agent with its options, over scenarios and seeds."""
    values = [cell.final(label) / cell.spread for cell in results.cells]
    return float(interquartile_mean(np.concatenate(values)))


def draws(results: StudyResults) -> tuple[Draw, ...]:
    """The settings of every swept agent, in the order of the study."""
    found = []
    for agent in results.spec.sweeps:
        labels = [name for name in results.labels if results.agent_of[name] == agent]
        settings = [name for name in labels if name not in results.listed]
        default = pooled(results, agent) if agent in labels else None
        regret = np.array([pooled(results, label) for label in settings])
        found.append(Draw(agent, tuple(settings), regret, default))
    return tuple(found)


def ranks(found: Sequence[Draw]) -> dict[str, dict[str, int]]:
    """Place of every agent (1 is best, equals share the better place) by best, median, worst."""
    measures = {
        "best": [float(draw.regret.min()) for draw in found],
        "median": [float(np.median(draw.regret)) for draw in found],
        "worst": [float(draw.regret.max()) for draw in found],
    }
    table: dict[str, dict[str, int]] = {draw.agent: {} for draw in found}
    for name, values in measures.items():
        for draw, value in zip(found, values, strict=True):
            table[draw.agent][name] = 1 + sum(other < value - 1e-12 for other in values)
    return table
