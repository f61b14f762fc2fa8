"""Processors beside memories that compute: what runs where, split by operations a byte.

Every product, expert and attention over a cache is priced on both engines; the faster one takes it.
With the policy ``split`` two parts of a layer run on both at the same time: experts, of which those
with the fewest tokens go to the memory (Duplex, MICRO'24, section 5), and attention of a mixed
step, where single new tokens go to the memory while prompts stay with the processor. The same
memory serves both: units read rows inside while the processor reads others over the pins.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from archsim.errors import InputError
from archsim.hardware import Machine, NodeTable, resolve_node
from archsim.hardware.pim import POLICIES, TAKES, PimEngine
from archsim.system.llm.calls import Call
from archsim.system.llm.collectives import Level
from archsim.system.llm.roofline import Price, Roofline
from archsim.system.llm.rows import Plans
from archsim.workload.steps import Bits

if TYPE_CHECKING:
    from archsim.models.pim import Product

Floats = NDArray[np.float64]
_OFFLOAD, _SPLIT = POLICIES.index("offload"), POLICIES.index("split")
#: Kinds of calls that memories can take, and the last place in ``TAKES`` that has them.
TAKEN = {"gemm": TAKES.index("any"), "moe": TAKES.index("experts_attention"),
         "attention": TAKES.index("attention"), "latent": TAKES.index("attention")}  # fmt: skip


def pim_engine(machine: Machine) -> PimEngine:
    """The memory's units of a machine.

    Raises:
        InputError: It has none.
    """
    for engine in machine.engines:
        if isinstance(engine, PimEngine):
            return engine
    raise InputError(
        "this machine has no memory that computes", source=machine.name, field="engines",
        expected="an engine of kind pim",
    )  # fmt: skip


def _product(engine: PimEngine) -> Product:
    """An engine's memory at command level, with as many stacks as the engine's."""
    from archsim.models.pim import load_product

    found = load_product(engine.product or "")
    return load_product(found.model_dump(mode="json") | {"stacks": engine.stacks})


def expert_loads(experts: Floats, pairs: Floats) -> Floats:
    """Tokens of each expert of a device under uniform choice, fewest first.

    The expected order statistics of independent Poisson loads, by their middle quantiles, scaled to
    the given sum; experts beyond a row's number have none.

    Args:
        experts: Of the device, float64[B].
        pairs: Tokens that they get together, float64[B].

    Returns:
        float64[most experts, B].

    Example:
        >>> expert_loads(np.array([4.0]), np.array([40.0]))[:, 0].round(1).tolist()
        [6.0, 9.0, 11.0, 14.0]
    """
    from scipy.stats import poisson

    asked = np.stack(np.broadcast_arrays(experts, pairs))
    # Designs of a batch differ in hardware more than in loads.
    (experts, pairs), back = np.unique(asked, axis=1, return_inverse=True)
    most = int(experts.max())
    # Absent experts come first, with nothing.
    rank = np.arange(most, dtype=float)[:, None] - (most - experts)
    share = np.clip((rank + 0.5) / experts, 1e-9, 1 - 1e-9)
    mean = np.maximum(pairs / experts, 1e-9)
    loads = np.where(rank >= 0, poisson.ppf(share, mean), 0.0)
    # Few tokens: at least one expert has some.
    loads[-1] = np.maximum(loads[-1], np.minimum(pairs, 1.0))
    loads = loads * pairs / np.maximum(loads.sum(0), 1e-30)
    return loads[:, back.reshape(-1)]


def dealt(loads: Floats, experts: Floats, spaces: Floats) -> tuple[Floats, NDArray[np.bool_]]:
    """Loads of experts that are dealt over parts of a memory, the part with the fewest first.

    Experts are dealt one by one in the order of their loads, so that sums of the parts spread about
    as those of experts dealt at random.

    Args:
        loads: As of :func:`expert_loads`, float64[most experts, B].
        experts: Of the device, float64[B].
        spaces: Parts of the memory, float64[B]; with 0, or no more experts than parts, every expert
            stands alone.

    Returns:
        Loads in the new order; whether a part ends after the first 0, 1, ... of them, bool[most
        experts + 1, B or 1].

    Example:
        >>> four = np.array([[6.0], [9.0], [11.0], [14.0]])
        >>> loads, ends = dealt(four, np.array([4.0]), np.array([2.0]))
        >>> loads[:, 0].tolist(), ends[:, 0].tolist()
        ([6.0, 11.0, 9.0, 14.0], [True, False, True, False, True])
    """
    most = len(loads)
    together = (spaces > 0) & (experts > spaces)
    if not together.any():
        return loads, np.ones((most + 1, 1), bool)
    rank = np.floor(np.arange(most, dtype=float)[:, None] - (most - experts))
    part = np.where(together & (rank >= 0), rank % np.maximum(spaces, 1.0), rank)
    order = np.argsort(part, axis=0, kind="stable")
    loads, part = (np.take_along_axis(x, order, axis=0) for x in np.broadcast_arrays(loads, part))
    ends = np.ones((most + 1, loads.shape[1]), bool)
    ends[1:-1] = part[1:] != part[:-1]
    return loads, ends


@dataclass(frozen=True, eq=False)
class Split:
    """What a call takes on each engine, and how it is laid on them; float64[B].

    Attributes:
        xpu_s, pim_s: Time of each engine on its part.
        share: Of the operations, on the memory's units.
        flops, bytes: Operations, and bytes of weights or cache they read.
    """

    xpu_s: Floats
    pim_s: Floats
    share: Floats
    flops: Floats
    bytes: Floats


def _up_to_each(values: Floats) -> Floats:
    """Sums of the first 0, 1, ... values along the first axis."""
    return np.concatenate([np.zeros((1, *values.shape[1:])), np.cumsum(values, 0)])


def _from_each(values: Floats) -> Floats:
    """Sums of all values but the first 0, 1, ... along the first axis."""
    return _up_to_each(values[::-1])[::-1]


class PimPricer(Roofline):
    """A processor's pricer with the units of its memory beside it.

    Without a ``pim`` engine, or with one without bandwidth or multipliers, prices are the
    processor's alone.

    Args:
        xpu: Prices what stays with the processor.
        machine, node, bits: As for every pricer.
    """

    def __init__(self, xpu: Roofline, machine: Machine, node: NodeTable, bits: Bits) -> None:
        super().__init__(machine, node, bits)
        self.xpu = xpu
        engines = [e for e in machine.engines if e.kind == "pim"]
        figures = node.engines[engines[0].name] if engines else None
        self.has_pim, self.spaces = figures is not None, np.zeros(1)
        inner = machine.groups[-1].name if machine.groups else None
        self.ring = any(x.across == inner and x.topology == "ring" for x in machine.links)
        if figures is not None:
            tier = node.tiers[engines[0].backing]
            self.pim_bandwidth = tier["bandwidth_bytes_per_s"] * figures["bandwidth_factor"]
            self.pim_peak = figures["flops_per_s"]
            self.pim_start = figures["start_latency_s"]
            self.pim_j_per_byte = 8.0 * figures["read_energy_j_per_bit"]
            self.pim_j_per_flop = figures["mac_energy_j"] / 2.0
            self.policy, self.takes = figures["policy"], figures["takes"]
            self.pim_buffer = figures["buffer_bytes"]
            issued = np.asarray(figures["fidelity"]) > 0
            self.issued = issued if issued.any() else None
            self.product = _product(pim_engine(machine)) if issued.any() else None
            usable = (self.pim_bandwidth > 0) & (self.pim_peak > 0) & (self.policy >= _OFFLOAD)
            self.usable, self.softmax = usable, figures["softmax"] > 0
            parted = usable & (self.policy == _SPLIT)
            self.splits, self.spaces = bool(parted.any()), np.where(parted, figures["spaces"], 0.0)

    # --------------------------------------------------------------------- one engine's prices

    def inside(
        self,
        flops: Floats,
        read: Floats,
        moved: Floats,
        operands: Floats | float = 0.0,
        reached: Floats | float = 1.0,
    ) -> Price:
        """A call on the memory's units.

        Args:
            flops: Operations.
            read: Bytes of weights or cache that they read inside.
            moved: Bytes of activations to and from them, over the pins.
            operands: Bytes of vectors that the read bytes are multiplied by. Half of a stack's
                buffers hold them (the other half the sums); what does not fit comes in passes, each
                of which reads again, at most once a vector's share.
            reached: Share of the units' rates that the shape reaches, see :meth:`reached`.
        """
        with np.errstate(divide="ignore", invalid="ignore"):
            passes = np.maximum(np.ceil(operands / (self.pim_buffer / 2.0)), 1.0)
            compute = np.where(self.usable, flops / self.pim_peak, np.inf)
            # A column is never read more often than it is multiplied.
            passes = np.minimum(passes, np.maximum(flops / np.maximum(read, 1.0), 1.0))
            again = read * passes
            memory = np.where(self.usable, again / self.pim_bandwidth, np.inf)
        memory = np.maximum(memory, moved / self.bandwidth)
        joules = flops * self.pim_j_per_flop + again * self.pim_j_per_byte + moved * self.j_per_byte
        compute, memory = compute / reached, memory / reached
        seconds = self.pim_start + np.maximum(compute, memory)
        return Price(seconds, joules, compute, memory, again + moved)

    def reached(self, m: Floats, n: Floats, k: Floats) -> Floats | float:
        """Share of its rates that a product of some shape reaches, by the commands it takes.

        Rows that open and close, operands, results and refresh; 1 with the fidelity ``roofline``.
        """
        if self.product is None or self.issued is None:
            return 1.0
        from archsim.models.pim import closed_form

        shape = np.broadcast_shapes(*(np.shape(x) for x in (m, n, k)), np.shape(self.issued))
        sizes = [
            np.broadcast_to(np.clip(np.ceil(x), 1.0, 2.0**30), shape).ravel() for x in (m, n, k)
        ]
        cost, peak = closed_form(self.product, *sizes), self.product
        least = np.maximum(cost.bytes / peak.bandwidth_bytes_per_s, cost.flops / peak.flops_per_s)
        share = np.minimum(least / cost.time_s, 1.0).reshape(shape)
        return np.where(self.issued, share, 1.0)

    def _gemm_inside(self, call: Call) -> Price:
        m, n, k = (call.sizes[x] for x in "mnk")
        act = self.bits.activation / 8.0
        held = call.weight_bytes * np.ones_like(m)
        moved, reached = (m * k + m * n) * act, self.reached(m, n, k)
        return self.inside(2.0 * m * n * k, held, moved, m * k * act, reached)

    def _attention_inside(self, call: Call) -> Price:
        """Queries go in, results come out; keys and values are read where they lie."""
        whole = getattr(Roofline, call.kind)(self, call)
        s, act = call.sizes, self.bits.activation / 8.0
        own = s["requests"] * s["new"] * s["heads"] * act * (s["head_dim"] + s["value_dim"])
        flops = whole.compute_s * 0.0 + 2.0 * self._pairs_of(call) * (
            s["head_dim"] + s["value_dim"]
        )
        # Heads that share keys are vectors of one product over the caches of all requests.
        shared = s["heads"] / s["kv_heads"] * s["new"]
        rows = s["requests"] * s["kv_heads"] * s["context"]
        reached = self.reached(shared, rows, s["head_dim"])
        return self.inside(flops, np.maximum(whole.bytes - own, 0.0), own, 0.0, reached)

    def _pairs_of(self, call: Call) -> Floats:
        from archsim.system.llm.roofline import causal_pairs

        s = dict(call.sizes)
        s.setdefault("window", np.full_like(np.asarray(s["new"], float), np.inf))
        return causal_pairs(s) * s["requests"] * s["heads"]

    # ---------------------------------------------------------------------------- both engines

    def split(self, call: Call) -> tuple[Price, Split]:
        """Price of a call laid on both engines, and how it is laid."""
        if call.kind == "moe":
            return self._experts(call)
        outer = self.xpu.price(call)
        if not self.has_pim:
            none = np.zeros_like(outer.seconds)
            flops, read = self._work(call)
            return outer, Split(outer.seconds, none, none, flops, read)
        inner = self._gemm_inside(call) if call.kind == "gemm" else self._attention_inside(call)
        return self._faster(call, outer, inner)

    def _work(self, call: Call) -> tuple[Floats, Floats]:
        """Operations of a call, and bytes of weights or cache."""
        s = call.sizes
        if call.kind == "gemm":
            return 2.0 * s["m"] * s["n"] * s["k"], call.weight_bytes * np.ones_like(s["m"])
        width = s["head_dim"] + s["value_dim"]
        own = s["requests"] * s["new"] * s["heads"] * self.bits.activation / 8.0 * width
        read = np.maximum(getattr(Roofline, call.kind)(self, call).bytes - own, 0.0)
        return 2.0 * self._pairs_of(call) * width, read

    def _faster(self, call: Call, outer: Price, inner: Price) -> tuple[Price, Split]:
        better = (inner.seconds < outer.seconds) & (self.takes <= TAKEN[call.kind])
        price = inner.where(better, outer)
        flops, read = self._work(call)
        zero = np.zeros_like(price.seconds)
        return price, Split(
            np.where(better, zero, outer.seconds), np.where(better, inner.seconds, zero),
            better * np.ones_like(zero), flops, read,
        )  # fmt: skip

    def _experts(self, call: Call) -> tuple[Price, Split]:
        """Experts, each with its own load; the fewest tokens to the memory."""
        s, act = call.sizes, self.bits.activation / 8.0
        loads = expert_loads(s["experts"], s["pairs"])
        loads, ends = dealt(loads, s["experts"], self.spaces)
        each = s["hidden"] * s["inner"] * (2.0 + s["gated"])
        flops = 2.0 * loads * each
        weights = np.minimum(loads, 1.0) * each * self.bits.weight / 8.0
        outer, launch = self._experts_outside(call, loads, flops, weights)
        # Row i of each: what engines take with the first i experts in the memory.
        outside, outside_j = _from_each(outer.seconds), _from_each(outer.joules)
        first = np.arange(len(outside))[:, None]
        if self.has_pim:
            operands = loads * s["hidden"] * act
            reached = self.reached(loads, s["inner"] * (2.0 + s["gated"]), s["hidden"])
            inner = self.inside(flops, weights, 2.0 * operands, operands, reached)
            inside = _up_to_each(inner.seconds - self.pim_start)
            inside = inside + np.where(first > 0, self.pim_start, 0.0)
            inside_j = _up_to_each(inner.joules)
            whole = (first == 0) | (first == len(loads))
            ready = self.usable & (self.takes <= TAKEN["moe"])
            allowed = (whole | ends & (self.policy == _SPLIT)) & (ready | (first == 0))
        else:
            inside = inside_j = np.zeros_like(outside)
            allowed = first == 0
        both = np.where(allowed, np.maximum(inside, outside), np.inf)
        best = np.argmin(both, axis=0)[None]

        def at(values: Floats) -> Floats:
            return np.take_along_axis(np.broadcast_to(values, both.shape), best, axis=0)[0]

        longest, work = at(both), flops.sum(0)
        price = Price(
            longest + np.where(at(outside) > 0, launch, 0.0), at(outside_j) + at(inside_j),
            np.minimum(outer.compute_s.sum(0), longest), longest, outer.bytes.sum(0),
        )  # fmt: skip
        share = at(_up_to_each(flops)) / np.maximum(work, 1e-30)
        return price, Split(at(outside), at(inside), share, work, weights.sum(0))

    def _experts_outside(
        self, call: Call, loads: Floats, flops: Floats, weights: Floats
    ) -> tuple[Price, Floats | float]:
        """Price of every expert on the processor, and what starting any of them takes beside it."""
        s, act = call.sizes, self.bits.activation / 8.0
        ops = loads * (s["inner"] * s["ops"] + 2.0 * s["hidden"])
        moved = loads * (4.0 * s["hidden"] + 4.0 * s["inner"]) * act
        moved[-1] = moved[-1] + s["tokens"] * s["hidden"] * act
        compute = flops / self.peak + ops / self.vector_peak
        memory = (weights + moved) / self.bandwidth
        seconds = np.maximum(compute, memory)
        joules = flops * self.j_per_flop + (weights + moved) * self.j_per_byte
        launch: Floats | float = self.xpu.launch
        if type(self.xpu) is not Roofline:  # kernel models know more: their total, by these shares
            launch, whole = 0.0, self.xpu.moe(call)
            seconds = seconds * (whole.seconds / seconds.sum(0))
            joules = joules * (whole.joules / joules.sum(0))
        return Price(seconds, joules, compute, memory, weights + moved), launch

    def price(self, call: Call) -> Price:
        """Cost of a call that is no collective."""
        if call.kind in TAKEN:
            return self.split(call)[0]
        return self.xpu.price(call)

    def gemms(self, calls: Sequence[Call]) -> list[Price]:
        """Several matrix products."""
        outer = self.xpu.gemms(calls)
        if not self.has_pim:
            return outer
        return [
            self._faster(call, price, self._gemm_inside(call))[0]
            for call, price in zip(calls, outer, strict=True)
        ]

    def gemm(self, call: Call) -> Price:
        """A matrix product."""
        return self.gemms([call])[0]

    def collective(self, call: Call, links: list[Level]) -> tuple[Floats, Floats]:
        """Seconds, and joules of all members together, of a collective.

        Members joined in a ring add up along it, in 2 (p - 1) steps from neighbour to neighbour.
        """
        seconds, joules = self.xpu.collective(call, links)
        if call.kind == "all_reduce" and self.ring and links:
            members, held = np.broadcast_arrays(call.sizes["members"], call.sizes["bytes"])
            steps = 2.0 * (np.maximum(members, 1.0) - 1.0)
            near = steps * (links[0].latency + held / np.maximum(members, 1.0) / links[0].bandwidth)
            seconds = np.where(members <= links[0].members, near, seconds)
        return seconds, joules

    def eager(self, call: Call) -> Price:
        """Cost of a call started by the host, on the processor."""
        return self.xpu.eager(call)

    def launched(self, price: Price, plans: Plans) -> Price:
        """As the processor starts its kernels."""
        return self.xpu.launched(price, plans)

    def beside(self, calls: Sequence[Call]) -> tuple[Floats, Floats] | None:
        """What a layer's attention saves when its kinds of requests run on both engines at once.

        Returns:
            Seconds of the layer saved, and joules added; None where nothing can be.
        """
        parts = [c for c in calls if c.kind in ("attention", "latent")]
        if not self.has_pim or not self.splits or len(parts) < 2:
            return None
        usable = self.usable & (self.policy == _SPLIT)
        zero = np.zeros(1)
        sums = [zero] * 6  # seconds and joules: as placed, processor, memory
        for call in parts:
            there = np.ones(1) if call.present is None else call.present.astype(float)
            single = np.where(np.asarray(call.sizes["new"]) <= 1, there, 0.0)
            prompt = there - single
            placed = self.split(call)[0]
            out, ins = self.xpu.price(call), self._attention_inside(call)
            inside = np.where(usable, ins.seconds, 0.0)
            more = (there * placed.seconds, there * placed.joules, prompt * out.seconds,
                    prompt * out.joules, single * inside, single * ins.joules)  # fmt: skip
            sums = [a + b for a, b in zip(sums, more, strict=True)]
        both = np.maximum(sums[2], sums[4])
        gain = usable & (both < sums[0])
        saved, added = sums[0] - both, sums[3] + sums[5] - sums[1]
        return np.where(gain, saved, 0.0), np.where(gain, added, 0.0)


def inside_product(
    machine: Machine, tokens: Floats, outputs: int = 16384, width: int = 4096
) -> dict[str, Floats]:
    """One product on the memory's units alone: delay, energy, their area, and EDAP.

    Args:
        machine: With a ``pim`` engine.
        tokens: Operations a byte of 16-bit weights, float64[B].
        outputs, width: Of the matrix.

    Returns:
        ``delay_s``, ``energy_j``, ``area_mm2`` and ``edap`` (their product), float64[B].

    Raises:
        InputError: The machine has no ``pim`` engine.
    """
    engine = pim_engine(machine)
    node = resolve_node(machine)
    bits = Bits()
    pricer = PimPricer(Roofline(machine, node, bits), machine, node, bits)
    held = np.full_like(tokens, outputs * width * bits.weight / 8.0)
    # Operands are in the units' buffers, as in Duplex's figure.
    price = pricer.inside(2.0 * tokens * outputs * width, held, np.zeros_like(tokens))
    area = node.engines[engine.name]["area_mm2"]
    edap = price.joules * price.seconds * area
    return {"delay_s": price.seconds, "energy_j": price.joules, "area_mm2": area, "edap": edap}
