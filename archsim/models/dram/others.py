"""The controllers of DRAMsim3 and of Ramulator 2.1 on one channel: settings and workspace."""

from __future__ import annotations

from typing import Any

import numpy as np

from archsim.models.dram import layout as L
from archsim.models.dram.policy import DRAMsim3Policy, RamulatorPolicy
from archsim.models.dram.spec import DramSpec

_Made = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]


def _full(value: int, *shape: int) -> np.ndarray:
    return np.full(shape, value, np.int64)


def channel(
    spec: DramSpec, device: Any, policy: DRAMsim3Policy | RamulatorPolicy, made: _Made, log: bool
) -> tuple[tuple[np.ndarray, np.ndarray], np.ndarray, np.ndarray, np.ndarray]:
    """Simulate one channel.

    Args:
        spec: The memory.
        device: Its vectors (:func:`archsim.models.dram.simulate.compiled`).
        policy: The controller.
        made: Arrival, direction, bank, row, column and address of the requests.
        log: Keep the command log.

    Returns:
        Times of the requests and of their responses, the log, results and counts.
    """
    serve = _dramsim3 if isinstance(policy, DRAMsim3Policy) else _ramulator
    n = made[0].size
    lines = np.empty((4 * n + 1024 if log else 0, 5), np.int64)
    while True:
        begin, end = _full(-1, n), _full(-1, n)
        result, counts = _full(0, L.R_SIZE), _full(0, spec.structure.ranks, L.RANK_SIZE)
        serve(spec, device, policy, made, (begin, end, lines, result, counts))
        if not log or result[L.R_LOGGED] <= len(lines):
            return (begin, end), lines[: result[L.R_LOGGED]], result, counts
        lines = np.empty((int(result[L.R_LOGGED]), 5), np.int64)


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
) -> None:
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
    dramsim3.run(
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
) -> None:
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
    banks = spec.structure.banks
    ramulator.run(
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
        *_state(spec),
        counts,
        lines,
        result,
    )
