"""Writing out the copies a block stands for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from archsim.errors import InputError
from archsim.workload.graph import Access, Block, Einsum, Operation, Tensor, Workload

#: Operations a graph may have once its blocks are written out.
MAX_UNFOLDED = 500_000


def unfold(workload: Workload) -> Workload:
    """The same graph with every copy of its blocks written out.

    An operation ``NAME.rest`` of a block ``NAME`` becomes ``NAME.INDEX.rest``; tensors that exist
    once a copy are renamed alike. What a block carries links each copy to the one before.

    Args:
        workload: A graph, with blocks or without.

    Returns:
        A graph without blocks, equal in every count; the same object if there were none.

    Raises:
        InputError: The graph would become too large.
    """
    if not workload.blocks:
        return workload
    total = sum(workload.copies.values())
    if total > MAX_UNFOLDED:
        raise InputError(
            f"more than {MAX_UNFOLDED} operations once its blocks are written out",
            source=workload.name,
            found=total,
        )
    owned = _owned(workload)
    tensors = {name: t for name, t in workload.tensors.items() if name not in owned}
    operations: list[Operation] = []
    final: dict[str, str] = {}  # what a block's tensor is to those after it: the last copy's
    names = [operation.name for operation in workload.operations]
    starts = {names.index(block.first): block for block in workload.blocks}
    position = 0
    while position < len(names):
        block = starts.get(position)
        if block is None:
            operations.append(_renamed(workload.operations[position], final))
            position += 1
            continue
        end = names.index(block.last) + 1
        own = [tensor for tensor, owner in owned.items() if owner == block.name]
        body = workload.operations[position:end]
        final |= _copies(workload, block, body, own, final, tensors, operations)
        position = end
    return replace(workload, tensors=tensors, operations=tuple(operations), blocks=())


def _owned(workload: Workload) -> dict[str, str]:
    """The block that owns each tensor existing once a copy (also if it has one copy)."""
    once = replace(
        workload, blocks=tuple(replace(b, count=i + 2) for i, b in enumerate(workload.blocks))
    )
    return {
        tensor: workload.blocks[count - 2].name
        for tensor, count in once.tensor_copies.items()
        if count > 1
    }


def _copies(
    workload: Workload,
    block: Block,
    body: tuple[Operation, ...],
    own: list[str],
    final: Mapping[str, str],
    tensors: dict[str, Tensor],
    operations: list[Operation],
) -> dict[str, str]:
    """Append the copies of one block; returns the names of the last copy's tensors."""
    mine: dict[str, str] = {}
    before: dict[str, str] = {}
    for index in range(block.start, block.start + block.count):
        mine = {tensor: _indexed(tensor, block.name, index) for tensor in own}
        for tensor, name in mine.items():
            tensors[name] = replace(workload.tensors[tensor], name=name)
        known = {**final, **mine, **before}
        for operation in body:
            name = _indexed(operation.name, block.name, index)
            facts = tuple(
                (fact, _indexed(str(value), block.name, index) if fact == "kernel" else value)
                for fact, value in operation.attributes
            )
            operations.append(_renamed(replace(operation, name=name, attributes=facts), known))
        before = {read: mine[written] for read, written in block.carried}
    return mine


def _indexed(name: str, block: str, index: int) -> str:
    rest = name.removeprefix(block + ".")
    return f"{block}.{index}.{rest}"


def _renamed(operation: Operation, known: Mapping[str, str]) -> Operation:
    """The operation reading and writing under the names its tensors have now."""
    einsum = operation.einsum
    if einsum is not None:
        operands = tuple(
            Access(known.get(access.tensor, access.tensor), access.ranks)
            for access in einsum.operands
        )
        einsum = Einsum(einsum.dims, operands)  # type: ignore[arg-type]
    return replace(
        operation,
        inputs=tuple(known.get(tensor, tensor) for tensor in operation.inputs),
        outputs=tuple(known.get(tensor, tensor) for tensor in operation.outputs),
        einsum=einsum,
    )
