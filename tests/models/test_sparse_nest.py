"""Gating, skipping and compression of a nest: exact expectations, and the laws they keep.

The oracle walks every placement of the non-zeros (``archsim.models.sparse.walker``).
"""

from __future__ import annotations

import os
import random
from dataclasses import replace
from itertools import combinations, product
from math import prod

import numpy as np
import pytest
from nest_strategies import KINDS, Case, generate, price, random_engine
from sparse_cases import DENSE, draw, expected, nest_of, random_sparsity, walked, words_of

from archsim.errors import InputError
from archsim.models.loopnest import kernel as k
from archsim.models.sparse.density import (
    ActualData,
    Density,
    FixedStructured,
    Hypergeometric,
    NofM,
)
from archsim.models.sparse.formats import RankFormat
from archsim.models.sparse.model import room, sparse_counts
from archsim.models.sparse.price import SparseCost, price_sparse
from archsim.models.sparse.spec import Action, ComputeSparsity, SlotSparsity, Sparsity
from archsim.models.sparse.tiles import Nest

LONG = bool(os.environ.get("ARCHSIM_LONG"))


@pytest.mark.parametrize("seed", range(2000 if LONG else 60))
def test_expectations_are_exact(seed):
    sparse = draw(random.Random(seed), placements=600 if LONG else 250)
    found = expected(sparse)
    words, computes = walked(sparse)
    assert np.abs(found.words - words).max() < 1e-6, sparse
    for name, number in computes.items():
        assert getattr(found.computes, name) == pytest.approx(number, abs=1e-6), (sparse, name)


def check_weights(sparse, density, masks, everywhere_alike=True):
    """Model and walk agree for weights of some pattern, inputs anywhere."""
    found = expected(sparse, density)
    words, computes = walked(sparse, masks)
    wrong = np.abs(found.words - words) > 1e-6
    if not everywhere_alike:
        # Which partial sums are visited first depends on the place, and so may the zeros there.
        wrong[:, 2, :2] = False
    assert not wrong.any(), sparse
    for name, number in computes.items():
        assert getattr(found.computes, name) == pytest.approx(number, abs=1e-6), (sparse, name)


@pytest.mark.parametrize("seed", range(1000 if LONG else 40))
def test_actual_weights_are_exact(seed):
    """The expectation over inputs for the very weights there are."""
    rng = random.Random(seed)
    sparse = draw(rng, placements=250)
    shape = words_of(sparse.nest)[1]
    mask = np.array([rng.random() < 0.5 for _ in range(prod(shape))]).reshape(shape)
    mask.flat[rng.randrange(mask.size)] = True
    check_weights(sparse, ActualData(mask), [mask], everywhere_alike=False)


@pytest.mark.parametrize("seed", range(1000 if LONG else 40))
def test_n_of_m_weights_are_exact(seed):
    rng = random.Random(seed)
    for _ in range(200):
        sparse = draw(rng, placements=250)
        shape = words_of(sparse.nest)[1]
        axes = [a for a, extent in enumerate(shape) if extent in (2, 4)]
        if axes and prod(shape) <= 8:
            break
    axis = axes[0]
    m = rng.choice([n for n in (2, 4) if shape[axis] % n == 0])
    n = rng.randint(1, m - 1)
    masks = []
    for places in product(combinations(range(m), n), repeat=prod(shape) // m):
        lines = np.zeros((prod(shape) // m, m), bool)
        for line, kept in zip(lines, places, strict=True):
            line[list(kept)] = True
        moved = [shape[a] for a in range(len(shape)) if a != axis]
        masks.append(np.moveaxis(lines.reshape(*moved, shape[axis]), -1, axis))
    check_weights(sparse, NofM(n, m, axis, shape[axis]), masks)


def test_the_cases_reach_every_outcome():
    """What the oracle is compared on is not all dense."""
    seen = {"gated": 0, "skipped": 0, "nested": 0, "fanout": 0, "aligned": 0, "both_absent": 0}
    for seed in range(60):
        sparse = draw(random.Random(seed))
        found = expected(sparse)
        seen["gated"] += found.words[..., 1].sum() > 0
        seen["skipped"] += found.words[..., 2].sum() > 0
        seen["nested"] += int(((found.alive > 0) & (found.alive < 1)).sum() > 1)
        seen["fanout"] += bool(sparse.nest.fanout.any())
        seen["aligned"] += found.computes.skipped > 0
        seen["both_absent"] += found.computes.absent > 0
    assert min(seen.values()) >= 5, seen


def cost_of(
    case: Case, sparsity: Sparsity, densities: list[Density], tables
) -> tuple[SparseCost, np.ndarray]:
    """A case priced sparsely, and the kernel's dense results."""
    nest = nest_of(case)
    results, counts = price(case, tables)
    table, engine = tables[0][0], tables[1][0]
    bits = table[:, k.BITS : k.BITS + 3]
    width = np.maximum(1, table[:, k.BLOCK, None] // bits).astype(np.int64)
    found = sparse_counts(nest, sparsity, densities, counts, width)
    held = room(nest, sparsity, densities, bits)
    dense_cycles = results[k.COMPUTE_CYCLES]
    return price_sparse(nest, sparsity, found, table, engine, dense_cycles, held), results


def case_and_tables(seed: int):
    rng = random.Random(seed)
    case = generate(rng, kind=rng.choice(KINDS), work=400)
    return rng, case, random_engine(rng, len(case.spatial))


def plain(nest: Nest) -> Sparsity:
    return Sparsity(tuple(SlotSparsity() for _ in nest.factors))


def without_formats(sparsity: Sparsity) -> Sparsity:
    return replace(sparsity, slots=tuple(replace(s, formats=((), (), ())) for s in sparsity.slots))


@pytest.mark.parametrize("seed", range(80))
def test_nothing_sparse_is_the_kernel(seed):
    """No declaration, any density; and any actions at density 1: the dense kernel's results."""
    rng, case, tables = case_and_tables(seed)
    nest = nest_of(case)
    sizes = [prod(shape) for shape in words_of(nest)]
    thin = [Hypergeometric(rng.uniform(0.1, 1.0), size) for size in sizes]
    acting = without_formats(random_sparsity(rng, nest))
    for sparsity, densities in ((plain(nest), thin), (acting, [DENSE] * 3)):
        cost, dense = cost_of(case, sparsity, densities, tables)
        assert cost.cycles == dense[k.CYCLES]
        assert cost.bound_slot == dense[k.BOUND_SLOT]
        assert cost.energy_j == pytest.approx(dense[k.ENERGY_J], rel=1e-9)
        assert cost.network_j == pytest.approx(dense[k.NETWORK_J], rel=1e-9, abs=1e-30)
        assert cost.overflow == pytest.approx(dense[k.OVERFLOW], rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("seed", range(80))
def test_fewer_nonzeros_never_cost_more(seed):
    rng, case, tables = case_and_tables(seed)
    nest = nest_of(case)
    sparsity = random_sparsity(rng, nest)
    sizes = [prod(shape) for shape in words_of(nest)]
    counts = [rng.randint(1, size) for size in sizes[:2]]
    last = None
    for share in (1.0, 0.7, 0.4, 0.1):
        held = [max(1, int(count * share)) for count in counts]
        thin = [Hypergeometric(n / s, s) for n, s in zip(held, sizes, strict=False)]
        cost, _ = cost_of(case, sparsity, [*thin, DENSE], tables)
        if last is not None:
            assert cost.energy_j <= last.energy_j * (1 + 1e-9)
            assert cost.cycles <= last.cycles
        last = cost


@pytest.mark.parametrize("seed", range(60))
def test_gating_saves_energy_and_no_time(seed):
    rng, case, tables = case_and_tables(seed)
    nest = nest_of(case)
    gating = random_sparsity(rng, nest)
    idle = Sparsity(
        tuple(
            replace(slot, actions=tuple(a for a in slot.actions if a.kind == "skip"))
            for slot in gating.slots
        ),
        replace(gating.compute, gate_zeros=False),
    )
    densities = [Hypergeometric(rng.uniform(0.1, 0.9), prod(s)) for s in words_of(nest)[:2]]
    gated, _ = cost_of(case, gating, [*densities, DENSE], tables)
    free, _ = cost_of(case, idle, [*densities, DENSE], tables)
    assert gated.compute_cycles == free.compute_cycles
    assert gated.cycles == free.cycles
    assert gated.energy_j <= free.energy_j * (1 + 1e-9)


@pytest.mark.parametrize("seed", range(40))
def test_metadata_only_adds(seed):
    """At density 1 a format costs its metadata and saves nothing."""
    rng, case, tables = case_and_tables(seed)
    sparsity = random_sparsity(rng, nest_of(case), actions=False)
    cost, dense = cost_of(case, sparsity, [DENSE] * 3, tables)
    assert cost.cycles >= dense[k.CYCLES]
    assert cost.energy_j >= dense[k.ENERGY_J] * (1 - 1e-9)
    assert cost.metadata_j.sum() >= 0.0
    for wider in (2.0, 8.0):
        slots = tuple(
            replace(
                slot,
                formats=tuple(
                    tuple(RankFormat(rank.kind, wider * 8) for rank in ranks)
                    for ranks in slot.formats
                ),
            )
            for slot in sparsity.slots
        )
        more, _ = cost_of(case, Sparsity(slots), [DENSE] * 3, tables)
        assert more.energy_j >= cost.energy_j * (1 - 1e-9)


@pytest.mark.parametrize("seed", range(30))
def test_structured_weights_are_exact(seed):
    """2:4 weights, compressed and skipped on: exactly half of everything they touch."""
    _, case, tables = case_and_tables(seed)
    nest = nest_of(case)
    shape = words_of(nest)[1]
    axes = [a for a, extent in enumerate(shape) if extent % 2 == 0]
    if not axes:
        axes, n, m = [0], 1, 1
    else:
        n, m = 1, 2
    density = NofM(n, m, axes[0], shape[axes[0]])
    slots = [SlotSparsity() for _ in nest.factors]
    formats = ((), (RankFormat("b"),), ())
    for s in nest.keepers(1)[:-1]:
        slots[s] = SlotSparsity(formats)
    sparsity = Sparsity(tuple(slots), ComputeSparsity(skip_absent=True))
    _, counts = price(case, tables)
    ones = np.ones((len(slots), 3), np.int64)
    found = sparse_counts(nest, sparsity, [DENSE, density, DENSE], counts, ones)
    assert found.computes.actual == pytest.approx(case.problem.macs[0] * n / m)
    assert found.words[:, 1, :, 0] == pytest.approx(counts[:, 1] * n / m)


@pytest.mark.parametrize("seed", range(40))
def test_what_happens_is_what_is_asked_for(seed):
    """Actual, gated and skipped never exceed the compressed dense count, nor fall below zero."""
    rng, case, tables = case_and_tables(seed)
    nest = nest_of(case)
    sparsity = random_sparsity(rng, nest)
    densities = [Hypergeometric(rng.uniform(0.1, 0.9), prod(s)) for s in words_of(nest)[:2]]
    _, counts = price(case, tables)
    ones = np.ones((len(nest.factors), 3), np.int64)
    found = sparse_counts(nest, sparsity, [*densities, DENSE], counts, ones)
    assert (found.words >= -1e-9).all()
    assert (found.words.sum(axis=-1) <= counts * (1 + 1e-9) + 1e-9).all()
    total = found.computes
    parts = total.actual + total.gated + total.skipped + total.absent
    assert parts == pytest.approx(case.problem.macs[0])


def test_timeloop_sparse_case_by_hand():
    """Timeloop 4cf6d4c, spMspM tiled (timeloop-accelergy-exercises 2d55108), figures typed here."""
    from archsim.workload.graph import Access, Einsum

    ranks = {"A": "MK", "B": "NK", "Z": "MN"}
    einsum = Einsum(
        (("M", 8), ("N", 8), ("K", 8)),
        tuple(Access(name, tuple(((d, 1),) for d in dims)) for name, dims in ranks.items()),
    )
    nest = Nest(
        einsum,
        ("M", "N", "K"),
        np.array([8, 8, 8]),
        np.array([[1, 4, 1], [8, 2, 8]]),
        np.array([[0, 1, 2], [2, 1, 0]]),
        np.array([[True, True, True], [False, True, True]]),
        np.array([False, False]),
    )
    dense = np.zeros((2, 3, 3))
    dense[0, 0, 0], dense[0, 1, 0], dense[0, 2, 2] = 512, 64, 64
    dense[1, 1, :2] = 512, 64
    dense[1, 2] = 448, 0, 512
    actions = (Action("skip", 1, (0,)), Action("skip", 2, (0, 1)))
    sparsity = Sparsity(
        (
            SlotSparsity(
                ((RankFormat("uop"), RankFormat("cp")), (RankFormat("cp"),), ()),
                (Action("skip", 0, (1,)),),
            ),
            SlotSparsity(((), (RankFormat("uop"), RankFormat("cp")), ()), actions),
        ),
        ComputeSparsity(implied_updates=False),
    )
    densities = [FixedStructured(0.25), FixedStructured(0.5), DENSE]
    width = np.array([[4, 4, 4], [1, 1, 1]])
    found = sparse_counts(nest, sparsity, densities, dense, width)
    assert found.words[0, 0, 0].tolist() == [64, 0, 64]
    assert found.words[0, 1, 0].tolist() == [32, 0, 0]
    assert found.words[0, 2, 2].tolist() == [64, 0, 0]
    assert found.words[1, 1, 0].tolist() == [64, 0, 192]
    assert found.words[1, 1, 1].tolist() == [32, 0, 0]
    assert found.words[1, 2, 0].tolist() == [56, 0, 392]
    assert found.words[1, 2, 2].tolist() == [64, 0, 448]
    assert found.computes.actual == 64
    assert found.computes.share_of_time * 512 == 64


@pytest.mark.refs
def test_timeloop_sparse_case_as_stored(refs):
    from archsim.validate.loopnest_sparse import compare_sparse_case

    compared = compare_sparse_case(refs("timeloop") / "6_sparse_spMspM_tiled")
    assert compared.checked >= 60
    assert compared.differing == ()
    assert compared.result.cycles == 64
    assert abs(compared.energy_error) < 1e-3


@pytest.mark.refs
@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("format: UOP", "format: XYZ", "unknown format"),
        ("type: skipping", "type: jumping", "unknown type"),
        ("distribution: fixed_structured", "distribution: lumpy", "distribution"),
        ("target: Z", "target: Y", "no such data space"),
    ],
)
def test_a_wrong_file_is_refused_in_words(refs, tmp_path, old, new, words):
    from archsim.models.sparse.timeloop import read_sparse_case

    folder = refs("timeloop") / "6_sparse_spMspM_tiled"
    text = (folder / "parsed-processed-input.yaml").read_text()
    assert old in text
    path = tmp_path / "case.yaml"
    path.write_text(text.replace(old, new))
    with pytest.raises(InputError, match=words):
        read_sparse_case(path, *(next(folder.glob(p)) for p in ("*ERT.yaml", "*.map.yaml")))


@pytest.mark.refs
def test_other_distributions_and_actions_of_a_timeloop_case(refs, tmp_path):
    """The same case gated, with non-zeros anywhere, and gated at the units."""
    from archsim.models.sparse.timeloop import read_sparse_case

    folder = refs("timeloop") / "6_sparse_spMspM_tiled"
    text = (folder / "parsed-processed-input.yaml").read_text()

    def run(*changes):
        changed = text
        for old, new in changes:
            assert old in changed
            changed = changed.replace(old, new)
        path = tmp_path / "case.yaml"
        path.write_text(changed)
        files = (next(folder.glob(pattern)) for pattern in ("*ERT.yaml", "*.map.yaml"))
        return read_sparse_case(path, *files).evaluate()

    stored = run()
    gated = run(("type: skipping", "type: gating"))
    assert gated.computes.actual == 64
    # Both operands are compressed: where neither is there, no step is taken, gated or not.
    assert gated.computes.absent == 512 * 0.75 * 0.5
    assert gated.cycles == 512 - gated.computes.absent
    assert gated.counts["Buffer", "B", "Gated scalar reads"] == 192
    assert gated.energy_pj == pytest.approx(stored.energy_pj, rel=5e-3)  # more leakage
    random = run(("distribution: fixed_structured", "distribution: hypergeometric"))
    assert random.cycles == 64
    assert random.computes.actual == pytest.approx(64)
    plain = run(("type: skipping", "type: gating"), ("density: 0.25", "density: 1.0"),
                ("density: 0.5", "density: 1.0"))  # fmt: skip
    assert (plain.cycles, plain.computes.actual) == (512, 512)
