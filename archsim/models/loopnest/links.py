"""Links between the children of a fanout: words a neighbour passes on instead of the parent.

When a window slides in time by as much as the children of a fanout are apart, what a child needs
next is what its neighbour has now (rows of an image in a row-stationary array, the skewed operand
of a systolic one). With links only the last child of the line asks the parent. As in Timeloop
(``ComputeNetworkLinkTransfers``) a word comes from a neighbour or from the parent, whole deliveries
only, and links are used where they lower the parent's reads; here they are used along the moving
loop only, where every step of a run forwards alike, and where the fanout unrolls one dimension and
factors divide; other mappings read as without links, never less than is possible.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from archsim.models.loopnest.kernel import INPUT, READS
from archsim.models.sparse.tiles import Nest


def forward(
    nest: Nest, counts: np.ndarray, linked: np.ndarray, blocked: frozenset[int] = frozenset()
) -> tuple[np.ndarray, np.ndarray]:
    """Let neighbours pass on what they can.

    Args:
        nest: Einsum and mapping.
        counts: float64[S, 3, 3], the kernel's reads, fills and updates.
        linked: bool[S], fanouts whose neighbours are linked.
        blocked: Slots whose reads of the input stay as they are.

    Returns:
        The counts with fewer reads of the input, and float64[S], words of it that cross from one
        child of each fanout to the next.
    """
    counts, passed = counts.copy(), np.zeros(len(nest.factors))
    for parent, child in pairwise(nest.keepers(INPUT)):
        if child == len(nest.factors) or parent in blocked:
            continue
        moving = _moving_loop(nest, child)
        if moving is None:
            continue
        for s in range(parent + 1, child):
            share = _share_from_parent(nest, s, parent, child, *moving) if linked[s] else 1.0
            if share < 1.0:
                saved = counts[parent, INPUT, READS] * (1.0 - share)
                counts[parent, INPUT, READS] -= saved
                between = np.flatnonzero(nest.fanout[parent + 1 : s]) + parent + 1
                still = np.flatnonzero(~nest.relevant[INPUT])
                copies = nest.factors[np.ix_(between, still)].prod()
                passed[s] = saved * copies
                break
    return counts, passed


def _moving_loop(nest: Nest, child: int) -> tuple[int, int] | None:
    """Slot and dimension of the innermost temporal loop outside a slot that moves the input."""
    for s in range(child - 1, -1, -1):
        if nest.fanout[s]:
            continue
        for d in reversed(nest.order[s].tolist()):
            if nest.factors[s, d] > 1 and nest.relevant[INPUT, d]:
                return s, d
    return None


def _share_from_parent(
    nest: Nest, fanout: int, parent: int, child: int, slot: int, moving: int
) -> float:
    """Fraction of the parent's reads that remain with links in one fanout."""
    unrolled = [d for d in range(len(nest.dims)) if nest.factors[fanout, d] > 1]
    rank = next((r for r in nest.ranks[INPUT] if any(d == moving for d, _ in r)), ())
    coefficient = dict(rank)
    if len(unrolled) != 1 or len(rank) != 2 or unrolled[0] == moving:
        return 1.0
    line = unrolled[0]
    if line not in coefficient:
        return 1.0
    for s in range(parent + 1, child):
        if nest.fanout[s] and s != fanout and any(nest.factors[s, d] > 1 for d, _ in rank):
            return 1.0
    if any(nest.factors[:, d].prod() != nest.extents[d] for d in (line, moving)):
        return 1.0
    apart = coefficient[line] * nest.factors[fanout + 1 :, line].prod()
    step = coefficient[moving] * nest.factors[slot + 1 :, moving].prod()
    if apart != step:
        return 1.0
    window = 1 + sum(c * (nest.tiles[child, d] - 1) for d, c in rank)
    fresh = min(window, step)
    children, steps = nest.factors[fanout, line], nest.factors[slot, moving]
    alone = children * (window + (steps - 1) * fresh)
    return float((children * window + (steps - 1) * fresh) / alone)
