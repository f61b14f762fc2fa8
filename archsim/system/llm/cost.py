"""What a step of a language model costs, and why, for many rows at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from archsim.system.llm.rows import Plans

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class StepCost:
    """What a step costs under each of B plans and sizes; arrays are float64[B].

    Attributes:
        model, machine: Names.
        phase: ``prefill`` or ``decode``.
        latency_s: Time of the step: to the first token (prefill), of one more token (decode; with
            micro-batches in a full pipeline, the time between a request's tokens).
        tokens: New tokens of the step.
        energy_j: Energy of the step: kernels, links, and the idle power of the machine's parts.
        memory_bytes: Held by one device, by what: ``weights``, ``cache``, ``workspace``.
        capacity_bytes: Of the tier that holds it.
        far_overflow_bytes: Bytes of weights and caches beyond what the tier they lie in holds,
            where that is another one.
        parts_s: Time of one pass by part, ``streaming`` (waiting for weights from another tier)
            and ``pipeline`` (what the stages add); they sum to the latency.
        calls_s: Time of one pass by call, all layers (what a ladder hides included).
        bound_s: Time of one pass by what limits its calls: ``compute``, ``memory``, ``overhead``
            (launches and what a kernel adds), ``links``, ``streaming``.
        excess: By reason, what a row asks for beyond what machine and model allow, graded (0 where
            nothing; memory is judged by ``overflow_bytes``).
        plans: The plan of every row.
        traffic_bytes: To and from the tier the engine works from, of one device in one pass.
        kernels: That one device starts in one pass.
        kept_bytes: That one pass of one device would have moved there and back, were its operators
            not fused, and that stayed on chip.
    """

    model: str
    machine: str
    phase: str
    latency_s: Floats
    tokens: Floats
    energy_j: Floats
    memory_bytes: Mapping[str, Floats]
    capacity_bytes: Floats
    far_overflow_bytes: Floats
    parts_s: Mapping[str, Floats]
    calls_s: Mapping[str, Floats]
    bound_s: Mapping[str, Floats]
    excess: Mapping[str, Floats]
    plans: Plans
    traffic_bytes: Floats
    kernels: Floats
    kept_bytes: Floats

    @classmethod
    def joined(cls, costs: Sequence[StepCost]) -> StepCost:
        """Costs of batches one after the other as those of one batch."""
        if len(costs) == 1:
            return costs[0]
        found: dict[str, Any] = {}
        for f in fields(cls):
            values = [getattr(cost, f.name) for cost in costs]
            if isinstance(values[0], Plans):
                found[f.name] = Plans.joined(values)
            elif isinstance(values[0], Mapping):
                found[f.name] = {n: np.concatenate([v[n] for v in values]) for n in values[0]}
            else:
                found[f.name] = values[0] if isinstance(values[0], str) else np.concatenate(values)
        return cls(**found)

    @property
    def tokens_per_s(self) -> Floats:
        """New tokens of all requests a second."""
        return self.tokens / self.latency_s

    @property
    def joules_per_token(self) -> Floats:
        """Energy of a token."""
        return self.energy_j / self.tokens

    @property
    def power_w(self) -> Floats:
        """Average power over the step."""
        return self.energy_j / self.latency_s

    @property
    def overflow_bytes(self) -> Floats:
        """Bytes that a device, or a tier of weights, would need beyond its capacity; 0 if none."""
        own = np.maximum(sum(self.memory_bytes.values()) - self.capacity_bytes, 0.0)
        return own + self.far_overflow_bytes

    @property
    def held_share(self) -> Floats:
        """Bytes a device holds over its capacity."""
        return sum(self.memory_bytes.values()) / self.capacity_bytes  # type: ignore[return-value]

    @property
    def beyond(self) -> dict[str, Floats]:
        """By reason, what goes beyond what there is, graded; 0 where a row is possible."""
        return {
            "out of memory": np.log(np.maximum(self.held_share, 1.0)),
            "a tier of weights or caches overflows": np.log1p(
                self.far_overflow_bytes / self.capacity_bytes
            ),
            **self.excess,
        }

    @property
    def fits(self) -> NDArray[np.bool_]:
        """Whether weights, caches and workspace fit into the devices' memory."""
        return self.overflow_bytes == 0

    def explain(self, row: int = 0) -> str:
        """One step in words: time and its parts, what limits it, memory, energy."""
        at = self.latency_s[row]
        word = "time to first token" if self.phase == "prefill" else "time per output token"
        lines = [
            f"{self.model} on {self.machine}, {self.phase}, plan {self.plans.text(row)}",
            f"{word:24}{_time(at)}   {self.tokens_per_s[row]:,.1f} tokens/s",
            f"{'energy':24}{self.joules_per_token[row]:.4g} J/token   {self.power_w[row]:,.0f} W",
        ]
        held = sum(values[row] for values in self.memory_bytes.values())
        state = "fits" if self.fits[row] else "OUT OF MEMORY"
        detail = ", ".join(f"{n} {v[row] / 1e9:.2f}" for n, v in self.memory_bytes.items())
        lines.append(
            f"{'memory of a device':24}{held / 1e9:.2f} of {self.capacity_bytes[row] / 1e9:.2f} GB "
            f"({detail}): {state}"
        )
        lines.append(
            f"{'a device, a pass':24}{self.traffic_bytes[row] / 1e9:.3g} GB to and from its "
            f"memory, {self.kernels[row]:.0f} kernels"
            + (
                f"; {self.kept_bytes[row] / 1e9:.3g} GB stay on chip"
                if self.kept_bytes[row]
                else ""
            )
        )
        for title, parts in (("parts", self.parts_s), ("limited by", self.bound_s)):
            ranked = sorted(parts.items(), key=lambda part: -part[1][row])
            shown = [f"{n} {_time(v[row])} ({v[row] / at:.0%})" for n, v in ranked if v[row] > 0]
            lines.append(f"{title:24}" + ", ".join(shown))
        return "\n".join(lines)

    def to_dict(self, row: int = 0) -> dict[str, object]:
        """Plain data of one row, for JSON."""
        return {
            "model": self.model,
            "machine": self.machine,
            "phase": self.phase,
            "plan": self.plans.text(row),
            "latency_s": float(self.latency_s[row]),
            "tokens_per_s": float(self.tokens_per_s[row]),
            "energy_j": float(self.energy_j[row]),
            "joules_per_token": float(self.joules_per_token[row]),
            "power_w": float(self.power_w[row]),
            "fits": bool(self.fits[row]),
            "memory_bytes": {n: float(v[row]) for n, v in self.memory_bytes.items()},
            "capacity_bytes": float(self.capacity_bytes[row]),
            "parts_s": {n: float(v[row]) for n, v in self.parts_s.items()},
            "calls_s": {n: float(v[row]) for n, v in self.calls_s.items()},
            "bound_s": {n: float(v[row]) for n, v in self.bound_s.items()},
            "traffic_bytes": float(self.traffic_bytes[row]),
            "kernels": float(self.kernels[row]),
            "kept_bytes": float(self.kept_bytes[row]),
        }


def _time(seconds: float) -> str:
    for unit, scale in (("s", 1.0), ("ms", 1e3), ("us", 1e6)):
        if seconds * scale >= 1:
            return f"{seconds * scale:.4g} {unit}"
    return f"{seconds * 1e6:.3g} us"
