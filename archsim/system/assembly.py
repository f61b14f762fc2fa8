"""The cost of one network on one machine, put together with the reason behind every number."""

from __future__ import annotations

from typing import Any

import numpy as np

from archsim.hardware import EngineTable
from archsim.models.loopnest import kernel as k
from archsim.models.loopnest.mapping import OPERANDS, Mapping
from archsim.models.loopnest.nest import Nest
from archsim.system import network
from archsim.system.cost import Cost, LayerCost, Traffic
from archsim.system.network import NetworkEvaluator
from archsim.workload import Workload


class Assembly:
    """Puts a :class:`Cost` together from the arrays of a one-design run."""

    def __init__(
        self, workload: Workload, name: str, engines: EngineTable, evaluator: NetworkEvaluator
    ) -> None:
        self.workload, self.name, self.engines, self.evaluator = workload, name, engines, evaluator
        self._run()
        self.steps = evaluator.table.steps
        self.clock = float(engines.clock_hz[0])
        nest, engine = self.nest, self.nest.engine[0]
        self.leak_w = {
            "mac": engine[k.MAC_LEAK_W] * engine[k.MAC_COUNT],
            "vector": float(engines.vector_leakage_w[0]),
            **{
                slot: nest.slot_table[0, s, k.LEAK_W] * nest.slot_table[0, s, k.INSTANCES]
                for s, slot in enumerate(nest.names)
            },
        }

    def _run(self) -> None:
        """Metrics, the nest, and every unique einsum's mapping, results and counts."""
        self.metrics = self.evaluator.evaluate(self.engines)
        _, details, self.nest = self.evaluator.run(self.engines, details=True)
        self.results, self.factors, self.orders, self.kept = (array[0] for array in details)
        self.counts = self._count()

    def _count(self) -> np.ndarray:
        nest: Nest = self.nest
        problems = self.evaluator.table.problems
        n, slots = len(problems), len(nest.names)
        counts = np.zeros((n, slots, 3, 3))
        rows = np.arange(n)
        k.evaluate_rows(
            rows, np.zeros(n, np.int64), problems.floats, problems.ints, self.factors, self.orders,
            self.kept, nest.fanout, False, nest.slot_table, nest.engine,
            np.zeros((n, k.RESULTS)), counts,
        )  # fmt: skip
        return counts

    def cost(self) -> Cost:
        layers = []
        for row, step in zip(
            self.evaluator.table.names[0], self.evaluator.table.plans[0], strict=True
        ):
            layers.append(self._layer(row, step))
        energy: dict[str, float] = {}
        for layer in layers:
            for component, joules in layer.energy_by_component_j.items():
                energy[component] = energy.get(component, 0.0) + joules
        feasible = bool(self.metrics.pop("feasible")[0])
        from archsim.hardware import DATAFLOWS

        return Cost(
            self.workload.name,
            self.name,
            DATAFLOWS[int(self.engines.dataflow[0])],
            {name: float(values[0]) for name, values in self.metrics.items()},
            feasible,
            tuple(self._reasons(layers)),
            energy,
            {name: float(area[0]) for name, area in self.engines.area_mm2.items()},
            tuple(layers),
        )

    def _reasons(self, layers: list[LayerCost]) -> list[str]:
        found = list(self.engines.reasons(0))
        limit = float(self.engines.max_clock_hz[0])
        if self.clock > limit:
            found.append(
                f"clock {self.clock:.3g} Hz exceeds the {limit:.3g} Hz the components allow"
            )
        for layer, row in zip(layers, self.evaluator.table.names[0], strict=True):
            if layer.overflow > 0:
                slot = self._fullest(int(self.steps[row, network.PROBLEM]))
                found.append(
                    f"layer {layer.name}: its smallest tile overflows {slot} "
                    f"by {layer.overflow:.0%}"
                )
        return found

    def _fullest(self, o: int) -> str:
        """The storage the mapping of problem ``o`` overflows most."""
        nest, problems = self.nest, self.evaluator.table.problems
        stores = np.flatnonzero(~nest.fanout)
        n = len(stores)
        # One engine a storage, all others being unlimited.
        tables = np.repeat(nest.slot_table[:1], n, axis=0)
        limits = tables[0, stores, k.CAPACITY]
        tables[:, :, k.CAPACITY] = np.inf
        tables[np.arange(n), stores, k.CAPACITY] = limits
        results = np.zeros((n, k.RESULTS))
        k.evaluate_rows(
            np.full(1, o), np.arange(n), problems.floats, problems.ints,
            np.repeat(self.factors[o : o + 1], n, axis=0),
            np.repeat(self.orders[o : o + 1], n, axis=0), self.kept[o : o + 1], nest.fanout, False,
            tables, np.repeat(nest.engine[:1], n, axis=0), results, np.zeros((0, 0, 3, 3)),
        )  # fmt: skip
        return nest.names[stores[results[:, k.OVERFLOW].argmax()]]

    def _layer(self, row: int, step: Any) -> LayerCost:
        table, nest, engines = self.steps[row], self.nest, self.engines
        vector_cycles, moved, vector_energy = network.vector_cost(
            row, self.steps, nest.slot_table, nest.engine, 0, engines.vector_lanes,
            engines.vector_op_energy_j, np.ascontiguousarray(engines.bits),
        )  # fmt: skip
        bits = engines.bits[0]
        read = table[network.WEIGHTS_READ] * bits[1] + table[network.VALUES_READ] * bits[0]
        vector_bits = read + table[network.WRITTEN] * bits[2]
        op_energy = table[network.VECTOR_OPS] * float(engines.vector_op_energy_j[0])
        tier = nest.names[0]
        energy = {slot: 0.0 for s, slot in enumerate(nest.names) if not nest.fanout[s]}
        energy.update(network=0.0, mac=0.0, vector=op_energy)
        energy[tier] += vector_energy - op_energy
        tensors = dict.fromkeys(OPERANDS, 0.0)
        o = int(table[network.PROBLEM])
        traffic: tuple[Traffic, ...] = ()
        mapping, compute, overflow, backing = None, 0.0, 0.0, vector_bits / 8
        if o >= 0:
            result = self.results[o]
            traffic = tuple(self._traffic(o))
            for entry in traffic:
                energy[entry.slot] += entry.energy_j
                tensors[entry.operand] += entry.energy_j
            energy["mac"] = float(result[k.MAC_ENERGY_J])
            energy["network"] = float(result[k.NETWORK_J])
            backing += self._tier_bits(o) / 8
            compute, overflow = float(result[k.COMPUTE_CYCLES]), float(result[k.OVERFLOW])
            mapping = self._mapping(o)
            array_cycles = float(result[k.CYCLES]) + moved
            cycles = max(float(vector_cycles), array_cycles)
            slot = int(result[k.BOUND_SLOT])
            bound = "compute" if slot < 0 else nest.names[slot]
            if moved > result[k.CYCLES] - compute and slot < 0 and moved > compute:
                bound = tier
            bound = bound if array_cycles >= vector_cycles else "vector"
        else:
            cycles = max(float(vector_cycles), float(moved))
            bound = tier if moved > vector_cycles else "vector"
        seconds = cycles / self.clock
        energy["standby"] = float(self.leak_w[tier]) * seconds
        energy["leakage"] = float(sum(self.leak_w.values())) * seconds - energy["standby"]
        peak = float(engines.macs[0] / engines.mac_cycles[0])
        return LayerCost(
            step.name,
            step.operation.kind,
            tuple(op.name for op in step.fused),
            step.operation.macs,
            step.vector_ops,
            seconds,
            cycles,
            compute,
            bound,
            step.operation.macs / (cycles * peak) if cycles else 0.0,
            sum(energy.values()),
            energy,
            tensors,
            backing,
            traffic,
            mapping,
            overflow,
        )

    def _tier_bits(self, o: int) -> float:
        nest, counts = self.nest, self.counts[o, 0]
        bits = float((counts.sum(axis=1) * nest.slot_table[0, 0, k.BITS : k.BITS + 3]).sum())
        return bits - self._final_saving(o)

    def _final_saving(self, o: int) -> float:
        """Bits the tier saves because finished outputs are narrower than partial sums."""
        problems = self.evaluator.table.problems
        size = problems.floats[o, len(problems.dims) + k.SIZE + k.OUTPUT]
        narrow = self.nest.slot_table[0, 0, k.BITS + k.OUTPUT] - self.nest.engine[0, k.FINAL_BITS]
        return float(size * narrow)

    def _traffic(self, o: int) -> list[Traffic]:
        """The kernel's own pricing of storage traffic, kept apart by storage and operand."""
        nest, found, used = self.nest, [], 1.0
        extents = self.evaluator.table.problems.extents[o]
        inside = np.vstack([np.cumprod(self.factors[o][::-1], axis=0)[::-1], np.ones(len(extents))])
        for s, slot in enumerate(nest.names):
            if nest.fanout[s]:
                used *= float(
                    np.minimum(self.factors[o, s], np.ceil(extents / inside[s + 1])).prod()
                )
                continue
            row = nest.slot_table[0, s]
            for t, operand in enumerate(OPERANDS):
                if not self.kept[o, s, t]:
                    continue
                bits = self.counts[o, s, t] * row[k.BITS + t]
                if s == 0 and t == k.OUTPUT:
                    bits[k.UPDATES] -= self._final_saving(o)
                blocks = bits / (row[k.BLOCK] * used)
                accesses = np.ceil(blocks - 1e-12 * blocks) * used
                joules = accesses @ row[[k.READ_J, k.WRITE_J, k.WRITE_J]]
                reads, fills, updates = (float(x) for x in self.counts[o, s, t])
                found.append(Traffic(slot, operand, reads, fills, updates, float(joules)))
        return found

    def _mapping(self, o: int) -> Mapping:
        problems = self.evaluator.table.problems
        return Mapping(
            self.nest.names,
            problems.dims,
            tuple(int(x) for x in problems.extents[o]),
            self.nest.fanout,
            self.kept[o],
            self.factors[o],
            self.orders[o],
        )
