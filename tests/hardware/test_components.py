"""The component library against its published points, and the laws it must keep."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from archsim.hardware import components, scaling, sram
from archsim.hardware.tiers import LINKS, MEMORY_KINDS

NODES = [7.0, 10.0, 14.0, 16.0, 20.0, 22.0, 28.0, 32.0, 40.0, 45.0, 65.0, 90.0, 130.0]
QUICK = settings(max_examples=60, deadline=None)


def pj(joules) -> float:
    return float(np.asarray(joules) * 1e12)


# ------------------------------------------------------------------------- published points
def test_integer_mac_has_the_energy_of_its_source():
    # Aladdin through Accelergy, figures of the project notes (loopnest.md, section 4).
    assert pj(components.int_mac(8, 8, 16, 40.0)["energy_j"]) == pytest.approx(0.8975, abs=5e-5)
    assert pj(components.int_mac(8, 8, 8, 40.0)["energy_j"]) == pytest.approx(0.845, abs=5e-5)
    assert pj(components.int_mac(16, 16, 32, 40.0)["energy_j"]) == pytest.approx(3.38, abs=5e-3)


@pytest.mark.parametrize(
    ("bits", "total", "node", "expected"),
    [(8, 16, 45, 1.033), (8, 16, 65, 1.281), (8, 16, 7, 0.0974), (16, 32, 45, 3.89),
     (16, 32, 65, 4.83)],
)  # fmt: skip
def test_integer_mac_scales_to_other_nodes_as_hwcomponents_does(bits, total, node, expected):
    energy = pj(components.int_mac(bits, bits, total, float(node))["energy_j"])
    assert energy == pytest.approx(expected, rel=2e-3)


def test_horowitz_points():
    assert pj(components.int_mac_dense(8, 8, 32, 45.0)["energy_j"]) == pytest.approx(0.3)
    assert pj(components.int_mac_dense(32, 32, 32, 45.0)["energy_j"]) == pytest.approx(3.2)
    assert pj(components.fp_mac(11, 11, 11, 45.0)["energy_j"]) == pytest.approx(1.5)
    assert pj(components.fp_mac(24, 24, 24, 45.0)["energy_j"]) == pytest.approx(4.6)
    area = components.fp_mac(24, 24, 24, 45.0)["area_mm2"] * 1e6
    assert float(area) == pytest.approx(7700 + 4184)


@pytest.mark.parametrize("node_index", [0, 1])
def test_sram_reproduces_every_cacti_row(node_index):
    node = sram.CACTI_NODES_NM[node_index]
    made = sram.sram(sram.CACTI_KB * 8192, 64, 1, node)
    np.testing.assert_allclose(made["read_energy_j"] * 1e12, sram.CACTI_READ_PJ[node_index], 1e-9)
    np.testing.assert_allclose(made["write_energy_j"] * 1e12, sram.CACTI_WRITE_PJ[node_index], 1e-9)
    np.testing.assert_allclose(made["area_mm2"], sram.CACTI_AREA_MM2[node_index], 1e-9)


def test_sram_extrapolates_to_the_reference_machines():
    # CACTI through Accelergy (energy and area tables of the Timeloop reference cases):
    # 16384 x 64 bit in 32 banks at 32 nm, 256 KB at 40 nm.
    glb = sram.sram(128 * 8192, 64, 32, 32.0)
    assert pj(glb["read_energy_j"]) == pytest.approx(18.18, rel=0.02)
    assert pj(glb["write_energy_j"]) == pytest.approx(14.14, rel=0.04)
    big = sram.sram(256 * 8192, 64, 1, 40.0)
    assert pj(big["read_energy_j"]) == pytest.approx(43.35, rel=0.17)  # 65 nm row is an outlier
    assert pj(big["write_energy_j"]) == pytest.approx(30.88, rel=0.04)
    assert float(big["area_mm2"]) == pytest.approx(0.707, rel=0.04)
    assert float(big["leakage_w"]) == pytest.approx(7.97e-6, rel=1e-6)


def test_register_file_reproduces_its_three_points_and_comes_near_the_fourth():
    made = sram.regfile(np.array([12, 16, 192]) * 16, 16, 1, 32.0)
    np.testing.assert_allclose(made["read_energy_j"] * 1e12, [0.202442, 0.2513, 1.976602], 1e-9)
    np.testing.assert_allclose(made["write_energy_j"] * 1e12, [0.176713, 0.2191, 1.881657], 1e-9)
    other = sram.regfile(64 * 8, 8, 1, 40.0)  # Accelergy's 64 x 8 bit at 40 nm: 0.4256 pJ
    assert pj(other["read_energy_j"]) == pytest.approx(0.4256, rel=0.25)


def test_register_is_aladdins_flip_flop():
    made = sram.register(16, 16, 1, 40.0)
    assert pj(made["read_energy_j"]) == pytest.approx(16 * 0.009)
    assert float(made["area_mm2"]) == pytest.approx(16 * 5.98e-6)


def test_wire_passes_through_its_published_points():
    assert float(sram.wire_energy_j_per_bit_mm(40.0)) == pytest.approx(310e-12 / 2560)
    assert float(sram.wire_energy_j_per_bit_mm(10.0)) == pytest.approx(200e-12 / 2560)


def test_area_table_row_agrees_with_the_published_cross_ratios():
    # Other entries of the table (two digits, so up to a few percent of rounding each).
    for to, base, ratio in [(45, 65, 0.66), (32, 45, 0.46), (7, 16, 0.31), (16, 45, 0.19),
                            (65, 90, 0.53), (10, 14, 0.59), (20, 32, 0.46)]:  # fmt: skip
        assert float(scaling.area_factor(float(to), float(base))) == pytest.approx(ratio, rel=0.08)


# --------------------------------------------------------------------------------------- laws
MACS = [components.int_mac, components.int_mac_dense, components.fp_mac]


@pytest.mark.parametrize("make", MACS)
@pytest.mark.parametrize("quantity", ["energy_j", "area_mm2", "leakage_w", "delay_s"])
def test_mac_grows_with_bits_and_node(make, quantity):
    bits = np.arange(2, 54)
    assert (np.diff(make(bits, bits, 2 * bits, 45.0)[quantity]) >= 0).all()
    # The published 20 nm point is a high-performance FinFET, 32 nm low-power bulk: still ordered.
    assert (np.diff(make(8, 8, 32, np.array(NODES))[quantity]) >= 0).all()


ARRAYS = [sram.sram, sram.regfile, sram.register]


@pytest.mark.parametrize("make", ARRAYS)
@pytest.mark.parametrize("node", NODES)
def test_memory_grows_with_size(make, node):
    size = np.geomspace(64, 2**33, 400)
    made = make(size, 32, 1, node)
    for name, values in made.items():
        assert np.isfinite(values).all(), name
        assert (np.diff(np.broadcast_to(values, size.shape)) >= -1e-18).all(), name


@QUICK
@given(
    kb=st.floats(0.03, 1e5),
    width=st.integers(1, 4096),
    wider=st.integers(1, 4096),
    node=st.floats(7, 130),
    smaller=st.floats(7, 130),
    banks=st.integers(1, 64),
)
def test_sram_laws(kb, width, wider, node, smaller, banks):
    base = sram.sram(kb * 8192, width, banks, node)
    assert all(np.isfinite(value) and value > 0 for value in base.values())
    wide = sram.sram(kb * 8192, width + wider, banks, node)
    assert wide["read_energy_j"] > base["read_energy_j"]
    assert wide["read_energy_j"] / (width + wider) < base["read_energy_j"] / width * (1 + 1e-12)
    split = sram.sram(kb * 8192, width, banks + 1, node)
    assert split["area_mm2"] >= base["area_mm2"] * 0.99
    finer = sram.sram(kb * 8192, width, banks, min(node, smaller))
    for name in ("read_energy_j", "write_energy_j", "area_mm2", "leakage_w", "delay_s"):
        assert finer[name] <= base[name] * (1 + 1e-9), name


def test_factors_invert_and_chain():
    nodes = np.array(NODES)
    for factor in (scaling.energy_factor, scaling.area_factor):
        np.testing.assert_allclose(factor(nodes, 45.0) * factor(45.0, nodes), 1.0)
        np.testing.assert_allclose(factor(7.0, 65.0), factor(7.0, 28.0) * factor(28.0, 65.0))
        assert (np.diff(factor(nodes, 45.0)) > 0).all()


def test_a_process_gives_what_its_nodes_give():
    nodes = np.array(NODES)
    shared = scaling.Process(nodes)
    for make in (lambda n: components.int_mac(8, 8, 32, n), lambda n: sram.sram(2**17, 64, 4, n)):
        plain, quick = make(nodes), make(shared)
        for name in plain:
            np.testing.assert_array_equal(plain[name], quick[name])


def test_adder_is_linear_in_width():
    one, four = components.adder(8, 28.0), components.adder(32, 28.0)
    for name in one:
        assert float(four[name]) == pytest.approx(4 * float(one[name]))


def test_hops_cost_wire_then_register_then_router():
    bus, systolic, mesh = (
        float(components.hop_energy_j_per_bit(kind, 0.1, 45.0)) for kind in range(3)
    )
    assert 0 < bus < systolic < mesh
    assert bus == pytest.approx(0.1 * float(sram.wire_energy_j_per_bit_mm(45.0)))
    far = float(components.hop_energy_j_per_bit(0, 0.2, 45.0))
    assert far == pytest.approx(2 * bus)


def test_vector_lane_costs_more_than_its_arithmetic():
    lane = components.vector_lane(16, 8, 45.0, floating=False)
    unit = components.int_mac_dense(16, 16, 16, 45.0)
    assert lane["energy_j"] > unit["energy_j"]
    assert lane["area_mm2"] > unit["area_mm2"]


def test_memory_kinds_are_complete_sourced_and_ordered():
    kinds = {kind.name: kind for kind in MEMORY_KINDS}
    for name, kind in kinds.items():
        assert kind.source
        if name not in ("custom", "SRAM"):
            assert kind.bandwidth > 1e9
            assert 1 < kind.energy_pj_per_bit < 100
            assert 20 < kind.latency_ns < 60 or name == "NAND"
    energy = {name: kind.energy_pj_per_bit for name, kind in kinds.items()}
    assert energy["DDR3"] > energy["DDR4"] > energy["DDR5"] > energy["LPDDR5"]
    assert energy["LPDDR3"] > energy["LPDDR4"] > energy["LPDDR5"]
    assert energy["HBM2"] > energy["HBM2E"] > energy["HBM3"] > energy["HBM4"]
    stack = 16 * kinds["HBM3"].bandwidth
    assert stack == pytest.approx(819.2e9)
    assert 8 * kinds["HBM2"].bandwidth == pytest.approx(256e9)
    assert all(link.source for link in LINKS)


def test_wider_formats_take_more_energy_an_operation():
    def joules(dtype):
        return float(components.operation_energy_j(dtype, 7.0))

    for kind in (("fp4", "fp6", "fp8", "bf16", "fp16", "fp32", "fp64"), ("int4", "int8")):
        found = [joules(dtype) for dtype in kind]
        assert found == sorted(found)
        assert found[0] > 0
    assert joules("tf32") == joules("fp16")  # the same significand
    assert joules("int8") < joules("fp8")
