"""A scenario made evaluable: design space, cost model and objective behind one batch function."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np

from archsim.envs.kinds import kind_of
from archsim.envs.objective import SCORES, Objective
from archsim.envs.scenario import (
    BaseScenario,
    Scenario,
    error_context,
    is_file,
    load_scenario,
    load_scenario_of,
)
from archsim.space import DesignSpace

if TYPE_CHECKING:
    from archsim.workload import Workload

Metrics = dict[str, np.ndarray]
#: What :func:`workload_features` gives, in order.
FEATURES: tuple[str, ...] = (
    "macs",
    "parameters",
    "activations",
    "macs_per_byte",
    "einsums",
    "vector_ops",
    "grouped_share",
    "matmul_share",
)


@runtime_checkable
class SupportsEvaluation(Protocol):
    """What an environment needs of a problem; any cost model can stand behind it."""

    space: DesignSpace
    objective: Objective
    metric_names: tuple[str, ...]
    features: np.ndarray

    def evaluate(self, indices: np.ndarray) -> Metrics:
        """Metrics, ``feasible``, ``violation``, ``objective``, ``reward`` of int64[B, P] legal
        designs, each an array [B]."""


class Problem:
    """The design problem of a scenario.

    Args:
        scenario: A :class:`Scenario`, or anything :func:`load_scenario` takes.

    Attributes:
        scenario: The checked scenario.
        space: Its design space.
        machine: The machine the parameters change.
        workloads: The networks, batch sizes applied.
        objective: The objective, references filled in: where the scenario gives none, the
            machine as shipped (a reward above 1/2 beats it).
        metric_names: Metrics of every evaluation, in order.
        reference_metrics: Those of the machine as shipped.
        features: float32[F] in [0, 1], see :func:`workload_features`.
        environment: Kind of its scenarios.
        reference_name: What the reference is, in reports.
        refusal: Why a design that keeps its limits is infeasible, in reports.

    Raises:
        InputError: The scenario is wrong.

    Example:
        >>> problem = Problem("smoke")
        >>> designs = problem.space.sample(np.random.default_rng(0), 4)
        >>> metrics = problem.evaluate(designs)
        >>> metrics["reward"].shape, bool(np.isfinite(metrics["latency_s"]).all())
        ((4,), True)
    """

    environment = "accelerator"
    reference_name = "machine as shipped"
    refusal = "cannot be mapped"

    def __init__(self, scenario: str | Path | Mapping[str, Any] | Scenario) -> None:
        from archsim.hardware import load_machine
        from archsim.system.designs import design_evaluator
        from archsim.workload import load_workload

        spec = load_scenario_of(Scenario, scenario)
        self.scenario = spec
        with error_context(source=spec.name, field="workloads"):
            self.workloads = tuple(load_workload(w.name, batch=w.batch) for w in spec.workloads)
        self.machine = load_machine(spec.machine)
        self.space = spec.build_space()
        with error_context(source=spec.name, field="fidelity"):
            self._evaluator = design_evaluator(
                self.workloads,
                [w.weight for w in spec.workloads],
                self.machine,
                spec.fidelity.effort,
                spec.fidelity.objective,
                [Path(w.name).stem if is_file(w.name) else w.name for w in spec.workloads],
            )
        with error_context(source=spec.name):
            shipped = self._evaluator.evaluate()
            self.metric_names = tuple(name for name in shipped if name not in SCORES)
            self.reference_metrics = {name: float(shipped[name][0]) for name in self.metric_names}
            wanted = spec.objective.build()
            wanted.check_metrics(self.metric_names)
            self.objective = wanted.with_default_references(self.reference_metrics)
        weights = [w.weight for w in spec.workloads]
        self.features = workload_features(self.workloads, weights)

    def __repr__(self) -> str:
        return f"Problem({self.scenario.name!r}, {self.space!r})"

    @property
    def subject(self) -> str:
        """What is designed for what, in words."""
        networks = ", ".join(Path(item.name).stem for item in self.scenario.workloads)
        return f"{networks} on {Path(self.scenario.machine).stem}"

    def content(self) -> dict[str, Any]:
        """Plain data that decides every number of a design, for digests."""
        spec = self.scenario
        found = spec.model_dump(
            mode="json", include={"parameters", "constraints", "objective", "fidelity"}
        )
        found["machine"] = self.machine.model_dump(mode="json")
        found["workloads"] = [
            [Path(item.name).stem, item.weight, repr(workload)]
            for item, workload in zip(spec.workloads, self.workloads, strict=True)
        ]
        return found

    def portable(self, directory: Path) -> dict[str, Any]:
        """The scenario as data that stands alone in a directory.

        Args:
            directory: Files the scenario refers to are copied to its folder ``inputs``.
        """
        from archsim.workload import save_workload

        data = self.scenario.model_dump(mode="json", exclude_defaults=True)
        if is_file(self.scenario.machine):
            data["machine"] = copy_input(self.scenario.machine, directory)
        for item, workload in zip(data["workloads"], self.workloads, strict=True):
            if is_file(item["name"]):
                inputs = directory / "inputs"
                inputs.mkdir(exist_ok=True)
                name = f"{Path(item['name']).stem}.yaml"
                save_workload(workload, inputs / name)
                item["name"] = f"inputs/{name}"
                item.pop("batch", None)
        return data

    def evaluate(self, indices: np.ndarray) -> Metrics:
        """Evaluate legal designs.

        Args:
            indices: int64[B, P] index vectors.

        Returns:
            Array [B] by name: every metric (SI units, see the suffix), ``feasible`` (bool),
            ``violation`` (>= 0), ``objective`` and ``reward``, see
            :mod:`archsim.envs.objective`.
        """
        metrics = self._evaluator.evaluate(self.space.machine_values(np.atleast_2d(indices)))
        metrics.update(self.objective.score(metrics))
        return metrics


def copy_input(path: str, directory: Path) -> str:
    """Copy a file into the folder ``inputs`` of a directory; its name relative to the latter."""
    inputs = directory / "inputs"
    inputs.mkdir(exist_ok=True)
    name = Path(path).name
    (inputs / name).write_bytes(Path(path).read_bytes())
    return f"inputs/{name}"


def as_problem(source: Any) -> Any:
    """A problem as it is, or the problem of a scenario, by its kind of environment.

    Args:
        source: Something that supports evaluation (:class:`SupportsEvaluation`), or anything
            :func:`archsim.envs.scenario.load_scenario` takes.

    Raises:
        InputError: The scenario is wrong.
    """
    if not isinstance(source, (str, Path, Mapping, BaseScenario)) and isinstance(
        source, SupportsEvaluation
    ):
        return source
    scenario = load_scenario(source)
    return kind_of(scenario.environment).problem_class()(scenario)


def workload_features(workloads: Sequence[Workload], weights: Sequence[float]) -> np.ndarray:
    """What an agent may know of the networks: the weighted mean of each network's features.

    Returns:
        float32[8] in [0, 1], in the order of :data:`FEATURES`: logarithms of MACs, parameters,
        activation elements, MACs per byte moved once, number of einsums and scalar operations,
        each over the logarithm of a generous maximum; shares of MACs in grouped (depthwise)
        einsums and in matrix products.
    """
    rows = [_features(workload) for workload in workloads]
    return np.average(rows, axis=0, weights=weights).clip(0.0, 1.0).astype(np.float32)


def _features(workload: Workload) -> list[float]:
    einsums = [op.einsum for op in workload.operations if op.einsum is not None]
    macs = max(workload.macs, 1)
    activations = sum(t.elements for t in workload.tensors.values() if t.role != "weight")
    moved = max(sum(t.size_bytes for t in workload.tensors.values()), 1.0)
    grouped = sum(e.macs for e in einsums if e.extents.get("G", 1) > 1)
    windows = ("R", "S")
    products = sum(e.macs for e in einsums if all(e.extents.get(d, 1) == 1 for d in windows))
    vector_ops = sum(op.vector_ops for op in workload.operations)
    return [
        _log_share(macs, 1e15),
        _log_share(workload.parameters, 1e12),
        _log_share(activations, 1e12),
        _log_share(macs / moved, 1e5),
        _log_share(len(einsums), 1e4),
        _log_share(vector_ops, 1e13),
        grouped / macs,
        products / macs,
    ]


def _log_share(value: float, most: float) -> float:
    return float(np.log1p(value) / np.log1p(most))
