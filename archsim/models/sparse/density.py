"""Where the non-zeros of a tensor are: how many a tile holds, and how often it holds none.

A tile is a box of the tensor, given by its extents, one a rank. The figures are expectations over
the random positions of the non-zeros, and over the aligned positions of the tile where the pattern
is not the same everywhere. Models follow Sparseloop (Wu et al., MICRO 2022, section 5.2); N:M is
NVIDIA's structured sparsity (Mishra et al., "Accelerating Sparse Deep Neural Networks", 2021).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable
from math import ceil, comb, prod
from typing import TypeVar

import numpy as np

from archsim.errors import InputError

#: Beyond so many standard deviations a count has no weight (hypergeometric tails are thinner).
TAIL = 12.0
Shape = tuple[int, ...]
T = TypeVar("T")


class Density(ABC):
    """Distribution of the non-zeros of a tensor.

    Attributes:
        average: Fraction of non-zeros, in (0, 1].
    """

    average: float

    @abstractmethod
    def distribution(self, shape: Shape) -> tuple[np.ndarray, np.ndarray]:
        """Non-zeros in a tile of that shape: counts int64[K] and their probabilities."""

    def table(self, shape: Shape) -> tuple[np.ndarray, np.ndarray]:
        """The distribution, counts ascending."""

        def make() -> tuple[np.ndarray, np.ndarray]:
            counts, weight = self.distribution(tuple(int(n) for n in shape))
            rank = np.argsort(counts)
            return counts[rank], weight[rank]

        return self.remembered(shape, make)

    def remembered(self, key: Hashable, make: Callable[[], T]) -> T:
        """What was made for a key before, or is now; forgotten with this object."""
        memory = self.__dict__.setdefault("_memory", {})
        if key not in memory:
            memory[key] = make()
        return memory[key]

    def empty(self, shape: Shape) -> float:
        """Probability that a tile holds no non-zero."""
        counts, weight = self.table(shape)
        return float(weight[counts == 0].sum())

    def nonzeros(self, shape: Shape) -> float:
        """Expected non-zeros of a tile."""
        counts, weight = self.table(shape)
        return float(counts @ weight)

    def blocks(self, shape: Shape, width: int) -> float:
        """Expected number of blocks of ``width`` words that a tile's non-zeros fill."""
        counts, weight = self.table(shape)
        return float(-(-counts // width) @ weight)

    def occupancy(self, shape: Shape, confidence: float) -> int:
        """Non-zeros that a tile does not exceed with at least that probability."""
        counts, weight = self.table(shape)
        if confidence >= 1.0:
            return int(counts[-1])
        return int(counts[np.searchsorted(np.cumsum(weight), confidence - 1e-12)])


def _checked(value: float) -> float:
    if not 0.0 < value <= 1.0:
        raise InputError("density must lie in (0, 1]", found=value)
    return float(value)


class FixedStructured(Density):
    """Every tile holds the same share; where that is no whole number, the two next to it.

    Args:
        average: Fraction of non-zeros.
    """

    def __init__(self, average: float) -> None:
        self.average = _checked(average)

    def distribution(self, shape: Shape) -> tuple[np.ndarray, np.ndarray]:
        share = prod(shape) * self.average
        low = int(np.floor(share + 1e-9))
        more = max(0.0, share - low)
        if more < 1e-9:
            return np.array([low]), np.ones(1)
        return np.array([low, low + 1]), np.array([1.0 - more, more])

    def empty(self, shape: Shape) -> float:
        """As in the base class, without the table."""
        return max(0.0, 1.0 - prod(shape) * self.average)


class Hypergeometric(Density):
    """A fixed number of non-zeros anywhere in the tensor, every placement equally likely.

    Args:
        average: Fraction of non-zeros; their number is rounded up.
        size: Words of the tensor.
    """

    def __init__(self, average: float, size: int) -> None:
        self.size = int(size)
        self.count = min(self.size, ceil(_checked(average) * self.size - 1e-9))
        self.average = self.count / self.size

    def empty(self, shape: Shape) -> float:
        """Probability that no non-zero is among the tile's words."""
        words = min(prod(shape), self.size)
        if words + self.count > self.size:
            return 0.0
        fewer, other = sorted((words, self.count))
        if fewer <= 4096:
            rest = self.size - np.arange(fewer, dtype=np.float64)
            return float(np.exp(np.log1p(-other / rest).sum()))
        return float(np.exp(self._log_weight(words, np.zeros(1))[0]))

    def nonzeros(self, shape: Shape) -> float:
        """Expected non-zeros: the tile's share."""
        return min(prod(shape), self.size) * self.average

    def occupancy(self, shape: Shape, confidence: float) -> int:
        """As in the base class; certainty is the tile full, or all there are in it."""
        if confidence >= 1.0:
            return min(prod(shape), self.count)
        return super().occupancy(shape, confidence)

    def blocks(self, shape: Shape, width: int) -> float:
        """Expected blocks; where the count is spread over many blocks, its residue is uniform."""
        if width == 1:
            return self.nonzeros(shape)
        words = min(prod(shape), self.size)
        if self._deviation(words) > 4.0 * width:
            return (self.nonzeros(shape) + 0.5 * (width - 1)) / width
        return super().blocks(shape, width)

    def _deviation(self, words: int) -> float:
        if self.size == 1:
            return 0.0
        left = (self.size - words) / (self.size - 1)
        return float(np.sqrt(words * self.average * (1.0 - self.average) * left))

    def _log_weight(self, words: int, counts: np.ndarray) -> np.ndarray:
        from scipy.special import gammaln  # here: importing it takes longer than all the rest

        def choose(n, k):
            return gammaln(n + 1.0) - gammaln(k + 1.0) - gammaln(n - k + 1.0)

        zeros = self.size - self.count
        pairs = choose(float(self.count), counts) + choose(float(zeros), words - counts)
        return pairs - choose(float(self.size), float(words))

    def distribution(self, shape: Shape) -> tuple[np.ndarray, np.ndarray]:
        words = min(prod(shape), self.size)
        low, high = max(0, words + self.count - self.size), min(words, self.count)
        spread = TAIL * self._deviation(words) + 2.0
        mean = words * self.average
        first = max(low, int(mean - spread))
        counts = np.arange(first, min(high, int(mean + spread) + 1) + 1)
        weight = np.exp(self._log_weight(words, counts.astype(np.float64)))
        return counts, weight / weight.sum()


class NofM(Density):
    """N non-zeros in every M consecutive words along one rank, in random places.

    Args:
        n: Non-zeros of a group; ``m``: words of a group.
        axis: Rank the groups lie along.
        extent: Extent of that rank in the tensor, a multiple of ``m``.
    """

    def __init__(self, n: int, m: int, axis: int, extent: int) -> None:
        if not 1 <= n <= m:
            raise InputError("N of N:M must lie in 1..M", found=f"{n}:{m}")
        if extent % m:
            raise InputError(f"the rank that {n}:{m} lies along must be a multiple", found=extent)
        self.n, self.m, self.axis, self.extent = n, m, axis, extent
        self.average = n / m

    def _overlaps(self, length: int) -> dict[tuple[int, int], int]:
        """How a tile cuts groups: (whole groups, words of cut ones) -> positions, as a count."""
        found: dict[tuple, int] = {}
        for start in range(0, self.extent, length):
            stop = min(start + length, self.extent)
            cuts = []
            first, last = start // self.m, (stop - 1) // self.m
            for group in {first, last}:
                words = min(stop, (group + 1) * self.m) - max(start, group * self.m)
                if words < self.m:
                    cuts.append(words)
            key = (last - first + 1 - len(cuts), *sorted(cuts))
            found[key] = found.get(key, 0) + 1
        return found

    def _cut(self, words: int) -> np.ndarray:
        """Probabilities of 0, 1 ... non-zeros among some words of one group."""
        total = comb(self.m, self.n)
        counts = range(min(words, self.n) + 1)
        return np.array([comb(words, c) * comb(self.m - words, self.n - c) / total for c in counts])

    def empty(self, shape: Shape) -> float:
        """Probability that all the tile cuts from groups is zero (whole groups never are)."""
        length = min(shape[self.axis], self.extent)
        lines = prod(shape) // shape[self.axis]
        overlaps = self._overlaps(length)
        total = 0.0
        for (whole, *cuts), times in overlaps.items():
            if not whole:
                total += times * prod(float(self._cut(words)[0]) for words in cuts) ** lines
        return total / sum(overlaps.values())

    def nonzeros(self, shape: Shape) -> float:
        """Expected non-zeros; the last tile along the groups may be cut by the tensor."""
        length = min(shape[self.axis], self.extent)
        lines = prod(shape) // shape[self.axis]
        return lines * self.extent * self.average / -(-self.extent // length)

    def occupancy(self, shape: Shape, confidence: float) -> int:
        """As in the base class; certainty is every cut group as full as it can be."""
        if confidence < 1.0:
            return super().occupancy(shape, confidence)
        lines = prod(shape) // shape[self.axis]
        return lines * max(
            whole * self.n + sum(min(words, self.n) for words in cuts)
            for whole, *cuts in self._overlaps(min(shape[self.axis], self.extent))
        )

    def distribution(self, shape: Shape) -> tuple[np.ndarray, np.ndarray]:
        length = min(shape[self.axis], self.extent)
        lines = prod(shape) // shape[self.axis]
        overlaps = self._overlaps(length)
        weight: dict[int, float] = {}
        for (whole, *cuts), times in overlaps.items():
            one = np.ones(1)
            for words in cuts:
                one = np.convolve(one, self._cut(words))
            chances = _sum_of(one, lines)
            base = whole * self.n * lines
            for extra, chance in zip(*chances, strict=True):
                count = base + int(extra)
                weight[count] = weight.get(count, 0.0) + chance * times
        counts = np.array(sorted(weight))
        return counts, np.array([weight[c] for c in counts]) / sum(overlaps.values())


def _sum_of(one: np.ndarray, times: int) -> tuple[np.ndarray, np.ndarray]:
    """Distribution of a sum of independent equal counts, by repeated squaring, tails cut."""
    total, first = np.ones(1), 0
    power, offset = one, 0
    while times:
        if times & 1:
            total, first = _trim(_convolved(total, power), first + offset)
        times >>= 1
        if times:
            power, offset = _trim(_convolved(power, power), 2 * offset)
    return first + np.arange(len(total)), total


def _convolved(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    if min(len(a), len(b)) < 256:
        return np.convolve(a, b)
    from scipy.signal import fftconvolve

    return np.maximum(fftconvolve(a, b), 0.0)


def _trim(weight: np.ndarray, first: int) -> tuple[np.ndarray, int]:
    kept = np.flatnonzero(weight > 1e-18)
    return weight[kept[0] : kept[-1] + 1], first + int(kept[0])


class Banded(Density):
    """A matrix with non-zeros on a band around its diagonal.

    Args:
        rows, columns: Extents of the matrix.
        half_width: Word (r, c) is non-zero where abs(r - c) <= half_width.
        axes: Ranks of the tensor that are the rows and the columns; the others have extent 1.
    """

    def __init__(
        self, rows: int, columns: int, half_width: int, axes: tuple[int, int] = (-2, -1)
    ) -> None:
        if half_width < 0:
            raise InputError("the half-width of a band must not be negative", found=half_width)
        self.rows, self.columns, self.half_width, self.axes = rows, columns, half_width, axes
        self.average = self._band(np.arange(rows)).sum() / (rows * columns)
        if self.average == 0.0:
            raise InputError("the band misses the matrix", found=(rows, columns, half_width))

    def _band(self, row: np.ndarray, first: int = 0, last: int | None = None) -> np.ndarray:
        last = self.columns - 1 if last is None else last
        low = np.maximum(row - self.half_width, first)
        high = np.minimum(row + self.half_width, last)
        return np.maximum(high - low + 1, 0)

    def _matrix(self, shape: Shape) -> tuple[int, int]:
        """Rows and columns of a tile."""
        height, width = shape[self.axes[0]], shape[self.axes[1]]
        if prod(shape) != height * width:
            raise InputError("a band needs a matrix", found=shape)
        return min(height, self.rows), min(width, self.columns)

    def empty(self, shape: Shape) -> float:
        """Share of the aligned tiles that the band misses."""
        height, width = self._matrix(shape)
        start = np.arange(0, self.rows, height)
        stop = np.minimum(start + height, self.rows) - 1
        low = np.maximum(start - self.half_width, 0)
        high = np.minimum(stop + self.half_width, self.columns - 1)
        met = np.where(low <= high, high // width - low // width + 1, 0).sum()
        return 1.0 - met / (len(start) * -(-self.columns // width))

    def distribution(self, shape: Shape) -> tuple[np.ndarray, np.ndarray]:
        height, width = self._matrix(shape)
        found: dict[int, int] = {0: 0}
        per_row = -(-self.columns // width)
        for start in range(0, self.rows, height):
            lines = np.arange(start, min(start + height, self.rows))
            low, high = lines[0] - self.half_width, lines[-1] + self.half_width
            tiles = range(max(0, low) // width, min(self.columns - 1, high) // width + 1)
            met = 0
            for tile in tiles if low < self.columns else ():
                words = int(self._band(lines, tile * width, (tile + 1) * width - 1).sum())
                # The last tile of a row is cut by the matrix.
                if (tile + 1) * width > self.columns:
                    words = int(self._band(lines, tile * width).sum())
                found[words] = found.get(words, 0) + 1
                met += 1
            found[0] += per_row - met
        counts = np.array(sorted(c for c in found if found[c] or c))
        weight = np.array([found[c] for c in counts], np.float64)
        return counts, weight / weight.sum()


class Blocks(Density):
    """Whole blocks of a matrix are zero, any of them; as many are kept in all as the density says.

    A tile that cuts blocks gets its expected non-zeros and its probability of none exactly; between
    them, the words of each block it meets count as equal. Ranks that are neither rows nor columns
    repeat the matrix, each with blocks of its own.

    Args:
        average: Fraction of blocks kept; their number is rounded up.
        shape: Extents of the tensor.
        block: Rows and columns of a block; the last of a line may be cut by the tensor.
        axes: Ranks of the tensor that are the rows and the columns.
    """

    def __init__(
        self, average: float, shape: Shape, block: tuple[int, int], axes: tuple[int, int]
    ) -> None:
        if min(block) < 1:
            raise InputError("a block must have words", found=block)
        self.shape, self.block, self.axes = shape, block, axes
        grid = [-(-shape[axis] // size) for axis, size in zip(axes, block, strict=True)]
        others = prod(shape) // (shape[axes[0]] * shape[axes[1]])
        self.kept = Hypergeometric(average, prod(grid) * others)
        self.average = self.kept.average

    def _met(self, shape: Shape) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Blocks and words of the aligned tiles, and the share of tiles that have as many."""

        def make():
            blocks, words, share = np.ones(1, np.int64), np.ones(1, np.int64), np.ones(1)
            for axis, size in zip(self.axes, self.block, strict=True):
                extent = self.shape[axis]
                length = min(shape[axis], extent)
                start = np.arange(0, extent, length)
                stop = np.minimum(start + length, extent)
                pairs = np.stack([(stop - 1) // size - start // size + 1, stop - start])
                (found, held), times = np.unique(pairs, axis=1, return_counts=True)
                blocks = np.multiply.outer(blocks, found).ravel()
                words = np.multiply.outer(words, held).ravel()
                share = np.multiply.outer(share, times / times.sum()).ravel()
            others = prod(shape) // (shape[self.axes[0]] * shape[self.axes[1]])
            return blocks * others, words * others, share

        return self.remembered(("met", *shape), make)

    def empty(self, shape: Shape) -> float:
        """Probability that none of the blocks the tile meets is kept."""
        blocks, _, share = self._met(shape)
        return float(
            sum(s * self.kept.empty((int(n),)) for n, s in zip(blocks, share, strict=True))
        )

    def nonzeros(self, shape: Shape) -> float:
        """Expected non-zeros: the tile's share."""
        _, words, share = self._met(shape)
        return float(words @ share) * self.average

    def occupancy(self, shape: Shape, confidence: float) -> int:
        """As in the base class; certainty is all kept blocks in one tile, or that full."""
        if confidence < 1.0:
            return super().occupancy(shape, confidence)
        _, words, _ = self._met(shape)
        return min(int(words.max()), self.kept.count * prod(self.block))

    def distribution(self, shape: Shape) -> tuple[np.ndarray, np.ndarray]:
        weight: dict[int, float] = {}
        for blocks, words, share in zip(*self._met(shape), strict=True):
            kept, chance = self.kept.distribution((int(blocks),))
            mean = kept * (words / blocks)
            low = np.floor(mean + 1e-9).astype(np.int64)
            more = np.clip(mean - low, 0.0, None)
            for counts, part in ((low, 1.0 - more), (low + 1, more)):
                for count, weighed in zip(counts, chance * part * share, strict=True):
                    if weighed > 0.0:
                        weight[int(count)] = weight.get(int(count), 0.0) + weighed
        counts = np.array(sorted(weight))
        return counts, np.array([weight[c] for c in counts])


class ActualData(Density):
    """The tensor itself: figures are averages over the aligned tiles of its mask.

    Args:
        values: Any array; what is not zero counts.
    """

    def __init__(self, values: np.ndarray) -> None:
        self.mask = np.asarray(values) != 0
        self.average = _checked(float(self.mask.mean()))

    def distribution(self, shape: Shape) -> tuple[np.ndarray, np.ndarray]:
        if len(shape) != self.mask.ndim:
            raise InputError("the tile has another rank than the data", found=shape)
        sums = self.mask.astype(np.int64)
        for axis, extent in enumerate(shape):
            sums = np.add.reduceat(sums, np.arange(0, sums.shape[axis], extent), axis=axis)
        counts, times = np.unique(sums, return_counts=True)
        return counts, times / times.sum()
