"""What more mapping effort buys: every shipped network on every shipped machine."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import geometric_mean

import numpy as np

from archsim.errors import InputError
from archsim.hardware import available_machines, load_machine, resolve
from archsim.system import NetworkEvaluator, evaluate
from archsim.validate.references import table
from archsim.workload import available_workloads, load_workload


def gaps(
    workloads: list[str] | None = None, machines: list[str] | None = None
) -> dict[tuple[str, str], float]:
    """EDP mapped with little effort over EDP mapped with much, by (workload, machine)."""
    found = {}
    nets = {name: load_workload(name) for name in workloads or available_workloads()}
    tables = {
        name: resolve(load_machine(name)) for name in machines or available_machines("spatial")
    }
    for net, workload in nets.items():
        evaluators = [
            NetworkEvaluator([workload], effort=effort) for effort in ("fast", "thorough")
        ]
        for machine, designs in tables.items():
            fast, thorough = (e.evaluate(designs)["edp_js"][0] for e in evaluators)
            found[net, machine] = float(fast / thorough)
    return found


@dataclass(frozen=True)
class CertifiedGap:
    """A network on a machine, mapped with every effort.

    Attributes:
        workload, machine: Names.
        fast, thorough: EDP over that of ``optimal``. A network's EDP is the product of two sums, so
            it can be below 1 though no layer's own EDP is.
        worse: Layers whose own EDP is worse with more effort: none should be.
        seconds: CPU time of ``optimal``; less where layers were known from the cache.
    """

    workload: str
    machine: str
    fast: float
    thorough: float
    worse: int
    seconds: float


def certified_gaps(
    workloads: list[str], machines: list[str], seconds: float
) -> tuple[list[CertifiedGap], list[tuple[str, str]]]:
    """What less effort leaves on the table beside ``effort="optimal"``.

    Args:
        workloads, machines: Names; every pair is wanted, networks of few layers first.
        seconds: Process CPU time after which no further pair is begun (one always is).

    Returns:
        The pairs done; workload and machine of the pairs left out.
    """
    nets = {name: load_workload(name) for name in workloads}
    names = sorted(nets, key=lambda name: len(nets[name].operations))
    pairs = [(name, machine) for name in names for machine in machines]
    found: list[CertifiedGap] = []
    began = time.process_time()
    for i, (name, machine) in enumerate(pairs):
        start = time.process_time()
        if i and start - began > seconds:
            return found, pairs[i:]
        costs = []
        for effort in ("fast", "thorough", "optimal"):
            start = time.process_time()
            costs.append(evaluate(nets[name], machine, effort=effort))
        spent, worse = time.process_time() - start, 0
        for less, more in pairwise(costs):
            for a, b in zip(less.layers, more.layers, strict=True):
                worse += b.energy_j * b.latency_s > a.energy_j * a.latency_s * (1 + 1e-9)
        fast, thorough, optimal = (cost.edp_js for cost in costs)
        found.append(CertifiedGap(name, machine, fast / optimal, thorough / optimal, worse, spent))
    return found, []


def _names(text: str | None, known: Sequence[str], field: str) -> list[str]:
    """The names in a list with commas, all if there is none."""
    names = text.split(",") if text else list(known)
    for name in names:
        if name not in known:
            raise InputError(
                "unknown name", field=field, found=name, expected=" or ".join(known)
            )  # fmt: skip
    return names


def validate_mapper(
    workloads: str | None = None, machines: str | None = None, seconds: float = 60.0
) -> bool:
    """Print the tables; True if more effort never does worse by any layer's own EDP.

    Args:
        workloads, machines: Names with commas between them; default all that are shipped.
        seconds: CPU time for the certified mapper; pairs that it does not reach are named.

    Raises:
        InputError: An unknown name or a bad number.
    """
    nets = _names(workloads, available_workloads(), "--workloads")
    engines = _names(machines, available_machines("spatial"), "--machines")
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or not seconds >= 0:
        raise InputError("must be a number >= 0", field="--seconds", found=seconds)
    found = gaps(nets, engines)
    print("EDP of whole networks: mapped fast over mapped thoroughly (1.00: nothing to gain)")
    rows = [(net, *(f"{found[net, m]:.3f}" for m in engines)) for net in nets]
    means = [geometric_mean(found[net, m] for net in nets) for m in engines]
    rows.append(("geometric mean", *(f"{mean:.3f}" for mean in means)))
    print(table(("network", *engines), rows))
    values = np.array(list(found.values()))
    worst = max(found, key=found.__getitem__)
    print(
        f"median {np.median(values):.3f}, 90 % below {np.quantile(values, 0.9):.3f}, worst "
        f"{found[worst]:.3f} ({worst[0]} on {worst[1]}). Thorough is a local search around the "
        "template, not a proven optimum: the true gap can be larger."
    )
    print("\nEDP over that of effort=optimal (certified mapper, or its best within its budget of")
    print("steps a layer, or the template's where residual tiles win)")
    certified, left = certified_gaps(nets, engines, seconds)
    rows = [
        (g.workload, g.machine, f"{g.fast:.3f}", f"{g.thorough:.3f}", g.worse, f"{g.seconds:.1f}")
        for g in certified
    ]
    print(table(("network", "machine", "fast", "thorough", "worse layers", "CPU s"), rows))
    for effort in ("fast", "thorough"):
        ratios = np.array([getattr(gap, effort) for gap in certified])
        print(
            f"{effort}: geometric mean {geometric_mean(ratios):.3f}, median "
            f"{np.median(ratios):.3f}, worst {ratios.max():.3f}"
        )
    print(
        "worse layers: whose own EDP grows with effort (a network's, a product of sums, may). CPU "
        "time of optimal, less where the cache knew a layer."
    )
    print(f"{len(certified)} pairs in {seconds:g} s of CPU time (--seconds)", end="")
    print(f", {len(left)} not begun, from {left[0][0]} on {left[0][1]}" if left else ", all")
    return not any(gap.worse for gap in certified)
