"""Compiled: for every request, the next one of its bank, and of its row in either direction.

Queues of a controller need no lists then: the oldest request of a bank, and the oldest hit of an
open row, are found by following these links past requests already served.
"""

from __future__ import annotations

from archsim.models.jit import inner

#: Odd constant of Fibonacci hashing, 2**64 divided by the golden ratio (Knuth, vol. 3, 6.4).
_HASH = -7046029254386353131


@inner
def link(bank, row, write, banks, next_bank, next_same, next_other, keys, last):
    """Fill the links of a trace of ``n`` requests; a link of ``n`` leads nowhere.

    Args:
        bank: Bank of each request, int32[n].
        row: Row of each request, int32[n].
        write: 1 for a write, int8[n].
        banks: Scratch, int32[number of banks].
        next_bank: Out: next request of the same bank, int32[n].
        next_same: Out: next of the same row in the same direction, int32[n].
        next_other: Out: next of the same row in the other direction, int32[n].
        keys: Scratch, int64[a power of two, at least 2 n].
        last: Scratch, int32[as many, 2].
    """
    n = bank.size
    mask = keys.size - 1
    shift = 0
    while (1 << shift) < keys.size:
        shift += 1
    for b in range(banks.size):
        banks[b] = n
    for k in range(keys.size):
        keys[k] = -1
    for i in range(n - 1, -1, -1):
        next_bank[i] = banks[bank[i]]
        banks[bank[i]] = i
        key = (bank[i] << 32) | row[i]
        at = ((key * _HASH) >> (64 - shift)) & mask
        while keys[at] != -1 and keys[at] != key:
            at = (at + 1) & mask
        if keys[at] == -1:
            keys[at] = key
            last[at, 0] = n
            last[at, 1] = n
        direction = write[i]
        next_same[i] = last[at, direction]
        next_other[i] = last[at, 1 - direction]
        last[at, direction] = i
