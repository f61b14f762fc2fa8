"""Deep Optimizer States: steps of training with the optimizer in host memory (Middleware 2024).

Medians of the authors' logs (github.com/mauryaavinash95/deep-optimizer-states-results): ZeRO-3 over
four H100, 20B parameters (40 layers of 5120), micro-batch 1 of 2048 tokens, all states in host
memory. The node is not published: assumed is the DGX H100's host and its links. The inner width of
the "20B" model is not in its name: 27,648 (twice that of the authors' 13B of the same depth and
width) with their four KV heads and vocabulary makes 19.6e9. PyTorch without graphs or fused
attention, as their command lines have it; collectives not hidden, as their A100 log has it (forward
0.37 s against 0.23 s of kernels).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from archsim.hardware import Machine, load_machine
from archsim.system.llm.training import Training, TrainingCost, evaluate_training
from archsim.validate.papers.row import Row
from archsim.workload.huggingface import model_of

PAPER = "Deep Optimizer States (Middleware'24), logs"
CONFIG = {
    "model_type": "llama", "vocab_size": 32000, "hidden_size": 5120, "intermediate_size": 27648,
    "num_hidden_layers": 40, "num_attention_heads": 40, "num_key_value_heads": 4,
    "max_position_embeddings": 2048, "hidden_act": "silu", "rms_norm_eps": 1e-5,
    "tie_word_embeddings": False,
}  # fmt: skip
#: How gradients and states move: as DeepSpeed does, with copies beside the backward pass, and with
#: every second subgroup updated by the devices.
WAYS: dict[str, dict[str, Any]] = {
    "waiting for copies": {"blocking": True},
    "copies beside the backward pass": {},
    "every second subgroup on the devices": {"device_share": 0.5},
}


#: The other models of the logs, and the steps of theirs that calibrate nothing, ms. (Of the 13B's
#: the first two give the rates of updates and of waiting copies, see ``training``.)
OTHERS = {
    "13B": ({"intermediate_size": 13824}, {"every second subgroup on the devices": 4725}),
    "7B": (
        {"hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32,
         "num_attention_heads": 32},
        {"waiting for copies": 3796, "every second subgroup on the devices": 2246},
    ),
}  # fmt: skip


def polaris() -> Machine:
    """A node of Polaris, where the A100 logs come from: four A100 40 GB, one EPYC 7543P."""
    return load_machine("a100x4").with_values({
        "tiers.hbm.capacity_bytes": 40 * 2**30,
        "tiers.hbm.bandwidth_bytes_per_s": 1.555e12,
        "tiers.host_dram.capacity_bytes": 512e9,
        "tiers.host_dram.bandwidth_bytes_per_s": 204.8e9,
    })  # fmt: skip


def step(
    machine: Machine | str = "h100x4", config: dict[str, Any] | None = None, **how: Any
) -> TrainingCost:
    """One step, as logged."""
    return evaluate_training(
        model_of({**CONFIG, **(config or {})}, "logged"), machine, batch=4, context=2048,
        plan="dp4+eager", how=Training(zero=3, states="host_dram", overlap=False, **how),
    )  # fmt: skip


def rows() -> Iterator[Row]:
    """Steps, and their parts where copies run beside."""
    costs = {name: step(**how) for name, how in WAYS.items()}
    slow = (
        "the backward pass of ZeRO-3 under PyTorch takes 4 forward passes in the log (of kernels: "
        "3), and waits for conversions of gradients longer than the A100 log calibrates"
    )
    for (name, cost), published in zip(costs.items(), (6940, 3459, 2402), strict=True):
        yield Row(PAPER, f"step, {name}", published, cost.latency_s * 1e3, "ms", cause=slow)
    middle = costs["copies beside the backward pass"]
    parts = (
        ("forward", 211, middle.forward_s),
        ("backward", 971, middle.backward_s),
        ("update by the host", 2277, middle.update_s),
        ("update, every second subgroup on the devices", 1296, list(costs.values())[2].update_s),
    )
    for name, published, ours in parts:
        yield Row(PAPER, name, published, ours * 1e3, "ms", cause=slow)
    for size, (config, steps) in OTHERS.items():
        for name, published in steps.items():
            ours = step(polaris(), config, **WAYS[name]).latency_s
            figure = f"{size} on four A100, step, {name}"
            yield Row(PAPER, figure, published, ours * 1e3, "ms", cause=slow)


#: What is not computed, and why.
NOT_COMPUTED = (
    (
        "Deep Optimizer States: other models, TwinFlow ratios",
        "widths and nodes of those runs are not published",
    ),
)
