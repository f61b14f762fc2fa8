"""``archsim pim``: tables, JSON, pictures and refusals."""

import json

import pytest

from archsim.cli import main

SMALL = ["--batch", "1,16,128", "--context", "512,4096"]


def run(capsys, *words):
    status = main(["pim", *words])
    return status, capsys.readouterr()


def test_products_and_kernels_say_what_they_do(capsys, tmp_path):
    status, shown = run(capsys, "products", "--json")
    names = [product["name"] for product in json.loads(shown.out)]
    assert status == 0
    assert {"hbm_pim", "aim", "attacc_bank", "logic_pim", "upmem"} <= set(names)
    log = tmp_path / "commands.csv"
    status, shown = run(capsys, "kernel", "aim", "--n", "512", "--k", "512", "--log", str(log),
                        "--json")  # fmt: skip
    figures = json.loads(shown.out)
    assert status == 0
    assert figures["rules_broken"] == 0
    assert len(log.read_text().splitlines()) == 1 + sum(figures["commands"].values())
    status, shown = run(capsys, "kernel", "hbm_pim")
    assert status == 0
    assert "MACB 2,048" in shown.out


def test_the_map_follows_operations_a_byte(capsys, tmp_path):
    picture = tmp_path / "map.png"
    status, shown = run(capsys, "map", *SMALL, "--json", "--out", str(picture))
    figures = json.loads(shown.out)
    assert status == 0
    assert picture.read_bytes()[:4] == b"\x89PNG"
    operations = figures["operations"]
    shares = operations["projections"]["share_in_memory"]
    assert shares[:2] == [1, 1]
    assert shares[-2:] == [0, 0]
    assert set(operations["attention"]["share_in_memory"]) == {1.0}
    assert min(figures["speed"]) >= 1
    status, shown = run(capsys, "map", *SMALL)
    assert "memory (4)" in shown.out


def test_every_picture_is_drawn(capsys, tmp_path):
    for words in (
        ["pays", *SMALL, "--group", "1,8"],
        ["steps", "--batch", "1,64"],
        ["edap"],
        ["area"],
    ):
        picture = tmp_path / f"{words[0]}.png"
        status, shown = run(capsys, *words, "--out", str(picture))
        assert status == 0, shown.err
        assert picture.stat().st_size > 5000
        status, shown = run(capsys, *words, "--json")
        assert status == 0
        json.loads(shown.out)


def test_serving_and_dpus_are_tables_and_json(capsys):
    words = ["serve", "--batch", "16,64", "--prompt", "256", "--output", "128"]
    status, shown = run(capsys, *words, "--json")
    rows = json.loads(shown.out)["rows"]
    assert status == 0
    assert [row["batch"] for row in rows] == [16, 64]
    assert all(row["speed"] > 1 > row["energy"] for row in rows)
    assert "tokens/s" in run(capsys, *words)[1].out
    status, shown = run(capsys, "dpu", "--dtype", "int32", "--json")
    figures = json.loads(shown.out)
    assert status == 0
    assert figures["time_s"] == pytest.approx(
        max(figures["compute_s"], figures["copy_s"]) + figures["host_s"]
    )
    assert "int8" in run(capsys, "dpu")[1].out
    assert run(capsys, "dpu", "--dtype", "fp4")[0] == 2


def test_the_best_area_split_keeps_area_and_beats_no_units(capsys):
    _, shown = run(capsys, "area", "--json")
    figures = json.loads(shown.out)
    best, without = figures["best"][0], figures["without"]
    assert best["s_a_request"] < without["s_a_request"]
    assert best["xpu_flops_per_s"] < without["xpu_flops_per_s"]
    assert best["pim_mm2"] <= 0.25 * 121 * 5


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["map", "--machine", "h100x4"], "no memory that computes"),
        (["map", "--batch", "1,many"], "cannot read the numbers"),
        (["pays", "--group", "7"], "must divide the heads"),
        (["kernel", "nothing"], "no such product"),
        (["area", "--machine", "h100x4"], "xpu and a pim engine"),
        (["edap", "--machines", "h100"], "pim"),
    ],
)
def test_what_cannot_be_is_one_line(capsys, words, said):
    status, shown = run(capsys, *words)
    assert status == 2
    assert said in shown.err
    assert "Traceback" not in shown.err
