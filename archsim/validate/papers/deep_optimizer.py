"""Deep Optimizer States: steps of training with the optimizer in host memory (Middleware 2024).

Medians of the authors' logs (github.com/mauryaavinash95/deep-optimizer-states-results; of 7B to 13B
on H100 their last step): ZeRO-3 over four devices, micro-batch 1 of 2048 tokens, all states in host
memory or all but a part (TwinFlow). Shapes are those of the command lines in the logs; the "20B"
model has 15.3e9 parameters. Hosts: the H100 logs bind 92 cores of two sockets with 503 GiB and
AVX-512, whose memory is taken as 16 channels of DDR5-4800; the A100 logs are from Polaris. PyTorch
without graphs or fused attention, as their command lines have it; nothing moves beside the passes:
backward passes in the logs take what their kernels, collectives and copies of gradients sum up to.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from archsim.hardware import Machine, load_machine
from archsim.system.llm.training import TrainingCost, evaluate_training
from archsim.system.llm.training_setup import POLARIS, XEON, Host, Training
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
#: Models of the logs; inner widths of the 10B and of the last from their counts of parameters.
MODELS: dict[str, dict[str, Any]] = {
    "20B": {},
    "13B": {"intermediate_size": 13824, "num_attention_heads": 40},
    "7B": {"hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32,
           "num_attention_heads": 32},
    "10B": {"hidden_size": 4096, "intermediate_size": 12400, "num_hidden_layers": 50,
            "num_attention_heads": 32},
    "30B": {"hidden_size": 6656, "intermediate_size": 17920, "num_hidden_layers": 60,
            "num_attention_heads": 52},
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
    ("H100", "7B", 0.2, {"every second subgroup on the devices": 1000}),
    ("H100", "10B", 0.2, dict(zip(WAYS, (3751, 1985, 1390), strict=True))),
    ("H100", "13B", 0.2, {"every second subgroup on the devices": 1488}),
    ("H100", "30B", 0.35, dict(zip(WAYS, (8963, 4729, 3470), strict=True))),
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
    for size, logged in (("20B", 15326663680), ("30B", 27865270784)):
        ours = float(model(size).parameters)
        yield Row(PAPER, f"parameters of the {size}", logged, ours, allowed=EXACT)
    slow = (
        "copies of states are taken to hold up the host as streams do (in the A100 logs longer); "
        "the host's hooks of ZeRO-3 between small kernels are not modelled (7B), and nothing is "
        "taken to move beside the passes (with 256 heads, whose passes are long, some does)"
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
