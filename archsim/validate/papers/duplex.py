"""Duplex (MICRO 2024): rates, energy, area, EDAP by level, throughput and energy of serving."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

import numpy as np

from archsim.hardware import Machine, load_machine, resolve_node
from archsim.models.pim import load_product
from archsim.system.llm.continuous import Served, serve_continuously, walk_stages
from archsim.system.llm.pim import inside_product
from archsim.validate.papers.row import Row

PAPER = "Duplex (MICRO'24)"
#: Model: devices, plan with experts dealt out, plan with experts cut ("ET").
LAID = {
    "mixtral-8x7b": (4, "tp4ep4", "tp4"),
    "glam-8b-64e": (8, "tp8ep8", "tp8"),
    "grok-1": (16, "tp8dp2ep8", "tp8dp2ep2"),
    "opt-66b": (4, "tp4", "tp4"),
    "llama-3-70b": (4, "tp4", "tp4"),
}
BATCHES, LENGTHS = (32, 64, 128), (256, 512, 1024, 2048, 4096)
#: EDAP by operations a byte, over the worst of the three levels (GEMM 16384 x 4096).
OPS = (1, 2, 4, 8, 16, 32)
EDAP = {
    "bank_pim": (0.08, 0.16, 0.35, 0.81, 1.0, 1.0),
    "bankgroup_pim": (1.0, 1.0, 1.0, 1.0, 0.96, 0.67),
    "duplex": (0.66, 0.66, 0.65, 0.65, 0.61, 0.40),
}
#: Standard deviation of lengths over their mean, of at most 256 tokens (the authors' simulator).
SPREAD = 0.4
#: Operations a byte at which four constants of ``archsim.hardware.pim`` were calibrated.
CALIBRATED = (1, 8, 32)


def device() -> Iterator[Row]:
    """Figures of one device and stack."""
    machine = load_machine("duplex")
    node = resolve_node(machine)
    pim, hbm = node.engines["pim"], node.tiers["hbm"]
    inside = float(hbm["bandwidth_bytes_per_s"][0] * pim["bandwidth_factor"][0])
    rate = float(pim["flops_per_s"][0] / pim["stacks"][0])
    yield Row(PAPER, "Logic-PIM: rate of a stack", 21.3, rate / 1e12, "TFLOPS", 0.01)
    yield Row(PAPER, "Logic-PIM: bandwidth of a device", 13.4, inside / 1e12, "TB/s", 0.01)
    intensity = rate * float(pim["stacks"][0]) / inside
    yield Row(PAPER, "Logic-PIM: operations a byte", 8, intensity, "op/B", 0.02)
    area = float(pim["area_mm2"][0] / pim["stacks"][0])
    yield Row(PAPER, "Logic-PIM: area of a stack, from its parts", 17.80, area, "mm2", 0.01)
    product = load_product("logic_pim")
    figure = "Logic-PIM: bandwidth of a device, from commands of eight banks every tCCD_L"
    yield Row(PAPER, figure, 13.4, product.bandwidth_bytes_per_s / 1e12, "TB/s", 0.02)
    figure = "Logic-PIM: rate of a stack, eight vectors a command"
    yield Row(PAPER, figure, 21.3, product.flops_per_s / product.stacks / 1e12, "TFLOPS", 0.02)
    read = float(pim["read_energy_j_per_bit"][0]) * 1e12
    yield Row(
        PAPER, "energy to Logic-PIM (its simulator's 0.464 nJ a burst)", 1.81, read, "pJ/b", 0.01
    )
    path = product.energy.to_unit("logic_die")
    figure = "energy to Logic-PIM, cell + column + TSV of FGDRAM"
    yield Row(PAPER, figure, 1.81, path, "pJ/b")
    outside = product.energy.to_pins
    yield Row(PAPER, "energy to the processor, all segments", 3.48, outside, "pJ/b", 0.01)


def edap() -> dict[str, np.ndarray]:
    """Our EDAP of the three levels over the worst, by operations a byte."""
    tokens = np.array(OPS, float)
    raw = {name: inside_product(load_machine(name), tokens)["edap"] for name in EDAP}
    worst = np.maximum.reduce(list(raw.values()))
    return {name: values / worst for name, values in raw.items()}


def crossing(first: np.ndarray, second: np.ndarray) -> float:
    """Operations a byte at which the first line passes the second, between points on log axes."""
    gap = np.log(first) - np.log(second)
    at = int(np.argmax(gap > 0))
    share = -gap[at - 1] / (gap[at] - gap[at - 1])
    return float(2.0 ** (at - 1 + share))


def efficiency() -> Iterator[Row]:
    """EDAP by level and operations a byte."""
    ours = edap()
    for name, published in EDAP.items():
        for place, ops in enumerate(OPS):
            said = "calibrated" if ops in CALIBRATED else "held out"
            figure = f"EDAP over the worst level at {ops} op/B ({said}): {name}"
            yield Row(PAPER, figure, published[place], float(ours[name][place]), "", 0.15)
    for other in ("duplex", "bankgroup_pim"):
        pairs = (np.array(EDAP["bank_pim"]), np.array(EDAP[other])), (ours["bank_pim"], ours[other])
        before, after = (crossing(*pair) for pair in pairs)
        figure = f"op/B from which PIM at the banks is worse than {other}"
        yield Row(PAPER, figure, before, after, "op/B", 0.15)


@cache
def served(machine: str, model: str, cut: bool = False, policy: str = "") -> dict:
    """Every batch and length of one model on a machine."""
    devices, dealt, shared = LAID[model]
    # The authors' simulator counts energy of memory and multipliers, none of links.
    values: dict[str, float | str] = {
        f"links.{link}.energy_j_per_bit": 0.0 for link in ("nvlink", "infiniband")
    }
    if policy:
        values["engines.pim.policy"] = policy
    found: Machine = load_machine(f"{machine}x{devices}").with_values(values)
    mixes = [stages(batch, length) for batch in BATCHES for length in LENGTHS]
    done = serve_continuously(model, found, mixes, shared if cut else dealt)
    keys = [(batch, length) for batch in BATCHES for length in LENGTHS]
    return dict(zip(keys, done, strict=True))


@cache
def stages(batch: int, length: int):
    """Stages of a batch whose prompts and answers have one mean length."""
    return walk_stages(batch, length, length, spread=SPREAD * min(256, length) / length)


def gains(model: str, machine: str, cut: bool, policy: str) -> tuple[np.ndarray, np.ndarray]:
    """Throughput over the processor's alone, and change of energy a token, over the grid."""
    plain, helped = served("duplex_gpu", model), served(machine, model, cut, policy)
    pairs: list[tuple[Served, Served]] = [(plain[key], helped[key]) for key in plain]
    throughput = np.array([b.tokens_per_s / a.tokens_per_s for a, b in pairs])
    energy = np.array([b.joules_per_token / a.joules_per_token - 1.0 for a, b in pairs])
    return throughput, energy


def serving() -> Iterator[Row]:
    """Throughput and energy over the grid."""
    said = f"{len(LAID)} models, batch 32 to 128, 256 to 4096 tokens in and out"
    whole = {model: gains(model, "duplex", True, "split") for model in LAID}
    throughput = np.concatenate([g for g, _ in whole.values()])
    energy = np.concatenate([e for _, e in whole.values()]) * 100
    simulator = (
        "per-case values are not published, nor which splits and placements of experts each bar "
        "has; ours reads weights at the full four times, at every load"
    )
    yield Row(PAPER, f"throughput, average: {said}", 2.07, float(throughput.mean()), "x")
    yield Row(PAPER, "throughput, most", 2.67, float(throughput.max()), "x", cause=simulator)
    yield Row(PAPER, "energy a token, average", -28.19, float(energy.mean()), "%", cause=simulator)
    yield Row(PAPER, "energy a token, most", -42.03, float(energy.min()), "%", cause=simulator)
    for model, published in (
        ("glam-8b-64e", -42.03), ("mixtral-8x7b", -33.28), ("grok-1", -34.59),
    ):  # fmt: skip
        ours = float(whole[model][1].min()) * 100
        yield Row(PAPER, f"energy a token, most: {model}", published, ours, "%", cause=simulator)
    at = [(batch, length) for batch in BATCHES for length in LENGTHS]
    bank, _ = gains("mixtral-8x7b", "bank_pim", False, "offload")
    duplex, _ = gains("mixtral-8x7b", "duplex", False, "offload")
    few, many = at.index((32, 4096)), at.index((64, 256))
    cases = (
        ("Bank-PIM, batch 32, 4096 tokens", 2.17, bank[few]),
        ("Bank-PIM, batch 64, 256 tokens", 1.18, bank[many]),
        ("Duplex, batch 64, 256 tokens", 2.05, duplex[many]),
        ("Duplex with both splits, same", 2.05, whole["mixtral-8x7b"][0][many]),
    )
    for figure, published, ours in cases:
        yield Row(
            PAPER, f"Mixtral throughput: {figure}", published, float(ours), "x", cause=simulator
        )
    for said, mine in (("no splits", duplex), ("both splits", whole["mixtral-8x7b"][0])):
        ratio = mine / bank
        for what, published, ours in (
            ("average", 1.49, ratio.mean()), ("most", 1.80, ratio.max()),
        ):  # fmt: skip
            figure = f"Mixtral: Duplex ({said}) over Bank-PIM, {what}"
            yield Row(PAPER, figure, published, float(ours), "x", cause=simulator)


def saturation() -> Iterator[Row]:
    """Requests a second that a full batch of 128 leaves: Mixtral, 4096 in, 512 out."""
    mix = walk_stages(128, 4096, 512, spread=SPREAD * 256 / 2304)
    rates = []
    for name, plan, published in (("duplex_gpu", "tp4ep4", 9), ("duplex", "tp4", 14)):
        done = serve_continuously("mixtral-8x7b", f"{name}x4", mix, plan)[0]
        rates.append(done.tokens_per_s)
        figure = f"Mixtral, 4096 in, 512 out: requests a second, {name}"
        cause = "GPU batches of prompts and the admission policy are not published"
        yield Row(PAPER, figure, published, done.tokens_per_s / 512, "1/s", 0.15, cause=cause)
    ratio = rates[1] / rates[0]
    yield Row(PAPER, "Mixtral, 4096 in, 512 out: the same, ratio", 14 / 9, ratio, "x")


def rows() -> Iterator[Row]:
    """All of them."""
    yield from device()
    yield from efficiency()
    yield from serving()
    yield from saturation()


#: What is not computed, and why.
NOT_COMPUTED = (
    (
        "Duplex: latency percentiles (TBT, T2FT, E2E) and bars of figures 11 to 16",
        "percentiles need arrivals; per-bar values are not published",
    ),
)
