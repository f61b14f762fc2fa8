"""Constraint expressions: parsed with ``ast`` against a whitelist, evaluated on whole batches.

All arithmetic is IEEE double precision (so ``9**9**9`` is infinity, not a hang), a comparison with
NaN is false, and therefore a constraint that divides by zero is simply not met. Besides values,
every expression can be bounded over boxes of values (interval arithmetic), which is what prunes
spaces too large to enumerate.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping
from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np

from archsim.errors import InputError
from archsim.space.parameter import FUNCTIONS

MAX_LENGTH = 2000
_BINARY: dict[type, Any] = {
    ast.Add: np.add,
    ast.Sub: np.subtract,
    ast.Mult: np.multiply,
    ast.Div: np.divide,
    ast.FloorDiv: np.floor_divide,
    ast.Mod: np.mod,
    ast.Pow: np.power,
}
_COMPARE: dict[type, Any] = {
    ast.Lt: np.less,
    ast.LtE: np.less_equal,
    ast.Gt: np.greater,
    ast.GtE: np.greater_equal,
    ast.Eq: np.equal,
    ast.NotEq: np.not_equal,
}
#: A box of values a name may take: (low, high) for numbers, a str array where it is decided,
#: ``None`` for an undecided string.
Box = tuple[np.ndarray, np.ndarray] | np.ndarray | None


@dataclass(frozen=True)
class Constraint:
    """A condition on parameter values.

    Attributes:
        text: The expression, e.g. ``rows * cols <= 1024`` or
            ``dataflow != 'row_stationary' or rows >= 3``.
        names: The parameters it reads, sorted.

    Example:
        >>> rule = Constraint.parse("rows * cols <= 64", {"rows": "number", "cols": "number"})
        >>> rule({"rows": np.array([4, 16]), "cols": np.array([16, 16])})
        array([ True, False])
    """

    text: str
    names: tuple[str, ...]
    _tree: ast.expr

    @classmethod
    def parse(cls, text: str, kinds: Mapping[str, str]) -> Constraint:
        """Parse and type-check an expression.

        Args:
            text: Numbers, strings, parameter names, ``+ - * / // % **``, comparisons,
                ``and or not``, ``min max abs``. Strings only compare with ``==`` and ``!=``.
            kinds: Kind (``number``, ``string``, ``boolean``) of every parameter name.

        Raises:
            InputError: Anything else in it, an unknown name, or no yes-or-no result.
        """
        if not isinstance(text, str) or not 0 < len(text) <= MAX_LENGTH:
            raise InputError(
                f"a constraint is an expression of 1 to {MAX_LENGTH} characters",
                field="constraints",
                found=text,
            )
        try:
            tree = ast.parse(text.strip(), mode="eval").body
            kind = _Checker(text, kinds).kind(tree)
        except (SyntaxError, ValueError, MemoryError, RecursionError) as error:
            reason = (
                error.msg if isinstance(error, SyntaxError) else "too deeply nested or malformed"
            )
            raise InputError(
                f"cannot read the expression: {reason}", field="constraints", found=text
            ) from None
        if kind != "boolean":
            raise InputError("a constraint must be a comparison", field="constraints", found=text)
        names = {n.id for n in ast.walk(tree) if isinstance(n, ast.Name) and n.id in kinds}
        if not names:
            raise InputError("a constraint must name a parameter", field="constraints", found=text)
        return cls(text.strip(), tuple(sorted(names)), tree)

    def __call__(self, values: Mapping[str, np.ndarray]) -> np.ndarray:
        """Whether it holds, elementwise over broadcast arrays of values."""
        with np.errstate(all="ignore"):
            return np.asarray(_value(self._tree, values), dtype=bool)

    def possible(self, boxes: Mapping[str, Box]) -> np.ndarray:
        """Whether it can hold somewhere in a box; false only if it certainly cannot (sound)."""
        with np.errstate(all="ignore"):
            return np.asarray(_bounds(self._tree, boxes)[1], dtype=bool)


class _Checker:
    """Refuses everything outside the whitelist and infers the kind of every node."""

    def __init__(self, text: str, kinds: Mapping[str, str]) -> None:
        self.text, self.kinds = text, kinds

    def fail(self, message: str) -> InputError:
        return InputError(message, field="constraints", found=self.text)

    def want(self, node: ast.expr, kind: str) -> None:
        if self.kind(node) != kind:
            raise self.fail(f"{ast.unparse(node)!r} should be a {kind}")

    def kind(self, node: ast.expr) -> str:
        match node:
            case ast.Constant(value=bool()):
                return "boolean"
            case ast.Constant(value=int() | float() as number):
                if not abs(number) < 2.0**1000:
                    raise self.fail("number too large")
                return "number"
            case ast.Constant(value=str()):
                return "string"
            case ast.Name(id=name):
                if name not in self.kinds:
                    raise InputError(
                        f"unknown name {name!r}",
                        field="constraints",
                        found=self.text,
                        expected=f"one of {', '.join(self.kinds)}",
                    )
                return self.kinds[name]
            case ast.BinOp(left=left, op=op, right=right) if type(op) in _BINARY:
                self.want(left, "number")
                self.want(right, "number")
                return "number"
            case ast.UnaryOp(op=ast.USub() | ast.UAdd(), operand=operand):
                self.want(operand, "number")
                return "number"
            case ast.UnaryOp(op=ast.Not(), operand=operand):
                self.want(operand, "boolean")
                return "boolean"
            case ast.BoolOp(values=values):
                for value in values:
                    self.want(value, "boolean")
                return "boolean"
            case ast.Compare():
                return self.comparison(node)
            case ast.Call(func=ast.Name(id=name), args=args, keywords=[]) if name in FUNCTIONS:
                if not args or (name == "abs" and len(args) != 1):
                    raise self.fail(f"wrong number of arguments of {name}")
                for argument in args:
                    self.want(argument, "number")
                return "number"
        raise self.fail(f"{ast.unparse(node)!r} is not allowed in a constraint")

    def comparison(self, node: ast.Compare) -> str:
        kinds = {self.kind(side) for side in (node.left, *node.comparators)}
        if any(type(op) not in _COMPARE for op in node.ops):
            raise self.fail("only < <= > >= == != compare")
        if len(kinds) != 1:
            raise self.fail("a comparison mixes numbers, strings and booleans")
        equality = all(isinstance(op, ast.Eq | ast.NotEq) for op in node.ops)
        if kinds != {"number"} and not equality:
            raise self.fail("strings and booleans only compare with == and !=")
        return "boolean"


def _value(node: ast.expr, values: Mapping[str, np.ndarray]) -> Any:
    match node:
        case ast.Constant(value=constant):
            return constant if isinstance(constant, str | bool) else float(constant)  # type: ignore[arg-type]
        case ast.Name(id=name):
            array = np.asarray(values[name])
            return array if array.dtype.kind in "USb" else array.astype(np.float64)
        case ast.BinOp(left=left, op=op, right=right):
            return _BINARY[type(op)](
                np.float64(_value(left, values)), np.float64(_value(right, values))
            )
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            return np.logical_not(_value(operand, values))
        case ast.UnaryOp(op=op, operand=operand):
            value = _value(operand, values)
            return np.negative(value) if isinstance(op, ast.USub) else value
        case ast.BoolOp(op=op, values=terms):
            join = np.logical_and if isinstance(op, ast.And) else np.logical_or
            return reduce(join, [_value(term, values) for term in terms])
        case ast.Compare(left=left, ops=ops, comparators=comparators):
            sides = [_value(side, values) for side in (left, *comparators)]
            parts = [
                _COMPARE[type(op)](a, b) for op, a, b in zip(ops, sides, sides[1:], strict=False)
            ]
            return reduce(np.logical_and, parts)
        case ast.Call(func=ast.Name(id=name), args=args):
            arguments = [_value(argument, values) for argument in args]
            return (
                np.abs(arguments[0])
                if name == "abs"
                else reduce(np.minimum if name == "min" else np.maximum, arguments)
            )
    raise AssertionError(ast.dump(node))  # unreachable: the checker saw every node


def _bounds(node: ast.expr, boxes: Mapping[str, Box]) -> tuple[Any, Any]:
    """Numbers: (low, high). Booleans: (certainly true, possibly true)."""
    match node:
        case ast.Constant(value=bool(constant)):
            return constant, constant
        case ast.Constant(value=constant):
            return np.float64(constant), np.float64(constant)  # type: ignore[arg-type]
        case ast.Name(id=name):
            box = boxes[name]
            return box if isinstance(box, tuple) else (False, True)
        case ast.BinOp(left=left, op=op, right=right):
            return _bounds_of_operator(op, _bounds(left, boxes), _bounds(right, boxes))
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            must, may = _bounds(operand, boxes)
            return np.logical_not(may), np.logical_not(must)
        case ast.UnaryOp(op=op, operand=operand):
            low, high = _bounds(operand, boxes)
            return (-high, -low) if isinstance(op, ast.USub) else (low, high)
        case ast.BoolOp(op=op, values=terms):
            join = np.logical_and if isinstance(op, ast.And) else np.logical_or
            pairs = [_bounds(term, boxes) for term in terms]
            return reduce(join, [p[0] for p in pairs]), reduce(join, [p[1] for p in pairs])
        case ast.Compare(left=left, ops=ops, comparators=comparators):
            sides = (left, *comparators)
            pairs = [
                _bounds_of_comparison(op, a, b, boxes)
                for op, a, b in zip(ops, sides, sides[1:], strict=False)
            ]
            return (
                reduce(np.logical_and, [p[0] for p in pairs]),
                reduce(np.logical_and, [p[1] for p in pairs]),
            )
        case ast.Call(func=ast.Name(id=name), args=args):
            pairs = [_bounds(argument, boxes) for argument in args]
            if name == "abs":
                (low, high) = pairs[0]
                nearest = np.maximum(np.maximum(low, -high), 0.0)
                return nearest, np.maximum(np.abs(low), np.abs(high))
            pick = np.minimum if name == "min" else np.maximum
            low, high = (reduce(pick, [p[side] for p in pairs]) for side in (0, 1))
            sure = reduce(np.logical_and, [_finite(*p) for p in pairs])  # NaN passes min and max
            return np.where(sure, low, -np.inf), np.where(sure, high, np.inf)
    raise AssertionError(ast.dump(node))


def _bounds_of_operator(op: ast.operator, a: tuple, b: tuple) -> tuple[Any, Any]:
    function = _BINARY[type(op)]
    corners = [function(x, y) for x in a for y in b]
    low, high = reduce(np.minimum, corners), reduce(np.maximum, corners)  # NaN propagates
    # corners bound + - * always, the others only on part of the plane
    trusted = ~np.isnan(low) & _finite(*a, *b)
    exact = (a[0] == a[1]) & (b[0] == b[1])
    if isinstance(op, ast.Div | ast.FloorDiv):
        trusted &= exact | (b[0] > 0) | (b[1] < 0)
    elif isinstance(op, ast.Pow):
        trusted &= exact | (a[0] > 0)
    elif isinstance(op, ast.Mod):
        trusted &= exact
        positive = ~exact & (b[0] > 0) & _finite(*a, *b)
        low = np.where(positive, 0.0, low)
        high = np.where(positive, b[1], high)
        trusted = trusted | positive
    return np.where(trusted, low, -np.inf), np.where(trusted, high, np.inf)


def _bounds_of_comparison(
    op: ast.cmpop, left: ast.expr, right: ast.expr, boxes: Mapping[str, Box]
) -> tuple[Any, Any]:
    strings = [_string(side, boxes) for side in (left, right)]
    if any(found is not _NO_STRING for found in strings):
        if any(found is None or found is _NO_STRING for found in strings):
            return False, True
        holds = _COMPARE[type(op)](*strings)
        return holds, holds
    (low, high), (other_low, other_high) = _bounds(left, boxes), _bounds(right, boxes)
    match op:
        case ast.Lt():
            must, may = high < other_low, low < other_high
        case ast.LtE():
            must, may = high <= other_low, low <= other_high
        case ast.Gt():
            must, may = low > other_high, high > other_low
        case ast.GtE():
            must, may = low >= other_high, high >= other_low
        case _:
            equal = (low == high) & (other_low == other_high) & (low == other_low)
            overlap = (low <= other_high) & (other_low <= high)
            must, may = (
                (equal, overlap)
                if isinstance(op, ast.Eq)
                else (np.logical_not(overlap), np.logical_not(equal))
            )
    # an infinite bound may stand for NaN, with which no comparison but != holds: claim nothing
    finite = _finite(low, high, other_low, other_high)
    return must & finite, may | ~finite


def _finite(*bounds: Any) -> Any:
    return reduce(np.logical_and, [np.isfinite(bound) for bound in bounds])


_NO_STRING = object()


def _string(node: ast.expr, boxes: Mapping[str, Box]) -> Any:
    """The string(s) a node stands for, ``None`` if undecided, ``_NO_STRING`` for other kinds."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.Name) and not isinstance(boxes[node.id], tuple):
        return boxes[node.id]
    return _NO_STRING
