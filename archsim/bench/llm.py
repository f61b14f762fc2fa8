"""Speed of language-model steps: whole models on random hardware, plans and sizes; one call."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np

ROWS = 4096
SINGLE = 40
#: Model, machine and the largest degree of tensor parallelism drawn.
CASES = (
    ("llama-3-70b", "h100x8", 8),
    ("llama-3-405b", "h100x8", 8),
    ("mixtral-8x7b", "h100x8", 8),
    ("deepseek-v3", "h800x32", 4),
)


def random_designs(
    rng: np.random.Generator, machine: Any, rows: int, most: int
) -> dict[str, dict[str, Any]]:
    """Random designs, every row another.

    Args:
        rng: Where they come from.
        machine: A machine of GPUs with HBM, host memory, NVLink and PCIe.
        rows: How many.
        most: Largest degree of tensor parallelism.

    Returns:
        ``overrides`` (bandwidths, capacities, compute, latencies, the memory's kind), ``plan``
        (degrees, tiers of weights and caches) and ``sizes`` (batch, context), as
        ``evaluate_step`` takes them.
    """
    devices = machine.instances()
    sms = rng.integers(48, 200, rows)
    tensor = 2 ** rng.integers(0, int(np.log2(most)) + 1, rows)
    rest = devices // tensor
    pipeline = np.where(rng.random(rows) < 0.3, np.minimum(rest, 2), 1)
    data = rest // pipeline
    return {
        "overrides": {
            "tiers.hbm.kind": rng.choice(["HBM2E", "HBM3", "HBM3E", "HBM4"], rows),
            "tiers.hbm.bandwidth_bytes_per_s": rng.uniform(1e12, 8e12, rows),
            "tiers.hbm.capacity_bytes": rng.uniform(3e10, 3e11, rows),
            "tiers.host_dram.bandwidth_bytes_per_s": rng.uniform(1e11, 2e12, rows),
            "engines.sm.sms": sms,
            "engines.sm.rates.bf16.flops_per_s": sms * rng.uniform(4e12, 1e13, rows),
            "engines.sm.l2_bytes": rng.uniform(1e7, 2e8, rows),
            "links.nvlink.bandwidth_bytes_per_s": rng.uniform(5e10, 9e11, rows),
            "links.nvlink.latency_s": rng.uniform(1e-7, 2e-6, rows),
            "links.pcie.bandwidth_bytes_per_s": rng.uniform(3e10, 3e11, rows),
        },
        "plan": {
            "tensor": tensor,
            "pipeline": pipeline,
            "data": data,
            "expert": tensor * data,
            "weights": rng.choice(["", "host_dram"], rows),
            "weights_share": rng.uniform(0, 1, rows),
            "cache": rng.choice(["", "host_dram"], rows),
            "cache_share": rng.uniform(0, 1, rows),
        },
        "sizes": {
            "batch": rng.integers(1, 512, rows),
            "context": rng.integers(128, 32768, rows),
        },
    }


def bench_llm(repeat: int, scenario: str) -> list[tuple[str, str]]:
    """Whole-model decode steps a core-second in a batch of designs, and one call's time.

    CPU time of this process; on one thread, so that a core-second is what one core does.
    """
    from archsim.hardware import load_machine
    from archsim.system.llm import evaluate_step
    from archsim.workload import load_model

    rows: list[tuple[str, str]] = []
    for name, where, most in CASES:
        model, machine = load_model(name), load_machine(where)
        drawn = random_designs(np.random.default_rng(0), machine, ROWS, most)
        options: dict[str, Any] = {**drawn["sizes"], "strict": False}
        options |= {"plan": drawn["plan"], "overrides": drawn["overrides"]}

        def batch(model: Any = model, machine: Any = machine, options: Any = options) -> None:
            evaluate_step(model, machine, **options)

        devices = machine.instances()
        plan = f"tp{devices}" if most == devices else f"dp{devices}ep{devices}"

        def alone(model: Any = model, machine: Any = machine, plan: str = plan) -> None:
            evaluate_step(model, machine, batch=1024, context=4096, plan=plan)

        rate = ROWS / _median_s(batch, repeat)
        rows.append((f"{name} on designs of {where}", f"{rate:,.0f} steps/core-s"))
        one = _median_s(alone, max(repeat, SINGLE))
        rows.append((f"{name} on {where}, {plan}: one call", f"{one * 1e3:.2f} ms"))
    return rows


def _median_s(work: Callable[[], None], repeat: int) -> float:
    """Median CPU time, once warm."""
    work()
    seconds = []
    for _ in range(repeat):
        start = time.process_time()
        work()
        seconds.append(time.process_time() - start)
    return statistics.median(seconds)
