"""Geometry of a mapping: tiles, and the iterations that share one delivery of a tile."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import prod

import numpy as np

from archsim.models.sparse.density import Shape
from archsim.workload.graph import Einsum


@dataclass(frozen=True, eq=False)
class Nest:
    """One einsum under one mapping.

    Attributes:
        einsum: The loop nest; ``dims`` names the columns below.
        dims: D names.
        extents: int[D] true extents.
        factors: int[S, D] loop bounds; ``order`` int[S, D], outer to inner.
        keep: bool[S, 3]; ``fanout`` bool[S].
        ranks: Of input, weight, output: for each rank its (column, coefficient) pairs.
        tiles: float64[S + 1, D] extents inside and at every slot; row S is one point.
        relevant: bool[3, D], whether a dimension moves an operand.
    """

    einsum: Einsum
    dims: tuple[str, ...]
    extents: np.ndarray
    factors: np.ndarray
    order: np.ndarray
    keep: np.ndarray
    fanout: np.ndarray
    ranks: tuple[tuple[tuple[tuple[int, int], ...], ...], ...] = field(init=False)
    tiles: np.ndarray = field(init=False)
    relevant: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        index = {name: d for d, name in enumerate(self.dims)}
        ranks = tuple(
            tuple(tuple((index[n], c) for n, c in rank if n in index) for rank in access.ranks)
            for access in self.einsum.operands
        )
        inside = np.ones((len(self.factors) + 1, len(self.dims)))
        inside[:-1] = np.cumprod(self.factors[::-1], axis=0)[::-1]
        relevant = np.zeros((3, len(self.dims)), bool)
        for t, operand in enumerate(ranks):
            for rank in operand:
                relevant[t, [d for d, _ in rank]] = True
        object.__setattr__(self, "ranks", ranks)
        object.__setattr__(self, "tiles", np.minimum(inside, self.extents))
        object.__setattr__(self, "relevant", relevant)

    def keepers(self, tensor: int) -> list[int]:
        """Slots that keep an operand, outer to inner, and last the units (slot S)."""
        return [*(int(s) for s in np.flatnonzero(self.keep[:, tensor])), len(self.factors)]

    def shape(self, tensor: int, extents: np.ndarray) -> Shape:
        """Box of an operand's words that a block of iterations touches."""
        return tuple(
            1 + sum(int(c * (extents[d] - 1)) for d, c in rank) for rank in self.ranks[tensor]
        )

    def tile(self, tensor: int, slot: int) -> Shape:
        """The tile of an operand a slot holds."""
        return self.shape(tensor, self.tiles[slot])

    def block(self, tensor: int, parent: int, child: int, at_least: int = 1) -> np.ndarray:
        """Extents of the iterations for which one delivery of a tile serves.

        They are the child's own, the loops inside the last one that moves the tile, and the
        branches of fanouts between parent and child that get the same tile. A window that slides
        along the moving loop keeps words for the next steps, so that whole loop is included.

        Args:
            tensor: Operand; ``parent`` the slot that sends, ``child`` the one that gets.
            at_least: Words moved together (a block of the parent); a smaller tile is sent with
                its neighbours along the moving loop.

        Returns:
            int[D].
        """
        extents = self.tiles[child].copy()
        moving = None
        for s in range(child - 1, -1, -1):
            for d in reversed(self.order[s].tolist()):
                bound = self.factors[s, d]
                if bound == 1:
                    continue
                if self.fanout[s]:
                    if s > parent and not self.relevant[tensor, d]:
                        extents[d] *= bound
                elif moving is None:
                    if self.relevant[tensor, d] or child == len(self.factors):
                        moving = (d, bound)
                    else:
                        extents[d] *= bound
        if moving is not None:
            d, bound = moving
            words = prod(self.shape(tensor, self.tiles[child]))
            if child < len(self.factors) and self._slides(tensor, d):
                extents[d] *= bound
            elif self.relevant[tensor, d] and words < at_least:
                extents[d] *= min(bound, -(-at_least // words))
        return np.minimum(extents, self.extents).astype(np.int64)

    def _slides(self, tensor: int, dim: int) -> bool:
        for rank in self.ranks[tensor]:
            if any(d == dim for d, _ in rank):
                return len(rank) > 1
        return False
