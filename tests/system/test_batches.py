"""A design costs the same to the last bit alone, in any batch, and on any number of threads."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys

import numpy as np
import pytest

from archsim.hardware import DATAFLOWS, load_machine, resolve
from archsim.system import NetworkEvaluator
from archsim.workload import load_workload

PROGRAM = """
import hashlib, sys
sys.path.insert(0, sys.argv[1])
from test_batches import digest
print(digest())
"""


def designs(count: int, seed: int = 0):
    rng = np.random.default_rng(seed)
    slots = "engines.array.slots."
    return resolve(
        load_machine("eyeriss"),
        {
            f"{slots}glb.capacity_bytes": rng.choice([8192, 32768, 131072], count),
            f"{slots}columns.fanout": rng.choice([4, 7, 14, 32], count),
            f"{slots}rows.fanout": rng.choice([3, 12, 16], count),
            f"{slots}weight_spad.capacity_bytes": rng.choice([32, 128, 448], count),
            "engines.array.dataflow": rng.choice(DATAFLOWS, count),
            "clock_hz": rng.choice([1e8, 2e8], count),
        },
    )


def evaluate(engines, effort: str = "fast"):
    nets = [load_workload("squeezenet"), load_workload("shufflenet")]
    return NetworkEvaluator(nets, [1.0, 3.0], effort=effort).evaluate(engines)


def digest() -> str:
    found = evaluate(designs(50), "thorough")
    together = b"".join(name.encode() + values.tobytes() for name, values in sorted(found.items()))
    return hashlib.sha256(together).hexdigest()


@pytest.mark.parametrize("effort", ["fast", "thorough"])
def test_alone_and_in_any_batch_the_figures_are_the_same(effort):
    engines = designs(40)
    together = evaluate(engines, effort)
    shuffled = np.random.default_rng(1).permutation(40)
    mixed = evaluate(engines.take(shuffled), effort)
    for name, values in together.items():
        assert np.array_equal(mixed[name], values[shuffled]), name
    for row in range(0, 40, 7):
        alone = evaluate(engines.take([row]), effort)
        for name, values in together.items():
            assert alone[name][0] == values[row], name
    assert len(set(together["edp_js"])) > 20


def test_the_number_of_threads_changes_nothing():
    expected = digest()
    folder = os.path.dirname(__file__)
    for threads in ("1", "3"):
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, folder],
            env={**os.environ, "NUMBA_NUM_THREADS": threads, "PYTHONHASHSEED": threads},
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        assert done.stdout.strip() == expected
