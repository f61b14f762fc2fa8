"""AlexNet on the Eyeriss machine beside the chip's measurements (JSSC 2017), layer by layer."""

from __future__ import annotations

import math
from dataclasses import dataclass

from archsim.models.loopnest.mapping import Mapping
from archsim.system import Cost, LayerCost, evaluate
from archsim.validate.references import ratio, table

#: Batch of the published measurements.
BATCH = 4
WORD_BYTES = 2
#: Chen et al., JSSC 52(1), 2017, AlexNet at batch 4, 200 MHz, 1.0 V: processing latency (ms),
#: chip power (mW), active PEs, DRAM traffic (MB, run-length compressed). The five rows add up to
#: what the abstract states: 278 mW, and 0.0029 DRAM accesses of 16 bits a MAC (15.4 MB).
PUBLISHED = {
    "conv1": (16.5, 332.0, 154, 5.0),
    "conv2": (39.2, 288.0, 135, 4.0),
    "conv3": (21.8, 266.0, 156, 3.0),
    "conv4": (16.0, 235.0, 156, 2.1),
    "conv5": (10.0, 236.0, 156, 1.3),
}


@dataclass(frozen=True)
class ChipComparison:
    """One layer on the model and on the chip.

    Attributes:
        layer: Its name.
        latency_ms, chip_latency_ms: Processing time.
        power_mw, chip_power_mw: Power of the chip, DRAM left out.
        active, chip_active: Processing elements in use.
        dram_mb, chip_dram_mb: DRAM traffic.
        bound: What limits our latency.
    """

    layer: str
    latency_ms: float
    chip_latency_ms: float
    power_mw: float
    chip_power_mw: float
    active: int
    chip_active: int
    dram_mb: float
    chip_dram_mb: float
    bound: str

    @property
    def latency_at_chip_pes(self) -> float:
        """Our latency if as many elements worked as on the chip, at the same rate each (ms)."""
        return self.latency_ms * self.active / self.chip_active


def active_units(mapping: Mapping) -> int:
    """Units inside all fanouts that do any work under a mapping."""
    used, inside = 1, [1] * len(mapping.dims)
    for s in reversed(range(len(mapping.slots))):
        for d, factor in enumerate(mapping.factors[s]):
            if mapping.fanout[s]:
                used *= min(int(factor), math.ceil(mapping.extents[d] / inside[d]))
            inside[d] *= int(factor)
    return used


def _on_chip_power_mw(layer: LayerCost) -> float:
    return sum(_on_chip(layer).values()) / layer.latency_s * 1e3


def _on_chip(layer: LayerCost) -> dict[str, float]:
    """Energy by component, the DRAM and its standby power left out (J)."""
    parts = layer.energy_by_component_j
    return {part: joules for part, joules in parts.items() if part not in ("dram", "standby")}


def compare_chip(objective: str = "latency", effort: str = "thorough") -> list[ChipComparison]:
    """Our figures of the five convolutions beside the published ones."""
    cost = evaluate("alexnet", "eyeriss", effort=effort, objective=objective, batch=BATCH)
    layers = {layer.name: layer for layer in cost.layers}
    found = []
    for name, (latency, power, active, dram) in PUBLISHED.items():
        layer = layers[name]
        assert layer.mapping is not None
        found.append(
            ChipComparison(
                name, layer.latency_s * 1e3, latency, _on_chip_power_mw(layer), power,
                active_units(layer.mapping), active, layer.backing_bytes / 1e6, dram, layer.bound,
            )
        )  # fmt: skip
    return found


def validate_eyeriss() -> bool:
    """Print the tables; True always: a model without calibration is shown, not judged."""
    rows = compare_chip()
    print(f"AlexNet, batch {BATCH}, 16 bits, on Eyeriss: model (mapped for latency) beside chip")
    heads = (
        "layer", "ms", "chip", "ratio", "PEs", "chip", "ms at chip's PEs", "ratio", "mW", "chip",
        "ratio", "limit",
    )  # fmt: skip
    cells = [
        (
            r.layer, f"{r.latency_ms:.1f}", r.chip_latency_ms,
            ratio(r.latency_ms, r.chip_latency_ms), r.active, r.chip_active,
            f"{r.latency_at_chip_pes:.1f}", ratio(r.latency_at_chip_pes, r.chip_latency_ms),
            f"{r.power_mw:.0f}", f"{r.chip_power_mw:.0f}", ratio(r.power_mw, r.chip_power_mw),
            r.bound,
        )
        for r in rows
    ]  # fmt: skip
    print(table(heads, cells))
    ours, chip = sum(r.latency_ms for r in rows), sum(r.chip_latency_ms for r in rows)
    error = sum(abs(r.latency_ms / r.chip_latency_ms - 1) for r in rows) / len(rows)
    print(f"all five: {ours:.1f} ms beside {chip:.1f} ms; mean absolute error {error:.1%}")
    for r in rows:
        print(f"  {r.layer}: {_explain(r)}")
    _energy(evaluate("alexnet", "eyeriss", effort="thorough", objective="energy", batch=BATCH))
    return True


def _explain(row: ChipComparison) -> str:
    parts = []
    if row.active != row.chip_active:
        parts.append(
            f"the mapping found keeps {row.active} PEs busy, the chip's own {row.chip_active}: a "
            f"factor {row.chip_active / row.active:.2f} of the latency"
        )
    rest = row.latency_at_chip_pes / row.chip_latency_ms
    limit = "" if row.bound == "compute" else f" ({row.bound} limits it)"
    parts.append(f"at the chip's PEs the model takes {rest:.2f} of the published time{limit}")
    if rest < 0.98:
        parts.append("it charges no loading and draining time (perfect overlap)")
    return "; ".join(parts)


def _energy(cost: Cost) -> None:
    """Energy by level and DRAM traffic, mapped for energy."""
    layers = {layer.name: layer for layer in cost.layers}
    print("\nEnergy of the five convolutions on the chip, share by component (mapped for energy)")
    parts = list(_on_chip(cost.layers[0]))
    shares: list[tuple[object, ...]] = []
    for name in PUBLISHED:
        split = _on_chip(layers[name])
        total = sum(split.values())
        power = total / layers[name].latency_s * 1e3
        shares.append(
            (
                name,
                f"{total * 1e3:.2f}",
                f"{power:.0f}",
                *(f"{split[p] / total:.1%}" for p in parts),
            )
        )
    print(table(("layer", "mJ", "mW", *parts), shares))
    print("\nDRAM traffic in MB (mapped for energy)")
    moved = {name: layers[name].backing_bytes / 1e6 for name in PUBLISHED}
    cells: list[tuple[object, ...]] = []
    for name, (*_, dram) in PUBLISHED.items():
        words = (
            f"{(row.reads + row.fills + row.updates) * WORD_BYTES / 1e6:.1f}"
            for row in layers[name].traffic
            if row.slot == "dram"
        )
        cells.append((name, f"{moved[name]:.1f}", dram, ratio(moved[name], dram), *words))
    print(table(("layer", "model", "chip", "ratio", "input", "weight", "output"), cells))
    macs = sum(layers[name].macs for name in PUBLISHED)
    print(
        f"accesses of 16 bits a MAC: {sum(moved.values()) * 1e6 / WORD_BYTES / macs:.4f}, chip "
        "0.0029. The chip moves activations run-length compressed; the model moves every\n"
        "word, and its mapper fetches operands again as the columns show.\n"
        "Power: the chip gates a PE's multiplier and filter read when the input is zero; the model "
        "multiplies zeros too. The chip's power contains its clock network, the model's does not."
    )
