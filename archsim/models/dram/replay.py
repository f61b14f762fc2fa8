"""Commands given one by one, each issued in order as early as the memory allows.

For what no controller schedules: memories that compute, whose commands reach all banks of a set
at once (``ACTB`` opens a row in every bank, ``MACB`` reads a column in every bank and multiplies
where it lies, ``WRB`` writes operands, ``RDB`` reads results, ``PREB`` closes the rows), and probes
of timing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from archsim.errors import InputError
from archsim.models.dram import layout as L
from archsim.models.dram.layout import COMMANDS, FREE, NUM_COMMANDS, RANK_SIZE
from archsim.models.dram.spec import DramSpec


@dataclass(frozen=True, eq=False)
class Replay:
    """Commands as issued.

    Attributes:
        log: Cycle, command, bank, -1 and the command's number, int64[m, 5]: what
            :func:`archsim.models.dram.checker.violations` takes, rows aside.
        counts: Commands of every rank, int64[ranks, RANK_SIZE].
        cycles: Cycle after the last command.
    """

    log: np.ndarray
    counts: np.ndarray
    cycles: int


def bank_sets(spec: DramSpec) -> np.ndarray:
    """Sets of banks that take a command together, int64[NUM_COMMANDS, banks].

    Banks of one rank with the same number take the command together.
    """
    s = spec.structure
    per_rank = s.bank_groups * s.banks_per_group
    bank = np.arange(s.banks)
    own, rank = bank % per_rank, bank // per_rank

    def parted(size: int) -> np.ndarray:
        return own % (per_rank // size) if spec.broadcast.spread else own // size

    sets = np.tile(bank, (NUM_COMMANDS, 1))
    sets[[L.PREA, L.REFA]] = rank
    if spec.refresh_granularity == "same_bank":
        sets[[L.REFB, L.PRES]] = own % s.banks_per_group
    sets[L.ACTB] = parted(spec.activate_banks)
    sets[[L.MACB, L.WRB, L.RDB, L.PREB]] = parted(spec.compute_banks)
    return sets


@dataclass(frozen=True, eq=False)
class State:
    """Timing state of a channel in which nothing was issued, as compiled code takes it."""

    counts: np.ndarray
    arrays: tuple[np.ndarray, ...]


def fresh(spec: DramSpec) -> State:
    """The state of an idle channel."""
    s = spec.structure
    counts = np.zeros((s.ranks, RANK_SIZE), np.int64)
    arrays = (
        np.zeros((s.banks, NUM_COMMANDS), np.int64),
        np.zeros((s.ranks * s.bank_groups, NUM_COMMANDS), np.int64),
        np.zeros((s.ranks, NUM_COMMANDS), np.int64),
        np.zeros(NUM_COMMANDS, np.int64),
        np.full((s.ranks, 4), FREE, np.int64),
        np.zeros(s.ranks, np.int64),
    )
    return State(counts, arrays)


def replay(
    spec: DramSpec, commands: Sequence[tuple[str, int]], not_before: Sequence[int] | None = None
) -> Replay:
    """Issue commands in the given order, each at the first legal cycle not before the last one's.

    Timing is the memory's; whether a row is open is up to whoever writes the commands. WRB and RDB
    go to registers.

    Args:
        spec: The memory, of one channel.
        commands: Name (see ``layout.COMMANDS``) and bank of each; a command to a set names any
            of its banks.
        not_before: Earliest cycle of each command, for barriers and operands; 0 when None.

    Raises:
        InputError: An unknown command, or a bank the memory does not have.

    Example:
        >>> from archsim.models.dram.spec import load_spec
        >>> hbm = load_spec("hbm2_2000_8gb")
        >>> replay(hbm, [("ACTB", 0), ("MACB", 0), ("MACB", 0)]).log[:, 0].tolist()
        [0, 13, 16]
    """
    from archsim.models.dram.broadcast import issue_in_order
    from archsim.models.dram.simulate import compiled

    s = spec.structure
    known = {name: code for code, name in enumerate(COMMANDS)}
    lines = np.full((len(commands), 5), -1, np.int64)
    lines[:, 4] = np.arange(len(commands))
    for k, (name, bank) in enumerate(commands):
        if name not in known or not 0 <= bank < s.banks:
            raise InputError(
                "not a command of this memory",
                source=spec.name,
                field=f"command {k}",
                found=(name, bank),
                expected=f"one of {', '.join(COMMANDS)} and a bank below {s.banks}",
            )
        lines[k, 1], lines[k, 2] = known[name], bank
    first = np.zeros(len(commands), np.int64) if not_before is None else np.array(not_before)
    if first.shape != (len(commands),):
        raise InputError("one earliest cycle a command", found=first.shape)
    c, state = compiled(spec), fresh(spec)
    issue_in_order(
        lines, first.astype(np.int64), c.device, c.tables, c.length, c.bus_of, bank_sets(spec),
        spec.broadcast_activations, *state.arrays, state.counts,
    )  # fmt: skip
    return Replay(lines, state.counts, int(lines[-1, 0]) + 1 if len(commands) else 0)
