"""The table of model families: how each ``model_type`` reads its config.

To add an architecture, write one function from ``Fields`` to ``Architecture`` and name it in
``FAMILIES``. Field names and defaults are those of the transformers library's configuration classes
(models' own code for ``grok-1`` and ``minimax_text_01``); ``glam``, which was never released there,
is described in its paper's terms.
"""

from __future__ import annotations

from collections.abc import Callable

from archsim.workload.architecture import (
    Architecture,
    Attention,
    Experts,
    FeedForward,
    LatentAttention,
    Layer,
    LinearAttention,
    Mamba,
    Mamba2,
    Patches,
)
from archsim.workload.huggingface_config import Fields


def _heads(c: Fields, width: int, *, bias: bool, out: bool = False, rotary: bool = True,
           head_norm: bool = False, window: int | None = None, head_dim: int | None = None,
           ) -> Attention:  # fmt: skip
    """Grouped-query attention under the names most families share."""
    heads = c.number("num_attention_heads")
    kv = c.number("num_key_value_heads", default=heads)
    c.divides("num_key_value_heads", kv, "num_attention_heads", heads)
    if head_dim is None:
        head_dim = c.optional("head_dim")
    if head_dim is None:
        head_dim = c.divides("num_attention_heads", heads, "hidden_size", width)
    return Attention(
        heads, kv, head_dim, None, bias, out, head_dim if rotary else 0, head_norm, window
    )


def _window(c: Fields, use: str | None = None) -> int | None:
    """The sliding window, where one is in use."""
    if use is not None and not c.flag(use, False):
        c.has("sliding_window")
        c.has("max_window_layers")
        return None
    return c.optional("sliding_window")


def _decoder(c: Fields, layers: tuple[Layer, ...], width: int, **more: object) -> Architecture:
    """What decoders with a token embedding and an output projection share."""
    vocabulary = c.number("vocab_size")
    tied = c.flag("tie_word_embeddings", bool(more.pop("tied", False)))
    family = str(c.data["model_type"])
    return Architecture(
        family,
        width,
        layers,
        vocabulary,
        head=vocabulary,
        tied=tied,
        **more,  # type: ignore[arg-type]
    )


def _llama(c: Fields, *, bias: bool | None = None, head_norm: bool = False,
           window: int | None = None) -> Architecture:  # fmt: skip
    width, depth = c.number("hidden_size"), c.layers("num_hidden_layers")
    both = c.flag("attention_bias", False) if bias is None else False
    attention = _heads(
        c, width, bias=both or bool(bias), out=both, head_norm=head_norm, window=window
    )
    mlp_bias = c.flag("mlp_bias", False)
    ffn = FeedForward(c.number("intermediate_size"), True, c.activation("hidden_act"), mlp_bias)
    return _decoder(c, (Layer(attention, ffn),) * depth, width)


def llama(c: Fields) -> Architecture:
    """Llama 1 to 3, Yi."""
    return _llama(c)


def mistral(c: Fields) -> Architecture:
    """Mistral: Llama with a sliding window."""
    return _llama(c, window=_window(c))


def qwen2(c: Fields) -> Architecture:
    """Qwen2, Qwen2.5: Llama with biases on queries, keys and values."""
    return _llama(c, bias=True, window=_window(c, "use_sliding_window"))


def qwen3(c: Fields) -> Architecture:
    """Qwen3: Llama with normalised queries and keys."""
    return _llama(c, head_norm=True, window=_window(c, "use_sliding_window"))


def mixtral(c: Fields) -> Architecture:
    """Mixtral: Llama with experts in every layer."""
    width, depth = c.number("hidden_size"), c.layers("num_hidden_layers")
    attention = _heads(c, width, bias=False, window=_window(c))
    moe = _experts(
        c, c.number("num_local_experts"), c.number("intermediate_size"), c.activation("hidden_act")
    )
    return _decoder(c, (Layer(attention, moe),) * depth, width)


def _experts(c: Fields, experts: int, width: int, activation: str, **more: object) -> Experts:
    top_k = c.number("num_experts_per_tok", "num_experts_per_token", "num_selected_experts")
    if top_k > experts:
        raise c.error("num_experts_per_tok", "more than there are experts", f"at most {experts}")
    return Experts(experts, top_k, width, True, activation, **more)  # type: ignore[arg-type]


def qwen2_moe(c: Fields) -> Architecture:
    """Qwen1.5-MoE, Qwen2-MoE: experts beside a gated shared one."""
    return _qwen_moe(c, bias=True, head_norm=False)


def qwen3_moe(c: Fields) -> Architecture:
    """Qwen3-MoE: experts, normalised queries and keys."""
    return _qwen_moe(c, bias=False, head_norm=True)


def _qwen_moe(c: Fields, *, bias: bool, head_norm: bool) -> Architecture:
    width, depth = c.number("hidden_size"), c.layers("num_hidden_layers")
    window, activation = _window(c, "use_sliding_window"), c.activation("hidden_act")
    both = c.flag("attention_bias", False)
    attention = _heads(c, width, bias=bias or both, out=both, head_norm=head_norm, window=window)
    shared = c.number("shared_expert_intermediate_size", default=0, least=0)
    moe = _experts(
        c, c.number("num_experts"), c.number("moe_intermediate_size"), activation,
        shared_width=shared, shared_gate=shared > 0,
    )  # fmt: skip
    dense = FeedForward(c.number("intermediate_size"), True, activation)
    step = c.number("decoder_sparse_step", default=1)
    listed = c.data.get("mlp_only_layers") or []
    c.has("mlp_only_layers")
    if not isinstance(listed, list) or any(type(i) is not int for i in listed):
        raise c.error("mlp_only_layers", "not a list of layer numbers")
    layers = tuple(
        Layer(attention, moe if i not in listed and (i + 1) % step == 0 else dense)
        for i in range(depth)
    )
    return _decoder(c, layers, width)


def deepseek(c: Fields) -> Architecture:
    """DeepSeek-V2 and V3: latent attention, many small experts beside shared ones.

    Multi-token prediction modules (``num_nextn_predict_layers``) are not part of a step.
    """
    width, depth = c.number("hidden_size"), c.layers("num_hidden_layers")
    heads, activation = c.number("num_attention_heads"), c.activation("hidden_act")
    c.has("num_key_value_heads")
    c.fixed("attention_bias", False)
    attention = LatentAttention(
        heads, c.optional("q_lora_rank"), c.number("kv_lora_rank"), c.number("qk_nope_head_dim"),
        c.number("qk_rope_head_dim"), c.number("v_head_dim"),
    )  # fmt: skip
    dense = FeedForward(c.number("intermediate_size"), True, activation)
    experts = c.number("n_routed_experts")
    small = c.number("moe_intermediate_size")
    groups = (c.number("n_group", default=1), c.number("topk_group", default=1))
    moe = _experts(
        c, experts, small, activation,
        shared_width=small * c.number("n_shared_experts", default=0, least=0),
        router_bias=c.data["model_type"] == "deepseek_v3",
        groups=groups if groups[0] > 1 else None,
    )  # fmt: skip
    first = c.number("first_k_dense_replace", default=0, least=0)
    every = c.number("moe_layer_freq", default=1)
    layers = tuple(
        Layer(attention, moe if i >= first and i % every == 0 else dense) for i in range(depth)
    )
    return _decoder(c, layers, width)


def grok(c: Fields) -> Architecture:
    """Grok-1: experts, norms before and after each part."""
    width, depth = c.number("hidden_size"), c.layers("num_hidden_layers")
    attention = _heads(c, width, bias=c.flag("attention_bias", False))
    moe = _experts(
        c, c.number("num_experts", "num_local_experts"), c.number("intermediate_size"),
        c.activation("hidden_act", default="gelu"),
    )  # fmt: skip
    return _decoder(c, (Layer(attention, moe, "sandwich"),) * depth, width, tied=True)


def glam(c: Fields) -> Architecture:
    """GLaM: experts of two matrices in every other layer, gated dense layers between them."""
    width, depth = c.number("hidden_size"), c.layers("num_hidden_layers")
    attention = _heads(c, width, bias=False, rotary=False, head_dim=c.number("head_dim"))
    inner, activation = c.number("intermediate_size"), c.activation("hidden_act")
    dense = FeedForward(inner, True, activation)
    experts, top_k = c.number("num_experts"), c.number("num_experts_per_tok")
    if top_k > experts:
        raise c.error("num_experts_per_tok", "more than there are experts", f"at most {experts}")
    moe = Experts(experts, top_k, inner, False, activation)
    every = c.number("moe_layer_freq")
    layers = tuple(Layer(attention, moe if (i + 1) % every == 0 else dense) for i in range(depth))
    return _decoder(c, layers, width, norm="layer_norm", norm_bias=False, tied=True)


def gpt2(c: Fields) -> Architecture:
    """GPT-2 and GPT-3: learnt positions, biases everywhere, tied output."""
    width, depth = c.number("n_embd"), c.layers("n_layer")
    heads, positions = c.number("n_head"), c.number("n_positions")
    head_dim = c.divides("n_head", heads, "n_embd", width)
    attention = Attention(heads, heads, head_dim, None, True, True)
    ffn = FeedForward(
        c.number("n_inner", default=4 * width), False,
        c.activation("activation_function", default="gelu_tanh"), True,
    )  # fmt: skip
    return _decoder(
        c, (Layer(attention, ffn),) * depth, width, norm="layer_norm", positions=positions,
        longest=positions, tied=True,
    )  # fmt: skip


def opt(c: Fields) -> Architecture:
    """OPT: learnt positions after two reserved rows, biases everywhere, tied output."""
    width, depth = c.number("hidden_size"), c.layers("num_hidden_layers")
    c.fixed("word_embed_proj_dim", width)
    c.fixed("do_layer_norm_before", True)
    bias = c.flag("enable_bias", True)
    attention = _heads(c, width, bias=bias, out=bias, rotary=False)
    ffn = FeedForward(
        c.number("ffn_dim"), False, c.activation("activation_function", default="relu"), bias
    )
    longest = c.number("max_position_embeddings")
    return _decoder(
        c, (Layer(attention, ffn),) * depth, width, norm="layer_norm", positions=longest + 2,
        longest=longest, tied=True,
    )  # fmt: skip


def phi(c: Fields) -> Architecture:
    """Phi-1, 1.5, 2: attention and feed-forward side by side, part of a head rotary."""
    width, depth = c.number("hidden_size"), c.layers("num_hidden_layers")
    c.fixed("qk_layernorm", False)
    base = _heads(c, width, bias=True, out=True)
    share = c.data.get("partial_rotary_factor", 0.5)
    if isinstance(share, bool) or not isinstance(share, (int, float)) or not 0 < share <= 1:
        raise c.error("partial_rotary_factor", "not a share", "a number in (0, 1]")
    attention = Attention(
        base.heads, base.kv_heads, base.head_dim, None, True, True, int(share * base.head_dim)
    )
    ffn = FeedForward(c.number("intermediate_size"), False, c.activation("hidden_act"), True)
    return _decoder(
        c, (Layer(attention, ffn, "parallel"),) * depth, width, norm="layer_norm", head_bias=True
    )


def gpt_neox(c: Fields) -> Architecture:
    """GPT-NeoX, Pythia: attention and feed-forward side by side, each with its norm."""
    width, depth = c.number("hidden_size"), c.layers("num_hidden_layers")
    bias = c.flag("attention_bias", True)
    base = _heads(c, width, bias=bias, out=bias)
    ffn = FeedForward(c.number("intermediate_size"), False, c.activation("hidden_act"), True)
    beside = c.flag("use_parallel_residual", True)
    layer = Layer(base, ffn, "parallel_two" if beside else "pre")
    return _decoder(c, (layer,) * depth, width, norm="layer_norm")


def mamba(c: Fields) -> Architecture:
    """Mamba-1: one mixer a layer, no feed-forward."""
    width, depth = c.number("hidden_size"), c.layers("num_hidden_layers", "n_layer")
    inner = c.number("intermediate_size", default=0, least=0) or width * c.number(
        "expand", default=2
    )
    c.has("expand")
    rank = c.data.get("time_step_rank", "auto")
    rank = -(-width // 16) if rank == "auto" else c.number("time_step_rank")
    c.has("time_step_rank")
    mixer = Mamba(
        inner, c.number("state_size", default=16), c.number("conv_kernel", default=4), rank,
        c.flag("use_conv_bias", True), c.flag("use_bias", False),
    )  # fmt: skip
    return _decoder(c, (Layer(mixer, None),) * depth, width, tied=True)


def mamba2(c: Fields) -> Architecture:
    """Mamba-2: one mixer a layer, no feed-forward."""
    width, depth = c.number("hidden_size"), c.layers("num_hidden_layers")
    inner = width * c.number("expand", default=2)
    heads, head_dim = c.number("num_heads"), c.number("head_dim")
    if heads * head_dim != inner:
        raise c.error(
            "num_heads", "heads x head_dim is not hidden_size x expand", f"{inner} in all"
        )
    groups = c.number("n_groups", default=8)
    c.divides("n_groups", groups, "num_heads", heads)
    mixer = Mamba2(
        heads, head_dim, c.number("state_size", default=128), groups,
        c.number("conv_kernel", default=4), c.flag("use_conv_bias", True),
        c.flag("use_bias", False),
    )  # fmt: skip
    return _decoder(c, (Layer(mixer, None),) * depth, width)


def minimax(c: Fields) -> Architecture:
    """MiniMax-Text-01: lightning attention, softmax attention in some layers, experts in all."""
    width, depth = c.number("hidden_size"), c.layers("num_hidden_layers")
    head_dim = c.number("head_dim")
    softmax = _heads(c, width, bias=False, head_dim=head_dim)
    softmax = Attention(
        softmax.heads, softmax.kv_heads, head_dim, None, False, False,
        c.number("rotary_dim", default=head_dim),
    )  # fmt: skip
    linear = LinearAttention(softmax.heads, head_dim, head_dim)
    moe = _experts(
        c, c.number("num_local_experts"), c.number("intermediate_size"), c.activation("hidden_act")
    )
    kinds = c.choices("attn_type_list", (0, 1), depth)
    layers = tuple(Layer(softmax if kind else linear, moe) for kind in kinds)
    return _decoder(c, layers, width)


def bert(c: Fields) -> Architecture:
    """BERT and RoBERTa, with pooler."""
    width, depth = c.number("hidden_size"), c.layers("num_hidden_layers")
    attention = _heads(c, width, bias=True, out=True, rotary=False)
    ffn = FeedForward(c.number("intermediate_size"), False, c.activation("hidden_act"), True)
    c.fixed("position_embedding_type", "absolute")
    rows = c.number("max_position_embeddings")
    reserved = 2 if c.data["model_type"] == "roberta" else 0
    return Architecture(
        str(c.data["model_type"]), width, (Layer(attention, ffn, "post"),) * depth,
        c.number("vocab_size"), "layer_norm", final_norm=False, embedding_norm=True,
        positions=rows, longest=rows - reserved, token_types=c.number("type_vocab_size"),
        causal=False, pooler=True,
    )  # fmt: skip


def vit(c: Fields) -> Architecture:
    """Vision transformer; with a classifier where the config names labels."""
    width, depth = c.number("hidden_size"), c.layers("num_hidden_layers")
    bias = c.flag("qkv_bias", True)
    attention = _heads(c, width, bias=bias, out=True, rotary=False)
    ffn = FeedForward(c.number("intermediate_size"), False, c.activation("hidden_act"), True)
    image, patch = c.number("image_size"), c.number("patch_size")
    c.divides("patch_size", patch, "image_size", image)
    patches = Patches(image, patch, c.number("num_channels", default=3))
    labels = c.data.get("id2label")
    if labels is not None and not isinstance(labels, dict):
        raise c.error("id2label", "not an object of label numbers")
    head = len(labels) if labels else c.number("num_labels", default=0, least=0)
    return Architecture(
        "vit", width, (Layer(attention, ffn),) * depth, 0, "layer_norm", causal=False,
        patches=patches, head=head, head_bias=head > 0,
    )  # fmt: skip


#: How each ``model_type`` is read.
FAMILIES: dict[str, Callable[[Fields], Architecture]] = {
    "bert": bert,
    "deepseek_v2": deepseek,
    "deepseek_v3": deepseek,
    "glam": glam,
    "gpt2": gpt2,
    "gpt_neox": gpt_neox,
    "grok-1": grok,
    "llama": llama,
    "mamba": mamba,
    "mamba2": mamba2,
    "minimax_text_01": minimax,
    "mistral": mistral,
    "mixtral": mixtral,
    "opt": opt,
    "phi": phi,
    "qwen2": qwen2,
    "qwen2_moe": qwen2_moe,
    "qwen3": qwen3,
    "qwen3_moe": qwen3_moe,
    "roberta": bert,
    "vit": vit,
}
