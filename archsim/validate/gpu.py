"""The GPU kernel models beside measured kernels, operator by operator and device by device."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from archsim.errors import InputError
from archsim.models.gpu import (
    GpuDevice,
    evaluate_batched_gemm,
    evaluate_collective,
    evaluate_gemm,
    evaluate_vector,
    gpu_device,
    load_constants,
)
from archsim.models.gpu.vector import eager_s
from archsim.validate.gpu_data import FOLDS, SPLITS, Measured, read_csv
from archsim.validate.gpu_fit import FIXED, calibrate_all, cross_validate
from archsim.validate.gpu_sets import all_sets
from archsim.validate.references import references, table

#: GPT-3 175B layer on four A100 (LLMCompass, figure 5 i-l): measured sums and the error allowed.
LAYER_TARGETS = {"prefill": (66.75e-3, 0.04), "decode": (1.111e-3, 0.06)}
#: Order of the twelve measured operations in those files.
LAYER_OPERATIONS = (
    "qkv", "q x k", "a x v", "proj", "h1", "h2", "softmax", "layernorm", "layernorm", "gelu",
    "all-reduce", "all-reduce",
)  # fmt: skip


def errors(measured: Measured, constants: object = None) -> np.ndarray:
    """Relative error of every row, signed."""
    rows = np.arange(len(measured.latency_s))
    return measured.predict(constants, rows) / measured.latency_s - 1  # type: ignore[arg-type]


def fold_means(one: Measured, size: np.ndarray) -> np.ndarray:
    """Mean relative error in every fold of every split by shape, float64[splits x folds]."""
    means = []
    for split in range(SPLITS):
        folds = one.folds(split)
        means += [size[folds == fold].mean() for fold in range(FOLDS) if (folds == fold).any()]
    return np.array(means)


def summary(sets: Sequence[Measured]) -> tuple[list[tuple[object, ...]], bool]:
    """Rows of the table, and whether every target is met."""
    rows: list[tuple[object, ...]] = []
    met = True
    for one in sets:
        signed = errors(one)
        size = np.abs(signed)
        back = size[one.held] if one.held.any() else size
        fitted = f"{size[~one.held].mean():.1%}" if one.calibrated else "-"
        worst = int(size.argmax())
        spread = "-"
        if one.calibrated:
            means = fold_means(one, size)
            spread = f"{means.mean():.1%} ({means.max():.1%})"
        verdict = ""
        if one.target is not None:
            good = back.mean() <= one.target
            met &= bool(good)
            verdict = f"<= {one.target:.0%} {'met' if good else 'MISSED'}"
        rows.append((
            one.operator, one.device, one.source, len(size), fitted, len(back),
            f"{back.mean():.1%}", f"{np.median(back):.1%}", f"{np.quantile(back, 0.9):.0%}",
            spread, f"{signed[worst]:+.0%}", one.describe(worst), verdict,
        ))  # fmt: skip
    return rows, met


HEADS = (
    "operator", "device", "data", "rows", "fitted MAPE", "held out", "MAPE", "median", "p90",
    "other splits", "worst", "its shape", "target",
)  # fmt: skip


def layer_costs(device: GpuDevice, phase: str) -> list[float]:
    """Latency of the twelve operations of a GPT-3 175B layer, tensor parallel over four, batch 8.

    Prefill of 2048 tokens; decode of the 1024th token after them (3072 in the cache). Attention is
    unfused, as it was measured: two batched products and a softmax over the scores. PyTorch ran it
    eagerly, so that every operation pays the host's time to start it.
    """
    width, members, batch, heads, head = 12288, 4, 8, 96 // 4, 128
    tokens, context = (2048, 2048) if phase == "prefill" else (1, 3072)
    rows = batch * tokens
    sizes = {
        "qkv": (rows, 3 * width // members, width),
        "proj": (rows, width, width // members),
        "h1": (rows, 4 * width // members, width),
        "h2": (rows, width, 4 * width // members),
    }

    def product(m: int, n: int, k: int, copies: int = 1) -> float:
        if copies == 1:
            return float(evaluate_gemm(device, m, n, k, "fp16").latency_s)
        return float(evaluate_batched_gemm(device, copies, m, n, k, "fp16").latency_s)

    start = eager_s("matmul")
    found = {name: start + product(*size) for name, size in sizes.items()}
    found["q x k"] = start + product(tokens, context, head, batch * heads)
    found["a x v"] = start + product(tokens, head, context, batch * heads)
    scores = batch * heads * tokens * context
    vector = {"softmax": scores, "layernorm": rows * width, "gelu": rows * 4 * width // members}
    for kind, elements in vector.items():
        cost = evaluate_vector(device, kind, elements, "fp16", eager=True)
        found[kind] = float(cost.latency_s)
    reduced = evaluate_collective(device, "all_reduce", members, rows * width * 2.0)
    found["all-reduce"] = float(reduced.latency_s)
    return [found[name] for name in LAYER_OPERATIONS]


def _layer() -> bool:
    device, met = gpu_device("a100"), True
    folder = references("gpu") / "llmcompass/figure5/ijkl"
    for phase, file in (("prefill", "transformer_A100.csv"), ("decode", "transformerAR_A100.csv")):
        measured = [float(line) for line in (folder / file).read_text().split()]
        ours = layer_costs(device, phase)
        total, allowed = LAYER_TARGETS[phase]
        error = sum(ours) / total - 1
        met &= abs(error) <= allowed
        print(f"\nGPT-3 175B layer, 4 x A100, batch 8, {phase} (LLMCompass, nothing fitted)")
        rows = [
            (name, f"{m * 1e6:.1f}", f"{o * 1e6:.1f}", f"{o / m - 1:+.0%}")
            for name, m, o in zip(LAYER_OPERATIONS, measured, ours, strict=True)
        ]
        verdict = "met" if abs(error) <= allowed else "MISSED"
        rows.append(("sum", f"{sum(measured) * 1e6:.1f}", f"{sum(ours) * 1e6:.1f}",
                     f"{error:+.1%} (allowed {allowed:.0%}: {verdict})"))  # fmt: skip
        print(table(("operation", "measured us", "ours us", "error"), rows))
    return met


def _vectors() -> None:
    device = gpu_device("a100")
    rows = []
    for kind, folder in (("softmax", "cf"), ("layernorm", "de"), ("gelu", "g")):
        path = references("gpu") / "llmcompass/figure5" / folder / f"{kind}_A100.csv"
        values = np.array(
            [[float(x) for x in line.split(",")] for line in path.read_text().splitlines() if line]
        )
        elements = values[:, :-1].prod(1)
        measured = elements / (values[:, -1] * 1e9)
        ours = evaluate_vector(device, kind, elements, "fp16", eager=True).latency_s
        size = np.abs(ours / measured - 1)
        worst = int(size.argmax())
        rows.append((kind, len(size), f"{size.mean():.1%}", f"{np.median(size):.1%}",
                     f"{ours[worst] / measured[worst] - 1:+.0%}",
                     "x".join(f"{v:g}" for v in values[worst, :-1])))  # fmt: skip
    path = references("gpu") / "llmcompass/figure5/h/allreduce_4xA100_nccl.csv"
    t = read_csv(path)
    ours = evaluate_collective(device, "all_reduce", 4, t["size_bytes"]).latency_s
    size = np.abs(ours / (t["latency_us"] * 1e-6) - 1)
    worst = int(size.argmax())
    rows.append(("all-reduce, 4 GPUs", len(size), f"{size.mean():.1%}", f"{np.median(size):.1%}",
                 f"{ours[worst] / t['latency_us'][worst] * 1e6 - 1:+.0%}",
                 f"{t['size_bytes'][worst]:g} bytes"))  # fmt: skip
    print("\nVector operations and all-reduce on A100 (LLMCompass, run eagerly; not held out)")
    print(table(("operation", "rows", "MAPE", "median", "worst", "its shape"), rows))


def _left_out(sets: Sequence[Measured]) -> None:
    """Constants of one device, carried over to the other by the data sheets alone."""
    known = {one.device: one for one in map(load_constants, ("ampere", "hopper"))}
    rows = []
    for one in sets:
        own = known[one.device]
        other = next(constants for device, constants in known.items() if device != one.device)
        kernel = one.kernel
        if not one.calibrated or kernel not in other.kernels:
            continue
        # what kernels a library has (not how fast they are) is known of the device left out too
        shape = {n: v for n, v in own.kernels[kernel].items() if n in FIXED}
        as_is = other.replaced(kernel, shape)
        found = [
            np.abs(errors(one, constants))
            for constants in (own, as_is, other.carried_over(gpu_device(one.device)).replaced(
                kernel, shape))
        ]  # fmt: skip
        rows.append((one.operator, one.device, other.name, len(found[0]),
                     *(f"{size.mean():.1%}" for size in found),
                     f"{np.median(found[2]):.1%}"))  # fmt: skip
    print("\nOne device left out: the other's constants, as they are and carried over")
    heads = ("operator", "device", "constants of", "rows", "own MAPE", "as they are", "carried",
             "median")  # fmt: skip
    print(table(heads, rows))


def validate_gpu(calibrate: object = False, out: object = None, folds: object = False) -> bool:
    """Print the tables; True if every target is met.

    Args:
        calibrate: Fit the constants again first: True for all kernels, or the name of one.
        out: File the fitted constants are written to.
        folds: Fit to all folds but one, for every fold, and print the errors on the one left out:
            True for all kernels, or the name of one. Takes minutes a kernel.

    Raises:
        InputError: There is no kernel of this name.
    """
    sets = all_sets()
    for option, wanted in (("calibrate", calibrate), ("folds", folds)):
        if not wanted:
            continue
        kernels = {one.kernel for one in sets if one.calibrated}
        if wanted is not True and wanted not in kernels:
            raise InputError(
                "no such kernel", field=f"--{option}", found=wanted,
                expected=", ".join(sorted(kernels)),
            )  # fmt: skip
        kernel = None if wanted is True else str(wanted)
        if option == "folds":
            cross_validate(sets, kernel)
        else:
            calibrate_all(sets, kernel, out)
        return True
    print(
        "GPU kernels beside measured ones. fitted MAPE: on the shapes the constants were fitted to;"
        "\nthe other figures: on the shapes held back (all rows where nothing was fitted). other"
        f"\nsplits: mean (worst) of {SPLITS} splits of the shapes into {FOLDS} folds, constants as"
        " shipped."
    )
    rows, met = summary(sets)
    print(table(HEADS, rows))
    _vectors()
    met &= _layer()
    _left_out(sets)
    return met
