"""Statistics against closed forms and brute force."""

from __future__ import annotations

import numpy as np
import pytest
import synthetic
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import mannwhitneyu, trim_mean

from archsim.explore import statistics as stats
from archsim.explore.results import Results, compare

POINTS = arrays(
    np.float64, st.tuples(st.integers(1, 30), st.integers(1, 3)), elements=st.integers(1, 6)
)


def dominated(points: np.ndarray, row: int) -> bool:
    """Straight from the definition."""
    no_worse = (points <= points[row]).all(axis=1)
    better = (points < points[row]).any(axis=1)
    return bool((no_worse & better).any())


@given(points=POINTS)
@settings(max_examples=80, deadline=None)
def test_the_front_is_what_nothing_dominates(points):
    front = stats.pareto_front(points)
    values = {tuple(p) for p in points[front]}
    assert values == {tuple(points[i]) for i in range(len(points)) if not dominated(points, i)}
    assert len(values) == len(front)  # equal points are listed once
    assert points[front][:, 0].tolist() == sorted(points[front][:, 0])


def test_infeasible_points_are_never_on_the_front():
    points = np.array([[1.0, 1.0], [2.0, 2.0], [3.0, 1.5]])
    assert stats.pareto_front(points, np.array([False, True, True])).tolist() == [1, 2]
    assert stats.pareto_front(points, np.zeros(3, dtype=bool)).tolist() == []


def test_the_knee_bulges_most_from_the_chord():
    x = np.geomspace(1, 100, 41)
    y = np.where(x < 10, 1000 / x**2, 10 / (x / 10) ** 0.5)  # log-slopes -2 and -1/2, bend at 10
    front = np.stack([x, y], axis=1)
    ends = np.log10(front[[0, -1]])
    chord = ends[1] - ends[0]
    offset = np.log10(front) - ends[0]
    distance = np.abs(chord[0] * offset[:, 1] - chord[1] * offset[:, 0])
    assert stats.knee(front) == int(distance.argmax()) == 20


@pytest.mark.parametrize("front", [[[3.0, 4.0]], [[1.0, 2.0], [2.0, 1.0]], [[1.0], [1.0]]])
def test_degenerate_fronts_have_a_knee(front):
    assert stats.knee(np.array(front)) == 0


def test_interquartile_mean_is_the_trimmed_mean_of_multiples_of_four():
    values = np.random.default_rng(0).normal(size=(5, 12))
    expected = [trim_mean(row, 0.25) for row in values]
    np.testing.assert_allclose(stats.interquartile_mean(values), expected)


def test_interquartile_mean_counts_fractions():
    # Of three values half is 1.5: the middle one and a quarter of each neighbour.
    assert stats.interquartile_mean([1.0, 2.0, 9.0]) == pytest.approx((0.25 + 2 + 0.25 * 9) / 1.5)
    assert stats.interquartile_mean([7.0]) == 7.0
    # A run that found nothing does not spoil the mean while it is outside the middle half.
    assert stats.interquartile_mean([1.0, 2.0, 3.0, np.inf]) == 2.5
    assert stats.interquartile_mean([1.0, 2.0, np.inf, np.inf]) == np.inf


def test_the_bootstrap_repeats_itself_and_covers():
    rng = np.random.default_rng(1)
    hits, trials = 0, 60
    for trial in range(trials):
        runs = rng.normal(size=(20, 1))
        band = stats.bootstrap_iqm([runs], seed=trial, resamples=400)
        assert band == stats.bootstrap_iqm([runs], seed=trial, resamples=400) or np.array_equal(
            band.low, stats.bootstrap_iqm([runs], seed=trial, resamples=400).low
        )
        hits += bool(band.low[0] <= 0.0 <= band.high[0])
        assert band.low[0] <= band.value[0] <= band.high[0]
    assert hits >= 0.8 * trials  # nominally 95 %; small samples cover a little less


def test_strata_are_resampled_apart():
    # Each stratum is constant, so no resampling within strata can change anything.
    band = stats.bootstrap_iqm([np.full((4, 2), 1.0), np.full((4, 2), 5.0)], resamples=100)
    assert band.value.tolist() == band.low.tolist() == band.high.tolist() == [3.0, 3.0]


def test_probability_of_improvement_is_the_mann_whitney_statistic():
    rng = np.random.default_rng(2)
    ours, theirs = rng.integers(0, 9, 13).astype(float), rng.integers(0, 9, 8).astype(float)
    value, low, high = stats.probability_of_improvement(ours, theirs)
    expected = mannwhitneyu(theirs, ours).statistic / (len(ours) * len(theirs))
    assert value == pytest.approx(expected)
    assert low <= value <= high
    back = stats.probability_of_improvement(theirs, ours)[0]
    assert value + back == pytest.approx(1.0)


def test_best_so_far_ignores_infeasible_designs():
    curve = stats.best_so_far(
        np.array([1.0, 5.0, 0.0, 4.0, 6.0]), np.array([False, True, False, True, True])
    )
    assert curve.tolist() == [np.inf, 5.0, 5.0, 4.0, 4.0]
    assert stats.evaluations_to_target(curve, 4.5) == 4
    assert stats.evaluations_to_target(curve, 1.0) == np.inf


def test_hypervolume_of_a_staircase_is_its_area():
    scale = stats.Scale(np.zeros(2), np.ones(2), np.zeros(2, dtype=bool))
    points = np.array([[0.5, 0.5], [0.2, 0.8], [2.0, 0.0], [0.8, 0.2], [0.4, 0.4]])
    feasible = np.array([True, True, True, True, False])
    values = stats.hypervolume_curve(points, feasible, scale, np.array([1, 2, 3, 4, 5]))
    box = 1.1**2
    areas = [0.6 * 0.6, 0.6 * 0.6 + 0.3 * 0.3, 0.45, 0.45 + 0.3 * 0.3, 0.54]
    np.testing.assert_allclose(values, np.array(areas) / box)


def test_hypervolume_by_counting_cells():
    rng = np.random.default_rng(3)
    points = rng.integers(0, 11, (40, 3)) / 10
    scale = stats.Scale(np.zeros(3), np.ones(3), np.zeros(3, dtype=bool))
    feasible = rng.random(40) < 0.7
    (value,) = stats.hypervolume_curve(points, feasible, scale, np.array([40]))
    cells = np.stack(np.meshgrid(*[np.arange(11) / 10] * 3, indexing="ij"), -1).reshape(-1, 3)
    inside = (cells[:, None] + 0.05 > points[feasible][None]).all(-1).any(-1)
    assert value == pytest.approx(inside.mean())


def test_igd_plus_by_brute_force():
    rng = np.random.default_rng(4)
    front, reference = rng.random((6, 2)) + 0.5, rng.random((9, 2)) + 0.5
    scale = stats.Scale.from_points(reference, np.arange(9))
    a, z = scale(front), scale(reference)
    distances = np.sqrt((np.maximum(a[None] - z[:, None], 0) ** 2).sum(-1)).min(axis=1)
    assert stats.igd_plus(front, reference, scale) == pytest.approx(distances.mean())
    assert stats.igd_plus(front[:0], reference, scale) == np.inf


@given(st.integers(1, 5000))
@settings(max_examples=40, deadline=None)
def test_the_grid_runs_from_one_to_the_budget(budget):
    grid = stats.evaluation_grid(budget)
    assert grid[0] == 1
    assert grid[-1] == budget
    assert (np.diff(grid) > 0).all()


def test_filling_the_front_does_not_touch_the_comparison(tmp_path):
    agents = {"random": 0.05, "tpe": 2.0}
    plain = Results(synthetic.make(tmp_path / "plain", agents, budget=120))
    filled = Results(synthetic.make(tmp_path / "filled", agents, budget=120, fill=5000))
    assert len(filled.evaluations.run) == len(plain.evaluations.run) + 5000
    one, two = compare(plain), compare(filled)
    assert one.target == two.target
    np.testing.assert_array_equal(one.improvement, two.improvement)
    for a, b in zip(one.scores, two.scores, strict=True):
        assert a.label == b.label
        np.testing.assert_array_equal(a.objective.value, b.objective.value)
        np.testing.assert_array_equal(a.hypervolume.low, b.hypervolume.low)
        np.testing.assert_array_equal(a.igd_plus, b.igd_plus)


def test_the_better_agent_wins(tmp_path):
    agents = {"slow": 0.01, "fast": 3.0}
    result = compare(Results(synthetic.make(tmp_path, agents, seeds=8, budget=40)))
    assert [score.label for score in result.scores] == ["fast", "slow"]
    assert result.improvement[0, 1] > 0.5


def test_the_chosen_design_is_the_best_feasible_one(tmp_path):
    results = Results(synthetic.make(tmp_path, {"random": 0.5}, budget=200, fill=1000))
    every = synthetic.evaluate(results.indices)
    feasible = every["feasible"] > 0
    for metric in ("objective", "energy_j", "area_mm2"):
        chosen = results.chosen(metric)
        assert feasible[chosen]
        assert every[metric][chosen] == every[metric][feasible].min()
    assert results.knee in results.front
