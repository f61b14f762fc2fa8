"""Dataflow templates: which dimensions a fanout unrolls, and what stays in the processing element.

A template fixes the spatial unrolling, the dimensions a processing element may iterate over, and
the operand that stays put while the innermost shared level iterates. Tile sizes, and the loop
order of the levels further out, are left to the mapper.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from archsim.models.loopnest.kernel import INPUT, NONE, OUTPUT, WEIGHT
from archsim.workload.graph import CANONICAL_DIMS


@dataclass(frozen=True)
class Dataflow:
    """One template.

    Attributes:
        name: As in machine files.
        stationary: ``input``, ``weight`` or ``output``: what the innermost storages hold while
            the level outside them iterates.
        unroll: Alternatives, the first that uses most units wins; each gives for axis x and axis
            y the dimensions to unroll, in order of preference (a later one folds into what an
            earlier, smaller one leaves free).
        element_dims: Dimensions the innermost storages may tile beyond one word.
        source: Where it is described.
    """

    name: str
    stationary: str
    unroll: tuple[tuple[str, str], ...]
    element_dims: str
    source: str


TEMPLATES: tuple[Dataflow, ...] = (
    Dataflow(
        "weight_stationary",
        "weight",
        (("MG", "CRS"), ("MG", "RSC"), ("GM", "RSC")),
        "MCRS",
        "Jouppi et al., ISCA 2017 (columns: output channels; rows: the reduction)",
    ),
    Dataflow(
        "output_stationary",
        "output",
        (("MG", "PQN"), ("QN", "PM"), ("MG", "QPN"), ("GM", "QPN")),
        "CRSMPQ",
        "Samajdar et al., SCALE-Sim, 2018 (each unit accumulates one output)",
    ),
    Dataflow(
        "input_stationary",
        "input",
        (("PQN", "CRS"), ("QPN", "CRS"), ("PQN", "GC")),
        "CPQ",
        "Samajdar et al., SCALE-Sim, 2018 (each unit holds one input)",
    ),
    Dataflow(
        "row_stationary",
        "weight",
        (("PNQ", "RMC"), ("PNQ", "RCM"), ("MPN", "CRG"), ("PQN", "RGM")),
        "SCM",
        "Chen et al., JSSC 2017 (rows of filters and inputs meet diagonally)",
    ),
    Dataflow(
        "nvdla",
        "weight",
        (("M", "C"), ("MG", "CRS"), ("GM", "CRS")),
        "",
        "NVDLA hardware manual (atomic K by atomic C)",
    ),
    Dataflow(
        "shidiannao",
        "output",
        (("Q", "P"), ("QN", "PM"), ("MQ", "PN"), ("GQ", "PM")),
        "CRS",
        "Du et al., ISCA 2015 (a patch of one output map)",
    ),
)

_OPERAND = {"input": INPUT, "weight": WEIGHT, "output": OUTPUT}
#: Loop orders, outer to inner, that leave input, weight or output in place the longest.
ORDERS = ("GNCPQRSM", "GMCRSNPQ", "GNMPQCRS")


@dataclass(frozen=True)
class TemplateTable:
    """The templates as the compiled mapper reads them, for one list of dimensions.

    Attributes:
        unroll: int64[T, A, 2, D] dimension indices in order of preference, -1 past the end.
        alternatives: int64[T] how many alternatives a template has.
        element: bool[T, D] dimensions the innermost storages may tile.
        stationary: int64[T] operand.
        order: int64[3, D] loop order that keeps operand 0, 1, 2 in place.
    """

    unroll: np.ndarray
    alternatives: np.ndarray
    element: np.ndarray
    stationary: np.ndarray
    order: np.ndarray


def template_table(dims: Sequence[str]) -> TemplateTable:
    """Templates in the indices of ``dims``; dimensions without a canonical name stay temporal."""
    index = {name: i for i, name in enumerate(dims)}
    others = [i for name, i in index.items() if name not in CANONICAL_DIMS]
    most = max(len(template.unroll) for template in TEMPLATES)
    unroll = np.full((len(TEMPLATES), most, 2, len(dims)), NONE, np.int64)
    for t, template in enumerate(TEMPLATES):
        for a, axes in enumerate(template.unroll):
            for axis, names in enumerate(axes):
                found = [index[name] for name in names if name in index]
                unroll[t, a, axis, : len(found)] = found
    order = [others + [index[name] for name in names if name in index] for names in ORDERS]
    return TemplateTable(
        unroll,
        np.array([len(template.unroll) for template in TEMPLATES]),
        np.array([[name in template.element_dims for name in dims] for template in TEMPLATES]),
        np.array([_OPERAND[template.stationary] for template in TEMPLATES]),
        np.array(order, np.int64),
    )
