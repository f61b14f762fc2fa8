"""Memory and link kinds: figures per channel (memory) or per lane (link).

Bandwidth is peak pin bandwidth of one channel. ``latency_s`` is the idle device time of a read to a
closed row, tRCD + CL + burst, from the JEDEC-style presets of the simulators named; controller and
PHY pipelines are not in it. ``background_w`` is precharge standby, VDD x IDD2N x devices of a
channel, from DRAMsim3/DRAMSys presets where currents are public. ``phy_mm2`` is controller plus PHY
on the logic die and does not scale with the node (analogue). Energies are per bit moved, device and
interface together, and rest on the weakest sources of this library; override them per tier.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from math import nan

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class MemoryKind:
    """One channel of a memory standard.

    Attributes:
        name: Standard.
        bandwidth: Peak, bytes/s.
        energy_pj_per_bit: Read or write, pJ/bit.
        latency_ns: tRCD + CL + burst, ns.
        burst_bits: Bits of one access.
        background_w: Standby power, W.
        phy_mm2: PHY and controller on the logic die, mm2.
        source: Where the figures come from; "estimate" marks what is not published.
    """

    name: str
    bandwidth: float
    energy_pj_per_bit: float
    latency_ns: float
    burst_bits: float
    background_w: float
    phy_mm2: float
    source: str


# DDR3 PHY area: TPU v1 floorplan (ISCA'17, fig. 2) gives each of its two DDR3 ports 3 % of a die
# of at most 331 mm2. All other PHY areas are estimates scaled from it by width and generation.
MEMORY_KINDS = (
    MemoryKind(
        "DDR3",
        12.8e9,
        70.0,
        30.0,
        512,
        0.54,
        9.9,
        "1600 MT/s x 64 bit; 70 pJ/b Accelergy/CACTI plug-in (Malladi ISCA'12); timing and "
        "IDD2N DRAMSys MICRON_1Gb_DDR3-1600_8bit_G; PHY 3 % of TPU v1 die",
    ),
    MemoryKind(
        "DDR4",
        19.2e9,
        18.75,
        31.5,
        512,
        0.33,
        8.0,
        "2400 MT/s x 64 bit; 1200 pJ per 64 bit in BitMoD's simulator (HPCA'25, DRAMsim3 power); "
        "timing and IDD2N DRAMsim3 DDR4_8Gb_x8_2400; PHY estimate",
    ),
    MemoryKind(
        "DDR5",
        19.2e9,
        15.8,
        31.6,
        512,
        0.15,
        4.5,
        "4800 MT/s x 32-bit subchannel; energy estimate = DDR4 x (1.1 V / 1.2 V)^2; timing "
        "Ramulator 2.1 DDR5_4800AN; standby and PHY estimates",
    ),
    MemoryKind(
        "LPDDR3",
        6.4e9,
        18.0,
        38.0,
        256,
        0.05,
        3.0,
        "1600 MT/s x 32 bit; energy estimate = geometric mean of LPDDR(2) 40 and LPDDR4 8; "
        "latency, standby and PHY estimates",
    ),
    MemoryKind(
        "LPDDR4",
        6.4e9,
        8.0,
        40.6,
        256,
        0.041,
        1.3,
        "3200 MT/s x 16 bit; 8 pJ/b Accelergy/CACTI plug-in; timing DRAMSys "
        "JEDEC_512Mbx16_LPDDR4-3200; IDD2N DRAMsim3 LPDDR4_8Gb_x16_2400; PHY estimate",
    ),
    MemoryKind(
        "LPDDR5",
        12.8e9,
        6.0,
        42.5,
        256,
        0.035,
        1.5,
        "6400 MT/s x 16 bit; energy estimate (LPDDR4 less 25 % for the lower VDDQ); timing "
        "Ramulator 2.1 LPDDR5_6400; standby and PHY estimates",
    ),
    MemoryKind(
        "GDDR6",
        28.0e9,
        7.5,
        30.2,
        256,
        0.081,
        3.0,
        "14 Gb/s x 16 bit; energy recalled from vendor material, unchecked (GDDR5 is 14: "
        "O'Connor et al. MICRO'17); timing Ramulator 2.1 GDDR6_14000; IDD2N DRAMsim3; PHY estimate",
    ),
    MemoryKind(
        "HBM2",
        32.0e9,
        6.25,
        30.0,
        256,
        0.048,
        3.0,
        "2 Gb/s x 128 bit, 8 channels a stack; 6.25 pJ/b Accelergy/CACTI plug-in (device alone "
        "3.9: O'Connor et al. MICRO'17); timing Ramulator HBM2_2000; IDD2N DRAMsim3; PHY estimate",
    ),
    MemoryKind(
        "HBM2E",
        51.2e9,
        5.0,
        30.0,
        256,
        0.055,
        3.3,
        "3.2 Gb/s x 128 bit, 8 channels a stack; energy estimate between HBM2 and HBM3; no public "
        "preset: timing as HBM2; standby and PHY estimates",
    ),
    MemoryKind(
        "HBM3",
        51.2e9,
        4.05,
        33.1,
        256,
        0.03,
        1.9,
        "6.4 Gb/s x 64 bit, 16 channels a stack; 4.05 pJ/b Accelergy/CACTI plug-in (AttAcc and "
        "Duplex: 3.5 from FGDRAM parts); timing Ramulator HBM3_6400; standby and PHY estimates",
    ),
    MemoryKind(
        "HBM3E",
        76.8e9,
        4.05,
        33.1,
        256,
        0.03,
        1.9,
        "9.6 Gb/s x 64 bit, 16 channels a stack (JEDEC JESD238); energy and timing as HBM3 "
        "(estimate)",
    ),
    MemoryKind(
        "HBM4",
        64.0e9,
        3.2,
        30.5,
        256,
        0.03,
        2.0,
        "8 Gb/s x 64 bit, 32 channels a stack; 3.2 pJ/b Accelergy/CACTI plug-in; timing Ramulator "
        "HBM4_8000; standby and PHY estimates",
    ),
    MemoryKind(
        "LPDDR5X",
        17.1e9,
        5.0,
        42.5,
        256,
        0.035,
        1.5,
        "8533 MT/s x 16 bit; energy estimate (LPDDR5 less 17 %); rest as LPDDR5",
    ),
    MemoryKind(
        "NAND",
        7.0e9,
        90.0,
        80e3,
        32768,
        5.0,
        4.0,
        "one NVMe drive on PCIe 4.0 x4, data-centre TLC class: 7 GB/s sequential read, 80 us, 5 W "
        "idle (recalled from vendor data sheets, unchecked); energy estimate = 5 W above idle at "
        "full rate; a burst is a 4 KiB page; writes are slower: give write_bandwidth_bytes_per_s",
    ),
    MemoryKind(
        "SRAM",
        nan,
        0.3,
        20.0,
        256,
        0.0,
        0.0,
        "on-chip memory shared by an engine: bandwidth from the tier; 0.3 pJ/b as AttAcc's "
        "simulator charges a GPU's L2; latency estimate; leakage and area are in the die's",
    ),
    MemoryKind("custom", nan, nan, 0.0, 512, 0.0, 0.0, "everything from the tier's own fields"),
)
TIER_KINDS: tuple[str, ...] = tuple(kind.name for kind in MEMORY_KINDS)
#: Footprint of making memory, g CO2e a GB: ACT (ISCA 2022), table 1: 10 nm DDR4 65, LPDDR4 48,
#: 20 nm DDR3 about 230 (30 nm), TLC flash 6.3. Newer DRAM and HBM (same cell, more bits a wafer,
#: but stacked) take DDR4's value: an estimate. SRAM is in its die.
GRAMS_PER_GB = {"DDR3": 230.0, "LPDDR3": 184.0, "LPDDR4": 48.0, "NAND": 6.3, "SRAM": 0.0}
DRAM_GRAMS_PER_GB = 65.0
#: Price of memory, USD a GB, for designs with more or less of it than shipped. HBM3E 8 to 10 and
#: DDR5 1.5 to 2 (analysts' contract prices of 2025, asiatechfeed.com "What is HBM memory"); server
#: modules, LPDDR, GDDR and flash by their usual distance from DDR5: estimates.
USD_PER_GB = {"HBM2": 9.0, "HBM2E": 9.0, "HBM3": 9.0, "HBM3E": 9.0, "HBM4": 12.0, "GDDR6": 3.0,
              "NAND": 0.1, "SRAM": 0.0, "custom": 0.0}  # fmt: skip
DRAM_USD_PER_GB = 2.0


def memory_table() -> dict[str, NDArray[np.float64]]:
    """The figures as arrays over ``TIER_KINDS``, SI units (J/bit, s, W, mm2, bytes/s,
    bits, kg/byte, USD/byte)."""
    columns = {
        field.name: np.array([getattr(kind, field.name) for kind in MEMORY_KINDS], dtype=np.float64)
        for field in fields(MemoryKind)
        if field.name not in ("name", "source")
    }
    return {
        "bandwidth_bytes_per_s": columns["bandwidth"],
        "energy_j_per_bit": columns["energy_pj_per_bit"] * 1e-12,
        "latency_s": columns["latency_ns"] * 1e-9,
        "burst_bits": columns["burst_bits"],
        "background_power_w": columns["background_w"],
        "phy_area_mm2": columns["phy_mm2"],
        "kg_per_byte": np.array([GRAMS_PER_GB.get(n, DRAM_GRAMS_PER_GB) for n in TIER_KINDS])
        * 1e-12,
        "usd_per_byte": np.array([USD_PER_GB.get(n, DRAM_USD_PER_GB) for n in TIER_KINDS]) * 1e-9,
    }


@dataclass(frozen=True)
class LinkKind:
    """One lane (PCIe) or one link (NVLink) in one direction.

    Attributes:
        name: Standard.
        bandwidth: One direction, bytes/s, after line coding.
        latency_s: One way, s.
        energy_pj_per_bit: pJ per bit moved.
        source: Where the figures come from.
    """

    name: str
    bandwidth: float
    latency_s: float
    energy_pj_per_bit: float
    source: str


_PCIE = "per lane: PCI-SIG rate after line coding; latency and energy estimates"
_NVLINK = "per link, NVIDIA data sheets; latency from the Duplex simulator; 1.3 pJ/b AttAcc"
_IB = (
    "per 4x port: 100, 200, 400 Gb/s InfiniBand; latency of two adapters and one switch and energy "
    "with optics are estimates"
)
LINKS = (
    LinkKind("pcie3", 8e9 * 128 / 130 / 8, 0.5e-6, 5.0, _PCIE),
    LinkKind("pcie4", 16e9 * 128 / 130 / 8, 0.5e-6, 5.0, _PCIE),
    LinkKind("pcie5", 32e9 * 128 / 130 / 8, 0.5e-6, 5.0, _PCIE),
    LinkKind("nvlink2", 25e9, 0.8e-6, 1.3, _NVLINK),
    LinkKind("nvlink3", 25e9, 0.8e-6, 1.3, _NVLINK),
    LinkKind("nvlink4", 25e9, 0.8e-6, 1.3, _NVLINK),
    LinkKind("nvlink5", 50e9, 0.8e-6, 1.3, _NVLINK),
    LinkKind("ib_edr", 12.5e9, 1.3e-6, 10.0, _IB),
    LinkKind("ib_hdr", 25e9, 1.3e-6, 10.0, _IB),
    LinkKind("ib_ndr", 50e9, 1.3e-6, 10.0, _IB),
    LinkKind("custom", nan, 0.0, 0.0, "everything from the link's own fields"),
)
LINK_KINDS: tuple[str, ...] = tuple(kind.name for kind in LINKS)
