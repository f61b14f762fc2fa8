"""ONNX operators that move data, look at it in another shape, or make constants."""

from __future__ import annotations

from collections.abc import Sequence
from math import floor, prod
from typing import Any

import numpy as np

from archsim.errors import InputError
from archsim.workload.builder import MAX_EXTENT
from archsim.workload.onnx_context import (
    FOLD_ELEMENTS,
    INT64,
    Context,
    Node,
    Registry,
    Value,
    axis_of,
)
from archsim.workload.operators import broadcast

HANDLERS = Registry()

#: Element-for-element views of one input: on a constant they are the constant itself.
VIEWS = frozenset(
    {"Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity", "Dropout", "Transpose", "Cast"}
    | {"DequantizeLinear"}
)


@HANDLERS.on("Identity", "Dropout")
def identity(context: Context, node: Node) -> None:
    data = node.input(0)
    context.vector(node, node.op.lower(), data.shape, [data])
    if len(node.outputs) > 1 and node.outputs[1]:
        # The mask of a dropout is all true at inference; a reader of it reads a constant.
        ones = np.ones(data.shape, bool) if data.elements <= FOLD_ELEMENTS else None
        mask = Value(node.outputs[1], data.shape, 9, "constant", ones)
        context.values[node.outputs[1]] = mask


def reshaped(shape: Sequence[int], target: Sequence[int], allow_zero: bool) -> tuple[int, ...]:
    """Resolve the 0 and -1 of a reshape.

    Raises:
        InputError: The element counts differ.
    """
    result = []
    for axis, extent in enumerate(target):
        if extent == 0 and not allow_zero:
            if axis >= len(shape):
                raise InputError("the target copies an axis that is not there", found=list(target))
            extent = shape[axis]
        result.append(int(extent))
    open_axes = [axis for axis, extent in enumerate(result) if extent == -1]
    if len(open_axes) > 1 or any(extent < -1 for extent in result):
        raise InputError("impossible target shape", found=list(target))
    if open_axes:
        rest = prod(extent for extent in result if extent != -1)
        if rest == 0 or prod(shape) % rest:
            raise InputError("element counts differ", found=[list(shape), list(target)])
        result[open_axes[0]] = prod(shape) // rest
    if prod(result) != prod(shape):
        raise InputError("element counts differ", found=[list(shape), list(target)])
    return tuple(result)


@HANDLERS.on("Reshape")
def reshape(context: Context, node: Node) -> None:
    data = node.input(0)
    target = node.numbers("shape", 1)
    if target is None:
        raise InputError("the target shape is missing")
    if (
        context.fixed_batch is not None
        and target
        and target[0] == context.fixed_batch
        and data.shape[:1] == (context.batch,)
        and data.origin == "graph"
    ):
        # The file spells the batch it was exported for; this graph is built for another.
        target = [context.batch, *target[1:]]
    shape = reshaped(data.shape, target, bool(node.integer("allowzero", 0)))
    context.vector(node, "reshape", shape, [data])


@HANDLERS.on("Flatten")
def flatten(context: Context, node: Node) -> None:
    data, axis = node.input(0), node.integer("axis", 1)
    rank = len(data.shape)
    if not -rank <= axis <= rank:
        raise InputError("no such axis", found=axis)
    axis = axis + rank if axis < 0 else axis
    context.vector(node, "flatten", (prod(data.shape[:axis]), prod(data.shape[axis:])), [data])


@HANDLERS.on("Squeeze")
def squeeze(context: Context, node: Node) -> None:
    data, axes = node.input(0), node.numbers("axes", 1)
    rank = len(data.shape)
    if axes is None:
        gone = {i for i, extent in enumerate(data.shape) if extent == 1}
    else:
        gone = {axis_of(axis, rank) for axis in axes}
    if any(data.shape[axis] != 1 for axis in gone):
        raise InputError("only axes of one element can be squeezed", found=data.shape)
    shape = [extent for i, extent in enumerate(data.shape) if i not in gone]
    context.vector(node, "squeeze", shape, [data])


@HANDLERS.on("Unsqueeze")
def unsqueeze(context: Context, node: Node) -> None:
    data, axes = node.input(0), node.numbers("axes", 1)
    if axes is None:
        raise InputError("the axes are missing")
    rank = len(data.shape) + len(axes)
    places = {axis_of(axis, rank) for axis in axes}
    if len(places) != len(axes):
        raise InputError("an axis is named twice", found=axes)
    rest = iter(data.shape)
    shape = [1 if i in places else next(rest) for i in range(rank)]
    context.vector(node, "unsqueeze", shape, [data])


@HANDLERS.on("Shape")
def shape_of(context: Context, node: Node) -> None:
    data = node.input(0)
    rank = len(data.shape)
    begin, end, _ = slice(node.integer("start", 0), node.attributes.get("end")).indices(rank)
    array = np.asarray(data.shape[begin:end], np.int64)
    context.result(node, array.shape, type=INT64, array=array)


@HANDLERS.on("Size")
def size_of(context: Context, node: Node) -> None:
    context.result(node, (), type=INT64, array=np.asarray(node.input(0).elements, np.int64))


@HANDLERS.on("Transpose")
def transpose(context: Context, node: Node) -> None:
    data = node.input(0)
    rank = len(data.shape)
    order = node.integers("perm", list(range(rank))[::-1])
    if sorted(order) != list(range(rank)):
        raise InputError("perm is no permutation of the axes", found=order)
    shape = [data.shape[axis] for axis in order]
    moved = [axis for axis in order if data.shape[axis] != 1]
    kind = "reshape" if moved == sorted(moved) else "transpose"  # only ones change places: a view
    context.vector(node, kind, shape, [data])


@HANDLERS.on("Concat")
def concat(context: Context, node: Node) -> None:
    shapes = [value.shape for value in node.present]
    axis = axis_of(node.integer("axis", 1), len(shapes[0])) if shapes else 0
    for shape in shapes:
        rest = [s[:axis] + s[axis + 1 :] for s in (shape, shapes[0])]
        if len(shape) != len(shapes[0]) or rest[0] != rest[1]:
            raise InputError("shapes do not join", found=shapes)
    if not shapes:
        raise InputError("nothing to join")
    total = list(shapes[0])
    total[axis] = sum(shape[axis] for shape in shapes)
    context.vector(node, "concat", total)


@HANDLERS.on("Split")
def split(context: Context, node: Node) -> None:
    data = node.input(0)
    axis = axis_of(node.integer("axis", 0), len(data.shape))
    sizes = node.numbers("split", 1)
    if sizes is None:
        count = node.integer("num_outputs", len(node.outputs))
        if count < 1 or count > 100_000:
            raise InputError("impossible number of parts", found=count)
        part = -(-data.shape[axis] // count)
        sizes = [part] * (count - 1) + [data.shape[axis] - part * (count - 1)]
    if sum(sizes) != data.shape[axis] or len(sizes) != len(node.outputs) or min(sizes) < 1:
        raise InputError("the parts do not add up", found=[sizes, data.shape])
    outputs = []
    for index, size in enumerate(sizes):
        shape = (*data.shape[:axis], size, *data.shape[axis + 1 :])
        outputs.append(context.result(node, shape, index, data.type))
    named = [name for name in outputs if name]
    context.emit(lambda: context.builder.vector(node.name, "split", [context.read(data)], named))


def _slices(node: Node, rank: int) -> list[tuple[int, int, int, int]]:
    """Axis, start, end, step of a slice, from attributes or inputs."""
    starts, ends = node.numbers("starts", 1), node.numbers("ends", 2)
    if starts is None or ends is None:
        raise InputError("starts or ends are missing")
    axes = node.numbers("axes", 3)
    axes = list(range(len(starts))) if axes is None else axes
    steps = [1] * len(starts) if "starts" in node.attributes else node.numbers("steps", 4)
    steps = [1] * len(starts) if steps is None else steps
    if not len(starts) == len(ends) == len(axes) == len(steps) or 0 in steps:
        raise InputError("starts, ends, axes and steps do not fit", found=[starts, ends, axes])
    places = [axis_of(axis, rank) for axis in axes]
    return list(zip(places, starts, ends, steps, strict=True))


@HANDLERS.on("Slice")
def slice_of(context: Context, node: Node) -> None:
    data = node.input(0)
    shape = list(data.shape)
    for axis, start, end, step in _slices(node, len(shape)):
        shape[axis] = len(range(*slice(start, end, step).indices(data.shape[axis])))
    kind = "identity" if tuple(shape) == data.shape else "slice"
    context.vector(node, kind, shape, [data])


@HANDLERS.on("Pad")
def pad(context: Context, node: Node) -> None:
    data = node.input(0)
    rank = len(data.shape)
    pads = node.numbers("pads" if "pads" in node.attributes else "paddings", 1)
    axes = node.numbers("axes", 3)
    axes = list(range(rank)) if axes is None else [axis_of(axis, rank) for axis in axes]
    if pads is None or len(pads) != 2 * len(axes):
        raise InputError("pads must have two entries an axis", found=pads)
    shape = list(data.shape)
    for axis, before, after in zip(axes, pads[: len(axes)], pads[len(axes) :], strict=True):
        shape[axis] += before + after
    kind = "identity" if tuple(shape) == data.shape else "pad"
    context.vector(node, kind, shape, [data])


@HANDLERS.on("Gather")
def gather(context: Context, node: Node) -> None:
    data, indices = node.input(0), node.input(1)
    axis = axis_of(node.integer("axis", 0), len(data.shape))
    shape = (*data.shape[:axis], *indices.shape, *data.shape[axis + 1 :])
    context.vector(node, "gather", shape)


@HANDLERS.on("GatherElements")
def gather_elements(context: Context, node: Node) -> None:
    context.vector(node, "gather", node.input(1).shape)


@HANDLERS.on("GatherND")
def gather_nd(context: Context, node: Node) -> None:
    data, indices = node.input(0).shape, node.input(1).shape
    batch = node.integer("batch_dims", 0)
    if not indices or not 0 <= batch < len(indices) or batch + indices[-1] > len(data):
        raise InputError("the indices do not fit", found=[data, indices])
    context.vector(node, "gather", (*indices[:-1], *data[batch + indices[-1] :]))


@HANDLERS.on("ScatterElements", "ScatterND", "Scatter")
def scatter(context: Context, node: Node) -> None:
    context.vector(node, "scatter", node.input(0).shape)


@HANDLERS.on("Expand")
def expand(context: Context, node: Node) -> None:
    data, target = node.input(0), node.numbers("shape", 1)
    if target is None or any(extent < 1 for extent in target):
        raise InputError("impossible target shape", found=target)
    shape = broadcast(data.shape, target)
    same = prod(shape) == data.elements
    context.vector(node, "reshape" if same else "expand", shape, [data])


@HANDLERS.on("Tile")
def tile(context: Context, node: Node) -> None:
    data, repeats = node.input(0), node.numbers("repeats", 1)
    if repeats is None or len(repeats) != len(data.shape) or any(r < 1 for r in repeats):
        raise InputError("repeats do not fit the shape", found=[repeats, data.shape])
    shape = [extent * r for extent, r in zip(data.shape, repeats, strict=True)]
    context.vector(node, "tile", shape, [data])


@HANDLERS.on("DepthToSpace", "SpaceToDepth")
def depth_space(context: Context, node: Node) -> None:
    data, block = node.input(0), node.integer("blocksize", 0)
    if len(data.shape) != 4 or block < 1:
        raise InputError("needs four axes and a block size", found=[data.shape, block])
    n, c, h, w = data.shape
    if node.op == "DepthToSpace":
        shape = (n, c // (block * block), h * block, w * block)
    else:
        shape = (n, c * block * block, h // block, w // block)
    if prod(shape) != data.elements:
        raise InputError("the block does not divide the shape", found=[data.shape, block])
    context.vector(node, "depth_to_space" if node.op[0] == "D" else "space_to_depth", shape)


@HANDLERS.on("Resize", "Upsample")
def resize(context: Context, node: Node) -> None:
    data = node.input(0)
    rank = len(data.shape)
    scales, sizes = _resize_arguments(node)
    axes = [axis_of(axis, rank) for axis in node.integers("axes", list(range(rank)))]
    wanted = sizes if sizes is not None else scales
    if wanted is None or len(wanted) != len(axes):
        raise InputError("scales or sizes do not fit the shape", found=wanted)
    if node.text("keep_aspect_ratio_policy", "stretch") != "stretch":
        raise InputError("only keep_aspect_ratio_policy 'stretch' is supported")
    shape = list(data.shape)
    for axis, extent in zip(axes, wanted, strict=True):
        if not 0 < extent < MAX_EXTENT:  # also refuses NaN
            raise InputError("impossible scale or size", found=extent)
        shape[axis] = int(extent) if sizes is not None else floor(data.shape[axis] * extent)
    changed = sum(a != b for a, b in zip(shape, data.shape, strict=True))
    mode = node.text("mode", "nearest")
    if mode not in ("nearest", "linear", "bilinear", "trilinear", "cubic"):
        raise InputError("unknown mode", found=mode)
    kind = {"nearest": "resize_nearest", "cubic": "resize_cubic"}.get(mode, "resize_linear")
    window = {"resize_nearest": None, "resize_linear": 2**changed, "resize_cubic": 4**changed}
    context.vector(node, kind, shape, [data], window=window[kind])


def _resize_arguments(node: Node) -> tuple[list[float] | None, list[int] | None]:
    """Scales and sizes of a resize, over its four forms."""
    if "scales" in node.attributes:
        return [float(value) for value in node.attributes["scales"]], None
    place = 1 if node.op == "Upsample" or node.opset < 11 else 2
    sizes = node.known(3) if node.optional(3) is not None else None
    if sizes is not None and sizes.size:
        return None, [int(value) for value in np.ravel(sizes)]
    scales = node.known(place)
    return (None if scales is None else [float(value) for value in np.ravel(scales)]), None


@HANDLERS.on("OneHot")
def one_hot(context: Context, node: Node) -> None:
    indices, depth = node.input(0), node.known(1)
    axis = axis_of(node.integer("axis", -1), len(indices.shape) + 1)
    count = int(np.ravel(depth)[0]) if depth is not None and depth.size else 0
    shape = (*indices.shape[:axis], count, *indices.shape[axis:])
    context.vector(node, "one_hot", shape, [indices], type=node.input(2).type)


@HANDLERS.on("Trilu")
def trilu(context: Context, node: Node) -> None:
    context.vector(node, "trilu", node.input(0).shape, node.present[:1])


@HANDLERS.on("EyeLike")
def eye_like(context: Context, node: Node) -> None:
    context.vector(node, "eye_like", node.input(0).shape, type=node.integer("dtype", 1))


@HANDLERS.on("ReverseSequence")
def reverse_sequence(context: Context, node: Node) -> None:
    context.vector(node, "reverse_sequence", node.input(0).shape)


# --------------------------------------------------------------------------------- constants


@HANDLERS.on("ConstantOfShape")
def constant_of_shape(context: Context, node: Node) -> None:
    target = node.known(0)
    if target is None or target.ndim != 1 or any(extent < 0 for extent in target):
        raise InputError("impossible shape", found=target)
    filler = _number(node.attributes.get("value"))
    fill_value(context, node, tuple(int(extent) for extent in target), filler)


def fill_value(context: Context, node: Node, shape: tuple[int, ...], filler: np.ndarray) -> None:
    """A constant made at run time: a weight if its shape is stored in the file."""
    from onnx import helper

    type = helper.np_dtype_to_tensor_dtype(filler.dtype)
    context.result(node, shape, type=type, array=np.zeros(0))  # checks the shape
    stored = not node.present or node.input(0).name in context.stored
    array = None
    if prod(shape) <= FOLD_ELEMENTS:
        array = np.full(shape, filler.reshape(-1)[0] if filler.size else 0, filler.dtype)
    name = node.outputs[0]
    weight = stored and filler.dtype.kind == "f" and bool(shape)
    origin = "weight" if weight else "constant"
    context.values[name] = Value(name, shape, type, origin, array)  # type: ignore[arg-type]
    context.roots.setdefault(name, shape)


def _number(value: Any) -> np.ndarray:
    return value if isinstance(value, np.ndarray) else np.zeros(1, np.float32)


@HANDLERS.on("ConstantFill")
def constant_fill(context: Context, node: Node) -> None:
    """Caffe2's forerunner of ConstantOfShape, found in old exports."""
    shape = node.integers("shape", []) if not node.present else None
    if shape is None:
        known = node.known(0)
        from_values = bool(node.integer("input_as_shape", 0))
        source = node.input(0).shape if known is None or not from_values else np.ravel(known)
        shape = [int(extent) for extent in source]
    fill_value(context, node, tuple(shape), np.full(1, node.attributes.get("value", 0), np.float32))


@HANDLERS.on("Range")
def range_of(context: Context, node: Node) -> None:
    start, limit, delta = (node.known(index) for index in range(3))
    if start is None or limit is None or delta is None or not delta.any():
        raise InputError("start, limit and a delta other than 0 are needed")
    first, last, step = (float(np.ravel(value)[0]) for value in (start, limit, delta))
    count = max(0.0, np.ceil((last - first) / step))
    if not count <= MAX_EXTENT:  # also refuses NaN
        raise InputError("impossible range", found=[first, last, step])
    context.vector(node, "fill", (int(count),), [])
