"""Which operations become one step, and what a step reads and writes."""

from __future__ import annotations

import pytest
from system_graphs import SIZE, conv, graph, residual, vector, view

from archsim.system.fusion import plan_steps
from archsim.workload import available_workloads, load_workload


def shape(workload, fuse=True):
    """Steps as [leader, *fused]."""
    return [[s.name, *(op.name for op in s.fused)] for s in plan_steps(workload, fuse)]


def test_a_residual_addition_joins_the_later_branch_and_reads_the_earlier():
    steps = plan_steps(residual())
    assert shape(residual()) == [["first", "relu1"], ["second", "scale", "add", "relu2"]]
    assert steps[0].vector_ops == SIZE
    assert steps[0].read_elements == [0, 0]
    assert steps[1].vector_ops == 3 * SIZE
    assert steps[1].read_elements == [8, SIZE]  # the scale's weights, and the shortcut


def test_without_fusion_every_operation_is_a_step_that_reads_and_writes():
    steps = plan_steps(residual(), fuse=False)
    assert [s.name for s in steps] == ["first", "relu1", "second", "scale", "add", "relu2"]
    assert not any(s.fused for s in steps)
    add = steps[4]
    assert add.read_elements == [0, 2 * SIZE]
    assert add.written_elements == SIZE


def test_a_value_somebody_else_reads_too_is_not_fused():
    workload = graph(
        conv("first", "x", "a"), vector("relu", ["a"], "b"), vector("tanh", ["a"], "c")
    )
    assert shape(workload) == [["first"], ["relu"], ["tanh"]]


def test_a_value_added_to_itself_is_read_once():
    workload = graph(conv("first", "x", "a"), vector("twice", ["a", "a"], "b", "add"))
    (step,) = plan_steps(workload)
    assert [op.name for op in step.fused] == ["twice"]
    assert step.read_elements == [0, 0]
    alone = plan_steps(workload, fuse=False)[1]
    assert alone.read_elements == [0, SIZE]


def test_views_vanish_and_what_follows_is_fused_through_them():
    workload = graph(
        conv("first", "x", "a"),
        view("reshape", "a", "a2"),
        view("again", "a2", "a3"),
        vector("relu", ["a3"], "b"),
        view("last", "b", "c"),
    )
    assert shape(workload) == [["first", "relu"]]


def test_a_view_counts_as_the_value_it_shows():
    workload = graph(
        conv("first", "x", "a"),
        view("reshape", "a", "a2"),
        vector("relu", ["a"], "b"),
        vector("tanh", ["a2"], "c"),
    )
    assert shape(workload) == [["first"], ["relu"], ["tanh"]]


def test_what_is_not_fusable_is_a_step_of_its_own_and_hosts_what_follows():
    workload = graph(
        conv("first", "x", "a"),
        vector("softmax", ["a"], "b", "softmax", fusable=False, vector_ops=5 * SIZE),
        vector("relu", ["b"], "c"),
    )
    steps = plan_steps(workload)
    assert shape(workload) == [["first"], ["softmax", "relu"]]
    assert steps[1].vector_ops == 6 * SIZE
    assert steps[1].read_elements == [0, SIZE]
    assert steps[1].written_elements == SIZE


def test_nothing_is_fused_into_a_step_before_its_other_input_is_there():
    # The addition needs "c", made after "a"; it joins the later step even if named first.
    workload = graph(
        conv("first", "x", "a"), conv("second", "x", "c"), vector("add", ["a", "c"], "d", "add")
    )
    assert shape(workload) == [["first"], ["second", "add"]]
    # Here the later value is read by another, so the addition cannot join it nor the earlier one.
    workload = graph(
        conv("first", "x", "a"),
        conv("second", "x", "c"),
        vector("add", ["a", "c"], "d", "add"),
        vector("tanh", ["c"], "e"),
    )
    assert ["add"] in shape(workload)


@pytest.mark.parametrize("name", available_workloads())
def test_steps_of_shipped_networks_hold_every_operation_once_in_order(name):
    workload = load_workload(name)
    steps = plan_steps(workload)
    placed = [op.name for step in steps for op in (step.operation, *step.fused)]
    assert sorted(placed) == sorted(op.name for op in workload.operations if not op.view)
    assert sum(step.vector_ops for step in steps) == sum(
        op.vector_ops for op in workload.operations if op.einsum is None
    )
    # Executing the steps in order, everything is there when it is read.
    alias, there = {}, set()
    for op in workload.operations:
        if op.view:
            alias.update((out, op.inputs[0]) for out in op.outputs)

    def origin(tensor):
        while tensor in alias:
            tensor = alias[tensor]
        return tensor

    produced = {t for op in workload.operations if not op.view for t in op.outputs}
    for step in steps:
        for op in (step.operation, *step.fused):
            for tensor in map(origin, op.inputs):
                assert tensor in there or tensor not in produced, (step.name, tensor)
            there.update(op.outputs)
    fused = plan_steps(workload, fuse=False)
    assert sum(s.written_elements for s in fused) >= sum(s.written_elements for s in steps)
