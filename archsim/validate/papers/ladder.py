"""What a ladder of residuals gains (Ladder-Residual, ICML 2025), and all-reduces without peers.

The authors' code is public (mayank31398/ladder-residual-inference): PyTorch compiled by Inductor,
attention as products and a softmax (``sdp_kernel`` with ``enable_flash=False``), tokens replayed
from CUDA graphs, prompts not. That is the plan ``+unfused`` here, with logits for all tokens of a
prompt. Their prompts are not bound by the host that starts kernels, though no graph does: they grow
with the batch (0.081, 0.260, 4.06 s for 1, 4, 64 prompts). Without peer access their NCCL sends
messages of a socket through host memory and those between sockets through network adapters, while
sums in the NVSwitch go on (its log): ``+staged``, which has all go through host memory.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from archsim.hardware import load_machine, resolve_node
from archsim.system.llm import collectives, evaluate_step
from archsim.system.llm.calls import Call
from archsim.system.llm.cost import StepCost
from archsim.system.llm.pricing import pricer_for
from archsim.validate.papers.row import Row
from archsim.workload import Bits

PAPER = "Ladder-Residual (ICML'25)"
#: Of the paper's text: share of a step that all-reduces take, %, and at most; change of the time of
#: prompts, of tokens, and of tokens/s, %.
PUBLISHED: dict[str, tuple[tuple[float | None, float], tuple[float, float, float]]] = {
    "NVLink": ((None, 38.0), (-5.78, -23.71, 30.79)),
    "no peer access": ((50.0, 100.0), (-6.94, -37.71, 59.87)),
}
#: Plans of the links as the paper names them.
WAYS = {"NVLink": "", "no peer access": "+staged"}
#: The authors' logs of 70B, TP8, batch 1 (final-results-512 of their repository, which give the
#: paper's +30.79 %): seconds of the prompt, and of 511 further tokens: as it is, as a ladder, and
#: without any all-reduce.
LOGGED = {"tp8": (0.0812, 6.5310), "tp8+ladder": (0.0765, 4.9772), "": (0.0564, 4.5711)}
#: Tokens/s of 70B at batch 1 (tools/plot-70b.py of their repository): as it is, and as a ladder.
RATES = {
    ("NVLink", 2): (35.42, 36.69),
    ("NVLink", 4): (59.41, 67.51),
    ("NVLink", 8): (77.39, 101.22),
    ("no peer access", 2): (33.77, 36.94),
    ("no peer access", 4): (53.35, 66.60),
    ("no peer access", 8): (51.66, 82.59),
}
#: NCCL without peer access: 8 bytes among eight GeForce RTX 4090 (NVIDIA/nccl, issue 1530, in
#: place), us; bus bandwidth of large messages among eight GeForce RTX 5090 under two Xeon 8480+
#: (issue 1639), GB/s.
STAGED_US, STAGED_GB_PER_S = 40.06, 28.0
PROMPT, OUTPUT = 1024, 512

SLOW = (
    "their prompts reach 360 to 400 of 989 TFLOPS at any batch: PyTorch's products are slower than "
    "those we are calibrated on (by 12 to 18 % in Vidur's profile, too), their attention copies "
    "each KV head for its 8 queries, every GPU has all of the last layer; a ladder hides half of "
    "their sums at batch 4 and 64, a fifth at batch 1"
)
TRACED = (
    "a trace's share, with the wait for the slowest GPU; by the authors' own logs, with and "
    "without all-reduces, 30 %"
)
SOCKETS = (
    "eight GPUs are two sockets, between which their NCCL takes network adapters: by their "
    "tokens/s an all-reduce takes 64 us (26 us among four GPUs of a socket); ours, all through "
    "host memory, 42 us (22 us)"
)


def _steps(plan: str) -> tuple[StepCost, StepCost]:
    """The prompt, and all further tokens, of one request."""
    plan = plan.replace("+", "+unfused+", 1) if "+" in plan else f"{plan}+unfused"
    machine, model = "h100x8", "llama-3-70b"
    first = evaluate_step(
        model, machine, phase="prefill", context=PROMPT, plan=plan, all_logits=True
    )
    contexts = np.arange(PROMPT + 1, PROMPT + OUTPUT)
    return first, evaluate_step(model, machine, context=contexts, plan=plan)


def _seconds(cost: StepCost, sums: bool = True) -> float:
    """All steps together, or without their all-reduces."""
    left_out = 0.0 if sums else cost.parts_s["collectives"]
    return float(np.sum(cost.latency_s - left_out))


def _logs() -> Iterator[Row]:
    """The authors' logs, beside the same steps here."""
    for plan, (prompt_s, rest_s) in LOGGED.items():
        first, rest = _steps(plan or "tp8")
        said = f"plan {plan}" if plan else "without all-reduces"
        ours = _seconds(first, bool(plan)) * 1e3
        figure = f"70B, NVLink, logs: prompt of 1024 tokens, {said}"
        yield Row(PAPER, figure, prompt_s * 1e3, ours, "ms", cause=SLOW)
        ours = _seconds(rest, bool(plan)) / (OUTPUT - 1) * 1e3
        figure = f"70B, NVLink, logs: a token, {said}"
        yield Row(PAPER, figure, rest_s / (OUTPUT - 1) * 1e3, ours, "ms")
    rest = _steps("tp8")[1]
    share = 100 * (1 - _seconds(rest, False) / _seconds(rest))
    logged = 100 * (1 - LOGGED[""][1] / LOGGED["tp8"][1])
    cause = "all-reduces are calibrated on a benchmark that does nothing else: 18 us, in place 24"
    figure = "70B TP8, NVLink, logs: share of all-reduces in a token"
    yield Row(PAPER, figure, logged, share, "%", cause=cause)


def rows() -> Iterator[Row]:
    """What a ladder gains of Llama-3 70B on eight H100: 1024 tokens in, 512 out, batch 1."""
    yield from _logs()
    for said, ((least, most), changes) in PUBLISHED.items():
        plain, ladder = (_steps(f"tp8{mode}{WAYS[said]}") for mode in ("", "+ladder"))
        far = SOCKETS if WAYS[said] else ""
        share = 100 * (1 - _seconds(plain[1], False) / _seconds(plain[1]))
        figure = f"70B TP8, {said}: share of all-reduces in a step"
        yield Row(PAPER, figure, most, share, "%", least=least, cause=far or TRACED)
        times = [(_seconds(a), _seconds(b)) for a, b in (plain, ladder)]
        found = [b / p - 1.0 for p, b in zip(*times, strict=True)]
        found.append(sum(times[0]) / sum(times[1]) - 1.0)
        names = ("prefill time", "decode time", "tokens/s")
        for name, value, ours, cause in zip(names, changes, found, (SLOW, far, far), strict=True):
            yield Row(PAPER, f"70B TP8, {said}: change of {name}", value, ours * 100, "%",
                      cause=cause)  # fmt: skip
    for (said, tensor), published in RATES.items():
        for mode, value in zip(("", "+ladder"), published, strict=True):
            plan = f"tp{tensor}{mode}{WAYS[said]}"
            rate = OUTPUT / sum(_seconds(step) for step in _steps(plan))
            yield Row(PAPER, f"70B, plan {plan}, {said}", value, rate, "tokens/s",
                      cause=SOCKETS if WAYS[said] and tensor == 8 else "")  # fmt: skip
    yield from _staged()


def _staged() -> Iterator[Row]:
    """All-reduces of NCCL without peer access, and without a switch that adds up."""
    machine = load_machine("h100x8").with_values({"links.nvlink.reduces": False})
    node = resolve_node(machine)
    pricer = pricer_for(machine, node, Bits())
    links = collectives.staged(machine, node, "hbm", collectives.levels(machine, node))

    def time(held: float) -> float:
        sizes = {"bytes": np.array([held]), "members": np.array([8.0])}
        return float(pricer.collective(Call("sum", "all_reduce", sizes), links)[0][0])

    paper = "NCCL without peer access, measured"
    small, large = time(8.0) * 1e6, 2**30
    figure = "8 bytes among 8 GPUs, through host memory (calibrated)"
    yield Row(paper, figure, STAGED_US, small, "us", 0.20)
    bus = 2 * 7 / 8 * large / time(large) / 1e9
    figure = "bus bandwidth of 1 GiB, 8 GPUs under two Xeon 8480 (not calibrated)"
    yield Row(paper, figure, STAGED_GB_PER_S, bus, "GB/s", 0.20)


#: What is not computed, and why.
NOT_COMPUTED = (
    (
        "Ladder-Residual: other sizes",
        "8B, 405B: the batch of that table is not known; 1B, 3B, 34B, 176B: configs not shipped",
    ),
    (
        "Ladder-Residual: batches of 4 to 64 in the authors' plots",
        "their attention copies each KV head for its 8 queries and works on the padded cache",
    ),
)
