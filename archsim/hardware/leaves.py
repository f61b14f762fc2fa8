"""Addressable values of a nested pydantic model: a ``Leaf`` per number, flag or enumeration."""

from __future__ import annotations

import types
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal, Union, get_args, get_origin

import annotated_types
from pydantic import BaseModel
from pydantic.fields import FieldInfo

LeafKind = Literal["number", "integer", "flag", "enum"]

#: Enumerations that shape the tables (one value for all designs of a batch).
STRUCTURAL = frozenset({"axis"})


@dataclass(frozen=True)
class Leaf:
    """One value of a machine that may be changed.

    Attributes:
        path: Dotted path, list items by name.
        kind: number, integer, flag (bool) or enum (string).
        value: Value in the machine; None where a default is derived from other values.
        choices: Legal strings of an enum.
        minimum: Least legal number, if any.
        maximum: Greatest legal number, if any.
        optional: None is legal.
        structural: Same for all designs of a batch; change it with ``with_values`` only.
        description: What it is, with its unit.
    """

    path: str
    kind: LeafKind
    value: float | int | bool | str | None
    choices: tuple[str, ...] = ()
    minimum: float | None = None
    maximum: float | None = None
    optional: bool = False
    structural: bool = False
    description: str = ""


@lru_cache(maxsize=256)
def list_leaves(model: BaseModel) -> Mapping[str, Leaf]:
    """All leaves of a frozen model by dotted path, in declaration order (read-only)."""
    found: list[Leaf] = []
    _walk(model, "", found)
    return types.MappingProxyType({leaf.path: leaf for leaf in found})


def _walk(model: BaseModel, prefix: str, found: list[Leaf]) -> None:
    for name, info in type(model).model_fields.items():
        value, path = getattr(model, name), f"{prefix}{name}"
        if isinstance(value, BaseModel):
            _walk(value, f"{path}.", found)
        elif isinstance(value, tuple) and value and isinstance(value[0], BaseModel):
            for item in value:
                _walk(item, f"{path}.{item.name}.", found)  # type: ignore[attr-defined]
        else:
            leaf = _leaf(path, name, info, value)
            if leaf is not None:
                found.append(leaf)


def _leaf(path: str, name: str, info: FieldInfo, value: Any) -> Leaf | None:
    annotation, optional = info.annotation, False
    if get_origin(annotation) in (Union, types.UnionType):
        inner = [arg for arg in get_args(annotation) if arg is not type(None)]
        optional = len(inner) < len(get_args(annotation))
        annotation = inner[0] if len(inner) == 1 else annotation
    text = info.description or ""
    if get_origin(annotation) is Literal:
        choices = get_args(annotation)
        if len(choices) < 2:
            return None
        return Leaf(path, "enum", value, choices, None, None, optional, name in STRUCTURAL, text)
    kinds: dict[Any, LeafKind] = {bool: "flag", int: "integer", float: "number"}
    if annotation not in kinds:
        return None
    limits: dict[str, Any] = {"ge": None, "le": None}
    for item in info.metadata:
        if isinstance(item, annotated_types.Ge):
            limits["ge"] = item.ge
        elif isinstance(item, annotated_types.Le):
            limits["le"] = item.le
    return Leaf(
        path, kinds[annotation], value, (), limits["ge"], limits["le"], optional, False, text
    )
