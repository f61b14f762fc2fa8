"""Traces of memory-controller scenarios: how a file names them, and what agents know of them."""

from __future__ import annotations

import numpy as np
from pydantic import Field, model_validator

from archsim.errors import InputError
from archsim.inputs import Strict
from archsim.models.dram.patterns import PATTERNS, pattern
from archsim.models.dram.spec import DramSpec
from archsim.models.dram.trace import Trace, read_trace

#: What :func:`trace_features` gives, in order.
FEATURES = (
    "requests",
    "cycles_per_request",
    "write_share",
    "next_burst_share",
    "same_row_share",
    "footprint",
    "banks",
    "bandwidth",
)
MAX_REQUESTS = 2**22
#: A trace must have been asked for by then: simulated time is paid for, refresh by refresh.
MAX_CYCLES = 2**36


class TraceSpec(Strict):
    """The requests: a pattern of our own making, or a file."""

    pattern: str | None = Field(None, description=", ".join(PATTERNS))
    requests: int = Field(10_000, ge=1, le=MAX_REQUESTS, description="of a pattern")
    seed: int = Field(0, ge=0, lt=2**63, description="of a pattern")
    write_share: float | None = Field(None, ge=0, le=1, description="of a pattern")
    file: str | None = Field(None, min_length=1, description="relative to the scenario")
    format: str = Field("auto", max_length=40, description="of the file")
    wrap: bool = Field(False, description="take a file's addresses modulo the memory's size")
    gap: int = Field(1, ge=0, le=2**16, description="cycles between arrivals, where it is open")

    @model_validator(mode="after")
    def _one_source(self) -> TraceSpec:
        if (self.pattern is None) == (self.file is None):
            raise ValueError("a trace needs either pattern or file")
        if self.pattern is not None and self.pattern not in PATTERNS:
            raise ValueError(f"no such pattern {self.pattern!r}; one of {', '.join(PATTERNS)}")
        other = ("requests", "seed", "write_share") if self.file else ("format", "wrap")
        wrong = [name for name in other if name in self.model_fields_set]
        defaults = {name: type(self).model_fields[name].default for name in wrong}
        wrong = [name for name in wrong if getattr(self, name) != defaults[name]]
        if wrong:
            given = "a file" if self.file else "a pattern"
            raise ValueError(f"{given} takes no {wrong[0]}")
        return self

    def build(self, spec: DramSpec) -> Trace:
        """The trace, for a memory.

        Raises:
            InputError: The file is wrong, or asks for data after :data:`MAX_CYCLES`.
        """
        if self.file is None:
            assert self.pattern is not None  # the validator saw to it
            trace = pattern(
                self.pattern,
                self.requests,
                spec,
                seed=self.seed,
                gap=self.gap,
                write_share=self.write_share,
            )
        else:
            trace = read_trace(self.file, self.format, self.gap)
            if self.wrap:
                address = trace.address % spec.structure.capacity_bytes
                trace = Trace(trace.arrival, trace.write, address, trace.name)
        if trace.arrival.max() > MAX_CYCLES:
            raise InputError(
                "the trace lasts too long to be simulated",
                source=self.file,
                found=int(trace.arrival.max()),
                expected=f"requests before cycle {MAX_CYCLES}",
            )
        return trace


def trace_features(trace: Trace, memory: DramSpec) -> np.ndarray:
    """What an agent may know of a trace and its memory.

    Returns:
        float32[8] in [0, 1], in the order of :data:`FEATURES`: requests and cycles per request
        (logarithms over those of a generous maximum), share of writes, of requests for the burst
        behind the last one's, and of requests within the last one's row-sized block, bursts
        touched over requests, banks and peak bandwidth (logarithms).
    """
    shape = memory.structure
    burst = trace.address // shape.burst_bytes
    row = trace.address // (shape.columns * shape.bus_bits // 8)
    cycles = float(trace.arrival.max() - trace.arrival.min()) / len(trace)
    peak = shape.data_rate * shape.bus_bits / 8 / (memory.clock_ps * 1e-12) * shape.channels
    values = [
        np.log1p(len(trace)) / np.log1p(2.0**26),
        np.log1p(cycles) / np.log1p(1e4),
        trace.write.mean(),
        (np.diff(burst) == 1).mean() if len(trace) > 1 else 0.0,
        (np.diff(row) == 0).mean() if len(trace) > 1 else 0.0,
        len(np.unique(burst)) / len(trace),
        np.log1p(shape.banks) / np.log1p(1024.0),
        np.log1p(peak) / np.log1p(1e13),
    ]
    return np.clip(values, 0.0, 1.0).astype(np.float32)
