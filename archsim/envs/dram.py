"""Scenarios of memory controllers, and the problem they pose: ArchGym's ten parameters, any trace.

Metrics of a design, over the whole trace: ``latency_s`` (mean over reads, from the request to its
response), ``latency_p95_s`` and ``latency_p99_s`` (what that share of the requests do not exceed),
``time_s`` (until the last response; ArchGym calls this the latency), ``power_w``, ``energy_j``,
``bandwidth_bytes_per_s`` and ``row_hit_rate``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import cached_property
from os.path import isfile  # false, no error, for a name no file can have
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import Field, field_validator, model_validator

from archsim.envs.archgym import TARGETS, ArchGymObjective
from archsim.envs.dram_table import Table, digest
from archsim.envs.dram_traces import TraceSpec, trace_features
from archsim.envs.objective import Objective
from archsim.envs.problem import Metrics, ScenarioProblem, copy_input
from archsim.envs.scenario import (
    BaseScenario,
    ObjectiveSpec,
    ValuesSpec,
    error_context,
    is_file,
    resolved_name,
)
from archsim.errors import InputError
from archsim.models.dram.designs import METRICS, PARAMETERS, ControllerProblem, policies
from archsim.models.dram.equivalence import canonical
from archsim.models.dram.spec import load_spec
from archsim.space import DesignSpace, Parameter
from archsim.space.parameter import Role

#: Subsystem of each parameter: what is decided for the banks, for the refresh of the devices, and
#: between the memory and those who ask for data.
ROLES: dict[str, Role] = {
    "PagePolicy": "controller",
    "Scheduler": "controller",
    "SchedulerBuffer": "controller",
    "RequestBufferSize": "controller",
    "RespQueue": "interconnect",
    "RefreshPolicy": "memory",
    "RefreshMaxPostponed": "memory",
    "RefreshMaxPulledin": "memory",
    "Arbiter": "interconnect",
    "MaxActiveTransactions": "interconnect",
}
#: The reference: DRAMSys's controller with the options it has by default
#: (:class:`archsim.models.dram.policy.Policy`).
DEFAULT_CONTROLLER: dict[str, Any] = {
    "PagePolicy": "Open",
    "Scheduler": "FrFcfs",
    "SchedulerBuffer": "Bankwise",
    "RequestBufferSize": 8,
    "RespQueue": "Fifo",
    "RefreshPolicy": "AllBank",
    "RefreshMaxPostponed": 0,
    "RefreshMaxPulledin": 0,
    "Arbiter": "Simple",
    "MaxActiveTransactions": 64,
}
_REFRESH = tuple(PARAMETERS).index("RefreshPolicy")


class ChoiceSpec(ValuesSpec):
    """A parameter of the controller that keeps less (or other) than its full range."""

    name: Literal[tuple(PARAMETERS)]  # type: ignore[valid-type]

    @model_validator(mode="after")
    def _whole_numbers(self) -> ChoiceSpec:
        if self.range is not None and self.range.step is None:
            raise ValueError("controllers are told in whole numbers: a range needs a step")
        return self

    def build(self) -> Parameter:
        """The parameter of the design space.

        Raises:
            InputError: It has no such value.
        """
        parameter = self.parameter(role=ROLES[self.name])
        known = PARAMETERS[self.name]
        kinds = {type(value) for value in parameter.values}
        if kinds != {type(known[0])}:
            what = "one of " + ", ".join(known) if isinstance(known[0], str) else "whole numbers"
            raise InputError(
                "not a value of this parameter",
                field=self.name,
                found=parameter.values[:4],
                expected=what,
            )
        count = parameter.cardinality
        columns = {name: [value] * count for name, value in DEFAULT_CONTROLLER.items()}
        policies({**columns, self.name: list(parameter.values)})
        return parameter


class ControllerObjectiveSpec(ObjectiveSpec):
    """What is wanted; ``compat: archgym`` for the rewards ArchGym gives."""

    compat: Literal["archgym"] | None = None
    targets: dict[str, float] = Field(
        default_factory=dict,
        description="of ArchGym's reward, by metric of minimize; power_w 1, time_s 1e-4 if absent",
    )

    def build(self) -> Objective:
        """The objective.

        Raises:
            InputError: Its fields contradict each other.
        """
        if self.compat is None:
            if self.targets:
                raise InputError("only compat: archgym aims at targets", field="targets")
            return super().build()
        if self.scalar != type(self.scalar).model_validate({}):
            raise InputError("compat: archgym says how metrics make one number", field="scalar")
        wanted = {**TARGETS, **self.targets}
        for name in self.minimize:
            if name not in wanted:
                raise InputError("ArchGym has no target for this metric", field=f"targets.{name}")
        for name in self.targets:
            if name not in self.minimize:
                raise InputError(
                    "not among the metrics to minimise",
                    field="targets",
                    found=name,
                    expected=", ".join(self.minimize),
                )
        targets = {name: wanted[name] for name in self.minimize}
        return ArchGymObjective(self.minimize, self.limits, references=targets)


class DramScenario(BaseScenario):
    """An exploration of memory controllers.

    Parameters that are not named keep ArchGym's full ranges: 28,311,552 controllers in all.
    """

    environment: Literal["dram_controller"]
    memory: str = Field(
        "ddr3_1600_1gb_x8", min_length=1, description="preset, or file relative to the scenario"
    )
    trace: TraceSpec
    dramsys: Literal["4.0", "5.1"] = Field("5.1", description="release that is modelled")
    parameters: tuple[ChoiceSpec, ...] = Field((), max_length=len(PARAMETERS))
    objective: ControllerObjectiveSpec
    allow_data_loss: bool = Field(False, description="take designs without refresh as feasible")
    table: str | None = Field(
        None,
        min_length=1,
        description="file of `archsim table` that holds the same numbers; others are simulated",
    )

    @field_validator("dramsys", mode="before")
    @classmethod
    def _release_is_text(cls, value: Any) -> Any:
        return str(value) if isinstance(value, float) else value

    def build_space(self) -> DesignSpace:
        """The design space.

        Raises:
            InputError: A parameter or constraint is wrong, or nothing is legal.
        """
        given: dict[str, Parameter] = {}
        for spec in self.parameters:
            with error_context(field=f"parameters.{spec.name}"):
                if spec.name in given:
                    raise InputError("parameter named twice", found=spec.name)
                given[spec.name] = spec.build()
        full = {n: Parameter(n, values, role=ROLES[n]) for n, values in PARAMETERS.items()}
        return DesignSpace([given.get(name, full[name]) for name in full], self.constraints)

    def metric_names(self) -> tuple[str, ...]:
        """Metrics its cost model may give; a memory without energy figures gives no energy."""
        return METRICS

    def resolved(self, folder: Path) -> DramScenario:
        """Itself with the names of files in a folder made absolute."""
        trace = self.trace
        if trace.file is not None:
            inside = folder / trace.file
            name = str(inside.resolve()) if isfile(inside) else trace.file
            trace = trace.model_copy(update={"file": name})
        table = self.table
        if table is not None and isfile(folder / table):
            table = str((folder / table).resolve())
        memory = resolved_name(self.memory, folder)
        return self.model_copy(update={"trace": trace, "memory": memory, "table": table})

    def check(self) -> None:
        """Check everything that can be checked without reading a trace.

        Raises:
            InputError: The first thing wrong.
        """
        with error_context(field="objective"):
            self.objective.build().check_metrics(self.metric_names())
        self.build_space()
        with error_context(field="memory"):
            load_spec(self.memory)
        if self.trace.file is not None and not isfile(self.trace.file):
            raise InputError("no such file", field="trace.file", found=self.trace.file)
        if self.table is not None and not isfile(self.table):
            raise InputError(
                "no such file", field="table", found=self.table, expected="one of `archsim table`"
            )


class DramProblem(ScenarioProblem[DramScenario]):
    """The design problem of a scenario of memory controllers.

    The reference of the objective is :data:`DEFAULT_CONTROLLER`.

    Args:
        scenario: A :class:`DramScenario`, or anything :func:`load_scenario` takes.

    Attributes:
        memory: The memory.
        trace: The requests.
        measured: Every metric the model gives, also those that are not known of this memory.
        shipped: Those of :data:`DEFAULT_CONTROLLER`.
        table: The table that answers for the simulator, if the scenario names one.
        features: float32[8] in [0, 1], see :func:`trace_features`.

    Raises:
        InputError: The scenario, the trace or the memory is wrong.

    Example:
        >>> problem = DramProblem("dram_low_latency")
        >>> metrics = problem.evaluate(problem.space.sample(np.random.default_rng(0), 4))
        >>> metrics["latency_s"].shape
        (4,)
    """

    model = DramScenario
    environment = "dram_controller"
    reference_name = "default controller of DRAMSys"
    refusal = "loses data"
    measured: tuple[str, ...] = METRICS

    def open(self, spec: DramScenario) -> None:
        """Read the memory, the trace and the table."""
        self.memory = load_spec(spec.memory)
        with error_context(source=spec.name, field="trace"):
            self.trace = spec.trace.build(self.memory)
        self.table = None if spec.table is None else self._open_table(spec.table)
        with error_context(source=spec.name):
            self.shipped = self._shipped()
        self.metric_names = tuple(n for n in METRICS if np.isfinite(self.shipped[n]))
        self.features = trace_features(self.trace, self.memory)

    def reference(self) -> Metrics:
        """Metrics of the default controller."""
        return {name: np.array([value]) for name, value in self.shipped.items()}

    @cached_property
    def designs(self) -> ControllerProblem:
        """The simulator; nothing is compiled for it before it is asked for."""
        spec = self.scenario
        with error_context(source=spec.name, field="trace"):
            return ControllerProblem(
                self.trace,
                spec.memory,
                dramsys=spec.dramsys,
                allow_data_loss=spec.allow_data_loss,
            )

    def _open_table(self, path: str) -> Table:
        """Read the table, and refuse one of other numbers."""
        table = Table.load(path)
        if table.digest != digest(self.content(), table.values):
            raise InputError(
                "the table is of another memory, trace or release",
                source=path,
                expected=f"one that `archsim table {self.scenario.name}` makes",
            )
        places = table.places(self.space.names, [p.values for p in self.space.parameters])
        self._places = places
        loses = np.array([v == "NoRefresh" for v in self.space.parameters[_REFRESH].values])
        self._keeps = ~loses | self.scenario.allow_data_loss
        return table

    def _shipped(self) -> dict[str, float]:
        if self.table is not None:
            return dict(zip(self.table.metrics, self.table.reference.tolist(), strict=True))
        found = self.designs.evaluate({n: [v] for n, v in DEFAULT_CONTROLLER.items()})
        return {name: float(found[name][0]) for name in METRICS}

    @property
    def subject(self) -> str:
        """What is designed for what, in words."""
        return f"{self.trace.name} ({len(self.trace):,} requests) on {Path(self.memory.name).stem}"

    def content(self) -> dict[str, Any]:
        """Plain data that decides every number of a design, for digests."""
        spec = self.scenario
        found = spec.model_dump(
            mode="json",
            include={"parameters", "constraints", "objective", "dramsys", "allow_data_loss"},
        )
        found["environment"] = self.environment
        found["memory"] = self.memory.model_dump(mode="json")
        parts = (self.trace.arrival, self.trace.write, self.trace.address)
        found["trace"] = [hashlib.sha256(part.tobytes()).hexdigest() for part in parts]
        return found

    def carry(self, data: dict[str, Any], directory: Path) -> None:
        """Copy the memory and the trace that are files."""
        if is_file(self.scenario.memory):
            data["memory"] = copy_input(self.scenario.memory, directory)
        if self.scenario.trace.file is not None:
            data["trace"]["file"] = copy_input(self.scenario.trace.file, directory)

    def evaluate_batch(self, designs: np.ndarray) -> Mapping[str, Any]:
        """Metrics of controllers over the whole trace."""
        found = self._simulated(designs) if self.table is None else self._looked_up(designs)
        return {name: found[name] for name in (*self.metric_names, "feasible")}

    def class_of(self, indices: np.ndarray) -> np.ndarray:
        """Bytes that are equal for designs that serve the trace alike, [B]."""
        values = self.space.decode(np.atleast_2d(indices))
        columns = {name: column.tolist() for name, column in values.items()}
        alike = canonical(self.designs.vectors(columns), self.trace.write)
        return alike.view(f"S{alike.itemsize * alike.shape[1]}")[:, 0]

    def _simulated(self, indices: np.ndarray) -> Metrics:
        values = self.space.decode(indices)
        return self.designs.evaluate({name: column.tolist() for name, column in values.items()})

    def _looked_up(self, indices: np.ndarray) -> Metrics:
        """From the table; designs that are not in it are simulated."""
        assert self.table is not None
        shares = [place[indices[:, at]] for at, place in enumerate(self._places)]
        rows = self.table.rows[self.table.row_of[np.maximum(np.sum(shares, axis=0), 0)]]
        found: Metrics = {name: rows[:, at].copy() for at, name in enumerate(self.table.metrics)}
        found["feasible"] = self._keeps[indices[:, _REFRESH]]
        outside = np.min(shares, axis=0) < 0
        if outside.any():
            simulated = self._simulated(indices[outside])
            for name in METRICS:
                found[name][outside] = simulated[name]
        return found


__all__ = ["DEFAULT_CONTROLLER", "DramProblem", "DramScenario", "trace_features"]
