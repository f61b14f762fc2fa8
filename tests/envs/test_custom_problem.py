"""A cost model of one's own, one small class, gets everything the shipped environments have."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import yaml
from custom_mesh import Mesh
from gymnasium.utils.env_checker import check_env

from archsim.envs import DesignProblem, Objective, Recorder, as_problem, load_scenario, parallel_env
from archsim.envs.problem import SupportsEvaluation
from archsim.errors import InputError
from archsim.space import DesignSpace, Parameter

IDS = ("archsim/Design-v0", "archsim/DesignStepwise-v0")


class Plain(DesignProblem):
    space = DesignSpace([Parameter("a", (1, 2, 4))])
    metric_names = ("latency_s",)
    objective = Objective(("latency_s",))

    def evaluate_batch(self, designs: np.ndarray) -> dict[str, Any]:
        return {"latency_s": self.space.decode(designs)["a"] * 1.0}


@pytest.mark.parametrize("name", IDS)
def test_single_environments_pass_the_checkers(name: str) -> None:
    sb3 = pytest.importorskip("stable_baselines3.common.env_checker")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        env = gym.make(name, scenario=Mesh())
        check_env(env.unwrapped)
        sb3.check_env(env.unwrapped)


def test_single_and_vector_environments_agree() -> None:
    problem = Mesh(bits=512)
    assert isinstance(problem, SupportsEvaluation)
    designs = np.concatenate(list(problem.space.batches()))
    envs = gym.make_vec(IDS[0], num_envs=len(designs), scenario=problem)
    envs.reset(seed=0)
    rewards = envs.step(designs)[1]
    env = gym.make(IDS[0], scenario=problem, render_mode="ansi")
    env.reset(seed=0)
    for design, reward in zip(designs, rewards, strict=True):
        assert env.step(design)[1] == reward
    assert len(set(rewards.tolist())) > len(designs) // 2
    shown = env.render()
    assert "minimised" in shown
    assert "x reference design" in shown


def test_a_team_finds_its_roles_and_the_same_rewards() -> None:
    pytest.importorskip("pettingzoo")
    team = parallel_env(Mesh(), agents="role", rewards="difference")
    assert team.team["compute"] == ("nodes",)
    team.reset(seed=0)
    rewards = team.step({"compute": 0, "interconnect": 2, "memory": 1})[1]
    assert set(rewards) == {"compute", "interconnect", "memory"}
    assert len(set(rewards.values())) > 1
    refined = parallel_env(Mesh(), episode="refinement", horizon=2)
    refined.reset(seed=0)
    refined.step(dict.fromkeys(refined.agents, 1))


def test_the_reference_is_a_design_and_its_reward_one_half() -> None:
    problem = Mesh()
    middle = problem.space.encode({"nodes": 64, "link_bits": 32, "buffer_flits": 4})
    found = problem.evaluate(middle)
    assert found["reward"][0] == 0.5
    assert problem.reference_metrics["latency_s"] == found["latency_s"][0]

    class Chosen(Mesh):
        reference_design = {"nodes": 16}  # noqa: RUF012

    assert Chosen().reference_metrics["energy_j"] < problem.reference_metrics["energy_j"]


def test_recorder_counts_and_remembers() -> None:
    seen: list[dict] = []
    recorder = Recorder(gym.make(IDS[0], scenario=Mesh()), 3, seen.append)
    for _ in range(3):
        recorder.reset(seed=0)
        step = recorder.step(np.array([0, 1, 1]))
    assert step[3] is True
    assert [record["order"] for record in seen] == [0, 1, 2]


def test_a_scenario_file_names_the_class(tmp_path: Path) -> None:
    path = tmp_path / "mesh.yaml"
    data = {
        "name": "tight",
        "environment": "custom_mesh:Mesh",
        "arguments": {"bits": 1024},
        "constraints": ["nodes >= 64"],
        "objective": {"minimize": ["latency_s"], "limits": {"energy_j": 1e-8}},
    }
    path.write_text(yaml.safe_dump(data))
    problem = as_problem(path)
    assert (problem.bits, problem.objective.minimize) == (1024, ("latency_s",))
    assert problem.space.size == Mesh().space.size - 12
    assert as_problem(Mesh(bits=7)).scenario.arguments == {"bits": 7}
    same = as_problem(load_scenario(Mesh(bits=1024).scenario))
    assert json.dumps(same.content()) == json.dumps(Mesh(bits=1024).content())
    assert as_problem("custom_mesh:Mesh").objective == Mesh().objective


def test_it_is_explored_stored_resumed_and_reported(tmp_path: Path) -> None:
    from archsim.explore.report import write_report
    from archsim.explore.results import Results
    from archsim.explore.runner import AgentChoice, Plan, explore

    plan = Plan((AgentChoice("genetic"),), seeds=1, budget=12, workers=1)
    first = explore(Mesh(bits=256), plan, tmp_path / "run")
    assert not first.failed, first.failed[0].error
    assert (first.evaluations, first.fresh > 0) == (12, True)
    again = explore("custom_mesh:Mesh", plan, tmp_path / "other")
    assert again.evaluations == 12
    resumed = explore(tmp_path / "run" / "scenario.yaml", plan, tmp_path / "run")
    assert resumed.fresh == 0
    results = Results(tmp_path / "run")
    for row in range(len(results.indices)):
        fresh = Mesh(bits=256).evaluate(results.indices[row])
        assert fresh["latency_s"][0] == results.metrics["latency_s"][row]
    report = write_report(results, tmp_path / "report.html")
    assert "mesh of routers" in Path(report).read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"environment": "custom_mesh:Grid"}, "no problem of this name"),
        ({"environment": "custom_mesh:np"}, "no problem of this name"),
        ({"environment": "no_such_module_here:Mesh"}, "No module named"),
        ({"environment": "../mesh.py:Mesh"}, "environment"),
        ({"arguments": {"words": 3}}, "words"),
        ({"objective": {"minimize": ["speed"]}}, "no such metric"),
        ({"constraints": ["rows > 3"]}, "rows"),
        ({"environment": "graphics"}, "module:Class"),
    ],
)
def test_a_wrong_scenario_is_an_input_error(change: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        as_problem({"name": "mesh", "environment": "custom_mesh:Mesh", **change})


def test_a_class_that_promises_too_much_is_an_input_error() -> None:
    class Forgets(Plain):
        metric_names = ("latency_s", "energy_j")

    class Short(Plain):
        def evaluate_batch(self, designs: np.ndarray) -> dict[str, Any]:
            return {"latency_s": np.ones(len(designs) + 1)}

    class Wordy(Plain):
        def evaluate_batch(self, designs: np.ndarray) -> dict[str, Any]:
            return {"latency_s": "slow"}

    class Unready(Plain):
        def __init__(self) -> None:
            pass

    class Spaceless(DesignProblem):
        metric_names = ("latency_s",)

        def evaluate_batch(self, designs: np.ndarray) -> dict[str, Any]:
            return {"latency_s": 1.0}

    for wrong, message in (
        (Forgets, "energy_j"),
        (Short, r"shape \(1,\)"),
        (Wordy, "latency_s"),
        (Spaceless, "space"),
    ):
        with pytest.raises(InputError, match=message):
            wrong()
    with pytest.raises(InputError, match=r"super\(\).__init__"):
        Unready().evaluate(np.zeros((1, 1), dtype=np.int64))


def test_a_class_no_other_process_can_import_is_used_here_but_not_explored(tmp_path: Path) -> None:
    class Local(Plain):
        """In a function."""

    env = gym.make(IDS[0], scenario=Local())
    env.reset(seed=0)
    assert env.step([1])[1] == 0.5
    with pytest.raises(InputError, match="top of a module"):
        Local().portable(tmp_path)
    with pytest.raises(InputError, match="another environment"):
        gym.make("archsim/LLMSystem-v0", scenario=Local())
