"""A language model on a machine of many devices, under a plan: time, energy, memory, and why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

from archsim.errors import InputError
from archsim.hardware import GpuEngine, Machine, NodeTable, load_machine, resolve_node
from archsim.system.llm import collectives
from archsim.system.llm.calls import Call, end_calls
from archsim.system.llm.collectives import Level
from archsim.system.llm.mixed import Share, grid_of, mixed_cache_bytes, mixed_layer_calls
from archsim.system.llm.plan import Plan
from archsim.system.llm.pricing import NOTHING, Price, Roofline, pricer_for
from archsim.system.llm.tiers import tier_path
from archsim.workload.huggingface import load_model
from archsim.workload.language import LanguageModel
from archsim.workload.steps import PHASES, Bits

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class StepCost:
    """What a step costs under each of B plans and sizes; arrays are float64[B].

    Attributes:
        model, machine: Names.
        phase: ``prefill`` or ``decode``.
        latency_s: Time of the step: to the first token (prefill), of one more token (decode; with
            micro-batches in a full pipeline, the time between a request's tokens).
        tokens: New tokens of the step.
        energy_j: Energy of the step: kernels, links, and the idle power of the machine's parts.
        memory_bytes: Held by one device, by what: ``weights``, ``cache``, ``workspace``.
        capacity_bytes: Of the tier that holds it.
        far_overflow_bytes: Bytes of weights beyond what the tier they lie in holds, where that is
            another one.
        parts_s: Time of one pass by part, ``streaming`` (waiting for weights from another tier)
            and ``pipeline`` (what the stages add); they sum to the latency.
        calls_s: Time of one pass by call, all layers (what a ladder hides included).
        bound_s: Time of one pass by what limits its calls: ``compute``, ``memory``, ``overhead``
            (launches and what a kernel adds), ``links``, ``streaming``.
        plans: The plan of every row.
    """

    model: str
    machine: str
    phase: str
    latency_s: Floats
    tokens: Floats
    energy_j: Floats
    memory_bytes: Mapping[str, Floats]
    capacity_bytes: float
    far_overflow_bytes: Floats
    parts_s: Mapping[str, Floats]
    calls_s: Mapping[str, Floats]
    bound_s: Mapping[str, Floats]
    plans: tuple[Plan, ...]

    @property
    def tokens_per_s(self) -> Floats:
        """New tokens of all requests a second."""
        return self.tokens / self.latency_s

    @property
    def joules_per_token(self) -> Floats:
        """Energy of a token."""
        return self.energy_j / self.tokens

    @property
    def power_w(self) -> Floats:
        """Average power over the step."""
        return self.energy_j / self.latency_s

    @property
    def overflow_bytes(self) -> Floats:
        """Bytes that a device, or a tier of weights, would need beyond its capacity; 0 if none."""
        own = np.maximum(sum(self.memory_bytes.values()) - self.capacity_bytes, 0.0)
        return own + self.far_overflow_bytes

    @property
    def fits(self) -> NDArray[np.bool_]:
        """Whether weights, caches and workspace fit into the devices' memory."""
        return self.overflow_bytes == 0

    def explain(self, row: int = 0) -> str:
        """One step in words: time and its parts, what limits it, memory, energy."""
        at = self.latency_s[row]
        word = "time to first token" if self.phase == "prefill" else "time per output token"
        lines = [
            f"{self.model} on {self.machine}, {self.phase}, plan {self.plans[row]}",
            f"{word:24}{_time(at)}   {self.tokens_per_s[row]:,.1f} tokens/s",
            f"{'energy':24}{self.joules_per_token[row]:.4g} J/token   {self.power_w[row]:,.0f} W",
        ]
        held = sum(values[row] for values in self.memory_bytes.values())
        state = "fits" if self.fits[row] else "OUT OF MEMORY"
        detail = ", ".join(f"{n} {v[row] / 1e9:.2f}" for n, v in self.memory_bytes.items())
        lines.append(
            f"{'memory of a device':24}{held / 1e9:.2f} of {self.capacity_bytes / 1e9:.2f} GB "
            f"({detail}): {state}"
        )
        for title, parts in (("parts", self.parts_s), ("limited by", self.bound_s)):
            ranked = sorted(parts.items(), key=lambda part: -part[1][row])
            shown = [f"{n} {_time(v[row])} ({v[row] / at:.0%})" for n, v in ranked if v[row] > 0]
            lines.append(f"{title:24}" + ", ".join(shown))
        return "\n".join(lines)

    def to_dict(self, row: int = 0) -> dict[str, object]:
        """Plain data of one row, for JSON."""
        return {
            "model": self.model,
            "machine": self.machine,
            "phase": self.phase,
            "plan": str(self.plans[row]),
            "latency_s": float(self.latency_s[row]),
            "tokens_per_s": float(self.tokens_per_s[row]),
            "energy_j": float(self.energy_j[row]),
            "joules_per_token": float(self.joules_per_token[row]),
            "power_w": float(self.power_w[row]),
            "fits": bool(self.fits[row]),
            "memory_bytes": {n: float(v[row]) for n, v in self.memory_bytes.items()},
            "capacity_bytes": self.capacity_bytes,
            "parts_s": {n: float(v[row]) for n, v in self.parts_s.items()},
            "calls_s": {n: float(v[row]) for n, v in self.calls_s.items()},
            "bound_s": {n: float(v[row]) for n, v in self.bound_s.items()},
        }


def _time(seconds: float) -> str:
    for unit, scale in (("s", 1.0), ("ms", 1e3), ("us", 1e6)):
        if seconds * scale >= 1:
            return f"{seconds * scale:.4g} {unit}"
    return f"{seconds * 1e6:.3g} us"


def evaluate_step(
    model: LanguageModel | str,
    machine: Machine | str,
    *,
    phase: str = "decode",
    batch: ArrayLike = 1,
    context: ArrayLike = 1,
    new: ArrayLike | None = None,
    plan: Plan | str | Sequence[Plan | str] = "tp1",
    bits: Bits | None = None,
    all_logits: bool = False,
    imbalance: float = 1.0,
    beside: Sequence[Share] = (),
) -> StepCost:
    """Cost of steps of a language model; sizes and plans broadcast to B rows.

    Args:
        model: A model, the name of a shipped one, or a config.
        machine: A machine, the name of a shipped one (``h100x8``), or a file.
        phase: ``prefill`` or ``decode``.
        batch: Requests.
        context: Tokens in each one's cache after the step.
        new: New tokens of each; default all (prefill) or one (decode).
        plan: Degrees of parallelism, or one for each row.
        bits: Bits an element by what it is.
        all_logits: Score every token rather than the last of each request.
        imbalance: Load of the fullest group of experts over the mean, which the others wait for.
        beside: Requests of other kinds in the same step (chunks of prompts beside decoding), which
            share its weights; ``batch`` may then be 0 where a row has none of a kind.

    Raises:
        InputError: A size that is no positive whole number, a plan that needs more devices than the
            machine has or cuts what cannot be cut, or a model or machine that cannot be read.

    Example:
        >>> cost = evaluate_step("llama-3-70b", "h100x8", batch=32, context=4096, plan="tp8")
        >>> bool(cost.fits[0]), bool(5e-3 < cost.latency_s[0] < 20e-3)
        (True, True)
        >>> mixed = evaluate_step("llama-3-70b", "h100x8", batch=32, context=4096, plan="tp8",
        ...                       beside=[Share(batch=1, new=512, context=2048)])
        >>> float(mixed.tokens[0]), bool(mixed.latency_s[0] > cost.latency_s[0])
        (544.0, True)
    """
    if isinstance(model, str):
        model = load_model(model)
    if isinstance(machine, str):
        machine = load_machine(machine)
    if phase not in PHASES:
        raise InputError("no such phase", field="phase", found=phase, expected=" or ".join(PHASES))
    given = [plan] if isinstance(plan, (Plan, str)) else list(plan)
    plans = [Plan.parse(p) if isinstance(p, str) else p for p in given]
    if new is None:
        new = context if phase == "prefill" else 1
    kinds = _kinds((Share(batch, new, context), *beside), len(plans))
    rows = len(kinds[0]["batch"])
    plans = plans * rows if len(plans) == 1 else plans
    _check(model, machine, kinds, plans)
    if not 1 <= imbalance <= 1e6:
        raise InputError("must be at least 1", field="imbalance", found=imbalance)
    work = _Evaluation(model, machine, phase, kinds, tuple(plans), bits or Bits(), imbalance)
    return work.cost(all_logits)


def _kinds(shares: Sequence[Share], plans: int) -> list[dict[str, Floats]]:
    """Sizes of every kind of requests, one row a step.

    Raises:
        InputError: A size is no whole number in its range, or a row has no requests.
    """
    least = 0 if len(shares) > 1 else 1
    kinds = [
        {"batch": _counts("batch", share.batch, least), "new": _counts("new", share.new),
         "context": _counts("context", share.context)}
        for share in shares
    ]  # fmt: skip
    every = [column for kind in kinds for column in kind.values()]
    shape = np.broadcast_shapes(*(column.shape for column in every), (plans,))
    if len(shape) != 1:
        raise InputError("sizes must be numbers or one-dimensional", found=shape)
    kinds = [{n: np.broadcast_to(c, shape).astype(float) for n, c in k.items()} for k in kinds]
    if (sum(kind["batch"] for kind in kinds) < 1).any():
        raise InputError("a step needs at least one request", field="batch")
    return kinds


def _counts(name: str, value: ArrayLike, least: int = 1) -> NDArray[np.float64]:
    values = np.atleast_1d(np.asarray(value, dtype=float))
    good = np.isfinite(values) & (values >= least) & (values == np.rint(values)) & (values < 2**40)
    if not values.size or not good.all():
        found = values[~good][0] if values.size else value
        raise InputError("must be a positive whole number", field=name, found=found)
    return values


def _check(
    model: LanguageModel,
    machine: Machine,
    kinds: Sequence[Mapping[str, Floats]],
    plans: Sequence[Plan],
) -> None:
    arch = model.architecture
    for sizes in kinds:
        if (sizes["context"] < sizes["new"]).any():
            raise InputError("the context includes the new tokens", field="context")
        if not arch.causal and (sizes["context"] != sizes["new"]).any():
            raise InputError(
                "an encoder has no cache (phase prefill)", source=model.name, field="new"
            )
    devices = machine.instances()
    for plan in dict.fromkeys(plans):
        if plan.weights is not None:
            machine.item("tiers", plan.weights)
        if plan.eager and not isinstance(machine.engines[0], GpuEngine):
            raise InputError(
                "eager execution is known of GPUs only", source=machine.name, field="plan",
                found=str(plan),
            )  # fmt: skip
        if plan.devices > devices:
            raise InputError(
                "the plan needs more devices than the machine has",
                source=machine.name, field="plan", found=str(plan), expected=f"at most {devices}",
            )  # fmt: skip
        if plan.pipeline > len(arch.layers):
            raise InputError(
                "more stages than layers", source=model.name, field="plan", found=str(plan),
                expected=f"at most {len(arch.layers)}",
            )  # fmt: skip


@lru_cache(maxsize=64)
def _figures(machine: Machine, bits: Bits) -> tuple[NodeTable, list[Level], Roofline]:
    """What of a machine stays the same from step to step; nothing changes them."""
    node = resolve_node(machine)
    return node, collectives.levels(machine, node), pricer_for(machine, node, bits)


class _Evaluation:
    """Prices the calls of every distinct layer and puts stages together."""

    def __init__(
        self,
        model: LanguageModel,
        machine: Machine,
        phase: str,
        kinds: Sequence[Mapping[str, Floats]],
        plans: tuple[Plan, ...],
        bits: Bits,
        imbalance: float,
    ) -> None:
        self.model, self.machine, self.phase = model, machine, phase
        self.plans, self.bits = plans, bits
        self.tokens = sum(kind["batch"] * kind["new"] for kind in kinds)
        self.node, self.links, self.pricer = _figures(machine, bits)

        def column(name: str) -> Floats:
            return np.array([getattr(plan, name) for plan in plans], dtype=float)

        self.pipeline, self.micro = column("pipeline"), column("micro_batches")
        self.ladder = np.array([plan.ladder for plan in plans])
        self.eager = np.array([plan.eager for plan in plans])
        self.devices = np.array([plan.devices for plan in plans], dtype=float)
        cuts = {name: column(name) for name in ("tensor", "data", "expert")}
        parts = [{**kind, "batch": np.ceil(kind["batch"] / self.micro)} for kind in kinds]
        self.grid = grid_of(parts, cuts, imbalance)
        zero = np.zeros(len(plans))
        self.calls_s: dict[str, Floats] = {}
        self.parts_s: dict[str, Floats] = {}
        self.bound_s = {n: zero.copy() for n in ("compute", "memory", "overhead", "links")}
        self.joules = zero.copy()
        self.priced: dict[str, tuple[Call, Price]] = {}
        self.weights, self.cache, self.workspace = zero.copy(), zero.copy(), zero.copy()
        self.fetched, self.largest = zero.copy(), zero.copy()

    def run(self, calls: Sequence[Call], times: float) -> Floats:
        """Price calls that happen ``times`` a pass; returns their seconds together."""
        total = np.zeros(len(self.plans))
        products = [call for call in calls if call.kind == "gemm" and self._known(call) is None]
        if products:
            for call, price in zip(products, self.pricer.gemms(products), strict=True):
                self._keep(call, price)
        sides = {(part, kind): np.zeros(len(self.plans)) for part in "ab" for kind in "wr"}
        for call in calls:
            if call.kind in ("all_reduce", "all_to_all"):
                seconds = self._collective(call, times)
            else:
                seconds = self._kernel(call, times)
            total += seconds
            kind = "r" if call.kind == "all_reduce" else "w"
            sides["a" if call.name.startswith("mixer") else "b", kind] += seconds
            self._add(self.calls_s, call.name, seconds * times)
            self._add(self.parts_s, _part(call), seconds * times)
        # Ladder: the sum after one part runs beside the work of the other.
        hidden = np.minimum(sides["a", "w"], sides["b", "r"])
        hidden += np.minimum(sides["b", "w"], sides["a", "r"])
        hidden = np.where(self.ladder, hidden, 0.0)
        self._add(self.parts_s, "collectives", -hidden * times)
        self.bound_s["links"] -= hidden * times
        return (total - hidden) * times

    def _kernel(self, call: Call, times: float) -> Floats:
        price = self._price(call)
        if call.kind in ("attention", "latent") and self.eager.any():
            size = call.sizes  # scores, before and after the softmax
            scores = size["requests"] * size["heads"] * size["new"] * size["context"]
            if call.present is not None:
                scores = scores * call.present
            scores = np.where(self.eager, 2.0 * scores * self.bits.activation / 8, 0.0)
            self.workspace = np.maximum(self.workspace, scores)
        every = np.broadcast_to(price.seconds, self.joules.shape)
        self.joules += times * price.joules * self.devices / self.pipeline
        compute, memory = price.compute_s, price.memory_s
        longest = np.minimum(np.maximum(compute, memory), price.seconds)
        self.bound_s["compute"] += times * np.where(compute > memory, longest, 0.0)
        self.bound_s["memory"] += times * np.where(compute > memory, 0.0, longest)
        self.bound_s["overhead"] += times * (price.seconds - longest)
        if call.kind == "gemm":
            m, n, k = (call.sizes[x] for x in "mnk")
            self.workspace = np.maximum(self.workspace, m * (k + n) * self.bits.activation / 8)
        return every

    def _price(self, call: Call) -> Price:
        """Price of a kernel; layers that differ elsewhere share theirs."""
        before = self._known(call)
        if before is not None:
            return before
        return self._keep(call, self.pricer.price(call))

    def _known(self, call: Call) -> Price | None:
        before = self.priced.get(call.name)
        return before[1] if before is not None and before[0].same(call) else None

    def _keep(self, call: Call, price: Price) -> Price:
        if self.eager.any():
            price = self.pricer.eager(call).where(self.eager, price)
        if call.present is not None:
            price = price.where(call.present, NOTHING)
        self.priced[call.name] = call, price
        return price

    def _collective(self, call: Call, times: float) -> Floats:
        members = np.broadcast_to(call.sizes["members"], self.joules.shape)
        seconds, joules = self.pricer.collective(call, self.links)
        groups = self.devices / self.pipeline / members
        self.joules += times * joules * groups
        self.bound_s["links"] += times * seconds
        return seconds

    @staticmethod
    def _add(into: dict[str, Floats], name: str, value: Floats) -> None:
        into[name] = into.get(name, np.zeros_like(value)) + value

    def cost(self, all_logits: bool) -> StepCost:
        """Price everything and put the stages together."""
        arch, grid = self.model.architecture, self.grid
        depth = len(arch.layers)
        stage = np.ceil(depth / self.pipeline) / depth  # of the layers, in the fullest stage
        body = np.zeros(len(self.plans))
        for layer, count in Counter(arch.layers).items():
            calls = mixed_layer_calls(arch, layer, grid, self.bits)
            body = body + self.run(calls, float(count))
            held = sum(call.weight_bytes + call.idle_bytes for call in calls)
            self.weights = self.weights + held * count * stage
            self.fetched = self.fetched + sum(call.weight_bytes for call in calls) * count * stage
            self.largest = np.maximum(self.largest, held)
            self.cache = self.cache + mixed_cache_bytes(layer, grid, self.bits) * count * stage
        ends = end_calls(arch, grid, self.bits, all_logits)
        tail = self.run(ends, 1.0)
        ends_held = sum(call.weight_bytes + call.idle_bytes for call in ends)
        cached = self.cache * self.micro if arch.causal else np.zeros_like(self.cache)
        far, waited, joules_far = self._stream(body * stage)
        body = body + waited / stage
        once = body + tail
        handed = grid.tokens * arch.width * self.bits.activation / 8 / grid.tensor
        send, joules = collectives.point_to_point(self.links, grid.tensor * grid.data, handed)
        send = np.where(self.pipeline > 1, send, 0.0)
        slowest = body * stage + tail + send
        through = once + (self.pipeline - 1) * send
        if self.phase == "decode":
            latency = np.maximum(through, self.micro * slowest)
        else:
            latency = through + (self.micro - 1) * slowest
        self.parts_s["streaming"] = waited / stage
        self.bound_s["streaming"] = waited / stage
        self.parts_s["pipeline"] = latency - once
        energy = (self.joules + joules_far) * self.micro + self._sent(joules)
        energy = energy + self._idle_w() * latency
        held = self.weights + ends_held
        memory = {"weights": held, "cache": cached, "workspace": self.workspace}
        capacity = float(self.node.tiers[self.pricer.tier_name]["capacity_bytes"][0])
        return StepCost(
            self.model.name, self.machine.name, self.phase, latency, self.tokens, energy, memory,
            capacity, far, self.parts_s, self.calls_s, self.bound_s, self.plans,
        )  # fmt: skip

    def _stream(self, body: Floats) -> tuple[Floats, Floats, Floats]:
        """Weights of layers that lie in another tier (those of the two ends stay).

        Each micro-batch fetches them anew.

        Returns:
            Bytes that tier lacks, seconds a stage waits for weights in a pass, joules of all
            devices.
        """
        short, waited, joules = (np.zeros_like(body) for _ in range(3))
        home = self.pricer.tier_name
        for name in {plan.weights for plan in self.plans} - {None, home}:
            here = np.array([plan.weights == name for plan in self.plans])
            path = tier_path(self.machine, self.node, str(name), home)
            tier = self.node.tiers[str(name)]
            share = self.weights * self.devices / tier["instances"]
            short = np.where(here, np.maximum(share - tier["capacity_bytes"], 0.0), short)
            waited = np.where(here, np.maximum(path.seconds(self.fetched) - body, 0.0), waited)
            moved = self.fetched * self.devices * path.joules_per_byte
            joules = np.where(here, moved, joules)
            # Only the layer that runs and the one that comes are held.
            self.weights = np.where(here, 2.0 * self.largest, self.weights)
        return short, waited, joules

    def _sent(self, joules: Floats) -> Floats:
        """Energy of handing activations from stage to stage."""
        senders = self.devices / self.pipeline * (self.pipeline - 1)
        return joules * senders * self.micro

    def _idle_w(self) -> float:
        parts = self.machine.parts
        return sum(
            (p.idle_w or 0.0) * p.per_group * self.machine.instances(p.within) for p in parts
        )


def _part(call: Call) -> str:
    """The part of the model a call belongs to."""
    if call.kind in ("all_reduce", "all_to_all"):
        return "collectives"
    if call.kind in ("attention", "latent") or call.name.endswith("recurrence"):
        return "attention"
    first = call.name.split(".")[0]
    return {"mixer": "projections", "mlp": "mlp", "moe": "experts"}.get(first, "norms and ends")
