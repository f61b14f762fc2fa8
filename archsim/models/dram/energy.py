"""Energy of a simulated channel from its command counts and the time its ranks were active.

With currents the model is that of the data sheets (Micron TN-41-01, TN-40-07), in the form of
DRAMPower 4: each command is charged its current above the standby current while it runs, and the
standby current flows all the time, the higher one while a row is open.
"""

from __future__ import annotations

import numpy as np

from archsim.errors import InputError
from archsim.models.dram import layout as L
from archsim.models.dram.spec import DramSpec

PARTS = ("activate", "precharge", "read", "write", "refresh", "standby_active", "standby_idle")


def _share(spec: DramSpec) -> float:
    """Part of a rank's banks that one REFB refreshes."""
    s = spec.structure
    same = spec.refresh_granularity == "same_bank"
    return 1 / s.banks_per_group if same else 1 / (s.bank_groups * s.banks_per_group)


def energies_j(spec: DramSpec, counts: np.ndarray, cycles: np.ndarray) -> np.ndarray:
    """Energy by cause, over all devices of a channel.

    Args:
        spec: The memory.
        counts: Command counts, cycles with an open row and rows closed, int64[..., ranks,
            RANK_SIZE].
        cycles: Length of the simulation, int64[...].

    Returns:
        float64[..., len(PARTS)], in J. Broadcast commands (PIM) are not included.

    Raises:
        InputError: The preset holds neither currents nor energies per bit.
    """
    n = counts.astype(float).sum(-2)
    ranks = counts.shape[-2]
    reads = n[..., L.RD] + n[..., L.RDA]
    writes = n[..., L.WR] + n[..., L.WRA]
    p = spec.parameters
    out = np.zeros((*np.shape(cycles), len(PARTS)))
    total = np.asarray(cycles, float) * ranks
    if spec.per_bit is not None:
        e = spec.per_bit
        bits = spec.structure.burst_bytes * 8
        out[..., 0] = n[..., L.ACT] * e.activate_pj
        out[..., 2] = reads * bits * e.read_pj_per_bit
        out[..., 3] = writes * bits * e.write_pj_per_bit
        out[..., 4] = (n[..., L.REFA] + n[..., L.REFB] * _share(spec)) * e.refresh_pj
        out[..., 6] = total * spec.clock_ps * 1e-3 * e.background_mw
        return out * 1e-12
    if spec.currents is None:
        raise InputError(
            "no published currents and no energies per bit: energy cannot be computed",
            source=spec.name,
            field="currents",
        )
    i = spec.currents
    # mA V cycles of the main supply plus those of the pump supply; a cycle is clock_ps.
    active = n[..., L.RANK_ACTIVE]
    if i.refresh_standby == "active":
        active = np.minimum(active + n[..., L.REFA] * max(p["RFC"] - p["RP"], 0), total)
    idle = total - active

    def both(main: float, pump: float) -> float:
        return i.vdd * main + i.vpp * pump

    ras, rp = p["RAS"], p["RC"] - p["RAS"]
    # A pump current that is not given does not change between standby and command.
    p2, p3 = i.ipp2n or i.ipp3n, i.ipp3n
    out[..., 0] = n[..., L.ACT] * ras * both(i.idd0 - i.idd3n, max(i.ipp0 - p3, 0.0))
    out[..., 1] = n[..., L.RANK_CLOSED] * rp * both(i.idd0 - i.idd2n, max(i.ipp0 - p2, 0.0))
    out[..., 2] = reads * p["BURST"] * both(i.idd4r - i.idd3n, max(i.ipp4r - p3, 0.0))
    out[..., 3] = writes * p["BURST"] * both(i.idd4w - i.idd3n, max(i.ipp4w - p3, 0.0))
    refreshes = n[..., L.REFA] * p["RFC"] * both(i.idd5 - i.idd3n, max(i.ipp5 - p3, 0.0))
    if i.idd5_bank:
        one = p["RFC_B"] * both(max(i.idd5_bank - i.idd3n, 0.0), 0.0)
    else:  # its share of a refresh of all banks
        one = _share(spec) * p["RFC"] * both(i.idd5 - i.idd3n, max(i.ipp5 - p3, 0.0))
    out[..., 4] = refreshes + n[..., L.REFB] * one
    out[..., 5] = active * both(i.idd3n, i.ipp3n)
    out[..., 6] = idle * both(i.idd2n, i.ipp2n)
    return out * spec.structure.devices * spec.clock_ps * 1e-3 * 1e-12
