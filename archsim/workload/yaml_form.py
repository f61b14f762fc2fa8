"""The compact YAML form of a workload: one line an operation, exact both ways.

What follows from an operation is not written: the shape of a convolution's weight, the output of
an activation (its input's shape), the number of scalar operations (the kind's rule). The writer
asks the reader's own rules what a line would imply and writes only what differs, so reading gives
back the same workload, always.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from archsim.errors import InputError
from archsim.inputs import load_yaml, parse_yaml, validate
from archsim.workload.builder import BEFORE_BIAS, BIAS
from archsim.workload.graph import Access, Block, Einsum, Operation, Rank, Tensor, Workload
from archsim.workload.operators import VECTOR_KINDS, is_fusable, vector_ops
from archsim.workload.yaml_lines import conv_nest, gemm_nest, matmul_nest
from archsim.workload.yaml_schema import (
    ConvLine,
    Document,
    EinsumLine,
    GemmLine,
    MatmulLine,
    VectorLine,
)

#: Inputs of a kind that may go undeclared: (role, axis of the data they are as long as).
IMPLIED_INPUTS: dict[str, tuple[tuple[str, int], ...]] = {
    "batch_norm": (("weight", 1), ("weight", 1), ("constant", 1), ("constant", 1)),
    "layer_norm": (("weight", -1), ("weight", -1)),
    "rms_norm": (("weight", -1),),
    "group_norm": (("weight", 1), ("weight", 1)),
    "instance_norm": (("weight", 1), ("weight", 1)),
    "bias_add": (("weight", -1),),
}


def load_workload_yaml(path: str | Path) -> Workload:
    """Read a workload file.

    Raises:
        InputError: Names the file, the field and what is wrong.
    """
    return build(load_yaml(path, Document), path)


def loads(text: str, source: object = "<text>") -> Workload:
    """Read a workload from YAML text.

    Raises:
        InputError: Names the field and what is wrong.
    """
    return build(validate(parse_yaml(text, source), Document, source), source)


def build(document: Document, source: object) -> Workload:
    """The workload a validated document describes; ``source`` is named in errors."""
    try:
        return Reader(document).workload()
    except InputError as error:
        raise InputError(
            error.message,
            source=source,
            field=error.field,
            found=error.found,
            expected=error.expected,
        ) from None


def _listed(names: str | Sequence[str] | None, otherwise: str) -> tuple[str, ...]:
    if names is None:
        return (otherwise,)
    return (names,) if isinstance(names, str) else tuple(names)


class Reader:
    """Turns a validated document into a workload."""

    def __init__(self, document: Document) -> None:
        self.document = document
        self.batch = document.batch
        self.tensors: dict[str, Tensor] = {}
        self.operations: list[Operation] = []
        self.made: dict[str, int] = {}
        for name, line in document.tensors.items():
            shape, axis = self.extents(line.shape, name)
            bits = document.bits if line.bits is None else line.bits
            self.tensors[name] = Tensor(
                name, shape, bits, line.role, line.share, axis, line.pattern
            )

    def extents(self, shape: Sequence[int | str], field: str) -> tuple[tuple[int, ...], int | None]:
        """Numbers for a written shape, and the axis that grows with the batch."""
        axes = [i for i, extent in enumerate(shape) if isinstance(extent, str)]
        if len(axes) > 1:
            raise InputError("only one axis may grow with the batch", field=field, found=shape)
        return tuple(self.number(extent, field) for extent in shape), axes[0] if axes else None

    def number(self, extent: int | str, field: str) -> int:
        """A written extent at the header's batch."""
        if isinstance(extent, int):
            return extent
        if self.batch is None:
            raise InputError("N is used but the header has no batch", field=field, found=extent)
        return int(extent[:-1] or 1) * self.batch

    def imply(
        self, name: str, shape: Sequence[int], role: Any = "activation", axis: int | None = None
    ) -> None:
        """Declare a tensor that follows from a line, unless it is declared already."""
        if name not in self.tensors:
            self.tensors[name] = Tensor(name, tuple(shape), self.document.bits, role, 1.0, axis)

    def data(self, name: str, line: str) -> Tensor:
        """A tensor a line reads, which must be known by now."""
        if name not in self.tensors:
            raise InputError(f"tensor {name!r} is not declared", field=line)
        return self.tensors[name]

    def output(self, line: Any, names: Sequence[str], shape: Sequence[int], axis: Any) -> None:
        """Declare what a line writes: as it says, or else as its kind implies."""
        if line.shape is not None:
            shape, axis = self.extents(line.shape, line.name)
        for name in names:
            self.imply(name, shape, "activation", axis)

    def fusable(self, kind: str, inputs: Sequence[str], output: Sequence[int]) -> bool:
        """Whether an operation can be applied as its first input is made."""
        shapes = [self.tensors[name].shape for name in inputs]
        return is_fusable(kind, shapes, output, [self.made.get(name, -1) for name in inputs])

    def add(self, operation: Operation) -> None:
        """Append an operation."""
        self.made.update(dict.fromkeys(operation.outputs, len(self.operations)))
        self.operations.append(operation)

    def with_bias(self, line: ConvLine | GemmLine, target: str, channels: int) -> str:
        """Declare the bias and the sum before it; returns what the product writes."""
        if line.bias is None:
            return target
        self.imply(line.bias, (channels,), "weight")
        before = target + BEFORE_BIAS
        result = self.tensors[target]
        self.imply(before, result.shape, "activation", result.batch_axis)
        return before

    def add_bias(self, line: ConvLine | GemmLine, before: str, target: str) -> None:
        """Append the addition of a line's bias."""
        if line.bias is None:
            return
        shapes = [self.tensors[before].shape, self.tensors[line.bias].shape]
        out = self.tensors[target].shape
        self.add(
            Operation(
                line.name + BIAS,
                "bias_add",
                (before, line.bias),
                (target,),
                vector_ops=vector_ops("bias_add", shapes, out),
                fusable=self.fusable("bias_add", (before, line.bias), out),
            )
        )

    def conv(self, line: ConvLine) -> None:
        target = line.out or line.name
        weight = line.weight or f"{line.name}.weight"
        data = self.data(line.input, line.name)
        einsum, kernel, size = conv_nest(line, data.name, weight, target, self.conv_batch(data))
        self.imply(weight, (line.channels[1], line.channels[0] // line.groups, *kernel), "weight")
        shape = (self.conv_batch(data), line.channels[1], *size)
        self.output(line, (target,), shape, 0 if data.batch_axis == 0 else None)
        written = self.with_bias(line, target, line.channels[1])
        einsum = _retarget(einsum, written)
        self.add(Operation(line.name, line.kind, (data.name, weight), (written,), einsum))
        self.add_bias(line, written, target)

    @staticmethod
    def conv_batch(data: Tensor) -> int:
        """The batch a convolution sees: the first axis of its data."""
        return data.shape[0] if data.shape else 1

    def gemm(self, line: GemmLine) -> None:
        target = line.out or line.name
        weight = line.weight or f"{line.name}.weight"
        data = self.data(line.input, line.name)
        self.imply(weight, (line.columns, line.inner), "weight")
        shape = (*data.shape[:-1], line.columns)
        axis = None if data.batch_axis == len(data.shape) - 1 else data.batch_axis
        self.output(line, (target,), shape, axis)
        written = self.with_bias(line, target, line.columns)
        batch = line.batch or self.batch or 1
        einsum = gemm_nest(line, data.name, weight, written, batch)
        self.add(Operation(line.name, "gemm", (data.name, weight), (written,), einsum))
        self.add_bias(line, written, target)

    def matmul(self, line: MatmulLine) -> None:
        target = line.out or line.name
        first, second = (self.data(name, line.name) for name in line.input)
        shape = (*first.shape[:-1], line.columns)
        axis = None if first.batch_axis == len(first.shape) - 1 else first.batch_axis
        self.output(line, (target,), shape, axis)
        groups = self.number(line.groups, line.name)
        einsum = matmul_nest(line, first.name, second.name, target, groups)
        inputs = (first.name, second.name)
        self.add(Operation(line.name, "matmul", inputs, (target,), einsum))

    def einsum(self, line: EinsumLine) -> None:
        inputs, outputs = _listed(line.input, ""), _listed(line.out, line.name)
        for name in inputs:
            self.data(name, line.name)
        first = self.tensors[inputs[0]] if inputs else None
        if first or line.shape is not None:
            shape = first.shape if first else ()
            self.output(line, outputs, shape, first.batch_axis if first else None)
        operands = tuple(_read_access(text, line.name) for text in line.einsum.operands)
        einsum = Einsum(tuple(line.einsum.dims.items()), operands)  # type: ignore[arg-type]
        self.add(
            Operation(line.name, line.kind, inputs, outputs, einsum, line.ops, fusable=line.fusable)
        )

    def vector(self, line: VectorLine) -> None:
        inputs, outputs = _listed(line.input, ""), _listed(line.out, line.name)
        if line.kind not in VECTOR_KINDS and line.ops is None and not line.view:
            raise InputError(
                "no cost is known for this kind; give the number of scalar operations as ops",
                field=line.name,
                found=line.kind,
            )
        first = self.data(inputs[0], line.name) if inputs else None
        rules = IMPLIED_INPUTS.get(line.kind, ())
        if first is not None:
            for name, (role, axis) in zip(inputs[1:], rules, strict=False):
                if -len(first.shape) <= axis < len(first.shape):
                    self.imply(name, (first.shape[axis],), role)
        shapes = [self.data(name, line.name).shape for name in inputs]
        if first is not None or line.shape is not None:
            shape = first.shape if first else ()
            self.output(line, outputs, shape, first.batch_axis if first else None)
        target = self.data(outputs[0], line.name).shape if outputs else ()
        view = line.view
        if view is None:
            view = line.kind in VECTOR_KINDS and VECTOR_KINDS[line.kind].view
        fusable = line.fusable
        if fusable is None:
            fusable = self.fusable(line.kind, inputs, target)
        ops = line.ops
        if ops is None:
            known = line.kind in VECTOR_KINDS
            ops = vector_ops(line.kind, shapes, target, line.window) if known else 0
        self.add(Operation(line.name, line.kind, inputs, outputs, None, ops, view, fusable))

    def read(self, line: Any) -> None:
        """Read one line: declare what it implies and append its operations."""
        readers: dict[type, Callable[[Any], None]] = {
            ConvLine: self.conv,
            GemmLine: self.gemm,
            MatmulLine: self.matmul,
            EinsumLine: self.einsum,
            VectorLine: self.vector,
        }
        position = len(self.operations)
        readers[type(line)](line)
        if line.attributes:
            given = tuple(line.attributes.items())
            self.operations[position] = replace(self.operations[position], attributes=given)

    def workload(self) -> Workload:
        """Read every line."""
        for line in self.document.operations:
            self.read(line)
        for name in self.document.outputs:
            tensor = self.data(name, "outputs")
            self.tensors[name] = replace(tensor, role="output")
        document = self.document
        return Workload(
            document.name,
            self.tensors,
            tuple(self.operations),
            document.source,
            document.licence,
            document.batch,
            tuple(
                Block(
                    line.name,
                    line.count,
                    line.first,
                    line.last,
                    tuple(line.carried.items()),
                    tuple(line.shared),
                    line.start,
                )
                for line in document.blocks
            ),
        )


def _retarget(einsum: Einsum, output: str) -> Einsum:
    """The same nest writing another tensor."""
    data, weight, written = einsum.operands
    return Einsum(einsum.dims, (data, weight, Access(output, written.ranks)))


_TERM = re.compile(r"([1-9][0-9]{0,15})?([A-Za-z_][A-Za-z0-9_]*)")


def _read_access(text: str, field: str) -> Access:
    """Read ``x[N, C, 2P+R]``."""
    start = text.rfind("[")
    if start < 1 or not text.endswith("]"):
        raise InputError("not an access", field=field, found=text, expected="x[N, C, 2P+R]")
    inside = text[start + 1 : -1].strip()
    ranks: list[Rank] = []
    for part in inside.split(",") if inside else ():
        rank = []
        for term in part.split("+") if part.strip() != "0" else ():
            match = _TERM.fullmatch(term.strip())
            if match is None:
                raise InputError("not a projection", field=field, found=part, expected="2P+R")
            rank.append((match[2], int(match[1] or 1)))
        ranks.append(tuple(rank))
    return Access(text[:start], tuple(ranks))
