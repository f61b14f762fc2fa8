"""``archsim experts`` and ``train``: every mistake gets a line that names what was expected."""

import pytest

from archsim.cli import main

EXPERTS = {"-w": "llama-2-7b", "-m": "sn40lx8", "-n": "150", "--home": "ddr"}
TRAIN = {"-w": "llama-2-7b", "-m": "h100x8", "--batch": "8", "--plan": "dp8"}


def said(capsys, command, base, options):
    words = [command]
    for name, value in {**base, **options}.items():
        words += [name] if value is None else [name, value]
    assert main(words) == 2
    out, err = capsys.readouterr()
    assert not out
    assert "Traceback" not in err
    return " ".join(err.replace("│", " ").split())


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"-w": "resnet18"}, ("no such model", "resnet18", "llama-2-7b")),
        ({"-w": "vit-large-16"}, ("reads no prompt", "a language model")),
        ({"-m": "nope"}, ("no such machine", "sn40l")),
        ({"-m": "h100x8"}, ("none of the tiers", "'ddr'", "host_dram")),
        ({"-n": "0"}, ("--experts", "greater than or equal to 1")),
        ({"-n": "99999999999999999999"}, ("--experts", "less than or equal to 10000000")),
        ({"--home": "sram"}, ("no links lead", "sram to hbm")),
        ({"--plan": ""}, ("cannot read the plan", "tp8")),
        ({"--plan": "tp16"}, ("more devices", "at most 8")),
        ({"--plan": "tp8+eager"}, ("GPUs only",)),
        ({"--missing": "nan"}, ("must be a share", "0 to 1")),
        ({"--skew": "-1"}, ("--skew", "greater than or equal to 0")),
        ({"--requests": "100000000000"}, ("--requests", "less than or equal")),
        ({"--pulling": "99"}, ("more devices pull", "at most 8")),
        ({"--router": "gpt-9"}, ("no such model", "gpt-9")),
        ({"--router-tokens": "0"}, ("--router-tokens", "greater than or equal to 1")),
        ({"--prompt": "99999999999"}, ("prompt", "1 to 10000000")),
        ({"--bits": "four"}, ("cannot read the bits", "4/16/8")),
        ({"--bits": "0/16"}, ("(0, 1024]",)),
    ],
)
def test_a_composition_that_cannot_be(capsys, options, words):
    text = said(capsys, "experts", EXPERTS, options)
    assert all(word in text for word in words), text


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"--zero": "4"}, ("--zero", "less than or equal to 3")),
        ({"--schedule": "zigzag"}, ("unknown schedule", "gpipe, 1f1b")),
        ({"--states": "tape"}, ("none of the tiers", "host_dram")),
        ({"--states": "hbm"}, ("from this tier already", "another tier")),
        ({"--activations": "hbm"}, ("from this tier already", "another tier")),
        ({"--blocking": None}, ("on the devices already", "a tier they lie in")),
        ({"--resident": "0.5"}, ("on the devices already",)),
        ({"--states": "host_dram", "--resident": "1.5"}, ("resident", "0 to 1")),
        ({"--states": "host_dram", "--device-share": "nan"}, ("device_share", "0 to 1")),
        ({"--batch": "0"}, ("--batch", "greater than or equal to 1")),
        ({"--batch": "99999999999999"}, ("batch", "1 to 1000000000")),
        ({"--context": "x"}, ("--context", "valid integer")),
        ({"--plan": "pp8mb64"}, ("fewer sequences", "at most mb8")),
        ({"--plan": "tp8+cache=host_dram"}, ("there is no cache", "no +weights and no +cache")),
        ({"--plan": "ep2"}, ("a divisor of 1",)),
        ({"--bits": "8/16/4"}, ("keeps no cache", "8/16")),
        ({"-m": "spatten", "--plan": "tp1"}, ("not priced for language models",)),
    ],
)
def test_a_step_of_training_that_cannot_be(capsys, options, words):
    text = said(capsys, "train", TRAIN, options)
    assert all(word in text for word in words), text
