"""Recorders count exactly, remember exactly, and stop every agent at the budget."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest
from analytic_problem import AnalyticProblem
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from archsim.envs import BudgetExhausted, Recorder, VectorRecorder
from archsim.errors import InputError
from archsim.space import DesignSpace, Parameter

WHOLE, STEPWISE = "archsim/Accelerator-v0", "archsim/AcceleratorStepwise-v0"


def search(env: gym.Env, steps: int = 10_000) -> None:
    """An agent that never looks at the budget."""
    env.action_space.seed(4)
    env.reset(seed=4)
    for _ in range(steps):
        _, _, terminated, truncated, _ = env.step(env.action_space.sample())
        if terminated or truncated:
            env.reset()


@pytest.mark.parametrize("name", [WHOLE, STEPWISE])
def test_an_agent_that_never_looks_is_stopped_at_the_budget(name: str, problem) -> None:
    records: list[dict] = []
    env = Recorder(gym.make(name, scenario=problem), 7, records.append)
    with pytest.raises(BudgetExhausted):
        search(env)
    assert [record["order"] for record in records] == list(range(7))
    assert env.evaluations == env.budget == 7
    for record in records:
        design = record["index_vector"]
        assert record["key"] == problem.space.key(design)
        truth = AnalyticProblem().evaluate(design[None])
        names = (*problem.metric_names, "feasible", "violation", "objective", "reward")
        assert all(record[name] == truth[name][0] for name in names)
        assert type(record["feasible"]) is bool
    for call in (env.reset, lambda: env.step(env.action_space.sample())):
        with pytest.raises(BudgetExhausted):
            call()


def test_the_last_step_says_so(problem) -> None:
    env = Recorder(gym.make(WHOLE, scenario=problem), 2)
    env.reset(seed=0)
    *_, truncated, info = env.step(env.action_space.sample())
    assert not truncated
    assert "budget_exhausted" not in info
    env.reset()
    *_, truncated, info = env.step(env.action_space.sample())
    assert truncated
    assert info["budget_exhausted"] is True
    assert info["evaluations"] == 2


def test_repeats_count_but_are_evaluated_once(problem) -> None:
    records: list[dict] = []
    env = Recorder(gym.make(WHOLE, scenario=problem), 5, records.append)
    action = problem.space.to_action(problem.space.sample(np.random.default_rng(0)))
    outputs = []
    for _ in range(5):
        env.reset(seed=0)
        outputs.append(env.step(action))
    assert len(records) == 5
    assert problem.calls == [1]
    for output in outputs[1:]:
        assert np.array_equal(output[0], outputs[0][0])
        assert output[1] == outputs[0][1]


@pytest.mark.parametrize("name", [WHOLE, STEPWISE])
@pytest.mark.parametrize("known", [0, 3, 9])
def test_stored_designs_are_answered_bit_for_bit_without_the_model(name: str, known: int) -> None:
    def run(problem: AnalyticProblem, cache: dict | None) -> tuple[list[dict], list]:
        records: list[dict] = []
        env = Recorder(gym.make(name, scenario=problem), 9, records.append, cache)
        seen = []
        env.action_space.seed(4)
        env.reset(seed=4)
        truncated = False
        while not truncated:
            observation, reward, terminated, truncated, _ = env.step(env.action_space.sample())
            seen.append((observation.tobytes(), reward, terminated))
            if terminated and not truncated:
                env.reset()
        return records, seen

    first, first_seen = run(AnalyticProblem(), None)
    stored = {r["key"]: {k: r[k] for k in r if k not in ("order", "key")} for r in first[:known]}
    again = AnalyticProblem()
    second, second_seen = run(again, stored)
    assert second_seen == first_seen
    assert len({r["key"] for r in first} - set(stored)) == sum(again.calls)
    for one, two in zip(first, second, strict=True):
        assert one["index_vector"].tolist() == two["index_vector"].tolist()
        assert {k: v for k, v in one.items() if k != "index_vector"} == {
            k: v for k, v in two.items() if k != "index_vector"
        }


def test_incomplete_cache_entries_are_not_used(problem) -> None:
    design = problem.space.sample(np.random.default_rng(0))
    cache = {problem.space.key(design): {"latency_s": 1.0}}
    env = Recorder(gym.make(WHOLE, scenario=problem), 1, cache=cache)
    env.reset(seed=0)
    *_, info = env.step(design)
    assert problem.calls == [1]
    assert info["latency_s"] != 1.0


@pytest.mark.parametrize(("lanes", "budget"), [(4, 10), (4, 8), (16, 3), (1, 3)])
def test_vector_budgets_are_exact_whatever_the_width(lanes: int, budget: int, problem) -> None:
    records: list[dict] = []
    envs = VectorRecorder(
        gym.make_vec(WHOLE, num_envs=lanes, scenario=problem), budget, records.append
    )
    envs.reset(seed=0)
    designs = problem.space.sample(np.random.default_rng(1), 64).reshape(-1, lanes, 5)
    for batch in designs[: -(-budget // lanes)]:
        _, rewards, _, truncations, infos = envs.step(batch)
    with pytest.raises(BudgetExhausted):
        envs.step(designs[0])
    assert envs.evaluations == len(records) == budget
    assert [record["order"] for record in records] == list(range(budget))
    expected = designs.reshape(-1, 5)[:budget]
    assert np.array_equal([record["index_vector"] for record in records], expected)
    assert records[-1]["reward"] == rewards[(budget - 1) % lanes]
    assert truncations.all()
    assert infos["budget_exhausted"].all()
    counted = infos["evaluations"][infos["_evaluations"]]
    assert counted.tolist() == list(range(budget - (budget - 1) % lanes, budget + 1))
    with pytest.raises(BudgetExhausted):
        envs.reset()


def test_scalar_and_vector_recorders_write_the_same_records(problem) -> None:
    designs = problem.space.sample(np.random.default_rng(1), 12)
    one: list[dict] = []
    env = Recorder(gym.make(WHOLE, scenario=problem), 12, one.append)
    for design in designs:
        env.reset(seed=0)
        env.step(design)
    many: list[dict] = []
    envs = VectorRecorder(gym.make_vec(WHOLE, num_envs=4, scenario=problem), 12, many.append)
    envs.reset(seed=0)
    for batch in designs.reshape(3, 4, 5):
        envs.step(batch)
    assert [_plain(r) for r in one] == [_plain(r) for r in many]


def _plain(record: dict) -> dict:
    return {**record, "index_vector": record["index_vector"].tolist()}


@pytest.mark.parametrize("name", [WHOLE, STEPWISE])
@pytest.mark.parametrize("mode", list(AutoresetMode))
def test_many_single_environments_are_recorded_like_a_native_one(
    name: str, mode: AutoresetMode, problem
) -> None:
    native = gym.make_vec(name, num_envs=3, scenario=problem, autoreset_mode=mode)
    many = SyncVectorEnv(
        [lambda: gym.make(name, scenario=problem) for _ in range(3)], autoreset_mode=mode
    )
    found = []
    for envs in (native, many):
        records: list[dict] = []
        recorder = VectorRecorder(envs, 8, records.append)
        recorder.reset(seed=0)
        recorder.action_space.seed(9)
        done = np.zeros(3, dtype=bool)
        while not done.all() or recorder.evaluations < 8:
            _, _, terminations, done, _ = recorder.step(recorder.action_space.sample())
            if mode is AutoresetMode.DISABLED and terminations.all() and not done.all():
                recorder.reset()
        found.append([_plain(record) for record in records])
    assert len(found[0]) == 8
    assert found[0] == found[1]


class Foreign(gym.Env):
    """Another project's environment: it only offers a space and objective names."""

    def __init__(self) -> None:
        self.space = DesignSpace([Parameter("x", (0, 1, 2, 3)), Parameter("y", (0, 1))])
        self.objective_names = ("cost",)
        self.observation_space = spaces.Box(0.0, 1.0, (1,))
        self.action_space = spaces.Box(-1.0, 1.0, (2,))

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.zeros(1, dtype=np.float32), {}

    def step(self, action):
        cost = float(np.abs(action).sum())
        return np.zeros(1, dtype=np.float32), -cost, True, False, {"cost": cost, "note": "text"}


def test_foreign_environments_are_recorded_by_decoding_the_action() -> None:
    records: list[dict] = []
    env = Recorder(Foreign(), 2, records.append)
    env.reset(seed=0)
    env.step(np.array([1.0, -1.0], dtype=np.float32))
    env.step(np.array([-0.4, 0.3], dtype=np.float32))
    assert [r["index_vector"].tolist() for r in records] == [[3, 0], [1, 1]]
    assert records[0]["cost"] == 2.0
    assert records[0]["feasible"] is True
    assert "note" not in records[0]
    many: list[dict] = []
    envs = VectorRecorder(SyncVectorEnv([Foreign, Foreign]), 2, many.append)
    envs.reset(seed=0)
    envs.step(np.array([[1.0, -1.0], [-0.4, 0.3]], dtype=np.float32))
    assert [_plain(r) for r in many] == [_plain(r) for r in records]


@pytest.mark.parametrize("budget", [0, -1, 1.5, None, True])
def test_bad_budgets_are_input_errors(budget: object, problem) -> None:
    with pytest.raises(InputError, match="budget"):
        Recorder(gym.make(WHOLE, scenario=problem), budget)
