"""The report of one network on hardware whose cost takes more than the compiled kernel."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from archsim.models.loopnest import kernel as k
from archsim.models.loopnest.mapping import OPERANDS, Mapping
from archsim.models.sparse.model import ACTUAL
from archsim.system import network
from archsim.system.assembly import Assembly
from archsim.system.cost import Cost, LayerCost, Traffic
from archsim.system.sparse import SparseLayer, SparseNetwork, layer_figures


class SparseAssembly(Assembly):
    """As the dense one, layer by layer from the sparse model."""

    def _run(self) -> None:
        evaluator, engines = self.evaluator, self.engines
        self.sparse = SparseNetwork(evaluator, engines)
        self.nest = self.sparse.nest
        self.metrics = evaluator.metrics(engines, self.sparse.totals())
        self.dense = None
        if engines.knows_zeros:
            dense = evaluator.metrics(engines, evaluator.run(engines, bypass=False)[0])
            self.dense = {name: float(dense[name][0]) for name in ("latency_s", "energy_j")}
        self.results: dict[int, np.ndarray] = {}
        self.current: dict[int, SparseLayer] = {}

    def cost(self) -> Cost:
        return replace(super().cost(), dense=self.dense)

    def _layer(self, row: int, step: Any) -> LayerCost:
        o = int(self.steps[row, network.PROBLEM])
        if o < 0:
            return super()._layer(row, step)
        layer = self.sparse.layer(self.workload, step, o)
        found = np.zeros(k.RESULTS)
        cost = layer.cost
        found[[k.CYCLES, k.ENERGY_J, k.COMPUTE_CYCLES, k.BOUND_SLOT, k.OVERFLOW]] = (
            cost.cycles, cost.energy_j, cost.compute_cycles, cost.bound_slot, cost.overflow
        )  # fmt: skip
        found[[k.MAC_ENERGY_J, k.NETWORK_J, k.LEAK_J]] = cost.mac_j, cost.network_j, cost.leak_j
        self.results[o], self.current[o] = found, layer
        dense = super()._layer(row, step)
        done = layer.counts.computes.actual / step.operation.macs
        return replace(dense, utilization=dense.utilization * done, detail=layer_figures(layer))

    def _fullest(self, o: int) -> str:
        held = self.current[o].held_bits / np.maximum(self.nest.slot_table[0, :, k.CAPACITY], 1.0)
        return self.nest.names[int(np.argmax(np.where(self.nest.fanout, 0.0, held)))]

    def _tier_bits(self, o: int) -> float:
        return self.current[o].cost.tier_bits

    def _traffic(self, o: int) -> list[Traffic]:
        layer, found = self.current[o], []
        for s, slot in enumerate(self.nest.names):
            for t, operand in enumerate(OPERANDS):
                if layer.nest.keep[s, t]:
                    reads, fills, updates = (float(x) for x in layer.counts.words[s, t, :, ACTUAL])
                    joules = layer.cost.data_j[s, t] + layer.cost.metadata_j[s, t]
                    found.append(Traffic(slot, operand, reads, fills, updates, float(joules)))
        return found

    def _mapping(self, o: int) -> Mapping:
        nest = self.current[o].nest
        return Mapping(
            self.nest.names,
            nest.dims,
            tuple(int(x) for x in nest.extents),
            nest.fanout,
            nest.keep,
            nest.factors,
            nest.order,
        )
