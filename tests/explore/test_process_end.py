"""Worker processes give back what they hold, however a run ends."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from archsim.explore import worker
from archsim.explore.executor import LocalExecutor
from archsim.explore.jobs import Event, Job

pytestmark = pytest.mark.skipif(os.name != "posix", reason="semaphores have names on POSIX only")

STOPPED = """
import multiprocessing, pathlib, sys, time
from archsim.explore import worker
from archsim.explore.executor import LocalExecutor
from test_process_end import job, patient

worker.main = patient
place = LocalExecutor(1)
place.submit(job(pathlib.Path(sys.argv[1])))
events = []
while not events:
    events = place.poll(0.1)
place.stop(5.0)
place.close()
"""


def job(folder: Path) -> Job:
    return Job(1, "random", {}, 0, 1, folder / "scenario.yaml", folder / "store", 1, ())


def lingering(job: Job, connection: Any) -> None:
    """Says that it is done, and takes its time to end."""
    connection.send(Event(job.run, "done", 0))
    time.sleep(0.3)


def patient(job: Job, connection: Any) -> None:
    """Works on with a semaphore in hand until it is told to stop."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    held = multiprocessing.RLock()
    worker.Outbox(connection, job)
    connection.send(Event(job.run, "batch", None))
    time.sleep(60)
    held.acquire()


def test_a_run_that_is_over_ends_by_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "main", lingering)
    place = LocalExecutor(1)
    place.submit(job(tmp_path))
    process = place._workers[1].process
    while not place.poll(0.1):
        pass
    place.close()
    assert process.exitcode == 0  # and not -SIGTERM


def test_a_stopped_run_leaves_no_semaphore(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", STOPPED, str(tmp_path)],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parent)},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert "leaked" not in done.stderr, done.stderr
