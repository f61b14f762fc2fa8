"""Compiled and plain Python agree; the on-disk cache knows when code changed."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from nest_strategies import generate, price, random_engine

import archsim
from archsim.models import jit
from archsim.models.loopnest import kernel as k
from archsim.models.loopnest import loops, residual

# What a fresh interpreter runs, with and without the compiler.
PROGRAM = """
import json, random, sys
sys.path.insert(0, sys.argv[1])
from nest_strategies import generate, price, random_engine
from archsim.models.loopnest import kernel
rng, found = random.Random(99), []
for _ in range(30):
    case = generate(rng)
    results, counts = price(case, random_engine(rng, len(case.spatial)))
    found.append([results.tolist(), counts.tolist()])
print(json.dumps([hasattr(kernel.charge_slots, "py_func"), found]))
"""


def run(**variables: str):
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(Path(__file__).parent)],
        env={**os.environ, **variables}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return json.loads(done.stdout)


def test_without_the_compiler_every_figure_is_the_same():
    compiled, plain = run(), run(NUMBA_DISABLE_JIT="1")
    assert compiled[0]
    assert not plain[0]
    for (results, counts), (plain_results, plain_counts) in zip(compiled[1], plain[1], strict=True):
        assert counts == plain_counts
        assert results == pytest.approx(plain_results, rel=1e-12)


def test_the_undecorated_functions_run_and_agree(monkeypatch):
    rng = random.Random(5)
    drawn = []
    for _ in range(40):
        case = generate(rng)
        tables = random_engine(rng, len(case.spatial))
        drawn.append((case, tables, price(case, tables)))
    undecorated = set()
    for module in (k, loops, residual):
        for name, value in list(vars(module).items()):
            if hasattr(value, "py_func"):
                monkeypatch.setattr(module, name, value.py_func)
                undecorated.add(name)
    assert {"evaluate_rows", "charge_slots", "lay_tiles", "chain_visits"} <= undecorated
    for case, tables, (expected, expected_counts) in drawn:
        results, counts = price(case, tables)
        assert np.array_equal(counts, expected_counts)
        assert results == pytest.approx(expected, rel=1e-12)


def test_chain_visits_of_a_residual_fanout():
    # Extent 5: a fanout of 2 takes tiles of 4 (two loops of 2), so 4 + 1: three inner tiles of 2.
    bounds = np.full((3, 1, 1), 2.0)
    tiles = np.array([8.0, 4.0, 2.0, 1.0]).reshape(4, 1, 1)
    fanout = np.array([True, False, False])
    for visits in (residual.chain_visits, residual.chain_visits.py_func):
        every = visits(5.0, 0, 0, bounds, tiles, fanout, 2, 2, True, -1, True, True)
        longest = visits(5.0, 0, 0, bounds, tiles, fanout, 2, 2, True, -1, False, False)
        assert (every, longest) == (3.0, 2.0)


def test_a_change_in_any_module_a_function_depends_on_changes_its_stamp(tmp_path, monkeypatch):
    package = Path(archsim.__file__).parent
    for folder in ("models", "system"):
        for path in (package / folder).rglob("*.py"):
            copy = tmp_path / "archsim" / path.relative_to(package)
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(path.read_bytes())
    monkeypatch.setattr(jit, "_ROOT", tmp_path)

    def stamps() -> list[str]:
        jit._imports.cache_clear()
        jit._fingerprint.cache_clear()
        loopnest = tmp_path / "archsim/models/loopnest"
        files = (
            loopnest / "kernel.py",
            loopnest / "mapper.py",
            loopnest.parent.parent / "system/network.py",
        )
        return [jit._fingerprint(path) for path in files]

    def append(name: str) -> None:
        path = tmp_path / "archsim" / name
        path.write_text(path.read_text() + "\n# changed\n")

    try:
        first = stamps()
        assert stamps() == first  # the same code, the same stamps
        append("system/network.py")
        second = stamps()
        assert [a == b for a, b in zip(first, second, strict=True)] == [True, True, False]
        append("models/loopnest/mapper.py")
        third = stamps()
        assert [a == b for a, b in zip(second, third, strict=True)] == [True, False, False]
        append("models/loopnest/kernel.py")
        assert [a == b for a, b in zip(third, stamps(), strict=True)] == [False] * 3
    finally:
        jit._imports.cache_clear()
        jit._fingerprint.cache_clear()


def test_cached_functions_carry_the_stamp():
    stamp = jit._fingerprint(Path(k.__file__).resolve())
    for function in (k.evaluate_rows, k.evaluate_block):
        assert function._cache._cache_file._source_stamp == stamp


def test_a_cache_that_names_what_is_gone_is_no_cache():
    def broken():
        raise AttributeError("Can't get attribute 'Work'")

    assert jit._load_index(broken) == {}
    assert jit._load_index(lambda: {"signature": "file"}) == {"signature": "file"}
