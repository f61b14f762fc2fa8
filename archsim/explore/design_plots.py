"""Figures of single designs: where energy, time and area go, and the roofline of their layers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from archsim.explore.design_cost import DesignCost, Layer
from archsim.explore.style import COLOURS, GREY, INK, figure, log_if_wide
from archsim.explore.units import Unit, human, number, unit_for, words

#: Parts smaller than this share of every bar are drawn together, under this name.
SMALL_SHARE = 0.02
OTHER = "all else"
LEGEND_COLUMNS = 2
#: Beyond this ratio between totals the bars show shares: short ones could not be read.
LARGEST_RATIO = 4.0
#: Layers named in the roofline.
NAMED_LAYERS = 8


def plot_breakdown(designs: Sequence[DesignCost], path: str | Path) -> Path:
    """Bars of designs side by side: energy and area by component, latency by what binds it."""
    path = Path(path)
    metrics = {
        "energy_j": "Energy by component",
        "latency_s": "Latency by what binds",
        "area_mm2": "Area by component",
    }
    bars = 0.75 + 0.5 * len(designs)
    parts = {metric: _parts([getattr(d, metric) for d in designs]) for metric in metrics}
    # A component has one colour in all panels.
    known = dict.fromkeys(name for names in parts.values() for name in names if name != OTHER)
    places = {name: place for place, name in enumerate(known)}
    rows = max(-(-len(names) // LEGEND_COLUMNS) for names in parts.values())
    keys = 0.1 + 0.21 * rows
    with figure(path, 12.0, bars + keys) as canvas:
        panels = canvas.subplots(2, 3, height_ratios=(bars, keys), squeeze=False)
        for column, (metric, heading) in enumerate(metrics.items()):
            panel, key = panels[:, column]
            _bars(panel, designs, metric, parts[metric], places)
            panel.set_title(heading)
            key.axis("off")
            key.legend(
                *panel.get_legend_handles_labels(),
                loc="upper left",
                ncols=LEGEND_COLUMNS,
                handlelength=1.0,
                fontsize=8,
                columnspacing=1.0,
                borderpad=0,
                borderaxespad=0,
            )
            panel.set_ylim(len(designs) - 0.4, -0.6)
            names = [_wrapped(design.role) for design in designs] if column == 0 else []
            panel.set_yticks(range(len(names)), names)
    return path


def _wrapped(text: str, width: int = 22) -> str:
    import textwrap

    return "\n".join(textwrap.wrap(text, width))


def _bars(
    panel: Any,
    designs: Sequence[DesignCost],
    metric: str,
    names: list[str],
    places: dict[str, int],
) -> None:
    """Stacked bars, one a design, with the total behind each."""
    tables: list[dict[str, float]] = [getattr(design, metric) for design in designs]
    totals = np.array([sum(table.values()) for table in tables])
    unit = unit_for(metric, totals)
    factors = np.full(len(designs), unit.factor)
    shares = bool(totals.max() > LARGEST_RATIO * totals.min() > 0)
    if shares:
        factors = 100.0 / totals
    starts = np.zeros(len(designs))
    for name in names:
        place = places.get(name, 0)
        widths = np.array([_part(table, name, names) for table in tables]) * factors
        panel.barh(
            range(len(designs)),
            widths,
            left=starts,
            height=0.62,
            color=GREY if name == OTHER else COLOURS[place % len(COLOURS)],
            edgecolor="white",
            linewidth=0.6,
            hatch="///" if place >= len(COLOURS) and name != OTHER else None,
            label=words(name),
        )
        starts = starts + widths
    for place, total in enumerate(totals):
        panel.text(
            starts[place], place, f" {human(metric, total)}", va="center", fontsize=8.5, color=INK
        )
    panel.set_xlim(0, float(starts.max()) * 1.25)
    panel.set_xlabel("share of the total [%]" if shares else unit.text)
    if shares:
        panel.set_xticks(range(0, 101, 20))
    panel.grid(visible=False, axis="y")
    panel.tick_params(axis="y", length=0)


def _parts(tables: list[dict[str, float]]) -> list[str]:
    """Parts worth a colour, largest share first; the rest is drawn as one."""
    shares: dict[str, list[float]] = {}
    for table in tables:
        total = sum(table.values())
        for name, value in table.items():
            shares.setdefault(name, []).append(value / total if total > 0 else 0.0)
    large = [name for name, values in shares.items() if max(values) >= SMALL_SHARE]
    large.sort(key=lambda name: (-sum(shares[name]), name))
    return large + ([OTHER] if len(large) < len(shares) else [])


def _part(table: dict[str, float], name: str, names: list[str]) -> float:
    if name != OTHER:
        return table.get(name, 0.0)
    return sum(value for key, value in table.items() if key not in names)


def plot_roofline(design: DesignCost, path: str | Path) -> Path:
    """Layers of a design under its roofs: peak MAC rate, and the bandwidth of the backing tier.

    The area of a point is the layer's share of the time; the layers that take most are listed.
    """
    path = Path(path)
    layers = _alike([layer for layer in design.layers if layer.macs and layer.bytes_moved])
    with figure(path, 9.6, 4.8) as canvas:
        panel = canvas.add_subplot()
        intensity = np.array([layer.macs / layer.bytes_moved for layer in layers])
        rate = np.array([layer.macs / layer.latency_s for layer in layers])
        peak, bandwidth = design.peak_macs_per_s, design.bandwidth_bytes_per_s
        prefixed = unit_for("peak_macs", [peak])
        unit = Unit(prefixed.factor, f"{prefixed.text}/s")
        ridge = peak / bandwidth
        low = min(float(intensity.min()), ridge) / 2 if layers else ridge / 10
        high = max(float(intensity.max()), ridge) * 2 if layers else ridge * 10
        across = np.geomspace(low, high, 200)
        panel.plot(
            across, np.minimum(peak, across * bandwidth) * unit.factor, color=INK, linewidth=1.6
        )
        _draw_layers(panel, layers, intensity, rate * unit.factor, design)
        panel.set_xlim(low, high)
        floor = min([*rate, low * bandwidth]) * unit.factor
        top = peak * unit.factor
        panel.set_ylim(floor / 1.5, top * 2)
        log_if_wide(panel.xaxis, low, high, ratio=1.0)
        log_if_wide(panel.yaxis, floor / 1.5, top * 2, ratio=1.0)
        panel.set_xlabel(f"MACs per byte of {words(design.backing)} traffic")
        panel.set_ylabel(f"Rate [{unit.text}]")
        panel.set_title("Roofline: " + design.role.split(",")[0])
        caption = f"peak {number(top)} {unit.text}, {words(design.backing)} "
        caption += human("b_bytes_per_s", bandwidth)
        panel.text(0.99, 0.98, caption, transform=panel.transAxes, ha="right", va="top")
        canvas.legend(loc="outside right upper", alignment="left", handletextpad=0.3)
        canvas.draw_without_rendering()  # places are known once the panel has its size
        _number_points(panel, intensity, rate * unit.factor, _largest(layers))
    return path


def _alike(layers: list[Layer]) -> list[Layer]:
    """Layers that cost the same as one, named after the first: they would hide each other."""
    groups: dict[tuple, list[Layer]] = {}
    for layer in layers:
        numbers = (layer.macs, layer.bytes_moved, layer.latency_s)
        key = (layer.bound, *(f"{value:.6g}" for value in numbers))
        groups.setdefault(key, []).append(layer)
    merged = []
    for group in groups.values():
        count, first = len(group), group[0]
        name = first.name if count == 1 else f"{first.name} and {count - 1} alike"
        merged.append(
            Layer(
                name,
                first.macs * count,
                first.bytes_moved * count,
                first.latency_s * count,
                first.bound,
            )
        )
    return merged


def _draw_layers(
    panel: Any, layers: list[Any], intensity: np.ndarray, rate: np.ndarray, design: DesignCost
) -> None:
    """Points by binding limit; the largest get a number that the legend explains."""
    total = sum(layer.latency_s for layer in design.layers) or 1.0
    shares = np.array([layer.latency_s / total for layer in layers])
    bounds = sorted({layer.bound for layer in layers})
    colours = {bound: COLOURS[place % len(COLOURS)] for place, bound in enumerate(bounds)}
    for bound in bounds:
        rows = [place for place, layer in enumerate(layers) if layer.bound == bound]
        panel.scatter(
            intensity[rows],
            rate[rows],
            s=18 + 900 * shares[rows],
            color=colours[bound],
            alpha=0.65,
            edgecolor="white",
            linewidths=0.7,
            zorder=3,
        )
        # A point of fixed size for the legend.
        panel.scatter([], [], s=36, color=colours[bound], label=f"bound by {words(bound)}")
    panel.plot([], [], linestyle="none", label="\nShare of the time:")
    for rank, place in enumerate(_largest(layers), start=1):
        name = layers[place].name
        shown = name if len(name) <= 34 else name[:14] + "…" + name[-19:]
        label = f"{rank}  {100 * shares[place]:.1f} %  {shown}"
        panel.plot([], [], linestyle="none", label=label)


def _largest(layers: list[Layer]) -> list[int]:
    """Places of the layers that take most time."""
    order = np.argsort([-layer.latency_s for layer in layers], kind="stable")
    return [int(place) for place in order[:NAMED_LAYERS]]


def _number_points(panel: Any, across: np.ndarray, up: np.ndarray, places: list[int]) -> None:
    """Number points so that no number covers another one or a point.

    Each stands at the nearest free place around its point, with a line to it where that is far.
    """
    dots = panel.transData.transform(np.stack([across, up], axis=1))
    step = panel.figure.dpi / 72.0  # pixels of a typographic point
    taken = [*dots]
    for rank, place in enumerate(places, start=1):
        here = dots[place]
        offsets = [
            radius * step * np.array([np.cos(angle), np.sin(angle)])
            for radius in (13.0, 19.0, 26.0, 34.0)
            for angle in np.deg2rad([90, 270, 45, 135, 225, 315, 0, 180])
        ]
        room = [min(np.linalg.norm(here + o - spot) for spot in taken) for o in offsets]
        free = next((i for i, r in enumerate(room) if r >= 9.0 * step), int(np.argmax(room)))
        taken.append(here + offsets[free])
        panel.annotate(
            str(rank),
            (across[place], up[place]),
            xytext=tuple(offsets[free] / step),
            textcoords="offset points",
            ha="center",
            va="center",
            fontsize=8,
            fontweight="bold",
            color=INK,
            zorder=5,
            arrowprops={"arrowstyle": "-", "color": INK, "linewidth": 0.5, "shrinkA": 1},
        )
