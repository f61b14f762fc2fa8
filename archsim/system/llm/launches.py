"""What a device launches in one pass, kernel by kernel: work, traffic, time and what limits it.

Points for a roofline: each is all launches of one part of the layers in one pass, on one device, of
one step.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from archsim.hardware import Machine
from archsim.system.llm.calls import Call, end_calls
from archsim.system.llm.evaluate import _Evaluation
from archsim.system.llm.mixed import Share, StepCalls, kinds_of
from archsim.system.llm.resolved import Resolved
from archsim.system.llm.roofline import Price, causal_pairs
from archsim.system.llm.rows import Plans
from archsim.workload.language import LanguageModel


@dataclass(frozen=True)
class Launches:
    """All launches of one part of the layers in one pass.

    Attributes:
        name: Of the part, e.g. ``mixer.attend``.
        macs: Multiply-accumulates; those a causal mask spares are not done.
        bytes_moved: Bytes to and from the tier the engine works from.
        latency_s: Their time.
        bound: What limits them: ``compute``, ``memory``, or ``overhead`` (launches, and what a
            kernel adds).
    """

    name: str
    macs: float
    bytes_moved: float
    latency_s: float
    bound: str


@dataclass(frozen=True)
class Roof:
    """What one device could do at best.

    Attributes:
        peak_macs_per_s: Of its matrix units, in the format the step multiplies in.
        bandwidth_bytes_per_s: Of the tier it works from.
        backing: That tier.
    """

    peak_macs_per_s: float
    bandwidth_bytes_per_s: float
    backing: str


def launches_of(
    model: LanguageModel,
    ready: Resolved,
    plan: Plans,
    *,
    phase: str,
    batch: float,
    context: float,
    new: float | None = None,
    imbalance: float = 1.0,
) -> list[Launches]:
    """The launches of one step by part of the layers; collectives are no work of a device.

    Args:
        model: The model.
        ready: One design of a machine.
        plan: One plan.
        phase: ``prefill`` or ``decode``.
        batch, context, new, imbalance: As for :func:`archsim.system.llm.evaluate_step`.

    Returns:
        One entry a part, in order; none where layers run as pipelines of their operations, or
        where several engines share a device: one roof does not hold for them.

    Example:
        >>> from archsim.hardware import load_machine
        >>> from archsim.system.llm.resolved import resolved
        >>> from archsim.workload.huggingface import load_model
        >>> from archsim.workload.steps import Bits
        >>> ready = resolved(load_machine("h100"), Bits())
        >>> found = launches_of(load_model("llama-2-7b"), ready, Plans.of("tp1"),
        ...                     phase="decode", batch=1, context=512)
        >>> [(part.name, part.bound) for part in found if part.macs > 1e9][1:]
        [('mlp.up', 'memory'), ('mlp.down', 'memory')]
    """
    if ready.pricer.fuses or _helped(ready.machine):
        return []
    new = (context if phase == "prefill" else 1) if new is None else new
    kinds = kinds_of(model, (Share(batch, new, context),))
    work = _Evaluation(model, phase, kinds, plan.spread(1), ready, imbalance)
    made = StepCalls(model.architecture, work.grid, work.bits)
    calls = [
        (call, float(count))
        for layer, count in model.architecture.distinct_layers
        for call in made.of(layer)
    ]
    calls += [(call, 1.0) for call in end_calls(model.architecture, work.grid, work.bits)]
    calls = [pair for pair in calls if pair[0].kind not in ("all_reduce", "all_to_all")]
    prices = work.prices([call for call, _ in calls])
    return _summed(calls, prices, model.architecture.causal)


def _done(call: Call, causal: bool) -> float:
    """Multiply-accumulates of a call without the pairs that its mask spares."""
    s, macs = call.sizes, np.ravel(call.macs)[0]
    if not causal or call.kind not in ("attention", "latent"):
        return float(macs)
    if call.kind == "latent" and np.ravel(s["absorbed"])[0]:
        return float(macs)
    kept = causal_pairs({"window": np.full(1, np.inf), **s}) * s["requests"] * s["heads"]
    return min(float(macs), float(np.ravel(kept * (s["head_dim"] + s["value_dim"]))[0]))


def _helped(machine: Machine) -> bool:
    """Whether more than one engine computes on a device."""
    return any(engine.kind in ("pim", "xpu") for engine in machine.engines)


def _summed(calls: list[tuple[Call, float]], prices: list[Price], causal: bool) -> list[Launches]:
    """Launches of one name put together; the bound is what limits most of their time."""
    sums: dict[str, np.ndarray] = {}
    limits: dict[str, dict[str, float]] = {}
    for (call, times), price in zip(calls, prices, strict=True):
        seconds, compute, memory = (
            float(np.ravel(f)[0]) for f in (price.seconds, price.compute_s, price.memory_s)
        )
        macs, moved = _done(call, causal), float(np.ravel(price.bytes)[0])
        found = times * np.array([macs, moved, seconds])
        sums[call.name] = sums.get(call.name, np.zeros(3)) + found
        waits = {"compute": compute, "memory": memory, "overhead": seconds - max(compute, memory)}
        table = limits.setdefault(call.name, {})
        for name, value in waits.items():
            table[name] = table.get(name, 0.0) + times * value
    return [
        Launches(
            name, total[0], total[1], total[2], max(limits[name], key=limits[name].__getitem__)
        )
        for name, total in ((name, figures.tolist()) for name, figures in sums.items())
    ]


def roof_of(ready: Resolved) -> Roof:
    """The roof of one design's devices."""
    tier = ready.pricer.tier_name
    return Roof(
        float(np.ravel(ready.pricer.peak)[0]) / 2.0,
        float(np.ravel(ready.node.tiers[tier]["bandwidth_bytes_per_s"])[0]),
        tier,
    )


__all__ = ["Launches", "Roof", "launches_of", "roof_of"]
