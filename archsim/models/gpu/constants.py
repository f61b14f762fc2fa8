"""Calibrated constants of the kernel models, one set a GPU generation, read from one YAML file.

The file says for each set which data it was fitted to, how, and the error on what was held back;
``archsim validate gpu`` computes these errors again.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from archsim.errors import InputError
from archsim.inputs import Strict, load_yaml
from archsim.models.gpu.device import Figure, GpuDevice, gpu_device

PATH = Path(__file__).with_name("constants.yaml")
Numbers = dict[str, float]
#: What :meth:`GpuConstants.carried_over` changes: work of one SM, latencies of one SM, and work all
#: SMs share.
SM_TIMES = (
    "k_step_s", "tile_s", "grouped_tile_s", "grouped_row_s", "grouped8_row_s", "head_step_s",
    "head_loop_s", "latent_tile_s",
)  # fmt: skip
SM_LATENCIES = ("block_s", "query_s", "combine_s", "part_s")
SHARED_TIMES = ("token_s", "head_s", "head_token_s", "expert_s", "route_s")


class Kernel(Strict):
    """Constants of one kernel with where they come from."""

    data: str = Field(description="what they were fitted to")
    fit: str = Field(description="how, and the split")
    held_out_error: str = Field(description="on what was held back")
    values: Numbers
    tiles: tuple[tuple[int, int], ...] = ()


class Generation(Strict):
    """All kernels of one generation."""

    title: str
    device: str = Field(description="shipped machine that was measured")
    kernels: dict[str, Kernel]


class ConstantsFile(Strict):
    """The file."""

    generations: dict[str, Generation]


@dataclass(frozen=True, eq=False)
class GpuConstants:
    """Constants of one generation.

    Attributes:
        name: Of the generation.
        device: Shipped machine that was measured.
        kernels: Values by kernel and constant.
        tiles: Tile shapes of matrix products, float64[tiles, 2].
    """

    name: str
    device: str
    kernels: Mapping[str, Mapping[str, float]]
    tiles: NDArray[np.float64]

    @property
    def gemm(self) -> Mapping[str, float]:
        """Constants of matrix products."""
        return self.kernels["gemm"]

    def kernel(self, name: str) -> Mapping[str, float]:
        """Constants of one kernel.

        Raises:
            InputError: The generation has none.
        """
        if name not in self.kernels:
            raise InputError(
                f"no constants for this kernel on {self.name}",
                found=name,
                expected=", ".join(self.kernels),
            )
        return self.kernels[name]

    def replaced(
        self, kernel: str, values: Mapping[str, float], tiles: NDArray[np.float64] | None = None
    ) -> GpuConstants:
        """A copy with other values for one kernel (what a calibration tries)."""
        changed = {**self.kernels, kernel: {**self.kernels.get(kernel, {}), **values}}
        return GpuConstants(self.name, self.device, changed, self.tiles if tiles is None else tiles)

    def carried_over(self, device: GpuDevice) -> GpuConstants:
        """Constants for a GPU of another generation, from both data sheets.

        What an SM needs for a tensor operation is taken to stay: bytes a cycle grow with the 16-bit
        operations it does a cycle, the time of a step or a tile shrinks as its rate grows. What its
        blocks wait for (to start, to fetch their queries, to combine) stays in cycles. Work all SMs
        share (entering tokens into a cache, routing them) shrinks with their number and clock.
        Launches, shares of a bandwidth and what links need stay as they are. How well this works is
        what ``archsim validate gpu`` shows under "One device left out".

        Example:
            >>> ampere = load_constants("ampere")
            >>> carried = ampere.carried_over(gpu_device("h100"))
            >>> round(carried.gemm["k_step_s"] / ampere.gemm["k_step_s"], 3)
            0.385
        """
        measured = gpu_device(self.device)

        def per_cycle(one: GpuDevice) -> Figure:
            return one.peak("bf16") / (one.sms * one.clock_hz)

        wider = float(per_cycle(device) / per_cycle(measured))
        faster = float(device.clock_hz / measured.clock_hz)
        more = float(device.sms / measured.sms)

        def carried(name: str, value: float) -> float:
            if name.endswith("bytes_per_cycle"):
                return value * wider
            if name in SM_TIMES:
                return value / (wider * faster)
            if name.endswith(SM_LATENCIES):
                return value / faster
            return value / (more * faster) if name in SHARED_TIMES else value

        kernels = {
            kernel: {name: carried(name, value) for name, value in values.items()}
            for kernel, values in self.kernels.items()
        }
        return replace(self, kernels=kernels)


@functools.cache
def constants_file() -> ConstantsFile:
    """The shipped file with its sources."""
    return load_yaml(PATH, ConstantsFile)


@functools.cache
def load_constants(generation: str) -> GpuConstants:
    """Constants of a generation.

    Raises:
        InputError: There is none of this name.
    """
    known = constants_file().generations
    if generation not in known:
        raise InputError(
            "no such GPU generation", found=generation, expected=", ".join(known), source=PATH.name
        )
    kernels = known[generation].kernels
    return GpuConstants(
        generation,
        known[generation].device,
        {name: dict(kernel.values) for name, kernel in kernels.items()},
        np.array(kernels["gemm"].tiles, dtype=np.float64),
    )


def constants_for(device: GpuDevice) -> GpuConstants:
    """Constants of the device's generation: given, or by whether it multiplies in fp8."""
    return load_constants(
        device.constants or ("hopper" if "fp8" in device.flops_per_s else "ampere")
    )
