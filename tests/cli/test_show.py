"""``archsim show`` and ``best --machine``: what is inside, and files to start one's own from."""

from __future__ import annotations

import json

import pytest

from archsim.cli import main
from archsim.explore.results import Results
from archsim.hardware import available_machines, load_machine, resolve, save_machine


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("machine", "eyeriss"), "weight_spad"),
        (("machine", "h100x8"), "links.nvlink.lanes"),
        (("machine", "tiny", "--paths"), "engines.array.slots.buffer.capacity_bytes = 16384"),
        (("scenario", "smoke"), "rows * cols <= 128"),
        (("scenario", "dram_mixed"), "PagePolicy"),
        (("workload", "alexnet"), "G2 M128 C48 P27 Q27 R5 S5"),
        (("agent", "genetic"), "population"),
    ],
)
def test_what_ships_is_shown(capsys, words, says):
    assert main(["show", *words]) == 0
    shown = capsys.readouterr().out
    assert says in shown
    assert max(map(len, shown.splitlines())) <= 180
    assert main(["show", *words, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["rows"]


def test_energies_shown_are_those_of_the_model(capsys):
    assert main(["show", "machine", "eyeriss", "--json"]) == 0
    levels = json.loads(capsys.readouterr().out)[1]["rows"]
    table = resolve(load_machine("eyeriss"))
    assert [row["level"] for row in levels] == list(table.names)
    assert levels[1]["read [J]"] == table.read_energy_j[0, 1]


@pytest.mark.parametrize(
    ("kind", "name", "file"),
    [
        ("machine", "tiny", "m.yaml"),
        ("machine", "h100x8", "m.yaml"),
        ("scenario", "smoke", "s.yaml"),
        ("workload", "alexnet", "w.yaml"),
        ("agent", "genetic", "a.py"),
    ],
)
def test_a_copy_is_shown_like_the_original(tmp_path, capsys, kind, name, file):
    copy = str(tmp_path / file)
    assert main(["show", kind, name, "-o", copy]) == 0
    assert main(["show", kind, name, "-o", copy]) == 2  # never over a file
    capsys.readouterr()
    again = f"{copy}:Genetic" if kind == "agent" else copy
    assert main(["show", kind, again, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[-1]["rows"]


@pytest.mark.parametrize(
    "words", [["agent", "genetc"], ["machine", "no.yaml"], ["workload", "x", "--paths"], ["x", "y"]]
)
def test_what_is_not_there_is_said(capsys, words):
    assert main(["show", *words]) == 2
    assert "Traceback" not in capsys.readouterr().err


def test_a_file_that_is_no_machine_is_not_copied(tmp_path, capsys):
    (tmp_path / "empty.yaml").write_text("")
    words = ["show", "machine", str(tmp_path / "empty.yaml"), "-o", str(tmp_path / "copy.yaml")]
    assert main(words) == 2
    assert not (tmp_path / "copy.yaml").exists()


def test_every_machine_is_written_as_it_was_read(tmp_path):
    for name in available_machines():
        save_machine(load_machine(name), tmp_path / "m.yaml")
        assert load_machine(tmp_path / "m.yaml") == load_machine(name), name


def test_the_chosen_design_is_a_machine_that_costs_what_the_run_says(tmp_path, capsys):
    run, file = tmp_path / "run", tmp_path / "chosen.yaml"
    words = ["run", "smoke", "-a", "random", "--quiet", "--seeds", "1", "--budget", "40"]
    assert main([*words, "-o", str(run)]) == 0
    assert main(["best", str(run), "--machine", str(file)]) == 0
    results = Results(run)
    capsys.readouterr()
    assert main(["evaluate", "-w", "squeezenet", "-m", str(file), "--json"]) == 0
    cost = json.loads(capsys.readouterr().out)
    for name in ("latency_s", "energy_j", "area_mm2"):
        assert cost[name] == pytest.approx(results.metrics[name][results.chosen()], rel=1e-12)
    assert main(["best", str(run), "--machine", str(tmp_path / "chosen")]) == 2
