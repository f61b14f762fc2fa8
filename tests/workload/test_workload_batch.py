"""Changing the batch multiplies exactly what grows with it."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from workload_strategies import network

from archsim.errors import InputError
from archsim.workload import (
    Operation,
    Tensor,
    Workload,
    available_workloads,
    load_workload,
    rebatch,
)
from archsim.workload.batch import infer_batch
from archsim.workload.graph import matmul_einsum


@pytest.mark.parametrize("name", available_workloads())
def test_shipped_networks_scale(name):
    one, eight = load_workload(name), load_workload(name, batch=8)
    assert eight.batch == 8
    assert eight.macs == 8 * one.macs
    assert eight.parameters == one.parameters
    assert rebatch(eight, 1) == one
    for op, more in zip(one.operations, eight.operations, strict=True):
        grows = any(one.tensors[t].batch_axis is not None for t in op.outputs)
        assert more.vector_ops == op.vector_ops * (8 if grows else 1)
    assert eight.tensors["data" if "data" in one.tensors else next(iter(one.tensors))]


def test_attention_grows_along_the_independent_products():
    workload = load_workload("bert_base", batch=3)
    scores = next(op for op in workload.operations if op.kind == "matmul")
    assert scores.einsum.extents == {"G": 36, "M": 128, "C": 64, "P": 128}
    linear = next(op for op in workload.operations if op.kind == "gemm")
    assert linear.einsum.extents == {"N": 3, "M": 2304, "C": 768, "P": 128}


@settings(max_examples=50, deadline=None)
@given(network(), st.integers(1, 6))
def test_batch_axes_are_found_from_two_builds(workload, batch):
    tensors = {
        n: Tensor(n, t.shape, t.bits, t.role, t.density, 0 if t.role != "weight" else None)
        for n, t in workload.tensors.items()
    }
    tensors = {
        n: t if t.shape[0] == 2 and t.role not in ("weight", "constant") else workload.tensors[n]
        for n, t in tensors.items()
    }
    known = Workload("net", tensors, workload.operations, batch=2)
    other = rebatch(known, 2 * batch + 1)
    bare = {n: Tensor(n, t.shape, t.bits, t.role) for n, t in other.tensors.items()}
    second = Workload("net", bare, other.operations)
    assert infer_batch(workload, 2, second, 2 * batch + 1) == known


def test_a_graph_without_batch_cannot_be_rescaled():
    workload = Workload("w", {"a": Tensor("a", (2,))}, ())
    with pytest.raises(InputError, match="no symbolic batch"):
        rebatch(workload, 2)


@pytest.mark.parametrize("batch", [0, -1, True, 1.5, 1 << 30])
def test_senseless_batches_are_refused(batch):
    with pytest.raises(InputError, match="batch"):
        load_workload("alexnet", batch=batch)


def test_what_does_not_divide_is_refused():
    tensors = {n: Tensor(n, (4,), batch_axis=0) for n in "ab"}
    op = Operation("odd", "relu", ("a",), ("b",), vector_ops=3)
    with pytest.raises(InputError, match="odd"):
        rebatch(Workload("w", tensors, (op,), batch=4), 1)


def test_a_batch_squared_is_refused():
    def similarity(n):
        tensors = {"x": Tensor("x", (n, 8)), "y": Tensor("y", (n, n))}
        einsum = matmul_einsum("x", "x", "y", rows=n, inner=8, columns=n)
        return Workload("clip", tensors, (Operation("s", "gemm", ("x", "x"), ("y",), einsum),))

    with pytest.raises(InputError, match="more than one axis"):
        infer_batch(similarity(5), 5, similarity(7), 7)


def test_batch_axis_must_fit():
    with pytest.raises(InputError, match="batch axis"):
        Tensor("a", (2,), batch_axis=1)
    with pytest.raises(InputError, match="multiple"):
        Workload("w", {"a": Tensor("a", (3,), batch_axis=0)}, (), batch=2)
    with pytest.raises(InputError, match="batch must be positive"):
        Workload("w", {}, (), batch=0)
