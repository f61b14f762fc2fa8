"""What the ATen operators of an exported PyTorch graph are; costs as in ``operators``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import ceil, prod
from typing import Any

from archsim.errors import InputError
from archsim.workload.builder import Builder
from archsim.workload.graph import Role
from archsim.workload.operators import einsum_sizes


@dataclass(frozen=True)
class Value:
    """A tensor of the exported graph.

    Attributes:
        name: The workload tensor that holds it (a view of a weight is held by the weight).
        shape: Its extents.
        bits: Storage bits an element.
        role: ``weight``, ``constant``, ``input`` or ``activation``.
    """

    name: str
    shape: tuple[int, ...]
    bits: float = 32.0
    role: Role = "activation"

    @property
    def held(self) -> bool:
        """True for what is known before the run."""
        return self.role in ("weight", "constant")


@dataclass
class Call:
    """One call of an operator, with its arguments by name.

    Attributes:
        op: Name without namespace and overload, e.g. ``conv2d``.
        name: Name of the operation in the workload.
        arguments: Arguments by the names of the operator's schema; tensors as ``Value``.
        outputs: The tensors written, not yet declared.
        builder: Takes the operation.
    """

    op: str
    name: str
    arguments: dict[str, Any]
    outputs: list[Value]
    builder: Builder

    def tensor(self, name: str) -> Value:
        """A tensor argument."""
        value = self.arguments.get(name)
        if not isinstance(value, Value):
            raise InputError(f"argument {name!r} must be a tensor", found=value)
        return value

    @property
    def tensors(self) -> list[Value]:
        """All tensor arguments, those in lists too."""
        found: list[Value] = []
        for value in self.arguments.values():
            found += [v for v in _flat(value) if isinstance(v, Value)]
        return found

    def read(self, value: Value, role: Role | None = None) -> str:
        """Register a tensor the operation reads."""
        if value.name in self.builder.tensors and role is None:
            return value.name
        return self.builder.tensor(value.name, value.shape, value.bits, role or value.role)

    def write(self) -> str:
        """Declare the outputs; returns the first."""
        for value in self.outputs:
            self.builder.tensor(value.name, value.shape, value.bits)
        return self.outputs[0].name

    def vector(
        self, kind: str, inputs: Sequence[Value] | None = None, window: int | None = None
    ) -> None:
        """The call is one vector operation, data movement or view."""
        read = [self.read(value) for value in (self.tensors if inputs is None else inputs)]
        self.write()
        self.builder.vector(self.name, kind, read, [v.name for v in self.outputs], window)


def _flat(value: Any) -> list[Any]:
    return list(value) if isinstance(value, (list, tuple)) else [value]


def _axes(value: Any, rank: int, otherwise: int = 1) -> list[int]:
    """One number for all axes, or one each; an empty list is the default."""
    values = _flat(value) if value is not None else []
    values = values or [otherwise]
    return values * rank if len(values) == 1 else values


#: Element-wise operators: kind in the cost table.
ELEMENTWISE: dict[str, str] = {
    **{name: name for name in ("relu", "silu", "sigmoid", "tanh", "erf", "mish", "softplus")},
    **{name: name for name in ("elu", "selu", "celu", "leaky_relu", "prelu", "exp", "log")},
    **{name: name for name in ("sqrt", "rsqrt", "reciprocal", "neg", "abs", "floor", "ceil")},
    **{name: name for name in ("round", "sign", "sin", "cos", "tan", "square", "log1p", "expm1")},
    **{name: name for name in ("add", "sub", "mul", "div", "pow", "where", "isnan", "isinf")},
    **{"relu6": "clip", "hardtanh": "clip", "clamp": "clip", "clamp_min": "clip"},
    **{"clamp_max": "clip", "hardswish": "hard_swish", "hardsigmoid": "hard_sigmoid"},
    **{"rsub": "sub", "divide": "div", "true_divide": "div", "floor_divide": "div"},
    **{"multiply": "mul", "maximum": "max", "minimum": "min", "remainder": "mod", "fmod": "mod"},
    **{"logical_and": "and", "logical_or": "or", "logical_xor": "xor", "logical_not": "not"},
    **{"bitwise_and": "and", "bitwise_or": "or", "bitwise_xor": "xor", "bitwise_not": "not"},
    **{"__and__": "and", "__or__": "or", "masked_fill": "where", "softsign": "softsign"},
    **dict.fromkeys(("eq", "ne", "lt", "le", "gt", "ge"), "compare"),
}

#: Operators that read their first tensor and cost what their kind says.
PLAIN: dict[str, str] = {
    **dict.fromkeys(("softmax", "_softmax", "log_softmax", "_log_softmax"), "softmax"),
    **{"log_softmax": "log_softmax", "_log_softmax": "log_softmax"},
    **{"sum": "reduce_sum", "mean": "reduce_mean", "amax": "reduce_max", "amin": "reduce_min"},
    **{"max": "reduce_max", "min": "reduce_min", "prod": "reduce_prod", "var": "reduce_var"},
    **{"std": "reduce_var", "logsumexp": "reduce_log_sum_exp", "linalg_vector_norm": "reduce_l2"},
    **{"any": "reduce_any", "all": "reduce_any", "argmax": "argmax", "argmin": "argmin"},
    **{"glu": "glu", "cumsum": "cumsum", "topk": "topk", "sort": "sort"},
    **{"slice": "slice", "select": "slice", "narrow": "slice", "split": "split", "chunk": "split"},
    **{"split_with_sizes": "split", "unbind": "split", "unsafe_split": "split"},
    **{"tensor_split": "split", "pad": "pad", "constant_pad_nd": "pad", "t": "transpose"},
    **{"transpose": "transpose", "permute": "transpose", "movedim": "transpose", "T": "transpose"},
    **{"swapaxes": "transpose", "mT": "transpose", "numpy_T": "transpose"},
    **{"expand": "expand", "expand_as": "expand", "repeat": "tile", "tile": "tile"},
    **{"repeat_interleave": "tile", "roll": "roll", "flip": "flip", "tril": "trilu"},
    **{"triu": "trilu", "pixel_shuffle": "depth_to_space", "pixel_unshuffle": "space_to_depth"},
    **{"upsample_nearest1d": "resize_nearest", "upsample_nearest2d": "resize_nearest"},
    **{"upsample_nearest3d": "resize_nearest", "im2col": "unfold", "unfold": "unfold"},
    **{"channel_shuffle": "transpose", "native_channel_shuffle": "transpose"},
}

#: Operators that read several tensors and move them.
MOVES: dict[str, str] = {
    **dict.fromkeys(("cat", "concat", "concatenate", "stack", "hstack", "vstack"), "concat"),
    **{"index": "gather", "gather": "gather", "index_select": "gather", "scatter": "scatter"},
    **{"index_put": "scatter", "slice_scatter": "scatter", "select_scatter": "scatter"},
    "copy": "copy",
}

#: Views. ``contiguous`` and ``clone`` realise a layout whose change was charged where it was made.
VIEWS: dict[str, str] = {
    **dict.fromkeys(("view", "reshape", "_unsafe_view", "unflatten", "view_as"), "reshape"),
    **{"flatten": "flatten", "squeeze": "squeeze", "unsqueeze": "unsqueeze"},
    **dict.fromkeys(("dropout", "feature_dropout", "alpha_dropout", "dropout2d"), "dropout"),
    **dict.fromkeys(("identity", "alias", "detach", "contiguous", "clone"), "identity"),
    **dict.fromkeys(("lift_fresh_copy", "lift_fresh", "_conj", "resolve_conj"), "identity"),
}

#: Views and moves that leave a constant the constant it was.
TRANSPARENT = frozenset(VIEWS) | {"t", "transpose", "permute", "T", "mT", "numpy_T", "swapaxes"}
TRANSPARENT |= {"to", "_to_copy", "type_as", "float"}

#: What these make does not depend on the data of the tensor they look at.
FILLS = frozenset({"zeros_like", "ones_like", "full_like", "empty_like"})
FILLS |= {"new_zeros", "new_ones", "new_full", "new_empty"}

HANDLERS: dict[str, Callable[[Call], None]] = {}


def _on(*names: str) -> Callable[[Callable[[Call], None]], Callable[[Call], None]]:
    def take(handler: Callable[[Call], None]) -> Callable[[Call], None]:
        HANDLERS.update(dict.fromkeys(names, handler))
        return handler

    return take


@_on(*ELEMENTWISE)
def elementwise(call: Call) -> None:
    tensors = call.tensors
    if call.op == "where":  # the condition leads in PyTorch; the data leads here
        tensors = [*tensors[1:], tensors[0]]
    if call.op in ("clamp", "clamp_min", "clamp_max"):
        tensors = tensors[:1]
    large = [v for v in tensors if v.role != "constant" or prod(v.shape) > 1]
    call.vector(ELEMENTWISE[call.op], large or tensors[:1])


@_on(*PLAIN)
def plain(call: Call) -> None:
    kind, data = PLAIN[call.op], call.tensors[0]
    if call.op in ("max", "min") and len(call.tensors) > 1:
        call.vector(call.op, call.tensors)
        return
    target = call.outputs[0].shape
    same = kind in ("slice", "expand", "pad", "tile") and prod(data.shape) == prod(target)
    if kind == "transpose" and 1 in data.shape:
        same = _ones_moved(call, data.shape)
    call.vector("reshape" if same else kind, [data])


def _ones_moved(call: Call, shape: Sequence[int]) -> bool:
    """True if a permutation only moves axes of one element: a view."""
    rank = len(shape)
    order = list(range(rank))
    if "dims" in call.arguments and call.op == "permute":
        order = [axis % rank for axis in call.arguments["dims"]]
    elif call.op in ("transpose", "swapaxes"):
        a, b = (v % rank for v in call.arguments.values() if isinstance(v, int))
        order[a], order[b] = order[b], order[a]
    else:
        order.reverse()
    moved = [axis for axis in order if shape[axis] != 1]
    return moved == sorted(moved)


@_on(*MOVES)
def moves(call: Call) -> None:
    call.vector(MOVES[call.op])


@_on(*VIEWS)
def views(call: Call) -> None:
    call.vector(VIEWS[call.op], call.tensors[:1])


@_on("to", "_to_copy", "type_as", "float")
def convert(call: Call) -> None:
    data = call.tensors[0]
    call.vector("identity" if data.bits == call.outputs[0].bits else "cast", [data])


@_on("gelu")
def gelu(call: Call) -> None:
    tanh = call.arguments.get("approximate") == "tanh"
    call.vector("gelu_tanh" if tanh else "gelu")


@_on("embedding")
def embedding(call: Call) -> None:
    call.vector("gather", [call.tensor("weight"), call.tensor("indices")])


@_on("batch_norm", "_native_batch_norm_legit_no_training", "layer_norm", "group_norm")
@_on("instance_norm", "rms_norm", "native_layer_norm", "native_group_norm")
def norm(call: Call) -> None:
    kind = call.op.removeprefix("native_")
    if kind == "_native_batch_norm_legit_no_training":
        kind = "batch_norm"
    call.outputs = call.outputs[:1]  # statistics are for training only
    call.vector(kind)


# ------------------------------------------------------------------------------------ products


def _weight(call: Call, value: Value) -> str:
    return call.read(value, "weight" if value.held else None)


@_on("conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d")
@_on("convolution")
def conv(call: Call) -> None:
    weight = call.tensor("weight")
    rank = len(weight.shape) - 2
    bias = call.arguments.get("bias")
    backward = call.op.startswith("conv_transpose") or bool(call.arguments.get("transposed"))
    method = call.builder.conv_transpose if backward else call.builder.conv
    data = call.read(call.tensor("input"))
    if len(call.tensor("input").shape) != rank + 2:
        raise InputError("convolutions without a batch axis are not supported")
    method(
        call.name,
        data,
        _weight(call, weight),
        call.write(),
        stride=_axes(call.arguments.get("stride"), rank),
        dilation=_axes(call.arguments.get("dilation"), rank),
        groups=call.arguments.get("groups", 1),
        bias=_weight(call, bias) if isinstance(bias, Value) else None,
    )


@_on("linear")
def linear(call: Call) -> None:
    weight, bias = call.tensor("weight"), call.arguments.get("bias")
    call.builder.linear(
        call.name,
        call.read(call.tensor("input")),
        _weight(call, weight),
        call.write(),
        inner=weight.shape[-1],
        columns=weight.shape[0],
        bias=_weight(call, bias) if isinstance(bias, Value) else None,
    )


@_on("matmul", "mm", "bmm")
def matmul(call: Call) -> None:
    first, second = call.tensors[:2]
    names = (_weight(call, first), _weight(call, second))
    call.builder.matmul(call.name, *names, call.write(), (first.shape, second.shape))


@_on("addmm")
def addmm(call: Call) -> None:
    bias, first, second = call.tensors[:3]
    data, weight = call.read(first), _weight(call, second)
    call.builder.linear(
        call.name,
        data,
        weight,
        call.write(),
        inner=second.shape[0],
        columns=second.shape[1],
        bias=_weight(call, bias),
    )


@_on("einsum")
def einsum(call: Call) -> None:
    if len(call.tensors) != 2:
        raise InputError("only einsums that are products of two operands")
    first, second = call.tensors
    equation = str(call.arguments.get("equation"))
    sizes, _ = einsum_sizes(equation, first.shape, second.shape)
    names = (_weight(call, first), _weight(call, second))
    call.builder.contract(call.name, *names, call.write(), sizes)


@_on("scaled_dot_product_attention")
def attention(call: Call) -> None:
    query, key, value = (call.tensor(name) for name in ("query", "key", "value"))
    mask = call.arguments.get("attn_mask")
    call.builder.attention(
        call.name,
        call.read(query),
        call.read(key),
        call.read(value),
        call.write(),
        mask=call.read(mask) if isinstance(mask, Value) else None,
        causal=bool(call.arguments.get("is_causal")),
        bits=query.bits,
    )


# --------------------------------------------------------------------------- pools and resizing


@_on("max_pool1d", "max_pool2d", "max_pool3d", "max_pool2d_with_indices")
@_on("avg_pool1d", "avg_pool2d", "avg_pool3d")
def pool(call: Call) -> None:
    data = call.tensors[0]
    call.outputs = call.outputs[:1]
    rank = int(call.op.split("pool")[1][0])
    kernel = _axes(call.arguments.get("kernel_size"), rank)
    call.vector("max_pool" if call.op[0] == "m" else "avg_pool", [data], window=prod(kernel))


@_on("adaptive_avg_pool1d", "adaptive_avg_pool2d", "adaptive_avg_pool3d")
@_on("adaptive_max_pool1d", "adaptive_max_pool2d", "adaptive_max_pool3d")
def adaptive_pool(call: Call) -> None:
    data = call.tensors[0]
    call.outputs = call.outputs[:1]
    rank = int(call.op[-2])
    sizes, targets = data.shape[-rank:], call.outputs[0].shape[-rank:]
    kind = "avg" if "avg" in call.op else "max"
    if prod(targets) == 1:
        call.vector(f"global_{kind}_pool", [data])
    elif sizes == targets:
        call.vector("identity", [data])
    else:
        window = prod(ceil(s / t) for s, t in zip(sizes, targets, strict=True))
        call.vector(f"{kind}_pool", [data], window=window)


@_on("upsample_linear1d", "upsample_bilinear2d", "upsample_trilinear3d", "upsample_bicubic2d")
def upsample(call: Call) -> None:
    data = call.tensors[0]
    changed = sum(a != b for a, b in zip(data.shape, call.outputs[0].shape, strict=True))
    if "cubic" in call.op:
        call.vector("resize_cubic", [data], window=4**changed)
    else:
        call.vector("resize_linear", [data], window=2**changed)
