"""The shipped scenarios on the real cost model: limits bind, laws hold, checkers pass."""

from __future__ import annotations

import warnings

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from archsim.envs import Problem, Recorder, VectorRecorder, as_problem, available_scenarios
from archsim.envs.objective import larger_is_better
from archsim.errors import InputError


@pytest.fixture(scope="module")
def smoke() -> Problem:
    return Problem("smoke")


@pytest.mark.slow
@pytest.mark.parametrize("name", available_scenarios())
def test_some_designs_keep_the_limits_and_some_do_not(name: str) -> None:
    problem = as_problem(name)
    designs = problem.space.sample(np.random.default_rng(0), 160)
    metrics = problem.evaluate(designs)
    feasible = metrics["feasible"]
    assert 0 < feasible.sum() < len(designs)
    kept: dict[str, np.ndarray] = {}
    for limit, bound in problem.objective.limits.items():
        lower = larger_is_better(limit)
        kept[limit] = metrics[limit] >= bound if lower else metrics[limit] <= bound
        assert not (feasible & ~kept[limit]).any()
    assert not all(each.all() for each in kept.values())
    for metric in problem.metric_names:
        assert np.isfinite(metrics[metric]).all()
        may_be_none = metric.endswith("_rate") or metric == "overflow_bytes"
        least = 0.0 if may_be_none else np.nextafter(0, 1)
        assert (metrics[metric] >= least).all()
    assert np.array_equal(feasible, metrics["violation"] == 0)
    assert metrics["reward"][feasible].min() > 0 > metrics["reward"][~feasible].max()
    # designs differ in what is minimised, so there is something to search
    for metric in problem.objective.minimize:
        enough = 0.1 if metric == "perplexity" else 0.5
        assert np.ptp(np.log(metrics[metric])) > enough
    assert ((problem.features >= 0) & (problem.features <= 1)).all()


def test_the_machine_as_shipped_is_the_reference(smoke: Problem) -> None:
    assert smoke.objective.references == {
        name: smoke.reference_metrics[name] for name in smoke.objective.minimize
    }
    shipped = smoke.space.encode(
        {
            "rows": 4,
            "cols": 4,
            "dataflow": "weight_stationary",
            "buffer_kib": 16,
            "dram": "LPDDR4",
            "clock_mhz": 200,
        }
    )
    metrics = smoke.evaluate(shipped)
    for name, value in smoke.reference_metrics.items():
        assert metrics[name][0] == pytest.approx(value, rel=1e-12)
    assert metrics["reward"][0] == pytest.approx(0.5)


def test_a_batch_evaluates_bit_for_bit_like_its_designs(smoke: Problem) -> None:
    designs = smoke.space.sample(np.random.default_rng(3), 40)
    whole = smoke.evaluate(designs)
    for at, design in enumerate(designs):
        one = smoke.evaluate(design)
        for name, values in whole.items():
            assert values[at] == one[name][0], name


@pytest.mark.parametrize(
    ("name", "kwargs"),
    [
        ("archsim/Accelerator-v0", {"encoding": "multidiscrete"}),
        ("archsim/Accelerator-v0", {"encoding": "discrete"}),
        ("archsim/Accelerator-v0", {"encoding": "box"}),
        ("archsim/AcceleratorStepwise-v0", {}),
    ],
)
def test_checkers_pass_on_a_scenario_by_name(name: str, kwargs: dict) -> None:
    sb3 = pytest.importorskip("stable_baselines3.common.env_checker")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        env = gym.make(name, scenario="smoke", **kwargs)
        check_env(env.unwrapped)
        sb3.check_env(env.unwrapped)
    envs = gym.make_vec(
        name, num_envs=3, vectorization_mode="vector_entry_point", scenario="smoke", **kwargs
    )
    observations, _ = envs.reset(seed=0)
    assert observations in envs.observation_space


def test_a_replayed_search_never_asks_the_model(smoke: Problem) -> None:
    designs = smoke.space.sample(np.random.default_rng(1), 12)
    first: list[dict] = []
    envs = VectorRecorder(
        gym.make_vec("archsim/Accelerator-v0", num_envs=6, scenario=smoke), 12, first.append
    )
    envs.reset(seed=0)
    for batch in designs.reshape(2, 6, -1):
        envs.step(batch)
    store = {record["key"]: record for record in first}

    def refuse(indices: np.ndarray) -> dict:
        raise AssertionError(f"asked for {len(indices)} designs")

    again: list[dict] = []
    env = gym.make("archsim/Accelerator-v0", scenario=smoke)
    env.unwrapped.evaluate = refuse
    recorder = Recorder(env, 12, again.append, store)
    for design in designs:
        recorder.reset(seed=0)
        recorder.step(design)
    for one, two in zip(first, again, strict=True):
        assert {**one, "index_vector": 0} == {**two, "index_vector": 0}
        assert np.array_equal(one["index_vector"], two["index_vector"])


@pytest.mark.parametrize(
    ("fidelity", "message"),
    [({"effort": "heroic"}, "effort"), ({"objective": "beauty"}, "objective")],
)
def test_unknown_fidelity_is_refused_by_name(fidelity: dict, message: str, smoke: Problem) -> None:
    data = smoke.scenario.model_dump()
    data["fidelity"].update(fidelity)
    with pytest.raises(InputError, match=rf"smoke: fidelity.*{message}"):
        Problem(data)
