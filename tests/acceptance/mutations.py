"""Damage to input files: to the tree a YAML file holds, or to the bytes of any file."""

from __future__ import annotations

import copy
import math
import random
from typing import Any

import yaml

#: What a value is replaced by: wrong types, extremes, odd text, nesting.
STRANGE: tuple[Any, ...] = (
    None,
    True,
    False,
    0,
    1,
    -1,
    3,
    7.5,
    -0.0,
    1e-300,
    1e300,
    -1e300,
    math.nan,
    math.inf,
    -math.inf,
    10**9,
    2**31,
    2**53,
    2**63,
    -(2**63),
    10**30,
    10**400,
    "",
    " ",
    "N",
    "1000000000N",
    "0",
    "nan",
    "dram",
    "../../etc/passwd",
    "/",
    "ünïcödé ☃ 中文 \U0001f600",
    "a\nb\tc\x07",
    "%s%n{0}[red]",
    "__import__('os').system('true')",
    "x" * 5000,
    "2024-01-01",
    [],
    {},
    [[]],
    [None],
    [1, "a", None],
    {"name": "x"},
    {"a": {"b": {"c": [1, {"d": None}]}}},
    [0] * 300,
    [list(range(5))] * 5,
)


def places(tree: Any) -> list[tuple[Any, Any]]:
    """Every (container, key) of a tree of dictionaries and lists."""
    found = []
    stack = [tree]
    while stack:
        node = stack.pop()
        if isinstance(node, dict):
            found += [(node, key) for key in node]
            stack += node.values()
        elif isinstance(node, list):
            found += [(node, index) for index in range(len(node))]
            stack += node
    return found


def _nested(rng: random.Random) -> Any:
    value: Any = rng.choice(STRANGE)
    for _ in range(rng.choice((1, 2, 30, 200))):
        value = [value] if rng.random() < 0.5 else {"a": value}
    return value


def _replace(rng: random.Random, node: Any, key: Any) -> None:
    old = node[key]
    if isinstance(old, (int, float)) and not isinstance(old, bool) and rng.random() < 0.7:
        factor = rng.choice((-1, 0, 2, 2, 3, 3, 5, 7, 11, 1000, 10**9, 10**30, 0.5, 1e-9))
        node[key] = old * factor if rng.random() < 0.8 else max(int(old) // 2, 1)
    elif isinstance(old, str) and old and rng.random() < 0.3:
        at = rng.randrange(len(old))
        node[key] = old[:at] + rng.choice(("", "_", ".", " ", "é", "0", old)) + old[at + 1 :]
    elif rng.random() < 0.1:
        node[key] = _nested(rng)
    else:
        node[key] = copy.deepcopy(rng.choice(STRANGE))


def _restructure(rng: random.Random, tree: Any, node: Any, key: Any) -> None:
    way = rng.randrange(5)
    if way == 0:  # leave something out
        del node[key]
    elif way == 1 and isinstance(node, dict):  # misspell a key, or make it no text
        new = rng.choice((f"{key}s", f"{key} ", "", "name", "kind", 7, True, "\u00e9"))
        node[new] = node.pop(key)
    elif way == 1:  # the same item twice
        node.insert(key, copy.deepcopy(node[key]))
    elif way == 2 and isinstance(node, list):
        del node[key:]
    elif way == 2:
        node[rng.choice(("extra", "<<", "\u4e2d", "path"))] = rng.choice(STRANGE)
    elif way == 3 and isinstance(node, list):
        rng.shuffle(node)
    else:  # a part of the file in a place of another
        other, at = rng.choice(places(tree))
        node[key] = copy.deepcopy(other[at])


def damaged_tree(rng: random.Random, original: Any) -> Any:
    """A copy with one to three things changed."""
    tree = copy.deepcopy(original)
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        where = places(tree)
        if not where:
            break
        node, key = rng.choice(where)
        if rng.random() < 0.65:
            _replace(rng, node, key)
        else:
            _restructure(rng, tree, node, key)
    return tree


def damaged_bytes(rng: random.Random, data: bytes) -> bytes:
    """Cut off, bits flipped, pieces lost, doubled or overwritten."""
    damaged = bytearray(data)
    if rng.random() < 0.3:
        del damaged[rng.randrange(len(damaged)) :]
    for _ in range(rng.choice((0, 1, 2) if len(damaged) < len(data) else (1, 1, 2, 4))):
        if not damaged:
            break
        place, way = rng.randrange(len(damaged)), rng.randrange(5)
        if way == 0:
            damaged[place] = rng.randrange(256)
        elif way == 1:
            damaged[place] ^= 1 << rng.randrange(8)
        elif way == 2:
            del damaged[place : place + rng.randrange(1, 60)]
        elif way == 3:
            start = rng.randrange(len(damaged))
            damaged[place:place] = damaged[start : start + rng.randrange(1, 80)]
        else:
            damaged[place:place] = rng.choice((b"\x00", b"\xff", b"\t", b"&a *a", b"!!", b"999999"))
    return bytes(damaged)


def doubled_key(rng: random.Random, data: bytes) -> bytes:
    """The text with one of its ``key: value`` lines written twice."""
    lines = data.split(b"\n")
    at = rng.choice([i for i, line in enumerate(lines) if b": " in line])
    return b"\n".join([*lines[: at + 1], *lines[at:]])


def damaged_yaml(rng: random.Random, data: bytes, tree: Any) -> bytes:
    """A damaged version of a YAML file: mostly still YAML, with something wrong inside.

    Args:
        rng: Where the damage comes from.
        data: The file.
        tree: What the file holds.
    """
    way = rng.random()
    if way < 0.2:
        return damaged_bytes(rng, data)
    if way < 0.23:
        return doubled_key(rng, data)
    dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
    text = yaml.dump(damaged_tree(rng, tree), Dumper=dumper, sort_keys=False, allow_unicode=True)
    return text.encode("utf-8", "surrogatepass")


#: What an integer of a binary message is replaced by.
NUMBERS = (0, 1, -1, 2, 3, 7, 11, 10**9, 2**31 - 1, -(2**31))


def _messages(message: Any) -> list[Any]:
    found = [message]
    for field, value in message.ListFields():
        if field.message_type is not None:
            for part in value if field.is_repeated else [value]:
                found += _messages(part)
    return found


def damaged_message(rng: random.Random, original: Any) -> bytes:
    """A protobuf message with one or two fields changed: always readable, seldom meaningful."""
    message = type(original)()
    message.CopyFrom(original)
    for _ in range(rng.choice((1, 1, 2))):
        part = rng.choice([item for item in _messages(message) if item.ListFields()])
        field, value = rng.choice(part.ListFields())
        if field.is_repeated:
            if rng.random() < 0.3 or field.message_type is not None:
                del value[rng.randrange(len(value))]
                continue
            value[rng.randrange(len(value))] = _other(rng, value[0])
        elif field.message_type is not None or rng.random() < 0.2:
            part.ClearField(field.name)
        elif field.enum_type is not None:
            setattr(part, field.name, rng.choice(field.enum_type.values).number)
        else:
            setattr(part, field.name, _other(rng, value))
    return message.SerializeToString()


def _other(rng: random.Random, value: Any) -> Any:
    if isinstance(value, bytes):
        return damaged_bytes(rng, value) if value else rng.randbytes(8)
    if isinstance(value, str):
        return rng.choice(("", "x", value + "_", "Conv", "Relu", "axis", "ünïcödé", value[:-1]))
    if isinstance(value, float):
        return rng.choice((math.nan, math.inf, -1.0, 1e38))
    return rng.choice(NUMBERS)
