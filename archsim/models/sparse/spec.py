"""What hardware does about zeros, slot by slot: formats, gating, skipping."""

from __future__ import annotations

from dataclasses import dataclass

from archsim.models.sparse.formats import RankFormat

INPUT, WEIGHT, OUTPUT = range(3)
SKIP, GATE = "skip", "gate"


@dataclass(frozen=True)
class Action:
    """Not moving a tile because what it would meet is empty.

    Attributes:
        kind: ``skip`` (neither energy nor time) or ``gate`` (no energy, but the time).
        target: Operand whose tiles stay where they are.
        on: Operands (input, weight) of which any one being empty suffices.
    """

    kind: str
    target: int
    on: tuple[int, ...]


@dataclass(frozen=True)
class SlotSparsity:
    """One storage.

    Attributes:
        formats: For input, weight, output: a format a rank, outer to inner; empty: uncompressed.
        actions: On tiles sent from here towards the units (or, of outputs, back).
        confidence: Room is kept so that a tile fits with this probability; None: the expected one.
        metadata_block_bits: Width of a store of its own for metadata; None: beside the data.
        metadata_read_j, metadata_write_j: J per access of that store.
    """

    formats: tuple[tuple[RankFormat, ...], ...] = ((), (), ())
    actions: tuple[Action, ...] = ()
    confidence: float | None = 1.0
    metadata_block_bits: float | None = None
    metadata_read_j: float = 0.0
    metadata_write_j: float = 0.0


@dataclass(frozen=True)
class ComputeSparsity:
    """The multiply-accumulate units.

    Attributes:
        gate_zeros: A unit that meets a zero operand idles for that step.
        skip_absent: Operands are aligned: a step with an absent (compressed) operand is not taken.
        gated_j: J of an idle step.
        implied_updates: What the units do not add is not sent to the storage of partial sums
            either; without it, as in Timeloop, that takes an action on the output.
    """

    gate_zeros: bool = False
    skip_absent: bool = False
    gated_j: float = 0.0
    implied_updates: bool = True


@dataclass(frozen=True)
class Sparsity:
    """A nest's answer to zeros.

    Attributes:
        slots: One a slot of the nest; fanouts have an empty one.
        compute: The units.
    """

    slots: tuple[SlotSparsity, ...]
    compute: ComputeSparsity = ComputeSparsity()

    @property
    def idle(self) -> bool:
        """Whether nothing is declared at all."""
        plain = all(not slot.actions and not any(slot.formats) for slot in self.slots)
        return plain and not self.compute.gate_zeros and not self.compute.skip_absent
