"""What passes between the runner and whoever carries out a run: jobs there, events back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Job:
    """All a worker has to know to carry out one run; plain data, so it can travel.

    Attributes:
        run: Id of the run in the store.
        agent: Name or ``file.py:Class``.
        options: The agent's options.
        seed: Seed of the agent and the environment.
        budget: Evaluations the agent may ask for.
        scenario: Path of the scenario file.
        store: Path of the store, for reading designs already evaluated.
        threads: Threads the cost model may use.
        metrics: Names of the numbers to send back, in order.
    """

    run: int
    agent: str
    options: Mapping[str, Any]
    seed: int
    budget: int
    scenario: Path
    store: Path
    threads: int
    metrics: tuple[str, ...]


@dataclass(frozen=True)
class Event:
    """Something a worker reports.

    Attributes:
        run: Id of the run.
        kind: ``batch`` (payload: `store.Batch`), ``done`` (payload: evaluations in all) or
            ``failed`` (payload: error in one line, details).
    """

    run: int
    kind: str
    payload: Any
