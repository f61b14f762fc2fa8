"""Many agents, one design: PettingZoo's parallel environments over any whole-design environment.

Each agent decides the parameters of its own (:func:`archsim.space.teams.team_of`); together they
name a point, which the environment underneath takes like any single agent's. So a team reaches
exactly the same designs, and an illegal joint choice becomes the same repaired design.

| ``rewards`` | an agent earns | evaluations a step |
|---|---|---|
| ``shared`` | the reward of the design | 1 |
| ``difference`` | that less the reward of the design with its own choice replaced by a default | 1, and up to one an agent |

A counterfactual design is evaluated by the environment underneath (a recorder there records and
counts it) unless this environment knows it: an agent that chose its default earns 0 for free, and a
design evaluated since the last seeded reset is not evaluated again. ``info["counterfactuals"]``
says how many were evaluated in a step.
"""  # noqa: E501

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from archsim.envs.kinds import CUSTOM, kind_of
from archsim.envs.problem import as_problem
from archsim.envs.recorder import Cache, Callback, Recorder
from archsim.envs.refinement import RefinementEnv
from archsim.errors import InputError, MissingExtraError
from archsim.space import DesignSpace, encoding_of
from archsim.space.teams import Grouping, team_of

try:
    from pettingzoo import ParallelEnv
except ImportError as error:
    raise MissingExtraError("pettingzoo", "rl") from error

REWARDS = ("shared", "difference")
SIGHTS = ("all", "own")
EPISODES = ("one-step", "refinement")
Observations = dict[str, np.ndarray]
Infos = dict[str, dict[str, Any]]


class TeamEnv(ParallelEnv):
    """The parameters of one environment, divided among agents.

    An agent with one parameter has a ``Discrete`` action, one with several a ``MultiDiscrete``.
    All agents live and end together; the end of a recorder's budget is ``truncated``.

    Args:
        env: A whole-design environment in the ``multidiscrete`` encoding that offers ``space``, or
            a :class:`archsim.envs.refinement.RefinementEnv` over one; recorded or not. For the
            counterfactuals of difference rewards to be recorded, the recorder must be inside.
        agents: Who decides what, see :func:`archsim.space.teams.team_of`.
        rewards: ``shared`` or ``difference``.
        sight: ``all`` (every agent sees the whole observation) or ``own`` (not the parameters of
            others). :meth:`state` shows everything to a central critic.
        default: Value by parameter that counterfactuals fall back to; those not named, to the
            middle of their values. While refining the fall-back is to keep a parameter.

    Attributes:
        possible_agents: All agents.
        agents: Those of the running episode.
        team: Agent -> parameters.
        state_space: Space of :meth:`state`.

    Raises:
        InputError: An argument is wrong.

    Example:
        >>> env = parallel_env("smoke", agents="role")
        >>> env.team["compute"], env.action_space("compute"), env.action_space("dataflow")
        (('rows', 'cols'), MultiDiscrete([3 3]), Discrete(3))
        >>> observations, infos = env.reset(seed=0)
        >>> choices = {"compute": [1, 1], "dataflow": 0, "memory": [1, 2], "technology": 1}
        >>> observations, rewards, terminations, truncations, infos = env.step(choices)
        >>> infos["memory"]["design"].tolist(), len(set(rewards.values())), env.agents
        ([1, 1, 0, 1, 2, 1], 1, [])
    """

    metadata = {  # noqa: RUF012
        "name": "archsim_team_v0",
        "render_modes": ["ansi"],
        "is_parallelizable": True,
    }

    def __init__(
        self,
        env: gymnasium.Env,
        agents: Grouping = "role",
        rewards: str = "shared",
        sight: str = "all",
        default: Mapping[str, Any] | None = None,
    ) -> None:
        _check_choice("rewards", rewards, REWARDS)
        _check_choice("sight", sight, SIGHTS)
        self.env = env
        space, whole = _attribute(env, "space"), env.observation_space
        if (
            not isinstance(space, DesignSpace)
            or encoding_of(env.action_space) != "multidiscrete"
            or not isinstance(whole, spaces.Box)
        ):
            raise InputError(
                "a team needs whole designs in the multidiscrete encoding",
                field="env",
                found=env.action_space,
            )
        self.space: DesignSpace = space
        self.team = team_of(space, agents, _attribute(env, "subsystems"))
        self.possible_agents = list(self.team)
        self.agents: list[str] = []
        self.render_mode = getattr(env, "render_mode", None)
        place = {name: at for at, name in enumerate(space.names)}
        self._columns = {a: np.array([place[n] for n in names]) for a, names in self.team.items()}
        self._difference = rewards == "difference"
        self._refines = isinstance(env, RefinementEnv)
        if self._difference and not self._refines and _attribute(env, "horizon", 1) != 1:
            raise InputError(
                "counterfactual designs would be steps of a longer episode; use horizon 1, or a "
                "RefinementEnv",
                field="horizon",
                found=_attribute(env, "horizon"),
            )
        self._default = self._fall_back(default)
        self._actions = {a: _own_actions(env.action_space, c) for a, c in self._columns.items()}
        everything = np.arange(whole.shape[0])
        hidden = {a: np.setdiff1d(np.arange(len(place)), c) for a, c in self._columns.items()}
        self._sight = {
            agent: everything if sight == "all" else np.setdiff1d(everything, hidden[agent])
            for agent in self.team
        }
        self.state_space = whole
        self._observations = {
            agent: spaces.Box(whole.low[seen], whole.high[seen], dtype=np.float32)
            for agent, seen in self._sight.items()
        }
        self._state: np.ndarray = np.zeros(whole.shape, dtype=np.float32)
        self._rewards: dict[bytes, float] = {}
        self._spent, self._evaluations = False, 0

    def _fall_back(self, default: Mapping[str, Any] | None) -> np.ndarray:
        """int64[P]: the action counterfactuals fall back to."""
        if self._refines:
            if default:
                raise InputError(
                    "while refining, counterfactuals keep parameters as they are", field="default"
                )
            return np.zeros(len(self.space.names), dtype=np.int64)
        action = (self.space.cardinalities - 1) // 2
        for name, value in (default or {}).items():
            if name not in self.space.names:
                raise InputError("unknown parameter", field="default", found=name)
            at = self.space.names.index(name)
            action[at] = self.space.parameters[at].index_of(value)
        return action

    def observation_space(self, agent: str) -> spaces.Space:
        """What an agent sees."""
        return self._observations[agent]

    def action_space(self, agent: str) -> spaces.Space:
        """What an agent decides."""
        return self._actions[agent]

    def state(self) -> np.ndarray:
        """The whole observation, float32[S]."""
        return self._state.copy()

    def reset(
        self, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observations, Infos]:
        """Begin an episode; a seeded one also forgets the designs known."""
        if seed is not None:
            self._rewards.clear()
        self._state, info = self.env.reset(seed=seed, options=options)
        self.agents = list(self.possible_agents)
        return self._seen(), {agent: dict(info) for agent in self.agents}

    def joint(self, actions: Mapping[str, Any]) -> np.ndarray:
        """int64[P]: the action of the environment underneath that the agents' actions make.

        Raises:
            InputError: An agent is missing or unknown, or its action is none of its space.
        """
        if set(actions) != set(self.team):
            raise InputError(
                "every agent acts in every step",
                field="actions",
                found=", ".join(map(str, actions)),
                expected=", ".join(self.team),
            )
        found = np.empty(len(self.space.names), dtype=np.int64)
        for agent, columns in self._columns.items():
            action = np.asarray(actions[agent])
            if action.dtype.kind not in "iu" or not self._actions[agent].contains(
                action.astype(np.int64) if action.ndim else np.int64(action)
            ):
                raise InputError(
                    "not an action of the agent",
                    field=f"actions.{agent}",
                    found=actions[agent],
                    expected=str(self._actions[agent]),
                )
            found[columns] = action
        return found

    def split(self, action: Any) -> dict[str, Any]:
        """Agent -> its part of an action of the environment underneath; undoes :meth:`joint`."""
        whole = np.asarray(action, dtype=np.int64)
        return {
            agent: whole[columns] if len(columns) > 1 else whole[columns[0]]
            for agent, columns in self._columns.items()
        }

    def step(
        self, actions: Mapping[str, Any]
    ) -> tuple[Observations, dict[str, float], dict[str, bool], dict[str, bool], Infos]:
        """Evaluate the design the agents choose together."""
        if not self.agents:
            raise InputError("the episode is over; reset it", field="actions")
        action = self.joint(actions)
        point, without = self._points(action)
        self._state, gained, terminated, truncated, info = self.env.step(action)
        reward = float(gained)
        self._note(info)
        own = dict.fromkeys(self.team, reward)
        if self._difference:
            self._rewards[point.tobytes()] = reward
            own, info["counterfactuals"] = self._differences(reward, without)
            info["evaluations"] = self._evaluations
        if self._spent:
            truncated = True
            info["budget_exhausted"] = True
        acting, ended = self.agents, terminated or truncated
        self.agents = [] if ended else list(acting)
        return (
            self._seen(),
            own,
            dict.fromkeys(acting, bool(terminated)),
            dict.fromkeys(acting, bool(truncated)),
            {agent: dict(info) for agent in acting},
        )

    def render(self) -> Any:
        """The last design and its metrics as text."""
        return self.env.render()

    def close(self) -> None:
        """Close the environment underneath."""
        self.env.close()

    def _seen(self) -> Observations:
        """What every agent of the step sees."""
        whole = np.asarray(self._state, dtype=np.float32)
        return {agent: whole[entries] for agent, entries in self._sight.items()}

    def _points(self, action: np.ndarray) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """The design of a joint action, and by agent that without the agent's own choice."""
        if not self._difference:
            return action, {}
        rows = np.repeat(action[None], len(self.team) + 1, axis=0)
        for at, columns in enumerate(self._columns.values(), 1):
            rows[at, columns] = self._default[columns]
        if isinstance(self.env, RefinementEnv):
            rows = np.array([self.env.point_of(row) for row in rows])
        designs = self.space.repair(rows)
        return designs[0], dict(zip(self.team, designs[1:], strict=True))

    def _differences(
        self, reward: float, without: Mapping[str, np.ndarray]
    ) -> tuple[dict[str, float], int]:
        """What each agent's choice added, and how many designs were evaluated for that.

        An agent whose counterfactual the budget does not reach earns 0.
        """
        evaluated = 0
        found = {}
        for agent, design in without.items():
            key = design.tobytes()
            if key not in self._rewards and not self._spent:
                self._rewards[key] = self._probe(design)
                evaluated += 1
            found[agent] = reward - self._rewards.get(key, reward)
        return found, evaluated

    def _probe(self, design: np.ndarray) -> float:
        """The reward of a design, evaluated underneath."""
        if isinstance(self.env, RefinementEnv):
            reward, info = self.env.probe(design)
        else:
            self.env.reset()
            _, gained, _, _, info = self.env.step(design)
            reward = float(gained)
        self._note(info)
        return reward

    def _note(self, info: Mapping[str, Any]) -> None:
        """How many evaluations there were, and whether the last one used up the budget."""
        self._spent = bool(info.get("budget_exhausted", False))
        self._evaluations = info.get("evaluations", 0)


def refinement_env(
    scenario: Any,
    horizon: int = 16,
    budget: int | None = None,
    on_evaluation: Callback | None = None,
    cache: Cache | None = None,
) -> RefinementEnv:
    """The single-agent environment that refines a design.

    Args:
        scenario: Scenario name, path, data or object, or a problem, of any kind.
        horizon: Steps of an episode.
        budget: Evaluations allowed; None for no limit and no record.
        on_evaluation: Called with every evaluation, see :class:`archsim.envs.recorder.Recorder`.
        cache: Designs known already, see there.

    Raises:
        InputError: An argument is wrong.
    """
    return RefinementEnv(_recorded(scenario, budget, on_evaluation, cache), horizon)


def parallel_env(
    scenario: Any,
    agents: Grouping = "role",
    rewards: str = "shared",
    episode: str = "one-step",
    horizon: int | None = None,
    sight: str = "all",
    default: Mapping[str, Any] | None = None,
    budget: int | None = None,
    on_evaluation: Callback | None = None,
    cache: Cache | None = None,
) -> TeamEnv:
    """The multi-agent environment of a scenario, of any kind.

    Args:
        scenario: Scenario name, path, data or object, or a problem.
        agents: ``parameter``, ``role``, ``one``, or agent -> names of parameters or roles.
        rewards: ``shared`` or ``difference``.
        episode: ``one-step`` (a design an episode) or ``refinement``
            (:mod:`archsim.envs.refinement`).
        horizon: Steps of a refinement episode; default 16.
        sight: ``all`` or ``own``.
        default: What counterfactuals of one-step episodes fall back to, value by parameter.
        budget: Evaluations allowed, counterfactual ones included; None for no limit, no record.
        on_evaluation: Called with every evaluation, see :class:`archsim.envs.recorder.Recorder`.
        cache: Designs known already, see there.

    Raises:
        InputError: An argument is wrong.

    Example:
        >>> env = parallel_env("smoke", "parameter", "difference", "refinement", 3, budget=20)
        >>> observations, infos = env.reset(seed=1)
        >>> step = env.step({agent: 1 for agent in env.agents})  # every agent moves
        >>> infos = step[-1]
        >>> infos["rows"]["counterfactuals"], infos["rows"]["evaluations"]
        (4, 5)
    """
    _check_choice("episode", episode, EPISODES)
    env: gymnasium.Env = _recorded(scenario, budget, on_evaluation, cache)
    if episode == "refinement":
        env = RefinementEnv(env, 16 if horizon is None else horizon)
    elif horizon is not None:
        raise InputError("only refinement episodes have a horizon", field="horizon", found=horizon)
    return TeamEnv(env, agents, rewards, sight, default)


def _recorded(
    scenario: Any, budget: int | None, on_evaluation: Callback | None, cache: Cache | None
) -> gymnasium.Env:
    """The whole-design environment of a scenario, in a recorder if there is a budget."""
    import archsim.envs  # noqa: F401 (registers the environments)

    problem = as_problem(scenario)
    named = getattr(problem, "environment", None)
    kind = kind_of(named) if named else CUSTOM
    env = gymnasium.make(kind.whole, scenario=problem)
    if budget is not None:
        return Recorder(env, budget, on_evaluation, cache)
    if on_evaluation is not None or cache is not None:
        raise InputError("only evaluations under a budget are recorded", field="budget")
    return env


def _own_actions(whole: Any, columns: np.ndarray) -> spaces.Space:
    counts = whole.nvec[columns]
    return spaces.Discrete(counts[0]) if len(counts) == 1 else spaces.MultiDiscrete(counts)


def _check_choice(name: str, value: object, known: tuple[str, ...]) -> None:
    if value not in known:
        raise InputError("unknown choice", field=name, found=value, expected=" or ".join(known))


def _attribute(env: Any, name: str, default: Any = None) -> Any:
    try:
        return env.get_wrapper_attr(name)
    except AttributeError:
        return default
