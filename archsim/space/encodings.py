"""Index vectors and what stands for them: values, flat indices, the unit cube, keys.

Constraints are not looked at here: every index vector is a point, legal or not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from archsim.errors import InputError
from archsim.space.parameter import Parameter

IntArray = np.ndarray


class Encodings:
    """The points that parameters span, and one bijection between their encodings.

    Args:
        parameters: At least one, names unique.

    Attributes:
        parameters: The parameters in order.
        names: Their names.
        cardinalities: int64[P], number of values of each.
        points: Number of index vectors.

    Raises:
        InputError: No parameter, or a repeated name.
    """

    def __init__(self, parameters: Sequence[Parameter]) -> None:
        self.parameters = tuple(parameters)
        self.names = tuple(parameter.name for parameter in self.parameters)
        if not self.parameters:
            raise InputError("a design space needs at least one parameter", field="parameters")
        for name in self.names:
            if self.names.count(name) > 1:
                raise InputError("parameter named twice", field="parameters", found=name)
        self.cardinalities = np.array([p.cardinality for p in self.parameters], dtype=np.int64)
        self.cardinalities.setflags(write=False)
        self._strides = self._mixed_radix()
        self.points = self._strides[0] * int(self.cardinalities[0])
        highest = int(self.cardinalities.max()) - 1
        self._key_dtype = np.dtype("u1" if highest < 2**8 else ">u2" if highest < 2**16 else ">u4")

    def _mixed_radix(self) -> tuple[int, ...]:
        strides = [1]
        for cardinality in self.cardinalities[:0:-1].tolist():
            strides.append(strides[-1] * cardinality)
        return tuple(strides[::-1])

    # --- values -----------------------------------------------------------------------------

    def decode(self, indices: Any) -> dict[str, Any]:
        """Values by name: plain Python values for ``[P]``, arrays ``[B]`` for ``[B, P]``."""
        indices = self.check_indices(indices)
        if indices.ndim == 1:
            return {
                parameter.name: parameter.values[index]
                for parameter, index in zip(self.parameters, indices.tolist(), strict=True)
            }
        return {p.name: p.table[indices[:, at]] for at, p in enumerate(self.parameters)}

    def encode(self, values: Mapping[str, Any]) -> IntArray:
        """Inverse of :meth:`decode`, for one design or (arrays, lists) a batch.

        Raises:
            InputError: A parameter is missing or unknown, or has no such value.
        """
        for name in values:
            if name not in self.names:
                raise InputError(
                    "unknown parameter", found=name, expected=f"one of {', '.join(self.names)}"
                )
        columns = []
        for parameter in self.parameters:
            if parameter.name not in values:
                raise InputError("parameter missing", field=parameter.name)
            value = values[parameter.name]
            if isinstance(value, (list, tuple, np.ndarray)) and np.ndim(value) == 1:
                columns.append(np.array([parameter.index_of(v) for v in value], dtype=np.int64))
            else:
                columns.append(np.int64(parameter.index_of(value)))  # type: ignore[arg-type]
        if len({np.shape(column) for column in columns}) != 1:
            raise InputError("all parameters need the same number of values")
        return np.stack(columns, axis=-1)

    def machine_values(self, indices: Any) -> dict[str, Any]:
        """What each machine path gets, scaled: scalars for ``[P]``, arrays for ``[B, P]``."""
        indices = self.check_indices(indices)
        single = indices.ndim == 1
        return {
            path: parameter.machine_value(int(indices[at]))
            if single
            else parameter.machine_table[indices[:, at]]
            for at, parameter in enumerate(self.parameters)
            for path in parameter.paths
        }

    def check_indices(self, indices: Any) -> IntArray:
        """As int64[P] or int64[B, P].

        Raises:
            InputError: Wrong shape or type, or an index out of range.
        """
        array = np.asarray(indices)
        if array.dtype != np.int64:
            if array.size and array.dtype.kind not in "iu":
                raise InputError("an index vector holds integers", found=str(array.dtype))
            array = array.astype(np.int64)
        if array.ndim not in (1, 2) or array.shape[-1] != len(self.names):
            raise InputError(
                "an index vector has one entry per parameter",
                found=array.shape,
                expected=f"({len(self.names)},) or (B, {len(self.names)})",
            )
        outside = (array < 0) | (array >= self.cardinalities)
        if outside.any():
            at = tuple(int(axis[0]) for axis in np.nonzero(outside))
            raise InputError(
                "index out of range",
                field=self.names[at[-1]],
                found=int(array[at]),
                expected=f"0 to {int(self.cardinalities[at[-1]]) - 1}",
            )
        return array

    # --- flat index, unit cube, key ------------------------------------------------------------

    def to_flat(self, indices: Any) -> Any:
        """Mixed-radix index: a Python int for ``[P]``; for ``[B, P]`` int64[B], or an object array
        of Python ints if the space has 2**63 points or more."""
        indices = self.check_indices(indices)
        if indices.ndim == 1:
            return sum(i * s for i, s in zip(indices.tolist(), self._strides, strict=True))
        if self.points < 2**63:
            return indices @ np.array(self._strides, dtype=np.int64)
        return indices.astype(object) @ np.array(self._strides, dtype=object)

    def from_flat(self, flat: Any) -> IntArray:
        """Inverse of :meth:`to_flat`.

        Raises:
            InputError: Outside ``0 <= flat < points``.
        """
        array = np.asarray(flat)
        if array.dtype.kind not in "iuO" or any(
            not isinstance(item, (int, np.integer)) for item in np.ravel(array)[:1].tolist()
        ):
            raise InputError("a flat index is an integer", found=flat)
        if array.size and (array.min() < 0 or array.max() >= self.points):
            raise InputError(
                "flat index out of range", found=flat, expected=f"0 to {self.points - 1}"
            )
        rest = array.astype(np.int64 if self.points < 2**63 else object)
        columns = []
        for stride in self._strides:
            columns.append(rest // stride)
            rest = rest - columns[-1] * stride
        return np.stack(columns, axis=-1).astype(np.int64)

    def to_unit(self, indices: Any) -> np.ndarray:
        """Centres of the cells, float64 in (0, 1), same shape as the indices."""
        return (self.check_indices(indices) + 0.5) / self.cardinalities

    def from_unit(self, unit: Any) -> IntArray:
        """The cell each coordinate lies in; 1.0 and beyond, and below 0, go to the border cells.

        Raises:
            InputError: Wrong shape, or NaN.
        """
        array = np.asarray(unit, dtype=np.float64)
        if array.ndim not in (1, 2) or array.shape[-1] != len(self.names):
            raise InputError(
                "a unit-cube point has one entry per parameter",
                found=array.shape,
                expected=f"({len(self.names)},) or (B, {len(self.names)})",
            )
        if np.isnan(array).any():
            raise InputError("a unit-cube point must not hold NaN")
        cells = np.floor(np.clip(array, 0.0, 1.0) * self.cardinalities).astype(np.int64)
        return np.minimum(cells, self.cardinalities - 1)

    def key(self, indices: Any) -> str:
        """Stable key of one design: hexadecimal of its indices, equal width for all designs."""
        return self.keys(np.asarray(indices)[None, :])[0]

    def keys(self, indices: Any) -> list[str]:
        """Keys of a batch."""
        raw = self.check_indices(indices).astype(self._key_dtype)
        text = raw.tobytes().hex()
        width = 2 * raw.dtype.itemsize * raw.shape[1]
        return [text[at : at + width] for at in range(0, len(text), width)]

    def from_key(self, key: str) -> IntArray:
        """Inverse of :meth:`key`.

        Raises:
            InputError: Not a key of this space.
        """
        try:
            raw = np.frombuffer(bytes.fromhex(key), dtype=self._key_dtype)
            return self.check_indices(raw.astype(np.int64))
        except (ValueError, TypeError, InputError):
            raise InputError("not a key of this space", found=key) from None
