"""Every evaluation as one row of a CSV file; same results, same bytes."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np

from archsim.explore.results import Results


def write_csv(run: str | Path, out: str | Path) -> int:
    """Write all evaluations, ordered by run and by their order within it.

    Columns: agent, options, seed, budget, phase, order (from 1), the parameters with their values,
    the metrics in SI units, and the reward. Numbers are written so that they read back exactly.

    Args:
        run: The run directory.
        out: The file.

    Returns:
        Number of rows.

    Raises:
        InputError: There are no results.
    """
    results = Results(run)
    space = results.problem.space
    values = space.decode(results.indices)
    columns = [np.asarray(values[name]).tolist() for name in space.names]
    columns += [results.metrics[name].tolist() for name in results.layout.metrics]
    designs = list(zip(*columns, strict=True))
    found = results.evaluations
    heads = {r.id: (r.agent, r.options, r.seed, r.budget, r.phase) for r in results.runs}
    out = Path(out)
    with out.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        first = ("agent", "options", "seed", "budget", "phase", "order")
        writer.writerow((*first, *space.names, *results.layout.metrics, "reward"))
        writer.writerows(
            (*heads[run_id], order + 1, *designs[design], reward)
            for run_id, order, design, reward in zip(
                found.run.tolist(),
                found.order.tolist(),
                found.design.tolist(),
                found.reward.tolist(),
                strict=True,
            )
        )
    return len(found.run)
