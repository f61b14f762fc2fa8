"""``archsim proxy``: learned cost models of a scenario, their errors, and searches they guide."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from archsim.envs.proxy_check import MetricError, ProxyCheck

SCENARIO = typer.Argument(help="Scenario file, or name of a shipped one.")
MODEL = typer.Argument(metavar="MODEL", help="File that `archsim proxy train` made.")

proxy = typer.Typer(
    name="proxy",
    help="Learned cost models: train, validate, and screen designs by them.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.add_typer(proxy, rich_help_panel="Explore")


@proxy.command()
def train(
    scenario: Annotated[str, SCENARIO],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="File to write; default NAME.npz.")
    ] = None,
    samples: Annotated[int, typer.Option(help="Designs evaluated to learn from.")] = 20_000,
    seed: Annotated[int, typer.Option(help="Of the designs and the networks.")] = 0,
    members: Annotated[int, typer.Option(help="Networks; they also say what is unknown.")] = 2,
    steps: Annotated[int, typer.Option(help="Gradient steps of each.")] = 16_000,
) -> None:
    """Learn to predict the metrics of a scenario's designs from a random sample of them.

    `archsim proxy train smoke --samples 500 -o smoke.npz`
    """
    from archsim.envs.problem import as_problem
    from archsim.envs.proxy import train_proxy
    from archsim.errors import InputError
    from archsim.models.regressor import Training

    for name, value in (("members", members), ("steps", steps)):
        if value < 1:
            raise InputError("must be at least 1", field=f"--{name}", found=value)
    problem = as_problem(scenario)
    training = Training(members=members, steps=steps, seed=seed)
    made = train_proxy(problem, samples, seed, training, _lines())
    path = out or Path(f"{problem.scenario.name}.npz")
    made.save(path)
    typer.echo(f"learned {len(made.metrics)} metrics from {made.samples:,} designs: {path}")


@proxy.command()
def validate(
    model: Annotated[Path, MODEL],
    scenario: Annotated[str, SCENARIO],
    samples: Annotated[int, typer.Option(help="Designs compared with the real model.")] = 5000,
    seed: Annotated[int, typer.Option(help="Of the designs.")] = 1,
) -> None:
    """Compare a proxy with the real model on designs it was not trained on.

    `archsim proxy validate smoke.npz smoke`
    """
    from archsim.envs.problem import as_problem
    from archsim.envs.proxy import load_proxy
    from archsim.envs.proxy_check import check_proxy

    problem = as_problem(scenario)
    found = check_proxy(load_proxy(model, problem), problem, samples, seed, _lines())
    typer.echo("\n".join(check_lines(found)))


def check_lines(found: ProxyCheck) -> list[str]:
    """What a validation found, as lines of text."""

    def table(metrics: dict[str, MetricError]) -> list[str]:
        return [
            f"{name:<24}{100 * error.rmse:>10.3f} {100 * error.worst:>12.2f}{error.spearman:>12.5f}"
            for name, error in metrics.items()
        ]

    lines = [f"{found.designs:,} held-out designs"]
    lines.append(f"{'metric':<24}{'RMSE [%]':>10} {'worst [%]':>12}{'Spearman':>12}")
    lines += table(found.metrics)
    if found.unlike is not None:
        lines.append("of those, designs that no training design is equivalent to")
        lines += table(found.unlike)
    lines += [
        f"objective: Spearman {found.objective_spearman:.5f}; "
        f"{100 * found.top_found:.0f} % of the best 1 % are among the proxy's best 5 %",
        f"feasibility told rightly: {100 * found.feasible:.2f} %",
        f"out of distribution: {100 * found.strange:.2f} % of the designs"
        + (
            f", with {found.strange_error:.1f} times the error of the others"
            if found.strange_error == found.strange_error
            else ""
        ),
        f"CPU time a design: proxy {1e6 * found.proxy_s:.2f} us, real model "
        f"{1e6 * found.real_s:,.1f} us: {found.speedup:,.0f} times",
    ]
    return lines


@proxy.command()
def screen(
    model: Annotated[Path, MODEL],
    scenario: Annotated[str, SCENARIO],
    budget: Annotated[int, typer.Option(help="Designs evaluated by the real model.")] = 200,
    candidates: Annotated[
        int, typer.Option(help="Designs predicted for every 16 that are evaluated.")
    ] = 20_000,
    seed: Annotated[int, typer.Option(help="Of the candidates.")] = 0,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Run directory; default runs/NAME-screened.")
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress.")] = False,
) -> None:
    """Screen designs by a proxy and evaluate the promising ones; what is stored is real.

    `archsim proxy screen smoke.npz smoke --budget 100`
    """
    import archsim.agents.screening as screening
    from archsim.envs.problem import as_problem
    from archsim.envs.proxy import load_proxy
    from archsim.explore import progress, runner
    from archsim.explore.tables import exploration_table

    problem = as_problem(scenario)
    load_proxy(model, problem)
    choice = runner.AgentChoice(
        f"{screening.__file__}:Screening",
        {"model": str(model.resolve()), "candidates": candidates, "seed": seed},
    )
    words = ["archsim", "proxy", "screen", str(model), scenario, "--budget", str(budget)]
    summary = runner.explore(
        problem,
        runner.Plan((choice,), 1, budget, 1),
        out or Path("runs") / f"{problem.scenario.name}-screened",
        progress=progress.Silent() if quiet else progress.default_progress(),
        command=shlex.join([*words, "--candidates", str(candidates), "--seed", str(seed)]),
    )
    exploration_table(summary)
    if summary.failed:
        typer.echo(f"failed: {summary.failed[0].error}", err=True)
        raise typer.Exit(1)


def _lines() -> Callable[[str, int, int], None]:
    """Lines about each stage."""
    from archsim.explore.stages import stages

    started: dict[str, Callable[[int, int], None]] = {}

    def advance(what: str, done: int, total: int) -> None:
        if what not in started:
            started[what] = stages(what)
        started[what](done, total)

    return advance
