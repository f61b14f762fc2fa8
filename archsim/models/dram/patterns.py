"""Traces made from patterns, from the tiles of a layer, and from a decoding language model."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from archsim.errors import InputError
from archsim.models.dram.spec import DramSpec
from archsim.models.dram.trace import Trace

PATTERNS = ("stream", "random", "mixed", "strided", "cloud", "phases")
#: Requests of a phase of the pattern ``phases``, as in ArchGym's traces cloud-1 and cloud-2.
PHASE = 50


def pattern(
    kind: str,
    requests: int,
    spec: DramSpec,
    *,
    seed: int = 0,
    gap: int = 1,
    write_share: float | None = None,
) -> Trace:
    """A trace of a known kind.

    Args:
        kind: ``stream`` (consecutive bursts), ``random`` (uniform over the memory), ``mixed``
            (random, a third writes), ``strided`` (one burst a row, rows in sequence), ``cloud``
            (runs of consecutive bursts at random places, as servers make them: the number of runs
            to their length follows a geometric law of mean 4) or ``phases`` (phases of
            :data:`PHASE` requests, each by the toss of a coin the next bursts of one stream or
            random ones: so are ArchGym's traces cloud-1 and cloud-2 made, as their addresses show).
        requests: Number of requests.
        spec: The memory; a request is one of its bursts.
        seed: Of the random numbers; the same seed gives the same trace.
        gap: Cycles between arrivals.
        write_share: Share of writes; by default a third for ``mixed`` and none for the others.

    Raises:
        InputError: An unknown kind or a bad number.

    Example:
        >>> from archsim.models.dram.spec import load_spec
        >>> pattern("stream", 3, load_spec("ddr3_1600_1gb_x8")).address.tolist()
        [0, 64, 128]
    """
    if kind not in PATTERNS:
        raise InputError("no such pattern", found=kind, expected=", ".join(PATTERNS))
    if requests < 1 or gap < 0:
        raise InputError("a trace needs requests, and no negative gap", found=(requests, gap))
    share = (1 / 3 if kind == "mixed" else 0.0) if write_share is None else write_share
    if not 0.0 <= share <= 1.0:
        raise InputError("must be a share", field="write_share", found=write_share)
    random = np.random.default_rng(seed)
    burst = spec.structure.burst_bytes
    blocks = spec.structure.capacity_bytes // burst
    order = np.arange(requests, dtype=np.int64)
    if kind == "stream":
        block = order % blocks
    elif kind == "strided":
        block = order * (spec.structure.columns // spec.structure.burst_length) % blocks
    elif kind == "cloud":
        lengths = random.geometric(0.25, requests)
        starts = np.concatenate([[0], np.cumsum(lengths)])
        run = np.searchsorted(starts, order, side="right") - 1
        block = (random.integers(0, blocks, requests)[run] + order - starts[run]) % blocks
    elif kind == "phases":
        streams = (random.random(-(-requests // PHASE)) < 0.5).repeat(PHASE)[:requests]
        anywhere = random.integers(0, blocks, requests)
        block = np.where(streams, (np.cumsum(streams) - 1) % blocks, anywhere)
    else:
        block = random.integers(0, blocks, requests)
    write = (random.random(requests) < share).astype(np.int8)
    return Trace(order * gap, write, block * burst, f"{kind}")


def tile_traffic(
    tiles: Sequence[tuple[str, int, int, int, int]],
    spec: DramSpec,
    *,
    gap: int = 0,
    name: str = "tiles",
) -> Trace:
    """Requests of a layer that is computed tile by tile.

    Args:
        tiles: For every transfer, in order: ``read`` or ``write``, byte address of its first row,
            bytes of a row, number of rows, and bytes from one row to the next.
        spec: The memory; transfers are cut into its bursts, partial ones counting as whole.
        gap: Cycles between arrivals; 0 offers requests as fast as they are taken.
        name: Of the trace.

    Raises:
        InputError: No transfer, or a transfer of a wrong shape.

    Example:
        >>> from archsim.models.dram.spec import load_spec
        >>> spec = load_spec("ddr3_1600_1gb_x8")
        >>> tile_traffic([("read", 0, 128, 2, 1024)], spec).address.tolist()
        [0, 64, 1024, 1088]
    """
    burst = spec.structure.burst_bytes
    addresses, writes = [], []
    for k, (direction, first, row_bytes, rows, pitch) in enumerate(tiles):
        if direction not in ("read", "write") or min(first, pitch) < 0 or min(row_bytes, rows) < 1:
            raise InputError(
                "not a transfer",
                source=name,
                field=f"tile {k}",
                found=(direction, first, row_bytes, rows, pitch),
                expected="read or write, address, bytes of a row, rows, bytes between rows",
            )
        starts = first + np.arange(rows, dtype=np.int64) * pitch
        low, high = starts // burst, (starts + row_bytes - 1) // burst
        counts = high - low + 1
        within = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        addresses.append((np.repeat(low, counts) + within) * burst)
        writes.append(np.full(counts.sum(), direction == "write", np.int8))
    if not addresses:
        raise InputError("no transfers", source=name)
    address = np.concatenate(addresses)
    return Trace(np.arange(address.size) * gap, np.concatenate(writes), address, name)


def matmul_tiles(
    rows: int, inner: int, columns: int, tile: tuple[int, int, int], element_bytes: int = 1
) -> list[tuple[str, int, int, int, int]]:
    """Transfers of a matrix product computed in tiles that keep the output (output stationary).

    The matrices lie one behind another, row by row: ``rows x inner``, ``inner x columns`` and the
    result ``rows x columns``. For every output tile the two input tiles of each step are read, and
    the output tile is written once.

    Args:
        rows, inner, columns: Shape of the product.
        tile: Extents of a tile along the three; edge tiles are smaller.
        element_bytes: Bytes of an element.

    Raises:
        InputError: A number that is not positive.

    Example:
        >>> len(matmul_tiles(4, 4, 4, (2, 2, 2)))
        20
    """
    if min(rows, inner, columns, *tile, element_bytes) < 1:
        raise InputError("shapes and tiles must be positive", found=(rows, inner, columns, tile))
    m, k, n = tile
    e = element_bytes
    second = rows * inner * e
    third = second + inner * columns * e
    out = []
    for i in range(0, rows, m):
        for j in range(0, columns, n):
            high, wide = min(m, rows - i), min(n, columns - j)
            for step in range(0, inner, k):
                deep = min(k, inner - step)
                out.append(("read", (i * inner + step) * e, deep * e, high, inner * e))
                at = second + (step * columns + j) * e
                out.append(("read", at, wide * e, deep, columns * e))
            out.append(("write", third + (i * columns + j) * e, wide * e, high, columns * e))
    return out


def decode_step(
    spec: DramSpec,
    *,
    weight_bytes: int,
    heads: int,
    head_bytes: int,
    context: int,
    gap: int = 0,
) -> Trace:
    """One layer of a language model that decodes one token, as memory traffic.

    The weights stream in; then, head by head, the keys and the values of the context are read and
    the new key and value are written behind them.

    Args:
        spec: The memory.
        weight_bytes: Bytes of the layer's weights.
        heads: Heads of keys and values.
        head_bytes: Bytes of the key (or value) of one token in one head.
        context: Tokens so far.
        gap: Cycles between arrivals.

    Raises:
        InputError: A number that is not positive, or more than the memory holds.
    """
    if min(weight_bytes, heads, head_bytes, context) < 1:
        raise InputError("sizes must be positive", found=(weight_bytes, heads, head_bytes, context))
    room = (context + 1) * head_bytes
    end = weight_bytes + 2 * heads * room
    if end > spec.structure.capacity_bytes:
        raise InputError(
            "weights and cache are larger than the memory",
            source=spec.name,
            found=end,
            expected=f"<= {spec.structure.capacity_bytes} bytes",
        )
    tiles = [("read", 0, weight_bytes, 1, 0)]
    for block in range(2 * heads):
        first = weight_bytes + block * room
        tiles.append(("read", first, context * head_bytes, 1, 0))
        tiles.append(("write", first + context * head_bytes, head_bytes, 1, 0))
    return tile_traffic(tiles, spec, gap=gap, name="decode step")
