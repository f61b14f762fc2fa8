"""Timeloop's sparse inputs (v0.4): densities, formats, gating and skipping, evaluated here.

What Timeloop does differently from the default: fibertree ranks follow the loops of the mapping, a
unit of metadata is one metadata word whatever it counts, metadata has a store of its own, and what
the units leave out is still sent to the storage of partial sums unless an action says otherwise.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from archsim.errors import InputError
from archsim.inputs import parse_yaml, read_text
from archsim.models.loopnest import kernel as k
from archsim.models.loopnest.problem import pack
from archsim.models.loopnest.timeloop import TimeloopCase, read_case
from archsim.models.sparse.density import Banded, Density, FixedStructured, Hypergeometric, Shape
from archsim.models.sparse.formats import FORMATS, RankFormat
from archsim.models.sparse.model import (
    ACTUAL,
    FILLS,
    GATED,
    READS,
    SKIPPED,
    UPDATES,
    Computes,
    SparseCounts,
    room,
    sparse_counts,
)
from archsim.models.sparse.price import price_sparse
from archsim.models.sparse.spec import (
    GATE,
    OUTPUT,
    SKIP,
    Action,
    ComputeSparsity,
    SlotSparsity,
    Sparsity,
)
from archsim.models.sparse.tiles import Nest

_ACTIONS = {"skipping": SKIP, "gating": GATE}
_NAMES = {ACTUAL: "Actual", GATED: "Gated", SKIPPED: "Skipped"}
_KINDS = {READS: "reads", FILLS: "fills", UPDATES: "updates"}


@dataclass(frozen=True)
class SparseTimeloopResult:
    """What Timeloop prints of a sparse run, per instance of a level.

    Attributes:
        cycles: Total cycles.
        computes: By what becomes of them.
        energy_pj: All energy; ``level_energy_pj`` by level and data space, leakage apart.
        counts: Scalar accesses by (level, data space, ``Actual scalar reads`` ...).
        metadata: Units of metadata by (level, data space, ``Actual scalar format reads`` ...): for
            each rank, outer to inner, (coordinates, offsets).
    """

    cycles: float
    computes: Computes
    energy_pj: float
    level_energy_pj: dict[tuple[str, str], float]
    counts: dict[tuple[str, str, str], float]
    metadata: dict[tuple[str, str, str], tuple[tuple[float, float], ...]]


@dataclass(frozen=True, eq=False)
class SparseTimeloopCase:
    """A sparse Timeloop run; build with :func:`read_sparse_case`."""

    dense: TimeloopCase
    nest: Nest
    sparsity: Sparsity
    densities: tuple[Density, ...]

    def evaluate(self) -> SparseTimeloopResult:
        """Evaluate."""
        dense, nest = self.dense, self.nest
        slots = len(nest.factors)
        problem = pack([dense.einsum], dense.dims)
        table = dense.slot_table.copy()
        used = np.where(nest.fanout, nest.factors.prod(axis=1), 1)
        table[:, k.INSTANCES] = np.concatenate([[1], np.cumprod(used)[:-1]])
        results, counts = np.zeros((1, k.RESULTS)), np.zeros((1, slots, 3, 3))
        zero = np.zeros(1, np.int64)
        k.evaluate_rows(
            zero, zero, problem.floats, problem.ints, nest.factors[None].astype(np.float64),
            nest.order[None], nest.keep[None], nest.fanout, False, table[None],
            dense.engine[None], results, counts,
        )  # fmt: skip
        bits = table[:, k.BITS : k.BITS + 3]
        width = np.maximum(1, table[:, k.BLOCK, None] // bits).astype(np.int64)
        levels = {
            (s, t): loop_tree(nest, t, s, len(formats))
            for s, slot in enumerate(self.sparsity.slots)
            for t, formats in enumerate(slot.formats)
            if formats and nest.keep[s, t]
        }
        found = sparse_counts(nest, self.sparsity, self.densities, counts[0], width, levels)
        held = room(nest, self.sparsity, self.densities, bits, levels)
        cost = price_sparse(
            nest, self.sparsity, found, table, dense.engine, results[0, k.COMPUTE_CYCLES], held
        )
        return self._report(found, counts[0], cost, table)

    def _report(self, found: SparseCounts, counts, cost, table) -> SparseTimeloopResult:
        scalar, units, energy = {}, {}, {}
        for i, level in enumerate(self.dense.level_names):
            s = 2 * i
            for t, space in enumerate(self.dense.data_spaces):
                if not self.nest.keep[s, t]:
                    continue
                energy[level, space] = 1e12 * float(cost.data_j[s, t] + cost.metadata_j[s, t])
                for kind, word in _KINDS.items():
                    for fate, name in _NAMES.items():
                        amount = float(found.words[s, t, kind, fate]) / table[s, k.INSTANCES]
                        scalar[level, space, f"{name} scalar {word}"] = amount
                        units[level, space, f"{name} scalar format {word}"] = tuple(
                            (c * share, o * share)
                            for c, o in found.rank_units.get((s, t), ())
                            for share in [self._tiles(found, counts, s, t, kind, fate)]
                        )
        return SparseTimeloopResult(
            cost.cycles, found.computes, cost.energy_j * 1e12, energy, scalar, units
        )

    def _tiles(self, found: SparseCounts, counts, s: int, t: int, kind: int, fate: int) -> float:
        """Whole tiles' worth of accesses of one fate."""
        dense = float(counts[s, t, kind])
        tile = prod(self.nest.tile(t, s))
        share = float(found.value_share[s, t])
        return float(found.words[s, t, kind, fate]) / (tile * share) if dense else 0.0


def loop_tree(nest: Nest, tensor: int, slot: int, ranks: int) -> list[Shape]:
    """Fibertree of a tile with one rank a loop that moves the tensor, the innermost ones joined."""
    loops = [
        (d, int(nest.factors[s, d]))
        for s in range(slot, len(nest.factors))
        for d in nest.order[s].tolist()
        if nest.factors[s, d] > 1 and nest.relevant[tensor, d]
    ]
    rest = nest.tiles[slot].copy()
    levels = [nest.shape(tensor, rest)]
    outside = max(0, ranks - len(loops))
    levels += levels * outside
    for i in range(ranks - outside):
        last = outside + i == ranks - 1
        for d, bound in loops[i:] if last else loops[i : i + 1]:
            rest[d] = max(1, rest[d] // bound)
        levels.append(nest.shape(tensor, rest))
    return levels


def read_sparse_case(
    model: str | Path, ert: str | Path, mapping: str | Path | None = None
) -> SparseTimeloopCase:
    """Read a sparse Timeloop run.

    Args:
        model: Processed input with ``architecture``, ``problem`` and ``sparse_optimizations``.
        ert: Energy reference table YAML.
        mapping: YAML with ``mapping`` when it is not in ``model``.

    Raises:
        InputError: Names the file and field that is missing or not understood.
    """
    dense = read_case(model, ert, mapping)
    data = parse_yaml(read_text(model), model)
    nest = Nest(
        dense.einsum,
        dense.dims,
        np.array([extent for _, extent in dense.einsum.dims], np.int64),
        dense.factors,
        dense.order,
        dense.keep,
        np.arange(len(dense.factors)) % 2 == 1,
    )
    targets, compute = _targets(data.get("sparse_optimizations"), dense, model)
    energies = _metadata_energies(ert)
    widths = _metadata_widths(data["architecture"])
    slots = [SlotSparsity() for _ in dense.factors]
    actions: dict[int, list[Action]] = {}
    for name, target in targets.items():
        s = 2 * dense.level_names.index(name)
        word, width = widths.get(name, (None, None))
        formats = _formats(target.get("representation_format"), dense.data_spaces, word, model)
        read, write = energies.get(name, (0.0, 0.0))
        slots[s] = SlotSparsity(
            formats,
            confidence=1.0,
            metadata_block_bits=width or (word if any(formats) else None),
            metadata_read_j=read * 1e-12,
            metadata_write_j=write * 1e-12,
        )
        for action in _actions(target.get("action_optimization"), dense.data_spaces, model):
            # A level that does not keep the target acts for the one outside it that does.
            home = max(k for k in nest.keepers(action.target)[:-1] if k <= s)
            actions.setdefault(home, []).append(action)
    for s, found in actions.items():
        old = slots[s]
        slots[s] = SlotSparsity(
            old.formats, tuple(found), old.confidence, old.metadata_block_bits,
            old.metadata_read_j, old.metadata_write_j,
        )  # fmt: skip
    densities = tuple(_density(data, dense, nest, t, model) for t in range(3))
    return SparseTimeloopCase(dense, nest, Sparsity(tuple(slots), compute), densities)


def _refuse(message: str, source: object, field: str, found: object = None) -> InputError:
    return InputError(message, source=source, field=f"sparse_optimizations.{field}", found=found)


def _targets(block: Any, dense: TimeloopCase, source: object):
    found: dict[str, dict] = {}
    compute: dict[str, bool] = {}
    for target in (block or {}).get("targets") or []:
        name = str(target.get("name"))
        if target.get("compute_optimization"):
            for entry in target["compute_optimization"]:
                if entry.get("type") not in _ACTIONS:
                    raise _refuse("unknown type", source, name, entry.get("type"))
                key = "gate_zeros" if entry["type"] == "gating" else "skip_absent"
                compute[key] = True
        if name in dense.level_names:
            found[name] = target
        elif not target.get("compute_optimization"):
            raise _refuse("no such storage level", source, "name", name)
    return found, ComputeSparsity(**compute, implied_updates=False)


def _formats(block: Any, spaces: tuple[str, ...], word: float | None, source: object):
    found: list[tuple[RankFormat, ...]] = [(), (), ()]
    for entry in (block or {}).get("data_spaces") or []:
        name, ranks = entry.get("name"), []
        if name not in spaces:
            raise _refuse("no such data space", source, "representation_format", name)
        for rank in entry.get("ranks") or []:
            kind = str(rank.get("format")).lower()
            if kind not in FORMATS:
                raise _refuse("unknown format", source, str(name), rank.get("format"))
            bits = rank.get("metadata_word_bits", word)
            ranks.append(RankFormat(kind, None if bits is None else float(bits)))
        found[spaces.index(name)] = tuple(ranks)
    return tuple(found)


def _actions(block: Any, spaces: tuple[str, ...], source: object) -> list[Action]:
    found = []
    for entry in block or []:
        if entry.get("type") not in _ACTIONS:
            raise _refuse("unknown type", source, "action_optimization", entry.get("type"))
        options = entry.get("options") or []
        if len(options) != 1:
            raise _refuse("needs exactly one option", source, "action_optimization", options)
        names = [options[0].get("target"), *(options[0].get("condition_on") or [])]
        if any(name not in spaces for name in names) or len(names) < 2:
            raise _refuse("no such data space", source, "action_optimization.options", names)
        target, *on = (spaces.index(name) for name in names)
        if OUTPUT in on or target in on:
            raise _refuse("conditions must be on another operand", source, "options", names)
        found.append(Action(_ACTIONS[entry["type"]], target, tuple(on)))
    return found


def _metadata_energies(ert: str | Path) -> dict[str, tuple[float, float]]:
    """pJ per metadata read and write by level name."""
    found = {}
    for table in parse_yaml(read_text(ert), ert)["ERT"]["tables"]:
        name = str(table["name"]).split("[")[0].split(".")[-1]
        energy = {a["name"]: float(a["energy"]) for a in table["actions"]}
        if "metadata_read" in energy:
            found[name] = (energy["metadata_read"], energy.get("metadata_write", 0.0))
    return found


def _metadata_widths(architecture: Any) -> dict[str, tuple[float, float]]:
    """Bits of a metadata word and of a metadata row by level name."""
    found = {}

    def walk(node: dict) -> None:
        for local in node.get("local") or []:
            given = local.get("attributes") or {}
            if "metadata_datawidth" in given:
                word = float(given["metadata_datawidth"])
                row = float(given.get("metadata_storage_width", word))
                found[str(local["name"]).split("[")[0]] = (word, row)
        for child in node.get("subtree") or []:
            walk(child)

    walk(architecture)
    return found


def _density(data: Any, dense: TimeloopCase, nest: Nest, tensor: int, source: object) -> Density:
    name = dense.data_spaces[tensor]
    given = ((data["problem"].get("instance") or {}).get("densities") or {}).get(name, 1.0)
    if not isinstance(given, dict):
        given = {"distribution": "fixed_structured", "density": given}
    kind, value = given.get("distribution"), given.get("density", 1.0)
    shape = nest.shape(tensor, nest.extents)
    if kind in ("fixed_structured", "fixed-structured"):
        return FixedStructured(float(value))
    if kind == "hypergeometric":
        return Hypergeometric(float(value), prod(shape))
    if kind == "banded" and len(shape) == 2:
        return Banded(*shape, int(given.get("band_width", 0)))
    raise InputError(
        "density distribution not understood",
        source=source,
        field=f"problem.instance.densities.{name}",
        found=kind,
        expected="fixed_structured, hypergeometric, or banded (of a matrix)",
    )
