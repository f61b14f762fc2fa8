"""Episodes that refine a design: every step changes the current one, for any whole-design environment.

An episode starts at a random legal design (or ``reset(options={"design": [...]})``) and takes
``horizon`` steps. An action holds a move for every parameter (:func:`moves`): keep it, go a small or
a large step down or up (ordered parameters), or take a value (others). The design moved to is
repaired and evaluated by the environment underneath, so budgets, records and rewards are those of
whole designs. The start itself is not evaluated: a step that keeps everything does that.

Observations are those of the environment underneath, ``[S]`` (the current design in the first
entries, see :mod:`archsim.envs.observation`), then

| entries | meaning |
|---|---|
| M | every metric: ``(1 + z / (1 + |z|)) / 2``, ``z`` the logarithm of metric / that of the reference design; 0 before the first evaluation |
| K + 1 | the bottleneck, see :func:`bottleneck`, one of them 1; all 0 before the first evaluation |
| 1 | the share of the horizon that is over |
"""  # noqa: E501

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from archsim.envs.lanes import check_count
from archsim.envs.objective import Objective, larger_is_better
from archsim.errors import InputError
from archsim.space import Parameter, encoding_of

KEEP = 0


def moves(parameter: Parameter) -> tuple[int, ...] | None:
    """What an action may do to a parameter, after :data:`KEEP`.

    Returns:
        Steps by which its index changes (the ends stop it), or None: the further actions are its
        values.

    Example:
        >>> moves(Parameter("rows", (4, 8, 16, 32)))
        (-1, 1)
        >>> moves(Parameter.integer("kib", 1, 128))
        (-1, 1, -11, 11)
        >>> moves(Parameter("flow", ("weight", "output"))) is None
        True
    """
    if not parameter.ordered or parameter.cardinality < 3:
        return None
    far = round(parameter.cardinality**0.5)
    return (-1, 1) if far < 3 else (-1, 1, -far, far)


def bottleneck(objective: Objective, info: Mapping[str, Any]) -> int:
    """What holds a design back, as a position in ``objective.names``.

    The limit that is broken by the largest factor; where none is, the minimised metric that is the
    largest multiple of its reference; ``len(objective.names)`` where the cost model refuses the
    design although it keeps every limit.
    """
    names = list(objective.names)
    logs = {name: float(np.log(np.clip(info[name], 1e-300, 1e300))) for name in names}
    excess = {
        name: (logs[name] - np.log(bound)) * (-1.0 if larger_is_better(name) else 1.0)
        for name, bound in objective.limits.items()
    }
    if excess and max(excess.values()) > 0.0:
        return names.index(max(excess, key=lambda name: excess[name]))
    if not info["feasible"]:
        return len(names)
    ratios = {n: logs[n] - np.log(objective.references.get(n, 1.0)) for n in objective.minimize}
    return names.index(max(ratios, key=lambda name: ratios[name]))


class RefinementEnv(gymnasium.Wrapper):
    """One move of every parameter per step.

    Args:
        env: A whole-design environment of archsim in the ``multidiscrete`` encoding, wrapped or not
            (in a recorder, for instance).
        horizon: Steps of an episode.

    Attributes:
        horizon: Steps of an episode.
        bottlenecks: What the K + 1 entries of the bottleneck stand for.

    Raises:
        InputError: The environment or the horizon is of another kind.

    Example:
        >>> import gymnasium as gym, archsim.envs
        >>> env = RefinementEnv(gym.make("archsim/Accelerator-v0", scenario="smoke"), horizon=2)
        >>> start, info = env.reset(seed=0, options={"design": [1, 1, 0, 0, 1, 1]})
        >>> observation, reward, terminated, truncated, info = env.step([2, 0, 0, 2, 0, 0])
        >>> info["design"].tolist(), env.bottlenecks[info["bottleneck"]], terminated
        ([2, 1, 0, 1, 1, 1], 'power_w', False)
    """

    def __init__(self, env: gymnasium.Env, horizon: int = 16) -> None:
        super().__init__(env)
        self.horizon = check_count("horizon", horizon)
        inner = env.observation_space
        if encoding_of(env.action_space) != "multidiscrete" or not isinstance(inner, spaces.Box):
            raise InputError(
                "refinement needs whole designs in the multidiscrete encoding",
                field="env",
                found=env.action_space,
            )
        self._problem = env.get_wrapper_attr("problem")
        self._space = env.get_wrapper_attr("space")
        self._moves = [moves(parameter) for parameter in self._space.parameters]
        pairs = zip(self._moves, self._space.cardinalities.tolist(), strict=True)
        counts = [1 + (count if steps is None else len(steps)) for steps, count in pairs]
        self.action_space = spaces.MultiDiscrete(np.array(counts, dtype=np.int64))
        self.bottlenecks = (*self._problem.objective.names, "model")
        known = getattr(self._problem, "reference_metrics", {})
        shipped = [known.get(name, 1.0) for name in self._problem.metric_names]
        self._references = np.log(np.clip(shipped, 1e-300, 1e300))
        self._further = len(shipped) + len(self.bottlenecks) + 1
        size = inner.shape[0] + self._further
        self.observation_space = spaces.Box(0.0, 1.0, (size,), np.float32)
        self._rng = np.random.default_rng()
        self._design = np.zeros(len(self._moves), dtype=np.int64)
        self._steps, self._ended = 0, True

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Begin an episode at a random legal design, or the one in ``options["design"]``."""
        if seed is not None:
            self._rng = np.random.default_rng(seed)
        observation, info = self.env.reset(seed=seed)
        given = (options or {}).get("design")
        start = self._space.sample(self._rng) if given is None else given
        self._design = self._space.repair(self._space.check_indices(start)[None])[0]
        self._steps, self._ended = 0, False
        shown = np.array(observation, dtype=np.float32)
        shown[: len(self._design)] = self._space.to_unit(self._design)
        return np.concatenate([shown, np.zeros(self._further, dtype=np.float32)]), info

    def point_of(self, action: Any) -> np.ndarray:
        """int64[P]: the point an action moves the current design to, before it is repaired.

        Raises:
            InputError: Not an action of the space.
        """
        array = np.asarray(action)
        if array.shape != self.action_space.shape or not self.action_space.contains(
            array.astype(np.int64)
        ):
            raise InputError(
                "not an action of the space",
                field="action",
                found=action,
                expected=str(self.action_space),
            )
        wanted = self._design.copy()
        for at, choice in enumerate(array.tolist()):
            steps = self._moves[at]
            if choice != KEEP:
                wanted[at] = choice - 1 if steps is None else wanted[at] + steps[choice - 1]
        return np.clip(wanted, 0, self._space.cardinalities - 1)

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Move and evaluate the design moved to."""
        observation, reward, _, truncated, info = self._evaluate(self.point_of(action))
        self._design = np.array(info["design"], dtype=np.int64)
        self._steps += 1
        info["bottleneck"] = bottleneck(self._problem.objective, info)
        further = np.zeros(self._further, dtype=np.float32)
        values = [info[name] for name in self._problem.metric_names]
        z = np.log(np.clip(values, 1e-300, 1e300)) - self._references
        further[: len(z)] = 0.5 + 0.5 * z / (1.0 + np.abs(z))
        further[len(z) + info["bottleneck"]] = 1.0
        further[-1] = min(self._steps / self.horizon, 1.0)
        observed = np.concatenate([np.asarray(observation, dtype=np.float32), further])
        return observed, reward, self._steps >= self.horizon, truncated, info

    def probe(self, point: np.ndarray) -> tuple[float, dict[str, Any]]:
        """Reward and info of a whole design, without moving to it; an evaluation like any."""
        _, reward, _, _, info = self._evaluate(point)
        return reward, info

    def _evaluate(self, point: np.ndarray) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        if self._ended:
            self.env.reset()
        found = self.env.step(point)
        self._ended = bool(found[2] or found[3])
        return found[0], float(found[1]), found[2], bool(found[3]), found[4]
