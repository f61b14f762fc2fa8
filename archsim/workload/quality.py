"""What quantising the weights costs in quality: published perplexity, looked up, never guessed.

The figures and where each comes from are in ``quality.yaml``. A format, width and group size that
nobody has published gives no figure: a design that needs one is infeasible, not estimated.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import Field

from archsim.errors import InputError
from archsim.inputs import Strict, load_yaml

_FILE = Path(__file__).with_name("quality.yaml")


class _Quality(Strict):
    source: str
    group_size: int = Field(ge=1)
    #: By corpus, model, format and bits.
    perplexity: dict[str, dict[str, dict[str, dict[int, float]]]]


@lru_cache(maxsize=1)
def _table() -> _Quality:
    return load_yaml(_FILE, _Quality)


def quality_source() -> str:
    """Where the figures are published."""
    return _table().source


def published_models(corpus: str = "wikitext2") -> tuple[str, ...]:
    """Models with published figures.

    Raises:
        InputError: There is no such corpus.
    """
    return tuple(_corpus(corpus))


def _corpus(corpus: str) -> dict[str, dict[str, dict[int, float]]]:
    table = _table().perplexity
    if corpus not in table:
        raise InputError("no such corpus", field="corpus", found=corpus, expected=", ".join(table))
    return table[corpus]


def perplexity(
    model: str,
    weight_format: str,
    bits: ArrayLike,
    group_size: ArrayLike = np.nan,
    corpus: str = "wikitext2",
) -> NDArray[np.float64]:
    """Published perplexity of a model with quantised weights.

    Args:
        model: Name of a shipped model.
        weight_format: One of ``archsim.hardware.dot_product.WEIGHT_FORMATS``.
        bits: Bits of a weight without metadata, array.
        group_size: Weights that share metadata, array; NaN (none) is known at 16 bits only.
        corpus: ``wikitext2`` or ``c4``.

    Returns:
        Float64 in the broadcast shape; NaN where nothing is published.

    Raises:
        InputError: There is no such corpus.

    Example:
        >>> perplexity("llama-2-7b", "bitmod", [16, 6, 4, 3.5, 3], 128).tolist()
        [5.47, 5.49, 5.72, nan, 6.55]
    """
    found = _corpus(corpus).get(model, {}).get(weight_format, {})
    bits, groups = np.broadcast_arrays(
        np.asarray(bits, np.float64), np.asarray(group_size, np.float64)
    )
    out = np.full(bits.shape, np.nan)
    for known, value in found.items():
        grouped = (groups == _table().group_size) | (known == 16)
        out = np.where((bits == known) & grouped, value, out)
    return out


__all__ = ["perplexity", "published_models", "quality_source"]
