"""Dataflow engines: the operators of a layer fused into pipelines that stream through the chip.

An operator by itself is a kernel: it is launched, reads its operands from memory and writes its
result there. A dataflow engine lays consecutive operators side by side on its units and streams
tiles from one to the next (SN40L, MICRO 2024: a decoder layer is one kernel). Then

* results that only the next operators read stay in the on-chip memory;
* the units work on all operators at once, so that the kernel takes the longest of all operations,
  all remaining traffic and all bytes on the links, rather than the sum of each operator's longest;
* one launch is paid, by the host's software or by the hardware that goes on by itself; sums over
  devices run inside the kernel and add their latency.

To read each operand once, an operator keeps one side on chip while the other streams by: the
weights or all rows of a product, the cache of one head or its queries. Consecutive operators share
a kernel while what they keep fits the on-chip memory; where a layer is cut, results cross memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
from numpy.typing import NDArray

from archsim.errors import InputError
from archsim.hardware import Machine, NodeTable
from archsim.hardware.devices import DataflowEngine
from archsim.system.llm.calls import Call
from archsim.system.llm.collectives import Level
from archsim.system.llm.pricing import Price, Roofline
from archsim.system.llm.rows import Plans
from archsim.workload.steps import Bits

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Pipelines:
    """Layers as fused kernels on one device, float64[B] each.

    Attributes:
        compute_s, memory_s, links_s, overhead_s: Time by what limits it; they sum to the time.
        kernels: Kernels launched.
        moved: Bytes to and from the engine's tier.
        kept: Bytes that stayed on chip and would have gone there and back without fusion.
        joules: Energy beside the idle power.
    """

    compute_s: Floats
    memory_s: Floats
    links_s: Floats
    overhead_s: Floats
    kernels: Floats
    moved: Floats
    kept: Floats
    joules: Floats

    @property
    def seconds(self) -> Floats:
        """From start to end."""
        return self.compute_s + self.memory_s + self.links_s + self.overhead_s

    def times(self, count: float) -> Pipelines:
        """That many such layers."""
        return Pipelines(*(count * getattr(self, f.name) for f in fields(self)))

    def __add__(self, other: Pipelines) -> Pipelines:
        pairs = ((getattr(self, f.name), getattr(other, f.name)) for f in fields(self))
        return Pipelines(*(mine + theirs for mine, theirs in pairs))


@dataclass(frozen=True, eq=False)
class Piece:
    """An operator inside a pipeline; bytes, float64[B].

    Attributes:
        outside: Weights and caches, which come from (or go to) memory in any case.
        inward: What it reads of the operator before.
        onward: What it hands to the next.
        held: What stays on chip while the rest streams by.
    """

    outside: Floats
    inward: Floats
    onward: Floats
    held: Floats


class DataflowPricer(Roofline):
    """A dataflow engine, at the share of its units and of its tier's bandwidth that it reaches.

    Calls alone cost as on a roofline with a launch by the hardware.

    Raises:
        InputError: The machine's engine is no dataflow engine.
    """

    fuses = True

    def __init__(self, machine: Machine, node: NodeTable, bits: Bits) -> None:
        super().__init__(machine, node, bits)
        if not isinstance(self.engine, DataflowEngine):
            raise InputError("this machine has no dataflow engine", source=machine.name)
        figures = node.engines[self.engine.name]
        self.peak = self.peak * figures["utilization"]
        self.vector_peak = self.vector_peak * figures["utilization"]
        self.bandwidth = self.bandwidth * figures["memory_efficiency"]
        hosted = self.launch
        own = figures["hardware_launch_latency_s"]
        self.launch = np.where(np.isnan(own), hosted, own)
        self.hosted = np.maximum(hosted - self.launch, 0.0)
        chips = [tier.name for tier in machine.tiers if tier.kind == "SRAM"]
        self.on_chip = chips[0] if chips else None
        self.capacity, self.on_chip_j_per_byte = np.zeros(1), np.zeros(1)
        if self.on_chip is not None:
            tier = node.tiers[self.on_chip]
            self.capacity = tier["capacity_bytes"]
            energy = tier["read_energy_j_per_bit"] + tier["write_energy_j_per_bit"]
            self.on_chip_j_per_byte = 8.0 * energy

    def launched(self, price: Price, plans: Plans) -> Price:
        """A call's price where the host's software starts every kernel."""
        extra = np.where(plans["software"], self.hosted, 0.0)
        return replace(price, seconds=price.seconds + extra)

    def pipeline(
        self, calls: Sequence[Call], prices: Sequence[Price], links: list[Level], plans: Plans
    ) -> Pipelines:
        """One layer as fused kernels.

        Args:
            calls: Of the layer, in order.
            prices: Of every call alone.
            links: Of the machine.
            plans: Whether software launches.
        """
        zero = np.zeros(1)
        kernels, used = np.ones(1), zero
        compute = moved = alone = streamed = latency = zero
        before: Piece | None = None
        for call, price in zip(calls, prices, strict=True):
            if call.kind in ("all_reduce", "all_to_all"):
                empty = {**call.sizes, "bytes": np.zeros_like(call.sizes["bytes"])}
                least, _ = self.collective(replace(call, sizes=empty), links)
                latency, streamed = latency + least, streamed + (price.seconds - least)
                continue
            piece = self.piece(call, price)
            cut = (used > 0) & (used + piece.held > self.capacity)
            handed = piece.inward if before is None else before.onward + piece.inward
            moved = moved + piece.outside + np.where(cut | (before is None), handed, 0.0)
            kernels = kernels + cut
            used = np.where(cut, piece.held, used + piece.held)
            compute, alone = compute + price.compute_s, alone + price.bytes
            before = piece
        assert before is not None
        # The stream past mixer and network is read again where a later kernel adds it.
        past = calls[-1].sizes["bytes"] / (3.0 * calls[-1].launches)
        moved = moved + before.onward + np.minimum(kernels - 1.0, 2.0) * past
        memory = moved / self.bandwidth
        longest = np.maximum(np.maximum(compute, memory), streamed)
        first, second = compute >= longest, memory >= longest
        flops = np.add.reduce(np.broadcast_arrays(*(self._joules_of_work(p) for p in prices)))
        launch = self.launch + np.where(plans["software"], self.hosted, 0.0)
        kept = np.maximum(alone - moved, 0.0)
        return Pipelines(
            np.where(first, longest, 0.0),
            np.where(second & ~first, longest, 0.0),
            latency + np.where(first | second, 0.0, longest),
            kernels * launch,
            kernels + np.zeros_like(moved),
            moved,
            kept,
            flops + moved * self.j_per_byte + kept / 2.0 * self.on_chip_j_per_byte,
        )

    def _joules_of_work(self, price: Price) -> Floats:
        """Energy of a call beside that of its traffic (of a collective: all of it)."""
        return price.joules - price.bytes * self.j_per_byte

    def piece(self, call: Call, price: Price) -> Piece:
        """What of a call's traffic a pipeline keeps on chip."""
        size, act = call.sizes, self.bits.activation / 8.0
        if call.kind == "gemm":
            inward, onward = size["m"] * size["k"] * act, size["m"] * size["n"] * act
            return _piece(price, inward, onward, call.weight_bytes)
        if call.kind in ("attention", "latent"):
            rows = size["requests"] * size["new"] * size["heads"] * act
            inward, onward = rows * size["head_dim"], rows * size["value_dim"]
            heads = size["requests"] * size["kv_heads"]
            return _piece(price, inward, onward, price.bytes - inward - onward, heads)
        if call.kind == "moe":
            half = (price.bytes - call.weight_bytes) / 2.0
            return _piece(price, half, half, call.weight_bytes)
        if call.name.endswith((".recurrence", ".scan")):  # a state in memory, read and written
            return Piece(price.bytes, 0.0 * price.bytes, 0.0 * price.bytes, 0.0 * price.bytes)
        stays = price.bytes - call.weight_bytes
        if call.name.endswith(".keep"):  # new rows of the cache go to memory
            stays = stays * act / (act + self.bits.kv / 8.0)
        onward = stays / (3.0 * call.launches if call.name == "residual" else 2.0)
        return Piece(price.bytes - stays, stays - onward, onward, 0.0 * stays)


def _piece(
    price: Price, inward: Floats, onward: Floats, outside: Floats | float, parts: Floats | float = 1
) -> Piece:
    """An operator that keeps the smaller side: what comes from outside, or what streams by.

    Attention works on one head of one request at a time, of ``parts``. A row that does not make
    the call has no traffic.
    """
    there = price.bytes > 0
    outside, inward, onward = (np.where(there, x, 0.0) for x in (outside, inward, onward))
    return Piece(outside, inward, onward, np.minimum(outside, inward + onward) / parts)
