"""Whole networks on arrays of dot-product units: costs of many designs at once, and one explained.

Layers run one after the other on the array; vector operations run on the vector unit, fused ones
beside the layer that produces their input (``archsim.system.fusion``). What vector operations read
and write is counted at the width of the inputs. Equal layers are priced once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from archsim.errors import InputError
from archsim.hardware import DotProductEngine, Machine, VectorEngine, resolve_node
from archsim.hardware.components import vector_lane
from archsim.hardware.sram import sram
from archsim.hardware.values import Values
from archsim.models.dot_product import (
    BUFFER_WORD_BITS,
    DotProductArray,
    ProductCost,
    Products,
    evaluate_products,
    terms,
)
from archsim.models.systolic import matrix_sizes
from archsim.system.cost import Cost, LayerCost
from archsim.system.fusion import Step, plan_steps
from archsim.workload.graph import Workload
from archsim.workload.quality import perplexity

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class ArrayTable:
    """Figures of B designs of one machine; arrays are float64[B, 1] where not said otherwise.

    Attributes:
        array: As the model takes them.
        clock_hz: Of the array.
        lanes, op_energy_j: Of the vector unit.
        leakage_w: Of buffers and lanes.
        standby_w: Of the memory.
        areas_mm2: By component, float64[B].
        format: Number format of the weights.
        group_size: Float64[B]; NaN for none.
        backing: Name of the memory.
        bandwidth_bytes_per_s: Of the memory, float64[B].
        problems: bool[B] by reason.
    """

    array: DotProductArray
    clock_hz: Floats
    lanes: Floats
    op_energy_j: Floats
    leakage_w: Floats
    standby_w: Floats
    areas_mm2: dict[str, Floats]
    format: str
    group_size: Floats
    backing: str
    bandwidth_bytes_per_s: Floats
    problems: dict[str, NDArray[np.bool_]]

    @property
    def peak_macs_per_s(self) -> Floats:
        """Multiply-accumulates of weights a second with every unit busy, float64[B]."""
        a = self.array
        units = np.asarray(a.rows) * np.asarray(a.columns) * np.asarray(a.lanes)
        return (units / terms(a.weight_bits, a.serial_bits) * self.clock_hz)[:, 0]

    @property
    def area_mm2(self) -> Floats:
        """All components, float64[B]."""
        return sum(self.areas_mm2.values(), np.zeros(len(self.clock_hz)))


def resolve_arrays(
    machine: Machine, overrides: Mapping[str, ArrayLike] | None = None
) -> ArrayTable:
    """Figures of a machine's dot-product array for B designs.

    Args:
        machine: The base machine.
        overrides: Values by dotted path, scalars or arrays of one common length B.

    Raises:
        InputError: The machine has no such array or no vector unit, or a path is unknown.
    """
    engine, unit = (_first(machine, kind) for kind in (DotProductEngine, VectorEngine))
    node, values = resolve_node(machine, overrides), Values(machine, "", overrides or {})
    size = (node.designs, 1)

    def column(figure: ArrayLike) -> Floats:
        found = np.asarray(figure, np.float64).reshape(-1, 1)
        return np.array(np.broadcast_to(found, size))

    given = {name: column(values) for name, values in node.engines[engine.name].items()}
    tier = {name: column(values) for name, values in node.tiers[engine.backing].items()}
    nm = column(values("technology_nm"))
    stored = given["weight_bits"] + np.where(
        given["group_bits"] > 0, given["group_bits"] / given["group_size"], 0.0
    )
    clock = given["clock_hz"]
    array = DotProductArray(
        **{name: given[name] for name in _DIRECT},
        stored_bits=stored,
        banks=given["buffer_banks"],
        tier_bits_per_cycle=tier["bandwidth_bytes_per_s"] * 8.0 / clock,
        tier_read_j_per_bit=tier["read_energy_j_per_bit"],
        tier_write_j_per_bit=tier["write_energy_j_per_bit"],
        node_nm=nm,
    )
    problems = dict(node.problems)
    for why, mask in (
        ("columns must divide by the fold", given["columns"] % given["fold"] != 0),
        ("metadata of groups needs their size", np.isnan(stored)),
    ):
        if mask.any():
            problems[f"engines.{engine.name}: {why}"] = mask[:, 0]
    array = _whole(array)
    path = f"engines.{unit.name}."
    lane = vector_lane(
        given["input_bits"], column(values(path + "registers")), nm, unit.component == "fp_alu"
    )
    lanes = column(values(path + "lanes"))
    buffers = _buffers(array)
    areas = {
        "units": given["unit_area_mm2"] * given["rows"] * given["columns"],
        **{name: figures["area_mm2"] for name, figures in buffers.items()},
        "simd": column(values.or_else(path + "area_mm2", lane["area_mm2"] * lanes)),
    }
    areas["overhead"] = column(values("area_overhead")) * sum(areas.values())
    areas["dram_phy"] = column(values.or_else(f"tiers.{engine.backing}.phy_area_mm2", 0.0))
    leakage = column(values.or_else(path + "leakage_w", lane["leakage_w"] * lanes))
    for figures in buffers.values():
        leakage = leakage + figures["leakage_w"]
    return ArrayTable(
        array,
        clock,
        lanes,
        column(values.or_else(path + "op_energy_j", lane["energy_j"])),
        leakage,
        tier["background_power_w"],
        {name: area[:, 0] for name, area in areas.items()},
        engine.weight_format,
        given["group_size"][:, 0],
        engine.backing,
        tier["bandwidth_bytes_per_s"][:, 0],
        problems,
    )


_DIRECT = (
    "rows", "columns", "fold", "lanes", "serial_bits", "weight_bits", "input_bits", "kv_bits",
    "weight_buffer_bytes", "input_buffer_bytes", "unit_energy_j",
)  # fmt: skip


def _whole(array: DotProductArray) -> DotProductArray:
    """The array with NaN (metadata without a group size; flagged as a problem) made harmless."""
    stored, plain = np.asarray(array.stored_bits), np.asarray(array.weight_bits)
    return replace(array, stored_bits=np.where(np.isnan(stored), plain, stored))


def _buffers(a: DotProductArray) -> dict[str, dict[str, Floats]]:
    """Area and leakage of both buffers, at the width of the array as it stands unfolded."""
    share = np.where(np.isnan(a.serial_bits), 1.0, 2.0)
    row = np.ceil(np.asarray(a.stored_bits) / BUFFER_WORD_BITS) * BUFFER_WORD_BITS
    widths = {
        "weight_buffer": row * a.lanes * a.rows / share,
        "input_buffer": np.asarray(a.lanes) * a.input_bits * a.columns / share,
    }
    sizes = {"weight_buffer": a.weight_buffer_bytes, "input_buffer": a.input_buffer_bytes}
    return {
        name: sram(np.asarray(sizes[name]) * 8.0, width, a.banks, a.node_nm)
        for name, width in widths.items()
    }


def _first(machine: Machine, kind: type) -> Any:
    for engine in machine.engines:
        if isinstance(engine, kind):
            return engine
    word = "dot_product" if kind is DotProductEngine else "vector"
    raise InputError(
        f"this machine has no {word} engine",
        source=machine.name,
        field="engines",
        found=", ".join(engine.kind for engine in machine.engines),
    )


# -------------------------------------------------------------------------------- the workloads


@dataclass(frozen=True, eq=False)
class _Steps:
    """K unique steps: their products (zeros where a step is none), vector work, and counts."""

    products: Products
    einsum: NDArray[np.bool_]
    vector: Floats  # [K, 3]: scalar operations, elements read, elements written
    counts: Floats  # [networks, K]
    rows: tuple[tuple[int, ...], ...]
    plans: tuple[tuple[Step, ...], ...]


def _tabulate(workloads: Sequence[Workload], fuse: bool) -> _Steps:
    table: dict[tuple, int] = {}
    rows, plans = [], []
    for workload in workloads:
        plan = plan_steps(workload, fuse)
        own = [table.setdefault(_key(workload, step), len(table)) for step in plan]
        rows.append(tuple(own))
        plans.append(tuple(plan))
    if not table:
        raise InputError("the workload computes nothing", field=workloads[0].name)
    columns = np.array(list(table), np.float64).T
    n, k, m, copies, cached, words, ops, read, written = columns
    counts = np.array([np.bincount(own, minlength=len(table)) for own in rows], np.float64)
    return _Steps(
        Products(n, k, m, copies, cached > 0, words),
        copies > 0,
        np.stack([ops, read, written], axis=1),
        counts,
        tuple(rows),
        tuple(plans),
    )


def _key(workload: Workload, step: Step) -> tuple:
    einsum = step.operation.einsum
    read, written = sum(step.read_elements), step.written_elements
    if einsum is None:
        return (1, 1, 1, 0, 0, 0, step.vector_ops, read, written)
    tokens, outputs, reduction, copies = matrix_sizes(einsum)
    data, weight = (workload.tensors[access.tensor] for access in einsum.operands[:2])
    cached = weight.role not in ("weight", "constant")
    words = data.elements / copies
    return (
        outputs, reduction, tokens, copies, int(cached), words, step.vector_ops, read, 0,
    )  # fmt: skip


class DotProductEvaluator:
    """Costs of networks on designs of one machine with a dot-product array.

    Args:
        workloads: The networks.
        weights: How often each runs, relative to the others.
        machine: The base machine.
        names: Of the networks, in metrics; default their own.
        fuse: Fuse elementwise operations into their producers.

    Raises:
        InputError: No workload, weights that do not match, or the machine has no such array.
    """

    def __init__(
        self,
        workloads: Sequence[Workload],
        weights: Sequence[float] | None,
        machine: Machine,
        names: Sequence[str] | None = None,
        fuse: bool = True,
    ) -> None:
        if not workloads:
            raise InputError("at least one workload is needed", field="workloads")
        given = [1.0] * len(workloads) if weights is None else list(weights)
        if len(given) != len(workloads) or not all(0 < w < np.inf for w in given):
            raise InputError("one positive weight a workload", field="weights", found=given)
        self.machine, self.weights = machine, np.array(given)
        self.names = tuple(names or (w.name for w in workloads))
        self.models = tuple(dict.fromkeys(w.name.partition(":")[0] for w in workloads))
        self.steps = _tabulate(workloads, fuse)
        self.worst = self._worst_published()

    def price(self, table: ArrayTable) -> tuple[ProductCost, dict[str, Floats]]:
        """The products, and of every step [B, K]: ``cycles``, ``seconds`` and the vector parts."""
        steps = self.steps
        cost = evaluate_products(steps.products, table.array)
        ops, read, written = steps.vector.T
        width = np.asarray(table.array.input_bits)
        moved = (read + written) * width
        memory = cost.memory_cycles * steps.einsum + moved / table.array.tier_bits_per_cycle
        compute = cost.compute_cycles * steps.einsum
        vector = np.ceil(ops / table.lanes)
        cycles = np.maximum(np.maximum(compute, memory), vector)
        parts = {
            "cycles": cycles, "compute": compute, "memory": memory, "vector": vector,
            "seconds": cycles / table.clock_hz, "vector_bits": moved + 0.0 * cycles,
            "vector_j": ops * table.op_energy_j,
            "vector_tier_j": read * width * table.array.tier_read_j_per_bit
            + written * width * table.array.tier_write_j_per_bit,
        }  # fmt: skip
        return cost, parts

    def evaluate(self, overrides: Mapping[str, ArrayLike] | None = None) -> dict[str, np.ndarray]:
        """Metrics of B designs.

        Args:
            overrides: Machine values by dotted path, scalars or arrays of one length B.

        Returns:
            Float64[B] by name, always finite: ``latency_s``, ``energy_j`` (weighted sums),
            ``area_mm2``, ``power_w``, ``edp_js``, ``utilization``, ``throughput_per_s``; with
            several networks ``latency_s.NAME`` and ``energy_j.NAME``; ``perplexity`` where one
            is published for the (only) model on the machine as it is; designs for which none is
            are infeasible and get the worst one. ``feasible`` and ``violation`` as for other
            machines.
        """
        table = resolve_arrays(self.machine, overrides)
        cost, parts = self.price(table)
        joules = cost.energy_j * self.steps.einsum + parts["vector_j"] + parts["vector_tier_j"]
        joules = joules + (table.leakage_w + table.standby_w) * parts["seconds"]
        seconds_each, joules_each = self._each(parts["seconds"]), self._each(joules)
        seconds, energy = self._mix(seconds_each), self._mix(joules_each)
        macs = self._mix(self._each((self.steps.products.macs * self.steps.einsum)[None, :]))
        metrics = {
            "latency_s": seconds,
            "energy_j": energy,
            "area_mm2": table.area_mm2,
            "power_w": energy / seconds,
            "edp_js": energy * seconds,
            "utilization": macs / (seconds * table.peak_macs_per_s),
            "throughput_per_s": self.weights.sum() / seconds,
        }
        if len(self.names) > 1 and len(set(self.names)) == len(self.names):
            for index, name in enumerate(self.names):
                metrics[f"latency_s.{name}"] = seconds_each[:, index]
                metrics[f"energy_j.{name}"] = joules_each[:, index]
        violation = np.zeros(len(seconds))
        for mask in table.problems.values():
            violation += mask
        violation += self._quality(table, metrics)
        metrics = {n: np.nan_to_num(v, nan=1e30, posinf=1e30) for n, v in metrics.items()}
        metrics["feasible"] = violation == 0.0
        metrics["violation"] = violation
        return metrics

    def _each(self, columns: Floats) -> Floats:
        """Sums over the steps of every network, [B, networks]; the same whatever the batch."""
        return (columns[:, None, :] * self.steps.counts).sum(axis=-1)

    def _mix(self, columns: Floats) -> Floats:
        """Weighted sum over networks, [B], added in one fixed order whatever the batch."""
        total = np.zeros(len(columns))
        for column, weight in zip(columns.T, self.weights, strict=True):
            total += column * weight
        return total

    def _quality(self, table: ArrayTable, metrics: dict[str, np.ndarray]) -> Floats:
        """Add the perplexity, where there is one; float64[B]: 1 for designs without."""
        if self.worst is None:
            return np.zeros(len(table.clock_hz))
        bits = np.asarray(table.array.weight_bits)[:, 0]
        found = perplexity(self.models[0], table.format, bits, table.group_size)
        missing = np.isnan(found)
        metrics["perplexity"] = np.where(missing, self.worst, found)
        return missing.astype(np.float64)

    def _worst_published(self) -> float | None:
        """The highest perplexity published for the format; None where the machine has none."""
        if len(self.models) > 1:
            return None
        table = resolve_arrays(self.machine)
        bits = np.asarray(table.array.weight_bits)[0]
        if np.isnan(perplexity(self.models[0], table.format, bits, table.group_size)).any():
            return None
        every = perplexity(self.models[0], table.format, np.arange(1.0, 65.0), table.group_size)
        return float(np.nanmax(every))


def dot_product_cost(workload: Workload, machine: Machine, fuse: bool = True) -> Cost:
    """Cost of one network on one machine with a dot-product array, layer by layer.

    Raises:
        InputError: The machine has no such array.
    """
    evaluator = DotProductEvaluator([workload], None, machine, fuse=fuse)
    metrics = evaluator.evaluate()
    table = resolve_arrays(machine)
    cost, parts = evaluator.price(table)
    layers = []
    for row, step in zip(evaluator.steps.rows[0], evaluator.steps.plans[0], strict=True):
        layers.append(_layer(step, row, evaluator.steps, cost, parts, table))
    energy: dict[str, float] = {}
    for layer in layers:
        for name, joules in layer.energy_by_component_j.items():
            energy[name] = energy.get(name, 0.0) + joules
    feasible = bool(metrics.pop("feasible")[0])
    reasons = [why for why, mask in table.problems.items() if mask[0]]
    return Cost(
        workload.name,
        machine.name,
        "output_stationary",
        {name: float(values[0]) for name, values in metrics.items()},
        feasible,
        tuple(reasons),
        energy,
        {name: float(area[0]) for name, area in table.areas_mm2.items()},
        tuple(layers),
    )


def _layer(
    step: Step,
    row: int,
    steps: _Steps,
    cost: ProductCost,
    parts: dict[str, Floats],
    table: ArrayTable,
) -> LayerCost:
    at = {name: float(values[0, row]) for name, values in parts.items()}
    seconds, einsum = at["seconds"], bool(steps.einsum[row])
    energy = {"units": 0.0, "weight_buffer": 0.0, "input_buffer": 0.0}
    energy |= {table.backing: at["vector_tier_j"], "vector": at["vector_j"]}
    tensors = dict.fromkeys(("input", "weight", "output"), 0.0)
    moved = at["vector_bits"]
    if einsum:
        priced = {n: float(getattr(cost, n)[0, row]) for n in ProductCost.__dataclass_fields__}
        energy["units"] = priced["unit_j"]
        energy["weight_buffer"] = priced["weight_buffer_j"]
        energy["input_buffer"] = priced["input_buffer_j"]
        energy[table.backing] += priced["tier_j"]
        a = table.array
        for name, rate in (("weight", a.tier_read_j_per_bit), ("input", a.tier_read_j_per_bit),
                           ("output", a.tier_write_j_per_bit)):  # fmt: skip
            bits = priced[f"{name}_bits_moved"]
            moved += bits
            tensors[name] = bits * float(np.asarray(rate)[0, 0])
        tensors["weight"] += priced["weight_buffer_j"]
        tensors["input"] += priced["input_buffer_j"]
    energy["leakage"] = float(table.leakage_w[0, 0]) * seconds
    energy["standby"] = float(table.standby_w[0, 0]) * seconds
    limits = {"compute": at["compute"], table.backing: at["memory"], "vector": at["vector"]}
    peak = float(table.peak_macs_per_s[0])
    macs = step.operation.macs
    return LayerCost(
        step.name, step.operation.kind, tuple(op.name for op in step.fused), macs, step.vector_ops,
        seconds, at["cycles"], at["compute"], max(limits, key=limits.__getitem__),
        macs / (seconds * peak) if seconds else 0.0, sum(energy.values()), energy, tensors,
        moved / 8.0,
    )  # fmt: skip


__all__ = ["ArrayTable", "DotProductEvaluator", "dot_product_cost", "resolve_arrays"]
