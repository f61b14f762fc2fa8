"""Links between neighbours: reads of the parent as a walk counts them, never more than before."""

from __future__ import annotations

import random
from itertools import product

import numpy as np
import pytest
from nest_strategies import KINDS, Case, generate, kernel_counts
from sparse_cases import nest_of

from archsim.models.loopnest.links import forward
from archsim.models.loopnest.problem import pack
from archsim.models.sparse.tiles import Nest
from archsim.workload.graph import Access, Einsum


def line(p, q, r, s, stride, dilation):
    """A convolution of one row: tier loops, a fanout, a buffer; factors (outer, fanout, inner)."""
    dims = (("P", int(np.prod(p))), ("R", int(np.prod(r))), ("C", q), ("M", s))
    window = (("P", stride), ("R", dilation))
    einsum = Einsum(
        dims,
        (
            Access("i", ((("C", 1),), window)),
            Access("w", ((("M", 1),), (("C", 1),), (("R", 1),))),
            Access("o", ((("M", 1),), (("P", 1),))),
        ),
    )
    factors = np.array([[p[0], r[0], q, s], [p[1], r[1], 1, 1], [p[2], r[2], 1, 1]])
    return einsum, factors, np.array([False, True, False])


def walk(einsum, factors, order, linked):
    """Reads of the input by the tier, walked: every child asks for what is new in its window.

    A step of the innermost loop that moves the input slides the window; any other starts over. With
    links, a child takes from the next one of the line what that one had at the step before.
    """
    names = [name for name, _ in einsum.dims]
    relevant = [names.index(n) for n in ("P", "R", "C")]
    (_, stride), (_, dilation) = einsum.operands[0].ranks[1]
    loops = [(d, int(factors[0, d])) for d in order if factors[0, d] > 1]
    moving = max((i for i, (d, _) in enumerate(loops) if d in relevant), default=-1)
    children = list(product(*(range(int(f)) for f in factors[1])))
    held: dict = {}
    reads, before = 0, None
    for step in product(*(range(n) for _, n in loops)):
        changed = (
            -1
            if before is None
            else next(i for i, (a, b) in enumerate(zip(before, step, strict=True)) if a != b)
        )
        first, before = before is None, step
        if not first and changed > moving:
            continue
        now, asked = {}, []
        for child in children:
            low = [0] * len(names)
            for (d, _), at in zip(loops, step, strict=True):
                low[d] += at * int(factors[1:, d].prod())
            for d, at in enumerate(child):
                low[d] += at * int(factors[2, d])
            x = range(low[0], low[0] + int(factors[2, 0]))
            y = range(low[1], low[1] + int(factors[2, 1]))
            words = {(low[2], stride * i + dilation * j) for i in x for j in y}
            now[child] = words
            slides = not first and changed == moving
            fresh = words - held[child] if slides and child in held else words
            nexts = [tuple(c + (i == axis) for i, c in enumerate(child)) for axis in (0, 1)]
            if (
                linked
                and slides
                and any(n in held and n != child and fresh <= held[n] for n in nexts)
            ):
                continue
            asked.append(frozenset(fresh))
        held = now
        reads += sum(len(words) for words in set(asked))
    return reads


CASES = [
    # outer, fanout, inner factors of P and R; C and M loops of the tier; strides
    ((1, 4, 1), 2, (3, 1, 1), 2, 1, 1),
    ((2, 4, 1), 1, (3, 1, 1), 1, 1, 1),
    ((1, 3, 2), 2, (2, 1, 2), 1, 1, 1),
    ((1, 1, 4), 1, (1, 3, 1), 2, 1, 1),
    ((4, 1, 1), 2, (1, 3, 1), 2, 1, 1),
    ((5, 1, 2), 1, (1, 2, 2), 1, 1, 1),
    ((1, 4, 1), 1, (3, 1, 1), 1, 2, 2),
    ((1, 4, 1), 2, (3, 1, 1), 1, 2, 1),
    ((1, 3, 2), 1, (3, 1, 1), 1, 1, 2),
]


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("last", ["P", "R"])
def test_reads_are_what_a_walk_counts(case, last):
    p, c, r, m, stride, dilation = case
    einsum, factors, spatial = line(p, c, r, m, stride, dilation)
    order = [3, 2, 0, 1] if last == "R" else [3, 2, 1, 0]
    names = tuple(name for name, _ in einsum.dims)
    problem = pack([einsum], names)
    keep = np.array([[True] * 3, [False] * 3, [True] * 3])
    full = np.tile(np.array(order), (3, 1))
    mapped = Case(einsum, problem, factors, full, keep, spatial)
    counts, _ = kernel_counts(mapped)
    nest = Nest(einsum, names, problem.extents[0].astype(np.int64), factors, full, keep, spatial)
    assert counts[0, 0, 0] == walk(einsum, factors, order, linked=False)
    found, passed = forward(nest, counts, spatial)
    assert found[0, 0, 0] == pytest.approx(walk(einsum, factors, order, linked=True))
    assert passed[1] == pytest.approx(counts[0, 0, 0] - found[0, 0, 0])


def test_some_of_the_walked_cases_forward():
    used = 0
    for p, c, r, m, stride, dilation in CASES:
        einsum, factors, _ = line(p, c, r, m, stride, dilation)
        for order in ([3, 2, 0, 1], [3, 2, 1, 0]):
            used += walk(einsum, factors, order, True) < walk(einsum, factors, order, False)
    assert used >= 6


@pytest.mark.parametrize("seed", range(150))
def test_links_only_lower_reads_of_the_input(seed):
    rng = random.Random(seed)
    case = generate(rng, kind=rng.choice(KINDS))
    counts, _ = kernel_counts(case)
    found, passed = forward(nest_of(case), counts, case.spatial)
    assert (found <= counts + 1e-9).all()
    assert (found >= -1e-9).all()
    assert (passed >= 0).all()
    changed = np.argwhere(found != counts)
    assert all(t == 0 and kind == 0 for _, t, kind in changed)
    untouched, none = forward(nest_of(case), counts, np.zeros(len(case.spatial), bool))
    assert (untouched == counts).all()
    assert not none.any()
