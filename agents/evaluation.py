"""What every searcher needs from an environment: evaluate designs, until the budget is spent.

It uses the gym API only: ``reset``, ``step``, the action space, and three attributes that the
environment offers through ``get_wrapper_attr``: ``space`` (a `DesignSpace`), ``objective_names``
and ``budget``. All three are optional.
"""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np


class BudgetSpent(Exception):
    """The recorder has counted the last evaluation; raised inside ``search`` to end its loop."""


def attribute(env: Any, name: str, default: Any = None) -> Any:
    """An attribute of an environment or of anything it wraps.

    Args:
        env: A gymnasium environment, scalar or vector.
        name: Attribute name.
        default: Returned when no layer has it.
    """
    if not isinstance(env, gym.vector.VectorEnv):
        try:
            return env.get_wrapper_attr(name)
        except AttributeError:
            return default
    # Vector wrappers, unlike scalar ones, have no way of asking through them.
    layer = env
    while not hasattr(layer, name) and isinstance(layer, gym.vector.VectorWrapper):
        layer = layer.env
    return getattr(layer, name, default)


class Scores:
    """What a batch of N designs scored.

    Attributes:
        reward: f8[N], larger is better; an infeasible design has a graded, finite penalty.
        infos: one flat info mapping a step, each with its number of designs.
        seen: what the environment showed after each step.
    """

    def __init__(
        self,
        reward: np.ndarray,
        infos: list[tuple[dict[str, Any], int]],
        seen: list[Any] | None = None,
    ) -> None:
        self.reward = reward
        self.infos = infos
        self.seen = seen or []

    @property
    def observations(self) -> np.ndarray:
        """f4[N, S]: what the environment showed of every design, also where an episode ended."""
        rows = []
        for observation, (info, count) in zip(self.seen, self.infos, strict=True):
            shown = np.array(observation, dtype=np.float32).reshape(count, -1)
            for lane in np.flatnonzero(info.get("_final_obs", ())):
                shown[lane] = np.ravel(info["final_obs"][lane])
            rows.append(shown)
        return np.concatenate(rows)

    def metric(self, name: str, default: np.ndarray | None = None) -> np.ndarray:
        """A metric of every design, from the info.

        Args:
            name: Info key, e.g. ``latency_s``.
            default: f8[N] used when the environment does not report it.

        Returns:
            f8[N].
        """
        parts = []
        for info, count in self.infos:
            value = info.get(name)
            if value is None:
                if default is None:
                    raise KeyError(f"the environment's info has no {name!r}")
                return default
            parts.append(np.broadcast_to(np.asarray(value, dtype=np.float64), count))
        return np.concatenate(parts)

    @property
    def violation(self) -> np.ndarray:
        """f8[N]: how far each design is from feasible (0 where it is)."""
        return self.metric("violation", np.zeros(len(self.reward)))

    @property
    def objective(self) -> np.ndarray:
        """f8[N]: the scalar to minimise; minus the reward where the info has none."""
        return self.metric("objective", -self.reward)


class Evaluator:
    """Evaluates batches of designs on a scalar or a vector environment.

    Args:
        env: A gymnasium environment, or VectorEnv, wrapped in a recorder that ends the budget.
        seed: Seed of the first reset.

    Attributes:
        width: Designs one step evaluates (1 for a scalar environment).
        action_space: The action space of one design.
    """

    def __init__(self, env: Any, seed: int) -> None:
        self.env = env
        self.vector = isinstance(env, gym.vector.VectorEnv)
        self.width = int(env.num_envs) if self.vector else 1
        self.action_space = env.single_action_space if self.vector else env.action_space
        self.space = attribute(env, "space")
        self.budget = attribute(env, "budget")
        mode = env.metadata.get("autoreset_mode") if self.vector else None
        self._resets_itself = mode == gym.vector.AutoresetMode.SAME_STEP
        self._seed: int | None = seed
        self._must_reset = True
        self._first: Any = None

    @property
    def sizes(self) -> np.ndarray:
        """i8[P]: values every entry of a discrete action can take."""
        space = self.action_space
        if isinstance(space, gym.spaces.MultiDiscrete):
            return space.nvec.astype(np.int64)
        if isinstance(space, gym.spaces.Discrete):
            return np.array([space.n], dtype=np.int64)
        raise TypeError(f"no discrete action space: {space}")

    @property
    def ordered(self) -> np.ndarray:
        """bool[P]: whether neighbouring values of a parameter resemble each other."""
        if self.space is None:
            return np.ones(len(self.sizes), dtype=bool)
        return np.array([parameter.ordered for parameter in self.space.parameters], dtype=bool)

    def whole_steps(self, count: int) -> int:
        """``count`` rounded up to whole vector steps: no slot of a step can be left empty."""
        return -(-count // self.width) * self.width

    def sample(self, rng: np.random.Generator, count: int) -> np.ndarray:
        """Draw designs that keep the constraints of the space, uniformly.

        Args:
            rng: Source of randomness.
            count: Number of designs N.

        Returns:
            i8[N, P] index vectors.
        """
        if self.space is not None:
            return self.space.sample(rng, count)
        return rng.integers(self.sizes, size=(count, len(self.sizes)))

    def repair(self, designs: np.ndarray) -> np.ndarray:
        """The legal designs an environment evaluates in place of illegal ones.

        The constraints of the space are known for free; a searcher that repairs its own proposals
        remembers what was evaluated, not what was asked.

        Args:
            designs: i8[N, P] index vectors.

        Returns:
            i8[N, P]; legal designs stay as they are.
        """
        return designs if self.space is None else self.space.repair(designs)

    def is_legal(self, designs: np.ndarray) -> np.ndarray:
        """bool[N]: which index vectors keep the constraints of the space."""
        if self.space is None:
            return np.ones(len(designs), dtype=bool)
        return self.space.is_legal(designs)

    def __call__(self, actions: np.ndarray) -> Scores:
        """Evaluate N designs, in order, ``width`` a step.

        Args:
            actions: Array [N, ...] of actions of one design each. N must be a multiple of
                ``width`` (see `whole_steps`).

        Raises:
            BudgetSpent: The recorder's budget ended with one of these designs.
        """
        if len(actions) % self.width:
            raise ValueError(f"{len(actions)} designs do not fill steps of {self.width}")
        rewards, infos, seen = [], [], []
        for start in range(0, len(actions), self.width):
            self._reset_if_due()
            batch = actions[start : start + self.width]
            observation, reward, info = self._step(batch if self.vector else self._one(batch[0]))
            rewards.append(reward)
            infos.append((info, self.width))
            seen.append(observation)
        return Scores(np.concatenate(rewards), infos, seen)

    def first_observation(self) -> np.ndarray:
        """f4[S]: what the environment shows before the first design of an episode."""
        self._reset_if_due()
        shown = np.array(self._first, dtype=np.float32)
        return shown[0].ravel() if self.vector else shown.ravel()

    def _reset_if_due(self) -> None:
        if self._must_reset:
            observation, _ = self.env.reset(seed=self._seed)
            if self._first is None:
                self._first = observation
            self._seed, self._must_reset = None, False

    def _one(self, action: np.ndarray) -> Any:
        """The action of one design, as the action space writes it."""
        if isinstance(self.action_space, gym.spaces.Discrete):
            return int(np.ravel(action)[0]) + int(self.action_space.start)
        return np.asarray(action, dtype=self.action_space.dtype)

    def _step(self, action: Any) -> tuple[Any, np.ndarray, dict[str, Any]]:
        """One step of the environment; notes whether a reset is due."""
        if self.vector:
            action = action.astype(self.action_space.dtype, copy=False)
        observation, reward, terminated, truncated, info = self.env.step(action)
        if np.any(info.get("budget_exhausted", False)):
            raise BudgetSpent
        # An environment that resets itself within the step goes on; any other is told to, so that
        # no step is lost to a reset in which the actions are ignored.
        self._must_reset = not self._resets_itself and bool(np.any(terminated) or np.any(truncated))
        reward = np.array(reward, dtype=np.float64).reshape(self.width)
        return observation, reward, info
