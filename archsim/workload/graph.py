"""What is computed: tensors, operations and the graph they form.

An operation is either an *einsum* (convolution, GEMM, batched matmul: a nest of loops around one
multiply-accumulate) or a *vector* operation (elementwise, softmax, norm, pooling, gather, copies:
a count of scalar operations and the bytes it touches). Both are one class, so a graph is one list.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import TYPE_CHECKING, Any, Literal

from archsim.errors import InputError

if TYPE_CHECKING:
    import networkx as nx

_PATTERN = re.compile(
    r"random|structured|band \d{1,9}|block [1-9]\d{0,4}x[1-9]\d{0,4}"
    r"|(?P<n>\d{1,4}):(?P<m>[1-9]\d{0,3})"
)

Role = Literal["input", "weight", "activation", "output", "kv_cache", "constant"]
ROLES: tuple[str, ...] = ("input", "weight", "activation", "output", "kv_cache", "constant")

#: Canonical iteration dimensions. Dataflow templates refer to these names: batch, group (or
#: independent matmul), output channel / column, input channel / reduction, output row / token,
#: output column, filter row, filter column.
CANONICAL_DIMS = ("N", "G", "M", "C", "P", "Q", "R", "S")

#: Roles of tensors nobody writes of which every copy of a block has its own.
PER_COPY = ("weight", "kv_cache")

#: What an operation may say beside its extents.
Attribute = int | float | str

#: One rank of an affine projection: ((dimension, coefficient), ...), e.g. (("P", 2), ("R", 1)).
Rank = tuple[tuple[str, int], ...]


@dataclass(frozen=True)
class Tensor:
    """A value flowing along the graph.

    Attributes:
        name: Unique within the workload.
        shape: Extents, all positive.
        bits: Storage bits per element; may be fractional (4.0625 with group metadata).
        role: What the tensor is to the model.
        density: Fraction of non-zero elements, in (0, 1].
        batch_axis: The axis whose extent is a multiple of the batch, None where there is none.
        pattern: Where the non-zeros are: ``random`` (anywhere), ``structured`` (every tile holds
            its share), ``N:M`` (N of every M along the reduction), ``block RxC`` (zero or not in
            blocks of R by C along the reduction) or ``band W`` (a matrix, at most W off the
            diagonal).
    """

    name: str
    shape: tuple[int, ...]
    bits: float = 32.0
    role: Role = "activation"
    density: float = 1.0
    batch_axis: int | None = None
    pattern: str = "random"

    def __post_init__(self) -> None:
        self._check_pattern()
        if any(extent < 1 for extent in self.shape):
            raise InputError("tensor extents must be positive", field=self.name, found=self.shape)
        if not 0 < self.bits <= 1024:
            raise InputError("tensor bits must lie in (0, 1024]", field=self.name, found=self.bits)
        if not 0 < self.density <= 1:
            raise InputError("density must lie in (0, 1]", field=self.name, found=self.density)
        if self.role not in ROLES:
            raise InputError("unknown tensor role", field=self.name, found=self.role)
        if self.batch_axis is not None and not 0 <= self.batch_axis < len(self.shape):
            raise InputError("no such batch axis", field=self.name, found=self.batch_axis)

    def _check_pattern(self) -> None:
        """Refuse a pattern that is none, or that another density belongs to."""
        match = _PATTERN.fullmatch(self.pattern)
        if match is None:
            raise InputError(
                "unknown pattern of non-zeros",
                field=self.name,
                found=self.pattern,
                expected="random, structured, N:M such as 2:4, 'block RxC' or 'band W'",
            )
        if match["n"]:
            n, m = int(match["n"]), int(match["m"])
            if not 1 <= n <= m or abs(self.density - n / m) > 1e-9:
                raise InputError(
                    f"the density of pattern {self.pattern} must be N/M",
                    field=self.name,
                    found=self.density,
                )

    @property
    def elements(self) -> int:
        """Number of elements (1 for a scalar)."""
        return prod(self.shape)

    @property
    def size_bytes(self) -> float:
        """Storage in bytes."""
        return self.elements * self.bits / 8


@dataclass(frozen=True)
class Access:
    """How an einsum touches one tensor: each rank an affine projection of the dimensions.

    Attributes:
        tensor: Name of the tensor.
        ranks: One entry a rank, e.g. ``((("N", 1),), (("P", 2), ("R", 1)))``.
    """

    tensor: str
    ranks: tuple[Rank, ...]


@dataclass(frozen=True)
class Einsum:
    """A perfect loop nest around one multiply-accumulate.

    Attributes:
        dims: ``(name, extent)`` of every iteration dimension, canonical names where they apply.
        operands: Exactly three accesses: data (input), weight (the second factor), output.
    """

    dims: tuple[tuple[str, int], ...]
    operands: tuple[Access, Access, Access]

    def __post_init__(self) -> None:
        names = [name for name, _ in self.dims]
        if len(set(names)) != len(names):
            raise InputError("einsum dimension named twice", found=names)
        if any(extent < 1 for _, extent in self.dims):
            raise InputError("einsum extents must be positive", found=dict(self.dims))
        known = set(names)
        for access in self.operands:
            for rank in access.ranks:
                for dim, coefficient in rank:
                    if dim not in known:
                        raise InputError(
                            f"projection of {access.tensor!r} uses unknown dimension {dim!r}"
                        )
                    if coefficient < 1:
                        raise InputError(
                            "projection coefficients must be positive", found=coefficient
                        )

    @property
    def macs(self) -> int:
        """Multiply-accumulates: the product of all extents."""
        return prod(extent for _, extent in self.dims)

    @property
    def extents(self) -> dict[str, int]:
        """Extent by dimension name."""
        return dict(self.dims)


@dataclass(frozen=True)
class Operation:
    """One node of the graph.

    Attributes:
        name: Unique within the workload.
        kind: What it is, lower case: ``conv2d``, ``gemm``, ``matmul``, ``relu``, ``softmax`` ...
        inputs: Names of the tensors read.
        outputs: Names of the tensors written.
        einsum: The loop nest, for operations made of multiply-accumulates.
        vector_ops: Scalar operations, for vector operations (0 for pure data movement).
        view: True if nothing moves and nothing is computed (reshape, flatten, identity).
        fusable: True if a vector operation can be applied to its first input as it is produced,
            element by element (activation, folded normalisation, scaling, residual add).
        attributes: ``(name, value)`` facts that extents do not say and an engine may use, e.g.
            ``kernel`` (operations of one name may run as one kernel), ``heads``, ``window``.
    """

    name: str
    kind: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    einsum: Einsum | None = None
    vector_ops: int = 0
    view: bool = False
    fusable: bool = False
    attributes: tuple[tuple[str, Attribute], ...] = ()

    def __post_init__(self) -> None:
        if self.vector_ops < 0:
            raise InputError("vector_ops must not be negative", field=self.name)
        if len({name for name, _ in self.attributes}) != len(self.attributes):
            raise InputError("attribute named twice", field=self.name)
        if self.view and (self.einsum is not None or self.vector_ops):
            raise InputError("a view cannot compute", field=self.name)

    @property
    def macs(self) -> int:
        """Multiply-accumulates (0 for vector operations)."""
        return self.einsum.macs if self.einsum else 0

    def attribute(self, name: str, otherwise: Any = None) -> Any:
        """Value of an attribute, or ``otherwise`` where it is not given."""
        return dict(self.attributes).get(name, otherwise)


@dataclass(frozen=True)
class Block:
    """Neighbouring operations that stand for several equal copies in a chain, such as layers.

    Weights, caches and values that only operations of the block touch exist once a copy; what is
    listed in ``carried`` or ``shared``, or is made outside, does not. ``archsim.workload.fold``
    writes the copies out.

    Attributes:
        name: Unique within the workload; copies are named ``NAME.INDEX``.
        count: Number of copies.
        first: Name of the first operation.
        last: Name of the last operation.
        carried: ``(read, written)`` tensors of equal shape: what one copy writes, the next reads.
        shared: Weights and constants that all copies have in common.
        start: Index of the first copy.
    """

    name: str
    count: int
    first: str
    last: str
    carried: tuple[tuple[str, str], ...] = ()
    shared: tuple[str, ...] = ()
    start: int = 0

    def __post_init__(self) -> None:
        if self.count < 1 or self.start < 0:
            raise InputError("a block needs a copy", field=self.name, found=self.count)


@dataclass(frozen=True)
class Workload:
    """A graph of operations over tensors, in an order that respects their dependences.

    Attributes:
        name: Short name, e.g. ``resnet50``.
        tensors: Every tensor by name.
        operations: Topologically ordered.
        source: Where it came from (file, model card, paper).
        licence: Licence of the source.
        batch: The batch the extents are written for; None if the graph knows no batch and so
            cannot be rescaled (see ``archsim.workload.batch.rebatch``).
        blocks: Stretches of operations that stand for several copies, in order. Everything that
            counts (``macs``, ``parameters``, a summary) counts every copy.
    """

    name: str
    tensors: Mapping[str, Tensor]
    operations: tuple[Operation, ...]
    source: str = ""
    licence: str = ""
    batch: int | None = None
    blocks: tuple[Block, ...] = ()

    def __post_init__(self) -> None:
        if self.batch is not None and self.batch < 1:
            raise InputError("batch must be positive", source=self.name, found=self.batch)
        for declared in self.tensors.values():
            axis = declared.batch_axis
            if axis is not None and (self.batch is None or declared.shape[axis] % self.batch):
                raise InputError(
                    "the batch axis must be a multiple of the workload's batch",
                    source=self.name,
                    field=declared.name,
                    found=declared.shape,
                )
        produced: set[str] = set()
        names: set[str] = set()
        writers: dict[str, str] = {}
        for operation in self.operations:
            if operation.name in names:
                raise InputError("operation named twice", source=self.name, field=operation.name)
            names.add(operation.name)
            for tensor in (*operation.inputs, *operation.outputs):
                if tensor not in self.tensors:
                    raise InputError(
                        f"tensor {tensor!r} is not declared",
                        source=self.name,
                        field=operation.name,
                    )
            for tensor in operation.outputs:
                if tensor in writers:
                    raise InputError(
                        f"tensor {tensor!r} is written by {writers[tensor]!r} already",
                        source=self.name,
                        field=operation.name,
                    )
                writers[tensor] = operation.name
        for operation in self.operations:
            for tensor in operation.inputs:
                if tensor in writers and tensor not in produced:
                    raise InputError(
                        f"reads {tensor!r} before it is written (not in topological order)",
                        source=self.name,
                        field=operation.name,
                    )
            produced.update(operation.outputs)
        self._check_blocks()

    def _check_blocks(self) -> None:
        place = {operation.name: i for i, operation in enumerate(self.operations)}
        end = -1
        for block in self.blocks:
            where = f"blocks.{block.name}"
            for name in (block.first, block.last):
                if name not in place:
                    raise InputError("no such operation", source=self.name, field=where, found=name)
            if not end < place[block.first] <= place[block.last]:
                raise InputError("blocks overlap or run backwards", source=self.name, field=where)
            end = place[block.last]
            inside = self.operations[place[block.first] : end + 1]
            written = {tensor for operation in inside for tensor in operation.outputs}
            for before, after in block.carried:
                known = before in self.tensors and after in written and before not in written
                if not known or self.tensors[before].shape != self.tensors[after].shape:
                    raise InputError(
                        "carries what is not of one shape, made outside and made inside",
                        source=self.name,
                        field=where,
                        found=(before, after),
                    )
        if len({block.name for block in self.blocks}) != len(self.blocks):
            raise InputError("block named twice", source=self.name, field="blocks")

    @cached_property
    def copies(self) -> dict[str, int]:
        """How many copies each operation stands for."""
        times = {operation.name: 1 for operation in self.operations}
        names = list(times)
        for block in self.blocks:
            for name in names[names.index(block.first) : names.index(block.last) + 1]:
                times[name] = block.count
        return times

    @cached_property
    def tensor_copies(self) -> dict[str, int]:
        """How many copies each tensor stands for: those of the one block that alone touches it."""
        times = dict.fromkeys(self.tensors, 1)
        users: dict[str, set[int]] = {}
        home: dict[str, int] = {}
        names = [operation.name for operation in self.operations]
        for index, block in enumerate(self.blocks):
            stretch = names[names.index(block.first) : names.index(block.last) + 1]
            home.update(dict.fromkeys(stretch, index))
        for operation in self.operations:
            for tensor in (*operation.inputs, *operation.outputs):
                users.setdefault(tensor, set()).add(home.get(operation.name, -1))
        for tensor, where in users.items():
            made = home.get(self.producers[tensor], -1) if tensor in self.producers else None
            index = made if made is not None else next(iter(where)) if len(where) == 1 else -1
            if index < 0:
                continue
            block = self.blocks[index]
            outer = {before for before, _ in block.carried} | set(block.shared)
            per_copy = made is not None or self.tensors[tensor].role in PER_COPY
            if tensor not in outer and per_copy:
                times[tensor] = block.count
        return times

    @property
    def macs(self) -> int:
        """Multiply-accumulates of the whole graph, all copies of its blocks."""
        if not self.blocks:
            return sum(operation.macs for operation in self.operations)
        return sum(operation.macs * self.copies[operation.name] for operation in self.operations)

    @property
    def parameters(self) -> int:
        """Elements of all weight tensors, all copies of the blocks."""
        weights = [t for t in self.tensors.values() if t.role == "weight"]
        if not self.blocks:
            return sum(t.elements for t in weights)
        return sum(t.elements * self.tensor_copies[t.name] for t in weights)

    @cached_property
    def producers(self) -> dict[str, str]:
        """Name of the operation that writes each tensor that is written."""
        return {t: op.name for op in self.operations for t in op.outputs}

    def graph(self) -> nx.DiGraph:
        """The dependence graph: operations as nodes, tensors on edges."""
        import networkx as nx

        graph = nx.DiGraph()
        graph.add_nodes_from((op.name, {"operation": op}) for op in self.operations)
        for op in self.operations:
            for tensor in op.inputs:
                if tensor in self.producers:
                    graph.add_edge(self.producers[tensor], op.name, tensor=tensor)
        return graph


def _simple(names: Iterable[str]) -> tuple[Rank, ...]:
    return tuple(((name, 1),) for name in names)


def conv2d_einsum(
    data: str,
    weight: str,
    output: str,
    *,
    batch: int,
    groups: int,
    out_channels: int,
    in_channels: int,
    out_size: tuple[int, int],
    kernel: tuple[int, int],
    stride: tuple[int, int] = (1, 1),
    dilation: tuple[int, int] = (1, 1),
) -> Einsum:
    """Loop nest of a (grouped, strided, dilated) 2-D convolution.

    Args:
        data: Input tensor name.
        weight: Weight tensor name.
        output: Output tensor name.
        batch: Batch size, dimension ``N``.
        groups: Number of groups, dimension ``G`` (depthwise: the channel count).
        out_channels: Output channels **in all**; ``M`` is this divided by ``groups``.
        in_channels: Input channels **in all**; ``C`` is this divided by ``groups``.
        out_size: Output rows ``P`` and columns ``Q`` (padding is already in them).
        kernel: Filter rows ``R`` and columns ``S``.
        stride: Step of the output position, rows and columns.
        dilation: Step of the filter position, rows and columns.
    """
    dims = (
        ("N", batch),
        ("G", groups),
        ("M", out_channels // groups),
        ("C", in_channels // groups),
        ("P", out_size[0]),
        ("Q", out_size[1]),
        ("R", kernel[0]),
        ("S", kernel[1]),
    )
    window = (
        (("P", stride[0]), ("R", dilation[0])),
        (("Q", stride[1]), ("S", dilation[1])),
    )
    return Einsum(
        dims,
        (
            Access(data, (*_simple("NGC"), *window)),
            Access(weight, _simple("GMCRS")),
            Access(output, _simple("NGMPQ")),
        ),
    )


def matmul_einsum(
    data: str,
    weight: str,
    output: str,
    *,
    rows: int,
    inner: int,
    columns: int,
    batch: int = 1,
    shared_weight: bool = True,
) -> Einsum:
    """Loop nest of ``out[b, rows, columns] += data[b, rows, inner] * weight[(b,) inner, columns]``.

    Rows are dimension ``P``, columns ``M``, the reduction ``C``. A batch that shares one weight
    matrix is ``N``; independent products (attention heads) are ``G``.
    """
    name = "N" if shared_weight else "G"
    dims = ((name, batch), ("M", columns), ("C", inner), ("P", rows))
    second = _simple("CM") if shared_weight else _simple("GCM")
    return Einsum(
        dims,
        (
            Access(data, _simple((name, "P", "C"))),
            Access(weight, second),
            Access(output, _simple((name, "P", "M"))),
        ),
    )
