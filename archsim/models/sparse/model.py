"""What is left of a mapping's dense counts when tensors are sparse.

Three effects, in this order (Sparseloop, Wu et al., MICRO 2022):

1. A compressed tile holds, and moves, only what its format represents, plus metadata.
2. An action at a storage ("skip input on weight") does not send a tile where everything it would
   meet before the next one is empty. Who it would meet: the other operand's words in the iterations
   that share the delivery (:meth:`Nest.block`). A tile not sent is not there further in either, so
   what counts at a storage is the finest of the actions on the way to it; blocks are nested, so
   its probability includes the coarser ones.
3. The units meet pairs of operands, each non-zero, zero, or absent; what they do with them is
   :class:`ComputeSparsity`.

Input and weight are independent of each other. Work is balanced: time falls by what is skipped in
all, whichever unit skips it (as in Sparseloop; where units wait for the fullest of them, it is a
lower bound). Partial sums: the first visit of a word reads nothing, whether it adds or not.
Patterns that are not the same everywhere (a band, actual data) enter by their average over aligned
tiles: exact but for the reads of partial sums, where the first visits may fall on other zeros than
the later ones, and for windows that slide.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import prod

import numpy as np

from archsim.models.sparse.density import Density
from archsim.models.sparse.formats import Occupancy, fibertree, occupancy, stored_bits
from archsim.models.sparse.spec import INPUT, OUTPUT, SKIP, WEIGHT, Sparsity
from archsim.models.sparse.tiles import Nest

# What happens to a dense count.
ACTUAL, GATED, SKIPPED = range(3)
READS, FILLS, UPDATES = range(3)


@dataclass(frozen=True)
class Computes:
    """Multiply-accumulates by what becomes of them; they sum to the dense number.

    Attributes:
        actual: Carried out.
        gated: A cycle is spent on them, the unit idles.
        skipped: Left out by the units' operand alignment.
        absent: Never arrive: their operands were skipped by a storage, or both are not there.
    """

    actual: float
    gated: float
    skipped: float
    absent: float

    @property
    def share_of_time(self) -> float:
        """Cycles spent over dense cycles."""
        total = self.actual + self.gated + self.skipped + self.absent
        return (self.actual + self.gated) / total


@dataclass(frozen=True, eq=False)
class SparseCounts:
    """Expected counts of a sparse mapping, in words (data) and bits (metadata), all instances.

    Attributes:
        words: float64[S, 3, 3, 3]: slot, operand, reads/fills/updates, actual/gated/skipped; what
            compression leaves out is in none of them.
        metadata_bits: float64[S, 3, 3, 3], likewise.
        rank_units: By (slot, operand): for each rank, outer to inner, the expected (coordinates,
            offsets) of one tile.
        value_share: float64[S, 3]: words a tile holds over those of the dense tile.
        block_share: float64[S, 3]: blocks those words fill over those of the dense tile.
        finished: float64[3], output words that reach the outermost slot for the last time.
        computes: The units' part.
        alive: float64[S, 3]: fraction of the deliveries from a slot that happen.
    """

    words: np.ndarray
    metadata_bits: np.ndarray
    rank_units: dict[tuple[int, int], tuple[tuple[float, float], ...]]
    value_share: np.ndarray
    block_share: np.ndarray
    finished: np.ndarray
    computes: Computes
    alive: np.ndarray


@dataclass(frozen=True)
class _Leader:
    """Chance that what a delivery meets of another operand is not all empty."""

    live: float = 1.0  # after every action
    unskipped: float = 1.0  # after those that skip

    def met(self, kind: str, live: float) -> _Leader:
        unskipped = min(self.unskipped, live) if kind == SKIP else self.unskipped
        return _Leader(min(self.live, live), unskipped)


def sparse_counts(
    nest: Nest,
    sparsity: Sparsity,
    densities: Sequence[Density],
    counts: np.ndarray,
    words_per_block: np.ndarray,
    levels: dict[tuple[int, int], list] | None = None,
) -> SparseCounts:
    """Expected counts.

    Args:
        nest: Einsum and mapping.
        sparsity: Formats and actions, one a slot.
        densities: Of input, weight and output.
        counts: float64[S, 3, 3], the kernel's dense reads, fills and updates.
        words_per_block: int[S, 3], words one access of a slot carries.
        levels: Fibertree of the tile of (slot, operand), where it is not the tensor's own ranks.
    """
    slots = len(nest.factors)
    held = _occupancies(nest, sparsity, densities, levels or {})
    words = np.zeros((slots, 3, 3, 3))
    metadata = np.zeros((slots, 3, 3, 3))
    value_share, block_share = np.ones((slots, 3)), np.ones((slots, 3))
    alive, finished = np.ones((slots, 3)), np.zeros(3)
    reaches: dict[int, dict[int, _Leader]] = {}
    for t in (INPUT, WEIGHT, OUTPUT):
        keepers = nest.keepers(t)
        leaders = {INPUT: _Leader(), WEIGHT: _Leader()}
        before = _fractions(leaders)
        for parent, child in pairwise(keepers):
            leaders = _act(nest, sparsity, densities, t, parent, child, leaders, words_per_block)
            if t == OUTPUT and child == slots:
                leaders = _implied(nest, sparsity, densities, parent, leaders, reaches)
            now = _fractions(leaders)
            split = _split(before, now)
            moves = [(parent, READS), (parent, UPDATES), (child, FILLS)]
            for s, kind in moves if child < slots else moves[:2]:
                tile = prod(nest.tile(t, s))
                occupied = held.get((s, t))
                share = occupied.values / tile if occupied else 1.0
                bits = occupied.metadata_bits / tile if occupied else 0.0
                # What was skipped on the way is not waited for.
                parts = split * [1.0, 1.0, 0.0] if kind == FILLS else split
                words[s, t, kind] = counts[s, t, kind] * share * parts
                metadata[s, t, kind] = counts[s, t, kind] * bits * parts
            alive[parent, t] = now[0]
            if t == OUTPUT and parent == 0:
                finished = split.copy()
            before = now
        reaches[t] = leaders
        for s in keepers[:-1]:
            if (s, t) in held:
                value_share[s, t] = held[s, t].values / prod(nest.tile(t, s))
            block_share[s, t] = _block_share(
                nest.tile(t, s), densities[t], held.get((s, t)), int(words_per_block[s, t])
            )
    units = {key: _units(found) for key, found in held.items()}
    computes = _computes(nest, sparsity, densities, reaches)
    finished *= prod(nest.shape(OUTPUT, nest.extents)) * value_share[0, OUTPUT]
    return SparseCounts(words, metadata, units, value_share, block_share, finished, computes, alive)


def _units(found: Occupancy) -> tuple[tuple[float, float], ...]:
    return tuple((rank.coordinates, rank.offsets) for rank in found.ranks)


def _occupancies(nest, sparsity, densities, levels) -> dict[tuple[int, int], Occupancy]:
    held = {}
    for s, slot in enumerate(sparsity.slots):
        for t, formats in enumerate(slot.formats):
            if formats and nest.keep[s, t]:
                tree = levels.get((s, t)) or fibertree(nest.tile(t, s), len(formats))
                held[s, t] = occupancy(formats, tree, densities[t])
    return held


def _act(nest, sparsity, densities, t, parent, child, leaders, words_per_block):
    """Leaders after the actions a storage takes on what it sends."""
    leaders = dict(leaders)
    for action in sparsity.slots[parent].actions:
        if action.target != t:
            continue
        block = nest.block(t, parent, child, int(words_per_block[parent, t]))
        for u in action.on:
            live = 1.0 - densities[u].empty(nest.shape(u, block))
            leaders[u] = leaders[u].met(action.kind, live)
    return leaders


def _implied(nest, sparsity, densities, parent, leaders, reaches):
    """Leaders of partial sums: none is sent where no unit of its reduction group adds."""
    compute = sparsity.compute
    if not compute.implied_updates:
        return leaders
    leaders = dict(leaders)
    slots = len(nest.factors)
    block = nest.block(OUTPUT, parent, slots)
    for u, target in ((INPUT, WEIGHT), (WEIGHT, INPUT)):
        if _kind_at_units(nest, sparsity, u) is not None:
            live = 1.0 - densities[u].empty(nest.shape(u, block))
            leaders[u] = leaders[u].met(_kind_at_units(nest, sparsity, u), live)
        if acts_on_partial_sums(sparsity, u):
            continue
        keepers = nest.keepers(target)
        for sender, child in pairwise(keepers):
            for action in sparsity.slots[sender].actions:
                if action.target == target and u in action.on:
                    group = np.maximum(block, nest.block(target, sender, child))
                    live = 1.0 - densities[u].empty(nest.shape(u, group))
                    leaders[u] = leaders[u].met(action.kind, live)
    return leaders


def acts_on_partial_sums(sparsity: Sparsity, operand: int) -> bool:
    """Whether a storage acts on outputs for that operand itself; then nothing more is implied.

    Its tiles and those of the other operand's actions need not be nested in one another.
    """
    return any(
        action.target == OUTPUT and operand in action.on
        for slot in sparsity.slots
        for action in slot.actions
    )


def _has_metadata(nest: Nest, sparsity: Sparsity, tensor: int) -> bool:
    """Whether the storage next to the units says where an operand's zeros are."""
    return bool(sparsity.slots[nest.keepers(tensor)[-2]].formats[tensor])


def _kind_at_units(nest: Nest, sparsity: Sparsity, operand: int) -> str | None:
    """What the units do when this operand alone is zero: skip, gate, or None (multiply)."""
    compute = sparsity.compute
    if compute.skip_absent and _has_metadata(nest, sparsity, operand):
        return SKIP
    return "gate" if compute.gate_zeros else None


def _fractions(leaders) -> tuple[float, float]:
    """Fraction of deliveries that happen, and of those at least not skipped."""
    return (
        prod(leader.live for leader in leaders.values()),
        prod(leader.unskipped for leader in leaders.values()),
    )


def _split(before: tuple[float, float], now: tuple[float, float]) -> np.ndarray:
    """Actual, gated and skipped fractions of what a storage is asked for.

    What was skipped further out is not asked for; what was gated there idles here too.
    """
    return np.array([now[0], now[1] - now[0], before[1] - now[1]])


def _block_share(tile, density: Density, occupied: Occupancy | None, width: int) -> float:
    """Blocks that a compressed tile's values fill, over those of the dense tile."""
    if occupied is None:
        return 1.0
    words = prod(tile)
    held = occupied.values / words
    if width <= 1 or held >= 1.0:
        return held
    expected = density.blocks(tile, width)
    if abs(occupied.values - density.nonzeros(tile)) > 1e-9 * words:
        expected = max(expected, occupied.values / width)  # blocks or padding beside non-zeros
    return min(1.0, expected / -(-words // width))


def _computes(nest, sparsity, densities, reaches) -> Computes:
    """Classify the pairs of operands; see the module's docstring."""
    macs = float(prod(extent for _, extent in nest.einsum.dims))
    states = []
    for u, target in ((INPUT, WEIGHT), (WEIGHT, INPUT)):
        leader, scalar = reaches[target][u], (1,) * len(nest.ranks[u])
        nonzero = 1.0 - densities[u].empty(scalar)
        value = "absent" if _has_metadata(nest, sparsity, u) else "zero"
        states.append(
            {
                ("nonzero", ""): nonzero,
                (value, ""): max(0.0, leader.live - nonzero),
                (value, "gated"): max(0.0, leader.unskipped - leader.live),
                (value, "skipped"): max(0.0, 1.0 - leader.unskipped),
            }
        )
    totals = dict.fromkeys(("actual", "gated", "skipped", "absent"), 0.0)
    for a, chance_a in states[0].items():
        for b, chance_b in states[1].items():
            totals[_outcome(a, b, sparsity)] += macs * chance_a * chance_b
    return Computes(**totals)


def _outcome(a: tuple[str, str], b: tuple[str, str], sparsity: Sparsity) -> str:
    """What becomes of a pair of operands, each (value, what storages did about it)."""
    values, fates = (a[0], b[0]), (a[1], b[1])
    if "skipped" in fates or values == ("absent", "absent"):
        return "absent"
    if "absent" in values and sparsity.compute.skip_absent:
        return "skipped"
    if "gated" in fates:
        return "gated"
    if values == ("nonzero", "nonzero"):
        return "actual"
    return "gated" if sparsity.compute.gate_zeros else "actual"


def room(
    nest: Nest,
    sparsity: Sparsity,
    densities: Sequence[Density],
    bits: np.ndarray,
    levels: dict[tuple[int, int], list] | None = None,
) -> np.ndarray:
    """Bits every slot needs for its tiles.

    Args:
        nest, sparsity, densities, levels: As for :func:`sparse_counts`.
        bits: float64[S, 3], bits of a word.

    Returns:
        float64[S]. Metadata with a store of its own is not counted.
    """
    held = np.zeros(len(nest.factors))
    for s, slot in enumerate(sparsity.slots):
        for t, formats in enumerate(slot.formats):
            if not nest.keep[s, t]:
                continue
            tile = nest.tile(t, s)
            tree = (levels or {}).get((s, t)) or fibertree(tile, len(formats))
            if slot.metadata_block_bits is None or not formats:
                held[s] += stored_bits(formats, tree, densities[t], bits[s, t], slot.confidence)
            elif slot.confidence is None:
                held[s] += occupancy(formats, tree, densities[t]).values * bits[s, t]
            else:
                words = densities[t].occupancy(tile, slot.confidence)
                held[s] += max(words, occupancy(formats, tree, densities[t]).values) * bits[s, t]
    return held
