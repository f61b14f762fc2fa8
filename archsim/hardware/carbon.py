"""Embodied and operational carbon of a machine, and what it costs to own: stated models.

Silicon: carbon per area = (fab electricity x its carbon intensity + fluorinated gases + materials)
over the yield. Memory: per byte. U. Gupta et al., "ACT: designing sustainable computer systems with
an architectural carbon modeling tool", ISCA 2022, table 1, in the values of its public release
(facebookresearch/ACT): electricity and gases by node, 97 % abatement taken as the mean of its 95
and 99 % columns, Taiwan's grid, a yield of 0.875, 150 g a package. Boards, supplies and cooling are
not in it: they enter only where a part gives its own footprint.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from archsim.errors import InputError
from archsim.hardware.devices import Part, Tier
from archsim.hardware.machine import Machine

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
#: g CO2e a GB: ACT, table 1: 10 nm DDR4 65, LPDDR4 48, 20 nm DDR3 about 230 (30 nm), TLC flash 6.3.
#: Newer DRAM and HBM (same cell, more bits a wafer, but stacked) take DDR4's value: an estimate.
MEMORY_G_PER_GB = {"DDR3": 230.0, "LPDDR3": 184.0, "LPDDR4": 48.0, "NAND": 6.3}
DRAM_G_PER_GB = 65.0
SECONDS_A_YEAR = 365.25 * 86400.0


def silicon_kg(area_mm2: float, process_nm: float) -> float:
    """Footprint of fabricating and packaging a die, kg CO2e (no extrapolation beyond 3..28 nm).

    Example:
        >>> round(silicon_kg(814, 5), 1)
        22.8
    """
    node = float(np.clip(process_nm, FAB_NODES_NM[0], FAB_NODES_NM[-1]))
    electricity = np.interp(node, FAB_NODES_NM, FAB_KWH_PER_CM2) * FAB_GRID_G_PER_KWH
    gases = np.interp(node, FAB_NODES_NM, (FAB_GAS95_G_PER_CM2 + FAB_GAS99_G_PER_CM2) / 2)
    per_cm2 = (electricity + gases + FAB_MATERIALS_G_PER_CM2) / FAB_YIELD
    return float(per_cm2 * area_mm2 / 100.0 / 1000.0) + PACKAGE_KG


def _part_kg(part: Part) -> float:
    if part.embodied_kg_co2e is not None:
        return part.embodied_kg_co2e
    if part.die_area_mm2 is None or part.process_nm is None:
        return 0.0
    return silicon_kg(part.die_area_mm2, part.process_nm)


def _tier_kg(tier: Tier) -> float:
    if tier.embodied_kg_co2e is not None:
        return tier.embodied_kg_co2e
    if tier.kind == "SRAM":
        return 0.0  # in the die's
    return MEMORY_G_PER_GB.get(tier.kind, DRAM_G_PER_GB) * tier.capacity_bytes / 1e9 / 1000.0


def embodied_kg(machine: Machine) -> dict[str, float]:
    """Footprint of making a machine by part and tier, all its instances together, kg CO2e."""
    parts = {p.name: machine.instances(p.within) * p.per_group * _part_kg(p) for p in machine.parts}
    tiers = {t.name: machine.instances(t.within) * _tier_kg(t) for t in machine.tiers}
    return parts | tiers


@dataclass(frozen=True)
class Ownership:
    """What a second of a machine costs.

    Attributes:
        usd_per_s: Price spread over the lifetime, and electricity.
        kg_co2e_per_s: Embodied footprint spread over the lifetime, and that of electricity.
        price_usd: Of all parts and tiers that give a price.
        embodied_kg_co2e: As :func:`embodied_kg` sums to.
        power_w: Average power the figures are for, at the wall.
    """

    usd_per_s: float
    kg_co2e_per_s: float
    price_usd: float
    embodied_kg_co2e: float
    power_w: float


def ownership(
    machine: Machine,
    power_w: float,
    *,
    years: float = 4.0,
    usd_per_kwh: float = 0.10,
    grid_g_per_kwh: float = GRID_G_PER_KWH,
    pue: float = 1.2,
) -> Ownership:
    """Cost and carbon of running a machine for a second.

    Straight-line over the lifetime, always busy; no staff, building or network. Four years, 0.10
    USD/kWh and a power usage effectiveness of 1.2 are assumptions to be replaced by one's own.

    Args:
        machine: The machine.
        power_w: Average power it draws.
        years: Lifetime.
        usd_per_kwh: Price of electricity.
        grid_g_per_kwh: Carbon intensity of electricity, g CO2e a kWh.
        pue: Power at the wall over power of the machine.

    Raises:
        InputError: A negative figure, or no lifetime.
    """
    figures = {"power_w": power_w, "usd_per_kwh": usd_per_kwh, "grid_g_per_kwh": grid_g_per_kwh}
    for name, value in figures.items():
        if not 0 <= value < np.inf:
            raise InputError("must be finite and not negative", field=name, found=value)
    if not 0 < years < np.inf or not 1 <= pue < np.inf:
        raise InputError("years must be positive and pue at least 1", found=(years, pue))
    bought = [(p.within, p.per_group * (p.price_usd or 0.0)) for p in machine.parts]
    bought += [(t.within, t.price_usd or 0.0) for t in machine.tiers]
    price = sum(machine.instances(within) * usd for within, usd in bought)
    embodied = sum(embodied_kg(machine).values())
    wall_kw = power_w * pue / 1000.0
    life_s = years * SECONDS_A_YEAR
    return Ownership(
        price / life_s + wall_kw * usd_per_kwh / 3600.0,
        embodied / life_s + wall_kw * grid_g_per_kwh / 3600.0 / 1000.0,
        price,
        embodied,
        power_w * pue,
    )
