"""A made-up design space as gymnasium environments: fast, with a known optimum and front."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import gymnasium as gym
import numpy as np

from archsim.space import DesignSpace, Parameter

OBJECTIVE_NAMES = ("latency_s", "energy_j")


class ToyProblem:
    """A made-up accelerator with 46,080 points, two convex objectives and one limit.

    The fastest and the most frugal design differ, so there is a trade-off; the sum of both is the
    scalar objective. One parameter is a category without order, and ``rows * columns <= 48`` is a
    constraint of the space that leaves most designs legal. All numbers are invented.
    """

    SIZES = (8, 8, 6, 6, 5, 4)
    FASTEST = np.array([5 / 7, 6 / 7, 1 / 5, 4 / 5, 3 / 4])
    FRUGAL = np.array([2 / 7, 3 / 7, 3 / 5, 2 / 5, 1 / 4])
    CATEGORY = np.array([0.30, 0.05, 0.20, 0.00])
    AREA_LIMIT_MM2 = 6.0

    @functools.cached_property
    def space(self) -> DesignSpace:
        """The design space."""
        parameters = [
            Parameter("rows", tuple(range(1, 9)), role="compute"),
            Parameter("columns", tuple(range(1, 9)), role="compute"),
            Parameter("buffer_kib", (16, 32, 64, 128, 256, 512), role="memory", log=True),
            Parameter("link_bits", (8, 16, 32, 64, 128, 256), role="interconnect", log=True),
            Parameter("clock_mhz", (100, 200, 400, 800, 1600), role="technology", log=True),
            Parameter("dataflow", ("input", "weight", "output", "row"), role="mapping"),
        ]
        return DesignSpace(parameters, ["rows * columns <= 48"])

    def evaluate(self, indices: np.ndarray) -> dict[str, np.ndarray]:
        """Metrics of designs.

        Args:
            indices: i8[B, 6] index vectors of legal designs.

        Returns:
            f8[B] arrays (``feasible``: bool) by name, and the ``reward``.
        """
        indices = np.asarray(indices, dtype=np.int64)
        unit = indices[:, :5] / (np.array(self.SIZES[:5]) - 1.0)
        category = self.CATEGORY[indices[:, 5]]
        latency = 0.1 + ((unit - self.FASTEST) ** 2).sum(axis=1) + category
        energy = 0.1 + ((unit - self.FRUGAL) ** 2).sum(axis=1) + category
        area = 1.0 + 3.0 * unit[:, 0] + 3.0 * unit[:, 1] + unit[:, 2]
        violation = np.maximum(0.0, area / self.AREA_LIMIT_MM2 - 1.0)
        objective = latency + energy
        penalty = np.where(violation > 0, 4.0 + violation, 0.0)
        return {
            "latency_s": latency,
            "energy_j": energy,
            "area_mm2": area,
            "feasible": violation == 0,
            "violation": violation,
            "objective": objective,
            "reward": -objective - penalty,
        }

    @functools.cached_property
    def everything(self) -> dict[str, np.ndarray]:
        """Metrics of all legal designs, in flat order."""
        return self.evaluate(np.concatenate(list(self.space.batches())))

    def front(self) -> np.ndarray:
        """f8[F, 2]: the exact trade-off curve, by latency."""
        metrics = self.everything
        points = np.stack([metrics[name] for name in OBJECTIVE_NAMES], axis=1)
        points = np.unique(points[metrics["feasible"]], axis=0)
        best = np.minimum.accumulate(points[:, 1])
        return points[np.concatenate([[True], points[1:, 1] < best[:-1]])]


@functools.cache
def toy_problem() -> ToyProblem:
    """The problem, shared: it holds no state."""
    return ToyProblem()


def _decode(actions: Any, encoding: str) -> np.ndarray:
    """Legal index vectors i8[B, 6] of a batch of actions."""
    space = toy_problem().space
    return space.repair(space.from_action(actions, encoding))


def _info(metrics: Mapping[str, np.ndarray], row: int) -> dict[str, Any]:
    """The flat info of one design."""
    return {name: values[row].item() for name, values in metrics.items() if name != "reward"}


class ToyEnv(gym.Env):
    """`ToyProblem` as a gymnasium environment: one whole design a step.

    Args:
        encoding: ``multidiscrete``, ``box`` or ``discrete``.
        horizon: Steps an episode.

    Examples:
        >>> env = ToyEnv()
        >>> _ = env.reset(seed=0)
        >>> observation, reward, terminated, truncated, info = env.step([3, 4, 2, 3, 2, 3])
        >>> info["feasible"], round(info["objective"], 3)
        (True, 0.698)
    """

    metadata: dict[str, Any] = {"render_modes": []}  # noqa: RUF012 (gymnasium's name and type)
    objective_names = OBJECTIVE_NAMES

    def __init__(self, encoding: str = "multidiscrete", horizon: int = 16) -> None:
        self.encoding, self.horizon = encoding, horizon
        self.problem = toy_problem()
        self.action_space = self.problem.space.action_space(encoding)
        self.observation_space = gym.spaces.Box(0.0, 1.0, (len(ToyProblem.SIZES),), np.float32)
        self._steps = 0

    @property
    def space(self) -> DesignSpace:
        """The design space."""
        return self.problem.space

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Start an episode; the observation is the last design in the unit cube."""
        super().reset(seed=seed)
        self._steps = 0
        return np.zeros(len(ToyProblem.SIZES), dtype=np.float32), {}

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Evaluate one design."""
        indices = _decode(np.asarray(action)[None], self.encoding)
        metrics = self.problem.evaluate(indices)
        self._steps += 1
        observation = (indices[0] / (np.array(ToyProblem.SIZES) - 1)).astype(np.float32)
        truncated = self._steps >= self.horizon
        return observation, float(metrics["reward"][0]), False, truncated, _info(metrics, 0)


class ToyStepwiseEnv(gym.Env):
    """`ToyProblem`, one parameter a step, with action masks; an episode makes one design."""

    metadata: dict[str, Any] = {"render_modes": []}  # noqa: RUF012 (gymnasium's name and type)
    objective_names = OBJECTIVE_NAMES

    def __init__(self) -> None:
        self.problem = toy_problem()
        self.action_space = gym.spaces.Discrete(max(ToyProblem.SIZES))
        self.observation_space = gym.spaces.Box(-1.0, 1.0, (2 * len(ToyProblem.SIZES),), np.float32)
        self._partial: list[int] = []

    @property
    def space(self) -> DesignSpace:
        """The design space."""
        return self.problem.space

    def action_masks(self) -> np.ndarray:
        """bool[8]: values of the next parameter that can still keep the constraint."""
        mask = np.zeros(max(ToyProblem.SIZES), dtype=bool)
        if len(self._partial) == len(ToyProblem.SIZES):
            return ~mask
        allowed = self.space.mask(self._partial)
        mask[: len(allowed)] = allowed
        return mask

    def _observe(self) -> np.ndarray:
        """Decided values in [0, 1] (-1: open), and which parameter is next."""
        count = len(ToyProblem.SIZES)
        observation = np.concatenate([np.full(count, -1.0), np.zeros(count)]).astype(np.float32)
        for column, value in enumerate(self._partial):
            observation[column] = value / (ToyProblem.SIZES[column] - 1)
        if len(self._partial) < count:
            observation[count + len(self._partial)] = 1.0
        return observation

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Start a new design."""
        super().reset(seed=seed)
        self._partial = []
        return self._observe(), {"action_mask": self.action_masks()}

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Decide the next parameter; the last one evaluates the design."""
        self._partial.append(int(action))
        if len(self._partial) < len(ToyProblem.SIZES):
            return self._observe(), 0.0, False, False, {"action_mask": self.action_masks()}
        metrics = self.problem.evaluate(np.array([self._partial]))
        info = {**_info(metrics, 0), "action_mask": self.action_masks()}
        return self._observe(), float(metrics["reward"][0]), True, False, info


class ToyVectorEnv(gym.vector.VectorEnv):
    """`ToyProblem`, ``num_envs`` designs a step.

    Args:
        num_envs: Designs a step.
        encoding: ``multidiscrete``, ``box`` or ``discrete``.
    """

    metadata: dict[str, Any] = {"autoreset_mode": gym.vector.AutoresetMode.SAME_STEP}  # noqa: RUF012
    objective_names = OBJECTIVE_NAMES

    def __init__(self, num_envs: int = 16, encoding: str = "multidiscrete") -> None:
        self.num_envs, self.encoding = num_envs, encoding
        self.problem = toy_problem()
        self.single_action_space = self.problem.space.action_space(encoding)
        self.action_space = gym.vector.utils.batch_space(self.single_action_space, num_envs)
        self.single_observation_space = gym.spaces.Box(
            0.0, 1.0, (len(ToyProblem.SIZES),), np.float32
        )
        self.observation_space = gym.vector.utils.batch_space(
            self.single_observation_space, num_envs
        )

    @property
    def space(self) -> DesignSpace:
        """The design space."""
        return self.problem.space

    def reset(
        self, *, seed: Any = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Start episodes without end."""
        return np.zeros(self.observation_space.shape, dtype=np.float32), {}

    def step(self, actions: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict]:
        """Evaluate ``num_envs`` designs."""
        indices = _decode(actions, self.encoding)
        metrics = self.problem.evaluate(indices)
        observation = (indices / (np.array(ToyProblem.SIZES) - 1)).astype(np.float32)
        no = np.zeros(self.num_envs, dtype=bool)
        info = {name: values for name, values in metrics.items() if name != "reward"}
        return observation, metrics["reward"], no, no.copy(), info
