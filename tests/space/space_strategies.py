"""Hypothesis strategies: small spaces and constraints, to be enumerated in tests."""

from __future__ import annotations

import itertools

from hypothesis import strategies as st

from archsim.space import DesignSpace, Parameter

NAMES = ("a", "b", "c", "d", "e")
_NUMBERS = st.lists(st.integers(-20, 40), min_size=1, max_size=5, unique=True).map(
    lambda values: tuple(sorted(values))
)
_STRINGS = st.lists(
    st.sampled_from(["x", "y", "row_stationary", "z w"]), min_size=1, max_size=4, unique=True
).map(tuple)


@st.composite
def parameters(draw: st.DrawFn) -> list[Parameter]:
    count = draw(st.integers(1, 5))
    return [Parameter(NAMES[at], draw(st.one_of(_NUMBERS, _STRINGS))) for at in range(count)]


@st.composite
def expression(draw: st.DrawFn, names: list[Parameter], depth: int = 3) -> str:
    """A well-typed constraint over some of the parameters."""
    numbers = [p.name for p in names if p.kind == "number"]
    strings = [p for p in names if p.kind == "string"]
    kind = draw(st.sampled_from(["compare", "string", "and", "or", "not"]))
    if depth > 0 and kind in ("and", "or"):
        left = draw(expression(names, depth - 1))
        right = draw(expression(names, depth - 1))
        return f"({left}) {kind} ({right})"
    if depth > 0 and kind == "not":
        return f"not ({draw(expression(names, depth - 1))})"
    if strings and (kind == "string" or not numbers):
        chosen = draw(st.sampled_from(strings))
        operator = draw(st.sampled_from(["==", "!="]))
        return f"{chosen.name} {operator} {draw(st.sampled_from([*chosen.values, 'other']))!r}"
    operator = draw(st.sampled_from(["<", "<=", ">", ">=", "==", "!="]))
    left, right = draw(arithmetic(numbers, 2)), draw(arithmetic(numbers, 1))
    return f"{draw(st.sampled_from(numbers))} + {left} {operator} {right}"


@st.composite
def arithmetic(draw: st.DrawFn, names: list[str], depth: int) -> str:
    if depth == 0 or draw(st.booleans()):
        return draw(st.sampled_from([*names, "0", "2", "7", "0.5", "-3"]))
    left, right = draw(arithmetic(names, depth - 1)), draw(arithmetic(names, depth - 1))
    form = draw(
        st.sampled_from(
            [
                *("({} + {})", "({} - {})", "({} * {})", "({} / {})", "({} // {})", "({} % {})"),
                *("min({}, {})", "max({}, {})", "(abs({}) + {})", "(-{} + {})", "({} ** {})"),
            ]
        )
    )
    return form.format(left, right)


def every_point(space: DesignSpace) -> list[tuple[int, ...]]:
    """All index vectors in lexicographic order, legal or not."""
    return list(itertools.product(*(range(int(n)) for n in space.cardinalities)))
