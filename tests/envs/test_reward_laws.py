"""The laws of the reward: monotone, finite, no poles, no ties, infeasible always below feasible."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from archsim.envs.objective import KINDS, PENALTY, Objective, reward
from archsim.errors import InputError

POSITIVE = st.floats(1e-200, 1e200)
ANY = st.floats(allow_nan=True, allow_infinity=True)


@st.composite
def objectives(draw: st.DrawFn, kind: str | None = None) -> Objective:
    kind = kind or draw(st.sampled_from(KINDS))
    weights = st.floats(0.01, 100)
    return Objective(
        ("latency_s", "energy_j"),
        draw(
            st.dictionaries(
                st.sampled_from(["area_mm2", "latency_s", "throughput_per_s"]),
                st.floats(1e-9, 1e9),
            )
        ),
        kind,
        draw(st.sampled_from([None, "energy_j"])) if kind == "single" else None,
        draw(st.fixed_dictionaries({"latency_s": weights, "energy_j": weights})),
        draw(st.fixed_dictionaries({"latency_s": POSITIVE, "energy_j": POSITIVE})),
    )


METRICS = st.fixed_dictionaries(
    {
        "latency_s": POSITIVE,
        "energy_j": POSITIVE,
        "area_mm2": POSITIVE,
        "throughput_per_s": POSITIVE,
        "violation": st.floats(0, 1e6),
    }
)


def score(objective: Objective, *designs: dict[str, float]) -> dict[str, np.ndarray]:
    batch = {name: np.array([design[name] for design in designs]) for name in designs[0]}
    if "violation" in batch:
        batch["feasible"] = batch["violation"] == 0
    return objective.score(batch)


@settings(max_examples=150, deadline=None)
@given(objectives(), METRICS, st.sampled_from(["latency_s", "energy_j", "area_mm2"]), st.data())
def test_more_of_a_bad_thing_never_pays(
    objective: Objective, design: dict[str, float], name: str, data: st.DataObject
) -> None:
    factor = data.draw(st.floats(1.0, 1e50))
    worse = {**design, name: design[name] * factor}
    found = score(objective, design, worse)
    assert found["reward"][1] <= found["reward"][0]
    assert found["objective"][1] >= found["objective"][0]
    assert found["violation"][1] >= found["violation"][0]


@settings(max_examples=150, deadline=None)
@given(
    objectives("log_product"),
    st.sampled_from(["latency_s", "energy_j"]),
    st.data(),
    st.sampled_from([(1e12, 1e-6), (1e200, 0.5)]),
)
def test_feasible_designs_that_differ_never_tie(
    objective: Objective, name: str, data: st.DataObject, scale: tuple[float, float]
) -> None:
    # one millionth counts within twelve decades of the reference, a half within 200
    reach, change = scale
    objective = Objective(objective.minimize, {}, objective.kind, None, objective.weights)
    near = st.floats(1 / reach, reach)
    design = {"latency_s": data.draw(near), "energy_j": data.draw(near)}
    factor = 1 + data.draw(st.floats(change, 1e6))
    found = score(objective, design, {**design, name: design[name] * factor})
    assert found["feasible"].all()
    assert found["reward"][1] < found["reward"][0]
    assert found["objective"][1] > found["objective"][0]


@settings(max_examples=150, deadline=None)
@given(objectives(), METRICS, METRICS)
def test_every_feasible_design_beats_every_infeasible_one(
    objective: Objective, one: dict[str, float], other: dict[str, float]
) -> None:
    found = score(objective, one, other)
    feasible, rewards = found["feasible"], found["reward"]
    assert np.array_equal(feasible, found["violation"] == 0)
    assert (rewards[feasible] > 0).all()
    assert (rewards[~feasible] <= 0).all()
    if feasible.sum() == 1:
        assert rewards[feasible][0] > rewards[~feasible][0]
        assert found["objective"][feasible][0] < PENALTY <= found["objective"][~feasible][0]


@settings(max_examples=150, deadline=None)
@given(objectives(), METRICS, st.floats(1e-6, 1e6), st.floats(1.001, 1e3))
def test_infeasible_designs_are_graded_by_violation(
    objective: Objective, design: dict[str, float], violation: float, factor: float
) -> None:
    found = score(
        objective,
        {**design, "violation": violation},
        {**design, "violation": violation * factor},
    )
    assert not found["feasible"].any()
    if found["violation"][1] > found["violation"][0] * (1 + 1e-9):
        assert found["reward"][1] < found["reward"][0]


@settings(max_examples=150, deadline=None)
@given(
    objectives(),
    st.fixed_dictionaries(
        {
            "latency_s": ANY,
            "energy_j": ANY,
            "area_mm2": ANY,
            "throughput_per_s": ANY,
            "violation": ANY,
        }
    ),
    st.booleans(),
)
def test_whatever_a_model_returns_the_scores_are_finite(
    objective: Objective, design: dict[str, float], feasible: bool
) -> None:
    batch = {name: np.array([value]) for name, value in design.items()}
    batch["feasible"] = np.array([feasible])
    with np.errstate(all="raise", under="ignore"):
        found = objective.score(batch)
    for name in ("violation", "objective", "reward"):
        assert np.isfinite(found[name]).all(), name
    assert -1 <= found["reward"][0] <= 1
    assert found["violation"][0] >= 0
    assert found["feasible"][0] == (found["violation"][0] == 0)
    read = [design[name] for name in objective.names]
    if not np.isfinite(read).all() or np.isnan(design["violation"]) or not feasible:
        assert not found["feasible"][0]


@settings(max_examples=100, deadline=None)
@given(objectives(), st.lists(METRICS, min_size=1, max_size=40))
def test_a_batch_scores_bit_for_bit_like_its_designs(
    objective: Objective, designs: list[dict[str, float]]
) -> None:
    whole = score(objective, *designs)
    for at, design in enumerate(designs):
        one = score(objective, design)
        for name, values in whole.items():
            assert values[at] == one[name][0], name


@settings(max_examples=200, deadline=None)
@given(objectives(), METRICS)
def test_the_reward_follows_from_objective_and_violation(
    objective: Objective, design: dict[str, float]
) -> None:
    found = score(objective, design)
    assert reward(found["objective"], found["violation"]) == found["reward"]


@settings(max_examples=100, deadline=None)
@given(st.floats(1e-9, 1e9), st.sampled_from(["area_mm2", "throughput_per_s"]))
def test_a_limit_holds_at_its_bound_and_is_crossed_without_a_jump_in_grade(
    bound: float, name: str
) -> None:
    objective = Objective(("latency_s",), {name: bound})
    towards = 1.0 if name == "area_mm2" else -1.0
    steps = bound * np.array([1.0, 1.0 + towards * 1e-6, 1.0 + towards * 1e-3, 1 + towards * 0.5])
    found = objective.score({"latency_s": np.ones(4), name: steps})
    assert found["feasible"].tolist() == [True, False, False, False]
    assert (np.diff(found["violation"]) > 0).all()
    assert (np.diff(found["reward"]) < 0).all()
    assert found["violation"][1] == pytest.approx(1e-6, rel=1e-3)


@pytest.mark.parametrize("kind", KINDS)
def test_the_reference_earns_one_half(kind: str) -> None:
    metrics = {"latency_s": 3e-3, "energy_j": 2e-4}
    objective = Objective(tuple(metrics), kind=kind).with_default_references(metrics)
    found = objective.score({name: np.array([value]) for name, value in metrics.items()})
    assert found["reward"][0] == pytest.approx(0.5, abs=1e-12)
    assert found["objective"][0] == pytest.approx(0.0, abs=1e-12)


def test_scalars_are_the_stated_means() -> None:
    metrics = {"latency_s": np.array([4.0]), "energy_j": np.array([9.0])}
    references = {"latency_s": 2.0, "energy_j": 3.0}
    weights = {"latency_s": 3.0, "energy_j": 1.0}
    expected = {
        "log_product": (3 * np.log(2) + np.log(3)) / 4,
        "weighted": np.log((3 * 2 + 3) / 4),
        "single": np.log(3),
    }
    for kind, value in expected.items():
        chosen = "energy_j" if kind == "single" else None
        objective = Objective(tuple(metrics), {}, kind, chosen, weights, references)
        assert objective.score(metrics)["objective"][0] == pytest.approx(value)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"minimize": ()}, "at least one"),
        ({"minimize": ("latency_s", "latency_s")}, "once"),
        ({"minimize": ("throughput_per_s",)}, "more of this metric is better"),
        ({"minimize": ("utilization.bert",)}, "more of this metric is better"),
        ({"minimize": ("latency_s",), "kind": "sum"}, "unknown scalarisation"),
        ({"minimize": ("latency_s",), "limits": {"area_mm2": 0.0}}, "positive"),
        ({"minimize": ("latency_s",), "limits": {"area_mm2": float("nan")}}, "positive"),
        ({"minimize": ("latency_s",), "weights": {"latency_s": -1.0}}, "positive"),
        ({"minimize": ("latency_s",), "weights": {"energy_j": 1.0}}, "not among"),
        ({"minimize": ("latency_s",), "references": {"energy_j": 1.0}}, "not among"),
        ({"minimize": ("latency_s",), "metric": "latency_s"}, "only kind single"),
        ({"minimize": ("latency_s",), "kind": "single", "metric": "energy_j"}, "not among"),
    ],
)
def test_contradictory_objectives_are_refused(fields: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Objective(**fields)


def test_unknown_metrics_are_named() -> None:
    with pytest.raises(InputError, match=r"objective.limits: no such metric; found 'arae_mm2'"):
        Objective(("latency_s",), {"arae_mm2": 1.0}).check_metrics(["latency_s", "area_mm2"])
