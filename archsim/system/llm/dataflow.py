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
weights or all rows of a product, the cache of one head or its queries. The operators of a kernel
keep theirs together; a layer that does not fit is cut where it takes the least time, and results
cross memory there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from archsim.errors import InputError
from archsim.hardware import Machine, NodeTable
from archsim.hardware.devices import DataflowEngine
from archsim.system.llm.calls import Call
from archsim.system.llm.collectives import Level
from archsim.system.llm.roofline import Price, Roofline
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
        pieces, compute, alone = [], np.zeros(1), np.zeros(1)
        streamed = latency = np.zeros(1)
        for call, price in zip(calls, prices, strict=True):
            if call.kind in ("all_reduce", "all_to_all"):
                empty = {**call.sizes, "bytes": np.zeros_like(call.sizes["bytes"])}
                least, _ = self.collective(replace(call, sizes=empty), links)
                latency, streamed = latency + least, streamed + (price.seconds - least)
            else:
                pieces.append(self.piece(call, price))
                compute, alone = compute + price.compute_s, alone + price.bytes
        # The stream past mixer and network, which a later kernel reads again to add to it.
        adds = calls[-1].launches
        past = calls[-1].sizes["bytes"] / (3.0 * adds)
        launch = self.launch + np.where(plans["software"], self.hosted, 0.0)
        least_moved = sum((piece.outside for piece in pieces), pieces[0].inward)
        least_moved = least_moved + pieces[-1].onward

        def seconds(kernels: Floats, moved: Floats, rows: Any) -> Floats:
            work = np.maximum(compute, streamed) + np.zeros_like(least_moved)
            memory = moved / np.broadcast_to(self.bandwidth, least_moved.shape)[rows]
            paid = kernels * np.broadcast_to(launch, least_moved.shape)[rows]
            return paid + np.maximum(np.broadcast_to(work, least_moved.shape)[rows], memory)

        kernels, moved = cut(pieces, self.capacity, least_moved, past, adds, seconds)
        memory = moved / self.bandwidth
        longest = np.maximum(np.maximum(compute, memory), streamed)
        first, second = compute >= longest, memory >= longest
        flops = np.add.reduce(np.broadcast_arrays(*(self._joules_of_work(p) for p in prices)))
        kept = np.maximum(alone - moved, 0.0)
        return Pipelines(
            np.where(first, longest, 0.0),
            np.where(second & ~first, longest, 0.0),
            latency + np.where(first | second, 0.0, longest),
            kernels * launch,
            kernels,
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


def cut(
    pieces: Sequence[Piece],
    capacity: Floats,
    least: Floats,
    past: Floats,
    adds: int,
    seconds: Callable[[Floats, Floats, Any], Floats],
) -> tuple[Floats, Floats]:
    """Cut a chain of operators into kernels that fit the on-chip memory, for the least time.

    A kernel keeps what all its operators hold; an operator alone always runs. For every number of
    kernels the cuts with the least traffic are found exactly, by dynamic programming.

    Args:
        pieces: The operators, in order.
        capacity: On-chip memory, bytes.
        least: Traffic of one kernel; float64[B].
        past: Bytes that pass by the other operators to each of the ``adds`` sums, which the last
            piece stands for; a later kernel reads them again (one of sums alone does anyway).
        adds: How many.
        seconds: Time of rows by kernels and traffic.

    Returns:
        Kernels and traffic; float64[B].
    """
    kernels, moved = np.ones_like(least), least.copy()
    held, inward, onward = (
        np.stack([np.broadcast_to(getattr(piece, name), least.shape) for piece in pieces])
        for name in ("held", "inward", "onward")
    )
    room = np.broadcast_to(capacity, least.shape)
    rows = np.flatnonzero(held.sum(axis=0) > room)
    if not rows.size:
        return kernels, moved
    count = len(pieces)
    sums = np.concatenate([np.zeros((1, rows.size)), np.cumsum(held[:, rows], axis=0)])
    # Crossing bytes where a kernel begins; none before the first.
    crossing = np.concatenate([np.zeros((1, rows.size)), onward[:-1, rows] + inward[1:, rows]])
    again = np.broadcast_to(past, least.shape)[rows]
    limit, base = room[rows], least[rows]
    before = np.full((count + 1, rows.size), np.inf)  # least crossing of the first so many pieces
    before[0] = 0.0
    best_s, best_moved = np.full(rows.size, np.inf), np.zeros(rows.size)
    best_kernels = np.ones(rows.size)
    for number in range(1, count + 1):
        now = np.full_like(before, np.inf)
        for end in range(number, count + 1):
            fits = sums[end] - sums[:end] <= limit
            fits[end - 1] = True
            options = np.where(fits, before[:end] + crossing[:end], np.inf)
            if end == count:
                options[:-1] += min(number - 1, adds) * again
            now[end] = options.min(axis=0)
        before = now
        traffic = base + before[count]
        many = np.full(rows.size, float(number))
        time = np.where(np.isfinite(traffic), seconds(many, traffic, rows), np.inf)
        same = np.isclose(time, best_s, rtol=1e-12, atol=0.0)
        better = np.where(same, traffic < best_moved, time < best_s)
        best_s, best_moved, best_kernels = (
            np.where(better, new, old)
            for new, old in ((time, best_s), (traffic, best_moved), (many, best_kernels))
        )
    kernels[rows], moved[rows] = best_kernels, best_moved
    return kernels, moved


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
