"""The environments keep the Gymnasium and SB3 contracts, warning-free, in every encoding."""

from __future__ import annotations

import warnings

import gymnasium as gym
import numpy as np
import pytest
from analytic_problem import AnalyticProblem
from gymnasium.utils.env_checker import check_env, data_equivalence
from gymnasium.vector import AutoresetMode, SyncVectorEnv

import archsim.envs
from archsim.envs import Problem
from archsim.envs.kinds import KINDS
from archsim.envs.scenario import available_scenarios, load_scenario
from archsim.errors import InputError

WHOLE, STEPWISE = "archsim/Accelerator-v0", "archsim/AcceleratorStepwise-v0"
WHOLES = (WHOLE, "archsim/Design-v0", "archsim/DRAMController-v0", "archsim/LLMSystem-v0")
STEPWISES = (
    STEPWISE,
    "archsim/DesignStepwise-v0",
    "archsim/DRAMControllerStepwise-v0",
    "archsim/LLMSystemStepwise-v0",
)
ENCODINGS = ("multidiscrete", "discrete", "box")
SB3_CASES = [
    *((n, {"encoding": e, "horizon": h}) for n in WHOLES for e in ENCODINGS for h in (1, 3)),
    *((name, {}) for name in STEPWISES),
]
CASES = [*SB3_CASES, *((name, {"encoding": "dict"}) for name in WHOLES)]


def test_every_registered_id_is_tested() -> None:
    ids = {name for name in gym.registry if name.startswith("archsim/")}
    assert ids == set(archsim.envs.ENVIRONMENTS) == {case[0] for case in CASES}


@pytest.mark.parametrize(("name", "kwargs"), CASES)
def test_gymnasium_check_env_passes_without_a_warning(name: str, kwargs: dict, problem) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        env = gym.make(name, scenario=problem, **kwargs)
        check_env(env.unwrapped)


@pytest.mark.parametrize(("name", "kwargs"), SB3_CASES)
def test_sb3_check_env_passes_without_a_warning(name: str, kwargs: dict, problem) -> None:
    checker = pytest.importorskip("stable_baselines3.common.env_checker")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        env = gym.make(name, scenario=problem, **kwargs)
        checker.check_env(env.unwrapped)
        checker.check_env(env)


@pytest.mark.parametrize(("name", "kwargs"), CASES)
@pytest.mark.parametrize("mode", [AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP])
def test_native_vector_environment_does_what_many_single_ones_do(
    name: str, kwargs: dict, mode: AutoresetMode, problem
) -> None:
    lanes = 5
    native = gym.make_vec(
        name,
        num_envs=lanes,
        vectorization_mode="vector_entry_point",
        scenario=problem,
        autoreset_mode=mode,
        **kwargs,
    )
    many = SyncVectorEnv(
        [lambda: gym.make(name, scenario=problem, **kwargs) for _ in range(lanes)],
        autoreset_mode=mode,
    )
    assert native.single_action_space == many.single_action_space
    assert native.action_space == many.action_space
    assert native.observation_space == many.observation_space
    assert native.metadata["autoreset_mode"] == many.metadata["autoreset_mode"] == mode
    observations = [env.reset(seed=3) for env in (native, many)]
    assert data_equivalence(observations[0][0], observations[1][0], exact=True)
    native.action_space.seed(11)
    for _ in range(17):
        actions = native.action_space.sample()
        one, two = native.step(actions), many.step(actions)
        for left, right in zip(one[:4], two[:4], strict=True):
            assert data_equivalence(left, right, exact=True)
        _same_infos(one[4], two[4])
    native.close()
    many.close()


def _same_infos(native: dict, many: dict) -> None:
    """Everything the many report is in the native infos, lane by lane; only counts differ."""
    for key, values in many.items():
        if key.startswith("_") or key == "evaluations":
            continue
        if isinstance(values, dict):
            _same_infos(native[key], values)
            continue
        lanes = many[f"_{key}"]
        assert (native[f"_{key}"] >= lanes).all(), key
        for lane in np.flatnonzero(lanes):
            assert np.array_equal(native[key][lane], values[lane]), key


def test_disabled_autoreset_waits_for_a_masked_reset(problem) -> None:
    envs = gym.make_vec(
        STEPWISE,
        num_envs=3,
        vectorization_mode="vector_entry_point",
        scenario=problem,
        autoreset_mode="Disabled",
    )
    envs.reset(seed=0)
    width = len(problem.space.names)
    for _ in range(2):
        envs.step(np.zeros(3, dtype=np.int64))
    mask = np.array([False, True, False])
    observations, infos = envs.reset(options={"reset_mask": mask})
    assert observations[1, width : 2 * width].sum() == 0
    assert observations[0, width : 2 * width].sum() == 2
    assert infos["action_mask"].shape == (3, 5)
    for _ in range(width - 2):
        _, _, terminations, _, infos = envs.step(np.zeros(3, dtype=np.int64))
    assert terminations.tolist() == [True, False, True]
    assert infos["_latency_s"].tolist() == [True, False, True]
    with pytest.raises(gym.error.ResetNeeded):
        envs.step(np.zeros(3, dtype=np.int64))
    envs.reset(options={"reset_mask": ~mask})
    for _ in range(2):
        _, _, terminations, _, _ = envs.step(np.zeros(3, dtype=np.int64))
    assert terminations.tolist() == [False, True, False]
    for bad in (np.zeros(3, dtype=bool), np.ones(2, dtype=bool), np.ones(3)):
        with pytest.raises(gym.error.Error, match="reset_mask"):
            envs.reset(options={"reset_mask": bad})


def test_a_vector_step_is_one_evaluation(problem) -> None:
    envs = gym.make_vec(WHOLE, num_envs=300, scenario=problem)
    envs.reset(seed=0)
    problem.calls.clear()
    for _ in range(3):
        _, rewards, _, _, infos = envs.step(envs.action_space.sample())
        assert np.isfinite(rewards).all()
        assert problem.space.is_legal(infos["design"]).all()
    assert problem.calls == [300, 300, 300]
    assert infos["evaluations"].tolist() == list(range(601, 901))


def test_infos_are_flat_and_numeric(problem) -> None:
    env = gym.make(WHOLE, scenario=problem)
    env.reset(seed=0)
    *_, info = env.step(env.action_space.sample())
    assert {*problem.metric_names, "feasible", "violation", "objective", "evaluations"} <= set(info)
    assert isinstance(info["feasible"], bool)
    assert all(np.asarray(value).dtype.kind in "bif" for value in info.values())
    assert env.get_wrapper_attr("objective_names") == ("latency_s", "energy_j")
    assert env.get_wrapper_attr("space") is problem.space


@pytest.mark.parametrize("name", WHOLES)
@pytest.mark.parametrize("encoding", ["multidiscrete", "discrete", "box", "dict"])
def test_every_legal_design_can_be_evaluated(name: str, encoding: str, problem) -> None:
    env = gym.make(name, scenario=problem, encoding=encoding)
    env.reset(seed=0)
    for design in problem.space:
        observation, _, terminated, truncated, info = env.step(
            problem.space.to_action(design, encoding)
        )
        assert np.array_equal(info["design"], design)
        assert not info["repaired"]
        assert (terminated, truncated) == (True, False)
        width = len(design)
        assert np.array_equal(problem.space.from_unit(observation[:width]), design)


@pytest.mark.parametrize("name", STEPWISES)
def test_every_legal_design_can_be_decided_step_by_step_along_the_masks(name: str, problem) -> None:
    env = gym.make(name, scenario=problem)
    for design in problem.space:
        _, info = env.reset(seed=0)
        for at, index in enumerate(design):
            assert info["action_mask"][index]
            assert np.array_equal(info["action_mask"], env.get_wrapper_attr("action_masks")())
            _, reward, terminated, _, info = env.step(index)
            assert terminated == (at == len(design) - 1)
            assert terminated or (reward == 0.0 and "latency_s" not in info)
        assert np.array_equal(info["design"], design)
        assert not info["repaired"]


def test_agents_that_ignore_masks_reach_legal_designs_only(problem) -> None:
    envs = gym.make_vec(STEPWISE, num_envs=200, scenario=problem)
    envs.reset(seed=0)
    envs.action_space.seed(5)
    for _ in range(len(problem.space.names)):
        *_, infos = envs.step(envs.action_space.sample())
    assert infos["_design"].all()
    assert problem.space.is_legal(infos["design"]).all()
    assert len(np.unique(infos["design"], axis=0)) > 50


def test_longer_horizons_end_after_as_many_designs(problem) -> None:
    env = gym.make(WHOLE, scenario=problem, horizon=3)
    env.reset(seed=0)
    ends = [env.step(env.action_space.sample())[2:4] for _ in range(3)]
    assert ends == [(False, False), (False, False), (True, False)]
    observation, _ = env.reset()
    assert observation[: len(problem.space.names) + 3].sum() == 0


def test_render_shows_the_design(problem) -> None:
    for name in (*WHOLES, *STEPWISES):
        env = gym.make(name, scenario=problem, render_mode="ansi")
        env.reset(seed=0)
        for _ in range(len(problem.space.names)):
            env.step(env.action_space.sample())
        assert "rows: " in env.render()
        assert "latency_s: " in env.render()


def test_render_tells_values_reference_and_limits() -> None:
    problem = Problem("smoke")
    env = gym.make(WHOLE, scenario=problem, render_mode="ansi")
    env.reset(seed=0)
    assert env.render() == "no design evaluated yet"
    *_, info = env.step([2, 2, 0, 3, 2, 2])
    lines = dict(line.split(": ", 1) for line in env.render().splitlines())
    assert lines["rows"] == str(problem.space.parameters[0].values[2])
    ratio = info["latency_s"] / problem.reference_metrics["latency_s"]
    assert lines["latency_s"].endswith(f"(minimised; {ratio:.3g} x machine as shipped)")
    assert ("BEYOND the limit, at most 4" in lines["area_mm2"]) == (info["area_mm2"] > 4.0)
    assert lines["objective"].endswith("(feasible)") == info["feasible"]
    assert gym.make(WHOLE, scenario=problem).unwrapped.render() is None


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"encoding": "tuple"}, "unknown encoding"),
        ({"horizon": 0}, "horizon"),
        ({"horizon": 1.5}, "horizon"),
        ({"encodng": "box"}, "encodng: the environment takes no such argument.*encoding, horizon"),
        ({"scenario": None}, "scenario: .*shipped ones: .*edge_resnet50"),
        ({"scenario": 3}, "scenario: no scenario; found 3"),
        ({"scenario": "smok"}, "no such scenario; found 'smok'.*smoke"),
        ({"scenario": "dram_mixed"}, "archsim/DRAMController-v0"),
    ],
)
def test_bad_arguments_are_input_errors(kwargs: dict, message: str, problem) -> None:
    kwargs = {"scenario": problem, **kwargs}
    with pytest.raises(InputError, match=message):
        gym.make(WHOLE, **kwargs)
    with pytest.raises(InputError, match=message):
        gym.make_vec(WHOLE, num_envs=2, **kwargs)


def test_the_scenarios_named_in_an_error_are_those_of_the_environment() -> None:
    with pytest.raises(InputError) as refused:
        gym.make("archsim/LLMSystem-v0")
    assert "llm_405b_node" in str(refused.value)
    assert "edge_resnet50" not in str(refused.value)
    for kind in KINDS:
        for name in available_scenarios(kind):
            assert load_scenario(name).environment == kind


def test_unknown_render_modes_are_refused(problem) -> None:
    with pytest.raises(InputError, match=r"render_mode.*'human'.*None or 'ansi'"):
        archsim.envs.AcceleratorEnv(problem, render_mode="human")
    with pytest.raises(InputError, match="encoding"):
        gym.make(STEPWISE, scenario=problem, encoding="box")


def test_bad_vector_arguments_are_input_errors(problem) -> None:
    with pytest.raises(InputError, match="autoreset_mode"):
        gym.make_vec(WHOLE, num_envs=2, scenario=problem, autoreset_mode="sometimes")
    with pytest.raises(InputError, match="num_envs"):
        gym.make_vec(WHOLE, num_envs=0, scenario=problem)


@pytest.mark.parametrize("action", [9, -1, 1.5, [0], None])
def test_bad_stepwise_actions_are_input_errors(action: object, problem) -> None:
    env = gym.make(STEPWISE, scenario=problem).unwrapped
    env.reset(seed=0)
    with pytest.raises(InputError):
        env.step(action)


def test_gymnasium_finds_the_ids_through_the_module_syntax(problem) -> None:
    env = gym.make("archsim.envs:archsim/Accelerator-v0", scenario=problem)
    assert isinstance(env.unwrapped, archsim.envs.AcceleratorEnv)
    assert isinstance(problem, AnalyticProblem)
