"""Reading Timeloop v0.4 inputs (architecture, problem, mapping, ERT) and evaluating them here.

Every architecture level becomes a storage slot followed by a fanout slot; a level that keeps no
tensor and holds no loop costs nothing. Energies come from the ERT, in pJ per vector access.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from archsim.errors import InputError
from archsim.models.loopnest import kernel as k
from archsim.models.loopnest.problem import pack
from archsim.models.loopnest.timeloop_inputs import (
    TimeloopLevel,
    get,
    load_document,
    read_architecture,
    read_energies,
)
from archsim.models.loopnest.timeloop_mapping import apply_directives
from archsim.models.loopnest.walk import Loop, rounded_cycles, walked_words
from archsim.workload.graph import Einsum
from archsim.workload.timeloop import problem_from

TIMELOOP_VERSION = "0.4"


@dataclass(frozen=True)
class LevelStatistics:
    """Per-level totals over all instances, in scalar words, by Timeloop data-space name."""

    name: str
    instances: float
    reads: dict[str, float]
    fills: dict[str, float]
    updates: dict[str, float]
    energy_pj: float


@dataclass(frozen=True)
class TimeloopResult:
    """What Timeloop prints in its statistics.

    Attributes:
        cycles: Total cycles.
        utilization: Ideal over actual cycles.
        energy_pj: Total energy.
        mac_energy_pj: Energy of the arithmetic level.
        levels: Storage levels that keep something, inner to outer.
        overflow: By how much of its capacity the fullest storage is exceeded; not above 0 where
            every tile fits.
        leakage_pj: Leakage of the instances in use (part of the total).
    """

    cycles: float
    utilization: float
    energy_pj: float
    mac_energy_pj: float
    levels: tuple[LevelStatistics, ...]
    overflow: float = 0.0
    leakage_pj: float = 0.0


@dataclass(frozen=True)
class TimeloopCase:
    """A Timeloop model run, ready for the kernel; build with :func:`read_files`.

    Attributes:
        einsum: The loop nest; ``data_spaces``, its input, weight and output by Timeloop's names;
            ``dims``, its dimensions.
        level_names: L levels, outer to inner; level ``i`` is the temporal slot ``2 * i`` and the
            spatial slot ``2 * i + 1`` inside it.
        factors, order, keep: int64[2L, D], int64[2L, D] (outer to inner), bool[2L, 3].
        slot_table: float64[2L, SLOT_COLUMNS]; ``engine`` float64[ENGINE_COLUMNS].
        word_bits: Of every level.
        update_j: float64[2L] joules of an update access.
        priced: Whether there was an energy table; without it energies are 0.
    """

    einsum: Einsum
    data_spaces: tuple[str, str, str]
    dims: tuple[str, ...]
    level_names: tuple[str, ...]
    factors: np.ndarray
    order: np.ndarray
    keep: np.ndarray
    slot_table: np.ndarray
    engine: np.ndarray
    word_bits: tuple[float, ...]
    update_j: np.ndarray
    priced: bool = True

    def evaluate(self, compat: str | None = None) -> TimeloopResult:
        """Evaluate.

        Args:
            compat: ``"timeloop"`` charges residual tiles as full ones, walks loops through two
                iterations and rounds cycles in Timeloop's order (see ``walk.py``); by default
                everything is counted exactly.
        """
        if compat not in (None, "timeloop"):
            raise InputError("unknown compat mode", found=compat, expected="'timeloop' or None")
        problem = pack([self.einsum], self.dims)
        slots = len(self.factors)
        results = np.zeros((1, k.RESULTS))
        counts = np.zeros((1, slots, 3, 3))
        zero = np.zeros(1, np.int64)
        table = self.slot_table.copy()
        table[:, k.INSTANCES] = self._instances()
        k.evaluate_rows(
            zero, zero, problem.floats, problem.ints, self.factors[None].astype(np.float64),
            self.order[None], self.keep[None], np.arange(slots) % 2 == 1, compat == "timeloop",
            table[None], self.engine[None], results, counts,
        )  # fmt: skip
        cycles = float(results[0, k.CYCLES])
        if compat:
            self._walk(counts[0], table)
            cycles = self._rounded(counts[0], table, float(results[0, k.COMPUTE_CYCLES]))
        return self._report(results[0], counts[0], table, problem.macs[0], cycles)

    def _instances(self) -> np.ndarray:
        spatial = np.arange(len(self.factors)) % 2 == 1
        used = np.where(spatial, self.factors.prod(axis=1), 1)
        return np.concatenate([[1], np.cumprod(used)[:-1]]).astype(float)

    def _walk(self, counts: np.ndarray, table: np.ndarray) -> None:
        """Replace the words of a sliding input by those Timeloop's walk finds (in place)."""
        extents = np.array([extent for _, extent in self.einsum.dims])
        if (self.factors.prod(axis=0) != extents).any():
            return  # residual tiles are charged in full, and Timeloop walks them another way
        keepers = np.flatnonzero(self.keep[:, k.INPUT])
        for parent, child in pairwise(keepers):
            fills = counts[child, k.INPUT, k.FILLS] / table[child, k.INSTANCES]
            window, loops = self._window(int(child))
            if not fills or fills != int(fills):
                continue
            ratio = walked_words(loops, window, pause_resets=False) / fills
            counts[child, k.INPUT, k.FILLS] *= ratio
            counts[parent, k.INPUT, k.READS] *= ratio

    def _window(self, child: int) -> tuple[list[int], list[Loop]]:
        """The input tile of a slot by rank, and the temporal loops outside it."""
        inside = np.cumprod(np.vstack([self.factors, np.ones_like(self.factors[:1])])[::-1], axis=0)
        inside = inside[::-1]  # row s: extents at and inside slot s
        index = {name: d for d, name in enumerate(self.dims)}
        ranks = self.einsum.operands[k.INPUT].ranks
        window = [
            1 + sum(c * (int(inside[child, index[name]]) - 1) for name, c in rank) for rank in ranks
        ]
        loops: list[Loop] = []
        for s in range(0, child, 2):
            for d in self.order[s]:
                if self.factors[s, d] > 1:
                    shift = tuple(
                        sum(c * int(inside[s + 1, d]) for name, c in rank if index[name] == d)
                        for rank in ranks
                    )
                    loops.append((shift, int(self.factors[s, d])))
        return window, loops

    def _rounded(self, counts: np.ndarray, table: np.ndarray, compute: float) -> float:
        cycles = compute
        for i in range(len(self.level_names)):
            s = 2 * i
            if not self.keep[s].any():
                continue
            words = counts[s] / table[s, k.INSTANCES]
            reads = words[None, :, k.READS]
            writes = words[None, :, k.FILLS] + words[None, :, k.UPDATES]
            for column, r, w in (
                (k.READ_SLOW, reads, 0 * writes),
                (k.WRITE_SLOW, 0 * reads, writes),
                (k.SHARED_SLOW, reads, writes),
            ):
                if table[s, column] > 0:
                    bandwidth = np.array([1.0 / (table[s, column] * self.word_bits[i])])
                    found = rounded_cycles(r, w, bandwidth, np.array([compute]))
                    cycles = max(cycles, float(found[0]))
        return cycles

    def _report(self, row, counts, table, macs, cycles: float) -> TimeloopResult:
        levels, energy_pj, leak_w = [], float(row[k.MAC_ENERGY_J] * 1e12), 0.0
        for i in reversed(range(len(self.level_names))):
            s = 2 * i
            if not self.keep[s].any():
                continue
            kept = [t for t in range(3) if self.keep[s, t]]
            used = table[s, k.INSTANCES]
            blocks = counts[s] * self.word_bits[i] / (table[s, k.BLOCK] * used)
            accesses = np.ceil(blocks - 1e-12 * blocks) * used
            price = np.array([table[s, k.READ_J], table[s, k.WRITE_J], self.update_j[s]])
            energy = float((accesses * price).sum()) * 1e12
            energy_pj += energy
            leak_w += used * table[s, k.LEAK_W]
            reads, fills, updates = (
                {self.data_spaces[t]: float(counts[s, t, kind]) for t in kept}
                for kind in (k.READS, k.FILLS, k.UPDATES)
            )
            levels.append(
                LevelStatistics(self.level_names[i], float(used), reads, fills, updates, energy)
            )
        leakage_pj = float(leak_w * cycles / self.engine[k.CLOCK_HZ] * 1e12)
        return TimeloopResult(
            cycles,
            float(macs / (cycles * self.engine[k.MAC_COUNT])),
            energy_pj + leakage_pj,
            float(row[k.MAC_ENERGY_J] * 1e12),
            tuple(levels),
            float(row[k.OVERFLOW]),
            leakage_pj,
        )


def read_case(
    model: str | Path, ert: str | Path, mapping: str | Path | None = None
) -> TimeloopCase:
    """Read a Timeloop model input.

    Args:
        model: YAML with ``architecture`` and ``problem`` (and ``mapping``).
        ert: Energy reference table YAML.
        mapping: YAML with ``mapping`` when it is not in ``model``.

    Raises:
        InputError: Names the file and field that is missing or not understood.
    """
    return read_files([model, ert] if mapping is None else [model, ert, mapping])


#: What a file may contribute.
BLOCKS = ("architecture", "problem", "mapping", "ERT")


def read_files(paths: Sequence[str | Path]) -> TimeloopCase:
    """Read a Timeloop run from one or several files, in any order.

    Each file holds one or more of the blocks ``architecture``, ``problem``, ``mapping`` and
    ``ERT``; other blocks are left alone. Where two files hold a mapping, the last one counts.
    Without an energy table the case has no energies.

    Raises:
        InputError: A block is missing, given twice, or not understood; names file and field.
    """
    blocks: dict[str, tuple[Any, str | Path]] = {}
    for path in dict.fromkeys(paths):
        data = load_document(path)
        found = [name for name in BLOCKS if isinstance(data, dict) and name in data]
        if not found:
            raise InputError(
                "holds nothing that is read", source=path, expected="a block " + ", ".join(BLOCKS)
            )
        for name in found:
            if name in blocks and name != "mapping":
                raise InputError(f"a second {name!r} block", source=path, field=name)
            blocks[name] = (data, path)
    for name in BLOCKS[:3]:
        if name not in blocks:
            raise InputError(f"no {name!r} block", source=", ".join(str(path) for path in paths))
    ert = blocks.get("ERT")
    return build_case(
        *blocks["architecture"], *blocks["problem"], *blocks["mapping"], *(ert or (None, None))
    )


def build_case(
    architecture: Any, architecture_source: object, problem: Any, problem_source: object,
    mapping: Any, mapping_source: object, ert: Any = None, ert_source: object = None,
) -> TimeloopCase:  # fmt: skip
    """Build a case from plain data, each document with its block and the name used in errors.

    Raises:
        InputError: See :func:`read_files`.
    """
    einsum = problem_from(problem, problem_source).einsum
    data_in, weight, output = (access.tensor for access in einsum.operands)
    spaces, dims = (data_in, weight, output), tuple(name for name, _ in einsum.dims)
    machine = read_architecture(architecture.get("architecture"), architecture_source)
    energies = None if ert is None else read_energies(ert, ert_source)
    slots = 2 * len(machine.levels)
    factors = np.ones((slots, len(dims)), np.int64)
    order = np.tile(np.arange(len(dims)), (slots, 1))
    keep = np.zeros((slots, 3), np.bool_)
    table = np.zeros((slots, k.SLOT_COLUMNS))
    table[:, k.BITS : k.BITS + 3] = 1.0
    table[:, k.BLOCK] = 1.0
    table[:, k.CAPACITY] = np.inf
    update = np.zeros(slots)
    for i, level in enumerate(machine.levels):
        keep[2 * i] = _kept(level, spaces, architecture_source)
        if level.storage:
            _attributes(table[2 * i], level)
    directives = get(mapping, "mapping", list, mapping_source)
    apply_directives(directives, machine, spaces, einsum, factors, order, keep, mapping_source)
    if energies is not None:
        for i, level in enumerate(machine.levels):
            if keep[2 * i].any():
                update[2 * i] = _prices(table[2 * i], level, energies, ert_source)
    engine = np.zeros(k.ENGINE_COLUMNS)
    engine[k.MAC_J] = _mac_energy(energies, machine.arithmetic, ert_source)
    engine[k.MAC_CYCLES] = 1.0
    engine[k.CLOCK_HZ] = 1e9  # leakage is given per cycle
    engine[k.FINAL_BITS] = table[0, k.BITS + k.OUTPUT]
    engine[k.MAC_COUNT] = machine.units
    bits = tuple(table[2 * i, k.BITS] for i in range(len(machine.levels)))
    names = tuple(level.name for level in machine.levels)
    return TimeloopCase(
        einsum, spaces, dims, names, factors, order, keep, table, engine, bits, update,
        energies is not None,
    )  # fmt: skip


def _kept(level: TimeloopLevel, spaces: tuple[str, ...], source: object) -> np.ndarray:
    """What a level keeps before the mapping speaks."""
    for space in (*(level.keeps or ()), *(level.bypasses or ())):
        if space not in spaces:
            raise InputError(
                "no such data space", source=source, field=f"{level.name}.constraints",
                found=space, expected=", ".join(spaces),
            )  # fmt: skip
    if not level.storage:
        return np.zeros(3, np.bool_)
    named = np.array([space in (level.keeps or ()) for space in spaces])
    passed = np.array([space in (level.bypasses or ()) for space in spaces])
    return named if level.alone and level.keeps is not None else ~passed


def _attributes(row: np.ndarray, level: TimeloopLevel) -> None:
    """Word and block bits, capacity and bandwidths of a storage; a missing one is unlimited."""
    a = level.attributes
    bits = a.get("datawidth", 8.0)
    width = a.get("width", bits * a.get("block", 1.0))
    capacity = np.inf
    if "depth" in a:
        capacity = a["depth"] * width
    elif "entries" in a:
        capacity = a["entries"] * bits
    elif "bytes" in a:
        capacity = a["bytes"] * 8
    row[k.CAPACITY] = capacity / a.get("buffering", 1.0)
    row[k.BLOCK] = max(width, bits)
    if "block" in a:
        row[k.BLOCK] = a["block"] * bits
    row[k.BITS : k.BITS + 3] = bits
    for column, name in (
        (k.READ_SLOW, "read_bandwidth"),
        (k.WRITE_SLOW, "write_bandwidth"),
        (k.SHARED_SLOW, "shared_bandwidth"),
    ):
        row[column] = 1.0 / (a[name] * bits) if name in a else 0.0


def _prices(row: np.ndarray, level: TimeloopLevel, energies: dict, source: object) -> float:
    """Fill in joules per access and watts of leakage; returns joules per update."""
    table = energies.get(level.name)
    if table is None:
        raise InputError("level has no ERT table", source=source, field=level.name)
    for action in ("read", "write"):
        if action not in table:
            raise InputError(
                "action missing", source=source, field=f"ERT.{level.name}", expected=action
            )
    row[k.READ_J] = table["read"] * 1e-12
    row[k.WRITE_J] = table["write"] * 1e-12
    row[k.LEAK_W] = table.get("leak", 0.0) * 1e-12 * 1e9
    return table.get("update", table["write"]) * 1e-12


def _mac_energy(energies: dict | None, name: str, source: object) -> float:
    if energies is None:
        return 0.0
    table = energies.get(name, {})
    for action in ("compute", "mac_random"):
        if action in table:
            return table[action] * 1e-12
    raise InputError(
        "action missing", source=source, field=f"ERT.{name}", expected="compute or mac_random"
    )
