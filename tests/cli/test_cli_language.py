"""`archsim workload`, and configs through `archsim import`."""

import json

import pytest

from archsim.cli import main
from archsim.workload import load_model
from archsim.workload.yaml_form import load_workload_yaml

CONFIG = {
    "model_type": "llama", "hidden_act": "silu", "vocab_size": 1000, "hidden_size": 64,
    "intermediate_size": 128, "num_hidden_layers": 3, "num_attention_heads": 4,
    "num_key_value_heads": 2,
}  # fmt: skip


def test_a_model_is_shown_beside_what_is_published(capsys):
    assert main(["workload", "deepseek-v3", "--batch", "32", "--operations"]) == 0
    out = capsys.readouterr().out
    for text in ("671,026,419,200", "70.272 KB", "37,552,297,472", "61 (2)", "experts.up"):
        assert text in out


def test_a_step_as_json_agrees_with_the_api(capsys):
    words = ["workload", "llama-3-70b", "--batch", "4", "--context", "100", "--kv-bits", "8"]
    assert main([*words, "--json"]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert figures["parameters"] == 70_553_706_496
    assert figures["cache_bytes"] == 4 * 100 * 327_680 / 2
    assert figures["tokens"] == 4


def test_a_mixed_step_is_told_request_by_request(capsys):
    words = ["workload", "mixtral-8x7b", "--request", "512/512", "--request", "31x1/2048", "--json"]
    assert main([*words, "--skew", "1.2"]) == 0
    assert json.loads(capsys.readouterr().out)["tokens"] == 543
    assert main(["workload", "mixtral-8x7b", "--request", "1-2"]) == 2
    assert "NEW/CONTEXT" in capsys.readouterr().err


def test_a_config_is_imported_as_a_step(tmp_path, capsys):
    path, out = tmp_path / "config.json", tmp_path / "step.yaml"
    path.write_text(json.dumps(CONFIG))
    words = ["import", str(path), "--phase", "decode", "--batch", "32", "--context", "256"]
    assert main([*words, "-o", str(out)]) == 0
    assert f"{load_model(path).parameters:,}" in capsys.readouterr().out
    written = load_workload_yaml(out)
    assert written == load_model(path).workload("decode", batch=32, context=256)
    assert main(words) == 0


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["workload", "llama-9"], "no such model"),
        (["workload", "llama-2-7b", "--phase", "training"], "prefill or decode"),
        (["workload", "llama-2-7b", "--weight-bits", "0"], "bits"),
        (["import", "x.onnx", "--phase", "decode"], "only language models"),
        (["import", "x.onnx"], "--out"),
        (["import", "missing/config.json"], "cannot read"),
        (["evaluate", "-w", "llama-2-7b", "-m", "tiny"], "llama-2-7b:decode"),
    ],
)
def test_mistakes_are_one_clear_line(words, says, capsys):
    assert main(words) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert says in error
    assert "Traceback" not in error


def test_an_image_model_needs_no_context(capsys):
    assert main(["workload", "vit-large-16"]) == 0
    assert "304,326,632" in capsys.readouterr().out


def test_a_model_is_served_by_a_node(capsys):
    words = ["evaluate", "--workload", "llama-3-70b", "--machine", "h100x8", "--phase", "decode"]
    words += ["--batch", "32", "--context", "4096"]
    assert main([*words, "--plan", "tp8", "--layers"]) == 0
    out = capsys.readouterr().out
    for text in ("time per output token", "limited by", "fits", "mlp.down"):
        assert text in out
    assert main([*words, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["plan"] == "tp8"
    assert main([*words, "--plan", "tp9"]) == 2
    assert "more devices" in capsys.readouterr().err
    assert main([*words, "--mappings"]) == 2
    assert "--mappings" in capsys.readouterr().err


def test_models_are_listed(capsys):
    assert main(["list", "models"]) == 0
    assert "405,853,388,800" in capsys.readouterr().out


def test_requests_join_a_step(capsys):
    words = ["evaluate", "-w", "llama-3-8b", "-m", "h100", "--batch", "8", "--context", "512"]
    assert main([*words, "--json"]) == 0
    alone = json.loads(capsys.readouterr().out)
    assert main([*words, "--request", "2x256/1024", "--json"]) == 0
    mixed = json.loads(capsys.readouterr().out)
    tokens = [cost["tokens_per_s"] * cost["latency_s"] for cost in (alone, mixed)]
    assert tokens == pytest.approx([8, 8 + 512])
    assert mixed["latency_s"] > alone["latency_s"]
    assert main([*words, "--bits", "4/16/8", "--plan", "tp1", "--json"]) == 0
    narrow = json.loads(capsys.readouterr().out)
    assert narrow["memory_bytes"]["cache"] == alone["memory_bytes"]["cache"] / 2
    assert narrow["memory_bytes"]["weights"] < 0.45 * alone["memory_bytes"]["weights"]
    assert main([*words, "--bits", "four"]) == 2
    assert "cannot read the bits" in capsys.readouterr().err
    assert main([*words, "--request", "2/1"]) == 2
    assert "cannot be shorter" in capsys.readouterr().err


def test_experts_and_training_are_priced(capsys):
    words = ["experts", "-w", "llama-2-7b", "-m", "sn40lx8", "-n", "150", "--home", "ddr"]
    assert main(words) == 0
    out = capsys.readouterr().out
    for text in ("150 experts llama-2-7b", "at hand, rest in ddr", "switch", "router"):
        assert text in out
    assert main([*words, "--requests", "500", "--skew", "1.2", "--ahead", "--json"]) == 0
    skewed = json.loads(capsys.readouterr().out)
    assert skewed["fits"]
    assert skewed["missing"] < 0.6
    assert main([*words[:-1], "tape"]) == 2
    assert "none of the tiers" in capsys.readouterr().err
    words = ["train", "-w", "llama-2-7b", "-m", "h100x8", "--batch", "16", "--plan", "dp8"]
    assert main(words) == 0
    assert "OUT OF MEMORY" in capsys.readouterr().out
    assert main([*words, "--zero", "3", "--states", "host_dram", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["fits"]
    assert found["latency_s"] > found["update_s"] > found["forward_s"]
    assert main([*words, "--device-share", "2"]) == 2
    assert "a share" in capsys.readouterr().err


def test_experts_and_training_take_bits_apart(capsys):
    experts = ["experts", "-w", "llama-2-7b", "-m", "h100x8", "-n", "9", "--home", "host_dram"]
    train = ["train", "-w", "llama-2-7b", "-m", "h100x8", "--batch", "8", "--plan", "dp8"]
    found = {}
    for words, bits in ((experts, "16"), (experts, "8/16/16"), (train, "16"), (train, "8/16")):
        assert main([*words, "--bits", bits, "--json"]) == 0
        found[words[0], bits] = json.loads(capsys.readouterr().out)
    full, narrow = found["experts", "16"], found["experts", "8/16/16"]
    assert 0.5 < narrow["expert_bytes"] / full["expert_bytes"] < 0.53
    full, narrow = found["train", "16"], found["train", "8/16"]
    for what in ("weights", "gradients"):
        assert narrow["memory_bytes"][what] == full["memory_bytes"][what] / 2
    assert narrow["memory_bytes"]["activations"] == full["memory_bytes"]["activations"]
    assert main([*train, "--bits", "8/16/4"]) == 2
    assert "no cache" in capsys.readouterr().err
    away = [*train, "--zero", "3", "--states", "host_dram"]
    assert main([*away, "--resident", "0.2", "--blocking", "--json"]) == 0
    blocked = json.loads(capsys.readouterr().out)
    assert main([*away, "--resident", "0.2", "--json"]) == 0
    assert blocked["backward_s"] > json.loads(capsys.readouterr().out)["backward_s"]
    assert main([*experts, "--router-tokens", "20"]) == 0
