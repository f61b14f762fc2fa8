"""Sparse hardware in machine files: read, kept through changes, refused in words where wrong."""

from __future__ import annotations

import pytest

from archsim.errors import InputError
from archsim.hardware import load_machine, resolve
from archsim.hardware.machine import MACHINES


def test_blocks_reach_the_table():
    table = resolve(load_machine("tiny_sparse"))
    assert table.knows_zeros
    assert not resolve(load_machine("tiny")).knows_zeros
    assert [rank.format for rank in table.sparse[0].formats.weight] == ["bitmask"]
    assert table.sparse[0].formats.input[0].bits == 5
    assert table.sparse[1].actions[0].when_zero == ("weight",)
    assert table.sparse[2] is None
    assert table.take([0]).sparse == table.sparse


def test_values_inside_a_block_are_changed_for_a_machine_not_a_batch():
    machine, path = load_machine("tiny_sparse"), "engines.array.slots.buffer.sparse.confidence"
    changed = machine.with_values({path: 0.9})
    assert resolve(changed).sparse[1].confidence == 0.9
    with pytest.raises(InputError, match="same for all designs"):
        resolve(machine, {path: [0.1, 0.2]})


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("{action: skip, target: input", "{action: jump, target: input", "skip"),
        ("when_zero: [weight]", "when_zero: [output]", "input"),
        ("when_zero: [weight]", "when_zero: [input]", "other operands"),
        ("formats: {weight: [bitmask]}", "formats: {weights: [bitmask]}", "no such field"),
        ("formats: {weight: [bitmask]}", "formats: {weight: [bitmap]}", "bitmask"),
        ("{format: rle, bits: 5}", "{format: rle, bits: -1}", "greater"),
        ("keeps: [weight]", "keeps: [output]", "does not keep"),
        ("gate_zeros: true", "gate_zeros: perhaps", "boolean"),
    ],
)
def test_a_wrong_block_is_refused_in_words(tmp_path, old, new, words):
    text = (MACHINES / "tiny_sparse.yaml").read_text()
    assert old in text
    path = tmp_path / "machine.yaml"
    path.write_text(text.replace(old, new))
    with pytest.raises(InputError, match=words) as caught:
        load_machine(path)
    assert "machine.yaml" in str(caught.value)
    assert "\n" not in str(caught.value)
