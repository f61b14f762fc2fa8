"""``archsim import``, ``evaluate`` and ``list``: networks, machines and what they cost."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from archsim.cli.compare import SET, changed
from archsim.cli.output import Json, print_json
from archsim.cli.plan import PlanText


class Kind(enum.StrEnum):
    """What can be listed."""

    WORKLOADS = "workloads"
    MODELS = "models"
    MACHINES = "machines"
    AGENTS = "agents"
    SCENARIOS = "scenarios"
    DATAFLOWS = "dataflows"


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command("import", rich_help_panel="Model")(import_)
    app.command(rich_help_panel="Model")(evaluate)
    app.command("list", rich_help_panel="Model")(list_)


def import_(
    model: Annotated[
        Path,
        typer.Argument(
            help="Model file: .onnx, Hugging Face config .json, Timeloop .yaml, SCALE-Sim .csv."
        ),
    ],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Workload file to write (.yaml).")
    ] = None,
    batch: Annotated[int | None, typer.Option(min=1, help="Batch size.")] = None,
    symbol: Annotated[
        list[str] | None,
        typer.Option(help="Value of a symbolic dimension (repeatable): NAME=VALUE."),
    ] = None,
    phase: Annotated[
        str | None, typer.Option(help="Language models: prefill or decode (the default).")
    ] = None,
    context: Annotated[
        int | None, typer.Option(min=1, help="Language models: tokens in a request's cache.")
    ] = None,
) -> None:
    """Import a network into the compact, readable form.

    A config.json of a language model is one step of it; `archsim workload` has more options.

    `archsim import model.onnx -o model.yaml --symbol N=1`
    """
    from archsim.errors import InputError
    from archsim.workload import import_model, save_workload, summary

    if model.suffix.lower() == ".json":
        from archsim.cli.language import workload as show

        if symbol:
            raise InputError("only ONNX models have symbols", source=model, found=symbol)
        show(str(model), phase or "decode", batch or 1, context or 4096, out=out)
        return
    if phase or context:
        raise InputError("only language models have a phase and a context", source=model)
    if out is None:
        raise InputError("say where to write the workload", source="--out", expected="a .yaml file")
    workload = import_model(model, batch, _symbols(symbol))
    save_workload(workload, out)
    _show_summary(summary(workload))
    typer.echo(f"wrote {out}")


def _symbols(texts: list[str] | None) -> dict[str, int]:
    from archsim.errors import InputError

    symbols = {}
    for text in texts or []:
        name, _, value = text.partition("=")
        if not name or not value.isdigit() or int(value) < 1:
            raise InputError(
                "cannot read the symbol", source="--symbol", found=text, expected="NAME=VALUE"
            )
        symbols[name] = int(value)
    return symbols


def _rules(texts: list[str]) -> dict[str, str]:
    """Densities by role or tensor, as written on the command line."""
    from archsim.errors import InputError

    rules = {}
    for text in texts:
        name, _, rule = text.partition("=")
        if not name or not rule:
            raise InputError(
                "cannot read the density", source="--density", found=text, expected="NAME=0.3"
            )
        rules[name] = rule
    return rules


def _show_summary(figures: Any) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"{figures.name} (batch {figures.batch or '-'})", title_justify="left")
    table.add_column("operation")
    for column in ("count", "MACs", "scalar operations"):
        table.add_column(column, justify="right")
    for kind, *numbers in figures.rows():
        table.add_row(kind, *(f"{number:,}" for number in numbers))
    table.add_section()
    count = sum(figures.operations.values())
    table.add_row("all", f"{count:,}", f"{figures.macs:,}", f"{figures.vector_ops:,}")
    Console().print(table)
    typer.echo(f"{figures.parameters:,} parameters, {figures.einsum_shapes} distinct loop nests")


def evaluate(
    workload: Annotated[str, typer.Option("--workload", "-w", help="Name or file.")],
    machine: Annotated[str, typer.Option("--machine", "-m", help="Name or file.")],
    batch: Annotated[int | None, typer.Option(min=1, help="Batch size.")] = None,
    effort: Annotated[
        str | None,
        typer.Option(
            help="How hard to look for mappings: fast (default), thorough, optimal. For language "
            "models on spatial engines: map every product instead of a roofline."
        ),
    ] = None,
    objective: Annotated[str, typer.Option(help="What mappings minimise.")] = "edp",
    density: Annotated[
        list[str] | None,
        typer.Option(
            help="Zeros of a role (weight, activation, input, output) or tensor (repeatable): "
            "NAME=0.3, NAME=2:4, 'NAME=structured 0.3'."
        ),
    ] = None,
    layers: Annotated[bool, typer.Option("--layers", help="Show every layer.")] = False,
    mappings: Annotated[
        bool, typer.Option("--mappings", help="Show the mapping of every layer as loops.")
    ] = False,
    phase: Annotated[str | None, typer.Option(help="Language models: prefill or decode.")] = None,
    context: Annotated[
        int | None, typer.Option(min=1, help="Language models: tokens in a request's cache.")
    ] = None,
    plan: PlanText = None,
    bits: Annotated[
        str | None,
        typer.Option(help="Language models: of weights, activations, cache: 8 or 4/16 or 4/16/8."),
    ] = None,
    request: Annotated[
        list[str] | None,
        typer.Option(
            help="Language models: requests beside the batch in the same step, "
            "NEW/CONTEXT or COUNTxNEW/CONTEXT (repeatable)."
        ),
    ] = None,
    change: Annotated[list[str] | None, SET] = None,
    as_json: Json = False,
) -> None:
    """Latency, energy, area and power of a network on a machine, with the reasons.

    With --phase, --context, --plan, --request or --bits the workload is a language model, served
    by the machine's devices together.

    `archsim evaluate -w resnet50 -m eyeriss --layers`

    `archsim evaluate -w llama-3-70b -m h100x8 --phase decode --context 4096 --plan tp8`
    """
    if phase or context or plan or request or bits:
        from archsim.cli.language import serve

        unused = {"--density": density, "--mappings": mappings}
        serve(
            workload, changed(machine, change), phase, batch, context, plan, request, effort, bits,
            unused, layers, as_json,
        )  # fmt: skip
        return
    from archsim.errors import InputError
    from archsim.system import evaluate as cost_of
    from archsim.workload import load_workload
    from archsim.workload.sparsity import prune

    network, chip = load_workload(workload, batch=batch), changed(machine, change)
    if density:
        network = prune(network, _rules(density))
    try:
        cost = cost_of(network, chip, effort=effort or "fast", objective=objective)
    except InputError as error:
        # Of what was read from a file, say which file.
        files = {chip.name: machine, network.name: workload}
        source = files.get(error.source or "", error.source)
        raise InputError(
            error.message,
            source=source,
            field=error.field,
            found=error.found,
            expected=error.expected,
        ) from None
    if density and cost.dense is None:
        typer.echo(f"note: {chip.name} does nothing about zeros", err=True)
    if as_json:
        print_json(cost.to_dict())
        return
    typer.echo(cost.explain())
    if layers:
        typer.echo(cost.table())
    if mappings:
        for layer in cost.layers:
            typer.echo(f"\n{layer.name}\n{layer.mapping}")


def list_(
    kind: Annotated[Kind, typer.Argument(help="What to list.")],
    as_json: Json = False,
) -> None:
    """List what ships: workloads, language models, machines, agents, scenarios or dataflows.

    Machines with a spatial engine take any network; the others serve language models.

    `archsim list machines`
    """
    from rich.console import Console
    from rich.table import Table

    headers, rows = _LISTS[kind]()
    if as_json:
        import json

        typer.echo(json.dumps([dict(zip(headers, row, strict=True)) for row in rows], indent=2))
        return
    table = Table(box=None, pad_edge=False)
    for header in headers:
        right = header in _NUMBERS
        table.add_column(header, justify="right" if right else "left", no_wrap=header == headers[0])
    for row in rows:
        table.add_row(*row)
    Console(soft_wrap=False).print(table)


_NUMBERS = (
    "MACs",
    "parameters",
    "active",
    "KB a cached token",
    "operations",
    "nm",
    "MAC units",
    "parameters to choose",
)
_Table = tuple[tuple[str, ...], Sequence[tuple[str, ...]]]


def _workloads() -> _Table:
    from archsim.workload import available_workloads, load_workload, summary

    rows = []
    for name in available_workloads():
        figures = summary(load_workload(name))
        count = sum(figures.operations.values())
        rows.append((name, f"{figures.macs:,}", f"{figures.parameters:,}", f"{count:,}"))
    return ("workload", "MACs", "parameters", "operations"), rows


def _language_models() -> _Table:
    from archsim.workload import available_models, load_model

    rows = []
    for name in available_models():
        model = load_model(name)
        cache = f"{model.kv_bytes_per_token() / 1e3:,.1f}"
        rows.append((name, f"{model.parameters:,}", f"{model.active_parameters:,}", cache))
    return ("model", "parameters", "active", "KB a cached token"), rows


def _machines() -> _Table:
    from archsim.hardware import available_machines, load_machine

    rows = []
    for name in available_machines():
        machine = load_machine(name)
        kinds = dict.fromkeys(engine.kind for engine in machine.engines)
        what = ", ".join(kind for kind in kinds if kind != "vector" or len(kinds) == 1)
        rows.append((name, what, f"{machine.technology_nm:g}", machine.title or ""))
    return ("machine", "engines", "nm", "title"), rows


def _agents() -> _Table:
    from archsim.agents import available_agents

    rows = [(info.name, info.needs or "-", info.summary) for info in available_agents()]
    return ("agent", "extra", "what it does"), rows


def _scenarios() -> _Table:
    from archsim.envs.scenario import available_scenarios, load_scenario

    rows = []
    for name in available_scenarios():
        scenario = load_scenario(name)
        rows.append((name, str(len(scenario.build_space().names)), scenario.title))
    return ("scenario", "parameters to choose", "title"), rows


def _dataflows() -> _Table:
    from archsim.hardware import DATAFLOWS

    return ("dataflow",), [(name,) for name in DATAFLOWS]


_LISTS = {
    Kind.WORKLOADS: _workloads,
    Kind.MODELS: _language_models,
    Kind.MACHINES: _machines,
    Kind.AGENTS: _agents,
    Kind.SCENARIOS: _scenarios,
    Kind.DATAFLOWS: _dataflows,
}
