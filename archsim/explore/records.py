"""What the store holds, as plain data: runs, evaluations, designs."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from archsim.errors import InputError

#: Columns of parameters are named with this before the name; they hold places in the value list.
INDEX_PREFIX = "index."
PHASES = ("compare", "fill")
#: A run is planned, running (or cut off while running), done, or failed with its agent's error.
STATUSES = ("planned", "running", "done", "failed")


@dataclass(frozen=True)
class Layout:
    """What one evaluated design carries.

    Attributes:
        parameters: Names of the design's parameters, in the order of the index vector.
        metrics: Names of the numbers an evaluation returns, in stored order.
    """

    parameters: tuple[str, ...]
    metrics: tuple[str, ...]

    def __post_init__(self) -> None:
        names = [INDEX_PREFIX + name for name in self.parameters] + list(self.metrics)
        folded = [name.casefold() for name in names]
        if len(set(folded)) != len(folded) or {"id", "key"} & set(folded):
            raise InputError("parameter and metric names must differ in more than case")

    @property
    def columns(self) -> tuple[str, ...]:
        """Column names of the table of designs."""
        return (*(INDEX_PREFIX + name for name in self.parameters), *self.metrics)


@dataclass(frozen=True)
class Run:
    """One agent with one seed under one budget.

    Attributes:
        id: Number of the run in the store, in planned order.
        agent: Name or ``file.py:Class`` of the agent.
        options: The agent's options as canonical JSON.
        seed: Seed handed to the agent.
        budget: Evaluations the agent may ask for.
        phase: ``compare`` (equal budgets) or ``fill`` (goes on to fill the front).
        status: One of `STATUSES`.
        error: The agent's own error where it failed.
        count: Evaluations stored.
    """

    id: int
    agent: str
    options: str
    seed: int
    budget: int
    phase: str
    status: str = "planned"
    error: str | None = None
    count: int = 0

    @property
    def label(self) -> str:
        """Agent and options in one line, e.g. ``genetic(population=24)``."""
        return agent_label(self.agent, self.options)


def agent_label(agent: str, options: str) -> str:
    """Name an agent with the options that differ from its defaults."""
    given = json.loads(options) if options else {}
    name = agent if ".py" not in agent else agent.rsplit(":", 1)[-1]
    return name + (f"({', '.join(f'{k}={v}' for k, v in given.items())})" if given else "")


@dataclass(frozen=True)
class Batch:
    """Evaluations of one run, in order.

    Attributes:
        start: Order of the first one within its run (from 0).
        keys: Design key of each.
        indices: int64[B, P] index vectors.
        metrics: float64[B, M], columns as in `Layout.metrics`.
        reward: float64[B] as the agent saw it.
    """

    start: int
    keys: Sequence[bytes | str]
    indices: np.ndarray
    metrics: np.ndarray
    reward: np.ndarray

    def __len__(self) -> int:
        return len(self.keys)


@dataclass(frozen=True)
class Designs:
    """Distinct designs as columns.

    Attributes:
        indices: int64[D, P] index vectors.
        metrics: name -> float64[D].
    """

    indices: np.ndarray
    metrics: dict[str, np.ndarray]


@dataclass(frozen=True)
class Evaluations:
    """Every stored evaluation as columns (E evaluations of D distinct designs).

    Attributes:
        run: int64[E] id of the run, ascending.
        order: int64[E] position within the run, ascending.
        design: int64[E] row of ``designs``.
        reward: float64[E].
        designs: The designs.
    """

    run: np.ndarray
    order: np.ndarray
    design: np.ndarray
    reward: np.ndarray
    designs: Designs


def short_key(key: bytes | str) -> bytes:
    """The 16 bytes a design key is stored as: keys of 128-bit BLAKE2b never collide in practice
    (n designs collide with probability n**2 / 2**129), and keep the index small and fast."""
    data = key if isinstance(key, bytes) else key.encode()
    return hashlib.blake2b(data, digest_size=16).digest()
