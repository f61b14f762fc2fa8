"""Where runs are carried out: processes here today, other machines behind the same calls later."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from typing import Any, Protocol

from archsim.explore.jobs import Event, Job

#: Libraries that start a thread pool of their own; one thread each, runs are the parallel unit.
_SINGLE_THREADED = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMEXPR_NUM_THREADS",
)
#: Seconds a process whose run is over has to end by itself.
LAST_STEPS_S = 10.0


class Executor(Protocol):
    """What the runner asks of a place that carries out runs.

    A run's events arrive in order, ``done`` or ``failed`` last; one of the two always arrives
    unless the executor is closed first.
    """

    slots: int

    def submit(self, job: Job) -> None:
        """Start a run; called with at most ``slots`` runs under way."""

    def poll(self, timeout_s: float) -> list[Event]:
        """Events since the last call; waits up to ``timeout_s`` for the first."""

    def stop(self, timeout_s: float) -> list[Event]:
        """Ask all runs to end now and collect what they have evaluated so far."""

    def close(self) -> None:
        """Release everything; runs still under way are ended."""


@dataclass
class _Worker:
    process: Any
    connection: Connection
    finished: bool = False


@dataclass
class LocalExecutor:
    """Runs in processes of this machine, a fresh one each: no run can disturb another.

    Args:
        slots: Processes at the same time.
        preload: Modules to import once, before runs branch off (where the system can fork).
    """

    slots: int
    preload: Sequence[str] = ()
    _workers: dict[int, _Worker] = field(default_factory=dict)

    def __post_init__(self) -> None:
        import multiprocessing

        methods = multiprocessing.get_all_start_methods()
        self._context: Any = multiprocessing.get_context(
            "forkserver" if "forkserver" in methods else "spawn"
        )
        if "forkserver" in methods:
            self._context.set_forkserver_preload(["archsim.explore.worker", *self.preload])

    def submit(self, job: Job) -> None:
        """Start a process for the run."""
        from archsim.explore import worker

        ours, theirs = self._context.Pipe()
        process = self._context.Process(
            target=worker.main, args=(job, theirs), name=f"archsim-run-{job.run}"
        )
        with limited_threads(), _importable_main():
            process.start()
        theirs.close()
        self._workers[job.run] = _Worker(process, ours)

    def poll(self, timeout_s: float) -> list[Event]:
        """Read what the workers sent; a worker that vanished is reported as failed."""
        by_connection: dict[Any, int] = {w.connection: run for run, w in self._workers.items()}
        events: list[Event] = []
        ready: list[Any] = wait(list(by_connection), timeout_s)
        for connection in ready:
            run = by_connection[connection]
            worker = self._workers[run]
            while True:
                try:
                    event = connection.recv()
                except (EOFError, OSError):
                    events += self._retire(run, worker)
                    break
                events.append(event)
                worker.finished |= event.kind in ("done", "failed")
                if not connection.poll(0):
                    break
        return events

    def _retire(self, run: int, worker: _Worker) -> list[Event]:
        del self._workers[run]
        worker.connection.close()
        worker.process.join()
        if worker.finished:
            return []
        code = worker.process.exitcode
        reason = f"exit status {code}"
        if code is not None and code < 0:
            with contextlib.suppress(ValueError):
                reason = f"signal {signal.Signals(-code).name}"
        if code == -getattr(signal, "SIGKILL", 9):
            reason += " (killed from outside, or the system ran out of memory)"
        return [Event(run, "failed", (f"its process ended with {reason}", ""))]

    def stop(self, timeout_s: float) -> list[Event]:
        """Tell the workers to send what they hold and end; later ones are terminated."""
        import time

        for worker in self._workers.values():
            with contextlib.suppress(OSError):
                worker.connection.send("stop")
        events: list[Event] = []
        deadline = time.monotonic() + timeout_s
        while self._workers and time.monotonic() < deadline:
            events += self.poll(0.1)
        return [event for event in events if event.kind != "failed"]

    def close(self) -> None:
        """End every process still alive; one that has said its last word ends by itself.

        Cut off on its way out, it would leave behind what it was about to give back (the named
        semaphore of Numba's threads).
        """
        for worker in self._workers.values():
            if worker.finished:
                worker.process.join(LAST_STEPS_S)
        for worker in self._workers.values():
            worker.process.terminate()
        for worker in self._workers.values():
            worker.process.join(2.0)
            if worker.process.is_alive():
                worker.process.kill()
                worker.process.join()
            worker.connection.close()
        self._workers.clear()


@contextlib.contextmanager
def limited_threads() -> Iterator[None]:
    """Environment of a worker while it starts: one thread for every numerical library."""
    before = {name: os.environ.get(name) for name in _SINGLE_THREADED}
    os.environ.update(dict.fromkeys(_SINGLE_THREADED, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextlib.contextmanager
def _importable_main() -> Iterator[None]:
    """Keep workers from running the caller's script again (multiprocessing would re-import it).

    A worker needs nothing from ``__main__``: its job is plain data and its code is ours. So a
    script or notebook may call `archsim.explore.explore` without a guard around it.
    """
    main = sys.modules["__main__"]
    hidden = {}
    for name in ("__file__", "__spec__"):
        if hasattr(main, name):
            hidden[name] = getattr(main, name)
            setattr(main, name, None)
    try:
        yield
    finally:
        for name, value in hidden.items():
            setattr(main, name, value)


def cores() -> int:
    """Processor cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return max(1, len(os.sched_getaffinity(0)))
    return max(1, os.cpu_count() or 1)
