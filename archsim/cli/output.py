"""How commands print: tables for people, JSON for programs."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

#: The option every command that answers with figures has.
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def print_json(value: Any) -> None:
    """Print plain data as JSON.

    Raises:
        ValueError: A number is infinite or none.
    """
    typer.echo(json.dumps(value, indent=2, allow_nan=False))


def print_table(heads: list[str], rows: list[list[str]], title: str) -> None:
    """Print cells in columns: the first one to the left, figures to the right."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    for index, head in enumerate(heads):
        table.add_column(head, justify="right" if index else "left", no_wrap=not index)
    for row in rows:
        table.add_row(*row)
    Console(width=140).print(table)
