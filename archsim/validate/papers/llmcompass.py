"""A layer of GPT-3 as LLMCompass measured it."""

from __future__ import annotations

from collections.abc import Iterator

from archsim.system.llm import evaluate_step
from archsim.validate.papers.row import Row
from archsim.workload import load_model

#: The twelve operations LLMCompass measured of one layer, as our calls (attention is three).
MEASURED_CALLS = (
    "mixer.qkv", "mixer.attend", "mixer.out", "mlp.up", "mlp.down", "mlp.act", "norm0", "norm1",
    "mixer.sum", "mlp.sum",
)  # fmt: skip


def rows() -> Iterator[Row]:
    """A layer of GPT-3 175B as PyTorch ran it, through the whole system."""
    model = load_model("gpt-3-175b")
    for phase, context, published, allowed in (
        ("prefill", 2048, 66.75, 0.04),
        ("decode", 3072, 1.111, 0.06),
    ):
        cost = evaluate_step(
            model, "a100x4", phase=phase, batch=8, context=context, plan="tp4+eager"
        )
        layer = sum(cost.calls_s[name][0] for name in MEASURED_CALLS)
        ours = layer / len(model.architecture.layers) * 1e3
        figure = f"GPT-3 layer, 4 x A100, batch 8, {phase}, plan tp4+eager"
        yield Row("LLMCompass, measured", figure, published, ours, "ms", allowed)
