"""Samples of the comparisons with DRAMSys, DRAMsim3 and Ramulator."""

import csv

import numpy as np
import pytest

from archsim.errors import ArchsimError
from archsim.validate import dram
from archsim.validate.references import references

pytestmark = pytest.mark.refs


@pytest.fixture(scope="module")
def folder():
    try:
        return references("dram")
    except ArchsimError as error:
        pytest.skip(str(error))


@pytest.mark.parametrize(
    ("table", "release", "time", "unit", "identical"),
    [
        ("v51_200.csv", "5.1", "v51_time_ps", 1e-12, 1.0),
        ("archgym_random_1000.csv", "4.0", "total_time_ns", 1e-9, 1.0),
    ],
)
def test_designs_of_archgym(folder, table, release, time, unit, identical):
    with open(folder / "dramsys" / table, encoding="utf-8") as file:
        rows = list(csv.DictReader(file))[::5]
    found = dram.errors(folder, rows, release, time, unit)
    wrong = np.concatenate([pair[0] for pair in found.values()])
    energy = np.concatenate([pair[1] for pair in found.values()])
    assert (wrong == 0).mean() >= identical
    assert energy.max() < 5e-4


@pytest.mark.parametrize(
    ("simulator", "memories"), [("dramsim3", dram.DRAMSIM3), ("ramulator2", dram.RAMULATOR)]
)
def test_every_request_of_the_other_simulators(folder, simulator, memories):
    for memory, preset in memories.items():
        case = dram.case_of(folder, simulator, memory, preset, "random_mixed_2r1w", 0)
        assert case.identical == 1.0
        assert case.finish == case.hits == 0.0
        assert case.energy is None or abs(case.energy) < 1e-3


def test_every_request_of_dramsys(folder):
    from archsim.models.dram.policy import Policy
    from archsim.models.dram.simulate import simulate

    policy = Policy(max_postponed=8, max_pulled_in=8, max_active=128)
    trace = dram.trace_of(folder, "random_mixed_2r1w", 0, 20_000)
    ours = simulate(dram.dramsys_ddr4(), trace, policy, mapping="bank-group-row-column")
    name = "DDR4_2400_4Gb_x8_FrFcfs__random_mixed_2r1w__gap0__perreq20k.csv.gz"
    theirs = dram.pairs(folder / "dramsys" / name) // 833
    assert (theirs == np.stack([ours.begin, ours.end], 1)).all()
