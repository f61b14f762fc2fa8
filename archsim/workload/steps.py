"""One step of serving a language model: which tokens of which requests, in which bits.

A step is a list of requests, each with its new tokens and its context: the tokens in its cache
once the step is done, the new ones among them. Prefill is ``new == context``, decode ``new == 1``,
a chunk of a prompt lies between, and continuous batching mixes them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from archsim.errors import InputError

PHASES = ("prefill", "decode")
MAX_TOKENS = 1 << 40


@dataclass(frozen=True, order=True)
class Request:
    """Equal requests of a step.

    Attributes:
        new: Tokens each computes in this step.
        context: Tokens in each one's cache afterwards, ``new`` among them.
        count: How many such requests there are.
    """

    new: int
    context: int
    count: int = 1

    def __post_init__(self) -> None:
        for name in ("new", "context", "count"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value < MAX_TOKENS:
                raise InputError("must be a positive integer", field=name, found=value)
        if self.context < self.new:
            raise InputError(
                "the context includes the new tokens, so it cannot be shorter",
                field="context",
                found=self.context,
                expected=f"at least {self.new}",
            )


def requests_of(
    phase: str = "decode", batch: int = 1, context: int = 1, new: int | None = None
) -> tuple[Request, ...]:
    """Equal requests in one phase.

    Args:
        phase: ``prefill`` or ``decode``.
        batch: How many requests.
        context: Tokens in each one's cache after the step.
        new: Tokens computed; default all of the context for prefill, one for decode.

    Raises:
        InputError: No such phase, or counts that make no sense.
    """
    if phase not in PHASES:
        raise InputError("no such phase", field="phase", found=phase, expected=" or ".join(PHASES))
    if new is None:
        new = context if phase == "prefill" else 1
    return (Request(new, context, batch),)


def grouped(requests: Iterable[Request]) -> tuple[Request, ...]:
    """Equal requests put together, longest new part first.

    Raises:
        InputError: There are none.
    """
    counts: Counter[tuple[int, int]] = Counter()
    for request in requests:
        counts[request.new, request.context] += request.count
    if not counts:
        raise InputError("a step needs at least one request", field="requests")
    return tuple(Request(n, c, k) for (n, c), k in sorted(counts.items(), reverse=True))


@dataclass(frozen=True)
class Bits:
    """Storage bits an element, by what it is; may be fractional (4.0625 with group metadata).

    Attributes:
        weight: Weights of projections and experts.
        activation: Values between operations, norms, routers and biases.
        kv: Cached keys, values and latent vectors.
        state: Recurrent state of state spaces and linear attention.
        embedding: Token embedding and output projection; None as ``activation``.
    """

    weight: float = 16.0
    activation: float = 16.0
    kv: float = 16.0
    state: float = 32.0
    embedding: float | None = None

    def __post_init__(self) -> None:
        for name in ("weight", "activation", "kv", "state", "embedding"):
            value = getattr(self, name)
            if value is not None and not 0 < value <= 1024:
                raise InputError("bits must lie in (0, 1024]", field=name, found=value)


@dataclass(frozen=True)
class Routing:
    """How the tokens of a step spread over experts.

    Attributes:
        kind: ``balanced``: as evenly as whole tokens allow. ``zipf``: in proportion to
            rank^-exponent. ``sampled``: each token draws its experts at random (uniformly, or by
            zipf's weights where an exponent is given), from ``seed``. ``given``: by ``shares``.
        exponent: Skew; 0 is uniform.
        seed: Of the draw.
        shares: Relative load of the experts, for ``given``.
    """

    kind: Literal["balanced", "zipf", "sampled", "given"] = "balanced"
    exponent: float = 0.0
    seed: int = 0
    shares: tuple[float, ...] = field(default=())

    def __post_init__(self) -> None:
        if self.kind not in ("balanced", "zipf", "sampled", "given"):
            raise InputError("no such routing", field="routing", found=self.kind)
        if not 0 <= self.exponent <= 100:
            raise InputError("must lie in 0..100", field="exponent", found=self.exponent)
        if any(not 0 <= share < np.inf for share in self.shares):
            raise InputError("shares must not be negative", field="shares", found=self.shares)

    def tokens(self, tokens: int, experts: int, top_k: int) -> list[int]:
        """Tokens of each expert, most loaded first.

        Args:
            tokens: Tokens of the step.
            experts: Experts.
            top_k: Different experts a token goes to.

        Returns:
            ``experts`` counts, each at most ``tokens``, that sum to ``tokens * top_k``.

        Raises:
            InputError: Shares that do not fit the experts.

        Example:
            >>> Routing().tokens(5, 4, 2)
            [3, 3, 2, 2]
        """
        if self.kind == "balanced":
            each, rest = divmod(tokens * top_k, experts)
            return [each + 1] * rest + [each] * (experts - rest)
        shares = self._shares(experts, top_k)
        if self.kind == "sampled":
            return _sample(shares, tokens, top_k, self.seed)
        return _apportion(shares, tokens, top_k)

    def _shares(self, experts: int, top_k: int) -> np.ndarray:
        if self.kind != "given":
            return np.arange(1, experts + 1, dtype=np.float64) ** -self.exponent
        shares = np.sort(np.array(self.shares, dtype=np.float64))[::-1]
        if len(shares) != experts or np.count_nonzero(shares) < top_k:
            raise InputError(
                "one share an expert, at least as many above zero as a token's experts",
                field="shares",
                found=len(shares),
                expected=f"{experts} shares, {top_k} above zero",
            )
        return shares


def _apportion(shares: np.ndarray, tokens: int, top_k: int) -> list[int]:
    """Whole tokens in proportion to shares, at most ``tokens`` each: largest remainders."""
    load = np.zeros(len(shares))
    left, free = float(tokens * top_k), shares > 0
    while left > 1e-9 and free.any():
        offered = left * shares * free / (shares * free).sum()
        taken = np.minimum(offered, tokens - load) * free
        load += taken
        left -= taken.sum()
        free &= load < tokens * (1 - 1e-12)
        if taken.sum() < 1e-9:
            break
    counts = np.minimum(np.floor(load + 1e-9).astype(np.int64), tokens)
    missing = tokens * top_k - int(counts.sum())
    order = np.argsort(-(load - counts), kind="stable")
    for index in [*order, *order]:
        if missing and counts[index] < tokens and shares[index] > 0:
            counts[index] += 1
            missing -= 1
    return sorted((int(count) for count in counts), reverse=True)


def _sample(shares: np.ndarray, tokens: int, top_k: int, seed: int) -> list[int]:
    """Draw ``top_k`` different experts a token: the largest keys of Gumbel noise on log shares."""
    rng = np.random.default_rng(seed)
    counts = np.zeros(len(shares), dtype=np.int64)
    with np.errstate(divide="ignore"):
        base = np.log(shares)
    for start in range(0, tokens, 65536):
        rows = min(65536, tokens - start)
        keys = base + rng.gumbel(size=(rows, len(shares)))
        chosen = np.argpartition(-keys, top_k - 1, axis=1)[:, :top_k]
        counts += np.bincount(chosen.ravel(), minlength=len(shares))
    return sorted((int(count) for count in counts), reverse=True)
