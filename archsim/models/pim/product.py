"""What a memory that computes is: its DRAM, its units and registers, its modes; from YAML."""

from __future__ import annotations

import functools
from math import ceil
from os.path import isfile  # false, no error, for a name no file can have
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, PositiveInt, model_validator

from archsim.errors import InputError
from archsim.inputs import Shelf, Strict, validate
from archsim.models.dram import layout as L
from archsim.models.dram.spec import Broadcast, DramSpec, load_spec

Level = Literal["bank", "bank_group", "logic_die", "buffer"]
#: Segments of the path from a cell to the processor, in order.
SEGMENTS = ("cell", "column", "group", "tsv", "interposer")
#: Segments that data cross to a unit at each level.
CROSSED: dict[str, tuple[str, ...]] = {
    "bank": ("cell",),
    "bank_group": ("cell", "column"),
    "logic_die": ("cell", "column", "tsv"),
    "buffer": ("cell", "column", "group", "tsv"),
}


class Units(Strict):
    """The units that multiply, as one MACB of one rank reaches them.

    Attributes:
        level: Where they lie.
        count: Units that one MACB feeds; each works on outputs of its own.
        column_bytes: Bytes that each is fed by one MACB.
        element_bytes: Bytes of an element.
        vectors: Vectors that a unit multiplies a column by in the time of one MACB: its rate in
            operations a byte of 16-bit elements.
        held: Vectors that operand buffers and accumulators hold at once; a column is then read
            once for all of them.
        all_ranks: Every rank has units of its own, and all work at the same time.
        streams: Rows of the sets follow one another set by set, so that one opens while another
            is read; else all rows of a set come before those of the next.
    """

    level: Level
    count: PositiveInt
    column_bytes: PositiveInt = 32
    element_bytes: PositiveInt = 2
    vectors: PositiveInt = 1
    held: PositiveInt = 1
    all_ranks: bool = False
    streams: bool = True

    @property
    def lanes(self) -> int:
        """Elements of a column in each unit."""
        return self.column_bytes // self.element_bytes


class Operands(Strict):
    """How vectors reach the units, and results leave them.

    Attributes:
        columns: Columns of one vector that the registers (or the buffer) hold.
        row: Row behind which the registers lie and which must be opened to write them, if any.
        through: A bank of the set whose rows are opened to write operands and results; those of
            the set that is read next when None.
        accumulators: Outputs that a unit sums up at a time.
        keep: What stays while the other is exchanged: ``outputs`` in the accumulators until they
            are complete, or ``inputs`` in the buffer until all outputs have used them.
        result_bytes: Bytes of one result of one unit: a sum, or one a lane.
        result_row: Row into which results are stored (in every unit's bank at once); read over
            the pins when None.
        shared: One buffer feeds the units of all channels of a stack, and each channel carries its
            part of a vector; else every channel is written the whole vector.
        registers: Columns that a unit keeps of what it read, for elementwise kernels; 0 if it
            has no such kernels.
    """

    columns: PositiveInt
    row: int | None = Field(default=None, ge=0)
    through: int | None = Field(default=None, ge=0)
    accumulators: PositiveInt = 1
    keep: Literal["outputs", "inputs"] = "inputs"
    result_bytes: PositiveInt = 2
    result_row: int | None = Field(default=None, ge=0)
    shared: bool = False
    registers: int = Field(default=0, ge=0)


class Step(Strict):
    """Accesses of the host that follow one another, up to a barrier.

    Attributes:
        kind: ``read`` or ``write`` one bank after another as in a plain memory, or ``broadcast``: a
            write to the set of each bank named, to registers behind its row.
        banks: Banks of a rank, in order.
        row: Row that is opened for them.
        times: Accesses of each bank.
    """

    kind: Literal["read", "write", "broadcast"]
    banks: tuple[int, ...] = Field(min_length=1)
    row: int = Field(ge=0)
    times: PositiveInt = 1


class Modes(Strict):
    """What surrounds a kernel.

    Attributes:
        enter: Steps before a kernel: parking, mode switches, the program of the units.
        start: Steps before each group of outputs that are summed up together.
        stop: Steps after each such group.
        leave: Steps after a kernel.
        barrier_every: Column commands of a run between barriers of the host, who also sets one
            after each step and run; no row is opened for commands behind a barrier before the last
            command in front of it is due. 0 for a memory that keeps the order by itself.
        barrier_cycles: Least distance of a command behind a barrier to the one in front of it.
    """

    enter: tuple[Step, ...] = ()
    start: tuple[Step, ...] = ()
    stop: tuple[Step, ...] = ()
    leave: tuple[Step, ...] = ()
    barrier_cycles: int = Field(default=0, ge=0)
    barrier_every: int = Field(default=0, ge=0)

    @model_validator(mode="after")
    def _paced(self) -> Modes:
        if self.barrier_cycles and not self.barrier_every:
            raise ValueError("barrier_cycles needs barrier_every")
        return self

    @property
    def steps(self) -> tuple[Step, ...]:
        """Steps of all kinds."""
        return self.enter + self.start + self.stop + self.leave

    @property
    def host_accesses(self) -> int:
        """Accesses of single banks around a kernel."""
        return sum(len(step.banks) * step.times for step in self._single)

    @property
    def host_rows(self) -> int:
        """Rows of single banks that are opened around a kernel."""
        return sum(len(step.banks) for step in self._single)

    @property
    def _single(self) -> list[Step]:
        return [step for step in self.enter + self.leave if step.kind != "broadcast"]


class Power(Strict):
    """What the units may draw.

    Attributes:
        budget: ``ordinary``: no more than the memory draws at most in ordinary use, all pins
            reading while rows open as fast as the four-activate window lets them in every rank;
            ``none``: no limit.
    """

    budget: Literal["none", "ordinary"] = "none"


class Energy(Strict):
    """Energy along the path of a bit, and of a product.

    Attributes:
        cell, column, group, tsv, interposer: Read from the cells; from the column decoder to the
            bank group's multiplexer; from there to the global I/O; through the stack; to the
            processor; pJ/bit.
        mac_pj: One multiply-accumulate.
        activate_pj: Opening and closing a row of one bank.
    """

    cell: float = Field(ge=0)
    column: float = Field(ge=0)
    group: float = Field(ge=0)
    tsv: float = Field(ge=0)
    interposer: float = Field(ge=0)
    mac_pj: float = Field(ge=0)
    activate_pj: float = Field(ge=0)

    def to_unit(self, level: str) -> float:
        """pJ/bit from the cells to a unit of a level, without opening the row."""
        return sum(getattr(self, segment) for segment in CROSSED[level])

    @property
    def to_pins(self) -> float:
        """pJ/bit from the cells to the processor."""
        return sum(getattr(self, segment) for segment in SEGMENTS)


class Product(Strict):
    """A memory that computes: a product file.

    Attributes:
        memory: DRAM preset of one (pseudo) channel, or a file, relative to the product's.
        timing: Timing parameters that differ from the preset's, in its cycles.
        broadcast: Banks that one command reaches.
        channels: (Pseudo) channels of one stack or chip.
        stacks: Stacks or chips of the product's system, for its kernels.
    """

    name: str
    title: str
    source: str
    memory: str
    timing: dict[str, int | str] = Field(default_factory=dict)
    broadcast: Broadcast = Broadcast()
    channels: PositiveInt = 1
    stacks: PositiveInt = 1
    units: Units
    operands: Operands
    modes: Modes = Modes()
    power: Power = Power()
    energy: Energy

    @model_validator(mode="after")
    def _fits(self) -> Product:
        if self.units.column_bytes % self.units.element_bytes:
            raise ValueError("a column must hold whole elements")
        if self.units.held < self.units.vectors:
            raise ValueError("units.held must be at least units.vectors")
        return self

    @functools.cached_property
    def _text(self) -> str:
        return self.model_dump_json()

    def __hash__(self) -> int:
        return hash(self._text)

    def __eq__(self, other: object) -> bool:
        # By what the file says: the cached memories hold arrays.
        return isinstance(other, Product) and self._text == other._text

    @functools.cached_property
    def base(self) -> DramSpec:
        """The memory of a channel, before any limit of power."""
        spec = load_spec(self.memory)
        return validate(
            spec.model_dump()
            | {
                "name": self.name,
                "timing": spec.timing | self.timing,
                "broadcast": self.broadcast.model_dump(),
            },
            DramSpec,
            self.name,
        )

    @functools.cached_property
    def spec(self) -> DramSpec:
        """The memory of a channel, with multiplications as far apart as power asks for."""
        base = self.base
        apart = self.mac_distance
        if apart == base.parameters["MAC_TO_MAC"]:
            return base
        timing = base.timing | {"MAC_TO_MAC": apart}
        if base.parameters["MAC_TO_MAC_RANKS"]:
            timing["MAC_TO_MAC_RANKS"] = max(apart, base.parameters["MAC_TO_MAC_RANKS"])
        return validate(base.model_dump() | {"timing": timing}, DramSpec, self.name)

    @property
    def ordinary_pj_per_cycle(self) -> float:
        """Most that a channel draws as a plain memory, pJ a cycle.

        Its pins read without pause, and rows are opened in every rank as fast as the four-activate
        window allows.
        """
        spec = self.base
        pins = 8.0 * spec.structure.burst_bytes / spec.parameters["CCD_S"] * self.energy.to_pins
        rows = 4.0 * self.energy.activate_pj / max(spec.parameters["FAW"], 1)
        return pins + spec.structure.ranks * rows

    @property
    def mac_pj_per_command(self) -> float:
        """Energy of reading what one MACB reads, pJ."""
        bits = 8.0 * self.units.count * self.units.column_bytes
        return bits * self.energy.to_unit(self.units.level)

    @property
    def mac_distance(self) -> int:
        """Cycles from one MACB of a rank to the next: by timing, or by the power it may draw.

        Over a row, opening it and reading all of it must not take more than the budget.
        """
        spec = self.base
        apart = spec.parameters["MAC_TO_MAC"]
        if self.power.budget == "none":
            return apart
        shared = spec.parameters["MAC_TO_MAC_RANKS"] > 0
        share = self.ordinary_pj_per_cycle / (1 if shared else spec.structure.ranks)
        columns, bank = self.row_columns, spec.tables[0]
        drawn = columns * self.mac_pj_per_command + spec.compute_banks * self.energy.activate_pj
        if self.units.streams and self.sets > 1:
            return max(apart, ceil(drawn / share / columns))
        # Between two rows of the same banks nothing is read.
        idle = bank[L.ACTB, L.MACB] + bank[L.MACB, L.PREB] + bank[L.PREB, L.ACTB]
        return max(apart, ceil((drawn / share - idle) / max(columns - 1, 1)))

    @property
    def lockstep(self) -> int:
        """Ranks that work at the same time."""
        return self.base.structure.ranks if self.units.all_ranks else 1

    @property
    def row_columns(self) -> int:
        """Columns of a row, of ``column_bytes`` each."""
        s = self.base.structure
        return s.columns * (s.bus_bits // 8) // (self.bank_bytes)

    @property
    def bank_bytes(self) -> int:
        """Bytes that one MACB reads from one bank."""
        return self.units.count * self.units.column_bytes // self.base.compute_banks

    @property
    def sets(self) -> int:
        """Sets of banks that the units read in turn."""
        s = self.base.structure
        per_rank = s.bank_groups * s.banks_per_group // self.base.compute_banks
        return per_rank * (1 if self.units.all_ranks else s.ranks)

    @property
    def scale(self) -> float:
        """Bandwidth inside an open row over that of the pins."""
        p, s = self.spec.parameters, self.spec.structure
        inside = self.units.count * self.units.column_bytes * self.lockstep / p["MAC_TO_MAC"]
        return inside / (s.burst_bytes / p["CCD_S"])

    @property
    def bandwidth_bytes_per_s(self) -> float:
        """Of all units, inside open rows, over all channels and stacks."""
        inside = self.units.count * self.units.column_bytes * self.lockstep
        cycle = self.spec.clock_ps * 1e-12
        per_channel = inside / (self.spec.parameters["MAC_TO_MAC"] * cycle)
        return per_channel * self.channels * self.stacks

    @property
    def flops_per_s(self) -> float:
        """Peak of all units."""
        return 2.0 * self.bandwidth_bytes_per_s / self.units.element_bytes * self.units.vectors


_PRODUCTS = Shelf(Path(__file__).parent / "products", Product, "product")


def available_products() -> tuple[str, ...]:
    """Names of the products that archsim ships."""
    return _PRODUCTS.names()


def load_product(name: str | Path | dict[str, Any]) -> Product:
    """A product by name, by path of a YAML file, or from plain data.

    Raises:
        InputError: No such product or file, or a wrong field.

    Example:
        >>> load_product("hbm_pim").spec.parameters["MAC_TO_MAC"]
        4
    """
    product = _PRODUCTS.load(name)
    beside = Path(name).parent / product.memory if isinstance(name, (str, Path)) else None
    if beside is not None and beside.suffix in {".yaml", ".yml"} and isfile(beside):
        product = product.model_copy(update={"memory": str(beside)})
    _check(product)
    return product


def _check(product: Product) -> None:
    """Refuse a product whose memory is incomplete or too small for what it says.

    Raises:
        InputError: What one MACB reads is not equal in all banks, or a bank or row that its
            registers and modes use is not there.
    """
    banks = product.spec.compute_banks  # its memory must be there and complete
    if product.units.count * product.units.column_bytes % banks:
        raise InputError(
            "what one MACB reads must be equal in all its banks",
            source=product.name,
            field="units.count",
            found=product.units.count,
            expected=f"a multiple that divides over {banks} banks",
        )
    s, o = product.base.structure, product.operands
    rows = [("operands.row", o.row), ("operands.result_row", o.result_row)]
    ranked = [("operands.through", o.through)]
    for name in ("enter", "start", "stop", "leave"):
        for index, step in enumerate(getattr(product.modes, name)):
            rows.append((f"modes.{name}[{index}].row", step.row))
            ranked += [(f"modes.{name}[{index}].banks", bank) for bank in step.banks]
    for places, many, what in ((rows, s.rows, "row"), (ranked, s.banks, "bank")):
        for field, found in places:
            if found is not None and not 0 <= found < many:
                raise InputError(
                    f"the memory has no such {what}", source=product.name, field=field,
                    found=found, expected=f"0 to {many - 1}",
                )  # fmt: skip


__all__ = ["CROSSED", "SEGMENTS", "Product", "available_products", "load_product"]
