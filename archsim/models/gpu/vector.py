"""Elementwise operations, norms and softmax on a GPU, and the host's time in eager execution.

Such a kernel streams through device memory; one with an exponential or a root an element may be
bound by the special-function units. Run eagerly, the host issues a kernel only so fast: the latency
is then at least the host's time for the operation, and the time to start and wait adds to what the
device does.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from archsim.errors import InputError
from archsim.models.gpu.constants import GpuConstants, constants_for
from archsim.models.gpu.cost import GpuCost, data_energy
from archsim.models.gpu.device import DTYPE_BYTES, GpuDevice

#: Operations, with elements read and written for one of the result, scalar operations and special
#: functions each. Softmax without a mask: maximum, exponential, sum, division; GELU with tanh.
OPERATIONS = {
    "copy": (1, 1, 0, 0), "add": (2, 1, 1, 0), "multiply": (2, 1, 1, 0), "relu": (1, 1, 1, 0),
    "gelu": (1, 1, 9, 1), "silu": (1, 1, 4, 1), "silu_multiply": (2, 1, 5, 1),
    "softmax": (1, 1, 5, 1), "layernorm": (1, 1, 7, 0), "rmsnorm": (1, 1, 4, 0),
    "rotary": (1, 1, 6, 0),
}  # fmt: skip
#: Host time of one operation run eagerly by PyTorch on an A100 node: overheads LLMCompass states
#: (2e015fd: measured on tiny inputs); others as its matrix product.
EAGER_S = {"matmul": 2.1e-5, "softmax": 1.2e-5, "layernorm": 4.5e-5, "gelu": 4.5e-5}


def eager_s(kind: str) -> float:
    """Host time of one operation run eagerly, s."""
    return EAGER_S.get(kind, EAGER_S["matmul"])


def evaluate_vector(
    device: GpuDevice,
    kind: str,
    elements: ArrayLike,
    dtype: str = "bf16",
    *,
    eager: bool = False,
    constants: GpuConstants | None = None,
) -> GpuCost:
    """Latency and energy of vector operations.

    Args:
        device: The GPU.
        kind: A key of :data:`OPERATIONS`.
        elements: Of the result.
        dtype: Number format in memory.
        eager: Started one by one by PyTorch's host code rather than from a graph.
        constants: Calibrated constants; default those of the device's generation.

    Raises:
        InputError: An operation or a number format is unknown, or there are no elements.

    Example:
        >>> from archsim.models.gpu import gpu_device
        >>> cost = evaluate_vector(gpu_device("a100"), "gelu", 2**29, "fp16")
        >>> 1.2 < float(cost.latency_s) * 1e3 < 1.5
        True
    """
    if kind not in OPERATIONS:
        raise InputError("unknown operation", found=kind, expected=", ".join(OPERATIONS))
    if dtype not in DTYPE_BYTES:
        raise InputError("unknown number format", found=dtype, expected=", ".join(DTYPE_BYTES))
    shape = np.broadcast_shapes(device.shape, np.shape(elements))
    device = device.rows(shape)
    count = np.broadcast_to(np.asarray(elements, float), shape).reshape(-1)
    if count.size and not (np.isfinite(count).all() and count.min() >= 1):
        raise InputError("no elements", field="elements", found=float(count.min()))
    p = (constants or constants_for(device)).kernel("vector")
    read, written, scalar, special = OPERATIONS[kind]
    moved = count * (read + written) * DTYPE_BYTES[dtype]
    efficiency = p["softmax_efficiency" if kind == "softmax" else "memory_efficiency"]
    memory = moved / (device.bandwidth_bytes_per_s * efficiency)
    compute = np.maximum(
        count * scalar / device.vector_flops_per_s,
        count * special / (device.special_ops_per_sm_cycle * device.sms * device.clock_hz),
    )
    busy = np.maximum(memory, compute)
    if eager:
        host = eager_s(kind)
        latency = np.maximum(p["launch_s"] + host, p["eager_start_share"] * host + busy)
    else:
        latency = p["launch_s"] + busy
    flops = count * (scalar + special)
    # fp32 lanes: AttAcc's 0.32 pJ an fp16 operation, twice the bits
    energy = data_energy(device, ("fp32",), flops, moved, moved)
    return GpuCost.of_rows(
        shape, device, latency, energy, flops, moved,
        {"compute_s": compute, "memory_s": memory,
         "launch_s": np.full(count.shape, p["launch_s"])},
    )  # fmt: skip
