"""Generated (layer, machine) pairs whose whole mapspace can be enumerated."""

from __future__ import annotations

import random

import numpy as np

from archsim.errors import InputError
from archsim.models.loopnest import kernel as k
from archsim.models.loopnest.nest import Nest
from archsim.models.loopnest.optimal.enumeration import enumerate_all
from archsim.models.loopnest.optimal.space import Mapspace, mapspace
from archsim.workload.graph import Einsum, conv2d_einsum, matmul_einsum


def layer(rng: random.Random) -> Einsum:
    kind = rng.choice(["conv", "conv", "depthwise", "gemm", "batched"])
    if kind == "gemm":
        rows, inner = rng.choice([1, 2, 3, 4, 6]), rng.choice([1, 2, 3, 4, 6])
        return matmul_einsum("i", "w", "o", rows=rows, inner=inner, columns=rng.choice([1, 2, 4]))
    if kind == "batched":
        return matmul_einsum(
            "i", "w", "o", rows=rng.choice([2, 3, 4]), inner=rng.choice([2, 3]),
            columns=rng.choice([2, 4]), batch=rng.choice([2, 3]),
            shared_weight=rng.random() < 0.5,
        )  # fmt: skip
    groups = rng.choice([2, 3]) if kind == "depthwise" else 1
    return conv2d_einsum(
        "i", "w", "o", batch=1, groups=groups, out_channels=groups * rng.choice([1, 2, 3]),
        in_channels=groups * rng.choice([1, 2]),
        out_size=(rng.choice([2, 3, 4, 6]), rng.choice([1, 1, 2])),
        kernel=(rng.choice([1, 2, 3]), rng.choice([1, 1, 2])),
        stride=(rng.choice([1, 1, 2]), 1), dilation=(rng.choice([1, 1, 2]), 1),
    )  # fmt: skip


def machine(rng: random.Random) -> Nest:
    """Two to five slots with uneven energies, widths, ports, word sizes and capacities."""
    slots = rng.randint(2, 5)
    fanout = np.array([False] + [rng.random() < 0.4 for _ in range(slots - 1)])
    keep = np.zeros((1, slots, 3), bool)
    keep[0, 0] = True
    fans = np.flatnonzero(fanout)
    width = np.array([[float(rng.choice([2, 3, 4, 6])) for _ in fans]]).reshape(1, len(fans))
    table, engine = np.zeros((1, slots, k.SLOT_COLUMNS)), np.zeros((1, k.ENGINE_COLUMNS))
    instances = 1.0
    for s in range(slots):
        row = table[0, s]
        row[k.CAPACITY] = rng.choice([16.0, 48.0, 120.0, 400.0, 4000.0]) if s else np.inf
        row[k.BLOCK], row[k.INSTANCES] = 1.0, instances
        row[k.LEAK_W] = rng.choice([0, 0, 0.3, 1.0])
        row[k.BITS : k.BITS + 3] = [rng.choice([4.0, 8.0, 16.0]) for _ in range(3)]
        if fanout[s]:
            row[k.HOP_J] = rng.choice([0.0, 0.01, 0.3])
            instances *= width[0, list(fans).index(s)]
            continue
        if s:
            keep[0, s] = [rng.random() < 0.5 for _ in range(3)]
        row[k.BLOCK] = rng.choice([1.0, 8.0, 24.0, 64.0])
        scale = 100 * 10.0**-s if rng.random() < 0.7 else 1.0
        row[k.READ_J] = rng.choice([0.0, 0.3, 1.0, 7.5]) * scale
        row[k.WRITE_J] = rng.choice([0.0, 0.3, 1.0, 7.5]) * scale
        for column in (k.READ_SLOW, k.WRITE_SLOW, k.SHARED_SLOW):
            row[column] = rng.choice([0.0, 0.0, 0.01, 0.1, 0.25, 2.0])
    engine[0, k.MAC_J], engine[0, k.MAC_CYCLES] = 0.5, rng.choice([1.0, 1.0, 4.0, 0.5])
    engine[0, k.CLOCK_HZ] = rng.choice([1.0, 1e9])
    engine[0, k.FINAL_BITS] = min(8.0, table[0, 0, k.BITS + k.OUTPUT])
    engine[0, k.MAC_LEAK_W], engine[0, k.MAC_COUNT] = rng.choice([0, 0.1]), instances
    return Nest(
        tuple(f"s{i}" for i in range(slots)), fanout, keep, np.zeros((0, 2), np.int64),
        fans.astype(np.int64), np.zeros(len(fans), np.int64), width, table, engine,
        np.zeros(1, np.int64),
    )  # fmt: skip


def small_spaces(count: int, seed: int, limit: int) -> list[tuple[int, Mapspace, np.ndarray]]:
    """Seeds, spaces of at most ``limit`` mappings, and their (energy, cycles) [N, 2]."""
    found = []
    while len(found) < count:
        seed += 1
        rng = random.Random(seed)
        try:
            space = mapspace(layer(rng), machine(rng))
            found.append((seed, space, enumerate_all(space, limit)))
        except InputError:
            continue
    return found
