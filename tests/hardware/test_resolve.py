"""Resolution to tables: batch equals single, laws of more and less, sums, and problems."""

from __future__ import annotations

from dataclasses import fields

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from archsim.errors import InputError
from archsim.hardware import (
    DATAFLOWS,
    EngineTable,
    available_machines,
    components,
    load_machine,
    resolve,
    sram,
)

SHIPPED = available_machines("spatial")
GLB = "engines.array.slots.glb."


def random_overrides(machine, rng, designs):
    """Legal values for a random third of all leaves."""
    overrides = {}
    for path, leaf in machine.leaves().items():
        if path.startswith("groups."):
            continue  # several devices have no table
        if leaf.structural or rng.random() < 0.66:
            continue
        if leaf.kind == "enum":
            choices = [c for c in leaf.choices if c not in ("custom", "SRAM")]
            overrides[path] = np.array(choices)[rng.integers(0, len(choices), designs)]
        elif leaf.kind == "flag":
            overrides[path] = rng.integers(0, 2, designs).astype(bool)
        else:
            low = leaf.minimum if leaf.minimum and leaf.minimum > 0 else 1e-12
            base = leaf.value if leaf.value else np.sqrt(low * leaf.maximum)
            values = np.clip(base * 2.0 ** rng.uniform(-3, 3, designs), low, leaf.maximum)
            overrides[path] = np.rint(values) if leaf.kind == "integer" else values
    return overrides


def arrays(table: EngineTable):
    for field in fields(table):
        value = getattr(table, field.name)
        if isinstance(value, dict):
            yield from ((f"{field.name}.{key}", column) for key, column in value.items())
        elif isinstance(value, np.ndarray):
            yield field.name, value


UNLIMITED = ("read_bits_per_cycle", "write_bits_per_cycle", "shared_bits_per_cycle",
             "capacity_bits")  # fmt: skip


@pytest.mark.parametrize("name", SHIPPED)
def test_single_design_is_the_row_of_the_batch(name):
    machine, rng = load_machine(name), np.random.default_rng(3)
    for _ in range(5):
        overrides = random_overrides(machine, rng, 37)
        table = resolve(machine, overrides)
        assert len(table) == (37 if overrides else 1)
        for row in (0, 17, 36):
            single = resolve(machine, {path: v[row] for path, v in overrides.items()})
            expected = dict(arrays(table.take([row])))
            for field, values in arrays(single):
                np.testing.assert_array_equal(values, expected[field], err_msg=field)
            assert single.reasons(0) == [r for r in table.reasons(row)]


@pytest.mark.parametrize("name", SHIPPED)
def test_override_agrees_with_a_changed_machine(name):
    machine, rng = load_machine(name), np.random.default_rng(5)
    for _ in range(4):
        overrides = {path: v[0] for path, v in random_overrides(machine, rng, 1).items()}
        table, changed = resolve(machine, overrides), resolve(machine.with_values(overrides))
        expected = dict(arrays(changed))
        for field, values in arrays(table):
            np.testing.assert_array_equal(values, expected[field], err_msg=field)


@pytest.mark.parametrize("name", SHIPPED)
def test_overriding_with_the_base_value_changes_nothing(name):
    machine = load_machine(name)
    base = dict(arrays(resolve(machine)))
    for path, leaf in machine.leaves().items():
        if leaf.structural:
            continue
        same = np.nan if leaf.value is None else leaf.value
        for field, values in arrays(resolve(machine, {path: same})):
            np.testing.assert_array_equal(values, base[field], err_msg=f"{path}: {field}")


@pytest.mark.parametrize("name", SHIPPED)
def test_everything_is_finite_and_shaped(name):
    machine, rng = load_machine(name), np.random.default_rng(11)
    for _ in range(10):
        table = resolve(machine, random_overrides(machine, rng, 64))
        designs, slots = len(table), len(table.names)
        for field, values in arrays(table):
            if field.startswith(UNLIMITED):
                assert not np.isnan(values).any(), field
                assert (values >= 0).all(), field
            elif values.dtype != bool:
                assert np.isfinite(values).all(), field
                assert (values >= 0).all(), field
        assert table.capacity_bits.shape == (designs, slots)
        assert table.fanout.dtype == np.int64
        assert table.bits.shape == (designs, 4)
        assert not table.keeps[table.spatial].any()


@pytest.mark.parametrize("name", SHIPPED)
def test_areas_sum_and_instances_multiply(name):
    machine, rng = load_machine(name), np.random.default_rng(13)
    table = resolve(machine, random_overrides(machine, rng, 50))
    np.testing.assert_allclose(sum(table.area_mm2.values()), table.total_area_mm2, rtol=1e-12)
    named = {n for n, s in zip(table.names[1:], table.spatial[1:], strict=True) if not s}
    assert set(table.area_mm2) == named | {"mac", "simd", "network", "overhead", "dram_phy"}
    inside = np.cumprod(table.fanout, axis=1)
    np.testing.assert_array_equal(table.instances[:, 1:], inside[:, :-1])
    np.testing.assert_array_equal(table.macs, inside[:, -1])


GROWS = [
    ("engines.array.slots.glb.capacity_bytes", [2**14, 2**16, 2**18, 2**22]),
    ("engines.array.slots.glb.width_bits", [64, 128, 256, 512]),
    ("engines.array.slots.psum_spad.capacity_bytes", [8, 24, 48, 512]),
    ("engines.array.precision.input_bits", [4, 8, 16]),
    ("engines.array.precision.weight_bits", [2, 8, 16]),
    ("engines.array.slots.rows.fanout", [1, 4, 12, 64]),
    ("engines.array.slots.columns.fanout", [1, 4, 14, 64]),
    ("engines.simd.lanes", [1, 8, 64]),
    ("technology_nm", [7, 16, 28, 45, 65, 130]),
    ("area_overhead", [0, 1, 3]),
]


@pytest.mark.parametrize(("path", "values"), GROWS)
def test_more_of_anything_never_shrinks_area_energy_or_leakage(path, values):
    table = resolve(load_machine("eyeriss"), {path: np.array(values, dtype=float)})
    assert (np.diff(table.total_area_mm2) > 0).all()
    per_cycle = ("read_energy_j", "write_energy_j", "leakage_w", "mac_energy_j", "mac_leakage_w")
    for field in (*per_cycle, "hop_energy_j_per_bit", "vector_leakage_w"):
        assert (np.diff(getattr(table, field), axis=0) >= 0).all(), field


def test_tier_follows_kind_and_channels():
    machine = load_machine("eyeriss")
    kinds = ["LPDDR4", "DDR4", "HBM2", "LPDDR4"]
    table = resolve(machine, {"tiers.dram.kind": kinds, "tiers.dram.channels": [1, 1, 8, 2]})
    np.testing.assert_allclose(table.tier_bandwidth_bytes_per_s, [6.4e9, 19.2e9, 256e9, 12.8e9])
    np.testing.assert_allclose(
        table.shared_bits_per_cycle[:, 0], table.tier_bandwidth_bytes_per_s * 8 / 200e6
    )
    per_bit = table.read_energy_j[:, 0] / table.block_bits[:, 0]
    np.testing.assert_allclose(per_bit, np.array([8, 18.75, 6.25, 8]) * 1e-12)
    assert table.leakage_w[3, 0] == 2 * table.leakage_w[0, 0]
    assert np.isinf(table.read_bits_per_cycle[:, 0]).all()
    huge = resolve(machine, {"tiers.dram.capacity_bytes": 2.0**60})
    assert np.isinf(huge.capacity_bits[0, 0])


def test_double_buffering_halves_and_banks_widen():
    machine = load_machine("eyeriss")
    table = resolve(machine, {GLB + "double_buffered": [False, True], GLB + "banks": [25, 50]})
    assert table.capacity_bits[1, 1] == table.capacity_bits[0, 1] / 2
    assert table.read_bits_per_cycle[:, 1].tolist() == [1600, 3200]
    given = resolve(machine, {GLB + "read_bandwidth_bits_per_cycle": [np.nan, 64.0]})
    assert given.read_bits_per_cycle[:, 1].tolist() == [1600, 64]
    assert given.write_bits_per_cycle[:, 1].tolist() == [1600, 1600]


def test_explicit_figures_win_over_the_library():
    machine = load_machine("eyeriss")
    table = resolve(
        machine,
        {
            GLB + "read_energy_j": 1e-12,
            GLB + "area_mm2": 2.0,
            "engines.array.mac.energy_j": [1e-13, 2e-13],
            "engines.array.slots.rows.network.hop_energy_j_per_bit": 5e-15,
            "engines.simd.op_energy_j": 3e-13,
            "tiers.dram.phy_area_mm2": 1.5,
        },
    )
    assert (table.read_energy_j[:, 1] == 1e-12).all()
    assert (table.area_mm2["glb"] == 2.0).all()
    assert table.mac_energy_j.tolist() == [1e-13, 2e-13]
    assert (table.hop_energy_j_per_bit[:, 3] == 5e-15).all()
    assert (table.vector_op_energy_j == 3e-13).all()
    assert (table.area_mm2["dram_phy"] == 1.5).all()


def test_enumerations_reach_the_component_they_name():
    """Choices are indices into the component tuples, so their order is part of the code."""
    machine = load_machine("eyeriss")
    spad = "engines.array.slots.psum_spad."
    arrays_ = resolve(machine, {spad + "component": ["sram", "regfile", "register"]})
    for row, make in enumerate((sram.sram, sram.regfile, sram.register)):
        assert arrays_.read_energy_j[row, 6] == make(384, 16, 1, 65.0)["read_energy_j"]
    macs = resolve(machine, {"engines.array.mac.component": ["int_mac", "int_mac_dense", "fp_mac"]})
    assert macs.mac_energy_j[0] == components.int_mac(16, 16, 16, 65.0)["energy_j"]
    assert macs.mac_energy_j[1] == components.int_mac_dense(16, 16, 16, 65.0)["energy_j"]
    assert macs.mac_energy_j[2] == components.fp_mac(11, 11, 11, 65.0)["energy_j"]
    bf16 = resolve(
        machine,
        {"engines.array.mac.component": "fp_mac", "engines.array.mac.mantissa_bits": [np.nan, 8]},
    )
    assert bf16.mac_energy_j[0] == macs.mac_energy_j[2]
    assert bf16.mac_energy_j[1] < macs.mac_energy_j[2]
    flows = resolve(machine, {"engines.array.dataflow": list(DATAFLOWS)})
    assert flows.dataflow.tolist() == list(range(len(DATAFLOWS)))
    kinds = list(components.NETWORK_KINDS)
    hops = resolve(machine, {"engines.array.slots.rows.network.kind": kinds})
    assert (np.diff(hops.hop_energy_j_per_bit[:, 3]) > 0).all()
    lanes = resolve(machine, {"engines.simd.component": ["int_alu", "fp_alu"]})
    for row, floating in enumerate((False, True)):
        lane = components.vector_lane(16, 8, 65.0, floating)
        assert lanes.vector_op_energy_j[row] == lane["energy_j"]


def test_bigger_children_are_further_apart():
    table = resolve(
        load_machine("eyeriss"),
        {"engines.array.slots.weight_spad.capacity_bytes": [64, 448, 65536]},
    )
    assert (np.diff(table.hop_energy_j_per_bit[:, 3]) > 0).all()
    assert (table.hop_energy_j_per_bit[:, 2] > table.hop_energy_j_per_bit[:, 3]).all()


@pytest.mark.parametrize(
    ("overrides", "bad", "words"),
    [
        ({"engines.array.slots.rows.fanout": [12, 0, -3, 2.5]}, [0, 1, 1, 1], "integer in [1"),
        ({"technology_nm": [65, 3, 500, np.nan]}, [0, 1, 1, 1], "number in [7, 130]"),
        ({"clock_hz": [1e8, 1e9, 1e10, np.inf]}, [0, 0, 1, 1], "clock_hz"),
        ({GLB + "width_bits": [64, 16, 8, 1]}, [0, 0, 1, 1], "glb is narrower"),
        ({GLB + "capacity_bytes": [1e5, 200, 100, 1]}, [0, 0, 1, 1], "glb is smaller"),
        ({GLB + "double_buffered": [0, 1, 2, 0.5]}, [0, 0, 1, 1], "0 or 1"),
        ({"engines.array.slots.psum_spad.capacity_bytes": [48, 2, 1, 0.5]}, [0, 0, 1, 1],
         "psum_spad"),
        ({"tiers.dram.kind": ["DDR4", "LPDDR4", "custom", "custom"]}, [0, 0, 1, 1], "custom"),
    ],
)  # fmt: skip
def test_senseless_designs_are_marked_not_raised(overrides, bad, words):
    table = resolve(load_machine("eyeriss"), overrides)
    assert (~table.sound).tolist() == [bool(b) for b in bad]
    assert any(words in reason for reason in table.reasons(3))
    assert np.isfinite(table.total_area_mm2).all()
    assert np.isfinite(table.read_energy_j).all()


@settings(max_examples=40, deadline=None)
@given(
    numbers=st.lists(
        st.floats(allow_nan=True, allow_infinity=True) | st.integers(-(2**62), 2**62),
        min_size=1,
        max_size=5,
    ),
    which=st.integers(0, 10**6),
)
def test_any_number_anywhere_stays_finite(numbers, which):
    machine = load_machine("eyeriss")
    leaves = machine.leaves().items()
    paths = [p for p, leaf in leaves if leaf.kind != "enum" and not leaf.structural]
    path = paths[which % len(paths)]
    table = resolve(machine, {path: np.array([float(n) for n in numbers])})
    for field, values in arrays(table):
        assert not np.isnan(values.astype(float)).any(), f"{path}: {field}"
        if not field.startswith(UNLIMITED):
            assert np.isfinite(values.astype(float)).all(), f"{path}: {field}"


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        ({"tiers.dram.kind": "DDR17"}, "LPDDR4"),
        ({"tiers.dram.kind": 3}, "LPDDR4"),
        ({"engines.array.dataflow": ["row_stationary", "none"]}, "weight_stationary"),
        ({"clock_hz": "fast"}, "number"),
        ({"clock_hz": [1e8, 2e8], "technology_nm": [65, 45, 28]}, "differ in length"),
        ({"clock_hz": np.ones((2, 2))}, "1-d"),
        ({"clock_hz": np.array([])}, "1-d"),
        ({"clock_hz": [None]}, "number"),
        ({"engines.array.slots.rows.axis": "x"}, "with_values"),
    ],
)
def test_wrong_overrides_are_input_errors(overrides, words):
    with pytest.raises(InputError, match=words):
        resolve(load_machine("eyeriss"), overrides)


def test_a_machine_without_the_asked_engine_is_an_input_error():
    machine = load_machine("eyeriss")
    with pytest.raises(InputError, match="no spatial engine"):
        resolve(machine, engine="simd")
    with pytest.raises(InputError, match="no vector engine"):
        resolve(machine, vector="array")


def test_engines_of_one_machine_do_not_share_remembered_figures():
    data = load_machine("eyeriss").model_dump(mode="json")
    second = {**data["engines"][0], "name": "narrow"}
    second["precision"] = {**second["precision"], "input_bits": 4, "output_bits": 8}
    data["engines"].insert(1, second)
    machine = type(load_machine("eyeriss")).model_validate(data)
    for _ in range(2):
        wide, narrow = resolve(machine), resolve(machine, engine="narrow")
        assert narrow.mac_energy_j[0] < wide.mac_energy_j[0]
        assert narrow.vector_op_energy_j[0] < wide.vector_op_energy_j[0]
        assert narrow.bits[0].tolist() == [4, 16, 8, 16]


def test_problems_of_the_file_itself_are_reported_every_time():
    machine = load_machine("eyeriss").with_values({GLB + "width_bits": 8})
    for _ in range(2):
        assert any("glb is narrower" in reason for reason in resolve(machine).reasons(0))
        batch = resolve(machine, {"engines.array.slots.rows.fanout": [2, 3, 4]})
        assert not batch.sound.any()


def test_take_picks_rows_by_index_and_by_mask():
    table = resolve(load_machine("eyeriss"), {"clock_hz": [1e8, 2e8, 3e8, 1e11]})
    assert table.take([2, 0]).clock_hz.tolist() == [3e8, 1e8]
    assert len(table.take(table.sound)) == 3
    assert table.take(3).reasons(0)
