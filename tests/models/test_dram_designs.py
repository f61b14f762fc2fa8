"""Many controllers at once, and energy."""

import numpy as np
import pytest

from archsim.errors import InputError
from archsim.models.dram.designs import (
    METRICS,
    PARAMETERS,
    ControllerProblem,
    policies,
    random_policies,
)
from archsim.models.dram.energy import PARTS
from archsim.models.dram.patterns import pattern
from archsim.models.dram.policy import Policy
from archsim.models.dram.simulate import Workbench, simulate
from archsim.models.dram.spec import load_spec, presets

SPEC = load_spec("ddr3_1600_1gb_x8")
BASE = {name: [values[0]] for name, values in PARAMETERS.items()}


def test_the_space_has_the_size_archgym_states():
    size = 1
    for values in PARAMETERS.values():
        size *= len(values)
    assert size == 28_311_552


HBM = load_spec("hbm2_2000_8gb_8ch")  # eight channels of two pseudo channels


@pytest.mark.parametrize(("memory", "kind"), [(SPEC, "mixed"), (HBM, "mixed"), (HBM, "stream")])
def test_a_batch_finds_what_single_simulations_find(memory, kind):
    rng = np.random.default_rng(3)
    columns = {
        name: [values[k] for k in rng.integers(0, len(values), 12)]
        for name, values in PARAMETERS.items()
    }
    trace = pattern(kind, 500, memory, seed=1)
    many = Workbench(memory, trace).evaluate(policies(columns), (0.5, 1.0))
    for k in range(12):
        row = {name: values[k] for name, values in columns.items()}
        one = simulate(
            memory,
            trace,
            Policy(
                page=row["PagePolicy"],
                scheduler=row["Scheduler"],
                buffer=row["SchedulerBuffer"],
                depth=row["RequestBufferSize"],
                response=row["RespQueue"],
                refresh=row["RefreshPolicy"],
                max_postponed=row["RefreshMaxPostponed"],
                max_pulled_in=row["RefreshMaxPulledin"],
                arbiter=row["Arbiter"],
                max_active=row["MaxActiveTransactions"],
            ),
        )
        assert many.time_s[k] == pytest.approx(one.time_s, rel=1e-12)
        assert many.energy_j[k] == pytest.approx(one.energy_j, rel=1e-12)
        assert many.latency_s[k] == pytest.approx(one.latency_s, rel=1e-12)
        waits = np.sort(one.end - one.begin)
        assert many.tail_latency_s[k] == pytest.approx(
            np.array([waits[249], waits[499]]) * memory.clock_ps * 1e-12
        )
        assert many.row_hits[k] == one.row_hits


def test_the_problem_reports_its_metrics_and_marks_lost_data():
    columns = {name: values * 2 for name, values in BASE.items()}
    columns["RefreshPolicy"] = ["NoRefresh", "AllBank"]
    trace = pattern("cloud", 400, SPEC, seed=2)
    found = ControllerProblem(trace).evaluate(columns)
    assert set(found) == {*METRICS, "feasible"}
    assert found["feasible"].tolist() == [False, True]
    assert ControllerProblem(trace, allow_data_loss=True).evaluate(columns)["feasible"].all()
    for name in METRICS:
        assert np.isfinite(found[name]).all()
        assert (found[name] >= 0).all()
    assert (found["latency_p95_s"] <= found["latency_p99_s"]).all()


@pytest.mark.parametrize(
    "change",
    [
        {"PagePolicy": ["Ajar"]},
        {"RequestBufferSize": [0]},
        {"RefreshMaxPostponed": ["many"]},
        {"MaxActiveTransactions": [1, 2]},
        {"Colour": ["red"]},
    ],
)
def test_wrong_designs_are_refused(change):
    with pytest.raises(InputError):
        policies(BASE | change)


def test_random_designs_repeat_with_their_seed():
    one, two = (random_policies(50, np.random.default_rng(7)) for _ in range(2))
    assert (one == two).all()


@pytest.mark.parametrize("name", presets())
def test_energy_is_the_sum_of_its_parts_and_grows_with_work(name):
    spec = load_spec(name)
    short = simulate(spec, pattern("random", 200, spec, seed=1))
    long = simulate(spec, pattern("random", 400, spec, seed=1))
    parts = short.energy_parts_j
    assert tuple(parts) == PARTS
    assert all(value >= 0 for value in parts.values())
    assert short.energy_j == pytest.approx(sum(parts.values()))
    assert long.energy_j > short.energy_j
    # Published memories lie between a few and a few tens of pJ a bit.
    per_bit = long.energy_j / (long.bytes * 8) * 1e12
    assert 2 < per_bit < 120


def test_energy_of_one_read_by_hand():
    # MT41J128M8, eight devices, 1.25 ns: currents above standby while a command runs (DRAMPower 4).
    result = simulate(SPEC, pattern("stream", 1, SPEC), Policy(refresh="NoRefresh"))
    scale = 8 * 1.5 * 1.25e-12
    cycles = 10 + 10 + 4
    assert result.cycles == cycles
    assert result.energy_parts_j["activate"] == pytest.approx(28 * (70 - 45) * scale)
    assert result.energy_parts_j["read"] == pytest.approx(4 * (140 - 45) * scale)
    assert result.energy_parts_j["precharge"] == result.energy_parts_j["refresh"] == 0
    standby = result.energy_parts_j["standby_active"] + result.energy_parts_j["standby_idle"]
    assert standby == pytest.approx(cycles * 45 * scale)
    assert result.power_w == pytest.approx(result.energy_j / result.time_s)


def test_reads_cost_what_archgym_reports_for_its_stream():
    # 10,000 reads in sequence: 50.025 us and 85.10925 uJ in DRAMSys 4.0 and 5.1 (first row of
    # the reference sweep: Open, FrFcfs, Bankwise 8, AllBank postponing 8).
    trace = pattern("stream", 10_000, SPEC)
    result = simulate(SPEC, trace, Policy(max_postponed=8, max_pulled_in=8, max_active=128))
    assert result.time_s == pytest.approx(50.025e-6, rel=1e-12)
    assert result.energy_j == pytest.approx(85.10925e-6, rel=1e-6)


@pytest.mark.parametrize(
    ("part", "change", "word"),
    [
        ("timing", {"REFI": 0}, "further apart"),
        ("timing", {"RFC": -5}, "RFC must be 0 to"),
        ("timing", {"FAW": 10**20}, "FAW must be 0 to"),
        ("timing", {"CL": "9 * 9999999 * 99"}, "beyond reason"),
        ("timing", {"RFC": "FOO + 1"}, "found 'FOO'"),
        ("timing", {"RAS": "RAS + 1"}, "found 'RAS'"),
        ("structure", {"rows": 2**70}, "2\\*\\*30 rows"),
        ("structure", {"devices": 10**23}, "1024"),
        ("mapping", "row-bank", "group 0 bits"),
    ],
)
def test_a_memory_that_cannot_work_is_refused(part, change, word):
    data = load_spec("ddr4_2400_4gb_x8").model_dump()
    data[part] = data[part] | change if isinstance(change, dict) else change
    with pytest.raises(InputError, match=word):
        load_spec(data)
