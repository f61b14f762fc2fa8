"""A table answers as the simulator does, bit for bit, or says why it does not."""

from __future__ import annotations

import numpy as np
import pytest

from archsim.envs import dram_table
from archsim.envs.dram import DramProblem
from archsim.envs.dram_table import Table, cache_folder, make_table, table_path
from archsim.errors import InputError

SCENARIO = {
    "name": "tabled",
    "environment": "dram_controller",
    "trace": {"pattern": "mixed", "requests": 400, "seed": 4},
    "parameters": [
        {"name": "RequestBufferSize", "values": [1, 4]},
        {"name": "RefreshMaxPostponed", "values": [1, 8]},
        {"name": "RefreshMaxPulledin", "values": [1]},
        {"name": "MaxActiveTransactions", "values": [1, 2, 16]},
    ],
    "objective": {"minimize": ["latency_s", "power_w"], "limits": {"bandwidth_bytes_per_s": 3e9}},
}


@pytest.fixture(scope="module")
def plain() -> DramProblem:
    return DramProblem(SCENARIO)


@pytest.fixture(scope="module")
def table(plain, tmp_path_factory) -> Table:
    return make_table(plain, tmp_path_factory.mktemp("table") / "all.npz")


def same(one: dict, other: dict) -> None:
    assert set(one) == set(other)
    for name in one:
        assert np.array_equal(one[name], other[name]), name


def test_every_lookup_is_the_simulation(plain, table):
    looked_up = DramProblem({**SCENARIO, "table": table.source})
    assert len(table.row_of) == plain.space.size == 4 * 3 * 3 * 2 * 2 * 2 * 2 * 1 * 3 * 3
    assert len(table.rows) < len(table.row_of) / 3
    designs = plain.space.sample(np.random.default_rng(2), 300)
    same(plain.evaluate(designs), looked_up.evaluate(designs))
    same(plain.evaluate(designs[:1]), looked_up.evaluate(designs[:1]))
    assert plain.content() == looked_up.content()
    assert plain.reference_metrics == looked_up.reference_metrics
    assert "designs" not in vars(looked_up)  # nothing was simulated


def test_a_larger_space_looks_up_what_is_there_and_simulates_the_rest(plain, table):
    wide = {**SCENARIO, "parameters": [], "constraints": ["RequestBufferSize <= 5"]}
    plain, looked_up = DramProblem(wide), DramProblem({**wide, "table": table.source})
    columns = {
        "RequestBufferSize": [4, 5, 1, 4],
        "MaxActiveTransactions": [16, 2, 17, 2],
        "RefreshMaxPostponed": [1, 8, 8, 8],
        "RefreshMaxPulledin": [1, 1, 1, 1],
    }
    designs = plain.space.sample(np.random.default_rng(2), 4)
    values = plain.space.decode(designs)
    designs = plain.space.encode({**{n: v.tolist() for n, v in values.items()}, **columns})
    same(plain.evaluate(designs), looked_up.evaluate(designs))


def test_other_objectives_and_data_loss_take_the_same_table(table):
    other = {**SCENARIO, "objective": {"minimize": ["time_s"]}, "allow_data_loss": True}
    plain, looked_up = DramProblem(other), DramProblem({**other, "table": table.source})
    designs = plain.space.sample(np.random.default_rng(3), 100)
    same(plain.evaluate(designs), looked_up.evaluate(designs))
    assert looked_up.evaluate(designs)["feasible"].all()


@pytest.mark.parametrize(
    "change",
    [
        {"trace": {"pattern": "mixed", "requests": 401, "seed": 4}},
        {"dramsys": "4.0"},
        {"memory": "ddr4_2400_4gb_x8"},
    ],
)
def test_a_table_of_other_numbers_is_refused(table, change):
    with pytest.raises(InputError, match="another memory, trace or release"):
        DramProblem({**SCENARIO, **change, "table": table.source})


def test_files_that_are_no_tables_are_refused(table, tmp_path):
    for name, content in (("a.npz", b"PK\x03\x04"), ("b.npz", b""), ("c.npz", b"\x93NUMPY")):
        path = tmp_path / name
        path.write_bytes(content)
        with pytest.raises(InputError, match="not a table"):
            DramProblem({**SCENARIO, "table": str(path)})
    with pytest.raises(InputError, match="no such file"):
        DramProblem({**SCENARIO, "table": "missing.npz"})
    arrays = dict(np.load(table.source))
    arrays["row_of"] = arrays["row_of"] + len(table.rows)
    np.savez(tmp_path / "d.npz", **arrays)
    with pytest.raises(InputError, match="not a table"):
        Table.load(tmp_path / "d.npz")
    arrays["rows"] = np.array([object()])
    np.savez(tmp_path / "e.npz", **arrays)
    with pytest.raises(InputError, match="not a table"):
        Table.load(tmp_path / "e.npz")


def test_a_cut_off_table_is_gone_on_with(plain, table, tmp_path, monkeypatch):
    monkeypatch.setattr(dram_table, "PART", 100)
    path = tmp_path / "again.npz"

    def stop(done: int, total: int) -> None:
        if done >= 200:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make_table(plain, path, stop)
    assert not path.exists()
    parts = sorted((tmp_path / "again.npz.parts").glob("*.npy"))
    assert len(parts) == 2
    parts[0].write_bytes(parts[0].read_bytes()[:50])  # cut off in the middle of a write
    simulated = []
    fresh = DramProblem(SCENARIO)
    measure = fresh.designs.measure
    monkeypatch.setattr(
        fresh.designs, "measure", lambda v: (simulated.append(len(v)), measure(v))[1]
    )
    made = make_table(fresh, path)
    assert sum(simulated) == len(table.rows) - 100 + dram_table.CHECKED
    assert np.array_equal(made.rows, table.rows)
    assert np.array_equal(made.row_of, table.row_of)
    assert list(tmp_path.iterdir()) == [path]
    again = make_table(plain, path)  # now from the file
    assert np.array_equal(again.rows, table.rows)


def test_a_table_of_a_changed_model_is_refused(plain, table, tmp_path):
    wrong = Table(
        table.digest,
        table.values,
        table.metrics,
        table.row_of,
        table.rows * (1 + 1e-12),
        table.reference,
        "changed",
    )
    wrong.save(tmp_path / "changed.npz")
    with pytest.raises(InputError, match="other numbers now"):
        make_table(plain, tmp_path / "changed.npz")


def test_a_space_too_large_for_a_table_is_refused(tmp_path):
    with pytest.raises(InputError, match="too large for a table"):
        make_table(DramProblem({**SCENARIO, "parameters": []}), tmp_path / "no.npz")


def test_tables_are_kept_in_the_users_cache(plain, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "archsim" / "tables"
    assert table_path(plain).parent == cache_folder()
    assert table_path(plain, tmp_path).parent == tmp_path
