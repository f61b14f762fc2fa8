"""One memory, one trace, one controller or many: cycles, latencies, row hits, energy."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from archsim.errors import InputError
from archsim.models.dram import layout as L
from archsim.models.dram.address import Location, decode
from archsim.models.dram.energy import PARTS, energies_j
from archsim.models.dram.engine_state import MAX_REQUESTS
from archsim.models.dram.policy import Controller, Policy
from archsim.models.dram.spec import DramSpec, family
from archsim.models.dram.trace import Trace

MAX_BANK_SETS = 62  # refreshed one by one; a mask of them is one machine word


@dataclass(frozen=True, eq=False)
class DramResult:
    """What a trace takes.

    Attributes:
        cycles: Cycle of the last response.
        latency_s: Mean over reads, from the request to its response.
        begin: Cycle in which each request was made, int64[n].
        end: Cycle in which its response arrived, int64[n].
        row_hits: Column commands that found their row open.
        energy_j: Energy by cause; empty when the memory has no energy figures.
        commands: Commands issued, by name.
        log: Command log, if asked for: cycle, command, bank, row, request; int64[m, 5], one
            per channel.
    """

    spec: DramSpec
    cycles: int
    begin: np.ndarray
    end: np.ndarray
    reads: int
    writes: int
    row_hits: int
    read_row_hits: int
    read_latency_cycles: float
    energy_parts_j: dict[str, float]
    commands: dict[str, int]
    active_cycles: int
    log: tuple[np.ndarray, ...] = ()

    @property
    def time_s(self) -> float:
        """Length of the simulation."""
        return self.cycles * self.spec.clock_ps * 1e-12

    @property
    def latency_s(self) -> float:
        """Mean latency of a read."""
        return self.read_latency_cycles * self.spec.clock_ps * 1e-12

    @property
    def bytes(self) -> int:
        """Bytes moved."""
        return (self.reads + self.writes) * self.spec.structure.burst_bytes

    @property
    def bandwidth_bytes_per_s(self) -> float:
        """Bytes moved over the whole time."""
        return self.bytes / self.time_s

    @property
    def energy_j(self) -> float:
        """Energy of all channels; NaN when the memory has no energy figures."""
        return sum(self.energy_parts_j.values()) if self.energy_parts_j else float("nan")

    @property
    def power_w(self) -> float:
        """Mean power."""
        return self.energy_j / self.time_s


@dataclass(frozen=True, eq=False)
class DesignResults:
    """What many controllers make of one trace; arrays over the designs.

    Attributes:
        time_s: Time of the last response, float64[N].
        latency_s: Mean latency of the reads (of the writes where there is no read), float64[N].
        tail_latency_s: Latency that the asked shares of the requests do not exceed, [N, Q].
        energy_j: float64[N].
        energy_parts_j: float64[N, causes] in the order of ``energy.PARTS``.
        row_hits: int64[N].
        commands: int64[N, commands] in the order of ``layout.COMMANDS``.
        refreshed: Whether data are kept: refreshes are issued, bool[N].
    """

    time_s: np.ndarray
    latency_s: np.ndarray
    tail_latency_s: np.ndarray
    energy_j: np.ndarray
    energy_parts_j: np.ndarray
    bandwidth_bytes_per_s: np.ndarray
    power_w: np.ndarray
    row_hits: np.ndarray
    commands: np.ndarray
    refreshed: np.ndarray


@dataclass(frozen=True, eq=False)
class _Compiled:
    """A memory as compiled code reads it."""

    device: np.ndarray
    tables: np.ndarray
    length: np.ndarray
    bus_of: np.ndarray


def compiled(spec: DramSpec) -> _Compiled:
    """Vectors of a memory: device int64[D_SIZE], tables, command cycles and command bus."""
    s, p = spec.structure, spec.parameters
    kind = family(spec.family)
    device = np.zeros(L.D_SIZE, np.int64)
    try:
        device[L.D_READ_END] = p["RL"] + p["DQSCK"] + p["BURST"]
        device[L.D_WRITE_END] = p["WL"] + p["BURST"]
        device[L.D_REFI], device[L.D_REFI_BANK] = p["REFI"], p["REFI_B"]
        device[L.D_WINDOW] = p.get("FAW", 0)
        device[L.D_READ_CLOSE], device[L.D_WRITE_CLOSE] = p["READ_TO_PRE"], p["WRITE_TO_PRE"]
        device[L.D_RFC], device[L.D_RP], device[L.D_RAS] = p["RFC"], p["RP"], p["RAS"]
        device[L.D_READ_LATENCY], device[L.D_WRITE_LATENCY] = p["RL"], p["WL"]
        device[L.D_BURST] = p["BURST"]
    except KeyError as error:
        raise InputError(
            "a timing parameter is missing", source=spec.name, field=f"timing.{error.args[0]}"
        ) from None
    device[L.D_RANKS] = s.ranks
    device[L.D_GROUPS], device[L.D_BANKS] = s.bank_groups, s.banks_per_group
    device[L.D_WINDOW_COUNT] = 4
    device[L.D_SAME_BANK] = spec.refresh_granularity == "same_bank"
    device[L.D_CROSS] = s.ranks > 1 and bool((spec.tables[3] > L.FREE).any())
    device[L.D_SPLIT_BUS] = kind["split_bus"]
    length = np.ones(L.NUM_COMMANDS, np.int64)
    for name, cycles in kind["command_cycles"].items():
        length[L.COMMANDS.index(name)] = cycles
    bus_of = np.zeros(L.NUM_COMMANDS, np.int64)
    if kind["split_bus"]:
        bus_of[[L.RD, L.WR, L.RDA, L.WRA, L.MACB, L.WRB, L.RDB]] = 1
    return _Compiled(device, spec.tables, length, bus_of)


def check(spec: DramSpec, policy: Policy) -> None:
    """Refuse a controller the memory does not support.

    Raises:
        InputError: Refresh of single banks without a time for it, or of too many.
    """
    if policy.refresh in ("PerBank", "SameBank"):
        same = spec.refresh_granularity == "same_bank"
        s = spec.structure
        sets = s.banks_per_group if same else s.bank_groups * s.banks_per_group
        if spec.parameters["RFC_B"] <= 0 or spec.parameters["REFI_B"] <= 0:
            raise InputError(
                "this memory cannot refresh single banks",
                source=spec.name,
                field="refresh",
                found=policy.refresh,
                expected="AllBank",
            )
        if same != (policy.refresh == "SameBank") or sets > MAX_BANK_SETS:
            raise InputError(
                "this memory refreshes " + ("the same bank of every group" if same else "a bank"),
                source=spec.name,
                field="refresh",
                found=policy.refresh,
                expected="SameBank" if same else "PerBank",
            )


def simulate(
    spec: DramSpec,
    trace: Trace,
    policy: Controller | None = None,
    *,
    mapping: str | None = None,
    wrap: bool = False,
    log: bool = False,
) -> DramResult:
    """Serve a trace.

    Under DRAMSys's controller channels work on their own: each takes its part of the trace, and a
    full channel does not hold up requests to another. Under the others, requests are accepted in
    order over all channels.

    Args:
        spec: The memory.
        trace: The requests; arrival cycles are cycles of the memory's clock.
        policy: The controller: DRAMSys's (:class:`Policy`, its defaults when None), DRAMsim3's or
            Ramulator's.
        mapping: Address mapping, see :func:`archsim.models.dram.address.parse_mapping`.
        wrap: Take addresses beyond the memory modulo its size.
        log: Keep the command log.

    Raises:
        InputError: An address outside the memory, or a policy it does not support.
    """
    policy = policy or Policy()
    if isinstance(policy, Policy):
        check(spec, policy)
    where = decode(trace.address, spec, mapping, wrap)
    if not isinstance(policy, Policy):
        from archsim.models.dram.others import channels

        made = (trace.arrival, trace.write, where.bank, where.row, where.column, trace.address)
        begin, end, logs, results, counts = channels(
            spec, compiled(spec), policy, made, where.channel, log
        )
        return collect(spec, begin, end, results, counts, tuple(logs))
    begin, end = np.empty(len(trace), np.int64), np.empty(len(trace), np.int64)
    logs, results, counts = [], [], []
    for number in range(spec.structure.channels):
        mine = np.flatnonzero(where.channel == number) if spec.structure.channels > 1 else None
        if mine is not None and not mine.size:
            continue
        at, lines, result, count = _one_channel(spec, trace, where, policy, mine, log)
        if mine is None:
            begin, end = at
        else:
            begin[mine], end[mine] = at
        logs.append(lines)
        results.append(result)
        counts.append(count)
    return collect(spec, begin, end, results, counts, tuple(logs) if log else ())


def collect(
    spec: DramSpec,
    begin: np.ndarray,
    end: np.ndarray,
    results: Sequence[np.ndarray],
    counts: Sequence[np.ndarray],
    logs: tuple[np.ndarray, ...],
) -> DramResult:
    """Sum channels into one result; idle channels are charged their standby power."""
    total = np.sum(results, axis=0)
    cycles = int(max(r[L.R_END] for r in results))
    padded = np.zeros((spec.structure.channels, *counts[0].shape), np.int64)
    padded[: len(counts)] = counts
    parts = {}
    if spec.currents is not None or spec.per_bit is not None:
        energy = energies_j(spec, padded, np.full(len(padded), cycles)).sum(0)
        parts = dict(zip(PARTS, energy.tolist(), strict=True))
    issued = padded.sum((0, 1))
    return DramResult(
        spec=spec,
        cycles=cycles,
        begin=begin,
        end=end,
        reads=int(total[L.R_READS]),
        writes=int(total[L.R_WRITES]),
        row_hits=int(total[L.R_ROW_HITS]),
        read_row_hits=int(total[L.R_READ_HITS]),
        read_latency_cycles=float(total[L.R_LATENCY] / max(total[L.R_READS], 1)),
        energy_parts_j=parts,
        commands=dict(zip(L.COMMANDS, issued[: len(L.COMMANDS)].tolist(), strict=True)),
        active_cycles=int(issued[L.RANK_ACTIVE]),
        log=logs,
    )


def _one_channel(
    spec: DramSpec,
    trace: Trace,
    where: Location,
    policy: Policy,
    mine: np.ndarray | None,
    log: bool,
) -> tuple[tuple[np.ndarray, np.ndarray], np.ndarray, np.ndarray, np.ndarray]:
    """Simulate the requests ``mine`` (all when None) of one channel."""
    from archsim.models.dram import batch

    made: tuple[np.ndarray, ...] = (
        trace.arrival,
        trace.write,
        where.bank,
        where.row,
        trace.address,
    )
    if mine is not None:
        made = tuple(np.ascontiguousarray(a[mine]) for a in made)
    arrival, write, bank, row, address = made
    if arrival.size > MAX_REQUESTS:
        raise InputError(
            "too many requests for one channel", found=arrival.size, expected=str(MAX_REQUESTS)
        )
    c = compiled(spec)
    links = batch.chains(bank, row, write, spec.structure.banks)
    begin, end = np.empty(arrival.size, np.int64), np.empty(arrival.size, np.int64)
    lines = np.empty((4 * arrival.size + 1024 if log else 0, 5), np.int64)
    while True:
        result, counts = batch.channel(
            policy.vector(),
            c.device,
            c.tables,
            c.length,
            c.bus_of,
            arrival,
            write,
            bank,
            row,
            address,
            links,
            begin,
            end,
            lines,
        )
        if not log or result[L.R_LOGGED] <= len(lines):
            break
        lines = np.empty((int(result[L.R_LOGGED]), 5), np.int64)
    return (begin, end), lines[: result[L.R_LOGGED]], result, counts


class Workbench:
    """A memory and a trace made ready for many controllers.

    Channels work on their own, as under :func:`simulate`.

    Args:
        spec: The memory.
        trace: The requests.
        mapping, wrap: As in :func:`simulate`.

    Raises:
        InputError: An address outside the memory.
    """

    def __init__(
        self, spec: DramSpec, trace: Trace, mapping: str | None = None, wrap: bool = False
    ) -> None:
        from archsim.models.dram import batch

        self.spec, self.trace = spec, trace
        where = decode(trace.address, spec, mapping, wrap)
        order = np.argsort(where.channel, kind="stable")
        self._starts = np.searchsorted(where.channel[order], np.arange(spec.structure.channels + 1))
        made = (trace.arrival, trace.write, where.bank, where.row, trace.address)
        self._requests = tuple(np.ascontiguousarray(part[order]) for part in made)
        self._compiled = compiled(spec)
        _, write, bank, row, _ = self._requests
        links = [
            batch.chains(bank[a:b], row[a:b], write[a:b], spec.structure.banks).ravel()
            for a, b in itertools.pairwise(self._starts.tolist())
        ]
        self._links = np.concatenate(links)

    def evaluate(self, policies: np.ndarray, shares: Sequence[float] = ()) -> DesignResults:
        """Serve the trace with each controller.

        Args:
            policies: Policy vectors (:meth:`Policy.vector`), int64[N, P_SIZE].
            shares: Shares of the requests for ``tail_latency_s``, e.g. ``(0.95, 0.99)``.
        """
        from archsim.models.dram import batch

        c = self._compiled
        results, counts, tails = batch.designs(
            np.ascontiguousarray(policies, np.int64),
            c.device,
            c.tables,
            c.length,
            c.bus_of,
            *self._requests,
            self._links,
            self._starts,
            np.asarray(shares, float),
        )
        second = self.spec.clock_ps * 1e-12
        time = results[:, L.R_END] * second
        parts = np.full((len(policies), len(PARTS)), np.nan)
        if self.spec.currents is not None or self.spec.per_bit is not None:
            # Idle channels are charged their standby power.
            ends = np.broadcast_to(results[:, L.R_END, None], counts.shape[:2])
            parts = energies_j(self.spec, counts, ends).sum(1)
        energy = parts.sum(-1)
        return DesignResults(
            time_s=time,
            latency_s=results[:, L.R_LATENCY] / np.maximum(results[:, L.R_READS], 1) * second,
            tail_latency_s=tails * second,
            energy_j=energy,
            energy_parts_j=parts,
            bandwidth_bytes_per_s=len(self.trace) * self.spec.structure.burst_bytes / time,
            power_w=energy / time,
            row_hits=results[:, L.R_ROW_HITS],
            commands=counts.sum((1, 2))[:, : len(L.COMMANDS)],
            refreshed=policies[:, L.P_REFRESH] != 0,
        )
