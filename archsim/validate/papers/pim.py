"""Memories that compute, at command level: HBM-PIM, AttAcc, AiM."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from archsim.models.pim import closed_form, load_product, run_kernel
from archsim.models.pim.command import run_elementwise
from archsim.validate.papers.row import EXACT, Row

#: HBM-PIM's system in Samsung's PIMSimulator.
CHANNELS = 64


def stream_cycles(reads: int, writes: int) -> int:
    """Cycles of one of HBM-PIM's channels for bursts read and then written over its pins."""
    from archsim.models.dram.policy import Policy
    from archsim.models.dram.simulate import simulate
    from archsim.models.dram.trace import Trace

    spec = load_product("hbm_pim").base
    many = reads + writes
    write = (np.arange(many) >= reads).astype(np.int8)
    trace = Trace(np.zeros(many), write, np.arange(many) * spec.structure.burst_bytes)
    return simulate(spec, trace, Policy(depth=32)).cycles


def hbm_pim() -> Iterator[Row]:
    """Kernels of Samsung's simulator, with and without PIM."""
    paper = "Samsung PIMSimulator (HBM-PIM)"
    done = run_kernel("hbm_pim", 1, 4096, 4096)
    plain = stream_cycles(4096 * 4096 * 2 // CHANNELS // 32, 0)
    floor = done.commands["MACB"] * done.product.mac_distance
    said = "GEMV 4096 x 4096 FP16, 64 channels"
    yield Row(paper, f"{said}: cycles over the pins", 36082, plain, "cycles", 0.02)
    yield Row(paper, f"{said}: least cycles of its multiplications", 8192, floor, "cycles", EXACT)
    yield Row(paper, f"{said}: cycles with PIM", 13166, done.cycles, "cycles", 0.15)
    yield Row(paper, f"{said}: gain", 2.74, plain / done.cycles, "x", 0.15)
    closed = closed_form("hbm_pim", 1, 4096, 4096).cycles[0]
    yield Row(
        paper, f"{said}: closed form over command level", 1.0, closed / done.cycles, "x", 0.05
    )
    for name, elements, inputs, gain in (
        ("MUL", 2 << 20, 2, 2.24), ("ADD", 1 << 20, 2, 1.99), ("RELU", 4 << 20, 1, 2.28),
    ):  # fmt: skip
        bursts = elements * 2 // CHANNELS // 32
        alone = stream_cycles(inputs * bursts, bursts)
        ours = alone / run_elementwise("hbm_pim", elements, inputs).cycles
        figure = f"{name} of {elements >> 20}M elements: gain"
        yield Row(paper, figure, gain, ours, "x", 0.15)


def attacc() -> Iterator[Row]:
    """Bandwidth over the pins, from distances of commands and the power of the plain memory."""
    paper = "AttAcc (ASPLOS'24)"
    for level, free, limited in (("bank", 16, 9), ("bankgroup", 8, 3), ("buffer", 1, 1)):
        product = load_product(f"attacc_{level}")
        raw = load_product(product.model_dump(mode="json") | {"power": {"budget": "none"}})
        yield Row(paper, f"{level}: bandwidth in open rows, any power", free, raw.scale, "x", EXACT)
        units = product.units.count * product.lockstep * product.channels * product.stacks
        done = run_kernel(product, 1, units * 256, 512, refresh=False)
        pins = product.base.peak_bandwidth_bytes_per_s * product.channels * product.stacks
        figure = f"{level}: bandwidth issued command by command, power of the plain memory"
        yield Row(paper, figure, limited, done.bandwidth_bytes_per_s / pins, "x")
    e = load_product("attacc_bank").energy
    row = e.activate_pj / (1024 * 8)
    for level, published in (("bank", 0.55), ("bank_group", 1.56), ("buffer", 3.29)):
        figure = f"{level}: energy to the unit, its share of the row included"
        yield Row(paper, figure, published, e.to_unit(level) + row, "pJ/b", 0.01)
    yield Row(paper, "off-chip: the same", 3.59, e.to_pins + row, "pJ/b", 0.01)


def others() -> Iterator[Row]:
    """AiM."""
    aim = load_product("aim")
    figure = "bandwidth of the units over that of the pins"
    yield Row("SK hynix AiM", figure, 16, aim.scale, "x", EXACT)


def rows() -> Iterator[Row]:
    """All of them."""
    yield from hbm_pim()
    yield from attacc()
    yield from others()


#: What is not computed, and why.
NOT_COMPUTED = (
    (
        "HBM-PIM 11.2x kernels, 3.5x applications; AiM 80 % less power; UPMEM 93x",
        "measured beside processors whose kernels are not published",
    ),
)
