"""Figures of a run directory: trade-off curve, convergence, hypervolume.

Each function writes one file and returns its path. The figures of single designs (breakdown,
roofline) are in `archsim.explore.design_plots`.
"""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Any

import numpy as np

from archsim.explore.results import Comparison, Results
from archsim.explore.statistics import Band
from archsim.explore.style import COLOURS, GREY, INK, LIMIT, figure, line_style, log_if_wide
from archsim.explore.units import Unit, axis_label, human, title, unit_for

#: Points drawn at most; more of them would only darken the same picture.
MAX_POINTS = 20_000


def plot_pareto(results: Results, path: str | Path) -> Path:
    """The trade-off curve: designs, front, knee, chosen design and constraint lines.

    The large panel shows the first two objectives; every limited metric that is not on its axes
    gets a small panel of its own, where its limit is a line.
    """
    path = Path(path)
    x, y = _axes_of(results)
    others = [name for name in results.limits if name not in (x, y) and name in results.metrics]
    side = others[:3]
    with figure(path, 10.5 if side else 8.0, 5.6) as canvas:
        if side:
            grid = canvas.add_gridspec(len(side), 2, width_ratios=(1.9, 1.0))
            main = canvas.add_subplot(grid[:, 0])
            panels = [canvas.add_subplot(grid[row, 1]) for row in range(len(side))]
        else:
            main, panels = canvas.add_subplot(), []
        handles = _trade_off(main, results, x, y, marks=True)
        heading = results.meta.get("title") or results.meta.get("name", "")
        main.set_title(textwrap.fill(heading, 68 if side else 90))
        for panel, name in zip(panels, side, strict=True):
            _trade_off(panel, results, x, name, marks=False)
            panel.set_title(f"{title(name)} limit")
        canvas.legend(handles=handles, loc="outside lower left", ncols=3)
    return path


def _axes_of(results: Results) -> tuple[str, str]:
    """Metrics of the two axes; a single objective is shown against what costs most."""
    if len(results.objectives) > 1:
        return results.objectives[0], results.objectives[1]
    only = results.objectives[0]
    for name in (*results.limits, "area_mm2", "latency_s", "energy_j"):
        if name in results.metrics and name != only:
            return name, only
    return only, "objective"


def _trade_off(panel: Any, results: Results, x: str, y: str, *, marks: bool) -> list[Any]:
    """Draw one panel; returns the legend entries."""
    across, up = results.metrics[x], results.metrics[y]
    feasible = results.feasible
    seen = feasible if feasible.any() else np.ones(len(feasible), dtype=bool)
    # A limit is written in the unit of its axis, so it decides about the unit.
    units = (
        unit_for(x, results.limits.get(x, across[seen])),
        unit_for(y, results.limits.get(y, up[seen])),
    )
    window = [
        _window(values[seen], results.limits.get(name), _near_front(results, name))
        for values, name in ((across, x), (up, y))
    ]
    # Few points are drawn bold, many lightly.
    size, ink = (20, 0.85) if len(feasible) < 1000 else (9, 0.45)
    handles = [
        _scatter(panel, across, up, rows, units, window, **look)
        for rows, look in (
            (
                ~feasible,
                {"color": GREY, "alpha": 0.7 * ink, "s": 0.8 * size, "label": "infeasible"},
            ),
            (feasible, {"color": COLOURS[4], "alpha": ink, "s": size, "label": "feasible"}),
        )
    ]
    front = results.front
    if len(front):
        handles.append(_front_line(panel, results, x, y, units))
    handles += _limit_lines(panel, results, x, y, units, window)
    if marks:
        handles += _marks(panel, results, x, y, units)
    for axis, (low, high), unit, name in zip(
        (panel.xaxis, panel.yaxis), window, units, (x, y), strict=True
    ):
        low, high = low * unit.factor, high * unit.factor
        log = log_if_wide(axis, low, high)
        margin = (high / low) ** 0.04 if log else (high - low) * 0.04
        limits = (low / margin, high * margin) if log else (low - margin, high + margin)
        (panel.set_xlim if axis is panel.xaxis else panel.set_ylim)(*limits)
        axis.set_label_text(axis_label(name, unit))
    return [handle for handle in handles if handle is not None]


def _near_front(results: Results, name: str) -> float:
    """Upper end of what is worth showing of an objective: a few times the front's worst."""
    if name not in results.objectives or len(results.objectives) < 2 or not len(results.front):
        return float("inf")
    values = results.metrics[name][results.front]
    return float(values.max()) * 2.0 if values.min() > 0 else float("inf")


def _window(values: np.ndarray, limit: float | None, most: float) -> tuple[float, float]:
    """Range shown: near the front, all but the worst 2 % of the feasible designs, a near limit."""
    low, high = float(values.min()), min(most, float(np.percentile(values, 98)))
    if limit is not None:
        high = max(high, min(1.25 * limit, 4 * high))
        low = min(low, max(0.97 * limit, low / 4))  # a limit from below
    if high <= low:
        high = low * 1.1 if low > 0 else low + 1.0
    return low, high


def _scatter(
    panel: Any,
    across: np.ndarray,
    up: np.ndarray,
    rows: np.ndarray,
    units: tuple[Unit, Unit],
    window: list[tuple[float, float]],
    **look: Any,
) -> Any:
    """Draw designs; those far outside the window are left out, many are thinned evenly."""
    (left, right), (low, high) = window
    inside = rows & (across <= right * 1.3) & (up <= high * 1.3)
    inside &= (across >= left * 0.7) & (up >= low * 0.7)
    places = np.flatnonzero(inside)
    if not len(places):
        return None
    places = places[:: max(1, len(places) // MAX_POINTS)]
    look["label"] += f" ({int(rows.sum()):,})"
    return panel.scatter(
        across[places] * units[0].factor,
        up[places] * units[1].factor,
        linewidths=0,
        rasterized=True,
        **look,
    )


def _front_line(panel: Any, results: Results, x: str, y: str, units: tuple[Unit, Unit]) -> Any:
    """The front as a staircase where it is one on these axes, as points elsewhere."""
    front = results.front
    xs, ys = results.metrics[x][front] * units[0].factor, results.metrics[y][front]
    ys = ys * units[1].factor
    if (x, y) != tuple(results.objectives):
        return panel.scatter(xs, ys, s=11, color=COLOURS[0], zorder=3, label="on the front")
    panel.step(xs, ys, where="post", color=COLOURS[0], linewidth=1.4, zorder=3)
    label = f"front ({len(front)} design{'' if len(front) == 1 else 's'})"
    return panel.scatter(xs, ys, s=13, color=COLOURS[0], zorder=3, label=label)


def _limit_lines(
    panel: Any,
    results: Results,
    x: str,
    y: str,
    units: tuple[Unit, Unit],
    window: list[tuple[float, float]],
) -> list[Any]:
    """Limits on the metrics of the axes, and on power where the axes are time and energy."""
    handles = []
    look = {"color": LIMIT, "linewidth": 1.2, "linestyle": (0, (4, 2)), "zorder": 2}
    for name, draw, unit in ((x, panel.axvline, units[0]), (y, panel.axhline, units[1])):
        if name in results.limits:
            limit = results.limits[name]
            text = f"limit: {title(name).lower()} {human(name, limit)}"
            handles.append(draw(limit * unit.factor, label=text, **look))
    power = results.limits.get("power_w")
    if power is not None and (x, y) == ("latency_s", "energy_j") and _power_is_ratio(results):
        times = np.geomspace(max(window[0][0] * 0.5, 1e-30), window[0][1] * 2.0, 64)
        (line,) = panel.plot(
            times * units[0].factor,
            times * power * units[1].factor,
            label=f"limit: power {human('power_w', power)}",
            **look,
        )
        handles.append(line)
    return handles


def _power_is_ratio(results: Results) -> bool:
    """Whether power is energy over latency here, so that its limit is a line through the panel."""
    metrics = results.metrics
    if "power_w" not in metrics:
        return False
    ratio = metrics["energy_j"] / np.maximum(metrics["latency_s"], 1e-300)
    return bool(np.allclose(ratio, metrics["power_w"], rtol=1e-6))


def _marks(panel: Any, results: Results, x: str, y: str, units: tuple[Unit, Unit]) -> list[Any]:
    """Knee and chosen design; described in the legend, so that no text covers a point."""
    handles = []
    knee, best = results.knee, results.chosen()
    marked = [(knee, "knee", "D", 62, "white"), (best, "best objective", "*", 190, COLOURS[5])]
    if knee is not None and best is not None:
        places = [[results.metrics[metric][row] for metric in (x, y)] for row in (knee, best)]
        if places[0] == places[1]:
            marked = [(best, "best objective and knee", "*", 190, COLOURS[5])]
    for row, name, marker, size, face in marked:
        if row is None:
            continue
        values = [results.metrics[metric][row] for metric in (x, y)]
        text = ", ".join(human(m, v) for m, v in zip((x, y), values, strict=True))
        handles.append(
            panel.scatter(
                [values[0] * units[0].factor],
                [values[1] * units[1].factor],
                marker=marker,
                s=size,
                facecolor=face,
                edgecolor=INK,
                linewidths=1.1,
                zorder=5,
                label=f"{name}: {text}",
            )
        )
    return handles


def plot_convergence(results: Results, comparison: Comparison, path: str | Path) -> Path:
    """Best objective so far against evaluations: interquartile mean and 95 % band per agent."""
    path = Path(path)
    bands = {score.label: score.objective for score in comparison.scores}
    with figure(path, 9.6, 4.8) as canvas:
        panel = _curves(canvas, comparison, bands)
        label = results.meta.get("objective_label", "cost")
        panel.set_ylabel(textwrap.fill(f"Objective, lower is better: ln of {label}", 48))
        panel.set_title("Best feasible design so far")
        _focus(panel, comparison)
    return path


def plot_hypervolume(comparison: Comparison, path: str | Path) -> Path:
    """Hypervolume of the front so far against evaluations."""
    path = Path(path)
    order = sorted(comparison.scores, key=lambda score: -score.hypervolume.value[-1])
    bands = {score.label: score.hypervolume for score in order}
    with figure(path, 9.6, 4.8) as canvas:
        panel = _curves(canvas, comparison, bands)
        panel.set_ylabel("Normalised hypervolume (higher is better)")
        panel.set_ylim(bottom=0)
        panel.set_title("How much of the trade-off is covered")
    return path


def _curves(canvas: Any, comparison: Comparison, bands: dict[str, Band]) -> Any:
    """Curves on the left; on the right the final values, which name the curves.

    An agent keeps its colour in every figure.
    """
    panel, ranking = canvas.subplots(1, 2, width_ratios=(2.6, 1.0))
    styles = {name: line_style(place) for place, name in enumerate(sorted(bands))}
    # Many bands on top of each other say nothing; the intervals on the right do.
    alpha = 0.14 if len(bands) <= 5 else 0.05
    for place, (name, band) in enumerate(bands.items()):
        style = styles[name]
        known = np.isfinite(band.value)
        xs = comparison.grid[known]
        panel.plot(xs, band.value[known], linewidth=1.7, zorder=3, **style)
        high = np.where(np.isfinite(band.high), band.high, np.nan)[known]
        panel.fill_between(
            xs, band.low[known], high, color=style["color"], alpha=alpha, linewidth=0
        )
        ends = [band.low[-1], band.high[-1]]
        if np.isfinite(ends).all():
            ranking.plot(ends, [place, place], linewidth=2.4, solid_capstyle="butt", **style)
        if known[-1]:
            ranking.plot([band.value[-1]], [place], "o", color=style["color"], markersize=6)
    panel.set_xlabel("Evaluations")
    panel.set_xlim(1, comparison.grid[-1])
    log_if_wide(panel.xaxis, 1.0, float(comparison.grid[-1]))
    seeds = sorted({score.runs for score in comparison.scores})
    count = str(seeds[0]) if len(seeds) == 1 else f"{seeds[0]}–{seeds[-1]}"
    ranking.set_title("Final value")
    ranking.set_xlabel(f"IQM of {count} seed{'' if count == '1' else 's'}, 95 % interval")
    ranking.set_yticks(range(len(bands)), list(bands))
    for tick, name in zip(ranking.get_yticklabels(), bands, strict=True):
        tick.set_color(styles[name]["color"])
    ranking.set_ylim(len(bands) - 0.5, -0.5)
    ranking.grid(visible=False, axis="y")
    ranking.tick_params(axis="y", length=0)
    ranking.locator_params(axis="x", nbins=4)
    return panel


def _focus(panel: Any, comparison: Comparison) -> None:
    """Show where agents differ: nearly all values the curves take, and the best one found."""
    values = np.concatenate([score.objective.value for score in comparison.scores])
    values = values[np.isfinite(values)]
    if not len(values):
        return
    low, high = comparison.best, float(np.percentile(values, 97))
    if high > low:
        panel.set_ylim(low - 0.04 * (high - low), high + 0.02 * (high - low))
    panel.axhline(low, color=GREY, linewidth=0.9, linestyle=":", zorder=1)
