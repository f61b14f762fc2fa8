"""``archsim workload``: a language model at one step, in figures and operations."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from archsim.cli.output import Json, print_json

if TYPE_CHECKING:
    from archsim.hardware import Machine

Phase = Annotated[str, typer.Option(help="prefill or decode.")]
Context = Annotated[int, typer.Option(min=1, help="Tokens in each request's cache after the step.")]
New = Annotated[
    int | None,
    typer.Option(min=1, help="New tokens a request; default all (prefill) or one (decode)."),
]
Mixed = Annotated[
    list[str] | None,
    typer.Option(
        "--request",
        help="NEW/CONTEXT or COUNTxNEW/CONTEXT (repeatable), for mixed steps; replaces the above.",
    ),
]
WeightBits = Annotated[float, typer.Option(help="Bits of a weight.")]
ActivationBits = Annotated[float, typer.Option(help="Bits of an activation.")]
KvBits = Annotated[float, typer.Option(help="Bits of a cached element.")]
Skew = Annotated[
    float, typer.Option(min=0, help="Exponent of the experts' load (Zipf); 0 is balanced.")
]
Latent = Annotated[str, typer.Option(help="Latent attention: auto, absorbed or unabsorbed.")]


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command(rich_help_panel="Model")(workload)


def workload(
    model: Annotated[str, typer.Argument(help="Shipped model, or a config.json.")],
    phase: Phase = "decode",
    batch: Annotated[int, typer.Option(min=1, help="Requests.")] = 1,
    context: Context = 4096,
    new: New = None,
    request: Mixed = None,
    weight_bits: WeightBits = 16,
    activation_bits: ActivationBits = 16,
    kv_bits: KvBits = 16,
    skew: Skew = 0.0,
    latent: Latent = "auto",
    operations: Annotated[
        bool, typer.Option("--operations", help="Show every operation of every distinct layer.")
    ] = False,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Workload file to write (.yaml).")
    ] = None,
    as_json: Json = False,
) -> None:
    """A language model's parameters, operations and cache, at one step of serving it.

    `archsim workload llama-3-8b --phase decode --batch 8 --operations`
    """
    from archsim.workload import Bits, Routing, load_model, save_workload
    from archsim.workload.language import model_summary
    from archsim.workload.steps import requests_of

    found = load_model(model)
    if found.image_tokens:
        phase, context = "prefill", found.image_tokens
    elif not found.architecture.causal:
        phase = "prefill"
    requests = tuple(_request(text) for text in request or ())
    requests = requests or requests_of(phase, batch, context, new)
    options: dict[str, Any] = {
        "bits": Bits(weight_bits, activation_bits, kv_bits),
        "routing": Routing("zipf", skew) if skew else Routing(),
        "latent": latent,
    }
    figures = model_summary(found, requests, **options)
    if as_json:
        from dataclasses import asdict

        print_json(asdict(figures))
    else:
        _show(found, figures, requests)
    if operations or out is not None:
        step = found.step(requests, **options)
        if operations:
            _show_operations(step)
        if out is not None:
            save_workload(step, out)
            typer.echo(f"wrote {out}")


def serve(
    model: str,
    chip: Machine,
    phase: str | None,
    batch: int | None,
    context: int | None,
    plan: str | None,
    beside: list[str] | None,
    effort: str | None,
    bits: str | None,
    unused: dict[str, Any],
    calls: bool,
    as_json: bool,
) -> None:
    """One step of a language model on a machine's devices (`archsim evaluate`)."""
    from archsim.errors import InputError
    from archsim.hardware.carbon import ownership
    from archsim.system.llm import Plan, Share, evaluate_step
    from archsim.system.llm.advice import savings
    from archsim.workload import load_model

    for option, value in unused.items():
        if value:
            raise InputError(f"{option} does not go with a step of a language model")
    found = load_model(model)
    if phase is None:
        phase = "decode" if found.architecture.causal else "prefill"
    step: dict[str, Any] = {
        "phase": phase,
        "batch": batch or 1,
        "context": found.image_tokens or context or 4096,
        "plan": Plan.parse(plan) if plan else Plan(tensor=chip.instances()),
        "beside": [Share(r.count, r.new, r.context) for r in map(_request, beside or ())],
        "bits": _bits(bits),
    }
    cost = evaluate_step(found, chip, effort=effort, **step)
    owned = ownership(chip, float(cost.power_w[0]))
    paid = {
        "dollars_per_hour": float(owned.usd_per_s[0]) * 3600.0,
        "dollars_per_mtoken": float(owned.usd_per_s[0] / cost.tokens_per_s[0]) * 1e6,
        "carbon_g_per_mtoken": float(owned.kg_co2e_per_s[0] / cost.tokens_per_s[0]) * 1e9,
    }
    # mapping every product anew for each change would take minutes
    saved = {} if effort else savings(found, chip, **step)
    if as_json:
        data = {**cost.to_dict(), **paid, "savings_of_10_percent": saved}
        print_json(data)
        return
    typer.echo(cost.explain())
    if owned.price_usd[0] > 0:
        typer.echo(
            f"{'cost':24}{paid['dollars_per_hour']:,.2f} $/h, "
            f"{paid['dollars_per_mtoken']:,.3g} $ and "
            f"{paid['carbon_g_per_mtoken'] / 1e3:,.3g} kg CO2e a million tokens"
        )
    shown = [f"{name} -{share:.1%}" for name, share in saved.items() if share >= 5e-4]
    if not effort:
        typer.echo(f"{'with 10 % better':24}{', '.join(shown[:6]) or 'nothing saves time'}")
    if calls:
        for name, seconds in sorted(cost.calls_s.items(), key=lambda call: -call[1][0]):
            typer.echo(f"  {name:28}{seconds[0] * 1e6:12,.1f} us")


def _bits(text: str | None) -> Any:
    """Bits of weights, activations and cache; one number is all of them."""
    import re

    from archsim.errors import InputError
    from archsim.workload import Bits

    if text is None:
        return None
    if re.fullmatch(r"\d{1,4}(\.\d{1,6})?(/\d{1,4}(\.\d{1,6})?){0,2}", text) is None:
        raise InputError("cannot read the bits", source="--bits", found=text, expected="4/16/8")
    each = [float(part) for part in text.split("/")]
    return Bits(each[0], each[1] if len(each) > 1 else each[0], each[-1])


def _request(text: str) -> Any:
    import re

    from archsim.errors import InputError
    from archsim.workload import Request

    match = re.fullmatch(r"(?:([1-9]\d{0,8})x)?([1-9]\d{0,11})/([1-9]\d{0,11})", text)
    if match is None:
        raise InputError(
            "cannot read the request",
            source="--request",
            found=text,
            expected="NEW/CONTEXT or COUNTxNEW/CONTEXT",
        )
    return Request(int(match[2]), int(match[3]), int(match[1] or 1))


def _show(model: Any, figures: Any, requests: Any) -> None:
    from rich.console import Console
    from rich.table import Table

    said = ", ".join(f"{r.count} x {r.new:,} new of {r.context:,}" for r in requests)
    table = Table(title=f"{model.name}: {said}", title_justify="left", box=None, pad_edge=False)
    table.add_column("")
    table.add_column("", justify="right")
    table.add_column("published", justify="right")
    rows: list[tuple[str, str, str]] = [
        ("parameters", f"{figures.parameters:,}", "parameters"),
        ("active for a token", f"{figures.active_parameters:,}", "active_parameters"),
        ("cache of a token", f"{figures.kv_bytes_per_token / 1e3:,.3f} KB", "kv_bytes_per_token"),
    ]
    if figures.state_bytes_per_request:
        state = f"{figures.state_bytes_per_request / 1e6:,.3f} MB"
        rows.append(("state of a request", state, ""))
    rows += [
        ("layers (distinct)", f"{figures.layers} ({figures.distinct_layers})", ""),
        ("new tokens", f"{figures.tokens:,}", ""),
        ("operations a token", f"{figures.flops_per_token / 1e9:,.3f} GFLOP", ""),
        ("operations of the step", f"{figures.flops / 1e12:,.3f} TFLOP", ""),
        ("weights", f"{figures.weight_bytes / 1e9:,.3f} GB", ""),
        ("caches", f"{figures.cache_bytes / 1e9:,.3f} GB", ""),
    ]
    for label, value, key in rows:
        published = model.published.get(key)
        if published is None:
            shown = ""
        elif key == "kv_bytes_per_token":
            shown = f"{published / 1e3:,.3f} KB"
        else:
            shown = f"{published:,.0f}"
        table.add_row(label, value, shown)
    Console().print(table)
    if model.source:
        typer.echo(f"source: {model.source}")


def _show_operations(step: Any) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for column in ("operation", "kind"):
        table.add_column(column, no_wrap=True)
    for column in ("times", "shape", "MACs", "scalar operations"):
        table.add_column(column, justify="right")
    for op in step.operations:
        if op.view:
            continue
        shape = " ".join(f"{d}{e}" for d, e in op.einsum.dims if e > 1) if op.einsum else ""
        table.add_row(
            op.name,
            op.kind,
            str(step.copies[op.name]),
            shape,
            f"{op.macs:,}" if op.macs else "",
            f"{op.vector_ops:,}" if op.vector_ops else "",
        )
    Console(width=160).print(table)
