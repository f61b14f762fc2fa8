"""Language models from configs: published figures, laws of a step, and the file form."""

import json
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from language_configs import OTHERS

from archsim.errors import InputError
from archsim.system.fusion import plan_steps
from archsim.workload import (
    Bits,
    Request,
    Routing,
    available_models,
    load_model,
    load_workload,
    model_summary,
    unfold,
)
from archsim.workload.huggingface import FAMILIES, model_of
from archsim.workload.yaml_form import loads
from archsim.workload.yaml_write import dumps

#: Models whose published parameters are a round number, and how far the count may be from it.
ROUND = {"deepseek-v3": 1e-3, "gpt-3-175b": 1e-3, "grok-1": 0.01, "opt-66b": 0.01,
         "glam-64b-64e": 0.04, "glam-8b-64e": 0.01, "minimax-text-01": 1e-3}  # fmt: skip
DECODERS = tuple(n for n in available_models() if n not in ("bert-large", "vit-large-16"))


@cache
def model(name):
    return load_model(name) if name in available_models() else model_of(OTHERS[name][0], name)


def macs(step, part=""):
    return sum(op.macs * step.copies[op.name] for op in step.operations if part in op.name)


# ---------------------------------------------------------------------------------- published


@pytest.mark.parametrize("name", available_models())
def test_shipped_model_has_its_published_parameters(name):
    found = model(name)
    assert found.source
    published = found.published["parameters"]
    if name in ROUND:
        assert found.parameters == pytest.approx(published, rel=ROUND[name])
    else:
        assert found.parameters == published


@pytest.mark.parametrize("name", OTHERS)
def test_other_families_have_their_published_parameters(name):
    assert model(name).parameters == OTHERS[name][1]


def test_every_family_is_covered():
    covered = {model(name).architecture.family for name in (*available_models(), *OTHERS)}
    assert covered == set(FAMILIES)


@pytest.mark.parametrize(
    ("name", "published", "tolerance"),
    [
        ("mixtral-8x7b", 12.9e9, 0.005),  # arXiv 2401.04088
        ("glam-64b-64e", 96.6e9, 0.001),  # arXiv 2112.06905, table 4
        ("deepseek-v3", 37e9, 0.02),  # arXiv 2412.19437
        ("deepseek-v2", 21e9, 0.02),  # arXiv 2405.04434
        ("qwen3-30b-a3b", 3.3e9, 0.02),  # its model card
    ],
)
def test_active_parameters_are_those_published(name, published, tolerance):
    assert model(name).active_parameters == pytest.approx(published, rel=tolerance)


def test_deepseek_counts_the_row_of_its_embedding_that_is_read():
    # README_WEIGHTS.md beside the weights: 36.6B, with the output head, without the embedding
    found = model("deepseek-v3")
    assert found.active_read_parameters == found.active_parameters - 129280 * 7168
    assert found.active_read_parameters == pytest.approx(36.6e9, rel=0.05 / 36.6)
    assert found.active_layer_parameters == found.active_read_parameters - 129280 * 7168
    tied = model("glam-64b-64e")  # read whole as the output projection
    assert tied.active_read_parameters == tied.active_parameters


def test_minimax_counts_its_active_parameters_without_embeddings():
    # 45.9e9 published (arXiv 2501.08313); with both tables of 200064 x 6144 it is 48.4e9.
    found = model("minimax-text-01")
    assert found.active_parameters - 2 * 200064 * 6144 == pytest.approx(45.9e9, rel=0.002)


@pytest.mark.parametrize(
    ("name", "kilobytes"),
    [("deepseek-v3", 70.272), ("qwen2.5-72b", 327.68), ("llama-3-405b", 516.096)],
)
def test_cache_of_a_token_is_that_of_the_isca_2025_table(name, kilobytes):
    found = model(name)
    assert found.kv_bytes_per_token() == kilobytes * 1000
    assert found.kv_bytes_per_token(Bits(kv=8)) == kilobytes * 500
    one = found.cache_bytes([Request(1, 1000)])
    assert one == found.kv_bytes_per_token() * 1000
    assert found.cache_bytes([Request(1, 1000, 3)]) == 3 * one


@pytest.mark.parametrize(
    ("name", "published", "tolerance"),
    [("deepseek-v2", 155, 0.01), ("deepseek-v3", 250, 0.01), ("llama-3-405b", 2448, 0.015)],
)
def test_training_operations_are_those_of_the_isca_2025_table(name, published, tolerance):
    # Table 2: GFLOP a token at 4096 tokens, three forward passes, scores of the causal half only.
    tokens = 4096
    step = model(name).workload("prefill", context=tokens, latent="unabsorbed", all_logits=True)
    flops = sum(
        2 * op.macs * step.copies[op.name] / (2 if op.attribute("causal") else 1)
        for op in step.operations
    )
    assert 3 * flops / tokens / 1e9 == pytest.approx(published, rel=tolerance)


def test_linear_weights_of_a_llama_2_7b_token_are_those_bitmod_counts():
    # Its simulator's FP16 decode token: 413.5 M cycles of 256 bits (HPCA'25 notebook).
    step = model("llama-2-7b").workload("decode", context=256)
    linear = sum(
        step.tensors[op.inputs[1]].elements * step.copies[op.name]
        for op in step.operations
        if op.kind == "gemm"
    )
    assert linear == 6_607_077_376
    assert linear * 16 / 256 == pytest.approx(413.5e6, rel=0.002)


# ------------------------------------------------------------------------------- laws of a step


@pytest.mark.parametrize("name", [*available_models(), *OTHERS])
def test_folded_and_unfolded_steps_agree(name):
    found = model(name)
    encoder = not found.architecture.causal
    context = found.image_tokens or 40
    step = found.workload("prefill" if encoder else "decode", batch=3, context=context)
    flat = unfold(step)
    assert flat.macs == step.macs
    assert flat.parameters == step.parameters == found.parameters
    assert sum(step.copies.values()) == len(flat.operations)


@pytest.mark.parametrize("name", ["llama-2-7b", "deepseek-v3", "mamba-2.8b", "phi-2"])
def test_layers_are_costed_alike_folded_or_not(name):
    step = model(name).workload("decode", batch=2, context=64)
    folded, flat = plan_steps(step), plan_steps(unfold(step))
    assert [s.name for s in folded] == [s.name for s in flat]


@pytest.mark.parametrize("name", DECODERS)
def test_a_step_survives_the_file_form(name):
    step = model(name).step([Request(1, 65, 2), Request(8, 24)])
    assert loads(dumps(step)) == step


@pytest.mark.parametrize("name", DECODERS)
def test_weights_are_read_where_they_are_declared(name):
    step = model(name).workload("decode", batch=2, context=32)
    read = {tensor for op in step.operations for tensor in op.inputs}
    for tensor in step.tensors.values():
        if tensor.role in ("weight", "kv_cache"):
            assert tensor.name in read, tensor.name
    for op in step.operations:
        for access in op.einsum.operands if op.einsum else ():
            reach = 1
            for rank in access.ranks:
                reach *= 1 + sum(c * (op.einsum.extents[d] - 1) for d, c in rank)
            assert reach <= step.tensors[access.tensor].elements, (op.name, access.tensor)


@given(
    st.sampled_from(["llama-3-8b", "deepseek-v2-lite", "opt-1.3b", "yi-6b"]),
    st.lists(
        st.tuples(st.integers(1, 9), st.integers(0, 40), st.integers(1, 3)), min_size=1, max_size=4
    ),
)
@settings(max_examples=25, deadline=None)
def test_attention_of_a_mixed_step_is_the_sum_of_its_requests(name, parts):
    found = model(name)
    requests = [Request(new, new + past, count) for new, past, count in parts]
    options = {"latent": "absorbed"}
    whole = found.step(requests, **options)
    alone = [found.step([request], **options) for request in requests]
    for part in ("scores", "values_sum", "qkv", "q_up", "absorb", ".out"):
        assert macs(whole, part) == sum(macs(step, part) for step in alone)
    assert found.cache_bytes(requests) == sum(found.cache_bytes([r]) for r in requests)


def test_attention_has_its_closed_form():
    found, batch, context = model("llama-3-70b"), 5, 777
    step = found.workload("decode", batch=batch, context=context)
    each = batch * 64 * 128 * context * 80
    assert macs(step, "scores") == macs(step, "values_sum") == each
    assert macs(step, "qkv") == batch * 8192 * (64 + 2 * 8) * 128 * 80
    assert macs(step, "gate_up") == batch * 8192 * 2 * 28672 * 80
    scores = next(op for op in step.operations if op.name.endswith("scores"))
    assert scores.einsum.extents == {"G": 40, "M": 777, "C": 128, "P": 8}
    facts = dict(scores.attributes)
    assert (facts["heads"], facts["kv_heads"], facts["requests"]) == (64, 8, 5)
    assert facts["context"] == 777


def test_latent_attention_in_its_two_forms():
    found, context = model("deepseek-v3"), 1000
    absorbed = found.workload("decode", context=context, latent="absorbed")
    plain = found.workload("decode", context=context, latent="unabsorbed")
    assert absorbed.parameters == plain.parameters == found.parameters
    assert macs(absorbed, "scores") - macs(absorbed, "moe.scores") == 61 * 128 * 576 * context
    assert macs(plain, "attention.scores") == 61 * 128 * 192 * context
    assert macs(plain, "k_up") == 61 * context * 512 * 128 * 128
    assert macs(absorbed, "k_up") == 0
    assert macs(absorbed, "q_absorb") == 61 * 128 * 128 * 512
    for step in (absorbed, plain):
        assert step.parameters == found.parameters
    auto = found.workload("decode", context=context)
    assert auto.macs == absorbed.macs
    assert found.workload("prefill", context=context).macs < found.workload(
        "prefill", context=context, latent="absorbed"
    ).macs  # fmt: skip


def test_a_sliding_window_bounds_cache_and_scores():
    found = model("mistral-7b")
    long = found.workload("decode", context=100_000)
    assert macs(long, "scores") == macs(found.workload("decode", context=4096), "scores")
    assert found.cache_bytes([Request(1, 100_000)]) == 4096 * found.kv_bytes_per_token()
    prompt = found.workload("prefill", context=10_000)
    assert macs(prompt, "scores") == 32 * 32 * 10_000 * 4096 * 128
    short = found.workload("prefill", context=1000)
    assert macs(short, "scores") == 32 * 32 * 1000 * 1000 * 128
    banded = next(op for op in prompt.operations if op.name.endswith("scores"))
    assert banded.einsum.operands[1].ranks[1] == (("P", 1), ("M", 1))
    assert banded.attribute("window") == 4096


@pytest.mark.parametrize("name", ["mamba-2.8b", "mamba2-2.7b"])
def test_a_state_space_does_not_grow_with_its_context(name):
    found = model(name)
    assert found.kv_bytes_per_token() == 0
    near, far = (found.workload("decode", context=c) for c in (1, 100_000))
    assert near.macs == far.macs
    assert found.cache_bytes([Request(1, 1)]) == found.cache_bytes([Request(1, 100_000)]) > 0
    tokens = 256
    prompt = found.workload("prefill", context=tokens, all_logits=True)
    for part in ("mixer.in", "mixer.out"):
        assert macs(prompt, part) >= tokens * macs(near, part) > 0


def test_mamba_scan_and_state_have_their_closed_form():
    found = model("mamba-2.8b")
    step = found.workload("decode", batch=2, context=1)
    scan = [op for op in step.operations if op.kind == "selective_scan"]
    assert [step.copies[op.name] for op in scan] == [64]
    assert scan[0].vector_ops == 2 * 5120 * (7 * 16 + 3)
    assert found.cache_bytes([Request(1, 1)]) == 64 * 5120 * (16 * 4 + 3 * 2)


def test_linear_attention_alternates_with_softmax():
    found = model("minimax-text-01")
    assert found.kv_bytes_per_token() == 10 * 2 * 8 * 128 * 2
    step = found.workload("decode", context=2048)
    assert macs(step, ".scores") == 10 * 64 * 128 * 2048
    assert macs(step, "read") == 70 * 64 * 128 * 128
    assert found.state_bytes_per_request() == 70 * 64 * 128 * 128 * 4


def test_chunked_prefill_does_the_work_of_a_whole_one_and_reads_the_past():
    found = model("llama-3-8b")
    whole = found.workload("prefill", context=1024)
    chunks = [found.step([Request(256, 256 * (i + 1))]) for i in range(4)]
    assert macs(whole, "mlp") == sum(macs(chunk, "mlp") for chunk in chunks)
    # Full products: four chunks see 256, 512, 768, 1024 keys rather than 1024 each.
    seen = sum(macs(chunk, "attention.scores") for chunk in chunks)
    assert seen * 1024 * 4 == macs(whole, "attention.scores") * (256 + 512 + 768 + 1024)


def test_heads_score_the_last_token_unless_told_otherwise():
    found = model("llama-3-8b")
    one = found.workload("prefill", batch=2, context=10)
    every = found.workload("prefill", batch=2, context=10, all_logits=True)
    assert macs(one, "head") == 2 * 4096 * 128256
    assert macs(every, "head") == 20 * 4096 * 128256


def test_bits_are_told_apart():
    bits = Bits(weight=4.0625, activation=16, kv=8, state=32)
    step = model("llama-2-7b").workload("decode", context=8, bits=bits)
    found = {(t.role, t.bits) for t in step.tensors.values()}
    # norms and the token embedding stay as wide as activations
    assert {b for role, b in found if role == "kv_cache"} == {8}
    assert {b for role, b in found if role == "weight"} == {4.0625, 16}
    figures = model_summary(model("llama-2-7b"), [Request(1, 8)], bits)
    assert figures.cache_bytes == 8 * 4096 * 2 * 32
    narrow = Bits(weight=4, embedding=4)
    assert model_summary(model("llama-2-7b"), [Request(1, 8)], narrow).weight_bytes < (
        figures.weight_bytes
    )
    for wrong in ({"weight": 0}, {"kv": -1}, {"embedding": 2000}):
        with pytest.raises(InputError):
            Bits(**wrong)


def test_encoders_have_no_cache():
    found = model("bert-base")
    step = found.workload("prefill", batch=2, context=128)
    assert not [t for t in step.tensors.values() if t.role == "kv_cache"]
    # Twelve layers and the pooler, as in test_workload_published
    tokens, width = 128, 768
    layer = tokens * width * (4 * width + 8 * width) + 2 * tokens * tokens * width
    assert step.macs == 2 * (12 * layer + width * width)
    with pytest.raises(InputError, match="no cache"):
        found.workload("decode", context=128)
    with pytest.raises(InputError, match="positions"):
        found.workload("prefill", context=513)
    image = model("vit-base-16")
    assert image.workload("prefill", context=197).macs == load_workload("vit_b_16").macs
    with pytest.raises(InputError, match="fixed number of tokens"):
        image.workload("prefill", context=196)


# ------------------------------------------------------------------------------------- experts


ROUTINGS = st.one_of(
    st.just(Routing()),
    st.builds(Routing, st.just("zipf"), st.floats(0, 4)),
    st.builds(Routing, st.just("sampled"), st.floats(0, 2), st.integers(0, 9)),
)


@given(ROUTINGS, st.integers(1, 300), st.integers(1, 40), st.data())
@settings(max_examples=150, deadline=None)
def test_every_token_finds_its_experts(routing, tokens, experts, data):
    top_k = data.draw(st.integers(1, experts))
    counts = routing.tokens(tokens, experts, top_k)
    assert len(counts) == experts
    assert sum(counts) == tokens * top_k
    assert counts == sorted(counts, reverse=True)
    assert all(0 <= count <= tokens for count in counts)


def test_skew_concentrates_load():
    loads = [Routing("zipf", s).tokens(512, 64, 2) for s in (0.0, 0.5, 1.0, 2.0)]
    assert [load[0] for load in loads] == sorted(load[0] for load in loads)
    assert loads[0] == Routing().tokens(512, 64, 2)
    shares = tuple(range(1, 9))
    assert Routing("given", shares=shares).tokens(36, 8, 1) == [8, 7, 6, 5, 4, 3, 2, 1]
    for wrong in (Routing("given", shares=(1.0,)), Routing("given", shares=(1.0, 0, 0, 0))):
        with pytest.raises(InputError, match="share"):
            wrong.tokens(4, 4, 2)
    with pytest.raises(InputError):
        Routing("best")


@given(ROUTINGS, st.integers(1, 70))
@settings(max_examples=25, deadline=None)
def test_experts_do_the_same_work_however_it_is_spread(routing, batch):
    found = model("mixtral-8x7b")
    step = found.workload("decode", batch=batch, context=9, routing=routing)
    assert step.parameters == found.parameters
    assert macs(step, "experts") == batch * 2 * 3 * 4096 * 14336 * 32
    groups = [op for op in step.operations if op.attribute("kernel", "").endswith("experts.up")]
    active = sum(op.einsum.extents["G"] for op in groups)
    assert {op.attribute("active") for op in groups} == {active}
    assert 2 <= active <= 8


def test_few_tokens_touch_few_experts():
    found = model("deepseek-v3")
    step = found.workload("decode", batch=4, context=9)
    (up,) = [op for op in step.operations if op.name.endswith("experts.up")]
    assert up.einsum.extents["G"] == 32
    assert up.attribute("experts") == 256
    assert step.tensors[up.inputs[1]].shape == (256, 7168, 4096)


# --------------------------------------------------------------------------- names, files, errors


def test_a_step_can_be_named():
    flat = load_workload("llama-2-7b:decode:64", batch=3)
    assert not flat.blocks
    assert flat.macs == model("llama-2-7b").workload("decode", batch=3, context=64).macs
    with pytest.raises(InputError, match="llama-2-7b:decode"):
        load_workload("llama-2-7b")
    with pytest.raises(InputError, match="whole number"):
        load_workload("llama-2-7b:decode:many")
    with pytest.raises(InputError, match="no such model"):
        load_workload("llama-2-8b:decode:64")


def test_a_config_file_is_read_by_path(tmp_path):
    folder = tmp_path / "my-model"
    folder.mkdir()
    path = folder / "config.json"
    path.write_text(json.dumps(OTHERS["qwen3-8b"][0]))
    found = load_model(path)
    assert found.name == "my-model"
    assert found.parameters == OTHERS["qwen3-8b"][1]
    assert load_workload(f"{path}:prefill:16").macs > 0
    with pytest.raises(InputError, match="decode"):
        load_workload(path)


@pytest.mark.parametrize(
    ("request_", "words"),
    [((0, 1), "positive"), ((2, 1), "cannot be shorter"), ((1, 1, 0), "positive"),
     ((True, 1), "positive"), ((1, 1 << 50), "positive")],
)  # fmt: skip
def test_a_senseless_request_is_refused(request_, words):
    with pytest.raises(InputError, match=words):
        Request(*request_)


def test_senseless_steps_are_refused():
    found = model("llama-2-7b")
    with pytest.raises(InputError, match="at least one request"):
        found.step([])
    with pytest.raises(InputError, match="phase"):
        found.workload("training", context=4)
    with pytest.raises(InputError, match="latent"):
        found.workload("decode", context=4, latent="both")
    with pytest.raises(InputError, match="positions"):
        model("opt-66b").workload("decode", context=2049)
