"""Whole networks on many machines at once: every layer mapped and priced by compiled code.

Layers run one after the other on the spatial engine; vector operations run on the vector unit,
fused ones beside the layer that produces their input. Equal layer shapes are mapped once.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numba import get_num_threads, prange, set_num_threads

from archsim.errors import InputError
from archsim.hardware import EngineTable, Machine
from archsim.models.jit import inner, parallel
from archsim.models.loopnest import kernel as k
from archsim.models.loopnest.dataflows import masks_of, template_table, variants_for
from archsim.models.loopnest.growth import make_growth
from archsim.models.loopnest.mapper import (
    EFFORTS,
    OBJECTIVES,
    make_best,
    map_operation,
    prepare_design,
)
from archsim.models.loopnest.nest import Nest, build_nest
from archsim.models.loopnest.problem import ProblemTable, pack
from archsim.system.fusion import Step, plan_steps
from archsim.workload.graph import Einsum, Workload

# Columns of the step table.
PROBLEM, TIMES, NETWORK, VECTOR_OPS, WEIGHTS_READ, VALUES_READ, WRITTEN = range(7)
# Columns of the totals a design gets for each network.
SECONDS, JOULES, MISFIT, MACS_DONE = range(4)
TOTALS = 4
CHUNK = 8  # designs a thread takes at a time


@dataclass(frozen=True, eq=False)
class NetworkTable:
    """Several networks as unique layer shapes and unique steps.

    Attributes:
        problems: Unique einsums.
        steps: float64[K, 7] unique steps: row of ``problems`` (-1: vector only), how often,
            network, scalar operations, weight elements and other elements read, and elements
            written by vector operations.
        names: For every network, the row of ``steps`` each of its steps is counted in.
        plans: For every network, its steps in order.
    """

    problems: ProblemTable
    steps: np.ndarray
    names: tuple[tuple[int, ...], ...]
    plans: tuple[tuple[Step, ...], ...]


def tabulate(workloads: Sequence[Workload], fuse: bool = True) -> NetworkTable:
    """Find the unique einsums and steps of networks."""
    einsums: dict[tuple, int] = {}
    unique: list = []
    rows: dict[tuple, int] = {}
    table: list[list[float]] = []
    names, plans = [], []
    for n, workload in enumerate(workloads):
        own = []
        plan = plan_steps(workload, fuse)
        for step in plan:
            einsum = step.operation.einsum
            problem = -1
            if einsum is not None:
                shape = (einsum.dims, tuple(access.ranks for access in einsum.operands))
                problem = einsums.setdefault(shape, len(unique))
                if problem == len(unique):
                    unique.append(einsum)
            written = 0 if einsum is not None else step.written_elements
            key = (problem, n, step.vector_ops, *step.read_elements, written)
            row = rows.setdefault(key, len(table))
            if row == len(table):
                table.append([problem, 0, n, step.vector_ops, *step.read_elements, written])
            table[row][TIMES] += 1
            own.append(row)
        names.append(tuple(own))
        plans.append(tuple(plan))
    if not table:
        raise InputError("the workload computes nothing", field=workloads[0].name)
    steps = np.array(table, np.float64)
    return NetworkTable(pack(unique), steps, tuple(names), tuple(plans))


@inner
def vector_cost(step, steps, slot_table, engine, e, lanes, op_energy, bits):
    """Latency (s) and dynamic energy (J) of a step's vector operations and their tier traffic.

    Args:
        step: Row of ``steps``; ``e``: the design's row.
        lanes, op_energy: [B] of the vector unit; ``bits`` [B, 4].
    """
    read = steps[step, WEIGHTS_READ] * bits[e, 1] + steps[step, VALUES_READ] * bits[e, 0]
    write = steps[step, WRITTEN] * bits[e, 2]
    block = slot_table[e, 0, k.BLOCK]
    energy = steps[step, VECTOR_OPS] * op_energy[e]
    energy += np.ceil(read / block) * slot_table[e, 0, k.READ_J]
    energy += np.ceil(write / block) * slot_table[e, 0, k.WRITE_J]
    cycles = np.ceil(steps[step, VECTOR_OPS] / lanes[e])
    moved = max(read * slot_table[e, 0, k.READ_SLOW], write * slot_table[e, 0, k.WRITE_SLOW])
    moved = max(moved, (read + write) * slot_table[e, 0, k.SHARED_SLOW])
    return cycles, moved, energy


@inner
def add_steps(
    e, done, floats, dim_count, steps, slot_table, engine, lanes, op_energy, vector_leak, bits,
    totals,
):  # fmt: skip
    """Sum the steps of every network on design ``e``.

    Args:
        done: float64[problems, RESULTS] of the layers; ``totals`` [B, networks, TOTALS], written.
    """
    totals[e] = 0.0
    leak_w = vector_leak[e] + engine[e, k.MAC_LEAK_W] * engine[e, k.MAC_COUNT]
    for s in range(slot_table.shape[1]):
        leak_w += slot_table[e, s, k.LEAK_W] * slot_table[e, s, k.INSTANCES]
    for j in range(steps.shape[0]):
        n, times = int(steps[j, NETWORK]), steps[j, TIMES]
        cycles, moved, energy = vector_cost(j, steps, slot_table, engine, e, lanes, op_energy, bits)
        o = int(steps[j, PROBLEM])
        if o >= 0:
            # The vector unit works on the output as it streams by; its own tier traffic
            # adds to the layer's.
            cycles = max(cycles, done[o, k.CYCLES] + moved)
            energy += done[o, k.ENERGY_J] - done[o, k.LEAK_J]
            totals[e, n, MISFIT] += times * max(0.0, done[o, k.OVERFLOW])
            totals[e, n, MACS_DONE] += times * floats[o, dim_count + k.MACS]
        else:
            cycles = max(cycles, moved)
        seconds = cycles / engine[e, k.CLOCK_HZ]
        totals[e, n, SECONDS] += times * seconds
        totals[e, n, JOULES] += times * (energy + leak_w * seconds)


@parallel
def evaluate_designs(
    floats, ints, steps, problem_count, objective, extra,
    fanout, groups, fanout_slots, axes, width, slot_table, engine, dataflow,
    unroll, element, stationary, order, variants, tried, masks,
    lanes, op_energy, vector_leak, bits, totals, layers, best_factors, best_orders, best_keep,
):  # fmt: skip
    """Map and price every unique einsum on every design, then sum the steps of every network.

    Args:
        totals: float64[B, networks, TOTALS], written.
        layers: float64[B, problems, RESULTS] written, or of length 0 if not wanted; likewise
            ``best_factors`` float64 and ``best_orders`` int64 [B, problems, S, D] and
            ``best_keep`` bool[B, problems, S, 3].
    """
    designs = engine.shape[0]
    slot_count, dim_count = fanout.shape[0], order.shape[1]
    wanted = layers.shape[0] == designs
    for c in prange((designs + CHUNK - 1) // CHUNK):
        work = k.make_work(slot_count, dim_count)
        room = make_growth(work.bounds, groups.shape[0])
        best = make_best(slot_count, dim_count)
        done = np.empty((problem_count, k.RESULTS))
        for e in range(c * CHUNK, min(designs, (c + 1) * CHUNK)):
            prepare_design(
                e, dataflow[e], variants, masks, slot_table, groups, order, stationary, room
            )
            for o in range(problem_count):
                map_operation(
                    floats, ints, o, e, fanout, slot_table, engine, dataflow[e], objective, extra,
                    unroll, element, order, groups, fanout_slots, axes, width[e], variants, tried,
                    masks, best, room, work,
                )  # fmt: skip
                for j in range(k.RESULTS):
                    done[o, j] = best.results[j]
                if wanted:
                    layers[e, o] = best.results
                    best_factors[e, o] = best.factors
                    best_orders[e, o] = best.order
                    best_keep[e, o] = best.keep
            add_steps(
                e, done, floats, dim_count, steps, slot_table, engine, lanes, op_energy,
                vector_leak, bits, totals,
            )  # fmt: skip


@parallel
def sum_designs(
    layers, floats, dim_count, steps, slot_table, engine, lanes, op_energy, vector_leak, bits,
    totals,
):  # fmt: skip
    """Sum the steps of every network, the layers being priced; see :func:`evaluate_designs`."""
    for e in prange(engine.shape[0]):
        add_steps(
            e, layers[e], floats, dim_count, steps, slot_table, engine, lanes, op_energy,
            vector_leak, bits, totals,
        )  # fmt: skip


class NetworkEvaluator:
    """Costs of one or several networks on batches of designs of one machine.

    Args:
        workloads: The networks.
        weights: How often each runs, relative to the others.
        machine: Only its name is used, in errors; designs come as tables.
        effort: ``fast`` (the template's candidates), ``thorough`` (plus a local search) or
            ``optimal`` (plus the certified mapper; seconds a layer, see ``optimal.py``).
        objective: What mappings are chosen for: ``edp``, ``energy`` or ``latency``.
        fuse: Fuse elementwise operations into their producers.

    Raises:
        InputError: Unknown effort or objective, no workload, or weights that do not match.
    """

    def __init__(
        self,
        workloads: Sequence[Workload],
        weights: Sequence[float] | None = None,
        machine: Machine | None = None,
        effort: str = "fast",
        objective: str = "edp",
        fuse: bool = True,
    ) -> None:
        if not workloads:
            raise InputError("at least one workload is needed", field="workloads")
        if effort not in EFFORTS:
            raise InputError(
                "unknown effort", field="effort", found=effort, expected=" or ".join(EFFORTS)
            )
        if objective not in OBJECTIVES:
            raise InputError(
                "unknown mapping objective",
                field="objective",
                found=objective,
                expected=" or ".join(OBJECTIVES),
            )
        weights = [1.0] * len(workloads) if weights is None else list(weights)
        if len(weights) != len(workloads) or not all(0 < w < math.inf for w in weights):
            raise InputError("one positive weight a workload", field="weights", found=weights)
        self.workloads = tuple(workloads)
        self.weights = np.array(weights, np.float64)
        self.machine = machine
        self.extra = EFFORTS[effort]
        self.optimal = effort == "optimal"
        self.objective = OBJECTIVES.index(objective)
        self.table = tabulate(workloads, fuse)
        self.templates = template_table(self.table.problems.dims)

    def run(
        self,
        engines: EngineTable,
        details: bool = False,
        nest: Nest | None = None,
        bypass: bool = True,
    ) -> tuple[np.ndarray, tuple, Nest]:
        """Map and price; see :func:`evaluate_designs` for the arrays.

        Args:
            engines: B designs.
            details: Whether the layers are wanted, too.
            nest: The designs as the kernel sees them; default as they are.
            bypass: Whether operands may be kept out of storages that could hold them.

        Returns:
            totals [B, networks, TOTALS]; ``(layers, factors, orders, kept)``, empty without
            ``details`` (``kept``: bool[B, problems, S, 3], storages that hold an operand); and the
            nest.
        """
        nest = build_nest(engines) if nest is None else nest
        problems, t = self.table.problems, self.templates
        b = len(engines)
        slots, dims = len(nest.fanout), len(problems.dims)
        rows = b if details or self.optimal else 0
        totals = np.zeros((b, len(self.workloads), TOTALS))
        layers = np.zeros((rows, len(problems), k.RESULTS))
        factors = np.zeros((rows, len(problems), slots, dims))
        orders = np.zeros((rows, len(problems), slots, dims), np.int64)
        keep = np.zeros((rows, len(problems), slots, 3), np.bool_)
        masks = masks_of(t.keeps, nest.keep[0], nest.fanout)
        variants, tried = variants_for(t.rows[0 if bypass else 1], nest.keep[0], len(nest.groups))
        # Waking a thread costs more than a few designs do.
        threads = get_num_threads()
        set_num_threads(min(threads, -(-b // CHUNK)))
        try:
            evaluate_designs(
                problems.floats, problems.ints, self.table.steps, len(problems),
                self.objective, self.extra if len(nest.groups) else 0,
                nest.fanout, nest.groups, nest.fanout_slots, nest.axes, nest.width,
                nest.slot_table, nest.engine, nest.dataflow,
                t.unroll, t.element, t.stationary, t.order, variants, tried, masks,
                engines.vector_lanes, engines.vector_op_energy_j, engines.vector_leakage_w,
                np.ascontiguousarray(engines.bits), totals, layers, factors, orders,
                keep,
            )  # fmt: skip
        finally:
            set_num_threads(threads)
        if self.optimal:
            from archsim.system.optimal import refine

            refine(
                self.einsums(), problems.dims, self.objective, nest, layers, factors, orders, keep,
                bypass=bypass,
            )  # fmt: skip
            sum_designs(
                layers, problems.floats, dims, self.table.steps, nest.slot_table, nest.engine,
                engines.vector_lanes, engines.vector_op_energy_j, engines.vector_leakage_w,
                np.ascontiguousarray(engines.bits), totals,
            )  # fmt: skip
        return totals, (layers, factors, orders, keep), nest

    def einsums(self) -> list[Einsum]:
        """The unique loop nests, in the order of ``table.problems``."""
        found: dict[int, Einsum] = {}
        for rows, plan in zip(self.table.names, self.table.plans, strict=True):
            for row, step in zip(rows, plan, strict=True):
                o = int(self.table.steps[row, PROBLEM])
                if o >= 0 and step.operation.einsum is not None:
                    found.setdefault(o, step.operation.einsum)
        return [found[o] for o in sorted(found)]

    def evaluate(self, engines: EngineTable) -> dict[str, np.ndarray]:
        """Metrics of B designs.

        Returns:
            float64[B] by name, always finite: ``latency_s``, ``energy_j`` (weighted sums over the
            networks), ``area_mm2``, ``power_w`` (energy over latency), ``edp_js``,
            ``utilization`` (share of peak multiply-accumulates), ``throughput_per_s`` (runs of
            the weighted mix); with several networks also ``latency_s.NAME`` and
            ``energy_j.NAME``. ``feasible`` (bool) and ``violation``: how far tiles overflow
            storages, the clock exceeds what the components allow, plus one for every physical
            problem of the design; 0 exactly where feasible.
        """
        if engines.refined:
            from archsim.system.sparse import SparseNetwork

            return self.metrics(engines, SparseNetwork(self, engines).totals())
        return self.metrics(engines, self.run(engines)[0])

    def metrics(self, engines: EngineTable, totals: np.ndarray) -> dict[str, np.ndarray]:
        """Metrics from totals [B, networks, TOTALS]; see :meth:`evaluate`."""
        seconds = self._mix(totals[:, :, SECONDS])
        joules = self._mix(totals[:, :, JOULES])
        peak = engines.macs * engines.clock_hz / engines.mac_cycles
        metrics = {
            "latency_s": seconds,
            "energy_j": joules,
            "area_mm2": engines.total_area_mm2.copy(),
            "power_w": joules / seconds,
            "edp_js": joules * seconds,
            "utilization": self._mix(totals[:, :, MACS_DONE]) / (seconds * peak),
            "throughput_per_s": self.weights.sum() / seconds,
        }
        if len(self.workloads) > 1:
            for i, workload in enumerate(self.workloads):
                metrics[f"latency_s.{workload.name}"] = totals[:, i, SECONDS]
                metrics[f"energy_j.{workload.name}"] = totals[:, i, JOULES]
        violation = np.minimum(totals[:, :, MISFIT].sum(axis=1), 1e6)
        violation += np.maximum(engines.clock_hz / engines.max_clock_hz - 1.0, 0.0)
        for mask in engines.problems.values():
            violation += mask
        for name, values in metrics.items():
            metrics[name] = np.nan_to_num(values, nan=1e30, posinf=1e30)
        metrics["feasible"] = violation == 0.0
        metrics["violation"] = violation
        return metrics

    def _mix(self, columns: np.ndarray) -> np.ndarray:
        """Weighted sum over networks, added in one fixed order whatever the batch."""
        total = np.zeros(len(columns))
        for column, weight in zip(columns.T, self.weights, strict=True):
            total += column * weight
        return total
