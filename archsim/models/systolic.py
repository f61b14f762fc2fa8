"""Systolic arrays in closed form: cycles, folds, utilisation and operand reads of matrix products.

A layer is the product of an M x K matrix of inputs (a convolution's windows, one a row) and a
K x N matrix of weights. An array of R rows and C columns works on one *fold* (as much of two of
the three dimensions as it has units) at a time, the third dimension streams:

==================  ===========  ===========  ========
dataflow            rows hold    columns      streamed
==================  ===========  ===========  ========
output_stationary   M            N            K
weight_stationary   K            N            M
input_stationary    K            M            N
==================  ===========  ===========  ========

A fold takes ``2 R + C + T - 2`` cycles with T the streamed extent: R to load what stays or to
drain what was accumulated, T to stream, R + C - 2 for the skew (Samajdar et al., "SCALE-Sim:
Systolic CNN Accelerator Simulator", 2018, equation 3).

With ``compat="scalesim"`` the stall-free reports of SCALE-Sim 3.0 are reproduced exactly. They
differ in three ways: the last cycle's index is reported for the number of cycles (one less), the
output-stationary fold leaves out the R cycles of its drain, and its output writes count R + C null
requests a fold.
"""

from __future__ import annotations

import configparser
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from archsim.errors import InputError
from archsim.inputs import read_text
from archsim.workload.graph import Einsum

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

#: Dataflows by SCALE-Sim's abbreviation.
DATAFLOWS = {"os": "output_stationary", "ws": "weight_stationary", "is": "input_stationary"}
#: Extents beyond this could overflow the integer counts.
MAX_SIZE = 1 << 20


@dataclass(frozen=True, eq=False)
class SystolicCost:
    """Figures of every layer on every array, in the broadcast shape of the arguments.

    Attributes:
        folds: Times the array is filled.
        cycles: Clock cycles without stalls.
        utilization: Multiply-accumulates over ``rows * columns * cycles``.
        mapping_efficiency: Share of the units a fold occupies, mean over folds.
        compute_utilization: Share of unit cycles that multiply, mean over folds, with the cycles
            of a fold as SCALE-Sim counts them for this figure under ``compat="scalesim"``.
        input_reads: Words of the input matrix read from the array's buffers.
        weight_reads: Words of the weight matrix read.
        output_writes: Words of results and partial sums written.
    """

    folds: Integers
    cycles: Integers
    utilization: Floats
    mapping_efficiency: Floats
    compute_utilization: Floats
    input_reads: Integers
    weight_reads: Integers
    output_writes: Integers


def evaluate_systolic(
    m: ArrayLike,
    n: ArrayLike,
    k: ArrayLike,
    rows: ArrayLike,
    columns: ArrayLike,
    dataflow: str,
    compat: str | None = None,
) -> SystolicCost:
    """Cost of matrix products on systolic arrays.

    Args:
        m: Rows of the inputs (output positions), at most 2**20 like all sizes here.
        n: Columns of the weights (filters).
        k: The reduction.
        rows: Rows of the array.
        columns: Columns of the array. All five broadcast against each other.
        dataflow: ``output_stationary``, ``weight_stationary``, ``input_stationary``, or SCALE-Sim's
            ``os``, ``ws``, ``is``.
        compat: ``"scalesim"`` for the reports of SCALE-Sim, see the module.

    Raises:
        InputError: A size is not a whole number from 1 to 2**20, or an option is unknown.

    Example:
        >>> cost = evaluate_systolic(100, 40, 45, 32, 32, "weight_stationary")
        >>> int(cost.folds), int(cost.cycles), round(float(cost.utilization), 3)
        (4, 776, 0.227)
    """
    name = DATAFLOWS.get(dataflow, dataflow)
    if name not in DATAFLOWS.values():
        raise InputError(
            "unknown systolic dataflow", found=dataflow, expected=", ".join(DATAFLOWS.values())
        )
    if compat not in (None, "scalesim"):
        raise InputError("unknown compat mode", found=compat, expected="'scalesim' or None")
    sizes = [
        _sizes(value, field)
        for value, field in ((m, "m"), (n, "n"), (k, "k"), (rows, "rows"), (columns, "columns"))
    ]
    m, n, k, rows, columns = np.broadcast_arrays(*sizes)
    held, across, streamed = {
        "output_stationary": (m, n, k),
        "weight_stationary": (k, n, m),
        "input_stationary": (k, m, n),
    }[name]
    down, over = -(-held // rows), -(-across // columns)
    folds = down * over
    output_stationary = name == "output_stationary"
    fold_cycles = 2 * rows + columns + streamed - 2
    busy_cycles = fold_cycles
    writes = m * n * (1 if output_stationary else down)
    if compat == "scalesim":
        if output_stationary:
            fold_cycles = busy_cycles = fold_cycles - rows
            writes = writes + folds * (rows + columns)
        else:  # its utilisation of a fold counts the columns' skew a second time
            busy_cycles = fold_cycles + columns - 1
    cycles = folds * fold_cycles - (1 if compat == "scalesim" else 0)
    units = (rows * columns).astype(np.float64)
    efficiency = held * across / (folds * units)
    return SystolicCost(
        folds,
        cycles,
        m.astype(np.float64) * n * k / (units * cycles),
        efficiency,
        efficiency * streamed / busy_cycles,
        m * k * (1 if name == "input_stationary" else over),
        k * n * {"output_stationary": down, "weight_stationary": 1, "input_stationary": over}[name],
        writes,
    )


def _sizes(value: ArrayLike, field: str) -> Integers:
    given = np.asarray(value)
    if given.dtype.kind not in "iu" or (
        given.size and not 1 <= given.min() <= given.max() <= MAX_SIZE
    ):
        raise InputError(
            "sizes must be whole numbers", field=field, found=value, expected=f"1 to {MAX_SIZE}"
        )
    return given.astype(np.int64)


def matrix_sizes(einsum: Einsum) -> tuple[int, int, int, int]:
    """An einsum as matrix products.

    Returns:
        M (dimensions of output and data), N (of output and weight), K (reduced), and how many
        independent products there are (dimensions of all three: groups, heads).

    Example:
        >>> from archsim.workload.graph import matmul_einsum
        >>> matrix_sizes(matmul_einsum("a", "b", "c", rows=5, inner=7, columns=3))
        (5, 3, 7, 1)
    """
    data, weight, output = (
        {dim for rank in access.ranks for dim, _ in rank} for access in einsum.operands
    )
    m = n = k = products = 1
    for dim, extent in einsum.dims:
        if dim not in output:
            k *= extent
        elif dim in data and dim in weight:
            products *= extent
        elif dim in weight:
            n *= extent
        else:
            m *= extent
    return m, n, k, products


@dataclass(frozen=True)
class SystolicArray:
    """What a SCALE-Sim configuration says about the array.

    Attributes:
        rows, columns: Its size.
        dataflow: As :func:`evaluate_systolic` takes it.
    """

    rows: int
    columns: int
    dataflow: str


def read_scalesim_config(path: str | Path) -> SystolicArray:
    """Read a SCALE-Sim ``.cfg`` file.

    Raises:
        InputError: Names the field that is missing or wrong.
    """
    parser = configparser.ConfigParser(interpolation=None)
    try:
        parser.read_string(read_text(path))
    except configparser.Error as error:
        text = " ".join(str(error).split())
        raise InputError(f"not a configuration file: {text}", source=path) from None
    section = "architecture_presets"

    def value(key: str) -> str:
        try:
            return parser.get(section, key).strip()
        except configparser.Error:
            raise InputError("missing", source=path, field=f"{section}.{key}") from None

    def size(key: str) -> int:
        text = value(key)
        if not (text.isascii() and text.isdigit() and len(text) < 9 and 1 <= int(text) <= MAX_SIZE):
            raise InputError(
                "not a size", source=path, field=f"{section}.{key}", found=text,
                expected=f"1 to {MAX_SIZE}",
            )  # fmt: skip
        return int(text)

    dataflow = value("Dataflow").lower()
    if dataflow not in DATAFLOWS:
        raise InputError(
            "unknown dataflow", source=path, field=f"{section}.Dataflow", found=dataflow,
            expected=", ".join(DATAFLOWS),
        )  # fmt: skip
    return SystolicArray(size("ArrayHeight"), size("ArrayWidth"), DATAFLOWS[dataflow])
