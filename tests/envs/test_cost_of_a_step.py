"""A step costs little beyond the model: counted in Python calls, not in wall-clock time."""

from __future__ import annotations

import sys
from collections.abc import Callable

import gymnasium as gym
import numpy as np


def python_calls(action: Callable[[], object]) -> int:
    """Python-level calls an action makes."""
    count = 0

    def profile(frame: object, event: str, argument: object) -> None:
        nonlocal count
        count += event == "call"

    sys.setprofile(profile)
    try:
        action()
    finally:
        sys.setprofile(None)
    return count


def test_a_vector_step_makes_as_many_calls_for_many_designs_as_for_few(problem) -> None:
    for name in ("archsim/Accelerator-v0", "archsim/AcceleratorStepwise-v0"):
        calls = []
        for lanes in (8, 512):
            envs = gym.make_vec(name, num_envs=lanes, scenario=problem)
            envs.reset(seed=0)
            actions = [np.zeros(envs.action_space.shape, dtype=np.int64)] * 5
            for action in actions:  # what is made on first use is not counted
                envs.step(action)
            calls.append(python_calls(lambda e=envs, a=actions: [e.step(x) for x in a]))
        assert calls[0] == calls[1]


def test_a_step_calls_little_beyond_the_model(problem) -> None:
    env = gym.make("archsim/Accelerator-v0", scenario=problem).unwrapped
    env.reset(seed=0)
    design = problem.space.sample(np.random.default_rng(0))
    env.step(design)
    model = python_calls(lambda: problem.evaluate(design[None]))
    assert python_calls(lambda: env.step(design)) - model < 100
