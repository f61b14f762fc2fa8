"""Damaged files end in an InputError: no other exception, no hang, no other file read."""

import random
from pathlib import Path

import pytest

from archsim.errors import InputError
from archsim.workload import available_workloads, import_model, load_workload
from archsim.workload.library import shipped_folder


def mutations(data: bytes, count: int, seed: int):
    """Truncated, flipped, spliced and repeated versions of a file."""
    rng = random.Random(seed)
    for index in range(count):
        damaged = bytearray(data)
        if index % 4 == 0:
            del damaged[rng.randrange(len(damaged)) :]
        for _ in range(rng.randrange(1, 8)):
            if not damaged:
                break
            place = rng.randrange(len(damaged))
            way = rng.randrange(4)
            if way == 0:
                damaged[place] = rng.randrange(256)
            elif way == 1:
                del damaged[place : place + rng.randrange(1, 40)]
            elif way == 2:
                start = rng.randrange(len(damaged))
                damaged[place:place] = damaged[start : start + rng.randrange(1, 60)]
            else:
                damaged[place] ^= 1 << rng.randrange(8)
        yield bytes(damaged)


def survives(path: Path, data: bytes) -> bool:
    """True if the file still imports, False for an InputError; anything else is a failure."""
    path.write_bytes(data)
    refusal = None
    try:
        import_model(path)
    except InputError as error:
        refusal = str(error)
    assert refusal is None or (str(path) in refusal and len(refusal) < 2000)
    return refusal is None


@pytest.mark.parametrize("name", ["bvlc_alexnet", "squeezenet", "shufflenet"])
def test_damaged_onnx_models(name, tmp_path):
    onnx = pytest.importorskip("onnx")
    folder = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"
    data = (folder / f"light_{name}.onnx").read_bytes()
    count = {"bvlc_alexnet": 300, "squeezenet": 100, "shufflenet": 40}[name]
    path = tmp_path / "damaged.onnx"
    refused = sum(not survives(path, version) for version in mutations(data, count, 1))
    assert refused > count / 3


@pytest.mark.parametrize("name", ["alexnet", "mobilenet_v2", "bert_base"])
def test_damaged_yaml_workloads(name, tmp_path):
    data = (shipped_folder() / f"{name}.yaml").read_bytes()
    count = {"alexnet": 300}.get(name, 30)
    path = tmp_path / "damaged.yaml"
    refused = sum(not survives(path, version) for version in mutations(data, count, 2))
    assert refused > count / 3


def test_damaged_topologies_and_problems(tmp_path):
    topology = (
        b"Layer name, H, W, R, S, C, M, Strides,\nConv1,224,224,7,7,3,64,2,\nfc,1,1,1,1,9,9,1,"
    )
    for version in mutations(topology, 300, 3):
        survives(tmp_path / "damaged.csv", version)
    problem = (
        b"problem:\n  instance: {C: 2, P: 3, R: 3, s: 2}\n  shape:\n    name: x\n"
        b"    coefficients: [{name: s, default: 1}]\n    dimensions: [C, P, R]\n"
        b"    data_spaces:\n      - {name: W, projection: [[[C]], [[R]]]}\n"
        b"      - {name: I, projection: [[[C]], [[P, s], [R]]]}\n"
        b"      - {name: O, projection: [[[P]]], read_write: true}\n"
    )
    assert survives(tmp_path / "damaged.yaml", problem)
    for version in mutations(problem, 300, 4):
        survives(tmp_path / "damaged.yaml", version)


@pytest.mark.parametrize("suffix", [".onnx", ".yaml", ".csv"])
@pytest.mark.parametrize("data", [b"", b"\0" * 100, b"\xff\xfe\xfd", b"hello", b"PK\x03\x04"])
def test_foreign_files(suffix, data, tmp_path):
    if suffix == ".onnx":
        pytest.importorskip("onnx")
    assert not survives(tmp_path / f"foreign{suffix}", data)


def test_missing_files_and_folders(tmp_path):
    for suffix in (".onnx", ".yaml", ".csv"):
        with pytest.raises(InputError):
            import_model(tmp_path / f"missing{suffix}")
        folder = tmp_path / f"folder{suffix}"
        folder.mkdir()
        with pytest.raises(InputError):
            import_model(folder)
    with pytest.raises(InputError):
        load_workload("../secret")
    assert available_workloads()


NUMBERS = (0, 1, -1, 2, 7, 2**31, -(2**31), 2**62, -(2**63))


def meddle(proto, rng, operators):
    """Change a well-formed model into one that is well-formed as a message only."""
    graph = proto.graph
    node = rng.choice(graph.node)
    way = rng.randrange(9)
    if way == 0:
        node.op_type = rng.choice(operators)
    elif way == 1 and node.attribute:
        attribute = rng.choice(node.attribute)
        attribute.i = rng.choice(NUMBERS)
        for index in range(len(attribute.ints)):
            attribute.ints[index] = rng.choice(NUMBERS)
    elif way == 2 and node.attribute:
        rng.choice(node.attribute).type = rng.randrange(15)
    elif way == 3 and node.attribute:
        rng.choice(node.attribute).name = rng.choice(["axis", "pads", "group", "strides", "perm"])
    elif way == 4 and node.input:
        other = rng.choice(graph.node)
        node.input[rng.randrange(len(node.input))] = rng.choice([*other.output, *other.input, ""])
    elif way == 5 and graph.initializer:
        tensor = rng.choice(graph.initializer)
        if tensor.dims:
            tensor.dims[rng.randrange(len(tensor.dims))] = rng.choice(NUMBERS)
    elif way == 6 and graph.initializer:
        tensor = rng.choice(graph.initializer)
        tensor.data_type = rng.randrange(30)
        tensor.raw_data = rng.randbytes(rng.randrange(40))
    elif way == 7:
        shape = rng.choice(graph.input).type.tensor_type.shape
        if shape.dim:
            rng.choice(shape.dim).dim_value = rng.choice(NUMBERS)
    else:
        del graph.node[rng.randrange(len(graph.node))]


@pytest.mark.parametrize(("name", "count"), [("bvlc_alexnet", 300), ("shufflenet", 40)])
def test_meddled_onnx_models(name, count, tmp_path):
    onnx = pytest.importorskip("onnx")
    from archsim.workload.onnx import HANDLERS

    folder = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"
    original = onnx.load(folder / f"light_{name}.onnx", load_external_data=False)
    operators = [*sorted(HANDLERS), "Constant", "If", "LSTM", "NoSuchThing"]
    rng = random.Random(5)
    refused = 0
    for _ in range(count):
        proto = onnx.ModelProto()
        proto.CopyFrom(original)
        for _ in range(rng.randrange(1, 4)):
            meddle(proto, rng, operators)
        refused += not survives(tmp_path / "meddled.onnx", proto.SerializeToString())
    assert refused > count / 3
