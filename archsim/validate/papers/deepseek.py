"""DeepSeek-V3: bounds of a token's time, and measured exchanges of experts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from archsim.hardware import Machine, load_machine, resolve_node
from archsim.system.llm import collectives
from archsim.system.llm.calls import Call
from archsim.system.llm.pricing import pricer_for
from archsim.validate.papers.row import ALLOWED, Row
from archsim.workload import Bits, load_model
from archsim.workload.architecture import Experts


def exchange_bound(
    machine: Machine | str, link: str, *, tokens: int = 32, rounded: bool = True
) -> float:
    """Least time of a token of DeepSeek-V3, all experts' traffic over one link, s.

    ISCA'25, section 2.3: each layer sends every token to its eight experts and the shared one in
    FP8 and brings them back in BF16, two micro-batches in turn; latency is left out.

    Args:
        machine: Its description.
        link: Over which everything goes.
        tokens: Of one device.
        rounded: Take the width in whole thousands, as the paper does.
    """
    model = load_model("deepseek-v3")
    found = load_machine(machine) if isinstance(machine, str) else machine
    levels = collectives.levels(found, resolve_node(found))
    level = next(level for level in levels if level.name == link)
    many = np.array([1e12])  # none of the targets is the sender
    ideal = [replace(level, members=many, latency=np.zeros(1))]
    arch = model.architecture
    moe = next(x.ffn for x in arch.layers if isinstance(x.ffn, Experts))
    width = arch.width // 1000 * 1000 if rounded else arch.width
    sent = tokens * (moe.top_k + 1) * width
    layer = sum(
        collectives.all_to_all(ideal, many, np.array([sent * bits / 8.0]))[0][0] for bits in (8, 16)
    )
    return float(2.0 * layer * len(arch.layers))


def rows() -> Iterator[Row]:
    """Bounds of a token's time, and measured exchanges of experts."""
    insights = "Insights into DeepSeek-V3 (ISCA'25)"
    for name, link, said, bound in (
        ("h800x16", "infiniband", "H800, 400 Gb/s InfiniBand", 14.76),
        ("gb200x72", "nvlink", "GB200 NVL72", 0.82),
    ):
        for rounded, words in ((True, "width 7000 as the paper"), (False, "width of the config")):
            ours = exchange_bound(name, link, rounded=rounded) * 1e3
            figure = f"TPOT bound, {said}, 32 tokens a device, {words}"
            yield Row(insights, figure, bound, ours, "ms", 0.005 if rounded else ALLOWED)
    moe = next(
        x.ffn for x in load_model("deepseek-v3").architecture.layers if isinstance(x.ffn, Experts)
    )
    width = load_model("deepseek-v3").architecture.width
    # DeepEP, docs/legacy.md, low-latency kernels: 128 tokens a device; dispatch FP8, combine BF16.
    measured = {8: (77, 114), 16: (118, 195), 32: (155, 273), 64: (173, 314), 128: (192, 369),
                256: (194, 360)}  # fmt: skip
    for members, pair in measured.items():
        machine = load_machine(f"h800x{members}")
        node = resolve_node(machine)
        pricer, links = pricer_for(machine, node, Bits()), collectives.levels(machine, node)
        for name, published, bits in zip(("dispatch", "combine"), pair, (8, 16), strict=True):
            sizes = {"bytes": np.array([128.0 * moe.top_k * width * bits / 8]),
                     "members": np.array([float(members)])}  # fmt: skip
            seconds, _ = pricer.collective(Call(name, "all_to_all", sizes), links)
            figure = f"EP{members} {name}, H800, 128 tokens a device"
            yield Row("DeepEP, measured", figure, published, seconds[0] * 1e6, "us", 0.20)


#: What is not computed, and why.
NOT_COMPUTED = (
    (
        "Insights: Qwen-72B 394 GFLOP/token, MPFT training rates",
        "the config is not shipped; DualPipe's reserved SMs and scaling in blocks are not modelled",
    ),
)
