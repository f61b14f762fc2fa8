"""Machines of many devices: published figures, counts, links, errors, cost and carbon."""

import numpy as np
import pytest
import yaml

from archsim.errors import InputError
from archsim.hardware import GpuEngine, available_machines, load_machine, resolve, resolve_node
from archsim.hardware.carbon import bill, embodied_kg, ownership, silicon_kg
from archsim.hardware.machine import MACHINES

DATA_SHEET = (
    "a100", "h100", "h200", "h800", "b200", "gb200", "mi300x", "tpu_v2", "tpu_v3", "tpu_v4i",
    "tpu_v5e", "sn40l",
)  # fmt: skip

#: Machine, devices in a node; by tier: bytes, bytes/s; peak bf16; one direction between devices.
PUBLISHED = {
    # NVIDIA A100 80GB data sheet
    "a100": (8, {"hbm": (80 * 2**30, 2.039e12)}, 312e12, 300e9),
    "h100": (8, {"hbm": (80 * 2**30, 3.352e12)}, 989.4e12, 450e9),  # NVIDIA H100 data sheet
    "h200": (8, {"hbm": (141e9, 4.8e12)}, 989.4e12, 450e9),  # NVIDIA H200 data sheet
    "b200": (8, {"hbm": (180e9, 8e12)}, 2.25e15, 900e9),  # DGX B200: 1440 GB, 64 TB/s
    "mi300x": (8, {"hbm": (192e9, 5.325e12)}, 1307.4e12, 448e9),  # AMD data sheet: 7 x 64 GB/s
    "tpu_v5e": (256, {"hbm": (16 * 2**30, 819e9)}, 197e12, 200e9),  # Google Cloud's table
    "h800": (8, {"hbm": (80 * 2**30, 3.352e12)}, 989.4e12, 200e9),  # ISCA'25, section 4
    "gb200": (72, {"hbm": (186e9, 8e12)}, 2.5e15, 900e9),  # NVL72: 13.4 TB, 576 TB/s, 180 PFLOPS
    "tpu_v2": (256, {"hbm": (16 * 2**30, 700e9)}, 46e12, 248e9),  # ISCA'21, table 1
    "tpu_v3": (1024, {"hbm": (32 * 2**30, 900e9)}, 123e12, 328e9),
    "tpu_v4i": (4, {"hbm": (8 * 2**30, 614e9)}, 138e12, 100e9),
    "sn40l": (  # MICRO'24; bandwidths as its source line says
        16,
        {"sram": (520 * 2**20, 106.5e12), "hbm": (64 * 2**30, 1.8e12), "ddr": (1.5 * 2**40, 2e11)},
        638e12,
        100e9,
    ),
}


@pytest.mark.parametrize("name", DATA_SHEET)
def test_a_device_has_its_published_figures(name):
    machine = load_machine(name)
    node = resolve_node(machine)
    most, tiers, peak, out = PUBLISHED[name]
    assert machine.groups[-1].most == most
    for tier, (capacity, bandwidth) in tiers.items():
        assert node.tiers[tier]["capacity_bytes"][0] == pytest.approx(capacity)
        assert node.tiers[tier]["bandwidth_bytes_per_s"][0] == pytest.approx(bandwidth)
    engine = node.engines[machine.engines[0].name]
    found = engine.get("rates.bf16.flops_per_s", engine.get("peak_flops_per_s"))
    assert found[0] == pytest.approx(peak, rel=0.005)
    inner = next(link for link in machine.links if link.across == machine.groups[-1].name)
    assert node.links[inner.name]["bandwidth_bytes_per_s"][0] == pytest.approx(out)
    assert "ssumed" in machine.source
    for rate in getattr(machine.engines[0], "rates", ()):
        engine = node.engines[machine.engines[0].name]
        assert engine[f"rates.{rate.name}.energy_j_per_flop"][0] > 0


@pytest.mark.parametrize("name", DATA_SHEET)
def test_a_machine_survives_a_round_trip_and_every_leaf_can_be_set(name, tmp_path):
    machine = load_machine(name)
    path = tmp_path / "copy.yaml"
    path.write_text(yaml.safe_dump(machine.model_dump(mode="json")))
    assert load_machine(path) == machine
    values = {path: leaf.value for path, leaf in machine.leaves().items()}
    assert machine.with_values(values) == machine


@pytest.mark.parametrize("name", ["a100", "h100"])
def test_gpu_rates_follow_from_units_and_clock(name):
    engine = load_machine(name).item("engines", "sm")
    # fused multiply-adds of one SM a cycle: 1024 (Ampere), 2048 (Hopper) at 16 bits; whitepapers
    each = {"a100": 1024, "h100": 2048}[name]
    assert 2 * each * engine.sms * engine.clock_hz == pytest.approx(
        engine.rate("bf16").flops_per_s, rel=2e-3
    )
    with pytest.raises(InputError, match="no rate"):
        engine.rate("fp4")


def test_every_shipped_machine_has_figures():
    for name in available_machines():
        node = resolve_node(load_machine(name))
        assert not any(mask.any() for mask in node.problems.values())
        for part in (*node.tiers.values(), *node.links.values()):
            for values in part.values():
                assert np.isfinite(values).all()
                assert (values >= 0).all()


@pytest.mark.parametrize(
    ("name", "counts", "devices"),
    [
        ("h100x1", [1, 1], 1),
        ("h100x8", [1, 8], 8),
        ("h100x16", [2, 8], 16),
        ("h100x2048", [256, 8], 2048),
        ("sn40lx8", [1, 8], 8),
        ("a100x4", [1, 4], 4),
    ],
)
def test_a_name_with_a_number_is_that_many_devices(name, counts, devices):
    machine = load_machine(name)
    assert [group.count for group in machine.groups] == counts
    assert machine.instances() == devices
    assert machine.name == name
    node = resolve_node(machine)
    assert node.tiers["hbm"]["instances"][0] == devices
    host = "host_dram"
    assert node.tiers[host]["instances"][0] == counts[0]


def test_counts_are_parameters_like_any_other():
    machine = load_machine("h100x8")
    node = resolve_node(machine, {"groups.gpu.count": [1, 8, 9], "groups.node.count": [4, 4, 4]})
    assert node.devices.tolist() == [4, 32, 36]
    assert node.links["nvlink"]["members"].tolist() == [1, 8, 9]
    assert node.links["nvlink"]["instances"].tolist() == [4, 4, 4]
    assert node.links["pcie"]["instances"].tolist() == [4, 32, 36]
    (reason,) = node.problems
    assert "at most 8" in reason
    assert node.problems[reason].tolist() == [False, False, True]


@pytest.mark.parametrize("name", ["h100x12", "eyerissx2", "tpu_v4ix7"])
def test_an_impossible_number_of_devices_is_refused(name):
    with pytest.raises(InputError, match=r"that many devices|found 7|more members"):
        load_machine(name)


@pytest.mark.parametrize(
    ("change", "field", "words"),
    [
        (lambda d: d["groups"][1].update(count=9), "groups.gpu.count", "at most 8"),
        (lambda d: d["tiers"][1].update(within="rack"), "tiers.host_dram.within", "no such group"),
        (lambda d: d["links"][0].update(across="rack"), "links.nvlink.across", "no such group"),
        (lambda d: d["links"][0].pop("across"), "links.nvlink", "either"),
        (lambda d: d["links"][2].update(across="gpu"), "links.pcie", "either"),
        (lambda d: d["engines"][0]["rates"].append({"name": "fp16", "flops_per_s": 1e12}),
         "engines.sm.rates", "duplicate"),
        (lambda d: d["engines"][0].pop("sms"), "engines.sm.sms", "required"),
        (lambda d: d["tiers"].append({"name": "s", "kind": "SRAM", "capacity_bytes": 1}),
         "tiers.s", "bandwidth_bytes_per_s"),
    ],
)  # fmt: skip
def test_a_wrong_field_of_a_node_is_named(change, field, words, tmp_path):
    data = yaml.safe_load((MACHINES / "h100.yaml").read_text())
    change(data)
    path = tmp_path / "machine.yaml"
    path.write_text(yaml.safe_dump(data))
    with pytest.raises(InputError) as caught:
        load_machine(path)
    assert caught.value.field == field
    assert words in str(caught.value)


def test_the_layer_mapper_says_why_it_cannot_take_a_machine():
    with pytest.raises(InputError, match="no spatial engine"):
        resolve(load_machine("h100x8"))
    with pytest.raises(InputError, match="several devices"):
        resolve(load_machine("tpu_v4ix4"))
    assert resolve(load_machine("tpu_v4i")).sound.all()
    assert len(resolve(load_machine("tpu_v4ix4"), engine="array")) == 1


def test_a_slow_write_limits_the_tier_of_a_spatial_engine():
    machine = load_machine("tiny")
    table = resolve(machine, {"tiers.dram.write_bandwidth_bytes_per_s": [1e9, np.nan]})
    assert table.write_bits_per_cycle[0, 0] == pytest.approx(8e9 / machine.clock_hz)
    assert np.isinf(table.write_bits_per_cycle[1, 0])


def test_items_are_found_by_name():
    machine = load_machine("h100")
    assert isinstance(machine.item("engines", "sm"), GpuEngine)
    with pytest.raises(InputError, match="nvlink"):
        machine.item("links", "bus")
    with pytest.raises(InputError, match="no such group"):
        machine.instances("rack")


def test_carbon_sums_over_instances_and_follows_area():
    one, eight = embodied_kg(load_machine("h100")), embodied_kg(load_machine("h100x8"))
    assert eight["gpu_chip"] == pytest.approx(8 * one["gpu_chip"])
    assert eight["host_dram"] == one["host_dram"]
    # ACT by hand: (2.75 x 583 + (430 + 225) / 2 + 500) / 0.875 = 2778 g/cm2
    assert silicon_kg(100, 5) == pytest.approx(2.778 + 0.150, rel=1e-3)
    assert silicon_kg(200, 5) > silicon_kg(100, 5) > silicon_kg(100, 7) > silicon_kg(100, 28)


def test_ownership_is_monotone_and_checks_its_arguments():
    machine = load_machine("h100x8")
    base = ownership(machine, 5000)
    assert base.usd_per_s < ownership(machine, 6000).usd_per_s
    assert base.usd_per_s < ownership(machine, 5000, years=3).usd_per_s
    assert base.kg_co2e_per_s > ownership(machine, 5000, grid_g_per_kwh=0).kg_co2e_per_s
    assert base.price_usd == 8 * 30000 + 80000
    for wrong in ({"years": 0}, {"pue": 0.5}, {"usd_per_kwh": -1}, {"grid_g_per_kwh": np.nan}):
        with pytest.raises(InputError):
            ownership(machine, 5000, **wrong)


def test_parts_grow_with_what_designs_change():
    machine = load_machine("h100x8")
    data = machine.model_dump(mode="json")
    data["parts"][0]["grows"] = [
        {"name": "sms", "path": "engines.sm.sms", "die_area_mm2": 3.0, "price_usd": 100.0}
    ]
    grown = type(machine).model_validate(data)
    shipped = bill(grown)
    assert shipped.area_mm2 == bill(machine).area_mm2
    changes = {"engines.sm.sms": [132, 142, 122], "groups.gpu.count": [8, 8, 4]}
    changed = bill(grown, resolve_node(grown, changes))
    assert changed.area_mm2[:2] - shipped.area_mm2 == pytest.approx([0, 8 * 30.0])
    assert changed.price_usd[1] - changed.price_usd[0] == pytest.approx(8000)
    assert changed.price_usd[2] == pytest.approx(4 * (30000 - 1000) + 80000)
    wrong = {**data["parts"][0]["grows"][0], "path": "engines.sm.cores"}
    data["parts"][0]["grows"] = [wrong]
    with pytest.raises(InputError, match=r"engines\.sm\.cores"):
        resolve_node(type(machine).model_validate(data))


def test_memory_beyond_the_shipped_is_paid_for():
    machine = load_machine("h100x8")
    more = {"tiers.hbm.capacity_bytes": 2 * 80 * 2**30, "tiers.hbm.channels": 160}
    shipped, changed = bill(machine), bill(machine, resolve_node(machine, more))
    extra = 8 * 80 * 2**30
    assert changed.price_usd - shipped.price_usd == pytest.approx(extra * 9e-9)
    made = changed.embodied_kg_co2e - shipped.embodied_kg_co2e
    assert made == pytest.approx(extra * 65e-12)
    assert changed.area_mm2 - shipped.area_mm2 == pytest.approx(8 * 80 * 1.9)
    assert changed.idle_w - shipped.idle_w == pytest.approx(8 * 80 * 0.03)
    owned = ownership(changed, changed.idle_w)
    assert owned.usd_per_s > ownership(machine, 5000).usd_per_s * 0.5
