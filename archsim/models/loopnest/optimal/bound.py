"""How few words a buffer of a given size can exchange with its backing store.

Two levels, one buffer: for every tile (a divisor of every extent), every loop order outside it and
every choice of operands the buffer keeps, the traffic is what the exact kernel counts: tiles
refilled when a relevant loop moves, only the new words of a sliding window, partial sums read back
except for the first touch; an operand that is not kept is asked for at every multiply-accumulate.
The least traffic over all mappings whose tiles fit is the bound, a falling staircase of the size
(the "ski slope" of Huang et al., Orojenesis, ISCA 2024).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np

from archsim.errors import InputError
from archsim.models.loopnest import kernel as k
from archsim.models.loopnest.nest import Nest
from archsim.models.loopnest.optimal.space import Mapspace, mapspace
from archsim.workload.graph import Einsum, Operation


@dataclass(frozen=True)
class TrafficBound:
    """The staircase: a buffer of ``buffer_bytes[i]`` moves at least ``traffic_bytes[i]``.

    Attributes:
        buffer_bytes: Ascending; ``traffic_bytes`` descending, for sizes from that step to the next.
        compulsory_bytes: Every touched word of each tensor once: no buffer does better.
        macs: Multiply-accumulates, to turn traffic into intensity.
    """

    buffer_bytes: np.ndarray
    traffic_bytes: np.ndarray
    compulsory_bytes: float
    macs: float

    def at(self, buffer_bytes: float) -> float:
        """Least traffic, bytes, with a buffer of this size."""
        i = int(np.searchsorted(self.buffer_bytes, buffer_bytes * (1 + 1e-12), side="right")) - 1
        if i < 0:
            raise InputError("no buffer is smaller than nothing", found=buffer_bytes)
        return float(self.traffic_bytes[i])

    def table(self) -> str:
        """The curve at powers of two, and its last step."""
        sizes, size = [0.0], 1.0
        while size < self.buffer_bytes[-1]:
            sizes.append(size)
            size *= 2
        sizes.append(float(self.buffer_bytes[-1]))
        lines = [f"{'buffer (bytes)':>16} {'traffic (bytes)':>18} {'MACs a byte':>12}"]
        for size in sizes:
            traffic = self.at(size)
            lines.append(f"{size:16,.0f} {traffic:18,.0f} {self.macs / traffic:12.3f}")
        return "\n".join(lines)

    def plot(self, path: str) -> None:
        """Write the curve as a picture."""
        import matplotlib

        matplotlib.use("Agg")
        import matplotlib.pyplot as plt

        figure, axes = plt.subplots(figsize=(6, 4))
        sizes = np.maximum(self.buffer_bytes, 0.5)
        axes.step(sizes, self.traffic_bytes, where="post", label="least traffic")
        axes.axhline(self.compulsory_bytes, linestyle=":", color="grey", label="every word once")
        axes.set(xscale="log", yscale="log", xlabel="buffer (bytes)", ylabel="traffic (bytes)")
        axes.legend()
        figure.tight_layout()
        figure.savefig(path)
        plt.close(figure)


def two_level_nest(bits: tuple[float, float, float], capacity_bits: float = np.inf) -> Nest:
    """A tier and one buffer in which reading or writing a bit of the tier costs one."""
    table = np.zeros((1, 2, k.SLOT_COLUMNS))
    table[0, :, k.BLOCK] = 1.0
    table[0, :, k.CAPACITY] = (np.inf, capacity_bits)
    table[0, 0, k.READ_J] = table[0, 0, k.WRITE_J] = 1.0
    table[0, :, k.BITS : k.BITS + 3] = bits
    table[0, :, k.INSTANCES] = 1.0
    engine = np.zeros((1, k.ENGINE_COLUMNS))
    engine[0, k.MAC_CYCLES] = engine[0, k.CLOCK_HZ] = engine[0, k.MAC_COUNT] = 1.0
    engine[0, k.FINAL_BITS] = bits[2]
    none = np.zeros(0, np.int64)
    return Nest(
        ("memory", "buffer"), np.zeros(2, bool), np.ones((1, 2, 3), bool), np.array([[1, 1]]),
        none, none, np.zeros((1, 0)), table, engine, np.zeros(1, np.int64),
    )  # fmt: skip


def traffic_bound(
    operation: Operation | Einsum, bits: tuple[float, float, float] = (8.0, 8.0, 8.0)
) -> TrafficBound:
    """Least traffic of an operation by buffer size.

    Args:
        operation: An operation with a loop nest, or the loop nest.
        bits: Width of an input, weight and output word in memory and buffer.

    Raises:
        InputError: No loop nest, widths that are not positive, or too many shapes.
    """
    einsum = operation.einsum if isinstance(operation, Operation) else operation
    if einsum is None:
        raise InputError("the operation has no loop nest", field=operation.name)
    if len(bits) != 3 or not all(0 < b < 1e6 for b in bits):
        raise InputError("three word widths > 0 are needed", field="bits", found=bits)
    space = mapspace(einsum, two_level_nest(bits))
    held, moved = _tiles(space, np.asarray(bits))
    order = np.lexsort((moved, held))
    held, least = held[order] / 8, np.minimum.accumulate(moved[order]) / 8
    first = np.concatenate([[True], least[1:] < least[:-1] * (1 - 1e-12)])
    sizes, traffic = held[first], least[first]
    return TrafficBound(sizes, traffic, _compulsory(space, np.asarray(bits)), einsum.macs)


def _compulsory(space: Mapspace, bits: np.ndarray) -> float:
    """Bytes of all words touched, each once."""
    words = space.shapes.words[-1].copy()
    sp, ints = space.shapes, space.problem.ints[0]
    pairs = ints[k.SLIDE_DIM : k.SLIDE_DIM + 2 * ints[k.SLIDES]].reshape(-1, 2)
    floats, dims = space.problem.floats[0], len(space.problem.dims)
    for i, (p, r) in enumerate(pairs):  # strides may leave gaps that no one touches
        steps = [floats[dims + k.COEFFICIENT + 2 * i + j] for j in range(2)]
        ext = [floats[d] if d >= 0 else 1.0 for d in (p, r)]
        touched = {int(a * steps[0] + b * steps[1]) for a in range(int(ext[0]))
                   for b in range(int(ext[1]))}  # fmt: skip
        span = steps[0] * (ext[0] - 1) + (steps[1] * (ext[1] - 1) if r >= 0 else 0) + 1
        words[0] *= len(touched) / span
    assert sp.words.shape[1] == 3
    return float((words * bits).sum() / 8)


def _tiles(space: Mapspace, bits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Bits held and bits moved of every tile, order class and choice of operands kept."""
    sp, orders = space.shapes, space.orders
    tiles = np.stack([sp.values[d][sp.index[:, d]] for d in range(len(sp.counts))], axis=1)
    bounds = tiles[-1] / tiles
    active = ((bounds > 1) << np.arange(bounds.shape[1])).sum(axis=1)
    macs, words = float(sp.volume[-1]), sp.words
    never = np.array([macs, macs, 2 * macs - words[-1, 2]]) * bits
    held, moved = [], []
    for mask in np.unique(active):
        rows = np.flatnonzero(active == mask)
        for q in range(orders.start[0, mask], orders.start[0, mask + 1]):
            traffic = np.zeros((len(rows), 3))
            for t in range(3):
                counted = [d for d in range(bounds.shape[1]) if orders.counted[q, t] >> d & 1]
                traffic[:, t] = words[rows, t] * bounds[rows][:, counted].prod(axis=1)
            d = orders.mover[q]
            if d >= 0 and sp.partner[d] >= 0:
                here = sp.step[d] * tiles[rows, d]
                r = sp.partner[d]
                span = here - sp.step[d] + 1 + sp.step[r] * (tiles[rows, r] - 1)
                f = bounds[rows, d]
                traffic[:, 0] *= (1 + (f - 1) * np.minimum(1.0, here / span)) / f
            traffic[:, 2] = 2 * traffic[:, 2] - words[-1, 2]
            traffic = traffic * bits
            for kept in product((True, False), repeat=3):
                which = np.array(kept)
                held.append((words[rows] * bits * which).sum(axis=1))
                moved.append(np.where(which, traffic, never).sum(axis=1))
    return np.concatenate(held), np.concatenate(moved)
