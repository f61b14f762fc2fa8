"""``archsim.map``: the best mapping of one operation on one engine, with its certificate."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from archsim.errors import InputError
from archsim.hardware import EngineTable, Machine, load_machine, resolve
from archsim.models.loopnest import kernel as k
from archsim.models.loopnest.mapping import Mapping
from archsim.models.loopnest.nest import build_nest
from archsim.models.loopnest.optimal import cache
from archsim.models.loopnest.optimal.constraints import Constraints, load_constraints
from archsim.models.loopnest.optimal.enumeration import judge_rows
from archsim.models.loopnest.optimal.solve import (
    TOLERANCE,
    Found,
    Objective,
    Proof,
    Solution,
    explain_misfit,
    solve,
)
from archsim.models.loopnest.optimal.space import Mapspace, mapspace
from archsim.workload.graph import Einsum, Operation

MAPSPACE = (
    "loop bounds that divide the extents (no residual tiles), over all slots; all loop orders at "
    "every storage; all unrollings that fit the fanouts; every operand kept or bypassed wherever "
    "the machine may hold it"
)


@dataclass(frozen=True)
class MappedLayer:
    """One mapping with its figures, as the exact kernel gives them.

    Attributes:
        energy_j, latency_s, cycles: Its cost; ``bound`` what sets the latency.
        mapping: The loop nest.
    """

    energy_j: float
    latency_s: float
    cycles: float
    bound: str
    mapping: Mapping = field(repr=False, compare=False)

    @property
    def edp_js(self) -> float:
        """Energy times latency, J s."""
        return self.energy_j * self.latency_s


@dataclass(frozen=True)
class MapResult:
    """The answer of :func:`map_operation`.

    Attributes:
        objective: What was minimised.
        best: The best mapping; None if nothing fits.
        front: The mappings found: one, or the Pareto set by ascending energy.
        value, lower_bound: Of the objective, in J and s (nan for a Pareto set); ``gap`` relative.
        proven: Whether ``best`` is proven optimal (``front``: complete) within the mapspace.
        misfit: If nothing fits: which storage and operand do not, in words.
        proof: What the search did; ``cached`` is ``memory`` or ``disk`` for a known shape.
        limits: The constraints given.
    """

    objective: Objective
    best: MappedLayer | None
    front: tuple[MappedLayer, ...]
    value: float
    lower_bound: float
    gap: float
    proven: bool
    misfit: str
    proof: Proof
    cached: str
    limits: Constraints

    def certificate(self) -> str:
        """What is proven, within which space, and how."""
        proof, lines = self.proof, []
        if self.misfit:
            lines.append(f"INFEASIBLE: {self.misfit}.")
        elif self.proven and self.objective.kind == "pareto":
            lines.append(
                f"PROVEN: every Pareto-optimal (energy, latency) of the mapspace is among the "
                f"{len(self.front)} found (relative tolerance {TOLERANCE:g})."
            )
        elif self.proven:
            lines.append(
                f"PROVEN OPTIMAL: no mapping of the mapspace has a lower {self.objective.kind} "
                f"(relative tolerance {TOLERANCE:g})."
            )
        else:
            lines.append(
                f"NOT PROVEN (stopped by {proof.stopped}): lower bound {self.lower_bound:.6g}, "
                f"best found {self.value:.6g}, gap {self.gap:.2%}."
            )
        lines.append(f"Mapspace: {MAPSPACE}.")
        if self.limits.slots:
            names = ", ".join(limits.slot for limits in self.limits.slots)
            lines.append(f"Restricted by the constraints on {names}.")
        lines.append(
            f"{proof.masks} choices of kept operands, {proof.shapes} tile shapes; of {proof.tried} "
            f"inner labels tried, {proof.labels} could still win; {proof.nodes} nodes visited, "
            f"{proof.pruned} children ruled out by their bounds, {proof.judged} mappings judged by "
            f"the kernel, in {proof.seconds:.2f} s of CPU time."
        )
        if self.cached:
            lines.append(f"Answered from the cache ({self.cached}).")
        return "\n".join(lines)

    def explain(self) -> str:
        """The mapping, its cost, and the certificate."""
        lines = []
        if len(self.front) > 1 or self.objective.kind == "pareto":
            lines.append(f"{'energy (J)':>14}  {'latency (s)':>14}  bound by")
            for row in self.front:
                lines.append(f"{row.energy_j:14.6g}  {row.latency_s:14.6g}  {row.bound}")
        elif self.best:
            best = self.best
            lines.append(
                f"energy {best.energy_j:.6g} J, latency {best.latency_s:.6g} s "
                f"({best.cycles:.0f} cycles, bound by {best.bound}), EDP {best.edp_js:.6g} J s"
            )
            lines.append(str(best.mapping))
        return "\n".join([*lines, self.certificate()])

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON; figures that do not exist are None."""

        def number(x: float) -> float | None:
            return float(x) if np.isfinite(x) else None

        return {
            "objective": asdict(self.objective),
            "proven": self.proven,
            "value": number(self.value),
            "lower_bound": number(self.lower_bound),
            "gap": number(self.gap),
            "misfit": self.misfit,
            "cached": self.cached,
            "mapspace": MAPSPACE,
            "constraints": self.limits.model_dump(mode="json"),
            "proof": asdict(self.proof),
            "front": [
                {
                    "energy_j": row.energy_j,
                    "latency_s": row.latency_s,
                    "cycles": row.cycles,
                    "bound": row.bound,
                    "mapping": row.mapping.to_dict(),
                }
                for row in self.front
            ],
        }


def _objective(objective: str | Objective | dict[str, float]) -> Objective:
    if isinstance(objective, dict):
        known = {"energy", "latency"}
        if not objective or set(objective) - known:
            raise InputError(
                "a weighted objective has energy and latency", field="objective",
                found=", ".join(objective) or "nothing",
            )  # fmt: skip
        weights = {name: objective.get(name, 0.0) for name in known}
        objective = Objective("sum", **weights)
    elif not isinstance(objective, Objective):
        objective = Objective(objective)
    objective.code()
    return objective


def map_operation(
    operation: Operation | Einsum,
    engine: Machine | EngineTable | str | Path,
    objective: str | Objective | dict[str, float] = "edp",
    *,
    constraints: Constraints | str | Path | None = None,
    time_limit_s: float = 120.0,
    node_limit: float = 1e12,
    use_cache: bool = True,
) -> MapResult:
    """Find the best mapping of an operation on a spatial engine, and prove it.

    Args:
        operation: An operation with a loop nest, or the loop nest.
        engine: A machine, its name or file, or a table of one design.
        objective: ``energy``, ``latency`` (ties go to the least energy), ``edp``, ``pareto``; a
            dict of weights, minimising ``energy`` x J + ``latency`` x s; or an ``Objective``.
        constraints: Limits of the mapspace, or the YAML file they are in.
        time_limit_s: Process CPU time after which the best found is returned with a bound.
        node_limit: Nodes after which it stops likewise, at the same place every time.
        use_cache: Look up and store proven answers.

    Raises:
        InputError: An argument is wrong.

    Example:
        >>> from archsim.workload.graph import matmul_einsum
        >>> gemm = matmul_einsum("x", "w", "y", rows=16, inner=16, columns=16)
        >>> result = map_operation(gemm, "tiny", "latency", use_cache=False)
        >>> result.proven, int(result.best.cycles)
        (True, 256)
    """
    einsum = operation.einsum if isinstance(operation, Operation) else operation
    if einsum is None:
        raise InputError("the operation has no loop nest to map", field=operation.name)
    wanted = _objective(objective)
    if not isinstance(engine, EngineTable):
        engine = resolve(engine if isinstance(engine, Machine) else load_machine(engine))
    if len(engine) != 1:
        raise InputError("one design at a time", field="engine", found=len(engine))
    if isinstance(constraints, (str, Path)):
        constraints = load_constraints(constraints)
    if not time_limit_s > 0 or not node_limit > 0:
        raise InputError("a limit must be positive", field="time_limit_s or node_limit")
    space = mapspace(einsum, build_nest(engine), 0, constraints)
    return map_space(space, wanted, time_limit_s, node_limit, use_cache)


def map_space(
    space: Mapspace,
    objective: Objective,
    time_limit_s: float = 120.0,
    node_limit: float = 1e12,
    use_cache: bool = True,
) -> MapResult:
    """As :func:`map_operation`, for a mapspace that is built already."""
    key = cache.key_of(space, tuple(asdict(objective).values())) if use_cache else ""
    known = _recall(space, cache.read(key)) if use_cache else None
    if known:
        solution, where = known
    else:
        solution, where = (
            solve(space, objective, time_limit_s=time_limit_s, node_limit=node_limit), ""
        )  # fmt: skip
        if use_cache and solution.proven:
            cache.write(key, _to_store(solution))
    clock = float(space.nest.engine[space.row, k.CLOCK_HZ])
    front = tuple(_layer(space, found, clock) for found in solution.found)
    scale = {"latency": 1 / clock, "edp": 1 / clock, "product": clock**-objective.latency}
    unit = scale.get(objective.kind, 1.0)
    return MapResult(
        objective, front[0] if front else None, front, solution.value * unit,
        max(solution.lower_bound, 0.0) * unit, solution.gap, solution.proven, solution.misfit,
        solution.proof, where, space.constraints,
    )  # fmt: skip


def _layer(space: Mapspace, found: Found, clock: float) -> MappedLayer:
    mapping = found.mapping
    results = judge_rows(space, mapping.factors[None], mapping.order[None], mapping.keep[None])[0]
    slot = int(results[k.BOUND_SLOT])
    bound = "compute" if slot < 0 else space.nest.names[slot]
    return MappedLayer(found.energy_j, found.cycles / clock, found.cycles, bound, mapping)


def _to_store(solution: Solution) -> dict[str, Any]:
    rows = [
        [f.mapping.factors.tolist(), f.mapping.order.tolist(), f.mapping.keep.tolist()]
        for f in solution.found
    ]
    value = None if np.isnan(solution.value) else solution.value
    return {
        "rows": rows,
        "value": value,
        "misfit": solution.misfit,
        "proof": asdict(solution.proof),
    }


def _recall(space: Mapspace, stored: tuple[dict[str, Any], str] | None):
    """The solution in a stored entry, judged again; None if it is damaged."""
    if stored is None:
        return None
    data, where = stored
    slots, dims = len(space.nest.names), len(space.problem.dims)
    try:
        found = []
        for factors, order, keep in data["rows"]:
            rows = np.array(factors, np.int64), np.array(order, np.int64), np.array(keep, bool)
            if [r.shape for r in rows] != [(slots, dims), (slots, dims), (slots, 3)]:
                return None
            if (rows[0].prod(axis=0) != space.extents).any():
                return None
            if (np.sort(rows[1], axis=1) != np.arange(dims)).any():
                return None
            result = judge_rows(space, rows[0][None], rows[1][None], rows[2][None])[0]
            if result[k.OVERFLOW] > 0:
                return None
            mapping = Mapping(
                space.nest.names, space.problem.dims, tuple(space.extents), space.nest.fanout,
                rows[2], rows[0], rows[1],
            )  # fmt: skip
            found.append(Found(float(result[k.ENERGY_J]), float(result[k.CYCLES]), mapping))
        value = float("nan") if data["value"] is None else float(data["value"])
        proof = Proof(**data["proof"])
        misfit = "" if found else explain_misfit(space)
        bound = value * (1 - TOLERANCE)
        return Solution(tuple(found), value, bound, True, misfit, proof), where
    except (KeyError, TypeError, ValueError):
        return None


__all__ = ["MapResult", "MappedLayer", "map_operation", "map_space"]
