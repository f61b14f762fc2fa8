"""How a language model is laid on the devices of a machine."""

from __future__ import annotations

import re
from dataclasses import dataclass

from archsim.errors import InputError

_TERM = re.compile(r"(tp|pp|dp|ep|mb)([1-9][0-9]{0,5})")
#: What may follow the degrees, without a value.
_MODES = ("ladder", "eager")
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
        ladder: Each part of a layer reads the stream as it was one part before, so that the sum
            over ``tensor`` devices runs beside the next part (Ladder-Residual, ICML 2025).
        weights: Tier the weights lie in; each layer's are fetched while the layer before it runs.
            None is the tier the engine works from.
        eager: Run as PyTorch does without graphs or fused attention, on GPUs: the host starts every
            operation, and attention is a batched product, a softmax over all scores, a batched
            product, masked pairs included.
    """

    tensor: int = 1
    pipeline: int = 1
    data: int = 1
    expert: int = 1
    micro_batches: int = 1
    ladder: bool = False
    weights: str | None = None
    eager: bool = False

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
        """Read ``tp8``, ``tp4pp2``, ``tp8dp4ep32``, ``pp4mb8``, ``tp8+ladder``,
        ``tp8+eager``, ``tp8+weights=host_dram``.

        Raises:
            InputError: The text is no plan.

        Example:
            >>> Plan.parse("tp8pp2").devices
            16
        """
        found: dict[str, int] = {}
        degrees, *extras = text.split("+")
        end = 0
        for match in _TERM.finditer(degrees):
            if match.start() != end or _NAMES[match[1]] in found:
                break
            found[_NAMES[match[1]]] = int(match[2])
            end = match.end()
        rest = dict(extra.partition("=")[::2] for extra in extras)
        good = set(rest) <= {*_MODES, "weights"} and len(rest) == len(extras)
        good = good and not any(rest.get(mode) for mode in _MODES) and rest.get("weights") != ""
        good = good and all(
            "=" not in extra for extra in extras if extra.partition("=")[0] in _MODES
        )
        if end != len(degrees) or not found or not good:
            raise InputError(
                "cannot read the plan",
                field="plan",
                found=text,
                expected="tp, pp, dp, ep, mb with a number each, then +ladder, +eager or "
                "+weights=TIER, such as tp8, tp4pp2, tp8+weights=host_dram",
            )
        return cls(
            **found, ladder="ladder" in rest, weights=rest.get("weights"), eager="eager" in rest
        )

    def __str__(self) -> str:
        degrees = {short: getattr(self, name) for short, name in _NAMES.items()}
        text = "".join(f"{short}{value}" for short, value in degrees.items() if value > 1)
        text = (text or "tp1") + "".join(f"+{mode}" for mode in _MODES if getattr(self, mode))
        return text + (f"+weights={self.weights}" if self.weights else "")
