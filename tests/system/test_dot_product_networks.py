"""Networks on dot-product arrays: sums, published cycles, quality, batches and the environment."""

from __future__ import annotations

import numpy as np
import pytest

from archsim.envs import Problem
from archsim.errors import InputError
from archsim.hardware import load_machine
from archsim.models.dot_product import Products, evaluate_products
from archsim.system import evaluate
from archsim.system.dot_product import DotProductEvaluator, resolve_arrays
from archsim.validate.papers import bitmod
from archsim.workload import load_model, load_workload
from archsim.workload.fold import unfold
from archsim.workload.quality import perplexity, published_models

MACHINES = ("bitmod", "fp16_array", "ant", "olive")
#: Stored in the notebook of BitMoD's repository (sim/plot/speedup_plot.ipynb): prompt, token.
STORED = {
    ("FP16", "opt-1.3b"): (669255680, 82153718),
    ("ANT", "yi-6b"): (1734868992, 119342816),
    ("OliVe", "llama-3-8b"): (2008645632, 105031744),
    ("BitMoD lossless", "phi-2"): (693780480, 62986912),
    ("BitMoD lossy", "llama-2-13b"): (2601461760, 154552560),
}
#: Energy in uJ, stored beside them: on chip, and all (energy_plot.ipynb).
STORED_UJ = {("FP16", "llama-2-7b", False): (2928682, 15511220),
             ("BitMoD lossy", "llama-2-7b", True): (52631, 434198)}  # fmt: skip


@pytest.fixture(scope="module")
def step():
    return load_workload("llama-2-7b:decode:64")


@pytest.mark.parametrize(("accelerator", "model"), STORED)
def test_stored_cycles_to_the_digit(accelerator, model):
    for generative, stored in enumerate(STORED[accelerator, model]):
        assert bitmod.step_cost(accelerator, model, bool(generative)).cycles.sum() == stored


@pytest.mark.parametrize(("accelerator", "model", "generative"), STORED_UJ)
def test_stored_energy(accelerator, model, generative):
    chip, whole = STORED_UJ[accelerator, model, generative]
    cost = bitmod.step_cost(accelerator, model, generative)
    # memory to the digit; on chip within what another fit of CACTI's SRAM makes
    assert cost.tier_j.sum() * 1e6 == pytest.approx(whole - chip, abs=2)
    assert cost.energy_j.sum() == pytest.approx(whole / 1e6, rel=0.04)


def test_attention_head_by_head_is_that_of_the_graph():
    made = bitmod.step_products(load_model("llama-3-8b"), 256, published=False)
    graph = load_model("llama-3-8b").workload("prefill", context=256, all_logits=True)
    assert made.macs.sum() == unfold(graph).macs
    shapes = bitmod.step_products(load_model("llama-3-8b"), 256, published=True)
    scores = shapes.macs[shapes.cached][::2].sum() / made.macs[made.cached][::2].sum()
    assert scores == 32  # the published shapes count the scores of a head for every head


@pytest.mark.parametrize("machine", MACHINES)
def test_layers_sum_to_totals(machine, step):
    cost = evaluate(step, machine)
    assert cost.feasible
    assert sum(layer.latency_s for layer in cost.layers) == pytest.approx(cost.latency_s)
    assert sum(layer.energy_j for layer in cost.layers) == pytest.approx(cost.energy_j)
    assert sum(cost.energy_by_component_j.values()) == pytest.approx(cost.energy_j)
    assert sum(cost.area_by_component_mm2.values()) == pytest.approx(cost.area_mm2)
    assert sum(layer.macs for layer in cost.layers) == step.macs
    assert 0 < cost.utilization <= 1
    moved = sum(layer.backing_bytes for layer in cost.layers)
    assert cost.latency_s >= moved / 32e9 * (1 - 1e-12)
    assert machine in cost.explain()


def test_a_network_is_its_products(step):
    """The evaluator beside a plain walk over the graph's einsums."""
    machine = load_machine("bitmod")
    array = resolve_arrays(machine).array
    cycles = 0.0
    for op in step.operations:
        if op.einsum is None:
            continue
        extents = dict(op.einsum.dims)
        groups = extents.get("G", 1)
        weight = step.tensors[op.einsum.operands[1].tensor]
        sizes = (extents["M"], extents["C"], extents["P"] * extents.get("N", 1), groups)
        made = Products(*(np.ones(1) * x for x in sizes), np.array([weight.role == "kv_cache"]))
        cycles += float(evaluate_products(made, array).compute_cycles[0, 0])
    layers = evaluate(step, machine).layers
    assert sum(layer.compute_cycles for layer in layers) == cycles


def test_a_batch_is_its_designs_one_by_one(step):
    evaluator = DotProductEvaluator([step], None, load_machine("bitmod"))
    values = {
        "engines.array.weight_bits": [3.0, 4.0, 16.0, 5.0],
        "engines.array.rows": [32, 64, 16, 32],
        "engines.array.weight_buffer_bytes": [65536, 524288, 131072, 524288],
    }
    batch = evaluator.evaluate(values)
    assert batch["feasible"].tolist() == [True, True, True, False]  # no 5 bits are published
    for row in range(4):
        one = evaluator.evaluate({path: column[row] for path, column in values.items()})
        for name, column in batch.items():
            assert column[row] == one[name][0], name
    changed = load_machine("bitmod").with_values({p: c[2] for p, c in values.items()})
    assert DotProductEvaluator([step], None, changed).evaluate()["energy_j"] == batch["energy_j"][2]


def test_designs_that_make_no_sense_are_named(step):
    evaluator = DotProductEvaluator([step], None, load_machine("bitmod"))
    found = evaluator.evaluate({"engines.array.columns": [32, 31], "engines.array.rows": [0, 32]})
    assert not found["feasible"].any()
    assert all(np.isfinite(column).all() for column in found.values())
    with pytest.raises(InputError, match="fold"):
        load_machine("bitmod").with_values({"engines.array.columns": 31})
    with pytest.raises(InputError, match="no dot_product engine"):
        DotProductEvaluator([step], None, load_machine("eyeriss"))


def test_scenario_trades_quality_for_energy_and_time():
    problem = Problem("weight_bits")
    base = problem.space.encode({
        "weight_bits": 4, "rows": 32, "columns": 32, "fold": 2, "weight_kb": 512, "input_kb": 512,
        "banks": 8, "vector_lanes": 32,
    })  # fmt: skip
    designs = np.repeat(np.atleast_2d(base), 5, axis=0)
    designs[:, 0] = range(5)
    found = problem.evaluate(designs)
    assert found["feasible"].all()
    assert found["perplexity"].tolist() == [6.55, 5.72, 5.49, 5.47, 5.47]
    assert (np.diff(found["energy_j"]) > 0).all()
    assert (np.diff(found["latency_s"]) > 0).all()
    assert found["reward"][1] == pytest.approx(0.5)


def test_quality_is_looked_up_never_guessed():
    assert "llama-2-7b" in published_models()
    assert perplexity("llama-2-7b", "bitmod", 4, 128) == 5.72
    assert perplexity("llama-2-7b", "bitmod", 4, 128, "c4") == 7.26
    for unknown in (
        ("llama-2-7b", "bitmod", 4, 64),  # other groups
        ("llama-2-7b", "bitmod", 4, np.nan),  # none
        ("llama-2-7b", "bitmod", 5, 128),
        ("llama-2-70b", "bitmod", 4, 128),
        ("llama-2-7b", "olive", 6, 128),
    ):
        assert np.isnan(perplexity(*unknown))
    with pytest.raises(InputError, match="corpus"):
        perplexity("llama-2-7b", "bitmod", 4, 128, "ptb")
    # fewer bits never improve a format by more than the spread of 6 bits beside 16 (table II)
    for model in published_models():
        for form in ("ant", "olive", "bitmod", "int"):
            bits = [16, 6, 4, 3]
            row = perplexity(model, form, bits, 128)
            row = row[~np.isnan(row)]
            assert (np.diff(row) > -0.15).all()


def test_the_report_gives_the_published_perplexity(step):
    cost = evaluate(step, "bitmod")
    assert f"perplexity {cost.metrics['perplexity']:.2f} (published)" in cost.explain()
