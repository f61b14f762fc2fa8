"""Machine files: what ships loads, paths address every value, and bad files give clear errors."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from pydantic import ValidationError

from archsim.errors import InputError
from archsim.hardware import (
    DATAFLOWS,
    SpatialEngine,
    Storage,
    VectorEngine,
    available_machines,
    load_machine,
    resolve,
)
from archsim.hardware.machine import MACHINES

SHIPPED = ("eyeriss", "gemmini", "nvdla", "shidiannao", "simba", "tiny", "tpu_v1")


def test_all_promised_machines_ship():
    assert set(SHIPPED) <= set(available_machines())


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_machine_loads_and_says_where_it_comes_from(name):
    machine = load_machine(name)
    assert machine.name == name
    assert len(machine.source) > 60
    assert any(isinstance(engine, VectorEngine) for engine in machine.engines)
    if name != "tiny":
        assert "ssumed" in machine.source, "must say what is assumed"
    assert resolve(machine).sound.all()


@pytest.mark.parametrize("name", SHIPPED)
def test_machine_survives_a_round_trip_through_its_file_form(name, tmp_path):
    machine = load_machine(name)
    path = tmp_path / "copy.yaml"
    path.write_text(yaml.safe_dump(machine.model_dump(mode="json")))
    assert load_machine(path) == machine


def test_published_sizes():
    eyeriss = resolve(load_machine("eyeriss"))
    assert eyeriss.macs[0] == 168
    assert eyeriss.capacity_bits[0, 1] == 100 * 1024 * 8
    assert eyeriss.capacity_bits[0, 4:].tolist() == [12 * 16, 224 * 16, 24 * 16]
    assert resolve(load_machine("nvdla")).macs[0] == 2048
    assert resolve(load_machine("shidiannao")).macs[0] == 64
    assert resolve(load_machine("simba")).macs[0] == 1024
    tpu = resolve(load_machine("tpu_v1"))
    assert 2 * tpu.macs[0] * tpu.clock_hz[0] == pytest.approx(92e12, rel=0.01)
    assert tpu.tier_bandwidth_bytes_per_s[0] == 34e9


def test_unknown_machine_names_near_ones():
    with pytest.raises(InputError, match="eyeriss"):
        load_machine("eyeris")
    with pytest.raises(InputError, match="cannot read file"):
        load_machine("no/such/file.yaml")


@pytest.mark.parametrize("name", SHIPPED)
def test_every_leaf_path_can_be_set_to_its_own_value(name):
    machine = load_machine(name)
    values = {path: leaf.value for path, leaf in machine.leaves().items()}
    assert machine.with_values(values) == machine


def test_with_values_changes_one_thing_and_leaves_the_original():
    machine = load_machine("eyeriss")
    changed = machine.with_values(
        {"engines.array.slots.rows.fanout": np.int64(6), "tiers.dram.kind": "HBM2"}
    )
    assert resolve(changed).macs[0] == 84
    assert changed.tiers[0].kind == "HBM2"
    assert resolve(machine).macs[0] == 168


@pytest.mark.parametrize(
    ("path", "near"),
    [
        ("engines.array.slots.glb.capacity_byte", "engines.array.slots.glb.capacity_bytes"),
        ("engines.array.slot.glb.banks", "engines.array.slots.glb.banks"),
        ("clock", "clock_hz"),
        ("tier.dram.kind", "tiers.dram.kind"),
        ("engines.pe.precision.input_bits", "engines.array.precision.input_bits"),
    ],
)
def test_misspelt_path_is_refused_with_the_nearest_one(path, near):
    machine = load_machine("eyeriss")
    for attempt in (machine.with_values, lambda values: resolve(machine, values)):
        with pytest.raises(InputError) as caught:
            attempt({path: 4})
        assert near in str(caught.value)
        assert caught.value.field == path


def _plain(name: str = "tiny") -> dict[str, Any]:
    return yaml.safe_load((MACHINES / f"{name}.yaml").read_text())


def _load(data: Any, tmp_path: Path) -> Any:
    path = tmp_path / "machine.yaml"
    path.write_text(yaml.safe_dump(data))
    return load_machine(path)


def _set(data: dict[str, Any], *keys: Any, value: Any) -> dict[str, Any]:
    node: Any = data
    for key in keys[:-1]:
        node = node[key]
    if value is KeyError:
        del node[keys[-1]]
    else:
        node[keys[-1]] = value
    return data


ARRAY = ("engines", 0)


@pytest.mark.parametrize(
    ("keys", "value", "field", "words"),
    [
        (("clock_hz",), -1.0, "clock_hz", "greater than or equal"),
        (("clock_hz",), "fast", "clock_hz", "number"),
        (("technology_nm",), 5, "technology_nm", "greater than or equal to 7"),
        (("technology_nm",), float("nan"), "technology_nm", "finite"),
        (("colour",), 1, "colour", "no such field"),
        (("source",), KeyError, "source", "required"),
        (("tiers",), [], "tiers", "at least 1"),
        (("tiers", 0, "kind"), "DDR9", "tiers.dram.kind", "LPDDR4"),
        (("tiers", 0, "name"), "ram", "engines.array.backing", "no such tier"),
        (("tiers", 0, "kind"), "custom", "tiers.dram", "bandwidth_bytes_per_s"),
        ((*ARRAY, "kind"), "quantum", "engines.array", "spatial"),
        ((*ARRAY, "dataflow"), "sideways", "engines.array.dataflow", "row_stationary"),
        ((*ARRAY, "backing"), "disk", "engines.array.backing", "dram"),
        ((*ARRAY, "slots", 1, "fanout"), 0, "engines.array.slots.columns.fanout", "greater"),
        ((*ARRAY, "slots", 1, "axis"), "z", "engines.array.slots.columns.axis", "'x' or 'y'"),
        ((*ARRAY, "slots", 1, "name"), "rows", "engines.array.slots", "duplicate"),
        ((*ARRAY, "slots", 1, "name"), "mac", "engines.array.slots", "reserved"),
        ((*ARRAY, "slots", 1, "name"), "dram", "engines.array.slots", "reserved"),
        ((*ARRAY, "slots", 1, "name"), "a.b", "engines.array.slots.a.b.name", "pattern"),
        ((*ARRAY, "slots", 0, "keeps"), [], "engines.array.slots.buffer.keeps", "at least 1"),
        ((*ARRAY, "slots", 0, "keeps"), ["bias"], "engines.array.slots.buffer.keeps.0", "weight"),
        ((*ARRAY, "slots", 0, "keeps"), ["input", "input"], "engines.array.slots.buffer.keeps",
         "twice"),
        ((*ARRAY, "slots", 0, "banks"), 2.5, "engines.array.slots.buffer.banks", "integer"),
        ((*ARRAY, "slots", 0, "capacity"), 5, "engines.array.slots.buffer.capacity",
         "no such field"),
        ((*ARRAY, "precision", "input_bits"), 0, "engines.array.precision.input_bits", "greater"),
        (("engines", 1, "name"), "array", "engines", "duplicate"),
        (("links",), [{"name": "l", "endpoints": ["dram", "moon"], "bandwidth_bytes_per_s": 1}],
         "links.l.endpoints", "host"),
        (("links",), [{"name": "l", "endpoints": ["dram", "host"]}], "links.l", "bandwidth"),
    ],
)  # fmt: skip
def test_a_wrong_field_is_named_with_its_place(keys, value, field, words, tmp_path):
    with pytest.raises(InputError) as caught:
        _load(_set(_plain(), *keys, value=value), tmp_path)
    assert caught.value.field == field
    assert words in str(caught.value)
    assert "machine.yaml" in str(caught.value)


def test_an_engine_without_storage_is_refused(tmp_path):
    data = _plain()
    data["engines"][0]["slots"] = [{"name": "rows", "fanout": 4, "axis": "x"}]
    with pytest.raises(InputError, match="at least one storage"):
        _load(data, tmp_path)


def test_several_engines_tiers_and_links_fit_the_schema(tmp_path):
    data = _plain("eyeriss")
    second = copy.deepcopy(data["engines"][0]) | {"name": "helper", "backing": "far"}
    data["engines"].append(second)
    data["tiers"].append({"name": "far", "kind": "DDR5", "channels": 2, "capacity_bytes": 1e12})
    data["links"] = [{"name": "up", "kind": "pcie4", "lanes": 16, "endpoints": ["helper", "host"]}]
    machine = _load(data, tmp_path)
    table = resolve(machine, {"engines.helper.slots.rows.fanout": [2, 4]}, engine="helper")
    assert table.names[0] == "far"
    assert table.macs.tolist() == [28, 56]
    assert resolve(machine).names[0] == "dram"


@pytest.mark.parametrize("name", SHIPPED)
def test_machine_can_be_sent_to_another_process(name):
    machine = load_machine(name)
    again = pickle.loads(pickle.dumps(machine))
    assert again == machine
    assert hash(again) == hash(machine)
    assert dict(again.leaves()) == dict(machine.leaves())


def test_machine_cannot_be_changed_in_place():
    machine = load_machine("tiny")
    with pytest.raises(ValidationError):
        machine.clock_hz = 1.0
    with pytest.raises(TypeError):
        machine.leaves()["clock_hz"] = None


def test_keeps_matches_the_file():
    machine = load_machine("eyeriss")
    engine = next(e for e in machine.engines if isinstance(e, SpatialEngine))
    table = resolve(machine)
    assert table.keeps[0].all()
    for row, slot in enumerate(engine.slots, start=1):
        kept = set(slot.keeps) if isinstance(slot, Storage) else set()
        assert {r for r, k in zip(("input", "weight", "output"), table.keeps[row], strict=True)
                if k} == kept  # fmt: skip
    assert DATAFLOWS[table.dataflow[0]] == "row_stationary"


def _mutate(rng: np.random.Generator, node: Any) -> Any:
    """Change one random place of a document."""
    junk = [None, -1, 0, 1e308, 10**400, "x", "", [], {}, [[]], True, "1e5", "../../etc/passwd",
            {"name": "a"}, "spatial", 2**70, -0.0, "\u0000", ["input"], 3.5]  # fmt: skip
    here = rng.random() < 0.15 or not isinstance(node, (dict, list)) or not node
    if here:
        return junk[rng.integers(len(junk))]
    node = copy.copy(node)
    keys = list(node) if isinstance(node, dict) else list(range(len(node)))
    key = keys[rng.integers(len(keys))]
    action = rng.random()
    if action < 0.12:
        del node[key]
    elif action < 0.2 and isinstance(node, list):
        node.append(copy.deepcopy(node[key]))
    elif action < 0.2:
        node[f"{key}_"] = node.pop(key)
    else:
        node[key] = _mutate(rng, node[key])
    return node


def test_mutated_files_give_input_errors_only(tmp_path):
    rng = np.random.default_rng(7)
    path, refused = tmp_path / "mutant.yaml", 0
    for _ in range(400):
        name = SHIPPED[rng.integers(len(SHIPPED))]
        data = _plain(name)
        for _ in range(rng.integers(1, 4)):
            data = _mutate(rng, data)
        text = yaml.safe_dump(data)
        if rng.random() < 0.3:
            cut = int(rng.integers(len(text)))
            text = text[:cut] + "{[:\t&*!"[rng.integers(7)] + text[cut + 1 :]
        path.write_text(text)
        try:
            table = resolve(load_machine(path))
        except InputError:
            refused += 1
        else:
            assert np.isfinite(table.total_area_mm2).all()
    assert refused > 200
