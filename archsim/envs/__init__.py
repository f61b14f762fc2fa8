"""Gymnasium environments over design problems; importing this registers their ids.

``archsim/Accelerator-v0`` takes a whole accelerator per step, ``archsim/DRAMController-v0`` a whole
memory controller, ``archsim/LLMSystem-v0`` a whole system that serves language models, and
``archsim/Design-v0`` a design of any kind of scenario, or of a problem of one's own
(:class:`DesignProblem`, :mod:`archsim.envs.problem`); ``archsim/AcceleratorStepwise-v0``,
``archsim/DRAMControllerStepwise-v0``, ``archsim/LLMSystemStepwise-v0`` and
``archsim/DesignStepwise-v0`` take one parameter per step. All need ``scenario=`` and offer
``gymnasium.make_vec`` natively.
``parallel_env`` divides any of them among agents (PettingZoo), ``refinement_env`` changes a design
step by step.
"""

from __future__ import annotations

import importlib
from typing import Any

from archsim.envs.registration import ENVIRONMENTS, register

register()

_LAZY = {
    "AcceleratorEnv": "archsim.envs.accelerator",
    "AcceleratorVectorEnv": "archsim.envs.accelerator",
    "AcceleratorStepwiseEnv": "archsim.envs.accelerator",
    "AcceleratorStepwiseVectorEnv": "archsim.envs.accelerator",
    "BaseScenario": "archsim.envs.scenario",
    "BudgetExhausted": "archsim.envs.recorder",
    "DRAMControllerEnv": "archsim.envs.dram_controller",
    "DRAMControllerStepwiseEnv": "archsim.envs.dram_controller",
    "DRAMControllerStepwiseVectorEnv": "archsim.envs.dram_controller",
    "DRAMControllerVectorEnv": "archsim.envs.dram_controller",
    "CustomScenario": "archsim.envs.custom",
    "DesignEnv": "archsim.envs.design",
    "DesignProblem": "archsim.envs.problem",
    "DesignVectorEnv": "archsim.envs.design",
    "DramProblem": "archsim.envs.dram",
    "DramScenario": "archsim.envs.dram",
    "LLMProblem": "archsim.envs.llm",
    "LLMScenario": "archsim.envs.llm_scenario",
    "LLMSystemEnv": "archsim.envs.llm_system",
    "LLMSystemStepwiseEnv": "archsim.envs.llm_system",
    "LLMSystemStepwiseVectorEnv": "archsim.envs.llm_system",
    "LLMSystemVectorEnv": "archsim.envs.llm_system",
    "Objective": "archsim.envs.objective",
    "Problem": "archsim.envs.accelerator_problem",
    "Recorder": "archsim.envs.recorder",
    "RefinementEnv": "archsim.envs.refinement",
    "Scenario": "archsim.envs.accelerator_scenario",
    "ScenarioProblem": "archsim.envs.problem",
    "StepwiseEnv": "archsim.envs.stepwise",
    "StepwiseVectorEnv": "archsim.envs.stepwise",
    "TeamEnv": "archsim.envs.parallel",
    "VectorRecorder": "archsim.envs.recorder",
    "as_problem": "archsim.envs.problem",
    "available_scenarios": "archsim.envs.scenario",
    "load_scenario": "archsim.envs.scenario",
    "parallel_env": "archsim.envs.parallel",
    "refinement_env": "archsim.envs.parallel",
}

__all__ = ["ENVIRONMENTS", "register", *_LAZY]


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(importlib.import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'archsim.envs' has no attribute {name!r}")
