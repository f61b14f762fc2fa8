"""Studies: equal terms, exact regret, the same bytes however they are carried out."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import yaml

from archsim.envs import available_scenarios, load_scenario
from archsim.envs.dram import DramProblem
from archsim.errors import InputError
from archsim.explore.lottery import Draw, draws, ranks
from archsim.explore.study_report import markdown_table, write_study
from archsim.explore.study_results import StudyResults
from archsim.explore.study_run import run_study
from archsim.explore.study_spec import laid_over, load_study

LONG = os.environ.get("ARCHSIM_LONG") == "1"
STUDY = {
    "study": "reduced",
    "title": "A reduced study",
    "base": {
        "environment": "dram_controller",
        "parameters": [
            {"name": "RequestBufferSize", "values": [1, 4]},
            {"name": "RefreshMaxPostponed", "values": [1, 8]},
            {"name": "RefreshMaxPulledin", "values": [1]},
            {"name": "MaxActiveTransactions", "values": [1, 2, 16]},
        ],
    },
    "axes": {
        "trace": {
            "mixed": {
                "trace": {"pattern": "mixed", "requests": 250},
                "objective": {"limits": {"bandwidth_bytes_per_s": 2.0e9}},
            },
        },
        "goal": {
            "low_power": {"objective": {"minimize": ["power_w"]}},
            "low_latency": {"objective": {"minimize": ["time_s"]}},
        },
    },
    "table": True,
    "agents": ["random", "genetic", "coordinate_descent"],
    "sweeps": {"ant_colony": {"ants": [2, 8], "elites": [1, 3]}},
    "seeds": 2,
    "budget": 40,
    "questions": [
        {
            "claim": "Descent beats chance",
            "ours": ["coordinate_descent"],
            "theirs": ["random", "genetic"],
        }
    ],
}
if LONG:
    STUDY["agents"] = [
        "ppo", "sac", "ippo", "mappo", "qmix", "genetic", "ant_colony", "coordinate_descent",
        {"name": "tpe", "options": {"multivariate": True}}, "random",
    ]  # fmt: skip


def carry_out(out: Path, tables: Path, **changes: object) -> StudyResults:
    spec, cells = load_study({**STUDY, **changes})
    summary = run_study(spec, cells, out, tables=tables, command="archsim study reduced.yaml")
    assert not summary.failed
    write_study(out)
    return StudyResults(out)


def files_of(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in out.glob("*") if path.is_file()}


@pytest.fixture(scope="module")
def tables(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("tables")


@pytest.fixture(scope="module")
def study(tables, tmp_path_factory) -> StudyResults:
    return carry_out(tmp_path_factory.mktemp("study"), tables)


def test_every_agent_has_the_same_runs_evaluations_and_designs(study):
    assert [cell.name for cell in study.cells] == ["mixed-low_power", "mixed-low_latency"]
    assert len(study.labels) == len(STUDY["agents"]) + 4
    assert not study.short
    for cell in study.cells:
        assert {curve.shape for curve in cell.curves.values()} == {(2, len(study.grid))}
        assert cell.exact.designs == 4 * 3 * 3 * 2 * 2 * 2 * 2 * 3 * 3


def test_regret_is_above_the_simulated_optimum_and_reaches_it(study):
    for cell in study.cells:
        scenario = load_scenario(study.directory / "cells" / cell.name / "scenario.yaml")
        problem = DramProblem(scenario.model_copy(update={"table": None}))
        every = np.concatenate(list(problem.space.batches()))
        drawn = every[np.random.default_rng(1).integers(0, len(every), 400)]
        found = problem.evaluate(drawn)
        feasible = found["objective"][found["feasible"]]
        assert cell.exact.best <= feasible.min()
        assert abs(np.median(feasible) - cell.exact.median) < cell.spread / 2
        design = problem.space.encode(cell.exact.design)
        again = problem.evaluate(design[None])
        assert again["objective"][0] == cell.exact.best
        assert again["feasible"][0]
        assert min(curve.min() for curve in cell.curves.values()) >= 0
    assert any(curve.min() == 0 for cell in study.cells for curve in cell.curves.values())


def test_the_report_says_what_the_numbers_say(study):
    text = (study.directory / "report.md").read_text()
    for words in (
        "# A reduced study", "## What holds", "Descent beats chance", "regret is exact",
        "## The lottery of hyperparameters", "ant_colony(ants=",
        "archsim study reduced.yaml", "low power",
    ):  # fmt: skip
        assert words in text, words
    pictures = {path.name for path in study.directory.glob("*.png")}
    assert pictures == {"curves.png", "duels.png", "lottery.png"}
    for name in pictures:
        assert f"({name})" in text
        assert (study.directory / name).stat().st_size < 150_000
    duels = study.duels["end"]
    assert np.allclose(duels.chance + duels.chance.T, 1)
    i, j = duels.labels.index("coordinate_descent"), duels.labels.index("random")
    wins = [
        (cell.final("coordinate_descent")[:, None] < cell.final("random")).mean()
        + 0.5 * (cell.final("coordinate_descent")[:, None] == cell.final("random")).mean()
        for cell in study.cells
    ]
    assert duels.chance[i, j] == pytest.approx(np.mean(wins))


def test_a_study_again_and_with_other_workers_gives_the_same_bytes(study, tables, tmp_path):
    before = files_of(study.directory)
    carry_out(study.directory, tables)  # goes on: everything is there
    assert files_of(study.directory) == before
    if LONG:
        carry_out(tmp_path / "again", tables, workers=2)
        after = files_of(tmp_path / "again")
        assert {n: b for n, b in after.items() if n != "study.json"} == {
            n: b for n, b in before.items() if n != "study.json"
        }


def test_a_killed_study_ends_as_if_it_had_not_been(study, tables, tmp_path):
    path = tmp_path / "reduced.yaml"
    path.write_text(yaml.safe_dump(STUDY, sort_keys=False))
    out = tmp_path / "killed"
    words = [sys.executable, "-m", "archsim", "study", str(path), "--out", str(out)]
    words += ["--tables", str(tables), "--quiet"]
    rng = random.Random(3)
    for kills in range(4 if LONG else 1):
        process = subprocess.Popen(words, start_new_session=True, stderr=subprocess.DEVNULL)
        while process.poll() is None and not list((out / "cells").glob("*/store.sqlite")):
            time.sleep(0.02)
        time.sleep(rng.uniform(0.05, 0.6) * (1 + kills))
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
    ended = subprocess.run(words, capture_output=True, text=True, timeout=300, check=False)
    runs = 2 * 2 * len(study.labels)
    assert f"{runs} runs, {40 * runs:,} evaluations" in ended.stdout, ended.stderr
    mine, theirs = (
        (folder / "report.md").read_text().split("## How to make it")[0]
        for folder in (out, study.directory)
    )
    assert mine == theirs
    assert (out / "curves.png").read_bytes() == (study.directory / "curves.png").read_bytes()


def test_the_lottery_ranks_by_best_median_and_worst(study):
    (draw,) = draws(study)
    assert draw.agent == "ant_colony"
    assert len(draw.labels) == 4
    assert draw.spread == pytest.approx(np.ptp(draw.regret))
    steady = Draw("steady", ("a", "b"), np.array([0.2, 0.2]), None)
    lucky = Draw("lucky", ("a", "b", "c"), np.array([0.0, 0.3, 0.9]), 0.3)
    table = ranks([steady, lucky])
    assert table["lucky"] == {"best": 1, "median": 2, "worst": 2}
    assert table["steady"] == {"best": 2, "median": 1, "worst": 1}
    assert (lucky.best, lucky.worst) == ("a", "c")


def test_shipped_studies_load_and_are_no_scenarios():
    for name, cells, agents in (("marl_dram", 12, 10), ("lottery_dram", 1, 6 + 72 + 600 + 15 + 48)):
        spec, found = load_study(name)
        assert spec.study == name
        assert (len(found), len(spec.choices())) == (cells, agents)
        assert name not in available_scenarios()
        assert {cell.scenario.build_space().size for cell in found} == {442_368}
        with pytest.raises(InputError):
            load_scenario(name)


def test_a_scenario_is_no_study():
    with pytest.raises(InputError, match="use archsim run"):
        load_study("smoke")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"agents": ["nobody"], "sweeps": {}, "questions": []}, "no such agent"),
        ({"questions": [{"claim": "x", "ours": ["sac"], "theirs": ["random"]}]}, "not among"),
        ({"base": None}, "either scenarios or base"),
        ({"scenarios": ["smoke"]}, "either scenarios or base"),
        ({"axes": {"trace": {}}}, "no entry"),
        ({"agents": [], "sweeps": {}}, "agents or sweeps"),
        ({"sweeps": {"ant_colony": {"aunts": [1]}}}, "no such option"),
        ({"sweeps": {"ant_colony": {"ants": list(range(1, 6000))}}}, "too many agents"),
        ({"base": {**STUDY["base"], "memory": "none"}}, "no such DRAM"),
        ({"seeds": 0}, "greater than or equal"),
        ({"seats": 1}, "no such field"),
    ],
)
def test_wrong_studies_are_refused(change, message, tmp_path):
    def carried_out() -> None:
        spec, cells = load_study({**STUDY, **change})
        run_study(spec, cells, tmp_path / "out", tables=tmp_path)

    with pytest.raises(InputError, match=message):
        carried_out()


def test_a_folder_of_something_else_is_left_alone(study, tmp_path):
    spec, cells = load_study({**STUDY, "study": "another"})
    with pytest.raises(InputError, match="another study"):
        run_study(spec, cells, study.directory)
    (tmp_path / "mine.txt").write_text("precious")
    with pytest.raises(InputError, match="not empty"):
        run_study(spec, cells, tmp_path)
    with pytest.raises(InputError, match="no finished study"):
        StudyResults(tmp_path)


def test_tables_are_for_memory_controllers(tmp_path):
    spec, cells = load_study(
        {"study": "x", "scenarios": ["smoke"], "agents": ["random"], "table": True}
    )
    with pytest.raises(InputError, match="memory controllers only"):
        run_study(spec, cells, tmp_path / "out")


def test_mappings_are_laid_over_one_another():
    below = {"a": {"x": 1, "y": {"z": 2}}, "b": [1]}
    assert laid_over(below, {"a": {"y": {"w": 3}}, "b": [2], "c": 4}) == {
        "a": {"x": 1, "y": {"z": 2, "w": 3}}, "b": [2], "c": 4,
    }  # fmt: skip
    assert below == {"a": {"x": 1, "y": {"z": 2}}, "b": [1]}


def test_bars_in_cells_do_not_break_tables():
    assert markdown_table(["a", "b"], [["x|y", "1"]]).splitlines()[-1] == "| x/y | 1 |"
