"""What is published of the Eyeriss chip, and its mappings as processing passes and loop nests.

Chen, Krishna, Emer, Sze, "Eyeriss: An Energy-Efficient Reconfigurable Accelerator for Deep
Convolutional Neural Networks", JSSC 52(1), 2017. The mapping parameters of AlexNet are those of its
table III (figure 5 shows the sets: t = 2 and 4 for CONV1 and CONV3, r = t = 2 for CONV4 and CONV5;
segments of 14 and 13 columns for CONV2); github.com/moateff/Eyeriss-v1
(``config/conv*/parameters.txt``), a re-implementation from the paper, has the same n to t.
The latencies and powers of AlexNet are also in the tests of github.com/stanford-mast/nn_dataflow
(``test_eyeriss_isscc16``).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from archsim.hardware import load_machine, resolve
from archsim.models.loopnest import kernel as k
from archsim.models.loopnest.nest import build_nest
from archsim.models.loopnest.problem import ProblemTable, pack
from archsim.models.row_stationary import (
    ConvShape,
    RowStationaryArray,
    RowStationaryMapping,
    conv_shape,
    row_stationary_array,
)
from archsim.workload import Workload, load_workload

#: Batch of the measurements on AlexNet.
BATCH = 4
WORD_BYTES = 2


@dataclass(frozen=True)
class Measured:
    """A layer on the chip at 200 MHz and 1 V.

    Attributes:
        latency_ms: Processing latency.
        power_mw: Of the chip, without DRAM.
        active: Active processing elements.
        zeros: Share of zeros among the inputs.
        buffer_mb, dram_mb: Global buffer and DRAM accesses, 10^6 bytes.
        total_latency_ms: With the transfers from and to DRAM that processing does not hide.
    """

    latency_ms: float
    power_mw: float
    active: int
    zeros: float
    buffer_mb: float
    dram_mb: float
    total_latency_ms: float


#: Table V, AlexNet at batch 4. The rows add up to the abstract's 278 mW and 0.0029 DRAM accesses a
#: MAC (15.4 MB).
PUBLISHED = {
    "conv1": Measured(16.5, 332.0, 154, 0.0001, 18.5, 5.0, 20.9),
    "conv2": Measured(39.2, 288.0, 135, 0.387, 77.6, 4.0, 41.9),
    "conv3": Measured(21.8, 266.0, 156, 0.725, 50.2, 3.0, 23.6),
    "conv4": Measured(16.0, 235.0, 156, 0.793, 37.4, 2.1, 18.4),
    "conv5": Measured(10.0, 236.0, 156, 0.776, 24.9, 1.3, 10.5),
}
#: The paper's mapping table: m, n, e, p, q, r, t.
MAPPINGS = {
    "conv1": RowStationaryMapping(96, 1, 7, 16, 1, 1, 2),
    "conv2": RowStationaryMapping(64, 1, 27, 16, 2, 1, 1),
    "conv3": RowStationaryMapping(64, 4, 13, 16, 4, 1, 4),
    "conv4": RowStationaryMapping(64, 4, 13, 16, 3, 2, 2),
    "conv5": RowStationaryMapping(64, 4, 13, 16, 3, 2, 2),
}

#: Table VI, VGG-16 at batch 3: processing latency (ms), power (mW), active elements, DRAM accesses
#: (MB), total latency (ms). They add up to the abstract's 236 mW, 0.7 frames/s and 0.0035 accesses.
VGG16 = {
    "conv1-1": (38.0, 247, 156, 15.4, 76.2),
    "conv1-2": (810.6, 218, 156, 54.0, 910.3),
    "conv2-1": (405.3, 242, 156, 33.4, 470.3),
    "conv2-2": (810.8, 231, 156, 48.5, 894.3),
    "conv3-1": (204.0, 254, 156, 20.2, 241.1),
    "conv3-2": (408.1, 235, 156, 32.2, 460.9),
    "conv3-3": (408.1, 233, 156, 30.8, 457.7),
    "conv4-1": (105.1, 278, 168, 17.8, 135.8),
    "conv4-2": (210.0, 261, 168, 28.6, 254.8),
    "conv4-3": (210.0, 240, 168, 22.8, 246.3),
    "conv5-1": (48.3, 258, 168, 6.3, 54.3),
    "conv5-2": (48.5, 236, 168, 5.7, 53.7),
    "conv5-3": (48.5, 230, 168, 5.6, 53.7),
}
VGG_BATCH = 3
#: VGG-16's mappings are not published. These follow from what is: four sets of strips of 13 rows
#: are the 156 active elements, 14 rows would not fit the buffer at the tallest planes (28 and 14
#: rows, where they do, have 168); p fills the buffer; q (and r) is what the published buffer
#: accesses ask for. By block: output rows, filters, and the mapping.
VGG_BLOCKS = {
    "1": (224, 64, RowStationaryMapping(16, 1, 13, 4, 1, 1, 4)),
    "2": (112, 128, RowStationaryMapping(32, 1, 13, 8, 1, 1, 4)),
    "3": (56, 256, RowStationaryMapping(64, 1, 13, 16, 2, 1, 4)),
    "4": (28, 512, RowStationaryMapping(64, 1, 14, 16, 4, 1, 4)),
    "5": (14, 512, RowStationaryMapping(64, 3, 14, 16, 4, 2, 2)),
}

#: Section IV-B: run-length compression saves this share of the DRAM traffic of feature maps.
COMPRESSION = {"conv1": 0.30, "conv5": 0.75}
#: Figure 16: shares of the chip's power in multipliers and adders, and in the scratchpads; the
#: clock network has 32.9 and 45.0 %. The text has both much lower in CONV5, the ALUs below 10 %.
POWER_SHARES = {"conv1": (0.089, 0.42), "conv5": (0.030, 0.33)}

#: Section V-B: the networks of filters and partial sums are 64 bits wide, four words a cycle.
PSUM_WORDS_PER_CYCLE = 4
#: Calibrated on VGG-16's blocks 1 to 4 (:func:`archsim.validate.eyeriss.restarts`): where partial
#: sums set the pace, a pass takes this much longer than its stream, in layers from 648 to 13,824
#: passes. AlexNet and block 5 are not in the fit.
RESTART_CYCLES = 579


def chip() -> RowStationaryArray:
    """The shipped machine ``eyeriss`` as a row-stationary array."""
    return row_stationary_array(load_machine("eyeriss"), PSUM_WORDS_PER_CYCLE, RESTART_CYCLES)


def alexnet() -> Workload:
    """AlexNet at the batch of the measurements."""
    return load_workload("alexnet", batch=BATCH)


def alexnet_shapes() -> dict[str, ConvShape]:
    """The five convolutions in the paper's letters."""
    return {
        op.name: conv_shape(op.einsum)
        for op in alexnet().operations
        if op.einsum is not None and op.name in PUBLISHED
    }


def vgg_shape(layer: str) -> tuple[ConvShape, RowStationaryMapping]:
    """A layer of VGG-16 and its mapping; ``conv3-1`` is the first of block 3."""
    block, place = layer.removeprefix("conv").split("-")
    rows, filters, mapping = VGG_BLOCKS[block]
    first = {"1": 3, "2": 64, "3": 128, "4": 256, "5": 512}[block]
    channels = first if place == "1" else filters
    return ConvShape(VGG_BATCH, 1, filters, channels, rows, rows, 3, 3, 1), mapping


@dataclass(frozen=True)
class NestCost:
    """A layer under its published mapping, counted by the loop-nest kernel.

    Attributes:
        latency_ms: With transfers and work overlapped perfectly; ``bound`` is what limits it.
        energy_j: By storage, ``network`` and ``mac``; the DRAM is ``dram``.
        leakage_w: Of the chip.
        accesses_per_mac: Words by storage (reads, fills and updates) over multiply-accumulates.
        dram_mb: DRAM traffic (10^6 bytes); ``filter_mb`` the part of it that is filters.
    """

    latency_ms: float
    bound: str
    energy_j: dict[str, float]
    leakage_w: float
    accesses_per_mac: dict[str, float]
    dram_mb: float
    filter_mb: float


def published_nests() -> dict[str, NestCost]:
    """The loop-nest model's figures of AlexNet under the chip's mappings, on ``eyeriss``."""
    engines = resolve(load_machine("eyeriss"))
    nest = build_nest(engines)
    einsums = {op.name: op.einsum for op in alexnet().operations if op.name in PUBLISHED}
    problems = pack([einsum for einsum in einsums.values() if einsum is not None])
    n, slots = len(problems), len(nest.names)
    shapes = alexnet_shapes()
    factors = np.ones((n, slots, len(problems.dims)))
    orders = np.zeros((n, slots, len(problems.dims)), np.int64)
    for o, name in enumerate(einsums):
        factors[o] = nest_factors(shapes[name], MAPPINGS[name], nest.names, problems)
        orders[o] = [problems.dims.index(d) for d in "NGPMCQRS"]  # outer to inner
        # One pass after the other: filters stay in the elements while all inputs go by.
        orders[o, nest.names.index("glb")] = [problems.dims.index(d) for d in "MNGPCQRS"]
    results, counts = np.zeros((n, k.RESULTS)), np.zeros((n, slots, 3, 3))
    k.evaluate_rows(
        np.arange(n), np.zeros(n, np.int64), problems.floats, problems.ints, factors, orders,
        np.repeat(nest.keep, n, axis=0), nest.fanout, False, nest.slot_table, nest.engine, results,
        counts,
    )  # fmt: skip
    storages = nest.slot_table[0, 1:]
    leakage_w = float(
        storages[:, k.LEAK_W] @ storages[:, k.INSTANCES]
        + nest.engine[0, k.MAC_LEAK_W] * nest.engine[0, k.MAC_COUNT]
    )
    found = {}
    for o, name in enumerate(einsums):
        energy, accesses = {}, {}
        for s, slot in enumerate(nest.names):
            if nest.fanout[s]:
                continue
            row = nest.slot_table[0, s]
            bits = (counts[o, s] * row[k.BITS : k.BITS + 3, None]).sum(axis=0)
            joules = bits @ row[[k.READ_J, k.WRITE_J, k.WRITE_J]] / row[k.BLOCK]
            energy[slot] = float(joules)
            accesses[slot] = float(counts[o, s].sum() / problems.macs[o])
        energy["network"] = float(results[o, k.NETWORK_J])
        energy["mac"] = float(results[o, k.MAC_ENERGY_J])
        bound = int(results[o, k.BOUND_SLOT])
        found[name] = NestCost(
            float(results[o, k.CYCLES] / engines.clock_hz[0] * 1e3),
            "compute" if bound < 0 else nest.names[bound],
            energy,
            leakage_w,
            accesses,
            float(counts[o, 0].sum() * WORD_BYTES / 1e6),
            float(counts[o, 0, k.WEIGHT].sum() * WORD_BYTES / 1e6),
        )
    return found


def nest_factors(
    shape: ConvShape, mapping: RowStationaryMapping, slots: tuple[str, ...], problem: ProblemTable
) -> np.ndarray:
    """A row-stationary mapping as loop bounds of the machine ``eyeriss``.

    Rows of the array hold filter rows, then sets; its columns hold output rows. The innermost
    storages hold one element's p filters and q channels over a filter row; the buffer's loops run a
    pass and the filters it keeps, the DRAM's loops bring the rest, channels innermost so that
    partial sums stay in the buffer.

    Returns:
        float64[S, D], slots outer to inner.
    """
    m, s = mapping, shape
    columns = 14
    folds, beside = math.ceil(m.e / columns), max(columns // m.e, 1)
    beside = min(beside, m.t)
    bounds = {
        "psum_spad": {"M": m.p, "C": m.q, "S": s.filter_width},
        "rows": {"R": s.filter_height, "C": m.r, "M": math.ceil(m.t / beside), "P": folds},
        "columns": {"P": min(m.e, columns), "M": beside},
        "glb": {"N": m.n, "Q": s.width, "M": max(min(m.m, s.filters) // (m.p * m.t), 1)},
        "dram": {"N": math.ceil(s.batch / m.n), "G": s.groups, "P": math.ceil(s.height / m.e)},
    }
    bounds["dram"]["C"] = math.ceil(s.channels / (m.q * m.r))
    bounds["dram"]["M"] = math.ceil(s.filters / (m.p * m.t * bounds["glb"]["M"]))
    factors = np.ones((len(slots), len(problem.dims)))
    for slot, loops in bounds.items():
        for dim, bound in loops.items():
            if dim in problem.dims:
                factors[slots.index(slot), problem.dims.index(dim)] = bound
    return factors
