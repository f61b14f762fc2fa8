"""Embodied and operational carbon of a machine, and what it costs to own: stated models.

Silicon: carbon per area = (fab electricity x its carbon intensity + fluorinated gases + materials)
over the yield. Memory: per byte (``archsim.hardware.tiers``). U. Gupta et al., "ACT: designing
sustainable computer systems with an architectural carbon modeling tool", ISCA 2022, table 1, in the
values of its public release (facebookresearch/ACT): electricity and gases by node, 97 % abatement
taken as the mean of its 95 and 99 % columns, Taiwan's grid, a yield of 0.875, 150 g a package.
Boards, supplies and cooling are not in it: they enter only where a part gives its own footprint.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

from archsim.errors import InputError
from archsim.hardware.machine import Machine
from archsim.hardware.node import NodeTable, resolve_node
from archsim.hardware.table import given_or

Floats = NDArray[np.float64]

#: ACT, table 1: node nm; fab electricity kWh/cm2; gases g/cm2 at 95 and at 99 % abatement.
FAB_NODES_NM = np.array([3.0, 5.0, 7.0, 8.0, 10.0, 14.0, 20.0, 28.0])
FAB_KWH_PER_CM2 = np.array([3.25, 2.75, 2.15, 1.52, 1.475, 1.2, 1.2, 0.9])
FAB_GAS95_G_PER_CM2 = np.array([470.0, 430.0, 350.0, 240.0, 240.0, 200.0, 190.0, 175.0])
FAB_GAS99_G_PER_CM2 = np.array([275.0, 225.0, 200.0, 150.0, 150.0, 125.0, 110.0, 100.0])
FAB_MATERIALS_G_PER_CM2 = 500.0
FAB_YIELD = 0.875
PACKAGE_KG = 0.150
#: Grid of the fab, g CO2e a kWh: Taiwan in ACT's table 1 (583).
FAB_GRID_G_PER_KWH = 583.0
#: Grid of the data centre, g CO2e a kWh: United States in ACT's table 1 (380).
GRID_G_PER_KWH = 380.0
SECONDS_A_YEAR = 365.25 * 86400.0


def silicon_kg(area_mm2: ArrayLike, process_nm: ArrayLike) -> Floats:
    """Footprint of fabricating and packaging dies, kg CO2e (no extrapolation beyond 3..28 nm).

    Example:
        >>> round(float(silicon_kg(814, 5)), 1)
        22.8
    """
    node = np.clip(process_nm, FAB_NODES_NM[0], FAB_NODES_NM[-1])
    electricity = np.interp(node, FAB_NODES_NM, FAB_KWH_PER_CM2) * FAB_GRID_G_PER_KWH
    gases = np.interp(node, FAB_NODES_NM, (FAB_GAS95_G_PER_CM2 + FAB_GAS99_G_PER_CM2) / 2)
    per_cm2 = (electricity + gases + FAB_MATERIALS_G_PER_CM2) / FAB_YIELD
    return np.asarray(per_cm2 * np.asarray(area_mm2) / 100.0 / 1000.0 + PACKAGE_KG)


def footprints(node: NodeTable) -> dict[str, Floats]:
    """Footprint of making machines by part and tier, all instances together, kg CO2e float64[B]."""
    found = {}
    for name, part in node.parts.items():
        known = ~np.isnan(part["die_area_mm2"] + part["process_nm"])
        nm = given_or(part["process_nm"], float(FAB_NODES_NM[-1]))
        made = np.where(known, silicon_kg(given_or(part["die_area_mm2"]), nm), 0.0)
        given = part["embodied_kg_co2e"]
        found[name] = part["instances"] * np.where(np.isnan(given), made, given)
    return found | {n: t["instances"] * t["embodied_kg_co2e"] for n, t in node.tiers.items()}


def embodied_kg(machine: Machine) -> dict[str, float]:
    """Footprint of making a machine by part and tier, all its instances together, kg CO2e."""
    return {name: float(kg[0]) for name, kg in footprints(resolve_node(machine)).items()}


@dataclass(frozen=True, eq=False)
class Bill:
    """What machines are bought and powered as, all parts and tiers together; float64[B] each.

    Parts give their figures as shipped, memory included; of memory a design has beyond (or below)
    that, its kind's price, standby power and interface area are added (or taken off).

    Attributes:
        area_mm2: Logic silicon.
        price_usd: Of all parts and tiers that give a price.
        idle_w: Power drawn whatever runs.
        tdp_w: Thermal design power of the parts that give one.
        embodied_kg_co2e: Footprint of making them, see :func:`footprints`.
    """

    area_mm2: Floats
    price_usd: Floats
    idle_w: Floats
    tdp_w: Floats
    embodied_kg_co2e: Floats


def bill(machine: Machine, node: NodeTable | None = None) -> Bill:
    """What a machine is bought and powered as.

    Args:
        machine: The machine as shipped.
        node: Designs of it; default itself.

    Example:
        >>> from archsim.hardware import load_machine
        >>> float(bill(load_machine("h100x8")).price_usd[0])
        320000.0
    """
    shipped = _shipped(machine)
    node = node or shipped

    def parts(field: str) -> Floats:
        listed = [given_or(p[field]) * p["instances"] for p in node.parts.values()]
        return sum(listed, np.zeros(node.designs))

    more = {name: np.zeros(node.designs) for name in _MEMORY}
    for name, tier in node.tiers.items():
        for field in _MEMORY:
            before = shipped.tiers[name][field]
            if field == "price_usd":
                before = np.where(shipped.tiers[name]["bought_apart"] > 0, 0.0, before)
            more[field] = more[field] + (tier[field] - before) * tier["instances"]
    # Units that compute in memory lie on dies of their own, in no part of the machine.
    inside = sum(
        (e["area_mm2"] * e["instances"] for e in node.engines.values() if "bandwidth_factor" in e),
        np.zeros(node.designs),
    )
    return Bill(
        np.maximum(parts("die_area_mm2") + more["phy_area_mm2"] + inside, 0.0),
        np.maximum(parts("price_usd") + more["price_usd"], 0.0),
        np.maximum(parts("idle_w") + more["background_power_w"], 0.0),
        parts("tdp_w"),
        sum(footprints(node).values(), np.zeros(node.designs)),
    )


#: Figures of tiers that count where a design differs from the machine as shipped.
_MEMORY = ("phy_area_mm2", "price_usd", "background_power_w")


@lru_cache(maxsize=64)
def _shipped(machine: Machine) -> NodeTable:
    return resolve_node(machine)


@dataclass(frozen=True, eq=False)
class Ownership:
    """What a second of machines costs; float64[B] each.

    Attributes:
        usd_per_s: Price spread over the lifetime, and electricity.
        kg_co2e_per_s: Embodied footprint spread over the lifetime, and that of electricity.
        price_usd: As in :class:`Bill`.
        embodied_kg_co2e: As in :class:`Bill`.
        power_w: Average power the figures are for, at the wall.
    """

    usd_per_s: Floats
    kg_co2e_per_s: Floats
    price_usd: Floats
    embodied_kg_co2e: Floats
    power_w: Floats


def ownership(
    machine: Machine | Bill,
    power_w: ArrayLike,
    *,
    years: float = 4.0,
    usd_per_kwh: float = 0.10,
    grid_g_per_kwh: float = GRID_G_PER_KWH,
    pue: float = 1.2,
) -> Ownership:
    """Cost and carbon of running machines for a second.

    Straight-line over the lifetime, always busy; no staff, building or network. Four years, 0.10
    USD/kWh and a power usage effectiveness of 1.2 are assumptions to be replaced by one's own.

    Args:
        machine: The machine, or what many are bought as.
        power_w: Average power it draws; float or float64[B].
        years: Lifetime.
        usd_per_kwh: Price of electricity.
        grid_g_per_kwh: Carbon intensity of electricity, g CO2e a kWh.
        pue: Power at the wall over power of the machine.

    Raises:
        InputError: A negative figure, or no lifetime.
    """
    power = np.atleast_1d(np.asarray(power_w, dtype=float))
    if not ((power >= 0) & np.isfinite(power)).all():
        raise InputError("must be finite and not negative", field="power_w", found=power_w)
    for name, value in (("usd_per_kwh", usd_per_kwh), ("grid_g_per_kwh", grid_g_per_kwh)):
        if not 0 <= value < np.inf:
            raise InputError("must be finite and not negative", field=name, found=value)
    if not 0 < years < np.inf or not 1 <= pue < np.inf:
        raise InputError("years must be positive and pue at least 1", found=(years, pue))
    had = machine if isinstance(machine, Bill) else bill(machine)
    wall_kw = power * pue / 1000.0
    life_s = years * SECONDS_A_YEAR
    return Ownership(
        had.price_usd / life_s + wall_kw * usd_per_kwh / 3600.0,
        had.embodied_kg_co2e / life_s + wall_kw * grid_g_per_kwh / 3600.0 / 1000.0,
        had.price_usd,
        had.embodied_kg_co2e,
        power * pue,
    )
