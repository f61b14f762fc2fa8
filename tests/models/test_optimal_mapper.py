"""The certified mapper: equal to enumeration, bounds that hold, honest when stopped."""

from __future__ import annotations

import json
import os
import random

import numpy as np
import pytest
from optimal_cases import layer, machine, small_spaces

from archsim.bench.mapper import unique_layers
from archsim.errors import InputError
from archsim.hardware import load_machine, resolve
from archsim.models.loopnest import kernel as k
from archsim.models.loopnest.nest import build_nest
from archsim.models.loopnest.optimal import cache
from archsim.models.loopnest.optimal import outside as lb
from archsim.models.loopnest.optimal import solve as solving
from archsim.models.loopnest.optimal.api import map_operation
from archsim.models.loopnest.optimal.bound import traffic_bound, two_level_nest
from archsim.models.loopnest.optimal.constraints import Constraints
from archsim.models.loopnest.optimal.enumeration import enumerate_all, pareto
from archsim.models.loopnest.optimal.solve import Objective, _Search, solve
from archsim.models.loopnest.optimal.space import mapspace
from archsim.validate.mapper import certified_gaps, validate_mapper
from archsim.workload import load_workload
from archsim.workload.graph import conv2d_einsum, matmul_einsum

LONG = bool(os.environ.get("ARCHSIM_LONG"))
OBJECTIVES = (
    Objective("energy"),
    Objective("latency"),
    Objective("edp"),
    Objective("sum", 1.0, 1e-2),
    Objective("product", 1.0, 2.0),
    Objective("pareto"),
)
CONV = conv2d_einsum(
    "i", "w", "o", batch=1, groups=1, out_channels=4, in_channels=3, out_size=(6, 1),
    kernel=(3, 1),
)  # fmt: skip
GEMM = matmul_einsum("i", "w", "o", rows=4, inner=6, columns=4)


def reference(kind: Objective, points: np.ndarray, clock: float) -> float:
    energy, cycles = points.T
    return {
        "energy": energy,
        "latency": cycles,
        "edp": energy * cycles,
        "sum": energy + kind.latency * cycles / clock,
        "product": energy * cycles**kind.latency,
    }[kind.kind].min()


def disagreements(count: int, seed: int, limit: int) -> tuple[int, list]:
    """Cases tried, and those in which mapper and enumeration differ."""
    tried, wrong = 0, []
    for name, space, points in small_spaces(count, seed, limit):
        for objective in OBJECTIVES:
            tried += 1
            solution = solve(space, objective)
            if not len(points):
                agrees = not solution.found and bool(solution.misfit)
            elif objective.kind == "pareto":
                best, ours = (
                    pareto(points),
                    pareto(np.array([[f.energy_j, f.cycles] for f in solution.found])),
                )
                agrees = best.shape == ours.shape and np.allclose(best, ours, rtol=1e-12, atol=0)
            else:
                clock = space.nest.engine[0, k.CLOCK_HZ]
                expected = reference(objective, points, clock)
                agrees = abs(solution.value - expected) <= 1e-12 * expected
                if objective.kind == "latency":  # of the fastest, the most frugal
                    fast = points[points[:, 1] <= expected * (1 + 1e-12)]
                    agrees &= abs(solution.found[0].energy_j / fast[:, 0].min() - 1) <= 1e-12
            if not (agrees and solution.proven):
                wrong.append((name, objective))
    return tried, wrong


def test_the_mapper_equals_enumeration():
    tried, wrong = disagreements(40, seed=10_000, limit=30_000)
    assert tried == 240
    assert not wrong


def test_square_convolutions_whose_tiles_are_told_apart_once_equal_enumeration():
    """Rows and columns alike: labels are built for one tile of each mirrored pair."""
    rng, compared = random.Random(9), 0
    while compared < 6:
        square = conv2d_einsum(
            "i", "w", "o", batch=1, groups=1, out_channels=rng.choice([1, 2]), in_channels=1,
            out_size=(2, 2), kernel=(2, 2), stride=(rng.choice([1, 2]),) * 2,
        )  # fmt: skip
        space = mapspace(square, machine(rng))
        assert (space.shapes.twin != np.arange(len(space.shapes.twin))).any()
        try:
            points = enumerate_all(space, 60_000)
        except InputError:
            continue
        compared += len(points) > 0
        for objective in OBJECTIVES[:3] if len(points) else ():
            solution, clock = solve(space, objective), space.nest.engine[0, k.CLOCK_HZ]
            assert solution.proven
            assert abs(solution.value / reference(objective, points, clock) - 1) <= 1e-12


@pytest.mark.parametrize("room", [1, 3])
def test_labels_that_merge_for_want_of_room_are_still_bounds(monkeypatch, room):
    monkeypatch.setattr(solving, "ROOM", room)
    tried, wrong = disagreements(8, seed=30_000, limit=20_000)
    assert tried == 48
    assert not wrong


@pytest.mark.skipif(not LONG, reason="thousands of cases: ARCHSIM_LONG=1")
def test_the_mapper_equals_enumeration_thousands_of_times():
    tried, wrong = disagreements(700, seed=0, limit=300_000)
    print(f"{tried} cases, {len(wrong)} wrong")
    assert tried >= 4000
    assert not wrong


def test_no_bound_exceeds_what_the_kernel_finds():
    """The bound that stands if nothing was searched, against every mapping."""
    for _, space, points in small_spaces(25, seed=77, limit=20_000):
        if not len(points):
            continue
        clock = space.nest.engine[0, k.CLOCK_HZ]
        for objective in OBJECTIVES[:5]:
            search = _Search(space, objective, np.inf, np.inf)
            assert search.floor() <= reference(objective, points, clock) * (1 + 1e-12)


def test_stopped_early_it_says_so_and_its_bound_holds():
    for _, space, points in small_spaces(8, seed=500, limit=30_000):
        if not len(points):
            continue
        for nodes in (1, 30):
            solution = solve(space, Objective("edp"), node_limit=nodes)
            best = (points[:, 0] * points[:, 1]).min()
            assert solution.lower_bound <= best * (1 + 1e-12)
            if solution.found:
                assert solution.value >= best * (1 - 1e-12)
            if not solution.proven:
                assert solution.proof.stopped == "nodes"
                assert solution.gap >= 0
                again = solve(space, Objective("edp"), node_limit=nodes)
                assert again.value == solution.value or not solution.found
                assert again.lower_bound == solution.lower_bound


def test_every_mapping_returned_is_legal_and_priced_by_the_kernel():
    rng = random.Random(4)
    for _ in range(10):
        space = mapspace(layer(rng), machine(rng))
        solution = solve(space, Objective("edp"))
        for found in solution.found:
            mapping = found.mapping
            assert (mapping.factors.prod(axis=0) == space.extents).all()
            assert (mapping.keep <= space.nest.keep[0]).all()
            for s in range(len(mapping.slots)):
                if space.nest.fanout[s]:
                    assert mapping.factors[s].prod() <= space.width(s)


def tiny(**values):
    small = {"engines.array.slots.buffer.capacity_bytes": 128}
    return load_machine("tiny").with_values({**small, **values})


def limited(**limits) -> Constraints:
    return Constraints.model_validate({"slots": [limits]})


@pytest.mark.parametrize(
    "limits",
    [
        {"slot": "dram", "order": ["M", "C", "P"]},
        {"slot": "dram", "order": ["P"], "factors": {"P": 2}},
        {"slot": "buffer", "bypass": ["input"]},
        {"slot": "buffer", "keep": ["input", "output"], "order": ["C", "P", "M"]},
        {"slot": "columns", "dims": ["M"], "min_use": 0.5},
        {"slot": "rows", "factors": {"C": 2}, "max_use": 2},
    ],
)
def test_within_constraints_the_mapper_equals_enumeration(limits):
    space = mapspace(GEMM, build_nest(resolve(tiny())), 0, limited(**limits))
    points = enumerate_all(space)
    assert len(points)
    for objective in OBJECTIVES[:3]:
        solution = solve(space, objective)
        assert solution.proven
        assert abs(solution.value / reference(objective, points, 1.0) - 1) <= 1e-12


@pytest.mark.parametrize(
    ("limits", "words"),
    [
        ({"slot": "glb"}, "no such slot"),
        ({"slot": "dram", "order": ["X"]}, "no such dimension"),
        ({"slot": "dram", "order": ["M", "M"]}, "named twice"),
        ({"slot": "dram", "bypass": ["input"]}, "tier holds"),
        ({"slot": "register", "keep": ["input"]}, "cannot hold"),
        ({"slot": "columns", "order": ["M"]}, "a fanout has no order"),
        ({"slot": "buffer", "max_use": 2}, "a storage has no max_use"),
        ({"slot": "rows", "factors": {"C": 5}}, "must divide"),
        ({"slot": "buffer", "keep": ["input"], "bypass": ["input"]}, "both"),
    ],
)
def test_constraints_that_do_not_fit_are_refused_in_words(limits, words):
    with pytest.raises(InputError, match=words):
        map_operation(GEMM, tiny(), constraints=limited(**limits), use_cache=False)


def test_an_infeasible_layer_names_the_storage_and_the_operand():
    small = tiny(**{"engines.array.slots.buffer.capacity_bytes": 2})
    limits = limited(slot="buffer", keep=["output"])
    result = map_operation(GEMM, small, constraints=limits, use_cache=False)
    assert result.best is None
    assert "buffer" in result.misfit
    assert "output" in result.misfit
    assert "INFEASIBLE" in result.explain()


def test_an_infeasible_layer_under_fixed_factors_names_them():
    small = tiny(**{"engines.array.slots.buffer.capacity_bytes": 8})
    slots = [
        {"slot": "buffer", "keep": ["input"], "factors": {"P": 4}},
        {"slot": "rows", "factors": {"C": 3}},
    ]
    limits = Constraints.model_validate({"slots": slots})
    result = map_operation(GEMM, small, constraints=limits, use_cache=False)
    assert result.best is None
    assert "buffer holds 64 bits" in result.misfit
    assert "input (96 bits)" in result.misfit
    slots = [{"slot": "rows", "factors": {"C": 3}}, {"slot": "buffer", "factors": {"C": 6}}]
    limits = Constraints.model_validate({"slots": slots})
    result = map_operation(GEMM, tiny(), constraints=limits, use_cache=False)
    assert "fixed factors of C (rows 3, buffer 6)" in result.misfit


def test_a_known_shape_is_a_cache_hit(tmp_path, monkeypatch):
    monkeypatch.setenv("ARCHSIM_CACHE", str(tmp_path))
    cache.forget()
    first = map_operation(GEMM, tiny())
    second = map_operation(GEMM, tiny())
    assert (first.cached, second.cached) == ("", "memory")
    cache.forget()
    third = map_operation(GEMM, tiny())
    assert third.cached == "disk"
    assert first.value == second.value == third.value
    assert str(first.best.mapping) == str(third.best.mapping)
    assert map_operation(GEMM, tiny(), "energy").cached == ""
    assert map_operation(GEMM, tiny(clock_hz=1e8)).cached == ""
    for path in (tmp_path / "mappings").iterdir():
        data = json.loads(path.read_text())
        data["rows"][0][0][0][0] = 77
        path.write_text(json.dumps(data))
    cache.forget()
    assert map_operation(GEMM, tiny()).cached == ""  # damaged: found anew


def test_results_are_reproducible():
    runs = [map_operation(CONV, tiny(), "pareto", use_cache=False) for _ in range(2)]
    assert runs[0].front == runs[1].front
    assert [str(a.mapping) for a in runs[0].front] == [str(b.mapping) for b in runs[1].front]


def test_the_traffic_bound_equals_enumeration_at_every_size():
    for einsum in (GEMM, CONV):
        bits = (8.0, 16.0, 24.0)
        curve = traffic_bound(einsum, bits)
        assert (np.diff(curve.traffic_bytes) < 0).all()
        assert curve.traffic_bytes[-1] >= curve.compulsory_bytes * (1 - 1e-12)
        for size in (0.0, 3.0, 7.0, 12.0, 30.0, 64.0, 200.0):
            space = mapspace(einsum, two_level_nest(bits, max(size * 8, 1e-9)))
            points = enumerate_all(space)
            assert curve.at(size) * 8 == pytest.approx(points[:, 0].min(), rel=1e-12)


def test_gaps_to_the_optimum_are_the_same_every_time():
    asked = (["alexnet", "bert_base"], ["tiny", "eyeriss"], 2, 2e4)
    found = certified_gaps(*asked)
    assert [(gap.workload, gap.machine) for gap in found] == [
        (net, machine) for net in asked[0] for machine in asked[1]
    ]
    assert certified_gaps(*asked) == found
    for gap in found:
        assert gap.worse == 0
        assert len(gap.fast) == len(gap.thorough) == 2
        assert min(gap.fast + gap.thorough) >= 1 - 1e-9
        assert max(gap.fast) < 1.5
    with pytest.raises(InputError, match="--machines"):
        validate_mapper(machines="abacus")
    with pytest.raises(InputError, match="--layers"):
        validate_mapper(layers=0)


def test_the_layers_timed_are_distinct():
    layers = unique_layers(load_workload("resnet50"))
    assert len(layers) == len(
        {(nest.dims, *(a.ranks for a in nest.operands)) for _, nest in layers}
    )
    assert sum(nest.macs for _, nest in layers) > 1.5e9


def test_the_uncompiled_bound_is_the_compiled_one():
    space = mapspace(GEMM, build_nest(resolve(tiny())))
    prices, around = space.prices, np.full((8, len(space.shapes.volume)), 0.5)
    states = [np.zeros((8, lb.BOUND)) for _ in range(2)]
    for least_states, rows in zip((lb.least_states, lb.least_states.py_func), states, strict=True):
        assert least_states(space.shapes, prices, 2, 3, around, 0, prices.cases[2], rows) > 0
    assert np.allclose(*states, rtol=1e-14)
