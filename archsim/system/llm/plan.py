"""How a language model is laid on the devices of a machine."""

from __future__ import annotations

import re
from dataclasses import dataclass

from archsim.errors import InputError

_TERM = re.compile(r"(tp|pp|dp|ep|mb)([1-9][0-9]{0,5})")
_NAMES = {"tp": "tensor", "pp": "pipeline", "dp": "data", "ep": "expert", "mb": "micro_batches"}


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
    """

    tensor: int = 1
    pipeline: int = 1
    data: int = 1
    expert: int = 1
    micro_batches: int = 1

    def __post_init__(self) -> None:
        for name in _NAMES.values():
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
        """Read ``tp8``, ``tp4pp2``, ``tp8dp4ep32``, ``pp4mb8``.

        Raises:
            InputError: The text is no plan.

        Example:
            >>> Plan.parse("tp8pp2")
            Plan(tensor=8, pipeline=2, data=1, expert=1, micro_batches=1)
        """
        found: dict[str, int] = {}
        end = 0
        for match in _TERM.finditer(text):
            if match.start() != end or _NAMES[match[1]] in found:
                break
            found[_NAMES[match[1]]] = int(match[2])
            end = match.end()
        if end != len(text) or not found:
            raise InputError(
                "cannot read the plan",
                field="plan",
                found=text,
                expected="tp, pp, dp, ep, mb with a number each, such as tp8 or tp4pp2",
            )
        return cls(**found)

    def __str__(self) -> str:
        parts = [f"{short}{getattr(self, name)}" for short, name in _NAMES.items()]
        return "".join(part for part in parts if not part.endswith("1") or part[2:] != "1") or "tp1"
