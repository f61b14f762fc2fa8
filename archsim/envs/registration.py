"""Registers the environments with Gymnasium; also its plug-in entry point."""

from __future__ import annotations

from gymnasium.envs.registration import register as gymnasium_register
from gymnasium.envs.registration import registry

#: Entry points by id: single and natively batched.
ENVIRONMENTS: dict[str, tuple[str, str]] = {
    "archsim/Design-v0": (
        "archsim.envs.design:DesignEnv",
        "archsim.envs.design:DesignVectorEnv",
    ),
    "archsim/DesignStepwise-v0": (
        "archsim.envs.stepwise:StepwiseEnv",
        "archsim.envs.stepwise:StepwiseVectorEnv",
    ),
    "archsim/Accelerator-v0": (
        "archsim.envs.accelerator:AcceleratorEnv",
        "archsim.envs.accelerator:AcceleratorVectorEnv",
    ),
    "archsim/AcceleratorStepwise-v0": (
        "archsim.envs.accelerator:AcceleratorStepwiseEnv",
        "archsim.envs.accelerator:AcceleratorStepwiseVectorEnv",
    ),
    "archsim/DRAMController-v0": (
        "archsim.envs.dram_controller:DRAMControllerEnv",
        "archsim.envs.dram_controller:DRAMControllerVectorEnv",
    ),
    "archsim/DRAMControllerStepwise-v0": (
        "archsim.envs.dram_controller:DRAMControllerStepwiseEnv",
        "archsim.envs.dram_controller:DRAMControllerStepwiseVectorEnv",
    ),
    "archsim/LLMSystem-v0": (
        "archsim.envs.llm_system:LLMSystemEnv",
        "archsim.envs.llm_system:LLMSystemVectorEnv",
    ),
    "archsim/LLMSystemStepwise-v0": (
        "archsim.envs.llm_system:LLMSystemStepwiseEnv",
        "archsim.envs.llm_system:LLMSystemStepwiseVectorEnv",
    ),
}


def register() -> None:
    """Register every environment that is not registered yet."""
    for name, (single, batched) in ENVIRONMENTS.items():
        if name not in registry:
            gymnasium_register(id=name, entry_point=single, vector_entry_point=batched)
