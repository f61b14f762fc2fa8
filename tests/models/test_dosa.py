"""Points of the DOSA data set: its notation, and Timeloop's cycles to the last one.

Single rows are typed here (DOSA, ucb-bar/dosa, data/timeloop_dataset, BSD-2), so that the rules are
checked without the reference data too.
"""

from __future__ import annotations

import gzip

import numpy as np
import pytest

from archsim.errors import InputError
from archsim.models.loopnest import kernel as k
from archsim.models.loopnest.dosa import (
    ACCUMULATOR,
    DIMS,
    DRAM,
    FANOUT,
    RULES,
    evaluate_points,
    parse_mapping,
    read_points,
)
from archsim.models.loopnest.walk import rounded_cycles, walked_words

HEADER = (
    "target.cycle,target.energy,mapping.mapping,arch.pe,arch.mem1_entries,arch.mem2_entries,"
    "arch.mem2_width,arch.mem2_shared_bandwidth,prob.C,prob.K,prob.N,prob.P,prob.Q,prob.R,prob.S,"
    "prob.Wstride,prob.Hstride,prob.Wdilation,prob.Hdilation"
)
#: Bound by the accumulator, by its last cycle, by DRAM and a walked halo, by compute.
ROWS = {
    "L3[WIO] C16 K8 - L2[WI] N1 - L1[O] K16 C16 - L0[W] N1": (33728, "256,128,1,1,1,1,1,1,1,1,1"),
    "L3[WIO] K8 Q28 S3 C2 P2 R3 - L2[WI] N1 K16X - L1[O] K2 C4 P2 - L0[W] P7": (
        934529, "8,256,1,28,28,3,3,2,2,1,1",
    ),
    "L3[WIO] P2 C512 S3 K32 - L2[WI] N1 K16X - L1[O] R3 Q14 P7 - L0[W] N1": (
        39160832, "512,512,1,14,14,3,3,1,1,1,1",
    ),
    "L3[WIO] C256 K64 Q7 S3 - L2[WI] N1 K2X - L1[O] K4 R3 C2 Q2 - L0[W] P14": (
        237608449, "512,512,1,14,14,3,3,1,1,1,1",
    ),
}  # fmt: skip
MACHINES = {33728: "1024,512,2048,256,64", 934529: "1024,512,2048,256,64",
            39160832: "4096,512,16384,512,128", 237608449: "4,512,1048576,16,4"}  # fmt: skip


def write(tmp_path, rows, header=HEADER):
    path = tmp_path / "points.csv.gz"
    with gzip.open(path, "wt", encoding="utf-8") as out:
        out.write("\n".join([header, *rows]) + "\n")
    return path


def points(tmp_path):
    rows = [f"{c},1,{m},{MACHINES[c]},{p}" for m, (c, p) in ROWS.items()]
    return read_points(write(tmp_path, rows))


def test_cycles_equal_timeloops(tmp_path):
    found = points(tmp_path)
    assert evaluate_points(found).cycles.tolist() == found.numbers("target.cycle").tolist()


@pytest.mark.parametrize("rule", RULES)
def test_every_rule_is_needed(tmp_path, rule):
    found = points(tmp_path)
    others = [other for other in RULES if other != rule]
    cycles = evaluate_points(found, others).cycles
    assert (cycles != found.numbers("target.cycle")).any()


def test_mapping_is_read_slot_by_slot():
    parsed = parse_mapping("L3[WIO] K8 Q28 - L2[WI] N1 K4X - L1[O] K2 S7 C3X - L0[W] P16")
    named = {d: parsed.factors[:, i].tolist() for i, d in enumerate(DIMS)}
    assert named["K"] == [8, 1, 4, 2, 1, 1]
    assert named["C"] == [1, 1, 1, 1, 3, 1]
    assert named["P"] == [1, 1, 1, 1, 1, 16]
    assert [DIMS[d] for d in parsed.order[DRAM]][-2:] == ["K", "Q"]
    assert parsed.keep[ACCUMULATOR].tolist() == [False, False, True]
    assert not parsed.keep[FANOUT].any()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "level not understood"),
        ("L3[WIO] K2 - L2[WI] K2", "lacks a level"),
        ("L3[WIO] K2 - L3[WIO] K2 - L1[O] - L0[W]", "given twice"),
        ("L3[WIO] Z2 - L2[WI] - L1[O] - L0[W]", "factor not understood"),
        ("L3[WIO] K0 - L2[WI] - L1[O] - L0[W]", "factor not understood"),
        ("L3[WIO] K2X - L2[WI] - L1[O] - L0[W]", "no array"),
        ("L3[WIO] K2 K2 - L2[WI] - L1[O] - L0[W]", "twice"),
        ("L3[WI] K2 - L2[WI] - L1[O] - L0[W]", "outermost"),
    ],
)
def test_broken_mappings_are_named(text, message):
    with pytest.raises(InputError, match=message):
        parse_mapping(text, "points.csv, line 2")


def test_broken_files_are_named(tmp_path):
    mapping, (cycles, problem) = next(iter(ROWS.items()))
    good = f"{cycles},1,{mapping},{MACHINES[cycles]},{problem}"
    with pytest.raises(InputError, match=r"line 2.*multiply"):
        read_points(write(tmp_path, [good.replace(",256,128,", ",255,128,")]))
    with pytest.raises(InputError, match=r"line 3.*whole number"):
        read_points(write(tmp_path, [good, good.replace(",256,128,", ",256,x,")]))
    with pytest.raises(InputError, match="no rows"):
        read_points(write(tmp_path, []))
    with pytest.raises(InputError, match=r"mapping\.mapping"):
        read_points(write(tmp_path, ["1"], "target.cycle"))
    with pytest.raises(InputError, match="cannot read"):
        read_points(tmp_path / "absent.csv")
    bare = ",".join(part for part in HEADER.split(",") if not part.startswith("arch."))
    alone = read_points(write(tmp_path, [f"{cycles},1,{mapping},{problem}"], bare))
    with pytest.raises(InputError, match="machine"):
        evaluate_points(alone)
    assert evaluate_points(alone.on_baseline()).fits.all()


def test_walk_is_exact_where_the_moving_loop_is_innermost():
    # Window of 3 over 14 steps of 1: 3 + 13 new words, again for each of 4 outer passes.
    for pause_resets in (False, True):
        assert walked_words([((0,), 4), ((1,), 14)], (3,), pause_resets=pause_resets) == 4 * 16
    # A loop that does not move the window, inside the moving one: the overlap is lost or kept.
    inside = [((1,), 14), ((0,), 4)]
    assert walked_words(inside, (3,), pause_resets=True) == 14 * 3
    assert walked_words(inside, (3,), pause_resets=False) == 16


def test_rounding_never_loses_a_cycle():
    rng = np.random.default_rng(1)
    compute = rng.integers(1, 10**6, 2000).astype(float)
    words = rng.integers(0, 10**7, (2, 2000, 3)).astype(float)
    bandwidth = rng.integers(1, 64, 2000).astype(float)
    cycles = rounded_cycles(words[0], words[1], bandwidth, compute)
    exact = np.maximum(compute, np.ceil(words.sum(axis=(0, 2)) / bandwidth - 1e-9))
    assert (cycles >= exact).all()
    assert (cycles <= exact + 1).all()


@pytest.mark.refs
def test_a_sample_of_the_data_set_is_exact(refs):
    from archsim.validate.dosa import FILE, energy_features, fit_prices

    every = read_points(refs("dosa") / FILE)
    found = evaluate_points(every)
    assert (found.cycles == every.numbers("target.cycle")).all()
    assert found.fits.all()
    energy = every.numbers("target.energy") * 1e6
    features = energy_features(every, found)
    shapes = every.shapes
    prices = fit_prices(features[shapes % 2 == 0], energy[shapes % 2 == 0])
    assert np.abs(features @ prices / energy - 1)[shapes % 2 == 1].max() < 1e-4
    assert found.counts[:, DRAM, k.OUTPUT, k.FILLS].max() == 0
