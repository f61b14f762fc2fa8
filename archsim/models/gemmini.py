"""How long Gemmini's RTL takes for a tiled layer: loop instructions, DMA, cache and array.

A Gemmini program is a nest of loops on the CPU around one *loop instruction*, which moves a tile of
the input and of the weights in, multiplies them, and (on the last step of the reduction) moves the
outputs out. Nothing is kept between tiles but partial sums, which stay in the accumulator. Hardware
overlaps the instruction's four parts with each other and with the next tile's, so a tile takes
about as long as its slowest part:

* *issue*: the CPU prepares and sends the instruction's operands (seven RoCC commands for a
  convolution, six for a matrix product), and the unroller issues one move per block;
* *load*: every row of a block is one DMA request of at most 64 bytes; requests that miss the L2
  cache wait for DRAM;
* *execute*: a weight block is preloaded while the previous one multiplies; a block of outputs takes
  as many cycles as it has rows, at least 4, and as many as the array has rows where the weights
  are new;
* *store*: every output row of a block is one DMA request.

Sources of the structure: Gemmini (Genc et al., DAC 2021; https://github.com/ucb-bar/gemmini,
``ExecuteController.scala`` for the row counts, ``LoopConv.scala`` and ``LoopMatmul.scala`` for the
order of moves), and the library that the measured programs use
(https://github.com/ucb-bar/gemmini-rocc-tests, branch of the DOSA artifact, ``include/gemmini.h``).
The constants are calibrated: see :data:`CALIBRATED`.

Example:
    A 3x3 convolution of 64 to 64 channels over 56x56 outputs on a 16x16 array, one output row of
    all channels a tile, loops over rows outermost.

    >>> import numpy as np
    >>> layer = np.array([[1, 64, 64, 56, 56, 3, 3]], float)
    >>> tile = np.array([[1, 64, 64, 56, 1, 3, 3]], float)
    >>> program = GemminiPrograms(
    ...     layer, np.ones(1), tile, np.array([[4, 0, 1, 2, 3, 5, 6]]), np.full(1, 16.0),
    ...     np.zeros(1, bool))
    >>> found = cycles(program)
    >>> int(found.tiles[0]), str(found.bound[0])
    (56, 'execute')
"""

from __future__ import annotations

from dataclasses import astuple, dataclass

import numpy as np

from archsim.errors import InputError
from archsim.models.gemmini_programs import (
    C,
    GemminiPrograms,
    K,
    N,
    P,
    Q,
    R,
    S,
    programs_from_mappings,
    programs_from_points,
)

__all__ = [
    "CALIBRATED",
    "GemminiConstants",
    "GemminiCycles",
    "GemminiPrograms",
    "calibrate",
    "cycles",
    "programs_from_mappings",
    "programs_from_points",
    "tile_work",
]

#: Bytes of the longest DMA request, of a cache line (gemmini ``Configs.scala``: dma_maxbytes).
REQUEST_BYTES = LINE_BYTES = 64.0
#: The L2 cache of the measured system-on-chip (Chipyard's default inclusive cache: 512 KB, 8 ways).
CACHE_BYTES, CACHE_WAYS = 524288.0, 8.0
PAGE_BYTES = 4096.0
#: Rows a block of outputs takes at least (``ExecuteController.scala``: two writes of one
#: accumulator address lie at least four cycles apart).
LEAST_ROWS = 4.0
#: Where a tile lies wholly in the padding, its count of rows or columns goes below zero and the
#: unroller's 16-bit counter runs through all its values.
WRAPPED = 65536.0


@dataclass(frozen=True)
class GemminiConstants:
    """What the structure leaves open; every one is a property of the chip or its memory system.

    Attributes:
        issue_conv, issue_matmul: Cycles of the CPU for one loop instruction (tile) and its share of
            the loop nest around it.
        request: Cycles of the DMA engine for one request, whatever its size.
        bytes_per_cycle: Bytes that come from the L2 cache in a cycle (the bus is 16 wide).
        transfer: Cycles of one cache line to or from DRAM.
        page: Further cycles of a request in another page than the one before (TLB).
        store: Cycles of one output row on its way through scaling to memory.
        conflict: Cycles the array waits for each scratchpad row that the DMA engine writes
            meanwhile (they share the scratchpad's banks).
        overlap: Exponent of the norm that joins the four parts: large is perfect overlap.
        lead: Share of a tile's load (and store) that nothing covers when the tile is the first (the
            last).
        start: Cycles before the first tile and after the last (configuration, fence).
    """

    issue_conv: float
    issue_matmul: float
    request: float
    bytes_per_cycle: float
    transfer: float
    page: float
    store: float
    conflict: float
    overlap: float
    lead: float
    start: float


@dataclass(frozen=True, eq=False)
class GemminiCycles:
    """Cycles of M programs.

    Attributes:
        cycles: float64[M] in all.
        tiles: float64[M] loop instructions.
        issue, load, execute, store: float64[M] cycles of one tile's parts, averaged over tiles.
    """

    cycles: np.ndarray
    tiles: np.ndarray
    issue: np.ndarray
    load: np.ndarray
    execute: np.ndarray
    store: np.ndarray

    @property
    def bound(self) -> np.ndarray:
        """str[M], the longest part."""
        parts = np.stack([self.issue, self.load, self.execute, self.store])
        return np.array(["issue", "load", "execute", "store"])[parts.argmax(axis=0)]


@dataclass(frozen=True, eq=False)
class TileWork:
    """What does not depend on the constants, float64[M] each; a tile where nothing else is said.

    Attributes:
        tiles, reductions: Loop instructions; of them, those that share one output tile.
        requests, request_bytes: DMA requests in, and the bytes they carry.
        rows, fills: Rows fed into the array; scratchpad rows written by the loads.
        stores: Output rows, when the reduction ends.
        pages: Requests that meet another page than the one before.
        fetched: Cache lines from DRAM for a tile's loads; ``written``, to and from it for its
            stores, averaged over all tiles.
        wrapped: Requests of tiles that lie wholly in the padding, all tiles together.
    """

    tiles: np.ndarray
    reductions: np.ndarray
    requests: np.ndarray
    request_bytes: np.ndarray
    rows: np.ndarray
    fills: np.ndarray
    stores: np.ndarray
    pages: np.ndarray
    fetched: np.ndarray
    written: np.ndarray
    wrapped: np.ndarray


def tile_work(programs: GemminiPrograms) -> TileWork:
    """Count a tile's moves, requests, rows and cache lines.

    Raises:
        InputError: Something is not positive.
    """
    e, a = programs.extents, programs.array
    if not (e >= 1).all() or not (programs.tiles >= 1).all() or not (a >= 1).all():
        raise InputError("extents, tiles and arrays must be positive")
    bounds = np.ceil(e / programs.tiles)
    t = e / bounds  # the mean tile: the last one of a dimension may be smaller
    stride = programs.stride
    columns, rows = _window(t[:, P], t[:, R], stride), _window(t[:, Q], t[:, S], stride)
    pixels, taps = t[:, N] * columns * rows, t[:, R] * t[:, S]
    deep, wide = np.ceil(t[:, C] / a), np.ceil(t[:, K] / a)
    chunks, wide_chunks = (np.ceil(t[:, d] / REQUEST_BYTES) for d in (C, K))
    outputs = t[:, N] * t[:, P] * t[:, Q]
    strips = np.where(
        programs.matmul, np.ceil(outputs / a), t[:, N] * t[:, Q] * np.ceil(t[:, P] / a)
    )
    strip_rows = outputs / strips
    weights = wide * taps * deep
    fed = np.maximum(a, strip_rows) + np.maximum(strips - 1, 0) * np.maximum(strip_rows, LEAST_ROWS)
    misses = _misses(*_lines(programs, bounds)) / bounds.prod(axis=1)[:, None]
    return TileWork(
        tiles=bounds.prod(axis=1),
        reductions=bounds[:, [C, R, S]].prod(axis=1),
        requests=pixels * chunks + taps * t[:, C] * wide_chunks,
        request_bytes=pixels * t[:, C] + taps * t[:, C] * t[:, K],
        pages=t[:, N] * rows * _pages(columns, e[:, C], e[:, P] * stride * e[:, C])
        + taps * _pages(t[:, C], e[:, K], e[:, C] * e[:, K]),
        fetched=misses[:, 0] + misses[:, 1],
        # A line written in part is fetched before and written back after.
        written=2 * misses[:, 2],
        rows=weights * fed,
        fills=pixels * deep + taps * t[:, C] * wide,
        stores=outputs * wide,
        wrapped=_wrapped(programs, rows, columns, chunks),
    )


def _window(outputs, taps, stride):
    """Input positions under a run of outputs, as the hardware counts them."""
    return outputs * stride + taps - 1


def _lines(programs: GemminiPrograms, bounds: np.ndarray):
    """What every loop's body touches, innermost first.

    Returns:
        Lines of input, weights and outputs float64[8, M, 3] (the last row: all loops), the share
        of them that is gone from the cache when the body starts again float64[8, M, 3], and the
        loops' bounds float64[7, M, 3] (1 for outputs where the loop sums up: they are stored once).
    """
    e, size = programs.extents, programs.extents / bounds
    m = np.arange(len(programs))
    lines, gone, ordered = [], [], []
    for level in range(8):
        columns = _window(size[:, P], size[:, R], programs.stride)
        rows = _window(size[:, Q], size[:, S], programs.stride)
        share = {d: _line_share(size[:, d], e[:, d]) for d in (C, K)}
        inputs = size[:, N] * columns * rows * share[C]
        weights = size[:, R] * size[:, S] * size[:, C] * share[K]
        outputs = size[:, N] * size[:, P] * size[:, Q] * share[K]
        touched = np.stack([inputs, weights, outputs], axis=1)
        lines.append(touched)
        full = touched.sum(axis=1) * LINE_BYTES / CACHE_BYTES
        gone.append(
            np.stack(
                [
                    _gone(np.maximum(full, touched[:, i] / _reach(size[:, d], e[:, d])))
                    for i, d in enumerate((C, K, K))
                ],
                axis=1,
            )
        )
        if level == 7:
            break
        d = programs.order[:, 6 - level]
        sums = np.isin(d, (C, R, S))
        bound = bounds[m, d]
        ordered.append(np.stack([bound, bound, np.where(sums, 1.0, bound)], axis=1))
        size[m, d] = e[m, d]
    return np.stack(lines), np.stack(gone), np.stack(ordered)


def _gone(load):
    """Share of lines replaced before they are met again, by touched lines over capacity.

    The cache replaces at random, so that the share grows around a load of 1 and does not jump.
    """
    return load**4 / (1 + load**4)


def _misses(lines: np.ndarray, gone: np.ndarray, bounds: np.ndarray) -> np.ndarray:
    """float64[M, 3] lines of input, weights and outputs brought from DRAM by a whole program.

    From the innermost loop outwards: what a loop touches again stays in the cache as far as all its
    body touches fits there, else it comes again with every iteration.
    """
    missed = lines[0]
    for level, bound in enumerate(bounds):
        again = missed * bound
        once = np.minimum(lines[level + 1], again)
        missed = once + (again - once) * gone[level]
    # The programs were timed after a run of the same data: what fits as a whole is there.
    return missed * gone[7]


def _pages(rows, row, image):
    """Pages met by ``rows`` rows of ``row`` bytes; the next such run begins ``image`` bytes on."""
    return np.maximum(rows * np.minimum(1, row / PAGE_BYTES), np.minimum(1, image / PAGE_BYTES))


def _line_share(chunk, row):
    """Lines per run of ``chunk`` bytes in rows of ``row`` bytes that lie one behind the other."""
    return np.where(
        row <= LINE_BYTES, row / LINE_BYTES, np.ceil(np.minimum(chunk, row) / LINE_BYTES)
    )


def _reach(chunk, row):
    """Lines the cache can hold of runs of ``chunk`` bytes, one in every ``row`` bytes.

    A row of a power of two of lines meets few of the cache's sets.
    """
    sets = CACHE_BYTES / LINE_BYTES / CACHE_WAYS
    step = np.where(row % LINE_BYTES == 0, row / LINE_BYTES, 1).astype(np.int64)
    met = sets / np.gcd(step, int(sets)) * _line_share(chunk, row)
    return CACHE_WAYS * np.minimum(sets, np.maximum(met, 1.0))


def _wrapped(programs: GemminiPrograms, rows, columns, chunks):
    """Requests of tiles without a row, or column, of their own (see :data:`WRAPPED`)."""
    e, t, stride = programs.extents, programs.tiles, programs.stride
    found = np.zeros(len(programs))
    # Only a kernel that is itself tiled has such tiles.
    split = ~programs.matmul & ((t[:, R] < e[:, R]) | (t[:, S] < e[:, S]))
    for i in np.flatnonzero(split):
        hollow = []
        for o, k in ((Q, S), (P, R)):
            outer, taps = np.meshgrid(
                np.arange(0, e[i, o], t[i, o]), np.arange(0, e[i, k], t[i, k]), indexing="ij"
            )
            pad = e[i, k] // 2
            first = outer * stride[i] + taps - pad
            count = _window(
                np.minimum(t[i, o], e[i, o] - outer), np.minimum(t[i, k], e[i, k] - taps), stride[i]
            )
            # The library sizes the image by its stride; an even kernel's further output row reads
            # padding.
            image = stride[i] * (e[i, o] - 1 + (e[i, k] % 2))
            outside = np.maximum(0, -first) + np.maximum(0, first + count - image)
            hollow.append(float((count < outside).mean()))
        tiles = np.ceil(e[i] / t[i]).prod()
        found[i] = tiles * WRAPPED * chunks[i] * (hollow[0] * columns[i] + hollow[1] * rows[i])
    return found


def cycles(
    programs: GemminiPrograms,
    constants: GemminiConstants | None = None,
    work: TileWork | None = None,
) -> GemminiCycles:
    """Cycles of the RTL.

    Args:
        programs: M tiled layers.
        constants: Default: :data:`CALIBRATED`.
        work: From :func:`tile_work`, when it is used again.

    Raises:
        InputError: See :func:`tile_work`.
    """
    c = constants or CALIBRATED
    w = work or tile_work(programs)
    issue = np.where(programs.matmul, c.issue_matmul, c.issue_conv)
    load = c.request * w.requests + w.request_bytes / c.bytes_per_cycle + c.page * w.pages
    execute = w.rows + c.conflict * w.fills
    store = c.store * w.stores / w.reductions
    load += c.transfer * w.fetched
    store += c.transfer * w.written
    parts = np.stack([issue, load, execute, store])
    longest = parts.max(axis=0)
    tile = longest * ((parts / longest) ** c.overlap).sum(axis=0) ** (1 / c.overlap)
    fill = c.lead * (load + store * w.reductions)
    total = w.tiles * tile + fill + c.start + c.request * w.wrapped
    return GemminiCycles(total, w.tiles, issue, load, execute, store)


def calibrate(
    programs: GemminiPrograms,
    measured: np.ndarray,
    weights: np.ndarray | None = None,
    work: TileWork | None = None,
) -> GemminiConstants:
    """Fit the constants to measured cycles.

    Minimises the soft absolute logarithm of the ratio (``scipy.optimize.least_squares``, residuals
    beyond a tenth count linearly), from :data:`START`; the constants stay positive.

    Args:
        programs: M tiled layers.
        measured: float64[M] cycles.
        weights: float64[M], how much each counts; default: all alike.
        work: From :func:`tile_work`, when it is used again.
    """
    from scipy.optimize import least_squares

    work = work or tile_work(programs)
    root = np.sqrt(np.ones(len(measured)) if weights is None else weights)

    def residuals(logs: np.ndarray) -> np.ndarray:
        found = cycles(programs, GemminiConstants(*np.exp(logs)), work).cycles
        return root * np.log(found / measured)

    start = np.log(astuple(START))
    # Two decades either way, so that a constant that the data do not hold stays finite.
    fitted = least_squares(
        residuals, start, bounds=(start - 4.6, start + 4.6), loss="soft_l1", f_scale=0.1
    )
    return GemminiConstants(*(float(f"{value:.4g}") for value in np.exp(fitted.x)))


#: Where calibration starts: sizes that suit the data sheets of such a chip.
START = GemminiConstants(250.0, 125.0, 1.0, 16.0, 8.0, 4.0, 8.0, 0.2, 5.0, 0.3, 800.0)
#: Fitted by :func:`calibrate` to the 911 FireSim runs of the DOSA data set (111 mappings found by
#: DOSA on 16 x 16 arrays, 800 random ones on arrays of 4 to 64 rows; both files with the same total
#: weight). Held out by layer shape, 5 folds: median error 9.0 % and rank correlation 0.996 over all
#: rows (9.0 % and 0.989 on the first file, 9.0 % and 0.995 on the second). ``archsim validate rtl``
#: fits them again, prints them with their range over the folds, and compares them with these.
CALIBRATED = GemminiConstants(
    issue_conv=270.4,
    issue_matmul=128.5,
    request=1.12,
    bytes_per_cycle=12.03,
    transfer=6.425,
    page=5.551,
    store=4.998,
    conflict=0.2515,
    overlap=9.752,
    lead=0.5225,
    start=813.9,
)
