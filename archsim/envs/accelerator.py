"""``archsim/Accelerator-v0``: an accelerator per step, or one parameter of it per step."""

from __future__ import annotations

from archsim.envs.design import DesignEnv, DesignVectorEnv
from archsim.envs.stepwise import StepwiseEnv, StepwiseVectorEnv


class AcceleratorEnv(DesignEnv):
    """One accelerator per step; arguments as for :class:`archsim.envs.design.DesignEnv`.

    Example:
        >>> import gymnasium as gym, archsim.envs
        >>> env = gym.make("archsim/Accelerator-v0", scenario="smoke")
        >>> observation, info = env.reset(seed=0)
        >>> action = env.unwrapped.space.to_action([0, 0, 0, 0, 1, 1])
        >>> observation, reward, terminated, truncated, info = env.step(action)
        >>> terminated, truncated, info["evaluations"]
        (True, False, 1)
    """

    environment = "accelerator"


class AcceleratorVectorEnv(DesignVectorEnv):
    """N accelerators per step; arguments as for :class:`archsim.envs.design.DesignVectorEnv`.

    Example:
        >>> import gymnasium as gym, numpy as np, archsim.envs
        >>> envs = gym.make_vec("archsim/Accelerator-v0", num_envs=64, scenario="smoke")
        >>> observations, infos = envs.reset(seed=0)
        >>> designs = envs.space.sample(np.random.default_rng(0), 64)
        >>> observations, rewards, terminations, truncations, infos = envs.step(designs)
        >>> rewards.shape, infos["latency_s"].shape, int(infos["evaluations"][-1])
        ((64,), (64,), 64)
    """

    environment = "accelerator"


class AcceleratorStepwiseEnv(StepwiseEnv):
    """``archsim/AcceleratorStepwise-v0``: an accelerator, one parameter per step.

    Example:
        >>> import gymnasium as gym, numpy as np, archsim.envs
        >>> env = gym.make("archsim/AcceleratorStepwise-v0", scenario="smoke")
        >>> observation, info = env.reset(seed=0)
        >>> terminated = False
        >>> while not terminated:
        ...     action = np.flatnonzero(info["action_mask"])[0]
        ...     observation, reward, terminated, truncated, info = env.step(action)
        >>> info["evaluations"], info["design"].tolist()
        (1, [0, 0, 0, 0, 0, 0])
    """

    environment = "accelerator"


class AcceleratorStepwiseVectorEnv(StepwiseVectorEnv):
    """N accelerators decided in step, evaluated in one call."""

    environment = "accelerator"
