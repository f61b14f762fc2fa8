"""Figures of processors beside memories that compute: what runs where, and what it is worth."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from archsim.explore.style import COLOURS, GREY, INK, figure, line_style
from archsim.system.llm.offload import AreaSplit, Gains, Placement

#: Colours of the engines.
XPU, PIM, BOTH, LINKS = COLOURS[1], COLOURS[0], COLOURS[3], GREY
#: Operations a byte, and gains, at which lines are drawn.
INTENSITIES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
SPEEDS = (1.05, 1.25, 1.5, 2.0, 3.0)


def _edges(values: Sequence[float] | np.ndarray) -> np.ndarray:
    """Edges of cells around points on a logarithmic axis."""
    logs = np.log(np.asarray(values, float))
    if len(logs) == 1:
        return np.exp([logs[0] - 0.35, logs[0] + 0.35])
    middle = (logs[1:] + logs[:-1]) / 2
    return np.exp(np.concatenate([[2 * logs[0] - middle[0]], middle, [2 * logs[-1] - middle[-1]]]))


def _axes(panel: Any, batches: Sequence[int], contexts: Sequence[int], first: bool) -> None:
    panel.set_xscale("log")
    panel.set_yscale("log")
    panel.grid(False)
    for axis, values in ((panel.xaxis, batches), (panel.yaxis, contexts)):
        some = list(values)[:: max(1, -(-len(values) // 6))]
        axis.set_ticks(some, [_short(v) for v in some])
        axis.set_minor_locator(_none())
    panel.set_xlabel("batch")
    if first:
        panel.set_ylabel("tokens of context")


def _none() -> Any:
    from matplotlib.ticker import NullLocator

    return NullLocator()


def _heading(canvas: Any, title: str) -> None:
    """A title over all panels, in as many lines as the figure's width asks for."""
    text = textwrap.fill(title, int(11 * canvas.get_figwidth()))
    canvas.suptitle(text, x=0.01, ha="left", fontsize=10.5, fontweight="bold")


def _short(value: float) -> str:
    return f"{value / 1024:g}k" if value >= 1024 and value % 1024 == 0 else f"{value:g}"


def _contours(
    panel: Any, x: Any, y: Any, z: np.ndarray, levels: Sequence[float], form: str
) -> None:
    """Labelled lines, where the surface has any."""
    inside = [level for level in levels if z.min() < level < z.max()]
    if inside and min(z.shape) > 1:
        from matplotlib.patheffects import withStroke

        halo = withStroke(linewidth=2.5, foreground="white")  # readable on every colour
        lines = panel.contour(x, y, z, levels=inside, colors=INK, linewidths=0.8)
        lines.set_path_effects([halo])
        labels = panel.clabel(lines, fmt=lambda v: form.format(v), fontsize=7.5, inline=False)
        for label in labels:
            label.set_path_effects([halo])


def plot_map(
    found: Mapping[str, Placement],
    batches: Sequence[int],
    contexts: Sequence[int],
    path: str | Path,
    title: str,
) -> Path:
    """Which engine takes each operation over batch and context, with operations a byte as lines.

    Args:
        found: Placements of operations at all pairs, batches outer.
        batches, contexts: The axes.
        path: The PNG file.
        title: Above the panels.
    """
    from matplotlib.colors import LinearSegmentedColormap

    colours = LinearSegmentedColormap.from_list("engines", [XPU, "#F2F2F2", PIM])
    path, shape = Path(path), (len(batches), len(contexts))
    with figure(path, 1.2 + 2.9 * len(found), 3.7) as canvas:
        panels = canvas.subplots(1, len(found), squeeze=False, sharey=True)[0]
        for place, (panel, (name, p)) in enumerate(zip(panels, found.items(), strict=True)):
            share = p.share.reshape(shape).T
            mesh = panel.pcolormesh(
                _edges(batches), _edges(contexts), share, cmap=colours, vmin=0, vmax=1
            )
            intensity = p.intensity.reshape(shape).T
            _contours(panel, batches, contexts, intensity, INTENSITIES, "{:g} op/B")
            if intensity.max() < 1.001 * intensity.min():
                panel.text(
                    0.5, 0.5, f"{intensity.flat[0]:.3g} op/B", transform=panel.transAxes,
                    ha="center", color="white" if share.mean() in (0.0, 1.0) else INK,
                )  # fmt: skip
            panel.set_title(name)
            _axes(panel, batches, contexts, place == 0)
        bar = canvas.colorbar(mesh, ax=list(panels), pad=0.01, aspect=30)
        bar.set_ticks([0, 0.5, 1], labels=["processor", "half each", "memory"])
        _heading(canvas, title)
    return path


def plot_gains(found: Gains, path: str | Path, title: str) -> Path:
    """Speed over the same machine without units, over batch, context and group size."""
    from matplotlib.patches import Rectangle

    path = Path(path)
    with figure(path, 1.2 + 2.9 * len(found.group), 3.7) as canvas:
        panels = canvas.subplots(1, len(found.group), squeeze=False, sharey=True)[0]
        most = max(float(found.speed.max()), 1.5)
        for place, panel in enumerate(panels):
            speed = found.speed[place].T
            mesh = panel.pcolormesh(
                _edges(found.batch), _edges(found.context), speed, cmap="YlGnBu", vmin=1, vmax=most
            )
            _contours(panel, found.batch, found.context, speed, SPEEDS, "{:g}x")
            over = ~found.fits[place].T
            x, y = _edges(found.batch), _edges(found.context)
            for row, column in np.argwhere(over).tolist():
                size = x[column + 1] - x[column], y[row + 1] - y[row]
                panel.add_patch(
                    Rectangle((x[column], y[row]), *size, fill=False, hatch="////", linewidth=0)
                )
            group = int(found.group[place])
            heads = f"{group} query head{'s' if group > 1 else ''} a key head"
            panel.set_title(heads if group else "heads as published")
            _axes(panel, found.batch.tolist(), found.context.tolist(), place == 0)
        bar = canvas.colorbar(mesh, ax=list(panels), pad=0.01, aspect=30)
        bar.set_label("speed over no units in memory")
        note = "; hatched: caches do not fit" if (~found.fits).any() else ""
        _heading(canvas, title + note)
    return path


def plot_edap(
    ours: Mapping[str, np.ndarray],
    published: Mapping[str, Sequence[float]],
    ops: Sequence[int],
    path: str | Path,
) -> Path:
    """EDAP over the worst level by operations a byte, with published points."""
    path = Path(path)
    with figure(path, 5.6, 3.6) as canvas:
        panel = canvas.subplots()
        for place, (name, values) in enumerate(ours.items()):
            style = line_style(place)
            panel.plot(ops, values, label=name, linewidth=1.8, **style)
            if name in published:
                panel.plot(ops, published[name], "o", mfc="none", color=style["color"])
        panel.set_xscale("log", base=2)
        panel.set_xticks(list(ops), [str(x) for x in ops])
        panel.set_ylim(0, 1.08)
        panel.set_xlabel("operations a byte of weights")
        panel.set_ylabel("energy x delay x area\nover the worst level")
        panel.set_title("Where units should lie (circles: Duplex, MICRO'24)")
        panel.legend()
    return path


def plot_engines(
    found: Mapping[str, Sequence[Placement]], path: str | Path, title: str, row: int = 0
) -> Path:
    """Time of steps by engine: the processor alone, both, the memory's units alone, links."""
    path = Path(path)
    names = ("processor", "both at once", "memory", "links")
    with figure(path, 8.4, 1.4 + 0.42 * len(found)) as canvas:
        panel = canvas.subplots()
        for place, placed in enumerate(found.values()):
            parts = engine_times(placed, row)
            left = 0.0
            for name, colour in zip(names, (XPU, BOTH, PIM, LINKS), strict=True):
                width = parts[name] * 1e3
                panel.barh(place, width, left=left, color=colour, height=0.66,
                           label=name if not place else None)  # fmt: skip
                left += width
            panel.text(left, place, f"  {left:.3g} ms", va="center", fontsize=8)
        panel.set_yticks(range(len(found)), list(found))
        panel.invert_yaxis()
        panel.grid(axis="y", visible=False)
        panel.set_xlabel("ms a step")
        panel.margins(x=0.12)
        panel.set_title(title)
        panel.legend(ncols=4, loc="upper center", bbox_to_anchor=(0.5, -0.55 / len(found) - 0.12))
    return path


def engine_times(placed: Sequence[Placement], row: int = 0) -> dict[str, float]:
    """Seconds of a step by which engines work; they sum up to its calls."""
    times = dict.fromkeys(("processor", "both at once", "memory", "links"), 0.0)
    for p in placed:
        xpu, pim, links = p.xpu_s[row], p.pim_s[row], p.links_s[row]
        both = min(xpu, pim)
        times["both at once"] += both
        times["processor"] += xpu - both
        times["memory"] += pim - both
        times["links"] += links
    return {name: float(value) for name, value in times.items()}


def plot_area(found: AreaSplit, weights: Sequence[float], path: str | Path, title: str) -> Path:
    """Time of a mix of steps over the area given to units in memory, one line a TSV multiple."""
    path = Path(path)
    time = found.latency_s @ np.asarray(weights, float)
    legal = found.legal
    best = int(np.argmin(np.where(legal, time, np.inf)))
    with figure(path, 6.4, 3.9) as canvas:
        panel = canvas.subplots()
        place = 0
        for scale in np.unique(found.tsv):
            mine = (found.tsv == scale) & (legal & (found.macs > 0) if scale else True)
            if not scale:
                panel.axhline(time[mine][0], color=GREY, linestyle="--", label="no units")
                continue
            order = np.argsort(found.pim_mm2[mine])
            share = found.pim_mm2[mine][order] / found.area_mm2 * 100
            panel.plot(share, time[mine][order], marker=".", label=f"{scale:g}x TSVs",
                       **line_style(place))  # fmt: skip
            place += 1
        panel.plot(found.pim_mm2[best] / found.area_mm2 * 100, time[best], "*", color=INK, ms=11,
                   label=f"best: {found.macs[best]:,.0f} multipliers a stack")  # fmt: skip
        panel.set_xlabel(f"share of {found.area_mm2:,.0f} mm² a device given to units in memory, %")
        panel.set_ylabel("s a request")
        panel.set_title(title)
        panel.legend(fontsize=8, loc="lower left")
    return path
