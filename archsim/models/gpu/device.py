"""What a GPU's data sheet says, as the kernel models use it: one GPU, or one for every row."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from archsim.errors import InputError

if TYPE_CHECKING:
    from archsim.hardware import Machine

Floats = NDArray[np.float64]
#: A figure of one GPU, or float64[...] of many.
Figure = float | Floats
#: Bytes of one element; the 4-bit formats carry their block scales in ``weight_bytes`` of a call.
DTYPE_BYTES = {
    "fp32": 4.0, "tf32": 4.0, "fp16": 2.0, "bf16": 2.0, "fp8": 1.0, "int8": 1.0, "fp4": 0.5,
    "int4": 0.5,
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class GpuDevice:
    """A GPU, and the links between it and its peers, as its data sheet describes them.

    A figure may be an array: it then broadcasts against the arguments of a kernel, so that every
    row of a batch has hardware of its own (of one generation: the constants are shared).

    Attributes:
        name: For messages and for the choice of calibrated constants.
        sms: Streaming multiprocessors.
        clock_hz: Boost clock the peak rates refer to.
        flops_per_s: Peak dense tensor rate by number format (a multiply-accumulate is two).
        bandwidth_bytes_per_s: Device memory.
        l2_bytes: Shared cache.
        shared_memory_bytes: Shared memory one SM can give to kernels.
        vector_flops_per_s: Peak of the scalar lanes in fp32.
        special_ops_per_sm_cycle: Exponentials and the like one SM starts a cycle.
        link_bandwidth_bytes_per_s: To all peers of the node together, one direction; 0 if none.
        link_reduces: The switch adds up (NVLink SHARP).
        memory_j_per_byte: Device memory to L2.
        l2_j_per_byte: L2 to an SM.
        l1_j_per_byte: Shared memory to registers.
        j_per_flop: Tensor units by number format; others are scaled by their bits.
        link_j_per_byte: One link crossed once.
        idle_w: Power drawn whatever runs.
        constants: Name of the calibrated constants; empty: chosen by generation.
    """

    name: str
    sms: Figure
    clock_hz: Figure
    flops_per_s: Mapping[str, Figure]
    bandwidth_bytes_per_s: Figure
    l2_bytes: Figure
    shared_memory_bytes: Figure
    vector_flops_per_s: Figure
    special_ops_per_sm_cycle: Figure = 16
    link_bandwidth_bytes_per_s: Figure = 0.0
    link_reduces: bool | NDArray[np.bool_] = False
    memory_j_per_byte: Figure = 3.59e-12 * 8
    l2_j_per_byte: Figure = 0.3e-12 * 8
    l1_j_per_byte: Figure = 0.16e-12 * 8
    j_per_flop: Mapping[str, Figure] = field(default_factory=dict)
    link_j_per_byte: Figure = 1.3e-12 * 8
    idle_w: Figure = 0.0
    constants: str = ""

    @functools.cached_property
    def _arrays(self) -> dict[str, Any]:
        """Fields that hold arrays."""
        return {
            f.name: value
            for f in fields(self)
            if not isinstance(value := getattr(self, f.name), str)
            and any(np.ndim(v) for v in (value.values() if isinstance(value, Mapping) else [value]))
        }

    @functools.cached_property
    def shape(self) -> tuple[int, ...]:
        """What the figures broadcast to: ``()`` of one GPU.

        Raises:
            InputError: They do not broadcast.

        Example:
            >>> replace(gpu_device("a100"), l2_bytes=np.array([40e6, 80e6])).shape
            (2,)
        """
        values: list[Any] = []
        for value in self._arrays.values():
            values += value.values() if isinstance(value, Mapping) else [value]
        try:
            return np.broadcast_shapes(*(np.shape(v) for v in values))
        except ValueError:
            raise InputError(
                f"the figures of {self.name} are arrays of unequal shapes",
                found=sorted({np.shape(v) for v in values}),
            ) from None

    def rows(self, shape: tuple[int, ...]) -> GpuDevice:
        """Same device with every array spread over ``shape`` and flattened; one GPU stays one."""

        def spread(value: Any) -> Any:
            if isinstance(value, Mapping):
                return {name: spread(v) for name, v in value.items()}
            return np.broadcast_to(value, shape).reshape(-1) if np.ndim(value) else value

        if not self._arrays or (self.shape == shape and len(shape) == 1):
            return self
        return replace(self, **{name: spread(value) for name, value in self._arrays.items()})

    @classmethod
    def stack(cls, devices: Sequence[GpuDevice]) -> GpuDevice:
        """Several GPUs of one generation as one whose figures are arrays over them.

        Raises:
            InputError: There is none, or they differ in their constants or number formats.
        """
        alike = {(d.constants, *sorted(d.flops_per_s)) for d in devices}
        if len(alike) != 1:
            raise InputError(
                "GPUs of one generation expected",
                found=", ".join(d.name for d in devices) or "none",
            )

        def gather(values: list[Any]) -> Any:
            if isinstance(values[0], Mapping):
                names = [name for name in values[0] if all(name in v for v in values)]
                return {name: gather([v[name] for v in values]) for name in names}
            return np.array(values) if any(v != values[0] for v in values) else values[0]

        first = devices[0]
        return replace(first, **{
            f.name: gather([getattr(d, f.name) for d in devices])
            for f in fields(first) if f.name not in ("name", "constants")
        })  # fmt: skip

    def peak(self, dtype: str) -> Figure:
        """Peak tensor rate for a number format, operations/s.

        Weights in a format that the tensor units lack are widened before they are multiplied:
        such a format runs at the rate of fp16.

        Raises:
            InputError: The format is unknown.
        """
        if dtype in self.flops_per_s:
            return self.flops_per_s[dtype]
        if dtype not in DTYPE_BYTES:
            raise InputError("unknown number format", found=dtype, expected=", ".join(DTYPE_BYTES))
        for other in ("bf16", "fp16", "fp32"):
            if other in self.flops_per_s:
                return self.flops_per_s[other]
        raise InputError(f"{self.name} has no rate for this number format", found=dtype)

    def energy_per_flop(self, dtype: str) -> Figure:
        """J of one operation in the tensor units."""
        if dtype in self.j_per_flop:
            return self.j_per_flop[dtype]
        # AttAcc's simulator (ASPLOS'24): 0.32 pJ an operation in fp16; others with their bits.
        base = self.j_per_flop.get("fp16", 0.32e-12)
        return base * DTYPE_BYTES.get(dtype, 2.0) / 2.0

    def scaled(self, **factors: float) -> GpuDevice:
        """Same device with fields multiplied; ``clock_hz`` and ``sms`` scale the peaks too.

        Example:
            >>> int(gpu_device("a100").scaled(sms=2.0).sms)
            216
        """
        known = {"sms", "clock_hz", "bandwidth_bytes_per_s", "l2_bytes", "shared_memory_bytes",
                 "link_bandwidth_bytes_per_s"}  # fmt: skip
        if unknown := set(factors) - known:
            raise InputError(
                "this field cannot be scaled",
                found=sorted(unknown)[0],
                expected=", ".join(sorted(known)),
            )
        values: dict[str, Any] = {n: getattr(self, n) * f for n, f in factors.items()}
        if "sms" in values:
            values["sms"] = np.round(self.sms * factors["sms"])
        rate = factors.get("clock_hz", 1.0) * values.get("sms", self.sms) / self.sms
        values["flops_per_s"] = {d: f * rate for d, f in self.flops_per_s.items()}
        values["vector_flops_per_s"] = self.vector_flops_per_s * rate
        return replace(self, **values)


def from_machine(machine: Machine) -> GpuDevice:
    """The GPU of a machine description.

    Raises:
        InputError: The machine has no engine of kind ``gpu``.
    """
    from archsim.hardware import resolve_node

    engines = [e for e in machine.engines if e.kind == "gpu"]
    if not engines:
        raise InputError("this machine has no engine of kind 'gpu'", source=machine.name)
    engine, table = engines[0], resolve_node(machine)
    tier = {key: float(value[0]) for key, value in table.tiers[engine.backing].items()}
    rates: dict[str, float] = {rate.name: rate.flops_per_s for rate in engine.rates}
    vector: dict[str, float] = {rate.name: rate.flops_per_s for rate in engine.vector_rates}
    group = engine.within or (machine.groups[-1].name if machine.groups else None)
    links = [link for link in machine.links if group and link.across == group]
    known: dict[str, float | None] = {
        "memory_j_per_byte": tier["read_energy_j_per_bit"],
        "l2_j_per_byte": engine.l2_energy_j_per_bit,
        "l1_j_per_byte": engine.l1_energy_j_per_bit,
    }
    if links:
        figures = table.links[links[0].name]
        known["link_j_per_byte"] = float(figures["energy_j_per_bit"][0])
    energies: dict[str, Any] = {k: 8 * value for k, value in known.items() if value is not None}
    return GpuDevice(
        name=machine.name,
        sms=engine.sms,
        clock_hz=engine.clock_hz or machine.clock_hz,
        flops_per_s=rates,
        bandwidth_bytes_per_s=tier["bandwidth_bytes_per_s"],
        l2_bytes=engine.l2_bytes,
        shared_memory_bytes=engine.shared_memory_bytes,
        vector_flops_per_s=vector.get("fp32", min(rates.values()) / 8),
        special_ops_per_sm_cycle=engine.special_ops_per_sm_cycle,
        link_bandwidth_bytes_per_s=float(figures["bandwidth_bytes_per_s"][0]) if links else 0.0,
        link_reduces=bool(links and links[0].reduces),
        j_per_flop={
            r.name: r.energy_j_per_flop for r in engine.rates if r.energy_j_per_flop is not None
        },
        **energies,
    )


def gpu_device(name: str) -> GpuDevice:
    """The GPU of a shipped machine, e.g. ``a100``, ``h100``, ``h800``.

    Raises:
        InputError: There is no such machine, or it has no GPU.

    Example:
        >>> gpu_device("h100").sms
        132
    """
    from archsim.hardware import load_machine

    return from_machine(load_machine(name))


def by_format(figure: Callable[[str], Figure], dtypes: Sequence[str], rows: int) -> Figure:
    """A figure that depends on the number format, for one format or one a row."""
    kinds = {name: figure(name) for name in dict.fromkeys(dtypes)}
    if len(kinds) == 1:
        return kinds[dtypes[0]]
    place = {name: i for i, name in enumerate(kinds)}
    table = np.stack([np.broadcast_to(values, rows) for values in kinds.values()])
    return table[[place[name] for name in dtypes], np.arange(rows)]


def hardware_rows(device: GpuDevice, dtypes: Sequence[str], rows: int) -> Floats:
    """What the compiled kernels read, float64[rows, 6] (a broadcast view where all are alike).

    Columns: SMs, peak tensor rate of the row's number format, bandwidth, L2, clock, shared memory.

    Args:
        device: Figures are numbers or float64[rows].
        dtypes: One number format, or one for each row.
        rows: Their number.
    """
    columns = (
        device.sms, by_format(device.peak, dtypes, rows), device.bandwidth_bytes_per_s,
        device.l2_bytes, device.clock_hz, device.shared_memory_bytes,
    )  # fmt: skip
    if not any(np.ndim(c) for c in columns):
        return np.broadcast_to(np.array(columns, float), (rows, len(columns)))
    out = np.empty((rows, len(columns)))
    for i, column in enumerate(columns):
        out[:, i] = column
    return out
