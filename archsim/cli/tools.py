"""``archsim bench`` and ``validate``: measurements and comparisons, found when asked for."""

from __future__ import annotations

from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Add the commands of this module; options they do not know go to the tool itself."""
    settings = {"allow_extra_args": True, "ignore_unknown_options": True}
    for command in (bench, validate):
        app.command(
            rich_help_panel="Trust", context_settings=settings, help=_help(command.__name__)
        )(command)


def _help(tool: str) -> str:
    """What a tool does, and the names it takes."""
    import inspect

    if tool == "bench":
        return inspect.getdoc(bench) or ""
    from archsim.validate import COMPARISONS

    names = "\n".join(f"- **{name}**: {what}" for name, what in COMPARISONS.items())
    return f"{inspect.getdoc(validate)}\n\n{names}"


def bench(
    context: typer.Context,
    name: Annotated[str | None, typer.Argument(help="Which benchmark; all when left out.")] = None,
) -> None:
    """Measure how fast archsim is on this computer.

    kernel, mapper, network, step, dram or llm. `--repeat N`: median of N; `--scenario NAME`: of
    network and step.

    `archsim bench kernel --repeat 3`
    """
    from archsim import bench as tool

    _run(tool.main, name, context.args)


def validate(
    context: typer.Context,
    name: Annotated[str | None, typer.Argument(help="Which comparison; all when left out.")] = None,
) -> None:
    """Compare the models with published and measured data, case by case.

    `archsim validate papers --only gpipe,sn40l`
    """
    from archsim import validate as tool

    _run(tool.main, name, context.args)


def _run(tool, name: str | None, arguments: list[str]) -> None:
    """Call a tool with ``--option value`` pairs as keywords; its number is the exit status."""
    import inspect

    from archsim.errors import InputError

    options = parse_options(arguments)
    try:
        inspect.signature(tool).bind(name, **options)
    except TypeError:
        known = [f"--{p.replace('_', '-')}" for p in list(inspect.signature(tool).parameters)[1:]]
        raise InputError(
            "no such option", found=" ".join(arguments), expected=", ".join(known) or "none"
        ) from None
    status = tool(name, **options)
    if isinstance(status, int) and not isinstance(status, bool) and status:
        raise typer.Exit(status)


def parse_options(arguments: list[str]) -> dict[str, object]:
    """Read ``--name value``, ``--name=value`` and ``--flag`` into keywords.

    Values are read as in YAML: ``8`` is a number, ``true`` a truth value.

    Examples:
        >>> parse_options(["--designs", "1000", "--fast", "--out=x.csv"])
        {'designs': 1000, 'fast': True, 'out': 'x.csv'}
    """
    from archsim.errors import InputError
    from archsim.inputs import parse_yaml

    options: dict[str, object] = {}
    rest = list(arguments)
    while rest:
        word = rest.pop(0)
        if not word.startswith("--") or word == "--":
            raise InputError("unexpected argument", found=word, expected="--option value")
        name, equals, value = word[2:].partition("=")
        if not equals and rest and not rest[0].startswith("--"):
            value, equals = rest.pop(0), "="
        options[name.replace("-", "_")] = parse_yaml(value, word) if equals else True
    return options
