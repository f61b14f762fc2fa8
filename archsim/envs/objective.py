"""What a design is worth: metrics to minimise, limits to keep, one scalar and one reward.

Let ``z`` be the logarithm of the scalarised cost relative to a reference. Then

* feasible: ``objective = z`` and ``reward = (1 - z / (1 + |z|)) / 2``, in (0, 1), 1/2 at the
  reference;
* infeasible with violation ``v > 0``: ``objective = PENALTY + ln(1 + v)`` and
  ``reward = -u / (1 + u)`` with ``u = ln(1 + v)``, in (-1, 0).

So the reward is a strictly decreasing function of the objective, finite for every input, without a
pole or a plateau at a target; every feasible design beats every infeasible one, and of two
infeasible ones the lesser violation wins. The softsign has algebraic tails, so designs a factor of
1e100 apart are still told apart in double precision, which an exponential would not do.

A limit is violated by ``|ln(metric / limit)|``; violations of limits and the cost model's own
(a mapping that does not fit) add up.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np

from archsim.errors import InputError

#: Added to the objective of infeasible designs; beyond any log-ratio of two doubles (< 1500).
PENALTY = 2000.0
#: Metrics of which more is better: a limit on them is a lower bound, and minimising is an error.
LARGER_IS_BETTER = frozenset(
    {"utilization", "throughput_per_s", "tokens_per_s", "bandwidth_bytes_per_s", "row_hit_rate"}
)
KINDS: tuple[str, ...] = ("log_product", "weighted", "single")
#: Names :meth:`Objective.score` adds to (or settles among) the metrics.
SCORES: tuple[str, ...] = ("feasible", "violation", "objective", "reward")
_SMALLEST, _LARGEST = 1e-300, 1e300
_TOP = float(np.log(_LARGEST))


def larger_is_better(metric: str) -> bool:
    """Whether more of a metric is better (``metric.workload`` counts as ``metric``)."""
    return metric.split(".", 1)[0] in LARGER_IS_BETTER


@dataclass(frozen=True)
class Objective:
    """Metrics to minimise, limits, and how they make one number.

    Attributes:
        minimize: Metrics whose trade-off curve is sought, at least one.
        limits: Bound by metric: upper, but lower for :data:`LARGER_IS_BETTER`.
        kind: ``log_product`` (weighted geometric mean of metric / reference), ``weighted``
            (weighted arithmetic mean of metric / reference), or ``single`` (one metric).
        metric: The metric of ``single``; default the first of ``minimize``.
        weights: Positive weight by metric of ``minimize``; default 1.
        references: Positive reference by metric, where the reward is 1/2; default 1.

    Raises:
        InputError: A field is not as above.

    Example:
        >>> objective = Objective(("latency_s", "energy_j"), {"area_mm2": 10.0})
        >>> scores = objective.score({
        ...     "latency_s": np.array([1.0, 1.0]), "energy_j": np.array([1.0, 0.1]),
        ...     "area_mm2": np.array([10.0, 20.0])})
        >>> scores["feasible"].tolist(), scores["reward"].round(2).tolist()
        ([True, False], [0.5, -0.34])
    """

    minimize: tuple[str, ...]
    limits: Mapping[str, float] = field(default_factory=dict)
    kind: str = "log_product"
    metric: str | None = None
    weights: Mapping[str, float] = field(default_factory=dict)
    references: Mapping[str, float] = field(default_factory=dict)
    _columns: tuple[str, ...] = field(init=False, repr=False, compare=False, default=())
    _terms: tuple[tuple[float, float], ...] = field(
        init=False, repr=False, compare=False, default=()
    )
    _signs: tuple[float, ...] = field(init=False, repr=False, compare=False, default=())
    _bounds: tuple[float, ...] = field(init=False, repr=False, compare=False, default=())

    def __post_init__(self) -> None:
        object.__setattr__(self, "minimize", tuple(self.minimize))
        if not self.minimize or len(set(self.minimize)) != len(self.minimize):
            raise InputError(
                "name each metric to minimise once, at least one",
                field="minimize",
                found=self.minimize,
            )
        for name in self.minimize:
            if larger_is_better(name):
                raise InputError(
                    "more of this metric is better; minimise a time or energy_j instead",
                    field="minimize",
                    found=name,
                )
        if self.kind not in KINDS:
            raise InputError(
                "unknown scalarisation",
                field="scalar.kind",
                found=self.kind,
                expected=", ".join(KINDS),
            )
        if self.metric is not None and self.kind != "single":
            raise InputError("only kind single takes a metric", field="scalar.metric")
        for where, table in (
            ("limits", self.limits),
            ("scalar.weights", self.weights),
            ("scalar.references", self.references),
        ):
            for name, value in table.items():
                if not _SMALLEST <= value <= _LARGEST:
                    raise InputError(
                        "must be a positive number", field=f"{where}.{name}", found=value
                    )
        for where, names in (
            ("scalar.weights", self.weights),
            ("scalar.references", self.references),
            ("scalar.metric", () if self.metric is None else (self.metric,)),
        ):
            for name in names:
                if name not in self.minimize:
                    raise InputError(
                        "not among the metrics to minimise",
                        field=where,
                        found=name,
                        expected=", ".join(self.minimize),
                    )
        weights = [self.weights.get(name, 1.0) for name in self.minimize]
        if self.kind == "single":
            chosen = self.metric or self.minimize[0]
            weights = [float(name == chosen) for name in self.minimize]
        references = [math.log(self.references.get(name, 1.0)) for name in self.minimize]
        shares = [weight / sum(weights) for weight in weights]
        signs = [-1.0 if larger_is_better(name) else 1.0 for name in self.limits]
        object.__setattr__(self, "_columns", (*self.minimize, *self.limits))
        object.__setattr__(self, "_terms", tuple(zip(shares, references, strict=True)))
        object.__setattr__(self, "_signs", tuple(signs))
        object.__setattr__(self, "_bounds", tuple(math.log(b) for b in self.limits.values()))

    @property
    def label(self) -> str:
        """What the scalar is in words, where the fields do not say it."""
        return ""

    @property
    def names(self) -> tuple[str, ...]:
        """Every metric it reads: minimised ones, then limited ones."""
        return tuple(dict.fromkeys((*self.minimize, *self.limits)))

    def check_metrics(self, known: Iterable[str]) -> None:
        """Refuse names the cost model does not give.

        Raises:
            InputError: Names the metric and the known ones.
        """
        known = tuple(known)
        for where, names in (("minimize", self.minimize), ("limits", tuple(self.limits))):
            for name in names:
                if name not in known:
                    raise InputError(
                        "no such metric",
                        field=f"objective.{where}",
                        found=name,
                        expected=f"one of {', '.join(known)}",
                    )

    def with_default_references(self, metrics: Mapping[str, float]) -> Objective:
        """References that were not given are taken from these metrics (where positive)."""
        default = {
            name: float(np.clip(metrics[name], _SMALLEST, _LARGEST)) for name in self.minimize
        }
        return Objective(
            self.minimize,
            self.limits,
            self.kind,
            self.metric,
            self.weights,
            {**default, **self.references},
        )

    def score(self, metrics: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Feasibility, violation, objective and reward of a batch.

        Args:
            metrics: Array [B] by metric; ``feasible`` and ``violation`` of the cost model count
                if present. A metric that is not finite makes its design infeasible.

        Returns:
            ``feasible`` bool[B], ``violation`` (>= 0, 0 iff feasible), ``objective`` (to minimise)
            and ``reward`` (to maximise), float64[B].
        """
        with np.errstate(invalid="ignore"):
            logs, violation = _safe_logs([metrics[name] for name in self._columns])
            z = self._scalar(logs)
            rows = logs[len(self.minimize) :]
            for sign, bound, row in zip(self._signs, self._bounds, rows, strict=True):
                violation += np.maximum(sign * (row - bound), 0.0)
            if "violation" in metrics:
                violation += np.maximum(metrics["violation"], 0.0)
                if not violation.max(initial=0.0) <= _LARGEST:  # NaN or infinite
                    violation = np.where(violation <= _LARGEST, violation, _LARGEST)
            feasible = violation == 0.0
            if "feasible" in metrics:
                refused = feasible & ~np.asarray(metrics["feasible"], dtype=bool)
                if refused.any():  # a model that says no without saying how far counts as 1 off
                    violation[refused] = 1.0
                    feasible = violation == 0.0
        objective = np.where(feasible, z, PENALTY + np.log1p(violation))
        return {
            "feasible": feasible,
            "violation": violation,
            "objective": objective,
            "reward": self.reward(objective, violation),
        }

    def reward(self, objective: np.ndarray, violation: np.ndarray) -> np.ndarray:
        """The reward of scored designs, float64[B]; nothing else goes into it."""
        return reward(objective, violation)

    def _scalar(self, logs: np.ndarray) -> np.ndarray:
        # row by row, so that a batch adds in the same order as a single design, bit for bit
        if self.kind == "weighted":
            ratios = [
                row - reference for row, (_, reference) in zip(logs, self._terms, strict=False)
            ]
            peak = ratios[0]
            for ratio in ratios[1:]:
                peak = np.maximum(peak, ratio)
            total = np.zeros_like(peak)
            for (weight, _), ratio in zip(self._terms, ratios, strict=True):
                total += weight * np.exp(ratio - peak)
            return peak + np.log(total)
        z = np.zeros(logs.shape[1:])
        for row, (weight, reference) in zip(logs, self._terms, strict=False):
            if weight:
                z += weight * (row - reference)
        return z


def _safe_logs(columns: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Logarithms of metrics, float64[K, B], and the violation of those that are not finite."""
    raw = np.array(columns, dtype=np.float64)
    logs = np.log(np.minimum(np.maximum(raw, _SMALLEST), _LARGEST))
    if logs.max(initial=0.0) < _TOP and raw.min(initial=0.0) > -np.inf:  # false for NaN too
        return logs, np.zeros(raw.shape[1:])
    finite = np.isfinite(raw)
    return np.where(finite, logs, _TOP), np.where(finite, 0.0, _TOP).sum(axis=0)


def reward(objective: np.ndarray, violation: np.ndarray) -> np.ndarray:
    """The reward of scored designs, float64[B] in (-1, 1), as the module says."""
    excess = np.log1p(violation)
    worth = 0.5 - 0.5 * objective / (1 + np.abs(objective))
    return np.where(violation > 0, -excess / (1 + excess), worth)
