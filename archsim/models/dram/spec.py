"""What a DRAM is: structure, timing constraints, energy; read from YAML presets."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import Field, PositiveFloat, PositiveInt, field_validator, model_validator

from archsim.errors import InputError
from archsim.inputs import Shelf, Strict, parse_yaml, read_text
from archsim.models.dram import layout
from archsim.models.dram.expression import evaluate, names_in

HERE = Path(__file__).parent
MAX_CYCLES = 10_000_000  # of a timing parameter
SCOPES = ("bank", "group", "rank", "ranks")
_SETS = {
    "READS": ("RD", "RDA"),
    "WRITES": ("WR", "WRA"),
    "COLUMNS": ("RD", "RDA", "WR", "WRA"),
}


class Structure(Strict):
    """Shape of one channel.

    Attributes:
        ranks: Ranks, or pseudo channels, that share the command bus of the channel.
        bank_groups: Bank groups of a rank; 1 where the standard has none.
        banks_per_group: Banks of a bank group.
        rows: Rows of a bank.
        columns: Columns of a row; a column is one beat of the data bus.
        bus_bits: Width of the data bus of one rank (of one pseudo channel).
        devices: DRAM devices that make up a rank and work in step.
        burst_length: Beats of a burst.
        data_rate: Beats a clock cycle.
    """

    channels: PositiveInt = 1
    ranks: PositiveInt = 1
    bank_groups: PositiveInt = 1
    banks_per_group: PositiveInt
    rows: PositiveInt
    columns: PositiveInt
    bus_bits: PositiveInt
    devices: PositiveInt = Field(default=1, le=1024)
    burst_length: PositiveInt
    data_rate: PositiveInt = 2

    @model_validator(mode="after")
    def _powers(self) -> Structure:
        for name in ("channels", "ranks", "bank_groups", "banks_per_group", "rows", "columns"):
            value = getattr(self, name)
            if value & (value - 1):
                raise ValueError(f"{name} must be a power of two, found {value}")
        if self.bus_bits % 8 or self.columns % self.burst_length:
            raise ValueError("a burst must be whole bytes and divide the row")
        if self.ranks * self.bank_groups * self.banks_per_group > 1024:
            raise ValueError("more than 1024 banks in a channel")
        if max(self.rows, self.columns) > 1 << 30 or self.capacity_bytes > 1 << 60:
            raise ValueError("more than 2**30 rows or columns, or 2**60 bytes in all")
        return self

    @property
    def banks(self) -> int:
        """Banks of a channel, over all ranks."""
        return self.ranks * self.bank_groups * self.banks_per_group

    @property
    def burst_bytes(self) -> int:
        """Bytes one column command moves."""
        return self.bus_bits // 8 * self.burst_length

    @property
    def capacity_bytes(self) -> int:
        """Bytes of all channels."""
        return self.channels * self.banks * self.rows * self.columns * (self.bus_bits // 8)


class Currents(Strict):
    """Supply currents of one device, in mA, and voltages, in V, as data sheets list them.

    The second set belongs to the pump supply (VPP or VDD2) where a standard has one.
    ``refresh_standby`` says which standby current flows during a refresh: that with open rows up
    to the precharge at its end (DRAMPower), or that without (DRAMsim3).
    """

    refresh_standby: Literal["active", "idle"] = "active"
    vdd: PositiveFloat
    idd0: float = Field(ge=0)
    idd2n: float = Field(ge=0)
    idd3n: float = Field(ge=0)
    idd4r: float = Field(ge=0)
    idd4w: float = Field(ge=0)
    idd5: float = Field(ge=0)
    idd5_bank: float = Field(default=0.0, ge=0)
    vpp: float = Field(default=0.0, ge=0)
    ipp0: float = Field(default=0.0, ge=0)
    ipp2n: float = Field(default=0.0, ge=0)
    ipp3n: float = Field(default=0.0, ge=0)
    ipp4r: float = Field(default=0.0, ge=0)
    ipp4w: float = Field(default=0.0, ge=0)
    ipp5: float = Field(default=0.0, ge=0)


class PerBit(Strict):
    """Energies for memories without published currents.

    Attributes:
        activate_pj: Energy of opening and closing one row of a rank.
        read_pj_per_bit: Energy a bit read, from the array to the pins.
        write_pj_per_bit: The same for a write.
        refresh_pj: Energy of refreshing all banks of a rank once.
        background_mw: Power of an idle rank.
    """

    activate_pj: float = Field(ge=0)
    read_pj_per_bit: float = Field(ge=0)
    write_pj_per_bit: float = Field(ge=0)
    refresh_pj: float = Field(default=0.0, ge=0)
    background_mw: float = Field(default=0.0, ge=0)


class Broadcast(Strict):
    """Which banks of a rank a command of a memory that computes reaches.

    Attributes:
        activate_banks: Banks that one ACTB opens; all of the rank when None.
        compute_banks: Banks that one MACB, WRB (to a row) or PREB reaches; all when None.
        spread: Members of a set are spread over the bank groups (even and odd banks, bundles);
            else they are neighbours (a bank group).
        activations: Activations that one ACTB counts for in the four-activate window; one a bank
            when None.
    """

    activate_banks: PositiveInt | None = None
    compute_banks: PositiveInt | None = None
    spread: bool = False
    activations: PositiveInt | None = None


class DramSpec(Strict):
    """One DRAM standard at one speed: a preset file.

    Attributes:
        family: Constraint table the timing parameters are put into (a key of families.yaml).
        clock_ps: Clock period in ps; all timings are in cycles of it.
        timing: Timing parameters in cycles, without the leading t; may override derived values.
        refresh_granularity: What a REFB refreshes: one bank, or the same bank of every group.
        broadcast: Banks that commands of a memory that computes reach.
        mapping: Default address mapping, most significant part first.
        source: Where the figures are from.
    """

    name: str
    standard: Literal["DDR3", "DDR4", "DDR5", "LPDDR4", "LPDDR5", "GDDR6", "HBM2", "HBM3"]
    family: str
    source: str
    clock_ps: PositiveFloat
    structure: Structure
    timing: dict[str, int | str]
    refresh_granularity: Literal["bank", "same_bank"] = "bank"
    broadcast: Broadcast = Broadcast()
    mapping: str = "row-rank-bank-group-column-channel"
    currents: Currents | None = None
    per_bit: PerBit | None = None
    energy_source: str = ""

    @field_validator("timing")
    @classmethod
    def _distances(cls, timing: dict[str, int | str]) -> dict[str, int | str]:
        for name, value in timing.items():
            if isinstance(value, int) and not 0 <= value <= MAX_CYCLES:
                raise ValueError(f"{name} must be 0 to {MAX_CYCLES} cycles, found {value}")
        return timing

    @model_validator(mode="after")
    def _sets(self) -> DramSpec:
        banks = self.structure.bank_groups * self.structure.banks_per_group
        for name in ("activate_banks", "compute_banks"):
            value = getattr(self.broadcast, name)
            if value is not None and banks % value:
                raise ValueError(f"broadcast.{name} must divide the {banks} banks of a rank")
        if self.activate_banks > self.compute_banks or self.compute_banks % self.activate_banks:
            raise ValueError("broadcast.activate_banks must divide compute_banks")
        return self

    @property
    def activate_banks(self) -> int:
        """Banks that one ACTB opens."""
        per_rank = self.structure.bank_groups * self.structure.banks_per_group
        return self.broadcast.activate_banks or self.broadcast.compute_banks or per_rank

    @property
    def compute_banks(self) -> int:
        """Banks that one MACB reads."""
        per_rank = self.structure.bank_groups * self.structure.banks_per_group
        return self.broadcast.compute_banks or per_rank

    @property
    def broadcast_activations(self) -> int:
        """Activations that one ACTB counts for."""
        return self.broadcast.activations or self.activate_banks

    @property
    def peak_bandwidth_bytes_per_s(self) -> float:
        """Data bus bandwidth of all channels; pseudo channels count each."""
        s = self.structure
        buses = s.ranks if family(self.family)["pseudo_channels"] else 1
        return s.channels * buses * s.bus_bits / 8 * s.data_rate / (self.clock_ps * 1e-12)

    @functools.cached_property
    def parameters(self) -> dict[str, int]:
        """Every timing parameter and derived distance, in cycles."""
        return _parameters(self)

    @functools.cached_property
    def tables(self) -> np.ndarray:
        """Distances, int64[4, first, then], at bank, group, rank and other-rank scope."""
        return _tables(self)


@functools.cache
def families() -> dict[str, dict[str, Any]]:
    """Constraint families, with what they extend filled in."""
    raw = parse_yaml(read_text(HERE / "families.yaml"), "families.yaml")
    done: dict[str, dict[str, Any]] = {}
    for name, given in raw.items():
        base = done.get(given.get("extends", ""), {})
        rows = {}
        for scope, first, then, distance in [*base.get("rows", []), *given["constraints"]]:
            for a in _expand(first):
                for b in _expand(then):
                    rows[scope, a, b] = distance
        done[name] = {
            "defaults": base.get("defaults", {}) | given.get("defaults", {}),
            "rows": [(s, [a], [b], d) for (s, a, b), d in rows.items()],
            "command_cycles": given.get("command_cycles", base.get("command_cycles", {})),
            "split_bus": bool(given.get("split_bus", base.get("split_bus", False))),
        }
        # Ranks are pseudo channels, with data buses of their own, where commands have two buses.
        done[name]["pseudo_channels"] = given.get("pseudo_channels", done[name]["split_bus"])
    return done


def family(name: str) -> dict[str, Any]:
    """One constraint family.

    Raises:
        InputError: There is none of that name.
    """
    found = families().get(name)
    if found is None:
        raise InputError(
            "no such constraint family", field="family", found=name, expected=", ".join(families())
        )
    return found


def _expand(names: list[str]) -> list[str]:
    return [command for name in names for command in _SETS.get(name, (name,))]


def _parameters(spec: DramSpec) -> dict[str, int]:
    """Resolve timing parameters and defaults, each once all it depends on is known."""
    given: dict[str, int | str] = dict(family(spec.family)["defaults"]) | dict(spec.timing)
    given.setdefault("BURST", spec.structure.burst_length // spec.structure.data_rate)
    known: dict[str, int] = {}
    while given:
        usable = [n for n, e in given.items() if names_in(e) <= known.keys()]
        if not usable:
            # What no constraint needs may stay unknown; a constraint that does will say so.
            break
        for name in usable:
            known[name] = evaluate(given.pop(name), known, f"timing.{name}")
            if abs(known[name]) > MAX_CYCLES:
                raise InputError(
                    "a distance beyond reason",
                    source=spec.name,
                    field=f"timing.{name}",
                    found=known[name],
                    expected=f"at most {MAX_CYCLES} cycles",
                )
    for name in given.keys() & spec.timing.keys():
        raise InputError(
            "no such timing parameter, or one that is not known without this",
            source=spec.name,
            field=f"timing.{name}",
            found=", ".join(sorted(names_in(given[name]) - known.keys())),
        )
    return known


def _tables(spec: DramSpec) -> np.ndarray:
    cycles = family(spec.family)["command_cycles"]
    tables = np.full((len(SCOPES), layout.NUM_COMMANDS, layout.NUM_COMMANDS), layout.FREE)
    for scope, (first,), (then,), distance in family(spec.family)["rows"]:
        try:
            value = evaluate(distance, spec.parameters, f"{scope} {first} to {then}")
        except InputError as error:
            if error.message != "unknown timing parameter":
                raise
            raise InputError(
                "the timing parameters lack one that a constraint needs",
                source=spec.name,
                field=f"timing ({scope}: {first} to {then})",
                found=error.found,
            ) from None
        if value > 0:
            at = SCOPES.index(scope), layout.COMMANDS.index(first), layout.COMMANDS.index(then)
            tables[at] = value + cycles.get(first, 1) - cycles.get(then, 1)
    return tables


_PRESETS = Shelf(HERE / "standards", DramSpec, "DRAM")


def presets() -> tuple[str, ...]:
    """Names of the DRAM presets that archsim ships."""
    return _PRESETS.names()


def load_spec(name: str | Path | dict[str, Any]) -> DramSpec:
    """A DRAM by preset name, by path of a YAML file, or from plain data.

    Raises:
        InputError: No such preset or file, or a wrong field.

    Example:
        >>> load_spec("ddr4_2400_4gb_x8").structure.burst_bytes
        64
    """
    from archsim.models.dram.address import parse_mapping

    spec = _PRESETS.load(name)
    spec.tables  # noqa: B018 (an incomplete timing set is an error of the file, so find it here)
    parse_mapping(spec.mapping, spec)
    refresh, interval = (spec.parameters.get(name, 0) for name in ("RFC", "REFI"))
    if interval <= refresh:
        raise InputError(
            "refreshes must be further apart than one takes",
            source=spec.name,
            field="timing.REFI",
            found=interval,
            expected=f"more than RFC, {refresh} cycles",
        )
    return spec
