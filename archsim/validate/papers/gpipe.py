"""GPipe: bubbles and throughput (arXiv 1811.06965)."""

from __future__ import annotations

from collections.abc import Iterator

from archsim.hardware import Machine, load_machine, resolve_node
from archsim.system.llm import evaluate_step
from archsim.system.llm.schedules import bubble_share, walk
from archsim.validate.papers.row import EXACT, Row
from archsim.workload.huggingface import model_of
from archsim.workload.language import LanguageModel

#: The paper's Transformer of 48 layers (section 3): learnt positions, as GPT-2.
GPIPE_TRANSFORMER = {
    "model_type": "gpt2", "vocab_size": 32000, "n_embd": 2048, "n_inner": 8192, "n_layer": 48,
    "n_head": 32, "n_positions": 1024,
}  # fmt: skip
#: Of the paper's table 2: throughput by micro-batches and partitions, over that of (1, 2).
GPIPE_THROUGHPUT = {
    1: {4: 1.07, 8: 1.3},
    4: {2: 1.7, 4: 3.2, 8: 4.8},
    32: {2: 1.8, 4: 3.4, 8: 6.3},
}


def tpu_core() -> Machine:
    """One of the two cores of a TPU v3, the paper's accelerator."""
    chip = load_machine("tpu_v3")
    node = resolve_node(chip)
    hbm, mxu = node.tiers["hbm"], node.engines["mxu"]
    halves: dict[str, float] = {
        f"tiers.hbm.{name}": float(hbm[name][0]) / 2
        for name in ("capacity_bytes", "bandwidth_bytes_per_s")
    }
    for rate in ("rates.bf16.flops_per_s", "vector_rates.fp32.flops_per_s"):
        halves[f"engines.mxu.{rate}"] = float(mxu[rate][0]) / 2
    return chip.with_values(halves)


def stage_times(model: LanguageModel, machine: Machine, batch: int, stages: int) -> list[float]:
    """Forward time of each stage for one micro-batch; the ends lie in the outer stages."""
    layers = len(model.architecture.layers)
    cost = evaluate_step(
        model, machine, phase="prefill", batch=batch, context=model.architecture.longest,
        all_logits=True,
    )  # fmt: skip
    ends = {name: cost.calls_s[name][0] for name in ("embedding", "final_norm", "head")}
    body = (cost.latency_s[0] - sum(ends.values())) / layers
    share, more = divmod(layers, stages)
    times = [body * (share + (k < more)) for k in range(stages)]
    times[0] += ends["embedding"]
    times[-1] += ends["final_norm"] + ends["head"]
    return times


def rows() -> Iterator[Row]:
    """The bubble of a walked schedule beside its formula, and the Transformer's throughput."""
    for stages, micro in ((2, 1), (4, 4), (8, 32), (128, 512)):
        walked = walk([1.0] * stages, [3.0] * stages, micro)
        figure = f"bubble, {stages} stages, {micro} micro-batches: formula and schedule walked"
        yield Row("GPipe", figure, bubble_share(stages, micro), walked.bubble, "", EXACT)
    model, machine, batch = model_of(GPIPE_TRANSFORMER, "transformer-48"), tpu_core(), 32
    found = {}
    for micro in GPIPE_THROUGHPUT:
        for stages in (2, 4, 8):
            forward = stage_times(model, machine, batch // micro, stages)
            # Backward is twice the forward pass, which runs once more (rematerialisation).
            found[micro, stages] = walk(forward, [3.0 * t for t in forward], micro).latency_s
    for micro, columns in GPIPE_THROUGHPUT.items():
        for stages, published in columns.items():
            figure = (
                f"throughput, Transformer-48, batch 32, M = {micro}, K = {stages}, over M 1, K 2"
            )
            yield Row("GPipe", figure, published, found[1, 2] / found[micro, stages], "x")


#: What is not computed, and why.
NOT_COMPUTED = (
    (
        "GPipe: AmoebaNet-D columns, P100 columns",
        "the network and the GPU are not shipped; AmoebaNet's split is uneven and not given",
    ),
)
