"""What single environments share: episodes, evaluation of one design, and its picture as text."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np

from archsim.envs.lanes import Evaluating
from archsim.envs.problem import Metrics
from archsim.errors import InputError

RENDER_MODES = ("ansi",)


class SingleEnv(Evaluating, gymnasium.Env):
    """One design at a time; subclasses say what a step is.

    Args:
        scenario: Scenario name, path, data or object, or a problem.
        render_mode: ``None``, or ``"ansi"`` for text.
        unknown: Nothing; another argument is refused by name.

    Raises:
        InputError: An argument is wrong.
    """

    metadata: dict[str, Any] = {"render_modes": list(RENDER_MODES), "render_fps": 1}  # noqa: RUF012

    def __init__(
        self, scenario: Any = None, render_mode: str | None = None, **unknown: Any
    ) -> None:
        self._open(scenario, unknown)
        if render_mode is not None and render_mode not in RENDER_MODES:
            raise InputError(
                "no such render mode",
                field="render_mode",
                found=render_mode,
                expected=" or ".join(("None", *map(repr, RENDER_MODES))),
            )
        self.render_mode = render_mode
        self._last: tuple[np.ndarray, dict[str, Any]] | None = None

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Begin an episode; a seeded one also restarts the count of evaluations."""
        super().reset(seed=seed, options=options)
        if seed is not None:
            self.evaluations = 0
        return self._begin()

    def _begin(self) -> tuple[np.ndarray, dict[str, Any]]:
        """Start an episode: its first observation and info."""
        raise NotImplementedError

    def _evaluate_one(self, design: np.ndarray) -> tuple[Metrics, float, dict[str, Any]]:
        """Metrics of a legal design int64[1, P], its reward and its info."""
        metrics = self.evaluate(design)
        self.evaluations += 1
        info: dict[str, Any] = {name: float(metrics[name][0]) for name in self._reported}
        info["feasible"] = bool(metrics["feasible"][0])
        info["evaluations"] = self.evaluations
        info["design"] = design[0].copy()
        self._last = design[0], info
        return metrics, float(metrics["reward"][0]), info

    def render(self) -> str | None:
        """The design evaluated last as text: values, metrics against the reference, and limits."""
        if self.render_mode is None:
            return None
        if self._last is None:
            return "no design evaluated yet"
        return describe_design(self.problem, *self._last)


def describe_design(problem: Any, design: np.ndarray, info: dict[str, Any]) -> str:
    """A design as text, one fact a line: what was chosen, what it costs, and what is wrong with it.

    Args:
        problem: The design problem.
        design: int64[P].
        info: Of the step that evaluated it.
    """
    from archsim.envs.objective import larger_is_better

    objective = problem.objective
    verdict = "feasible" if info["feasible"] else f"infeasible, violation {info['violation']:.4g}"
    lines = [f"{name}: {value}" for name, value in problem.space.decode(design).items()]
    for name in problem.metric_names:
        value, notes = info[name], []
        if name in objective.minimize:
            notes.append("minimised")
        reference = getattr(problem, "reference_metrics", {}).get(name)
        if reference and name in objective.names:
            notes.append(f"{value / reference:.3g} x {problem.reference_name}")
        if name in objective.limits:
            bound, lower = objective.limits[name], larger_is_better(name)
            broken = value < bound if lower else value > bound
            side = "at least" if lower else "at most"
            notes.append(f"{'BEYOND the limit, ' if broken else 'limit '}{side} {bound:.6g}")
        lines.append(f"{name}: {value:.6g}" + (f" ({'; '.join(notes)})" if notes else ""))
    return "\n".join([*lines, f"objective: {info['objective']:.6g} ({verdict})"])
