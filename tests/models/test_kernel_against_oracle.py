"""The compiled kernel counts what a walk over the loop nest counts, to the word."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given, settings
from nest_strategies import (
    KINDS,
    cases,
    differing,
    generate,
    kernel_counts,
    oracle_counts,
    overshoots,
    unrolls_a_diagonal,
)


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


def test_the_one_approximation_is_small_and_only_about_inputs():
    """Residual factors while one fanout unrolls both dimensions of a sliding rank.

    Only the share of input reads that branches have in common is estimated there (from full
    windows); all else stays exact. The bounds hold the error where it was found to be.
    """
    rng = random.Random(11)
    errors = []
    while len(errors) < 120:
        case = generate(rng, kind="conv", residual=True, work=300, diagonal_residuals=True)
        if not (
            overshoots(case.problem, case.factors)
            and unrolls_a_diagonal(case.problem, case.factors, case.spatial)
        ):
            continue
        counts, cycles = kernel_counts(case)
        expected, steps = oracle_counts(case)
        assert cycles == steps
        assert np.array_equal(counts[:, 1:].round(6), expected[:, 1:])
        assert np.array_equal(counts[:, 0, 1].round(6), expected[:, 0, 1])
        reads, walked = counts[:, 0, 0], expected[:, 0, 0]
        error = np.abs(reads - walked).max() / max(walked.max(), 1.0)
        errors.append(error)
    print(f"median {np.median(errors):.2%}, 90 % below {np.quantile(errors, 0.9):.2%}, "
          f"worst {max(errors):.2%} of {len(errors)}")  # fmt: skip
    assert np.median(errors) < 0.05
    assert max(errors) < 0.5
