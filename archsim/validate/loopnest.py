"""The loop-nest model beside Timeloop, case by case: every count, cycles, utilisation, energy."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from archsim.models.loopnest.timeloop import TimeloopResult, read_case
from archsim.validate.loopnest_sparse import validate_sparse
from archsim.validate.references import references, table

#: Kinds of counts Timeloop prints for every level and tensor.
COUNTS = ("reads", "fills", "updates")


@dataclass(frozen=True)
class TimeloopComparison:
    """One Timeloop run beside ours.

    Attributes:
        case: Folder name.
        result: Ours, under ``compat="timeloop"``.
        exact: Ours by default; differs where factors overshoot.
        counts: How many counts Timeloop printed; ``differing`` those that are not equal, in words.
        cycles, utilization, energy_pj: Timeloop's (it prints hundredths of a per cent).
    """

    case: str
    result: TimeloopResult
    exact: TimeloopResult
    counts: int
    differing: tuple[str, ...]
    cycles: int
    utilization: float
    energy_pj: float

    @property
    def energy_error(self) -> float:
        """Our energy over Timeloop's, less one."""
        return self.result.energy_pj / self.energy_pj - 1.0

    @property
    def equal(self) -> bool:
        """Counts, cycles and utilisation equal and energy within 0.1 %."""
        return (
            not self.differing
            and self.result.cycles == self.cycles
            and abs(self.result.utilization - self.utilization) <= 5.1e-5
            and abs(self.energy_error) < 1e-3
        )


def timeloop_cases() -> list[Path]:
    """Folders of the dense cases (the sparse one is in ``loopnest_sparse``)."""
    folders = sorted(path for path in references("timeloop").iterdir() if path.is_dir())
    return [path for path in folders if "sparse" not in path.name]


def compare_case(folder: Path) -> TimeloopComparison:
    """Evaluate one case and compare.

    Raises:
        InputError: A file of the case is missing or not understood.
    """
    model = folder / "timeloop-model-input.yaml"
    if not model.exists():
        model = folder / "parsed-processed-input.yaml"
    # stats-HEAD.json, where present, replaces statistics of an older Timeloop.
    stored = folder / "stats-HEAD.json"
    stats = json.loads((stored if stored.exists() else folder / "stats.json").read_text())
    case = read_case(
        model, next(folder.glob("*ERT.yaml")), next(iter(folder.glob("*.map.yaml")), None)
    )
    result = case.evaluate(compat="timeloop")
    counts, differing = _counts(stats["levels"], result)
    parts = [level["stats"] for level in stats["levels"]]
    energy = sum(t["Energy (total)"] for lv in stats["levels"] for t in lv["tensors"].values())
    energy += sum(part.get("Energy (total)", 0.0) for part in parts)
    energy += sum(lv["specs"].get("Leakage energy (total)", 0.0) for lv in stats["levels"])
    return TimeloopComparison(
        folder.name,
        result,
        case.evaluate(),
        counts,
        differing,
        max(part["Cycles"] for part in parts),
        stats["summary"]["Utilization"] / 100,
        energy,
    )


def _counts(levels: list[dict[str, Any]], result: TimeloopResult) -> tuple[int, tuple[str, ...]]:
    ours = {level.name: level for level in result.levels}
    checked, differing = 0, []
    for level in levels:
        for tensor, values in level["tensors"].items():
            for kind in COUNTS:
                expected = values[f"Scalar {kind} (per-instance)"]
                total = getattr(ours[level["name"]], kind)[tensor]
                found = total / values["Utilized instances (max)"]
                checked += 1
                if abs(found - expected) > 1e-6:
                    name = f"{level['name']} {tensor} {kind}"
                    differing.append(f"{name}: {found:g} instead of {expected:g}")
    return checked, tuple(differing)


def validate_loopnest() -> bool:
    """Print the table; True if everything agrees."""
    compared = [compare_case(folder) for folder in timeloop_cases()]
    print("Loop-nest model beside Timeloop (counts: reads, fills, updates of a level and tensor)")
    rows = [
        (
            c.case,
            f"{c.counts - len(c.differing)}/{c.counts}",
            f"{c.result.cycles:.0f}",
            c.cycles,
            f"{c.result.utilization:.2%}",
            f"{c.utilization:.2%}",
            f"{c.energy_error:+.4%}",
        )
        for c in compared
    ]
    heads = ("case", "counts equal", "cycles", "Timeloop", "utilisation", "Timeloop")
    print(table((*heads, "energy error"), rows))
    for c in compared:
        for difference in c.differing:
            print(f"  {c.case}: {difference}")
        if c.exact.cycles != c.result.cycles:
            print(
                f"{c.case}: Timeloop charges the residual tile as a full one; so does the table, "
                f"under compat='timeloop'. The exact count, our default: {c.exact.cycles:.0f} "
                f"cycles instead of {c.result.cycles:.0f}."
            )
    print()
    sparse = validate_sparse()
    return sparse and all(c.equal for c in compared)
