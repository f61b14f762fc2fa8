"""Deep Optimizer States: steps of training with the optimizer in host memory (Middleware 2024).

Medians of the authors' logs (github.com/mauryaavinash95/deep-optimizer-states-results): ZeRO-3 over
four devices, micro-batch 1 of 2048 tokens, all states in host memory or four fifths of them
(TwinFlow). Shapes are those of the command lines in the logs; the "20B" model has 15.3e9
parameters. Hosts: the H100 logs bind 92 cores of two sockets with 503 GiB, AVX-512, whose memory is
taken as 16 channels of DDR5-4800; the A100 logs are from Polaris. PyTorch without graphs or fused
attention, as their command lines have it; nothing moves beside the passes: backward passes of all
five models in the logs take what their kernels, collectives and copies of gradients sum up to.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from archsim.hardware import Machine, load_machine
from archsim.system.llm.hosted import POLARIS, XEON, Host
from archsim.system.llm.training import Training, TrainingCost, evaluate_training
from archsim.validate.papers.row import EXACT, Row
from archsim.workload.huggingface import model_of
from archsim.workload.language import LanguageModel

PAPER = "Deep Optimizer States (Middleware'24), logs"
CONFIG = {
    "model_type": "llama", "vocab_size": 50304, "hidden_size": 5120, "intermediate_size": 20480,
    "num_hidden_layers": 40, "num_attention_heads": 64, "num_key_value_heads": 4,
    "max_position_embeddings": 2048, "hidden_act": "silu", "rms_norm_eps": 1e-5,
    "tie_word_embeddings": False,
}  # fmt: skip
#: Models of the logs; the inner width of the last from the count of parameters in its log.
MODELS: dict[str, dict[str, Any]] = {
    "20B": {},
    "13B": {"intermediate_size": 13824, "num_attention_heads": 40},
    "7B": {"hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32,
           "num_attention_heads": 32},
    "20B of 64 layers": {"hidden_size": 4096, "intermediate_size": 16512, "num_hidden_layers": 64,
                         "num_attention_heads": 256},
}  # fmt: skip
#: How gradients and states move: as DeepSpeed does, with copies beside the backward pass, and with
#: every second subgroup updated by the devices.
WAYS: dict[str, dict[str, Any]] = {
    "waiting for copies": {"blocking": True},
    "copies beside the backward pass": {},
    "every second subgroup on the devices": {"device_share": 0.5},
}
#: Steps of the logs, ms, that calibrate nothing: of the 13B on A100 the first two give its host's
#: rates, of the 7B and 13B on H100 with a fifth resident the first two the rate of waiting copies
#: (see ``system.llm.hosted``).
STEPS: tuple[tuple[str, str, float, dict[str, float]], ...] = (
    ("H100", "20B", 0.0, dict(zip(WAYS, (6940, 3459, 2402), strict=True))),
    ("H100", "20B", 0.2, dict(zip(WAYS, (5541, 2903, 2061), strict=True))),
    ("A100", "13B", 0.0, {"every second subgroup on the devices": 4725}),
    ("A100", "7B", 0.0, {"waiting for copies": 3796, "every second subgroup on the devices": 2246}),
    ("A100", "20B of 64 layers", 0.0, dict(zip(WAYS, (12012, 8796, 6990), strict=True))),
)


def jlse() -> Machine:
    """The node of the H100 logs."""
    return load_machine("h100x4").with_values({"tiers.host_dram.capacity_bytes": 503 * 2**30})


def polaris() -> Machine:
    """A node of Polaris, where the A100 logs come from: four A100 40 GB, one EPYC 7543P."""
    return load_machine("a100x4").with_values({
        "tiers.hbm.capacity_bytes": 40 * 2**30,
        "tiers.hbm.bandwidth_bytes_per_s": 1.555e12,
        "tiers.host_dram.capacity_bytes": 512e9,
        "tiers.host_dram.bandwidth_bytes_per_s": 204.8e9,
    })  # fmt: skip


NODES: dict[str, tuple[Callable[[], Machine], Host]] = {
    "H100": (jlse, XEON),
    "A100": (polaris, POLARIS),
}


def model(size: str) -> LanguageModel:
    """A model of the logs."""
    return model_of({**CONFIG, **MODELS[size]}, size)


def step(device: str = "H100", size: str = "20B", **how: Any) -> TrainingCost:
    """One step, as logged."""
    node, host = NODES[device]
    return evaluate_training(
        model(size), node(), batch=4, context=2048, plan="dp4+eager",
        how=Training(zero=3, states="host_dram", overlap=False, host=host, **how),
    )  # fmt: skip


def rows() -> Iterator[Row]:
    """Steps, and the parts of the 20B model's."""
    yield Row(
        PAPER, "parameters of the 20B", 15326663680, float(model("20B").parameters), "", EXACT
    )
    slow = (
        "copies of states are taken to hold up the host for as long as its memory takes for them "
        "(in the logs of H100 less, of A100 more), and nothing to move beside the passes (with 256 "
        "heads, whose passes are long, some does)"
    )
    costs = {}
    for device, size, resident, steps in STEPS:
        for name, published in steps.items():
            cost = step(device, size, resident=resident, **WAYS[name])
            costs[device, size, resident, name] = cost
            stays = f", {resident:.0%} of the states resident" if resident else ""
            figure = f"{size} on four {device}, step, {name}{stays}"
            yield Row(PAPER, figure, published, cost.latency_s * 1e3, "ms", cause=slow)
    waiting, beside, shared = (costs["H100", "20B", 0.0, name] for name in WAYS)
    parts = (
        ("forward", 211, beside.forward_s),
        ("backward, waiting for copies", 4460, waiting.backward_s),
        ("backward", 971, beside.backward_s),
        ("update by the host", 2277, beside.update_s),
        ("update, every second subgroup on the devices", 1296, shared.update_s),
    )
    for name, published, ours in parts:
        yield Row(PAPER, f"20B on four H100, {name}", published, ours * 1e3, "ms", cause=slow)


#: What is not computed, and why.
NOT_COMPUTED = (
    (
        "Deep Optimizer States: micro-batches of 4, other strides and sizes of subgroups",
        "same mechanisms; steps above are the ones with a published comparison",
    ),
)
