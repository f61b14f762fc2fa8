"""Full costs of the designs that stand out: breakdowns and layers, for figures and explanations."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from archsim.errors import InputError
from archsim.explore.results import Results
from archsim.explore.tables import standing_out


@dataclass(frozen=True)
class Layer:
    """One operation of a network on a design.

    Attributes:
        name: Operation, prefixed with the network where there are several.
        macs: Multiply-accumulates.
        bytes_moved: Bytes to and from the backing tier.
        latency_s: Its time.
        bound: What limits it: ``compute``, a memory level, ``vector``.
    """

    name: str
    macs: float
    bytes_moved: float
    latency_s: float
    bound: str


@dataclass(frozen=True)
class DesignCost:
    """Where energy, time and area of a design go.

    Attributes:
        role: What the design stands for.
        energy_j: Component -> energy of the weighted mix of networks.
        latency_s: Binding limit -> time spent under it.
        area_mm2: Component -> area.
        layers: All layers of all networks; none where there is no roofline to draw them under.
        peak_macs_per_s: Rate with every MAC busy.
        bandwidth_bytes_per_s: Of the backing tier.
        backing: Name of the backing tier.
    """

    role: str
    energy_j: dict[str, float]
    latency_s: dict[str, float]
    area_mm2: dict[str, float]
    layers: tuple[Layer, ...] = ()
    peak_macs_per_s: float = 0.0
    bandwidth_bytes_per_s: float = 0.0
    backing: str = ""


def design_costs(results: Results) -> list[DesignCost]:
    """Costs of the designs that stand out and of the machine as shipped, best design first.

    Empty where what is designed is no machine: a memory controller has no layers and no area.
    """
    opened = results.problem
    if hasattr(opened.problem, "breakdown"):  # systems of language models
        stand = standing_out(results)
        made = [
            served_cost(opened.problem, role, results.indices[row]) for role, row in stand.items()
        ]
        return [*made, served_cost(opened.problem, opened.problem.reference_name)] if made else []
    if not hasattr(opened.problem, "machine"):
        return []
    costs = []
    for role, row in standing_out(results).items():
        costs.append(design_cost(opened.problem, role, design_machine(results, row)))
    if costs:
        costs.append(design_cost(opened.problem, "machine as shipped", opened.problem.machine))
    return costs


def served_cost(problem: Any, role: str, design: Any = None) -> DesignCost:
    """Cost of one system that serves language models; layers and roof are of one device.

    Args:
        problem: The `archsim.envs.LLMProblem`.
        role: Name of the design in figures.
        design: Its index vector; None is the machine as shipped.
    """
    parts = problem.breakdown(design)
    if not hasattr(problem, "roofline"):
        return DesignCost(role, **parts)
    roof, launches = problem.roofline(design)
    layers = tuple(Layer(**vars(part)) for part in launches)
    return DesignCost(role, **parts, layers=layers, **vars(roof))


def design_machine(results: Results, row: int) -> Any:
    """The `archsim.hardware.Machine` that a design of an accelerator is.

    Args:
        results: The run directory.
        row: Row among the distinct designs.

    Raises:
        InputError: What is designed is no accelerator.
    """
    opened = results.problem
    if not hasattr(opened.problem, "machine"):
        raise InputError(
            "only designs of accelerators are machines", source=results.directory,
            found=opened.scenario.environment,
        )  # fmt: skip
    values = opened.space.machine_values(results.indices[row])
    return opened.problem.machine.with_values(values)


def design_cost(problem: Any, role: str, machine: Any) -> DesignCost:
    """Cost of one machine under the networks, weights and fidelity of a problem.

    Args:
        problem: The `archsim.envs.Problem`.
        role: Name of the design in figures.
        machine: The changed machine.
    """
    from archsim.system import evaluate
    from archsim.system.designs import machine_peaks

    spec = problem.scenario
    energy: dict[str, float] = {}
    latency: dict[str, float] = {}
    layers: list[Layer] = []
    area: dict[str, float] = {}
    for item, workload in zip(spec.workloads, problem.workloads, strict=True):
        cost = evaluate(
            workload, machine, effort=spec.fidelity.effort, objective=spec.fidelity.objective
        )
        area = cost.area_by_component_mm2
        _add(energy, cost.energy_by_component_j.items(), item.weight)
        prefix = f"{workload.name}: " if len(problem.workloads) > 1 else ""
        layers += [
            Layer(
                prefix + layer.name,
                layer.macs * item.weight,
                layer.backing_bytes * item.weight,
                layer.latency_s * item.weight,
                layer.bound,
            )
            for layer in cost.layers
        ]
    _add(latency, ((layer.bound, layer.latency_s) for layer in layers), 1.0)
    return DesignCost(role, energy, latency, area, tuple(layers), *machine_peaks(machine))


def _add(table: dict[str, float], entries: Iterable[tuple[str, float]], weight: float) -> None:
    for name, value in entries:
        table[name] = table.get(name, 0.0) + float(value) * weight
