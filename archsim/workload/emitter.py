"""Emitting the operations of a transformer step: what mixers and feed-forward parts share."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from math import prod
from typing import Any

from archsim.workload.architecture import Experts, FeedForward
from archsim.workload.builder import Builder
from archsim.workload.graph import Access, Attribute, Einsum, Operation, Rank, matmul_einsum
from archsim.workload.steps import Bits, Request, Routing

#: Attributes of an operation by name.
Facts = dict[str, Attribute]

#: What a gated activation is called as one vector operation.
GATED = {"silu": "swiglu", "gelu": "geglu", "gelu_tanh": "geglu_tanh", "relu": "reglu"}


class Emitter:
    """Appends operations to a graph; every method returns the name of the tensor it wrote.

    Args:
        name: Name of the graph.
        width: Width of the residual stream.
        requests: The step, equal requests put together.
        bits: Bits an element by what it is.
        routing: How tokens spread over experts.
        latent: Form of latent attention: ``absorbed``, ``unabsorbed`` or ``auto``.
    """

    def __init__(
        self,
        name: str,
        width: int,
        requests: tuple[Request, ...],
        bits: Bits,
        routing: Routing,
        latent: str = "auto",
    ) -> None:
        self.builder = Builder(name)
        self.width = width
        self.requests = requests
        self.tokens = sum(request.new * request.count for request in requests)
        self.bits = bits
        self.routing = routing
        self.latent = latent

    # ------------------------------------------------------------------------------- tensors
    def activation(self, name: str, *shape: int, bits: float | None = None) -> str:
        """Declare a value."""
        return self.builder.tensor(name, shape, self.bits.activation if bits is None else bits)

    def weight(self, name: str, *shape: int, bits: float | None = None) -> str:
        """Declare a weight."""
        given = self.bits.weight if bits is None else bits
        return self.builder.tensor(name, shape, given, "weight")

    def cache(self, name: str, *shape: int, bits: float | None = None) -> str:
        """Declare what is kept between steps."""
        return self.builder.tensor(name, shape, self.bits.kv if bits is None else bits, "kv_cache")

    def tail(self, index: int) -> str:
        """Suffix of what belongs to one kind of request, where a step has several."""
        return f".{index}" if len(self.requests) > 1 else ""

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of a tensor."""
        return self.builder.shape(name)

    # ---------------------------------------------------------------------------- operations
    def vector(self, name: str, kind: str, *inputs: str, shape: Sequence[int] = ()) -> str:
        """Append a vector operation costed by its kind; of its first input's shape by default."""
        out = self.activation(name, *(shape or self.shape(inputs[0])))
        self.builder.vector(name, kind, inputs, (out,))
        return out

    def counted(
        self,
        name: str,
        kind: str,
        inputs: Sequence[str],
        outputs: Sequence[str],
        ops: int,
        facts: Facts | None = None,
    ) -> None:
        """Append a vector operation with its number of scalar operations, and its attributes."""
        given = tuple((facts or {}).items())
        self.builder.add(
            Operation(name, kind, tuple(inputs), tuple(outputs), vector_ops=ops, attributes=given)
        )

    def view(self, name: str, kind: str, inputs: Sequence[str], **parts: Sequence[int]) -> Any:
        """Name parts of tensors: nothing moves. Returns one name, or a list of several."""
        outputs = [
            self.activation(f"{name}.{part}" if len(parts) > 1 else name, *shape)
            for part, shape in parts.items()
        ]
        self.builder.add(Operation(name, kind, tuple(inputs), tuple(outputs), view=True))
        return outputs if len(outputs) > 1 else outputs[0]

    def linear(
        self,
        name: str,
        data: str,
        columns: int,
        *,
        bias: bool = False,
        weight: str | None = None,
        bits: float | None = None,
    ) -> str:
        """Append rows times one weight."""
        rows, inner = prod(self.shape(data)[:-1]), self.shape(data)[-1]
        if weight is None:
            weight = self.weight(f"{name}.weight", columns, inner, bits=bits)
        added = None
        if bias:
            added = self.weight(f"{name}.bias", columns, bits=self.bits.activation)
        out = self.activation(name, rows, columns)
        self.builder.linear(name, data, weight, out, inner=inner, columns=columns, bias=added)
        return out

    def matmul(
        self,
        name: str,
        first: str,
        second: str,
        sizes: tuple[int, int, int, int],
        *,
        after: Sequence[str] = (),
        second_ranks: tuple[Rank, ...] | None = None,
        facts: Facts | None = None,
    ) -> str:
        """Append independent products ``[groups, rows, inner] x [groups, inner, columns]``.

        Args:
            name: Name of the operation and its output.
            first: Left operand.
            second: Right operand.
            sizes: Groups, rows, inner and columns.
            after: Tensors that must be written before.
            second_ranks: How the right operand is addressed, where not ``[G, C, M]``.
            facts: Attributes of the operation.
        """
        groups, rows, inner, columns = sizes
        out = self.activation(name, groups, rows, columns)
        einsum = matmul_einsum(
            first, second, out, rows=rows, inner=inner, columns=columns, batch=groups,
            shared_weight=False,
        )  # fmt: skip
        if second_ranks is not None:
            data, _, written = einsum.operands
            einsum = Einsum(einsum.dims, (data, Access(second, second_ranks), written))
        inputs, given = (first, second, *after), tuple((facts or {}).items())
        self.builder.add(Operation(name, "matmul", inputs, (out,), einsum, attributes=given))
        return out

    def norm(self, name: str, kind: str, data: str, *, bias: bool = True) -> str:
        """Append a normalisation over the last axis."""
        width, bits = self.shape(data)[-1], self.bits.activation
        inputs = [data, self.weight(f"{name}.weight", width, bits=bits)]
        if kind == "layer_norm" and bias:
            inputs.append(self.weight(f"{name}.bias", width, bits=bits))
        return self.vector(name, kind, *inputs)

    def activate(self, name: str, data: str, activation: str, gated: bool) -> str:
        """Append an activation, of one half by the other where gated."""
        if not gated:
            return self.vector(name, activation, data)
        *rows, columns = self.shape(data)
        return self.vector(name, GATED[activation], data, shape=(*rows, columns // 2))

    # ------------------------------------------------------------------------- feed-forward
    def feed_forward(self, name: str, data: str, ffn: FeedForward) -> str:
        """Append a feed-forward part; gate and up are one product, as servers run them."""
        up = "gate_up" if ffn.gated else "up"
        columns = ffn.width * (2 if ffn.gated else 1)
        inner = self.linear(f"{name}.{up}", data, columns, bias=ffn.bias)
        inner = self.activate(f"{name}.act", inner, ffn.activation, ffn.gated)
        return self.linear(f"{name}.down", inner, self.width, bias=ffn.bias)

    def experts(self, name: str, data: str, moe: Experts) -> str:
        """Append a mixture of experts: route, gather, experts in groups of equal load, combine.

        Experts with the same number of tokens are one grouped product, so a step has as many
        products as there are different loads; idle experts have weights and no work.
        """
        tokens, width = self.tokens, self.width
        scores = self.linear(f"{name}.router", data, moe.experts, bits=self.bits.activation)
        if moe.router_bias:
            bias = self.weight(f"{name}.router.correction", moe.experts, bits=32)
            scores = self.vector(f"{name}.correct", "bias_add", scores, bias)
        scores = self.vector(f"{name}.scores", "softmax", scores)
        chosen = self.vector(f"{name}.top_k", "topk", scores, shape=(tokens, moe.top_k))
        sent = self.activation(f"{name}.dispatch", tokens * moe.top_k, width)
        self.counted(f"{name}.dispatch", "gather", (data, chosen), (sent,), 0)
        load = Counter(self.routing.tokens(tokens, moe.experts, moe.top_k))
        classes = [(rows, load[rows]) for rows in sorted(load, reverse=True) if rows]
        columns = moe.width * (2 if moe.gated else 1)
        up = self.weight(f"{name}.experts.up.weight", moe.experts, width, columns)
        down = self.weight(f"{name}.experts.down.weight", moe.experts, moe.width, width)
        facts: Facts = {
            "experts": moe.experts,
            "top_k": moe.top_k,
            "active": sum(count for _, count in classes),
        }
        results = []
        for index, (rows, count) in enumerate(classes):
            tail = f".{index}" if len(classes) > 1 else ""
            part = self.view(f"{name}.sent{tail}", "split", (sent,), part=(count, rows, width))
            inner = self.matmul(
                f"{name}.experts.up{tail}", part, up, (count, rows, width, columns),
                facts={"kernel": f"{name}.experts.up", **facts},
            )  # fmt: skip
            inner = self.activate(f"{name}.experts.act{tail}", inner, moe.activation, moe.gated)
            results.append(
                self.matmul(
                    f"{name}.experts.down{tail}", inner, down, (count, rows, moe.width, width),
                    facts={"kernel": f"{name}.experts.down", **facts},
                )
            )  # fmt: skip
        out = self.activation(f"{name}.combine", tokens, width)
        ops = 2 * tokens * moe.top_k * width  # scale and add
        self.counted(f"{name}.combine", "combine", (*results, chosen), (out,), ops)
        return self._shared(name, data, out, moe) if moe.shared_width else out

    def _shared(self, name: str, data: str, routed: str, moe: Experts) -> str:
        ffn = FeedForward(moe.shared_width, moe.gated, moe.activation)
        shared = self.feed_forward(f"{name}.shared", data, ffn)
        if moe.shared_gate:
            gate = self.linear(f"{name}.shared_gate", data, 1)
            gate = self.vector(f"{name}.shared_gate.act", "sigmoid", gate)
            shared = self.vector(f"{name}.shared_scaled", "mul", shared, gate)
        return self.vector(f"{name}.add_shared", "add", routed, shared)
