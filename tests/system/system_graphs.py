"""Hand-made graphs for the system tests."""

from __future__ import annotations

from archsim.workload import Access, Einsum, Operation, Tensor, Workload
from archsim.workload.graph import conv2d_einsum, matmul_einsum

SIZE = 8 * 6 * 6  # elements of every value below


def conv(name: str, data: str, output: str) -> Operation:
    """An 8-channel 3x3 convolution that keeps a 6 x 6 map's size."""
    weight = f"{name}.weight"
    einsum = conv2d_einsum(
        data, weight, output, batch=1, groups=1, out_channels=8, in_channels=8, out_size=(6, 6),
        kernel=(3, 3),
    )  # fmt: skip
    return Operation(name, "conv2d", (data, weight), (output,), einsum=einsum)


def vector(name: str, inputs, output: str, kind: str = "relu", **options) -> Operation:
    options.setdefault("fusable", True)
    options.setdefault("vector_ops", SIZE)
    return Operation(name, kind, tuple(inputs), (output,), **options)


def view(name: str, data: str, output: str) -> Operation:
    return Operation(name, "reshape", (data,), (output,), view=True)


def graph(*operations: Operation, name: str = "hand_made") -> Workload:
    """Declare every tensor the operations name and put them in a workload."""
    tensors = {}
    for operation in operations:
        for tensor in (*operation.inputs, *operation.outputs):
            if tensor.endswith(".weight"):
                tensors[tensor] = Tensor(tensor, (8, 8, 3, 3), role="weight")
            elif tensor.endswith(".scale"):
                tensors[tensor] = Tensor(tensor, (8,), role="weight")
            else:
                tensors[tensor] = Tensor(tensor, (1, 8, 6, 6))
    return Workload(name, tensors, operations)


def residual() -> Workload:
    """conv - relu - conv - scale - add(with the first relu) - relu."""
    return graph(
        conv("first", "x", "a"),
        vector("relu1", ["a"], "b"),
        conv("second", "b", "c"),
        vector("scale", ["c", "second.scale"], "d", "mul"),
        vector("add", ["d", "b"], "e", "add"),
        vector("relu2", ["e"], "f"),
    )


def odd_dimensions() -> Workload:
    """A contraction whose dimensions have no canonical names, beside a plain product."""
    dims = (("alpha", 6), ("beta", 5), ("gamma", 7))
    einsum = Einsum(
        dims,
        (
            Access("x", (((("alpha", 1),)), (("gamma", 1),))),
            Access("y", ((("gamma", 1),), (("beta", 1),))),
            Access("z", ((("alpha", 1),), (("beta", 1),))),
        ),
    )
    tensors = {"x": (6, 7), "y": (7, 5), "z": (6, 5), "w": (5, 3), "out": (6, 3)}
    product = matmul_einsum("z", "w", "out", rows=6, inner=5, columns=3)
    return Workload(
        "odd",
        {name: Tensor(name, shape) for name, shape in tensors.items()},
        (
            Operation("contract", "einsum", ("x", "y"), ("z",), einsum=einsum),
            Operation("project", "gemm", ("z", "w"), ("out",), einsum=product),
        ),
    )
