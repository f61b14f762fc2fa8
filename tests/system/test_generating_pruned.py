"""Pruned attention from setting to machine: published traces, the graph, what is refused."""

from __future__ import annotations

import numpy as np
import pytest

from archsim.errors import InputError
from archsim.hardware import load_machine
from archsim.system import evaluate
from archsim.system.pruned_attention import attention_work, generate, resolve_pipeline
from archsim.validate.papers import paper_rows
from archsim.workload import load_model
from archsim.workload.fold import unfold
from archsim.workload.pruning import (
    Pruning,
    available_prunings,
    cascade,
    load_pruning,
    pruned_step,
)

#: Of the traces in mit-han-lab/spatten, second token (994 in context): keys and values by layer.
TRACE = {
    "spatten-gpt2": ([921, 716, *[204] * 4, *[102] * 6], [184, 143, *[40] * 4, *[20] * 6]),
    "spatten-gpt2-medium": (
        [994, 994, 921, 819, 819, *[614] * 6, *[307] * 13],
        [307, 307, 276, 245, 245, *[184] * 6, *[92] * 13],
    ),
}


@pytest.mark.parametrize("name", available_prunings())
def test_what_layers_fetch_is_what_the_trace_says(name):
    setting = load_pruning(name)
    keys, values = TRACE[name]
    assert setting.kept_keys(994).tolist() == keys
    assert setting.kept_values(994).tolist() == values
    assert set(setting.kept_keys(993, pruned=False)) == {993}  # the first token
    assert set(setting.kept_values(993, pruned=False)) == {int(setting.values * 1024)}


def test_published_shares_and_traffic():
    rows = list(paper_rows("spatten"))
    assert len(rows) == 9
    assert all(row.met for row in rows)


@pytest.mark.parametrize("name", available_prunings())
def test_pruning_pays_on_its_machine(name):
    setting = load_pruning(name)
    pruned, dense = generate(setting), generate(setting.dense())
    assert dense.cache_bytes / pruned.cache_bytes > 4
    assert dense.latency_s / pruned.latency_s > 3
    assert dense.energy_j > pruned.energy_j
    assert set(dense.bound_s) == {"memory"}
    for cost in (pruned, dense):
        assert sum(cost.bound_s.values()) == pytest.approx(cost.latency_s)
        assert sum(cost.energy_by_part_j.values()) == pytest.approx(cost.energy_j)
        assert cost.latency_s >= cost.bytes_moved / 512e9
        assert cost.flops_per_s < 2 * 1024e9
    machine = load_machine("spatten").with_values({"engines.pipeline.comparators": 1})
    assert generate(setting, machine).latency_s > dense.latency_s  # a slow engine undoes it


def test_dense_traffic_is_the_whole_cache():
    dense = generate(load_pruning("spatten-gpt2").dense(), prompt=100, tokens=3)
    assert dense.key_share == pytest.approx(1)
    each = load_model("gpt2").kv_bytes_per_token()
    assert dense.cache_bytes == pytest.approx(each * (101 + 102 + 103))


@pytest.mark.parametrize("phase", ["decode", "prefill"])
def test_nothing_pruned_is_the_model_itself(phase):
    setting = load_pruning("spatten-gpt2").dense()
    made = pruned_step(setting, phase, context=300)
    whole = unfold(load_model("gpt2").workload(phase, context=300))
    assert made.operations == whole.operations
    assert made.tensors == whole.tensors


def test_the_graph_holds_the_work_that_is_left():
    setting = load_pruning("spatten-gpt2-medium")
    made = pruned_step(setting, "decode", context=1000)
    work = attention_work(setting, [1000], unpruned=0)
    einsums = [op.einsum for op in made.operations if op.kind == "matmul"]
    macs = sum(einsum.macs for einsum in einsums)
    assert macs == (work.heads * (work.keys + work.values) * work.head_dim).sum()
    cached = [t for t in made.tensors.values() if t.role == "kv_cache"]
    bits = work.heads * work.head_dim * (work.keys * 12 + work.values * 8)
    assert sum(t.size_bytes for t in cached) * 8 == bits.sum()
    # and runs on any machine, cheaper than the whole
    whole = unfold(load_model("gpt2-medium").workload("decode", context=1000))
    assert evaluate(made, "bitmod").energy_j < evaluate(whole, "bitmod").energy_j


def test_a_prompt_shrinks_from_layer_to_layer():
    setting = Pruning(model="gpt2", window=200, tokens=cascade(12, 0.8, 0.2), values=0.5)
    made = pruned_step(setting, "prefill", context=200, batch=2)
    rows = [dict(op.einsum.dims)["P"] for op in made.operations if op.name.endswith("mlp.up")]
    assert rows == (2 * setting.kept_keys(200)).tolist()
    assert rows == sorted(rows, reverse=True)
    whole = unfold(load_model("gpt2").workload("prefill", context=200, batch=2))
    assert made.macs < whole.macs
    shares = np.linspace(0.2, 1, 5)
    steps = [setting.model_copy(update={"tokens": tuple([1.0, *[s] * 11])}) for s in shares]
    macs = [pruned_step(step, "prefill", context=200).macs for step in steps]
    assert macs == sorted(macs)


def test_batches_of_machines_are_their_rows():
    machine = load_machine("spatten")
    values = {"engines.pipeline.comparators": [1, 16, 64]}
    pipeline, clock = resolve_pipeline(machine, values)
    assert pipeline.comparators.shape == clock.shape == (3, 1)
    assert (pipeline.tier_bits_per_cycle == 4096).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tokens": (0.5, 0.9)}, "cannot keep what an earlier one dropped"),
        ({"tokens": (1.0, 0.0)}, "at least something"),
        ({"tokens": (1.0, 1.5)}, "shares lie in"),
        ({"heads": (12,)}, "one entry a layer"),
        ({"heads": (8, 9)}, "cannot keep what an earlier one dropped"),
        ({"low_share": (0.1,)}, "one entry a layer"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_wrong_settings_are_refused(tmp_path, change, message):
    import yaml

    data = {"model": "gpt2", "window": 64, "tokens": [1.0, 0.5]} | {
        name: list(value) if isinstance(value, tuple) else value for name, value in change.items()
    }
    path = tmp_path / "setting.yaml"
    path.write_text(yaml.safe_dump(data), encoding="utf-8")
    with pytest.raises(InputError, match=message):
        load_pruning(path)


def test_settings_that_do_not_fit_are_refused():
    short = Pruning(model="gpt2", window=64, tokens=(1.0, 0.5))
    for attempt in (lambda: pruned_step(short, context=64), lambda: generate(short)):
        with pytest.raises(InputError, match="another number of"):
            attempt()
    many = Pruning(model="gpt2", window=64, tokens=(1.0,) * 12, heads=(13,) * 12)
    with pytest.raises(InputError, match="more heads"):
        generate(many)
    grouped = Pruning(model="llama-3-8b", window=64, tokens=(1.0,) * 32)
    with pytest.raises(InputError, match="as many key as query heads"):
        pruned_step(grouped, context=64)
    with pytest.raises(InputError, match="no such setting"):
        load_pruning("spatten-gpt3")
    with pytest.raises(InputError, match="no attention engine"):
        generate("spatten-gpt2", "eyeriss")
    with pytest.raises(InputError, match="shares fall"):
        cascade(12, 0.2, 0.8)
