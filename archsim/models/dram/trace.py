"""Memory traces: what they hold, and readers of the simulators' formats."""

from __future__ import annotations

import gzip
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from archsim.errors import InputError

MAX_TRACE_BYTES = 1 << 30
_WRITES = {"w": 1, "write": 1, "st": 1, "r": 0, "read": 0, "ld": 0}


@dataclass(frozen=True, eq=False)
class Trace:
    """Requests in the order in which they are made.

    Attributes:
        arrival: Cycle before which a request is not made, int64[n].
        write: 1 for a write, int8[n].
        address: Byte address, int64[n].
        name: For tables and errors.
    """

    arrival: np.ndarray
    write: np.ndarray
    address: np.ndarray
    name: str = "trace"

    def __post_init__(self) -> None:
        sizes = {len(self.arrival), len(self.write), len(self.address)}
        if sizes == {0} or len(sizes) != 1:
            raise InputError(
                "a trace needs as many arrival cycles as directions and addresses, at least one",
                source=self.name,
                found=[len(self.arrival), len(self.write), len(self.address)],
            )
        for name, kind in (("arrival", np.int64), ("write", np.int8), ("address", np.int64)):
            object.__setattr__(self, name, np.ascontiguousarray(getattr(self, name), kind))
        if self.arrival.min() < 0 or self.address.min() < 0:
            raise InputError("arrival cycles and addresses must not be negative", source=self.name)
        if not np.isin(self.write, (0, 1)).all():
            raise InputError("a request is a read (0) or a write (1)", source=self.name)

    def __len__(self) -> int:
        return self.arrival.size


def read_trace(path: str | Path, form: str = "auto", gap: int = 0) -> Trace:
    """Read a trace file, gzip-compressed or not.

    Args:
        path: The file.
        form: ``dramsys`` (also ArchGym: ``cycle: read|write 0xaddress``), ``dramsim3``
            (``0xaddress READ|WRITE cycle``), ``ramulator`` (``LD|ST address``, decimal or
            0x...), ``addresses`` (``R|W,hex address``), or ``auto`` to tell from the first line.
        gap: For formats without a time: request ``i`` is not made before cycle ``gap * i``.

    Raises:
        InputError: The file cannot be read, or a line is not of the format.
    """
    path = Path(path)
    lines = _lines(path)
    if form == "auto":
        form = _recognise(next(iter(lines), ""), path)
    if form not in _READERS:
        raise InputError(
            "no such trace format", field="format", found=form, expected=", ".join(_READERS)
        )
    arrival: list[int] = []
    write: list[int] = []
    address: list[int] = []
    reader = _READERS[form]
    for number, line in enumerate(lines, 1):
        try:
            cycle, direction, where = reader(line)
            write.append(_WRITES[direction.lower()])
            address.append(where)
        except (ValueError, IndexError, KeyError):
            raise InputError(
                f"not a line of a {form} trace",
                source=path,
                field=f"request {number}",
                found=line,
                expected=_EXAMPLES[form],
            ) from None
        arrival.append(gap * (number - 1) if cycle is None else cycle)
    if address and max(max(address), max(arrival)) >= 1 << 62:
        raise InputError("a cycle or address beyond 62 bits", source=path)
    return Trace(np.array(arrival), np.array(write), np.array(address), path.name.split(".")[0])


def _lines(path: Path) -> list[str]:
    try:
        opener = gzip.open if path.suffix == ".gz" else open
        with opener(path, "rb") as file:
            data = file.read(MAX_TRACE_BYTES + 1)
        text = data.decode("ascii")
    except UnicodeDecodeError:
        raise InputError("not a text file", source=path) from None
    except (OSError, EOFError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError(f"cannot read file: {reason}", source=path) from None
    if len(data) > MAX_TRACE_BYTES:
        raise InputError(f"trace larger than {MAX_TRACE_BYTES} bytes", source=path)
    return [
        line
        for raw in text.splitlines()
        if (line := raw.strip()) and not line.startswith("#") and line != "op,addr"
    ]


def _recognise(line: str, path: Path) -> str:
    for form, reader in _READERS.items():
        try:
            _, direction, _ = reader(line)
            if direction.lower() in _WRITES:
                return form
        except (ValueError, IndexError):
            continue
    raise InputError(
        "not a trace of a known format",
        source=path,
        found=line,
        expected=" or ".join(_EXAMPLES.values()),
    )


def _dramsys(line: str) -> tuple[int | None, str, int]:
    cycle, *rest = line.split()
    if rest[0].startswith("("):  # burst length, which is the memory's
        rest = rest[1:]
    direction, address = rest[0], rest[1]
    return int(cycle.removesuffix(":")), direction, int(address, 16)


def _dramsim3(line: str) -> tuple[int | None, str, int]:
    address, direction, cycle = line.split()
    return int(cycle), direction, int(address, 16)


def _ramulator(line: str) -> tuple[int | None, str, int]:
    direction, address = line.split()
    return None, direction, int(address, 0)


def _addresses(line: str) -> tuple[int | None, str, int]:
    direction, address = line.split(",")
    return None, direction, int(address, 16)


_READERS = {
    "dramsys": _dramsys,
    "dramsim3": _dramsim3,
    "ramulator": _ramulator,
    "addresses": _addresses,
}
_EXAMPLES = {
    "dramsys": "'12: read 0x40'",
    "dramsim3": "'0x40 READ 12'",
    "ramulator": "'LD 0x40'",
    "addresses": "'R,40'",
}


def join(traces: Iterable[Trace], name: str = "joined") -> Trace:
    """Traces one after another, each starting where the last one's arrivals end."""
    arrival, write, address, start = [], [], [], 0
    for trace in traces:
        arrival.append(trace.arrival + start)
        write.append(trace.write)
        address.append(trace.address)
        start = int(arrival[-1].max()) + 1
    return Trace(np.concatenate(arrival), np.concatenate(write), np.concatenate(address), name)
