"""Promise: same seed, same designs, in any process and under any hash seed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from archsim.agents import AGENTS

PROGRAM = """
import hashlib, sys
sys.path.insert(0, sys.argv[1])
from agent_runs import recorded_search
from archsim.agents import AGENTS
import numpy as np
np.random.seed(int(sys.argv[2]))
for name in AGENTS:
    records = recorded_search(name, 14 if name == "gp" else 40, seed=5)
    text = repr([(r["key"], r["objective"]) for r in records])
    print(name, len(records), hashlib.sha256(text.encode()).hexdigest())
"""


@pytest.fixture(scope="module")
def digests():
    found = []
    for hash_seed in ("1", "2"):
        found.append(
            subprocess.run(
                [sys.executable, "-c", PROGRAM, str(Path(__file__).parent), hash_seed],
                env={**os.environ, "PYTHONHASHSEED": hash_seed, "OMP_NUM_THREADS": "1"},
                capture_output=True,
                text=True,
                check=True,
            ).stdout.splitlines()
        )
    return found


def test_two_processes_with_other_hash_seeds_make_the_same_designs(digests):
    first, second = digests
    assert [line.split()[0] for line in first] == list(AGENTS)
    assert first == second


def test_libraries_leave_other_random_streams_alone(search):
    """Only SB3 seeds NumPy's global state; no other agent may."""
    import numpy as np

    for name in AGENTS:
        if name in ("ppo", "a2c", "sac", "maskable_ppo", "gp"):
            continue
        np.random.seed(11)  # noqa: NPY002 (the global state is what is watched)
        before = np.random.get_state()[1].copy()  # noqa: NPY002
        search(name, 30)
        assert (np.random.get_state()[1] == before).all(), name  # noqa: NPY002
