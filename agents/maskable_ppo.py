"""Maskable PPO: one parameter a step, illegal values masked (Huang and Ontanon, arXiv:2006.14171).

Runs on the stepwise environment: an episode decides the parameters one after another, the mask
leaves only values that can still keep the constraints, and the reward comes with the last one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from archsim.agents.options import AgentOptions, option
from archsim.agents.sb3 import policy_name, prepare, train


@dataclass(frozen=True)
class Options(AgentOptions):
    """Options of Maskable PPO. SB3's names; its own defaults are for budgets of millions."""

    learning_rate: float = option(3e-3, "Step size of Adam.", low=1e-7, high=1.0)
    n_steps: int = option(128, "Decisions (not designs) between two updates.", low=2)
    batch_size: int = option(32, "Decisions a gradient step.", low=2)
    n_epochs: int = option(6, "Passes over a rollout.", low=1)
    gamma: float = option(
        1.0, "Discount; the reward comes at the end of an episode.", low=0, high=1
    )
    gae_lambda: float = option(0.95, "Bias against variance (GAE).", low=0.0, high=1.0)
    ent_coef: float = option(0.003, "Weight of the entropy bonus.", low=0.0)
    clip_range: float = option(0.2, "Clipping of the policy ratio.", low=1e-3, high=1.0)
    hidden: tuple[int, ...] = option((64, 64), "Units of the hidden layers.", low=1)


class MaskablePpo:
    """Maskable PPO (sb3-contrib): decides one parameter a step, illegal values masked."""

    encoding = "discrete"
    vectorized = False
    stepwise = True
    extra = "rl"

    def __init__(self, env: Any, seed: int = 0, options: Options | None = None) -> None:
        prepare("sb3_contrib")
        self.env, self.seed, self.options = env, seed, options or Options()

    def model(self, env: Any) -> Any:
        """The sb3-contrib model."""
        from sb3_contrib import MaskablePPO

        chosen = self.options
        return MaskablePPO(
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
