"""A mixture-of-experts layer on a GPU: grouped products over unevenly loaded experts.

Every expert multiplies its own tokens: ``ceil(tokens / tile_m)`` blocks of rows an expert, however
few tokens it has, and only experts with tokens read their weights. One kernel goes from expert to
expert, so that an expert takes the longer of its arithmetic and of reading its weights and tokens,
and the share ``overlap`` of the shorter: a few full experts that multiply do not hide the reading
of many empty ones. A tile's time is its steps, each bound by the tensor units or by loading the
operands from L2, and ``tile_s`` to start and store; the last tile of a product stands alone with
the share ``tail``. No product is faster than its waves of steps.

Around both products (gate and up together, then down) rows are permuted, activated and combined:
of the pairs that arrive here, and once more for each token; pairs are sorted by expert.

The tile is the cheapest of a list where a library was tuned for the shape. Triton kernels without
a tuned configuration (vLLM) take 16 x 32 while there are no more tokens than experts, else 64 x 64.
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
Found = tuple[Floats, Floats, Floats]
#: Bytes of the reduction dimension in one step of a tile.
STEP_BYTES = 128.0
#: Tiles tried where kernels are tuned, and those of Triton's defaults (few, many tokens).
TUNED_TILES = ((16, 128), (32, 128), (64, 128), (128, 128))
DEFAULT_TILES = ((16, 32), (64, 64))
ROW_TILES = (16, 32, 64, 128)
#: Columns of the loads of a group of experts: their number, tokens, and blocks by row tile.
EXPERTS, TOKENS, BLOCKS = 0, 1, 2
#: Bounds of the loads that are put together where many draws are averaged.
BINS = 2.0 ** np.arange(18)


def expert_loads(
    tokens: int,
    experts: int,
    top_k: int,
    *,
    skew: float = 0.0,
    groups: int = 1,
    by_group: bool = True,
    draws: int = 1,
    rng: np.random.Generator | None = None,
) -> Floats:
    """Tokens of every expert of the fullest group.

    Args:
        tokens: Routed.
        experts: All of them.
        top_k: Experts a token goes to.
        skew: Exponent of the power law that popularities follow; 0: all alike.
        groups: Devices the experts are spread over.
        by_group: What rounding leaves over is dealt to the groups in turn, else to all experts.
        draws: Samples of the popularities.
        rng: For the samples; default one seeded with 0.

    Returns:
        float64[draws, experts / groups]; rows of one draw where ``skew`` is 0.

    Raises:
        InputError: The experts do not divide among the groups, or more are chosen than there are.

    Example:
        >>> expert_loads(6, 4, 2).tolist()
        [[3.0, 3.0, 3.0, 3.0]]
    """
    if experts % groups or not 1 <= top_k <= experts:
        raise InputError(
            "experts must divide among groups and top_k be at most their number",
            found=(experts, groups, top_k),
        )
    target = tokens * top_k
    if skew == 0.0:
        counts = np.full((1, experts), float(target // experts))
        counts[
            0,
            np.round(np.arange(target % experts) * experts / max(target % experts, 1)).astype(int),
        ] += 1
    else:
        rng = rng or np.random.default_rng(0)
        low, high = (1.0, 0.8 * tokens) if target > experts else (0.01, 2.0)
        b = 1.0 - skew if skew != 1.0 else 1e-9
        uniform = rng.random((draws, experts))
        popularity = ((high**b - low**b) * uniform + low**b) ** (1 / b)
        counts = np.round(popularity / popularity.sum(1, keepdims=True) * target)
        counts = np.minimum(counts, tokens)
        for row in counts:
            _adjust(row.reshape(groups if by_group else 1, -1), target, tokens)
    grouped = counts.reshape(len(counts), groups, experts // groups)
    return grouped[np.arange(len(counts)), grouped.sum(2).argmax(1)]


def _adjust(parts: Floats, target: float, most: float) -> None:
    """Make float64[parts, experts] add up: one more for the smallest, one less for the largest.

    The parts take turns; those that are full (or empty) are passed over. ``target`` is at most
    ``most`` times the experts, so that some part can always move.
    """
    while missing := int(target - parts.sum()):
        sign = 1 if missing > 0 else -1
        movable = parts < most if sign > 0 else parts > 0
        able = np.flatnonzero(movable.any(1))
        share = np.zeros(len(parts), dtype=np.int64)
        share[able] = abs(missing) // len(able) + (np.arange(len(able)) < abs(missing) % len(able))
        order = np.argsort(np.where(movable, sign * parts, np.inf), axis=1, kind="stable")
        rank = np.argsort(order, axis=1)
        parts += sign * (movable & (rank < share[:, None]))


def load_figures(expert_tokens: ArrayLike) -> dict[str, Floats]:
    """What the cost needs of the loads float64[..., experts]: totals, and the loads themselves."""
    loads = np.asarray(expert_tokens, float)
    if loads.ndim < 1 or (loads.size and not (np.isfinite(loads).all() and loads.min() >= 0)):
        raise InputError("tokens of experts must be finite and not negative", field="expert_tokens")
    columns = [(loads > 0).astype(float), loads, *(np.ceil(loads / tile) for tile in ROW_TILES)]
    return {
        "total": loads.sum(-1),
        "active": (loads > 0).sum(-1).astype(float),
        "experts": np.full(loads.shape[:-1], float(loads.shape[-1])),
        "loads": np.stack(columns, axis=-1),
    }


def mean_figures(draws: Floats) -> dict[str, Floats]:
    """Figures of the mean of draws float64[draws, experts], loads of one power of two together."""
    figures = load_figures(draws)
    flat = figures["loads"].reshape(-1, figures["loads"].shape[-1])
    flat = flat[flat[:, EXPERTS] > 0]
    place = np.digitize(flat[:, TOKENS], BINS) - 1
    figures["loads"] = np.stack(
        [np.bincount(place, weights=column, minlength=len(BINS)) for column in flat.T], axis=-1
    ) / len(draws)  # fmt: skip
    return figures | {name: figures[name].mean() for name in ("total", "active", "experts")}


def equal_figures(total: Floats, active: Floats, experts: Floats) -> dict[str, Floats]:
    """Figures where ``active`` of the experts share ``total`` tokens evenly; float64[rows] each."""
    each = total / active
    columns = [active, total, *(active * np.ceil(each / tile) for tile in ROW_TILES)]
    loads = np.stack(np.broadcast_arrays(*columns), axis=-1)[..., None, :]
    return {"total": total, "active": active, "experts": experts, "loads": loads}


def _transfers(
    p: Mapping[str, float], device: GpuDevice, wide: float, figures: Mapping[str, Floats],
    gates: float,
) -> list[tuple[Floats, Floats, Floats]]:  # fmt: skip
    """Columns, reduction and seconds of reading by group of experts of both grouped products."""
    hidden, inner, loads = figures["hidden"], figures["intermediate"], figures["loads"]
    bandwidth = device.bandwidth_bytes_per_s * p["read_efficiency"]
    found = []
    for n, k in ((gates * inner, hidden), (hidden, inner)):
        read = loads[..., EXPERTS] * (n * k * figures["stored"] / bandwidth)[:, None]
        read += loads[..., TOKENS] * ((k * wide + n * 2.0) / bandwidth)[:, None]
        found.append((n, k, read))
    return found


def _products(
    p: Mapping[str, float], device: GpuDevice, rate: Figure, wide: float, loads: Floats,
    transfers: Sequence[tuple[Floats, Floats, Floats]], tile: tuple[int, int], efficiency: float,
    slower: Figure = 1.0,
) -> Found:  # fmt: skip
    """Latency, computing and memory time of both grouped products with one tile.

    ``slower`` lengthens every step.
    """
    sms = device.sms
    high, wide_tile = tile
    blocks = loads[..., BLOCKS + ROW_TILES.index(high)]
    count = blocks.sum(-1)
    latency, compute, memory = (np.zeros(len(loads)) for _ in range(3))
    width = STEP_BYTES / wide
    step = slower * np.maximum(
        2.0 * high * wide_tile * width * sms / (rate * efficiency),
        (high + wide_tile) * STEP_BYTES / (p["l2_bytes_per_cycle"] * device.clock_hz),
    )
    for n, k, read in transfers:
        columns, steps = np.ceil(n / wide_tile), np.ceil(k / width)
        one = steps * step + p["tile_s"]
        c = blocks * (columns * one / sms)[:, None]
        by_expert = np.minimum(c, read)
        by_expert *= p["overlap"]
        by_expert += np.maximum(c, read)
        waves = np.ceil(count * columns / (sms * p["resident"]))
        latency += np.maximum(by_expert.sum(-1), waves * steps * p["k_step_s"]) + p["tail"] * one
        compute += c.sum(-1)
        memory += read.sum(-1)
    return latency, compute, memory


def evaluate_moe(
    device: GpuDevice,
    expert_tokens: ArrayLike | Mapping[str, Floats],
    hidden: ArrayLike,
    intermediate: ArrayLike,
    dtype: str = "bf16",
    *,
    routed: ArrayLike | None = None,
    chosen: ArrayLike | None = None,
    tokens: ArrayLike | None = None,
    gated: bool = True,
    block_scaled: bool = False,
    weight_bytes: ArrayLike | None = None,
    tuned: ArrayLike = True,
    constants: GpuConstants | None = None,
) -> GpuCost:
    """Latency and energy of one layer of experts on one device, routing included.

    Args:
        device: The GPU.
        expert_tokens: Tokens of each expert held here, float[..., experts]; ``load_figures`` of
            it is accepted too.
        hidden: Width of the model.
        intermediate: Width of one expert on this device.
        dtype: Number format of the products.
        routed: Token-expert pairs permuted; default those that arrive here.
        chosen: Token-expert pairs sorted by expert, of all devices where each one sorts them all;
            default those permuted.
        tokens: Tokens that results are added up for; default the pairs.
        gated: Two products before the activation.
        block_scaled: fp8 with one scale a 128 x 128 block.
        weight_bytes: Bytes of one weight where stored narrower than ``dtype``.
        tuned: The library has a tile chosen for these shapes.
        constants: Calibrated constants; default those of the device's generation.

    Raises:
        InputError: A load is negative or not finite, or a number format unknown.

    Example:
        >>> from archsim.models.gpu import gpu_device
        >>> cost = evaluate_moe(gpu_device("h100"), expert_loads(64, 8, 2), 4096, 14336)
        >>> 0.8 < float(cost.latency_s[0]) * 1e3 < 1.2
        True
    """
    if dtype not in DTYPE_BYTES:
        raise InputError("unknown number format", found=dtype, expected=", ".join(DTYPE_BYTES))
    wide = DTYPE_BYTES[dtype]
    named = constants or constants_for(device)
    kernel = "moe" if wide >= 2 else "moe_8bit_block" if block_scaled else "moe_8bit"
    p = dict(named.kernels[kernel] if kernel in named.kernels else named.kernel("moe"))
    loads = expert_tokens if isinstance(expert_tokens, Mapping) else load_figures(expert_tokens)
    arguments: dict[str, ArrayLike] = {
        **loads, "hidden": hidden, "intermediate": intermediate, "tuned": tuned,
        "stored": wide if weight_bytes is None else weight_bytes,
        "pairs": loads["total"] if routed is None else routed,
    }  # fmt: skip
    arguments["added"] = arguments["pairs"] if tokens is None else tokens
    arguments["chosen"] = arguments["pairs"] if chosen is None else chosen
    each = np.asarray(arguments.pop("loads"), float)
    shape = np.broadcast_shapes(
        device.shape, each.shape[:-2], *(np.shape(v) for v in arguments.values())
    )
    device = device.rows(shape)
    figures = {
        name: np.broadcast_to(np.asarray(v, float), shape).reshape(-1)
        for name, v in arguments.items()
    }
    figures["loads"] = np.broadcast_to(each, (*shape, *each.shape[-2:])).reshape(
        -1, *each.shape[-2:]
    )
    h, i, pairs, added = (figures[x] for x in ("hidden", "intermediate", "pairs", "added"))
    for name in ("hidden", "intermediate"):
        value = figures[name]
        if value.size and not (value.min() >= 1 and np.isfinite(value).all()):
            raise InputError("a size is not positive", field=name, found=float(value.min()))
    total, gates = figures["total"], 2.0 if gated else 1.0
    transfers = _transfers(p, device, wide, figures, gates)
    common = (p, device, device.peak(dtype), wide, figures["loads"], transfers)
    latency, compute, memory = _quickest(
        [_products(*common, tile, p["tensor_efficiency"]) for tile in TUNED_TILES]
    )
    if "default_efficiency" in p:
        # rows that are gathered from device memory rather than L2 lengthen steps of few stages
        gathered = 1.0 - np.minimum(1.0, device.l2_bytes / (added * h * wide))
        slower = 1.0 + p["gather_share"] * gathered
        few, many = (
            _products(*common, tile, p["default_efficiency"], slower) for tile in DEFAULT_TILES
        )
        is_few, is_tuned = added <= figures["experts"], figures["tuned"] > 0
        latency, compute, memory = (
            np.where(is_tuned, own, np.where(is_few, a, b))
            for own, a, b in zip((latency, compute, memory), few, many, strict=True)
        )
    # rows in and out of the first product, its activation, rows of the second; then the sums
    permuted = pairs * (h * 2.0 * 3.0 + i * 2.0 * (gates + 1.0)) + added * h * 2.0
    around = permuted / (device.bandwidth_bytes_per_s * p["move_efficiency"])
    around = around + figures["experts"] * p["expert_s"] + added * p["token_s"]
    around = around + figures["chosen"] * p["route_s"]
    flops = 2.0 * total * h * i * (gates + 1.0)
    dram = figures["active"] * h * i * (gates + 1.0) * figures["stored"] + permuted
    joules = data_energy(device, (dtype,), flops, dram, 2.0 * dram)
    return GpuCost.of_rows(
        shape, device, p["launch_s"] + latency + around, joules, flops, dram,
        {"compute_s": compute, "memory_s": memory, "permute_s": around,
         "launch_s": np.full(latency.shape, p["launch_s"])},
    )  # fmt: skip


def _quickest(tried: Sequence[Found]) -> Found:
    """Of every row the quickest of several."""
    latency, compute, memory = tried[0]
    for other in tried[1:]:
        better = other[0] < latency
        for best, its in zip((latency, compute, memory), other, strict=True):
            np.copyto(best, its, where=better)
    return latency, compute, memory
