"""What happens inside a worker process: one agent searches one environment, and reports."""

from __future__ import annotations

import contextlib
import math
import os
import random
import signal
import sys
import threading
import traceback
from collections.abc import Iterator
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

import numpy as np

from archsim.errors import ArchsimError
from archsim.explore.jobs import Event, Job
from archsim.explore.records import Batch
from archsim.explore.store import Store

#: Evaluations leave the worker after this time at the latest, and in batches of at most this size.
SEND_EVERY_S = 0.2
SEND_ROWS = 4096


class Outbox:
    """Collects evaluations and sends them to the runner in batches, in order.

    A thread of its own sends what has waited long enough (so that a slow evaluation never holds
    back the ones before it) and ends the process when the runner says so or is gone.

    Args:
        connection: To the runner.
        job: The run carried out.
    """

    def __init__(self, connection: Connection, job: Job) -> None:
        self._connection = connection
        self._job = job
        self._lock = threading.Lock()
        self._keys: list[Any] = []
        self._indices: list[np.ndarray] = []
        self._metrics: list[list[float]] = []
        self._reward: list[float] = []
        self._start = 0
        self._over = False
        threading.Thread(target=self._watch, name="outbox", daemon=True).start()

    def record(self, record: dict[str, Any]) -> None:
        """Take one evaluation as the environment's recorder describes it."""
        metrics = [float(record[name]) for name in self._job.metrics]
        if not all(map(math.isfinite, metrics)):
            wrong = [n for n, v in zip(self._job.metrics, metrics, strict=True) if v - v != 0]
            raise RuntimeError(f"the cost model gave a number that is not finite: {wrong}")
        with self._lock:
            if record["order"] != self._start + len(self._keys):
                raise RuntimeError(
                    f"evaluation {record['order']} was recorded out of order "
                    f"(expected {self._start + len(self._keys)})"
                )
            self._keys.append(record["key"])
            self._indices.append(record["index_vector"])
            self._metrics.append(metrics)
            self._reward.append(float(record["reward"]))
            if len(self._keys) >= SEND_ROWS:
                self._send_rows()

    def _send_rows(self) -> None:
        if not self._keys:
            return
        batch = Batch(
            self._start,
            self._keys,
            np.array(self._indices, dtype=np.int64),
            np.array(self._metrics, dtype=np.float64),
            np.array(self._reward),
        )
        self._start += len(self._keys)
        self._keys, self._indices, self._metrics, self._reward = [], [], [], []
        self._send("batch", batch)

    def _send(self, kind: str, payload: Any) -> None:
        try:
            self._connection.send(Event(self._job.run, kind, payload))
        except OSError:
            _end(1)  # The runner is gone; nobody could store what follows.

    def finish(self, kind: str, payload: Any = None) -> None:
        """Send what is left, then how the run ended."""
        with self._lock:
            self._send_rows()
            self._send(kind, self._start if kind == "done" else payload)
            self._over = True

    def _watch(self) -> None:
        import multiprocessing

        parent = multiprocessing.parent_process()
        sources = [self._connection] + ([parent.sentinel] if parent else [])
        while True:
            try:
                ready = wait(sources, SEND_EVERY_S)
            except OSError:  # closed, as the run is over
                return
            with self._lock:
                if self._over:  # leave the process to end in its own way, semaphores released
                    return
                self._send_rows()
                if ready:
                    _end(0)


def _end(status: int) -> None:
    """End the process now, whatever the main thread does, but give back named semaphores.

    Numba's thread pool has one, which the system keeps if nobody removes it.
    """
    from multiprocessing import util

    util._run_finalizers(0)  # type: ignore[attr-defined]
    os._exit(status)


def main(job: Job, connection: Connection) -> None:
    """Carry out a run and report through the connection; the target of a worker process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # The runner hears Ctrl-C and tells us.
    outbox = Outbox(connection, job)
    with _log_file(job) as log:
        try:
            run_agent(job, outbox.record)
        except ArchsimError as error:
            outbox.finish("failed", (str(error), ""))
        except BaseException as error:
            line = "".join(traceback.format_exception_only(error)).strip()
            details = traceback.format_exc()
            print(details, file=sys.stderr)
            outbox.finish("failed", (f"{line} (details in {log})", details))
        else:
            outbox.finish("done")
    connection.close()


def run_agent(job: Job, record: Any) -> None:
    """Build the environment and the agent of a job and search until the budget is used up.

    Args:
        job: What to run.
        record: Called with every evaluation, in order.
    """
    from archsim.agents import load_agent, options_from_mapping
    from archsim.envs.recorder import BudgetExhausted

    seed_everything(job.seed)
    _limit_kernel_threads(job.threads)
    agent_class = load_agent(job.agent)
    options = options_from_mapping(agent_class, job.options)
    store = Store(job.store, readonly=True)
    env = make_environment(job, agent_class, options, record, store.cache(job.run))
    try:
        seed_everything(job.seed)
        with contextlib.suppress(BudgetExhausted):
            agent_class(env, seed=job.seed, options=options).search()
    finally:
        env.close()
        store.close()


def make_environment(job: Job, agent_class: type, options: Any, record: Any, cache: Any) -> Any:
    """The recorded environment an agent asks for through its class attributes.

    ``encoding`` names the action space, ``stepwise`` the environment that decides one parameter
    a step, ``vectorized`` the natively batched one.
    """
    import gymnasium as gym

    import archsim.envs  # noqa: F401 (registers the environments)
    from archsim.agents import designs_per_step
    from archsim.envs.kinds import kind_of
    from archsim.envs.recorder import Recorder, VectorRecorder
    from archsim.envs.scenario import load_scenario

    stepwise = bool(getattr(agent_class, "stepwise", False))
    scenario = load_scenario(job.scenario)
    kind = kind_of(scenario.environment)
    name = kind.stepwise if stepwise else kind.whole
    settings: dict[str, Any] = {"scenario": scenario}
    if not stepwise:
        settings["encoding"] = getattr(agent_class, "encoding", "multidiscrete")
    if getattr(agent_class, "vectorized", False):
        envs = gym.make_vec(
            name,
            num_envs=min(designs_per_step(agent_class, options), job.budget),
            vectorization_mode="vector_entry_point",
            **settings,
        )
        return VectorRecorder(envs, job.budget, on_evaluation=record, cache=cache)
    env = gym.make(name, **settings)
    return Recorder(env, job.budget, on_evaluation=record, cache=cache)


def seed_everything(seed: int) -> None:
    """Seed the global generators too: an agent may use them, and must still repeat itself."""
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002 (for agents that use the legacy generator)
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.manual_seed(seed)
        torch.set_num_threads(1)


def _limit_kernel_threads(threads: int) -> None:
    import numba

    most: int = getattr(numba.config, "NUMBA_NUM_THREADS", 1)
    numba.set_num_threads(max(1, min(threads, most)))


@contextlib.contextmanager
def _log_file(job: Job) -> Iterator[Path]:
    """Send what agents print to a file of the run; an empty one is removed again."""
    folder = job.store.parent / "logs"
    folder.mkdir(exist_ok=True)
    path = folder / f"run-{job.run}.log"
    with path.open("w", encoding="utf-8", buffering=1) as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
        sys.stdout, sys.stderr = file, file
        yield path
    if path.stat().st_size == 0:
        path.unlink(missing_ok=True)
