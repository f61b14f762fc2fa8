"""The loop nests behind the compact operation lines, in both directions."""

from __future__ import annotations

from collections.abc import Sequence

from archsim.errors import InputError
from archsim.workload.builder import conv_einsum
from archsim.workload.graph import Einsum, matmul_einsum
from archsim.workload.yaml_schema import ConvLine, GemmLine, MatmulLine


def _axes(value: int | Sequence[int], rank: int, field: str) -> tuple[int, ...]:
    """One number for all axes, or one each."""
    axes = (value,) * rank if isinstance(value, int) else tuple(value)
    if len(axes) != rank:
        raise InputError(f"give one number, or {rank}", field=field, found=list(axes))
    return axes


def conv_nest(
    line: ConvLine, data: str, weight: str, output: str, batch: int
) -> tuple[Einsum, tuple[int, ...], tuple[int, ...]]:
    """Loop nest, kernel and output size of a convolution line."""
    rank = int(line.kind[4])
    if line.channels[0] % line.groups or line.channels[1] % line.groups:
        raise InputError(
            "the groups must divide the channels",
            field=line.name,
            found={"channels": line.channels, "groups": line.groups},
        )
    kernel = _axes(line.kernel, rank, f"{line.name}.kernel")
    size = _axes(line.size, rank, f"{line.name}.size")
    einsum = conv_einsum(
        data,
        weight,
        output,
        batch=batch,
        groups=line.groups,
        channels=(line.channels[0], line.channels[1]),
        kernel=kernel,
        size=size,
        stride=_axes(line.stride, rank, f"{line.name}.stride"),
        dilation=_axes(line.dilation, rank, f"{line.name}.dilation"),
    )
    return einsum, kernel, size


def gemm_nest(line: GemmLine, data: str, weight: str, output: str, batch: int) -> Einsum:
    """Loop nest of a gemm line."""
    return matmul_einsum(
        data,
        weight,
        output,
        rows=line.rows,
        inner=line.inner,
        columns=line.columns,
        batch=batch,
    )


def matmul_nest(line: MatmulLine, first: str, second: str, output: str, groups: int) -> Einsum:
    """Loop nest of a matmul line."""
    return matmul_einsum(
        first,
        second,
        output,
        rows=line.rows,
        inner=line.inner,
        columns=line.columns,
        batch=groups,
        shared_weight=False,
    )


def _short(axes: Sequence[int]) -> int | list[int]:
    return axes[0] if len(set(axes)) == 1 else list(axes)


def conv_fields(einsum: Einsum, rank: int) -> dict[str, object] | None:
    """The fields of the conv line that gives this nest; None if it is no plain convolution."""
    extent = einsum.extents
    if [name for name, _ in einsum.dims] != list("NGMCPQRS"):
        return None
    windows = einsum.operands[0].ranks[3:]
    if len(windows) != 2 or any(len(window) != 2 for window in windows):
        return None
    stride, dilation = ([window[i][1] for window in windows] for i in (0, 1))
    groups = extent["G"]
    fields: dict[str, object] = {
        "channels": [extent["C"] * groups, extent["M"] * groups],
        "kernel": _short([extent["R"], extent["S"]][2 - rank :]),
        "stride": _short(stride[2 - rank :]),
        "dilation": _short(dilation[2 - rank :]),
        "groups": groups,
        "size": _short([extent["P"], extent["Q"]][2 - rank :]),
    }
    for name in ("stride", "dilation", "groups"):
        if fields[name] == 1:
            del fields[name]
    return fields


def matmul_fields(einsum: Einsum) -> dict[str, int] | None:
    """Rows, inner, columns and the leading extent (``N`` or ``G``); None if it is no matmul."""
    names = [name for name, _ in einsum.dims]
    if names not in (list("NMCP"), list("GMCP")):
        return None
    extent = einsum.extents
    return {
        names[0]: extent[names[0]],
        "rows": extent["P"],
        "inner": extent["C"],
        "columns": extent["M"],
    }
