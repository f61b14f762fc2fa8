"""Attention as a pipeline over queries and heads, on what pruning leaves: time, traffic, energy.

A query of a head passes five stages (SpAtten, HPCA 2021, section IV): its keys come from memory;
they are multiplied with it, ``multipliers / width`` keys a cycle; the scores go through a softmax;
where not all values are read, the top-k engine finds which; these come from memory and are summed
up. Queries and heads follow one another, so a layer takes as long as its busiest stage, memory
being one for keys and values together, and one pass through empty stages. Once a layer the top-k
engine chooses the tokens it keeps, before anything can be fetched.

Keys and values of a head are fetched once for all queries where they fit half a buffer (the other
half is being filled), else once a query. A query whose scores leave the outcome open reads the low
bits of its keys and passes scores and softmax again.

With everything kept and full precision this is dense attention on the same engine.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from archsim.hardware.components import adder, fp_mac, int_mac_dense, significand_bits
from archsim.hardware.scaling import NodeLike
from archsim.hardware.sram import sram
from archsim.models.topk import expected_cycles, expected_values

Floats = NDArray[np.float64]
Figure = float | Floats

#: Width of floating-point numbers in the softmax, bits (FP32: its units are taken from FPUs).
SOFTMAX_BITS = 32.0
#: Bits of an accumulator beyond the product of two operands.
GUARD_BITS = 8.0


@dataclass(frozen=True, eq=False)
class AttentionWork:
    """Attention of layers, arrays of one shape.

    Attributes:
        requests: Caches.
        queries: Queries of each in this step.
        heads: Heads that are kept.
        before: Tokens the layer chooses its own from; equal to ``keys`` where it drops none.
        keys: Tokens whose keys are read.
        values: Tokens whose values one query reads.
        head_dim: Width of a head.
        key_bits, low_bits, value_bits: Of what is read first, in doubt, and of values.
        low_share: Share of the queries in doubt.
    """

    requests: Floats
    queries: Floats
    heads: Floats
    before: Floats
    keys: Floats
    values: Floats
    head_dim: Floats
    key_bits: Floats
    low_bits: Floats
    low_share: Floats
    value_bits: Floats


@dataclass(frozen=True, eq=False)
class AttentionPipeline:
    """Figures of an engine for B designs; each a float or an array [B, 1].

    Attributes as in :class:`archsim.hardware.AttentionEngine`, with the memory's.
    """

    key_multipliers: Figure
    value_multipliers: Figure
    softmax_lanes: Figure
    comparators: Figure
    pass_cycles: Figure
    pipeline_cycles: Figure
    query_bits: Figure
    key_buffer_bytes: Figure
    value_buffer_bytes: Figure
    word_bits: Figure
    softmax_ops: Figure
    tier_bits_per_cycle: Figure
    tier_j_per_bit: Figure
    node_nm: NodeLike


@dataclass(frozen=True, eq=False)
class AttentionCost:
    """What layers cost; float64 in the broadcast shape.

    Attributes:
        stage_cycles: Time of every stage by itself: ``memory``, ``scores``, ``softmax``, ``top_k``,
            ``values``.
        select_cycles: Choosing the tokens of the layer.
        cycles: Of the layer.
        key_bits_moved, value_bits_moved, query_bits_moved: Traffic with memory (queries and
            outputs together).
        macs: Multiply-accumulates done.
        energy_by_part_j: ``multipliers``, ``softmax``, ``top_k``, ``buffers`` and ``memory``.
    """

    stage_cycles: dict[str, Floats]
    select_cycles: Floats
    cycles: Floats
    key_bits_moved: Floats
    value_bits_moved: Floats
    query_bits_moved: Floats
    macs: Floats
    energy_by_part_j: dict[str, Floats]

    @property
    def bits_moved(self) -> Floats:
        """All traffic with memory."""
        return self.key_bits_moved + self.value_bits_moved + self.query_bits_moved

    @property
    def energy_j(self) -> Floats:
        """The sum of its parts."""
        return sum(self.energy_by_part_j.values(), np.zeros(1))

    def bound(self) -> NDArray[np.str_]:
        """Name of the busiest stage."""
        names = np.array(list(self.stage_cycles))
        stacked = np.stack(np.broadcast_arrays(*self.stage_cycles.values()))
        return names[stacked.argmax(axis=0)]


def evaluate_attention(work: AttentionWork, engine: AttentionPipeline) -> AttentionCost:
    """Cost of attention layers on pipelines.

    Args:
        work: K layers, arrays [K].
        engine: Figures of B engines, floats or arrays [B, 1].
    """
    w = work
    passes = w.requests * w.heads * w.queries  # queries of heads, one after the other
    again = 1.0 + w.low_share
    key_rate = np.maximum(engine.key_multipliers / w.head_dim, 1e-9)
    value_rate = np.maximum(engine.value_multipliers / w.head_dim, 1e-9)
    chosen = w.values < w.keys
    wanted = np.where(chosen, w.values, w.keys)
    found = expected_cycles(w.keys, wanted, engine.comparators, engine.pass_cycles)
    select = np.where(
        w.keys < w.before,
        w.requests * expected_cycles(w.before, w.keys, engine.comparators, engine.pass_cycles),
        0.0,
    )
    key_bits, value_bits, query_bits = _traffic(w, engine)
    stages = {
        "memory": (key_bits + value_bits + query_bits) / engine.tier_bits_per_cycle,
        "scores": passes * np.ceil(w.keys / key_rate) * again,
        "softmax": passes * np.ceil(w.keys / engine.softmax_lanes) * again,
        "top_k": np.where(chosen, passes * found, 0.0),
        "values": passes * np.ceil(w.values / value_rate),
    }
    busiest = stages["memory"]
    for cycles in stages.values():
        busiest = np.maximum(busiest, cycles)
    macs = passes * (w.keys * again + w.values) * w.head_dim
    return AttentionCost(
        stages,
        select,
        busiest + select + engine.pipeline_cycles,
        key_bits,
        value_bits,
        query_bits,
        macs,
        _energy(w, engine, passes, macs, key_bits, value_bits, query_bits),
    )


def _traffic(w: AttentionWork, engine: AttentionPipeline) -> tuple[Floats, Floats, Floats]:
    """Bits of keys, of values, and of queries and outputs."""
    key_size = w.keys * w.head_dim * (w.key_bits + w.low_bits * (w.low_share > 0))
    resident = key_size <= engine.key_buffer_bytes * 8.0 / 2.0
    fetches = np.where(resident, 1.0, w.queries)
    # Low bits come once where any query wants them: as often as all do, and at most once.
    low = np.where(resident, np.minimum(w.low_share * w.queries, 1.0), w.low_share * w.queries)
    keys = w.requests * w.heads * w.keys * w.head_dim * (w.key_bits * fetches + w.low_bits * low)
    value_size = w.keys * w.head_dim * w.value_bits
    held = value_size <= engine.value_buffer_bytes * 8.0 / 2.0
    read = np.where(held, np.minimum(w.queries * w.values, w.keys), w.queries * w.values)
    values = w.requests * w.heads * read * w.head_dim * w.value_bits
    queries = 2.0 * w.requests * w.heads * w.queries * w.head_dim * engine.query_bits
    return keys, values, queries


def _energy(
    w: AttentionWork,
    engine: AttentionPipeline,
    passes: Floats,
    macs: Floats,
    key_bits: Floats,
    value_bits: Floats,
    query_bits: Floats,
) -> dict[str, Floats]:
    node, word = engine.node_nm, engine.word_bits
    mac = int_mac_dense(word, word, 2.0 * np.asarray(word) + GUARD_BITS, node)["energy_j"]
    significand = significand_bits(np.asarray(SOFTMAX_BITS))
    flop = fp_mac(significand, significand, significand, node)["energy_j"]
    compare = adder(word, node)["energy_j"]
    chosen = np.where(w.values < w.keys, w.values, w.keys)
    compared = np.where(w.values < w.keys, passes * expected_values(w.keys, chosen), 0.0)
    compared = compared + np.where(
        w.keys < w.before, w.requests * expected_values(w.before, w.keys), 0.0
    )
    scores = passes * w.keys * (1.0 + w.low_share)
    buffers: Floats = np.zeros(1)
    for size, rate, rows, moved in (
        (engine.key_buffer_bytes, engine.key_multipliers, scores, key_bits),
        (engine.value_buffer_bytes, engine.value_multipliers, passes * w.values, value_bits),
    ):
        width = np.asarray(rate) * word  # a beat's operands lie side by side
        macro = sram(np.asarray(size) * 8.0, width, 1.0, node)
        read = rows * w.head_dim * word / width * macro["read_energy_j"]
        buffers = buffers + read + moved / width * macro["write_energy_j"]
    return {
        "multipliers": macs * mac,
        "softmax": scores * engine.softmax_ops * flop,
        "top_k": compared * compare,
        "buffers": buffers,
        "memory": (key_bits + value_bits + query_bits) * engine.tier_j_per_bit,
    }


__all__ = ["AttentionCost", "AttentionPipeline", "AttentionWork", "evaluate_attention"]
