"""Sparse versions of a workload: densities and patterns for its tensors by role or name.

>>> from archsim.workload import load_workload
>>> from archsim.workload.sparsity import prune
>>> pruned = prune(load_workload("alexnet"), {"weight": "2:4", "activation": "0.4"})
>>> sorted({t.pattern for t in pruned.tensors.values()})
['2:4', 'random']
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import replace
from math import gcd

from archsim.errors import InputError
from archsim.workload.graph import Einsum, Rank, Tensor, Workload

#: Roles a rule may name; a tensor of that name wins over the role.
RULES = ("weight", "activation", "input", "output")
EXPECTED = "a density such as 0.3, 'structured 0.3', N:M such as 2:4, 'block 4x16 0.3' or 'band W'"


def read_rule(text: str, field: str | None = None) -> tuple[float | None, str]:
    """Density (None where a pattern implies it) and pattern of a rule's text.

    Raises:
        InputError: The text is no rule.
    """
    word, _, rest = text.strip().partition(" ")
    try:
        if word == "band":
            return None, f"band {int(rest)}"
        if ":" in word and not rest:
            n, m = (int(part) for part in word.split(":"))
            if not 1 <= n <= m <= 9999:
                raise ValueError
            return n / m, f"{n}:{m}"
        pattern = "structured" if word == "structured" else "random"
        if word == "block":
            size, _, rest = rest.partition(" ")
            high, wide = (int(part) for part in size.split("x"))
            if not 1 <= min(high, wide) <= max(high, wide) <= 99999:
                raise ValueError
            pattern = f"block {high}x{wide}"
        share = float(text if pattern == "random" else rest)
        if not 0.0 < share <= 1.0:
            raise ValueError
        return share, pattern
    except (ValueError, ZeroDivisionError):
        raise InputError("not a density", field=field, found=text, expected=EXPECTED) from None


def reduction_rank(einsum: Einsum, operand: int) -> tuple[int, int] | None:
    """Rank of an operand that N:M lies along, and its extent.

    It is a rank of one dimension that the output does not have: the input channels (``C``) where
    there are any, else the last; None where the operand has none.
    """
    reduced = {name for name, _ in einsum.dims}
    reduced -= {d for rank in einsum.operands[2].ranks for d, _ in rank}
    extents = einsum.extents

    def alone(rank: Rank) -> bool:
        return len(rank) == 1 and rank[0][0] in reduced and rank[0][1] == 1

    found = [i for i, rank in enumerate(einsum.operands[operand].ranks) if alone(rank)]
    if not found:
        return None
    ranks = einsum.operands[operand].ranks
    best = next((i for i in found if ranks[i][0][0] == "C"), found[-1])
    return best, extents[ranks[best][0][0]]


def block_ranks(einsum: Einsum, operand: int) -> tuple[int, int] | None:
    """Ranks of an operand that are rows and columns of its blocks of zeros.

    Columns are the rank N:M lies along; rows are output channels, or rows of the output where there
    are any, else the first other rank. None where the operand has no two such ranks.
    """
    columns = reduction_rank(einsum, operand)
    ranks = einsum.operands[operand].ranks
    if columns is None or len(ranks) < 2:
        return None
    others = [i for i in range(len(ranks)) if i != columns[0]]
    named = (i for i in others if len(ranks[i]) == 1 and ranks[i][0][0] in ("M", "P"))
    return next(named, others[0]), columns[0]


def prune(workload: Workload, rules: Mapping[str, str]) -> Workload:
    """A workload whose tensors have zeros.

    Only tensors that a product reads (and, named or as ``output``, writes) are touched; whatever
    else reads them is priced as before.

    Args:
        workload: The graph.
        rules: Density or pattern by role (``weight``, ``activation``, ``input``, ``output``) or by
            tensor name; N:M by role leaves the tensors dense whose reduction is no multiple of M,
            blocks those that have no rows beside one.

    Raises:
        InputError: No such role or tensor, or a pattern that a named tensor cannot have.
    """
    for name in rules:
        if name not in RULES and name not in workload.tensors:
            near = difflib.get_close_matches(name, [*RULES, *workload.tensors], n=3)
            raise InputError(
                "no such role or tensor",
                source=workload.name,
                field="density",
                found=name,
                expected=" or ".join(near) if near else ", ".join(RULES),
            )
    groups: dict[str, int] = {}  # of every tensor a product reads, what its reductions share
    # Tensors without the two ranks of a block.
    plain = {name for name, tensor in workload.tensors.items() if tensor.role == "output"}
    for operation in workload.operations:
        if operation.einsum is None:
            continue
        for operand, access in enumerate(operation.einsum.operands[:2]):
            rank = reduction_rank(operation.einsum, operand)
            groups[access.tensor] = gcd(groups.get(access.tensor, 0), rank[1] if rank else 1)
            if block_ranks(operation.einsum, operand) is None:
                plain.add(access.tensor)
    tensors = {}
    for name, tensor in workload.tensors.items():
        rule = rules.get(name)
        if rule is None and (name in groups or tensor.role == "output"):
            rule = rules.get(tensor.role)
            if rule is not None and name in plain and rule.strip().startswith("block"):
                rule = None
        if rule is not None:
            tensor = _pruned(workload, tensor, rule, groups.get(name, 1), named=name in rules)
        tensors[name] = tensor
    return replace(workload, tensors=tensors)


def _pruned(workload: Workload, tensor: Tensor, rule: str, group: int, named: bool) -> Tensor:
    density, pattern = read_rule(rule, tensor.name)
    if ":" in pattern and group % int(pattern.split(":")[1]):
        if named:
            raise InputError(
                f"its reduction is no multiple of the M of {pattern}",
                source=workload.name,
                field=tensor.name,
                found=group,
            )
        return tensor
    if density is None:
        density = _band_density(workload, tensor, int(pattern.split()[1]))
    return replace(tensor, density=density, pattern=pattern)


def _band_density(workload: Workload, tensor: Tensor, half_width: int) -> float:
    if len(tensor.shape) != 2:
        raise InputError(
            "a band needs a matrix", source=workload.name, field=tensor.name, found=tensor.shape
        )
    rows, columns = tensor.shape
    held = sum(
        max(0, min(columns - 1, r + half_width) - max(0, r - half_width) + 1) for r in range(rows)
    )
    if held == 0:
        raise InputError("the band misses the matrix", source=workload.name, field=tensor.name)
    return held / tensor.elements
