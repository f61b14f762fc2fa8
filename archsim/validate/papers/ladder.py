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
#: The authors' logs of 70B, TP8, batch 1 (final-results-512 of their repository, which give the
#: paper's +30.79 %): seconds of the prompt, and of 511 further tokens, as it is, as a ladder, and
#: without any all-reduce.
LOGGED = {"tp8": (0.0812, 6.5310), "tp8+ladder": (0.0765, 4.9772)}
WITHOUT_S = 4.5711
ALONE = (
    "all-reduces are calibrated on a benchmark that does nothing else; in the authors' logs they "
    "take 3.8 ms of a token (with none: 8.9 ms), ours 2.5 of 12.5 ms"
)
HOSTED = (
    "prompts run without graphs in the authors' code, so that the host's time to start kernels, "
    "which a ladder does not shorten, counts (81 ms; ours with graphs 53, host-started 83 ms)"
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
    for plan, (prompt_s, rest_s) in LOGGED.items():
        ours = evaluate_step(
            "llama-3-70b", nvlink, phase="prefill", context=1024, plan=f"{plan}+eager"
        ).latency_s[0]
        figure = f"70B, NVLink, logs: prompt of 1024 tokens, plan {plan}+eager"
        yield Row(PAPER, figure, prompt_s * 1e3, ours * 1e3, "ms", cause=HOSTED)
        cost = evaluate_step("llama-3-70b", nvlink, context=contexts, plan=plan)
        figure = f"70B, NVLink, logs: a token, plan {plan}"
        each = rest_s / len(contexts) * 1e3
        yield Row(PAPER, figure, each, cost.latency_s.mean() * 1e3, "ms", cause=ALONE)
        if plan == "tp8":
            none = (cost.latency_s - cost.parts_s["collectives"]).mean() * 1e3
    figure = "70B, NVLink, logs: a token without all-reduces"
    yield Row(PAPER, figure, WITHOUT_S / len(contexts) * 1e3, none, "ms", cause=ALONE)
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
