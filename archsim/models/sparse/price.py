"""Cycles and energy of sparse counts, priced as the dense kernel prices dense ones.

With nothing sparse the results equal the kernel's to rounding; the tests hold them to that.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from archsim.models.loopnest import kernel as k
from archsim.models.sparse.model import ACTUAL, FILLS, GATED, READS, UPDATES, SparseCounts
from archsim.models.sparse.spec import INPUT, OUTPUT, WEIGHT, Sparsity
from archsim.models.sparse.tiles import Nest


@dataclass(frozen=True, eq=False)
class SparseCost:
    """One mapping priced.

    Attributes:
        cycles: Latency; ``compute_cycles`` of the units alone.
        bound_slot: Storage that sets the latency, -1 for the units.
        data_j, metadata_j: float64[S, 3] energy of values and of metadata, by slot and operand.
        mac_j, network_j, leak_j: The rest.
        overflow: How far the fullest storage overflows (0 or less: fits).
        tier_bits: Bits to and from the tier.
        fill_drain_cycles: Part of ``cycles`` in which the array fills and drains.
    """

    cycles: float
    compute_cycles: float
    bound_slot: int
    data_j: np.ndarray
    metadata_j: np.ndarray
    mac_j: float
    network_j: float
    leak_j: float
    overflow: float
    tier_bits: float
    fill_drain_cycles: float = 0.0

    @property
    def energy_j(self) -> float:
        """All energy."""
        moved = float(self.data_j.sum() + self.metadata_j.sum())
        return moved + self.mac_j + self.network_j + self.leak_j


def _up(value: float) -> float:
    """Round up, tolerant of rounding in the value."""
    return float(np.ceil(value - 1e-12 * abs(value)))


def used_instances(nest: Nest) -> np.ndarray:
    """float64[S]: instances of every slot that do any work."""
    inside = np.ones((len(nest.factors) + 1, len(nest.dims)))
    inside[:-1] = np.cumprod(nest.factors[::-1], axis=0)[::-1]
    busy = np.minimum(nest.factors, np.ceil(nest.extents / inside[1:])).prod(axis=1)
    return np.concatenate([[1.0], np.cumprod(np.where(nest.fanout, busy, 1.0))[:-1]])


def price_sparse(
    nest: Nest,
    sparsity: Sparsity,
    sparse: SparseCounts,
    slot_table: np.ndarray,
    engine: np.ndarray,
    compute_cycles: float,
    held_bits: np.ndarray,
    passed: np.ndarray | None = None,
    hop_cycles: np.ndarray | None = None,
) -> SparseCost:
    """Price sparse counts.

    Args:
        nest, sparsity: Mapping and hardware.
        sparse: Its counts.
        slot_table: float64[S, SLOT_COLUMNS]; ``engine`` float64[ENGINE_COLUMNS]: see the kernel.
        compute_cycles: Cycles the dense computation takes.
        held_bits: float64[S], room needed (:func:`archsim.models.sparse.model.room`).
        passed: float64[S], dense words that neighbours pass on (``loopnest.links``).
        hop_cycles: float64[S], cycles to cross one child pitch of a fanout.
    """
    slots = len(nest.factors)
    used = used_instances(nest)
    compute = _up(compute_cycles * sparse.computes.share_of_time)
    worst, bound, overflow, tier_bits = compute, -1, 0.0, 0.0
    data_j, metadata_j = np.zeros((slots, 3)), np.zeros((slots, 3))
    for s in range(slots):
        if nest.fanout[s]:
            continue
        row = slot_table[s]
        read = written = 0.0
        for t in np.flatnonzero(nest.keep[s]):
            data, through = _data(nest, sparse, s, int(t), row, engine)
            blocks = [_up(bits / (row[k.BLOCK] * used[s])) * used[s] for bits in data]
            data_j[s, t] = np.dot(blocks, row[[k.READ_J, k.WRITE_J, k.WRITE_J]])
            beside, metadata_j[s, t] = _metadata(sparsity, sparse, s, int(t), row, used[s])
            read += through[READS] + beside[READS]
            written += through[FILLS] + through[UPDATES] + beside[FILLS] + beside[UPDATES]
        overflow = max(overflow, held_bits[s] / row[k.CAPACITY] - 1.0)
        demand = max(read * row[k.READ_SLOW], written * row[k.WRITE_SLOW])
        demand = _up(max(demand, (read + written) * row[k.SHARED_SLOW]) / used[s])
        if demand > worst:
            worst, bound = demand, s
        if s == 0:
            tier_bits = read + written
    waits = 0.0
    if hop_cycles is not None:
        # To the farthest unit in use before the first step, and back after the last.
        reach = np.where(nest.fanout, nest.factors.prod(axis=1) - 1.0, 0.0)
        waits = _up(2.0 * float(reach @ hop_cycles))
        worst += waits
    leak_w = engine[k.MAC_LEAK_W] * engine[k.MAC_COUNT]
    leak_w += float(slot_table[:, k.LEAK_W] @ slot_table[:, k.INSTANCES])
    computes = sparse.computes
    return SparseCost(
        worst,
        compute,
        bound,
        data_j,
        metadata_j,
        computes.actual * engine[k.MAC_J] + computes.gated * sparsity.compute.gated_j,
        _network(nest, sparse, slot_table, passed),
        leak_w * worst / engine[k.CLOCK_HZ],
        overflow,
        tier_bits,
        waits,
    )


def _data(nest, sparse, s, t, row, engine) -> tuple[np.ndarray, np.ndarray]:
    """Bits that fill blocks (reads, fills, updates), and bits that pass the ports."""
    words = sparse.words[s, t]
    bits = words * row[k.BITS + t]
    if s == 0 and t == OUTPUT:
        # Finished outputs are narrower than partial sums.
        narrow = row[k.BITS + OUTPUT] - engine[k.FINAL_BITS]
        bits[UPDATES] -= sparse.finished * narrow
    grow = sparse.block_share[s, t] / sparse.value_share[s, t]
    return bits[:, ACTUAL] * grow, bits[:, ACTUAL] + bits[:, GATED]


def _metadata(sparsity, sparse, s, t, row, used) -> tuple[np.ndarray, float]:
    """Bits of metadata through the data's ports, and the energy of all metadata."""
    bits, slot = sparse.metadata_bits[s, t], sparsity.slots[s]
    if slot.metadata_block_bits is None:
        width, prices = row[k.BLOCK], row[[k.READ_J, k.WRITE_J, k.WRITE_J]]
        beside = bits[:, ACTUAL] + bits[:, GATED]
    else:
        width = slot.metadata_block_bits
        prices = np.array([slot.metadata_read_j, slot.metadata_write_j, slot.metadata_write_j])
        beside = np.zeros(3)
    blocks = [_up(amount / (width * used)) * used for amount in bits[:, ACTUAL]]
    return beside, float(np.dot(blocks, prices))


def _network(
    nest: Nest, sparse: SparseCounts, slot_table: np.ndarray, passed: np.ndarray | None
) -> float:
    """Energy of the links of all fanouts; see the kernel's ``price``. Neighbours are one apart."""
    words, bits, total, held = np.zeros(3), np.zeros(3), 0.0, 1.0
    for s in range(len(nest.factors)):
        if nest.fanout[s]:
            here = nest.factors[s].prod()
            spread = np.where(nest.relevant, 1.0, nest.factors[s]).prod(axis=1)
            crossing = (here + spread) * (words * slot_table[s, k.BITS : k.BITS + 3] + bits)
            total += crossing.sum() * slot_table[s, k.HOP_J] * (0.5 if here > 1 else 0.0)
            if passed is not None:
                hops = passed[s] * held * slot_table[s, k.BITS + INPUT]
                total += hops * slot_table[s, k.HOP_J]
            words, bits = words * spread, bits * spread
            continue
        for t in (INPUT, WEIGHT, OUTPUT):
            if nest.keep[s, t]:
                kinds = [READS, UPDATES] if t == OUTPUT else [READS]
                words[t] = sparse.words[s, t, kinds, ACTUAL].sum()
                if t == INPUT:
                    held = sparse.value_share[s, t]
                bits[t] = sparse.metadata_bits[s, t, kinds, ACTUAL].sum()
    return float(total)
