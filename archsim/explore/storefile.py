"""The file of a store: what makes it ours, its tables, and making one that is never half there."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from archsim.errors import ArchsimError, InputError
from archsim.explore.records import INDEX_PREFIX, Layout

#: Marks the file as ours in the SQLite header (https://www.sqlite.org/fileformat.html, 1.3.14).
APPLICATION_ID = 0x61637331
SCHEMA_VERSION = 1
_HEADER_BYTES = 100
_MAGIC = b"SQLite format 3\x00"


def quote(name: str) -> str:
    """An SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


@contextmanager
def translated(path: Path) -> Iterator[None]:
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


def _write_schema(db: sqlite3.Connection, layout: Layout, meta: Mapping[str, str]) -> None:
    columns = [f"{quote(INDEX_PREFIX + name)} INTEGER NOT NULL" for name in layout.parameters]
    columns += [f"{quote(name)} REAL NOT NULL" for name in layout.metrics]
    db.execute(f"PRAGMA application_id={APPLICATION_ID}")
    db.execute(f"PRAGMA user_version={SCHEMA_VERSION}")
    db.execute("BEGIN")
    db.execute("CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID")
    db.execute(
        "CREATE TABLE runs (id INTEGER PRIMARY KEY, agent TEXT NOT NULL, options TEXT NOT NULL, "
        "seed INTEGER NOT NULL, budget INTEGER NOT NULL, phase TEXT NOT NULL, "
        "status TEXT NOT NULL, error TEXT, source TEXT, "
        "UNIQUE (agent, options, seed, budget, phase))"
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


def make_file(path: Path, layout: Layout, meta: Mapping[str, str]) -> None:
    """Make an empty store that appears under its name only when it is complete.

    Raises:
        InputError: There is already a file of this name.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(path.name + ".new")
    draft.unlink(missing_ok=True)
    with translated(path):
        db = sqlite3.connect(draft, isolation_level=None)
        _write_schema(db, layout, meta)
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
