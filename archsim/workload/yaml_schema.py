"""The fields of a workload file, validated: what may be written, and its limits."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    Discriminator,
    Field,
    StrictBool,
    StrictFloat,
    StrictInt,
    Tag,
)

from archsim.inputs import Strict
from archsim.workload.builder import MAX_EXTENT, MAX_OPERATIONS, MAX_RANK

Name = Annotated[str, Field(strict=True, min_length=1, max_length=512)]
Count = Annotated[StrictInt, Field(ge=1, le=MAX_EXTENT)]

_SYMBOLIC = re.compile(r"[1-9][0-9]{0,14}N|N")


def _extent(value: int | str) -> int | str:
    if isinstance(value, str) and not _SYMBOLIC.fullmatch(value):
        raise ValueError("an extent is a positive integer, N (the batch) or a multiple such as 12N")
    if isinstance(value, int) and not 1 <= value <= MAX_EXTENT:
        raise ValueError(f"an extent lies in 1..{MAX_EXTENT}")
    return value


#: A number, or a multiple of the batch: ``64``, ``N``, ``12N``.
Extent = Annotated[
    StrictInt | Annotated[str, Field(strict=True, max_length=16)], AfterValidator(_extent)
]
Shape = Annotated[list[Extent], Field(max_length=MAX_RANK)]
Axes = Count | Annotated[list[Count], Field(min_length=1, max_length=3)]
Names = Name | Annotated[list[Name], Field(max_length=10_000)]
Bits = Annotated[float, Field(gt=0, le=1024)]


class TensorLine(Strict):
    """A tensor that no operation line implies.

    Attributes:
        shape: Extents; ``N`` or ``12N`` marks the axis that grows with the batch.
        role: What the tensor is to the model.
        bits: Bits an element, where they differ from the header's.
        density: Fraction of elements that are not zero; default all, or what the pattern says.
        pattern: Where they are: ``random``, ``structured``, ``2:4`` or ``band 8``.
    """

    shape: Shape
    role: Literal["input", "weight", "activation", "output", "kv_cache", "constant"] = "weight"
    bits: Bits | None = None
    density: Annotated[float, Field(gt=0, le=1)] | None = None
    pattern: Annotated[str, Field(strict=True, max_length=32)] = "random"

    @property
    def share(self) -> float:
        """The density, or what an N:M pattern says where none is written."""
        if self.density is not None:
            return self.density
        n, _, m = self.pattern.partition(":")
        return int(n) / int(m) if n.isdecimal() and m.isdecimal() and int(m) else 1.0


#: What an attribute of an operation may be.
AttributeValue = StrictInt | StrictFloat | Annotated[str, Field(strict=True, max_length=512)]


class _Line(Strict):
    """What all operation lines have: ``out`` is the operation's own name if left out."""

    name: Name
    kind: Name
    out: Names | None = None
    shape: Shape | None = None
    attributes: Annotated[dict[Name, AttributeValue], Field(max_length=64)] | None = None


class ConvLine(_Line):
    """A convolution: weight ``[out, in / groups, *kernel]`` and bias ``[out]`` are implied.

    Attributes:
        input: Tensor read, written ``in``.
        weight: Name of the weight; ``NAME.weight`` if left out.
        bias: Name of the bias, where one is added.
        channels: Input and output channels, both in all groups together.
        kernel: Filter extent(s); one number for a square.
        stride: Step(s) of the output position.
        dilation: Step(s) of the filter position.
        groups: Number of groups; the channel count makes it depthwise.
        size: Output rows and columns (padding is already in them).
    """

    kind: Literal["conv1d", "conv2d"]
    input: Name = Field(alias="in")
    out: Name | None = None
    weight: Name | None = None
    bias: Name | None = None
    channels: Annotated[list[Count], Field(min_length=2, max_length=2)]
    kernel: Axes
    stride: Axes = 1
    dilation: Axes = 1
    groups: Count = 1
    size: Axes


class GemmLine(_Line):
    """Rows of activations times one weight ``[columns, inner]``, which is implied.

    Attributes:
        input: Tensor read, written ``in``.
        weight: Name of the weight; ``NAME.weight`` if left out.
        bias: Name of the bias, where one is added.
        rows: Rows for one sample of the batch.
        inner: Length of the sums.
        columns: Columns of the output.
    """

    kind: Literal["gemm"]
    input: Name = Field(alias="in")
    out: Name | None = None
    weight: Name | None = None
    bias: Name | None = None
    rows: Count = 1
    inner: Count
    columns: Count
    batch: Count | None = None


class MatmulLine(_Line):
    """Independent products of two activations, e.g. attention: one for each head and sample.

    Attributes:
        input: The two tensors read, written ``in``.
        groups: Number of independent products, e.g. ``12N``.
        rows: Rows of the first operand and the output.
        inner: Length of the sums.
        columns: Columns of the second operand and the output.
    """

    kind: Literal["matmul"]
    input: Annotated[list[Name], Field(min_length=2, max_length=2, alias="in")]
    out: Name | None = None
    groups: Extent = 1
    rows: Count
    inner: Count
    columns: Count


class EinsumForm(Strict):
    """A general loop nest.

    Attributes:
        dims: Extent of every dimension, at the header's batch.
        operands: Data, weight and output, e.g. ``x[N, C, 2P+R]``.
    """

    dims: Annotated[dict[Name, Count], Field(max_length=64)]
    operands: Annotated[
        list[Annotated[str, Field(strict=True, max_length=4096)]], Field(min_length=3, max_length=3)
    ]


class EinsumLine(_Line):
    """An operation with its loop nest written out (``ops`` counts what it does beside)."""

    input: Names = Field(alias="in")
    einsum: EinsumForm
    ops: Annotated[StrictInt, Field(ge=0, le=1 << 62)] = 0
    fusable: StrictBool = False


class VectorLine(_Line):
    """A vector operation, data movement or view.

    Attributes:
        input: Tensors read, written ``in``; the first is the data.
        window: Elements read for one element of the output (pools: kernel area).
        ops: Scalar operations at the header's batch, where the kind's own rule does not hold.
        fusable: Where it differs from the kind's own rule.
        view: Where it differs from the kind's own rule.
    """

    input: Names = Field(alias="in")
    window: Count | None = None
    ops: Annotated[StrictInt, Field(ge=0, le=1 << 62)] | None = None
    fusable: StrictBool | None = None
    view: StrictBool | None = None


#: Kinds that have a line of their own.
PRODUCT_LINES = {"conv1d": "conv", "conv2d": "conv", "gemm": "gemm", "matmul": "matmul"}


def _tag(data: Any) -> str:
    if isinstance(data, dict):
        if "einsum" in data:
            return "einsum"
        if "view" in data:  # all of a vector line is spelled out, whatever its kind is called
            return "vector"
        kind = data.get("kind")
    else:
        kind = getattr(data, "kind", None)
    return PRODUCT_LINES.get(kind, "vector") if isinstance(kind, str) else "vector"


Line = Annotated[
    Annotated[ConvLine, Tag("conv")]
    | Annotated[GemmLine, Tag("gemm")]
    | Annotated[MatmulLine, Tag("matmul")]
    | Annotated[EinsumLine, Tag("einsum")]
    | Annotated[VectorLine, Tag("vector")],
    Discriminator(_tag),
]


class BlockLine(Strict):
    """Neighbouring operations that stand for several equal copies in a chain, such as layers.

    Attributes:
        name: Name of the block; an operation ``NAME.rest`` of copy 3 is ``NAME.3.rest``.
        count: Number of copies.
        first: Name of the first operation.
        last: Name of the last operation.
        carried: What a copy reads: what the copy before it wrote.
        shared: Weights and constants that all copies have in common.
        start: Index of the first copy.
    """

    name: Name
    count: Annotated[StrictInt, Field(ge=1, le=1_000_000)]
    first: Name
    last: Name
    carried: dict[Name, Name] = Field(default_factory=dict)
    shared: list[Name] = Field(default_factory=list)
    start: Annotated[StrictInt, Field(ge=0, le=1_000_000)] = 0


class Document(Strict):
    """A workload file.

    Attributes:
        name: Short name.
        source: Where the graph comes from.
        licence: Licence of that source.
        bits: Bits an element of every tensor that says nothing else.
        batch: What ``N`` is when nothing else is asked for; without it nothing may be ``N``.
        tensors: Tensors that no operation implies (inputs, embeddings, ...).
        operations: In an order that respects their dependences.
        outputs: Tensors that are results of the graph.
        blocks: Stretches of operations that stand for several copies.
    """

    name: Name
    source: Annotated[str, Field(strict=True, max_length=10_000)] = ""
    licence: Annotated[str, Field(strict=True, max_length=10_000)] = ""
    bits: Bits = 32.0
    batch: Annotated[StrictInt, Field(ge=1, le=1 << 20)] | None = None
    tensors: dict[Name, TensorLine] = Field(default_factory=dict)
    operations: Annotated[list[Line], Field(max_length=MAX_OPERATIONS)]
    outputs: list[Name] = Field(default_factory=list)
    blocks: Annotated[list[BlockLine], Field(max_length=1000)] = Field(default_factory=list)
