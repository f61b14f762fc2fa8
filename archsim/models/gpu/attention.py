"""Attention on a GPU: tiled prefill, and decode with the cache split over the SMs.

**Prefill** (flash-style). A block of 128 queries of one head walks over tiles of keys; with the
causal mask it stops at the diagonal, with a window it starts where the window does. A tile costs
its two products on the tensor units and one exponential a score; blocks are dealt to the SMs, and
no schedule is shorter than the longest block. Before it, the new keys and values enter the paged
cache (with rotary embedding in some libraries, which then also moves the queries).

**Decode**. One new token a sequence: the keys and values of one KV head are read once for the group
of query heads that share it (up to ``group_limit``; beyond that, and in the kernel without tensor
units, once for every query head, from L2). They are walked in tiles of 64 tokens, each of which
takes a time of its own, one for its bytes and one for the rows of queries (8 to 64) it meets. With
a *fixed split* each cache is cut into ``s`` equal parts, so that ``ceil(items * s / slots)`` rounds
of ``ceil(tiles / s)`` tiles pass; with LeanAttention's *equal split* (arXiv 2405.10480) all tiles
of all heads are dealt out evenly. A split adds a kernel that combines. The bound is device memory
or this walk, whichever is longer, with the share ``overlap`` of the shorter not hidden.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from archsim.errors import InputError
from archsim.models.gpu.constants import GpuConstants, constants_for
from archsim.models.gpu.cost import GpuCost, data_energy
from archsim.models.gpu.device import DTYPE_BYTES, Figure, GpuDevice

Floats = NDArray[np.float64]
#: Queries of one block and tokens of one tile of the decode kernels.
QUERY_TILE, TOKEN_TILE = 128.0, 64.0
#: Query heads that one block of a latent-attention kernel works on.
HEAD_TILE = 64.0
#: Ways to deal a cache out: see the module.
SPLITS = ("fixed", "flash", "equal", "none")
#: Parts that a fixed split may cut a cache into.
PARTS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256)


def _rows(
    device: GpuDevice, fields: Mapping[str, ArrayLike], window: ArrayLike
) -> tuple[GpuDevice, list[Floats], tuple[int, ...]]:
    """Device and checked arguments (the window last) as rows, and the shape they came from."""
    arguments: dict[str, ArrayLike] = {**fields, "window": window}
    shape = np.broadcast_shapes(device.shape, *(np.shape(v) for v in arguments.values()))
    rows = []
    for name, value in arguments.items():
        row = np.broadcast_to(np.asarray(value, float), shape).reshape(-1)
        least = 0.0 if name == "past" else 1.0
        finite = name == "window" or bool(np.isfinite(row).all())
        if row.size and not (row.min() >= least and finite):
            raise InputError(
                "a size is too small or not finite", field=name, found=float(row.min()),
                expected=f"at least {least:g}",
            )  # fmt: skip
        rows.append(row)
    return device.rows(shape), rows, shape


def _heads(heads: Floats, kv_heads: Floats) -> None:
    if ((kv_heads > heads) | (heads % kv_heads != 0)).any():
        raise InputError(
            "query heads do not share the KV heads evenly",
            field="kv_heads",
            expected="a divisor of heads",
        )


def _element(dtype: str) -> float:
    if dtype not in DTYPE_BYTES:
        raise InputError("unknown number format", found=dtype, expected=", ".join(DTYPE_BYTES))
    return DTYPE_BYTES[dtype]


def key_tiles(sequence: Floats, tile: float, window: Floats, past: Floats | float = 0.0) -> Floats:
    """Tiles of keys that all blocks of 128 queries of one causal sequence walk over together.

    Args:
        sequence: Queries (new tokens).
        tile: Keys in a tile.
        window: Keys a query sees; infinity for all.
        past: Keys before the first query.

    Example:
        >>> float(key_tiles(np.array([512.0]), 128.0, np.array([np.inf]))[0])
        10.0
    """
    blocks = np.ceil(sequence / QUERY_TILE)
    per_block = QUERY_TILE / tile
    before = np.ceil(past / tile)
    last = before + np.ceil(sequence / tile)
    whole = (blocks - 1) * before + per_block * (blocks - 1) * blocks / 2 + last
    most = np.where(np.isfinite(window), np.ceil(np.minimum(window, 1e18) / tile) + per_block, last)
    rising = np.clip(np.floor((most - before) / per_block), 0, blocks)
    capped = rising * before + per_block * rising * (rising + 1) / 2 + (blocks - rising) * most
    return np.where(most < last, np.minimum(whole, capped), whole)


def evaluate_prefill(
    device: GpuDevice,
    batch: ArrayLike,
    sequence: ArrayLike,
    heads: ArrayLike,
    kv_heads: ArrayLike,
    head_dim: ArrayLike,
    dtype: str = "bf16",
    *,
    kv_dtype: str | None = None,
    value_dim: ArrayLike | None = None,
    window: ArrayLike = np.inf,
    past: ArrayLike = 0.0,
    constants: GpuConstants | None = None,
) -> GpuCost:
    """Latency and energy of causal attention over new tokens.

    Args:
        device: The GPU.
        batch: Sequences.
        sequence: New tokens of each.
        heads: Query heads.
        kv_heads: Heads of keys and values.
        head_dim: Width of queries and keys.
        dtype: Number format of the products.
        kv_dtype: Number format of the cache; default ``dtype``.
        value_dim: Width of values; default ``head_dim``.
        window: Keys a query sees; infinity for all.
        past: Tokens already in the cache.
        constants: Calibrated constants; default those of the device's generation.

    Raises:
        InputError: A size is out of range, or a number format unknown.
    """
    p = (constants or constants_for(device)).kernel("prefill")
    fields = {"batch": batch, "sequence": sequence, "heads": heads, "kv_heads": kv_heads,
              "head_dim": head_dim, "value_dim": head_dim if value_dim is None else value_dim,
              "past": past}  # fmt: skip
    device, (b, s, h, g, d, dv, old, w), shape = _rows(device, fields, window)
    _heads(h, g)
    wide, stored = _element(dtype), _element(kv_dtype or dtype)
    tile = p["key_tile"]
    small = wide < 2
    efficiency = p["tensor_efficiency_8bit" if small else "tensor_efficiency"]
    softmax = p["softmax_cycles_8bit" if small else "softmax_cycles"]
    tiles = key_tiles(s, tile, w, old)
    rate = device.peak(dtype) / device.sms
    step = (
        2 * QUERY_TILE * tile * (d + dv) / (rate * efficiency)
        + softmax * tile / QUERY_TILE / device.clock_hz
    )
    blocks = np.ceil(s / QUERY_TILE)
    longest = np.minimum(
        np.ceil((s + old) / tile), np.ceil(np.minimum(w, 1e18) / tile) + QUERY_TILE / tile
    )
    spread = b * h * (tiles * step + blocks * p["block_s"]) / device.sms
    compute = np.maximum(spread, longest * step + p["block_s"])
    entered = b * s * g * (d + dv)
    moved = b * s * h * (d + dv) * 2.0 + b * (s + old) * g * (d + dv) * stored
    memory = moved / (device.bandwidth_bytes_per_s * p["read_efficiency"])
    if p["rotary"]:
        arranged = b * s * (h * d + g * (d + dv)) * 2.0 + b * s * h * d * wide + entered * stored
        columns = h + 2 * g
    else:
        arranged, columns = entered * 2.0 * stored, g
    enter = np.maximum(
        b * s * (p["token_s"] + p["head_s"] * columns),
        arranged / (device.bandwidth_bytes_per_s * p["write_efficiency"]),
    )
    pairs = np.where(
        np.isfinite(w) & (w < s + old),
        s * np.minimum(w, s + old) - np.maximum(np.minimum(w, s + old) - old, 0) ** 2 / 2,
        s * old + s * (s + 1) / 2,
    )
    flops = 2.0 * b * h * pairs * (d + dv)
    dram = moved + arranged
    latency = p["launch_s"] + enter + np.maximum(compute, memory)
    latency = latency + p["overlap"] * np.minimum(compute, memory)
    l2 = b * h * tiles * tile * (d + dv) * wide
    return GpuCost.of_rows(
        shape, device, latency, data_energy(device, (dtype,), flops, dram, l2), flops, dram,
        {"compute_s": compute, "memory_s": memory, "cache_s": enter,
         "launch_s": np.full(len(flops), p["launch_s"])},
    )  # fmt: skip


def fixed_rounds(items: ArrayLike, parts: ArrayLike, slots: ArrayLike) -> Floats:
    """Rounds (waves) in which ``items`` caches, each cut into ``parts``, pass over the slots.

    Example:
        >>> float(fixed_rounds(56, 2, 108))
        2.0
    """
    return np.ceil(np.asarray(items, float) * np.asarray(parts, float) / np.asarray(slots, float))


def flash_parts(items: ArrayLike, tiles: ArrayLike, slots: ArrayLike, most: int = 128) -> Floats:
    """Parts that FlashDecoding cuts a cache into (FlashAttention 2, ``num_splits_heuristic``).

    One where the items nearly fill the slots; else the fewest parts whose last wave is filled to
    85 % of the best. Parts that leave the longest as long as with one part less do not count.

    Args:
        items: Blocks without a split (sequences x heads).
        tiles: Tiles of one cache.
        slots: Blocks that run beside each other.
        most: Parts at most.

    Returns:
        float64 in the broadcast shape.

    Example:
        >>> flash_parts([48, 100], 64, 108).tolist()
        [2.0, 1.0]
    """
    items, tiles, slots = np.broadcast_arrays(
        *(np.asarray(x, float) for x in (items, tiles, slots))
    )
    parts = np.arange(1.0, most + 1)
    waves = items[..., None] * parts / slots[..., None]
    longest = np.ceil(tiles[..., None] / parts)
    able = np.concatenate([np.ones((*items.shape, 1), bool), np.diff(longest) != 0], axis=-1)
    able &= parts <= np.minimum(slots, tiles)[..., None]
    filled = np.where(able, waves / np.ceil(waves), 0.0)
    enough = able & (filled >= 0.85 * filled.max(-1, keepdims=True))
    return np.where(items >= 0.8 * slots, 1.0, parts[enough.argmax(-1)])


def equal_share(items: ArrayLike, tiles: ArrayLike, slots: ArrayLike) -> Floats:
    """Tiles of the fullest slot where all tiles of all caches are dealt out evenly.

    Example:
        >>> float(equal_share(56, 16, 108))
        9.0
    """
    total = np.asarray(items, float) * tiles
    return np.ceil(total / np.minimum(slots, total))


def _walk(
    p: dict[str, float], kernel: str, items: Floats, tokens: Floats, row_bytes: Floats,
    rows: Floats, query: Floats, floor: Floats, sms: Figure, split: str, overlap: float,
) -> tuple[Floats, Floats, Floats]:  # fmt: skip
    """Latency, walk time and splits of one decode kernel."""
    slots = np.floor(sms * p[f"{kernel}_resident"])
    tiles = np.ceil(tokens / TOKEN_TILE)
    step = p[f"{kernel}_tile_s"] * row_bytes / 256.0
    step = step + p.get(f"{kernel}_step_s", 0.0) + p.get(f"{kernel}_row_s", 0.0) * rows
    block = p[f"{kernel}_block_s"] + p[f"{kernel}_query_s"] * query
    best = walk_of_best = np.full(len(items), np.inf)
    chosen = np.ones(len(items))
    tried: Sequence[float | Floats] = PARTS if split == "fixed" else (1.0,)
    if split == "flash":
        tried = (flash_parts(items, tiles, slots),)
    for parts in tried:
        rounds = fixed_rounds(items, parts, slots)
        walk = rounds * (block + np.ceil(tiles / parts) * step)
        if split == "equal":  # every slot the same number of tiles, whole blocks where heads end
            share = equal_share(items, tiles, slots)
            walk = np.ceil(items / slots) * block + share * step
        total = np.maximum(walk, floor) + overlap * np.minimum(walk, floor)
        combined = (np.asarray(parts) > 1) | (split == "equal")
        total = total + np.where(combined, p[f"{kernel}_combine_s"], 0.0)
        better = total < best
        chosen = np.where(better, parts, chosen)
        walk_of_best = np.where(better, walk, walk_of_best)
        best = np.where(better, total, best)
    return p[f"{kernel}_launch_s"] + best, walk_of_best, chosen


def evaluate_decode(
    device: GpuDevice,
    batch: ArrayLike,
    context: ArrayLike,
    heads: ArrayLike,
    kv_heads: ArrayLike,
    head_dim: ArrayLike,
    kv_dtype: str = "bf16",
    *,
    split: str = "fixed",
    window: ArrayLike = np.inf,
    latent_value_dim: float | None = None,
    resident: bool = False,
    constants: GpuConstants | None = None,
) -> GpuCost:
    """Latency and energy of attention of one new token a sequence over its cache.

    Args:
        device: The GPU.
        batch: Sequences.
        context: Tokens in the cache of each, the new one included.
        heads: Query heads.
        kv_heads: Heads of keys and values.
        head_dim: Width of a head.
        kv_dtype: Number format of the cache.
        split: ``fixed`` (the best number of equal parts of each head's cache), ``flash`` (the
            number FlashDecoding takes), ``equal`` (LeanAttention: all tiles dealt out evenly),
            ``none``.
        window: Tokens that are read at most.
        latent_value_dim: Multi-head latent attention with absorbed projections: the cache holds one
            row of ``head_dim`` (latent and rotary part) a token, of which the first so many are
            the value too (DeepSeek-V3: 576 and 512, one KV head). All heads share a row, so that
            the tensor units can become the bound.
        resident: The same cache was read just before and what fits is still in L2 (a benchmark
            in a loop); in a network other layers run in between.
        constants: Calibrated constants; default those of the device's generation.

    Raises:
        InputError: A size is out of range, or an option unknown.

    Example:
        >>> from archsim.models.gpu import gpu_device
        >>> cost = evaluate_decode(gpu_device("a100"), 16, 4096, 32, 8, 128)
        >>> 150 < float(cost.latency_s) * 1e6 < 250
        True
    """
    if split not in SPLITS:
        raise InputError("unknown split", found=split, expected=", ".join(SPLITS))
    p = dict((constants or constants_for(device)).kernel("decode"))
    fields = {"batch": batch, "context": context, "heads": heads, "kv_heads": kv_heads,
              "head_dim": head_dim}  # fmt: skip
    device, (b, s, h, g, d, w), shape = _rows(device, fields, window)
    _heads(h, g)
    size = _element(kv_dtype)
    tokens, group = np.minimum(s, w), h / g
    shared = latent_value_dim is not None
    if latent_value_dim is not None and (latent_value_dim < 1 or (d < latent_value_dim).any()):
        raise InputError(
            "the value is part of the row", field="latent_value_dim", found=latent_value_dim
        )
    cache = (1.0 if shared else 2.0) * b * g * tokens * d * size
    missed = np.minimum(1.0, cache / (device.l2_bytes * p["l2_share"])) if resident else 1.0
    dram = cache * missed + 4.0 * b * h * d
    memory = dram / (device.bandwidth_bytes_per_s * p["read_efficiency"])
    kernel = "grouped8" if size < 2 and "grouped8_launch_s" in p else "grouped"
    overlap = p["overlap"]
    args = (device.sms, split, overlap)
    flops = 2.0 * b * h * tokens * (d + (d if latent_value_dim is None else latent_value_dim))
    # kernels are compiled for widths, and tiles of query heads, that are powers of two
    padded = np.exp2(np.ceil(np.log2(d))) if p["padded_width"] else d
    width = d if shared else padded
    rows = width / 128.0 * np.clip(np.exp2(np.ceil(np.log2(group))), 8.0, HEAD_TILE)
    items, floor, row, query = b * g, memory, width * size, d * (group + 8)
    if shared:  # blocks of 64 query heads, one row read for key and value
        efficiency = (constants or constants_for(device)).kernel("prefill")["tensor_efficiency"]
        floor = np.maximum(memory, flops / (device.peak("bf16") * efficiency))
        items, row, rows = items * np.ceil(group / HEAD_TILE), row / 2.0, 0.0 * d
        query = d * (np.minimum(group, HEAD_TILE) + 8)
    latency, walk, parts = _walk(p, kernel, items, tokens, row, rows, query, floor, *args)
    per_head = (group > p["group_limit"]) if "head_launch_s" in p else np.zeros(len(b), bool)
    if "head_launch_s" in p and not shared:  # the kernel without tensor units, one query head each
        scalar = (
            2.0 * b * h * tokens * d / (p["head_elements_per_cycle"] * device.sms * device.clock_hz)
        )
        other, other_walk, other_parts = _walk(
            p,
            "head",
            b * h,
            tokens,
            width * 2.0,
            0.0 * d,
            d * 9.0,
            np.maximum(memory, scalar),
            *args,
        )
        alone = per_head | (group == 1) | (other < latency)
        latency = np.where(alone, other, latency)
        walk, parts = np.where(alone, other_walk, walk), np.where(alone, other_parts, parts)
    if (
        "regroup_s" in p and not shared
    ):  # queries of a group are brought together and taken apart again
        latency = latency + np.where((b > 1) & (g > 1) & (group > 1), p["regroup_s"], 0.0)
    latency = latency + b * h * p["head_token_s"]
    energy = data_energy(device, ("bf16",), flops, dram, cache)
    return GpuCost.of_rows(
        shape, device, latency, energy, flops, dram,
        {"compute_s": walk, "memory_s": memory,
         "launch_s": np.full(len(b), p[f"{kernel}_launch_s"])},
        {"split": parts},
    )  # fmt: skip
