"""``archsim dram``: a trace on a memory, both of one's own, and refusals."""

import json

import pytest
import yaml

from archsim.cli import main
from archsim.models.dram.patterns import pattern
from archsim.models.dram.policy import Policy, RamulatorPolicy
from archsim.models.dram.simulate import simulate
from archsim.models.dram.spec import load_spec, presets

LINES = "0: read 0x40\n5: write 0x80\n9: read 0x100000\n"


def run(capsys, *words):
    status = main(["dram", *map(str, words)])
    return status, capsys.readouterr()


def test_presets_are_listed(capsys):
    status, shown = run(capsys)
    assert status == 0
    assert shown.out.split() == list(presets())


@pytest.mark.parametrize(
    ("words", "policy"),
    [
        ((), Policy()),
        (("--set", "page=Closed", "--set", "depth=2"), Policy(page="Closed", depth=2)),
        (("--controller", "ramulator", "--set", "row_cap=4"), RamulatorPolicy(row_cap=4)),
    ],
)
def test_figures_are_those_of_the_simulator(capsys, words, policy):
    memory = load_spec("ddr4_2400_4gb_x8")
    one = simulate(memory, pattern("mixed", 200, memory, seed=3), policy)
    asked = ("--pattern", "mixed", "--requests", 200, "--seed", 3, *words)
    status, shown = run(capsys, memory.name, *asked, "--json")
    found = json.loads(shown.out)
    assert status == 0
    assert found["cycles"] == one.cycles
    assert found["energy_j"] == one.energy_j
    assert sum(found["energy_parts_j"].values()) == pytest.approx(one.energy_j)
    status, shown = run(capsys, memory.name, *asked)
    assert status == 0
    assert "GB/s" in shown.out


def test_memory_and_trace_of_ones_own(capsys, tmp_path):
    spec = load_spec("ddr4_2400_4gb_x8").model_dump(mode="json")
    mine = tmp_path / "mine.yaml"
    mine.write_text(yaml.safe_dump(spec | {"name": "mine", "currents": None}))
    trace, log = tmp_path / "t.stl", tmp_path / "log.csv"
    trace.write_text(LINES)
    status, shown = run(capsys, mine, "-t", trace, "--log", log, "--json")
    found = json.loads(shown.out)
    assert status == 0
    assert (found["memory"], found["requests"], found["energy_j"]) == ("mine", 3, None)
    assert len(log.read_text().splitlines()) == 1 + sum(found["commands"].values())


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("nothing",), "no such DRAM"),
        (("ddr4_2400_4gb_x8", "-t", "missing.stl"), "No such file"),
        (("ddr4_2400_4gb_x8", "--pattern", "none"), "no such pattern"),
        (("ddr4_2400_4gb_x8", "--requests", "-1"), "greater than or equal to 1"),
        (("ddr4_2400_4gb_x8", "--set", "page"), "not a setting"),
        (("ddr4_2400_4gb_x8", "--set", "page=Ajar"), "'Open'"),
        (("ddr4_2400_4gb_x8", "--set", "pages=Open"), "no such field"),
        (("ddr4_2400_4gb_x8", "--set", "refresh=PerBank"), "cannot refresh single banks"),
    ],
)
def test_wrong_words_get_one_line(capsys, words, said):
    status, shown = run(capsys, *words)
    assert status == 2
    assert said in shown.err
    assert len(shown.err.splitlines()) == 1


@pytest.mark.parametrize(
    "line", ["5: wrote 0x80", "hello", "7: read -0x40", "1: read 0xffffffffff"]
)
def test_a_wrong_line_of_a_trace_is_told(capsys, tmp_path, line):
    trace = tmp_path / "t.stl"
    trace.write_text(LINES + line + "\n")
    status, shown = run(capsys, "ddr4_2400_4gb_x8", "-t", trace)
    assert status == 2
    assert len(shown.err.splitlines()) == 1
