"""``archsim timeloop`` and ``timeloop-export``: Timeloop's files in and out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from archsim.cli.output import Json, print_json

if TYPE_CHECKING:
    from archsim.models.loopnest.timeloop import TimeloopCase, TimeloopResult


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command("timeloop", rich_help_panel="Model")(timeloop)
    app.command("timeloop-export", rich_help_panel="Model")(export)


def timeloop(
    files: Annotated[
        list[Path],
        typer.Argument(
            help="YAML files with the blocks architecture, problem, mapping and, for energies, "
            "ERT, in any order and any number of files."
        ),
    ],
    compat: Annotated[
        str | None,
        typer.Option(help="'timeloop': count residual tiles, halos and cycles as Timeloop does."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Evaluate a Timeloop mapping: reads, fills and updates of every level, cycles, energy.

    `archsim timeloop architecture.yaml problem.yaml mapping.yaml ERT.yaml`
    """
    from archsim.models.loopnest.timeloop import read_files

    case = read_files(files)
    result = case.evaluate(compat)
    if as_json:
        print_json(as_dict(case, result))
        return
    typer.echo(_table(case, result))


def as_dict(case: TimeloopCase, result: TimeloopResult) -> dict[str, Any]:
    """Plain data for JSON; energies are null without an energy table."""
    from dataclasses import asdict

    data = asdict(result)
    if not case.priced:
        data["energy_pj"] = data["mac_energy_pj"] = None
        for level in data["levels"]:
            level["energy_pj"] = None
    data["levels"] = list(data["levels"])
    return data


def _table(case: TimeloopCase, result: TimeloopResult) -> str:
    from archsim.system.report import quantity
    from archsim.validate.references import table

    rows = []
    for level in result.levels:
        for space in level.reads:
            words = (getattr(level, kind)[space] for kind in ("reads", "fills", "updates"))
            rows.append(
                (level.name, f"{level.instances:.0f}", space, *(f"{w:,.0f}" for w in words))
            )
    lines = [table(("level", "instances", "data space", "reads", "fills", "updates"), rows), ""]
    lines.append(f"cycles       {result.cycles:,.0f}")
    lines.append(f"utilisation  {result.utilization:.2%}")
    if case.priced:
        lines.append(f"energy       {quantity(result.energy_pj * 1e-12, 'J')}")
        parts = [(level.name, level.energy_pj) for level in result.levels]
        parts += [("arithmetic", result.mac_energy_pj), ("leakage", result.leakage_pj)]
        for name, energy in parts:
            share = energy / result.energy_pj if result.energy_pj else 0.0
            lines.append(f"  {name:<20}{quantity(energy * 1e-12, 'J'):>10}{share:>8.1%}")
    else:
        lines.append("energy       unknown: no file has an energy table (ERT)")
    if result.overflow > 1e-9:
        lines.append(
            f"warning: a tile exceeds its storage by {result.overflow:.1%}, which Timeloop refuses"
        )
    lines.append("words of all instances together, inner level first")
    return "\n".join(lines)


def export(
    workload: Annotated[str, typer.Option("--workload", "-w", help="Name or file.")],
    machine: Annotated[str, typer.Option("--machine", "-m", help="Name or file.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder; one folder a layer inside.")],
    layer: Annotated[
        list[str] | None, typer.Option(help="Only this layer (repeatable); default: all.")
    ] = None,
    batch: Annotated[int | None, typer.Option(min=1, help="Batch size.")] = None,
    effort: Annotated[str, typer.Option(help="How hard to look for mappings.")] = "fast",
    objective: Annotated[str, typer.Option(help="What mappings minimise.")] = "edp",
) -> None:
    """Map a network and write its layers as Timeloop files, with the machine and its energies.

    `archsim timeloop-export -w alexnet -m eyeriss --layer conv1 -o timeloop`
    """
    from archsim.errors import InputError
    from archsim.hardware import load_machine, resolve
    from archsim.models.loopnest.nest import build_nest
    from archsim.models.loopnest.timeloop_write import to_timeloop, write_timeloop
    from archsim.system import evaluate
    from archsim.workload import load_workload

    network, chip = load_workload(workload, batch=batch), load_machine(machine)
    cost = evaluate(network, chip, effort=effort, objective=objective)
    nest = build_nest(resolve(chip))
    einsums = {op.name: op.einsum for op in network.operations if op.einsum is not None}
    mapped = {one.name: one.mapping for one in cost.layers if one.mapping is not None}
    wanted = layer or list(mapped)
    notes: dict[str, None] = {}
    for name in wanted:
        mapping = mapped.get(name)
        if mapping is None:
            raise InputError(
                "no such mapped layer", source=workload, found=name,
                expected=", ".join(list(mapped)[:8]) + (" ..." if len(mapped) > 8 else ""),
            )  # fmt: skip
        documents = to_timeloop(einsums[name], nest, mapping)
        notes |= dict.fromkeys(documents.notes)
        write_timeloop(documents, out / name.replace("/", "_"))
    typer.echo(f"wrote {len(wanted)} layer(s) to {out}")
    for note in notes:
        typer.echo(f"note: {note}")
