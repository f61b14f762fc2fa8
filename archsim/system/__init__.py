"""What a whole graph costs on a whole machine."""

from archsim.system.cost import Cost, LayerCost, Traffic
from archsim.system.evaluate import evaluate
from archsim.system.network import NetworkEvaluator

__all__ = ["Cost", "LayerCost", "NetworkEvaluator", "Traffic", "evaluate"]
