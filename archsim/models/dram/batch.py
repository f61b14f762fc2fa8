"""Compiled: workspace of one channel, and many controllers on the same trace at once."""

from __future__ import annotations

import numpy as np
from numba import prange

from archsim.models.dram.chains import link
from archsim.models.dram.device import K_SIZE
from archsim.models.dram.engine import run
from archsim.models.dram.engine_state import (
    B_CURRENT,
    B_ROW,
    B_SIZE,
    F_COMMAND,
    F_LEFT,
    F_NEXT,
    F_SIZE,
    S_END,
    S_LAST_BACK,
    S_LAST_OUT,
    S_SIZE,
)
from archsim.models.dram.layout import (
    D_BANKS,
    D_GROUPS,
    D_RANKS,
    D_REFI,
    D_REFI_BANK,
    D_SAME_BANK,
    D_WINDOW_COUNT,
    FREE,
    NONE,
    NUM_COMMANDS,
    P_REFRESH,
    R_END,
    R_SIZE,
    RANK_SIZE,
)
from archsim.models.jit import parallel, serial


@serial
def chains(bank, row, write, banks):
    """Links of a trace (see chains.py): int32[3, n]."""
    n = bank.size
    size = 1
    while size < 2 * n:
        size *= 2
    links = np.empty((3, n), np.int32)
    link(
        bank,
        row,
        write,
        np.empty(banks, np.int32),
        links[0],
        links[1],
        links[2],
        np.empty(size, np.int64),
        np.empty((size, 2), np.int32),
    )
    return links


@serial
def channel(
    p,
    device,
    tables,
    length,
    bus_of,
    arrival,
    write,
    bank_of,
    row,
    address,
    links,
    begin,
    back,
    log,
):
    """Simulate one channel; returns ``(result, counts)`` and fills ``begin`` and ``back``."""
    n = arrival.size
    ranks, per_group = device[D_RANKS], device[D_BANKS]
    per_rank = device[D_GROUPS] * per_group
    banks = ranks * per_rank
    group_of = np.empty(banks, np.int64)
    rank_of = np.empty(banks, np.int64)
    for b in range(banks):
        group_of[b] = b // per_group
        rank_of[b] = b // per_rank
    state = np.zeros((banks, B_SIZE), np.int64)
    state[:, B_ROW] = -1
    state[:, B_CURRENT] = NONE
    refresh = np.zeros((ranks, F_SIZE), np.int64)
    interval = device[D_REFI]
    sets = 1
    if p[P_REFRESH] > 1:
        interval = device[D_REFI_BANK]
        sets = per_group if device[D_SAME_BANK] else per_rank
    for rank in range(ranks):
        # The ranks' refreshes are spread over the interval in bit-reversed order.
        reverse, bit, rest = 0, ranks >> 1, rank
        while rest:
            if rest & 1:
                reverse |= bit
            rest >>= 1
            bit >>= 1
        refresh[rank, F_NEXT] = interval - (reverse * interval) // ranks
        refresh[rank, F_COMMAND] = NONE
        refresh[rank, F_LEFT] = (1 << sets) - 1
    s = np.zeros(S_SIZE, np.int64)
    s[S_END] = -1
    s[S_LAST_OUT] = -(1 << 40)
    s[S_LAST_BACK] = -(1 << 40)
    counts = np.zeros((ranks, RANK_SIZE), np.int64)
    result = np.zeros(R_SIZE, np.int64)
    begin[:] = -1
    back[:] = -1
    run(
        p,
        device,
        tables,
        length,
        bus_of,
        group_of,
        rank_of,
        arrival,
        write,
        bank_of,
        row,
        address,
        links[0],
        links[1],
        links[2],
        np.zeros(n, np.int8),
        begin,
        back,
        np.full(n, -1, np.int64),
        np.zeros(n, np.int64),
        s,
        state,
        np.full(banks, NONE, np.int64),
        np.full(banks, 1 << 36, np.int64),
        np.zeros(banks, np.int64),
        np.full(banks + 1, NONE, np.int64),
        np.zeros((banks // per_group + 1, NUM_COMMANDS), np.int64),
        refresh,
        np.zeros((banks, NUM_COMMANDS), np.int64),
        np.zeros((banks // per_group, NUM_COMMANDS), np.int64),
        np.zeros((ranks, NUM_COMMANDS), np.int64),
        np.zeros(NUM_COMMANDS, np.int64),
        np.full((ranks, device[D_WINDOW_COUNT]), FREE, np.int64),
        np.zeros((ranks, K_SIZE), np.int64),
        counts,
        log,
        result,
    )
    return result, counts


@parallel
def designs(
    policies,
    device,
    tables,
    length,
    bus_of,
    arrival,
    write,
    bank_of,
    row,
    address,
    links,
    starts,
    quantiles,
):
    """Many controllers on one trace; its channels work on their own.

    Args:
        policies: int64[N, P_SIZE].
        arrival, write, bank_of, row, address: Requests, sorted by channel.
        links: Those of each channel's requests (:func:`chains`), one after another, int32[3 n].
        starts: First request of every channel, and the number of requests, int64[channels + 1].
        quantiles: Shares of the requests, float64[Q].

    Returns:
        Results int64[N, R_SIZE], counts int64[N, channels, ranks, RANK_SIZE], and the latencies
        that the given shares of the requests do not exceed, int64[N, Q].
    """
    count, channels = policies.shape[0], starts.size - 1
    results = np.zeros((count, R_SIZE), np.int64)
    counts = np.zeros((count, channels, device[D_RANKS], RANK_SIZE), np.int64)
    tails = np.zeros((count, quantiles.size), np.int64)
    for k in prange(count):
        begin = np.empty(arrival.size, np.int64)
        back = np.empty(arrival.size, np.int64)
        log = np.empty((0, 5), np.int64)
        for c in range(channels):
            a, b = starts[c], starts[c + 1]
            if a == b:
                continue
            result, one = channel(
                policies[k],
                device,
                tables,
                length,
                bus_of,
                arrival[a:b],
                write[a:b],
                bank_of[a:b],
                row[a:b],
                address[a:b],
                links[3 * a : 3 * b].reshape(3, b - a),
                begin[a:b],
                back[a:b],
                log,
            )
            for j in range(R_SIZE):
                both = max(results[k, j], result[j]) if j == R_END else results[k, j] + result[j]
                results[k, j] = both
            counts[k, c] = one
        if quantiles.size:
            latency = np.sort(back - begin)
            for q in range(quantiles.size):
                at = int(np.ceil(quantiles[q] * latency.size)) - 1
                tails[k, q] = latency[max(at, 0)]
    return results, counts, tails
