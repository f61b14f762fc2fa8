"""A thousand damaged input files: every one is either used or refused in one clear message.

No traceback, no internal error, no number that is not finite, and (by the bounds on what a file may
ask for) nothing that runs or allocates without end. The damage is the same on every run.
"""

from __future__ import annotations

import json
import math
import random
import shutil
from pathlib import Path

import numpy as np
import pytest
from mutations import damaged_bytes, damaged_message, damaged_yaml

from archsim.cli import main
from archsim.envs.problem import as_problem
from archsim.envs.scenario import SCENARIOS, available_scenarios, load_scenario
from archsim.errors import ArchsimError
from archsim.explore import runner
from archsim.hardware import available_machines
from archsim.hardware.machine import MACHINES
from archsim.inputs import parse_yaml
from archsim.workload.library import shipped_folder

pytestmark = pytest.mark.filterwarnings("error::RuntimeWarning")  # overflow, invalid values

#: Files of each kind; a thousand in all.
SCENARIO_LOADS, SCENARIO_RUNS, MACHINE_FILES, WORKLOAD_FILES, ONNX_FILES = 380, 10, 260, 250, 100
#: Longest message a user is shown.
MESSAGE = 1500


def clear(message: str, name: str) -> None:
    """A message a user can act on: one line, of bounded length, that names the file."""
    assert 10 < len(message) < MESSAGE, message
    assert "\n" not in message.strip(), message
    assert name in message, message
    for word in ("Traceback", "internal error", "pydantic", "NoneType", "object at 0x"):
        assert word not in message, message


def finite(value: object) -> bool:
    """Whether every number in a JSON tree is finite."""
    if isinstance(value, dict):
        return all(map(finite, value.values()))
    if isinstance(value, list):
        return all(map(finite, value))
    return not isinstance(value, float) or math.isfinite(value)


def outcome(capsys, words: list[str], name: str) -> bool:
    """Run a command: true if it succeeded with finite results, false if it refused its input."""
    capsys.readouterr()
    status = main(words)
    shown = capsys.readouterr()
    assert status in (0, 2), shown.err
    assert "Traceback" not in shown.out + shown.err
    if status == 2:
        assert shown.err.startswith("error: "), shown.err
        clear(shown.err, name)
        return False
    if "--json" in words:
        assert finite(json.loads(shown.out))
    return True


def plausible(accepted: int, files: int) -> None:
    """The damage is neither so heavy that everything is refused nor so light that nothing is."""
    assert files / 50 < accepted < files * 0.8, f"{accepted} of {files} accepted"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where the damaged files go; holds what scenarios refer to."""
    shutil.copytree(SCENARIOS / "machines", tmp_path / "machines")
    return tmp_path


def load_all(path: Path) -> bool:
    """What a run does before it starts: load, check, plan, and evaluate a few designs."""
    try:
        scenario = load_scenario(path)
        runner.plan_for(scenario)
        problem = as_problem(scenario)
        designs = problem.space.sample(np.random.default_rng(0), 2)
        metrics = problem.evaluate(designs)
    except ArchsimError as error:
        clear(str(error), path.name)
        return False
    assert all(np.isfinite(metrics[name]).all() for name in metrics)
    return True


def test_damaged_scenarios_are_loaded_or_refused(folder: Path) -> None:
    rng = random.Random("scenarios")
    files = [(SCENARIOS / f"{name}.yaml").read_bytes() for name in available_scenarios()]
    trees = [parse_yaml(data.decode()) for data in files]
    accepted = 0
    for _ in range(SCENARIO_LOADS):
        which = rng.randrange(len(files))
        path = folder / "damaged.yaml"
        path.write_bytes(damaged_yaml(rng, files[which], trees[which]))
        accepted += load_all(path)
    plausible(accepted, SCENARIO_LOADS)


def test_damaged_scenarios_through_the_command(folder: Path, capsys) -> None:
    rng = random.Random("runs")
    data = (SCENARIOS / "smoke.yaml").read_bytes()
    tree = parse_yaml(data.decode())
    for index in range(SCENARIO_RUNS):
        path = folder / "damaged.yaml"
        path.write_bytes(damaged_yaml(rng, data, tree))
        outcome(
            capsys,
            ["run", str(path), "-a", "random", "--budget", "2", "--seeds", "1", "--workers", "1",
             "--fill", "0", "--quiet", "--out", str(folder / str(index))],
            "",
        )  # fmt: skip


def test_damaged_machines_are_evaluated_or_refused(folder: Path, capsys) -> None:
    rng = random.Random("machines")
    files = [(MACHINES / f"{name}.yaml").read_bytes() for name in available_machines()]
    trees = [parse_yaml(data.decode()) for data in files]
    accepted = 0
    for _ in range(MACHINE_FILES):
        which = rng.randrange(len(files))
        path = folder / "damaged.yaml"
        path.write_bytes(damaged_yaml(rng, files[which], trees[which]))
        words = ["evaluate", "-w", "alexnet", "-m", str(path), "--json"]
        accepted += outcome(capsys, words, path.name)
    plausible(accepted, MACHINE_FILES)


def test_damaged_workloads_are_evaluated_or_refused(folder: Path, capsys) -> None:
    rng = random.Random("workloads")
    names = ("alexnet", "squeezenet", "resnet18", "bert_base", "mobilenet_v2", "unet")
    files = [(shipped_folder() / f"{name}.yaml").read_bytes() for name in names]
    trees = [parse_yaml(data.decode()) for data in files]
    accepted = 0
    for _ in range(WORKLOAD_FILES):
        which = rng.randrange(len(files))
        path = folder / "damaged.yaml"
        path.write_bytes(damaged_yaml(rng, files[which], trees[which]))
        words = ["evaluate", "-w", str(path), "-m", "tiny", "--json"]
        accepted += outcome(capsys, words, path.name)
    plausible(accepted, WORKLOAD_FILES)


def test_damaged_onnx_files_are_evaluated_or_refused(folder: Path, capsys) -> None:
    onnx = pytest.importorskip("onnx")
    light = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"
    rng = random.Random("onnx")
    paths = [light / f"light_{name}.onnx" for name in ("bvlc_alexnet", "squeezenet")]
    files, models = [path.read_bytes() for path in paths], [onnx.load(path) for path in paths]
    accepted = 0
    for index in range(ONNX_FILES):
        path = folder / "damaged.onnx"
        if index % 2:
            path.write_bytes(damaged_bytes(rng, rng.choice(files)))
        else:
            path.write_bytes(damaged_message(rng, rng.choice(models)))
        words = ["evaluate", "-w", str(path), "-m", "tiny", "--json"]
        accepted += outcome(capsys, words, path.name)
    plausible(accepted, ONNX_FILES)


def test_a_thousand_files_are_tried() -> None:
    counts = (SCENARIO_LOADS, SCENARIO_RUNS, MACHINE_FILES, WORKLOAD_FILES, ONNX_FILES)
    assert sum(counts) >= 1000
