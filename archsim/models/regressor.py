"""A small learned function of discrete designs: an ensemble of multilayer perceptrons in NumPy.

A design is a vector of value numbers. Each parameter is described by hat functions over its values
(one a value where it has few, which is a one-hot code; the piecewise linear finite-element basis of
its rank where it has many), so neighbours of a long ordered range resemble each other. Members are
rectifier networks, trained with Adam (D. Kingma, J. Ba, ICLR 2015) under a cosine schedule, their
weights averaged over the last steps (P. Izmailov et al., UAI 2018). What they disagree on, they do
not know (B. Lakshminarayanan et al., NeurIPS 2017).

As every parameter enters the first layer on its own, its part of that layer is looked up by value
when predicting; the rest is a few small matrix products.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

#: Hat functions of an ordered parameter, at most.
KNOTS = 16
#: Designs predicted at a time: the layers stay in the cache.
BLOCK = 2048


def hats(size: int, ordered: bool) -> np.ndarray:
    """Values of the hat functions of a parameter, float32[size, knots].

    Example:
        >>> hats(3, ordered=True).tolist()
        [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]
    """
    if not ordered or size <= KNOTS:
        return np.eye(size, dtype=np.float32)
    rank = np.arange(size) * (KNOTS - 1) / (size - 1)
    return np.maximum(0.0, 1.0 - np.abs(rank[:, None] - np.arange(KNOTS))).astype(np.float32)


@dataclass(frozen=True)
class Training:
    """How members are trained.

    Attributes:
        members: Networks of the ensemble.
        hidden: Units of the hidden layers.
        steps: Gradient steps of a member.
        batch: Designs a step.
        rate: First step size of Adam.
        seed: Of weights and batches.
    """

    members: int = 2
    hidden: tuple[int, ...] = (64, 64)
    steps: int = 16_000
    batch: int = 512
    rate: float = 5e-3
    seed: int = 0


@dataclass(frozen=True, eq=False)
class Regressor:
    """A trained ensemble.

    Attributes:
        sizes: Values of every parameter.
        ordered: Whether they have an order.
        layers: Weights and biases of every member: ``members`` lists of ``(float32[in, out],
            float32[out])``.
    """

    sizes: tuple[int, ...]
    ordered: tuple[bool, ...]
    layers: tuple[tuple[tuple[np.ndarray, np.ndarray], ...], ...]

    def __post_init__(self) -> None:
        """Fold the first layer of all members into one table a parameter."""
        weights = np.concatenate([member[0][0] for member in self.layers], axis=1)
        tables, start = [], 0
        for size, ordered in zip(self.sizes, self.ordered, strict=True):
            basis = hats(size, ordered)
            tables.append(basis @ weights[start : start + basis.shape[1]])
            start += basis.shape[1]
        tables[0] = tables[0] + np.concatenate([member[0][1] for member in self.layers])
        object.__setattr__(self, "_tables", _paired([np.ascontiguousarray(t) for t in tables]))

    def members(self, designs: np.ndarray) -> np.ndarray:
        """Every member's prediction: float32[members, B, outputs] of int[B, parameters]."""
        found = np.empty(
            (len(self.layers), len(designs), self.layers[0][-1][1].size), dtype=np.float32
        )
        for start in range(0, len(designs), BLOCK):
            block = slice(start, start + BLOCK)
            first = self._first(designs[block])
            np.maximum(first, 0.0, out=first)
            at = 0
            for number, member in enumerate(self.layers):
                width = member[0][1].size
                values = first[:, at : at + width]
                at += width
                for depth, (weight, bias) in enumerate(member[1:], 1):
                    values = values @ weight
                    values += bias
                    if depth < len(member) - 1:
                        np.maximum(values, 0.0, out=values)
                found[number, block] = values
        return found

    def _first(self, designs: np.ndarray) -> np.ndarray:
        total: Any = None
        for columns, strides, table in self._tables:  # type: ignore[attr-defined]
            place = designs[:, columns[0]] * strides[0]
            for column, stride in zip(columns[1:], strides[1:], strict=True):
                place = place + designs[:, column] * stride
            part = table.take(place, axis=0)
            total = part if total is None else np.add(total, part, out=total)
        return total


def _paired(tables: Sequence[np.ndarray]) -> list[tuple[list[int], list[int], np.ndarray]]:
    """Tables of several neighbouring parameters as one, while they stay small: fewer look-ups."""
    found: list[tuple[list[int], list[int], np.ndarray]] = []
    for column, table in enumerate(tables):
        if found and len(found[-1][2]) * len(table) <= 512:
            columns, strides, before = found[-1]
            both = (before[:, None, :] + table[None, :, :]).reshape(-1, table.shape[1])
            strides = [stride * len(table) for stride in strides]
            found[-1] = ([*columns, column], [*strides, 1], both)
        else:
            found.append(([column], [1], table))
    return found


def fit(
    designs: np.ndarray,
    targets: np.ndarray,
    sizes: Sequence[int],
    ordered: Sequence[bool],
    training: Training,
    advance: Callable[[int, int], None] | None = None,
) -> Regressor:
    """Train an ensemble by least squares.

    Args:
        designs: int64[N, parameters].
        targets: float64[N, outputs], each of unit scale; one that is NaN is not learned from.
        sizes: Values of every parameter.
        ordered: Whether they have an order.
        training: How.
        advance: Hears of steps done and to be done.
    """
    basis = [hats(size, order) for size, order in zip(sizes, ordered, strict=True)]
    inputs = np.concatenate(
        [table[column] for table, column in zip(basis, designs.T, strict=True)], axis=1
    )
    wanted = np.ascontiguousarray(targets, dtype=np.float32)
    members = []
    for number in range(training.members):
        rng = np.random.default_rng([training.seed, number])

        def heard(done: int, number: int = number) -> None:
            if advance is not None:
                advance(number * training.steps + done, training.members * training.steps)

        members.append(_member(inputs, wanted, training, rng, heard))
    return Regressor(tuple(map(int, sizes)), tuple(map(bool, ordered)), tuple(members))


def _member(
    inputs: np.ndarray,
    wanted: np.ndarray,
    training: Training,
    rng: np.random.Generator,
    heard: Callable[[int], None],
) -> tuple[tuple[np.ndarray, np.ndarray], ...]:
    """One network: weights averaged over the last quarter of its steps."""
    widths = (inputs.shape[1], *training.hidden, wanted.shape[1])
    values: list[np.ndarray] = []
    for fan_in, fan_out in itertools.pairwise(widths):
        scale = np.sqrt(2.0 / fan_in)  # He et al., ICCV 2015
        values.append((scale * rng.standard_normal((fan_in, fan_out))).astype(np.float32))
        values.append(np.zeros(fan_out, np.float32))
    first = [np.zeros_like(value) for value in values]
    second = [np.zeros_like(value) for value in values]
    mean = [np.zeros_like(value, dtype=np.float64) for value in values]
    averaged, count = training.steps - training.steps // 4, len(inputs)
    for step in range(training.steps):
        rows = rng.integers(0, count, training.batch)
        gradients = _gradients(values, inputs[rows], wanted[rows])
        rate = training.rate * (0.02 + 0.98 * 0.5 * (1 + np.cos(np.pi * step / training.steps)))
        rate *= np.sqrt(1 - 0.999 ** (step + 1)) / (1 - 0.9 ** (step + 1))
        for value, gradient, one, two in zip(values, gradients, first, second, strict=True):
            one += 0.1 * (gradient - one)
            two += 0.001 * (gradient * gradient - two)
            value -= np.float32(rate) * one / (np.sqrt(two) + np.float32(1e-8))
        if step >= averaged:
            for total, value in zip(mean, values, strict=True):
                total += value
        if step % 64 == 63:
            heard(step + 1)
    kept = [(total / (training.steps - averaged)).astype(np.float32) for total in mean]
    return tuple(zip(kept[::2], kept[1::2], strict=True))


def _gradients(
    values: Sequence[np.ndarray], inputs: np.ndarray, wanted: np.ndarray
) -> list[np.ndarray]:
    """Of the mean squared error, for every weight and bias."""
    passed = [inputs]
    for depth in range(0, len(values) - 2, 2):
        passed.append(np.maximum(passed[-1] @ values[depth] + values[depth + 1], 0.0))
    error = passed[-1] @ values[-2] + values[-1] - wanted
    error[np.isnan(error)] = 0.0
    error *= np.float32(2.0 / error.size)
    found: list[np.ndarray] = []
    for depth in range(len(values) - 2, -1, -2):
        entered = passed[depth // 2]
        found += [error.sum(axis=0), entered.T @ error]
        if depth:
            error = (error @ values[depth].T) * (entered > 0)
    return found[::-1]


def arrays_of(regressor: Regressor) -> dict[str, np.ndarray]:
    """An ensemble as named arrays, for a file."""
    found: dict[str, np.ndarray] = {
        "sizes": np.array(regressor.sizes, dtype=np.int64),
        "ordered": np.array(regressor.ordered, dtype=np.uint8),
    }
    for number, member in enumerate(regressor.layers):
        for depth, (weight, bias) in enumerate(member):
            found[f"weight_{number}_{depth}"] = weight
            found[f"bias_{number}_{depth}"] = bias
    return found


def from_arrays(arrays: Mapping[str, np.ndarray], members: int, depth: int) -> Regressor:
    """Inverse of :func:`arrays_of`.

    Raises:
        KeyError: An array is missing.
        ValueError: Arrays do not fit each other.
    """
    sizes = tuple(int(size) for size in arrays["sizes"])
    ordered = tuple(bool(flag) for flag in arrays["ordered"])
    if len(sizes) != len(ordered) or not sizes or min(sizes) < 1 or max(sizes) > 1 << 24:
        raise ValueError("sizes of the parameters")
    width = sum(min(n, KNOTS) if o else n for n, o in zip(sizes, ordered, strict=True))
    layers = []
    for number in range(members):
        member, before = [], width
        for level in range(depth):
            weight, bias = arrays[f"weight_{number}_{level}"], arrays[f"bias_{number}_{level}"]
            fits = weight.ndim == 2 and weight.shape[0] == before and bias.shape == weight.shape[1:]
            if not fits or weight.dtype != np.float32 or bias.dtype != np.float32:
                raise ValueError(f"layer {level} of member {number}")
            if not (np.isfinite(weight).all() and np.isfinite(bias).all()):
                raise ValueError(f"layer {level} of member {number} is not finite")
            member.append((weight, bias))
            before = weight.shape[1]
        layers.append(tuple(member))
    if len({member[-1][1].size for member in layers}) != 1:
        raise ValueError("members of different outputs")
    return Regressor(sizes, ordered, tuple(layers))
