"""What an agent sees: bounded float32 boxes, every entry in [0, 1].

Whole-design environments, ``[P + 3 + K + F]``:

| entries | meaning |
|---|---|
| P | the design just evaluated, a point of the unit cube (cell centres); 0 before the first |
| 1 | 1 if a design has been evaluated in this episode |
| 1 | 1 if it is feasible |
| 1 | its violation ``v`` as ``v / (1 + v)`` |
| K | each metric of the objective (minimised, then limited): ``(1 + z / (1 + |z|)) / 2`` with ``z`` the natural logarithm of metric / reference (of metric / limit for limited ones); 1/2 at the reference |
| F | features of what is computed (``FEATURES`` of the kind's module), constant in a scenario |

Stepwise environments, ``[3 P + F]``: the unit-cube coordinate of every decided parameter (0 where
undecided), a flag per decided parameter, a flag at the parameter to decide now, the features.
"""  # noqa: E501

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from gymnasium import spaces

if TYPE_CHECKING:
    from archsim.envs.problem import Metrics, SupportsEvaluation


class DesignObservation:
    """Builds the observations of whole-design environments.

    Attributes:
        box: The space of one observation.
    """

    def __init__(self, problem: SupportsEvaluation) -> None:
        objective = problem.objective
        self._space = problem.space
        self._names = objective.names
        references = {**objective.limits, **objective.references}
        self._references = np.log([references.get(name, 1.0) for name in self._names])[:, None]
        self._width = len(problem.space.names)
        self._scores = self._width + 3
        size = self._scores + len(self._names) + len(problem.features)
        self.box = spaces.Box(0.0, 1.0, (size,), np.float32)
        self._blank = np.zeros(size, dtype=np.float32)
        self._blank[self._scores + len(self._names) :] = problem.features

    def blank(self, count: int) -> np.ndarray:
        """Observations before the first design, float32[B, size]."""
        return np.repeat(self._blank[None, :], count, axis=0)

    def of(self, indices: np.ndarray, metrics: Metrics) -> np.ndarray:
        """Observations after a design, float32[B, size]."""
        found = self.blank(len(indices))
        width = self._width
        found[:, :width] = (indices + 0.5) / self._space.cardinalities
        found[:, width] = 1.0
        found[:, width + 1] = metrics["feasible"]
        violation = metrics["violation"]
        found[:, width + 2] = violation / (1.0 + violation)
        values = np.array([metrics[name] for name in self._names], dtype=np.float64)
        # fmin takes a metric that is NaN for the worst
        z = np.log(np.maximum(np.fmin(values, 1e300), 1e-300)) - self._references
        found[:, self._scores : self._scores + len(z)] = (0.5 + 0.5 * z / (1.0 + np.abs(z))).T
        return found


class PartialObservation:
    """Builds the observations of stepwise environments.

    Attributes:
        box: The space of one observation.
    """

    def __init__(self, problem: SupportsEvaluation) -> None:
        self._cardinalities = problem.space.cardinalities
        self._features = problem.features
        width = len(self._cardinalities)
        self.box = spaces.Box(0.0, 1.0, (3 * width + len(self._features),), np.float32)

    def of(self, partial: np.ndarray, depth: np.ndarray) -> np.ndarray:
        """Observations of partial designs.

        Args:
            partial: int64[B, P]; entries at and beyond ``depth`` are ignored.
            depth: int64[B], parameters decided, 0 to P.
        """
        width = len(self._cardinalities)
        found = np.zeros((len(partial), 3 * width + len(self._features)), dtype=np.float32)
        order = np.arange(width)
        decided = order < depth[:, None]
        found[:, :width] = np.where(decided, (partial + 0.5) / self._cardinalities, 0.0)
        found[:, width : 2 * width] = decided
        found[:, 2 * width : 3 * width] = order == depth[:, None]
        found[:, 3 * width :] = self._features
        return found
