"""The controllers of DRAMsim3 and of Ramulator 2.1: settings, workspace, channels in order."""

from __future__ import annotations

from typing import Any

import numpy as np

from archsim.models.dram import layout as L
from archsim.models.dram.policy import DRAMsim3Policy, RamulatorPolicy
from archsim.models.dram.spec import DramSpec

_Made = tuple[np.ndarray, ...]


def _full(value: int, *shape: int) -> np.ndarray:
    return np.full(shape, value, np.int64)


class Channel:
    """One channel that serves its requests as far as their arrivals are known.

    Args:
        spec: The memory.
        device: Its vectors (:func:`archsim.models.dram.simulate.compiled`).
        policy: The controller.
        made: Arrival, direction, bank, row, column and address of the requests.
        lines: Room for the command log, int64[m, 5].
    """

    def __init__(
        self,
        spec: DramSpec,
        device: Any,
        policy: DRAMsim3Policy | RamulatorPolicy,
        made: _Made,
        lines: np.ndarray,
    ) -> None:
        n = made[0].size
        self.arrival, self.begin, self.end = made[0].copy(), _full(-1, n), _full(-1, n)
        self.result = _full(0, L.R_SIZE)
        self.counts = _full(0, spec.structure.ranks, L.RANK_SIZE)
        self._kept = _full(0, 16)
        out = (self.begin, self.end, lines, self.result, self.counts)
        mine = (self.arrival, *made[1:])
        if isinstance(policy, DRAMsim3Policy):
            self._run, self._arguments = _dramsim3(spec, device, policy, mine, out)
        else:
            self._run, self._arguments = _ramulator(spec, device, policy, mine, out)

    def serve(self, released: int) -> None:
        """Go on until the first ``released`` requests are accepted, or served if those are all."""
        self._kept[0] = released
        self._run(*self._arguments, self._kept)


def channels(
    spec: DramSpec,
    device: Any,
    policy: DRAMsim3Policy | RamulatorPolicy,
    made: _Made,
    channel: np.ndarray,
    log: bool,
) -> tuple[np.ndarray, np.ndarray, list[np.ndarray], list[np.ndarray], list[np.ndarray]]:
    """Serve a trace on all channels; a request a full channel refuses holds up those behind it.

    Args:
        spec, device, policy, made: As for :class:`Channel`, over the whole trace.
        channel: Channel of each request.
        log: Keep the command logs.

    Returns:
        Times of the requests and of their responses, and by channel the logs, results and counts.
    """
    n = made[0].size
    room = 4 * n + 1024 if log else 0
    while True:
        parts = [np.flatnonzero(channel == c) for c in range(spec.structure.channels)]
        mine = [tuple(np.ascontiguousarray(a[p]) for a in made) for p in parts]
        logs = [np.empty((room, 5), np.int64) for _ in parts]
        each = [
            Channel(spec, device, policy, m, lines) for m, lines in zip(mine, logs, strict=True)
        ]
        if len(parts) > 1:
            _in_order(each, channel, made[0])
        for one, part in zip(each, parts, strict=True):
            if part.size:
                one.serve(part.size)
        if all(one.result[L.R_LOGGED] <= room for one in each) or not log:
            break
        room = max(int(one.result[L.R_LOGGED]) for one in each)
    begin, end = np.empty(n, np.int64), np.empty(n, np.int64)
    for one, part in zip(each, parts, strict=True):
        begin[part], end[part] = one.begin, one.end
    kept = [x[: one.result[L.R_LOGGED]] for x, one in zip(logs, each, strict=True)] if log else []
    return begin, end, kept, [one.result for one in each], [one.counts for one in each]


def _in_order(each: list[Channel], channel: np.ndarray, arrival: np.ndarray) -> None:
    """Offer requests one a cycle in the order of the trace, each once the last one is accepted."""
    released = [0] * len(each)
    turns = np.flatnonzero(np.diff(channel)) + 1
    free = 0
    for first, last in zip([0, *turns.tolist()], [*turns.tolist(), channel.size], strict=True):
        one = each[channel[first]]
        at = released[channel[first]]
        released[channel[first]] = at + last - first
        one.arrival[at] = max(int(arrival[first]), free)
        one.serve(at + last - first)
        free = int(one.begin[at + last - first - 1]) + 1


def _state(spec: DramSpec) -> tuple[np.ndarray, ...]:
    """Earliest times of commands by bank, group, rank and bus; window; rank state."""
    from archsim.models.dram.device import K_SIZE

    s = spec.structure
    return (
        _full(0, s.banks, L.NUM_COMMANDS),
        _full(0, s.ranks * s.bank_groups, L.NUM_COMMANDS),
        _full(0, s.ranks, L.NUM_COMMANDS),
        _full(0, L.NUM_COMMANDS + 3),  # buses, and three places for what a search finds
        _full(L.FREE, s.ranks, 4),
        _full(0, s.ranks, K_SIZE),
    )


def _dramsim3(
    spec: DramSpec, device: Any, policy: DRAMsim3Policy, made: _Made, out: tuple[np.ndarray, ...]
) -> tuple[Any, tuple[np.ndarray, ...]]:
    """The compiled controller and its arguments."""
    from archsim.models.dram import dramsim3

    arrival, write, bank, row, column, address = made
    begin, end, lines, result, counts = out
    places, place = np.unique(address, return_inverse=True)
    settings = _full(0, dramsim3.Q_SIZE)
    settings[dramsim3.Q_DEPTH] = policy.command_queue
    settings[dramsim3.Q_TRANSACTIONS] = policy.transaction_queue
    settings[dramsim3.Q_WRITE_MARK] = policy.write_mark
    settings[dramsim3.Q_CLOSE] = policy.close_page
    settings[dramsim3.Q_HIT_LIMIT] = policy.row_hit_limit
    settings[dramsim3.Q_REFRESH] = policy.refresh
    banks = _full(0, spec.structure.banks, dramsim3.C_SIZE)
    banks[:, dramsim3.C_ROW] = -1
    return dramsim3.run, (
        settings,
        device.device,
        device.tables,
        np.ones_like(device.length),  # every command takes one cycle there
        device.bus_of,
        arrival,
        write,
        bank,
        row,
        column,
        place.astype(np.int64),
        _full(0, places.size),
        _full(-1, places.size),
        _full(-1, arrival.size),
        begin,
        end,
        _full(0, spec.structure.banks, policy.command_queue),
        _full(0, policy.transaction_queue),
        _full(0, policy.transaction_queue),
        banks,
        *_state(spec),
        counts,
        lines,
        result,
    )


def _ramulator(
    spec: DramSpec, device: Any, policy: RamulatorPolicy, made: _Made, out: tuple[np.ndarray, ...]
) -> tuple[Any, tuple[np.ndarray, ...]]:
    """The compiled controller and its arguments."""
    from archsim.models.dram import ramulator

    arrival, write, bank, row, _, address = made
    begin, end, lines, result, counts = out
    places, place = np.unique(address, return_inverse=True)
    settings = _full(0, ramulator.Q_SIZE)
    settings[ramulator.Q_READS] = policy.read_buffer
    settings[ramulator.Q_WRITES] = policy.write_buffer
    settings[ramulator.Q_HIGH] = policy.high_watermark * policy.write_buffer
    settings[ramulator.Q_LOW] = policy.low_watermark * policy.write_buffer
    settings[ramulator.Q_REFRESH] = policy.refresh
    settings[ramulator.Q_KEEP_HITS] = policy.keep_hits
    settings[ramulator.Q_CAP] = policy.row_cap
    banks = spec.structure.banks
    return ramulator.run, (
        settings,
        device.device,
        device.tables,
        device.length,
        device.bus_of,
        arrival,
        write,
        bank,
        row,
        place.astype(np.int64),
        _full(0, places.size),
        begin,
        end,
        _full(0, policy.read_buffer),
        _full(0, policy.write_buffer),
        _full(0, banks + 1),
        _full(-1, banks),
        _full(0, banks),
        _full(-1, banks),
        np.zeros(arrival.size, np.int8),
        _full(0, banks),
        _full(0, banks + 64 * spec.structure.ranks),
        *_state(spec),
        counts,
        lines,
        result,
    )
