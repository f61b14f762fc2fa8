"""Published figures beside ours, computed from machines and models: ``archsim validate papers``.

Nothing of ours is typed in: every figure comes from a shipped machine, a shipped model (or a config
that a paper gives) and the cost models. What a paper assumes (tokens a device, micro-batches) is
named beside the row. A figure counts as met within 10 % of the published one as it is printed,
unless the row says otherwise; counts and closed forms must agree to the digits published.

A family of figures is a module of this folder with a function ``rows()`` that yields ``Row``s, and,
if some figures are left out, ``NOT_COMPUTED``: pairs of what and why. Adding a family is adding its
module; nothing else names it. ``--only`` takes families by the names of their modules.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from importlib import import_module
from pkgutil import iter_modules

from archsim.errors import InputError
from archsim.validate.papers.row import ALLOWED, EXACT, Row, four_digits, printed
from archsim.validate.references import table

__all__ = ["ALLOWED", "EXACT", "Row", "families", "paper_rows", "printed", "validate_papers"]

#: Modules of this folder that are no family.
_HELPERS = ("row",)
#: Characters of a line of text.
WIDTH = 110
HEADS = ("figure", "published", "ours", "unit", "error", "allowed", "")


def families() -> list[str]:
    """Names of the families, in the order of their printing.

    Example:
        >>> {"deepseek", "gpipe", "sn40l"} <= set(families())
        True
    """
    return sorted(m.name for m in iter_modules(__path__) if m.name not in _HELPERS)


def _chosen(only: str | Sequence[str] | None) -> list[str]:
    known = families()
    if only is None:
        return known
    wanted = only.split(",") if isinstance(only, str) else list(map(str, only))
    for name in wanted:
        if name not in known:
            raise InputError(
                "no such family of figures", field="--only", found=name, expected=", ".join(known)
            )
    return [name for name in known if name in wanted]


def paper_rows(only: str | Sequence[str] | None = None) -> Iterator[Row]:
    """The rows of all families, or of some.

    Args:
        only: Names of families, apart or joined by commas.

    Raises:
        InputError: There is no such family.
    """
    for name in _chosen(only):
        yield from import_module(f"{__name__}.{name}").rows()


def _line(row: Row) -> tuple[str, ...]:
    loose = f"{row.allowed:.2%}" if row.allowed < 0.01 else f"{row.allowed:.0%}"
    return (
        row.figure, row.shown, four_digits(row.ours), row.unit, f"{row.error:+.1%}",
        "exact" if row.allowed <= EXACT else loose, "met" if row.met else "MISSED",
    )  # fmt: skip


def validate_papers(only: str | None = None) -> bool:
    """Print the table; True if every figure is met.

    Args:
        only: Families to print, joined by commas; default all.

    Raises:
        InputError: There is no such family.
    """
    chosen = _chosen(only)
    print("Published figures beside ours, computed from machine and model descriptions")
    left_out: list[tuple[str, str]] = []
    summary: list[tuple[str, ...]] = []
    met = count = 0
    for name in chosen:
        module = import_module(f"{__name__}.{name}")
        rows = list(module.rows())
        left_out += getattr(module, "NOT_COMPUTED", ())
        for paper in dict.fromkeys(row.paper for row in rows):
            mine = [row for row in rows if row.paper == paper]
            _print_paper(f"{paper} [{name}]", mine)
            kept = sum(row.met for row in mine)
            summary.append((f"{paper} [{name}]", str(kept), str(len(mine))))
            met, count = met + kept, count + len(mine)
    if len(summary) > 1:
        print(f"\n{table(('paper', 'met', 'of'), summary)}")
    print(f"\n{met} of {count} met.{' Not computed:' if left_out else ''}")
    for what, reason in left_out:
        _print_note(f"{what}: {reason}")
    return met == count


def _print_paper(heading: str, rows: Sequence[Row]) -> None:
    """The rows of one paper, what we know of its misses, and what it leaves open."""
    print(f"\n{heading}")
    print(table(HEADS, [_line(row) for row in rows]))
    for cause in dict.fromkeys(row.cause for row in rows if row.cause and not row.met):
        _print_note(f"missed: {cause}")
    for over in dict.fromkeys(row.over for row in rows if row.spread):
        _print_note(f"not published, or told differently: {over}; ours spans")
        for row in rows:
            if row.spread and row.over == over:
                print(f"    {row.spans} {row.unit} (published {row.shown}): {row.figure}")


def _print_note(text: str) -> None:
    """A sentence in lines that fit a terminal."""
    print(textwrap.fill(text, WIDTH, initial_indent="  ", subsequent_indent="    "))
