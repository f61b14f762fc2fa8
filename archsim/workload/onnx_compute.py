"""ONNX operators that compute: products, pools, norms, element-wise and reductions."""

from __future__ import annotations

from math import prod

from archsim.errors import InputError
from archsim.workload.onnx_context import (
    BOOL,
    FLOAT,
    INT64,
    Context,
    Node,
    Registry,
    Value,
    axis_of,
    spatial,
)
from archsim.workload.operators import (
    broadcast,
    einsum_sizes,
    matmul_shape,
    reduced_shape,
    same_padding,
    window_positions,
)

HANDLERS = Registry()

#: Element-wise operators: kind in the cost table. All operands broadcast.
ELEMENTWISE: dict[str, str] = {
    **{"Relu": "relu", "LeakyRelu": "leaky_relu", "Elu": "elu", "Celu": "celu"},
    **{"Selu": "selu", "Sigmoid": "sigmoid", "HardSigmoid": "hard_sigmoid", "Mish": "mish"},
    **{"HardSwish": "hard_swish", "Swish": "silu", "Tanh": "tanh", "Erf": "erf", "Exp": "exp"},
    **{"Softplus": "softplus", "Softsign": "softsign", "ThresholdedRelu": "thresholded_relu"},
    **{"Shrink": "shrink", "Log": "log", "Sqrt": "sqrt", "Reciprocal": "reciprocal"},
    **{"Neg": "neg", "Abs": "abs", "Floor": "floor", "Ceil": "ceil", "Round": "round"},
    **{"Sign": "sign", "Sin": "sin", "Cos": "cos", "Tan": "tan", "Atan": "atan", "Sinh": "sinh"},
    **{"Cosh": "cosh", "Asin": "asin", "Acos": "acos", "Not": "not", "Add": "add", "Sub": "sub"},
    **{"Mul": "mul", "Div": "div", "Pow": "pow", "Mod": "mod", "Min": "min", "Max": "max"},
    **{"Sum": "add", "Mean": "mean", "And": "and", "Or": "or", "Xor": "xor", "Where": "where"},
    **{"BitShift": "bit_shift", "BitwiseAnd": "and", "BitwiseOr": "or", "BitwiseXor": "xor"},
    **{"BitwiseNot": "not"},
}
_COMPARE = ("Equal", "Greater", "Less", "GreaterOrEqual", "LessOrEqual")

#: Reductions: kind in the cost table.
REDUCTIONS: dict[str, str] = {
    **{"ReduceSum": "reduce_sum", "ReduceMean": "reduce_mean", "ReduceMax": "reduce_max"},
    **{"ReduceMin": "reduce_min", "ReduceProd": "reduce_prod", "ReduceL1": "reduce_l1"},
    **{"ReduceL2": "reduce_l2", "ReduceSumSquare": "reduce_sum_square"},
    **{"ReduceLogSum": "reduce_log_sum", "ReduceLogSumExp": "reduce_log_sum_exp"},
}


@HANDLERS.on(*ELEMENTWISE)
def elementwise(context: Context, node: Node) -> None:
    shape = broadcast(*(value.shape for value in node.present))
    kind = ELEMENTWISE[node.op]
    values = node.present
    if node.op == "Where":  # the condition leads in ONNX; the data leads here
        values = [*values[1:], values[0]]
    # A single number is part of the instruction, not an operand that is read.
    values = [v for v in values if v.origin != "constant" or v.elements > 1] or values[:1]
    single = kind in ("add", "mul", "min", "max", "mean") and len(node.present) == 1
    type = values[0].type
    context.vector(node, "identity" if single else kind, shape, values, type=type)


@HANDLERS.on(*_COMPARE)
def compare(context: Context, node: Node) -> None:
    shape = broadcast(*(value.shape for value in node.present))
    context.vector(node, "compare", shape, type=BOOL)


@HANDLERS.on("IsNaN", "IsInf")
def is_special(context: Context, node: Node) -> None:
    context.vector(node, node.op.lower(), node.input(0).shape, type=BOOL)


@HANDLERS.on("Gelu")
def gelu(context: Context, node: Node) -> None:
    kind = "gelu_tanh" if node.text("approximate", "none") == "tanh" else "gelu"
    context.vector(node, kind, node.input(0).shape)


@HANDLERS.on("PRelu")
def prelu(context: Context, node: Node) -> None:
    context.vector(node, "prelu", node.input(0).shape)  # old files give one slope a channel


@HANDLERS.on("Clip")
def clip(context: Context, node: Node) -> None:
    context.vector(node, "clip", node.input(0).shape, node.present[:1])


@HANDLERS.on("Cast", "CastLike")
def cast(context: Context, node: Node) -> None:
    data = node.input(0)
    type = node.input(1).type if node.op == "CastLike" else node.integer("to", data.type)
    context.vector(node, "cast", data.shape, [data], type=type)


@HANDLERS.on("QuantizeLinear", "DequantizeLinear")
def quantize(context: Context, node: Node) -> None:
    zero, data = node.optional(2), node.input(0)
    if node.op == "QuantizeLinear":
        type = zero.type if zero else (node.integer("output_dtype", 0) or 2)
        context.vector(node, "quantize", data.shape, [data, node.input(1)], type=type)
    else:
        type = node.input(1).type
        context.vector(node, "dequantize", data.shape, [data, node.input(1)], type=type)


# ------------------------------------------------------------------------------------ products


def _pads(node: Node, size: list[int], kernel: list[int], stride: list[int], dilation: list[int]):
    """Leading and trailing padding of each axis."""
    auto, rank = node.text("auto_pad", "NOTSET"), len(size)
    if auto in ("SAME_UPPER", "SAME_LOWER"):
        upper = auto == "SAME_UPPER"
        return [
            same_padding(*axis, upper) for axis in zip(size, kernel, stride, dilation, strict=True)
        ]
    if auto == "VALID":
        return [(0, 0)] * rank
    pads = node.integers("pads", [0] * (2 * rank))
    if len(pads) != 2 * rank or any(pad < 0 or pad > 1 << 32 for pad in pads):
        raise InputError(f"attribute 'pads' must have {2 * rank} entries >= 0", found=pads)
    return list(zip(pads[:rank], pads[rank:], strict=True))


def _positive(node: Node, name: str, rank: int) -> list[int]:
    values = spatial(node, name, rank)
    if any(value < 1 for value in values):
        raise InputError(f"attribute {name!r} must be positive", found=values)
    return values


def _conv_of(context: Context, node: Node, data: Value, weight: Value, bias: Value | None) -> None:
    rank = len(weight.shape) - 2
    if rank < 1 or len(data.shape) != rank + 2:
        raise InputError("ranks of input and weight differ", found=[data.shape, weight.shape])
    kernel = list(weight.shape[2:])
    given = node.integers("kernel_shape", kernel)
    if given != kernel:
        raise InputError("kernel_shape and weight differ", found=[given, kernel])
    stride, dilation = _positive(node, "strides", rank), _positive(node, "dilations", rank)
    size = list(data.shape[2:])
    pads = _pads(node, size, kernel, stride, dilation)
    axes = zip(size, kernel, stride, dilation, pads, strict=True)
    positions = [window_positions(*axis) for axis in axes]
    output = context.result(node, (data.shape[0], weight.shape[0], *positions))
    context.emit(
        lambda: context.builder.conv(
            node.name,
            context.read(data),
            _operand(context, weight),
            output,
            stride=stride,
            dilation=dilation,
            groups=node.integer("group", 1),
            bias=None if bias is None else context.read(bias, "weight"),
        )
    )


@HANDLERS.on("Conv")
def conv(context: Context, node: Node) -> None:
    _conv_of(context, node, node.input(0), node.input(1), node.optional(2))


@HANDLERS.on("ConvInteger")
def conv_integer(context: Context, node: Node) -> None:
    _conv_of(context, node, node.input(0), node.input(1), None)


@HANDLERS.on("QLinearConv")
def qlinear_conv(context: Context, node: Node) -> None:
    _conv_of(context, node, node.input(0), node.input(3), node.optional(8))


@HANDLERS.on("ConvTranspose")
def conv_transpose(context: Context, node: Node) -> None:
    data, weight, bias = node.input(0), node.input(1), node.optional(2)
    rank = len(weight.shape) - 2
    if rank < 1 or len(data.shape) != rank + 2:
        raise InputError("ranks of input and weight differ", found=[data.shape, weight.shape])
    kernel, groups = list(weight.shape[2:]), node.integer("group", 1)
    stride, dilation = _positive(node, "strides", rank), _positive(node, "dilations", rank)
    extra = spatial(node, "output_padding", rank, 0)
    auto = node.text("auto_pad", "NOTSET")
    if "output_shape" in node.attributes:
        size = node.integers("output_shape")[-rank:]
    elif auto in ("SAME_UPPER", "SAME_LOWER"):
        size = [e * s for e, s in zip(data.shape[2:], stride, strict=True)]
    else:
        pads = _pads(node, list(data.shape[2:]), kernel, stride, dilation)
        size = [
            (e - 1) * s + d * (k - 1) + 1 + o - sum(p)
            for e, s, d, k, o, p in zip(
                data.shape[2:], stride, dilation, kernel, extra, pads, strict=True
            )
        ]
    output = context.result(node, (data.shape[0], weight.shape[1] * groups, *size))
    context.emit(
        lambda: context.builder.conv_transpose(
            node.name,
            context.read(data),
            _operand(context, weight),
            output,
            stride=stride,
            dilation=dilation,
            groups=groups,
            bias=None if bias is None else context.read(bias, "weight"),
        )
    )


@HANDLERS.on("Gemm")
def gemm(context: Context, node: Node) -> None:
    data, weight, bias = node.input(0), node.input(1), node.optional(2)
    if len(data.shape) != 2 or len(weight.shape) != 2:
        raise InputError("Gemm takes matrices", found=[data.shape, weight.shape])
    rows, inner = data.shape[:: -1 if node.integer("transA", 0) else 1]
    first, columns = weight.shape[:: -1 if node.integer("transB", 0) else 1]
    if inner != first:
        raise InputError("inner extents differ", found=[data.shape, weight.shape])
    output = context.result(node, (rows, columns))
    if bias is not None:
        broadcast((rows, columns), bias.shape)
    context.emit(
        lambda: context.builder.linear(
            node.name,
            context.read(data),
            _operand(context, weight),
            output,
            inner=inner,
            columns=columns,
            bias=None if bias is None else context.read(bias),
        )
    )


def _operand(context: Context, value: Value) -> str:
    """Register an operand of a product; a constant one is a weight."""
    return context.read(value, None if value.origin == "graph" else "weight")


def _matmul_of(context: Context, node: Node, first: Value, second: Value) -> None:
    shapes = (first.shape, second.shape)
    output = context.result(node, matmul_shape(*shapes))
    if not context.dry:
        names = (_operand(context, first), _operand(context, second))
        context.builder.matmul(node.name, *names, output, shapes)


@HANDLERS.on("MatMul", "MatMulInteger")
def matmul(context: Context, node: Node) -> None:
    _matmul_of(context, node, node.input(0), node.input(1))


@HANDLERS.on("QLinearMatMul")
def qlinear_matmul(context: Context, node: Node) -> None:
    _matmul_of(context, node, node.input(0), node.input(3))


@HANDLERS.on("Einsum")
def einsum(context: Context, node: Node) -> None:
    first, second = node.input(0), node.input(1)
    if len(node.present) != 2:
        raise InputError("only einsums that are products of two operands")
    sizes, shape = einsum_sizes(node.text("equation", ""), first.shape, second.shape)
    output = context.result(node, shape)
    if not context.dry:
        names = (_operand(context, first), _operand(context, second))
        context.builder.contract(node.name, *names, output, sizes)


@HANDLERS.on("Attention")
def attention(context: Context, node: Node) -> None:
    query, key, value = (node.input(i) for i in range(3))
    mask = node.optional(3)
    if len(query.shape) == 3:
        heads, kv = node.integer("q_num_heads", 0), node.integer("kv_num_heads", 0)
        if heads < 1 or kv < 1 or query.shape[2] % heads or key.shape[2] % kv:
            raise InputError("the head counts do not fit", found=[heads, kv])
        width = value.shape[2] // kv
        shape: tuple[int, ...] = (*query.shape[:2], heads * width)
        views = [_heads(context, node, v, h) for v, h in ((query, heads), (key, kv), (value, kv))]
    else:
        shape = (*query.shape[:-1], value.shape[-1])
        views = []
    if node.optional(4) is not None or len(node.outputs) > 1:
        raise InputError("Attention with a cache is not supported")
    output = context.result(node, shape)
    if context.dry:
        return
    first, second, third = views or [context.read(v) for v in (query, key, value)]
    context.builder.attention(
        node.name,
        first,
        second,
        third,
        output,
        mask=None if mask is None else context.read(mask),
        bits=query.bits,
    )


def _heads(context: Context, node: Node, value: Value, heads: int) -> str:
    """A view of ``[batch, tokens, heads * width]`` as ``[batch, heads, tokens, width]``."""
    batch, tokens, width = value.shape
    if context.dry:
        return value.name
    name = f"{node.outputs[0]}.{value.name}.heads"
    context.builder.tensor(name, (batch, heads, tokens, width // heads), value.bits)
    context.builder.vector(name, "reshape", [context.read(value)], (name,))
    return name


@HANDLERS.on("RotaryEmbedding")
def rotary(context: Context, node: Node) -> None:
    context.vector(node, "rotary_embedding", node.input(0).shape, node.present[:3])


# --------------------------------------------------------------------------- pools and norms


@HANDLERS.on("MaxPool", "AveragePool", "LpPool")
def pool(context: Context, node: Node) -> None:
    data = node.input(0)
    rank = len(data.shape) - 2
    kernel = node.integers("kernel_shape")
    if rank < 1 or len(kernel) != rank or any(extent < 1 for extent in kernel):
        raise InputError("kernel_shape does not fit the input", found=[kernel, data.shape])
    stride, dilation = _positive(node, "strides", rank), _positive(node, "dilations", rank)
    size = list(data.shape[2:])
    pads = _pads(node, size, kernel, stride, dilation)
    ceil = bool(node.integer("ceil_mode", 0))
    axes = zip(size, kernel, stride, dilation, pads, strict=True)
    positions = [window_positions(*axis, ceil) for axis in axes]
    kind = {"MaxPool": "max_pool", "AveragePool": "avg_pool", "LpPool": "lp_pool"}[node.op]
    shape = (*data.shape[:2], *positions)
    context.vector(node, kind, shape, [data], window=prod(kernel))
    if len(node.outputs) > 1 and node.outputs[1]:
        raise InputError("the indices of a pool are not supported")


@HANDLERS.on("GlobalAveragePool", "GlobalMaxPool")
def global_pool(context: Context, node: Node) -> None:
    data = node.input(0)
    kind = "global_avg_pool" if node.op == "GlobalAveragePool" else "global_max_pool"
    context.vector(node, kind, (*data.shape[:2], *(1,) * (len(data.shape) - 2)))


@HANDLERS.on("BatchNormalization")
def batch_norm(context: Context, node: Node) -> None:
    data = node.input(0)
    output = context.result(node, data.shape)
    if context.dry or not output:
        return
    names = [context.read(data)]
    for index, role in enumerate(("weight", "weight", "constant", "constant"), start=1):
        value = node.input(index)
        if len(data.shape) < 2 or value.shape != data.shape[1:2]:
            raise InputError("statistics and channels differ", found=[value.shape, data.shape])
        names.append(context.read(value, role))  # type: ignore[arg-type]
    context.builder.vector(node.name, "batch_norm", names, (output,))


@HANDLERS.on("LayerNormalization", "RMSNormalization", "GroupNormalization")
@HANDLERS.on("InstanceNormalization", "LpNormalization", "MeanVarianceNormalization")
def norm(context: Context, node: Node) -> None:
    kind = {
        "LayerNormalization": "layer_norm",
        "RMSNormalization": "rms_norm",
        "GroupNormalization": "group_norm",
        "InstanceNormalization": "instance_norm",
        "LpNormalization": "lp_norm",
        "MeanVarianceNormalization": "mean_variance_norm",
    }[node.op]
    data = node.input(0)
    outputs = [context.result(node, data.shape)]
    if len(node.outputs) > 1:  # mean and inverse deviation of each row
        if node.op != "LayerNormalization":
            raise InputError("further outputs of a normalisation are for training only")
        axis = axis_of(node.integer("axis", -1), len(data.shape))
        row = (*data.shape[:axis], *(1,) * (len(data.shape) - axis))
        outputs += [context.result(node, row, i, FLOAT) for i in range(1, len(node.outputs))]
    named = [name for name in outputs if name]
    if not context.dry and outputs[0]:
        read = [context.read(value) for value in node.present]
        context.builder.vector(node.name, kind, read, named)


@HANDLERS.on("LRN")
def lrn(context: Context, node: Node) -> None:
    size = node.integer("size", 1)
    if size < 1:
        raise InputError("size must be positive", found=size)
    context.vector(node, "lrn", node.input(0).shape, window=size)


@HANDLERS.on("Softmax", "LogSoftmax", "Hardmax")
def softmax(context: Context, node: Node) -> None:
    kind = {"Softmax": "softmax", "LogSoftmax": "log_softmax", "Hardmax": "hardmax"}[node.op]
    context.vector(node, kind, node.input(0).shape)


@HANDLERS.on(*REDUCTIONS)
def reduce(context: Context, node: Node) -> None:
    data = node.input(0)
    axes = node.numbers("axes", 1)
    if not axes:
        if node.integer("noop_with_empty_axes", 0):
            context.vector(node, "identity", data.shape, [data])
            return
        axes = list(range(len(data.shape)))
    axes = [axis_of(axis, len(data.shape)) for axis in axes]
    shape = reduced_shape(data.shape, axes, bool(node.integer("keepdims", 1)))
    context.vector(node, REDUCTIONS[node.op], shape, [data])


@HANDLERS.on("ArgMax", "ArgMin")
def arg_reduce(context: Context, node: Node) -> None:
    data = node.input(0)
    axis = axis_of(node.integer("axis", 0), len(data.shape))
    shape = reduced_shape(data.shape, [axis], bool(node.integer("keepdims", 1)))
    context.vector(node, node.op.lower(), shape, type=INT64)


@HANDLERS.on("CumSum")
def cumsum(context: Context, node: Node) -> None:
    context.vector(node, "cumsum", node.input(0).shape, node.present[:1])


@HANDLERS.on("TopK")
def topk(context: Context, node: Node) -> None:
    data = node.input(0)
    count = node.numbers("k", 1) if "k" not in node.attributes else [node.integer("k", 1)]
    axis = axis_of(node.integer("axis", -1), len(data.shape))
    if not count or not 1 <= count[0] <= data.shape[axis]:
        raise InputError("k must lie within the axis", found=count)
    shape = list(data.shape)
    shape[axis] = count[0]
    values = context.result(node, shape)
    indices = context.result(node, shape, 1, INT64)
    outputs = [name for name in (values, indices) if name]
    context.emit(lambda: context.builder.vector(node.name, "topk", [context.read(data)], outputs))
