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

import numpy as np
from gymnasium.vector import AutoresetMode

from archsim.envs.lanes import Infos, LaneVectorEnv, check_count
from archsim.envs.observation import DesignObservation
from archsim.envs.single import SingleEnv


class DesignEnv(SingleEnv):
    """``archsim/Design-v0``: one design per step, of any kind of scenario or a problem.

    | space | of | meaning |
    |---|---|---|
    | action ``multidiscrete`` | ``MultiDiscrete(n_1 ... n_P)`` | index of each parameter's value |
    | action ``discrete`` | ``Discrete(n_1 * ... * n_P)`` | mixed-radix index, last varies fastest |
    | action ``box`` | ``Box(-1, 1, (P,), float32)`` | cells of the stretched unit cube |
    | action ``dict`` | ``Dict(name: Discrete(n))`` | index by parameter |
    | observation | ``Box(0, 1, (P + 3 + K + F,), float32)`` | :mod:`archsim.envs.observation` |

    The reward lies in (-1, 1), without unit: 1/2 at the reference, above 0 if feasible
    (:mod:`archsim.envs.objective`). ``info`` holds every metric in SI units, ``feasible``,
    ``violation``, ``objective``, ``evaluations``, ``repaired`` and ``design``, the int64[P] index
    vector evaluated.

    Args:
        scenario: Scenario name, path, data or object, or a problem.
        encoding: Action encoding: ``multidiscrete``, ``discrete``, ``box`` or ``dict``.
        horizon: Designs per episode.
        render_mode: ``None`` or ``"ansi"``.

    Raises:
        InputError: The scenario, encoding, horizon or mode is wrong.

    Example:
        >>> import gymnasium as gym, archsim.envs
        >>> env = gym.make("archsim/Design-v0", scenario="smoke", render_mode="ansi")
        >>> observation, info = env.reset(seed=0)
        >>> observation, reward, terminated, truncated, info = env.step([1, 1, 0, 1, 2, 1])
        >>> print(env.render().splitlines()[0])
        rows: 8
    """

    def __init__(
        self,
        scenario: Any = None,
        encoding: str = "multidiscrete",
        horizon: int = 1,
        render_mode: str | None = None,
        **unknown: Any,
    ) -> None:
        super().__init__(scenario, render_mode, **unknown)
        self.encoding = encoding
        self.horizon = check_count("horizon", horizon)
        self._observation = DesignObservation(self.problem)
        self.observation_space = self._observation.box
        self.action_space = self.space.action_space(encoding)
        self._steps = 0

    def _begin(self) -> tuple[np.ndarray, dict[str, Any]]:
        self._steps = 0
        return self._observation.blank(1)[0], {}

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Evaluate the design an action stands for."""
        point = self.space.from_action(action, self.encoding)[None, :]
        design = self.space.repair(point)
        metrics, reward, info = self._evaluate_one(design)
        self._steps = self._steps % self.horizon + 1
        info["repaired"] = design is not point
        observation = self._observation.of(design, metrics)[0]
        return observation, reward, self._steps == self.horizon, False, info


class DesignVectorEnv(LaneVectorEnv):
    """N designs per step in one evaluation; arrays [N] of what :class:`DesignEnv` takes and gives.

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
        scenario: Any = None,
        encoding: str = "multidiscrete",
        horizon: int = 1,
        autoreset_mode: AutoresetMode | str = AutoresetMode.SAME_STEP,
        **unknown: Any,
    ) -> None:
        self._open(scenario, unknown)
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
