"""What vector operations cost: one table that every importer and the YAML form share.

The unit is the scalar operation on one element: an add, multiply, compare, select, divide, or one
look-up of an elementary function (exp, log, erf, tanh, sqrt, rsqrt, pow). This is the counting of
operator-level FLOP counters with elementary functions taken as one, as a vector unit with a
special-function path executes them. Data movement costs no operation (its bytes are the tensors
read and written), and a view costs nothing at all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

from archsim.errors import InputError


@dataclass(frozen=True)
class VectorCost:
    """Scalar operations of one kind of vector operation.

    Attributes:
        per_output: Operations for each element of the first output.
        per_input: Operations for each element of the first input.
        per_window: Operations for each output element and each element of its window.
        per_operand: Operations for each output element and each operand after the first.
        fusable: True if it can be applied to the first input, element by element, as it is made.
        view: True if nothing moves and nothing is computed.
    """

    per_output: int = 0
    per_input: int = 0
    per_window: int = 0
    per_operand: int = 0
    fusable: bool = False
    view: bool = False


def _each(operations: int, *names: str) -> dict[str, VectorCost]:
    cost = VectorCost(per_output=operations, fusable=True)
    return dict.fromkeys(names, cost)


_MOVE = VectorCost()
_VIEW = VectorCost(view=True)

#: Kinds whose operands may change places.
COMMUTATIVE = frozenset({"add", "mul", "min", "max", "mean", "and", "or", "xor"})

#: Cost by kind. The comment of a line spells the operations that are counted.
VECTOR_KINDS: dict[str, VectorCost] = {
    # --- one elementary operation an element
    **_each(1, "relu", "neg", "abs", "sign", "floor", "ceil", "round", "reciprocal", "cast"),
    **_each(1, "exp", "log", "sqrt", "rsqrt", "erf", "tanh", "sin", "cos", "tan", "atan", "not"),
    **_each(1, "isnan", "isinf", "square", "sinh", "cosh", "asin", "acos", "bernoulli"),
    # --- a few
    **_each(2, "clip", "leaky_relu", "prelu", "thresholded_relu", "softsign", "log1p", "expm1"),
    **_each(2, "shrink"),
    **_each(2, "batch_norm"),  # inference: folded to one multiply and one add
    **_each(3, "elu", "celu", "softplus"),  # exp, subtract/add, select/log
    **_each(4, "sigmoid", "selu", "hard_sigmoid"),  # negate, exp, add, divide / mul, add, clip 2
    **_each(5, "silu", "hard_swish", "gelu"),  # sigmoid and multiply; scale, erf, add, mul, mul
    **_each(5, "mish", "quick_gelu"),  # exp, add, log, tanh, mul
    **_each(8, "gelu_tanh"),  # cube 2, scale, add, scale, tanh, add, multiply
    **_each(5, "quantize"),  # scale, round, add zero point, clip 2
    **_each(2, "dequantize"),  # subtract zero point, scale
    **_each(6, "rotary_embedding"),  # two multiplies and an add for each of two halves, by pair
    # --- several operands
    **dict.fromkeys(
        [
            "add",
            "sub",
            "mul",
            "div",
            "pow",
            "mod",
            "min",
            "max",
            "and",
            "or",
            "xor",
            "compare",
            "bias_add",
            "bit_shift",
            "atan2",
        ],
        VectorCost(per_operand=1, fusable=True),
    ),
    "mean": VectorCost(per_output=1, per_operand=1, fusable=True),  # adds and one divide
    "where": VectorCost(per_output=1, fusable=True),
    # --- need a whole row, channel or window before the first result is known
    **dict.fromkeys(("layer_norm", "group_norm", "instance_norm"), VectorCost(per_output=7)),
    "rms_norm": VectorCost(per_output=4),  # square, accumulate, scale, gain
    "lp_norm": VectorCost(per_output=3),  # square, accumulate, divide
    "mean_variance_norm": VectorCost(per_output=5),
    "lrn": VectorCost(per_output=4, per_window=1),  # square, windowed adds, scale-add, pow, divide
    **dict.fromkeys(("softmax", "log_softmax"), VectorCost(per_output=5)),  # max, -, exp, sum, /
    "softmax_masked": VectorCost(per_output=6),  # the mask is added first
    "hardmax": VectorCost(per_output=2),
    "glu": VectorCost(per_output=5),  # sigmoid of one half times the other
    **dict.fromkeys(("swiglu", "geglu"), VectorCost(per_output=6)),  # silu or gelu, times the other
    "geglu_tanh": VectorCost(per_output=9),
    "reglu": VectorCost(per_output=2),
    "max_pool": VectorCost(per_window=1),
    "avg_pool": VectorCost(per_window=1, per_output=1),
    "lp_pool": VectorCost(per_window=2, per_output=1),
    "max_unpool": _MOVE,
    "roi_align": VectorCost(per_window=8),  # bilinear sample (7) and one add or compare
    "grid_sample": VectorCost(per_output=7),
    **dict.fromkeys(
        ("reduce_sum", "reduce_max", "reduce_min", "reduce_prod", "reduce_l1", "reduce_any"),
        VectorCost(per_input=1),
    ),
    **dict.fromkeys(("reduce_mean", "global_avg_pool"), VectorCost(per_input=1, per_output=1)),
    "global_max_pool": VectorCost(per_input=1),
    "reduce_var": VectorCost(per_input=4, per_output=1),  # sum, subtract, square, accumulate
    "reduce_l2": VectorCost(per_input=2, per_output=1),  # square, accumulate; sqrt
    "reduce_sum_square": VectorCost(per_input=2),
    "reduce_log_sum": VectorCost(per_input=1, per_output=1),
    "reduce_log_sum_exp": VectorCost(per_input=4, per_output=2),
    **dict.fromkeys(("argmax", "argmin", "cumsum", "cumprod"), VectorCost(per_input=1)),
    "topk": VectorCost(per_input=2),  # compare and exchange of a streaming selection, a lower bound
    "sort": VectorCost(per_input=2),
    "nonzero": VectorCost(per_input=1),
    # --- resampling: 2^n products and 2^n - 1 adds for n interpolated axes (window = 2^n, 4^n)
    "resize_nearest": _MOVE,
    "resize_linear": VectorCost(per_window=2),
    "resize_cubic": VectorCost(per_window=2),
    # --- data movement
    **dict.fromkeys(
        [
            "concat",
            "split",
            "slice",
            "pad",
            "transpose",
            "gather",
            "scatter",
            "expand",
            "tile",
            "depth_to_space",
            "space_to_depth",
            "roll",
            "flip",
            "one_hot",
            "fill",
            "trilu",
            "unfold",
            "copy",
            "reverse_sequence",
            "eye_like",
        ],
        _MOVE,
    ),
    # --- views
    **dict.fromkeys(("reshape", "flatten", "squeeze", "unsqueeze", "identity", "dropout"), _VIEW),
}


def vector_ops(
    kind: str,
    inputs: Sequence[Sequence[int]],
    output: Sequence[int],
    window: int | None = None,
) -> int:
    """Scalar operations of one vector operation.

    Args:
        kind: A key of ``VECTOR_KINDS``.
        inputs: Shapes of the operands; the first is the data.
        output: Shape of the first output.
        window: Elements read for one output element (pools: kernel area), where that matters.

    Returns:
        The count of scalar operations (see the module's text for the unit).

    Raises:
        InputError: The kind has no cost, or needs a window and none is given.

    Example:
        >>> vector_ops("max_pool", [(1, 64, 112, 112)], (1, 64, 56, 56), window=9)
        1806336
    """
    cost = VECTOR_KINDS.get(kind)
    if cost is None:
        raise InputError("no cost is known for this kind of operation", field=kind)
    if cost.per_window and window is None:
        raise InputError("this kind of operation needs its window", field=kind)
    elements = prod(output)
    each = cost.per_output + cost.per_window * (window or 0)
    each += cost.per_operand * max(1, len(inputs) - 1)  # alone: the other one is a number
    return elements * each + (cost.per_input * prod(inputs[0]) if inputs else 0)


def window_of(kind: str, inputs: Sequence[Sequence[int]], output: Sequence[int], ops: int) -> int:
    """The window that explains a count of operations, 0 if none does.

    The inverse of ``vector_ops`` for pools and the like: a file then says ``window: 9`` instead of
    a number of operations.
    """
    cost = VECTOR_KINDS.get(kind)
    if cost is None or not cost.per_window:
        return 0
    rest = ops - vector_ops(kind, inputs, output, 0)
    window, odd = divmod(rest, prod(output) * cost.per_window)
    return window if window > 0 and not odd else 0


def is_fusable(
    kind: str, inputs: Sequence[Sequence[int]], output: Sequence[int], made: Sequence[int]
) -> bool:
    """True if an operation can be applied to its first input, element by element, as it is made.

    That needs a first input of the output's own shape, and every other operand made before it (a
    gate computed from the whole of the first input is not).

    Args:
        kind: A key of ``VECTOR_KINDS`` (any other is not fusable).
        inputs: Shapes of the operands.
        output: Shape of the output.
        made: Position in the graph of the operation that makes each operand; -1 for what is there
            before.
    """
    cost = VECTOR_KINDS.get(kind)
    if not cost or not cost.fusable or not inputs or tuple(inputs[0]) != tuple(output):
        return False
    return all(position <= made[0] for position in made)


# --------------------------------------------------------------------------------------- shapes


def broadcast(*shapes: Sequence[int]) -> tuple[int, ...]:
    """Multidirectional broadcasting, as NumPy, ONNX and PyTorch define it.

    Raises:
        InputError: The shapes do not fit together.

    Example:
        >>> broadcast((8, 1, 6), (7, 1))
        (8, 7, 6)
    """
    rank = max((len(shape) for shape in shapes), default=0)
    result = [1] * rank
    for shape in shapes:
        for axis, extent in enumerate(shape, start=rank - len(shape)):
            if extent != 1 and result[axis] not in (1, extent):
                raise InputError("shapes do not broadcast", found=[tuple(s) for s in shapes])
            if extent != 1:
                result[axis] = extent
    return tuple(result)


def window_positions(
    size: int,
    kernel: int,
    stride: int = 1,
    dilation: int = 1,
    padding: tuple[int, int] = (0, 0),
    ceil_mode: bool = False,
) -> int:
    """Positions of a sliding window along one axis (convolution, pooling).

    With ``ceil_mode`` a last, partial window counts if it starts inside the input or the leading
    padding, as in PyTorch and ONNX.

    Raises:
        InputError: The window does not fit once.
    """
    reach = size + sum(padding) - dilation * (kernel - 1) - 1
    if reach < 0 or stride < 1:
        raise InputError(
            "the window does not fit the input",
            found={"size": size, "kernel": kernel, "stride": stride, "padding": padding},
        )
    positions = (-(-reach // stride) if ceil_mode else reach // stride) + 1
    if ceil_mode and (positions - 1) * stride >= size + padding[0]:
        positions -= 1
    return positions


def same_padding(
    size: int, kernel: int, stride: int, dilation: int, upper: bool
) -> tuple[int, int]:
    """Padding that makes ``ceil(size / stride)`` positions (``SAME_UPPER`` / ``SAME_LOWER``)."""
    positions = -(-size // stride)
    total = max(0, (positions - 1) * stride + dilation * (kernel - 1) + 1 - size)
    small = total // 2
    return (small, total - small) if upper else (total - small, small)


def matmul_shape(first: Sequence[int], second: Sequence[int]) -> tuple[int, ...]:
    """Shape of a NumPy-style matmul.

    Raises:
        InputError: The inner extents differ, or the batch axes do not broadcast.
    """
    a = (1, *first) if len(first) == 1 else tuple(first)
    b = (*second, 1) if len(second) == 1 else tuple(second)
    if len(a) < 2 or len(b) < 2 or a[-1] != b[-2]:
        raise InputError("matmul operands do not fit", found=[tuple(first), tuple(second)])
    shape = [*broadcast(a[:-2], b[:-2]), a[-2], b[-1]]
    if len(second) == 1:
        del shape[-1]
    if len(first) == 1:
        del shape[-1 if len(second) == 1 else -2]
    return tuple(shape)


def einsum_sizes(
    equation: str, first: Sequence[int], second: Sequence[int]
) -> tuple[dict[str, int], tuple[int, ...]]:
    """Reduce an einsum of two operands to matrix products.

    Args:
        equation: E.g. ``bhqd,bhkd->bhqk``; each label once a term, no ellipsis.
        first: Shape of the first operand.
        second: Shape of the second operand.

    Returns:
        ``groups``, ``rows``, ``inner`` and ``columns`` of the products, and the output's shape.

    Raises:
        InputError: Another form, or the shapes do not fit it.

    Example:
        >>> einsum_sizes("bhqd,bhkd->bhqk", (2, 3, 4, 5), (2, 3, 6, 5))
        ({'groups': 6, 'rows': 4, 'inner': 5, 'columns': 6}, (2, 3, 4, 6))
    """
    left, arrow, right = equation.replace(" ", "").partition("->")
    terms = left.split(",")
    once = all(len(set(term)) == len(term) for term in (*terms, right))
    if not arrow or not once or len(terms) != 2 or not "".join((*terms, right)).isalpha():
        raise InputError("only einsums that are products of two operands", found=equation)
    extents: dict[str, int] = {}
    for term, shape in zip(terms, (first, second), strict=True):
        if len(term) != len(shape):
            raise InputError("labels and ranks differ", found=[equation, tuple(shape)])
        for label, extent in zip(term, shape, strict=True):
            if extents.setdefault(label, extent) != extent:
                raise InputError("extents of a label differ", found=label)
    one, two, out = set(terms[0]), set(terms[1]), set(right)
    if (one ^ two) - out or out - (one | two):
        raise InputError("a label of one operand alone is summed", found=equation)
    sets = {
        "groups": one & two & out,
        "rows": one - two,
        "inner": (one & two) - out,
        "columns": two - one,
    }
    sizes = {key: prod(extents[label] for label in labels) for key, labels in sets.items()}
    return sizes, tuple(extents[label] for label in right)


def reduced_shape(shape: Sequence[int], axes: Sequence[int], keep: bool) -> tuple[int, ...]:
    """Shape after reducing ``axes``."""
    gone = {axis % len(shape) if shape else 0 for axis in axes}
    if keep:
        return tuple(1 if i in gone else e for i, e in enumerate(shape))
    return tuple(e for i, e in enumerate(shape) if i not in gone)
