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


def _digest(hash_seed: str) -> str:
    here = Path(__file__).parent
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(here)}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    return done.stdout.strip()


@pytest.mark.slow
def test_same_bytes_in_every_process_and_under_every_hash_seed() -> None:
    digests = {_digest(seed) for seed in ("0", "1", "4242")}
    assert len(digests) == 1
    assert len(digests.pop()) == hashlib.sha256().digest_size * 2
