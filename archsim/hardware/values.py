"""Leaf values of a machine for B designs: overrides, defaults, and what is wrong with them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from archsim.errors import InputError
from archsim.hardware.leaves import HasLeaves, Leaf, unknown_path
from archsim.hardware.scaling import Process
from archsim.hardware.table import Floats


@lru_cache(maxsize=64)
def _base_arrays(machine: HasLeaves) -> dict[str, NDArray[Any]]:
    """Every leaf of a machine as an array of length 1; enums as indices, absent values as NaN."""
    arrays: dict[str, NDArray[Any]] = {}
    for path, leaf in machine.leaves().items():
        if leaf.kind == "enum":
            arrays[path] = np.array([leaf.choices.index(leaf.value)])  # type: ignore[arg-type]
        else:
            arrays[path] = np.array([np.nan if leaf.value is None else float(leaf.value)])
        arrays[path].setflags(write=False)
    return arrays


@lru_cache(maxsize=64)
def _base_parts(
    machine: HasLeaves, engine: str
) -> dict[str, tuple[dict[str, Floats], tuple[str, ...]]]:
    """Parts of a machine as its file says, filled as needed: figures, and what is wrong there."""
    return {}


class Values:
    """Leaf values of B designs by dotted path; collects what is wrong with them.

    Args:
        machine: The base machine.
        engine: Name of the spatial engine that is resolved; empty for none.
        overrides: Values by dotted path.
    """

    def __init__(self, machine: HasLeaves, engine: str, overrides: Mapping[str, ArrayLike]) -> None:
        self.leaves = machine.leaves()
        self._base = _base_arrays(machine)
        self._parts = _base_parts(machine, engine)
        self.problems: dict[str, NDArray[np.bool_]] = {}
        self.designs = 1
        self._arrays: dict[str, NDArray[Any]] = {}
        self._process: Process | None = None
        for path, given in overrides.items():
            leaf = self.leaves.get(path)
            if leaf is None:
                raise unknown_path(path, self.leaves, machine.name)
            if leaf.structural:
                raise InputError(
                    "is the same for all designs of a batch; use Machine.with_values",
                    source=machine.name,
                    field=path,
                )
            self._arrays[path] = self._override(leaf, np.atleast_1d(np.asarray(given)))

    def _override(self, leaf: Leaf, values: NDArray[Any]) -> NDArray[Any]:
        if values.ndim != 1 or len(values) == 0:
            raise InputError(
                "an override must be a scalar or a 1-d array", field=leaf.path, found=values.shape
            )
        if len(values) > 1 and self.designs not in (1, len(values)):
            raise InputError(
                f"overrides differ in length ({self.designs} and {len(values)})", field=leaf.path
            )
        self.designs = max(self.designs, len(values))
        if leaf.kind == "enum":
            return _codes(leaf, values)
        if values.dtype.kind not in "biuf":
            raise InputError("must be a number", field=leaf.path, found=values.flat[0])
        return self._bounded(leaf, values.astype(np.float64))

    def _bounded(self, leaf: Leaf, numbers: Floats) -> Floats:
        """Bring numbers into the schema's range and note which designs needed it."""
        low = -np.inf if leaf.minimum is None else leaf.minimum
        high = np.inf if leaf.maximum is None else leaf.maximum
        if leaf.kind == "flag":
            low, high = 0.0, 1.0
        absent = np.isnan(numbers) if leaf.optional else np.zeros(len(numbers), dtype=bool)
        legal = absent | ((numbers >= low) & (numbers <= high))
        if leaf.kind in ("integer", "flag"):
            legal &= absent | (numbers == np.rint(numbers))
        if legal.all():
            return numbers
        self.problems[f"{leaf.path} must be {_range_text(leaf, low, high)}"] = ~legal
        fallback = low if leaf.value is None else float(leaf.value)
        clipped = np.clip(np.where(np.isnan(numbers), fallback, numbers), low, high)
        if leaf.kind in ("integer", "flag"):
            clipped = np.rint(clipped)
        return np.where(absent, np.nan, clipped)

    def __call__(self, path: str) -> NDArray[Any]:
        """Numbers, or codes of an enum (index into its choices); NaN where absent."""
        array = self._arrays.get(path)
        return self._base[path] if array is None else array

    @property
    def node(self) -> Process:
        """The technology nodes."""
        if self._process is None:
            self._process = Process(self("technology_nm"))
        return self._process

    def or_else(self, path: str, default: ArrayLike) -> Floats:
        """The value at a path, or a default where it is absent."""
        given = self._arrays.get(path)
        if given is None:
            return default if self.leaves[path].value is None else self._base[path]  # type: ignore
        absent = np.isnan(given)
        if not absent.any():
            return given
        return np.where(absent, default, given)

    def part(
        self, path: str, shared: tuple[str, ...], compute: Callable[[], dict[str, Floats]]
    ) -> dict[str, Floats]:
        """A part's figures: computed, or remembered where nothing they depend on is overridden.

        Args:
            path: Prefix of the part's own leaves; also its key.
            shared: Prefixes of the other leaves it depends on.
            compute: Makes the figures, and may flag problems.
        """
        if any(name.startswith((path, *shared)) for name in self._arrays):
            return compute()
        if path not in self._parts:
            before = set(self.problems)
            made = compute()
            self._parts[path] = made, tuple(r for r in self.problems if r not in before)
        made, reasons = self._parts[path]
        for reason in reasons:
            self.problems[reason] = np.ones(1, dtype=bool)
        return dict(made)

    def flag(self, reason: str, mask: NDArray[np.bool_]) -> None:
        """Note a problem, if any design has it."""
        if mask.any():
            self.problems[reason] = mask


def _range_text(leaf: Leaf, low: float, high: float) -> str:
    kind = "an integer" if leaf.kind == "integer" else "a number"
    return "0 or 1" if leaf.kind == "flag" else f"{kind} in [{low:g}, {high:g}]"


def _codes(leaf: Leaf, values: NDArray[Any]) -> NDArray[np.int64]:
    """Strings to indices into the leaf's choices."""
    codes = np.full(len(values), -1, dtype=np.int64)
    for code, choice in enumerate(leaf.choices):
        codes[values == choice] = code
        if (codes >= 0).all():
            return codes
    raise InputError(
        "no such choice",
        field=leaf.path,
        found=str(values[int(np.argmin(codes))]),
        expected=f"one of {', '.join(leaf.choices)}",
    )
