"""How a language model is laid on the devices of a machine."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from archsim.errors import InputError

_TERM = re.compile(r"(tp|pp|dp|ep|mb)([1-9][0-9]{0,5})")
_SHARE = re.compile(r"[01](\.[0-9]{0,17})?")
DEGREES = {"tp": "tensor", "pp": "pipeline", "dp": "data", "ep": "expert", "mb": "micro_batches"}
#: What may lie in another tier than the one the engine works from.
PLACED = ("weights", "cache")
#: What the parts of a plan's text mean: degrees, each with a number, and options after them.
DEGREE_WORDS = {
    "tp": "devices a layer's matrices and heads are cut over",
    "pp": "stages the layers are cut into",
    "dp": "groups of devices with requests of their own",
    "ep": "groups experts are dealt out over, a divisor of tp x dp",
    "mb": "micro-batches the batch is cut into, to fill the stages",
}
MODE_WORDS = {
    "ladder": "sums over devices run beside the next part of a layer (Ladder-Residual)",
    "eager": "GPUs: the host starts every operation, attention is unfused (PyTorch)",
    "unfused": "dataflow engines: every operator a kernel; GPUs: attention in three kernels",
    "software": "dataflow engines: the host starts every kernel",
    "staged": "GPUs: messages within a node go through host memory (no peer access)",
}
PLACE_WORDS = {
    "weights=TIER:SHARE": "that share (default all) of the weights lies in another tier",
    "cache=TIER:SHARE": "that share (default all) of the caches lies in another tier",
}
_EXAMPLES = "tp8, tp4pp2, tp8dp4ep32, tp8+ladder, tp8+weights=host_dram, tp8+cache=host_dram:0.5"


def plan_help() -> str:
    """All parts of a plan's text, and what they mean.

    Example:
        >>> "+staged" in plan_help()
        True
    """
    parts = [(f"{name}N", words) for name, words in DEGREE_WORDS.items()]
    parts += [(f"+{name}", words) for name, words in (MODE_WORDS | PLACE_WORDS).items()]
    lines = [f"  {part:20} {words}" for part, words in parts]
    head = "A plan: degrees of parallelism, each at most once, then options (+ or a comma between)."
    return "\n".join([head, *lines, f"Such as {_EXAMPLES}."])


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
        degrees, *extras = re.split(r"[+,]", text)
        fields: dict[str, Any] = dict(_degrees(degrees, text))
        seen = set()
        for extra in extras:
            name = extra.partition("=")[0]
            if name in seen:
                raise _unreadable("an option is given twice", extra, "each option once")
            seen.add(name)
            fields |= _option(extra)
        return cls(**fields)

    def __str__(self) -> str:
        return written({name: getattr(self, name) for name in self.__dataclass_fields__})


def _unreadable(why: str, found: str, expected: str) -> InputError:
    return InputError(
        f"cannot read the plan: {why}", field="plan", found=found, expected=expected
    )  # fmt: skip


def _degrees(text: str, plan: str) -> dict[str, int]:
    """The degrees of parallelism that a plan begins with."""
    found: dict[str, int] = {}
    end = 0
    for match in _TERM.finditer(text):
        if match.start() != end or DEGREES[match[1]] in found:
            break
        found[DEGREES[match[1]]] = int(match[2])
        end = match.end()
    if end != len(text) or not found:
        raise _unreadable(
            "it begins with degrees", plan,
            f"{', '.join(DEGREES)}, each once and with a number, then options: {_EXAMPLES}",
        )  # fmt: skip
    return found


def _option(text: str) -> dict[str, Any]:
    """The fields that one option sets."""
    name, equals, value = text.partition("=")
    if name in MODE_WORDS:
        if equals:
            raise _unreadable(f"{name} takes no value", text, f"+{name}")
        return {name: True}
    if name not in PLACED:
        raise _unreadable(
            "no such option", name, ", ".join([*MODE_WORDS, *(f"{role}=TIER" for role in PLACED)])
        )
    tier, colon, share = value.partition(":")
    if not tier or (colon and _SHARE.fullmatch(share) is None):
        raise _unreadable(
            f"{name} names a tier, and perhaps a share from 0 to 1", text,
            f"{name}=host_dram or {name}=host_dram:0.5",
        )  # fmt: skip
    return {name: tier, f"{name}_share": float(share or 1)}


def written(values: Mapping[str, Any]) -> str:
    """A plan's fields as :meth:`Plan.parse` reads them."""
    text = "".join(f"{short}{values[n]:.0f}" for short, n in DEGREES.items() if values[n] > 1)
    text = (text or "tp1") + "".join(f"+{mode}" for mode in MODE_WORDS if values[mode])
    for role in PLACED:
        tier, share = values[role], values[f"{role}_share"]
        if tier:
            part = np.format_float_positional(share, trim="-")
            text += f"+{role}={tier}" + ("" if share == 1 else f":{part}")
    return text
