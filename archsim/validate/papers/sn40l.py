"""SN40L and its composition of experts (MICRO 2024)."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from archsim.hardware import Machine, load_machine, resolve_node
from archsim.system.llm.tiers import tier_path
from archsim.validate.papers.row import Row
from archsim.workload import load_model


def rows() -> Iterator[Row]:
    """Switching experts, and how many a machine holds: Llama-2 7B in BF16."""
    paper = "SN40L (MICRO'24)"
    held = 2.0 * load_model("llama-2-7b").parameters
    node = load_machine("sn40lx8")
    sockets = node.instances()
    copied = tier_path(node, resolve_node(node), "ddr", "hbm").seconds(held / sockets)[0]
    for name, published in (("a100", 31), ("h100", 15)):
        dgx = load_machine(f"{name}x8")
        # The paper takes one GPU's link for the whole node.
        other = tier_path(dgx, resolve_node(dgx), "host_dram", "hbm").seconds(held)[0]
        figure = f"model switch over DGX {name.upper()}, weights cut over 8 sockets, one PCIe link"
        yield Row(paper, figure, published, other / copied, "x")
    dgx = load_machine("a100x8")

    def capacity(machine: Machine, tier: str) -> float:
        found = resolve_node(machine).tiers[tier]
        return float(found["capacity_bytes"][0] * found["instances"][0])

    hbm = capacity(dgx, "hbm")
    yield Row(paper, "experts in the HBM of a DGX A100 (spill)", 50, hbm // held)
    both = hbm + capacity(dgx, "host_dram")
    yield Row(paper, "experts in HBM and host memory of a DGX A100 (end)", 150, both // held)
    ddr = capacity(node, "ddr")
    yield Row(paper, "experts in the DDR of an SN40L node", 850, ddr // held)
    nodes = np.ceil(850 / (hbm // held))
    yield Row(paper, "DGX nodes that hold 850 experts in HBM", 19, float(nodes))


#: What is not computed, and why.
NOT_COMPUTED = (
    (
        "SN40L: CoE speedups 6.6/3.7/4.8/2.8x, fusion 1.5-13x, Llama 3.1 tokens/s",
        "layers fused into one dataflow kernel are not priced; lengths of prompts unknown",
    ),
)
