"""Steps that mix requests: counts of the graph, kinds that come and go, weights read once."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from archsim.errors import InputError
from archsim.system.llm import Share, evaluate_step
from archsim.system.llm.calls import end_calls
from archsim.system.llm.mixed import grid_of, mixed_cache_bytes, mixed_layer_calls
from archsim.workload import Bits, Request, available_models, load_model

TEXT = [name for name in available_models() if load_model(name).architecture.causal]


def grid(requests, tensor=1, data=1, expert=1):
    def one(value):
        return np.array([float(value)])

    kinds = [{"batch": one(r.count), "new": one(r.new), "context": one(r.context)}
             for r in requests]  # fmt: skip
    return grid_of(kinds, {"tensor": one(tensor), "data": one(data), "expert": one(expert)}, 1.0)


def run(name="llama-3-8b", machine="h100x8", **options):
    return evaluate_step(name, machine, **{"batch": 8, "context": 1024, "plan": "tp8", **options})


@pytest.mark.parametrize("name", TEXT)
def test_calls_of_a_mixed_step_count_what_the_graph_counts(name):
    model = load_model(name)
    arch = model.architecture
    for requests in (
        [Request(1, 300, 3), Request(64, 64, 2)],
        [Request(128, 640), Request(1, 65, 4), Request(1, 1000, 2)],
    ):
        g = grid(requests)
        macs, cache = 0.0, 0.0
        for layer, count in Counter(arch.layers).items():
            calls = mixed_layer_calls(arch, layer, g, Bits())
            assert len({call.name for call in calls}) == len(calls)
            macs += count * sum(np.sum(call.macs) for call in calls)
            cache += count * mixed_cache_bytes(layer, g, Bits()).sum()
        macs += sum(np.sum(call.macs) for call in end_calls(arch, g, Bits()))
        assert macs == model.step(requests).macs
        assert cache == model.cache_bytes(requests)


@given(
    st.sampled_from(["llama-3-8b", "mixtral-8x7b", "deepseek-v2", "minimax-text-01"]),
    st.sampled_from(["h100x8", "sn40lx8", "tpu_v3x8"]),
    st.integers(1, 64),
    st.integers(1, 4096),
    st.sampled_from(["tp8", "tp4pp2mb2", "tp2dp4"]),
)
@settings(max_examples=15, deadline=None)
def test_a_kind_that_is_absent_changes_nothing(name, machine, batch, context, plan):
    options = {"batch": batch, "context": context, "plan": plan, "machine": machine}
    alone = run(name, **options)
    mixed = run(name, beside=[Share(0, 64, 256)], **options)
    assert mixed.latency_s[0] == pytest.approx(alone.latency_s[0], rel=1e-12)
    assert mixed.energy_j[0] == pytest.approx(alone.energy_j[0], rel=1e-12)
    assert mixed.tokens[0] == alone.tokens[0]
    assert mixed.overflow_bytes[0] == alone.overflow_bytes[0]
    other = run(name, **{**options, "batch": 0}, beside=[Share(batch, 1, context)])
    assert other.latency_s[0] == pytest.approx(alone.latency_s[0], rel=1e-12)


@given(st.integers(1, 48), st.integers(512, 8192), st.integers(1, 2), st.integers(1, 1024))
@settings(max_examples=15, deadline=None)
def test_a_mixed_step_is_shorter_than_its_kinds_apart_and_longer_than_each(b, n, chunks, new):
    decode = run("llama-3-70b", batch=b, context=n)
    chunk = run("llama-3-70b", batch=chunks, new=new, context=new + 512)
    mixed = run("llama-3-70b", batch=b, context=n, beside=[Share(chunks, new, new + 512)])
    assert mixed.tokens[0] == b + chunks * new
    apart = decode.latency_s[0] + chunk.latency_s[0]
    assert max(decode.latency_s[0], chunk.latency_s[0]) < mixed.latency_s[0] * (1 + 0.02)
    assert mixed.latency_s[0] < apart
    attend = sum(v[0] for n, v in mixed.calls_s.items() if n.endswith("attend"))
    alone = sum(cost.calls_s["mixer.attend"][0] for cost in (decode, chunk))
    assert attend == pytest.approx(alone)
    assert mixed.latency_s[0] == pytest.approx(sum(v[0] for v in mixed.parts_s.values()))
    once = mixed.latency_s[0] - mixed.parts_s["pipeline"][0]
    assert once == pytest.approx(sum(v[0] for v in mixed.bound_s.values()))


def test_rows_of_mixed_steps_are_themselves():
    rows = [(32, 4096, 1, 512, 2048), (0, 1, 2, 100, 100), (7, 999, 0, 1, 1)]
    b, n, chunks, new, context = np.array(rows).T
    many = run("mixtral-8x7b", batch=b, context=n, beside=[Share(chunks, new, context)])
    for row, (b, n, chunks, new, context) in enumerate(rows):
        one = run("mixtral-8x7b", batch=b, context=n, beside=[Share(chunks, new, context)])
        assert many.latency_s[row] == pytest.approx(one.latency_s[0], rel=1e-12)
        assert many.tokens[row] == one.tokens[0] == b + chunks * new


def test_rows_may_differ_in_one_kind_alone():
    for options in ({"batch": [4, 8, 16]}, {"context": [500, 900, 1000]}):
        many = run(**options, beside=[Share(1, 64, 256)])
        assert len(many.latency_s) == 3
        assert (np.diff(many.latency_s) > 0).all()
    with pytest.raises(InputError, match=r"beside.0.new"):
        run(batch=[4, 8, 16], beside=[Share(1, [1, 2], 256)])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"batch": 0, "beside": [Share(0, 1, 1)]}, "at least one request"),
        ({"batch": 0}, "positive whole number"),
        ({"beside": [Share(1, 2, 1)]}, "includes the new"),
        ({"beside": [Share(1, 0, 1)]}, "positive whole number"),
        ({"beside": [Share(-1, 1, 1)]}, "whole number"),
    ],
)
def test_a_mistake_is_named(options, words):
    with pytest.raises(InputError, match=words):
        run(**options)
