"""The store keeps what it was given, and refuses what it cannot trust without touching it."""

from __future__ import annotations

import hashlib
import sqlite3
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import synthetic

from archsim.errors import ArchsimError, InputError
from archsim.explore.records import Batch, Layout
from archsim.explore.store import Store
from archsim.explore.storefile import APPLICATION_ID

RUN = ("random", "", 0, 100, "compare")


def designs(seed: int, count: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 40, (count, 3))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A closed store with one run of 60 evaluations."""
    file = tmp_path / "store.sqlite"
    with Store.create(file, synthetic.LAYOUT, "digest") as store:
        (run,) = store.plan([RUN])
        store.add(run.id, synthetic.batch(designs(0, 60)))
    return file


def fingerprint(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def refused(path: Path, match: str, digest: str = "digest") -> None:
    """Opening is an error that names the file, and not a byte changes."""
    before = fingerprint(path)
    with pytest.raises(InputError, match=match) as error:
        Store.open_or_create(path, synthetic.LAYOUT, digest)
    assert str(path) in str(error.value)
    assert fingerprint(path) == before


def test_evaluations_come_back_exactly(path):
    with Store(path, readonly=True) as store:
        found = store.evaluations()
    expected = synthetic.batch(designs(0, 60))
    np.testing.assert_array_equal(found.designs.indices[found.design], expected.indices)
    for place, name in enumerate(synthetic.METRICS):
        column = found.designs.metrics[name][found.design]
        np.testing.assert_array_equal(column, expected.metrics[:, place])
    np.testing.assert_array_equal(found.reward, expected.reward)
    assert found.order.tolist() == list(range(60))


def test_a_design_is_stored_once_however_often_it_is_asked_for(tmp_path):
    same = np.repeat(designs(1, 1), 10, axis=0)
    with Store.create(tmp_path / "s", synthetic.LAYOUT, "digest") as store:
        one, two = store.plan([RUN, ("grid", "", 0, 100, "compare")])
        store.add(one.id, synthetic.batch(same))
        store.add(two.id, synthetic.batch(same))
        assert store.designs() == 1
        assert [run.count for run in store.runs()] == [10, 10]


@pytest.mark.parametrize("cut", [0, 1, 20, 60])
def test_a_repeated_run_doubles_nothing(path, cut):
    """A resumed run sends its past again, in whatever batches, and then goes on."""
    with Store(path) as store:
        again = synthetic.batch(designs(0, 60))
        for first, last in ((0, cut), (cut, 60)):
            part = Batch(
                first,
                again.keys[first:last],
                again.indices[first:last],
                again.metrics[first:last],
                again.reward[first:last],
            )
            assert store.add(1, part) == 0
        store.add(1, synthetic.batch(designs(5, 7), start=60))
        found = store.evaluations()
    expected = np.concatenate([designs(0, 60), designs(5, 7)])
    np.testing.assert_array_equal(found.designs.indices[found.design], expected)


def test_a_run_that_does_not_repeat_itself_replaces_its_tail(path):
    other = designs(0, 60)
    other[30:] = designs(9, 30)
    with Store(path) as store:
        known = store.designs()
        assert store.add(1, synthetic.batch(other[:40])) == 30
        store.add(1, synthetic.batch(other[40:], start=40))
        found = store.evaluations()
        np.testing.assert_array_equal(found.designs.indices[found.design], other)
        assert store.designs() >= known  # what was evaluated stays known


def test_the_cache_answers_by_key(path):
    batch = synthetic.batch(designs(0, 60))
    with Store(path, readonly=True) as store:
        for cache in (store.cache(), store.cache(1)):
            for key, row in zip(batch.keys, batch.metrics, strict=True):
                assert list(cache.get(key).values()) == row.tolist()
            assert cache.get(b"never seen") is None


def test_a_batch_that_fails_leaves_nothing_behind(path):
    with Store(path) as store:
        good = synthetic.batch(designs(7, 5), start=60)
        bad = good.metrics.copy()
        bad[3, 0] = np.nan  # SQLite stores NaN as NULL, which the table refuses
        with pytest.raises(ArchsimError, match="cannot be used"):
            store.add(1, replace(good, metrics=bad))
        assert store.runs()[0].count == 60
        assert store.add(1, good) == 0
        assert store.runs()[0].count == 65


def test_a_changed_agent_file_starts_its_runs_again(path):
    with Store(path) as store:
        assert not store.note_source(1, "aaaa")
        store.set_status(1, "done")
        assert not store.note_source(1, "aaaa")
        assert store.runs()[0].status == "done"
        assert store.note_source(1, "bbbb")
        assert (store.runs()[0].status, store.runs()[0].count) == ("planned", 0)


def test_readers_see_a_store_while_it_is_written(path):
    with Store(path) as writer, Store(path, readonly=True) as reader:
        writer.add(1, synthetic.batch(designs(3, 10), start=60))
        assert len(reader.evaluations().run) == 70


@pytest.mark.parametrize("size", [0, 5, 15, 16, 50, 99])
def test_a_file_shorter_than_a_header_is_refused(path, size):
    path.write_bytes(path.read_bytes()[:size])
    refused(path, "truncated|not an archsim store")


@pytest.mark.parametrize("share", [0.2, 0.5, 0.9])
def test_a_truncated_store_is_refused(path, share):
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    refused(path, "damaged")


def test_a_store_with_overwritten_pages_is_refused(path):
    content = bytearray(path.read_bytes())
    content[4096 : 4096 + 2048] = bytes(range(256)) * 8
    path.write_bytes(bytes(content))
    refused(path, "damaged")


@pytest.mark.parametrize("content", [b"hello", b"x" * 5000, b"\x00" * 5000])
def test_a_foreign_file_is_refused(tmp_path, content):
    path = tmp_path / "store.sqlite"
    path.write_bytes(content)
    refused(path, "not an archsim store")


def test_a_foreign_database_is_refused(tmp_path):
    path = tmp_path / "store.sqlite"
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE designs (id INTEGER)")
    refused(path, "not an archsim store")


def test_our_database_without_our_tables_is_refused(tmp_path):
    path = tmp_path / "store.sqlite"
    with sqlite3.connect(path) as db:
        db.execute(f"PRAGMA application_id={APPLICATION_ID}")
        db.execute("CREATE TABLE other (id INTEGER)")
    refused(path, "damaged")


def test_a_newer_store_is_refused(path):
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA user_version=99")
    db.close()
    refused(path, "newer version")


def test_the_store_of_another_scenario_is_refused(path):
    refused(path, "another scenario", digest="other")


def test_a_store_with_other_metrics_is_refused(path):
    layout = Layout(synthetic.LAYOUT.parameters, synthetic.METRICS[:-1])
    with pytest.raises(InputError, match="another scenario"):
        Store.open_or_create(path, layout, "digest")


def test_creating_never_replaces(path):
    before = fingerprint(path)
    with pytest.raises(InputError, match="already"):
        Store.create(path, synthetic.LAYOUT, "digest")
    assert fingerprint(path) == before


def test_what_a_killed_creation_left_does_not_matter(tmp_path):
    (tmp_path / "store.sqlite.new").write_bytes(b"half")
    Store.open_or_create(tmp_path / "store.sqlite", synthetic.LAYOUT, "digest").close()
    assert not (tmp_path / "store.sqlite.new").exists()


def test_names_that_differ_only_in_case_are_refused():
    with pytest.raises(InputError, match="case"):
        Layout(("rows",), ("latency_s", "Latency_s"))
