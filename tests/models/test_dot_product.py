"""Dot-product arrays: the closed form beside a walk of tiles and pieces, and laws that hold."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from archsim.errors import InputError
from archsim.models.dot_product import (
    DotProductArray,
    Products,
    evaluate_products,
    refetches,
    terms,
)

ARRAY = DotProductArray(
    rows=4.0, columns=4.0, fold=2.0, lanes=2.0, serial_bits=2.0, weight_bits=4.0, stored_bits=4.5,
    input_bits=16.0, kv_bits=8.0, weight_buffer_bytes=1024.0, input_buffer_bytes=1024.0, banks=1.0,
    unit_energy_j=1e-12, tier_bits_per_cycle=64.0, tier_read_j_per_bit=1e-11,
    tier_write_j_per_bit=2e-11, node_nm=28.0,
)  # fmt: skip


def products(n, k, m, copies=1, cached=False) -> Products:
    one = np.ones(1)
    return Products(one * n, one * k, one * m, one * copies, np.array([cached]))


def walked_cycles(n, k, m, rows, columns, lanes, bits, serial) -> int:
    """Cycles of a product on one arrangement, every tile, chunk and term visited."""
    cycles = 0
    for _ in range(0, n, rows):
        for _ in range(0, m, columns):
            for _ in range(0, k, lanes):
                left = int(bits)
                if serial is None:
                    cycles += 1
                    continue
                while left > 0:
                    cycles, left = cycles + 1, left - serial
    return cycles


def pieces(size: int, buffer: int) -> list[int]:
    whole, rest = divmod(size, buffer)
    return [buffer] * whole + ([rest] if rest else [])


def walked_bytes(w: int, i: int, buffer_w: int, buffer_i: int) -> int:
    """Least bytes read where one operand's pieces are visited outside the other's."""
    parts = {"w": pieces(w, buffer_w), "i": pieces(i, buffer_i)}
    found = []
    for outer, inner in (("w", "i"), ("i", "w")):
        read, resident = 0, {"w": -1, "i": -1}
        for a, size_a in enumerate(parts[outer]):
            for b, size_b in enumerate(parts[inner]):
                for name, at, size in ((outer, a, size_a), (inner, b, size_b)):
                    if resident[name] != at:
                        read, resident[name] = read + size, at
        found.append(read)
    return min(found)


@settings(max_examples=150, deadline=None)
@given(
    st.integers(1, 40), st.integers(1, 30), st.integers(1, 20), st.integers(1, 8),
    st.sampled_from([1, 2, 4, 8]), st.integers(1, 4), st.integers(1, 16),
    st.sampled_from([None, 1, 2, 3]),
)  # fmt: skip
def test_cycles_are_those_of_the_walk(n, k, m, rows, columns, lanes, bits, serial):
    array = replace(
        ARRAY, rows=rows, columns=columns, lanes=lanes, fold=1.0, weight_bits=bits,
        serial_bits=math.nan if serial is None else serial,
    )  # fmt: skip
    cost = evaluate_products(products(n, k, m), array)
    assert cost.compute_cycles[0] == walked_cycles(n, k, m, rows, columns, lanes, bits, serial)


@settings(max_examples=150, deadline=None)
@given(st.integers(1, 400), st.integers(1, 400), st.integers(16, 120), st.integers(16, 120))
def test_traffic_is_that_of_the_walk(w, i, buffer_w, buffer_i):
    again_w, again_i = refetches(w, i, buffer_w, buffer_i)
    assert again_w * w + again_i * i == walked_bytes(w, i, buffer_w, buffer_i)


@settings(max_examples=100, deadline=None)
@given(
    st.integers(1, 300), st.integers(1, 300), st.integers(1, 300), st.integers(1, 3), st.booleans()
)
def test_laws(n, k, m, copies, cached):
    made = products(n, k, m, copies, cached)
    cost = evaluate_products(made, ARRAY)
    macs = n * k * m * copies
    bits = ARRAY.kv_bits if cached else ARRAY.stored_bits
    assert cost.compute_cycles >= macs * terms(8 if cached else 4, 2.0) / (4 * 4 * 2)
    assert cost.weight_bits_moved >= n * k * bits * copies - 1e-9
    assert cost.input_bits_moved >= k * m * 16 * copies
    assert cost.output_bits_moved == n * m * 16 * copies
    assert cost.cycles == np.maximum(cost.compute_cycles, cost.memory_cycles)
    parts = cost.unit_j + cost.weight_buffer_j + cost.input_buffer_j + cost.tier_j
    assert cost.energy_j == parts
    # one more copy is one more of everything; more bandwidth, memory or fewer bits never cost more
    twice = evaluate_products(products(n, k, m, 2 * copies, cached), ARRAY)
    assert twice.energy_j == pytest.approx(2 * cost.energy_j)
    for better in (
        {"tier_bits_per_cycle": 128.0},
        {"weight_buffer_bytes": 4096.0},
        {"stored_bits": 3.5, "weight_bits": 3.0},
        {"kv_bits": 4.0},
    ):
        other = evaluate_products(made, replace(ARRAY, **better))
        assert (other.cycles <= cost.cycles).all()
        if "buffer" not in next(iter(better)):  # a larger buffer takes more energy an access
            assert (other.energy_j <= cost.energy_j * (1 + 1e-12)).all()


def test_folding_helps_single_tokens_and_never_hurts():
    tall = evaluate_products(products(64, 32, 1), ARRAY)
    square = evaluate_products(products(64, 32, 1), replace(ARRAY, fold=1.0))
    assert tall.compute_cycles * 2 == square.compute_cycles
    for m in range(1, 9):
        made = products(13, 7, m)
        folded = evaluate_products(made, ARRAY).compute_cycles
        assert folded <= evaluate_products(made, replace(ARRAY, fold=1.0)).compute_cycles


def test_a_batch_is_its_designs_one_by_one():
    column = np.array([[2.0], [4.0], [8.0]])
    rng = np.random.default_rng(0)
    n, k, m = rng.integers(1, 200, (3, 5)).astype(float)
    many = Products(n, k, m, np.ones(5), np.array([False, True, False, True, False]))
    batch = evaluate_products(many, replace(ARRAY, rows=column))
    for row, rows in enumerate(column[:, 0]):
        one = evaluate_products(many, replace(ARRAY, rows=rows))
        for name in ("cycles", "energy_j"):
            np.testing.assert_array_equal(getattr(batch, name)[row], getattr(one, name))


def test_terms_of_the_paper():
    # four terms for INT8, three for INT6, two for FP4 and FP3 (BitMoD, section IV)
    assert terms([8.0, 6.0625, 4.0625, 3.0625], 2.0).tolist() == [4, 3, 2, 2]
    assert terms([16.0, 3.0], math.nan).tolist() == [1, 1]


def test_unknown_compat_mode():
    with pytest.raises(InputError, match="compat"):
        evaluate_products(products(1, 1, 1), ARRAY, "bitmode")
