"""Arrays of dot-product units in language-model steps: every product by the array's closed form.

Products with weights, and of heads with their cached keys and values, take the tiles, terms and
refetches of ``archsim.models.dot_product``, one after the other. Weights have the bits the step
says, whole ones as digits and the rest as metadata of groups (4.0625 is 4 and 8 bits for 128
weights); the engine's own ``weight_bits`` and ``kv_bits`` are what layers of a network get. Vector
operations, and latent attention that reads its cache for all heads at once, stay a roofline.
Buffers are of the machine's node as shipped.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from archsim.errors import InputError
from archsim.hardware import DotProductEngine, Machine, NodeTable, VectorEngine
from archsim.models.dot_product import DotProductArray, Products, evaluate_products, terms
from archsim.system.llm.calls import Call
from archsim.system.llm.roofline import Price, Roofline
from archsim.workload.steps import Bits

Floats = NDArray[np.float64]
_DIRECT = (
    "rows", "columns", "fold", "lanes", "serial_bits", "weight_buffer_bytes", "input_buffer_bytes",
    "unit_energy_j",
)  # fmt: skip


class ArrayPricer(Roofline):
    """Prices the calls of one device with a dot-product array.

    Args:
        machine: The machine.
        node: Its figures.
        bits: Bits an element; of activations as many as the engine's inputs, or fewer.

    Raises:
        InputError: Activations are wider than the array's inputs.
    """

    def __init__(self, machine: Machine, node: NodeTable, bits: Bits) -> None:
        # Not the base class's: it reads engines that give their peak rate.
        engine = next(e for e in machine.engines if isinstance(e, DotProductEngine))
        figures, tier = node.engines[engine.name], node.tiers[engine.backing]
        if bits.activation > engine.input_bits:
            raise InputError(
                "wider than the inputs of the array", source=machine.name,
                field="bits.activation", found=bits.activation,
                expected=f"at most {engine.input_bits:g}",
            )  # fmt: skip
        self.bits, self.engine, self.tier_name = bits, engine, engine.backing
        self.clock, self.launch = figures["clock_hz"], np.zeros(1)
        self.bandwidth = tier["bandwidth_bytes_per_s"]
        self.j_per_byte = tier["read_energy_j_per_bit"] * 8.0
        slow = terms(bits.kv, figures["serial_bits"])
        units = figures["rows"] * figures["columns"]
        self.peak = 2.0 * units * figures["lanes"] / slow * self.clock
        self.j_per_flop = figures["unit_energy_j"] / (2.0 * figures["lanes"]) * slow
        vector = [e for e in machine.engines if isinstance(e, VectorEngine)]
        self.vector_peak = (
            node.engines[vector[0].name]["peak_flops_per_s"] if vector else self.peak / 16.0
        )
        self.figures: dict[str, Any] = {
            **{name: figures[name] for name in _DIRECT},
            "banks": figures["buffer_banks"],
            "input_bits": bits.activation,
            "tier_bits_per_cycle": self.bandwidth * 8.0 / self.clock,
            "tier_read_j_per_bit": tier["read_energy_j_per_bit"],
            "tier_write_j_per_bit": tier["write_energy_j_per_bit"],
            "node_nm": machine.technology_nm,
        }

    def _products(
        self, copies: Floats, tokens: Floats, inner: Floats, outputs: Floats, stored: Any,
        cached: bool = False,
    ) -> Price:  # fmt: skip
        """Price of equal products; rows without work cost nothing."""
        sizes = np.broadcast_arrays(outputs, inner, np.ceil(tokens), np.ceil(copies))
        there = np.all([size > 0 for size in sizes], axis=0)
        rows, reduction, columns, many = (np.maximum(size, 1.0) for size in sizes)
        array = DotProductArray(
            **self.figures, weight_bits=np.floor(stored), stored_bits=stored, kv_bits=stored
        )
        cost = evaluate_products(
            Products(rows, reduction, columns, many, np.full(rows.shape, cached)), array
        )
        moved = cost.weight_bits_moved + cost.input_bits_moved + cost.output_bits_moved
        found = (
            cost.cycles / self.clock, cost.energy_j, cost.compute_cycles / self.clock,
            cost.memory_cycles / self.clock, moved / 8.0,
        )  # fmt: skip
        return Price(*(np.where(there, figure, 0.0) for figure in found))

    def gemm(self, call: Call) -> Price:
        """A matrix product, its weights in the bits they are held in."""
        s = call.sizes
        stored = 8.0 * np.asarray(call.weight_bytes) / (s["n"] * s["k"])
        return self._products(np.ones_like(s["m"]), s["m"], s["k"], s["n"], stored)

    def moe(self, call: Call) -> Price:
        """The products of all active experts, then their activations."""
        s = call.sizes
        each = s["pairs"] / s["active"]
        up = self._products(
            s["active"], each, s["hidden"], s["inner"] * (1.0 + s["gated"]), self.bits.weight
        )
        down = self._products(s["active"], each, s["inner"], s["hidden"], self.bits.weight)
        ops = s["pairs"] * (s["inner"] * s["ops"] + 2.0 * s["hidden"])
        return _sum(up, down, self.bound(0.0 * ops, ops, 0.0 * ops))

    def attention(self, call: Call) -> Price:
        """Scores and weighted values of every head, the softmax on the vector unit."""
        s = call.sizes
        seen = np.minimum(s["context"], s["window"] + s["new"] - 1.0)
        copies = s["requests"] * s["kv_heads"]
        tokens = s["new"] * s["heads"] / s["kv_heads"]
        scores = self._products(copies, tokens, s["head_dim"], seen, self.bits.kv, True)
        values = self._products(copies, tokens, seen, s["value_dim"], self.bits.kv, True)
        ops = 5.0 * copies * tokens * seen
        return _sum(scores, values, self.bound(0.0 * ops, ops, 0.0 * ops))


def _sum(*prices: Price) -> Price:
    names = ("seconds", "joules", "compute_s", "memory_s", "bytes")
    return Price(*(sum((getattr(p, n) for p in prices), np.zeros(1)) for n in names))


__all__ = ["ArrayPricer"]
