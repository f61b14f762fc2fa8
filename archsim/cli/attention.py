"""``archsim attention``: generating with pruned attention on an attention engine."""

from __future__ import annotations

from typing import Annotated

import typer

from archsim.cli.output import Json, print_json


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command(rich_help_panel="Model")(attention)


def attention(
    setting: Annotated[str, typer.Argument(help="Shipped setting of what is pruned, or a file.")],
    machine: Annotated[
        str, typer.Option("--machine", "-m", help="Machine with an attention engine, or a file.")
    ] = "spatten",
    prompt: Annotated[int, typer.Option(help="Tokens of the prompt.")] = 992,
    tokens: Annotated[int, typer.Option(help="Tokens generated.")] = 32,
    batch: Annotated[int, typer.Option(help="Requests.")] = 1,
    as_json: Json = False,
) -> None:
    """Attention with tokens, heads, values and bits pruned (SpAtten), beside dense attention.

    `archsim attention spatten-gpt2 --prompt 992 --tokens 32`
    """
    from dataclasses import asdict

    from archsim.system.pruned_attention import generate
    from archsim.workload.pruning import load_pruning

    chosen = load_pruning(setting)
    size = {"prompt": prompt, "tokens": tokens, "batch": batch}
    pruned = generate(chosen, machine, **size)
    dense = generate(chosen.dense(), machine, **size)
    if as_json:
        figures = {"setting": setting, **size, "pruned": asdict(pruned), "dense": asdict(dense)}
        print_json(figures)
        return
    from archsim.system.report import quantity

    typer.echo(
        f"{pruned.model} on {pruned.machine}: attention of {tokens:,} tokens after {prompt:,}, "
        f"{batch:,} request{'s' if batch > 1 else ''}"
    )
    typer.echo(f"{'':26}{'pruned':>12}{'dense':>12}{'gain':>9}")
    for name, unit, field in (
        ("time", "s", "latency_s"),
        ("energy", "J", "energy_j"),
        ("keys and values read", "B", "cache_bytes"),
        ("multiply-accumulates", "", "macs"),
    ):
        ours, whole = getattr(pruned, field), getattr(dense, field)
        shown = f"{quantity(ours, unit):>12}{quantity(whole, unit):>12}{whole / ours:>8.2f}x"
        typer.echo(f"{name:26}{shown}")
    typer.echo(
        f"of the tokens in context, keys of {pruned.key_share:.1%} and values of "
        f"{pruned.value_share:.1%} are read, in {pruned.head_share:.0%} of the heads"
    )
    for word, cost in (("pruned", pruned), ("dense", dense)):
        limits = sorted(cost.bound_s.items(), key=lambda item: -item[1])
        shares = ", ".join(f"{name} {time / cost.latency_s:.0%}" for name, time in limits)
        parts = sorted(cost.energy_by_part_j.items(), key=lambda item: -item[1])
        energy = ", ".join(f"{name} {part / cost.energy_j:.0%}" for name, part in parts if part)
        typer.echo(f"{word}: busiest {shares}; energy {energy}")
