"""What an ONNX handler sees of a node, and how it says what the node is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any, Literal

import numpy as np

from archsim.errors import InputError
from archsim.workload.builder import MAX_EXTENT, MAX_RANK, Builder
from archsim.workload.graph import Role

#: Constants up to this many elements are followed through shape arithmetic.
FOLD_ELEMENTS = 1 << 16

#: Storage bits by ONNX element type (onnx.proto, TensorProto.DataType).
BITS: dict[int, int] = {
    **{1: 32, 2: 8, 3: 8, 4: 16, 5: 16, 6: 32, 7: 64, 9: 8, 10: 16, 11: 64, 12: 32, 13: 64},
    **{14: 64, 15: 128, 16: 16, 17: 8, 18: 8, 19: 8, 20: 8, 21: 4, 22: 4, 23: 4, 24: 8},
    **{25: 2, 26: 2},
}
#: Element types that weights of a model have (floats and quantised integers of at most 16 bits).
WEIGHT_TYPES = frozenset({1, 2, 3, 4, 5, 10, 11, 16, 17, 18, 19, 20, 21, 22, 23, 25, 26})
INT64, FLOAT, BOOL = 7, 1, 9

Origin = Literal["graph", "weight", "constant"]


@dataclass(frozen=True)
class Value:
    """One value of the ONNX graph.

    Attributes:
        name: The workload tensor that holds it (a view of a weight is held by the weight).
        shape: Its extents.
        type: ONNX element type.
        origin: Computed at run time, a trained weight, or known before.
        array: Contents, where they are small and known.
    """

    name: str
    shape: tuple[int, ...]
    type: int = FLOAT
    origin: Origin = "graph"
    array: np.ndarray | None = None

    @property
    def bits(self) -> float:
        """Storage bits an element."""
        return BITS.get(self.type, 32)

    @property
    def elements(self) -> int:
        """Number of elements."""
        return prod(self.shape)


@dataclass
class Node:
    """One node, with its inputs resolved."""

    op: str
    name: str
    inputs: list[Value | None]
    outputs: list[str]
    attributes: dict[str, Any]
    opset: int

    def input(self, index: int) -> Value:
        """An input that must be there."""
        value = self.optional(index)
        if value is None:
            raise InputError(f"input {index} is missing")
        return value

    def optional(self, index: int) -> Value | None:
        """An input that may be left out."""
        return self.inputs[index] if index < len(self.inputs) else None

    @property
    def present(self) -> list[Value]:
        """All inputs that are there."""
        return [value for value in self.inputs if value is not None]

    def integer(self, name: str, default: int) -> int:
        """An integer attribute."""
        value = self.attributes.get(name, default)
        if not isinstance(value, int):
            raise InputError(f"attribute {name!r} must be an integer", found=value)
        return value

    def text(self, name: str, default: str) -> str:
        """A string attribute."""
        value = self.attributes.get(name, default)
        return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)

    def integers(self, name: str, default: Sequence[int] | None = None) -> list[int]:
        """A list-of-integers attribute.

        Raises:
            InputError: It is missing and has no default, or holds something else.
        """
        value = self.attributes.get(name, default)
        if value is None:
            raise InputError(f"attribute {name!r} is missing")
        listed = isinstance(value, (list, tuple)) and len(value) <= 4096
        if not listed or not all(isinstance(item, int) for item in value):
            raise InputError(f"attribute {name!r} must be a list of integers", found=value)
        return list(value)

    def known(self, index: int) -> np.ndarray | None:
        """Contents of an input that must be known before the run; None if it is left out."""
        value = self.optional(index)
        if value is None:
            return None
        if value.array is None:
            raise InputError(
                f"input {index} ({value.name!r}) must be a constant: shapes cannot depend on data"
            )
        return value.array

    def numbers(self, name: str, index: int) -> list[int] | None:
        """Integers given by attribute (older operator sets) or constant input (newer ones)."""
        if name in self.attributes:
            return self.integers(name)
        array = self.known(index)
        return None if array is None else [int(item) for item in np.ravel(array)]


@dataclass
class Context:
    """Takes what the handlers say.

    Attributes:
        builder: Collects the operations.
        batch: Batch the graph is built for.
        fixed_batch: Batch the file was written for, if it is being changed; else None.
        values: Every value known so far, by ONNX name.
        roots: Own shape of every constant, by the tensor that holds it.
        stored: Names of the constants stored in the file.
        dry: True while only the outputs' shapes are wanted.
    """

    builder: Builder
    batch: int = 1
    fixed_batch: int | None = None
    values: dict[str, Value] = field(default_factory=dict)
    roots: dict[str, tuple[int, ...]] = field(default_factory=dict)
    stored: set[str] = field(default_factory=set)
    dry: bool = False

    def result(
        self,
        node: Node,
        shape: Sequence[int],
        index: int = 0,
        type: int | None = None,
        array: np.ndarray | None = None,
    ) -> str:
        """Name the shape of an output; returns the tensor that holds it."""
        if type is None:
            type = node.present[0].type if node.present else FLOAT
        if len(shape) > MAX_RANK or any(not 0 <= extent <= MAX_EXTENT for extent in shape):
            raise InputError("impossible output shape", found=tuple(shape))
        if index >= len(node.outputs) or not node.outputs[index]:
            return ""
        name = node.outputs[index]
        origin: Origin = "graph" if array is None else "constant"
        self.values[name] = Value(name, tuple(int(e) for e in shape), type, origin, array)
        if not self.dry and array is None:
            self.builder.tensor(name, self.values[name].shape, self.values[name].bits)
        return name

    def alias(self, node: Node, value: Value, shape: Sequence[int]) -> None:
        """An output that is a constant input seen in another shape."""
        array = None if value.array is None else value.array.reshape(shape)
        self.values[node.outputs[0]] = Value(
            value.name, tuple(shape), value.type, value.origin, array
        )

    def read(self, value: Value, role: Role | None = None) -> str:
        """Register a tensor an operation reads; constants get their role from where they come."""
        if value.origin == "graph":
            return value.name
        if role is None:
            role = "weight" if value.origin == "weight" and value.shape else "constant"
        shape = self.roots.get(value.name, value.shape)
        return self.builder.tensor(value.name, shape, value.bits, role)

    def vector(
        self,
        node: Node,
        kind: str,
        shape: Sequence[int],
        inputs: Sequence[Value] | None = None,
        window: int | None = None,
        type: int | None = None,
    ) -> None:
        """Say that the node is one vector operation, data movement or view."""
        output = self.result(node, shape, type=type)
        if not self.dry and output:
            read = [self.read(value) for value in (node.present if inputs is None else inputs)]
            self.builder.vector(node.name, kind, read, (output,), window)

    def emit(self, method: Callable[..., None], *args: Any, **options: Any) -> None:
        """Call a builder's method, unless only shapes are wanted."""
        if not self.dry:
            method(*args, **options)


Handler = Callable[[Context, Node], None]


class Registry(dict[str, Handler]):
    """Handlers by operator type."""

    def on(self, *names: str) -> Callable[[Handler], Handler]:
        """Register a handler for these operators."""

        def take(handler: Handler) -> Handler:
            for name in names:
                self[name] = handler
            return handler

        return take


def axis_of(axis: int, rank: int) -> int:
    """A non-negative axis.

    Raises:
        InputError: The axis does not exist.
    """
    if not -rank <= axis < max(rank, 1):
        raise InputError("no such axis", found=axis, expected=f"-{rank}..{rank - 1}")
    return axis % rank if rank else 0


def spatial(node: Node, name: str, rank: int, default: int = 1) -> list[int]:
    """A per-axis attribute of a window operator."""
    values = node.integers(name, [default] * rank)
    if len(values) != rank or any(not 0 <= value <= MAX_EXTENT for value in values):
        raise InputError(f"attribute {name!r} must have {rank} entries", found=values)
    return values
