"""Processors at DRAM banks (UPMEM): time of matrix-vector products in closed form.

A DPU has no commands of its own on the memory bus: its threads copy rows of the matrix from the
bank (MRAM) into working memory by DMA and multiply there. The pipeline issues an instruction of one
thread every ``issue_cycles``, so fewer threads than that leave it idle.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import Field, PositiveFloat, PositiveInt

from archsim.errors import InputError
from archsim.inputs import Shelf, Strict
from archsim.models.pim.shapes import sizes_of

ELEMENT_BYTES = {"int8": 1, "int16": 2, "int32": 4}


class Dpu(Strict):
    """A memory of banks with processors.

    Attributes:
        dpus: Processors (banks) of the system.
        tasklets: Threads that a kernel runs on each.
        issue_cycles: Least distance of two instructions of one thread.
        dma_start_cycles, dma_cycles_per_byte, dma_bytes: Of one copy from the bank, and its size.
        host_write_bytes_per_cycle, host_read_bytes_per_cycle: Of the host to and from one DPU.
        instructions_per_mac: By number format, loads and loop included.
        power_w: Of all DPUs at work.
    """

    name: str
    title: str
    source: str
    clock_hz: PositiveFloat
    dpus: PositiveInt
    tasklets: int = Field(ge=1, le=24)
    issue_cycles: PositiveInt
    mram_bytes: PositiveInt
    dma_start_cycles: float = Field(ge=0)
    dma_cycles_per_byte: PositiveFloat
    dma_bytes: PositiveInt
    host_write_bytes_per_cycle: PositiveFloat
    host_read_bytes_per_cycle: PositiveFloat
    instructions_per_mac: dict[str, float]
    power_w: PositiveFloat

    @property
    def mram_bytes_per_s(self) -> float:
        """Bandwidth of one bank with copies of ``dma_bytes``."""
        cycles = self.dma_start_cycles + self.dma_bytes * self.dma_cycles_per_byte
        return self.dma_bytes / cycles * self.clock_hz


@dataclass(frozen=True, eq=False)
class DpuCost:
    """Time of products on DPUs, float64[B]: ``time_s`` is that of its parts together.

    Attributes:
        compute_s: Instructions of the threads.
        copy_s: Copies from the banks, beside them.
        host_s: The vector to every DPU, and results back.
    """

    time_s: NDArray[np.float64]
    compute_s: NDArray[np.float64]
    copy_s: NDArray[np.float64]
    host_s: NDArray[np.float64]
    energy_j: NDArray[np.float64]


_DPUS = Shelf(Path(__file__).parent / "dpus", Dpu, "DPU system")


def available_dpus() -> tuple[str, ...]:
    """Names of the DPU systems that archsim ships."""
    return _DPUS.names()


def load_dpu(name: str | Path = "upmem") -> Dpu:
    """A system of DPUs by name or path.

    Raises:
        InputError: No such system or file.
    """
    return _DPUS.load(name)


def dpu_gemv(
    dpu: Dpu | str, m: ArrayLike, n: ArrayLike, k: ArrayLike, dtype: str = "int8"
) -> DpuCost:
    """Time of ``y[m, n] = x[m, k] W[n, k]`` with the rows of W dealt out over all DPUs.

    Raises:
        InputError: A wrong size, an unknown number format, or a matrix beyond the banks.

    Example:
        >>> cost = dpu_gemv("upmem", 1, 8192, 8192, "int32")
        >>> bool(cost.compute_s[0] > cost.copy_s[0])
        True
    """
    found = load_dpu(dpu) if isinstance(dpu, str) else dpu
    if dtype not in found.instructions_per_mac or dtype not in ELEMENT_BYTES:
        raise InputError(
            "no multiplication in this format",
            field="dtype", found=dtype, expected=", ".join(found.instructions_per_mac),
        )  # fmt: skip
    vectors, outputs, width = (x.astype(float) for x in sizes_of(m, n, k))
    size = ELEMENT_BYTES[dtype]
    rows = np.ceil(outputs / found.dpus)
    held = rows * width * size
    if (held > found.mram_bytes).any():
        raise InputError("the matrix does not fit into the banks", found=float(held.max()))
    threads = np.minimum(found.tasklets, rows)
    # A row is one thread's; threads share the pipeline, which issues one instruction a cycle.
    each = np.ceil(rows / threads) * width * found.instructions_per_mac[dtype]
    cycles = vectors * each * np.maximum(threads, found.issue_cycles)
    copies = np.ceil(width * size / found.dma_bytes) * rows
    copy = vectors * (copies * found.dma_start_cycles + held * found.dma_cycles_per_byte)
    host = vectors * (
        width * size / found.host_write_bytes_per_cycle + rows * 4 / found.host_read_bytes_per_cycle
    )
    compute_s, copy_s, host_s = (x / found.clock_hz for x in (cycles, copy, host))
    time = np.maximum(compute_s, copy_s) + host_s
    return DpuCost(time, compute_s, copy_s, host_s, time * found.power_w)
