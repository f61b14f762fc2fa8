"""Putting a graph together: what importers and the YAML form call to emit operations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import prod

from archsim.errors import InputError
from archsim.workload.graph import (
    Access,
    Einsum,
    Operation,
    Role,
    Tensor,
    Workload,
    conv2d_einsum,
    matmul_einsum,
)
from archsim.workload.operators import (
    COMMUTATIVE,
    VECTOR_KINDS,
    broadcast,
    is_fusable,
    vector_ops,
)

#: Largest extent, rank and count of operations an import accepts: beyond them a file is broken.
MAX_EXTENT, MAX_RANK, MAX_OPERATIONS = 1 << 48, 16, 200_000

#: Suffixes of what a bias adds to a graph: the sum before it, and the operation that adds it.
BEFORE_BIAS, BIAS = ".sum", ".bias"


class Builder:
    """Collects tensors and operations and makes a ``Workload`` of them.

    Args:
        name: Name of the workload.
        batch: Batch the graph is built for; splits the rows of a matrix product into ``N`` and
            ``P`` where they are a multiple of it.
    """

    def __init__(self, name: str, batch: int = 1) -> None:
        self.name = name
        self.batch = batch
        self.tensors: dict[str, Tensor] = {}
        self.operations: list[Operation] = []
        self._names: set[str] = set()
        self._made: dict[str, int] = {}

    # ------------------------------------------------------------------------------- tensors
    def tensor(
        self, name: str, shape: Sequence[int], bits: float = 32.0, role: Role = "activation"
    ) -> str:
        """Declare a tensor (once; a later mention as weight turns a constant into a weight)."""
        known = self.tensors.get(name)
        if known is None:
            if len(shape) > MAX_RANK or any(not 1 <= extent <= MAX_EXTENT for extent in shape):
                raise InputError(
                    f"extents must lie in 1..{MAX_EXTENT}, rank at most {MAX_RANK}",
                    source=self.name,
                    field=name,
                    found=tuple(shape),
                )
            self.tensors[name] = Tensor(name, tuple(shape), bits, role)
        elif role == "weight" and known.role == "constant":
            self.tensors[name] = replace(known, role=role)
        return name

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of a declared tensor."""
        return self.tensors[name].shape

    def add(self, operation: Operation) -> None:
        """Append an operation, under a name of its own."""
        if len(self.operations) >= MAX_OPERATIONS:
            raise InputError(f"more than {MAX_OPERATIONS} operations", source=self.name)
        name, count = operation.name, 1
        while name in self._names:
            count += 1
            name = f"{operation.name}_{count}"
        self._names.add(name)
        self._made.update(dict.fromkeys(operation.outputs, len(self.operations)))
        self.operations.append(replace(operation, name=name))

    # ---------------------------------------------------------------------------- operations
    def vector(
        self,
        name: str,
        kind: str,
        inputs: Sequence[str],
        outputs: Sequence[str],
        window: int | None = None,
    ) -> None:
        """Append a vector operation, data movement or view costed by its kind.

        Operands that may change places are put with the full-shaped one made last in front, as it
        is the one at whose making the operation can be applied.
        """
        target = self.shape(outputs[0])
        if kind in COMMUTATIVE and len(inputs) > 1:
            inputs = sorted(
                inputs,
                key=lambda t: self._made.get(t, -1) if self.shape(t) == target else -2,
                reverse=True,
            )
        shapes = [self.shape(tensor) for tensor in inputs]
        self.add(
            Operation(
                name,
                kind,
                tuple(inputs),
                tuple(outputs),
                vector_ops=vector_ops(kind, shapes, target, window),
                view=VECTOR_KINDS[kind].view,
                fusable=is_fusable(kind, shapes, target, [self._made.get(t, -1) for t in inputs]),
            )
        )

    def _with_bias(self, name: str, output: str, bias: str | None) -> str:
        """Declare the sum a bias is added to; the product is written there."""
        if bias is None:
            return output
        target = self.tensors[output]
        return self.tensor(output + BEFORE_BIAS, target.shape, target.bits)

    def _add_bias(self, name: str, output: str, bias: str | None) -> None:
        if bias is not None:
            self.vector(name + BIAS, "bias_add", (output + BEFORE_BIAS, bias), (output,))

    def conv(
        self,
        name: str,
        data: str,
        weight: str,
        output: str,
        *,
        stride: Sequence[int],
        dilation: Sequence[int],
        groups: int = 1,
        bias: str | None = None,
    ) -> None:
        """Append a convolution of any spatial rank from 1 to 3, and the bias it adds."""
        in_shape, kernel = self.shape(data), self.shape(weight)
        rank = len(kernel) - 2
        if groups < 1 or in_shape[1] != kernel[1] * groups or kernel[0] % groups:
            raise InputError(
                "channels, groups and weight do not fit",
                field=name,
                found={"input": in_shape, "weight": kernel, "groups": groups},
            )
        target = self._with_bias(name, output, bias)
        einsum = conv_einsum(
            data,
            weight,
            target,
            batch=in_shape[0],
            groups=groups,
            channels=(in_shape[1], kernel[0]),
            kernel=kernel[2:],
            size=self.shape(output)[2:],
            stride=stride,
            dilation=dilation,
        )
        self.add(Operation(name, f"conv{rank}d", (data, weight), (target,), einsum))
        self._add_bias(name, output, bias)

    def conv_transpose(
        self,
        name: str,
        data: str,
        weight: str,
        output: str,
        *,
        stride: Sequence[int],
        dilation: Sequence[int],
        groups: int = 1,
        bias: str | None = None,
    ) -> None:
        """Append a transposed convolution: each input pixel adds a patch to the output.

        Patches that do not overlap (kernel equal to stride) are a pointwise convolution with
        ``M`` = channels x patch; otherwise the *output* is read through a window.
        """
        in_shape, kernel = self.shape(data), self.shape(weight)
        if groups < 1 or in_shape[1] != kernel[0] or kernel[0] % groups:
            raise InputError(
                "channels, groups and weight do not fit",
                field=name,
                found={"input": in_shape, "weight": kernel, "groups": groups},
            )
        target = self._with_bias(name, output, bias)
        rank, patch = len(kernel) - 2, kernel[2:]
        apart = tuple(stride) == patch and all(step == 1 for step in dilation)
        forward = conv_einsum(
            data,
            weight,
            target,
            batch=in_shape[0],
            groups=groups,
            channels=(in_shape[1], kernel[1] * groups * (prod(patch) if apart else 1)),
            kernel=(1,) * rank if apart else patch,
            size=in_shape[2:],
            stride=(1,) * rank if apart else stride,
            dilation=(1,) * rank if apart else dilation,
        )
        if not apart:
            # Input pixels are the positions and the window slides over the output instead.
            read, held, written = forward.operands
            forward = Einsum(
                forward.dims,
                (
                    Access(data, (*read.ranks[:3], *written.ranks[3:])),
                    held,
                    Access(target, (*written.ranks[:3], *read.ranks[3:])),
                ),
            )
        self.add(Operation(name, f"conv_transpose{rank}d", (data, weight), (target,), forward))
        self._add_bias(name, output, bias)

    def linear(
        self,
        name: str,
        data: str,
        weight: str,
        output: str,
        *,
        inner: int,
        columns: int,
        bias: str | None = None,
    ) -> None:
        """Append ``output[..., columns] = data[..., inner] x weight``, one weight for all rows."""
        target = self._with_bias(name, output, bias)
        rows = prod(self.shape(output)) // columns
        batch = self.batch if rows % self.batch == 0 else 1
        einsum = matmul_einsum(
            data,
            weight,
            target,
            rows=rows // batch,
            inner=inner,
            columns=columns,
            batch=batch,
        )
        self.add(Operation(name, "gemm", (data, weight), (target,), einsum))
        self._add_bias(name, output, bias)

    def matmul(
        self,
        name: str,
        first: str,
        second: str,
        output: str,
        shapes: tuple[Sequence[int], Sequence[int]],
    ) -> None:
        """Append a NumPy-style matmul, by what its operands are.

        One matrix for all rows is a ``gemm``, also where the weight stands first (the product of
        the transposes). Else there are ``G`` independent products; where batch axes broadcast, an
        operand is counted once for each product it takes part in.

        Args:
            name: Name of the operation.
            first: Left operand.
            second: Right operand.
            output: Tensor written.
            shapes: Shapes of the operands as they are multiplied (views of weights differ from
                the weights).
        """
        a, b = shapes
        held = [self.tensors[t].role in ("weight", "constant") for t in (first, second)]
        if held[0] and not held[1] and len(a) > 1 and prod(a[:-2]) == 1:
            self.linear(name, second, first, output, inner=a[-1], columns=a[-2])
        elif prod(b[:-2]) == 1:
            columns = b[-1] if len(b) > 1 else 1
            self.linear(name, first, second, output, inner=a[-1], columns=columns)
        else:
            rows = a[-2] if len(a) > 1 else 1
            groups = prod(self.shape(output)) // (rows * b[-1])
            self.product(name, first, second, output, groups, rows, a[-1], b[-1])

    def contract(
        self, name: str, first: str, second: str, output: str, sizes: dict[str, int]
    ) -> None:
        """Append the product an einsum equation was reduced to (``operators.einsum_sizes``)."""
        if sizes["groups"] == 1:
            self.linear(name, first, second, output, inner=sizes["inner"], columns=sizes["columns"])
        else:
            self.product(name, first, second, output, **sizes)

    def product(
        self,
        name: str,
        first: str,
        second: str,
        output: str,
        groups: int,
        rows: int,
        inner: int,
        columns: int,
    ) -> None:
        """Append ``groups`` independent matrix products of two activations."""
        einsum = matmul_einsum(
            first,
            second,
            output,
            rows=rows,
            inner=inner,
            columns=columns,
            batch=groups,
            shared_weight=False,
        )
        self.add(Operation(name, "matmul", (first, second), (output,), einsum))

    def attention(
        self,
        name: str,
        query: str,
        key: str,
        value: str,
        output: str,
        *,
        mask: str | None = None,
        causal: bool = False,
        bits: float = 32.0,
    ) -> None:
        """Append scaled dot-product attention: scores, softmax (with mask), weighted values.

        Shapes are ``[..., heads, tokens, width]``; fewer key heads are shared by query heads
        (grouped-query attention). The scale is folded into the softmax's exponent. A causal mask
        costs an operation a score; the products are counted in full, as dense kernels do them.
        """
        q, k, v = self.shape(query), self.shape(key), self.shape(value)
        if min(len(q), len(k), len(v)) < 3 or q[-1] != k[-1] or k[-2] != v[-2]:
            raise InputError("attention operands do not fit", field=name, found=[q, k, v])
        groups = prod(q[:-2])
        scores = self.tensor(f"{output}.scores", (*q[:-1], k[-2]), bits)
        weights = self.tensor(f"{output}.weights", (*q[:-1], k[-2]), bits)
        self.product(f"{name}.qk", query, key, scores, groups, q[-2], q[-1], k[-2])
        inputs = (scores,) if mask is None else (scores, mask)
        if mask is not None:
            broadcast(self.shape(scores), self.shape(mask))
        kind = "softmax_masked" if mask or causal else "softmax"
        self.vector(f"{name}.softmax", kind, inputs, (weights,))
        self.product(f"{name}.av", weights, value, output, groups, q[-2], k[-2], v[-1])

    def workload(self, outputs: Sequence[str], source: str = "", licence: str = "") -> Workload:
        """The finished graph; ``outputs`` are marked as such."""
        tensors = dict(self.tensors)
        for name in outputs:
            if name in tensors and tensors[name].role == "activation":
                tensors[name] = replace(tensors[name], role="output")
        return Workload(self.name, tensors, tuple(self.operations), source, licence)


def conv_einsum(
    data: str,
    weight: str,
    output: str,
    *,
    batch: int,
    groups: int,
    channels: tuple[int, int],
    kernel: Sequence[int],
    size: Sequence[int],
    stride: Sequence[int],
    dilation: Sequence[int],
) -> Einsum:
    """Loop nest of a convolution of spatial rank 1, 2 or 3 (depth is ``D`` over filter ``T``).

    A rank of 1 is a 2-D convolution with one row. Channels are totals, as in ``conv2d_einsum``.

    Raises:
        InputError: The rank is not 1, 2 or 3.
    """
    rank = len(kernel)
    if rank not in (1, 2, 3) or not rank == len(size) == len(stride) == len(dilation):
        raise InputError("convolutions of 1, 2 or 3 spatial axes are supported", found=rank)

    def plane_of(axes: Sequence[int]) -> tuple[int, int]:
        return (axes[-2] if rank > 1 else 1, axes[-1])

    plane = conv2d_einsum(
        data,
        weight,
        output,
        batch=batch,
        groups=groups,
        out_channels=channels[1],
        in_channels=channels[0],
        out_size=plane_of(size),
        kernel=plane_of(kernel),
        stride=plane_of(stride),
        dilation=plane_of(dilation),
    )
    if rank < 3:
        return plane
    read, held, written = plane.operands
    depth = (("D", stride[0]), ("T", dilation[0]))
    return Einsum(
        (*plane.dims, ("D", size[0]), ("T", kernel[0])),
        (
            Access(data, (*read.ranks[:3], depth, *read.ranks[3:])),
            Access(weight, (*held.ranks[:3], (("T", 1),), *held.ranks[3:])),
            Access(output, (*written.ranks[:3], (("D", 1),), *written.ranks[3:])),
        ),
    )
