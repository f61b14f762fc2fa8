"""Grid search: every design in order, or evenly spread ones when the budget is smaller.

With a budget of at least the size of the space, designs are visited in order, the last parameter
turning fastest, and the search ends after the last. With a smaller budget (the recorder's, or the
option), it walks the same order in strides of about 0.618 of the space, wrapping around and passing
over illegal designs. The
stride is coprime to the size, so no design repeats and the last parameter cycles through all its
values; its ratio to the size is near the golden section, so the first parameters are covered
evenly too (the Kronecker sequence: Niederreiter, "Random Number Generation and Quasi-Monte Carlo
Methods", 1992, ch. 3).
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from archsim.agents.evaluation import BudgetSpent, Evaluator
from archsim.agents.options import AgentOptions, option


@dataclass(frozen=True)
class Options(AgentOptions):
    """Options of grid search."""

    budget: int | None = option(
        None, "Evaluations to spread over the space; None asks the recorder.", low=1
    )
    batch: int = option(256, "Designs proposed together; does not change the sequence.", low=1)


def golden_stride(size: int) -> int:
    """The number nearest to 0.618 times ``size`` that is coprime to it (exact for big integers)."""
    # (sqrt(5) - 1) / 2 as a ratio of integers, so that sizes beyond 2**53 keep every digit.
    target = (math.isqrt(5 * size * size) - size) // 2
    for distance in range(size):
        for stride in (target + distance, target - distance):
            if 0 < stride <= size and math.gcd(stride, size) == 1:
                return stride
    return 1


class GridSearch:
    """Every design in order; a golden-section stride through the space if the budget is smaller."""

    encoding = "multidiscrete"
    vectorized = True
    deterministic = True
    extra = None

    def __init__(self, env: Any, seed: int = 0, options: Options | None = None) -> None:
        self.options = options or Options()
        self.evaluate = Evaluator(env, seed)

    @staticmethod
    def designs_per_step(options: Options) -> int:
        """Width of the vector environment this agent would like."""
        return options.batch

    def batches(self) -> Iterator[np.ndarray]:
        """Legal index vectors i8[b, P], in the order of their visit."""
        sizes = [int(size) for size in self.evaluate.sizes]
        points = math.prod(sizes)
        space = self.evaluate.space
        budget = self.options.budget or self.evaluate.budget
        designs = points if space is None else space.size
        whole = budget is None or budget >= designs
        if whole and space is not None:
            # Prunes prefixes that no legal design has.
            yield from space.batches(self.options.batch)
            return
        stride = 1 if whole else golden_stride(points)
        # Python integers: a space may have more than 2**63 points.
        number = 0
        for start in range(0, points, self.options.batch):
            count = min(self.options.batch, points - start)
            digits = np.empty((count, len(sizes)), dtype=np.int64)
            for row in range(count):
                rest = number
                for column in range(len(sizes) - 1, -1, -1):
                    rest, digits[row, column] = divmod(rest, sizes[column])
                number = (number + stride) % points
            yield digits[self.evaluate.is_legal(digits)]

    def search(self) -> None:
        """Walk the grid until its end or the end of the budget."""
        waiting = np.empty((0, len(self.evaluate.sizes)), dtype=np.int64)
        left = self.options.budget
        with contextlib.suppress(BudgetSpent):
            for batch in self.batches():
                waiting = np.concatenate([waiting, batch])
                ready = len(waiting) // self.evaluate.width * self.evaluate.width
                if left is not None:
                    ready = min(ready, self.evaluate.whole_steps(left))
                    left -= ready
                if not ready:
                    continue
                self.evaluate(waiting[:ready])
                waiting = waiting[ready:]
                if left is not None and left <= 0:
                    return
            if len(waiting):
                # The last step of a vector environment is filled up with the last design.
                spare = self.evaluate.whole_steps(len(waiting)) - len(waiting)
                self.evaluate(np.concatenate([waiting, np.repeat(waiting[-1:], spare, axis=0)]))
