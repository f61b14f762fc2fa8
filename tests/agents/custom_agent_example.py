"""A complete searcher of one's own: mutate the best design known, one parameter at a time."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Options:
    warmup: int = 16  # random designs first


class HillClimber:
    """Changes one parameter of the best design so far."""

    encoding = "multidiscrete"
    vectorized = False

    def __init__(self, env, seed=0, options: Options | None = None):
        self.env, self.options = env, options or Options()
        self.rng = np.random.default_rng(seed)

    def search(self):
        best, best_reward, tried, done = None, -np.inf, 0, True
        sizes = self.env.action_space.nvec
        while True:
            if done:
                self.env.reset()
            design = self.rng.integers(sizes)
            if tried >= self.options.warmup:
                column = self.rng.integers(len(sizes))
                design = np.where(np.arange(len(sizes)) == column, design, best)
            _, reward, terminated, truncated, info = self.env.step(design)
            if info.get("budget_exhausted"):
                return
            tried, done = tried + 1, terminated or truncated
            if reward > best_reward:
                best, best_reward = design, reward
