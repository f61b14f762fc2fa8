"""What a whole graph costs on a whole machine."""

from archsim.system.network import NetworkEvaluator

__all__ = ["NetworkEvaluator"]
