"""Einsums as the arrays the kernel reads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from archsim.errors import InputError
from archsim.models.loopnest.kernel import MAX_RANKS
from archsim.workload.graph import CANONICAL_DIMS, Einsum


@dataclass(frozen=True)
class ProblemTable:
    """Several einsums over one common list of dimensions.

    Attributes:
        dims: Dimension names, D of them.
        extents: float64[O, D]; 1 where an einsum lacks the dimension.
        macs: float64[O].
        rank_count: int64[O, 3] ranks of input, weight, output that move at all.
        rank_dims: int64[O, 3, R, 2] dimensions of a rank, -1 for none.
        rank_coefficients: float64[O, 3, R, 2].
        relevant: bool[O, 3, D] whether a dimension (of extent > 1) moves an operand.
    """

    dims: tuple[str, ...]
    extents: np.ndarray
    macs: np.ndarray
    rank_count: np.ndarray
    rank_dims: np.ndarray
    rank_coefficients: np.ndarray
    relevant: np.ndarray

    def __len__(self) -> int:
        return len(self.macs)

    @property
    def arrays(self) -> tuple[np.ndarray, ...]:
        """The arrays in the order the kernel takes them."""
        return (
            self.extents,
            self.macs,
            self.rank_count,
            self.rank_dims,
            self.rank_coefficients,
            self.relevant,
        )


def dimension_order(names: set[str]) -> tuple[str, ...]:
    """Canonical names first, in their order, then the others alphabetically."""
    known = [name for name in CANONICAL_DIMS if name in names]
    return (*known, *sorted(names.difference(CANONICAL_DIMS)))


def pack(einsums: Sequence[Einsum], dims: Sequence[str] | None = None) -> ProblemTable:
    """Pack einsums for the kernel.

    Args:
        einsums: One or more loop nests.
        dims: Dimension names to use; default: every dimension with an extent above 1 anywhere.

    Raises:
        InputError: A rank projects more than two dimensions, or an operand has too many ranks.
    """
    if dims is None:
        used = {name for einsum in einsums for name, extent in einsum.dims if extent > 1}
        dims = dimension_order(used) or ("M",)
    index = {name: i for i, name in enumerate(dims)}
    shape = (len(einsums), 3, MAX_RANKS, 2)
    table = ProblemTable(
        tuple(dims),
        np.ones((len(einsums), len(dims))),
        np.array([float(einsum.macs) for einsum in einsums]),
        np.zeros(shape[:2], np.int64),
        np.full(shape, -1, np.int64),
        np.zeros(shape),
        np.zeros((len(einsums), 3, len(dims)), np.bool_),
    )
    for o, einsum in enumerate(einsums):
        extents = einsum.extents
        for name, extent in extents.items():
            if name in index:
                table.extents[o, index[name]] = extent
            elif extent > 1:
                raise InputError(f"dimension {name!r} is missing from {tuple(dims)}")
        for t, access in enumerate(einsum.operands):
            _pack_access(table, o, t, access.ranks, extents, index)
    return table


def _pack_access(table, o, t, ranks, extents, index) -> None:
    kept = 0
    seen: set[str] = set()
    for rank in ranks:
        moving = [(dim, coefficient) for dim, coefficient in rank if extents[dim] > 1]
        if not moving:
            continue
        if len(moving) > 2 or kept == MAX_RANKS:
            raise InputError(
                "an operand has a rank of more than two dimensions or too many ranks",
                found=rank,
                expected=f"at most two dimensions a rank and {MAX_RANKS} ranks",
            )
        if seen.intersection(dim for dim, _ in moving):
            raise InputError("a dimension occurs in two ranks of one operand", found=ranks)
        seen.update(dim for dim, _ in moving)
        for j, (dim, coefficient) in enumerate(moving):
            table.rank_dims[o, t, kept, j] = index[dim]
            table.rank_coefficients[o, t, kept, j] = coefficient
            table.relevant[o, t, index[dim]] = True
        kept += 1
    table.rank_count[o, t] = kept
