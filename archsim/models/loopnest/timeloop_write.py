"""Our mappings as Timeloop v0.4 YAML: problem, architecture, mapping and energy table.

What Timeloop has no word for is left out, and said in ``notes``: one word width a level (ours may
differ by tensor), network energy, and energies by tensor.
"""

from __future__ import annotations

from collections.abc import Mapping as MappingType
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from archsim.errors import ArchsimError, InputError
from archsim.models.loopnest import kernel as k
from archsim.models.loopnest.mapping import Mapping
from archsim.models.loopnest.nest import Nest
from archsim.models.loopnest.timeloop_mapping import last_bounds
from archsim.workload.graph import Einsum

VERSION = 0.4
#: Data spaces of what is written, in the order of the operands.
SPACES = ("Inputs", "Weights", "Outputs")
FILES = ("problem", "architecture", "mapping", "ERT")


@dataclass(frozen=True)
class TimeloopDocuments:
    """Four Timeloop files.

    Attributes:
        documents: ``problem``, ``architecture``, ``mapping`` and ``ERT``, each as plain data; nodes
            of the architecture carry their tag under ``tag``.
        notes: What Timeloop cannot be told, one sentence each.
    """

    documents: MappingType[str, dict[str, Any]]
    notes: tuple[str, ...]


def to_timeloop(einsum: Einsum, nest: Nest, mapping: Mapping, design: int = 0) -> TimeloopDocuments:
    """Write a mapping, with its problem and machine, for Timeloop.

    Args:
        einsum: The loop nest.
        nest: The machine; its ``design``-th row is written.
        mapping: From the mapper, on this nest.
        design: Row of ``nest``.

    Returns:
        Documents that :func:`archsim.models.loopnest.timeloop.build_case` reads back to the same
        counts.

    Raises:
        InputError: The mapping is of another machine or another loop nest.
    """
    if tuple(mapping.slots) != tuple(nest.names):
        raise InputError("the mapping is of another machine", found=mapping.slots)
    known = {name for name, extent in einsum.dims if extent > 1}
    if not known <= set(mapping.dims):
        raise InputError("the mapping is of another loop nest", found=mapping.dims)
    table, engine = nest.slot_table[design], nest.engine[design]
    notes: list[str] = []
    bounds = _bounds(einsum, mapping)
    documents = {
        "problem": {"problem": _problem(einsum)},
        "architecture": {
            "architecture": _architecture(mapping, table, engine, nest, design, notes)
        },
        "mapping": {"mapping": _mapping(einsum, mapping, bounds)},
        "ERT": {"ERT": _energies(mapping, table, engine)},
    }
    if (table[:, k.HOP_J] > 0).any():
        notes.append("energy of the network between levels is not in the energy table")
    return TimeloopDocuments(documents, tuple(notes))


def write_timeloop(documents: TimeloopDocuments, folder: str | Path) -> list[Path]:
    """Write the documents into a folder, one file each; returns the paths.

    Raises:
        ArchsimError: The folder cannot be written to.
    """
    folder = Path(folder)
    written = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name in FILES:
            path = folder / f"{name}.yaml"
            lines = [f"# {note}." for note in documents.notes] if name == "architecture" else []
            text = yaml.dump(
                _tagged(documents.documents[name]),
                Dumper=_Dumper,
                sort_keys=False,
                default_flow_style=None,
                width=100,
            )
            path.write_text("\n".join([*lines, text]), encoding="utf-8")
            written.append(path)
    except OSError as error:
        raise ArchsimError(f"cannot write {str(folder)!r}: {error.strerror}") from None
    return written


class _Node(dict[str, Any]):
    """A mapping with a YAML tag."""


class _Dumper(yaml.SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:
        return True


def _represent(dumper: yaml.SafeDumper, node: _Node) -> yaml.Node:
    rest = {key: value for key, value in node.items() if key != "tag"}
    return dumper.represent_mapping("!" + node["tag"], rest)


_Dumper.add_representer(_Node, _represent)


def _tagged(data: Any) -> Any:
    if isinstance(data, dict):
        inner = {key: _tagged(value) for key, value in data.items()}
        return _Node(inner) if "tag" in inner else inner
    return [_tagged(item) for item in data] if isinstance(data, list) else data


def _problem(einsum: Einsum) -> dict[str, Any]:
    coefficients: dict[str, int] = {}
    spaces = []
    for name, access in zip(SPACES, einsum.operands, strict=True):
        projection = []
        for r, rank in enumerate(access.ranks):
            terms = []
            for dim, coefficient in rank:
                term: list[str] = [dim]
                if coefficient != 1:
                    named = f"{name}_{r}_{dim}"
                    coefficients[named] = coefficient
                    term.append(named)
                terms.append(term)
            projection.append(terms)
        space: dict[str, Any] = {"name": name, "projection": projection}
        if name == SPACES[k.OUTPUT]:
            space["read_write"] = True
        spaces.append(space)
    return {
        "version": VERSION,
        "shape": {
            "name": "einsum",
            "dimensions": [name for name, _ in einsum.dims],
            "coefficients": [{"name": n, "default": c} for n, c in coefficients.items()],
            "data_spaces": spaces,
        },
        "instance": {**dict(einsum.dims), **coefficients},
    }


def _bounds(einsum: Einsum, mapping: Mapping) -> np.ndarray:
    """int64[S, D] bounds without iterations that nothing is left for."""
    extents = einsum.extents
    bounds = np.array(mapping.factors, np.int64)
    for d, name in enumerate(mapping.dims):
        extent = extents.get(name, 1)
        for s in range(len(bounds)):
            tile = int(np.prod(bounds[s + 1 :, d], dtype=np.int64))
            bounds[s, d] = min(bounds[s, d], -(-extent // tile))
            # A loop of more than one iteration leaves full tiles to those inside it.
            extent = min(extent, tile)
    return bounds


def _architecture(mapping, table, engine, nest: Nest, design: int, notes: list[str]):
    nodes: list[dict[str, Any]] = [{"tag": "Container", "name": "system", "attributes": {}}]
    widths = iter(zip(nest.width[design], nest.axes, strict=True))
    for s, name in enumerate(mapping.slots):
        if mapping.fanout[s]:
            width, axis = next(widths)
            mesh = {("meshX", "meshY")[int(axis)]: int(width)}
            nodes.append({"tag": "Container", "name": name, "spatial": mesh})
            continue
        kept = [t for t in range(3) if mapping.keep[s, t]] or [0]
        bits = {float(table[s, k.BITS + t]) for t in kept}
        if len(bits) > 1:
            notes.append(
                f"{name} holds words of {' and '.join(f'{b:g}' for b in sorted(bits))} bits; "
                "Timeloop has one width a level, the widest is written"
            )
        word = max(bits)
        width = float(table[s, k.BLOCK])
        if width % word:
            notes.append(f"a row of {name} is no whole number of words; it is rounded up")
        attributes: dict[str, Any] = {"datawidth": _plain(word), "width": _plain(max(width, word))}
        if np.isfinite(table[s, k.CAPACITY]) and s:
            # Rounded up: what fits here must fit there.
            attributes["depth"] = int(np.ceil(table[s, k.CAPACITY] / max(width, word)))
        for column, key in (
            (k.READ_SLOW, "read_bandwidth"),
            (k.WRITE_SLOW, "write_bandwidth"),
            (k.SHARED_SLOW, "shared_bandwidth"),
        ):
            if table[s, column] > 0:
                attributes[key] = _plain(1.0 / (table[s, column] * word))
        nodes.append(
            {
                "tag": "Component",
                "name": name,
                "class": "DRAM" if s == 0 else "SRAM",
                "attributes": attributes,
            }
        )
    arithmetic = {
        "tag": "Component",
        "name": _arithmetic(mapping),
        "class": "intmac",
        "attributes": {"width": _plain(table[-1, k.BITS])},
    }
    return {"version": VERSION, "nodes": [*nodes, arithmetic]}


def _arithmetic(mapping: Mapping) -> str:
    """A name for the arithmetic units that no slot has."""
    name = "mac"
    while name in mapping.slots:
        name += "_unit"
    return name


def _plain(value: float) -> int | float:
    """A whole number as such; others with all their digits."""
    return int(value) if float(value).is_integer() else float(value)


def _mapping(einsum: Einsum, mapping: Mapping, bounds: np.ndarray) -> list[dict[str, Any]]:
    extents = einsum.extents
    last = np.array(
        [last_bounds(bounds[:, d], extents.get(name, 1)) for d, name in enumerate(mapping.dims)]
    ).T
    directives: list[dict[str, Any]] = []
    for s, name in enumerate(mapping.slots):
        kind = "spatial" if mapping.fanout[s] else "temporal"
        words = []
        for d, dim in enumerate(mapping.dims):
            bound, end = int(bounds[s, d]), int(last[s, d])
            words.append(f"{dim}={bound}" + (f",{end}" if end != bound else ""))
        # Timeloop lists loops inner to outer.
        loops = [mapping.dims[int(d)] for d in reversed(mapping.order[s])]
        directive: dict[str, Any] = {
            "target": name,
            "type": kind,
            "factors": " ".join(words),
            "permutation": loops,
        }
        if kind == "spatial":
            directive["split"] = 0 if _along_y(mapping, s) else len(loops)
        directives.append(directive)
        if kind == "temporal":
            keep = [SPACES[t] for t in range(3) if mapping.keep[s, t]]
            bypass = [space for space in SPACES if space not in keep]
            directives.append({"target": name, "type": "dataspace", "keep": keep, "bypass": bypass})
    return directives


def _along_y(mapping: Mapping, slot: int) -> bool:
    """Whether a fanout is the second of two: Timeloop lays loops behind the split along y."""
    before = [s for s in range(slot) if mapping.fanout[s]]
    return bool(before)


def _energies(mapping: Mapping, table: np.ndarray, engine: np.ndarray) -> dict[str, Any]:
    tables = []
    for s, name in enumerate(mapping.slots):
        if mapping.fanout[s]:
            continue
        read, write = (float(table[s, c]) * 1e12 for c in (k.READ_J, k.WRITE_J))
        leak = float(table[s, k.LEAK_W] / engine[k.CLOCK_HZ]) * 1e12
        actions = {"read": read, "write": write, "update": write, "leak": leak}
        tables.append(
            {
                "name": f"system.{name}[1..{int(table[s, k.INSTANCES])}]",
                "actions": [{"name": n, "arguments": {}, "energy": e} for n, e in actions.items()],
            }
        )
    compute = {"name": "compute", "arguments": {}, "energy": float(engine[k.MAC_J]) * 1e12}
    units = f"system.{_arithmetic(mapping)}[1..{int(engine[k.MAC_COUNT])}]"
    tables.append({"name": units, "actions": [compute]})
    return {"version": VERSION, "tables": tables}
