"""The design space of ArchGym's memory-controller environment, many designs at a time.

Ten parameters with the names ArchGym uses, over their full ranges: 28,311,552 controllers
(Krishnan et al., "ArchGym", ISCA 2023; parameter table of its release). Latency is in seconds:
the released environment drops the unit its simulator prints.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np

from archsim.errors import InputError
from archsim.models.dram import layout as L
from archsim.models.dram.policy import ARBITERS, BUFFERS, ORDERS, PAGES, REFRESHES, SCHEDULERS
from archsim.models.dram.simulate import Workbench
from archsim.models.dram.spec import load_spec
from archsim.models.dram.trace import Trace

Release = Literal["4.0", "5.1"]
#: Parameter: its values, in the order ArchGym lists them.
PARAMETERS: dict[str, tuple[Any, ...]] = {
    "PagePolicy": ("Open", "OpenAdaptive", "Closed", "ClosedAdaptive"),
    "Scheduler": ("Fifo", "FrFcfsGrp", "FrFcfs"),
    "SchedulerBuffer": ("Bankwise", "ReadWrite", "Shared"),
    "RequestBufferSize": tuple(range(1, 9)),
    "RespQueue": ("Fifo", "Reorder"),
    "RefreshPolicy": ("NoRefresh", "AllBank"),
    "RefreshMaxPostponed": tuple(range(1, 9)),
    "RefreshMaxPulledin": tuple(range(1, 9)),
    "Arbiter": ("Simple", "Fifo", "Reorder"),
    "MaxActiveTransactions": tuple(range(1, 129)),
}
_CODES: dict[str, tuple[int, Mapping[str, int] | None]] = {
    "PagePolicy": (L.P_PAGE, PAGES),
    "Scheduler": (L.P_SCHEDULER, SCHEDULERS),
    "SchedulerBuffer": (L.P_BUFFER, BUFFERS),
    "RequestBufferSize": (L.P_DEPTH_READ, None),
    "RespQueue": (L.P_RESPONSE, ORDERS),
    "RefreshPolicy": (L.P_REFRESH, REFRESHES),
    "RefreshMaxPostponed": (L.P_POSTPONE, None),
    "RefreshMaxPulledin": (L.P_PULL_IN, None),
    "Arbiter": (L.P_ARBITER, ARBITERS),
    "MaxActiveTransactions": (L.P_ACTIVE, None),
}
METRICS = (
    "time_s",
    "latency_s",
    "latency_p95_s",
    "latency_p99_s",
    "power_w",
    "energy_j",
    "bandwidth_bytes_per_s",
    "row_hit_rate",
)


def policies(columns: Mapping[str, Sequence[Any]], dramsys: Release = "5.1") -> np.ndarray:
    """Policy vectors of designs given as one sequence of values per parameter.

    Numbers may go beyond ArchGym's ranges, as its reinforcement-learning space does (buffers of
    up to 128); names must be known.

    Args:
        columns: Every parameter of :data:`PARAMETERS`; all of the same length.
        dramsys: Release whose initiator is modelled, ``5.1`` or ``4.0`` (ArchGym's binary).

    Returns:
        int64[N, P_SIZE].

    Raises:
        InputError: A parameter is missing, unknown, or has a wrong value.
    """
    from archsim.models.dram.policy import Policy

    if set(columns) != set(PARAMETERS):
        wrong = sorted(set(columns) ^ set(PARAMETERS))
        raise InputError("parameters missing or unknown", found=wrong)
    lengths = {len(values) for values in columns.values()}
    if len(lengths) != 1:
        raise InputError("every parameter needs one value a design", found=sorted(lengths))
    vectors = np.tile(Policy(dramsys=dramsys).vector(), (lengths.pop(), 1))
    for name, (at, codes) in _CODES.items():
        try:
            values = [codes[v] if codes else int(v) for v in columns[name]]
        except (KeyError, ValueError, TypeError):
            raise InputError(
                "not a value of this parameter",
                field=name,
                found=list(columns[name])[:4],
                expected=", ".join(map(str, codes or PARAMETERS[name])),
            ) from None
        least = 0 if "Max" in name and "Refresh" in name else 1
        if not codes and values and not least <= min(values) <= max(values) <= 1 << 20:
            raise InputError("number out of range", field=name, found=[min(values), max(values)])
        vectors[:, at] = values
    vectors[:, L.P_DEPTH_WRITE] = vectors[:, L.P_DEPTH_READ]
    return vectors


def random_policies(count: int, random: np.random.Generator) -> np.ndarray:
    """Policy vectors of designs drawn uniformly from the space."""
    return policies(
        {
            name: [values[k] for k in random.integers(0, len(values), count)]
            for name, values in PARAMETERS.items()
        }
    )


class ControllerProblem:
    """Design points of the memory controller on one trace, evaluated together.

    Args:
        trace: The requests.
        memory: DRAM preset; ArchGym's by default.
        dramsys: Release whose initiator is modelled.
        allow_data_loss: Take designs without refresh as feasible.

    Raises:
        InputError: Unknown memory, or an address outside of it.
    """

    def __init__(
        self,
        trace: Trace,
        memory: str = "ddr3_1600_1gb_x8",
        *,
        dramsys: Release = "5.1",
        allow_data_loss: bool = False,
    ) -> None:
        self._bench = Workbench(load_spec(memory), trace)
        self._dramsys = dramsys
        self._allow = allow_data_loss

    def evaluate(self, columns: Mapping[str, Sequence[Any]]) -> dict[str, np.ndarray]:
        """Metrics of designs.

        Args:
            columns: One sequence of values per parameter of :data:`PARAMETERS`.

        Returns:
            Arrays over the designs: the :data:`METRICS`, and ``feasible``, False for designs
            that lose data because they do not refresh.
        """
        vectors = self.vectors(columns)
        found = self.measure(vectors)
        found["feasible"] = (vectors[:, L.P_REFRESH] != 0) | self._allow
        return found

    def vectors(self, columns: Mapping[str, Sequence[Any]]) -> np.ndarray:
        """Policy vectors of designs, see :func:`policies`."""
        return policies(columns, self._dramsys)

    def measure(self, vectors: np.ndarray) -> dict[str, np.ndarray]:
        """The :data:`METRICS` of policy vectors int64[N, P_SIZE]."""
        found = self._bench.evaluate(vectors, (0.95, 0.99))
        requests = len(self._bench.trace)
        return {
            "time_s": found.time_s,
            "latency_s": found.latency_s,
            "latency_p95_s": found.tail_latency_s[:, 0],
            "latency_p99_s": found.tail_latency_s[:, 1],
            "power_w": found.power_w,
            "energy_j": found.energy_j,
            "bandwidth_bytes_per_s": found.bandwidth_bytes_per_s,
            "row_hit_rate": found.row_hits / requests,
        }
