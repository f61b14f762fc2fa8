"""Optimizer states in another tier: how gradients reach them, who updates them, and weights back.

As DeepSpeed's ZeRO-3 does it (``runtime/zero/stage3.py``, 0.13): the averaged gradient of every
micro-batch is accumulated in host memory, which takes a way there and a way back (the last one for
its norm); then it goes to the host's copy in 32 bits.
Where that copy does not block, the device widens it first, so that four bytes a parameter leave;
where it blocks, PyTorch copies two bytes into host memory allocated for that tensor and widens them
there (``aten/src/ATen/native/cuda/Copy.cu``), and the backward pass waits. A link carries both
directions at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from archsim.errors import InputError
from archsim.hardware import Machine, NodeTable
from archsim.system.llm.tiers import Path, tier_path

if TYPE_CHECKING:
    from archsim.system.llm.training import Training

#: Bytes of Adam's states for a parameter: master weight and two moments in 32 bits.
STATE_BYTES = 12.0
#: Bytes of a gradient as the optimizer reads it.
WIDE_BYTES = 4.0


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


class Hosted:
    """One device's share of states that lie in the tier ``how.states``.

    Args:
        machine, node: Of all devices.
        how: How the step is done.
        home: Tier the engine works from.
        owned: Parameters whose states are this device's.
        weight: Bytes of a weight or a gradient.
        micro_batches: Whose gradients are accumulated.
    """

    def __init__(
        self, machine: Machine, node: NodeTable, how: Training, home: str, owned: float,
        weight: float, micro_batches: int = 1,
    ) -> None:  # fmt: skip
        assert how.states is not None
        self.machine, self.node, self.how, self.home = machine, node, how, home
        self.states, self.owned, self.weight = how.states, owned, weight
        self.micro_batches = micro_batches
        #: Updated where they stay, updated by devices that fetch states, and by the host.
        self.resident = owned * how.resident
        self.fetched = (owned - self.resident) * how.device_share
        self.updated = owned - self.resident - self.fetched

    def path(self, source: str, target: str) -> Path:
        """The way between two tiers."""
        return tier_path(self.machine, self.node, source, target)

    @property
    def drive(self) -> bool:
        """Whether states lie on a drive; gradients and weights then wait in the host's memory."""
        return self.machine.item("tiers", self.states).kind == "NAND"

    def waiting(self) -> str:
        """Tier that gradients are accumulated in."""
        if not self.drive:
            return self.states
        way = self.path(self.home, self.states).tiers
        return way[-2] if len(way) > 2 else self.states

    def gradients_s(self) -> tuple[float, float]:
        """Time of gradients on the way, and what the backward pass waits for in any case."""
        narrow, away = self.micro_batches * self.owned * self.weight, self.waiting()
        outward, blocked = narrow, 0.0
        if self.how.blocking:
            blocked = self.updated * self.weight / self.how.host.pageable_bytes_per_s
        else:
            outward += self.updated * WIDE_BYTES
        out, into = self.path(self.home, away), self.path(away, self.home)
        return max(float(out.seconds(outward)[0]), float(into.seconds(narrow)[0])), blocked

    def update_s(self, touched: float) -> float:
        """Time of the update, by all that update.

        Args:
            touched: Bytes that an update reads and writes of a parameter.
        """
        how, tier = self.how, self.node.tiers[self.states]
        many = float(self.node.devices[0] / tier["instances"][0])
        hbm = float(self.node.tiers[self.home]["bandwidth_bytes_per_s"][0])
        devices = (self.resident + self.fetched) * touched / hbm
        host = self.updated * many * self.parameter_s(touched)
        into, outof = self.path(self.states, self.home), self.path(self.home, self.states)
        weights = self.updated * self.weight
        back = float(into.seconds(weights)[0]) if weights else 0.0
        if not self.fetched:
            return max(host + back / how.host.weights_share, devices)
        # Both directions at once; the devices' own work is hidden behind the copies, which take
        # the memory's bandwidth from the host.
        moved = self.fetched * STATE_BYTES
        host += (2.0 * moved + weights) * many * self.byte_s(how.host.copy_share)
        fetch = float(into.seconds(moved)[0]) + back
        put = float(outof.seconds(moved)[0])
        group = min(float(how.subgroup), self.fetched)
        first = float(into.seconds(group * STATE_BYTES)[0])
        last = group * touched / hbm + float(outof.seconds(group * STATE_BYTES)[0])
        return max(host, fetch + last, first + put, devices)

    def byte_s(self, share: float) -> float:
        """Time of a byte of the states' tier, at a share of its peak (a drive reaches all)."""
        read = float(self.node.tiers[self.states]["bandwidth_bytes_per_s"][0])
        return 1.0 / (read if self.drive else read * share)

    def parameter_s(self, touched: float) -> float:
        """Time of one parameter's update by the host, whose processors share the states' tier."""
        if not self.drive:
            return touched * self.byte_s(self.how.host.memory_share)
        # Only states pass through a drive.
        tier = self.node.tiers[self.states]
        read = float(tier["bandwidth_bytes_per_s"][0])
        return STATE_BYTES / read + STATE_BYTES / float(tier["write_bandwidth_bytes_per_s"][0])

    def bytes(self) -> tuple[float, float, float]:
        """States near, gradients near, and both in the other tier, of one device."""
        how = self.how
        held = 2.0 * min(float(how.subgroup), self.owned) * (self.fetched > 0)
        near = (self.resident + held) * STATE_BYTES
        gradients = (self.resident + self.fetched) * self.weight
        states = (self.owned - self.resident) * STATE_BYTES
        return near, gradients, states + self.owned * self.weight + self.updated * WIDE_BYTES
