"""``archsim validate``: tables of our figures beside others', and clear words without the data."""

from __future__ import annotations

import pytest

from archsim.cli import main
from archsim.errors import ArchsimError
from archsim.validate import COMPARISONS
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
        ("systolic", ("resnet18 scale_128x128_os", "210", "296,567")),
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


def test_tables_align():
    text = table(("name", "x"), [("a", 1), ("longer", 23)])
    assert text.splitlines() == ["name     x", "a        1", "longer  23"]
