"""Costs of whole networks: parts sum to totals, everything is finite and can be explained."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from system_graphs import SIZE, conv, graph, odd_dimensions, residual, vector, view

from archsim.cli import main
from archsim.errors import InputError
from archsim.hardware import available_machines, load_machine, resolve
from archsim.system import NetworkEvaluator, evaluate
from archsim.workload import available_workloads, load_workload


def close(value):
    return pytest.approx(value, rel=1e-9, abs=1e-30)


def check_sums(cost):
    """Every breakdown of a cost sums to what it breaks down."""
    layers = cost.layers
    assert sum(layer.latency_s for layer in layers) == close(cost.latency_s)
    assert sum(layer.energy_j for layer in layers) == close(cost.energy_j)
    assert sum(cost.energy_by_component_j.values()) == close(cost.energy_j)
    assert sum(cost.area_by_component_mm2.values()) == close(cost.area_mm2)
    assert cost.power_w == close(cost.energy_j / cost.latency_s)
    assert cost.edp_js == close(cost.energy_j * cost.latency_s)
    assert cost.throughput_per_s == close(1 / cost.latency_s)
    for layer in layers:
        parts = layer.energy_by_component_j
        assert sum(parts.values()) == close(layer.energy_j)
        assert min(parts.values()) >= 0
        assert layer.cycles >= layer.compute_cycles
        assert 0 <= layer.utilization <= 1 + 1e-12
        traffic = sum(row.energy_j for row in layer.traffic)
        assert sum(layer.energy_by_tensor_j.values()) == close(traffic)
        for row in layer.traffic:
            assert min(row.reads, row.fills, row.updates, row.energy_j) >= 0
        assert bool(layer.macs) == (layer.mapping is not None)
        assert layer.bound in ("compute", "vector") or layer.bound in parts


@pytest.mark.parametrize("machine", available_machines("spatial"))
def test_parts_sum_to_totals(machine):
    for workload in ("squeezenet", "mobilenet_v2", "bert_base"):
        check_sums(evaluate(workload, machine))
    check_sums(evaluate(residual(), machine))


@pytest.mark.parametrize("machine", available_machines("spatial"))
def test_every_shipped_network_has_finite_costs(machine):
    engines = resolve(load_machine(machine))
    for name in available_workloads():
        workload = load_workload(name)
        found = NetworkEvaluator([workload]).evaluate(engines)
        for metric, values in found.items():
            assert np.isfinite(values).all(), (name, metric)
        assert found["latency_s"][0] > 0
        assert found["feasible"][0], name
        macs = workload.macs
        assert found["energy_j"][0] >= macs * engines.mac_energy_j[0]
        peak = engines.macs[0] * engines.clock_hz[0] / engines.mac_cycles[0]
        assert found["latency_s"][0] >= macs / peak * (1 - 1e-12)
        assert found["utilization"][0] == close(macs / (peak * found["latency_s"][0]))


def test_latency_is_at_least_the_tiers_time():
    for machine in available_machines("spatial"):
        cost = evaluate("resnet18", machine)
        bandwidth = resolve(load_machine(machine)).tier_bandwidth_bytes_per_s[0]
        for layer in cost.layers:
            assert layer.latency_s >= layer.backing_bytes / bandwidth * (1 - 1e-9), layer.name


def test_the_tier_moves_at_least_every_weight_once():
    cost, workload = evaluate("vgg19", "tpu_v1"), load_workload("vgg19")
    tier = cost.layers[0].traffic[0].slot
    weights = sum(
        row.reads
        for layer in cost.layers
        for row in layer.traffic
        if (row.slot, row.operand) == (tier, "weight")
    )
    biases = sum(
        t.elements for t in workload.tensors.values() if t.role == "weight" and len(t.shape) == 1
    )
    assert weights >= workload.parameters - biases


def test_standby_power_of_the_tier_is_told_from_leakage():
    cost, engines = evaluate("squeezenet", "eyeriss"), resolve(load_machine("eyeriss"))
    parts = cost.energy_by_component_j
    assert parts["standby"] == close(float(engines.leakage_w[0, 0]) * cost.latency_s)
    on_chip = float(engines.leakage_w[0, 1:] @ engines.instances[0, 1:])
    on_chip += float(engines.mac_leakage_w[0] * engines.macs[0] + engines.vector_leakage_w[0])
    assert parts["leakage"] == close(on_chip * cost.latency_s)


def test_fusion_saves_traffic_and_never_costs():
    fused, apart = evaluate(residual(), "tiny"), evaluate(residual(), "tiny", fuse=False)
    assert fused.energy_j < apart.energy_j
    assert fused.latency_s <= apart.latency_s
    assert sum(x.backing_bytes for x in fused.layers) < sum(x.backing_bytes for x in apart.layers)
    assert [layer.fused for layer in fused.layers] == [("relu1",), ("scale", "add", "relu2")]
    assert sum(x.vector_ops for x in fused.layers) == sum(x.vector_ops for x in apart.layers)


def test_views_cost_nothing():
    plain = graph(conv("first", "x", "a"), conv("second", "a", "c"))
    viewed = graph(conv("first", "x", "a"), view("reshape", "a", "b"), conv("second", "b", "c"))
    assert evaluate(plain, "tiny").metrics == evaluate(viewed, "tiny").metrics


def test_equal_layers_cost_the_same_and_are_mapped_once():
    workload = graph(conv("one", "x", "a"), conv("two", "a", "b"), conv("three", "b", "c"))
    evaluator = NetworkEvaluator([workload])
    assert len(evaluator.table.problems) == 1
    layers = evaluate(workload, "tiny").layers
    assert len({layer.energy_j for layer in layers}) == 1
    single = evaluate(graph(conv("one", "x", "a")), "tiny")
    assert evaluate(workload, "tiny").latency_s == close(3 * single.latency_s)


def test_a_graph_of_vector_operations_only_is_evaluated():
    workload = graph(
        vector("relu", ["x"], "y"), vector("pool", ["y"], "z", "max_pool", fusable=False)
    )
    for machine in available_machines("spatial"):
        cost = evaluate(workload, machine)
        check_sums(cost)
        assert cost.feasible
        assert cost.utilization == 0
        assert cost.latency_s > 0
        assert cost.energy_by_component_j["mac"] == 0
        assert all(layer.mapping is None for layer in cost.layers)
    assert "vector" in cost.explain() or "dram" in cost.explain()


def test_copies_cost_the_tiers_bandwidth():
    workload = graph(vector("copy", ["x"], "y", "concat", fusable=False, vector_ops=0))
    engines = resolve(load_machine("tiny"))
    cost = evaluate(workload, "tiny")
    bits = engines.bits[0]
    moved = SIZE * (bits[0] + bits[2]) / 8
    assert cost.layers[0].backing_bytes == moved
    assert cost.latency_s == close(moved / engines.tier_bandwidth_bytes_per_s[0])
    assert cost.layers[0].bound == "dram"


def test_a_graph_of_views_only_is_an_error():
    with pytest.raises(InputError, match="computes nothing"):
        evaluate(graph(view("reshape", "x", "y")), "tiny")


def test_dimensions_without_canonical_names_are_mapped():
    for machine in available_machines("spatial"):
        cost = evaluate(odd_dimensions(), machine)
        check_sums(cost)
        assert cost.feasible
        contract = cost.layers[0]
        assert contract.macs == 6 * 5 * 7
        assert "alpha" in str(contract.mapping)


def test_a_batch_scales_work_and_is_never_dearer_per_image():
    one, eight = evaluate("resnet18", "eyeriss", batch=1), evaluate("resnet18", "eyeriss", batch=8)
    assert sum(x.macs for x in eight.layers) == 8 * sum(x.macs for x in one.layers)
    assert sum(x.vector_ops for x in eight.layers) == 8 * sum(x.vector_ops for x in one.layers)
    assert one.latency_s < eight.latency_s
    assert one.energy_j < eight.energy_j
    assert eight.edp_js <= 8.02**2 * one.edp_js  # what mappings are chosen for
    with pytest.raises(InputError, match="batch"):
        evaluate(residual(), "tiny", batch=2)


def test_several_networks_are_weighted_sums():
    names, weights = ["squeezenet", "shufflenet", "resnet18"], [1.0, 2.5, 0.25]
    nets = [load_workload(name) for name in names]
    engines = resolve(load_machine("simba"))
    found = NetworkEvaluator(nets, weights).evaluate(engines)
    alone = [NetworkEvaluator([net]).evaluate(engines) for net in nets]
    for metric in ("latency_s", "energy_j"):
        parts = [a[metric][0] for a in alone]
        assert found[metric][0] == close(float(np.dot(weights, parts)))
        for name, part in zip(names, parts, strict=True):
            assert found[f"{metric}.{name}"][0] == close(part)
    assert found["throughput_per_s"][0] == close(sum(weights) / found["latency_s"][0])
    macs = sum(w * net.macs for w, net in zip(weights, nets, strict=True))
    peak = engines.macs[0] * engines.clock_hz[0] / engines.mac_cycles[0]
    assert found["utilization"][0] == close(macs / (peak * found["latency_s"][0]))


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (([], None), "at least one"),
        ((["tiny"], [1.0, 2.0]), "weight"),
        ((["tiny"], [0.0]), "weight"),
        ((["tiny"], [math.inf]), "weight"),
        ((["tiny"], None, None, "hard"), "effort"),
        ((["tiny"], None, None, "fast", "area"), "objective"),
    ],
)
def test_wrong_options_are_named(arguments, says):
    nets, *rest = arguments
    with pytest.raises(InputError, match=says):
        NetworkEvaluator([residual() for _ in nets], *rest)


def test_explanations_name_limits_and_shares():
    cost = evaluate("alexnet", "eyeriss")
    text = cost.explain()
    for word in ("energy by component", "time by what limits it", "area by component",
                 "dram", "leakage", "glb", "utilisation"):  # fmt: skip
        assert word in text
    limits = {layer.bound for layer in cost.layers}
    slowest = max(limits, key=lambda b: sum(x.latency_s for x in cost.layers if x.bound == b))
    assert text.split("time by what limits it")[1].split()[0] == slowest
    table = cost.table().splitlines()
    assert len(table) == 1 + len(cost.layers)
    assert str(cost.layers[0].mapping).startswith("[dram: input, weight, output]")


def test_costs_are_plain_json():
    cost = evaluate("squeezenet", "gemmini")
    data = json.loads(json.dumps(cost.to_dict(), allow_nan=False))
    assert data["latency_s"] == cost.latency_s
    assert data["feasible"] is True
    assert len(data["layers"]) == len(cost.layers)
    layer = next(x for x in data["layers"] if x["mapping"])
    slots = layer["mapping"]["slots"]
    done = math.prod(loop["bound"] for slot in slots for loop in slot["loops"])
    assert done >= layer["macs"]


def test_the_command_prints_the_same_cost(capsys):
    assert main(["evaluate", "-w", "squeezenet", "-m", "simba", "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed == json.loads(json.dumps(evaluate("squeezenet", "simba").to_dict()))
    assert main(["evaluate", "-w", "squeezenet", "-m", "simba", "--layers", "--mappings"]) == 0
    text = capsys.readouterr().out
    assert "time by what limits it" in text
    assert "parallel for" in text


def test_an_impossible_clock_is_infeasible_and_says_so():
    fast = load_machine("tiny").with_values({"clock_hz": 19e9})
    cost = evaluate(residual(), fast)
    assert not cost.feasible
    assert cost.violation > 0
    assert any("clock" in reason for reason in cost.reasons)
