"""What more mapping effort buys: every shipped network on every shipped machine."""

from __future__ import annotations

from statistics import geometric_mean

import numpy as np

from archsim.hardware import available_machines, load_machine, resolve
from archsim.system import NetworkEvaluator
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


#: What is also mapped by the certified mapper: all networks would take hours.
CERTIFIED = (("alexnet", "eyeriss"), ("alexnet", "tiny"))


def certified_gaps() -> list[tuple[str, str, float, float]]:
    """Workload, machine, and the EDP of fast and of thorough over that of ``optimal``."""
    found = []
    for net, machine in CERTIFIED:
        designs = resolve(load_machine(machine))
        fast, thorough, optimal = (
            NetworkEvaluator([load_workload(net)], effort=effort).evaluate(designs)["edp_js"][0]
            for effort in ("fast", "thorough", "optimal")
        )
        found.append((net, machine, float(fast / optimal), float(thorough / optimal)))
    return found


def validate_mapper() -> bool:
    """Print the tables; True if more effort never does worse."""
    found = gaps()
    nets, machines = ({key[i]: None for key in found} for i in range(2))
    print("EDP of whole networks: mapped fast over mapped thoroughly (1.00: nothing to gain)")
    rows = [(net, *(f"{found[net, m]:.3f}" for m in machines)) for net in nets]
    means = [geometric_mean(found[net, m] for net in nets) for m in machines]
    rows.append(("geometric mean", *(f"{mean:.3f}" for mean in means)))
    print(table(("network", *machines), rows))
    values = np.array(list(found.values()))
    worst = max(found, key=found.__getitem__)
    print(
        f"median {np.median(values):.3f}, 90 % below {np.quantile(values, 0.9):.3f}, worst "
        f"{found[worst]:.3f} ({worst[0]} on {worst[1]}). Thorough is a local search around the "
        "template, not a proven optimum: the true gap can be larger."
    )
    print("\nEDP over that of effort=optimal (certified mapper, or its best within its budget of")
    print("steps a layer, or the template's where residual tiles win); a subset, for time")
    certified = certified_gaps()
    rows = [(net, m, f"{fast:.3f}", f"{most:.3f}") for net, m, fast, most in certified]
    print(table(("network", "machine", "fast", "thorough"), rows))
    never_worse = all(min(fast, most) >= 1 - 1e-9 for *_, fast, most in certified)
    return bool((values >= 1 - 1e-9).all()) and never_worse
