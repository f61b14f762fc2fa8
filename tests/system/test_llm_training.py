"""Training steps: passes, rematerialisation, ZeRO, states and activations in other tiers."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from archsim.errors import InputError
from archsim.hardware import load_machine
from archsim.system.llm import evaluate_step
from archsim.system.llm.hosted import STATE_BYTES
from archsim.system.llm.schedules import balanced, bubble_share, walk
from archsim.system.llm.training import evaluate_training
from archsim.system.llm.training_setup import Host, Training
from archsim.workload import load_model


def run(name="llama-2-7b", machine="h100x8", **options):
    how = Training(**{k: options.pop(k) for k in list(options) if k in Training.__annotations__})
    given = {"batch": 8, "context": 1024, "plan": "dp8", **options}
    return evaluate_training(name, machine, how=how, **given)


def all_cuts(works, stages):
    if stages == 1:
        return sum(works)
    return min(
        max(sum(works[:cut]), all_cuts(works[cut:], stages - 1)) for cut in range(len(works) + 1)
    )


@given(st.lists(st.integers(0, 9), min_size=1, max_size=7), st.integers(1, 4))
def test_no_cut_into_stages_has_a_shorter_longest(works, stages):
    cuts = balanced([float(w) for w in works], stages)
    times = [sum(works[cut]) for cut in cuts]
    assert len(times) == stages
    assert [piece for cut in cuts for piece in works[cut]] == works
    assert max(times) == all_cuts(works, stages)


@given(st.integers(1, 6), st.integers(1, 12), st.floats(0.1, 3), st.floats(0.1, 3))
def test_rematerialisation_fills_bubbles_but_the_last_stage(stages, micro, forward, backward):
    plain = walk([forward] * stages, [backward] * stages, micro)
    ahead = walk([forward] * stages, [backward] * stages, micro, again_s=[forward] * stages)
    whole = walk([forward] * stages, [backward + forward] * stages, micro)
    assert plain.latency_s <= ahead.latency_s <= whole.latency_s * (1 + 1e-12)
    assert ahead.busy_s == pytest.approx(whole.busy_s)
    if micro == 1:  # all but the last stage wait for gradients anyway
        assert ahead.latency_s == pytest.approx(stages * (forward + backward) + forward)
    if stages == 1:
        assert ahead.latency_s == pytest.approx(whole.latency_s)


def test_a_backward_pass_is_two_forward_passes_and_one_again():
    cost = evaluate_step("llama-2-7b", "h100", phase="prefill", context=1024, all_logits=True)
    step = cost.latency_s[0]
    ends = sum(cost.calls_s[name][0] for name in ("embedding", "final_norm", "head"))
    once, again = (run(machine="h100", batch=1, plan="tp1", rematerialise=r) for r in (False, True))
    assert once.forward_s == again.forward_s == pytest.approx(step)
    assert once.backward_s == pytest.approx(2 * step)
    assert again.backward_s == pytest.approx(3 * step - ends)
    assert once.memory_bytes["activations"] > 3 * again.memory_bytes["activations"]
    states = 30.0 * load_model("llama-2-7b").parameters
    assert once.update_s == pytest.approx(states / 3.352e12)
    assert not once.fits  # 108 GB of weights, gradients and states
    assert "OUT OF MEMORY" in once.explain()


def test_sums_run_once_backward_and_exchanges_hide_behind_the_other_micro_batch():
    options = {"plan": "tp8", "rematerialise": False, "batch": 1}
    cost = evaluate_step(
        "llama-2-7b", "h100x8", phase="prefill", context=1024, plan="tp8", all_logits=True
    )
    sums = cost.parts_s["collectives"][0]
    trained = run(**options)
    assert trained.backward_s == pytest.approx(2 * cost.latency_s[0] - sums)
    moe = {"name": "mixtral-8x7b", "plan": "dp8ep8", "zero": 1}
    alone, dual = run(**moe), run(**moe, dual=True)
    assert dual.latency_s < alone.latency_s
    model = load_model("mixtral-8x7b")
    routed = 32 * 8 * 3 * 14336 * 4096
    # experts are dealt out, the rest is in every group; states of the rest are divided
    assert alone.memory_bytes["weights"] == pytest.approx(
        2 * (model.parameters - routed) + 2 * routed / 8
    )
    assert alone.memory_bytes["states"] == pytest.approx(STATE_BYTES * model.parameters / 8)


def test_zero_divides_what_each_device_holds():
    model = load_model("llama-2-7b")
    costs = [run(zero=stage) for stage in (0, 1, 2, 3)]
    whole = model.parameters
    for stage, cost in enumerate(costs):
        assert cost.memory_bytes["states"] == pytest.approx(
            STATE_BYTES * whole / (8 if stage else 1)
        )
        assert cost.memory_bytes["gradients"] == 2 * whole / (8 if stage >= 2 else 1)
    assert costs[2].memory_bytes["weights"] == 2 * whole
    assert costs[3].memory_bytes["weights"] < 0.2 * 2 * whole
    assert [c.fits for c in costs] == [False, True, True, True]
    assert costs[3].forward_s >= costs[2].forward_s
    assert costs[0].update_s > costs[1].update_s


def test_states_in_host_memory_are_updated_by_the_host():
    near, far = run(zero=2), run(zero=2, states="host_dram")
    assert far.memory_bytes["states"] == 0
    # states, gradients as they come and as the optimizer reads them
    owned = load_model("llama-2-7b").parameters / 8
    assert far.away_bytes["host_dram"] == pytest.approx((12 + 2 + 4) * 8 * owned, rel=1e-6)
    assert far.update_s > 10 * near.update_s
    short = {"zero": 2, "states": "host_dram", "overlap": False}
    beside, serial, slow = run(zero=2, overlap=False), run(**short), run(**short, blocking=True)
    link = 32e9 * 128 / 130 / 8 * 16
    assert serial.backward_s == pytest.approx(beside.backward_s + (2 + 4) * owned / link, rel=1e-3)
    assert slow.backward_s == pytest.approx(
        beside.backward_s + 2 * owned / link + 2 * owned / 2.5e9, rel=1e-3
    )
    assert slow.update_s == serial.update_s == far.update_s
    assert far.backward_s < serial.backward_s
    small = load_machine("h100x8").with_values({"tiers.host_dram.capacity_bytes": 5e10})
    short = run(machine=small, zero=2, states="host_dram")
    assert not short.fits
    assert short.short_bytes == pytest.approx(far.away_bytes["host_dram"] - 5e10)
    assert short.update_s == far.update_s
    drive = run(zero=2, states="nvme")
    owned = load_model("llama-2-7b").parameters
    assert drive.update_s > owned * STATE_BYTES * (1 / 56e9 + 1 / 32e9)
    assert drive.update_s > far.update_s


def test_states_that_stay_need_no_host():
    away = {"zero": 2, "states": "host_dram", "overlap": False}
    near, far, all_stay = run(zero=2, overlap=False), run(**away), run(**away, resident=1.0)
    assert all_stay.update_s == pytest.approx(near.update_s)
    assert all_stay.memory_bytes["states"] == near.memory_bytes["states"]
    last = far
    for share in (0.2, 0.5, 0.8):
        now = run(**away, resident=share)
        assert now.update_s < last.update_s
        assert now.backward_s < last.backward_s
        assert now.away_bytes["host_dram"] < last.away_bytes["host_dram"]
        # fetched by devices, the rest is divided alike
        shared = run(**away, resident=share, device_share=0.5)
        assert shared.away_bytes["host_dram"] < now.away_bytes["host_dram"]
        last = now


def test_a_hosts_rates_set_what_it_does():
    away = {"zero": 2, "states": "host_dram", "blocking": True}
    plain = run(**away)
    fast = run(**away, host=Host(memory_share=0.92))
    gathered = run(zero=2).update_s  # new weights to all, and the devices' own work
    assert fast.update_s == pytest.approx((plain.update_s + gathered) / 2, rel=0.2)
    loose = run(**away, host=Host(weights_share=0.2))
    owned = load_model("llama-2-7b").parameters / 8
    link = 32e9 * 128 / 130 / 8 * 16
    assert loose.update_s == pytest.approx(plain.update_s + 4 * 2 * owned / link, rel=1e-3)
    slow = run(**away, host=Host(pageable_bytes_per_s=1e9))
    assert slow.backward_s == pytest.approx(plain.backward_s + 2 * owned * (1 / 1e9 - 1 / 2.5e9))
    for wrong in ({"memory_share": 0}, {"weights_share": 1.1}, {"pageable_bytes_per_s": -1}):
        with pytest.raises(InputError, match=f"host.{next(iter(wrong))}"):
            Host(**wrong)


@given(st.floats(0.0, 1.0))
@settings(max_examples=15, deadline=None)
def test_devices_take_over_updates_up_to_what_links_carry(share):
    cost = run(zero=3, states="host_dram", device_share=share)
    host, all_devices = (run(zero=3, states="host_dram", device_share=s) for s in (0.0, 1.0))
    owned = load_model("llama-2-7b").parameters / 8
    link = 32e9 * 128 / 130 / 8 * 16
    assert cost.update_s >= owned * share * STATE_BYTES / link
    assert cost.update_s <= max(host.update_s, all_devices.update_s) * 1.35
    assert all_devices.update_s >= owned * STATE_BYTES / link


@pytest.mark.parametrize(
    "path",
    ["links.pcie.bandwidth_bytes_per_s", "tiers.host_dram.bandwidth_bytes_per_s",
     "links.nvlink.bandwidth_bytes_per_s"],
)  # fmt: skip
@pytest.mark.parametrize(
    "how",
    [{}, {"device_share": 0.4}, {"activations": "host_dram"}, {"overlap": False}],
)
def test_more_bandwidth_is_never_slower(path, how):
    last = np.inf
    for bandwidth in (1e9, 1e10, 1e11, 1e13):
        machine = load_machine("h100x8").with_values({path: bandwidth})
        now = run(machine=machine, zero=3, states="host_dram", **how).latency_s
        assert now <= last * (1 + 1e-12)
        last = now


def test_kept_inputs_move_out_and_back():
    machine = load_machine("h100x8").with_values({"links.pcie.bandwidth_bytes_per_s": 1e9})
    near, far = (run(machine=machine, zero=3, activations=tier) for tier in (None, "host_dram"))
    kept = 32 * 1024 * 4096 * 2  # 32 inputs of 1024 tokens, 4096 wide, two bytes
    assert far.away_bytes["host_dram"] == 8 * kept
    assert far.forward_s == pytest.approx(max(near.forward_s, kept / 1e9), rel=0.2)
    assert far.memory_bytes["activations"] < near.memory_bytes["activations"]
    serial = run(machine=machine, zero=3, activations="host_dram", overlap=False)
    assert serial.latency_s > far.latency_s


def test_all_that_is_kept_moves_out_where_nothing_runs_again():
    near, far = (run(zero=3, rematerialise=False, activations=tier) for tier in (None, "host_dram"))
    inputs = run(zero=3, activations="host_dram")
    # beside one layer's operands, near has all layers, far two of them
    layer = (near.memory_bytes["activations"] - far.memory_bytes["activations"]) / (32 - 2)
    assert far.away_bytes["host_dram"] == pytest.approx(8 * 32 * layer)
    assert far.away_bytes["host_dram"] > 5 * inputs.away_bytes["host_dram"]
    assert far.latency_s > near.latency_s


def test_layers_that_differ_keep_what_each_of_them_keeps():
    # DeepSeek-V3's first three layers are dense, wider than the experts of a token
    arch = load_model("deepseek-v3").architecture
    options = {"machine": "h100x8", "plan": "tp8", "batch": 1}
    kept, again = (run("deepseek-v3", rematerialise=r, **options) for r in (False, True))
    total = 0.0
    for layer, many in arch.distinct_layers:
        alike = replace(arch, layers=(layer,) * len(arch.layers))
        model = replace(load_model("deepseek-v3"), architecture=alike)
        near, far = (run(model, rematerialise=r, **options) for r in (False, True))
        inner = near.memory_bytes["activations"] - far.memory_bytes["activations"]
        total += many / len(arch.layers) * inner
    inner = kept.memory_bytes["activations"] - again.memory_bytes["activations"]
    assert inner == pytest.approx(total)


def test_gradients_of_every_micro_batch_take_their_way():
    away = {"zero": 2, "states": "host_dram", "overlap": False, "plan": "dp8"}
    owned = load_model("llama-2-7b").parameters / 8
    link = 32e9 * 128 / 130 / 8 * 16
    for micro in (1, 4):
        options = {"batch": 32, "plan": f"dp8mb{micro}"}
        near = run(zero=2, overlap=False, **options)
        far = run(**{**away, **options})
        extra = (2 * micro + 4) * owned / link
        assert far.backward_s == pytest.approx(near.backward_s + extra, rel=1e-3)


def test_pipelines_idle_as_their_formula_says():
    for micro in (4, 16):
        cost = run(plan=f"pp4mb{micro}", batch=32, rematerialise=False, schedule="gpipe",
                   machine="tpu_v3x4")  # fmt: skip
        # the output projection makes the last stage a little longer
        assert bubble_share(4, micro) <= cost.bubble < bubble_share(4, micro) + 0.05
        early = run(plan=f"pp4mb{micro}", batch=32, schedule="1f1b", machine="tpu_v3x4")
        assert early.memory_bytes["activations"] <= cost.memory_bytes["activations"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"zero": 4}, "stage of ZeRO"),
        ({"schedule": "zigzag"}, "unknown schedule"),
        ({"device_share": 0.5}, "on the devices already"),
        ({"states": "host_dram", "device_share": 1.5}, "a share"),
        ({"states": "host_dram", "resident": -0.1}, "a share"),
        ({"resident": 0.5}, "on the devices already"),
        ({"states": "tape"}, "none of the tiers"),
        ({"activations": "tape"}, "none of the tiers"),
        ({"subgroup": 0}, "positive whole"),
        ({"plan": "dp16"}, "more devices"),
        ({"plan": "pp64", "machine": "h100x64"}, "more stages than layers"),
        ({"batch": 0}, "positive whole"),
        ({"batch": 2.5}, "positive whole"),
        ({"context": True}, "positive whole"),
        ({"plan": "pp2mb16"}, "fewer sequences"),
        ({"plan": "tp8+weights=host_dram"}, "weights lie on the devices"),
        ({"plan": "tp8+cache=host_dram"}, "no cache"),
        ({"states": "hbm"}, "from this tier already"),
        ({"activations": "hbm"}, "from this tier already"),
    ],
)
def test_a_mistake_is_named(options, words):
    with pytest.raises(InputError, match=words):
        run(**options)
