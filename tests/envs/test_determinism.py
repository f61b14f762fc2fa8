"""Same seed, same bytes: in one process, in another, whatever the hash seed."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = """
import hashlib, sys
import gymnasium as gym
import numpy as np
import archsim.envs
from analytic_problem import AnalyticProblem

digest = hashlib.sha256()
for name in archsim.envs.ENVIRONMENTS:
    problem = AnalyticProblem()
    env = gym.make(name, scenario=problem)
    envs = gym.make_vec(name, num_envs=7, scenario=problem)
    for one in (env, envs):
        one.action_space.seed(5)
        digest.update(one.reset(seed=5)[0].tobytes())
        for _ in range(25):
            observation, reward, *_, info = one.step(one.action_space.sample())
            digest.update(observation.tobytes() + np.asarray(reward).tobytes())
            digest.update("".join(info).encode())
            for key, value in info.items():
                if key not in ("final_obs", "final_info"):
                    digest.update(np.asarray(value).tobytes())
    digest.update(problem.space.sample(np.random.default_rng(1), 99).tobytes())
    digest.update("".join(problem.space.keys(next(problem.space.batches()))).encode())
    digest.update(problem.space.repair([[3, 3, 0, 2, 0]] * 3).tobytes())
print(digest.hexdigest())
"""


def _digest(hash_seed: str, script: str = SCRIPT, threads: str = "1") -> str:
    here = Path(__file__).parent
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(here)}
    environment |= {"NUMBA_NUM_THREADS": threads, "OMP_NUM_THREADS": threads}
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    return done.stdout.strip()


REAL = """
import hashlib
import gymnasium as gym
import numpy as np
import archsim.envs

digest = hashlib.sha256()
for name, scenario in (
    ("archsim/DRAMController-v0", "dram_low_latency"),
    ("archsim/LLMSystem-v0", "llm_weight_bits"),
):
    env = gym.make(name, scenario=scenario)
    env.action_space.seed(5)
    digest.update(env.reset(seed=5)[0].tobytes())
    for _ in range(10):
        observation, reward, *_, info = env.step(env.action_space.sample())
        digest.update(observation.tobytes() + np.float64(reward).tobytes())
        digest.update(repr([(key, np.asarray(info[key]).tobytes()) for key in info]).encode())
print(digest.hexdigest())
"""


def test_shipped_scenarios_give_the_same_bytes_under_any_hash_seed_and_threads() -> None:
    assert _digest("0", REAL) == _digest("77", REAL, threads="2")


@pytest.mark.slow
def test_same_bytes_in_every_process_and_under_every_hash_seed() -> None:
    digests = {_digest(seed) for seed in ("0", "1", "4242")}
    assert len(digests) == 1
    assert len(digests.pop()) == hashlib.sha256().digest_size * 2
