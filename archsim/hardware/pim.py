"""Units that compute in or under a memory, as an engine of a machine: rates, energy, area.

A ``pim`` engine stands beside the engine it helps and works on the same tier. It is described by
where its units lie, how much more bandwidth they see than the pins carry, and how many multipliers
they have; bandwidth, rate, energy of a bit and area follow.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from archsim.errors import InputError
from archsim.hardware.devices import Name
from archsim.inputs import Strict

if TYPE_CHECKING:
    from archsim.hardware.values import Values

Floats = NDArray[np.float64]
LEVELS = ("bank", "bank_group", "logic_die", "buffer")
POLICIES = ("off", "offload", "split")
#: What units may take, from most to least; each leaves out what the one before it adds.
TAKES = ("any", "experts_attention", "attention")

#: J per bit from the cells to a unit of each level: bank, group and logic die as Duplex's simulator
#: charges 32 bytes (0.187, 0.686, 0.464 nJ; MICRO'24), the buffer die behind the stack's own TSVs
#: as AttAcc's (0.44 + 1.01 + 1.23 + 0.5 pJ/b; ASPLOS'24).
READ_J_PER_BIT = np.array([0.187e-9, 0.686e-9, 0.464e-9, 256 * 3.18e-12]) / 256
#: J per multiply-accumulate in FP16: 0.46 pJ on a logic die (Duplex's simulator). On DRAM dies:
#: calibrated, with ``AREA_FACTOR``, on Duplex's EDAP at 1, 8 and 32 operations a byte; the other
#: three of its figures are held out (``archsim validate papers --only duplex``).
MAC_J = np.array([1.10e-12, 0.78e-12, 0.46e-12, 0.46e-12])
#: Area of multipliers, buffers and softmax units on DRAM dies over that on the logic die.
AREA_FACTOR = np.array([2.88, 2.78, 1.0, 1.0])
#: Units at a bank get a column every tCCD_L: four clocks of HBM3 at 5.2 Gb/s (0.769 ns).
BANK_CLOCK_HZ = 1.0 / (4 * 0.769e-9)
#: mm2 of one multiplier (32 modules of 512 take 3.02 mm2), of a byte of buffer (32 x 8 KB and
#: 2 x 1 MB take 2.26 mm2) and of the softmax units with their buffer; Duplex, MICRO'24, table of
#: areas at 7 nm.
MULTIPLIER_MM2 = 3.02 / (32 * 512)
BUFFER_MM2_PER_BYTE = 2.26 / (32 * 8192 + 2 * 2**20)
SOFTMAX_MM2 = 1.64
#: Pitch of a TSV, m, and TSVs of a stack at four times the bandwidth: 10.89 mm2 of them (the same).
TSV_PITCH_M = 22e-6
TSVS_PER_SCALE = 10.89e-6 / TSV_PITCH_M**2 / 4.0


class PimEngine(Strict):
    """Units that compute in or under the memory of another engine."""

    kind: Literal["pim"]
    name: Name = Field(description="unique within the machine")
    within: Name | None = Field(
        default=None, description="group it is replicated in; default the innermost one"
    )
    backing: Name = Field(description="tier whose memory computes")
    level: Literal["bank", "bank_group", "logic_die", "buffer"] = Field(
        description="where the units lie"
    )
    policy: Literal["off", "offload", "split"] = Field(
        default="split",
        description="what they take: nothing; whole operations where they are faster; experts and "
        "attention of one layer split between both engines",
    )
    takes: Literal["any", "experts_attention", "attention"] = Field(
        default="any",
        description="operations that may run on the units: any matrix product, experts and "
        "attention; the latter two (as in Duplex); attention alone (as in AttAcc)",
    )
    spaces: int = Field(
        default=0,
        ge=0,
        le=1024,
        description="parts of the memory that one engine at a time reads; experts are dealt over "
        "them, and all in a part run on the same engine; 0: every expert where it is faster",
    )
    stacks: int = Field(default=1, ge=1, le=1024, description="memory stacks of one device")
    bandwidth_scale: float = Field(
        ge=0, le=64, description="bandwidth of the units over that of the pins (TSV multiple)"
    )
    efficiency: float = Field(
        default=1.0, ge=0, le=1, description="share of that bandwidth that kernels reach"
    )
    macs: float = Field(ge=0, le=1e9, description="multipliers of one stack")
    clock_hz: float | None = Field(
        default=None,
        ge=1e6,
        le=2e10,
        description="their clock, Hz; default the machine's; at banks at most a column a cycle",
    )
    buffer_bytes: float = Field(
        default=0.0, ge=0, le=1e12, description="buffers of one stack: operands and sums"
    )
    softmax: bool = Field(default=True, description="units for softmax: attention stays inside")
    product: str | None = Field(
        default=None, max_length=200, description="memory at command level (archsim.models.pim)"
    )
    fidelity: Literal["roofline", "commands"] = Field(
        default="roofline",
        description="commands: kernels reach what the product's closed form says of their shape",
    )
    start_latency_s: float = Field(
        default=0.0, ge=0, le=1, description="modes and barriers around one operation, s"
    )
    read_energy_j_per_bit: float | None = Field(
        default=None, ge=0, le=1e-6, description="J per bit to the units; default by level"
    )
    mac_energy_j: float | None = Field(
        default=None, ge=0, le=1e-6, description="J per multiply-accumulate; default by level"
    )

    @model_validator(mode="after")
    def _commands_of_something(self) -> PimEngine:
        if self.fidelity == "commands" and self.product is None:
            raise InputError(
                "commands are those of a product", field=f"engines.{self.name}.product",
                expected="a product of archsim.models.pim",
            )  # fmt: skip
        return self


def pim_figures(values: Values, engine: PimEngine) -> dict[str, Floats]:
    """Figures of a PIM engine, of one device, for B designs.

    Returns:
        ``bandwidth_bytes_per_s`` (needs the tier's: a factor, ``bandwidth_scale`` times
        ``efficiency``, stands in ``bandwidth_factor``), ``flops_per_s``, ``read_energy_j_per_bit``,
        ``mac_energy_j``, ``area_mm2``, ``start_latency_s``, ``level``, ``policy`` and ``takes`` (as
        places in :data:`LEVELS`, :data:`POLICIES` and :data:`TAKES`), ``spaces``, ``softmax``,
        ``stacks``, ``buffer_bytes`` (of one).
    """
    path = f"engines.{engine.name}."
    clock = values.or_else(path + "clock_hz", values("clock_hz"))
    level = values(path + "level")
    scale, macs, stacks = (values(path + n) for n in ("bandwidth_scale", "macs", "stacks"))
    clock = np.where(
        np.asarray(level) == LEVELS.index("bank"), np.minimum(clock, BANK_CLOCK_HZ), clock
    )
    tsv = np.where(np.asarray(level) == LEVELS.index("logic_die"), scale, 0.0)
    return {
        "clock_hz": clock,
        "level": level,
        "policy": values(path + "policy"),
        "takes": values(path + "takes"),
        "spaces": values(path + "spaces"),
        "fidelity": values(path + "fidelity"),
        "softmax": values(path + "softmax"),
        "stacks": stacks,
        "buffer_bytes": values(path + "buffer_bytes"),
        "bandwidth_scale": scale,
        "bandwidth_factor": scale * values(path + "efficiency"),
        "flops_per_s": 2.0 * macs * clock * stacks,
        "start_latency_s": values(path + "start_latency_s"),
        "read_energy_j_per_bit": values.or_else(
            path + "read_energy_j_per_bit", READ_J_PER_BIT[level]
        ),
        "mac_energy_j": values.or_else(path + "mac_energy_j", MAC_J[level]),
        "area_mm2": stacks * stack_area_mm2(
            macs, values(path + "buffer_bytes"), tsv, values(path + "softmax"), level
        ),
    }  # fmt: skip


def stack_area_mm2(
    macs: Floats, buffer_bytes: Floats, tsv_scale: Floats, softmax: Floats, level: NDArray[np.int64]
) -> Floats:
    """Area that the units add to one stack, mm2.

    On the logic die they need TSVs of their own; on DRAM dies they are larger (``AREA_FACTOR``).

    Args:
        macs: Multipliers.
        buffer_bytes: Buffers.
        tsv_scale: TSVs over those of a plain stack's data; on the logic die.
        softmax: 1 with softmax units.
        level: Place in :data:`LEVELS`.
    """
    logic = macs * MULTIPLIER_MM2 + buffer_bytes * BUFFER_MM2_PER_BYTE + softmax * SOFTMAX_MM2
    return AREA_FACTOR[level] * logic + tsv_scale * TSVS_PER_SCALE * TSV_PITCH_M**2 * 1e6


__all__ = ["LEVELS", "POLICIES", "TAKES", "PimEngine", "pim_figures", "stack_area_mm2"]
