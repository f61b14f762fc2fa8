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


def _steps_below(lists: list[list[int]], width: int) -> tuple[np.ndarray, np.ndarray]:
    """Divisors below each divisor, as ``edges`` and ``below`` of ``Shapes``."""
    edges = np.zeros((len(lists), width, 2), np.int64)
    below = np.zeros((len(lists), width, width), np.int64)
    for d, found in enumerate(lists):
        for i, a in enumerate(found):
            steps = [(len(divisors(a // b)) > 2, j) for j, b in enumerate(found[:i]) if a % b == 0]
            steps.sort()
            edges[d, i] = sum(not far for far, _ in steps), len(steps)
            below[d, i, : len(steps)] = [j for _, j in steps]
    return edges, below


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
            self._twins(index, strides, step, partner), *_steps_below(lists, width),
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

    def _twins(self, index, strides, step, partner) -> np.ndarray:
        """int64[X], see ``Shapes``: exchange the dimensions of two sliding ranks that are alike."""
        twin, extents = np.arange(len(index)), self.extents
        ranks = [(d, int(partner[d])) for d in range(len(extents)) if partner[d] > d]
        bound = any(limits.dims or limits.factors or limits.order for limits in
                    self.constraints.slots)  # fmt: skip
        masks = self.problem.relevant[0]
        for i, (a, b) in enumerate(ranks):
            for c, d in ranks[i + 1 :]:
                alike = all(
                    extents[x] == extents[y] and step[x] == step[y]
                    and (masks[:, x] == masks[:, y]).all()
                    for x, y in ((a, c), (b, d))
                )  # fmt: skip
                if alike and not bound:
                    swapped = index.copy()
                    swapped[:, [a, b, c, d]] = index[:, [c, d, a, b]]
                    return np.minimum(twin, swapped @ strides)
        return twin

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

    @cached_property
    def prices(self) -> Prices:
        """Energies, limits and choices, for the compiled search."""
        nest, e = self.nest, self.row
        table, engine = nest.slot_table[e], nest.engine[e]
        bits = table[:, k.BITS : k.BITS + 3].copy()
        block = np.where(nest.fanout, 1.0, table[:, k.BLOCK])[:, None]
        read, fill = (bits * table[:, [column]] / block for column in (k.READ_J, k.WRITE_J))
        access = read.copy()
        access[:, 2] += fill[:, 2]
        fill[0] = 0.0
        out_words = float(self.problem.floats[0, len(self.problem.dims) + k.SIZE + k.OUTPUT])
        toll = np.where(nest.fanout, table[:, k.HOP_J], 0.0) * 0.5
        saved = float(table[0, k.BITS + 2] - engine[k.FINAL_BITS])
        leak = float((table[:, k.LEAK_W] * table[:, k.INSTANCES]).sum())
        leak += float(engine[k.MAC_LEAK_W] * engine[k.MAC_COUNT])
        constant = float(self.problem.macs[0] * engine[k.MAC_J])
        constant -= saved * out_words * table[0, k.WRITE_J] / table[0, k.BLOCK]
        moves = self.problem.relevant[0].sum(axis=0)[np.array(self.extents) > 1]
        joint = 1.0 if (moves >= 2).all() else np.inf
        scalars = np.array(
            [constant, leak / engine[k.CLOCK_HZ], engine[k.MAC_CYCLES], out_words, saved, joint]
        )
        fan_start, fans = self.fans
        numbers = iter(range(1, len(nest.names) + 1))
        tables = np.array([0 if self._order(n) is None else next(numbers) for n in nest.names])
        choices, ways = self._choices()
        loops, pairwise = self._loops(tables)
        most, least = self._copies()
        cases, parent, shared, touched = self._parents(
            choices, ways, access, read[:, 2] * out_words, least
        )
        dearest = np.zeros((len(nest.names) + 1, 4))
        for s in range(len(nest.names)):
            if nest.fanout[s]:
                both = toll[s] * bits[s] * (1.0 + self.width(s)) * (1.0, 1.0, 2.0)
                dearest[s + 1, :3] = dearest[s, :3] + both
            else:
                dearest[s + 1, :3] = np.maximum(dearest[s, :3], access[s])
        dearest[:, 3] = most[:, 2]
        return Prices(
            nest.fanout, choices, ways, self._idle(), access, fill, toll, bits,
            out_words * (read[:, 2] + fill[:, 2]), table[:, k.CAPACITY].copy(),
            table[:, [k.READ_SLOW, k.WRITE_SLOW, k.SHARED_SLOW]].copy(), scalars, fan_start, fans,
            self.allowed, loops, tables, pairwise, most, least[:, 3].copy(), cases, parent, shared,
            touched, dearest,
        )  # fmt: skip

    def _choices(self) -> tuple[np.ndarray, np.ndarray]:
        """Sets of operands a storage may keep: int64[S, 8] masks, int64[S] how many."""
        slots = len(self.nest.names)
        choices, ways = np.zeros((slots, 8), np.int64), np.ones(slots, np.int64)
        choices[0] = 7
        for s, name in enumerate(self.nest.names):
            if s == 0 or self.nest.fanout[s]:
                continue
            limits, found = self.constraints.of(name), [0]
            for t, operand in enumerate(OPERANDS):
                if not self.nest.keep[0, s, t]:
                    continue
                kept = [mask | 1 << t for mask in found]
                if limits and operand in limits.keep:
                    found = kept
                elif not (limits and operand in limits.bypass):
                    found += kept
            found.sort(key=lambda mask: -mask.bit_count())
            choices[s, : len(found)], ways[s] = found, len(found)
        return choices, ways

    def _loops(self, tables: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Dimensions that may have loops, bool[S, D]; storages where more is fixed, bool[S]."""
        shapes = self.shapes
        there = np.arange(shapes.values.shape[1]) < shapes.counts[:, None]
        every = (self.allowed | ~there).all(axis=2)
        none = self.allowed[:, :, 0] & ~self.allowed[:, :, 1:].any(axis=2)
        return every & (shapes.counts > 1), ~(every | none).all(axis=1) | (tables > 0)

    def _idle(self) -> np.ndarray:
        """Storages that need no loops if they keep nothing: those right inside another.

        Their loops can be merged into those outside without any operand moving more often.
        """
        idle = np.zeros(len(self.nest.names), bool)
        for s in range(1, len(idle)):
            free = self.constraints.of(self.nest.names[s]) is None
            outer = self.constraints.of(self.nest.names[s - 1]) is None
            idle[s] = free and outer and not self.nest.fanout[s] and not self.nest.fanout[s - 1]
        return idle

    def _copies(self) -> tuple[np.ndarray, np.ndarray]:
        """What the fanouts outside a boundary can do at most.

        Returns:
            float64[S + 1, 4] most copies of each operand, and units in use; float64[S + 1, 4] least
            share of the words asked for inside that is asked for outside, and of the input's words
            that differ between branches (windows unrolled in both dimensions overlap).
        """
        slots, shapes = len(self.nest.names), self.shapes
        most, least = np.ones((slots + 1, 4)), np.ones((slots + 1, 4))
        ints = self.problem.ints[0]
        pairs = ints[k.SLIDE_DIM : k.SLIDE_DIM + 2 * ints[k.SLIDES]].reshape(-1, 2)
        start, fans = self.fans
        for s in range(slots):
            most[s + 1], least[s + 1] = most[s], least[s]
            rows = fans[start[s] : start[s + 1]]
            if not self.nest.fanout[s] or not len(rows):
                continue
            bounds = np.stack([shapes.values[d][rows[:, d]] for d in range(rows.shape[1])], axis=1)
            share = np.ones(len(rows))
            for p, r in pairs:
                if r >= 0:  # at best every step but one along each dimension finds the words there
                    m, n = bounds[:, p], bounds[:, r]
                    share *= (m + n - 1) / (m * n)
            for t in range(3):
                still = [d for d in range(rows.shape[1]) if not ints[k.MASK + t] >> d & 1]
                copies = bounds[:, still].prod(axis=1)
                most[s + 1, t] *= copies.max()
                least[s + 1, t] *= ((share if t == 0 else 1.0) / copies).min()
            most[s + 1, 3] *= bounds.prod(axis=1).max()
            least[s + 1, 3] *= share.min()
        return most, least

    def _parents(self, choices, ways, access, first_reads, least):
        """Cases of slot 1 and what the parents outside a boundary cost at least, see ``Prices``."""
        slots = len(self.nest.names)
        cases = np.ones(slots + 1, np.int64)
        parent, shared = np.full((slots + 1, 8, 3), np.inf), np.full((slots + 1, 8, 3), np.inf)
        touched = np.zeros((slots + 1, 8, 2))
        most, _ = self._copies()
        for s in range(1, slots + 1):
            told = s > 1 and not self.nest.fanout[1]
            cases[s] = ways[1] if told else 1
            for c in range(cases[s]):
                for t in range(3):
                    may = {1 if told and choices[1, c] >> t & 1 else 0}
                    for p in range(2, s):
                        kept = choices[p, : ways[p]] >> t & 1
                        if not self.nest.fanout[p] and kept.any():
                            may = {p} if kept.all() else {*may, p}
                    parent[s, c, t] = min(access[p, t] for p in may)
                    shared[s, c, t] = min(least[s, t] / least[p, t] for p in may)
                    if t == 2:
                        touched[s, c] = (
                            max(first_reads[p] for p in may), max(most[p, 2] for p in may)
                        )  # fmt: skip
        return cases, parent, shared, touched


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
