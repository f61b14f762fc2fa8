"""Promise: no agent crashes or hangs on a space that is tiny, tight, lopsided or nearly illegal."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest

from archsim.agents import AGENTS, load_agent
from archsim.envs.objective import Objective
from archsim.envs.recorder import Recorder, VectorRecorder
from archsim.space import DesignSpace, Parameter

SPACES = {
    "one design": DesignSpace([Parameter("a", (3,)), Parameter("b", ("x",))]),
    "one parameter": DesignSpace([Parameter("a", (1, 2, 3, 5, 8))]),
    "two designs": DesignSpace([Parameter("a", (3,)), Parameter("b", ("x", "y"))]),
    "tight": DesignSpace(
        [Parameter(name, tuple(range(12))) for name in "abc"], ["a + b + c == 20", "a > b"]
    ),
    "lopsided": DesignSpace(
        [
            Parameter("a", tuple(range(5000))),
            Parameter("b", tuple(f"kind{n}" for n in range(200))),
            Parameter("c", (True, False)),
        ]
    ),
}


class Problem:
    """Larger values are slower; nearly every design breaks the limit if ``limit`` is 0.01."""

    metric_names = ("latency_s",)
    features = np.zeros(1, dtype=np.float32)

    def __init__(self, space, limit):
        self.space = space
        self.objective = Objective(("latency_s",), {"latency_s": limit})

    def evaluate(self, indices):
        metrics = {"latency_s": 1e-3 + (indices / self.space.cardinalities).sum(axis=1)}
        return {**metrics, **self.objective.score(metrics)}


@pytest.mark.parametrize("limit", [1e9, 1e-9], ids=["feasible", "infeasible"])
@pytest.mark.parametrize("kind", SPACES)
@pytest.mark.parametrize("name", AGENTS)
def test_odd_spaces(name, kind, limit):
    agent, records = load_agent(name), []
    # Enough for the models of GP (10 random designs first) and of the RL agents to work once.
    budget = 12 if name == "gp" else 30
    problem = Problem(SPACES[kind], limit)
    if getattr(agent, "stepwise", False):
        env = Recorder(gym.make("archsim/AcceleratorStepwise-v0", scenario=problem), budget)
    elif agent.vectorized:
        env = VectorRecorder(
            gym.make_vec(
                "archsim/Accelerator-v0", num_envs=8, scenario=problem, encoding=agent.encoding
            ),
            budget,
            records.append,
        )
    else:
        env = Recorder(
            gym.make("archsim/Accelerator-v0", scenario=problem, encoding=agent.encoding),
            budget,
            records.append,
        )
    agent(env, seed=0).search()
    visited_all = len({record["key"] for record in records}) == problem.space.size
    assert env.evaluations == budget or (name in ("grid", "coordinate_descent") and visited_all)
