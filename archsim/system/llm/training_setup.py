"""How a training step is done, and what the host of its states reaches."""

from __future__ import annotations

from dataclasses import dataclass, field

from archsim.errors import InputError
from archsim.system.llm.schedules import SCHEDULES


@dataclass(frozen=True)
class Host:
    """What a host reaches of its memory and links in training.

    Attributes:
        memory_share: Share of its memory's peak at which it updates. DeepSpeed's CPU-Adam on two
            Xeon 8168 (256 GB/s): 10e9 parameters of 30 bytes in 2.57 s (ZeRO-Offload, ATC 2021,
            table 4, recalled); an EPYC 7543P reaches 0.59, see ``POLARIS``.
        copy_share: Share of that peak at which copies meanwhile take it from the host: they stream,
            and STREAM reaches about four fifths of the peak on such hosts (recalled).
        pageable_bytes_per_s: Rate of one device's blocking copies into host memory that is
            allocated for them, widening included; one thread takes a page fault for every 4 KiB.
            Two hosts reach 2.2e9 and 3.0e9, see ``XEON`` and ``POLARIS``.
        weights_share: Share of a link's bandwidth at which the host's updated weights go back: 1
            from pinned memory; from pageable memory, as DeepSpeed did until 2024, a sixth to a
            quarter (deepspeedai/DeepSpeed#5301: since then six times as fast on one GPU, 4 to 5 on
            eight). Where devices fetch states as well, all copies are pinned.
    """

    memory_share: float = 0.46
    copy_share: float = 0.8
    pageable_bytes_per_s: float = 2.5e9
    weights_share: float = 1.0

    def __post_init__(self) -> None:
        for name in ("memory_share", "copy_share", "weights_share"):
            if not 0 < getattr(self, name) <= 1:
                raise InputError(
                    "must be a share above 0", field=f"host.{name}", found=getattr(self, name),
                    expected="0 to 1",
                )  # fmt: skip
        if not self.pageable_bytes_per_s > 0:
            raise InputError(
                "must be a positive rate", field="host.pageable_bytes_per_s",
                found=self.pageable_bytes_per_s,
            )  # fmt: skip


#: A node of Polaris, one EPYC 7543P (204.8 GB/s), DeepSpeed 0.13. From the authors' log of Deep
#: Optimizer States for four A100, 13B (11.316e9 parameters): 3.73 s of update, of which copies back
#: at a fifth of 31.5 GB/s take 0.90 s; 5.66 GB of gradients a device block for 2.97 - 1.43 s more
#: than 11.3 GB of wide ones at 31.5 GB/s do.
POLARIS = Host(memory_share=0.585, pageable_bytes_per_s=2.97e9, weights_share=0.2)
#: A host of two Xeons, DeepSpeed 0.13. Blocking copies: from the same authors' logs for four H100
#: and four fifths of the states of 7B and 13B: 2.38 and 4.53 GB of gradients a device block for
#: 0.963 and 1.998 s more than 4.76 and 9.05 GB of wide ones at 63 GB/s do.
XEON = Host(memory_share=0.46, pageable_bytes_per_s=2.17e9, weights_share=0.2)


@dataclass(frozen=True)
class Training:
    """How a step of training is done, beside its plan of parallelism.

    Attributes:
        zero: Stage of ZeRO, 0 to 3.
        rematerialise: Keep the input of each layer only.
        schedule: Of pipeline stages, one of ``SCHEDULES``.
        states: Tier of the optimizer's states; None is the engine's own. Elsewhere the host
            updates them.
        resident: Share of the states that stay on the devices all the same (TwinFlow, DeepSpeed).
        device_share: Share of the others' subgroups that the devices update too, fetching their
            states and putting them back while the host works on the rest.
        subgroup: Parameters fetched at a time.
        blocking: The backward pass waits for every copy of gradients to the host, which widens
            them; else devices widen them and copies go on meanwhile.
        host: What the host reaches.
        activations: Tier that kept inputs go to in the forward and come from in the backward pass.
        overlap: Collectives, kept inputs and gradients move beside the work of other layers.
        dual: Two micro-batches run in turn, so that the exchange of one's experts is beside the
            work of the other (DualPipe, DeepSeek-V3, arXiv 2412.19437).
    """

    zero: int = 0
    rematerialise: bool = True
    schedule: str = "1f1b"
    states: str | None = None
    resident: float = 0.0
    device_share: float = 0.0
    subgroup: int = 100_000_000
    blocking: bool = False
    host: Host = field(default_factory=Host)
    activations: str | None = None
    overlap: bool = True
    dual: bool = False

    def __post_init__(self) -> None:
        if self.zero not in (0, 1, 2, 3):
            raise InputError("a stage of ZeRO", field="zero", found=self.zero, expected="0 to 3")
        if self.schedule not in SCHEDULES:
            raise InputError(
                "unknown schedule", field="schedule", found=self.schedule,
                expected=", ".join(SCHEDULES),
            )  # fmt: skip
        for name in ("device_share", "resident"):
            if not 0 <= getattr(self, name) <= 1:
                raise InputError("must be a share", field=name, found=getattr(self, name),
                                 expected="0 to 1")  # fmt: skip
        if self.states is None and (self.device_share or self.resident or self.blocking):
            raise InputError("the states lie on the devices already", field="states",
                             found=None, expected="a tier they lie in")  # fmt: skip
        if isinstance(self.subgroup, bool) or self.subgroup < 1:
            raise InputError("must be a positive whole number", field="subgroup",
                             found=self.subgroup)  # fmt: skip
