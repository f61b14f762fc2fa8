"""Duplex (MICRO 2024): rates, energy, area, EDAP by level, throughput and energy of serving.

What serving assumes, and from where (P: the paper; S: the authors' simulator, LLMSimulator of
scale-snu, read in its forks by HeliosZhou and caoslab-postech):

* Grid of figures 11 and 15: three models, batches 32, 64, 128, the lengths of ``LENGTHS`` (P).
* Placement: tensor parallel in a node, data parallel across; experts dealt over all devices, or cut
  over those of a node ("ET") (P, figure 3 and section V-B); devices by model (P, section VI).
* Units in memory take experts, and attention of single new tokens; all else stays with the
  processor (P, sections IV and V-C; S, Linear). Without co-processing a device uses one engine at a
  time, the faster one (S, Executor).
* Co-processing ("PE"): experts lie in four parts of the memory, and all in a part run on the same
  engine (P, section V-C; S, getIdxHigh). Figures 13 to 15 compare with all splits (P, VII-D).
* An operation takes the longer of its computing and its memory's time (S); memory reaches 0.75 of
  its peak on either engine: what the authors' split of experts reckons with (S, getIdxHigh). Their
  command-level runs are not public; archsim's find 0.84 to 0.94 for streams to the pins and 0.65 to
  0.92 for Logic-PIM.
* Links: 450 GB/s and 3.0 us a step in a node, 400 GB/s and 0.5 us between nodes: the defaults of
  the simulator's SystemConfig, which has the paper's 400 GB/s. Its preset of the H100 has 0.8 us
  and 50 GB/s; the spans beside the rows show what that changes.
* Lengths: normal, 0.4 of at most 256 tokens wide (S). Experts are chosen uniformly (P).
* Energy: DRAM and multipliers, none of links; an activation is 0.909 nJ a row of 1 KB (S, power.h).
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

import numpy as np

from archsim.hardware import Machine, load_machine, resolve_node
from archsim.models.pim import load_product
from archsim.system.llm.continuous import Served, Stages, serve_continuously, walk_stages
from archsim.system.llm.pim import inside_product
from archsim.validate.papers.row import Row

PAPER = "Duplex (MICRO'24)"
#: Model: devices, plan with experts dealt out, plan with experts cut ("ET").
LAID = {
    "mixtral-8x7b": (4, "tp4ep4", "tp4"),
    "glam-8b-64e": (8, "tp8ep8", "tp8"),
    "grok-1": (16, "tp8dp2ep8", "tp8dp2ep2"),
}
BATCHES = (32, 64, 128)
#: Mean tokens in and out of figures 11, 14 and 15.
LENGTHS = {
    "mixtral-8x7b": (256, 1024, 4096),
    "glam-8b-64e": (512, 1024, 2048),
    "grok-1": (256, 1024, 4096),
}
#: EDAP by operations a byte, over the worst of the three levels (GEMM 16384 x 4096).
OPS = (1, 2, 4, 8, 16, 32)
EDAP = {
    "bank_pim": (0.08, 0.16, 0.35, 0.81, 1.0, 1.0),
    "bankgroup_pim": (1.0, 1.0, 1.0, 1.0, 0.96, 0.67),
    "duplex": (0.66, 0.66, 0.65, 0.65, 0.61, 0.40),
}
#: Standard deviation of lengths over their mean, of at most 256 tokens (the authors' simulator).
SPREAD = 0.4
#: Share of the memory's peak that both engines reach (the authors' split of experts).
REACHED = 0.75
#: J per bit of activating a row: 0.909 nJ a KB (the authors' simulator, after FGDRAM, MICRO'17).
ACTIVATION_J = 0.909e-9 / 8192
#: Links as in the simulator's preset of the H100, beside the defaults that machines have.
PRESET = {
    "links.nvlink.latency_s": 0.8e-6,
    "links.infiniband.latency_s": 0.13e-6,
    "links.infiniband.bandwidth_bytes_per_s": 50e9,
}
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


def system(name: str, devices: int, policy: str, preset: bool = False) -> Machine:
    """Devices as the authors' simulator has them."""
    found = load_machine(f"{name}x{devices}")
    values: dict[str, float | str] = {
        f"links.{link}.energy_j_per_bit": 0.0 for link in ("nvlink", "infiniband")
    }
    read = found.item("tiers", "hbm").read_energy_j_per_bit
    values["tiers.hbm.read_energy_j_per_bit"] = read + ACTIVATION_J
    values["engines.xpu.memory_efficiency"] = REACHED
    if policy:
        inner = float(resolve_node(found).engines["pim"]["read_energy_j_per_bit"][0])
        values |= {
            "engines.pim.policy": policy,
            "engines.pim.takes": "experts_attention",
            "engines.pim.efficiency": REACHED,
            "engines.pim.read_energy_j_per_bit": inner + ACTIVATION_J,
        }
    return found.with_values(values | (PRESET if preset else {}))


def kernels(devices: int, policy: str) -> Machine:
    """H100s by their measured kernels, with Logic-PIM under their memory."""
    text = load_machine(f"h100x{devices}").model_dump(mode="json")
    if policy:
        pim = load_machine("duplex").item("engines", "pim").model_dump(mode="json")
        pim |= {"policy": policy, "takes": "experts_attention", "fidelity": "commands"}
        text["engines"].append(pim)
    return Machine.model_validate(text)


def cells(model: str) -> list[tuple[int, int]]:
    """Batches and lengths of a model."""
    return [(batch, length) for batch in BATCHES for length in LENGTHS[model]]


@cache
def served(
    name: str, model: str, cut: bool = False, policy: str = "", variant: str = ""
) -> dict[tuple[int, int], Served]:
    """Every batch and length of one model on a machine."""
    devices, dealt, shared = LAID[model]
    if variant == "kernels":
        found = kernels(devices, policy)
    else:
        found = system(name, devices, policy, variant == "preset")
    mixes = [stages(*cell) for cell in cells(model)]
    done = serve_continuously(model, found, mixes, shared if cut else dealt)
    return dict(zip(cells(model), done, strict=True))


@cache
def stages(batch: int, length: int) -> Stages:
    """Stages of a batch whose prompts and answers have one mean length."""
    return walk_stages(batch, length, length, spread=SPREAD * min(256, length) / length)


def gains(
    model: str, name: str, cut: bool, policy: str, variant: str = ""
) -> tuple[np.ndarray, np.ndarray]:
    """Throughput over the processor's alone, and change of energy a token, over the cells."""
    plain = served("duplex_gpu", model, variant=variant)
    helped = served(name, model, cut, policy, variant)
    pairs = [(plain[cell], helped[cell]) for cell in plain]
    throughput = np.array([b.tokens_per_s / a.tokens_per_s for a, b in pairs])
    energy = np.array([b.joules_per_token / a.joules_per_token - 1.0 for a, b in pairs])
    return throughput, energy


#: What the rows of serving have in common, and what is left open.
SIMULATOR = (
    "per-case values are not published, nor the command-level runs behind them; ours is a roofline "
    "at 0.75 of the memory's peak"
)
OVER = (
    "links (the simulator's preset instead of its defaults) and processor (measured kernels of "
    "H100 and Logic-PIM by its commands instead of rooflines)"
)
#: What Grok-1's energy depends on, and why ours is off.
STAYS = "whether the fullest expert of a device goes to the processor (ours) or none does"
DRAWN = (
    "by expected loads the fullest of four experts on a device goes to the processor at every "
    "stage of 32 requests, by drawn ones at 57 % (those giving it more than 10 of 64 tokens)"
)


def serving() -> Iterator[Row]:
    """Throughput and energy over the grid."""
    said = "3 models, 3 batches, 3 lengths (figure 11); both engines at 0.75 of the memory"

    def over_grid(cut: bool, policy: str, variant: str = "") -> np.ndarray:
        return np.array([gains(model, "duplex", cut, policy, variant) for model in LAID])

    plain, split = over_grid(False, "offload")[:, 0], over_grid(False, "split")[:, 0]
    both, energy = over_grid(True, "split").swapaxes(0, 1)
    energy = 100 * energy
    other = [over_grid(True, "split", variant)[:, 0] for variant in ("preset", "kernels")]
    cases: tuple[tuple[str, float, float, str, list[float]], ...] = (
        (f"throughput, average: {said}", 2.07, both.mean(), "x", [x.mean() for x in other]),
        ("throughput, most", 2.67, both.max(), "x", [x.max() for x in other]),
        ("throughput, most, without splits", 2.51, plain.max(), "x", []),
        ("experts and attention split over not, average", 1.04, (split / plain).mean(), "x", []),
        ("and experts cut over none of these, most", 1.36, (both / plain).max(), "x", []),
        ("energy a token, average", -28.19, energy.mean(), "%", []),
        ("energy a token, most", -42.03, energy.min(), "%", []),
    )  # fmt: skip
    for figure, published, value, unit, spread in cases:
        yield Row(PAPER, figure, published, float(value), unit, cause=SIMULATOR,
                  spread=tuple(map(float, spread)), over=OVER if spread else "")  # fmt: skip
    for place, (model, published) in enumerate(
        (("mixtral-8x7b", -33.28), ("glam-8b-64e", -42.03), ("grok-1", -34.59))
    ):
        mine = float(energy[place].min())
        figure = f"energy a token, most: {model}"
        if model != "grok-1":
            yield Row(PAPER, figure, published, mine, "%", cause=SIMULATOR)
            continue
        staying = 100 * float(gains(model, "duplex", True, "offload")[1].min())
        yield Row(PAPER, figure, published, mine, "%", cause=DRAWN, spread=(staying,), over=STAYS)


def banks() -> Iterator[Row]:
    """Beside units at the banks: figure 14's cells of Mixtral."""
    model = "mixtral-8x7b"
    some = [place for place, (batch, _) in enumerate(cells(model)) if batch < 128]
    at = [cells(model)[place] for place in some]
    bank = gains(model, "bank_pim", False, "offload")[0][some]
    without = gains(model, "duplex", False, "offload")[0][some]
    full = gains(model, "duplex", True, "split")[0][some]
    few, many = at.index((32, 4096)), at.index((64, 256))
    cases = (
        ("Bank-PIM, batch 32, 4096 tokens", 2.17, bank[few], None),
        ("Bank-PIM, batch 64, 256 tokens", 1.18, bank[many], None),
        ("Duplex, batch 64, 256 tokens", 2.05, full[many], without[many]),
        ("Duplex over Bank-PIM, average", 1.49, (full / bank).mean(), (without / bank).mean()),
        ("Duplex over Bank-PIM, most", 1.80, (full / bank).max(), (without / bank).max()),
    )
    for figure, published, ours, other in cases:
        spread = () if other is None else (float(other),)
        over = "whether figure 14's Duplex splits (ours, as in figure 15) or not" if spread else ""
        yield Row(PAPER, f"Mixtral throughput: {figure}", published, float(ours), "x",
                  cause=SIMULATOR, spread=spread, over=over)  # fmt: skip


def latency() -> Iterator[Row]:
    """GLaM, 64 requests (figure 12): time between tokens, and from a request's start to its end."""
    model, batch = "glam-8b-64e", 64
    devices, dealt, shared = LAID[model]
    mixes = [stages(batch, length) for length in LENGTHS[model]]
    systems = {
        "GPU": (system("duplex_gpu", devices, ""), dealt),
        "2xGPU": (system("duplex_gpu", 2 * devices, ""), f"tp{devices}dp2ep{2 * devices}"),
        "Duplex": (system("duplex", devices, "offload"), dealt),
        "split": (system("duplex", devices, "split"), shared),
    }
    # The median stage has no prompt in it; answers end as soon as their stages do.
    median = [_decoding(mix) for mix in mixes]
    between = {n: _stage_s(model, *systems[n], median) for n in ("GPU", "Duplex")}
    whole = {n: _stage_s(model, *systems[n], mixes) for n in ("GPU", "2xGPU", "split")}
    cases = (
        ("median time between tokens, Duplex over GPU, average", -58.3, between, "Duplex", "GPU"),
        ("time of a request, all splits, over GPU, average", -60.20, whole, "split", "GPU"),
        ("the same over twice the GPUs", -35.38, whole, "split", "2xGPU"),
    )  # fmt: skip
    for figure, published, times, mine, theirs in cases:
        change = 100 * float((times[mine] / times[theirs]).mean() - 1.0)
        yield Row(PAPER, f"GLaM, batch 64: {figure}", published, change, "%", cause=SIMULATOR)


def _decoding(mix: Stages) -> Stages:
    """The stages of a mix without prompts alone."""
    first = int(np.flatnonzero(mix.prompts == 0)[0])
    kept = slice(first, first + 1)
    return Stages(np.ones(1), mix.prompts[kept], mix.prompt[kept], mix.decoding[kept],
                  mix.context[kept])  # fmt: skip


def _stage_s(model: str, found: Machine, plan: str, mixes: list[Stages]) -> np.ndarray:
    return np.array([done.stage_s for done in serve_continuously(model, found, mixes, plan)])


def saturation() -> Iterator[Row]:
    """Requests a second that a full batch of 128 leaves: Mixtral, 4096 in, 512 out."""
    mix = walk_stages(128, 4096, 512, spread=SPREAD * 256 / 2304)
    rates = []
    for name, plan, policy, published in (
        ("duplex_gpu", "tp4ep4", "", 9), ("duplex", "tp4", "split", 14),
    ):  # fmt: skip
        done = serve_continuously("mixtral-8x7b", system(name, 4, policy), mix, plan)[0]
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
    yield from banks()
    yield from latency()
    yield from saturation()


#: What is not computed, and why.
NOT_COMPUTED = (
    (
        "Duplex: tails of latencies, figure 13's by queries a second, bars of figures 11 to 16",
        "tails need arrivals; per-bar values are not published",
    ),
)
