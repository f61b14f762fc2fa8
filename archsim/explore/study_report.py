"""The report of a study: one Markdown page with tables, figures, and what follows from them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from archsim.explore import statistics as stats
from archsim.explore.lottery import Draw, draws, ranks
from archsim.explore.statistics import Band, interquartile_mean
from archsim.explore.study_plots import plot_curves, plot_duels, plot_lottery
from archsim.explore.study_results import CLOSE, LEVEL, CellScores, StudyResults
from archsim.explore.units import human, number, title

REPORT_NAME = "report.md"
_MEASURES = {"end": "at the end of a run", "way": "on the way to it"}


def write_study(directory: str | Path, out: str | Path | None = None) -> Path:
    """Write the report and its figures.

    Args:
        directory: Folder of a finished study.
        out: Where to write; the folder itself when not given.

    Returns:
        The Markdown file.

    Raises:
        InputError: There is no finished study in the folder.
    """
    results = StudyResults(directory)
    folder = Path(out or directory)
    folder.mkdir(parents=True, exist_ok=True)
    sections = [_opening(results)]
    if results.listed:
        bands = {
            part: {label: results.band(cells, label) for label in results.listed}
            for part, cells in results.splits().items()
        }
        order = sorted(results.listed, key=lambda label: _rank_key(results, bands["all"], label))
        sections += [_findings(results, order, bands["all"]), _agents(results, order, bands)]
        if len(order) > 1:
            plot_duels(results, order, folder / "duels.png")
        ordered = {part: {name: found[name] for name in order} for part, found in bands.items()}
        plot_curves(results, ordered, folder / "curves.png")
        sections += [_pairs(results, order), _scenarios(results, order)]
    if results.spec.sweeps:
        sections.append(_lottery(results, folder))
    sections.append(_making(results))
    path = folder / REPORT_NAME
    path.write_text("\n\n".join(sections) + "\n", encoding="utf-8")
    return path


def _rank_key(results: StudyResults, bands: dict[str, Band], label: str) -> tuple[float, float]:
    """Best by the end; of those that end alike, the one that was there sooner."""
    way = np.concatenate([results.on_the_way(cell, label) for cell in results.cells])
    return round(float(bands[label].value[-1]), 9), float(interquartile_mean(way))


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table; the first column reads from the left, the others stand to the right."""
    marks = ["---"] + ["---:"] * (len(header) - 1)
    lines = [header, marks, *rows]
    return "\n".join(
        "| " + " | ".join(cell.replace("|", "/") for cell in line) + " |" for line in lines
    )


def _opening(results: StudyResults) -> str:
    spec = results.spec
    runs = sum(len(curves) for cell in results.cells for curves in cell.curves.values())
    known = [cell.exact.designs for cell in results.cells if cell.exact is not None]
    yardstick = (
        f"Every design of every space is known ({max(known):,} in the largest), so regret is exact."
        if results.exact
        else "Not every space is known as a whole; there regret is against the best design any run "
        "found."
    )
    lines = [f"# {spec.title or spec.study}"]
    if spec.description:
        lines.append(spec.description)
    lines.append(
        f"{len(results.cells)} scenarios, {len(results.labels):,} agents or settings of agents, "
        f"{spec.seeds} seeds, {spec.budget:,} evaluations a run: {runs:,} runs, "
        f"{runs * spec.budget:,} evaluations. A repeated design counts again. {yardstick}"
    )
    lines.append(
        "Regret is what a design costs above the optimum; scaled, 0 is the optimum and 1 the "
        "median feasible design of the space. Intervals are 95 % stratified bootstrap intervals "
        "of the interquartile mean (Agarwal et al., NeurIPS 2021). A difference is called "
        "significant when van Elteren's rank test, adjusted for all pairs by Holm's method, gives "
        f"p < {LEVEL}."
    )
    if results.short:
        lines.append("Ended before the budget:\n\n" + "\n".join(f"- {s}" for s in results.short))
    return "\n\n".join(lines)


def _findings(results: StudyResults, order: Sequence[str], bands: dict[str, Band]) -> str:
    """What holds and what does not, in sentences made from the numbers."""
    lines = ["## What holds, and what does not", ""]
    first = order[0]
    worse = [n for n in order[1:] if results.duels["end"].verdict(first, n) > 0]
    open_ = [n for n in order[1:] if n not in worse]
    if worse:
        rest = f"; not distinguishable from {_listing(open_)}" if open_ else ""
        lines.append(f"- **{first}** ends best: significantly ahead of {_listing(worse)}{rest}.")
    elif open_:
        lines.append(f"- No agent ends significantly worse than **{first}**, the best on average.")
    found = {name: _share_found(results, name) for name in order}
    lines.append(
        "- Runs that end close to the optimum: "
        + ", ".join(f"{name} {100 * share:.0f} %" for name, share in found.items())
        + "."
    )
    for question in results.spec.questions:
        for key, words in _MEASURES.items():
            lines.append(f"- {question.claim}, {words}: {_answer(results, question, key)}")
    return "\n".join(lines)


def _answer(results: StudyResults, question: object, key: str) -> str:
    """The verdict on a claim, with the pairs it rests on."""
    duels = results.duels[key]
    pairs = [
        (one, other)
        for one in _labels_of(results, question.ours)  # type: ignore[attr-defined]
        for other in _labels_of(results, question.theirs)  # type: ignore[attr-defined]
    ]
    groups: dict[int, list[str]] = {1: [], 0: [], -1: []}
    for one, other in pairs:
        chance = duels.chance[duels.labels.index(one), duels.labels.index(other)]
        groups[duels.verdict(one, other)].append(f"{one} against {other} {chance:.2f}")
    for entries in groups.values():
        entries.sort()
    won, unsure, lost = groups[1], groups[0], groups[-1]
    if len(won) == len(pairs):
        verdict = "**holds**, for every pair"
    elif won and not lost:
        verdict = f"**holds for {len(won)} of {len(pairs)} pairs**; the others are open"
    elif won:
        verdict = f"**holds for {len(won)} of {len(pairs)} pairs, the contrary for {len(lost)}**"
    elif lost:
        verdict = f"**does not hold**; the contrary does for {len(lost)} of {len(pairs)} pairs"
    else:
        verdict = "**is open**: no pair differs significantly"
    parts = []
    for name, entries in (("better", won), ("open", unsure), ("worse", lost)):
        if entries:
            parts.append(f"{name}: {', '.join(entries)}")
    return f"{verdict} (chance of being better; {'; '.join(parts)})."


def _labels_of(results: StudyResults, names: Sequence[str]) -> list[str]:
    return [label for label in results.listed if results.agent_of[label] in names]


def _listing(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _share_found(results: StudyResults, label: str) -> float:
    finals = np.concatenate([cell.final(label) / cell.spread for cell in results.cells])
    return float((finals <= CLOSE).mean())


def _interval(band: Band, at: int = -1) -> str:
    return f"{number(band.value[at])} ({number(band.low[at])} to {number(band.high[at])})"


def _agents(results: StudyResults, order: Sequence[str], bands: dict[str, dict[str, Band]]) -> str:
    """The table of agents: where they end, how soon, and part by part."""
    rows = []
    for label in order:
        finals = np.concatenate([cell.final(label) for cell in results.cells])
        way = [results.on_the_way(cell, label)[:, None] for cell in results.cells]
        soon = _evaluations_to(results, results.cells, label)
        rows.append(
            [
                label,
                _interval(bands["all"][label]),
                *(number(bands[part][label].value[-1]) for part in bands if part != "all"),
                _percent(float(np.median(finals))),
                f"{100 * _share_found(results, label):.0f} %",
                f"{100 * float((finals <= 1e-12).mean()):.0f} %",
                soon,
                _interval(stats.bootstrap_iqm(way), 0),
            ]
        )
    parts = [part.replace("_", " ") for part in bands if part != "all"]
    header = [
        "agent",
        "scaled regret at the end",
        *parts,
        "median regret",
        "close",
        "at the optimum",
        "evaluations until close",
        "scaled regret on the way",
    ]
    note = (
        "Best first. Median regret is in per cent of what is minimised. Close is within "
        f"{100 * CLOSE:g} % of the way from the optimum to the median design; evaluations until "
        "then are the median over runs that get there, with their share where not all do; regret "
        "on the way is the mean over the whole search."
    )
    table = markdown_table(header, rows)
    return f"## The agents\n\n{table}\n\n{note}\n\n![regret against evaluations](curves.png)"


def _evaluations_to(results: StudyResults, cells: Sequence[CellScores], label: str) -> str:
    """Median evaluations until a run is close, at the resolution of the grid."""
    counts = []
    for cell in cells:
        reached = cell.curves[label] <= CLOSE * cell.spread
        first = np.where(reached.any(axis=1), results.grid[reached.argmax(axis=1)], np.inf)
        counts.append(first)
    pooled = np.concatenate(counts)
    done = pooled[np.isfinite(pooled)]
    if not len(done):
        return "never"
    text = f"{np.median(done):,.0f}"
    return text if len(done) == len(pooled) else f"{text} ({100 * len(done) / len(pooled):.0f} %)"


def _percent(regret: float) -> str:
    """Regret, a difference of logarithms, in per cent."""
    if not np.isfinite(regret):
        return "none found"
    return f"{number(100 * float(np.expm1(min(regret, 700.0))))} %"


def _pairs(results: StudyResults, order: Sequence[str]) -> str:
    """Chances of all pairs."""
    if len(order) < 2:
        return ""
    parts = ["## Who beats whom", ""]
    for key, words in _MEASURES.items():
        duels = results.duels[key]
        rows = []
        for one in order:
            cells = [f"**{one}**"]
            for other in order:
                if one == other:
                    cells.append("")
                    continue
                i, j = duels.labels.index(one), duels.labels.index(other)
                star = "*" if duels.adjusted[i, j] < LEVEL else ""
                cells.append(f"{duels.chance[i, j]:.2f}{star}")
            rows.append(cells)
        parts += [
            f"Chance that a run of the row's agent is better than one of the column's {words} "
            "(`*` significant):",
            "",
            markdown_table(["", *order], rows),
            "",
        ]
    parts.append("![chances of all pairs](duels.png)")
    return "\n".join(parts)


def _scenarios(results: StudyResults, order: Sequence[str]) -> str:
    """Optima, and the regret of every agent on every scenario."""
    rows, regrets = [], []
    for cell in results.cells:
        shipped = cell.facts["reference"]
        gap = _percent(shipped["objective"] - cell.best) if shipped["feasible"] else "infeasible"
        exact = cell.exact
        row = [cell.name]
        if exact is None:
            row += ["unknown", "", "", ""]
        else:
            values = [
                f"{title(name).lower()} {human(name, exact.metrics[name])}"
                for name in shipped["metrics"]
            ]
            share = f"{100 * exact.feasible / exact.designs:.1f} %"
            row += [f"{exact.designs:,}", share, ", ".join(values), f"{exact.ties:,}"]
        rows.append([*row, gap, _percent(cell.spread)])
        regrets.append([cell.name, *(_percent(float(np.median(cell.final(n)))) for n in order)])
    header = [
        "scenario",
        "designs",
        "feasible",
        "the optimum",
        "designs that share it",
        "regret of the reference",
        "of the median design",
    ]
    names = {cell.facts["reference"]["name"] for cell in results.cells}
    return "\n\n".join(
        [
            "## The scenarios",
            markdown_table(header, rows),
            f"The reference is the {' or the '.join(sorted(names))}.",
            "Median regret at the end, agent by agent:",
            markdown_table(["scenario", *order], regrets),
        ]
    )


def _lottery(results: StudyResults, folder: Path) -> str:
    """The spread of every swept agent over its settings, and what ranks make of it."""
    found = draws(results)
    places = ranks(found)
    defaults = {draw.agent: draw.default for draw in found if draw.default is not None}
    plot_lottery({draw.agent: draw.regret for draw in found}, defaults, folder / "lottery.png")
    rows = []
    for draw in found:
        low, high = draw.quartiles
        values = [float(draw.regret.min()), float(np.median(draw.regret)), float(draw.regret.max())]
        rank = places[draw.agent]
        rows.append(
            [
                draw.agent,
                f"{len(draw.regret):,}",
                *(
                    f"{number(value)} ({rank[name]})"
                    for name, value in zip(("best", "median", "worst"), values, strict=True)
                ),
                f"{number(low)} to {number(high)}",
                "" if draw.default is None else number(draw.default),
            ]
        )
    header = [
        "agent",
        "settings",
        "best (rank)",
        "median (rank)",
        "worst (rank)",
        "middle half",
        "defaults",
    ]
    names = ["agent", "luckiest setting", "unluckiest setting"]
    settings = [[draw.agent, draw.best, draw.worst] for draw in found]
    return "\n\n".join(
        [
            "## The lottery of hyperparameters",
            markdown_table(header, rows),
            "Scaled regret at the end of a run, interquartile mean over scenarios and seeds. Ranks "
            "compare the agents by their best, median and worst setting; equals share a rank.",
            _lottery_findings(found),
            "![regret of every setting](lottery.png)",
            markdown_table(names, settings),
        ]
    )


def _lottery_findings(found: Sequence[Draw]) -> str:
    """In words: does the ranking survive another draw of settings?"""
    orders = []
    measures: tuple[Callable[[np.ndarray], float], ...] = (np.min, np.median, np.max)  # type: ignore[assignment]
    for measure in measures:
        orders.append([d.agent for d in sorted(found, key=lambda d: (measure(d.regret), d.agent))])
    same = orders[0] == orders[1] == orders[2]
    widest = max(found, key=lambda draw: draw.spread)
    lines = [
        "- Ranked by best, median and worst setting the agents come in "
        + (
            "the same order: " + ", ".join(orders[0])
            if same
            else "different orders: "
            + "; ".join(
                f"{name}: {', '.join(order)}"
                for name, order in zip(("best", "median", "worst"), orders, strict=True)
            )
        )
        + ".",
        f"- The widest spread is that of {widest.agent}: {number(widest.spread)} between its "
        "luckiest setting and the unluckiest that finds a feasible design.",
    ]
    lost = [f"{draw.agent} {draw.lost} of {len(draw.regret)}" for draw in found if draw.lost]
    if lost:
        lines.append(f"- Settings that find no feasible design (∞): {', '.join(lost)}.")
    for one in found:
        beaten = [
            other.agent
            for other in found
            if other is not one
            and one.regret.max() > other.regret.min()
            and one.regret.min() < other.regret.max()
        ]
        if beaten:
            lines.append(
                f"- By the choice of settings {one.agent} can be shown to win or to lose against "
                f"{_listing(beaten)}."
            )
    return "\n".join(lines)


def _making(results: StudyResults) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in results.versions.items())
    return f"## How to make it\n\n```\n{results.command}\n```\n\n{versions}"
