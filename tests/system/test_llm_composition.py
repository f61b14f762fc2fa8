"""Composition of experts: LRU exact and in the long run, places, copies, time by part."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from archsim.errors import InputError
from archsim.hardware import load_machine, resolve_node
from archsim.system.llm import evaluate_step
from archsim.system.llm.composition import (
    evaluate_experts,
    lru_hit_share,
    lru_hits,
    zipf_shares,
)
from archsim.system.llm.tiers import tier_path
from archsim.workload import Bits, load_model


def run(machine="sn40lx8", **options):
    given = {"experts": 150, "home": "ddr", "plan": "tp8", "prompt": 1024, **options}
    return evaluate_experts("llama-2-7b", machine, **given)


@given(st.lists(st.integers(0, 9), max_size=60), st.integers(0, 12))
def test_lru_is_the_experts_used_last(requests, slots):
    found = lru_hits(requests, slots)
    for at, expert in enumerate(requests):  # distinct experts since its last use
        before = [i for i in range(at) if requests[i] == expert]
        distinct = len(set(requests[before[-1] + 1 : at])) if before else np.inf
        assert found[at] == (distinct < slots)


@given(st.integers(1, 300), st.integers(0, 320))
def test_alike_requests_hit_as_often_as_experts_are_at_hand(experts, slots):
    share = lru_hit_share(np.full(experts, 3.0), slots)
    assert share == pytest.approx(min(slots / experts, 1.0), abs=1e-9)


@pytest.mark.parametrize(
    ("skew", "experts", "slots"), [(0.0, 60, 20), (1.0, 150, 40), (1.5, 40, 5)]
)
def test_hits_in_the_long_run_are_those_of_a_walk(skew, experts, slots):
    shares = zipf_shares(experts, skew)
    requests = np.random.default_rng(1).choice(experts, 40_000, p=shares)
    walked = lru_hits(requests.tolist(), slots)[2000:].mean()
    assert lru_hit_share(shares, slots) == pytest.approx(walked, abs=0.012)


def test_parts_sum_and_copies_are_paid_by_those_who_wait():
    never, always = run(missing=0.0, batch=4), run(missing=1.0, batch=4)
    assert always.latency_s - never.latency_s == pytest.approx(4 * always.switch_s)
    assert always.energy_j > never.energy_j
    for cost in (never, always, run(batch=3, ahead=True)):
        assert sum(cost.parts_s().values()) == pytest.approx(cost.latency_s)
        assert f"{cost.experts} experts" in cost.explain()
    step = evaluate_step("llama-2-7b", "sn40lx8", phase="prefill", context=1024, plan="tp8")
    assert always.prefill_s == step.latency_s[0]
    decode = evaluate_step("llama-2-7b", "sn40lx8", context=np.arange(1025, 1044), plan="tp8")
    assert always.decode_s == pytest.approx(decode.latency_s.sum())
    assert run(tokens=1).decode_s == 0


def test_a_router_that_writes_names_decodes_for_all_prompts_at_once():
    for batch in (1, 6):
        reads, writes = (run(batch=batch, router_tokens=n) for n in (1, 9))
        steps = evaluate_step(
            "llama-2-7b", "sn40lx8", batch=batch, context=np.arange(1025, 1033), plan="tp8"
        )
        assert writes.router_s == pytest.approx(reads.router_s + steps.latency_s.sum())
        assert writes.latency_s == pytest.approx(reads.latency_s + steps.latency_s.sum())
        assert writes.energy_j == pytest.approx(reads.energy_j + steps.energy_j.sum())
        assert writes.run_s == reads.run_s
        assert writes.slots <= reads.slots


def test_bits_of_weights_and_caches_are_told_apart():
    plain = run("h100x8", home="host_dram", batch=2)
    weights, cache = (
        run("h100x8", home="host_dram", batch=2, bits=bits)
        for bits in (Bits(8, 16, 16), Bits(16, 16, 8))
    )
    table = 2 * 2 * 32000 * 4096  # both tables stay at the activations' bits
    assert weights.expert_bytes == pytest.approx((plain.expert_bytes + table) / 2, rel=1e-3)
    assert weights.switch_s < 0.52 * plain.switch_s
    assert weights.slots > 1.9 * plain.slots
    assert cache.switch_s == plain.switch_s
    assert cache.decode_s < plain.decode_s


@given(st.integers(1, 9), st.floats(0, 1), st.integers(1, 40))
@settings(max_examples=15, deadline=None)
def test_copying_ahead_is_never_slower_and_hides_no_more_than_there_is(batch, missing, tokens):
    options = {"batch": batch, "missing": missing, "tokens": tokens, "prompt": 128}
    plain, ahead = run(**options), run(ahead=True, **options)
    assert ahead.latency_s <= plain.latency_s * (1 + 1e-12)
    hidden = plain.latency_s - ahead.latency_s
    assert hidden <= (batch - 1) * missing * plain.switch_s * (1 + 1e-9) + 1e-12


def test_a_copy_takes_the_way_between_the_tiers():
    machine = load_machine("sn40lx8")
    path = tier_path(machine, resolve_node(machine), "ddr", "hbm")
    held = 2 * load_model("llama-2-7b").parameters / 8
    cost = run()
    assert cost.switch_s == pytest.approx(path.seconds(held)[0], rel=1e-3)
    assert 0.99e12 < cost.expert_bytes / cost.switch_s < 1.01e12  # above 1 TB/s: MICRO'24
    dgx = {"machine": "h100x8", "home": "host_dram"}
    assert run(pulling=1, **dgx).switch_s == pytest.approx(8 * run(**dgx).switch_s, rel=0.01)
    assert run(home="hbm").switch_s == 0


@pytest.mark.parametrize(
    "path",
    ["links.load.bandwidth_bytes_per_s", "links.peer_to_peer.bandwidth_bytes_per_s",
     "tiers.ddr.bandwidth_bytes_per_s", "tiers.hbm.bandwidth_bytes_per_s",
     "tiers.hbm.capacity_bytes", "engines.rdu.rates.bf16.flops_per_s"],
)  # fmt: skip
@pytest.mark.parametrize("ahead", [False, True])
def test_better_hardware_is_never_slower(path, ahead):
    machine = load_machine("sn40lx8")
    last = np.inf
    for times in (0.1, 0.5, 1.0, 4.0, 100.0):
        name, field = path.split(".")[1], path.split(".")[2:]
        value = 0.0
        if path.startswith("engines"):
            value = machine.item("engines", name).rates[0].flops_per_s
        else:
            value = getattr(machine.item(path.split(".")[0], name), field[0])
        now = run(
            machine.with_values({path: times * value}), batch=4, router_tokens=3, ahead=ahead,
            shares=zipf_shares(150, 0.8),
        ).latency_s  # fmt: skip
        assert now <= last * (1 + 1e-12)
        last = now


def test_a_home_that_is_infinitely_fast_is_as_good_as_none():
    free = load_machine("sn40lx8").with_values({
        "links.load.bandwidth_bytes_per_s": 1e18, "links.load.latency_s": 0.0,
        "tiers.ddr.bandwidth_bytes_per_s": 1e18, "tiers.ddr.latency_s": 0.0,
        "tiers.hbm.bandwidth_bytes_per_s": 1e18,
    })  # fmt: skip
    waits, hits = (run(free, missing=share, batch=3) for share in (1.0, 0.0))
    assert waits.latency_s == pytest.approx(hits.latency_s, rel=1e-6)


@given(
    st.integers(1, 6), st.integers(1, 12), st.integers(1, 9), st.floats(0.0, 2.0),
    st.integers(1, 200),
)  # fmt: skip
@settings(max_examples=8, deadline=None)
def test_more_to_do_is_never_faster(batch, tokens, named, skew, experts):
    options = {"batch": batch, "tokens": tokens, "prompt": 256, "router_tokens": named,
               "experts": experts, "shares": zipf_shares(experts, skew)}  # fmt: skip
    less = run(**options)
    more = {"batch": batch + 1, "tokens": tokens + 1, "prompt": 257, "router_tokens": named + 1}
    for name, value in more.items():
        cost = run(**{**options, name: value})
        assert cost.latency_s >= less.latency_s * (1 - 1e-12)
        assert cost.energy_j >= less.energy_j * (1 - 1e-12)
    crowd = run(**{**options, "experts": experts + 50, "shares": zipf_shares(experts + 50, skew)})
    assert crowd.missing >= less.missing - 1e-9


@given(st.lists(st.floats(0.01, 1.0), min_size=1, max_size=60), st.integers(0, 60))
@settings(deadline=None)
def test_more_places_never_hit_less(shares, slots):
    some, more = (lru_hit_share(shares, n) for n in (slots, slots + 1))
    assert 0.0 <= some <= more + 1e-9 <= 1.0 + 1e-9
    # no policy without foresight beats keeping the most wanted
    best = sum(sorted(shares, reverse=True)[:slots]) / sum(shares)
    assert some <= best + 1e-9


def test_running_out_of_room_is_a_result():
    few, some, many = (run("a100x8", home="host_dram", experts=n) for n in (40, 150, 200))
    assert few.fits
    assert not few.spills
    assert few.missing == 0
    assert some.fits
    assert some.spills
    assert some.missing == pytest.approx(1 - some.slots / 150)
    assert not many.fits
    assert many.overflow_bytes == pytest.approx(200 * many.expert_bytes - 2199023255552)
    assert "OUT OF MEMORY" in many.explain()
    assert many.most_experts == 163
    tiny = load_machine("a100x8").with_values({"tiers.hbm.capacity_bytes": 2e9})
    none = run(tiny, home="host_dram", experts=1)
    assert none.slots == 0
    assert not none.fits


def test_requests_are_walked_exactly():
    requests = list(range(50)) * 2
    cost = run(requests=requests, experts=50)
    assert cost.missing == pytest.approx(1.0)  # a cycle longer than the places never hits
    assert run(requests=requests, experts=50, batch=2).missing == cost.missing
    assert run(requests=[7] * 10).missing == pytest.approx(0.1)
    shares = zipf_shares(150, 1.2)
    assert run(shares=shares).missing < run().missing
    assert replace(cost, slots=60).spills is False


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"experts": 0}, "positive whole"),
        ({"tokens": 1.5}, "positive whole"),
        ({"missing": 1.5}, "a share"),
        ({"home": "tape"}, "none of the tiers"),
        ({"requests": [150]}, "by number"),
        ({"shares": [1.0]}, "one share an expert"),
        ({"shares": [-1.0] * 150}, "none negative"),
        ({"shares": [0.0] * 150}, "must be asked for"),
        ({"pulling": 0}, "positive whole"),
        ({"pulling": 1.5}, "positive whole"),
        ({"pulling": 9}, "more devices pull"),
        ({"router": "vit-large-16"}, "reads no prompt"),
        ({"experts": 10**9}, "1 to 10000000"),
        ({"prompt": 0}, "positive whole"),
        ({"batch": True}, "positive whole"),
        ({"router_tokens": 0}, "positive whole"),
    ],
)
def test_a_mistake_is_named(options, words):
    with pytest.raises(InputError, match=words):
        run(**options)
