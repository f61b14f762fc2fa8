"""A wrong scenario file is refused with the file, the field and the value; never a traceback."""

from __future__ import annotations

import copy
import random
from pathlib import Path

import pytest
import yaml

from archsim.envs import available_scenarios, load_scenario
from archsim.envs.scenario import SCENARIOS
from archsim.errors import InputError

BASE = yaml.safe_load((SCENARIOS / "smoke.yaml").read_text(encoding="utf-8"))


def changed(**fields: object) -> dict:
    return {**copy.deepcopy(BASE), **fields}


def parameter(**fields: object) -> dict:
    base = {"name": "n", "path": "clock_hz", "values": [1.0e8, 2.0e8], "role": "technology"}
    return changed(parameters=[{**base, **fields}], constraints=[])


def without(name: str) -> dict:
    return {key: value for key, value in BASE.items() if key != name}


def objective(**fields: object) -> dict:
    return changed(objective={"minimize": ["latency_s"], **fields})


ONE = parameter()["parameters"][0]
CASES = [
    (without("machine"), "machine"),
    (without("objective"), "objective"),
    (changed(colour="blue"), "colour"),
    (changed(machine="eyeris"), "no such machine; found 'eyeris'; expected eyeriss"),
    (changed(machine=5), "machine"),
    (changed(name="two words"), "name"),
    (changed(workloads=[]), "workloads"),
    (changed(workloads=["squeezent"]), "workloads: no such workload.*squeezenet"),
    (changed(workloads=["nets/none.onnx"]), "workloads: no such file"),
    (changed(workloads=["squeezenet", "squeezenet"]), "workload named twice"),
    (changed(workloads=[{"name": "squeezenet", "weight": 0}]), "workloads.0.weight"),
    (changed(workloads=[{"name": "squeezenet", "batch": -1}]), "workloads.0.batch"),
    (changed(parameters=[]), "parameters"),
    (changed(constraints=["rows * colz <= 3"]), "unknown name 'colz'"),
    (changed(constraints=["rows > 1000"]), "no design is legal under"),
    (changed(constraints="rows > 1"), "constraints"),
    (parameter(path="clok_hz"), r"parameters.n \(clok_hz\): no such value in this.*clock_hz"),
    (
        parameter(path="engines.array.slots.row.fanout", values=[2]),
        r"expected .*engines.array.slots.rows.fanout",
    ),
    (parameter(path="name", values=["x"]), "parameters.n"),
    (parameter(values=[1.0e8, 1.0e15]), r"parameters.n \(clock_hz\).*1000000000000000"),
    (parameter(path="engines.array.dataflow", values=["weight_stationery"]), "weight_stationery"),
    (parameter(path="engines.array.slots.rows.fanout", values=[2, 2.5]), "2.5"),
    (parameter(values=[]), "parameters.0.values"),
    (parameter(values=[2.0e8, 1.0e8]), "parameters.n: ordered values must increase strictly"),
    (parameter(values=[1.0e8, 1.0e8]), "listed twice"),
    (parameter(values=[1.0e8, "fast"]), "all numbers, all strings"),
    (parameter(values=[1.0e8, None]), "parameters.0.values"),
    (parameter(role="boss"), "parameters.0.role"),
    (parameter(name="my rows"), "plain identifier"),
    (parameter(range={"low": 1, "high": 2, "step": 1}), "either values or range"),
    (parameter(values=None, range={"low": 1.0e8, "high": 2.0e8}), "either step"),
    (parameter(values=None, range={"low": 1.5, "high": 2, "step": 1}), "integer low and high"),
    (parameter(values=None, range={"low": 3.0e8, "high": 2.0e8, "points": 4}), "low < high"),
    (
        parameter(values=None, range={"low": 1.0e8, "high": 2.0e8, "points": 2**30}),
        "1048576 points",
    ),
    (parameter(scale=-1), "parameters.0.scale"),
    (parameter(scale=float("nan")), "parameters.0.scale"),
    (
        changed(parameters=[ONE, {**ONE, "name": "m"}], constraints=[]),
        "parameters.m.*'n' already sets this",
    ),
    (objective(minimize=["latency"]), r"objective.minimize: no such metric; found 'latency'"),
    (objective(minimize=["throughput_per_s"]), "more of this metric is better"),
    (objective(limits={"area": 10}), "objective.limits: no such metric"),
    (objective(limits={"area_mm2": -1}), "objective.*limits.area_mm2.*positive"),
    (objective(limits={"area_mm2": "ten"}), "objective.limits.area_mm2"),
    (objective(scalar={"kind": "sum"}), "objective.scalar.kind"),
    (objective(scalar={"kind": "single", "metric": "energy_j"}), "not among"),
    (changed(run={"budget": 0}), "run.budget"),
    (changed(run={"agents": []}), "run.agents"),
    (changed(run={"fill": {"agent": "nsga2"}}), "run.fill.evaluations"),
    (changed(fidelity={"effort": 3}), "fidelity.effort"),
]


@pytest.mark.parametrize(("data", "message"), CASES)
def test_the_error_names_file_and_field(data: dict, message: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(data), encoding="utf-8")
    with pytest.raises(InputError, match=message) as caught:
        load_scenario(path)
    assert "mine.yaml" in str(caught.value)
    with pytest.raises(InputError, match=message):
        load_scenario(data)


@pytest.mark.parametrize(
    "text",
    ["", "[1, 2]", "a: &a [*a]", "a: 1\na: 2", "\0", "!!python/object:os.system {}", "{" * 99],
)
def test_what_is_no_scenario_document_is_refused(text: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=r"mine\.yaml"):
        load_scenario(path)


def test_missing_files_and_names_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no such scenario; found 'smok'.*smoke"):
        load_scenario("smok")
    for path in (tmp_path / "none.yaml", tmp_path):
        with pytest.raises(InputError, match="cannot read"):
            load_scenario(path)


def test_file_names_are_relative_to_the_scenario(tmp_path: Path) -> None:
    machine = SCENARIOS.parent / "hardware" / "machines" / "tiny.yaml"
    (tmp_path / "machines").mkdir()
    (tmp_path / "machines" / "own.yaml").write_bytes(machine.read_bytes())
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(changed(machine="machines/own.yaml")), encoding="utf-8")
    scenario = load_scenario(path)
    assert Path(scenario.machine) == (tmp_path / "machines" / "own.yaml").resolve()
    assert load_scenario(scenario) == scenario


def test_short_forms_mean_the_long_ones() -> None:
    short = load_scenario(
        changed(run={"agents": ["random"], "fill": {"agent": "x", "evaluations": 5}})
    )
    assert short.workloads[0].name == "squeezenet"
    assert short.workloads[0].weight == 1.0
    assert short.run.agents[0].name == "random"
    assert short.run.fill is not None
    assert short.run.fill.name == "x"
    assert load_scenario(short.model_dump()) == short


@pytest.mark.parametrize("name", available_scenarios())
def test_shipped_scenarios_load(name: str) -> None:
    scenario = load_scenario(name)
    assert scenario.name == name
    assert scenario.title
    assert scenario.description
    space = scenario.build_space()
    assert 6 <= len(space.names) <= 16
    assert len(space.roles()) >= 3


def test_at_least_six_scenarios_ship_besides_the_smoke_test() -> None:
    assert len(set(available_scenarios()) - {"smoke"}) >= 6


def _mutate(data: object, rng: random.Random) -> object:
    """One random change somewhere inside."""
    junk = [None, -1, 0, 1e308, float("nan"), "", "x" * 300, [], {}, [[]], True, "1e9", 2**70]
    if isinstance(data, dict) and data and rng.random() < 0.8:
        key = rng.choice(list(data))
        action = rng.random()
        if action < 0.15:
            return {k: v for k, v in data.items() if k != key}
        if action < 0.25:
            return {**data, key + rng.choice("sx_."): data[key]}
        return {**data, key: _mutate(data[key], rng)}
    if isinstance(data, list) and data and rng.random() < 0.8:
        at = rng.randrange(len(data))
        return [*data[:at], _mutate(data[at], rng), *data[at + 1 :]]
    if isinstance(data, str) and data and rng.random() < 0.5:
        at = rng.randrange(len(data))
        return data[:at] + rng.choice(" .*(xé9") + data[at + rng.randint(0, 2) :]
    return rng.choice(junk)


def test_mutated_scenarios_give_clear_errors_only() -> None:
    rng = random.Random(5)
    refused = 0
    for _ in range(150):
        data = copy.deepcopy(BASE)
        for _ in range(rng.randint(1, 3)):
            data = _mutate(data, rng)
        try:
            load_scenario(data if isinstance(data, dict) else {"": data})
        except InputError:  # anything else fails the test
            refused += 1
    assert 75 < refused < 150
