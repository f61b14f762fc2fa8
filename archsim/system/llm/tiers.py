"""Moving bytes between memory tiers: the path, its rate for every device, and its energy.

Links with endpoints join tiers (host memory and HBM, flash and host memory). All devices pull at
once, so a tier or link that several devices share is divided among them; a device's rate is that of
the narrowest place on the path.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

import networkx as nx
import numpy as np
from numpy.typing import NDArray

from archsim.errors import InputError
from archsim.hardware import Machine, NodeTable

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Path:
    """The way from one tier to another.

    Attributes:
        tiers: Tiers passed, first to last.
        links: Links between them.
        bandwidth: Of one device while all pull, bytes/s.
        latency: Until the first byte, s.
        joules_per_byte: Read, carried, written; at every stop on the way.
        narrowest: Name of the tier or link that sets the bandwidth (of the first design).
    """

    tiers: tuple[str, ...]
    links: tuple[str, ...]
    bandwidth: Floats
    latency: Floats
    joules_per_byte: Floats
    narrowest: str

    def seconds(self, held: Floats | float) -> Floats:
        """Time until every device has its ``held`` bytes."""
        return self.latency + held / self.bandwidth


def tier_path(machine: Machine, node: NodeTable, source: str, target: str) -> Path:
    """The path with the fewest links between two tiers.

    Raises:
        InputError: No such tier, or no links lead from one to the other.

    Example:
        >>> from archsim.hardware import load_machine, resolve_node
        >>> machine = load_machine("h100x8")
        >>> path = tier_path(machine, resolve_node(machine), "nvme", "hbm")
        >>> path.tiers, path.narrowest
        (('nvme', 'host_dram', 'hbm'), 'nvme')
    """
    for name in (source, target):
        machine.item("tiers", name)
    graph = nx.Graph()
    graph.add_nodes_from(tier.name for tier in machine.tiers)
    for link in machine.links:
        if link.endpoints and set(link.endpoints) <= set(graph):
            graph.add_edge(*link.endpoints, link=link.name)
    try:
        tiers = nx.shortest_path(graph, source, target)
    except nx.NetworkXNoPath:
        raise InputError(
            "no links lead from one tier to the other",
            source=machine.name,
            field="links",
            found=f"{source} to {target}",
        ) from None
    links = [graph.edges[pair]["link"] for pair in pairwise(tiers)]
    devices = node.devices

    def each(figures: Mapping[str, Floats], bandwidth: str) -> Floats:
        return figures[bandwidth] * np.minimum(1.0, figures["instances"] / devices)

    rates: dict[str, Floats] = {}
    latency, energy = np.zeros(node.designs), np.zeros(node.designs)
    for index, name in enumerate(tiers):
        figures = node.tiers[name]
        if index < len(tiers) - 1:
            rates[name] = each(figures, "bandwidth_bytes_per_s")
            latency = latency + figures["latency_s"]
            energy = energy + 8.0 * figures["read_energy_j_per_bit"]
        if index:
            written = each(figures, "write_bandwidth_bytes_per_s")
            rates[name] = np.minimum(rates.get(name, written), written)
            energy = energy + 8.0 * figures["write_energy_j_per_bit"]
    for name in links:
        rates[name] = each(node.links[name], "bandwidth_bytes_per_s")
        latency = latency + node.links[name]["latency_s"]
        energy = energy + 8.0 * node.links[name]["energy_j_per_bit"]
    narrowest = min(rates, key=lambda name: rates[name][0])
    slowest = np.minimum.reduce(list(rates.values()))
    return Path(tuple(tiers), tuple(links), slowest, latency, energy, narrowest)
