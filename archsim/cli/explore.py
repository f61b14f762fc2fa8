"""``archsim run``: explore a scenario."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command(rich_help_panel="Explore")(run)
    app.command("check-agent", rich_help_panel="Explore")(check_agent)
    app.command("check-problem", rich_help_panel="Explore")(check_problem)


def run(
    scenario: Annotated[str, typer.Argument(help="Scenario file, or name of a shipped one.")],
    agent: Annotated[
        list[str] | None,
        typer.Option(
            "--agent", "-a", help="Run this agent instead (repeatable): NAME or file.py:Class."
        ),
    ] = None,
    seeds: Annotated[int | None, typer.Option(help="Runs of each agent.")] = None,
    budget: Annotated[int | None, typer.Option(help="Evaluations of each run.")] = None,
    workers: Annotated[int | None, typer.Option(help="Runs at the same time.")] = None,
    fill: Annotated[
        int | None, typer.Option(help="Evaluations to fill the front with afterwards; 0: none.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Run directory; default runs/NAME.")
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress.")] = False,
) -> None:
    """Explore a scenario: agents x seeds under equal budgets. Run it again to go on.

    `archsim run smoke -a random -a genetic,population=16 --seeds 3 --budget 100 -o out`
    """
    from archsim.envs.scenario import load_scenario
    from archsim.errors import MissingExtraError
    from archsim.explore import progress, runner
    from archsim.explore.tables import exploration_table

    loaded = load_scenario(scenario)
    plan = runner.plan_for(
        loaded,
        agents=[parse_agent(text) for text in agent] if agent else None,
        seeds=seeds,
        budget=budget,
        workers=workers,
        fill=fill,
    )
    directory = out or Path("runs") / loaded.name
    summary = runner.explore(
        loaded,
        plan,
        directory,
        progress=progress.Silent() if quiet else progress.default_progress(),
        command=_command(scenario, agent, seeds, budget, fill, out),
    )
    try:
        if summary.evaluations:
            exploration_table(summary)
    except MissingExtraError as error:  # the results are stored; only the comparison is missing
        typer.echo(f"{summary.evaluations:,} evaluations in {directory}; to compare them: {error}")
    for failed in summary.failed:
        typer.echo(f"failed: {failed.label} seed {failed.seed}: {failed.error}", err=True)
    if not summary.evaluations:
        typer.echo("no design was evaluated: `archsim check-agent` says what is wrong", err=True)
    if summary.failed or not summary.evaluations:
        raise typer.Exit(1)


def _command(
    scenario: str,
    agents: list[str] | None,
    seeds: int | None,
    budget: int | None,
    fill: int | None,
    out: Path | None,
) -> str:
    """The command that repeats this exploration (the number of workers changes no result)."""
    import shlex

    words = ["archsim", "run", scenario]
    for name in agents or []:
        words += ["--agent", name]
    for option, value in (("seeds", seeds), ("budget", budget), ("fill", fill), ("out", out)):
        if value is not None:
            words += [f"--{option}", str(value)]
    return shlex.join(words)


def parse_agent(text: str):
    """Read an agent of the command line: ``NAME`` or ``NAME,option=value,...``.

    Options are written as in YAML, e.g. ``genetic,population=48,crossover=0.8``.

    Returns:
        An `archsim.explore.runner.AgentChoice`.
    """
    from archsim.errors import InputError
    from archsim.explore.runner import AgentChoice
    from archsim.inputs import parse_yaml

    name, *parts = text.split(",")
    options = {}
    for part in parts:
        key, equals, value = part.partition("=")
        if not equals or not key.strip():
            raise InputError(
                "cannot read the agent's option",
                source="--agent",
                found=part,
                expected="name=value",
            )
        if key.strip() in options:
            raise InputError("the option is given twice", source="--agent", found=part)
        options[key.strip()] = parse_yaml(value, "--agent")
    return AgentChoice(name.strip(), options)


def check_agent(
    agent: Annotated[str, typer.Argument(help="file.py:Class of your agent, or a shipped name.")],
) -> None:
    """Check an agent of your own, and say in words what is wrong with it.

    `archsim check-agent my_agent.py:HillClimber`
    """
    from archsim.testing import check_agent as check

    typer.echo(str(check(agent)))


def check_problem(
    problem: Annotated[
        str, typer.Argument(help="module:Class of your cost model, a scenario file or name.")
    ],
    designs: Annotated[int, typer.Option(help="Designs to draw.")] = 256,
    law: Annotated[
        list[str] | None,
        typer.Option(help="PARAMETER:METRIC that must not grow with it (repeatable)."),
    ] = None,
) -> None:
    """Check a cost model of your own, and say in words what is wrong with it.

    `archsim check-problem my_models:Link --law bits:latency_s`
    """
    from archsim.errors import InputError
    from archsim.testing import check_problem as check

    laws: dict[str, list[str]] = {}
    for text in law or ():
        parameter, colon, metric = text.rpartition(":")
        if not colon:
            raise InputError(
                "not a law", field="--law", found=text, expected="PARAMETER:METRIC, "
                "e.g. link_bits:latency_s",
            )  # fmt: skip
        laws.setdefault(parameter, []).append(metric)
    typer.echo(str(check(problem, designs=designs, never_worse=laws)))
