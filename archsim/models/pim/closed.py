"""Time and energy of kernels in closed form, for many shapes at once.

A kernel is a sequence of multiplications (MACB) of which some are further apart: where a row ends,
where operands are written, where results leave. The form counts those places and adds their
distances, which are the constraint table's; refreshes come on top. Nothing is fitted: what the
table does not say (mode switches) is issued once on the command level.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from archsim.models.dram import layout as L
from archsim.models.pim.product import Product, load_product
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


@dataclass(frozen=True)
class _Distances:
    """Distances of a product's commands, in cycles."""

    mac: int
    open: int  # from the first ACTB of a set to its first MACB
    open_write: int  # to its first WRB
    close: int  # from the last MACB to PREB
    close_write: int
    precharge: int
    ras: int
    rc: int
    windows: int  # activations of a set fill the four-activate window for so long
    write: int  # from one operand write of a rank to its next
    read: int  # results
    mac_to_write: int
    write_to_mac: int
    mac_to_read: int
    read_to_mac: int
    read_to_write: int
    refresh: int  # that a refresh takes beyond a precharge
    interval: int

    @property
    def row(self) -> int:
        """From the last MACB of a row to the first of the next in the same banks."""
        return self.close + self.precharge + self.open


@functools.lru_cache(maxsize=256)
def _distances(product: Product) -> _Distances:
    spec = product.spec
    p, (bank, _, rank, others) = spec.parameters, spec.tables
    parts = spec.compute_banks // spec.activate_banks
    many = spec.broadcast_activations
    window = max(p["FAW"], 0)
    # One set after another: by the window where a set fills it, by tRRD else.
    step = max(int(rank[L.ACTB, L.ACTB]), window * -(-many // 4) if many >= 4 else 0)
    late = (parts - 1) * step
    both = product.lockstep

    def between(table_rank: int, table_others: int) -> int:
        return max(table_rank, both * max(table_others, 0)) if both > 1 else table_rank

    return _Distances(
        mac=p["MAC_TO_MAC"],
        open=late + int(bank[L.ACTB, L.MACB]),
        open_write=late + int(bank[L.ACTB, L.WRB]),
        close=int(bank[L.MACB, L.PREB]),
        close_write=int(bank[L.WRB, L.PREB]),
        precharge=int(bank[L.PREB, L.ACTB]),
        ras=late + int(bank[L.ACTB, L.PREB]),
        rc=int(bank[L.ACTB, L.ACTB]),
        windows=parts * step if many >= 4 else parts * window * many // 4,
        write=between(int(rank[L.WRB, L.WRB]), int(others[L.WRB, L.WRB])),
        read=between(int(rank[L.RDB, L.RDB]), int(others[L.RDB, L.RDB])),
        mac_to_write=int(rank[L.MACB, L.WRB]),
        write_to_mac=int(rank[L.WRB, L.MACB]),
        mac_to_read=int(rank[L.MACB, L.RDB]),
        read_to_mac=int(rank[L.RDB, L.MACB]),
        read_to_write=int(rank[L.RDB, L.WRB]),
        refresh=int(rank[L.PREA, L.REFA] + rank[L.REFA, L.ACTB] - bank[L.PREB, L.ACTB]),
        interval=p["REFI"],
    )


@functools.lru_cache(maxsize=256)
def _modes_cycles(product: Product) -> int:
    """Cycles before the first operand, as issued on the command level."""
    modes = product.modes
    if not (modes.park_banks or modes.switches or modes.setup_writes):
        return 0
    from archsim.models.pim.command import run_program
    from archsim.models.pim.kernels import _Walk

    walk = _Walk(product, 1)
    walk.modes()
    return run_program(product, walk.program(), refresh=False).cycles


def _rows(product: Product, d: _Distances, gap: Floats, visits: Floats) -> Floats:
    """Cycles from the last MACB of a row to the first of the next, where nothing else happens."""
    inside = (product.row_columns - 1) * gap
    alone = np.maximum(d.close + inside + d.open, d.ras) + d.precharge
    period = np.maximum(np.maximum(alone, d.rc), d.windows)
    if product.units.streams and product.sets > 1:
        ranks = 1 if product.units.all_ranks else product.base.structure.ranks
        ahead = np.maximum(period / product.sets, d.windows / ranks)
        ahead = np.where(visits > product.sets, ahead, 0.0)
        return np.maximum(gap, ahead - inside)
    return np.maximum(period - inside, gap)


def _aligned(outer: Floats, step: Ints, inner: Floats, run: Ints, row: int) -> Floats:
    """Starts of runs that are starts of rows, too, the first one apart.

    ``outer`` groups of ``inner`` runs start ``step`` columns apart, their runs ``run``.
    """
    fine = np.gcd(run, row)
    coarse = np.gcd(step, fine)
    groups = np.ceil(outer * coarse / fine)
    return np.maximum(groups * np.ceil(inner * fine / row) - 1.0, 0.0)


def _places(product: Product, c: Cut) -> tuple[dict[str, Floats], Floats, Floats]:
    """Places between the multiplications of a pass, by what happens there.

    Returns:
        Places where only a row ends, operands are written, results leave, or both, with
        and without the end of a row (``interrupted``: writes amid a row); operand writes and
        result commands of one such place.
    """
    o, u = product.operands, product.units
    shared = product.channels if o.shared else 1
    blocks, tiles = c.blocks.astype(float), c.tiles.astype(float)
    block, tile = np.minimum(c.outputs, o.accumulators), np.minimum(c.columns, o.columns)
    row = product.row_columns
    ends = np.ceil(c.macs / row) - 1.0
    runs = block * tile
    if o.keep == "outputs":
        step = block * c.columns
        inner = np.where(tiles > 1, blocks * tiles, 1.0) - 1.0  # places where operands are written
        outer = blocks - 1.0
        inner_row = np.where(tiles > 1, _aligned(blocks, step, tiles, runs, row), 0.0)
        outer_row = _aligned(blocks, step, np.ones_like(tiles), step, row)
        write, write_row, leave, leave_row = inner, inner_row, outer, outer_row
    else:
        step = c.outputs * tile
        inner, outer = blocks * tiles - 1.0, tiles - 1.0
        inner_row = _aligned(tiles, step, blocks, runs, row)
        outer_row = _aligned(tiles, step, np.ones_like(tiles), step, row)
        write, write_row, leave, leave_row = outer, outer_row, inner, inner_row
    write_row, leave_row = np.minimum(write_row, ends), np.minimum(leave_row, ends)
    both = np.minimum(write, leave)
    both_row = np.minimum(np.minimum(write_row, leave_row), both)
    places = {
        "row": ends - np.maximum(write_row, leave_row),
        "write": write - both - (write_row - both_row),
        "write_row": write_row - both_row,
        "leave": leave - both - (leave_row - both_row),
        "leave_row": leave_row - both_row,
        "both": both - both_row,
        "both_row": both_row,
    }
    places = {name: np.maximum(value, 0.0) for name, value in places.items()}
    places["interrupted"] = places["write"] + places["both"]
    columns = c.columns / tiles
    moved = np.ceil(columns * c.vectors * u.column_bytes / shared)
    writes = np.ceil(moved / product.base.structure.burst_bytes)
    return places, writes, c.result_commands * c.outputs / (blocks * block)


def _steps(
    product: Product, d: _Distances, c: Cut, row: Floats, gap: Floats, writes: Floats, left: Floats
) -> dict[str, Floats]:
    """Cycles from the multiplication before such a place to the one after it."""
    o = product.operands
    lasting, reading = (writes - 1.0) * d.write, (left - 1.0) * d.read
    if o.row is None:
        write = d.mac_to_write + lasting + d.write_to_mac
        write_row = np.maximum(write, row)
        first = np.maximum(lasting + d.write_to_mac, d.open)
    else:
        opened = np.maximum(d.open_write + lasting + d.close_write, d.ras) + d.precharge
        write = write_row = d.close + d.precharge + opened + d.open
        first = opened + d.open
    if o.result_row is None:
        leave = d.mac_to_read + reading + d.read_to_mac
        leave_row, last = np.maximum(leave, row), d.mac_to_read + reading
    else:
        stored = d.open_write + (left - 1.0) * d.write
        kept = np.maximum(stored + d.close_write, d.ras) + d.precharge
        leave = leave_row = d.close + d.precharge + kept + d.open
        last = d.close + d.precharge + stored
    if o.result_row is None and o.row is None:
        both = d.mac_to_read + reading + max(d.read_to_write, 0) + lasting + d.write_to_mac
    else:
        both = write + leave - d.close - d.precharge - d.open
    steps = {
        "write": write, "write_row": write_row, "leave": leave, "leave_row": leave_row,
        "both": both, "both_row": np.maximum(both, row),
    }  # fmt: skip
    # A place never makes two multiplications come closer.
    steps = {name: np.maximum(value, gap) for name, value in steps.items()}
    return steps | {"first": first, "last": last}


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
    c, d, o = cut(found, m, n, k), _distances(found), found.operands
    u, streams = found.units, found.units.streams and found.sets > 1
    gap = (d.mac * c.stretch).astype(float)
    macs, passes = c.macs.astype(float), c.passes.astype(float)
    visits = np.ceil(macs / found.row_columns)
    row = _rows(found, d, gap, visits)
    places, writes, left = _places(found, c)
    step = _steps(found, d, c, row, gap, writes, left)
    stays = visits <= found.sets  # all rows stay open from pass to pass
    again = np.where(stays, step["both"], step["both_row"])
    parts = {
        "multiply": passes * macs * gap,
        "rows": passes * places["row"] * (row - gap),
        "operands": step["first"]
        + passes * places["write"] * (step["write"] - gap)
        + passes * places["write_row"] * (step["write_row"] - gap),
        "results": step["last"]
        + passes * places["leave"] * (step["leave"] - gap)
        + passes * places["leave_row"] * (step["leave_row"] - gap)
        + passes * places["both"] * (step["both"] - gap)
        + passes * places["both_row"] * (step["both_row"] - gap)
        + (passes - 1.0) * (again - gap),
        "modes": np.full(macs.shape, float(_modes_cycles(found))),
    }
    busy = np.sum(list(parts.values()), axis=0)
    drained = d.refresh + (d.row if streams else 0.0)
    # The last rows that are opened are read to their end before a refresh.
    tail = np.minimum(macs, found.row_columns) * gap + step["last"] + drained
    parts["refresh"] = drained * np.maximum(np.floor((busy - tail) / (d.interval - drained)), 0.0)
    cycles = busy + parts["refresh"]
    written = places["write"] + places["write_row"] + places["both"] + places["both_row"] + 1.0
    leaves = places["leave"] + places["leave_row"] + places["both"] + places["both_row"] + 1.0
    if o.keep == "outputs":  # with one tile, operands are written once for all blocks
        written = np.where(c.tiles > 1, written, 1.0)
    commands = {
        "macs": passes * macs * found.lockstep,
        "writes": passes * written * writes * found.lockstep,
        "left": passes * leaves * left * found.lockstep,
        "sets": passes * (visits + (0 if o.row is None else written + places["interrupted"])
                          + (0 if o.result_row is None else leaves)) * found.lockstep,
    }  # fmt: skip
    sizes = [x.astype(float) for x in sizes_of(m, n, k)]
    energy = _energy(found, commands, sizes, cycles)
    return PimCost(
        cycles * found.spec.clock_ps * 1e-12, cycles, energy,
        2.0 * sizes[0] * sizes[1] * sizes[2], sizes[1] * sizes[2] * u.element_bytes, parts,
    )  # fmt: skip


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
    refreshes = np.floor(cycles / spec.parameters["REFI"]) * spec.structure.ranks
    return {
        "activate": commands["sets"] * spec.compute_banks * e.activate_pj * many,
        "read": macs * bits * e.to_unit(u.level) * many,
        "multiply": macs / passes * vectors * u.lanes * u.count * e.mac_pj * many,
        "operands": commands["writes"] * burst * e.to_pins * many,
        "results": commands["left"] * left * many,
        "host": np.full_like(macs, (product.modes.park_banks + product.modes.switches) * burst)
        * e.to_pins
        * many,
        "refresh": refreshes * refresh_pj * many,
        "background": cycles * spec.clock_ps * 1e-3 * background * spec.structure.ranks * many,
    }
