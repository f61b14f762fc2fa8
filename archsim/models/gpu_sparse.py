"""Matrix products with pruned weights on a GPU: unstructured, N:M and in blocks.

Three things set the cost of a pruned product beside the dense one (``archsim.models.gpu``): the
bytes of a weight as it is stored, the share of the products that is computed, and the rate.

==================  ======================================  ======================  ==============
pattern             stored bytes a weight                   computed                rate
==================  ======================================  ======================  ==============
``unstructured``    d (s + 2): value, place in its tile     all                     dense
``N:M``             d (s + log2(M) / 8): value, place       all                     x2 where N/M
                                                                                    is 1/2, M <= 4
``block RxC``       d (s + 4 / (R C)): values, one index    what a tile's blocks    dense
                                                            touch
==================  ======================================  ======================  ==============

with density d and s bytes a value. *Unstructured* is load-as-sparse, compute-as-dense: non-zeros
are spread out in shared memory, tensor units see a dense tile (H. Xia et al., "Flash-LLM", VLDB
2023, arXiv 2309.10285: 16 bits a place in Tiled-CSL); what that takes of shared memory is below.
*N:M* runs at twice the rate where the units
have it, which is 1:2 and 2:4 of Ampere and Hopper (A. Mishra et al., "Accelerating Sparse Deep
Neural Networks", 2021). Of *blocks*, those that any row of a tile of 64 outputs needs are computed,
their places random; activations of columns no block needs are not read.

**Unpacking** what is unstructured, tile by tile of 64 of the reduction, in two buffers (Flash-LLM,
csrc/SpMM_Kernel.cuh): while the next tile's non-zeros come from device memory its buffer is set to
zero and the tensor units read the present tile from the other, all at 128 bytes a cycle of an SM;
after a barrier the non-zeros, by then in registers, are stored each in its place. So the zeros and
the reading are hidden where loading takes longer, and the stores never are. A warp stores 32
non-zeros a cycle unless their banks coincide, which sorting them beforehand makes rarer
(:func:`store_conflicts`). Every tile of up to 128 tokens unpacks anew.

A library takes the dense kernel where that is faster, and so does this model unless told not to.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from archsim.errors import InputError
from archsim.models.gpu import GpuCost, GpuDevice, evaluate_gemm
from archsim.models.gpu.device import DTYPE_BYTES

Floats = NDArray[np.float64]

#: Bytes of a non-zero's place within its tile (Flash-LLM's Tiled-CSL: 16 bits).
PLACE_BYTES = 2.0
#: Bytes of a block's index.
INDEX_BYTES = 4.0
#: Outputs that one tile of a block-sparse kernel spans at least (the smallest tile of the model).
TILE_OUTPUTS = 64.0
#: Banks of shared memory, each 4 bytes a cycle, and lanes of a warp (CUDA C++ programming guide).
BANKS, LANES, BANK_BYTES = 32, 32, 4.0
#: Tokens of one tile at most, and outputs that share one read of the activations (Flash-LLM,
#: csrc/TilingConfig.h: warps of 64 outputs).
TILE_TOKENS, WARP_OUTPUTS = 128.0, 64.0
#: Cycles that one store of a warp takes where non-zeros of a 128 x 64 tile are sorted as Flash-LLM
#: does (csrc/SpMM_API.cu: the next one always from the fullest bank), by density; simulated.
SORTED_CONFLICTS = {
    0.0: 2.6,
    0.05: 2.16,
    0.1: 1.75,
    0.2: 1.47,
    0.3: 1.34,
    0.5: 1.23,
    0.8: 1.1,
    1.0: 1.0,
}


@dataclass(frozen=True)
class SparsePattern:
    """Where the non-zeros of a weight matrix are.

    Attributes:
        kind: ``unstructured``, ``n:m`` or ``block``.
        first, second: N and M; or rows (outputs) and columns (reduction) of a block.
    """

    kind: str
    first: int = 1
    second: int = 1

    @classmethod
    def read(cls, text: str) -> SparsePattern:
        """A pattern from its text: ``unstructured``, ``2:4``, ``block 16x16``.

        Raises:
            InputError: The text is none of these.

        Example:
            >>> SparsePattern.read("2:4").density, SparsePattern.read("block 16x32").second
            (0.5, 32)
        """
        word, _, rest = text.strip().partition(" ")
        try:
            if word == "unstructured" and not rest:
                return cls("unstructured")
            if word == "block":
                rows, columns = (int(part) for part in rest.split("x"))
                if min(rows, columns) >= 1:
                    return cls("block", rows, columns)
            elif not rest:
                n, m = (int(part) for part in word.split(":"))
                if 1 <= n <= m:
                    return cls("n:m", n, m)
        except ValueError:
            pass
        raise InputError(
            "not a pattern of pruned weights", field="pattern", found=text,
            expected="unstructured, N:M such as 2:4, or 'block 16x16'",
        )  # fmt: skip

    @property
    def density(self) -> float | None:
        """Share of non-zeros the pattern itself sets."""
        return self.first / self.second if self.kind == "n:m" else None

    def stored_bytes(self, density: Floats, value_bytes: float) -> Floats:
        """Bytes a weight of the dense matrix, zeros included."""
        if self.kind == "unstructured":
            return density * (value_bytes + PLACE_BYTES)
        if self.kind == "n:m":
            return density * (value_bytes + np.log2(self.second) / 8.0)
        return density * (value_bytes + INDEX_BYTES / (self.first * self.second))

    def computed(self, density: Floats) -> Floats:
        """Share of the products that the tensor units go through."""
        if self.kind != "block":
            return np.ones_like(density)
        rows_of_blocks = max(1.0, TILE_OUTPUTS / self.first)
        return 1.0 - (1.0 - density) ** rows_of_blocks

    @property
    def rate(self) -> float:
        """Rate of the tensor units over the dense one."""
        half = self.kind == "n:m" and 2 * self.first == self.second and self.second <= 4
        return 2.0 if half else 1.0


def random_conflicts(lanes: int = LANES, banks: int = BANKS) -> float:
    """Cycles one store of a warp takes on average where every lane's bank is random.

    The expected fullest of ``banks`` boxes with ``lanes`` balls: the sum over c of the probability
    that some box has more than c, from the exponential generating function of at most c in each.

    Example:
        >>> round(random_conflicts(), 2), round(random_conflicts(1), 6)
        (3.53, 1.0)
    """
    total = 0.0
    for most in range(lanes):
        power = np.zeros(lanes + 1)
        power[0] = 1.0
        box = np.array([1.0 / math.factorial(i) for i in range(min(most, lanes) + 1)])
        for _ in range(banks):
            power = np.convolve(power, box)[: lanes + 1]
        total += 1.0 - float(power[lanes]) * math.factorial(lanes) / float(banks) ** lanes
    return total


def store_conflicts(density: ArrayLike, *, reordered: bool = True) -> Floats:
    """Cycles one store of a warp takes on average when non-zeros are spread out.

    Args:
        density: Share of non-zeros.
        reordered: They were sorted beforehand, else banks are random.

    Example:
        >>> store_conflicts([0.1, 0.3]).tolist()
        [1.75, 1.34]
    """
    density = np.asarray(density, np.float64)
    if not reordered:
        return np.full(density.shape, random_conflicts())
    return np.interp(density, list(SORTED_CONFLICTS), list(SORTED_CONFLICTS.values()))


def _unpacking(
    device: GpuDevice, m: Floats, n: Floats, k: Floats, density: Floats, size: float,
    reordered: bool,
) -> tuple[Floats, Floats]:  # fmt: skip
    """Seconds of shared memory beside the loads, and of the stores after them."""
    again = np.ceil(m / TILE_TOKENS)
    rate = np.asarray(device.sms * device.clock_hz * BANKS * BANK_BYTES)
    weights = n * k * again
    # set to zero, read by the units; activations come in, and are read by every warp of outputs
    activations = m * k * size * (np.ceil(n / 256.0) + np.ceil(n / WARP_OUTPUTS))
    beside = (2.0 * weights * size + activations) / rate
    stores = weights * density / LANES * store_conflicts(density, reordered=reordered)
    return beside, stores / (device.sms * device.clock_hz)


def evaluate_sparse_gemm(
    device: GpuDevice,
    m: ArrayLike,
    n: ArrayLike,
    k: ArrayLike,
    pattern: str | SparsePattern,
    density: ArrayLike | None = None,
    dtype: str = "fp16",
    *,
    weight_copies: ArrayLike = np.inf,
    fall_back: bool = True,
    reordered: bool = True,
) -> GpuCost:
    """Cost of products with pruned weights, one a row.

    Args:
        device: The GPU.
        m: Rows of the activations (tokens).
        n: Columns of the weights (outputs).
        k: The reduction.
        pattern: Where the non-zeros are, as :meth:`SparsePattern.read` takes it.
        density: Share of non-zeros, in (0, 1]; given by the pattern where that is N:M. The
            arguments broadcast against each other.
        dtype: Number format.
        weight_copies: As for :func:`archsim.models.gpu.evaluate_gemm`.
        fall_back: Take the dense product where it is faster.
        reordered: Unstructured non-zeros were sorted to spread over the banks of shared memory.

    Returns:
        The cost, with ``parts_s["unpack_s"]``, the stores; ``choices["sparse"]`` says which rows
        are sparse (1) or dense (0). ``flops`` are those of the dense product.

    Raises:
        InputError: A density outside (0, 1] or beside the pattern's, or what the dense product
            refuses.

    Example:
        >>> from archsim.models.gpu import gpu_device
        >>> device = gpu_device("a100")
        >>> dense = evaluate_gemm(device, 16, 36864, 9216, "fp16").latency_s
        >>> bool(evaluate_sparse_gemm(device, 16, 36864, 9216, "2:4").latency_s < dense)
        True
    """
    shape = pattern if isinstance(pattern, SparsePattern) else SparsePattern.read(pattern)
    share = _density(shape, density)
    m, n, k, share, copies = np.broadcast_arrays(
        *(np.asarray(x, np.float64) for x in (m, n, k, share, weight_copies))
    )
    dense = evaluate_gemm(device, m, n, k, dtype, weight_copies=copies)
    size = DTYPE_BYTES[dtype]
    step = float(shape.second) if shape.kind == "block" else 1.0
    left = np.minimum(np.ceil(shape.computed(share) * k / step) * step, k)
    rate = shape.rate
    faster = replace(
        device,
        flops_per_s={name: value * rate for name, value in device.flops_per_s.items()},
        j_per_flop={name: value / rate for name, value in device.j_per_flop.items()},
    )
    stored = shape.stored_bytes(share, size) * k / left
    if shape.kind == "block":  # indices of full blocks do not cut the steps of a tile shorter
        stored = np.minimum(stored, size)
    sparse = evaluate_gemm(faster, m, n, left, dtype, weight_bytes=stored, weight_copies=copies)
    latency, stores = sparse.latency_s, np.zeros(m.shape)
    if shape.kind == "unstructured":
        beside, stores = _unpacking(device, m, n, k, share, size, reordered)
        hidden = np.maximum(sparse.parts_s["compute_s"], sparse.parts_s["memory_s"])
        latency = latency + np.maximum(beside - hidden, 0.0) + stores
    energy = sparse.energy_j + device.idle_w * (latency - sparse.latency_s)
    sparse = replace(sparse, latency_s=latency, energy_j=energy)
    taken = np.ones(m.shape)
    if fall_back:
        taken = (latency < dense.latency_s).astype(np.float64)

    def pick(a: Floats, b: Floats) -> Floats:
        return np.where(taken > 0, a, b)

    parts = {name: pick(sparse.parts_s[name], dense.parts_s[name]) for name in dense.parts_s}
    parts["unpack_s"] = pick(stores, np.zeros(m.shape))
    merged = {
        f.name: pick(getattr(sparse, f.name), getattr(dense, f.name))
        for f in fields(GpuCost)
        if f.name not in ("parts_s", "choices", "flops")
    }
    return GpuCost(**merged, flops=dense.flops, parts_s=parts, choices={"sparse": taken})


def _density(pattern: SparsePattern, density: ArrayLike | None) -> Floats:
    own = pattern.density
    if density is None:
        if own is None:
            raise InputError("this pattern needs a density", field="density")
        return np.asarray(own)
    given = np.asarray(density, np.float64)
    if not ((given > 0) & (given <= 1)).all():
        raise InputError("density must lie in (0, 1]", field="density", found=float(given.min()))
    if own is not None and not np.allclose(given, own):
        raise InputError(
            "the pattern sets another density", field="density", found=float(given.flat[0]),
            expected=f"{own:g}",
        )  # fmt: skip
    return given


__all__ = ["SparsePattern", "evaluate_sparse_gemm", "random_conflicts", "store_conflicts"]
