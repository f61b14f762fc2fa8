"""The row-stationary dataflow as Eyeriss runs it: processing passes in closed form.

Names are the paper's (Chen et al., JSSC 52(1), 2017, section III): a *PE set* of R x e elements
convolves filter rows with input rows, one filter row an element, and accumulates partial sums up
its columns; an element works on p filters and q channels; the array holds r sets that work on other
channels (their sums go on accumulating from set to set) and t sets that work on other filters. One
*processing pass* applies p t filters and q r channels to n inputs and e output rows; the global
buffer keeps m x n planes of e output rows between passes. Sets wider than the array are folded,
narrower ones stand side by side.

What a pass takes:

* an element multiplies p q S times an output position, F positions a row, n rows;
* meanwhile every partial sum of the pass crosses from the buffer to the array and back, over one
  bus each way. The slower of the two sets the pace;
* before that, the chain of accumulation fills: an element can only hand a sum on once it has added
  its own products, p q S cycles after the element before it, and a chain is R r elements long (the
  skew of a systolic array, whose elements take one cycle). A pass does not start before the last
  one has left the chain, nor sooner than ``restart_cycles`` after it.

Every pass is charged as a full one, at the mean of its stream. Not charged: time in which the array
waits for DRAM (the paper's *processing* latency leaves it out), filter loads (they move while a
chain fills), and zeros, which the chip gates but does not skip. The paper says that sums go to the
neighbour at once (figure 4) and that every pass takes time to ramp up (section VI-A), not how much:
the length of the fill is our reading.
"""

from __future__ import annotations

from dataclasses import dataclass

from archsim.errors import InputError
from archsim.hardware import Fanout, Machine, SpatialEngine, Storage
from archsim.workload.graph import Einsum


@dataclass(frozen=True)
class RowStationaryMapping:
    """How a layer is cut into passes; every figure at least 1.

    Attributes:
        m: Output channels whose partial sums the buffer keeps.
        n: Inputs (of the batch) of a pass.
        e: Output rows of a pass, the width of a PE set.
        p, q: Filters and channels of one element.
        r, t: PE sets that work on other channels, on other filters.
    """

    m: int
    n: int
    e: int
    p: int
    q: int
    r: int
    t: int


@dataclass(frozen=True)
class RowStationaryArray:
    """An array of elements with scratchpads, behind a global buffer.

    Attributes:
        rows, columns: Elements.
        ifmap_words, filter_words, psum_words: Scratchpads of one element.
        buffer_words: Global buffer for inputs and partial sums.
        psum_words_per_cycle: Partial sums a cycle from the buffer, and as many back.
        restart_cycles: Least time between the streams of partial sums of two passes.
        clock_hz: Clock of the array.
    """

    rows: int
    columns: int
    ifmap_words: int
    filter_words: int
    psum_words: int
    buffer_words: int
    psum_words_per_cycle: int
    restart_cycles: int
    clock_hz: float


@dataclass(frozen=True)
class ConvShape:
    """A convolution in the paper's letters, counts of one group.

    Attributes:
        batch, groups: N, and groups that share nothing.
        filters, channels: M and C of one group.
        height, width: E and F, of the output.
        filter_height, filter_width: R and S.
        stride: U, both ways.
    """

    batch: int
    groups: int
    filters: int
    channels: int
    height: int
    width: int
    filter_height: int
    filter_width: int
    stride: int

    @property
    def macs(self) -> int:
        """Multiply-accumulates."""
        plane = self.height * self.width * self.filter_height * self.filter_width
        return self.batch * self.groups * self.filters * self.channels * plane


def conv_shape(einsum: Einsum) -> ConvShape:
    """A convolution's loop nest in the paper's letters.

    Raises:
        InputError: The nest is no convolution of equal strides without dilation.
    """
    size = einsum.extents
    steps: dict[str, int] = {}
    for rank in einsum.operands[0].ranks:
        steps.update(dict(rank))
    strides = {steps.get(d, 1) for d, inner in (("P", "R"), ("Q", "S")) if size.get(inner, 1) > 1}
    others = set(size).difference("NGMCPQRS")
    if others or len(strides) > 1 or any(steps.get(d, 1) != 1 for d in "RS"):
        raise InputError("not a convolution of one stride, undilated", found=dict(einsum.dims))
    n, g, m, c, p, q, r, s = (size.get(dim, 1) for dim in "NGMCPQRS")
    return ConvShape(n, g, m, c, p, q, r, s, strides.pop() if strides else 1)


@dataclass(frozen=True)
class RowStationaryCost:
    """One layer under one mapping.

    Attributes:
        passes: Processing passes.
        active: Elements that work.
        compute_cycles, psum_cycles, fill_cycles: Of one pass: multiplying, moving partial sums one
            way, filling and restarting.
        cycles: Of the layer.
        latency_s: The same in seconds.
        ifmap_reads, psum_reads, psum_writes: Words of the global buffer; every pass reads the sums
            so far but the first ones, and the finished ones are read once to leave the chip.
        filter_words: Filter words streamed into the array.
    """

    passes: int
    active: int
    compute_cycles: int
    psum_cycles: float
    fill_cycles: int
    cycles: float
    latency_s: float
    ifmap_reads: int
    psum_reads: int
    psum_writes: int
    filter_words: int

    @property
    def buffer_words(self) -> int:
        """Words read from and written to the global buffer by the array."""
        return self.ifmap_reads + self.psum_reads + self.psum_writes


def evaluate_row_stationary(
    shape: ConvShape, mapping: RowStationaryMapping, array: RowStationaryArray
) -> RowStationaryCost:
    """Passes, time and buffer accesses of a layer under a row-stationary mapping.

    Raises:
        InputError: The mapping does not fit the array; names what overflows.
    """
    check_fit(shape, mapping, array)
    m, s = mapping, shape
    strips = _ceil(s.height, m.e)
    channel_passes = _ceil(s.channels, m.q * m.r)
    filter_passes = s.groups * _ceil(s.filters, m.p * m.t)
    passes = strips * channel_passes * filter_passes * _ceil(s.batch, m.n)
    outputs = s.batch * s.groups * s.filters * s.height * s.width
    moved = outputs * channel_passes
    work = m.p * m.q * s.filter_width
    compute = m.n * s.width * work
    stream = moved / passes / array.psum_words_per_cycle
    fill = max((s.filter_height * m.r - 1) * work, array.restart_cycles)
    cycles = passes * (max(compute, stream) + fill)
    window = s.filter_height * s.filter_width
    input_rows = s.height * s.stride + strips * (s.filter_height - s.stride)
    input_width = (s.width - 1) * s.stride + s.filter_width
    return RowStationaryCost(
        passes,
        s.filter_height * m.e * m.r * m.t,
        compute,
        stream,
        fill,
        cycles,
        cycles / array.clock_hz,
        filter_passes * s.channels * input_rows * input_width * s.batch,
        moved,
        moved,
        strips * _ceil(s.batch, m.n) * s.groups * s.filters * s.channels * window,
    )


def check_fit(shape: ConvShape, mapping: RowStationaryMapping, array: RowStationaryArray) -> None:
    """Check a mapping against the scratchpads, the array and the buffer.

    Raises:
        InputError: Names what overflows, what it needs and what there is.
    """
    m, s = mapping, shape
    if min(vars(m).values()) < 1:
        raise InputError("mapping figures must be at least 1", field="mapping", found=m)
    folds, beside = _ceil(m.e, array.columns), max(array.columns // m.e, 1)
    rows = (min(m.e, s.height) - 1) * s.stride + s.filter_height
    width = (s.width - 1) * s.stride + s.filter_width
    held = m.m * m.n * m.e * s.width + m.n * m.q * m.r * rows * width
    for field, needed, available in (
        ("input scratchpad (q S)", m.q * s.filter_width, array.ifmap_words),
        ("filter scratchpad (p q S)", m.p * m.q * s.filter_width, array.filter_words),
        ("partial-sum scratchpad (p)", m.p, array.psum_words),
        ("array rows", s.filter_height * folds * _ceil(m.r * m.t, beside), array.rows),
        ("buffered output channels (p t within m)", m.p * m.t, m.m),
        ("global buffer", held, array.buffer_words),
    ):
        if needed > available:
            raise InputError(
                "the row-stationary mapping does not fit", field=field, found=needed,
                expected=f"at most {available}",
            )  # fmt: skip


def row_stationary_array(
    machine: Machine, psum_words_per_cycle: int, restart_cycles: int
) -> RowStationaryArray:
    """The array of a machine laid out like the shipped ``eyeriss``.

    Raises:
        InputError: A slot it must have is missing.
    """
    engine = next((e for e in machine.engines if isinstance(e, SpatialEngine)), None)
    if engine is None:
        raise InputError("the machine has no spatial array", source=machine.name)
    storages = {slot.name: slot for slot in engine.slots if isinstance(slot, Storage)}
    fanouts = {slot.name: slot for slot in engine.slots if isinstance(slot, Fanout)}
    bits = engine.precision.input_bits

    def words(name: str) -> int:
        return int(storages[name].capacity_bytes * 8 // bits)

    try:
        return RowStationaryArray(
            int(fanouts["rows"].fanout),
            int(fanouts["columns"].fanout),
            words("ifmap_spad"),
            words("weight_spad"),
            words("psum_spad"),
            words("glb"),
            psum_words_per_cycle,
            restart_cycles,
            machine.clock_hz,
        )
    except KeyError as error:
        raise InputError(
            "the machine has no such slot", source=machine.name, field=str(error.args[0])
        ) from None


def _ceil(a: int, b: int) -> int:
    return -(-a // b)
