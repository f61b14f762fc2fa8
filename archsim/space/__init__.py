"""What may be chosen: parameters, constraints, and the encodings of a design."""

from archsim.space.actions import ENCODINGS, encoding_of
from archsim.space.design_space import DesignSpace
from archsim.space.expressions import Constraint
from archsim.space.parameter import ROLES, Parameter

__all__ = ["ENCODINGS", "ROLES", "Constraint", "DesignSpace", "Parameter", "encoding_of"]
