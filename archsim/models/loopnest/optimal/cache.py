"""Proven solutions, kept for the next call: in this process, and on disk.

The key is a digest of everything the answer depends on: the packed problem, every figure of the
engine, the structure of its slots, the objective, the constraints, and the sources of the kernel
and of the mapper. Files live in ``$ARCHSIM_CACHE/mappings`` (default ``$XDG_CACHE_HOME/archsim`` or
``~/.cache/archsim``); set ``ARCHSIM_CACHE=off`` to keep none. A stored mapping is judged by the
kernel again when it is read, so a damaged file cannot give a wrong figure.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from archsim.models.loopnest.optimal.space import Mapspace

_memory: dict[str, dict[str, Any]] = {}
HERE = Path(__file__).resolve().parent


@functools.cache
def _sources() -> str:
    digest = hashlib.sha256()
    for path in [*sorted(HERE.glob("*.py")), *sorted(HERE.parent.glob("*.py"))]:
        digest.update(path.read_bytes())
    return digest.hexdigest()


def key_of(space: Mapspace, objective: tuple) -> str:
    """Digest of all that a solution depends on."""
    nest, row = space.nest, space.row
    digest = hashlib.sha256(_sources().encode())
    arrays = [
        space.problem.floats, space.problem.ints, nest.fanout, nest.keep, nest.width[row],
        nest.slot_table[row], nest.engine[row],
    ]  # fmt: skip
    for array in arrays:
        digest.update(str(array.shape).encode() + np.ascontiguousarray(array).tobytes())
    words = [space.problem.dims, nest.names, objective, space.constraints.model_dump_json()]
    digest.update(json.dumps(words).encode())
    return digest.hexdigest()


def folder() -> Path | None:
    """Where files go; None if none are kept."""
    root = os.environ.get("ARCHSIM_CACHE")
    if root == "off":
        return None
    if root:
        return Path(root) / "mappings"
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "archsim" / "mappings"


def read(key: str) -> tuple[dict[str, Any], str] | None:
    """A stored solution and where it was: ``memory`` or ``disk``."""
    if key in _memory:
        return _memory[key], "memory"
    place = folder()
    if place is None:
        return None
    try:
        data = json.loads((place / f"{key}.json").read_text())
        if not isinstance(data, dict):
            return None
    except (OSError, ValueError):
        return None
    _memory[key] = data
    return data, "disk"


def write(key: str, data: dict[str, Any]) -> None:
    """Store a solution; a disk that cannot be written is no error."""
    _memory[key] = data
    place = folder()
    if place is None:
        return
    try:
        place.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=place, delete=False, suffix=".tmp") as file:
            json.dump(data, file)
        os.replace(file.name, place / f"{key}.json")
    except OSError:
        return


def forget() -> None:
    """Empty the memory (files stay)."""
    _memory.clear()
