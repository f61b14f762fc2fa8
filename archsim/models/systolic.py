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

The default is the exact count for such an array, as a simulation that moves every word through
every register finds it (``tests/models/systolic_simulator.py``). With ``compat="scalesim"`` the
stall-free reports of SCALE-Sim 3.0 are reproduced figure for figure instead. They differ by

* cycles: the index of the last cycle stands for their number, one less a layer;
* cycles of an output-stationary fold: the R cycles in which the results leave the array are left
  out (the paper's equation has them);
* output-stationary writes: R + C requests a fold that carry no result are counted;
* utilisation while computing, weight- and input-stationary: the columns' skew is counted twice.

Bandwidth from outside the array is unlimited unless :func:`off_array_words` is asked.
"""

from __future__ import annotations

import configparser
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from archsim.errors import InputError
from archsim.inputs import read_text
from archsim.workload.graph import Einsum, Workload

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
    """A systolic array with the buffers around it.

    Attributes:
        rows, columns: Its size.
        dataflow: As :func:`evaluate_systolic` takes it.
        buffer_words: Words of the input, weight and output buffers; None leaves them unlimited.
        words_per_cycle: Words a cycle from and to the memory behind the buffers; None is unlimited.
    """

    rows: int
    columns: int
    dataflow: str
    buffer_words: tuple[int, int, int] | None = None
    words_per_cycle: int | None = None


@dataclass(frozen=True)
class SystolicLayer:
    """One layer on one array.

    Attributes:
        name: Of the operation; of one group of it under ``compat="scalesim"``.
        m, n, k: Sizes of its matrix product.
        products: Independent products of that size (groups, heads), one after the other.
        cost: Figures of one product.
        off_array_words: Words moved from and to the memory behind the buffers, all products.
        cycles: Of all products, no fewer than the words take at the array's bandwidth.
    """

    name: str
    m: int
    n: int
    k: int
    products: int
    cost: SystolicCost
    off_array_words: int
    cycles: int


def off_array_words(
    unique: tuple[int, int, int],
    cost: SystolicCost,
    buffer_words: tuple[int, int, int] | None,
) -> int:
    """Words one product moves from and to the memory behind the array's buffers.

    An operand that fits half of its buffer (the other half is being filled) is fetched once; one
    that does not is fetched whenever the array reads it. Results that fit are written once, others
    whenever the array writes them, and read back in between as partial sums.

    Args:
        unique: Words of the input, weight and output tensors.
        cost: Of :func:`evaluate_systolic`, of one product.
        buffer_words: Words of the three buffers; None is unlimited.
    """
    asked = (int(cost.input_reads), int(cost.weight_reads))
    words = 0
    for t, every_time in enumerate(asked):
        fits = buffer_words is None or 2 * unique[t] <= buffer_words[t]
        words += min(unique[t], every_time) if fits else every_time
    written = int(cost.output_writes)
    if buffer_words is None or 2 * unique[2] <= buffer_words[2]:
        return words + unique[2]
    return words + written + (written - unique[2])


def systolic_layers(
    workload: Workload, array: SystolicArray, compat: str | None = None
) -> list[SystolicLayer]:
    """Every matrix product of a workload on a systolic array, in the workload's order.

    Args:
        workload: Operations without a loop nest (activations, pooling) are left out.
        array: The array.
        compat: ``"scalesim"``: see the module; the groups of a grouped layer are rows of their
            own, as SCALE-Sim reports them, and bandwidth is unlimited.

    Raises:
        InputError: The workload has no matrix product, or one is too large.
    """
    evaluate_systolic(1, 1, 1, array.rows, array.columns, array.dataflow, compat)  # or an error
    found = []
    for operation in workload.operations:
        if operation.einsum is None:
            continue
        m, n, k, products = matrix_sizes(operation.einsum)
        try:
            cost = evaluate_systolic(m, n, k, array.rows, array.columns, array.dataflow, compat)
        except InputError as error:
            field = f"{operation.name}: {error.field}" if error.field else operation.name
            raise InputError(
                error.message, source=workload.name, field=field, found=error.found,
                expected=error.expected,
            ) from None  # fmt: skip
        plain = cost
        if compat:  # what moves is no matter of how it is reported
            plain = evaluate_systolic(m, n, k, array.rows, array.columns, array.dataflow)
        sizes = [
            -(-workload.tensors[a.tensor].elements // products) for a in operation.einsum.operands
        ]
        words = off_array_words((sizes[0], sizes[1], m * n), plain, array.buffer_words)
        cycles = int(cost.cycles)
        if compat is None and array.words_per_cycle:
            cycles = max(cycles, -(-words // array.words_per_cycle))
        if compat and products > 1:
            found += [
                SystolicLayer(f"{operation.name}Channel_{i}", m, n, k, 1, cost, words, cycles)
                for i in range(products)
            ]
        else:
            found.append(
                SystolicLayer(
                    operation.name, m, n, k, products, cost, products * words, products * cycles
                )
            )
    if not found:
        raise InputError("no matrix product in the workload", source=workload.name)
    return found


#: Words SCALE-Sim's buffers hold a kilobyte: it takes a word to be a byte.
WORDS_PER_KB = 1024


def read_scalesim_config(path: str | Path) -> SystolicArray:
    """Read a SCALE-Sim ``.cfg`` file.

    Its buffer sizes are optional. ``InterfaceBandwidth: USER`` takes the first ``Bandwidth`` as
    words a cycle; ``CALC``, or none, leaves the bandwidth unlimited.

    Raises:
        InputError: Names the field that is missing or wrong, or that is on and not modelled
            (sparsity, bank layouts).
    """
    parser = configparser.ConfigParser(interpolation=None)
    try:
        parser.read_string(read_text(path))
    except configparser.Error as error:
        text = " ".join(str(error).replace("'<string>'", "the file").split())
        raise InputError(f"not a configuration file: {text}", source=path) from None
    section = "architecture_presets"

    def value(key: str, section: str = section, default: str | None = None) -> str:
        try:
            return parser.get(section, key).strip()
        except configparser.Error:
            if default is not None:
                return default
            raise InputError("missing", source=path, field=f"{section}.{key}") from None

    def size(key: str, default: str | None = None) -> int:
        text = value(key, default=default).split(",")[0].strip()
        if not (text.isascii() and text.isdigit() and len(text) < 9 and 1 <= int(text) <= MAX_SIZE):
            raise InputError(
                "not a size", source=path, field=f"{section}.{key}", found=text,
                expected=f"1 to {MAX_SIZE}",
            )  # fmt: skip
        return int(text)

    def choice(field: str, allowed: tuple[str, ...], default: str | None = None) -> str:
        place, key = field.split(".")
        text = value(key, place, default).lower()
        if text not in allowed:
            raise InputError(
                f"unknown {key}", source=path, field=field, found=text,
                expected=", ".join(allowed),
            )  # fmt: skip
        return text

    for field in (
        "sparsity.SparsitySupport", "layout.IfmapCustomLayout", "layout.FilterCustomLayout",
    ):  # fmt: skip
        if choice(field, ("true", "false"), "false") == "true":
            raise InputError("not modelled", source=path, field=field, expected="false")
    keys = ("IfmapSramSzkB", "FilterSramSzkB", "OfmapSramSzkB")
    held = None
    if any(parser.has_option(section, key) for key in keys):
        held = tuple(size(key) * WORDS_PER_KB for key in keys)
    mode = choice("run_presets.InterfaceBandwidth", ("calc", "user"), "calc")
    return SystolicArray(
        size("ArrayHeight"),
        size("ArrayWidth"),
        DATAFLOWS[choice(f"{section}.Dataflow", tuple(DATAFLOWS))],
        (held[0], held[1], held[2]) if held else None,
        size("Bandwidth") if mode == "user" else None,
    )
