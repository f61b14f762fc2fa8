"""SCALE-Sim topologies and Timeloop problems."""

import os
from pathlib import Path

import pytest

from archsim.errors import InputError
from archsim.workload import import_model, load_workload
from archsim.workload.timeloop import import_timeloop

HEADER = (
    "Layer name, IFMAP Height, IFMAP Width, Filter Height, Filter Width, Channels, Filters, S,\n"
)
REFS = Path(os.environ.get("ARCHSIM_REFS", Path(__file__).parents[3] / "shared" / "refs"))
needs_refs = pytest.mark.skipif(not REFS.is_dir(), reason="no reference data (set ARCHSIM_REFS)")


def topology(tmp_path, text):
    path = tmp_path / "net.csv"
    path.write_text(text)
    return path


def test_convolutions_of_a_topology(tmp_path):
    text = HEADER + "conv, 224, 224, 7, 7, 3, 64, 2,\n\nconv,9,8,1,1,70,33,1,2,\n"
    first, second = load_workload(topology(tmp_path, text)).operations
    # E = ceil((H - R + stride) / stride)
    assert first.einsum.extents == dict(N=1, G=1, M=64, C=3, P=110, Q=110, R=7, S=7)
    assert first.einsum.operands[0].ranks[3] == (("P", 2), ("R", 1))
    assert second.name == "conv_2"
    assert second.einsum.extents == dict(N=1, G=1, M=33, C=70, P=9, Q=5, R=1, S=1)


def test_matrix_products_of_a_topology(tmp_path):
    workload = load_workload(topology(tmp_path, "Layer, M, N, K,\nffn, 128, 3072, 768,\n"))
    assert workload.operations[0].einsum.extents == dict(N=1, P=128, M=3072, C=768)
    assert workload.parameters == 3072 * 768


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("conv,224,224,7,7,3,64,2", "Layer name"),
        (HEADER, "no layer"),
        (HEADER + "conv,224,224,7,7,3,64", "line 2"),
        (HEADER + "conv,224,x,7,7,3,64,1", "line 2, IFMAP width"),
        (HEADER + "conv,224,224,7,7,3,64,0", "stride"),
        (HEADER + "conv,4,4,7,7,3,64,1", "larger"),
        (HEADER + "conv,4,4,7,7,-3,64,1", "channels"),
    ],
)
def test_a_mistake_in_a_topology_is_named(text, words, tmp_path):
    with pytest.raises(InputError, match=words):
        import_model(topology(tmp_path, text))


PROBLEM = """
problem:
  version: "0.4"
  instance: {C: 3, M: 32, N: 1, P: 112, Q: 112, R: 3, S: 3, Wstride: 2, Hstride: 2,
             densities: {Weights: 0.5, Inputs: {distribution: fixed_structured, density: 0.25}}}
  shape:
    name: conv
    dimensions: [C, M, R, S, N, P, Q]
    coefficients:
      - {name: Wstride, default: 1}
      - {name: Hstride, default: 1}
      - {name: Wdilation, default: 1}
    data-spaces:
      - {name: Weights, projection: [[[C]], [[M]], [[R]], [[S]]]}
      - name: Inputs
        projection: [[[N]], [[C]], [[R, Wdilation], [P, Wstride]], [[S], [Q, Hstride]]]
      - {name: Outputs, projection: [[[N]], [[M]], [[Q]], [[P]]], read-write: true}
"""


def problem(tmp_path, text=PROBLEM):
    path = tmp_path / "problem.yaml"
    path.write_text(text)
    return path


def test_a_timeloop_problem(tmp_path):
    found = import_timeloop(problem(tmp_path))
    assert found.operands == {"Inputs": "input", "Weights": "weight", "Outputs": "output"}
    assert [a.tensor for a in found.einsum.operands] == ["Inputs", "Weights", "Outputs"]
    assert found.einsum.operands[0].ranks[2:] == (
        (("R", 1), ("P", 2)),
        (("S", 1), ("Q", 2)),
    )
    assert found.workload.macs == 3 * 32 * 9 * 112 * 112
    tensors = found.workload.tensors
    assert tensors["Inputs"].shape == (1, 3, 225, 225)
    assert tensors["Weights"].density == 0.5
    assert tensors["Inputs"].density == 0.25
    assert load_workload(tmp_path / "problem.yaml") == found.workload


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("C: 3,", "", "instance.C"),
        ("C: 3,", "C: 0,", "instance.C"),
        ("read-write: true", "read-write: false", "read_write"),
        ("[[[C]], [[M]]", "[[[X]], [[M]]", "one dimension"),
        ("[R, Wdilation]", "[R, Wnothing]", "no such coefficient"),
        ("dimensions: [C, M, R, S, N, P, Q]", "dimensions: 7", "dimensions"),
        ("name: Inputs", "name: Weights", "different names"),
        ("problem:", "other:", "tensors|name|other"),
        ("Wstride: 2,", "Wstride: -2,", "Wstride"),
        ("Weights: 0.5", "Weights: 7.5", "density"),
    ],
)
def test_a_mistake_in_a_problem_is_named(old, new, words, tmp_path):
    assert old in PROBLEM
    with pytest.raises(InputError, match=words):
        load_workload(problem(tmp_path, PROBLEM.replace(old, new, 1)))


@pytest.mark.refs
@needs_refs
def test_reference_problems_have_the_macs_timeloop_counted():
    import json

    seen = 0
    for folder in sorted((REFS / "timeloop").iterdir()):
        found = import_timeloop(folder / "parsed-processed-input.yaml")
        for name in ("stats-HEAD.json", "stats.json"):
            if (folder / name).exists():
                text = json.dumps(json.loads((folder / name).read_text()))
                assert str(found.workload.macs) in text, folder.name
                seen += 1
                break
    assert seen >= 6


@pytest.mark.refs
@needs_refs
def test_reference_topologies_import():
    for path in sorted((REFS / "scalesim" / "topologies").glob("*.csv")):
        assert load_workload(path).macs > 0
    # Conv1 of ResNet-18 in SCALE-Sim: 109 rows of 7x7 windows at stride 2, unpadded, by ceil
    first = load_workload(REFS / "scalesim" / "topologies" / "resnet18.csv").operations[0]
    assert first.einsum.extents["P"] == -(-(224 - 7 + 2) // 2)
