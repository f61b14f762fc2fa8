"""The systolic closed form equals a cycle-stepped array, and SCALE-Sim's reports row by row."""

from __future__ import annotations

import numpy as np
import pytest
from systolic_simulator import simulate

from archsim.errors import InputError
from archsim.models.systolic import (
    DATAFLOWS,
    SystolicArray,
    evaluate_systolic,
    matrix_sizes,
    off_array_words,
    read_scalesim_config,
    systolic_layers,
)
from archsim.validate.systolic import compare_reports
from archsim.workload import load_workload, save_workload
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


# The same on 5 x 23 units: arrays that are not square tell rows from columns. 20 x 11 x 7
# inputs and 30 filters of 3 x 2, and SCALE-Sim's "gemm" input of 20 x 33 x 41 (M, N, K).
ODD = (180, 30, 42)
GEMM = (20, 33, 41)
UNEVEN = [
    (
        "os",
        ODD,
        (4895, 40.28955899986677, 65.21739130434767, 40.28132992327365, 15120, 45360, 7416),
    ),
    ("os", GEMM, (535, 43.982121088988215, 71.73913043478262, 43.90006489292667, 1640, 5412, 884)),
    (
        "ws",
        ODD,
        (3797, 51.94031901615692, 60.86956521739133, 47.023698451203586, 15120, 1260, 48600),
    ),
    ("ws", GEMM, (917, 25.66023422312835, 65.36231884057972, 17.90748461385746, 1640, 1353, 5940)),
    (
        "is",
        ODD,
        (4391, 44.91400394086719, 91.30434782608697, 33.001571503404904, 7560, 10080, 48600),
    ),
    ("is", GEMM, (575, 40.92249527410208, 79.22705314009663, 30.401078530502186, 820, 1353, 5940)),
]


@pytest.mark.parametrize(
    ("dataflow", "sizes", "figures", "units"),
    [(*row, (32, 32)) for row in GOLDEN] + [(*row, (5, 23)) for row in UNEVEN],
)
def test_golden_rows(dataflow, sizes, figures, units):
    cost = evaluate_systolic(*sizes, *units, dataflow, compat="scalesim")
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


@pytest.mark.parametrize("dataflow", DATAFLOWS.values())
def test_the_default_is_what_a_stepped_array_counts(dataflow):
    rng = np.random.default_rng(3)
    sizes = rng.integers(1, 9, (60, 5))
    sizes[:3] = [[1, 1, 1, 1, 1], [9, 2, 5, 1, 7], [3, 8, 4, 7, 1]]
    cost = evaluate_systolic(*sizes.T, dataflow)
    for i, (m, n, k, rows, columns) in enumerate(sizes):
        a, b = rng.integers(-9, 9, (m, k)), rng.integers(-9, 9, (k, n))
        stepped = simulate(a, b, rows, columns, dataflow)
        assert (stepped.result == a @ b).all()
        for figure in ("folds", "cycles", "input_reads", "weight_reads", "output_writes"):
            assert getattr(cost, figure)[i] == getattr(stepped, figure), (figure, sizes[i])
        held, across, folds = {
            "output_stationary": (m, n, cost.folds[i]),
            "weight_stationary": (k, n, cost.folds[i]),
            "input_stationary": (k, m, cost.folds[i]),
        }[dataflow]
        used = sum(
            min(rows, held - x) * min(columns, across - y)
            for x in range(0, held, rows)
            for y in range(0, across, columns)
        )
        assert cost.mapping_efficiency[i] == pytest.approx(used / (folds * rows * columns))
        busy = m * n * k / (rows * columns * stepped.cycles)
        assert cost.utilization[i] == pytest.approx(busy)
        assert cost.compute_utilization[i] == pytest.approx(busy)


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


CFG = """[general]
run_name = x
[architecture_presets]
ArrayHeight: 16
ArrayWidth: 8
IfmapSramSzkB: 64
FilterSramSzkB: 2
OfmapSramSzkB: 1
Bandwidth : 10,3
Dataflow : ws
[sparsity]
SparsitySupport : false
[run_presets]
InterfaceBandwidth: USER
"""


def test_a_configuration_is_read(tmp_path):
    path = tmp_path / "array.cfg"
    path.write_text(CFG)
    words = (64 * 1024, 2 * 1024, 1024)
    assert read_scalesim_config(path) == SystolicArray(16, 8, "weight_stationary", words, 10)
    path.write_text(CFG.replace("USER", "CALC"))
    assert read_scalesim_config(path).words_per_cycle is None
    path.write_text("[architecture_presets]\nArrayHeight=2\nArrayWidth=3\nDataflow=OS\n")
    assert read_scalesim_config(path) == SystolicArray(2, 3, "output_stationary")


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("16", "-1", "ArrayHeight"),
        ("16", "9999999", "ArrayHeight"),
        ("ws", "xs", "Dataflow.*os, ws, is"),
        ("ArrayWidth: 8\n", "", "ArrayWidth: missing"),
        ("FilterSramSzkB: 2\n", "", "FilterSramSzkB: missing"),
        ("10,3", "fast", "Bandwidth"),
        ("USER", "MAYBE", "InterfaceBandwidth"),
        (": false", ": true", "SparsitySupport: not modelled"),
        ("[sparsity]", "[layout]\nIfmapCustomLayout: True", "IfmapCustomLayout"),
        ("ArrayWidth: 8", "ArrayWidth: 8\nArrayWidth: 9", "line 6|already exists"),
        (CFG, "not a file", "not a configuration file"),
        (CFG, "", "missing"),
    ],
)
def test_a_fault_of_a_configuration_is_named(tmp_path, old, new, says):
    path = tmp_path / "array.cfg"
    assert old in CFG
    path.write_text(CFG.replace(old, new, 1))
    with pytest.raises(InputError, match=says) as caught:
        read_scalesim_config(path)
    assert str(path) in str(caught.value)


def test_depthwise_layers_are_one_product_a_channel(tmp_path):
    path = tmp_path / "net.csv"
    path.write_text(
        "Layer name, IFMAP Height, IFMAP Width, Filter Height, Filter Width, Channels, Num Filter,"
        " Strides,\nDP1, 10, 10, 3, 3, 6, 2, 1,\nfc, 1, 1, 1, 1, 100, 50, 1, 1:1,\n"
    )
    workload = load_workload(path)
    assert workload.macs == 64 * 9 * 6 * 2 + 5000
    array = SystolicArray(4, 4, "output_stationary")
    depthwise, connected = systolic_layers(workload, array)
    assert (depthwise.m, depthwise.n, depthwise.k, depthwise.products) == (64, 2, 9, 6)
    assert depthwise.cycles == 6 * depthwise.cost.cycles
    assert connected.products == 1
    reported = systolic_layers(workload, array, "scalesim")
    assert [row.name for row in reported] == [f"DP1Channel_{i}" for i in range(6)] + ["fc"]


def test_a_topology_of_convolutions_takes_any_batch(tmp_path):
    path = tmp_path / "net.csv"
    head = "Layer name,H,W,R,S,C,M,U,\n"
    path.write_text(head + "a,12,12,3,3,5,40,1,\nb,9,9,1,1,70,33,1,\n")
    once, four = load_workload(path), load_workload(path, batch=4)
    assert four.macs == 4 * once.macs
    save_workload(four, tmp_path / "net.yaml")
    assert load_workload(tmp_path / "net.yaml", batch=1).tensors == once.tensors


def test_what_does_not_fit_the_buffers_is_fetched_again():
    cost = evaluate_systolic(100, 40, 45, 32, 32, "weight_stationary")
    unique = (720, 1800, 4000)
    assert off_array_words(unique, cost, None) == 720 + 1800 + 4000
    assert off_array_words(unique, cost, (1440, 3600, 8000)) == 720 + 1800 + 4000
    # Inputs are read for both folds of the filters, two folds of the reduction write partial sums.
    assert off_array_words(unique, cost, (1439, 3600, 8000)) == 9000 + 1800 + 4000
    assert off_array_words(unique, cost, (1440, 3600, 7999)) == 720 + 1800 + 8000 + 4000


def test_little_bandwidth_binds():
    workload = load_workload("alexnet")
    cycles = [
        systolic_layers(workload, SystolicArray(32, 32, "os", (65536,) * 3, words))[0].cycles
        for words in (1, 2, 1000, None)
    ]
    first = systolic_layers(workload, SystolicArray(32, 32, "os", (65536,) * 3))[0]
    assert cycles[0] == first.off_array_words > cycles[1] > cycles[2] == cycles[3]


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        ("M, N, K,\n", "line|Layer name"),
        ("Layer, M, N, K,\na, 2, 3,\n", "line 2, K: not a count"),
        ("Layer, M, N, K,\na, 2, 3, x,\n", "line 2, K: not a count; found 'x'"),
        ("Layer, M, K, N,\na, 2, 3, 4,\n", "line 1: unknown columns"),
        ("Layer, M, N, K,\na, 2, 3, 4, 2:4,\n", "line 2, sparsity: sparse layers"),
        ("Layer, M, N, K,\na, 2, 3, 4, 5, 6,\n", "line 2: more columns"),
        ("Layer name,H,W,R,S,C,M,U,\na,5,5,3,3,1,1,0,\n", "line 2, stride"),
        ("Layer name,H,W,R,S,C,M,U,\na,5,5,7,3,1,1,1,\n", "line 2: the filter is larger"),
        ("Layer name,H,W,R,S,C,M,U,\n", "no layer"),
        ("", "Layer name"),
    ],
)
def test_a_fault_of_a_topology_is_named(tmp_path, rows, says):
    path = tmp_path / "net.csv"
    path.write_text(rows)
    with pytest.raises(InputError, match=says) as caught:
        load_workload(path)
    assert str(path) in str(caught.value)
