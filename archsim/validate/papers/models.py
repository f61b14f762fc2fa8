"""Parameters, cache of a token, and operations of training, of the shipped models."""

from __future__ import annotations

from collections.abc import Iterator

from archsim.validate.papers.row import EXACT, Row, printed
from archsim.workload import available_models, load_model
from archsim.workload.language import LanguageModel


def rows() -> Iterator[Row]:
    """Parameters, cache of a token, and operations of training, of the shipped models."""
    insights = "Insights into DeepSeek-V3 (ISCA'25)"
    for name in available_models():
        model = load_model(name)
        ours = {"parameters": model.parameters, "active_parameters": model.active_parameters,
                "active_layer_parameters": model.active_layer_parameters,
                "kv_bytes_per_token": model.kv_bytes_per_token()}  # fmt: skip
        for key, value in model.published.items():
            unit, scale = ("KB", 1e3) if key.startswith("kv") else ("G", 1e9)
            allowed = EXACT if key.startswith("kv") else printed(value)
            figure = f"{name}: {key.replace('_', ' ').replace('kv bytes per', 'cache of a')}"
            yield Row("Shipped models", figure, value / scale, ours[key] / scale, unit, allowed)
    for name, published in (("deepseek-v2", 155), ("deepseek-v3", 250), ("llama-3-405b", 2448)):
        figure = f"{name}: training, 4096 tokens, causal"
        yield Row(
            insights, figure, published, training_flops(load_model(name)) / 1e9, "GFLOP/token"
        )


def training_flops(model: LanguageModel, tokens: int = 4096) -> float:
    """Operations of a token's forward and backward pass (three forward passes).

    A graph counts all pairs of a sequence; their number is quadratic in its length, so that two
    lengths give the part of a token by itself and that of a pair, of which half are masked.
    """
    half, whole = (
        model.workload("prefill", context=n, all_logits=True, latent="unabsorbed").macs / n
        for n in (tokens // 2, tokens)
    )
    pair = (whole - half) / (tokens - tokens // 2)
    return 6.0 * (whole - pair * tokens + pair * (tokens + 1) / 2)
