"""Chances and tests beside closed forms, SciPy, and simulation under the null hypothesis."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import mannwhitneyu

from archsim.explore.significance import holm, improvement, rank_test
from archsim.explore.statistics import probability_of_improvement


def test_one_scenario_is_the_rank_test_of_mann_and_whitney():
    rng = np.random.default_rng(0)
    for ties in (False, True):
        one, other = rng.normal(size=30), rng.normal(0.4, size=25)
        if ties:
            one, other = one.round(1), other.round(1)
        theirs = mannwhitneyu(one, other, use_continuity=False, method="asymptotic").pvalue
        assert rank_test([one], [other]) == pytest.approx(theirs, rel=1e-9)
        mine = improvement([one], [other], seed=3)
        value, low, high = probability_of_improvement(one, other, seed=3)
        assert (mine.value[0], mine.low[0], mine.high[0]) == pytest.approx((value, low, high))


def test_scenarios_of_any_scale_count_alike():
    rng = np.random.default_rng(1)
    ours = [rng.normal(size=10) * 10.0**k for k in range(5)]
    theirs = [(rng.normal(size=10) + 1.0) * 10.0**k for k in range(5)]
    together = rank_test(ours, theirs)
    assert together < min(rank_test([a], [b]) for a, b in zip(ours, theirs, strict=True))
    assert rank_test(theirs, ours) == together
    shifted = [a * 7 + 3 for a in ours], [b * 7 + 3 for b in theirs]
    assert rank_test(*shifted) == pytest.approx(together)


def test_equal_agents_are_told_apart_as_rarely_as_the_level_says():
    rng = np.random.default_rng(2)
    draws = rng.integers(0, 5, size=(800, 2, 4, 10)).astype(float)  # many ties
    low = np.mean([rank_test(list(one), list(other)) < 0.05 for one, other in draws])
    assert 0.03 < low < 0.075


def test_all_ties_and_nothing_found_are_no_difference():
    same = [np.zeros(5)] * 3
    assert rank_test(same, same) == 1.0
    never = [np.full(5, np.inf)] * 3
    assert improvement(never, never).value[0] == 0.5
    assert rank_test(never, same) < 1e-4
    assert improvement(same, never).value[0] == 1.0


def test_holm_is_at_least_the_raw_value_and_keeps_their_order():
    p = np.array([0.001, 0.2, 0.03, 0.02, 0.9])
    adjusted = holm(p)
    assert (adjusted >= p).all()
    assert np.array_equal(np.argsort(adjusted, kind="stable"), np.argsort(p, kind="stable"))
    assert adjusted[0] == pytest.approx(0.005)
    assert adjusted.max() <= 1.0
