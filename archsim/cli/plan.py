"""The option ``--plan``, which lists what plans can say where it is ``help``."""

from __future__ import annotations

from typing import Annotated

import typer


def _listed(value: str | None) -> str | None:
    if value == "help":
        from archsim.system.llm.plan import plan_help

        typer.echo(plan_help())
        raise typer.Exit
    return value


PlanText = Annotated[
    str | None,
    typer.Option(
        callback=_listed,
        help="Language models: degrees tp, pp, dp, ep, mb, then +ladder, +eager, +unfused, "
        "+software, +staged, +weights=TIER, +cache=TIER:SHARE, e.g. tp8, tp4pp2; "
        "`--plan help` says what each means; default all devices as tp.",
    ),
]
