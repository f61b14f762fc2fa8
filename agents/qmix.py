"""QMIX: every agent learns what its choices are worth; a mixing network learns what they make.

Rashid et al., arXiv:1803.11485; with ``mixer: sum`` it is VDN (Sunehag et al., arXiv:1706.05296).
The mixing network rises with every agent's worth, so the best joint choice is each agent's own best
one, however many joint choices there are. Learned from every design so far. An agent that owns
several parameters adds up what each of its values is worth.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from archsim.agents.evaluation import BudgetSpent
from archsim.agents.options import option
from archsim.agents.teams import Rollout, TeamOptions, TeamSearch


@dataclass(frozen=True)
class Options(TeamOptions):
    """Options of QMIX."""

    mixer: str = option("monotonic", "monotonic: QMIX; sum: VDN.", choices=("monotonic", "sum"))
    learning_rate: float = option(2e-2, "Step size of Adam.", low=1e-7, high=1.0)
    gradient_steps: int = option(8, "Gradient steps a round.", low=1)
    batch_size: int = option(64, "Designs replayed a gradient step.", low=2)
    explore: float = option(
        0.5,
        "Share of the budget over which random choices give way to the best.",
        low=0.0,
        high=1.0,
    )
    final_epsilon: float = option(
        0.1, "Probability of a random choice at the end, per agent.", low=0.0, high=1.0
    )
    tau: float = option(0.05, "Speed of the target network (gamma > 0).", low=1e-6, high=1.0)
    buffer_size: int = option(20_000, "Designs remembered.", low=100)
    hidden: tuple[int, ...] = option((32, 32), "Units of the hidden layers of an agent.", low=1)
    mixing: int = option(16, "Units of the mixing network.", low=1)


class Qmix(TeamSearch):
    """QMIX or VDN (torch): one agent a parameter or subsystem, their values mixed monotonically."""

    def __init__(self, env: Any, seed: int = 0, options: Options | None = None) -> None:
        self.options = options or Options()
        super().__init__(env, seed, self.options)
        self.spent = 0

    def search(self) -> None:
        """Choose greedily but for exploration, and learn, until the recorder's budget is spent."""
        import torch

        from archsim.agents.networks import Replay

        options = self.options
        with contextlib.suppress(BudgetSpent):
            inputs = len(self.evaluate.first_observation())
            self.online, self.target = self.networks(inputs), self.networks(inputs)
            self.follow(1.0)
            self.optimizer = torch.optim.Adam(list(self.online), lr=options.learning_rate)
            self.replay = Replay(options.buffer_size)
            while True:
                rollout = self.episodes()
                self.spent += rollout.rewards.size
                self.learn(rollout)

    def networks(self, inputs: int) -> _Worth:
        """What every choice is worth to its agent, and how worths are mixed."""
        return _Worth(self, inputs)

    @property
    def epsilon(self) -> float:
        """Probability that an agent chooses at random now."""
        over = self.options.explore * (self.evaluate.budget or 1000)
        return max(self.options.final_epsilon, 1.0 - self.spent / max(over, 1.0))

    def act(self, observations: np.ndarray) -> np.ndarray:
        """Every agent's best choice, or a random one; of lanes that agree only one is greedy."""
        import torch

        with torch.no_grad():
            greedy = self.online.heads(torch.as_tensor(observations)).argmax(2).T.numpy()
        lanes, agents = len(greedy), len(self.team)
        explores = self.rng.random((lanes, agents)) < self.epsilon
        # one and the same design evaluated again would teach nothing
        idle = np.flatnonzero(~explores.any(axis=1))[1:]
        explores[idle, self.rng.integers(agents, size=len(idle))] = True
        anything = self.rng.integers(self.sizes, size=greedy.shape)
        return np.where(explores[:, self.owner], anything, greedy)

    def learn(self, rollout: Rollout) -> None:
        """Regress the mixed worth of what was chosen on what it earned."""
        import torch

        options = self.options
        steps, lanes = rollout.rewards.shape
        last = np.zeros((steps, lanes), dtype=np.float32)
        last[-1] = 1.0
        self.replay.add(
            torch.as_tensor(rollout.observations[:-1]).flatten(0, 1),
            torch.as_tensor(rollout.designs).flatten(0, 1),
            torch.as_tensor(rollout.rewards, dtype=torch.float32).flatten(),
            torch.as_tensor(rollout.observations[1:]).flatten(0, 1),
            torch.as_tensor(last).flatten(),
        )
        earned = self.replay.columns[2]
        mean, spread = earned.mean(), earned.std(unbiased=False).clamp_min(1e-8)
        for _ in range(options.gradient_steps):
            seen, designs, rewards, then, over = self.replay.sample(
                options.batch_size, self.generator
            )
            wanted = (rewards - mean) / spread
            if options.gamma > 0.0:
                with torch.no_grad():
                    best = self.online.heads(then).argmax(2).T
                    wanted += options.gamma * (1.0 - over) * self.target(then, best)
            loss = (self.online(seen, designs) - wanted).square().mean()
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            if options.gamma > 0.0:
                self.follow(options.tau)

    def follow(self, share: float) -> None:
        """Move the target network towards the learned one."""
        import torch

        with torch.no_grad():
            for slow, fast in zip(self.target, self.online, strict=True):
                slow.lerp_(fast, share)


class _Worth:
    """The heads of all agents and the mixing network; iterates over what is learned."""

    def __init__(self, search: Qmix, inputs: int) -> None:
        from archsim.agents.networks import Heads, Mixer

        options, self.owner = search.options, search.owner
        self.heads = Heads(self.owner, search.sizes, inputs, options.hidden, search.generator)
        self.mixer = None
        if options.mixer == "monotonic":
            self.mixer = Mixer(len(search.team), inputs, options.mixing, search.generator)

    def __call__(self, observations: Any, designs: Any) -> Any:
        """f4[B]: what designs i8[B, P] are worth where f4[B, S] is seen."""
        from archsim.agents.networks import chosen, per_agent

        worths = per_agent(chosen(self.heads(observations), designs.T), self.owner)
        return worths.sum(0) if self.mixer is None else self.mixer(worths, observations)

    def __iter__(self) -> Iterator[Any]:
        yield from self.heads.parameters()
        if self.mixer is not None:
            yield from self.mixer.parameters()
