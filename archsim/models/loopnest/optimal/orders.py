"""Loop orders that can matter: a few classes of permutations instead of all of them.

A storage's tile stays while irrelevant loops run inside the innermost relevant one. So the cost of
an order depends only on which loops each operand sees outside (or at) its innermost relevant loop,
and on the loop that slides the input's window. Built from the inside out:

* a loop that moves no operand still at rest goes innermost at once (it can only help);
* otherwise the next loop is chosen among those that bring the fewest operands to move: one that
  brings a strict superset to move is never better, unless it slides the window;
* loops that bring the same operands to move are alike, except those that slide the window, which
  are never worse than those that do not.

``enumeration.py`` knows nothing of this and tries every permutation.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from archsim.models.loopnest.optimal.layout import Orders


def _classes(
    active: tuple[int, ...], relevant: tuple[int, int, int], sliding: frozenset[int]
) -> list[tuple[int, ...]]:
    """Permutations of ``active``, outer to inner, one a class."""
    found: list[tuple[int, ...]] = []

    def extend(inside: tuple[int, ...], left: tuple[int, ...], resting: int) -> None:
        moved = {d: sum(1 << t for t in range(3) if relevant[t] >> d & 1) & resting for d in left}
        free = tuple(d for d in left if moved[d] == 0)
        inside, left = free[::-1] + inside, tuple(d for d in left if moved[d])
        if not left or not resting:
            found.append(left + inside)
            return
        groups: dict[int, list[int]] = {}
        for d in left:
            groups.setdefault(moved[d], []).append(d)
        for closing, dims in groups.items():
            slides = [d for d in dims if d in sliding and closing & 1]
            if not slides and any(g != closing and g & closing == g for g in groups):
                continue
            for d in slides or dims[:1]:
                rest = tuple(x for x in left if x != d)
                extend((d, *inside), rest, resting & ~closing)

    extend((), active, 7)
    return found


def _describe(perm: tuple[int, ...], relevant: tuple[int, int, int]) -> tuple[list[int], int]:
    counted, mover = [], -1
    for t in range(3):
        mask, seen = 0, 0
        for d in perm:
            seen |= 1 << d
            if relevant[t] >> d & 1:
                mask = seen
                mover = d if t == 0 else mover
        counted.append(mask)
    return counted, mover


@lru_cache(maxsize=64)
def order_classes(
    dim_count: int,
    relevant: tuple[int, int, int],
    sliding: frozenset[int],
    fixed: tuple[tuple[int, ...] | None, ...] = (None,),
) -> Orders:
    """Order classes.

    Args:
        dim_count: Number of dimensions D.
        relevant: Masks of the dimensions that move input, weight, output.
        sliding: Dimensions along which the input's window slides.
        fixed: One entry a table: None, or the one permutation (outer to inner) that is allowed.
    """
    start = np.zeros((len(fixed), (1 << dim_count) + 1), np.int64)
    counted, mover, perms = [], [], []
    for table, order in enumerate(fixed):
        for mask in range(1 << dim_count):
            active = tuple(d for d in range(dim_count) if mask >> d & 1)
            start[table, mask] = len(perms)
            if order is None:
                choices = _classes(active, relevant, sliding)
            else:
                choices = [tuple(d for d in order if mask >> d & 1)]
            for perm in choices:
                found, moves = _describe(perm, relevant)
                counted.append(found)
                mover.append(moves)
                idle = tuple(d for d in range(dim_count) if not mask >> d & 1)
                perms.append(idle + perm)
        start[table, -1] = len(perms)
    return Orders(
        start, np.array(counted, np.int64), np.array(mover, np.int64), np.array(perms, np.int64)
    )
