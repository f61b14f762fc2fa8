"""Addressable values of a nested pydantic model: a ``Leaf`` per number, flag or enumeration."""

from __future__ import annotations

import difflib
import types
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal, Protocol, Union, get_args, get_origin

import annotated_types
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from archsim.errors import InputError

LeafKind = Literal["number", "integer", "flag", "enum"]

#: Values that shape the tables (one for all designs of a batch), or blocks of such values.
STRUCTURAL = frozenset({"axis", "sparse", "peer_links"})


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


class HasLeaves(Protocol):
    """A machine, as far as its leaf values go; hashable."""

    @property
    def name(self) -> str:
        """Its name, for errors."""

    def leaves(self) -> Mapping[str, Leaf]:
        """Its values by dotted path."""

    def __hash__(self) -> int: ...


@lru_cache(maxsize=256)
def list_leaves(model: BaseModel) -> Mapping[str, Leaf]:
    """All leaves of a frozen model by dotted path, in declaration order (read-only)."""
    found: list[Leaf] = []
    _walk(model, "", found)
    return types.MappingProxyType({leaf.path: leaf for leaf in found})


def _walk(model: BaseModel, prefix: str, found: list[Leaf], structural: bool = False) -> None:
    for name, info in type(model).model_fields.items():
        value, path = getattr(model, name), f"{prefix}{name}"
        shapes = structural or name in STRUCTURAL
        if isinstance(value, BaseModel):
            _walk(value, f"{path}.", found, shapes)
        elif isinstance(value, tuple) and value and isinstance(value[0], BaseModel):
            for item in value:
                if hasattr(item, "name"):  # others have no path of their own
                    _walk(item, f"{path}.{item.name}.", found, shapes)
        else:
            leaf = _leaf(path, shapes, info, value)
            if leaf is not None:
                found.append(leaf)


def _leaf(path: str, structural: bool, info: FieldInfo, value: Any) -> Leaf | None:
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
        return Leaf(path, "enum", value, choices, None, None, optional, structural, text)
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
        path, kinds[annotation], value, (), limits["ge"], limits["le"], optional, structural, text
    )


def unknown_path(path: str, known: Mapping[str, Leaf], machine: str) -> InputError:
    """The error for a misspelt dotted path, naming the nearest existing ones."""
    near = difflib.get_close_matches(str(path), list(known), n=3, cutoff=0.5)
    if not near:
        last = str(path).rsplit(".", 1)[-1]
        near = [candidate for candidate in known if candidate.endswith("." + last)][:3]
    hint = " or ".join(near) if near else f"one of {', '.join(list(known)[:6])} ..."
    return InputError(
        "no such value in this machine", source=machine, field=str(path), expected=hint
    )


_UNION_TAGS = {
    "storage_slot", "fanout_slot", "spatial", "vector", "gpu", "systolic", "dataflow",
    "dot_product", "attention", "pim", "xpu",
}  # fmt: skip


def named_field(field: str | None, data: Any) -> str | None:
    """Rewrite pydantic's location (list indices, union tags) into a dotted path by names."""
    if field is None:
        return None
    parts, node = [], data
    for part in field.split("."):
        if isinstance(node, (list, tuple)) and part.isdigit() and int(part) < len(node):
            node = node[int(part)]
            name = node.get("name") if isinstance(node, Mapping) else None
            parts.append(str(name) if isinstance(name, str) else part)
        elif isinstance(node, Mapping) and part not in node and part in _UNION_TAGS:
            continue
        else:
            node = node.get(part) if isinstance(node, Mapping) else None
            parts.append(part)
    return ".".join(parts)
