"""The spatial engine of the machine schema: MAC units behind buffers and fanouts; vector lanes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag, model_validator

from archsim.errors import InputError
from archsim.hardware.devices import Name
from archsim.hardware.sparsity import MacSparsity, StorageSparsity, check_operands
from archsim.inputs import Strict

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


def unique(names: list[str], where: str) -> None:
    """Refuse a name that is used twice.

    Raises:
        InputError: Names it and the list it is in.
    """
    for name in names:
        if names.count(name) > 1:
            raise InputError("duplicate name", field=where, found=name)


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
        description="cycles between two MACs of one unit, or between two steps of a serial one",
    )
    serial: tuple[Literal["input", "weight"], ...] = Field(
        default=(),
        max_length=2,
        description="operands fed digit by digit (Stripes: input; Loom: both); a MAC takes a step "
        "for every digit, or pair of digits",
    )
    digit_bits: int = Field(default=1, ge=1, le=64, description="bits of a serial operand a step")
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
    sparse: MacSparsity | None = Field(default=None, description="what a unit does about zeros")

    @model_validator(mode="after")
    def _check_serial(self) -> Mac:
        if len(set(self.serial)) != len(self.serial):
            raise InputError("an operand is listed twice", field="serial", found=list(self.serial))
        if self.serial and self.component == "fp_mac":
            raise InputError("a floating-point unit cannot be serial", field="serial")
        return self


class Network(Strict):
    """What carries words across the children of a fanout slot."""

    kind: Literal["bus", "systolic", "mesh"] = Field(
        default="bus",
        description="bus: wire only; systolic: wire + a register a hop; mesh: wire + a router",
    )
    hop_energy_j_per_bit: float | None = Field(
        default=None, ge=0, le=1e-6, description="override: J for one bit to cross one child pitch"
    )
    peer_links: bool = Field(
        default=False, description="neighbours pass on input words, where that spares the parent"
    )
    hop_cycles: float = Field(
        default=0.0,
        ge=0,
        le=1e6,
        description="cycles to cross one child pitch: the array fills and drains once a layer",
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
    sparse: StorageSparsity | None = Field(
        default=None, description="compressed formats, gating and skipping"
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
    within: Name | None = Field(
        default=None, description="group it is replicated in; default the innermost one"
    )
    precision: Precision
    slots: tuple[Slot, ...] = Field(
        min_length=1, max_length=16, description="outer to inner, between the tier and the MACs"
    )
    mac: Mac = Field(default=Mac())

    @model_validator(mode="after")
    def _check(self) -> SpatialEngine:
        where = f"engines.{self.name}.slots"
        unique([slot.name for slot in self.slots], where)
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
            if isinstance(slot, Storage):
                check_operands(slot.sparse, slot.keeps, f"{where}.{slot.name}")
        if not any(isinstance(slot, Storage) for slot in self.slots):
            raise InputError("an engine needs at least one storage slot", field=where)
        return self


class VectorEngine(Strict):
    """Lanes of scalar units for elementwise work, softmax, pooling, normalisation."""

    name: Name = Field(description="unique within the machine")
    kind: Literal["vector"]
    lanes: int = Field(ge=1, le=1_048_576, description="scalar operations started per cycle")
    backing: Name = Field(description="tier the operands come from and go to")
    within: Name | None = Field(
        default=None, description="group it is replicated in; default the innermost one"
    )
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
