"""The systolic closed form equals SCALE-Sim's stall-free reports row by row."""

from __future__ import annotations

import numpy as np
import pytest

from archsim.errors import InputError
from archsim.models.systolic import (
    DATAFLOWS,
    evaluate_systolic,
    matrix_sizes,
    read_scalesim_config,
)
from archsim.validate.systolic import compare_reports
from archsim.workload.graph import conv2d_einsum, matmul_einsum

# SCALE-Sim 3.0.0, 32 x 32, stall-free: layer (M, N, K): cycles, overall %, mapping %, compute %,
# reads of inputs and weights, writes of outputs. The layer has 12 x 12 x 5 inputs and 40 3x3
# filters; the other is a fully connected one of 100 x 50.
TINY = (100, 40, 45)
CONNECTED = (1, 50, 100)
GOLDEN = [
    ("os", TINY, (855, 20.55921052631579, 48.828125, 20.535192757009348, 9000, 7200, 4512)),
    ("ws", TINY, (775, 22.681451612903224, 43.9453125, 19.53125, 9000, 1800, 8000)),
    ("is", TINY, (1071, 16.412815126050422, 54.931640625, 13.316761363636362, 4500, 7200, 8000)),
    ("os", CONNECTED, (323, 1.5117066563467492, 2.44140625, 1.5070408950617282, 200, 5000, 178)),
    ("ws", CONNECTED, (759, 0.6433218050065876, 61.03515625, 0.4844060019841269, 200, 5000, 200)),
    ("is", CONNECTED, (575, 0.8491847826086957, 2.44140625, 0.6975446428571428, 100, 5000, 200)),
]


@pytest.mark.parametrize(("dataflow", "sizes", "figures"), GOLDEN)
def test_golden_rows(dataflow, sizes, figures):
    cost = evaluate_systolic(*sizes, 32, 32, dataflow, compat="scalesim")
    found = (
        cost.cycles, 100 * cost.utilization, 100 * cost.mapping_efficiency,
        100 * cost.compute_utilization, cost.input_reads, cost.weight_reads, cost.output_writes,
    )  # fmt: skip
    assert found == pytest.approx(figures, rel=1e-12)


@pytest.mark.refs
def test_no_row_of_any_report_differs(refs):
    refs("scalesim")
    compared = compare_reports()
    assert sum(report.rows for report in compared) >= 75
    assert [difference for report in compared for difference in report.differing] == []


def walk(m, n, k, rows, columns, dataflow):
    """Cycles and writes fold by fold."""
    held, across, streamed = {
        "output_stationary": (m, n, k),
        "weight_stationary": (k, n, m),
        "input_stationary": (k, m, n),
    }[dataflow]
    folds, cycles, used = 0, 0, 0
    for a in range(0, held, rows):
        for b in range(0, across, columns):
            folds += 1
            cycles += rows + streamed + (rows + columns - 2)
            used += min(rows, held - a) * min(columns, across - b) / (rows * columns)
    return folds, cycles, used / folds


@pytest.mark.parametrize("dataflow", DATAFLOWS.values())
def test_the_default_equals_a_walk_over_the_folds(dataflow):
    rng = np.random.default_rng(3)
    sizes = rng.integers(1, 90, (200, 5))
    cost = evaluate_systolic(*sizes.T, dataflow)
    for i, size in enumerate(sizes):
        folds, cycles, used = walk(*map(int, size), dataflow)
        assert (cost.folds[i], cost.cycles[i]) == (folds, cycles)
        assert cost.mapping_efficiency[i] == pytest.approx(used)
    m, n, k, rows, columns = sizes.T
    assert cost.utilization * cost.cycles * rows * columns == pytest.approx(m * n * k)
    assert (cost.utilization <= cost.mapping_efficiency + 1e-12).all()
    assert (cost.input_reads >= m * k).all()
    assert (cost.weight_reads >= k * n).all()
    assert (cost.output_writes >= m * n).all()
    assert np.allclose(cost.compute_utilization, cost.utilization)


def test_layers_and_arrays_broadcast():
    cost = evaluate_systolic(
        np.array([100, 1])[:, None], np.array([40, 50])[:, None], np.array([45, 100])[:, None],
        np.array([8, 32, 128]), np.array([8, 32, 128]), "ws",
    )  # fmt: skip
    assert cost.cycles.shape == (2, 3)
    assert cost.cycles[0, 1] == evaluate_systolic(100, 40, 45, 32, 32, "ws").cycles


def test_einsums_become_matrix_products():
    conv = conv2d_einsum(
        "i", "w", "o", batch=2, groups=3, out_channels=12, in_channels=6, out_size=(5, 7),
        kernel=(3, 2), stride=(2, 1),
    )  # fmt: skip
    assert matrix_sizes(conv) == (2 * 5 * 7, 4, 2 * 3 * 2, 3)
    heads = matmul_einsum("a", "b", "c", rows=5, inner=7, columns=3, batch=4, shared_weight=False)
    assert matrix_sizes(heads) == (5, 3, 7, 4)


@pytest.mark.parametrize(
    ("sizes", "dataflow", "compat", "says"),
    [
        ((0, 1, 1, 1, 1), "os", None, "m: sizes"),
        ((1, 1, 1.5, 1, 1), "os", None, "k: sizes"),
        ((1, 1, 1, 1, 1 << 21), "os", None, "columns"),
        ((1, 1, 1, 1, 1), "rs", None, "output_stationary"),
        ((1, 1, 1, 1, 1), "os", "timeloop", "scalesim"),
    ],
)
def test_bad_arguments_are_named(sizes, dataflow, compat, says):
    with pytest.raises(InputError, match=says):
        evaluate_systolic(*sizes, dataflow, compat)


def test_a_configuration_is_read_and_its_faults_are_named(tmp_path):
    path = tmp_path / "array.cfg"
    text = "[architecture_presets]\nArrayHeight: 16\nArrayWidth: 8\nDataflow : ws\n"
    path.write_text(text)
    array = read_scalesim_config(path)
    assert (array.rows, array.columns, array.dataflow) == (16, 8, "weight_stationary")
    for wrong, says in (
        (text.replace("16", "-1"), "ArrayHeight"),
        (text.replace("ws", "xs"), "Dataflow"),
        (text.replace("ArrayWidth: 8\n", ""), "ArrayWidth"),
        ("not a file", "not a configuration file"),
        ("", "ArrayHeight|Dataflow"),
    ):
        path.write_text(wrong)
        with pytest.raises(InputError, match=says):
            read_scalesim_config(path)
