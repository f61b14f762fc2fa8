"""For authors of searchers and of cost models: checks that say in words what is wrong.

`check_agent` runs an agent on `ToyEnv` (a second for most agents) behind a wrapper that shows
nothing but the gym API; `check_problem` evaluates a cost model in many ways. Each raises an error
with every problem it found, or returns a report.
"""

from archsim.testing.agent import AgentCheckError, AgentReport, check_agent
from archsim.testing.problem import ProblemCheckError, ProblemReport, check_problem
from archsim.testing.toy import ToyEnv, ToyProblem, ToyStepwiseEnv, ToyVectorEnv, toy_problem

__all__ = [
    "AgentCheckError",
    "AgentReport",
    "ProblemCheckError",
    "ProblemReport",
    "ToyEnv",
    "ToyProblem",
    "ToyStepwiseEnv",
    "ToyVectorEnv",
    "check_agent",
    "check_problem",
    "toy_problem",
]
