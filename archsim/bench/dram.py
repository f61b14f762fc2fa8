"""Speed of the DRAM model: requests and designs a second of CPU time of one core."""

from __future__ import annotations

import statistics
import time

import numpy as np

DESIGNS = 48
REQUESTS = 10_000


def bench_dram(repeat: int, scenario: str) -> list[tuple[str, str]]:
    """Requests a core-second, with energy, per pattern; designs a core-second of ArchGym's space.

    The traces are archsim's own patterns on the memory of ArchGym's environment and on DDR4 and
    HBM2; every repetition decodes addresses, links the trace and accounts for energy anew.
    """
    from archsim.models.dram.designs import random_policies
    from archsim.models.dram.patterns import pattern
    from archsim.models.dram.policy import Policy
    from archsim.models.dram.simulate import Workbench, simulate
    from archsim.models.dram.spec import load_spec

    rows: list[tuple[str, str]] = []
    rates: list[float] = []
    policy = Policy(max_postponed=8, max_pulled_in=8)
    for memory in ("ddr3_1600_1gb_x8", "ddr4_2400_4gb_x8", "hbm2_2000_8gb"):
        spec = load_spec(memory)
        for kind in ("stream", "random", "mixed", "cloud"):
            trace = pattern(kind, 100_000, spec, seed=1)
            simulate(spec, trace, policy)
            seconds = []
            for _ in range(repeat):
                start = time.process_time()
                simulate(spec, trace, policy)
                seconds.append(time.process_time() - start)
            rates.append(len(trace) / statistics.median(seconds))
            rows.append((f"{memory}, {kind}: requests", f"{rates[-1]:,.0f} requests/core-s"))
    rows.append(("median over these traces", f"{statistics.median(rates):,.0f} requests/core-s"))
    spec = load_spec("ddr3_1600_1gb_x8")
    vectors = random_policies(DESIGNS, np.random.default_rng(0))
    speeds = []
    for kind in ("stream", "random", "cloud"):
        bench = Workbench(spec, pattern(kind, REQUESTS, spec, seed=1))
        bench.evaluate(vectors[:1])
        seconds = []
        for _ in range(repeat):
            start = time.process_time()
            bench.evaluate(vectors)
            seconds.append(time.process_time() - start)
        speeds.append(DESIGNS / statistics.median(seconds))
        rows.append(
            (
                f"random controllers, {kind} of {REQUESTS:,} requests",
                f"{speeds[-1]:,.0f} designs/core-s",
            )
        )
    return rows
