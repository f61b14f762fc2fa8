"""From a machine's ``sparse:`` blocks and a workload's densities to what the model reads."""

from __future__ import annotations

from math import prod

from archsim.errors import InputError
from archsim.hardware import EngineTable
from archsim.hardware.sparsity import StorageSparsity
from archsim.models.sparse.density import (
    Banded,
    Blocks,
    Density,
    FixedStructured,
    Hypergeometric,
    NofM,
    Shape,
)
from archsim.models.sparse.formats import RankFormat
from archsim.models.sparse.spec import Action, ComputeSparsity, SlotSparsity, Sparsity
from archsim.workload.graph import Einsum, Tensor
from archsim.workload.sparsity import block_ranks, reduction_rank

OPERANDS = ("input", "weight", "output")
_KINDS = {"bitmask": "b", "uncompressed_bitmask": "ub"}


def sparsity_of(engines: EngineTable) -> Sparsity:
    """What an engine's slots and units do about zeros."""
    compute = ComputeSparsity()
    if engines.mac_sparse is not None:
        given = engines.mac_sparse
        compute = ComputeSparsity(given.gate_zeros, given.skip_absent, given.gated_energy_j)
    return Sparsity(tuple(_slot(slot) for slot in engines.sparse), compute)


def _slot(given: StorageSparsity | None) -> SlotSparsity:
    if given is None:
        return SlotSparsity()
    formats = tuple(
        tuple(RankFormat(_KINDS.get(r.format, r.format), r.bits) for r in getattr(given.formats, n))
        for n in OPERANDS
    )
    actions = tuple(
        Action(a.action, OPERANDS.index(a.target), tuple(OPERANDS.index(n) for n in a.when_zero))
        for a in given.actions
    )
    return SlotSparsity(formats, actions, given.confidence)


def density_of(tensor: Tensor | None, einsum: Einsum, operand: int, shape: Shape) -> Density:
    """Distribution of an operand's non-zeros.

    Args:
        tensor: Its declaration; None for one without zeros.
        einsum, operand: Who reads or writes it.
        shape: Words of it that the einsum touches, by rank of its access.

    Raises:
        InputError: The pattern does not fit the operand.
    """
    if tensor is None or (tensor.density == 1.0 and not tensor.pattern.startswith("band")):
        return FixedStructured(1.0)
    if tensor.pattern == "structured":
        return FixedStructured(tensor.density)
    if ":" in tensor.pattern:
        n, m = (int(part) for part in tensor.pattern.split(":"))
        rank = reduction_rank(einsum, operand)
        if rank is None:
            raise InputError(
                f"pattern {tensor.pattern} needs a rank that is summed over", field=tensor.name
            )
        return NofM(n, m, rank[0], shape[rank[0]])
    if tensor.pattern.startswith("band"):
        axes = [i for i, extent in enumerate(shape) if extent > 1]
        if len(axes) != 2:
            raise InputError("a band needs a matrix", field=tensor.name, found=shape)
        rows, columns = (shape[i] for i in axes)
        band = Banded(rows, columns, int(tensor.pattern.split()[1]), (axes[0], axes[1]))
        if abs(band.average - tensor.density) > 1e-6:
            raise InputError(
                f"the density of pattern {tensor.pattern} is {band.average:.6g} here",
                field=tensor.name,
                found=tensor.density,
            )
        return band
    if tensor.pattern.startswith("block"):
        ranks = block_ranks(einsum, operand)
        if ranks is None:
            raise InputError(
                f"pattern {tensor.pattern} needs rows beside a rank that is summed over",
                field=tensor.name,
            )
        high, wide = (int(part) for part in tensor.pattern.split()[1].split("x"))
        return Blocks(tensor.density, shape, (high, wide), ranks)
    return Hypergeometric(tensor.density, prod(shape))
