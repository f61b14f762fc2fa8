"""Timeloop's architecture, mapping and energy files as plain values.

Read are the front end's form (v0.4: a list of ``nodes`` tagged ``!Container``, ``!Component`` and
``!Parallel``), the form the front end writes for the tools (``subtree`` and ``local``, instances in
the names), and the older v0.2 and v0.3 (``PE[0..15]`` in a subtree). What these files hold besides
(mapper settings, sparsity, component classes) is left to others.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from archsim.errors import InputError
from archsim.inputs import parse_yaml, read_text

TAGS = ("Container", "Component", "Parallel", "Hierarchical", "Nothing")
#: Largest number of instances, and of iterations of a loop, that is taken as meant.
MOST = 10**12
_ARITHMETIC = ("mac", "alu", "compute", "multiplier")
#: Names of the same attribute in the versions of the format, newest first.
_ALIASES = {
    "datawidth": ("datawidth", "word-bits", "word_bits"),
    "width": ("width", "memory_width"),
    "depth": ("depth", "memory_depth"),
    "entries": ("entries", "size"),
    "block": ("block-size", "block_size"),
    "read_bandwidth": ("read_bandwidth",),
    "write_bandwidth": ("write_bandwidth",),
    "shared_bandwidth": ("shared_bandwidth",),
    "buffering": ("multiple_buffering", "multiple-buffering"),
}


@dataclass(frozen=True)
class TimeloopLevel:
    """One level, storage or spatial.

    Attributes:
        name: Its name; ``aliases``, what mappings may call it besides.
        storage: Whether it holds tensors (a spatial level only fans out).
        kind: Its component class.
        attributes: By the newest name of each; only those given.
        instances: In the whole machine.
        keeps, bypasses: Data spaces its constraints name; None where they say nothing.
        alone: Whether it stands beside others (``!Parallel``) and keeps only what it names.
    """

    name: str
    storage: bool
    kind: str
    attributes: Mapping[str, float]
    instances: int
    aliases: tuple[str, ...] = ()
    keeps: tuple[str, ...] | None = None
    bypasses: tuple[str, ...] | None = None
    alone: bool = False


@dataclass(frozen=True)
class TimeloopArchitecture:
    """Levels outer to inner, and the arithmetic units inside them."""

    levels: tuple[TimeloopLevel, ...]
    arithmetic: str
    units: int


@dataclass
class _Walk:
    source: object
    levels: list[TimeloopLevel] = field(default_factory=list)
    arithmetic: list[tuple[str, int]] = field(default_factory=list)


def load_document(path: str | Path) -> Any:
    """Parse a Timeloop YAML file; ``!Container`` and the like become a key ``tag``.

    Raises:
        InputError: The file cannot be read or is no YAML.
    """
    return parse_yaml(read_text(path), path, TAGS)


def get(data: Any, key: str, kind: type, source: object) -> Any:
    """``data[key]``, checked.

    Raises:
        InputError: Missing, or of another type.
    """
    value = data.get(key) if isinstance(data, dict) else None
    if not isinstance(value, kind):
        raise InputError(
            "missing or malformed", source=source, field=key, found=value, expected=kind.__name__
        )
    return value


def maybe(data: Any, key: str, kind: type, source: object) -> Any:
    """``data[key]``, or an empty ``kind`` where there is none.

    Raises:
        InputError: Of another type.
    """
    if not isinstance(data, dict):
        raise InputError("not a mapping", source=source, found=data)
    return kind() if data.get(key) is None else get(data, key, kind, source)


def read_architecture(block: Any, source: object) -> TimeloopArchitecture:
    """Read an ``architecture`` block.

    Raises:
        InputError: It has no levels, or does not end in arithmetic units.
    """
    if not isinstance(block, dict):
        raise InputError("missing or malformed", source=source, field="architecture")
    walk = _Walk(source)
    if isinstance(block.get("nodes"), list):
        _walk_nodes(block["nodes"], 1, False, walk)
    else:
        _walk_subtree(block, 1, walk)
    if len(walk.arithmetic) != 1 or not any(level.storage for level in walk.levels):
        raise InputError(
            "needs storage levels and, innermost, one kind of arithmetic unit", source=source,
            field="architecture", found=[name for name, _ in walk.arithmetic],
            expected="one component whose class contains " + " or ".join(_ARITHMETIC),
        )  # fmt: skip
    names = [level.name for level in walk.levels]
    if len(set(names)) != len(names):
        raise InputError("two levels of one name", source=source, field="architecture", found=names)
    return TimeloopArchitecture(tuple(walk.levels), *walk.arithmetic[0])


def _walk_nodes(nodes: Sequence[Any], outside: int, parallel: bool, walk: _Walk) -> int:
    """Read front-end nodes, each inside those before it; returns instances inside them all."""
    for node in nodes:
        tag = node.get("tag") if isinstance(node, dict) else None
        if tag in ("Parallel", "Hierarchical"):
            inner = get(node, "nodes", list, walk.source)
            reached = _walk_nodes(inner, outside, tag == "Parallel", walk)
            outside = outside if tag == "Parallel" else reached
            continue
        if tag == "Nothing":
            continue
        if tag not in ("Container", "Component"):
            raise InputError(
                "node without a tag", source=walk.source, field="architecture.nodes", found=node
            )
        name = str(get(node, "name", str, walk.source))
        mesh = _mesh(maybe(node, "spatial", dict, walk.source), name, walk.source)
        if tag == "Container":
            if node.get("spatial") is not None:
                walk.levels.append(
                    TimeloopLevel(f"inter_{name}_spatial", False, "spatial", {}, outside, (name,))
                )
            outside *= mesh
            continue
        outside = outside if parallel else outside * mesh
        _component(node, name, outside, parallel, walk)
    return outside


def _mesh(spatial: Mapping[str, Any], name: str, source: object) -> int:
    mesh = 1
    for axis in ("meshX", "meshY"):
        value = spatial.get(axis, 1)
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise InputError(
                "not a positive integer", source=source, field=f"{name}.{axis}", found=value
            )
        mesh *= value
    return mesh


def _walk_subtree(node: Mapping[str, Any], outside: int, walk: _Walk) -> None:
    """Read ``local`` and ``subtree``: ranges in a subtree's name multiply all inside it."""
    for local in maybe(node, "local", list, walk.source):
        name, count, total = _ranged(get(local, "name", str, walk.source))
        # The front end's names count all instances; older ones those of one subtree.
        _component(local, name, count if total else outside * count, False, walk)
    for child in maybe(node, "subtree", list, walk.source):
        _, count, _ = _ranged(get(child, "name", str, walk.source))
        _walk_subtree(child, outside * count, walk)


def _ranged(name: str) -> tuple[str, int, bool]:
    """``GLB[1..16]`` is 16 (all of them), ``PE[0..15]`` 16 (in each of what holds it)."""
    match = re.fullmatch(r"([^\[\]]+)\[(\d+)\.\.(\d+)\]", name)
    if not match:
        return name, 1, False
    first, last = int(match[2]), int(match[3])
    return match[1].strip(), max(1, last - first + 1), first == 1


def _component(node: Mapping[str, Any], name: str, count: int, alone: bool, walk: _Walk) -> None:
    kind = str(node.get("class", ""))
    given = maybe(node, "attributes", dict, walk.source)
    count = _instances(given, count, name, walk.source)
    if any(word in kind.lower() for word in _ARITHMETIC) and "smart" not in kind.lower():
        walk.arithmetic.append((name, count))
        return
    attributes = {}
    for key, names in _ALIASES.items():
        value = next((given[n] for n in names if given.get(n) is not None), None)
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < 1e18:
            raise InputError(
                "not a positive number", source=walk.source, field=f"{name}.{key}", found=value
            )
        attributes[key] = float(value)
    if isinstance(given.get("sizeKB"), (int, float)):
        attributes.setdefault("bytes", float(given["sizeKB"]) * 1024)
    constraints = maybe(node, "constraints", dict, walk.source)
    spaces = maybe(constraints, "dataspace", dict, walk.source)
    spatial = kind == "dummy_storage"
    walk.levels.append(
        TimeloopLevel(
            name, not spatial, kind, attributes, count,
            (name.removeprefix("inter_").removesuffix("_spatial"),) if spatial else (),
            _spaces(spaces, "keep", walk.source), _spaces(spaces, "bypass", walk.source), alone,
        )
    )  # fmt: skip


def _spaces(data: Mapping[str, Any], key: str, source: object) -> tuple[str, ...] | None:
    return None if data.get(key) is None else tuple(map(str, get(data, key, list, source)))


def _instances(given: Mapping[str, Any], count: int, name: str, source: object) -> int:
    value = given.get("instances", count)
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= MOST:
        raise InputError(
            "not a positive integer", source=source, field=f"{name}.instances", found=value
        )
    return value


def read_energies(data: Any, source: object) -> dict[str, dict[str, float]]:
    """Energies of an ``ERT`` block in pJ, by component and action.

    Raises:
        InputError: A table lacks its name or an action its energy.
    """
    found: dict[str, dict[str, float]] = {}
    for table in get(get(data, "ERT", dict, source), "tables", list, source):
        name = re.sub(r"\[.*$", "", str(get(table, "name", str, source))).split(".")[-1]
        actions = {}
        for action in get(table, "actions", list, source):
            energy = action.get("energy") if isinstance(action, dict) else None
            if (
                not isinstance(energy, (int, float))
                or isinstance(energy, bool)
                or not 0 <= energy < 1e18
            ):
                raise InputError(
                    "action without an energy", source=source, field=f"ERT.{name}", found=action
                )
            actions[str(action.get("name"))] = float(energy)
        found[name] = actions
    return found


def read_factors(value: Any, source: object) -> list[tuple[str, int, int]]:
    """Loop factors: ``C4 M2``, ``C=4, M=2``, ``P6,4`` (bound 6, the last one 4), or a list.

    Returns:
        Dimension, bound, and bound of the last pass. A bound of 0 takes what is left.
    """
    text = " ".join(str(item) for item in value) if isinstance(value, list) else str(value or "")
    found, rest = [], text.strip()
    while rest:
        match = re.match(r"([A-Za-z_]+)\s*=?\s*(\d+)(?:\s*,\s*(\d+))?\s*(?:,\s*|\s+|$)", rest)
        if not match:
            raise InputError(
                "factors not understood", source=source, found=rest,
                expected="e.g. 'C4 M2', 'C=4, M=2' or 'P6,4'",
            )  # fmt: skip
        bound = int(match[2])
        if bound > MOST:
            raise InputError("bound out of range", source=source, found=bound)
        found.append((match[1], bound, int(match[3]) if match[3] else bound))
        rest = rest[match.end() :]
    return found


def read_permutation(value: Any, dims: Iterable[str], source: object) -> list[str]:
    """Loop order as written, inner to outer: ``PRK``, ``P R K``, ``P,R,K`` or a list."""
    known = sorted(dims, key=len, reverse=True)
    if isinstance(value, list):
        words = [str(item) for item in value]
    else:
        pattern = "|".join(re.escape(name) for name in known)
        text = str(value or "")
        words = re.findall(pattern, text)
        if re.sub(rf"{pattern}|[\s,]", "", text):
            raise InputError("permutation not understood", source=source, found=value)
    if len(set(words)) != len(words) or not set(words) <= set(known):
        raise InputError(
            "permutation not understood", source=source, found=value,
            expected="dimensions, each once",
        )  # fmt: skip
    return words
