"""Memories that compute: legal commands, published figures, laws, and the closed form."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from archsim.errors import InputError
from archsim.models.dram.checker import violations
from archsim.models.dram.policy import Policy
from archsim.models.dram.simulate import simulate
from archsim.models.dram.spec import load_spec
from archsim.models.dram.trace import Trace
from archsim.models.pim import available_products, closed_form, dpu_gemv, load_product, run_kernel
from archsim.models.pim.command import run_elementwise


@st.composite
def shapes(draw):
    product = load_product(draw(st.sampled_from(available_products())))
    units = product.units.count * product.lockstep * product.channels * product.stacks
    n = draw(st.integers(1, 6 * units))
    return product, draw(st.integers(1, 12)), n, draw(st.integers(1, 3000))


@given(shapes())
@settings(max_examples=40, deadline=None)
def test_no_command_breaks_a_rule_of_the_memory(case):
    product, m, n, k = case
    done = run_kernel(product, m, n, k, log=True)
    assert violations(product.spec, done.log) == []
    assert done.commands["MACB"] > 0
    parts = closed_form(product, m, n, k)
    assert parts.cycles[0] == pytest.approx(sum(v[0] for v in parts.parts.values()))
    assert all(v[0] >= 0 for v in parts.energy_parts_j.values())


def test_elementwise_kernels_are_legal():
    product = load_product("hbm_pim")
    for inputs in (1, 2):
        done = run_elementwise(product, 1 << 19, inputs, log=True)
        assert violations(product.spec, done.log) == []


def test_hbm_pim_gains_what_its_simulator_says_on_a_gemv():
    # Samsung PIMSimulator: 36,082 cycles without PIM, 13,166 with, floor 8,192 (64 channels).
    spec, bursts = load_spec("hbm2_2000_4gb_pch"), 4096 * 4096 * 2 // 64 // 32
    stream = Trace(np.zeros(bursts), np.zeros(bursts), np.arange(bursts) * 32)
    plain = simulate(spec, stream, Policy(depth=32)).cycles
    done = run_kernel("hbm_pim", 1, 4096, 4096)
    assert plain == pytest.approx(36082, rel=0.02)
    assert done.commands["MACB"] * 4 == 8192 < done.cycles
    assert plain / done.cycles == pytest.approx(2.74, rel=0.15)


@pytest.mark.parametrize(
    ("level", "free", "limited"), [("bank", 16, 9), ("bankgroup", 8, 3), ("buffer", 1, 1)]
)
def test_attacc_bandwidth_follows_from_timing_and_power(level, free, limited):
    product = load_product(f"attacc_{level}")
    unlimited = load_product(product.model_dump(mode="json") | {"power": {"budget": "none"}})
    assert unlimited.scale == free
    units = product.units.count * product.lockstep * product.channels * product.stacks
    done = run_kernel(product, 1, units * 256, 512, refresh=False)
    pins = product.base.peak_bandwidth_bytes_per_s * product.channels * product.stacks
    assert done.bandwidth_bytes_per_s / pins == pytest.approx(limited, rel=0.10)
    # What rows and reads draw stays below what the plain memory may draw.
    drawn = done.energy_parts_j["activate"] + done.energy_parts_j["read"]
    allowed = product.ordinary_pj_per_cycle * 1e-12 * product.channels * product.stacks
    assert drawn / done.cycles <= allowed * 1.001


def test_a_barrier_holds_every_group_of_commands_back():
    product = load_product("hbm_pim")
    modes = product.modes.model_dump() | {"barrier_every": 8, "barrier_cycles": 22}
    held = load_product(product.model_dump(mode="json") | {"modes": modes})
    plain, slow = (run_kernel(p, 1, 4096, 4096, refresh=False).cycles for p in (product, held))
    # Every second row ends with a group, whose first command waits for the row anyway.
    assert plain + 150 * 18 < slow <= plain + 256 * 18
    assert violations(held.spec, run_kernel(held, 1, 512, 512, log=True).log) == []


def grid(product, many, seed):
    rng = np.random.default_rng(seed)
    units = product.units.count * product.lockstep * product.channels * product.stacks
    for _ in range(many):
        m = int(rng.choice([1, 2, 4, 8, 16, 64] if product.units.held > 1 else [1, 2]))
        yield m, int(rng.integers(units // 2, 8 * units)), int(rng.integers(256, 4096))


@pytest.mark.parametrize("name", available_products())
def test_the_closed_form_follows_the_command_level(name):
    product = load_product(name)
    errors = []
    for m, n, k in grid(product, 12, 3):
        errors.append(closed_form(product, m, n, k).cycles[0] / run_kernel(product, m, n, k).cycles)
    errors = np.abs(np.array(errors) - 1)
    assert np.median(errors) <= 0.05
    assert errors.max() <= 0.15


@given(st.sampled_from(available_products()), st.integers(1, 40), st.integers(64, 9000))
@settings(max_examples=60, deadline=None)
def test_more_work_never_takes_less_and_rows_equal_single_calls(name, m, k):
    n = [256, 4096, 70000]
    many = closed_form(name, m, n, k)
    each = [closed_form(name, m, one, k).time_s[0] for one in n]
    assert many.time_s.tolist() == each
    assert (np.diff(many.time_s) >= 0).all()
    product = load_product(name)
    assert (many.flops / many.time_s <= product.flops_per_s * 1.0001).all()
    assert (many.bandwidth_bytes_per_s <= product.bandwidth_bytes_per_s * 1.0001).all()


def test_vectors_beyond_the_rate_of_the_units_gain_nothing():
    product = load_product("logic_pim")
    times = closed_form(product, [1, 8, 16, 32, 64], 16384, 4096).time_s
    assert times[1] < 1.1 * times[0]
    assert times[2:] / times[1:-1] == pytest.approx(2.0, rel=0.12)


def test_products_are_equal_where_their_files_are():
    shipped = load_product("logic_pim")
    again = load_product(shipped.model_dump(mode="json"))
    other = load_product(shipped.model_dump(mode="json") | {"stacks": 3})
    times = [closed_form(p, 8, 50000, 4096).time_s[0] for p in (shipped, again, other)]
    assert shipped == again != other
    assert times[0] == times[1] < times[2]


def test_a_dpu_is_bound_by_multiplication_unless_it_is_native():
    wide, narrow = (dpu_gemv("upmem", 1, 163840, 4096, t) for t in ("int32", "int8"))
    assert wide.compute_s[0] > 2 * wide.copy_s[0]
    assert 3 < wide.time_s[0] / narrow.time_s[0] < 6
    with pytest.raises(InputError, match="format"):
        dpu_gemv("upmem", 1, 10, 10, "fp4")


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"memory": "nothing"}, "no such DRAM"),
        ({"units": {"level": "moon", "count": 8}}, "level"),
        ({"broadcast": {"compute_banks": 5}}, "compute_banks"),
        ({"units": {"level": "bank", "count": 8, "vectors": 4}}, "held"),
    ],
)
def test_a_wrong_product_is_refused(change, word):
    with pytest.raises(InputError, match=word):
        load_product(load_product("hbm_pim").model_dump(mode="json") | change)
    with pytest.raises(InputError, match="product"):
        load_product("nothing")
    with pytest.raises(InputError, match="positive"):
        closed_form("hbm_pim", 0, 1, 1)
