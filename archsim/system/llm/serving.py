"""A mix of steps served by a machine: what designs of machine, plan and sizes are worth.

Every row of a batch is one design. Steps of the mix run one after the other, each as often as its
weight says; their times, energies and tokens add up, and what a token takes, costs and emits
follows from the sums.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from archsim.hardware import Machine, NodeTable
from archsim.hardware.carbon import Bill, ownership
from archsim.system.llm.cost import StepCost
from archsim.system.llm.evaluate import BLOCK, evaluate_step
from archsim.system.llm.experts import Composition, CompositionCost, evaluate_compositions
from archsim.system.llm.resolved import Resolved, resolved
from archsim.system.llm.rows import Plans
from archsim.workload.language import LanguageModel
from archsim.workload.steps import Bits

Floats = NDArray[np.float64]
#: Metrics of every mix, in order; ``ttft_s`` needs a prefill step in it, ``tpot_s`` a decode step,
#: ``switch_s`` and ``missing_share`` a composition of experts. With several steps also
#: ``latency_s.STEP`` and ``energy_j.STEP``.
METRICS: tuple[str, ...] = (
    "latency_s",
    "energy_j",
    "ttft_s",
    "tpot_s",
    "tokens_per_s",
    "time_per_token_s",
    "joules_per_token",
    "power_w",
    "dollars_per_hour",
    "dollars_per_mtoken",
    "carbon_g_per_mtoken",
    "price_usd",
    "embodied_kg",
    "area_mm2",
    "devices",
    "memory_share",
    "overflow_bytes",
    "switch_s",
    "missing_share",
)
#: Metrics that only some kinds of steps have.
_OF_PHASE = {"ttft_s": "prefill", "tpot_s": "decode", "switch_s": "experts",
             "missing_share": "experts"}  # fmt: skip


#: What columns of a batch of designs are of.
KINDS = ("hardware", "plan", "size")


@dataclass(frozen=True)
class ServedStep:
    """One kind of step in a mix.

    Attributes:
        label: Its name in metrics.
        model: The model.
        phase: ``prefill``, ``decode``, or ``experts`` for a batch of prompts to a composition.
        batch: Requests.
        context: Tokens in each one's cache after the step.
        new: New tokens of each; None as ``evaluate_step``.
        weight: How often it happens in the mix.
        imbalance: As in ``evaluate_step``.
        composition: Of phase ``experts``.
    """

    label: str
    model: LanguageModel
    phase: str
    batch: int
    context: int
    new: int | None = None
    weight: float = 1.0
    imbalance: float = 1.0
    composition: Composition | None = None


@dataclass(frozen=True)
class Terms:
    """What running a machine costs, see :func:`archsim.hardware.carbon.ownership`."""

    years: float = 4.0
    usd_per_kwh: float = 0.10
    grid_g_per_kwh: float = 380.0
    pue: float = 1.2


@dataclass(frozen=True, eq=False)
class Served:
    """What a batch of designs makes of a mix.

    Attributes:
        metrics: Array [B] by name, see :data:`METRICS`.
        excess: By reason, what a design asks for beyond what there is: logarithms of asked over
            had, or shares; 0 where nothing.
        steps: Cost of every step of the mix (of the first ``BLOCK`` designs).
        bill: What the machines are bought as (of these, too).
        node: Their figures.
    """

    metrics: dict[str, Floats]
    excess: dict[str, Floats]
    steps: tuple[StepCost | CompositionCost, ...] = field(repr=False)
    bill: Bill = field(repr=False)
    node: NodeTable = field(repr=False)

    @classmethod
    def joined(cls, parts: Sequence[Served]) -> Served:
        """Blocks of designs one after the other; the steps' costs are of the first block."""
        if len(parts) == 1:
            return parts[0]
        tables = [
            {
                n: np.concatenate([getattr(p, name)[n] for p in parts])
                for n in getattr(parts[0], name)
            }
            for name in ("metrics", "excess")
        ]
        return cls(tables[0], tables[1], parts[0].steps, parts[0].bill, parts[0].node)

    @property
    def violation(self) -> Floats:
        """Excesses together; 0 where a design is possible."""
        return sum(self.excess.values(), np.zeros(len(self.metrics["latency_s"])))

    def breakdown(self, weights: Sequence[float], row: int = 0) -> dict[str, dict[str, float]]:
        """Where energy, time and area of one of the first ``BLOCK`` designs go.

        Args:
            weights: How often each step happens.
            row: The design.

        Returns:
            ``energy_j``, ``latency_s`` (by what binds) and ``area_mm2`` by component; each sums to
            the metric of that name.
        """
        times: dict[str, float] = {}
        total = 0.0
        for weight, cost in zip(weights, self.steps, strict=True):
            at = min(row, len(cost.latency_s) - 1)
            one_pass = 0.0
            parts = cost.bound_s if isinstance(cost, StepCost) else cost.parts_s
            for name, value in parts.items():
                times[name] = times.get(name, 0.0) + weight * float(value[at])
                one_pass += float(value[at])
            beyond = weight * (float(cost.latency_s[at]) - one_pass)
            times["pipeline"] = times.get("pipeline", 0.0) + beyond
            total += weight * float(cost.latency_s[at])
        idle = float(self.bill.idle_w[min(row, len(self.bill.idle_w) - 1)]) * total
        energy = float(self.metrics["energy_j"][row])
        areas = {}
        at = min(row, self.node.designs - 1)
        for name, part in self.node.parts.items():
            areas[name] = float(np.nan_to_num(part["die_area_mm2"][at]) * part["instances"][at])
        for engine in self.node.engines.values():
            if "bandwidth_factor" in engine:  # units in or under a memory
                units = float(engine["area_mm2"][at] * engine["instances"][at])
                areas["units in memory"] = areas.get("units in memory", 0.0) + units
        area = float(self.metrics["area_mm2"][row])
        more = area - sum(areas.values())
        if more >= 0:
            areas["memory interfaces added"] = more
        else:  # fewer than shipped: the chips, which contain them, are smaller
            areas = {name: part * area / (area - more) for name, part in areas.items()}
        return {
            "energy_j": {"standing power": idle, "kernels, links, copies": energy - idle},
            "latency_s": {name: value for name, value in times.items() if value > 1e-12 * total},
            "area_mm2": {name: value for name, value in areas.items() if abs(value) > 1e-9},
        }

    def reasons(self, row: int = 0) -> list[str]:
        """What is not possible about one design, in words."""
        return [why for why, amount in self.excess.items() if amount[row] > 0]


class Serving:
    """Evaluates designs of a machine that serves a mix of steps.

    Args:
        machine: The machine as shipped.
        steps: The mix.
        bits: Bits an element.
        terms: What running it costs.
    """

    def __init__(
        self,
        machine: Machine,
        steps: Sequence[ServedStep],
        bits: Bits | None = None,
        terms: Terms | None = None,
    ) -> None:
        self.machine, self.steps = machine, tuple(steps)
        self.bits, self.terms = bits or Bits(), terms or Terms()

    @property
    def metric_names(self) -> tuple[str, ...]:
        """Metrics it gives, in order."""
        return metric_names([step.phase for step in self.steps], [s.label for s in self.steps])

    def evaluate(
        self,
        hardware: Mapping[str, ArrayLike],
        plan: Mapping[str, Any] | Plans,
        sizes: Mapping[tuple[str, str], ArrayLike] | None = None,
    ) -> Served:
        """Metrics of designs.

        Args:
            hardware: Values of the machine's fields by dotted path, one or [B].
            plan: Columns of plans, one or [B], see :class:`archsim.system.llm.rows.Plans`.
            sizes: ``batch`` or ``context`` by (label of the step, name), one or [B].

        Raises:
            InputError: A path, a field or a value that cannot be.
        """
        columns: dict[tuple[str, Any], NDArray[Any]]
        columns = {("hardware", n): np.atleast_1d(v) for n, v in hardware.items()}
        columns |= {("plan", n): c for n, c in Plans.of(plan).columns.items()}
        columns |= {("size", n): np.atleast_1d(v) for n, v in (sizes or {}).items()}
        rows = max((len(c) for c in columns.values()), default=1)
        blocks = []
        for start in range(0, rows, BLOCK):
            some = slice(start, start + BLOCK)
            part = {n: c[some] if len(c) == rows else c for n, c in columns.items()}
            of = {kind: {n: c for (k, n), c in part.items() if k == kind} for kind in KINDS}
            blocks.append(self._block(of["hardware"], Plans(of["plan"]), of["size"]))
        return Served.joined(blocks)

    def _block(
        self, hardware: Mapping[str, ArrayLike], plan: Plans,
        sizes: Mapping[Any, ArrayLike],
    ) -> Served:  # fmt: skip
        ready = resolved(self.machine, self.bits, hardware)
        costs = [self._cost(step, ready, hardware, plan, sizes) for step in self.steps]
        node, had = ready.node, ready.bill
        rows = max(node.designs, *(len(cost.latency_s) for cost in costs))
        metrics = self._metrics(costs, had)
        metrics["devices"] = node.devices
        spread = {
            name: np.array(np.broadcast_to(metrics[name], (rows,))) for name in self.metric_names
        }
        excess = {
            why: np.broadcast_to(amount, (rows,)) for why, amount in self._excess(costs).items()
        }
        return Served(spread, excess, tuple(costs), had, node)

    def _cost(
        self, step: ServedStep, ready: Resolved, hardware: Mapping[str, ArrayLike], plan: Plans,
        sizes: Mapping[Any, ArrayLike],
    ) -> StepCost | CompositionCost:  # fmt: skip
        own = {
            name: sizes.get((step.label, name), getattr(step, name))
            for name in ("batch", "context")
        }
        if step.composition is not None:
            return evaluate_compositions(
                step.composition, self.machine, batch=own["batch"], plan=plan, bits=self.bits,
                overrides=hardware,
            )  # fmt: skip
        return evaluate_step(
            step.model, ready, phase=step.phase, **own, new=step.new, plan=plan,
            imbalance=step.imbalance, strict=False,
        )  # fmt: skip

    def _metrics(self, costs: Sequence[StepCost | CompositionCost], had: Bill) -> dict[str, Floats]:
        def mixed(values: Sequence[Floats], phases: set[str] | None = None) -> Floats:
            pairs = zip(self.steps, values, strict=True)
            return sum(  # type: ignore[return-value]
                step.weight * value
                for step, value in pairs
                if phases is None or step.phase in phases
            )

        def worst(metric: str, name: str) -> Floats:
            pairs = zip(self.steps, costs, strict=True)
            found = [getattr(c, name) for s, c in pairs if s.phase == _OF_PHASE[metric]]
            return reduce(np.maximum, found) if found else np.zeros(1)

        time = mixed([cost.latency_s for cost in costs])
        energy = mixed([cost.energy_j for cost in costs])
        answering = {"decode", "experts"} & {step.phase for step in self.steps}
        tokens = mixed([cost.tokens for cost in costs], answering or None)
        power = energy / time
        owned = ownership(had, power, **vars(self.terms))
        found = {
            "latency_s": time,
            "energy_j": energy,
            "ttft_s": worst("ttft_s", "latency_s"),
            "tpot_s": worst("tpot_s", "latency_s"),
            "tokens_per_s": tokens / time,
            "time_per_token_s": time / tokens,
            "joules_per_token": energy / tokens,
            "power_w": power,
            "dollars_per_hour": owned.usd_per_s * 3600.0,
            "dollars_per_mtoken": owned.usd_per_s * time / tokens * 1e6,
            "carbon_g_per_mtoken": owned.kg_co2e_per_s * 1e3 * time / tokens * 1e6,
            "price_usd": had.price_usd,
            "embodied_kg": had.embodied_kg_co2e,
            "area_mm2": had.area_mm2,
            "memory_share": reduce(np.maximum, [cost.held_share for cost in costs]),
            "overflow_bytes": reduce(np.maximum, [cost.overflow_bytes for cost in costs]),
            "switch_s": worst("switch_s", "switch_s"),
            "missing_share": worst("missing_share", "missing"),
        }
        for step, cost in zip(self.steps, costs, strict=True):
            found |= {
                f"latency_s.{step.label}": cost.latency_s,
                f"energy_j.{step.label}": cost.energy_j,
            }
        return found

    def _excess(self, costs: Sequence[StepCost | CompositionCost]) -> dict[str, Floats]:
        """What goes beyond, the worst of all steps by reason."""
        found: dict[str, Floats] = {}
        for cost in costs:
            for why, amount in cost.beyond.items():
                found[why] = np.maximum(found[why], amount) if why in found else amount
        return found


def metric_names(phases: Sequence[str], labels: Sequence[str]) -> tuple[str, ...]:
    """Metrics of a mix of steps of these phases and labels, in order."""
    names = [n for n in METRICS if _OF_PHASE.get(n, phases[0]) in phases]
    if len(labels) > 1:
        names += [f"{metric}.{label}" for label in labels for metric in ("latency_s", "energy_j")]
    return tuple(names)
