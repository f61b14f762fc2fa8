"""Einsums as the arrays the kernel reads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from archsim.errors import InputError
from archsim.models.loopnest.kernel import (
    COEFFICIENT,
    INPUT,
    LISTS,
    MACS,
    MASK,
    MAX_DIMS,
    MAX_SLIDES,
    MOVES,
    NONE,
    PROBLEM_INTS,
    SIZE,
    SLIDE_DIM,
    SLIDES,
    STILL,
)
from archsim.workload.graph import CANONICAL_DIMS, Access, Einsum, Rank


@dataclass(frozen=True)
class ProblemTable:
    """Several einsums over one common list of dimensions.

    Attributes:
        dims: Dimension names, D of them.
        floats: float64[O, 4 * D + STILL]: extents (1 where an einsum lacks a dimension); then
            the multiply-accumulates, the product of extents of the plain ranks of input, weight
            and output, the coefficients of the input's sliding ranks, and for each operand D flags,
            1.0 where a dimension does not move it.
        ints: int64[O, PROBLEM_INTS + LISTS * (D + 1)]: for input, weight and output the bit mask of
            dimensions (of extent > 1) that move it; the number of the input's sliding ranks (two
            dimensions, or a coefficient above 1) and their dimensions, -1 for none; then lists of
            dimensions, see ``kernel.MOVES``.
    """

    dims: tuple[str, ...]
    floats: np.ndarray
    ints: np.ndarray

    def __len__(self) -> int:
        return len(self.ints)

    @property
    def extents(self) -> np.ndarray:
        """float64[O, D]."""
        return self.floats[:, : len(self.dims)]

    @property
    def macs(self) -> np.ndarray:
        """float64[O] multiply-accumulates."""
        return self.floats[:, len(self.dims) + MACS]

    @property
    def relevant(self) -> np.ndarray:
        """bool[O, 3, D]: whether a dimension moves input, weight, output."""
        bits = self.ints[:, MASK : MASK + 3, None] >> np.arange(len(self.dims))
        return (bits & 1).astype(bool)


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
        InputError: An access the kernel cannot count: a rank of more than two moving dimensions, a
            dimension in two ranks of one operand, a sliding weight or output.
    """
    if dims is None:
        used = {name for einsum in einsums for name, extent in einsum.dims if extent > 1}
        dims = dimension_order(used) or ("M",)
    if len(dims) > MAX_DIMS:
        raise InputError("too many dimensions", found=len(dims), expected=f"at most {MAX_DIMS}")
    index = {name: i for i, name in enumerate(dims)}
    floats = np.ones((len(einsums), len(dims) + STILL + 3 * len(dims)))
    ints = np.zeros((len(einsums), PROBLEM_INTS + LISTS * (len(dims) + 1)), np.int64)
    ints[:, SLIDE_DIM:PROBLEM_INTS] = NONE
    for o, einsum in enumerate(einsums):
        extents = einsum.extents
        for name, extent in extents.items():
            if name in index:
                floats[o, index[name]] = extent
            elif extent > 1:
                raise InputError(f"dimension {name!r} is missing from {tuple(dims)}")
        floats[o, len(dims) + MACS] = einsum.macs
        for t, access in enumerate(einsum.operands):
            slides = []
            for rank in _moving_ranks(access, extents):
                for dim, _ in rank:
                    ints[o, MASK + t] |= 1 << index[dim]
                    floats[o, len(dims) + STILL + t * len(dims) + index[dim]] = 0.0
                if len(rank) == 1 and rank[0][1] == 1:
                    floats[o, len(dims) + SIZE + t] *= extents[rank[0][0]]
                else:
                    slides.append(rank)
            limit = MAX_SLIDES if t == INPUT else 0
            if len(slides) > limit:
                raise InputError(
                    "too many sliding or strided ranks",
                    field=access.tensor,
                    found=len(slides),
                    expected=f"at most {limit} (only the first operand may slide)",
                )
            for j, rank in enumerate(slides):
                ints[o, SLIDES] += 1
                for i, (dim, coefficient) in enumerate(rank):
                    ints[o, SLIDE_DIM + 2 * j + i] = index[dim]
                    floats[o, len(dims) + COEFFICIENT + 2 * j + i] = coefficient
        _list_dimensions(ints[o], len(dims))
    return ProblemTable(tuple(dims), floats, ints)


def _list_dimensions(row: np.ndarray, dim_count: int) -> None:
    """Write the lists of dimensions of one problem behind its masks."""
    masks = [int(mask) for mask in row[MASK : MASK + 3]]
    slides = row[SLIDE_DIM : SLIDE_DIM + 2 * row[SLIDES]]
    lists = [[d for d in range(dim_count) if mask >> d & 1] for mask in masks]
    lists += [[d for d in range(dim_count) if not mask >> d & 1] for mask in masks]
    lists.append([d for d in lists[MOVES] if d not in slides])
    for place, dims in enumerate(lists):
        at = PROBLEM_INTS + place * (dim_count + 1)
        row[at : at + 1 + len(dims)] = [len(dims), *dims]


def _moving_ranks(access: Access, extents: dict[str, int]) -> list[Rank]:
    """Ranks with their dimensions of extent > 1; checks that the kernel can count them."""
    found: list[Rank] = []
    seen: set[str] = set()
    for rank in access.ranks:
        moving = tuple((dim, coefficient) for dim, coefficient in rank if extents[dim] > 1)
        if len(moving) > 2:
            raise InputError(
                "a rank projects more than two dimensions", field=access.tensor, found=rank
            )
        if seen.intersection(dim for dim, _ in moving):
            raise InputError("a dimension occurs in two ranks", field=access.tensor, found=rank)
        seen.update(dim for dim, _ in moving)
        if moving:
            found.append(moving)
    return found
