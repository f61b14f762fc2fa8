"""Gemmini's RTL (FireSim, DOSA data set) beside the loop-nest model and the Gemmini model."""

from __future__ import annotations

from dataclasses import astuple, dataclass, fields
from pathlib import Path

import numpy as np

from archsim.models import gemmini
from archsim.models.gemmini import GemminiConstants, GemminiPrograms
from archsim.models.loopnest.dosa import DosaPoints, evaluate_points, read_points
from archsim.validate.dosa import FOLDS, folds_of
from archsim.validate.references import references, table

#: File, rows of the array (None: by the spatial factors), title.
TEST = ("gemmini_rtl_test_111.csv.gz", 16, "mappings found by DOSA, 16 x 16")
RANDOM = ("gemmini_rtl_800.csv.gz", None, "random mappings, arrays of 4 to 64")
#: Required of held-out rows: median relative error, rank correlation.
MOST_ERROR, LEAST_SPEARMAN = 0.10, 0.985


@dataclass(frozen=True)
class Agreement:
    """How one set of predictions lies beside the RTL.

    Attributes:
        median_error, upper_error: Median and 90 % quantile of the relative error.
        ratio: Median of RTL over predicted.
        spearman: Rank correlation.
    """

    median_error: float
    upper_error: float
    ratio: float
    spearman: float

    @classmethod
    def of(cls, predicted: np.ndarray, measured: np.ndarray) -> Agreement:
        """Compare float64[M] with float64[M]."""
        from scipy.stats import spearmanr

        error = np.abs(predicted / measured - 1)
        return cls(
            float(np.median(error)),
            float(np.quantile(error, 0.9)),
            float(np.median(measured / predicted)),
            float(spearmanr(predicted, measured).statistic),
        )

    def cells(self) -> tuple[str, ...]:
        """For a table."""
        return (
            f"{self.median_error:.1%}",
            f"{self.upper_error:.1%}",
            f"{self.ratio:.3f}",
            f"{self.spearman:.4f}",
        )


@dataclass(frozen=True, eq=False)
class RtlRows:
    """One file: rows, their RTL cycles, and the programs that ran."""

    title: str
    points: DosaPoints
    measured: np.ndarray
    programs: GemminiPrograms
    work: gemmini.TileWork


def read_rows(file: str, array: int | None, title: str) -> RtlRows:
    """Read one of the files in the reference data."""
    points = read_points(references("dosa") / Path(file))
    programs = gemmini.programs_from_points(points, array)
    return RtlRows(
        title,
        points,
        points.numbers("target.gemmini_cycle"),
        programs,
        gemmini.tile_work(programs),
    )


def held_out(sets: list[RtlRows]) -> tuple[list[np.ndarray], np.ndarray]:
    """Predict every row by constants fitted to rows of other layer shapes.

    Args:
        sets: One file, or several that are fitted together, each with the same total weight.

    Returns:
        Predicted cycles of every file, and the fold's constants float64[folds, constants].
    """
    shapes = [row.tobytes() for s in sets for row in s.points.problem]
    numbers = {shape: i for i, shape in enumerate(dict.fromkeys(shapes))}
    fold = folds_of(np.array([numbers[shape] for shape in shapes]))
    programs, work, measured, weights = joined(sets)
    predicted, constants = np.zeros(len(measured)), []
    for i in range(FOLDS):
        train, test = fold != i, fold == i
        fitted = gemmini.calibrate(
            programs.take(train), measured[train], weights[train], take(work, train)
        )
        constants.append(astuple(fitted))
        predicted[test] = gemmini.cycles(programs.take(test), fitted, take(work, test)).cycles
    ends = np.cumsum([len(s.measured) for s in sets])[:-1]
    return np.split(predicted, ends), np.array(constants)


def joined(sets: list[RtlRows]):
    """Programs, work, cycles and weights of several files as one."""
    kinds = [s.programs for s in sets], [s.work for s in sets]
    programs, work = (
        type(parts[0])(
            *(np.concatenate([getattr(p, f.name) for p in parts]) for f in fields(parts[0]))
        )
        for parts in kinds
    )
    measured = np.concatenate([s.measured for s in sets])
    size = max(len(s.measured) for s in sets)
    weights = np.concatenate([np.full(len(s.measured), size / len(s.measured)) for s in sets])
    return programs, work, measured, weights


def take(work: gemmini.TileWork, rows: np.ndarray) -> gemmini.TileWork:
    """Some rows of the work."""
    return gemmini.TileWork(*(getattr(work, field.name)[rows] for field in fields(work)))


HEADS = ("median error", "90 % below", "RTL / model", "Spearman")


def validate_rtl() -> bool:
    """Print the tables; True if the held-out figures are as good as required."""
    test, random = read_rows(*TEST), read_rows(*RANDOM)
    fine = _uncorrected(test, random)
    print(
        f"\nGemmini model (archsim.models.gemmini), {len(astuple(gemmini.CALIBRATED))} constants; "
        f"held out: {FOLDS} folds by layer shape"
    )
    rows, judged = [], []
    for s in (test, random):
        agreement = Agreement.of(held_out([s])[0][0], s.measured)
        judged.append(agreement)
        rows.append((s.title, "held out, fitted to this file", *agreement.cells()))
    both, spread = held_out([test, random])
    for s, predicted in zip((test, random), both, strict=True):
        judged.append(Agreement.of(predicted, s.measured))
        rows.append((s.title, "held out, fitted to both files", *judged[-1].cells()))
    together = Agreement.of(np.concatenate(both), np.concatenate([test.measured, random.measured]))
    rows.append(("both files", "held out, fitted to both files", *together.cells()))
    for s, other in ((test, random), (random, test)):
        fitted = gemmini.calibrate(other.programs, other.measured, None, other.work)
        found = gemmini.cycles(s.programs, fitted, s.work).cycles
        rows.append((s.title, "fitted to the other file", *Agreement.of(found, s.measured).cells()))
    for s in (test, random):
        found = gemmini.cycles(s.programs, None, s.work).cycles
        rows.append((s.title, "shipped constants", *Agreement.of(found, s.measured).cells()))
    print(table(("rows", "constants", *HEADS), rows))
    _classes(random, both[1])
    same = _constants([test, random], spread)
    wanted = judged[:2]
    good = all(
        a.median_error <= MOST_ERROR and a.spearman >= LEAST_SPEARMAN for a in (*wanted, together)
    )
    print(
        f"required of held-out rows: median error <= {MOST_ERROR:.0%}, Spearman >= "
        f"{LEAST_SPEARMAN}: {'met' if good else 'NOT MET'} by each file on its own and by both "
        "together"
    )
    return fine and good and same


def _uncorrected(test: RtlRows, random: RtlRows) -> bool:
    """The loop-nest model as it is, and Timeloop where its cycles are in the file."""
    found = evaluate_points(test.points, ())
    timeloop = test.points.numbers("target.cycle")
    ours = Agreement.of(found.cycles, test.measured)
    theirs = Agreement.of(timeloop, test.measured)
    as_timeloop = evaluate_points(test.points).cycles
    print("Loop-nest model, uncorrected, beside the RTL's cycles")
    rows = [
        (test.title, "loop-nest model", *ours.cells()),
        (test.title, "Timeloop", *theirs.cells()),
        (
            random.title,
            "loop-nest model, 16 x 16 baseline",
            *Agreement.of(
                evaluate_points(random.points.on_baseline(), ()).cycles, random.measured
            ).cells(),
        ),
    ]
    print(table(("rows", "model", *HEADS), rows))
    print(
        f"under compat='timeloop' {(as_timeloop == timeloop).mean():.1%} of the first file's "
        "cycles equal Timeloop's; no rule was made from them"
    )
    # Cycles differ from Timeloop's by its own departures only, so ranks differ in the fourth digit.
    return ours.spearman >= theirs.spearman - 5e-4 and ours.ratio <= theirs.ratio + 5e-4


def _classes(rows: RtlRows, predicted: np.ndarray) -> None:
    """Held-out error by what binds a tile, and the tiles that lie in the padding."""
    bound = gemmini.cycles(rows.programs, None, rows.work).bound
    error = np.abs(predicted / rows.measured - 1)
    print(f"\n{rows.title}, held out, by the longest part of a tile")
    classes = [(name, bound == name) for name in ("issue", "load", "execute", "store")]
    hollow = rows.work.wrapped > 0
    classes.append(("tiles wholly in the padding", hollow))
    cells = [
        (name, int(own.sum()), f"{np.median(error[own]):.1%}", f"{error[own].max():.0%}")
        for name, own in classes
        if own.any()
    ]
    print(table(("part", "rows", "median error", "largest"), cells))


def _constants(sets: list[RtlRows], spread: np.ndarray) -> bool:
    """Print the constants fitted to everything; whether they are the shipped ones."""
    programs, work, measured, weights = joined(sets)
    fitted = gemmini.calibrate(programs, measured, weights, work)
    print("\nConstants fitted to both files, their range over the folds, and the shipped ones")
    cells = []
    for i, field in enumerate(fields(GemminiConstants)):
        value, shipped = getattr(fitted, field.name), getattr(gemmini.CALIBRATED, field.name)
        low, high = spread[:, i].min(), spread[:, i].max()
        cells.append((field.name, f"{value:.4g}", f"{low:.3g} to {high:.3g}", f"{shipped:.4g}"))
    print(table(("constant", "fitted", "folds", "shipped"), cells))
    same = np.allclose(astuple(fitted), astuple(gemmini.CALIBRATED), rtol=0.02)
    if not same:
        print("The shipped constants are not those of this data.")
    return bool(same)
