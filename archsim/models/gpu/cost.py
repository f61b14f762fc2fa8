"""What one kernel costs, and the energy of its operations and transfers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray

from archsim.models.gpu.device import GpuDevice, by_format

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class GpuCost:
    """Figures of every kernel call, in the broadcast shape of the arguments.

    Attributes:
        latency_s: From launch to end.
        energy_j: Operations and transfers, and the idle power over the latency.
        flops: Operations that the result needs (a multiply-accumulate is two).
        dram_bytes: Moved to and from device memory.
        parts_s: Times that overlap or add up to the latency, by name: ``compute_s``, ``memory_s``,
            ``launch_s`` and what a kernel adds.
        choices: What the kernel chose: tile, splits ...
    """

    latency_s: Floats
    energy_j: Floats
    flops: Floats
    dram_bytes: Floats
    parts_s: Mapping[str, Floats]
    choices: Mapping[str, Floats] = field(default_factory=dict)

    @classmethod
    def of_rows(
        cls,
        shape: tuple[int, ...],
        device: GpuDevice,
        latency: Floats,
        joules: Floats,
        flops: Floats,
        dram_bytes: Floats,
        parts: Mapping[str, Floats],
        choices: Mapping[str, Floats] | None = None,
    ) -> GpuCost:
        """Bring rows into the shape of the arguments and add the idle energy."""
        energy = joules + device.idle_w * latency

        def shaped(values: ArrayLike) -> Floats:
            return np.asarray(values).reshape(shape)

        return cls(
            shaped(latency), shaped(energy), shaped(flops), shaped(dram_bytes),
            {name: shaped(x) for name, x in parts.items()},
            {name: shaped(x) for name, x in (choices or {}).items()},
        )  # fmt: skip

    @property
    def bound(self) -> NDArray[np.str_]:
        """Name of the longest part of every row: what limits it."""
        names = [name.removesuffix("_s") for name in self.parts_s]
        return np.array(names)[np.argmax(np.stack(list(self.parts_s.values())), axis=0)]


def data_energy(
    device: GpuDevice, dtypes: Sequence[str], flops: Floats, dram_bytes: Floats, l2_bytes: Floats
) -> Floats:
    """Joules of operations and of moving operands; what leaves L2 crosses shared memory too.

    Args:
        device: Figures are numbers or float64[rows].
        dtypes: One number format, or one for each row.
        flops: Operations, float64[rows].
        dram_bytes: Between device memory and L2.
        l2_bytes: Out of L2.
    """
    per_flop = by_format(device.energy_per_flop, dtypes, flops.size)
    cache = device.l2_j_per_byte + device.l1_j_per_byte
    return per_flop * flops + device.memory_j_per_byte * dram_bytes + cache * l2_bytes
