"""The sparse loop-nest model beside Timeloop: every count it prints, metadata included."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

from archsim.models.sparse.timeloop import SparseTimeloopResult, read_sparse_case
from archsim.validate.references import references, table

_COUNT = re.compile(
    r"\s+((?:Actual|Gated|Skipped) scalar (?:format )?(?:reads|fills|updates)) "
    r"\(per-instance\)\s*(?::\s*(\d+))?\s*$"
)
_RANK = re.compile(r"\s+Rank \d+ \(metadata, payload\): \((\d+),\s*(\d+)\)")


@dataclass(frozen=True)
class SparseComparison:
    """One sparse Timeloop run beside ours.

    Attributes:
        case: Folder name.
        result: Ours.
        checked: How many figures were compared; ``differing`` those not equal, in words.
        cycles, energy_pj: Timeloop's.
    """

    case: str
    result: SparseTimeloopResult
    checked: int
    differing: tuple[str, ...]
    cycles: int
    energy_pj: float

    @property
    def energy_error(self) -> float:
        """Our energy over Timeloop's, less one."""
        return self.result.energy_pj / self.energy_pj - 1.0

    @property
    def equal(self) -> bool:
        """All figures equal and energy within 0.1 %."""
        return not self.differing and abs(self.energy_error) < 1e-3


def sparse_cases() -> list[Path]:
    """Folders of the sparse cases."""
    folders = sorted(path for path in references("timeloop").iterdir() if path.is_dir())
    return [path for path in folders if "sparse" in path.name]


def printed_counts(text: str) -> dict[tuple[str, str, str], tuple[float, ...]]:
    """Counts in Timeloop's statistics by (level, data space, name).

    Metadata is a flat tuple, coordinates and offsets of every rank, outer to inner; empty where it
    printed 0 for all.
    """
    found: dict[tuple[str, str, str], tuple[float, ...]] = {}
    level = space = name = ""
    for line in text.splitlines():
        if match := re.fullmatch(r"=== (\S+) ===", line.strip()):
            level = match[1]
        elif match := re.fullmatch(r" {4}(\w+):", line):
            space = match[1]
        elif match := _COUNT.match(line):
            name = match[1]
            found[level, space, name] = () if "format" in name else (float(match[2]),)
        elif (match := _RANK.match(line)) and (level, space, name) in found:
            if "format" in name:
                found[level, space, name] += (float(match[1]), float(match[2]))
        elif ":" in line:
            name = ""
    return found


def compare_sparse_case(folder: Path) -> SparseComparison:
    """Evaluate one case and compare.

    Raises:
        InputError: A file of the case is missing or not understood.
    """
    files = [next(folder.glob(p)) for p in ("parsed-*.yaml", "*ERT.yaml", "*.map.yaml")]
    result = read_sparse_case(*files).evaluate()
    stats = json.loads((folder / "stats.json").read_text())
    checked, differing = 0, []

    def check(name: str, ours: float, theirs: float, tolerance: float = 1e-6) -> None:
        nonlocal checked
        checked += 1
        if abs(ours - theirs) > tolerance:
            differing.append(f"{name}: {ours:g} instead of {theirs:g}")

    printed = printed_counts(next(folder.glob("*.stats.txt")).read_text())
    for (level, space, name), values in printed.items():
        ours: tuple[float, ...] = (result.counts.get((level, space, name), 0.0),)
        if "format" in name:
            ours = tuple(x for rank in result.metadata[level, space, name] for x in rank)
            values = values or (0.0,) * len(ours)
        for a, b in zip(ours, values, strict=True):
            check(f"{level} {space} {name}", a, b)
    mac = next(level for level in stats["levels"] if not level["tensors"])
    for name in ("actual", "gated"):
        key = f"{name.capitalize()} Computes (total)"
        check(key, getattr(result.computes, name), mac["stats"][key])
    for level in stats["levels"]:
        for space, values in level["tensors"].items():
            energy = result.level_energy_pj[level["name"], space]
            check(f"{level['name']} {space} energy", energy, values["Energy (total)"], 0.006)
    check("cycles", result.cycles, mac["stats"]["Cycles"])
    energy = stats["summary"]["fJ/Compute"]["Total"] * mac["stats"]["Actual Computes (total)"]
    return SparseComparison(
        folder.name, result, checked, tuple(differing), mac["stats"]["Cycles"], energy / 1000
    )


def validate_sparse() -> bool:
    """Print the table; True if everything agrees."""
    compared = [compare_sparse_case(folder) for folder in sparse_cases()]
    print("Sparse model beside Timeloop (accesses, metadata by rank, computes, energies)")
    rows = [
        (
            c.case,
            f"{c.checked - len(c.differing)}/{c.checked}",
            f"{c.result.cycles:.0f}",
            c.cycles,
            f"{c.energy_error:+.4%}",
        )
        for c in compared
    ]
    print(table(("case", "figures equal", "cycles", "Timeloop", "energy error"), rows))
    for c in compared:
        for difference in c.differing:
            print(f"  {c.case}: {difference}")
    return all(c.equal for c in compared)
