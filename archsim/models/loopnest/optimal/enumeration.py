"""Brute force: every mapping of the stated space, judged by the kernel. For small layers only.

Written from the definition of the space (``space.py``), with none of the arguments that shrink it:
every permutation of the loops of bound above 1 at every storage, every choice of kept operands.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import permutations, product
from math import prod

import numpy as np

from archsim.errors import InputError
from archsim.models.loopnest import kernel as k
from archsim.models.loopnest.optimal.space import Mapspace, divisors

CHUNK = 200_000


def factorisations(space: Mapspace) -> Iterator[np.ndarray]:
    """int64[S, D], every perfect tiling the constraints allow."""
    slots, extents = len(space.nest.names), space.extents
    widths = [space.width(s) if space.nest.fanout[s] else np.inf for s in range(slots)]
    columns = []
    for d, extent in enumerate(extents):
        name = space.problem.dims[d]
        found: list[tuple[tuple[int, ...], int]] = [((), extent)]
        for s, slot in enumerate(space.nest.names):
            limits = space.constraints.of(slot)
            grown = []
            for column, left in found:
                for bound in divisors(left) if s < slots - 1 else [left]:
                    if bound > widths[s]:
                        continue
                    if limits and bound > 1 and limits.dims is not None and name not in limits.dims:
                        continue
                    if limits and bound != limits.factors.get(name, bound):
                        continue
                    grown.append(((*column, bound), left // bound))
            found = grown
        columns.append([column for column, _ in found])
    for choice in product(*columns):
        factors = np.array(choice, np.int64).T
        if all(_use_allowed(space, s, widths[s], prod(factors[s].tolist())) for s in range(slots)):
            yield factors


def _use_allowed(space: Mapspace, s: int, width: float, use: int) -> bool:
    if not space.nest.fanout[s]:
        return True
    limits = space.constraints.of(space.nest.names[s])
    most = limits.max_use if limits and limits.max_use else width
    return use <= min(width, most) and use >= (limits.min_use * width if limits else 0)


def _orders(space: Mapspace, factors: np.ndarray) -> Iterator[np.ndarray]:
    """int64[S, D], every order of the loops that are there."""
    dims = factors.shape[1]
    choices = []
    for s, slot in enumerate(space.nest.names):
        limits = space.constraints.of(slot)
        active = [d for d in range(dims) if factors[s, d] > 1]
        idle = [d for d in range(dims) if factors[s, d] == 1]
        if space.nest.fanout[s]:
            choices.append([list(range(dims))])
        elif limits and limits.order is not None:
            listed = [space.problem.dims.index(x) for x in limits.order if x in space.problem.dims]
            rest = [d for d in range(dims) if d not in listed]
            choices.append([rest + listed])
        else:
            choices.append([idle + list(p) for p in permutations(active)])
    for choice in product(*choices):
        yield np.array(choice, np.int64)


def judge_rows(space: Mapspace, factors, orders, keep) -> np.ndarray:
    """Kernel results [N, RESULTS] of mappings [N, S, D], [N, S, D], [N, S, 3]."""
    n = len(factors)
    results, zero = np.zeros((n, k.RESULTS)), np.zeros(n, np.int64)
    if n:
        judge = (
            k.evaluate_here if n < k.FEW else k.evaluate_rows
        )  # few are not worth waking threads
        judge(
            zero, zero, space.problem.floats, space.problem.ints,
            np.ascontiguousarray(factors, np.float64), np.ascontiguousarray(orders, np.int64),
            np.ascontiguousarray(keep), space.nest.fanout, False,
            space.nest.slot_table[space.row : space.row + 1],
            space.nest.engine[space.row : space.row + 1], results, np.zeros((0, 0, 3, 3)),
        )  # fmt: skip
    return results


def enumerate_all(space: Mapspace, limit: int = 5_000_000) -> np.ndarray:
    """Energy and cycles of every mapping that fits.

    Args:
        space: The mapspace.
        limit: Most mappings to try.

    Returns:
        float64[N, 2]: J, cycles.

    Raises:
        InputError: The space is larger than ``limit``.
    """
    masks, found, rows, tried = space.masks(), [], [], 0

    def flush() -> None:
        factors, orders, keep = (np.array(column) for column in zip(*rows, strict=True))
        results = judge_rows(space, factors, orders, keep)
        fit = results[:, k.OVERFLOW] <= 0
        found.append(results[fit][:, [k.ENERGY_J, k.CYCLES]])
        rows.clear()

    for factors in factorisations(space):
        for orders in _orders(space, factors):
            for mask in masks:
                rows.append((factors, orders, mask))
            tried += len(masks)
            if tried > limit:
                raise InputError("the mapspace is too large to enumerate", found=f"> {limit}")
            if len(rows) >= CHUNK:
                flush()
    if rows:
        flush()
    return np.concatenate(found) if found else np.zeros((0, 2))


def pareto(points: np.ndarray) -> np.ndarray:
    """Non-dominated rows of [N, 2], ascending in the first column; equal rows once."""
    if not len(points):
        return points
    ordered = points[np.lexsort((points[:, 1], points[:, 0]))]
    kept = [ordered[0]]
    for row in ordered[1:]:
        if row[1] < kept[-1][1] * (1 - 1e-12):
            kept.append(row)
    return np.array(kept)
