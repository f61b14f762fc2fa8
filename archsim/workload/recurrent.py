"""Emitting mixers with a recurrent state: Mamba, Mamba-2, linear attention.

One new token updates the state and reads it. Many are worked on in chunks: products within a chunk,
and the state carried from one to the next (the state-space dual form). Mamba-1, whose state has no
such form, scans.
"""

from __future__ import annotations

from math import prod

from archsim.workload.architecture import LinearAttention, Mamba, Mamba2
from archsim.workload.emitter import Emitter
from archsim.workload.graph import Access, Einsum, Operation

#: Of a selective scan on one state element: dt A, exp, (dt x) B, decay, add, C h, sum.
SCAN = 7
#: Of the same on one channel: dt x, D x, add.
SCAN_CHANNEL = 3
#: Of a matrix state on one element in decode: decay, outer product, add.
STATE_UPDATE = 3
#: Tokens of a chunk in the chunked form of linear attention (Mamba-2 and lightning attention
#: kernels use 64 to 256).
CHUNK = 128


def _convolution(
    emitter: Emitter, name: str, data: str, channels: int, taps: int, bias: bool
) -> str:
    """Causal depthwise convolution over time; the last taps - 1 inputs are kept a request."""
    weight = emitter.weight(f"{name}.weight", channels, taps, bits=emitter.bits.activation)
    parts = []
    for index, request in enumerate(emitter.requests):
        tail = emitter.tail(index)
        state = emitter.cache(
            f"{name}.state{tail}", request.count, channels, taps - 1, bits=emitter.bits.activation
        ) if taps > 1 else None  # fmt: skip
        part = emitter.view(
            f"{name}.in{tail}", "concat", (data, state) if state else (data,),
            all=(request.count, channels, request.new + taps - 1),
        )  # fmt: skip
        out = emitter.activation(f"{name}.out{tail}", request.count, channels, request.new)
        dims = (("N", request.count), ("G", channels), ("P", request.new), ("R", taps))
        n, g = (("N", 1),), (("G", 1),)
        einsum = Einsum(
            dims,
            (
                Access(part, (n, g, (("P", 1), ("R", 1)))),
                Access(weight, (g, (("R", 1),))),
                Access(out, (n, g, (("P", 1),))),
            ),
        )
        emitter.builder.add(Operation(f"{name}{tail}", "conv1d", (part, weight), (out,), einsum))
        parts.append(out)
    joined = emitter.view(f"{name}.joined", "concat", parts, all=(emitter.tokens, channels))
    if bias:
        added = emitter.weight(f"{name}.bias", channels, bits=emitter.bits.activation)
        joined = emitter.vector(f"{name}.add_bias", "bias_add", joined, added)
    return emitter.vector(f"{name}.act", "silu", joined)


def mamba(emitter: Emitter, name: str, data: str, m: Mamba, causal: bool) -> str:
    """Mamba-1: projection, convolution, selective scan with a diagonal state, gate, projection."""
    tokens, full = emitter.tokens, emitter.bits.activation
    both = emitter.linear(f"{name}.in", data, 2 * m.inner, bias=m.bias)
    x, z = emitter.view(f"{name}.split", "split", (both,), x=(tokens, m.inner), z=(tokens, m.inner))
    x = _convolution(emitter, f"{name}.conv", x, m.inner, m.kernel, m.conv_bias)
    small = emitter.linear(f"{name}.x", x, m.rank + 2 * m.state)
    low, bc = emitter.view(
        f"{name}.parts", "split", (small,), dt=(tokens, m.rank), bc=(tokens, 2 * m.state)
    )
    dt = emitter.linear(f"{name}.dt", low, m.inner, bias=True)
    dt = emitter.vector(f"{name}.dt.act", "softplus", dt)
    a = emitter.weight(f"{name}.a", m.inner, m.state, bits=full)
    skip = emitter.weight(f"{name}.d", m.inner, bits=full)
    parts = []
    for index, request in enumerate(emitter.requests):
        tail = emitter.tail(index)
        shape = (request.count, m.inner, m.state)
        state = emitter.cache(f"{name}.state{tail}", *shape, bits=emitter.bits.state)
        rows = request.count * request.new
        out = emitter.activation(f"{name}.scan{tail}", rows, m.inner)
        kept = emitter.activation(f"{name}.kept{tail}", *shape, bits=emitter.bits.state)
        ops = rows * m.inner * (SCAN * m.state + SCAN_CHANNEL)
        emitter.counted(
            f"{name}.scan{tail}", "selective_scan", (x, dt, bc, a, skip, state), (out, kept), ops,
            {"requests": request.count, "new": request.new},
        )  # fmt: skip
        parts.append(out)
    y = emitter.view(f"{name}.joined", "concat", parts, all=(tokens, m.inner))
    gate = emitter.vector(f"{name}.gate.act", "silu", z)
    y = emitter.vector(f"{name}.gated", "mul", y, gate)
    return emitter.linear(f"{name}.out", y, emitter.width, bias=m.bias)


def mamba2(emitter: Emitter, name: str, data: str, m: Mamba2, causal: bool) -> str:
    """Mamba-2: as linear attention with keys B, queries C, one decay a head."""
    tokens, inner = emitter.tokens, m.heads * m.head_dim
    channels, full = inner + 2 * m.groups * m.state, emitter.bits.activation
    whole = emitter.linear(f"{name}.in", data, inner + channels + m.heads, bias=m.bias)
    z, xbc, dt = emitter.view(
        f"{name}.split", "split", (whole,), z=(tokens, inner), xbc=(tokens, channels),
        dt=(tokens, m.heads),
    )  # fmt: skip
    xbc = _convolution(emitter, f"{name}.conv", xbc, channels, m.kernel, m.conv_bias)
    bias = emitter.weight(f"{name}.dt.bias", m.heads, bits=full)
    a = emitter.weight(f"{name}.a", m.heads, bits=full)
    skip = emitter.weight(f"{name}.d", m.heads, bits=full)
    decay = emitter.activation(f"{name}.decay", tokens, m.heads)
    # add, softplus 3, multiply, exp
    emitter.counted(f"{name}.decay", "decay", (dt, bias, a), (decay,), 6 * tokens * m.heads)
    y = _recurrence(emitter, name, (xbc, xbc, xbc), decay, m.heads, m.state, m.head_dim)
    skipped = emitter.activation(f"{name}.skipped", tokens, inner)
    emitter.counted(f"{name}.skip", "skip", (y, xbc, skip), (skipped,), 2 * tokens * inner)
    gate = emitter.vector(f"{name}.gate.act", "silu", z)
    y = emitter.vector(f"{name}.gated", "mul", skipped, gate)
    y = emitter.norm(f"{name}.norm", "rms_norm", y)
    return emitter.linear(f"{name}.out", y, emitter.width, bias=m.bias)


def linear_attention(
    emitter: Emitter, name: str, data: str, a: LinearAttention, causal: bool
) -> str:
    """Lightning attention: activated queries, keys and values, a fixed decay a head, gate."""
    tokens, inner = emitter.tokens, a.heads * a.value_dim
    columns = (a.heads * a.key_dim, a.heads * a.key_dim, inner)
    qkv = emitter.linear(f"{name}.qkv", data, sum(columns))
    qkv = emitter.vector(f"{name}.qkv.act", "silu", qkv)
    q, k, v = emitter.view(
        f"{name}.split",
        "split",
        (qkv,),
        q=(tokens, columns[0]),
        k=(tokens, columns[1]),
        v=(tokens, columns[2]),
    )
    y = _recurrence(emitter, name, (q, k, v), None, a.heads, a.key_dim, a.value_dim)
    if a.output_gate:
        y = emitter.norm(f"{name}.norm", "rms_norm", y)
        gate = emitter.linear(f"{name}.gate", data, inner)
        gate = emitter.vector(f"{name}.gate.act", "sigmoid", gate)
        y = emitter.vector(f"{name}.gated", "mul", y, gate)
    return emitter.linear(f"{name}.out", y, emitter.width)


def _recurrence(
    emitter: Emitter,
    name: str,
    qkv: tuple[str, str, str],
    decay: str | None,
    heads: int,
    key: int,
    value: int,
) -> str:
    """A matrix state a head: step by step in decode, chunk by chunk where there are many tokens."""
    results = []
    for index, request in enumerate(emitter.requests):
        tail = emitter.tail(index)
        shape = (request.count * heads, key, value)
        state = emitter.cache(f"{name}.state{tail}", *shape, bits=emitter.bits.state)
        kept = emitter.activation(f"{name}.kept{tail}", *shape, bits=emitter.bits.state)
        if request.new == 1:
            results.append(_one_token(emitter, f"{name}{tail}", qkv, decay, shape, state, kept))
        else:
            results.append(
                _chunks(emitter, f"{name}{tail}", qkv, decay, request.new, shape, state, kept)
            )
    return emitter.view(
        f"{name}.recurrence", "concat", results, all=(emitter.tokens, heads * value)
    )


def _one_token(
    emitter: Emitter,
    name: str,
    qkv: tuple[str, str, str],
    decay: str | None,
    shape: tuple[int, int, int],
    state: str,
    kept: str,
) -> str:
    """Update the state with one token, then read it."""
    (q, k, v), (groups, key, value) = qkv, shape
    inputs = [t for t in dict.fromkeys((state, k, v, decay)) if t]
    ops = STATE_UPDATE * prod(shape)
    emitter.counted(f"{name}.update", "state_update", inputs, (kept,), ops)
    query = emitter.view(f"{name}.query", "reshape", (q,), all=(groups, 1, key))
    return emitter.matmul(f"{name}.read", query, kept, (groups, 1, key, value))


def _chunks(
    emitter: Emitter,
    name: str,
    qkv: tuple[str, str, str],
    decay: str | None,
    new: int,
    shape: tuple[int, int, int],
    state: str,
    kept: str,
) -> str:
    """Attention within chunks, and the state read and updated between them."""
    (q, k, v), (heads, key, value) = qkv, shape
    size = min(CHUNK, new)
    groups = heads * -(-new // size)
    query = emitter.view(f"{name}.query", "reshape", (q,), all=(groups, size, key))
    keys = emitter.view(f"{name}.keys", "reshape", (k,), all=(groups, key, size))
    values = emitter.view(f"{name}.values", "reshape", (v,), all=(groups, size, value))
    scores = emitter.matmul(f"{name}.scores", query, keys, (groups, size, key, size))
    masked = emitter.activation(f"{name}.masked", groups, size, size)
    ops = 2 * groups * size * size  # decay and mask
    inputs = (scores, decay) if decay else (scores,)
    emitter.counted(f"{name}.mask", "decay_mask", inputs, (masked,), ops)
    within = emitter.matmul(f"{name}.within", masked, values, (groups, size, size, value))
    added = emitter.matmul(f"{name}.states", keys, values, (groups, key, size, value))
    before = emitter.activation(f"{name}.before", groups, key, value)
    ops = 2 * groups * key * value
    emitter.counted(f"{name}.carry", "state_scan", (added, state), (before, kept), ops)
    read = emitter.matmul(f"{name}.read", query, before, (groups, size, key, value))
    return emitter.vector(f"{name}.sum", "add", within, read)
