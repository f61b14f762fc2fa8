"""Collectives on links: time and energy by the textbook algorithms, the best of those that apply.

A member of a group can send ``bandwidth`` and receive as much; a message takes ``latency`` beside
its bytes. With p members and n bytes held by each:

* ring all-reduce: ``2 (p-1)/p n / bandwidth + 2 (p-1) latency`` (Patarasuk and Yuan, JPDC 2009);
* direct (two shots over a switch or all-to-all links): the same bytes, ``2 latency``;
* tree (pipelined, up and down): ``2 n / bandwidth + 2 ceil(log2 p) latency``;
* in a switch that adds up (NVLink SHARP): ``n / bandwidth + 2 latency``;
* all-to-all: ``(p-1)/p n / bandwidth + latency``.

A group larger than the inner link joins is served hierarchically: reduce-scatter inside, all-reduce
of a share across, all-gather inside. These are the link's own times; ``gpu_collective`` has those
of GPUs' libraries, which start and synchronise. Without peer access messages go through host
memory (``staged``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from archsim.errors import InputError
from archsim.hardware import Machine, NodeTable
from archsim.system.llm.tiers import tier_path

if TYPE_CHECKING:
    from archsim.models.gpu import GpuConstants, GpuCost, GpuDevice

Floats = NDArray[np.float64]
#: Share of a network port's rate that exchanges reach: 43 of 50 GB/s by DeepEP's normal kernels on
#: two nodes of H800 with ConnectX-7 (DeepEP, docs/legacy.md). Its low-latency kernels are what
#: tests/system compare with.
NETWORK_EFFICIENCY = 0.86
#: Latency of NVLink, which the calibrated steps of collectives contain (0.8 us: Duplex, MICRO'24,
#: the authors' simulator); links inside a node that take longer add the difference to every step.
CALIBRATED_LATENCY_S = 0.8e-6
#: What a sum in the network's switches (SHARP) takes beside its bytes: NCCL's own figure for its
#: sums in NVSwitches of several nodes (``hwLat``, NET, NVLS in ``src/graph/tuning.cc``).
SHARP_S = 18.0e-6
#: Share of their rate that network ports reach under NCCL's ring over nodes: 46 to 48 GB/s of
#: 400 Gb/s (NVIDIA, NVIDIA/nccl-tests issue 290).
RAIL_EFFICIENCY = 0.94
#: A step of NCCL over a network beside its links: a thread of the host posts and polls messages.
#: Sending 2 KB to another node takes 16 us, to a GPU of the own one 8 us (Vidur's profile of A100,
#: send_recv); what its all-reduces over nodes take (28 to 65 us at 2 KB) is compared in the tests.
PROXY_S = 8.0e-6
#: A step through host memory beside its three crossings of PCIe, one posted write and one read that
#: polls: eight GeForce RTX 4090, which have no peer access, reduce 8 bytes in 40 to 42 us
#: (NVIDIA/nccl, issue 1530), 2.4 us for each of 14 steps after NCCL's start of 6.6 us; three
#: crossings are 1.5 us.
STAGED_STEP_S = 0.9e-6
#: Channels, a thread block on an SM of its own each, that NCCL gives a collective at most among
#: eight GPUs with NVLink ("24 coll channels", log of NCCL 2.20.5 on H100 in the repository of
#: Ladder-Residual's authors).
CHANNELS = 24


@dataclass(frozen=True, eq=False)
class Level:
    """Links that join the members of one group of a machine.

    Attributes:
        name: Of the link.
        members: Devices reached through it and all inner ones; float64[B].
        bandwidth: One direction of one device, bytes/s.
        latency: One way, s.
        energy: J per bit.
        reduces: The switch adds up.
        direct: Every member reaches every other in one step.
        switch: Links of the same members whose switch adds up, where messages take other ones.
    """

    name: str
    members: Floats
    bandwidth: Floats
    latency: Floats
    energy: Floats
    reduces: bool
    direct: bool
    switch: Level | None = None


def levels(machine: Machine, node: NodeTable) -> list[Level]:
    """The links across a machine's groups, inner to outer.

    Raises:
        InputError: A group of several members has no link across it.
    """
    found: list[Level] = []
    inside = np.ones(node.designs)
    for group in reversed(machine.groups):
        inside = inside * node.counts[group.name]
        link = next((link for link in machine.links if link.across == group.name), None)
        if link is None:
            if (node.counts[group.name] > 1).any():
                raise InputError(
                    "several members, and no link across them",
                    source=machine.name,
                    field=f"groups.{group.name}",
                )
            continue
        figures = node.links[link.name]
        found.append(
            Level(
                link.name,
                inside,
                figures["bandwidth_bytes_per_s"] / link.members_per_port,
                figures["latency_s"],
                figures["energy_j_per_bit"],
                link.reduces,
                link.topology in ("switch", "all_to_all", "fat_tree"),
            )
        )
    return found


def staged(machine: Machine, node: NodeTable, tier: str, links: list[Level]) -> list[Level]:
    """The links where members of the inner group have no access to each other's memory.

    NCCL then has the sender write into host memory and the receiver poll it there ("SHM"). Sums in
    an NVSwitch go on: they need no access of that kind ("Connected NVLS tree" with
    ``NCCL_P2P_LEVEL=LOC``, in a log beside the one named at :data:`CHANNELS`).

    Args:
        machine: The machine.
        node: Its figures.
        tier: That the devices work from.
        links: As they are, inner to outer.

    Raises:
        InputError: The devices have no link to a memory beside their own.
    """
    if not links:
        return links
    way = next((x for x in machine.links if x.endpoints and tier in x.endpoints), None)
    host = next((n for n in way.endpoints or () if n != tier), None) if way else None
    if way is None or host not in node.tiers:
        raise InputError(
            "messages cannot go through host memory: no link leads there",
            source=machine.name, field="plan.staged", found=tier,
        )  # fmt: skip
    out, back = tier_path(machine, node, tier, host), tier_path(machine, node, host, tier)
    shared = node.tiers[host]
    part = shared["instances"] / node.devices
    # what is written there is read again, by all members at once
    both = 1.0 / shared["bandwidth_bytes_per_s"] + 1.0 / shared["write_bandwidth_bytes_per_s"]
    rate = np.minimum(np.minimum(out.bandwidth, back.bandwidth), part / both)
    inner = replace(
        links[0],
        name=f"{way.name} through {host}",
        bandwidth=rate,
        latency=STAGED_STEP_S + 3.0 * node.links[way.name]["latency_s"],
        energy=(out.joules_per_byte + back.joules_per_byte) / 8.0,
        reduces=False,
        switch=links[0] if links[0].reduces else None,
    )
    return [inner, *links[1:]]


def _reduce_one(level: Level, members: Floats, held: Floats) -> Floats:
    """All-reduce among members of one level."""
    p = np.maximum(members, 1.0)
    share = 2.0 * (p - 1.0) / p * held / level.bandwidth
    steps = np.ceil(np.log2(p))
    times = [
        share + 2.0 * (p - 1.0) * level.latency,
        2.0 * held / level.bandwidth + 2.0 * steps * level.latency,
    ]
    if level.direct:
        times.append(share + 2.0 * level.latency)
    if level.reduces:
        times.append(held / level.bandwidth + 2.0 * level.latency)
    return np.where(p > 1, np.minimum.reduce(times), 0.0)


def all_reduce(links: list[Level], members: Floats, held: Floats) -> tuple[Floats, Floats]:
    """Seconds, and joules of all members together, to add up ``held`` bytes on every member.

    Args:
        links: Inner to outer (see :func:`levels`).
        members: Devices that take part, neighbours; float64[B].
        held: Bytes on each.
    """
    seconds, joules = np.zeros_like(held), np.zeros_like(held)
    left, share = members.astype(float), held.astype(float)
    for index, level in enumerate(links):
        below = links[index - 1].members if index else np.ones_like(left)
        here = np.minimum(left, np.maximum(level.members / below, 1.0))
        last = here >= left
        inner = 2.0 * (here - 1.0) / here * share / level.bandwidth + np.where(
            here > 1, 2.0 * (1.0 if level.direct else here - 1.0) * level.latency, 0.0
        )
        seconds = seconds + np.where(last, _reduce_one(level, here, share), inner)
        joules = joules + members * 2.0 * (here - 1.0) / here * share * 8.0 * level.energy
        share, left = share / here, np.ceil(left / here)
    return np.where(members > 1, seconds, 0.0), np.where(members > 1, joules, 0.0)


def all_to_all(links: list[Level], members: Floats, held: Floats) -> tuple[Floats, Floats]:
    """Seconds, and joules of all members together, to exchange ``held`` bytes of every member.

    Each member's bytes go to all others evenly; those for other groups leave over the outer link,
    beside those for neighbours.
    """
    seconds, joules = np.zeros_like(held), np.zeros_like(held)
    reached = np.ones_like(held)
    for level in links:
        within = np.minimum(members, np.maximum(level.members, reached))
        crossing = held * (within - reached) / np.maximum(members, 1.0)
        time = crossing / level.bandwidth + level.latency
        seconds = np.maximum(seconds, np.where(crossing > 0, time, 0.0))
        joules = joules + members * crossing * 8.0 * level.energy
        reached = within
    return seconds, joules


def gpu_collective(
    device: GpuDevice, constants: GpuConstants, kind: str, members: Floats, held: Floats,
    links: list[Level],
) -> tuple[Floats, Floats]:  # fmt: skip
    """Seconds, and joules of all members together, of a collective of GPUs.

    NCCL within a node. Beyond it the best of one ring over all members, which leaves a node through
    all its ports side by side, and of reduce-scatter, all-reduce across (a ring or tree),
    all-gather. An exchange among nodes is bound by the network, and by the links inside where that
    is longer.

    Args:
        device: One of the members.
        constants: Its calibrated constants.
        kind: ``all_reduce`` or ``all_to_all``.
        members: Devices that take part, neighbours; float64[B].
        held: Bytes on each.
        links: Inner to outer.
    """
    if not links or (members <= 1).all():
        return np.zeros(held.shape), np.zeros(held.shape)

    def time(what: str, n: Floats, size: Floats, level: Level) -> GpuCost:
        hop = np.maximum(level.latency - CALIBRATED_LATENCY_S, 0.0)
        return _library(device, constants, what, n, size, level, hop)

    inner = np.minimum(members, links[0].members)
    outer = np.ceil(members / inner)
    near = time(kind, inner, held, links[0])
    seconds, joules = near.latency_s, near.energy_j * members
    switch = links[0].switch
    if switch is not None and kind == "all_reduce":
        summed = time("switch", inner, held, switch)
        better = (inner >= switch.members) & (summed.latency_s < seconds)
        seconds = np.where(better, summed.latency_s, seconds)
        joules = np.where(better, summed.energy_j * members, joules)
    far = outer > 1
    if far.any():
        net = links[1] if len(links) > 1 else links[0]
        if kind == "all_reduce":
            across, energy = _over_nodes(device, constants, links[0], net, inner, outer, held)
            energy = energy * members
        else:
            # Bytes for the own node go over its links while the others leave it.
            inside = time("all_to_all", inner, held * inner / members, links[0])
            leaving = held * (outer - 1.0) / outer
            network = leaving / (net.bandwidth * NETWORK_EFFICIENCY)
            start = constants.kernel("collective")["dispatch_start_s"]
            across = np.maximum(start + net.latency + network, inside.latency_s)
            energy = (leaving * 8.0 * net.energy + inside.energy_j) * members
        seconds, joules = np.where(far, across, seconds), np.where(far, energy, joules)
    alone = members <= 1
    return np.where(alone, 0.0, seconds), np.where(alone, 0.0, joules)


def _over_nodes(
    device: GpuDevice, constants: GpuConstants, near: Level, net: Level, inner: Floats,
    outer: Floats, held: Floats,
) -> tuple[Floats, Floats]:  # fmt: skip
    """Seconds, and joules of one member, of an all-reduce among ``outer`` nodes of ``inner``.

    A network whose switches add up (``reduces``: SHARP) is a way more.
    """

    def time(what: str, n: Floats, size: Floats, level: Level, hop: Floats) -> GpuCost:
        return _library(device, constants, what, n, size, level, hop)

    step = net.latency + PROXY_S
    inside = np.maximum(near.latency - CALIBRATED_LATENCY_S, 0.0)
    ends = [time(end, inner, held, near, inside) for end in ("reduce_scatter", "all_gather")]
    across = (time(way, outer, held / inner, net, step) for way in ("ring", "tree"))
    found = [_together([middle, *ends]) for middle in across]
    # one ring: two of its steps leave each node, through the port of one of its devices or another
    kernel = constants.kernel("collective")
    bulk = max(kernel["simple_efficiency"], kernel["medium_efficiency"])
    rails = replace(
        near, bandwidth=np.minimum(near.bandwidth, inner * net.bandwidth * RAIL_EFFICIENCY / bulk)
    )
    all_of_them = inner * outer
    leaving = (outer - 1.0) / np.maximum(all_of_them - 1.0, 1.0)
    ring = time("ring", all_of_them, held, rails, leaving * step + (1.0 - leaving) * inside)
    carried = 16.0 * (all_of_them - 1.0) / all_of_them / inner * held * net.energy
    found.append((ring.latency_s, ring.energy_j + np.nan_to_num(carried)))
    if net.reduces:  # nodes hand each byte over once, beside the sums inside
        sums = [time("switch", inner, held, near, inside)] if near.reduces else ends
        within, energy = _together(sums)
        out = held / inner / (net.bandwidth * RAIL_EFFICIENCY)
        most = np.maximum(within, out + kernel["start_s"])
        handed = np.nan_to_num(16.0 * held / inner * net.energy)
        found.append((most + SHARP_S + 2.0 * net.latency, energy + handed))
    best = np.argmin([seconds for seconds, _ in found], axis=0)
    seconds, joules = (np.choose(best, values) for values in zip(*found, strict=True))
    return seconds, joules


def _together(parts: Sequence[GpuCost]) -> tuple[Floats, Floats]:
    """Seconds and joules of one after the other."""
    return np.sum([p.latency_s for p in parts], axis=0), np.sum([p.energy_j for p in parts], axis=0)


def _library(
    device: GpuDevice, constants: GpuConstants, what: str, n: Floats, size: Floats, level: Level,
    hop: Floats,
) -> GpuCost:  # fmt: skip
    """One collective over one level; ``ring``, ``switch``, ``tree`` are ways of an all-reduce."""
    from archsim.models.gpu import evaluate_collective

    way = what in ("ring", "switch", "tree")
    algorithm = what if way else "auto" if level.reduces else "ring"
    carried = np.where(np.isnan(level.energy), device.link_j_per_byte, 8.0 * level.energy)
    return evaluate_collective(
        replace(device, link_j_per_byte=carried), "all_reduce" if way else what,
        np.maximum(n, 1.0), size, algorithm=algorithm, latency_s=hop,
        bandwidth_bytes_per_s=level.bandwidth, constants=constants,
    )  # fmt: skip


def gpu_share(sms: Floats | float, kind: str, held: Floats) -> Floats:
    """Share of a GPU's SMs that a collective keeps from the kernels beside it.

    Example:
        >>> [round(float(gpu_share(132, "all_reduce", np.array([n]))[0]), 3) for n in (8e3, 1e8)]
        [0.008, 0.182]
    """
    from archsim.models.gpu.collective import CHANNEL_BYTES

    traffic = held * (2.0 if kind == "all_reduce" else 1.0)
    return np.clip(np.ceil(traffic / CHANNEL_BYTES), 1.0, CHANNELS) / sms


def reach(links: list[Level]) -> Floats:
    """Devices that the links join; float64[B] (1 without links)."""
    return links[-1].members if links else np.ones(1)


def point_to_point(links: list[Level], stride: Floats, held: Floats) -> tuple[Floats, Floats]:
    """Seconds and joules to send ``held`` bytes to the device ``stride`` places on."""
    seconds, joules = np.zeros_like(held), np.zeros_like(held)
    done = np.zeros(held.shape, dtype=bool)
    for level in links:
        here = ~done & ((stride < level.members) | (level is links[-1]))
        seconds = np.where(here, held / level.bandwidth + level.latency, seconds)
        joules = np.where(here, held * 8.0 * level.energy, joules)
        done |= here
    return seconds, joules
