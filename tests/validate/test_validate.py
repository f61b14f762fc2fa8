"""``archsim validate``: tables of our figures beside others', and clear words without the data."""

from __future__ import annotations

import numpy as np
import pytest

from archsim.cli import main
from archsim.errors import ArchsimError
from archsim.models.loopnest.mapping import Mapping
from archsim.validate import COMPARISONS
from archsim.validate.eyeriss import PUBLISHED, active_units, compare_chip
from archsim.validate.references import references, table


@pytest.fixture
def with_refs():
    try:
        references("timeloop")
        references("scalesim")
    except ArchsimError as error:
        pytest.skip(str(error))


@pytest.mark.refs
@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("loopnest", ("4_vgg_conv_eyeriss168", "5505024", "3072")),
        ("systolic", ("resnet18 scale_128x128_os", "147", "0")),
    ],
)
def test_a_comparison_with_reference_data_agrees(with_refs, capsys, name, words):
    assert main(["validate", name]) == 0
    out = capsys.readouterr().out
    for word in words:
        assert word in out


@pytest.mark.parametrize("name", ["loopnest", "systolic"])
def test_missing_reference_data_is_one_clear_message(capsys, monkeypatch, tmp_path, name):
    monkeypatch.setenv("ARCHSIM_REFS", str(tmp_path))
    assert main(["validate", name]) == 2
    captured = capsys.readouterr()
    assert "ARCHSIM_REFS" in captured.err
    assert "Traceback" not in captured.err
    assert captured.out == ""


def test_without_reference_data_the_other_comparisons_still_run(capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("ARCHSIM_REFS", str(tmp_path))
    for key in ("mapper", "eyeriss"):  # shown below and in the models' tests; slow
        monkeypatch.setattr(f"archsim.validate.{key}.validate_{key}", lambda: True)
    assert main(["validate"]) == 1
    out = capsys.readouterr().out
    assert "loopnest: not compared" in out
    assert "systolic: not compared" in out
    assert "resnet50" in out


def test_an_unknown_comparison_is_named(capsys):
    assert main(["validate", "everything"]) == 2
    error = capsys.readouterr().err
    assert all(name in error for name in COMPARISONS)
    assert main(["validate", "workloads", "--deep"]) == 2
    assert "no such option" in capsys.readouterr().err


def test_published_networks_agree(capsys):
    assert main(["validate", "workloads"]) == 0
    out = capsys.readouterr().out
    assert "25.557032" in out
    assert " NO " not in out


def test_the_published_rows_add_up_to_the_papers_abstract():
    # JSSC 2017: AlexNet at 278 mW; 0.0029 DRAM accesses of 16 bits a MAC.
    rows = PUBLISHED.values()
    time = sum(latency for latency, *_ in rows)
    assert sum(latency * power for latency, power, *_ in rows) / time == pytest.approx(278, abs=1.5)
    macs = 4 * (105.4 + 223.9 + 149.5 + 112.1 + 74.8)  # millions, table V
    assert sum(dram for *_, dram in rows) / 2 / macs == pytest.approx(0.0029, abs=5e-5)


def test_eyeriss_is_plausible_beside_the_chip(capsys):
    rows = compare_chip()
    assert [row.layer for row in rows] == list(PUBLISHED)
    for row in rows:
        assert 0.7 < row.latency_ms / row.chip_latency_ms < 1.15, row
        assert 0.25 < row.power_mw / row.chip_power_mw < 1.7, row
        assert 0.85 < row.latency_at_chip_pes / row.chip_latency_ms < 1.15, row
        assert row.active <= 168
    assert main(["validate", "eyeriss"]) == 0
    out = capsys.readouterr().out
    for row in rows:
        assert f"{row.latency_ms:.1f}" in out
    assert "mean absolute error" in out


def test_active_units_leave_out_the_idle_ones():
    mapping = Mapping(
        ("tier", "pes"), ("P",), (3,), np.array([False, True]), np.ones((2, 3), bool),
        np.array([[1], [4]]), np.array([[0], [0]]),
    )  # fmt: skip
    assert active_units(mapping) == 3


def test_tables_align():
    text = table(("name", "x"), [("a", 1), ("longer", 23)])
    assert text.splitlines() == ["name     x", "a        1", "longer  23"]
