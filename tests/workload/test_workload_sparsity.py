"""Zeros in a workload: rules by role and name, files that keep them, refusals in words."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from archsim.errors import InputError
from archsim.workload import load_workload
from archsim.workload.sparsity import prune, read_rule
from archsim.workload.yaml_form import loads
from archsim.workload.yaml_write import dumps

TEXT = """
name: pair
tensors:
  x: {shape: [1, 8, 6, 6], role: input}
  first.weight: {shape: [4, 8, 3, 3], pattern: "2:4"}
  y: {shape: [1, 4, 4, 4], role: activation, density: 0.3}
operations:
  - {name: first, kind: conv2d, in: x, out: y, channels: [8, 4], kernel: 3, size: 4}
  - {name: second, kind: conv2d, in: y, channels: [4, 3], kernel: 3, size: 2}
"""


def test_a_file_says_where_the_zeros_are():
    tensors = loads(TEXT).tensors
    assert (tensors["first.weight"].density, tensors["first.weight"].pattern) == (0.5, "2:4")
    assert (tensors["y"].density, tensors["y"].pattern) == (0.3, "random")
    assert tensors["second.weight"].density == 1.0


def test_files_keep_them():
    pruned = prune(loads(TEXT), {"weight": "structured 0.25", "activation": "0.5", "x": "0.75"})
    assert loads(dumps(pruned)) == pruned
    plain = loads(TEXT)
    assert loads(dumps(plain)) == plain


def test_rules_go_by_name_then_role():
    pruned = prune(loads(TEXT), {"weight": "2:4", "second.weight": "0.1", "activation": "0.4"})
    tensors = pruned.tensors
    assert tensors["first.weight"].pattern == "2:4"
    assert (tensors["second.weight"].density, tensors["second.weight"].pattern) == (0.1, "random")
    assert tensors["y"].density == 0.4
    assert tensors["x"].density == 1.0  # an input, not an activation


def test_n_of_m_by_role_spares_reductions_it_does_not_divide():
    network = load_workload("alexnet")  # the first layer reduces over 3 channels
    pruned = prune(network, {"weight": "2:4"})
    patterns = [
        t.pattern for t in pruned.tensors.values() if t.role == "weight" and len(t.shape) > 1
    ]
    assert patterns.count("random") == 1
    assert patterns.count("2:4") == len(patterns) - 1
    first = next(op for op in pruned.operations if op.einsum).einsum.operands[1].tensor
    with pytest.raises(InputError, match="no multiple"):
        prune(network, {first: "2:4"})


@given(st.text(max_size=12))
def test_any_text_is_a_rule_or_refused(text):
    try:
        density, pattern = read_rule(text)
    except InputError:
        return
    assert density is None or 0.0 < density <= 1.0
    assert pattern.split()[0] in ("random", "structured", "band", "block") or ":" in pattern


@pytest.mark.parametrize(
    ("rules", "words"),
    [
        ({"weigth": "0.5"}, "weight"),
        ({"weight": "1.5"}, "not a density"),
        ({"weight": "4:2"}, "not a density"),
        ({"weight": "0"}, "not a density"),
        ({"weight": "block 4x 0.5"}, "not a density"),
        ({"weight": "block 0x4 0.5"}, "not a density"),
        ({"weight": "block 4x4"}, "not a density"),
        ({"first.weight": "band 2"}, "matrix"),
    ],
)
def test_wrong_rules_are_refused_in_words(rules, words):
    with pytest.raises(InputError, match=words):
        prune(loads(TEXT), rules)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("density: 0.3", "density: 0.3, pattern: lumpy", "unknown pattern"),
        ('pattern: "2:4"', 'pattern: "2:4", density: 0.4', "must be N/M"),
        ('pattern: "2:4"', 'pattern: "5:4"', "density"),
        ("density: 0.3", "density: 0", "greater than 0"),
    ],
)
def test_wrong_fields_are_refused_in_words(old, new, words):
    with pytest.raises(InputError, match=words):
        loads(TEXT.replace(old, new))
