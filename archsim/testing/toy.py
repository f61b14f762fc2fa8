"""A made-up accelerator behind archsim's own environments: fast, its optimum and front known."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from archsim.envs.design import DesignEnv, DesignVectorEnv
from archsim.envs.objective import Objective
from archsim.envs.problem import DesignProblem
from archsim.envs.stepwise import StepwiseEnv
from archsim.space import DesignSpace, Parameter


class ToyProblem(DesignProblem):
    """A made-up accelerator with 46,080 points, two convex objectives and one limit.

    The fastest and the most frugal design differ, so there is a trade-off; the mean of both is the
    scalar objective (its logarithm, as in any scenario). One parameter is a category without order,
    ``rows * columns <= 48`` is a constraint of the space that leaves most designs legal, and the
    area limit makes some designs infeasible. All numbers are invented.

    Attributes:
        space: The design space.
        objective: ``latency_s`` and ``energy_j`` are minimised, ``area_mm2`` is limited.
        metric_names: The metrics.
        features: float32[1], nothing.
    """

    FASTEST = np.array([5 / 7, 6 / 7, 1 / 5, 4 / 5, 3 / 4])
    FRUGAL = np.array([2 / 7, 3 / 7, 3 / 5, 2 / 5, 1 / 4])
    CATEGORY = np.array([0.30, 0.05, 0.20, 0.00])
    AREA_LIMIT_MM2 = 6.0

    def __init__(self) -> None:
        parameters = [
            Parameter("rows", tuple(range(1, 9)), role="compute"),
            Parameter("columns", tuple(range(1, 9)), role="compute"),
            Parameter("buffer_kib", (16, 32, 64, 128, 256, 512), role="memory", log=True),
            Parameter("link_bits", (8, 16, 32, 64, 128, 256), role="interconnect", log=True),
            Parameter("clock_mhz", (100, 200, 400, 800, 1600), role="technology", log=True),
            Parameter("dataflow", ("input", "weight", "output", "row"), role="mapping"),
        ]
        self.space = DesignSpace(parameters, ["rows * columns <= 48"])
        self.metric_names = ("latency_s", "energy_j", "area_mm2")
        self.features = np.zeros(1, dtype=np.float32)
        limits = {"area_mm2": self.AREA_LIMIT_MM2}
        one = {"latency_s": 1.0, "energy_j": 1.0}
        self.objective = Objective(tuple(one), limits, kind="weighted", references=one)
        super().__init__()

    def evaluate_batch(self, designs: np.ndarray) -> dict[str, np.ndarray]:
        """Metrics of int64[B, 6] designs: squared distances from two optima, and an area."""
        unit = designs[:, :5] / (self.space.cardinalities[:5] - 1.0)
        category = self.CATEGORY[designs[:, 5]]
        return {
            "latency_s": 0.1 + ((unit - self.FASTEST) ** 2).sum(axis=1) + category,
            "energy_j": 0.1 + ((unit - self.FRUGAL) ** 2).sum(axis=1) + category,
            "area_mm2": 1.0 + 3.0 * unit[:, 0] + 3.0 * unit[:, 1] + unit[:, 2],
        }

    @functools.cached_property
    def everything(self) -> dict[str, np.ndarray]:
        """Metrics of all legal designs, in flat order."""
        return self.evaluate(np.concatenate(list(self.space.batches())))

    def front(self) -> np.ndarray:
        """f8[F, 2]: the exact trade-off curve of latency and energy, by latency."""
        metrics = self.everything
        points = np.stack([metrics["latency_s"], metrics["energy_j"]], axis=1)
        points = np.unique(points[metrics["feasible"]], axis=0)
        best = np.minimum.accumulate(points[:, 1])
        return points[np.concatenate([[True], points[1:, 1] < best[:-1]])]


@functools.cache
def toy_problem() -> ToyProblem:
    """The problem, shared: it holds no state."""
    return ToyProblem()


class ToyEnv(DesignEnv):
    """`ToyProblem`, one whole design a step.

    Args:
        encoding: ``multidiscrete``, ``box``, ``discrete`` or ``dict``.
        options: Other arguments of `archsim.envs.DesignEnv`, e.g. ``horizon``.

    Examples:
        >>> env = ToyEnv()
        >>> observation, info = env.reset(seed=0)
        >>> observation, reward, terminated, truncated, info = env.step([3, 4, 2, 3, 2, 3])
        >>> info["feasible"], round(info["latency_s"], 3)
        (True, 0.406)
    """

    def __init__(self, encoding: str = "multidiscrete", **options: Any) -> None:
        super().__init__(toy_problem(), encoding=encoding, **options)


class ToyStepwiseEnv(StepwiseEnv):
    """`ToyProblem`, one parameter a step, with action masks; an episode makes one design."""

    def __init__(self) -> None:
        super().__init__(toy_problem())


class ToyVectorEnv(DesignVectorEnv):
    """`ToyProblem`, ``num_envs`` designs a step.

    Args:
        num_envs: Designs a step.
        encoding: ``multidiscrete``, ``box``, ``discrete`` or ``dict``.
    """

    def __init__(self, num_envs: int = 16, encoding: str = "multidiscrete") -> None:
        super().__init__(num_envs, toy_problem(), encoding=encoding)
