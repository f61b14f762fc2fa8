"""A whole design per step, single and natively batched, whatever is designed.

An action is a complete design; a point that breaks the constraints is moved to a legal design by
``DesignSpace.repair`` (``info["repaired"]``), so every action is answered and every legal design is
reachable. A design is judged on its own, so by default every evaluation is an episode: it ends
``terminated`` after one step (a bandit; no credit leaks between designs). ``horizon=H`` makes
episodes of H designs in which the observation carries the last design and its metrics.
``truncated`` is left to recorders: it means that the budget is used up.
"""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium.vector import AutoresetMode

from archsim.envs.lanes import Evaluating, Infos, LaneVectorEnv, check_count, describe_design
from archsim.envs.observation import DesignObservation


class DesignEnv(Evaluating, gymnasium.Env):
    """One design per step.

    Args:
        scenario: Scenario name, path, data or object, or a problem.
        encoding: Action encoding: ``multidiscrete``, ``discrete``, ``box`` or ``dict``.
        horizon: Designs per episode.
        render_mode: ``None`` or ``"ansi"``.

    Raises:
        InputError: The scenario, encoding or horizon is wrong.
    """

    metadata: dict[str, Any] = {"render_modes": ["ansi"], "render_fps": 1}  # noqa: RUF012

    def __init__(
        self,
        scenario: Any,
        encoding: str = "multidiscrete",
        horizon: int = 1,
        render_mode: str | None = None,
    ) -> None:
        self._open(scenario)
        self.encoding = encoding
        self.horizon = check_count("horizon", horizon)
        self.render_mode = render_mode
        self._observation = DesignObservation(self.problem)
        self.observation_space = self._observation.box
        self.action_space = self.space.action_space(encoding)
        self._steps = 0
        self._shown = ""

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Begin an episode; a seeded one also restarts the count of evaluations."""
        super().reset(seed=seed, options=options)
        if seed is not None:
            self.evaluations = 0
        self._steps = 0
        return self._observation.blank(1)[0], {}

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Evaluate the design an action stands for."""
        point = self.space.from_action(action, self.encoding)[None, :]
        design = self.space.repair(point)
        metrics = self.evaluate(design)
        self.evaluations += 1
        self._steps = self._steps % self.horizon + 1
        info = self._info_of_one(design[0], metrics)
        info["repaired"] = design is not point
        if self.render_mode is not None:
            self._shown = describe_design(self.space, design[0], info)
        return (
            self._observation.of(design, metrics)[0],
            float(metrics["reward"][0]),
            self._steps == self.horizon,
            False,
            info,
        )

    def render(self) -> str | None:
        """The last design and its metrics as text."""
        return self._shown if self.render_mode == "ansi" else None


class DesignVectorEnv(LaneVectorEnv):
    """N designs per step in one evaluation.

    Args:
        num_envs: N.
        scenario: As for :class:`DesignEnv`.
        encoding: As for :class:`DesignEnv`.
        horizon: As for :class:`DesignEnv`.
        autoreset_mode: See :class:`archsim.envs.lanes.LaneVectorEnv`.
    """

    def __init__(
        self,
        num_envs: int,
        scenario: Any,
        encoding: str = "multidiscrete",
        horizon: int = 1,
        autoreset_mode: AutoresetMode | str = AutoresetMode.SAME_STEP,
    ) -> None:
        self._open(scenario)
        self.encoding = encoding
        self.horizon = check_count("horizon", horizon)
        self._observation = DesignObservation(self.problem)
        super().__init__(
            num_envs,
            autoreset_mode,
            self._observation.box,
            self.space.action_space(encoding),
        )
        self._steps = np.zeros(self.num_envs, dtype=np.int64)
        self._seen = self._observation.blank(self.num_envs)

    def _begin(self, lanes: np.ndarray) -> None:
        self._steps[lanes] = 0
        self._seen[lanes] = self._observation.blank(len(lanes))

    def _observe(self) -> np.ndarray:
        return self._seen.copy()

    def _advance(self, actions: Any, lanes: np.ndarray) -> tuple[np.ndarray, np.ndarray, Infos]:
        if not len(lanes):
            return np.zeros(self.num_envs), np.zeros(self.num_envs, dtype=bool), {}
        points = self.space.from_action(actions, self.encoding)[lanes]
        designs = self.space.repair(points)
        metrics = self.evaluate(designs)
        infos = self._evaluated_infos(designs, metrics, lanes)
        infos["repaired"] = self._scatter((designs != points).any(axis=1), lanes).astype(bool)
        infos["_repaired"] = infos["_feasible"].copy()
        self._seen[lanes] = self._observation.of(designs, metrics)
        self._steps[lanes] += 1
        return self._scatter(metrics["reward"], lanes), self._steps >= self.horizon, infos
