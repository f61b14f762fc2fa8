"""What computes: the ``Machine`` schema, read from one YAML file a machine.

Add a machine = write one YAML file. Put it into ``archsim/hardware/machines/NAME.yaml`` to ship
it, or anywhere and pass its path. The smallest complete example is ``machines/tiny.yaml``; every
field is documented below with its unit. All quantities are SI (bytes, bits, joules, seconds,
watts) except ``technology_nm`` and ``area_mm2``, which say so in their names.

Every number and enumeration has a dotted path, list items addressed by their ``name``::

    >>> from archsim.hardware import load_machine
    >>> machine = load_machine("tiny")
    >>> machine.with_values({"engines.array.slots.buffer.capacity_bytes": 4096}).name
    'tiny'

The same paths are what a scenario's parameters and ``resolve(machine, overrides)`` use.
"""

from __future__ import annotations

import difflib
import functools
import re
from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any

import yaml
from pydantic import Field, model_validator

from archsim.errors import InputError
from archsim.hardware.attention import AttentionEngine
from archsim.hardware.devices import (
    DataflowEngine,
    GpuEngine,
    Group,
    Link,
    Name,
    Part,
    SystolicEngine,
    Tier,
    XpuEngine,
)
from archsim.hardware.dot_product import DotProductEngine
from archsim.hardware.leaves import Leaf, list_leaves, named_field, unknown_path
from archsim.hardware.pim import PimEngine
from archsim.hardware.scaling import MIN_NODE_NM
from archsim.hardware.spatial import (
    DATAFLOWS,
    ROLES,
    Fanout,
    Mac,
    Network,
    Precision,
    SpatialEngine,
    Storage,
    VectorEngine,
    unique,
)
from archsim.inputs import Strict, parse_yaml, read_text, validate

MACHINES = Path(__file__).parent / "machines"

#: Layout area beyond cells and macros (control, clock, routing, placement density, pads), as a
#: fraction of them: geometric mean over the six shipped chips whose area is published (eyeriss,
#: shidiannao, nvdla, tpu_v1, gemmini, simba), which lie between 1.0 and 4.4. Leaving one out and
#: predicting it errs by a factor of 1.5 in the median and 2.2 at most (tests/hardware). The
#: 16 and 28 nm chips lie above the mean: the area table is optimistic for FinFET nodes.
AREA_OVERHEAD = 2.8


#: Kinds of engine; later kinds join this union with their own ``kind`` literal.
Engine = Annotated[
    SpatialEngine
    | VectorEngine
    | XpuEngine
    | PimEngine
    | GpuEngine
    | SystolicEngine
    | DataflowEngine
    | DotProductEngine
    | AttentionEngine,
    Field(discriminator="kind"),
]


class Machine(Strict):
    """Memory tiers, engines and links: one chip, or a cluster of nodes of many.

    Build with :func:`load_machine`; change with :meth:`with_values`. Without ``groups`` there is
    one of everything.
    """

    name: Name
    title: str = Field(max_length=200, description="one line for tables")
    source: str = Field(
        min_length=1, max_length=4000, description="what is published, where, and what is assumed"
    )
    technology_nm: float = Field(
        ge=2, le=130, description="logic node, nm; at least 7 where components are priced"
    )
    clock_hz: float = Field(
        ge=1e3, le=2e10, description="clock of the engines that give none of their own, Hz"
    )
    area_overhead: float = Field(
        default=AREA_OVERHEAD,
        ge=0,
        le=20,
        description="control, clock, routing, pads: fraction added to the area of cells and macros",
    )
    groups: tuple[Group, ...] = Field(
        default=(), max_length=6, description="levels of replication, outer to inner"
    )
    tiers: tuple[Tier, ...] = Field(min_length=1, max_length=64)
    engines: tuple[Engine, ...] = Field(min_length=1, max_length=64)
    links: tuple[Link, ...] = Field(default=(), max_length=256)
    parts: tuple[Part, ...] = Field(
        default=(), max_length=64, description="what is bought: area, power, price, carbon"
    )

    @model_validator(mode="after")
    def _check(self) -> Machine:
        tiers = [tier.name for tier in self.tiers]
        engines = [engine.name for engine in self.engines]
        unique(tiers, "tiers")
        unique(engines, "engines")
        unique([link.name for link in self.links], "links")
        unique([group.name for group in self.groups], "groups")
        unique([part.name for part in self.parts], "parts")
        self._check_groups()
        if self.technology_nm < MIN_NODE_NM and self.prices_components:
            raise InputError(
                f"should be greater than or equal to {MIN_NODE_NM:g}, where the tables of the "
                "engines' components end",
                field="technology_nm",
                found=self.technology_nm,
            )
        for engine in self.engines:
            if engine.backing not in tiers:
                raise InputError(
                    "no such tier",
                    field=f"engines.{engine.name}.backing",
                    found=engine.backing,
                    expected=f"one of {', '.join(tiers)}",
                )
        places = {*tiers, *engines, "host", "peer"}
        for link in self.links:
            for end in link.endpoints or ():
                if end not in places:
                    raise InputError(
                        "no such tier or engine",
                        field=f"links.{link.name}.endpoints",
                        found=end,
                        expected=f"one of {', '.join(sorted(places))}",
                    )
        return self

    def _check_groups(self) -> None:
        """Every group that is named exists."""
        known = [group.name for group in self.groups]
        named = [
            (f"{kind}.{item.name}.{field}", getattr(item, field))
            for kind, field in _GROUPED
            for item in getattr(self, kind)
        ]
        for place, group in named:
            if group is not None and group not in known:
                raise InputError(
                    "no such group",
                    field=place,
                    found=group,
                    expected=f"one of {', '.join(known)}" if known else "a group listed in groups",
                )

    def instances(self, group: str | None = None) -> int:
        """How many of one group there are in the whole machine.

        Args:
            group: Name of a group; None is the innermost, so the number of devices.

        Raises:
            InputError: No such group.
        """
        count = 1
        for level in self.groups:
            count *= level.count
            if level.name == group:
                return count
        if group is not None:
            raise InputError(
                "no such group",
                source=self.name,
                field="groups",
                found=group,
                expected=", ".join(level.name for level in self.groups) or "none: one device",
            )
        return count

    def item(self, kind: str, name: str) -> Any:
        """A tier, engine, link, part or group by name.

        Args:
            kind: ``tiers``, ``engines``, ``links``, ``parts`` or ``groups``.
            name: Its name.

        Raises:
            InputError: There is none of that name.
        """
        items = getattr(self, kind)
        for item in items:
            if item.name == name:
                return item
        raise InputError(
            f"none of the {kind} has this name",
            source=self.name,
            field=kind,
            found=name,
            expected=", ".join(item.name for item in items) or "none",
        )

    @property
    def prices_components(self) -> bool:
        """Whether engines are priced by the component tables, which end at some node."""
        priced = (SpatialEngine, VectorEngine, DotProductEngine, AttentionEngine)
        return any(isinstance(engine, priced) for engine in self.engines)

    def leaves(self) -> Mapping[str, Leaf]:
        """Every number, flag and enumeration by dotted path, in file order (read-only)."""
        return _leaves(self)

    def with_values(self, values: Mapping[str, Any]) -> Machine:
        """A validated copy with some leaves changed.

        Args:
            values: New value by dotted path; list items are addressed by their name.

        Returns:
            The changed machine; ``self`` stays as it is.

        Raises:
            InputError: Unknown path (names near ones), or a value the schema refuses.
        """
        data = self.model_dump(mode="json")
        known = self.leaves()
        for path, value in values.items():
            if path not in known:
                raise unknown_path(path, known, self.name)
            target: Any = data
            *parents, last = path.split(".")
            for part in parents:
                if isinstance(target, list):
                    target = next(item for item in target if item["name"] == part)
                else:
                    target = target[part]
            target[last] = value.item() if hasattr(value, "item") else value
        return _validate(data, self.name)


#: Fields that name a group: (list, field).
_GROUPED = (
    ("tiers", "within"),
    ("engines", "within"),
    ("links", "across"),
    ("parts", "within"),
)


@lru_cache(maxsize=256)
def _leaves(machine: Machine) -> Mapping[str, Leaf]:
    """The leaves, with the limits this machine sets."""
    leaves = dict(list_leaves(machine))
    if machine.prices_components:
        leaves["technology_nm"] = replace(leaves["technology_nm"], minimum=MIN_NODE_NM)
    return MappingProxyType(leaves)


def _validate(data: Any, source: object) -> Machine:
    try:
        return validate(data, Machine, source)
    except InputError as error:
        raise InputError(
            error.message,
            source=source,
            field=named_field(error.field, data),
            found=error.found,
            expected=error.expected,
        ) from None


#: A shipped machine and how many of its devices: ``h100x8``.
_SEVERAL = re.compile(r"([A-Za-z][A-Za-z0-9_-]*?)x([1-9][0-9]{0,6})")


def _multiplied(machine: Machine, devices: int) -> Machine:
    """A machine with that many devices: inner groups are filled before outer ones grow."""
    name = f"{machine.name}x{devices}"
    counts: dict[str, Any] = {}
    rest = devices
    for group in reversed(machine.groups):
        count = min(rest, group.most or rest)
        if rest % count:
            break
        counts[f"groups.{group.name}.count"] = count
        rest //= count
    if not machine.groups or rest > 1:
        most = [f"{group.most} of {group.name}" for group in machine.groups if group.most]
        raise InputError(
            "this machine cannot have that many devices",
            source=machine.name,
            field="machine",
            found=name,
            expected=f"multiples of the full groups ({', '.join(most)})" if most else "no xN",
        )
    grown = machine.with_values(counts)
    return grown.model_copy(update={"name": name, "title": f"{machine.title} x {devices}"})


def available_machines(engine: str | None = None) -> list[str]:
    """Names of the shipped machines, sorted.

    Args:
        engine: Only those with an engine of this kind, e.g. ``spatial`` for those that layers can
            be mapped onto.
    """
    names = list(_shipped_names())
    if engine is None:
        return names
    return [n for n in names if any(e.kind == engine for e in load_machine(n).engines)]


@functools.cache
def _shipped_names() -> tuple[str, ...]:
    return tuple(sorted(path.stem for path in MACHINES.glob("*.yaml")))


@functools.lru_cache(maxsize=64)
def _shipped(name: str) -> Machine:
    """A shipped machine, read once: its file does not change while a program runs."""
    path = MACHINES / f"{name}.yaml"
    return _validate(parse_yaml(read_text(path), path), path)


def load_machine(name_or_path: str | Path) -> Machine:
    """Read a machine.

    Args:
        name_or_path: A shipped name (see :func:`available_machines`), such a name followed by
            ``xN`` for N of its devices (``h100x8``, ``h100x16``), or the path of a YAML file.

    Returns:
        The validated machine.

    Raises:
        InputError: No such machine, unreadable file, or a field that does not fit; the message
            names the file, the field by its dotted path, and the value found.
    """
    path = Path(name_or_path)
    shipped = _shipped_names()
    if str(name_or_path) in shipped:
        return _shipped(str(name_or_path))
    if path.suffix not in (".yaml", ".yml"):
        several = _SEVERAL.fullmatch(str(name_or_path))
        if several and several[1] in shipped:
            return _multiplied(load_machine(several[1]), int(several[2]))
        near = difflib.get_close_matches(str(name_or_path), shipped, n=2)
        raise InputError(
            "no such machine",
            field="machine",
            found=str(name_or_path),
            expected=f"{' or '.join(near)}?" if near else f"one of {', '.join(shipped)}, or a path",
        )
    return _validate(parse_yaml(read_text(path), path), path)


def save_machine(machine: Machine, path: str | Path) -> None:
    """Write a machine as a file that :func:`load_machine` reads back as the same machine.

    Raises:
        InputError: The name does not end in ``.yaml``, or the file cannot be written.
    """
    path = Path(path)
    if path.suffix not in (".yaml", ".yml"):
        raise InputError("not a name of a machine's file", found=str(path), expected="NAME.yaml")
    data = machine.model_dump(mode="json", exclude_defaults=True)
    text = yaml.safe_dump(data, sort_keys=False, allow_unicode=True, width=100)
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise InputError(f"cannot write file: {error.strerror}", source=path) from None


__all__ = [
    "DATAFLOWS",
    "ROLES",
    "AttentionEngine",
    "DataflowEngine",
    "DotProductEngine",
    "Engine",
    "Fanout",
    "GpuEngine",
    "Group",
    "Link",
    "Mac",
    "Machine",
    "Network",
    "Part",
    "Precision",
    "SpatialEngine",
    "Storage",
    "SystolicEngine",
    "Tier",
    "VectorEngine",
    "available_machines",
    "load_machine",
    "save_machine",
]
