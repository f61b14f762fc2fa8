"""What storages and MAC units do about zeros: compressed formats, gating, skipping.

The fields of ``sparse:`` blocks in machine files. What they cost and save is computed by
``archsim.models.sparse``; the logic that finds the zeros (decoders, intersection units) is not
priced: give its energy and area through the overrides of the storage or the MAC.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from archsim.errors import InputError
from archsim.inputs import Strict

Operand = Literal["input", "weight", "output"]


class RankFormat(Strict):
    """Format of one rank of a tile; a bare name stands for one with default width."""

    format: Literal["uop", "cp", "bitmask", "uncompressed_bitmask", "rle"] = Field(
        description="uncompressed offset pairs, coordinates, bitmask of non-empty coordinates, "
        "bitmask beside uncompressed data, run lengths"
    )
    bits: float | None = Field(
        default=None,
        ge=0.1,
        le=64,
        description="bits of one offset, coordinate, mask bit or run; default: as many as needed",
    )


def _spelled_out(value: Any) -> Any:
    return {"format": value} if isinstance(value, str) else value


Ranks = Annotated[
    tuple[Annotated[RankFormat, BeforeValidator(_spelled_out)], ...], Field(max_length=8)
]


class Formats(Strict):
    """How a storage holds each operand: one format a rank, outer to inner; none: uncompressed.

    The ranks are the tensor's own, as the workload declares them, those of extent 1 left out; the
    innermost format takes all that are left, flattened.
    """

    input: Ranks = ()
    weight: Ranks = ()
    output: Ranks = ()


class Action(Strict):
    """Do not send a tile of ``target`` inwards where what it would meet is zero."""

    action: Literal["skip", "gate"] = Field(
        description="skip: neither energy nor time; gate: no energy, but the time"
    )
    target: Operand = Field(description="operand that stays where it is")
    when_zero: tuple[Literal["input", "weight"], ...] = Field(
        min_length=1, max_length=2, description="operands of which any one being zero suffices"
    )

    @model_validator(mode="after")
    def _check(self) -> Action:
        if self.target in self.when_zero or len(set(self.when_zero)) != len(self.when_zero):
            raise InputError(
                "must name other operands than the target, each once",
                field="when_zero",
                found=list(self.when_zero),
            )
        return self


class StorageSparsity(Strict):
    """A storage or tier that knows where zeros are."""

    formats: Formats = Field(default=Formats(), description="how each operand is held")
    actions: tuple[Action, ...] = Field(
        default=(), max_length=6, description="what is not sent on from here"
    )
    confidence: float | None = Field(
        default=1.0,
        ge=1e-3,
        le=1,
        description="room is kept so that a compressed tile fits with this probability; null: the "
        "expected tile",
    )

    def used_on(self) -> set[str]:
        """Operands a format or an action here is about."""
        held = {name for name in ("input", "weight", "output") if getattr(self.formats, name)}
        return held | {action.target for action in self.actions}


class MacSparsity(Strict):
    """What MAC units do when an operand is zero."""

    gate_zeros: bool = Field(
        default=False, description="a unit that meets a zero idles for that step"
    )
    skip_absent: bool = Field(
        default=False,
        description="compressed operands are aligned: steps with an absent one are left out",
    )
    gated_energy_j: float = Field(
        default=0.0, ge=0, le=1e-6, description="J of one step a unit idles"
    )


def check_operands(sparse: StorageSparsity | None, keeps: tuple[str, ...], where: str) -> None:
    """Refuse formats and actions about operands a storage does not keep.

    Raises:
        InputError: Names the storage and the operand.
    """
    strange = sparse.used_on() - set(keeps) if sparse else set()
    if strange:
        raise InputError(
            "is about an operand this storage does not keep",
            field=f"{where}.sparse",
            found=sorted(strange),
            expected=f"among {', '.join(keeps)}",
        )
