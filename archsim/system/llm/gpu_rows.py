"""The GPUs of a batch of machines: one device whose figures are arrays over the designs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from archsim.hardware import GpuEngine, Machine, NodeTable

if TYPE_CHECKING:
    from archsim.models.gpu import GpuDevice


_VECTOR = "vector_rates.fp32.flops_per_s"


@lru_cache(maxsize=64)
def _base(machine: Machine) -> GpuDevice:
    from archsim.models.gpu import from_machine

    return from_machine(machine)


def device_rows(machine: Machine, node: NodeTable) -> GpuDevice:
    """The GPU of every design; its figures are float64[B], or numbers of a single design.

    The standing power of the machine's parts is not in it: it is added where a step is put
    together.
    """
    engine = machine.engines[0]
    assert isinstance(engine, GpuEngine)
    base = _base(machine)
    figures, tier = node.engines[engine.name], node.tiers[engine.backing]
    energies = {
        "memory_j_per_byte": tier["read_energy_j_per_bit"],
        "l2_j_per_byte": figures["l2_energy_j_per_bit"],
        "l1_j_per_byte": figures["l1_energy_j_per_bit"],
    }
    group = engine.within or (machine.groups[-1].name if machine.groups else None)
    links = [link.name for link in machine.links if group and link.across == group]
    if links:
        energies["link_j_per_byte"] = node.links[links[0]]["energy_j_per_bit"]
    rates: dict[str, Any] = {
        rate.name: figures[f"rates.{rate.name}.flops_per_s"] for rate in engine.rates
    }
    widened = np.minimum.reduce([*rates.values()]) / 8  # where the data sheet gives no rate
    changed: dict[str, Any] = {
        name: np.where(np.isnan(value), getattr(base, name), 8.0 * value)
        for name, value in energies.items()
    }
    found = replace(
        base,
        sms=figures["sms"],
        clock_hz=figures["clock_hz"],
        flops_per_s=rates,
        bandwidth_bytes_per_s=tier["bandwidth_bytes_per_s"],
        l2_bytes=figures["l2_bytes"],
        shared_memory_bytes=figures["shared_memory_bytes"],
        vector_flops_per_s=figures.get(_VECTOR, widened),
        special_ops_per_sm_cycle=figures["special_ops_per_sm_cycle"],
        j_per_flop={name: figures[f"rates.{name}.energy_j_per_flop"] for name in base.j_per_flop},
        idle_w=0.0,
        **changed,
    )
    return found if node.designs > 1 else where(found, 0)


def where(device: GpuDevice, some: NDArray[np.bool_] | int) -> GpuDevice:
    """Some rows of a device whose figures are arrays, or one of them as a single GPU."""

    def cut(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {name: cut(each) for name, each in value.items()}
        return value[some] if isinstance(value, np.ndarray) else value

    return replace(device, **{f.name: cut(getattr(device, f.name)) for f in fields(device)})
