"""The Gemmini model: laws, the pathologies it explains, and its calibration."""

from __future__ import annotations

from dataclasses import astuple, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from archsim.errors import InputError
from archsim.models import gemmini as g
from archsim.models.gemmini import CALIBRATED, GemminiPrograms

CONV = [4, 0, 1, 2, 3, 5, 6]  # output rows outermost


def program(extents, tile, array=16, stride=1, order=CONV, matmul=False):
    return GemminiPrograms(
        np.array([extents], float), np.array([stride], float), np.array([tile], float),
        np.array([order]), np.array([array], float), np.array([matmul]),
    )  # fmt: skip


def total(*args, **kwargs):
    return float(g.cycles(program(*args, **kwargs)).cycles[0])


extents = st.tuples(
    st.just(1), *(st.sampled_from((1, 3, 16, 64)) for _ in range(2)),
    *(st.sampled_from((1, 7, 28)) for _ in range(2)), *(st.sampled_from((1, 3)) for _ in range(2)),
)  # fmt: skip


@st.composite
def programs(draw):
    whole = draw(extents)
    tile = [draw(st.integers(1, e)) for e in whole]
    order = draw(st.permutations(range(7)))
    array = draw(st.sampled_from((4, 16, 64)))
    return program(whole, tile, array, draw(st.sampled_from((1, 2))), order, draw(st.booleans()))


@given(programs())
@settings(max_examples=60, deadline=None)
def test_cycles_are_finite_and_bounded_by_the_parts(one):
    found = g.cycles(one)
    parts = np.stack([found.issue, found.load, found.execute, found.store])
    assert np.isfinite(found.cycles).all()
    assert (found.cycles >= found.tiles * parts.max(axis=0)).all()
    macs = one.extents.prod(axis=1)
    assert (found.cycles * one.array**2 >= macs * 0.999).all()


@given(programs(), st.sampled_from(("request", "transfer", "page", "store", "conflict", "start")))
@settings(max_examples=40, deadline=None)
def test_a_slower_part_is_never_faster(one, name):
    slow = replace(CALIBRATED, **{name: 3 * getattr(CALIBRATED, name)})
    assert g.cycles(one, slow).cycles[0] >= g.cycles(one).cycles[0] * (1 - 1e-12)


@given(programs())
@settings(max_examples=30, deadline=None)
def test_order_of_loops_that_run_once_does_not_matter(one):
    whole = GemminiPrograms(one.extents, one.stride, one.extents, one.order, one.array, one.matmul)
    other = replace(whole, order=whole.order[:, ::-1])
    assert g.cycles(whole).cycles[0] == pytest.approx(g.cycles(other).cycles[0])


def test_a_batch_is_its_rows_one_by_one():
    rows = [
        program([1, 64, 64, 56, 56, 3, 3], [1, 64, 64, 56, k, 3, 3], a)
        for k, a in ((1, 16), (7, 16), (56, 4), (8, 64))
    ]
    together = GemminiPrograms(
        *(np.concatenate([getattr(r, f) for r in rows])
          for f in ("extents", "stride", "tiles", "order", "array", "matmul"))
    )  # fmt: skip
    found = g.cycles(together).cycles
    assert found.tolist() == [float(g.cycles(r).cycles[0]) for r in rows]
    assert g.cycles(together.take(np.array([2]))).cycles[0] == found[2]


def test_large_tiles_on_a_small_array_are_bound_by_the_array():
    # DOSA's first RTL row: 7x7 convolution, stride 2, 3 to 64 channels, 112x112 outputs, on 4x4:
    # 9,853,947 cycles measured, 9,834,496 of them in the array.
    found = g.cycles(program([1, 3, 64, 112, 112, 7, 7], [1, 3, 8, 112, 4, 7, 7], 4, 2))
    assert found.bound[0] == "execute"
    assert found.cycles[0] == pytest.approx(9853947, rel=0.05)


def test_tiny_tiles_are_bound_by_the_cpu():
    found = g.cycles(program([1, 8, 64, 28, 28, 3, 3], [1, 8, 16, 1, 1, 3, 1]))
    assert found.bound[0] == "issue"
    assert found.cycles[0] / found.tiles[0] == pytest.approx(CALIBRATED.issue_conv, rel=0.2)


def test_tiles_that_lie_wholly_in_the_padding_run_through_the_counter():
    # Kernel rows one by one and output rows one by one: the first output row's first kernel rows
    # read padding only. With all kernel rows in the tile there is no such tile.
    split = g.tile_work(program([1, 3, 64, 112, 112, 7, 7], [1, 3, 8, 28, 1, 7, 1], 4, 2))
    whole = g.tile_work(program([1, 3, 64, 112, 112, 7, 7], [1, 3, 8, 28, 1, 7, 7], 4, 2))
    assert split.wrapped[0] > 65536
    assert whole.wrapped[0] == 0


def test_weights_that_return_are_fetched_again_when_they_do_not_fit():
    # 9.4 MB of weights, walked once for each output row: every line comes from DRAM each time.
    again = g.tile_work(program([1, 1024, 1024, 28, 28, 3, 3], [1, 1024, 16, 28, 4, 3, 3]))
    assert again.fetched[0] >= 9000
    # 64 to 64 channels, 37 KB: nothing does.
    small = g.tile_work(program([1, 64, 64, 28, 28, 3, 3], [1, 64, 16, 28, 4, 3, 3]))
    assert small.fetched[0] < 1


def test_calibration_finds_the_constants_that_made_the_cycles():
    rng = np.random.default_rng(2)
    rows = 200
    extents = np.ones((rows, 7))
    extents[:, 1:3] = 2.0 ** rng.integers(2, 10, (rows, 2))
    extents[:, 3:5] = rng.integers(4, 57, (rows, 2))
    extents[:, 5:] = rng.choice([1, 3], rows)[:, None]
    tiles = np.maximum(1, np.floor(extents * rng.uniform(0.05, 1, extents.shape)))
    order = np.array([rng.permutation(7) for _ in range(rows)])
    made = GemminiPrograms(
        extents, np.ones(rows), tiles, order, rng.choice([4.0, 16.0, 64.0], rows),
        rng.random(rows) < 0.3,
    )  # fmt: skip
    truth = replace(CALIBRATED, issue_conv=400.0, request=2.0, store=9.0, transfer=12.0)
    measured = g.cycles(made, truth).cycles
    found = g.calibrate(made, measured)
    assert np.abs(g.cycles(made, found).cycles / measured - 1).max() < 0.02
    assert found.issue_conv == pytest.approx(400, rel=0.02)


def test_nonsense_is_refused():
    with pytest.raises(InputError, match="positive"):
        g.tile_work(program([1, 0, 1, 1, 1, 1, 1], [1] * 7))
    assert all(value > 0 for value in astuple(CALIBRATED))


@pytest.mark.refs
def test_held_out_agreement_with_the_rtl(refs):
    from archsim.validate.rtl import RANDOM, TEST, Agreement, held_out, read_rows

    refs("dosa")
    for rows in (read_rows(*TEST), read_rows(*RANDOM)):
        agreement = Agreement.of(held_out([rows])[0][0], rows.measured)
        assert agreement.median_error <= 0.10
        assert agreement.spearman >= 0.985


def test_our_mappings_run_as_programs():
    from archsim.hardware import load_machine
    from archsim.system import evaluate
    from archsim.workload import load_workload

    network = load_workload("alexnet")
    cost = evaluate(network, load_machine("gemmini"), objective="latency")
    einsums = {op.name: op.einsum for op in network.operations if op.einsum is not None}
    layers = [layer for layer in cost.layers if layer.mapping is not None]
    programs, repeats = g.programs_from_mappings(
        [einsums[layer.name] for layer in layers], [layer.mapping for layer in layers], 16
    )
    macs = programs.extents.prod(axis=1) * repeats
    assert macs.tolist() == [layer.macs for layer in layers]
    assert [layer.name for layer, flat in zip(layers, programs.matmul, strict=True) if flat] == [
        "fc6", "fc7", "fc8",
    ]  # fmt: skip
    assert programs.stride[0] == 4  # conv1
    assert (programs.tiles <= programs.extents).all()
    found = g.cycles(programs).cycles * repeats
    assert (found >= macs / 256 * 0.999).all()


def test_the_command_prints_every_layer(capsys):
    from archsim.cli import main

    assert main(["gemmini", "-w", "alexnet"]) == 0
    out = capsys.readouterr().out
    assert "conv2" in out
    assert "fc8" in out
    assert main(["gemmini", "-w", "alexnet", "-m", "eyeriss"]) == 2
    assert "square array" in capsys.readouterr().err
