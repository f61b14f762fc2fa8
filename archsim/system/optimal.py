"""``effort="optimal"``: every layer of a network mapped by the certified mapper.

The certified mapspace has no residual tiles, the templates may use them; so each layer takes the
better of the two, and is never worse than with less effort. Slow (up to seconds a layer and
design); answers for known shapes come from the mapper's cache.
"""

from __future__ import annotations

import numpy as np

from archsim.models.loopnest import kernel as k
from archsim.models.loopnest.mapper import OBJECTIVES, score
from archsim.models.loopnest.nest import Nest
from archsim.models.loopnest.optimal.api import map_space
from archsim.models.loopnest.optimal.constraints import Constraints, SlotLimits
from archsim.models.loopnest.optimal.enumeration import judge_rows
from archsim.models.loopnest.optimal.solve import Objective
from archsim.models.loopnest.optimal.space import OPERANDS, mapspace
from archsim.workload.graph import Einsum

#: Nodes visited and labels tried after which a layer takes the best found so far: the same every
#: time.
STEPS_A_LAYER = 2e6


def refine(
    einsums: list[Einsum],
    dims: tuple[str, ...],
    objective: int,
    nest: Nest,
    layers: np.ndarray,
    factors: np.ndarray,
    orders: np.ndarray,
    kept: np.ndarray,
    bypass: bool = True,
    steps: float = STEPS_A_LAYER,
    use_cache: bool = True,
) -> np.ndarray:
    """Replace template mappings by better certified ones, in place.

    Args:
        einsums: The unique loop nests, O; ``dims`` the dimensions of the arrays.
        objective: Index into ``OBJECTIVES``.
        nest: B designs.
        layers: float64[B, O, RESULTS] of the templates; ``factors``, ``orders`` [B, O, S, D].
        kept: bool[B, O, S, 3], the operands kept.
        bypass: Whether operands may be kept out of storages that could hold them.
        steps: Nodes and labels a layer may take.
        use_cache: Whether known answers, which may have taken more, are looked up.

    Returns:
        bool[B, O], whether the certified mapper finished.
    """
    limits = None if bypass else _keep_all(nest)
    wanted = Objective(OBJECTIVES[objective])
    proven = np.zeros((len(nest), len(einsums)), bool)
    for e in range(len(nest)):
        for o, einsum in enumerate(einsums):
            space = mapspace(einsum, nest, e, limits)
            result = map_space(space, wanted, 1e9, steps, use_cache)
            proven[e, o] = result.proven
            if result.best is None:
                continue
            mapping = result.best.mapping
            row = judge_rows(space, mapping.factors[None], mapping.order[None], mapping.keep[None])
            ours, theirs = (
                score(objective, found[k.ENERGY_J], found[k.CYCLES], found[k.OVERFLOW])
                for found in (row[0], layers[e, o])
            )
            if not ours < theirs:
                continue
            layers[e, o] = row[0]
            kept[e, o] = mapping.keep
            factors[e, o] = 1.0
            at = np.array([dims.index(name) for name in mapping.dims if name in dims], np.int64)
            idle = np.array([d for d in range(len(dims)) if d not in at], np.int64)
            factors[e, o][:, at] = mapping.factors[:, : len(at)]
            for s in range(len(nest.names)):
                order = at[mapping.order[s][mapping.order[s] < len(at)]]
                orders[e, o, s] = np.concatenate([idle, order])
    return proven


def _keep_all(nest: Nest) -> Constraints:
    slots = [
        SlotLimits(slot=name, keep=tuple(OPERANDS[t] for t in range(3) if nest.keep[0, s, t]))
        for s, name in enumerate(nest.names)
        if s and not nest.fanout[s]
    ]
    return Constraints(slots=tuple(slots))


__all__ = ["STEPS_A_LAYER", "refine"]
