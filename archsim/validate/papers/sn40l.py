"""SN40L: fused layers, and its composition of experts beside DGX nodes (MICRO 2024).

The paper measures its node and estimates the DGX from published latencies and data sheets; ours
are the calibrated GPU kernels. Assumed, as it gives no lengths: prompts of 4096 tokens (its
benchmark of Llama-2 7B), a router of the experts' size that reads all prompts of a batch at once
and answers no more (SambaNova's own compositions route by a 7B embedding model: "Samba-CoE v0.3",
their blog, April 2024), an expert to copy for every prompt, and, as the paper takes it, one link
for the whole DGX. What a figure is over likely values of what is not published stands below the
table.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

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
ROUTER = (
    "lengths of prompts are not given, nor what the router does: with one that reads as a 7B model "
    "does, ours gains as much at batch 1 as at 8; the paper gains less at 1, as where the router "
    "takes about as long as an expert however many prompts it reads"
)
#: Tokens of a prompt, and links of a socket to the others, bytes/s.
PROMPTS, LINKS = (1024, PROMPT), (50e9, 200e9)


@cache
def composition(
    machine: str,
    batch: int = 1,
    tokens: int = 20,
    prompt: int = PROMPT,
    link: float | None = None,
) -> ExpertsCost:
    """The paper's 150 experts on one of its machines; every prompt waits for its expert.

    Args:
        machine: Its name.
        batch, tokens, prompt: As ``evaluate_experts`` takes them.
        link: Bandwidth of a socket to the others, bytes/s, in place of the machine's.
    """
    near, found = machine.startswith("sn40l"), load_machine(machine)
    if link is not None:
        found = found.with_values({"links.peer_to_peer.bandwidth_bytes_per_s": link})
    return evaluate_experts(
        MODEL, found, experts=150, home="ddr" if near else "host_dram", plan="tp8",
        batch=batch, prompt=prompt, tokens=tokens, missing=1.0, pulling=None if near else 1,
    )  # fmt: skip


def experts() -> Iterator[Row]:
    """Switching experts, answering prompts, and how many a machine holds."""
    node, a100, h100 = (composition(name) for name in ("sn40lx8", "a100x8", "h100x8"))
    for name, dgx, published in (("A100", a100, 31), ("H100", h100, 15)):
        figure = f"model switch over DGX {name}, one PCIe link for the DGX"
        yield Row(PAPER, figure, published, dgx.switch_s / node.switch_s, "x")
    over = f"prompts of {PROMPTS[0]} to {PROMPTS[1]} tokens"
    for batch, tokens, *overall in OVERALL:
        for name, value in zip(("A100", "H100"), overall, strict=True):
            gains = {
                prompt: composition(f"{name.lower()}x8", batch, tokens, prompt).latency_s
                / composition("sn40lx8", batch, tokens, prompt).latency_s
                for prompt in PROMPTS
            }
            figure = f"overall over DGX {name}, batch {batch}, {tokens} tokens, prompts of {PROMPT}"
            yield Row(
                PAPER, figure, value, gains[PROMPT], "x", cause=ROUTER,
                spread=tuple(gains.values()), over=over,
            )  # fmt: skip
    for tokens, *alone in ALONE:
        ours, *others = (
            composition("sn40lx8", 1, tokens, link=link).run_s for link in (None, *LINKS)
        )
        for name, value in zip(("A100", "H100"), alone, strict=True):
            other = composition(f"{name.lower()}x8", 1, tokens).run_s
            figure = f"expert alone over DGX {name}, batch 1, {tokens} tokens, prompt of {PROMPT}"
            yield Row(
                PAPER, figure, value, other / ours, "x", cause=PREFILL,
                spread=tuple(other / run for run in others),
                over=f"links of {LINKS[0] / 1e9:.0f} to {LINKS[1] / 1e9:.0f} GB/s a socket",
            )  # fmt: skip
    held = "experts at hand on a DGX A100, beside router and caches (spill)"
    yield Row(PAPER, held, 50, a100.slots)
    yield Row(PAPER, "experts in the host memory of a DGX A100 (end)", 150, a100.most_experts)
    nodes = float(np.ceil(850 / a100.slots))
    yield Row(PAPER, "DGX A100 nodes that have 850 experts at hand", 19, nodes)
    yield Row(
        PAPER, "experts in the DDR of an SN40L node", 850, node.most_experts,
        cause="eight times 1.5 TiB hold more of 13.5 GB; 12 TB hold 857 of 7 billion parameters",
        spread=(12e12 // 14e9,),
        over="12 TB or TiB, and parameters of an expert (7 or 6.74 billion)",
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
    rack = load_machine("sn40lx16")
    slide = rack.with_values({"tiers.hbm.bandwidth_bytes_per_s": 1.6e12})
    rate, slower = (
        1.0 / float(evaluate_step("llama-3-8b", node, context=8192, plan="tp16").latency_s[0])
        for node in (rack, slide)
    )
    yield Row(
        PAPER, "Llama-3 8B on 16 sockets, context 8192", 1042, rate, "tokens/s",
        cause="links between sockets are not published", spread=(slower,),
        over="HBM of 1.6 TB/s a socket (25.6 of 16 in the slides) or 1.8",
    )  # fmt: skip
    switches = [
        evaluate_experts("llama-3-8b", node, experts=150, home="ddr", plan="tp16").switch_s
        for node in (rack, rack.with_values({"tiers.ddr.bandwidth_bytes_per_s": 100e9}))
    ]
    yield Row(
        PAPER, "slides, 16 sockets: switch to Llama-3 8B (printed with one digit)", 0.01,
        switches[0], "s", allowed=0.5, spread=tuple(switches[1:]),
        over="DDR of 100 GB/s a socket (1600 of 16 in the slides), or above 1 TB/s of 8 (paper)",
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
