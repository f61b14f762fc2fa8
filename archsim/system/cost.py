"""What a network costs on a machine: totals, their parts, every layer, and all of it in words."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from archsim.models.loopnest.mapping import Mapping
from archsim.system.report import quantity, shares


@dataclass(frozen=True)
class Traffic:
    """Words one storage exchanged for one operand, over all its instances.

    Attributes:
        slot: Storage.
        operand: ``input``, ``weight`` or ``output``.
        reads, fills, updates: Words read, written from outside, written by partial sums.
        energy_j: What that cost.
    """

    slot: str
    operand: str
    reads: float
    fills: float
    updates: float
    energy_j: float


@dataclass(frozen=True)
class LayerCost:
    """One step of the network: an operation and what is fused into it.

    Attributes:
        name, kind: Of the leading operation.
        fused: Names of the operations fused into it.
        macs: Multiply-accumulates; ``vector_ops`` scalar operations.
        latency_s: Its time; ``cycles`` the same in clock cycles; ``compute_cycles`` what the
            multiply-accumulate units alone need.
        bound: What sets the latency: ``compute``, a storage or tier, or the vector unit.
        utilization: Multiply-accumulates over peak during the layer.
        energy_j: Its energy; ``energy_by_component_j`` and ``energy_by_tensor_j`` (storage
            traffic only) split it.
        backing_bytes: Bytes to and from the backing tier.
        traffic: Word counts by storage and operand.
        mapping: The loop nest, None for vector steps.
        overflow: How far the fullest storage overflows (0: fits).
        detail: On hardware with zeros, peer links or network latency declared: ``macs_done``,
            ``macs_gated``, ``macs_skipped``, ``metadata_energy_j`` (part of the storages'),
            ``passed_words`` (between neighbours) and ``fill_drain_cycles``. Traffic counts what
            moves.
    """

    name: str
    kind: str
    fused: tuple[str, ...]
    macs: int
    vector_ops: int
    latency_s: float
    cycles: float
    compute_cycles: float
    bound: str
    utilization: float
    energy_j: float
    energy_by_component_j: dict[str, float]
    energy_by_tensor_j: dict[str, float]
    backing_bytes: float
    traffic: tuple[Traffic, ...] = ()
    mapping: Mapping | None = None
    overflow: float = 0.0
    detail: dict[str, float] | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        data = {
            key: value for key, value in vars(self).items() if key not in ("traffic", "mapping")
        }
        data["fused"] = list(self.fused)
        data["traffic"] = [dict(vars(row)) for row in self.traffic]
        data["mapping"] = self.mapping.to_dict() if self.mapping else None
        return data


@dataclass(frozen=True)
class Cost:
    """What a network costs on a machine. Every breakdown sums to its total.

    Attributes:
        workload, machine, dataflow: Names.
        metrics: As :meth:`NetworkEvaluator.evaluate` gives them, floats.
        feasible: Whether every mapping fits and the design makes physical sense.
        reasons: Why not, in words.
        energy_by_component_j: Storages, ``network``, ``mac``, ``vector``, ``leakage`` (of the
            engines) and ``standby`` (background power of the backing tier).
        area_by_component_mm2: As the machine's table gives them.
        layers: One entry a step, in execution order.
        dense: On hardware that knows zeros: ``latency_s`` and ``energy_j`` of the same network
            were there no zeros and the hardware knew none.
    """

    workload: str
    machine: str
    dataflow: str
    metrics: dict[str, float]
    feasible: bool
    reasons: tuple[str, ...]
    energy_by_component_j: dict[str, float]
    area_by_component_mm2: dict[str, float]
    layers: tuple[LayerCost, ...] = field(repr=False)
    dense: dict[str, float] | None = None

    def __getattr__(self, name: str) -> float:
        """Metrics are attributes too: ``cost.latency_s``."""
        if not name.startswith("_") and name in self.metrics:
            return self.metrics[name]
        raise AttributeError(name)

    def explain(self) -> str:
        """Totals, where energy, time and area go, and what limits the machine."""
        return _explain(self)

    def table(self) -> str:
        """One line a layer: time, bound, utilisation, energy."""
        return _layer_table(self)

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {
            "workload": self.workload,
            "machine": self.machine,
            "dataflow": self.dataflow,
            **self.metrics,
            "feasible": self.feasible,
            "reasons": list(self.reasons),
            "energy_by_component_j": dict(self.energy_by_component_j),
            "area_by_component_mm2": dict(self.area_by_component_mm2),
            "dense": self.dense,
            "layers": [layer.to_dict() for layer in self.layers],
        }


def _explain(cost: Cost) -> str:
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
    lines += _sparsity_lines(cost)
    lines += _network_lines(cost)
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


def _sparsity_lines(cost: Cost) -> list[str]:
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


def _network_lines(cost: Cost) -> list[str]:
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


def _layer_table(cost: Cost) -> str:
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
