"""Several rows at once: a value of ``LANES`` floats that compiles to one SIMD register or two.

Numba leaves vectorisation to LLVM, which gives up where arrays might overlap or a loop is short.
Here a value *is* a vector: ``load`` brings ``LANES`` neighbouring float64 from an array whose last
axis has that length, arithmetic works lane by lane, ``where`` selects lane by lane. Without the
compiler (``.py_func``, ``NUMBA_DISABLE_JIT``) the same source works on NumPy arrays of that length.
Write ``a = a * b``, not ``a *= b``: the latter would change a NumPy array that others still hold.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.typing.templates import ConcreteTemplate, infer_global, signature
from numba.extending import (
    intrinsic,
    lower_builtin,
    models,
    overload,
    register_model,
)

#: Rows evaluated together. Four float64 fill an AVX register.
LANES = 8


class _Lanes(types.Type):
    def __init__(self) -> None:
        super().__init__(name=f"lanes{LANES}")


class _Mask(types.Type):
    def __init__(self) -> None:
        super().__init__(name=f"mask{LANES}")


lanes, mask = _Lanes(), _Mask()
_VECTOR = ir.VectorType(ir.DoubleType(), LANES)
# All bits of a lane tell whether a condition holds there: how AVX compares and selects. Single bits
# would be packed and unpacked wherever a mask is used far from the comparison.
_BITS = ir.VectorType(ir.IntType(64), LANES)


@register_model(_Lanes)
class _LanesModel(models.PrimitiveModel):
    def __init__(self, manager, kind) -> None:
        super().__init__(manager, kind, _VECTOR)


@register_model(_Mask)
class _MaskModel(models.PrimitiveModel):
    def __init__(self, manager, kind) -> None:
        super().__init__(manager, kind, _BITS)


def _spread(builder, value):
    """A scalar in every lane; a vector as it is."""
    if isinstance(value.type, ir.VectorType):
        return value
    vector = builder.insert_element(ir.Constant(_VECTOR, ir.Undefined), value, ir.IntType(32)(0))
    shuffle = ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES)
    return builder.shuffle_vector(vector, ir.Constant(_VECTOR, ir.Undefined), shuffle)


def _binary(function: Callable, result: types.Type, emit: Callable) -> None:
    """Teach the compiler an operator on lanes and lanes, or lanes and a number."""
    pairs = [(lanes, lanes), (lanes, types.float64), (types.float64, lanes)]

    class Template(ConcreteTemplate):
        cases = tuple(signature(result, *pair) for pair in pairs)

    infer_global(function)(Template)
    for pair in pairs:

        @lower_builtin(function, *pair)
        def lower(context, builder, sig, args):
            return emit(builder, *(_spread(builder, arg) for arg in args))


for _name, _emit in (
    ("add", "fadd"),
    ("sub", "fsub"),
    ("mul", "fmul"),
    ("truediv", "fdiv"),
):
    _binary(
        getattr(operator, _name),
        lanes,
        lambda builder, a, b, emit=_emit: getattr(builder, emit)(a, b),
    )
for _name, _sign in (
    ("gt", ">"),
    ("lt", "<"),
    ("ge", ">="),
    ("le", "<="),
    ("eq", "=="),
    ("ne", "!="),
):
    _binary(
        getattr(operator, _name),
        mask,
        lambda builder, a, b, sign=_sign: builder.sext(builder.fcmp_ordered(sign, a, b), _BITS),
    )


class _Both(ConcreteTemplate):
    cases = (signature(mask, mask, mask),)


for _function, _emit in ((operator.and_, "and_"), (operator.or_, "or_")):
    infer_global(_function)(type("_Both", (_Both,), {}))

    @lower_builtin(_function, mask, mask)
    def _lower_both(context, builder, sig, args, emit=_emit):
        return getattr(builder, emit)(*args)


def load(array: np.ndarray, place: Any) -> np.ndarray:
    """The lanes at ``array[place]``; the last axis of ``array`` has ``LANES`` entries."""
    return array[place].copy()


def store(array: np.ndarray, place: Any, value: Any) -> None:
    """Write lanes (or one number into all of them) to ``array[place]``."""
    array[place] = value


def where(condition: Any, yes: Any, no: Any) -> Any:
    """Lane by lane, ``yes`` where the condition holds, else ``no``."""
    return np.where(condition, yes, no)


def smaller(a: Any, b: Any) -> Any:
    """Lane by lane, the smaller."""
    return np.where(a < b, a, b)


def larger(a: Any, b: Any) -> Any:
    """Lane by lane, the larger."""
    return np.where(a > b, a, b)


def round_up(a: Any) -> Any:
    """Lane by lane, the next whole number."""
    return np.ceil(a)


def spread(value: float) -> np.ndarray:
    """One number in every lane."""
    return np.full(LANES, value)


def anywhere(condition: Any) -> bool:
    """Whether a condition holds in any lane."""
    return bool(np.any(condition))


def bring(target: np.ndarray, source: np.ndarray, row: int, column: int) -> None:
    """Turn four columns of the rows ``row``.. of ``source`` [N, C] into lanes.

    ``target[column + i]`` gets ``source[row : row + LANES, column + i]``, for i in 0..3.
    """
    target[column : column + 4] = source[row : row + LANES, column : column + 4].T


def _holds(builder, condition):
    return builder.icmp_signed("<", condition, ir.Constant(_BITS, [0] * LANES))


def _pointer(context, builder, array_type, array, place_type, place):
    shaped = context.make_array(array_type)(context, builder, array)
    if isinstance(place_type, types.BaseTuple):
        index = [
            context.cast(builder, value, kind, types.intp)
            for value, kind in zip(cgutils.unpack_tuple(builder, place), place_type, strict=True)
        ]
    else:
        index = [context.cast(builder, place, place_type, types.intp)]
    index.append(context.get_constant(types.intp, 0))
    pointer = cgutils.get_item_pointer(
        context, builder, array_type, shaped, index, wraparound=False, boundscheck=False
    )
    return builder.bitcast(pointer, _VECTOR.as_pointer())


@intrinsic
def _load(typing_context, array, place):
    def emit(context, builder, sig, args):
        return builder.load(
            _pointer(context, builder, sig.args[0], args[0], sig.args[1], args[1]), align=8
        )

    return lanes(array, place), emit


@intrinsic
def _store(typing_context, array, place, value):
    def emit(context, builder, sig, args):
        at = _pointer(context, builder, sig.args[0], args[0], sig.args[1], args[1])
        builder.store(_spread(builder, args[2]), at, align=8)
        return context.get_dummy_value()

    given = value if value == lanes else types.float64
    return types.void(array, place, given), emit


@intrinsic
def _where(typing_context, condition, yes, no):
    kinds = [kind if kind == lanes else types.float64 for kind in (yes, no)]

    def emit(context, builder, sig, args):
        holds = _holds(builder, args[0])
        return builder.select(holds, _spread(builder, args[1]), _spread(builder, args[2]))

    return lanes(condition, *kinds), emit


@intrinsic
def _round_up(typing_context, value):
    def emit(context, builder, sig, args):
        kind = ir.FunctionType(_VECTOR, [_VECTOR])
        ceil = cgutils.get_or_insert_function(builder.module, kind, f"llvm.ceil.v{LANES}f64")
        return builder.call(ceil, args)

    return lanes(value), emit


@intrinsic
def _spread_number(typing_context, value):
    def emit(context, builder, sig, args):
        return _spread(builder, args[0])

    return lanes(types.float64), emit


@intrinsic
def _anywhere(typing_context, condition):
    def emit(context, builder, sig, args):
        bits = builder.bitcast(_holds(builder, args[0]), ir.IntType(LANES))
        return builder.icmp_unsigned("!=", bits, ir.IntType(LANES)(0))

    return types.boolean(condition), emit


@intrinsic
def _bring(typing_context, target, source, row, column):
    four = ir.VectorType(ir.DoubleType(), 4)

    def pick(builder, a, b, places):
        chosen = ir.Constant(ir.VectorType(ir.IntType(32), len(places)), places)
        return builder.shuffle_vector(a, b, chosen)

    def emit(context, builder, sig, args):
        def place(kind, array, first, second):
            shaped = context.make_array(kind)(context, builder, array)
            return cgutils.get_item_pointer(
                context, builder, kind, shaped, [first, second], wraparound=False, boundscheck=False
            )  # fmt: skip

        rows = []
        for v in range(LANES):
            at = builder.add(args[2], context.get_constant(types.intp, v))
            pointer = place(sig.args[1], args[1], at, args[3])
            rows.append(builder.load(builder.bitcast(pointer, four.as_pointer()), align=8))
        quads = []
        for first in range(0, LANES, 4):
            a, b, c, d = rows[first : first + 4]
            low, high = (pick(builder, a, b, p) for p in ([0, 4, 2, 6], [1, 5, 3, 7]))
            low_2, high_2 = (pick(builder, c, d, p) for p in ([0, 4, 2, 6], [1, 5, 3, 7]))
            near, far = [0, 1, 4, 5], [2, 3, 6, 7]
            quads.append(
                [
                    pick(builder, low, low_2, near), pick(builder, high, high_2, near),
                    pick(builder, low, low_2, far), pick(builder, high, high_2, far),
                ]
            )  # fmt: skip
        for i in range(4):
            at = builder.add(args[3], context.get_constant(types.intp, i))
            for q, quad in enumerate(quads):
                lane = context.get_constant(types.intp, 4 * q)
                pointer = place(sig.args[0], args[0], at, lane)
                builder.store(quad[i], builder.bitcast(pointer, four.as_pointer()), align=8)
        return context.get_dummy_value()

    return types.void(target, source, types.intp, types.intp), emit


def _compiled(function: Callable, implementation: Callable) -> None:
    """What compiled code runs in place of a function above."""
    overload(function, inline="always")(implementation)


_compiled(load, lambda array, place: lambda array, place: _load(array, place))
_compiled(
    store, lambda array, place, value: lambda array, place, value: _store(array, place, value)
)
_compiled(where, lambda condition, yes, no: lambda condition, yes, no: _where(condition, yes, no))
_compiled(smaller, lambda a, b: lambda a, b: _where(a < b, a, b))
_compiled(larger, lambda a, b: lambda a, b: _where(a > b, a, b))
_compiled(round_up, lambda a: lambda a: _round_up(a))
_compiled(spread, lambda value: lambda value: _spread_number(value))
_compiled(anywhere, lambda condition: lambda condition: _anywhere(condition))
_compiled(
    bring,
    lambda target, source, row, column: (
        lambda target, source, row, column: _bring(target, source, row, column)
    ),
)
