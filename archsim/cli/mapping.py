"""``archsim map`` and ``bound``: the best mapping of one operation, and the least traffic."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any

import typer

from archsim.cli.output import Json, print_json

OPERATION = (
    "An operation: gemm:ROWSxINNERxCOLUMNS, conv:M=128,C=128,P=28,Q=28,R=3,S=3 "
    "(also N, G, stride, dilation), or WORKLOAD:OPERATION."
)


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command("map", rich_help_panel="Model")(map_)
    app.command(rich_help_panel="Model")(bound)


def map_(
    operation: Annotated[str, typer.Argument(help=OPERATION)],
    machine: Annotated[str, typer.Option("--machine", "-m", help="Name or file.")],
    objective: Annotated[
        str,
        typer.Option(help="energy, latency, edp, pareto, or weights: energy=1,latency=0.5."),
    ] = "edp",
    constraints: Annotated[Path | None, typer.Option(help="Limits of the mapspace (YAML).")] = None,
    time_limit: Annotated[
        float, typer.Option(help="CPU seconds after which the best found and a bound stand.")
    ] = 120.0,
    nodes: Annotated[float, typer.Option(help="Search nodes, likewise.")] = 1e12,
    cache: Annotated[bool, typer.Option(help="Use answers known already.")] = True,
    as_json: Json = False,
) -> None:
    """The best mapping of an operation on a machine, with a certificate that it is.

    `archsim map gemm:256x256x256 -m eyeriss --objective energy`
    """
    from archsim.models.loopnest.optimal.api import map_operation

    result = map_operation(
        read_operation(operation), machine, _objective(objective), constraints=constraints,
        time_limit_s=time_limit, node_limit=nodes, use_cache=cache,
    )  # fmt: skip
    if as_json:
        print_json(result.to_dict())
    else:
        typer.echo(result.explain())
    if result.best is None:
        raise typer.Exit(1)


def bound(
    operation: Annotated[str, typer.Argument(help=OPERATION)],
    bits: Annotated[str, typer.Option(help="Widths of input, weight, output words.")] = "8,8,8",
    size: Annotated[
        list[float] | None, typer.Option(help="Buffer size in bytes to answer for (repeatable).")
    ] = None,
    plot: Annotated[Path | None, typer.Option(help="Write the curve as a picture.")] = None,
    as_json: Json = False,
) -> None:
    """The least traffic between memory and one buffer, by buffer size, whatever the mapping.

    `archsim bound conv:M=128,C=128,P=28,Q=28,R=3,S=3 --size 65536`
    """
    from archsim.errors import InputError
    from archsim.models.loopnest.optimal.bound import traffic_bound

    try:
        widths = tuple(float(x) for x in bits.split(","))
    except ValueError:
        raise InputError("cannot read the widths", source="--bits", found=bits) from None
    curve = traffic_bound(read_operation(operation), widths)  # type: ignore[arg-type]
    if as_json:
        import json

        data = {
            "buffer_bytes": curve.buffer_bytes.tolist(),
            "traffic_bytes": curve.traffic_bytes.tolist(),
            "compulsory_bytes": curve.compulsory_bytes,
        }
        typer.echo(json.dumps(data, allow_nan=False))
    elif size:
        for one in size:
            typer.echo(f"{one:,.0f} bytes: at least {curve.at(one):,.0f} bytes moved")
    else:
        typer.echo(curve.table())
        typer.echo(f"every word once: {curve.compulsory_bytes:,.0f} bytes")
    if plot:
        try:
            curve.plot(str(plot))
        except (OSError, ValueError) as error:
            raise InputError(f"cannot write the picture: {error}", source=plot) from None
        typer.echo(f"wrote {plot}")


def _objective(text: str) -> Any:
    from archsim.errors import InputError

    if "=" not in text:
        return text
    weights = {}
    for part in text.split(","):
        name, _, number = part.partition("=")
        try:
            weights[name.strip()] = float(number)
        except ValueError:
            raise InputError(
                "cannot read the weights", source="--objective", found=text,
                expected="energy=1,latency=0.5",
            ) from None  # fmt: skip
    return weights


def read_operation(text: str) -> Any:
    """The loop nest a text stands for, see ``OPERATION``.

    Examples:
        >>> read_operation("gemm:4x8x16").macs
        512
    """
    from archsim.errors import InputError
    from archsim.workload import load_workload

    kind, colon, rest = text.rpartition(":")
    if colon and kind == "gemm":
        return _gemm(text, rest)
    if colon and kind == "conv":
        return _conv(text, rest)
    if not colon:
        raise InputError("cannot read the operation", found=text, expected=OPERATION)
    workload = load_workload(kind)
    for operation in workload.operations:
        if operation.name == rest:
            return operation
    names = [op.name for op in workload.operations if op.einsum is not None]
    raise InputError(
        "no such operation", source=kind, found=rest,
        expected=f"one of {', '.join(names[:12])}{' ...' if len(names) > 12 else ''}",
    )  # fmt: skip


def _gemm(text: str, rest: str) -> Any:
    from archsim.errors import InputError
    from archsim.workload.graph import matmul_einsum

    if not re.fullmatch(r"[1-9]\d{0,9}x[1-9]\d{0,9}x[1-9]\d{0,9}", rest):
        raise InputError("cannot read the operation", found=text, expected="gemm:16x32x64")
    rows, inner, columns = (int(x) for x in rest.split("x"))
    return matmul_einsum("input", "weight", "output", rows=rows, inner=inner, columns=columns)


def _conv(text: str, rest: str) -> Any:
    from archsim.errors import InputError
    from archsim.workload.graph import conv2d_einsum

    sizes = dict.fromkeys(("N", "G", "M", "C", "P", "Q", "R", "S", "stride", "dilation"), 1)
    for part in rest.split(","):
        name, _, number = part.partition("=")
        if name not in sizes or not re.fullmatch(r"[1-9]\d{0,9}", number):
            raise InputError(
                "cannot read the operation", found=part, expected=f"{'=, '.join(sizes)}="
            )
        sizes[name] = int(number)
    return conv2d_einsum(
        "input", "weight", "output", batch=sizes["N"], groups=sizes["G"],
        out_channels=sizes["M"] * sizes["G"], in_channels=sizes["C"] * sizes["G"],
        out_size=(sizes["P"], sizes["Q"]), kernel=(sizes["R"], sizes["S"]),
        stride=(sizes["stride"],) * 2, dilation=(sizes["dilation"],) * 2,
    )  # fmt: skip
