"""Who beats whom over many scenarios: chances, intervals, and tests that mind their number.

* Probability of improvement over several tasks, each a stratum of equal weight, with a stratified
  bootstrap: R. Agarwal et al., NeurIPS 2021 (arXiv:2108.13264).
* Rank-sum test within strata, combined: P. van Elteren, Bulletin of the International Statistical
  Institute 37 (1960); the variance within a stratum is corrected for ties (Kruskal and Wallis,
  JASA 47 (1952)).
* Step-down adjustment for many comparisons: S. Holm, Scandinavian Journal of Statistics 6 (1979).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from archsim.explore.statistics import Band


def _wins(ours: np.ndarray, theirs: np.ndarray) -> np.ndarray:
    """1 where ours is lower, 1/2 where equal: float64[R, S]."""
    return (ours[:, None] < theirs[None, :]) + 0.5 * (ours[:, None] == theirs[None, :])


def improvement(
    ours: Sequence[np.ndarray],
    theirs: Sequence[np.ndarray],
    *,
    seed: int = 0,
    resamples: int = 2000,
) -> Band:
    """Chance that a run of ours ends lower than one of theirs on a scenario drawn at random.

    Args:
        ours: Final values, float64[R] a scenario.
        theirs: Those of the other agent, float64[S] a scenario, in the same order.
        seed: Seed of the resampling.
        resamples: Bootstrap replicates.

    Returns:
        The chance and its 95 % interval, each float64[1].
    """
    rng = np.random.default_rng(seed)
    drawn = np.zeros(resamples)
    value = 0.0
    for one, other in zip(ours, theirs, strict=True):
        wins = _wins(np.asarray(one, np.float64), np.asarray(other, np.float64))
        rows = rng.integers(len(wins), size=(resamples, len(wins)))
        columns = rng.integers(wins.shape[1], size=(resamples, wins.shape[1]))
        drawn += wins[rows[:, :, None], columns[:, None, :]].mean(axis=(1, 2))
        value += float(wins.mean())
    low, high = np.percentile(drawn / len(ours), [2.5, 97.5])
    return Band(np.array([value / len(ours)]), np.array([low]), np.array([high]))


def rank_test(ours: Sequence[np.ndarray], theirs: Sequence[np.ndarray]) -> float:
    """Chance of such a difference, or a larger one, if both agents were alike (two-sided).

    Args:
        ours: Final values, float64[R] a scenario; infinite where nothing was found.
        theirs: Those of the other agent, in the same order.

    Returns:
        The p-value of van Elteren's test by its normal approximation; 1 where all values tie.
    """
    from scipy.stats import norm

    excess, variance = 0.0, 0.0
    for one, other in zip(ours, theirs, strict=True):
        one, other = np.asarray(one, np.float64), np.asarray(other, np.float64)
        m, n = len(one), len(other)
        total = m + n
        _, ties = np.unique(np.concatenate([one, other]), return_counts=True)
        tied = float((ties.astype(np.float64) ** 3 - ties).sum()) / (total * (total - 1))
        weight = 1.0 / (total + 1)
        excess += weight * (float(_wins(one, other).sum()) - m * n / 2)
        variance += weight**2 * m * n / 12 * (total + 1 - tied)
    if variance <= 0:
        return 1.0
    return float(min(1.0, 2 * norm.sf(abs(excess) / np.sqrt(variance))))


def holm(values: Sequence[float]) -> np.ndarray:
    """p-values adjusted so that the chance of any false claim stays below the level asked for.

    Example:
        >>> holm([0.01, 0.04, 0.03]).tolist()
        [0.03, 0.06, 0.06]
    """
    p = np.asarray(values, dtype=np.float64)
    order = np.argsort(p, kind="stable")
    steps = p[order] * np.arange(len(p), 0, -1)
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return adjusted
