"""Launches of a step: they add up to it, count what its graph counts, and keep the roof."""

from __future__ import annotations

import numpy as np
import pytest

from archsim.envs import as_problem
from archsim.hardware import load_machine
from archsim.system.llm import evaluate_step
from archsim.system.llm.launches import launches_of, roof_of
from archsim.system.llm.resolved import resolved
from archsim.system.llm.rows import Plans
from archsim.workload.fold import unfold
from archsim.workload.huggingface import load_model
from archsim.workload.steps import Bits, requests_of


@pytest.mark.parametrize("model", ["llama-2-7b", "mixtral-8x7b", "deepseek-v3", "mamba-2.8b"])
@pytest.mark.parametrize(("phase", "batch", "context"), [("decode", 8, 2048), ("prefill", 1, 512)])
def test_launches_add_up_to_the_step(model: str, phase: str, batch: int, context: int) -> None:
    ready = resolved(load_machine("h100"), Bits())
    loaded = load_model(model)
    found = launches_of(loaded, ready, Plans.of("tp1"), phase=phase, batch=batch, context=context)
    cost = evaluate_step(model, "h100", phase=phase, batch=batch, context=context)
    assert sum(part.latency_s for part in found) == pytest.approx(cost.latency_s[0], rel=1e-12)
    assert sum(part.bytes_moved for part in found) == pytest.approx(cost.traffic_bytes[0])
    graph = unfold(loaded.step(requests_of(phase, batch, context)))
    macs = sum(part.macs for part in found)
    if phase == "decode" or model == "mamba-2.8b":
        assert macs == pytest.approx(graph.macs, rel=1e-12)
    else:  # of each head's square of new tokens, the mask leaves (n + 1) / 2n
        attend = next(part.macs for part in found if part.name.endswith(".attend"))
        full = attend * 2 * context / (context + 1)
        assert macs - attend + full == pytest.approx(graph.macs, rel=1e-12)


def test_no_launch_breaks_through_its_roof() -> None:
    ready = resolved(load_machine("h100"), Bits())
    roof = roof_of(ready)
    assert roof.peak_macs_per_s == pytest.approx(989.4e12 / 2)
    assert roof.bandwidth_bytes_per_s == pytest.approx(3.352e12)
    for phase, batch in (("prefill", 16), ("decode", 64)):
        parts = launches_of(
            load_model("llama-2-7b"), ready, Plans.of("tp1"), phase=phase, batch=batch,
            context=8192,
        )  # fmt: skip
        for part in parts:
            assert part.macs <= roof.peak_macs_per_s * part.latency_s
            assert part.bytes_moved <= roof.bandwidth_bytes_per_s * part.latency_s * 1.001
        bounds = {part.name: part.bound for part in parts}
        assert bounds["mlp.up"] == ("compute" if phase == "prefill" else "memory")


def test_problems_give_what_their_steps_launch() -> None:
    problem = as_problem("llm_weight_bits")
    design = problem.space.sample(np.random.default_rng(2))
    _, parts = problem.roofline(design)
    assert sum(part.latency_s for part in parts) == pytest.approx(
        problem.evaluate(design)["tpot_s"][0], rel=1e-12
    )
    chip = as_problem("llm_chip")
    _, parts = chip.roofline(None)
    assert {part.name.split(": ")[0] for part in parts} == {"prefill", "decode"}
    # units in the memory have a roof of their own
    assert as_problem("llm_pim_glam").roofline(None)[1] == []
