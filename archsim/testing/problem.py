"""``check_problem``: evaluate a cost model in many ways, and judge whether to trust it."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from archsim.envs import as_problem
from archsim.errors import ArchsimError, InputError

#: A metric may grow by this share under a law, for the rounding of sums in another order.
ROUNDING = 1e-9


class ProblemCheckError(ArchsimError, AssertionError):
    """A cost model does not keep the contract; the message lists every problem found."""


@dataclass(frozen=True)
class ProblemReport:
    """What `check_problem` saw.

    Attributes:
        problem: Name of the class.
        designs: Designs evaluated.
        feasible: Share of them that is feasible.
        objectives: Different values of the scalar objective among them.
        designs_per_s: Designs a second of processor time, in one batch.
        checks: What was checked, in words.
    """

    problem: str
    designs: int
    feasible: float
    objectives: int
    designs_per_s: float
    checks: tuple[str, ...]

    def __str__(self) -> str:
        lines = [f"{self.problem}: keeps the contract"]
        lines += [f"  ok: {check}" for check in self.checks]
        lines.append(
            f"  {self.designs} designs, {self.feasible:.0%} feasible, {self.objectives} different "
            f"objectives; {self.designs_per_s:,.0f} designs a second of processor time"
        )
        return "\n".join(lines)


def check_problem(
    problem: Any,
    *,
    designs: int = 256,
    seed: int = 0,
    never_worse: Mapping[str, Sequence[str]] | None = None,
) -> ProblemReport:
    """Check that a cost model keeps the contract of :class:`archsim.envs.DesignProblem`.

    Legal designs are drawn at random; every metric must be finite, and the same whenever, in
    whatever batch and in whatever order a design is evaluated. Laws the model should obey may be
    given too.

    Args:
        problem: The problem, or anything :func:`archsim.envs.as_problem` takes (the name of a
            scenario, a file).
        designs: Designs to draw; at least 8.
        seed: Of the draw.
        never_worse: Laws: by parameter, the metrics that must not grow from a value to the next
            one (``{"link_bits": ["latency_s"]}``: wider links are never slower).

    Returns:
        A report; ``str(report)`` reads as text.

    Raises:
        ProblemCheckError: The problem does not keep the contract; all that is wrong is listed.
        InputError: There is no such problem, or a law names what it does not have.

    Examples:
        >>> from archsim.testing import toy_problem
        >>> check_problem(toy_problem(), designs=64).designs
        64
    """
    if designs < 8:
        raise InputError("too few designs to tell", field="designs", found=designs, expected=">= 8")
    problem = as_problem(problem)
    laws = _laws(problem, never_worse or {})
    sample = problem.space.sample(np.random.default_rng(seed), designs)
    wrong: list[str] = []
    checks: list[str] = []
    given = sample.copy()
    started = time.process_time()
    found = problem.evaluate(given)
    spent = time.process_time() - started

    def judge(complaint: str, promise: str) -> None:
        if complaint:
            wrong.append(complaint)
        else:
            checks.append(promise)

    judge(_changed(given, sample), "leaves the designs it is given as they are")
    judge(_not_finite(problem, found, sample), "gives finite metrics for every legal design")
    judge(_differs(problem, found, sample), "costs a design the same in every batch and order")
    judge(_indifferent(problem, found), "tells designs apart, and some are feasible")
    for name, metrics in laws.items():
        judge(
            _grows(problem, found, sample, name, metrics),
            f"{', '.join(metrics)} never grows with {name}",
        )
    if wrong:
        listed = "".join(f"\n  - {one}" for one in wrong)
        raise ProblemCheckError(
            f"{type(problem).__name__} does not keep the contract of a problem:{listed}"
        )
    return ProblemReport(
        problem=type(problem).__name__,
        designs=designs,
        feasible=float(np.mean(found["feasible"])),
        objectives=len(np.unique(found["objective"])),
        designs_per_s=designs / max(spent, 1e-9),
        checks=tuple(checks),
    )


def _laws(problem: Any, wanted: Mapping[str, Sequence[str]]) -> dict[str, tuple[str, ...]]:
    """The laws, if the problem has what they name."""
    for name, metrics in wanted.items():
        if name not in problem.space.names:
            raise InputError(
                "unknown parameter", field="never_worse", found=name,
                expected=", ".join(problem.space.names),
            )  # fmt: skip
        for metric in metrics:
            if metric not in problem.metric_names:
                raise InputError(
                    "unknown metric", field=f"never_worse.{name}", found=metric,
                    expected=", ".join(problem.metric_names),
                )  # fmt: skip
    return {name: tuple(metrics) for name, metrics in wanted.items()}


def _shown(problem: Any, design: np.ndarray) -> str:
    """A design in words."""
    values = problem.space.decode(design[None])
    return ", ".join(f"{name}={column[0]}" for name, column in values.items())


def _changed(given: np.ndarray, sample: np.ndarray) -> str:
    if np.array_equal(given, sample):
        return ""
    return "evaluate changes the array of designs it is given: work on a copy"


def _not_finite(problem: Any, found: Mapping[str, np.ndarray], sample: np.ndarray) -> str:
    for name in (*problem.metric_names, "violation", "objective", "reward"):
        bad = np.flatnonzero(~np.isfinite(found[name]))
        if len(bad):
            return (
                f"{name} is {found[name][bad[0]]} for {len(bad)} of {len(sample)} designs, such as "
                f"{_shown(problem, sample[bad[0]])}: an impossible design has violation > 0 and "
                "finite metrics"
            )
    return ""


def _differs(problem: Any, found: Mapping[str, np.ndarray], sample: np.ndarray) -> str:
    """Whether a design's metrics depend on when and beside what it is evaluated."""
    backwards = problem.evaluate(sample[::-1].copy())
    few = slice(0, len(sample), max(len(sample) // 8, 1))
    alone = [problem.evaluate(row[None].copy()) for row in sample[few]]
    for name in (*problem.metric_names, "feasible", "violation"):
        for seen, rows in (
            (backwards[name][::-1], sample),
            (np.array([one[name][0] for one in alone]), sample[few]),
        ):
            first = found[name] if rows is sample else found[name][few]
            at = np.flatnonzero(seen != first)
            if len(at):
                return (
                    f"{name} of {_shown(problem, rows[at[0]])} is {first[at[0]]} in one batch and "
                    f"{seen[at[0]]} in another: no state may be kept between designs, and random "
                    "numbers must come from the design"
                )
    return ""


def _indifferent(problem: Any, found: Mapping[str, np.ndarray]) -> str:
    if not found["feasible"].any():
        return (
            f"none of {len(found['feasible'])} designs is feasible: loosen the limits "
            f"{dict(problem.objective.limits)} or the parameters"
        )
    if len(np.unique(found["objective"])) < 2:
        return "every design has the same objective: there is nothing to search for"
    return ""


def _grows(
    problem: Any,
    found: Mapping[str, np.ndarray],
    sample: np.ndarray,
    name: str,
    metrics: tuple[str, ...],
) -> str:
    """Whether a metric grows from a design to the same with the next value of a parameter."""
    at = problem.space.names.index(name)
    more = sample.copy()
    more[:, at] += 1
    rows = np.flatnonzero(more[:, at] < problem.space.cardinalities[at])
    rows = rows[problem.space.is_legal(more[rows])] if len(rows) else rows
    if not len(rows):
        return f"no drawn design has a legal next value of {name}: the law was not tested"
    after = problem.evaluate(more[rows])
    for metric in metrics:
        before = found[metric][rows]
        worse = np.flatnonzero(after[metric] > before + ROUNDING * np.abs(before))
        if len(worse):
            row = rows[worse[0]]
            return (
                f"{metric} grows with {name}, from {before[worse[0]]:.6g} to "
                f"{after[metric][worse[0]]:.6g} at {_shown(problem, sample[row])} "
                f"({len(worse)} of {len(rows)} designs)"
            )
    return ""
