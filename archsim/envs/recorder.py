"""Counting, recording and remembering evaluations, between any agent and any environment.

A recorder counts every evaluation an agent asks for (a repeated design counts again), reports each
to a callback, answers designs it knows without running the cost model, and ends the search when
the budget is used up. Budgets therefore hold for agents that know nothing of archsim, and a search
that is run again with the same seed replays its stored part at memory speed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import gymnasium
import numpy as np
from gymnasium import error
from gymnasium.vector import VectorEnv, VectorWrapper

from archsim.envs.lanes import check_count
from archsim.envs.problem import Metrics, SupportsEvaluation
from archsim.space import DesignSpace, encoding_of

#: Called with ``{"order", "key", "index_vector", every metric, "reward", "feasible"}``; order is
#: 0 for the first evaluation.
Callback = Callable[[dict[str, Any]], None]
#: Known designs: key -> metrics (``feasible``, ``violation`` and ``objective`` among them).
Cache = Mapping[str, Mapping[str, float]]


class BudgetExhausted(error.Error):
    """Stepped or reset after the last evaluation of the budget."""


class Memory:
    """Evaluates designs, each at most once: remembers new ones, takes known ones from a cache.

    Args:
        problem: Whose designs they are.
        evaluate: What evaluates designs that are not known, int64[B, P] -> metrics.
        cache: Designs known from elsewhere; an entry that lacks a metric is not used.
    """

    def __init__(
        self,
        problem: SupportsEvaluation,
        evaluate: Callable[[np.ndarray], Metrics],
        cache: Cache | None = None,
    ) -> None:
        self._space = problem.space
        self._reward = problem.objective.reward
        self._evaluate = evaluate
        self._cache = cache
        names = dict.fromkeys((*problem.metric_names, "feasible", "violation", "objective"))
        self._names = tuple(names)
        self._row_of: dict[str, int] = {}
        self._rows = np.empty((256, len(self._names)))

    def __call__(self, indices: np.ndarray) -> Metrics:
        """The metrics of int64[B, P], bit for bit those of the first evaluation."""
        keys = self._space.keys(indices)
        fresh = {key: at for at, key in enumerate(keys) if not self._known(key)}
        if fresh:
            # dict order is that of first sight, the position that of the last: equal designs
            metrics = self._evaluate(indices[list(fresh.values())])
            rows = np.stack([np.asarray(metrics[n], dtype=np.float64) for n in self._names], axis=1)
            for key, row in zip(fresh, rows, strict=True):
                self._add(key, row)
        table = self._rows[[self._row_of[key] for key in keys]]
        found: Metrics = {name: table[:, at].copy() for at, name in enumerate(self._names)}
        found["feasible"] = found["feasible"] != 0
        found["reward"] = self._reward(found["objective"], found["violation"])
        return found

    def _known(self, key: str) -> bool:
        if key in self._row_of:
            return True
        entry = None if self._cache is None else self._cache.get(key)
        if entry is None or any(name not in entry for name in self._names):
            return False
        self._add(key, np.array([float(entry[name]) for name in self._names]))
        return True

    def _add(self, key: str, row: np.ndarray) -> None:
        count = len(self._row_of)
        if count == len(self._rows):
            self._rows = np.concatenate([self._rows, np.empty_like(self._rows)])
        self._rows[count] = row
        self._row_of[key] = count


class _Counter:
    """What scalar and vector recorders share."""

    def __init__(self, budget: int, on_evaluation: Callback | None) -> None:
        self.budget = check_count("budget", budget)
        self.on_evaluation = on_evaluation
        self.count = 0

    @property
    def left(self) -> int:
        return self.budget - self.count

    def check(self) -> None:
        if self.left <= 0:
            raise BudgetExhausted(f"the budget of {self.budget} evaluations is used up")

    def report(
        self, key: str, design: np.ndarray, metrics: Mapping[str, Any], reward: float
    ) -> None:
        order = self.count
        self.count += 1
        if self.on_evaluation is not None:
            record = {"order": order, "key": key, "index_vector": design}
            self.on_evaluation({**record, **metrics, "reward": reward})


def _install_memory(env: Any, cache: Cache | None) -> None:
    """Put a memory in front of an environment that offers its evaluation; others just run."""
    base = env.unwrapped
    if hasattr(base, "evaluate") and hasattr(base, "problem"):
        base.evaluate = Memory(base.problem, base.evaluate, cache)


_NO_METRICS = ("evaluations", "design", "repaired", "action_mask", "budget_exhausted")


class Recorder(gymnasium.Wrapper):
    """Counts and records the evaluations of a scalar environment.

    A step evaluated a design if its info holds every objective. The step that uses up the budget
    is ``truncated`` with ``info["budget_exhausted"] = True``.

    Args:
        env: Any environment that offers ``space`` (a :class:`DesignSpace`) and
            ``objective_names``. If its info holds ``design`` (the index vector evaluated), that is
            recorded; else the action is decoded by the type of the action space.
        budget: Evaluations allowed.
        on_evaluation: Called with every evaluation, in order.
        cache: Designs known already, see :data:`Cache`.

    Attributes:
        budget: Evaluations allowed.

    Raises:
        BudgetExhausted: From ``step`` and ``reset``, once the budget is used up.
    """

    def __init__(
        self,
        env: gymnasium.Env,
        budget: int,
        on_evaluation: Callback | None = None,
        cache: Cache | None = None,
    ) -> None:
        super().__init__(env)
        self._counter = _Counter(budget, on_evaluation)
        self._space: DesignSpace = env.get_wrapper_attr("space")
        self._objectives: tuple[str, ...] = tuple(env.get_wrapper_attr("objective_names"))
        _install_memory(env, cache)

    @property
    def budget(self) -> int:
        """Evaluations allowed."""
        return self._counter.budget

    @property
    def evaluations(self) -> int:
        """Evaluations counted so far."""
        return self._counter.count

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Reset, unless the budget is used up."""
        self._counter.check()
        return self.env.reset(seed=seed, options=options)

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Step, and record the design if one was evaluated."""
        self._counter.check()
        observation, reward, terminated, truncated, info = self.env.step(action)
        if all(name in info for name in self._objectives):
            design = info.get("design")
            if design is None:
                encoding = encoding_of(self.env.action_space)
                design = self._space.repair(self._space.from_action(action, encoding))
            metrics = {
                name: bool(value) if name == "feasible" else float(value)
                for name, value in info.items()
                if name not in _NO_METRICS and np.ndim(value) == 0 and _is_number(value)
            }
            metrics.setdefault("feasible", True)
            key = self._space.key(design)
            self._counter.report(key, np.array(design, dtype=np.int64), metrics, float(reward))
            info["evaluations"] = self._counter.count
        if self._counter.left <= 0:
            truncated = True
            info["budget_exhausted"] = True
        return observation, reward, terminated, truncated, info


def _is_number(value: Any) -> bool:
    return isinstance(value, (bool, int, float, np.number, np.bool_)) or (
        isinstance(value, np.ndarray) and value.dtype.kind in "biuf"
    )


class VectorRecorder(VectorWrapper):
    """Counts and records the evaluations of a vector environment, lane by lane in order.

    If a step evaluates more designs than the budget has left, the surplus lanes are neither counted
    nor recorded. That step is ``truncated`` in every lane, with ``infos["budget_exhausted"]`` true
    in every lane.

    Args:
        env: A vector environment; of archsim's own, or any whose (single) environments offer
            ``space`` and ``objective_names`` and whose infos hold ``design``.
        budget: As for :class:`Recorder`.
        on_evaluation: As for :class:`Recorder`.
        cache: As for :class:`Recorder`.

    Raises:
        BudgetExhausted: From ``step`` and ``reset``, once the budget is used up.
    """

    def __init__(
        self,
        env: VectorEnv,
        budget: int,
        on_evaluation: Callback | None = None,
        cache: Cache | None = None,
    ) -> None:
        super().__init__(env)
        self._counter = _Counter(budget, on_evaluation)
        self._space: DesignSpace = _vector_attribute(env, "space")
        self._objectives: tuple[str, ...] = tuple(_vector_attribute(env, "objective_names"))
        _install_memory(env, cache)

    @property
    def budget(self) -> int:
        """Evaluations allowed."""
        return self._counter.budget

    @property
    def evaluations(self) -> int:
        """Evaluations counted so far."""
        return self._counter.count

    def reset(
        self, *, seed: int | list[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Reset, unless the budget is used up."""
        self._counter.check()
        return self.env.reset(seed=seed, options=options)  # type: ignore[arg-type]

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        """Step, and record the designs that were evaluated."""
        self._counter.check()
        observations, rewards, terminations, truncations, infos = self.env.step(actions)
        evaluated = self._evaluated(infos)
        if evaluated.any():
            before = self._counter.count
            lanes = np.flatnonzero(evaluated)[: self._counter.left]
            self._report(lanes, infos, actions, rewards)
            order = np.zeros(self.num_envs, dtype=np.int64)
            order[lanes] = before + 1 + np.arange(len(lanes))
            infos["evaluations"], infos["_evaluations"] = order, order > 0
        if self._counter.left <= 0:
            truncations = np.ones(self.num_envs, dtype=bool)
            infos["budget_exhausted"] = np.ones(self.num_envs, dtype=bool)
            infos["_budget_exhausted"] = np.ones(self.num_envs, dtype=bool)
        return observations, rewards, terminations, truncations, infos

    def _evaluated(self, infos: Mapping[str, Any]) -> np.ndarray:
        """Lanes whose info (or final info, after an autoreset) holds every objective."""
        masks = np.ones(self.num_envs, dtype=bool)
        for name in self._objectives:
            masks &= _column(infos, name, self.num_envs)[1]
        return masks

    def _report(
        self, lanes: np.ndarray, infos: Mapping[str, Any], actions: Any, rewards: np.ndarray
    ) -> None:
        designs, known = _column(infos, "design", self.num_envs)
        if designs is None or not known[lanes].all():
            encoding = encoding_of(_single_action_space(self.env))
            designs = self._space.repair(self._space.from_action(actions, encoding))
        designs = np.ascontiguousarray(designs[lanes], dtype=np.int64)
        columns: dict[str, Sequence[Any]] = {}
        for name in _metric_names(infos):
            values, _ = _column(infos, name, self.num_envs)
            if values is not None and values.ndim == 1 and values.dtype.kind in "biuf":
                kind = bool if name == "feasible" else np.float64
                columns[name] = values[lanes].astype(kind).tolist()
        columns.setdefault("feasible", [True] * len(lanes))
        names, rows = tuple(columns), zip(*columns.values(), strict=True)
        keys = self._space.keys(designs)
        won = np.asarray(rewards, dtype=np.float64)[lanes].tolist()
        for key, design, row, reward in zip(keys, designs, rows, won, strict=True):
            self._counter.report(key, design, dict(zip(names, row, strict=True)), reward)


def _metric_names(infos: Mapping[str, Any]) -> list[str]:
    names = dict.fromkeys((*infos, *infos.get("final_info", {})))
    return [name for name in names if not name.startswith("_") and name not in _NO_METRICS]


def _column(
    infos: Mapping[str, Any], name: str, count: int
) -> tuple[np.ndarray | None, np.ndarray]:
    """An info of every lane and where it is set; final infos win over those after a reset."""
    values: np.ndarray | None = None
    mask = np.zeros(count, dtype=bool)
    for source in (infos, infos.get("final_info")):
        if isinstance(source, Mapping) and isinstance(source.get(name), np.ndarray):
            found = source[name]
            here = np.asarray(source.get(f"_{name}", np.ones(count, dtype=bool)))
            if values is None:
                values = found.copy()
            else:
                values[here] = found[here]
            mask |= here
    return values, mask


def _single_action_space(env: VectorEnv) -> gymnasium.Space:
    return env.single_action_space


def _vector_attribute(env: VectorEnv, name: str) -> Any:
    """An attribute of a native vector environment, or of the first of many environments."""
    if hasattr(env.unwrapped, name):
        return getattr(env.unwrapped, name)
    return env.unwrapped.get_attr(name)[0]  # type: ignore[attr-defined]
