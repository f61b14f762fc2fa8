"""Fair comparison of searchers: curves, bands, fronts and the chance that one beats another.

Definitions and their sources:

* Interquartile mean, stratified bootstrap and probability of improvement: R. Agarwal et al.,
  "Deep Reinforcement Learning at the Edge of the Statistical Precipice", NeurIPS 2021
  (arXiv:2108.13264). Percentile bootstrap: B. Efron, Annals of Statistics 7 (1979).
* Hypervolume: E. Zitzler, L. Thiele, PPSN 1998. IGD+: H. Ishibuchi et al., EMO 2015. Both, and the
  Pareto filter, are computed by moocore.
* Knee: I. Das, "On characterizing the knee of the Pareto curve", Structural Optimization 18 (1999).

Everything is deterministic: resampling draws from one generator seeded by the caller.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from archsim.errors import MissingExtraError

#: Room left between the worst corner of the fronts compared and the reference point of the
#: hypervolume, in units of their extent; the usual choice in the EMO literature.
REFERENCE_MARGIN = 0.1


def _moocore() -> Any:
    try:
        import moocore
    except ImportError:
        raise MissingExtraError("moocore", "search") from None
    return moocore


def pareto_front(points: np.ndarray, feasible: np.ndarray | None = None) -> np.ndarray:
    """Indices of the non-dominated points, all objectives minimised.

    Args:
        points: float64[N, K] objective values.
        feasible: bool[N]; infeasible points are never on the front.

    Returns:
        int64[F] sorted by the first objective, then the second, and so on; of equal points the
        first stands for all.
    """
    points = np.atleast_2d(np.asarray(points, dtype=np.float64))
    rows = np.arange(len(points)) if feasible is None else np.flatnonzero(feasible)
    if not len(rows):
        return rows
    rows = rows[_moocore().is_nondominated(np.ascontiguousarray(points[rows]))]
    return rows[np.lexsort(points[rows].T[::-1])]


@dataclass(frozen=True)
class Scale:
    """Maps objective values to comparable, unit-free numbers: 0 is ideal, 1 the front's worst.

    Objectives that are positive everywhere are compared by ratio (log10), others by difference.

    Attributes:
        ideal: float64[K] best value of each objective on the reference front (after the log).
        nadir: float64[K] worst value of each objective on the reference front (after the log).
        log: bool[K] whether the objective is compared by ratio.
    """

    ideal: np.ndarray
    nadir: np.ndarray
    log: np.ndarray

    @classmethod
    def from_points(cls, points: np.ndarray, front: np.ndarray) -> Scale:
        """Take the scale from a front.

        Args:
            points: float64[N, K] all feasible points; where the front has no extent in an
                objective, their extent is used.
            front: int64[F] rows on the front.
        """
        points = np.asarray(points, dtype=np.float64)
        log = np.asarray((points > 0).all(axis=0))
        values = _logarithm(points, log)
        ideal = values[front].min(axis=0)
        nadir = values[front].max(axis=0)
        nadir = np.where(nadir > ideal, nadir, values.max(axis=0))
        return cls(ideal, np.where(nadir > ideal, nadir, ideal + 1.0), log)

    def __call__(self, points: np.ndarray) -> np.ndarray:
        """Scale points: float64[N, K] to float64[N, K]."""
        values = _logarithm(np.asarray(points, dtype=np.float64), self.log)
        return (values - self.ideal) / (self.nadir - self.ideal)


def _logarithm(points: np.ndarray, log: np.ndarray) -> np.ndarray:
    values = points.copy()
    tiny = np.finfo(np.float64).tiny
    values[:, log] = np.log10(np.maximum(points[:, log], tiny))
    return values


def knee(front: np.ndarray) -> int:
    """The knee of a front: where giving up a little of one objective stops paying.

    Defined as the point farthest below the plane through the ends of the front, once the
    objectives are scaled to 0..1 over the front (by ratio where positive): the smallest sum of
    scaled objectives. With two objectives this is Das' maximal bulge from the chord.

    Args:
        front: float64[F, K] points of the front, F >= 1.

    Returns:
        Row of the knee; the first of equals.
    """
    front = np.atleast_2d(np.asarray(front, dtype=np.float64))
    scaled = Scale.from_points(front, np.arange(len(front)))(front)
    return int(np.argmin(np.round(scaled.sum(axis=1), 12)))


def best_so_far(objective: np.ndarray, feasible: np.ndarray) -> np.ndarray:
    """Best feasible objective after each evaluation.

    Args:
        objective: float64[E] scalar to minimise, in the order of evaluation.
        feasible: bool[E].

    Returns:
        float64[E]; infinite until the first feasible design.
    """
    return np.minimum.accumulate(np.where(feasible, objective, np.inf))


def interquartile_mean(values: np.ndarray, axis: int = -1) -> np.ndarray:
    """Mean of the middle half; the outer points count with their fraction inside it.

    Equals the 25 % trimmed mean where the count is a multiple of four.

    Args:
        values: Array with at least one value along ``axis``; infinite values are allowed.
        axis: Axis of the runs.
    """
    ordered = np.sort(np.moveaxis(np.asarray(values, dtype=np.float64), axis, -1), axis=-1)
    count = ordered.shape[-1]
    edges = np.arange(count + 1)
    inside = np.clip(edges, count / 4, count - count / 4)
    weights = np.diff(inside) / (count / 2)
    with np.errstate(invalid="ignore"):
        return np.where(weights > 0, ordered * weights, 0.0).sum(axis=-1)


@dataclass(frozen=True)
class Band:
    """A statistic with its confidence interval, per point.

    Attributes:
        value: float64[T].
        low: float64[T] lower end of the interval.
        high: float64[T] upper end of the interval.
    """

    value: np.ndarray
    low: np.ndarray
    high: np.ndarray


def bootstrap_iqm(
    strata: Sequence[np.ndarray],
    *,
    seed: int = 0,
    resamples: int = 2000,
    confidence: float = 0.95,
) -> Band:
    """Interquartile mean over all runs with a stratified percentile-bootstrap interval.

    Runs are resampled with replacement within their stratum (one stratum a scenario), and the
    interquartile mean is taken over the runs of all strata together.

    Args:
        strata: One float64[R, T] per stratum: R runs, T points each.
        seed: Seed of the resampling.
        resamples: Bootstrap replicates.
        confidence: Coverage of the interval.
    """
    strata = [np.atleast_2d(np.asarray(runs, dtype=np.float64)) for runs in strata]
    value = interquartile_mean(np.concatenate(strata), axis=0)
    rng = np.random.default_rng(seed)
    picks = [rng.integers(len(runs), size=(resamples, len(runs))) for runs in strata]
    tail = 50.0 * (1.0 - confidence)
    low, high = np.empty_like(value), np.empty_like(value)
    runs_in_all = sum(len(runs) for runs in strata)
    step = max(1, 4_000_000 // (resamples * runs_in_all))
    for first in range(0, len(value), step):
        part = slice(first, first + step)
        drawn = np.concatenate(
            [runs[:, part][pick] for runs, pick in zip(strata, picks, strict=True)], axis=1
        )
        replicates = interquartile_mean(drawn, axis=1)
        # No interpolation between a finite value and infinity.
        low[part], high[part] = np.percentile(
            replicates, [tail, 100.0 - tail], axis=0, method="nearest"
        )
    return Band(value, low, high)


def probability_of_improvement(
    ours: np.ndarray, theirs: np.ndarray, *, seed: int = 0, resamples: int = 2000
) -> tuple[float, float, float]:
    """Chance that a run of one agent ends better (lower) than a run of another.

    The mean over all pairs of 1 where lower, 1/2 where equal (the Mann-Whitney statistic), with a
    95 % percentile-bootstrap interval over runs of both.

    Args:
        ours: float64[R] final values, smaller is better; infinite where nothing was found.
        theirs: float64[S] final values of the other agent.
        seed: Seed of the resampling.
        resamples: Bootstrap replicates.

    Returns:
        Probability, lower end, upper end.
    """
    ours, theirs = np.asarray(ours, dtype=np.float64), np.asarray(theirs, dtype=np.float64)
    wins = (ours[:, None] < theirs[None, :]) + 0.5 * (ours[:, None] == theirs[None, :])
    rng = np.random.default_rng(seed)
    rows = rng.integers(len(ours), size=(resamples, len(ours)))
    columns = rng.integers(len(theirs), size=(resamples, len(theirs)))
    drawn = wins[rows[:, :, None], columns[:, None, :]].mean(axis=(1, 2))
    low, high = np.percentile(drawn, [2.5, 97.5])
    return float(wins.mean()), float(low), float(high)


def evaluation_grid(budget: int, points: int = 120) -> np.ndarray:
    """Counts of evaluations at which curves are sampled: dense early, with both ends.

    Returns:
        int64[T] strictly increasing, from 1 to ``budget``.
    """
    spread = np.concatenate([np.geomspace(1, budget, points), np.linspace(1, budget, points // 2)])
    return np.unique(np.clip(np.round(spread).astype(np.int64), 1, budget))


def sample_curve(curve: np.ndarray, grid: np.ndarray) -> np.ndarray:
    """Read a per-evaluation curve at counts of evaluations; a run that ended early stays put."""
    return np.asarray(curve)[np.minimum(grid, len(curve)) - 1]


def hypervolume_curve(
    points: np.ndarray, feasible: np.ndarray, scale: Scale, grid: np.ndarray
) -> np.ndarray:
    """Hypervolume of the designs found so far, at counts of evaluations.

    Measured in scaled objectives between the points and ``1 + REFERENCE_MARGIN``, divided by the
    volume of the whole box from the ideal point, so that 1 would be a design at the ideal point.

    Args:
        points: float64[E, K] objectives in the order of evaluation.
        feasible: bool[E].
        scale: Common scale of all agents compared.
        grid: int64[T] increasing counts of evaluations.

    Returns:
        float64[T], never decreasing.
    """
    moocore = _moocore()
    reference = np.full(points.shape[1], 1.0 + REFERENCE_MARGIN)
    scaled = scale(points)
    # Better than the common ideal is possible for points outside the comparison.
    scaled = np.maximum(scaled, 0.0)
    useful = feasible & (scaled < reference).all(axis=1)
    front = np.empty((0, points.shape[1]))
    values, start = np.zeros(len(grid)), 0
    for place, count in enumerate(grid):
        fresh = scaled[start:count][useful[start:count]]
        if len(fresh):
            front = moocore.filter_dominated(np.concatenate([front, fresh]))
            values[place] = moocore.hypervolume(front, ref=reference)
        elif place:
            values[place] = values[place - 1]
        start = max(start, int(count))
    return np.maximum.accumulate(values / np.prod(reference))


def igd_plus(front: np.ndarray, reference: np.ndarray, scale: Scale) -> float:
    """IGD+ of a front against a reference front, in scaled objectives; infinite if empty."""
    if not len(front):
        return float("inf")
    return float(_moocore().igd_plus(scale(front), ref=scale(reference)))


def evaluations_to_target(curve: np.ndarray, target: float) -> float:
    """Evaluations a run needed to reach a target; infinite where it never did.

    Args:
        curve: float64[E] best so far.
        target: Value to reach (lower or equal).
    """
    reached = np.flatnonzero(curve <= target)
    return float(reached[0] + 1) if len(reached) else float("inf")
