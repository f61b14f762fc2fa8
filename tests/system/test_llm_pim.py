"""Memories that compute beside a processor: laws of the split, and continuous batching."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from archsim.errors import InputError
from archsim.hardware import load_machine, resolve_node
from archsim.system.llm import evaluate_step
from archsim.system.llm.continuous import fullest_share, serve_continuously, walk_stages
from archsim.system.llm.mixed import Share
from archsim.system.llm.pim import dealt, expert_loads

MODELS = ["mixtral-8x7b", "glam-8b-64e", "llama-3-8b", "deepseek-v2"]
LEVELS = ["duplex", "bank_pim", "bankgroup_pim"]


@st.composite
def steps(draw):
    rows = 4
    sizes = {
        "batch": draw(st.lists(st.integers(1, 256), min_size=rows, max_size=rows)),
        "context": draw(st.lists(st.integers(1, 16384), min_size=rows, max_size=rows)),
    }
    beside = []
    if draw(st.booleans()):
        prompts = draw(st.lists(st.integers(0, 3), min_size=rows, max_size=rows))
        beside = [Share(prompts, 512, 1024)]
    model = draw(st.sampled_from(MODELS))
    machine = f"{draw(st.sampled_from(LEVELS))}x4"
    plan = draw(st.sampled_from(["tp4", "tp4ep4", "tp2dp2ep2"]))
    return model, machine, {**sizes, "beside": beside, "plan": plan}


def run(case, **values):
    model, machine, sizes = case
    found = load_machine(machine).with_values({f"engines.pim.{k}": v for k, v in values.items()})
    return evaluate_step(model, found, **sizes)


@given(steps())
@settings(max_examples=12, deadline=None)
def test_units_that_cannot_compute_are_as_good_as_none(case):
    model, _, sizes = case
    alone = evaluate_step(model, "duplex_gpux4", **sizes)
    for values in ({"macs": 0}, {"bandwidth_scale": 0}, {"efficiency": 0}, {"policy": "off"}):
        none = run(case, **values)
        assert none.latency_s.tolist() == alone.latency_s.tolist()
        assert none.energy_j.tolist() == alone.energy_j.tolist()


@given(steps())
@settings(max_examples=12, deadline=None)
def test_the_split_is_never_worse_than_either_side_or_no_split(case):
    split, offload, off = (run(case, policy=p).latency_s for p in ("split", "offload", "off"))
    assert (split <= offload * (1 + 1e-9)).all()
    assert (offload <= off * (1 + 1e-9)).all()
    for part in ("experts", "attention"):
        times = [run(case, policy=p).parts_s.get(part, np.zeros(1)) for p in ("split", "off")]
        assert (times[0] <= times[1] * (1 + 1e-9)).all()


@given(steps())
@settings(max_examples=10, deadline=None)
def test_more_of_anything_never_takes_longer_and_parts_sum_up(case):
    base = run(case)
    for values in ({"macs": 65536}, {"bandwidth_scale": 32.0}, {"start_latency_s": 0.0}):
        assert (run(case, **values).latency_s <= base.latency_s * (1 + 1e-9)).all()
    for parts in (base.parts_s, base.bound_s):
        assert min(v.min() for v in parts.values()) > -1e-9
    assert sum(base.parts_s.values()) == pytest.approx(base.latency_s)
    assert sum(v for k, v in base.bound_s.items() if k != "pipeline") == pytest.approx(
        base.latency_s - base.parts_s["pipeline"]
    )


@given(steps())
@settings(max_examples=8, deadline=None)
def test_units_that_may_take_less_are_never_faster_and_coarse_splits_never_worse_than_none(case):
    every, experts, attention = (
        run(case, takes=takes, spaces=0).latency_s
        for takes in ("any", "experts_attention", "attention")
    )
    coarse, off = (
        run(case, takes="experts_attention", spaces=4, policy=policy).latency_s
        for policy in ("split", "off")
    )
    offload = run(case, takes="experts_attention", spaces=4, policy="offload").latency_s
    slack = 1 + 1e-9
    for faster, slower in (
        (every, experts), (experts, attention), (attention, off), (coarse, offload), (offload, off),
    ):  # fmt: skip
        assert (faster <= slower * slack).all()


def test_what_units_may_not_take_stays_with_the_processor():
    rows = {"context": 1024, "plan": "tp4", "batch": [1, 16]}
    machine = load_machine("duplexx4")
    alone = evaluate_step("mixtral-8x7b", "duplex_gpux4", **rows).parts_s
    for takes, moved in (
        ("experts_attention", {"experts", "attention"}),
        ("attention", {"attention"}),
    ):
        helped = machine.with_values({"engines.pim.takes": takes})
        parts = evaluate_step("mixtral-8x7b", helped, **rows).parts_s
        for name in ("projections", "experts", "attention"):
            faster = (parts[name] < 0.6 * alone[name]).all()
            assert faster == (name in moved), (takes, name)


def test_dealing_keeps_every_load_and_its_parts_together():
    experts, spaces = np.array([8.0, 3.0, 10.0]), np.array([4.0, 4.0, 0.0])
    loads = expert_loads(experts, np.array([64.0, 64.0, 64.0]))
    found, ends = dealt(loads, experts, spaces)
    assert np.sort(found, axis=0).tolist() == np.sort(loads, axis=0).tolist()
    # Two absent experts, then four parts of two; each alone where there are parts enough, or none.
    assert ends[:, 0].tolist() == [True] * 3 + [False, True] * 4
    assert ends[:, 1:].all()
    sums = [part.sum() for part in np.split(found[2:, 0], 4)]
    assert sums == sorted(sums)


def test_a_share_of_the_bandwidth_slows_what_memory_binds_as_much():
    rows = {"context": 4096, "plan": "tp4", "batch": 8}
    machine = load_machine("duplex_gpux4")
    slow = machine.with_values({"engines.xpu.memory_efficiency": 0.5})
    whole, half = (evaluate_step("mixtral-8x7b", m, **rows).parts_s for m in (machine, slow))
    for name in ("experts", "attention", "projections"):
        assert half[name][0] == pytest.approx(2 * whole[name][0], rel=0.02)


def test_beyond_its_operations_a_byte_a_unit_gains_nothing():
    # 7.9 operations a byte of FP16 weights, one a token: at 32 tokens the processor is as fast.
    figures = resolve_node(load_machine("duplex")).engines["pim"]
    rows = {"model": "llama-2-7b", "context": 1, "plan": "tp1", "batch": [1, 2, 4, 64, 256, 1024]}
    gains = (
        evaluate_step(machine="duplex_gpu", **rows).parts_s["mlp"]
        / evaluate_step(machine="duplex", **rows).parts_s["mlp"]
    )
    assert gains[:3] == pytest.approx(float(figures["bandwidth_factor"][0]), rel=0.01)
    assert (np.diff(gains) <= 1e-9).all()
    assert gains[3:] == pytest.approx(1.0)


def test_commands_cost_more_than_the_roofline_and_no_more_than_the_closed_form_says():
    rows = {"context": 4096, "plan": "tp4", "batch": [1, 8, 64]}
    roofline = load_machine("duplexx4")
    issued = roofline.with_values({"engines.pim.fidelity": "commands"})
    ideal, real = (evaluate_step("mixtral-8x7b", m, **rows) for m in (roofline, issued))
    ratio = real.latency_s / ideal.latency_s
    assert (ratio > 1.02).all()
    assert (ratio < 1.6).all()
    with pytest.raises(InputError, match="product"):
        load_machine("bank_pimx4").with_values({"engines.pim.fidelity": "commands"})


def test_rates_and_area_follow_from_the_parts():
    figures = resolve_node(load_machine("duplex")).engines["pim"]
    assert figures["flops_per_s"][0] / 5 == pytest.approx(21.3e12, rel=0.001)
    assert figures["area_mm2"][0] / 5 == pytest.approx(17.80, rel=0.001)
    more = resolve_node(load_machine("duplex"), {"engines.pim.bandwidth_scale": [2.0, 8.0]})
    assert np.diff(more.engines["pim"]["area_mm2"]) == pytest.approx(5 * 10.89 * 1.5)


def test_loads_of_experts_are_those_of_drawn_tokens():
    rng = np.random.default_rng(1)
    for experts, pairs in ((8, 64), (16, 400), (64, 64)):
        drawn = np.sort(rng.multinomial(pairs, [1 / experts] * experts, 3000), axis=1).mean(0)
        ours = expert_loads(np.array([float(experts)]), np.array([float(pairs)]))[:, 0]
        assert ours.sum() == pytest.approx(pairs)
        assert np.abs(ours - drawn).max() <= 0.15 * drawn.max()
        assert fullest_share(experts, np.array([float(pairs)]))[0] == pytest.approx(
            drawn[-1] * experts / pairs, rel=0.3
        )


def test_stages_keep_the_batch_full_and_replace_what_ends():
    stages = walk_stages(48, 300, 120, seed=2)
    assert stages.weight.sum() == pytest.approx(1)
    assert stages.prompts + stages.decoding == pytest.approx(48)
    # Every request takes one stage with its prompt and one for every further token.
    assert stages.weight @ stages.prompts == pytest.approx(48 / 120, rel=0.05)
    mean = stages.weight @ (stages.decoding * stages.context) / (stages.weight @ stages.decoding)
    assert mean == pytest.approx(300 + 60, rel=0.05)
    with pytest.raises(InputError):
        walk_stages(0, 1, 1)


def test_serving_a_mix_adds_up_its_stages():
    mixes = [walk_stages(32, 256, 256), walk_stages(64, 512, 256)]
    both = serve_continuously("mixtral-8x7b", "duplexx4", mixes, "tp4")
    one = serve_continuously("mixtral-8x7b", "duplexx4", mixes[1], "tp4")[0]
    assert one.tokens_per_s == pytest.approx(both[1].tokens_per_s)
    assert one.tokens_per_s == pytest.approx(64 / one.stage_s, rel=0.01)
    plain = serve_continuously("mixtral-8x7b", "duplex_gpux4", mixes[1], "tp4")[0]
    assert one.tokens_per_s > 1.5 * plain.tokens_per_s
    assert one.joules_per_token < plain.joules_per_token


def test_groups_that_wait_take_longer_but_no_more_energy():
    mix = walk_stages(32, 256, 256)
    even = evaluate_step("mixtral-8x7b", "duplex_gpux4", batch=32, context=384, plan="tp4ep4")
    done = serve_continuously("mixtral-8x7b", "duplex_gpux4", mix, "tp4ep4")[0]
    cut = serve_continuously("mixtral-8x7b", "duplex_gpux4", mix, "tp4")[0]
    assert done.stage_s > even.latency_s[0]
    assert done.joules_per_token == pytest.approx(cut.joules_per_token, rel=0.05)


def test_advice_names_what_of_the_units_helps():
    from archsim.system.llm.advice import savings

    machine = load_machine("duplex")
    few = savings("llama-3-8b", machine, batch=1, context=4096, plan="tp1")
    many = savings("llama-3-8b", machine, batch=16, context=4096, plan="tp1")
    assert few["pim bandwidth"] > 0.05 > few.get("pim multipliers", 0.0)
    assert many["pim multipliers"] > 0.03


def test_a_gpu_of_measured_kernels_takes_units_beside_it():
    text = load_machine("h100x4").model_dump(mode="json")
    text["engines"].append(load_machine("duplex").model_dump(mode="json")["engines"][1])
    from archsim.hardware import Machine

    machine = Machine.model_validate(text)
    sizes = {"batch": 32, "context": 2048, "plan": "tp4"}
    alone = evaluate_step("mixtral-8x7b", "h100x4", **sizes)
    helped = evaluate_step("mixtral-8x7b", machine, **sizes)
    assert helped.latency_s[0] < 0.7 * alone.latency_s[0]
    off = machine.with_values({"engines.pim.policy": "off"})
    same = evaluate_step("mixtral-8x7b", off, **sizes)
    assert same.latency_s[0] == pytest.approx(alone.latency_s[0], rel=1e-9)


def test_area_tells_units_in_memory_from_what_else_was_added():
    from archsim.system.llm.serving import ServedStep, Serving
    from archsim.workload.huggingface import load_model

    step = ServedStep("decode", load_model("mixtral-8x7b"), "decode", 8, 1024)
    shipped, node = load_machine("duplexx4"), resolve_node(load_machine("duplexx4"))
    units = 4 * node.engines["pim"]["area_mm2"][0]
    memory = {"tiers.hbm.channels": 96}
    for hardware, more in (({}, False), (memory, True)):
        done = Serving(shipped, [step]).evaluate(hardware, {"tensor": 4})
        areas = done.breakdown([1.0])["area_mm2"]
        assert areas["units in memory"] == pytest.approx(units)
        assert ("memory interfaces added" in areas) == more
        assert sum(areas.values()) == pytest.approx(done.metrics["area_mm2"][0])
