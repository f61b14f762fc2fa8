"""Gymnasium environments over design problems; importing this registers their ids.

``archsim/Accelerator-v0`` takes a whole design per step, ``archsim/AcceleratorStepwise-v0`` one
parameter per step. Both need ``scenario=`` and offer ``gymnasium.make_vec`` natively.
"""

from __future__ import annotations

import importlib
from typing import Any

from archsim.envs.registration import ENVIRONMENTS, register

register()

_LAZY = {
    "AcceleratorEnv": "archsim.envs.accelerator",
    "AcceleratorVectorEnv": "archsim.envs.accelerator",
    "AcceleratorStepwiseEnv": "archsim.envs.stepwise",
    "AcceleratorStepwiseVectorEnv": "archsim.envs.stepwise",
    "BudgetExhausted": "archsim.envs.recorder",
    "Objective": "archsim.envs.objective",
    "Problem": "archsim.envs.problem",
    "Recorder": "archsim.envs.recorder",
    "Scenario": "archsim.envs.scenario",
    "VectorRecorder": "archsim.envs.recorder",
    "available_scenarios": "archsim.envs.scenario",
    "load_scenario": "archsim.envs.scenario",
}

__all__ = ["ENVIRONMENTS", "register", *_LAZY]


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(importlib.import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'archsim.envs' has no attribute {name!r}")
