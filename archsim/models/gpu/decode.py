"""Attention on a GPU of one new token a sequence over its cache, which is split over the SMs.

The keys and values of one KV head are read once for the group of query heads that share it (up to
``group_limit``; beyond that, and in the kernel without tensor units, once for every query head,
from L2). A block walks over its part of a cache: in tiles of 64 tokens, each of which takes a time
for its bytes and one for the rows of queries (8 to 64) it meets, or, one query a block, in loops
whose length the threads and registers set. Over latent rows, key and value at once, 64 heads share
a block (constants ``latent``; those of ``grouped`` where a generation has none). The parts follow
from the split:

* ``fixed``: so many equal parts that it is quickest. ``ceil(items * parts / slots)`` rounds pass.
* ``flash``, ``xqa``: the number FlashDecoding and TensorRT-LLM take. ``xqa`` takes the kernel too
  that TensorRT-LLM does: the one without tensor units where a fourth of the SMs would idle.
* ``equal``: LeanAttention's (arXiv 2405.10480), all tiles of all heads dealt out evenly.

Parts have to be combined. The bound is device memory or the walk, whichever is longer, with the
share ``overlap`` of the shorter not hidden.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from archsim.errors import InputError
from archsim.models.gpu.attention import (
    SPLIT_TOKENS,
    call_rows,
    check_heads,
    element_bytes,
    equal_share,
    fixed_rounds,
    flash_parts,
    xqa_parts,
)
from archsim.models.gpu.constants import GpuConstants, constants_for
from archsim.models.gpu.cost import GpuCost, data_energy
from archsim.models.gpu.device import Figure, GpuDevice

Floats = NDArray[np.float64]
#: Latency, walk and parts.
Found = tuple[Floats, Floats, Floats]
#: Tokens of one tile.
TOKEN_TILE = 64.0
#: Query heads that one block of a latent-attention kernel works on.
HEAD_TILE = 64.0
#: Ways to deal a cache out: see the module.
SPLITS = ("fixed", "flash", "xqa", "equal", "none")
#: Parts that a fixed split may cut a cache into.
PARTS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256)
#: Elements of keys that 256 threads without tensor units load in one loop: 16 bytes each, eight
#: times (TensorRT-LLM 1.3, decoderMaskedMultiheadAttentionTemplate.h).
LOOP_ELEMENTS, LOOP_STEPS = 16384.0, 8.0
#: TensorRT-LLM takes XQA if its blocks, of 128 tokens at least, are a fourth of the SMs or more
#: (``mayHavePerfGain`` in decoderXQAImplJIT.cpp); over an 8-bit cache always, as measured.
XQA_BLOCKS = 4.0


@dataclass(frozen=True, eq=False)
class _Blocks:
    """Blocks that walk over caches; float64[rows] each.

    Attributes:
        p: Constants.
        kernel: Prefix of the kernel's.
        items: Caches.
        tokens: In each.
        floor: Seconds that the data or the arithmetic take at least.
        slots: Blocks beside each other.
        start: Seconds a block takes before it walks.
        walk: Seconds of walking over so many tokens.
    """

    p: Mapping[str, float]
    kernel: str
    items: Floats
    tokens: Floats
    floor: Floats
    slots: Figure
    start: Figure
    walk: Callable[[Floats], Floats]

    def _bound(self, walk: Floats) -> Floats:
        total = np.minimum(walk, self.floor)
        total *= self.p[f"{self.kernel}_overlap"]
        total += np.maximum(walk, self.floor)
        return total

    def cut(self, parts: float | Floats) -> tuple[Floats, Floats]:
        """Latency without the launch, and the walk in it, of caches in so many parts."""
        walk = fixed_rounds(self.items, parts, self.slots)
        walk *= self.start + self.walk(self.tokens / parts)
        total = self._bound(walk)
        first, each = self.p[f"{self.kernel}_combine_s"], self.p.get(f"{self.kernel}_part_s", 0.0)
        if isinstance(parts, np.ndarray):
            total += np.where(parts > 1, first + each * parts, 0.0)
        elif parts > 1:
            total += first + each * parts
        return total, walk

    def split(self, split: str, batch: Floats, sms: Figure) -> Found:
        """The same for a way to split."""
        one = np.ones(len(self.items))
        if split == "equal":  # every slot the same number of tiles, whole blocks where heads end
            share = equal_share(self.items, np.ceil(self.tokens / TOKEN_TILE), self.slots)
            walk = np.ceil(self.items / self.slots) * self.start + self.walk(share * TOKEN_TILE)
            return self._bound(walk) + self.p[f"{self.kernel}_combine_s"], walk, one
        tried: Sequence[float | Floats] = PARTS if split == "fixed" else (1.0,)
        if split == "flash":
            tiles = np.ceil(self.tokens / TOKEN_TILE)
            tried = (flash_parts(self.items, tiles, self.slots),)
        elif split == "xqa":
            tried = (xqa_parts(self.items, self.tokens, batch, sms),)
        found, walk_of_best = self.cut(tried[0])
        chosen = one * tried[0]
        for parts in tried[1:]:
            total, walk = self.cut(parts)
            better = total < found
            if better.any():
                np.copyto(found, total, where=better)
                np.copyto(walk_of_best, walk, where=better)
                np.copyto(chosen, parts, where=better)
        return found, walk_of_best, chosen


def _single_queries(
    p: Mapping[str, float], sms: Figure, items: Floats, tokens: Floats, width: Floats,
    floor: Floats, split: str,
) -> Found:  # fmt: skip
    """The kernel without tensor units, one query head a block.

    Blocks of 256 threads share an SM with one other; where there are more than two an SM, blocks of
    64 threads run, eight an SM. TensorRT-LLM fills one wave with parts, each of a loop at least; it
    does not cut a cache of one or two loops.
    """
    loop = LOOP_ELEMENTS / width

    def further(length: Floats) -> Floats:
        return np.maximum(np.ceil(length / loop) - 1.0, 0.0) * p["head_loop_s"]

    def walk(length: Floats) -> Floats:
        steps = np.minimum(np.ceil(length / loop * LOOP_STEPS), LOOP_STEPS)
        return steps * p["head_step_s"] + further(length)

    many, few = (np.floor(sms * p[name]) for name in ("head_small_resident", "head_resident"))
    large = _Blocks(p, "head", items, tokens, floor, few, p["head_block_s"], walk)
    small = _Blocks(p, "head", items, tokens, floor, many, p["head_small_block_s"], further)
    if split == "equal":
        return large.split(split, items, sms)
    if split == "xqa":
        loops = np.ceil(tokens / loop)
        parts = np.where(loops > 2.0, np.clip(np.ceil(few / items), 1.0, loops), 1.0)
        found, walked = large.cut(parts)
    else:
        found, walked, parts = large.split(split, items, sms)
    whole, its_walk = small.cut(1.0)
    better = (whole < found) & ((parts == 1.0) | (split != "xqa"))
    return (
        np.where(better, whole, found),
        np.where(better, its_walk, walked),
        np.where(better, 1.0, parts),
    )


def _grouped(
    p: Mapping[str, float], kernel: str, sms: Figure, figures: Mapping[str, Floats], split: str
) -> Found:
    """The kernel on tensor units: one block for the query heads that share a cache."""
    row_bytes, rows = figures["row_bytes"], figures["rows"]
    tile = p.get(f"{kernel}_tile_s", 0.0) * row_bytes / 256.0
    tile = tile + p.get(f"{kernel}_row_s", 0.0) * rows
    start = p[f"{kernel}_block_s"] + p[f"{kernel}_query_s"] * figures["query"]
    resident: ArrayLike = p[f"{kernel}_resident"]
    if f"{kernel}_single_rows" in p:  # queries that leave room for one block in an SM
        single = figures["held"] > p[f"{kernel}_single_rows"]
        resident = np.where(single, 1.0, resident)
    blocks = _Blocks(
        p, kernel, figures["items"], figures["tokens"], figures["floor"],
        np.floor(sms * np.asarray(resident)), start,
        lambda length: np.ceil(length / TOKEN_TILE) * tile,
    )  # fmt: skip
    return blocks.split(split, figures["batch"], sms)


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
    rotary_dim: ArrayLike = 1.0,
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
            number FlashDecoding takes), ``xqa`` (what TensorRT-LLM takes), ``equal``
            (LeanAttention: all tiles dealt out evenly), ``none``.
        window: Tokens that are read at most.
        latent_value_dim: Multi-head latent attention with absorbed projections: the cache holds one
            row of ``head_dim`` (latent and rotary part) a token, of which the first so many are
            the value too (DeepSeek-V3: 576 and 512, one KV head). All heads share a row, so that
            the tensor units can become the bound.
        rotary_dim: Width that is rotated: beyond ``head_dim``, as benchmarks have it, kernels that
            rotate on the way cannot, and one of its own does.
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
    named = constants or constants_for(device)
    p = named.kernel("decode")
    fields = {"batch": batch, "context": context, "heads": heads, "kv_heads": kv_heads,
              "head_dim": head_dim, "rotary_dim": rotary_dim}  # fmt: skip
    device, (b, s, h, g, d, turned, w), shape = call_rows(device, fields, window)
    check_heads(h, g)
    size = element_bytes(kv_dtype)
    tokens, group = np.minimum(s, w), h / g
    shared = latent_value_dim is not None
    if latent_value_dim is not None and (latent_value_dim < 1 or (d < latent_value_dim).any()):
        raise InputError(
            "the value is part of the row", field="latent_value_dim", found=latent_value_dim
        )
    cache = (1.0 if shared else 2.0) * b * g * tokens * d * size
    missed = np.minimum(1.0, cache / (device.l2_bytes * p["l2_share"])) if resident else 1.0
    dram = cache * missed + 4.0 * b * h * d
    flops = 2.0 * b * h * tokens * (d + (d if latent_value_dim is None else latent_value_dim))
    kernel = "grouped8" if size < 2 and "grouped8_launch_s" in p else "grouped"
    if shared and "latent_launch_s" in p:
        kernel = "latent"

    def memory(name: str) -> Floats:
        return dram / (device.bandwidth_bytes_per_s * p[f"{name}_read_efficiency"])

    # kernels are compiled for widths, and tiles of query heads, that are powers of two
    padded = np.exp2(np.ceil(np.log2(d))) if p["padded_width"] else d
    rows = np.clip(np.exp2(np.ceil(np.log2(group))), 8.0, HEAD_TILE)
    figures = {
        "batch": b, "tokens": tokens, "items": b * g, "floor": memory(kernel),
        "row_bytes": padded * size, "rows": padded / 128.0 * rows, "held": rows * d,
        "query": d * (group + 8),
    }  # fmt: skip
    if latent_value_dim is not None:  # blocks of 64 query heads, one row read for key and value
        rate = device.peak("bf16") * named.kernel("prefill")["tensor_efficiency"]
        figures |= {
            "floor": np.maximum(memory(kernel), flops / rate),
            "items": b * g * np.ceil(group / HEAD_TILE), "row_bytes": d * size / 2.0,
            "rows": 0.0 * d, "held": 0.0 * d, "query": d * (np.minimum(group, HEAD_TILE) + 8),
        }  # fmt: skip
    latency, walk, parts = _grouped(p, kernel, device.sms, figures, split)
    latency = latency + p[f"{kernel}_launch_s"]
    latency = latency + np.where(turned > d, p.get(f"{kernel}_rotary_s", 0.0), 0.0)
    read = memory(kernel)
    if "head_launch_s" in p and not shared:  # the kernel without tensor units, one query head each
        rate = p["head_elements_per_cycle"] * device.sms * device.clock_hz
        floor = np.maximum(memory("head"), 2.0 * b * h * tokens * d / rate)
        other, other_walk, other_parts = _single_queries(
            p, device.sms, b * h, tokens, padded, floor, split
        )
        other = other + p["head_launch_s"]
        alone = (group > p["group_limit"]) | (group == 1)
        if split == "xqa":
            blocks = b * g * np.maximum(np.floor(tokens / SPLIT_TOKENS), 1.0)
            alone = alone | ((kernel == "grouped") & (blocks * XQA_BLOCKS < device.sms))
        else:
            alone = alone | (other < latency)
        latency = np.where(alone, other, latency)
        walk, parts = np.where(alone, other_walk, walk), np.where(alone, other_parts, parts)
        read = np.where(alone, memory("head"), read)
    if "regroup_s" in p and not shared:  # queries of a group are brought together and apart again
        latency = latency + np.where((b > 1) & (g > 1) & (group > 1), p["regroup_s"], 0.0)
    latency = latency + b * h * p["head_token_s"]
    energy = data_energy(device, ("bf16",), flops, dram, cache)
    return GpuCost.of_rows(
        shape, device, latency, energy, flops, dram,
        {"compute_s": walk, "memory_s": read,
         "launch_s": np.full(len(b), p[f"{kernel}_launch_s"])},
        {"split": parts},
    )  # fmt: skip
