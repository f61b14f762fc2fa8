"""One network on one machine, whatever engines the machine has."""

from __future__ import annotations

from pathlib import Path

from archsim.errors import InputError
from archsim.hardware import Machine, load_machine, resolve
from archsim.system.assembly import Assembly
from archsim.system.cost import Cost
from archsim.system.designs import has_engine
from archsim.system.dot_product import dot_product_cost
from archsim.system.network import NetworkEvaluator
from archsim.system.sparse_cost import SparseAssembly
from archsim.workload import Workload, load_workload


def evaluate(
    workload: Workload | str | Path,
    machine: Machine | str | Path,
    *,
    effort: str = "fast",
    objective: str = "edp",
    batch: int | None = None,
    fuse: bool = True,
) -> Cost:
    """Cost of one network on one machine.

    Args:
        workload: A workload, the name of a shipped one, or a file.
        machine: A machine, the name of a shipped one, or a file.
        effort: ``fast``, ``thorough`` or ``optimal``; how hard to look for mappings.
        objective: ``edp``, ``energy`` or ``latency``; what mappings are chosen for.
        batch: Batch size, when ``workload`` is a name or file.
        fuse: Fuse elementwise operations into their producers.

    Raises:
        InputError: A file, name or option is wrong.

    Example:
        >>> cost = evaluate("alexnet", "eyeriss")
        >>> cost.feasible, 0 < cost.utilization <= 1
        (True, True)
    """
    if isinstance(workload, Workload):
        if batch is not None:
            raise InputError("batch goes with a workload's name or file", field="batch")
    else:
        workload = load_workload(workload, batch=batch)
    if not isinstance(machine, Machine):
        machine = load_machine(machine)
    if has_engine(machine, "dot_product") and not has_engine(machine, "spatial"):
        return dot_product_cost(workload, machine, fuse)
    engines = resolve(machine)
    evaluator = NetworkEvaluator([workload], None, machine, effort, objective, fuse)
    if engines.refined:
        return SparseAssembly(workload, machine.name, engines, evaluator).cost()
    return Assembly(workload, machine.name, engines, evaluator).cost()
