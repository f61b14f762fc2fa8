"""Language models on machines of many devices: plans, collectives, memory, whole steps.

``evaluate_step`` prices a step of a model on a machine under a plan: the calls of each distinct
layer on one device (``calls``; ``mixed`` where requests differ), what each costs (``pricing`` has
the choice of ``roofline`` for any engine, ``gpu_pricing`` by kernel models, ``dataflow`` for fused
pipelines, ``spatial`` for products mapped as loop nests, ``pim`` for units in the memory),
collectives on the machine's links (``collectives``), tensors in other tiers (``tiers``), stages put
together. On top of steps: ``training``, ``composition`` of experts (``experts`` for many designs),
``serving`` mixes and ``continuous`` batching.
"""

from archsim.system.llm.cost import StepCost
from archsim.system.llm.evaluate import evaluate_step
from archsim.system.llm.mixed import Share
from archsim.system.llm.plan import Plan
from archsim.system.llm.rows import Plans

__all__ = ["Plan", "Plans", "Share", "StepCost", "evaluate_step"]
