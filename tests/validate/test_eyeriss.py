"""AlexNet on Eyeriss: the published mapping gives the chip's times and traffic."""

from __future__ import annotations

import numpy as np
import pytest

from archsim.cli import main
from archsim.models.loopnest.mapping import Mapping
from archsim.models.row_stationary import evaluate_row_stationary
from archsim.validate import eyeriss as e
from archsim.validate import eyeriss_published as published
from archsim.validate.eyeriss_published import MAPPINGS, PUBLISHED, VGG16, WORD_BYTES


def test_the_published_rows_add_up_to_the_papers_abstract():
    # JSSC 2017: AlexNet at 278 mW; 0.0029 DRAM accesses of 16 bits a MAC; 34.7 frames a second.
    rows = PUBLISHED.values()
    time = sum(row.latency_ms for row in rows)
    assert sum(row.latency_ms * row.power_mw for row in rows) / time == pytest.approx(278, abs=1.5)
    macs = 4 * (105.4 + 223.9 + 149.5 + 112.1 + 74.8)  # millions, table V
    assert sum(row.dram_mb for row in rows) / 2 / macs == pytest.approx(0.0029, abs=5e-5)
    assert 4000 / sum(row.total_latency_ms for row in rows) == pytest.approx(34.7, abs=0.05)
    # VGG-16 at 236 mW, 0.7 frames a second, 0.0035 accesses a MAC; 46.04 G MACs at batch 3.
    vgg = VGG16.values()
    total = sum(row[4] for row in vgg)
    assert sum(row[1] * row[4] for row in vgg) / total == pytest.approx(236, abs=0.5)
    assert 3000 / total == pytest.approx(0.7, abs=0.05)
    assert sum(row[3] for row in vgg) / 2 / 46040 == pytest.approx(0.0035, abs=5e-5)
    assert sum(published.vgg_shape(name)[0].macs for name in VGG16) == pytest.approx(46.04e9, 1e-3)


def test_the_rules_meet_the_chip():
    costs = e.published_costs()
    errors = [costs[name].latency_s * 1e3 / PUBLISHED[name].latency_ms - 1 for name in PUBLISHED]
    assert np.mean(np.abs(errors)) <= 0.04
    assert max(np.abs(errors)) < 0.06
    assert [costs[name].active for name in PUBLISHED] == [154, 135, 156, 156, 156]
    for name in ("conv1", "conv2", "conv4", "conv5"):  # conv3: see `archsim validate eyeriss`
        moved = costs[name].buffer_words * WORD_BYTES / 1e6
        assert moved == pytest.approx(PUBLISHED[name].buffer_mb, abs=0.05), name


def test_the_restart_is_what_vgg16_shows():
    found = e.restarts()
    assert set(found) == {name for name in VGG16 if not name.startswith("conv5")}
    assert np.mean(list(found.values())) == pytest.approx(published.RESTART_CYCLES, abs=0.5)
    assert max(found.values()) - min(found.values()) < 30
    held_out = []
    for name in ("conv5-1", "conv5-2", "conv5-3"):
        shape, mapping = published.vgg_shape(name)
        cost = evaluate_row_stationary(shape, mapping, published.chip())
        held_out.append(abs(cost.latency_s * 1e3 / VGG16[name][0] - 1))
    assert np.mean(held_out) < 0.05


def test_the_loop_nests_are_the_published_mappings():
    rules, nests = e.published_costs(), published.published_nests()
    shapes = published.alexnet_shapes()
    for name, nest in nests.items():
        macs = shapes[name].macs
        # No faster than the elements multiply, no slower than passes that overlap nothing.
        busy = rules[name].passes * rules[name].compute_cycles / published.chip().clock_hz * 1e3
        assert busy * (1 - 1e-9) <= nest.latency_ms <= 1.02 * rules[name].latency_s * 1e3
        # ISCA 2016 figure 10: four register file accesses a MAC, and the DRAM's.
        alu, dram, spads = e.ISCA16[name]
        found = sum(nest.accesses_per_mac[s] for s in e.SPADS)
        assert found == pytest.approx(spads / alu, rel=0.05)
        assert nest.accesses_per_mac["dram"] == pytest.approx(
            dram / alu / e.ISCA16_DRAM_COST, rel=0.06
        )
        # Partial sums cross as the passes say; inputs are counted without diagonal sharing.
        buffer = nest.accesses_per_mac["glb"] * macs
        assert buffer >= rules[name].psum_reads + rules[name].psum_writes - macs * 0.01
        assert all(joules > 0 for joules in nest.energy_j.values())


def test_the_comparison_is_printed_with_its_misses(capsys):
    rows = e.compare_chip()
    assert [row.layer for row in rows] == list(PUBLISHED) == list(MAPPINGS)
    for row in rows:
        assert 0.7 < row.mapped_ms / row.chip_ms < 1.15, row
        assert row.mapped_active <= 168
        power = PUBLISHED[row.layer].power_mw
        assert 0.25 < row.power_mw(gated=True) / power <= row.power_mw() / power < 1, row
        if row.compressed_mb is not None:  # conv1 and conv5, with the savings of section IV-B
            assert row.compressed_mb == pytest.approx(PUBLISHED[row.layer].dram_mb, rel=0.04)
        assert sum(row.energy_j.values()) == pytest.approx(
            row.power_mw() * 1e-3 * row.rule.latency_s
        )
    assert main(["validate", "eyeriss"]) == 0
    out = capsys.readouterr().out
    for words in ("mean absolute error 2.0%", "+5.1%", "50.2", "held out", "ALU", "gated"):
        assert words in out


def test_active_units_leave_out_the_idle_ones():
    mapping = Mapping(
        ("tier", "pes"), ("P",), (3,), np.array([False, True]), np.ones((2, 3), bool),
        np.array([[1], [4]]), np.array([[0], [0]]),
    )  # fmt: skip
    assert e.active_units(mapping) == 3
