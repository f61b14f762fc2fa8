"""Timeloop's files in every form, errors in them, and our mappings written and read back."""

from __future__ import annotations

from math import ceil

import numpy as np
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from archsim.cli import main
from archsim.errors import InputError
from archsim.hardware import load_machine, resolve
from archsim.inputs import parse_yaml
from archsim.models.loopnest import kernel as k
from archsim.models.loopnest.mapping import Mapping
from archsim.models.loopnest.nest import build_nest
from archsim.models.loopnest.problem import pack
from archsim.models.loopnest.timeloop import build_case, read_case, read_files
from archsim.models.loopnest.timeloop_inputs import TAGS, read_factors, read_permutation
from archsim.models.loopnest.timeloop_mapping import last_bounds
from archsim.models.loopnest.timeloop_write import SPACES, to_timeloop, write_timeloop
from archsim.workload.graph import conv2d_einsum

ARCHITECTURE = """
architecture:
  version: 0.4
  nodes:
  - !Container
    name: chip
    attributes: {technology: 40nm}
  - !Component
    name: DRAM
    class: DRAM
    attributes: {width: 64, datawidth: 8}
  - !Component
    name: buffer
    class: SRAM
    attributes: {depth: 1024, width: 64, datawidth: 8, read_bandwidth: 8}
  - !Container
    name: PE
    spatial: {meshX: 4}
  - !Parallel
    nodes:
    - !Component
      name: inputs
      class: regfile
      attributes: {depth: 4, width: 8, datawidth: 8}
      constraints: {dataspace: {keep: [Inputs]}}
    - !Component
      name: outputs
      class: regfile
      attributes: {depth: 16, width: 16, datawidth: 16}
      constraints: {dataspace: {keep: [Outputs]}}
  - !Component
    name: mac
    class: intmac
"""
PROBLEM = """
problem:
  version: 0.4
  shape:
    name: conv
    dimensions: [K, R, P]
    data_spaces:
    - {name: Weights, projection: [[[K]], [[R]]]}
    - {name: Inputs, projection: [[[R], [P, step]]]}
    - {name: Outputs, projection: [[[K]], [[P]]], read_write: true}
    coefficients: [{name: step, default: 1}]
  instance: {K: 8, R: 3, P: 16, step: 1}
"""
MAPPING = """
mapping:
- {target: DRAM, type: temporal, factors: K=2 R=1 P=1, permutation: PRK}
- {target: buffer, type: temporal, factors: [R=3, P=3], permutation: [P, R, K]}
- {target: PE, type: spatial, factors: K4, permutation: K}
- {target: outputs, type: temporal, factors: "P6,4", permutation: P}
- {target: buffer, type: dataspace, keep: [Inputs], bypass: [Weights, Outputs]}
"""
ERT = """
ERT:
  version: 0.4
  tables:
  - {name: "chip.DRAM[1..1]", actions: [{name: read, energy: 512}, {name: write, energy: 512}]}
  - name: chip.buffer[1..1]
    actions: [{name: read, energy: 6}, {name: write, energy: 5}, {name: update, energy: 7}]
  - {name: "chip.inputs[1..4]", actions: [{name: read, energy: 1}, {name: write, energy: 1}]}
  - {name: "chip.outputs[1..4]", actions: [{name: read, energy: 1}, {name: write, energy: 2}]}
  - {name: "chip.mac[1..4]", actions: [{name: compute, energy: 0.5}]}
"""


def write(tmp_path, **changed):
    texts = {"arch": ARCHITECTURE, "prob": PROBLEM, "map": MAPPING, "ert": ERT} | changed
    paths = []
    for name, text in texts.items():
        if text is not None:
            paths.append(tmp_path / f"{name}.yaml")
            paths[-1].write_text(text, encoding="utf-8")
    return paths


def test_a_users_files_are_read_in_any_order(tmp_path):
    files = write(tmp_path)
    case = read_files(files)
    assert case.level_names == ("DRAM", "buffer", "inter_PE_spatial", "inputs", "outputs")
    found = case.evaluate()
    assert found == read_files(files[::-1]).evaluate()
    levels = {level.name: level for level in found.levels}
    assert set(levels["inputs"].reads) == {"Inputs"}
    assert levels["outputs"].instances == 4
    # 16 outputs in tiles of 6, 6, 4: exact by default, full tiles as Timeloop charges them.
    assert found.cycles == 2 * 3 * 16
    assert case.evaluate("timeloop").cycles == 2 * 3 * 18
    assert levels["DRAM"].updates["Outputs"] == 8 * 16 * 3
    # 16-bit words of the outputs, one to an access; 8 accumulations each.
    assert levels["outputs"].updates["Outputs"] == 8 * 16 * 3
    assert found.mac_energy_pj == pytest.approx(0.5 * 8 * 3 * 16)
    assert found.energy_pj == pytest.approx(
        sum(level.energy_pj for level in found.levels) + found.mac_energy_pj
    )


def test_updates_have_a_price_of_their_own(tmp_path):
    keep = MAPPING.replace("keep: [Inputs], bypass: [Weights, Outputs]", "keep: [Outputs]")
    cheap = ERT.replace("{name: update, energy: 7}", "{name: update, energy: 5}")
    dear = read_files(write(tmp_path, map=keep)).evaluate()
    same = read_files(write(tmp_path, map=keep, ert=cheap)).evaluate()
    assert dear.energy_pj > same.energy_pj


def test_without_an_energy_table_there_are_counts_and_no_energy(tmp_path, capsys):
    files = write(tmp_path, ert=None)[:3]
    assert main(["timeloop", *map(str, files)]) == 0
    assert "no file has an energy table" in capsys.readouterr().out
    assert main(["timeloop", "--json", *map(str, files)]) == 0
    assert yaml.safe_load(capsys.readouterr().out)["energy_pj"] is None


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"map": None}, "no 'mapping' block"),
        ({"ert": PROBLEM}, "second 'problem'"),
        ({"ert": "x: 1"}, "holds nothing"),
        ({"ert": ERT.replace("chip.buffer", "chip.bufer")}, "no ERT table"),
        ({"ert": ERT.replace("compute", "go")}, "compute or mac_random"),
        ({"ert": ERT.replace("energy: 6", "energy: many")}, "without an energy"),
        ({"arch": ARCHITECTURE.replace("!Parallel", "!Perpendicular")}, "unknown tag"),
        ({"arch": ARCHITECTURE.replace("meshX: 4", "meshX: 0")}, "positive integer"),
        ({"arch": ARCHITECTURE.replace("meshX: 4", "meshX: 2")}, "more instances"),
        ({"arch": ARCHITECTURE.replace("intmac", "nothing")}, "arithmetic"),
        ({"arch": ARCHITECTURE.replace("keep: [Inputs]", "keep: [Input]")}, "no such data space"),
        ({"map": MAPPING.replace("target: PE", "target: PF")}, "unknown mapping target"),
        ({"map": MAPPING.replace("type: spatial", "type: special")}, "unknown mapping directive"),
        ({"map": MAPPING.replace("P6,4", "P6,5")}, "last bounds"),
        ({"map": MAPPING.replace("P6,4", "P5")}, "do not cover"),
        ({"map": MAPPING.replace("K4", "Z4")}, "no such dimension"),
        ({"map": MAPPING.replace("K4", "4K")}, "not understood"),
        ({"map": MAPPING.replace("permutation: PRK", "permutation: PXK")}, "permutation"),
        ({"map": MAPPING.replace("[Weights, Outputs]", "[Weight]")}, "no such data space"),
        ({"map": "mapping: 3"}, "malformed"),
        ({"prob": PROBLEM.replace("K: 8", "K: 0")}, "positive integer"),
    ],
)
def test_broken_files_are_named(tmp_path, changed, message):
    with pytest.raises(InputError, match=message):
        read_files(write(tmp_path, **changed)).evaluate()


def places(data, path=()):
    if path:
        yield path
    keys = (
        list(data) if isinstance(data, dict) else range(len(data) if isinstance(data, list) else 0)
    )
    for key in keys:
        yield from places(data[key], (*path, key))


@given(st.randoms(use_true_random=False), st.integers(0, 3))
@settings(max_examples=200, deadline=None)
def test_a_damaged_document_is_an_input_error_or_means_something(random, which):
    documents = [parse_yaml(text, "x", TAGS) for text in (ARCHITECTURE, PROBLEM, MAPPING, ERT)]
    *path, last = random.choice(list(places(documents[which])))
    parent = documents[which]
    for key in path:
        parent = parent[key]
    if random.random() < 0.3:
        del parent[last]
    else:
        parent[last] = random.choice(
            [None, 3, -1, 0, 1.5, "x", "", [], {}, [1], {"a": 1}, True, float("inf"), 10**30]
        )
    sources = ("architecture", "problem", "mapping", "ERT")
    arguments = [part for pair in zip(documents, sources, strict=True) for part in pair]
    try:
        found = build_case(*arguments).evaluate()
    except InputError:
        return
    assert np.isfinite(found.energy_pj)
    assert found.cycles >= 1


def test_unknown_compat_is_refused(tmp_path):
    with pytest.raises(InputError, match="compat"):
        read_files(write(tmp_path)).evaluate("v5")


def test_factors_and_permutations_in_every_spelling():
    wanted = [("C", 4, 4), ("P", 6, 4)]
    for text in ("C4 P6,4", "C=4 P=6,4", "C=4, P=6,4", "C = 4  P = 6, 4", ["C=4", "P=6,4"]):
        assert read_factors(text, "here") == wanted
    for text in ("PRK", "P R K", "P,R,K", ["P", "R", "K"]):
        assert read_permutation(text, "KRP", "here") == ["P", "R", "K"]


@given(st.lists(st.integers(1, 5), min_size=1, max_size=4), st.data())
@settings(max_examples=100, deadline=None)
def test_last_bounds_give_the_extent(bounds, data):
    whole = int(np.prod(bounds))
    extent = data.draw(st.integers(whole - int(np.prod(bounds[1:])) + 1, whole))
    ends = last_bounds(bounds, extent)
    covered = 0
    for i, end in enumerate(ends):
        covered += (end - 1) * int(np.prod(bounds[i + 1 :]))
    assert covered + 1 == extent
    assert all(1 <= end <= bound for end, bound in zip(ends, bounds, strict=True))


NESTS = {name: build_nest(resolve(load_machine(name))) for name in ("tiny", "eyeriss", "simba")}


@st.composite
def mapped(draw):
    """A machine, a convolution, and a mapping that covers it, with residual tiles."""
    nest = NESTS[draw(st.sampled_from(sorted(NESTS)))]
    stride, groups = draw(st.sampled_from((1, 2))), draw(st.sampled_from((1, 2)))
    einsum = conv2d_einsum(
        "i", "w", "o", batch=1, groups=groups, out_channels=groups * draw(st.integers(1, 6)),
        in_channels=groups * draw(st.integers(1, 5)),
        out_size=(draw(st.integers(1, 9)), draw(st.integers(1, 5))),
        kernel=(draw(st.integers(1, 3)), draw(st.integers(1, 3))), stride=(stride, stride),
    )  # fmt: skip
    problem = pack([einsum])
    slots, dims = len(nest.names), len(problem.dims)
    room = dict(zip(nest.fanout_slots.tolist(), nest.width[0].tolist(), strict=True))
    factors = np.ones((slots, dims), np.int64)
    for d in range(dims):
        left = int(problem.extents[0, d])
        for s in reversed(range(1, slots)):
            most = left
            if nest.fanout[s]:
                most = min(left, int(room[s] // factors[s].prod()))
            factors[s, d] = draw(st.integers(1, max(1, most)))
            left = ceil(left / factors[s, d])
        factors[0, d] = left
    order = np.array([draw(st.permutations(range(dims))) for _ in range(slots)])
    extents = tuple(int(e) for e in problem.extents[0])
    mapping = Mapping(nest.names, problem.dims, extents, nest.fanout, nest.keep[0], factors, order)
    return einsum, problem, nest, mapping


def counts_of(problem, nest, mapping):
    results, counts = np.zeros((1, k.RESULTS)), np.zeros((1, len(nest.names), 3, 3))
    zero = np.zeros(1, np.int64)
    # Copies: writable arrays have the type the reader's call has compiled for already.
    k.evaluate_rows(
        zero, zero, problem.floats, problem.ints, mapping.factors[None].astype(float),
        mapping.order[None].copy(), nest.keep.copy(), nest.fanout.copy(), False,
        nest.slot_table[:1].copy(), nest.engine[:1].copy(), results, counts,
    )  # fmt: skip
    return results[0], counts[0]


@given(mapped())
@settings(max_examples=120, deadline=None, suppress_health_check=list(HealthCheck))
def test_what_is_written_reads_back_to_the_same_counts(tmp_path_factory, case):
    einsum, problem, nest, mapping = case
    row, ours = counts_of(problem, nest, mapping)
    folder = tmp_path_factory.mktemp("timeloop")
    found = read_files(write_timeloop(to_timeloop(einsum, nest, mapping), folder)).evaluate()
    levels = {level.name: level for level in found.levels}
    for s, name in enumerate(nest.names):
        for t, space in enumerate(SPACES):
            if nest.fanout[s] or not mapping.keep[s, t]:
                continue
            theirs = (levels[name].reads, levels[name].fills, levels[name].updates)
            assert [one[space] for one in theirs] == pytest.approx(ours[s, t].tolist(), rel=1e-12)
    assert found.mac_energy_pj == pytest.approx(row[k.MAC_ENERGY_J] * 1e12)


def test_export_and_evaluation_by_the_command_line(tmp_path, capsys):
    from archsim.system import evaluate
    from archsim.workload import load_workload

    arguments = ["timeloop-export", "-w", "alexnet", "-m", "eyeriss", "--layer", "conv2"]
    assert main([*arguments, "-o", str(tmp_path)]) == 0
    files = sorted((tmp_path / "conv2").iterdir())
    assert [path.name for path in files] == sorted(
        f"{name}.yaml" for name in ("problem", "architecture", "mapping", "ERT")
    )
    capsys.readouterr()
    assert main(["timeloop", "--json", *map(str, files)]) == 0
    found = yaml.safe_load(capsys.readouterr().out)
    cost = evaluate(load_workload("alexnet"), load_machine("eyeriss"))
    layer = next(one for one in cost.layers if one.name == "conv2")
    # Ours include the latency of the first access to the tier.
    assert found["cycles"] <= layer.cycles <= found["cycles"] + 100
    ours = {(t.slot, t.operand): t for t in layer.traffic}
    glb = next(level for level in found["levels"] if level["name"] == "glb")
    assert glb["reads"]["Inputs"] == pytest.approx(ours["glb", "input"].reads)
    assert main([*arguments[:-1], "conv99", "-o", str(tmp_path)]) == 2
    assert "conv99" in capsys.readouterr().err


def test_another_machines_mapping_is_refused():
    nest, other = NESTS["tiny"], NESTS["eyeriss"]
    einsum = conv2d_einsum("i", "w", "o", batch=1, groups=1, out_channels=2, in_channels=2,
                           out_size=(2, 2), kernel=(1, 1))  # fmt: skip
    ones = np.ones((len(other.names), 4), np.int64)
    mapping = Mapping(other.names, ("M", "C", "P", "Q"), (2, 2, 2, 2), other.fanout,
                      other.keep[0], ones, ones)  # fmt: skip
    with pytest.raises(InputError, match="another machine"):
        to_timeloop(einsum, nest, mapping)


#: Cases whose stored run is of the architecture in ``source`` (that of case 3 was changed since).
SOURCES = {
    "1_conv1d_2level_ws": ("2level.arch", "conv1d.prob", "conv1d-2level-ws.map"),
    "2_conv1d_oc_3level_bypass": (
        "3level.arch", "conv1d+oc.prob", "conv1d+oc-3level-bypass.map",
    ),
}  # fmt: skip


@pytest.mark.refs
@pytest.mark.parametrize("name", sorted(SOURCES))
def test_source_and_processed_files_give_the_same(refs, name):
    folder = refs("timeloop") / name
    ert = next(folder.glob("*ERT.yaml"))
    source = [folder / "source" / f"{part}.yaml" for part in SOURCES[name]]
    processed = read_case(folder / "parsed-processed-input.yaml", ert)
    assert read_files([*source, ert]).evaluate() == processed.evaluate()


@pytest.mark.refs
def test_front_end_forms_of_the_mapper_cases_give_the_same(refs):
    folder = refs("timeloop") / "4_vgg_conv_eyeriss168"
    ert, mapping = folder / "timeloop-mapper.ERT.yaml", folder / "timeloop-mapper.map.yaml"
    source = folder / "source"
    found = read_files([source / "eyeriss_like.yaml", source / "VGG02_layer5.yaml", ert, mapping])
    processed = read_case(folder / "timeloop-model-input.yaml", ert, mapping)
    assert found.evaluate("timeloop") == processed.evaluate("timeloop")


@pytest.mark.refs
def test_the_sparse_case_reads_as_a_dense_one(refs):
    folder = refs("timeloop") / "6_sparse_spMspM_tiled"
    source = folder / "source"
    ert, mapping = folder / "timeloop-mapper.ERT.yaml", folder / "timeloop-mapper.map.yaml"
    found = read_files([source / "arch.yaml", source / "problem.yaml", ert, mapping])
    assert found.evaluate().cycles == 8**3
