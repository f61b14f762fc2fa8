"""Figures of a study: regret against evaluations, who beats whom, and the lottery."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from archsim.explore.statistics import Band
from archsim.explore.study_results import LEVEL, StudyResults
from archsim.explore.style import COLOURS, INK, figure, line_style, log_if_wide

#: Scaled regret below this is drawn as this: the logarithmic axis has no zero.
FLOOR = 1e-3
#: Pages with these figures are kept under version control, so they are small: dots an inch, and
#: colours of the palette.
DPI, PALETTE = 110, 96


@contextmanager
def small_figure(path: Path, width: float, height: float) -> Iterator[Any]:
    """As `archsim.explore.style.figure`, in few bytes."""
    from PIL import Image

    with figure(path, width, height) as canvas:
        canvas.set_dpi(DPI)
        yield canvas
    with Image.open(path) as image:
        reduced = image.convert("RGB").quantize(PALETTE, dither=Image.Dither.NONE)
    reduced.save(path, optimize=True)


def plot_curves(results: StudyResults, bands: Mapping[str, Mapping[str, Band]], path: Path) -> Path:
    """Scaled regret against evaluations, one panel a part of the study.

    Args:
        results: The study.
        bands: Part -> agent -> its curve.
        path: The PNG file.
    """
    parts = list(bands)
    with small_figure(path, 3.1 * len(parts) + 1.7, 3.9) as canvas:
        panels = np.atleast_1d(canvas.subplots(1, len(parts), sharey=True))
        handles: dict[str, Any] = {}
        for panel, part in zip(panels, parts, strict=True):
            for place, (label, band) in enumerate(bands[part].items()):
                style = line_style(place)
                known = np.isfinite(band.value)
                xs = results.grid[known]
                (line,) = panel.plot(
                    xs, np.maximum(band.value[known], FLOOR), linewidth=1.6, **style
                )
                low = np.maximum(band.low[known], FLOOR)
                high = np.where(np.isfinite(band.high), band.high, np.nan)[known]
                panel.fill_between(
                    xs, low, np.maximum(high, FLOOR), color=style["color"], alpha=0.08, linewidth=0
                )
                handles.setdefault(label, line)
            panel.set_yscale("log")
            panel.set_xlim(1, results.grid[-1])
            panel.set_ylim(FLOOR * 0.9, 3.0)
            log_if_wide(panel.xaxis, 1.0, float(results.grid[-1]))
            panel.set_title(part.replace("_", " "))
            panel.set_xlabel("Evaluations")
        panels[0].set_ylabel("Regret (0: optimum, 1: median design)")
        canvas.legend(
            handles=list(handles.values()), labels=list(handles), loc="outside right center"
        )
    return path


def plot_duels(results: StudyResults, order: Sequence[str], path: Path) -> Path:
    """Chance that the row's agent is better than the column's, at the end and on the way."""
    names = list(order)
    with small_figure(path, 11.0, 0.36 * len(names) + 2.0) as canvas:
        panels = canvas.subplots(1, 2)
        titles = {"end": "Better at the end of a run", "way": "Better on the way to it"}
        for panel, (key, duels) in zip(panels, results.duels.items(), strict=True):
            at = [duels.labels.index(name) for name in names]
            chance = duels.chance[np.ix_(at, at)]
            sure = duels.adjusted[np.ix_(at, at)] < LEVEL
            panel.imshow(chance, cmap="RdBu", vmin=0.0, vmax=1.0, aspect="auto")
            for row in range(len(names)):
                for column in range(len(names)):
                    if row != column:
                        text = f"{chance[row, column]:.2f}" + ("*" if sure[row, column] else "")
                        dark = abs(chance[row, column] - 0.5) > 0.32
                        panel.text(
                            column, row, text, ha="center", va="center", fontsize=6.5,
                            color="white" if dark else INK,
                        )  # fmt: skip
            panel.set_xticks(range(len(names)), names, rotation=60, ha="right", fontsize=7.5)
            panel.set_yticks(range(len(names)), names, fontsize=7.5)
            panel.grid(visible=False)
            panel.set_title(titles[key])
    return path


def plot_lottery(
    draws: Mapping[str, np.ndarray], defaults: Mapping[str, float], path: Path
) -> Path:
    """Regret of every setting of every swept agent, sorted, and the agent's own defaults.

    Args:
        draws: Agent -> scaled regret of each setting, float64[settings].
        defaults: Agent -> scaled regret with its defaults, where they were run.
        path: The PNG file.
    """
    with small_figure(path, 8.6, 4.2) as canvas:
        panel = canvas.subplots()
        for place, (agent, values) in enumerate(draws.items()):
            colour = COLOURS[place % len(COLOURS)]
            shown = np.maximum(np.sort(values), FLOOR)
            share = (np.arange(len(shown)) + 0.5) / len(shown)
            panel.plot(
                100 * share, shown, color=colour, linewidth=1.8, label=f"{agent} ({len(shown)})"
            )
            if agent in defaults:
                worth = max(defaults[agent], FLOOR)
                at = float((values < defaults[agent]).mean())
                panel.plot([100 * at], [worth], "o", color=colour, markersize=6)
        panel.set_yscale("log")
        panel.set_xlim(0, 100)
        panel.set_ylim(bottom=FLOOR * 0.9)
        panel.set_xlabel("Settings, from the luckiest to the unluckiest [%]")
        panel.set_ylabel("Regret (0: optimum, 1: median design)")
        panel.set_title("What the choice of hyperparameters does")
        panel.legend(title="agent (settings); dot: defaults")
    return path
