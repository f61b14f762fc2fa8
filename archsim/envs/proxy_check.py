"""How good a proxy is: on designs it never saw, beside the real model's numbers and its time."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np

from archsim.envs.problem import Metrics
from archsim.envs.proxy import Advance, Proxy, distinct_designs, evaluated, refused

#: Share of designs that count as the promising ones.
TOP = 0.01
#: Designs the real model is timed on, and least seconds either is timed for.
TIMED, SECONDS = 64, 0.2


@dataclass(frozen=True)
class MetricError:
    """Error of one predicted metric on held-out designs.

    Attributes:
        rmse: Root of the mean squared relative error (of the error over the spread, where the
            metric is not positive everywhere).
        worst: Largest of these errors.
        spearman: Rank correlation.
    """

    rmse: float
    worst: float
    spearman: float


@dataclass(frozen=True)
class ProxyCheck:
    """How a proxy did.

    Attributes:
        designs: Held-out designs.
        metrics: Errors by metric, over the designs the model takes.
        unlike: The same over held-out designs that no training design is equivalent to, where the
            problem knows which are; else None.
        objective_spearman: Rank correlation of the objective over the feasible designs.
        feasible: Share of designs whose feasibility is told rightly.
        top_found: Share of the best 1 % that are among the proxy's best 5 %.
        strange: Share of designs flagged as out of distribution.
        strange_error: Factor by which the error of the objective is larger on those; NaN if none.
        proxy_s: CPU seconds a design.
        real_s: Those of the real model.
    """

    designs: int
    metrics: dict[str, MetricError]
    unlike: dict[str, MetricError] | None
    objective_spearman: float
    feasible: float
    top_found: float
    strange: float
    strange_error: float
    proxy_s: float
    real_s: float

    @property
    def speedup(self) -> float:
        """How many times the proxy is faster, CPU time by CPU time."""
        return self.real_s / self.proxy_s


def check_proxy(
    proxy: Proxy,
    problem: Any,
    samples: int = 5000,
    seed: int = 1,
    advance: Advance | None = None,
) -> ProxyCheck:
    """Compare a proxy with the real model.

    Args:
        proxy: The proxy.
        problem: The problem it was trained on.
        samples: Designs to draw; those it was trained on are left out.
        seed: Of the designs; another than the proxy's.
        advance: Hears how far the real model is.

    Raises:
        InputError: It was trained on another problem.
    """
    proxy.check_problem(problem)
    trained = distinct_designs(problem, proxy.samples, proxy.seed)
    known = {design.tobytes() for design in trained}
    drawn = distinct_designs(problem, samples, seed + (seed == proxy.seed))
    designs = np.stack([d for d in drawn if d.tobytes() not in known] or [drawn[0]])
    real = evaluated(problem, designs, advance)
    guess, strange = proxy.predict(designs)
    guess.update(problem.objective.score(guess))
    taken = ~refused(problem, real)
    twins = getattr(problem, "class_of", None)
    unlike = None
    if twins is not None:
        fresh = taken & ~np.isin(twins(designs), twins(trained))
        unlike = _errors(proxy, real, guess, fresh) if fresh.sum() > 2 else None
    both = real["feasible"] & guess["feasible"]
    apart = np.abs(guess["objective"] - real["objective"])
    flagged = both & strange
    error = np.nan
    if flagged.any() and (both & ~strange).any():
        error = float(apart[flagged].mean() / max(apart[both & ~strange].mean(), 1e-300))
    return ProxyCheck(
        designs=len(designs),
        metrics=_errors(proxy, real, guess, taken),
        unlike=unlike,
        objective_spearman=_spearman(guess["objective"][both], real["objective"][both]),
        feasible=float((guess["feasible"] == real["feasible"]).mean()),
        top_found=_top(real["objective"], guess["objective"]),
        strange=float(strange.mean()),
        strange_error=error,
        proxy_s=_seconds(lambda block: proxy.predict(block), designs),
        real_s=_seconds(_untabled(problem).evaluate, designs[:TIMED]),
    )


def _errors(
    proxy: Proxy, real: Metrics, guess: Metrics, rows: np.ndarray
) -> dict[str, MetricError]:
    found = {}
    for name, positive in zip(proxy.metrics, proxy.logarithmic, strict=True):
        true, predicted = real[name][rows], guess[name][rows]
        unit = true if positive else max(float(np.std(true)), 1e-300)
        error = np.abs(predicted - true) / unit
        found[name] = MetricError(
            float(np.sqrt((error**2).mean())), float(error.max()), _spearman(predicted, true)
        )
    return found


def _spearman(one: np.ndarray, other: np.ndarray) -> float:
    from scipy.stats import rankdata

    if len(one) < 3 or np.ptp(one) == 0 or np.ptp(other) == 0:
        return float("nan")
    return float(np.corrcoef(rankdata(one), rankdata(other))[0, 1])


def _top(real: np.ndarray, guess: np.ndarray) -> float:
    count = max(1, int(TOP * len(real)))
    best = np.argsort(real, kind="stable")[:count]
    promising = np.argsort(guess, kind="stable")[: 5 * count]
    return float(np.isin(best, promising).mean())


def _seconds(evaluate: Any, designs: np.ndarray) -> float:
    """CPU seconds a design, after a first call that may compile."""
    evaluate(designs[:2])
    began, count = time.process_time(), 0
    while time.process_time() - began < SECONDS:
        evaluate(designs)
        count += len(designs)
    return (time.process_time() - began) / count


def _untabled(problem: Any) -> Any:
    """The problem itself, not the table that answers for it."""
    if getattr(problem, "table", None) is None:
        return problem
    return type(problem)(problem.scenario.model_copy(update={"table": None}))
