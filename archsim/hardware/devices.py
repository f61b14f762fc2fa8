"""The machine schema around and above one array: tiers, links, data-sheet engines, groups, parts.

A *spatial* engine (``archsim.hardware.machine``) is described down to its buffers. The engines here
are described by what a data sheet says (units, clock, peak rates, on-chip capacities): a ``gpu``, a
``systolic`` matrix unit, a ``dataflow`` processor. ``Group`` says how many devices there are,
``Part`` what they are bought as.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, StringConstraints, model_validator

from archsim.errors import InputError
from archsim.hardware.sparsity import StorageSparsity
from archsim.hardware.tiers import LINK_KINDS, TIER_KINDS
from archsim.inputs import Strict

Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z][A-Za-z0-9_-]{0,39}$")]

#: Number formats a rate can be given for, with the bits of one element.
DTYPE_BITS = {
    "fp64": 64, "fp32": 32, "tf32": 32, "fp16": 16, "bf16": 16, "fp8": 8, "int8": 8,
    "fp6": 6, "fp4": 4, "int4": 4,
}  # fmt: skip
TierKind = Literal[TIER_KINDS]  # type: ignore[valid-type]
LinkKind = Literal[LINK_KINDS]  # type: ignore[valid-type]
Dtype = Literal["fp64", "fp32", "tf32", "fp16", "bf16", "fp8", "int8", "fp6", "fp4", "int4"]


class Group(Strict):
    """A level of replication; what is ``within`` it exists ``count`` times in the group outside.

    Groups are listed outer to inner (cluster, node, device), like the fanouts of an array.
    """

    name: Name = Field(description="unique within the machine, e.g. node, gpu, socket")
    count: int = Field(default=1, ge=1, le=1_000_000, description="members in one outer group")
    most: int | None = Field(
        default=None, ge=1, le=1_000_000, description="most members the hardware allows, if limited"
    )

    @model_validator(mode="after")
    def _within_limit(self) -> Group:
        if self.most is not None and self.count > self.most:
            raise InputError(
                "more members than the hardware allows",
                field=f"groups.{self.name}.count",
                found=self.count,
                expected=f"at most {self.most}",
            )
        return self


class Rate(Strict):
    """Peak dense rate for one number format (a multiply-accumulate counts as two)."""

    name: Dtype = Field(description="number format of the operands")
    flops_per_s: float = Field(ge=1, le=1e20, description="peak of one device, operations/s")
    energy_j_per_flop: float | None = Field(
        default=None,
        ge=0,
        le=1e-6,
        description="J per operation in the unit itself; default half a MAC's at that node",
    )


class RatedEngine(Strict):
    """What every data-sheet engine has."""

    name: Name = Field(description="unique within the machine")
    within: Name | None = Field(
        default=None, description="group it is replicated in; default the innermost one"
    )
    backing: Name = Field(description="tier the operands come from and go to")
    clock_hz: float | None = Field(
        default=None,
        ge=1e6,
        le=2e10,
        description="boost clock, Hz; default the machine's",
    )
    rates: tuple[Rate, ...] = Field(
        min_length=1, max_length=16, description="peak of the matrix units by number format"
    )
    vector_rates: tuple[Rate, ...] = Field(
        default=(), max_length=16, description="peak of the scalar/vector units by number format"
    )
    launch_latency_s: float | None = Field(
        default=None, ge=0, le=1, description="host time to start one kernel, s"
    )

    @model_validator(mode="after")
    def _formats_once(self) -> RatedEngine:
        for field in ("rates", "vector_rates"):
            names = [rate.name for rate in getattr(self, field)]
            for name in names:
                if names.count(name) > 1:
                    raise InputError(
                        "duplicate name", field=f"engines.{self.name}.{field}", found=name
                    )
        return self

    def rate(self, dtype: str) -> Rate:
        """Peak matrix rate for a number format.

        Raises:
            InputError: The data sheet gives none for it.
        """
        for rate in self.rates:
            if rate.name == dtype:
                return rate
        raise InputError(
            "no rate for this number format",
            field=f"engines.{self.name}.rates",
            found=dtype,
            expected="one of " + ", ".join(rate.name for rate in self.rates),
        )


class GpuEngine(RatedEngine):
    """Streaming multiprocessors with matrix units, behind one shared cache."""

    kind: Literal["gpu"]
    sms: int = Field(ge=1, le=4096, description="streaming multiprocessors enabled")
    special_ops_per_sm_cycle: int = Field(
        default=16, ge=1, le=1024, description="exponentials and the like one SM starts a cycle"
    )
    shared_memory_bytes: float = Field(
        ge=1024, le=1e9, description="shared memory a kernel can use on one SM, bytes"
    )
    register_file_bytes: float = Field(
        default=262144, ge=1024, le=1e9, description="registers of one SM, bytes"
    )
    threads_per_sm: int = Field(default=2048, ge=32, le=65536, description="resident threads")
    l2_bytes: float = Field(ge=1024, le=1e12, description="shared cache, bytes")
    l2_bandwidth_bytes_per_s: float | None = Field(
        default=None, ge=1, le=1e18, description="read bandwidth of the shared cache, bytes/s"
    )
    l2_latency_s: float | None = Field(default=None, ge=0, le=1, description="a hit, s")
    l2_energy_j_per_bit: float | None = Field(
        default=None, ge=0, le=1e-6, description="J per bit between the shared cache and an SM"
    )
    l1_energy_j_per_bit: float | None = Field(
        default=None, ge=0, le=1e-6, description="J per bit from shared memory"
    )
    register_energy_j_per_bit: float | None = Field(
        default=None, ge=0, le=1e-6, description="J per bit from the register file"
    )


class SystolicEngine(RatedEngine):
    """Systolic matrix units described by their size (for one with buffers: a spatial engine)."""

    kind: Literal["systolic"]
    arrays: int = Field(ge=1, le=4096, description="matrix units of one device")
    rows: int = Field(ge=1, le=65536, description="rows of one unit (reduction)")
    columns: int = Field(ge=1, le=65536, description="columns of one unit (outputs)")
    dataflow: Literal["weight_stationary", "output_stationary", "input_stationary"] = Field(
        default="weight_stationary", description="what stays in the cells"
    )
    buffer_bytes: float = Field(ge=1, le=1e12, description="on-chip vector memory, bytes")


class XpuEngine(RatedEngine):
    """A processor known by its peak rates alone: its kernels are priced as a roofline."""

    kind: Literal["xpu"]
    memory_efficiency: float = Field(
        default=1.0, gt=0, le=1, description="share of the tier's bandwidth that streams reach"
    )


class DataflowEngine(RatedEngine):
    """A reconfigurable array of compute and memory units that runs fused operators as pipelines."""

    kind: Literal["dataflow"]
    compute_units: int = Field(ge=1, le=1_000_000, description="configurable compute units")
    memory_units: int = Field(ge=1, le=1_000_000, description="configurable memory units")
    hardware_launch_latency_s: float | None = Field(
        default=None, ge=0, le=1, description="start of a kernel without the host, s"
    )
    utilization: float = Field(
        default=1.0, gt=0, le=1, description="share of the units that a kernel is laid on"
    )
    memory_efficiency: float = Field(
        default=1.0, gt=0, le=1, description="share of the tier's bandwidth that streams reach"
    )


class Growth(Strict):
    """How the figures of a part follow a number of the machine, for designs that change it.

    Each figure is what one unit of that number adds to it; at the number the file gives, the part
    has the figures it gives.
    """

    name: Name = Field(description="unique within the part")
    path: str = Field(max_length=200, description="dotted path of the number")
    die_area_mm2: float = Field(default=0.0, ge=-1e5, le=1e5, description="mm2 a unit")
    tdp_w: float = Field(default=0.0, ge=-1e7, le=1e7, description="W a unit")
    idle_w: float = Field(default=0.0, ge=-1e7, le=1e7, description="W a unit")
    price_usd: float = Field(default=0.0, ge=-1e10, le=1e10, description="USD a unit")
    embodied_kg_co2e: float = Field(default=0.0, ge=-1e9, le=1e9, description="kg a unit")
    note: str = Field(default="", max_length=1000, description="where this comes from")


class Part(Strict):
    """Something bought and powered: a chip, a host, a network card, a chassis."""

    name: Name = Field(description="unique within the machine")
    within: Name | None = Field(
        default=None, description="group it is replicated in; default the innermost one"
    )
    per_group: int = Field(default=1, ge=1, le=100_000, description="of them in one such group")
    die_area_mm2: float | None = Field(
        default=None, ge=0, le=1e5, description="logic silicon of one, mm2"
    )
    process_nm: float | None = Field(
        default=None, ge=1, le=250, description="marketing node of that silicon, nm"
    )
    tdp_w: float | None = Field(default=None, ge=0, le=1e7, description="thermal design power, W")
    idle_w: float | None = Field(
        default=None, ge=0, le=1e7, description="power it draws whatever runs, W"
    )
    price_usd: float | None = Field(default=None, ge=0, le=1e10, description="price of one, USD")
    embodied_kg_co2e: float | None = Field(
        default=None, ge=0, le=1e9, description="published footprint of making one, kg CO2e"
    )
    note: str = Field(default="", max_length=1000, description="where these figures come from")
    grows: tuple[Growth, ...] = Field(
        default=(), max_length=16, description="how its figures follow numbers of the machine"
    )


class Tier(Strict):
    """A memory tier outside the engines (on-chip SRAM, HBM, DDR, flash), shared by those it backs.

    What ``kind`` says (per channel, see ``archsim.hardware.tiers``) holds unless a field overrides
    it; ``kind: custom`` takes everything from the fields.
    """

    name: Name = Field(description="unique within the machine")
    kind: TierKind = Field(description="memory kind; custom = every figure given here")
    channels: int = Field(default=1, ge=1, le=4096, description="independent channels of that kind")
    within: Name | None = Field(
        default=None, description="group it is replicated in; default the innermost one"
    )
    capacity_bytes: float = Field(ge=1, le=1e18, description="capacity of one instance, bytes")
    bandwidth_bytes_per_s: float | None = Field(
        default=None,
        ge=1,
        le=1e18,
        description="peak of all channels, bytes/s; default kind x channels, and wins over both",
    )
    write_bandwidth_bytes_per_s: float | None = Field(
        default=None,
        ge=1,
        le=1e18,
        description="where writes are slower (flash), bytes/s; default the bandwidth",
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
    price_usd: float | None = Field(
        default=None, ge=0, le=1e10, description="price of one instance, where bought apart, USD"
    )
    embodied_kg_co2e: float | None = Field(
        default=None, ge=0, le=1e9, description="footprint of making one instance; default modelled"
    )
    sparse: StorageSparsity | None = Field(
        default=None, description="compressed formats, gating and skipping (spatial engines)"
    )

    @model_validator(mode="after")
    def _custom_is_complete(self) -> Tier:
        if self.kind in ("custom", "SRAM"):
            needed = ["bandwidth_bytes_per_s"]
            if self.kind == "custom":
                needed.append("read_energy_j_per_bit")
            missing = [name for name in needed if getattr(self, name) is None]
            if missing:
                raise InputError(
                    f"a tier of kind {self.kind} must give {', '.join(missing)}",
                    field=f"tiers.{self.name}",
                )
        return self


class Link(Strict):
    """A connection: between two tiers or engines, or ``across`` the members of a group.

    With ``endpoints`` it joins two tiers, engines, or the outside (``host``, ``peer``), once for
    every member of the inner one's group. With ``across`` it joins the members of a group with one
    another (NVLink across the GPUs of a node, InfiniBand across nodes); bandwidth is then what one
    member can send, while it receives as much.
    """

    name: Name = Field(description="unique within the machine")
    kind: LinkKind = Field(
        default="custom", description="link standard; custom = figures given here"
    )
    endpoints: tuple[Name, Name] | None = Field(
        default=None, description="tier or engine names, or host, or peer"
    )
    across: Name | None = Field(default=None, description="group whose members it joins")
    topology: Literal["switch", "all_to_all", "ring", "mesh", "torus", "fat_tree"] = Field(
        default="switch",
        description="how members are joined; all_to_all: lanes divided among the others",
    )
    reduces: bool = Field(
        default=False, description="the switch adds up what it forwards (NVLS, SHARP)"
    )
    members_per_port: int = Field(
        default=1, ge=1, le=100_000, description="devices that share one port into the network"
    )
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

    @model_validator(mode="after")
    def _check(self) -> Link:
        if (self.endpoints is None) == (self.across is None):
            raise InputError(
                "a link gives either its endpoints or the group it is across",
                field=f"links.{self.name}",
            )
        if self.kind == "custom" and self.bandwidth_bytes_per_s is None:
            raise InputError(
                "a link of kind custom must give bandwidth_bytes_per_s", field=f"links.{self.name}"
            )
        return self


__all__ = [
    "DTYPE_BITS",
    "DataflowEngine",
    "Dtype",
    "GpuEngine",
    "Group",
    "Growth",
    "Link",
    "Name",
    "Part",
    "Rate",
    "RatedEngine",
    "SystolicEngine",
    "Tier",
    "XpuEngine",
]
