"""``archsim/DRAMController-v0``: a memory controller per step, or one parameter of it per step."""

from __future__ import annotations

from archsim.envs.design import DesignEnv, DesignVectorEnv
from archsim.envs.stepwise import StepwiseEnv, StepwiseVectorEnv


class DRAMControllerEnv(DesignEnv):
    """One controller per step; arguments as for :class:`archsim.envs.design.DesignEnv`.

    Example:
        >>> import gymnasium as gym, archsim.envs
        >>> env = gym.make("archsim/DRAMController-v0", scenario="dram_low_latency")
        >>> env.unwrapped.space.size
        28311552
        >>> observation, info = env.reset(seed=0)
        >>> action = [0, 2, 0, 7, 0, 1, 7, 7, 0, 63]  # open pages, FrFcfs, 8 requests a bank ...
        >>> observation, reward, terminated, truncated, info = env.step(action)
        >>> terminated, info["feasible"], 0 < reward < 1
        (True, True, True)
    """

    environment = "dram_controller"


class DRAMControllerVectorEnv(DesignVectorEnv):
    """N controllers per step; arguments as for :class:`archsim.envs.design.DesignVectorEnv`."""

    environment = "dram_controller"


class DRAMControllerStepwiseEnv(StepwiseEnv):
    """``archsim/DRAMControllerStepwise-v0``: a memory controller, one parameter per step."""

    environment = "dram_controller"


class DRAMControllerStepwiseVectorEnv(StepwiseVectorEnv):
    """N memory controllers decided in step, evaluated in one call."""

    environment = "dram_controller"
