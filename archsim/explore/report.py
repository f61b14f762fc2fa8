"""One HTML page with everything an exploration found; it needs no other file and no network."""

from __future__ import annotations

import base64
import html
import json
import tempfile
from pathlib import Path
from typing import Any

from archsim.explore.best import Choice, choose, percent
from archsim.explore.figures import plot_all
from archsim.explore.results import Comparison, Results, compare
from archsim.explore.tables import comparison_rows, design_rows
from archsim.explore.units import human, title

_STYLE = """
:root { --ink: #1c2430; --soft: #5b6675; --line: #dfe4ea; --accent: #0072B2; }
* { box-sizing: border-box; }
body { margin: 0; color: var(--ink); background: #f5f6f8; line-height: 1.5;
       font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
main { max-width: 1080px; margin: 0 auto; padding: 32px 24px 64px; }
header h1 { margin: 0 0 4px; font-size: 28px; }
header p { margin: 0; color: var(--soft); }
section { background: #fff; border: 1px solid var(--line); border-radius: 10px;
          padding: 20px 24px; margin-top: 20px; }
h2 { font-size: 19px; margin: 0 0 12px; }
h3 { font-size: 15px; margin: 18px 0 6px; }
img { width: 100%; height: auto; display: block; }
figure { margin: 0 0 14px; }
figcaption { color: var(--soft); font-size: 14px; margin-top: 4px; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: 14px;
        font-variant-numeric: tabular-nums; }
th, td { padding: 6px 10px; border-bottom: 1px solid var(--line);
         text-align: right; white-space: nowrap; }
th:first-child, td:first-child { text-align: left; }
th { color: var(--soft); font-weight: 600; }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(150px, 1fr)); gap: 12px; }
.card { border: 1px solid var(--line); border-radius: 8px; padding: 10px 14px; }
.card b { display: block; font-size: 20px; color: var(--accent); }
.card span { color: var(--soft); font-size: 13px; }
.tag { border-radius: 9px; padding: 1px 9px; font-size: 12px; background: #e8f1f7; }
.tag.binding { background: #fbe4df; color: #8a2b12; }
code, pre { font: 13px/1.5 ui-monospace, "SF Mono", Menlo, Consolas, monospace; }
pre { background: #f2f4f7; border-radius: 8px; padding: 12px 14px; overflow-x: auto; margin: 0; }
footer { color: var(--soft); font-size: 13px; margin-top: 20px; }
dl { columns: 3 220px; column-gap: 32px; margin: 0; font-size: 14px; }
dl div { display: flex; justify-content: space-between; break-inside: avoid; padding: 4px 2px;
         border-bottom: 1px solid var(--line); }
dd { margin: 0; font-variant-numeric: tabular-nums; }
summary { cursor: pointer; margin: 12px 0 8px; font-weight: 600; font-size: 15px; }
table.narrow { width: auto; min-width: 300px; }
td.words, th.words { text-align: left; }
@media print {
  body { background: #fff; }
  main { max-width: none; padding: 0; }
  h2, h3 { break-after: avoid; }
  figure, tr, .card { break-inside: avoid; }
  pre { white-space: pre-wrap; }
}
"""

_CAPTIONS = {
    "pareto": "Every design evaluated. The line is the front: no feasible design beats it. "
    "Dashed lines are limits.",
    "convergence": "Best feasible objective so far under equal budgets: interquartile mean over "
    "seeds with a 95 % stratified bootstrap band. Designs that filled the front are not in it.",
    "hypervolume": "Share of the box between the ideal point and a little beyond the worst final "
    "front that a searcher's designs dominate (objectives by ratio).",
    "breakdown": "Where energy, time and area go. Time is counted under what limits a layer: the "
    "rate of the MACs, of a buffer or memory, or of the vector unit. Overhead is what a chip has "
    "beside the listed parts: control, clock, wiring.",
    "roofline": "Layers of the chosen design under the rate of its MACs and the bandwidth of its "
    "memory; a layer further below is held back by a buffer on the chip, by MACs that idle, or by "
    "the vector unit. The area of a point is its share of the time.",
}


def write_report(results: Results, path: str | Path) -> Path:
    """Write the report of a run directory.

    Args:
        results: The run directory.
        path: The HTML file.

    Returns:
        The path.
    """
    path = Path(path)
    comparison = compare(results)
    choice = choose(results) if results.chosen() is not None else None
    with tempfile.TemporaryDirectory() as folder:
        figures = plot_all(results, Path(folder), comparison)
        images = {name: base64.b64encode(p.read_bytes()).decode() for name, p in figures.items()}
    sections = [
        _overview(results, choice),
        _figures(images, ("pareto",), "The trade-off"),
        _chosen(choice),
        _figures(images, ("breakdown", "roofline"), "Where it goes"),
        _standing(results),
        _searchers(results, comparison, images),
        _origin(results),
    ]
    heading = html.escape(results.meta["title"])
    body = "\n".join(part for part in sections if part)
    text = (
        "<!DOCTYPE html>\n"
        f'<html lang="en"><head><meta charset="utf-8"><title>{heading}</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<style>{_STYLE}</style></head>\n<body><main><header><h1>{heading}</h1>"
        f"<p>{html.escape(_subtitle(results))}</p></header>\n{body}\n</main></body></html>\n"
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def _subtitle(results: Results) -> str:
    goals = ", ".join(title(name).lower() for name in results.objectives)
    limits = ", ".join(
        f"{title(name).lower()} {human(name, bound)}" for name, bound in results.limits.items()
    )
    text = f"{results.problem.problem.subject}; minimise {goals}"
    return f"{text}; limits: {limits}" if limits else text


def _section(heading: str, *content: str) -> str:
    return f"<section><h2>{html.escape(heading)}</h2>{''.join(content)}</section>"


def _table(header: list[str], rows: list[list[str]]) -> str:
    """A table of texts; cells that start with ``<`` are markup made here."""

    def cell(text: str) -> str:
        return text if text.startswith("<span") else html.escape(text)

    # Numbers stand to the right; a column of words reads from the left.
    words = [not any(c.isdigit() for row in rows for c in row[i]) for i in range(len(header))]
    kinds = [' class="words"' if i and word else "" for i, word in enumerate(words)]
    head = "".join(
        f"<th{k}>{html.escape(name)}</th>" for k, name in zip(kinds, header, strict=True)
    )
    body = "".join(
        "<tr>"
        + "".join(f"<td{k}>{cell(text)}</td>" for k, text in zip(kinds, row, strict=True))
        + "</tr>"
        for row in rows
    )
    # Two columns across the page would lie too far apart to be read as one line.
    table = '<table class="narrow">' if len(header) == 2 else "<table>"
    return f'<div class="scroll">{table}<tr>{head}</tr>{body}</table></div>'


def _cards(entries: list[tuple[str, str]]) -> str:
    cards = "".join(
        f'<div class="card"><b>{html.escape(value)}</b><span>{html.escape(name)}</span></div>'
        for name, value in entries
    )
    return f'<div class="cards">{cards}</div>'


def _overview(results: Results, choice: Choice | None) -> str:
    space = results.problem.space
    entries = [
        ("designs in the space", _many(space.size)),
        ("evaluations", f"{len(results.evaluations.run):,}"),
        ("distinct designs", f"{len(results.feasible):,}"),
        ("feasible", f"{int(results.feasible.sum()):,}"),
        ("on the front", f"{len(results.front):,}"),
    ]
    if choice is not None:
        names = list(dict.fromkeys((*results.objectives, *results.limits)))
        metrics = choice.design.metrics
        entries += [(f"best design: {title(n).lower()}", human(n, metrics[n])) for n in names]
        note = ""
    else:
        note = "<p>No feasible design was found: relax a limit or search longer.</p>"
    return _section("At a glance", _cards(entries), note)


def _many(count: int) -> str:
    """A number of designs: in full, or as a power of ten."""
    if count < 1e7:
        return f"{count:,}"
    lead, power = f"{count:.2e}".split("e+")
    return f"{lead} × 10{str(int(power)).translate(str.maketrans('0123456789', '⁰¹²³⁴⁵⁶⁷⁸⁹'))}"


def _figures(images: dict[str, str], names: tuple[str, ...], heading: str) -> str:
    shown = [_figure(images, name) for name in names if name in images]
    return _section(heading, *shown) if shown else ""


def _figure(images: dict[str, str], name: str) -> str:
    return (
        f'<figure><img alt="{name}: {html.escape(_CAPTIONS[name])}" '
        f'src="data:image/png;base64,{images[name]}">'
        f"<figcaption>{html.escape(_CAPTIONS[name])}</figcaption></figure>"
    )


def _chosen(choice: Choice | None) -> str:
    if choice is None:
        return ""
    values = "".join(
        f"<div><dt>{html.escape(name)}</dt><dd>{html.escape(str(value))}</dd></div>"
        for name, value in choice.design.values.items()
    )
    reasons = "".join(f"<li>{html.escape(reason)}</li>" for reason in choice.reasons)
    content = [f"<h3>Parameters</h3><dl>{values}</dl>", f"<h3>Why it wins</h3><ul>{reasons}</ul>"]
    if choice.limits:
        rows = [
            [
                title(limit.metric),
                human(limit.metric, limit.value),
                human(limit.metric, limit.bound),
                f"{100 * limit.slack:.1f} %",
                f'<span class="tag{" binding" if limit.binding else ""}">'
                f"{'binding' if limit.binding else 'not binding'}</span>",
            ]
            for limit in choice.limits
        ]
        content.append("<h3>Limits</h3>" + _table(["limit", "value", "bound", "left", ""], rows))
    content.append("<h3>What a single change would do</h3>" + _changes(choice))
    found = html.escape(", ".join(choice.found_by))
    content.append(f"<p>Found by {found}.</p>")
    return _section("The chosen design", *content)


def _changes(choice: Choice) -> str:
    """The most favourable change of every parameter, allowed or not."""
    best: dict[str, Any] = {}
    for change in sorted(choice.changes, key=lambda item: item.gain):
        best.setdefault(change.parameter, change)
    rows = []
    for change in best.values():
        broken = ", ".join(title(name).lower() for name in change.broken)
        verdict = "yes" if change.feasible else f"no: {broken or choice.refusal}"
        rows.append([str(change), percent(change.gain), verdict])
    return _table(["change", choice.by, "allowed"], rows)


def _standing(results: Results) -> str:
    header, rows = design_rows(results)
    return _section("Designs that stand out", _table(header, rows)) if len(header) > 1 else ""


def _searchers(results: Results, comparison: Comparison | None, images: dict[str, str]) -> str:
    if comparison is None:
        return ""
    header, rows = comparison_rows(comparison)
    measure = results.meta.get("objective_label", "the cost")
    measure = f"the {measure}" if " mean of " in measure else measure
    note = (
        "<p>Every agent had the same budget of "
        f"{comparison.budget:,} evaluations a run. The objective, lower is better, is the "
        f"logarithm of {html.escape(measure)}, so that a difference of 0.1 is about 10 %. The "
        "target is an objective of "
        f"{comparison.target:.4g}: within 5 % of the way from the best design found to the median "
        "one. P(beats next) is the chance that a run ends better than one of the agent below. "
        "Sources: Agarwal et al., NeurIPS 2021 (interquartile mean, bootstrap, probability of "
        "improvement); IGD+ and hypervolume by moocore.</p>"
    )
    figures = [_figure(images, name) for name in ("convergence", "hypervolume") if name in images]
    return _section("The searchers", _table(header, rows), note, *figures)


def _origin(results: Results) -> str:
    versions = json.loads(results.meta["versions"])
    rows = [[name, value] for name, value in versions.items()]
    command = results.meta.get("command") or "archsim run scenario.yaml"
    scenario = (results.directory / "scenario.yaml").read_text(encoding="utf-8")
    return _section(
        "How to reproduce",
        f"<pre>{html.escape(command)}</pre>",
        f"<details><summary>Scenario ({len(scenario.splitlines())} lines)</summary>"
        f"<pre>{html.escape(scenario)}</pre></details>",
        "<h3>Versions</h3>" + _table(["package", "version"], rows),
        f"<footer>Scenario digest {results.meta['digest'][:16]}. "
        "Same seeds, same results, on any number of workers.</footer>",
    )
