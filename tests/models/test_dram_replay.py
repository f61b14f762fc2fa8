"""Commands issued one by one, and those that reach all banks at once."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from archsim.errors import InputError
from archsim.models.dram.checker import violations
from archsim.models.dram.replay import replay
from archsim.models.dram.spec import load_spec, presets


@given(st.sampled_from(presets()), st.data())
@settings(max_examples=60, deadline=None)
def test_any_commands_in_any_order_keep_their_distances(name, data):
    spec = load_spec(name)
    names = [
        "ACT",
        "PRE",
        "RD",
        "WR",
        "RDA",
        "WRA",
        "PREA",
        "REFA",
        "ACTB",
        "MACB",
        "WRB",
        "PREB",
        "RDB",
    ]
    command = st.tuples(st.sampled_from(names), st.integers(0, spec.structure.banks - 1))
    commands = data.draw(st.lists(command, min_size=1, max_size=40))
    log = replay(spec, commands).log
    assert (np.diff(log[:, 0]) >= 0).all()
    rows = ("is not open", "is open", "a row is open")
    assert [line for line in violations(spec, log) if not line.endswith(rows)] == []


def test_a_multiply_in_all_banks_runs_at_the_distance_within_a_group():
    spec = load_spec("hbm2_2000_8gb")
    p = spec.parameters
    columns = spec.structure.columns // spec.structure.burst_length
    row = [("ACTB", 0), *[("MACB", 0)] * columns, ("PREB", 0)]
    done = replay(spec, row * 4)
    macs = done.log[done.log[:, 1] == 11, 0]
    assert np.diff(macs[:columns]).tolist() == [p["CCD_L"]] * (columns - 1)
    # From row to row: activate, columns, recovery, precharge, by the constraint table.
    t = spec.tables[0]
    period = t[10, 11] + (columns - 1) * p["CCD_L"] + max(t[11, 13], 0) + t[13, 10]
    assert np.diff(macs[::columns]).tolist() == [period] * 3
    # Every command reads a burst in each bank of the pseudo channel: more than the pins carry.
    banks = spec.structure.bank_groups * spec.structure.banks_per_group
    inside = 4 * columns * banks * p["BURST"] / (4 * period)
    assert inside > 8
    assert done.counts[0, 11] == 4 * columns


def test_barriers_hold_commands_back():
    spec = load_spec("ddr4_2400_4gb_x8")
    free = replay(spec, [("ACT", 0), ("RD", 0)])
    held = replay(spec, [("ACT", 0), ("RD", 0)], [0, 500])
    assert free.log[:, 0].tolist() == [0, spec.parameters["RCD"]]
    assert held.log[:, 0].tolist() == [0, 500]
    assert held.cycles == 501
    assert replay(spec, []).cycles == 0


@pytest.mark.parametrize("command", [("FLIP", 0), ("ACT", 999), ("ACT", -1)])
def test_what_is_no_command_is_refused(command):
    with pytest.raises(InputError, match="command"):
        replay(load_spec("ddr4_2400_4gb_x8"), [command])
