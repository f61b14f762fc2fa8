"""``archsim systolic``: a network on a systolic array, from SCALE-Sim's files or any workload."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from archsim.cli.output import Json, print_json

#: Columns of the table and of the CSV file, and of what each is a figure.
COLUMNS = (
    "layer", "M", "N", "K", "products", "folds", "cycles", "utilization %", "mapping %",
    "computing %", "input reads", "weight reads", "output writes", "off-array words",
)  # fmt: skip
_FROM_COST = ("input_reads", "weight_reads", "output_writes")


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command(rich_help_panel="Model")(systolic)


def systolic(
    topology: Annotated[
        str, typer.Option("--topology", "-t", help="SCALE-Sim .csv, or any workload.")
    ],
    config: Annotated[
        Path | None, typer.Option("--config", "-c", help="SCALE-Sim .cfg of the array.")
    ] = None,
    array: Annotated[
        str | None, typer.Option(help="Instead of a file: rows x columns, e.g. 128x128.")
    ] = None,
    dataflow: Annotated[
        str | None, typer.Option(help="os, ws or is (or in full); overrides the file's.")
    ] = None,
    compat: Annotated[
        str | None, typer.Option(help="scalesim: SCALE-Sim's stall-free reports, to the figure.")
    ] = None,
    csv: Annotated[Path | None, typer.Option(help="Write the table to this file.")] = None,
    as_json: Json = False,
) -> None:
    """Cycles, utilisation and buffer accesses of a network on a systolic array.

    `archsim systolic -t resnet50 --array 128x128 --dataflow ws`
    """
    from archsim.models.systolic import systolic_layers
    from archsim.workload import load_workload

    engine = _array(config, array, dataflow)
    workload = load_workload(topology)
    layers = systolic_layers(workload, engine, compat)
    rows = [_row(layer) for layer in layers]
    if csv:
        _write(csv, rows)
    if as_json:
        from dataclasses import asdict

        figures = {
            "workload": workload.name,
            "array": asdict(engine),
            "compat": compat,
            "layers": [dict(zip(COLUMNS, row, strict=True)) for row in rows],
        }
        print_json(figures)
        return
    _show(workload.name, engine, compat, rows)
    if csv:
        typer.echo(f"wrote {csv}")


def _array(config: Path | None, size: str | None, dataflow: str | None) -> Any:
    """The array of a file, or of its size, with the dataflow asked for."""
    from dataclasses import replace

    from archsim.errors import InputError
    from archsim.models.systolic import DATAFLOWS, SystolicArray, read_scalesim_config

    if (config is None) == (size is None):
        raise InputError(
            "the array is missing" if config is None else "the array is given twice",
            expected="either --config FILE.cfg or --array ROWSxCOLUMNS",
        )
    name = DATAFLOWS.get(dataflow.lower(), dataflow.lower()) if dataflow else None
    if name is not None and name not in DATAFLOWS.values():
        raise InputError(
            "unknown dataflow", source="--dataflow", found=dataflow, expected=", ".join(DATAFLOWS)
        )
    if config is not None:
        found = read_scalesim_config(config)
        return found if name is None else replace(found, dataflow=name)
    extents = str(size).lower().split("x")
    if len(extents) != 2 or not all(part.isascii() and part.isdigit() for part in extents):
        raise InputError("not a size", source="--array", found=size, expected="e.g. 128x128")
    if name is None:
        raise InputError(
            "the dataflow is missing", source="--dataflow", expected=", ".join(DATAFLOWS)
        )
    return SystolicArray(int(extents[0]), int(extents[1]), name)


def _row(layer: Any) -> tuple[Any, ...]:
    """Figures of one layer, all its products together, in the order of :data:`COLUMNS`."""
    cost, times = layer.cost, layer.products
    shares = (cost.utilization, cost.mapping_efficiency, cost.compute_utilization)
    slower = times * int(cost.cycles) / layer.cycles  # waiting for words from outside
    return (
        layer.name, layer.m, layer.n, layer.k, times, times * int(cost.folds), layer.cycles,
        100 * float(shares[0]) * slower, *(100 * float(share) for share in shares[1:]),
        *(times * int(getattr(cost, name)) for name in _FROM_COST), layer.off_array_words,
    )  # fmt: skip


def _write(path: Path, rows: list[tuple[Any, ...]]) -> None:
    import csv

    from archsim.errors import InputError

    try:
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(COLUMNS)
            writer.writerows(rows)
    except OSError as error:
        raise InputError(f"cannot write: {error.strerror}", source=path) from None


def _show(name: str, array: Any, compat: str | None, rows: list[tuple[Any, ...]]) -> None:
    from archsim.validate.references import table

    limit = "" if array.words_per_cycle is None else f", {array.words_per_cycle} words a cycle"
    counted = "as SCALE-Sim reports it" if compat else "corrected counts"
    typer.echo(
        f"{name} on {array.rows} x {array.columns} units, {array.dataflow}{limit}; {counted}"
    )
    cells = [
        tuple(f"{x:.2f}" if isinstance(x, float) else f"{x:,}" if i else x for i, x in enumerate(r))
        for r in rows
    ]
    typer.echo(table(COLUMNS, cells))
    cycles = sum(row[6] for row in rows)
    macs = sum(row[1] * row[2] * row[3] * row[4] for row in rows)
    share = macs / (cycles * array.rows * array.columns)
    typer.echo(f"{len(rows)} layers: {cycles:,} cycles, {macs:,} MACs, {share:.1%} of the units")
