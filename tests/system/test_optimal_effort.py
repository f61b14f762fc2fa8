"""``effort="optimal"``: never worse than the templates, and every figure still adds up."""

from __future__ import annotations

import math

import numpy as np
import pytest

from archsim.hardware import load_machine, resolve
from archsim.system import NetworkEvaluator, evaluate
from archsim.workload.graph import Operation, Tensor, Workload, conv2d_einsum, matmul_einsum


def network() -> Workload:
    """A convolution and a matrix product, both small."""
    conv = conv2d_einsum(
        "x", "k", "y", batch=1, groups=1, out_channels=8, in_channels=4, out_size=(6, 1),
        kernel=(3, 1),
    )  # fmt: skip
    gemm = matmul_einsum("y2", "w", "z", rows=6, inner=8, columns=10)
    shapes = {"x": (1, 4, 8, 1), "k": (8, 4, 3, 1), "y": (1, 8, 6, 1), "y2": (6, 8), "w": (8, 10),
              "z": (6, 10)}  # fmt: skip
    operations = (
        Operation("conv", "conv2d", ("x", "k"), ("y",), einsum=conv),
        Operation("gemm", "gemm", ("y2", "w"), ("z",), einsum=gemm),
    )
    tensors = {name: Tensor(name, shape) for name, shape in shapes.items()}
    return Workload("pair", tensors, operations)


@pytest.fixture(autouse=True)
def _no_files(monkeypatch):
    monkeypatch.setenv("ARCHSIM_CACHE", "off")


@pytest.mark.parametrize("objective", ["edp", "energy", "latency"])
def test_optimal_is_never_worse_and_adds_up(objective):
    costs = {
        effort: evaluate(network(), "tiny", effort=effort, objective=objective)
        for effort in ("fast", "thorough", "optimal")
    }
    best = costs["optimal"]
    figure = {"edp": "edp_js", "energy": "energy_j", "latency": "latency_s"}[objective]
    if objective == "edp":  # layer by layer; products of sums need not follow
        pairs = zip(best.layers, costs["thorough"].layers, strict=True)
        assert all(a.energy_j * a.latency_s <= b.energy_j * b.latency_s * (1 + 1e-9)
                   for a, b in pairs)  # fmt: skip
    else:
        assert getattr(best, figure) <= getattr(costs["thorough"], figure) * (1 + 1e-4)
        assert getattr(best, figure) <= getattr(costs["fast"], figure) * (1 + 1e-4)
    assert best.feasible
    assert math.isclose(sum(best.energy_by_component_j.values()), best.energy_j, rel_tol=1e-9)
    assert math.isclose(sum(x.latency_s for x in best.layers), best.latency_s, rel_tol=1e-9)


def test_alone_and_in_a_batch_the_figures_are_the_same():
    sizes = np.array([64, 256])
    engines = resolve(load_machine("tiny"), {"engines.array.slots.buffer.capacity_bytes": sizes})
    evaluator = NetworkEvaluator([network()], effort="optimal")
    both = evaluator.evaluate(engines)
    for row in range(2):
        alone = evaluator.evaluate(engines.take([row]))
        assert all(alone[name][0] == both[name][row] for name in both)
