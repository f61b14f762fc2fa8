"""``EngineTable``: a spatial engine, its tier and a vector unit as numbers for B designs."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from archsim.hardware.sparsity import MacSparsity, StorageSparsity

Floats = NDArray[np.float64]


def given_or(values: Floats, default: float = 0.0) -> Floats:
    """Values, and a default where they are absent (NaN)."""
    return np.where(np.isnan(values), default, values)


@dataclass(frozen=True, eq=False)
class EngineTable:
    """Everything a cost model needs, over B designs and S slots.

    Slot 0 is the backing tier, 1..S-1 are the slots outer to inner. All designs of a table share
    the slot structure (names, order, axes, keeps); every number may differ.

    Attributes:
        machine: Name of the machine.
        engine: Name of the spatial engine.
        names: Slot names, length S.
        spatial: bool[S], fanout slots.
        axis: 'x' or 'y' of fanout slots, '' elsewhere.
        keeps: bool[S, 3], may hold input, weight, output; tier all True, fanouts all False.
        capacity_bits: [B, S] usable capacity of one instance (halved where double buffered);
            inf for a tier beyond 2**53 bits; 0 for fanouts.
        fanout: int64[B, S] children of a fanout slot, 1 for storages.
        block_bits: [B, S] bits moved by one access; 1 for fanouts.
        read_energy_j: [B, S] J per read access of ``block_bits``; 0 for fanouts.
        write_energy_j: [B, S] J per write access.
        leakage_w: [B, S] W per instance; background power of the whole tier in slot 0; the
            network of one fanout instance for fanouts.
        read_bits_per_cycle: [B, S] per instance; inf = unlimited.
        write_bits_per_cycle: [B, S] per instance; inf = unlimited.
        shared_bits_per_cycle: [B, S] reads and writes together; the tier's limit is here.
        hop_energy_j_per_bit: [B, S] J for one bit to cross one child pitch; 0 for storages.
        instances: [B, S] hardware instances of a slot: product of the fanouts outside it.
        bits: [B, 4] widths of input, weight, output, accumulator.
        mac_energy_j: [B] J per MAC.
        mac_leakage_w: [B] W per MAC unit.
        mac_cycles: [B] cycles between two MACs of one unit.
        macs: [B] number of MAC units.
        clock_hz: [B] clock.
        max_clock_hz: [B] limit of the MAC and the storages inside the innermost fanout.
        dataflow: int64[B], index into ``archsim.hardware.DATAFLOWS``.
        vector_lanes: [B] scalar operations per cycle.
        vector_op_energy_j: [B] J per scalar operation at ``output_bits``.
        vector_leakage_w: [B] W of all lanes.
        area_mm2: [B] by component: storage slots, 'mac', 'simd', 'network', 'dram_phy',
            'overhead'.
        total_area_mm2: [B] sum of ``area_mm2``.
        tier_bandwidth_bytes_per_s: [B] peak bandwidth of the backing tier.
        tier_latency_s: [B] idle latency of the backing tier.
        problems: bool[B] by reason: designs that make no physical sense (their numbers are finite
            but meaningless).
        hop_cycles: [B, S] cycles for a word to cross one child pitch of a fanout; 0 for storages.
        peer_links: Whether the children of a slot are linked, S entries; the same for all designs.
        sparse: What each slot does about zeros, S entries; the same for all designs.
        mac_sparse: What the MAC units do about them.
    """

    machine: str
    engine: str
    names: tuple[str, ...]
    spatial: NDArray[np.bool_]
    axis: tuple[str, ...]
    keeps: NDArray[np.bool_]
    capacity_bits: Floats
    fanout: NDArray[np.int64]
    block_bits: Floats
    read_energy_j: Floats
    write_energy_j: Floats
    leakage_w: Floats
    read_bits_per_cycle: Floats
    write_bits_per_cycle: Floats
    shared_bits_per_cycle: Floats
    hop_energy_j_per_bit: Floats
    instances: Floats
    bits: Floats
    mac_energy_j: Floats
    mac_leakage_w: Floats
    mac_cycles: Floats
    macs: Floats
    clock_hz: Floats
    max_clock_hz: Floats
    dataflow: NDArray[np.int64]
    vector_lanes: Floats
    vector_op_energy_j: Floats
    vector_leakage_w: Floats
    area_mm2: dict[str, Floats]
    total_area_mm2: Floats
    tier_bandwidth_bytes_per_s: Floats
    tier_latency_s: Floats
    problems: dict[str, NDArray[np.bool_]]
    hop_cycles: Floats
    peer_links: tuple[bool, ...]
    sparse: tuple[StorageSparsity | None, ...] = ()
    mac_sparse: MacSparsity | None = None

    def __len__(self) -> int:
        """Number of designs."""
        return len(self.clock_hz)

    @property
    def knows_zeros(self) -> bool:
        """Whether the hardware does anything about zeros."""
        return self.mac_sparse is not None or any(slot is not None for slot in self.sparse)

    @property
    def refined(self) -> bool:
        """Whether costs take more than the compiled kernel: zeros, links, a network's latency."""
        return self.knows_zeros or any(self.peer_links) or bool(self.hop_cycles.any())

    @property
    def sound(self) -> NDArray[np.bool_]:
        """bool[B]: designs without any problem."""
        bad = np.zeros(len(self), dtype=bool)
        for mask in self.problems.values():
            bad |= mask
        return ~bad

    def reasons(self, row: int) -> list[str]:
        """What is wrong with one design, in words; empty if nothing is."""
        return [reason for reason, mask in self.problems.items() if mask[row]]

    def take(self, rows: ArrayLike) -> EngineTable:
        """The table of some designs only, in the order given (indices or a bool mask)."""
        index = np.atleast_1d(np.asarray(rows))
        changed: dict[str, Any] = {}
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, dict):
                changed[field.name] = {key: column[index] for key, column in value.items()}
            elif isinstance(value, np.ndarray) and field.name not in ("spatial", "keeps"):
                changed[field.name] = value[index]
            else:
                changed[field.name] = value
        return EngineTable(**changed)
