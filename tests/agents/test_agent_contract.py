"""Promise: every shipped agent keeps the contract, and so does the one in the README."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from archsim.agents import AGENTS, available_agents, load_agent
from archsim.testing import AgentCheckError, check_agent

EXAMPLE = Path(__file__).parent / "custom_agent_example.py"
# Fitting a Gaussian process takes tenths of a second a design.
BUDGET = {"gp": 16}


@pytest.mark.parametrize("name", AGENTS)
def test_every_shipped_agent_keeps_the_contract(name):
    budget = BUDGET.get(name, 64)
    report = check_agent(name, budget=budget)
    assert report.evaluations == budget
    assert report.optimum <= report.best < report.median


def test_the_custom_agent_of_the_readme_keeps_the_contract():
    lines = EXAMPLE.read_text().split('"""', 2)[2].strip().splitlines()
    assert len([line for line in lines if line.strip()]) <= 30
    report = check_agent(f"{EXAMPLE}:HillClimber", options={"warmup": 8})
    assert report.evaluations == 64
    assert "keeps the contract" in str(report)


def test_the_table_of_agents_says_what_each_needs():
    table = {agent.name: agent for agent in available_agents()}
    assert list(table) == list(AGENTS)
    assert table["random"].needs == ""
    assert table["maskable_ppo"].stepwise
    assert table["maskable_ppo"].needs == "rl"
    assert table["gp"].needs == "search,torch"
    assert all(30 < len(agent.summary) < 110 for agent in table.values())


class Good:
    encoding = "multidiscrete"
    vectorized = False

    def __init__(self, env, seed=0, options=None):
        self.env = env
        self.rng = np.random.default_rng(seed)

    def propose(self):
        return self.rng.integers(self.env.action_space.nvec)

    def search(self):
        while True:
            self.env.reset()
            info = self.env.step(self.propose())[-1]
            if info.get("budget_exhausted"):
                return


class Illegal(Good):
    def propose(self):
        return self.env.action_space.nvec


class Ragged(Good):
    def propose(self):
        return [1, 2]


class Fractional(Good):
    def propose(self):
        return super().propose() + 0.5


class Short(Good):
    def search(self):
        for _ in range(20):
            self.env.reset()
            self.env.step(self.propose())


class Swallows(Good):
    def search(self):
        while True:
            try:
                self.env.reset()
                self.env.step(self.propose())
            except Exception:
                continue


class NeverLooks(Good):
    def search(self):
        while True:
            self.env.reset()
            self.env.step(self.propose())


class GlobalRandom(Good):
    def propose(self):
        return np.array([np.random.randint(n) for n in self.env.action_space.nvec])  # noqa: NPY002


class OneSeed(Good):
    def __init__(self, env, seed=0, options=None):
        super().__init__(env, 7)


class Liar(Good):
    deterministic = True


class Peeks(Good):
    def propose(self):
        return self.env.unwrapped.problem.space.sample(self.rng)


class NoReset(Good):
    def search(self):
        self.env.step(self.propose())


class StepsOn(Good):
    def search(self):
        self.env.reset()
        while True:
            self.env.step(self.propose())


class Stuck(Good):
    def search(self):
        while True:
            self.env.reset()


class Same(Good):
    deterministic = True

    def propose(self):
        return np.zeros(6, dtype=np.int64)


class Worst(Good):
    def propose(self):
        # The slowest and hungriest corner, and its surroundings.
        return np.array([0, 0, 5, 0, 0, 0]) + self.rng.integers([2, 1, 1, 3, 2, 2])


class Broken(Good):
    def search(self):
        self.env.reset()
        raise ZeroDivisionError("of my own")


COMPLAINTS = [
    (Illegal, "outside MultiDiscrete"),
    (Ragged, "has shape"),
    (Fractional, "whole numbers"),
    (Short, "stops after 20 of 64"),
    (Swallows, "swallowing BudgetExhausted"),
    (GlobalRandom, "two runs with seed 0 differ from step 1"),
    (OneSeed, "use the seed, or declare deterministic"),
    (Liar, "yet the seed changes"),
    (Peeks, "reaches past the gym API: problem"),
    (NoReset, "before the first reset"),
    (StepsOn, "after an episode has ended"),
    (Stuck, "without a step"),
    (Same, "1 of its 64 designs are different"),
    (Worst, "no better than that of the median"),
    (Broken, "ZeroDivisionError: of my own"),
]


@pytest.mark.parametrize(("agent", "words"), COMPLAINTS, ids=[a.__name__ for a, _ in COMPLAINTS])
def test_check_agent_says_what_is_wrong(agent, words):
    with pytest.raises(AgentCheckError, match=words):
        check_agent(agent)


@pytest.mark.parametrize("agent", [Good, NeverLooks])
def test_check_agent_accepts_an_agent_that_lets_the_budget_error_pass(agent):
    assert check_agent(agent).evaluations == 64


def test_a_masked_action_is_refused():
    class Unmasked(Good):
        encoding = "discrete"
        stepwise = True

        def search(self):
            self.env.reset()
            while True:
                *_, terminated, _, _ = self.env.step(self.env.action_space.n - 1)
                if terminated:
                    self.env.reset()

    with pytest.raises(AgentCheckError, match="masked out"):
        check_agent(Unmasked)


def test_a_vectorized_agent_must_fill_the_width_it_is_given():
    class Fixed(Good):
        vectorized = True

        def search(self):
            self.env.reset(seed=0)
            while True:
                nvec = self.env.single_action_space.nvec
                if self.env.step(self.rng.integers(nvec, size=(16, len(nvec))))[2].all():
                    pass

    with pytest.raises(AgentCheckError, match=r"with 7 designs a step: .*has shape \(16, 6\)"):
        check_agent(Fixed)


def test_agents_know_nothing_of_the_models():
    folder = Path(load_agent("random").__module__.replace(".", "/"))
    files = sorted((Path(__file__).parents[2] / "agents").glob("*.py"))
    assert folder.name == "random_search"
    assert len(files) > len(AGENTS)
    for file in files:
        for line in file.read_text().splitlines():
            if line.strip().startswith(("import archsim", "from archsim")):
                assert line.split()[1].startswith(
                    ("archsim.agents", "archsim.errors", "archsim.space")
                ), (file.name, line)
