"""Points of the DOSA data set: a Gemmini machine, a layer and a mapping in DOSA's own notation.

DOSA (Hong et al., MICRO 2023, https://github.com/ucb-bar/dosa) writes a mapping as one line::

    L3[WIO] K8 Q28 - L2[WI] N1 K4X - L1[O] K2 S7 R7 Q4 P7 C3X - L0[W] P16

Levels run from L3 (DRAM) to L0 (register in a processing element); the letters in brackets are the
tensors a level keeps; loops are listed outer to inner, and ``X`` marks a spatial factor, which
spreads over the units inside its level.
"""

from __future__ import annotations

import csv
import gzip
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from archsim.errors import InputError
from archsim.models.loopnest import kernel as k
from archsim.models.loopnest.problem import pack
from archsim.models.loopnest.walk import Loop, rounded_cycles, walked_words
from archsim.workload.graph import Access, Einsum

DIMS = ("N", "C", "K", "P", "Q", "R", "S")
#: Slots of the nest, outer to inner; the two fanouts are the array's columns and rows.
SLOTS = ("dram", "scratchpad", "columns", "accumulator", "rows", "register")
FANOUT = np.array([name in ("columns", "rows") for name in SLOTS])
DRAM, SCRATCHPAD, ACCUMULATOR, REGISTER = 0, 1, 3, 5
_STORAGE = {3: DRAM, 2: SCRATCHPAD, 1: ACCUMULATOR, 0: REGISTER}
_SPATIAL = {2: 2, 1: 4}
_TENSORS = {"I": k.INPUT, "W": k.WEIGHT, "O": k.OUTPUT}
_PROBLEM = (*DIMS, "Wstride", "Hstride", "Wdilation", "Hdilation")
_MACHINE = ("pe", "mem1_entries", "mem2_entries", "mem2_width", "mem2_shared_bandwidth")
#: The machine of the RTL runs: 16 x 16 array, 512-entry accumulator columns, 128 KB scratchpad
#: (ucb-bar/dosa, dataset/hw/gemmini/arch/arch.yaml).
BASELINE = dict(zip(_MACHINE, (256.0, 512.0, 131072.0, 128.0, 32.0), strict=True))
#: DRAM: 64-word blocks, 8 words a cycle; accumulator: 2 words a cycle and column (same file).
DRAM_BLOCK_WORDS, DRAM_WORDS_PER_CYCLE, ACCUMULATOR_WORDS_PER_CYCLE = 64, 8.0, 2.0
WORD_BITS, ACCUMULATOR_BITS = 8.0, 32.0


@dataclass(frozen=True)
class ParsedMapping:
    """One mapping line.

    Attributes:
        factors: int64[6, 7] loop bounds by slot and dimension.
        order: int64[6, 7] loop order, outer to inner.
        keep: bool[6, 3] which of input, weight, output a slot keeps.
    """

    factors: np.ndarray
    order: np.ndarray
    keep: np.ndarray


def parse_mapping(text: str, source: object = None) -> ParsedMapping:
    """Read a mapping line.

    Raises:
        InputError: Says what was not understood; ``source`` is named in it.

    Example:
        >>> parse_mapping("L3[WIO] K4 P2 - L2[WI] K8X - L1[O] C3 - L0[W] N1").factors[:, 2]
        array([4, 1, 8, 1, 1, 1])
    """
    factors = np.ones((len(SLOTS), len(DIMS)), np.int64)
    order = np.tile(np.arange(len(DIMS)), (len(SLOTS), 1))
    keep = np.zeros((len(SLOTS), 3), np.bool_)
    seen = set()
    for part in text.split(" - "):
        words = part.split()
        head = re.fullmatch(r"L([0-3])\[([WIO]*)\]", words[0]) if words else None
        if head is None:
            raise InputError(
                "mapping level not understood", source=source, field="mapping.mapping",
                found=part, expected="e.g. 'L3[WIO] K8 Q28'",
            )  # fmt: skip
        level = int(head[1])
        if level in seen:
            raise InputError(
                "mapping level given twice", source=source, field="mapping.mapping", found=words[0]
            )
        seen.add(level)
        for letter in head[2]:
            keep[_STORAGE[level], _TENSORS[letter]] = True
        listed: list[int] = []
        for word in words[1:]:
            _read_factor(word, level, factors, listed, source)
        rest = [d for d in range(len(DIMS)) if d not in listed]
        order[_STORAGE[level]] = rest + listed
    if seen != set(_STORAGE):
        raise InputError(
            "mapping lacks a level", source=source, field="mapping.mapping", found=text,
            expected="L3, L2, L1 and L0",
        )  # fmt: skip
    if not keep[DRAM].all():
        raise InputError(
            "the outermost level must keep every tensor", source=source, field="mapping.mapping",
            found=text, expected="L3[WIO]",
        )  # fmt: skip
    return ParsedMapping(factors, order, keep)


def _read_factor(word: str, level: int, factors: np.ndarray, listed: list[int], source: object):
    match = re.fullmatch(rf"([{''.join(DIMS)}])([1-9]\d{{0,8}})(X?)", word)
    if match is None:
        raise InputError(
            "mapping factor not understood", source=source, field="mapping.mapping", found=word,
            expected=f"one of {', '.join(DIMS)}, a positive number, and X where it is spatial",
        )  # fmt: skip
    d, bound = DIMS.index(match[1]), int(match[2])
    if match[3]:
        if level not in _SPATIAL:
            raise InputError(
                "no array lies inside this level", source=source, field="mapping.mapping",
                found=f"L{level} {word}",
            )  # fmt: skip
        factors[_SPATIAL[level], d] *= bound
    elif d in listed:
        raise InputError(
            "a level loops over a dimension twice", source=source, field="mapping.mapping",
            found=f"L{level} {word}",
        )  # fmt: skip
    else:
        factors[_STORAGE[level], d] = bound
        listed.append(d)


@dataclass(frozen=True, eq=False)
class DosaPoints:
    """Rows of a DOSA file, N of them, as arrays.

    Attributes:
        problem: float64[N, 11]: extents of :data:`DIMS`, strides and dilations along W and H.
        factors: float64[N, 6, 7]; ``order`` int64[N, 6, 7]; ``keep`` bool[N, 6, 3].
        machine: float64[N, 5], the columns pe, accumulator entries a column, scratchpad entries,
            scratchpad row bits, scratchpad words a cycle; NaN where the file has none.
        columns: The file's own columns as text, for its targets.
    """

    problem: np.ndarray
    factors: np.ndarray
    order: np.ndarray
    keep: np.ndarray
    machine: np.ndarray
    columns: Mapping[str, Sequence[str]]

    def __len__(self) -> int:
        return len(self.problem)

    @property
    def extents(self) -> np.ndarray:
        """float64[N, 7]."""
        return self.problem[:, : len(DIMS)]

    @property
    def macs(self) -> np.ndarray:
        """float64[N] multiply-accumulates."""
        return self.extents.prod(axis=1)

    @property
    def shapes(self) -> np.ndarray:
        """int64[N] number of each row's layer shape, in order of appearance."""
        return _numbered(self.problem)

    @property
    def machines(self) -> np.ndarray:
        """int64[N] number of each row's machine."""
        return _numbered(self.machine)

    def numbers(self, column: str) -> np.ndarray:
        """float64[N] a column of the file."""
        if column not in self.columns:
            raise InputError("column missing", field=column)
        return np.array([float(value) for value in self.columns[column]])

    def on_baseline(self) -> DosaPoints:
        """The same layers and mappings on the machine of the RTL runs."""
        machine = np.tile([BASELINE[name] for name in _MACHINE], (len(self), 1))
        return DosaPoints(self.problem, self.factors, self.order, self.keep, machine, self.columns)


def _numbered(rows: np.ndarray) -> np.ndarray:
    numbers: dict[bytes, int] = {}
    return np.array([numbers.setdefault(row.tobytes(), len(numbers)) for row in rows], np.int64)


def read_points(path: str | Path) -> DosaPoints:
    """Read a DOSA CSV file, plain or gzipped.

    Raises:
        InputError: The file lacks a column, or a row is not understood; names file and line.
    """
    path = Path(path)
    opener = gzip.open if path.suffix == ".gz" else open
    try:
        with opener(path, "rt", newline="", encoding="utf-8") as lines:
            rows = list(csv.DictReader(lines))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"cannot read the file: {error}", source=path) from None
    if not rows:
        raise InputError("the file has no rows", source=path)
    problem = np.ones((len(rows), len(_PROBLEM)))
    machine = np.full((len(rows), len(_MACHINE)), np.nan)
    parsed = []
    for i, row in enumerate(rows):
        where = f"{path.name}, line {i + 2}"
        if row.get("mapping.mapping") is None:
            raise InputError("column missing", source=where, field="mapping.mapping")
        parsed.append(parse_mapping(row["mapping.mapping"], where))
        for j, name in enumerate(_PROBLEM):
            problem[i, j] = _whole(row, f"prob.{name}", where)
        for j, name in enumerate(_MACHINE):
            if row.get(f"arch.{name}"):
                machine[i, j] = _whole(row, f"arch.{name}", where)
        wanted, found = problem[i, : len(DIMS)], parsed[-1].factors.prod(axis=0)
        if (wanted != found).any():
            d = int(np.flatnonzero(wanted != found)[0])
            raise InputError(
                "the factors do not multiply to the extent", source=where, field=DIMS[d],
                found=int(found[d]), expected=str(int(wanted[d])),
            )  # fmt: skip
    return DosaPoints(
        problem,
        np.array([p.factors for p in parsed], np.float64),
        np.array([p.order for p in parsed]),
        np.array([p.keep for p in parsed]),
        machine,
        {name: [row[name] for row in rows] for name in rows[0]},
    )


def _whole(row: Mapping[str, str], name: str, where: str) -> float:
    text = row.get(name)
    try:
        value = float(text) if text is not None else np.nan
    except ValueError:
        value = np.nan
    if not 1 <= value <= 1e12 or value != int(value):
        raise InputError("not a positive whole number", source=where, field=name, found=text)
    return value


@dataclass(frozen=True, eq=False)
class DosaCounts:
    """What the loop-nest model says of N points.

    Attributes:
        cycles: float64[N]; ``compute`` of them, those the array needs.
        level_cycles: float64[N, 3] of DRAM, scratchpad and accumulator.
        counts: float64[N, 6, 3, 3] words by slot, tensor and kind (reads, fills, updates).
        used: float64[N, 6] instances of each slot in use.
        fits: bool[N] whether every tile fits its storage.
    """

    cycles: np.ndarray
    compute: np.ndarray
    level_cycles: np.ndarray
    counts: np.ndarray
    used: np.ndarray
    fits: np.ndarray


#: Where the Timeloop that made the DOSA data (early 2023) differs from our exact default; see
#: :func:`evaluate_points`.
RULES = ("first_fill", "walk", "rounding")


def evaluate_points(points: DosaPoints, rules: Sequence[str] = RULES) -> DosaCounts:
    """Evaluate points under Timeloop's semantics.

    Args:
        points: The rows; their machine columns must be present.
        rules: Which of the departures of that Timeloop to follow: ``first_fill`` (the first partial
            sum of an output is written into the accumulator although it is not read from DRAM),
            ``walk`` (see :func:`walked_words`), ``rounding`` (see :func:`rounded_cycles`).

    Raises:
        InputError: A row has no machine.
    """
    if np.isnan(points.machine).any():
        raise InputError("the rows lack columns of their machine", expected=", ".join(_MACHINE))
    n = len(points)
    _, acc_entries, sp_entries, sp_bits, sp_words = points.machine.T
    shapes = points.shapes
    first = np.unique(shapes, return_index=True)[1]
    problem = pack([_einsum(points.problem[i]) for i in first], DIMS)
    width = np.where(FANOUT, points.factors.prod(axis=2), 1.0)
    used = np.cumprod(np.hstack([np.ones((n, 1)), width[:, :-1]]), axis=1)
    table = np.zeros((n, len(SLOTS), k.SLOT_COLUMNS))
    table[:, :, k.BITS : k.BITS + 3] = WORD_BITS
    table[:, ACCUMULATOR, k.BITS : k.BITS + 3] = ACCUMULATOR_BITS
    table[:, :, k.BLOCK] = WORD_BITS
    table[:, DRAM, k.BLOCK] = WORD_BITS * DRAM_BLOCK_WORDS
    table[:, SCRATCHPAD, k.BLOCK] = sp_bits
    table[:, ACCUMULATOR, k.BLOCK] = ACCUMULATOR_BITS
    table[:, :, k.CAPACITY] = np.inf
    table[:, SCRATCHPAD, k.CAPACITY] = sp_entries * WORD_BITS
    table[:, ACCUMULATOR, k.CAPACITY] = acc_entries * ACCUMULATOR_BITS
    table[:, :, k.INSTANCES] = used
    engine = np.zeros((n, k.ENGINE_COLUMNS))
    engine[:, k.MAC_CYCLES], engine[:, k.CLOCK_HZ] = 1.0, 1e9
    engine[:, k.FINAL_BITS], engine[:, k.MAC_COUNT] = WORD_BITS, points.machine[:, 0]
    results, counts = np.zeros((n, k.RESULTS)), np.zeros((n, len(SLOTS), 3, 3))
    k.evaluate_rows(
        shapes, np.arange(n), problem.floats, problem.ints, points.factors, points.order,
        points.keep, FANOUT, True, table, engine, results, counts,
    )  # fmt: skip
    if "walk" in rules:
        _walk_inputs(points, counts)
    if "first_fill" in rules:
        outputs = points.extents[:, [DIMS.index(d) for d in "NKPQ"]].prod(axis=1)
        counts[:, ACCUMULATOR, k.OUTPUT, k.FILLS] += outputs
    compute = results[:, k.COMPUTE_CYCLES]
    bandwidth = np.stack(
        [
            np.full(n, DRAM_WORDS_PER_CYCLE),
            sp_words,
            np.full(n, ACCUMULATOR_WORDS_PER_CYCLE),
        ]
    )
    levels = np.stack(
        [
            _level_cycles(counts[:, s] / used[:, s, None, None], bandwidth[i], compute, rules)
            for i, s in enumerate((DRAM, SCRATCHPAD, ACCUMULATOR))
        ],
        axis=1,
    )
    cycles = np.maximum(compute, levels.max(axis=1))
    return DosaCounts(cycles, compute, levels, counts, used, results[:, k.OVERFLOW] <= 1e-9)


def _level_cycles(words, bandwidth, compute, rules) -> np.ndarray:
    reads, writes = words[:, :, k.READS], words[:, :, k.FILLS] + words[:, :, k.UPDATES]
    if "rounding" in rules:
        return rounded_cycles(reads, writes, bandwidth, compute)
    return np.ceil((reads + writes).sum(axis=1) / bandwidth - 1e-9)


def _einsum(row: np.ndarray) -> Einsum:
    extents = {name: int(e) for name, e in zip(DIMS, row, strict=False)}
    wide, high, dilated_w, dilated_h = (int(x) for x in row[len(DIMS) :])
    return Einsum(
        tuple(extents.items()),
        (
            Access(
                "I",
                ((("N", 1),), (("C", 1),), (("P", wide), ("R", dilated_w)),
                 (("Q", high), ("S", dilated_h))),
            ),
            Access("W", tuple(((d, 1),) for d in "KCRS")),
            Access("O", tuple(((d, 1),) for d in "NKPQ")),
        ),
    )  # fmt: skip


def _walk_inputs(points: DosaPoints, counts: np.ndarray) -> None:
    """Replace the words of the input between DRAM and scratchpad by Timeloop's own."""
    n_, c_, p_, q_, r_, s_ = (DIMS.index(d) for d in "NCPQRS")
    tiles = points.factors[:, SCRATCHPAD:].prod(axis=1).astype(int)
    wide, high, dilated_w, dilated_h = points.problem[:, len(DIMS) :].T.astype(int)
    for i in range(len(points)):
        t = tiles[i]
        shift = {
            n_: (t[n_], 0, 0, 0), c_: (0, t[c_], 0, 0),
            p_: (0, 0, t[p_] * wide[i], 0), r_: (0, 0, t[r_] * dilated_w[i], 0),
            q_: (0, 0, 0, t[q_] * high[i]), s_: (0, 0, 0, t[s_] * dilated_h[i]),
        }  # fmt: skip
        window = (
            int(t[n_]),
            int(t[c_]),
            int((t[p_] - 1) * wide[i] + (t[r_] - 1) * dilated_w[i] + 1),
            int((t[q_] - 1) * high[i] + (t[s_] - 1) * dilated_h[i] + 1),
        )
        loops: list[Loop] = [
            (
                tuple(int(x) for x in shift.get(int(d), (0, 0, 0, 0))),
                int(points.factors[i, DRAM, d]),
            )
            for d in points.order[i, DRAM]
            if points.factors[i, DRAM, d] > 1
        ]
        words = walked_words(loops, window, pause_resets=True)
        counts[i, DRAM, k.INPUT, k.READS] = words
        counts[i, SCRATCHPAD, k.INPUT, k.FILLS] = words
