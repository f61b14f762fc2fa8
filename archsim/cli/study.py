"""``archsim table``: exhaustive tables of spaces small enough to be known as a whole."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

SCENARIO = typer.Argument(help="Scenario file, or name of a shipped one.")


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command(rich_help_panel="Explore")(table)


def table(
    scenario: Annotated[str, SCENARIO],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="File to write; default: the user's cache.")
    ] = None,
) -> None:
    """Simulate every memory controller of a scenario's space once, for lookups and the optimum."""
    from archsim.envs.dram import DramProblem
    from archsim.envs.dram_table import make_table, table_path
    from archsim.explore.stages import stages

    problem = DramProblem(scenario)
    path = out or table_path(problem)
    made = make_table(problem, path, stages(f"table of {problem.subject}"))
    typer.echo(f"{len(made.row_of):,} controllers, {len(made.rows):,} of them simulated: {path}")
