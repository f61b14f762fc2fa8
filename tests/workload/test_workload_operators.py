"""The cost table: what is counted, and what has no cost."""

import doctest

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import archsim.workload.operators as operators
from archsim.errors import InputError
from archsim.workload.operators import (
    VECTOR_KINDS,
    broadcast,
    einsum_sizes,
    matmul_shape,
    vector_ops,
    window_of,
    window_positions,
)


def test_examples_in_the_documentation_hold():
    assert doctest.testmod(operators).failed == 0


@pytest.mark.parametrize(
    ("kind", "inputs", "output", "window", "ops"),
    [
        ("relu", [(2, 3)], (2, 3), None, 6),
        ("add", [(2, 3), (3,)], (2, 3), None, 6),
        ("add", [(2, 3)] * 3, (2, 3), None, 12),
        ("mul", [(2, 3)], (2, 3), None, 6),  # by a number
        ("bias_add", [(1, 4, 2, 2), (4,)], (1, 4, 2, 2), None, 16),
        ("batch_norm", [(1, 4, 2, 2)], (1, 4, 2, 2), None, 32),
        ("max_pool", [(1, 1, 4, 4)], (1, 1, 2, 2), 4, 16),
        ("avg_pool", [(1, 1, 4, 4)], (1, 1, 2, 2), 4, 20),
        ("global_avg_pool", [(1, 2, 4, 4)], (1, 2, 1, 1), None, 34),
        ("reduce_sum", [(5, 6)], (5,), None, 30),
        ("softmax", [(5, 6)], (5, 6), None, 150),
        ("concat", [(2,), (3,)], (5,), None, 0),
        ("reshape", [(6,)], (2, 3), None, 0),
    ],
)
def test_counts(kind, inputs, output, window, ops):
    assert vector_ops(kind, inputs, output, window) == ops


@given(st.sampled_from(sorted(VECTOR_KINDS)), st.integers(1, 50))
def test_a_window_is_found_again(kind, window):
    shapes, output = [(2, 3, 8, 8)], (2, 3, 4, 4)
    ops = vector_ops(kind, shapes, output, window)
    assert ops >= 0
    if VECTOR_KINDS[kind].per_window:
        assert window_of(kind, shapes, output, ops) == window
        with pytest.raises(InputError, match="window"):
            vector_ops(kind, shapes, output)
    else:
        assert window_of(kind, shapes, output, ops) == 0


def test_views_compute_nothing_and_moves_are_not_fusable():
    for kind, cost in VECTOR_KINDS.items():
        if cost.view:
            assert vector_ops(kind, [(4, 4)], (16,)) == 0
            assert not cost.fusable


def test_an_unknown_kind_has_no_cost():
    with pytest.raises(InputError, match="no cost"):
        vector_ops("fft", [(4,)], (4,))


SHAPES = st.lists(st.sampled_from([1, 2, 3]), max_size=3).map(tuple)


@given(SHAPES, SHAPES)
def test_broadcast_agrees_with_numpy(a, b):
    try:
        expected = np.broadcast_shapes(a, b)
    except ValueError:
        with pytest.raises(InputError):
            broadcast(a, b)
    else:
        assert broadcast(a, b) == expected


@given(SHAPES.filter(bool), SHAPES.filter(bool))
def test_matmul_shape_agrees_with_numpy(a, b):
    try:
        expected = (np.zeros(a) @ np.zeros(b)).shape
    except ValueError:
        with pytest.raises(InputError):
            matmul_shape(a, b)
    else:
        assert matmul_shape(a, b) == expected


@given(*(st.integers(*bounds) for bounds in [(1, 20), (1, 4), (1, 3), (1, 3), (0, 3), (0, 3)]))
def test_window_positions_agree_with_counting(size, kernel, stride, dilation, before, after):
    reach = dilation * (kernel - 1)
    starts = [
        p for p in range(0, size + before + after, stride) if p + reach < size + before + after
    ]
    if not starts:
        with pytest.raises(InputError):
            window_positions(size, kernel, stride, dilation, (before, after))
    else:
        assert window_positions(size, kernel, stride, dilation, (before, after)) == len(starts)


@pytest.mark.parametrize("equation", ["ij,jk->ik", "bij,bkj->bik", "bqhd,bkhd->bhqk"])
def test_einsum_equations_agree_with_numpy(equation):
    extent = dict(zip("bijkqhd", (2, 3, 4, 5, 3, 2, 6), strict=True))
    left = equation.split("->")[0]
    a, b = (np.zeros([extent[label] for label in term]) for term in left.split(","))
    sizes, shape = einsum_sizes(equation, a.shape, b.shape)
    assert shape == np.einsum(equation, a, b).shape
    macs = int(np.prod([extent[label] for label in set(equation) & set(extent)]))
    assert sizes["groups"] * sizes["rows"] * sizes["inner"] * sizes["columns"] == macs


@pytest.mark.parametrize("equation", ["ij->i", "ii,ij->j", "ij,jk", "ijl,jk->ik", "...j,jk->...k"])
def test_other_einsum_equations_are_refused(equation):
    with pytest.raises(InputError):
        einsum_sizes(equation, (2, 2), (2, 2))


def test_a_gate_computed_from_the_whole_of_its_data_cannot_be_fused():
    from archsim.workload.builder import Builder

    builder = Builder("gate")
    x = builder.tensor("x", (1, 4, 2, 2), role="input")
    for name, shape in (("a", (1, 4, 2, 2)), ("g", (1, 4, 1, 1)), ("y", (1, 4, 2, 2))):
        builder.tensor(name, shape)
    builder.tensor("z", (1, 4, 2, 2))
    builder.vector("a", "relu", [x], ("a",))
    builder.vector("g", "global_avg_pool", ["a"], ("g",))
    builder.vector("y", "mul", ["g", "a"], ("y",))
    builder.vector("z", "add", ["a", "y"], ("z",))
    relu, pool, gate, residual = builder.operations
    assert relu.fusable
    assert not pool.fusable
    assert gate.inputs == ("a", "g")
    assert not gate.fusable  # the pool needs all of a before y can begin
    assert residual.inputs == ("y", "a")
    assert residual.fusable
