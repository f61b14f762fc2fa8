"""Reading Timeloop v0.4 inputs (architecture, problem, mapping, ERT) and evaluating them here.

Every architecture level becomes a storage slot followed by a fanout slot; a level that keeps no
tensor and holds no loop costs nothing. Energies come from the ERT, in pJ per vector access.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from archsim.errors import InputError
from archsim.inputs import parse_yaml, read_text
from archsim.models.loopnest import kernel as k
from archsim.models.loopnest.problem import pack
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
    """

    cycles: float
    utilization: float
    energy_pj: float
    mac_energy_pj: float
    levels: tuple[LevelStatistics, ...]


@dataclass(frozen=True)
class TimeloopCase:
    """A Timeloop model run, ready for the kernel; build with :func:`read_case`."""

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

    def evaluate(self, compat: str | None = None) -> TimeloopResult:
        """Evaluate.

        Args:
            compat: ``"timeloop"`` charges residual tiles as full ones, as Timeloop does; by
                default they are counted exactly.
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
        return self._report(results[0], counts[0], table, problem.macs[0])

    def _instances(self) -> np.ndarray:
        spatial = np.arange(len(self.factors)) % 2 == 1
        used = np.where(spatial, self.factors.prod(axis=1), 1)
        return np.concatenate([[1], np.cumprod(used)[:-1]]).astype(float)

    def _report(self, row, counts, table, macs) -> TimeloopResult:
        levels = []
        for i in reversed(range(len(self.level_names))):
            s = 2 * i
            if not self.keep[s].any():
                continue
            kept = [t for t in range(3) if self.keep[s, t]]
            used = table[s, k.INSTANCES]
            accesses = np.ceil(counts[s] * self.word_bits[i] / (table[s, k.BLOCK] * used)) * used
            price = table[s, [k.READ_J, k.WRITE_J, k.WRITE_J]]
            energy = float((accesses * price).sum())
            levels.append(
                LevelStatistics(
                    self.level_names[i],
                    table[s, k.INSTANCES],
                    *({self.data_spaces[t]: counts[s, t, c] for t in kept} for c in range(3)),
                    energy_pj=energy * 1e12,
                )
            )
        return TimeloopResult(
            float(row[k.CYCLES]),
            float(macs / (row[k.CYCLES] * self.engine[k.MAC_COUNT])),
            float(row[k.ENERGY_J] * 1e12),
            float(row[k.MAC_ENERGY_J] * 1e12),
            tuple(levels),
        )


def read_case(
    model: str | Path, ert: str | Path, mapping: str | Path | None = None
) -> TimeloopCase:
    """Read a Timeloop model input.

    Args:
        model: YAML with ``architecture`` and ``problem`` (and ``mapping``), version 0.4.
        ert: Energy reference table YAML.
        mapping: YAML with ``mapping`` when it is not in ``model``.

    Raises:
        InputError: Names the file and field that is missing or not understood.
    """
    data = parse_yaml(read_text(model), model)
    einsum = problem_from(data, model).einsum
    data_in, weight, output = (access.tensor for access in einsum.operands)
    spaces = (data_in, weight, output)
    dims = tuple(name for name, _ in einsum.dims)
    directives = data.get("mapping")
    if mapping is not None:
        directives = _get(parse_yaml(read_text(mapping), mapping), "mapping", list, mapping)
    if not directives:
        raise InputError("no mapping", source=model, field="mapping")
    energies = _read_ert(ert)
    levels, arithmetic, mac_count = _levels(_get(data, "architecture", dict, model), model)
    names = tuple(level["name"] for level in levels)
    slots = 2 * len(levels)
    factors = np.ones((slots, len(dims)), np.int64)
    order = np.tile(np.arange(len(dims)), (slots, 1))
    keep = np.zeros((slots, 3), np.bool_)
    table = np.zeros((slots, k.SLOT_COLUMNS))
    table[:, k.BITS : k.BITS + 3] = 1.0
    table[:, k.BLOCK] = 1.0
    for i, level in enumerate(levels):
        keep[2 * i] = level["class"] != "dummy_storage"
        _level_row(table[2 * i], level, energies, model)
    _apply_mapping(directives, names, spaces, dims, einsum, factors, order, keep, model)
    engine = np.zeros(k.ENGINE_COLUMNS)
    engine[k.MAC_J] = energies[arithmetic].get("compute", 0.0) * 1e-12
    engine[k.MAC_CYCLES] = 1.0
    engine[k.CLOCK_HZ] = 1e9  # leakage is given per cycle
    engine[k.FINAL_BITS] = table[0, k.BITS + k.OUTPUT]
    engine[k.MAC_COUNT] = mac_count
    bits = tuple(table[2 * i, k.BITS] for i in range(len(levels)))
    return TimeloopCase(einsum, spaces, dims, names, factors, order, keep, table, engine, bits)


def _get(data: Any, key: str, kind: type, source: object) -> Any:
    value = data.get(key) if isinstance(data, dict) else None
    if not isinstance(value, kind):
        raise InputError("missing or malformed", source=source, field=key, expected=kind.__name__)
    return value


def _read_ert(path: str | Path) -> dict[str, dict[str, float]]:
    data = _get(parse_yaml(read_text(path), path), "ERT", dict, path)
    found = {}
    for table in _get(data, "tables", list, path):
        name = re.sub(r"\[.*\]$", "", str(table["name"])).split(".")[-1]
        found[name] = {a["name"]: float(a["energy"]) for a in table["actions"]}
    return found


def _levels(architecture: dict, source: object) -> tuple[list[dict], str, int]:
    """Storage levels outer to inner, the arithmetic level's name, and its instances."""
    found: list[dict] = []

    def walk(node: dict) -> None:
        for local in node.get("local") or []:
            match = re.fullmatch(r"([^\[]+)\[(\d+)\.\.(\d+)\]", str(local.get("name")))
            if not match:
                raise InputError(
                    "level name not understood", source=source, found=local.get("name")
                )
            found.append({**local, "name": match[1], "instances": int(match[3])})
        for child in node.get("subtree") or []:
            walk(child)

    walk(architecture)
    if not found or "mac" not in str(found[-1].get("class")).lower():
        raise InputError("the innermost level must be a MAC", source=source, field="architecture")
    return found[:-1], found[-1]["name"], found[-1]["instances"]


def _level_row(row: np.ndarray, level: dict, energies: dict, source: object) -> None:
    a = level.get("attributes") or {}
    bits = float(a.get("datawidth", 8))
    width = float(a.get("width", bits))
    depth = a.get("depth")
    row[k.CAPACITY] = np.inf if depth is None else float(depth) * width
    row[k.CAPACITY] /= float(a.get("multiple_buffering") or 1)
    row[k.BLOCK] = max(width, bits)
    row[k.BITS : k.BITS + 3] = bits
    for column, name in (
        (k.READ_SLOW, "read_bandwidth"),
        (k.WRITE_SLOW, "write_bandwidth"),
        (k.SHARED_SLOW, "shared_bandwidth"),
    ):
        row[column] = 1.0 / (float(a[name]) * bits) if a.get(name) is not None else 0.0
    table = energies.get(level["name"], {})
    if level["class"] == "dummy_storage":
        row[k.CAPACITY] = np.inf
        return
    if not table:
        raise InputError("level has no ERT table", source=source, field=level["name"])
    update = table.get("update", table["write"])
    if abs(update - table["write"]) > 1e-9 * max(1.0, update):
        raise InputError(
            "update and write energies differ", source=source, field=level["name"],
            found=update, expected=str(table["write"]),
        )  # fmt: skip
    row[k.READ_J] = table["read"] * 1e-12
    row[k.WRITE_J] = table["write"] * 1e-12
    row[k.LEAK_W] = table.get("leak", 0.0) * 1e-12 * 1e9


def _apply_mapping(
    directives, names, spaces, dims, einsum, factors, order, keep, source
) -> None:  # fmt: skip
    for directive in directives:
        target = directive.get("target")
        if target not in names:
            raise InputError("unknown mapping target", source=source, found=target)
        slot = 2 * names.index(target)
        kind = directive.get("type")
        if kind in ("bypass", "datatype"):
            for space in directive.get("keep") or []:
                keep[slot, spaces.index(space)] = True
            for space in directive.get("bypass") or []:
                keep[slot, spaces.index(space)] = False
        elif kind in ("temporal", "spatial"):
            slot += kind == "spatial"
            for name, bound in _factors(directive.get("factors", ""), source):
                factors[slot, dims.index(name)] = bound
            inner_first = [d for d in re.split(r"[ ,]*", directive.get("permutation", "")) if d]
            listed = [dims.index(d) for d in inner_first[::-1] if d in dims]
            order[slot] = [d for d in range(len(dims)) if d not in listed] + listed
        else:
            raise InputError("unknown mapping directive", source=source, found=kind)
    for d, (name, extent) in enumerate(einsum.dims):
        for slot in range(len(factors)):
            if factors[slot, d] == 0:  # Timeloop: 0 takes what is left
                rest = prod(int(f) for f in factors[:, d] if f > 0)
                factors[slot, d] = -(-extent // rest)
        if factors[:, d].prod() < extent:
            raise InputError(
                "factors do not cover the dimension", source=source, field=name,
                found=int(factors[:, d].prod()), expected=f"at least {extent}",
            )  # fmt: skip
    keep[0] = True


def _factors(text: str, source: object) -> list[tuple[str, int]]:
    found = []
    for part in re.findall(r"[^\s,=]+\s*=?\s*\d+(?:,\d+)?(?=$|[\s,])", text):
        match = re.fullmatch(r"([A-Za-z_]+)\s*=?\s*(\d+)(?:,\d+)?", part.strip())
        if not match:
            raise InputError("factor not understood", source=source, found=part)
        found.append((match[1], int(match[2])))
    return found
