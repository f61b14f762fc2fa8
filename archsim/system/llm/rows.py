"""Plans of many rows as arrays, and what of them no machine or model allows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from archsim.errors import InputError
from archsim.hardware import Machine, NodeTable
from archsim.system.llm.plan import DEGREES, PLACED, Plan, written
from archsim.workload.architecture import Architecture

Floats = NDArray[np.float64]
#: Columns of a batch of plans, with the value where none is given.
DEFAULTS: dict[str, Any] = {f.name: f.default for f in fields(Plan)}


#: What plans may have too much of.
DEVICES = "more devices than the machine has"
STAGES = "more stages than layers"
EXPERTS = "experts over no divisor of tensor x data"


#: What is not known of every engine: by field, in words, and the kinds that know it.
_GPUS, _DATAFLOW = {"gpu": "GPUs"}, {"dataflow": "dataflow engines"}
KNOWN: dict[str, tuple[str, dict[str, str]]] = {
    "eager": ("eager execution is", _GPUS),
    "unfused": ("unfused kernels are", _DATAFLOW | _GPUS),
    "software": ("software kernels are", _DATAFLOW),
    "staged": ("messages staged in host memory are", _GPUS),
}


def _kind(name: str) -> type:
    """Of the values of a column; where a tensor lies is a tier's name, empty for the usual one."""
    default = DEFAULTS[name]
    return bool if isinstance(default, bool) else str if default is None else float


@dataclass(frozen=True, eq=False)
class Plans:
    """One plan a row, or one for all.

    Attributes:
        columns: By field of ``Plan``: float64, bool, or names of tiers (empty for none), each [B]
            or [1].

    Example:
        >>> plans = Plans.of({"tensor": [4, 8], "weights": "host_dram"})
        >>> plans.devices.tolist(), plans.text(1)
        ([4.0, 8.0], 'tp8+weights=host_dram')
    """

    columns: Mapping[str, NDArray[Any]]

    @classmethod
    def of(cls, given: Any) -> Plans:
        """From plans: one, several, their texts, or columns by field of ``Plan``.

        Raises:
            InputError: A text is no plan, or there is no such field.
        """
        if isinstance(given, Plans):
            return given
        if isinstance(given, Mapping):
            return cls._of_columns(given)
        listed: Iterable[Any] = [given] if isinstance(given, (Plan, str)) else given
        plans = [Plan.parse(p) if isinstance(p, str) else p for p in listed]
        values = {name: [getattr(plan, name) for plan in plans] for name in DEFAULTS}
        return cls._of_columns({n: ["" if v is None else v for v in c] for n, c in values.items()})

    @classmethod
    def _of_columns(cls, given: Mapping[str, ArrayLike | Sequence[str]]) -> Plans:
        for name in given:
            if name not in DEFAULTS:
                raise InputError(
                    "a plan has no such field", field="plan", found=name,
                    expected=", ".join(DEFAULTS),
                )  # fmt: skip
        columns: dict[str, NDArray[Any]] = {}
        for name, default in DEFAULTS.items():
            value = given.get(name, default)
            columns[name] = np.atleast_1d(np.asarray("" if value is None else value, _kind(name)))
        for name in DEGREES.values():
            _refuse(name, columns[name], _whole(columns[name]), "a positive whole number")
        for name in (f"{role}_share" for role in PLACED):
            column = columns[name]
            _refuse(name, column, (column >= 0) & (column <= 1), "a share from 0 to 1")
        return cls(columns)

    def __getitem__(self, name: str) -> NDArray[Any]:
        return self.columns[name]

    def __len__(self) -> int:
        return max(len(column) for column in self.columns.values())

    @property
    def group(self) -> Floats:
        """Devices of one stage."""
        return self["tensor"] * self["data"]

    @property
    def devices(self) -> Floats:
        """Devices that take part."""
        return self.group * self["pipeline"]

    def rows(self, some: slice, count: int) -> Plans:
        """Some of ``count`` rows."""
        return Plans({n: c[some] if len(c) == count else c for n, c in self.columns.items()})

    def spread(self, count: int) -> Plans:
        """With every column of ``count`` rows."""
        return Plans({n: np.broadcast_to(c, (count,)) for n, c in self.columns.items()})

    @staticmethod
    def joined(parts: Sequence[Plans]) -> Plans:
        """Batches one after the other; all columns must be spread."""
        return Plans({n: np.concatenate([p[n] for p in parts]) for n in DEFAULTS})

    def text(self, row: int = 0) -> str:
        """The plan of one row, as ``Plan.parse`` reads it."""
        return written({n: c[row if len(c) > 1 else 0] for n, c in self.columns.items()})


def _whole(values: Floats) -> NDArray[np.bool_]:
    return np.isfinite(values) & (values >= 1) & (values == np.rint(values)) & (values < 1 << 20)


def _refuse(name: str, values: Floats, good: NDArray[np.bool_], what: str) -> None:
    if not good.all():
        raise InputError(f"must be {what}", field=f"plan.{name}", found=values[~good][0])


def excesses(
    plans: Plans, machine: Machine, node: NodeTable, arch: Architecture
) -> dict[str, Floats]:
    """By what plans go beyond what there is: 0 where they keep it, else larger the worse.

    Returns:
        float64 by reason; logarithms of asked over had, or shares.
    """
    group, expert = plans.group, plans["expert"]
    counts = (group.astype(np.int64), expert.astype(np.int64))
    return {
        DEVICES: np.log(np.maximum(plans.devices / node.devices, 1.0)),
        STAGES: np.log(np.maximum(plans["pipeline"] / len(arch.layers), 1.0)),
        EXPERTS: 1.0 - np.gcd(*counts) / expert,
    } | {why: wrong.astype(float) for why, wrong in node.problems.items()}


def check(plans: Plans, machine: Machine, node: NodeTable, arch: Architecture, model: str) -> None:
    """Refuse plans that cannot be.

    Raises:
        InputError: A plan needs more devices than there are, cuts what cannot be cut, or names a
            tier that does not exist.
    """
    for role in PLACED:
        for name in set(plans[role].tolist()) - {""}:
            machine.item("tiers", name)
    kind = machine.engines[0].kind
    for name, (what, engines) in KNOWN.items():
        if plans[name].any() and kind not in engines:
            raise InputError(
                f"{what} known of {' and '.join(engines.values())} only", source=machine.name,
                field="plan", found=plans.text(int(np.argmax(plans[name]))),
            )  # fmt: skip
    for why, amount in excesses(plans, machine, node, arch).items():
        if not (amount > 0).any():
            continue
        row, most = int(np.argmax(amount > 0)), None
        if why == DEVICES:
            most = node.devices[row if node.designs > 1 else 0]
        elif why == STAGES:
            most = len(arch.layers)
        raise InputError(
            f"the plan has {why}", source=model if why == STAGES else machine.name, field="plan",
            found=plans.text(row), expected=None if most is None else f"at most {most:.0f}",
        )  # fmt: skip
