"""How Timeloop itself counts a sliding operand and rounds cycles, where it departs from exactness.

Timeloop walks every temporal loop through its first two iterations only and scales the second one
up, so after a loop has run the window stands at its *second* position, not at its last. What the
next step shares with that window is then not fetched. The rule by which the overlap is kept is
Timeloop's too: it is subtracted only while the window moves by the same vector (NVlabs/timeloop,
``src/loop-analysis/nest-analysis.cpp``, ``ComputeTemporalWorkingSet``, and
``src/workload/shape-models/operation-space.cpp``, ``SaveAndSubtractIfSameStride``).

Nothing here is used unless ``compat="timeloop"`` is asked for.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import prod

import numpy as np

#: A loop: by how much one step shifts the window along each rank, and its bound.
Loop = tuple[tuple[int, ...], int]


def walked_words(loops: Sequence[Loop], window: Sequence[int], *, pause_resets: bool) -> int:
    """Words of one operand fetched into one child while Timeloop walks the loops around it.

    Args:
        loops: Temporal loops outside the child, outer to inner. A loop that leaves the operand in
            place shifts it by zeros.
        window: Extents of the child's tile along the ranks of the operand.
        pause_resets: Whether a step that leaves the window in place counts as a change of
            direction, so that the next move fetches the whole window (Timeloop of early 2023); if
            not, the step is passed over (Timeloop 4cf6d4c).

    Returns:
        Words, over all visits.

    Example:
        Three taps over eight outputs: the window of one output moves by one, and two of its three
        words stay.

        >>> walked_words([((1,), 8)], (3,), pause_resets=False)
        10
        >>> walked_words([((1,), 8), ((0,), 4)], (3,), pause_resets=True)
        24
    """
    whole = prod(window)
    last: tuple[int, ...] | None = None
    stride: tuple[int, ...] | None = None
    total = 0
    for position, weight in _visits(loops, (0,) * len(window), 1):
        if last is None:
            fetched = whole
        else:
            step = tuple(a - b for a, b in zip(position, last, strict=True))
            if not pause_resets and not any(step):
                fetched = 0
            elif stride is None or step == stride:
                shared = (max(0, w - abs(s)) for w, s in zip(window, step, strict=True))
                fetched, stride = whole - prod(shared), step
            else:
                fetched, stride = whole, None
        total += fetched * weight
        last = position
    return total


def _visits(
    loops: Sequence[Loop], position: tuple[int, ...], weight: int
) -> Iterator[tuple[tuple[int, ...], int]]:
    """Positions Timeloop visits, in its order, and how many iterations each stands for."""
    if not loops:
        yield position, weight
        return
    (shift, bound), inner = loops[0], loops[1:]
    yield from _visits(inner, position, weight)
    if bound > 1:
        moved = tuple(p + s for p, s in zip(position, shift, strict=True))
        yield from _visits(inner, moved, weight * (bound - 1))


def rounded_cycles(
    reads: np.ndarray, writes: np.ndarray, bandwidth: np.ndarray, compute: np.ndarray
) -> np.ndarray:
    """Cycles of one storage level, rounded in Timeloop's order of operations.

    Timeloop divides every tensor's accesses by the compute cycles, adds, divides the bandwidth by
    the sum, and the compute cycles by the quotient before it rounds up. Where the result is a whole
    number, that order adds a cycle in some rows.

    Args:
        reads, writes: float64[N, T] words one instance reads and writes, by tensor.
        bandwidth: float64[N] words a cycle, shared by both.
        compute: float64[N] compute cycles.

    Returns:
        float64[N].
    """
    demand_read = np.zeros(len(compute))
    demand_write = np.zeros(len(compute))
    for t in range(reads.shape[1]):
        demand_read = demand_read + reads[:, t] / compute
        demand_write = demand_write + writes[:, t] / compute
    with np.errstate(divide="ignore"):
        slowdown = np.minimum(1.0, bandwidth / (demand_read + demand_write))
    return np.ceil(compute / slowdown)
