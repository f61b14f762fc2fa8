"""``archsim experts`` and ``train``: compositions of experts, and training steps, on a machine."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

import typer

from archsim.cli.output import Json, print_json
from archsim.cli.plan import PlanText

Model = Annotated[str, typer.Option("--workload", "-w", help="Shipped model, or a config.json.")]
MachineName = Annotated[str, typer.Option("--machine", "-m", help="Name (sn40lx8) or file.")]
BitsText = Annotated[
    str | None, typer.Option("--bits", help="Of weights/activations/cache, e.g. 4/16/8 or 8.")
]


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    for command in (experts, train):
        app.command(rich_help_panel="Model")(command)


def experts(
    model: Model,
    machine: MachineName,
    count: Annotated[int, typer.Option("--experts", "-n", min=1, max=10_000_000, help="Experts.")],
    home: Annotated[str, typer.Option(help="Tier that holds all of them, e.g. ddr, host_dram.")],
    router: Annotated[str | None, typer.Option(help="The router's model; default -w.")] = None,
    plan: PlanText = None,
    batch: Annotated[int, typer.Option(min=1, help="Prompts the router reads at once.")] = 1,
    prompt: Annotated[int, typer.Option(min=1, help="Tokens of a prompt.")] = 4096,
    tokens: Annotated[int, typer.Option(min=1, help="Tokens answered to each.")] = 20,
    missing: Annotated[
        float | None,
        typer.Option(help="Share of prompts whose expert is not at hand; default from --skew."),
    ] = None,
    skew: Annotated[
        float, typer.Option(min=0, help="Exponent of how often experts are asked for (Zipf).")
    ] = 0.0,
    requests: Annotated[
        int | None,
        typer.Option(min=1, max=10_000_000, help="Walk so many drawn requests, not the long run."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of these requests.")] = 0,
    ahead: Annotated[
        bool, typer.Option("--ahead", help="Copy the next expert while one runs.")
    ] = False,
    pulling: Annotated[
        int | None, typer.Option(min=1, help="Devices whose links carry a copy; default all.")
    ] = None,
    router_tokens: Annotated[
        int, typer.Option(min=1, help="Tokens in which the router names an expert.")
    ] = 1,
    bits: BitsText = None,
    as_json: Json = False,
) -> None:
    """A router and many experts (whole models) in a large tier; those used last are at hand (LRU).

    `archsim experts -w llama-2-7b -m sn40lx8 -n 150 --home ddr --batch 8`
    """
    import numpy as np

    from archsim.cli.language import _bits
    from archsim.system.llm.composition import evaluate_experts, zipf_shares

    shares = zipf_shares(count, skew)
    drawn = None
    if requests is not None:
        drawn = np.random.default_rng(seed).choice(count, requests, p=shares).tolist()
    chip, laid = _machine_and_plan(machine, plan)
    cost = evaluate_experts(
        model, chip, experts=count, home=home, router=router, plan=laid, batch=batch,
        prompt=prompt, tokens=tokens, missing=missing, shares=shares, requests=drawn, ahead=ahead,
        pulling=pulling, router_tokens=router_tokens, bits=_bits(bits),
    )  # fmt: skip
    extra = {"latency_s": cost.latency_s, "fits": cost.fits, "spills": cost.spills,
             "parts_s": cost.parts_s(), "tokens_per_s": cost.tokens_per_s}  # fmt: skip
    _show(cost, extra, as_json)


def train(
    model: Model,
    machine: MachineName,
    batch: Annotated[int, typer.Option(min=1, help="Sequences of the whole machine.")],
    context: Annotated[int, typer.Option(min=1, help="Tokens of each.")] = 2048,
    plan: PlanText = None,
    zero: Annotated[int, typer.Option(min=0, max=3, help="Stage of ZeRO over dp groups.")] = 0,
    schedule: Annotated[str, typer.Option(help="Of pipeline stages: gpipe or 1f1b.")] = "1f1b",
    keep: Annotated[
        bool, typer.Option("--keep", help="Keep all activations, run nothing again.")
    ] = False,
    states: Annotated[
        str | None, typer.Option(help="Tier of the optimizer's states; the host updates them.")
    ] = None,
    resident: Annotated[
        float, typer.Option(help="Share of the states that stay on the devices (TwinFlow).")
    ] = 0.0,
    device_share: Annotated[
        float, typer.Option(help="Share of updates the devices make, fetching states.")
    ] = 0.0,
    blocking: Annotated[
        bool, typer.Option("--blocking", help="Wait for every copy of gradients to the host.")
    ] = False,
    activations: Annotated[
        str | None, typer.Option(help="Tier kept activations move to and from.")
    ] = None,
    serial: Annotated[
        bool, typer.Option("--serial", help="Nothing moves beside the passes.")
    ] = False,
    dual: Annotated[
        bool, typer.Option("--dual", help="Experts' exchange beside another micro-batch's work.")
    ] = False,
    bits: Annotated[
        str | None, typer.Option(help="Of weights and gradients/activations, e.g. 8/16 or 16.")
    ] = None,
    as_json: Json = False,
) -> None:
    """A training step: passes, update, and where weights, states and activations lie.

    `archsim train -w llama-2-7b -m h100x8 --batch 64 --plan dp8 --zero 3 --states host_dram`
    """
    from archsim.cli.language import _bits
    from archsim.errors import InputError
    from archsim.system.llm.training import evaluate_training
    from archsim.system.llm.training_setup import Training

    if bits is not None and bits.count("/") > 1:
        raise InputError("training keeps no cache", source="--bits", found=bits,
                         expected="8/16, of weights and activations")  # fmt: skip
    chip, laid = _machine_and_plan(machine, plan)
    how = Training(
        zero=zero, rematerialise=not keep, schedule=schedule, states=states,
        resident=resident, device_share=device_share, blocking=blocking, activations=activations,
        overlap=not serial, dual=dual,
    )  # fmt: skip
    cost = evaluate_training(
        model, chip, batch=batch, context=context, plan=laid, how=how, bits=_bits(bits)
    )
    extra = {"latency_s": cost.latency_s, "fits": cost.fits, "tokens_per_s": cost.tokens_per_s}
    _show(cost, extra, as_json)


def _machine_and_plan(machine: str, plan: str | None) -> tuple[Any, Any]:
    from archsim.hardware import load_machine
    from archsim.system.llm import Plan

    chip = load_machine(machine)
    return chip, Plan.parse(plan) if plan is not None else Plan(tensor=chip.instances())


def _show(cost: Any, extra: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json({**asdict(cost), **extra})
    else:
        typer.echo(cost.explain())
