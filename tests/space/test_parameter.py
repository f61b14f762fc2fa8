"""Parameters: what they accept, what they refuse, how ranges are quantised."""

from __future__ import annotations

import numpy as np
import pytest

from archsim.errors import InputError
from archsim.space import DesignSpace, Parameter


def test_ranges_are_quantised_to_a_stated_grid() -> None:
    assert Parameter.integer("n", -2, 7, 3).values == (-2, 1, 4, 7)
    assert Parameter.continuous("x", 0.0, 1.0, 5).values == (0.0, 0.25, 0.5, 0.75, 1.0)
    grid = Parameter.continuous("x", 1e6, 1e9, 4, log=True)
    assert grid.values == (1e6, 1e7, 1e8, 1e9)
    assert grid.log


def test_numbers_are_ordered_and_strings_are_not_unless_said() -> None:
    assert Parameter("n", (1, 2)).ordered
    assert not Parameter("n", (2, 1), ordered=False).ordered
    assert not Parameter("s", ("a", "b")).ordered
    assert Parameter("s", ("slow", "fast"), ordered=True).ordered


def test_scaled_values_stay_whole_where_they_are() -> None:
    parameter = Parameter("kib", (1, 2, 3), scale=1024)
    assert [parameter.machine_value(i) for i in range(3)] == [1024, 2048, 3072]
    assert parameter.machine_table.dtype == np.int64
    half = Parameter("ghz", (0.5, 1.0), scale=1e9)
    assert half.machine_table.tolist() == [5e8, 1e9]
    assert isinstance(half.machine_value(1), float)


def test_tables_cannot_be_written() -> None:
    with pytest.raises(ValueError, match="read-only"):
        Parameter("n", (1, 2)).table[0] = 5


@pytest.mark.parametrize(
    "fields",
    [
        {"name": "2rows", "values": (1,)},
        {"name": "class", "values": (1,)},
        {"name": "min", "values": (1,)},
        {"name": "", "values": (1,)},
        {"name": "n", "values": ()},
        {"name": "n", "values": (1, "a")},
        {"name": "n", "values": (1, True)},
        {"name": "n", "values": (1, None)},
        {"name": "n", "values": (1, 1.0)},
        {"name": "n", "values": (2, 1)},
        {"name": "n", "values": (1, float("nan"))},
        {"name": "n", "values": (1, float("inf"))},
        {"name": "n", "values": (1, 10**400)},
        {"name": "n", "values": (-1, 2), "log": True},
        {"name": "s", "values": ("a", "b"), "log": True},
        {"name": "s", "values": ("a", "b"), "scale": 2},
        {"name": "n", "values": (1, 2), "scale": 0},
        {"name": "n", "values": (1, 2), "scale": float("nan")},
        {"name": "n", "values": (1, 2), "role": "chef"},
    ],
)
def test_what_makes_no_parameter_is_refused(fields: dict) -> None:
    with pytest.raises(InputError):
        Parameter(**fields)


@pytest.mark.parametrize("arguments", [(3, 1), (1, 3, 0), (0, 2**21)])
def test_bad_integer_ranges_are_refused(arguments: tuple) -> None:
    with pytest.raises(InputError):
        Parameter.integer("n", *arguments)


@pytest.mark.parametrize("arguments", [(1.0, 0.0, 4), (0.0, 1.0, 1), (0.0, 1.0, 4, True)])
def test_bad_real_ranges_are_refused(arguments: tuple) -> None:
    with pytest.raises(InputError):
        Parameter.continuous("x", *arguments)


def test_spaces_need_distinct_parameters() -> None:
    with pytest.raises(InputError, match="at least one"):
        DesignSpace([])
    with pytest.raises(InputError, match="twice"):
        DesignSpace([Parameter("n", (1,)), Parameter("n", (2,))])
