"""Batched matrix products: one kernel, many pairs of operands of their own (unfused attention).

The copies are so many tiles that waves do not count: the bound is the tensor units' rate or device
memory, which moves every copy's operands, with the share ``overlap`` of the shorter not hidden.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from archsim.errors import InputError
from archsim.models.gpu.constants import GpuConstants, constants_for
from archsim.models.gpu.cost import GpuCost, data_energy
from archsim.models.gpu.device import DTYPE_BYTES, GpuDevice


def evaluate_batched_gemm(
    device: GpuDevice,
    copies: ArrayLike,
    m: ArrayLike,
    n: ArrayLike,
    k: ArrayLike,
    dtype: str = "fp16",
    *,
    right_bytes: float | None = None,
    constants: GpuConstants | None = None,
) -> GpuCost:
    """Latency and energy of ``copies`` products of M x K and K x N in one kernel.

    Args:
        device: The GPU.
        copies: Products.
        m: Rows of each left operand.
        n: Columns of each right operand.
        k: The reduction. The sizes broadcast against each other.
        dtype: Number format of the products.
        right_bytes: Bytes of an element of the right operands; default those of ``dtype``.
        constants: Calibrated constants; default those of the device's generation.

    Raises:
        InputError: A size is not positive and finite, or a number format is unknown.

    Example:
        >>> from archsim.models.gpu import gpu_device
        >>> cost = evaluate_batched_gemm(gpu_device("a100"), 192, 2048, 2048, 128)
        >>> 1.2 < float(cost.latency_s) * 1e3 < 2.6
        True
    """
    if dtype not in DTYPE_BYTES:
        raise InputError("unknown number format", found=dtype, expected=", ".join(DTYPE_BYTES))
    p = (constants or constants_for(device)).gemm
    shape = np.broadcast_shapes(device.shape, *(np.shape(x) for x in (copies, m, n, k)))
    device = device.rows(shape)
    b, m, n, k = (
        np.broadcast_to(np.asarray(x, float), shape).reshape(-1) for x in (copies, m, n, k)
    )
    for name, value in (("copies", b), ("m", m), ("n", n), ("k", k)):
        if value.size and not (np.isfinite(value).all() and value.min() >= 1):
            raise InputError("a size is not positive", field=name, found=float(value.min()))
    wide = DTYPE_BYTES[dtype]
    right = wide if right_bytes is None else right_bytes
    rate = device.bandwidth_bytes_per_s
    flops = 2.0 * b * m * n * k
    compute = flops / (device.peak(dtype) * p["tensor_efficiency"])
    read, written = b * (m * k * wide + n * k * right), 2.0 * b * m * n
    memory = read / (rate * p["read_efficiency"]) + written / (rate * p["write_efficiency"])
    latency = np.maximum(compute, memory) + p["overlap"] * np.minimum(compute, memory)
    moved = read + written
    return GpuCost.of_rows(
        shape, device, p["launch_s"] + latency,
        data_energy(device, (dtype,), flops, moved, moved), flops, moved,
        {"compute_s": compute, "memory_s": memory, "launch_s": np.full(b.shape, p["launch_s"])},
    )  # fmt: skip
