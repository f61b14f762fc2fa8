"""A config that is wrong is refused with its file, field, value and what was expected."""

import copy
import json

import numpy as np
import pytest
import yaml
from language_configs import OTHERS

from archsim.errors import InputError
from archsim.workload import available_models, load_model
from archsim.workload.huggingface import model_folder, model_of
from archsim.workload.huggingface_config import read_config

MISTRAL, LITE = OTHERS["mistral-7b"][0], OTHERS["deepseek-v2-lite"][0]
GPT2, MAMBA2 = OTHERS["gpt2"][0], OTHERS["mamba2-2.7b"][0]
VIT, MOE = OTHERS["vit-base-16"][0], OTHERS["qwen3-30b-a3b"][0]
GONE = object()


@pytest.mark.parametrize(
    ("config", "field", "value", "words"),
    [
        (MISTRAL, "model_type", "mystral", "mistral"),
        (MISTRAL, "model_type", GONE, "missing"),
        (MISTRAL, "hidden_size", GONE, "missing"),
        (MISTRAL, "hidden_size", "4096", "whole number"),
        (MISTRAL, "hidden_size", 4096.0, "whole number"),
        (MISTRAL, "hidden_size", -1, "whole number"),
        (MISTRAL, "hidden_size", True, "whole number"),
        (MISTRAL, "hidden_size", 1 << 60, "whole number"),
        (MISTRAL, "num_hidden_layers", 1 << 31, "too many layers"),
        (MISTRAL, "num_attention_heads", 31, "divi"),
        (MISTRAL, "num_key_value_heads", 5, "divisor of 32"),
        (MISTRAL, "hidden_act", "step", "unknown activation"),
        (MISTRAL, "tie_word_embeddings", "no", "true or false"),
        (MISTRAL, "num_local_experts", 8, "has no such field"),
        (MISTRAL, "kv_lora_rank", 512, "has no such field"),
        (MISTRAL, "is_encoder_decoder", True, "has no such field"),
        (LITE, "kv_lora_rank", GONE, "missing"),
        (LITE, "num_experts_per_tok", 65, "at most 64"),
        (LITE, "attention_bias", True, "not supported"),
        (GPT2, "n_head", 7, "divisor of 768"),
        (MAMBA2, "num_heads", 81, "hidden_size x expand"),
        (MAMBA2, "n_groups", 3, "divisor of 80"),
        (VIT, "patch_size", 15, "divisor of 224"),
        (VIT, "id2label", [1], "label numbers"),
        (MOE, "mlp_only_layers", ["a"], "layer numbers"),
    ],
)
def test_a_wrong_field_is_named(config, field, value, words, tmp_path):
    changed = {**config, field: value}
    if value is GONE:
        del changed[field]
    path = tmp_path / "config.json"
    path.write_text(json.dumps(changed))
    with pytest.raises(InputError) as caught:
        load_model(path)
    message = str(caught.value)
    assert words in message
    assert "config.json" in message
    if "divi" not in words:
        assert field in (caught.value.field or "")


def test_a_field_a_layer_is_checked_a_layer(tmp_path):
    config = dict(yaml.safe_load((model_folder() / "minimax-text-01.yaml").read_text())["config"])
    for wrong in ([0] * 79, [0] * 79 + [2], "linear", [True] * 80):
        with pytest.raises(InputError, match="attn_type_list"):
            model_of({**config, "attn_type_list": wrong}, "m")


@pytest.mark.parametrize(
    "text", ["", "[]", "{", '{"a": 1, "a": 2}', "nan", '{"model_type": 3}', "{}", "[" * 5000]
)
def test_a_file_that_is_no_config_is_refused(text, tmp_path):
    path = tmp_path / "config.json"
    path.write_text(text)
    with pytest.raises(InputError, match=r"config\.json"):
        load_model(path)


def test_a_missing_file_and_an_unknown_name_are_refused(tmp_path):
    with pytest.raises(InputError, match="cannot read"):
        read_config(tmp_path / "config.json")
    with pytest.raises(InputError, match="llama-3-70b"):
        load_model("llama-3-7b")


def test_shipped_files_are_validated(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("source: me\nconfig: {model_type: llama}\n")
    with pytest.raises(InputError) as caught:
        load_model(path)
    assert caught.value.field == "config.hidden_size"
    path.write_text("source: me\nconfg: {}\n")
    with pytest.raises(InputError):
        load_model(path)


JUNK = [None, -1, 0, 1, 2, 3.5, "x", "", [], {}, [[]], True, False, 2**70, "auto", 1e400, [0, 1]]


def test_mutated_configs_give_models_or_input_errors():
    rng = np.random.default_rng(11)
    configs = [config for config, _ in OTHERS.values()]
    configs += [
        yaml.safe_load((model_folder() / f"{name}.yaml").read_text())["config"]
        for name in available_models()
    ]
    refused = 0
    for _ in range(600):
        config = copy.copy(configs[rng.integers(len(configs))])
        for _ in range(rng.integers(1, 3)):
            key = list(config)[rng.integers(len(config))]
            config[key] = JUNK[rng.integers(len(JUNK))]
        try:
            found = model_of(config, "mutant")
            small = len(found.architecture.layers) < 1000
            if small and found.architecture.causal:
                found.workload("decode", batch=2, context=3)
        except InputError:
            refused += 1
    assert 200 < refused < 590
