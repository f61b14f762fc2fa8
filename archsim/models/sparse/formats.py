"""Compressed formats: what a tile holds of values and of metadata, rank by rank.

A tile is a fibertree (Sze et al., "Efficient Processing of Deep Neural Networks", 2020, chapter 8):
every rank splits the fibers of the rank outside it, and a format a rank says which coordinates of
a fiber are represented and what it costs to say so.

=========  ==========================================  =====================================
format     represents                                  metadata of a fiber
=========  ==========================================  =====================================
``uop``    every coordinate (uncompressed offsets)     extent + 1 offsets (payloads)
``cp``     the non-empty coordinates                   one coordinate each
``b``      the non-empty coordinates                   one bit a coordinate, empty or not
``ub``     every coordinate (uncompressed bitmask)     one bit a coordinate
``rle``    the non-empty coordinates, and a zero for   one run length each
           every run too long for its field
=========  ==========================================  =====================================
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, log2, prod
from typing import Literal

from archsim.models.sparse.density import Density, Shape

FormatKind = Literal["uop", "cp", "b", "ub", "rle"]
FORMATS: tuple[str, ...] = ("uop", "cp", "b", "ub", "rle")
COMPRESSING = frozenset({"cp", "b", "rle"})


@dataclass(frozen=True)
class RankFormat:
    """Format of one rank.

    Attributes:
        kind: One of ``FORMATS``.
        bits: Bits of one offset, coordinate, run length or mask bit; default: as many as the
            greatest value needs (a mask bit: 1).
    """

    kind: str
    bits: float | None = None


@dataclass(frozen=True)
class RankMetadata:
    """Expected metadata of one rank of a tile: coordinates (or mask bits, runs) and offsets."""

    coordinates: float
    offsets: float
    bits: float


@dataclass(frozen=True)
class Occupancy:
    """What a tile holds.

    Attributes:
        values: Expected words of data.
        ranks: Metadata, outer to inner.
    """

    values: float
    ranks: tuple[RankMetadata, ...]

    @property
    def metadata_bits(self) -> float:
        """Bits of metadata of all ranks."""
        return sum(rank.bits for rank in self.ranks)


def fibertree(shape: Shape, ranks: int) -> list[Shape]:
    """Split a tile into ranks by its own extents, outermost first.

    Each rank takes the next extent above 1; the innermost takes all that are left, flattened. Ranks
    beyond the extents there are lie outside, and split nothing.

    Args:
        shape: Extents of the tile.
        ranks: How many ranks its format has.

    Returns:
        ranks + 1 shapes: the tile, what one coordinate of each rank holds; the last is one word.
    """
    splits = [axis for axis, extent in enumerate(shape) if extent > 1]
    levels, rest = [tuple(shape)], list(shape)
    outside = max(0, ranks - len(splits))
    levels += [tuple(shape)] * outside
    for i in range(ranks - outside):
        last = outside + i == ranks - 1
        for axis in splits[i:] if last else splits[i : i + 1]:
            rest[axis] = 1
        levels.append(tuple(rest))
    return levels


def occupancy(
    formats: Sequence[RankFormat], levels: Sequence[Shape], density: Density
) -> Occupancy:
    """Expected values and metadata of a tile.

    Args:
        formats: One a rank, outer to inner; none: uncompressed, without metadata.
        levels: Shapes of :func:`fibertree`.
        density: Of the tensor.
    """
    key = (tuple(formats), tuple(levels))
    return density.remembered(key, lambda: _occupancy(*key, density))


def _occupancy(
    formats: tuple[RankFormat, ...], levels: tuple[Shape, ...], density: Density
) -> Occupancy:
    fibers, ranks = 1.0, []
    for i, rank in enumerate(formats):
        outer, inner = prod(levels[i]), prod(levels[i + 1])
        extent = outer // inner
        coordinates, offsets = fibers * extent, 0.0
        filled = _filled(formats[: i + 1], levels[: i + 2], density, coordinates)
        bits, represented = rank.bits, coordinates
        if rank.kind == "uop":
            offsets, coordinates = fibers * (extent + 1), 0.0
            bits = _width(outer + 1) if bits is None else bits
        elif rank.kind in ("b", "ub"):
            bits = 1.0 if bits is None else bits
        elif rank.kind == "cp":
            coordinates = filled
            bits = _width(extent) if bits is None else bits
        else:
            bits = _width(extent) if bits is None else bits
            everywhere = prod(levels[0]) // outer
            coordinates = filled + everywhere * _padding(levels[i], levels[i + 1], bits, density)
        if rank.kind in ("cp", "b"):
            represented = filled
        elif rank.kind == "rle":
            represented = coordinates
        ranks.append(RankMetadata(coordinates, offsets, bits * (coordinates + offsets)))
        fibers = represented
    return Occupancy(fibers * prod(levels[len(formats)]), tuple(ranks))


def _filled(formats, levels, density: Density, coordinates: float) -> float:
    """Non-empty coordinates of the innermost of some ranks, among those represented so far."""
    size = prod(levels[0]) // prod(levels[-1])
    return min(coordinates, size * (1.0 - density.empty(levels[-1])))


def _width(values: int) -> float:
    """Bits that tell so many values apart; one value needs none."""
    return float(ceil(log2(values))) if values > 1 else 0.0


def _padding(outer: Shape, inner: Shape, bits: float, density: Density) -> float:
    """Zeros put into a fiber for runs of empty coordinates too long for their field.

    Places are exchangeable. A field of r bits counts 2**r - 1 empty coordinates; an inserted zero
    consumes one more. A run of z before a non-empty coordinate needs floor(z / 2**r) of them, so
    their expected number is the sum over j of the places with j * 2**r empty coordinates before a
    non-empty one.
    """
    extent, reach = prod(outer) // prod(inner), int(2 ** min(bits, 60))
    axis = next((a for a, (n, m) in enumerate(zip(outer, inner, strict=True)) if n != m), None)
    total = 0.0
    if axis is None:
        return 0.0

    def all_empty(length: int) -> float:
        shape = list(inner)
        if outer[axis] // inner[axis] >= length:
            shape[axis] = inner[axis] * length
        else:  # a flattened rank: as many words, whatever their box
            shape = list(outer)
            shape[axis] = 1
            shape[axis] = max(1, round(prod(inner) * length / prod(shape)))
        return density.empty(tuple(shape))

    for run in range(reach, extent, reach):
        chance = all_empty(run)
        if chance < 1e-12:
            break
        total += (extent - run) * max(0.0, chance - all_empty(run + 1))
    return total


def stored_bits(
    formats: Sequence[RankFormat],
    levels: Sequence[Shape],
    density: Density,
    word_bits: float,
    confidence: float | None,
) -> float:
    """Bits a tile needs in a storage.

    Args:
        formats, levels, density: As for :func:`occupancy`.
        word_bits: Bits of one value.
        confidence: Room that suffices for the tile with this probability (1: always); None for
            the expected one. Metadata that counts non-zeros grows with them.

    Returns:
        Bits, never more than the fully dense tile in that format takes.
    """
    words = prod(levels[0])
    if not formats:
        return words * word_bits
    mean = occupancy(formats, levels, density)
    bits = mean.values * word_bits + mean.metadata_bits
    if confidence is None or formats[-1].kind not in COMPRESSING:
        return bits
    dense = occupancy(formats, levels, _FULL)
    most = dense.values * word_bits + dense.metadata_bits
    expected = density.nonzeros(levels[0])
    held = density.occupancy(levels[0], confidence)
    if words <= expected:
        return bits
    # Between the expected tile and the full one, in proportion to the non-zeros.
    share = (held - expected) / (words - expected)
    return bits + (most - bits) * share


class _Full(Density):
    """No zeros at all."""

    average = 1.0

    def distribution(self, shape):
        import numpy as np

        return np.array([prod(shape)]), np.ones(1)

    def empty(self, shape):
        return 0.0

    def remembered(self, key, make):
        return make()  # it is shared by all, and lives as long as the program


_FULL = _Full()
