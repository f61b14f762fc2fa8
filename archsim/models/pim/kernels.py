"""Kernels as programs of column commands, for the command-level controller (dram/broadcast.py).

Weights lie row after row in the sets of banks that the units read in turn, in the order in which
they are used; a program therefore walks through rows once a pass.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from archsim.errors import InputError
from archsim.models.dram.broadcast import C_BANK, C_COMMAND, C_GAP, C_ROW, C_SIZE, C_TIMES
from archsim.models.dram.layout import MACB, RD, RDB, WR, WRB
from archsim.models.pim.product import Product
from archsim.models.pim.shapes import cut

Program = NDArray[np.int64]


class _Writer:
    """Collects the lines of a program of one channel."""

    def __init__(self, product: Product) -> None:
        self.product = product
        s = product.base.structure
        self.per_rank = s.bank_groups * s.banks_per_group
        self.ranks = range(product.lockstep)
        in_rank = self.per_rank // product.base.compute_banks
        spread = product.base.broadcast.spread
        first = [i if spread else i * product.base.compute_banks for i in range(in_rank)]
        if product.units.all_ranks:
            self.sets = [[r * self.per_rank + b for r in self.ranks] for b in first]
        else:  # ranks take turns, so that one opens rows while another is read
            self.sets = [[r * self.per_rank + b] for b in first for r in range(s.ranks)]
        self.lines: list[list[int]] = []
        self.since_barrier = 0

    def add(self, command: int, bank: int, row: int, times: int = 1, gap: int = 0) -> None:
        """A run of equal commands."""
        if times > 0:
            self.lines.append([command, bank, row, gap, times])

    def add_all(self, command: int, at: list[int], row: int, times: int) -> None:
        """The same run in every rank that works at the time, command by command."""
        if len(at) == 1:
            self.add(command, at[0], row, times)
            return
        for _ in range(times):
            for bank in at:
                self.add(command, bank, row)

    def program(self) -> Program:
        out = np.zeros((len(self.lines), C_SIZE), np.int64)
        if self.lines:
            out[:, [C_COMMAND, C_BANK, C_ROW, C_GAP, C_TIMES]] = self.lines
        return out

    def modes(self) -> None:
        """What comes before a kernel: parking, mode switches, the program of the units."""
        modes = self.product.modes
        row = self.product.operands.row or 0
        for bank in range(modes.park_banks):
            self.add(RD, bank % self.per_rank, row)
        for k in range(modes.switches):
            self.add(WR, k % self.per_rank, row)
        if modes.setup_writes:
            self.add_all(WRB, self.sets[0], row if self.product.operands.row else -1,
                         modes.setup_writes)  # fmt: skip


class _Walk(_Writer):
    """Reads weights in the order in which they lie."""

    def __init__(self, product: Product, macs: int) -> None:
        super().__init__(product)
        self.visits = -(-macs // product.row_columns)
        self.here = 0

    def place(self) -> tuple[list[int], int]:
        """Set and row of the column that is read next."""
        visit = self.here // self.product.row_columns
        many = len(self.sets)
        if self.product.units.streams:
            return self.sets[visit % many], visit // many
        each = -(-self.visits // many)
        return self.sets[visit // each], visit % each

    def macs(self, times: int, stretch: int) -> None:
        """Multiply the next columns."""
        product = self.product
        apart = product.spec.parameters["MAC_TO_MAC"]
        modes = product.modes
        while times:
            at, row = self.place()
            run = min(times, product.row_columns - self.here % product.row_columns)
            gap = apart * stretch if stretch > 1 else 0
            if modes.barrier_every:
                run = min(run, modes.barrier_every - self.since_barrier)
            if gap or len(at) > 1:
                for step in range(run):
                    for index, bank in enumerate(at):
                        first = index == 0 and (step > 0 or not self.since_barrier)
                        self.add(MACB, bank, row, 1, gap if first else 0)
            else:
                wait = modes.barrier_every and not self.since_barrier
                self.add(MACB, at[0], row, 1, modes.barrier_cycles if wait else 0)
                self.add(MACB, at[0], row, run - 1)
            if modes.barrier_every:
                self.since_barrier = (self.since_barrier + run) % modes.barrier_every
            self.here += run
            times -= run

    def write(self, columns: int, vectors: int) -> None:
        """Operands of some columns into the registers."""
        o, u, s = self.product.operands, self.product.units, self.product.base.structure
        at, _ = self.place()
        moved = columns * vectors * u.column_bytes
        if o.shared:
            moved = -(-moved // self.product.channels)
        self.add_all(WRB, at, -1 if o.row is None else o.row, -(-moved // s.burst_bytes))

    def results(self, commands: int) -> None:
        """Results of one block."""
        o = self.product.operands
        at, _ = self.place() if self.here < self.visits * self.product.row_columns else (
            self.sets[-1], 0)  # fmt: skip
        if o.result_row is None:
            self.add_all(RDB, at, -1, commands)
        else:
            self.add_all(WRB, at, o.result_row, commands)


def gemm_program(product: Product, m: int, n: int, k: int) -> Program:
    """Commands of one channel for ``y[m, n] = x[m, k] W[n, k]``; a GEMV with m = 1.

    Raises:
        InputError: A size is no positive whole number, or the weights exceed the banks.
    """
    c = cut(product, m, n, k)
    o = product.operands
    macs, columns, outputs = int(c.macs[0]), int(c.columns[0]), int(c.outputs[0])
    walk = _Walk(product, macs)
    reserved = sum(row is not None for row in (o.row, o.result_row))
    if -(-walk.visits // len(walk.sets)) > product.base.structure.rows - reserved:
        raise InputError(
            "the weights do not fit into the memory", source=product.name, found=(n, k)
        )
    walk.modes()
    stretch, vectors = int(c.stretch[0]), int(c.vectors[0])
    blocks = [min(o.accumulators, outputs - a) for a in range(0, outputs, o.accumulators)]
    tiles = [min(o.columns, columns - a) for a in range(0, columns, o.columns)]
    full = int(c.result_commands[0])

    def leave(block: int) -> int:
        return -(-full * block // min(outputs, o.accumulators))

    for _ in range(int(c.passes[0])):
        walk.here = 0
        if o.keep == "outputs":
            for index, block in enumerate(blocks):
                for tile in tiles:
                    if len(tiles) > 1 or index == 0:
                        walk.write(tile, vectors)
                    walk.macs(block * tile, stretch)
                walk.results(leave(block))
        else:
            for tile in tiles:
                walk.write(tile, vectors)
                for block in blocks:
                    walk.macs(block * tile, stretch)
                    walk.results(leave(block))
    return walk.program()


def elementwise_program(product: Product, elements: int, inputs: int) -> Program:
    """Commands of one channel for ``z = f(x, ...)`` over resident vectors of ``elements``.

    The first input lies in one set of banks, the second in the next, the result in a row of the
    first; a unit takes as many columns as it has registers, then the next input, then stores.

    Raises:
        InputError: The product's units have no elementwise kernels, or inputs are not 1 or 2.
    """
    u, registers = product.units, product.operands.registers
    if not registers:
        raise InputError("no elementwise kernels on this product", found=product.name)
    if inputs not in (1, 2):
        raise InputError("one or two inputs", field="inputs", found=inputs)
    walk = _Writer(product)
    walk.modes()
    everywhere = u.count * product.lockstep * product.channels * product.stacks
    columns = -(-elements // (u.lanes * everywhere))
    per_row = product.row_columns
    first, second = walk.sets[0], walk.sets[1 % len(walk.sets)]
    for start in range(0, columns, registers):
        run = min(registers, columns - start)
        row = start // per_row
        walk.add_all(MACB, first, 2 * row, run)
        if inputs == 2:
            walk.add_all(MACB, second, 2 * row, run)
        walk.add_all(WRB, first if inputs == 2 else second, 2 * row + 1, run)
    return walk.program()
