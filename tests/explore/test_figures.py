"""Figures, report, choice and export of a real exploration."""

from __future__ import annotations

import csv
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import synthetic

from archsim.envs.scenario import load_scenario
from archsim.errors import InputError
from archsim.explore import best, runner
from archsim.explore.design_cost import Layer, design_costs
from archsim.explore.design_plots import _number_points
from archsim.explore.export import write_csv
from archsim.explore.figures import plot_all
from archsim.explore.plots import _window, plot_convergence, plot_pareto
from archsim.explore.report import write_report
from archsim.explore.results import Results, compare
from archsim.explore.style import figure
from archsim.explore.units import duration, human, unit_for, words

PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """The whole smoke space by the grid agent, random search beside it."""
    out = tmp_path_factory.mktemp("run")
    agents = [runner.AgentChoice("grid"), runner.AgentChoice("random")]
    scenario = load_scenario("smoke")
    plan = runner.plan_for(scenario, agents=agents, seeds=2, budget=1000)
    assert not runner.explore(scenario, plan, out, command="archsim run smoke").failed
    return out


@pytest.fixture(scope="module")
def results(run) -> Results:
    return Results(run)


@pytest.fixture(scope="module")
def choice(results) -> best.Choice:
    return best.choose(results)


def is_png(path: Path) -> bool:
    return path.read_bytes().startswith(PNG) and path.stat().st_size > 10_000


def test_every_figure_is_drawn(results, tmp_path):
    paths = plot_all(results, tmp_path)
    assert set(paths) == {"pareto", "convergence", "hypervolume", "breakdown", "roofline"}
    assert all(is_png(path) for path in paths.values())


def test_the_same_results_give_the_same_bytes(results, tmp_path):
    one, two = (
        plot_all(results, tmp_path / "a"),
        plot_all(Results(results.directory), tmp_path / "b"),
    )
    for name, path in one.items():
        assert path.read_bytes() == two[name].read_bytes(), name


def test_figures_of_many_agents_and_many_designs(tmp_path):
    agents = {f"agent{i}": 0.1 * (i + 1) for i in range(14)}
    many = Results(synthetic.make(tmp_path, agents, seeds=2, budget=100, fill=20_000))
    assert is_png(plot_pareto(many, tmp_path / "pareto.png"))
    assert is_png(plot_convergence(many, compare(many), tmp_path / "convergence.png"))


def test_the_choice_is_the_best_of_the_whole_space(results, choice):
    # The grid agent saw every legal design, so the choice must be the optimum, and no single
    # change may improve it.
    space = results.problem.space
    assert len(results.feasible) == space.size
    every = results.problem.evaluate(np.concatenate(list(space.batches())))
    assert choice.design.metrics["objective"] == every["objective"].min()
    assert all(change.gain >= -1e-9 for change in choice.changes if change.feasible)
    assert any("No single feasible change" in reason for reason in choice.reasons)


def test_changes_differ_in_one_parameter_and_are_evaluated(results, choice):
    space = results.problem.space
    for change in choice.changes:
        values = {**choice.design.values, change.parameter: change.after}
        found = results.problem.evaluate(space.encode(values)[None])
        assert found["latency_s"][0] == change.metrics["latency_s"]
        broken = {n for n, bound in results.limits.items() if found[n][0] > bound}
        assert set(change.broken) == broken


def test_what_a_limit_blocks_would_have_been_better(choice):
    for limit in choice.limits:
        assert limit.value <= limit.bound
        for change in limit.blocks:
            assert change.gain < 0
            assert change.metrics[limit.metric] > limit.bound


def test_another_metric_chooses_another_way(results):
    chosen = best.choose(results, "area_mm2")
    feasible = results.metrics["area_mm2"][results.feasible]
    assert chosen.design.metrics["area_mm2"] == feasible.min()
    with pytest.raises(InputError, match="no such metric"):
        best.choose(results, "beauty")


def test_breakdowns_sum_to_the_totals(results):
    costs = design_costs(results)
    row = results.chosen()
    totals = {name: float(values[row]) for name, values in results.metrics.items()}
    assert sum(costs[0].energy_j.values()) == pytest.approx(totals["energy_j"], rel=1e-9)
    assert sum(costs[0].latency_s.values()) == pytest.approx(totals["latency_s"], rel=1e-9)
    assert sum(costs[0].area_mm2.values()) == pytest.approx(totals["area_mm2"], rel=1e-9)


class Links(HTMLParser):
    """Collects what a page would load, and checks that tags close."""

    VOID = frozenset({"meta", "img", "br", "hr"})

    def __init__(self) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.open: list[str] = []

    def handle_starttag(self, tag, attrs):
        if tag not in self.VOID:
            self.open.append(tag)
        self.loads += [value for name, value in attrs if name in ("src", "href")]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_the_report_stands_alone(results, choice, tmp_path):
    path = write_report(results, tmp_path / "sub" / "report.html")
    text = path.read_text(encoding="utf-8")
    page = Links()
    page.feed(text)
    assert page.open == []
    assert len(page.loads) == 5
    assert all(link.startswith("data:image/png;base64,") for link in page.loads)
    assert not re.search(r"https?://|@import|url\(", text)
    for name, value in choice.design.values.items():
        assert f"<td>{name}</td><td>{value}</td>" in text
    assert "archsim run smoke" in text
    assert "numpy" in text
    # The objective is explained where its values stand; words read from the left; what a figure
    # shows is said to those who cannot see it.
    assert "logarithm of the geometric mean of latency and area" in text
    assert "<dd>weight_stationary</dd>" in text
    assert 'alt="pareto: Every design evaluated' in text


def test_the_csv_reads_back_exactly(results, run, tmp_path):
    count = write_csv(run, tmp_path / "all.csv")
    with (tmp_path / "all.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == count == len(results.evaluations.run)
    space = results.problem.space
    for place in (0, 7, count - 1):
        row, design = rows[place], results.evaluations.design[place]
        values = space.decode(results.indices[design])
        assert {name: row[name] for name in values} == {k: str(v) for k, v in values.items()}
        for name, column in results.metrics.items():
            assert float(row[name]) == column[design]


def test_the_choice_is_plain_data(choice):
    assert json.loads(json.dumps(choice.to_dict(), allow_nan=False))["by"] == "objective"


def test_no_feasible_design_is_said_clearly(tmp_path):
    scenario = load_scenario("smoke")
    objective = scenario.objective.model_copy(update={"limits": {"area_mm2": 1e-6}})
    impossible = scenario.model_copy(update={"objective": objective})
    plan = runner.plan_for(impossible, agents=[runner.AgentChoice("random")], seeds=1, budget=10)
    runner.explore(impossible, plan, tmp_path)
    results = Results(tmp_path)
    assert compare(results) is None
    assert set(plot_all(results, tmp_path)) == {"pareto"}
    with pytest.raises(InputError, match=r"none of the .* feasible"):
        best.choose(results)
    assert "No feasible design" in write_report(results, tmp_path / "r.html").read_text()


def test_a_directory_without_results_is_refused(tmp_path):
    with pytest.raises(InputError, match="no results here"):
        Results(tmp_path)


@pytest.mark.parametrize(
    ("metric", "value", "text"),
    [
        ("latency_s", 0.0123, "12.3 ms"),
        ("energy_j", 4.56e-10, "456 pJ"),
        ("area_mm2", 3.14159, "3.14 mm²"),
        ("power_w", 2.0, "2.00 W"),
        ("latency_s.bert", 1.5, "1.50 s"),
        ("utilization", 0.5, "50.0 %"),
        ("latency_s", 0.0, "0 s"),
        ("throughput_per_s", 1234.0, "1.23 k/s"),
    ],
)
def test_numbers_carry_fitting_units(metric, value, text):
    assert human(metric, value) == text


def test_one_prefix_for_all_values_of_an_axis():
    unit = unit_for("latency_s", [1e-3, 5e-3, 2.0, np.inf])
    assert (unit.text, unit.factor) == ("ms", pytest.approx(1e3))
    assert duration(185) == "3 min 05 s"


def test_a_limit_near_the_designs_is_in_the_picture():
    values = np.linspace(5.2, 7.0, 50)
    low, high = _window(values, 5.0, np.inf)
    assert low < 5.0 < high
    low, high = _window(values, 7.2, np.inf)
    assert low < 7.2 < high
    assert _window(values, 0.01, np.inf)[0] > 1.0  # one far away is not


def test_numbers_of_the_roofline_cover_no_point_and_no_other(tmp_path):
    layers = [Layer(f"l{i}", 1e6 * (1 + 0.01 * i), 1e4, 1e-3, "compute") for i in range(6)]
    places = []
    with figure(tmp_path / "f.png", 6, 4) as canvas:
        panel = canvas.add_subplot()
        across = np.array([layer.macs / layer.bytes_moved for layer in layers])
        up = np.array([layer.macs / layer.latency_s for layer in layers])
        panel.scatter(across, up)
        canvas.draw_without_rendering()
        _number_points(panel, across, up, list(range(6)))
        dots = panel.transData.transform(np.stack([across, up], axis=1))
        step = canvas.dpi / 72
        for place, text in enumerate(panel.texts):
            places.append(dots[place] + np.array(text.xyann) * step)
    spots = [*dots, *places]
    for place, spot in enumerate(places):
        rest = [s for i, s in enumerate(spots) if i != len(dots) + place]
        assert min(np.linalg.norm(spot - other) for other in rest) >= 8.9 * step


def test_names_and_counts_read_as_words():
    assert words("psum_spad") == "partial-sum scratchpad"
    assert words("weight_register") == "weight register"
    assert human("devices", 3.0) == "3"
    assert human("memory_share", 0.8007) == "0.801"
