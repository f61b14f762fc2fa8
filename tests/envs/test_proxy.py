"""Learned cost models: small errors on unseen designs, honest flags, plain files, real records."""

from __future__ import annotations

import pickle
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest

from archsim.cli import main
from archsim.envs import as_problem
from archsim.envs.dram import DramProblem
from archsim.envs.proxy import Proxy, ProxyProblem, digest_of, load_proxy, refused, train_proxy
from archsim.envs.proxy_check import check_proxy
from archsim.errors import InputError
from archsim.explore.results import Results
from archsim.models.regressor import Training, fit, hats

SCENARIO = {
    "name": "learned",
    "environment": "dram_controller",
    "trace": {"pattern": "phases", "requests": 300, "seed": 4},
    "parameters": [
        {"name": "RequestBufferSize", "values": [1, 2, 4, 8]},
        {"name": "RefreshMaxPostponed", "values": [1]},
        {"name": "RefreshMaxPulledin", "values": [1]},
        {"name": "MaxActiveTransactions", "values": [1, 4, 16]},
    ],
    "objective": {"minimize": ["time_s", "power_w"], "limits": {"bandwidth_bytes_per_s": 4e9}},
}


@pytest.fixture(scope="module")
def controllers() -> DramProblem:
    return DramProblem(SCENARIO)


@pytest.fixture(scope="module")
def proxy(controllers) -> Proxy:
    return train_proxy(controllers, 2500, 0, Training(steps=2500, batch=256))


def test_errors_on_unseen_designs_are_small_and_ranks_are_kept(controllers, proxy):
    found = check_proxy(proxy, controllers, 600)
    assert found.designs > 300
    for name in ("time_s", "power_w", "energy_j"):
        assert found.metrics[name].rmse < 0.02, name  # a small network, shortly trained
        assert found.metrics[name].spearman > 0.99, name
    assert found.feasible > 0.97
    assert found.objective_spearman > 0.95
    assert found.top_found > 0.8
    assert found.strange < 0.05
    assert found.unlike is None or found.unlike["time_s"].rmse < 0.02


def test_what_the_model_refuses_is_learned(controllers, proxy):
    designs = controllers.space.sample(np.random.default_rng(5), 300)
    real = controllers.evaluate(designs)
    guess, _ = proxy.predict(designs)
    assert refused(controllers, real).any()
    assert np.array_equal(guess["feasible"], ~refused(controllers, real))


def test_values_never_trained_on_are_out_of_distribution(controllers):
    place = controllers.space.names.index("RequestBufferSize")

    class Narrow(DramProblem):
        """The same, whose samples leave out one value."""

    narrow = Narrow(SCENARIO)
    sample = narrow.space.sample
    narrow.space.sample = lambda rng, n: _without(sample(rng, n), place)  # type: ignore[method-assign]
    trained = train_proxy(narrow, 1000, 0, Training(steps=200))
    designs = controllers.space.sample(np.random.default_rng(6), 200)
    _, strange = trained.predict(designs)
    assert strange[designs[:, place] == 3].all()
    assert strange[designs[:, place] != 3].mean() < 0.2


def _without(designs: np.ndarray, place: int) -> np.ndarray:
    designs[designs[:, place] == 3, place] = 0
    return designs


def test_a_file_gives_the_same_predictions_and_holds_no_code(controllers, proxy, tmp_path):
    path = tmp_path / "model.npz"
    proxy.save(path)
    again = load_proxy(path, controllers)
    designs = controllers.space.sample(np.random.default_rng(1), 50)
    (one, a), (other, b) = proxy.predict(designs), again.predict(designs)
    assert np.array_equal(a, b)
    for name in one:
        assert np.array_equal(one[name], other[name])
    with np.load(path, allow_pickle=False) as file:
        assert all(file[name].dtype != object for name in file.files)
    arrays = dict(np.load(path))
    for name, wrong in (
        ("mean", arrays["mean"][:-1]),
        ("weight_0_1", arrays["weight_0_1"][:-1]),
        ("seen_0", arrays["seen_0"][:-1]),
        ("header", np.frombuffer(b"{}", np.uint8)),
        ("bias_0_0", arrays["bias_0_0"] * np.nan),
    ):
        np.savez(tmp_path / "wrong.npz", **{**arrays, name: wrong})
        with pytest.raises(InputError, match="not a proxy"):
            load_proxy(tmp_path / "wrong.npz")
    (tmp_path / "code.npz").write_bytes(pickle.dumps(print))
    np.savez(tmp_path / "object.npz", **{**arrays, "mean": np.array([print])})
    for name in ("code.npz", "object.npz"):
        with pytest.raises(InputError, match="not a proxy"):
            load_proxy(tmp_path / name)
    with pytest.raises(InputError, match="no such file"):
        load_proxy(tmp_path / "missing.npz")


def test_a_proxy_of_another_problem_is_refused_and_one_of_another_objective_is_not(
    controllers, proxy
):
    for change in (
        {"trace": {"pattern": "phases", "requests": 301, "seed": 4}},
        {"parameters": []},
        {"dramsys": "4.0"},
    ):
        with pytest.raises(InputError, match="trained on another problem"):
            ProxyProblem({**SCENARIO, **change}, proxy)
    with pytest.raises(InputError, match="trained on another problem"):
        ProxyProblem("smoke", proxy)
    other = ProxyProblem({**SCENARIO, "objective": {"minimize": ["energy_j"]}}, proxy)
    assert other.objective.minimize == ("energy_j",)
    assert digest_of(other.real) == digest_of(controllers)
    assert other.content() != other.real.content()


def test_the_proxy_is_a_fidelity_of_the_same_environment(controllers, proxy):
    problem = ProxyProblem(controllers, proxy)
    env = gym.make("archsim/DRAMController-v0", scenario=problem)
    env.reset(seed=0)
    design = controllers.space.sample(np.random.default_rng(2))
    info = env.step(design)[-1]
    real = controllers.evaluate(design[None])
    assert info["time_s"] == pytest.approx(real["time_s"][0], rel=0.03)
    assert info["time_s"] != real["time_s"][0]


def test_environments_predict_without_spending_evaluations(controllers, proxy, tmp_path):
    proxy.save(tmp_path / "m.npz")
    env = gym.make("archsim/DRAMController-v0", scenario=controllers)
    predict = env.get_wrapper_attr("proxy")(str(tmp_path / "m.npz"))
    designs = controllers.space.sample(np.random.default_rng(2), 5)
    assert predict(designs)["objective"].shape == (5,)
    assert env.get_wrapper_attr("evaluations") == 0


def test_the_commands_train_validate_and_promote(tmp_path, capsys, monkeypatch):
    """What screening stores are real evaluations, better than as many random ones."""
    import yaml

    monkeypatch.chdir(tmp_path)
    Path("learned.yaml").write_text(yaml.safe_dump(SCENARIO))
    train = ["proxy", "train", "learned.yaml", "--samples", "1200", "--steps", "1000"]
    assert main(train) == 0
    assert main(["proxy", "validate", "learned.npz", "learned.yaml", "--samples", "300"]) == 0
    shown = capsys.readouterr().out
    assert "RMSE" in shown
    assert "times" in shown
    screen = ["proxy", "screen", "learned.npz", "learned.yaml", "--budget", "32"]
    assert main([*screen, "--candidates", "800", "--out", "run", "--quiet"]) == 0
    results = Results("run")
    problem = as_problem("learned.yaml")
    real = problem.evaluate(results.indices)
    assert len(results.evaluations.run) == 32
    for name, values in results.metrics.items():
        assert np.array_equal(values, real[name]), name
    drawn = problem.evaluate(problem.space.sample(np.random.default_rng(0), 32))
    assert results.metrics["objective"].min() < drawn["objective"].min()
    assert main(["proxy", "validate", "learned.npz", "smoke"]) == 2
    assert "another problem" in capsys.readouterr().err


def test_wrong_requests_are_refused(controllers, capsys):
    with pytest.raises(InputError, match="too few designs"):
        train_proxy(controllers, 10)
    assert main(["proxy", "train", "smoke", "--steps", "0"]) == 2
    assert "--steps" in capsys.readouterr().err


def test_the_accelerator_has_proxies_too():
    problem = as_problem("smoke")
    trained = train_proxy(problem, 600, 0, Training(steps=1500, batch=128))
    found = check_proxy(trained, problem, 400)
    assert found.metrics["area_mm2"].rmse < 0.025
    assert found.metrics["latency_s"].spearman > 0.95


def test_hats_are_a_partition_of_unity_and_predictions_fold_exactly():
    for size, ordered in ((5, True), (5, False), (40, False), (128, True)):
        table = hats(size, ordered)
        assert np.allclose(table.sum(axis=1), 1)
        assert (table >= 0).all()
    rng = np.random.default_rng(0)
    sizes, ordered = (3, 40, 5), (False, True, True)
    designs = np.stack([rng.integers(0, n, 300) for n in sizes], axis=1)
    targets = np.column_stack([designs[:, 1] / 40.0, np.where(designs[:, 0] == 1, np.nan, 1.0)])
    made = fit(designs, targets, sizes, ordered, Training(members=2, steps=300, batch=64))
    inputs = np.concatenate(
        [hats(n, o)[c] for n, o, c in zip(sizes, ordered, designs.T, strict=True)], axis=1
    )
    for number, member in enumerate(made.layers):
        values = inputs
        for depth, (weight, bias) in enumerate(member):
            values = values @ weight + bias
            values = np.maximum(values, 0) if depth < len(member) - 1 else values
        assert np.allclose(made.members(designs)[number], values, atol=1e-4)
    assert np.abs(made.members(designs).mean(axis=0)[:, 0] - targets[:, 0]).max() < 0.1
