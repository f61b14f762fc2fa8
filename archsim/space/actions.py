"""Designs as Gymnasium actions. Every encoding covers every index vector.

| encoding | space | an action is |
|---|---|---|
| ``multidiscrete`` | ``MultiDiscrete(cardinalities)`` | the index vector |
| ``discrete`` | ``Discrete(points)`` | the mixed-radix flat index |
| ``box`` | ``Box(-1, 1, (P,), float32)`` | the unit cube, stretched to be symmetric |
| ``dict`` | ``Dict(name: Discrete(n))`` | the index by name |
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from archsim.errors import InputError
from archsim.space.encodings import Encodings

if TYPE_CHECKING:
    import gymnasium


ENCODINGS: tuple[str, ...] = ("multidiscrete", "discrete", "box", "dict")


def _unknown(encoding: object) -> InputError:
    return InputError(
        "unknown encoding", field="encoding", found=encoding, expected=", ".join(ENCODINGS)
    )


def action_space(space: Encodings, encoding: str) -> gymnasium.Space:
    """See :meth:`archsim.space.DesignSpace.action_space`."""
    from gymnasium import spaces

    match encoding:
        case "multidiscrete":
            return spaces.MultiDiscrete(space.cardinalities)
        case "discrete":
            if space.points >= 2**63:
                raise InputError(
                    "too many points for one discrete action; use multidiscrete or box",
                    field="encoding",
                    found=space.points,
                    expected="fewer than 2**63",
                )
            return spaces.Discrete(space.points)
        case "box":
            return spaces.Box(-1.0, 1.0, (len(space.names),), np.float32)
        case "dict":
            return spaces.Dict({p.name: spaces.Discrete(p.cardinality) for p in space.parameters})
    raise _unknown(encoding)


def to_action(space: Encodings, indices: Any, encoding: str) -> Any:
    """See :meth:`archsim.space.DesignSpace.to_action`."""
    indices = space.check_indices(indices)
    match encoding:
        case "multidiscrete":
            return indices.copy()
        case "discrete":
            flat = space.to_flat(indices)
            return np.int64(flat) if indices.ndim == 1 else flat
        case "box":
            return (space.to_unit(indices) * 2.0 - 1.0).astype(np.float32)
        case "dict":
            return {name: indices[..., at] for at, name in enumerate(space.names)}
    raise _unknown(encoding)


def from_action(space: Encodings, action: Any, encoding: str) -> np.ndarray:
    """See :meth:`archsim.space.DesignSpace.from_action`."""
    match encoding:
        case "multidiscrete":
            return space.check_indices(action)
        case "discrete":
            return space.from_flat(action)
        case "box":
            return space.from_unit((np.asarray(action, dtype=np.float64) + 1.0) / 2.0)
        case "dict":
            if not isinstance(action, dict) or set(action) != set(space.names):
                raise InputError("a dict action has one entry per parameter", found=action)
            return space.check_indices(np.stack([action[n] for n in space.names], axis=-1))
    raise _unknown(encoding)


def encoding_of(action_space: gymnasium.Space) -> str:
    """The encoding a Gymnasium action space stands for, by its type.

    Raises:
        InputError: It is of another type.
    """
    name = type(action_space).__name__.lower()
    if name not in ENCODINGS:
        raise _unknown(type(action_space).__name__)
    return name
