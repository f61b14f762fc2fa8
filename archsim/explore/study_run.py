"""Carry a study out: tables, optima, and every agent with every seed on every scenario.

Each scenario has a run directory of its own (``cells/NAME``), as `archsim run` makes it, with the
same promises: what was evaluated is on disk, a killed study goes on where it was, and the same
seeds give the same evaluations on any number of workers.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from archsim.errors import InputError
from archsim.explore import runner
from archsim.explore.problem import Opened, versions
from archsim.explore.progress import Progress, Silent
from archsim.explore.records import Run
from archsim.explore.study_spec import Cell, StudySpec

PLAN_NAME = "study.json"
#: Spaces of up to this many designs are evaluated as a whole even without a table.
WHOLE_DESIGNS = 5_000
#: Designs evaluated at a time when a whole space is.
BLOCK = 65_536
#: Designs drawn to see that every encoding reaches the same set.
DRAWN = 64
#: Imported once, before runs branch off, besides what their agents need.
_SHARED = (
    "numba",
    "archsim.agents",
    "archsim.envs",
    "archsim.envs.dram",
    "archsim.explore.store",
    "archsim.explore.worker",
)

Note = Callable[[str], None]


@dataclass(frozen=True)
class Exact:
    """What is known of a whole space.

    Attributes:
        designs: Legal designs.
        feasible: How many of them are.
        best: Objective of the best.
        ties: Designs that share it.
        median: Median objective of the feasible ones.
        design: Values of the best design (the first of equals).
        metrics: Its metrics.
    """

    designs: int
    feasible: int
    best: float
    ties: int
    median: float
    design: dict[str, Any]
    metrics: dict[str, float]


@dataclass(frozen=True)
class StudySummary:
    """How a study ended.

    Attributes:
        directory: Its folder.
        runs: Runs of all scenarios.
        evaluations: Evaluations stored for them.
        failed: Lines about runs whose agent crashed.
        elapsed_s: Wall time of this call.
    """

    directory: Path
    runs: int
    evaluations: int
    failed: tuple[str, ...]
    elapsed_s: float


def run_study(
    spec: StudySpec,
    cells: Sequence[Cell],
    out: Path,
    *,
    tables: Path | None = None,
    progress: Progress | None = None,
    note: Note = lambda text: None,
    command: str = "",
) -> StudySummary:
    """Carry a study out, or go on with it.

    Args:
        spec: The study.
        cells: Its scenarios.
        out: Its folder.
        tables: Folder of exhaustive tables; that of the user's cache when not given.
        progress: Hears how the runs go.
        note: Hears a line about each stage.
        command: What asked for it, kept for the report.

    Raises:
        InputError: The folder holds another study, or an agent or scenario is wrong.
        Interrupted: Ctrl-C; everything evaluated so far is stored.
    """
    began = time.monotonic()
    choices = spec.choices()
    plan = runner.Plan(choices, spec.seeds, spec.budget, spec.workers)
    runner.check_agents(plan)
    out.mkdir(parents=True, exist_ok=True)
    _claim_folder(spec, out)
    executor = _executor(choices, spec.workers)
    runs: list[Run] = []
    failed: list[str] = []
    facts: dict[str, Any] = {}
    for number, cell in enumerate(cells, 1):
        note(f"scenario {number} of {len(cells)}: {cell.name}")
        opened = _opened(spec, cell, tables, note)
        check_equal_spaces(opened.space, choices)
        folder = out / "cells" / cell.name
        folder.mkdir(parents=True, exist_ok=True)
        exact = _exact(opened, folder)
        facts[cell.name] = {
            "place": dict(cell.place),
            "title": cell.scenario.title or cell.name,
            "subject": opened.problem.subject,
            "exact": None if exact is None else asdict(exact),
            "reference": _reference(opened),
        }
        summary = runner.explore(
            opened.problem,
            plan,
            folder,
            progress=progress or Silent(),
            executor=executor,
            command=command,
        )
        runs += summary.runs
        failed += [
            f"{cell.name}: {run.label} seed {run.seed}: {run.error}" for run in summary.failed
        ]
    written = {
        "spec": spec.model_dump(mode="json"),
        "cells": facts,
        "command": command,
        "versions": versions(),
    }
    _write_json(out / PLAN_NAME, written)
    count = sum(run.count for run in runs)
    return StudySummary(out, len(runs), count, tuple(failed), time.monotonic() - began)


def _claim_folder(spec: StudySpec, out: Path) -> None:
    """Refuse the folder of another study; more agents, seeds or scenarios may join."""
    path = out / "name.txt"
    if path.exists():
        name = path.read_text(encoding="utf-8").strip()
        if name != spec.study:
            raise InputError("the folder holds another study", source=out, found=name)
    elif any(out.iterdir()):
        raise InputError("the folder is not empty, and holds no study", source=out)
    else:
        path.write_text(spec.study + "\n", encoding="utf-8")


def _executor(choices: Sequence[runner.AgentChoice], workers: int) -> Any:
    from archsim.explore.executor import LocalExecutor

    heavy = runner.preloads(choice.name for choice in choices)
    if {"torch", "stable_baselines3", "sb3_contrib"}.intersection(heavy):
        # The first optimiser of a process imports it: two seconds in each of thousands of runs.
        heavy.append("torch._dynamo")
    return LocalExecutor(workers, [*_SHARED, *heavy])


def _opened(spec: StudySpec, cell: Cell, tables: Path | None, note: Note) -> Opened:
    """The problem of a scenario, answered by a table where the study wants one."""
    from archsim.envs.problem import as_problem

    if not spec.table:
        return Opened(as_problem(cell.scenario))
    from archsim.envs.dram import DramProblem, DramScenario
    from archsim.envs.dram_table import make_table, table_path

    if not isinstance(cell.scenario, DramScenario):
        raise InputError(
            "tables are made of memory controllers only",
            source=spec.study,
            field="table",
            found=cell.scenario.environment,
        )
    from archsim.explore.stages import stages

    problem = DramProblem(cell.scenario)
    path = table_path(problem, tables).resolve()
    if not path.exists():
        note(f"table of {problem.subject}: {path}")
    make_table(problem, path, stages("classes simulated"))
    return Opened(DramProblem(cell.scenario.model_copy(update={"table": str(path)})))


def check_equal_spaces(space: Any, choices: Sequence[runner.AgentChoice]) -> None:
    """See that the action spaces of all agents reach the same designs, on a sample.

    Raises:
        InputError: An encoding loses designs.
    """
    from archsim.agents import load_agent

    designs = space.sample(np.random.default_rng(0), DRAWN)
    for name in {choice.name for choice in choices}:
        encoding = getattr(load_agent(name), "encoding", "multidiscrete")
        for design in designs:
            action = space.to_action(design, encoding)
            if not np.array_equal(space.from_action(action, encoding), design):
                raise InputError("the encoding does not reach every design", found=encoding)


def _reference(opened: Opened) -> dict[str, Any]:
    """What the problem's reference scores."""
    problem = opened.problem
    found = dict(problem.reference_metrics)
    arrays = {name: np.array([value]) for name, value in found.items()}
    score = problem.objective.score(arrays)
    return {
        "name": problem.reference_name,
        "objective": float(score["objective"][0]),
        "feasible": bool(score["feasible"][0]),
        "metrics": {name: found[name] for name in problem.objective.names},
    }


def _exact(opened: Opened, folder: Path) -> Exact | None:
    """The optimum and the spread of a space that is known as a whole, kept beside the runs."""
    path = folder / "exact.json"
    if path.exists():
        stored = json.loads(path.read_text(encoding="utf-8"))
        if stored["digest"] == opened.digest:
            return None if stored["exact"] is None else Exact(**stored["exact"])
    exact = whole_space(opened)
    found = None if exact is None else asdict(exact)
    _write_json(path, {"digest": opened.digest, "exact": found})
    return exact


def whole_space(opened: Opened) -> Exact | None:
    """Evaluate every legal design, if that is cheap or a table answers; None where it is not."""
    problem, space = opened.problem, opened.space
    tabled = getattr(problem, "table", None) is not None
    if not space.size_is_exact or not (tabled or space.size <= WHOLE_DESIGNS):
        return None
    objectives, feasible, best, design, metrics = [], 0, np.inf, None, {}
    for block in space.batches(BLOCK):
        found = problem.evaluate(block)
        kept = np.asarray(found["feasible"], dtype=bool)
        values = np.where(kept, found["objective"], np.inf)
        row = int(np.argmin(values))
        if values[row] < best:
            best, design = float(values[row]), block[row].copy()
            metrics = {name: float(found[name][row]) for name in problem.metric_names}
        feasible += int(kept.sum())
        objectives.append(values[kept])
    if design is None:
        return None
    pooled = np.concatenate(objectives)
    return Exact(
        designs=space.size,
        feasible=feasible,
        best=best,
        ties=int((pooled == best).sum()),
        median=float(np.median(pooled)),
        design=space.decode(design),
        metrics=metrics,
    )


def _write_json(path: Path, data: Any) -> None:
    draft = path.with_suffix(".new")
    draft.write_text(json.dumps(data, indent=1), encoding="utf-8")
    draft.replace(path)
