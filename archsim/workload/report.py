"""What a workload holds, in numbers."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass
from typing import Any

from archsim.workload.graph import Einsum, Operation, Workload


@dataclass(frozen=True)
class Summary:
    """Figures of a workload.

    Attributes:
        name: Its name.
        batch: The batch the figures are for; None if the graph has none.
        operations: Count of operations of each kind, most frequent first.
        macs: Multiply-accumulates.
        macs_by_kind: The same, by kind of operation.
        parameters: Elements of all weights.
        weight_bytes: Bytes of all weights.
        vector_ops: Scalar operations of all vector operations.
        vector_ops_by_kind: The same, by kind.
        moved_bytes: Bytes read and written by data movement (concat, transpose, ...).
        activation_bytes: Bytes of all activations together.
        einsum_shapes: Count of distinct loop nests, each of which need be costed only once.
    """

    name: str
    batch: int | None
    operations: dict[str, int]
    macs: int
    macs_by_kind: dict[str, int]
    parameters: int
    weight_bytes: float
    vector_ops: int
    vector_ops_by_kind: dict[str, int]
    moved_bytes: float
    activation_bytes: float
    einsum_shapes: int

    def as_dict(self) -> dict[str, Any]:
        """Plain data, e.g. for JSON."""
        return asdict(self)

    def rows(self) -> list[tuple[str, int, int, int]]:
        """Table rows: kind, operations, MACs, scalar operations."""
        return [
            (kind, count, self.macs_by_kind.get(kind, 0), self.vector_ops_by_kind.get(kind, 0))
            for kind, count in self.operations.items()
        ]


def einsum_key(einsum: Einsum) -> tuple[Any, ...]:
    """What two loop nests share if they cost the same: extents and projections, not names."""
    return einsum.dims, tuple(access.ranks for access in einsum.operands)


def _moves(op: Operation) -> bool:
    return op.einsum is None and not op.vector_ops and not op.view


def summary(workload: Workload) -> Summary:
    """Count what a workload holds."""
    kinds: Counter[str] = Counter()
    macs: Counter[str] = Counter()
    scalar: Counter[str] = Counter()
    copies, tensor_copies = workload.copies, workload.tensor_copies
    for op in workload.operations:
        times = copies[op.name]
        kinds[op.kind] += times
        macs[op.kind] += op.macs * times
        scalar[op.kind] += op.vector_ops * times
    tensors = workload.tensors
    moved = (
        tensors[t].size_bytes * copies[op.name]
        for op in workload.operations
        if _moves(op)
        for t in (*op.inputs, *op.outputs)
    )
    return Summary(
        workload.name,
        workload.batch,
        dict(kinds.most_common()),
        workload.macs,
        {kind: count for kind, count in macs.items() if count},
        workload.parameters,
        sum(t.size_bytes * tensor_copies[t.name] for t in tensors.values() if t.role == "weight"),
        sum(scalar.values()),
        {kind: count for kind, count in scalar.items() if count},
        sum(moved),
        sum(
            t.size_bytes * tensor_copies[t.name]
            for t in tensors.values()
            if t.role in ("activation", "input", "output")
        ),
        len({einsum_key(op.einsum) for op in workload.operations if op.einsum}),
    )
