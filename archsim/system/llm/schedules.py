"""Schedules of training over pipeline stages: GPipe and one-forward-one-backward, walked exactly.

Each stage works off its own list, forward (F) and backward (B) passes of micro-batches; a forward
pass waits for that of the stage before, a backward pass for that of the stage behind. With stages
of equal length both schedules leave ``(K - 1) / (M + K - 1)`` of the time idle (K stages, M
micro-batches; GPipe, arXiv 1811.06965, section 2.3); they differ in the activations a stage holds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

from archsim.errors import InputError

SCHEDULES = ("gpipe", "1f1b")


@dataclass(frozen=True)
class Walked:
    """A schedule, walked.

    Attributes:
        latency_s: From the first forward to the last backward pass.
        busy_s: Work of each stage.
        held: Micro-batches whose inputs each stage keeps at most.
    """

    latency_s: float
    busy_s: tuple[float, ...]
    held: tuple[int, ...]

    @property
    def bubble(self) -> float:
        """Share of the stages' time that they idle."""
        return 1.0 - sum(self.busy_s) / (len(self.busy_s) * self.latency_s)


def bubble_share(stages: int, micro_batches: int) -> float:
    """Share of the time that stages of equal length idle.

    Example:
        >>> bubble_share(4, 12)
        0.2
    """
    return (stages - 1) / (micro_batches + stages - 1)


def balanced(works: Sequence[float], stages: int) -> list[slice]:
    """Consecutive pieces of work cut into stages whose longest is as short as can be.

    Returns:
        Which pieces each stage has.

    Example:
        >>> works = [1.0, 1.0, 1.0, 3.0]
        >>> [sum(works[stage]) for stage in balanced(works, 2)]
        [3.0, 3.0]
    """
    sums = [0.0, *accumulate(works)]
    # Longest of the first pieces in so many stages, and where the last of these stages begins.
    best = [list(sums)]
    begins: list[list[int]] = [[0] * len(sums)]
    for _ in range(1, stages):
        before, now, cut = best[-1], [], []
        for end in range(len(sums)):
            longest, begin = min(
                (max(before[begin], sums[end] - sums[begin]), begin) for begin in range(end + 1)
            )
            now.append(longest)
            cut.append(begin)
        best.append(now)
        begins.append(cut)
    found, end = [], len(works)
    for stage in reversed(range(stages)):
        begin = begins[stage][end]
        found.append(slice(begin, end))
        end = begin
    return found[::-1]


def _order(schedule: str, stage: int, stages: int, micro: int) -> list[tuple[str, int]]:
    """What a stage does, in order."""
    forward = [("F", i) for i in range(micro)]
    if schedule == "gpipe":
        return forward + [("B", i) for i in reversed(range(micro))]
    ahead = min(stages - 1 - stage, micro)
    order = forward[:ahead]
    for i in range(micro - ahead):
        order += [("F", ahead + i), ("B", i)]
    return order + [("B", i) for i in range(micro - ahead, micro)]


def walk(
    forward_s: Sequence[float],
    backward_s: Sequence[float],
    micro_batches: int,
    schedule: str = "gpipe",
    *,
    send_s: float = 0.0,
    again_s: Sequence[float] | None = None,
) -> Walked:
    """Time of one step of training.

    Args:
        forward_s: Of one micro-batch in each stage.
        backward_s: Alike, without what runs again.
        micro_batches: Parts of the batch.
        schedule: One of :data:`SCHEDULES`.
        send_s: From a stage to its neighbour, beside their work.
        again_s: Rematerialisation in each stage: the forward pass that runs again before a backward
            pass, for which it need not wait for the stage behind (GPipe, section 2.3).

    Raises:
        InputError: The schedule is unknown, or there are no stages or micro-batches.

    Example:
        >>> walked = walk([1.0] * 4, [2.0] * 4, 12, "1f1b")
        >>> walked.latency_s, round(walked.bubble, 9), walked.held
        (45.0, 0.2, (4, 3, 2, 1))
    """
    stages = len(forward_s)
    if schedule not in SCHEDULES:
        raise InputError("unknown schedule", found=schedule, expected=", ".join(SCHEDULES))
    same = len(backward_s) == stages and (again_s is None or len(again_s) == stages)
    if stages < 1 or not same or micro_batches < 1:
        raise InputError(
            "a pipeline has stages and micro-batches, and two times a stage",
            found=(stages, len(backward_s), micro_batches),
        )
    again = [0.0] * stages if again_s is None else list(again_s)
    orders = [_order(schedule, k, stages, micro_batches) for k in range(stages)]
    ends: dict[tuple[str, int, int], float] = {}
    place, clock = [0] * stages, [0.0] * stages
    while any(p < len(order) for p, order in zip(place, orders, strict=True)):
        for k in range(stages):
            while place[k] < len(orders[k]):
                kind, i = orders[k][place[k]]
                peer = k - 1 if kind == "F" else k + 1
                needed = (kind, i, peer)
                ready = 0.0
                if 0 <= peer < stages:
                    if needed not in ends:
                        break
                    ready = ends[needed] + send_s
                if kind == "F":
                    clock[k] = max(clock[k], ready) + forward_s[k]
                else:
                    clock[k] = max(clock[k] + again[k], ready) + backward_s[k]
                ends[kind, i, k] = clock[k]
                place[k] += 1
    works = zip(forward_s, backward_s, again, strict=True)
    busy = tuple(micro_batches * sum(parts) for parts in works)
    return Walked(max(clock), busy, tuple(_held(order) for order in orders))


def _held(order: Sequence[tuple[str, int]]) -> int:
    """Most micro-batches between their two passes."""
    now = most = 0
    for kind, _ in order:
        now += 1 if kind == "F" else -1
        most = max(most, now)
    return most
