"""`archsim attention`, and dot-product arrays through `archsim evaluate`."""

import json

import pytest

from archsim.cli import main


def test_pruned_beside_dense(capsys):
    assert main(["attention", "spatten-gpt2", "--prompt", "400", "--tokens", "8"]) == 0
    out = capsys.readouterr().out
    for text in ("gpt2 on spatten", "8 tokens after 400", "keys and values read", "memory 100%"):
        assert text in out


def test_json_is_that_of_the_api(capsys):
    from archsim.system.pruned_attention import generate

    assert main(["attention", "spatten-gpt2-medium", "--tokens", "2", "--json"]) == 0
    figures = json.loads(capsys.readouterr().out)
    found = generate("spatten-gpt2-medium", tokens=2)
    assert figures["pruned"]["latency_s"] == found.latency_s
    assert figures["dense"]["key_share"] == pytest.approx(1)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["spatten-gpt3"], "no such setting"),
        (["spatten-gpt2", "--machine", "h100"], "no attention engine"),
        (["spatten-gpt2", "--tokens", "64"], "longer than the model has positions"),
        (["spatten-gpt2", "--batch", "0"], "there must be steps, requests and tokens"),
        (["spatten-gpt2", "--tokens", "0"], "sensible size"),
    ],
)
def test_wrong_input_is_told_in_a_line(capsys, words, message):
    assert main(["attention", *words]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_a_dot_product_array_is_evaluated_like_any_machine(capsys):
    assert main(["evaluate", "-w", "llama-2-7b:decode:16", "-m", "bitmod", "--json"]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert figures["perplexity"] == 5.72
    assert figures["feasible"] is True
