"""``archsim pim products|kernel|dpu``: what memories that compute are, and kernels on them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from archsim.cli.output import Json, print_json, print_table

Vectors = Annotated[int, typer.Option("--m", min=1, help="Vectors (tokens).")]
Outputs = Annotated[int, typer.Option("--n", min=1, help="Outputs.")]
Elements = Annotated[int, typer.Option("--k", min=1, help="Elements of a vector.")]


def register(pim: typer.Typer) -> None:
    """Add the commands of this module."""
    for command in (products, kernel, dpu):
        pim.command()(command)


def products(as_json: Json = False) -> None:
    """Shipped memories that compute, with their peak figures.

    `archsim pim products`
    """
    from archsim.models.pim import available_products, load_product
    from archsim.models.pim.dpu import available_dpus, load_dpu

    found = [load_product(name) for name in available_products()]
    dpus = [load_dpu(name) for name in available_dpus()]
    if as_json:
        print_json([
            *({"name": p.name, "title": p.title, "level": p.units.level, "scale": p.scale,
               "bandwidth_bytes_per_s": p.bandwidth_bytes_per_s, "flops_per_s": p.flops_per_s,
               "read_pj_per_bit": p.energy.to_unit(p.units.level), "memory": p.memory}
              for p in found),
            *({"name": d.name, "title": d.title, "level": "processors",
               "bandwidth_bytes_per_s": d.dpus * d.mram_bytes_per_s} for d in dpus),
        ])  # fmt: skip
        return
    rows = [
        [p.name, p.units.level, f"{p.scale:.3g}x", f"{p.bandwidth_bytes_per_s / 1e12:.3g} TB/s",
         f"{p.flops_per_s / 1e12:.3g} TFLOPS", f"{p.energy.to_unit(p.units.level):.3g} pJ/b",
         f"{p.channels * p.stacks} x {p.memory}"]
        for p in found
    ]  # fmt: skip
    rows += [
        [d.name, "processors", "", f"{d.dpus * d.mram_bytes_per_s / 1e12:.3g} TB/s", "", "",
         f"{d.dpus:,} x {d.mram_bytes >> 20} MB (archsim pim dpu)"]
        for d in dpus
    ]  # fmt: skip
    heads = ["product", "level", "over pins", "inside", "peak", "to units", "channels"]
    print_table(heads, rows, "Memories that compute (in open rows)")


def kernel(
    product: Annotated[str, typer.Argument(help="Shipped product, or a file.")],
    m: Vectors = 1,
    n: Outputs = 4096,
    k: Elements = 4096,
    log: Annotated[
        Path | None, typer.Option("--log", help="CSV file for every command of a channel.")
    ] = None,
    as_json: Json = False,
) -> None:
    """A matrix product on a memory's units, command by command, beside its closed form.

    `archsim pim kernel hbm_pim --m 1 --n 4096 --k 4096 --log commands.csv`
    """
    from archsim.models.dram.checker import violations
    from archsim.models.dram.layout import COMMANDS
    from archsim.models.pim import closed_form, load_product, run_kernel

    found = load_product(product)
    done = run_kernel(found, m, n, k, log=log is not None)
    closed = closed_form(found, m, n, k)
    if log is not None and done.log is not None:
        lines = ["cycle,command,bank,row,line"]
        for cycle, command, *rest in done.log.tolist():
            lines.append(",".join([str(cycle), COMMANDS[command], *map(str, rest)]))
        log.write_text("\n".join(lines) + "\n")
    figures: dict[str, Any] = {
        "product": found.name,
        "cycles": done.cycles,
        "time_s": done.time_s,
        "closed_form_cycles": float(closed.cycles[0]),
        "bandwidth_bytes_per_s": done.bandwidth_bytes_per_s,
        "energy_j": done.energy_j,
        "energy_parts_j": done.energy_parts_j,
        "commands": {name: many for name, many in done.commands.items() if many},
        "cycles_by_cause": {name: float(v[0]) for name, v in closed.parts.items()},
    }
    if done.log is not None:
        figures["rules_broken"] = len(violations(found.spec, done.log))
    if as_json:
        print_json(figures)
        return
    size = f"{m} x {k} by {k} x {n}"
    off = closed.cycles[0] / done.cycles - 1.0
    typer.echo(f"{found.title}: {size}")
    typer.echo(f"{'time':16}{done.time_s * 1e6:,.3f} us   {done.cycles:,} cycles of a channel")
    typer.echo(f"{'closed form':16}{closed.cycles[0]:,.0f} cycles ({off:+.1%})")
    typer.echo(
        f"{'bandwidth':16}{done.bandwidth_bytes_per_s / 1e12:.3f} TB/s inside, of "
        f"{found.bandwidth_bytes_per_s / 1e12:.3f} in open rows"
    )
    for title, parts, total, unit, scale in (
        ("cycles by cause", figures["cycles_by_cause"], closed.cycles[0], "", 1.0),
        ("energy", done.energy_parts_j, done.energy_j, " uJ", 1e6),
    ):
        shown = [
            f"{name} {value * scale:,.3g}{unit} ({value / total:.0%})"
            for name, value in sorted(parts.items(), key=lambda part: -part[1])
            if value > 0
        ]
        typer.echo(f"{title:16}{', '.join(shown)}")
    commands = ", ".join(f"{name} {many:,}" for name, many in figures["commands"].items())
    typer.echo(f"{'commands':16}{commands}")
    if log is not None:
        typer.echo(f"wrote {log} ({figures['rules_broken']} rules of the memory broken)")


def dpu(
    system: Annotated[str, typer.Argument(help="System of DPUs, or a file.")] = "upmem",
    m: Vectors = 1,
    n: Outputs = 163840,
    k: Elements = 4096,
    dtype: Annotated[str, typer.Option(help="Number format.")] = "int8",
    as_json: Json = False,
) -> None:
    """A matrix product on processors at DRAM banks (UPMEM).

    `archsim pim dpu upmem --n 16384 --k 4096`
    """
    from archsim.models.pim.dpu import dpu_gemv, load_dpu

    found = load_dpu(system)
    cost = dpu_gemv(found, m, n, k, dtype)
    figures = {
        "time_s": float(cost.time_s[0]),
        "compute_s": float(cost.compute_s[0]),
        "copy_s": float(cost.copy_s[0]),
        "host_s": float(cost.host_s[0]),
        "energy_j": float(cost.energy_j[0]),
    }
    if as_json:
        print_json({"system": found.name, **figures})
        return
    typer.echo(f"{found.title}: {m} x {k} by {k} x {n}, {dtype}")
    for name in ("time_s", "compute_s", "copy_s", "host_s"):
        typer.echo(f"{name.removesuffix('_s'):10}{figures[name] * 1e3:,.4g} ms")
    typer.echo(f"{'energy':10}{figures['energy_j']:,.4g} J")
