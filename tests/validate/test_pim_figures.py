"""Published figures of memories that compute, and the closed form beside the command level."""

import numpy as np
import pytest

from archsim.validate import main, pim
from archsim.validate.papers import duplex
from archsim.validate.papers import pim as products


def test_figures_of_the_device_and_of_edap_are_met():
    rows = [*duplex.device(), *duplex.efficiency()]
    assert len(rows) == 9 + 20
    assert [row.figure for row in rows if not row.met] == []


def test_levels_rank_by_edap_as_published():
    ours = duplex.edap()
    names = list(duplex.EDAP)
    for place, ops in enumerate(duplex.OPS):
        published = sorted(names, key=lambda name: duplex.EDAP[name][place])
        assert sorted(names, key=lambda name: ours[name][place]) == published, ops


def test_figures_of_attacc_are_met():
    assert [row.figure for row in products.attacc() if not row.met] == []


def clear(*caches):
    for cached in caches:
        cached.cache_clear()


@pytest.fixture
def few(monkeypatch):
    """One length a model."""
    monkeypatch.setattr(duplex, "LENGTHS", dict.fromkeys(duplex.LAID, (256,)))
    clear(duplex.served)
    yield
    clear(duplex.served)


def test_serving_gains_most_where_experts_have_few_tokens(few):
    gains, energy = duplex.gains("mixtral-8x7b", "duplex", True, "split")
    assert len(gains) == len(duplex.BATCHES)
    assert (np.diff(gains) < 0).all()
    assert (gains > 1).all()
    assert (energy < 0).all()
    assert (gains >= duplex.gains("mixtral-8x7b", "bank_pim", False, "offload")[0]).all()


def test_links_and_processor_that_papers_leave_open_move_gains_both_ways(few):
    ours, preset, kernels = (
        duplex.gains("mixtral-8x7b", "duplex", True, "split", variant)[0].mean()
        for variant in ("", "preset", "kernels")
    )
    assert preset > ours > 1 < kernels


@pytest.mark.parametrize(("model", "better"), [("llama-3-70b", "duplex"), ("opt-66b", "bank_pim")])
def test_units_at_the_banks_lose_where_heads_share_keys_and_win_where_not(model, better):
    # Figure 14, section VII-C: Llama 3 (eight heads a key head) and OPT (one).
    mix = [duplex.stages(32, 1024)]
    rates = {
        name: duplex.serve_continuously(model, duplex.system(name, 4, policy), mix, "tp4")[0]
        for name, policy in (("duplex_gpu", ""), ("duplex", "split"), ("bank_pim", "offload"))
    }
    rates = {name: done.tokens_per_s for name, done in rates.items()}
    assert max(rates, key=rates.__getitem__) == better
    assert min(rates, key=rates.__getitem__) == "duplex_gpu"


def test_the_closed_form_is_compared_on_any_grid(capsys, monkeypatch):
    monkeypatch.setattr(pim, "JUDGED", 1)
    monkeypatch.setattr(pim, "available_products", lambda: ("attacc_bank", "logic_pim"))
    assert main("pim", shapes=3) == 0
    shown = capsys.readouterr().out
    assert "6 shapes" in shown
    monkeypatch.setattr(pim, "LARGEST", 1e-6)
    assert main("pim", shapes=2) == 1
    assert "MISSED" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["hbm_pim", "logic_pim"])
def test_shapes_are_the_seeds(name):
    found = [pim.compare(name, 3, seed).shapes.tolist() for seed in (0, 0, 1)]
    assert found[0] == found[1] != found[2]
