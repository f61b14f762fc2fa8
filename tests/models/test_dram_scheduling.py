"""Order in which controllers serve requests, and what their options promise."""

import numpy as np
import pytest

from archsim.errors import InputError
from archsim.models.dram import layout as L
from archsim.models.dram.checker import violations
from archsim.models.dram.patterns import pattern
from archsim.models.dram.policy import DRAMsim3Policy, Policy, RamulatorPolicy
from archsim.models.dram.simulate import simulate
from archsim.models.dram.spec import load_spec
from archsim.models.dram.trace import Trace

SPEC = load_spec("ddr3_1600_1gb_x8")
COLUMNS = (L.RD, L.WR, L.RDA, L.WRA)


def trace(places, arrival=None, write=None):
    """Requests to (bank, row, column) under the mapping row-bank-column."""
    n = len(places)
    address = [((row * 8 + bank) * 128 + column) * 64 for bank, row, column in places]
    return Trace(
        np.zeros(n) if arrival is None else np.array(arrival),
        np.zeros(n) if write is None else np.array(write),
        np.array(address),
    )


def order(result):
    """Requests in the order of their column commands."""
    log = result.log[0]
    return log[np.isin(log[:, 1], COLUMNS), 4].tolist()


def names(result):
    return [L.COMMANDS[c] for c in result.log[0][:, 1]]


def run(t, **settings):
    return simulate(SPEC, t, Policy(**{"refresh": "NoRefresh"} | settings), log=True)


def test_row_hits_pass_older_requests_unless_first_come_is_first_served():
    t = trace([(0, 1, 0), (0, 2, 0), (0, 1, 1), (0, 2, 1)])
    assert order(run(t, scheduler="FrFcfs")) == [0, 2, 1, 3]
    assert order(run(t, scheduler="Fifo")) == [0, 1, 2, 3]
    assert run(t, scheduler="FrFcfs").commands["ACT"] == 2
    assert run(t, scheduler="Fifo").commands["ACT"] == 4


def test_grouping_keeps_the_direction_but_not_past_the_same_address():
    places = [(0, 1, 0), (0, 1, 1), (0, 1, 2), (0, 1, 3)]
    t = trace(places, write=[0, 1, 0, 1])
    assert order(run(t, scheduler="FrFcfsGrp")) == [0, 2, 1, 3]
    assert order(run(t, scheduler="FrFcfs")) == [0, 1, 2, 3]
    same = trace([(0, 1, 0), (0, 1, 1), (0, 1, 1), (0, 1, 3)], write=[0, 1, 0, 1])
    assert order(run(same, scheduler="FrFcfsGrp")) == [0, 1, 3, 2]


def test_adaptive_pages_close_rows_nobody_waits_for():
    alone = trace([(0, 1, 0)])
    pair = trace([(0, 1, 0), (0, 2, 0)])
    hits = trace([(0, 1, 0), (0, 1, 1)])
    assert names(run(alone, page="OpenAdaptive")) == ["ACT", "RD"]
    assert names(run(alone, page="ClosedAdaptive")) == ["ACT", "RDA"]
    assert names(run(pair, page="OpenAdaptive")) == ["ACT", "RDA", "ACT", "RD"]
    assert names(run(hits, page="ClosedAdaptive")) == ["ACT", "RD", "RDA"]
    assert names(run(hits, page="Closed")) == ["ACT", "RDA", "ACT", "RDA"]
    assert names(run(pair, page="Open")) == ["ACT", "RD", "PRE", "ACT", "RD"]


@pytest.mark.parametrize(
    ("buffer", "depth", "expected"),
    # How many requests are taken in the first cycle when all are there at once: the bank-wise
    # buffer looks at the bank of the last request, the others at all of them.
    [("Bankwise", 2, 3), ("ReadWrite", 2, 2), ("Shared", 3, 3), ("Shared", 1, 1)],
)
def test_buffers_take_what_their_depth_allows(buffer, depth, expected):
    places = [(0, 1, 0), (1, 1, 0), (1, 2, 0), (2, 1, 0), (2, 2, 0), (2, 3, 0), (3, 1, 0)]
    result = run(trace(places), buffer=buffer, depth=depth)
    # A request is made when the one before it was taken.
    assert (result.begin == 0).sum() == expected + 1


def test_reads_and_writes_have_buffers_of_their_own():
    t = trace([(b, 1, 0) for b in range(6)], write=[0, 1, 0, 1, 0, 1])
    deep = run(t, buffer="ReadWrite", depth=2, depth_write=8)
    # Both must have room: two reads and a write are in, and the next write is not taken although
    # there is room for it.
    assert (deep.begin == 0).sum() == 3 + 1


def test_reordered_responses_come_in_the_order_of_the_requests():
    t = trace([(0, 1, 0), (0, 2, 0), (0, 1, 1), (1, 1, 0)])
    free, held = run(t), run(t, response="Reorder")
    assert np.argsort(free.end, kind="stable").tolist() != [0, 1, 2, 3]
    assert (np.diff(held.end) >= 1).all()
    assert held.cycles >= free.cycles
    arbiter = run(t, arbiter="Reorder")
    assert (np.diff(arbiter.end) >= 1).all()


def test_a_limit_of_active_transactions_serves_one_after_the_other():
    t = trace([(b, 1, 0) for b in range(4)])
    limited = run(t, arbiter="Fifo", max_active=1)
    assert (limited.begin[1:] >= 0).all()
    reads = limited.log[0][limited.log[0][:, 1] == L.RD, 0]
    p = SPEC.parameters
    assert (np.diff(reads) > p["RCD"] + p["RL"]).all()
    assert run(t, arbiter="Simple", max_active=1).cycles < limited.cycles


def test_strict_column_order():
    t = trace([(0, 1, 0), (1, 1, 0), (0, 1, 1), (2, 1, 0), (1, 1, 1)])
    assert order(run(t, scheduler="Fifo", mux="Strict")) == [0, 1, 2, 3, 4]


def test_refreshes_are_postponed_while_busy_and_made_up_for_later():
    busy = pattern("stream", 20_000, SPEC, gap=0)
    now = simulate(SPEC, busy, Policy(max_postponed=0))
    later = simulate(SPEC, busy, Policy(max_postponed=8))
    interval = SPEC.parameters["REFI"]
    assert now.commands["REFA"] == now.cycles // interval
    assert later.commands["REFA"] == max(0, later.cycles // interval - 8)
    assert later.cycles < now.cycles


def test_refreshes_are_pulled_in_while_idle():
    gap = trace([(0, 0, 0), (0, 0, 1)], [0, 40 * SPEC.parameters["REFI"]])
    plain = simulate(SPEC, gap, Policy(), log=True)
    early = simulate(SPEC, gap, Policy(max_pulled_in=8), log=True)
    first = early.log[0][early.log[0][:, 1] == L.REFA, 0]
    rfc = SPEC.parameters["RFC"]
    assert np.diff(first[:9]).tolist() == [rfc] * 8
    # The ninth falls due with the last request.
    assert early.commands["REFA"] - plain.commands["REFA"] in (7, 8)


def test_refresh_of_banks_leaves_the_others_working():
    spec = load_spec("lpddr4_3200_8gb_x16")
    t = pattern("random", 4000, spec, seed=2, gap=0)
    all_banks = simulate(spec, t, Policy())
    one = simulate(spec, t, Policy(refresh="PerBank"))
    assert one.commands["REFA"] == 0 < one.commands["REFB"]
    assert one.commands["REFB"] == pytest.approx(
        one.cycles / spec.parameters["REFI_B"], abs=spec.structure.banks + 1
    )
    assert one.cycles < all_banks.cycles


def test_requests_of_the_4_0_release_follow_a_cycle_apart():
    t = trace([(b, 1, 0) for b in range(4)])
    assert run(t, dramsys="5.1").begin.tolist() == [0, 0, 0, 0]
    assert run(t, dramsys="4.0").begin.tolist() == [0, 1, 2, 3]


def test_channels_work_on_their_own():
    spec = load_spec("ddr4_3200_8gb_x8")
    data = spec.model_dump()
    data["structure"]["channels"] = 4
    wide = load_spec(data)
    t = pattern("stream", 4000, spec, gap=0)
    one, four = simulate(spec, t), simulate(wide, t)
    assert four.reads == 4000
    assert one.cycles / four.cycles > 3
    assert four.energy_j > 0
    assert (four.end > four.begin).all()


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("ddr3_1600_1gb_x8", {"refresh": "PerBank"}),
        ("ddr5_4800_16gb_x8", {"refresh": "PerBank"}),
        ("hbm2_2000_8gb", {"refresh": "SameBank"}),
    ],
)
def test_refreshes_a_memory_lacks_are_refused(name, settings):
    spec = load_spec(name)
    with pytest.raises(InputError, match="refresh"):
        simulate(spec, pattern("stream", 4, spec), Policy(**settings))


@pytest.mark.parametrize("field", ["depth", "max_active"])
def test_bad_settings_are_refused(field):
    with pytest.raises(ValueError, match=field):
        Policy(**{field: 0})


@pytest.mark.parametrize(
    ("name", "policy"),
    [
        ("hbm2_2000_8gb_dramsim3", DRAMsim3Policy()),
        ("hbm2_2000_8gb_ramulator", RamulatorPolicy()),
    ],
)
def test_a_full_channel_holds_up_the_requests_behind(name, policy):
    one = load_spec(name)
    data = one.model_dump()
    data["structure"]["channels"] = 4
    spec = load_spec(data)
    mixed = pattern("mixed", 3000, spec, seed=1, gap=0)
    result = simulate(spec, mixed, policy, log=True)
    assert (np.diff(result.begin) >= 1).all()
    assert all(violations(spec, log) == [] for log in result.log)
    # Where every request goes to one channel, the others change nothing.
    lines = np.arange(2000) * spec.structure.burst_bytes
    narrow = Trace(np.zeros(2000), np.zeros(2000), lines)
    wide = Trace(np.zeros(2000), np.zeros(2000), lines * 4)
    alone = simulate(one, narrow, policy, mapping="row-rank-group-bank-column-channel")
    among = simulate(spec, wide, policy, mapping="row-rank-group-bank-column-channel")
    assert (alone.begin == among.begin).all()
    assert (alone.end == among.end).all()
    # Alternating channels, served twice as fast as one can, are bound by the slower one's turns.
    assert result.cycles < simulate(one, mixed, policy, wrap=True).cycles
