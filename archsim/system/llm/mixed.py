"""Steps that mix requests: chunks of prompts and single tokens in one batch (continuous batching).

Products, norms, experts and collectives work on the tokens of all requests together, so that
weights are read once; attention, recurrences and what depends on a sequence's length run for each
kind of request apart.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from archsim.errors import InputError
from archsim.system.llm.calls import Call, Grid, LayerCalls, cache_bytes, cache_moved
from archsim.workload.architecture import Architecture, Layer
from archsim.workload.language import LanguageModel
from archsim.workload.steps import Bits

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Share:
    """Requests of one kind that run beside others in a step; sizes broadcast to the step's rows.

    Attributes:
        batch: Requests; 0 where a row has none of them.
        new: New tokens of each: a chunk of its prompt, or 1.
        context: Tokens in each one's cache after the step.
    """

    batch: ArrayLike
    new: ArrayLike
    context: ArrayLike


@dataclass(frozen=True, eq=False)
class MixedGrid(Grid):
    """B steps whose requests are of several kinds; the inherited sizes are those of all together.

    ``new`` is then the mean, and ``context`` the longest.

    Attributes:
        parts: One grid a kind.
    """

    parts: tuple[Grid, ...] = ()

    @cached_property
    def requests(self) -> Floats:
        """Requests of one device's group (of the fullest)."""
        return sum(part.requests for part in self.parts)  # type: ignore[return-value]

    @cached_property
    def tokens(self) -> Floats:
        """New tokens of one device's group."""
        return sum(part.tokens for part in self.parts)  # type: ignore[return-value]

    @property
    def all_tokens(self) -> Floats:
        """New tokens of the whole machine."""
        return sum(part.all_tokens for part in self.parts)  # type: ignore[return-value]


def grid_of(
    sizes: Sequence[Mapping[str, Floats]], cuts: Mapping[str, Floats], imbalance: float
) -> Grid:
    """The grid of one or several kinds of requests.

    Args:
        sizes: ``batch`` (of one micro-batch), ``new`` and ``context`` of each kind.
        cuts: ``tensor``, ``data`` and ``expert``.
        imbalance: As in ``Grid``.
    """
    parts = tuple(Grid(**kind, **cuts, imbalance=imbalance) for kind in sizes)
    if len(parts) == 1:
        return parts[0]
    batch: Floats = sum(part.batch for part in parts)  # type: ignore[assignment]
    new = sum(part.all_tokens for part in parts) / batch
    context = np.maximum.reduce([np.where(part.batch > 0, part.context, 1.0) for part in parts])
    return MixedGrid(batch, new, context, **cuts, imbalance=imbalance, parts=parts)


def kinds_of(model: LanguageModel, shares: Sequence[Share]) -> list[dict[str, Floats]]:
    """Sizes of every kind of requests.

    Raises:
        InputError: A size is no whole number in its range, or tokens lie outside of the context.
    """
    least = 0 if len(shares) > 1 else 1
    kinds = [
        {"batch": _counts("batch", share.batch, least), "new": _counts("new", share.new),
         "context": _counts("context", share.context)}
        for share in shares
    ]  # fmt: skip
    for sizes in kinds:
        row_count(sizes)
        if (sizes["context"] < sizes["new"]).any():
            raise InputError("the context includes the new tokens", field="context")
        if not model.architecture.causal and (sizes["context"] != sizes["new"]).any():
            raise InputError(
                "an encoder has no cache (phase prefill)", source=model.name, field="new"
            )
    return kinds


def _counts(name: str, value: ArrayLike, least: int = 1) -> Floats:
    values = np.atleast_1d(np.asarray(value, dtype=float))
    if values.ndim != 1:
        raise InputError("sizes must be numbers or one-dimensional", found=values.shape, field=name)
    good = np.isfinite(values) & (values >= least) & (values == np.rint(values)) & (values < 2**40)
    if not values.size or not good.all():
        found = values[~good][0] if values.size else value
        raise InputError("must be a positive whole number", field=name, found=found)
    return values


def row_count(columns: Mapping[str, Any]) -> int:
    """How many rows columns of one or of that many make.

    Raises:
        InputError: Columns of different length.
    """
    lengths = {name: len(column) for name, column in columns.items()}
    rows = max(lengths.values())
    for name, length in lengths.items():
        if length not in (1, rows):
            raise InputError(
                "as many values as rows, or one", field=name, found=length, expected=str(rows)
            )
    return rows


def of_sequences(call: Call) -> bool:
    """Whether a call's cost depends on each request's length, not on the tokens of all."""
    return call.kind in ("attention", "latent") or call.name.endswith((".recurrence", ".up_kv"))


class StepCalls:
    """The calls of a model's layers on one device, whatever the requests.

    Those of one kind's sequences are named by its number: ``mixer.1.attend``. Parts that layers
    have in common are made once.

    Args:
        arch: The model.
        grid: The steps.
        bits: Bits an element.
    """

    def __init__(self, arch: Architecture, grid: Grid, bits: Bits) -> None:
        self.whole = LayerCalls(arch, grid, bits)
        self.grids = grid.parts if isinstance(grid, MixedGrid) else ()
        self.kinds = [LayerCalls(arch, part, bits) for part in self.grids]
        self._made: dict[int, list[Call]] = {}

    def of(self, layer: Layer) -> list[Call]:
        """The calls of one layer, in order."""
        whole = self.whole.of(layer)
        if not self.kinds:
            return whole
        own = [kind.of(layer) for kind in self.kinds]
        found: list[Call] = []
        for index, call in enumerate(whole):
            if id(call) not in self._made:
                self._made[id(call)] = self._split(call, [calls[index] for calls in own])
            found += self._made[id(call)]
        return found

    def _split(self, call: Call, kinds: Sequence[Call]) -> list[Call]:
        if not of_sequences(call):
            return [call]
        if call.kind == "gemm":
            rows: Floats = np.add.reduce([kind.sizes["m"] for kind in kinds])
            macs = sum(kind.macs for kind in kinds)
            return [replace(call, sizes={**call.sizes, "m": rows}, macs=macs)]
        pairs = zip(kinds, self.grids, strict=True)
        return [_alone(kind, part, number) for number, (kind, part) in enumerate(pairs)]


def mixed_layer_calls(arch: Architecture, layer: Layer, grid: Grid, bits: Bits) -> list[Call]:
    """The calls of one layer on one device, see :class:`StepCalls`."""
    return StepCalls(arch, grid, bits).of(layer)


def _alone(call: Call, part: Grid, number: int) -> Call:
    """The call of one kind; a row without such requests takes no time for it."""
    sizes = dict(call.sizes)
    if "requests" in sizes:
        sizes["requests"] = np.maximum(sizes["requests"], 1.0)
    first, _, last = call.name.rpartition(".")
    return replace(call, name=f"{first}.{number}.{last}", sizes=sizes, present=part.requests > 0)


def mixed_cache_bytes(layer: Layer, grid: Grid, bits: Bits) -> Floats:
    """Bytes of cache and state that one device holds for one layer, whatever the requests."""
    parts = grid.parts if isinstance(grid, MixedGrid) else (grid,)
    return sum(cache_bytes(layer, part, bits) for part in parts)  # type: ignore[return-value]


def mixed_cache_moved(layer: Layer, grid: Grid, bits: Bits) -> tuple[Floats, Floats]:
    """Bytes of a layer's caches that a step reads and writes, whatever the requests."""
    parts = grid.parts if isinstance(grid, MixedGrid) else (grid,)
    moved = [cache_moved(layer, part, cache_bytes(layer, part, bits)) for part in parts]
    read, written = zip(*moved, strict=True)
    return sum(read), sum(written)  # type: ignore[return-value]
