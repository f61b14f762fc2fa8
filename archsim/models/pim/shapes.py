"""How a kernel is cut over the units of a product: the counts that both models start from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from archsim.errors import InputError
from archsim.models.pim.product import Product

Ints = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Cut:
    """A product ``y[m, n] = x[m, k] W[n, k]`` with W resident, as one channel sees it; int64[B].

    Attributes:
        passes: Times the weights are read: vectors over those held at once.
        vectors: Vectors of a pass (of the fullest).
        stretch: MAC distances that one MACB takes, for its vectors.
        outputs: Outputs of one unit.
        columns: Columns of one output.
        blocks: Groups of outputs that are summed up at a time, in a pass.
        tiles: Parts of a vector that the registers hold.
        macs: MACB commands of one rank and pass.
        writes: Broadcast operand writes of one rank and column, a part of one where shared.
        result_commands: Commands that move one block's results.
    """

    passes: Ints
    vectors: Ints
    stretch: Ints
    outputs: Ints
    columns: Ints
    blocks: Ints
    tiles: Ints
    macs: Ints
    result_commands: Ints


def sizes_of(*sizes: ArrayLike) -> list[Ints]:
    """Sizes as int64 arrays of one shape.

    Raises:
        InputError: One is no positive whole number.
    """
    found = []
    for name, value in zip(("m", "n", "k"), sizes, strict=False):
        array = np.asarray(value, float)
        bad = ~(np.isfinite(array) & (array >= 1) & (array == np.rint(array)) & (array < 2**31))
        if bad.any():
            raise InputError(
                "must be a positive whole number",
                field=name,
                found=float(array[bad][0]),
                expected=f"1 to {2**31 - 1}",
            )
        found.append(array.astype(np.int64))
    return list(np.broadcast_arrays(*(np.atleast_1d(a) for a in found)))


def cut(product: Product, m: ArrayLike, n: ArrayLike, k: ArrayLike) -> Cut:
    """Cut products over all units of a product's stacks; sizes broadcast to B rows."""
    u, o = product.units, product.operands
    m, n, k = sizes_of(m, n, k)
    everywhere = u.count * product.lockstep * product.channels * product.stacks
    passes = -(-m // u.held)
    vectors = -(-m // passes)
    outputs = -(-n // everywhere)
    columns = -(-k // u.lanes)
    burst = product.base.structure.burst_bytes
    block = np.minimum(outputs, o.accumulators)
    if o.result_row is None:
        # Results of all units leave over the pins, packed into bursts.
        results = -(-(block * vectors * u.count * o.result_bytes) // burst)
    else:
        results = -(-(block * vectors * o.result_bytes) // u.column_bytes)
    return Cut(
        passes=passes,
        vectors=vectors,
        stretch=-(-vectors // u.vectors),
        outputs=outputs,
        columns=columns,
        blocks=-(-outputs // o.accumulators),
        tiles=-(-columns // o.columns),
        macs=outputs * columns,
        result_commands=results,
    )
