"""Laws of the loop-nest model that hold for every problem, machine and mapping."""

from __future__ import annotations

import dataclasses
import itertools
import math
import random

import numpy as np
import pytest
from nest_strategies import (
    Case,
    generate,
    kernel_counts,
    pairs_of_loops,
    price,
    random_engine,
    touched_words,
    utilised,
)

from archsim.models.loopnest import kernel as k

ROUNDS = 300


def draws(seed: int, count: int = ROUNDS):
    rng = random.Random(seed)
    for _ in range(count):
        case = generate(rng, work=4000)
        yield rng, case, random_engine(rng, len(case.spatial))


def storage_energy(case: Case, table: np.ndarray, engine: np.ndarray, counts: np.ndarray) -> float:
    """Energy of all storages, from counts and first principles: whole blocks, per instance."""
    total, used = 0.0, utilised(case)
    for s in np.flatnonzero(~case.spatial):
        for t in range(3):
            if not case.keep[s, t]:
                continue
            bits = counts[s, t] * table[0, s, k.BITS + t]
            if s == 0 and t == k.OUTPUT:  # finished outputs are written at their final width
                size = math.prod(
                    int(case.problem.extents[0, d])
                    for d in range(len(case.problem.dims))
                    if case.problem.relevant[0, t, d]
                )
                bits[k.UPDATES] -= size * (table[0, s, k.BITS + t] - engine[0, k.FINAL_BITS])
            blocks = bits / (table[0, s, k.BLOCK] * used[s])
            prices = table[0, s, [k.READ_J, k.WRITE_J, k.WRITE_J]]
            total += float(np.ceil(blocks - 1e-9) @ prices) * used[s]
    return total


def test_every_figure_is_finite_and_not_negative():
    for _, case, tables in draws(1):
        results, counts = price(case, tables)
        assert np.isfinite(results).all(), case
        assert (np.delete(results, k.BOUND_SLOT) >= 0).all(), case
        assert results[k.BOUND_SLOT] >= -1
        assert np.isfinite(counts).all(), case
        assert (counts >= -1e-9).all(), case


def test_energy_is_the_sum_of_its_parts_and_at_least_that_of_the_macs():
    for _, case, (table, engine) in draws(2):
        results, counts = price(case, (table, engine))
        macs = case.einsum.macs * engine[0, k.MAC_J]
        assert results[k.MAC_ENERGY_J] == pytest.approx(macs)
        assert results[k.ENERGY_J] >= macs * (1 - 1e-12)
        leak_w = engine[0, k.MAC_LEAK_W] * engine[0, k.MAC_COUNT]
        leak_w += float(table[0, :, k.LEAK_W] @ table[0, :, k.INSTANCES])
        assert results[k.LEAK_J] == pytest.approx(
            leak_w * results[k.CYCLES] / engine[0, k.CLOCK_HZ]
        )
        parts = storage_energy(case, table, engine, counts)
        parts += results[k.NETWORK_J] + results[k.MAC_ENERGY_J] + results[k.LEAK_J]
        assert results[k.ENERGY_J] == pytest.approx(parts, rel=1e-9), case


def test_latency_is_bound_by_compute_and_by_every_port():
    bound_by_storage = 0
    for _, case, (table, engine) in draws(3):
        results, counts = price(case, (table, engine))
        units = math.prod(case.factors[case.spatial].ravel().tolist())
        cycles = results[k.CYCLES]
        assert cycles >= results[k.COMPUTE_CYCLES]
        assert results[k.COMPUTE_CYCLES] * units >= case.einsum.macs * engine[0, k.MAC_CYCLES]
        used, slowest = utilised(case), results[k.COMPUTE_CYCLES]
        for s in np.flatnonzero(~case.spatial):
            bits = counts[s] * table[0, s, k.BITS : k.BITS + 3, None]
            if s == 0:
                final = table[0, s, k.BITS + k.OUTPUT] - engine[0, k.FINAL_BITS]
                bits[k.OUTPUT, k.UPDATES] -= touched_words(case)[k.OUTPUT] * final
            reads, writes = bits[:, k.READS].sum(), bits[:, [k.FILLS, k.UPDATES]].sum()
            for moved, column in (
                (reads, k.READ_SLOW), (writes, k.WRITE_SLOW), (reads + writes, k.SHARED_SLOW),
            ):  # fmt: skip
                time = moved * table[0, s, column] / used[s]
                assert cycles >= time * (1 - 1e-9), case
                slowest = max(slowest, math.ceil(time - 1e-6))
        assert cycles == slowest, case  # and nothing else slows it down
        bound_by_storage += results[k.BOUND_SLOT] >= 0
    assert bound_by_storage > ROUNDS // 10


def test_the_tier_moves_every_word_that_is_used():
    for _, case, tables in draws(4):
        _, counts = price(case, tables)
        data, weight, output = touched_words(case)
        assert counts[0, k.INPUT, k.READS] >= data - 1e-6, case
        assert counts[0, k.WEIGHT, k.READS] >= weight - 1e-6, case
        assert counts[0, k.OUTPUT, k.UPDATES] >= output - 1e-6, case


def test_a_storage_serves_at_least_what_its_children_need():
    """Reads of a parent times the widest sharing cover what its children are filled with."""
    for _, case, tables in draws(5):
        _, counts = price(case, tables)
        for t in (k.INPUT, k.WEIGHT):
            keepers = [s for s in range(len(case.spatial)) if case.keep[s, t]]
            for parent, child in itertools.pairwise(keepers):
                fanouts = case.factors[parent:child][case.spatial[parent:child]]
                sharing = math.prod(fanouts.ravel().tolist())
                fills = counts[child, t, k.FILLS]
                assert counts[parent, t, k.READS] <= fills + 1e-6, case
                assert counts[parent, t, k.READS] * sharing >= fills - 1e-6, case


def test_permuting_loops_of_bound_one_changes_nothing():
    changed = 0
    for rng, case, tables in draws(6):
        before = price(case, tables)
        order = case.order.copy()
        for s in range(len(order)):
            dims = list(order[s])
            moving = [d for d in dims if case.factors[s, d] > 1]
            mixed = rng.sample(dims, len(dims))
            real = iter(moving)
            order[s] = [d if case.factors[s, d] == 1 else next(real) for d in mixed]
            changed += bool(pairs_of_loops(case, s)) and (order[s] != case.order[s]).any()
        after = price(dataclasses.replace(case, order=order), tables)
        assert np.array_equal(before[0], after[0]), case
        assert np.array_equal(before[1], after[1]), case
    assert changed > ROUNDS


def test_order_inside_a_fanout_means_nothing():
    for rng, case, tables in draws(7, ROUNDS // 2):
        order = case.order.copy()
        for s in np.flatnonzero(case.spatial):
            order[s] = rng.sample(list(order[s]), order.shape[1])
        shuffled = price(dataclasses.replace(case, order=order), tables)
        assert np.array_equal(price(case, tables)[0], shuffled[0]), case


def test_more_bandwidth_is_never_slower_and_costs_no_traffic():
    faster = 0
    for rng, case, (table, engine) in draws(8):
        before, counts = price(case, (table, engine))
        wider = table.copy()
        for s in range(len(case.spatial)):
            column = rng.choice((k.READ_SLOW, k.WRITE_SLOW, k.SHARED_SLOW))
            wider[0, s, column] *= rng.choice((0.0, 0.5, 0.9))
        after, same = price(case, (wider, engine))
        assert after[k.CYCLES] <= before[k.CYCLES], case
        assert np.array_equal(counts, same)
        faster += after[k.CYCLES] < before[k.CYCLES]
    assert faster > ROUNDS // 20


def test_more_capacity_never_overflows_more():
    for rng, case, (table, engine) in draws(9, ROUNDS // 2):
        larger = table.copy()
        larger[0, :, k.CAPACITY] *= rng.choice((1.5, 8.0))
        before, after = price(case, (table, engine))[0], price(case, (larger, engine))[0]
        assert after[k.OVERFLOW] <= before[k.OVERFLOW]


def test_charging_residual_tiles_in_full_never_costs_less():
    for _, case, _ in draws(10):
        exact, cycles = kernel_counts(case)
        padded, padded_cycles = kernel_counts(case, pad=True)
        assert padded_cycles >= cycles, case
        if (case.factors.prod(axis=0) == case.problem.extents[0]).all():
            assert np.array_equal(exact, padded), case
            assert cycles == padded_cycles
