"""Compilation of the hot loops, with an on-disk cache that knows when any of them changed.

Numba's cache looks at the file of the cached function only; a function it calls may live in
another module and change unnoticed. Here every cached function is stamped with the contents of all
modules that hold compiled code.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from numba import njit

# Fused multiply-add, and no care for the sign of zero: about a fifth faster. Sums keep their order.
_ROUNDING = {"contract", "nsz"}
_PACKAGE = Path(__file__).resolve().parent.parent


@functools.cache
def _fingerprint() -> str:
    digest = hashlib.sha256()
    for folder in ("models", "system"):
        for path in sorted((_PACKAGE / folder).rglob("*.py")):
            digest.update(path.read_bytes())
    return digest.hexdigest()


def _compile(function: Callable, **options: Any) -> Any:
    dispatcher = njit(cache=True, error_model="numpy", fastmath=_ROUNDING, **options)(function)
    cache_file = getattr(getattr(dispatcher, "_cache", None), "_cache_file", None)
    if hasattr(cache_file, "_source_stamp"):
        cache_file._source_stamp = _fingerprint()
    return dispatcher


def inner(function: Callable) -> Any:
    """Compile a function called from compiled loops; it must not allocate.

    Without Numba's memory runtime no references are counted, which makes calls with many array
    arguments several times cheaper.
    """
    return _compile(function, _nrt=False)


def inlined(function: Callable) -> Any:
    """Compile a function into its callers, which must be compiled by :func:`inner`.

    A call with a dozen array arguments costs hundreds of nanoseconds, more than most of the work
    done here; the hot functions are therefore joined into one, from sources kept apart.
    """
    return _compile(function, _nrt=False, inline="always")


def serial(function: Callable) -> Any:
    """Compile a function that may allocate."""
    return _compile(function)


def parallel(function: Callable) -> Any:
    """Compile a batch loop over ``prange``."""
    return _compile(function, parallel=True)
