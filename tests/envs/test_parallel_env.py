"""Promise: a team of agents meets PettingZoo's contract and reaches what one agent reaches."""

from __future__ import annotations

import doctest
import importlib
import warnings

import gymnasium as gym
import numpy as np
import pytest
import yaml

pytest.importorskip("pettingzoo")

from pettingzoo.test import parallel_api_test, parallel_seed_test

import archsim.envs
from archsim.envs import Recorder, RefinementEnv, TeamEnv, parallel_env, refinement_env
from archsim.envs.kinds import KINDS
from archsim.envs.problem import as_problem
from archsim.envs.refinement import bottleneck, moves
from archsim.envs.scenario import SCENARIOS, available_scenarios, load_scenario
from archsim.errors import InputError
from archsim.space import ROLES
from archsim.space.teams import team_of

GROUPINGS = (
    "parameter",
    "role",
    "one",
    {"array": ["compute"], "rest": ["mapping", "technology", "buffer"]},
)
WHOLE = "archsim/Accelerator-v0"


@pytest.mark.parametrize("agents", GROUPINGS, ids=str)
@pytest.mark.parametrize("rewards", ["shared", "difference"])
@pytest.mark.parametrize("episode", ["one-step", "refinement"])
@pytest.mark.parametrize("sight", ["all", "own"])
def test_pettingzoo_finds_nothing_wrong(agents, rewards, episode, sight, problem) -> None:
    def make() -> TeamEnv:
        return parallel_env(problem, agents, rewards, episode, sight=sight)

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        parallel_api_test(make(), num_cycles=25)
        parallel_seed_test(make, num_cycles=5)


@pytest.fixture(scope="module")
def scenarios() -> dict[str, str]:
    """A shipped scenario of every kind."""
    found = {"accelerator": "smoke"}
    for name in available_scenarios():
        data = yaml.safe_load((SCENARIOS / f"{name}.yaml").read_text(encoding="utf-8"))
        found.setdefault(data.get("environment", "accelerator"), name)
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_environment_has_teams(kind: str, scenarios) -> None:
    problem = as_problem(scenarios[kind])
    single = gym.make(KINDS[kind].whole, scenario=problem)
    single.reset(seed=0)
    design = problem.space.sample(np.random.default_rng(0))
    *_, expected = single.step(design)
    for agents in ("parameter", "role"):
        env = parallel_env(problem, agents)
        owned = [name for names in env.team.values() for name in names]
        assert sorted(owned) == sorted(problem.space.names)
        assert set(KINDS[kind].subsystems) <= set(ROLES)
        env.reset(seed=0)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            parallel_api_test(env, num_cycles=2)
        env.reset(seed=0)
        _, rewards, terminations, truncations, infos = env.step(env.split(design))
        for agent in env.possible_agents:
            info = dict(infos[agent])
            assert info.pop("evaluations") > 0
            assert {k: np.asarray(v).tolist() for k, v in info.items()} == {
                k: np.asarray(v).tolist() for k, v in expected.items() if k != "evaluations"
            }
            assert terminations[agent] is True
            assert truncations[agent] is False
        assert len(set(rewards.values())) == 1


@pytest.mark.parametrize(
    ("scenario", "agents"),
    [
        ("edge_resnet50", {"compute", "memory", "dataflow", "technology"}),
        ("mobile_mobilenet_v2", {"compute", "memory", "dataflow", "technology", "interconnect"}),
        ("dram_low_latency", {"banks", "refresh", "queues"}),
        ("llm_405b_node", {"hardware", "placement", "parallelism"}),
    ],
)
def test_teams_are_called_as_architects_call_them(scenario: str, agents: set[str]) -> None:
    spec = load_scenario(scenario)
    subsystems = KINDS[spec.environment].subsystems
    assert set(team_of(spec.build_space(), "role", subsystems)) == agents


@pytest.mark.parametrize("agents", GROUPINGS, ids=str)
def test_joint_actions_are_the_points_of_the_single_agent(agents, problem) -> None:
    """One joint action for every point; each, legal or not, becomes the same design and reward."""
    space = problem.space
    points = np.stack(np.unravel_index(np.arange(space.points), space.cardinalities), axis=1)
    env = parallel_env(problem, agents)
    single = gym.make(WHOLE, scenario=problem)
    single.reset(seed=0)
    seen, repaired = set(), 0
    for point in points:
        parts = env.split(point)
        assert all(env.action_space(agent).contains(part) for agent, part in parts.items())
        assert env.joint(parts).tolist() == point.tolist()
        env.reset()
        observations, rewards, _, _, infos = env.step(parts)
        observation, reward, _, _, info = single.step(point)
        mine = infos[env.possible_agents[-1]]
        assert mine["design"].tolist() == info["design"].tolist()
        assert set(rewards.values()) == {reward}
        assert (mine["feasible"], mine["violation"]) == (info["feasible"], info["violation"])
        assert mine["repaired"] == info["repaired"]
        assert all(np.array_equal(o, observation) for o in observations.values())
        seen.add(space.key(mine["design"]))
        repaired += mine["repaired"]
    assert len(seen) == space.size
    assert repaired == space.points - space.size > 0
    joint = np.prod(
        [
            env.action_space(a).n
            if hasattr(env.action_space(a), "n")
            else env.action_space(a).nvec.prod()
            for a in env.possible_agents
        ]
    )
    assert joint == space.points


def test_agents_that_see_their_own_parameters_only(problem) -> None:
    env = parallel_env(problem, "role", sight="own")
    env.reset(seed=0)
    point = np.array([3, 1, 4, 2, 0])
    observations, *_ = env.step(env.split(point))
    whole, names = env.state(), problem.space.names
    for agent, own in env.team.items():
        others = [at for at, name in enumerate(names) if name not in own]
        assert observations[agent].tolist() == np.delete(whole, others).tolist()
    assert env.state_space.contains(whole)


def test_difference_rewards_and_what_they_cost(problem) -> None:
    records: list[dict] = []
    default = {"rows": 4, "cols": 4, "buffer": 8, "dataflow": "b", "fixed": 7}
    env = parallel_env(
        problem,
        "parameter",
        "difference",
        default=default,
        budget=100,
        on_evaluation=records.append,
    )
    env.reset(seed=0)
    point = problem.space.encode({"rows": 2, "cols": 16, "buffer": 8, "dataflow": "a", "fixed": 7})
    _, rewards, _, _, infos = env.step(env.split(point))
    base = problem.space.encode(default)
    for at, agent in enumerate(problem.space.names):
        without = point.copy()
        without[at] = base[at]
        both = problem.evaluate(problem.space.repair(np.array([point, without])))["reward"]
        assert rewards[agent] == both[0] - both[1]
    # buffer and fixed are at their default: nothing to evaluate
    assert rewards["buffer"] == rewards["fixed"] == 0.0
    assert infos["rows"]["counterfactuals"] == 3
    assert infos["rows"]["evaluations"] == len(records) == 4
    assert records[0]["index_vector"].tolist() == point.tolist()
    env.reset()
    _, again, _, _, infos = env.step(env.split(point))
    assert again == rewards
    assert infos["rows"]["counterfactuals"] == 0
    assert len(records) == 5  # the design itself counts as often as it is chosen


def test_difference_rewards_stop_with_the_budget(problem) -> None:
    records: list[dict] = []
    env = parallel_env(problem, "parameter", "difference", budget=3, on_evaluation=records.append)
    env.reset(seed=0)
    _, rewards, _, truncations, infos = env.step(env.split(np.array([0, 0, 3, 0, 0])))
    assert len(records) == 3
    assert infos["rows"]["budget_exhausted"]
    assert infos["rows"]["evaluations"] == 3
    assert all(truncations.values())
    assert env.agents == []
    assert rewards["rows"] != 0.0
    assert rewards["dataflow"] == 0.0  # not reached
    with pytest.raises(archsim.envs.BudgetExhausted):
        env.reset()


def test_counterfactuals_of_longer_episodes_need_refinement(problem) -> None:
    env = gym.make(WHOLE, scenario=problem, horizon=3)
    TeamEnv(env, "role")
    with pytest.raises(InputError, match="horizon"):
        TeamEnv(env, "role", "difference")


def test_the_examples_in_the_documentation_run() -> None:
    for module in ("archsim.envs.parallel", "archsim.envs.refinement", "archsim.space.teams"):
        found = doctest.testmod(importlib.import_module(module))
        assert found.failed == 0
        assert found.attempted > 3


# --- refinement ----------------------------------------------------------------------------------


def test_one_step_reaches_every_neighbour(problem) -> None:
    space = problem.space
    env = refinement_env(problem, horizon=4)
    for design in list(space)[::5]:
        reached = set()
        for at, (parameter, count) in enumerate(
            zip(space.parameters, env.action_space.nvec, strict=True)
        ):
            for choice in range(count):
                env.reset(options={"design": design})
                action = np.zeros(len(design), dtype=np.int64)
                action[at] = choice
                point = env.point_of(action)
                assert moves(parameter) is not None or choice == 0 or point[at] == choice - 1
                *_, info = env.step(action)
                assert info["design"].tolist() == space.repair(point[None])[0].tolist()
                assert info["repaired"] == (not space.is_legal(point))
                reached.add(space.key(info["design"]))
        assert {space.key(row) for row in space.neighbours(design)} <= reached
        assert space.key(design) in reached


def test_refinement_walks_to_any_design_and_ends(problem) -> None:
    """Step by step along legal designs, from one corner to the other."""
    space = problem.space
    start, goal = space.repair([[0, 0, 0, 0, 0]])[0], space.repair([[2, 2, 4, 1, 0]])[0]
    env = refinement_env(problem, horizon=8)
    shown, _ = env.reset(options={"design": start})
    assert np.array_equal(space.from_unit(shown[:5]), start)
    assert shown[5] == 0  # nothing evaluated yet
    info, terminated, steps = {"design": start}, False, 0
    while not np.array_equal(info["design"], goal):
        away = np.sign(goal - info["design"])
        action = np.where(away < 0, 1, np.where(away > 0, 2, 0))
        action[3] = 1 + goal[3]
        shown, reward, terminated, truncated, info = env.step(action)
        steps += 1
        assert reward == problem.evaluate(info["design"][None])["reward"][0]
        assert np.array_equal(space.from_unit(shown[:5]), info["design"])
        assert shown[-1] == pytest.approx(steps / 8)
        assert not truncated
    while not terminated:
        *_, terminated, _, info = env.step(np.zeros(5, dtype=np.int64))
        steps += 1
    assert steps == 8
    assert np.array_equal(info["design"], goal)


def test_refinement_says_what_holds_a_design_back(problem) -> None:
    env = refinement_env(problem)
    assert env.bottlenecks == ("latency_s", "energy_j", "area_mm2", "model")
    keep = np.zeros(5, dtype=np.int64)
    found = {}
    for design in problem.space:
        env.reset(options={"design": design})
        shown, _, _, _, info = env.step(keep)
        metrics = {n: info[n] for n in problem.metric_names}
        if metrics["area_mm2"] > 60.0:
            expected = "area_mm2"
        elif not info["feasible"]:
            expected = "model"
        elif metrics["latency_s"] / 0.1 >= metrics["energy_j"] / 1e-3:
            expected = "latency_s"
        else:
            expected = "energy_j"
        assert env.bottlenecks[info["bottleneck"]] == expected
        flags = shown[-5:-1]
        assert flags[info["bottleneck"]] == flags.sum() == 1.0
        assert bottleneck(problem.objective, info) == info["bottleneck"]
        found[expected] = found.get(expected, 0) + 1
    assert len(found) >= 3


def test_a_team_refines_as_one_agent_does(problem) -> None:
    single = refinement_env(problem, horizon=6)
    env = parallel_env(problem, "role", episode="refinement", horizon=6)
    one, _ = single.reset(seed=7)
    many, _ = env.reset(seed=7)
    rng = np.random.default_rng(0)
    for _ in range(6):
        assert all(np.array_equal(seen, one) for seen in many.values())
        action = rng.integers(single.action_space.nvec)
        one, reward, terminated, _, info = single.step(action)
        many, rewards, terminations, _, infos = env.step(env.split(action))
        assert set(rewards.values()) == {reward}
        assert set(terminations.values()) == {terminated}
        assert infos["compute"]["design"].tolist() == info["design"].tolist()
    assert terminated


def test_counterfactuals_keep_a_parameter_and_the_current_design(problem) -> None:
    records: list[dict] = []
    env = parallel_env(
        problem,
        "parameter",
        "difference",
        "refinement",
        5,
        budget=50,
        on_evaluation=records.append,
    )
    start = np.array([1, 1, 2, 0, 0])
    env.reset(seed=0, options={"design": start})
    action = np.array([2, 1, 0, 2, 0])
    _, rewards, _, _, infos = env.step(env.split(action))
    moved = np.array([2, 0, 2, 1, 0])
    assert infos["rows"]["design"].tolist() == moved.tolist()
    for at, agent in enumerate(problem.space.names):
        without = moved.copy()
        without[at] = start[at]
        both = problem.evaluate(np.array([moved, without]))["reward"]
        assert rewards[agent] == both[0] - both[1]
    assert infos["rows"]["counterfactuals"] == 3
    assert len(records) == 4
    *_, infos = env.step(env.split(np.zeros(5, dtype=np.int64)))
    assert infos["rows"]["design"].tolist() == moved.tolist()  # probes did not move it


def test_the_budget_truncates_refinement(problem) -> None:
    for agents in ("one", "role"):
        env = parallel_env(problem, agents, episode="refinement", horizon=9, budget=4)
        env.reset(seed=0)
        for step in range(4):
            keep = env.split(np.zeros(5, dtype=np.int64))
            _, _, terminations, truncations, infos = env.step(keep)
            assert set(truncations.values()) == {step == 3}
            assert set(terminations.values()) == {False}
        assert all(info["budget_exhausted"] for info in infos.values())


def test_a_recorder_may_be_inside_or_outside_of_one_refining_agent(problem) -> None:
    counts = []
    inner = gym.make(WHOLE, scenario=problem)
    for build in (
        lambda record: RefinementEnv(Recorder(inner, 20, record), 5),
        lambda record: Recorder(RefinementEnv(inner, 5), 20, record),
    ):
        records: list[dict] = []
        env = build(records.append)
        rng = np.random.default_rng(3)
        done, truncated, seed = True, False, 1
        while not truncated:
            if done:
                env.reset(seed=seed)
                seed = None
            _, _, done, truncated, _ = env.step(rng.integers(env.action_space.nvec))
        counts.append([record["key"] for record in records])
    assert counts[0] == counts[1]
    assert len(counts[0]) == 20


# --- arguments -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"agents": "roles"}, "unknown grouping"),
        ({"agents": {"a": ["rows"]}}, "no agent decides this parameter; found 'cols'"),
        ({"agents": {"a": ["rows", "rows"]}}, "has it already"),
        ({"agents": {"a": ["compute"], "b": ["compute"]}}, "has it already"),
        ({"agents": {"a": ["pages"]}}, "neither a parameter nor a role"),
        ({"agents": {"a": []}}, "a list of parameters or roles"),
        ({"agents": {"a": "rows"}}, "a list of parameters or roles"),
        (
            {"agents": {"a": ["rows", "cols", "buffer", "dataflow", "fixed"], "b": ["memory"]}},
            "others decide all",
        ),
        ({"rewards": "mine"}, "rewards"),
        ({"sight": "none"}, "sight"),
        ({"episode": "long"}, "episode"),
        ({"horizon": 3}, "only refinement episodes"),
        ({"episode": "refinement", "horizon": 0}, "horizon"),
        ({"episode": "refinement", "default": {"rows": 2}}, "keep parameters"),
        ({"default": {"rows": 3}}, "no such value"),
        ({"default": {"columns": 3}}, "unknown parameter"),
        ({"on_evaluation": print}, "budget"),
        ({"budget": 0}, "budget"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_wrong_arguments_are_named(arguments, words, problem) -> None:
    with pytest.raises(InputError, match=words):
        parallel_env(problem, **arguments)


def test_wrong_actions_are_named(problem) -> None:
    env = parallel_env(problem, "role")
    good = env.split(np.zeros(5, dtype=np.int64))
    with pytest.raises(InputError, match="the episode is over"):
        env.step(good)
    env.reset(seed=0)
    for wrong, words in (
        ({"memory": 0}, "every agent acts"),
        ({**good, "memory": 5}, "actions.memory"),
        ({**good, "memory": 0.5}, "actions.memory"),
        ({**good, "compute": [0, 0, 0]}, "actions.compute"),
        ({**good, "pages": 0}, "every agent acts"),
    ):
        with pytest.raises(InputError, match=words):
            env.step(wrong)
    refine = refinement_env(problem)
    refine.reset(seed=0)
    for wrong in ([0, 0], [9, 0, 0, 0, 0], [-1, 0, 0, 0, 0]):
        with pytest.raises(InputError, match="not an action"):
            refine.step(wrong)
    for env in (
        gym.make(WHOLE, scenario=problem, encoding="box"),
        gym.make("archsim/AcceleratorStepwise-v0", scenario=problem),
    ):
        with pytest.raises(InputError, match=r"multidiscrete|encoding"):
            TeamEnv(env)
        with pytest.raises(InputError, match=r"multidiscrete|encoding"):
            RefinementEnv(env)
