"""The store of one exploration: an SQLite file that survives being killed at any moment.

One process writes (the runner); any number read while it does. A batch of evaluations is one
transaction in a write-ahead log with ``synchronous=FULL``: after ``add`` returns, the batch is on
disk. A design is stored once and shared by all runs; a run is the sequence of designs its agent
asked for, so an interrupted run repeats itself from the store at memory speed.
"""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from archsim.errors import ArchsimError, InputError

#: Marks the file as ours in the SQLite header (https://www.sqlite.org/fileformat.html, 1.3.14).
APPLICATION_ID = 0x61637331
SCHEMA_VERSION = 1
STORE_NAME = "store.sqlite"
_HEADER_BYTES = 100
_MAGIC = b"SQLite format 3\x00"
_INDEX = "index."

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
        names = [_INDEX + name for name in self.parameters] + list(self.metrics)
        folded = [name.casefold() for name in names]
        if len(set(folded)) != len(folded) or {"id", "key"} & set(folded):
            raise InputError("parameter and metric names must differ in more than case")

    @property
    def columns(self) -> tuple[str, ...]:
        """Column names of the table of designs."""
        return (*(_INDEX + name for name in self.parameters), *self.metrics)


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


def _quote(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


@contextmanager
def _translated(path: Path) -> Iterator[None]:
    """SQLite's errors as one clear sentence that names the file."""
    try:
        yield
    except sqlite3.DatabaseError as error:
        code = getattr(error, "sqlite_errorname", "") or ""
        if code.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB")):
            raise InputError(
                "the store is damaged and is left as it is "
                f"({error}); move it away or choose another --out",
                source=path,
            ) from None
        raise ArchsimError(f"{path}: the store cannot be used: {error}") from None


def check_header(path: Path) -> None:
    """Refuse a file that is not a store of this program, reading 100 bytes and changing none.

    Raises:
        InputError: Missing, truncated, foreign, or written by a newer version.
    """
    try:
        with path.open("rb") as file:
            header = file.read(_HEADER_BYTES)
    except OSError as error:
        raise InputError(f"cannot read the store: {error.strerror}", source=path) from None
    advice = "; it is left as it is: move it away or choose another --out"
    if len(header) < _HEADER_BYTES and _MAGIC.startswith(header[:16]):
        raise InputError("the store is truncated" + advice, source=path)
    if header[:16] != _MAGIC or int.from_bytes(header[68:72], "big") != APPLICATION_ID:
        raise InputError("this file is not an archsim store" + advice, source=path)
    version = int.from_bytes(header[60:64], "big")
    if version > SCHEMA_VERSION:
        raise InputError(
            "the store was written by a newer version of archsim" + advice,
            source=path,
            found=version,
            expected=f"schema version {SCHEMA_VERSION} or older",
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
        with _translated(self.path):
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
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.with_name(path.name + ".new")
        draft.unlink(missing_ok=True)
        with _translated(path):
            db = sqlite3.connect(draft, isolation_level=None)
            _write_schema(db, layout, {"digest": digest, **(meta or {})})
            db.close()
        _sync_file(draft)
        # A link fails where the name exists; a rename would replace it.
        try:
            os.link(draft, path)
            draft.unlink()
        except FileExistsError:
            raise InputError("there is already a file of this name", source=path) from None
        except OSError:
            draft.rename(path)
        _sync_folder(path.parent)
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
        with _translated(self.path):
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
        return [known[tuple(key)] for key in wanted]

    def runs(self) -> list[Run]:
        """All runs, in the order they were first planned."""
        query = (
            "SELECT id, agent, options, seed, budget, phase, status, error, "
            "(SELECT count(*) FROM evaluations WHERE run = runs.id) FROM runs ORDER BY id"
        )
        with _translated(self.path):
            return [Run(*row) for row in self._db.execute(query)]

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
        names = ", ".join(map(_quote, ("key", *self.layout.columns)))
        self._db.executemany(f"INSERT OR IGNORE INTO designs ({names}) VALUES ({marks})", rows)
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
        with _translated(self.path):
            return int(self._db.execute("SELECT count(*) FROM designs").fetchone()[0])

    def sample_designs(self, count: int) -> Designs:
        """The first few designs stored."""
        with _translated(self.path):
            return self._read_designs(f"ORDER BY id LIMIT {int(count)}")[1]

    def evaluations(self) -> Evaluations:
        """Read everything into columns; a million rows take a few seconds."""
        with _translated(self.path):
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
        names = ", ".join(map(_quote, self.layout.columns))
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
        self._columns = ", ".join(map(_quote, self._names))
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


def _write_schema(db: sqlite3.Connection, layout: Layout, meta: Mapping[str, str]) -> None:
    columns = [f"{_quote(_INDEX + name)} INTEGER NOT NULL" for name in layout.parameters]
    columns += [f"{_quote(name)} REAL NOT NULL" for name in layout.metrics]
    db.execute(f"PRAGMA application_id={APPLICATION_ID}")
    db.execute(f"PRAGMA user_version={SCHEMA_VERSION}")
    db.execute("BEGIN")
    db.execute("CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID")
    db.execute(
        "CREATE TABLE runs (id INTEGER PRIMARY KEY, agent TEXT NOT NULL, options TEXT NOT NULL, "
        "seed INTEGER NOT NULL, budget INTEGER NOT NULL, phase TEXT NOT NULL, "
        "status TEXT NOT NULL, error TEXT, source TEXT, UNIQUE (agent, options, seed, budget, phase))"
    )
    db.execute(
        "CREATE TABLE designs (id INTEGER PRIMARY KEY, key BLOB NOT NULL UNIQUE, "
        + ", ".join(columns)
        + ")"
    )
    db.execute(
        "CREATE TABLE evaluations (run INTEGER NOT NULL REFERENCES runs (id), "
        "ord INTEGER NOT NULL, design INTEGER NOT NULL REFERENCES designs (id), "
        "reward REAL NOT NULL, PRIMARY KEY (run, ord)) WITHOUT ROWID"
    )
    entries = {
        "parameters": json.dumps(layout.parameters),
        "metrics": json.dumps(layout.metrics),
        **meta,
    }
    db.executemany("INSERT INTO meta VALUES (?, ?)", entries.items())
    db.execute("COMMIT")


def _sync_file(path: Path) -> None:
    descriptor = os.open(path, os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sync_folder(path: Path) -> None:
    """Make a new name durable, where the system lets a folder be synchronised."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(descriptor)
    except OSError:
        pass
    finally:
        os.close(descriptor)
