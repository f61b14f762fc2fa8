"""Pruned weights on a GPU: limits, monotony, the dense product as the worst case."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from archsim.errors import InputError
from archsim.models.gpu import evaluate_gemm, gpu_device
from archsim.models.gpu_sparse import (
    SORTED_CONFLICTS,
    SparsePattern,
    evaluate_sparse_gemm,
    random_conflicts,
    store_conflicts,
)

A100 = gpu_device("a100")
M, N, K = np.meshgrid([1.0, 16.0, 512.0, 4096.0], [2048.0, 9216.0], [2048.0, 8192.0])
DENSE = evaluate_gemm(A100, M, N, K, "fp16")
PATTERNS = ("unstructured", "block 16x16", "block 64x32", "block 128x1")


@pytest.mark.parametrize("pattern", PATTERNS)
def test_more_zeros_never_cost_more(pattern):
    densities = np.array([1.0, 0.7, 0.5, 0.3, 0.1, 0.02])
    costs = [evaluate_sparse_gemm(A100, M, N, K, pattern, d) for d in densities]
    for worse, better in pairwise(costs):
        assert (better.latency_s <= worse.latency_s * (1 + 1e-9)).all()
    assert (costs[0].latency_s <= DENSE.latency_s).all()
    assert (costs[0].flops == DENSE.flops).all()


def test_nothing_pruned_is_dense():
    whole = evaluate_sparse_gemm(A100, M, N, K, "unstructured", 1.0)
    assert (whole.choices["sparse"] == 0).all()
    np.testing.assert_array_equal(whole.latency_s, DENSE.latency_s)
    np.testing.assert_array_equal(whole.energy_j, DENSE.energy_j)
    blocks = evaluate_sparse_gemm(A100, M, N, K, "block 4096x4096", 1.0, fall_back=False)
    np.testing.assert_allclose(blocks.latency_s, DENSE.latency_s, rtol=1e-6)


def test_stored_bytes_of_every_pattern():
    half = np.array(0.5)
    assert SparsePattern.read("unstructured").stored_bytes(half, 2.0) == 2.0  # 32 bits a non-zero
    assert SparsePattern.read("2:4").stored_bytes(half, 2.0) == 1.125  # 2 bits a place
    assert SparsePattern.read("block 16x16").stored_bytes(half, 2.0) == 0.5 * (2 + 4 / 256)


def test_memory_bounds_hold():
    n = k = 16384.0
    for pattern, density in (("unstructured", 0.2), ("2:4", None), ("block 16x16", 0.2)):
        cost = evaluate_sparse_gemm(A100, 8, n, k, pattern, density)
        share = np.asarray(0.5 if density is None else density)
        stored = SparsePattern.read(pattern).stored_bytes(share, 2.0) * n * k
        assert cost.dram_bytes >= stored
        assert cost.latency_s >= stored / A100.bandwidth_bytes_per_s


def test_structured_sparsity_at_most_doubles():
    found = evaluate_sparse_gemm(A100, M, N, K, "2:4")
    gain = DENSE.latency_s / found.latency_s
    assert (gain < 2.0).all()
    assert (gain >= 1.0).all()
    assert gain[:, -1].min() > 1.3 or gain.max() > 1.5
    # other ratios save bytes alone: little where products are bound by the units
    other = evaluate_sparse_gemm(A100, 4096, 8192, 8192, "1:4")
    assert other.latency_s > 0.8 * evaluate_gemm(A100, 4096, 8192, 8192, "fp16").latency_s


def test_blocks_are_computed_by_tile():
    density = np.array([0.1, 0.5])
    np.testing.assert_allclose(SparsePattern.read("block 64x16").computed(density), density)
    wide = SparsePattern.read("block 16x16").computed(density)
    np.testing.assert_allclose(wide, 1 - (1 - density) ** 4)
    assert SparsePattern.read("block 1x1").computed(density)[1] == pytest.approx(1.0)


def test_random_banks_coincide_as_counted():
    rng = np.random.default_rng(1)
    fullest = [np.bincount(row, minlength=32).max() for row in rng.integers(0, 32, (4000, 32))]
    assert random_conflicts() == pytest.approx(np.mean(fullest), rel=0.02)
    assert random_conflicts(32, 1) == 32.0
    assert random_conflicts(2, 4) == pytest.approx(1.25)  # the second meets the first in one of 4


def test_sorted_banks_coincide_as_simulated():
    """The next non-zero of a 128 x 64 tile always from the fullest bank, 32 a store."""
    rng = np.random.default_rng(2)
    for density in (0.1, 0.3):
        found = []
        for _ in range(8):
            row, column = np.nonzero(rng.random((128, 64)) < density)
            left = np.bincount(((column ^ ((row % 8) << 3)) // 2) % 32, minlength=32)
            order = []
            for _ in range(left.sum() // 32 * 32):
                order.append(int(left.argmax()))
                left[order[-1]] -= 1
            stores = np.reshape(order, (-1, 32))
            found.append(np.mean([np.bincount(s, minlength=32).max() for s in stores]))
        assert SORTED_CONFLICTS[density] == pytest.approx(np.mean(found), rel=0.08)
    assert (store_conflicts([0.1, 0.9]) < store_conflicts([0.1, 0.9], reordered=False)).all()


def test_unpacking_takes_time_of_its_own():
    cost = evaluate_sparse_gemm(A100, 16.0, 36864.0, 9216.0, "unstructured", 0.2)
    stores = 36864 * 9216 * 0.2 / 32 * float(store_conflicts(0.2))
    assert cost.parts_s["unpack_s"] == pytest.approx(stores / (108 * A100.clock_hz))
    memory = cost.parts_s["memory_s"] + cost.parts_s["launch_s"]
    assert cost.latency_s > memory + cost.parts_s["unpack_s"]
    unsorted = evaluate_sparse_gemm(
        A100, 16.0, 36864.0, 9216.0, "unstructured", 0.2, reordered=False
    )
    assert unsorted.latency_s > cost.latency_s
    # tiles of 128 tokens unpack anew
    many = evaluate_sparse_gemm(A100, 256.0, 9216.0, 9216.0, "unstructured", 0.05, fall_back=False)
    few = evaluate_sparse_gemm(A100, 128.0, 9216.0, 9216.0, "unstructured", 0.05, fall_back=False)
    assert many.parts_s["unpack_s"] == pytest.approx(2 * few.parts_s["unpack_s"])
    assert evaluate_sparse_gemm(A100, 16.0, 9216.0, 9216.0, "2:4").parts_s["unpack_s"] == 0


@pytest.mark.parametrize(
    "better", [{"sms": 2.0}, {"clock_hz": 1.3}, {"bandwidth_bytes_per_s": 2.0}]
)
def test_better_hardware_is_never_slower(better):
    for density in (0.02, 0.3):
        costs = [
            evaluate_sparse_gemm(d, M, N, K, "unstructured", density).latency_s
            for d in (A100, A100.scaled(**better))
        ]
        assert (costs[1] <= costs[0] * (1 + 1e-9)).all()


@pytest.mark.parametrize(
    ("pattern", "density", "message"),
    [
        ("random", 0.5, "not a pattern"),
        ("4:2", None, "not a pattern"),
        ("block 16", 0.5, "not a pattern"),
        ("block 0x4", 0.5, "not a pattern"),
        ("unstructured", None, "needs a density"),
        ("unstructured", 0.0, "density must lie"),
        ("2:4", 0.3, "sets another density"),
    ],
)
def test_wrong_input_is_refused(pattern, density, message):
    with pytest.raises(InputError, match=message):
        evaluate_sparse_gemm(A100, 8, 64, 64, pattern, density)
