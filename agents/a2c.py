"""A2C: advantage actor-critic (Mnih et al., arXiv:1602.01783, synchronous form), by SB3."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from archsim.agents.options import AgentOptions, option
from archsim.agents.sb3 import policy_name, prepare, train


@dataclass(frozen=True)
class Options(AgentOptions):
    """Options of A2C. SB3's names; its own defaults are for budgets of millions."""

    learning_rate: float = option(7e-3, "Step size of RMSprop.", low=1e-7, high=1.0)
    n_steps: int = option(16, "Designs between two updates.", low=2)
    gamma: float = option(0.0, "Discount: what later designs count.", low=0.0, high=1.0)
    gae_lambda: float = option(1.0, "Bias against variance (GAE).", low=0.0, high=1.0)
    ent_coef: float = option(0.0, "Weight of the entropy bonus.", low=0.0)
    vf_coef: float = option(0.5, "Weight of the value loss.", low=0.0)
    normalize_advantage: bool = option(True, "Standardise advantages within a rollout.")
    hidden: tuple[int, ...] = option((32, 32), "Units of the hidden layers.", low=1)


class A2c:
    """A2C (Stable-Baselines3): small, frequent actor-critic updates."""

    encoding = "multidiscrete"
    vectorized = False
    extra = "rl"

    def __init__(self, env: Any, seed: int = 0, options: Options | None = None) -> None:
        prepare("stable_baselines3")
        self.env, self.seed, self.options = env, seed, options or Options()

    def model(self, env: Any) -> Any:
        """The SB3 model."""
        from stable_baselines3 import A2C

        chosen = self.options
        return A2C(
            policy_name(self.env),
            env,
            learning_rate=chosen.learning_rate,
            n_steps=chosen.n_steps,
            gamma=chosen.gamma,
            gae_lambda=chosen.gae_lambda,
            ent_coef=chosen.ent_coef,
            vf_coef=chosen.vf_coef,
            normalize_advantage=chosen.normalize_advantage,
            policy_kwargs={"net_arch": list(chosen.hidden)},
            seed=self.seed,
            device="cpu",
        )

    def search(self) -> None:
        """Train until the recorder's budget is spent; what was visited is the search."""
        train(self.env, self.model, self.options.gamma)
