"""The memory-controller environment: what it reaches, what it measures, what it refuses."""

from __future__ import annotations

import json
import types
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest

from archsim.envs import Recorder, as_problem, load_scenario
from archsim.envs.archgym import TARGETS
from archsim.envs.dram import DEFAULT_CONTROLLER, DramProblem
from archsim.errors import InputError
from archsim.explore import runner
from archsim.explore.executor import Job
from archsim.explore.figures import plot_all
from archsim.explore.problem import Opened
from archsim.explore.report import write_report
from archsim.explore.results import Results
from archsim.explore.worker import make_environment
from archsim.models.dram.policy import Policy
from archsim.models.dram.simulate import simulate
from archsim.models.dram.spec import HERE, load_spec
from archsim.models.dram.trace import Trace

BASE = {
    "name": "mine",
    "environment": "dram_controller",
    "trace": {"pattern": "mixed", "requests": 300, "seed": 4},
    "objective": {"minimize": ["latency_s", "power_w"]},
}
POWERS = [1, 2, 4, 8, 16, 32, 64, 128]
#: The space ArchGym gives its reinforcement-learning agents.
REDUCED = [
    {"name": "RequestBufferSize", "values": POWERS},
    {"name": "RefreshMaxPostponed", "values": [1, 2, 4, 8]},
    {"name": "RefreshMaxPulledin", "values": [1, 2, 4, 8]},
    {"name": "MaxActiveTransactions", "values": POWERS},
]


def changed(**fields: object) -> dict:
    return {**BASE, **fields}


@pytest.fixture(scope="module")
def controllers() -> DramProblem:
    return DramProblem(BASE)


def test_the_full_space_is_archgyms(controllers: DramProblem) -> None:
    assert controllers.space.size == controllers.space.points == 28_311_552
    assert DramProblem(changed(parameters=REDUCED)).space.size == 442_368
    roles = controllers.space.roles()
    assert sorted(name for names in roles.values() for name in names) == sorted(DEFAULT_CONTROLLER)


@pytest.mark.parametrize("encoding", ["multidiscrete", "discrete", "box", "dict"])
def test_every_encoding_reaches_every_part_of_the_space(encoding: str, controllers) -> None:
    space = controllers.space
    top = space.cardinalities - 1
    designs = [*space.sample(np.random.default_rng(1), 30), 0 * top, top]
    for place, most in enumerate(top):  # every value of every parameter
        for index in range(most + 1):
            design = top.copy()
            design[place] = index
            designs.append(design)
    actions = space.action_space(encoding)
    for design in designs:
        action = space.to_action(design, encoding)
        assert actions.contains(action)
        assert np.array_equal(space.from_action(action, encoding), design)


def test_a_stack_of_eight_channels_is_a_memory_like_any_other() -> None:
    scenario = changed(
        memory="hbm2_2000_8gb_8ch", trace={"pattern": "mixed", "requests": 600, "seed": 4}
    )
    problem = DramProblem(scenario)
    one = simulate(problem.memory, problem.trace, Policy())
    assert problem.memory.structure.channels == 8
    for name in ("time_s", "latency_s", "energy_j", "power_w", "bandwidth_bytes_per_s"):
        assert problem.shipped[name] == pytest.approx(getattr(one, name), rel=1e-12)
    # Every channel has a controller of the kind: less at a time than one channel would need.
    narrow = DramProblem({**scenario, "memory": "hbm2_2000_8gb"})
    assert problem.shipped["time_s"] < narrow.shipped["time_s"]
    env = gym.make("archsim/DRAMController-v0", scenario="dram_hbm")
    env.reset(seed=0)
    _, _, _, _, info = env.step(env.action_space.sample())
    assert np.isfinite(info["latency_s"])
    env.close()


def test_metrics_are_those_of_the_simulator(controllers: DramProblem) -> None:
    memory = load_spec("ddr3_1600_1gb_x8")
    found = simulate(memory, controllers.trace, Policy())
    reference = controllers.reference_metrics
    reads = controllers.trace.write == 0
    assert 0 < reads.sum() < len(reads)
    cycles = (found.end - found.begin).astype(float)
    second = memory.clock_ps * 1e-12
    assert reference["latency_s"] == pytest.approx(cycles[reads].mean() * second, rel=1e-12)
    assert reference["latency_p95_s"] == pytest.approx(np.sort(cycles)[284] * second, rel=1e-12)
    assert reference["time_s"] == pytest.approx(found.time_s, rel=1e-12)
    assert reference["energy_j"] == pytest.approx(found.energy_j, rel=1e-12)
    assert reference["power_w"] == pytest.approx(found.energy_j / found.time_s, rel=1e-12)
    moved = 300 * 64 / found.time_s
    assert reference["bandwidth_bytes_per_s"] == pytest.approx(moved, rel=1e-12)
    assert reference["row_hit_rate"] == found.row_hits / 300


def test_designs_that_lose_data_are_infeasible_unless_asked_for(controllers: DramProblem) -> None:
    designs = controllers.space.sample(np.random.default_rng(0), 64)
    values = controllers.space.decode(designs)
    loses = values["RefreshPolicy"] == "NoRefresh"
    assert 0 < loses.sum() < len(loses)
    metrics = controllers.evaluate(designs)
    assert np.array_equal(metrics["feasible"], ~loses)
    assert metrics["reward"][loses].max() < 0 < metrics["reward"][~loses].min()
    allowed = DramProblem(changed(allow_data_loss=True)).evaluate(designs)
    assert allowed["feasible"].all()
    assert np.array_equal(allowed["latency_s"], metrics["latency_s"])


def test_a_batch_evaluates_bit_for_bit_like_its_designs(controllers: DramProblem) -> None:
    designs = controllers.space.sample(np.random.default_rng(3), 12)
    whole = controllers.evaluate(designs)
    for at, design in enumerate(designs):
        one = controllers.evaluate(design)
        for name, values in whole.items():
            assert values[at] == one[name][0], name


def test_same_seed_same_bytes() -> None:
    seen = []
    for _ in range(2):
        envs = gym.make_vec("archsim/DRAMController-v0", num_envs=16, scenario=BASE)
        envs.action_space.seed(7)
        parts = [envs.reset(seed=7)[0]]
        for _ in range(3):
            observations, rewards, _, _, infos = envs.step(envs.action_space.sample())
            parts += [observations, rewards, infos["latency_s"], infos["design"]]
        seen.append(b"".join(np.asarray(part).tobytes() for part in parts))
    assert seen[0] == seen[1]
    other = DramProblem(changed(trace={**BASE["trace"], "seed": 5}))
    assert not np.array_equal(other.trace.address, DramProblem(BASE).trace.address)


@pytest.mark.parametrize("minimize", [["power_w"], ["time_s"], ["power_w", "time_s"]])
def test_archgym_rewards_hit_its_targets_in_one_unit(minimize: list[str]) -> None:
    problem = DramProblem(changed(objective={"minimize": minimize, "compat": "archgym"}))
    designs = problem.space.sample(np.random.default_rng(0), 40)
    metrics = problem.evaluate(designs)
    label = Opened(problem).meta["objective_label"]
    assert label.startswith(f"the relative distance to ArchGym's target of {minimize[0]} ")
    wanted = np.ones(len(designs))
    for name in minimize:
        wanted *= TARGETS[name] / np.abs(metrics[name] - TARGETS[name])
    kept = metrics["feasible"]
    assert metrics["reward"][kept] == pytest.approx(wanted[kept], rel=1e-9)
    assert metrics["reward"][~kept].max() < 0
    records: list[dict] = []
    env = Recorder(gym.make("archsim/DRAMController-v0", scenario=problem), 3, records.append)
    for design, reward in zip(designs[:3], metrics["reward"], strict=False):
        env.reset(seed=0)
        assert env.step(design)[1] == reward  # from memory too: bit for bit
    assert [record["reward"] for record in records] == metrics["reward"][:3].tolist()


def test_archgym_rewards_of_published_figures() -> None:
    objective = load_scenario(
        changed(objective={"minimize": ["power_w", "time_s"], "compat": "archgym"})
    ).objective.build()
    # ArchGym's documentation (installation.md), random.stl, first row: 2822.48 mW, 87385 ns.
    # Its code divides ns by 1e9 there and ps by 1e9 elsewhere: 0.087 of the latter's unit.
    row = {"power_w": np.array([2.82248]), "time_s": np.array([87_385e-9])}
    reward = objective.score(row)["reward"][0]
    assert reward == pytest.approx(1 / (2.82248 - 1) * 0.1 / (0.1 - 0.087385), rel=1e-9)
    # on the target itself the reward is large, and finite
    best = objective.score({name: np.array([value]) for name, value in TARGETS.items()})
    assert 1e15 < best["reward"][0] < np.inf


def test_limits_on_bandwidth_are_lower_bounds(controllers: DramProblem) -> None:
    designs = controllers.space.sample(np.random.default_rng(5), 40)
    bandwidth = controllers.evaluate(designs)["bandwidth_bytes_per_s"]
    bound = float(np.median(bandwidth))
    limited = {**BASE["objective"], "limits": {"bandwidth_bytes_per_s": bound}}
    found = DramProblem(changed(objective=limited, allow_data_loss=True)).evaluate(designs)
    assert np.array_equal(found["feasible"], bandwidth >= bound)


def written(trace: Trace, path: Path, shift: int = 0) -> Path:
    rows = zip(trace.arrival, trace.write, trace.address + shift, strict=True)
    lines = [f"{cycle}:\t{'write' if write else 'read'}\t{at:#x}" for cycle, write, at in rows]
    path.write_text("\n".join(lines) + "\n", encoding="ascii")
    return path


def test_a_trace_file_stands_for_the_pattern_and_travels_along(
    controllers: DramProblem, tmp_path: Path
) -> None:
    import yaml

    written(controllers.trace, tmp_path / "own.stl")
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(changed(trace={"file": "own.stl"})), encoding="utf-8")
    opened = Opened(as_problem(path))
    assert opened.problem.reference_metrics == controllers.reference_metrics
    assert opened.digest == Opened(controllers).digest
    copy = tmp_path / "run"
    copy.mkdir()
    saved = opened.save(copy)
    (tmp_path / "own.stl").unlink()
    assert Opened(as_problem(saved)).digest == opened.digest
    beyond = 1 << 30
    far = written(controllers.trace, tmp_path / "far.stl", shift=beyond)
    with pytest.raises(InputError, match=r"mine: trace"):
        DramProblem(changed(trace={"file": str(far)}))
    wrapped = DramProblem(changed(trace={"file": str(far), "wrap": True}))
    assert wrapped.reference_metrics == controllers.reference_metrics


def test_the_digest_tells_what_decides_numbers(controllers: DramProblem) -> None:
    digest = Opened(controllers).digest
    renamed = changed(name="other", run={"budget": 7})
    assert Opened(DramProblem(renamed)).digest == digest
    for fields in (
        {"memory": "ddr4_2400_4gb_x8"},
        {"dramsys": 4.0},
        {"allow_data_loss": True},
        {"parameters": REDUCED},
        {"objective": {"minimize": ["latency_s"]}},
        {"trace": {**BASE["trace"], "seed": 5}},
    ):
        assert Opened(DramProblem(changed(**fields))).digest != digest, fields


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"environment": "quantum"}, "environment.*accelerator or dram_controller"),
        ({"environment": None}, "environment.*accelerator or dram_controller"),
        ({"machine": "tiny"}, "machine"),
        ({"memory": "ddr9"}, "memory.*no such DRAM; found 'ddr9'"),
        ({"dramsys": "6.0"}, "dramsys"),
        ({"trace": {}}, "either pattern or file"),
        ({"trace": {"pattern": "waves"}}, "no such pattern 'waves'"),
        ({"trace": {"pattern": "random", "requests": 0}}, "trace.requests"),
        ({"trace": {"pattern": "random", "wrap": True}}, "a pattern takes no wrap"),
        ({"trace": {"file": "a.stl", "seed": 3}}, "a file takes no seed"),
        ({"trace": {"file": "none.stl"}}, "trace.file: no such file"),
        ({"parameters": [{"name": "Colour", "values": [1]}]}, "parameters.0.name"),
        ({"parameters": [{"name": "Arbiter", "values": ["Best"]}]}, r"parameters.Arbiter.*Best"),
        ({"parameters": [{"name": "Arbiter", "values": [1]}]}, r"parameters.Arbiter.*Simple"),
        (
            {"parameters": [{"name": "RequestBufferSize", "values": [0, 1]}]},
            "parameters.RequestBufferSize.*out of range",
        ),
        (
            {"parameters": [{"name": "RequestBufferSize", "values": [1.5]}]},
            "parameters.RequestBufferSize.*whole numbers",
        ),
        (
            {"parameters": [{"name": "Arbiter", "range": {"low": 1, "high": 2, "points": 4}}]},
            "a range needs a step",
        ),
        ({"parameters": [REDUCED[0], REDUCED[0]]}, "parameter named twice"),
        ({"constraints": ["RequestBufferSize > 9"]}, "no design is legal"),
        ({"objective": {"minimize": ["area_mm2"]}}, "objective.minimize: no such metric"),
        ({"objective": {"minimize": ["bandwidth_bytes_per_s"]}}, "more of this metric is better"),
        ({"objective": {"minimize": ["energy_j"], "compat": "archgym"}}, "no target"),
        ({"objective": {"minimize": ["time_s"], "targets": {"time_s": 1}}}, "only compat"),
        (
            {
                "objective": {
                    "minimize": ["time_s"],
                    "compat": "archgym",
                    "scalar": {"kind": "single"},
                }
            },
            "compat: archgym says",
        ),
        ({"objective": {"minimize": ["time_s"], "compat": "timeloop"}}, "objective.compat"),
    ],
)  # fmt: skip
def test_wrong_scenarios_are_refused_by_field(fields: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        load_scenario(changed(**fields))


def test_a_memory_file_without_energy_figures_gives_no_energy(tmp_path: Path) -> None:
    import yaml

    text = (HERE / "standards" / "ddr3_1600_1gb_x8.yaml").read_text(encoding="utf-8")
    data = {key: value for key, value in yaml.safe_load(text).items() if key != "currents"}
    path = tmp_path / "dark.yaml"
    path.write_text(yaml.safe_dump(data), encoding="utf-8")
    fields = changed(memory=str(path), objective={"minimize": ["latency_s"]})
    problem = DramProblem(fields)
    assert not {"energy_j", "power_w"} & set(problem.metric_names)
    metrics = problem.evaluate(problem.space.sample(np.random.default_rng(0), 3))
    assert all(np.isfinite(values).all() for values in metrics.values())
    with pytest.raises(InputError, match=r"objective.minimize: no such metric; found 'power_w'"):
        DramProblem(changed(memory=str(path)))


def test_an_environment_takes_the_scenarios_of_its_kind_only() -> None:
    for name in ("archsim/Accelerator-v0", "archsim/AcceleratorStepwise-v0"):
        with pytest.raises(InputError, match=r"archsim/DRAMController-v0.*dram_controller"):
            gym.make(name, scenario=BASE)
    with pytest.raises(InputError, match=r"archsim/Accelerator-v0.*accelerator"):
        gym.make("archsim/DRAMController-v0", scenario="smoke")
    with pytest.raises(InputError, match="as_problem opens any"):
        DramProblem("smoke")


@pytest.mark.parametrize("source", [BASE, "smoke"])
@pytest.mark.parametrize("stepwise", [False, True])
def test_agents_get_the_environment_of_the_scenarios_kind(
    source: object, stepwise: bool, tmp_path: Path
) -> None:
    opened = Opened(as_problem(source))
    path = opened.save(tmp_path)
    agent = types.SimpleNamespace(stepwise=stepwise)
    job = Job(0, "", {}, 0, 5, path, tmp_path, 1, opened.layout.metrics)
    env = make_environment(job, agent, None, None, None)
    kind = "DRAMController" if source is BASE else "Accelerator"
    assert env.spec.id == f"archsim/{kind}{'Stepwise' if stepwise else ''}-v0"
    assert env.unwrapped.problem.environment == opened.scenario.environment


def test_an_exploration_runs_to_plots_and_report(tmp_path: Path) -> None:
    limits = {"bandwidth_bytes_per_s": 1.0e9, "latency_p99_s": 5.0e-6}
    scenario = load_scenario(changed(objective={**BASE["objective"], "limits": limits}))
    plan = runner.Plan((runner.AgentChoice("random"), runner.AgentChoice("genetic")), 1, 40, 1)
    summary = runner.explore(scenario, plan, tmp_path / "run")
    assert [run.status for run in summary.runs] == ["done", "done"]
    assert summary.evaluations == 80
    results = Results(summary.directory)
    figures = plot_all(results, tmp_path / "figures")
    assert set(figures) == {"pareto", "convergence", "hypervolume"}
    text = write_report(results, tmp_path / "report.html").read_text(encoding="utf-8")
    assert "mixed (300 requests) on ddr3_1600_1gb_x8; minimise latency, power" in text
    assert "default controller of DRAMSys" in text
    assert json.loads(results.meta["limits"]) == limits
