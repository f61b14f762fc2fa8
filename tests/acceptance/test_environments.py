"""Every registered environment, on the real cost model, passes both checkers without a warning."""

from __future__ import annotations

import warnings

import gymnasium as gym
import pytest
from gymnasium.utils.env_checker import check_env

from archsim.envs import ENVIRONMENTS

KNOWN = sorted(name for name in gym.registry if name.startswith("archsim/"))


def scenario_for(name: str) -> str:
    if "LLM" in name:
        return "llm_405b_node"
    return "dram_low_latency" if "DRAM" in name else "smoke"


def test_the_ids_are_registered() -> None:
    assert sorted(ENVIRONMENTS) == KNOWN
    assert len(KNOWN) >= 2


@pytest.mark.parametrize("name", KNOWN)
def test_gymnasium_has_no_complaint(name: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(gym.make(name, scenario=scenario_for(name)).unwrapped)


@pytest.mark.parametrize("name", KNOWN)
def test_sb3_has_no_complaint(name: str) -> None:
    checker = pytest.importorskip("stable_baselines3.common.env_checker")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        env = gym.make(name, scenario=scenario_for(name))
        checker.check_env(env.unwrapped)
        checker.check_env(env)
