"""What a ladder of residuals gains (Ladder-Residual, ICML 2025)."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from archsim.hardware import Machine, load_machine, resolve_node
from archsim.system.llm import evaluate_step
from archsim.system.llm.tiers import tier_path
from archsim.validate.papers.row import Row

PAPER = "Ladder-Residual (ICML'25)"
#: Of the paper's text: share of a step that all-reduces take, %, and at most.
ALL_REDUCE: dict[str, tuple[float | None, float]] = {
    "NVLink": (None, 38.0),
    "no peer access": (50.0, 100.0),
}
ALONE = (
    "all-reduces are calibrated on a benchmark that does nothing else; between a model's kernels "
    "they wait for the slowest of eight GPUs and take longer"
)
HOSTED = (
    "the authors' logs give 2.48 s for reading 1024 tokens on eight H100, of which products need "
    "0.03 s: what is measured there is not the GPUs' work"
)


def without_peer_access(machine: Machine) -> Machine:
    """The machine with its GPUs' messages through host memory instead of their own links."""
    node = resolve_node(machine)
    ways = [tier_path(machine, node, *way) for way in (("hbm", "host_dram"), ("host_dram", "hbm"))]
    return machine.with_values({
        "links.nvlink.bandwidth_bytes_per_s": float(min(way.bandwidth[0] for way in ways)),
        "links.nvlink.latency_s": float(sum(way.latency[0] for way in ways)),
        "links.nvlink.reduces": False,
    })  # fmt: skip


def rows() -> Iterator[Row]:
    """What a ladder gains of Llama-3 70B on eight H100: 1024 tokens in, 512 out, batch 1."""
    contexts = np.arange(1025, 1024 + 512)
    nvlink = load_machine("h100x8")
    for said, machine, published in (
        ("NVLink", nvlink, (-5.78, -23.71, 30.79)),
        ("no peer access", without_peer_access(nvlink), (-6.94, -37.71, 59.87)),
    ):
        found, shares = [], []
        for plan in ("tp8", "tp8+ladder"):
            first = evaluate_step(
                "llama-3-70b", machine, phase="prefill", context=1024, plan=plan
            ).latency_s[0]
            cost = evaluate_step("llama-3-70b", machine, context=contexts, plan=plan)
            rest = cost.latency_s.sum()
            found.append((first, rest, first + rest))
            shares.append(100 * cost.parts_s["collectives"].sum() / rest)
        least, most = ALL_REDUCE[said]
        figure = f"70B TP8, {said}: share of all-reduces in a step"
        yield Row(PAPER, figure, most, shares[0], "%", least=least, cause=ALONE)
        plain, better = found
        changes = [b / p - 1.0 for p, b in zip(plain[:2], better[:2], strict=True)]
        changes.append(plain[2] / better[2] - 1.0)
        for name, value, ours in zip(
            ("prefill time", "decode time", "tokens/s"), published, changes, strict=True
        ):
            figure = f"70B TP8, {said}: change of {name}"
            cause = HOSTED if name == "prefill time" else ALONE
            yield Row(PAPER, figure, value, ours * 100, "%", cause=cause)


#: What is not computed, and why.
NOT_COMPUTED = (
    (
        "Ladder-Residual: other sizes",
        "8B, 405B: the batch of that table is not known; 1B, 3B, 34B, 176B: configs not shipped",
    ),
)
