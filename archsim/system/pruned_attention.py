"""Generating with pruned attention on an attention engine: all layers, token after token.

The engine runs attention alone, as SpAtten's figures do; projections and feed-forward parts are
another machine's (``archsim.workload.pruning.pruned_step`` gives the whole graph).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from archsim.errors import InputError
from archsim.hardware import AttentionEngine, Machine, load_machine, resolve_node
from archsim.hardware.values import Values
from archsim.models.pruned_attention import (
    AttentionCost,
    AttentionPipeline,
    AttentionWork,
    evaluate_attention,
)
from archsim.workload.architecture import Attention
from archsim.workload.huggingface import load_model
from archsim.workload.pruning import Pruning, load_pruning

Floats = NDArray[np.float64]


def attention_work(
    setting: Pruning,
    contexts: Sequence[int],
    *,
    queries: int | None = 1,
    batch: int = 1,
    unpruned: int | None = None,
) -> AttentionWork:
    """Attention of all layers in steps of these contexts, arrays [steps x layers].

    Args:
        setting: What is kept, and of which model.
        contexts: Tokens of each request, step by step.
        queries: New tokens of a request; None for all of the context (a prompt, of which a layer
            keeps as many queries as keys).
        batch: Requests.
        unpruned: Steps, from the first, in which no token is dropped; default as the setting says.

    Raises:
        InputError: The setting does not fit its model, or a context is not positive.
    """
    arch = load_model(setting.model).architecture
    mixers = [layer.mixer for layer in arch.layers]
    if len(mixers) != setting.layers or not all(isinstance(m, Attention) for m in mixers):
        raise InputError(
            "the setting is for a model with another number of attention layers",
            source=setting.model, field="tokens", found=setting.layers, expected=str(len(mixers)),
        )  # fmt: skip
    if not contexts or min(contexts) < 1 or batch < 1:
        raise InputError(
            "there must be steps, requests and tokens", field="contexts",
            found=(list(contexts)[:4], batch),
        )  # fmt: skip
    if arch.longest and max(contexts) > arch.longest:
        raise InputError(
            "the context is longer than the model has positions for", source=setting.model,
            field="contexts", found=max(contexts), expected=f"at most {arch.longest}",
        )  # fmt: skip
    spared = setting.unpruned_steps if unpruned is None else unpruned
    rows = []
    for step, context in enumerate(contexts):
        keys = setting.kept_keys(context, step >= spared)
        values = setting.kept_values(context, step >= spared)
        before = np.concatenate([[context], keys[:-1]])
        rows.append(
            (before, keys, values, keys if queries is None else np.full_like(keys, queries))
        )
    before, keys, values, new = (
        np.concatenate([row[column] for row in rows]).astype(np.float64) for column in range(4)
    )
    if queries is None:  # which values differs from query to query
        values = np.minimum(values, keys)
    one = np.ones(len(keys))
    heads = np.tile(setting.kept_heads(_heads(setting)), len(contexts)).astype(np.float64)
    return AttentionWork(
        one * batch, new, heads, before, keys, values, one * mixers[0].head_dim,  # type: ignore[union-attr]
       
        one * setting.key_bits, one * setting.low_bits,
        np.tile(setting.low_shares, len(contexts)), one * setting.value_bits,
    )  # fmt: skip


def resolve_pipeline(
    machine: Machine, overrides: Mapping[str, ArrayLike] | None = None
) -> tuple[AttentionPipeline, Floats]:
    """Figures of a machine's attention engine for B designs, and its clock, float64[B, 1].

    Raises:
        InputError: The machine has no such engine, or a path is unknown.
    """
    engine = next((e for e in machine.engines if isinstance(e, AttentionEngine)), None)
    if engine is None:
        raise InputError(
            "this machine has no attention engine", source=machine.name, field="engines",
            found=", ".join(e.kind for e in machine.engines),
        )  # fmt: skip
    node, values = resolve_node(machine, overrides), Values(machine, "", overrides or {})
    size = (node.designs, 1)

    def column(figure: ArrayLike) -> Floats:
        found = np.asarray(figure, np.float64).reshape(-1, 1)
        return np.array(np.broadcast_to(found, size))

    given = {name: column(figure) for name, figure in node.engines[engine.name].items()}
    tier, clock = node.tiers[engine.backing], given["clock_hz"]
    pipeline = AttentionPipeline(
        **{name: given[name] for name in _DIRECT},
        tier_bits_per_cycle=column(tier["bandwidth_bytes_per_s"]) * 8.0 / clock,
        tier_j_per_bit=column(tier["read_energy_j_per_bit"]),
        node_nm=column(values("technology_nm")),
    )
    return pipeline, clock


_DIRECT = tuple(
    name for name in AttentionPipeline.__dataclass_fields__
    if not name.startswith("tier_") and name != "node_nm"
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class GenerationCost:
    """Attention of some generated tokens.

    Attributes:
        model, machine: Names.
        latency_s, energy_j: Of all tokens.
        cache_bytes: Keys and values read from memory; ``bytes_moved`` with queries and outputs.
        macs: Multiply-accumulates done.
        key_share, value_share: Of the tokens in context, those whose keys and values are read: mean
            over tokens generated, layers and the heads that are kept.
        head_share: Of a model's heads, those that are kept: mean over layers.
        bound_s: Time by busiest stage.
        energy_by_part_j: By part of the engine, and memory.
    """

    model: str
    machine: str
    latency_s: float
    energy_j: float
    cache_bytes: float
    bytes_moved: float
    macs: float
    key_share: float
    value_share: float
    head_share: float
    bound_s: dict[str, float]
    energy_by_part_j: dict[str, float]

    @property
    def power_w(self) -> float:
        """Mean power."""
        return self.energy_j / self.latency_s

    @property
    def flops_per_s(self) -> float:
        """Two operations a multiply-accumulate done."""
        return 2.0 * self.macs / self.latency_s


def generate(
    setting: Pruning | str,
    machine: Machine | str = "spatten",
    *,
    prompt: int = 992,
    tokens: int = 32,
    batch: int = 1,
) -> GenerationCost:
    """Attention of tokens generated after a prompt (the prompt itself is not counted).

    Args:
        setting: What is kept; a setting, or the name or file of one.
        machine: A machine with an attention engine, or its name or file.
        prompt: Tokens of the prompt.
        tokens: Tokens generated.
        batch: Requests.

    Raises:
        InputError: Something does not exist or does not fit.

    Example:
        >>> pruned, dense = generate("spatten-gpt2"), generate(load_pruning("spatten-gpt2").dense())
        >>> round(dense.cache_bytes / pruned.cache_bytes) > 10
        True
    """
    setting = setting if isinstance(setting, Pruning) else load_pruning(setting)
    machine = machine if isinstance(machine, Machine) else load_machine(machine)
    if not 0 <= prompt < 2**24 or not 1 <= tokens < 2**16:
        raise InputError(
            "prompt and tokens must be whole numbers of a sensible size", field="tokens",
            found=(prompt, tokens), expected="a prompt below 2**24, 1 to 65535 tokens",
        )  # fmt: skip
    contexts = list(range(prompt + 1, prompt + tokens + 1))
    work = attention_work(setting, contexts, batch=batch)
    pipeline, clock = resolve_pipeline(machine)
    cost = evaluate_attention(work, pipeline)
    return _summed(setting, machine, cost, work, contexts, float(clock[0, 0]))


def _heads(setting: Pruning) -> int:
    mixer = load_model(setting.model).architecture.layers[0].mixer
    assert isinstance(mixer, Attention)
    return mixer.heads


def _summed(
    setting: Pruning,
    machine: Machine,
    cost: AttentionCost,
    work: AttentionWork,
    contexts: Sequence[int],
    clock: float,
) -> GenerationCost:
    seconds = np.broadcast_to(cost.cycles, (1, work.keys.size))[0] / clock
    names = np.broadcast_to(cost.bound(), (1, work.keys.size))[0]
    seen = np.repeat(np.asarray(contexts, np.float64), setting.layers)
    share = work.heads / work.heads.sum() / seen
    return GenerationCost(
        setting.model,
        machine.name,
        float(seconds.sum()),
        float(np.sum(cost.energy_j)),
        float(np.sum(cost.key_bits_moved + cost.value_bits_moved)) / 8.0,
        float(np.sum(cost.bits_moved)) / 8.0,
        float(np.sum(cost.macs)),
        float((work.keys * share).sum()),
        float((work.values * share).sum()),
        float(work.heads.mean() / _heads(setting)),
        {str(name): float(seconds[names == name].sum()) for name in np.unique(names)},
        {name: float(np.sum(part)) for name, part in cost.energy_by_part_j.items()},
    )


__all__ = ["GenerationCost", "attention_work", "generate", "resolve_pipeline"]
