"""Every encoding of a design reaches every legal design, exactly, one by one or in batches."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from space_strategies import every_point, expression, parameters

from archsim.errors import InputError
from archsim.space import ENCODINGS, DesignSpace, Parameter, encoding_of


@st.composite
def spaces(draw: st.DrawFn) -> DesignSpace:
    chosen = draw(parameters())
    rules = draw(st.lists(expression(chosen), max_size=2))
    try:
        return DesignSpace(chosen, rules)
    except InputError as error:
        assume("no design is legal" not in str(error) and "must name" not in str(error))
        raise


@settings(max_examples=60, deadline=None)
@given(spaces())
def test_every_legal_design_is_reachable_through_every_encoding(space: DesignSpace) -> None:
    legal = {p for p in every_point(space) if space.is_legal(p)}
    assert len(legal) == space.size
    whole = np.array(sorted(legal), dtype=np.int64)
    for encoding in ENCODINGS:
        actions = space.action_space(encoding)
        assert encoding_of(actions) == encoding
        for design in whole[:40]:
            action = space.to_action(design, encoding)
            assert actions.contains(action), (encoding, action)
            point = space.from_action(action, encoding)
            assert np.array_equal(space.repair(point), design)
        batch = space.from_action(space.to_action(whole, encoding), encoding)
        assert np.array_equal(batch, whole)


@settings(max_examples=60, deadline=None)
@given(spaces(), st.data())
def test_round_trips_are_exact_and_batched_equals_scalar(
    space: DesignSpace, data: st.DataObject
) -> None:
    points = every_point(space)
    picked = data.draw(st.lists(st.sampled_from(points), min_size=1, max_size=8))
    batch = np.array(picked, dtype=np.int64)
    flat, unit, keys, values = (
        space.to_flat(batch),
        space.to_unit(batch),
        space.keys(batch),
        space.decode(batch),
    )
    for row, design in enumerate(batch):
        assert space.to_flat(design) == flat[row] == points.index(picked[row])
        assert np.array_equal(space.from_flat(int(flat[row])), design)
        assert np.array_equal(space.to_unit(design), unit[row])
        assert np.array_equal(space.from_unit(unit[row]), design)
        assert space.key(design) == keys[row]
        assert np.array_equal(space.from_key(keys[row]), design)
        one = space.decode(design)
        assert all(values[name][row] == one[name] for name in space.names)
        assert np.array_equal(space.encode(one), design)
        assert space.is_legal(design) == space.is_legal(batch)[row]
        assert np.array_equal(space.repair(design), space.repair(batch)[row])
    assert np.array_equal(space.from_flat(flat), batch)
    assert np.array_equal(space.from_unit(unit), batch)
    assert np.array_equal(space.encode(values), batch)
    assert len({space.key(p) for p in points}) == len(points)


@settings(max_examples=60, deadline=None)
@given(spaces(), st.lists(st.floats(-2, 3), min_size=5, max_size=5))
def test_any_action_is_answered_by_one_legal_design(
    space: DesignSpace, coordinates: list[float]
) -> None:
    width = len(space.names)
    point = space.from_action(np.array(coordinates[:width], dtype=np.float32), "box")
    fixed = space.repair(point)
    assert space.is_legal(fixed)
    assert np.array_equal(space.repair(fixed), fixed)
    if space.is_legal(point):
        assert np.array_equal(point, fixed)


@settings(max_examples=40, deadline=None)
@given(spaces(), st.integers(0, 2**32))
def test_sampling_and_iteration_visit_legal_designs_only(space: DesignSpace, seed: int) -> None:
    drawn = space.sample(np.random.default_rng(seed), 50)
    assert space.is_legal(drawn).all()
    assert np.array_equal(drawn, space.sample(np.random.default_rng(seed), 50))
    assert space.is_legal(space.sample(np.random.default_rng(seed)))
    legal = [p for p in every_point(space) if space.is_legal(p)]
    for limit in (1, 7, 2**14):
        visited = np.concatenate(list(space.batches(limit)))
        assert [tuple(row) for row in visited.tolist()] == legal
    assert [tuple(row.tolist()) for row in space] == legal


@settings(max_examples=60, deadline=None)
@given(spaces(), st.data())
def test_masks_are_exactly_the_values_that_can_be_completed(
    space: DesignSpace, data: st.DataObject
) -> None:
    legal = [p for p in every_point(space) if space.is_legal(p)]
    design = data.draw(st.sampled_from(legal))
    for depth in range(len(space.names)):
        expected = [
            any(p[: depth + 1] == (*design[:depth], value) for p in legal)
            for value in range(int(space.cardinalities[depth]))
        ]
        assert space.mask(list(design[:depth])).tolist() == expected
        batch = np.array([design[:depth]] * 3, dtype=np.int64).reshape(3, depth)
        assert space.mask(batch).tolist() == [expected] * 3
    member = data.draw(st.integers(0, len(space.names) - 1))
    others = data.draw(st.sets(st.integers(0, len(space.names) - 1)))
    decided = {space.names[o]: design[o] for o in others if o != member}
    expected = [
        any(p[member] == v and all(p[o] == design[o] for o in others - {member}) for p in legal)
        for v in range(int(space.cardinalities[member]))
    ]
    assert space.mask_given(space.names[member], decided).tolist() == expected


@settings(max_examples=40, deadline=None)
@given(spaces(), st.integers(0, 2**32))
def test_neighbours_are_the_legal_designs_one_move_away(space: DesignSpace, seed: int) -> None:
    design = space.sample(np.random.default_rng(seed))
    found = {tuple(row) for row in space.neighbours(design).tolist()}
    expected = set()
    for other in every_point(space):
        moved = [at for at in range(len(other)) if other[at] != design[at]]
        if len(moved) == 1 and space.is_legal(other):
            step = abs(other[moved[0]] - design[moved[0]])
            if step == 1 or not space.parameters[moved[0]].ordered:
                expected.add(other)
    assert found == expected


def test_sampling_is_uniform_over_legal_designs() -> None:
    space = DesignSpace(
        [Parameter("a", (1, 2, 3, 4)), Parameter("b", (1, 2, 3, 4)), Parameter("c", ("x", "y"))],
        ["a * b <= 4"],
    )
    drawn = space.sample(np.random.default_rng(7), 16_000)
    counts = np.unique(space.to_flat(drawn), return_counts=True)[1]
    assert len(counts) == space.size == 16
    assert abs(counts - 1000).max() < 5 * np.sqrt(1000)  # five sigma


def big_space() -> DesignSpace:
    wide = [Parameter.integer(f"p{at}", 0, 999) for at in range(8)]
    return DesignSpace([*wide, Parameter("flow", ("ws", "os"))], ["p0 + p7 <= 999"])


def test_spaces_beyond_64_bits_work() -> None:
    space = big_space()
    assert space.points == 2 * 10**24 > 2**63
    assert space.size == 2 * 10**18 * (1000 * 1001 // 2)
    assert space.size_is_exact
    drawn = space.sample(np.random.default_rng(0), 100)
    assert space.is_legal(drawn).all()
    flat = space.to_flat(drawn)
    assert all(isinstance(item, int) for item in flat.tolist())
    assert max(flat) > 2**63
    assert np.array_equal(space.from_flat(flat), drawn)
    assert all(np.array_equal(space.from_flat(space.to_flat(d)), d) for d in drawn[:10])
    for encoding in ("multidiscrete", "box", "dict"):
        action = space.to_action(drawn, encoding)
        assert np.array_equal(space.from_action(action, encoding), drawn)
    with pytest.raises(InputError, match="too many points"):
        space.action_space("discrete")
    first = next(space.batches(100))
    assert first.tolist() == [[0] * 7 + [at // 2, at % 2] for at in range(100)]


def test_the_largest_parameter_keeps_its_cells_apart_in_float32() -> None:
    space = DesignSpace([Parameter.integer("p", 0, 2**20 - 1)])
    designs = np.concatenate([np.arange(1000), np.arange(2**20 - 1000, 2**20)])[:, None]
    assert np.array_equal(space.from_action(space.to_action(designs, "box"), "box"), designs)
    assert np.array_equal([space.from_key(k) for k in space.keys(designs)], designs)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda s: s.decode([0]), "one entry per parameter"),
        (lambda s: s.decode([0, 9]), "cols: index out of range"),
        (lambda s: s.decode([0.5, 1]), "holds integers"),
        (lambda s: s.encode({"rows": 4}), "cols: parameter missing"),
        (lambda s: s.encode({"rows": 4, "cols": 8, "x": 1}), "unknown parameter"),
        (lambda s: s.encode({"rows": 5, "cols": 8}), "rows: no such value"),
        (lambda s: s.encode({"rows": [4, 8], "cols": 8}), "same number"),
        (lambda s: s.from_flat(9), "out of range"),
        (lambda s: s.from_flat(-1), "out of range"),
        (lambda s: s.from_flat(0.5), "an integer"),
        (lambda s: s.from_unit([0.1, np.nan]), "NaN"),
        (lambda s: s.from_unit([0.1]), "one entry per parameter"),
        (lambda s: s.from_key("zz"), "not a key"),
        (lambda s: s.from_key("000000"), "not a key"),
        (lambda s: s.mask([0, 0]), "fewer integers"),
        (lambda s: s.mask([7]), "out of range"),
        (lambda s: s.action_space("tuple"), "unknown encoding"),
        (lambda s: s.to_action([0, 0], "tuple"), "unknown encoding"),
        (lambda s: s.from_action([0, 0], "tuple"), "unknown encoding"),
        (lambda s: s.from_action({"rows": 0}, "dict"), "one entry per parameter"),
        (lambda s: s.mask_given("nope", {}), "unknown parameter"),
    ],
)
def test_wrong_use_is_an_input_error(call, message: str) -> None:
    space = DesignSpace([Parameter("rows", (4, 8, 16)), Parameter("cols", (4, 8, 16))])
    with pytest.raises(InputError, match=message):
        call(space)


def test_roles_carry_the_parameters_of_each_decision_maker() -> None:
    space = DesignSpace(
        [
            Parameter("rows", (4, 8), role="compute"),
            Parameter("glb", (1, 2), role="memory"),
            Parameter("cols", (4, 8), role="compute"),
            Parameter("flow", ("a", "b"), role="mapping"),
        ]
    )
    assert space.roles() == {"compute": ["rows", "cols"], "memory": ["glb"], "mapping": ["flow"]}


def test_machine_values_are_scaled_and_reach_every_path() -> None:
    space = DesignSpace(
        [
            Parameter("kib", (1, 2.5), path="x.capacity_bytes", scale=1024),
            Parameter("bits", (8, 16), path=("p.input_bits", "p.weight_bits")),
            Parameter("free", (1, 2)),
        ]
    )
    assert space.machine_values([1, 0, 1]) == {
        "x.capacity_bytes": 2560.0,
        "p.input_bits": 8,
        "p.weight_bits": 8,
    }
    batch = space.machine_values([[0, 1, 0], [1, 0, 0]])
    assert batch["x.capacity_bytes"].tolist() == [1024.0, 2560.0]
    assert batch["p.weight_bits"].tolist() == [16, 8]
