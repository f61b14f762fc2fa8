"""Collectives on links: time and energy by the textbook algorithms, the best of those that apply.

A member of a group can send ``bandwidth`` and receive as much; a message takes ``latency`` beside
its bytes. With p members and n bytes held by each:

* ring all-reduce: ``2 (p-1)/p n / bandwidth + 2 (p-1) latency`` (Patarasuk and Yuan, JPDC 2009);
* direct (two shots over a switch or all-to-all links): the same bytes, ``2 latency``;
* tree (pipelined, up and down): ``2 n / bandwidth + 2 ceil(log2 p) latency``;
* in a switch that adds up (NVLink SHARP): ``n / bandwidth + 2 latency``;
* all-to-all: ``(p-1)/p n / bandwidth + latency``.

A group larger than the inner link joins is served hierarchically: reduce-scatter inside, all-reduce
of a share across, all-gather inside. These are the link's own times: a library's start-up is added
by what prices a device.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from archsim.errors import InputError
from archsim.hardware import Machine, NodeTable

Floats = NDArray[np.float64]


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
    """

    name: str
    members: Floats
    bandwidth: Floats
    latency: Floats
    energy: Floats
    reduces: bool
    direct: bool


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
