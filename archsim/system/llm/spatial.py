"""Spatial engines inside machines of many devices: products and attention mapped as loop nests.

A roofline takes an array at its peak. Here every distinct product of a step is mapped onto the
engine's buffers and fanouts as a layer of the main job is (``archsim.system.evaluate``), so that an
array that few rows or columns fill is slower, and energy is that of every buffer. Vector
operations stay on the vector unit's roofline.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from archsim.errors import InputError
from archsim.hardware import Machine, NodeTable, SpatialEngine, resolve_node
from archsim.system.llm.calls import Call
from archsim.system.llm.roofline import Price, Roofline
from archsim.workload.builder import Builder
from archsim.workload.steps import Bits

Floats = NDArray[np.float64]
#: Copies, rows, inner and columns of a product, and whether all copies share the right operand.
Shape = tuple[int, int, int, int, bool]


@lru_cache(maxsize=16)
def mapped_pricer(
    machine: Machine, bits: Bits, effort: str, overridden: bool = False
) -> MappedPricer:
    """The pricer of a machine's spatial engine; what it has mapped is kept.

    Raises:
        InputError: The machine's engine is no spatial one, operands have fractional bits, the
            effort is unknown, or rows have hardware of their own, which are not mapped.
    """
    if overridden:
        raise InputError(
            "rows with hardware of their own are not mapped", source=machine.name, field="effort",
            found=effort,
        )  # fmt: skip
    return MappedPricer(machine, resolve_node(machine), bits, effort)


class MappedPricer(Roofline):
    """Products by mappings found with some effort.

    Args:
        machine: The machine.
        node: Its figures, of one design.
        bits: Bits an element.
        effort: ``fast``, ``thorough`` or ``optimal``.
    """

    def __init__(self, machine: Machine, node: NodeTable, bits: Bits, effort: str) -> None:
        super().__init__(machine, node, bits)
        if not isinstance(self.engine, SpatialEngine):
            raise InputError(
                "only spatial engines are mapped", source=machine.name, field="effort",
                found=effort,
            )  # fmt: skip
        self.machine, self.effort = machine, effort
        self.clock = node.engines[self.engine.name]["clock_hz"]
        self.known: dict[tuple[Shape, float, float], tuple[float, ...]] = {}

    # ---------------------------------------------------------------------------- one product

    def mapped(self, shapes: Sequence[Shape], weight: float, data: float) -> Floats:
        """Seconds, joules, compute seconds and bytes of products; float64[4, shapes].

        Args:
            shapes: Of the products.
            weight: Bits of the right operand.
            data: Bits of the left operand and the result.
        """
        fresh = [s for s in dict.fromkeys(shapes) if (s, weight, data) not in self.known]
        if fresh:
            from archsim.system.evaluate import evaluate

            builder = Builder("products")
            for number, (copies, rows, inner, columns, shared) in enumerate(fresh):
                name = f"p{number}"
                left = builder.tensor(f"{name}.left", (copies, rows, inner), data, "input")
                role: Literal["weight", "kv_cache"] = "weight" if shared else "kv_cache"
                shape = (inner, columns) if shared else (copies, inner, columns)
                right = builder.tensor(f"{name}.right", shape, weight, role)
                out = builder.tensor(f"{name}.out", (copies, rows, columns), data)
                if shared:
                    builder.linear(name, left, right, out, inner=inner, columns=columns)
                else:
                    builder.product(name, left, right, out, copies, rows, inner, columns)
            outputs = [f"p{number}.out" for number in range(len(fresh))]
            machine = self._with_bits(weight, data)
            cost = evaluate(builder.workload(outputs), machine, effort=self.effort, fuse=False)
            if not cost.feasible:
                raise InputError(
                    "products do not fit the engine", source=machine.name,
                    found="; ".join(cost.reasons),
                )  # fmt: skip
            clock = float(self.clock[0])
            for shape_, layer in zip(fresh, cost.layers, strict=True):
                self.known[shape_, weight, data] = (
                    layer.latency_s, layer.energy_j, layer.compute_cycles / clock,
                    layer.backing_bytes,
                )  # fmt: skip
        return np.array([self.known[shape, weight, data] for shape in shapes]).T

    def _with_bits(self, weight: float, data: float) -> Machine:
        values = {f"groups.{group.name}.count": 1 for group in self.machine.groups}
        for name, bits in (("input", data), ("weight", weight), ("output", data)):
            if bits != round(bits):
                raise InputError(
                    "a spatial engine holds whole bits", field=f"bits of the {name}", found=bits
                )
            values[f"engines.{self.engine.name}.precision.{name}_bits"] = round(bits)
        return self.machine.with_values(values)

    def _products(
        self, copies: Floats, rows: Floats, inner: Floats, columns: Floats, shared: bool,
        weight: float,
    ) -> Price:  # fmt: skip
        """Price of products, one a row of the sizes; rows without work cost nothing."""
        sizes = np.broadcast_arrays(copies, rows, inner, columns)
        flat = np.stack([np.ceil(size).reshape(-1) for size in sizes])
        there = (flat >= 1).all(axis=0)
        out = np.zeros((4, flat.shape[1]))
        if there.any():
            unique, back = np.unique(flat[:, there], axis=1, return_inverse=True)
            shapes = [(int(c), int(r), int(i), int(n), shared) for c, r, i, n in unique.T]
            found = self.mapped(shapes, weight, self.bits.activation)
            out[:, there] = found[:, back.reshape(-1)]
        seconds, joules, compute, moved = (row.reshape(sizes[0].shape) for row in out)
        return Price(seconds, joules, compute, moved / self.bandwidth, moved)

    # ---------------------------------------------------------------------------- kinds of calls

    def gemm(self, call: Call) -> Price:
        """A matrix product."""
        size = call.sizes
        # What the call's weights are stored in: a router's or head's bits may differ.
        held = np.broadcast_to(call.weight_bytes / (size["n"] * size["k"]), size["m"].shape)
        weight = 8.0 * float(held.flat[0])
        one = np.ones_like(size["m"])
        return self._products(one, size["m"], size["k"], size["n"], True, weight)

    def moe(self, call: Call) -> Price:
        """The products of all active experts, then their activations as a roofline."""
        size = call.sizes
        rows, one = size["pairs"] / size["active"], np.ones_like(size["pairs"])
        weight = self.bits.weight
        up = self._products(
            one, rows, size["hidden"], size["inner"] * (1.0 + size["gated"]), True, weight
        )
        down = self._products(one, rows, size["inner"], size["hidden"], True, weight)
        ops = size["pairs"] * (size["inner"] * size["ops"] + 2.0 * size["hidden"])
        return _sum(_times(up, size["active"]), _times(down, size["active"]), self._vector(ops))

    def attention(self, call: Call) -> Price:
        """Scores and weighted values of every head, softmax on the vector unit."""
        size = call.sizes
        seen = np.minimum(size["context"], size["window"] + size["new"] - 1.0)
        return self._attend(call, seen, size["kv_heads"])

    def latent(self, call: Call) -> Price:
        """Latent attention: absorbed, all heads share a row a token."""
        return self._attend(call, call.sizes["context"], call.sizes["kv_heads"])

    def _attend(self, call: Call, seen: Floats, kv_heads: Floats) -> Price:
        size = call.sizes
        copies = size["requests"] * kv_heads
        rows = size["new"] * size["heads"] / kv_heads
        scores = self._products(copies, rows, size["head_dim"], seen, False, self.bits.kv)
        values = self._products(copies, rows, seen, size["value_dim"], False, self.bits.kv)
        return _sum(scores, values, self._vector(5.0 * copies * rows * seen))

    def _vector(self, ops: Floats) -> Price:
        """Operations on results that the vector unit works on as they pass."""
        return self.bound(0.0 * ops, ops, 0.0 * ops)


def _times(price: Price, count: Floats) -> Price:
    return Price(price.seconds * count, price.joules * count, price.compute_s * count,
                 price.memory_s * count, price.bytes * count)  # fmt: skip


def _sum(*prices: Price) -> Price:
    columns = zip(
        *((p.seconds, p.joules, p.compute_s, p.memory_s, p.bytes) for p in prices), strict=True
    )
    return Price(*(sum(column) for column in columns))  # type: ignore[arg-type]
