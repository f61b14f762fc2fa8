"""The ONNX importer: a model file, with or without its weights, as a workload.

Nothing of the file is run, and no other file is read: weights kept beside the model are taken by
their stated shapes. Values that only shapes depend on (Shape, Gather, Concat ... of small integer
tensors) are computed by the reference evaluator of the onnx package, within bounds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from archsim.errors import InputError, MissingExtraError
from archsim.workload import onnx_compute, onnx_movement
from archsim.workload.batch import PROBES, batched
from archsim.workload.builder import MAX_OPERATIONS, Builder
from archsim.workload.graph import Workload
from archsim.workload.onnx_context import FOLD_ELEMENTS, WEIGHT_TYPES, Context, Node, Value

if TYPE_CHECKING:
    import onnx

MAX_FILE_BYTES = 2 << 30  # the limit of a protobuf message

HANDLERS = onnx_compute.HANDLERS | onnx_movement.HANDLERS

#: Operators whose value may be computed when all operands are small constants.
FOLDED = frozenset(
    {"Shape", "Size", "Gather", "GatherND", "GatherElements", "Concat", "Slice", "Squeeze"}
    | {"Unsqueeze", "Reshape", "Flatten", "Transpose", "Identity", "Cast", "CastLike", "Expand"}
    | {"Tile", "Range", "ConstantOfShape", "Split", "Pad", "Trilu", "OneHot", "EyeLike", "CumSum"}
    | {"Add", "Sub", "Mul", "Div", "Pow", "Mod", "Min", "Max", "Neg", "Abs", "Floor", "Ceil"}
    | {"Round", "Sqrt", "Reciprocal", "Exp", "Log", "Sin", "Cos", "Sign", "Not", "And", "Or", "Xor"}
    | {"Equal", "Greater", "Less", "GreaterOrEqual", "LessOrEqual", "Where", "Clip", "ScatterND"}
    | {"ReduceProd", "ReduceSum", "ReduceMax", "ReduceMin", "ReduceMean", "ArgMax", "ArgMin"}
    | {"Sum", "TopK", "Tanh", "Sigmoid", "Relu", "Softmax", "MatMul", "Dropout", "IsNaN", "IsInf"}
)


@dataclass(frozen=True)
class _Inputs:
    """The inputs of a graph: type and extents, each a number or a symbol."""

    dims: dict[str, list[int | str]]
    types: dict[str, int]
    batch_symbol: str | None
    fixed_batch: int | None

    def at(self, batch: int, symbols: Mapping[str, int]) -> dict[str, tuple[int, ...]]:
        """Numbers for every extent."""
        result = {}
        for name, dims in self.dims.items():
            shape = []
            for axis, dim in enumerate(dims):
                if dim == self.batch_symbol or (axis == 0 and self._is_fixed(dims)):
                    shape.append(batch)
                elif isinstance(dim, str):
                    shape.append(_symbol(symbols, name, dim))
                else:
                    shape.append(dim)
            result[name] = tuple(shape)
        return result

    def _is_fixed(self, dims: list[int | str]) -> bool:
        return self.fixed_batch is not None and len(dims) > 1 and dims[0] == self.fixed_batch


def _symbol(symbols: Mapping[str, int], name: str, symbol: str) -> int:
    value = symbols.get(symbol)
    if value is None:
        raise InputError(
            f"symbolic dimension {symbol!r} is not bound; give its value", field=f"input {name}"
        )
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise InputError(f"symbol {symbol!r} must be a positive integer", found=value)
    return value


def import_onnx(
    path: str | Path, batch: int | None = None, symbols: Mapping[str, int] | None = None
) -> Workload:
    """Import an ONNX model.

    The batch is the first axis of the inputs. A graph whose every shape and count is proportional
    to it can be rescaled later; where a file fixes its batch in ways that cannot be followed, only
    that batch is available.

    Args:
        path: The model file.
        batch: Batch wanted; None is 1 for a symbolic batch and the file's own for a fixed one.
        symbols: Values of all other symbolic dimensions. ``"INPUT.AXIS"`` names a dimension
            without a name, or changes a fixed one (another image size, say).

    Raises:
        InputError: Not an ONNX model, an unbound symbol, a shape that depends on data, or an
            operator without a cost (names operator and node).
        MissingExtraError: The onnx package is not installed.
    """
    path = Path(path)
    return import_model_proto(read_model(path), path.stem, path, batch, symbols)


def read_model(path: str | Path) -> onnx.ModelProto:
    """Parse an ONNX file without reading any other file.

    Raises:
        InputError: The file is missing, too large, or no ONNX model.
    """
    try:
        import onnx
    except ImportError:
        raise MissingExtraError("onnx", "onnx") from None
    path = Path(path)
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise InputError(f"file larger than {MAX_FILE_BYTES} bytes", source=path)
        data = path.read_bytes()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise InputError(f"cannot read file: {reason}", source=path) from None
    model = onnx.ModelProto()
    try:
        model.ParseFromString(data)
    except Exception as error:  # the protobuf back ends raise different classes
        raise InputError("not an ONNX model (truncated or damaged)", source=path) from error
    if not model.HasField("graph") or not model.graph.node:
        raise InputError("not an ONNX model: it has no graph", source=path)
    return model


def import_model_proto(
    model: onnx.ModelProto,
    name: str,
    source: object,
    batch: int | None = None,
    symbols: Mapping[str, int] | None = None,
) -> Workload:
    """Import a parsed model; see ``import_onnx``."""
    try:
        if model.functions:
            from onnx.inliner import inline_local_functions

            model = inline_local_functions(model)
        return _Importer(model, name, source, dict(symbols or {})).workload(batch)
    except InputError as error:
        raise InputError(
            error.message,
            source=error.source or source,
            field=error.field,
            found=error.found,
            expected=error.expected,
        ) from error.__cause__
    except Exception as error:  # a damaged message can hold anything anywhere
        raise InputError(
            f"malformed model ({type(error).__name__}: {str(error)[:200]})", source=source
        ) from error


class _Importer:
    """Walks one model, at any batch."""

    def __init__(
        self, model: onnx.ModelProto, name: str, source: object, symbols: dict[str, int]
    ) -> None:
        self.model, self.graph, self.name = model, model.graph, name
        self.symbols = symbols
        if len(self.graph.node) > MAX_OPERATIONS:
            raise InputError(f"more than {MAX_OPERATIONS} nodes")
        self.opset = max((o.version for o in model.opset_import if o.domain == ""), default=1)
        self.stored = {tensor.name for tensor in self.graph.initializer}
        self.stored |= {tensor.values.name for tensor in self.graph.sparse_initializer}
        self.inputs = self._inputs()
        producer = " ".join(p for p in (model.producer_name, model.producer_version) if p)
        self.source = f"ONNX model {Path(str(source)).name}"
        self.source += f", exported by {producer}" if producer else ""

    def _inputs(self) -> _Inputs:
        used = {name for node in self.graph.node for name in node.input}
        used |= {value.name for value in self.graph.output}
        dims: dict[str, list[int | str]] = {}
        types: dict[str, int] = {}
        for value in self.graph.input:
            if value.name in self.stored or value.name not in used:
                continue
            tensor = value.type.tensor_type
            if not value.type.HasField("tensor_type") or not tensor.HasField("shape"):
                raise InputError("has no tensor shape", field=f"input {value.name}")
            shape: list[int | str] = []
            for axis, dim in enumerate(tensor.shape.dim):
                place = f"{value.name}.{axis}"
                known = (
                    dim.HasField("dim_value") and dim.dim_value > 0 and place not in self.symbols
                )
                shape.append(dim.dim_value if known else dim.dim_param or place)
            dims[value.name], types[value.name] = shape, tensor.elem_type
        return _Inputs(dims, types, *self._batch_of(dims))

    def _batch_of(self, dims: dict[str, list[int | str]]) -> tuple[str | None, int | None]:
        """The symbol of the batch, or the batch the file fixes."""
        leading = [shape[0] for shape in dims.values() if shape]
        names = [d for d in leading if isinstance(d, str) and d not in self.symbols]
        if names:
            likely = [n for n in names if "batch" in n.lower() or n.lower() in ("n", "b", "bs")]
            return (likely or names)[0], None
        bound = [d for d in leading if d in self.symbols and "batch" in str(d).lower()]
        if bound:
            return str(bound[0]), None
        wide = [shape[0] for shape in dims.values() if len(shape) > 1]
        return None, wide[0] if wide and isinstance(wide[0], int) else None

    def workload(self, batch: int | None) -> Workload:
        """The graph at a batch, with its batch axes where they can be found."""
        own = self.inputs.fixed_batch
        if own is None:
            own = self.symbols.get(self.inputs.batch_symbol or "", 1)
        wanted = own if batch is None else batch
        if isinstance(wanted, bool) or not isinstance(wanted, int) or not 1 <= wanted <= 1 << 20:
            raise InputError("batch must be an integer from 1 to 1048576", found=wanted)
        plain = self.build(own)  # first as the file has it: says what is wrong with the model
        try:
            first, second = (self.build(probe) for probe in PROBES)
            return batched(first, second, plain, own, wanted)
        except InputError as error:
            if wanted == own:
                return plain
            if self.inputs.batch_symbol is not None:
                return self.build(wanted)
            raise InputError(
                f"the file fixes its batch to {own} and cannot be rescaled ({error})"
            ) from None

    def build(self, batch: int) -> Workload:
        """The graph at one batch, its batch axes unknown."""
        changed = self.inputs.fixed_batch not in (None, batch)
        context = Context(
            Builder(self.name, batch), batch, self.inputs.fixed_batch if changed else None
        )
        for name, shape in self.inputs.at(batch, self.symbols).items():
            value = Value(name, shape, self.inputs.types[name])
            context.values[name] = value
            context.builder.tensor(name, shape, value.bits, "input")
        self._constants(context)
        for index, proto in enumerate(self.graph.node):
            _walk(context, proto, index, self.opset)
        outputs = []
        for output in self.graph.output:
            if output.name not in context.values:
                raise InputError("is never written", field=f"output {output.name}")
            outputs.append(context.values[output.name].name)
        return context.builder.workload(outputs, self.source)

    def _constants(self, context: Context) -> None:
        for tensor in self.graph.initializer:
            shape = tuple(int(extent) for extent in tensor.dims)
            # A single number (a scale, an epsilon) is part of the operation, not a parameter.
            weight = tensor.data_type in WEIGHT_TYPES and bool(shape)
            origin = "weight" if weight else "constant"
            array = _small(tensor)
            context.values[tensor.name] = Value(
                tensor.name,
                shape,
                tensor.data_type,
                origin,  # type: ignore[arg-type]
                array,
            )
            context.roots[tensor.name] = shape
        for sparse in self.graph.sparse_initializer:
            shape = tuple(int(extent) for extent in sparse.dims)
            name, type = sparse.values.name, sparse.values.data_type
            context.values[name] = Value(name, shape, type, "weight")
            context.roots[name] = shape
        context.stored |= self.stored


def _small(tensor: onnx.TensorProto) -> np.ndarray | None:
    """Contents of a small tensor stored in the file itself; None otherwise."""
    from onnx import numpy_helper

    elements = 1
    for extent in tensor.dims:
        elements *= extent
    if not 0 <= elements <= FOLD_ELEMENTS or tensor.data_location == 1 or tensor.external_data:
        return None
    try:
        return numpy_helper.to_array(tensor)
    except Exception as error:
        raise InputError("damaged constant", field=f"initialiser {tensor.name}") from error


def _attributes(proto: onnx.NodeProto) -> dict[str, Any]:
    from onnx import helper, numpy_helper

    found: dict[str, Any] = {}
    for attribute in proto.attribute:
        value = helper.get_attribute_value(attribute)
        if attribute.type == attribute.TENSOR:
            value = numpy_helper.to_array(value) if _small(value) is not None else value
        elif attribute.type in (attribute.FLOATS, attribute.INTS, attribute.STRINGS):
            value = list(value)
        found[attribute.name] = value
    return found


def _walk(context: Context, proto: onnx.NodeProto, index: int, opset: int) -> None:
    """Take one node: a constant, something to fold, or an operation."""
    label = proto.name or next((name for name in proto.output if name), "") or f"node {index}"
    try:
        inputs: list[Value | None] = []
        for name in proto.input:
            if name and name not in context.values:
                raise InputError(f"reads {name!r} before it is written")
            inputs.append(context.values[name] if name else None)
        twice = next((name for name in proto.output if name and name in context.values), None)
        if twice is not None:
            raise InputError(f"writes {twice!r}, which is written already")
        node = Node(proto.op_type, label, inputs, list(proto.output), _attributes(proto), opset)
        standard = proto.domain in ("", "ai.onnx")
        if proto.op_type == "Constant" and standard:
            _constant(context, node)
            return
        handler = HANDLERS.get(proto.op_type)
        if handler is None or not (standard or proto.op_type in ("Gelu",)):
            operator = proto.op_type if standard else f"{proto.domain}.{proto.op_type}"
            raise InputError(f"no cost is known for operator {operator}")
        constant = all(value.origin != "graph" for value in node.present)
        if not (constant and _fold(context, node, proto, handler, opset)):
            handler(context, node)
    except InputError as error:
        raise InputError(
            f"{error.message} (operator {proto.op_type})",
            field=f"node {label}",
            found=error.found,
            expected=error.expected,
        ) from error.__cause__
    except Exception as error:  # attributes of a damaged node can hold anything
        raise InputError(
            f"malformed operator {proto.op_type} ({type(error).__name__}: {str(error)[:200]})",
            field=f"node {label}",
        ) from error


def _constant(context: Context, node: Node) -> None:
    """A Constant node: contents by any of its attributes."""
    from onnx import helper

    known = ("value", "value_float", "value_floats", "value_int", "value_ints")
    key = next((name for name in known if name in node.attributes), None)
    if key is None:
        raise InputError("a constant of this form is not supported")
    value = node.attributes[key]
    name = node.outputs[0]
    if key == "value" and not isinstance(value, np.ndarray):  # too large to look into
        shape = tuple(int(extent) for extent in value.dims)
        context.values[name] = Value(name, shape, value.data_type, "constant")
    else:
        dtype = {"value_f": np.float32, "value_i": np.int64}.get(key[:7])
        array = np.asarray(value, dtype) if dtype else value
        type = helper.np_dtype_to_tensor_dtype(array.dtype)
        context.values[name] = Value(name, array.shape, type, "constant", array)
    context.roots[name] = context.values[name].shape


def _fold(context: Context, node: Node, proto: onnx.NodeProto, handler: Any, opset: int) -> bool:
    """Take a node of constants only. False if it has to be done at run time after all."""
    weights = [value for value in node.present if value.origin == "weight"]
    context.dry = True
    try:
        handler(context, node)
    finally:
        context.dry = False
    made = {name: context.values[name] for name in node.outputs if name in context.values}
    if not made or all(value.origin != "graph" for value in made.values()):
        return True  # the handler knew the contents itself
    first = made.get(node.outputs[0])
    if first is not None and node.op in onnx_movement.VIEWS and len(made) == 1:
        data = node.input(0)
        if data.elements == first.elements and (data.array is None or weights):
            # Seen in another shape or type, it is still the constant it was.
            plain = node.op in ("Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity", "Dropout")
            array = data.array.reshape(first.shape) if plain and data.array is not None else None
            context.values[first.name] = Value(
                data.name, first.shape, data.type, data.origin, array
            )
            return True
    small = all(value.elements <= FOLD_ELEMENTS for value in made.values())
    if weights and not (len(weights) == 1 and first and first.elements == weights[0].elements):
        small = False
    known = all(value.array is not None for value in node.present)
    if not small or not known or node.op not in FOLDED:
        for name in made:
            del context.values[name]
        return False
    for name, array in _evaluate(node, proto, opset).items():
        value = made[name]
        if array.shape != value.shape:
            raise InputError("shape and contents disagree", found=[array.shape, value.shape])
        holder = weights[0].name if weights else name
        context.values[name] = Value(
            holder, value.shape, value.type, "weight" if weights else "constant", array
        )
        context.roots.setdefault(holder, value.shape)
    return True


def _evaluate(node: Node, proto: onnx.NodeProto, opset: int) -> dict[str, np.ndarray]:
    """Contents of a node's outputs, by the reference evaluator."""
    from onnx import TensorProto, helper
    from onnx.reference import ReferenceEvaluator

    feeds = {
        name: value.array
        for name, value in zip(proto.input, node.inputs, strict=True)
        if value is not None
    }
    outputs = [name for name in proto.output if name]
    graph = helper.make_graph(
        [proto],
        "folded",
        [helper.make_tensor_value_info(name, TensorProto.UNDEFINED, None) for name in feeds],
        [helper.make_tensor_value_info(name, TensorProto.UNDEFINED, None) for name in outputs],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", max(opset, 1))])
    with np.errstate(all="ignore"):
        results = ReferenceEvaluator(model).run(None, feeds)
    return {name: np.asarray(array) for name, array in zip(outputs, results, strict=True)}
