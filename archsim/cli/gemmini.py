"""``archsim gemmini``: what a network would take on Gemmini's RTL, layer by layer."""

from __future__ import annotations

from typing import Annotated

import typer

from archsim.cli.output import Json, print_json


def register(app: typer.Typer) -> None:
    """Add the command of this module."""
    app.command("gemmini", rich_help_panel="Model")(gemmini)


def gemmini(
    workload: Annotated[str, typer.Option("--workload", "-w", help="Name or file.")],
    machine: Annotated[
        str, typer.Option("--machine", "-m", help="A Gemmini machine: name or file.")
    ] = "gemmini",
    batch: Annotated[int | None, typer.Option(min=1, help="Batch size.")] = None,
    effort: Annotated[str, typer.Option(help="How hard to look for mappings.")] = "fast",
    as_json: Json = False,
) -> None:
    """Cycles of the convolutions and matrix products on Gemmini's RTL (calibrated model).

    Tiles are those of the mapping with the least latency. The model adds what a loop nest does not
    see: issue of the loop instructions, DMA requests, the L2 cache, waiting for scratchpad banks.

    `archsim gemmini -w resnet50`
    """
    from archsim.errors import InputError
    from archsim.hardware import load_machine, resolve
    from archsim.models.gemmini import cycles, programs_from_mappings
    from archsim.models.loopnest.nest import build_nest
    from archsim.system import evaluate
    from archsim.validate.references import table
    from archsim.workload import load_workload

    network, chip = load_workload(workload, batch=batch), load_machine(machine)
    nest = build_nest(resolve(chip))
    sides = {int(width) for width in nest.width[0]}
    if len(sides) != 1 or len(nest.width[0]) != 2:
        raise InputError("Gemmini has one square array", source=machine, found=sorted(sides))
    cost = evaluate(network, chip, effort=effort, objective="latency")
    einsums = {op.name: op.einsum for op in network.operations if op.einsum is not None}
    layers = [layer for layer in cost.layers if layer.mapping is not None]
    if not layers:
        raise InputError("no convolution or matrix product", source=workload)
    programs, repeats = programs_from_mappings(
        [einsums[layer.name] for layer in layers],
        [layer.mapping for layer in layers if layer.mapping is not None],
        sides.pop(),
    )
    found = cycles(programs)
    rtl = found.cycles * repeats
    if as_json:
        data = {
            "workload": network.name,
            "machine": chip.name,
            "rtl_cycles": float(rtl.sum()),
            "layers": [
                {"layer": layer.name, "loop_instructions": float(tiles * n),
                 "loop_nest_cycles": float(layer.cycles), "rtl_cycles": float(total),
                 "longest_part": str(bound)}
                for layer, tiles, n, total, bound in zip(
                    layers, found.tiles, repeats, rtl, found.bound, strict=True
                )
            ],
        }  # fmt: skip
        print_json(data)
        return
    rows = [
        (
            layer.name, f"{tiles * n:,.0f}", f"{layer.cycles:,.0f}", f"{total:,.0f}",
            f"{total / layer.cycles:.2f}", bound,
        )
        for layer, tiles, n, total, bound in zip(
            layers, found.tiles, repeats, rtl, found.bound, strict=True
        )
    ]  # fmt: skip
    nest_cycles = sum(layer.cycles for layer in layers)
    rows.append(
        (
            "all",
            "",
            f"{nest_cycles:,.0f}",
            f"{rtl.sum():,.0f}",
            f"{rtl.sum() / nest_cycles:.2f}",
            "",
        )
    )
    heads = ("layer", "loop instructions", "loop nest", "RTL model", "ratio", "longest part")
    typer.echo(table(heads, rows))
    typer.echo(
        "RTL model: median error 9 % on held-out layer shapes of the DOSA runs "
        "(archsim validate rtl)."
    )
