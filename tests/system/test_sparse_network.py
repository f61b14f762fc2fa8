"""Networks with zeros on hardware that knows them: the laws, the report, and no cost elsewhere."""

from __future__ import annotations

import json
from itertools import pairwise

import numpy as np
import pytest
from test_cost import check_sums

from archsim.cli import main
from archsim.hardware import load_machine, resolve
from archsim.hardware.machine import MACHINES
from archsim.system import NetworkEvaluator, evaluate
from archsim.workload import load_workload
from archsim.workload.sparsity import prune


@pytest.fixture(scope="module")
def network():
    return load_workload("alexnet")


def machine(tmp_path, *changes):
    """The sparse teaching machine with some text of its file replaced."""
    text = (MACHINES / "tiny_sparse.yaml").read_text()
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    path = tmp_path / "machine.yaml"
    path.write_text(text)
    return load_machine(path)


NO_FORMATS = (
    ("formats: {weight: [bitmask], input: [{format: rle, bits: 5}]}", "confidence: 1"),
    ("          formats: {weight: [bitmask]}\n", ""),
)


def test_two_of_four_weights_show_in_everything(network):
    dense = evaluate(network, "tiny_sparse")
    pruned = evaluate(prune(network, {"weight": "2:4"}), "tiny_sparse")
    check_sums(dense)
    check_sums(pruned)
    assert pruned.feasible
    assert pruned.latency_s < dense.latency_s
    assert pruned.energy_j < dense.energy_j
    for before, after in zip(dense.layers, pruned.layers, strict=True):
        if after.detail is None:
            assert after == before
            continue
        macs = after.detail["macs_done"] + after.detail["macs_gated"] + after.detail["macs_skipped"]
        assert macs == pytest.approx(after.macs)
        share = 1.0 if before.name == "conv1" else 0.5  # three channels are no multiple of four
        assert after.detail["macs_done"] == pytest.approx(share * after.macs)
        assert after.compute_cycles == pytest.approx(share * before.compute_cycles, abs=1)
        if share < 1:
            assert after.backing_bytes < before.backing_bytes


def test_zeros_in_blocks_leave_out_as_much_work_as_single_ones(network):
    rules = ("0.25", "block 4x4 0.25", "block 32x16 0.25")
    costs = [evaluate(prune(network, {"weight": rule}), "tiny_sparse") for rule in rules]
    for cost in costs:
        check_sums(cost)
        assert cost.feasible
    layers = [next(x for x in cost.layers if x.name == "conv3") for cost in costs]
    for layer in layers:
        done = layer.detail["macs_done"] + layer.detail["macs_gated"]
        assert done == pytest.approx(0.25 * layer.macs, rel=1e-3)
    assert costs[0].energy_j < evaluate(network, "tiny_sparse").energy_j


def test_unstructured_zeros_gate_and_skip(network):
    cost = evaluate(prune(network, {"weight": "0.3", "activation": "0.4"}), "tiny_sparse")
    layer = next(layer for layer in cost.layers if layer.name == "conv3")
    figures = layer.detail
    assert figures["macs_done"] == pytest.approx(0.3 * 0.4 * layer.macs, rel=1e-4)
    assert figures["macs_gated"] == pytest.approx(0.3 * 0.6 * layer.macs, rel=1e-4)
    assert figures["macs_skipped"] == pytest.approx(0.7 * layer.macs, rel=1e-4)
    assert layer.utilization <= 0.3 * 0.4 * 1.01 / 0.3


def test_no_zeros_and_no_formats_cost_what_dense_hardware_costs(network, tmp_path):
    blind = [("sparse: {gate_zeros: true, skip_absent: true}", "cycles: 1"), *NO_FORMATS]
    acting = evaluate(network, machine(tmp_path, *NO_FORMATS))
    dense = evaluate(network, machine(tmp_path, *blind))
    for name, value in dense.metrics.items():
        assert acting.metrics[name] == pytest.approx(value, rel=1e-9)
    assert acting.dense["energy_j"] == pytest.approx(acting.energy_j)


@pytest.mark.parametrize("operand", ["weight", "activation"])
def test_fewer_nonzeros_never_cost_more(network, operand):
    costs = [
        evaluate(prune(network, {operand: f"structured {share}"}), "tiny_sparse")
        for share in (1.0, 0.75, 0.5, 0.25)
    ]
    for more, fewer in pairwise(costs):
        assert fewer.energy_j <= more.energy_j * (1 + 1e-9)
        assert fewer.latency_s <= more.latency_s * (1 + 1e-9)


def test_gating_never_changes_the_time(network, tmp_path):
    zeros = prune(network, {"weight": "0.5", "activation": "0.5"})
    gating = machine(
        tmp_path, ("action: skip", "action: gate"), ("skip_absent: true", "skip_absent: false")
    )
    idle = machine(
        tmp_path,
        ("            - {action: skip, target: input, when_zero: [weight]}\n", ""),
        ("            - {action: gate, target: weight, when_zero: [input]}\n", ""),
        ("          actions:\n", ""),
        ("gate_zeros: true, skip_absent: true", "gate_zeros: false"),
    )
    gated, free = evaluate(zeros, gating), evaluate(zeros, idle)
    assert gated.latency_s == pytest.approx(free.latency_s, rel=1e-9)
    assert gated.energy_j < free.energy_j


def test_a_batch_of_designs_is_each_of_them(network):
    chip = load_machine("tiny_sparse")
    sizes = [8192, 16384, 65536]
    path = "engines.array.slots.buffer.capacity_bytes"
    zeros = prune(network, {"weight": "2:4", "activation": "0.5"})
    evaluator = NetworkEvaluator([zeros])
    together = evaluator.evaluate(resolve(chip, {path: sizes}))
    for i, size in enumerate(sizes):
        alone = evaluator.evaluate(resolve(chip.with_values({path: size})))
        for name in ("latency_s", "energy_j", "utilization", "violation"):
            assert together[name][i] == pytest.approx(alone[name][0], rel=1e-12)
    assert np.isfinite(together["energy_j"]).all()


def test_dense_hardware_never_meets_the_sparse_model(network, monkeypatch):
    """Zeros change nothing on a machine that knows none, and cost no time."""
    import archsim.system.sparse as module

    def refuse(*_):
        raise AssertionError("not for dense hardware")

    monkeypatch.setattr(module.SparseNetwork, "__init__", refuse)
    zeros = prune(network, {"weight": "2:4"})
    assert evaluate(zeros, "tiny").metrics == evaluate(network, "tiny").metrics


def test_compressed_tiles_that_would_not_fit_are_mapped_smaller(network):
    """Metadata beside incompressible data needs room: the mapping leaves it."""
    cost = evaluate(network, "tiny_sparse")
    assert cost.feasible
    assert all(layer.overflow <= 0 for layer in cost.layers)


def test_expected_occupancy_leaves_room_for_larger_tiles(network, tmp_path):
    zeros = prune(network, {"weight": "0.2"})
    certain = evaluate(zeros, machine(tmp_path))
    expected = evaluate(
        zeros,
        machine(
            tmp_path, ("          actions:\n", "          confidence: null\n          actions:\n")
        ),
    )
    assert expected.feasible
    assert expected.energy_j <= certain.energy_j * (1 + 1e-9)


def test_the_report_says_what_zeros_do(capsys):
    command = ["evaluate", "-w", "alexnet", "-m", "tiny_sparse", "--density", "weight=2:4"]
    assert main(command) == 0
    text = capsys.readouterr().out
    assert "multiply-accumulates:" in text
    assert "skipped" in text
    assert "metadata" in text
    assert main([*command, "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert data["dense"]["latency_s"] > data["latency_s"]
    assert data["layers"][0]["detail"]["macs_done"] > 0
    assert main(["evaluate", "-w", "alexnet", "-m", "tiny", "--density", "weight=2:4"]) == 0
    assert "does nothing about zeros" in capsys.readouterr().err


@pytest.mark.parametrize("rule", ["weight", "weight=2", "wieght=0.5", "weight=x"])
def test_wrong_densities_are_refused(rule, capsys):
    command = ["evaluate", "-w", "alexnet", "-m", "tiny_sparse", "--density", rule]
    assert main(command) == 2
    assert "density" in capsys.readouterr().err


def test_a_pattern_that_does_not_fit_is_refused_with_its_file(tmp_path, capsys):
    path = tmp_path / "matrix.yaml"
    path.write_text(
        "name: matrix\ntensors:\n  x: {shape: [4, 6], role: input, density: 0.5, pattern: band 1}\n"
        "operations:\n  - {name: g, kind: gemm, in: x, rows: 4, inner: 6, columns: 5}\n"
    )
    assert main(["evaluate", "-w", str(path), "-m", "tiny_sparse"]) == 2
    message = capsys.readouterr().err
    assert "matrix.yaml" in message
    assert "band 1 is 0.458333 here" in message
    path.write_text(path.read_text().replace("density: 0.5", "density: 0.45833333"))
    assert main(["evaluate", "-w", str(path), "-m", "tiny_sparse"]) == 0
