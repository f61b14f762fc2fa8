"""A complete multi-agent searcher: every agent keeps a score of its own choices."""

import numpy as np

from archsim.envs import TeamEnv


class Scorekeepers:
    """Each agent takes the choice with the best mean reward so far, or now and then another."""

    encoding = "multidiscrete"
    vectorized = False

    def __init__(self, env, seed=0, options=None):
        self.env = TeamEnv(env, agents="parameter")  # or "role", or {"array": ["compute"], ...}
        self.rng = np.random.default_rng(seed)

    def search(self):
        spaces = {agent: self.env.action_space(agent) for agent in self.env.possible_agents}
        mean = {agent: np.full(space.n, np.inf) for agent, space in spaces.items()}
        count = {agent: np.zeros(space.n) for agent, space in spaces.items()}
        while True:
            self.env.reset()
            chosen = {agent: mean[agent].argmax() for agent in spaces}
            for agent, space in spaces.items():
                if self.rng.random() < 0.2:
                    chosen[agent] = self.rng.integers(space.n)
            _, rewards, _, _, infos = self.env.step(chosen)
            if infos[agent].get("budget_exhausted"):
                return
            for agent, choice in chosen.items():
                count[agent][choice] += 1
                known = mean[agent][choice] if count[agent][choice] > 1 else 0.0
                mean[agent][choice] = known + (rewards[agent] - known) / count[agent][choice]
