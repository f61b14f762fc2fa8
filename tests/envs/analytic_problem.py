"""A small analytic problem: environments are tested without the cost model behind them."""

from __future__ import annotations

import numpy as np

from archsim.envs.objective import Objective
from archsim.space import DesignSpace, Parameter


class AnalyticProblem:
    """Latency falls and area rises with the array; a buffer below 4 words cannot hold a tile."""

    metric_names = ("latency_s", "energy_j", "area_mm2")

    def __init__(self) -> None:
        self.space = DesignSpace(
            [
                Parameter("rows", (2, 4, 8, 16), role="compute"),
                Parameter("cols", (2, 4, 8, 16), role="compute"),
                Parameter("buffer", (1, 2, 4, 8, 16), role="memory", log=True),
                Parameter("dataflow", ("a", "b", "c"), role="mapping"),
                Parameter("fixed", (7,), role="technology"),
            ],
            ["rows * cols <= 64", "dataflow != 'c' or rows >= 8"],
        )
        self.objective = Objective(
            ("latency_s", "energy_j"),
            {"area_mm2": 60.0},
            references={"latency_s": 0.1, "energy_j": 1e-3},
        )
        self.features = np.array([0.25, 0.75], dtype=np.float32)
        self.calls: list[int] = []

    def evaluate(self, indices: np.ndarray) -> dict[str, np.ndarray]:
        self.calls.append(len(indices))
        values = self.space.decode(np.atleast_2d(indices))
        rows, cols, buffer = (values[n].astype(float) for n in ("rows", "cols", "buffer"))
        flow = values["dataflow"]
        slow = np.where(flow == "a", 1.0, np.where(flow == "b", 1.3, 0.8))
        shortage = np.maximum(np.log(4.0 / buffer), 0.0)
        metrics = {
            "latency_s": slow / (rows * cols) + 0.01 / buffer,
            "energy_j": 1e-4 * (rows + cols) / np.sqrt(buffer) + 1e-5 * buffer,
            "area_mm2": rows * cols + 2.0 * buffer,
            "feasible": shortage == 0.0,
            "violation": shortage,
        }
        metrics.update(self.objective.score(metrics))
        return metrics
