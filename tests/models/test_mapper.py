"""The mapper: close to the best of its mapspace, never beyond it, and honest when nothing fits."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from archsim.hardware import DATAFLOWS, available_machines, load_machine, resolve
from archsim.models.lanes import LANES
from archsim.models.loopnest import kernel as k
from archsim.models.loopnest.dataflows import TEMPLATES, masks_of, template_table
from archsim.models.loopnest.mapper import OBJECTIVES
from archsim.models.loopnest.nest import build_nest
from archsim.system import NetworkEvaluator, evaluate
from archsim.validate.mapper import gaps
from archsim.workload.graph import (
    Operation,
    Tensor,
    Workload,
    conv2d_einsum,
    matmul_einsum,
)

NO_COUNTS = np.zeros((0, 0, 3, 3))


def single(einsum) -> Workload:
    """A network of one operation."""
    sizes = []
    extents = einsum.extents
    for access in einsum.operands:
        shape = tuple(
            sum(c * (extents[d] - 1) for d, c in rank) + 1 for rank in access.ranks if rank
        )
        sizes.append(Tensor(access.tensor, shape))
    data, weight, output = (access.tensor for access in einsum.operands)
    operation = Operation("only", "conv2d", (data, weight), (output,), einsum=einsum)
    return Workload("single", {t.name: t for t in sizes}, (operation,))


def conv(m, c, p, q, r, s, **more):
    return conv2d_einsum(
        "i", "w", "o", batch=more.pop("batch", 1), groups=more.pop("groups", 1), out_channels=m,
        in_channels=c, out_size=(p, q), kernel=(r, s), **more,
    )  # fmt: skip


LAYERS = {
    "conv": conv(8, 6, 6, 1, 3, 1),
    "strided": conv(4, 3, 5, 1, 3, 1, stride=(2, 1)),
    "pointwise": conv(12, 10, 6, 1, 1, 1),
    "depthwise": conv(5, 5, 6, 1, 3, 1, groups=5),
    "gemm": matmul_einsum("i", "w", "o", rows=12, inner=9, columns=20),
    "heads": matmul_einsum("i", "w", "o", rows=6, inner=5, columns=7, batch=3, shared_weight=False),
}  # fmt: skip

# Buffers are shrunk until the tiny layers do not fit whole, so that tiling matters.
MACHINES = {
    "tiny": {"engines.array.slots.buffer.capacity_bytes": 128},
    "eyeriss": {
        "engines.array.slots.glb.capacity_bytes": 256,
        "engines.array.slots.columns.fanout": 3,
        "engines.array.slots.rows.fanout": 3,
    },
    "gemmini": {
        "engines.array.slots.scratchpad.capacity_bytes": 160,
        "engines.array.slots.columns.fanout": 4,
        "engines.array.slots.rows.fanout": 4,
    },
}


def machine(name: str):
    return load_machine(name).with_values(MACHINES[name])


def chosen(einsum, engines, objective: str, effort: str = "fast"):
    """The evaluator, nest, and the results, factors, orders and kept operands chosen."""
    evaluator = NetworkEvaluator([single(einsum)], effort=effort, objective=objective)
    _, details, nest = evaluator.run(engines, details=True)
    return evaluator, nest, *(array[0, 0] for array in details)


def value(results: np.ndarray, objective: str) -> np.ndarray:
    """What is minimised, infinite where a tile does not fit."""
    energy, cycles = results[..., k.ENERGY_J], results[..., k.CYCLES]
    score = {"edp": energy * cycles, "energy": energy, "latency": cycles}[objective]
    return np.where(results[..., k.OVERFLOW] > 0, np.inf, score)


def tilings(extent: int, spatial: list[int], levels: list[int], free: list[bool]):
    """All useful temporal factors of one dimension at inner levels; the tier takes the rest.

    Factors that overshoot are those that change the number of steps.
    """
    unrolled = math.prod(spatial)
    left = -(-extent // unrolled)
    for factors in itertools.product(*(range(1, left + 1) if f else (1,) for f in free)):
        if math.prod(factors) < 2 * left or math.prod(factors) == 1:
            yield factors


def enumerate_template(evaluator, nest, factors, kept) -> np.ndarray:
    """Results of all tilings and orders with the unrolling in ``factors`` and what is kept."""
    problems = evaluator.table.problems
    table = template_table(problems.dims)
    template = int(nest.dataflow[0])
    groups, dims = nest.groups, len(problems.dims)
    levels = [int(last) for _, last in groups]
    choices = []
    for d in range(dims):
        spatial = [int(factors[s, d]) for s in nest.fanout_slots]
        free = [g < len(levels) - 1 or bool(table.element[template, d]) for g in range(len(levels))]
        choices.append(list(tilings(int(problems.extents[0, d]), spatial, levels, free)))
    picks = list(itertools.product(*choices))
    rows = np.ones((len(picks), len(nest.fanout), dims), np.int64)
    rows[:, nest.fanout_slots] = factors[nest.fanout_slots]
    for g, level in enumerate(levels):
        rows[:, level] = [[choice[g] for choice in pick] for pick in picks]
    inside = rows[:, 1:].prod(axis=1)
    rows[:, 0] = np.ceil(problems.extents[0] / inside)
    found = []
    held = int(table.stationary[template])
    for outer in range(3):
        order = np.tile(np.arange(dims), (len(nest.fanout), 1))
        order[0] = table.order[outer if len(levels) > 1 else held]
        for g, level in enumerate(levels):
            order[level] = table.order[held if g >= len(levels) - 2 else outer]
        found.append(run_rows(problems, nest, rows, order, kept[None]))
        if len(levels) == 1:
            break
    return np.concatenate(found)


def run_rows(problems, nest, rows, order, keep) -> np.ndarray:
    n = len(rows)
    zero, results = np.zeros(n, np.int64), np.zeros((n, k.RESULTS))
    k.evaluate_rows(
        zero, zero, problems.floats, problems.ints, rows.astype(np.float64),
        np.repeat(order[None], n, axis=0),
        keep, nest.fanout, False, nest.slot_table, nest.engine, results, NO_COUNTS,
    )  # fmt: skip
    return results


def measure(engines) -> tuple[list[tuple[float, str, str]], list[str]]:
    """Gaps of fast to the enumerated best, and layers it found no fit for though there is one."""
    found, missed = [], []
    for layer, einsum in LAYERS.items():
        for objective in OBJECTIVES:
            evaluator, nest, results, factors, _, kept = chosen(einsum, engines, objective)
            every = enumerate_template(evaluator, nest, factors, kept)
            assert len(every) > 20
            best = value(every, objective).min()
            if np.isfinite(best) and results[k.OVERFLOW] > 0:
                missed.append(f"{layer} for {objective}")
            elif np.isfinite(best):
                found.append((float(value(results, objective) / best), layer, objective))
            else:
                assert results[k.OVERFLOW] > 0
    return found, missed


@pytest.mark.parametrize("name", MACHINES)
def test_fast_is_close_to_the_best_tiling_of_its_template(name):
    """Measured, not proven: the gap is printed (``-s``) and held where it was found to be."""
    found, missed = measure(resolve(machine(name)))
    ratios = [gap for gap, *_ in found]
    print(f"{name}: median {np.median(ratios):.3f}, worst {max(found)} of {len(found)}; {missed}")
    assert len(found) >= 12
    assert not missed
    assert min(ratios) > 1 - 1e-9  # the enumeration holds every choice of the mapper
    assert np.median(ratios) < 1.1
    assert max(ratios) < 2.0


@pytest.mark.parametrize(
    ("name", "slot", "capacity"), [("eyeriss", "glb", 48), ("gemmini", "scratchpad", 64)]
)
def test_how_far_fast_falls_behind_in_buffers_of_a_few_words(name, slot, capacity):
    """Its weak spot: inner tiles grow first, and may leave the buffer outside too small.

    Where the tilings found overflow although others fit, thorough still finds one that fits.
    """
    path = f"engines.array.slots.{slot}.capacity_bytes"
    engines = resolve(machine(name).with_values({path: capacity}))
    found, missed = measure(engines)
    print(f"{name}, {capacity} bytes: {sorted(found)[-1:]} of {len(found)}, missed {len(missed)}")
    assert all(1 - 1e-9 < gap < 10 for gap, *_ in found), found
    for einsum in LAYERS.values():
        evaluator, nest, results, factors, _, kept = chosen(einsum, engines, "edp", "thorough")
        every = enumerate_template(evaluator, nest, factors, kept)
        assert (results[k.OVERFLOW] == 0) == (every[:, k.OVERFLOW] == 0).any()


def test_thorough_is_never_worse_than_fast():
    for objective in OBJECTIVES:
        for name in MACHINES:
            engines = resolve(machine(name))
            for einsum in LAYERS.values():
                fast = chosen(einsum, engines, objective)[2]
                thorough = chosen(einsum, engines, objective, "thorough")[2]
                if fast[k.OVERFLOW] == 0:
                    assert value(thorough, objective) <= value(fast, objective)
                else:
                    assert thorough[k.OVERFLOW] <= fast[k.OVERFLOW]


def test_gap_of_whole_networks_is_at_least_one():
    found = gaps(["mobilenet_v2", "squeezenet"], ["eyeriss", "tiny"])
    assert len(found) == 4
    assert all(1 - 1e-9 <= gap < 1.5 for gap in found.values()), found


@pytest.mark.parametrize("dataflow", DATAFLOWS)
@pytest.mark.parametrize("name", available_machines("spatial"))
def test_what_is_chosen_covers_the_problem_and_fits(name, dataflow):
    engines = resolve(load_machine(name), {"engines.array.dataflow": np.array([dataflow])})
    for einsum in (LAYERS["strided"], LAYERS["heads"], conv(64, 48, 14, 14, 3, 3)):
        evaluator, nest, results, factors, orders, _ = chosen(einsum, engines, "edp")
        extents = evaluator.table.problems.extents[0]
        assert (factors.prod(axis=0) >= extents).all()
        assert (factors[1:].prod(axis=0) < 2 * extents).all() or (extents == 1).any()
        assert (np.sort(orders, axis=1) == np.arange(len(extents))).all()
        for f, s in enumerate(nest.fanout_slots):
            assert factors[s].prod() <= nest.width[0, f]
        assert np.isfinite(results).all()


def test_a_layer_that_cannot_fit_is_infeasible_and_says_where():
    """A register of a byte does not hold a weight of two."""
    wide = load_machine("tiny").with_values({"engines.array.precision.weight_bits": 16})
    cost = evaluate(single(LAYERS["conv"]), wide)
    assert not cost.feasible
    assert cost.violation > 0
    assert any("register" in reason and "only" in reason for reason in cost.reasons), cost.reasons
    assert "NOT FEASIBLE" in cost.explain()
    assert all(math.isfinite(x) for x in cost.metrics.values())


def test_violation_grows_as_words_widen():
    engines = resolve(
        load_machine("tiny"),
        {"engines.array.precision.weight_bits": np.array([8, 10, 16, 24])},
    )
    found = NetworkEvaluator([single(LAYERS["conv"])]).evaluate(engines)
    assert found["feasible"][0]
    assert found["violation"][0] == 0
    violation = found["violation"]
    assert (np.diff(violation) > 0).all()
    assert (found["feasible"] == (violation == 0)).all()


def test_what_a_small_buffer_cannot_hold_goes_past_it():
    small = load_machine("tiny").with_values({"engines.array.slots.buffer.capacity_bytes": 8})
    _, nest, results, _, _, kept = chosen(LAYERS["conv"], resolve(small), "edp")
    assert results[k.OVERFLOW] == 0
    assert (kept <= nest.keep[0]).all()
    assert kept.sum() < nest.keep.sum()


def test_without_bypass_all_is_kept_that_may_be():
    engines = resolve(machine("eyeriss"))
    evaluator = NetworkEvaluator([single(LAYERS["conv"])])
    _, (*_, kept), nest = evaluator.run(engines, details=True, bypass=False)
    assert (kept[0, 0] == nest.keep[0]).all()


@pytest.mark.parametrize("name", available_machines("spatial"))
def test_masks_only_drop(name):
    nest = build_nest(resolve(load_machine(name)))
    masks = masks_of(("aaa", "iii", "ooo"), nest.keep[0], nest.fanout)
    assert (masks[0] == nest.keep[0]).all()
    assert masks[:, 0].all()
    assert (masks <= nest.keep).all()
    stored = nest.keep[0, 1:].sum(axis=0)
    assert (masks[1, 1:].sum(axis=0) == 1).all()
    assert (masks[2, 1:].sum(axis=0) == stored - 1).all()


def test_every_dataflow_has_a_template_in_order():
    assert tuple(template.name for template in TEMPLATES) == DATAFLOWS
    for template in TEMPLATES:
        assert template.source
        assert len(template.variants) == len(template.plain) == LANES
        assert len(set(template.variants)) == len(set(template.plain)) == LANES
        assert {variant.keeps for variant in template.plain} == {"aaa"}


def test_the_nest_is_built_from_the_table():
    nest = build_nest(resolve(load_machine("gemmini")))
    assert [nest.names[last] for _, last in nest.groups] == [
        "scratchpad", "accumulator", "weight_register",
    ]  # fmt: skip
    assert nest.width[0].tolist() == [16, 16]
