"""SAC: off-policy actor-critic with an entropy bonus (Haarnoja et al., arXiv:1812.05905), by SB3.

Works on the box encoding, where it replays every design it has seen, which suits small budgets.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from archsim.agents.options import AgentOptions, option
from archsim.agents.sb3 import policy_name, prepare, train


@dataclass(frozen=True)
class Options(AgentOptions):
    """Options of SAC. SB3's names; its own defaults are for budgets of millions."""

    learning_rate: float = option(1e-2, "Step size of Adam.", low=1e-7, high=1.0)
    learning_starts: int = option(24, "Uniform random designs before learning starts.", low=1)
    batch_size: int = option(64, "Designs replayed a gradient step.", low=2)
    train_freq: int = option(1, "Designs between two rounds of gradient steps.", low=1)
    gradient_steps: int = option(2, "Gradient steps a round.", low=1)
    gamma: float = option(0.0, "Discount: what later designs count.", low=0.0, high=1.0)
    initial_entropy: float = option(
        0.2, "First weight of the entropy bonus, which then adapts by itself.", low=1e-6, high=10.0
    )
    tau: float = option(0.02, "Speed of the target network.", low=1e-6, high=1.0)
    buffer_size: int = option(20_000, "Designs remembered.", low=100)
    hidden: tuple[int, ...] = option((64, 64), "Units of the hidden layers.", low=1)


class Sac:
    """SAC (Stable-Baselines3) on the box encoding, replaying every design it has seen."""

    encoding = "box"
    vectorized = False
    extra = "rl"

    def __init__(self, env: Any, seed: int = 0, options: Options | None = None) -> None:
        prepare("stable_baselines3")
        self.env, self.seed, self.options = env, seed, options or Options()

    def model(self, env: Any) -> Any:
        """The SB3 model."""
        from stable_baselines3 import SAC

        chosen = self.options
        return SAC(
            policy_name(self.env),
            env,
            learning_rate=chosen.learning_rate,
            learning_starts=chosen.learning_starts,
            batch_size=chosen.batch_size,
            train_freq=chosen.train_freq,
            gradient_steps=chosen.gradient_steps,
            gamma=chosen.gamma,
            ent_coef=f"auto_{chosen.initial_entropy}",
            tau=chosen.tau,
            buffer_size=chosen.buffer_size,
            policy_kwargs={"net_arch": list(chosen.hidden)},
            seed=self.seed,
            device="cpu",
        )

    def search(self) -> None:
        """Train until the recorder's budget is spent; what was visited is the search."""
        train(self.env, self.model, self.options.gamma)
