"""LeanAttention: waves and gains (arXiv 2405.10480)."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from archsim.validate.papers.row import EXACT, Row
from archsim.workload import load_model

NARROW = (
    "one SM of an A100 reads about 1.3 times its share of the memory's bandwidth (the calibrated "
    "kernel: a tile of 32 KB in 1.4 us), so that idle SMs in a last wave cost less than waves say; "
    "the paper's shapes are not known"
)


def dealt_rounds(items: int, parts: int, slots: int) -> int:
    """Rounds of blocks dealt out one by one, each to the slot with the fewest."""
    import heapq

    heap = [0] * slots
    for _ in range(items * parts):
        heapq.heapreplace(heap, heap[0] + 1)
    return max(heap)


def rows() -> Iterator[Row]:
    """Waves by the closed forms beside tiles dealt out; the gain at 256k tokens."""
    from archsim.models.gpu import evaluate_decode, gpu_device
    from archsim.models.gpu.attention import equal_share, fixed_rounds, flash_parts

    device, paper = gpu_device("a100"), "LeanAttention"
    tile = 128  # a LeanTile at a head of 128
    for name, batch, context, parts in (
        ("llama-2-7b", 1, 8192, 4), ("gpt-3-175b", 2, 2048, 2), ("llama-2-13b", 4, 65536, 3),
    ):  # fmt: skip
        heads = load_model(name).architecture.layers[0].mixer.kv_heads  # type: ignore[union-attr]
        items, tiles = batch * heads, -(-context // tile)
        shape = f"{name}, batch {batch}, {context} tokens, {device.sms} SMs"
        for said, closed, blocks in (
            (f"waves, fixed split of {parts}", fixed_rounds(items, parts, device.sms), parts),
            ("tiles of the fullest SM, equal split", equal_share(items, tiles, device.sms), tiles),
        ):
            dealt = dealt_rounds(items, blocks, int(device.sms))
            figure = f"{said}, formula and dealt out: {shape}"
            yield Row(paper, figure, float(closed), dealt, "", EXACT)
    heads, context = np.arange(1.0, 129.0), 262144
    cut = flash_parts(heads, context / tile, device.sms)
    waves = fixed_rounds(heads, cut, device.sms) * np.ceil(context / tile / cut)
    alone = waves / equal_share(heads, context / tile, device.sms)
    times = [
        evaluate_decode(device, 1, context, heads, heads, 128, split=split).latency_s
        for split in ("flash", "equal")
    ]
    for said, gain in (("waves alone", alone), ("kernel model", times[0] / times[1])):
        figure = f"most over FlashDecoding at 256k tokens, 1 to 128 heads of 128: {said}"
        yield Row(paper, figure, 2.18, float(gain.max()), "x", cause=NARROW)


#: What is not computed, and why.
NOT_COMPUTED = (
    (
        "LeanAttention: 1.73x on average",
        "the shapes of the average are not known",
    ),
)
