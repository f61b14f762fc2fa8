"""Certified mapper: process CPU seconds to the proven optimum, certificate included.

Compiled code is warm and the cache of known answers off, but for the line that measures it.
"""

from __future__ import annotations

import statistics
import time

from archsim.hardware import EngineTable, load_machine, resolve
from archsim.models.loopnest.optimal import cache
from archsim.models.loopnest.optimal.api import MapResult, map_operation
from archsim.workload import load_workload
from archsim.workload.graph import Einsum, Workload, conv2d_einsum, matmul_einsum

OBJECTIVES = ("energy", "latency", "edp")
#: More repetitions than this are not worth the time.
MOST_REPEATS = 3


def cases() -> list[tuple[str, Einsum, str]]:
    """Name, loop nest and machine of the single layers."""
    gemm = matmul_einsum("x", "w", "y", rows=1024, inner=1024, columns=1024)
    small = conv2d_einsum(
        "x", "w", "y", batch=1, groups=1, out_channels=256, in_channels=64, out_size=(56, 56),
        kernel=(1, 1),
    )  # fmt: skip
    large = conv2d_einsum(
        "x", "w", "y", batch=1, groups=1, out_channels=128, in_channels=128, out_size=(28, 28),
        kernel=(3, 3),
    )  # fmt: skip
    return [
        ("GEMM 1024x1024x1024", gemm, "eyeriss"),
        ("GEMM 1024x1024x1024", gemm, "tpu_v4i"),
        ("M=256 C=64 P=Q=56 1x1", small, "eyeriss"),
        ("M=C=128 P=Q=28 3x3", large, "eyeriss"),
    ]


def unique_layers(workload: Workload) -> list[tuple[str, Einsum]]:
    """Name of the first operation of every distinct loop nest, and the nest."""
    found: dict[tuple, tuple[str, Einsum]] = {}
    for operation in workload.operations:
        einsum = operation.einsum
        if einsum is not None:
            key = (einsum.dims, *(access.ranks for access in einsum.operands))
            found.setdefault(key, (operation.name, einsum))
    return list(found.values())


def timed(einsum: Einsum, engine: EngineTable, objective: str, **options) -> tuple:
    """CPU seconds and the result of one call."""
    began = time.process_time()
    result = map_operation(einsum, engine, objective, **options)
    return time.process_time() - began, result


def _say(seconds: float, result: MapResult) -> str:
    best = result.best
    if best is None:
        return f"{seconds:7.3f} s CPU  nothing fits: {result.misfit}"
    proof = "proven" if result.proven else f"not proven (gap {result.gap:.1%})"
    return f"{seconds:7.3f} s CPU  {proof}  {best.energy_j:.4g} J, {best.latency_s:.4g} s"


def bench_mapper(repeat: int, scenario: str) -> list[tuple[str, str]]:
    """Single layers for each objective, a known shape, and all layers of ResNet-50 on Eyeriss.

    Args:
        repeat: Single layers are timed up to three times (the median); ResNet-50 once.
        scenario: Not used.
    """
    engines = {name: resolve(load_machine(name)) for name in ("eyeriss", "tpu_v4i")}
    warm = matmul_einsum("x", "w", "y", rows=8, inner=8, columns=8)
    for objective in OBJECTIVES:  # compile
        map_operation(warm, engines["eyeriss"], objective, use_cache=False)
    rows = []
    for name, einsum, machine in cases():
        for objective in OBJECTIVES:
            runs = [
                timed(einsum, engines[machine], objective, use_cache=False)
                for _ in range(min(repeat, MOST_REPEATS))
            ]
            seconds = statistics.median(run[0] for run in runs)
            rows.append((f"{name}, {machine}, {objective}", _say(seconds, runs[0][1])))
    name, einsum, machine = cases()[0]
    map_operation(einsum, engines[machine], "edp")
    cache.forget()  # as a new process would: from the disk, if a cache is kept there
    for _ in range(2):
        seconds, result = timed(einsum, engines[machine], "edp")
        where = f"answered from {result.cached}" if result.cached else "not answered from a cache"
        rows.append((f"{name}, {machine}, known shape", f"{seconds:7.3f} s CPU  {where}"))
    return rows + _resnet(engines["eyeriss"])


def _resnet(engine: EngineTable) -> list[tuple[str, str]]:
    rows, total, proven = [], 0.0, 0
    layers = unique_layers(load_workload("resnet50"))
    for name, einsum in layers:
        seconds, result = timed(einsum, engine, "edp", use_cache=False)
        total, proven = total + seconds, proven + result.proven
        rows.append((f"resnet50 {name}, eyeriss, edp", _say(seconds, result)))
    rows.append(
        (
            f"all {len(layers)} unique layers of resnet50, eyeriss, edp",
            f"{total:7.3f} s CPU  {proven} of {len(layers)} proven",
        )
    )
    return rows
