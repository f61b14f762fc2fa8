"""Which of many experts are at hand: those used last (LRU), walked exactly or in the long run."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import brentq

from archsim.errors import InputError

Floats = NDArray[np.float64]


def lru_hits(requests: Sequence[int], slots: int) -> NDArray[np.bool_]:
    """Which requests find their expert among the ``slots`` used last; exact, from empty.

    Example:
        >>> lru_hits([1, 2, 1, 3, 2, 1], 2).tolist()
        [False, False, True, False, False, False]
    """
    held: OrderedDict[int, None] = OrderedDict()
    found = np.zeros(len(requests), dtype=bool)
    for at, expert in enumerate(requests):
        found[at] = expert in held
        if found[at]:
            held.move_to_end(expert)
        elif slots > 0:
            if len(held) >= slots:
                held.popitem(last=False)
            held[expert] = None
    return found


def lru_hit_share(shares: ArrayLike, slots: int) -> float:
    """Share of independent requests that hit in the long run.

    The approximation of Che, Tung and Wang (IEEE JSAC 2002): an expert stays for one
    characteristic time after its last use. It is exact where all experts are asked for alike:
    ``slots / experts``.

    Args:
        shares: How often each expert is asked for; any scale.
        slots: Experts kept.

    Raises:
        InputError: Shares that are no shares.

    Example:
        >>> round(lru_hit_share([1.0] * 150, 45), 9)
        0.3
    """
    each = np.asarray(shares, dtype=float)
    if each.ndim != 1 or not each.size or not (np.isfinite(each) & (each >= 0)).all():
        raise InputError("shares of requests must be numbers, none negative", field="shares")
    each = each[each > 0]
    if not each.size:
        raise InputError("some expert must be asked for", field="shares")
    each = each / each.sum()
    if slots >= each.size:
        return 1.0
    if slots <= 0:
        return 0.0

    def kept(time: float) -> float:
        return float(-np.expm1(-each * time).sum()) - slots

    last = float(slots)
    while kept(last) < 0:
        last *= 2.0
    time = brentq(kept, 0.0, last, xtol=1e-12, rtol=1e-14)
    return float((each * -np.expm1(-each * time)).sum())


def zipf_shares(experts: int, skew: float = 0.0) -> Floats:
    """How often each expert is asked for, in proportion to rank^-skew; 0 is alike."""
    share = np.arange(1, experts + 1, dtype=float) ** -skew
    return share / share.sum()
