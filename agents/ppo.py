"""PPO: a policy improved in clipped steps (Schulman et al., arXiv:1707.06347), by SB3.

The defaults suit budgets of a few hundred designs: short rollouts, several passes over each, and
no discounting to speak of, since a whole-design step does not shape the next one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from archsim.agents.options import AgentOptions, option
from archsim.agents.sb3 import policy_name, prepare, train


@dataclass(frozen=True)
class Options(AgentOptions):
    """Options of PPO. SB3's names; its own defaults are for budgets of millions."""

    learning_rate: float = option(1e-2, "Step size of Adam.", low=1e-7, high=1.0)
    n_steps: int = option(16, "Designs between two updates.", low=2)
    batch_size: int = option(16, "Designs a gradient step.", low=2)
    n_epochs: int = option(8, "Passes over a rollout.", low=1)
    gamma: float = option(0.0, "Discount: what later designs count.", low=0.0, high=1.0)
    gae_lambda: float = option(0.95, "Bias against variance (GAE).", low=0.0, high=1.0)
    ent_coef: float = option(0.003, "Weight of the entropy bonus.", low=0.0)
    clip_range: float = option(0.2, "Clipping of the policy ratio.", low=1e-3, high=1.0)
    hidden: tuple[int, ...] = option((32, 32), "Units of the hidden layers.", low=1)


class Ppo:
    """PPO (Stable-Baselines3) with one categorical distribution a parameter."""

    encoding = "multidiscrete"
    vectorized = False
    extra = "rl"

    def __init__(self, env: Any, seed: int = 0, options: Options | None = None) -> None:
        prepare("stable_baselines3")
        self.env, self.seed, self.options = env, seed, options or Options()

    def model(self, env: Any) -> Any:
        """The SB3 model."""
        from stable_baselines3 import PPO

        chosen = self.options
        return PPO(
            policy_name(self.env),
            env,
            learning_rate=chosen.learning_rate,
            n_steps=chosen.n_steps,
            batch_size=min(chosen.batch_size, chosen.n_steps),
            n_epochs=chosen.n_epochs,
            gamma=chosen.gamma,
            gae_lambda=chosen.gae_lambda,
            ent_coef=chosen.ent_coef,
            clip_range=chosen.clip_range,
            policy_kwargs={"net_arch": list(chosen.hidden)},
            seed=self.seed,
            device="cpu",
        )

    def search(self) -> None:
        """Train until the recorder's budget is spent; what was visited is the search."""
        train(self.env, self.model, self.options.gamma)
