"""Measured GPU kernels: the reference files as rows the kernel models can be compared with."""

from __future__ import annotations

import csv
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from archsim.errors import InputError, MissingExtraError
from archsim.models.gpu import (
    GpuConstants,
    evaluate_decode,
    evaluate_gemm,
    evaluate_moe,
    evaluate_prefill,
    expert_loads,
    gpu_device,
    mean_figures,
)
from archsim.validate.references import references

Floats = NDArray[np.float64]
Table = dict[str, NDArray]
Predict = Callable[[GpuConstants | None, NDArray], Floats]
#: Every fifth shape is held back from calibration; other splits by shape that are tried beside it.
FOLDS, SPLITS = 5, 3
#: (experts on the device, width) with a configuration for A100 SXM 80 GB in vLLM 0.14
#: (``fused_moe/configs``), as far as they occur in the data.
TUNED = {
    (8, 1792), (8, 2048), (8, 3584), (8, 4096), (8, 7168), (1, 14336), (128, 192), (16, 2688),
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class Measured:
    """One operator on one device.

    Attributes:
        operator: For tables.
        device: Shipped machine.
        kernel: Kernel whose constants it tests, in ``constants.yaml``.
        source: Data set.
        target: Mean relative error to reach on what is held back; None: for information.
        shapes: Columns that describe a row, for the worst one.
        latency_s: Measured.
        code: A small number for the shape of every row, which decides its fold; None: nothing was
            fitted to these rows.
        predict: Latency of some rows (indices) with given constants.
        calibrated: Its other rows are what the constants are fitted to.
    """

    operator: str
    device: str
    kernel: str
    source: str
    target: float | None
    shapes: Table
    latency_s: Floats
    code: NDArray[np.int64] | None
    predict: Predict
    calibrated: bool = True

    @property
    def held(self) -> NDArray[np.bool_]:
        """Rows held back from calibration: the first fold of the first split."""
        return self.folds() == 0

    def folds(self, split: int = 0) -> NDArray[np.int64]:
        """Fold of every row in one of several splits by shape; rows of a shape fall together."""
        if self.code is None:
            return np.zeros(len(self.latency_s), np.int64)
        if split == 0:
            return self.code % FOLDS
        order = np.random.default_rng(split).permutation(int(self.code.max()) + 1)
        return order[self.code] % FOLDS

    def describe(self, row: int) -> str:
        """Shape of one row."""
        return " ".join(f"{k}={v[row]:g}" if v.dtype.kind in "fiu" else str(v[row])
                        for k, v in self.shapes.items())  # fmt: skip


def read_parquet(path: Path) -> Table:
    """Columns of a parquet file.

    Raises:
        MissingExtraError: pyarrow is not installed.
        InputError: The file is no parquet file.
    """
    try:
        import pyarrow.parquet as parquet
    except ImportError:
        raise MissingExtraError("pyarrow", "validation") from None
    try:
        table = parquet.read_table(path)
    except (OSError, ValueError) as error:
        raise InputError(f"cannot read: {error}", source=path) from None
    return {name: np.array(table.column(name).to_pylist()) for name in table.column_names}


def read_csv(path: Path) -> Table:
    """Columns of a CSV file with a header; numbers where all are."""
    try:
        with path.open(newline="", encoding="utf-8") as lines:
            rows = list(csv.DictReader(lines))
    except OSError as error:
        raise InputError(f"cannot read: {error.strerror}", source=path) from None
    columns: Table = {}
    for name in rows[0] if rows else ():
        values = [row[name] for row in rows]
        try:
            columns[name] = np.array([float(v) for v in values])
        except ValueError:
            columns[name] = np.array(values)
    return columns


def shape_code(*columns: NDArray) -> NDArray[np.int64]:
    """One of 97 numbers for the shape in every row; rows of a shape have the same."""
    primes = (7919, 104729, 131, 31, 17)
    whole = sum(
        (np.asarray(c).astype(np.int64) * p for c, p in zip(columns, primes, strict=False)),
        start=np.zeros(len(columns[0]), np.int64),
    )
    return whole % 97


def _take(table: Table, rows: NDArray) -> Table:
    return {name: column[rows] for name, column in table.items()}


def _file(device: str, pattern: str) -> Path | None:
    found = sorted((references("gpu") / "aiconfigurator" / f"{device}_sxm").glob(pattern))
    return found[0] if found else None


def _generation(device: str) -> str:
    return "TensorRT-LLM" if device == "h100" else "vLLM"


def gemm_sets(device: str) -> list[Measured]:
    """Matrix products of aiconfigurator, one set a number format."""
    path = _file(device, "gemm/*/*/gemm_perf.parquet")
    if path is None:
        return []
    table, gpu, sets = read_parquet(path), gpu_device(device), []
    for name, dtype in (("bfloat16", "bf16"), ("fp8", "fp8"), ("fp8_block", "fp8")):
        t = _take(table, np.flatnonzero(table["gemm_dtype"] == name))
        if not len(t["m"]):
            continue
        size = 2.0 if dtype == "bf16" else 1.0
        # the collectors run several copies of the weights in turn: 6 (vLLM), up to 5 (TensorRT)
        copies = np.full(len(t["m"]), 6.0)
        if device == "h100":
            copies = np.clip(np.ceil(gpu.l2_bytes / (t["n"] * t["k"] * size)), 1, 5)

        def predict(c, rows, t=t, copies=copies, dtype=dtype):
            m, n, k = (t[x][rows] for x in "mnk")
            return evaluate_gemm(
                gpu, m, n, k, dtype, weight_copies=copies[rows], constants=c
            ).latency_s

        latency, source = t["latency"] * 1e-3, f"aiconfigurator, {_generation(device)}"
        if name == "fp8":
            latency, source = latency - _quantisation(device, t), f"{source}, unquantised"
        one = Measured(
            f"GEMM {name}",
            device,
            "gemm",
            source,
            0.07 if dtype == "bf16" else None,
            {x: t[x] for x in "mnk"},
            latency,
            shape_code(t["n"], t["k"]),
            predict,
            name != "fp8_block",
        )
        sets.append(one)
    return sets


def _quantisation(device: str, t: Table) -> Floats:
    """Time of the two kernels that scale activations to fp8, part of the measured products.

    At most what leaves 1 us for the product: the two were measured apart and vary.
    """
    total = np.zeros(len(t["m"]))
    for kernel in ("computescale", "scale_matrix"):
        path = _file(device, f"quantize/*/*/{kernel}_perf.parquet")
        if path is not None:
            q = read_parquet(path)
            known = dict(
                zip(zip(q["m"].tolist(), q["k"].tolist(), strict=True), q["latency"], strict=True)
            )
            pairs = zip(t["m"].tolist(), t["k"].tolist(), strict=True)
            total += np.array([known.get(pair, 0.0) for pair in pairs]) * 1e-3
    return np.minimum(total, t["latency"] * 1e-3 - 1e-6)


def attention_sets(device: str) -> list[Measured]:
    """Prefill and decode of aiconfigurator; short windows apart."""
    sets: list[Measured] = []
    for phase in ("context", "generation"):
        path = _file(device, f"attention/*/*/{phase}_attention_perf.parquet")
        if path is not None:
            table = read_parquet(path)
            window = table.get("window_size", np.zeros(len(table["latency"]), int))
            table["window"] = window
            short = (window > 0) & (window <= 128)
            one = (table["isl"] == 1) & (phase == "context")
            build = _decode_set if phase == "generation" else _prefill_set
            for kind, rows in (
                ("", ~short & ~one),
                ("window 128", short & ~one),
                ("one token", one),
            ):
                if rows.any():
                    sets.append(build(device, _take(table, np.flatnonzero(rows)), kind))
                if rows.any() and device == "h100" and phase == "generation" and not kind:
                    # what machines are priced with: the best split, monotone in every size
                    best = _decode_set(device, _take(table, np.flatnonzero(rows)), kind, "fixed")
                    name = "decode, best split"
                    sets.append(replace(best, operator=name, target=None, calibrated=False))
    return sets


def _named(phase: str, kind: str) -> str:
    return f"{phase}, {kind}" if kind else f"{phase} attention"


def _attention_shapes(t: Table) -> Table:
    return {
        "batch": t["batch_size"], "tokens": t["isl"] + t["step"], "heads": t["num_heads"],
        "kv_heads": t["num_key_value_heads"], "dim": t["head_dim"], "window": t["window"],
        "kv": t["kv_cache_dtype"],
    }  # fmt: skip


def _attention_code(t: Table) -> NDArray[np.int64]:
    return shape_code(t["num_heads"], t["num_key_value_heads"], t["batch_size"], t["head_dim"])


def _by_format(t: Table, rows: NDArray, run: Callable[[NDArray, str, str], Floats]) -> Floats:
    out = np.empty(len(rows))
    for wide in ("bfloat16", "fp8"):
        for stored in ("bfloat16", "fp8"):
            chosen = np.flatnonzero(
                (t["attn_dtype"][rows] == wide) & (t["kv_cache_dtype"][rows] == stored)
            )
            if len(chosen):
                names = {"bfloat16": "bf16", "fp8": "fp8"}
                out[chosen] = run(rows[chosen], names[wide], names[stored])
    return out


def _prefill_set(device: str, t: Table, kind: str) -> Measured:
    gpu = gpu_device(device)
    window = np.where(t["window"] > 0, t["window"], np.inf)

    if kind == "one token" and device == "a100":  # vLLM runs its decode kernel
        return _decode_set(device, t, kind)

    def predict(c, rows):
        return _by_format(t, rows, lambda r, wide, kv: evaluate_prefill(
            gpu, t["batch_size"][r], t["isl"][r], t["num_heads"][r], t["num_key_value_heads"][r],
            t["head_dim"][r], wide, kv_dtype=kv, window=window[r], constants=c,
        ).latency_s)  # fmt: skip

    return Measured(
        _named("prefill", kind), device, "prefill",
        f"aiconfigurator, {_generation(device)}", None if kind else 0.12, _attention_shapes(t),
        t["latency"] * 1e-3, _attention_code(t), predict, not kind,
    )  # fmt: skip


def _decode_set(device: str, t: Table, kind: str, split: str = "") -> Measured:
    gpu = gpu_device(device)
    window = np.where(t["window"] > 0, t["window"], np.inf)
    # vLLM's FlashAttention-2 splits the cache only where it packs a group of query heads; the
    # benchmark of TensorRT-LLM rotates 128 elements of a head, however narrow it is
    ways, rotated = ("xqa", "xqa"), 128.0
    if device == "a100":
        ways, rotated = ("fixed", "none"), 1.0
    if split:
        ways, rotated = (split, split), 1.0
    unsplit = t["num_heads"] == t["num_key_value_heads"]

    def predict(c, rows):
        def run(r: NDArray, wide: str, kv: str) -> Floats:
            out = np.empty(len(r))
            for alone, way in enumerate(ways):
                some = unsplit[r] == alone
                q = r[some]
                out[some] = evaluate_decode(
                    gpu, t["batch_size"][q], t["step"][q] + t["isl"][q], t["num_heads"][q],
                    t["num_key_value_heads"][q], t["head_dim"][q], kv, split=way,
                    window=window[q], rotary_dim=rotated, resident=True, constants=c,
                ).latency_s  # fmt: skip
            return out

        return _by_format(t, rows, run)

    return Measured(
        _named("prefill" if kind == "one token" else "decode", kind), device, "decode",
        f"aiconfigurator, {_generation(device)}", None if kind else 0.12, _attention_shapes(t),
        t["latency"] * 1e-3, _attention_code(t), predict, not kind,
    )  # fmt: skip


def latent_sets(device: str) -> list[Measured]:
    """Multi-head latent attention of DeepSeek-V3 (aiconfigurator); fitted: decode on H100."""
    gpu, sets = gpu_device(device), []
    for phase in ("context", "generation"):
        path = _file(device, f"mla/*/*/{phase}_mla_perf.parquet")
        if path is None:
            continue
        t = read_parquet(path)
        t = _take(t, np.flatnonzero(t["isl"] + t["step"] > 1))
        t["attn_dtype"] = t["mla_dtype"]

        def predict(c, rows, t=t, phase=phase):
            def run(r: NDArray, wide: str, kv: str) -> Floats:
                b, h = t["batch_size"][r], t["num_heads"][r]
                if phase == "context":  # keys and values expanded: a head of 192, values of 128
                    cost = evaluate_prefill(
                        gpu,
                        b,
                        t["isl"][r],
                        h,
                        h,
                        192,
                        wide,
                        kv_dtype=kv,
                        value_dim=128,
                        constants=c,
                    )
                else:
                    cost = evaluate_decode(
                        gpu, b, t["isl"][r] + t["step"][r], h, 1, 576, kv, latent_value_dim=512,
                        resident=True, constants=c,
                    )  # fmt: skip
                return cost.latency_s

            return _by_format(t, rows, run)

        shapes = {"batch": t["batch_size"], "tokens": t["isl"] + t["step"], "heads": t["num_heads"],
                  "kv": t["kv_cache_dtype"]}  # fmt: skip
        # on A100 the host's time to start vLLM's kernels is all of what was measured
        fitted = phase == "generation" and device == "h100"
        sets.append(Measured(
            f"MLA {'prefill' if phase == 'context' else 'decode'}", device,
            "prefill" if phase == "context" else "decode",
            f"aiconfigurator, {_generation(device)}", None, shapes, t["latency"] * 1e-3,
            shape_code(t["num_heads"], t["batch_size"]) if fitted else None, predict, fitted,
        ))  # fmt: skip
    return sets


def moe_sets(device: str) -> list[Measured]:
    """Layers of experts of aiconfigurator, one set a number format."""
    path = _file(device, "moe/*/*/moe_perf.parquet")
    if path is None:
        return []
    table = read_parquet(path)
    figures = _loads(table, by_group=device == "h100")
    sets = []
    for name in ("bfloat16", "fp8", "fp8_block", "w4a16_mxfp4"):
        rows = np.flatnonzero(table["moe_dtype"] == name)
        if not len(rows):
            continue
        sets.append(_moe_set(device, name, _take(table, rows), _take(figures, rows)))
        if device == "h100" and name in ("bfloat16", "fp8"):
            own = rows[_own_tuning(_take(table, rows))]
            one = _moe_set(device, name, _take(table, own), _take(figures, own))
            operator = f"{one.operator}, own tuning"
            sets.append(replace(one, operator=operator, target=None, calibrated=False))
    return sets


def _own_tuning(t: Table) -> NDArray[np.bool_]:
    """Rows that were measured with the tiles that were tuned for them, for certain.

    The collector keeps what it tunes in files named by width, intermediate width and experts of one
    device, and takes the first whose name begins like that (collector/trtllm/collect_moe.py): a
    model of equal sizes, or 16 experts for 1, may be found instead, and an untuned kernel runs.
    """
    columns = (
        t["hidden_size"], t["inter_size"] // t["moe_tp_size"],
        t["num_experts"] // t["moe_ep_size"],
    )  # fmt: skip
    names = ["_".join(map(str, row)) for row in zip(*(c.tolist() for c in columns), strict=True)]
    models = zip(*(t[c].tolist() for c in ("inter_size", "num_experts", "topk")), strict=True)
    owners: dict[str, set[object]] = {}
    for name, model in zip(names, models, strict=True):
        owners.setdefault(name, set()).add(model)
    alone = {
        name
        for name, its in owners.items()
        if len(its) == 1 and not any(o != name and o.startswith(name) for o in owners)
    }
    return np.array([name in alone for name in names])


def _loads(t: Table, by_group: bool) -> Table:
    """Figures of the loads of every row, the mean of five draws as in the measurement."""
    rng, cache, columns = np.random.default_rng(7), {}, []
    names = ("num_tokens", "num_experts", "topk", "moe_ep_size", "distribution")
    keys = zip(*(t[name].tolist() for name in names), strict=True)
    for key in keys:
        if key not in cache:
            tokens, experts, top_k, groups, law = key
            skew = 0.0 if law == "balanced" else float(law.rsplit("_", 1)[-1])
            loads = expert_loads(
                tokens,
                experts,
                top_k,
                skew=skew,
                groups=groups,
                by_group=by_group,
                draws=5,
                rng=rng,
            )
            cache[key] = mean_figures(loads)
        columns.append(cache[key])
    return {name: np.array([row[name] for row in columns]) for name in columns[0]}


def _moe_set(device: str, name: str, t: Table, figures: Table) -> Measured:
    gpu = gpu_device(device)
    inner = t["inter_size"] / t["moe_tp_size"]
    vllm = device == "a100"
    local = t["num_experts"] // t["moe_ep_size"]
    pairs = zip(local.tolist(), inner.tolist(), strict=True)
    tuned = np.array([not vllm or pair in TUNED for pair in pairs])
    gated = np.array(["nongated" not in source for source in t["kernel_source"].tolist()])
    dtype = "bf16" if name in ("bfloat16", "w4a16_mxfp4") else "fp8"
    # 4-bit weights with one 8-bit scale for 32 of them
    stored = 4.25 / 8 if name == "w4a16_mxfp4" else None

    def predict(c, rows):
        out = np.empty(len(rows))
        for kind in (True, False):
            chosen = np.flatnonzero(gated[rows] == kind)
            if not len(chosen):
                continue
            r = rows[chosen]
            pairs = t["num_tokens"][r] * t["topk"][r]
            out[chosen] = evaluate_moe(
                gpu, _take(figures, r), t["hidden_size"][r], inner[r], dtype,
                routed=pairs if vllm else None, chosen=pairs, tokens=t["num_tokens"][r],
                gated=kind, block_scaled=name == "fp8_block", weight_bytes=stored, tuned=tuned[r],
                constants=c,
            ).latency_s  # fmt: skip
        return out

    shapes = {"tokens": t["num_tokens"], "hidden": t["hidden_size"], "inter": inner,
              "experts": t["num_experts"], "top_k": t["topk"], "ep": t["moe_ep_size"],
              "law": t["distribution"]}  # fmt: skip
    code = shape_code(inner, t["num_experts"], t["hidden_size"], t["topk"], t["moe_ep_size"])
    kernel = {"bfloat16": "moe", "fp8": "moe_8bit", "fp8_block": "moe_8bit_block"}.get(name, "moe")
    return Measured(
        f"MoE {name}", device, kernel, f"aiconfigurator, {_generation(device)}",
        None if name == "w4a16_mxfp4" else 0.15, shapes, t["latency"] * 1e-3,
        code, predict, name != "w4a16_mxfp4",
    )  # fmt: skip
