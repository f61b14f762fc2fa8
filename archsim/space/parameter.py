"""One dimension of a design space: a name, a finite ordered set of values, and a role."""

from __future__ import annotations

import keyword
import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np

from archsim.errors import InputError

Role = Literal[
    "compute", "memory", "interconnect", "mapping", "controller", "technology", "parallelism"
]
#: What a parameter decides about; multi-agent environments are derived from it.
ROLES: tuple[str, ...] = (
    "compute",
    "memory",
    "interconnect",
    "mapping",
    "controller",
    "technology",
    "parallelism",
)
#: Most values one parameter may have: the cells of a float32 box action in [-1, 1] stay distinct.
MAX_VALUES = 2**20
#: Names constraint expressions use for functions.
FUNCTIONS = ("min", "max", "abs")

Value = int | float | str | bool


@dataclass(frozen=True)
class Parameter:
    """A named dimension with finitely many values.

    Continuous ranges are quantised to a stated grid (:meth:`continuous`), so that every design has
    a key and every agent reaches the same set.

    Attributes:
        name: Identifier, used in constraints and reports.
        values: The values, at least one, all numbers or all strings or all booleans; strictly
            increasing where ``ordered`` numbers.
        path: Dotted path(s) of the machine field(s) it sets; empty if it sets none.
        role: One of :data:`ROLES`.
        ordered: Whether neighbouring values are near in meaning. Default: numbers yes, strings no.
        log: Whether the values are spread geometrically (a hint for searchers and plots).
        scale: The machine gets ``value * scale`` (numbers only), e.g. 1024 for KiB.

    Raises:
        InputError: A field is not as above.

    Example:
        >>> Parameter("rows", (4, 8, 16), path="engines.array.slots.rows.fanout").cardinality
        3
    """

    name: str
    values: tuple[Value, ...]
    path: str | tuple[str, ...] = ""
    role: Role = "compute"
    ordered: bool | None = None
    log: bool = False
    scale: float = 1

    def __post_init__(self) -> None:
        if (
            not isinstance(self.name, str)
            or not self.name.isidentifier()
            or keyword.iskeyword(self.name)
            or self.name in FUNCTIONS
        ):
            raise InputError(
                "a parameter needs a plain identifier as name", field="name", found=self.name
            )
        object.__setattr__(self, "values", tuple(self.values))
        self._check_values()
        if self.role not in ROLES:
            raise InputError(
                "unknown role", field=self.name, found=self.role, expected=", ".join(ROLES)
            )
        if self.ordered is None:
            object.__setattr__(self, "ordered", self.kind == "number")
        if self.ordered and self.kind == "number":
            pairs = zip(self.values, self.values[1:], strict=False)
            if any(not low < high for low, high in pairs):  # type: ignore[operator]
                raise InputError(
                    "ordered values must increase strictly", field=self.name, found=self.values
                )
        if self.log and (self.kind != "number" or min(self.values) <= 0):  # type: ignore[operator]
            raise InputError("log needs positive numbers", field=self.name, found=self.values)
        if not (math.isfinite(self.scale) and self.scale > 0):
            raise InputError("scale must be positive", field=self.name, found=self.scale)
        if self.scale != 1 and self.kind != "number":
            raise InputError("only numbers can be scaled", field=self.name, found=self.scale)

    def _check_values(self) -> None:
        if not 1 <= len(self.values) <= MAX_VALUES:
            raise InputError(
                "wrong number of values",
                field=self.name,
                found=len(self.values),
                expected=f"1 to {MAX_VALUES}",
            )
        kinds = {_kind(value) for value in self.values}
        if len(kinds) != 1 or None in kinds:
            raise InputError(
                "values must be all numbers, all strings or all booleans",
                field=self.name,
                found=self.values,
            )
        for value in self.values:
            if isinstance(value, (int, float)) and not abs(value) < 2.0**1000:
                raise InputError("values must be finite", field=self.name, found=value)
        if len(set(self.values)) != len(self.values):
            raise InputError("a value is listed twice", field=self.name, found=self.values)

    @classmethod
    def integer(cls, name: str, low: int, high: int, step: int = 1, **fields: object) -> Parameter:
        """An integer range from ``low`` in steps, up to ``high`` included.

        Example:
            >>> Parameter.integer("lanes", 2, 9, 3).values
            (2, 5, 8)
        """
        if step < 1 or high < low or (high - low) // step >= MAX_VALUES:
            raise InputError(
                f"an integer range needs low <= high, step >= 1 and at most {MAX_VALUES} values",
                field=name,
                found=(low, high, step),
            )
        return cls(name, tuple(range(low, high + 1, step)), **fields)  # type: ignore[arg-type]

    @classmethod
    def continuous(
        cls, name: str, low: float, high: float, points: int, log: bool = False, **fields: object
    ) -> Parameter:
        """A real range, quantised to ``points`` values evenly (``log``: geometrically) spread.

        Example:
            >>> Parameter.continuous("clock_mhz", 100, 1600, 5, log=True).values
            (100.0, 200.0, 400.0, 800.0, 1600.0)
        """
        if not 2 <= points <= MAX_VALUES or not low < high or (log and low <= 0):
            raise InputError(
                f"a real range needs low < high (positive if log) and 2 to {MAX_VALUES} points",
                field=name,
                found=(low, high, points),
            )
        grid = np.geomspace(low, high, points) if log else np.linspace(low, high, points)
        # 15 digits: the values survive being written to a file and read again
        values = tuple(float(f"{value:.15g}") for value in grid)
        return cls(name, values, log=log, **fields)  # type: ignore[arg-type]

    @property
    def cardinality(self) -> int:
        """Number of values."""
        return len(self.values)

    @property
    def kind(self) -> str:
        """``number``, ``string`` or ``boolean``."""
        return _kind(self.values[0]) or ""

    @property
    def paths(self) -> tuple[str, ...]:
        """Every machine field it sets."""
        if isinstance(self.path, str):
            return (self.path,) if self.path else ()
        return tuple(self.path)

    @cached_property
    def table(self) -> np.ndarray:
        """The values as an array (int64, float64, bool or fixed-width str), read-only."""
        return _readonly(self.values)

    @cached_property
    def machine_table(self) -> np.ndarray:
        """What the machine gets for each value: ``value * scale``."""
        if self.scale == 1:
            return self.table
        return _readonly(self.machine_value(index) for index in range(self.cardinality))

    def machine_value(self, index: int) -> Value:
        """What the machine gets for the value at ``index`` (plain Python, integral stays int)."""
        value = self.values[index]
        if self.scale == 1 or isinstance(value, str):
            return value
        scaled = value * self.scale
        if isinstance(value, int) and float(scaled).is_integer():
            return int(scaled)
        return float(scaled)

    @cached_property
    def _positions(self) -> dict[Value, int]:
        return {value: index for index, value in enumerate(self.values)}

    def index_of(self, value: object) -> int:
        """Position of a value.

        Raises:
            InputError: It is none of the values.
        """
        value = value.item() if isinstance(value, np.generic) else value
        try:
            return self._positions[value]  # type: ignore[index]
        except (KeyError, TypeError):
            shown = ", ".join(str(v) for v in self.values[:12])
            more = ", ..." if self.cardinality > 12 else ""
            raise InputError(
                "no such value of this parameter",
                field=self.name,
                found=value,
                expected=f"one of {shown}{more}",
            ) from None


def _kind(value: object) -> str | None:
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, (int, float)):
        return "number"
    return "string" if isinstance(value, str) else None


def _readonly(values: Iterable[Value]) -> np.ndarray:
    array = np.array(tuple(values))
    if array.dtype == object or array.dtype.kind == "u":  # integers beyond int64
        array = array.astype(np.float64)
    array.setflags(write=False)
    return array
