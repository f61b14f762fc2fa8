"""Promise: an agent asks for exactly the budget, whatever its batches are, under the recorder."""

from __future__ import annotations

import numpy as np
import pytest

from archsim.agents import AGENTS, load_agent
from archsim.testing import ToyProblem

SPACE = ToyProblem().space


@pytest.mark.parametrize("name", AGENTS)
def test_the_budget_is_used_to_the_last_evaluation(name, search):
    budget = 13 if name == "gp" else 41
    records = search(name, budget)
    assert [record["order"] for record in records] == list(range(budget))
    designs = np.array([record["index_vector"] for record in records])
    assert SPACE.is_legal(designs).all()


@pytest.mark.parametrize("name", [n for n in AGENTS if load_agent(n).vectorized])
@pytest.mark.parametrize("width", [1, 5, 64])
def test_any_width_of_the_vector_environment_will_do(name, width, search):
    records = search(name, 97, width=width)
    assert len(records) == 97
    assert len({record["key"] for record in records}) > 40


@pytest.mark.parametrize("name", ["random", "grid"])
def test_the_width_does_not_change_the_sequence(name, search):
    narrow = [record["key"] for record in search(name, 200, width=1)]
    wide = [record["key"] for record in search(name, 200, width=32)]
    assert narrow == wide


@pytest.mark.parametrize("name", ["genetic", "nsga2", "tpe", "coordinate_descent", "grid"])
def test_no_design_is_paid_for_twice(name, search):
    records = search(name, 120)
    assert len({record["key"] for record in records}) == 120


def test_populations_larger_than_the_budget(search):
    for name in ("genetic", "nsga2", "cmaes"):
        assert len(search(name, 10, options={"population": 300})) == 10
