"""Searches on the toy problem under archsim's own recorder, on one thread."""

from __future__ import annotations

import contextlib
import os

# Before torch is imported anywhere: two threads on two busy cores are many times slower than one.
os.environ.setdefault("OMP_NUM_THREADS", "1")

from archsim.agents import designs_per_step, load_agent, options_from_mapping
from archsim.envs.recorder import BudgetExhausted, Recorder, VectorRecorder
from archsim.testing import ToyEnv, ToyStepwiseEnv, ToyVectorEnv


def recorded_search(agent, budget, seed=0, options=None, width=None):
    """Run an agent on the toy problem under the real recorder; returns its records in order."""
    cls = load_agent(agent) if isinstance(agent, str) else agent
    chosen = options_from_mapping(cls, options)
    records: list[dict] = []
    if getattr(cls, "stepwise", False):
        env = Recorder(ToyStepwiseEnv(), budget, records.append)
    elif cls.vectorized:
        width = width or min(designs_per_step(cls, chosen), budget)
        env = VectorRecorder(ToyVectorEnv(width, cls.encoding), budget, records.append)
    else:
        env = Recorder(ToyEnv(cls.encoding), budget, records.append)
    with contextlib.suppress(BudgetExhausted):
        cls(env, seed=seed, options=chosen).search()
    return records
