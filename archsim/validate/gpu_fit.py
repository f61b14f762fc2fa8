"""Calibration of the GPU constants: least mean relative error over the shapes not held back."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import yaml
from numpy.typing import NDArray

from archsim.models.gpu.constants import GpuConstants, constants_file, load_constants
from archsim.validate.gpu_data import FOLDS, Measured
from archsim.validate.references import table

#: Constants that say what a kernel is rather than how fast it runs.
FIXED = {
    "key_tile", "rotary", "group_limit", "padded_width", "eager_start_share", "grouped_resident",
    "grouped8_resident", "grouped8_single_rows", "head_resident", "head_small_resident",
}  # fmt: skip
#: Ranges as factors of the shipped value; a share never exceeds 1.
SPAN = 3.0
SHARES = ("efficiency", "overlap", "l2_share", "sustained_clock", "tail")
ROWS, GENERATIONS, SEED = 2500, 40, 7
Mask = NDArray[np.bool_]
OF_DEVICE = {"a100": "ampere", "h100": "hopper"}


def _bounds(name: str, value: float) -> tuple[float, float]:
    high = value * SPAN
    if any(word in name for word in SHARES):
        high = min(high, 1.0)
    if name.endswith("resident"):
        return 1.0, max(high, 1.5)
    return value / SPAN, max(high, value / SPAN * 1.01)


def fit_kernel(
    sets: Sequence[Measured],
    generation: str,
    kernel: str,
    *,
    out_of: Callable[[Measured], Mask] = lambda one: one.held,
    anew: bool = False,
    generations: int = GENERATIONS,
) -> GpuConstants:
    """Constants with one kernel's values fitted to some rows.

    A population search (SciPy's differential evolution, on logarithms) over a sample of the rows;
    tile shapes stay.

    Args:
        sets: Measurements.
        generation: Whose constants.
        kernel: Which.
        out_of: Rows that are left out; default those held back.
        anew: Do not start at the shipped values, which have seen other rows.
        generations: Of the search.
    """
    from scipy.optimize import differential_evolution

    shipped = load_constants(generation)
    values = dict(shipped.kernel(kernel))
    names = [n for n, v in values.items() if n not in FIXED and v > 0]
    rng = np.random.default_rng(SEED)
    samples = []
    for one in sets:
        rows = np.flatnonzero(~out_of(one))
        samples.append((one, np.sort(rng.permutation(rows)[: ROWS // len(sets) + 1])))
    limits = np.log([_bounds(name, values[name]) for name in names])

    def constants(x: np.ndarray) -> GpuConstants:
        return shipped.replaced(
            kernel, {n: float(f"{v:.4g}") for n, v in zip(names, np.exp(x), strict=True)}
        )

    def loss(x: np.ndarray) -> float:
        tried = constants(x)
        found = [np.abs(o.predict(tried, r) / o.latency_s[r] - 1) for o, r in samples]
        return float(np.concatenate(found).mean())

    start = np.clip(np.log([values[n] for n in names]), limits[:, 0], limits[:, 1])
    result = differential_evolution(
        loss, limits, x0=None if anew else start, maxiter=generations, popsize=4, seed=SEED,
        polish=False, tol=0,
    )  # fmt: skip
    return constants(result.x if anew or result.fun <= loss(start) else start)


def _groups(sets: Sequence[Measured], kernel: str | None) -> dict[tuple[str, str], list[Measured]]:
    """What constants are fitted to together, by generation and kernel."""
    groups: dict[tuple[str, str], list[Measured]] = defaultdict(list)
    for one in sets:
        if one.calibrated and kernel in (None, one.kernel):
            groups[OF_DEVICE[one.device], one.kernel].append(one)
    return groups


def cross_validate(
    sets: Sequence[Measured],
    kernel: str | None,
    *,
    splits: int = 1,
    generations: int = GENERATIONS,
) -> NDArray[np.float64]:
    """Errors on every fold of the shapes of constants fitted anew to the other folds.

    Prints the mean and the worst fold of each group beside the shipped constants' error there.

    Returns:
        Mean relative errors, float64[groups, splits x folds].
    """
    rows, found = [], []
    for (generation, name), members in _groups(sets, kernel).items():
        own = load_constants(generation)
        errors: list[float] = []
        shipped: list[float] = []
        for split in range(splits):
            for fold in range(FOLDS):

                def left_out(one: Measured, split: int = split, fold: int = fold) -> Mask:
                    return one.folds(split) == fold

                if not any(left_out(one).any() for one in members):
                    continue
                fitted = fit_kernel(
                    members, generation, name, out_of=left_out, anew=True, generations=generations
                )
                for constants, into in ((fitted, errors), (own, shipped)):
                    sizes = [
                        np.abs(one.predict(constants, r) / one.latency_s[r] - 1)
                        for one in members
                        if len(r := np.flatnonzero(left_out(one)))
                    ]
                    into.append(float(np.concatenate(sizes).mean()))
        found.append(errors)
        rows.append((name, generation, len(errors), f"{np.mean(errors):.1%}",
                     f"{np.max(errors):.1%}", f"{np.mean(shipped):.1%}"))  # fmt: skip
    print("Constants fitted anew to all folds of the shapes but one, errors on that one")
    print(table(("kernel", "generation", "folds", "mean", "worst", "shipped, mean"), rows))
    return np.array(found)


def calibrate_all(sets: Sequence[Measured], kernel: str | None, out: object = None) -> None:
    """Fit all kernels, or one; print the errors before and after, write the file if asked."""
    written = constants_file().model_dump(mode="json")
    rows = []
    for (generation, name), members in _groups(sets, kernel).items():
        fitted = fit_kernel(members, generation, name)
        shipped = load_constants(generation)

        def error(c: GpuConstants, held: bool, members: list[Measured] = members) -> float:
            found = [
                np.abs(
                    o.predict(c, np.flatnonzero(o.held == held)) / o.latency_s[o.held == held] - 1
                )
                for o in members
            ]
            return float(np.concatenate(found).mean())

        after = error(fitted, True)
        before = [f"{error(shipped, held):.2%}" for held in (False, True)]
        rows.append((name, generation, *before, f"{error(fitted, False):.2%}", f"{after:.2%}"))
        entry = written["generations"][generation]["kernels"][name]
        entry["values"] = dict(fitted.kernel(name))
        entry["held_out_error"] = f"MAPE {after:.1%}"
    heads = ("kernel", "generation", "shipped, fitted rows", "held out", "fitted again", "held out")
    print(table(heads, rows))
    if out:
        Path(str(out)).write_text(yaml.safe_dump(written, sort_keys=False), encoding="utf-8")
        print(f"written: {out}")
