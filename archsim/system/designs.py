"""Which cost model evaluates designs of a machine.

Environments hand over machine values and get metrics; what the engine is made of is no concern of
theirs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import ArrayLike

from archsim.hardware import Machine, resolve
from archsim.workload.graph import Workload


class Designs(Protocol):
    """Evaluates designs of one machine on fixed networks."""

    def evaluate(self, overrides: Mapping[str, ArrayLike] | None = None) -> dict[str, np.ndarray]:
        """Metrics [B] of designs, given as machine values by dotted path."""


class Peaks(NamedTuple):
    """The roofline of a machine.

    Attributes:
        macs_per_s: With every unit busy.
        bandwidth_bytes_per_s: Of the memory operands come from.
        backing: Its name.
    """

    macs_per_s: float
    bandwidth_bytes_per_s: float
    backing: str


class SpatialDesigns:
    """Designs with a spatial engine: every layer is mapped onto it."""

    def __init__(
        self,
        workloads: Sequence[Workload],
        weights: Sequence[float],
        machine: Machine,
        effort: str,
        objective: str,
    ) -> None:
        from archsim.system.network import NetworkEvaluator

        self.machine = machine
        self.evaluator = NetworkEvaluator(workloads, weights, machine, effort, objective)

    def evaluate(self, overrides: Mapping[str, ArrayLike] | None = None) -> dict[str, np.ndarray]:
        """As :meth:`archsim.system.NetworkEvaluator.evaluate`."""
        return self.evaluator.evaluate(resolve(self.machine, overrides))


def has_engine(machine: Machine, kind: str) -> bool:
    """Whether the machine has an engine of a kind."""
    return any(engine.kind == kind for engine in machine.engines)


def design_evaluator(
    workloads: Sequence[Workload],
    weights: Sequence[float],
    machine: Machine,
    effort: str,
    objective: str,
    names: Sequence[str] | None = None,
) -> Designs:
    """The cost model for designs of a machine, by the kind of its engine.

    Args:
        workloads: The networks.
        weights: How often each runs, relative to the others.
        machine: The base machine.
        effort: How hard mappings are looked for, where there are any.
        objective: What they are chosen for.
        names: Of the networks, for metrics that name them.

    Raises:
        InputError: An option is wrong, or layers cannot be mapped onto this machine.
    """
    if not has_engine(machine, "spatial") and has_engine(machine, "dot_product"):
        from archsim.system.dot_product import DotProductEvaluator

        return DotProductEvaluator(workloads, weights, machine, names)
    return SpatialDesigns(workloads, weights, machine, effort, objective)


def machine_peaks(machine: Machine) -> Peaks:
    """Peak rate and bandwidth of the engine that :func:`design_evaluator` would use.

    Raises:
        InputError: Layers cannot be mapped onto this machine.
    """
    table: Any
    if not has_engine(machine, "spatial") and has_engine(machine, "dot_product"):
        from archsim.system.dot_product import resolve_arrays

        table = resolve_arrays(machine)
        rate, bandwidth = table.peak_macs_per_s, table.bandwidth_bytes_per_s
        return Peaks(float(rate[0]), float(bandwidth[0]), table.backing)
    table = resolve(machine)
    rate = np.ravel(table.macs * table.clock_hz / table.mac_cycles)
    bandwidth = np.ravel(table.tier_bandwidth_bytes_per_s)
    return Peaks(float(rate[0]), float(bandwidth[0]), table.names[0])


__all__ = ["Designs", "Peaks", "SpatialDesigns", "design_evaluator", "has_engine", "machine_peaks"]
