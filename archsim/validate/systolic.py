"""The systolic closed form beside SCALE-Sim's stall-free reports, row by row."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from archsim.errors import InputError
from archsim.models.systolic import SystolicLayer, read_scalesim_config, systolic_layers
from archsim.validate.references import references, table
from archsim.workload.scalesim import import_scalesim

#: Figure, report, column there, and the factor to the unit of the report.
FIGURES = (
    ("cycles", "COMPUTE", "Total Cycles", 1),
    ("utilization", "COMPUTE", "Overall Util %", 100),
    ("mapping_efficiency", "COMPUTE", "Mapping Efficiency %", 100),
    ("compute_utilization", "COMPUTE", "Compute Util %", 100),
    ("input_reads", "DETAILED_ACCESS", "SRAM IFMAP Reads", 1),
    ("weight_reads", "DETAILED_ACCESS", "SRAM Filter Reads", 1),
    ("output_writes", "DETAILED_ACCESS", "SRAM OFMAP Writes", 1),
    ("input_reads_per_cycle", "BANDWIDTH", "Avg IFMAP SRAM BW", 1),
    ("weight_reads_per_cycle", "BANDWIDTH", "Avg FILTER SRAM BW", 1),
    ("output_writes_per_cycle", "BANDWIDTH", "Avg OFMAP SRAM BW", 1),
)


@dataclass(frozen=True)
class ReportComparison:
    """One SCALE-Sim run beside ours.

    Attributes:
        name: Network and configuration.
        rows: Layers compared, every figure of :data:`FIGURES` each.
        differing: Figures that are not equal, in words.
        cycles: SCALE-Sim's cycles of all layers.
        corrected_cycles: Ours by default.
    """

    name: str
    rows: int
    differing: tuple[str, ...]
    cycles: int
    corrected_cycles: int


def compare_reports() -> list[ReportComparison]:
    """Compare every report there is.

    Raises:
        ArchsimError: The reference data is missing, or a report has other rows or columns.
    """
    root = references("scalesim")
    found = []
    for network in sorted(path for path in (root / "reports").iterdir() if path.is_dir()):
        workload = import_scalesim(root / "topologies" / f"{network.name}.csv")
        for folder in sorted(path for path in network.iterdir() if path.is_dir()):
            array = read_scalesim_config(root / "configs" / f"{folder.name}.cfg")
            ours, corrected = (
                systolic_layers(workload, array, compat) for compat in ("scalesim", None)
            )
            found.append(_compare(f"{network.name} {folder.name}", folder, ours, corrected))
    return found


def _compare(
    name: str, folder: Path, ours: list[SystolicLayer], corrected: list[SystolicLayer]
) -> ReportComparison:
    differing = []
    for figure, report, column, factor in FIGURES:
        stored = _column(folder / f"{report}_REPORT.csv", column)
        if len(stored) != len(ours):
            raise InputError("has other layers than the topology", source=folder, found=len(stored))
        for layer, theirs in zip(ours, stored, strict=True):
            mine = _figure(layer, figure) * factor
            if not np.isclose(mine, theirs, rtol=1e-12, atol=0):
                differing.append(f"{layer.name} {column}: {mine} instead of {theirs}")
    cycles = int(sum(_column(folder / "COMPUTE_REPORT.csv", "Total Cycles")))
    more = sum(layer.products * int(layer.cost.cycles) for layer in corrected)
    return ReportComparison(name, len(ours), tuple(differing), cycles, more)


def _figure(layer: SystolicLayer, figure: str) -> float:
    whole, per_cycle, _ = figure.partition("_per_cycle")
    value = float(getattr(layer.cost, whole))
    return value / float(layer.cost.cycles) if per_cycle else value


def _column(path: Path, column: str) -> list[float]:
    with path.open(newline="", encoding="utf-8") as lines:
        rows = list(csv.reader(lines, skipinitialspace=True))
    if column not in rows[0]:
        raise InputError("column missing", source=path, field=column)
    return [float(row[rows[0].index(column)]) for row in rows[1:] if row]


def validate_systolic() -> bool:
    """Print the table; True if no figure differs."""
    compared = compare_reports()
    print("Systolic closed form beside SCALE-Sim's stall-free reports")
    rows = [
        (
            c.name, c.rows, c.rows * len(FIGURES), len(c.differing), f"{c.cycles:,}",
            f"{c.corrected_cycles:,}", f"{c.corrected_cycles / c.cycles - 1:+.2%}",
        )
        for c in compared
    ]  # fmt: skip
    heads = ("run", "layers", "figures", "differing", "cycles, all layers", "corrected", "change")
    print(table(heads, rows))
    for c in compared:
        for difference in c.differing:
            print(f"  {c.name}: {difference}")
    print(
        "Figures: " + ", ".join(column for _, _, column, _ in FIGURES) + ".\n"
        "corrected: our default, as an array stepped cycle by cycle counts it. It has the cycles\n"
        "an output-stationary array takes to hand out its results (SCALE-Sim leaves them out) and\n"
        "counts cycles, not the last cycle's index; null requests are no writes; the\n"
        "columns' skew is part of a fold once."
    )
    return not any(c.differing for c in compared)
