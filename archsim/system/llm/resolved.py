"""Designs of a machine, resolved once for all steps that are priced on them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike

from archsim.hardware import Machine, NodeTable, resolve_node
from archsim.hardware.carbon import Bill, bill
from archsim.system.llm import collectives
from archsim.system.llm.collectives import Level
from archsim.system.llm.pricing import pricer_for
from archsim.system.llm.roofline import Roofline
from archsim.workload.steps import Bits


@dataclass(frozen=True, eq=False)
class Resolved:
    """Designs of a machine: one, or one for every row of a batch.

    Attributes:
        machine: The machine as shipped.
        node: Figures of the designs.
        links: Links across groups, inner to outer.
        pricer: What prices calls on them.
        bill: What they are bought and powered as.
    """

    machine: Machine
    node: NodeTable
    links: list[Level]
    pricer: Roofline
    bill: Bill


def resolved(
    machine: Machine, bits: Bits, overrides: Mapping[str, ArrayLike] | None = None
) -> Resolved:
    """Designs of a machine, ready to be priced.

    Args:
        machine: The machine as shipped.
        bits: Bits an element.
        overrides: Values by dotted path, one or one for each row.

    Raises:
        InputError: A path or value that cannot be.
    """
    if not overrides:
        return _shipped(machine, bits)
    return _resolve(machine, bits, {path: np.atleast_1d(v) for path, v in overrides.items()})


@lru_cache(maxsize=64)
def _shipped(machine: Machine, bits: Bits) -> Resolved:
    """What of a machine stays the same from step to step; nothing changes it."""
    return _resolve(machine, bits, {})


def _resolve(machine: Machine, bits: Bits, overrides: Mapping[str, ArrayLike]) -> Resolved:
    node = resolve_node(machine, overrides)
    links = collectives.levels(machine, node)
    return Resolved(machine, node, links, pricer_for(machine, node, bits), bill(machine, node))
