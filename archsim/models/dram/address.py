"""Address mappings: from byte addresses to channel, rank, bank, row and column."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from archsim.errors import InputError
from archsim.models.dram.spec import DramSpec

FIELDS = ("channel", "rank", "group", "bank", "row", "column")


@dataclass(frozen=True)
class Location:
    """Where requests go.

    Attributes:
        channel: int32[n].
        bank: Bank of the channel, counted over bank groups and ranks, int32[n].
        row: int32[n].
        column: Burst within the row, int32[n].
    """

    channel: np.ndarray
    bank: np.ndarray
    row: np.ndarray
    column: np.ndarray


def widths(spec: DramSpec) -> dict[str, int]:
    """Address bits of every field; a column is a whole burst."""
    s = spec.structure
    sizes = {
        "channel": s.channels,
        "rank": s.ranks,
        "group": s.bank_groups,
        "bank": s.banks_per_group,
        "row": s.rows,
        "column": s.columns // s.burst_length,
    }
    return {name: size.bit_length() - 1 for name, size in sizes.items()}


def parse_mapping(text: str, spec: DramSpec) -> list[tuple[str, int]]:
    """Fields of a mapping from the least significant bit up, with the bits of each part.

    Args:
        text: Field names from the most to the least significant, joined by ``-``: ``row``,
            ``rank``, ``bank`` (within its group), ``group``, ``column``, ``channel``. A field
            may come in parts of given bits, as in ``row-column:3-bank-column:4``; fields that are
            left out must be of one element.

    Raises:
        InputError: Unknown field, or bits that do not add up.

    Example:
        >>> from archsim.models.dram.spec import load_spec
        >>> parse_mapping("row-bank-column", load_spec("ddr3_1600_1gb_x8"))
        [('column', 7), ('bank', 3), ('row', 14)]
    """
    need = widths(spec)
    parts: list[tuple[str, int]] = []
    for part in text.split("-"):
        name, colon, given = part.strip().partition(":")
        if name not in FIELDS:
            raise InputError(
                "unknown field of an address mapping",
                field="mapping",
                found=name,
                expected=", ".join(FIELDS),
            )
        if colon and not given.isdecimal():
            raise InputError("not a number of bits", field="mapping", found=part)
        parts.append((name, int(given) if colon else need[name]))
    total = {name: sum(b for n, b in parts if n == name) for name in FIELDS}
    for name, bits in need.items():
        if total[name] != bits:
            raise InputError(
                f"the mapping gives {name} {total[name]} bits, the memory has {bits}",
                field="mapping",
                found=text,
            )
    return parts[::-1]


def decode(
    address: np.ndarray, spec: DramSpec, mapping: str | None = None, wrap: bool = False
) -> Location:
    """Place byte addresses in the memory.

    Args:
        address: Byte addresses, int64[n].
        spec: The memory.
        mapping: See :func:`parse_mapping`; the memory's own when None.
        wrap: Take addresses beyond the memory modulo its size instead of refusing them.

    Raises:
        InputError: A wrong mapping, or an address outside the memory.
    """
    s = spec.structure
    if address.size and not wrap and (address.min() < 0 or address.max() >= s.capacity_bytes):
        outside = address.min() if address.min() < 0 else address.max()
        raise InputError(
            "address outside the memory",
            field="address",
            found=hex(int(outside)),
            expected=f"0 to {hex(s.capacity_bytes - 1)}",
        )
    at = (s.burst_bytes).bit_length() - 1
    found = {name: np.zeros(address.size, np.int64) for name in FIELDS}
    shift = dict.fromkeys(FIELDS, 0)
    for name, bits in parse_mapping(spec.mapping if mapping is None else mapping, spec):
        found[name] |= ((address >> at) & ((1 << bits) - 1)) << shift[name]
        shift[name] += bits
        at += bits
    bank = (found["rank"] * s.bank_groups + found["group"]) * s.banks_per_group + found["bank"]
    return Location(
        found["channel"].astype(np.int32),
        bank.astype(np.int32),
        found["row"].astype(np.int32),
        found["column"].astype(np.int32),
    )
