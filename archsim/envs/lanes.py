"""What the environments share: evaluation, info, and Gymnasium's vector conventions."""

from __future__ import annotations

import inspect
from abc import abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import numpy as np
from gymnasium import error, spaces
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from archsim.envs.kinds import CUSTOM, kind_of
from archsim.envs.problem import Metrics, SupportsEvaluation, as_problem
from archsim.envs.scenario import available_scenarios
from archsim.errors import InputError
from archsim.space import DesignSpace

Infos = dict[str, Any]


class Evaluating:
    """Mixed into every environment: the problem and how designs are judged.

    Attributes:
        problem: The design problem.
        space: Its design space.
        objective_names: Metrics to minimise.
        evaluate: int64[B, P] -> metrics; a recorder puts its cache in front of it.
        evaluations: Designs evaluated since the last seeded reset.
        subsystems: Agent by role, see :class:`archsim.envs.kinds.Kind`.
        environment: Kind of scenario it is for (:mod:`archsim.envs.kinds`); None: any. Problems
            that are of no scenario name no kind and are taken by all.
    """

    environment: ClassVar[str | None] = None
    problem: SupportsEvaluation
    space: DesignSpace
    objective_names: tuple[str, ...]
    evaluate: Callable[[np.ndarray], Metrics]
    evaluations: int
    subsystems: Mapping[str, str]

    def _open(self, scenario: Any, unknown: Mapping[str, Any]) -> None:
        """Take the problem.

        Raises:
            InputError: There is none, it is of another kind, or there are unknown arguments.
        """
        if unknown:
            given = inspect.signature(type(self)).parameters
            known = [n for n, p in given.items() if p.kind is not p.VAR_KEYWORD]
            raise InputError(
                "the environment takes no such argument",
                field=next(iter(unknown)),
                found=next(iter(unknown.values())),
                expected=", ".join(known),
            )
        if scenario is None:
            raise InputError(
                "an environment needs to be told what is designed",
                field="scenario",
                expected="a scenario or a problem; shipped ones: "
                + ", ".join(available_scenarios(self.environment)),
            )
        self.problem = as_problem(scenario)
        found = getattr(self.problem, "environment", None)
        kind = kind_of(found) if found else CUSTOM
        if self.environment and found and found != self.environment:
            raise InputError(
                f"the scenario is for another environment, {kind.whole}",
                field="environment",
                found=found,
                expected=self.environment,
            )
        self.subsystems = kind.subsystems
        self.space = self.problem.space
        self.objective_names = self.problem.objective.minimize
        self.evaluate = self.problem.evaluate
        self.evaluations = 0
        self._reported = (*self.problem.metric_names, "violation", "objective")

    def proxy(self, path: str) -> Callable[[np.ndarray], Metrics]:
        """Predicted metrics and scores of designs, by a learned model of this problem.

        They cost no evaluation: a searcher screens designs by them, and steps the environment
        with those worth it.

        Args:
            path: File of `archsim proxy train`.

        Raises:
            InputError: It is none, or of another problem.
        """
        from archsim.envs.proxy import ProxyProblem

        return ProxyProblem(self.problem, path).evaluate


def check_count(name: str, value: Any) -> int:
    """A positive whole number.

    Raises:
        InputError: It is none.
    """
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 1:
        raise InputError("a positive whole number is needed", field=name, found=value)
    return int(value)


class LaneVectorEnv(Evaluating, VectorEnv):
    """N environments advanced together; subclasses say what one step of some lanes does.

    All three autoreset modes of Gymnasium are offered. ``SAME_STEP`` is the default: with one
    evaluation an episode, ``NEXT_STEP`` would spend every other step on resets. In that mode
    ``infos["final_obs"]`` and ``infos["final_info"]`` are given as Gymnasium does, and what
    describes the evaluated design stays at the top level too.
    """

    metadata: dict[str, Any] = {"render_modes": []}  # noqa: RUF012

    def __init__(
        self,
        num_envs: int,
        autoreset_mode: AutoresetMode | str,
        observation: spaces.Space,
        action: spaces.Space,
    ) -> None:
        self.num_envs = check_count("num_envs", num_envs)
        try:
            self.autoreset_mode = AutoresetMode(autoreset_mode)
        except ValueError:
            raise InputError(
                "unknown autoreset mode",
                field="autoreset_mode",
                found=autoreset_mode,
                expected=", ".join(mode.value for mode in AutoresetMode),
            ) from None
        self.metadata = {**type(self).metadata, "autoreset_mode": self.autoreset_mode}
        self.single_observation_space = observation
        self.single_action_space = action
        self.observation_space = batch_space(observation, self.num_envs)
        self.action_space = batch_space(action, self.num_envs)
        self._done = np.zeros(self.num_envs, dtype=bool)

    @abstractmethod
    def _begin(self, lanes: np.ndarray) -> None:
        """Start an episode in some lanes (int64[L])."""

    @abstractmethod
    def _observe(self) -> np.ndarray:
        """Observations of all lanes, a new array."""

    @abstractmethod
    def _advance(self, actions: Any, lanes: np.ndarray) -> tuple[np.ndarray, np.ndarray, Infos]:
        """Step some lanes: rewards f8[N], terminations bool[N], infos (arrays [N] with masks)."""

    def _idle_infos(self) -> Infos:
        """Infos of a reset."""
        return {}

    def reset(
        self, *, seed: int | list[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, Infos]:
        """Reset all lanes, or those of ``options["reset_mask"]`` (bool[N])."""
        first = seed[0] if isinstance(seed, (list, tuple)) and seed else seed
        super().reset(seed=first, options=options)  # type: ignore[arg-type]
        if seed is not None:
            self.evaluations = 0
        lanes = np.arange(self.num_envs)
        if options and "reset_mask" in options:
            mask = np.asarray(options["reset_mask"])
            if mask.shape != (self.num_envs,) or mask.dtype != np.bool_ or not mask.any():
                raise error.Error(
                    f"options['reset_mask'] must be bool[{self.num_envs}] with at least one True"
                )
            lanes = np.flatnonzero(mask)
        self._begin(lanes)
        self._done[lanes] = False
        return self._observe(), self._idle_infos()

    def step(self, actions: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, Infos]:
        """Step every lane; lanes that ended are reset as the autoreset mode says."""
        mode = self.autoreset_mode
        if mode is AutoresetMode.DISABLED and self._done.any():
            raise error.ResetNeeded("lanes have ended; reset them with options['reset_mask']")
        ended = np.flatnonzero(self._done)
        lanes = np.flatnonzero(~self._done)
        if len(ended):
            self._begin(ended)
        rewards, terminations, infos = self._advance(actions, lanes)
        self._done = terminations.copy()
        observations = self._observe()
        if mode is AutoresetMode.SAME_STEP and terminations.any():
            over = np.flatnonzero(terminations)
            final = np.fromiter(observations, dtype=object, count=self.num_envs)
            final[~terminations] = None
            self._begin(over)
            self._done[:] = False
            observations = self._observe()
            infos["final_info"] = _masked(infos, terminations)
            infos["final_obs"] = final
            infos["_final_info"], infos["_final_obs"] = terminations.copy(), terminations.copy()
            infos.update(self._idle_infos())
        truncations = np.zeros(self.num_envs, dtype=bool)
        return observations, rewards, terminations, truncations, infos

    def _evaluated_infos(self, designs: np.ndarray, metrics: Metrics, lanes: np.ndarray) -> Infos:
        """Infos of the lanes that evaluated a design, by Gymnasium's vector convention."""
        whole = len(lanes) == self.num_envs
        mask = np.zeros(self.num_envs, dtype=bool)
        mask[lanes] = True
        columns: dict[str, np.ndarray] = {name: metrics[name] for name in self._reported}
        columns["feasible"] = metrics["feasible"]
        columns["evaluations"] = self.evaluations + 1 + np.arange(len(lanes))
        columns["design"] = designs
        self.evaluations += len(lanes)
        infos: Infos = {}
        for name, values in columns.items():
            if whole:
                infos[name] = values
            else:
                infos[name] = np.zeros((self.num_envs, *values.shape[1:]), dtype=values.dtype)
                infos[name][lanes] = values
            infos[f"_{name}"] = mask.copy()
        return infos

    def _scatter(self, values: np.ndarray, lanes: np.ndarray) -> np.ndarray:
        if len(lanes) == self.num_envs:
            return np.asarray(values, dtype=np.float64)
        found = np.zeros(self.num_envs)
        found[lanes] = values
        return found


def _masked(infos: Infos, ended: np.ndarray) -> Infos:
    """Copies for ``final_info``: what belongs to lanes that ended."""
    final: Infos = {}
    for name, values in infos.items():
        final[name] = values & ended if name.startswith("_") else values.copy()
    return final
