"""MAPPO: every agent has its own policy; one central critic judges them (training is central).

Yu et al., arXiv:2103.01955. The critic is either theirs, a value of what is seen (``value``), or
sees what all agents chose (``action``): then an agent's choice is compared with what the critic
expects of its other choices, the others' kept (the counterfactual baseline of COMA, Foerster et
al., arXiv:1705.08926), learned from every design so far and without further evaluations. With one
design an episode nothing is hidden from anyone, and a critic that sees no choices is a constant.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from archsim.agents.ippo import PolicyOptions, PolicyTeam
from archsim.agents.options import option


@dataclass(frozen=True)
class Options(PolicyOptions):
    """Options of MAPPO."""

    ent_coef: float = option(0.1, "Weight of the entropy bonus.", low=0.0)
    critic: str = option(
        "action",
        "What the central critic sees: value (the observation) or action (also all choices).",
        choices=("value", "action"),
    )
    critic_hidden: tuple[int, ...] = option((64,), "Units of its hidden layers.", low=1)
    critic_steps: int = option(16, "Gradient steps of the action critic a round.", low=1)
    critic_batch: int = option(128, "Designs replayed in each.", low=2)
    alternatives: int = option(8, "Other choices of an agent the critic is asked for.", low=1)
    buffer_size: int = option(20_000, "Designs remembered.", low=100)


class Mappo(PolicyTeam):
    """MAPPO (torch): one agent a parameter or subsystem, all judged by one central critic."""

    options: Options

    def __init__(self, env: Any, seed: int = 0, options: Options | None = None) -> None:
        super().__init__(env, seed, options or Options())

    def critics(self, inputs: int) -> Any:
        """One critic with an output an agent."""
        import torch

        from archsim.agents.networks import ChoiceCritic, Networks, Replay

        hidden, agents = self.options.critic_hidden, len(self.team)
        if self.options.critic == "action":
            self.judge = ChoiceCritic(self.sizes, inputs, hidden, agents, self.generator)
            rate = self.options.learning_rate
            self.judge_optimizer = torch.optim.Adam(self.judge.parameters(), lr=rate)
            self.replay = Replay(self.options.buffer_size)
        return Networks(1, inputs, hidden, agents, self.generator)

    def advantages(self, advantages: Any, returns: Any, seen: Any, actions: Any) -> Any:
        """Against the central critic, or against what it expects of an agent's other choices."""
        import torch

        from archsim.agents.networks import draw

        options = self.options
        if options.critic == "value":
            return advantages
        self.replay.add(seen, actions.T, returns.T)
        for _ in range(options.critic_steps):
            observed, choices, earned = self.replay.sample(options.critic_batch, self.generator)
            loss = (self.judge(observed, choices) - earned).square().mean()
            self.judge_optimizer.zero_grad()
            loss.backward()
            self.judge_optimizer.step()
        agents, count = len(self.team), options.alternatives
        with torch.no_grad():
            logits = self.policy(seen).repeat(1, count, 1)
            others = draw(logits, self.generator).T.reshape(count, 1, *actions.T.shape)
            own = torch.as_tensor(self.owner) == torch.arange(agents)[:, None]
            # [count, agent, B, P]: all choices as they were, but for those of one agent
            mixed = torch.where(own[None, :, None, :], others, actions.T)
            observed = seen.expand(count, agents, *seen.shape).flatten(0, 2)
            expected = self.judge(observed, mixed.flatten(0, 2))
            expected = expected.reshape(count, agents, -1, agents).mean(0)
            return returns - torch.diagonal(expected, dim1=0, dim2=2).T
