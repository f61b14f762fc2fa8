"""Promise: an agent asks for exactly the budget, whatever its batches are, under the recorder."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest

from archsim.agents import AGENTS, load_agent
from archsim.agents.evaluation import Evaluator
from archsim.envs.recorder import Recorder, VectorRecorder
from archsim.testing import ToyProblem

SPACE = ToyProblem().space


@pytest.mark.parametrize("name", AGENTS)
def test_the_budget_is_used_to_the_last_evaluation(name, search):
    budget = 13 if name == "gp" else 41
    records = search(name, budget)
    assert [record["order"] for record in records] == list(range(budget))
    designs = np.array([record["index_vector"] for record in records])
    assert SPACE.is_legal(designs).all()


@pytest.mark.parametrize("name", [n for n in AGENTS if load_agent(n).vectorized])
@pytest.mark.parametrize("width", [1, 5, 64])
def test_any_width_of_the_vector_environment_will_do(name, width, search):
    records = search(name, 97, width=width)
    assert len(records) == 97
    assert len({record["key"] for record in records}) > 40


@pytest.mark.parametrize("name", ["random", "grid"])
def test_the_width_does_not_change_the_sequence(name, search):
    narrow = [record["key"] for record in search(name, 200, width=1)]
    wide = [record["key"] for record in search(name, 200, width=32)]
    assert narrow == wide


@pytest.mark.parametrize("name", ["genetic", "nsga2", "tpe", "coordinate_descent", "grid"])
def test_no_design_is_paid_for_twice(name, search):
    records = search(name, 120)
    assert len({record["key"] for record in records}) == 120


def test_populations_larger_than_the_budget(search):
    for name in ("genetic", "nsga2", "cmaes"):
        assert len(search(name, 10, options={"population": 300})) == 10


def test_environments_that_reset_in_the_next_step_lose_no_design():
    """With Gymnasium's default for many environments, a naive loop loses every other step."""
    problem = ToyProblem()
    envs = gym.make_vec(
        "archsim/Design-v0", num_envs=4, vectorization_mode="sync", scenario=problem
    )
    evaluate = Evaluator(VectorRecorder(envs, 400), seed=0)
    designs = problem.space.sample(np.random.default_rng(0), 40)
    scores = evaluate(designs)
    assert scores.reward.tolist() == problem.evaluate(designs)["reward"].tolist()
    assert scores.metric("latency_s").tolist() == problem.evaluate(designs)["latency_s"].tolist()


@pytest.mark.parametrize("horizon", [1, 7])
@pytest.mark.parametrize("name", ["annealing", "genetic", "sac", "cmaes"])
def test_registered_environments_of_any_episode_length(name, horizon):
    agent, records = load_agent(name), []
    made = {"scenario": ToyProblem(), "encoding": agent.encoding, "horizon": horizon}
    if agent.vectorized:
        envs = gym.make_vec("archsim/Design-v0", num_envs=6, **made)
        env = VectorRecorder(envs, 50, records.append)
    else:
        env = Recorder(gym.make("archsim/Design-v0", **made), 50, records.append)
    agent(env, seed=1).search()
    assert [record["order"] for record in records] == list(range(50))
