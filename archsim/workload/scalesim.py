"""SCALE-Sim topology files: one convolution or matrix product a row, without padding."""

from __future__ import annotations

import csv
from dataclasses import replace
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
    stride[, stride along the width][, sparsity]``. Output extents are
    ``ceil((H - R + stride) / stride)`` as SCALE-Sim computes them; the layers are independent, each
    with an input of its own. As there, a layer with ``DP`` in its name is depthwise: every channel
    has its own ``filters``. A sparsity column must say that nothing is left out (``1:1``).

    Returns:
        One ``conv2d`` or ``gemm`` a row. Convolutions are of batch 1, which can be changed.

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
    if not rows or not rows[0][1][0].lower().startswith("layer"):
        raise InputError(
            "not a SCALE-Sim topology", source=path, expected="a row 'Layer name, ...' first"
        )
    header = [cell.upper() for cell in rows[0][1]]
    gemm = header[1:4] == list(_GEMM)
    if not gemm and (len(header) > 1 and header[1][:1] in "MNK" and len(header) < 7):
        raise InputError(
            "unknown columns", source=path, field=f"line {rows[0][0]}", found=rows[0][1],
            expected="Layer, M, N, K or Layer name, " + ", ".join(_CONV),
        )  # fmt: skip
    builder = Builder(path.stem)
    outputs = []
    for number, row in rows[1:]:
        where = f"line {number}"
        name = row[0] or where
        if gemm:
            m, n, k = _numbers(row, _GEMM, path, where)
            _dense(row[4:], path, where)
            outputs.append(_gemm(builder, name, m, n, k))
        else:
            values = _numbers(row, _CONV, path, where)
            rest = row[8:]
            across = values[6]
            if rest and rest[0].isdigit():
                across = _count(rest.pop(0), path, f"{where}, stride along the width")
            _dense(rest, path, where)
            outputs.append(_conv(builder, name, values, across, path, where))
    workload = builder.workload(outputs, f"SCALE-Sim topology {path.name}")
    if not workload.operations:
        raise InputError("the topology has no layer", source=path)
    if gemm:
        return workload
    tensors = {
        name: tensor if tensor.role == "weight" else replace(tensor, batch_axis=0)
        for name, tensor in workload.tensors.items()
    }
    return replace(workload, tensors=tensors, batch=1)


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


def _dense(rest: list[str], path: Path, where: str) -> None:
    """Refuse what a row holds beyond its extents, a sparsity of ``n:n`` apart."""
    given = [cell for cell in rest if cell]
    if not given:
        return
    kept, colon, block = given[0].partition(":")
    if len(given) > 1 or not colon or not (kept.isdigit() and block.isdigit()):
        raise InputError(
            "more columns than a layer has", source=path, field=where, found=given[0],
            expected="nothing, or a sparsity such as 1:1",
        )  # fmt: skip
    if kept != block:
        raise InputError(
            "sparse layers are not modelled", source=path, field=f"{where}, sparsity",
            found=given[0], expected="1:1",
        )  # fmt: skip


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
    groups = channels if "DP" in name else 1
    name = _own(builder, name)
    output = builder.tensor(name, (1, filters * groups, *size))
    data = builder.tensor(f"{name}.input", (1, channels, height, width), role="input")
    held = (filters * groups, channels // groups, rows, columns)
    weight = builder.tensor(f"{name}.weight", held, role="weight")
    builder.conv(
        name, data, weight, output, stride=(stride, across), dilation=(1, 1), groups=groups
    )
    return output
