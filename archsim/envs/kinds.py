"""Which environments there are: by kind, the scenario model, the problem and the Gymnasium ids.

A scenario names its kind (``environment:``); whatever opens scenarios or makes environments for
agents goes by this table, so a further kind is one more row. A problem of one's own needs no row:
its kind is ``module:Class`` (:mod:`archsim.envs.custom`).
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
        """The class of its problems, or what opens them; takes a scenario."""
        return _load(self.problem)


KINDS: dict[str, Kind] = {
    "accelerator": Kind(
        "archsim.envs.accelerator_scenario:Scenario",
        "archsim.envs.accelerator_problem:Problem",
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


#: Of problems of one's own, and of those that name no kind.
CUSTOM = Kind(
    "archsim.envs.custom:CustomScenario",
    "archsim.envs.custom:open_custom",
    "archsim/Design-v0",
    "archsim/DesignStepwise-v0",
)


def kind_of(name: object, source: object = None) -> Kind:
    """The kind a scenario names.

    Raises:
        InputError: There is no such kind.
    """
    if isinstance(name, str) and ":" in name:
        return CUSTOM
    if not isinstance(name, str) or name not in KINDS:
        raise InputError(
            "no such environment",
            source=source,
            field="environment",
            found=name,
            expected=f"{' or '.join(KINDS)}, or module:Class of a problem of your own",
        )
    return KINDS[name]


def _load(entry: str) -> Any:
    module, _, name = entry.partition(":")
    return getattr(importlib.import_module(module), name)
