"""``archsim/LLMSystem-v0``: a system that serves language models per step, or one choice a step."""

from __future__ import annotations

from archsim.envs.design import DesignEnv, DesignVectorEnv
from archsim.envs.stepwise import StepwiseEnv, StepwiseVectorEnv


class LLMSystemEnv(DesignEnv):
    """One system per step; arguments as for :class:`archsim.envs.design.DesignEnv`.

    Example:
        >>> import gymnasium as gym, archsim.envs
        >>> env = gym.make("archsim/LLMSystem-v0", scenario="llm_405b_node")
        >>> observation, info = env.reset(seed=0)
        >>> values = {"gpus": 8, "sms": 132, "stacks": 5, "link_lanes": 18, "tp": 8, "pp": 1,
        ...           "micro_batches": 1, "cache_far": 0.0, "cache_in": "home", "batch": 8}
        >>> action = env.unwrapped.space.encode(values)
        >>> observation, reward, terminated, truncated, info = env.step(action)
        >>> terminated, info["feasible"], 0 < info["tpot_s"] < 0.05
        (True, True, True)
    """

    environment = "llm_system"


class LLMSystemVectorEnv(DesignVectorEnv):
    """N systems per step; arguments as for :class:`archsim.envs.design.DesignVectorEnv`."""

    environment = "llm_system"


class LLMSystemStepwiseEnv(StepwiseEnv):
    """``archsim/LLMSystemStepwise-v0``: a system, one parameter per step."""

    environment = "llm_system"


class LLMSystemStepwiseVectorEnv(StepwiseVectorEnv):
    """N systems decided in step, evaluated in one call."""

    environment = "llm_system"
