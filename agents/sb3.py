"""What the Stable-Baselines3 agents share: one thread, normalisation, and a quiet stop.

SB3 resets an environment the moment an episode ends, also after the last evaluation of the budget,
where a recorder refuses. `StopAtBudget` holds that reset back, and a callback ends the training.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np

from archsim.agents.options import require

FOREVER = 2**31 - 1


class StopAtBudget(gym.Wrapper):
    """Remembers that the budget is spent, and answers resets after that without passing them on."""

    def __init__(self, env: gym.Env) -> None:
        super().__init__(env)
        self.spent = False
        self._last: Any = None

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Step, and look at ``info["budget_exhausted"]``."""
        if isinstance(self.action_space, gym.spaces.Discrete):
            action = int(np.ravel(action)[0])
        observation, reward, terminated, truncated, info = self.env.step(action)
        self.spent = bool(info.get("budget_exhausted", False))
        self._last = observation
        return observation, float(reward), terminated, truncated, info

    def reset(self, **kwargs: Any) -> tuple[Any, dict[str, Any]]:
        """Reset, unless the budget is spent."""
        if self.spent:
            return self._last, {}
        return self.env.reset(**kwargs)

    def action_masks(self) -> np.ndarray:
        """Legal actions, as sb3-contrib asks for them."""
        return self.env.get_wrapper_attr("action_masks")()


def train(env: gym.Env, build: Callable[[Any], Any], gamma: float) -> None:
    """Build an SB3 model on an environment and train it until the budget is spent.

    Args:
        env: The recorded environment.
        build: Makes the model from SB3's view of the environment.
        gamma: Discount, for the scale of the normalised reward.
    """
    from stable_baselines3.common.callbacks import BaseCallback
    from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

    class Stop(BaseCallback):
        """Ends ``learn`` once the budget is spent."""

        def _on_step(self) -> bool:
            return not guarded.spent

    guarded = StopAtBudget(env)
    # Metrics and rewards of unknown scale: both are standardised as they come.
    model = build(VecNormalize(DummyVecEnv([lambda: guarded]), gamma=gamma))
    model.learn(total_timesteps=FOREVER, callback=Stop(), log_interval=FOREVER)


def policy_name(env: gym.Env) -> str:
    """SB3's policy for the kind of observation."""
    is_dict = isinstance(env.observation_space, gym.spaces.Dict)
    return "MultiInputPolicy" if is_dict else "MlpPolicy"


def prepare(package: str) -> Any:
    """Import torch on one thread, then an SB3 package; names the extra of a missing one."""
    require("torch", "rl").set_num_threads(1)
    return require(package, "rl")
