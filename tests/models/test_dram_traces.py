"""Trace files, patterns, address mappings, presets: what is read, made and refused."""

import gzip

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from archsim.errors import InputError
from archsim.models.dram.address import decode, parse_mapping, widths
from archsim.models.dram.patterns import (
    PATTERNS,
    decode_step,
    matmul_tiles,
    pattern,
    tile_traffic,
)
from archsim.models.dram.spec import load_spec, presets
from archsim.models.dram.trace import Trace, join, read_trace

SPEC = load_spec("ddr3_1600_1gb_x8")
FORMS = {
    "dramsys": "# comment\n0:\tread\t0x40\n3: write 0x80\n5 (64) read 0xc0\n",
    "dramsim3": "0x40 READ 0\n0x80 WRITE 3\n0xc0 READ 5\n",
    "ramulator": "LD 0x40\nST 128\nLD 0xc0\n",
    "addresses": "op,addr\nR,40\nW,80\nR,c0\n",
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("packed", [False, True])
def test_every_format_is_read_and_recognised(tmp_path, form, packed):
    path = tmp_path / ("t.trace" + (".gz" if packed else ""))
    data = FORMS[form].encode()
    path.write_bytes(gzip.compress(data) if packed else data)
    for name in (form, "auto"):
        trace = read_trace(path, name, gap=2)
        assert trace.address.tolist() == [0x40, 0x80, 0xC0]
        assert trace.write.tolist() == [0, 1, 0]
        timed = form in ("dramsys", "dramsim3")
        assert trace.arrival.tolist() == ([0, 3, 5] if timed else [0, 2, 4])


@pytest.mark.parametrize(
    "text",
    ["", "hello\n", "0: read zzz\n", "0: read 0x40\n1: erase 0x40\n", "LD 0x40\nLD\n", "\x00\x01"],
)
def test_what_is_no_trace_is_refused_in_words(tmp_path, text):
    path = tmp_path / "t.stl"
    path.write_text(text)
    with pytest.raises(InputError, match=r"t\.stl|trace"):
        read_trace(path)
    with pytest.raises(InputError, match="cannot read"):
        read_trace(tmp_path / "absent.stl")
    damaged = tmp_path / "t.gz"
    damaged.write_bytes(gzip.compress(b"LD 0x40\n" * 99)[:-9])
    with pytest.raises(InputError):
        read_trace(damaged)


def test_traces_refuse_arrays_that_do_not_fit():
    with pytest.raises(InputError, match="as many"):
        Trace(np.zeros(2), np.zeros(3), np.zeros(2))
    with pytest.raises(InputError, match="negative"):
        Trace(np.array([-1]), np.zeros(1), np.zeros(1))
    with pytest.raises(InputError, match="read"):
        Trace(np.zeros(1), np.array([2]), np.zeros(1))
    both = join([pattern("stream", 3, SPEC), pattern("stream", 2, SPEC)])
    assert both.arrival.tolist() == [0, 1, 2, 3, 4]


@given(
    st.sampled_from(PATTERNS),
    st.integers(1, 300),
    st.sampled_from(presets()),
    st.integers(0, 10**6),
)
@settings(max_examples=40, deadline=None)
def test_patterns_fit_the_memory_and_repeat_with_their_seed(kind, requests, name, seed):
    spec = load_spec(name)
    one, two = (pattern(kind, requests, spec, seed=seed) for _ in range(2))
    assert len(one) == requests
    assert (one.address == two.address).all()
    assert (one.write == two.write).all()
    assert one.address.max() < spec.structure.capacity_bytes
    assert (one.address % spec.structure.burst_bytes == 0).all()
    decode(one.address, spec)


@given(st.permutations(["row", "rank", "bank", "group", "column", "channel"]), st.data())
@settings(max_examples=60, deadline=None)
def test_mappings_send_every_burst_to_a_place_of_its_own(fields, data):
    spec = load_spec(data.draw(st.sampled_from(presets())))
    small = spec.model_dump()
    small["structure"] |= {"rows": 4, "columns": 4 * spec.structure.burst_length, "channels": 2}
    small["mapping"] = "-".join(fields)
    spec = load_spec(small)
    s = spec.structure
    address = np.arange(s.capacity_bytes // s.burst_bytes) * s.burst_bytes
    at = decode(address, spec, "-".join(fields))
    key = ((at.channel * s.banks + at.bank) * s.rows + at.row) * 4 + at.column
    assert sorted(key.tolist()) == list(range(address.size))
    # Bytes within a burst go to the same place.
    inside = decode(address + s.burst_bytes - 1, spec, "-".join(fields))
    assert (inside.bank == at.bank).all()
    assert (inside.column == at.column).all()


def test_fields_of_a_mapping_may_come_in_parts():
    parts = parse_mapping("row-column:3-bank-column:4", SPEC)
    assert parts == [("column", 4), ("bank", 3), ("column", 3), ("row", 14)]
    low = decode(np.array([16 * 64]), SPEC, "row-column:3-bank-column:4")
    assert (low.bank[0], low.column[0]) == (1, 0)
    high = decode(np.array([16 * 8 * 64]), SPEC, "row-column:3-bank-column:4")
    assert (high.bank[0], high.column[0]) == (0, 16)
    assert sum(widths(SPEC).values()) + 6 == 30


@pytest.mark.parametrize("text", ["row-bank", "row-bank-colum", "row-bank-column:x", "", "row:3"])
def test_wrong_mappings_are_refused(text):
    with pytest.raises(InputError, match="mapping"):
        decode(np.array([0]), SPEC, text)


def test_addresses_outside_the_memory_are_refused_or_wrapped():
    beyond = np.array([SPEC.structure.capacity_bytes + 64])
    with pytest.raises(InputError, match="outside"):
        decode(beyond, SPEC)
    assert decode(beyond, SPEC, wrap=True).column.tolist() == [1]


def test_tiles_of_a_product_read_and_write_what_it_must():
    tiles = matmul_tiles(256, 512, 128, (64, 128, 64), 2)
    reads = sum(t[2] * t[3] for t in tiles if t[0] == "read")
    writes = sum(t[2] * t[3] for t in tiles if t[0] == "write")
    # Every input tile is read once for each output tile of its row or column.
    assert writes == 256 * 128 * 2
    assert reads == (256 * 512 * 2) * 2 + (512 * 128 * 2) * 4
    trace = tile_traffic(tiles, SPEC)
    assert len(trace) * 64 == reads + writes
    assert trace.write.sum() * 64 == writes


def test_a_decode_step_reads_weights_and_cache_and_appends_to_it():
    trace = decode_step(SPEC, weight_bytes=1 << 20, heads=4, head_bytes=256, context=128)
    assert trace.write.sum() == 2 * 4 * 256 // 64
    assert (trace.write == 0).sum() == (1 << 20) // 64 + 2 * 4 * 128 * 256 // 64
    with pytest.raises(InputError, match="larger"):
        decode_step(SPEC, weight_bytes=1 << 31, heads=1, head_bytes=64, context=1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"timing": {"CL": 10}}, "timing"),
        ({"family": "ddr9"}, "family"),
        ({"clock_ps": 0}, "clock_ps"),
        ({"timing": {"CL": "import os"}}, "expression|parameter"),
        ({"timing": {"CL": "10 ** 9"}}, "expression"),
        ({"structure": {"banks_per_group": 3}}, "structure|power of two|required"),
        ({"colour": 1}, "colour"),
    ],
)
def test_damaged_presets_are_refused(change, message):
    with pytest.raises(InputError, match=message):
        load_spec(SPEC.model_dump() | change)


def test_unknown_presets_are_refused_by_name():
    with pytest.raises(InputError, match="ddr4_2400"):
        load_spec("ddr9")
    with pytest.raises(InputError, match="cannot read"):
        load_spec("absent.yaml")
