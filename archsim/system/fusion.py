"""From a graph to the steps a machine executes: einsums, vector operations, and what is fused.

A step is an einsum or a vector operation, followed by the fusable vector operations applied to its
output as it is written (activation, folded normalisation, bias, residual addition). A fused
operation costs its scalar operations and the reads of its other inputs, but neither writes nor
re-reads the value it is applied to.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from archsim.workload.fold import unfold
from archsim.workload.graph import Operation, Workload


@dataclass
class Step:
    """One unit of execution.

    Attributes:
        operation: The leading operation.
        fused: Operations fused into it, in order.
        vector_ops: Scalar operations of all vector operations in the step.
        read_elements: Elements read from the tier by vector operations: weights, then others.
        written_elements: Elements a leading vector operation's step writes.
    """

    operation: Operation
    fused: list[Operation] = field(default_factory=list)
    vector_ops: int = 0
    read_elements: list[int] = field(default_factory=lambda: [0, 0])
    written_elements: int = 0

    @property
    def name(self) -> str:
        """Name of the leading operation."""
        return self.operation.name


def plan_steps(workload: Workload, fuse: bool = True) -> list[Step]:
    """Group a graph's operations into steps, in execution order.

    Args:
        workload: The graph.
        fuse: Fuse fusable operations into the producer of their first input when nothing else
            reads that value.

    Returns:
        Steps; views disappear, as nothing is computed or moved. The copies of blocks are written
        out.
    """
    workload = unfold(workload)
    steps: list[Step] = []
    maker: dict[str, Step] = {}  # step that last wrote the value behind a tensor
    alias: dict[str, str] = {}  # a view's output stands for its input

    def origin(tensor: str) -> str:
        while tensor in alias:
            tensor = alias[tensor]
        return tensor

    readers: dict[str, int] = {}
    for operation in workload.operations:
        if operation.view:
            alias.update((out, operation.inputs[0]) for out in operation.outputs)
            continue
        for tensor in dict.fromkeys(origin(t) for t in operation.inputs):
            readers[tensor] = readers.get(tensor, 0) + 1
    for operation in workload.operations:
        if operation.view:
            continue
        inputs = [origin(t) for t in operation.inputs]
        host = _host(operation, inputs, maker, readers, steps) if fuse else None
        step = host or Step(operation)
        if host:
            step.fused.append(operation)
        else:
            steps.append(step)
        if operation.einsum is None:
            step.vector_ops += operation.vector_ops
            carried = _carried(inputs, host, maker) if host else None
            gathered = sum(workload.tensors[t].elements for t in operation.outputs)
            for tensor in dict.fromkeys(inputs):
                if tensor != carried:
                    info = workload.tensors[tensor]
                    # A gather reads of a table only the rows it picks.
                    picks = operation.kind == "gather" and info.elements > gathered
                    column = 0 if info.role == "weight" else 1
                    step.read_elements[column] += gathered if picks else info.elements
        step.written_elements = sum(workload.tensors[t].elements for t in operation.outputs)
        maker.update((out, step) for out in operation.outputs)
    return steps


def _carried(inputs: list[str], host: Step, maker: dict[str, Step]) -> str | None:
    return next((t for t in inputs if maker.get(t) is host), None)


def _host(operation, inputs, maker, readers, steps) -> Step | None:
    """The step a fusable operation joins: the latest one whose sole-reader output it takes."""
    if not operation.fusable or operation.einsum is not None or len(operation.outputs) != 1:
        return None
    candidates = [maker[t] for t in inputs if t in maker and readers.get(t) == 1]
    candidates = [step for step in candidates if _writes_one(step)]
    if not candidates:
        return None
    latest = max(candidates, key=lambda step: _position(step, steps))
    # Whatever else the operation reads must be complete before that step runs.
    others = [maker[t] for t in inputs if t in maker and maker[t] is not latest]
    if any(_position(step, steps) > _position(latest, steps) for step in others):
        return None
    return latest


def _position(step: Step, steps: list[Step]) -> int:
    return next(i for i, other in enumerate(steps) if other is step)


def _writes_one(step: Step) -> bool:
    last = step.fused[-1] if step.fused else step.operation
    return len(last.outputs) == 1
