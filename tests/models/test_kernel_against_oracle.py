"""The compiled kernel counts what a walk over the loop nest counts, to the word."""

from __future__ import annotations

import os
import random

import numpy as np
import pytest
from hypothesis import given, settings
from nest_strategies import (
    KINDS,
    cases,
    differing,
    draw_factors,
    generate,
    kernel_counts,
    oracle_counts,
    overshoots,
    random_engine,
    unrolls_a_diagonal,
)

from archsim.models.loopnest import kernel as k


def assert_exact(case) -> None:
    counts, cycles = kernel_counts(case)
    expected, steps = oracle_counts(case)
    assert cycles == steps, case
    assert not differing(counts, expected), f"{case}: {differing(counts, expected)}"


@pytest.mark.parametrize("residual", [False, True], ids=["perfect", "residual"])
@pytest.mark.parametrize("kind", KINDS)
def test_every_count_equals_the_walk(kind, residual):
    rng = random.Random(f"{kind} {residual}")
    for _ in range(260):
        assert_exact(generate(rng, kind=kind, residual=residual, work=160))


@settings(max_examples=100, deadline=None)
@given(cases())
def test_every_count_equals_the_walk_of_drawn_nests(case):
    assert_exact(case)


def test_the_generator_reaches_what_it_should():
    rng = random.Random(7)
    drawn = [generate(rng) for _ in range(600)]
    assert sum(overshoots(case.problem, case.factors) for case in drawn) > 80
    assert sum(unrolls_a_diagonal(case.problem, case.factors, case.spatial) for case in drawn) > 3
    assert sum(case.spatial.any() for case in drawn) > 150
    assert {len(case.spatial) for case in drawn} == {1, 2, 3, 4, 5, 6}
    bypass = [(~case.keep[~case.spatial]).any() for case in drawn]
    assert sum(bypass) > 100
    ranks = {c for case in drawn for rank in case.einsum.operands[0].ranks for _, c in rank}
    assert ranks == {1, 2, 3}  # strides and dilations


def test_windows_shared_by_residual_branches_are_counted_exactly():
    """Factors overshoot while one fanout unrolls both dimensions of a sliding rank."""
    rng = random.Random(11)
    found = 0
    while found < 120:
        case = generate(rng, kind="conv", residual=True, work=300)
        if overshoots(case.problem, case.factors) and unrolls_a_diagonal(
            case.problem, case.factors, case.spatial
        ):
            found += 1
            assert_exact(case)


@pytest.mark.skipif(not os.environ.get("ARCHSIM_LONG"), reason="a minute; ARCHSIM_LONG=1 runs it")
def test_every_count_equals_the_walk_in_ten_thousand_cases():
    rng = random.Random(2026)
    for _ in range(10_000):
        assert_exact(generate(rng))


def test_rows_of_a_block_do_not_disturb_each_other():
    """Eight lanes, some residual, some not: each as if alone."""
    rng = random.Random(3)
    for _ in range(25):
        while len((first := generate(rng, kind="conv", work=4000)).spatial) < 3:
            pass
        slots, dims = len(first.spatial), len(first.problem.dims)
        rows = [first.factors]
        while len(rows) < 19:
            other = draw_factors(rng, first.problem, first.spatial.tolist(), rng.random() < 0.5)
            rows.append(other)
        factors = np.stack(rows).astype(np.float64)
        order = np.array([[rng.sample(range(dims), dims) for _ in range(slots)] for _ in rows])
        tables = random_engine(rng, slots)
        zero = np.zeros(1, np.int64)

        def run(factors, order, tables=tables, case=first, zero=zero):
            n = len(factors)
            results, counts = np.zeros((n, k.RESULTS)), np.zeros((n, len(case.spatial), 3, 3))
            k.evaluate_rows(
                zero, zero, case.problem.floats, case.problem.ints, factors, order,
                case.keep[None], case.spatial, False, *tables, results, counts,
            )  # fmt: skip
            return results, counts

        together = run(factors, order)
        for i in range(len(rows)):
            alone = run(factors[i : i + 1], order[i : i + 1])
            for a, b in zip(alone, together, strict=True):
                assert np.array_equal(a[0], b[i])
