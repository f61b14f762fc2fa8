"""Kernels as programs of column commands, for the command-level controller (dram/broadcast.py).

Weights lie row after row in the sets of banks that the units read in turn, in the order in which
they are used; a program therefore walks through rows once a pass.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from archsim.errors import InputError
from archsim.models.dram.broadcast import C_FENCE, C_SIZE
from archsim.models.dram.layout import MACB, RD, RDB, WR, WRB
from archsim.models.pim.product import Product, Step
from archsim.models.pim.shapes import cut

Program = NDArray[np.int64]


class Writer:
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

    def add(self, command: int, bank: int, row: int, times: int = 1, gap: int = 0) -> None:
        """A run of equal commands, each at least ``gap`` cycles after the one before."""
        held = self.product.modes.barrier_cycles
        if held > gap and times > 1 and self.lines and self.lines[-1][C_FENCE]:
            self.add(command, bank, row, 1, gap)
            times -= 1
        if times > 0:
            held = held if self.lines and self.lines[-1][C_FENCE] else 0
            self.lines.append([command, bank, row, max(gap, held), times, 0])

    def add_all(self, command: int, at: list[int], row: int, times: int) -> None:
        """The same run in every rank that works at the time, command by command."""
        if len(at) == 1:
            self.add(command, at[0], row, times)
            return
        for _ in range(times):
            for bank in at:
                self.add(command, bank, row)

    def barrier(self) -> None:
        """What follows waits for what was added, if the host sets barriers."""
        if self.lines and self.product.modes.barrier_every:
            self.lines[-1][C_FENCE] = 1

    def steps(self, steps: tuple[Step, ...]) -> None:
        """Accesses of modes."""
        for step in steps:
            command = {"read": RD, "write": WR, "broadcast": WRB}[step.kind]
            for bank in step.banks:
                self.add(command, bank, step.row, step.times)
            self.barrier()

    def program(self) -> Program:
        return np.array(self.lines, np.int64).reshape(-1, C_SIZE)


class _Walk(Writer):
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

    def registers(self) -> list[int]:
        """Set through whose rows operands and results go."""
        through = self.product.operands.through
        if through is not None:
            return [through]
        here = self.here < self.visits * self.product.row_columns
        return self.place()[0] if here else self.sets[-1]

    def macs(self, times: int, stretch: int) -> None:
        """Multiply the next columns."""
        product = self.product
        gap = product.spec.parameters["MAC_TO_MAC"] * stretch if stretch > 1 else 0
        group = product.modes.barrier_every or times
        while times:
            at, row = self.place()
            run = min(times, group, product.row_columns - self.here % product.row_columns)
            if len(at) > 1:
                for _ in range(run):
                    for index, bank in enumerate(at):
                        self.add(MACB, bank, row, 1, 0 if index else gap)
            else:
                self.add(MACB, at[0], row, run, gap)
            self.barrier()
            self.here += run
            times -= run

    def write(self, columns: int, vectors: int) -> None:
        """Operands of some columns into the registers."""
        o, u, s = self.product.operands, self.product.units, self.product.base.structure
        moved = columns * vectors * u.column_bytes
        if o.shared:
            moved = -(-moved // self.product.channels)
        row = -1 if o.row is None else o.row
        self.add_all(WRB, self.registers(), row, -(-moved // s.burst_bytes))
        self.barrier()

    def results(self, commands: int) -> None:
        """Results of one block."""
        row = self.product.operands.result_row
        if row is None:
            self.add_all(RDB, self.registers(), -1, commands)
        else:
            self.add_all(WRB, self.registers(), row, commands)
        self.barrier()


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
    walk.steps(product.modes.enter)
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
                walk.steps(product.modes.start)
                for tile in tiles:
                    if len(tiles) > 1 or index == 0:
                        walk.write(tile, vectors)
                    walk.macs(block * tile, stretch)
                walk.results(leave(block))
                walk.steps(product.modes.stop)
        else:
            for tile in tiles:
                walk.write(tile, vectors)
                for block in blocks:
                    walk.steps(product.modes.start)
                    walk.macs(block * tile, stretch)
                    walk.results(leave(block))
                    walk.steps(product.modes.stop)
    walk.steps(product.modes.leave)
    return walk.program()


def elementwise_program(product: Product, elements: int, inputs: int) -> Program:
    """Commands of one channel for ``z = f(x, ...)`` over resident vectors of ``elements``.

    Vectors lie over all sets of banks, each from a row of its own on, so that elements of the same
    number lie in the same bank. For one set after the other, a unit takes as many columns of an
    input as it has registers, then of the next input, then stores as many results.

    Raises:
        InputError: The product's units have no elementwise kernels, inputs are not 1 or 2, or the
            vectors exceed the banks.
    """
    u, registers = product.units, product.operands.registers
    if not registers:
        raise InputError("no elementwise kernels on this product", found=product.name)
    if inputs not in (1, 2):
        raise InputError("one or two inputs", field="inputs", found=inputs)
    if elements < 1:
        raise InputError("must be a positive whole number", field="elements", found=elements)
    walk = Writer(product)
    everywhere = u.count * product.lockstep * product.channels * product.stacks
    columns = -(-elements // (u.lanes * everywhere * len(walk.sets)))
    per_row = product.row_columns
    rows = -(-columns // per_row)  # of a vector in a bank
    if rows * (inputs + 1) > product.base.structure.rows:
        raise InputError(
            "the vectors do not fit into the memory", source=product.name, found=elements
        )
    walk.steps(product.modes.enter + product.modes.start)
    start = 0
    while start < columns:
        run = min(registers, columns - start, per_row - start % per_row)
        for at in walk.sets:
            for vector in range(inputs + 1):
                command = MACB if vector < inputs else WRB
                walk.add_all(command, at, vector * rows + start // per_row, run)
                walk.barrier()
        start += run
    walk.steps(product.modes.stop + product.modes.leave)
    return walk.program()
