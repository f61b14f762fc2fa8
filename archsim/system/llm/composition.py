"""Composition of experts: a router and many whole models, of which a machine holds a few at hand.

A router reads every prompt and names an expert, which then answers it (Samba-CoE in SN40L, MICRO
2024). All experts lie in a large tier; those used last are kept beside the router in the tier the
engines work from (LRU). An expert that is not there is copied before it runs; as weights are only
read, nothing is copied back. Many designs at once: ``archsim.system.llm.experts``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from archsim.errors import InputError
from archsim.hardware import Machine, load_machine, resolve_node
from archsim.system.llm.experts import Composition, evaluate_compositions
from archsim.system.llm.plan import Plan
from archsim.system.llm.residency import lru_hit_share, lru_hits, zipf_shares
from archsim.system.llm.rows import Plans, check
from archsim.workload.huggingface import load_model
from archsim.workload.language import LanguageModel
from archsim.workload.steps import Bits

__all__ = ["ExpertsCost", "evaluate_experts", "lru_hit_share", "lru_hits", "zipf_shares"]

#: Of experts, prompts, or tokens; what is walked or priced one by one would take too long.
MOST = 10_000_000


@dataclass(frozen=True)
class ExpertsCost:
    """What a composition takes for a batch of prompts, and what of it fits where.

    Attributes:
        machine, expert, router: Names.
        experts: Of the composition.
        slots: Experts at hand at once, beside router, caches and workspace.
        home: Tier all experts lie in.
        home_capacity_bytes, home_needed_bytes: Of that tier, the whole machine.
        expert_bytes: Weights of one expert, all devices together.
        missing: Share of prompts whose expert has to be copied first.
        router_s: The router on the batch.
        switch_s: Copying one expert.
        prefill_s, decode_s: Of one prompt: reading it, and all further tokens.
        latency_s: Of the batch: the router, then prompt after prompt.
        energy_j: Of the batch: steps and copies.
        batch, tokens: Prompts, and tokens for each.
    """

    machine: str
    expert: str
    router: str
    experts: int
    slots: int
    home: str
    home_capacity_bytes: float
    home_needed_bytes: float
    expert_bytes: float
    missing: float
    router_s: float
    switch_s: float
    prefill_s: float
    decode_s: float
    latency_s: float
    energy_j: float
    batch: int
    tokens: int

    @property
    def run_s(self) -> float:
        """One expert on one prompt, without its copy."""
        return self.prefill_s + self.decode_s

    @property
    def spills(self) -> bool:
        """Whether not all experts are at hand."""
        return self.experts > self.slots

    @property
    def overflow_bytes(self) -> float:
        """Bytes the home tier lacks, where experts do not all fit at hand; 0 if none."""
        if not self.spills:
            return 0.0
        if self.slots == 0:
            return self.expert_bytes
        return max(self.home_needed_bytes - self.home_capacity_bytes, 0.0)

    @property
    def fits(self) -> bool:
        """Whether all experts have a place, and at least one runs."""
        return self.overflow_bytes == 0

    @property
    def most_experts(self) -> int:
        """Experts that the machine has a place for."""
        return max(self.slots, int(self.home_capacity_bytes // self.expert_bytes))

    @property
    def tokens_per_s(self) -> float:
        """Tokens answered, all prompts."""
        return self.batch * self.tokens / self.latency_s

    def parts_s(self) -> dict[str, float]:
        """The batch's time by part; ``hidden`` is what copies ahead save."""
        parts = {
            "router": self.router_s,
            "copies": self.batch * self.missing * self.switch_s,
            "prefill": self.batch * self.prefill_s,
            "decode": self.batch * self.decode_s,
        }
        return parts | {"hidden": self.latency_s - sum(parts.values())}

    def explain(self) -> str:
        """The composition in words."""
        state = "all at hand" if not self.spills else f"{self.slots} at hand, rest in {self.home}"
        if not self.fits:
            state = f"OUT OF MEMORY: {self.overflow_bytes / 1e9:,.1f} GB too many"
        parts = ", ".join(f"{n} {1e3 * v:,.2f} ms" for n, v in self.parts_s().items() if v)
        return "\n".join([
            f"{self.experts} experts {self.expert}, router {self.router}, on {self.machine}",
            f"{'places':24}{state} (of {self.home}: room for "
            f"{self.home_capacity_bytes // self.expert_bytes:,.0f})",
            f"{'switch':24}{1e3 * self.switch_s:,.2f} ms for {self.expert_bytes / 1e9:,.2f} GB; "
            f"{self.missing:.1%} of prompts wait for one",
            f"{'batch':24}{1e3 * self.latency_s:,.2f} ms for {self.batch} x {self.tokens} tokens, "
            f"{self.tokens_per_s:,.1f} tokens/s, {self.energy_j:,.1f} J",
            f"{'parts':24}{parts}",
        ])  # fmt: skip


def evaluate_experts(
    expert: LanguageModel | str,
    machine: Machine | str,
    *,
    experts: int,
    home: str,
    router: LanguageModel | str | None = None,
    plan: Plan | str = "tp1",
    batch: int = 1,
    prompt: int = 4096,
    tokens: int = 20,
    missing: float | None = None,
    shares: ArrayLike | None = None,
    requests: Sequence[int] | None = None,
    ahead: bool = False,
    pulling: int | None = None,
    router_tokens: int = 1,
    bits: Bits | None = None,
) -> ExpertsCost:
    """Time, energy and places of a composition of equal experts.

    The router works on all prompts of a batch at once; then each is answered by its expert, one
    after the other. Running out of memory is a result.

    Args:
        expert: Every expert's model.
        machine: A machine, the name of a shipped one, or a file.
        experts: How many there are.
        home: Tier that holds all of them, e.g. ``ddr`` or ``host_dram``.
        router: The router's model; default the expert's.
        plan: Parallelism of router and experts; all devices work on one of them at a time.
        batch: Prompts.
        prompt: Tokens of each.
        tokens: Answered to each; the first one comes with reading the prompt.
        missing: Share of prompts whose expert is not at hand; default from ``requests`` (exact
            LRU, from empty), or else from ``shares`` in the long run.
        shares: How often each expert is asked for; default all alike.
        requests: Experts asked for, in order.
        ahead: Copy the next prompt's expert while the current one runs.
        pulling: Devices whose ways carry a copy, evenly; default all of the plan. (With fewer, the
            others get their part over the faster links between devices, which is not added.)
        router_tokens: Tokens in which the router names an expert; the first one comes with reading
            the prompts, so that 1 is a router that classifies.
        bits: Bits an element.

    Raises:
        InputError: A count or share out of range, no such tier, or no way from it to the engines.

    Example:
        >>> cost = evaluate_experts("llama-2-7b", "sn40lx8", experts=150, home="ddr", plan="tp8")
        >>> cost.fits, cost.spills, 13e-3 < cost.switch_s < 15e-3
        (True, True, True)
    """
    counts = {"experts": experts, "batch": batch, "prompt": prompt, "tokens": tokens,
              "pulling": 1 if pulling is None else pulling,
              "router_tokens": router_tokens}  # fmt: skip
    for name, value in counts.items():
        if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= MOST:
            raise InputError("must be a positive whole number", field=name, found=value,
                             expected=f"1 to {MOST}")  # fmt: skip
    if missing is not None and not 0 <= missing <= 1:
        raise InputError("must be a share", field="missing", found=missing, expected="0 to 1")
    found = load_machine(machine) if isinstance(machine, str) else machine
    model = load_model(expert) if isinstance(expert, str) else expert
    guide = model if router is None else load_model(router) if isinstance(router, str) else router
    plan = Plan.parse(plan) if isinstance(plan, str) else plan
    if pulling is not None and pulling > plan.devices:
        raise InputError("more devices pull than the plan has", field="pulling", found=pulling,
                         expected=f"at most {plan.devices}")  # fmt: skip
    for one in (model, guide):
        if one.image_tokens:
            raise InputError("a model of images reads no prompt", field=one.name,
                             expected="a language model")  # fmt: skip
    found.item("tiers", home)
    node = resolve_node(found)
    for one in {model.name: model, guide.name: guide}.values():
        check(Plans.of(plan), found, node, one.architecture, one.name)

    def waiting(slots: int) -> float:
        return _missing(experts, slots, shares, requests)

    of = Composition(
        model, guide, experts, home, prompt, tokens, ahead=ahead, pulling=pulling,
        missing=waiting if missing is None else missing, router_tokens=router_tokens,
    )  # fmt: skip
    cost = evaluate_compositions(of, found, batch=batch, plan=plan, bits=bits)
    held = float(cost.reading.memory_bytes["weights"][0]) * plan.devices
    tier = node.tiers[home]
    parts = {name: float(value[0]) for name, value in cost.parts_s.items()}
    return ExpertsCost(
        found.name, model.name, guide.name, experts, int(cost.slots[0]), home,
        float(tier["capacity_bytes"][0] * tier["instances"][0]), experts * held, held,
        float(cost.missing[0]), parts["router"], float(cost.switch_s[0]),
        parts["prefill"] / batch, parts["decode"] / batch, float(cost.latency_s[0]),
        float(cost.energy_j[0]), batch, tokens,
    )  # fmt: skip


def _missing(
    experts: int, slots: int, shares: ArrayLike | None, requests: Sequence[int] | None
) -> float:
    if requests is not None:
        asked = np.asarray(requests)
        if asked.ndim != 1 or not asked.size or asked.min() < 0 or asked.max() >= experts:
            raise InputError(
                "requests name experts by number", field="requests", expected=f"0 to {experts - 1}"
            )
        return float(1.0 - lru_hits(asked.tolist(), slots).mean())
    each = zipf_shares(experts) if shares is None else np.asarray(shares, dtype=float)
    if len(each) != experts:
        raise InputError(
            "one share an expert", field="shares", found=len(each), expected=str(experts)
        )
    return 1.0 - lru_hit_share(each, slots)
