"""Promise: a searcher that learns finds better designs than random search; NSGA-II finds the front.

Medians over seeds on the toy problem, at budgets where the difference is large.
"""

from __future__ import annotations

import functools

import moocore
import numpy as np
import pytest
from agent_runs import recorded_search

from archsim.testing import ToyProblem

INFORMED = {
    "coordinate_descent": (100, 5),
    "annealing": (100, 5),
    "genetic": (150, 5),
    "ant_colony": (150, 5),
    "nsga2": (300, 5),
    "cmaes": (200, 5),
    "tpe": (100, 5),
    "gp": (36, 3),
    "ppo": (250, 3),
    "a2c": (250, 3),
    "sac": (160, 3),
    "maskable_ppo": (120, 3),
}


@pytest.fixture(scope="module")
def median_best():
    """Median over seeds of the best objective; each search runs once."""

    @functools.cache
    def found(agent, budget, seeds):
        runs = (recorded_search(agent, budget, seed) for seed in range(seeds))
        return float(np.median([min(record["objective"] for record in run) for run in runs]))

    return found


@pytest.mark.parametrize("agent", INFORMED)
def test_informed_agents_beat_random_search(agent, median_best):
    budget, seeds = INFORMED[agent]
    assert median_best(agent, budget, seeds) < median_best("random", budget, 15)


def test_the_toy_optimum_is_found(median_best):
    problem = ToyProblem()
    metrics = problem.everything
    optimum = metrics["objective"][metrics["feasible"]].min()
    assert median_best("coordinate_descent", 200, 5) == pytest.approx(optimum)
    assert median_best("genetic", 1500, 3) == pytest.approx(optimum)


def test_nsga2_covers_the_known_front(search):
    exact = ToyProblem().front()
    assert len(exact) > 20
    reference = exact.max(axis=0) * 1.1
    shares = []
    for seed in range(3):
        records = search("nsga2", 3000, seed, options={"population": 60})
        points = np.array([(r["latency_s"], r["energy_j"]) for r in records if r["feasible"]])
        found = moocore.hypervolume(points, ref=reference)
        shares.append(found / moocore.hypervolume(exact, ref=reference))
    assert np.median(shares) > 0.99
    assert max(shares) <= 1.0 + 1e-12


def test_nsga2_spreads_wider_than_the_scalar_search(search):
    exact = ToyProblem().front()
    reference = exact.max(axis=0) * 1.1
    volumes = {}
    for agent in ("nsga2", "genetic"):
        found = []
        for seed in range(3):
            records = search(agent, 1500, seed)
            points = np.array([(r["latency_s"], r["energy_j"]) for r in records if r["feasible"]])
            found.append(moocore.hypervolume(points, ref=reference))
        volumes[agent] = np.median(found)
    assert volumes["nsga2"] > volumes["genetic"]
