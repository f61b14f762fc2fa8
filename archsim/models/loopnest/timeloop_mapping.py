"""Timeloop mapping directives on the slots of a nest: two slots a level, temporal and spatial."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from archsim.errors import InputError
from archsim.models.loopnest.timeloop_inputs import (
    TimeloopArchitecture,
    maybe,
    read_factors,
    read_permutation,
)
from archsim.workload.graph import Einsum

_BYPASSES = ("bypass", "datatype", "dataspace")


def apply_directives(
    directives: Sequence[Any],
    machine: TimeloopArchitecture,
    spaces: tuple[str, ...],
    einsum: Einsum,
    factors: np.ndarray,
    order: np.ndarray,
    keep: np.ndarray,
    source: object,
) -> None:
    """Write directives into ``factors``, ``order`` and ``keep`` of the nest (in place).

    Raises:
        InputError: A target, data space or dimension is unknown, factors do not cover a dimension,
            or more units are used than there are.
    """
    dims = tuple(name for name, _ in einsum.dims)
    last = factors.copy()
    names = {}
    for i, level in enumerate(machine.levels):
        for name in (*level.aliases, level.name):
            names[name] = i
    for directive in directives:
        target = directive.get("target") if isinstance(directive, dict) else None
        target = target if isinstance(target, str) else None
        if target not in names:
            raise InputError(
                "unknown mapping target", source=source, field="mapping.target",
                found=target if isinstance(directive, dict) else directive,
                expected=", ".join(level.name for level in machine.levels),
            )  # fmt: skip
        i, kind = names[target], directive.get("type")
        if kind in _BYPASSES:
            for word, value in (("keep", True), ("bypass", False)):
                for space in maybe(directive, word, list, source):
                    if space not in spaces:
                        raise InputError(
                            "no such data space", source=source, field=f"mapping.{target}.{word}",
                            found=space, expected=", ".join(spaces),
                        )  # fmt: skip
                    if machine.levels[i].storage:
                        keep[2 * i, spaces.index(space)] = value
        elif kind in ("temporal", "spatial"):
            slot = 2 * i + (kind == "spatial")
            for name, bound, end in read_factors(directive.get("factors"), source):
                if name not in dims:
                    raise InputError(
                        "no such dimension", source=source, field=f"mapping.{target}", found=name,
                        expected=", ".join(dims),
                    )  # fmt: skip
                factors[slot, dims.index(name)], last[slot, dims.index(name)] = bound, end
            inner = read_permutation(directive.get("permutation"), dims, source)
            listed = [dims.index(name) for name in reversed(inner)]
            order[slot] = [d for d in range(len(dims)) if d not in listed] + listed
        else:
            raise InputError(
                "unknown mapping directive", source=source, field=f"mapping.{target}.type",
                found=kind, expected="temporal, spatial, " + ", ".join(_BYPASSES),
            )  # fmt: skip
    keep[0] = True
    _cover(einsum, factors, last, source)
    _check_units(machine, factors, source)


def _cover(einsum: Einsum, factors: np.ndarray, last: np.ndarray, source: object) -> None:
    """Resolve bounds of 0, and see that bounds and last bounds give the extents."""
    for d, (name, extent) in enumerate(einsum.dims):
        open_slots = np.flatnonzero(factors[:, d] == 0)
        if len(open_slots) > 1:
            raise InputError("two bounds of 0", source=source, field=f"mapping.{name}")
        for slot in open_slots:  # Timeloop: 0 takes what is left
            rest = int(np.prod(factors[factors[:, d] > 0, d]))
            factors[slot, d] = -(-extent // rest)
            last[slot, d] = factors[slot, d]
        product = int(np.prod(factors[:, d]))
        if product < extent:
            raise InputError(
                "factors do not cover the dimension", source=source, field=f"mapping.{name}",
                found=product, expected=f"at least {extent}",
            )  # fmt: skip
        if (last[:, d] != factors[:, d]).any():
            ends = last_bounds(factors[:, d], extent)
            if ends != last[:, d].tolist():
                raise InputError(
                    "the last bounds do not give the extent", source=source,
                    field=f"mapping.{name}", found=last[:, d].tolist(), expected=str(ends),
                )  # fmt: skip


def last_bounds(bounds: Sequence[int] | np.ndarray, extent: int) -> list[int]:
    """Bounds of the last pass of every loop of one dimension, outer to inner.

    Example:
        16 in tiles of 6: three tiles, the last of 4.

        >>> last_bounds([3, 6], 16)
        [3, 4]
    """
    inside = [int(np.prod(bounds[i + 1 :], dtype=np.int64)) for i in range(len(bounds))]
    ends, left = [], extent
    for tile in inside:
        ends.append(-(-left // tile))
        left -= (ends[-1] - 1) * tile
    return ends


def _check_units(machine: TimeloopArchitecture, factors: np.ndarray, source: object) -> None:
    """Refuse more units in use than there are inside any level."""
    used = 1
    levels = [*((level.name, level.instances) for level in machine.levels[1:])]
    for i, (name, instances) in enumerate([*levels, (machine.arithmetic, machine.units)]):
        used *= int(np.prod(factors[2 * i + 1]))
        if used > instances:
            raise InputError(
                "the mapping uses more instances than there are", source=source,
                field=f"mapping, outside {name}", found=used, expected=f"at most {instances}",
            )  # fmt: skip
