"""From a ``Machine`` and overridden values to the figures of its tiers, engines and links.

``resolve`` opens one spatial engine; this looks at the machine from outside: what each tier holds
and moves, what each engine can do at its peak, what each link carries, and how many there are of
each, for B designs at once. Counts are machine-wide; every other figure is of one instance.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import ArrayLike, NDArray

from archsim.errors import InputError
from archsim.hardware.attention import AttentionEngine
from archsim.hardware.components import operation_energy_j
from archsim.hardware.devices import Link, Part, RatedEngine, Tier
from archsim.hardware.dot_product import DotProductEngine
from archsim.hardware.leaves import unknown_path
from archsim.hardware.machine import Engine, Machine
from archsim.hardware.pim import PimEngine, pim_figures
from archsim.hardware.spatial import Fanout, SpatialEngine, VectorEngine
from archsim.hardware.table import Floats, given_or
from archsim.hardware.tiers import LINKS, memory_table
from archsim.hardware.values import Values

#: Figures of a part that may follow others of the machine.
GROWING = ("die_area_mm2", "tdp_w", "idle_w", "price_usd", "embodied_kg_co2e")
_MEMORY = memory_table()
_LINK = {
    "bandwidth_bytes_per_s": np.array([kind.bandwidth for kind in LINKS]),
    "latency_s": np.array([kind.latency_s for kind in LINKS]),
    "energy_j_per_bit": np.array([kind.energy_pj_per_bit for kind in LINKS]) * 1e-12,
}


@dataclass(frozen=True, eq=False)
class NodeTable:
    """The figures of a machine's tiers, engines and links for B designs; arrays are float64[B].

    Attributes:
        machine: Name of the machine.
        designs: B.
        counts: Members of each group in one outer group.
        devices: Innermost groups in the whole machine.
        tiers: By tier and figure: ``capacity_bytes``, ``bandwidth_bytes_per_s``,
            ``write_bandwidth_bytes_per_s``, ``latency_s``, ``read_energy_j_per_bit``,
            ``write_energy_j_per_bit``, ``background_power_w``, ``phy_area_mm2``, ``price_usd``
            (what the file gives, else by kind and capacity), ``bought_apart`` (1 where the file
            gives it), ``embodied_kg_co2e``, ``instances``.
        engines: By engine and figure: every number the engine gives (``sms``, ``l2_bytes``,
            ``rates.fp16.flops_per_s`` ...; NaN where left out), with ``clock_hz`` and
            ``instances``; for spatial engines ``peak_flops_per_s``.
        links: By link and figure: ``bandwidth_bytes_per_s``, ``latency_s``, ``energy_j_per_bit``,
            ``members`` (joined by a link across a group; 2 between endpoints), ``instances``.
        parts: By part and figure: every number it gives (``idle_w``, ``price_usd`` ...; NaN where
            left out), with ``instances`` (all of the machine's).
        problems: bool[B] by reason, as in ``EngineTable``.
    """

    machine: str
    designs: int
    counts: dict[str, Floats]
    devices: Floats
    tiers: dict[str, dict[str, Floats]]
    engines: dict[str, dict[str, Floats]]
    links: dict[str, dict[str, Floats]]
    parts: dict[str, dict[str, Floats]]
    problems: dict[str, NDArray[np.bool_]]


def resolve_node(machine: Machine, overrides: Mapping[str, ArrayLike] | None = None) -> NodeTable:
    """The figures of a machine, with defaults filled in, for B designs.

    Args:
        machine: The base machine.
        overrides: Values by dotted path, scalars or arrays of one common length B, as in
            ``resolve``.

    Raises:
        InputError: Unknown path or string, or arrays of different length.

    Example:
        >>> from archsim.hardware import load_machine, resolve_node
        >>> node = resolve_node(load_machine("h100x8"), {"groups.gpu.count": [4, 8]})
        >>> node.tiers["hbm"]["instances"].tolist()
        [4.0, 8.0]
    """
    values = Values(machine, "", overrides or {})
    size = values.designs

    def spread(column: ArrayLike) -> Floats:
        found = np.asarray(column, dtype=np.float64)
        return found if found.shape == (size,) else np.broadcast_to(found, (size,))

    counts = {g.name: spread(values(f"groups.{g.name}.count")) for g in machine.groups}
    total, running = {}, np.ones(size)
    for name, count in counts.items():
        running = running * count
        total[name] = running
        most = machine.item("groups", name).most
        if most is not None:
            values.flag(f"groups.{name}.count must be at most {most}", count > most)

    def instances(within: str | None) -> Floats:
        return running if within is None else total[within]

    tiers = {
        tier.name: values.part(f"tiers.{tier.name}.", (), partial(_tier, values, tier))
        | {"instances": instances(tier.within)}
        for tier in machine.tiers
    }
    engines = {
        engine.name: values.part(
            f"engines.{engine.name}.", ("clock_hz",), partial(_engine, values, engine)
        )
        | {"instances": instances(engine.within)}
        for engine in machine.engines
    }
    parts = {}
    for part in machine.parts:
        path = f"parts.{part.name}."
        figures = values.part(
            path, tuple(g.path for g in part.grows), partial(_part, values, part, machine)
        )
        many = figures["per_group"] * instances(part.within)
        parts[part.name] = figures | {"instances": many}
    places = {item.name: item.within for item in (*machine.tiers, *machine.engines)}
    links = {}
    for link in machine.links:
        figures = values.part(f"links.{link.name}.", (), partial(_link, values, link))
        if link.across is not None:
            outer = total[link.across] / counts[link.across]
            figures |= {"members": counts[link.across], "instances": outer}
        else:
            ends = [instances(places[end]) for end in link.endpoints or () if end in places]
            many = np.maximum.reduce(ends) if ends else running
            figures |= {"members": np.full(size, 2.0), "instances": many}
        links[link.name] = figures

    def filled(items: dict[str, dict[str, Floats]]) -> dict[str, dict[str, Floats]]:
        return {n: {k: spread(v) for k, v in item.items()} for n, item in items.items()}

    problems = {
        why: np.array(np.broadcast_to(mask, (size,))) for why, mask in values.problems.items()
    }
    return NodeTable(
        machine.name, size, counts, spread(running), filled(tiers), filled(engines), filled(links),
        filled(parts), problems,
    )  # fmt: skip


def _tier(values: Values, tier: Tier) -> dict[str, Floats]:
    path = f"tiers.{tier.name}."
    kind, channels = values(path + "kind"), values(path + "channels")
    capacity = values(path + "capacity_bytes")

    def figure(field: str, column: str, each: bool = False) -> Floats:
        default = _MEMORY[column][kind] * (channels if each else 1.0)
        return values.or_else(path + field, default)

    bandwidth = figure("bandwidth_bytes_per_s", "bandwidth_bytes_per_s", True)
    read = figure("read_energy_j_per_bit", "energy_j_per_bit")
    values.flag(f"{path}kind needs bandwidth and energy", np.isnan(bandwidth) | np.isnan(read))
    bandwidth, read = np.where(np.isnan(bandwidth), 1.0, bandwidth), given_or(read)
    return {
        "capacity_bytes": capacity,
        "bandwidth_bytes_per_s": bandwidth,
        "write_bandwidth_bytes_per_s": values.or_else(
            path + "write_bandwidth_bytes_per_s", bandwidth
        ),
        "latency_s": figure("latency_s", "latency_s"),
        "read_energy_j_per_bit": read,
        "write_energy_j_per_bit": values.or_else(path + "write_energy_j_per_bit", read),
        "background_power_w": figure("background_power_w", "background_power_w", True),
        "phy_area_mm2": figure("phy_area_mm2", "phy_area_mm2", True),
        "price_usd": values.or_else(path + "price_usd", capacity * _MEMORY["usd_per_byte"][kind]),
        "bought_apart": (~np.isnan(values(path + "price_usd"))).astype(float),
        "embodied_kg_co2e": values.or_else(
            path + "embodied_kg_co2e", capacity * _MEMORY["kg_per_byte"][kind]
        ),
    }


def _link(values: Values, link: Link) -> dict[str, Floats]:
    path = f"links.{link.name}."
    kind = values(path + "kind")
    bandwidth = values.or_else(
        path + "bandwidth_bytes_per_s",
        _LINK["bandwidth_bytes_per_s"][kind] * values(path + "lanes"),
    )
    values.flag(f"{path}kind custom needs bandwidth", np.isnan(bandwidth))
    return {
        "bandwidth_bytes_per_s": np.where(np.isnan(bandwidth), 1.0, bandwidth),
        "latency_s": values.or_else(path + "latency_s", _LINK["latency_s"][kind]),
        "energy_j_per_bit": values.or_else(
            path + "energy_j_per_bit", _LINK["energy_j_per_bit"][kind]
        ),
    }


def _engine(values: Values, engine: Engine) -> dict[str, Floats]:
    """Every number of an engine; a spatial engine is summed up by its peak."""
    path = f"engines.{engine.name}."
    clock = values("clock_hz")
    if isinstance(engine, SpatialEngine):
        macs: Floats = np.ones(1)
        for slot in engine.slots:
            if isinstance(slot, Fanout):
                macs = macs * values(f"{path}slots.{slot.name}.fanout")
        peak = 2.0 * macs * clock / values(f"{path}mac.cycles")
        return {"clock_hz": clock, "macs": macs, "peak_flops_per_s": peak}
    if isinstance(engine, VectorEngine):
        lanes = values(f"{path}lanes")
        return {"clock_hz": clock, "lanes": lanes, "peak_flops_per_s": lanes * clock}
    if isinstance(engine, PimEngine):
        return pim_figures(values, engine)
    if not isinstance(engine, (RatedEngine, DotProductEngine, AttentionEngine)):
        raise InputError("no figures are known for this kind of engine", field=path[:-1])
    figures = _numbers(values, path) | {"clock_hz": values.or_else(path + "clock_hz", clock)}
    if isinstance(engine, RatedEngine):
        node_nm = values("technology_nm")
        for rate in engine.rates:
            field = f"rates.{rate.name}.energy_j_per_flop"
            figures[field] = values.or_else(path + field, operation_energy_j(rate.name, node_nm))
    return figures


def _part(values: Values, part: Part, machine: Machine) -> dict[str, Floats]:
    """Every number of a part, as it grows with others of the machine."""
    prefix = f"parts.{part.name}."
    figures = _numbers(values, prefix)
    for growth in part.grows:
        leaf = values.leaves.get(growth.path)
        if leaf is None:
            raise unknown_path(growth.path, values.leaves, machine.name)
        if leaf.kind not in ("number", "integer") or leaf.value is None:
            raise InputError(
                "a part grows with a number that the file gives", source=machine.name,
                field=f"{prefix}grows.{growth.name}.path", found=growth.path,
            )  # fmt: skip
        more = values(growth.path) - float(leaf.value)
        for field in GROWING:
            slope = values(f"{prefix}grows.{growth.name}.{field}")
            if slope.any():
                figures[field] = np.maximum(given_or(figures[field]) + slope * more, 0.0)
    return figures


def _numbers(values: Values, path: str) -> dict[str, Floats]:
    """Every number below a path, NaN where left out."""
    return {
        leaf.path.removeprefix(path): values(leaf.path)
        for leaf in values.leaves.values()
        if leaf.path.startswith(path) and leaf.kind in ("number", "integer")
    }
