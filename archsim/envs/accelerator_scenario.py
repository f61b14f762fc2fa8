"""Scenarios of accelerators: which networks, on which machine, and what of it is chosen."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from os.path import isfile  # false, no error, for a name no file can have
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator

from archsim.envs.scenario import (
    BaseScenario,
    Number,
    ValuesSpec,
    checked_places,
    error_context,
    is_file,
    named,
    resolved_name,
)
from archsim.errors import InputError
from archsim.inputs import Strict
from archsim.space import Parameter
from archsim.space.parameter import Role

#: Metrics of every accelerator cost model; with several workloads also ``METRIC.WORKLOAD``.
METRICS: tuple[str, ...] = (
    "latency_s",
    "energy_j",
    "area_mm2",
    "power_w",
    "edp_js",
    "utilization",
    "throughput_per_s",
)
#: Metrics of some: the published quality of a language model at the width of its weights.
SOME_METRICS: tuple[str, ...] = ("perplexity",)


class WorkloadSpec(Strict):
    """One network of a scenario."""

    name: str = Field(min_length=1, description="shipped name, or file relative to the scenario")
    weight: float = Field(1.0, gt=0, le=1e9, description="inferences of it in the mix")
    batch: int | None = Field(None, ge=1, le=2**20, description="batch size; default the file's")


class ParameterSpec(ValuesSpec):
    """One parameter: where it sits in the machine and what it may be."""

    path: str | tuple[str, ...] = Field(min_length=1, description="dotted machine path(s)")
    scale: Number = Field(1, gt=0, description="machine value = value x scale")
    role: Role
    ordered: bool | None = None
    log: bool = False

    def build(self) -> Parameter:
        """The parameter of the design space.

        Raises:
            InputError: Its values do not make a parameter.
        """
        return self.parameter(
            path=self.path, role=self.role, ordered=self.ordered, scale=self.scale, log=self.log
        )


class FidelitySpec(Strict):
    """How closely a design is looked at; handed to the cost model."""

    effort: str = Field("fast", min_length=1, max_length=40)
    objective: str = Field("edp", min_length=1, max_length=40, description="what mappings minimise")


class Scenario(BaseScenario):
    """An exploration of accelerators; the default kind."""

    environment: Literal["accelerator"] = "accelerator"
    workloads: tuple[WorkloadSpec, ...] = Field(min_length=1, max_length=64)
    machine: str = Field(min_length=1, description="shipped name, or file relative to the scenario")
    fidelity: FidelitySpec = FidelitySpec.model_validate({})
    parameters: tuple[ParameterSpec, ...] = Field(min_length=1, max_length=256)

    @field_validator("workloads", mode="before")
    @classmethod
    def _names_are_workloads(cls, value: Any) -> Any:
        return named(value)

    def targets(self, spec: ParameterSpec) -> Iterable[str]:
        """The machine paths it sets."""
        return (spec.path,) if isinstance(spec.path, str) else spec.path

    def metric_names(self) -> tuple[str, ...]:
        """Metrics its cost model may give; the opened problem knows for sure."""
        if len(self.workloads) == 1:
            return (*METRICS, *SOME_METRICS)
        each = (f"{m}.{_stem(w.name)}" for w in self.workloads for m in METRICS)
        return (*METRICS, *SOME_METRICS, *each)

    def resolved(self, folder: Path) -> Scenario:
        """Itself with the names of files in a folder made absolute."""
        workloads = tuple(
            spec.model_copy(update={"name": resolved_name(spec.name, folder)})
            for spec in self.workloads
        )
        machine = resolved_name(self.machine, folder)
        return self.model_copy(update={"workloads": workloads, "machine": machine})

    def check(self) -> None:
        """Check everything that can be checked without evaluating a design.

        Every parameter path and value is tried on the machine (of more than
        :data:`CHECKED_VALUES` values that many, both ends included).

        Raises:
            InputError: The first thing wrong.
        """
        from archsim.hardware import load_machine

        with error_context(field="objective"):
            self.objective.build().check_metrics(self.metric_names())
        _check_workloads([spec.name for spec in self.workloads])
        space = self.build_space()
        with error_context(field="machine"):
            machine = load_machine(self.machine)
        for parameter in space.parameters:
            with error_context(field=f"parameters.{parameter.name}"):
                for at in checked_places(parameter):
                    machine.with_values(dict.fromkeys(parameter.paths, parameter.machine_value(at)))


def _stem(name: str) -> str:
    return Path(name).stem if is_file(name) else name


def _check_workloads(given: list[str]) -> None:
    from archsim.workload import available_workloads, load_model
    from archsim.workload.library import language_step

    known = available_workloads()
    for name in given:
        step = language_step(name)
        if step is not None:
            load_model(step[0])
        elif is_file(name):
            if not isfile(name):
                raise InputError("no such file", field="workloads", found=name)
        elif name not in known:
            near = difflib.get_close_matches(name, known, n=3) or known
            raise InputError(
                "no such workload",
                field="workloads",
                found=name,
                expected=f"a path, or one of {', '.join(near)}",
            )
    names = [_stem(name) for name in given]
    if len(set(names)) != len(names):
        raise InputError("workload named twice", field="workloads", found=names)
