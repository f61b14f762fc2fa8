"""Compositions of experts for many designs at once: rows of ``composition.evaluate_experts``.

The router reads a batch of prompts, then each is answered by its expert; experts that are not at
hand are copied from the tier that holds all of them. Hardware, plan and batch may differ by row.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from archsim.errors import InputError
from archsim.hardware import Machine
from archsim.system.llm.cost import StepCost
from archsim.system.llm.evaluate import evaluate_step
from archsim.system.llm.residency import lru_hit_share, zipf_shares
from archsim.system.llm.resolved import Resolved, resolved
from archsim.system.llm.rows import Plans
from archsim.system.llm.tiers import tier_path
from archsim.workload.language import LanguageModel
from archsim.workload.steps import Bits

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Composition:
    """Equal experts behind a router.

    Attributes:
        expert: Every expert's model.
        router: The router's model.
        experts: How many there are.
        home: Tier that holds all of them.
        prompt: Tokens of a prompt.
        tokens: Answered to each; the first one comes with reading the prompt.
        skew: Experts are asked for in proportion to rank^-skew; 0 is alike.
        ahead: The next prompt's expert is copied while the current one runs.
        missing: Share of prompts whose expert is not at hand, or a function that gives it for a
            number of experts at hand; None is LRU in the long run.
        pulling: Devices whose ways carry a copy; None is all of the plan.
        router_tokens: Tokens in which the router names an expert; the first one comes with reading
            the prompts.
    """

    expert: LanguageModel
    router: LanguageModel
    experts: int
    home: str
    prompt: int
    tokens: int
    skew: float = 0.0
    ahead: bool = False
    missing: float | Callable[[int], float] | None = None
    pulling: int | None = None
    router_tokens: int = 1


@dataclass(frozen=True, eq=False)
class CompositionCost:
    """What compositions take for a batch of prompts; float64[B] each, see ``ExpertsCost``.

    Attributes:
        slots: Experts at hand at once.
        missing: Share of prompts whose expert is copied first.
        switch_s: Copying one expert.
        latency_s: Of the batch.
        energy_j: Of the batch.
        tokens: Answered.
        held_share: Bytes of a device with one expert at hand over its capacity.
        overflow_bytes: Bytes that lack, for one expert on a device or for all at home.
        beyond: By reason, what goes beyond what there is (0 where nothing).
        reading: The expert's step that reads a prompt.
    """

    slots: Floats
    missing: Floats
    switch_s: Floats
    latency_s: Floats
    energy_j: Floats
    tokens: Floats
    held_share: Floats
    overflow_bytes: Floats
    beyond: Mapping[str, Floats]
    reading: StepCost = field(repr=False)
    parts_s: Mapping[str, Floats] = field(default_factory=dict)

    def explain(self, row: int = 0) -> str:
        """One composition in words."""
        parts = ", ".join(
            f"{name} {1e3 * value[row]:,.2f} ms" for name, value in self.parts_s.items()
        )
        return "\n".join(
            [
                f"composition of experts on {self.reading.machine}, plan "
                f"{self.reading.plans.text(row)}",
                f"{'batch':24}{1e3 * self.latency_s[row]:,.2f} ms for {self.tokens[row]:.0f} "
                f"tokens, {self.energy_j[row]:,.1f} J",
                f"{'places':24}{self.slots[row]:.0f} experts at hand; {self.missing[row]:.1%} of "
                f"prompts wait {1e3 * self.switch_s[row]:,.2f} ms for theirs",
                f"{'parts':24}{parts}",
            ]
        )


def evaluate_compositions(
    of: Composition,
    machine: Machine,
    *,
    batch: ArrayLike = 1,
    plan: Any = "tp1",
    bits: Bits | None = None,
    overrides: Mapping[str, ArrayLike] | None = None,
) -> CompositionCost:
    """Compositions on designs of a machine; batch, plan and hardware broadcast to B rows.

    What no machine allows is priced all the same and graded in ``beyond``.

    Args:
        of: The composition.
        machine: The machine as shipped.
        batch: Prompts.
        plan: As for ``evaluate_step``; router and experts run under it, one at a time.
        bits: Bits an element.
        overrides: As for ``evaluate_step``.

    Raises:
        InputError: A tier, path, plan or size that cannot be.
    """
    machine.item("tiers", of.home)
    plans = Plans.of(plan)
    given = {path: np.atleast_1d(values) for path, values in (overrides or {}).items()}
    sizes = np.atleast_1d(np.asarray(batch, dtype=float))
    rows = max(len(sizes), len(plans), *(len(v) for v in given.values()), 1)
    ready = resolved(machine, bits or Bits(), given)
    common: dict[str, Any] = {"phase": "prefill", "context": of.prompt, "strict": False}
    routing = evaluate_step(of.router, ready, batch=sizes, plan=plans, **common)
    reading = evaluate_step(of.expert, ready, plan=plans, **common)
    answered_s, answered_j, own_held = _answers(
        of.expert, of.prompt, of.tokens, np.ones(1), ready, plans, given, rows
    )
    named_s, named_j, guide_held = _answers(
        of.router, of.prompt, of.router_tokens, sizes, ready, plans, given, rows
    )
    node = ready.node
    steps = (routing, reading)
    own, guide = reading.memory_bytes["weights"], routing.memory_bytes["weights"]
    beside = np.maximum(own_held, guide_held)
    for step in steps:
        beside = np.maximum(beside, step.memory_bytes["cache"] + step.memory_bytes["workspace"])
    capacity = reading.capacity_bytes
    slots = np.floor(np.maximum(capacity - guide - beside, 0.0) / own)
    switch_s, switch_j = np.zeros(rows), np.zeros(rows)
    near = machine.item("engines", machine.engines[0].name).backing
    if of.home != near:
        path = tier_path(machine, node, of.home, near)
        carriers = plans.devices if of.pulling is None else np.minimum(of.pulling, plans.devices)
        switch_s = path.seconds(own * plans.devices / carriers)
        switch_j = own * plans.devices * path.joules_per_byte
        switch_j = switch_j + switch_s * ready.bill.idle_w
    missing = _missing(of, slots)
    run = reading.latency_s + answered_s
    first = missing * switch_s
    if of.ahead:
        each = missing * np.maximum(run, switch_s) + (1.0 - missing) * run
        answered = first + (sizes - 1.0) * each + run
    else:
        answered = sizes * (first + run)
    named_s, named_j = routing.latency_s + named_s, routing.energy_j + named_j
    latency = named_s + answered
    energy = named_j + sizes * (reading.energy_j + answered_j + missing * switch_j)
    parts = {"router": named_s, "copies": sizes * first,
             "prefill": sizes * reading.latency_s, "decode": sizes * answered_s}  # fmt: skip
    parts["hidden"] = latency - sum(parts.values())
    devices, tier = plans.devices, node.tiers[of.home]
    needed, had = of.experts * own * devices, tier["capacity_bytes"] * tier["instances"]
    spills = slots < of.experts
    held = (guide + beside + own) / capacity
    beyond = {
        "out of memory": np.log(np.maximum(held, 1.0)),
        "experts do not fit where they lie": np.where(
            spills, np.log(np.maximum(needed / had, 1.0)), 0.0
        ),
    }
    for why in reading.excess:
        beyond[why] = np.maximum(reading.excess[why], routing.excess[why])
    lacking = np.where(spills, np.maximum(needed - had, 0.0), 0.0)
    lacking = np.maximum(lacking, np.maximum(held - 1.0, 0.0) * capacity)

    def spread(values: Floats) -> Floats:
        return np.array(np.broadcast_to(values, (rows,)))

    return CompositionCost(
        spread(slots), spread(missing), spread(switch_s), spread(latency), spread(energy),
        spread(sizes * of.tokens), spread(held), spread(lacking),
        {why: spread(v) for why, v in beyond.items()}, reading,
        {name: spread(v) for name, v in parts.items()},
    )  # fmt: skip


def _answers(
    model: LanguageModel,
    prompt: int,
    tokens: int,
    batch: Floats,
    ready: Resolved,
    plans: Plans,
    given: Mapping[str, NDArray[Any]],
    rows: int,
) -> tuple[Floats, Floats, Floats]:
    """Seconds and joules of all further tokens of so many prompts, and the most bytes they need."""
    if tokens < 2:
        return np.zeros(rows), np.zeros(rows), np.zeros(rows)
    contexts = np.arange(prompt + 1, prompt + tokens)
    many = len(contexts)

    def repeated(column: NDArray[Any]) -> NDArray[Any]:
        return np.repeat(np.broadcast_to(column, (rows,)), many)

    if ready.node.designs > 1:
        every = {path: repeated(values) for path, values in given.items()}
        ready = resolved(ready.machine, ready.pricer.bits, every)
    cost = evaluate_step(
        model, ready, batch=repeated(batch), context=np.tile(contexts, rows), strict=False,
        plan=Plans({name: repeated(column) for name, column in plans.columns.items()}),
    )  # fmt: skip
    held = cost.memory_bytes["cache"] + cost.memory_bytes["workspace"]
    # added one after the other, so that one design adds in the same order as a batch
    seconds, joules = np.zeros(rows), np.zeros(rows)
    for at in range(many):
        seconds = seconds + cost.latency_s.reshape(rows, many)[:, at]
        joules = joules + cost.energy_j.reshape(rows, many)[:, at]
    return seconds, joules, held.reshape(rows, many).max(axis=1)


def _missing(of: Composition, slots: Floats) -> Floats:
    share = of.missing
    if isinstance(share, (int, float)):
        return np.full(slots.shape, float(share))
    kinds, back = np.unique(slots, return_inverse=True)

    def lost(kind: int) -> float:
        return 1.0 - _hits(of.experts, of.skew, kind) if share is None else share(kind)

    return np.array([lost(int(kind)) for kind in kinds])[back]


@lru_cache(maxsize=4096)
def _hits(experts: int, skew: float, slots: int) -> float:
    if experts < 1:
        raise InputError("must be a positive whole number", field="experts", found=experts)
    return lru_hit_share(zipf_shares(experts, skew), slots)
