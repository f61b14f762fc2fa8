"""Widths of weights, activations and caches as choices, and published perplexity as a metric."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from archsim.envs.llm import LLMProblem
from archsim.envs.scenario import load_scenario
from archsim.errors import InputError
from archsim.system.llm import evaluate_step
from archsim.workload.quality import perplexity
from archsim.workload.steps import Bits

STEP = {"model": "llama-2-7b", "phase": "decode", "batch": 4, "context": 2048, "name": "decode"}
WIDTHS = {"weight": [3, 4, 8, 16], "activation": [8, 16], "kv": [4, 8, 16]}


def scenario(widths: dict[str, Any] = WIDTHS, **fields: Any) -> dict:
    chosen = [
        {"name": f"{n}_bits", "bits": n, "values": v, "role": "mapping"} for n, v in widths.items()
    ]
    base = {
        "name": "widths",
        "environment": "llm_system",
        "machine": "h100",
        "steps": [STEP],
        "parameters": chosen,
        "objective": {"minimize": ["tpot_s"]},
    }
    return {**base, **fields}


def test_every_width_is_priced_as_a_step_in_those_bits() -> None:
    problem = LLMProblem(scenario())
    designs = np.concatenate(list(problem.space.batches()))
    np.random.default_rng(1).shuffle(designs)
    found = problem.evaluate(designs)
    for row, design in enumerate(designs):
        v = problem.space.decode(design)
        bits = Bits(v["weight_bits"], v["activation_bits"], v["kv_bits"])
        cost = evaluate_step("llama-2-7b", "h100", batch=4, context=2048, bits=bits)
        assert found["tpot_s"][row] == cost.latency_s[0]
        assert found["energy_j"][row] == cost.energy_j[0]
        assert found["memory_share"][row] == cost.held_share[0]
        assert problem.evaluate(design)["reward"][0] == found["reward"][row]
    assert problem.reference_metrics["tpot_s"] == found["tpot_s"][(designs == [3, 1, 2]).all(1)][0]


def test_fewer_bits_are_never_slower_and_never_hold_more() -> None:
    problem = LLMProblem(scenario({"weight": [3, 4, 8, 16], "kv": [4, 8, 16]}))
    tpot, held = (
        problem.evaluate(np.concatenate(list(problem.space.batches())))[n].reshape(4, 3)
        for n in ("tpot_s", "memory_share")
    )
    for values in (tpot, held):
        assert (np.diff(values, axis=0) > 0).all()
        assert (np.diff(values, axis=1) >= 0).all()


def test_perplexity_is_what_is_published_and_metadata_is_stored() -> None:
    quality = {"format": "int", "group_size": 128, "metadata_bits": 24}
    objective = {"minimize": ["perplexity", "tpot_s"]}
    problem = LLMProblem(
        scenario({"weight": [3, 4, 6, 8, 16]}, quality=quality, objective=objective)
    )
    found = problem.evaluate(np.arange(5)[:, None])
    assert found["perplexity"].tolist() == [7.08, 5.77, 5.49, 5.47, 5.47]
    assert found["perplexity"].tolist() == perplexity(
        "llama-2-7b", "int", [3, 4, 6, 8, 16], 128
    ).tolist()  # fmt: skip
    assert problem.reference_metrics["perplexity"] == 5.47
    stored = evaluate_step(
        "llama-2-7b", "h100", batch=4, context=2048, bits=Bits(4 + 24 / 128, 16, 16)
    )
    assert found["tpot_s"][1] == stored.latency_s[0]
    plain = LLMProblem(scenario({"weight": [3, 4, 6, 8, 16]}))
    assert found["tpot_s"][4] == plain.evaluate([[4]])["tpot_s"][0]  # 16 bits have no metadata


def test_the_digest_of_scenarios_without_widths_stays_what_it_was() -> None:
    found = LLMProblem("llm_405b_node").content()
    assert "quality" not in found
    assert not any("bits" in spec for spec in found["parameters"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"widths": {"weight": [5, 16]}, "quality": {"format": "int"}}, "no published perplexity"),
        ({"widths": {"weight": [4]}, "quality": {"format": "fp4"}}, "quality.format"),
        ({"quality": {"format": "int"}}, "weights alone"),
        (
            {"widths": {"weight": [4]}, "quality": {"format": "int"},
             "bits": {"weight": 16, "activation": 8}},
            "weights alone",
        ),
        (
            {"widths": {"weight": [4]}, "quality": {"format": "int"},
             "steps": [{**STEP, "model": "mixtral-8x7b"}]},
            "no published perplexity",
        ),
        ({"widths": {"weight": [0, 4]}}, r"bits must lie in \(0"),
        ({"widths": {"weight": ["four"]}}, "not values of what it sets"),
        ({"widths": {"scales": [4]}}, "bits"),
        ({"widths": {"activation": [128]}}, "no format this wide"),
        ({"objective": {"minimize": ["perplexity"]}}, "no such metric"),
    ],
)  # fmt: skip
def test_wrong_widths_are_input_errors(change: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        LLMProblem(scenario(**change)).evaluate([[0]])


def test_the_shipped_scenario_trades_quality_for_area() -> None:
    problem = LLMProblem("llm_weight_bits")
    designs = problem.space.sample(np.random.default_rng(0), 2000)
    found = problem.evaluate(designs)
    least = {}
    for bits in (3, 4, 16):
        rows = (found["perplexity"] == problem.scenario.quality.perplexity("llama-2-13b", bits)) & (
            found["feasible"]
        )
        least[bits] = found["area_mm2"][rows].min()
    assert least[3] < least[4] < least[16]
    assert load_scenario("llm_weight_bits").metric_names()[-1] == "perplexity"
