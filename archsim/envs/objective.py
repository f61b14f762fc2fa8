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
LARGER_IS_BETTER = frozenset({"utilization", "throughput_per_s"})
KINDS: tuple[str, ...] = ("log_product", "weighted", "single")
#: Names :meth:`Objective.score` adds to (or settles among) the metrics.
SCORES: tuple[str, ...] = ("feasible", "violation", "objective", "reward")
_SMALLEST, _LARGEST = 1e-300, 1e300


def larger_is_better(metric: str) -> bool:
    """Whether more of a metric is better (``metric.workload`` counts as ``metric``)."""
    return metric.split(".", 1)[0] in LARGER_IS_BETTER


@dataclass(frozen=True)
class Objective:
    """Metrics to minimise, limits, and how they make one number.

    Attributes:
        minimize: Metrics whose trade-off curve is sought, at least one.
        limits: Bound by metric: upper, but lower for ``throughput_per_s`` and ``utilization``.
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
                    "more of this metric is better; minimise latency_s or energy_j instead",
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
        object.__setattr__(self, "_compiled", self._compile())

    def _compile(self) -> tuple:
        weights = np.array([self.weights.get(name, 1.0) for name in self.minimize])
        if self.kind == "single":
            chosen = self.metric or self.minimize[0]
            weights = np.array([float(name == chosen) for name in self.minimize])
        references = np.log([self.references.get(name, 1.0) for name in self.minimize])
        limits = np.log(np.array(list(self.limits.values()), dtype=np.float64))
        signs = np.array([-1.0 if larger_is_better(name) else 1.0 for name in self.limits])
        column = (slice(None), None)
        return (
            (weights / weights.sum())[column],
            references[column],
            limits[column],
            signs[column],
        )

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
        weights, references, limits, signs = self._compiled  # type: ignore[attr-defined]
        raw = np.array([metrics[name] for name in (*self.minimize, *self.limits)], dtype=np.float64)
        finite = np.isfinite(raw)
        logs = np.log(np.clip(np.where(finite, raw, _LARGEST), _SMALLEST, _LARGEST))
        count = len(self.minimize)
        ratios = logs[:count] - references
        if self.kind == "weighted":
            peak = ratios.max(axis=0)
            z = peak + np.log((weights * np.exp(ratios - peak)).sum(axis=0))
        else:
            z = (weights * ratios).sum(axis=0)
        violation = np.maximum(signs * (logs[count:] - limits), 0.0).sum(axis=0)
        violation += np.where(finite, 0.0, math.log(_LARGEST)).sum(axis=0)
        if "violation" in metrics:
            own = np.maximum(np.nan_to_num(metrics["violation"], nan=_LARGEST), 0.0)
            violation = violation + np.minimum(own, _LARGEST)
        if "feasible" in metrics:  # a model that says no without saying how far counts as 1 off
            refused = ~np.asarray(metrics["feasible"], dtype=bool)
            violation = np.where(refused & (violation == 0.0), 1.0, violation)
        feasible = violation == 0.0
        objective = np.where(feasible, z, PENALTY + np.log1p(violation))
        return {
            "feasible": feasible,
            "violation": violation,
            "objective": objective,
            "reward": reward(objective, violation),
        }


def reward(objective: np.ndarray, violation: np.ndarray) -> np.ndarray:
    """The reward of scored designs, float64[B] in (-1, 1), as the module says."""
    excess = np.log1p(violation)
    z = np.where(violation > 0, 0.0, objective)
    return np.where(violation > 0, -excess / (1 + excess), 0.5 - 0.5 * z / (1 + np.abs(z)))
