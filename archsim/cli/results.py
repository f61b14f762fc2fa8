"""``archsim plot``, ``report``, ``best`` and ``export``: what an exploration found."""

from __future__ import annotations

import enum
from pathlib import Path
from typing import Annotated

import typer

from archsim.cli.output import Json, print_json

Directory = Annotated[Path, typer.Argument(metavar="RUN", help="Run directory.")]


class Format(enum.StrEnum):
    """Kinds of figures."""

    PNG = "png"
    PDF = "pdf"
    SVG = "svg"


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    for command in (plot, report, best, export):
        app.command(rich_help_panel="Explore")(command)


def plot(
    run: Directory,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Folder of the figures; default RUN.")
    ] = None,
    format_: Annotated[Format, typer.Option("--format", help="Of the files.")] = Format.PNG,
) -> None:
    """Draw the trade-off curve, convergence, hypervolume, breakdown and roofline.

    `archsim plot demo --format pdf -o figures`
    """
    from archsim.explore.figures import plot_all
    from archsim.explore.results import Results

    for path in plot_all(Results(run), out or run, ending=f".{format_}").values():
        typer.echo(f"wrote {path}")


def report(
    run: Directory,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="File to write; default RUN/report.html.")
    ] = None,
) -> None:
    """Write one self-contained HTML page with everything that was found.

    `archsim report demo -o demo.html`
    """
    from archsim.explore.report import write_report
    from archsim.explore.results import Results

    typer.echo(f"wrote {write_report(Results(run), out or run / 'report.html')}")


def best(
    run: Directory,
    by: Annotated[str, typer.Option(help="Metric to minimise.")] = "objective",
    machine: Annotated[
        Path | None,
        typer.Option("--machine", "-m", help="Write the accelerator chosen as a machine (.yaml)."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Print the chosen design, why it wins, and which limits bind.

    `archsim best demo -m chosen.yaml`, then `archsim evaluate -w resnet50 -m chosen.yaml --layers`
    """
    from archsim.explore.best import choose
    from archsim.explore.results import Results

    results = Results(run)
    choice = choose(results, by)
    if machine is not None:
        from archsim.explore.design_cost import design_machine
        from archsim.hardware import save_machine

        save_machine(design_machine(results, choice.row), machine)
    if as_json:
        print_json(choice.to_dict())
        return
    from archsim.explore.tables import choice_text

    choice_text(choice)
    if machine is not None:
        typer.echo(f"wrote {machine}")


def export(
    run: Directory,
    out: Annotated[Path, typer.Option("--out", "-o", help="File to write (.csv).")],
) -> None:
    """Write every evaluation as a row of a CSV file.

    `archsim export demo -o demo.csv`
    """
    from archsim.explore.export import write_csv

    rows = write_csv(run, out)
    typer.echo(f"wrote {rows:,} evaluations to {out}")
