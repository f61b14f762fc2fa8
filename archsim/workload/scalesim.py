"""SCALE-Sim topology files: one convolution or matrix product a row, without padding."""

from __future__ import annotations

import csv
from pathlib import Path

from archsim.errors import InputError
from archsim.inputs import read_text
from archsim.workload.builder import MAX_EXTENT, Builder
from archsim.workload.graph import Workload

_CONV = (
    "IFMAP height",
    "IFMAP width",
    "filter height",
    "filter width",
    "channels",
    "filters",
    "stride",
)
_GEMM = ("M", "N", "K")


def import_scalesim(path: str | Path) -> Workload:
    """Read a SCALE-Sim topology (convolutions, or ``Layer, M, N, K`` matrix products).

    A row is ``name, IFMAP height, IFMAP width, filter height, filter width, channels, filters,
    stride[, stride along the width]``. Output extents are ``ceil((H - R + stride) / stride)`` as
    SCALE-Sim computes them; the layers are independent, each with an input of its own.

    Returns:
        One ``conv2d`` or ``gemm`` a row, batch 1.

    Raises:
        InputError: Names the line and the column.
    """
    path = Path(path)
    try:
        rows = [
            (number, [cell.strip() for cell in row])
            for number, row in enumerate(csv.reader(read_text(path).splitlines()), start=1)
        ]
    except csv.Error as error:
        raise InputError(f"not a CSV file: {error}", source=path) from None
    rows = [(number, row) for number, row in rows if any(row)]
    if not rows or rows[0][1][0].lower() not in ("layer", "layer name"):
        raise InputError(
            "not a SCALE-Sim topology", source=path, expected="a row 'Layer name, ...'"
        )
    header = [cell.upper() for cell in rows[0][1]]
    gemm = header[1:4] == list(_GEMM)
    builder = Builder(path.stem)
    outputs = []
    for number, row in rows[1:]:
        where = f"line {number}"
        name = row[0] or where
        if gemm:
            m, n, k = _numbers(row, _GEMM, path, where)
            outputs.append(_gemm(builder, name, m, n, k))
        else:
            values = _numbers(row, _CONV, path, where)
            wide = row[8] if len(row) > 8 and row[8].isdigit() else ""
            across = _count(wide, path, f"{where}, stride along the width") if wide else values[6]
            outputs.append(_conv(builder, name, values, across, path, where))
    workload = builder.workload(outputs, f"SCALE-Sim topology {path.name}")
    if not workload.operations:
        raise InputError("the topology has no layer", source=path)
    return workload


def _count(text: str, path: Path, field: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 15:
        raise InputError("not a count", source=path, field=field, found=text)
    if not 1 <= int(text) <= MAX_EXTENT:
        raise InputError("must be at least 1", source=path, field=field, found=text)
    return int(text)


def _numbers(row: list[str], names: tuple[str, ...], path: Path, where: str) -> list[int]:
    if len(row) <= len(names):
        raise InputError(
            "too few columns", source=path, field=where, found=row, expected=", ".join(names)
        )
    pairs = zip(row[1:], names, strict=False)
    return [_count(cell, path, f"{where}, {name}") for cell, name in pairs]


def _own(builder: Builder, name: str) -> str:
    """A name no earlier layer has."""
    count, unique = 1, name
    while unique in builder.tensors:
        count += 1
        unique = f"{name}_{count}"
    return unique


def _gemm(builder: Builder, name: str, m: int, n: int, k: int) -> str:
    name = _own(builder, name)
    output = builder.tensor(name, (m, n))
    data = builder.tensor(f"{name}.input", (m, k), role="input")
    weight = builder.tensor(f"{name}.weight", (n, k), role="weight")
    builder.linear(name, data, weight, output, inner=k, columns=n)
    return output


def _conv(
    builder: Builder, name: str, values: list[int], across: int, path: Path, where: str
) -> str:
    height, width, rows, columns, channels, filters, stride = values
    if rows > height or columns > width:
        raise InputError(
            "the filter is larger than the input", source=path, field=where, found=values
        )
    size = (-(-(height - rows + stride) // stride), -(-(width - columns + across) // across))
    name = _own(builder, name)
    output = builder.tensor(name, (1, filters, *size))
    data = builder.tensor(f"{name}.input", (1, channels, height, width), role="input")
    weight = builder.tensor(f"{name}.weight", (filters, channels, rows, columns), role="weight")
    builder.conv(name, data, weight, output, stride=(stride, across), dilation=(1, 1))
    return output
