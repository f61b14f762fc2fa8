"""The dot-product engine of the machine schema: units that each finish an output of their own.

ANT, OliVe and BitMoD are such arrays, as is the FP16 array they are compared with: R x C units
behind a buffer for weights and one for inputs. A unit adds up a few products a cycle for one
output (output stationary); the units of a row work on one output channel, those of a column on one
token. A bit-serial unit takes the weights in terms of a few bits, one term a cycle.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from archsim.errors import InputError
from archsim.hardware.devices import Name
from archsim.inputs import Strict

#: Number formats of weights with published quality (``archsim.workload.quality``); ``bitmod``: FP3
#: and FP4 with a special value chosen for each group, INT6 and INT8 above (BitMoD, HPCA'25).
WEIGHT_FORMATS = ("fp16", "int", "ant", "olive", "bitmod")
WeightFormat = Literal["fp16", "int", "ant", "olive", "bitmod"]


class DotProductEngine(Strict):
    """An output-stationary array of dot-product units, bit-parallel or bit-serial."""

    name: Name = Field(description="unique within the machine")
    kind: Literal["dot_product"]
    within: Name | None = Field(
        default=None, description="group it is replicated in; default the innermost one"
    )
    backing: Name = Field(description="tier the operands come from and go to")
    clock_hz: float | None = Field(
        default=None, ge=1e6, le=2e10, description="clock, Hz; default the machine's"
    )
    rows: int = Field(ge=1, le=65536, description="output channels worked on side by side")
    columns: int = Field(ge=1, le=65536, description="tokens worked on side by side")
    fold: int = Field(
        default=1,
        ge=1,
        le=65536,
        description="where tokens are few, this times the rows and that much fewer columns",
    )
    lanes: int = Field(ge=1, le=4096, description="products a unit adds up at a time")
    serial_bits: int | None = Field(
        default=None,
        ge=1,
        le=64,
        description="weight bits of one term of a bit-serial unit; default bit-parallel, one cycle",
    )
    weight_format: WeightFormat = Field(description="number format of the weights")
    weight_bits: float = Field(
        ge=1, le=64, description="bits of a weight (their mean, where layers differ)"
    )
    group_size: int | None = Field(
        default=None, ge=1, le=1_000_000, description="weights that share metadata; default none"
    )
    group_bits: float = Field(default=0, ge=0, le=1024, description="metadata of a group, bits")
    input_bits: float = Field(default=16, ge=1, le=64, description="bits of inputs and outputs")
    kv_bits: float = Field(default=16, ge=1, le=64, description="bits of cached keys and values")
    weight_buffer_bytes: float = Field(ge=1, le=1e12, description="capacity, bytes")
    input_buffer_bytes: float = Field(ge=1, le=1e12, description="capacity, bytes")
    buffer_banks: int = Field(default=1, ge=1, le=65536, description="macros of each buffer")
    unit_energy_j: float = Field(ge=0, le=1e-6, description="J of one unit a cycle")
    unit_area_mm2: float = Field(ge=0, le=100, description="mm2 of one unit")

    @model_validator(mode="after")
    def _foldable(self) -> DotProductEngine:
        if self.columns % self.fold:
            raise InputError(
                "the columns must divide by the fold",
                field=f"engines.{self.name}.columns",
                found=self.columns,
                expected=f"a multiple of {self.fold}",
            )
        if self.group_bits and self.group_size is None:
            raise InputError(
                "metadata of groups needs their size", field=f"engines.{self.name}.group_size"
            )
        return self

    @property
    def stored_bits(self) -> float:
        """Bits of a weight in memory, its share of the group's metadata included.

        Example:
            >>> from archsim.hardware import load_machine
            >>> load_machine("bitmod").item("engines", "array").stored_bits
            4.0625
        """
        return self.weight_bits + self.group_bits / (self.group_size or 1)


__all__ = ["WEIGHT_FORMATS", "DotProductEngine", "WeightFormat"]
