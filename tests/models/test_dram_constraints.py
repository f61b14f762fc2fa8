"""No command a controller issues breaks a rule of the memory, as an independent judge sees it."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from archsim.models.dram import layout as L
from archsim.models.dram.checker import violations
from archsim.models.dram.patterns import PATTERNS, pattern
from archsim.models.dram.policy import DRAMsim3Policy, Policy, RamulatorPolicy
from archsim.models.dram.simulate import simulate
from archsim.models.dram.spec import load_spec, presets


def bank_refresh(spec):
    if not spec.parameters["REFI_B"]:
        return "AllBank"
    return "SameBank" if spec.refresh_granularity == "same_bank" else "PerBank"


@st.composite
def policies(draw, spec):
    if draw(st.integers(0, 4)) == 0:
        return RamulatorPolicy(
            keep_hits=draw(st.booleans()), row_cap=draw(st.sampled_from([0, 1, 3]))
        )
    return Policy(
        page=draw(st.sampled_from(["Open", "OpenAdaptive", "Closed", "ClosedAdaptive"])),
        scheduler=draw(st.sampled_from(["Fifo", "FrFcfs", "FrFcfsGrp"])),
        buffer=draw(st.sampled_from(["Bankwise", "ReadWrite", "Shared"])),
        depth=draw(st.sampled_from([1, 2, 8, 64])),
        response=draw(st.sampled_from(["Fifo", "Reorder"])),
        refresh=draw(st.sampled_from(["NoRefresh", "AllBank", bank_refresh(spec)])),
        max_postponed=draw(st.integers(0, 3)),
        max_pulled_in=draw(st.integers(0, 3)),
        arbiter=draw(st.sampled_from(["Simple", "Fifo", "Reorder"])),
        max_active=draw(st.sampled_from([1, 4, 128])),
        think_delay_fw=draw(st.integers(0, 2)),
        dramsys=draw(st.sampled_from(["4.0", "5.1"])),
    )


@st.composite
def cases(draw):
    spec = load_spec(draw(st.sampled_from(presets())))
    trace = pattern(
        draw(st.sampled_from(PATTERNS)),
        draw(st.integers(1, 400)),
        spec,
        seed=draw(st.integers(0, 1000)),
        gap=draw(st.sampled_from([0, 1, 7, 60])),
        write_share=draw(st.sampled_from([0.0, 0.4, 1.0])),
    )
    return spec, trace, draw(policies(spec))


@given(cases())
@settings(max_examples=60, deadline=None)
def test_no_rule_is_broken_and_every_request_is_served_once(case):
    spec, trace, policy = case
    result = simulate(spec, trace, policy, log=True)
    for log in result.log:
        assert violations(spec, log) == []
    log = np.concatenate(result.log)
    served = log[np.isin(log[:, 1], [L.RD, L.WR, L.RDA, L.WRA]), 4]
    if isinstance(policy, Policy) and spec.structure.channels == 1:
        assert sorted(served) == list(range(len(trace)))
        least = spec.parameters["WL"] + spec.parameters["BURST"]
        assert (result.end - result.begin >= min(least, spec.parameters["RL"])).all()
    assert (result.begin >= trace.arrival).all()
    assert (result.end >= result.begin).all()
    assert result.cycles >= trace.arrival[-1]
    assert sum(result.commands.values()) == len(log)


@pytest.mark.parametrize("close", [False, True])
@pytest.mark.parametrize(
    "name", ["ddr4_2400_8gb_x8_dramsim3", "hbm2_2000_8gb_dramsim3", "ddr3_1600_1gb_x8"]
)
def test_dramsim3_breaks_no_rule(name, close):
    spec = load_spec(name)
    for kind in PATTERNS:
        trace = pattern(kind, 800, spec, seed=5, gap=2, write_share=0.4)
        log = simulate(spec, trace, DRAMsim3Policy(close_page=close), log=True).log[0]
        assert violations(spec, log) == []


def test_the_judge_sees_commands_that_come_too_early():
    spec = load_spec("ddr4_2400_4gb_x8")
    trace = pattern("mixed", 300, spec, seed=1, gap=0)
    log = simulate(spec, trace, Policy(max_postponed=0), log=True).log[0]
    assert violations(spec, log) == []
    seen = 0
    for line in range(1, len(log)):
        if log[line, 0] - 1 > log[line - 1, 0]:
            earlier = log.copy()
            earlier[line, 0] -= 1
            seen += bool(violations(spec, earlier))
    # A controller that wastes no cycle issues nearly every command at the first legal one.
    assert seen > 0.9 * np.sum(np.diff(log[:, 0]) > 1)
    wrong = log.copy()
    wrong[np.flatnonzero(wrong[:, 1] == L.RD)[0], 3] += 1
    assert any("is not open" in line for line in violations(spec, wrong))


@pytest.mark.parametrize("name", presets())
def test_presets_hold_the_relations_of_their_timings(name):
    spec = load_spec(name)
    p = spec.parameters
    assert p["RC"] >= p["RAS"]
    assert p["RCD_RD"] + p["BURST"] <= p["RAS"]
    assert p["CCD_L"] >= p["CCD_S"] >= 1
    assert p["RRD_L"] >= p["RRD_S"]
    assert 0 < p["FAW"] <= 10 * p["RRD_L"]
    assert p["RFC"] < p["REFI"]
    # One refresh of every row within 64 ms (32 ms where the standard halves it): 8192 commands.
    assert 3.7e-6 <= p["REFI"] * spec.clock_ps * 1e-12 <= 8.0e-6 or spec.standard in (
        "GDDR6",
        "LPDDR4",
        "LPDDR5",
    )
    assert spec.source
    assert spec.currents or (spec.per_bit and spec.energy_source)
