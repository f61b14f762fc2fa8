"""Row-stationary passes: the closed form equals a walk over passes, elements and words."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from archsim.errors import InputError
from archsim.hardware import load_machine
from archsim.models.row_stationary import (
    ConvShape,
    RowStationaryArray,
    RowStationaryMapping,
    conv_shape,
    evaluate_row_stationary,
    row_stationary_array,
)
from archsim.workload.graph import conv2d_einsum, matmul_einsum

ARRAY = RowStationaryArray(12, 14, 12, 224, 24, 51200, 4, 0, 200e6)


def chain_cycles(length, outputs, work, pace):
    """Last moment of a chain: an element starts an output when the one before has finished it.

    The first element waits for the words of its sums as well: an output takes it ``pace`` cycles.
    """
    finished = np.zeros(outputs)
    for element in range(length):
        now = 0.0
        for f in range(outputs):
            now = max(now, finished[f]) + (max(work, pace) if element == 0 else work)
            finished[f] = now
    return finished[-1]


def walk(shape, mapping, array):
    """Cycles, and words of inputs and partial sums and filters, pass after pass."""
    s, m = shape, mapping
    passes = cycles = inputs = sums = filters = 0
    work = m.p * m.q * s.filter_width
    for image in range(0, s.batch, m.n):
        images = min(m.n, s.batch - image)
        for row in range(0, s.height, m.e):
            outputs = range(row, min(row + m.e, s.height))
            rows = {y * s.stride + k for y in outputs for k in range(s.filter_height)}
            reach = {x * s.stride + k for x in range(s.width) for k in range(s.filter_width)}
            width = max(reach) + 1
            for _ in range(s.groups):
                for first in range(0, s.filters, m.p * m.t):
                    planes = min(m.p * m.t, s.filters - first)
                    for channel in range(0, s.channels, m.q * m.r):
                        channels = min(m.q * m.r, s.channels - channel)
                        passes += 1
                        span = range(min(rows), max(rows) + 1)
                        inputs += images * channels * len(span) * width
                        moved = images * planes * len(outputs) * s.width
                        sums += moved
                        filters += planes * channels * s.filter_height * s.filter_width
                        pace = moved / array.psum_words_per_cycle / (m.n * s.width)
                        cycles += chain_cycles(s.filter_height * m.r, m.n * s.width, work, pace)
    return passes, cycles, inputs, sums, filters


def draw(rng):
    """A layer and a mapping that fits; all passes full when ``e``, ``n``, ... divide."""
    while True:
        r, stride = int(rng.integers(1, 4)), int(rng.integers(1, 3))
        shape = ConvShape(
            int(rng.integers(1, 5)), int(rng.integers(1, 3)), int(rng.integers(1, 20)),
            int(rng.integers(1, 9)), int(rng.integers(1, 9)), int(rng.integers(1, 9)), r, r,
            min(stride, r),
        )  # fmt: skip
        p, q, sets, other = (int(x) for x in rng.integers(1, (7, 4, 3, 3)))
        e = int(rng.integers(1, shape.height + 1))
        mapping = RowStationaryMapping(
            p * other, int(rng.integers(1, shape.batch + 1)), e, p, q, sets, other
        )
        try:
            evaluate_row_stationary(shape, mapping, ARRAY)
        except InputError:
            continue
        return shape, mapping


def test_accesses_and_time_equal_a_walk_over_the_passes():
    rng = np.random.default_rng(5)
    full = 0
    for i in range(120):
        shape, mapping = draw(rng)
        array = replace(ARRAY, psum_words_per_cycle=int(rng.integers(1, 5)))
        cost = evaluate_row_stationary(shape, mapping, array)
        passes, cycles, inputs, sums, filters = walk(shape, mapping, array)
        found = (cost.passes, cost.ifmap_reads, cost.psum_reads, cost.psum_writes)
        assert found == (passes, inputs, sums, sums), (i, shape, mapping)
        assert cost.filter_words == filters
        assert cost.cycles <= cycles * (1 + 1e-12)  # the mean of the streams, at most
        if sums == passes * mapping.n * shape.width * mapping.e * mapping.p * mapping.t:
            assert cost.cycles == pytest.approx(cycles)
            full += 1
    assert full > 15


def test_a_restart_is_the_least_time_between_passes():
    shape = ConvShape(1, 1, 16, 4, 4, 8, 3, 3, 1)
    mapping = RowStationaryMapping(16, 1, 4, 4, 2, 1, 1)
    fill = (3 - 1) * 4 * 2 * 3
    at = [
        evaluate_row_stationary(shape, mapping, replace(ARRAY, restart_cycles=cycles)).fill_cycles
        for cycles in (0, fill, fill + 5)
    ]
    assert at == [fill, fill, fill + 5]


def test_more_bus_is_never_slower_and_latency_is_never_below_the_macs():
    rng = np.random.default_rng(6)
    for _ in range(50):
        shape, mapping = draw(rng)
        costs = [
            evaluate_row_stationary(shape, mapping, replace(ARRAY, psum_words_per_cycle=words))
            for words in (1, 2, 8)
        ]
        assert costs[0].cycles >= costs[1].cycles >= costs[2].cycles
        assert costs[2].cycles * costs[2].active >= shape.macs
        assert costs[2].active <= 168


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"q": 5}, r"input scratchpad \(q S\).*15.*at most 12"),
        ({"p": 24}, r"filter scratchpad.*288.*at most 224"),
        ({"p": 25, "q": 1}, "partial-sum scratchpad.*25.*24"),
        ({"r": 5}, "array rows.*15.*12"),
        ({"t": 4, "e": 8}, "array rows"),
        ({"m": 8}, "buffered output channels"),
        ({"n": 4, "m": 384}, "global buffer"),
        ({"n": 0}, "at least 1"),
    ],
)
def test_a_mapping_that_does_not_fit_says_where(change, says):
    shape = ConvShape(4, 1, 384, 256, 13, 13, 3, 3, 1)
    mapping = RowStationaryMapping(64, 1, 13, 16, 4, 1, 1)
    evaluate_row_stationary(shape, mapping, ARRAY)
    if change == {"t": 4, "e": 8}:
        change = {"t": 5, "e": 8, "m": 80}
    with pytest.raises(InputError, match=says):
        evaluate_row_stationary(shape, replace(mapping, **change), ARRAY)


def test_shapes_come_from_loop_nests():
    conv = conv2d_einsum(
        "i", "w", "o", batch=2, groups=3, out_channels=12, in_channels=6, out_size=(5, 7),
        kernel=(3, 2), stride=(2, 2),
    )  # fmt: skip
    assert conv_shape(conv) == ConvShape(2, 3, 4, 2, 5, 7, 3, 2, 2)
    assert conv_shape(conv).macs == conv.macs
    with pytest.raises(InputError, match="one stride, undilated"):
        conv_shape(
            conv2d_einsum(
                "i", "w", "o", batch=1, groups=1, out_channels=1, in_channels=1, out_size=(5, 7),
                kernel=(3, 3), stride=(2, 1),
            )
        )  # fmt: skip
    pointwise = matmul_einsum("a", "b", "c", rows=5, inner=7, columns=3)
    assert conv_shape(pointwise).stride == 1


def test_the_array_is_read_from_the_machine():
    array = row_stationary_array(load_machine("eyeriss"), 4, 0)
    assert array == ARRAY
    with pytest.raises(InputError, match=r"tiny: \w+: the machine has no such slot"):
        row_stationary_array(load_machine("tiny"), 4, 0)
