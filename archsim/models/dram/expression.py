"""Arithmetic of timing parameters, as constraint tables and presets write it."""

from __future__ import annotations

import ast
import operator
from collections.abc import Mapping

from archsim.errors import InputError

_OPERATORS = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.FloorDiv: operator.floordiv,
}
_FUNCTIONS = {"max": max, "min": min}
MAX_LENGTH = 200


def evaluate(text: str | int, names: Mapping[str, int], field: str) -> int:
    """Value of an expression over whole numbers and named timing parameters.

    Args:
        text: Names, whole numbers, ``+ - * //``, ``max(...)`` and ``min(...)``.
        names: Values of the names, in cycles.
        field: Where the expression stands, for errors.

    Raises:
        InputError: Anything else, or an unknown name.

    Example:
        >>> evaluate("max(RCD, 3) + 2 * BURST", {"RCD": 10, "BURST": 4}, "example")
        18
    """
    if isinstance(text, int):
        return text
    try:
        tree = ast.parse(text[:MAX_LENGTH], mode="eval").body if len(text) <= MAX_LENGTH else None
        return _value(tree, names)
    except KeyError as error:
        raise InputError("unknown timing parameter", field=field, found=error.args[0]) from None
    except (SyntaxError, ValueError, TypeError, ZeroDivisionError, RecursionError):
        raise InputError(
            "not an expression of timing parameters",
            field=field,
            found=text,
            expected="names, whole numbers, + - * // max min",
        ) from None


def names_in(text: str | int) -> set[str]:
    """Names an expression uses; empty if it cannot be read."""
    try:
        tree = ast.parse(str(text), mode="eval")
    except (SyntaxError, ValueError, RecursionError):
        return set()
    return {n.id for n in ast.walk(tree) if isinstance(n, ast.Name)} - set(_FUNCTIONS)


def _value(node: ast.AST | None, names: Mapping[str, int]) -> int:
    match node:
        case ast.Constant(value=int() as number) if not isinstance(number, bool):
            return number
        case ast.Name(id=name):
            return names[name]
        case ast.UnaryOp(op=ast.USub(), operand=inner):
            return -_value(inner, names)
        case ast.BinOp(op=op, left=left, right=right) if type(op) in _OPERATORS:
            return _OPERATORS[type(op)](_value(left, names), _value(right, names))
        case ast.Call(func=ast.Name(id=name), args=arguments, keywords=[]) if name in _FUNCTIONS:
            return _FUNCTIONS[name](*(_value(argument, names) for argument in arguments))
    raise ValueError
