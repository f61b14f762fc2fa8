"""``archsim compare``: networks on machines side by side."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from archsim.cli.output import Json, print_json

#: Fields of a cost that are compared, and their units on a terminal.
METRICS = {
    "latency_s": "s",
    "energy_j": "J",
    "edp_js": "Js",
    "power_w": "W",
    "area_mm2": "mm2",
    "utilization": "",
}
SET = typer.Option(
    "--set", help="Change a field of the machine (repeatable): PATH=VALUE, see `archsim show`."
)


def register(app: typer.Typer) -> None:
    """Add the command of this module."""
    app.command(rich_help_panel="Model")(compare)


def changed(machine: str, changes: list[str] | None) -> Any:
    """A machine by name or file, with fields changed as the command line says.

    Raises:
        InputError: No such machine or field, or a value it cannot have.
    """
    from archsim.errors import InputError
    from archsim.hardware import load_machine
    from archsim.inputs import parse_yaml

    chip = load_machine(machine)
    values = {}
    for text in changes or ():
        path, equals, value = text.partition("=")
        if not equals or not path.strip():
            raise InputError(
                "cannot read the change", source="--set", found=text, expected="PATH=VALUE"
            )
        values[path.strip()] = parse_yaml(value, "--set")
    return chip.with_values(values) if values else chip


def compare(
    workload: Annotated[
        list[str], typer.Option("--workload", "-w", help="Name or file (repeatable).")
    ],
    machine: Annotated[
        list[str], typer.Option("--machine", "-m", help="Name or file (repeatable).")
    ],
    batch: Annotated[int | None, typer.Option(min=1, help="Batch size.")] = None,
    effort: Annotated[
        str, typer.Option(help="How hard to look for mappings: fast, thorough, optimal.")
    ] = "fast",
    objective: Annotated[str, typer.Option(help="What mappings minimise.")] = "edp",
    change: Annotated[list[str] | None, SET] = None,
    as_json: Json = False,
) -> None:
    """Networks on machines side by side: latency, energy, area, and what binds.

    With --set, every machine is compared with itself before the change.

    `archsim compare -w resnet50 -w mobilenet_v2 -m eyeriss -m simba`

    `archsim compare -w resnet50 -m eyeriss --set engines.array.slots.glb.capacity_bytes=262144`
    """
    from archsim.system import evaluate
    from archsim.workload import load_workload

    networks = [load_workload(name, batch=batch) for name in workload]
    chips = []
    for name in dict.fromkeys(machine):
        chips.append((name, changed(name, None)))
        if change:
            chips.append((f"{name}, changed", changed(name, change)))
    rows: list[dict[str, Any]] = []
    for network in networks:
        for name, chip in chips:
            cost = evaluate(network, chip, effort=effort, objective=objective)
            bound: dict[str, float] = {}
            for layer in cost.layers:
                bound[layer.bound] = bound.get(layer.bound, 0.0) + layer.latency_s
            most = max(bound, key=lambda part: bound[part])
            figures = {metric: float(getattr(cost, metric)) for metric in METRICS}
            share = bound[most] / cost.latency_s
            rows.append({"workload": network.name, "machine": name, **figures,
                         "bound": most, "bound_share": share})  # fmt: skip
    if as_json:
        print_json(rows)
        return
    _show(rows)


def _show(rows: list[dict[str, Any]]) -> None:
    from archsim.system.report import quantity
    from archsim.validate.references import table

    # Each network's first machine is what the others are compared with.
    first: dict[str, dict[str, Any]] = {}
    cells = []
    for row in rows:
        base = first.setdefault(row["workload"], row)
        shown = [
            f"{row[m]:.1%}" if m == "utilization"
            else f"{row[m]:.3g} mm2" if m == "area_mm2" else quantity(row[m], unit)
            for m, unit in METRICS.items()
        ]  # fmt: skip
        gain = base["edp_js"] / row["edp_js"]
        cells.append(
            (f"{row['workload']} on {row['machine']}", *shown,
             f"{row['bound']} {row['bound_share']:.0%}", f"{gain:.2f}x")
        )  # fmt: skip
    heads = ("", "latency", "energy", "EDP", "power", "area", "busy", "bound by", "EDP gain")
    typer.echo(table(heads, cells))
    typer.echo("EDP gain: over the network's first line")
