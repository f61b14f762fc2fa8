"""Blocks that stand for several copies: counts, unfolding and the file form agree."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from archsim.errors import InputError
from archsim.workload import Block, Workload, summary, unfold
from archsim.workload.builder import Builder
from archsim.workload.yaml_form import loads
from archsim.workload.yaml_write import dumps


def tower(copies: int, second: int = 0, shared: bool = False) -> Workload:
    """An embedding, ``copies`` equal layers, perhaps ``second`` layers of another kind, a head."""
    builder = Builder("tower")
    x = builder.tensor("x", (4, 8), role="input")
    builder.tensor("stem.w", (8, 8), role="weight")
    builder.linear("stem", x, "stem.w", builder.tensor("stem", (4, 8)), inner=8, columns=8)
    blocks, current = [], "stem"
    for name, count, width in (("layers", copies, 16), ("more", second, 24)):
        if not count:
            continue
        for part, inner, columns in (("up", 8, width), ("down", width, 8)):
            weight = builder.tensor(f"{name}.{part}.w", (columns, inner), role="weight")
            data = current if part == "up" else f"{name}.relu"
            out = builder.tensor(f"{name}.{part}", (4, columns))
            builder.linear(f"{name}.{part}", data, weight, out, inner=inner, columns=columns)
            if part == "up":
                builder.tensor(f"{name}.relu", (4, width))
                builder.vector(f"{name}.relu", "relu", [out], (f"{name}.relu",))
        builder.tensor(f"{name}.cache", (5, 8), role="kv_cache")
        builder.tensor(f"{name}.out", (4, 8))
        builder.vector(f"{name}.add", "add", [f"{name}.down", current], (f"{name}.out",))
        last = builder.operations[-1]
        builder.operations[-1] = replace(
            last, inputs=(*last.inputs, f"{name}.cache"), attributes=(("layer", 1), ("a", "b"))
        )
        kept = (f"{name}.up.w",) if shared else ()
        carried = ((current, f"{name}.out"),)
        blocks.append(Block(name, count, f"{name}.up", f"{name}.add", carried, kept, len(blocks)))
        current = f"{name}.out"
    builder.tensor("head.w", (3, 8), role="weight")
    builder.linear("head", current, "head.w", builder.tensor("head", (4, 3)), inner=8, columns=3)
    return replace(builder.workload(["head"]), blocks=tuple(blocks))


@given(st.integers(1, 5), st.integers(0, 4), st.booleans())
@settings(max_examples=40, deadline=None)
def test_unfolding_changes_no_count(copies, second, shared):
    folded = tower(copies, second, shared)
    flat = unfold(folded)
    assert not flat.blocks
    assert flat.macs == folded.macs
    assert flat.parameters == folded.parameters
    mine, theirs = summary(folded).as_dict(), summary(flat).as_dict()
    assert mine == theirs
    assert sum(folded.copies.values()) == len(flat.operations)
    assert sum(folded.tensor_copies.values()) == len(flat.tensors)


@given(st.integers(1, 5), st.integers(0, 4), st.booleans())
@settings(max_examples=25, deadline=None)
def test_blocks_and_attributes_survive_the_file_form(copies, second, shared):
    folded = tower(copies, second, shared)
    assert loads(dumps(folded)) == folded
    flat = unfold(folded)
    assert loads(dumps(flat)) == flat


def test_copies_are_chained():
    flat = unfold(tower(3, 2))
    made = {op.name: op for op in flat.operations}
    assert made["layers.0.up"].inputs[0] == "stem"
    assert made["layers.1.up"].inputs[0] == "layers.0.out"
    assert made["layers.2.add"].inputs[:2] == ("layers.2.down", "layers.1.out")
    assert made["more.1.up"].inputs[0] == "layers.2.out"
    assert made["more.2.up"].inputs[0] == "more.1.out"
    assert made["head"].inputs[0] == "more.2.out"
    assert made["layers.2.add"].attribute("layer") == 1
    assert made["layers.2.up"].inputs[1] == "layers.2.up.w"
    assert len({op.outputs[0] for op in flat.operations}) == len(flat.operations)


def test_a_graph_without_blocks_is_left_alone():
    flat = unfold(tower(2))
    assert unfold(flat) is flat


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"first": "nowhere"}, "no such operation"),
        ({"last": "stem"}, "backwards"),
        ({"carried": (("x", "head"),)}, "carries"),
        ({"carried": (("stem", "layers.up"),)}, "carries"),
    ],
)
def test_a_wrong_block_is_refused(change, words):
    good = tower(2)
    with pytest.raises(InputError, match=words):
        replace(good, blocks=(replace(good.blocks[0], **change),))
    with pytest.raises(InputError):
        replace(good.blocks[0], count=0)


def test_overlapping_blocks_are_refused():
    good = tower(2, 2)
    with pytest.raises(InputError, match="overlap"):
        replace(good, blocks=good.blocks[::-1])
    with pytest.raises(InputError, match=r"twice|overlap"):
        replace(good, blocks=(good.blocks[0], good.blocks[0]))
