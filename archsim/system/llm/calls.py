"""The kernel calls of one device in one step of a language model, for many steps at once.

A call is what a device launches: a matrix product, attention over a cache, a vector kernel, or a
collective with its peers. Sizes are float64 arrays over B steps (batch, new tokens, context and
plan may all differ), so a whole grid is priced by a few array operations. The counts equal those of
the graph (``LanguageModel.step``) where one device does everything.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from archsim.workload.architecture import (
    Architecture,
    Attention,
    Experts,
    FeedForward,
    LatentAttention,
    Layer,
    LinearAttention,
    Mamba,
    Mamba2,
)
from archsim.workload.mixers import ROTARY
from archsim.workload.operators import vector_ops
from archsim.workload.recurrent import SCAN, SCAN_CHANNEL, STATE_UPDATE
from archsim.workload.steps import Bits

Floats = NDArray[np.float64]
Kind = Literal["gemm", "moe", "attention", "latent", "vector", "all_reduce", "all_to_all"]


@dataclass(frozen=True, eq=False)
class Grid:
    """B steps of equal requests under B plans; float64[B] each.

    Attributes:
        batch: Requests of the whole machine (of one micro-batch).
        new: New tokens of each.
        context: Tokens in each one's cache after the step.
        tensor, data, expert: As in ``Plan``.
        imbalance: Load of the fullest group of experts over the mean.
    """

    batch: Floats
    new: Floats
    context: Floats
    tensor: Floats
    data: Floats
    expert: Floats
    imbalance: float = 1.0

    @cached_property
    def requests(self) -> Floats:
        """Requests of one device's group (of the fullest)."""
        return np.ceil(self.batch / self.data)

    @cached_property
    def tokens(self) -> Floats:
        """New tokens of one device's group."""
        return self.requests * self.new

    @property
    def all_tokens(self) -> Floats:
        """New tokens of the whole machine."""
        return self.batch * self.new


@dataclass(frozen=True, eq=False)
class Call:
    """One kernel, or collective, of one device.

    Calls of a kind that share one ``sizes`` mapping cost the same, so that one is priced for all.

    Attributes:
        name: Part of the layer it belongs to.
        kind: What it is.
        sizes: Its extents, float64[B] or alike in all rows. ``gemm``: m, n, k. ``moe``: experts
            (held), active, pairs (of token and expert), tokens, hidden, inner, gated (1 or 0), ops
            (of one activation). ``attention``: requests, new, context, heads, kv_heads, head_dim,
            value_dim, window. ``latent``: as ``attention`` with rank, rope, absorbed. ``vector``:
            ops, bytes. Collectives: bytes (that one device holds), members.
        weight_bytes: Bytes of the weights it reads (those of this device).
        macs: Multiply-accumulates that the graph counts.
        idle_bytes: Bytes of weights that the device holds for it and does not read (experts).
        operation: Of a vector kernel, where eager execution tells it apart (``layernorm``,
            ``gelu``).
        launches: Kernels it is where nothing is fused.
        present: Rows that make the call; None is all.
    """

    name: str
    kind: Kind
    sizes: Mapping[str, Floats]
    weight_bytes: Floats | float = 0.0
    macs: Floats | float = 0.0
    idle_bytes: Floats | float = 0.0
    operation: str = ""
    launches: int = 1
    present: NDArray[np.bool_] | None = None


@dataclass
class _Maker:
    """Collects the calls of one part of a layer."""

    arch: Architecture
    grid: Grid
    bits: Bits
    calls: list[Call] = field(default_factory=list)
    #: What the sums over devices add up, with their sizes, for all parts.
    sums: list[tuple[Floats, dict[str, Floats]]] = field(default_factory=list)

    @property
    def act(self) -> float:
        """Bytes of an activation."""
        return self.bits.activation / 8

    def gemm(self, name: str, m: Floats, n: Any, k: Any, bits: float | None = None) -> None:
        weight = (self.bits.weight if bits is None else bits) / 8
        n, k = np.asarray(n, float), np.asarray(k, float)
        self.calls.append(Call(name, "gemm", {"m": m, "n": n, "k": k}, n * k * weight, m * n * k))

    def vector(
        self, name: str, ops: Any, moved: Any, weights: Any = 0.0, macs: Any = 0.0, *,
        operation: str = "", launches: int = 1,
    ) -> None:  # fmt: skip
        sizes = {"ops": np.asarray(ops, float), "bytes": np.asarray(moved, float)}
        self.calls.append(
            Call(name, "vector", sizes, weights, macs, operation=operation, launches=launches)
        )

    def norm(self, name: str, rows: Floats, width: float) -> None:
        each = vector_ops(self.arch.norm, [(1,)], (1,))
        moved, held = 2 * rows * width * self.act, width * self.act
        self.vector(name, each * rows * width, moved, held, operation="layernorm")

    def all_reduce(self, name: str, rows: Floats) -> None:
        known = [sizes for before, sizes in self.sums if before is rows]
        if not known:
            moved = rows * self.arch.width * self.act
            known.append({"bytes": moved, "members": self.grid.tensor})
            self.sums.append((rows, known[0]))
        self.calls.append(Call(name, "all_reduce", known[0]))


def _attention(make: _Maker, name: str, a: Attention) -> None:
    grid, width = make.grid, make.arch.width
    tokens, value = grid.tokens, a.value_dim or a.head_dim
    kv = np.ceil(a.kv_heads / grid.tensor)  # replicated where there are more devices than heads
    # The fullest device has whole groups of heads that share theirs, or a part of one group.
    whole = kv * (a.heads // a.kv_heads)
    heads = np.where(grid.tensor > a.kv_heads, np.ceil(a.heads / grid.tensor), whole)
    make.gemm(f"{name}.qkv", tokens, heads * a.head_dim + kv * (a.head_dim + value), width)
    if a.head_norm:
        make.norm(f"{name}.head_norm", tokens * (heads + kv), a.head_dim)
    if a.rotary_dim:
        turned = tokens * (heads + kv) * a.rotary_dim
        make.vector(f"{name}.rotary", ROTARY * turned, 2 * turned * make.act)
    kept = tokens * kv * (a.head_dim + value)
    if make.arch.causal:
        make.vector(f"{name}.keep", 0.0, kept * (make.act + make.bits.kv / 8))
    window = np.inf if a.window is None else float(a.window)
    seen = np.minimum(grid.context, window + grid.new - 1)
    banded = (grid.new > 1) & (seen > window)
    pairs = grid.requests * grid.new * heads * np.where(banded, np.minimum(window, seen), seen)
    full = np.full_like(tokens, 1.0)
    sizes = {
        "requests": grid.requests, "new": grid.new, "context": grid.context, "heads": heads,
        "kv_heads": kv, "head_dim": full * a.head_dim, "value_dim": full * value,
        "window": full * window,
    }  # fmt: skip
    make.calls.append(Call(f"{name}.attend", "attention", sizes, 0.0, pairs * (a.head_dim + value)))
    make.gemm(f"{name}.out", tokens, width, heads * value)
    make.all_reduce(f"{name}.sum", tokens)


def _latent(make: _Maker, name: str, a: LatentAttention) -> None:
    grid, width = make.grid, make.arch.width
    tokens, heads = grid.tokens, np.ceil(a.heads / grid.tensor)
    head, whole = a.nope_dim + a.rope_dim, a.kv_rank + a.rope_dim
    if a.q_rank is None:
        make.gemm(f"{name}.q", tokens, heads * head, width)
        make.gemm(f"{name}.down", tokens, whole, width)
    else:
        make.gemm(f"{name}.down", tokens, a.q_rank + whole, width)
        make.norm(f"{name}.q_norm", tokens, a.q_rank)
        make.gemm(f"{name}.q_up", tokens, heads * head, a.q_rank)
    make.norm(f"{name}.kv_norm", tokens, a.kv_rank)
    turned = tokens * (heads + 1) * a.rope_dim
    make.vector(f"{name}.rotary", ROTARY * turned, 2 * turned * make.act)
    make.vector(f"{name}.keep", 0.0, tokens * whole * (make.act + make.bits.kv / 8))
    absorbed = grid.new * 4 <= grid.context
    one = np.ones_like(tokens)
    pairs = grid.requests * grid.new * heads * grid.context
    # Absorbed: all heads read the latent cache. Else keys and values are projected up first.
    long = grid.requests * grid.context
    up = make.bits.weight / 8 * heads * (a.nope_dim + a.value_dim) * a.kv_rank
    rows = np.where(absorbed, tokens, long)
    wide = heads * (a.nope_dim + a.value_dim)
    make.calls.append(
        Call(f"{name}.up_kv", "gemm", {"m": rows, "n": wide, "k": one * a.kv_rank}, up,
             rows * wide * a.kv_rank)
    )  # fmt: skip
    each = np.where(absorbed, whole + a.kv_rank, head + a.value_dim)
    sizes = {
        "requests": grid.requests, "new": grid.new, "context": grid.context, "heads": heads,
        "kv_heads": np.where(absorbed, 1.0, heads), "head_dim": np.where(absorbed, whole, head),
        "value_dim": np.where(absorbed, a.kv_rank, a.value_dim), "rank": one * a.kv_rank,
        "rope": one * a.rope_dim, "absorbed": absorbed.astype(float),
    }  # fmt: skip
    make.calls.append(Call(f"{name}.attend", "latent", sizes, 0.0, pairs * each))
    make.gemm(f"{name}.out", tokens, width, heads * a.value_dim)
    make.all_reduce(f"{name}.sum", tokens)


def _mamba(make: _Maker, name: str, m: Mamba) -> None:
    grid, width = make.grid, make.arch.width
    tokens, inner = grid.tokens, np.ceil(m.inner / grid.tensor)
    state, act = make.bits.state / 8, make.act
    make.gemm(f"{name}.in", tokens, 2 * inner, width)
    taps = tokens * inner * m.kernel
    make.vector(
        f"{name}.conv", 6 * tokens * inner, 2 * tokens * inner * act, inner * m.kernel * act, taps
    )
    make.gemm(f"{name}.x", tokens, m.rank + 2 * m.state, inner)
    make.all_reduce(f"{name}.x_sum", tokens * (m.rank + 2 * m.state) / width)
    make.gemm(f"{name}.dt", tokens, inner, m.rank)
    moved = 4 * tokens * inner * act + 2 * grid.requests * inner * m.state * state
    make.vector(
        f"{name}.scan", tokens * inner * (SCAN * m.state + SCAN_CHANNEL + 3), moved,
        inner * (m.state + 1) * act,
    )  # fmt: skip
    make.vector(f"{name}.gate", 6 * tokens * inner, 3 * tokens * inner * act)
    make.gemm(f"{name}.out", tokens, width, inner)
    make.all_reduce(f"{name}.sum", tokens)


def _matrix_state(
    make: _Maker, name: str, heads: Floats, key: int, value: int, inner_bytes: Floats
) -> None:
    """A matrix state a head: update and read in decode, chunks where there are many tokens."""
    from archsim.workload.recurrent import CHUNK

    grid = make.grid
    cells = grid.requests * heads * key * value
    chunk = np.minimum(CHUNK, grid.new)
    chunks = np.ceil(grid.new / chunk) * grid.requests * heads
    inside = chunks * chunk * (chunk * (key + value) + 2 * key * value)
    one = grid.new == 1
    ops = np.where(one, STATE_UPDATE * cells, chunks * (3 * chunk * value + 2 * key * value))
    moved = inner_bytes + 2 * cells * make.bits.state / 8
    macs = np.where(one, cells, inside)
    make.vector(f"{name}.recurrence", ops, moved, 0.0, macs)


def _mamba2(make: _Maker, name: str, m: Mamba2) -> None:
    grid, width, act = make.grid, make.arch.width, make.act
    tokens, heads = grid.tokens, np.ceil(m.heads / grid.tensor)
    inner, shared = heads * m.head_dim, np.ceil(m.groups / grid.tensor) * 2 * m.state
    make.gemm(f"{name}.in", tokens, 2 * inner + shared + heads, width)
    channels = inner + shared
    make.vector(
        f"{name}.conv", 6 * tokens * channels, 2 * tokens * channels * act,
        channels * m.kernel * act, tokens * channels * m.kernel,
    )  # fmt: skip
    make.vector(f"{name}.decay", 6 * tokens * heads, 2 * tokens * heads * act, 3 * heads * act)
    _matrix_state(make, name, heads, m.state, m.head_dim, tokens * (channels + inner) * act)
    make.vector(f"{name}.gate", 8 * tokens * inner, 4 * tokens * inner * act)
    make.norm(f"{name}.norm", tokens, float(m.heads * m.head_dim))
    make.gemm(f"{name}.out", tokens, width, inner)
    make.all_reduce(f"{name}.sum", tokens)


def _linear_attention(make: _Maker, name: str, a: LinearAttention) -> None:
    grid, width, act = make.grid, make.arch.width, make.act
    tokens, heads = grid.tokens, np.ceil(a.heads / grid.tensor)
    inner, columns = heads * a.value_dim, heads * (2 * a.key_dim + a.value_dim)
    make.gemm(f"{name}.qkv", tokens, columns, width)
    make.vector(f"{name}.act", 5 * tokens * columns, 2 * tokens * columns * act)
    _matrix_state(make, name, heads, a.key_dim, a.value_dim, tokens * (columns + inner) * act)
    if a.output_gate:
        make.norm(f"{name}.norm", tokens, float(a.heads * a.value_dim))
        make.gemm(f"{name}.gate", tokens, inner, width)
        make.vector(f"{name}.gated", 5 * tokens * inner, 3 * tokens * inner * act)
    make.gemm(f"{name}.out", tokens, width, inner)
    make.all_reduce(f"{name}.sum", tokens)


#: How the calls of each kind of mixer are made.
MIXERS: dict[type, Callable[[_Maker, str, Any], None]] = {
    Attention: _attention,
    LatentAttention: _latent,
    Mamba: _mamba,
    Mamba2: _mamba2,
    LinearAttention: _linear_attention,
}
#: Scalar operations of an activation on one inner element.
_ACTIVATION = {"silu": 5, "gelu": 5, "gelu_tanh": 8, "relu": 1, "quick_gelu": 5}


def _feed(make: _Maker, name: str, ffn: FeedForward) -> None:
    grid, width = make.grid, make.arch.width
    tokens, inner = grid.tokens, np.ceil(ffn.width / grid.tensor)
    make.gemm(f"{name}.up", tokens, inner * (2 if ffn.gated else 1), width)
    ops = _ACTIVATION[ffn.activation] + ffn.gated
    make.vector(
        f"{name}.act", ops * tokens * inner, (2 + ffn.gated) * tokens * inner * make.act,
        operation="gelu", launches=1 + ffn.gated,
    )  # fmt: skip
    make.gemm(f"{name}.down", tokens, width, inner)


def _experts(make: _Maker, name: str, moe: Experts) -> None:
    grid, width, act = make.grid, make.arch.width, make.act
    tokens = grid.tokens
    make.gemm(f"{name}.router", tokens, moe.experts, width, make.bits.activation)
    ops = tokens * moe.experts * (7 + moe.router_bias)
    make.vector(f"{name}.route", ops, 3 * tokens * moe.experts * act)
    # Experts of one device, each cut over the devices that share it, under a balanced load.
    own = np.ceil(moe.experts / grid.expert)
    inner = np.ceil(moe.width * grid.expert / (grid.tensor * grid.data))
    sent = grid.all_tokens * moe.top_k
    active = np.minimum(own, np.ceil(np.minimum(sent, moe.experts) / grid.expert))
    # The step waits for the fullest group; it cannot have more than every token's top k.
    here = np.minimum(sent / grid.expert * grid.imbalance, sent)
    full = np.ones_like(here)
    # Requests of other groups come over; within a group every device has all tokens already.
    moved = tokens * moe.top_k * width * act / grid.tensor
    members = np.where(grid.data > 1, grid.tensor * grid.data, 1.0)
    exchange = {"bytes": moved, "members": members}
    make.calls.append(Call(f"{name}.dispatch", "all_to_all", exchange))
    each = (2 + moe.gated) * inner * width
    sizes = {
        "experts": own, "active": active, "pairs": here, "tokens": tokens * full,
        "hidden": full * width, "inner": inner, "gated": full * moe.gated,
        "ops": full * (_ACTIVATION[moe.activation] + moe.gated),
    }  # fmt: skip
    stored = make.bits.weight / 8
    make.calls.append(
        Call(f"{name}.experts", "moe", sizes, active * each * stored, here * each,
             (own - active) * each * stored)
    )  # fmt: skip
    make.calls.append(Call(f"{name}.collect", "all_to_all", exchange))
    if moe.shared_width:
        _feed(make, f"{name}.shared", FeedForward(moe.shared_width, moe.gated, moe.activation))
        if moe.shared_gate:
            make.gemm(f"{name}.shared_gate", tokens, 1, width)
        make.vector(f"{name}.add_shared", tokens * width, 3 * tokens * width * act)


def _mixer(make: _Maker, mixer: Any) -> None:
    MIXERS[type(mixer)](make, "mixer", mixer)


def _ffn(make: _Maker, ffn: Any) -> None:
    name = "moe" if isinstance(ffn, Experts) else "mlp"
    (_experts if isinstance(ffn, Experts) else _feed)(make, name, ffn)
    make.all_reduce(f"{name}.sum", make.grid.tokens)


class LayerCalls:
    """The calls of a model's layers; parts that layers have in common are made once.

    Args:
        arch: The model.
        grid: The steps.
        bits: Bits an element.
    """

    def __init__(self, arch: Architecture, grid: Grid, bits: Bits) -> None:
        self.arch, self.grid, self.bits = arch, grid, bits
        self._parts: dict[Any, list[Call]] = {}
        self._sums: list[tuple[Floats, dict[str, Floats]]] = []

    def _part(self, key: Any, fill: Callable[..., None], *of: Any) -> list[Call]:
        if key not in self._parts:
            make = _Maker(self.arch, self.grid, self.bits, sums=self._sums)
            fill(make, *of)
            self._parts[key] = make.calls
        return self._parts[key]

    def of(self, layer: Layer) -> list[Call]:
        """The calls of one layer on one device, in order."""
        norms = {"parallel": 1, "parallel_two": 2, "sandwich": 4}.get(layer.norms, 2)
        norms = norms if layer.ffn is not None else 1
        calls = list(self._part(("norms", norms), self._norms, norms))
        calls += self._part(layer.mixer, _mixer, layer.mixer)
        if layer.ffn is not None:
            calls += self._part(layer.ffn, _ffn, layer.ffn)
        adds = 1 if layer.ffn is None else 2
        return calls + self._part(("residual", adds), self._residual, adds)

    @staticmethod
    def _norms(make: _Maker, many: int) -> None:
        make.norm("norm0", make.grid.tokens, make.arch.width)
        make.calls += [replace(make.calls[0], name=f"norm{index}") for index in range(1, many)]

    @staticmethod
    def _residual(make: _Maker, adds: int) -> None:
        rows = adds * make.grid.tokens * make.arch.width
        make.vector("residual", rows, 3 * rows * make.act, launches=adds)


def layer_calls(arch: Architecture, layer: Layer, grid: Grid, bits: Bits) -> list[Call]:
    """The calls of one layer on one device."""
    return LayerCalls(arch, grid, bits).of(layer)


def end_calls(arch: Architecture, grid: Grid, bits: Bits, all_logits: bool = False) -> list[Call]:
    """The calls before the first layer and after the last one, on one device."""
    make = _Maker(arch, grid, bits)
    tokens, width = grid.tokens, arch.width
    wide = bits.activation if bits.embedding is None else bits.embedding
    if arch.patches:
        pixels = arch.patches.channels * arch.patches.patch**2
        make.gemm("patches", grid.requests * (arch.patches.tokens - 1), width, pixels)
    else:
        tables = 1 + bool(arch.positions) + bool(arch.token_types)
        rows = tokens * width
        sizes = {"ops": (tables - 1) * rows, "bytes": (tables + 1) * rows * make.act}
        held = np.ceil(arch.vocabulary / grid.tensor) + arch.positions + arch.token_types
        make.calls.append(Call("embedding", "vector", sizes, idle_bytes=held * width * wide / 8))
    if arch.final_norm:
        make.norm("final_norm", tokens, width)
    last = tokens if all_logits else grid.requests
    if arch.pooler:
        make.gemm("pooler", last, width, width)
    if arch.head:
        make.gemm("head", last, np.ceil(arch.head / grid.tensor), width, wide)
        if arch.tied:  # the table is held once
            head, table = make.calls[-1], np.ceil(arch.head / grid.tensor) * width * wide / 8
            make.calls[-1] = replace(head, idle_bytes=-table)
    return make.calls


def cache_bytes(layer: Layer, grid: Grid, bits: Bits) -> Floats:
    """Bytes of cache and state that one device holds for one layer."""
    mixer, many = layer.mixer, grid.requests
    if isinstance(mixer, Attention):
        window = np.inf if mixer.window is None else float(mixer.window)
        seen = np.minimum(grid.context, window + grid.new - 1)
        kv = np.ceil(mixer.kv_heads / grid.tensor)
        return (
            many * seen * kv * (mixer.head_dim + (mixer.value_dim or mixer.head_dim)) * bits.kv / 8
        )
    if isinstance(mixer, LatentAttention):
        return many * grid.context * (mixer.kv_rank + mixer.rope_dim) * bits.kv / 8
    cut = np.ones_like(many) * grid.tensor
    if isinstance(mixer, Mamba):
        inner = np.ceil(mixer.inner / cut)
        taps = (mixer.kernel - 1) * bits.activation
        return many * inner * (mixer.state * bits.state + taps) / 8
    if isinstance(mixer, Mamba2):
        inner = np.ceil(mixer.heads / cut) * mixer.head_dim
        channels = inner + np.ceil(mixer.groups / cut) * 2 * mixer.state
        taps = channels * (mixer.kernel - 1) * bits.activation
        return many * (inner * mixer.state * bits.state + taps) / 8
    return many * np.ceil(mixer.heads / cut) * mixer.key_dim * mixer.value_dim * bits.state / 8


def cache_moved(layer: Layer, grid: Grid, held: Floats) -> tuple[Floats, Floats]:
    """Bytes of a layer's cache that a step reads and writes, of the bytes ``cache_bytes`` gives.

    A recurrent state is read and written whole; of a cache, what was there before is read and the
    new tokens' share is written.
    """
    if not isinstance(layer.mixer, (Attention, LatentAttention)):
        return held, held
    window = getattr(layer.mixer, "window", None)
    seen = np.minimum(grid.context, np.inf if window is None else window + grid.new - 1)
    fresh = np.minimum(grid.new / seen, 1.0)
    return held * (1.0 - fresh), held * fresh
