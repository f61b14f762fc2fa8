"""What one call costs on a GPU: the kernel models of ``archsim.models.gpu``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from archsim.hardware import Machine, NodeTable
from archsim.system.llm.calls import Call
from archsim.system.llm.collectives import (
    Level,
    gpu_collective,
    gpu_share,
)
from archsim.system.llm.gpu_rows import device_rows, where
from archsim.workload.steps import Bits

if TYPE_CHECKING:
    from archsim.models.gpu import GpuCost, GpuDevice

from archsim.system.llm.roofline import Price, Roofline, dtype_of

Floats = NDArray[np.float64]


class GpuPricer(Roofline):
    """GPU kernels by ``archsim.models.gpu``.

    Vector kernels run at its vector kernels' bandwidth and launch time, and recurrences, which it
    does not model, as the roofline at that bandwidth.
    """

    unfuses = ("attention", "latent")

    def __init__(self, machine: Machine, node: NodeTable, bits: Bits) -> None:
        super().__init__(machine, node, bits)
        from archsim.models.gpu import constants_for

        self.device = device_rows(machine, node)
        self.constants = constants_for(self.device)
        self.kv_dtype = dtype_of(Bits(activation=bits.kv), ("fp8", "bf16", "fp32"))
        kernel = self.constants.kernel("vector")
        self.launch = np.full(1, kernel["launch_s"])
        self.bandwidth = self.bandwidth * kernel["memory_efficiency"]

    def gemm(self, call: Call) -> Price:
        """A matrix product."""
        return self.gemms([call])[0]

    def gemms(self, calls: Sequence[Call]) -> list[Price]:
        """Matrix products in one evaluation, which costs little more than one alone."""
        from archsim.models.gpu import evaluate_gemm

        sizes = np.empty((4, len(calls), *np.shape(calls[0].sizes["m"])))
        for at, call in enumerate(calls):
            for row, name in enumerate("mnk"):
                sizes[row, at] = call.sizes[name]
            sizes[3, at] = call.weight_bytes
        m, n, k, held = sizes
        cost = evaluate_gemm(
            self.device, m, n, k, self.dtype, weight_bytes=held / (n * k), constants=self.constants
        )
        columns = (cost.latency_s, cost.energy_j, cost.parts_s["compute_s"],
                   cost.parts_s["memory_s"], cost.dram_bytes)  # fmt: skip
        return [Price(*(column[at] for column in columns)) for at in range(len(calls))]

    def moe(self, call: Call) -> Price:
        """Experts of one device, all with the same load."""
        from archsim.models.gpu import equal_figures, evaluate_moe

        s = call.sizes
        figures = equal_figures(s["pairs"], s["active"], s["experts"])
        cost = evaluate_moe(
            self.device, figures, s["hidden"], s["inner"], self.dtype,  # type: ignore[arg-type]
            tokens=s["tokens"], gated=bool(s["gated"].all()), weight_bytes=self.bits.weight / 8.0,
            constants=self.constants,
        )  # fmt: skip
        return _price(cost)

    def collective(self, call: Call, links: list[Level]) -> tuple[Floats, Floats]:
        """Seconds, and joules of all members together, by the libraries of GPUs."""
        members, held = np.broadcast_arrays(call.sizes["members"], call.sizes["bytes"])
        kind = "all_reduce" if call.kind == "all_reduce" else "all_to_all"
        return gpu_collective(self.device, self.constants, kind, members, held, links)

    def kept(self, call: Call) -> Floats:
        """Share of the engine that a collective keeps from the kernels beside it: NCCL's SMs."""
        return gpu_share(self.device.sms, call.kind, call.sizes["bytes"])

    def _either(
        self, call: Call, first: NDArray[np.bool_],
        one: Callable[[GpuDevice, dict[str, Floats]], GpuCost],
        other: Callable[[GpuDevice, dict[str, Floats]], GpuCost],
    ) -> Price:  # fmt: skip
        """One kernel for the rows where ``first`` holds, the other for the rest."""
        sizes = dict(call.sizes)
        if first.all() or not first.any():
            return _price((one if first.all() else other)(self.device, sizes))
        out = np.empty((len(fields(Price)), len(first)))
        whole = self.device.rows(first.shape)
        for mask, kernel in ((first, one), (~first, other)):
            some = {n: np.broadcast_to(v, first.shape)[mask] for n, v in sizes.items()}
            price = _price(kernel(where(whole, mask), some))
            for row, f in zip(out, fields(Price), strict=True):
                row[mask] = getattr(price, f.name)
        return Price(*out)

    def _prefill(self, device: GpuDevice, r: dict[str, Floats], kv: str | None) -> GpuCost:
        from archsim.models.gpu import evaluate_prefill

        return evaluate_prefill(
            device, r["requests"], r["new"], r["heads"], r["kv_heads"], r["head_dim"],
            "bf16" if self.bits.activation > 8 else "fp8", kv_dtype=kv, value_dim=r["value_dim"],
            window=r.get("window", np.inf), past=r["context"] - r["new"],
            constants=self.constants,
        )  # fmt: skip

    def attention(self, call: Call) -> Price:
        """Decode or prefill attention."""
        from archsim.models.gpu import evaluate_decode

        kv = self.kv_dtype

        def decode(device: GpuDevice, r: dict[str, Floats]) -> GpuCost:
            return evaluate_decode(
                device, r["requests"], r["context"], r["heads"], r["kv_heads"], r["head_dim"], kv,
                window=r["window"], constants=self.constants,
            )  # fmt: skip

        s = call.sizes
        single = (s["new"] == 1) & (s["head_dim"] == s["value_dim"])
        return self._either(call, single, decode, lambda d, r: self._prefill(d, r, kv))

    def latent(self, call: Call) -> Price:
        """Latent attention: absorbed as decode over one row a token, else as prefill.

        Several new tokens of an absorbed step are more queries that share the row (none is masked).
        """
        from archsim.models.gpu import evaluate_decode

        kv = self.kv_dtype

        def decode(device: GpuDevice, r: dict[str, Floats]) -> GpuCost:
            return evaluate_decode(
                device, r["requests"], r["context"], r["heads"] * r["new"], 1.0, r["head_dim"], kv,
                latent_value_dim=float(r["value_dim"].flat[0]), constants=self.constants,
            )  # fmt: skip

        absorbed = call.sizes["absorbed"] > 0
        return self._either(call, absorbed, decode, lambda d, r: self._prefill(d, r, None))

    def eager(self, call: Call) -> Price:
        """A call as PyTorch runs it without graphs: the host's time, attention unfused.

        Each expert with tokens is its own products, as in a loop over experts.
        """
        from archsim.models.gpu import eager_s

        host = eager_s("matmul")
        if call.kind in self.unfuses:
            return self.pieces(call, host=True)
        price = self.price(call)
        if call.kind == "vector":
            p = self.constants.kernel("vector")
            many = eager_s(call.operation) * call.launches
            started = p["launch_s"] * call.launches + many
            busy = price.seconds - p["launch_s"]
            seconds = np.maximum(started, p["eager_start_share"] * many + busy)
        elif call.kind == "moe":
            products = 2.0 + call.sizes["gated"]
            seconds = price.seconds + call.sizes["active"] * products * host
        else:
            seconds = price.seconds + host
        return replace(price, seconds=seconds)

    def pieces(self, call: Call, host: bool = False) -> Price:
        """Attention as three kernels: scores, softmax over all of them, values.

        A group of heads shares its keys; ``host`` adds the host's time to start each.
        """
        from archsim.models.gpu import eager_s, evaluate_batched_gemm, evaluate_vector

        s = call.sizes
        copies, rows = s["requests"] * s["kv_heads"], s["new"] * s["heads"] / s["kv_heads"]
        tokens, kv = s["context"], self.bits.kv / 8.0
        shapes = ((tokens, s["head_dim"]), (s["value_dim"], tokens))
        products = [
            evaluate_batched_gemm(
                self.device,
                copies,
                rows,
                n,
                k,
                self.dtype,
                right_bytes=kv,
                constants=self.constants,
            )
            for n, k in shapes
        ]
        scores = copies * rows * tokens
        softmax = evaluate_vector(
            self.device, "softmax", scores, self.dtype, eager=host, constants=self.constants
        )
        whole = [_price(cost) for cost in (*products, softmax)]
        summed = Price(*(sum(getattr(one, f.name) for one in whole) for f in fields(Price)))
        started = 2.0 * eager_s("matmul") if host else 0.0
        return replace(summed, seconds=summed.seconds + started)


def _price(cost: GpuCost) -> Price:
    return Price(cost.latency_s, cost.energy_j, cost.parts_s["compute_s"],
                 cost.parts_s["memory_s"], cost.dram_bytes)  # fmt: skip
