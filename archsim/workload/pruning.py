"""Attention on fewer tokens, heads and bits (SpAtten): settings, and the work that is left.

*Cascade token pruning*: a layer keeps the tokens that mattered most so far; what one layer drops no
later one sees. *Cascade head pruning* does the same to heads. *Local value pruning*: of the keys a
layer keeps, a query reads the values of the largest probabilities only. *Progressive quantisation*:
the high bits of keys are read first, the low ones only where the scores leave it open.
(H. Wang et al., "SpAtten", HPCA 2021, arXiv 2012.09852, section III.)

``Pruning`` holds such a setting, ``pruned_step`` is the transform: a step of a model as a workload
in which the pruned work is left out, for any machine. A prompt's dropped tokens leave the residual
stream, so that later layers are smaller altogether; a generated token stays, and reads less.

>>> from archsim.workload import load_model
>>> setting = load_pruning("spatten-gpt2")
>>> dense = load_model("gpt2").workload("decode", context=1000)
>>> pruned_step(setting, "decode", context=1000).macs < unfold(dense).macs
True
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from itertools import pairwise
from math import floor
from pathlib import Path

import numpy as np
from pydantic import Field, field_validator, model_validator

from archsim.errors import InputError
from archsim.inputs import Strict, parse_yaml, read_text, validate
from archsim.workload.architecture import Attention, Layer
from archsim.workload.emitter import Emitter
from archsim.workload.fold import unfold
from archsim.workload.graph import Access, Einsum, Operation, Workload
from archsim.workload.huggingface import load_model
from archsim.workload.language import LanguageModel, _Graph
from archsim.workload.operators import vector_ops
from archsim.workload.steps import Bits, Request, Routing, grouped, requests_of

_FILE = Path(__file__).with_name("pruning.yaml")


class Pruning(Strict):
    """A setting of pruned attention.

    Shares are of the window, so that what is kept does not grow with the context.
    """

    source: str = Field(default="", description="where the setting comes from")
    model: str = Field(min_length=1, description="name of a shipped model, or its config.json")
    window: int = Field(ge=1, le=2**30, description="tokens that shares are of")
    tokens: tuple[float, ...] = Field(min_length=1, description="share each layer keeps, (0, 1]")
    heads: tuple[int, ...] | None = Field(
        default=None, description="heads each layer keeps; default all"
    )
    values: float = Field(
        default=1.0, gt=0, le=1, description="share of a layer's keys whose values a query reads"
    )
    key_bits: float = Field(default=16, gt=0, le=64, description="bits of a key read first")
    value_bits: float = Field(default=16, gt=0, le=64, description="bits of a value")
    low_bits: float = Field(default=0, ge=0, le=64, description="bits of a key read when in doubt")
    low_share: tuple[float, ...] | None = Field(
        default=None, description="share of the queries each layer is in doubt about; default none"
    )
    unpruned_steps: int = Field(
        default=0, ge=0, description="tokens generated before there are scores to prune by"
    )

    @field_validator("tokens", "low_share")
    @classmethod
    def _shares(cls, shares: tuple[float, ...] | None) -> tuple[float, ...] | None:
        if shares is not None and not all(0 <= share <= 1 for share in shares):
            raise ValueError("shares lie in 0..1")
        return shares

    @model_validator(mode="after")
    def _cascades(self) -> Pruning:
        for name in ("tokens", "heads"):
            kept = getattr(self, name)
            if kept is None:
                continue
            if min(kept) <= 0:
                raise InputError("a layer keeps at least something", field=name, found=min(kept))
            for layer, (before, after) in enumerate(pairwise(kept), start=1):
                if after > before:
                    raise InputError(
                        f"layer {layer} cannot keep what an earlier one dropped",
                        field=name,
                        found=after,
                        expected=f"at most {before}",
                    )
        for name in ("heads", "low_share"):
            given = getattr(self, name)
            if given is not None and len(given) != len(self.tokens):
                raise InputError(
                    "one entry a layer", field=name, found=len(given), expected=f"{self.layers}"
                )
        return self

    @property
    def layers(self) -> int:
        """Layers it is for."""
        return len(self.tokens)

    def kept_keys(self, context: int, pruned: bool = True) -> np.ndarray:
        """Tokens every layer keeps of a context, int64[layers]."""
        kept = [
            floor(share * self.window + 1e-9) if share < 1 else context for share in self.tokens
        ]
        return np.minimum(np.maximum(kept, 1), context) if pruned else np.full(self.layers, context)

    def kept_values(self, context: int, pruned: bool = True) -> np.ndarray:
        """Values a query of every layer reads, int64[layers]."""
        keys = self.kept_keys(context, pruned)
        if self.values == 1:
            return keys
        most = np.array([floor(share * self.window + 1e-9) for share in self.tokens])
        most = most if pruned else np.full(self.layers, self.window)
        return np.clip(np.floor(most * self.values + 1e-9).astype(np.int64), 1, keys)

    def kept_heads(self, heads: int) -> np.ndarray:
        """Heads every layer keeps of a model's, int64[layers].

        Raises:
            InputError: It names more heads than there are.
        """
        kept = np.full(self.layers, heads) if self.heads is None else np.array(self.heads)
        if kept.max() > heads:
            raise InputError("more heads than the model has", field="heads", found=int(kept.max()),
                             expected=f"at most {heads}")  # fmt: skip
        return kept

    @property
    def low_shares(self) -> np.ndarray:
        """Share of queries that read the low bits, float64[layers]."""
        return np.zeros(self.layers) if self.low_share is None else np.array(self.low_share)

    @property
    def read_key_bits(self) -> np.ndarray:
        """Bits of a key that are read, mean over queries, float64[layers]."""
        return self.key_bits + self.low_bits * self.low_shares

    def dense(self, bits: float = 16.0) -> Pruning:
        """The same model with nothing pruned, in full precision."""
        return Pruning(
            model=self.model, window=self.window, tokens=(1.0,) * self.layers,
            key_bits=bits, value_bits=bits,
        )  # fmt: skip


def cascade(layers: int, start: float, end: float, spared: float = 0.15) -> tuple[float, ...]:
    """Shares of tokens that fall evenly from layer to layer, as the paper sets them (section V-A).

    Args:
        layers: Layers of the model.
        start: Share of the first layer that prunes.
        end: Share of the last layer.
        spared: Share of the layers, from the first, that keep all.

    Raises:
        InputError: The shares are not in (0, 1] or grow.

    Example:
        >>> cascade(6, 0.8, 0.2)
        (1.0, 0.8, 0.65, 0.5, 0.35, 0.2)
    """
    if not 0 < end <= start <= 1 or not 0 <= spared < 1 or layers < 1:
        raise InputError(
            "shares fall from layer to layer", field="tokens", found=(start, end),
            expected="0 < end <= start <= 1",
        )  # fmt: skip
    first = round(spared * layers)
    falling = np.linspace(start, end, layers - first)
    return (*[1.0] * first, *(round(float(share), 9) for share in falling))


def available_prunings() -> tuple[str, ...]:
    """Names of the shipped settings."""
    return tuple(_shipped())


@lru_cache(maxsize=1)
def _shipped() -> Mapping[str, Pruning]:
    data = parse_yaml(read_text(_FILE), _FILE)
    return {name: validate(entry, Pruning, f"{_FILE} ({name})") for name, entry in data.items()}


def load_pruning(name_or_path: str | Path) -> Pruning:
    """A shipped setting by name, or one from a YAML file.

    Raises:
        InputError: No such setting, or a field that does not fit.
    """
    known = _shipped()
    if str(name_or_path) in known:
        return known[str(name_or_path)]
    if Path(name_or_path).suffix not in (".yaml", ".yml"):
        raise InputError(
            "no such setting of pruned attention", field="pruning", found=str(name_or_path),
            expected=f"a path, or one of {', '.join(known)}",
        )  # fmt: skip
    return validate(parse_yaml(read_text(name_or_path), name_or_path), Pruning, name_or_path)


# --------------------------------------------------------------------------------- the transform


def pruned_model(setting: Pruning, model: LanguageModel, context: int) -> LanguageModel:
    """The model with the heads each layer keeps; a layer sees the tokens it keeps at most.

    Args:
        setting: What is kept.
        model: A model of plain attention.
        context: Tokens of the context.

    Raises:
        InputError: The setting is for a model of other layers or heads, or attention is not plain.
    """
    arch = model.architecture
    if setting.layers != len(arch.layers):
        raise InputError(
            "the setting is for a model with another number of layers", source=model.name,
            field="tokens", found=setting.layers, expected=str(len(arch.layers)),
        )  # fmt: skip
    layers: list[Layer] = []
    keys = setting.kept_keys(context)
    for index, layer in enumerate(arch.layers):
        a = layer.mixer
        if not isinstance(a, Attention) or a.window is not None or a.heads != a.kv_heads:
            raise InputError(
                "only attention with as many key as query heads and no window is pruned",
                source=model.name,
                field=f"layers.{index}",
            )
        heads = int(setting.kept_heads(a.heads)[index])
        seen = int(keys[index]) if keys[index] < context else None
        mixer = replace(a, heads=heads, kv_heads=heads, window=seen)
        layers.append(replace(layer, mixer=mixer))
    return replace(model, architecture=replace(arch, layers=tuple(layers)))


def pruned_step(
    setting: Pruning,
    phase: str = "decode",
    *,
    context: int,
    batch: int = 1,
    bits: Bits | None = None,
    pruned: bool = True,
) -> Workload:
    """A step of the setting's model as a workload with the pruned work left out.

    Which values a query reads differs from query to query, so local value pruning leaves out work
    where each request has one query (decode); a prompt's values are read for all of its tokens.

    Args:
        setting: What is kept, and of which model.
        phase: ``prefill`` or ``decode``.
        context: Tokens of each request once the step is done.
        batch: Requests.
        bits: Bits an element; keys and values as the setting says.
        pruned: False for a step before there are scores to prune by: only bits and values count.

    Returns:
        The workload, layers written out.

    Raises:
        InputError: The setting does not fit its model.
    """
    model = load_model(setting.model)
    kept = setting if pruned else setting.model_copy(update={"tokens": (1.0,) * setting.layers})
    made = pruned_model(kept, model, context)
    requests = grouped(requests_of(phase, batch, context))
    made._check(requests, "auto")
    given = replace(bits or Bits(), kv=setting.key_bits)
    emitter = Emitter(made.name, made.architecture.width, requests, given, Routing())
    workload = unfold(_Dropping(made, emitter, batch, phase == "prefill").workload(False))
    values = setting.kept_values(context, pruned)
    if phase == "prefill":
        values = setting.kept_keys(context, pruned)
    return _fewer_values(workload, values, setting)


class _Dropping(_Graph):
    """Emits a model whose layers drop tokens of a prompt before they read it."""

    def __init__(self, model: LanguageModel, emitter: Emitter, batch: int, drops: bool) -> None:
        super().__init__(model, emitter)
        self.batch, self.drops = batch, drops

    def stretch(
        self, name: str, pattern: tuple[Layer, ...], count: int, start: int, data: str
    ) -> str:
        """Layers that keep the same tokens, after what drops the others."""
        mixer = pattern[0].mixer
        assert isinstance(mixer, Attention)
        held = self.emit.requests[0].new
        kept = mixer.window or held
        if self.drops and kept < held:
            self.emit.requests = (Request(kept, kept, self.batch),)
            self.emit.tokens = kept * self.batch
            out = self.emit.activation(f"{name}.kept", self.emit.tokens, self.arch.width)
            scored = self.emit.activation(f"{name}.importance", held * self.batch)
            self.emit.counted(
                f"{name}.top_k", "topk", (data,), (scored,),
                vector_ops("topk", [(self.batch, held)], (self.batch, kept)),
            )  # fmt: skip
            self.emit.counted(f"{name}.drop", "gather", (data, scored), (out,), 0)
            data = out
        return super().stretch(name, pattern, count, start, data)


def _fewer_values(workload: Workload, values: np.ndarray, setting: Pruning) -> Workload:
    """Sums over the values a query reads, in the bits they and the keys are read in."""
    tensors, operations = dict(workload.tensors), []
    layer = 0
    for op in workload.operations:
        if op.name.endswith("attention.scores"):
            keys = op.inputs[1]
            read = float(setting.read_key_bits[layer])
            if tensors[keys].role == "kv_cache":
                tensors[keys] = replace(tensors[keys], bits=read)
        if not op.name.endswith("attention.values_sum"):
            operations.append(op)
            continue
        assert op.einsum is not None
        weights, held = op.inputs[:2]
        groups, rows, seen = tensors[weights].shape
        kept = min(int(values[layer]), seen)
        layer += 1
        if tensors[held].role == "kv_cache":
            shape = (groups, kept, tensors[held].shape[2])
            tensors[held] = replace(tensors[held], shape=shape, bits=setting.value_bits)
        if kept < seen:
            chosen = f"{op.name}.top_k"
            tensors[chosen] = replace(tensors[weights], name=chosen, shape=(groups, rows, kept))
            ops = vector_ops("topk", [(groups, rows, seen)], (groups, rows, kept))
            operations.append(Operation(chosen, "topk", (weights,), (chosen,), vector_ops=ops))
            op = _summed(op, weights, chosen, kept)
        operations.append(op)
    return replace(workload, tensors=tensors, operations=tuple(operations))


def _summed(op: Operation, weights: str, chosen: str, kept: int) -> Operation:
    """The sum over fewer values."""
    assert op.einsum is not None
    dims = tuple((name, kept if name == "C" else extent) for name, extent in op.einsum.dims)
    operands = tuple(
        Access(chosen, access.ranks) if access.tensor == weights else access
        for access in op.einsum.operands
    )
    inputs = tuple(chosen if name == weights else name for name in op.inputs)
    return replace(op, inputs=inputs, einsum=Einsum(dims, operands))  # type: ignore[arg-type]


__all__ = [
    "Pruning",
    "available_prunings",
    "cascade",
    "load_pruning",
    "pruned_model",
    "pruned_step",
]
