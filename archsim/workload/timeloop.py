"""Timeloop problem files (v0.4 and its forerunners): the ``problem:`` block as a workload."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StrictInt

from archsim.errors import InputError
from archsim.inputs import parse_yaml, read_text, validate
from archsim.workload.builder import MAX_EXTENT
from archsim.workload.graph import Access, Einsum, Operation, Rank, Tensor, Workload

Operand = Literal["input", "weight", "output"]

_Term = Annotated[list[StrictInt | str], Field(min_length=1, max_length=3)]


class _Loose(BaseModel):
    """Timeloop files carry more than is read here; what is read is checked."""

    model_config = ConfigDict(extra="ignore", frozen=True, allow_inf_nan=False)


class _Coefficient(_Loose):
    name: str
    default: StrictInt = 1


class _DataSpace(_Loose):
    name: str
    projection: Annotated[list[list[_Term]], Field(max_length=16)]
    read_write: bool = False


class _Shape(_Loose):
    name: str = "problem"
    dimensions: Annotated[list[str], Field(min_length=1, max_length=32)]
    coefficients: list[_Coefficient] = []
    data_spaces: Annotated[list[_DataSpace], Field(min_length=3, max_length=3)]


class _Problem(_Loose):
    shape: _Shape
    instance: dict[str, Any] = {}


@dataclass(frozen=True)
class TimeloopProblem:
    """A problem and how its names map to the operands of the einsum.

    Attributes:
        workload: One operation named after the problem's shape; dimensions keep their names.
        operands: Operand of each data space, e.g. ``{"Weights": "weight", "Inputs": "input"}``.
    """

    workload: Workload
    operands: Mapping[str, Operand]

    @property
    def einsum(self) -> Einsum:
        """The loop nest of the problem."""
        found = self.workload.operations[0].einsum
        assert found is not None
        return found


def import_timeloop(path: str | Path) -> TimeloopProblem:
    """Read a file with a ``problem:`` block; everything else in it is left alone.

    Coefficients are resolved from the instance, else their default. The read-write data space is
    the output; of the other two the one named like a weight (else the second) is the weight.

    Raises:
        InputError: The file has no problem, or one that is not a product of two data spaces.
    """
    return problem_from(parse_yaml(read_text(path), path), path)


def problem_from(data: Any, source: object) -> TimeloopProblem:
    """The problem in plain data read from ``source``; see ``import_timeloop``."""
    block = data.get("problem") if isinstance(data, dict) else None
    if not isinstance(block, dict):
        raise InputError("no 'problem:' block", source=source)
    block = _underscored(block)
    if isinstance(block.get("shape"), str):
        raise InputError(
            "the shape must be written out, not named", source=source, field="problem.shape"
        )
    try:
        return _build(validate(block, _Problem, source))
    except InputError as error:
        if error.source is not None:
            raise
        raise InputError(
            error.message, source=source, field=f"problem.{error.field}", found=error.found
        ) from None


def _underscored(data: Any) -> Any:
    """Older files write ``data-spaces`` and ``read-write``."""
    if isinstance(data, dict):
        return {
            str(key).replace("-", "_") if str(key).startswith(("data-", "read-")) else key: (
                _underscored(value)
            )
            for key, value in data.items()
        }
    return [_underscored(item) for item in data] if isinstance(data, list) else data


def _build(problem: _Problem) -> TimeloopProblem:
    shape, instance = problem.shape, problem.instance
    dims = tuple((name, _count(instance, name)) for name in shape.dimensions)
    coefficients = {c.name: c.default for c in shape.coefficients}
    coefficients |= {name: _count(instance, name) for name in coefficients if name in instance}
    operands = _operands(shape.data_spaces)
    by_operand = {operands[space.name]: space for space in shape.data_spaces}
    extents = dict(dims)
    accesses, tensors = [], {}
    densities = instance.get("densities")
    for operand in ("input", "weight", "output"):
        space = by_operand[operand]  # type: ignore[index]
        ranks = tuple(_rank(rank, extents, coefficients, space.name) for rank in space.projection)
        accesses.append(Access(space.name, ranks))
        size = tuple(1 + sum(c * (extents[d] - 1) for d, c in rank) for rank in ranks)
        density = _density(densities, space.name)
        tensors[space.name] = Tensor(space.name, size, role=operand, density=density)  # type: ignore[arg-type]
    einsum = Einsum(dims, tuple(accesses))  # type: ignore[arg-type]
    names = [access.tensor for access in accesses]
    operation = Operation(shape.name, "einsum", tuple(names[:2]), (names[2],), einsum)
    source = "Timeloop problem"
    return TimeloopProblem(Workload(shape.name, tensors, (operation,), source), operands)


def _count(instance: Mapping[str, Any], name: str) -> int:
    value = instance.get(name)
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= MAX_EXTENT:
        raise InputError("not a positive integer", field=f"instance.{name}", found=value)
    return value


def _density(densities: Any, name: str) -> float:
    found = densities.get(name, 1.0) if isinstance(densities, dict) else 1.0
    if isinstance(found, dict):
        found = found.get("density", 1.0)
    if isinstance(found, bool) or not isinstance(found, (int, float)):
        raise InputError("not a number", field=f"instance.densities.{name}", found=found)
    return float(found)


def _operands(spaces: list[_DataSpace]) -> dict[str, Operand]:
    written = [space.name for space in spaces if space.read_write]
    read = [space.name for space in spaces if not space.read_write]
    if len({space.name for space in spaces}) != 3 or len(written) != 1:
        raise InputError(
            "needs three data spaces of different names, one of them read_write",
            field="shape.data_spaces",
            found=[space.name for space in spaces],
        )
    weights = [n for n in read if n.lower().startswith(("weight", "filter", "kernel"))]
    weight = weights[0] if len(weights) == 1 else read[1]
    data = read[1] if weight == read[0] else read[0]
    return {data: "input", weight: "weight", written[0]: "output"}


def _rank(
    terms: list[list[int | str]],
    extents: Mapping[str, int],
    coefficients: Mapping[str, int],
    space: str,
) -> Rank:
    """One rank of a projection: a sum of terms, each a dimension and maybe coefficients."""
    where = f"shape.data_spaces.{space}"
    rank = []
    for term in terms:
        dims = [part for part in term if part in extents]
        if len(dims) != 1:
            raise InputError("a term must name one dimension", field=where, found=term)
        factor = 1
        for part in term:
            if part == dims[0]:
                continue
            if isinstance(part, int):
                factor *= part
            elif part in coefficients:
                factor *= coefficients[part]
            else:
                raise InputError("no such coefficient", field=where, found=part)
        rank.append((str(dims[0]), factor))
    return tuple(rank)
