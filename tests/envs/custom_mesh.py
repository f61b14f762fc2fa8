"""A problem of one's own, as the documentation shows it: one class of 25 lines."""

import numpy as np

from archsim.envs import DesignProblem, Objective
from archsim.space import DesignSpace, Parameter


class Mesh(DesignProblem):
    """A mesh of routers for all-to-all traffic."""

    space = DesignSpace(
        [
            Parameter("nodes", (16, 64, 256), role="compute"),
            Parameter("link_bits", (16, 32, 64, 128), role="interconnect", log=True),
            Parameter("buffer_flits", (2, 4, 8), role="memory"),
        ],
        ["nodes * link_bits <= 16384"],
    )
    metric_names = ("latency_s", "energy_j", "area_mm2")
    objective = Objective(("latency_s", "energy_j"), limits={"area_mm2": 1.2})

    def __init__(self, bits: int = 4096) -> None:
        self.bits = bits
        super().__init__()

    def evaluate_batch(self, designs: np.ndarray) -> dict:
        values = self.space.decode(designs)
        hops = 2 / 3 * np.sqrt(values["nodes"])
        waiting = 1 + 4 / values["buffer_flits"]
        return {
            "latency_s": 1e-9 * (3 * hops * waiting + self.bits / values["link_bits"]),
            "energy_j": 1e-12 * self.bits * hops,
            "area_mm2": 1e-4 * values["nodes"] * values["link_bits"],
            "violation": np.maximum(np.log(8 / values["link_bits"] * values["buffer_flits"]), 0),
        }
