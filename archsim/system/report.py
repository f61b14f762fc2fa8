"""Costs in words: totals, shares, and what limits the machine."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from archsim.system.cost import Cost

_PREFIXES = ((1e9, "G"), (1e6, "M"), (1e3, "k"), (1.0, ""), (1e-3, "m"), (1e-6, "u"), (1e-9, "n"))


def quantity(value: float, unit: str) -> str:
    """A number with an SI prefix and three significant digits.

    Example:
        >>> quantity(0.0213, "s"), quantity(0.0, "J"), quantity(2.5e9, "Hz")
        ('21.3 ms', '0 J', '2.5 GHz')
    """
    if value == 0:
        return f"0 {unit}"
    for scale, prefix in _PREFIXES:
        if abs(value) >= scale * 0.9995:
            return f"{value / scale:.3g} {prefix}{unit}"
    return f"{value / 1e-12:.3g} p{unit}"


def shares(parts: dict[str, float], total: float, unit: str) -> Iterable[str]:
    """Lines ``name  value  share``, largest first, parts under 0.1 % left out."""
    for name, value in sorted(parts.items(), key=lambda item: -item[1]):
        if total > 0 and value >= 1e-3 * total:
            yield f"  {name:<22}{quantity(value, unit):>12}{value / total:>8.1%}"


def explain(cost: Cost) -> str:
    """Text of ``archsim evaluate``."""
    m = cost.metrics
    lines = [
        f"{cost.workload} on {cost.machine} ({cost.dataflow})",
        f"  latency {quantity(m['latency_s'], 's')}, energy {quantity(m['energy_j'], 'J')}, "
        f"power {quantity(m['power_w'], 'W')}, area {m['area_mm2']:.3g} mm2, "
        f"utilisation {m['utilization']:.1%}",
    ]
    if "perplexity" in m:
        lines.append(f"  perplexity {m['perplexity']:.2f} (published)")
    if not cost.feasible:
        lines.append("NOT FEASIBLE:")
        lines += [f"  {reason}" for reason in cost.reasons]
    lines += sparsity_lines(cost)
    lines += network_lines(cost)
    lines.append("energy by component")
    lines += shares(cost.energy_by_component_j, m["energy_j"], "J")
    limits: dict[str, float] = {}
    for layer in cost.layers:
        limits[layer.bound] = limits.get(layer.bound, 0.0) + layer.latency_s
    lines.append("time by what limits it")
    lines += shares(limits, m["latency_s"], "s")
    lines.append("area by component")
    area = cost.area_by_component_mm2
    total = sum(area.values())
    for name, value in sorted(area.items(), key=lambda item: -item[1]):
        if value >= 1e-3 * total:
            lines.append(f"  {name:<22}{f'{value:.3g} mm2':>12}{value / total:>8.1%}")
    return "\n".join(lines)


def sparsity_lines(cost: Cost) -> list[str]:
    """What zeros save and what knowing them costs; nothing on hardware that knows none."""
    layers = [layer.detail for layer in cost.layers if layer.detail]
    if cost.dense is None or not layers:
        return []
    total = {name: sum(layer[name] for layer in layers) for name in layers[0]}
    macs = total["macs_done"] + total["macs_gated"] + total["macs_skipped"]
    done, gated, skipped = (total[f"macs_{name}"] / macs for name in ("done", "gated", "skipped"))
    m, dense = cost.metrics, cost.dense
    return [
        "zeros",
        f"  multiply-accumulates: {done:.1%} done, {gated:.1%} gated, {skipped:.1%} skipped",
        f"  metadata {total['metadata_energy_j'] / m['energy_j']:.1%} of the energy",
        f"  dense, on the same hardware without formats and actions: latency "
        f"{quantity(dense['latency_s'], 's')} ({dense['latency_s'] / m['latency_s']:.2f} times "
        f"this), energy {quantity(dense['energy_j'], 'J')} "
        f"({dense['energy_j'] / m['energy_j']:.2f} times)",
    ]


def network_lines(cost: Cost) -> list[str]:
    """What links between neighbours carry, and how long arrays fill and drain."""
    layers = [layer for layer in cost.layers if layer.detail]
    passed = sum(layer.detail["passed_words"] for layer in layers if layer.detail)
    cycles = sum(layer.detail["fill_drain_cycles"] for layer in layers if layer.detail)
    lines = []
    if passed:
        lines.append(f"  {passed:.3g} words passed on between neighbours")
    if cycles:
        share = cycles / sum(layer.cycles for layer in cost.layers)
        lines.append(f"  arrays fill and drain in {cycles:,.0f} cycles ({share:.1%})")
    return ["network", *lines] if lines else []


def layer_table(cost: Cost) -> str:
    """One line a layer."""
    width = max([len(layer.name) for layer in cost.layers] + [5])
    width = min(width, 40)
    head = f"{'layer':<{width}}  {'kind':<10} {'MACs':>14} {'time':>10} {'bound':<16}"
    lines = [head + f" {'util':>6} {'energy':>10} {'tier bytes':>11}"]
    for layer in cost.layers:
        name = layer.name if len(layer.name) <= width else layer.name[: width - 1] + "…"
        lines.append(
            f"{name:<{width}}  {layer.kind:<10.10} {layer.macs:>14,} "
            f"{quantity(layer.latency_s, 's'):>10} {layer.bound:<16.16} "
            f"{layer.utilization:>6.1%} {quantity(layer.energy_j, 'J'):>10} "
            f"{quantity(layer.backing_bytes, 'B'):>11}"
        )
    return "\n".join(lines)
