"""The chosen design: which one, why it wins, and which limits hold it back."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from archsim.errors import InputError
from archsim.explore.results import Results
from archsim.explore.units import human, number, title

#: A limit counts as binding when less than this share of it is left.
BINDING_SLACK = 0.02
#: Values tried of one parameter, nearest first; keeps a large range from drowning the others.
TRIED_VALUES = 16


@dataclass(frozen=True)
class Design:
    """A design with its numbers.

    Attributes:
        role: What it stands for: ``best``, ``knee``, ``median``, ``as shipped`` ...
        values: Parameter values.
        metrics: Metric values in SI units.
    """

    role: str
    values: dict[str, Any]
    metrics: dict[str, float]


@dataclass(frozen=True)
class Change:
    """What changing one parameter of the chosen design would do.

    Attributes:
        parameter: The parameter.
        before: Its value in the chosen design.
        after: The value tried.
        gain: Change of the chosen metric as a share; negative is better. Limits aside.
        feasible: Whether the changed design keeps all limits and can be mapped.
        broken: Limits it would break.
        metrics: Metrics of the changed design.
    """

    parameter: str
    before: Any
    after: Any
    gain: float
    feasible: bool
    broken: tuple[str, ...]
    metrics: dict[str, float]

    def __str__(self) -> str:
        return f"{self.parameter} {_show(self.before)} → {_show(self.after)}"


@dataclass(frozen=True)
class Limit:
    """How the chosen design stands to a limit.

    Attributes:
        metric: The limited metric.
        bound: Its bound.
        value: Its value.
        slack: Share of the bound that is left.
        blocks: Single changes that would improve the design but break this limit.
    """

    metric: str
    bound: float
    value: float
    slack: float
    blocks: tuple[Change, ...]

    @property
    def binding(self) -> bool:
        """Whether it holds the design back: nearly used up, or in the way of an improvement."""
        return self.slack < BINDING_SLACK or bool(self.blocks)


@dataclass(frozen=True)
class Choice:
    """The chosen design and why.

    Attributes:
        by: The metric it minimises.
        design: The design.
        row: Its row among the distinct designs of the results.
        others: Designs it is compared with.
        changes: One-parameter changes, best first.
        limits: Limits, tightest first.
        reasons: The explanation in sentences.
        found_by: Runs that evaluated it, as ``agent seed n``, in the order of the store.
        evaluated: Evaluations stored.
        distinct: Distinct designs stored.
        feasible: Feasible distinct designs.
        refusal: Why a design that keeps all limits is infeasible here, in words.
    """

    by: str
    design: Design
    row: int
    others: tuple[Design, ...]
    changes: tuple[Change, ...]
    limits: tuple[Limit, ...]
    reasons: tuple[str, ...]
    found_by: tuple[str, ...]
    evaluated: int
    distinct: int
    feasible: int
    refusal: str

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return dataclasses.asdict(self)


def choose(results: Results, by: str = "objective") -> Choice:
    """Choose the best feasible design, and explain the choice.

    Its one-parameter neighbours are evaluated anew; they are not part of any run.

    Args:
        results: A run directory.
        by: Metric to minimise.

    Raises:
        InputError: Nothing feasible was found, or there is no such metric.
    """
    row = results.chosen(by)
    if row is None:
        closest = float(results.metrics["violation"].min())
        raise InputError(
            f"none of the {len(results.feasible):,} designs evaluated is feasible (smallest "
            f"violation {closest:.3g}); relax a limit or search longer",
            source=results.directory,
        )
    opened = results.problem
    design = _design("best", results, row)
    changes = single_changes(results, row, by)
    limits = _limits(opened, design, changes)
    others = _others(results, row, by)
    return Choice(
        by=by,
        design=design,
        row=row,
        others=others,
        changes=changes,
        limits=limits,
        reasons=_reasons(results, by, design, others, changes, limits),
        found_by=_found_by(results, row),
        evaluated=len(results.evaluations.run),
        distinct=len(results.feasible),
        feasible=int(results.feasible.sum()),
        refusal=opened.problem.refusal,
    )


def _design(role: str, results: Results, row: int) -> Design:
    values = results.problem.space.decode(results.indices[row])
    return Design(role, values, {name: float(v[row]) for name, v in results.metrics.items()})


def _others(results: Results, row: int, by: str) -> tuple[Design, ...]:
    """Designs worth comparing with: knee, best of each objective, the median, the start."""
    rows = np.flatnonzero(results.feasible)
    found: dict[int, str] = {}
    if results.knee is not None:
        found[results.knee] = "knee"
    for name in results.objectives:
        place = results.chosen(name)
        if place is not None:
            found.setdefault(place, f"lowest {title(name).lower()}")
    middle = rows[np.argsort(results.metrics[by][rows], kind="stable")[(len(rows) - 1) // 2]]
    found.setdefault(int(middle), "median feasible")
    designs = [_design(role, results, place) for place, role in found.items() if place != row]
    problem = results.problem.problem
    reference = {name: float(value) for name, value in problem.reference_metrics.items()}
    designs.append(Design(problem.reference_name, {}, reference))
    return tuple(designs)


def single_changes(results: Results, row: int, by: str) -> tuple[Change, ...]:
    """Evaluate every legal design that differs from one in a single parameter.

    Returns:
        Feasible ones first, each group by what it would gain.
    """
    opened = results.problem
    space, centre = opened.space, results.indices[row]
    moves, labels = [], []
    for place, parameter in enumerate(space.parameters):
        here = int(centre[place])
        values = sorted(range(parameter.cardinality), key=lambda index: (abs(index - here), index))
        for index in values[1 : TRIED_VALUES + 1]:
            moved = centre.copy()
            moved[place] = index
            if bool(space.is_legal(moved)):
                moves.append(moved)
                labels.append((parameter.name, parameter.values[here], parameter.values[index]))
    if not moves:
        return ()
    found = opened.evaluate(np.array(moves))
    base = {name: np.array([values[row]]) for name, values in results.metrics.items()}
    gains = _relative(opened, by, found, base)
    changes = []
    for place, (name, before, after) in enumerate(labels):
        metrics = {key: float(values[place]) for key, values in found.items()}
        broken = tuple(
            m for m, bound in results.limits.items() if _excess(m, metrics[m], bound) > 0
        )
        feasible = metrics["feasible"] > 0
        changes.append(Change(name, before, after, float(gains[place]), feasible, broken, metrics))
    return tuple(sorted(changes, key=lambda c: (not c.feasible, c.gain, c.parameter)))


def _relative(opened: Any, by: str, found: dict, base: dict) -> np.ndarray:
    """Relative change of the chosen metric, limits aside (the objective is a logarithm)."""
    if by != "objective":
        return found[by] / base[by] - 1.0
    free = dataclasses.replace(opened.problem.objective, limits={})

    def scalar(metrics: dict[str, np.ndarray]) -> np.ndarray:
        return free.score({name: metrics[name] for name in free.minimize})["objective"]

    return np.expm1(scalar(found) - scalar(base))


def _excess(metric: str, value: float, bound: float) -> float:
    """Share by which a limit is exceeded; negative while it is kept."""
    from archsim.envs.objective import larger_is_better

    return bound / max(value, 1e-300) - 1.0 if larger_is_better(metric) else value / bound - 1.0


def _limits(opened: Any, design: Design, changes: tuple[Change, ...]) -> tuple[Limit, ...]:
    limits = []
    for metric, bound in opened.scenario.objective.limits.items():
        blocks = [c for c in changes if c.broken == (metric,) and c.gain < -1e-9]
        blocks.sort(key=lambda change: change.gain)
        value = design.metrics[metric]
        slack = -_excess(metric, value, bound)
        limits.append(Limit(metric, bound, value, slack, tuple(blocks)))
    return tuple(sorted(limits, key=lambda limit: limit.slack))


def _found_by(results: Results, row: int) -> tuple[str, ...]:
    found = results.evaluations
    ids = set(found.run[found.design == row].tolist())
    return tuple(
        f"{run.label} seed {run.seed}" + (" (filling the front)" if run.phase == "fill" else "")
        for run in results.runs
        if run.id in ids
    )


def _reasons(
    results: Results,
    by: str,
    design: Design,
    others: tuple[Design, ...],
    changes: tuple[Change, ...],
    limits: tuple[Limit, ...],
) -> tuple[str, ...]:
    """The explanation: rank, comparisons, neighbours, limits."""
    count, feasible = len(results.feasible), int(results.feasible.sum())
    measure = f" ({results.meta.get('objective_label', 'cost')})" if by == "objective" else ""
    lines = [
        f"It has the lowest {_name(by)}{measure} of the {feasible:,} feasible designs among the "
        f"{count:,} distinct designs evaluated."
    ]
    for other in others:
        parts = []
        for name in results.objectives:
            ratio = design.metrics[name] / other.metrics[name] - 1.0
            parts.append(f"{title(name).lower()} {percent(ratio)}")
        lines.append(f"Against the {other.role}: {', '.join(parts)}.")
    allowed = [change for change in changes if change.feasible]
    better = [change for change in allowed if change.gain < -1e-9]
    if better:
        lines.append(
            f"A single change would improve it further: {better[0]} gives {_name(by)} "
            f"{percent(better[0].gain)}; the searches did not evaluate it or stopped before."
        )
    elif allowed:
        lines.append(
            f"No single feasible change of a parameter improves it; the closest is {allowed[0]} "
            f"({_name(by)} {percent(allowed[0].gain)})."
        )
    for limit in limits:
        if limit.blocks:
            block = limit.blocks[0]
            lines.append(
                f"The {title(limit.metric).lower()} limit of {human(limit.metric, limit.bound)} "
                f"holds it back: {block} would give {_name(by)} {percent(block.gain)}, but needs "
                f"{human(limit.metric, block.metrics[limit.metric])}."
            )
    return tuple(lines)


def _name(by: str) -> str:
    return "objective" if by == "objective" else title(by).lower()


def percent(share: float) -> str:
    """A signed relative change: ``-12.3 %``; a factor where it is more than tenfold."""
    if not math.isfinite(share):
        return "–"
    if share > 9:
        return f"x {number(share + 1, 3)}"
    return f"{100 * share:+.1f} %" if abs(share) >= 5e-4 or share == 0 else f"{100 * share:+.1g} %"


def _show(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
