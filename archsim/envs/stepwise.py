"""One parameter per step, with masks, single and batched, whatever is designed.

An episode decides the parameters in the order of the space; the last decision evaluates the design,
carries the reward (0 before) and terminates. The action is ``Discrete(n)`` with ``n`` the most
values any parameter has. ``action_masks()`` and ``info["action_mask"]`` hold the values of the next
parameter that still lead to a legal design. A masked action is not refused: it counts modulo the
number of values, then moves to the nearest legal value (``info["repaired"]``), so agents that
ignore masks search the same set. After the last decision the mask is that of a new design's first
parameter.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium import spaces
from gymnasium.vector import AutoresetMode

from archsim.envs.lanes import Infos, LaneVectorEnv
from archsim.envs.observation import PartialObservation
from archsim.envs.single import SingleEnv
from archsim.errors import InputError
from archsim.space import DesignSpace


def decide(
    space: DesignSpace, prefix: np.ndarray, actions: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The values actions choose for the next parameter, and which were moved.

    Args:
        space: The design space.
        prefix: int64[B, j] decided indices.
        actions: int64[B].
    """
    wanted = actions % int(space.cardinalities[prefix.shape[1]])
    chosen = space.nearest_legal(prefix, wanted)
    return chosen, chosen != actions


def padded_mask(space: DesignSpace, prefix: np.ndarray, width: int) -> np.ndarray:
    """Masks of the next parameter, bool[B, width], false beyond its values."""
    found = np.zeros((len(prefix), width), dtype=bool)
    mask = space.mask(prefix)
    found[:, : mask.shape[1]] = mask | ~mask.any(axis=1, keepdims=True)
    return found


def _check_actions(actions: Any, shape: tuple[int, ...], limit: int) -> np.ndarray:
    array = np.asarray(actions)
    if array.shape != shape or array.dtype.kind not in "iu":
        raise InputError(
            "an action is an integer", field="action", found=actions, expected=f"shape {shape}"
        )
    if array.size and (array.min() < 0 or array.max() >= limit):
        raise InputError(
            "action out of range", field="action", found=actions, expected=f"0 to {limit - 1}"
        )
    return array.astype(np.int64)


class StepwiseEnv(SingleEnv):
    """``archsim/DesignStepwise-v0``: one parameter per step, of any kind of scenario or a problem.

    | space | of | meaning |
    |---|---|---|
    | action | ``Discrete(most values of a parameter)`` | index of the next parameter's value |
    | observation | ``Box(0, 1, (3 P + F,), float32)`` | :mod:`archsim.envs.observation` |
    | ``info["action_mask"]`` | bool[actions] | values that still lead to a legal design |

    The reward of the last step is that of :class:`archsim.envs.design.DesignEnv`, with the same
    ``info``; every other step earns 0.

    Args:
        scenario: Scenario name, path, data or object, or a problem.
        render_mode: ``None`` or ``"ansi"``.

    Raises:
        InputError: The scenario or mode is wrong.
    """

    def __init__(
        self, scenario: Any = None, render_mode: str | None = None, **unknown: Any
    ) -> None:
        super().__init__(scenario, render_mode, **unknown)
        self._observation = PartialObservation(self.problem)
        self.observation_space = self._observation.box
        self._choices = int(self.space.cardinalities.max())
        self.action_space = spaces.Discrete(self._choices)
        self._partial = np.zeros((1, len(self.space.names)), dtype=np.int64)
        self._depth = 0

    def action_masks(self) -> np.ndarray:
        """bool[n]: actions that choose a legal value of the next parameter."""
        depth = self._depth % len(self.space.names)
        return padded_mask(self.space, self._partial[:, :depth], self._choices)[0]

    def _begin(self) -> tuple[np.ndarray, dict[str, Any]]:
        self._depth = 0
        return self._observe(), {"action_mask": self.action_masks()}

    def _observe(self) -> np.ndarray:
        return self._observation.of(self._partial, np.array([self._depth]))[0]

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Decide the next parameter; the last decision evaluates the design."""
        actions = _check_actions(action, (), self._choices)[None]
        self._depth %= len(self.space.names)
        depth = self._depth
        chosen, moved = decide(self.space, self._partial[:, :depth], actions)
        self._partial[:, depth] = chosen
        self._depth += 1
        info: dict[str, Any] = {}
        reward, terminated = 0.0, self._depth == len(self.space.names)
        if terminated:
            _, reward, info = self._evaluate_one(self.space.repair(self._partial))
        info["repaired"] = bool(moved[0])
        info["action_mask"] = self.action_masks()
        return self._observe(), reward, terminated, False, info


class StepwiseVectorEnv(LaneVectorEnv):
    """N designs decided in step, evaluated in one call.

    Args:
        num_envs: N.
        scenario: As for :class:`StepwiseEnv`.
        autoreset_mode: See :class:`archsim.envs.lanes.LaneVectorEnv`.
    """

    def __init__(
        self,
        num_envs: int,
        scenario: Any = None,
        autoreset_mode: AutoresetMode | str = AutoresetMode.SAME_STEP,
        **unknown: Any,
    ) -> None:
        self._open(scenario, unknown)
        self._observation = PartialObservation(self.problem)
        self._choices = int(self.space.cardinalities.max())
        super().__init__(
            num_envs,
            autoreset_mode,
            self._observation.box,
            spaces.Discrete(self._choices),
        )
        self._partial = np.zeros((self.num_envs, len(self.space.names)), dtype=np.int64)
        self._depth = np.zeros(self.num_envs, dtype=np.int64)

    def action_masks(self) -> np.ndarray:
        """bool[N, n]: actions that choose a legal value of each lane's next parameter."""
        found = np.zeros((self.num_envs, self._choices), dtype=bool)
        depths = self._depth % len(self.space.names)
        for depth in np.unique(depths):
            lanes = np.flatnonzero(depths == depth)
            found[lanes] = padded_mask(self.space, self._partial[lanes, :depth], self._choices)
        return found

    def _idle_infos(self) -> Infos:
        everywhere = np.ones(self.num_envs, dtype=bool)
        return {"action_mask": self.action_masks(), "_action_mask": everywhere}

    def _begin(self, lanes: np.ndarray) -> None:
        self._depth[lanes] = 0

    def _observe(self) -> np.ndarray:
        return self._observation.of(self._partial, self._depth)

    def _advance(self, actions: Any, lanes: np.ndarray) -> tuple[np.ndarray, np.ndarray, Infos]:
        actions = _check_actions(actions, (self.num_envs,), self._choices)
        width = len(self.space.names)
        moved = np.zeros(self.num_envs, dtype=bool)
        for depth in np.unique(self._depth[lanes]):
            some = lanes[self._depth[lanes] == depth]
            chosen, moved[some] = decide(self.space, self._partial[some, :depth], actions[some])
            self._partial[some, depth] = chosen
        self._depth[lanes] += 1
        terminations = np.zeros(self.num_envs, dtype=bool)
        terminations[lanes] = self._depth[lanes] == width
        rewards, infos = np.zeros(self.num_envs), {}
        complete = np.flatnonzero(terminations)
        if len(complete):
            designs = self.space.repair(self._partial[complete])
            metrics = self.evaluate(designs)
            rewards = self._scatter(metrics["reward"], complete)
            infos = self._evaluated_infos(designs, metrics, complete)
        acted = np.zeros(self.num_envs, dtype=bool)
        acted[lanes] = True
        infos.update({"repaired": moved, "_repaired": acted})
        infos.update(self._idle_infos())
        return rewards, terminations, infos
