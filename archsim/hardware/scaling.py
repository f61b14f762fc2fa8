"""How energy, area, leakage and delay of logic change with the technology node.

Coefficients: A. Stillmaker and B. Baas, "Scaling equations for the accurate prediction of CMOS
device performance from 180 nm to 7 nm", Integration 58 (2017) 74-81: table of area ratios and the
quadratic energy polynomials in the supply voltage (bulk 130-65 nm, low-power 45 and 32 nm,
high-performance FinFET 20-7 nm), read from the public transcription in Accelergy's hwcomponents
(``scaling/techscaling.py``) and cross-checked against ``nodeScale`` (UCLA NanoCAD).

The supply is fixed (see ``SUPPLY_V``), so energy does not depend on the clock; a design's clock is
bounded by component delays instead. The table mixes low-power bulk (45, 32 nm) and high-performance
FinFET (20 nm and below) as its source does, hence the large step between 32 and 20 nm.

All functions take and return NumPy arrays (or scalars) and broadcast.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]

#: Nodes of the Stillmaker & Baas tables, nm, ascending for interpolation.
NODES_NM: Array = np.array([7.0, 10.0, 14.0, 16.0, 20.0, 32.0, 45.0, 65.0, 90.0, 130.0])
MIN_NODE_NM, MAX_NODE_NM = 7.0, 130.0

#: Supply at which the polynomials are read, V. The voltage hwcomponents uses, so that component
#: energies agree with Accelergy's; it is inside the published range of every node.
SUPPLY_V = 0.8

#: Energy polynomial a V^2 + b V + c (arbitrary unit, only ratios count), Stillmaker & Baas 2017.
ENERGY_POLYNOMIAL: Array = np.array(
    [
        [0.1776, -0.09097, 0.02447],  # 7
        [0.2068, -0.09311, 0.02375],  # 10
        [0.2363, -0.09675, 0.02239],  # 14
        [0.2958, -0.1241, 0.03024],  # 16
        [0.373, -0.1582, 0.04104],  # 20
        [0.9559, -0.7823, 0.471],  # 32
        [1.103, -0.362, 0.2767],  # 45
        [3.755, -4.398, 1.975],  # 65
        [4.762, -4.781, 2.092],  # 90
        [7.171, -6.709, 2.904],  # 130
    ]
)
ENERGY_AT_NODE: Array = ENERGY_POLYNOMIAL @ np.array([SUPPLY_V**2, SUPPLY_V, 1.0])

#: Area of one design at each node relative to 130 nm: first row of the published 10 x 10 table
#: (130, 90, ... 7 nm). The other rows are this row's ratios rounded to two digits, so one row is
#: enough; it is refined with the 7 nm row where that has more digits. Stillmaker & Baas 2017.
AREA_AT_NODE: Array = np.array([0.0092, 0.016, 0.027, 0.030, 0.033, 0.072, 0.16, 0.23, 0.44, 1.0])

#: Fan-out-of-four delay per nm of node, s. Rule of thumb 0.36 (typical) to 0.5 (worst) ps per nm
#: of channel length: R. Ho, K. Mai, M. Horowitz, "The future of wires", Proc. IEEE 89 (2001).
#: Latency linear in the node is also what hwcomponents assumes. The 0.4 is an estimate.
FO4_S_PER_NM = 0.4e-12


_LOG_NODES = np.log(NODES_NM)
_LOG_AREA = np.log(AREA_AT_NODE)


class Process:
    """Nodes of many designs, with the scaling levels of each looked up once.

    Every component function takes node sizes in nm or a ``Process``; passing the same ``Process``
    to many of them saves the repeated interpolation.

    Args:
        node_nm: Technology nodes, nm.
    """

    def __init__(self, node_nm: ArrayLike) -> None:
        self.nm: Array = np.asarray(node_nm, dtype=np.float64)

    @cached_property
    def energy(self) -> Array:
        """Switching energy of a fixed piece of logic, arbitrary unit (linear between nodes)."""
        return np.interp(self.nm, NODES_NM, ENERGY_AT_NODE)

    @cached_property
    def area(self) -> Array:
        """Area of a fixed piece of logic relative to 130 nm (log-log between nodes)."""
        return np.exp(np.interp(np.log(self.nm), _LOG_NODES, _LOG_AREA))


NodeLike = ArrayLike | Process
_KNOWN: dict[float, Process] = {}


def process(node_nm: NodeLike) -> Process:
    """The ``Process`` of some nodes (itself, if it is one)."""
    if isinstance(node_nm, Process):
        return node_nm
    if isinstance(node_nm, float):
        return (
            _KNOWN.setdefault(node_nm, Process(node_nm)) if len(_KNOWN) < 64 else Process(node_nm)
        )
    return Process(node_nm)


def energy_factor(to_nm: NodeLike, from_nm: NodeLike) -> Array:
    """Factor that carries a logic energy from one node to another (also used for leakage).

    Flat outside 7..130 nm.
    """
    return process(to_nm).energy / process(from_nm).energy


def area_factor(to_nm: NodeLike, from_nm: NodeLike) -> Array:
    """Factor that carries a logic area from one node to another; flat outside 7..130 nm."""
    return process(to_nm).area / process(from_nm).area


def fo4_s(node_nm: NodeLike) -> Array:
    """Delay of an inverter driving four of its like, s (estimate, linear in the node)."""
    return FO4_S_PER_NM * process(node_nm).nm
