"""A training step: forward, backward and update, and where weights, states and activations lie.

Mixed precision with Adam keeps, for each parameter, a weight and a gradient in few bits and a
master weight and two moments in 32 bits (ZeRO, arXiv 1910.02054). ZeRO divides states (stage 1),
gradients (2) and weights (3) over the groups of data parallelism; weights are then gathered for
both passes. A backward pass takes two forward passes; with rematerialisation a layer keeps its
input only and its forward pass runs once more. States may lie in another tier, beside the host that
updates them, or be fetched by the devices in subgroups, interleaved with the host's work (Deep
Optimizer States, Middleware 2024).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from numbers import Integral

import numpy as np

from archsim.errors import InputError
from archsim.hardware import Machine, NodeTable, load_machine, resolve_node
from archsim.system.llm import collectives
from archsim.system.llm.calls import Call
from archsim.system.llm.cost import StepCost
from archsim.system.llm.evaluate import evaluate_step
from archsim.system.llm.hosted import STATE_BYTES, Hosted
from archsim.system.llm.plan import Plan
from archsim.system.llm.pricing import pricer_for
from archsim.system.llm.roofline import Roofline
from archsim.system.llm.schedules import balanced, walk
from archsim.system.llm.tiers import Path, tier_path
from archsim.system.llm.training_setup import Training
from archsim.workload.architecture import Experts
from archsim.workload.huggingface import load_model
from archsim.workload.language import LanguageModel
from archsim.workload.steps import Bits


@dataclass(frozen=True)
class TrainingCost:
    """What a step of training takes.

    Attributes:
        model, machine, plan: Names.
        forward_s, backward_s: Of the passes through all stages; bubbles in both. Gradients' way to
            other groups and tiers is in the backward pass.
        update_s: Of weights and states.
        bubble: Share of the stages' time that they idle in the passes.
        tokens: Of the batch.
        memory_bytes: Of one device by what: ``weights``, ``gradients``, ``states``,
            ``activations``.
        capacity_bytes: Of the tier that holds them.
        away_bytes: By tier, bytes of the whole machine that lie elsewhere.
        short_bytes: Bytes that those tiers lack.
    """

    model: str
    machine: str
    plan: str
    forward_s: float
    backward_s: float
    update_s: float
    bubble: float
    tokens: float
    memory_bytes: Mapping[str, float]
    capacity_bytes: float
    away_bytes: Mapping[str, float]
    short_bytes: float

    @property
    def latency_s(self) -> float:
        """Of the step."""
        return self.forward_s + self.backward_s + self.update_s

    @property
    def tokens_per_s(self) -> float:
        """Tokens trained on a second."""
        return self.tokens / self.latency_s

    @property
    def overflow_bytes(self) -> float:
        """Bytes that a device, or another tier, would need beyond its capacity; 0 if none."""
        own = max(sum(self.memory_bytes.values()) - self.capacity_bytes, 0.0)
        return own + self.short_bytes

    @property
    def fits(self) -> bool:
        """Whether everything has a place."""
        return self.overflow_bytes == 0

    def explain(self) -> str:
        """The step in words."""
        parts = {"forward": self.forward_s, "backward": self.backward_s, "update": self.update_s}
        times = ", ".join(f"{n} {1e3 * v:,.2f} ms" for n, v in parts.items())
        held = ", ".join(f"{n} {v / 1e9:.2f}" for n, v in self.memory_bytes.items())
        away = "".join(f", {v / 1e9:,.2f} GB in {n}" for n, v in self.away_bytes.items())
        return "\n".join([
            f"{self.model} on {self.machine}, training, plan {self.plan}",
            f"{'step':24}{1e3 * self.latency_s:,.2f} ms   {self.tokens_per_s:,.1f} tokens/s",
            f"{'parts':24}{times}; bubble {self.bubble:.1%}",
            f"{'memory of a device':24}{sum(self.memory_bytes.values()) / 1e9:.2f} of "
            f"{self.capacity_bytes / 1e9:.2f} GB ({held}){away}: "
            f"{'fits' if self.fits else 'OUT OF MEMORY'}",
        ])  # fmt: skip


def evaluate_training(
    model: LanguageModel | str,
    machine: Machine | str,
    *,
    batch: int,
    context: int,
    plan: Plan | str = "tp1",
    how: Training | None = None,
    bits: Bits | None = None,
) -> TrainingCost:
    """Time and memory of one step of training.

    Args:
        model: A model, the name of a shipped one, or a config.
        machine: A machine, the name of a shipped one, or a file.
        batch: Sequences of the whole machine; the plan's micro-batches divide them.
        context: Tokens of each; images have as many as their model gives them.
        plan: Degrees of parallelism.
        how: Where things lie, and schedules.
        bits: Of weights (and gradients) and activations, as which keys and values are kept.

    Raises:
        InputError: What ``evaluate_step`` refuses, no such tier, or no way to it.

    Example:
        >>> cost = evaluate_training("llama-2-7b", "h100x8", batch=8, context=2048, plan="dp8",
        ...                          how=Training(zero=3))
        >>> cost.fits, 0.1 < cost.latency_s < 1.0
        (True, True)
    """
    found = load_machine(machine) if isinstance(machine, str) else machine
    model = load_model(model) if isinstance(model, str) else model
    plan = Plan.parse(plan) if isinstance(plan, str) else plan
    context = model.image_tokens or context
    _check(plan, batch, context)
    return _Step(model, found, plan, how or Training(), bits or Bits(), batch, context).cost()


def _check(plan: Plan, batch: int, context: int) -> None:
    for name, value in {"batch": batch, "context": context}.items():
        if isinstance(value, bool) or not isinstance(value, Integral) or not 1 <= value <= 10**9:
            raise InputError("must be a positive whole number", field=name, found=value,
                             expected="1 to 1000000000")  # fmt: skip
    if plan.micro_batches > batch:
        raise InputError("there are fewer sequences than micro-batches", field="plan",
                         found=str(plan), expected=f"at most mb{batch}")  # fmt: skip
    if plan.weights is not None or plan.cache is not None:
        raise InputError(
            "in training, weights lie on the devices, and there is no cache", field="plan",
            found=str(plan), expected="no +weights and no +cache (zero divides weights)",
        )  # fmt: skip


def _routed(model: LanguageModel) -> float:
    """Parameters of all experts that tokens are sent to."""
    width = model.architecture.width
    parts = [layer.ffn for layer in model.architecture.layers]
    return float(sum(
        ffn.experts * (2 + ffn.gated) * ffn.width * width
        for ffn in parts if isinstance(ffn, Experts)
    ))  # fmt: skip


class _Step:
    """One step of training."""

    def __init__(
        self, model: LanguageModel, machine: Machine, plan: Plan, how: Training, bits: Bits,
        batch: int, context: int,
    ) -> None:  # fmt: skip
        bits = replace(bits, kv=bits.activation)  # no cache in training
        self.model, self.machine, self.plan, self.how, self.bits = model, machine, plan, how, bits
        self.node: NodeTable = resolve_node(machine)
        self.pricer: Roofline = pricer_for(machine, self.node, bits)
        self.batch, self.context = batch, context
        many = -(-batch // plan.micro_batches)
        self.pass_: StepCost = evaluate_step(
            model, machine, phase="prefill", batch=many, context=context, all_logits=True,
            plan=replace(plan, pipeline=1, micro_batches=1), bits=bits,
        )  # fmt: skip
        # All stages have to exist, though one is priced.
        evaluate_step(model, machine, phase="prefill", batch=many, context=context, plan=plan,
                      bits=bits)  # fmt: skip
        self.layers = len(model.architecture.layers)
        self.rows = -(-many // plan.data) * context
        # Of one stage's device: what all groups hold alike, before ZeRO, and experts, which are
        # dealt out and cut over all devices of a stage.
        self.routed = _routed(model) / (plan.devices)
        self.parameters = (model.parameters - _routed(model)) / (plan.tensor * plan.pipeline)
        self.owned = self.parameters / (plan.data if how.zero else 1) + self.routed
        self.weight, self.act = bits.weight / 8.0, bits.activation / 8.0
        home = self.pricer.tier_name
        for field_, tier in (("states", how.states), ("activations", how.activations)):
            if tier is not None and machine.item("tiers", tier).name == home:
                raise InputError("the devices work from this tier already", source=machine.name,
                                 field=field_, found=tier, expected="another tier")  # fmt: skip
        self.hosted: Hosted | None = None
        if how.states is not None:
            self.hosted = Hosted(
                machine, self.node, how, home, self.owned, self.weight, plan.micro_batches
            )  # fmt: skip

    # ----------------------------------------------------------------------------- the passes

    def stages(self) -> tuple[list[float], list[float], list[float]]:
        """Forward, backward and what runs again of each stage, for one micro-batch.

        Products run twice backward, for their data and their weights; sums and exchanges once, as
        forward. Layers and ends are cut into stages most evenly; the ends do not run again.
        """
        cost = self.pass_
        ends = {name: float(cost.calls_s[name][0]) for name in ("embedding", "final_norm", "head")
                if name in cost.calls_s}  # fmt: skip
        first = ends.pop("embedding", 0.0)
        last = sum(ends.values())
        exchanged = [float(v[0]) for name, v in cost.calls_s.items()
                     if name.endswith((".dispatch", ".collect"))]  # fmt: skip
        exchange = sum(exchanged) / self.layers
        summed = float(cost.parts_s["collectives"][0]) / self.layers - exchange
        kernels = (float(cost.latency_s[0]) - first - last) / self.layers - summed - exchange

        def layer(times: float) -> float:
            work = times * kernels + summed
            return max(work, exchange) if self.how.dual else work + exchange

        forward = [first, *[layer(1.0)] * self.layers, last]
        backward = [2.0 * first, *[layer(2.0)] * self.layers, 2.0 * last]
        again = [0.0, *[layer(1.0) * self.how.rematerialise] * self.layers, 0.0]
        cuts = balanced(forward, self.plan.pipeline)
        return tuple([sum(works[cut]) for cut in cuts] for works in (forward, backward, again))  # type: ignore[return-value]

    def over_data(self, moved: float, calls: int) -> float:
        """All-reduce of bytes over the groups of data parallelism, in so many calls."""
        plan = self.plan
        if plan.data == 1 or moved <= 0:
            return 0.0
        stride = plan.tensor
        links = []
        for level in collectives.levels(self.machine, self.node):
            if (level.members > stride).all():
                links.append(replace(level, members=level.members / stride))
        one = {"bytes": np.array([moved / calls]), "members": np.array([float(plan.data)])}
        seconds, _ = self.pricer.collective(Call("data", "all_reduce", one), links)
        return calls * float(seconds[0])

    def path(self, source: str, target: str) -> Path:
        """The way between two tiers."""
        return tier_path(self.machine, self.node, source, target)

    def beside(self, work: float, moves: float) -> float:
        """Work and what moves meanwhile, or after it."""
        return max(work, moves) if self.how.overlap else work + moves

    def passes(self) -> tuple[float, float, float]:
        """Forward, backward (with rematerialisation) and bubble, of all micro-batches."""
        how, plan = self.how, self.plan
        calls = -(-self.layers // plan.pipeline)
        # A gather moves half of what an all-reduce does.
        gather = (
            0.5 * self.over_data(self.parameters * self.weight, calls) if how.zero == 3 else 0.0
        )
        out = back = 0.0
        if how.activations is not None:
            kept, home = self.kept() * calls, self.pricer.tier_name
            out = float(self.path(home, how.activations).seconds(kept)[0])
            back = float(self.path(how.activations, home).seconds(kept)[0])
        works, behind, again = self.stages()
        forward = [self.beside(work, gather + out) for work in works]
        # Gradients of ZeRO 2 and 3 are scattered by every micro-batch, else reduced at the end.
        reduced = (
            0.5 * self.over_data(self.parameters * self.weight, calls) if how.zero > 1 else 0.0
        )
        backward = [
            self.beside(work + more, gather + back + reduced) - more
            for work, more in zip(behind, again, strict=True)
        ]
        handed = self.rows * self.model.architecture.width * self.act / plan.tensor
        links = collectives.levels(self.machine, self.node)
        send = 0.0
        if plan.pipeline > 1:
            stride = np.array([float(plan.tensor * plan.data)])
            send = float(collectives.point_to_point(links, stride, np.array([handed]))[0][0])
        walked = walk(
            forward, backward, plan.micro_batches, how.schedule, send_s=send, again_s=again
        )
        # The first pass through all stages, and what of the step is left.
        ahead = sum(forward) + (plan.pipeline - 1) * send
        ahead += (plan.micro_batches - 1) * max(forward)
        return ahead, walked.latency_s - ahead, walked.bubble

    def kept(self) -> float:
        """Bytes one layer keeps of a micro-batch for its backward pass, on one device."""
        if not self.how.rematerialise:
            return self.full_layer()
        return self.rows * self.model.architecture.width * self.act

    # ----------------------------------------------------------------------------- the update

    def gradients(self, backward: float) -> float:
        """What moving gradients adds to the backward pass."""
        how, seconds = self.how, 0.0
        if how.zero < 2:
            moves = self.over_data(self.parameters * self.weight, self.layers)
            seconds += max(moves - backward, 0.0) if how.overlap else moves
        if self.hosted is not None:
            moves, blocked = self.hosted.gradients_s()
            seconds += blocked + (max(moves - backward, 0.0) if how.overlap else moves)
        return seconds

    def update(self) -> float:
        """Adam over all parameters: read and write states, read gradients, write weights."""
        touched = 2.0 * STATE_BYTES + 2.0 * self.weight + 2.0  # a gradient is widened on the way
        if self.hosted is not None:
            seconds = self.hosted.update_s(touched)
        else:
            home = self.node.tiers[self.pricer.tier_name]
            seconds = self.owned * touched / float(home["bandwidth_bytes_per_s"][0])
        if self.how.zero in (1, 2):  # new weights to all
            seconds += 0.5 * self.over_data(self.parameters * self.weight, self.layers)
        return seconds

    # ---------------------------------------------------------------------------- the memory

    def memory(self, held: float) -> tuple[dict[str, float], dict[str, float], float]:
        """Bytes of one device, bytes elsewhere by tier, and what those tiers lack."""
        how, plan = self.how, self.plan
        cut = float(plan.data)
        layers = -(-self.layers // plan.pipeline)
        whole, experts = self.parameters * self.weight, self.routed * self.weight
        kept = held * layers * self.kept()
        # What one layer works with: each product's operands, forward.
        layer = float(self.pass_.memory_bytes["workspace"][0])
        near = {
            "weights": (whole / cut + 2.0 * whole / layers if how.zero == 3 else whole) + experts,
            "gradients": (whole / cut if how.zero >= 2 else whole) + experts,
            "states": self.owned * STATE_BYTES,
            "activations": layer + kept,
        }
        away: dict[str, float] = {}
        if self.hosted is not None:
            near["states"], gradients, moved = self.hosted.bytes()
            if how.zero >= 2:  # else all groups hold them all
                near["gradients"] = 2.0 * whole / layers + gradients
            away[self.hosted.states] = moved * plan.devices
        if how.activations is not None:
            away[how.activations] = away.get(how.activations, 0.0) + kept * plan.devices
            near["activations"] = layer + 2.0 * self.kept()
        short = 0.0
        for name, needed in away.items():
            tier = self.node.tiers[name]
            short += max(needed - float((tier["capacity_bytes"] * tier["instances"])[0]), 0.0)
        return near, away, short

    def full_layer(self) -> float:
        """Bytes a layer keeps of a micro-batch where nothing runs again: every call's input.

        Layers that differ count as their mean.
        """
        from archsim.system.llm.calls import Grid, layer_calls

        one = np.ones(1)
        requests = float(self.rows // self.context)
        grid = Grid(requests * one, self.context * one, self.context * one,
                    self.plan.tensor * one, one, one)  # fmt: skip
        arch, total = self.model.architecture, 0.0
        calls = [
            (call, float(many))
            for layer, many in arch.distinct_layers
            for call in layer_calls(arch, layer, grid, self.bits)
        ]
        for call, many in calls:
            size = call.sizes
            if call.kind == "gemm":
                total += many * float((size["m"] * size["k"]).sum()) * self.act
            elif call.kind in ("vector", "moe"):
                moved = size.get("bytes")
                total += many * 0.5 * float(moved.sum()) if moved is not None else 0.0
            elif call.kind in ("attention", "latent"):
                rows = size["requests"] * size["new"] * size["heads"]
                total += many * float((rows * 3.0 * size["head_dim"]).sum()) * self.act
        return total / self.layers

    def cost(self) -> TrainingCost:
        """Everything together."""
        forward, backward, bubble = self.passes()
        backward, update = backward + self.gradients(backward), self.update()
        held = min(self.plan.micro_batches, self.plan.pipeline)
        if self.how.schedule == "gpipe":
            held = self.plan.micro_batches
        memory, away, short = self.memory(float(held))
        return TrainingCost(
            self.model.name, self.machine.name, str(self.plan), forward, backward, update, bubble,
            float(self.batch * self.context), memory, float(self.pass_.capacity_bytes[0]), away,
            short,
        )  # fmt: skip
