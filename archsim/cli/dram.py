"""``archsim dram``: one trace on one memory under one controller, command by command."""

from __future__ import annotations

import enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from archsim.cli.output import Json, print_json

if TYPE_CHECKING:
    from archsim.models.dram.policy import Controller
    from archsim.models.dram.simulate import DramResult


class Kind(enum.StrEnum):
    """Whose controller."""

    DRAMSYS = "dramsys"
    DRAMSIM3 = "dramsim3"
    RAMULATOR = "ramulator"


def register(app: typer.Typer) -> None:
    """Add the command of this module."""
    app.command(rich_help_panel="Model")(dram)


def dram(
    memory: Annotated[
        str | None, typer.Argument(help="Preset or YAML file; lists the presets when left out.")
    ] = None,
    trace: Annotated[
        Path | None,
        typer.Option("--trace", "-t", help="File of DRAMSys (ArchGym), DRAMsim3 or Ramulator."),
    ] = None,
    form: Annotated[
        str, typer.Option("--format", help="dramsys, dramsim3, ramulator, addresses or auto.")
    ] = "auto",
    pattern: Annotated[
        str | None, typer.Option(help="Without a file: stream, random, mixed, strided, cloud...")
    ] = None,
    requests: Annotated[int | None, typer.Option(help="Of a pattern; 10,000 by default.")] = None,
    seed: Annotated[int | None, typer.Option(help="Of a pattern.")] = None,
    write_share: Annotated[float | None, typer.Option(help="Of a pattern.")] = None,
    gap: Annotated[int, typer.Option(help="Cycles between arrivals, where the file has none.")] = 1,
    wrap: Annotated[bool, typer.Option("--wrap", help="Addresses modulo the memory.")] = False,
    controller: Annotated[Kind, typer.Option(help="Whose controller.")] = Kind.DRAMSYS,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="A setting of it, as in page=Closed.")
    ] = None,
    log: Annotated[Path | None, typer.Option(help="CSV file for every command.")] = None,
    as_json: Json = False,
) -> None:
    """A trace on a memory, command by command: time, latency, bandwidth, row hits, energy.

    `archsim dram ddr4_2400_4gb_x8 --pattern random`,
    `archsim dram mine.yaml -t requests.stl --set page=Closed --set depth=16`
    """
    from archsim.models.dram.spec import load_spec, presets

    if memory is None:
        typer.echo("\n".join(presets()))
        return
    from archsim.envs.dram_traces import TraceSpec
    from archsim.inputs import validate
    from archsim.models.dram.simulate import simulate

    spec = load_spec(memory)
    given = {"pattern": pattern, "requests": requests, "seed": seed, "write_share": write_share}
    if trace is not None:
        given |= {"file": str(trace), "format": form, "wrap": wrap}
    elif pattern is None:
        given["pattern"] = "stream"
    known = {name: value for name, value in given.items() if value is not None}
    asked = validate(known | {"gap": gap}, TraceSpec, "command line").build(spec)
    done = simulate(spec, asked, _controller(controller, settings or []), log=log is not None)
    if log is not None:
        _write(log, done)
    figures: dict[str, Any] = {"memory": spec.name, "trace": asked.name, "requests": len(asked)}
    figures |= _figures(done)
    if as_json:
        print_json(figures)
        return
    typer.echo(f"{asked.name} ({len(asked):,} requests) on {spec.name}")
    for words, name, scale, unit in (
        ("time", "time_s", 1e6, "us"), ("latency", "latency_s", 1e9, "ns, mean of the reads"),
        ("bandwidth", "bandwidth_bytes_per_s", 1e-9, "GB/s"),
        ("row hits", "row_hit_rate", 100.0, "%"),
        ("energy", "energy_j", 1e6, "uJ"), ("power", "power_w", 1.0, "W"),
    ):  # fmt: skip
        if figures[name] is not None:
            typer.echo(f"{words:12}{figures[name] * scale:,.4g} {unit}")
    issued = ", ".join(f"{name} {many:,}" for name, many in figures["commands"].items())
    typer.echo(f"{'commands':12}{issued}")
    if log is not None:
        typer.echo(f"wrote {log}")


def _controller(kind: Kind, settings: list[str]) -> Controller:
    """Settings of a controller from ``name=value``.

    Raises:
        InputError: No such setting or value.
    """
    from archsim.errors import InputError
    from archsim.inputs import parse_yaml, validate
    from archsim.models.dram.policy import DRAMsim3Policy, Policy, RamulatorPolicy

    model: Any = {"dramsys": Policy, "dramsim3": DRAMsim3Policy, "ramulator": RamulatorPolicy}[kind]
    values: dict[str, Any] = {}
    for setting in settings:
        name, equals, value = setting.partition("=")
        if not equals:
            raise InputError("not a setting", field="--set", found=setting, expected="name=value")
        values[name] = value if name == "dramsys" else parse_yaml(value, "--set")
    return validate(values, model, "--set")


def _figures(done: DramResult) -> dict[str, Any]:
    """Figures of a simulation; energy and power are None where the memory has none."""
    known = bool(done.energy_parts_j)
    return {
        "cycles": done.cycles,
        "time_s": done.time_s,
        "latency_s": done.latency_s,
        "bandwidth_bytes_per_s": done.bandwidth_bytes_per_s,
        "row_hit_rate": done.row_hits / (done.reads + done.writes),
        "energy_j": done.energy_j if known else None,
        "power_w": done.power_w if known else None,
        "energy_parts_j": done.energy_parts_j,
        "commands": {name: many for name, many in done.commands.items() if many},
    }


def _write(path: Path, done: DramResult) -> None:
    from archsim.models.dram.layout import COMMANDS

    lines = ["channel,cycle,command,bank,row,request"]
    for channel, log in enumerate(done.log):
        for cycle, command, *rest in log.tolist():
            lines.append(",".join([str(channel), str(cycle), COMMANDS[command], *map(str, rest)]))
    path.write_text("\n".join(lines) + "\n")
