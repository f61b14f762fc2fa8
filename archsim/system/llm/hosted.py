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

from archsim.hardware import Machine, NodeTable
from archsim.system.llm.tiers import Path, tier_path
from archsim.system.llm.training_setup import Training

#: Bytes of Adam's states for a parameter: master weight and two moments in 32 bits.
STATE_BYTES = 12.0
#: Bytes of a gradient as the optimizer reads it.
WIDE_BYTES = 4.0


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
