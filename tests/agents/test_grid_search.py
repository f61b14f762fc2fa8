"""Promise: grid search visits every design once, or spreads a small budget evenly."""

from __future__ import annotations

import math

import gymnasium as gym
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from archsim.agents.grid import GridSearch, Options, golden_stride
from archsim.envs.recorder import Recorder, VectorRecorder
from archsim.space import DesignSpace, Parameter
from archsim.testing import ToyProblem, ToyVectorEnv


@given(st.integers(min_value=1, max_value=10**40))
def test_the_stride_is_coprime_and_near_the_golden_section(size):
    stride = golden_stride(size)
    assert 1 <= stride <= size
    assert math.gcd(stride, size) == 1
    if size > 10**6:
        assert stride / size == pytest.approx(0.6180339887, abs=1e-3)


def run(budget, width=64, options=None):
    keys = []
    env = VectorRecorder(ToyVectorEnv(width), budget, lambda record: keys.append(record["key"]))
    GridSearch(env, options=options).search()
    return keys


def test_a_budget_of_the_whole_space_visits_every_legal_design_in_order():
    space = ToyProblem().space
    legal = [key for batch in space.batches() for key in space.keys(batch)]
    keys = run(len(legal), width=1000)
    assert keys == legal


def test_a_larger_budget_ends_with_the_space():
    space = ToyProblem().space
    keys = run(space.size + 5000, width=1000)
    # The last step is filled up; nothing else repeats.
    assert len(set(keys)) == space.size
    assert len(keys) < space.size + 1000


def test_a_small_budget_covers_every_value_of_every_parameter_evenly():
    space = ToyProblem().space
    designs = np.array([space.from_key(key) for key in run(512)])
    assert len(np.unique(designs, axis=0)) == 512
    # Random draws would scatter with a standard deviation of about sqrt(512 / 8) = 8.
    expected = np.array([space.is_legal(batch).sum() for batch in space.batches()]).sum()
    assert expected == space.size
    for column, size in enumerate(space.cardinalities):
        counts = np.bincount(designs[:, column], minlength=size)
        share = np.concatenate([batch[:, column] for batch in space.batches()])
        fair = np.bincount(share, minlength=size) * 512 / space.size
        assert np.abs(counts - fair).max() <= 0.15 * fair.mean() + 3


def test_the_budget_option_spreads_and_stops():
    keys = run(10_000, width=10, options=Options(budget=100))
    assert len(keys) == len(set(keys)) == 100
    assert keys == run(100, width=10)


class Plain(gym.Env):
    """No design space, no budget: the gym API alone."""

    observation_space = gym.spaces.Box(0, 1, (1,))
    action_space = gym.spaces.MultiDiscrete([3, 2])

    def __init__(self):
        self.seen = []

    def reset(self, *, seed=None, options=None):
        return np.zeros(1, np.float32), {}

    def step(self, action):
        self.seen.append(tuple(action.tolist()))
        return np.zeros(1, np.float32), 0.0, True, False, {}


def test_an_environment_without_space_or_budget_is_walked_in_order():
    env = Plain()
    GridSearch(env).search()
    assert env.seen == [(0, 0), (0, 1), (1, 0), (1, 1), (2, 0), (2, 1)]


def test_spaces_beyond_64_bits():
    space = DesignSpace([Parameter(f"p{i}", tuple(range(16))) for i in range(20)])

    class Huge(Plain):
        action_space = space.action_space()
        objective_names = ("latency_s",)

        def __init__(self):
            super().__init__()
            self.space = space

        def step(self, action):
            super().step(action)
            return np.zeros(1, np.float32), 0.0, True, False, {"latency_s": 1.0}

    env = Huge()
    GridSearch(Recorder(env, 400)).search()
    seen = np.array(env.seen)
    assert len(np.unique(seen, axis=0)) == 400
    for column in range(20):
        assert np.bincount(seen[:, column], minlength=16).min() > 10
