"""The loop-nest model beside 6,000 Timeloop evaluations of Gemmini machines (DOSA data set)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from archsim.models.loopnest import dosa
from archsim.models.loopnest.dosa import DosaCounts, DosaPoints
from archsim.validate.references import references, table

FILE = "timeloop_gemmini_6000.csv.gz"
FOLDS = 5
#: Prices of the energy form, in the order of :func:`energy_features`.
PRICES = (
    "multiply-accumulate (pJ)",
    "on-chip byte (pJ)",
    "on-chip byte and byte of capacity (pJ)",
    "DRAM byte (pJ)",
)


@dataclass(frozen=True)
class DosaComparison:
    """All rows beside ours.

    Attributes:
        rows: How many; ``compute_bound`` of them take Timeloop no longer than the array needs.
        equal: Fraction of rows whose cycles are equal; ``equal_compute_bound`` of those.
        by_rules: Fraction equal when a departure of that Timeloop is not followed.
        prices: Fitted to all rows, see :data:`PRICES`.
        held_out: By kind of split, the largest and median relative error of the energy on rows
            that had no part in the fit.
        edp_spearman: Rank correlation of the energy-delay product, energies held out by shape.
        within: Fraction of rows whose held-out energy (by shape) lies within 1 %.
    """

    rows: int
    compute_bound: int
    equal: float
    equal_compute_bound: float
    by_rules: dict[str, float]
    prices: tuple[float, ...]
    held_out: dict[str, tuple[float, float]]
    edp_spearman: float
    within: float


def energy_features(points: DosaPoints, found: DosaCounts) -> np.ndarray:
    """float64[N, 4] what the four prices are multiplied by.

    A storage's price of a byte is affine in the capacity of one of its instances (decoder and sense
    amplifiers, plus lines as long as the array of cells): one law for registers, accumulator and
    scratchpad. Whole blocks are moved, and a partly filled one costs as a full one.
    """
    mesh = np.sqrt(points.machine[:, 0])
    words = {s: found.counts[:, s].sum(axis=(1, 2)) for s in (dosa.ACCUMULATOR, dosa.REGISTER)}
    moved = {
        dosa.REGISTER: (words[dosa.REGISTER], np.ones(len(points))),
        dosa.ACCUMULATOR: (4 * words[dosa.ACCUMULATOR], 4 * points.machine[:, 1]),
        dosa.SCRATCHPAD: (mesh * _blocks(found, dosa.SCRATCHPAD, mesh), points.machine[:, 2]),
    }
    return np.stack(
        [
            points.macs,
            sum(count for count, _ in moved.values()),
            sum(count * capacity for count, capacity in moved.values()),
            dosa.DRAM_BLOCK_WORDS * _blocks(found, dosa.DRAM, dosa.DRAM_BLOCK_WORDS),
        ],
        axis=1,
    )


def _blocks(found: DosaCounts, slot: int, words) -> np.ndarray:
    """Block accesses of a slot, every tensor and kind rounded up by itself."""
    words = np.reshape(words, (-1, 1, 1))
    return np.ceil(found.counts[:, slot] / words - 1e-12).sum(axis=(1, 2))


def fit_prices(features: np.ndarray, energy: np.ndarray) -> np.ndarray:
    """Non-negative least squares of the relative error."""
    from scipy.optimize import nnls

    scaled = features / energy[:, None]
    size = np.linalg.norm(scaled, axis=0)
    return nnls(scaled / size, np.ones(len(energy)))[0] / size


def folds_of(groups: np.ndarray, folds: int = FOLDS, seed: int = 0) -> np.ndarray:
    """int64[N] fold of every row; a group is never divided."""
    kinds = int(groups.max()) + 1
    return (np.random.default_rng(seed).permutation(kinds) % folds)[groups]


def compare_dosa() -> DosaComparison:
    """Evaluate all rows and compare.

    Raises:
        ArchsimError: The reference data is missing or not understood.
    """
    from scipy.stats import spearmanr

    points = dosa.read_points(references("dosa") / FILE)
    cycles, energy = points.numbers("target.cycle"), points.numbers("target.energy") * 1e6
    found = dosa.evaluate_points(points)
    equal = found.cycles == cycles
    bound = cycles == found.compute
    by_rules = {}
    for rule in dosa.RULES:
        others = [other for other in dosa.RULES if other != rule]
        by_rules[rule] = float((dosa.evaluate_points(points, others).cycles == cycles).mean())
    features = energy_features(points, found)
    held_out, by_shape = {}, np.zeros(len(points))
    for kind, groups in (("layer shape", points.shapes), ("machine", points.machines)):
        fold, predicted = folds_of(groups), np.zeros(len(points))
        for i in range(FOLDS):
            inside = fold == i
            predicted[inside] = features[inside] @ fit_prices(features[~inside], energy[~inside])
        error = np.abs(predicted / energy - 1)
        held_out[kind] = (float(error.max()), float(np.median(error)))
        if kind == "layer shape":
            by_shape = predicted
    return DosaComparison(
        len(points),
        int(bound.sum()),
        float(equal.mean()),
        float(equal[bound].mean()),
        by_rules,
        tuple(float(price) for price in fit_prices(features, energy)),
        held_out,
        float(spearmanr(by_shape * found.cycles, energy * cycles).statistic),
        float((np.abs(by_shape / energy - 1) <= 0.01).mean()),
    )


_CAUSES = {
    "first_fill": (
        "the first partial sum of every output is written into the accumulator\n"
        "    (a fill), though nothing is read from DRAM for it; later Timeloops leave it out"
    ),
    "walk": (
        "halos: a loop is walked through two iterations and scaled up, and a\n"
        "    step that leaves the input in place discards the overlap of the next"
    ),
    "rounding": (
        "the last cycle: compute / (bandwidth / (accesses / compute)) is rounded\n"
        "    up after three divisions, which adds a cycle where the result is whole"
    ),
}


def validate_dosa() -> bool:
    """Print the table; True if cycles, energy and ranks agree as required."""
    c = compare_dosa()
    print(f"Loop-nest model beside Timeloop on {c.rows:,} (machine, layer, mapping) points of DOSA")
    rows = [
        ("cycles equal, compute-bound rows", f"{c.compute_bound:,}",
         f"{c.equal_compute_bound:.2%}", "100 %"),
        ("cycles equal, all rows", f"{c.rows:,}", f"{c.equal:.2%}", ">= 99 %"),
        ("energy within 1 %, held out by shape", f"{c.rows:,}", f"{c.within:.2%}", "100 %"),
        ("Spearman of energy x delay", f"{c.rows:,}", f"{c.edp_spearman:.6f}", ">= 0.999"),
    ]  # fmt: skip
    print(table(("figure", "rows", "found", "required"), rows))
    print("\nWhat that Timeloop (early 2023) does differently; cycles equal without following it:")
    for rule, share in c.by_rules.items():
        print(f"  {rule} ({share:.2%}): {_CAUSES[rule]}")
    print(
        "\nEnergy: four prices, found by non-negative least squares of the relative error. A byte "
        "on chip costs\na + b x (bytes of one instance), one law for register, accumulator and "
        f"scratchpad. {FOLDS} folds:"
    )
    print(
        table(
            ("held out by", "largest error", "median error"),
            [(kind, f"{m:.2e}", f"{d:.2e}") for kind, (m, d) in c.held_out.items()],
        )
    )
    for name, price in zip(PRICES, c.prices, strict=True):
        print(f"  {name}: {price:.6g}")
    if c.equal < 1:
        print(f"{round((1 - c.equal) * c.rows)} rows differ in cycles and are not explained.")
    return (
        c.equal_compute_bound == 1
        and c.equal >= 0.99
        and c.within == 1
        and (c.edp_spearman >= 0.999)
    )
