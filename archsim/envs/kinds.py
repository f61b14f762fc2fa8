"""Which environments there are: by kind, the scenario model, the problem and the Gymnasium ids.

A scenario names its kind (``environment:``); whatever opens scenarios or makes environments for
agents goes by this table, so a further kind is one more row.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from archsim.errors import InputError

#: Kind of a scenario that names none.
DEFAULT = "accelerator"


@dataclass(frozen=True)
class Kind:
    """Where the parts of an environment are; classes as ``module:Class``, imported when needed.

    Attributes:
        scenario: Model of its scenario files.
        problem: What evaluates its designs.
        whole: Id of the environment that takes a whole design a step.
        stepwise: Id of the one that decides one parameter a step.
        subsystems: Agent by role, where a team calls it otherwise or decides roles together.
    """

    scenario: str
    problem: str
    whole: str
    stepwise: str
    subsystems: Mapping[str, str] = field(default_factory=dict)

    def scenario_model(self) -> Any:
        """The class of its scenarios."""
        return _load(self.scenario)

    def problem_class(self) -> Any:
        """The class of its problems; takes a scenario."""
        return _load(self.problem)


KINDS: dict[str, Kind] = {
    "accelerator": Kind(
        "archsim.envs.scenario:Scenario",
        "archsim.envs.problem:Problem",
        "archsim/Accelerator-v0",
        "archsim/AcceleratorStepwise-v0",
        {"mapping": "dataflow"},
    ),
    "dram_controller": Kind(
        "archsim.envs.dram:DramScenario",
        "archsim.envs.dram:DramProblem",
        "archsim/DRAMController-v0",
        "archsim/DRAMControllerStepwise-v0",
        {"controller": "banks", "memory": "refresh", "interconnect": "queues"},
    ),
    "llm_system": Kind(
        "archsim.envs.llm_scenario:LLMScenario",
        "archsim.envs.llm:LLMProblem",
        "archsim/LLMSystem-v0",
        "archsim/LLMSystemStepwise-v0",
        {
            "compute": "hardware",
            "memory": "hardware",
            "interconnect": "hardware",
            "technology": "hardware",
            "mapping": "placement",
        },
    ),
}


def kind_of(name: object, source: object = None) -> Kind:
    """The kind a scenario names.

    Raises:
        InputError: There is no such kind.
    """
    if not isinstance(name, str) or name not in KINDS:
        raise InputError(
            "no such environment",
            source=source,
            field="environment",
            found=name,
            expected=" or ".join(KINDS),
        )
    return KINDS[name]


def _load(entry: str) -> Any:
    module, _, name = entry.partition(":")
    return getattr(importlib.import_module(module), name)
