"""What one call costs on one device at the least: a roofline for any engine.

``Roofline`` prices every call by the engine's peak rate and the tier's bandwidth: a bound no device
beats. Pricers of engines with models of their own inherit what they do not model. Figures of the
machine and sizes of the calls are arrays over the same rows, so that every row may have hardware of
its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from archsim.errors import InputError
from archsim.hardware import Machine, NodeTable, SpatialEngine, VectorEngine
from archsim.hardware.devices import RatedEngine
from archsim.system.llm.calls import Call
from archsim.system.llm.collectives import (
    Level,
    all_reduce,
    all_to_all,
)
from archsim.system.llm.rows import Plans
from archsim.workload.steps import Bits

if TYPE_CHECKING:
    pass

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Price:
    """Cost of one call on one device; float64[B] each.

    Attributes:
        seconds: From start to end.
        joules: Energy beside the device's idle power.
        compute_s: Time its operations need at the least.
        memory_s: Time its traffic needs at the least.
        bytes: Traffic with the tier.
    """

    seconds: Floats
    joules: Floats
    compute_s: Floats
    memory_s: Floats
    bytes: Floats

    def where(self, mask: NDArray[np.bool_], other: Price) -> Price:
        """This price where the mask holds, else the other."""
        pairs = ((getattr(self, f.name), getattr(other, f.name)) for f in fields(self))
        return Price(*(np.where(mask, mine, theirs) for mine, theirs in pairs))


#: The price of what is not done.
NOTHING = Price(*(np.zeros(1) for _ in fields(Price)))


def dtype_of(bits: Bits, rates: tuple[str, ...]) -> str:
    """The number format products run in: the narrowest of the engine's that holds activations.

    Raises:
        InputError: The engine has none.

    Example:
        >>> dtype_of(Bits(), ("bf16", "fp8")), dtype_of(Bits(8, 8), ("bf16", "fp8"))
        ('bf16', 'fp8')
    """
    order = ("fp4", "int4", "fp6", "fp8", "int8", "bf16", "fp16", "tf32", "fp32", "fp64")
    width = {"fp4": 4, "int4": 4, "fp6": 6, "fp8": 8, "int8": 8, "bf16": 16, "fp16": 16,
             "tf32": 32, "fp32": 32, "fp64": 64}  # fmt: skip
    for name in order:
        if name in rates and width[name] >= bits.activation:
            return name
    raise InputError(
        "the engine multiplies in no format this wide",
        field="bits.activation",
        found=bits.activation,
        expected="one of " + ", ".join(rates),
    )


class Roofline:
    """Peak rate and bandwidth of an engine and its tier.

    Args:
        machine: The machine.
        node: Its figures.
        bits: Bits an element.

    Raises:
        InputError: No engine of the machine can multiply matrices.
    """

    def __init__(self, machine: Machine, node: NodeTable, bits: Bits) -> None:
        engines = [e for e in machine.engines if not isinstance(e, VectorEngine)]
        if not engines:
            raise InputError(
                "this machine has no engine for matrix products", source=machine.name,
                field="engines",
            )  # fmt: skip
        engine = engines[0]
        figures, tier = node.engines[engine.name], node.tiers[engine.backing]
        self.bits, self.engine, self.tier_name = bits, engine, engine.backing
        self.bandwidth = tier["bandwidth_bytes_per_s"] * figures.get("memory_efficiency", 1.0)
        self.j_per_byte = tier["read_energy_j_per_bit"] * 8.0
        self.launch = np.zeros(1)
        if isinstance(engine, SpatialEngine):
            self.peak = figures["peak_flops_per_s"]
            lanes = [e for e in machine.engines if isinstance(e, VectorEngine)]
            self.vector_peak = (
                node.engines[lanes[0].name]["peak_flops_per_s"] if lanes else self.peak / 16.0
            )
            self.j_per_flop: Floats = np.zeros(1)
        else:
            if not isinstance(engine, RatedEngine):
                raise InputError(
                    "engines of this kind are not priced for language models",
                    source=machine.name, field=f"engines.{engine.name}.kind", found=engine.kind,
                )  # fmt: skip
            self.dtype = dtype_of(bits, tuple(rate.name for rate in engine.rates))
            self.peak = figures[f"rates.{self.dtype}.flops_per_s"]
            vector = [rate.name for rate in engine.vector_rates]
            name = next((n for n in ("fp32", "fp16", "bf16") if n in vector), None)
            self.vector_peak = (
                figures[f"vector_rates.{name}.flops_per_s"] if name else self.peak / 16.0
            )
            self.launch = np.nan_to_num(figures["launch_latency_s"])
            self.j_per_flop = np.nan_to_num(figures[f"rates.{self.dtype}.energy_j_per_flop"])

    #: Whether a layer runs as fewer kernels than it has calls (``pipeline``).
    fuses = False
    splits = False  # attention of a layer's kinds of requests runs on two engines at once
    #: Kinds of calls that ``pieces`` runs as kernels of their own (``Plan.unfused``).
    unfuses: tuple[str, ...] = ()

    def launched(self, price: Price, plans: Plans) -> Price:
        """A call's price under a plan's way to start kernels: here there is but one."""
        return price

    def price(self, call: Call) -> Price:
        """Cost of a call that is no collective, by the method named as its kind."""
        return getattr(self, call.kind)(call)

    def eager(self, call: Call) -> Price:
        """Cost of a call started by the host, unfused.

        Raises:
            InputError: The engine is no GPU.
        """
        raise InputError("eager execution is known of GPUs only", found=call.name)

    def collective(self, call: Call, links: list[Level]) -> tuple[Floats, Floats]:
        """Seconds, and joules of all members together, of a collective."""
        work = all_reduce if call.kind == "all_reduce" else all_to_all
        members, held = np.broadcast_arrays(call.sizes["members"], call.sizes["bytes"])
        return work(links, members, held)

    def kept(self, call: Call) -> Floats:
        """Share of the engine that a collective keeps from the kernels beside it."""
        return np.zeros(1)

    def bound(self, flops: Floats, ops: Floats | float, moved: Floats) -> Price:
        """The roofline of products, scalar operations and traffic."""
        compute = flops / self.peak + ops / self.vector_peak
        memory = moved / self.bandwidth
        joules = flops * self.j_per_flop + moved * self.j_per_byte
        return Price(self.launch + np.maximum(compute, memory), joules, compute, memory, moved)

    def gemm(self, call: Call) -> Price:
        """A matrix product."""
        m, n, k = (call.sizes[x] for x in "mnk")
        act = self.bits.activation / 8.0
        return self.bound(2.0 * m * n * k, 0.0, call.weight_bytes + (m * k + m * n) * act)

    def gemms(self, calls: Sequence[Call]) -> list[Price]:
        """Several matrix products."""
        return [self.gemm(call) for call in calls]

    def moe(self, call: Call) -> Price:
        """Experts: gather, their products and activation, sum."""
        s, act = call.sizes, self.bits.activation / 8.0
        flops = 2.0 * s["pairs"] * s["hidden"] * s["inner"] * (2.0 + s["gated"])
        ops = s["pairs"] * (s["inner"] * s["ops"] + 2.0 * s["hidden"])
        moved = s["pairs"] * (4.0 * s["hidden"] + 4.0 * s["inner"]) + s["tokens"] * s["hidden"]
        return self.bound(flops, ops, call.weight_bytes + moved * act)

    def vector(self, call: Call) -> Price:
        """A vector kernel (with the products a recurrence makes)."""
        return self.bound(
            2.0 * np.asarray(call.macs), call.sizes["ops"], call.sizes["bytes"] + call.weight_bytes
        )

    def attention(self, call: Call) -> Price:
        """Attention over a cache; a causal kernel skips half of the new tokens' square."""
        s = call.sizes
        needed = causal_pairs(s) * s["requests"] * s["heads"]
        seen = np.minimum(s["context"], s["window"] + s["new"] - 1)
        kv = s["requests"] * seen * s["kv_heads"] * self.bits.kv / 8.0
        own = s["requests"] * s["new"] * s["heads"] * self.bits.activation / 8.0
        width = s["head_dim"] + s["value_dim"]
        return self.bound(2.0 * needed * width, 5.0 * needed, (kv + own) * width)

    def latent(self, call: Call) -> Price:
        """Latent attention: the cache is one vector a token, read once for all heads."""
        s = call.sizes
        pairs = causal_pairs({**s, "window": np.full_like(s["new"], np.inf)})
        needed = pairs * s["requests"] * s["heads"]
        width = s["head_dim"] + s["value_dim"]
        latent = s["requests"] * s["context"] * (s["rank"] + s["rope"]) * self.bits.kv / 8.0
        written = s["requests"] * s["context"] * s["heads"] * width * self.bits.activation / 8.0
        own = s["requests"] * s["new"] * s["heads"] * width * self.bits.activation / 8.0
        moved = own + np.where(s["absorbed"] > 0, latent, written)
        return self.bound(2.0 * needed * width, 5.0 * needed, moved)


def causal_pairs(s) -> Floats:
    """Query and key pairs a causal mask and a window leave, for one head of one request."""
    new, context, window = s["new"], s["context"], s["window"]
    past = context - new
    whole = new * past + new * (new + 1.0) / 2.0
    rising = np.clip(window - past, 0.0, new)  # tokens that see fewer than a window
    capped = (
        rising * past
        + rising * (rising + 1.0) / 2.0
        + (new - rising) * np.where(np.isfinite(window), window, 0.0)
    )
    return np.where(context <= window, whole, np.minimum(whole, capped))
