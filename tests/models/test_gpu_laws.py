"""Laws every GPU kernel cost keeps, and what single figures must be."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from archsim.errors import InputError
from archsim.hardware import load_machine
from archsim.models.gpu import (
    GpuDevice,
    equal_figures,
    evaluate_batched_gemm,
    evaluate_collective,
    evaluate_decode,
    evaluate_gemm,
    evaluate_moe,
    evaluate_prefill,
    evaluate_vector,
    expert_loads,
    from_machine,
    gpu_device,
    load_constants,
    load_figures,
    mean_figures,
)
from archsim.models.gpu.attention import key_tiles, xqa_parts
from archsim.models.gpu.constants import constants_file

DEVICES = {name: gpu_device(name) for name in ("a100", "h100")}
devices = st.sampled_from(sorted(DEVICES))
sizes = st.integers(1, 20000)
BETTER = st.sampled_from([
    {"sms": 2.0}, {"sms": 10 / 9}, {"clock_hz": 1.3}, {"bandwidth_bytes_per_s": 1.5},
    {"l2_bytes": 2.0}, {"link_bandwidth_bytes_per_s": 2.0},
])  # fmt: skip


def calls(name, m, n, k, device):
    """One call of every kernel with sizes drawn from three numbers."""
    heads = 1 + n % 4
    return {
        "gemm": lambda d: evaluate_gemm(d, m, n, k),
        "prefill": lambda d: evaluate_prefill(d, 1 + n % 7, m, 8 * heads, 8, 64 * (1 + k % 2)),
        "decode": lambda d: evaluate_decode(d, 1 + n % 300, k, 8 * heads, 8, 128),
        "equal split": lambda d: evaluate_decode(
            d, 1 + n % 300, k, 8 * heads, 8, 128, split="equal"
        ),
        "latent": lambda d: evaluate_decode(
            d, 1 + n % 300, k, 1 + m % 128, 1, 576, latent_value_dim=512
        ),
        "experts": lambda d: evaluate_moe(d, expert_loads(m, 8, 2)[0], n, 1 + k // 4),
        "vector": lambda d: evaluate_vector(d, "softmax", float(m) * n),
        "all-reduce": lambda d: evaluate_collective(d, "all_reduce", 2 + n % 15, float(m) * k),
        "batched": lambda d: evaluate_batched_gemm(d, 1 + n % 99, m, k, 128),
    }[name](device)


KERNELS = ("gemm", "prefill", "decode", "equal split", "latent", "experts", "vector", "all-reduce")


@given(devices, st.sampled_from(KERNELS), sizes, sizes, sizes, BETTER)
@settings(max_examples=200, deadline=None)
def test_better_hardware_is_never_slower(name, kernel, m, n, k, better):
    device = DEVICES[name]
    before = calls(kernel, m, n, k, device).latency_s
    assert calls(kernel, m, n, k, device.scaled(**better)).latency_s <= before * (1 + 1e-12)


@given(devices, st.sampled_from(KERNELS), sizes, sizes, sizes)
@settings(max_examples=200, deadline=None)
def test_no_cost_is_below_its_bounds(name, kernel, m, n, k):
    device = DEVICES[name]
    cost = calls(kernel, m, n, k, device)
    peak = device.peak("bf16") if kernel != "vector" else device.vector_flops_per_s
    assert 0 < cost.latency_s < 1e4
    assert cost.flops / peak <= cost.latency_s * (1 + 1e-12) or kernel == "vector"
    rate = device.bandwidth_bytes_per_s
    assert cost.dram_bytes / rate <= cost.latency_s * (1 + 1e-12)
    assert 0 < cost.energy_j < 1e6
    assert str(cost.bound) in {part.removesuffix("_s") for part in cost.parts_s}


@given(devices, sizes, sizes, sizes, st.integers(0, 2), st.integers(1, 300), st.booleans())
@settings(max_examples=200, deadline=None)
def test_a_larger_product_is_never_cheaper(name, m, n, k, axis, more, warm):
    first = [m, n, k]
    second = list(first)
    second[axis] += more
    cost = evaluate_gemm(
        DEVICES[name], *np.array([first, second]).T, weight_copies=1.0 if warm else np.inf
    )
    assert cost.latency_s[0] <= cost.latency_s[1] * (1 + 1e-12)


@given(devices, sizes, st.integers(1, 500), st.integers(1, 64), st.integers(1, 300))
@settings(max_examples=200, deadline=None)
def test_longer_contexts_and_sequences_are_never_cheaper(name, tokens, batch, heads, more):
    device = DEVICES[name]
    decode = evaluate_decode(device, batch, [tokens, tokens + more], 8 * heads, 8, 128)
    assert decode.latency_s[0] <= decode.latency_s[1] * (1 + 1e-12)
    wider = evaluate_decode(device, [batch, batch + more], tokens, 8 * heads, 8, 128)
    assert wider.latency_s[0] <= wider.latency_s[1] * (1 + 1e-12)
    prefill = evaluate_prefill(device, batch, [tokens, tokens + more], 8 * heads, 8, 128)
    assert prefill.latency_s[0] <= prefill.latency_s[1] * (1 + 1e-12)
    seen = evaluate_prefill(device, batch, tokens, heads, heads, 128, window=[more, 2 * more])
    assert seen.latency_s[0] <= seen.latency_s[1] * (1 + 1e-12)


@given(st.integers(1, 3000), st.integers(1, 64), st.integers(0, 7))
@settings(max_examples=100, deadline=None)
def test_one_more_token_for_an_expert_is_never_cheaper(tokens, intermediate, expert):
    loads = expert_loads(tokens, 8, 2)[0]
    more = loads.copy()
    more[expert] += 1
    cost = evaluate_moe(DEVICES["h100"], [loads, more], 2048, 64 * intermediate)
    assert cost.latency_s[0] <= cost.latency_s[1] * (1 + 1e-12)


def test_a_batch_is_its_rows_bit_by_bit():
    rng = np.random.default_rng(3)
    m, n, k = rng.integers(1, 20000, (3, 200))
    for device in DEVICES.values():
        batch = evaluate_gemm(device, m, n, k)
        single = [evaluate_gemm(device, *row) for row in zip(m, n, k, strict=True)]
        for field in ("latency_s", "energy_j", "dram_bytes"):
            alone = np.array([float(getattr(cost, field)) for cost in single])
            assert (getattr(batch, field) == alone).all()
        heads = 8 * (1 + k % 4)
        batch = evaluate_decode(device, 1 + m % 64, n, heads, 8, 128)
        alone = [
            float(evaluate_decode(device, *row, 8, 128).latency_s)
            for row in zip(1 + m % 64, n, heads, strict=True)
        ]
        assert (batch.latency_s == alone).all()
        batch = evaluate_prefill(device, 1 + m % 8, n, heads, 8, 128)
        alone = [
            float(evaluate_prefill(device, *row, 8, 128).latency_s)
            for row in zip(1 + m % 8, n, heads, strict=True)
        ]
        assert (batch.latency_s == alone).all()


@pytest.mark.parametrize("kernel", [*KERNELS, "batched"])
def test_rows_may_have_their_own_device(kernel):
    """Arrays of figures give what each GPU gives alone, broadcast against the sizes."""
    base = DEVICES["h100"]
    many = [
        replace(base.scaled(sms=x, bandwidth_bytes_per_s=y, l2_bytes=z, clock_hz=w), idle_w=30 * x)
        for x, y, z, w in ((1, 1, 1, 1), (0.5, 2, 1, 1.1), (2, 0.5, 3, 1), (1.3, 1.7, 0.2, 0.6))
    ]
    many = [d.scaled(link_bandwidth_bytes_per_s=1 + i) for i, d in enumerate(many)]
    together = GpuDevice.stack(many)
    assert together.shape == (4,)
    alone = [calls(kernel, 300, 1001, 4096, d) for d in many]
    for field in ("latency_s", "energy_j", "dram_bytes"):
        expected = np.array([float(getattr(cost, field)) for cost in alone])
        assert (getattr(calls(kernel, 300, 1001, 4096, together), field) == expected).all(), field
    column = replace(base, bandwidth_bytes_per_s=np.array([[1e12], [2e12], [3e12]]))
    assert evaluate_gemm(column, [1, 2], 4096, 4096).latency_s.shape == (3, 2)


def test_rows_may_have_their_own_number_format():
    formats = evaluate_gemm(DEVICES["h100"], 4096, 8192, 8192, ["bf16", "fp8"])
    assert formats.latency_s[1] < 0.7 * formats.latency_s[0]
    assert formats.energy_j[1] < 0.7 * formats.energy_j[0]
    with pytest.raises(InputError, match="as many number formats as rows"):
        evaluate_gemm(DEVICES["h100"], np.ones((3, 1)), 8, 8, ["bf16", "fp8"])


def test_devices_that_cannot_be_stacked_are_named():
    with pytest.raises(InputError, match="one generation"):
        GpuDevice.stack(list(DEVICES.values()))
    uneven = replace(DEVICES["a100"], l2_bytes=np.ones(2), bandwidth_bytes_per_s=np.ones(3))
    with pytest.raises(InputError, match="unequal shapes"):
        evaluate_gemm(uneven, 8, 8, 8)


@given(st.integers(1, 5000), st.sampled_from([64, 128]))
def test_key_tiles_are_counted(sequence, tile):
    blocks = math.ceil(sequence / 128)
    counted = sum(math.ceil(min((i + 1) * 128, sequence) / tile) for i in range(blocks))
    assert key_tiles(np.array([float(sequence)]), tile, np.array([np.inf]))[0] == counted


@given(
    st.integers(1, 300), st.sampled_from([(8, 2), (64, 6), (160, 8)]),
    st.sampled_from([0.0, 1.01, 1.2]), st.booleans(), st.integers(0, 5),
)  # fmt: skip
@settings(max_examples=100, deadline=None)
def test_loads_add_up_and_no_expert_sees_a_token_twice(tokens, shape, skew, by_group, seed):
    experts, top_k = shape
    rng = np.random.default_rng(seed)
    loads = expert_loads(tokens, experts, top_k, skew=skew, by_group=by_group, draws=3, rng=rng)
    assert (loads.sum(1) == tokens * top_k).all()
    assert loads.max() <= tokens
    part = expert_loads(tokens, experts, top_k, skew=skew, groups=8, draws=3)
    assert part.shape[1] == experts // 8
    assert (part.sum(1) >= tokens * top_k // 8).all()  # the fullest group


def test_latent_attention_reads_one_row_a_token():
    device = DEVICES["h100"]
    cost = evaluate_decode(device, 32, 4096, 128, 1, 576, latent_value_dim=512)
    queries = 4.0 * 32 * 128 * 576
    assert cost.dram_bytes - queries == 32 * 4096 * 576 * 2
    assert cost.flops == 2 * 32 * 128 * 4096 * (576 + 512)


def test_equal_split_keeps_all_multiprocessors_busy():
    """LeanAttention's case: few heads and a long context fill the GPU; odd numbers of heads too."""
    device = DEVICES["a100"]
    none = evaluate_decode(device, 1, 131072, 8, 1, 128, split="none")
    fixed = evaluate_decode(device, 1, 131072, 8, 1, 128)
    assert none.latency_s > 10 * fixed.latency_s
    # 120 heads on 108 slots: two rounds unsplit, 1.11 rounds dealt out evenly
    unsplit = evaluate_decode(device, 120, 65536, 1, 1, 128, split="none").parts_s["compute_s"]
    equal = evaluate_decode(device, 120, 65536, 1, 1, 128, split="equal").parts_s["compute_s"]
    assert float(equal / unsplit) == pytest.approx(120 / 108 / 2, rel=0.05)


def test_a_machine_becomes_a_device():
    device = from_machine(load_machine("h100"))
    assert device.sms == 132
    assert device.peak("fp8") == pytest.approx(2 * device.peak("bf16"), rel=1e-3)
    assert device.link_bandwidth_bytes_per_s == 450e9
    assert device.link_reduces
    assert device.memory_j_per_byte == pytest.approx(8 * 3.59e-12)
    with pytest.raises(InputError, match="no engine of kind 'gpu'"):
        from_machine(load_machine("eyeriss"))
    with pytest.raises(InputError, match="cannot be scaled"):
        device.scaled(name=2.0)


def test_constants_say_where_they_come_from():
    for generation in constants_file().generations.values():
        for kernel in generation.kernels.values():
            assert all((kernel.data, kernel.fit, kernel.held_out_error))
            assert all(math.isfinite(v) and v >= 0 for v in kernel.values.values())
    with pytest.raises(InputError, match="no such GPU generation"):
        load_constants("pascal")


@pytest.mark.parametrize(("here", "there"), [("a100", "h100"), ("h100", "a100")])
def test_constants_are_carried_over_by_data_sheets(here, there):
    own = {name: load_constants({"a100": "ampere", "h100": "hopper"}[name]) for name in DEVICES}
    carried = own[here].carried_over(DEVICES[there])
    ops = {n: d.peak("bf16") / d.sms / d.clock_hz for n, d in DEVICES.items()}
    ratio = ops[there] / ops[here]
    before, after = own[here].gemm, carried.gemm
    assert after["l2_bytes_per_cycle"] == pytest.approx(before["l2_bytes_per_cycle"] * ratio)
    assert after["launch_s"] == before["launch_s"]
    faster = DEVICES[there].clock_hz / DEVICES[here].clock_hz
    block = own[here].kernel("decode")["grouped_block_s"] / faster  # so many cycles
    assert carried.kernel("decode")["grouped_block_s"] == pytest.approx(block)
    same = own[here].carried_over(DEVICES[here])
    assert all(same.kernel(k) == dict(v) for k, v in own[here].kernels.items())
    # a device is predicted better from the other's measurements than with its constants unchanged
    sizes = [x.ravel() for x in np.meshgrid([1, 64, 1024], [256, 1024, 8192], [256, 1024, 8192])]
    truth = evaluate_gemm(DEVICES[there], *sizes).latency_s
    errors = [
        np.abs(evaluate_gemm(DEVICES[there], *sizes, constants=c).latency_s / truth - 1).mean()
        for c in (carried, own[here])
    ]
    assert errors[0] < errors[1]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda d: evaluate_gemm(d, 0, 1, 1), "m: a size is not positive"),
        (lambda d: evaluate_gemm(d, 1, np.nan, 1), "n: a size"),
        (lambda d: evaluate_gemm(d, 1, 1, 1, "bf17"), "unknown number format"),
        (lambda d: evaluate_decode(d, 1, 1, 8, 3, 128), "share the KV heads"),
        (lambda d: evaluate_decode(d, 1, 1, 8, 8, 128, split="half"), "unknown split"),
        (lambda d: evaluate_decode(d, 1, 1, 8, 8, 128, rotary_dim=0), "rotary_dim"),
        (lambda d: evaluate_decode(d, 1, 0, 8, 8, 128), "context"),
        (lambda d: evaluate_decode(d, 1, 1, 8, 1, 64, latent_value_dim=65), "part of the row"),
        (lambda d: evaluate_prefill(d, 1, 16, 8, 8, 128, window=0), "window"),
        (lambda d: evaluate_prefill(d, 1, 16, 8, 8, 128, "int3"), "unknown number format"),
        (lambda d: evaluate_moe(d, [[-1.0]], 64, 64), "expert_tokens"),
        (lambda d: evaluate_moe(d, [[1.0]], 0, 64), "hidden"),
        (lambda d: expert_loads(4, 10, 2, groups=4), "divide among groups"),
        (lambda d: evaluate_vector(d, "tan", 4), "unknown operation"),
        (lambda d: evaluate_vector(d, "add", 0), "no elements"),
        (lambda d: evaluate_collective(d, "gossip", 4, 4), "unknown kind"),
        (lambda d: evaluate_collective(d, "all_reduce", 0, 4), "members"),
        (lambda d: evaluate_collective(d, "all_gather", 4, 4, algorithm="tree"), "all-reduce"),
        (lambda d: evaluate_collective(d, "all_reduce", 4, 4, bandwidth_bytes_per_s=0), "no link"),
    ],
)
def test_bad_arguments_are_named(call, message):
    with pytest.raises((InputError, ValueError), match=message):
        call(DEVICES["a100"])


def test_one_member_needs_no_time():
    assert evaluate_collective(DEVICES["h100"], "all_reduce", 1, 1e6).latency_s == 0.0


def test_figures_of_loads_equal_the_loads():
    loads = expert_loads(100, 16, 4, skew=1.2, draws=3)
    device = DEVICES["a100"]
    direct = evaluate_moe(device, loads, 1024, 512, tuned=False)
    figures = evaluate_moe(device, load_figures(loads), 1024, 512, tuned=False)
    assert (direct.latency_s == figures.latency_s).all()


def test_equal_loads_need_no_list():
    device = DEVICES["h100"]
    listed = evaluate_moe(device, np.full((1, 12), 40.0), 2048, 1024)
    total, active = np.array([480.0]), np.array([12.0])
    short = evaluate_moe(device, equal_figures(total, active, active), 2048, 1024)
    np.testing.assert_allclose(short.latency_s, listed.latency_s, rtol=1e-12)


def test_draws_are_averaged():
    """One draw is itself up to loads of one power of two put together; of many, the mean."""
    device = DEVICES["a100"]
    loads = expert_loads(3000, 64, 4, skew=1.2, draws=6)
    each = evaluate_moe(device, loads, 2048, 1024).latency_s
    mean = evaluate_moe(device, mean_figures(loads), 2048, 1024).latency_s
    assert float(mean) == pytest.approx(each.mean(), rel=0.02)
    one = evaluate_moe(device, mean_figures(loads[:1]), 2048, 1024).latency_s
    assert float(one) == pytest.approx(each[0], rel=0.01)


def test_uneven_experts_are_never_quicker():
    """Full experts that multiply do not hide the reading of the others."""
    device = DEVICES["h100"]
    even = evaluate_moe(device, np.full(16, 128.0), 6144, 3072).latency_s
    uneven = evaluate_moe(device, [128.0 * 9] + [128.0 * 7 / 15] * 15, 6144, 3072).latency_s
    assert uneven > 1.1 * even


@given(st.integers(1, 4096), st.integers(1, 200000), st.sampled_from([1, 2, 8, 64]))
def test_parts_of_a_cache_keep_to_the_rule(batch, tokens, heads):
    parts = float(xqa_parts(batch * heads, tokens, batch, 132))
    assert parts == int(parts) >= 1
    if parts > 1:
        assert parts * 128 <= tokens  # 128 tokens each at least
        assert parts * batch <= 6000
        assert batch * heads * parts <= 8 * 132
        assert parts <= round(math.sqrt(8 * (tokens // 128)))


def test_the_best_split_is_no_slower_than_a_librarys():
    """TensorRT-LLM's rules pick among the kernels and parts that ``fixed`` tries (or near)."""
    device = DEVICES["h100"]
    batch, context = (x.ravel() for x in np.meshgrid([1, 4, 32, 256], [64, 1024, 16384]))
    for kv_heads, kind in ((8, "bf16"), (8, "fp8"), (32, "bf16")):
        best, rule = (
            evaluate_decode(device, batch, context, 32, kv_heads, 128, kind, split=s).latency_s
            for s in ("fixed", "xqa")
        )
        assert (best <= rule * 1.05).all()


def test_few_blocks_run_without_tensor_units_under_the_librarys_rule():
    """32 blocks of 128 tokens are less than a fourth of 132 SMs, 40 are not."""
    device = DEVICES["h100"]
    shared = evaluate_decode(device, [4, 5], 100, 32, 8, 128, split="xqa").parts_s["compute_s"]
    alone = evaluate_decode(device, [4, 5], 100, 32, 32, 128, split="xqa").parts_s["compute_s"]
    assert shared[0] == alone[0]
    assert shared[1] < alone[1]


def test_rotating_more_than_a_head_costs_a_kernel():
    device = DEVICES["h100"]
    narrow, wide = evaluate_decode(device, 8, 512, 32, 8, 64, "fp8", rotary_dim=[64, 128]).latency_s
    assert wide > narrow
    one, same = evaluate_decode(device, 8, 512, 32, 8, 64, "bf16", rotary_dim=[64, 128]).latency_s
    assert one == same  # the kernel over 16-bit caches never rotates on the way


@pytest.mark.parametrize(
    ("device", "m", "n", "k", "measured_us"),
    [  # aiconfigurator 095f58a, bf16
        ("a100", 1024, 12288, 12288, 1174.7), ("a100", 16, 16384, 8192, 188.4),
        ("h100", 8192, 8192, 8192, 1404.8), ("h100", 1, 8192, 8192, 49.2),
        ("h100", 64, 1024, 1024, 4.1),
    ],
)  # fmt: skip
def test_products_near_single_measured_ones(device, m, n, k, measured_us):
    cost = evaluate_gemm(DEVICES[device], m, n, k)
    assert float(cost.latency_s) * 1e6 == pytest.approx(measured_us, rel=0.15)
