"""Machines with links between neighbours, and with arrays that take time to fill and drain."""

from __future__ import annotations

from math import prod

import pytest
from test_cost import check_sums

from archsim.errors import InputError
from archsim.hardware import load_machine, resolve
from archsim.hardware.machine import MACHINES
from archsim.system import NetworkEvaluator, evaluate
from archsim.workload import load_workload
from archsim.workload.yaml_form import loads

# Eight rows unrolled over eight units, a filter of one column: rows of the image slide along them.
SLIDING = """
name: column
tensors: {x: {shape: [1, 4, 10, 8], role: input}}
operations:
  - {name: conv, kind: conv2d, in: x, channels: [4, 8], kernel: [3, 1], size: [8, 8]}
"""


def machine(tmp_path, name, more):
    text = (MACHINES / f"{name}.yaml").read_text()
    old = "{name: rows, fanout: 8, axis: y, network: {kind: systolic}}"
    assert old in text
    path = tmp_path / "machine.yaml"
    path.write_text(text.replace(old, old.replace("systolic", f"systolic, {more}")))
    return load_machine(path)


def test_neighbours_spare_the_parent(tmp_path):
    network = loads(SLIDING)
    plain = evaluate(network, "shidiannao")
    linked = evaluate(network, machine(tmp_path, "shidiannao", "peer_links: true"))
    check_sums(linked)
    detail = linked.layers[0].detail
    assert detail["passed_words"] > 0
    assert detail["macs_done"] == linked.layers[0].macs

    def reads(cost):
        rows = cost.layers[0].traffic
        return {(row.slot, row.operand): row.reads for row in rows}

    before, after = reads(plain), reads(linked)
    changed = [place for place in before if after[place] != pytest.approx(before[place])]
    assert changed == [("nbin", "input")]
    # One word read for several columns is passed on in each of them.
    slots = {slot["slot"]: slot["loops"] for slot in linked.layers[0].mapping.to_dict()["slots"]}
    columns = prod(loop["bound"] for loop in slots["columns"] if loop["dim"] == "M")
    spared = before[changed[0]] - after[changed[0]]
    assert spared * columns == pytest.approx(detail["passed_words"])
    assert linked.energy_j < plain.energy_j
    assert linked.latency_s <= plain.latency_s
    assert "passed on between neighbours" in linked.explain()


def test_an_array_fills_and_drains_once_a_layer(tmp_path):
    plain = evaluate("alexnet", "shidiannao")
    slow = evaluate("alexnet", machine(tmp_path, "shidiannao", "hop_cycles: 3"))
    check_sums(slow)
    waited = 0
    for before, after in zip(plain.layers, slow.layers, strict=True):
        if after.detail is None:
            assert after == before
            continue
        loops = {slot["slot"]: slot["loops"] for slot in after.mapping.to_dict()["slots"]}
        used = 1
        for loop in loops["rows"]:
            used *= loop["bound"]
        assert after.detail["fill_drain_cycles"] == 2 * 3 * (used - 1)
        if before.bound != "vector":
            assert after.cycles == pytest.approx(before.cycles + 6 * (used - 1))
        waited += after.detail["fill_drain_cycles"]
    assert waited > 0
    assert slow.latency_s > plain.latency_s
    assert "fill and drain" in slow.explain()


def test_hop_cycles_are_a_figure_of_each_design():
    chip = load_machine("shidiannao")
    path = "engines.array.slots.rows.network.hop_cycles"
    network = load_workload("squeezenet")
    times = NetworkEvaluator([network]).evaluate(resolve(chip, {path: [0.0, 1.0, 4.0]}))
    assert list(times["latency_s"]) == sorted(set(times["latency_s"]))
    assert times["latency_s"][0] == pytest.approx(evaluate(network, chip).latency_s, rel=1e-12)


def test_links_are_the_same_for_a_batch():
    with pytest.raises(InputError, match="same for all designs"):
        resolve(load_machine("shidiannao"), {"engines.array.slots.rows.network.peer_links": [0, 1]})
