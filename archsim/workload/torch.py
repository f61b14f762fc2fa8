"""The PyTorch importer: a module as a workload, through ``torch.export`` on the meta device.

No weight is allocated and nothing is computed: the module is copied with its parameters on the
meta device and traced there. The graph is walked as exported, before decomposition, so that
convolutions, linear layers and scaled dot-product attention stay recognisable.
"""

from __future__ import annotations

import copy
import operator
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from archsim.errors import InputError, MissingExtraError
from archsim.workload.batch import PROBES, batched
from archsim.workload.builder import Builder
from archsim.workload.graph import Workload
from archsim.workload.torch_handlers import FILLS, HANDLERS, TRANSPARENT, Call, Value

if TYPE_CHECKING:
    import torch


def import_torch(
    module: torch.nn.Module,
    example_inputs: Sequence[Any],
    *,
    name: str | None = None,
    batch: int | None = None,
    source: str = "",
    licence: str = "",
    keywords: Mapping[str, Any] | None = None,
) -> Workload:
    """Import a PyTorch module for inference.

    Args:
        module: The module; it is not changed (a copy on the meta device is traced).
        example_inputs: Example arguments; only shapes and types matter, so meta tensors do. The
            batch is the first extent of the first tensor, and of all others that begin with it.
        name: Name of the workload; the module's class if left out.
        batch: Batch wanted; None keeps the examples' own.
        source: Where the model comes from.
        licence: Licence of that source.
        keywords: Example keyword arguments.

    Raises:
        InputError: The module cannot be exported, or uses an operator without a cost.
        MissingExtraError: PyTorch is not installed.
    """
    try:
        import torch
    except ImportError:
        raise MissingExtraError("torch", "torch") from None
    name = name or type(module).__name__.lower()
    keywords = dict(keywords or {})
    tensors = [v for v in (*example_inputs, *keywords.values()) if isinstance(v, torch.Tensor)]
    own = next((tensor.shape[0] for tensor in tensors if tensor.dim()), 1)
    wanted = own if batch is None else batch
    meta = _on_meta(module)
    walker = _Walker(meta, tuple(example_inputs), keywords, name, own, source, licence)
    plain = walker.build(own)  # first as it is given: says what is wrong with the module
    try:
        first, second = (walker.build(probe) for probe in PROBES)
        return batched(first, second, plain, own, wanted)
    except InputError as error:
        if wanted == own:
            return plain
        raise InputError(
            f"the module cannot be rescaled from batch {own}: {error}", source=name
        ) from None


def _on_meta(module: torch.nn.Module) -> torch.nn.Module:
    """A copy for inference whose parameters and buffers hold no data."""
    import torch

    memo: dict[int, Any] = {}
    for parameter in module.parameters():
        memo[id(parameter)] = torch.nn.Parameter(parameter.detach().to("meta"), False)
    for buffer in module.buffers():
        memo[id(buffer)] = buffer.detach().to("meta")
    return copy.deepcopy(module, memo).eval()


class _Walker:
    """Exports one module, at any batch."""

    def __init__(
        self,
        module: torch.nn.Module,
        inputs: tuple[Any, ...],
        keywords: dict[str, Any],
        name: str,
        own: int,
        source: str,
        licence: str,
    ) -> None:
        self.module, self.inputs, self.keywords = module, inputs, keywords
        self.name, self.own, self.source, self.licence = name, own, source, licence
        # Tied parameters are one tensor: every name leads to the first.
        first: dict[int, str] = {}
        self.canonical = {
            path: first.setdefault(id(tensor), path)
            for path, tensor in (
                *module.named_parameters(remove_duplicate=False),
                *module.named_buffers(remove_duplicate=False),
            )
        }

    def _example(self, value: Any, batch: int) -> Any:
        """An example on the meta device, at another batch."""
        import torch

        if not isinstance(value, torch.Tensor):
            return value
        shape = list(value.shape)
        if shape and shape[0] == self.own:
            shape[0] = batch
        return torch.empty(shape, dtype=value.dtype, device="meta")

    def build(self, batch: int) -> Workload:
        """The graph at one batch, its batch axes unknown."""
        import torch

        inputs = tuple(self._example(value, batch) for value in self.inputs)
        keywords = {key: self._example(value, batch) for key, value in self.keywords.items()}
        try:
            with torch.no_grad(), torch.device("meta"):
                program = torch.export.export(self.module, inputs, keywords, strict=False)
        except Exception as error:  # whatever the module's own code raises
            text = str(error).strip().splitlines()
            raise InputError(
                f"torch.export failed ({type(error).__name__}: {text[0] if text else ''})",
                source=self.name,
            ) from error
        return _Graph(self, program, Builder(self.name, batch)).workload()


class _Graph:
    """Walks one exported program."""

    def __init__(self, walker: _Walker, program: Any, builder: Builder) -> None:
        self.walker, self.program, self.builder = walker, program, builder
        self.values: dict[Any, Value | list[Value]] = {}
        self.taken: set[str] = set()

    def workload(self) -> Workload:
        """Walk all nodes."""
        outputs: list[str] = []
        for node in self.program.graph.nodes:
            try:
                if node.op == "placeholder":
                    self._placeholder(node)
                elif node.op == "call_function":
                    self._call(node)
                elif node.op == "output":
                    found = _values(self.values, node.args)
                    outputs = [v.name for v in found if v.name in self.builder.tensors]
                else:
                    raise InputError(f"no cost is known for a node of kind {node.op}")
            except InputError as error:
                raise InputError(
                    f"{error.message} (operator {node.target})",
                    source=self.walker.name,
                    field=f"node {node.name}",
                    found=error.found,
                ) from error.__cause__
        return self.builder.workload(outputs, self.walker.source, self.walker.licence)

    def _placeholder(self, node: Any) -> None:
        import torch

        signature = self.program.graph_signature
        path = signature.inputs_to_parameters.get(node.name)
        role: Any = "weight" if path else "input"
        for table in (signature.inputs_to_buffers, signature.inputs_to_lifted_tensor_constants):
            if node.name in table:
                path, role = table[node.name], "constant"
        value = node.meta.get("val")
        if not isinstance(value, torch.Tensor):
            return
        name = self.walker.canonical.get(path, path) if path else self._free(node.name)
        self.values[node] = found = _described(name, value, role)
        if role == "input":
            self.builder.tensor(name, found.shape, found.bits, "input")

    def _free(self, name: str) -> str:
        """A name no tensor or operation has yet."""
        count, free = 1, name
        while free in self.taken:
            count += 1
            free = f"{name}_{count}"
        self.taken.add(free)
        return free

    def _label(self, node: Any, op: str) -> str:
        """The path of the module a call belongs to; with the operator where that is not enough."""
        op = {"scaled_dot_product_attention": "sdpa"}.get(op, op)
        stack = node.meta.get("nn_module_stack") or {}
        path, kind = list(stack.values())[-1] if stack else ("", "")
        kind = kind if isinstance(kind, str) else f"{kind.__module__}.{kind.__qualname__}"
        path = ".".join(part for part in path.split(".") if part)
        leaf = kind.startswith("torch.nn.") and not kind.endswith("MultiheadAttention")
        if path and leaf:
            return self._free(path)
        return self._free(f"{path}.{op}" if path else op)

    def _call(self, node: Any) -> None:
        if node.target is operator.getitem:
            source = self.values[node.args[0]]
            assert isinstance(source, list)
            self.values[node] = source[node.args[1]]
            return
        schema = getattr(node.target, "_schema", None)
        if schema is None:  # guards and other Python calls compute nothing
            if node.users:
                raise InputError("no cost is known for a Python call")
            return
        op = schema.name.split("::")[1].split(".")[0]
        op = op[:-1] if op.endswith("_") and not op.endswith("__") else op
        results = node.meta.get("val")
        if results is None and not node.users:
            return  # an assertion
        arguments = self._arguments(node, schema)
        found = [v for value in arguments.values() for v in _values_in(value)]
        if op in FILLS:
            found = []
        if all(value.held for value in found) and self._constant(node, op, results, found):
            return
        handler = HANDLERS.get(op)
        if handler is None:
            raise InputError("no cost is known for this operator")
        name = self._label(node, op)
        several = isinstance(results, (tuple, list))
        outputs = (
            [_described(f"{name}.{i}", r) for i, r in enumerate(results) if r is not None]
            if several
            else [_described(name, results)]
        )
        call = Call(op, name, arguments, list(outputs), self.builder)
        handler(call)
        self.values[node] = outputs if several else outputs[0]

    def _arguments(self, node: Any, schema: Any) -> dict[str, Any]:
        """Arguments by name, defaults included, tensors as values."""
        import torch.fx

        found: dict[str, Any] = {}
        values: Any = self.values
        for index, argument in enumerate(schema.arguments):
            if index < len(node.args):
                value = node.args[index]
            elif argument.name in node.kwargs:
                value = node.kwargs[argument.name]
            else:
                value = argument.default_value
            found[argument.name] = torch.fx.map_arg(value, values.__getitem__)
        return found

    def _constant(self, node: Any, op: str, results: Any, found: list[Value]) -> bool:
        """Take a call on constants only; False if it is work at run time after all."""
        import torch

        weights = [value for value in found if value.role == "weight"]
        if op in TRANSPARENT and found and isinstance(results, torch.Tensor):
            held = found[0]
            if held.name not in self.builder.tensors and held.role == "weight":
                self.builder.tensor(held.name, held.shape, held.bits, "weight")
            self.values[node] = Value(held.name, tuple(results.shape), held.bits, held.role)
            return True
        if weights or not isinstance(results, torch.Tensor):
            return False
        self.values[node] = _described(self._free(node.name), results, "constant")
        return True


def _described(name: str, value: Any, role: Any = "activation") -> Value:
    if any(not isinstance(extent, int) for extent in value.shape):
        raise InputError("shapes that depend on data are not supported", found=value.shape)
    bits = 8.0 * value.element_size()
    return Value(name, tuple(value.shape), bits, role)


def _values_in(value: Any) -> list[Value]:
    items = value if isinstance(value, (list, tuple)) else [value]
    return [item for item in items if isinstance(item, Value)]


def _values(values: Mapping[Any, Any], item: Any) -> list[Value]:
    """All values below nested outputs."""
    if isinstance(item, (list, tuple)):
        return [value for part in item for value in _values(values, part)]
    if isinstance(item, dict):
        return [value for part in item.values() for value in _values(values, part)]
    found = values.get(item) if getattr(item, "op", None) else None
    return [found] if isinstance(found, Value) else list(found or [])
