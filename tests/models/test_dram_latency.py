"""Latencies of few requests against closed formulas of the timing parameters."""

import numpy as np
import pytest

from archsim.models.dram.policy import DRAMsim3Policy, Policy, RamulatorPolicy
from archsim.models.dram.simulate import simulate
from archsim.models.dram.spec import load_spec, presets
from archsim.models.dram.trace import Trace

QUIET = Policy(refresh="NoRefresh")


def addresses(spec, *places):
    """Byte addresses of (bank, row, column) of the first rank, row by row over its banks."""
    s = spec.structure
    per_row = s.columns // s.burst_length
    banks = s.bank_groups * s.banks_per_group
    return np.array([((row * banks + bank) * per_row + column) for bank, row, column in places]) * (
        s.burst_bytes
    )


def serve(spec, places, arrival=None, write=None, policy=QUIET):
    address = addresses(spec, *places)
    trace = Trace(
        np.zeros(len(places)) if arrival is None else np.array(arrival),
        np.zeros(len(places)) if write is None else np.array(write),
        address,
    )
    return simulate(spec, trace, policy, mapping="channel-rank-row-group-bank-column", log=True)


def latencies(result):
    return (result.end - result.begin).tolist()


@pytest.mark.parametrize("name", presets())
def test_first_read_hit_and_conflict(name):
    spec = load_spec(name)
    p = spec.parameters
    extra = spec.tables[0, 0, 2] - p["RCD_RD"]  # an activate of several cycles
    data = p["RL"] + p["DQSCK"] + p["BURST"]
    result = serve(spec, [(0, 3, 0), (0, 3, 1), (0, 4, 0)], [0, 1000, 2000])
    closing = spec.tables[0, 1, 0]  # precharge to activate
    assert latencies(result) == [
        p["RCD_RD"] + extra + data,
        data,
        closing + p["RCD_RD"] + extra + data,
    ]
    assert result.row_hits == 1


@pytest.mark.parametrize("name", presets())
def test_write_then_read_of_another_row_waits_for_the_write_recovery(name):
    spec = load_spec(name)
    result = serve(spec, [(0, 1, 0), (0, 2, 0)], write=[1, 0])
    lines = result.log[0]
    cycles = dict(zip(lines[:, 1].tolist(), lines[:, 0].tolist(), strict=False))
    table = spec.tables
    assert cycles[3] == table[0, 0, 3]  # activate to write
    assert cycles[1] == max(cycles[3] + table[0, 3, 1], table[0, 0, 1])  # write to precharge


def test_five_activates_wait_for_the_window():
    spec = load_spec("ddr4_2400_4gb_x8")
    p = spec.parameters
    result = serve(spec, [(4 * g + b, 1, 0) for b in range(2) for g in range(4)])
    acts = result.log[0][result.log[0][:, 1] == 0, 0]
    assert np.diff(acts[:4]).tolist() == [p["RRD_S"]] * 3
    assert acts[4] - acts[0] == p["FAW"]


def test_a_stream_in_one_row_runs_at_the_long_column_distance():
    spec = load_spec("ddr4_2400_4gb_x8")
    p = spec.parameters
    result = serve(spec, [(0, 0, c) for c in range(100)])
    assert result.cycles == p["RCD"] + 99 * p["CCD_L"] + p["RL"] + p["BURST"]


def test_alternating_bank_groups_reach_the_peak():
    spec = load_spec("ddr4_2400_4gb_x8")
    p = spec.parameters
    result = serve(spec, [(4 * (c % 2), 0, c // 2) for c in range(256)])
    reads = result.log[0][result.log[0][:, 1] == 2, 0]
    assert set(np.diff(reads[8:]).tolist()) == {p["CCD_S"]}
    steady = spec.structure.burst_bytes / (p["CCD_S"] * spec.clock_ps * 1e-12)
    assert steady == pytest.approx(spec.peak_bandwidth_bytes_per_s, rel=1e-9)


def test_a_refresh_delays_the_request_behind_it():
    spec = load_spec("ddr3_1600_1gb_x8")
    p = spec.parameters
    # Nothing is open when the refresh falls due: it is issued at once, the request one cycle later.
    result = serve(spec, [(0, 0, 0)], [p["REFI"] + 1], policy=Policy())
    assert latencies(result) == [p["RFC"] - 1 + p["RCD"] + p["RL"] + p["BURST"]]
    assert result.commands["REFA"] == 1


def test_pseudo_channels_do_not_share_the_data_bus():
    spec = load_spec("hbm2_2000_8gb")
    burst = spec.structure.burst_bytes
    half = spec.structure.capacity_bytes // 2
    one = Trace(np.zeros(64), np.zeros(64), np.arange(64) * burst)
    both = Trace(
        np.zeros(128), np.zeros(128), np.stack([one.address, one.address + half], 1).ravel()
    )
    alone, together = (
        simulate(spec, t, QUIET, mapping="rank-row-group-bank-column") for t in (one, both)
    )
    assert together.cycles <= alone.cycles + 8


def test_delays_of_the_controller_add_up():
    spec = load_spec("ddr3_1600_1gb_x8")
    base = serve(spec, [(0, 0, 0)]).end[0]
    names = ("think_delay", "phy_delay", "arbitration_delay")
    for name in names:
        for way in ("fw", "bw"):
            slow = Policy(refresh="NoRefresh", **{f"{name}_{way}": 5})
            assert serve(spec, [(0, 0, 0)], policy=slow).end[0] == base + 5


def test_first_read_in_the_other_simulators():
    p = load_spec("ddr4_2400_8gb_x8_ramulator").parameters
    spec = load_spec("ddr4_2400_8gb_x8_ramulator")
    # Seen from the requester Ramulator adds nothing, DRAMsim3 two cycles: one to the command
    # queue, one to the answer (first requests of the reference runs: 38 and 41 cycles).
    assert latencies(serve(spec, [(0, 0, 0)], policy=RamulatorPolicy())) == [
        p["RCD"] + p["RL"] + p["BURST"]
    ]
    spec = load_spec("ddr4_2400_8gb_x8_dramsim3")
    p = spec.parameters
    found = latencies(serve(spec, [(0, 0, 0)], policy=DRAMsim3Policy()))
    assert found == [2 + p["RCD"] + p["RL"] + p["BURST"]]


def test_closed_page_precharges_after_every_access():
    spec = load_spec("ddr3_1600_1gb_x8")
    closed = Policy(page="Closed", refresh="NoRefresh")
    result = serve(spec, [(0, 0, 0), (0, 0, 1)], [0, 1000], policy=closed)
    assert len(set(latencies(result))) == 1
    assert result.commands["RDA"] == result.commands["ACT"] == 2
    assert result.commands["PRE"] == result.row_hits == 0
