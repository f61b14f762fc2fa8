"""Memories that compute: legal commands, published figures, laws, and the closed form."""

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from archsim.errors import InputError
from archsim.models.dram.broadcast import C_FENCE
from archsim.models.dram.checker import violations
from archsim.models.dram.layout import ACT, ACTB, PRE, PREB
from archsim.models.dram.policy import Policy
from archsim.models.dram.simulate import simulate
from archsim.models.dram.spec import load_spec
from archsim.models.dram.trace import Trace
from archsim.models.pim import available_products, closed_form, dpu_gemv, load_product, run_kernel
from archsim.models.pim.command import run_elementwise
from archsim.models.pim.kernels import gemm_program
from archsim.validate.pim import shapes_of


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


def test_elementwise_kernels_are_legal_and_read_every_column_once():
    product = load_product("hbm_pim")
    for inputs in (1, 2):
        done = run_elementwise(product, 1 << 19, inputs, log=True)
        assert violations(product.spec, done.log) == []
        per_bank = (1 << 19) // 16 // (64 * 16)  # columns of a vector in a bank of 64 channels
        assert done.commands["MACB"] == inputs * per_bank * 2  # even and odd banks
    # Operands of one place lie in three rows of the same banks, as in PIMSimulator: a row is opened
    # for each of them, and the result, in every group of eight columns.
    assert done.commands["ACTB"] >= per_bank // 8 * 2 * 3
    with pytest.raises(InputError, match="do not fit"):
        run_elementwise(product, 1 << 33, 2)
    with pytest.raises(InputError, match="no elementwise"):
        run_elementwise("aim", 1 << 19, 2)
    with pytest.raises(InputError, match="one or two"):
        run_elementwise(product, 1 << 19, 3)


def over_the_pins(reads, writes):
    many = reads + writes
    trace = Trace(np.zeros(many), (np.arange(many) >= reads).astype(np.int8), np.arange(many) * 32)
    return simulate(load_spec("hbm2_2000_4gb_pch"), trace, Policy(depth=32)).cycles


def test_hbm_pim_gains_what_its_simulator_says():
    # Samsung PIMSimulator: 36,082 cycles without PIM, 13,166 with, floor 8,192 (64 channels).
    plain = over_the_pins(4096 * 4096 * 2 // 64 // 32, 0)
    done = run_kernel("hbm_pim", 1, 4096, 4096)
    assert plain == pytest.approx(36082, rel=0.02)
    assert done.commands["MACB"] * 4 == 8192 < done.cycles
    assert done.cycles == pytest.approx(13166, rel=0.02)
    assert plain / done.cycles == pytest.approx(2.74, rel=0.02)
    # MUL of 2M, ADD of 1M, RELU of 4M elements.
    for elements, inputs, gain in ((2 << 20, 2, 2.24), (1 << 20, 2, 1.99), (4 << 20, 1, 2.28)):
        bursts = elements * 2 // 64 // 32
        ours = over_the_pins(inputs * bursts, bursts)
        ours /= run_elementwise("hbm_pim", elements, inputs).cycles
        assert ours == pytest.approx(gain, rel=0.12)


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


def with_modes(product, **changes):
    modes = product.modes.model_dump() | changes
    return load_product(product.model_dump(mode="json") | {"modes": modes})


def test_a_barrier_holds_back_what_follows():
    product = load_product("hbm_pim")
    slow, free = with_modes(product, barrier_cycles=22), with_modes(product, barrier_every=0)
    times = [run_kernel(p, 1, 4096, 4096, refresh=False).cycles for p in (free, product, slow)]
    # 256 groups of eight commands, of which those that open a row wait for it anyway.
    assert times[0] < times[1] < times[1] + 192 * 18 <= times[2] <= times[1] + 300 * 18
    for p in (free, slow):
        done = run_kernel(p, 1, 512, 512, log=True)
        assert violations(p.spec, done.log) == []
    # No row is opened behind a barrier before the last command in front of it is due.
    done = run_kernel(product, 1, 4096, 4096, refresh=False, log=True)
    program = gemm_program(product, 1, 4096, 4096)
    lasts = {}
    for cycle, command, _, _, line in done.log.tolist():
        if command in (ACT, ACTB):
            behind = [k for k in range(line) if program[k, C_FENCE]]
            if behind:
                assert cycle >= lasts.get(behind[-1], [cycle + 1])[-1] - 4
        elif command not in (PRE, PREB):
            lasts.setdefault(line, []).append(cycle)


@pytest.mark.parametrize("name", available_products())
def test_the_closed_form_follows_the_command_level(name):
    product = load_product(name)
    sizes = np.array(list(shapes_of(product, 45, 3)))
    refreshed = [run_kernel(product, *size).cycles for size in sizes.tolist()]
    busy = [run_kernel(product, *size, refresh=False).cycles for size in sizes.tolist()]
    cost = closed_form(product, *sizes.T)
    errors = np.abs(cost.cycles / refreshed - 1)
    assert np.median(errors) <= 0.02
    assert errors.max() <= 0.10
    assert np.abs((cost.cycles - cost.parts["refresh"]) / busy - 1).max() <= 0.02


CHANGES = (  # what products of one's own may differ in
    ("aim", {"operands": {"columns": 5, "accumulators": 3, "keep": "outputs"}}),
    ("newton", {"operands": {"columns": 7, "accumulators": 2, "keep": "inputs"}}),
    ("attacc_buffer", {"operands": {"columns": 9, "accumulators": 4, "keep": "outputs"}}),
    ("hbm_pim", {"operands": {"columns": 6, "row": 16383, "accumulators": 5, "keep": "inputs",
                              "result_bytes": 32, "result_row": 16382}}),
    ("hbm_pim", {"modes": {}}),
    ("hbm_pim", {"modes": {"barrier_every": 8, "barrier_cycles": 22}}),
)  # fmt: skip


@pytest.mark.parametrize("case", range(len(CHANGES)))
def test_the_closed_form_follows_products_of_ones_own(case):
    name, change = CHANGES[case]
    product = load_product(load_product(name).model_dump(mode="json") | change)
    sizes = np.array(list(shapes_of(product, 24, case)))
    busy = [run_kernel(product, *size, refresh=False).cycles for size in sizes.tolist()]
    cost = closed_form(product, *sizes.T)
    errors = np.abs((cost.cycles - cost.parts["refresh"]) / busy - 1)
    assert np.median(errors) <= 0.02
    assert errors.max() <= 0.10


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
        ({"modes": {"enter": [{"kind": "read", "banks": [16], "row": 1}]}}, "no such bank"),
        ({"modes": {"stop": [{"kind": "broadcast", "banks": [0], "row": 16384}]}}, "no such row"),
        ({"modes": {"barrier_cycles": 4}}, "barrier_every"),
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


def test_a_product_and_its_memory_are_files_of_ones_own(tmp_path):
    shipped = load_product("hbm_pim")
    memory = shipped.base.model_dump(mode="json") | {"name": "slow", "clock_ps": 2000}
    (tmp_path / "slow.yaml").write_text(yaml.safe_dump(memory))
    mine = shipped.model_dump(mode="json") | {"memory": "slow.yaml"}
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(mine))
    product = load_product(tmp_path / "mine.yaml")
    ours, theirs = run_kernel(product, 1, 512, 512), run_kernel(shipped, 1, 512, 512)
    assert ours.cycles == theirs.cycles
    assert ours.time_s == pytest.approx(2 * theirs.time_s)
