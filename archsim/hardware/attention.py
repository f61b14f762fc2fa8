"""The attention engine of the machine schema: a pipeline, one query of one head at a time.

SpAtten is such an engine: keys come from memory and are multiplied with the query, a softmax
follows, a top-k engine chooses the values to fetch, and these are summed up. Queries and heads
follow one another through the pipeline.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from archsim.hardware.devices import Name
from archsim.inputs import Strict


class AttentionEngine(Strict):
    """A pipeline for attention, with or without pruning."""

    name: Name = Field(description="unique within the machine")
    kind: Literal["attention"]
    within: Name | None = Field(
        default=None, description="group it is replicated in; default the innermost one"
    )
    backing: Name = Field(description="tier keys and values come from")
    clock_hz: float | None = Field(
        default=None, ge=1e6, le=2e10, description="clock, Hz; default the machine's"
    )
    key_multipliers: int = Field(ge=1, le=1_048_576, description="multipliers of query and keys")
    value_multipliers: int = Field(
        ge=1, le=1_048_576, description="multipliers of probabilities and values"
    )
    softmax_lanes: int = Field(ge=1, le=65536, description="scores taken a cycle")
    comparators: int = Field(ge=1, le=65536, description="values the top-k engine compares a cycle")
    pass_cycles: int = Field(
        default=3, ge=0, le=1024, description="cycles of a pass of quick-select beyond its beats"
    )
    pipeline_cycles: float = Field(
        ge=0, le=1e6, description="cycles from the first key to the first output, empty stages"
    )
    query_bits: float = Field(default=16, gt=0, le=64, description="bits of queries and outputs")
    key_buffer_bytes: float = Field(ge=1, le=1e12, description="keys, double-buffered, bytes")
    value_buffer_bytes: float = Field(ge=1, le=1e12, description="values, double-buffered, bytes")
    word_bits: int = Field(default=12, ge=1, le=64, description="operands of the multipliers, bits")
    softmax_ops: int = Field(
        default=12, ge=1, le=1024, description="floating-point operations of a score's softmax"
    )


__all__ = ["AttentionEngine"]
