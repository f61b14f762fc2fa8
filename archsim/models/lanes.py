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
from numba.core.typing.templates import (
    AbstractTemplate,
    ConcreteTemplate,
    infer_global,
    signature,
)
from numba.extending import lower_builtin, models, register_model

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


def product(a: Any) -> float:
    """The lanes multiplied."""
    return float(np.prod(a))


def largest(a: Any) -> float:
    """The largest lane."""
    return float(np.max(a))


def bring(target: np.ndarray, source: np.ndarray, row: int, column: int) -> None:
    """Turn four columns of the rows ``row``.. of ``source`` [N, C] into lanes.

    ``target[column + i]`` gets ``source[row : row + LANES, column + i]``, for i in 0..3.
    """
    target[column : column + 4] = source[row : row + LANES, column : column + 4].T


def _holds(builder, condition):
    return builder.icmp_signed("<", condition, ir.Constant(_BITS, [0] * LANES))


def _pointer(context, builder, array_type, array, place_type, place):
    """Address of the lanes at a place of a C-ordered array whose last axis is LANES long."""
    shaped = context.make_array(array_type)(context, builder, array)
    places, kinds = [place], [place_type]
    if isinstance(place_type, types.BaseTuple):
        places, kinds = cgutils.unpack_tuple(builder, place), list(place_type)
    lengths = cgutils.unpack_tuple(builder, shaped.shape, array_type.ndim)
    flat = context.get_constant(types.intp, 0)
    for value, kind, length in zip(places, kinds, lengths, strict=False):
        index = context.cast(builder, value, kind, types.intp)
        flat = builder.add(builder.mul(flat, length), index)
    flat = builder.mul(flat, context.get_constant(types.intp, LANES))
    return builder.bitcast(builder.gep(shaped.data, [flat]), _VECTOR.as_pointer())


def _numbers(*kinds: types.Type) -> list[types.Type]:
    """Lanes as they are, numbers as floats."""
    return [kind if kind == lanes else types.float64 for kind in kinds]


def _compiled(function: Callable, typed: Callable) -> Callable:
    """Decorator: compiled calls of ``function`` become the code the decorated function emits.

    Args:
        typed: Gives the signature of a call from the types of its arguments.
    """

    class Template(AbstractTemplate):
        def generic(self, args, kws):
            return typed(*args)

    infer_global(function)(Template)

    def decorate(emit: Callable) -> Callable:
        arguments = [types.Any] * (emit.__code__.co_argcount - 3)
        lower_builtin(function, *arguments)(
            lambda context, builder, sig, args: emit(context, builder, sig, *args)
        )
        return emit

    return decorate


@_compiled(load, lambda array, place: lanes(array, place))
def _emit_load(context, builder, sig, array, place):
    return builder.load(_pointer(context, builder, sig.args[0], array, sig.args[1], place), align=8)


@_compiled(store, lambda array, place, value: types.void(array, place, *_numbers(value)))
def _emit_store(context, builder, sig, array, place, value):
    at = _pointer(context, builder, sig.args[0], array, sig.args[1], place)
    builder.store(_spread(builder, value), at, align=8)
    return context.get_dummy_value()


@_compiled(where, lambda condition, yes, no: lanes(condition, *_numbers(yes, no)))
def _emit_where(context, builder, sig, condition, yes, no):
    holds = _holds(builder, condition)
    return builder.select(holds, _spread(builder, yes), _spread(builder, no))


@_compiled(smaller, lambda a, b: lanes(*_numbers(a, b)))
def _emit_smaller(context, builder, sig, a, b):
    a, b = _spread(builder, a), _spread(builder, b)
    return builder.select(builder.fcmp_ordered("<", a, b), a, b)


@_compiled(larger, lambda a, b: lanes(*_numbers(a, b)))
def _emit_larger(context, builder, sig, a, b):
    a, b = _spread(builder, a), _spread(builder, b)
    return builder.select(builder.fcmp_ordered(">", a, b), a, b)


@_compiled(round_up, lambda a: lanes(lanes))
def _emit_round_up(context, builder, sig, a):
    kind = ir.FunctionType(_VECTOR, [_VECTOR])
    ceil = cgutils.get_or_insert_function(builder.module, kind, f"llvm.ceil.v{LANES}f64")
    return builder.call(ceil, [a])


@_compiled(spread, lambda value: lanes(types.float64))
def _emit_spread(context, builder, sig, value):
    return _spread(builder, value)


@_compiled(anywhere, lambda condition: types.boolean(condition))
def _emit_anywhere(context, builder, sig, condition):
    bits = builder.bitcast(_holds(builder, condition), ir.IntType(LANES))
    return builder.icmp_unsigned("!=", bits, ir.IntType(LANES)(0))


def _fold(builder, a, join):
    """Join the lanes pairwise, halving their number each time."""
    length = LANES
    while length > 1:
        length //= 2
        halves = [_pick(builder, a, a, list(range(at, at + length))) for at in (0, length)]
        a = join(*halves)
    return builder.extract_element(a, ir.IntType(32)(0))


@_compiled(product, lambda a: types.float64(a))
def _emit_product(context, builder, sig, a):
    return _fold(builder, a, builder.fmul)


@_compiled(largest, lambda a: types.float64(a))
def _emit_largest(context, builder, sig, a):
    def join(x, y):
        return builder.select(builder.fcmp_ordered(">", x, y), x, y)

    return _fold(builder, a, join)


def _pick(builder, a, b, places: list[int]):
    chosen = ir.Constant(ir.VectorType(ir.IntType(32), len(places)), places)
    return builder.shuffle_vector(a, b, chosen)


@_compiled(
    bring,
    lambda target, source, row, column: types.void(target, source, types.intp, types.intp),
)
def _emit_bring(context, builder, sig, target, source, row, column):
    four = ir.VectorType(ir.DoubleType(), 4).as_pointer()

    def place(which, array, first, second):
        shaped = context.make_array(sig.args[which])(context, builder, array)
        return cgutils.get_item_pointer(
            context, builder, sig.args[which], shaped, [first, second],
            wraparound=False, boundscheck=False,
        )  # fmt: skip

    def four_of(at):
        kind = sig.args[1].dtype
        if kind == types.float64:
            return builder.load(builder.bitcast(place(1, source, at, column), four), align=8)
        values = ir.Constant(four.pointee, ir.Undefined)
        for i in range(4):
            number = builder.load(place(1, source, at, plus(column, i)))
            number = context.cast(builder, number, kind, types.float64)
            values = builder.insert_element(values, number, ir.IntType(32)(i))
        return values

    def plus(value, more):
        return builder.add(value, context.get_constant(types.intp, more))

    rows = [four_of(plus(row, v)) for v in range(LANES)]
    for first in range(0, LANES, 4):
        a, b, c, d = rows[first : first + 4]
        pairs = [
            [_pick(builder, x, y, places) for x, y in ((a, b), (c, d))]
            for places in ([0, 4, 2, 6], [1, 5, 3, 7])
        ]
        for i in range(4):
            low, high = pairs[i % 2]
            value = _pick(builder, low, high, [0, 1, 4, 5] if i < 2 else [2, 3, 6, 7])
            lane = context.get_constant(types.intp, first)
            at = builder.bitcast(place(0, target, plus(column, i), lane), four)
            builder.store(value, at, align=8)
    return context.get_dummy_value()
