"""Attention pipelines and their top-k engine: closed forms beside simulations, and laws."""

from __future__ import annotations

import random
from dataclasses import fields
from fractions import Fraction
from functools import cache
from math import ceil

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from archsim.errors import InputError
from archsim.models.pruned_attention import AttentionPipeline, AttentionWork, evaluate_attention
from archsim.models.topk import (
    expected_cycles,
    expected_cycles_exact,
    expected_passes,
    expected_values,
)

# ------------------------------------------------------------------------------ the top-k engine


def engine_cycles(values: list[int], k: int, comparators: int, rng: random.Random) -> int:
    """One run of the engine: a buffer read beat by beat, both sides written to buffers."""
    buffer, cycles = list(values), 0
    while True:
        pivot, larger, smaller = buffer[rng.randrange(len(buffer))], [], []
        for start in range(0, len(buffer), comparators):
            cycles += 1
            for value in buffer[start : start + comparators]:
                (larger if value > pivot else smaller).append(value)
        cycles += 3
        smaller.remove(pivot)
        if len(larger) == k - 1:
            return cycles
        if len(larger) >= k:
            buffer = larger
        else:
            buffer, k = smaller, k - len(larger) - 1


@cache
def every_pivot(n: int, k: int, comparators: int) -> Fraction:
    """Mean over all choices of pivots, as a fraction; the pivot's rank counts from the largest."""
    own = Fraction(ceil(n / comparators) + 3)
    for rank in range(1, n + 1):
        if rank > k:
            own += every_pivot(rank - 1, k, comparators) / n
        elif rank < k:
            own += every_pivot(n - rank, k - rank, comparators) / n
    return own


@pytest.mark.parametrize("comparators", [1, 3, 16])
def test_recursion_is_the_mean_over_all_pivots(comparators):
    for n in (1, 2, 5, 17, 33):
        for k in range(1, n + 1):
            exact = float(every_pivot(n, k, comparators))
            assert expected_cycles_exact(n, k, comparators) == pytest.approx(exact, rel=1e-12)


def test_simulated_runs_average_to_the_recursion():
    rng = random.Random(7)
    for n, k, p in ((200, 40, 16), (64, 64, 4)):
        values = rng.sample(range(10**6), n)
        runs = [engine_cycles(values, k, p, rng) for _ in range(1500)]
        spread = np.std(runs) / np.sqrt(len(runs))
        assert abs(np.mean(runs) - expected_cycles_exact(n, k, p)) < 4 * spread


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 600), st.data(), st.sampled_from([1, 4, 8, 16, 32]))
def test_closed_form_is_near_the_recursion(n, data, p):
    k = data.draw(st.integers(1, n))
    exact, closed = expected_cycles_exact(n, k, p), float(expected_cycles(n, k, p))
    assert closed == pytest.approx(exact, rel=0.07 if n < 32 * p else 0.02)
    if p == 1:  # no beat is partly full
        assert closed == pytest.approx(exact, rel=1e-9)
    assert expected_passes(n, k) >= 1 - 1e-9
    assert expected_values(n, k) >= n - 1e-6
    assert expected_cycles(n, k, 2 * p) <= expected_cycles(n, k, p) * (1 + 1e-9)


def test_wrong_ranks_are_refused():
    for n, k in ((4, 0), (4, 5)):
        with pytest.raises(InputError, match=r"1\.\.n"):
            expected_cycles(n, k, 16)
    with pytest.raises(InputError):
        expected_cycles_exact(5000, 1, 16)


# ---------------------------------------------------------------------------------- the pipeline

PIPELINE = AttentionPipeline(
    key_multipliers=32.0, value_multipliers=16.0, softmax_lanes=4.0, comparators=4.0,
    pass_cycles=3.0, pipeline_cycles=20.0, query_bits=16.0, key_buffer_bytes=256.0,
    value_buffer_bytes=256.0, word_bits=12.0, softmax_ops=9.0, tier_bits_per_cycle=64.0,
    tier_j_per_bit=5e-12, node_nm=40.0,
)  # fmt: skip


def work(**sizes) -> AttentionWork:
    base = {
        "requests": 1, "queries": 1, "heads": 2, "before": 40, "keys": 40, "values": 40,
        "head_dim": 8, "key_bits": 16, "low_bits": 0, "low_share": 0, "value_bits": 16,
    }  # fmt: skip
    return AttentionWork(**{name: np.array([float(v)]) for name, v in (base | sizes).items()})


def walked(w: AttentionWork, e: AttentionPipeline) -> dict[str, float]:
    """Stages walked query by query, key by key; traffic by the words a buffer does not hold."""
    at = {f.name: float(getattr(w, f.name)[0]) for f in fields(w)}
    count = {"memory": 0.0, "scores": 0, "softmax": 0, "values": 0}
    for _ in range(int(at["requests"] * at["heads"])):
        room = {"k": e.key_buffer_bytes * 4, "v": e.value_buffer_bytes * 4}  # half, in bits
        size = at["keys"] * at["head_dim"]
        kept = {"k": size * at["key_bits"] <= room["k"], "v": size * at["value_bits"] <= room["v"]}
        held: dict[str, set] = {"k": set(), "v": set()}
        for query in range(int(at["queries"])):
            count["memory"] += 2 * at["head_dim"] * e.query_bits
            # each query wants other values: those after its predecessor's, round and round
            first = int(query * at["values"])
            wanted = [(first + j) % int(at["keys"]) for j in range(int(at["values"]))]
            for side, words in (("k", range(int(at["keys"]))), ("v", wanted)):
                for word in words:
                    if word not in held[side]:
                        bits = at["key_bits"] if side == "k" else at["value_bits"]
                        count["memory"] += at["head_dim"] * bits
                    if kept[side]:
                        held[side].add(word)
            for stage, rows, rate in (
                ("scores", at["keys"], e.key_multipliers / at["head_dim"]),
                ("softmax", at["keys"], e.softmax_lanes),
                ("values", at["values"], e.value_multipliers / at["head_dim"]),
            ):
                left = rows
                while left > 0:
                    count[stage], left = count[stage] + 1, left - rate
    return count


@settings(max_examples=80, deadline=None)
@given(
    st.integers(1, 2), st.integers(1, 5), st.integers(1, 3), st.integers(1, 30), st.data(),
    st.sampled_from([4, 8, 16]), st.sampled_from([4.0, 12.0]),
)  # fmt: skip
def test_stages_are_those_of_the_walk(requests, queries, heads, keys, data, width, bits):
    values = data.draw(st.integers(1, keys))
    w = work(requests=requests, queries=queries, heads=heads, before=keys, keys=keys, values=values,
             head_dim=width, key_bits=bits, value_bits=bits)  # fmt: skip
    cost, count = evaluate_attention(w, PIPELINE), walked(w, PIPELINE)
    assert cost.stage_cycles["memory"][0] * 64 == pytest.approx(count["memory"])
    for stage in ("scores", "softmax", "values"):
        assert cost.stage_cycles[stage][0] == count[stage]
    assert cost.cycles >= max(cycles[0] for cycles in cost.stage_cycles.values())


@settings(max_examples=100, deadline=None)
@given(
    st.integers(1, 4), st.integers(2, 8), st.integers(10, 900), st.floats(0.05, 1),
    st.floats(0.05, 1), st.sampled_from([4.0, 6.0, 12.0]),
)  # fmt: skip
def test_pruning_never_raises_traffic(queries, heads, context, tokens, share, bits):
    """Nor the time or energy of any stage but the one that chooses, which dense work has not."""
    dense = work(queries=queries, heads=heads, before=context, keys=context, values=context)
    keys = max(1, int(tokens * context))
    values = max(1, int(share * keys))
    pruned = work(queries=queries, heads=max(1, heads - 1), before=context, keys=keys,
                  values=values, key_bits=bits, value_bits=bits)  # fmt: skip
    cost, full = evaluate_attention(pruned, PIPELINE), evaluate_attention(dense, PIPELINE)
    assert cost.bits_moved <= full.bits_moved
    assert cost.macs <= full.macs
    for stage in ("memory", "scores", "softmax", "values"):
        assert cost.stage_cycles[stage] <= full.stage_cycles[stage]
    for name, part in cost.energy_by_part_j.items():
        if name != "top_k":
            assert part <= full.energy_by_part_j[name] * (1 + 1e-12)


def test_everything_kept_is_dense():
    dense = evaluate_attention(work(), PIPELINE)
    same = evaluate_attention(work(low_bits=4, low_share=0), PIPELINE)
    assert same.cycles == dense.cycles
    assert same.energy_j == dense.energy_j
    assert dense.stage_cycles["top_k"] == dense.select_cycles == 0
    assert dense.energy_by_part_j["top_k"] == 0


def test_doubt_costs_low_bits_and_a_second_pass():
    sure, doubtful = (
        evaluate_attention(work(key_bits=6, low_bits=4, low_share=share), PIPELINE)
        for share in (0, 1)
    )
    assert doubtful.key_bits_moved / sure.key_bits_moved == pytest.approx(10 / 6)
    assert doubtful.stage_cycles["scores"] == 2 * sure.stage_cycles["scores"]
    # never more than reading all bits at once
    whole = evaluate_attention(work(key_bits=10), PIPELINE)
    assert doubtful.key_bits_moved == whole.key_bits_moved
