"""Lanes: what is compiled does, lane by lane, what the same source does on NumPy arrays."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from archsim.models import lanes as ln
from archsim.models.jit import inner

NUMBERS = st.floats(-1e6, 1e6, allow_nan=False).map(lambda x: round(x, 3) + 0.0)
VECTORS = st.lists(NUMBERS, min_size=ln.LANES, max_size=ln.LANES).map(np.array)


@inner
def compute(values, out, number):
    a, b = ln.load(values, 0), ln.load(values, (1,))
    results = (
        a + b, a - number, number * b, a / ln.where(b == 0.0, 1.0, b), ln.round_up(a),
        ln.smaller(a, b), ln.larger(a, number), ln.spread(number),
        ln.where((a > b) | (a == number), a, 0.0), ln.where((a < b) & (b >= 1.0), number, b),
        ln.where(a != b, 1.0, ln.where(a <= 2.0, 2.0, 3.0)),
    )  # fmt: skip
    ln.store(out, 0, results[0])
    ln.store(out, 1, results[1])
    ln.store(out, 2, results[2])
    ln.store(out, 3, results[3])
    ln.store(out, 4, results[4])
    ln.store(out, 5, results[5])
    ln.store(out, 6, results[6])
    ln.store(out, 7, results[7])
    ln.store(out, 8, results[8])
    ln.store(out, 9, results[9])
    ln.store(out, 10, results[10])
    return ln.anywhere(a > b)


@inner
def fold(values):
    a = ln.load(values, 0)
    return ln.product(a), ln.largest(a)


@inner
def transpose(target, source, row, column):
    ln.bring(target, source, row, column)


@settings(deadline=None)
@given(VECTORS, VECTORS, NUMBERS)
def test_compiled_and_plain_agree(a, b, number):
    values = np.stack([a, b])
    out, plain = np.zeros((11, ln.LANES)), np.zeros((11, ln.LANES))
    assert compute(values, out, number) == compute.py_func(values, plain, number)
    assert out == pytest.approx(plain, rel=1e-15)
    assert out[4] == pytest.approx(np.ceil(a))


@given(VECTORS)
def test_lanes_fold_to_one_number(a):
    for run in (fold, fold.py_func):
        product, largest = run(a[None])
        assert product == pytest.approx(np.prod(a), rel=1e-14)
        assert largest == a.max()


@pytest.mark.parametrize("dtype", [np.float64, np.int64, np.int32, np.int8, np.float32])
def test_rows_become_lanes_whatever_their_type(dtype):
    source = np.arange(120).reshape(12, 10).astype(dtype)
    for run in (transpose, transpose.py_func):
        target = np.zeros((10, ln.LANES))
        run(target, source, 3, 5)
        assert np.array_equal(target[5:9], source[3 : 3 + ln.LANES, 5:9].T)
        assert not target[:5].any()
        assert not target[9:].any()
