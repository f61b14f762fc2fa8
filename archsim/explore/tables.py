"""Results as tables on a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from archsim.explore.results import Comparison, Results, compare
from archsim.explore.units import duration, human, number, title

if TYPE_CHECKING:
    from archsim.explore.best import Choice
    from archsim.explore.runner import Summary


def _console() -> Any:
    from rich.console import Console

    console = Console(highlight=False)
    if not console.is_terminal:  # a log or a pipe has no width to fit into
        console.width = 160
    return console


def _count(values: np.ndarray) -> str:
    """Median of a number of evaluations; the share of runs that got there, where not all did."""
    reached = values[np.isfinite(values)]
    if not len(reached):
        return "never"
    text = f"{np.median(reached):,.0f}"
    return text if len(reached) == len(values) else f"{text} ({len(reached)}/{len(values)})"


def comparison_rows(comparison: Comparison) -> tuple[list[str], list[list[str]]]:
    """The table of agents: header and rows, best agent first."""
    header = [
        "agent",
        "seeds",
        "objective (IQM)",
        "95 % interval",
        "hypervolume",
        "IGD+",
        "to target",
        "feasible",
        "P(beats next)",
    ]
    rows = []
    for place, score in enumerate(comparison.scores):
        band = score.objective
        following = place + 1 < len(comparison.scores)
        rows.append(
            [
                score.label,
                str(score.runs),
                number(band.value[-1], 4),
                f"{number(band.low[-1], 4)} … {number(band.high[-1], 4)}",
                number(score.hypervolume.value[-1], 3),
                number(float(np.median(score.igd_plus)), 2),
                _count(score.target),
                f"{100 * score.feasible:.0f} %",
                f"{comparison.improvement[place, place + 1]:.2f}" if following else "",
            ]
        )
    return header, rows


def exploration_table(summary: Summary) -> None:
    """Print how an exploration ended: the agents, then the best designs."""
    from rich import box
    from rich.table import Table

    console = _console()
    results = Results(summary.directory)
    comparison = compare(results)
    if comparison is not None:
        table = Table(
            title=f"{results.meta['title']}: {comparison.budget:,} evaluations each",
            title_justify="left",
            box=box.SIMPLE_HEAD,
        )
        header, rows = comparison_rows(comparison)
        for place, name in enumerate(header):
            table.add_column(name, justify="left" if place == 0 else "right")
        for row in rows:
            table.add_row(*row)
        console.print(table)
    designs_table(results, console)
    console.print(
        f"{summary.evaluations:,} evaluations of {summary.designs:,} distinct designs "
        f"({summary.fresh:,} evaluated now) in {duration(summary.elapsed_s)}; "
        f"{len(results.front)} design{'' if len(results.front) == 1 else 's'} on the front"
    )
    console.print(f"results in {summary.directory}", soft_wrap=True)


def designs_table(results: Results, console: Any = None) -> None:
    """Print the designs that stand out: best objective, knee, best of each objective."""
    from rich import box
    from rich.table import Table

    header, rows = design_rows(results)
    if len(header) == 1:
        (console or _console()).print("no feasible design was found")
        return
    table = Table(title="Designs that stand out", title_justify="left", box=box.SIMPLE_HEAD)
    for place, name in enumerate(header):
        table.add_column(name, justify="right" if place else "left")
    for row in rows:
        table.add_row(*row, end_section=row[0] == title(_shown_metrics(results)[-1]).lower())
    (console or _console()).print(table)


def _shown_metrics(results: Results) -> list[str]:
    names = dict.fromkeys((*results.objectives, *results.limits, "area_mm2", "power_w"))
    return [name for name in names if name in results.metrics]


def design_rows(results: Results) -> tuple[list[str], list[list[str]]]:
    """The designs that stand out, side by side: header and rows, metrics before parameters."""
    stand = standing_out(results)
    rows = []
    for name in _shown_metrics(results):
        values = (human(name, float(results.metrics[name][row])) for row in stand.values())
        rows.append([title(name).lower(), *values])
    space = results.problem.space
    decoded = [space.decode(results.indices[row]) for row in stand.values()]
    for name in space.names:
        shown = (f"{v:g}" if isinstance(v, float) else str(v) for v in (d[name] for d in decoded))
        rows.append([name, *shown])
    return ["", *stand], rows


def standing_out(results: Results) -> dict[str, int]:
    """Rows of the designs worth naming, by role; a design is named once."""
    rows: dict[str, int] = {}
    chosen = results.chosen()
    if chosen is not None and results.knee is not None:
        rows["best objective"] = chosen
        rows["knee"] = results.knee
        for name in results.objectives:
            place = results.chosen(name)
            if place is not None:
                rows[f"lowest {title(name).lower()}"] = place
    merged: dict[int, str] = {}
    for role, row in rows.items():
        merged[row] = f"{merged[row]}, {role}" if row in merged else role
    return {role: row for row, role in merged.items()}


def choice_text(choice: Choice) -> None:
    """Print the chosen design, why it wins, and its limits."""
    from rich.table import Table

    from archsim.explore.best import percent

    console = _console()
    design = choice.design
    table = Table(title="Chosen design", title_justify="left", box=None, show_header=False)
    table.add_column()
    table.add_column(justify="right")
    for name, value in design.values.items():
        table.add_row(name, str(value))
    table.add_section()
    for name, value in design.metrics.items():
        if name not in ("violation", "feasible"):
            table.add_row(title(name), human(name, value, 4))
    console.print(table)
    console.print("\n[bold]Why it wins")
    for reason in choice.reasons:
        console.print(f"- {reason}", markup=False)
    if choice.limits:
        console.print("\n[bold]Limits")
        for limit in choice.limits:
            state = "binding" if limit.binding else "not binding"
            console.print(
                f"- {title(limit.metric)}: {human(limit.metric, limit.value)} of "
                f"{human(limit.metric, limit.bound)}, {100 * limit.slack:.1f} % left ({state})",
                markup=False,
            )
    if choice.changes:
        console.print("\n[bold]What a single change would do")
        table = Table(box=None, pad_edge=False)
        for name in ("change", choice.by, "allowed"):
            table.add_column(name, justify="left" if name != choice.by else "right")
        nearest: dict[str, Any] = {}
        for change in sorted(choice.changes, key=lambda c: c.gain):
            nearest.setdefault(change.parameter, change)
        for change in nearest.values():
            broken = ", ".join(title(name).lower() for name in change.broken)
            allowed = "yes" if change.feasible else f"no: {broken or choice.refusal}"
            table.add_row(str(change), percent(change.gain), allowed)
        console.print(table)
    console.print(f"\nfound by {', '.join(choice.found_by)}", markup=False, soft_wrap=True)
