"""Controllers that serve a trace alike, whatever the trace: one of each class stands for all.

Of the options of a controller some cannot matter under others. The rules, each with the reason it
follows from how the controller works (:mod:`archsim.models.dram.engine`):

1. Without refresh nothing is postponed or pulled in.
2. The simple arbiter queues nothing, so it has no limit on active transactions.
3. A queueing arbiter lets at most ``max_active`` requests into the controller before their
   responses are back, so a buffer of at least that depth never fills: its depth and what the depth
   counts do not matter.
4. On a trace of reads only no request waits for the bus to turn, so grouping by direction changes
   no choice, and counting reads and writes apart or together is the same. (So it is for writes
   only, as far as counting goes.)
5. A buffer that counts all requests, or each direction, and holds one, holds one request: there is
   no choice between requests, none is ahead of another, and no further hit is ever waiting, so
   open and open-adaptive pages are the same, and so are closed and closed-adaptive ones.
6. Where requests are served in their order (5.), or responses leave in it, both arbiters with
   queues hand responses on alike; in the first case the order of the response queue is given too.
7. A controller that closes the row after every access has no row hits to prefer: the row was opened
   for the oldest request of the bank, which is also its oldest hit.

The tests compare whole classes by simulation.
"""

from __future__ import annotations

import numpy as np

from archsim.models.dram import layout as L


def canonical(policies: np.ndarray, write: np.ndarray) -> np.ndarray:
    """The representative of every controller's class.

    Args:
        policies: Policy vectors, int64[N, P_SIZE] (:mod:`archsim.models.dram.layout`).
        write: Directions of the trace, 1 for a write, int[n].

    Returns:
        int64[N, P_SIZE]; two controllers with equal rows serve the trace alike in every cycle.

    Example:
        >>> from archsim.models.dram.policy import Policy
        >>> pair = [Policy(max_active=active).vector() for active in (1, 64)]
        >>> np.ptp(canonical(np.array(pair), np.zeros(3, np.int8)), axis=0).max()
        np.int64(0)
    """
    p = np.array(policies, np.int64)

    def settle(rows: np.ndarray, column: int, value: int | np.ndarray) -> None:
        p[rows, column] = value if np.ndim(value) == 0 else np.asarray(value)[rows]

    settle(p[:, L.P_REFRESH] == L.Refresh.NONE, L.P_POSTPONE, 0)
    settle(p[:, L.P_REFRESH] == L.Refresh.NONE, L.P_PULL_IN, 0)

    queues = p[:, L.P_ARBITER] != L.Arbiter.SIMPLE
    settle(~queues, L.P_ACTIVE, 1)
    active = p[:, L.P_ACTIVE].copy()
    never_full = queues & (np.minimum(p[:, L.P_DEPTH_READ], p[:, L.P_DEPTH_WRITE]) >= active)
    settle(never_full, L.P_BUFFER, L.Buffer.SHARED)
    for column in (L.P_DEPTH_READ, L.P_DEPTH_WRITE):
        settle(never_full, column, active)

    equal_depths = p[:, L.P_DEPTH_READ] == p[:, L.P_DEPTH_WRITE]
    directions = p[:, L.P_BUFFER] == L.Buffer.READ_WRITE
    if write.min() == write.max():
        settle(directions & equal_depths, L.P_BUFFER, L.Buffer.SHARED)
    if write.max() == 0:
        grouping = p[:, L.P_SCHEDULER] == L.Scheduler.FR_FCFS_GRP
        settle(grouping, L.P_SCHEDULER, L.Scheduler.FR_FCFS)

    one = (p[:, L.P_BUFFER] != L.Buffer.BANKWISE) & equal_depths & (p[:, L.P_DEPTH_READ] == 1)
    settle(one, L.P_BUFFER, L.Buffer.SHARED)
    settle(one, L.P_SCHEDULER, L.Scheduler.FIFO)
    settle(one & (p[:, L.P_PAGE] == L.Page.OPEN_ADAPTIVE), L.P_PAGE, L.Page.OPEN)
    settle(one & (p[:, L.P_PAGE] == L.Page.CLOSED_ADAPTIVE), L.P_PAGE, L.Page.CLOSED)
    settle(one, L.P_RESPONSE, L.Order.REORDER)

    in_order = p[:, L.P_RESPONSE] == L.Order.REORDER
    settle(queues & in_order, L.P_ARBITER, L.Arbiter.REORDER)

    hits_first = p[:, L.P_SCHEDULER] == L.Scheduler.FR_FCFS
    settle(hits_first & (p[:, L.P_PAGE] == L.Page.CLOSED), L.P_SCHEDULER, L.Scheduler.FIFO)
    return p
