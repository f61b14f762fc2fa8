"""``archsim pim``: memories that compute, from single kernels to whole models."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from archsim.cli import pim_kernels
from archsim.cli.output import Json, print_json, print_table
from archsim.cli.plan import PlanText

pim = typer.Typer(
    name="pim",
    help="Memories that compute: kernels at command level, what runs where, what it costs.",
    no_args_is_help=True,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Workload = Annotated[str, typer.Option("--workload", "-w", help="Language model.")]
MachineName = Annotated[str, typer.Option("--machine", "-m", help="Machine with a pim engine.")]
Batches = Annotated[str, typer.Option(help="Batches, joined by commas.")]
Contexts = Annotated[str, typer.Option(help="Tokens of context, joined by commas.")]
Out = Annotated[
    Path | None, typer.Option("--out", "-o", help="Picture to draw: .png, .pdf or .svg.")
]

BATCHES = "1,2,4,8,16,32,64,128,256,512"
CONTEXTS = "256,512,1024,2048,4096,8192,16384,32768"


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    pim_kernels.register(pim)
    app.add_typer(pim, name="pim", rich_help_panel="Model")


def _numbers(text: str, name: str) -> list[int]:
    from archsim.errors import InputError

    try:
        found = [int(part) for part in text.split(",")]
    except ValueError:
        found = []
    if not found or min(found) < 1 or len(found) > 64:
        raise InputError(
            "cannot read the numbers", field=name, found=text, expected="such as 1,8,64"
        )
    return sorted(set(found))


@dataclass(frozen=True)
class _Laid:
    """A workload on a machine under a plan, as every table, picture and document names it."""

    workload: str
    machine: Any
    plan: str

    @property
    def title(self) -> str:
        return f"{self.workload} on {self.machine.name}, plan {self.plan}"

    @property
    def data(self) -> dict[str, Any]:
        return {"workload": self.workload, "machine": self.machine.name, "plan": self.plan}


def _laid(workload: str, machine: str, plan: str | None) -> _Laid:
    from archsim.hardware import load_machine

    found = load_machine(machine)
    return _Laid(workload, found, plan or f"tp{found.instances()}")


def _draw(plot: str, out: Path | None, quiet: bool, *what: Any) -> None:
    """Draw a picture of ``archsim.explore.pim_plots``, if one is asked for."""
    if out is not None:
        from archsim.explore import pim_plots

        getattr(pim_plots, plot)(*what)
        if not quiet:
            typer.echo(f"wrote {out}")


@pim.command("map")
def map_(
    workload: Workload = "mixtral-8x7b",
    machine: MachineName = "duplexx4",
    plan: PlanText = None,
    batch: Batches = BATCHES,
    context: Contexts = CONTEXTS,
    out: Out = None,
    as_json: Json = False,
) -> None:
    """Which operations of decoding belong in the memory, over batch and context.

    `archsim pim map -w mixtral-8x7b -m duplexx4 -o map.png`
    """
    import numpy as np

    from archsim.system.llm.offload import by_operation, gains, placements

    laid = _laid(workload, machine, plan)
    found = laid.machine
    batches, contexts = _numbers(batch, "--batch"), _numbers(context, "--context")
    b, c = (a.ravel() for a in np.meshgrid(batches, contexts, indexing="ij"))
    placed = by_operation(placements(workload, found, batch=b, context=c, plan=laid.plan))
    whole = gains(workload, found, batches, contexts, plan=laid.plan)
    if as_json:
        print_json({
            **laid.data, "batch": b.tolist(),
            "context": c.tolist(), "speed": whole.speed[0].ravel().tolist(),
            "energy": whole.energy[0].ravel().tolist(), "fits": whole.fits[0].ravel().tolist(),
            "operations": {
                name: {"share_in_memory": p.share.tolist(), "op_per_byte": p.intensity.tolist(),
                       "seconds": p.seconds.tolist()}
                for name, p in placed.items()
            },
        })  # fmt: skip
    else:
        middle = len(contexts) // 2
        rows = []
        for place, size in enumerate(batches):
            at = place * len(contexts) + middle
            cells = [
                f"{_engine(float(p.share[at]))} ({p.intensity[at]:.3g})" for p in placed.values()
            ]
            speed, energy = whole.speed[0][place, middle], whole.energy[0][place, middle]
            rows.append([str(size), *cells, f"{speed:.2f}x", f"{energy - 1:+.0%}"])
        title = (
            f"{laid.title}, decoding at {contexts[middle]:,} tokens: "
            "where operations run (operations a byte)"
        )
        print_table(["batch", *placed, "speed", "energy"], rows, title)
    _draw("plot_map", out, as_json, placed, batches, contexts, out, f"{laid.title}: decoding")


def _engine(share: float) -> str:
    if share <= 0.005:
        return "processor"
    return "memory" if share >= 0.995 else f"{share:.0%} memory"


@pim.command()
def pays(
    workload: Workload = "llama-3-70b",
    machine: MachineName = "duplexx4",
    plan: PlanText = None,
    batch: Batches = BATCHES,
    context: Contexts = CONTEXTS,
    group: Annotated[
        str, typer.Option(help="Query heads a key head, joined by commas; 0 as published.")
    ] = "0",
    out: Out = None,
    as_json: Json = False,
) -> None:
    """Where memories that compute stop paying: speed over batch, context and group size.

    `archsim pim pays -w llama-3-70b --group 1,4,8 -o pays.png`
    """
    from archsim.system.llm.offload import gains

    laid = _laid(workload, machine, plan)
    found = laid.machine
    groups = [0] if group == "0" else _numbers(group, "--group")
    batches, contexts = _numbers(batch, "--batch"), _numbers(context, "--context")
    whole = gains(workload, found, batches, contexts, groups, laid.plan)
    if as_json:
        print_json({
            **laid.data, "batch": batches,
            "context": contexts, "group": groups, "speed": whole.speed.tolist(),
            "energy": whole.energy.tolist(), "fits": whole.fits.tolist(),
        })  # fmt: skip
    else:
        for place, size in enumerate(groups):
            rows = [
                [f"{b:,}", *(f"{whole.speed[place, i, j]:.2f}" + ("" if fits else "*")
                             for j, fits in enumerate(whole.fits[place, i]))]
                for i, b in enumerate(batches)
            ]  # fmt: skip
            said = f"{size} query heads a key head" if size else "heads as published"
            title = f"{laid.title}: speed over no units, {said}"
            print_table(["batch", *(f"{c:,} tokens" for c in contexts)], rows, title)
        if (~whole.fits).any():
            typer.echo("* caches do not fit")
    _draw("plot_gains", out, as_json, whole, out, f"{laid.title}: gain of units in memory")


@pim.command()
def steps(
    workload: Workload = "mixtral-8x7b",
    machine: MachineName = "duplexx4",
    plan: PlanText = None,
    batch: Batches = "1,8,32,128,512",
    context: Annotated[int, typer.Option(min=1, help="Tokens of context.")] = 4096,
    out: Out = None,
    as_json: Json = False,
) -> None:
    """Time of decode steps by engine: processor, memory, both, links.

    `archsim pim steps -w mixtral-8x7b --batch 8,64 -o steps.png`
    """
    from archsim.explore.pim_plots import engine_times
    from archsim.system.llm.offload import placements

    laid = _laid(workload, machine, plan)
    found = laid.machine
    sizes = _numbers(batch, "--batch")
    placed = {
        f"batch {size:,}": placements(workload, found, batch=size, context=context, plan=laid.plan)
        for size in sizes
    }
    times = {name: engine_times(each) for name, each in placed.items()}
    if as_json:
        print_json({**laid.data, "steps": times})
    else:
        rows = [
            [name, f"{sum(parts.values()) * 1e3:,.3f} ms",
             *(f"{value / sum(parts.values()):.0%}" for value in parts.values())]
            for name, parts in times.items()
        ]  # fmt: skip
        heads = ["", "step", *next(iter(times.values()))]
        print_table(heads, rows, f"{laid.title}, {context:,} tokens")
    _draw("plot_engines", out, as_json, placed, out, f"{laid.title}, {context:,} tokens")


@pim.command()
def edap(
    machines: Annotated[
        str, typer.Option(help="Machines with pim engines, joined by commas.")
    ] = "bank_pim,bankgroup_pim,duplex",
    out: Out = None,
    as_json: Json = False,
) -> None:
    """Energy x delay x area of units at several levels, by operations a byte.

    `archsim pim edap -o edap.png`
    """
    import numpy as np

    from archsim.hardware import load_machine
    from archsim.system.llm.pim import inside_product
    from archsim.validate.papers.duplex import EDAP, OPS

    tokens = np.array(OPS, float)
    raw = {name: inside_product(load_machine(name), tokens)["edap"] for name in machines.split(",")}
    worst = np.maximum.reduce(list(raw.values()))
    ours = {name: values / worst for name, values in raw.items()}
    if as_json:
        print_json({"op_per_byte": list(OPS), **{n: v.tolist() for n, v in ours.items()}})
    else:
        rows = [[name, *(f"{v:.2f}" for v in values)] for name, values in ours.items()]
        print_table(
            ["over the worst", *(f"{x} op/B" for x in OPS)], rows, "EDAP, GEMM 16384 x 4096"
        )
    _draw("plot_edap", out, as_json, ours, EDAP, OPS, out)


@pim.command()
def area(
    workload: Workload = "mixtral-8x7b",
    machine: MachineName = "duplexx4",
    plan: PlanText = None,
    batch: Annotated[int, typer.Option(min=1, help="Requests that decode.")] = 64,
    prompt: Annotated[int, typer.Option(min=1, help="Tokens of a prompt.")] = 2048,
    output: Annotated[int, typer.Option(min=1, help="Tokens of an answer.")] = 512,
    room: Annotated[
        float, typer.Option(min=0, max=1, help="Share of the logic dies that units may take.")
    ] = 0.25,
    out: Out = None,
    as_json: Json = False,
) -> None:
    """The best split of a device's area between processor and units in memory.

    `archsim pim area --batch 64 --prompt 2048 --output 512 -o area.png`
    """
    import numpy as np

    from archsim.system.llm.offload import area_splits

    laid = _laid(workload, machine, plan)
    found = laid.machine
    kinds = [
        {"phase": "prefill", "batch": 1, "context": prompt},
        {"phase": "decode", "batch": batch, "context": prompt + output // 2},
    ]
    weights = [1.0, output / batch]  # device time of one request
    split = area_splits(workload, found, kinds, plan=laid.plan, room=room)
    time = np.where(split.legal, split.latency_s @ np.array(weights), np.inf)
    energy = split.energy_j @ np.array(weights)
    order = np.argsort(time)[:5]
    plain = int(np.flatnonzero((split.tsv == 0) | (split.macs == 0))[0])
    designs = [
        {"tsv": float(split.tsv[i]), "macs_a_stack": float(split.macs[i]),
         "pim_mm2": float(split.pim_mm2[i]), "xpu_flops_per_s": float(split.xpu_flops_per_s[i]),
         "s_a_request": float(time[i]), "j_a_request": float(energy[i])}
        for i in (*order, plain)
    ]  # fmt: skip
    if as_json:
        print_json({"workload": workload, "machine": found.name, "area_mm2": split.area_mm2,
                "best": designs[:-1], "without": designs[-1]})  # fmt: skip
    else:
        rows = [
            [f"{d['tsv']:g}x", f"{d['macs_a_stack']:,.0f}", f"{d['pim_mm2']:.1f}",
             f"{d['xpu_flops_per_s'] / 1e12:,.0f}", f"{d['s_a_request'] * 1e3:,.2f}",
             f"{d['j_a_request']:.3g}"]
            for d in designs
        ]  # fmt: skip
        rows[-1][0] = "no units"
        heads = ["TSVs", "multipliers a stack", "mm2 in memory", "TFLOPS left", "ms a request",
                 "J a request"]  # fmt: skip
        title = (
            f"{laid.title}: {split.area_mm2:,.0f} mm2 a device, "
            f"{prompt:,} in, {output:,} out, {batch:,} requests at a time"
        )
        print_table(heads, rows, title)
    title = f"{workload}: {prompt:,} in, {output:,} out, batch {batch}"
    _draw("plot_area", out, as_json, split, weights, out, title)


@pim.command()
def serve(
    workload: Workload = "mixtral-8x7b",
    machine: MachineName = "duplexx4",
    plan: PlanText = None,
    batch: Batches = "32,64,128",
    prompt: Annotated[int, typer.Option(min=1, help="Mean tokens of a prompt.")] = 1024,
    output: Annotated[int, typer.Option(min=1, help="Mean tokens of an answer.")] = 1024,
    as_json: Json = False,
) -> None:
    """Continuous batching with and without units in memory: tokens a second, energy a token.

    `archsim pim serve --batch 32,128`
    """
    from archsim.system.llm.continuous import serve_continuously, walk_stages
    from archsim.system.llm.offload import without_units

    laid = _laid(workload, machine, plan)
    found = laid.machine
    sizes = _numbers(batch, "--batch")
    mixes = [walk_stages(size, prompt, output) for size in sizes]
    helped = serve_continuously(workload, found, mixes, laid.plan)
    alone = serve_continuously(workload, without_units(found), mixes, laid.plan)
    rows = [
        {"batch": size, "tokens_per_s": a.tokens_per_s, "joules_per_token": a.joules_per_token,
         "stage_s": a.stage_s, "speed": a.tokens_per_s / b.tokens_per_s,
         "energy": a.joules_per_token / b.joules_per_token}
        for size, a, b in zip(sizes, helped, alone, strict=True)
    ]  # fmt: skip
    if as_json:
        print_json({**laid.data, "prompt": prompt,
                "output": output, "rows": rows})  # fmt: skip
        return
    lines = [
        [f"{r['batch']:,}", f"{r['tokens_per_s']:,.0f}", f"{r['stage_s'] * 1e3:.3g} ms",
         f"{r['joules_per_token'] * 1e3:.3g} mJ", f"{r['speed']:.2f}x", f"{r['energy'] - 1:+.0%}"]
        for r in rows
    ]  # fmt: skip
    title = f"{laid.title}: {prompt:,} tokens in, {output:,} out"
    heads = ["batch", "tokens/s", "a stage", "a token", "over no units", "energy"]
    print_table(heads, lines, title)
