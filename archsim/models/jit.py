"""Compilation of the hot loops, with an on-disk cache that knows when any of them changed.

Numba's cache looks at the file of the cached function only; a function it calls may live in
another module and change unnoticed. Here every cached function is stamped with the contents of its
module and of all modules with compiled code that one imports, directly or through others.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import inspect
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

from numba import njit

# Fused multiply-add, and no care for the sign of zero: about a fifth faster. Sums keep their order.
_ROUNDING = {"contract", "nsz"}
_ROOT = Path(__file__).resolve().parent.parent.parent
_COMPILED = ("archsim.models.", "archsim.system.")  # where compiled code lives


def _source(name: str) -> Path | None:
    """File of a module that may hold compiled code, None if the name is another."""
    path = _ROOT.joinpath(*name.split("."))
    if not name.startswith(_COMPILED):
        return None
    return next((p for p in (path.with_suffix(".py"), path / "__init__.py") if p.is_file()), None)


@functools.cache
def _imports(path: Path) -> tuple[Path, ...]:
    """Files of the modules with compiled code that a file imports when it is loaded."""
    names: list[str] = []
    for node in ast.parse(path.read_bytes()).body:
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return tuple(found for found in map(_source, names) if found)


@functools.cache
def _fingerprint(path: Path) -> str:
    """Digest of a file and of every compiled module it depends on."""
    needed, queue = {path}, [path]
    while queue:
        for found in _imports(queue.pop()):
            if found not in needed:
                needed.add(found)
                queue.append(found)
    digest = hashlib.sha256()
    for file in sorted(needed):
        digest.update(file.read_bytes())
    return digest.hexdigest()


def _compile(function: Callable, **options: Any) -> Any:
    dispatcher = njit(cache=True, error_model="numpy", fastmath=_ROUNDING, **options)(function)
    cache_file = getattr(getattr(dispatcher, "_cache", None), "_cache_file", None)
    if hasattr(cache_file, "_source_stamp"):
        cache_file._source_stamp = _fingerprint(Path(inspect.getfile(function)).resolve())
        cache_file._load_index = functools.partial(_load_index, cache_file._load_index)
    return dispatcher


def _load_index(load: Callable[[], dict]) -> dict:
    """What the cache holds; nothing if it was written by sources that have since moved."""
    try:
        return load()
    except (AttributeError, ImportError, pickle.UnpicklingError, EOFError):
        return {}


def inner(function: Callable) -> Any:
    """Compile a function called from compiled loops; it must not allocate.

    Without Numba's memory runtime no references are counted, which makes calls with many array
    arguments several times cheaper.
    """
    return _compile(function, _nrt=False)


def inlined(function: Callable) -> Any:
    """Compile a function into its callers; like :func:`inner`, it must not allocate.

    A call with a dozen array arguments costs as much as most of the work done here; the hot
    functions are therefore joined into one, from sources kept apart. LLVM joins them: Numba's own
    inlining (``inline="always"``) copies every caller's code over and over, and takes minutes.
    """
    return _compile(function, _nrt=False, forceinline=True)


def serial(function: Callable) -> Any:
    """Compile a function that may allocate, whoever calls it."""
    return _compile(function, _nrt=True)


def parallel(function: Callable) -> Any:
    """Compile a batch loop over ``prange``."""
    return _compile(function, parallel=True)
