"""The mapspace of one operation on one engine, as the arrays the compiled search reads.

The space: every loop bound a divisor, bounds of a dimension multiplying to its extent over all
slots; every loop order at every storage; every unrolling that fits a fanout; every operand kept or
bypassed at every storage that may hold it. A *shape* is one tile: a divisor of every extent.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import product
from math import prod

import numpy as np

from archsim.errors import InputError
from archsim.models.loopnest import kernel as k
from archsim.models.loopnest.nest import Nest
from archsim.models.loopnest.optimal.constraints import Constraints
from archsim.models.loopnest.optimal.layout import Orders, Prices, Shapes
from archsim.models.loopnest.optimal.orders import order_classes
from archsim.models.loopnest.problem import ProblemTable, pack
from archsim.workload.graph import Einsum

#: Dimensions of extent above 1, and tile shapes, that the search is built for.
MAX_DIMS, MAX_SHAPES = 10, 4_000_000
OPERANDS = ("input", "weight", "output")


def divisors(n: int) -> list[int]:
    """Divisors of n, ascending."""
    small = [i for i in range(1, int(n**0.5) + 1) if n % i == 0]
    return sorted({*small, *(n // i for i in small)})


@dataclass(frozen=True, eq=False)
class Mapspace:
    """One operation, one engine, and the mappings allowed.

    Attributes:
        einsum: The operation; ``problem`` the same, packed alone.
        nest: Engines; ``row`` the one meant.
        constraints: Limits set by the user.
    """

    einsum: Einsum
    problem: ProblemTable
    nest: Nest
    row: int
    constraints: Constraints

    @property
    def extents(self) -> list[int]:
        return [int(x) for x in self.problem.extents[0]]

    @cached_property
    def shapes(self) -> Shapes:
        extents = self.extents
        if len(extents) > MAX_DIMS:
            raise InputError("too many dimensions", found=len(extents), expected=f"<= {MAX_DIMS}")
        lists = [divisors(e) for e in extents]
        total = prod(map(len, lists))
        if total > MAX_SHAPES:
            raise InputError("too many tile shapes", found=total, expected=f"<= {MAX_SHAPES}")
        width = max(map(len, lists))
        values = np.ones((len(lists), width))
        quotient = np.full((len(lists), width, width), -1, np.int64)
        for d, found in enumerate(lists):
            values[d, : len(found)] = found
            for i, a in enumerate(found):
                for j, b in enumerate(found):
                    if a % b == 0:
                        quotient[d, i, j] = found.index(a // b)
        counts = np.array([len(found) for found in lists], np.int64)
        strides = np.concatenate([np.cumprod(counts[::-1])[::-1][1:], [1]]).astype(np.int64)
        index = np.stack(
            np.unravel_index(np.arange(total), tuple(counts)), axis=1
        ).astype(np.int64)  # fmt: skip
        tiles = np.stack([values[d][index[:, d]] for d in range(len(lists))], axis=1)
        words, visits, step, partner = self._words(tiles)
        return Shapes(
            values, counts, strides, index, quotient, words, tiles.prod(axis=1), visits,
            self.problem.ints[0, k.MASK : k.MASK + 3].copy(), step, partner,
        )  # fmt: skip

    def _words(self, tiles: np.ndarray):
        ints, floats, dims = self.problem.ints[0], self.problem.floats[0], tiles.shape[1]
        step, partner = np.zeros(dims), np.full(dims, -1, np.int64)
        pairs = ints[k.SLIDE_DIM : k.SLIDE_DIM + 2 * ints[k.SLIDES]].reshape(-1, 2)
        sliding = {int(d) for pair in pairs for d in pair if d >= 0}
        words, visits = np.ones((len(tiles), 3)), np.ones((len(tiles), 3))
        for t in range(3):
            for d in range(dims):
                if ints[k.MASK + t] >> d & 1:
                    visits[:, t] *= floats[d] / tiles[:, d]
                    if t > 0 or d not in sliding:
                        words[:, t] *= tiles[:, d]
        for i, (p, r) in enumerate(pairs):
            span = np.ones(len(tiles))
            for j, d in enumerate((p, r)):
                if d < 0:
                    continue
                coefficient = floats[dims + k.COEFFICIENT + 2 * i + j]
                span += coefficient * (tiles[:, d] - 1)
                if r >= 0:
                    step[d], partner[d] = coefficient, (r, p)[j]
            words[:, 0] *= span
        return words, visits, step, partner

    @cached_property
    def orders(self) -> Orders:
        fixed: list[tuple[int, ...] | None] = [None]
        for name in self.nest.names:
            order = self._order(name)
            if order is not None:
                fixed.append(order)
        sliding = frozenset(int(d) for d in np.flatnonzero(self.shapes.partner >= 0))
        relevant = tuple(int(m) for m in self.shapes.relevant)
        return order_classes(len(self.problem.dims), relevant, sliding, tuple(fixed))

    def _order(self, slot: str) -> tuple[int, ...] | None:
        limits = self.constraints.of(slot)
        if limits is None or limits.order is None:
            return None
        dims = self.problem.dims
        listed = [dims.index(name) for name in limits.order if name in dims]
        return tuple([d for d in range(len(dims)) if d not in listed] + listed)

    @cached_property
    def allowed(self) -> np.ndarray:
        """bool[S, D, K], loop bounds allowed at every slot."""
        shapes, dims = self.shapes, self.problem.dims
        allowed = np.zeros((len(self.nest.names), *shapes.values.shape), bool)
        for d, count in enumerate(shapes.counts):
            allowed[:, d, :count] = True
        for s, name in enumerate(self.nest.names):
            limits = self.constraints.of(name)
            if limits is None:
                continue
            for d, dim in enumerate(dims):
                if limits.dims is not None and dim not in limits.dims:
                    allowed[s, d, 1:] = False
                if dim in limits.factors:
                    allowed[s, d] &= shapes.values[d] == limits.factors[dim]
            for dim, bound in limits.factors.items():
                if self.einsum.extents[dim] % bound:
                    raise InputError(
                        "a fixed factor must divide the extent", field=f"{name}.factors.{dim}",
                        found=bound, expected=f"a divisor of {self.einsum.extents[dim]}",
                    )  # fmt: skip
        return allowed

    @cached_property
    def fans(self) -> tuple[np.ndarray, np.ndarray]:
        """Unrollings of every fanout: int64[S + 1] starts, int64[F, D] divisor indices."""
        shapes, rows, start = self.shapes, [], [0]
        for s, name in enumerate(self.nest.names):
            if self.nest.fanout[s]:
                width = self.width(s)
                limits = self.constraints.of(name)
                least = limits.min_use * width if limits else 0.0
                if limits and limits.max_use:
                    width = min(width, limits.max_use)
                found: list[tuple[tuple[int, ...], float]] = [((), 1.0)]
                for d in range(len(shapes.counts)):
                    found = [
                        ((*row, j), use * shapes.values[d, j])
                        for row, use in found
                        for j in range(shapes.counts[d])
                        if self.allowed[s, d, j] and use * shapes.values[d, j] <= width
                    ]
                rows += [row for row, use in found if use >= least]
            start.append(len(rows))
        fans = np.array(rows, np.int64).reshape(len(rows), len(shapes.counts))
        return np.array(start, np.int64), fans

    def width(self, s: int) -> float:
        """Children of fanout slot s."""
        return float(self.nest.width[self.row, list(self.nest.fanout_slots).index(s)])

    def masks(self) -> list[np.ndarray]:
        """bool[S, 3], every choice of kept operands, those that keep most first."""
        free, base = [], np.zeros((len(self.nest.names), 3), bool)
        base[0] = True
        for s, name in enumerate(self.nest.names):
            limits = self.constraints.of(name)
            for t, operand in enumerate(OPERANDS):
                if s == 0 or not self.nest.keep[0, s, t]:
                    continue
                if limits and operand in limits.keep:
                    base[s, t] = True
                elif not (limits and operand in limits.bypass):
                    free.append((s, t))
        found = []
        for choice in product((True, False), repeat=len(free)):
            mask = base.copy()
            for (s, t), kept in zip(free, choice, strict=True):
                mask[s, t] = kept
            found.append(mask)
        return sorted(found, key=lambda mask: -int(mask.sum()))

    def prices(self, kept: np.ndarray) -> Prices:
        """Energies and limits under one choice of kept operands."""
        nest, e = self.nest, self.row
        table, engine = nest.slot_table[e], nest.engine[e]
        slots, dims = len(nest.names), len(self.problem.dims)
        bits = table[:, k.BITS : k.BITS + 3].copy()
        read = bits * (table[:, k.READ_J] / np.where(nest.fanout, 1.0, table[:, k.BLOCK]))[:, None]
        fill = bits * (table[:, k.WRITE_J] / np.where(nest.fanout, 1.0, table[:, k.BLOCK]))[:, None]
        access = read.copy()
        access[:, 2] += fill[:, 2]
        fill[0] = 0.0
        parent = np.zeros((slots + 1, 3), np.int64)
        for s in range(1, slots + 1):
            parent[s] = np.where(kept[s - 1], s - 1, parent[s - 1])
        out_words = float(self.problem.floats[0, dims + k.SIZE + k.OUTPUT])
        credit = np.where(kept[:, 2], out_words * (read[:, 2] + fill[:, 2]), 0.0)
        toll = np.where(nest.fanout, table[:, k.HOP_J], 0.0) * 0.5
        saved = float(table[0, k.BITS + 2] - engine[k.FINAL_BITS])
        leak = float((table[:, k.LEAK_W] * table[:, k.INSTANCES]).sum())
        leak += float(engine[k.MAC_LEAK_W] * engine[k.MAC_COUNT])
        constant = float(self.problem.macs[0] * engine[k.MAC_J])
        constant -= saved * out_words * table[0, k.WRITE_J] / table[0, k.BLOCK]
        most, least = self._copies()
        touched = np.array([out_words * read[p, 2] for p in parent[:, 2]])
        moves = self.problem.relevant[0].sum(axis=0)[np.array(self.extents) > 1]
        joint = 1.0 if (moves >= 2).all() else np.inf
        scalars = np.array(
            [constant, leak / engine[k.CLOCK_HZ], engine[k.MAC_CYCLES], out_words, saved, least,
             joint]
        )  # fmt: skip
        fan_start, fans = self.fans
        numbers = iter(range(1, slots + 1))
        tables = np.array([0 if self._order(n) is None else next(numbers) for n in nest.names])
        return Prices(
            np.ascontiguousarray(kept), nest.fanout, parent, access, fill, toll, bits, credit,
            table[:, k.CAPACITY].copy(),
            table[:, [k.READ_SLOW, k.WRITE_SLOW, k.SHARED_SLOW]].copy(),
            scalars, fan_start, fans, self._bounds(kept), tables, most, touched,
        )  # fmt: skip

    def _bounds(self, kept: np.ndarray) -> np.ndarray:
        """Loop bounds allowed; a storage that keeps nothing right inside another needs no loops.

        Its loops can be merged into those outside without any operand moving more often.
        """
        allowed = self.allowed.copy()
        for s in range(1, len(kept)):
            name = self.nest.names[s]
            free = self.constraints.of(name) is None
            outer = self.constraints.of(self.nest.names[s - 1]) is None
            idle = not kept[s].any() and not self.nest.fanout[s] and not self.nest.fanout[s - 1]
            if idle and free and outer:
                allowed[s, :, 1:] = False
        return allowed

    def _copies(self) -> tuple[np.ndarray, float]:
        """Most copies fanouts make outside a boundary, least share branches' windows merge to."""
        slots = len(self.nest.names)
        most, least = np.ones((slots + 1, 4)), 1.0
        extents, ints = self.problem.extents[0], self.problem.ints[0]
        pairs = ints[k.SLIDE_DIM : k.SLIDE_DIM + 2 * ints[k.SLIDES]].reshape(-1, 2)
        for s in range(slots):
            most[s + 1] = most[s]
            if self.nest.fanout[s]:
                width = self.width(s)
                for t in range(3):
                    still = [e for d, e in enumerate(extents) if not ints[k.MASK + t] >> d & 1]
                    most[s + 1, t] *= min(width, prod(still))
                most[s + 1, 3] *= width
                for p, r in pairs:
                    if r >= 0:
                        least /= min(width, extents[p], extents[r])
        return most, least


def mapspace(
    einsum: Einsum, nest: Nest, row: int = 0, constraints: Constraints | None = None
) -> Mapspace:
    """Build a mapspace.

    Raises:
        InputError: The einsum is beyond the kernel, or the constraints do not fit.
    """
    constraints = constraints or Constraints()
    names = {name for name, _ in einsum.dims}
    constraints.check(nest.names, nest.fanout, nest.keep[0], names)
    return Mapspace(einsum, pack([einsum]), nest, row, constraints)
