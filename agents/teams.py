"""What the multi-agent searchers share: options, who decides what, and episodes of a team.

Every agent of a team owns some parameters and sees what the environment shows; the team earns one
reward a design. With ``horizon`` 1 every design stands alone; longer episodes refine: agents see
their last design and its metrics and choose again. Only the gym API is used, so a team's
evaluations are recorded and counted like anyone's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from archsim.agents.evaluation import Evaluator, attribute
from archsim.agents.options import AgentOptions, option, require
from archsim.errors import InputError
from archsim.space import DesignSpace, Parameter
from archsim.space.teams import GROUPINGS, Team, team_of


@dataclass(frozen=True)
class TeamOptions(AgentOptions):
    """Options of every team."""

    agents: str | dict[str, list[str]] = option(  # noqa: RUF009 (frozen, never changed)
        "parameter",
        "Who decides what: parameter, role, one (a single agent), or agent: [parameters, roles].",
    )
    batch: int = option(16, "Designs between two updates, at least; sampled together.", low=2)
    horizon: int = option(1, "Designs an episode; beyond 1, agents see the last one.", low=1)
    gamma: float = option(0.0, "Discount: what later designs count.", low=0.0, high=1.0)

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.agents, str) and self.agents not in GROUPINGS:
            raise InputError(
                "unknown grouping",
                field="agents",
                found=self.agents,
                expected=f"{', '.join(GROUPINGS)}, or agent: [parameters]",
            )


@dataclass(frozen=True)
class Rollout:
    """Whole episodes of W lanes side by side, H designs each.

    Attributes:
        observations: f4[H + 1, W, S], before every design, and after the last.
        designs: i8[H, W, P], as chosen (the environment evaluates the nearest legal ones).
        rewards: f8[H, W].
    """

    observations: np.ndarray
    designs: np.ndarray
    rewards: np.ndarray


class TeamSearch:
    """A team on a recorded environment; base of the multi-agent searchers.

    Args:
        env: The environment.
        seed: Seed of everything random.
        options: Options of the searcher.

    Attributes:
        team: Agent -> parameters.
        owner: i8[P], the agent of every parameter, by its place in the team.
        sizes: i8[P], values of every parameter.
        generator: Where torch's random numbers come from.
    """

    encoding = "multidiscrete"
    vectorized = True
    extra = "rl"

    def __init__(self, env: Any, seed: int, options: TeamOptions) -> None:
        torch = require("torch", "rl")
        torch.set_num_threads(1)
        self.settings = options
        self.evaluate = Evaluator(env, seed)
        self.sizes = self.evaluate.sizes
        space = self.evaluate.space or _unnamed(self.sizes)
        self.team: Team = team_of(space, options.agents, attribute(env, "subsystems"))
        place = {name: at for at, names in enumerate(self.team.values()) for name in names}
        self.owner = np.array([place[name] for name in space.names], dtype=np.int64)
        self.generator = torch.Generator().manual_seed(seed)
        self.rng = np.random.default_rng(seed)

    @staticmethod
    def designs_per_step(options: TeamOptions) -> int:
        """Width of the vector environment this agent would like."""
        return max(1, options.batch // options.horizon)

    def act(self, observations: np.ndarray) -> np.ndarray:
        """i8[W, P]: what the team chooses where it sees f4[W, S]."""
        raise NotImplementedError

    def episodes(self) -> Rollout:
        """One round of episodes, at least ``batch`` designs.

        Raises:
            BudgetSpent: The recorder's budget ended with one of these designs.
        """
        horizon, lanes = self.settings.horizon, self.evaluate.width
        lanes *= -(-self.settings.batch // (lanes * horizon))
        first = np.repeat(self.evaluate.first_observation()[None], lanes, axis=0)
        observations, designs, rewards = [first], [], []
        for _ in range(horizon):
            designs.append(self.act(observations[-1]))
            scores = self.evaluate(designs[-1])
            rewards.append(scores.reward)
            observations.append(scores.observations)
        return Rollout(np.array(observations), np.array(designs), np.array(rewards))


def _unnamed(sizes: np.ndarray) -> DesignSpace:
    """A space for environments that offer none: one role, names by position."""
    return DesignSpace([Parameter(f"p{at}", tuple(range(n))) for at, n in enumerate(sizes)])
