"""The closed form of kernels in memory beside the command level, over a grid of shapes.

Nothing of the closed form is fitted, so every shape is a test: sizes as models have them, sizes
that fill a product's units up to twelve times, and sizes of any scale from one on.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from archsim.models.dram.checker import violations
from archsim.models.pim import Product, available_products, closed_form, load_product, run_kernel
from archsim.validate.references import table

#: Allowed errors of time: median and largest, over all shapes (issue 6).
MEDIAN, LARGEST = 0.05, 0.15
SHAPES = 80  # a product
JUDGED = 3  # of these, also given to the judge of commands


@dataclass(frozen=True, eq=False)
class Compared:
    """Shapes of one product, and the closed form's errors on them; [shapes] each.

    Attributes:
        shapes: m, n, k, int64[shapes, 3].
        time, energy: Closed form over command level, less one.
        broken: Rules of the memory that judged command sequences break.
    """

    product: str
    shapes: NDArray[np.int64]
    time: NDArray[np.float64]
    energy: NDArray[np.float64]
    broken: int


def shapes_of(product: Product, many: int, seed: int = 0) -> Iterator[tuple[int, int, int]]:
    """Sizes of GEMVs and skinny GEMMs for a product: of models, spread evenly, and of any scale."""
    rng = np.random.default_rng(seed)
    units = product.units.count * product.lockstep * product.channels * product.stacks
    vectors = [1, 2, 4, 8, 16, 64] if product.units.held > 1 else [1, 1, 2, 3]
    for index in range(many):
        m = int(rng.choice(vectors))
        if index % 3 == 0:
            n = int(units * rng.choice([1, 2, 4, 8, 12]))
            k = int(2 ** rng.integers(7, 14))
        elif index % 3 == 1:
            n, k = int(rng.integers(units // 8, 12 * units)), int(rng.integers(64, 8192))
        else:
            n = int(np.exp(rng.uniform(0, np.log(16 * units))))
            k = int(np.exp(rng.uniform(0, np.log(16384))))
        yield m, n, k


def compare(name: str, many: int = SHAPES, seed: int = 0) -> Compared:
    """Run the shapes of one product on both levels."""
    product = load_product(name)
    shapes = np.array(list(shapes_of(product, many, seed)))
    closed = closed_form(product, *shapes.T)
    time, energy, broken = [], [], 0
    for index, (m, n, k) in enumerate(shapes.tolist()):
        done = run_kernel(product, m, n, k, log=index < JUDGED)
        time.append(closed.cycles[index] / done.cycles - 1.0)
        energy.append(closed.energy_j[index] / done.energy_j - 1.0)
        if done.log is not None:
            broken += len(violations(product.spec, done.log))
    return Compared(name, shapes, np.array(time), np.array(energy), broken)


HEADS = ("product", "shapes", "median", "90 %", "largest", "at m x n x k", "energy median",
         "largest", "rules broken")  # fmt: skip


def validate_pim(shapes: int = SHAPES, seed: int = 0) -> bool:
    """Print the table of errors; True if they are within bounds and no rule is broken.

    Args:
        shapes: Of every product.
        seed: Of the shapes.
    """
    found = [compare(name, shapes, seed) for name in available_products()]
    print("Closed form of kernels in memory beside the command level (|error|)")
    lines = []
    for c in found:
        worst = int(np.argmax(np.abs(c.time)))
        time, energy = np.abs(c.time), np.abs(c.energy)
        at = " x ".join(str(x) for x in c.shapes[worst])
        lines.append(
            (c.product, str(len(time)), f"{np.median(time):.2%}", f"{np.quantile(time, 0.9):.2%}",
             f"{time.max():.2%}", at, f"{np.median(energy):.2%}", f"{energy.max():.2%}",
             str(c.broken))
        )  # fmt: skip
    print(table(HEADS, lines))
    every = np.abs(np.concatenate([c.time for c in found]))
    median, largest = float(np.median(every)), float(every.max())
    good = median <= MEDIAN and largest <= LARGEST and not any(c.broken for c in found)
    print(
        f"\n{every.size} shapes: median {median:.2%} (allowed {MEDIAN:.0%}), largest {largest:.2%} "
        f"(allowed {LARGEST:.0%}): {'met' if good else 'MISSED'}"
    )
    return good
