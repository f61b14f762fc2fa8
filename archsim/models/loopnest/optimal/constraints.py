"""Limits a user sets to the mapspace, read from YAML.

Example::

    slots:
      - {slot: dram, order: [M, C, P, Q, R, S]}  # outer to inner; others outermost
      - {slot: columns, dims: [M, C], min_use: 0.5}
      - {slot: rows, factors: {C: 16}}
      - {slot: glb, bypass: [input]}
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from archsim.errors import InputError
from archsim.inputs import Strict, load_yaml

Operand = Literal["input", "weight", "output"]


class SlotLimits(Strict):
    """What is fixed about one slot."""

    slot: str = Field(min_length=1, max_length=80, description="name of a slot or the tier")
    order: tuple[str, ...] | None = Field(
        default=None, description="loop order, outer to inner; dimensions left out are outermost"
    )
    factors: dict[str, Annotated[int, Field(ge=1)]] = Field(
        default={}, description="fixed loop bounds by dimension"
    )
    dims: tuple[str, ...] | None = Field(
        default=None, description="dimensions that may have loops here; default all"
    )
    keep: tuple[Operand, ...] = Field(default=(), description="operands that must be kept here")
    bypass: tuple[Operand, ...] = Field(default=(), description="operands not kept here")
    max_use: int | None = Field(default=None, ge=1, description="most children of a fanout in use")
    min_use: float = Field(default=0.0, ge=0, le=1, description="least share of a fanout in use")


class Constraints(Strict):
    """Limits of the mapspace; the default is none."""

    slots: tuple[SlotLimits, ...] = Field(default=(), max_length=64)

    def of(self, slot: str) -> SlotLimits | None:
        """The limits of a slot."""
        return next((limits for limits in self.slots if limits.slot == slot), None)

    def check(self, names: tuple[str, ...], spatial, may_keep, dims: set[str]) -> None:
        """Raise InputError where the limits do not fit the machine or the operation.

        Args:
            names: Slot names; ``spatial`` bool[S]; ``may_keep`` bool[S, 3].
            dims: All dimension names of the operation.
        """
        for i, limits in enumerate(self.slots):
            where = f"slots.{i}"
            if limits.slot not in names:
                raise InputError(
                    "no such slot", field=f"{where}.slot", found=limits.slot,
                    expected=f"one of {', '.join(names)}",
                )  # fmt: skip
            if [x.slot for x in self.slots].count(limits.slot) > 1:
                raise InputError("slot listed twice", field=f"{where}.slot", found=limits.slot)
            for key in ("order", "factors", "dims"):
                used = getattr(limits, key) or ()
                twice = [name for name, times in Counter(list(used)).items() if times > 1]
                if twice:
                    raise InputError("named twice", field=f"{where}.{key}", found=twice[0])
                for name in used:
                    if name not in dims:
                        raise InputError(
                            "no such dimension", field=f"{where}.{key}", found=name,
                            expected=f"one of {', '.join(sorted(dims))}",
                        )  # fmt: skip
            s = names.index(limits.slot)
            self._check_kind(limits, where, bool(spatial[s]), may_keep[s], s == 0)

    def _check_kind(self, limits: SlotLimits, where: str, fanout: bool, may_keep, tier) -> None:
        banned = ("order", "keep", "bypass") if fanout else ("max_use", "min_use")
        for key in banned:
            if getattr(limits, key) not in (None, (), 0.0):
                kind = "a fanout" if fanout else "a storage"
                raise InputError(f"{kind} has no {key}", field=f"{where}.{key}")
        for t, operand in enumerate(("input", "weight", "output")):
            if operand in limits.keep and operand in limits.bypass:
                raise InputError("both kept and bypassed", field=where, found=operand)
            if operand in limits.keep and not fanout and not may_keep[t]:
                raise InputError("the slot cannot hold it", field=f"{where}.keep", found=operand)
            if operand in limits.bypass and tier:
                raise InputError("the tier holds all operands", field=f"{where}.bypass")


def load_constraints(path: str | Path) -> Constraints:
    """Read limits from a YAML file.

    Raises:
        InputError: The file cannot be read or does not fit; names file and field.
    """
    return load_yaml(path, Constraints)


__all__ = ["Constraints", "SlotLimits", "load_constraints"]
