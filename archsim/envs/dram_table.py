"""Exhaustive tables of memory controllers: every design of a space, each class simulated once.

A table holds the metrics of every controller of a space on one trace, as the simulator gives them
bit for bit, so a scenario that names one (``table:``) is the same environment at the speed of a
lookup, and its optimum is known. Controllers that serve a trace alike
(:mod:`archsim.models.dram.equivalence`) share a row: of the 442,368 of ArchGym's
reinforcement-learning space 23,868 are simulated for a trace of reads, 51,731 for a mixed one.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from archsim.envs.scenario import BaseScenario
from archsim.errors import InputError
from archsim.models.dram.designs import METRICS, ControllerProblem
from archsim.models.dram.trace import Trace
from archsim.space import DesignSpace

FORMAT = 1
#: Points of a space beyond which a table is refused: rows are named by 32-bit numbers, and the
#: full space of 28,311,552 would take hours.
MAX_POINTS = 4_000_000
#: Classes simulated between two writes to disk.
PART = 1024
#: Designs simulated anew before a table is trusted, see :meth:`Table.verify`.
CHECKED = 24

#: Called with the classes done and to be done.
Advance = Callable[[int, int], None]


class Tabled(Protocol):
    """What a table needs of a problem (:class:`archsim.envs.dram.DramProblem`).

    Attributes:
        trace: The requests.
        measured: Metrics of the model, in order.
        space: The designs.
    """

    trace: Trace
    measured: tuple[str, ...]
    space: DesignSpace

    @property
    def shipped(self) -> Mapping[str, float]:
        """Metrics of the reference controller."""

    @property
    def scenario(self) -> BaseScenario:
        """Named in errors."""

    @property
    def designs(self) -> ControllerProblem:
        """The simulator."""

    def content(self) -> dict[str, Any]:
        """Plain data that decides every number of a design."""


@dataclass(frozen=True, eq=False)
class Table:
    """Metrics of every design of a space on one trace.

    Attributes:
        digest: Of memory, trace, release and space, see :func:`digest`.
        values: Values of every parameter, in order.
        metrics: Their names.
        row_of: Row of every design by its flat index, int32[points].
        rows: float64[classes, metrics].
        reference: Metrics of the reference controller, float64[metrics].
        source: The file.
    """

    digest: str
    values: Mapping[str, tuple[Any, ...]]
    metrics: tuple[str, ...]
    row_of: np.ndarray
    rows: np.ndarray
    reference: np.ndarray
    source: str = ""

    @property
    def strides(self) -> np.ndarray:
        """What one value up adds to the flat index, int64[parameters]."""
        sizes = [len(values) for values in self.values.values()]
        return np.cumprod([1, *sizes[:0:-1]])[::-1].copy()

    def places(self, names: Sequence[str], values: Sequence[Sequence[Any]]) -> list[np.ndarray]:
        """For each value of each parameter of a space, its share of the flat index.

        Returns:
            int64 arrays; -1 where the table has no such value.
        """
        strides = dict(zip(self.values, self.strides.tolist(), strict=True))
        found = []
        for name, mine in zip(names, values, strict=True):
            at = {value: place * strides[name] for place, value in enumerate(self.values[name])}
            found.append(np.array([at.get(value, -1) for value in mine], dtype=np.int64))
        return found

    def column(self, name: str, flat: np.ndarray) -> np.ndarray:
        """A metric of designs by flat index, float64[B]."""
        return self.rows[self.row_of[flat], self.metrics.index(name)]

    def save(self, path: Path) -> None:
        """Write the file; it appears under its name only when it is complete."""
        header = {
            "format": FORMAT,
            "digest": self.digest,
            "values": {name: list(values) for name, values in self.values.items()},
            "metrics": list(self.metrics),
        }
        draft = path.with_name(path.name + ".new")
        with draft.open("wb") as file:
            np.savez(
                file,
                header=np.frombuffer(json.dumps(header).encode(), np.uint8),
                row_of=self.row_of,
                rows=self.rows,
                reference=self.reference,
            )
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)

    @classmethod
    def load(cls, path: str | Path) -> Table:
        """Read a file.

        Raises:
            InputError: There is none, or it is no table.
        """
        arrays = read_arrays(path, ("header", "row_of", "rows", "reference"), "a table")
        header = arrays["header"]
        try:
            found = json.loads(header.tobytes())
            values = {str(name): tuple(items) for name, items in found["values"].items()}
            table = cls(
                str(found["digest"]),
                values,
                tuple(map(str, found["metrics"])),
                arrays["row_of"],
                arrays["rows"],
                arrays["reference"],
                str(path),
            )
            points = int(np.prod([len(items) for items in values.values()]))
            fits = (
                found["format"] == FORMAT
                and table.row_of.dtype == np.int32
                and table.row_of.shape == (points,)
                and table.rows.dtype == table.reference.dtype == np.float64
                and table.rows.shape[1:] == table.reference.shape == (len(table.metrics),)
                and 0 <= table.row_of.min() <= table.row_of.max() < len(table.rows)
            )
        except (ValueError, KeyError, TypeError, AttributeError, IndexError):
            fits = False
        if not fits:
            raise InputError("not a table of designs, or one of another version", source=path)
        return table

    def verify(self, problem: Tabled, count: int = CHECKED, seed: int = 0) -> None:
        """Simulate some designs anew, to see that the model still gives these numbers.

        Raises:
            InputError: It does not.
        """
        flat = np.random.default_rng(seed).integers(0, len(self.row_of), count)
        fresh = problem.designs.measure(problem.designs.vectors(_columns(self.values, flat)))
        for name in self.metrics:
            if not np.array_equal(fresh[name], self.column(name, flat), equal_nan=True):
                raise InputError(
                    "the model gives other numbers now than when the table was made; remove it",
                    source=self.source,
                    field=name,
                )


def read_arrays(path: str | Path, names: Sequence[str], what: str) -> dict[str, np.ndarray]:
    """Arrays of an ``.npz`` file; nothing in it is executed.

    Raises:
        InputError: The file is missing, damaged, or lacks an array.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in names}
    except FileNotFoundError:
        raise InputError("no such file", source=path, expected=what) from None
    except OSError as error:
        reason = error.strerror or "damaged"
        raise InputError(f"cannot read file: {reason}", source=path, expected=what) from None
    except (ValueError, KeyError, zipfile.BadZipFile, EOFError, TypeError):
        raise InputError(f"not {what}, or a damaged one", source=path) from None


def digest(content: Mapping[str, Any], values: Mapping[str, Sequence[Any]]) -> str:
    """Of what decides a table: memory, trace, release, and the values of every parameter."""
    kept = {name: content[name] for name in ("memory", "trace", "dramsys")}
    kept["values"] = {name: list(items) for name, items in values.items()}
    kept["metrics"] = METRICS
    return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()


def cache_folder() -> Path:
    """Where tables are kept unless told otherwise: ``archsim/tables`` in the user's cache."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "archsim" / "tables"


def table_path(problem: Tabled, folder: Path | None = None) -> Path:
    """The file of a problem's table."""
    return (folder or cache_folder()) / f"controllers-{_digest_of(problem)[:20]}.npz"


def _values_of(problem: Tabled) -> dict[str, tuple[Any, ...]]:
    return {parameter.name: tuple(parameter.values) for parameter in problem.space.parameters}


def _digest_of(problem: Tabled) -> str:
    return digest(problem.content(), _values_of(problem))


def _columns(values: Mapping[str, Sequence[Any]], flat: np.ndarray) -> dict[str, list[Any]]:
    """One sequence of values a parameter, of designs by flat index."""
    places = np.unravel_index(flat, [len(items) for items in values.values()])
    found = {}
    for (name, items), place in zip(values.items(), places, strict=True):
        found[name] = np.array(items, dtype=object)[place].tolist()
    return found


def make_table(problem: Tabled, path: Path, advance: Advance | None = None) -> Table:
    """The table of a problem's space, from its file or computed; a cut-off one is gone on with.

    Constraints of the space are not looked at: the table holds designs they exclude too.

    Args:
        problem: The problem.
        path: The file; beside it the parts of an unfinished table are kept.
        advance: Hears how it goes.

    Raises:
        InputError: The space is too large, or the file holds something else.
    """
    wanted = _digest_of(problem)
    if path.exists():
        table = Table.load(path)
        if table.digest != wanted:
            raise InputError("the table is of another space, memory or trace", source=path)
        table.verify(problem)
        return table
    values = _values_of(problem)
    points = problem.space.points
    if points > MAX_POINTS:
        raise InputError(
            "the space is too large for a table; give parameters fewer values",
            source=problem.scenario.name,
            found=points,
            expected=f"at most {MAX_POINTS:,} designs",
        )
    vectors, row_of = _classes(problem, values, points)
    path.parent.mkdir(parents=True, exist_ok=True)
    parts = path.with_name(path.name + ".parts")
    parts.mkdir(exist_ok=True)
    rows = []
    for start in range(0, len(vectors), PART):
        batch = vectors[start : start + PART]
        part = parts / f"{wanted[:20]}-{start}.npy"
        block = _stored_part(part, (len(batch), len(problem.measured)))
        if block is None:
            found = problem.designs.measure(batch)
            block = np.stack([found[name] for name in problem.measured], axis=1)
            _write_part(part, block)
        rows.append(block)
        if advance is not None:
            advance(min(start + PART, len(vectors)), len(vectors))
    reference = np.array([problem.shipped[name] for name in problem.measured])
    table = Table(
        wanted, values, problem.measured, row_of, np.concatenate(rows), reference, str(path)
    )
    table.verify(problem)
    table.save(path)
    shutil.rmtree(parts)
    return table


def _classes(
    problem: Tabled, values: Mapping[str, Sequence[Any]], points: int
) -> tuple[np.ndarray, np.ndarray]:
    """One policy vector a class, and the class of every design."""
    from archsim.models.dram.equivalence import canonical

    vectors = problem.designs.vectors(_columns(values, np.arange(points)))
    alike = canonical(vectors, problem.trace.write)
    key = np.zeros(points, np.int64)
    for column in alike.T:  # a mixed-radix number a row: sorting those is quick
        distinct, code = np.unique(column, return_inverse=True)
        key = key * len(distinct) + code
    _, first, row_of = np.unique(key, return_index=True, return_inverse=True)
    return alike[first], row_of.astype(np.int32)


def _stored_part(part: Path, shape: tuple[int, int]) -> np.ndarray | None:
    try:
        rows = np.load(part, allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    return rows if rows.shape == shape and rows.dtype == np.float64 else None


def _write_part(part: Path, rows: np.ndarray) -> None:
    buffer = io.BytesIO()
    np.save(buffer, rows)
    draft = part.with_suffix(".new")
    with draft.open("wb") as file:
        file.write(buffer.getvalue())
        file.flush()
        os.fsync(file.fileno())
    draft.replace(part)
