"""The rewards of ArchGym's memory-controller environment, with their unit repaired."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from archsim.envs.objective import Objective
from archsim.envs.objective import reward as graded_reward

#: ArchGym's targets (configs/sims/DRAMSys_config.py: 1 and 0.1). Its observations are in W and
#: in ms: the latter is the time of the whole trace, which the released code reads as 1000 times
#: less where its simulator prints ns instead of ps.
TARGETS: Mapping[str, float] = {"power_w": 1.0, "time_s": 1.0e-4}
#: Nearer than this share of the target counts as this near; ArchGym's reward has a pole there.
NEAREST = 1e-9


@dataclass(frozen=True)
class ArchGymObjective(Objective):
    """Hit the targets: the reward of a feasible design is the product of ``T / |x - T|``.

    As in ArchGym, this is no lower-is-better reward: a design beyond the target earns as much as
    one as far short of it. The objective is the logarithm of the reward's inverse. Infeasible
    designs earn the negative graded rewards of :mod:`archsim.envs.objective`, so any feasible one
    beats them (ArchGym knows no infeasible designs).

    ``references`` holds the targets, one for every metric of ``minimize``.

    Example:
        >>> objective = ArchGymObjective(("power_w",), references={"power_w": 1.0})
        >>> objective.score({"power_w": np.array([0.5, 1.25, 3.0])})["reward"].round(6).tolist()
        [2.0, 4.0, 0.5]
    """

    @property
    def label(self) -> str:
        """What the scalar is, in words."""
        targets = [f"{name} {self.references[name]:g}" for name in self.minimize]
        return f"the relative distance to ArchGym's target of {' and '.join(targets)}"

    def with_default_references(self, metrics: Mapping[str, float]) -> Objective:
        """Itself: the targets are the references."""
        return self

    def reward(self, objective: np.ndarray, violation: np.ndarray) -> np.ndarray:
        """ArchGym's reward of feasible designs, graded ones in (-1, 0) of others."""
        kept = np.asarray(violation) == 0.0
        return np.where(
            kept, np.exp(-np.where(kept, objective, 0.0)), graded_reward(objective, violation)
        )

    def _scalar(self, logs: np.ndarray) -> np.ndarray:
        z = np.zeros(logs.shape[1:])
        for row, (_, target) in zip(logs, self._terms, strict=False):
            # |x / T - 1|, from logarithms
            apart = np.abs(np.expm1(np.minimum(row - target, 700.0)))
            z += np.log(np.maximum(apart, NEAREST))
        return z
