"""For authors of searchers: a toy environment, and a check that says in words what is wrong.

`check_agent` runs an agent on `ToyEnv` (a second for most agents) behind a wrapper that shows
nothing but the gym API, and raises `AgentCheckError` with every problem it found.
"""

from archsim.testing.check import AgentCheckError, AgentReport, check_agent
from archsim.testing.toy import ToyEnv, ToyProblem, ToyStepwiseEnv, ToyVectorEnv

__all__ = [
    "AgentCheckError",
    "AgentReport",
    "ToyEnv",
    "ToyProblem",
    "ToyStepwiseEnv",
    "ToyVectorEnv",
    "check_agent",
]
