"""Language models on spatial engines, every product mapped as a loop nest."""

import numpy as np
import pytest

from archsim.errors import InputError
from archsim.hardware import load_machine
from archsim.system import evaluate
from archsim.system.llm import Share, evaluate_step
from archsim.workload import Bits, load_model


def run(name="yi-6b", machine="tpu_v4i", **options):
    given = {"context": 2048, "effort": "fast", **options}
    return evaluate_step(name, machine, **given)


def test_products_cost_what_the_main_job_says():
    # the same step as a graph: matrix products and attention by name, all layers
    model = load_model("yi-6b")
    graph = evaluate(model.workload("decode", context=2048), "tpu_v4i")
    seconds: dict[str, float] = {}
    for layer in graph.layers:
        part = layer.name.split(".", 2)[-1]
        seconds[part] = seconds.get(part, 0.0) + layer.latency_s
    ours = run().calls_s
    for call, parts in {
        "mixer.qkv": ["attention.qkv"],
        "mixer.out": ["attention.out"],
        "mlp.up": ["mlp.gate_up"],
        "mlp.down": ["mlp.down"],
        "mixer.attend": ["attention.scores", "attention.values_sum"],
        "head": ["head"],
    }.items():
        expected = sum(seconds[part] for part in parts)
        assert ours[call][0] == pytest.approx(expected, rel=0.06 if "attend" in call else 1e-3)


@pytest.mark.parametrize(("phase", "batch"), [("decode", 1), ("decode", 48), ("prefill", 1)])
def test_no_mapping_beats_the_roofline(phase, batch):
    options = {"phase": phase, "batch": batch, "context": 512}
    bound, mapped = run(effort=None, **options), run(**options)
    # a graph counts all pairs of a prompt; the roofline half of them
    for name in ("mixer.qkv", "mixer.out", "mlp.up", "mlp.down", "head"):
        assert mapped.calls_s[name][0] >= bound.calls_s[name][0] * (1 - 1e-9)
    assert mapped.latency_s[0] < 2.5 * bound.latency_s[0]
    assert mapped.energy_j[0] > bound.energy_j[0]  # buffers cost as well
    once = mapped.latency_s - mapped.parts_s["pipeline"]
    assert once == pytest.approx(sum(mapped.bound_s.values()))


def test_few_rows_waste_an_array():
    # 128 rows a unit: one token fills a row of work, and the array waits for weights
    cost = run("llama-2-7b", "tpu_v4ix4", plan="tp4", batch=[1, 256], context=1024)
    per_token = cost.latency_s / cost.tokens
    assert per_token[0] > 20 * per_token[1]
    single = run("llama-2-7b", "tpu_v4ix4", plan="tp4", batch=1, context=1024)
    assert single.latency_s[0] == pytest.approx(cost.latency_s[0], rel=1e-12)


def test_mixed_steps_and_experts_are_mapped_too():
    cost = run(batch=4, beside=[Share([1, 0], 256, 512)])
    assert cost.latency_s[0] > cost.latency_s[1]
    assert cost.latency_s[1] == pytest.approx(run(batch=4).latency_s[0])
    experts = run("mixtral-8x7b", "tpu_v4ix4", plan="tp4", batch=8)
    assert experts.calls_s["moe.experts"][0] > 0.3 * experts.latency_s[0]
    assert np.isfinite(experts.energy_j).all()


def test_narrow_weights_are_read_faster():
    wide, narrow = (run(bits=Bits(weight=w)) for w in (16, 8))
    assert narrow.latency_s[0] < 0.65 * wide.latency_s[0]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"machine": "h100"}, "only spatial engines"),
        ({"effort": "heroic"}, "effort"),
        ({"bits": Bits(weight=4.0625)}, "whole bits"),
        ({"overrides": {"tiers.hbm.bandwidth_bytes_per_s": [1e12]}}, "not mapped"),
    ],
)
def test_a_mistake_is_named(options, words):
    with pytest.raises(InputError, match=words):
        run(**options)


def test_an_eyeriss_like_array_can_serve():
    # the row-stationary array of the main job behind a memory that holds a model
    small = load_machine("eyeriss")
    tier = small.tiers[0].name
    machine = small.with_values({f"tiers.{tier}.capacity_bytes": 8e9})
    cost = evaluate_step("opt-1.3b", machine, context=256, effort="fast")
    assert cost.fits[0]
    assert cost.latency_s[0] > 2 * load_model("opt-1.3b").parameters / 1e11
