"""check_problem says in words what is wrong with a cost model, and nothing of a good one."""

from __future__ import annotations

import numpy as np
import pytest
from custom_mesh import Mesh

from archsim.envs import DesignProblem, Objective
from archsim.errors import InputError
from archsim.space import DesignSpace, Parameter
from archsim.testing import ProblemCheckError, check_problem, toy_problem


class Line(DesignProblem):
    """A model that breaks one promise, as asked."""

    space = DesignSpace([Parameter("width", (1, 2, 4, 8)), Parameter("depth", (1, 2, 3))])
    metric_names = ("latency_s", "energy_j")
    objective = Objective(("latency_s", "energy_j"))

    def __init__(self, fault: str = "") -> None:
        self.fault, self.calls = "", 0
        super().__init__()
        self.fault = fault

    def evaluate_batch(self, designs):
        values = self.space.decode(designs)
        latency = 1.0 / (values["width"] * values["depth"])
        found = {"latency_s": latency, "energy_j": 1.0 * values["width"]}
        self.calls += 1
        if self.fault == "infinite":
            latency[values["width"] == 8] = np.inf
        elif self.fault == "stateful":
            found["energy_j"] = found["energy_j"] + self.calls
        elif self.fault == "batch":
            found["latency_s"] = latency / latency.max()
        elif self.fault == "changes":
            designs[:, 0] = 0
        elif self.fault == "impossible":
            found["feasible"] = np.zeros(len(designs), dtype=bool)
        elif self.fault == "flat":
            found = {name: np.ones(len(designs)) for name in self.metric_names}
        return found


def test_good_models_pass_with_their_laws() -> None:
    report = check_problem(Line(), never_worse={"width": ["latency_s"], "depth": ["latency_s"]})
    assert report.feasible == 1.0
    assert report.objectives > 2
    assert "latency_s never grows with width" in report.checks
    assert "keeps the contract" in str(report)
    assert 0 < check_problem(Mesh(), never_worse={"link_bits": ["latency_s"]}).feasible < 1
    check_problem(toy_problem())


@pytest.mark.parametrize("name", ["smoke", "dram_low_power", "llm_chip"])
def test_shipped_problems_pass(name: str) -> None:
    check_problem(name, designs=16)


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("infinite", r"latency_s is inf for .* such as width=8"),
        ("stateful", r"energy_j of width=.* in one batch and .* in another"),
        ("batch", r"latency_s of width=.* in one batch and .* in another"),
        ("changes", "changes the array of designs"),
        ("impossible", "none of 256 designs is feasible"),
        ("flat", "every design has the same objective"),
    ],
)
def test_each_broken_promise_is_told(fault: str, words: str) -> None:
    with pytest.raises(ProblemCheckError, match=words):
        check_problem(Line(fault))


def test_a_broken_law_is_told_with_a_design() -> None:
    with pytest.raises(ProblemCheckError, match=r"energy_j grows with width, from .* at width="):
        check_problem(Line(), never_worse={"width": ["energy_j"]})


@pytest.mark.parametrize(
    ("law", "words"),
    [({"height": ["energy_j"]}, "width, depth"), ({"width": ["area"]}, "latency_s, energy_j")],
)
def test_a_law_names_what_there_is(law, words) -> None:
    with pytest.raises(InputError, match=words):
        check_problem(Line(), never_worse=law)


def test_too_few_designs_are_refused() -> None:
    with pytest.raises(InputError, match=">= 8"):
        check_problem(Line(), designs=3)
