"""Batches of steps in which every row has hardware, plan and sizes of its own."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from archsim.bench.llm import random_designs
from archsim.envs.scenario import SCENARIOS
from archsim.errors import InputError
from archsim.hardware import load_machine
from archsim.system.llm import Plan, Plans, evaluate_step
from archsim.system.llm.advice import savings
from archsim.system.llm.evaluate import BLOCK
from archsim.system.llm.resolved import resolved
from archsim.workload import Bits, load_model

GPU = {
    "tiers.hbm.bandwidth_bytes_per_s": (0.5e12, 9e12),
    "tiers.hbm.capacity_bytes": (16e9, 200e9),
    "tiers.host_dram.bandwidth_bytes_per_s": (5e10, 2e12),
    "engines.sm.sms": (16, 200),
    "engines.sm.clock_hz": (0.8e9, 2.5e9),
    "engines.sm.l2_bytes": (4e6, 2e8),
    "engines.sm.rates.bf16.flops_per_s": (1e14, 3e15),
    "links.nvlink.bandwidth_bytes_per_s": (2e10, 2e12),
    "links.nvlink.latency_s": (0.0, 5e-6),
    "links.pcie.bandwidth_bytes_per_s": (1e10, 5e11),
    "parts.gpu_chip.idle_w": (10.0, 300.0),
}
OTHER = {
    "tiers.hbm.bandwidth_bytes_per_s": (0.5e12, 9e12),
    "tiers.ddr.bandwidth_bytes_per_s": (2e10, 1e12),
    "engines.rdu.rates.bf16.flops_per_s": (1e14, 3e15),
    "links.peer_to_peer.bandwidth_bytes_per_s": (2e10, 2e12),
    "links.load.bandwidth_bytes_per_s": (1e10, 5e11),
}
CASES = [
    ("llama-3-70b", "h100x8", GPU, "host_dram"),
    ("deepseek-v3", "h100x8", GPU, "host_dram"),
    ("mixtral-8x7b", "a100x8", GPU, "host_dram"),
    ("minimax-text-01", "h100x8", GPU, "host_dram"),
    ("llama-3-8b", "sn40lx8", OTHER, "ddr"),
]


def random_rows(rng, ranges, far, rows):
    """Sizes, plans and hardware of random rows."""
    hardware = {}
    for path, (low, high) in ranges.items():
        values = rng.uniform(low, high, rows)
        hardware[path] = np.rint(values) if path.endswith("sms") else values
    tensor = rng.choice([1, 2, 4, 8], rows)
    data = np.minimum(8 // tensor, rng.choice([1, 2], rows))
    plan = {
        "tensor": tensor, "data": data, "pipeline": 8 // (tensor * data),
        "expert": rng.choice([1, 2], rows) * 0 + data, "micro_batches": rng.choice([1, 3], rows),
        "ladder": rng.random(rows) < 0.3, "weights": rng.choice(["", far], rows),
        "weights_share": rng.uniform(0, 1, rows), "cache": rng.choice(["", far], rows),
        "cache_share": rng.uniform(0, 1, rows),
    }  # fmt: skip
    new = rng.choice([1, 1, 7], rows)
    sizes = {"batch": rng.integers(1, 200, rows), "new": new,
             "context": new + rng.integers(0, 9000, rows)}  # fmt: skip
    return sizes, plan, hardware


def columns(cost):
    """Every array of a cost by name."""
    found = {}
    for name, value in vars(cost).items():
        if isinstance(value, np.ndarray):
            found[name] = value
        elif isinstance(value, dict):
            found |= {f"{name}.{key}": column for key, column in value.items()}
    return found


@pytest.mark.parametrize("phase", ["decode", "prefill"])
@pytest.mark.parametrize(("model", "machine", "ranges", "far"), CASES)
def test_a_row_of_a_batch_is_the_step_alone(model, machine, ranges, far, phase):
    rng = np.random.default_rng(5)
    sizes, plan, hardware = random_rows(rng, ranges, far, 24)
    model, machine = load_model(model), load_machine(machine)
    whole = columns(
        evaluate_step(model, machine, phase=phase, **sizes, plan=plan, overrides=hardware)
    )
    assert len(whole) > 20
    for row in range(0, 24, 5):
        one = {name: values[row] for name, values in sizes.items()}
        own = Plans.of({name: [values[row]] for name, values in plan.items()})
        alone = evaluate_step(
            model, machine, phase=phase, **one, plan=own,
            overrides={path: values[row] for path, values in hardware.items()},
        )  # fmt: skip
        for name, values in columns(alone).items():
            assert values[0] == whole[name][row], name


def test_changed_hardware_is_the_changed_machine():
    values = {"tiers.hbm.bandwidth_bytes_per_s": 5e12, "engines.sm.sms": 100,
              "engines.sm.rates.bf16.flops_per_s": 7e14, "links.nvlink.latency_s": 3e-6,
              "parts.gpu_chip.idle_w": 80.0, "tiers.hbm.capacity_bytes": 3e10}  # fmt: skip
    machine = load_machine("h100x8")
    options = {"batch": [8, 64], "context": [1024, 9000], "plan": "tp8+cache=host_dram:0.25"}
    given = evaluate_step("llama-3-70b", machine, overrides=values, **options)
    built = evaluate_step("llama-3-70b", machine.with_values(values), **options)
    for name, column in columns(given).items():
        assert column.tolist() == columns(built)[name].tolist(), name


def test_designs_resolved_before_price_alike():
    machine = load_machine("h100x8")
    hardware = {"tiers.hbm.bandwidth_bytes_per_s": np.array([2e12, 3e12, 8e12])}
    ready = resolved(machine, Bits(weight=8), hardware)
    for options in ({}, {"batch": [1, 2, 3]}, {"plan": {"tensor": [1, 2, 8]}}):
        found = evaluate_step("llama-3-8b", ready, **options)
        again = evaluate_step(
            "llama-3-8b", machine, bits=Bits(weight=8), overrides=hardware, **options
        )
        assert found.latency_s.tolist() == again.latency_s.tolist()
    with pytest.raises(InputError, match="as many values"):
        evaluate_step("llama-3-8b", ready, batch=[1, 2])
    with pytest.raises(InputError, match="have their bits"):
        evaluate_step("llama-3-8b", ready, bits=Bits())


def test_blocks_of_rows_are_put_together():
    batch = np.arange(1, BLOCK + 8)
    many = evaluate_step("llama-3-8b", "h100", batch=batch)
    last = evaluate_step("llama-3-8b", "h100", batch=batch[-9:])
    assert many.latency_s[-9:].tolist() == last.latency_s.tolist()
    assert len(many.tokens) == len(many.plans["tensor"]) == len(batch)


#: What is bettered alone, or (more SMs at the same rate each) together.
RATE = "engines.sm.rates.bf16.flops_per_s"
LAWS = ["tiers.hbm.bandwidth_bytes_per_s", "tiers.host_dram.bandwidth_bytes_per_s",
        "engines.sm.l2_bytes", RATE,
        "links.nvlink.bandwidth_bytes_per_s", "links.pcie.bandwidth_bytes_per_s",
        "engines.sm.sms"]  # fmt: skip


@given(
    st.sampled_from(CASES[:4]),
    st.sampled_from(LAWS),
    st.floats(1.0, 4.0),
    st.sampled_from(["decode", "prefill"]),
    st.integers(0, 2**32 - 1),
)
@settings(max_examples=30, deadline=None)
def test_better_hardware_is_never_slower(case, path, factor, phase, seed):
    model, machine, ranges, far = case
    sizes, plan, hardware = random_rows(np.random.default_rng(seed), ranges, far, 40)
    scaled = hardware[path] * factor
    better = {**hardware, path: np.ceil(scaled) if path == "engines.sm.sms" else scaled}
    if path == "engines.sm.sms":
        better[RATE] = hardware[RATE] * better[path] / hardware[path]
    before, after = (
        evaluate_step(model, machine, phase=phase, **sizes, plan=plan, overrides=values)
        for values in (hardware, better)
    )
    assert (after.latency_s <= before.latency_s * (1 + 1e-12)).all()


@given(st.sampled_from(CASES), st.integers(0, 2**32 - 1))
@settings(max_examples=20, deadline=None)
def test_capacity_costs_no_time_and_free_links_save_some(case, seed):
    model, machine, ranges, far = case
    sizes, plan, hardware = random_rows(np.random.default_rng(seed), ranges, far, 20)
    link = "nvlink" if ranges is GPU else "peer_to_peer"
    free = {f"links.{link}.bandwidth_bytes_per_s": 1e18, f"links.{link}.latency_s": 0.0}
    shipped = evaluate_step(model, machine, **sizes, plan=plan, overrides=hardware)
    roomy = evaluate_step(
        model, machine, **sizes, plan=plan,
        overrides={**hardware, "tiers.hbm.capacity_bytes": 1e15},
    )  # fmt: skip
    faster = evaluate_step(model, machine, **sizes, plan=plan, overrides={**hardware, **free})
    assert roomy.latency_s.tolist() == shipped.latency_s.tolist()
    assert (roomy.overflow_bytes <= shipped.overflow_bytes).all()
    assert (faster.latency_s <= shipped.latency_s * (1 + 1e-12)).all()
    power = shipped.tokens_per_s * shipped.joules_per_token
    assert power == pytest.approx(shipped.power_w, rel=1e-12)


@given(st.sampled_from(CASES), st.integers(0, 2**32 - 1))
@settings(max_examples=15, deadline=None)
def test_an_infinitely_fast_tier_equals_its_absence(case, seed):
    model, machine, ranges, far = case
    sizes, plan, hardware = random_rows(np.random.default_rng(seed), ranges, far, 20)
    link = "pcie" if far == "host_dram" else "load"
    fast = {f"tiers.{far}.bandwidth_bytes_per_s": 1e18, f"tiers.{far}.latency_s": 0.0,
            f"links.{link}.bandwidth_bytes_per_s": 1e18, f"links.{link}.latency_s": 0.0,
            f"tiers.{far}.write_bandwidth_bytes_per_s": 1e18,
            "tiers.hbm.write_bandwidth_bytes_per_s": 1e18, "tiers.hbm.latency_s": 0.0}  # fmt: skip
    hardware |= fast
    hardware["tiers.hbm.bandwidth_bytes_per_s"] = np.full(20, 1e18)
    near = {**plan, "weights": "", "cache": ""}
    # with memory read at no cost nothing hides the fetches, and they still take no time
    costs = [
        evaluate_step(model, machine, **sizes, plan=p, overrides=hardware) for p in (plan, near)
    ]
    assert costs[0].latency_s == pytest.approx(costs[1].latency_s, rel=1e-9)


@pytest.mark.parametrize(
    ("role", "share"), [("weights", 0.5), ("weights", 1.0), ("cache", 0.5), ("cache", 1.0)]
)
def test_shares_in_another_tier_free_room_and_take_their_way(role, share):
    options = {"machine": "h100x8", "batch": 64, "context": 8192}
    near = evaluate_step("llama-3-70b", plan="tp8", **options)
    far = evaluate_step("llama-3-70b", plan=f"tp8+{role}=host_dram:{share}", **options)
    ends = 2 * 128256 * 8192 * 2 / 8 if role == "weights" else 0.0  # these stay
    held, left = near.memory_bytes[role][0] - ends, far.memory_bytes[role][0] - ends
    # what runs and what comes next is held: two layers of eighty
    assert left == pytest.approx((1 - share + share * 2 / 80) * held, rel=0.05)
    moved = share * held * (8191 / 8192 if role == "cache" else 1)
    pcie = 32e9 * 128 / 130 / 8 * 16
    waited = far.parts_s["streaming"][0]
    assert waited == pytest.approx(moved / pcie - (near.latency_s[0]), rel=0.15)
    assert far.energy_j[0] > near.energy_j[0]
    none = evaluate_step("llama-3-70b", plan=f"tp8+{role}=host_dram:0", **options)
    assert none.latency_s[0] == near.latency_s[0]
    assert none.memory_bytes[role][0] == near.memory_bytes[role][0]


def test_a_recurrent_state_elsewhere_is_fetched_and_put_back_whole():
    model = load_model("mamba-2.8b")
    cost = evaluate_step(model, "h100", batch=256, context=8192, plan="tp1+cache=host_dram")
    state = 256 * model.cache_bytes_per_request if hasattr(model, "cache_bytes_per_request") else (
        evaluate_step(model, "h100", batch=256, context=8192).memory_bytes["cache"][0]
    )  # fmt: skip
    pcie = 32e9 * 128 / 130 / 8 * 16
    near = evaluate_step(model, "h100", batch=256, context=8192).latency_s[0]
    assert cost.parts_s["streaming"][0] == pytest.approx(2 * state / pcie - near, rel=0.05)


def test_rows_beyond_the_machine_are_graded_or_refused():
    plan = {"tensor": [8, 16, 64], "pipeline": [1, 1, 100], "expert": [1, 3, 1]}
    cost = evaluate_step("llama-3-8b", "h100x8", plan=plan, strict=False)
    assert np.isfinite(cost.latency_s).all()
    assert np.isfinite(cost.energy_j).all()
    summed = sum(cost.excess.values())
    assert summed[0] == 0 < summed[1] < summed[2]
    assert cost.excess["more devices than the machine has"][1] == pytest.approx(np.log(2))
    with pytest.raises(InputError, match="more devices than the machine has"):
        evaluate_step("llama-3-8b", "h100x8", plan=plan)
    with pytest.raises(InputError, match="no divisor"):
        evaluate_step("llama-3-8b", "h100x8", plan={"tensor": 8, "expert": 3})


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"plan": {"tensors": 8}}, "no such field"),
        ({"plan": {"tensor": 0}}, "positive whole"),
        ({"plan": {"tensor": [1, 2], "data": [1, 2, 4]}}, "as many values"),
        ({"plan": {"weights": "host_dram", "weights_share": 1.5}}, "share"),
        ({"plan": "tp8+cache=host_dram:1.5"}, "share"),
        ({"plan": "tp8+cache=host_dram:x"}, "cannot read the plan"),
        ({"plan": "tp8+cache=tape"}, "none of the tiers"),
        ({"overrides": {"tiers.hbm.bandwidth": 1e12}}, "tiers.hbm"),
        ({"batch": [1, 2], "overrides": {"tiers.hbm.capacity_bytes": [1e9] * 3}}, "as many"),
        ({"overrides": {"groups.gpu.count": 9}, "plan": "tp8"}, "at most 8"),
    ],
)
def test_a_mistake_is_named(options, words):
    with pytest.raises(InputError, match=words):
        evaluate_step("llama-3-8b", "h100x8", **options)


def test_bits_and_plans_of_one_row_stay_what_they_were():
    plan = Plan(4, 2, 1, 2, 3, True, "host_dram", False, 0.25, "nvme", 0.5)
    assert Plan.parse(str(plan)) == plan
    assert Plans.of(plan).text() == str(plan)
    narrow = evaluate_step("llama-3-8b", "h100", bits=Bits(weight=4), overrides={"clock_hz": 1e9})
    assert narrow.latency_s[0] < evaluate_step("llama-3-8b", "h100").latency_s[0]


def test_advice_is_the_step_on_the_better_machine():
    machine = load_machine("h100x8")
    options = {"batch": 8, "context": 4096, "plan": "tp8+weights=host_dram:0.2"}
    base = evaluate_step("llama-3-70b", machine, **options).latency_s[0]
    saved = savings("llama-3-70b", machine, **options)
    assert list(saved.values()) == sorted(saved.values(), reverse=True)
    path = "tiers.hbm.bandwidth_bytes_per_s"
    better = evaluate_step("llama-3-70b", machine, overrides={path: 3.352e12 * 1.1}, **options)
    assert saved["hbm bandwidth"] == pytest.approx(1 - better.latency_s[0] / base)
    assert saved["pcie bandwidth"] > 0.05  # weights are waited for
    assert "nvme bandwidth" not in saved
    sms = {"engines.sm.sms": 146, "engines.sm.rates.bf16.flops_per_s": 989.4e12 * 146 / 132}
    options = {"batch": 4, "context": 4096, "plan": "tp8", "phase": "prefill"}
    base, wide = (evaluate_step("llama-3-70b", machine, overrides=o, **options).latency_s[0]
                  for o in ({}, sms))  # fmt: skip
    found = savings("llama-3-70b", machine, **options)
    assert found["SMs"] == pytest.approx(1 - wide / base)
    assert savings("llama-2-7b", load_machine("sn40lx8"), plan="tp8")["hbm bandwidth"] > 0.05


@given(st.sampled_from(CASES), st.sampled_from(["decode", "prefill"]), st.integers(0, 2**32 - 1))
@settings(max_examples=10, deadline=None)
def test_one_device_of_many_is_one_device(case, phase, seed):
    """TP=1 equals no TP: neither links nor the other devices take any time."""
    model, machine, ranges, far = case
    sizes, _, hardware = random_rows(np.random.default_rng(seed), ranges, far, 12)
    many = evaluate_step(model, machine, phase=phase, **sizes, plan="tp1", overrides=hardware)
    alone = {**hardware, f"groups.{load_machine(machine).groups[-1].name}.count": 1}
    one = evaluate_step(model, machine, phase=phase, **sizes, plan="tp1", overrides=alone)
    assert many.latency_s.tolist() == one.latency_s.tolist()
    assert many.parts_s["collectives"].tolist() == [0.0] * 12
    for role, held in one.memory_bytes.items():
        assert many.memory_bytes[role].tolist() == held.tolist()


def test_rows_may_have_memory_of_other_kinds():
    machine = load_machine(SCENARIOS / "machines" / "llm_node.yaml")
    kinds = ["HBM2E", "HBM3", "HBM4", "DDR5"]
    found = evaluate_step("llama-3-8b", machine, overrides={"tiers.hbm.kind": kinds})
    for row, kind in enumerate(kinds):
        built = machine.with_values({"tiers.hbm.kind": kind})
        alone = evaluate_step("llama-3-8b", built)
        assert found.latency_s[row] == alone.latency_s[0]
    assert found.latency_s[2] < found.latency_s[1] <= found.latency_s[0] < found.latency_s[3]


def test_designs_of_the_benchmark_differ_row_by_row():
    machine = load_machine("h100x8")
    drawn = random_designs(np.random.default_rng(1), machine, 64, 8)
    for path, values in drawn["overrides"].items():
        assert len(set(values.tolist())) > (3 if path.endswith(("kind", "sms")) else 60)
    cost = evaluate_step(
        "llama-3-8b", machine, plan=drawn["plan"], overrides=drawn["overrides"], **drawn["sizes"]
    )
    assert len(set(cost.latency_s.tolist())) == 64
