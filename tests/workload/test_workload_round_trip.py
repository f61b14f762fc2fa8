"""Writing a workload and reading it back gives the same workload, always."""

import pytest
from hypothesis import given, settings
from workload_strategies import any_workload, network

from archsim.errors import InputError
from archsim.workload import available_workloads, load_workload, save_workload
from archsim.workload.yaml_form import loads
from archsim.workload.yaml_write import dumps


@settings(max_examples=250, deadline=None)
@given(any_workload())
def test_any_workload_survives(workload):
    text = dumps(workload)
    assert loads(text) == workload
    assert dumps(loads(text)) == text


@settings(max_examples=100, deadline=None)
@given(network())
def test_layers_survive_and_are_written_by_their_parameters(workload):
    text = dumps(workload)
    assert loads(text) == workload
    assert "einsum" not in text
    assert "ops:" not in text


@pytest.mark.parametrize("name", available_workloads())
def test_shipped_workloads_survive_and_are_small(name, tmp_path):
    workload = load_workload(name)
    path = tmp_path / "copy.yaml"
    save_workload(workload, path)
    assert load_workload(path) == workload
    assert path.stat().st_size < 300_000


def test_a_person_can_write_one_by_hand():
    workload = loads(
        """
        name: tiny
        batch: 4
        bits: 8
        tensors:
          image: {shape: [N, 3, 32, 32], role: input}
        operations:
          - {name: conv1, kind: conv2d, in: image, bias: b1, channels: [3, 16], kernel: 3, size: 32}
          - {name: relu1, kind: relu, in: conv1}
          - {name: pool, kind: max_pool, in: relu1, shape: [N, 16, 16, 16], window: 4}
          - {name: flat, kind: flatten, in: pool, shape: [N, 4096]}
          - {name: fc, kind: gemm, in: flat, inner: 4096, columns: 10}
          - {name: custom, kind: my_op, in: fc, ops: 77}
        outputs: [custom]
        """
    )
    assert workload.macs == 4 * (32 * 32 * 16 * 27 + 40960)
    assert workload.parameters == 16 * 27 + 16 + 40960
    assert [op.name for op in workload.operations][:3] == ["conv1", "conv1.bias", "relu1"]
    assert workload.operations[1].fusable
    assert workload.tensors["conv1.weight"].shape == (16, 3, 3, 3)
    assert workload.tensors["conv1"].shape == (4, 16, 32, 32)
    assert workload.tensors["conv1"].bits == 8
    assert workload.tensors["custom"].role == "output"
    assert workload.operations[3].vector_ops == 4 * 4 * 16 * 256
    assert workload.operations[-1].vector_ops == 77


HEADER = "name: x\nbatch: 1\ntensors: {a: {shape: [N, 4], role: input}}\noperations:\n"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("operations: []", ["name"]),
        ("name: x\noperations: []\nspeed: 3", ["speed"]),
        ("name: x\ntensors: {a: {shape: [N]}}\noperations: []", ["a", "batch"]),
        ("name: x\nbatch: 0\noperations: []", ["batch"]),
        ("name: x\ntensors: {a: {shape: [0]}}\noperations: []", ["tensors.a.shape"]),
        ("name: x\ntensors: {a: {shape: [2.5]}}\noperations: []", ["tensors.a.shape"]),
        (HEADER + "  - {name: y, kind: relu}", ["in"]),
        (HEADER + "  - {name: y, kind: relu, in: nowhere}", ["nowhere", "y"]),
        (HEADER + "  - {name: y, kind: unheard_of, in: a}", ["unheard_of", "y"]),
        (HEADER + "  - {name: y, kind: max_pool, in: a}", ["window"]),
        (HEADER + "  - {name: y, kind: gemm, in: a, inner: 4}", ["columns"]),
        (HEADER + "  - {name: y, kind: gemm, in: a, inner: 4, columns: -1}", ["columns"]),
        (
            HEADER + "  - {name: y, kind: conv2d, in: a, channels: [4, 3], kernel: 1, size: 1,"
            " groups: 2}",
            ["groups", "y"],
        ),
        (
            HEADER + "  - {name: y, kind: conv2d, in: a, channels: [4, 4], kernel: [1, 1, 1],"
            " size: 1}",
            ["kernel"],
        ),
        (
            HEADER + "  - {name: y, kind: z, in: a, einsum: {dims: {P: 2}, operands: [a, a, a]}}",
            ["y", "access"],
        ),
        (
            HEADER + "  - {name: y, kind: z, in: a, einsum: {dims: {P: 2},"
            " operands: ['a[Q]', 'a[P]', 'a[P]']}}",
            ["Q"],
        ),
        (HEADER + "  - {name: y, kind: relu, in: a}\noutputs: [z]", ["outputs", "z"]),
        (HEADER + "  - {name: y, kind: relu, in: a}\n  - {name: y, kind: relu, in: a}", ["y"]),
        ("[1, 2]", ["mapping"]),
        ("name: x\noperations: [1]", ["operations.0"]),
    ],
)
def test_a_mistake_is_named(text, words):
    with pytest.raises(InputError) as caught:
        loads(text, "file.yaml")
    for word in ["file.yaml", *words]:
        assert word in str(caught.value)


def test_unwritable_file_and_unknown_name_are_input_errors(tmp_path):
    workload = load_workload("alexnet")
    with pytest.raises(InputError, match="cannot write"):
        save_workload(workload, tmp_path / "no" / "such" / "folder.yaml")
    with pytest.raises(InputError, match="alexnet"):
        load_workload("alexnett")
    with pytest.raises(InputError, match="cannot read"):
        load_workload(tmp_path / "missing.yaml")
    with pytest.raises(InputError, match="unknown kind"):
        load_workload(tmp_path / "model.bin")
