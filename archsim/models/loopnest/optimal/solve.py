"""The certified mapper: branch and bound over the mapspace, and the certificate.

Labels are built from the multiply-accumulate units outwards, for all choices of kept operands at
once (``labels.py``, ``build.py``), dropping whatever cannot beat the incumbent even if everything
outside costs as little as it can (``outside.py``); then a depth-first search from the tier inwards
visits what is left (``search.py``), and the exact kernel judges every complete mapping that is
reached. When nothing is left, the incumbent is optimal.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from math import prod

import numpy as np

from archsim.errors import InputError
from archsim.models.loopnest import kernel as k
from archsim.models.loopnest.mapping import Mapping
from archsim.models.loopnest.optimal import build as bd
from archsim.models.loopnest.optimal import outside as lb
from archsim.models.loopnest.optimal import search as sr
from archsim.models.loopnest.optimal.enumeration import judge_rows
from archsim.models.loopnest.optimal.layout import CONSTANT, LEAK, MAC_TIME, Labels, Work
from archsim.models.loopnest.optimal.seeds import first_guess
from archsim.models.loopnest.optimal.space import OPERANDS, Mapspace

#: Relative tolerance of the proof: no mapping is better than the one returned by more than this.
TOLERANCE = 1e-12
KINDS = {"energy": lb.ENERGY, "latency": lb.LATENCY, "edp": lb.EDP, "pareto": lb.PARETO}
#: Labels that a tile may have before two merge; mappings judged at once.
ROOM, BATCH = 192, 256
#: Nodes visited, and labels tried, between two looks at the clock.
QUANTUM, LABEL_QUANTUM = 2000, 500_000


@dataclass(frozen=True)
class Objective:
    """What to minimise.

    Attributes:
        kind: ``energy``, ``latency``, ``edp``, ``pareto`` (the whole set), ``sum`` (weight times J
            plus weight times s) or ``product`` (J to a weight times s to a weight).
        energy, latency: The weights.
    """

    kind: str
    energy: float = 1.0
    latency: float = 1.0

    def code(self) -> int:
        codes = {**KINDS, "sum": lb.SUM, "product": lb.PRODUCT}
        if self.kind not in codes:
            raise InputError(
                "unknown objective", field="objective", found=self.kind, expected=", ".join(codes)
            )
        for name in ("energy", "latency"):
            if not 0 <= getattr(self, name) < 1e30:
                raise InputError("a weight must be a number >= 0", field=name)
        if self.energy + self.latency == 0:
            raise InputError("one weight must be positive", field="objective")
        return codes[self.kind]


@dataclass
class Proof:
    """What the search did; the certificate's figures.

    Attributes:
        masks: Choices of kept operands, all covered.
        shapes: Tile shapes; ``tried`` inner labels looked at; ``labels`` kept.
        nodes: Of the search; ``pruned`` children ruled out by their bound; ``judged`` by kernel.
        seconds: Process CPU time.
    """

    masks: int = 0
    shapes: int = 0
    tried: int = 0
    labels: int = 0
    nodes: int = 0
    pruned: int = 0
    judged: int = 0
    seconds: float = 0.0
    stopped: str = ""


@dataclass(frozen=True, eq=False)
class Found:
    """One mapping with its figures: J and cycles by the kernel."""

    energy_j: float
    cycles: float
    mapping: Mapping


@dataclass
class _Search:
    space: Mapspace
    objective: Objective
    deadline: float
    node_limit: float
    most_cycles: float = np.inf
    proof: Proof = field(default_factory=Proof)
    best: list[tuple[float, float, np.ndarray, np.ndarray, np.ndarray]] = field(
        default_factory=list
    )
    open_bound: float = np.inf

    def __post_init__(self) -> None:
        kind = self.objective.code()
        clock = float(self.space.nest.engine[self.space.row, k.CLOCK_HZ])
        weight_d = self.objective.latency / clock if kind == lb.SUM else self.objective.latency
        if kind == lb.ENERGY:  # rounding of cycles does not matter, but a tie should be fast
            weight_d = 0.0
        self.goal = np.array(
            [kind, self.objective.energy, weight_d, self.most_cycles, np.inf, TOLERANCE]
        )
        self.points = np.zeros((0, 2))

    @property
    def out_of_time(self) -> bool:
        if time.process_time() > self.deadline:
            self.proof.stopped = "time"
        elif self.proof.nodes + self.proof.tried > self.node_limit:
            self.proof.stopped = "nodes"
        return bool(self.proof.stopped)

    def offer(self, factors, orders, keep) -> None:
        """Judge mappings and keep the best."""
        if not len(factors):
            return
        results = judge_rows(self.space, factors, orders, keep)
        self.proof.judged += len(results)
        cycles, energy = results[:, k.CYCLES], results[:, k.ENERGY_J]
        fit = (results[:, k.OVERFLOW] <= 0) & (cycles <= self.goal[lb.MOST] * (1 + TOLERANCE))
        rows = np.flatnonzero(fit)
        if not len(rows):
            return
        if self.goal[lb.KIND] == lb.PARETO:
            self._offer_set(rows, energy, cycles, factors, orders, keep)
            return
        values = np.array([lb.value_of(self.goal, energy[i], cycles[i]) for i in rows])
        i = int(rows[int(np.argmin(values))])
        if values.min() < self.goal[lb.BEST]:
            self.goal[lb.BEST] = values.min()
            kept = keep[i if len(keep) > 1 else 0]
            self.best = [(energy[i], cycles[i], factors[i].copy(), orders[i].copy(), kept.copy())]

    def _offer_set(self, rows, energy, cycles, factors, orders, keep) -> None:
        for i in rows:
            kept = keep[i if len(keep) > 1 else 0]
            new = (energy[i], cycles[i])
            if any(b[0] <= new[0] and b[1] <= new[1] for b in self.best):
                continue
            self.best = [b for b in self.best if not (new[0] <= b[0] and new[1] <= b[1])]
            self.best.append((*new, factors[i].copy(), orders[i].copy(), kept.copy()))
        self.best.sort(key=lambda b: b[:2])
        self.points = np.array([b[:2] for b in self.best]).reshape(-1, 2)

    def run(self) -> None:
        """Build the labels of all boundaries, then search from the tier inwards."""
        space = self.space
        self.proof.masks = int(space.prices.ways.prod())
        self.proof.shapes = len(space.shapes.volume)
        tables = self.labels()
        if tables is None:
            self.open_bound = self.floor() if self.proof.stopped else np.inf
        else:
            self.open_bound = self.dive(tables)

    def around(self) -> np.ndarray:
        """float64[C, X], least energy between tier and slot 1 by what slot 1 keeps."""
        prices, total = self.space.prices, self.proof.shapes or len(self.space.shapes.volume)
        around = np.zeros((int(prices.cases[-1]), total))
        if prices.cases[-1] > 1 or (len(prices.fanout) > 1 and not prices.fanout[1]):
            for c, row in enumerate(around):
                kept = prices.choices[1, c]
                lb.least_around(self.space.shapes, self.space.orders, prices, kept, row)
        return around

    def floor(self) -> float:
        """A bound without any search: every word once, every operation once, all units busy."""
        sp, prices = self.space.shapes, self.space.prices
        states, last = np.zeros((8, lb.BOUND)), len(prices.fanout)
        cases = lb.least_states(sp, prices, last, 0, self.around(), 0, prices.cases[last], states)
        label, least = self.unit(), np.inf
        for state in states[:cases]:
            cycles = lb.steps_of(state, label, prices)
            energy = max(lb.energy_of(state, label, 0), self.compulsory())
            energy += prices.scalars[LEAK] * cycles
            least = min(least, lb.value_of(self.goal, energy, cycles))
        return least

    def compulsory(self) -> float:
        """J of all operations, and of the tier: each input read and each output written once."""
        sp, prices = self.space.shapes, self.space.prices
        words, extents = sp.words[-1].copy(), self.space.extents
        words[0] = 1.0  # of a window at least a word a step: strides and dilation leave gaps
        for d in np.flatnonzero(self.space.problem.relevant[0, 0]):
            r = sp.partner[d]
            if r < d:  # alone, or the second of a pair
                words[0] *= max(extents[d], extents[r] if r >= 0 else 1)
        tier = (prices.access[0] * words).sum() - prices.credit[0]
        return max(float(prices.scalars[CONSTANT] + tier), 0.0)

    def unit(self) -> np.ndarray:
        """The label of the multiply-accumulate units: every word asked for at every step."""
        label = np.zeros(lb.LABEL)
        label[lb.L] = label[lb.N : lb.N + 3] = self.space.shapes.volume[-1]
        return label

    def labels(self):
        """Labels of all boundaries: (labels, flags, start, count); None if nothing can win."""
        sp, orders, prices = self.space.shapes, self.space.orders, self.space.prices
        slots, total, dims = len(prices.fanout), len(sp.volume), len(sp.step)
        around = self.around()
        start, count = np.zeros((2, slots + 1, total), np.int64)
        count[slots, 0] = 1
        inside = Labels(
            self.unit()[None], np.zeros(1, np.int64), start[slots], count[slots],
            np.tile(self.unit(), (total, 1)), np.zeros(total, np.int64),
        )  # fmt: skip
        fronts = (np.zeros((ROOM, lb.LABEL)), np.zeros(ROOM, np.int64), np.zeros(ROOM)) * 2
        work = Work(
            *(array.copy() for array in fronts), *np.zeros((2, lb.LABEL)),
            *np.zeros((2, 8, lb.BOUND)), np.zeros((64, 3)), np.zeros(dims),
            np.zeros(dims, np.int64),
        )  # fmt: skip
        pools = [inside]
        for s in range(slots - 1, 0, -1):
            pre = _room_for(total, *np.zeros((2, 8, total), np.int64))
            post = _room_for(total, start[s], count[s])
            outer = around if s > 1 else np.zeros((1, total))
            used, x, before = np.zeros(3, np.int64), 0, 0
            while True:
                x = bd.build_labels(
                    x, s, sp, orders, prices, self.goal, self.points, around, outer, inside, pre,
                    post, used, work, LABEL_QUANTUM,
                )  # fmt: skip
                self.proof.tried += int(used[bd.TRIED]) - before
                before = int(used[bd.TRIED])
                if x >= total:
                    break
                if self.out_of_time:
                    return None
                pre = _grown(pre, used[bd.PRE] + 8 * ROOM)
                post = _grown(post, used[bd.POST] + ROOM)
            rows = int(used[bd.POST])
            inside = post._replace(rows=post.rows[:rows].copy(), flags=post.flags[:rows].copy())
            pools.append(inside)
            self.proof.labels += rows
            if not rows:
                return None
        pools, shift = pools[::-1], 0  # boundaries 1 .. slots
        for s, pool in enumerate(pools, start=1):
            start[s] += shift
            shift += len(pool.rows)
        rows = np.concatenate([pool.rows for pool in pools])
        return rows, np.concatenate([pool.flags for pool in pools]), start, count

    def dive(self, tables) -> float:
        """Search from the tier inwards; the least bound left if stopped, else infinite."""
        sp, orders, prices = self.space.shapes, self.space.orders, self.space.prices
        slots, dims = len(prices.fanout), len(sp.step)
        columns = sr.DECIDED + 3 * slots
        states = np.zeros((slots + 1, columns))
        room = 1 << 16
        heaps = [np.zeros(room), np.zeros(room, np.int64), np.zeros(room, np.int64)]
        heap, chosen = np.zeros((slots + 2, 2), np.int64), np.zeros((slots + 1, 2), np.int64)
        registers = np.zeros(4, np.int64)
        work = (np.zeros(columns), np.zeros(columns), np.zeros(dims), np.zeros(dims, np.int64))
        factors = np.ones((BATCH, slots, dims))
        order, keep = np.zeros((BATCH, slots, dims), np.int64), np.zeros((BATCH, slots, 3), bool)
        before = 0
        while True:
            why = sr.search(
                sp, orders, prices, self.goal, self.points, tables, states, *heaps, heap, chosen,
                registers, QUANTUM, work, factors, order, keep,
            )  # fmt: skip
            found = int(registers[sr.LEAVES])
            self.offer(factors[:found], order[:found], keep[:found])
            registers[sr.LEAVES] = 0
            self.proof.nodes += int(registers[sr.NODES]) - before
            before = int(registers[sr.NODES])
            if why == sr.ROOM_NEEDED:
                heaps = [np.concatenate([array, np.zeros_like(array)]) for array in heaps]
            if why == sr.DONE or self.out_of_time:
                self.proof.pruned += int(registers[sr.PRUNED])
            if why == sr.DONE:
                return np.inf
            if self.proof.stopped:
                left = [
                    heaps[0][heap[s, 0] : heap[s, 0] + heap[s, 1]].min()
                    for s in range(int(registers[sr.LEVEL]) + 1)
                    if heap[s, 1]
                ]
                return float(min(left, default=self.goal[lb.BEST]))

    def mapping(self, entry) -> Mapping:
        _, _, factors, orders, kept = entry
        space = self.space
        return Mapping(
            space.nest.names, space.problem.dims, tuple(space.extents), space.nest.fanout, kept,
            factors.astype(np.int64), orders.astype(np.int64),
        )  # fmt: skip


def _room_for(total: int, start: np.ndarray, count: np.ndarray) -> Labels:
    """Room for labels of the tiles at a boundary."""
    room = max(1024, total) + 8 * ROOM
    return Labels(
        np.zeros((room, lb.LABEL)), np.zeros(room, np.int64), start, count,
        np.zeros((total, lb.LABEL)), np.zeros(total, np.int64),
    )  # fmt: skip


def _grown(labels: Labels, needed: int) -> Labels:
    """Twice the room if it is short."""
    if needed <= len(labels.rows):
        return labels
    double = (np.concatenate([array, np.zeros_like(array)]) for array in labels[:2])
    return Labels(*double, *labels[2:])


@dataclass(frozen=True, eq=False)
class Solution:
    """What the mapper returns.

    Attributes:
        found: The best mapping, or the Pareto set in ascending energy; empty if nothing fits.
        value: The objective (J, cycles, J x cycles, ...); nan for a Pareto set.
        lower_bound: No mapping of the space is better than this.
        proven: Whether the search was completed.
        misfit: Where nothing fits: what does not, in words.
        proof: Figures of the search.
    """

    found: tuple[Found, ...]
    value: float
    lower_bound: float
    proven: bool
    misfit: str
    proof: Proof

    @property
    def gap(self) -> float:
        """Relative distance of the best found to the bound; 0 when proven."""
        if self.proven:
            return 0.0
        return self.value / self.lower_bound - 1.0 if self.lower_bound > 0 else np.inf


def solve(
    space: Mapspace,
    objective: Objective,
    *,
    time_limit_s: float = 600.0,
    node_limit: float = 1e12,
    progress: Callable[[str], None] | None = None,
) -> Solution:
    """Find the best mapping of a space and prove it.

    Args:
        space: The mapspace.
        objective: What to minimise.
        time_limit_s: Process CPU time after which the search stops with a bound.
        node_limit: Likewise for nodes visited and tile pairs looked at; unlike time, it stops at
            the same place every time.
        progress: Told what is going on.

    Returns:
        The solution; the same for the same input (unless stopped by time).
    """
    began = time.process_time()
    state = _Search(space, objective, began + time_limit_s, node_limit)
    if objective.kind == "pareto":
        for kind in ("energy", "latency", "edp"):
            part = _run(space, Objective(kind), began + time_limit_s, node_limit)
            for entry in part.best:
                state.offer(entry[2][None], entry[3][None], entry[4][None])
    else:
        _guess(state)
    state.run()
    if objective.kind == "latency" and state.best and not state.proof.stopped:
        state = _least_energy_at(state, began + time_limit_s, node_limit)
    state.proof.seconds = time.process_time() - began
    if progress:
        progress(f"{state.proof.nodes} nodes, {state.proof.seconds:.2f} s")
    return _solution(state)


def _guess(state: _Search) -> None:
    """A first incumbent.

    Of many equally fast mappings a frugal one is wanted, so the best product is tried first; if it
    keeps all units busy, nothing is faster.
    """
    space, prices = state.space, state.space.prices
    if state.objective.kind == "latency":
        product = _Search(space, Objective("edp"), state.deadline, state.node_limit)
        state.offer(*first_guess(space, product.goal))
        least = space.shapes.volume[-1] * prices.scalars[MAC_TIME] / prices.most[-1, 3]
        if state.best and state.best[0][1] <= least * (1 + TOLERANCE):
            return
    state.offer(*first_guess(space, state.goal))


def _run(space: Mapspace, objective: Objective, deadline: float, nodes: float, most=np.inf):
    state = _Search(space, objective, deadline, nodes, most)
    _guess(state)
    state.run()
    return state


def _least_energy_at(state: _Search, deadline: float, nodes: float) -> _Search:
    """Of the fastest mappings, one of least energy."""
    cycles = state.best[0][1]
    frugal = _Search(state.space, Objective("energy"), deadline, nodes, cycles)
    for entry in state.best:
        frugal.offer(entry[2][None], entry[3][None], entry[4][None])
    frugal.run()
    if frugal.best:
        state.best = frugal.best
    for name in ("nodes", "tried", "labels", "pruned", "judged"):
        setattr(state.proof, name, getattr(state.proof, name) + getattr(frugal.proof, name))
    return state


def _solution(state: _Search) -> Solution:
    proven = not state.proof.stopped
    found = tuple(Found(float(b[0]), float(b[1]), state.mapping(b)) for b in state.best)
    single = state.goal[lb.KIND] != lb.PARETO
    value = float(state.goal[lb.BEST]) if single and found else float("nan")
    bound = value * (1 - TOLERANCE) if proven else min(value, float(state.open_bound))
    misfit = "" if found or not proven else explain_misfit(state.space)
    return Solution(found, value, bound, proven, misfit, state.proof)


def explain_misfit(space: Mapspace) -> str:
    """Why no mapping fits: the storage that cannot hold even the smallest tile it must keep."""
    nest, table = space.nest, space.nest.slot_table[space.row]
    for d, dim in enumerate(space.problem.dims):
        fixed = [(x.slot, x.factors[dim]) for x in space.constraints.slots if dim in x.factors]
        if fixed and space.extents[d] % prod(bound for _, bound in fixed):
            loops = ", ".join(f"{slot} {bound}" for slot, bound in fixed)
            return f"the fixed factors of {dim} ({loops}) do not divide its {space.extents[d]}"
    for s, name in enumerate(nest.names):
        limits = space.constraints.of(name)
        forced = [t for t in range(3) if limits and OPERANDS[t] in limits.keep]
        if s == 0:
            continue
        words = space.shapes.words[_least_tile(space, s)]
        sizes = {OPERANDS[t]: float(table[s, k.BITS + t] * words[t]) for t in forced}
        if sum(sizes.values()) > table[s, k.CAPACITY]:
            kept = " and ".join(f"{operand} ({bits:g} bits)" for operand, bits in sizes.items())
            return (
                f"{name} holds {table[s, k.CAPACITY]:g} bits, which the smallest tile allowed of "
                f"{kept} overflows"
            )
    sizes = {OPERANDS[t]: float(table[0, k.BITS + t] * space.shapes.words[-1, t]) for t in range(3)}
    if sum(sizes.values()) > table[0, k.CAPACITY]:
        worst = max(sizes, key=sizes.__getitem__)
        return (
            f"{nest.names[0]} holds {table[0, k.CAPACITY]:g} bits, the tensors need "
            f"{sum(sizes.values()):g}, {worst} most ({sizes[worst]:g})"
        )
    return "the constraints leave no mapping that fits"


def _least_tile(space: Mapspace, s: int) -> int:
    """The smallest tile that can enter slot s: the product of the least loop bounds inside.

    If every slot outside has one possible bound of a dimension, what they leave is inside. The
    fixed factors must divide the extents.
    """
    shapes, at = space.shapes, 0
    for d, extent in enumerate(space.extents):
        choices = [
            shapes.values[d, : shapes.counts[d]][space.allowed[i, d, : shapes.counts[d]]]
            for i in range(len(space.nest.names))
        ]
        if not all(len(bounds) for bounds in choices):
            return 0  # contradictory limits: nothing to say of tiles
        if all(len(bounds) == 1 for bounds in choices[:s]):
            tile = extent / prod(float(bounds[0]) for bounds in choices[:s])
        else:
            tile = prod(float(bounds[0]) for bounds in choices[s:])
        at += list(shapes.values[d, : shapes.counts[d]]).index(tile) * int(shapes.strides[d])
    return at


__all__ = ["Found", "Objective", "Proof", "Solution", "solve"]
