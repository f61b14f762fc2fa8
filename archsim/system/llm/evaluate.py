"""A language model on a machine of many devices, under a plan: time, energy, memory, and why.

Every row of a batch may have other sizes, another plan and other hardware; a single step is a batch
of one. What a model launches is made once a batch (``calls``), and prices are functions of arrays
over the rows (``pricing``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from archsim.errors import InputError
from archsim.hardware import Machine, load_machine
from archsim.system.llm import collectives
from archsim.system.llm.calls import Call, end_calls
from archsim.system.llm.cost import StepCost
from archsim.system.llm.mixed import (
    Share,
    StepCalls,
    grid_of,
    kinds_of,
    mixed_cache_bytes,
    mixed_cache_moved,
    row_count,
)
from archsim.system.llm.plan import PLACED, Plan
from archsim.system.llm.resolved import Resolved, resolved
from archsim.system.llm.roofline import NOTHING, Price
from archsim.system.llm.rows import Plans, check, excesses
from archsim.system.llm.spatial import mapped_pricer
from archsim.system.llm.tiers import tier_path
from archsim.workload.architecture import Layer
from archsim.workload.huggingface import load_model
from archsim.workload.language import LanguageModel
from archsim.workload.steps import PHASES, Bits

Floats = NDArray[np.float64]
#: Rows priced together: arrays of so many stay in the cache of a core.
BLOCK = 1024


def evaluate_step(
    model: LanguageModel | str,
    machine: Machine | Resolved | str,
    *,
    phase: str = "decode",
    batch: ArrayLike = 1,
    context: ArrayLike = 1,
    new: ArrayLike | None = None,
    plan: Plan | str | Sequence[Plan | str] | Plans | Mapping[str, Any] = "tp1",
    bits: Bits | None = None,
    all_logits: bool = False,
    imbalance: float = 1.0,
    beside: Sequence[Share] = (),
    overrides: Mapping[str, ArrayLike] | None = None,
    strict: bool = True,
    effort: str | None = None,
) -> StepCost:
    """Cost of steps of a language model; sizes, plans and hardware broadcast to B rows.

    Args:
        model: A model, the name of a shipped one, or a config.
        machine: A machine, the name of a shipped one (``h100x8``), or a file; or designs resolved
            before (``resolved``), which then have their bits and overrides.
        phase: ``prefill`` or ``decode``.
        batch: Requests.
        context: Tokens in each one's cache after the step.
        new: New tokens of each; default all (prefill) or one (decode).
        plan: Degrees of parallelism and placement: one, one for each row, or columns
            (:class:`archsim.system.llm.rows.Plans`).
        bits: Bits an element by what it is.
        all_logits: Score every token rather than the last of each request.
        imbalance: Load of the fullest group of experts over the mean, which the others wait for.
        beside: Requests of other kinds in the same step (chunks of prompts beside decoding), which
            share its weights; ``batch`` may then be 0 where a row has none of a kind.
        overrides: Values of the machine's fields by dotted path, one or one for each row, as
            :func:`archsim.hardware.resolve_node` takes them.
        strict: Refuse rows that no machine or model allows; else price them as if they were
            possible and say how far beyond they are (``StepCost.excess``).
        effort: Spatial engines: how hard to look for mappings of every product (``fast``,
            ``thorough``, ``optimal``); None takes the engine at its peak, a roofline.

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
        >>> faster = {"tiers.hbm.bandwidth_bytes_per_s": [3.352e12, 4.8e12]}
        >>> cost = evaluate_step("llama-3-70b", "h100x8", plan="tp8", overrides=faster)
        >>> bool(cost.latency_s[0] > cost.latency_s[1])
        True
    """
    if isinstance(model, str):
        model = load_model(model)
    if isinstance(machine, str):
        machine = load_machine(machine)
    ready = machine if isinstance(machine, Resolved) else None
    if isinstance(machine, Resolved):
        if bits is not None or overrides:
            raise InputError("resolved designs have their bits and overrides", field="overrides")
        machine = machine.machine
    if phase not in PHASES:
        raise InputError("no such phase", field="phase", found=phase, expected=" or ".join(PHASES))
    if not 1 <= imbalance <= 1e6:
        raise InputError("must be at least 1", field="imbalance", found=imbalance)
    plans = Plans.of(plan)
    if new is None:
        new = context if phase == "prefill" else 1
    kinds = kinds_of(model, (Share(batch, new, context), *beside))
    given = {path: np.atleast_1d(values) for path, values in (overrides or {}).items()}
    places = ["", *(f"beside.{index}." for index in range(len(beside)))]
    columns = {
        where + name: column
        for where, kind in zip(places, kinds, strict=True)
        for name, column in kind.items()
    }
    if ready is not None:
        columns["machine"] = ready.node.devices
    rows = row_count({**columns, **given, **plans.columns})
    if np.any(sum(kind["batch"] for kind in kinds) < 1):
        raise InputError("a step needs at least one request", field="batch")
    costs = []
    length = BLOCK if ready is None else rows
    for start in range(0, rows, length):
        some = slice(start, min(start + length, rows))
        many = some.stop - some.start

        def block(columns: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
            return {n: c[some] if len(c) == rows else c for n, c in columns.items()}  # noqa: B023

        had = ready or resolved(machine, bits or Bits(), block(given))
        if effort is not None:
            had = replace(had, pricer=mapped_pricer(machine, had.pricer.bits, effort, bool(given)))
        part = Plans(block(plans.columns))
        if strict:
            check(part, machine, had.node, model.architecture, model.name)
        sizes = [{n: np.broadcast_to(c, (many,)) for n, c in block(kind).items()} for kind in kinds]
        work = _Evaluation(model, phase, sizes, part.spread(many), had, imbalance)
        costs.append(work.cost(all_logits))
    return StepCost.joined(costs)


@dataclass(frozen=True, eq=False)
class Far:
    """What lies in another tier than the engine's, of one device; float64[B].

    Attributes:
        held: Bytes there, of all micro-batches.
        read: Bytes fetched in a pass of one stage.
        written: Bytes put there in one.
    """

    held: Floats
    read: Floats
    written: Floats


class _Evaluation:
    """Prices the calls of every distinct layer and puts stages together."""

    def __init__(
        self,
        model: LanguageModel,
        phase: str,
        kinds: Sequence[Mapping[str, Floats]],
        plans: Plans,
        had: Resolved,
        imbalance: float,
    ) -> None:
        self.model, self.machine, self.phase = model, had.machine, phase
        self.plans, self.bits = plans, had.pricer.bits
        self.tokens: Floats = sum((kind["batch"] * kind["new"] for kind in kinds), np.zeros(1))
        self.node, self.links, self.pricer = had.node, had.links, had.pricer
        self.idle_w = had.bill.idle_w
        self.pipeline, self.micro = plans["pipeline"], plans["micro_batches"]
        self.devices = plans.devices
        self.stage_devices = plans.group
        self.eager = plans["eager"] if plans["eager"].any() else None
        alone = plans["unfused"] & ~plans["eager"] & bool(self.pricer.unfuses)
        self.apart = alone if alone.any() else None
        parts = [{**kind, "batch": np.ceil(kind["batch"] / self.micro)} for kind in kinds]
        cuts = {name: plans[name] for name in ("tensor", "data", "expert")}
        self.grid = grid_of(parts, cuts, imbalance)
        self.zero = np.zeros(len(self.pipeline))
        self.calls_s: dict[str, Floats] = {}
        self.parts_s: dict[str, Floats] = {}
        self.bound_s = dict.fromkeys(("compute", "memory", "overhead", "links"), self.zero)
        self.joules = self.workspace = self.traffic = self.kernels = self.kept = self.zero
        #: By the sizes calls share (kept, so that their identity stays theirs): the price.
        self.priced: dict[tuple[str, int], tuple[Any, Price]] = {}

    # ------------------------------------------------------------------------ prices of calls

    def prices(self, calls: Sequence[Call]) -> list[Price]:
        """Price of every call; those that share their sizes are priced once."""
        fresh = {self._key(call): call for call in calls if self._key(call) not in self.priced}
        products = [call for call in fresh.values() if call.kind == "gemm"]
        if products:
            for call, price in zip(products, self.pricer.gemms(products), strict=True):
                self._keep(call, price)
        for key, call in fresh.items():
            if key not in self.priced:
                if call.kind in ("all_reduce", "all_to_all"):
                    self.priced[key] = call.sizes, self._collective(call)
                else:
                    self._keep(call, self.pricer.price(call))
        return [self.priced[self._key(call)][1] for call in calls]

    @staticmethod
    def _key(call: Call) -> tuple[str, int]:
        return call.kind + call.operation, id(call.sizes)

    def _keep(self, call: Call, price: Price) -> None:
        if self.eager is not None:
            price = self.pricer.eager(call).where(self.eager, price)
        if self.apart is not None and call.kind in self.pricer.unfuses:
            price = cast(Any, self.pricer).pieces(call).where(self.apart, price)
        price = self.pricer.launched(price, self.plans)
        if call.present is not None:
            price = price.where(call.present, NOTHING)
        self.priced[self._key(call)] = call.sizes, price

    def _collective(self, call: Call) -> Price:
        """Seconds, and joules of one device on average."""
        seconds, joules = self._linked(lambda links: self.pricer.collective(call, links))
        return Price(seconds, joules / call.sizes["members"], self.zero, self.zero, self.zero)

    def _linked(
        self, work: Callable[[list[collectives.Level]], tuple[Floats, Floats]]
    ) -> tuple[Floats, Floats]:
        """Seconds and joules of work on the links, or through host memory where plans say so."""
        straight, around = work(self.links), self.plans["staged"]
        if not around.any():
            return straight
        tier = self.pricer.tier_name
        found = work(collectives.staged(self.machine, self.node, tier, self.links))
        seconds, joules = (np.where(around, a, s) for a, s in zip(found, straight, strict=True))
        return seconds, joules

    # ------------------------------------------------------------------------ sums over calls

    def run(self, calls: Sequence[tuple[Call, float]]) -> Floats:
        """Account for calls and how often a pass makes each; returns their seconds together."""
        total, joules = self.zero, self.zero
        bounds = {name: self.zero for name in self.bound_s}
        for (call, times), price in zip(calls, self.prices([c for c, _ in calls]), strict=True):
            seconds = times * price.seconds
            total = total + seconds
            joules = joules + times * price.joules
            _add(self.calls_s, call.name, seconds)
            _add(self.parts_s, _part(call), seconds)
            if call.kind in ("all_reduce", "all_to_all"):
                bounds["links"] = bounds["links"] + seconds
                continue
            self.traffic = self.traffic + times * price.bytes
            self.kernels = self.kernels + times * (1.0 if call.present is None else call.present)
            longest = np.minimum(np.maximum(price.compute_s, price.memory_s), price.seconds)
            computing = price.compute_s > price.memory_s
            most = times * longest
            bounds["compute"] = bounds["compute"] + np.where(computing, most, 0.0)
            bounds["memory"] = bounds["memory"] + np.where(computing, 0.0, most)
            bounds["overhead"] = bounds["overhead"] + (seconds - most)
            self._scratch(call)
        self.joules = self.joules + joules * self.stage_devices
        self.bound_s = {name: self.bound_s[name] + value for name, value in bounds.items()}
        return total

    def _scratch(self, call: Call) -> None:
        """Bytes a call works with beside weights and caches."""
        size, act = call.sizes, self.bits.activation / 8
        if call.kind == "gemm":
            held = size["m"] * (size["k"] + size["n"]) * act
            self.workspace = np.maximum(self.workspace, held)
        elif call.kind in ("attention", "latent") and not (self.eager is self.apart is None):
            # scores, before and after the softmax
            scores = size["requests"] * size["heads"] * size["new"] * size["context"]
            there = self.plans["eager"] if self.apart is None else self.plans["eager"] | self.apart
            there = there if call.present is None else there & call.present
            scores = np.where(there, 2.0 * scores * act, 0.0)
            self.workspace = np.maximum(self.workspace, scores)

    def _hidden(self, calls: Sequence[Call]) -> Floats:
        """Ladder: the sum after one part of a layer runs beside the work of the other.

        What the sum keeps of the engine meanwhile (``kept``) is taken off.
        """
        sides = {(part, kind): self.zero for part in "ab" for kind in "wrk"}
        for call, price in zip(calls, self.prices(calls), strict=True):
            side = (
                "a" if call.name.startswith("mixer") else "b",
                "r" if call.kind == "all_reduce" else "w",
            )
            sides[side] = sides[side] + price.seconds
            if side[1] == "r":
                sides[side[0], "k"] = np.maximum(sides[side[0], "k"], self.pricer.kept(call))
        beside = (("a", "b"), ("b", "a"))
        hidden = sum(
            np.minimum(sides[work, "w"], sides[sums, "r"]) * (1.0 - sides[sums, "k"])
            for work, sums in beside
        )
        alone = self.plans["unfused"] if self.pricer.fuses else True
        return np.where(self.plans["ladder"] & alone, hidden, 0.0)

    def _beside(self, layers: Sequence[tuple[Sequence[Call], float, Layer]]) -> Floats:
        """Seconds saved by attention that runs on two engines at once."""
        saved, splitting = self.zero, cast(Any, self.pricer)
        for calls, count, _ in layers:
            found = splitting.beside(calls)
            if found is not None:
                saved = saved + count * found[0]
                self.joules = self.joules + count * found[1] * self.stage_devices
        _add(self.parts_s, "attention", -saved)
        self.bound_s["memory"] = self.bound_s["memory"] - saved
        return saved

    def _fused(self, layers: Sequence[tuple[Sequence[Call], float]], body: Floats) -> Floats:
        """Layers as pipelines take the place of their calls; returns their seconds together.

        Calls and parts keep their shares of the time.
        """
        fusing = cast(Any, self.pricer)
        pieces = [
            fusing.pipeline(calls, self.prices(calls), self.links, self.plans).times(count)
            for calls, count in layers
        ]
        whole = sum(pieces[1:], pieces[0])
        alone = self.plans["unfused"]
        seconds = np.where(alone, body, whole.seconds)
        share = seconds / body
        for parts in (self.calls_s, self.parts_s):
            parts.update({name: value * share for name, value in parts.items()})
        limits = {"compute": whole.compute_s, "memory": whole.memory_s, "links": whole.links_s,
                  "overhead": whole.overhead_s}  # fmt: skip
        self.bound_s = {n: np.where(alone, v, limits[n]) for n, v in self.bound_s.items()}
        self.joules = np.where(alone, self.joules, whole.joules * self.stage_devices)
        self.traffic = np.where(alone, self.traffic, whole.moved)
        self.kernels = np.where(alone, self.kernels, whole.kernels)
        self.kept = np.where(alone, self.kept, whole.kept)
        return seconds

    # ------------------------------------------------------------------------ the whole step

    def cost(self, all_logits: bool) -> StepCost:
        """Price everything and put the stages together."""
        arch, grid, plans = self.model.architecture, self.grid, self.plans
        depth = len(arch.layers)
        stage = np.ceil(depth / self.pipeline) / depth  # of the layers, in the fullest stage
        made = StepCalls(arch, grid, self.bits)
        layers = [(made.of(layer), float(n), layer) for layer, n in arch.distinct_layers]
        often: dict[int, tuple[Call, float]] = {}
        for calls, count, _ in layers:
            for call in calls:
                often[id(call)] = call, often.get(id(call), (call, 0.0))[1] + count
        body = self.run(list(often.values()))
        if self.pricer.fuses and not plans["unfused"].all():
            body = self._fused([(calls, count) for calls, count, _ in layers], body)
        if plans["ladder"].any():
            hidden = sum((count * self._hidden(calls) for calls, count, _ in layers), self.zero)
            body = body - hidden
            _add(self.parts_s, "collectives", -hidden)
            self.bound_s["links"] = self.bound_s["links"] - hidden
        if self.pricer.splits:
            body = body - self._beside(layers)
        ends = end_calls(arch, grid, self.bits, all_logits)
        tail = self.run([(call, 1.0) for call in ends])
        memory, far = self._memory(layers, ends, stage)
        waited, joules_far = self._stream(far, body * stage)
        short = self._short(far)
        body = body + waited / stage
        once = body + tail
        handed = grid.tokens * arch.width * self.bits.activation / 8 / grid.tensor
        send, joules = self._linked(
            lambda links: collectives.point_to_point(links, self.stage_devices, handed)
        )
        send = np.where(self.pipeline > 1, send, 0.0)
        slowest = body * stage + tail + send
        through = once + (self.pipeline - 1) * send
        if self.phase == "decode":
            latency = np.maximum(through, self.micro * slowest)
        else:
            latency = through + (self.micro - 1) * slowest
        self.parts_s["streaming"] = self.bound_s["streaming"] = waited / stage
        self.parts_s["pipeline"] = latency - once
        senders = self.stage_devices * (self.pipeline - 1)
        energy = (self.joules + joules_far + joules * senders) * self.micro
        energy = energy + self.idle_w * latency
        capacity = self.node.tiers[self.pricer.tier_name]["capacity_bytes"]
        return StepCost(
            self.model.name, self.machine.name, self.phase, latency,
            self.tokens, energy, memory,
            np.broadcast_to(capacity, latency.shape), short, self.parts_s, self.calls_s,
            self.bound_s, excesses(plans, self.machine, self.node, arch), plans,
            self.traffic, self.kernels, self.kept,
        )  # fmt: skip

    def _memory(
        self, layers: Sequence[tuple[Sequence[Call], float, Layer]], ends: Sequence[Call],
        stage: Floats,
    ) -> tuple[dict[str, Floats], dict[str, Far]]:  # fmt: skip
        """Bytes one device holds by what, and what lies in other tiers, by tier."""
        zero = self.zero
        sums = {name: zero for name in ("weights", "fetched", "cache", "read", "written")}
        largest = dict.fromkeys(PLACED, zero)
        for calls, count, layer in layers:
            used = sum((call.weight_bytes for call in calls), zero)
            held = used + sum((call.idle_bytes for call in calls), zero)
            figures = {"weights": held, "fetched": used}
            if self.model.architecture.causal:
                cache = mixed_cache_bytes(layer, self.grid, self.bits)
                read, written = mixed_cache_moved(layer, self.grid, self.bits)
                figures |= {"cache": cache, "read": read, "written": written}
            for name, value in figures.items():
                sums[name] = sums[name] + value * count
                if name in PLACED:
                    largest[name] = np.maximum(largest[name], value)
        sums = {name: value * stage for name, value in sums.items()}
        whole = {"weights": sums["weights"], "cache": sums["cache"] * self.micro}
        moved = {"weights": (sums["fetched"], zero), "cache": (sums["read"], sums["written"])}
        far: dict[str, Far] = {}
        for role in PLACED:
            names = set(self.plans[role].tolist()) - {"", self.pricer.tier_name}
            for name in sorted(names):
                share = np.where(self.plans[role] == name, self.plans[f"{role}_share"], 0.0)
                into = far.setdefault(name, Far(zero, zero, zero))
                read, written = moved[role]
                far[name] = Far(
                    into.held + share * whole[role], into.read + share * read,
                    into.written + share * written,
                )  # fmt: skip
                # Only the layer that runs and the one that comes are held here.
                here = (1.0 - share) * whole[role] + share * 2.0 * largest[role]
                whole[role] = np.where(share > 0, here, whole[role])
        held = sum((call.weight_bytes + call.idle_bytes for call in ends), whole["weights"])
        return {"weights": held, "cache": whole["cache"], "workspace": self.workspace}, far

    def _stream(self, far: Mapping[str, Far], body: Floats) -> tuple[Floats, Floats]:
        """Weights and caches of layers that lie in other tiers (weights of the two ends stay).

        Each micro-batch fetches them anew, one tier after the other, while other layers run.

        Returns:
            Seconds a stage waits for them in a pass, and joules of all devices.
        """
        seconds, joules, home = self.zero, self.zero, self.pricer.tier_name
        for name, part in far.items():
            for way, moved in (((name, home), part.read), ((home, name), part.written)):
                path = tier_path(self.machine, self.node, *way)
                seconds = seconds + np.where(moved > 0, path.seconds(moved), 0.0)
                joules = joules + moved * self.devices * path.joules_per_byte
        return np.maximum(seconds - body, 0.0), joules

    def _short(self, far: Mapping[str, Far]) -> Floats:
        """Bytes that other tiers lack, over all of one tier's instances alike."""
        short = self.zero
        for name, part in far.items():
            tier = self.node.tiers[name]
            share = part.held * self.devices / tier["instances"]
            short = short + np.maximum(share - tier["capacity_bytes"], 0.0)
        return short


def _add(into: dict[str, Floats], name: str, value: Floats) -> None:
    into[name] = into[name] + value if name in into else value


def _part(call: Call) -> str:
    """The part of the model a call belongs to."""
    if call.kind in ("all_reduce", "all_to_all"):
        return "collectives"
    if call.kind in ("attention", "latent") or call.name.endswith("recurrence"):
        return "attention"
    first = call.name.split(".")[0]
    return {"mixer": "projections", "mlp": "mlp", "moe": "experts"}.get(first, "norms and ends")
