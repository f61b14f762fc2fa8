"""Published figures of language-model systems beside ours, computed from machines and models.

Nothing of ours is typed in: every figure comes from a shipped machine, a shipped model (or a config
that a paper gives) and the cost models. What a paper assumes (tokens a device, micro-batches) is
named beside the row. A figure counts as met within 10 % of the published one as it is printed,
unless the row says otherwise; counts and closed forms must agree to the digits published.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from archsim.hardware import Machine, load_machine, resolve_node
from archsim.system.llm import collectives, evaluate_step
from archsim.system.llm.calls import Call
from archsim.system.llm.pricing import pricer_for
from archsim.system.llm.schedules import bubble_share, walk
from archsim.system.llm.tiers import tier_path
from archsim.validate.references import table
from archsim.workload import Bits, available_models, load_model
from archsim.workload.architecture import Experts
from archsim.workload.huggingface import model_of
from archsim.workload.language import LanguageModel

#: Share of a published figure that ours may be off by, where nothing else is said.
ALLOWED = 0.10
#: Share for counts and closed forms.
EXACT = 1e-9


@dataclass(frozen=True)
class Row:
    """One figure.

    Attributes:
        paper: Where it is published.
        figure: What it is, and what is assumed.
        published: Its value, in ``unit``.
        ours: Ours.
        unit: Of both.
        allowed: Share of the published value that ours may be off by.
    """

    paper: str
    figure: str
    published: float
    ours: float
    unit: str = ""
    allowed: float = ALLOWED

    @property
    def error(self) -> float:
        """Signed, relative to the published figure."""
        return self.ours / self.published - 1.0

    @property
    def met(self) -> bool:
        """Whether ours is close enough."""
        return abs(self.error) <= self.allowed


def printed(value: float) -> float:
    """Share of a published whole number that its rounding leaves open.

    Example:
        >>> printed(671e9) == 0.5 / 671, printed(6738415616) < 1e-9
        (True, True)
    """
    digits = f"{value:.0f}"
    unit = 10.0 ** (len(digits) - len(digits.rstrip("0")))
    return 0.5 * unit / value if unit > 1 else EXACT / 10


# ------------------------------------------------------------------------------ counts of models


def counts() -> Iterator[Row]:
    """Parameters, cache of a token, and operations of training, of the shipped models."""
    insights = "Insights into DeepSeek-V3 (ISCA'25)"
    for name in available_models():
        model = load_model(name)
        ours = {"parameters": model.parameters, "active_parameters": model.active_parameters,
                "kv_bytes_per_token": model.kv_bytes_per_token()}  # fmt: skip
        for key, value in model.published.items():
            unit, scale = ("KB", 1e3) if key.startswith("kv") else ("G", 1e9)
            allowed = EXACT if key.startswith("kv") else printed(value)
            figure = f"{name}: {key.replace('_', ' ').replace('kv bytes per', 'cache of a')}"
            yield Row("Shipped models", figure, value / scale, ours[key] / scale, unit, allowed)
    for name, published in (("deepseek-v2", 155), ("deepseek-v3", 250), ("llama-3-405b", 2448)):
        figure = f"{name}: training, 4096 tokens, causal"
        yield Row(
            insights, figure, published, training_flops(load_model(name)) / 1e9, "GFLOP/token"
        )


def training_flops(model: LanguageModel, tokens: int = 4096) -> float:
    """Operations of a token's forward and backward pass (three forward passes).

    A graph counts all pairs of a sequence; their number is quadratic in its length, so that two
    lengths give the part of a token by itself and that of a pair, of which half are masked.
    """
    half, whole = (
        model.workload("prefill", context=n, all_logits=True, latent="unabsorbed").macs / n
        for n in (tokens // 2, tokens)
    )
    pair = (whole - half) / (tokens - tokens // 2)
    return 6.0 * (whole - pair * tokens + pair * (tokens + 1) / 2)


# ----------------------------------------------------------------------------------- DeepSeek-V3


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


def deepseek() -> Iterator[Row]:
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


# ------------------------------------------------------------------------------------ GPU layers


#: The twelve operations LLMCompass measured of one layer, as our calls (attention is three).
MEASURED_CALLS = (
    "mixer.qkv", "mixer.attend", "mixer.out", "mlp.up", "mlp.down", "mlp.act", "norm0", "norm1",
    "mixer.sum", "mlp.sum",
)  # fmt: skip


def gpt3_layer() -> Iterator[Row]:
    """A layer of GPT-3 175B as PyTorch ran it, through the whole system."""
    model = load_model("gpt-3-175b")
    for phase, context, published, allowed in (
        ("prefill", 2048, 66.75, 0.04),
        ("decode", 3072, 1.111, 0.06),
    ):
        cost = evaluate_step(
            model, "a100x4", phase=phase, batch=8, context=context, plan="tp4+eager"
        )
        layer = sum(cost.calls_s[name][0] for name in MEASURED_CALLS)
        ours = layer / len(model.architecture.layers) * 1e3
        figure = f"GPT-3 layer, 4 x A100, batch 8, {phase}, plan tp4+eager"
        yield Row("LLMCompass, measured", figure, published, ours, "ms", allowed)


# ------------------------------------------------------------------------------- Ladder residual


def without_peer_access(machine: Machine) -> Machine:
    """The machine with its GPUs' messages through host memory instead of their own links."""
    node = resolve_node(machine)
    ways = [tier_path(machine, node, *way) for way in (("hbm", "host_dram"), ("host_dram", "hbm"))]
    return machine.with_values({
        "links.nvlink.bandwidth_bytes_per_s": float(min(way.bandwidth[0] for way in ways)),
        "links.nvlink.latency_s": float(sum(way.latency[0] for way in ways)),
        "links.nvlink.reduces": False,
    })  # fmt: skip


def ladder() -> Iterator[Row]:
    """What a ladder gains of Llama-3 70B on eight H100: 1024 tokens in, 512 out, batch 1."""
    contexts = np.arange(1025, 1024 + 512)
    nvlink = load_machine("h100x8")
    for said, machine, published in (
        ("NVLink", nvlink, (-5.78, -23.71, 30.79)),
        ("no peer access", without_peer_access(nvlink), (-6.94, -37.71, 59.87)),
    ):
        found = []
        for plan in ("tp8", "tp8+ladder"):
            first = evaluate_step(
                "llama-3-70b", machine, phase="prefill", context=1024, plan=plan
            ).latency_s[0]
            rest = evaluate_step("llama-3-70b", machine, context=contexts, plan=plan).latency_s
            found.append((first, rest.sum(), first + rest.sum()))
        plain, better = found
        changes = [b / p - 1.0 for p, b in zip(plain[:2], better[:2], strict=True)]
        changes.append(plain[2] / better[2] - 1.0)
        for name, value, ours in zip(
            ("prefill time", "decode time", "tokens/s"), published, changes, strict=True
        ):
            figure = f"70B TP8, {said}: change of {name}"
            yield Row("Ladder-Residual (ICML'25)", figure, value, ours * 100, "%")


# ----------------------------------------------------------------------------------------- GPipe


#: The paper's Transformer of 48 layers (section 3): learnt positions, as GPT-2.
GPIPE_TRANSFORMER = {
    "model_type": "gpt2", "vocab_size": 32000, "n_embd": 2048, "n_inner": 8192, "n_layer": 48,
    "n_head": 32, "n_positions": 1024,
}  # fmt: skip
#: Of the paper's table 2: throughput by micro-batches and partitions, over that of (1, 2).
GPIPE_THROUGHPUT = {
    1: {4: 1.07, 8: 1.3},
    4: {2: 1.7, 4: 3.2, 8: 4.8},
    32: {2: 1.8, 4: 3.4, 8: 6.3},
}


def tpu_core() -> Machine:
    """One of the two cores of a TPU v3, the paper's accelerator."""
    chip = load_machine("tpu_v3")
    node = resolve_node(chip)
    hbm, mxu = node.tiers["hbm"], node.engines["mxu"]
    halves: dict[str, float] = {
        f"tiers.hbm.{name}": float(hbm[name][0]) / 2
        for name in ("capacity_bytes", "bandwidth_bytes_per_s")
    }
    for rate in ("rates.bf16.flops_per_s", "vector_rates.fp32.flops_per_s"):
        halves[f"engines.mxu.{rate}"] = float(mxu[rate][0]) / 2
    return chip.with_values(halves)


def stage_times(model: LanguageModel, machine: Machine, batch: int, stages: int) -> list[float]:
    """Forward time of each stage for one micro-batch; the ends lie in the outer stages."""
    layers = len(model.architecture.layers)
    cost = evaluate_step(
        model, machine, phase="prefill", batch=batch, context=model.architecture.longest,
        all_logits=True,
    )  # fmt: skip
    ends = {name: cost.calls_s[name][0] for name in ("embedding", "final_norm", "head")}
    body = (cost.latency_s[0] - sum(ends.values())) / layers
    share, more = divmod(layers, stages)
    times = [body * (share + (k < more)) for k in range(stages)]
    times[0] += ends["embedding"]
    times[-1] += ends["final_norm"] + ends["head"]
    return times


def gpipe() -> Iterator[Row]:
    """The bubble of a walked schedule beside its formula, and the Transformer's throughput."""
    for stages, micro in ((2, 1), (4, 4), (8, 32), (128, 512)):
        walked = walk([1.0] * stages, [3.0] * stages, micro)
        figure = f"bubble, {stages} stages, {micro} micro-batches: formula and schedule walked"
        yield Row("GPipe", figure, bubble_share(stages, micro), walked.bubble, "", EXACT)
    model, machine, batch = model_of(GPIPE_TRANSFORMER, "transformer-48"), tpu_core(), 32
    found = {}
    for micro in GPIPE_THROUGHPUT:
        for stages in (2, 4, 8):
            forward = stage_times(model, machine, batch // micro, stages)
            # Backward is twice the forward pass, which runs once more (rematerialisation).
            found[micro, stages] = walk(forward, [3.0 * t for t in forward], micro).latency_s
    for micro, columns in GPIPE_THROUGHPUT.items():
        for stages, published in columns.items():
            figure = (
                f"throughput, Transformer-48, batch 32, M = {micro}, K = {stages}, over M 1, K 2"
            )
            yield Row("GPipe", figure, published, found[1, 2] / found[micro, stages], "x")


# --------------------------------------------------------------------------------- LeanAttention


def dealt_rounds(items: int, parts: int, slots: int) -> int:
    """Rounds of blocks dealt out one by one, each to the slot with the fewest."""
    import heapq

    heap = [0] * slots
    for _ in range(items * parts):
        heapq.heapreplace(heap, heap[0] + 1)
    return max(heap)


def lean() -> Iterator[Row]:
    """Waves by the closed forms beside tiles dealt out; the gain at 256k tokens."""
    from archsim.models.gpu import evaluate_decode, gpu_device
    from archsim.models.gpu.attention import equal_share, fixed_rounds, flash_parts

    device, paper = gpu_device("a100"), "LeanAttention"
    tile = 128  # a LeanTile at a head of 128
    for name, batch, context, parts in (
        ("llama-2-7b", 1, 8192, 4), ("gpt-3-175b", 2, 2048, 2), ("llama-2-13b", 4, 65536, 3),
    ):  # fmt: skip
        heads = load_model(name).architecture.layers[0].mixer.kv_heads  # type: ignore[union-attr]
        items, tiles = batch * heads, -(-context // tile)
        shape = f"{name}, batch {batch}, {context} tokens, {device.sms} SMs"
        for said, closed, blocks in (
            (f"waves, fixed split of {parts}", fixed_rounds(items, parts, device.sms), parts),
            ("tiles of the fullest SM, equal split", equal_share(items, tiles, device.sms), tiles),
        ):
            dealt = dealt_rounds(items, blocks, device.sms)
            figure = f"{said}, formula and dealt out: {shape}"
            yield Row(paper, figure, float(closed), dealt, "", EXACT)
    heads, context = np.arange(1.0, 129.0), 262144
    cut = flash_parts(heads, context / tile, device.sms)
    waves = fixed_rounds(heads, cut, device.sms) * np.ceil(context / tile / cut)
    alone = waves / equal_share(heads, context / tile, device.sms)
    times = [
        evaluate_decode(device, 1, context, heads, heads, 128, split=split).latency_s
        for split in ("flash", "equal")
    ]
    for said, gain in (("waves alone", alone), ("kernel model", times[0] / times[1])):
        figure = f"most over FlashDecoding at 256k tokens, 1 to 128 heads of 128: {said}"
        yield Row(paper, figure, 2.18, float(gain.max()), "x")


# ----------------------------------------------------------------------------------------- SN40L


def sn40l() -> Iterator[Row]:
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
    ("SN40L: CoE speedups 6.6/3.7/4.8/2.8x, fusion 1.5-13x, Llama 3.1 tokens/s",
     "layers fused into one dataflow kernel are not priced; lengths of prompts unknown"),
    ("GPipe: AmoebaNet-D columns, P100 columns",
     "the network and the GPU are not shipped; AmoebaNet's split is uneven and not given"),
    ("Deep Optimizer States: 6940 -> 3459 -> 2402 ms",
     "optimizer offload is not modelled; processor, DDR and PCIe of the runs are not published"),
    ("LeanAttention: 1.73x on average", "the shapes of the average are not known"),
    ("Ladder-Residual: other sizes",
     "8B, 405B: the batch of that table is not known; 1B, 3B, 34B, 176B: configs not shipped"),
    ("Insights: Qwen-72B 394 GFLOP/token, MPFT training rates",
     "the config is not shipped; training across nodes is not modelled"),
    ("Duplex, AttAcc, NeuPIMs, SpAtten, BitMoD",
     "processing in memory and special accelerators: not part of this level yet"),
)  # fmt: skip

#: Groups of rows.
PAPERS: tuple[Callable[[], Iterator[Row]], ...] = (
    counts, deepseek, gpt3_layer, ladder, gpipe, lean, sn40l,
)  # fmt: skip


def paper_rows() -> list[Row]:
    """All rows."""
    return [row for group in PAPERS for row in group()]


HEADS = ("figure", "published", "ours", "unit", "error", "allowed", "")


def _line(row: Row) -> tuple[str, ...]:
    loose = f"{row.allowed:.2%}" if row.allowed < 0.01 else f"{row.allowed:.0%}"
    return (
        row.figure, f"{row.published:.6g}", f"{row.ours:.6g}", row.unit, f"{row.error:+.1%}",
        "exact" if row.allowed <= EXACT else loose, "met" if row.met else "MISSED",
    )  # fmt: skip


def validate_papers() -> bool:
    """Print the table; True if every figure is met."""
    rows = paper_rows()
    print("Published figures beside ours, computed from machine and model descriptions")
    for paper in dict.fromkeys(row.paper for row in rows):
        print(f"\n{paper}")
        print(table(HEADS, [_line(row) for row in rows if row.paper == paper]))
    met = sum(row.met for row in rows)
    print(f"\n{met} of {len(rows)} met. Not computed:")
    for name, reason in NOT_COMPUTED:
        print(f"  {name}: {reason}")
    return met == len(rows)
