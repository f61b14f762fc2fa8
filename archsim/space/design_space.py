"""The design space: named parameters under constraints, and one bijection between its encodings.

A design is written as an index vector (int64[P], one position per parameter), as a mixed-radix flat
index (a Python int, first parameter most significant, so flat order is lexicographic order), as a
dict of values, as a point of the unit cube, as a key, or as a Gymnasium action. Every encoding
reaches every legal design; everything works on one design (``[P]``) or a batch (``[B, P]``).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from archsim.errors import InputError
from archsim.space import actions
from archsim.space.encodings import Encodings, IntArray
from archsim.space.expressions import Constraint
from archsim.space.legality import BoolArray, nearest_allowed, split_groups
from archsim.space.parameter import ROLES, Parameter

if TYPE_CHECKING:
    import gymnasium

_BLOCK = 2**14


class DesignSpace(Encodings):
    """Named finite parameters and the constraints over them.

    Args:
        parameters: At least one, names unique.
        constraints: Expressions over parameter names (unscaled values), see
            :class:`archsim.space.expressions.Constraint`.

    Attributes:
        parameters: The parameters in order.
        names: Their names.
        cardinalities: int64[P], number of values of each.
        constraints: The parsed constraints.
        size: Number of legal designs if ``size_is_exact``, else an upper bound. A Python int.
        size_is_exact: False only if a constraint couples more combinations than can be enumerated.
        points: Number of index vectors, legal or not.

    Raises:
        InputError: No parameter, a repeated name, a bad constraint, or no legal design.

    Example:
        >>> space = DesignSpace(
        ...     [Parameter("rows", (4, 8, 16)), Parameter("cols", (4, 8, 16))],
        ...     ["rows * cols <= 64"],
        ... )
        >>> space.size
        6
        >>> space.decode([0, 2])
        {'rows': 4, 'cols': 16}
        >>> space.mask([1])  # cols, after rows = 8
        array([ True,  True, False])
    """

    def __init__(self, parameters: Sequence[Parameter], constraints: Sequence[str] = ()) -> None:
        super().__init__(parameters)
        kinds = {parameter.name: parameter.kind for parameter in self.parameters}
        self.constraints = tuple(Constraint.parse(text, kinds) for text in constraints)
        self._groups = split_groups(self.parameters, self.constraints)
        self._columns = [np.array(group.members, dtype=np.int64) for group in self._groups]
        self._place: dict[int, tuple[Any, int]] = {
            member: (group, at) for group in self._groups for at, member in enumerate(group.members)
        }
        self.size_is_exact = all(group.count is not None for group in self._groups)
        self.size = self.points
        for group in self._groups:
            if group.count is not None:
                self.size = self.size // group.combinations * group.count
        self._free = np.array(
            [i for i in range(len(self.names)) if i not in self._place], dtype=int
        )

    def __repr__(self) -> str:
        bound = "" if self.size_is_exact else "at most "
        return f"DesignSpace({len(self.names)} parameters, {bound}{self.size} designs)"

    # --- legality --------------------------------------------------------------------------------

    def is_legal(self, indices: Any) -> Any:
        """Whether the constraints hold: bool for ``[P]``, bool[B] for ``[B, P]``."""
        indices = self.check_indices(indices)
        legal = self._legal(np.atleast_2d(indices))
        return legal if indices.ndim == 2 else bool(legal[0])

    def _legal(self, batch: IntArray) -> BoolArray:
        legal = np.ones(len(batch), dtype=bool)
        for group, columns in zip(self._groups, self._columns, strict=True):
            legal &= group.check(batch[:, columns])
        return legal

    def repair(self, indices: Any) -> IntArray:
        """The legal design each point is moved to; legal designs stay where they are.

        Parameters are decided in order, each taking the nearest value that can still be completed,
        so the result depends on the point alone.
        """
        indices = self.check_indices(indices)
        batch = np.atleast_2d(indices)
        fixed = batch
        for group, columns in zip(self._groups, self._columns, strict=True):
            part = batch[:, columns]
            legal = group.check(part)
            if not legal.all():
                wrong = np.flatnonzero(~legal)
                fixed = fixed.copy() if fixed is batch else fixed
                fixed[wrong[:, None], columns] = group.repair(part[wrong])
        return fixed if indices.ndim == 2 else fixed[0]

    def mask(self, partial: Any) -> BoolArray:
        """Values of the next parameter that a decided prefix still allows.

        Args:
            partial: int[j] or int[B, j] with ``j < P``: indices of the first ``j`` parameters.

        Returns:
            bool[n] or bool[B, n] with ``n`` the number of values of parameter ``j``. Where
            constraints can be enumerated, exactly the values that have a legal completion; in
            larger groups (``size_is_exact`` false) no such value is hidden, but a dead end may be
            kept, which :meth:`repair` resolves in the end.
        """
        prefix = np.asarray(partial)
        prefix = prefix.astype(np.int64) if prefix.size == 0 else prefix
        depth = prefix.shape[-1] if prefix.ndim in (1, 2) else len(self.names)
        if depth >= len(self.names) or prefix.dtype.kind not in "iu":
            raise InputError("a prefix has fewer integers than parameters", found=prefix.shape)
        if ((prefix < 0) | (prefix >= self.cardinalities[:depth])).any():
            raise InputError("index out of range in the prefix", found=prefix.tolist())
        batch = np.atleast_2d(prefix)
        group, at = self._place.get(depth, (None, 0))
        if group is None:
            found = np.ones((len(batch), int(self.cardinalities[depth])), dtype=bool)
        else:
            found = group.mask(batch[:, list(group.members[:at])])
        return found if prefix.ndim == 2 else found[0].copy()

    def mask_given(self, name: str, decided: Mapping[str, int]) -> BoolArray:
        """Values of any parameter that any other decided ones (name -> index) still allow.

        Unlike :meth:`mask` the order is free: what agents that own different parameters need.
        """
        position = {known: at for at, known in enumerate(self.names)}
        for known in (name, *decided):
            if known not in position:
                raise InputError("unknown parameter", found=known)
        member = position[name]
        group, at = self._place.get(member, (None, 0))
        if group is None:
            return np.ones(int(self.cardinalities[member]), dtype=bool)
        inside = {
            slot: int(decided[self.names[index]])
            for slot, index in enumerate(group.members)
            if self.names[index] in decided and index != member
        }
        return group.mask_member(at, inside)

    def nearest_legal(self, prefix: Any, wanted: Any) -> IntArray:
        """Index of the next parameter nearest to ``wanted`` that the prefix allows, per row.

        Args:
            prefix: int64[B, j] decided indices.
            wanted: int64[B].
        """
        allowed = self.mask(prefix)
        # a prefix no mask left open (searched groups) keeps the wish; repair settles it
        allowed |= ~allowed.any(axis=1, keepdims=True)
        return nearest_allowed(allowed, np.asarray(wanted, dtype=np.int64))

    # --- sampling, order, neighbourhood ----------------------------------------------------------

    def sample(self, rng: np.random.Generator, n: int | None = None) -> IntArray:
        """Legal designs, uniform where legality is enumerable: int64[P], or int64[n, P]."""
        size = 1 if n is None else n
        found = np.empty((size, len(self.names)), dtype=np.int64)
        if len(self._free):
            found[:, self._free] = rng.integers(
                self.cardinalities[self._free], size=(size, len(self._free))
            )
        for group in self._groups:
            found[:, group.members] = group.sample(rng, size)
        return found[0] if n is None else found

    def batches(self, limit: int = _BLOCK) -> Iterator[IntArray]:
        """Every legal design once, in flat order: int64[b, P], ``b = limit`` but for the last."""
        waiting = np.empty((0, len(self.names)), dtype=np.int64)
        for block in self._blocks():
            waiting = np.concatenate([waiting, block]) if len(waiting) else block
            while len(waiting) >= limit:
                yield waiting[:limit].copy()
                waiting = waiting[limit:]
        if len(waiting):
            yield waiting.copy()

    def _blocks(self) -> Iterator[IntArray]:
        """Legal designs in flat order: all tails of one completable prefix after another."""
        split = len(self.names) - 1
        block = int(self.cardinalities[split])
        while split and block * int(self.cardinalities[split - 1]) <= _BLOCK:
            split -= 1
            block *= int(self.cardinalities[split])
        shape = tuple(self.cardinalities[split:].tolist())
        tail = np.stack(np.unravel_index(np.arange(block), shape), axis=1).astype(np.int64)
        for prefix in self._prefixes(np.empty(0, dtype=np.int64), split):
            head = np.broadcast_to(prefix, (block, split))
            found = np.concatenate([head, tail], axis=1)
            yield found[self._legal(found)]

    def _prefixes(self, prefix: IntArray, depth: int) -> Iterator[IntArray]:
        if len(prefix) == depth:
            yield prefix
            return
        for index in np.flatnonzero(self.mask(prefix)):
            yield from self._prefixes(np.append(prefix, index), depth)

    def __iter__(self) -> Iterator[IntArray]:
        """Every legal design once, in flat order."""
        for batch in self.batches():
            yield from batch

    def neighbours(self, indices: Any) -> IntArray:
        """Legal designs that differ in one parameter: by one step if ordered, else by any value.

        Returns:
            int64[K, P]; K may be 0.
        """
        centre = self.check_indices(indices)
        moves = []
        for at, parameter in enumerate(self.parameters):
            here = int(centre[at])
            options = (here - 1, here + 1) if parameter.ordered else range(parameter.cardinality)
            for index in options:
                if index != here and 0 <= index < parameter.cardinality:
                    moves.append(centre.copy())
                    moves[-1][at] = index
        if not moves:
            return np.empty((0, len(self.names)), dtype=np.int64)
        found = np.array(moves)
        return found[self._legal(found)]

    def roles(self) -> dict[str, list[str]]:
        """Parameter names by role, in the order of :data:`archsim.space.ROLES`; no empty roles."""
        found = {role: [p.name for p in self.parameters if p.role == role] for role in ROLES}
        return {role: names for role, names in found.items() if names}

    # --- actions ---------------------------------------------------------------------------------

    def action_space(self, encoding: str = "multidiscrete") -> gymnasium.Space:
        """Gymnasium space of whole designs: ``multidiscrete``, ``discrete``, ``box`` or ``dict``.

        Raises:
            InputError: Unknown encoding, or ``discrete`` with 2**63 points or more.
        """
        return actions.action_space(self, encoding)

    def to_action(self, indices: Any, encoding: str = "multidiscrete") -> Any:
        """The action (or batch of actions) that stands for a design."""
        return actions.to_action(self, indices, encoding)

    def from_action(self, action: Any, encoding: str = "multidiscrete") -> IntArray:
        """The point an action stands for, before :meth:`repair`; batched as given.

        Raises:
            InputError: Not an action of that space (box actions are clipped instead).
        """
        return actions.from_action(self, action, encoding)
