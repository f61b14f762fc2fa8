"""Configs of models that do not ship, with published parameter counts, one family each."""

_LLAMA = {"hidden_act": "silu", "tie_word_embeddings": False}

#: name: (config, parameters): the safetensors totals of the models on Hugging Face.
OTHERS = {
    "mistral-7b": (
        {"model_type": "mistral", **_LLAMA, "vocab_size": 32000, "hidden_size": 4096,
         "intermediate_size": 14336, "num_hidden_layers": 32, "num_attention_heads": 32,
         "num_key_value_heads": 8, "sliding_window": 4096},
        7_241_732_096,
    ),
    "qwen3-8b": (
        {"model_type": "qwen3", **_LLAMA, "vocab_size": 151936, "hidden_size": 4096,
         "intermediate_size": 12288, "num_hidden_layers": 36, "num_attention_heads": 32,
         "num_key_value_heads": 8, "head_dim": 128, "attention_bias": False,
         "use_sliding_window": False, "sliding_window": None},
        8_190_735_360,
    ),
    "qwen3-30b-a3b": (
        {"model_type": "qwen3_moe", **_LLAMA, "vocab_size": 151936, "hidden_size": 2048,
         "intermediate_size": 6144, "moe_intermediate_size": 768, "num_hidden_layers": 48,
         "num_attention_heads": 32, "num_key_value_heads": 4, "head_dim": 128,
         "num_experts": 128, "num_experts_per_tok": 8, "decoder_sparse_step": 1,
         "mlp_only_layers": [], "attention_bias": False, "use_sliding_window": False},
        30_532_122_624,
    ),
    "qwen1.5-moe-a2.7b": (
        {"model_type": "qwen2_moe", **_LLAMA, "vocab_size": 151936, "hidden_size": 2048,
         "intermediate_size": 5632, "moe_intermediate_size": 1408,
         "shared_expert_intermediate_size": 5632, "num_hidden_layers": 24,
         "num_attention_heads": 16, "num_key_value_heads": 16, "num_experts": 60,
         "num_experts_per_tok": 4, "decoder_sparse_step": 1, "use_sliding_window": False},
        14_315_784_192,
    ),
    "deepseek-v2-lite": (
        {"model_type": "deepseek_v2", **_LLAMA, "vocab_size": 102400, "hidden_size": 2048,
         "intermediate_size": 10944, "moe_intermediate_size": 1408, "num_hidden_layers": 27,
         "num_attention_heads": 16, "num_key_value_heads": 16, "n_routed_experts": 64,
         "n_shared_experts": 2, "num_experts_per_tok": 6, "first_k_dense_replace": 1,
         "q_lora_rank": None, "kv_lora_rank": 512, "qk_nope_head_dim": 128,
         "qk_rope_head_dim": 64, "v_head_dim": 128, "n_group": 1, "topk_group": 1},
        15_706_484_224,
    ),
    "gpt2": (
        {"model_type": "gpt2", "activation_function": "gelu_new", "vocab_size": 50257,
         "n_embd": 768, "n_layer": 12, "n_head": 12, "n_positions": 1024},
        124_439_808,
    ),
    "pythia-6.9b": (
        {"model_type": "gpt_neox", "hidden_act": "gelu", "vocab_size": 50432,
         "hidden_size": 4096, "intermediate_size": 16384, "num_hidden_layers": 32,
         "num_attention_heads": 32, "use_parallel_residual": True,
         "tie_word_embeddings": False},
        6_857_302_016,
    ),
    "mamba2-2.7b": (
        {"model_type": "mamba2", "vocab_size": 50288, "hidden_size": 2560,
         "num_hidden_layers": 64, "state_size": 128, "expand": 2, "num_heads": 80,
         "head_dim": 64, "n_groups": 1, "conv_kernel": 4, "use_conv_bias": True,
         "use_bias": False, "tie_word_embeddings": True},
        2_702_599_680,
    ),
    "roberta-base": (
        {"model_type": "roberta", "hidden_act": "gelu", "vocab_size": 50265,
         "hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12,
         "num_attention_heads": 12, "max_position_embeddings": 514, "type_vocab_size": 1},
        124_645_632,
    ),
    "bert-base": (
        {"model_type": "bert", "hidden_act": "gelu", "vocab_size": 30522,
         "hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12,
         "num_attention_heads": 12, "max_position_embeddings": 512, "type_vocab_size": 2},
        109_482_240,
    ),
    "vit-base-16": (
        {"model_type": "vit", "hidden_act": "gelu", "hidden_size": 768,
         "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12,
         "image_size": 224, "patch_size": 16, "num_channels": 3, "qkv_bias": True,
         "id2label": {str(i): f"class {i}" for i in range(1000)}},
        86_567_656,
    ),
}  # fmt: skip
