"""Changing the batch of a graph, exactly.

A tensor that grows with the batch says along which axis (``Tensor.batch_axis``). Everything else
follows: an operation that reads or writes such a tensor does ``new / old`` times the work; its
einsum grows along ``N``, or along ``G`` where independent products hold the batch.
"""

from __future__ import annotations

from dataclasses import replace

from archsim.errors import InputError
from archsim.workload.graph import Einsum, Operation, Tensor, Workload

#: Two prime batches that extents of real models are no multiples of; see ``infer_batch``.
PROBES = (7919, 7907)


def _scaled(value: int, new: int, old: int, workload: str, field: str) -> int:
    scaled, rest = divmod(value * new, old)
    if rest:
        raise InputError(
            f"cannot be rescaled from batch {old} to {new}", source=workload, field=field
        )
    return scaled


def batch_dimension(einsum: Einsum) -> str | None:
    """The einsum dimension that holds the batch: ``N``, else ``G``, else none."""
    names = [name for name, _ in einsum.dims]
    return next((name for name in ("N", "G") if name in names), None)


def rebatch(workload: Workload, batch: int) -> Workload:
    """The same graph at another batch.

    Args:
        workload: A graph that knows its batch.
        batch: The batch wanted, at least 1.

    Returns:
        A workload in which every batched extent, einsum and operation count is rescaled exactly.

    Raises:
        InputError: The graph has no batch, or does not rescale to whole numbers.
    """
    if isinstance(batch, bool) or not isinstance(batch, int) or not 1 <= batch <= 1 << 20:
        raise InputError("batch must be an integer from 1 to 1048576", found=batch)
    old, name = workload.batch, workload.name
    if old == batch:
        return workload
    if old is None:
        raise InputError(
            "this graph has no symbolic batch, so its batch cannot be changed", source=name
        )
    tensors: dict[str, Tensor] = {}
    for key, tensor in workload.tensors.items():
        axis = tensor.batch_axis
        if axis is not None:
            shape = list(tensor.shape)
            shape[axis] = _scaled(shape[axis], batch, old, name, key)
            tensor = replace(tensor, shape=tuple(shape))
        tensors[key] = tensor
    operations = tuple(
        _rebatch_operation(op, batch, old, name)
        if any(workload.tensors[t].batch_axis is not None for t in (*op.inputs, *op.outputs))
        else op
        for op in workload.operations
    )
    return replace(workload, tensors=tensors, operations=operations, batch=batch)


def _rebatch_operation(op: Operation, new: int, old: int, workload: str) -> Operation:
    ops = _scaled(op.vector_ops, new, old, workload, op.name)
    einsum = op.einsum
    if einsum is not None:
        held = batch_dimension(einsum)
        if held is None:
            raise InputError(
                "its einsum has no dimension N or G to hold the batch",
                source=workload,
                field=op.name,
            )
        dims = tuple(
            (dim, _scaled(extent, new, old, workload, op.name) if dim == held else extent)
            for dim, extent in einsum.dims
        )
        einsum = replace(einsum, dims=dims)
    return replace(op, vector_ops=ops, einsum=einsum)


def infer_batch(first: Workload, batch: int, second: Workload, other: int) -> Workload:
    """Find the batch axes from the same graph built at two batches.

    Args:
        first: The graph built at ``batch``.
        batch: First batch.
        second: The graph built at ``other``.
        other: Second batch, different from the first.

    Returns:
        ``first`` with batch axes and batch set, such that ``rebatch`` to ``other`` gives exactly
        ``second``.

    Raises:
        InputError: The two differ by more than a factor of the batch along single axes.
    """
    tensors: dict[str, Tensor] = {}
    if list(first.tensors) != list(second.tensors):
        raise InputError("the graph changes with the batch", source=first.name)
    for name, tensor in first.tensors.items():
        twin = second.tensors[name]
        axes = (
            [i for i, (a, b) in enumerate(zip(tensor.shape, twin.shape, strict=True)) if a != b]
            if len(tensor.shape) == len(twin.shape)
            else [-1, -1]
        )
        if len(axes) > 1:
            raise InputError(
                "more than one axis grows with the batch", source=first.name, field=name
            )
        if axes and tensor.shape[axes[0]] % batch:
            raise InputError(
                "does not grow in proportion to the batch", source=first.name, field=name
            )
        tensors[name] = replace(tensor, batch_axis=axes[0] if axes else None)
    known = replace(first, tensors=tensors, batch=batch)
    grown = rebatch(known, other)
    for mine, theirs in zip(grown.operations, second.operations, strict=False):
        if mine != theirs:
            raise InputError(
                "does not grow in proportion to the batch", source=first.name, field=mine.name
            )
    wrong = [n for n, t in grown.tensors.items() if t.shape != second.tensors[n].shape]
    if wrong or len(grown.operations) != len(second.operations):
        raise InputError("does not grow in proportion to the batch", source=first.name, found=wrong)
    return known


def batched(first: Workload, second: Workload, plain: Workload, own: int, wanted: int) -> Workload:
    """The graph at a wanted batch, from builds at the two probes and at its own batch.

    Args:
        first: Built at ``PROBES[0]``.
        second: Built at ``PROBES[1]``.
        plain: Built at ``own``, which the rescaled graph must reproduce.
        own: The batch the model was written for.
        wanted: The batch wanted.

    Raises:
        InputError: The graph does not grow in proportion to the batch.
    """
    known = infer_batch(first, PROBES[0], second, PROBES[1])
    back = rebatch(known, own)
    shapes = {name: tensor.shape for name, tensor in back.tensors.items()}
    work = [(op.name, op.macs, op.vector_ops) for op in back.operations]
    if shapes != {name: tensor.shape for name, tensor in plain.tensors.items()} or work != [
        (op.name, op.macs, op.vector_ops) for op in plain.operations
    ]:
        raise InputError("does not grow in proportion to the batch", source=plain.name)
    return rebatch(known, wanted)
