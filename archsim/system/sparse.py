"""Whole networks on hardware that knows zeros, links neighbours, or takes time to fill.

Mappings come from the dense mapper, which sees every operand at the width a word takes in each
storage's format (values and metadata); tiles that then do not fit are mapped again with more room.
Vector operations and their traffic are priced dense; the links of neighbours and the time to fill
and drain an array are no part of what mappings are chosen for. Runs in Python, milliseconds a layer
and design; hardware that declares none of it never comes here.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import prod
from typing import Any

import numpy as np

from archsim.errors import InputError
from archsim.hardware import EngineTable
from archsim.models.loopnest import kernel as k
from archsim.models.loopnest.links import forward
from archsim.models.loopnest.nest import Nest, build_nest
from archsim.models.sparse.density import Density, Shape
from archsim.models.sparse.formats import fibertree, stored_bits
from archsim.models.sparse.machine import density_of, sparsity_of
from archsim.models.sparse.model import SparseCounts, room, sparse_counts
from archsim.models.sparse.price import SparseCost, price_sparse
from archsim.models.sparse.spec import INPUT
from archsim.models.sparse.tiles import Nest as TileNest
from archsim.system import network
from archsim.system.fusion import Step
from archsim.system.network import NetworkEvaluator
from archsim.workload.graph import Einsum, Workload

#: Tries to make compressed tiles fit before a layer counts as too large.
TRIES = 4
Key = tuple[int, tuple]


@dataclass(frozen=True, eq=False)
class SparseLayer:
    """One einsum on one design.

    Attributes:
        nest: The mapping.
        counts: Expected words and metadata; ``cost`` what they cost.
        held_bits: float64[S], room its tiles need.
        passed: float64[S], input words that neighbours pass on.
    """

    nest: TileNest
    counts: SparseCounts
    cost: SparseCost
    held_bits: np.ndarray
    passed: np.ndarray


class SparseNetwork:
    """Costs of an evaluator's networks on designs that know zeros.

    Args:
        evaluator: The networks, and how mappings are chosen.
        engines: B designs of one structure.

    Raises:
        InputError: A tensor's pattern does not fit its operand.
    """

    def __init__(self, evaluator: NetworkEvaluator, engines: EngineTable) -> None:
        self.evaluator, self.engines = evaluator, engines
        self.nest: Nest = build_nest(engines)
        self.sparsity = sparsity_of(engines)
        self.linked = np.array(engines.peer_links)
        # A tile that may not be sent cannot be relied on by the neighbour.
        self.acting = frozenset(
            s
            for s, slot in enumerate(self.sparsity.slots)
            if any(action.target == INPUT for action in slot.actions)
        )
        self.layers: dict[Key, list[SparseLayer]] = {}
        wanted: dict[tuple, dict[int, tuple]] = {}
        table = evaluator.table
        for n, workload in enumerate(evaluator.workloads):
            for row, step in zip(table.names[n], table.plans[n], strict=True):
                o = int(table.steps[row, network.PROBLEM])
                if o >= 0:
                    zeros = self.zeros(workload, step)
                    wanted.setdefault(zeros, {}).setdefault(o, (workload, step))
        for zeros, problems in wanted.items():
            self._map(zeros, problems)

    @staticmethod
    def zeros(workload: Workload, step: Step) -> tuple:
        """Density and pattern of input, weight and output of a step's einsum."""
        found = []
        for access in _einsum(step).operands:
            tensor = workload.tensors.get(access.tensor)
            found.append((tensor.density, tensor.pattern) if tensor else (1.0, "random"))
        return tuple(found)

    def layer(self, workload: Workload, step: Step, o: int, design: int = 0) -> SparseLayer:
        """The einsum of a step on one design."""
        return self.layers[o, self.zeros(workload, step)][design]

    def _map(self, zeros: tuple, problems: dict[int, tuple]) -> None:
        """Map and price the einsums that share their densities."""
        prepared = {o: self._densities(*given) for o, given in problems.items()}
        scale = np.ones((len(self.engines), len(self.evaluator.table.problems)))
        waiting = set(problems)
        for _ in range(TRIES):
            groups: dict[tuple, list[int]] = {}
            for o in waiting:
                groups.setdefault(tuple(scale[:, o]), []).append(o)
            for factor, members in groups.items():
                bits = self._bits([prepared[o] for o in members], np.array(factor))
                table = self.nest.slot_table.copy()
                table[:, :, k.BITS : k.BITS + 3] = bits
                chosen = replace(self.nest, slot_table=table)
                _, (_, factors, orders, kept), _ = self.evaluator.run(
                    self.engines, details=True, nest=chosen, bypass=not self.engines.knows_zeros
                )
                for o in members:
                    _, step = problems[o]
                    self.layers[o, zeros] = self._price(
                        o, step, prepared[o][1], factors[:, o], orders[:, o], kept[:, o]
                    )
            waiting = {
                o
                for o in waiting
                if any(layer.cost.overflow > 0.0 for layer in self.layers[o, zeros])
            }
            for o in waiting:
                for e, layer in enumerate(self.layers[o, zeros]):
                    scale[e, o] *= 1.05 * (1.0 + min(max(layer.cost.overflow, 0.0), 4.0))
            if not waiting:
                break

    def _densities(self, workload: Workload, step: Step) -> tuple[list[Shape], list[Density]]:
        einsum = _einsum(step)
        extents = einsum.extents
        shapes, densities = [], []
        for t, access in enumerate(einsum.operands):
            shape = tuple(1 + sum(c * (extents[d] - 1) for d, c in rank) for rank in access.ranks)
            shapes.append(shape)
            try:
                densities.append(density_of(workload.tensors.get(access.tensor), einsum, t, shape))
            except InputError as error:
                raise InputError(
                    error.message, source=workload.name, field=access.tensor, found=error.found
                ) from None
        return shapes, densities

    def _bits(self, prepared: list, scale: np.ndarray) -> np.ndarray:
        """float64[B, S, 3]: bits a word of a full storage takes, the most of some einsums."""
        bits = self.nest.slot_table[:, :, k.BITS : k.BITS + 3].copy()
        for s, slot in enumerate(self.sparsity.slots):
            for t, formats in enumerate(slot.formats):
                if not formats or (s == 0 and t == k.OUTPUT) or not self.nest.keep[0, s, t]:
                    continue
                for e in range(len(bits)):
                    width = float(self.nest.slot_table[e, s, k.BITS + t])
                    words = self.nest.slot_table[e, s, k.CAPACITY] / width
                    confidence = None if s == 0 else slot.confidence
                    bits[e, s, t] = max(
                        _word_bits(formats, shapes[t], words, densities[t], width, confidence)
                        for shapes, densities in prepared
                    )
        bits[:, 1:] *= scale[:, None, None]
        return bits

    def _price(self, o: int, step: Step, densities, factors, orders, kept) -> list[SparseLayer]:
        designs, nest, problems = len(self.engines), self.nest, self.evaluator.table.problems
        slots = len(nest.fanout)
        results, counts = np.zeros((designs, k.RESULTS)), np.zeros((designs, slots, 3, 3))
        k.evaluate_rows(
            np.full(designs, o), np.arange(designs), problems.floats, problems.ints,
            np.ascontiguousarray(factors), np.ascontiguousarray(orders),
            np.ascontiguousarray(kept), nest.fanout, False, nest.slot_table, nest.engine, results,
            counts,
        )  # fmt: skip
        found = []
        for e in range(designs):
            tiles = TileNest(
                _einsum(step),
                problems.dims,
                problems.extents[o].astype(np.int64),
                factors[e].astype(np.int64),
                orders[e],
                kept[e],
                nest.fanout,
            )
            table = nest.slot_table[e]
            bits = table[:, k.BITS : k.BITS + 3]
            width = np.maximum(1, table[:, k.BLOCK, None] // bits).astype(np.int64)
            dense, passed = forward(tiles, counts[e], self.linked, self.acting)
            sparse = sparse_counts(tiles, self.sparsity, densities, dense, width)
            held = room(tiles, self.sparsity, densities, bits)
            cycles = float(results[e, k.COMPUTE_CYCLES])
            cost = price_sparse(
                tiles, self.sparsity, sparse, table, nest.engine[e], cycles, held, passed,
                self.engines.hop_cycles[e],
            )  # fmt: skip
            found.append(SparseLayer(tiles, sparse, cost, held, passed))
        return found

    def totals(self) -> np.ndarray:
        """float64[B, networks, TOTALS], as the dense evaluator's."""
        evaluator, engines, nest = self.evaluator, self.engines, self.nest
        table = evaluator.table
        totals = np.zeros((len(engines), len(evaluator.workloads), network.TOTALS))
        bits = np.ascontiguousarray(engines.bits)
        leak = engines.vector_leakage_w + nest.engine[:, k.MAC_LEAK_W] * nest.engine[:, k.MAC_COUNT]
        leak = leak + (nest.slot_table[:, :, k.LEAK_W] * nest.slot_table[:, :, k.INSTANCES]).sum(1)
        for e in range(len(engines)):
            for n, workload in enumerate(evaluator.workloads):
                for row, step in zip(table.names[n], table.plans[n], strict=True):
                    cycles, moved, joules = network.vector_cost(
                        row, table.steps, nest.slot_table, nest.engine, e, engines.vector_lanes,
                        engines.vector_op_energy_j, bits,
                    )  # fmt: skip
                    o = int(table.steps[row, network.PROBLEM])
                    if o >= 0:
                        layer = self.layer(workload, step, o, e)
                        cycles = max(cycles, layer.cost.cycles + moved)
                        joules += layer.cost.energy_j - layer.cost.leak_j
                        totals[e, n, network.MISFIT] += max(0.0, layer.cost.overflow)
                        totals[e, n, network.MACS_DONE] += layer.counts.computes.actual
                    else:
                        cycles = max(cycles, moved)
                    seconds = cycles / nest.engine[e, k.CLOCK_HZ]
                    totals[e, n, network.SECONDS] += seconds
                    totals[e, n, network.JOULES] += joules + leak[e] * seconds
        return totals


def _einsum(step: Step) -> Einsum:
    einsum = step.operation.einsum
    assert einsum is not None
    return einsum


def _word_bits(formats, shape: Shape, words: float, density: Density, width: float, confidence):
    """Bits a word takes in a tile of about so many words."""
    tile = list(shape)
    while prod(tile) > words and max(tile) > 1:
        axis = tile.index(max(tile))
        tile[axis] = -(-tile[axis] // 2)
    tree = fibertree(tuple(tile), len(formats))
    return stored_bits(formats, tree, density, width, confidence) / prod(tile)


def layer_figures(layer: SparseLayer) -> dict[str, Any]:
    """What a layer's report says beyond the dense one."""
    computes = layer.counts.computes
    return {
        "macs_done": computes.actual,
        "macs_gated": computes.gated,
        "macs_skipped": computes.skipped + computes.absent,
        "metadata_energy_j": float(layer.cost.metadata_j.sum()),
        "passed_words": float(layer.passed.sum()),
        "fill_drain_cycles": layer.cost.fill_drain_cycles,
    }
