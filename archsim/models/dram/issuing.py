"""Compiled: issue given commands in order, each as early as the memory allows."""

from __future__ import annotations

from archsim.models.dram.device import issue, ready
from archsim.models.dram.layout import D_BANKS, D_GROUPS, D_SAME_BANK, PRES, REFB
from archsim.models.jit import inner


@inner
def issue_all(
    lines,
    first,
    device,
    tables,
    length,
    bus_of,
    next_bank,
    next_group,
    next_rank,
    bus_next,
    window,
    rank_state,
    counts,
):
    """Fill in column 0 of ``lines`` (cycle, command, bank, ...); ``first``: earliest cycles."""
    per_rank = device[D_GROUPS] * device[D_BANKS]
    now = 0
    for k in range(lines.shape[0]):
        c, b = lines[k, 1], lines[k, 2]
        rank = b // per_rank
        now = max(now, first[k])
        step = device[D_BANKS] if device[D_SAME_BANK] and c in (REFB, PRES) else per_rank
        for one in range(b, (rank + 1) * per_rank, step):
            t = ready(
                c,
                one,
                one // device[D_BANKS],
                rank,
                next_bank,
                next_group,
                next_rank,
                bus_next,
            )
            now = max(now, t)
        lines[k, 0] = now
        issue(
            c,
            b,
            now,
            device,
            tables,
            length,
            bus_of,
            next_bank,
            next_group,
            next_rank,
            bus_next,
            window,
            rank_state,
            counts,
        )
