"""Attention over new tokens on a GPU (tiled), and the ways a cache is split over the SMs.

**Prefill** (flash-style). A block of 128 queries of one head walks over tiles of keys; with the
causal mask it stops at the diagonal, with a window it starts where the window does. A tile costs
its two products on the tensor units and one exponential a score; blocks are dealt to the SMs, and
no schedule is shorter than the longest block. Before it, the new keys and values enter the paged
cache (with rotary embedding in some libraries, which then also moves the queries).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike, NDArray

from archsim.errors import InputError
from archsim.models.gpu.constants import GpuConstants, constants_for
from archsim.models.gpu.cost import GpuCost, data_energy
from archsim.models.gpu.device import DTYPE_BYTES, GpuDevice

Floats = NDArray[np.float64]
#: Queries of one block.
QUERY_TILE = 128.0
#: Tokens that TensorRT-LLM gives one part of a cache at least.
SPLIT_TOKENS = 128.0


def call_rows(
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


def check_heads(heads: Floats, kv_heads: Floats) -> None:
    if ((kv_heads > heads) | (heads % kv_heads != 0)).any():
        raise InputError(
            "query heads do not share the KV heads evenly",
            field="kv_heads",
            expected="a divisor of heads",
        )


def element_bytes(dtype: str) -> float:
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
    device, (b, s, h, g, d, dv, old, w), shape = call_rows(device, fields, window)
    check_heads(h, g)
    wide, stored = element_bytes(dtype), element_bytes(kv_dtype or dtype)
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


def xqa_parts(
    items: ArrayLike, tokens: ArrayLike, batch: ArrayLike, sms: ArrayLike, most: int = 6000
) -> Floats:
    """Parts that TensorRT-LLM's XQA kernel cuts a cache into.

    One for 128 tokens, but of many only as many as the square root of eight times their number, so
    that combining them stays cheap; fewer where that makes more than eight blocks an SM (TensorRT-
    LLM 1.3, ``computeMultiBlockCount`` in decoderXQAImplCommon.h: its rule and figures).

    Args:
        items: Blocks without a split (sequences x KV heads).
        tokens: In one cache.
        batch: Sequences.
        sms: Multiprocessors.
        most: Parts of all sequences at most.

    Returns:
        float64 in the broadcast shape.

    Example:
        >>> xqa_parts([8, 512], [4096, 512], [1, 64], 132).tolist()
        [16.0, 2.0]
    """
    items, tokens, batch, sms = (np.asarray(x, float) for x in (items, tokens, batch, sms))
    parts = np.floor(tokens / SPLIT_TOKENS)
    parts = np.maximum(np.minimum(parts, np.round(np.sqrt(8.0 * parts))), 1.0)
    crowd = items * parts / sms / 8.0
    parts = np.where(crowd > 1.0, np.floor(parts / np.maximum(crowd, 1.0)), parts)
    return np.maximum(np.minimum(parts, np.floor(most / batch)), 1.0)
