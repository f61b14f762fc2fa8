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
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, StringConstraints, Tag, model_validator

from archsim.errors import InputError
from archsim.hardware.leaves import Leaf, list_leaves, named_field, unknown_path
from archsim.hardware.tiers import LINK_KINDS, TIER_KINDS
from archsim.inputs import Strict, parse_yaml, read_text, validate

#: Order is part of the interface: ``EngineTable.dataflow`` holds indices into this tuple.
DATAFLOWS = (
    "weight_stationary",
    "output_stationary",
    "input_stationary",
    "row_stationary",
    "nvdla",
    "shidiannao",
)
Dataflow = Literal[
    "weight_stationary",
    "output_stationary",
    "input_stationary",
    "row_stationary",
    "nvdla",
    "shidiannao",
]
#: Operand roles of an einsum, in the column order of ``EngineTable.keeps`` and ``bits``.
ROLES = ("input", "weight", "output")
Role = Literal["input", "weight", "output"]
#: Keys of ``EngineTable.area_mm2`` that are no slot, so no slot may bear them.
RESERVED_NAMES = ("mac", "simd", "network", "dram_phy", "overhead")

Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z][A-Za-z0-9_-]{0,39}$")]
TierKind = Literal[TIER_KINDS]  # type: ignore[valid-type]
LinkKind = Literal[LINK_KINDS]  # type: ignore[valid-type]

MACHINES = Path(__file__).parent / "machines"

#: Layout area beyond cells and macros (control, clock, routing, placement density, pads), as a
#: fraction of them: geometric mean over the six shipped chips whose area is published (eyeriss,
#: shidiannao, nvdla, tpu_v1, gemmini, simba), which lie between 1.0 and 4.4. Leaving one out and
#: predicting it errs by a factor of 1.5 in the median and 2.2 at most (tests/hardware). The
#: 16 and 28 nm chips lie above the mean: the area table is optimistic for FinFET nodes.
AREA_OVERHEAD = 2.8


class Tier(Strict):
    """A memory tier outside the engines (DRAM, HBM ...), shared by the engines it backs.

    What ``kind`` says (per channel, see ``archsim.hardware.tiers``) holds unless a field overrides
    it; ``kind: custom`` takes everything from the fields.
    """

    name: Name = Field(description="unique within the machine")
    kind: TierKind = Field(description="memory kind; custom = every figure given here")
    channels: int = Field(default=1, ge=1, le=4096, description="independent channels of that kind")
    capacity_bytes: float = Field(ge=1, le=1e18, description="total capacity, bytes")
    bandwidth_bytes_per_s: float | None = Field(
        default=None,
        ge=1,
        le=1e18,
        description="peak of all channels, bytes/s; default kind x channels, and wins over both",
    )
    latency_s: float | None = Field(
        default=None, ge=0, le=1, description="idle access latency, s; default from kind"
    )
    read_energy_j_per_bit: float | None = Field(
        default=None, ge=0, le=1e-6, description="energy of one bit read, J; default from kind"
    )
    write_energy_j_per_bit: float | None = Field(
        default=None, ge=0, le=1e-6, description="energy of one bit written, J; default from kind"
    )
    background_power_w: float | None = Field(
        default=None, ge=0, le=1e6, description="standby power of the tier, W; default from kind"
    )
    phy_area_mm2: float | None = Field(
        default=None,
        ge=0,
        le=1e5,
        description="PHY and controller area on the die, mm2; default from kind",
    )
    burst_bits: float | None = Field(
        default=None, ge=1, le=1e6, description="bits moved by one access, bits; default from kind"
    )

    @model_validator(mode="after")
    def _custom_is_complete(self) -> Tier:
        if self.kind == "custom":
            needed = ("bandwidth_bytes_per_s", "read_energy_j_per_bit")
            missing = [name for name in needed if getattr(self, name) is None]
            if missing:
                raise InputError(
                    f"a tier of kind custom must give {', '.join(missing)}",
                    field=f"tiers.{self.name}",
                )
        return self


class Precision(Strict):
    """Operand widths of an engine, bits."""

    input_bits: int = Field(ge=1, le=64, description="width of an input word, bits")
    weight_bits: int = Field(ge=1, le=64, description="width of a weight word, bits")
    output_bits: int = Field(ge=1, le=64, description="width of a finished output word, bits")
    accumulator_bits: int = Field(ge=1, le=128, description="width of a partial sum, bits")


class Mac(Strict):
    """The multiply-accumulate unit; operand widths come from the engine's precision."""

    component: Literal["int_mac", "int_mac_dense", "fp_mac"] = Field(
        default="int_mac",
        description="int_mac: Aladdin figures; int_mac_dense, fp_mac: Horowitz's 45 nm table",
    )
    cycles: float = Field(
        default=1.0,
        ge=1e-3,
        le=4096,
        description="cycles between two MACs of one unit (bit-serial > 1)",
    )
    mantissa_bits: int | None = Field(
        default=None,
        ge=1,
        le=64,
        description="fp_mac: significand bits with the hidden one (bf16: 8); default IEEE's",
    )
    energy_j: float | None = Field(default=None, ge=0, le=1e-6, description="override: J per MAC")
    leakage_w: float | None = Field(
        default=None, ge=0, le=1, description="override: W per MAC unit"
    )
    area_mm2: float | None = Field(
        default=None, ge=0, le=100, description="override: mm2 per MAC unit"
    )


class Network(Strict):
    """What carries words across the children of a fanout slot."""

    kind: Literal["bus", "systolic", "mesh"] = Field(
        default="bus",
        description="bus: wire only; systolic: wire + a register a hop; mesh: wire + a router",
    )
    hop_energy_j_per_bit: float | None = Field(
        default=None, ge=0, le=1e-6, description="override: J for one bit to cross one child pitch"
    )


class Storage(Strict):
    """A buffer slot."""

    name: Name = Field(description="unique within the engine")
    component: Literal["sram", "regfile", "register"] = Field(description="kind of array")
    capacity_bytes: float = Field(ge=0.125, le=1e12, description="capacity of one instance, bytes")
    width_bits: int = Field(ge=1, le=65536, description="bits of one access to one bank")
    banks: int = Field(default=1, ge=1, le=65536, description="separate macros behind one slot")
    keeps: tuple[Role, ...] = Field(min_length=1, max_length=3, description="operands it may hold")
    double_buffered: bool = Field(
        default=False, description="half the capacity is being filled while the other half is used"
    )
    read_bandwidth_bits_per_cycle: float | None = Field(
        default=None, ge=1e-3, le=1e9, description="per instance; default banks x width_bits"
    )
    write_bandwidth_bits_per_cycle: float | None = Field(
        default=None, ge=1e-3, le=1e9, description="per instance; default banks x width_bits"
    )
    read_energy_j: float | None = Field(
        default=None, ge=0, le=1, description="override: J per access"
    )
    write_energy_j: float | None = Field(
        default=None, ge=0, le=1, description="override: J per access"
    )
    leakage_w: float | None = Field(
        default=None, ge=0, le=1e6, description="override: W per instance"
    )
    area_mm2: float | None = Field(
        default=None, ge=0, le=1e5, description="override: mm2 per instance"
    )


class Fanout(Strict):
    """A spatial slot: everything inside it exists ``fanout`` times."""

    name: Name = Field(description="unique within the engine")
    fanout: int = Field(ge=1, le=1_048_576, description="number of children")
    axis: Literal["x", "y"] = Field(description="physical axis the children are laid along")
    network: Network = Field(default=Network(), description="how words reach the children")


def _slot_tag(value: Any) -> str:
    if isinstance(value, Fanout):
        return "fanout_slot"
    if isinstance(value, Mapping) and "fanout" in value:
        return "fanout_slot"
    return "storage_slot"


Slot = Annotated[
    Annotated[Storage, Tag("storage_slot")] | Annotated[Fanout, Tag("fanout_slot")],
    Discriminator(_slot_tag),
]


class SpatialEngine(Strict):
    """An array of MAC units behind a hierarchy of buffers and fanouts."""

    name: Name = Field(description="unique within the machine")
    kind: Literal["spatial"]
    dataflow: Dataflow = Field(description="which loops are spatial and what stays put")
    backing: Name = Field(description="tier the operands come from and go to")
    precision: Precision
    slots: tuple[Slot, ...] = Field(
        min_length=1, max_length=16, description="outer to inner, between the tier and the MACs"
    )
    mac: Mac = Field(default=Mac())

    @model_validator(mode="after")
    def _check(self) -> SpatialEngine:
        where = f"engines.{self.name}.slots"
        _unique([slot.name for slot in self.slots], where)
        for slot in self.slots:
            if slot.name in RESERVED_NAMES or slot.name == self.backing:
                raise InputError(
                    "this slot name is reserved",
                    field=where,
                    found=slot.name,
                    expected=f"none of {', '.join((*RESERVED_NAMES, self.backing))}",
                )
            if isinstance(slot, Storage) and len(set(slot.keeps)) != len(slot.keeps):
                raise InputError(
                    "an operand is listed twice",
                    field=f"{where}.{slot.name}.keeps",
                    found=list(slot.keeps),
                )
        if not any(isinstance(slot, Storage) for slot in self.slots):
            raise InputError("an engine needs at least one storage slot", field=where)
        return self


class VectorEngine(Strict):
    """Lanes of scalar units for elementwise work, softmax, pooling, normalisation."""

    name: Name = Field(description="unique within the machine")
    kind: Literal["vector"]
    lanes: int = Field(ge=1, le=1_048_576, description="scalar operations started per cycle")
    backing: Name = Field(description="tier the operands come from and go to")
    component: Literal["int_alu", "fp_alu"] = Field(default="int_alu", description="kind of lane")
    registers: int = Field(default=8, ge=1, le=4096, description="words of register file per lane")
    op_energy_j: float | None = Field(
        default=None, ge=0, le=1e-6, description="override: J per operation"
    )
    leakage_w: float | None = Field(
        default=None, ge=0, le=1e4, description="override: W, all lanes"
    )
    area_mm2: float | None = Field(
        default=None, ge=0, le=1e5, description="override: mm2, all lanes"
    )


#: Kinds of engine; later kinds (gpu, pim) join this union with their own ``kind`` literal.
Engine = Annotated[SpatialEngine | VectorEngine, Field(discriminator="kind")]


class Link(Strict):
    """A connection between two tiers, engines, or the outside (``host``, ``peer``).

    Carried by the schema for plans over several chips; a single-engine cost does not use it.
    """

    name: Name = Field(description="unique within the machine")
    kind: LinkKind = Field(
        default="custom", description="link standard; custom = figures given here"
    )
    endpoints: tuple[Name, Name] = Field(description="tier or engine names, or host, or peer")
    lanes: int = Field(
        default=1, ge=1, le=4096, description="lanes (PCIe) or links (NVLink) ganged"
    )
    bandwidth_bytes_per_s: float | None = Field(
        default=None, ge=1, le=1e18, description="one direction, bytes/s; default from kind x lanes"
    )
    latency_s: float | None = Field(
        default=None, ge=0, le=10, description="one way, s; default from kind"
    )
    energy_j_per_bit: float | None = Field(
        default=None, ge=0, le=1e-6, description="J per bit moved; default from kind"
    )


class Machine(Strict):
    """Memory tiers, engines and links: one chip, or (later) a node of many.

    Build with :func:`load_machine`; change with :meth:`with_values`.
    """

    name: Name
    title: str = Field(max_length=200, description="one line for tables")
    source: str = Field(
        min_length=1, max_length=4000, description="what is published, where, and what is assumed"
    )
    technology_nm: float = Field(ge=7, le=130, description="logic node, nm")
    clock_hz: float = Field(ge=1e3, le=2e10, description="clock of all engines, Hz")
    area_overhead: float = Field(
        default=AREA_OVERHEAD,
        ge=0,
        le=20,
        description="control, clock, routing, pads: fraction added to the area of cells and macros",
    )
    tiers: tuple[Tier, ...] = Field(min_length=1, max_length=64)
    engines: tuple[Engine, ...] = Field(min_length=1, max_length=64)
    links: tuple[Link, ...] = Field(default=(), max_length=256)

    @model_validator(mode="after")
    def _check(self) -> Machine:
        tiers = [tier.name for tier in self.tiers]
        engines = [engine.name for engine in self.engines]
        _unique(tiers, "tiers")
        _unique(engines, "engines")
        _unique([link.name for link in self.links], "links")
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
            for end in link.endpoints:
                if end not in places:
                    raise InputError(
                        "no such tier or engine",
                        field=f"links.{link.name}.endpoints",
                        found=end,
                        expected=f"one of {', '.join(sorted(places))}",
                    )
            if link.kind == "custom" and link.bandwidth_bytes_per_s is None:
                raise InputError(
                    "a link of kind custom must give bandwidth_bytes_per_s",
                    field=f"links.{link.name}",
                )
        return self

    def leaves(self) -> Mapping[str, Leaf]:
        """Every number, flag and enumeration by dotted path, in file order (read-only)."""
        return list_leaves(self)

    @property
    def leaf_paths(self) -> tuple[str, ...]:
        """Dotted paths of everything that may be changed, in file order."""
        return tuple(self.leaves())

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


def _unique(names: list[str], where: str) -> None:
    for name in names:
        if names.count(name) > 1:
            raise InputError("duplicate name", field=where, found=name)


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


def available_machines() -> list[str]:
    """Names of the shipped machines, sorted."""
    return sorted(path.stem for path in MACHINES.glob("*.yaml"))


def load_machine(name_or_path: str | Path) -> Machine:
    """Read a machine.

    Args:
        name_or_path: A shipped name (see :func:`available_machines`) or the path of a YAML file.

    Returns:
        The validated machine.

    Raises:
        InputError: No such machine, unreadable file, or a field that does not fit; the message
            names the file, the field by its dotted path, and the value found.
    """
    path = Path(name_or_path)
    shipped = available_machines()
    if str(name_or_path) in shipped:
        path = MACHINES / f"{name_or_path}.yaml"
    elif path.suffix not in (".yaml", ".yml"):
        near = difflib.get_close_matches(str(name_or_path), shipped, n=2)
        raise InputError(
            "no such machine",
            field="machine",
            found=str(name_or_path),
            expected=f"{' or '.join(near)}?" if near else f"one of {', '.join(shipped)}, or a path",
        )
    return _validate(parse_yaml(read_text(path), path), path)


__all__ = [
    "DATAFLOWS",
    "ROLES",
    "Engine",
    "Fanout",
    "Link",
    "Mac",
    "Machine",
    "Network",
    "Precision",
    "SpatialEngine",
    "Storage",
    "Tier",
    "VectorEngine",
    "available_machines",
    "load_machine",
]
