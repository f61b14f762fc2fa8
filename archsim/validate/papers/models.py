"""Parameters, cache of a token, and operations of training, of the shipped models."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from archsim.validate.papers.row import EXACT, Row, printed
from archsim.workload import available_models, load_model
from archsim.workload.language import LanguageModel

COUNTS = (
    "parameters", "active_parameters", "active_read_parameters", "active_layer_parameters",
)  # fmt: skip
#: Why counts of ours differ from what is published.
CAUSES = {
    "glam-8b-64e": "table 4 counts this row with a vocabulary of 32,000 (9.80, 142.9), though "
    "section 4 says 256,000, with which the row of 64B/64E fits",
    "grok-1": "published without embeddings and cut: the 64 layers hold 314.88e9, the tied "
    "embedding 0.81e9",
}
#: Vocabularies that counts may have been made with instead.
ALSO = {"glam-8b-64e": 32000}
VOCABULARY = "the vocabulary that {} was counted with, its config's or {:,}"


def rows() -> Iterator[Row]:
    """Parameters, cache of a token, and operations of training, of the shipped models."""
    insights = "Insights into DeepSeek-V3 (ISCA'25)"
    for name in available_models():
        model = load_model(name)
        ours = {"kv_bytes_per_token": model.kv_bytes_per_token()}
        ours |= {key: float(getattr(model, key)) for key in COUNTS}
        for key, value in model.published.items():
            unit, scale = ("KB", 1e3) if key.startswith("kv") else ("G", 1e9)
            allowed = EXACT if key.startswith("kv") else printed(value)
            figure = f"{name}: {key.replace('_', ' ').replace('kv bytes per', 'cache of a')}"
            spread: tuple[float, ...] = ()
            over = ""
            if (vocabulary := ALSO.get(name)) is not None and key in COUNTS:
                other = replace(
                    model, architecture=replace(model.architecture, vocabulary=vocabulary)
                )
                spread, over = (getattr(other, key) / scale,), VOCABULARY.format(name, vocabulary)
            yield Row(
                "Shipped models", figure, value / scale, ours[key] / scale, unit, allowed,
                cause=CAUSES.get(name, ""), spread=spread, over=over,
            )  # fmt: skip
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
