"""Time and energy of kernels in closed form, for many shapes at once.

A kernel is made of runs of equal commands. The form takes the time of every run that differs from
those before it from the constraint table, and counts the rest (runs.py); refreshes, of which it
needs their number only, come on top. Nothing is fitted: what the table does not say (accesses of
single banks around a kernel) is issued once on the command level.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from archsim.models.dram import layout as L
from archsim.models.pim import runs
from archsim.models.pim.product import Product, Step, load_product
from archsim.models.pim.shapes import Cut, cut, sizes_of

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class PimCost:
    """What kernels take on a product, float64[B].

    Attributes:
        time_s: From first to last command.
        cycles: The same in cycles of the memory.
        energy_parts_j: Energy of all channels by cause, as ``KernelResult`` has it.
        flops: Operations that the result needs (a multiply-accumulate is two).
        bytes: Of the weights.
        parts: Cycles by cause: ``multiply``, ``rows``, ``operands``, ``results``, ``refresh``,
            ``modes``.
    """

    time_s: Floats
    cycles: Floats
    energy_parts_j: Mapping[str, Floats]
    flops: Floats
    bytes: Floats
    parts: Mapping[str, Floats]

    @property
    def energy_j(self) -> Floats:
        """Energy of all channels."""
        return np.sum(list(self.energy_parts_j.values()), axis=0)

    @property
    def bandwidth_bytes_per_s(self) -> Floats:
        """Weights over time."""
        return self.bytes / self.time_s


@dataclass(frozen=True, eq=False)
class _Compiled:
    """A product as the compiled walk takes it (see runs.py).

    Attributes:
        constants: int64[P_SIZE].
        within, between: Distances of kinds of runs in a rank and between ranks, int64[3, 3].
        steps: Accesses of modes: before a kernel, before and after its groups, after it.
        suffix: Cycles of single accesses after the last of these.
    """

    constants: Ints
    within: Ints
    between: Ints
    steps: tuple[Ints, Ints, Ints, Ints]
    suffix: int


@functools.lru_cache(maxsize=256)
def _compiled(product: Product) -> _Compiled:
    spec, o, u, both = product.spec, product.operands, product.units, product.lockstep
    p, (bank, _, rank, others) = spec.parameters, spec.tables
    parts, many = spec.compute_banks // spec.activate_banks, spec.broadcast_activations
    window = max(p["FAW"], 0)
    # One part after another: by the window where a part fills it, by tRRD else.
    step = max(int(rank[L.ACTB, L.ACTB]), window * -(-many // 4) if many >= 4 else 0)
    late = (parts - 1) * step
    kinds = [L.MACB, L.WRB, L.RDB]

    def repeat(command: int) -> int:
        alone = int(rank[command, command])
        return max(alone, both * max(int(others[command, command]), 0)) if both > 1 else alone

    ranks, modes = 1 if u.all_ranks else spec.structure.ranks, product.modes
    (enter, first), (leave, _) = _accesses(product, modes.enter), _accesses(product, modes.leave)
    constants = np.zeros(runs.P_SIZE, np.int64)
    for place, value in {
        runs.P_MAC: p["MAC_TO_MAC"], runs.P_OPEN: late + bank[L.ACTB, L.MACB],
        runs.P_OPEN_WRITE: late + bank[L.ACTB, L.WRB], runs.P_LATE: late,
        runs.P_CLOSE: bank[L.MACB, L.PREB], runs.P_CLOSE_WRITE: bank[L.WRB, L.PREB],
        runs.P_PRECHARGE: bank[L.PREB, L.ACTB], runs.P_RAS: late + bank[L.ACTB, L.PREB],
        runs.P_RC: bank[L.ACTB, L.ACTB],
        runs.P_WINDOW: parts * step if many >= 4 else max(step, window * many // 4) * parts,
        runs.P_WRITE: repeat(L.WRB), runs.P_READ: repeat(L.RDB),
        runs.P_REFRESH: rank[L.PREA, L.REFA] + rank[L.REFA, L.ACTB],
        runs.P_ROW_COLUMNS: product.row_columns, runs.P_SETS: product.sets, runs.P_RANKS: ranks,
        runs.P_LOCKSTEP: both > 1, runs.P_STREAMS: u.streams, runs.P_OUTPUTS: o.keep == "outputs",
        runs.P_COLUMNS: o.columns, runs.P_ACCUMULATORS: o.accumulators,
        runs.P_THROUGH: -1 if o.through is None else _set_of(product, o.through),
        runs.P_WRITE_ROW: _row(o.row),
        runs.P_RESULT_ROW: _row(o.result_row),
        runs.P_BARRIER: modes.barrier_every,
        runs.P_BARRIER_CYCLES: modes.barrier_cycles,
        runs.P_BEGIN: _issued(product, modes.enter[:first]),
    }.items():  # fmt: skip
        constants[place] = value
    broadcasts = tuple(step for step in modes.leave if step.kind == "broadcast")
    suffix = _issued(product, modes.stop + modes.leave) - _issued(product, modes.stop + broadcasts)
    return _Compiled(
        constants,
        np.ascontiguousarray(rank[np.ix_(kinds, kinds)]),
        np.ascontiguousarray(others[np.ix_(kinds, kinds)]),
        (enter, _accesses(product, modes.start)[0],
         _accesses(product, modes.stop)[0], leave),
        suffix,
    )  # fmt: skip


def _row(row: int | None) -> int:
    """Number by which the walk knows a row that holds no weights."""
    return runs.NONE if row is None else runs.OTHER - 1 - row


def _set_of(product: Product, bank: int) -> int:
    """Number of the set that a bank belongs to, in the order in which sets are read."""
    from archsim.models.dram.replay import bank_sets

    s = product.base.structure
    per_rank = s.bank_groups * s.banks_per_group
    own = int(bank_sets(product.spec)[L.WRB, bank % per_rank])
    return own if product.units.all_ranks else own * s.ranks + bank // per_rank


def _accesses(product: Product, steps: tuple[Step, ...]) -> tuple[Ints, int]:
    """Broadcasts of some steps, int64[n, 3], and how many steps come before the first of them."""
    broadcasts = [k for k, step in enumerate(steps) if step.kind == "broadcast"]
    lines = [
        (_set_of(product, bank), _row(steps[k].row), steps[k].times)
        for k in broadcasts for bank in steps[k].banks
    ]  # fmt: skip
    return np.array(lines, np.int64).reshape(-1, 3), broadcasts[0] if broadcasts else len(steps)


def _issued(product: Product, steps: tuple[Step, ...]) -> int:
    """Cycles of steps alone, issued on the command level."""
    if not steps:
        return 0
    from archsim.models.pim.command import run_program
    from archsim.models.pim.kernels import Writer

    writer = Writer(product)
    writer.steps(steps)
    return run_program(product, writer.program(), refresh=False).cycles


def _walked(product: Product, known: _Compiled, c: Cut) -> Floats:
    """What the compiled walk finds for shapes, float64[F_SIZE, B]."""
    shapes = np.empty((c.macs.size, runs.S_SIZE), np.int64)
    u, o = product.units, product.operands
    shapes[:, runs.S_PASSES], shapes[:, runs.S_OUTPUTS] = c.passes, c.outputs
    shapes[:, runs.S_COLUMNS], shapes[:, runs.S_STRETCH] = c.columns, c.stretch
    shapes[:, runs.S_WRITES], shapes[:, runs.S_RESULTS] = (
        c.vectors * u.column_bytes,
        (c.result_commands),
    )
    many = product.channels if o.shared else 1
    shapes[:, runs.S_SHARE] = many * product.base.structure.burst_bytes
    found = np.empty((c.macs.size, runs.F_SIZE))
    p = known.constants
    runs.walk(
        p, shapes, known.within, known.between, *known.steps, np.zeros(runs.K_SIZE, np.int64),
        np.zeros((p[runs.P_RANKS], runs.R_SIZE), np.int64),
        np.zeros((p[runs.P_SETS], runs.B_SIZE), np.int64),
        np.zeros((runs.MARKS, runs.M_SIZE), np.int64), np.zeros((runs.MARKS, runs.F_SIZE)), found,
    )  # fmt: skip
    return found.T


def closed_form(product: Product | str, m: ArrayLike, n: ArrayLike, k: ArrayLike) -> PimCost:
    """Time and energy of ``y[m, n] = x[m, k] W[n, k]`` with resident weights.

    Args:
        product: A product or its name.
        m: Vectors (tokens).
        n: Outputs.
        k: Elements of a vector; the three broadcast to B rows.

    Raises:
        InputError: No such product, or a size that is no positive whole number.

    Example:
        >>> cost = closed_form("hbm_pim", 1, [4096, 8192], 4096)
        >>> bool(1.9 < cost.time_s[1] / cost.time_s[0] < 2.1)
        True
    """
    found = load_product(product) if isinstance(product, str) else product
    known, c = _compiled(found), cut(found, m, n, k)
    w, constants = _walked(found, known, c), known.constants
    gap = (constants[runs.P_MAC] * c.stretch).astype(float)
    parts = {
        "multiply": (w[runs.F_MACS] - 1.0) * gap + 1.0,
        "rows": w[runs.F_ROWS],
        "operands": w[runs.F_OPERANDS],
        "results": w[runs.F_RESULTS] + _lag(found),
        "modes": w[runs.F_MODES] + float(constants[runs.P_BEGIN] + known.suffix),
    }
    busy = np.sum(list(parts.values()), axis=0)
    refreshes, stall = _refreshes(found, known, c, w, busy, gap)
    parts["refresh"] = refreshes * stall
    cycles = busy + parts["refresh"]
    commands = {
        "macs": w[runs.F_MACS] * found.lockstep,
        "writes": w[runs.F_WRITES] * found.lockstep,
        "left": w[runs.F_LEFT] * found.lockstep,
        "sets": w[runs.F_SETS] * found.lockstep,
        "refreshes": refreshes * found.spec.structure.ranks,
    }
    sizes = [x.astype(float) for x in sizes_of(m, n, k)]
    energy = _energy(found, commands, sizes, cycles)
    return PimCost(
        cycles * found.spec.clock_ps * 1e-12, cycles, energy, 2.0 * sizes[0] * sizes[1] * sizes[2],
        sizes[1] * sizes[2] * found.units.element_bytes, parts,
    )  # fmt: skip


def _lag(product: Product) -> int:
    """Cycles by which the last of several ranks trails the first."""
    if product.lockstep == 1:
        return 0
    others = product.spec.tables[3]
    return (product.lockstep - 1) * max(int(others[L.WRB, L.WRB]), 1)


def _refreshes(
    product: Product, known: _Compiled, c: Cut, w: Floats, busy: Floats, gap: Floats
) -> tuple[Floats, Floats]:
    """Refreshes of a rank during kernels, and the cycles each takes.

    A refresh waits for the rows that are open for commands already in sight; once those are the
    last, there is none.
    """
    p, end = known.constants, w[runs.F_END]
    idle = p[runs.P_CLOSE] + p[runs.P_REFRESH] + p[runs.P_OPEN] - gap
    stall = np.where(w[runs.F_PLACES] > 1, w[runs.F_STALL] / np.maximum(w[runs.F_PLACES], 1), idle)
    opened = end + known.suffix - w[runs.F_OPENED]
    if p[runs.P_STREAMS] and p[runs.P_SETS] > 1:
        # Rows are opened as soon as their set is free; all stay open where there are enough sets.
        many = c.macs > p[runs.P_ROW_COLUMNS] * p[runs.P_SETS]
        opened = np.where(many, end - w[runs.F_FREED], end)
    tail = np.minimum(end - w[runs.F_SIGHT], opened)
    if known.suffix:  # the last single access opens a row of its own
        tail = np.minimum(tail, p[runs.P_OPEN] + 1)
    interval = product.spec.parameters["REFI"]
    exact = (busy - stall - tail) / (interval - stall)
    # The tail is not known to the cycle: half a refresh where that decides.
    unsure = (12.0 + 0.08 * tail) / (interval - stall)
    whole = np.rint(exact)
    last = np.clip((exact - whole) / (2.0 * unsure) + 0.5, 0.0, 1.0)
    return np.maximum(whole - 1.0 + last, 0.0), stall


def _energy(
    product: Product, commands: Mapping[str, Floats], sizes: list[Floats], cycles: Floats
) -> dict[str, Floats]:
    """Energy of all channels by cause."""
    u, e, spec, o = product.units, product.energy, product.spec, product.operands
    bits = 8.0 * u.count * u.column_bytes
    burst = 8.0 * spec.structure.burst_bytes
    left = bits * e.cell if o.result_row is not None else burst * e.to_pins
    from archsim.models.pim.command import standing

    refresh_pj, background = standing(spec)
    many = product.channels * product.stacks * 1e-12
    macs, vectors = commands["macs"], sizes[0]
    passes = np.ceil(vectors / u.held)
    return {
        "activate": (commands["sets"] * spec.compute_banks + product.modes.host_rows)
        * e.activate_pj
        * many,
        "read": macs * bits * e.to_unit(u.level) * many,
        "multiply": macs / passes * vectors * u.lanes * u.count * e.mac_pj * many,
        "operands": commands["writes"] * burst * e.to_pins * many,
        "results": commands["left"] * left * many,
        "host": np.full_like(macs, product.modes.host_accesses * burst * e.to_pins * many),
        "refresh": commands["refreshes"] * refresh_pj * many,
        "background": cycles * spec.clock_ps * 1e-3 * background * spec.structure.ranks * many,
    }
