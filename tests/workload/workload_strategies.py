"""Hypothesis strategies for workloads."""

from hypothesis import strategies as st

from archsim.workload import Access, Einsum, Operation, Tensor, Workload
from archsim.workload.builder import Builder
from archsim.workload.operators import VECTOR_KINDS

NAMES = st.one_of(
    st.text("abcXYZ0189._/:- #'\"[]{},&*!|>%@`é中\\", min_size=1, max_size=8),
    st.sampled_from(["1", "1e5", "yes", "null", "N", "12N", "~", "0x1", "1.0", "<<", "-", "=", ""]),
).filter(bool)
BITS = st.sampled_from([4, 8, 16, 32, 4.0625, 1.5])
SMALL = st.integers(1, 6)
ELEMENTWISE = ["relu", "add", "batch_norm", "softmax", "layer_norm", "max_pool", "gelu", "lrn"]


@st.composite
def any_workload(draw):
    """Arbitrary tensors and operations: nothing needs to make sense, all of it must survive."""
    batch = draw(st.none() | st.integers(1, 4))
    names = draw(st.lists(NAMES, min_size=1, max_size=8, unique=True))
    tensors = {}
    for name in names:
        shape = draw(st.lists(SMALL, max_size=4))
        axis = None
        if batch is not None and shape and draw(st.booleans()):
            axis = draw(st.integers(0, len(shape) - 1))
            shape[axis] *= batch
        role = draw(st.sampled_from(["input", "weight", "activation", "output", "constant"]))
        density = draw(st.sampled_from([1.0, 0.5, 0.1]))
        tensors[name] = Tensor(name, tuple(shape), draw(BITS), role, density, axis)
    free, known, operations = list(names), [], []
    while free and draw(st.booleans()):
        outputs = [free.pop() for _ in range(draw(st.integers(1, min(2, len(free)))))]
        readable = [*known, *free]
        inputs = draw(st.lists(st.sampled_from(readable), max_size=3)) if readable else []
        known += outputs
        # what was read without being written is an input of the graph from now on
        free = [name for name in free if name not in inputs]
        known += [name for name in inputs if name not in known]
        operations.append(draw(_operation(f"op{len(operations)}", inputs, outputs)))
    return Workload(draw(NAMES), tensors, tuple(operations), draw(st.text(max_size=9)), "", batch)


@st.composite
def _operation(draw, name, inputs, outputs):
    name = draw(st.sampled_from([name, outputs[0]])) if outputs[0] != name else name
    form = draw(st.sampled_from(["vector", "einsum", "view"]))
    kind = draw(st.sampled_from([*VECTOR_KINDS, "conv2d", "gemm", "matmul", "something else"]))
    if form == "view":
        return Operation(name, kind, tuple(inputs), tuple(outputs), view=True)
    ops = draw(st.integers(0, 10**6))
    fusable = draw(st.booleans())
    if form == "vector":
        if kind in ("conv2d", "gemm", "matmul"):
            kind = "relu"
        return Operation(name, kind, tuple(inputs), tuple(outputs), None, ops, False, fusable)
    dims = draw(st.lists(st.sampled_from(list("NGMCPQRSxyz")), min_size=1, max_size=6, unique=True))
    rank = st.lists(st.tuples(st.sampled_from(dims), st.integers(1, 3)), max_size=2)
    accesses = [
        Access(tensor, tuple(tuple(r) for r in draw(st.lists(rank, max_size=4))))
        for tensor in draw(st.lists(NAMES, min_size=3, max_size=3))
    ]
    einsum = Einsum(tuple((d, draw(SMALL)) for d in dims), tuple(accesses))
    return Operation(name, kind, tuple(inputs), tuple(outputs), einsum, ops, False, fusable)


@st.composite
def network(draw):
    """A chain of real layers on an image, batch 2, as the importers would build it."""
    builder = Builder("net", 2)
    channels, size = draw(SMALL) * 2, draw(st.integers(6, 12))
    data = builder.tensor("image", (2, channels, size, size), role="input")
    for index in range(draw(st.integers(1, 5))):
        name = f"layer{index}"
        kind = draw(st.sampled_from(["conv", "relu", "batch_norm", "pool", "add", "linear"]))
        channels, size = builder.shape(data)[1], builder.shape(data)[2]
        if kind == "conv":
            groups = draw(st.sampled_from([1, 2]))
            out, kernel = draw(SMALL) * 2, draw(st.integers(1, 3))
            target = builder.tensor(name, (2, out, size, size))
            weight = builder.tensor(
                f"{name}.weight", (out, channels // groups, kernel, kernel), role="weight"
            )
            bias = draw(st.booleans())
            builder.conv(
                name,
                data,
                weight,
                target,
                stride=(1, draw(st.integers(1, 2))),
                dilation=(1, 1),
                groups=groups,
                bias=builder.tensor(f"{name}.b", (out,), role="weight") if bias else None,
            )
        elif kind == "linear":
            target = builder.tensor(name, (2, channels, size, 4))
            weight = builder.tensor(f"{name}.weight", (4, size), role="weight")
            builder.linear(name, data, weight, target, inner=size, columns=4)
        elif kind == "pool":
            target = builder.tensor(name, (2, channels, size, size))
            builder.vector(name, "max_pool", [data], (target,), window=draw(SMALL))
        elif kind == "batch_norm":
            target = builder.tensor(name, builder.shape(data))
            roles = ("weight", "weight", "constant", "constant")
            rest = [
                builder.tensor(f"{name}.{i}", (channels,), role=role)
                for i, role in enumerate(roles)
            ]
            builder.vector(name, kind, [data, *rest], (target,))
        else:
            target = builder.tensor(name, builder.shape(data))
            builder.vector(name, kind, [data, data] if kind == "add" else [data], (target,))
        data = target
        if len(builder.shape(data)) == 4 and builder.shape(data)[2] != builder.shape(data)[3]:
            break
    return builder.workload([data])
