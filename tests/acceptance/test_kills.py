"""Twenty ``kill -9`` at random moments: nothing lost, nothing doubled, the same bytes at the end.

Four agents that keep very different state (none, a population, a surrogate, a neural network) on
the real cost model, and the searcher that fills the front. Minutes: set ARCHSIM_LONG=1 to run it.
"""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from archsim.explore.export import write_csv

AGENTS = ("random", "nsga2", "tpe", "ppo")
BUDGET, FILL, SEEDS, KILLS = 400, 100_000, 2, 20

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not os.environ.get("ARCHSIM_LONG"), reason="minutes; set ARCHSIM_LONG=1 to run it"
    ),
    pytest.mark.skipif(not hasattr(os, "killpg"), reason="needs POSIX signals"),
]


def start(out: Path, workers: int) -> subprocess.Popen:
    agents = [word for name in AGENTS for word in ("--agent", name)]
    numbers = {"seeds": SEEDS, "budget": BUDGET, "fill": FILL, "workers": workers}
    options = [word for name, value in numbers.items() for word in (f"--{name}", str(value))]
    return subprocess.Popen(
        [sys.executable, "-m", "archsim", "run", "smoke", *agents, *options, "-q", "-o", str(out)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
        text=True,
    )


def finish(process: subprocess.Popen) -> None:
    errors = process.communicate(timeout=900)[1]
    assert process.returncode == 0, errors


def evaluations(out: Path) -> tuple[int, list[tuple]]:
    """How many are stored, and what is wrong with them."""
    with sqlite3.connect(out / "store.sqlite") as db:
        (count,) = db.execute("SELECT count(*) FROM evaluations").fetchone()
        doubled = db.execute(
            "SELECT run, ord, count(*) FROM evaluations GROUP BY run, ord HAVING count(*) > 1"
            " UNION ALL SELECT key, 0, count(*) FROM designs GROUP BY key HAVING count(*) > 1"
        ).fetchall()
        missing = db.execute(
            "SELECT run, count(*), max(ord) FROM evaluations GROUP BY run"
            " HAVING max(ord) <> count(*) - 1"
        ).fetchall()
    db.close()
    return count, doubled + missing


def csv_of(out: Path) -> bytes:
    write_csv(out, out / "all.csv")
    return (out / "all.csv").read_bytes()


def test_twenty_kills_change_nothing(tmp_path: Path) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    finish(start(whole, workers=1))
    rng = random.Random(20)
    kills = before = grew = 0
    while kills < KILLS:
        process = start(killed, workers=2)
        # From before the store exists to the middle of a search; late ones get further.
        time.sleep(rng.choice((rng.uniform(0.3, 4.0), rng.uniform(4.0, 7.0))))
        if process.poll() is not None:
            break  # finished: only what was killed is left to compare
        kills += 1
        if rng.random() < 0.5:
            os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()  # the runner only: its workers must notice and go
        process.communicate()
        if (killed / "store.sqlite").is_file():
            stored, wrong = evaluations(killed)
            assert not wrong
            assert stored >= before
            grew += stored > before
            before = stored
    finish(start(killed, workers=2))
    print(f"{kills} kills, {grew} after new evaluations; {before:,} stored before the last start")
    assert kills >= KILLS // 2
    assert grew >= 3
    total, wrong = evaluations(killed)
    assert not wrong
    assert total == len(AGENTS) * SEEDS * BUDGET + FILL
    assert csv_of(killed) == csv_of(whole)
