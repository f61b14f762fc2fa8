"""Calibration of the GPU constants: least mean relative error over the shapes not held back."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import yaml

from archsim.models.gpu.constants import GpuConstants, constants_file, load_constants
from archsim.validate.gpu_data import Measured
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
OF_DEVICE = {"a100": "ampere", "h100": "hopper"}


def _bounds(name: str, value: float) -> tuple[float, float]:
    high = value * SPAN
    if any(word in name for word in SHARES):
        high = min(high, 1.0)
    if name.endswith("resident"):
        return 1.0, max(high, 1.5)
    return value / SPAN, max(high, value / SPAN * 1.01)


def fit_kernel(sets: Sequence[Measured], generation: str, kernel: str) -> GpuConstants:
    """Constants with one kernel's values fitted to the rows not held back.

    A population search (SciPy's differential evolution, on logarithms, started at the shipped
    values) over a sample of the rows; tile shapes stay.
    """
    from scipy.optimize import differential_evolution

    shipped = load_constants(generation)
    values = dict(shipped.kernel(kernel))
    names = [n for n, v in values.items() if n not in FIXED and v > 0]
    rng = np.random.default_rng(SEED)
    samples = []
    for one in sets:
        rows = np.flatnonzero(~one.held)
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
        loss, limits, x0=start, maxiter=GENERATIONS, popsize=4, seed=SEED, polish=False, tol=0
    )
    return constants(result.x if result.fun <= loss(start) else start)


def calibrate_all(sets: Sequence[Measured], kernel: str | None, out: object = None) -> None:
    """Fit all kernels, or one; print the errors before and after, write the file if asked."""
    groups: dict[tuple[str, str], list[Measured]] = defaultdict(list)
    for one in sets:
        if one.calibrated and kernel in (None, one.kernel):
            groups[OF_DEVICE[one.device], one.kernel].append(one)
    written = constants_file().model_dump(mode="json")
    rows = []
    for (generation, name), members in groups.items():
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
