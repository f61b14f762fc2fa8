"""The GPU kernel models beside measured kernels, as ``archsim validate gpu`` prints them."""

from __future__ import annotations

import builtins
import sys

import numpy as np
import pytest

from archsim.errors import ArchsimError, InputError, MissingExtraError
from archsim.models.gpu import gpu_device
from archsim.validate import gpu, gpu_data, gpu_fit
from archsim.validate import main as validate
from archsim.validate.references import references


def _references() -> None:
    try:
        references("gpu")
    except ArchsimError as error:
        pytest.skip(str(error))


def test_a_layer_of_gpt3_takes_what_it_took():
    for phase, (measured, allowed) in gpu.LAYER_TARGETS.items():
        ours = sum(gpu.layer_costs(gpu_device("a100"), phase))
        assert ours == pytest.approx(measured, rel=allowed)


@pytest.mark.refs
@pytest.mark.slow
@pytest.mark.parametrize("device", ["a100", "h100"])
def test_what_was_held_back_is_predicted(device):
    """Errors on shapes no constant was fitted to."""
    _references()
    pytest.importorskip("pyarrow", reason="the measured kernels are parquet files")
    limits = {"GEMM bfloat16": 0.07, "prefill attention": 0.12, "decode attention": 0.12}
    if device == "h100":
        limits["GEMM fp8"] = 0.07
    sets = gpu_data.gemm_sets(device) + gpu_data.attention_sets(device)
    found = {one.operator: np.abs(gpu.errors(one))[one.held].mean() for one in sets}
    for operator, limit in limits.items():
        assert found[operator] <= limit, operator


def test_shapes_fall_together():
    sizes = np.array([32, 64, 128, 256, 512, 768, 1024, 3072, 4096, 8192, 65536])
    n, k = np.repeat(sizes, 33), np.tile(np.repeat(sizes, 3), 11)
    one = gpu_data.Measured(
        "", "a100", "gemm", "", None, {}, np.ones(n.size), gpu_data.shape_code(n, k), None
    )  # fmt: skip
    splits = [one.folds(split) for split in range(3)]
    for folds in splits:
        assert (folds.reshape(-1, 3) == folds.reshape(-1, 3)[:, :1]).all()
        assert set(folds.tolist()) == set(range(gpu_data.FOLDS))
    assert (splits[0] != splits[1]).any()
    assert (one.held == (splits[0] == 0)).all()
    unfitted = gpu_data.Measured("", "a100", "gemm", "", None, {}, np.ones(3), None, None)
    assert unfitted.held.all()


def _made_up(constants) -> gpu_data.Measured:
    """Rows that the vector kernel's constants explain exactly at other values than the shipped."""
    from archsim.models.gpu import evaluate_vector, load_constants

    device, elements = gpu_device("a100"), np.geomspace(1e3, 1e9, 60)
    truth = load_constants("ampere").replaced("vector", constants)

    def predict(c, rows):
        return evaluate_vector(device, "add", elements[rows], constants=c).latency_s

    return gpu_data.Measured(
        "add", "a100", "vector", "made up", 0.1, {"elements": elements},
        predict(truth, np.arange(60)), np.arange(60), predict,
    )  # fmt: skip


def test_calibration_finds_constants_it_did_not_start_from():
    one = _made_up({"launch_s": 4e-6, "memory_efficiency": 0.6})
    fitted = gpu_fit.fit_kernel([one], "ampere", "vector")
    assert fitted.kernel("vector")["launch_s"] == pytest.approx(4e-6, rel=0.05)
    assert fitted.kernel("vector")["memory_efficiency"] == pytest.approx(0.6, rel=0.05)
    assert np.abs(gpu.errors(one, fitted)).max() < 0.05


def test_folds_are_left_out_one_by_one(capsys):
    """Rows that constants explain exactly are explained on the fold left out too."""
    one = _made_up({"launch_s": 4e-6, "memory_efficiency": 0.6})
    found = gpu_fit.cross_validate([one], "vector", generations=15)
    assert found.shape == (1, gpu_data.FOLDS)
    assert found.max() < 0.1
    shipped = np.abs(gpu.errors(one)).mean()
    assert found.mean() < 0.3 * shipped
    assert f"{shipped:.1%}" in capsys.readouterr().out
    assert gpu.fold_means(one, np.arange(60.0)).shape == (gpu_data.SPLITS * gpu_data.FOLDS,)


def test_the_table_shows_a_miss_as_a_miss():
    rows, met = gpu.summary([_made_up({"launch_s": 4e-6, "memory_efficiency": 0.4})])
    assert not met
    assert "MISSED" in rows[0][-1]
    rows, met = gpu.summary([_made_up({})])
    assert met
    assert rows[0][-1].endswith("met")


def test_options_and_missing_packages_are_named(monkeypatch, tmp_path):
    with pytest.raises(InputError, match="no such option"):
        validate("gpu", colour="red")
    with pytest.raises(InputError, match="no such option"):
        validate("workloads", calibrate=True)
    real = builtins.__import__

    def without(name, *args, **kwargs):
        if name.startswith("pyarrow"):
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.delitem(sys.modules, "pyarrow", raising=False)
    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(MissingExtraError, match=r"archsim\[validation\]"):
        gpu_data.read_parquet(tmp_path / "none.parquet")
