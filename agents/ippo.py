"""IPPO: every agent improves its own policy by PPO and judges it with its own critic.

de Witt et al., arXiv:2011.09533; PPO is Schulman et al., arXiv:1707.06347. An agent's policy is one
categorical distribution a parameter it owns; the clipped ratio is that of the agent alone. With
``agents: one`` the same code is a single-agent PPO on the same designs: the comparison that tells
what the division into agents does. With one design an episode and a shared reward that division
shows in the networks and in the clipping only.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import Any

import numpy as np

from archsim.agents.evaluation import BudgetSpent
from archsim.agents.options import option
from archsim.agents.teams import Rollout, TeamOptions, TeamSearch


@dataclass(frozen=True)
class PolicyOptions(TeamOptions):
    """Options of teams of policies."""

    batch: int = option(32, "Designs between two updates, at least; sampled together.", low=2)
    credit: str = option(
        "shared",
        "shared: all earn the reward; difference: the reward less that with this agent's values "
        "exchanged for the best known design's, which costs evaluations.",
        choices=("shared", "difference"),
    )
    learning_rate: float = option(2e-2, "Step size of Adam.", low=1e-7, high=1.0)
    n_epochs: int = option(8, "Gradient steps a round.", low=1)
    gae_lambda: float = option(0.95, "Bias against variance (GAE).", low=0.0, high=1.0)
    ent_coef: float = option(0.03, "Weight of the entropy bonus.", low=0.0)
    vf_coef: float = option(0.5, "Weight of the critics' loss.", low=0.0)
    clip_range: float = option(0.2, "Clipping of the policy ratio.", low=1e-3, high=1.0)
    hidden: tuple[int, ...] = option((32, 32), "Units of the hidden layers of a network.", low=1)


@dataclass(frozen=True)
class Options(PolicyOptions):
    """Options of IPPO."""


class PolicyTeam(TeamSearch):
    """PPO for every agent of a team; subclasses say who criticises."""

    def __init__(self, env: Any, seed: int, options: PolicyOptions) -> None:
        super().__init__(env, seed, options)
        self.options = options
        self.known: dict[bytes, float] = {}
        self.best = (-np.inf, np.zeros(len(self.sizes), dtype=np.int64))
        self.moments = (0, 0.0, 0.0)

    def critics(self, inputs: int) -> Any:
        """Networks that give f4[A, B, 1] or f4[1, B, A]: the value of f4[B, S] to every agent."""
        raise NotImplementedError

    def search(self) -> None:
        """Sample episodes and learn from them until the recorder's budget is spent."""
        import torch

        from archsim.agents.networks import Heads

        with contextlib.suppress(BudgetSpent):
            inputs = len(self.evaluate.first_observation())
            hidden = self.options.hidden
            self.policy = Heads(self.owner, self.sizes, inputs, hidden, self.generator)
            self.critic = self.critics(inputs)
            learned = [*self.policy.parameters(), *self.critic.parameters()]
            self.optimizer = torch.optim.Adam(learned, lr=self.options.learning_rate, eps=1e-5)
            while True:
                self.learn(self.episodes())

    def act(self, observations: np.ndarray) -> np.ndarray:
        """A sample of every agent's policy."""
        import torch

        from archsim.agents.networks import draw

        with torch.no_grad():
            logits = self.policy(torch.as_tensor(observations))
            return draw(logits, self.generator).T.numpy()

    def learn(self, rollout: Rollout) -> None:
        """PPO's update of every policy and critic on one round of episodes."""
        import torch

        from archsim.agents.networks import chosen, per_agent, standardised

        options = self.options
        steps, lanes = rollout.rewards.shape
        seen = torch.as_tensor(rollout.observations[:-1]).reshape(steps * lanes, -1)
        actions = torch.as_tensor(rollout.designs.reshape(steps * lanes, -1).T)
        rewards = torch.as_tensor(self.scaled(self.credit(rollout)), dtype=torch.float32)
        with torch.no_grad():
            before = per_agent(chosen(self.policy(seen).log_softmax(2), actions), self.owner)
            values = self.values(seen).reshape(-1, steps, lanes)
        advantages, running = torch.zeros_like(values), torch.zeros_like(values[:, 0])
        for step in reversed(range(steps)):
            later = values[:, step + 1] if step + 1 < steps else torch.zeros_like(running)
            error = rewards[:, step] + options.gamma * later - values[:, step]
            running = error + options.gamma * options.gae_lambda * running
            advantages[:, step] = running
        returns = (advantages + values).flatten(1)
        gain = standardised(self.advantages(advantages.flatten(1), returns, seen, actions))
        for _ in range(options.n_epochs):
            logs = self.policy(seen).log_softmax(2)
            ratio = (per_agent(chosen(logs, actions), self.owner) - before).exp()
            clipped = ratio.clamp(1 - options.clip_range, 1 + options.clip_range)
            entropy = -(logs.exp() * logs.masked_fill(logs.isinf(), 0.0)).sum(2)
            loss = (
                -torch.minimum(ratio * gain, clipped * gain).mean()
                - options.ent_coef * per_agent(entropy, self.owner).mean()
                + options.vf_coef * (self.values(seen) - returns).square().mean()
            )
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()

    def values(self, observations: Any) -> Any:
        """f4[A, B]: what every agent may expect from f4[B, S] on."""
        found = self.critic(observations)
        return found[..., 0] if found.shape[0] == len(self.team) else found[0].T

    def advantages(self, advantages: Any, returns: Any, seen: Any, actions: Any) -> Any:
        """f4[A, B]: by how much every agent's choice was better than expected."""
        return advantages

    def credit(self, rollout: Rollout) -> np.ndarray:
        """f8[A, H, W]: what every agent earns.

        Raises:
            BudgetSpent: Counterfactual designs used up the budget.
        """
        rewards = np.repeat(rollout.rewards[None], len(self.team), axis=0)
        if self.options.credit == "shared":
            return rewards
        designs = self.evaluate.repair(rollout.designs.reshape(-1, len(self.sizes)))
        self.remember(designs, rollout.rewards.ravel())
        default = self.best[1]
        without = np.repeat(designs[None], len(self.team), axis=0)
        for agent in range(len(self.team)):
            without[agent][:, self.owner == agent] = default[self.owner == agent]
        alternatives = self.evaluate.repair(without.reshape(-1, len(self.sizes)))
        unknown = {row.tobytes(): row for row in alternatives if row.tobytes() not in self.known}
        asked = list(unknown.values())
        if asked:
            # the slots that fill the last step go to random designs
            spare = self.evaluate.whole_steps(len(asked)) - len(asked)
            batch = np.concatenate([asked, self.evaluate.sample(self.rng, spare)])
            self.remember(batch, self.evaluate(batch).reward)
        others = np.array([self.known[row.tobytes()] for row in alternatives])
        return rewards - others.reshape(rewards.shape)

    def remember(self, designs: np.ndarray, rewards: np.ndarray) -> None:
        """Keep rewards by design, and the best design."""
        for design, reward in zip(designs, rewards.tolist(), strict=True):
            self.known[design.tobytes()] = reward
            if reward > self.best[0]:
                self.best = (reward, design.copy())

    def scaled(self, rewards: np.ndarray) -> np.ndarray:
        """Rewards by the mean and standard deviation of all so far."""
        count, mean, square = self.moments
        total = count + rewards.size
        mean = (count * mean + rewards.sum()) / total
        square = (count * square + (rewards**2).sum()) / total
        self.moments = (total, mean, square)
        return (rewards - mean) / max(np.sqrt(max(square - mean**2, 0.0)), 1e-8)


class Ippo(PolicyTeam):
    """IPPO (torch): one agent a parameter or subsystem, each with its own policy and critic."""

    def __init__(self, env: Any, seed: int = 0, options: Options | None = None) -> None:
        super().__init__(env, seed, options or Options())

    def critics(self, inputs: int) -> Any:
        """A critic of its own for every agent."""
        from archsim.agents.networks import Networks

        return Networks(len(self.team), inputs, self.options.hidden, 1, self.generator)
