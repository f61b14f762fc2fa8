"""``archsim bench``: how fast archsim is on this computer.

Figures are medians of several repetitions in CPU time of this process, so that another busy
process disturbs them less; rates of parallel code are also given by wall clock.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Callable

from archsim.bench.accelerator import bench_network, bench_step
from archsim.bench.dram import bench_dram
from archsim.bench.kernel import bench_kernel
from archsim.bench.llm import bench_llm
from archsim.bench.mapper import bench_mapper
from archsim.errors import InputError

BENCHMARKS: dict[str, Callable[..., list[tuple[str, str]]]] = {
    "kernel": bench_kernel,
    "mapper": bench_mapper,
    "network": bench_network,
    "step": bench_step,
    "dram": bench_dram,
    "llm": bench_llm,
}


def main(name: str | None = None, *, repeat: int = 7, scenario: str = "edge_resnet50") -> None:
    """Run one benchmark, or all, and print their figures.

    Args:
        name: ``kernel``, ``mapper``, ``network``, ``step``, ``dram`` or ``llm``; None for all.
        repeat: Repetitions a median is taken of.
        scenario: Scenario of the ``network`` and ``step`` benchmarks.

    Raises:
        InputError: Unknown name or a bad number.
    """
    if name is not None and name not in BENCHMARKS:
        raise InputError("unknown benchmark", found=name, expected=" or ".join(BENCHMARKS))
    if not isinstance(repeat, int) or repeat < 1:
        raise InputError("must be a positive number", field="--repeat", found=repeat)
    import numba

    print(
        f"{_processor()}, {os.cpu_count()} cores, {numba.config.NUMBA_NUM_THREADS} threads; "
        f"Python {platform.python_version()}, numba {numba.__version__}"
    )
    for key in [name] if name else BENCHMARKS:
        print(f"\n{key}")
        for label, figure in BENCHMARKS[key](repeat, scenario):
            print(f"  {label:<58} {figure}")


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            names = [
                line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")
            ]
    except OSError:
        names = []
    return names[0] if names else platform.processor() or platform.machine()
