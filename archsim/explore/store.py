"""The store of one exploration: an SQLite file that survives being killed at any moment.

One process writes (the runner); any number read while it does. A batch of evaluations is one
transaction in a write-ahead log with ``synchronous=FULL``: after ``add`` returns, the batch is on
disk. A design is stored once and shared by all runs; a run is the sequence of designs its agent
asked for, so an interrupted run repeats itself from the store at memory speed.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from archsim.errors import InputError
from archsim.explore.records import Batch, Designs, Evaluations, Layout, Run, short_key
from archsim.explore.storefile import check_header, make_file, quote, translated

STORE_NAME = "store.sqlite"
_RUNS = (
    "SELECT id, agent, options, seed, budget, phase, status, error, "
    "(SELECT count(*) FROM evaluations WHERE run = runs.id) FROM runs"
)


class Store:
    """An open store. Use `Store.create`, `Store.open` or `Store.open_or_create`.

    Args:
        path: The SQLite file.
        readonly: Open for reading only (also while another process writes).

    Raises:
        InputError: The file is missing, truncated, damaged, foreign or newer. It is not changed.
    """

    def __init__(self, path: str | Path, *, readonly: bool = False) -> None:
        self.path = Path(path)
        self.readonly = readonly
        check_header(self.path)
        with translated(self.path):
            self._check_content()
            self._db = self._connect("ro" if readonly else "rw")
            if not readonly:
                self._db.execute("PRAGMA journal_mode=WAL")
                self._db.execute("PRAGMA synchronous=FULL")
            meta = dict(self._db.execute("SELECT name, value FROM meta"))
        self._meta = meta
        self.layout = Layout(
            tuple(json.loads(meta["parameters"])), tuple(json.loads(meta["metrics"]))
        )

    def _connect(self, mode: str) -> sqlite3.Connection:
        uri = f"{self.path.absolute().as_uri()}?mode={mode}"
        db = sqlite3.connect(uri, uri=True, timeout=30.0, isolation_level=None)
        db.execute("PRAGMA cache_size=-65536")
        return db

    def _check_content(self) -> None:
        """Look for damage through a read-only connection, so that nothing is overwritten."""
        db = self._connect("ro")
        try:
            found = db.execute("PRAGMA quick_check(1)").fetchone()[0]
            tables = {row[0] for row in db.execute("SELECT name FROM sqlite_master")}
            missing = {"meta", "runs", "designs", "evaluations"} - tables
            if found != "ok" or missing:
                reason = found if found != "ok" else f"tables missing: {sorted(missing)}"
                raise InputError(
                    f"the store is damaged and is left as it is ({reason}); "
                    "move it away or choose another --out",
                    source=self.path,
                )
        finally:
            db.close()

    @classmethod
    def create(
        cls, path: str | Path, layout: Layout, digest: str, meta: Mapping[str, str] | None = None
    ) -> Store:
        """Make a new store; it appears under its name only when it is complete.

        Args:
            path: The file to make.
            layout: Parameters and metrics of its designs.
            digest: Digest of the scenario the results belong to.
            meta: Further text to keep beside it.

        Raises:
            InputError: Something is already there.
        """
        path = Path(path)
        if path.exists():
            raise InputError("there is already a file of this name", source=path)
        make_file(path, layout, {"digest": digest, **(meta or {})})
        return cls(path)

    @classmethod
    def open_or_create(
        cls, path: str | Path, layout: Layout, digest: str, meta: Mapping[str, str] | None = None
    ) -> Store:
        """Go on with the store of this scenario, or make a new one.

        Raises:
            InputError: There is a store, but not one that may be continued.
        """
        path = Path(path)
        if not path.exists():
            return cls.create(path, layout, digest, meta)
        store = cls(path)
        if store.digest != digest or store.layout != layout:
            store.close()
            raise InputError(
                "the store holds results of another scenario (its space, workloads, machine or "
                "objective differ); it is left as it is: choose another --out",
                source=path,
            )
        return store

    @property
    def digest(self) -> str:
        """Digest of the scenario the results belong to."""
        return self._meta["digest"]

    @property
    def meta(self) -> dict[str, str]:
        """Text kept beside the results."""
        return dict(self._meta)

    def set_meta(self, name: str, value: str) -> None:
        """Keep one more line of text."""
        with self._transaction():
            self._db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (name, value))
        self._meta[name] = value

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with translated(self.path):
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")

    def plan(self, wanted: Sequence[tuple[str, str, int, int, str]]) -> list[Run]:
        """Note the runs wanted (agent, options, seed, budget, phase), keeping those known.

        Returns:
            The runs in the wanted order, with the state they are in.
        """
        with self._transaction():
            self._db.executemany(
                "INSERT OR IGNORE INTO runs (agent, options, seed, budget, phase, status) "
                "VALUES (?, ?, ?, ?, ?, 'planned')",
                wanted,
            )
        known = {(r.agent, r.options, r.seed, r.budget, r.phase): r for r in self.runs()}
        return [known[key] for key in wanted]

    def runs(self) -> list[Run]:
        """All runs, in the order they were first planned."""
        with translated(self.path):
            return [Run(*row) for row in self._db.execute(f"{_RUNS} ORDER BY id")]

    def run(self, run: int) -> Run:
        """One of them by its id."""
        with translated(self.path):
            return Run(*self._db.execute(f"{_RUNS} WHERE id = ?", (run,)).fetchone())

    def set_status(self, run: int, status: str, error: str | None = None) -> None:
        """Note how a run stands; ``done`` is written after its last evaluation is on disk."""
        with self._transaction():
            self._db.execute(
                "UPDATE runs SET status = ?, error = ? WHERE id = ?", (status, error, run)
            )

    def note_source(self, run: int, source: str) -> bool:
        """Note the digest of an agent's own file; a run made by another version starts again.

        Returns:
            Whether the run had to be taken back.
        """
        with self._transaction():
            (known,) = self._db.execute("SELECT source FROM runs WHERE id = ?", (run,)).fetchone()
            changed = known is not None and known != source
            if changed:
                self._db.execute("DELETE FROM evaluations WHERE run = ?", (run,))
                self._db.execute(
                    "UPDATE runs SET status = 'planned', error = NULL WHERE id = ?", (run,)
                )
            self._db.execute("UPDATE runs SET source = ? WHERE id = ?", (source, run))
        return changed

    def add(self, run: int, batch: Batch) -> int:
        """Store a batch of evaluations of a run in one transaction.

        Evaluations already stored for the same places are compared, never doubled. Should the run
        differ from its stored past (an agent that does not repeat itself), the past from that
        place on is replaced; the designs it evaluated stay known.

        Args:
            run: Id of the run.
            batch: The evaluations.

        Returns:
            How many stored evaluations had to be replaced (0 for a deterministic agent).
        """
        if not len(batch):
            return 0
        keys = [short_key(key) for key in batch.keys]
        with self._transaction():
            stored = self._stored_keys(run, batch.start, len(batch))
            same = _common_prefix(stored, keys)
            replaced = 0
            if same < len(stored):
                replaced = self._db.execute(
                    "DELETE FROM evaluations WHERE run = ? AND ord >= ?", (run, batch.start + same)
                ).rowcount
            self._insert(run, batch, keys, same)
        return replaced

    def _stored_keys(self, run: int, start: int, count: int) -> list[bytes]:
        query = (
            "SELECT key FROM evaluations JOIN designs ON designs.id = design "
            "WHERE run = ? AND ord >= ? AND ord < ? ORDER BY ord"
        )
        return [row[0] for row in self._db.execute(query, (run, start, start + count))]

    def _insert(self, run: int, batch: Batch, keys: list[bytes], first: int) -> None:
        keys = keys[first:]
        rows = zip(
            keys,
            *(column.tolist() for column in batch.indices[first:].T),
            *(column.tolist() for column in batch.metrics[first:].T),
            strict=True,
        )
        marks = ", ".join("?" * (1 + len(self.layout.columns)))
        names = ", ".join(map(quote, ("key", *self.layout.columns)))
        self._db.executemany(
            f"INSERT INTO designs ({names}) VALUES ({marks}) ON CONFLICT (key) DO NOTHING", rows
        )
        start = batch.start + first
        self._db.executemany(
            "INSERT INTO evaluations SELECT ?, ?, id, ? FROM designs WHERE key = ?",
            zip(
                [run] * len(keys),
                range(start, start + len(keys)),
                np.asarray(batch.reward, dtype=np.float64)[first:].tolist(),
                keys,
                strict=True,
            ),
        )

    def truncate(self, run: int, count: int) -> int:
        """Drop evaluations of a run beyond its first ``count`` (a run that ended earlier now)."""
        with self._transaction():
            return self._db.execute(
                "DELETE FROM evaluations WHERE run = ? AND ord >= ?", (run, count)
            ).rowcount

    def designs(self) -> int:
        """Number of distinct designs."""
        with translated(self.path):
            return int(self._db.execute("SELECT count(*) FROM designs").fetchone()[0])

    def sample_designs(self, count: int) -> Designs:
        """The first few designs stored."""
        with translated(self.path):
            return self._read_designs(f"ORDER BY id LIMIT {int(count)}")[1]

    def evaluations(self) -> Evaluations:
        """Read everything into columns; a million rows take a few seconds."""
        with translated(self.path):
            self._db.execute("BEGIN")  # one moment for both tables, also while another writes
            try:
                cursor = self._db.execute(
                    "SELECT run, ord, design, reward FROM evaluations ORDER BY run, ord"
                )
                run, order, design, reward = _columns(cursor, "qqqd")
                ids, designs = self._read_designs("ORDER BY id")
            finally:
                self._db.execute("COMMIT")
        return Evaluations(run, order, np.searchsorted(ids, design), reward, designs)

    def _read_designs(self, which: str) -> tuple[np.ndarray, Designs]:
        parameters, metrics = self.layout.parameters, self.layout.metrics
        names = ", ".join(map(quote, self.layout.columns))
        cursor = self._db.execute(f"SELECT id, {names} FROM designs {which}")
        ids, *columns = _columns(cursor, "q" * (1 + len(parameters)) + "d" * len(metrics))
        indices = np.stack(columns[: len(parameters)], axis=1)
        values = columns[len(parameters) :]
        return ids, Designs(indices, dict(zip(metrics, values, strict=True)))

    def cache(self, run: int | None = None) -> DesignCache:
        """The stored designs as a mapping from key to metrics.

        Args:
            run: A run whose own designs are read at once; others are looked up when asked for.
        """
        return DesignCache(self, run)

    def close(self) -> None:
        """Close the file; what was added is on disk already."""
        self._db.close()

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class DesignCache:
    """Stored designs by key; each value is a dict of metric name -> float.

    Args:
        store: An open store (reading is enough).
        run: A run whose designs are loaded at once.
    """

    def __init__(self, store: Store, run: int | None = None) -> None:
        self._store = store
        self._names = store.layout.metrics
        self._columns = ", ".join(map(quote, self._names))
        self._loaded: dict[bytes, tuple[float, ...]] = {}
        if run is not None:
            query = (
                f"SELECT key, {self._columns} FROM evaluations "
                "JOIN designs ON designs.id = design WHERE run = ?"
            )
            for key, *values in store._db.execute(query, (run,)):
                self._loaded[key] = tuple(values)
        self._query = f"SELECT {self._columns} FROM designs WHERE key = ?"

    def __getitem__(self, key: bytes | str) -> dict[str, float]:
        short = short_key(key)
        values = self._loaded.get(short)
        if values is None:
            values = self._store._db.execute(self._query, (short,)).fetchone()
            if values is None:
                raise KeyError(key)
        return dict(zip(self._names, values, strict=True))

    def get(self, key: bytes | str, default: Any = None) -> Any:
        """The metrics stored under a key, or ``default``."""
        try:
            return self[key]
        except KeyError:
            return default


def _columns(cursor: sqlite3.Cursor, kinds: str) -> list[np.ndarray]:
    """Read rows into one array a column ("q": int64, "d": float64), a chunk at a time."""
    from array import array

    columns = [array(kind) for kind in kinds]
    while rows := cursor.fetchmany(8192):
        for column, values in zip(columns, zip(*rows, strict=True), strict=True):
            column.extend(values)
    kind_of = {"q": np.int64, "d": np.float64}
    return [np.array(c, dtype=kind_of[k]) for c, k in zip(columns, kinds, strict=True)]


def _common_prefix(left: Sequence[object], right: Sequence[object]) -> int:
    for place, (one, other) in enumerate(zip(left, right, strict=False)):
        if one != other:
            return place
    return min(len(left), len(right))
