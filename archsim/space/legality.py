"""Which index vectors meet the constraints: exact tables where they fit, pruned search elsewhere.

Constraints couple parameters into groups (connected components). A group whose combinations can be
enumerated is a table: legality, uniform sampling, masks and counts are exact look-ups. A larger
group is searched: constraints are bounded over boxes, so a mask never hides a legal design but may
keep a value that leads nowhere; sampling and repair backtrack out of those.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from archsim.errors import InputError
from archsim.space.encodings import IntArray
from archsim.space.expressions import Box, Constraint
from archsim.space.parameter import Parameter

#: Combinations up to which a group is enumerated (one byte each, and a pass of the constraints).
ENUMERABLE = 2**22
_CHUNK = 2**18
_SEARCH_NODES = 20_000
_REJECTION_ROUNDS = 16

BoolArray = np.ndarray


class Group(Protocol):
    """Parameters coupled by constraints; indices below are into the group, members ascending."""

    members: tuple[int, ...]
    combinations: int

    @property
    def count(self) -> int | None:
        """Legal combinations, if known."""

    def check(self, indices: IntArray) -> BoolArray:
        """Legality of int64[B, k] -> bool[B]."""

    def mask(self, prefix: IntArray) -> BoolArray:
        """Values of the next member, given int64[B, j] legal prefixes -> bool[B, n_j]."""

    def sample(self, rng: np.random.Generator, size: int) -> IntArray:
        """Legal combinations int64[size, k]."""

    def repair(self, indices: IntArray) -> IntArray:
        """The legal combination each row is moved to (itself if legal)."""


def split_groups(
    parameters: Sequence[Parameter], constraints: Sequence[Constraint]
) -> tuple[Group, ...]:
    """The groups of parameters that constraints couple, directly or through one another.

    Raises:
        InputError: No combination of a group is legal.
    """
    position = {parameter.name: index for index, parameter in enumerate(parameters)}
    merged: list[tuple[set[int], list[Constraint]]] = []
    for constraint in constraints:
        members, rules = {position[name] for name in constraint.names}, [constraint]
        apart = []
        for other, others in merged:
            if members & other:
                members, rules = members | other, [*others, *rules]
            else:
                apart.append((other, others))
        merged = [*apart, (members, rules)]
    groups: list[Group] = []
    for members, rules in sorted(merged, key=lambda group: min(group[0], default=-1)):
        ordered = tuple(sorted(members))
        inside = [parameters[index] for index in ordered]
        combinations = 1
        for parameter in inside:
            combinations *= parameter.cardinality
        kind = EnumeratedGroup if combinations <= ENUMERABLE else SearchedGroup
        groups.append(kind(ordered, inside, rules))
    return tuple(groups)


def _empty(rules: Sequence[Constraint], found: str = "no design is legal") -> InputError:
    texts = " and ".join(f"({rule.text})" for rule in rules)
    return InputError(f"{found} under {texts}", field="constraints")


def nearest_allowed(mask: BoolArray, wanted: IntArray) -> IntArray:
    """Per row, the allowed position nearest to the wanted one; ties go to the lower.

    Args:
        mask: bool[B, n], at least one true in every row.
        wanted: int64[B].
    """
    distance = np.abs(np.arange(mask.shape[1]) - wanted[:, None]) * 2
    distance += np.arange(mask.shape[1]) > wanted[:, None]
    return np.where(mask, distance, np.iinfo(np.int64).max).argmin(axis=1)


class EnumeratedGroup:
    """A group small enough to tabulate: everything is exact."""

    def __init__(
        self,
        members: tuple[int, ...],
        parameters: Sequence[Parameter],
        rules: Sequence[Constraint],
    ) -> None:
        self.members = members
        self._shape = tuple(p.cardinality for p in parameters)
        total = self.combinations = int(np.prod(self._shape, dtype=np.int64))
        # strides by length of the prefix
        self._strides = [
            np.array([int(np.prod(self._shape[at + 1 : depth])) for at in range(depth)], dtype=int)
            for depth in range(len(members) + 1)
        ]
        legal: BoolArray = np.empty(total, dtype=bool)
        for start in range(0, total, _CHUNK):
            flat = np.arange(start, min(start + _CHUNK, total))
            digits = np.unravel_index(flat, self._shape) if self._shape else ()
            values = {p.name: p.table[d] for p, d in zip(parameters, digits, strict=True)}
            holds = np.ones(len(flat), dtype=bool)
            for rule in rules:
                holds &= rule(values)
            legal[flat] = holds
        self._legal: BoolArray = legal
        self._rows = np.flatnonzero(legal)
        self.count = len(self._rows)
        if not self.count:
            raise _empty(rules)
        # level j: [prefixes of length j, values of member j] -> a legal completion exists
        self._levels: list[BoolArray] = []
        for depth, cardinality in enumerate(self._shape):
            prefixes = int(np.prod(self._shape[:depth], dtype=np.int64))
            level = legal.reshape(prefixes, cardinality, -1)
            self._levels.append(np.logical_or.reduce(level, axis=2))

    def _flat(self, indices: IntArray) -> IntArray:
        return indices @ self._strides[indices.shape[1]]

    def check(self, indices: IntArray) -> BoolArray:
        return self._legal[self._flat(indices)]

    def mask(self, prefix: IntArray) -> BoolArray:
        return self._levels[prefix.shape[1]][self._flat(prefix)]

    def mask_member(self, member: int, decided: dict[int, int]) -> BoolArray:
        """Values of any member, given any other members decided: exact."""
        legal = self._legal.reshape(self._shape)
        index = tuple(decided.get(axis, slice(None)) for axis in range(len(self._shape)))
        rest = [axis for axis in range(len(self._shape)) if axis not in decided]
        others = tuple(at for at, axis in enumerate(rest) if axis != member)
        return np.logical_or.reduce(legal[index], axis=others)

    def sample(self, rng: np.random.Generator, size: int) -> IntArray:
        rows = self._rows[rng.integers(self.count, size=size)]
        return np.stack(np.unravel_index(rows, self._shape), axis=1).astype(np.int64)

    def repair(self, indices: IntArray) -> IntArray:
        fixed = np.empty_like(indices)
        flat = np.zeros(len(indices), dtype=np.int64)
        for column, cardinality in enumerate(self._shape):
            allowed = self._levels[column][flat]
            fixed[:, column] = nearest_allowed(allowed, indices[:, column])
            flat = flat * cardinality + fixed[:, column]
        return fixed


class SearchedGroup:
    """A group too large to tabulate: rejection first, then depth-first search with pruning."""

    count: int | None = None

    def __init__(
        self,
        members: tuple[int, ...],
        parameters: Sequence[Parameter],
        rules: Sequence[Constraint],
    ) -> None:
        self.members = members
        self._parameters = tuple(parameters)
        self._rules = tuple(rules)
        self._cardinalities = np.array([p.cardinality for p in parameters], dtype=np.int64)
        self.combinations = 1
        for parameter in parameters:
            self.combinations *= parameter.cardinality
        self.repair(np.zeros((1, len(members)), dtype=np.int64))  # raises if it finds nothing legal

    def check(self, indices: IntArray) -> BoolArray:
        values = {p.name: p.table[indices[:, at]] for at, p in enumerate(self._parameters)}
        holds = np.ones(len(indices), dtype=bool)
        for rule in self._rules:
            holds &= rule(values)
        return holds

    def mask(self, prefix: IntArray) -> BoolArray:
        decided = dict(enumerate(prefix.T))
        return self._mask(prefix.shape[1], decided, len(prefix))

    def mask_member(self, member: int, decided: dict[int, int]) -> BoolArray:
        """Values of any member, given others decided: never hides a legal design."""
        columns = {axis: np.array([index]) for axis, index in decided.items()}
        return self._mask(member, columns, 1)[0]

    def _mask(self, member: int, decided: dict[int, IntArray], batch: int) -> BoolArray:
        boxes: dict[str, Box] = {}
        known: dict[str, np.ndarray] = {}
        for at, parameter in enumerate(self._parameters):
            name = parameter.name
            if at == member:
                known[name] = parameter.table[None, :]
            elif at in decided:
                known[name] = parameter.table[decided[at]][:, None]
            elif parameter.kind == "string":
                boxes[name] = None
            else:
                boxes[name] = (parameter.table.min(), parameter.table.max())
        for name, values in known.items():
            boxes[name] = values if values.dtype.kind == "U" else (values, values)
        possible = np.ones((batch, self._parameters[member].cardinality), dtype=bool)
        for rule in self._rules:
            decides = all(name in known for name in rule.names)
            possible &= rule(known) if decides else rule.possible(boxes)
        return possible

    def sample(self, rng: np.random.Generator, size: int) -> IntArray:
        found = np.empty((0, len(self.members)), dtype=np.int64)
        for _ in range(_REJECTION_ROUNDS):
            tries = rng.integers(self._cardinalities, size=(max(2 * size, 256), len(self.members)))
            found = np.concatenate([found, tries[self.check(tries)]])
            if len(found) >= size:
                return found[:size]
        rows = [self._search(rng=rng) for _ in range(size - len(found))]
        return np.concatenate([found, np.array(rows, dtype=np.int64)])

    def repair(self, indices: IntArray) -> IntArray:
        fixed = indices.copy()
        for row in np.flatnonzero(~self.check(indices)):
            fixed[row] = self._search(wanted=indices[row])
        return fixed

    def _search(
        self, wanted: IntArray | None = None, rng: np.random.Generator | None = None
    ) -> IntArray:
        """First legal combination, depth first, nearest (or randomly ordered) values first."""
        depth = len(self.members)
        prefix: list[int] = []
        pending: list[list[int]] = []
        for _ in range(_SEARCH_NODES):
            if len(prefix) == depth:
                return np.array(prefix, dtype=np.int64)
            column = len(prefix)
            allowed = np.flatnonzero(self.mask(np.array([prefix], dtype=np.int64))[0])
            if rng is not None:
                allowed = rng.permutation(allowed)
            elif wanted is not None:
                nearness = np.abs(allowed - wanted[column])
                allowed = allowed[np.argsort(nearness, kind="stable")]
            pending.append(allowed.tolist()[::-1])
            while pending and not pending[-1]:
                pending.pop()
                if prefix:
                    prefix.pop()
            if not pending:
                raise _empty(self._rules)
            prefix.append(pending[-1].pop())
        raise _empty(self._rules, f"no legal design found in {_SEARCH_NODES} steps of search")
