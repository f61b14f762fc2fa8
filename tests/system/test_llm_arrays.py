"""Language-model steps on dot-product arrays: as the graph's products one by one, and the laws."""

from __future__ import annotations

import numpy as np
import pytest

from archsim.errors import InputError
from archsim.system import evaluate
from archsim.system.llm import evaluate_step
from archsim.workload import load_workload
from archsim.workload.steps import Bits

QUANTISED = Bits(4.0625, 16, 8, embedding=4.0625)


@pytest.mark.parametrize(
    ("machine", "bits", "phase"),
    [
        ("bitmod", QUANTISED, "decode"),
        ("bitmod", QUANTISED, "prefill"),
        ("fp16_array", Bits(), "decode"),
        ("fp16_array", Bits(), "prefill"),
    ],
)
def test_a_step_takes_what_its_graph_takes(machine, bits, phase):
    step = evaluate_step("opt-1.3b", machine, phase=phase, context=256, bits=bits)
    graph = evaluate(load_workload(f"opt-1.3b:{phase}:256"), machine)
    for call, part in (("mixer.out", "out"), ("mlp.up", "up"), ("head", "head")):
        layers = [x.latency_s for x in graph.layers if x.name.split(".")[-1] == part]
        assert step.calls_s[call][0] == pytest.approx(sum(layers), rel=0.01)
    # Vector operations are fused into layers there, and three projections read an input once here.
    assert step.latency_s[0] == pytest.approx(graph.latency_s, rel=0.05)
    assert step.energy_j[0] == pytest.approx(graph.energy_j, rel=0.05)


def test_rows_are_what_each_is_alone():
    given = {
        "engines.array.rows": [16, 32, 64],
        "tiers.dram.bandwidth_bytes_per_s": [1e10, 3e10, 9e11],
    }
    together = evaluate_step(
        "llama-3-8b", "bitmod", phase="prefill", context=[64, 128, 500], bits=QUANTISED,
        overrides=given,
    )  # fmt: skip
    for row, context in enumerate([64, 128, 500]):
        alone = evaluate_step(
            "llama-3-8b", "bitmod", phase="prefill", context=context, bits=QUANTISED,
            overrides={path: values[row] for path, values in given.items()},
        )  # fmt: skip
        assert alone.latency_s[0] == pytest.approx(together.latency_s[row], rel=1e-12)
        assert alone.energy_j[0] == pytest.approx(together.energy_j[row], rel=1e-12)


@pytest.mark.parametrize("model", ["llama-2-7b", "mixtral-8x7b"])
@pytest.mark.parametrize("phase", ["prefill", "decode"])
def test_fewer_bits_never_cost_more(model, phase):
    costs = [
        evaluate_step(
            model, "bitmod", phase=phase, context=512, bits=Bits(bits, 16, 8), strict=False
        )
        for bits in (3.0625, 4.0625, 6.0625, 8.0625, 16)
    ]
    for metric in ("latency_s", "energy_j"):
        column = np.array([getattr(cost, metric)[0] for cost in costs])
        assert (np.diff(column) >= 0).all()
        assert column[-1] > column[0]


@pytest.mark.parametrize("model", ["deepseek-v2", "mamba-2.8b"])
def test_other_mixers_are_priced(model):
    cost = evaluate_step(model, "bitmod", context=256, bits=QUANTISED, strict=False)
    assert np.isfinite(cost.latency_s).all()
    assert cost.latency_s[0] > 0


@pytest.mark.parametrize(
    ("machine", "bits", "words"),
    [("bitmod", Bits(4, 32, 8), "wider than the inputs"), ("spatten", Bits(), "not priced")],
)
def test_what_cannot_be_priced_is_refused_in_words(machine, bits, words):
    with pytest.raises(InputError, match=words):
        evaluate_step("gpt2", machine, context=64, bits=bits)
