"""The oracle: walk a small loop nest step by step with the set of words in every buffer.

Slow, plain Python, and written from the policy in ``kernel.py``'s docstring rather than from its
formulas; the compiled kernel must agree with it to the word.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np

Box = tuple[tuple[int, int], ...]  # inclusive bounds a rank


@dataclass(frozen=True)
class _Loop:
    slot: int
    dim: int
    bound: int
    spatial: bool
    inner: int  # extent of the dimension inside this loop


def _words(box: Box) -> set[tuple[int, ...]]:
    return set(product(*(range(low, high + 1) for low, high in box)))


def _merge(requests: dict, spatial: list[_Loop], parent: int) -> int:
    """Words a parent reads for its children's requests, merged fanout by fanout, inside out.

    Branches of one fanout share a read when everything requested below them is equal.
    """
    merged = {place: (request, len(request)) for place, request in requests.items()}
    for slot in sorted({loop.slot for loop in spatial if loop.slot > parent}, reverse=True):
        rest = [i for i, loop in enumerate(spatial) if loop.slot < slot]
        groups: dict[tuple[int, ...], set] = {}
        for place, branch in merged.items():
            groups.setdefault(tuple(place[i] for i in rest), set()).add(branch)
        merged = {
            place: (frozenset(branches), sum(words for _, words in branches))
            for place, branches in groups.items()
        }
        spatial = [spatial[i] for i in rest]
    return sum(words for _, words in merged.values())


class NestWalker:
    """Walks one mapping of one problem.

    Args:
        extents: Extent of every dimension.
        ranks: For input, weight and output: a list of ranks, each ``[(dim, coefficient), ...]``.
        factors: [S][D] factors, product over slots >= extent.
        order: [S][D] loop order, outer to inner.
        keep: [S][3] what each slot stores.
        spatial: [S] whether a slot is a fanout.
    """

    def __init__(
        self,
        extents: Sequence[int],
        ranks: Sequence[Sequence[Sequence[tuple[int, int]]]],
        factors: Sequence[Sequence[int]],
        order: Sequence[Sequence[int]],
        keep: Sequence[Sequence[bool]],
        spatial: Sequence[bool],
    ) -> None:
        self.extents, self.ranks, self.keep, self.spatial = extents, ranks, keep, spatial
        self.slots = len(factors)
        inner = [1] * len(extents)
        loops: list[_Loop] = []
        self.tile = [[1] * len(extents) for _ in range(self.slots + 1)]
        for s in reversed(range(self.slots)):
            for d in reversed([int(x) for x in order[s]]):
                bound = int(factors[s][d])
                if bound > 1:
                    loops.append(_Loop(s, d, bound, bool(spatial[s]), inner[d]))
                inner[d] *= bound
            self.tile[s] = list(inner)
        self.loops = loops[::-1]  # outer to inner
        self.counts = np.zeros((self.slots, 3, 3))

    def run(self) -> tuple[np.ndarray, int]:
        """Walk.

        Returns:
            counts [S, 3, 3] (reads, fills, updates of input, weight, output) and the cycles.
        """
        for tensor in range(3):
            keepers = [s for s in range(self.slots) if self.keep[s][tensor]]
            for parent, child in zip(keepers, [*keepers[1:], self.slots], strict=True):
                self._edge(tensor, parent, child)
        cycles = 0
        temporal = [loop for loop in self.loops if not loop.spatial]
        for steps in product(*(range(loop.bound) for loop in temporal)):
            cycles += self._active(zip(temporal, steps, strict=True))
        return self.counts, cycles

    def _active(self, positions) -> bool:
        low = self._low(positions)
        return all(at < extent for at, extent in zip(low, self.extents, strict=True))

    def _low(self, positions) -> list[int]:
        low = [0] * len(self.extents)
        for loop, index in positions:
            low[loop.dim] += index * loop.inner
        return low

    def _box(self, tensor: int, child: int, positions) -> Box | None:
        low = self._low(positions)
        high = [
            min(at + size, extent) - 1
            for at, size, extent in zip(low, self.tile[child], self.extents, strict=True)
        ]
        if any(b < a for a, b in zip(low, high, strict=True)):
            return None
        return tuple(
            (sum(c * low[d] for d, c in rank), sum(c * high[d] for d, c in rank))
            for rank in self.ranks[tensor]
        )

    def _edge(self, tensor: int, parent: int, child: int) -> None:
        outside = [loop for loop in self.loops if loop.slot < child]
        temporal = [loop for loop in outside if not loop.spatial]
        spatial = [loop for loop in outside if loop.spatial]
        relevant = {d for rank in self.ranks[tensor] for d, _ in rank}
        moving = [i for i, loop in enumerate(temporal) if loop.dim in relevant]
        # At the multiply-accumulate units every step is a new request.
        moving_at = len(temporal) - 1 if child == self.slots else (moving[-1] if moving else -1)
        places = list(product(*(range(loop.bound) for loop in spatial)))
        parents = [i for i, loop in enumerate(spatial) if loop.slot < parent]
        held: dict[tuple[int, ...], Box] = {}
        seen_child: dict[tuple[int, ...], set] = {}
        seen_parent: dict[tuple[int, ...], set] = {}
        before: tuple[int, ...] | None = None
        for steps in product(*(range(loop.bound) for loop in temporal)):
            changed = 0
            if before is not None:
                changed = next(
                    i for i, (a, b) in enumerate(zip(before, steps, strict=True)) if a != b
                )
            first_step, before = before is None, steps
            wanted: dict[tuple[int, ...], dict[tuple[int, ...], frozenset]] = {}
            for place in places:
                box = self._box(
                    tensor,
                    child,
                    [*zip(temporal, steps, strict=True), *zip(spatial, place, strict=True)],
                )
                if box is None or (not first_step and changed > moving_at):
                    continue
                words = _words(box)
                slides = (
                    not first_step
                    and changed == moving_at
                    and temporal[changed].dim in relevant
                    and child < self.slots
                    and tensor != 2
                )
                if slides and place in held:
                    words -= _words(held[place])
                held[place] = box
                above = tuple(place[i] for i in parents)
                wanted.setdefault(above, {})[place] = frozenset(words)
                if child < self.slots:
                    known = seen_child.setdefault(place, set())
                    skipped = len(words & known) if tensor == 2 else len(words)
                    self.counts[child, tensor, 1] += skipped
                    known |= words
            for above, deltas in wanted.items():
                if tensor != 2:
                    self.counts[parent, tensor, 0] += _merge(deltas, spatial, parent)
                    continue
                words = set().union(*deltas.values())
                known = seen_parent.setdefault(above, set())
                self.counts[parent, 2, 2] += len(words)
                self.counts[parent, 2, 0] += len(words & known)
                known |= words
