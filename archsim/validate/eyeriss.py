"""AlexNet on the Eyeriss machine beside the chip's measurements (JSSC 2017), layer by layer."""

from __future__ import annotations

import math
from dataclasses import dataclass

from archsim.models.loopnest.mapping import Mapping
from archsim.models.row_stationary import RowStationaryCost, evaluate_row_stationary
from archsim.system import LayerCost, evaluate
from archsim.validate.eyeriss_published import (
    BATCH,
    COMPRESSION,
    MAPPINGS,
    POWER_SHARES,
    PUBLISHED,
    VGG16,
    WORD_BYTES,
    NestCost,
    alexnet_shapes,
    chip,
    published_nests,
    vgg_shape,
)
from archsim.validate.references import ratio, table

#: MAESTRO's error with its own Eyeriss mapping (its ``alexnet_rs_validation`` mapping, measured).
MAESTRO = {"conv1": -0.001, "conv2": 0.010, "conv3": -0.050, "conv4": 0.124, "conv5": 0.027}
#: ISCA 2016 ("Eyeriss: A Spatial Architecture for Energy-Efficient Dataflow"), figure 10, AlexNet
#: at batch 16 on 256 elements: energy of ALUs, DRAM and register files in 10^9 MACs' worth, as
#: github.com/stanford-mast/nn_dataflow compares with it (``test_eyeriss_isca16``). A DRAM access
#: costs 200, a register file one; nothing is compressed.
ISCA16 = {
    "conv1": (1.69, 2.46, 6.75),
    "conv2": (3.58, 2.27, 14.33),
    "conv3": (2.39, 2.02, 9.57),
    "conv4": (1.79, 1.57, 7.18),
    "conv5": (1.20, 1.05, 4.78),
}
ISCA16_DRAM_COST = 200.0
SPADS = ("ifmap_spad", "weight_spad", "psum_spad")


@dataclass(frozen=True)
class ChipComparison:
    """One layer on the models and on the chip.

    Attributes:
        layer: Its name.
        rule: Under the published mapping, by the rules of the row-stationary dataflow.
        nest: Under the published mapping, by the loop-nest kernel (perfect overlap).
        mapped_ms: Latency of the mapping our mapper finds; ``mapped_active`` its busy elements,
            ``mapped_bound`` what limits it.
        chip_ms, chip_active: Processing latency and active elements measured.
    """

    layer: str
    rule: RowStationaryCost
    nest: NestCost
    mapped_ms: float
    mapped_active: int
    mapped_bound: str
    chip_ms: float
    chip_active: int

    @property
    def rule_ms(self) -> float:
        """Latency by the published rules (ms)."""
        return self.rule.latency_s * 1e3

    @property
    def error(self) -> float:
        """Of that latency, relative to the chip's."""
        return self.rule_ms / self.chip_ms - 1

    @property
    def energy_j(self) -> dict[str, float]:
        """On-chip energy under the published mapping by component, at the rule's latency."""
        parts = {part: joules for part, joules in self.nest.energy_j.items() if part != "dram"}
        return {**parts, "leakage": self.nest.leakage_w * self.rule.latency_s}

    @property
    def gated_j(self) -> dict[str, float]:
        """The same if a zero input is neither multiplied nor its filter word read."""
        kept = 1 - PUBLISHED[self.layer].zeros
        return {
            part: joules * (kept if part in ("mac", "weight_spad") else 1.0)
            for part, joules in self.energy_j.items()
        }

    def power_mw(self, gated: bool = False) -> float:
        """Power of the chip's modelled parts, with zeros gated as measured if asked (mW)."""
        parts = self.gated_j if gated else self.energy_j
        return sum(parts.values()) / self.rule.latency_s * 1e3

    @property
    def compressed_mb(self) -> float | None:
        """DRAM traffic with feature maps compressed as the paper measured, where it says (MB)."""
        if self.layer not in COMPRESSION:
            return None
        maps = self.nest.dram_mb - self.nest.filter_mb
        return self.nest.filter_mb + maps * (1 - COMPRESSION[self.layer])


def active_units(mapping: Mapping) -> int:
    """Units inside all fanouts that do any work under a mapping."""
    used, inside = 1, [1] * len(mapping.dims)
    for s in reversed(range(len(mapping.slots))):
        for d, factor in enumerate(mapping.factors[s]):
            if mapping.fanout[s]:
                used *= min(int(factor), math.ceil(mapping.extents[d] / inside[d]))
            inside[d] *= int(factor)
    return used


def published_costs() -> dict[str, RowStationaryCost]:
    """The five convolutions under the chip's mappings, by the row-stationary rules."""
    array = chip()
    return {
        name: evaluate_row_stationary(shape, MAPPINGS[name], array)
        for name, shape in alexnet_shapes().items()
    }


def compare_chip(effort: str = "fast") -> list[ChipComparison]:
    """Our figures of the five convolutions beside the published ones.

    Args:
        effort: How hard our mapper looks for its own mappings, for latency.
    """
    cost = evaluate("alexnet", "eyeriss", effort=effort, objective="latency", batch=BATCH)
    layers = {layer.name: layer for layer in cost.layers}
    rules, nests = published_costs(), published_nests()
    return [_comparison(name, layers[name], rules[name], nests[name]) for name in PUBLISHED]


def _comparison(
    name: str, layer: LayerCost, rule: RowStationaryCost, nest: NestCost
) -> ChipComparison:
    assert layer.mapping is not None
    return ChipComparison(
        name, rule, nest, layer.latency_s * 1e3, active_units(layer.mapping), layer.bound,
        PUBLISHED[name].latency_ms, PUBLISHED[name].active,
    )  # fmt: skip


def restarts() -> dict[str, float]:
    """What a pass of VGG-16 takes beyond its stream of partial sums (cycles), blocks 1 to 4.

    :data:`~archsim.validate.eyeriss_published.RESTART_CYCLES` is their mean.
    """
    array, found = chip(), {}
    for layer, (latency, *_) in VGG16.items():
        shape, mapping = vgg_shape(layer)
        cost = evaluate_row_stationary(shape, mapping, array)
        if cost.psum_cycles > cost.compute_cycles:
            found[layer] = latency * 1e-3 * array.clock_hz / cost.passes - cost.psum_cycles
    return found


def loads_and_adds(name: str) -> float:
    """Latency (ms) by the other way to read the paper.

    Elements add the sums handed on to them in cycles of their own, p an output position and all in
    step, and no filter word (four a cycle) moves while a pass runs.
    """
    array = chip()
    if name in MAPPINGS:
        shape, mapping = alexnet_shapes()[name], MAPPINGS[name]
    else:
        shape, mapping = vgg_shape(name)
    cost = evaluate_row_stationary(shape, mapping, array)
    adds = mapping.n * shape.width * mapping.p
    loads = cost.filter_words / cost.passes / array.psum_words_per_cycle
    cycles = cost.passes * (max(cost.compute_cycles + adds, cost.psum_cycles) + loads)
    return cycles / array.clock_hz * 1e3


def validate_eyeriss() -> bool:
    """Print the tables; True if the published rules stay within 4 % of the chip on average."""
    rows = compare_chip("thorough")
    error = sum(abs(r.error) for r in rows) / len(rows)
    _latency(rows, error)
    _vgg()
    _buffer(rows)
    _energy(rows)
    _dram(rows)
    return error <= 0.04


def _latency(rows: list[ChipComparison], error: float) -> None:
    print(f"AlexNet, batch {BATCH}, 16 bits, on Eyeriss beside the chip (processing latency, ms)")
    heads = (
        "layer", "chip", "PEs", "rules", "error", "PEs", "passes", "cycles a pass", "fill",
        "MAESTRO", "kernel", "error", "mapper", "ratio", "PEs", "limit",
    )  # fmt: skip
    cells = [
        (
            r.layer, r.chip_ms, r.chip_active, f"{r.rule_ms:.1f}", f"{r.error:+.1%}",
            r.rule.active, r.rule.passes, f"{r.rule.cycles / r.rule.passes:.0f}",
            r.rule.fill_cycles, f"{MAESTRO[r.layer]:+.1%}", f"{r.nest.latency_ms:.1f}",
            f"{r.nest.latency_ms / r.chip_ms - 1:+.1%}", f"{r.mapped_ms:.1f}",
            ratio(r.mapped_ms, r.chip_ms), r.mapped_active, r.mapped_bound,
        )
        for r in rows
    ]  # fmt: skip
    print(table(heads, cells))
    ours, theirs = sum(r.rule_ms for r in rows), sum(r.chip_ms for r in rows)
    maestro = sum(map(abs, MAESTRO.values())) / len(MAESTRO)
    kernel = sum(abs(r.nest.latency_ms / r.chip_ms - 1) for r in rows) / len(rows)
    print(
        f"all five by the rules: {ours:.1f} ms beside {theirs:.1f} ms; mean absolute error "
        f"{error:.1%} (at most 4 % wanted; MAESTRO's {maestro:.1%}, the kernel's {kernel:.1%})\n"
        "rules:  published mapping, processing passes that fill the chain of accumulation first\n"
        "kernel: published mapping, loop-nest model, transfers overlap work perfectly\n"
        "mapper: the mapping our mapper finds for latency"
    )
    other = {r.layer: loads_and_adds(r.layer) / r.chip_ms - 1 for r in rows}
    parts = ", ".join(f"{x:+.1%}" for x in other.values())
    print(
        "If sums handed on were added in cycles of their own and filters loaded between passes: "
        f"{sum(map(abs, other.values())) / len(other):.1%} ({parts}).\n"
        "The paper says that a pass ramps up, not how long; the rules were chosen with these five "
        "layers in view."
    )
    for r in rows:
        print(f"  {r.layer}: {_explain(r)}")
    print(_same_passes(rows))


def _explain(row: ChipComparison) -> str:
    rule, parts = row.rule, []
    limit = "partial sums crossing the buses" if rule.psum_cycles > rule.compute_cycles else "MACs"
    parts.append(
        f"{limit} set the pace, filling and restarting adds {rule.fill_cycles} cycles to "
        f"{max(rule.psum_cycles, rule.compute_cycles):.0f}"
    )
    if row.mapped_active != row.chip_active:
        parts.append(f"our mapper keeps {row.mapped_active} PEs busy, the chip {row.chip_active}")
    return "; ".join(parts)


def _same_passes(rows: list[ChipComparison]) -> str:
    """Why conv4 and conv5 cannot both be met."""
    clock = chip().clock_hz
    four, five = (
        (r, r.chip_ms * 1e-3 * clock / r.rule.passes) for r in rows if r.layer in ("conv4", "conv5")
    )
    return (
        f"conv4 and conv5 run the same passes, {four[0].rule.passes} and {five[0].rule.passes} of "
        f"them; the chip took {four[1]:.0f} cycles for one and {five[1]:.0f} for the other.\n"
        f"No rule of passes meets both: it misses by {four[1] / five[1] - 1:.1%} in all."
    )


def _vgg() -> None:
    array = chip()
    cells: list[tuple[object, ...]] = []
    sums: dict[str, list[float]] = {"fitted": [], "held out": [], "other": []}
    for layer, (latency, _, active, *_) in VGG16.items():
        shape, mapping = vgg_shape(layer)
        cost = evaluate_row_stationary(shape, mapping, array)
        error = cost.latency_s * 1e3 / latency - 1
        use = "fitted" if cost.psum_cycles > cost.compute_cycles else "held out"
        sums[use].append(abs(error))
        sums["other"].append(abs(loads_and_adds(layer) / latency - 1))
        cells.append(
            (layer, latency, f"{cost.latency_s * 1e3:.1f}", f"{error:+.1%}", active, cost.active,
             cost.passes, use)
        )  # fmt: skip
    print("\nVGG-16, batch 3 (mappings inferred, not published), processing latency, ms")
    print(table(("layer", "chip", "rules", "error", "PEs", "PEs", "passes", "restart"), cells))
    mean = {use: sum(errors) / len(errors) for use, errors in sums.items()}
    found = restarts().values()
    print(
        f"mean absolute error: {mean['fitted']:.1%} where the restart was fitted (one constant, "
        f"{sum(found) / len(found):.0f} cycles, single layers {min(found):.0f} to "
        f"{max(found):.0f}), {mean['held out']:.1%} held out\nby shape; AlexNet is held out too. "
        f"With added cycles and unhidden loads instead: {mean['other']:.1%}."
    )


def _buffer(rows: list[ChipComparison]) -> None:
    print("\nGlobal buffer accesses by the array under the published mapping, MB")
    cells = [
        (
            r.layer, f"{r.rule.buffer_words * WORD_BYTES / 1e6:.1f}", PUBLISHED[r.layer].buffer_mb,
            ratio(r.rule.buffer_words * WORD_BYTES / 1e6, PUBLISHED[r.layer].buffer_mb),
            f"{r.rule.ifmap_reads * WORD_BYTES / 1e6:.1f}",
            f"{(r.rule.psum_reads + r.rule.psum_writes) * WORD_BYTES / 1e6:.1f}",
        )
        for r in rows
    ]  # fmt: skip
    print(table(("layer", "rules", "chip", "ratio", "inputs", "partial sums"), cells))
    print(
        "Four layers agree to the digit printed. conv3's measured traffic is what q = 3, r = 2, "
        "t = 2 (conv4's mapping)\nwould give (50.2), not the mapping table's q = 4, r = 1, t = 4."
    )


def _energy(rows: list[ChipComparison]) -> None:
    print("\nOn-chip energy under the published mapping, share by component")
    heads = ("layer", "mJ", "ALU", "spads", "network", "buffer", "leakage", "mW", "gated", "chip")
    cells = []
    for r in rows:
        parts = r.energy_j
        total = sum(parts.values())
        shares = (
            parts["mac"], sum(parts[s] for s in SPADS), parts["network"], parts["glb"],
            parts["leakage"],
        )  # fmt: skip
        cells.append(
            (
                r.layer, f"{total * 1e3:.2f}", *(f"{x / total:.1%}" for x in shares),
                f"{r.power_mw():.0f}", f"{r.power_mw(True):.0f}", PUBLISHED[r.layer].power_mw,
            )
        )  # fmt: skip
    print(table(heads, cells))
    print(
        "gated: MACs and filter reads of the measured share of zero inputs left out, as the chip "
        "does.\n\nOf the chip's measured power: ours (gated) beside the paper's figure 16"
    )
    cells = []
    for r in rows:
        if r.layer not in POWER_SHARES:
            continue
        parts = r.gated_j
        whole = PUBLISHED[r.layer].power_mw * 1e-3 * r.rule.latency_s
        alu, spads = POWER_SHARES[r.layer]
        cells.append(
            (
                r.layer, f"{parts['mac'] / whole:.1%}", f"{alu:.1%}",
                f"{sum(parts[s] for s in SPADS) / whole:.1%}", f"{spads:.0%}",
            )
        )  # fmt: skip
    print(table(("layer", "ALU", "chip", "spads", "chip"), cells))
    print(
        "The arithmetic agrees (the machine's MAC was picked knowing that it is below a tenth). "
        "Our scratchpads cost about half to\ntwo thirds of the chip's (registers and a 448-byte "
        "SRAM without their FIFOs and addressing), and its clock network\n(32.9 % and 45.0 %) and "
        "control are not modelled: that is what is missing below the chip's power."
    )
    print("\nAccesses a MAC under the published mapping, beside ISCA 2016 figure 10 (uncompressed)")
    print(
        table(
            ("layer", "spads", "figure", "DRAM", "figure"),
            [
                (
                    r.layer, f"{sum(r.nest.accesses_per_mac[s] for s in SPADS):.2f}",
                    f"{ISCA16[r.layer][2] / ISCA16[r.layer][0]:.2f}",
                    f"{r.nest.accesses_per_mac['dram']:.4f}",
                    f"{ISCA16[r.layer][1] / ISCA16[r.layer][0] / ISCA16_DRAM_COST:.4f}",
                )
                for r in rows
            ],
        )
    )  # fmt: skip
    print("spads: an input, a filter word and a sum read, a sum written, and what fills them.")


def _dram(rows: list[ChipComparison]) -> None:
    print("\nDRAM traffic under the published mapping, MB")
    cells = []
    for r in rows:
        squeezed = r.compressed_mb
        cells.append(
            (
                r.layer, f"{r.nest.dram_mb:.1f}", f"{r.nest.filter_mb:.1f}",
                "-" if squeezed is None else f"{squeezed:.1f}", PUBLISHED[r.layer].dram_mb,
                ratio(squeezed or r.nest.dram_mb, PUBLISHED[r.layer].dram_mb),
            )
        )  # fmt: skip
    print(table(("layer", "model", "of it filters", "compressed", "chip", "ratio"), cells))
    macs = sum(shape.macs for shape in alexnet_shapes().values())
    words = sum(r.nest.dram_mb for r in rows) * 1e6 / WORD_BYTES
    print(
        f"accesses of 16 bits a MAC: {words / macs:.4f}, chip 0.0029. The model moves every word; "
        "the chip compresses feature maps.\ncompressed: with the savings the paper measured "
        "(30 % of the maps in conv1, 75 % in conv5)."
    )
