"""Counts, cycles, utilisation and energy equal Timeloop's on every dense reference case.

Single figures are typed here with a mapping of their own, so that they are checked without the
reference data too (Timeloop 4cf6d4c, timeloop-accelergy-exercises 2d55108).
"""

from __future__ import annotations

import numpy as np
import pytest

from archsim.models.loopnest import kernel as k
from archsim.models.loopnest.problem import pack
from archsim.validate.loopnest import compare_case, timeloop_cases
from archsim.workload.graph import conv2d_einsum

CASES = (
    "1_conv1d_2level_ws",
    "2_conv1d_oc_3level_bypass",
    "3_conv1d_oc_ic_spatial_cp",
    "4_vgg_conv_eyeriss168",
    "5_mobilenet_conv1_eyeriss168",
    "h1_bandwidth_limited",
    "h2_imperfect_P",
    "x4_conv1d_oc_3level_nobypass",
)


@pytest.mark.refs
@pytest.mark.parametrize("name", CASES)
def test_case_equals_timeloop(refs, name):
    compared = compare_case(refs("timeloop") / name)
    assert compared.counts >= 18
    assert compared.differing == ()
    assert compared.result.cycles == compared.cycles
    assert 100 * compared.result.utilization == pytest.approx(
        100 * compared.utilization, abs=0.0051
    )
    assert abs(compared.energy_error) < 1e-3
    assert compared.equal


@pytest.mark.refs
def test_no_dense_case_is_left_out(refs):
    refs("timeloop")
    assert [path.name for path in timeloop_cases()] == sorted(CASES)


@pytest.mark.refs
def test_perfect_cases_need_no_compat_and_the_residual_one_is_exact_by_default(refs):
    for name in CASES:
        compared = compare_case(refs("timeloop") / name)
        if name != "h2_imperfect_P":
            assert compared.exact == compared.result
        else:
            # 16 rows in tiles of 6, 6 and 4: Timeloop charges 18 (192 x 18), there are 192 x 16.
            assert (compared.result.cycles, compared.exact.cycles) == (3456, 3072)


def count(einsum, dims, slots, keep=None, pad=False):
    """Counts and cycles of a mapping: ``slots`` are ('temporal' | 'spatial', 'K32 P4', keep)."""
    problem = pack([einsum], dims)
    factors = np.ones((len(slots), len(dims)), np.int64)
    order = np.tile(np.arange(len(dims)), (len(slots), 1))
    for s, (_, loops, _) in enumerate(slots):
        names = [word[0] for word in loops.split()]
        for word in loops.split():
            factors[s, dims.index(word[0])] = int(word[1:])
        listed = [dims.index(name) for name in names]
        order[s] = [d for d in range(len(dims)) if d not in listed] + listed
    keeps = np.array([[letter in kept for letter in "IWO"] for *_, kept in slots])
    spatial = np.array([kind == "spatial" for kind, *_ in slots])
    results, counts = np.zeros((1, k.RESULTS)), np.zeros((1, len(slots), 3, 3))
    zero = np.zeros(1, np.int64)
    k.evaluate_rows(
        zero, zero, problem.floats, problem.ints, factors[None], order[None], keeps[None], spatial,
        pad, np.ones((1, len(slots), k.SLOT_COLUMNS)), np.ones((1, k.ENGINE_COLUMNS)), results,
        counts,
    )  # fmt: skip
    return counts[0], int(results[0, k.COMPUTE_CYCLES])


def conv1d(outputs: int, taps: int, channels: int = 1, filters: int = 1):
    return conv2d_einsum(
        "i", "w", "o", batch=1, groups=1, out_channels=filters, in_channels=channels,
        out_size=(outputs, 1), kernel=(taps, 1),
    )  # fmt: skip


def test_halo_survives_along_the_innermost_moving_loop_only():
    # notes of the loop-nest rules: loops C32, K2, R3 over a tile of 16 outputs give an input
    # register 32 * 2 * (16 + 1 + 1) = 1152 fills, as Timeloop counts in case 3.
    counts, cycles = count(
        conv1d(16, 3, 32, 2), ("M", "C", "P", "R"),
        [("temporal", "C32 M2 R3", "IWO"), ("temporal", "P16", "IWO")],
    )  # fmt: skip
    assert counts[1, k.INPUT, k.FILLS] == 1152
    assert counts[0, k.INPUT, k.READS] == 1152
    assert cycles == 16 * 3 * 32 * 2


def test_stationary_weights_are_fetched_once():
    # Timeloop exercise 1: conv1d of 16 outputs and 3 taps, weight-stationary, 48 cycles.
    counts, cycles = count(
        conv1d(16, 3), ("P", "R"), [("temporal", "R3", "IWO"), ("temporal", "P16", "IWO")]
    )
    assert cycles == 48
    assert counts[1, k.WEIGHT, k.FILLS] == 3
    assert counts[1, k.WEIGHT, k.READS] == 48
    assert counts[1, k.INPUT, k.FILLS] == 18
    # The output tile of 16 stays while the taps pass: 16 drains, nothing read back.
    assert counts[0, k.OUTPUT, k.UPDATES] == 16
    assert counts[0, k.OUTPUT, k.READS] == 0
    assert counts[1, k.OUTPUT, k.UPDATES] == 48
    assert counts[1, k.OUTPUT, k.READS] == 32


def test_vgg_layer_on_168_elements_takes_timeloops_cycles():
    # Timeloop case 4 (VGG02 layer 5, 924,844,032 MACs on 168 PEs, all in use): 5,505,024 cycles.
    einsum = conv2d_einsum(
        "i", "w", "o", batch=1, groups=1, out_channels=128, in_channels=64, out_size=(112, 112),
        kernel=(3, 3),
    )  # fmt: skip
    assert einsum.macs == 924_844_032
    counts, cycles = count(
        einsum, ("M", "C", "P", "Q", "R", "S"),
        [("temporal", "M8 C16 P8 Q112", "IWO"), ("spatial", "P14 M4 S3", ""),
         ("temporal", "M4 R3 C4", "IWO")],
    )  # fmt: skip
    assert cycles == 5_505_024
    assert counts[2, k.WEIGHT, k.READS] == einsum.macs


def test_residual_tile_is_exact_by_default_and_full_as_timeloop_charges_it():
    # Timeloop case h2's rule: 16 in tiles of 6, 6, 4 are 16 steps, 18 when charged in full.
    slots = [("temporal", "P3", "IWO"), ("temporal", "P6 R3", "IWO")]
    exact, cycles = count(conv1d(16, 3), ("P", "R"), slots)
    padded, padded_cycles = count(conv1d(16, 3), ("P", "R"), slots, pad=True)
    assert (cycles, padded_cycles) == (48, 54)
    assert exact[0, k.OUTPUT, k.UPDATES] == 16
    assert padded[0, k.OUTPUT, k.UPDATES] == 18


def test_multicast_and_spatial_reduction_share_one_access():
    einsum = conv1d(8, 1, channels=4, filters=4)
    counts, cycles = count(
        einsum, ("M", "C", "P"),
        [("temporal", "P8", "IWO"), ("spatial", "M4 C4", ""), ("temporal", "", "W")],
    )  # fmt: skip
    assert cycles == 8
    assert counts[0, k.INPUT, k.READS] == 4 * 8  # each read once, used by four filters
    assert counts[0, k.OUTPUT, k.UPDATES] == 4 * 8  # four channels are added on the way
    assert counts[2, k.WEIGHT, k.FILLS] == 16
