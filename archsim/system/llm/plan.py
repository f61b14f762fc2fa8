"""How a language model is laid on the devices of a machine."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from archsim.errors import InputError

_TERM = re.compile(r"(tp|pp|dp|ep|mb)([1-9][0-9]{0,5})")
#: What may follow the degrees, without a value.
_MODES = ("ladder", "eager", "unfused", "software", "staged")
#: What may lie in another tier than the one the engine works from.
PLACED = ("weights", "cache")
_SHARE = re.compile(r"[01](\.[0-9]{0,17})?")
DEGREES = {"tp": "tensor", "pp": "pipeline", "dp": "data", "ep": "expert", "mb": "micro_batches"}


@dataclass(frozen=True)
class Plan:
    """Degrees of parallelism.

    ``tensor x data x pipeline`` devices take part. Within a stage, attention is cut by heads over
    ``tensor`` devices and requests over ``data`` groups of them; experts are dealt out over
    ``expert`` of the stage's ``tensor x data`` devices, each expert cut over the rest.

    Attributes:
        tensor: Devices a layer's matrices and heads are cut over.
        pipeline: Stages the layers are cut into.
        data: Groups of devices with requests of their own in each stage.
        expert: Groups experts are dealt out over; a divisor of ``tensor x data``.
        micro_batches: Parts the batch is cut into to fill the pipeline.
        ladder: Each part of a layer reads the stream as it was one part before, so that the sum
            over ``tensor`` devices runs beside the next part (Ladder-Residual, ICML 2025).
        weights: Tier the weights lie in; each layer's are fetched while the layer before it runs.
            None is the tier the engine works from.
        weights_share: Share of every layer's weights that lies there; the rest stays.
        cache: Tier the caches lie in, fetched alike; new entries are written back.
        cache_share: Share of every layer's cache that lies there.
        eager: Run as PyTorch does without graphs or fused attention, on GPUs: the host starts every
            operation, and attention is a batched product, a softmax over all scores, a batched
            product, masked pairs included.
        unfused: On a dataflow engine, every operator is a kernel of its own; else a layer is one
            pipeline, or as few as the on-chip memory allows. On GPUs, attention is three kernels (a
            product, a softmax over all scores, a product), started like all others.
        software: On a dataflow engine, the host starts every kernel; else the hardware goes on by
            itself.
        staged: On GPUs, messages within a node go through host memory, as they do without peer
            access (GeForce cards, many guests of hypervisors); sums in an NVSwitch go on.
    """

    tensor: int = 1
    pipeline: int = 1
    data: int = 1
    expert: int = 1
    micro_batches: int = 1
    ladder: bool = False
    weights: str | None = None
    eager: bool = False
    weights_share: float = 1.0
    cache: str | None = None
    cache_share: float = 1.0
    unfused: bool = False
    software: bool = False
    staged: bool = False

    def __post_init__(self) -> None:
        for role in PLACED:
            share = getattr(self, f"{role}_share")
            if not 0 <= share <= 1:
                raise InputError(
                    "must be a share", field=f"plan.{role}_share", found=share, expected="0 to 1"
                )
        for name in DEGREES.values():
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value < 1 << 20:
                raise InputError("must be a positive integer", field=f"plan.{name}", found=value)
        if self.tensor * self.data % self.expert:
            raise InputError(
                "experts are dealt out over a divisor of tensor x data",
                field="plan.expert",
                found=self.expert,
                expected=f"a divisor of {self.tensor * self.data}",
            )

    @property
    def devices(self) -> int:
        """Devices that take part."""
        return self.tensor * self.pipeline * self.data

    @classmethod
    def parse(cls, text: str) -> Plan:
        """Read ``tp8``, ``tp4pp2``, ``tp8dp4ep32``, ``pp4mb8``, ``tp8+ladder``, ``tp8+eager``,
        ``tp8+weights=host_dram``, ``tp8+cache=host_dram:0.5`` (half of it); a comma may stand for
        each ``+``.

        Raises:
            InputError: The text is no plan.

        Example:
            >>> Plan.parse("tp8pp2").devices
            16
        """
        found: dict[str, int] = {}
        degrees, *extras = re.split(r"[+,]", text)
        end = 0
        for match in _TERM.finditer(degrees):
            if match.start() != end or DEGREES[match[1]] in found:
                break
            found[DEGREES[match[1]]] = int(match[2])
            end = match.end()
        rest = dict(extra.partition("=")[::2] for extra in extras)
        good = set(rest) <= {*_MODES, *PLACED} and len(rest) == len(extras)
        good = good and not any("=" in extra for extra in extras if extra.startswith(_MODES))
        placed: dict[str, Any] = {}
        for role in set(PLACED) & set(rest):
            tier, colon, share = rest[role].partition(":")
            good = good and tier != "" and (not colon or _SHARE.fullmatch(share) is not None)
            if good:
                placed |= {role: tier, f"{role}_share": float(share or 1)}
        if end != len(degrees) or not found or not good:
            raise InputError(
                "cannot read the plan",
                field="plan",
                found=text,
                expected="tp, pp, dp, ep, mb with a number each, then +ladder, +eager, "
                "+weights=TIER or +cache=TIER:SHARE, such as tp8, tp4pp2, tp8+weights=host_dram",
            )
        fields: dict[str, Any] = {**found, **placed, **{mode: mode in rest for mode in _MODES}}
        return cls(**fields)

    def __str__(self) -> str:
        return written({name: getattr(self, name) for name in self.__dataclass_fields__})


def written(values: Mapping[str, Any]) -> str:
    """A plan's fields as :meth:`Plan.parse` reads them."""
    text = "".join(f"{short}{values[n]:.0f}" for short, n in DEGREES.items() if values[n] > 1)
    text = (text or "tp1") + "".join(f"+{mode}" for mode in _MODES if values[mode])
    for role in PLACED:
        tier, share = values[role], values[f"{role}_share"]
        if tier:
            part = np.format_float_positional(share, trim="-")
            text += f"+{role}={tier}" + ("" if share == 1 else f":{part}")
    return text
