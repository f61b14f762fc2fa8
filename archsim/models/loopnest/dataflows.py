"""Dataflow templates: which dimensions a fanout unrolls, and what stays in the processing element.

A template fixes the dimensions a processing element may iterate over, the operand that stays put
while the innermost shared level iterates, and the variants a mapper tries: unrollings with what
the storages keep and what the outer levels hold. Tile sizes are left to the mapper.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from archsim.models.lanes import LANES
from archsim.models.loopnest.kernel import NONE
from archsim.workload.graph import CANONICAL_DIMS


@dataclass(frozen=True)
class Variant:
    """One way of mapping.

    Attributes:
        x, y: The dimensions to unroll over the axes, in order of preference: a later one folds into
            what an earlier, smaller one leaves free. A small letter takes at most the square root
            of the axis.
        keeps: Where input, weight and output are stored of the storages that may hold them: ``a``
            in all, ``i`` in the innermost only, ``o`` in all but the innermost.
        outer: ``input``, ``weight`` or ``output``: what the outer levels hold.
        frugal: Use no more units than keep up with the tier's bandwidth: fewer hops.
    """

    x: str
    y: str
    keeps: str
    outer: str
    frugal: bool = False


@dataclass(frozen=True)
class Dataflow:
    """One template.

    Attributes:
        name: As in machine files.
        stationary: ``input``, ``weight`` or ``output``: what the innermost storages hold while
            the level outside them iterates.
        variants: What is tried, one a lane. Of all combinations those that together come closest to
            the best one, layer by layer (EDP; AlexNet, ResNet-50, MobileNetV2 and BERT on the
            shipped machines and random designs of the scenarios).
        plain: The same for machines whose storages must hold what they may.
        element_dims: Dimensions the innermost storages may tile beyond one word.
        source: Where it is described.
    """

    name: str
    stationary: str
    variants: tuple[Variant, ...]
    plain: tuple[Variant, ...]
    element_dims: str
    source: str


TEMPLATES: tuple[Dataflow, ...] = (
    Dataflow(
        "weight_stationary",
        "weight",
        (
            Variant("mCRSMG", "mCRSM", "iii", "input"),
            Variant("GMPQ", "RSCPQ", "iii", "input"),
            Variant("MGCRS", "mCRSM", "oaa", "weight"),
            Variant("MGCRS", "CRSM", "aia", "input", frugal=True),
            Variant("mCRSMG", "CRSM", "iio", "input"),
            Variant("mCRSMGPQ", "mCRSMPQ", "oaa", "weight", frugal=True),
            Variant("mCRSMGPQ", "mCRSMPQ", "iio", "output"),
            Variant("mCRSMG", "CRSM", "oii", "output"),
        ),
        (
            Variant("MGPQ", "CRSPQ", "aaa", "output"),
            Variant("mCRSMG", "CRSM", "aaa", "input"),
            Variant("mCRSMGPQ", "mCRSMPQ", "aaa", "output"),
            Variant("GMPQ", "RSCPQ", "aaa", "input", frugal=True),
            Variant("MGCRS", "mCRSM", "aaa", "output"),
            Variant("GM", "RSC", "aaa", "input"),
            Variant("mCRSMGPQ", "mCRSMPQ", "aaa", "input", frugal=True),
            Variant("mRSCMG", "mRSCM", "aaa", "weight"),
        ),
        "MCRS",
        "Jouppi et al., ISCA 2017 (columns: output channels; rows: the reduction)",
    ),
    Dataflow(
        "output_stationary",
        "output",
        (
            Variant("MG", "PQN", "iai", "input"),
            Variant("MG", "QPN", "oaa", "input"),
            Variant("mPQNMG", "PQNM", "ioi", "output"),
            Variant("MG", "PQN", "aai", "weight", frugal=True),
            Variant("MG", "PQN", "aoa", "weight", frugal=True),
            Variant("mPQNMG", "mPQNM", "aia", "input", frugal=True),
            Variant("MG", "PQN", "aao", "input", frugal=True),
            Variant("QN", "PM", "aao", "output", frugal=True),
        ),
        (
            Variant("mPQNMG", "mPQNM", "aaa", "input", frugal=True),
            Variant("MG", "PQN", "aaa", "input"),
            Variant("MG", "QPN", "aaa", "weight", frugal=True),
            Variant("mPQNMG", "PQNM", "aaa", "input"),
            Variant("QN", "PM", "aaa", "input", frugal=True),
            Variant("mPQNMG", "mPQNM", "aaa", "weight"),
            Variant("MG", "PQN", "aaa", "output", frugal=True),
            Variant("mPQNMG", "PQNM", "aaa", "weight", frugal=True),
        ),
        "CRSMPQ",
        "Samajdar et al., SCALE-Sim, 2018 (each unit accumulates one output)",
    ),
    Dataflow(
        "input_stationary",
        "input",
        (
            Variant("pCRSPQN", "pCRSPQ", "aao", "output", frugal=True),
            Variant("PQN", "CRS", "iaa", "input", frugal=True),
            Variant("QPN", "CRS", "oaa", "input", frugal=True),
            Variant("pCRSPQN", "pCRSPQ", "iai", "input", frugal=True),
            Variant("PQN", "pCRSP", "ioi", "input", frugal=True),
            Variant("PQN", "GC", "aai", "output", frugal=True),
            Variant("pCRSPQN", "pCRSPQ", "aia", "weight"),
            Variant("PQN", "pCRSP", "iao", "output"),
        ),
        (
            Variant("pCRSPQN", "pCRSPQ", "aaa", "output", frugal=True),
            Variant("QPN", "CRS", "aaa", "input", frugal=True),
            Variant("PQN", "pCRSP", "aaa", "output"),
            Variant("PQN", "GC", "aaa", "weight", frugal=True),
            Variant("PQN", "pCRSP", "aaa", "input", frugal=True),
            Variant("QPN", "CRS", "aaa", "output"),
            Variant("pCRSPQN", "pCRSPQ", "aaa", "weight"),
            Variant("pCRSPQN", "pCRSPQ", "aaa", "input"),
        ),
        "CPQ",
        "Samajdar et al., SCALE-Sim, 2018 (each unit holds one input)",
    ),
    Dataflow(
        "row_stationary",
        "weight",
        (
            Variant("MPN", "CRG", "aaa", "input"),
            Variant("CPN", "RCM", "iao", "output"),
            Variant("MPN", "CRG", "iai", "output"),
            Variant("MPN", "MCG", "oaa", "input", frugal=True),
            Variant("PNQ", "RMC", "oai", "output"),
            Variant("CPN", "RCM", "aao", "output"),
            Variant("PQN", "RGM", "aaa", "output", frugal=True),
            Variant("mCPNM", "CRG", "iao", "output"),
        ),
        (
            Variant("MPN", "CRG", "aaa", "input", frugal=True),
            Variant("PNQ", "RMC", "aaa", "output"),
            Variant("CPN", "RCM", "aaa", "input"),
            Variant("MGPN", "RC", "aaa", "weight", frugal=True),
            Variant("mCPNM", "CRG", "aaa", "input"),
            Variant("MPN", "MCG", "aaa", "output"),
            Variant("PNQ", "CRM", "aaa", "input", frugal=True),
            Variant("MPN", "CRG", "aaa", "output"),
        ),
        "SCM",
        "Chen et al., JSSC 2017 (rows of filters and inputs meet diagonally)",
    ),
    Dataflow(
        "nvdla",
        "weight",
        (
            Variant("MGCRS", "CRSM", "iai", "weight"),
            Variant("mCRSMG", "mCRSM", "iai", "weight"),
            Variant("mCMG", "CRS", "oai", "input", frugal=True),
            Variant("mCMG", "CRS", "aao", "weight"),
            Variant("mCRSMG", "mCRSM", "oio", "output"),
            Variant("MG", "CRS", "aia", "input"),
            Variant("mCRSMG", "CRSM", "iao", "input"),
            Variant("GMRSC", "RSCM", "aai", "output", frugal=True),
        ),
        (
            Variant("MGCRS", "CRSM", "aaa", "input", frugal=True),
            Variant("mCRSMG", "mCRSM", "aaa", "weight"),
            Variant("GMRSC", "RSCM", "aaa", "weight"),
            Variant("mCRSMG", "CRSM", "aaa", "input"),
            Variant("mCRSMG", "mCRSM", "aaa", "output"),
            Variant("MG", "CRS", "aaa", "output"),
            Variant("mCRSMG", "CRSM", "aaa", "output"),
            Variant("GM", "CRS", "aaa", "weight", frugal=True),
        ),
        "",
        "NVDLA hardware manual (atomic K by atomic C)",
    ),
    Dataflow(
        "shidiannao",
        "output",
        (
            Variant("mQNM", "PM", "aai", "output", frugal=True),
            Variant("MQ", "mPM", "oaa", "weight", frugal=True),
            Variant("GMQ", "PM", "aai", "weight"),
            Variant("mQNM", "PM", "ooi", "output", frugal=True),
            Variant("GMQ", "PM", "iai", "output", frugal=True),
            Variant("MQ", "PM", "ioi", "output"),
            Variant("MQ", "PM", "aao", "output", frugal=True),
            Variant("QPN", "GPM", "ooi", "weight"),
        ),
        (
            Variant("QPN", "GPM", "aaa", "weight", frugal=True),
            Variant("MQ", "mPM", "aaa", "weight", frugal=True),
            Variant("QPN", "GPM", "aaa", "input"),
            Variant("mQNM", "PM", "aaa", "input"),
            Variant("GMQ", "PM", "aaa", "weight"),
            Variant("Q", "P", "aaa", "input", frugal=True),
            Variant("MQ", "mPM", "aaa", "output", frugal=True),
            Variant("MQ", "PN", "aaa", "weight", frugal=True),
        ),
        "CRS",
        "Du et al., ISCA 2015 (a patch of one output map)",
    ),
)

#: Variants that are tried on simple machines.
FEW = 5
_OPERANDS = ("input", "weight", "output")
#: Loop orders, outer to inner, that leave input, weight or output in place the longest.
ORDERS = ("GNCPQRSM", "GMCRSNPQ", "GNMPQCRS")


@dataclass(frozen=True)
class TemplateTable:
    """The templates as the compiled mapper reads them, for one list of dimensions.

    Attributes:
        unroll: int64[T, A, 2, L] dimension indices in order of preference, plus D where at most the
            root of the axis; -1 past the end.
        rows: int64[2, T, LANES, 5], variants of machines that may and may not bypass: row of
            ``unroll``, 1 if frugal, index into ``keeps``, operand the outer levels hold, and the
            first variant that unrolls likewise.
        keeps: The choices of storages, see :class:`Variant`; the first keeps all.
        element: bool[T, D] dimensions the innermost storages may tile.
        stationary: int64[T] operand.
        order: int64[3, D] loop order that keeps operand 0, 1, 2 in place.
    """

    unroll: np.ndarray
    rows: np.ndarray
    keeps: tuple[str, ...]
    element: np.ndarray
    stationary: np.ndarray
    order: np.ndarray


def template_table(dims: Sequence[str]) -> TemplateTable:
    """Templates in the indices of ``dims``; dimensions without a canonical name stay temporal."""
    index = {name: i for i, name in enumerate(dims)}
    others = [i for name, i in index.items() if name not in CANONICAL_DIMS]
    both = [(template.variants, template.plain) for template in TEMPLATES]
    every = [v for pair in both for variants in pair for v in variants]
    keeps = ("aaa", *sorted({v.keeps for v in every} - {"aaa"}))
    axes = [list(dict.fromkeys((v.x, v.y) for row in pair for v in row)) for pair in both]
    most = max(map(len, axes))
    longest = max(len(names) for pairs in axes for pair in pairs for names in pair)
    unroll = np.full((len(TEMPLATES), most, 2, longest), NONE, np.int64)
    rows = np.zeros((2, len(TEMPLATES), LANES, 5), np.int64)
    for t, pairs in enumerate(axes):
        for a, pair in enumerate(pairs):
            for axis, names in enumerate(pair):
                codes = [
                    index[name.upper()] + len(dims) * name.islower()
                    for name in names
                    if name.upper() in index
                ]
                unroll[t, a, axis, : len(codes)] = codes
        for i, variants in enumerate(both[t]):
            used = [(pairs.index((v.x, v.y)), int(v.frugal)) for v in variants]
            rows[i, t] = [
                (*own, keeps.index(v.keeps), _OPERANDS.index(v.outer), used.index(own))
                for own, v in zip(used, variants, strict=True)
            ]
    order = [others + [index[name] for name in names if name in index] for names in ORDERS]
    return TemplateTable(
        unroll,
        rows,
        keeps,
        np.array([[name in template.element_dims for name in dims] for template in TEMPLATES]),
        np.array([_OPERANDS.index(template.stationary) for template in TEMPLATES]),
        np.array(order, np.int64),
    )


def masks_of(keeps: Sequence[str], keep: np.ndarray, fanout: np.ndarray) -> np.ndarray:
    """What the slots of a machine keep in every choice.

    Args:
        keeps: See :class:`Variant`.
        keep: bool[S, 3], operands the slots may keep; ``fanout`` bool[S], slots that are spatial.

    Returns:
        bool[K, S, 3].
    """
    masks = np.repeat(keep[None], len(keeps), axis=0)
    for row, letters in zip(masks, keeps, strict=True):
        for t, letter in enumerate(letters):
            chain = [s for s in range(1, len(fanout)) if keep[s, t] and not fanout[s]]
            row[{"a": [], "i": chain[:-1], "o": chain[-1:]}[letter], t] = False
    return masks


def variants_for(rows: np.ndarray, keep: np.ndarray, groups: int) -> tuple[np.ndarray, int]:
    """The variants worth their time on machines of one structure.

    With two groups of storages at most, none of them for all operands, there is less to choose:
    the first :data:`FEW` variants come within 3 % of all.

    Args:
        rows: See :class:`TemplateTable`; ``keep`` bool[S, 3], operands the slots may keep.
        groups: How many groups of storages there are inside the tier.

    Returns:
        Rows for all lanes, of which the first so many count.
    """
    if groups > 2 or keep[1:].all(axis=1).any():
        return rows, rows.shape[1]
    few = rows.copy()
    few[:, FEW:] = rows[:, :1]
    return few, FEW
