"""Writing the compact YAML form: every line is checked against what the reader makes of it."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from archsim.errors import InputError
from archsim.inputs import _Loader
from archsim.workload.builder import BEFORE_BIAS, BIAS
from archsim.workload.graph import Access, Block, Operation, Tensor, Workload
from archsim.workload.operators import window_of
from archsim.workload.yaml_form import Reader
from archsim.workload.yaml_lines import conv_fields, matmul_fields
from archsim.workload.yaml_schema import (
    PRODUCT_LINES,
    ConvLine,
    Document,
    EinsumLine,
    GemmLine,
    MatmulLine,
    TensorLine,
    VectorLine,
)

Fields = dict[str, Any]


class _Dumper(yaml.SafeDumper):
    """Quotes whatever the reader's own resolver would take for something else."""

    yaml_implicit_resolvers = _Loader.yaml_implicit_resolvers

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _represent_text(dumper: _Dumper, text: str) -> yaml.ScalarNode:
    """Double quotes for whatever is not plainly printable: line breaks would be folded."""
    style = None if text.isprintable() else '"'
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _represent_text)


def _flow(data: Any) -> str:
    text = yaml.dump(
        data,
        Dumper=_Dumper,
        default_flow_style=True,
        sort_keys=False,
        width=1 << 30,
        allow_unicode=True,
    )
    return text.removesuffix("\n").removesuffix("\n...").strip("\n")


def save_workload(workload: Workload, path: str | Path) -> None:
    """Write a workload file that reads back as exactly the same workload.

    Raises:
        InputError: The workload cannot be written (an extent or name beyond the form's limits), or
            the file cannot be; a name that does not end in ``.yaml`` would not be read back.
    """
    if Path(path).suffix.lower() not in (".yaml", ".yml"):
        raise InputError("not a name of a workload", found=str(path), expected="NAME.yaml")
    text = dumps(workload)
    try:
        Path(path).write_text(text, encoding="utf-8")
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise InputError(f"cannot write file: {reason}", source=path) from None


def dumps(workload: Workload) -> str:
    """The YAML text of a workload; see ``save_workload``."""
    writer = _Writer(workload)
    lines = writer.lines()
    header: Fields = {"name": workload.name}
    if workload.source:
        header["source"] = workload.source
    if workload.licence:
        header["licence"] = workload.licence
    header["bits"] = _number(writer.bits)
    if workload.batch is not None:
        header["batch"] = workload.batch
    parts = [f"{key}: {_flow(value)}" for key, value in header.items()]
    if writer.explicit:
        parts.append("tensors:")
        parts += [f"  {_flow({n: writer.tensor(n)})[1:-1]}" for n in writer.explicit]
    parts.append("operations:" if lines else "operations: []")
    parts += [f"  - {_flow(line)}" for line in lines]
    outputs = [
        name
        for name, tensor in workload.tensors.items()
        if tensor.role == "output" and name not in writer.explicit
    ]
    if outputs:
        parts.append(f"outputs: {_flow(outputs)}")
    if workload.blocks:
        parts.append("blocks:")
        parts += [f"  - {_flow(_block(block))}" for block in workload.blocks]
    return "\n".join(parts) + "\n"


def _block(block: Block) -> Fields:
    """The line of a block."""
    fields: Fields = {
        "name": block.name,
        "count": block.count,
        "first": block.first,
        "last": block.last,
        "carried": dict(block.carried),
        "shared": list(block.shared),
        "start": block.start,
    }
    return {key: value for key, value in fields.items() if value or key == "count"}


def _number(value: float) -> int | float:
    return int(value) if value == int(value) else value


class _Writer:
    """Chooses the shortest line the reader turns back into each operation."""

    def __init__(self, workload: Workload) -> None:
        self.workload = workload
        counts = Counter(tensor.bits for tensor in workload.tensors.values())
        self.bits = max(counts, key=lambda bits: (counts[bits], bits)) if counts else 32.0
        self.explicit: dict[str, None] = {}
        try:
            self.document = Document(
                name=workload.name, bits=self.bits, batch=workload.batch, operations=[]
            )
        except ValidationError as error:
            raise InputError(f"cannot be written: {error.errors()[0]['msg']}") from None
        # What the reader knows when it comes to the next line: the roles of outputs come last.
        self.actual = {
            name: replace(t, role="activation") if t.role == "output" else t
            for name, t in workload.tensors.items()
        }
        self.known: dict[str, Tensor] = {}
        self.made = {t: i for i, op in enumerate(workload.operations) for t in op.outputs}

    def extent(self, value: int, batched: bool) -> int | str:
        """A number, or a multiple of N."""
        batch = self.workload.batch
        if not batched or batch is None or value % batch:
            return value
        return "N" if value == batch else f"{value // batch}N"

    def shape(self, tensor: Tensor) -> list[int | str]:
        """A shape with its batch axis as N."""
        return [self.extent(e, i == tensor.batch_axis) for i, e in enumerate(tensor.shape)]

    def tensor(self, name: str) -> Fields:
        """The line of a tensor that is written out."""
        tensor = self.workload.tensors[name]
        fields: Fields = {"shape": self.shape(tensor), "role": tensor.role}
        if tensor.bits != self.bits:
            fields["bits"] = _number(tensor.bits)
        if tensor.density != 1.0:
            fields["density"] = tensor.density
        if tensor.pattern != "random":
            fields["pattern"] = tensor.pattern
        try:
            TensorLine.model_validate(fields)
        except ValidationError as error:
            raise InputError(
                f"cannot be written: {error.errors()[0]['msg']}",
                source=self.workload.name,
                field=name,
            ) from None
        return fields

    def lines(self) -> list[Fields]:
        """One line an operation, or for an operation and its bias."""
        lines, operations, position = [], self.workload.operations, 0
        while position < len(operations):
            line, taken = self.line(operations[position : position + 2])
            lines.append(line)
            position += taken
        for name in self.workload.tensors:
            if name not in self.known:
                self.explicit[name] = None
        return lines

    def line(self, operations: tuple[Operation, ...]) -> tuple[Fields, int]:
        """The first candidate that reads back as the operation(s)."""
        said = dict(operations[0].attributes) or None
        for model, fields, taken in self.candidates(operations):
            fields = {**fields, "attributes": said}
            fields = {key: value for key, value in fields.items() if value is not None}
            if self.read(model, fields, self.actual) == operations[:taken]:
                return self.declare(model, fields, operations[:taken]), taken
        raise InputError(
            "this operation cannot be written", source=self.workload.name, field=operations[0].name
        )

    def read(self, model: Any, fields: Fields, tensors: dict[str, Tensor]) -> Any:
        """What the reader makes of a line; None if it refuses. ``tensors`` is left alone."""
        reader = Reader(self.document)
        reader.tensors = dict(tensors)
        reader.made = dict(self.made)
        try:
            reader.read(model.model_validate(fields))
        except (ValidationError, InputError):
            return None
        self.read_tensors = reader.tensors
        return tuple(reader.operations)

    def declare(self, model: type, fields: Fields, operations: tuple[Operation, ...]) -> Fields:
        """Add the shape a line must say, and declare the tensors it does not imply rightly."""
        touched = [t for op in operations for t in (*op.inputs, *op.outputs)]
        target = operations[-1].outputs
        for name in touched:
            if self.read(model, fields, self.known) is not None:
                break
            if name not in self.known and name not in operations[0].outputs + target:
                self.say(name)
        single = self.actual[target[0]] if target else None
        if self.read(model, fields, self.known) is None or any(
            self.read_tensors.get(name) != self.actual[name] for name in target
        ):
            shaped = fields if single is None else {**fields, "shape": self.shape(single)}
            good = self.read(model, shaped, self.known) is not None
            if good and all(self.read_tensors.get(name) == self.actual[name] for name in target):
                fields = shaped
        result = self.read(model, fields, self.known)
        for name in touched:
            if name not in self.known and (
                result is None or self.read_tensors.get(name) != self.actual[name]
            ):
                self.say(name)
            self.known[name] = self.actual[name]
        return fields

    def say(self, name: str) -> None:
        """Write a tensor out."""
        self.explicit[name] = None
        self.known[name] = self.actual[name]

    # ---------------------------------------------------------------------------- candidates
    def candidates(self, operations: tuple[Operation, ...]) -> list[tuple[type, Fields, int]]:
        """Lines to try, the shortest form first."""
        op = operations[0]
        found: list[tuple[type, Fields, int]] = []
        if op.einsum is None:
            forms = (True,) if op.kind in PRODUCT_LINES else (False, True)
            return [(VectorLine, self.vector(op, full), 1) for full in forms]
        if len(op.outputs) == 1 and len(op.inputs) == 2:
            found += self.products(op, operations[1] if len(operations) > 1 else None)
        einsum: Fields = {
            **self.head(op),
            "ops": op.vector_ops or None,
            "fusable": op.fusable or None,
            "einsum": {
                "dims": dict(op.einsum.dims),
                "operands": [_access(access) for access in op.einsum.operands],
            },
        }
        return [*found, (EinsumLine, einsum, 1)]

    @staticmethod
    def head(op: Operation) -> Fields:
        """Name, kind, in and out of a line."""
        return {
            "name": op.name,
            "kind": op.kind,
            "in": op.inputs[0] if len(op.inputs) == 1 else list(op.inputs),
            "out": None if op.outputs == (op.name,) else _one_or_list(op.outputs),
        }

    def vector(self, op: Operation, full: bool) -> Fields:
        """A vector line; ``full`` says everything."""
        shapes = [self.actual[name].shape for name in op.inputs]
        target = self.actual[op.outputs[0]].shape if op.outputs else ()
        window = window_of(op.kind, shapes, target, op.vector_ops) or None if shapes else None
        fields = {**self.head(op), "window": window}
        if full:
            rest = {"ops": op.vector_ops, "fusable": op.fusable, "view": op.view}
            return {**fields, "window": None, **rest}
        return fields

    def products(self, op: Operation, after: Operation | None) -> list[tuple[type, Fields, int]]:
        """The conv, gemm and matmul lines of an einsum, with and without its bias."""
        made = self.product_fields(op)
        if made is None or op.einsum is None:
            return []
        model, body = made
        found: list[tuple[type, Fields, int]] = []
        target = op.outputs[0]
        head: Fields = {"name": op.name, "kind": op.kind}
        if model is MatmulLine:
            head["in"] = list(op.inputs)
        else:
            weight = op.inputs[1]
            head["in"] = op.inputs[0]
            head["weight"] = None if weight == f"{op.name}.weight" else weight
            if after and after.name == op.name + BIAS and target.endswith(BEFORE_BIAS):
                final = target.removesuffix(BEFORE_BIAS)
                bias = after.inputs[1] if len(after.inputs) == 2 else None
                named = {"bias": bias, "out": None if final == op.name else final}
                found.append((model, {**head, **named, **body}, 2))
        out = {"out": None if target == op.name else target}
        return [*found, (model, {**head, **out, **body}, 1)]

    def product_fields(self, op: Operation) -> tuple[type, Fields] | None:
        """The numbers of a conv, gemm or matmul line."""
        assert op.einsum is not None
        if op.kind in ("conv1d", "conv2d"):
            fields = conv_fields(op.einsum, int(op.kind[4]))
            return (ConvLine, fields) if fields else None
        numbers = matmul_fields(op.einsum) if op.kind in ("gemm", "matmul") else None
        if numbers is None:
            return None
        body: Fields = {name: numbers[name] for name in ("rows", "inner", "columns")}
        if op.kind == "gemm":
            batch = numbers.get("N")
            same = batch == (self.workload.batch or 1)
            rows = None if body["rows"] == 1 else body["rows"]
            return GemmLine, {**body, "rows": rows, "batch": None if same else batch}
        batched = self.actual[op.outputs[0]].batch_axis is not None
        return MatmulLine, {"groups": self.extent(numbers.get("G", 1), batched), **body}


def _one_or_list(names: tuple[str, ...]) -> str | list[str]:
    return names[0] if len(names) == 1 else list(names)


def _access(access: Access) -> str:
    """Write ``x[N, C, 2P+R]``."""
    ranks = (
        "+".join(f"{c if c != 1 else ''}{dim}" for dim, c in rank) or "0" for rank in access.ranks
    )
    return f"{access.tensor}[{', '.join(ranks)}]"
