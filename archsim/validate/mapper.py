"""What more mapping effort buys: shipped networks on every shipped machine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import geometric_mean

import numpy as np

from archsim.errors import InputError
from archsim.hardware import available_machines, load_machine, resolve
from archsim.models.loopnest import kernel as k
from archsim.models.loopnest.mapper import OBJECTIVES
from archsim.models.loopnest.nest import build_nest
from archsim.system import NetworkEvaluator
from archsim.system.optimal import refine
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


#: Networks the certified mapper is asked about unless others are named.
SAMPLE = ("alexnet", "resnet50", "mobilenet_v2", "bert_base", "gpt2_small")
#: Nodes visited and labels tried a layer.
STEPS = 2e5


@dataclass(frozen=True)
class CertifiedGap:
    """Layers of a network on a machine, mapped with every effort.

    Attributes:
        workload, machine: Names.
        fast, thorough: Every layer's EDP over that of ``optimal``.
        proven: How many the certified mapper finished within its steps.
        worse: How many have a worse EDP with more effort: none should.
    """

    workload: str
    machine: str
    fast: tuple[float, ...]
    thorough: tuple[float, ...]
    proven: int
    worse: int


def certified_gaps(
    workloads: Sequence[str], machines: Sequence[str], layers: int = 2, steps: float = STEPS
) -> list[CertifiedGap]:
    """What less effort leaves on the table beside ``effort="optimal"``, the same every time.

    Args:
        workloads, machines: Names; zeros that a machine knows are not counted on.
        layers: Of every network so many, at equal distances in the list of unique shapes.
        steps: Of the certified mapper, a layer. Past them its best, or the local search's, stands.
    """
    found: list[CertifiedGap] = []
    for name in workloads:
        workload = load_workload(name)
        for machine in machines:
            engines = resolve(load_machine(machine))
            found.append(_certified_gap(name, workload, machine, engines, layers, steps))
    return found


def _certified_gap(name, workload, machine, engines, layers: int, steps: float) -> CertifiedGap:
    nest, costs = build_nest(engines), []
    for effort in ("fast", "thorough"):
        evaluator = NetworkEvaluator([workload], effort=effort)
        _, details, _ = evaluator.run(engines, details=True)
        costs.append(details[0][0])
    einsums, dims = evaluator.einsums(), evaluator.table.problems.dims
    count = min(layers, len(einsums))
    chosen = [(2 * i + 1) * len(einsums) // (2 * count) for i in range(count)]
    done, factors, orders, kept = (array[:, chosen] for array in details)
    proven = refine(
        [einsums[o] for o in chosen], dims, OBJECTIVES.index("edp"), nest, done, factors, orders,
        kept, steps=steps, use_cache=False,
    )  # fmt: skip
    edp = [rows[:, k.ENERGY_J] * rows[:, k.CYCLES] for rows in (*costs, done[0])]
    fast, thorough = (values[chosen] / edp[2] for values in edp[:2])
    worse = int((edp[1] > edp[0] * (1 + 1e-9)).sum() + (thorough < 1 - 1e-9).sum())
    return CertifiedGap(name, machine, tuple(fast), tuple(thorough), int(proven.sum()), worse)


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
    workloads: str | None = None, machines: str | None = None, layers: int = 2
) -> bool:
    """Print the tables; True if more effort never does worse by any layer's own EDP.

    Args:
        workloads, machines: Names with commas between them; default all machines that are shipped,
            and all networks (:data:`SAMPLE` for the certified mapper).
        layers: Of a network on a machine, how many the certified mapper is asked about.

    Raises:
        InputError: An unknown name or a bad number.
    """
    nets = _names(workloads, available_workloads(), "--workloads")
    engines = _names(machines, available_machines("spatial"), "--machines")
    if isinstance(layers, bool) or not isinstance(layers, int) or layers < 1:
        raise InputError("must be a whole number >= 1", field="--layers", found=layers)
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
    certified = certified_gaps(nets if workloads else SAMPLE, engines, layers)
    _print_certified(certified)
    return not any(gap.worse for gap in certified)


def _print_certified(certified: list[CertifiedGap]) -> None:
    print(
        "\nEDP of single layers over that of effort=optimal (the certified mapper, its best within "
        f"{STEPS:g} steps,\nor the template's where residual tiles win): median and largest"
    )
    nets = list(dict.fromkeys(gap.workload for gap in certified))
    engines = list(dict.fromkeys(gap.machine for gap in certified))
    at = {(gap.workload, gap.machine): gap for gap in certified}

    def cells(effort: str, gaps: list[CertifiedGap]) -> str:
        ratios = [ratio for gap in gaps for ratio in getattr(gap, effort)]
        return f"{np.median(ratios):.2f} {max(ratios):.2f}"

    rows = [(net, *(cells("fast", [at[net, m]]) for m in engines)) for net in nets]
    for effort in ("fast", "thorough"):
        rows.append((f"all, {effort}", *(cells(effort, [at[n, m] for n in nets]) for m in engines)))
    print(table(("network", *engines), rows))
    ratios = np.array([ratio for gap in certified for ratio in gap.fast])
    print(
        f"fast: median {np.median(ratios):.3f}, geometric mean {geometric_mean(ratios):.3f}, worst "
        f"{ratios.max():.3f}; {sum(gap.proven for gap in certified)} of {len(ratios)} layers "
        f"proven, {sum(gap.worse for gap in certified)} worse with more effort"
    )
