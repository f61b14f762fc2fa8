"""``archsim show``: what a machine, scenario, workload or agent is made of, and its file."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from archsim.cli.output import Json


class Shown(enum.StrEnum):
    """What can be shown."""

    MACHINE = "machine"
    SCENARIO = "scenario"
    WORKLOAD = "workload"
    AGENT = "agent"


def register(app: typer.Typer) -> None:
    """Add the command of this module."""
    app.command(rich_help_panel="Model")(show)


def show(
    kind: Annotated[Shown, typer.Argument(help="What to show.")],
    name: Annotated[str, typer.Argument(help="Name or file.")],
    paths: Annotated[
        bool,
        typer.Option(
            "--paths", help="Machines: every field a scenario may change, with its range."
        ),
    ] = False,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Copy the file here, to start your own.")
    ] = None,
    as_json: Json = False,
) -> None:
    """What something that ships is made of; `-o FILE` copies its file, to start your own from.

    Machines: energies, areas and bandwidths of every level, as the component library makes them.
    Scenarios: parameters and goals. Agents: options, as `--agent NAME,option=value` takes them.

    `archsim show machine eyeriss`, `archsim show machine tiny -o mine.yaml`
    """
    from archsim.errors import InputError

    if paths and kind is not Shown.MACHINE:
        raise InputError("only machines have paths", source="--paths", found=str(kind))
    if out is not None:
        text, ending = _source(kind, name)
        if out.exists():
            raise InputError("there is already a file of this name", source=out)
        if out.suffix != ending:
            raise InputError("not a name of such a file", found=str(out), expected=f"*{ending}")
        out.write_text(text, encoding="utf-8")
        typer.echo(f"wrote {out}")
        return
    tables = _paths(name) if paths else _SHOWN[kind](name)
    if as_json:
        import json

        data = [
            {"title": t.title, "rows": [dict(zip(t.heads, row, strict=True)) for row in t.rows]}
            for t in tables
        ]
        typer.echo(json.dumps(data, indent=2, allow_nan=False, default=str))
        return
    for table in tables:
        table.print()


class _Table:
    """A titled table; numbers are SI in JSON and written with a prefix on a terminal."""

    def __init__(self, title: str, heads: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        self.title, self.heads, self.rows = title, heads, rows

    def print(self) -> None:
        from rich.console import Console
        from rich.table import Table

        console = Console(highlight=False)
        if not console.is_terminal:
            console.width = 120
        table = Table(title=self.title, title_justify="left", box=None, pad_edge=False)
        for place, head in enumerate(self.heads):
            cells = [row[place] for row in self.rows if row[place] is not None]
            numbers = place and cells and all(isinstance(cell, (int, float)) for cell in cells)
            base, _, unit = head.partition(" [")
            table.add_column(
                base if unit else head,
                justify="right" if numbers else "left",
                no_wrap=not place,
                overflow="fold",
            )
        for row in self.rows:
            table.add_row(*(_cell(h, v) for h, v in zip(self.heads, row, strict=True)))
        console.print(table)
        console.print()


def _cell(head: str, value: Any) -> str:
    from archsim.system.report import quantity

    unit = head.partition(" [")[2].rstrip("]")
    if value is None or value == "":
        return ""
    if unit and isinstance(value, (int, float)):
        return f"{value:.3g} mm2" if unit == "mm2" else quantity(value, unit)
    if isinstance(value, float):
        return f"{value:.{10 if value.is_integer() else 4}g}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def _source(kind: Shown, name: str) -> tuple[str, str]:
    """Text of the file behind a name, and the ending such files have."""
    from archsim.inputs import read_text

    if kind is Shown.AGENT:
        import inspect

        from archsim.agents import load_agent

        return read_text(inspect.getfile(load_agent(name))), ".py"
    if kind is Shown.MACHINE:
        from archsim.hardware.machine import MACHINES, load_machine

        load_machine(name)  # says what is wrong with it
        shipped = MACHINES / f"{_base(name)}.yaml"
    elif kind is Shown.SCENARIO:
        from archsim.envs.scenario import SCENARIOS, load_scenario

        load_scenario(name)
        shipped = SCENARIOS / f"{name}.yaml"
    else:
        from archsim.workload import load_workload
        from archsim.workload.library import shipped_folder

        load_workload(name)
        shipped = shipped_folder() / f"{name}.yaml"
    own = Path(name).suffix in (".yaml", ".yml")
    return read_text(name if own else shipped), ".yaml"


def _base(name: str) -> str:
    """The shipped machine that ``h100x8`` are eight of."""
    import re

    from archsim.hardware import available_machines

    return name if name in available_machines() else re.sub(r"x\d+$", "", name)


def _machine(name: str) -> list[_Table]:
    from archsim.hardware import load_machine

    machine = load_machine(name)
    engines = [
        (e.name, e.kind, getattr(e, "dataflow", None) or "", getattr(e, "backing", ""))
        for e in machine.engines
    ]
    head = f"{machine.name}: {machine.title} ({machine.technology_nm:g} nm, "
    tables = [
        _Table(
            f"{head}{machine.clock_hz / 1e6:g} MHz)",
            ("engine", "kind", "dataflow", "operands from"),
            engines,
        )
    ]
    if any(e.kind == "spatial" for e in machine.engines) and machine.instances() == 1:
        return [*tables, *_levels(machine)]
    rows = [
        (leaf.path, leaf.value, leaf.description)
        for leaf in machine.leaves().values()
        if leaf.path.split(".")[0] in ("groups", "tiers", "links") and leaf.value is not None
    ]
    return [*tables, _Table("groups, tiers and links", ("field", "value", "what it is"), rows)]


def _levels(machine: Any) -> list[_Table]:
    """Levels of a spatial engine, outer to inner, as resolved from the component library."""
    import numpy as np

    from archsim.hardware import resolve

    table = resolve(machine)
    rows = []
    for at, name in enumerate(table.names):
        fanout = bool(table.spatial[at])
        word = table.block_bits[0, at]
        limit = min(c[0, at] for c in (table.read_bits_per_cycle, table.shared_bits_per_cycle))
        capacity = table.capacity_bits[0, at] / 8
        rows.append(
            (
                name,
                f"{int(table.fanout[0, at])} along {table.axis[at]}" if fanout else "",
                "" if fanout else _held(table.keeps[at]),
                int(table.instances[0, at]),
                None if fanout or not np.isfinite(capacity) else float(capacity),
                None if fanout else int(word),
                None if fanout else float(table.read_energy_j[0, at]),
                None if fanout else float(table.write_energy_j[0, at]),
                None if not np.isfinite(limit) or fanout else float(limit / 8),
                float(table.area_mm2[name][0]) if name in table.area_mm2 else None,
            )
        )
    heads = (
        "level", "fanout", "keeps", "instances", "capacity [B]", "bits", "read [J]",
        "write [J]", "B a cycle", "area [mm2]",
    )  # fmt: skip
    others = [
        ("MAC", int(table.macs[0]), float(table.mac_energy_j[0]), float(table.area_mm2["mac"][0])),
        ("vector lane", int(table.vector_lanes[0]), float(table.vector_op_energy_j[0]),
         float(table.area_mm2["simd"][0])),
    ]  # fmt: skip
    area = [
        (part, None, None, float(table.area_mm2[part][0]))
        for part in ("network", "dram_phy", "overhead")
    ]
    whole = ("all", None, None, float(table.total_area_mm2[0]))
    return [
        _Table("levels, outer to inner; energies an access, areas of all instances", heads, rows),
        _Table("", ("unit", "instances", "operation [J]", "area [mm2]"), [*others, *area, whole]),
    ]


def _held(keeps: Any) -> str:
    from archsim.hardware import ROLES

    held = [role for role, kept in zip(ROLES, keeps, strict=True) if kept]
    return "all" if len(held) == len(ROLES) else ", ".join(held)


def _paths(name: str) -> list[_Table]:
    from archsim.hardware import load_machine

    rows = []
    for leaf in load_machine(name).leaves().values():
        legal = ", ".join(leaf.choices)
        if not legal and leaf.minimum is not None and leaf.maximum is not None:
            legal = f"{leaf.minimum:g} to {leaf.maximum:g}"
        value = "derived" if leaf.value is None else _cell("", leaf.value)
        rows.append((leaf.path, value, legal, leaf.description))
    return [_Fields(f"{name}: fields", ("path", "value", "may be", "what it is"), rows)]


class _Fields(_Table):
    """Paths are long: each has a line of its own."""

    def print(self) -> None:
        for path, value, legal, what in self.rows:
            typer.echo(f"{path} = {value}")
            typer.echo(f"    {what}" + (f" ({legal})" if legal else ""))


def _scenario(name: str) -> list[_Table]:
    from archsim.envs.scenario import load_scenario

    spec = load_scenario(name)
    space = spec.build_space()
    parameters = []
    for one in space.parameters:
        values = [f"{v:g}" if isinstance(v, float) else str(v) for v in one.values[:9]]
        more = " ..." if one.cardinality > 9 else ""
        parameters.append((one.name, one.cardinality, one.role, ", ".join(values) + more))
    size = f"{space.size:,}" if space.size < 1e9 else f"{space.size:.3g}"
    goals = [("minimise", metric, "") for metric in spec.objective.minimize]
    goals += [("limit", metric, f"{bound:g}") for metric, bound in spec.objective.limits.items()]
    goals += [("constraint", text, "") for text in spec.constraints]
    agents = ", ".join(agent.name for agent in spec.run.agents)
    goals.append(("agents", agents, f"{spec.run.seeds} seeds x {spec.run.budget:,} evaluations"))
    return [
        _Table(
            f"{spec.name}: {spec.title} ({size} designs)",
            ("parameter", "values", "role", "which"),
            parameters,
        ),
        _Table("", ("", "what", ""), goals),
    ]


def _workload(name: str) -> list[_Table]:
    from archsim.workload import load_workload

    network = load_workload(name)
    rows = []
    for op in network.operations:
        if op.view:
            continue
        sizes = " ".join(f"{d}{e}" for d, e in op.einsum.dims if e > 1) if op.einsum else ""
        rows.append((op.name, op.kind, network.copies.get(op.name, 1), sizes, op.macs))
    heads = ("operation", "kind", "times", "loop bounds", "MACs")
    return [_Table(f"{network.name} (batch {network.batch or '-'})", heads, rows)]


def _agent(name: str) -> list[_Table]:
    import dataclasses

    from archsim.agents import load_agent
    from archsim.agents.options import options_class

    agent = load_agent(name)
    options = options_class(agent)
    rows = [
        (field.name, repr(field.default), _range(field.metadata), field.metadata.get("help", ""))
        for field in (dataclasses.fields(options) if options else ())
    ]
    summary = (agent.__doc__ or "").strip().splitlines() or [""]
    return [_Table(f"{name}: {summary[0]}", ("option", "default", "may be", "what it does"), rows)]


def _range(metadata: Any) -> str:
    low, high = metadata.get("low"), metadata.get("high")
    if metadata.get("choices"):
        return ", ".join(map(str, metadata["choices"]))
    if low is not None and high is not None:
        return f"{low:g} to {high:g}"
    return f"at least {low:g}" if low is not None else "" if high is None else f"at most {high:g}"


_SHOWN = {
    Shown.MACHINE: _machine,
    Shown.SCENARIO: _scenario,
    Shown.WORKLOAD: _workload,
    Shown.AGENT: _agent,
}
