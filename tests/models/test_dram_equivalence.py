"""Controllers of one class serve every trace alike, and the classes are few."""

from __future__ import annotations

import numpy as np
import pytest

from archsim.models.dram.designs import PARAMETERS, policies
from archsim.models.dram.equivalence import canonical
from archsim.models.dram.patterns import pattern
from archsim.models.dram.simulate import Workbench
from archsim.models.dram.spec import load_spec

SPEC = load_spec("ddr3_1600_1gb_x8")
SMALL = {
    **PARAMETERS,
    # small numbers, where buffers and limits bind
    "RequestBufferSize": (1, 2, 3, 4, 8, 128),
    "MaxActiveTransactions": (1, 2, 3, 4, 8, 128),
}
FIELDS = ("time_s", "latency_s", "tail_latency_s", "energy_j", "row_hits", "commands")


def random_designs(count: int, seed: int, release: str) -> np.ndarray:
    rng = np.random.default_rng(seed)
    columns = {
        name: [values[k] for k in rng.integers(0, len(values), count)]
        for name, values in SMALL.items()
    }
    return policies(columns, release)  # type: ignore[arg-type]


@pytest.mark.parametrize("release", ["4.0", "5.1"])
@pytest.mark.parametrize(
    ("kind", "share"),
    [("stream", 0.0), ("random", 0.0), ("random", 1.0), ("phases", 0.0), ("mixed", 0.4)],
)
def test_a_class_serves_a_trace_alike_in_every_figure(kind: str, share: float, release: str):
    trace = pattern(kind, 800, SPEC, seed=5, write_share=share)
    designs = random_designs(200, 7, release)
    alike = canonical(designs, trace.write)
    assert (designs != alike).any(axis=1).mean() > 0.5
    bench = Workbench(SPEC, trace)
    one, other = bench.evaluate(designs, (0.95,)), bench.evaluate(alike, (0.95,))
    for name in FIELDS:
        assert np.array_equal(getattr(one, name), getattr(other, name)), name


def test_a_representative_stands_for_itself():
    designs = random_designs(500, 1, "5.1")
    for write in (np.zeros(2, np.int8), np.array([0, 1], np.int8), np.ones(2, np.int8)):
        alike = canonical(designs, write)
        assert np.array_equal(canonical(alike, write), alike)


def test_what_can_matter_is_told_apart():
    """Every option that is merged under some others is kept under the rest, and does matter."""
    trace = pattern("phases", 3000, SPEC, seed=5, write_share=0.4)
    base = {
        "PagePolicy": ["Open"],
        "Scheduler": ["FrFcfsGrp"],
        "SchedulerBuffer": ["ReadWrite"],
        "RequestBufferSize": [16],
        "RespQueue": ["Fifo"],
        "RefreshPolicy": ["AllBank"],
        "RefreshMaxPostponed": [1],
        "RefreshMaxPulledin": [1],
        "Arbiter": ["Fifo"],
        "MaxActiveTransactions": [32],
    }
    bench = Workbench(SPEC, trace)
    start = policies(base)
    time = bench.evaluate(start).latency_s[0]
    for name, other in (
        ("PagePolicy", "Closed"),
        ("Scheduler", "Fifo"),
        ("SchedulerBuffer", "Shared"),
        ("RequestBufferSize", 2),
        ("RespQueue", "Reorder"),
        ("RefreshPolicy", "NoRefresh"),
        ("RefreshMaxPostponed", 8),
        ("Arbiter", "Simple"),
        ("MaxActiveTransactions", 20),
    ):
        changed = policies({**base, name: [other]})
        assert (canonical(changed, trace.write) != canonical(start, trace.write)).any(), name
        assert bench.evaluate(changed).latency_s[0] != time, name


def test_archgyms_space_has_few_classes():
    powers = tuple(2**k for k in range(8))
    steps = (1, 2, 4, 8)
    space = {
        **PARAMETERS,
        "RequestBufferSize": powers,
        "RefreshMaxPostponed": steps,
        "RefreshMaxPulledin": steps,
        "MaxActiveTransactions": powers,
    }
    options = []
    for name, values in space.items():
        columns = {other: [items[0]] * len(values) for other, items in space.items()}
        options.append(policies({**columns, name: values}))
    first = options[0][0]
    grid = np.meshgrid(*(np.arange(len(values)) for values in space.values()), indexing="ij")
    assert grid[0].size == 442_368
    designs = np.tile(first, (grid[0].size, 1))
    for variants, places in zip(options, grid, strict=True):  # every option has its own columns
        designs += (variants - first)[places.ravel()]
    for write, expected in (([0], 23_868), ([0, 1], 51_731)):
        rows = canonical(designs, np.array(write, np.int8))
        key = np.zeros(len(rows), np.int64)
        for column in rows.T:
            assert 0 <= column.min() <= column.max() < 256
            if np.ptp(column):
                key = key * (int(column.max()) + 1) + column
        assert len(np.unique(key)) == expected
