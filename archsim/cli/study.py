"""``archsim study`` and ``archsim table``: fair comparisons, and spaces known as a whole."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

SCENARIO = typer.Argument(help="Scenario file, or name of a shipped one.")


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    for command in (study, table):
        app.command(rich_help_panel="Explore")(command)


def study(
    source: Annotated[
        str, typer.Argument(metavar="STUDY", help="Study file, or name of a shipped one.")
    ],
    seeds: Annotated[int | None, typer.Option(help="Runs of each agent on each scenario.")] = None,
    budget: Annotated[int | None, typer.Option(help="Evaluations of each run.")] = None,
    workers: Annotated[int | None, typer.Option(help="Runs at the same time.")] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Folder of the results; default runs/NAME.")
    ] = None,
    tables: Annotated[
        Path | None, typer.Option(help="Folder of exhaustive tables; default: the user's cache.")
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress.")] = False,
) -> None:
    """Compare agents on many scenarios, report what holds. Run it again to go on.

    `archsim study marl_dram --seeds 3 --budget 100 -o study`
    """
    from archsim.explore.progress import Silent
    from archsim.explore.stages import RunLines
    from archsim.explore.study_report import write_study
    from archsim.explore.study_run import run_study
    from archsim.explore.study_spec import load_study
    from archsim.inputs import validate

    spec, cells = load_study(source)
    given = {"seeds": seeds, "budget": budget, "workers": workers}
    given = {name: value for name, value in given.items() if value is not None}
    spec = validate({**spec.model_dump(), **given}, type(spec), "command line")
    directory = out or Path("runs") / spec.study
    words = ["archsim", "study", source]
    for option, value in (("seeds", seeds), ("budget", budget)):
        words += [] if value is None else [f"--{option}", str(value)]
    summary = run_study(
        spec,
        cells,
        directory,
        tables=tables,
        progress=Silent() if quiet else RunLines(),
        note=(lambda text: None) if quiet else (lambda text: typer.echo(text, err=True)),
        command=shlex.join(words),
    )
    for line in summary.failed:
        typer.echo(f"failed: {line}", err=True)
    path = write_study(directory)
    typer.echo(f"{summary.runs:,} runs, {summary.evaluations:,} evaluations; wrote {path}")
    if summary.failed:
        raise typer.Exit(1)


def table(
    scenario: Annotated[str, SCENARIO],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="File to write; default: the user's cache.")
    ] = None,
) -> None:
    """Simulate every memory controller of a scenario's space once, for lookups and the optimum.

    `archsim table dram_low_latency`
    """
    from archsim.envs.dram import DramProblem
    from archsim.envs.dram_table import make_table, table_path
    from archsim.explore.stages import stages

    problem = DramProblem(scenario)
    path = out or table_path(problem)
    made = make_table(problem, path, stages(f"table of {problem.subject}"))
    typer.echo(f"{len(made.row_of):,} controllers, {len(made.rows):,} of them simulated: {path}")
