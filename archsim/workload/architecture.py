"""What a language model is made of: the vocabulary every model family is written in.

An ``Architecture`` is a list of ``Layer``s, each a token mixer (attention and its kin, or a state
space) and a feed-forward part, and what stands around them. A new family is one entry of
``archsim.workload.huggingface_families``; a new kind of mixer is one class here and one function in
``archsim.workload.mixers``.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

Norm = Literal["rms_norm", "layer_norm"]


@dataclass(frozen=True)
class Attention:
    """Multi-head, grouped-query or multi-query attention.

    Attributes:
        heads: Query heads.
        kv_heads: Key and value heads, a divisor of ``heads``.
        head_dim: Width of a query and key head.
        value_dim: Width of a value head; None is ``head_dim``.
        qkv_bias: Queries, keys and values have biases.
        out_bias: The output projection has one.
        rotary_dim: Width of a head that rotary embeddings turn; 0 for none.
        head_norm: Queries and keys are normalised head by head.
        window: Tokens a query sees at most (sliding window); None for all.
    """

    heads: int
    kv_heads: int
    head_dim: int
    value_dim: int | None = None
    qkv_bias: bool = False
    out_bias: bool = False
    rotary_dim: int = 0
    head_norm: bool = False
    window: int | None = None


@dataclass(frozen=True)
class LatentAttention:
    """Multi-head latent attention: one compressed vector a token is cached for all heads.

    Attributes:
        heads: Heads.
        q_rank: Rank queries are compressed to; None for a plain projection.
        kv_rank: Rank keys and values are compressed to; this is cached.
        nope_dim: Width of a key head without position.
        rope_dim: Width of the rotary key all heads share; cached too.
        value_dim: Width of a value head.
    """

    heads: int
    q_rank: int | None
    kv_rank: int
    nope_dim: int
    rope_dim: int
    value_dim: int


@dataclass(frozen=True)
class Mamba:
    """Selective state space with a diagonal state for every channel (Mamba-1).

    Attributes:
        inner: Channels.
        state: State elements a channel.
        kernel: Taps of the causal convolution.
        rank: Rank of the time step's projection.
        conv_bias: The convolution has a bias.
        bias: The input and output projections have biases.
    """

    inner: int
    state: int
    kernel: int
    rank: int
    conv_bias: bool = True
    bias: bool = False


@dataclass(frozen=True)
class Mamba2:
    """State-space duality: one decay a head, keys and queries shared by groups of heads (Mamba-2).

    Attributes:
        heads: Heads.
        head_dim: Channels a head.
        state: State elements a channel.
        groups: Groups of heads with their own B and C.
        kernel: Taps of the causal convolution.
        conv_bias: The convolution has a bias.
        bias: The input and output projections have biases.
    """

    heads: int
    head_dim: int
    state: int
    groups: int
    kernel: int
    conv_bias: bool = True
    bias: bool = False


@dataclass(frozen=True)
class LinearAttention:
    """Attention without softmax, kept as a matrix state a head, with a decay (lightning attention).

    Attributes:
        heads: Heads.
        key_dim: Width of a query and key head.
        value_dim: Width of a value head.
        output_gate: The output is gated by a projection of the input (and normalised).
    """

    heads: int
    key_dim: int
    value_dim: int
    output_gate: bool = True


Mixer = Attention | LatentAttention | Mamba | Mamba2 | LinearAttention


@dataclass(frozen=True)
class FeedForward:
    """Two matrices, or three where gated.

    Attributes:
        width: Inner width.
        gated: The activation of one half multiplies the other.
        activation: ``silu``, ``gelu``, ``gelu_tanh`` or ``relu``.
        bias: Both projections have biases.
    """

    width: int
    gated: bool
    activation: str
    bias: bool = False


@dataclass(frozen=True)
class Experts:
    """A mixture of feed-forward experts.

    Attributes:
        experts: Routed experts.
        top_k: Experts a token goes to.
        width: Inner width of one.
        gated: As for a feed-forward.
        activation: As for a feed-forward.
        shared_width: Inner width of the experts every token goes to, together; 0 for none.
        shared_gate: The shared experts' output is scaled by a gate.
        router_bias: The router corrects its scores by a bias.
        groups: Groups of experts a token's choice is limited to, as (groups, chosen); None free.
    """

    experts: int
    top_k: int
    width: int
    gated: bool
    activation: str
    shared_width: int = 0
    shared_gate: bool = False
    router_bias: bool = False
    groups: tuple[int, int] | None = None


@dataclass(frozen=True)
class Layer:
    """One residual layer.

    Attributes:
        mixer: What mixes tokens.
        ffn: What follows it; None for none.
        norms: ``pre`` (before each part), ``post`` (after each residual addition), ``parallel``
            (both parts read one normalised input), ``parallel_two`` (each its own),
            ``sandwich`` (before and after each part).
    """

    mixer: Mixer
    ffn: FeedForward | Experts | None
    norms: Literal["pre", "post", "parallel", "parallel_two", "sandwich"] = "pre"


@dataclass(frozen=True)
class Patches:
    """Images cut into patches (vision transformers).

    Attributes:
        image: Rows and columns of the image.
        patch: Rows and columns of a patch.
        channels: Colour channels.
    """

    image: int
    patch: int
    channels: int

    @property
    def tokens(self) -> int:
        """Patches, and the class token."""
        return (self.image // self.patch) ** 2 + 1


@dataclass(frozen=True)
class Architecture:
    """A whole model.

    Attributes:
        family: The ``model_type`` it was read as.
        width: Width of the residual stream.
        layers: Layers, first to last.
        vocabulary: Rows of the token embedding; 0 for none.
        norm: Kind of normalisation.
        norm_bias: Layer normalisation has a bias beside its gain.
        final_norm: A normalisation follows the last layer.
        embedding_norm: One follows the embedding.
        positions: Rows of a learnt position embedding; 0 for none.
        longest: Longest context where positions are learnt (rows may be reserved); 0 for any.
        token_types: Rows of a token type embedding; 0 for none.
        causal: Tokens see only those before them, and keys are cached.
        head: Columns of the output projection; 0 for none.
        head_bias: It has a bias.
        tied: It is the token embedding.
        pooler: A dense layer on the first token ends the model.
        patches: Images instead of token numbers.
    """

    family: str
    width: int
    layers: tuple[Layer, ...]
    vocabulary: int
    norm: Norm = "rms_norm"
    norm_bias: bool = True
    final_norm: bool = True
    embedding_norm: bool = False
    positions: int = 0
    longest: int = 0
    token_types: int = 0
    causal: bool = True
    head: int = 0
    head_bias: bool = False
    tied: bool = False
    pooler: bool = False
    patches: Patches | None = None

    @cached_property
    def distinct_layers(self) -> tuple[tuple[Layer, int], ...]:
        """Layers that differ, and how many there are of each, first come first."""
        return tuple(Counter(self.layers).items())

    @property
    def cached_elements_per_token(self) -> int:
        """Elements cached for a token in all layers without a sliding window's limit."""
        return sum(cached_per_token(layer.mixer) for layer in self.layers)

    @property
    def state_elements_per_request(self) -> int:
        """Elements of recurrent state a request keeps, however long it is."""
        return sum(state_per_request(layer.mixer) for layer in self.layers)


def cached_per_token(mixer: Mixer) -> int:
    """Elements a mixer caches for a token."""
    if isinstance(mixer, Attention):
        return mixer.kv_heads * (mixer.head_dim + (mixer.value_dim or mixer.head_dim))
    if isinstance(mixer, LatentAttention):
        return mixer.kv_rank + mixer.rope_dim
    return 0


def state_per_request(mixer: Mixer) -> int:
    """Elements of recurrent state a mixer keeps for a request (with its convolution's taps)."""
    if isinstance(mixer, Mamba):
        return mixer.inner * (mixer.state + mixer.kernel - 1)
    if isinstance(mixer, Mamba2):
        channels = mixer.heads * mixer.head_dim + 2 * mixer.groups * mixer.state
        return mixer.heads * mixer.head_dim * mixer.state + channels * (mixer.kernel - 1)
    if isinstance(mixer, LinearAttention):
        return mixer.heads * mixer.key_dim * mixer.value_dim
    return 0


def repeated(layers: tuple[Layer, ...], longest: int = 16) -> list[tuple[tuple[Layer, ...], int]]:
    """Cut a list of layers into stretches that repeat.

    Args:
        layers: Layers, first to last.
        longest: Longest pattern looked for.

    Returns:
        ``(pattern, count)`` pairs whose repetition in order gives the list back.

    Example:
        >>> a, b = Layer(Mamba(1, 1, 1, 1), None), Layer(Attention(1, 1, 1), None)
        >>> [(len(p), n) for p, n in repeated((a, a, a, b, a, b, a, b))]
        [(1, 2), (2, 3)]
    """
    found: list[tuple[tuple[Layer, ...], int]] = []
    start = 0
    while start < len(layers):
        best = (1, 1)
        for period in range(1, min(longest, len(layers) - start) + 1):
            pattern = layers[start : start + period]
            count = 1
            while layers[start + count * period : start + (count + 1) * period] == pattern:
                count += 1
            if count > 1 and period * count > best[0] * best[1]:
                best = (period, count)
        period, count = best
        if count > 1 and period == 1 and _starts_pattern(layers[start + count - 1 :], longest):
            count -= 1  # the last of the run begins the next pattern
        found.append((layers[start : start + period], count))
        start += period * count
    return found


def _starts_pattern(layers: tuple[Layer, ...], longest: int) -> bool:
    """Whether a mixed pattern that repeats begins here."""
    return any(
        layers[:period] == layers[period : 2 * period] and len(set(layers[:period])) > 1
        for period in range(2, min(longest, len(layers) // 2) + 1)
    )
