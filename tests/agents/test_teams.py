"""Promise: teams of agents learn, whatever is divided how; their learning is what it says it is."""

from __future__ import annotations

import contextlib
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
from team_problems import Additive, Matching

from archsim.agents import designs_per_step, load_agent, options_from_mapping
from archsim.envs import TeamEnv
from archsim.envs.recorder import BudgetExhausted, Recorder, VectorRecorder
from archsim.errors import InputError
from archsim.testing import check_agent

EXAMPLE = Path(__file__).parent / "custom_team_example.py"
TEAMS = ("ippo", "mappo", "qmix")


def searched(name, problem, budget, seed=0, width=None, **options):
    """Records of a search, in order."""
    cls, records = load_agent(name), []
    chosen = options_from_mapping(cls, options)
    made = {"scenario": problem, "encoding": cls.encoding}
    if cls.vectorized:
        width = width or designs_per_step(cls, chosen)
        env = gym.make_vec("archsim/Accelerator-v0", num_envs=width, **made)
        env = VectorRecorder(env, budget, records.append)
    else:
        env = Recorder(gym.make("archsim/Accelerator-v0", **made), budget, records.append)
    agent = cls(env, seed=seed, options=chosen)
    with contextlib.suppress(BudgetExhausted):
        agent.search()
    assert len(records) == budget
    return records, agent


def best(records):
    return min(record["objective"] for record in records)


@pytest.fixture(scope="module")
def luck():
    """Best of 3,000 random designs, ten times the budget of the teams, by problem."""
    found = {}
    for kind in (Additive, Matching):
        problem = kind(1)
        designs = problem.space.sample(np.random.default_rng(5), 3000)
        found[kind] = problem.evaluate(designs)["objective"].min()
    return found


@pytest.mark.parametrize("kind", [Additive, Matching])
@pytest.mark.parametrize("name", TEAMS)
def test_teams_beat_ten_times_as_many_random_designs(name, kind, luck):
    assert best(searched(name, kind(1), 300)[0]) < luck[kind]


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("ippo", {"agents": "role"}),
        ("ippo", {"agents": "one"}),
        ("ippo", {"agents": {"banks": ["controller"], "rest": ["memory", "interconnect"]}}),
        ("mappo", {"agents": "role"}),
        ("mappo", {"critic": "value"}),
        ("mappo", {"horizon": 4, "gamma": 0.5}),
        ("qmix", {"agents": "role"}),
        ("qmix", {"mixer": "sum"}),
        ("qmix", {"horizon": 4, "gamma": 0.5}),
        ("ippo", {"credit": "difference", "batch": 8}),
    ],
    ids=str,
)
def test_every_form_of_a_team_beats_random_search(name, options):
    problem = Additive(2)
    luck = best(searched("random", problem, 200)[0])
    assert best(searched(name, problem, 200, **options)[0]) < luck


def test_a_team_has_the_agents_it_is_told():
    problem = Additive()
    wanted = {
        "parameter": 10,
        "role": 3,
        "one": 1,
    }
    for agents, count in wanted.items():
        _, agent = searched("qmix", problem, 20, agents=agents)
        assert len(agent.team) == count
        assert sorted(sum(agent.team.values(), ())) == sorted(problem.space.names)
    with pytest.raises(InputError, match="unknown grouping"):
        searched("ippo", problem, 20, agents="roles")
    with pytest.raises(InputError, match="no agent decides"):
        searched("ippo", problem, 20, agents={"a": ["p0"]})


def test_difference_rewards_are_exact_and_every_evaluation_is_recorded():
    """An agent is credited with the reward less that with the best design's choice in its place."""
    problem = Additive(3)
    earned = []

    class Watched(load_agent("ippo")):
        def credit(self, rollout):
            found = super().credit(rollout)
            earned.append((rollout, found, self.best[1].copy()))
            return found

    records = []
    env = gym.make_vec("archsim/Accelerator-v0", num_envs=8, scenario=problem)
    env = VectorRecorder(env, 300, records.append)
    Watched(env, 0, options_from_mapping(Watched, {"credit": "difference", "batch": 8})).search()
    assert len(records) == 300
    rollout, found, _ = earned[0]
    designs, rewards = rollout.designs[0], rollout.rewards[0]
    base = designs[rewards.argmax()]  # the best known then
    for agent in range(10):
        without = designs.copy()
        without[:, agent] = base[agent]
        expected = rewards - problem.evaluate(without)["reward"]
        assert found[agent, 0] == pytest.approx(expected, abs=1e-12)
    # of 8 designs and 10 agents, those of the best design itself are free
    distinct = {record["key"] for record in records[: 8 + 72 + 8]}
    assert len(distinct) > 40
    assert len(earned) > 300 // 88  # later rounds cost less: counterfactuals become known


def test_mixing_rises_with_every_agent():
    """The joint best choice is every agent's own best: what QMIX rests on."""
    torch = pytest.importorskip("torch")
    _, agent = searched("qmix", Matching(2), 96)
    generator = torch.Generator().manual_seed(0)
    seen = torch.rand(1, len(agent.evaluate.first_observation()), generator=generator)
    with torch.no_grad():
        greedy = agent.online.heads(seen).argmax(2).T
        others = torch.as_tensor(Matching().space.sample(np.random.default_rng(0), 2000))
        top = agent.online(seen, greedy)
        assert (agent.online(seen.expand(2000, -1), others) <= top + 1e-5).all()


def test_the_critic_of_choices_predicts_rewards():
    torch = pytest.importorskip("torch")
    problem = Additive(4)
    records, agent = searched("mappo", problem, 320)
    designs = np.array([record["index_vector"] for record in records[-64:]])
    rewards = np.array([record["reward"] for record in records[-64:]])
    seen = torch.as_tensor(agent.evaluate.first_observation()).expand(64, -1)
    with torch.no_grad():
        predicted = agent.judge(seen, torch.as_tensor(designs))[:, 0].numpy()
    assert np.corrcoef(predicted, rewards)[0, 1] > 0.7


def test_the_same_seed_makes_the_same_designs_at_every_grouping():
    for options in ({"agents": "role"}, {"credit": "difference"}, {"horizon": 3, "gamma": 0.5}):
        runs = [
            [r["key"] for r in searched("mappo", Additive(), 96, seed, **options)[0]]
            for seed in (3, 3, 4)
        ]
        assert runs[0] == runs[1] != runs[2]


def test_a_resumed_search_asks_for_the_same_designs():
    """Stored designs answer instead of the model: nothing changes, and nothing is evaluated."""
    problem, cls, first = Additive(), load_agent("qmix"), []
    env = gym.make_vec("archsim/Accelerator-v0", num_envs=16, scenario=problem)
    cls(VectorRecorder(env, 80, first.append), seed=1).search()
    cache = {r["key"]: {k: v for k, v in r.items() if k not in ("order", "key")} for r in first}
    problem.evaluate = lambda designs: pytest.fail("evaluated again")
    again = []
    env = gym.make_vec("archsim/Accelerator-v0", num_envs=16, scenario=problem)
    cls(VectorRecorder(env, 80, again.append, cache), seed=1).search()
    assert [r["key"] for r in again] == [r["key"] for r in first]


@pytest.mark.parametrize("name", ["ppo", "sac", *TEAMS])
def test_single_agents_and_teams_reach_the_same_designs(name):
    """Of ArchGym's 28,311,552 controllers, each is one action of every searcher's encoding."""
    problem, encoding = Additive(), load_agent(name).encoding
    space, env = problem.space, gym.make("archsim/Accelerator-v0", scenario=problem)
    assert space.size == 28_311_552
    rng = np.random.default_rng(0)
    designs = space.sample(rng, 5000)
    assert np.array_equal(space.from_action(space.to_action(designs, encoding), encoding), designs)
    actions = space.action_space(encoding)
    actions.seed(0)
    drawn = np.array([actions.sample() for _ in range(3000)])
    found = space.from_action(drawn, encoding)
    assert all(len(np.unique(found[:, at])) == n for at, n in enumerate(space.cardinalities))
    team = TeamEnv(env, "parameter")
    assert all(np.array_equal(team.joint(team.split(row)), row) for row in designs[:200])


def test_the_team_of_the_readme_keeps_the_contract():
    lines = EXAMPLE.read_text().split('"""', 2)[2].strip().splitlines()
    assert len([line for line in lines if line.strip()]) <= 30
    report = check_agent(f"{EXAMPLE}:Scorekeepers", budget=128)
    assert report.evaluations == 128


def test_environments_without_a_space_have_agents_too():
    class Plain(gym.Env):
        action_space = gym.spaces.MultiDiscrete([4, 5])
        observation_space = gym.spaces.Box(0.0, 1.0, (3,), np.float32)
        steps = 0

        def reset(self, *, seed=None, options=None):
            return np.zeros(3, dtype=np.float32), {}

        def step(self, action):
            self.steps += 1
            info = {"budget_exhausted": True} if self.steps == 60 else {}
            return np.zeros(3, dtype=np.float32), float(-action.sum()), True, False, info

    for name in TEAMS:
        env = Plain()
        load_agent(name)(env, seed=0).search()
        assert env.steps == 60
