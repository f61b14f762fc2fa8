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
    tables = {name: resolve(load_machine(name)) for name in machines or available_machines("spatial")}
    for net, workload in nets.items():
        evaluators = [
            NetworkEvaluator([workload], effort=effort) for effort in ("fast", "thorough")
        ]
        for machine, designs in tables.items():
            fast, thorough = (e.evaluate(designs)["edp_js"][0] for e in evaluators)
            found[net, machine] = float(fast / thorough)
    return found


def validate_mapper() -> bool:
    """Print the table; True if more effort never does worse."""
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
    return bool((values >= 1 - 1e-9).all())
