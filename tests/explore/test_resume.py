"""Killed at any moment, an exploration goes on and ends as if nothing had happened."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from archsim.envs.scenario import load_scenario
from archsim.errors import ArchsimError, InputError
from archsim.explore import runner
from archsim.explore.export import write_csv
from archsim.explore.results import Results
from archsim.explore.store import Store

AGENTS = ("random", "genetic", "annealing", "tpe")


def choices(*names: str) -> list[runner.AgentChoice]:
    return [runner.AgentChoice(name) for name in names]


def explore(out: Path, agents: list[runner.AgentChoice], **settings: int) -> runner.Summary:
    scenario = load_scenario("smoke")
    return runner.explore(scenario, runner.plan_for(scenario, agents=agents, **settings), out)


def csv_of(run: Path) -> bytes:
    write_csv(run, run / "all.csv")
    return (run / "all.csv").read_bytes()


def command(out: Path, *more: str) -> list[str]:
    agents = [word for name in AGENTS for word in ("--agent", name)]
    start = [sys.executable, "-m", "archsim", "run", "smoke", *agents, "--quiet"]
    return [*start, "--seeds", "2", "--out", str(out), *more]


def check_store(path: Path) -> None:
    """No evaluation twice, none missing, no design twice, nothing half done."""
    db = sqlite3.connect(path)
    for run, count, last in db.execute(
        "SELECT run, count(*), max(ord) FROM evaluations GROUP BY run"
    ):
        assert last == count - 1, run
    (designs,) = db.execute("SELECT count(*) FROM designs").fetchone()
    assert db.execute("SELECT count(DISTINCT key) FROM designs").fetchone() == (designs,)
    assert db.execute("SELECT count(DISTINCT design) FROM evaluations").fetchone() == (designs,)
    assert db.execute("SELECT DISTINCT status FROM runs").fetchall() == [("done",)]
    db.close()


@pytest.fixture(scope="module")
def reference(tmp_path_factory) -> Path:
    """Four agents, uninterrupted, one worker."""
    out = tmp_path_factory.mktemp("reference")
    summary = explore(out, choices(*AGENTS), seeds=2, budget=60, workers=1, fill=400)
    assert not summary.failed
    return out


def test_an_uninterrupted_run_is_whole(reference):
    check_store(reference / "store.sqlite")
    with Store(reference / "store.sqlite", readonly=True) as store:
        assert [run.count for run in store.runs()] == [60] * 8 + [400]


def test_the_same_command_again_evaluates_nothing(reference):
    before = csv_of(reference)
    again = explore(reference, choices(*AGENTS), seeds=2, budget=60, workers=2, fill=400)
    assert again.fresh == 0
    assert csv_of(reference) == before


def test_workers_and_hash_seed_change_no_byte(reference, tmp_path):
    """Two workers in another process with another PYTHONHASHSEED: the same bytes."""
    arguments = ("--budget", "60", "--fill", "400", "--workers", "2")
    environment = {**os.environ, "PYTHONHASHSEED": "4242"}
    subprocess.run(
        command(tmp_path, *arguments), check=True, capture_output=True, env=environment, timeout=300
    )
    assert csv_of(tmp_path) == csv_of(reference)


def killed_until_done(out: Path, arguments: tuple[str, ...], kills: int, seed: int) -> int:
    """Run a command, killing it at random moments at first; returns how often."""
    rng = random.Random(seed)
    killed = 0
    while True:
        process = subprocess.Popen(
            command(out, *arguments),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        if killed < kills:
            # From before the store exists to the middle of a search.
            time.sleep(rng.uniform(0.3, 3.5))
            if process.poll() is None:
                killed += 1
                if rng.random() < 0.5:
                    os.killpg(process.pid, signal.SIGKILL)
                else:
                    process.kill()  # the runner only: its workers must notice and go
                process.communicate()
                continue
        errors = process.communicate(timeout=300)[1].decode()
        assert process.returncode == 0, errors
        return killed


@pytest.mark.skipif(not hasattr(os, "killpg"), reason="needs POSIX signals")
def test_kill_9_loses_and_doubles_nothing(reference, tmp_path):
    arguments = ("--budget", "60", "--fill", "400")
    assert killed_until_done(tmp_path, arguments, kills=4, seed=1) >= 1
    check_store(tmp_path / "store.sqlite")
    assert csv_of(tmp_path) == csv_of(reference)


@pytest.mark.slow
@pytest.mark.skipif(
    not os.environ.get("ARCHSIM_LONG"), reason="minutes; set ARCHSIM_LONG=1 to run it"
)
def test_twenty_kills_lose_and_double_nothing(tmp_path):
    arguments = ("--budget", "400", "--fill", "20000")
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    subprocess.run(command(whole, *arguments), check=True, capture_output=True)
    killed_until_done(killed, arguments, kills=20, seed=2)
    check_store(killed / "store.sqlite")
    assert csv_of(killed) == csv_of(whole)


@pytest.mark.skipif(os.name == "nt", reason="needs POSIX signals")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_says_how_to_go_on(tmp_path, number):
    process = subprocess.Popen(
        command(tmp_path, "--budget", "100000"),  # more than it can do before the signal comes
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
        text=True,
        # Background jobs of a shell inherit an ignored SIGINT.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    try:
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline and not stored(tmp_path):
            time.sleep(0.05)
        os.killpg(process.pid, number)  # as a terminal does: the workers get it too
        errors = process.communicate(timeout=60)[1]
    finally:  # whatever went wrong, nothing keeps computing
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == 130
    assert "Run the same command again" in errors
    assert "Traceback" not in errors
    assert stored(tmp_path) > 0


def stored(run: Path) -> int:
    """Evaluations on disk, while another process writes."""
    try:
        with Store(run / "store.sqlite", readonly=True) as store:
            return sum(item.count for item in store.runs())
    except ArchsimError:
        return 0


CRASHING = '''
class Crashing:
    """Evaluates five designs and then divides by zero."""

    encoding = "multidiscrete"
    vectorized = False

    def __init__(self, env, seed=0, options=None):
        self.env, self.seed = env, seed

    def search(self):
        self.env.reset(seed=self.seed)
        for step in range(100):
            self.env.step(self.env.action_space.sample() * 0)
            print("step", step)
            1 / (4 - step)
'''


def test_a_crashing_agent_does_not_stop_the_others(tmp_path):
    file = tmp_path / "crashing.py"
    file.write_text(CRASHING)
    out = tmp_path / "run"
    agents = choices(f"{file}:Crashing", "random")
    summary = explore(out, agents, seeds=1, budget=30)
    bad, good = summary.runs
    assert (bad.status, bad.count) == ("failed", 5)
    assert "ZeroDivisionError" in bad.error
    assert (good.status, good.count) == ("done", 30)
    log = (out / "logs" / f"run-{bad.id}.log").read_text()
    assert "step 4" in log
    assert "1 / (4 - step)" in log
    # Repaired and run again: the same command does what is missing, and starts it afresh.
    file.write_text(CRASHING.replace("1 / (4 - step)", "1 / (40 - step)"))
    bad, good = explore(out, agents, seeds=1, budget=30).runs
    assert (bad.status, bad.count) == ("done", 30)


DYING = CRASHING.replace("1 / (4 - step)", "__import__('os').kill(__import__('os').getpid(), 9)")


@pytest.mark.skipif(os.name == "nt", reason="needs POSIX signals")
def test_a_process_that_vanishes_is_reported(tmp_path):
    file = tmp_path / "dying.py"
    file.write_text(DYING)
    agents = choices(f"{file}:Crashing", "random")
    bad, good = explore(tmp_path / "run", agents, seeds=1, budget=20).runs
    assert bad.status == "failed"
    assert "SIGKILL" in bad.error
    assert good.status == "done"


def test_a_larger_plan_continues_the_store(tmp_path):
    explore(tmp_path, choices("random"), seeds=1, budget=20)
    summary = explore(tmp_path, choices("random"), seeds=2, budget=20)
    assert [run.count for run in summary.runs] == [20, 20]
    assert summary.fresh <= 20  # the first seed was done already
    with_more = explore(tmp_path, choices("random"), seeds=2, budget=30)
    assert [run.budget for run in with_more.runs] == [30, 30]
    # What is compared is the budget asked for last; nothing that was stored is lost.
    results = Results(tmp_path)
    assert {run.budget for runs in results.compared().values() for run in runs} == {30}
    assert len(results.evaluations.run) == 2 * 20 + 2 * 30


def test_two_at_once_in_one_directory_are_refused(tmp_path):
    with runner.exclusive(tmp_path), pytest.raises(ArchsimError, match="another archsim"):
        explore(tmp_path, choices("random"), seeds=1, budget=20)


def test_a_store_of_another_scenario_is_refused(tmp_path):
    explore(tmp_path, choices("random"), seeds=1, budget=20)
    scenario = load_scenario("smoke")
    other = scenario.model_copy(update={"constraints": ("rows * cols <= 64",)})
    plan = runner.plan_for(other, agents=choices("random"))
    with pytest.raises(InputError, match="another scenario"):
        runner.explore(other, plan, tmp_path)


def test_numbers_of_a_changed_model_are_refused(tmp_path):
    explore(tmp_path, choices("random"), seeds=1, budget=20)
    with sqlite3.connect(tmp_path / "store.sqlite") as db:
        db.execute("UPDATE designs SET latency_s = latency_s * 1.001")
    db.close()
    with pytest.raises(InputError, match="other numbers now"):
        explore(tmp_path, choices("random"), seeds=2, budget=20)
