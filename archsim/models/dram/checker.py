"""An independent judge of a command log: slow, plain, and ignorant of how commands were chosen.

It knows the constraint rows of the memory's family, the timing parameters and the rules of open
and closed rows; it shares neither state nor code with the compiled controllers.
"""

from __future__ import annotations

from collections import defaultdict

import numpy as np

from archsim.models.dram.expression import evaluate
from archsim.models.dram.layout import COMMANDS
from archsim.models.dram.spec import DramSpec, family

_COLUMN = {"RD", "RDA", "WR", "WRA", "MACB", "WRB", "RDB"}
_OPENS, _CLOSES = {"ACT", "ACTB"}, {"PRE", "RDA", "WRA", "PREA", "PRES", "PREB"}
_NEEDS_ROW = {"RD", "RDA", "WR", "WRA", "MACB", "WRB"}
_WHOLE_RANK = {"PREA", "REFA"}
_BANK_SET = {"REFB", "PRES"}
_REGISTERS = {"WRB", "RDB"}  # without a row: to registers or a buffer, no bank takes part


class _Judge:
    def __init__(self, spec: DramSpec) -> None:
        self.spec = spec
        rows = family(spec.family)
        cycles = rows["command_cycles"]
        self.length = {name: cycles.get(name, 1) for name in COMMANDS}
        self.split = rows["split_bus"]
        self.before: dict[str, list[tuple[str, str, int]]] = defaultdict(list)
        for scope, (first,), (then,), distance in rows["rows"]:
            needed = evaluate(distance, spec.parameters, f"{first} to {then}")
            if needed > 0:
                needed += self.length[first] - self.length[then]
                self.before[then].append((scope, first, needed))
        self.last: dict[tuple[str, str, int], int] = {}
        self.bus: dict[bool, int] = {}
        self.activates: dict[int, list[int]] = defaultdict(list)
        self.open: dict[int, int] = {}
        self.found: list[str] = []

    def targets(self, command: str, bank: int) -> list[int]:
        """Banks a command concerns."""
        s = self.spec.structure
        per_rank = s.bank_groups * s.banks_per_group
        start = bank // per_rank * per_rank
        if command in _WHOLE_RANK:
            return list(range(start, start + per_rank))
        if command in ("ACTB", "MACB", "WRB", "RDB", "PREB"):
            size = self.spec.activate_banks if command == "ACTB" else self.spec.compute_banks
            sets = per_rank // size
            if self.spec.broadcast.spread:
                return list(range(start + bank % sets, start + per_rank, sets))
            first = start + (bank - start) // size * size
            return list(range(first, first + size))
        if command in _BANK_SET and self.spec.refresh_granularity == "same_bank":
            first = start + bank % s.banks_per_group
            return list(range(first, start + per_rank, s.banks_per_group))
        return [bank]

    def places(self, command: str, bank: int, row: int) -> list[tuple[str, int]]:
        """Banks, group and rank in which a command counts as issued."""
        s = self.spec.structure
        rank = bank // (s.bank_groups * s.banks_per_group)
        banks = [("bank", b) for b in self.targets(command, bank)]
        if command in _REGISTERS and row < 0:
            banks = []
        return [*banks, ("group", bank // s.banks_per_group), ("rank", rank)]

    def take(self, now: int, command: str, bank: int, row: int) -> None:
        """Judge one command, then note it."""
        where = self.places(command, bank, row)
        rank = where[-1][1]
        for scope, first, needed in self.before[command]:
            if scope == "ranks":
                seen = [
                    self.last.get((first, "rank", other), -(1 << 60))
                    for other in range(self.spec.structure.ranks)
                    if other != rank
                ]
            else:
                seen = [self.last.get((first, *p), -(1 << 60)) for p in where if p[0] == scope]
            for then in seen:
                if now - then < needed:
                    self.say(now, command, f"{now - then} after {first} ({scope}), not {needed}")
        column = self.split and command in _COLUMN
        if now < self.bus.get(column, 0):
            self.say(now, command, "the command bus is taken")
        self.bus[column] = now + self.length[command]
        self.activations(now, command, rank)
        self.rows(now, command, bank, row)
        for place in where:
            self.last[command, *place] = now

    def activations(self, now: int, command: str, rank: int) -> None:
        """Judge the four-activate window; what opens more rows fills several windows in a row."""
        window = self.spec.parameters.get("FAW", 0)
        if command not in ("ACT", "ACTB") or not window:
            return
        rows = self.spec.broadcast_activations if command == "ACTB" else 1
        times = self.activates[rank]
        if sum(now - t < window for t in times[-4:]) + min(rows, 4) > 4:
            self.say(now, command, f"more than four activations within {window} cycles")
        times += [now + (rows - 1) // 4 * window] * min(rows, 4)

    def rows(self, now: int, command: str, bank: int, row: int) -> None:
        """Judge and follow which rows are open."""
        banks = self.targets(command, bank)
        if command in _OPENS and any(b in self.open for b in banks):
            self.say(now, command, f"bank {bank} is open")
        if command in _NEEDS_ROW and not (command in _REGISTERS and row < 0):
            closed = [b for b in banks if self.open.get(b) != row]
            if closed:
                self.say(now, command, f"row {row} of bank {closed[0]} is not open")
        if command in ("REFA", "REFB") and any(b in self.open for b in banks):
            self.say(now, command, "a row is open")
        for b in banks:
            if command in _OPENS:
                self.open[b] = row
            elif command in _CLOSES:
                self.open.pop(b, None)

    def say(self, now: int, command: str, what: str) -> None:
        self.found.append(f"cycle {now}: {command}: {what}")


def violations(spec: DramSpec, log: np.ndarray) -> list[str]:
    """Rules of the memory that a command log breaks.

    Args:
        spec: The memory.
        log: Cycle, command, bank, row and request of every command, int64[n, 5], in order.

    Returns:
        One line a violation; empty if the log is legal.
    """
    judge = _Judge(spec)
    for now, command, bank, row, _ in log.tolist():
        judge.take(now, COMMANDS[command], bank, row)
    return judge.found
