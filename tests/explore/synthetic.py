"""A made-up exploration with known structure: fast to make, and nothing is evaluated."""

from __future__ import annotations

import functools
import json
from pathlib import Path

import numpy as np

from archsim.explore.records import Batch, Layout
from archsim.explore.store import Store

METRICS = ("latency_s", "energy_j", "area_mm2", "power_w", "objective", "violation", "feasible")
LAYOUT = Layout(("rows", "cols", "buffer"), METRICS)
LIMITS = {"area_mm2": 10.0, "power_w": 2.0}


def evaluate(indices: np.ndarray) -> dict[str, np.ndarray]:
    """A smooth trade-off: more rows and columns are faster and larger, buffers save energy."""
    rows, cols, buffer = (indices.astype(np.float64) + 1).T
    latency = 2.0 / (rows * cols) ** 0.8 * (1 + 0.3 * np.abs(np.log(rows / cols)))
    energy = 0.02 + 0.4 / buffer**0.7 + 0.002 * rows * cols**0.5
    area = 0.01 * rows * cols + 0.12 * buffer
    power = energy / latency
    violation = np.maximum(np.log(area / 10.0), 0) + np.maximum(np.log(power / 2.0), 0)
    feasible = violation == 0
    objective = np.where(feasible, 0.5 * np.log(latency * energy), 2000 + np.log1p(violation))
    columns = (latency, energy, area, power, objective, violation, feasible.astype(float))
    return dict(zip(METRICS, columns, strict=True))


def batch(indices: np.ndarray, start: int = 0) -> Batch:
    """The evaluations of these designs as a run would store them."""
    found = evaluate(indices)
    keys = [row.tobytes() for row in np.ascontiguousarray(indices)]
    metrics = np.stack([found[name] for name in METRICS], axis=1)
    return Batch(start, keys, indices, metrics, -found["objective"])


@functools.cache
def optimum() -> np.ndarray:
    """The best feasible design, by looking at all 64,000."""
    every = np.stack(np.meshgrid(*[np.arange(40)] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
    return every[evaluate(every)["objective"].argmin()]


def propose(rng: np.random.Generator, count: int, skill: float) -> np.ndarray:
    """A searcher that narrows down on a good design, the faster the more skilled it is."""
    progress = 1 - np.exp(-skill * np.arange(count) / 100)
    spread = 30 * (1 - 0.9 * progress)[:, None]
    return np.clip(np.round(optimum() + rng.normal(size=(count, 3)) * spread), 0, 39).astype(
        np.int64
    )


def make(
    directory: Path,
    agents: dict[str, float],
    *,
    seeds: int = 5,
    budget: int = 300,
    fill: int = 0,
) -> Path:
    """Write a finished run directory."""
    meta = {
        "name": "synthetic",
        "title": "A synthetic trade-off",
        "objectives": json.dumps(["latency_s", "energy_j"]),
        "limits": json.dumps(LIMITS),
        "objective_label": "ln(geometric mean of latency and energy)",
        "versions": json.dumps({"archsim": "0", "python": "3"}),
        "budget": str(budget),
        "command": "archsim run synthetic",
    }
    with Store.create(directory / "store.sqlite", LAYOUT, "digest", meta) as store:
        wanted = [(name, "", s, budget, "compare") for name in agents for s in range(seeds)]
        wanted += [("nsga2", "", 0, fill, "fill")] if fill else []
        for run in store.plan(wanted):
            skill = agents.get(run.agent, 1.0) if run.phase == "compare" else 0.02
            rng = np.random.default_rng([run.seed, len(run.agent), run.budget])
            designs = propose(rng, run.budget, skill)
            for first in range(0, run.budget, 2000):
                store.add(run.id, batch(designs[first : first + 2000], first))
            store.set_status(run.id, "done")
    return directory
