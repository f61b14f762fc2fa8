"""``archsim systolic`` reads SCALE-Sim's files as users have them, and says what is wrong."""

from __future__ import annotations

import csv
import json

import pytest

from archsim.cli import main

TOPOLOGY = """Layer name, IFMAP Height, IFMAP Width, Filter Height, Filter Width, Channels, Num Filter, Strides,
tinyA,12,12,3,3,5,40,1,
tinyfc,1,1,1,1,100,50,1,
"""  # noqa: E501
CONFIG = "[architecture_presets]\nArrayHeight: 32\nArrayWidth: 32\nDataflow : os\n"


@pytest.fixture
def files(tmp_path):
    (tmp_path / "net.csv").write_text(TOPOLOGY)
    (tmp_path / "array.cfg").write_text(CONFIG)
    return tmp_path


def run(capsys, *arguments):
    status = main(["systolic", *map(str, arguments)])
    captured = capsys.readouterr()
    assert "Traceback" not in captured.err
    return status, captured.out, captured.err


def test_a_topology_and_a_configuration(capsys, files):
    given = ("--topology", files / "net.csv", "--config", files / "array.cfg")
    status, out, _ = run(capsys, *given, "--compat", "scalesim", "--csv", files / "out.csv")
    assert status == 0
    assert "855" in out  # SCALE-Sim 3.0.0
    assert "1,178 cycles" in out  # 855 + 323
    rows = list(csv.DictReader((files / "out.csv").open()))
    assert [row["cycles"] for row in rows] == ["855", "323"]
    status, out, _ = run(capsys, *given, "--json")
    figures = json.loads(out)
    assert status == 0
    # 32 rows to drain from 8 folds, and cycles, not the last one's index.
    assert figures["layers"][0]["cycles"] == 855 + 1 + 8 * 32
    status, out, _ = run(capsys, *given, "--dataflow", "ws", "--compat", "scalesim")
    assert "775" in out


def test_any_workload_on_an_array_by_its_size(capsys):
    status, out, _ = run(
        capsys, "-t", "mobilenet_v2", "--array", "32x16", "--dataflow", "weight_stationary"
    )
    assert status == 0
    assert "300,774,272 MACs" in out


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((), "the array is missing"),
        (("--config", "array.cfg", "--array", "8x8"), "given twice"),
        (("--array", "8by8", "--dataflow", "os"), "--array: not a size"),
        (("--array", "0x8", "--dataflow", "os"), "rows"),
        (("--array", "8x8"), "--dataflow: the dataflow is missing"),
        (("--array", "8x8", "--dataflow", "rs"), "os, ws, is"),
        (("--config", "nothing.cfg"), "nothing.cfg: cannot read"),
        (("--config", "array.cfg", "--compat", "timeloop"), "scalesim"),
        (("--config", "array.cfg", "--csv", "no/such/folder.csv"), "cannot write"),
    ],
)
def test_mistakes_are_one_clear_line(capsys, files, monkeypatch, arguments, says):
    monkeypatch.chdir(files)
    status, _, error = run(capsys, "-t", "net.csv", *arguments)
    assert status == 2
    assert says in error
    assert len(error.strip().splitlines()) == 1
