"""Which pricer the calls of a machine get: one row of ``PRICERS`` a kind of engine.

A new kind of engine is one class with a method a kind of call, after
:class:`~archsim.system.llm.roofline.Roofline`, and one row here.
"""

from __future__ import annotations

from collections.abc import Callable

from archsim.hardware import Machine, NodeTable
from archsim.system.llm.arrays import ArrayPricer
from archsim.system.llm.dataflow import DataflowPricer
from archsim.system.llm.gpu_pricing import GpuPricer
from archsim.system.llm.pim import PimPricer
from archsim.system.llm.roofline import Roofline
from archsim.workload.steps import Bits

#: How the calls of each kind of engine are priced; every other kind is a roofline.
PRICERS: dict[str, Callable[[Machine, NodeTable, Bits], Roofline]] = {
    "gpu": GpuPricer,
    "dataflow": DataflowPricer,
    "dot_product": ArrayPricer,
}


def pricer_for(machine: Machine, node: NodeTable, bits: Bits) -> Roofline:
    """The best pricer for a machine: by its first engine's kind, see :data:`PRICERS`.

    Where the memory computes, too, both engines are priced (``archsim.system.llm.pim``).
    """
    pricer = PRICERS.get(machine.engines[0].kind, Roofline)(machine, node, bits)
    if any(engine.kind in ("pim", "xpu") for engine in machine.engines):
        return PimPricer(pricer, machine, node, bits)
    return pricer
