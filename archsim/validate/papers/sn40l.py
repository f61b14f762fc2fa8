"""SN40L: fused layers, and its composition of experts beside DGX nodes (MICRO 2024).

The paper measures its node and estimates the DGX from published latencies and data sheets; ours
are the calibrated GPU kernels. Assumed, as it gives no lengths: prompts of 4096 tokens (its
benchmark of Llama-2 7B), a router of the experts' size that reads all prompts of a batch at once,
an expert to copy for every prompt, and, as the paper takes it, one link for the whole DGX.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from archsim.hardware import load_machine
from archsim.system.llm import evaluate_step
from archsim.system.llm.composition import ExpertsCost, evaluate_experts
from archsim.validate.papers.row import Row

PAPER = "SN40L (MICRO'24)"
MODEL, PROMPT = "llama-2-7b", 4096
#: Of the paper's table: batch, tokens, over DGX A100, over DGX H100.
OVERALL = ((8, 20, 6.6, 3.7), (1, 20, 4.8, 2.8), (8, 200, 4.2, 2.7), (1, 200, 3.9, 2.6))
#: One prompt's expert without router and copy: tokens, over DGX A100, over DGX H100.
ALONE = ((20, 2.0, 1.5), (200, 3.2, 2.3))
PREFILL = (
    "reading the prompt is bound by the links between sockets, whose bandwidth is not published "
    "(assumed 100 GB/s a socket), and lengths of prompts are not given"
)


def composition(machine: str, batch: int = 1, tokens: int = 20) -> ExpertsCost:
    """The paper's 150 experts on one of its machines; every prompt waits for its expert."""
    near = machine.startswith("sn40l")
    return evaluate_experts(
        MODEL, machine, experts=150, home="ddr" if near else "host_dram", plan="tp8",
        batch=batch, prompt=PROMPT, tokens=tokens, missing=1.0, pulling=None if near else 1,
    )  # fmt: skip


def experts() -> Iterator[Row]:
    """Switching experts, answering prompts, and how many a machine holds."""
    node, a100, h100 = (composition(name) for name in ("sn40lx8", "a100x8", "h100x8"))
    for name, dgx, published in (("A100", a100, 31), ("H100", h100, 15)):
        figure = f"model switch over DGX {name}, one PCIe link for the DGX"
        yield Row(PAPER, figure, published, dgx.switch_s / node.switch_s, "x")
    for batch, tokens, *overall in OVERALL:
        ours = composition("sn40lx8", batch, tokens)
        for name, value in zip(("A100", "H100"), overall, strict=True):
            other = composition(f"{name.lower()}x8", batch, tokens)
            figure = f"overall over DGX {name}, batch {batch}, {tokens} tokens, prompts of {PROMPT}"
            gain = other.latency_s / ours.latency_s
            yield Row(PAPER, figure, value, gain, "x", cause=PREFILL)
    for tokens, *alone in ALONE:
        ours = composition("sn40lx8", 1, tokens)
        for name, value in zip(("A100", "H100"), alone, strict=True):
            other = composition(f"{name.lower()}x8", 1, tokens)
            figure = f"expert alone over DGX {name}, batch 1, {tokens} tokens, prompt of {PROMPT}"
            yield Row(PAPER, figure, value, other.run_s / ours.run_s, "x", cause=PREFILL)
    held = "experts at hand on a DGX A100, beside router and caches (spill)"
    yield Row(PAPER, held, 50, a100.slots)
    yield Row(PAPER, "experts in the host memory of a DGX A100 (end)", 150, a100.most_experts)
    nodes = float(np.ceil(850 / a100.slots))
    yield Row(PAPER, "DGX A100 nodes that have 850 experts at hand", 19, nodes)
    yield Row(
        PAPER, "experts in the DDR of an SN40L node", 850, node.most_experts,
        cause="12 TiB hold more of 13.5 GB; what else the node keeps there is not published",
    )  # fmt: skip


def fusion() -> Iterator[Row]:
    """What fused layers and launches by hardware gain: Llama-2 7B, 4096 tokens, eight sockets."""

    def time(phase: str, plan: str) -> float:
        cost = evaluate_step(MODEL, "sn40lx8", phase=phase, context=PROMPT, plan=plan)
        return float(cost.latency_s[0])

    plain, fused = (
        evaluate_step(MODEL, "sn40lx8", phase="prefill", context=PROMPT, plan=plan)
        for plan in ("tp8+unfused", "tp8")
    )
    calls = float(plain.kernels[0] / fused.kernels[0])
    yield Row(PAPER, "kernels unfused over fused, prefill", 11, calls, "x")
    said = "launches by hardware; those by software are assumed to take 20 us"
    for phase, least, most in (("prefill", 1.5, 3.0), ("decode", 1.0, 13.0)):
        gain = time(phase, "tp8+unfused+software") / time(phase, "tp8+software")
        figure = f"fused over unfused, {phase}, launches by software"
        yield Row(PAPER, figure, most, gain, "x", least=least, cause=said)
    for phase, least, most in (("prefill", 1.0, 1.1), ("decode", 1.4, 8.0)):
        gain = time(phase, "tp8+software") / time(phase, "tp8")
        figure = f"launches by hardware over software, {phase}"
        yield Row(PAPER, figure, most, gain, "x", least=least, cause=said)


def rows() -> Iterator[Row]:
    """All of them."""
    yield from experts()
    yield from fusion()
    cost = evaluate_step("llama-3-8b", load_machine("sn40lx16"), context=8192, plan="tp16")
    yield Row(
        PAPER, "Llama-3 8B on 16 sockets, context 8192", 1042, float(1.0 / cost.latency_s[0]),
        "tokens/s", cause="links between sockets are not published",
    )  # fmt: skip


#: What is not computed, and why.
NOT_COMPUTED = (
    (
        "SN40L: Llama 3.1 70B and 405B tokens/s",
        "with speculative decoding, whose drafts and acceptance are not published",
    ),
    (
        "SN40L: FlashFFTConv 13x, sparseGPT, Bloom, Mistral, Falcon, LLaVA",
        "configs not shipped, or no bar is given as a number",
    ),
)
