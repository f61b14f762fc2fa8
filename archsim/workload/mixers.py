"""Emitting token mixers: the table of all kinds, and attention in its forms.

``MIXERS`` is the table a new kind is added to; those with a recurrent state are in ``recurrent``.
Attention over a cache is a product with the cached
keys, a softmax and a product with the cached values; an engine may run the three as one kernel, as
their attribute ``kernel`` says. The products are counted in full where a kernel would skip masked
halves; the attributes ``new``, ``context``, ``window`` and ``causal`` say what may be skipped.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any

from archsim.workload.architecture import (
    Attention,
    LatentAttention,
    LinearAttention,
    Mamba,
    Mamba2,
)
from archsim.workload.emitter import Emitter, Facts
from archsim.workload.graph import Access, Einsum, Operation
from archsim.workload.recurrent import linear_attention, mamba, mamba2
from archsim.workload.steps import Request

#: Scalar operations of a rotary embedding on one element (see ``operators``).
ROTARY = 6


def _normed(emitter: Emitter, name: str, data: str, heads: int) -> str:
    """Normalise head by head; one gain of a head's width."""
    tokens, columns = emitter.shape(data)
    folded = emitter.view(
        f"{name}.heads", "reshape", (data,), all=(tokens, heads, columns // heads)
    )
    return emitter.norm(name, "rms_norm", folded)


def attention(emitter: Emitter, name: str, data: str, a: Attention, causal: bool) -> str:
    """Attention with grouped heads over each request's cache."""
    tokens, value = emitter.tokens, a.value_dim or a.head_dim
    columns = (a.heads * a.head_dim, a.kv_heads * a.head_dim, a.kv_heads * value)
    qkv = emitter.linear(f"{name}.qkv", data, sum(columns), bias=a.qkv_bias)
    q, k, v = emitter.view(
        f"{name}.split",
        "split",
        (qkv,),
        q=(tokens, columns[0]),
        k=(tokens, columns[1]),
        v=(tokens, columns[2]),
    )
    if a.head_norm:
        q, k = (
            _normed(emitter, f"{name}.{part}_norm", tensor, heads)
            for part, tensor, heads in (("q", q, a.heads), ("k", k, a.kv_heads))
        )
    if a.rotary_dim:
        turned = [emitter.activation(f"{name}.{part}_turned", *emitter.shape(tensor))
                  for part, tensor in (("q", q), ("k", k))]  # fmt: skip
        ops = ROTARY * tokens * (a.heads + a.kv_heads) * a.rotary_dim
        emitter.counted(f"{name}.rotary", "rotary_embedding", (q, k), turned, ops)
        q, k = turned
    after: tuple[str, ...] = ()
    if causal:
        kept = emitter.activation(
            f"{name}.kept", tokens, columns[1] + columns[2], bits=emitter.bits.kv
        )
        emitter.counted(f"{name}.keep", "scatter", (k, v), (kept,), 0)
        after = (kept,)
    results = [
        _attend(emitter, name, index, request, (q, k, v), a, after)
        for index, request in enumerate(emitter.requests)
    ]
    joined = emitter.view(f"{name}.joined", "concat", results, all=(tokens, a.heads * value))
    return emitter.linear(f"{name}.out", joined, emitter.width, bias=a.out_bias)


def _attend(
    emitter: Emitter,
    name: str,
    index: int,
    request: Request,
    qkv: tuple[str, str, str],
    a: Attention,
    after: tuple[str, ...],
) -> str:
    """Scores, softmax and weighted values of equal requests."""
    tail, (q, k, v) = emitter.tail(index), qkv
    value, share = a.value_dim or a.head_dim, a.heads // a.kv_heads
    groups, causal = request.count * a.kv_heads, bool(after)
    seen = request.context
    if a.window is not None:
        seen = min(seen, a.window + request.new - 1)
    if causal:
        keys = emitter.cache(f"{name}.k_cache{tail}", groups, seen, a.head_dim)
        values = emitter.cache(f"{name}.v_cache{tail}", groups, seen, value)
    else:
        keys = emitter.view(f"{name}.keys{tail}", "reshape", (k,), all=(groups, seen, a.head_dim))
        values = emitter.view(f"{name}.values{tail}", "reshape", (v,), all=(groups, seen, value))
    facts: Facts = {
        "kernel": f"{name}.attend{tail}", "heads": a.heads, "kv_heads": a.kv_heads,
        "requests": request.count, "new": request.new, "context": request.context,
        "causal": int(causal),
    }  # fmt: skip
    if a.window is not None:
        facts["window"] = a.window
    rows = share * request.new
    query = emitter.view(f"{name}.query{tail}", "reshape", (q,), all=(groups, rows, a.head_dim))
    if a.window is not None and request.new > 1 and seen > a.window:
        return _banded(emitter, f"{name}{tail}", (query, keys, values), request, a, facts, after)
    sizes = (groups, rows, a.head_dim, seen)
    scores = emitter.matmul(f"{name}.scores{tail}", query, keys, sizes, after=after, facts=facts)
    weights = _softmax(emitter, f"{name}.softmax{tail}", scores, causal and request.new > 1, facts)
    return emitter.matmul(
        f"{name}.values_sum{tail}", weights, values, (groups, rows, seen, value), facts=facts
    )


def _softmax(emitter: Emitter, name: str, scores: str, masked: bool, facts: Facts) -> str:
    out = emitter.activation(name, *emitter.shape(scores))
    ops = (6 if masked else 5) * prod(emitter.shape(scores))  # as in operators
    kind = "softmax_masked" if masked else "softmax"
    emitter.counted(name, kind, (scores,), (out,), ops, facts)
    return out


def _banded(
    emitter: Emitter,
    name: str,
    qkv: tuple[str, str, str],
    request: Request,
    a: Attention,
    facts: Facts,
    after: tuple[str, ...],
) -> str:
    """Sliding-window attention of many tokens: token P sees the keys P .. P + window - 1.

    The window slides like a filter, so keys are read with overlap: rank ``P + M``. The first tokens
    of a prompt, which see fewer, are counted in full.
    """
    q, k, v = qkv
    groups, share = request.count * a.kv_heads, a.heads // a.kv_heads
    value, window, new = a.value_dim or a.head_dim, int(a.window or 0), request.new
    slid = (("P", 1), ("M", 1))
    scores = emitter.activation(f"{name}.scores", groups, share, new, window)
    query = emitter.view(f"{name}.tokens", "reshape", (q,), all=(groups, share, new, a.head_dim))
    dims = (("G", groups), ("Q", share), ("P", new), ("M", window), ("C", a.head_dim))
    one = {d: ((d, 1),) for d in "GQPMC"}
    read = Access(query, (one["G"], one["Q"], one["P"], one["C"]))
    keys = Access(k, (one["G"], slid, one["C"]))
    made = Access(scores, (one["G"], one["Q"], one["P"], one["M"]))
    given = tuple(facts.items())
    emitter.builder.add(
        Operation(f"{name}.scores", "matmul", (query, k, *after), (scores,),
                  Einsum(dims, (read, keys, made)), attributes=given)
    )  # fmt: skip
    weights = _softmax(emitter, f"{name}.softmax", scores, True, facts)
    out = emitter.activation(f"{name}.values_sum", groups, share, new, value)
    # The sum now runs over the window, so it takes the name C; columns are M.
    slid = (("P", 1), ("C", 1))
    dims = (("G", groups), ("Q", share), ("P", new), ("M", value), ("C", window))
    read = Access(weights, (one["G"], one["Q"], one["P"], one["C"]))
    held = Access(v, (one["G"], slid, one["M"]))
    made = Access(out, (one["G"], one["Q"], one["P"], one["M"]))
    emitter.builder.add(
        Operation(f"{name}.values_sum", "matmul", (weights, v), (out,),
                  Einsum(dims, (read, held, made)), attributes=given)
    )  # fmt: skip
    return out


def latent_attention(
    emitter: Emitter, name: str, data: str, a: LatentAttention, causal: bool
) -> str:
    """Multi-head latent attention; down-projections are one product, as servers run them.

    Absorbed: queries and outputs go through the up-projections, so that all heads read the latent
    cache itself. Unabsorbed: keys and values of the whole context are projected up first.
    """
    tokens, head = emitter.tokens, a.nope_dim + a.rope_dim
    latent_width = a.kv_rank + a.rope_dim
    if a.q_rank is None:
        q = emitter.linear(f"{name}.q", data, a.heads * head)
        latent = emitter.linear(f"{name}.down", data, latent_width)
    else:
        down = emitter.linear(f"{name}.down", data, a.q_rank + latent_width)
        low, latent = emitter.view(
            f"{name}.split", "split", (down,), q=(tokens, a.q_rank), kv=(tokens, latent_width)
        )
        low = emitter.norm(f"{name}.q_norm", "rms_norm", low)
        q = emitter.linear(f"{name}.q_up", low, a.heads * head)
    kv, key = emitter.view(
        f"{name}.latent", "split", (latent,), kv=(tokens, a.kv_rank), key=(tokens, a.rope_dim)
    )
    kv = emitter.norm(f"{name}.kv_norm", "rms_norm", kv)
    turned = [emitter.activation(f"{name}.q_turned", tokens, a.heads * head),
              emitter.activation(f"{name}.key_turned", tokens, a.rope_dim)]  # fmt: skip
    ops = ROTARY * tokens * (a.heads + 1) * a.rope_dim
    emitter.counted(f"{name}.rotary", "rotary_embedding", (q, key), turned, ops)
    kept = emitter.activation(f"{name}.kept", tokens, latent_width, bits=emitter.bits.kv)
    emitter.counted(f"{name}.keep", "scatter", (kv, turned[1]), (kept,), 0)
    up = {
        part: emitter.weight(f"{name}.{part}_up.weight", a.heads * size, a.kv_rank)
        for part, size in (("k", a.nope_dim), ("v", a.value_dim))
    }
    results = []
    for index, request in enumerate(emitter.requests):
        absorbed = emitter.latent == "absorbed" or (
            emitter.latent == "auto" and request.new * 4 <= request.context
        )
        form = _absorbed if absorbed else _unabsorbed
        results.append(form(emitter, name, index, request, turned[0], kept, up, a))
    joined = emitter.view(f"{name}.joined", "concat", results, all=(tokens, a.heads * a.value_dim))
    return emitter.linear(f"{name}.out", joined, emitter.width)


def _latent_facts(
    name: str, tail: str, request: Request, a: LatentAttention, kv_heads: int
) -> Facts:
    return {
        "kernel": f"{name}.attend{tail}", "heads": a.heads, "kv_heads": kv_heads,
        "requests": request.count, "new": request.new, "context": request.context,
        "causal": 1, "latent": "absorbed" if kv_heads == 1 else "unabsorbed",
    }  # fmt: skip


def _absorbed(
    emitter: Emitter,
    name: str,
    index: int,
    request: Request,
    q: str,
    kept: str,
    up: dict[str, str],
    a: LatentAttention,
) -> str:
    tail, many = emitter.tail(index), request.count * request.new
    facts = _latent_facts(name, tail, request, a, 1)
    whole = a.kv_rank + a.rope_dim
    cache = emitter.cache(f"{name}.latent_cache{tail}", request.count, request.context, whole)
    plain = emitter.view(f"{name}.nope{tail}", "reshape", (q,), all=(a.heads, many, a.nope_dim))
    # Rows of the up-projections belong to heads: row nope_dim * G + C, and value_dim * G + M.
    ranks = ((("G", a.nope_dim), ("C", 1)), (("M", 1),))
    lifted = emitter.matmul(
        f"{name}.q_absorb{tail}", plain, up["k"], (a.heads, many, a.nope_dim, a.kv_rank),
        second_ranks=ranks,
    )  # fmt: skip
    rows = a.heads * request.new
    query = emitter.view(
        f"{name}.query{tail}", "concat", (lifted, q), all=(request.count, rows, whole)
    )
    scores = emitter.matmul(
        f"{name}.scores{tail}", query, cache, (request.count, rows, whole, request.context),
        after=(kept,), facts=facts,
    )  # fmt: skip
    weights = _softmax(emitter, f"{name}.softmax{tail}", scores, request.new > 1, facts)
    mixed = emitter.matmul(
        f"{name}.values_sum{tail}", weights, cache,
        (request.count, rows, request.context, a.kv_rank), facts=facts,
    )  # fmt: skip
    mixed = emitter.view(f"{name}.mixed{tail}", "reshape", (mixed,), all=(a.heads, many, a.kv_rank))
    ranks = ((("G", a.value_dim), ("M", 1)), (("C", 1),))
    return emitter.matmul(
        f"{name}.v_absorb{tail}", mixed, up["v"], (a.heads, many, a.kv_rank, a.value_dim),
        second_ranks=ranks,
    )  # fmt: skip


def _unabsorbed(
    emitter: Emitter,
    name: str,
    index: int,
    request: Request,
    q: str,
    kept: str,
    up: dict[str, str],
    a: LatentAttention,
) -> str:
    tail, long = emitter.tail(index), request.count * request.context
    facts = _latent_facts(name, tail, request, a, a.heads)
    head, groups = a.nope_dim + a.rope_dim, request.count * a.heads
    whole = a.kv_rank + a.rope_dim
    cache = emitter.cache(f"{name}.latent_cache{tail}", request.count, request.context, whole)
    # The normed latent of the whole context, with this step's, is what the projections read.
    latent = emitter.view(f"{name}.context{tail}", "concat", (cache, kept), all=(long, a.kv_rank))
    keys = emitter.linear(f"{name}.k_up{tail}", latent, a.heads * a.nope_dim, weight=up["k"])
    values = emitter.linear(f"{name}.v_up{tail}", latent, a.heads * a.value_dim, weight=up["v"])
    keys = emitter.view(
        f"{name}.keys{tail}", "concat", (keys, cache), all=(groups, request.context, head)
    )
    values = emitter.view(
        f"{name}.values{tail}", "reshape", (values,), all=(groups, request.context, a.value_dim)
    )
    query = emitter.view(f"{name}.query{tail}", "reshape", (q,), all=(groups, request.new, head))
    scores = emitter.matmul(
        f"{name}.scores{tail}",
        query,
        keys,
        (groups, request.new, head, request.context),
        facts=facts,
    )
    weights = _softmax(emitter, f"{name}.softmax{tail}", scores, request.new > 1, facts)
    return emitter.matmul(
        f"{name}.values_sum{tail}", weights, values,
        (groups, request.new, request.context, a.value_dim), facts=facts,
    )  # fmt: skip


#: How each kind of mixer is emitted: (emitter, name, data, mixer, causal) -> its output.
MIXERS: dict[type, Callable[[Emitter, str, str, Any, bool], str]] = {
    Attention: attention,
    LatentAttention: latent_attention,
    Mamba: mamba,
    Mamba2: mamba2,
    LinearAttention: linear_attention,
}
