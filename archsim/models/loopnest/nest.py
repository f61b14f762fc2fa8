"""A spatial engine's slots as the arrays the kernel and the mapper read."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from archsim.errors import InputError
from archsim.hardware import EngineTable
from archsim.models.loopnest import kernel as k
from archsim.models.loopnest.problem import ProblemTable


@dataclass(frozen=True, eq=False)
class Nest:
    """B engines of one structure.

    Attributes:
        names: Slot names, S.
        fanout: bool[S], which slots are spatial.
        keep: bool[1, S, 3], what the slots hold.
        groups: int64[G, 2], first and last slot of every run of storages inside the tier.
        fanout_slots: int64[F] slots that are spatial; ``axes`` int64[F], 0 for x and 1 for y.
        width: float64[B, F] children of each fanout.
        slot_table: float64[B, S, SLOT_COLUMNS]; ``engine`` float64[B, ENGINE_COLUMNS].
        dataflow: int64[B], template.
    """

    names: tuple[str, ...]
    fanout: np.ndarray
    keep: np.ndarray
    groups: np.ndarray
    fanout_slots: np.ndarray
    axes: np.ndarray
    width: np.ndarray
    slot_table: np.ndarray
    engine: np.ndarray
    dataflow: np.ndarray

    def __len__(self) -> int:
        return len(self.engine)


def build_nest(table: EngineTable) -> Nest:
    """Arrange an engine table for the kernel."""
    fanout = np.ascontiguousarray(table.spatial, np.bool_)
    slots = len(fanout)
    groups, s = [], 1
    while s < slots:
        if fanout[s]:
            s += 1
            continue
        first = s
        while s < slots and not fanout[s]:
            s += 1
        groups.append((first, s - 1))
    fanout_slots = np.flatnonzero(fanout).astype(np.int64)
    slot_table = np.zeros((len(table), slots, k.SLOT_COLUMNS))
    slot_table[:, :, k.CAPACITY] = table.capacity_bits
    slot_table[:, :, k.BLOCK] = table.block_bits
    slot_table[:, :, k.READ_J] = table.read_energy_j
    slot_table[:, :, k.WRITE_J] = table.write_energy_j
    slot_table[:, :, k.LEAK_W] = table.leakage_w
    with np.errstate(divide="ignore"):
        slot_table[:, :, k.READ_SLOW] = 1.0 / table.read_bits_per_cycle
        slot_table[:, :, k.WRITE_SLOW] = 1.0 / table.write_bits_per_cycle
        slot_table[:, :, k.SHARED_SLOW] = 1.0 / table.shared_bits_per_cycle
    slot_table[:, :, k.HOP_J] = table.hop_energy_j_per_bit
    slot_table[:, :, k.INSTANCES] = table.instances
    slot_table[:, :, k.BITS : k.BITS + 3] = table.bits[:, None, [0, 1, 3]]
    engine = np.zeros((len(table), k.ENGINE_COLUMNS))
    engine[:, k.MAC_J] = table.mac_energy_j
    engine[:, k.MAC_LEAK_W] = table.mac_leakage_w
    engine[:, k.MAC_CYCLES] = table.mac_cycles
    engine[:, k.CLOCK_HZ] = table.clock_hz
    engine[:, k.FINAL_BITS] = table.bits[:, 2]
    engine[:, k.MAC_COUNT] = table.macs
    return Nest(
        table.names,
        fanout,
        np.ascontiguousarray(table.keeps[None], np.bool_),
        np.array(groups, np.int64).reshape(-1, 2),
        fanout_slots,
        np.array([0 if table.axis[s] == "x" else 1 for s in fanout_slots], np.int64),
        np.ascontiguousarray(table.fanout[:, fanout_slots], np.float64),
        slot_table,
        engine,
        np.ascontiguousarray(table.dataflow, np.int64),
    )


_FIRST = np.zeros(1, np.int64)


def evaluate_mappings(
    problem: ProblemTable,
    nest: Nest,
    factors: np.ndarray,
    order: np.ndarray,
    keep: np.ndarray | None = None,
    *,
    counts: bool = False,
    pad: bool = False,
) -> tuple[np.ndarray, np.ndarray]:
    """Evaluate mappings of one problem on one engine: the exact kernel, for one row or millions.

    Args:
        problem: From :func:`~archsim.models.loopnest.problem.pack`; its first row is evaluated.
        nest: Its first engine is used.
        factors: float64[N, S, D] loop bounds, whole numbers whose product over the S slots covers
            the extent of every dimension; [S, D] for a single mapping.
        order: Integers [N, S, D], dimensions of every slot's loops, outer to inner.
        keep: bool[N or 1, S, 3], which operands (input, weight, output) a slot stores; default as
            the machine says.
        counts: Whether counts are wanted.
        pad: Charge residual tiles as full ones, as Timeloop does.

    Returns:
        float64[N, RESULTS], columns ``kernel.CYCLES``, ``kernel.ENERGY_J`` and so on (overflow > 0:
        a tile does not fit), and counts float64[N, S, 3, 3] in words: reads, fills and updates of
        input, weight and output by slot (N = 0 if not wanted).

    Raises:
        InputError: Shapes that do not match the problem and the nest.
    """
    factors = np.ascontiguousarray(factors, np.float64)
    order = np.ascontiguousarray(order)
    if factors.ndim == 2:
        factors, order = factors[None], order[None]
    n = len(factors)
    shape = (n, len(nest.fanout), len(problem.dims))
    if factors.shape != shape or order.shape != shape:
        raise InputError(
            "factors and order do not match the nest",
            found=f"{factors.shape} and {order.shape}",
            expected=f"(mappings, {shape[1]} slots, {shape[2]} dimensions)",
        )
    if keep is None:
        keep = nest.keep
    elif keep.shape not in ((n, shape[1], 3), (1, shape[1], 3)):
        raise InputError(
            "keep does not match the nest", found=keep.shape, expected=f"({n} or 1, {shape[1]}, 3)"
        )
    results = np.empty((n, k.RESULTS))
    words = np.zeros((n if counts else 0, shape[1], 3, 3))
    arguments = (
        _FIRST, _FIRST, problem.floats, problem.ints, factors, order, keep, nest.fanout, pad,
        nest.slot_table, nest.engine, results, words,
    )  # fmt: skip
    if n < k.FEW:  # waking threads would take longer
        k.evaluate_here(*arguments)
    else:
        k.evaluate_rows(*arguments)
    return results, words
