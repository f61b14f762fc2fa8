"""Fused pipelines on dataflow engines: never more traffic or time, cuts, launches, limits."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from archsim.errors import InputError
from archsim.hardware import load_machine
from archsim.system.llm import Share, evaluate_step
from archsim.system.llm.dataflow import Piece, cut
from archsim.workload import load_model

NODE = load_machine("sn40lx8")


def run(name="llama-2-7b", machine=NODE, **options):
    return evaluate_step(name, machine, **{"context": 4096, "plan": "tp8", **options})


def check_parts(cost):
    assert cost.latency_s == pytest.approx(sum(cost.parts_s.values()))
    once = cost.latency_s - cost.parts_s["pipeline"]
    assert once == pytest.approx(sum(cost.bound_s.values()))
    assert once == pytest.approx(sum(cost.calls_s.values()) + cost.parts_s["streaming"])
    for values in (*cost.parts_s.values(), *cost.calls_s.values(), *cost.bound_s.values()):
        assert (values >= -1e-15).all()


@given(
    st.sampled_from(["llama-2-7b", "mixtral-8x7b", "deepseek-v2", "mamba-2.8b", "minimax-text-01"]),
    st.sampled_from(["prefill", "decode"]),
    st.integers(1, 64),
    st.integers(1, 8192),
    st.sampled_from(["tp8", "tp2dp4", "tp4pp2mb2"]),
    st.floats(3, 9.5),
)
@settings(max_examples=40, deadline=None)
def test_fusing_never_raises_traffic_time_or_energy(name, phase, batch, context, plan, sram):
    machine = NODE.with_values({"tiers.sram.capacity_bytes": 10.0**sram})
    options = {"phase": phase, "batch": batch, "context": context, "machine": machine}
    plans = [plan, f"{plan}+unfused", f"{plan}+software", f"{plan}+unfused+software"]
    cost = run(name, plan=plans, **options)
    check_parts(cost)
    for fused, alone in ((0, 1), (2, 3)):
        assert cost.traffic_bytes[fused] <= cost.traffic_bytes[alone] * (1 + 1e-12)
        assert cost.kernels[fused] < cost.kernels[alone]
        assert cost.latency_s[fused] <= cost.latency_s[alone] * (1 + 1e-12)
        assert cost.energy_j[fused] <= cost.energy_j[alone] * (1 + 1e-12)
        moved = cost.traffic_bytes[alone] - cost.traffic_bytes[fused]
        assert cost.kept_bytes[fused] == pytest.approx(moved, rel=1e-6, abs=1.0)
        assert cost.kept_bytes[alone] == 0
    assert cost.latency_s[0] < cost.latency_s[2]
    assert cost.latency_s[1] < cost.latency_s[3]
    for row, text in enumerate(plans):  # a batch is its rows
        assert run(name, plan=text, **options).latency_s[0] == pytest.approx(cost.latency_s[row])


def test_a_layer_is_one_kernel_where_its_weights_fit_on_chip():
    cost = run(phase="prefill")
    layers = 32
    ends = 3  # embedding, norm, head
    assert cost.kernels[0] == layers + ends
    arch = load_model("llama-2-7b").architecture
    stream = 4096 * arch.width * 2
    # weights and cache of every layer, the stream in and out; the ends as they are alone
    weights = sum(2 * n for n in (4 * 4096 * 4096 / 8, 3 * 4096 * 11008 / 8))
    written = 4096 * 2 * 4096 / 8 * 2
    norms = 2 * 4096 * 2
    layer = weights + written + norms + 2 * stream
    read = written  # attention reads each head's cache once
    ends_bytes = cost.traffic_bytes[0] - layers * (layer + read)
    head = 2 * 32000 * 4096 / 8 + 2 * (4096 + 32000 / 8) + 2 * 4096
    embedding = 2 * 4096 * 4096 * 2
    assert ends_bytes == pytest.approx(head + embedding + 2 * stream, rel=1e-3)


@pytest.mark.parametrize("phase", ["prefill", "decode"])
@pytest.mark.parametrize("name", ["llama-2-7b", "deepseek-v3", "mamba-2.8b"])
def test_a_larger_chip_is_never_slower(name, phase):
    capacity = 10.0 ** np.linspace(5, 10, 60)
    batch = 64 if phase == "decode" else 1
    cost = run(name, phase=phase, batch=batch, plan=["tp8"] * 60,
               overrides={"tiers.sram.capacity_bytes": capacity})  # fmt: skip
    assert (np.diff(cost.latency_s) <= 1e-12 * cost.latency_s[1:]).all()
    assert (np.diff(cost.kernels) <= 0).any()
    layers = len(load_model(name).architecture.layers)
    assert cost.kernels[-1] == layers + 3
    assert cost.kernels[0] > 3 * layers
    alone = run(name, phase=phase, batch=batch, plan="tp8+unfused")
    assert cost.traffic_bytes[0] <= alone.traffic_bytes[0] * (1 + 1e-12)


@given(st.lists(st.tuples(*[st.integers(0, 9)] * 3), min_size=1, max_size=7), st.integers(0, 12),
       st.integers(0, 5), st.integers(0, 20))  # fmt: skip
def test_cuts_are_the_best_of_all(pieces, capacity, past, launch):
    def one(value):
        return np.array([float(value)])

    made = [Piece(one(1), one(i), one(o), one(h)) for i, o, h in pieces]
    count, least = len(pieces), float(count_outside(pieces))

    def seconds(kernels, moved, rows):
        return kernels * launch + moved

    kernels, moved = cut(made, one(capacity), one(least), one(past), 2, seconds)
    best = np.inf
    for chosen in itertools.product([False, True], repeat=count - 1):
        begins = [0, *[at + 1 for at, there in enumerate(chosen) if there]]
        parts = [pieces[a:b] for a, b in zip(begins, [*begins[1:], count], strict=True)]
        if any(len(part) > 1 and sum(h for _, _, h in part) > capacity for part in parts):
            continue
        crossed = sum(pieces[at - 1][1] + pieces[at][0] for at in begins[1:])
        again = min(len(parts) - 1, 2) * past if len(parts[-1]) > 1 else 0
        best = min(best, len(parts) * launch + least + crossed + again)
    assert kernels[0] * launch + moved[0] == pytest.approx(best)


def count_outside(pieces):
    return len(pieces) + pieces[0][0] + pieces[-1][1]


def test_time_is_the_longest_of_work_traffic_and_links():
    cost = run()
    chip = load_machine("sn40l")
    engine = chip.engines[0]
    moved = cost.traffic_bytes[0] / (1.8e12 * engine.memory_efficiency)
    assert cost.bound_s["memory"][0] == pytest.approx(moved, rel=1e-6)
    # four messages a layer of 1 us each: two sums, there and back
    assert cost.bound_s["links"][0] == pytest.approx(32 * 4e-6, rel=0.01)
    assert cost.bound_s["overhead"][0] == pytest.approx(35e-6)
    hosted = run(plan="tp8+software")
    assert hosted.bound_s["overhead"][0] == pytest.approx(35 * 20e-6)


@pytest.mark.parametrize(
    "path",
    ["tiers.hbm.bandwidth_bytes_per_s", "links.peer_to_peer.bandwidth_bytes_per_s",
     "engines.rdu.rates.bf16.flops_per_s"],
)  # fmt: skip
@pytest.mark.parametrize("phase", ["prefill", "decode"])
def test_better_hardware_is_never_slower(path, phase):
    values = 10.0 ** np.linspace(10, 16, 25)
    plans = ["tp8", "tp8+unfused"]
    for plan in plans:
        cost = run("mixtral-8x7b", phase=phase, context=1024, plan=plan, overrides={path: values})
        assert (np.diff(cost.latency_s) <= 1e-12 * cost.latency_s[1:]).all()


def test_free_links_and_launches_leave_work_and_traffic():
    free = {"links.peer_to_peer.latency_s": 0.0, "links.peer_to_peer.bandwidth_bytes_per_s": 1e18,
            "engines.rdu.launch_latency_s": 0.0,
            "engines.rdu.hardware_launch_latency_s": 0.0}  # fmt: skip
    cost = run(machine=NODE.with_values(free), plan=["tp8", "tp8+unfused"])
    assert (cost.bound_s["links"] < 1e-9).all()
    assert (cost.bound_s["overhead"] < 1e-12).all()
    assert cost.latency_s[0] <= cost.latency_s[1]


def test_mixed_steps_fuse_as_well():
    cost = run(batch=16, beside=[Share([1, 0], 512, 2048)], plan="tp8")
    check_parts(cost)
    assert cost.kernels[1] == cost.kernels[0] == 35
    assert cost.latency_s[0] > cost.latency_s[1]
    assert cost.latency_s[1] == pytest.approx(run(batch=16).latency_s[0])


def test_a_ladder_changes_nothing_inside_a_pipeline():
    cost = run(plan=["tp8", "tp8+ladder", "tp8+unfused", "tp8+unfused+ladder"])
    assert cost.latency_s[0] == cost.latency_s[1]
    assert cost.latency_s[3] < cost.latency_s[2]


@pytest.mark.parametrize(("mode", "machine"), [("unfused", "tpu_v3x8"), ("software", "h100x8")])
def test_modes_are_of_dataflow_engines(mode, machine):
    with pytest.raises(InputError, match="dataflow engines"):
        run(machine=machine, plan=f"tp8+{mode}")


def test_a_spatial_engine_and_a_dataflow_engine_serve_a_model():
    # the array of the main job as the engine of a machine with host memory behind it
    for machine, plan in (("tpu_v4i", "tp1"), ("tpu_v4ix4", "tp4"), ("sn40l", "tp1")):
        cost = evaluate_step("yi-6b", machine, batch=4, context=2048, plan=plan)
        check_parts(cost)
        held = 2 * load_model("yi-6b").parameters
        tier = 1.8e12 if machine == "sn40l" else 614e9
        devices = int(plan[2:])
        assert cost.latency_s[0] > 0.95 * held / devices / tier
        if machine == "tpu_v4i":  # 12 GB of weights and 8 GB of memory: a result, not an error
            assert not cost.fits[0]
            far = evaluate_step(
                "yi-6b", machine, batch=4, context=2048, plan="tp1+weights=host_dram"
            )
            assert far.fits[0]
            assert far.latency_s[0] > cost.latency_s[0]
        else:
            assert cost.fits[0]
    assert np.isfinite(cost.energy_j).all()
