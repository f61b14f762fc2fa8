"""The problem a scenario of accelerators poses: networks on a machine whose parameters change."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from archsim.envs.accelerator_scenario import Scenario
from archsim.envs.objective import SCORES
from archsim.envs.problem import Metrics, ScenarioProblem, copy_input, log_share
from archsim.envs.scenario import error_context, is_file

if TYPE_CHECKING:
    from archsim.workload import Workload

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


class Problem(ScenarioProblem[Scenario]):
    """The design problem of a scenario of accelerators.

    The reference of the objective is the machine as shipped.

    Args:
        scenario: A :class:`Scenario`, or anything :func:`load_scenario` takes.

    Attributes:
        machine: The machine the parameters change.
        workloads: The networks, batch sizes applied.
        features: float32[8] in [0, 1], see :func:`workload_features`.

    Raises:
        InputError: The scenario is wrong.

    Example:
        >>> problem = Problem("smoke")
        >>> designs = problem.space.sample(np.random.default_rng(0), 4)
        >>> metrics = problem.evaluate(designs)
        >>> metrics["reward"].shape, bool(np.isfinite(metrics["latency_s"]).all())
        ((4,), True)
    """

    model = Scenario
    environment = "accelerator"
    reference_name = "machine as shipped"
    refusal = "cannot be mapped"

    def open(self, spec: Scenario) -> None:
        """Read the networks and the machine."""
        from archsim.hardware import load_machine
        from archsim.system.designs import design_evaluator
        from archsim.workload import load_workload

        with error_context(source=spec.name, field="workloads"):
            self.workloads = tuple(load_workload(w.name, batch=w.batch) for w in spec.workloads)
        self.machine = load_machine(spec.machine)
        weights = [w.weight for w in spec.workloads]
        with error_context(source=spec.name, field="fidelity"):
            self._evaluator = design_evaluator(
                self.workloads,
                weights,
                self.machine,
                spec.fidelity.effort,
                spec.fidelity.objective,
                [Path(w.name).stem if is_file(w.name) else w.name for w in spec.workloads],
            )
        with error_context(source=spec.name):
            self._shipped = self._evaluator.evaluate()
        self.metric_names = tuple(name for name in self._shipped if name not in SCORES)
        self.features = workload_features(self.workloads, weights)

    def reference(self) -> Metrics:
        """Metrics of the machine as shipped."""
        return self._shipped

    def evaluate_batch(self, designs: np.ndarray) -> Mapping[str, Any]:
        """Metrics of the machines that designs stand for, all networks weighted."""
        return self._evaluator.evaluate(self.space.machine_values(designs))

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

    def carry(self, data: dict[str, Any], directory: Path) -> None:
        """Copy the machine and the networks that are files."""
        from archsim.workload import save_workload

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
        log_share(macs, 1e15),
        log_share(workload.parameters, 1e12),
        log_share(activations, 1e12),
        log_share(macs / moved, 1e5),
        log_share(len(einsums), 1e4),
        log_share(vector_ops, 1e13),
        grouped / macs,
        products / macs,
    ]
