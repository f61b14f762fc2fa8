"""Language models on machines of many devices: plans, collectives, memory, whole steps.

``evaluate_step`` prices a step of a model on a machine under a plan: the calls of each distinct
layer on one device (``calls``), what each costs (``pricing``; kernel models for GPUs, a roofline
for any other engine), collectives on the machine's links (``collectives``), stages put together.
"""

from archsim.system.llm.cost import StepCost
from archsim.system.llm.evaluate import evaluate_step
from archsim.system.llm.mixed import Share
from archsim.system.llm.plan import Plan
from archsim.system.llm.rows import Plans

__all__ = ["Plan", "Plans", "Share", "StepCost", "evaluate_step"]
