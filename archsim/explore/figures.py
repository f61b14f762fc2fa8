"""All figures of a run directory."""

from __future__ import annotations

from pathlib import Path

from archsim.explore.design_cost import design_costs
from archsim.explore.design_plots import plot_breakdown, plot_roofline
from archsim.explore.plots import plot_convergence, plot_hypervolume, plot_pareto
from archsim.explore.results import Comparison, Results, compare


def plot_all(
    results: Results,
    folder: str | Path,
    comparison: Comparison | None = None,
    ending: str = ".png",
) -> dict[str, Path]:
    """Draw every figure there is data for.

    Args:
        results: The run directory.
        folder: Where the files go.
        comparison: The comparison of the agents, if it was made already.
        ending: ``.png``, ``.pdf`` or ``.svg``.

    Returns:
        Paths by name: ``pareto``, ``convergence``, ``hypervolume``, ``breakdown``, ``roofline``.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    paths = {"pareto": plot_pareto(results, folder / f"pareto{ending}")}
    comparison = comparison or compare(results)
    if comparison is not None:
        paths["convergence"] = plot_convergence(
            results, comparison, folder / f"convergence{ending}"
        )
        paths["hypervolume"] = plot_hypervolume(comparison, folder / f"hypervolume{ending}")
    designs = design_costs(results)
    if designs:
        paths["breakdown"] = plot_breakdown(designs, folder / f"breakdown{ending}")
    if designs and designs[0].layers:
        paths["roofline"] = plot_roofline(designs[0], folder / f"roofline{ending}")
    return paths
