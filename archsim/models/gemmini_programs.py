"""Tiled layers as Gemmini runs them: from DOSA's mappings, and from our own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np

from archsim.errors import InputError
from archsim.models.loopnest.dosa import DIMS, DRAM, SCRATCHPAD, DosaPoints
from archsim.models.loopnest.mapping import Mapping
from archsim.workload.graph import Einsum

#: Columns of a program's extents: batch, input channels, output channels, output columns and rows,
#: kernel columns and rows.
N, C, K, P, Q, R, S = range(7)


@dataclass(frozen=True, eq=False)
class GemminiPrograms:
    """M tiled layers.

    Attributes:
        extents: float64[M, 7], extents of N, C, K, P, Q, R, S (batch, input and output channels,
            output columns and rows, kernel columns and rows).
        stride: float64[M].
        tiles: float64[M, 7], extents of one loop instruction's tile.
        order: int64[M, 7], loops around the instruction, outer to inner.
        array: float64[M], rows (and columns) of the array.
        matmul: bool[M]: matrix products use another instruction, whose tiles are whole blocks.
    """

    extents: np.ndarray
    stride: np.ndarray
    tiles: np.ndarray
    order: np.ndarray
    array: np.ndarray
    matmul: np.ndarray

    def __len__(self) -> int:
        return len(self.extents)

    def take(self, rows: np.ndarray) -> GemminiPrograms:
        """Some of the programs: indices or bool[M]."""
        return GemminiPrograms(*(getattr(self, field.name)[rows] for field in fields(self)))


def programs_from_points(
    points: DosaPoints, array: np.ndarray | int | None = None
) -> GemminiPrograms:
    """The programs that DOSA's generator writes for its mappings.

    A tile is all that lies inside DRAM; the loops around the instruction are the DRAM level's. The
    generator (gemmini-rocc-tests, ``gemmini-data-collection``) knows one image size and one kernel
    size only: rows are taken to be as many as columns. A layer without rows and without a kernel is
    a matrix product, whose tile counts ``max(1, extent // 16)`` blocks a side.

    Args:
        points: Mappings and layers.
        array: Rows of the array; by default the smallest power of two, at least 4, that holds the
            spatial factors, which is how the generator sorts its mappings onto arrays.

    Returns:
        GemminiPrograms.
    """
    spatial = points.factors[:, [2, 4]].prod(axis=1)[:, [C, K]].max(axis=1)
    size = np.maximum(4.0, 2.0 ** np.ceil(np.log2(spatial)))
    if array is not None:
        size = np.broadcast_to(np.asarray(array, np.float64), size.shape).copy()
    extents = points.extents.copy()
    tiles = points.factors[:, SCRATCHPAD:].prod(axis=1)
    stride = points.problem[:, len(DIMS)]
    matmul = (extents[:, Q] == 1) & (extents[:, R] == 1) & (extents[:, S] == 1)
    # An even kernel is padded by half of it on both sides, which adds a row and a column.
    kernel = extents[:, R]
    image = (extents[:, P] * stride - kernel + 2 * (kernel // 2)) // stride + 1
    extents[:, P] = np.where(matmul, extents[:, P], image)
    extents[:, Q] = np.where(matmul, 1.0, image)
    extents[:, S] = kernel
    blocks = np.maximum(1.0, tiles // 16) * size[:, None]
    for d in (C, K, P):
        tiles[:, d] = np.where(matmul, np.minimum(blocks[:, d], extents[:, d]), tiles[:, d])
    return GemminiPrograms(extents, stride, tiles, points.order[:, DRAM].copy(), size, matmul)


def programs_from_mappings(
    einsums: Sequence[Einsum], mappings: Sequence[Mapping], array: int
) -> tuple[GemminiPrograms, np.ndarray]:
    """Programs of mapped convolutions and matrix products.

    The tile of the loop instruction is all that lies inside the mapping's outermost slot, and the
    CPU runs the outermost slot's loops. Groups (and independent products) run one after another.

    Args:
        einsums: In canonical dimensions (``N G M C P Q R S``), M of them.
        mappings: One for each, from the mapper.
        array: Rows of the array.

    Returns:
        The programs, and float64[M] how often each runs.

    Raises:
        InputError: An einsum with other dimensions, or with different strides along rows and
            columns.
    """
    place = {"N": N, "M": K, "C": C, "P": Q, "Q": P, "R": S, "S": R}
    rows, strides, tiles, orders, repeats = [], [], [], [], []
    for einsum, mapping in zip(einsums, mappings, strict=True):
        extents, tile, loops = np.ones(7), np.ones(7), []
        others = [name for name, extent in einsum.dims if name not in place and name != "G"]
        if any(einsum.extents[name] > 1 for name in others):
            raise InputError("not a convolution or matrix product", found=others)
        for d, name in enumerate(mapping.dims):
            if name in place:
                extents[place[name]] = mapping.extents[d]
                inside = float(np.prod(mapping.factors[1:, d]))
                tile[place[name]] = min(inside, mapping.extents[d])
        for d in mapping.order[0]:
            if mapping.dims[int(d)] in place:
                loops.append(place[mapping.dims[int(d)]])
        steps = {
            coefficient
            for rank in einsum.operands[0].ranks
            for name, coefficient in rank
            if name in ("P", "Q") and einsum.extents[name] > 1
        } or {1}
        if len(steps) > 1:
            raise InputError("rows and columns have different strides", found=sorted(steps))
        rows.append(extents)
        tiles.append(tile)
        strides.append(steps.pop())
        orders.append([d for d in range(7) if d not in loops] + loops)
        repeats.append(einsum.extents.get("G", 1))
    whole, parts = np.array(rows).reshape(-1, 7), np.array(tiles).reshape(-1, 7)
    flat = (whole[:, [P, R, S]] == 1).all(axis=1) | (whole[:, [Q, R, S]] == 1).all(axis=1)
    # Rows of a product lie along P here, as the library counts them.
    turn = flat & (whole[:, P] == 1)
    for values in (whole, parts):
        values[turn] = values[turn][:, [N, C, K, Q, P, R, S]]
    order = np.array(orders, np.int64).reshape(-1, 7)
    programs = GemminiPrograms(
        whole, np.array(strides, float), parts, order, np.full(len(whole), float(array)), flat
    )
    return programs, np.array(repeats, float)
