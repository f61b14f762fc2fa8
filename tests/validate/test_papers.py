"""``archsim validate papers``: rows follow from machines and models; closed forms are exact."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from archsim.errors import InputError
from archsim.hardware import load_machine
from archsim.models.gpu.attention import equal_share, fixed_rounds, flash_parts
from archsim.system.llm import evaluate_step
from archsim.validate import COMPARISONS, papers
from archsim.validate.papers import deep_optimizer, deepseek, gpipe, ladder, lean, models, sn40l
from archsim.workload import load_model


@pytest.fixture(scope="module")
def rows():
    return list(papers.paper_rows("models,deepseek,llmcompass,gpipe,lean"))


def named(rows, *words):
    found = [row for row in rows if all(word in f"{row.paper} {row.figure}" for word in words)]
    assert found
    return found


@given(st.integers(1, 60), st.integers(1, 12), st.integers(1, 40))
@settings(deadline=None)
def test_waves_are_those_of_blocks_dealt_out(items, blocks, slots):
    assert fixed_rounds(items, blocks, slots) == lean.dealt_rounds(items, blocks, slots)
    assert equal_share(items, blocks, slots) == lean.dealt_rounds(items, blocks, slots)
    for parts in range(1, blocks + 1):  # an equal split is never longer than any fixed one
        fixed = fixed_rounds(items, parts, slots) * np.ceil(blocks / parts)
        assert equal_share(items, blocks, slots) <= fixed


def test_flash_decoding_splits_as_its_heuristic_does():
    # the rule, one case at a time: the fewest parts within 85 % of the fullest last wave
    def rule(items, tiles, slots):
        if items >= 0.8 * slots:
            return 1
        filled = {}
        for parts in range(1, min(128, slots, tiles) + 1):
            if parts > 1 and -(-tiles // parts) == -(-tiles // (parts - 1)):
                continue
            waves = items * parts / slots
            filled[parts] = waves / np.ceil(waves)
        return next(p for p, share in filled.items() if share >= 0.85 * max(filled.values()))

    cases = [(i, t, s) for i in (1, 7, 48, 60, 86, 87, 300) for t in (1, 5, 64, 2048)
             for s in (5, 108, 132)]  # fmt: skip
    for items, tiles, slots in cases:
        assert flash_parts(items, tiles, slots) == rule(items, tiles, slots)
    items, tiles, slots = np.array(cases, float).T
    assert flash_parts(items, tiles, slots).tolist() == [rule(*case) for case in cases]


def test_closed_forms_and_what_was_measured_within_the_allowance(rows):
    for words in (("bubble",), ("LeanAttention", "formula"), ("TPOT",), ("DeepEP",),
                  ("LLMCompass",), ("cache of a token",), ("training",),
                  ("M = 32, K = 4",), ("M = 1, K = 4",)):  # fmt: skip
        for row in named(rows, *words):
            assert row.met, row


def test_bounds_follow_the_machine():
    slow = load_machine("h800x16")
    fast = slow.with_values({"links.infiniband.bandwidth_bytes_per_s": 100e9})
    once, twice = (deepseek.exchange_bound(m, "infiniband") for m in (slow, fast))
    assert once == pytest.approx(2 * twice)
    assert deepseek.exchange_bound(slow, "infiniband", tokens=64) == pytest.approx(2 * once)
    # 32 tokens x 9 targets x 7000 x 3 bytes at 50 GB/s, two micro-batches, 61 layers
    assert once == pytest.approx(32 * 9 * 7000 * 3 / 50e9 * 2 * 61)


def test_ladders_gain_what_is_published_with_and_without_peer_access():
    found = {row.figure: row for row in ladder.rows()}
    for way in ("NVLink", "no peer access"):
        for what in ("decode time", "tokens/s"):
            assert found[f"70B TP8, {way}: change of {what}"].met
    # the authors' tokens/s where NCCL takes one kind of way: none of these rows is calibrated on
    for (way, tensor), _ in ladder.RATES.items():
        if way == "NVLink" or tensor < 8:
            for mode in ("", "+ladder"):
                assert found[f"70B, plan tp{tensor}{mode}{ladder.WAYS[way]}, {way}"].met


def test_operations_of_training_are_six_a_parameter_and_causal_attention():
    model = load_model("gpt-3-175b")
    arch, tokens = model.architecture, 2048
    # products use all weights but the learnt positions; the tied table is the output projection
    linear = 96 * 12 * 12288**2 + arch.vocabulary * 12288
    pairs = 96 * 2 * 12288 * (tokens + 1) / 2
    assert models.training_flops(model, tokens) == pytest.approx(6 * (linear + pairs), rel=1e-12)


def test_a_core_is_half_a_chip():
    chip, cores = load_machine("tpu_v3"), gpipe.tpu_cores(4)
    assert cores.instances() == 4
    costs = [
        evaluate_step("yi-6b", m, phase="prefill", context=512).latency_s[0] for m in (cores, chip)
    ]
    assert costs[0] == pytest.approx(2 * costs[1])


def test_steps_with_states_in_host_memory_are_those_logged():
    # parameters to the digit; H100's host was calibrated on smaller models only
    found = {row.figure: row for row in deep_optimizer.rows()}
    assert found["parameters of the 20B"].met
    steps = [row for name, row in found.items() if name.startswith("20B on four H100, step")]
    assert len(steps) == 6
    assert all(row.met for row in steps), steps


def test_a_miss_is_printed_as_a_miss(capsys, monkeypatch):
    assert "papers" in COMPARISONS
    good = papers.Row("A", "near", 100.0, 109.0, cause="never printed")
    bad = papers.Row("B", "far", 100.0, 111.0, cause="the road is long")
    monkeypatch.setattr(lean, "rows", lambda: iter([good, bad]))
    assert not papers.validate_papers(only="lean")
    lines = capsys.readouterr().out.splitlines()
    assert next(line for line in lines if line.startswith("near")).endswith("met")
    assert next(line for line in lines if line.startswith("far")).endswith("MISSED")
    assert "  missed: the road is long" in lines
    assert not any("never printed" in line for line in lines)
    assert "1 of 2 met. Not computed:" in lines
    monkeypatch.setattr(lean, "rows", lambda: iter([good]))
    assert papers.validate_papers(only="lean")


def test_what_is_not_published_is_varied_beside_the_row(capsys, monkeypatch):
    one = papers.Row("A", "short", 100.0, 80.0, "x", spread=(130.0, 90.0), over="roads of any kind")
    two = papers.Row("A", "long", 7.0, 7.0, least=5.0, spread=(6.0,), over="roads of any kind")
    assert not one.met
    assert one.spans == "80 to 130"
    assert papers.Row("A", "plain", 1.0, 1.0).spans == ""
    monkeypatch.setattr(lean, "rows", lambda: iter([one, two]))
    assert not papers.validate_papers(only="lean")
    lines = capsys.readouterr().out.splitlines()
    at = lines.index("  not published, or told differently: roads of any kind; ours spans")
    assert lines[at + 1] == "    80 to 130 x (published 100): short"
    assert lines[at + 2].split() == ["6", "to", "7", "(published", "5", "to", "7):", "long"]


def test_overall_gains_span_the_published_ones_over_unpublished_lengths():
    found = [row for row in sn40l.experts() if "overall" in row.figure]
    assert len(found) == 8
    for row in found:
        low, high = min(row.spread), max(row.spread)
        assert low <= row.ours <= high
        assert row.ours in row.spread
        assert high > low


def test_families_are_the_modules_of_the_folder():
    assert {"deepseek", "gpipe", "ladder", "lean", "llmcompass", "models", "sn40l"} <= set(
        papers.families()
    )
    each = [list(papers.paper_rows(only=name)) for name in ("gpipe", "lean")]
    assert all(each)
    assert list(papers.paper_rows(only="lean,gpipe")) == each[0] + each[1]
    with pytest.raises(InputError, match="no such family"):
        papers.validate_papers(only="lean,fat")
