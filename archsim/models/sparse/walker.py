"""The oracle of the sparse model: walk a small nest over actual masks and see what meets what.

Slow, plain Python, written from the policy in ``model.py`` rather than from its formulas: it looks
at every iteration, notes which delivery of every operand it uses at every storage, and asks the
masks which of them were for nothing. Factors must divide and windows must not slide (GEMM-like).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise, product

import numpy as np

from archsim.models.sparse.formats import COMPRESSING
from archsim.models.sparse.model import (
    ACTUAL,
    FILLS,
    GATED,
    READS,
    SKIPPED,
    UPDATES,
    acts_on_partial_sums,
)
from archsim.models.sparse.spec import INPUT, OUTPUT, SKIP, WEIGHT, Sparsity
from archsim.models.sparse.tiles import Nest

Point = tuple[int, ...]


@dataclass
class _Delivery:
    """One tile sent once: its words, where to, and the other operands' words it meets."""

    words: set[Point] = field(default_factory=set)
    places: set[Point] = field(default_factory=set)
    first: set[tuple[Point, Point]] = field(default_factory=set)
    new: set[Point] = field(default_factory=set)
    meets: dict[int, set[Point]] = field(default_factory=lambda: {INPUT: set(), WEIGHT: set()})
    outer: tuple | None = None
    own: set[str] = field(default_factory=set)
    fate: int = ACTUAL  # -1: never asked for


class SparseWalker:
    """Walks one nest over masks.

    Args:
        nest: Einsum and mapping; factors multiply to the extents.
        sparsity: Formats (element by element, innermost rank compressing) and actions.
    """

    def __init__(self, nest: Nest, sparsity: Sparsity) -> None:
        self.nest, self.sparsity = nest, sparsity
        self.slots = len(nest.factors)
        inside = np.ones(len(nest.dims), np.int64)
        self.loops = []
        for s in reversed(range(self.slots)):
            for d in reversed(nest.order[s].tolist()):
                bound = int(nest.factors[s, d])
                if bound > 1:
                    self.loops.append((s, d, bound, bool(nest.fanout[s]), int(inside[d])))
                inside[d] *= bound
        self.loops.reverse()
        self._deliver()

    def run(self, masks: Sequence[np.ndarray]) -> tuple[np.ndarray, dict[str, int]]:
        """Look at every delivery and iteration with these tensors.

        Args:
            masks: Of input, weight and output: bool arrays over their ranks.

        Returns:
            Words as in :class:`~archsim.models.sparse.model.SparseCounts`, and computes by name.
        """
        self.masks = masks
        self.words = np.zeros((self.slots, 3, 3, 3))
        self.computes = dict.fromkeys(("actual", "gated", "skipped", "absent"), 0)
        self._judge()
        self._count()
        self._compute()
        return self.words, self.computes

    def _word(self, tensor: int, point: np.ndarray) -> Point:
        return tuple(int(sum(c * point[d] for d, c in rank)) for rank in self.nest.ranks[tensor])

    def _deliver(self) -> None:
        """Assign every iteration to the deliveries it uses."""
        self.deliveries: dict[tuple, _Delivery] = defaultdict(_Delivery)
        self.uses: list[tuple[dict, np.ndarray]] = []
        self.users: dict[tuple, list[dict]] = defaultdict(list)
        seen_child: dict[tuple, set[Point]] = defaultdict(set)
        seen_parent: dict[tuple, set[Point]] = defaultdict(set)
        temporal = [loop for loop in self.loops if not loop[3]]
        spatial = [loop for loop in self.loops if loop[3]]
        for step in product(*(range(loop[2]) for loop in temporal)):
            for place in product(*(range(loop[2]) for loop in spatial)):
                point = np.zeros(len(self.nest.dims), np.int64)
                for (_, d, _, _, inner), at in [
                    *zip(temporal, step, strict=True),
                    *zip(spatial, place, strict=True),
                ]:
                    point[d] += at * inner
                self._use(point, step, place, temporal, spatial, seen_child, seen_parent)

    def _use(self, point, step, place, temporal, spatial, seen_child, seen_parent) -> None:
        nest, keys = self.nest, {}
        for t in range(3):
            outer = None
            for parent, child in pairwise(nest.keepers(t)):
                # A new delivery whenever a loop that moves the tile advances; units hold nothing.
                moves = tuple(
                    at
                    for loop, at in zip(temporal, step, strict=True)
                    if loop[0] < child and (nest.relevant[t, loop[1]] or child == self.slots)
                )
                if child < self.slots:  # ... and whenever a loop outside the moving one does
                    last = max(
                        (
                            i
                            for i, loop in enumerate(temporal)
                            if loop[0] < child and nest.relevant[t, loop[1]]
                        ),
                        default=-1,
                    )
                    moves = tuple(step[: last + 1])
                tile = nest.tiles[child]
                which = tuple((point[nest.relevant[t]] // tile[nest.relevant[t]]).tolist())
                at_parent = tuple(
                    i for loop, i in zip(spatial, place, strict=True) if loop[0] < parent
                )
                at_child = tuple(
                    i for loop, i in zip(spatial, place, strict=True) if loop[0] < child
                )
                key = (t, parent, at_parent, moves, which)
                delivery, word = self.deliveries[key], self._word(t, point)
                if word not in delivery.words and word not in seen_parent[t, parent, at_parent]:
                    delivery.new.add(word)
                delivery.words.add(word)
                delivery.places.add(at_child)
                known = seen_child[t, child, at_child]
                if word not in known:
                    delivery.first.add((at_child, word))
                    known.add(word)
                seen_parent[t, parent, at_parent].add(word)
                for u in (INPUT, WEIGHT):
                    delivery.meets[u].add(self._word(u, point))
                delivery.outer, outer = outer, key
                keys[t, parent] = key
                self.users[key].append(keys)
        self.uses.append((keys, point))

    def _nonzero(self, tensor: int, words: set[Point]) -> bool:
        return any(self.masks[tensor][word] for word in words)

    def _judge(self) -> None:
        """Fate of every delivery: its own actions, and whether it reached its storage at all."""
        for key, delivery in sorted(self.deliveries.items(), key=lambda item: item[0][1]):
            t, parent = key[0], key[1]
            fates = {
                action.kind
                for action in self.sparsity.slots[parent].actions
                if action.target == t
                and any(not self._nonzero(u, delivery.meets[u]) for u in action.on)
            }
            if t == OUTPUT and nest_end(self.nest, parent):
                fates |= self._implied(key)
            delivery.own = fates
            above = set(self._above(delivery))
            if SKIP in above:
                delivery.fate = -1
            elif SKIP in fates:
                delivery.fate = SKIPPED
            else:
                delivery.fate = GATED if fates | above else ACTUAL

    def _above(self, delivery: _Delivery):
        """What storages further out did about the tile this delivery is part of."""
        while delivery.outer is not None:
            delivery = self.deliveries[delivery.outer]
            yield from delivery.own

    def _implied(self, key: tuple) -> set[str]:
        """Kinds of absence for which no unit of this partial sum's group adds anything."""
        compute = self.sparsity.compute
        if not compute.implied_updates:
            return set()
        group = self.users[key]
        found = set()
        for u, target in ((INPUT, WEIGHT), (WEIGHT, INPUT)):
            if not self._nonzero(u, self.deliveries[key].meets[u]):
                if compute.skip_absent and self._metadata(u):
                    found.add(SKIP)
                elif compute.gate_zeros:
                    found.add("gate")
            if acts_on_partial_sums(self.sparsity, u):
                continue
            for sender in self.nest.keepers(target)[:-1]:
                for action in self.sparsity.slots[sender].actions:
                    if action.target == target and u in action.on:
                        met = [self.deliveries[keys[target, sender]].meets[u] for keys in group]
                        if not self._nonzero(u, set().union(*met)):
                            found.add(action.kind)
        return found

    def _metadata(self, tensor: int) -> bool:
        return bool(self.sparsity.slots[self.nest.keepers(tensor)[-2]].formats[tensor])

    def _held(self, slot: int, tensor: int, words: set[Point]) -> int:
        """Words of a set that the slot's format represents."""
        formats = self.sparsity.slots[slot].formats[tensor]
        if formats and formats[-1].kind in COMPRESSING:
            return sum(bool(self.masks[tensor][word]) for word in words)
        return len(words)

    def _count(self) -> None:
        for (t, parent, *_), delivery in self.deliveries.items():
            keepers = self.nest.keepers(t)
            child = keepers[keepers.index(parent) + 1]
            if delivery.fate < 0:
                continue
            held = self._held(parent, t, delivery.words)
            self.words[parent, t, UPDATES if t == OUTPUT else READS, delivery.fate] += held
            if t == OUTPUT:
                again = self._held(parent, t, delivery.words - delivery.new)
                self.words[parent, t, READS, delivery.fate] += again
            if child == self.slots or delivery.fate == SKIPPED:
                continue
            for place in delivery.places:
                fresh = {word for at, word in delivery.first if at == place and t == OUTPUT}
                held = self._held(child, t, delivery.words - fresh)
                self.words[child, t, FILLS, delivery.fate] += held

    def _compute(self) -> None:
        compute = self.sparsity.compute
        for keys, point in self.uses:
            fates = set()
            for t in (INPUT, WEIGHT):
                for parent in self.nest.keepers(t)[:-1]:
                    fates |= self.deliveries[keys[t, parent]].own
            values = [bool(self.masks[u][self._word(u, point)]) for u in (INPUT, WEIGHT)]
            absent = [not v and self._metadata(u) for u, v in enumerate(values)]
            if SKIP in fates or all(absent):
                self.computes["absent"] += 1
            elif any(absent) and compute.skip_absent:
                self.computes["skipped"] += 1
            elif fates:
                self.computes["gated"] += 1
            elif all(values):
                self.computes["actual"] += 1
            else:
                self.computes["gated" if compute.gate_zeros else "actual"] += 1


def nest_end(nest: Nest, parent: int) -> bool:
    """Whether a slot is the storage of partial sums next to the units."""
    return nest.keepers(OUTPUT)[-2] == parent
