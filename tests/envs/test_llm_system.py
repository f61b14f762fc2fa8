"""Systems that serve language models: metrics, infeasible designs, runs, errors."""

from __future__ import annotations

import warnings
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
import yaml
from gymnasium.utils.env_checker import check_env

import archsim.envs  # noqa: F401 (registers the environments)
from archsim.envs.llm import LLMProblem
from archsim.envs.problem import as_problem
from archsim.envs.scenario import load_scenario
from archsim.errors import InputError
from archsim.explore import runner
from archsim.explore.best import choose
from archsim.explore.problem import Opened
from archsim.explore.results import Results
from archsim.hardware.carbon import bill, ownership
from archsim.system.llm import evaluate_step

BASE = {
    "name": "mine",
    "environment": "llm_system",
    "machine": "h100x8",
    "steps": [
        {"model": "llama-3-70b", "phase": "decode", "batch": 16, "context": 4096, "weight": 200,
         "name": "decode"},
        {"model": "llama-3-70b", "phase": "prefill", "batch": 1, "context": 2048, "name": "read"},
    ],
    "plan": "tp8",
    "parameters": [
        {"name": "gpus", "path": "groups.gpu.count", "values": [2, 4, 8], "role": "compute"},
        {"name": "hbm_tb_s", "path": "tiers.hbm.bandwidth_bytes_per_s", "scale": 1e12,
         "range": {"low": 2.0, "high": 8.0, "points": 4}, "role": "memory"},
        {"name": "hbm_gb", "path": "tiers.hbm.capacity_bytes", "scale": 1e9,
         "values": [40, 80, 160], "role": "memory"},
        {"name": "sms", "path": {"engines.sm.sms": 1, "engines.sm.rates.bf16.flops_per_s": 7.5e12},
         "values": [66, 132], "role": "compute"},
        {"name": "tp", "plan": "tensor", "values": [1, 2, 4, 8], "role": "parallelism"},
        {"name": "pp", "plan": "pipeline", "values": [1, 2], "role": "parallelism"},
        {"name": "far", "plan": "weights", "values": ["home", "host_dram"], "role": "mapping"},
        {"name": "share", "plan": "weights_share", "values": [0.25, 1.0], "role": "mapping"},
        {"name": "batch", "size": "batch", "steps": ["decode"], "values": [1, 16, 64],
         "role": "mapping"},
    ],
    "objective": {"minimize": ["tpot_s", "dollars_per_mtoken"], "limits": {"ttft_s": 2.0}},
}  # fmt: skip


def changed(**fields: object) -> dict:
    return {**BASE, **fields}


@pytest.fixture(scope="module")
def systems() -> LLMProblem:
    return LLMProblem(BASE)


@pytest.fixture(scope="module")
def designs(systems: LLMProblem) -> np.ndarray:
    return systems.space.sample(np.random.default_rng(0), 200)


@pytest.fixture(scope="module")
def metrics(systems: LLMProblem, designs: np.ndarray) -> dict:
    return systems.evaluate(designs)


def test_metrics_are_those_of_the_steps_and_of_the_bill(systems, designs, metrics) -> None:
    kept = np.flatnonzero(metrics["feasible"])
    assert 10 < len(kept) < len(designs)
    for row in kept[:3]:
        values = systems.space.decode(designs[row])
        machine = systems.system.with_values(
            {
                "groups.gpu.count": values["gpus"],
                "tiers.hbm.bandwidth_bytes_per_s": values["hbm_tb_s"] * 1e12,
                "tiers.hbm.capacity_bytes": values["hbm_gb"] * 1e9,
                "engines.sm.sms": values["sms"],
                "engines.sm.rates.bf16.flops_per_s": values["sms"] * 7.5e12,
            }
        )
        far = "" if values["far"] == "home" else f"+weights=host_dram:{values['share']}"
        plan = f"tp{values['tp']}pp{values['pp']}{far}"
        decode = evaluate_step(
            "llama-3-70b", machine, batch=values["batch"], context=4096, plan=plan
        )
        read = evaluate_step("llama-3-70b", machine, phase="prefill", context=2048, plan=plan)
        assert metrics["tpot_s"][row] == decode.latency_s[0]
        assert metrics["ttft_s"][row] == read.latency_s[0]
        time = 200 * decode.latency_s[0] + read.latency_s[0]
        energy = 200 * decode.energy_j[0] + read.energy_j[0]
        assert metrics["latency_s"][row] == pytest.approx(time, rel=1e-12)
        assert metrics["tokens_per_s"][row] == pytest.approx(200 * values["batch"] / time)
        assert metrics["power_w"][row] == pytest.approx(energy / time)
        owned = ownership(bill(systems.system, None), energy / time)
        assert metrics["dollars_per_hour"][row] > 0.2 * owned.usd_per_s[0] * 3600
        tokens, power = metrics["tokens_per_s"][row], metrics["power_w"][row]
        assert tokens * metrics["joules_per_token"][row] == pytest.approx(power, rel=1e-12)


def test_what_is_not_possible_is_graded_and_finite(systems, designs, metrics) -> None:
    assert all(np.isfinite(values).all() for values in metrics.values())
    values = systems.space.decode(designs)
    needed = values["tp"] * values["pp"]
    served = systems.served(designs)
    beyond = served.excess["more devices than the machine has"]
    assert beyond == pytest.approx(np.log(np.maximum(needed / values["gpus"], 1.0)))
    lacking = served.excess["out of memory"] > 0
    assert lacking.sum() > 5
    assert (metrics["memory_share"][lacking] > 1).all()
    refused = (beyond > 0) | lacking
    assert not metrics["feasible"][refused].any()
    assert metrics["reward"][refused].max() < 0 < metrics["reward"][metrics["feasible"]].min()
    row = int(np.argmax(refused))
    assert "impossible: " in systems.explain(designs[row])
    assert len({*metrics["reward"][refused]}) > 5


def test_a_batch_evaluates_bit_for_bit_like_its_designs(systems, designs, metrics) -> None:
    for row in range(0, 200, 23):
        one = systems.evaluate(designs[row])
        for name, values in metrics.items():
            assert values[row] == one[name][0], name


def test_the_rest_of_the_devices_serves_other_requests() -> None:
    parameters = [p for p in BASE["parameters"] if p["name"] != "pp"]
    problem = LLMProblem(
        changed(steps=[{"model": "mixtral-8x7b", "batch": 64}], parameters=parameters[:-1],
                data="rest", expert="group", objective={"minimize": ["tpot_s"]})
    )  # fmt: skip
    designs = problem.space.sample(np.random.default_rng(1), 50)
    plans = problem.served(designs).steps[0].plans
    values = problem.space.decode(designs)
    assert plans["data"].tolist() == np.maximum(values["gpus"] // values["tp"], 1).tolist()
    assert plans["expert"].tolist() == (plans["data"] * plans["tensor"]).tolist()
    spec = {"name": "dp", "plan": "data", "values": [1, 2], "role": "parallelism"}
    with pytest.raises(InputError, match="derives data"):
        LLMProblem(changed(parameters=[*BASE["parameters"], spec], data="rest"))


def test_experts_are_a_step_and_one_step_may_vary_alone() -> None:
    experts = {"count": 150, "home": "host_dram", "tokens": 4, "skew": 1.0}
    steps = [
        {"model": "llama-2-7b", "phase": "experts", "batch": 4, "context": 256, "name": "prompts",
         "experts": experts},
        {"model": "llama-2-7b", "phase": "decode", "name": "chat"},
    ]  # fmt: skip
    batch = {"name": "b", "size": "batch", "steps": ["chat"], "values": [1, 8], "role": "mapping"}
    objective = {"minimize": ["latency_s", "tpot_s"]}
    problem = LLMProblem(changed(steps=steps, parameters=[batch], objective=objective))
    found = problem.evaluate(np.array([[0], [1]]))
    assert found["switch_s"][0] == found["switch_s"][1] > 0
    assert 0 < found["missing_share"][0] < 1
    assert found["latency_s.prompts"][0] == found["latency_s.prompts"][1]
    assert found["tpot_s"][0] < found["tpot_s"][1]
    whole = found["latency_s.prompts"] + found["latency_s.chat"]
    assert found["latency_s"] == pytest.approx(whole, rel=1e-12)
    assert "experts at hand" in problem.explain(np.array([0]))
    for wrong, message in (
        ({"phase": "decode"}, "says which experts"),
        ({"experts": {**experts, "home": "tape"}}, "experts.*tape"),
        ({"experts": {**experts, "router": "llama-9"}}, "no such model"),
    ):
        mixed = [{**steps[0], **wrong}, steps[1]]
        with pytest.raises(InputError, match=message):
            LLMProblem(changed(steps=mixed, parameters=[batch], objective=objective))


@pytest.mark.parametrize("name", ["archsim/LLMSystem-v0", "archsim/LLMSystemStepwise-v0"])
def test_environments_keep_the_contracts(name: str, systems: LLMProblem) -> None:
    checker = pytest.importorskip("stable_baselines3.common.env_checker")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        env = gym.make(name, scenario=systems)
        check_env(env.unwrapped)
        checker.check_env(env)


def test_same_seed_same_bytes(systems: LLMProblem) -> None:
    seen = []
    for _ in range(2):
        envs = gym.make_vec("archsim/LLMSystem-v0", num_envs=16, scenario=systems)
        envs.action_space.seed(7)
        parts = [envs.reset(seed=7)[0]]
        for _ in range(3):
            observations, rewards, _, _, infos = envs.step(envs.action_space.sample())
            parts += [observations, rewards, infos["tpot_s"], infos["design"]]
        seen.append(b"".join(np.asarray(part).tobytes() for part in parts))
    assert seen[0] == seen[1]


def test_roles_make_a_team_of_hardware_placement_and_parallelism(systems: LLMProblem) -> None:
    from archsim.envs import parallel_env

    env = parallel_env(systems)
    assert set(env.possible_agents) == {"hardware", "placement", "parallelism"}


def test_an_exploration_runs_and_explains(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(BASE), encoding="utf-8")
    plan = runner.Plan((runner.AgentChoice("random"), runner.AgentChoice("genetic")), 1, 60, 1)
    summary = runner.explore(load_scenario(path), plan, tmp_path / "run")
    assert [run.status for run in summary.runs] == ["done", "done"]
    assert summary.evaluations == 120
    choice = choose(Results(summary.directory))
    assert choice.design.metrics["ttft_s"] <= 2.0
    opened = Opened(as_problem(path))
    assert Opened(as_problem(tmp_path / "run" / "scenario.yaml")).digest == opened.digest


def test_the_digest_tells_what_decides_numbers(systems: LLMProblem) -> None:
    digest = Opened(systems).digest
    assert Opened(LLMProblem(changed(name="other", run={"budget": 7}))).digest == digest
    for fields in (
        {"machine": "h100x16"},
        {"bits": {"weight": 8}},
        {"plan": "tp8+ladder"},
        {"terms": {"years": 5}},
        {"steps": [BASE["steps"][0], {**BASE["steps"][1], "context": 1024}]},
    ):
        assert Opened(LLMProblem(changed(**fields))).digest != digest, fields


def one(**fields: object) -> dict:
    return changed(parameters=[{"name": "p", "values": [1, 2], "role": "compute", **fields}])


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"machine": "h101"}, "machine.*h100"),
        ({"steps": []}, "steps"),
        ({"steps": [{"model": "llama-9"}]}, "steps.*no such model"),
        ({"steps": [BASE["steps"][0]] * 2}, "two steps are called"),
        ({"plan": "xp8"}, "plan"),
        ({"bits": {"weight": 0}}, "bits.weight"),
        ({"environment": "llm"}, "environment.*llm_system"),
        (one(path="groups.gpu.count", plan="tensor"), "one of: path, plan, size"),
        (one(), "one of: path, plan, size"),
        (one(path="groups.gpus.count"), "parameters.p.*groups.gpus.count"),
        (one(path="groups.gpu.count", values=[0, 8]), "parameters.p"),
        (one(path="groups.gpu.count", values=[8, 9]), "parameters.p.*at most 8"),
        (one(plan="tensors"), "parameters.0.plan"),
        (one(plan="tensor", values=[0, 1]), "positive whole"),
        (one(plan="ladder"), "parameters.p.*boolean"),
        (one(plan="weights", values=["home", "tape"]), "parameters.p.*tape"),
        (one(plan="cache_share", values=[0.5, 2.0]), "share"),
        (one(size="batch", steps=["train"]), "no such step"),
        (one(size="batch", scale=2), "only values of the machine"),
        ({"objective": {"minimize": ["accuracy"]}}, "no such metric"),
        ({"objective": {"minimize": ["tokens_per_s"]}}, "more of this metric is better"),
        ({"steps": [BASE["steps"][0]]}, "no such metric; found 'ttft_s'"),
        ({"machine": "tpu_v3x8"}, "parameters"),
    ],
)  # fmt: skip
def test_wrong_scenarios_are_refused_by_field(fields: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        load_scenario({**BASE, **fields})


def test_a_problem_takes_the_scenarios_of_its_kind_only() -> None:
    with pytest.raises(InputError, match=r"another environment.*accelerator.*llm_system"):
        LLMProblem("smoke")
    with pytest.raises(InputError, match=r"archsim/LLMSystem-v0"):
        gym.make("archsim/Accelerator-v0", scenario=BASE)


def test_breakdowns_sum_to_their_metrics(systems, designs, metrics) -> None:
    for row in (0, 7, 31):
        parts = systems.breakdown(designs[row])
        for metric, by_component in parts.items():
            assert sum(by_component.values()) == pytest.approx(metrics[metric][row], rel=1e-9)
            assert min(by_component.values()) >= -1e-9
    shipped = systems.breakdown(None)
    for metric, by_component in shipped.items():
        wanted = systems.reference_metrics[metric]
        assert sum(by_component.values()) == pytest.approx(wanted, rel=1e-9)
