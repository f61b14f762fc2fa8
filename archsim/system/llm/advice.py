"""What would make a step shorter: the step again on a machine with a little more of each thing."""

from __future__ import annotations

from typing import Any

import numpy as np

from archsim.hardware import Machine, resolve_node
from archsim.hardware.devices import RatedEngine
from archsim.hardware.pim import PimEngine
from archsim.system.llm.evaluate import evaluate_step
from archsim.workload.language import LanguageModel

#: Figures of tiers and links of which more (or less latency) may help, with their direction.
_TIER = {"bandwidth_bytes_per_s": 1}
_LINK = {"bandwidth_bytes_per_s": 1, "latency_s": -1}


def savings(
    model: LanguageModel | str, machine: Machine, *, more: float = 0.1, **step: Any
) -> dict[str, float]:
    """Share of a step's time that a little more of each thing saves, most first.

    Every tier's bandwidth, every link's bandwidth and latency, the rate of the matrix units, and
    on GPUs the number of SMs (at the rate each has) and the L2, and of units in memory their
    bandwidth and multipliers, are bettered one at a time.

    Args:
        model: The model, as for ``evaluate_step``.
        machine: The machine.
        more: How much more, as a share.
        **step: Phase, sizes and plan of one step, as for ``evaluate_step``.

    Returns:
        Share saved by what is bettered; things that save nothing are left out.

    Raises:
        InputError: The step is wrong.

    Example:
        >>> from archsim.hardware import load_machine
        >>> found = savings("llama-3-70b", load_machine("h100x8"), batch=1, plan="tp8")
        >>> 0 < found["hbm bandwidth"] < 0.1
        True
    """
    changes = _changes(machine, 1.0 + more)
    rows = len(changes) + 1
    overrides: dict[str, np.ndarray] = {}
    for row, change in enumerate(changes.values()):
        for path, (before, after) in change.items():
            column = overrides.setdefault(path, np.full(rows, before))
            column[row] = after
    found = evaluate_step(model, machine, overrides=overrides, **step).latency_s
    saved = {name: 1.0 - found[row] / found[-1] for row, name in enumerate(changes)}
    ranked = sorted(saved.items(), key=lambda item: -item[1])
    return {name: float(share) for name, share in ranked if share > 0}


def _changes(machine: Machine, factor: float) -> dict[str, dict[str, tuple[float, float]]]:
    """By what is bettered: path, value as it is, value bettered."""
    node, leaves = resolve_node(machine), machine.leaves()
    found: dict[str, dict[str, tuple[float, float]]] = {}

    def better(name: str, path: str, value: float, times: float, whole: bool = False) -> None:
        leaf = leaves.get(path)
        if leaf is None or leaf.structural or not np.isfinite(value) or value <= 0:
            return
        after = np.ceil(value * times) if whole else value * times
        high = np.inf if leaf.maximum is None else leaf.maximum
        found.setdefault(name, {})[path] = (float(value), float(min(after, high)))

    for kind, table, wanted in (("tiers", node.tiers, _TIER), ("links", node.links, _LINK)):
        for name, figures in table.items():
            for field, direction in wanted.items():
                word = "latency" if direction < 0 else "bandwidth"
                value = float(figures[field][0])
                better(f"{name} {word}", f"{kind}.{name}.{field}", value, factor**direction)
    engine = machine.engines[0]
    if isinstance(engine, RatedEngine):
        path, figures = f"engines.{engine.name}.", node.engines[engine.name]
        rates = [f"rates.{rate.name}.flops_per_s" for rate in engine.rates]
        for rate in rates:
            better("matrix units", path + rate, float(figures[rate][0]), factor)
        if "sms" in figures:
            sms = float(figures["sms"][0])
            better("SMs", path + "sms", sms, factor, whole=True)
            for rate in rates:
                better("SMs", path + rate, float(figures[rate][0]), np.ceil(sms * factor) / sms)
            better("L2", path + "l2_bytes", float(figures["l2_bytes"][0]), factor)
    for inside in machine.engines:
        if isinstance(inside, PimEngine):
            path = f"engines.{inside.name}."
            better(
                f"{inside.name} bandwidth", path + "bandwidth_scale", inside.bandwidth_scale, factor
            )
            better(f"{inside.name} multipliers", path + "macs", inside.macs, factor)
    return found
