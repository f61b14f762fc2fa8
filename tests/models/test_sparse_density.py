"""Density models and formats: exact beside enumeration of every placement and actual fibertrees."""

from __future__ import annotations

from itertools import combinations, product
from math import comb, prod

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from archsim.errors import InputError
from archsim.models.sparse.density import (
    ActualData,
    Banded,
    Blocks,
    FixedStructured,
    Hypergeometric,
    NofM,
)
from archsim.models.sparse.formats import (
    FORMATS,
    RankFormat,
    fibertree,
    occupancy,
    stored_bits,
)


def same(found, expected) -> None:
    """Two distributions are equal (entries of no weight aside)."""

    def table(pair):
        return {int(c): float(w) for c, w in zip(*pair, strict=True) if w > 1e-15}

    ours, theirs = table(found), table(expected)
    assert ours.keys() == theirs.keys()
    for count, weight in theirs.items():
        assert ours[count] == pytest.approx(weight, rel=1e-9)


def tally(counts):
    values, times = np.unique(np.array(counts), return_counts=True)
    return values, times / times.sum()


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 9), st.data())
def test_hypergeometric_is_every_placement(size, data):
    count = data.draw(st.integers(1, size))
    words = data.draw(st.integers(1, size))
    density = Hypergeometric(count / size, size)
    found = tally([sum(p < words for p in places) for places in combinations(range(size), count)])
    same(density.distribution((words,)), found)
    empty = float(found[1][found[0] == 0].sum())
    assert density.empty((words,)) == pytest.approx(empty, abs=1e-12)
    for width in (1, 2, 3):
        mean = float(-(-found[0] // width) @ found[1])
        assert density.blocks((words,), width) == pytest.approx(mean)
    assert density.occupancy((words,), 1.0) == found[0].max()


@settings(deadline=None, max_examples=25)
@given(st.integers(1, 4), st.integers(1, 3), st.integers(1, 2), st.data())
def test_n_of_m_is_every_placement(m, groups, lines, data):
    n = data.draw(st.integers(1, m))
    extent = m * groups
    length = data.draw(st.integers(1, extent))
    density = NofM(n, m, 1, extent)
    found, weights = [], []
    group = list(combinations(range(m), n))
    starts = range(0, extent, length)
    choices = [group] * (groups * lines)
    if len(group) ** len(choices) > 3000:
        return
    for picks in product(*choices):
        mask = np.zeros((lines, extent), int)
        for g, places in enumerate(picks):
            mask[g // groups, [(g % groups) * m + p for p in places]] = 1
        for start in starts:
            found.append(mask[:, start : start + length].sum())
            weights.append(1)
    same(density.distribution((lines, length)), tally(found))
    assert density.nonzeros((lines, length)) == pytest.approx(np.mean(found))
    assert density.occupancy((lines, length), 1.0) == max(found)
    empty = found.count(0) / len(found)
    assert density.empty((lines, length)) == pytest.approx(empty, abs=1e-12)


def test_many_lines_of_cut_groups_are_quick_and_consistent():
    density = NofM(2, 4, 1, 4096)
    shape = (300_001, 6)
    counts, weight = density.table(shape)
    assert len(counts) < 300_000
    assert weight.sum() == pytest.approx(1.0)
    assert float(counts @ weight) == pytest.approx(density.nonzeros(shape), rel=1e-6)
    assert density.occupancy(shape, 0.999) < density.occupancy(shape, 1.0)


@settings(deadline=None, max_examples=60)
@given(
    st.integers(1, 12), st.integers(1, 12), st.integers(0, 5), st.integers(1, 5), st.integers(1, 5)
)
def test_banded_is_the_matrix_it_describes(rows, columns, half, height, width):
    r, c = np.indices((rows, columns))
    data = ActualData(np.abs(r - c) <= half)
    density = Banded(rows, columns, half)
    tile = (min(height, rows), min(width, columns))
    assert density.average == pytest.approx(data.average)
    same(density.distribution(tile), data.distribution(tile))
    assert density.empty(tile) == pytest.approx(data.empty(tile), abs=1e-12)


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_blocks_are_every_placement(data):
    """Exact where tiles cut no block; mean and chance of nothing always."""
    draw = data.draw
    rows, columns, others = (draw(st.integers(1, n)) for n in (6, 6, 2))
    block = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    grid = [-(-extent // size) for extent, size in zip((rows, columns), block, strict=True)]
    places = others * prod(grid)
    count = draw(st.integers(1, places))
    tile = draw(st.integers(1, rows)), draw(st.integers(1, columns)), draw(st.integers(1, others))
    if comb(places, count) > 1500 or others % tile[2]:
        return
    density = Blocks(count / places, (rows, columns, others), block, (0, 1))
    masks = np.zeros((comb(places, count), others * prod(grid)), int)
    for mask, kept in zip(masks, combinations(range(places), count), strict=True):
        mask[list(kept)] = 1
    whole = masks.reshape(-1, *grid, others).repeat(block[0], 1).repeat(block[1], 2)
    counts = whole[:, :rows, :columns]
    for axis, (extent, length) in enumerate(zip((rows, columns, others), tile, strict=True)):
        counts = np.add.reduceat(counts, np.arange(0, extent, length), axis=axis + 1)
    found = tally(counts.ravel())
    assert density.average == pytest.approx(count / places)
    assert density.empty(tile) == pytest.approx((counts == 0).mean(), abs=1e-9)
    assert density.nonzeros(tile) == pytest.approx(counts.mean())
    assert density.occupancy(tile, 1.0) >= counts.max()
    ours = density.distribution(tile)
    assert ours[1].sum() == pytest.approx(1.0)
    assert float(ours[0] @ ours[1]) == pytest.approx(counts.mean())
    # Along each side tiles consist of whole blocks, or blocks of whole tiles.
    sides = zip(tile[:2], block, (rows, columns), strict=True)
    if all(t % b == 0 or (b % t == 0 and n % t == 0) for t, b, n in sides) and not (
        rows % block[0] or columns % block[1]
    ):
        same(ours, found)


def test_coarser_blocks_leave_more_tiles_empty():
    sizes = [(1, 1), (2, 2), (4, 4), (8, 8), (16, 16)]
    blocks = [Blocks(0.25, (64, 64), size, (0, 1)) for size in sizes]
    alone = Hypergeometric(0.25, 64 * 64)
    same(blocks[0].distribution((4, 8)), alone.distribution((4, 8)))
    chances = [density.empty((8, 8)) for density in blocks]
    assert chances == sorted(chances)
    assert chances[0] == pytest.approx(alone.empty((8, 8)))
    assert chances[-1] == chances[-2] == 0.75  # a tile is a block, or lies in one


@settings(deadline=None, max_examples=60)
@given(st.floats(0.01, 1.0), st.integers(1, 400))
def test_fixed_structured_keeps_its_share(average, size):
    density = FixedStructured(average)
    counts, weight = density.distribution((size,))
    assert weight.sum() == pytest.approx(1.0)
    assert density.nonzeros((size,)) == pytest.approx(size * average)
    assert counts.max() - counts.min() <= 1
    assert density.empty((size,)) == pytest.approx(weight[counts == 0].sum(), abs=1e-8)


@settings(deadline=None, max_examples=40)
@given(st.integers(2, 10**7), st.floats(0.001, 1.0), st.floats(0.0001, 1.0), st.integers(1, 64))
def test_large_tensors_stay_consistent(size, average, share, width):
    """Closed forms meet the bounds every distribution obeys, at sizes nobody enumerates."""
    density = Hypergeometric(average, size)
    words = max(1, int(size * share))
    mean = density.nonzeros((words,))
    blocks = density.blocks((words,), width)
    assert mean / width - 1e-6 * mean <= blocks <= mean / width + 1.0
    assert 0.0 <= density.empty((words,)) <= max(0.0, 1.0 - density.average) + 1e-12
    counts, weight = density.distribution((words,))
    assert weight.sum() == pytest.approx(1.0)
    assert float(counts @ weight) == pytest.approx(mean, rel=1e-6)
    assert density.occupancy((words,), 0.99) >= mean - 1.0


def encode(mask: np.ndarray, formats: list[str], limit: int) -> tuple[int, list[int]]:
    """Stored values and units of metadata a rank of an actual one-word-a-coordinate fibertree."""
    units = [0] * len(formats)

    def visit(part, rank: int) -> int:
        if rank == len(formats):
            return 1
        kids = list(part)
        filled = [bool(np.any(kid)) for kid in kids]
        if formats[rank] == "uop":
            units[rank] += len(kids) + 1
            shown = kids
        elif formats[rank] in ("b", "ub"):
            units[rank] += len(kids)
            shown = [k for k, f in zip(kids, filled, strict=True) if f or formats[rank] == "ub"]
        elif formats[rank] == "cp":
            shown = [k for k, f in zip(kids, filled, strict=True) if f]
            units[rank] += len(shown)
        else:
            shown, run = [], 0
            for kid, full in zip(kids, filled, strict=True):
                if full:
                    shown.append(kid)
                    shown += [np.zeros_like(kid)] * (run // limit)
                    run = 0
                else:
                    run += 1
            units[rank] += len(shown)
        return sum(visit(kid, rank + 1) for kid in shown)

    return visit(mask, 0), units


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 3), st.integers(1, 4), st.data())
def test_formats_are_the_mean_over_every_fibertree(rows, columns, data):
    """Outer ranks any format, the innermost any: expectation over every placement."""
    size = rows * columns
    count = data.draw(st.integers(1, size))
    kinds = [
        data.draw(st.sampled_from(["uop", "cp", "b", "ub"])),
        data.draw(st.sampled_from(FORMATS)),
    ]
    shape = (max(rows, 2), max(columns, 2))
    size, count = prod(shape), min(count, prod(shape))
    formats = [RankFormat(kind, 1.0) for kind in kinds]
    found = occupancy(formats, fibertree(shape, 2), Hypergeometric(count / size, size))
    values, units, times = 0.0, np.zeros(2), 0
    for places in combinations(range(size), count):
        mask = np.zeros(size, bool)
        mask[list(places)] = True
        stored, metadata = encode(mask.reshape(shape), kinds, limit=2)
        values, units, times = values + stored, units + metadata, times + 1
    assert found.values == pytest.approx(values / times)
    assert [r.coordinates + r.offsets for r in found.ranks] == pytest.approx(list(units / times))


def test_run_lengths_of_one_rank_count_inserted_zeros():
    size, count = 10, 2
    for bits in (1.0, 2.0):
        found = occupancy(
            [RankFormat("rle", bits)], fibertree((size,), 1), Hypergeometric(count / size, size)
        )
        stored = []
        for places in combinations(range(size), count):
            mask = np.zeros(size, bool)
            mask[list(places)] = True
            stored.append(encode(mask, ["rle"], limit=int(2**bits))[0])
        assert found.values == pytest.approx(np.mean(stored))


def test_default_widths_are_what_the_values_need():
    tree = fibertree((4, 8), 2)
    full = FixedStructured(1.0)
    found = occupancy([RankFormat("uop"), RankFormat("cp")], tree, full)
    # Offsets 0..32 take 6 bits, coordinates 0..7 take 3.
    assert [rank.bits for rank in found.ranks] == [5 * 6, 32 * 3]
    assert occupancy([RankFormat("b")], fibertree((4, 8), 1), full).metadata_bits == 32


def test_flattened_and_outer_ranks():
    assert fibertree((4, 1, 8, 2), 2) == [(4, 1, 8, 2), (1, 1, 8, 2), (1, 1, 1, 1)]
    assert fibertree((4, 8), 3) == [(4, 8), (4, 8), (1, 8), (1, 1)]
    assert fibertree((1, 1), 1) == [(1, 1), (1, 1)]


def test_room_grows_with_confidence_up_to_the_full_tile():
    formats, tree = [RankFormat("b")], fibertree((64,), 1)
    density = Hypergeometric(0.25, 4096)
    rooms = [stored_bits(formats, tree, density, 8.0, c) for c in (None, 0.9, 0.999, 1.0)]
    assert rooms == sorted(rooms)
    assert rooms[0] == pytest.approx(64 * 0.25 * 8 + 64)
    assert rooms[-1] == 64 * 8 + 64
    # Structure leaves nothing to chance.
    assert stored_bits(formats, tree, NofM(2, 4, 0, 64), 8.0, 1.0) == 32 * 8 + 64


@pytest.mark.parametrize(
    "make",
    [
        lambda: FixedStructured(0.0),
        lambda: Hypergeometric(1.5, 10),
        lambda: NofM(3, 2, 0, 4),
        lambda: NofM(2, 4, 0, 6),
        lambda: Banded(4, 4, -1),
        lambda: Blocks(0.5, (4, 4), (0, 2), (0, 1)),
        lambda: ActualData(np.zeros((2, 2))),
    ],
)
def test_nonsense_is_refused(make):
    with pytest.raises(InputError):
        make()
