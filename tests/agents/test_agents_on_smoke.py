"""Promise: every agent searches a real scenario through the registered environments."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest

from archsim.agents import AGENTS, designs_per_step, load_agent
from archsim.envs import Problem
from archsim.envs.recorder import Recorder, VectorRecorder


@pytest.fixture(scope="module")
def smoke():
    problem = Problem("smoke")
    return problem, problem.evaluate(np.concatenate(list(problem.space.batches())))


def run(name, problem, budget):
    agent, records = load_agent(name), []
    if getattr(agent, "stepwise", False):
        env = gym.make("archsim/AcceleratorStepwise-v0", scenario=problem)
    elif agent.vectorized:
        env = gym.make_vec(
            "archsim/Accelerator-v0",
            num_envs=min(budget, designs_per_step(agent, None)),
            scenario=problem,
            encoding=agent.encoding,
        )
    else:
        env = gym.make("archsim/Accelerator-v0", scenario=problem, encoding=agent.encoding)
    recorder = VectorRecorder if agent.vectorized else Recorder
    agent(recorder(env, budget, records.append), seed=0).search()
    return records


@pytest.mark.parametrize("name", AGENTS)
def test_every_agent_beats_the_median_design(name, smoke):
    problem, everything = smoke
    budget = 13 if name == "gp" else 40
    records = run(name, problem, budget)
    assert len(records) == budget
    best = min(record["objective"] for record in records)
    assert everything["objective"].min() <= best < np.median(everything["objective"])


def test_the_grid_finds_the_optimum_and_the_genetic_algorithm_comes_near(smoke):
    problem, everything = smoke
    optimum = everything["objective"].min()
    assert min(r["objective"] for r in run("grid", problem, problem.space.size)) == optimum
    near = np.sort(everything["objective"])[len(everything["objective"]) // 100]
    assert min(r["objective"] for r in run("genetic", problem, 300)) <= near
