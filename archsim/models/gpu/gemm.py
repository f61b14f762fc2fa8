"""Matrix products on a GPU: tiles in waves over the SMs, split reductions, L2 and device memory.

What a library does is imitated rather than fitted: a product of M x K and K x N operands is cut
into tiles from a small list of shapes, the reduction of a tile into ``s`` splits where there are
too few tiles, and the cheapest pair is taken. The cost of a pair:

* An SM works off ``q = ceil(tiles * s / SMs)`` of them. A step of one tile multiplies
  ``tile_m x tile_n`` by 64 bytes of the reduction; it takes the longer of the tensor units' time
  and that of loading the operands from L2. A tile ends by storing its result.
* A wave (the tiles resident together: as many as shared memory and registers hold) cannot step
  faster than ``k_step_s``, the latency of one step, and fills its pipeline first.
* What L2 does not hold comes from device memory, and results go there: at the memory's rate, and
  later by up to ``memory_latency_s``, less where the traffic itself takes less. ``overlap`` is the
  share of the shorter of computing and memory time that the longer one does not hide.
* Splits add a pass over the partial results, every kernel ``launch_s``. Constants with ``8bit`` in
  their name replace the others for formats of a byte or less (scales, power).

Of the weights, the share ``1 - footprint / (l2_share * L2)`` hits in L2, where the footprint is
what is touched between two uses of them: ``weight_copies`` weight matrices (infinitely many in a
network, where other layers run in between) and the operands; of the activations the same share
with one copy. In products of a single row a vector kernel may be cheaper (one warp a result).

Every branch is non-decreasing in M, N and K and non-increasing in SMs, clock and bandwidths, and
the candidates do not depend on the hardware, so the whole is monotone too.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from archsim.errors import InputError
from archsim.models.gpu.constants import GpuConstants, constants_for
from archsim.models.gpu.cost import GpuCost, data_energy
from archsim.models.gpu.device import DTYPE_BYTES, GpuDevice, hardware_rows
from archsim.models.jit import serial

#: Splits of the reduction tried for every tile shape.
SPLITS = np.array([1, 2, 3, 4, 5, 6, 8, 10, 12, 16, 24, 32], dtype=np.float64)
#: Tiles of 64 x 64 upwards whose fp32 sums fit the registers of one SM beside each other.
ACCUMULATORS = 32768.0
#: Bytes of the reduction dimension in one step of a tile, and stages kept in shared memory.
STEP_BYTES = 64.0
STAGES = 8.0
#: Seconds over which the power controller averages (tens of milliseconds on A100 and H100).
POWER_WINDOW_S = 0.07
#: Results by column.
LATENCY, COMPUTE, MEMORY, DRAM_BYTES, L2_BYTES, TILE, SPLIT = range(7)
#: Order of the constants of a kernel in the array the compiled function reads.
FIELDS = (
    "launch_s", "k_step_s", "tensor_efficiency", "read_efficiency", "write_efficiency",
    "l2_bytes_per_cycle", "store_bytes_per_cycle", "split_s", "overlap", "l2_share",
    "pipeline_steps", "vector_launch_s", "vector_step_s", "memory_latency_s", "sustained_clock",
)  # fmt: skip


@serial
def gemm_rows(
    m, n, k, copies, activation_bytes, weight_bytes, busy, hardware, tiles, p, splits, out
):
    """Cost of every row; see the module.

    All float64; ``p`` is float64[2, constants], of formats of two bytes and more, and of others;
    ``out`` is float64[rows, 7].
    """
    for i in range(len(m)):
        q = p[1 if activation_bytes[i] < 2.0 else 0]
        launch, k_step, efficiency, read, write, l2_cycle, store_cycle = q[:7]
        split_s, overlap, l2_share, fill = q[7:11]
        vector_launch, vector_step, memory_latency, sustained = q[11:15]
        sms, peak, bandwidth, l2, clock, shared = hardware[i]
        rate = peak * efficiency / sms
        l2_rate, store_rate, cache = l2_cycle * clock, store_cycle * clock, l2 * l2_share
        a, w, c = (
            m[i] * k[i] * activation_bytes[i],
            n[i] * k[i] * weight_bytes[i],
            m[i] * n[i] * 2.0,
        )
        w_miss = min(1.0, (copies[i] * w + a + c) / cache)
        a_miss = min(1.0, (a + w + c) / cache)
        fetched = a * a_miss + w * w_miss
        memory = fetched / (bandwidth * read) + c / (bandwidth * write)
        memory += memory_latency * memory / (memory + memory_latency)
        width = STEP_BYTES / max(activation_bytes[i], weight_bytes[i])
        steps = np.ceil(k[i] / width)
        best, best_tile, best_split, best_compute, best_l2 = np.inf, -1.0, 1.0, 0.0, 0.0
        for t in range(len(tiles)):
            tm, tn = tiles[t, 0], tiles[t, 1]
            count = np.ceil(m[i] / tm) * np.ceil(n[i] / tn)
            resident = max(
                1.0,
                min(
                    np.floor(shared / (STAGES * (tm + tn) * STEP_BYTES)),
                    np.floor(ACCUMULATORS / (tm * tn)),
                ),
            )
            step = max(2.0 * tm * tn * width / rate, (tm + tn) * STEP_BYTES / l2_rate)
            for j in range(len(splits)):
                s = splits[j]
                if s > 1 and count * s > 4.0 * sms:
                    break
                depth = max(np.ceil(steps / s), min(4.0, steps))
                each = np.ceil(count * s / sms)
                waves = np.ceil(each / resident)
                stored = tm * tn * (2.0 if s == 1 else 4.0) / store_rate
                compute = (
                    max(each * (depth * step + stored), waves * depth * k_step)
                    + waves * min(fill, depth) * k_step
                )
                total = launch + max(compute, memory) + overlap * min(compute, memory)
                if s > 1:
                    total += split_s + (s + 1.0) * m[i] * n[i] * 4.0 / (l2_rate * sms)
                if total < best:
                    best, best_tile, best_split = total, float(t), s
                    best_compute = compute
                    best_l2 = count * s * (tm + tn) * depth * STEP_BYTES
        if m[i] == 1.0 and vector_launch > 0.0:
            compute = np.ceil(k[i] * weight_bytes[i] / 512.0) * vector_step
            total = vector_launch + max(compute, memory) + overlap * min(compute, memory)
            if total < best:
                best, best_tile, best_split, best_compute, best_l2 = total, -1.0, 1.0, compute, w
        useful = 2.0 * m[i] * n[i] * k[i] / peak
        lasting = busy[i] if busy[i] > 0.0 else 9.0 * best
        best += useful / efficiency * (1.0 / sustained - 1.0) * lasting / (lasting + POWER_WINDOW_S)
        out[i, 0] = max(best, useful)
        out[i, 1], out[i, 2] = best_compute, memory
        out[i, 3], out[i, 4] = fetched + c, best_l2
        out[i, 5], out[i, 6] = best_tile, best_split


@functools.lru_cache(maxsize=16)
def _fields(constants: GpuConstants) -> NDArray[np.float64]:
    """Constants in the order the compiled kernel reads them, float64[2, constants]."""
    p = constants.gemm
    narrow = [p.get(f"{name}_8bit", p[name]) for name in FIELDS]
    return np.array([[p[name] for name in FIELDS], narrow])


def evaluate_gemm(
    device: GpuDevice,
    m: ArrayLike,
    n: ArrayLike,
    k: ArrayLike,
    dtype: str | Sequence[str] = "bf16",
    *,
    weight_bytes: ArrayLike | None = None,
    weight_copies: ArrayLike = np.inf,
    busy_s: ArrayLike = 0.0,
    constants: GpuConstants | None = None,
) -> GpuCost:
    """Latency and energy of matrix products, one a row.

    Args:
        device: The GPU; figures that are arrays broadcast against the sizes.
        m: Rows of the activations (tokens).
        n: Columns of the weights.
        k: The reduction. The arguments broadcast against each other.
        dtype: Number format of the product, or one for each row.
        weight_bytes: Bytes of one weight where they are stored narrower than ``dtype``.
        weight_copies: Weight matrices used in turn: infinity in a network, 1 where the same product
            runs again and again.
        busy_s: How long products of this kind run without a pause, for the clock that the power
            limit allows; 0: nine times this one, as where it was measured.
        constants: Calibrated constants; default those of the device's generation.

    Raises:
        InputError: A size is not positive and finite, or a number format is unknown.

    Example:
        >>> from archsim.models.gpu import gpu_device
        >>> cost = evaluate_gemm(gpu_device("h100"), [8, 4096], 8192, 8192)
        >>> [round(float(t) * 1e6) for t in cost.latency_s]
        [52, 677]
    """
    p = constants or constants_for(device)
    names = (dtype,) if isinstance(dtype, str) else tuple(dtype)
    for name in names:
        if name not in DTYPE_BYTES:
            raise InputError("unknown number format", found=name, expected=", ".join(DTYPE_BYTES))
    formats = (len(names),) if len(names) > 1 else ()
    size = np.array([DTYPE_BYTES[name] for name in names]).reshape(formats)
    given = (m, n, k, weight_copies, size, size if weight_bytes is None else weight_bytes, busy_s)
    shape = np.broadcast_shapes(device.shape, *(np.shape(x) for x in given))
    if formats and shape != formats:
        raise InputError(
            "as many number formats as rows, or one", found=len(names), expected=str(shape)
        )
    rows = [
        np.ascontiguousarray(np.broadcast_to(np.asarray(x, float), shape)).reshape(-1)
        for x in given
    ]
    for field, values in zip("mnk", rows, strict=False):
        if values.size and not (values.min() >= 1 and np.isfinite(values).all()):
            raise InputError("a size is not positive", field=field, found=float(values.min()))
    one, count = device.rows(shape), len(rows[0])
    out = np.empty((count, 7))
    gemm_rows(*rows, hardware_rows(one, names, count), p.tiles, _fields(p), SPLITS, out)
    flops = 2.0 * rows[0] * rows[1] * rows[2]
    joules = data_energy(one, names, flops, out[:, DRAM_BYTES], out[:, L2_BYTES])
    return GpuCost.of_rows(
        shape, one, out[:, LATENCY], joules, flops, out[:, DRAM_BYTES],
        {"compute_s": out[:, COMPUTE], "memory_s": out[:, MEMORY],
         "launch_s": _fields(p)[(rows[4] < 2.0).astype(int), 0]},
        {"tile": out[:, TILE], "split": out[:, SPLIT]},
    )  # fmt: skip
