"""``check_agent``: run an agent behind a wrapper that shows the gym API only, and judge it."""

from __future__ import annotations

import functools
import random
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np

from archsim.envs.recorder import BudgetExhausted
from archsim.errors import ArchsimError, InputError
from archsim.testing.toy import ToyEnv, ToyStepwiseEnv, ToyVectorEnv, toy_problem


class AgentCheckError(ArchsimError, AssertionError):
    """An agent does not keep the contract; the message lists every problem found."""


class _GiveUp(BaseException):
    """Leaves an agent's search for good; no ``except Exception`` holds it."""


_VISIBLE = ("space", "objective_names", "budget", "action_masks")
_REFUSALS = 3
_IDLE_RESETS = 1000


class _Audit:
    """Counts and checks what an agent does, and ends its budget as the recorder does."""

    def __init__(self, env: Any, budget: int) -> None:
        self.env, self.budget = env, budget
        self.vector = isinstance(env, gym.vector.VectorEnv)
        self.actions: list[bytes] = []
        self.designs: set[str] = set()
        self.used = self.steps = self.refusals = self.idle_resets = 0
        self.best = np.inf
        self.best_reward = -np.inf
        self.problem: str | None = None
        self.hidden: list[str] = []
        self.started = self.finished = False

    def give_up(self, problem: str) -> None:
        """Note a problem and leave the agent."""
        self.problem = problem
        raise _GiveUp

    def refuse(self, what: str) -> None:
        """The budget is spent: raise, and give up on an agent that swallows that."""
        self.refusals += 1
        if self.refusals > _REFUSALS:
            self.give_up(
                f"it goes on after the budget of {self.budget} evaluations: it called {what} again "
                f"{self.refusals} times, swallowing BudgetExhausted. Stop when a step returns "
                'info["budget_exhausted"], or let the exception pass'
            )
        raise BudgetExhausted(f"{what} after the budget of {self.budget} evaluations")

    def reset(self, **kwargs: Any) -> Any:
        """Pass a reset on."""
        if self.used >= self.budget:
            self.refuse("reset()")
        self.idle_resets += 1
        if self.idle_resets > _IDLE_RESETS:
            self.give_up(f"it calls reset() {_IDLE_RESETS} times without a step")
        self.started, self.finished = True, False
        return self.env.reset(**kwargs)

    def step(self, action: Any) -> Any:
        """Check, count and pass a step on."""
        if self.used >= self.budget:
            self.refuse("step()")
        if not self.started:
            self.give_up("it calls step() before the first reset()")
        if self.finished:
            self.give_up("it calls step() after an episode has ended; call reset() first")
        self.idle_resets = 0
        array = self.checked(action)
        self.actions.append(array.tobytes())
        self.steps += 1
        observation, reward, terminated, truncated, info = self.env.step(
            array if array.ndim else array.item()
        )
        return observation, reward, *self.count(array, reward, terminated, truncated, info)

    def count(
        self, array: np.ndarray, reward: Any, terminated: Any, truncated: Any, info: dict
    ) -> tuple[Any, Any, dict]:
        """Count the evaluations of a step; the last one of the budget truncates."""
        if "objective" in info:
            width = self.env.num_envs if self.vector else 1
            counted = min(width, self.budget - self.used)
            self.used += counted
            reward = np.ravel(reward)[:counted]
            best = int(reward.argmax())
            if reward[best] > self.best_reward:
                self.best_reward = float(reward[best])
                self.best = float(np.ravel(info["objective"])[best])
            designs = np.atleast_2d(info["design"])[:counted]
            self.designs.update(self.env.space.keys(designs))
        info = dict(info, evaluations=self.used)
        if self.used >= self.budget:
            truncated = np.ones_like(truncated) if self.vector else True
            info["budget_exhausted"] = np.ones_like(truncated) if self.vector else True
        # A vector environment resets itself.
        self.finished = not self.vector and bool(terminated or truncated)
        return terminated, truncated, info

    def checked(self, action: Any) -> np.ndarray:
        """The action as an array of the space's type, or a complaint in words."""
        space = self.env.action_space
        where = f"step {self.steps + 1}: the action {_short(action)}"
        try:
            array = np.asarray(action)
            exact = array.astype(space.dtype)
        except (TypeError, ValueError) as error:
            self.give_up(f"{where} is no array of numbers: {error}")
        if exact.shape != space.shape:
            self.give_up(f"{where} has shape {array.shape}; {space} wants {space.shape}")
        whole = np.issubdtype(space.dtype, np.integer)
        if whole and array.dtype.kind not in "iu" and not np.array_equal(array, exact):
            self.give_up(f"{where} is not made of whole numbers, which {space} wants")
        if isinstance(space, gym.spaces.Box):
            low, high = space.low, space.high
        elif isinstance(space, gym.spaces.Discrete):
            low, high = space.start, space.start + space.n - 1
        else:
            low, high = space.start, space.start + space.nvec - 1
        if not (np.all(exact >= low) and np.all(exact <= high)):
            wrong = np.argwhere(~((exact >= low) & (exact <= high)))[0].tolist()
            place = tuple(wrong)
            limits = f"{np.broadcast_to(low, exact.shape)[place]} to "
            limits += f"{np.broadcast_to(high, exact.shape)[place]}"
            self.give_up(
                f"{where} is outside {space}: entry {wrong} is {exact[place]}, allowed is {limits}"
            )
        if hasattr(self.env, "action_masks") and not self.env.action_masks()[int(exact)]:
            self.give_up(f"{where} is masked out; choose among info['action_mask']")
        return exact


def _short(value: Any) -> str:
    """A value in at most 80 characters."""
    text = " ".join(repr(value).split())
    return text if len(text) <= 80 else text[:77] + "..."


def _sealed(audit: _Audit) -> Any:
    """An environment that shows the gym API and the attributes of the contract, nothing else."""
    base = gym.vector.VectorEnv if audit.vector else gym.Env

    class Sealed(base):  # type: ignore[misc, valid-type]
        """What `check_agent` hands to an agent."""

        metadata = audit.env.metadata
        action_space = audit.env.action_space
        observation_space = audit.env.observation_space

        def reset(self, *, seed: Any = None, options: Any = None) -> Any:
            return audit.reset(seed=seed, options=options)

        def step(self, action: Any) -> Any:
            return audit.step(action)

        def __getattr__(self, name: str) -> Any:
            if name == "budget":
                return audit.budget
            if name in _VISIBLE and hasattr(audit.env, name):
                return getattr(audit.env, name)
            if not name.startswith("_") and name not in audit.hidden:
                audit.hidden.append(name)
            raise AttributeError(f"the environment shows no attribute {name!r}")

    if audit.vector:
        Sealed.num_envs = audit.env.num_envs
        Sealed.single_action_space = audit.env.single_action_space
        Sealed.single_observation_space = audit.env.single_observation_space
    return Sealed()


@dataclass(frozen=True)
class AgentReport:
    """What `check_agent` saw.

    Attributes:
        agent: Name of the class.
        budget: Evaluations allowed.
        evaluations: Evaluations used (seed 0).
        distinct: Different designs among them.
        best: Best scalar objective found.
        median: Scalar objective of the median legal design of the toy problem.
        optimum: The best there is.
        checks: What was checked, in words.
    """

    agent: str
    budget: int
    evaluations: int
    distinct: int
    best: float
    median: float
    optimum: float
    checks: tuple[str, ...]

    def __str__(self) -> str:
        lines = [f"{self.agent}: keeps the contract"]
        lines += [f"  ok: {check}" for check in self.checks]
        lines.append(
            f"  {self.evaluations} of {self.budget} evaluations, {self.distinct} distinct designs; "
            f"best objective {self.best:.4g} (median design {self.median:.4g}, "
            f"optimum {self.optimum:.4g})"
        )
        return "\n".join(lines)


def _toy_for(agent: type[Any], width: int) -> Any:
    """The toy environment of the kind an agent asks for."""
    if getattr(agent, "stepwise", False):
        return ToyStepwiseEnv()
    if agent.vectorized:
        return ToyVectorEnv(width, agent.encoding)
    return ToyEnv(agent.encoding)


def _run(agent: type[Any], seed: int, options: Any, budget: int, width: int, noise: int) -> _Audit:
    """One search under audit; never lets the agent's own exceptions out."""
    audit = _Audit(_toy_for(agent, width), budget)
    # An agent that draws from global generators instead of its seed shows up as a difference.
    random.seed(noise)
    np.random.seed(noise)  # noqa: NPY002 (the global state is what is being disturbed)
    try:
        agent(_sealed(audit), seed=seed, options=options).search()
    except _GiveUp:
        pass
    except BudgetExhausted:
        pass
    except (ArchsimError, KeyboardInterrupt):
        raise
    except (Exception, SystemExit) as error:
        frame = traceback.extract_tb(error.__traceback__)[-1]
        audit.problem = (
            f"search fails after {audit.used} evaluations: {type(error).__name__}: {error} "
            f"({frame.filename.rsplit('/', 1)[-1]}, line {frame.lineno})"
        )
        if isinstance(error, AttributeError) and audit.hidden:
            audit.problem += (
                f". It reaches past the gym API: {', '.join(audit.hidden)} is not visible; "
                "agents see reset, step, the spaces, " + ", ".join(_VISIBLE)
            )
    return audit


def check_agent(
    agent: type[Any] | str, *, budget: int = 64, options: Mapping[str, Any] | None = None
) -> AgentReport:
    """Check that an agent keeps the contract; run it on the toy problem a few times.

    Args:
        agent: The class, or what `archsim.agents.load_agent` takes (``"genetic"``,
            ``"path/to/file.py:Class"``).
        budget: Evaluations of each run; at least 16.
        options: Options by name, as in a scenario.

    Returns:
        A report; ``str(report)`` reads as text.

    Raises:
        AgentCheckError: The agent does not keep the contract; all problems are listed.
        InputError: There is no such agent, the class lacks part of the interface, or an option is
            wrong.
        MissingExtraError: The agent needs a package that is not installed.

    Examples:
        >>> check_agent("random", budget=32).evaluations
        32
    """
    from archsim.agents import check_interface, designs_per_step, load_agent, options_from_mapping

    if budget < 16:
        raise InputError("the budget is too small to tell", found=budget, expected="at least 16")
    cls = load_agent(agent) if isinstance(agent, str) else agent
    check_interface(cls)
    chosen = options_from_mapping(cls, options)
    width = min(designs_per_step(cls, chosen), budget // 4)
    first = _run(cls, 0, chosen, budget, width, noise=1)
    problems, checks = _check_one(cls, first, budget)
    if not problems:
        again = _run(cls, 0, chosen, budget, width, noise=2)
        other = _run(cls, 1, chosen, budget, width, noise=3)
        _check_seeds(cls, first, again, other, problems, checks)
        if cls.vectorized:
            odd = _run(cls, 0, chosen, budget, 7, noise=4)
            _judge(
                odd.problem is None and odd.used >= 0.9 * budget,
                "copes with a vector environment of a width of its own (7)",
                f"with 7 designs a step: {odd.problem or f'{odd.used} of {budget} used'}",
                problems,
                checks,
            )
    if problems:
        listed = "".join(f"\n  - {problem}" for problem in problems)
        raise AgentCheckError(f"{cls.__name__} does not keep the contract of an agent:{listed}")
    legal = toy_problem().everything
    return AgentReport(
        agent=cls.__name__,
        budget=budget,
        evaluations=first.used,
        distinct=len(first.designs),
        best=first.best,
        median=float(np.median(legal["objective"][legal["feasible"]])),
        optimum=float(legal["objective"][legal["feasible"]].min()),
        checks=tuple(checks),
    )


def _judge(
    kept: bool, promise: str, complaint: str, problems: list[str], checks: list[str]
) -> None:
    """Sort one finding into what is kept and what is not."""
    if kept:
        checks.append(promise)
    else:
        problems.append(complaint)


def _check_one(agent: type[Any], run: _Audit, budget: int) -> tuple[list[str], list[str]]:
    """Judge a single run."""
    problems: list[str] = []
    checks: list[str] = []
    judge: Callable[[bool, str, str], None] = functools.partial(
        _judge, problems=problems, checks=checks
    )
    if run.problem:
        return [run.problem], checks
    checks += [
        f"takes the {agent.encoding} encoding and takes legal actions only",
        "stops when the budget is spent",
        "uses nothing but the gym API",
    ]
    judge(
        run.used >= 0.9 * budget,
        "uses its budget",
        f"it stops after {run.used} of {budget} evaluations; a search uses at least nine tenths "
        "of its budget (restart when stuck)",
    )
    judge(
        len(run.designs) >= max(2, run.used // 8),
        "tries different designs",
        f"only {len(run.designs)} of its {run.used} designs are different",
    )
    legal = toy_problem().everything
    median = float(np.median(legal["reward"][legal["feasible"]]))
    judge(
        run.best_reward > median,
        "finds better designs than the median one",
        f"its best reward, {run.best_reward:.4g}, is no better than that of the median feasible "
        f"design, {median:.4g}: is the sign of the reward right (larger is better)?",
    )
    return problems, checks


def _check_seeds(
    agent: type[Any],
    first: _Audit,
    again: _Audit,
    other: _Audit,
    problems: list[str],
    checks: list[str],
) -> None:
    """Judge what the seed does."""
    for run in (again, other):
        if run.problem:
            problems.append(run.problem)
            return
    pairs = zip(first.actions, again.actions, strict=False)
    step = next((n for n, (a, b) in enumerate(pairs, 1) if a != b), None)
    same = step is None and len(first.actions) == len(again.actions)
    _judge(
        same,
        "does the same under the same seed",
        f"two runs with seed 0 differ from step {step or 'the last'} on: draw all randomness from "
        "a generator made with the seed, and do not rely on the order of sets",
        problems,
        checks,
    )
    differs = first.actions != other.actions
    if getattr(agent, "deterministic", False):
        _judge(
            not differs,
            "does the same under every seed, as it declares",
            "it declares deterministic = True, yet the seed changes what it does",
            problems,
            checks,
        )
    else:
        _judge(
            differs,
            "does something else under another seed",
            "seeds 0 and 1 give the same designs: use the seed, or declare deterministic = True",
            problems,
            checks,
        )
