"""``archsim compare`` and ``--set``: machines side by side, and a field changed on the way."""

from __future__ import annotations

import json

import pytest

import archsim
from archsim.cli import main
from archsim.hardware import load_machine

BUFFER = "engines.array.slots.buffer.capacity_bytes"


def test_rows_are_the_costs_of_every_pair(capsys):
    words = ["compare", "-w", "squeezenet", "-w", "alexnet", "-m", "tiny", "-m", "eyeriss"]
    assert main([*words, "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    pairs = [
        (network, chip) for network in ("squeezenet", "alexnet") for chip in ("tiny", "eyeriss")
    ]
    assert [(row["workload"], row["machine"]) for row in rows] == pairs
    for row in rows:
        cost = archsim.evaluate(row["workload"], row["machine"])
        assert row["energy_j"] == pytest.approx(cost.energy_j, rel=1e-12)
        assert 0 < row["bound_share"] <= 1
    assert main(words) == 0
    assert "alexnet on eyeriss" in capsys.readouterr().out


def test_a_change_is_compared_with_what_was_before(capsys):
    words = ["compare", "-w", "squeezenet", "-m", "tiny", "--set", f"{BUFFER}=65536", "--json"]
    assert main(words) == 0
    before, after = json.loads(capsys.readouterr().out)
    bigger = load_machine("tiny").with_values({BUFFER: 65536})
    assert after["machine"] == "tiny, changed"
    assert after["energy_j"] == pytest.approx(archsim.evaluate("squeezenet", bigger).energy_j)
    assert after["area_mm2"] > before["area_mm2"]


def test_evaluate_takes_changes_for_networks_and_language_models(capsys):
    words = ["evaluate", "-w", "squeezenet", "-m", "tiny", "--set", "clock_hz=4e8", "--json"]
    assert main(words) == 0
    faster = load_machine("tiny").with_values({"clock_hz": 4e8})
    ours = json.loads(capsys.readouterr().out)["latency_s"]
    assert ours == pytest.approx(archsim.evaluate("squeezenet", faster).latency_s)
    words = ["evaluate", "-w", "llama-3-8b", "-m", "h100", "--phase", "decode", "--json"]
    assert main(words) == 0
    plain = json.loads(capsys.readouterr().out)["latency_s"]
    assert main([*words, "--set", "tiers.hbm.bandwidth_bytes_per_s=6e12"]) == 0
    assert json.loads(capsys.readouterr().out)["latency_s"] < plain


@pytest.mark.parametrize(
    ("change", "says"),
    [("clock_hz", "PATH=VALUE"), ("clok_hz=1e9", "clock_hz"), ("clock_hz=fast", "number"),
     ("=3", "PATH=VALUE"), ("clock_hz=[1", "YAML")],
)  # fmt: skip
def test_wrong_changes_are_refused(capsys, change, says):
    assert main(["compare", "-w", "squeezenet", "-m", "tiny", "--set", change]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert says in error
