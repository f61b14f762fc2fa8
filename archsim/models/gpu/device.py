"""What a GPU's data sheet says, as the kernel models use it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from archsim.errors import InputError

if TYPE_CHECKING:
    from archsim.hardware import Machine

#: Columns of the hardware rows the compiled kernels read.
SMS, PEAK, BANDWIDTH, L2, CLOCK, SHARED = range(6)
#: Bytes of one element; the 4-bit formats carry their block scales in ``weight_bytes`` of a call.
DTYPE_BYTES = {
    "fp32": 4.0, "tf32": 4.0, "fp16": 2.0, "bf16": 2.0, "fp8": 1.0, "int8": 1.0, "fp4": 0.5,
    "int4": 0.5,
}  # fmt: skip


@dataclass(frozen=True)
class GpuDevice:
    """One GPU, and the links between it and its peers, as its data sheet describes them.

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
    sms: int
    clock_hz: float
    flops_per_s: Mapping[str, float]
    bandwidth_bytes_per_s: float
    l2_bytes: float
    shared_memory_bytes: float
    vector_flops_per_s: float
    special_ops_per_sm_cycle: int = 16
    link_bandwidth_bytes_per_s: float = 0.0
    link_reduces: bool = False
    memory_j_per_byte: float = 3.59e-12 * 8
    l2_j_per_byte: float = 0.3e-12 * 8
    l1_j_per_byte: float = 0.16e-12 * 8
    j_per_flop: Mapping[str, float] = field(default_factory=dict)
    link_j_per_byte: float = 1.3e-12 * 8
    idle_w: float = 0.0
    constants: str = ""

    def peak(self, dtype: str) -> float:
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

    def energy_per_flop(self, dtype: str) -> float:
        """J of one operation in the tensor units."""
        if dtype in self.j_per_flop:
            return self.j_per_flop[dtype]
        # AttAcc's simulator (ASPLOS'24): 0.32 pJ an operation in fp16; others with their bits.
        base = self.j_per_flop.get("fp16", 0.32e-12)
        return base * DTYPE_BYTES.get(dtype, 2.0) / 2.0

    def scaled(self, **factors: float) -> GpuDevice:
        """Same device with fields multiplied; ``clock_hz`` and ``sms`` scale the peaks too.

        Example:
            >>> gpu_device("a100").scaled(sms=2.0).sms
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
        values: dict[str, object] = {n: getattr(self, n) * f for n, f in factors.items()}
        if "sms" in values:
            values["sms"] = round(self.sms * factors["sms"])
        rate = factors.get("clock_hz", 1.0) * values.get("sms", self.sms) / self.sms  # type: ignore[operator]
        values["flops_per_s"] = {d: f * rate for d, f in self.flops_per_s.items()}
        values["vector_flops_per_s"] = self.vector_flops_per_s * rate
        return replace(self, **values)  # type: ignore[arg-type]


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
    rates = {rate.name: rate.flops_per_s for rate in engine.rates}
    vector = {rate.name: rate.flops_per_s for rate in engine.vector_rates}
    group = engine.within or (machine.groups[-1].name if machine.groups else None)
    links = [link for link in machine.links if group and link.across == group]
    known = {
        "memory_j_per_byte": tier["read_energy_j_per_bit"],
        "l2_j_per_byte": engine.l2_energy_j_per_bit,
        "l1_j_per_byte": engine.l1_energy_j_per_bit,
    }
    if links:
        figures = table.links[links[0].name]
        known["link_j_per_byte"] = float(figures["energy_j_per_bit"][0])
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
        **{key: 8 * value for key, value in known.items() if value is not None},
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


def hardware_rows(
    devices: GpuDevice | Sequence[GpuDevice], dtypes: str | Sequence[str], rows: int
) -> NDArray[np.float64]:
    """What the compiled kernels read, float64[rows, 6] (one row broadcast where all are alike).

    Raises:
        InputError: The number of devices or formats is neither 1 nor ``rows``.
    """
    listed = [devices] if isinstance(devices, GpuDevice) else list(devices)
    names = [dtypes] if isinstance(dtypes, str) else list(dtypes)
    for what, found in (("devices", listed), ("number formats", names)):
        if len(found) not in (1, rows):
            raise InputError(
                f"as many {what} as rows, or one", found=len(found), expected=str(rows)
            )
    cache: dict[tuple[int, str], list[float]] = {}

    def row(device: GpuDevice, dtype: str) -> list[float]:
        key = (id(device), dtype)
        if key not in cache:
            cache[key] = [
                device.sms, device.peak(dtype), device.bandwidth_bytes_per_s, device.l2_bytes,
                device.clock_hz, device.shared_memory_bytes,
            ]  # fmt: skip
        return cache[key]

    if len(listed) == len(names) == 1:
        return np.broadcast_to(np.array(row(listed[0], names[0]), float), (rows, 6))
    return np.array(
        [row(listed[i % len(listed)], names[i % len(names)]) for i in range(rows)], dtype=float
    )
