"""Kernels at command level: cycles, energy and, on demand, every command."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from archsim.errors import InputError
from archsim.models.dram import layout as L
from archsim.models.dram.broadcast import C_COMMAND, C_ROW, C_TIMES
from archsim.models.dram.spec import DramSpec
from archsim.models.pim.kernels import Program, elementwise_program, gemm_program
from archsim.models.pim.product import Product, load_product


@dataclass(frozen=True, eq=False)
class KernelResult:
    """What a kernel takes on one channel; all channels work alike and at the same time.

    Attributes:
        cycles: From the first command to the one after the last.
        commands: Commands of the channel, by name.
        energy_parts_j: Energy of all channels by cause: ``activate``, ``read`` (to the units),
            ``multiply``, ``operands``, ``results``, ``host`` (single accesses), ``refresh``,
            ``background``.
        log: Cycle, command, bank, row and program line, int64[n, 5], if asked for.
    """

    product: Product
    cycles: int
    commands: dict[str, int]
    energy_parts_j: dict[str, float]
    log: NDArray[np.int64] | None = None

    @property
    def time_s(self) -> float:
        """Time of the kernel."""
        return self.cycles * self.product.spec.clock_ps * 1e-12

    @property
    def energy_j(self) -> float:
        """Energy of all channels."""
        return sum(self.energy_parts_j.values())

    @property
    def bandwidth_bytes_per_s(self) -> float:
        """Bytes that the units of all channels read, over the time."""
        u, p = self.product.units, self.product
        read = self.commands["MACB"] * u.count * u.column_bytes
        return read * p.channels * p.stacks / self.time_s


def run_program(
    product: Product, program: Program, *, refresh: bool = True, log: bool = False
) -> KernelResult:
    """Issue a program's commands, each as early as the memory allows.

    Args:
        product: The product.
        program: Column commands (see :mod:`archsim.models.dram.broadcast`).
        refresh: Refresh every rank when due.
        log: Keep every command.
    """
    from archsim.models.dram.broadcast import drive
    from archsim.models.dram.replay import bank_sets, fresh
    from archsim.models.dram.simulate import compiled

    spec = product.spec
    device, sets = compiled(spec), bank_sets(spec)
    lines = np.empty((0, 5), np.int64)
    banks = spec.structure.banks
    while True:
        state = fresh(spec)
        cycles, issued = drive(
            program, int(refresh), device.device, device.tables, device.length, device.bus_of, sets,
            spec.broadcast_activations, *state.arrays, np.full(banks, -1, np.int64),
            np.full(banks, -1, np.int64),
            np.full(spec.structure.ranks, spec.parameters["REFI"], np.int64), state.counts, lines,
        )  # fmt: skip
        if cycles < 0:
            raise InputError(
                "a command of the program can never be issued",
                source=product.name, field=f"line {issued}", found=program[issued].tolist(),
            )  # fmt: skip
        if not log or issued <= len(lines):
            break
        lines = np.empty((issued, 5), np.int64)
    counts = state.counts.sum(0)
    return KernelResult(
        product,
        int(cycles),
        dict(zip(L.COMMANDS, counts[: len(L.COMMANDS)].tolist(), strict=True)),
        energy_parts_j(product, counts, program, cycles),
        lines[:issued] if log else None,
    )


def energy_parts_j(
    product: Product, counts: NDArray, program: Program, cycles: int
) -> dict[str, float]:
    """Energy of all channels by cause, from the commands of one."""
    u, e, spec = product.units, product.energy, product.spec
    bits = 8.0 * u.count * u.column_bytes
    burst = 8.0 * spec.structure.burst_bytes
    macs = float(counts[L.MACB])
    # Writes that reach registers come over the pins; the others store what registers hold.
    outside = [-1, *(step.row for step in product.modes.steps)]
    if product.operands.row is not None:
        outside.append(product.operands.row)
    writes = program[:, C_COMMAND] == L.WRB
    given = writes & np.isin(program[:, C_ROW], outside)
    operands, stores = program[given, C_TIMES].sum(), program[writes & ~given, C_TIMES].sum()
    multiplied = product.units.lanes * u.count * macs
    refresh, background = standing(spec)
    rows = counts[L.ACT] + counts[L.ACTB] * spec.activate_banks
    parts = {
        "activate": rows * e.activate_pj,
        "read": macs * bits * e.to_unit(u.level),
        "multiply": multiplied * e.mac_pj,
        "operands": operands * burst * e.to_pins,
        "results": stores * bits * e.cell + counts[L.RDB] * burst * e.to_pins,
        "host": (counts[L.RD] + counts[L.WR]) * burst * e.to_pins,
        "refresh": counts[L.REFA] * refresh,
        "background": cycles * spec.clock_ps * 1e-3 * background * spec.structure.ranks,
    }
    many = product.channels * product.stacks * 1e-12
    return {name: float(value) * many for name, value in parts.items()}


def standing(spec: DramSpec) -> tuple[float, float]:
    """Energy of refreshing a rank once, pJ, and its power beside its commands, mW."""
    if spec.per_bit is not None:
        return spec.per_bit.refresh_pj, spec.per_bit.background_mw
    if spec.currents is None:
        return 0.0, 0.0
    i, many = spec.currents, spec.structure.devices
    refresh_ns = spec.parameters["RFC"] * spec.clock_ps * 1e-3
    return (i.idd5 - i.idd3n) * i.vdd * refresh_ns * many, i.idd3n * i.vdd * many


def run_kernel(
    product: Product | str,
    m: int = 1,
    n: int = 4096,
    k: int = 4096,
    *,
    refresh: bool = True,
    log: bool = False,
) -> KernelResult:
    """A GEMV (m = 1) or skinny GEMM ``y[m, n] = x[m, k] W[n, k]`` on all channels of a product.

    Args:
        product: A product or its name.
        m: Vectors.
        n: Outputs.
        k: Elements of a vector.
        refresh: Refresh every rank when due.
        log: Keep every command.

    Raises:
        InputError: No such product, or weights that do not fit.

    Example:
        >>> run_kernel("hbm_pim", 1, 4096, 4096).commands["MACB"]
        2048
    """
    found = load_product(product) if isinstance(product, str) else product
    done = run_program(found, gemm_program(found, m, n, k), refresh=refresh, log=log)
    if m > 1 and found.units.held > 1:  # a column is multiplied by several vectors
        parts = dict(done.energy_parts_j)
        passes = -(-m // found.units.held)
        parts["multiply"] *= m / passes
        done = KernelResult(found, done.cycles, done.commands, parts, done.log)
    return done


def run_elementwise(
    product: Product | str, elements: int, inputs: int, *, refresh: bool = True, log: bool = False
) -> KernelResult:
    """An elementwise kernel of one or two resident vectors.

    Raises:
        InputError: No such product, or one without elementwise kernels.
    """
    found = load_product(product) if isinstance(product, str) else product
    program = elementwise_program(found, elements, inputs)
    return run_program(found, program, refresh=refresh, log=log)
