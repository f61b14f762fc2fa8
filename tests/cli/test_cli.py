"""The command line: exit statuses, messages without tracebacks, output that can be piped."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from archsim.cli import main
from archsim.cli.explore import parse_agent
from archsim.cli.tools import parse_options
from archsim.errors import InputError


def archsim(*words: str, **options) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "archsim", *words], capture_output=True, text=True, **options
    )


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """A small finished exploration, made through the command line."""
    out = tmp_path_factory.mktemp("cli") / "run"
    status = main(["run", "smoke", "-a", "random", "-a", "genetic,population=8", "--quiet",
                   "--seeds", "2", "--budget", "40", "-o", str(out)])  # fmt: skip
    assert status == 0
    return out


def complains(capsys, *words: str, says: str) -> None:
    """The command fails with status 2 and one clear message."""
    assert main(list(words)) == 2
    captured = capsys.readouterr()
    assert "Traceback" not in captured.err
    assert captured.err.startswith("error: ")
    assert captured.err.count("\n") == 1
    assert says in captured.err


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("run", "no-such-scenario"), "no such scenario"),
        (("run", "missing.yaml"), "missing.yaml"),
        (("run", "smoke", "--agent", "randon"), "no such agent"),
        (("run", "smoke", "--agent", "nothing.py:Class"), "no such file"),
        (("run", "smoke", "--agent", "genetic,populaton=8"), "population"),
        (("run", "smoke", "--agent", "genetic,population"), "name=value"),
        (("run", "smoke", "--seeds", "0"), "seeds"),
        (("run", "smoke", "--budget", "-3"), "budget"),
        (("run", "smoke", "--seeds", "999999999"), "too many"),
        (("run", "smoke", "--fill", "-1"), "fill"),
        (("run", "smoke", "--agent", "genetic,population=8,population=9"), "twice"),
        (("study", "marl_dram", "--seeds", "0"), "seeds"),
        (("run", "smoke", "-a", "random", "-a", "random"), "listed twice"),
        (("plot", "nowhere"), "no results here"),
        (("report", "nowhere"), "no results here"),
        (("best", "nowhere"), "no results here"),
        (("export", "nowhere", "-o", "x.csv"), "no results here"),
        (("import", "missing.onnx", "-o", "x.yaml"), "missing.onnx"),
        (("evaluate", "-w", "resnet5", "-m", "tiny"), "resnet50"),
        (("evaluate", "-w", "squeezenet", "-m", "tinny"), "tiny"),
        (("check-agent", "randon"), "random"),
    ],
)
def test_wrong_input_is_one_message_and_status_2(capsys, tmp_path, monkeypatch, words, says):
    monkeypatch.chdir(tmp_path)
    complains(capsys, *words, says=says)
    assert list(tmp_path.iterdir()) == []  # nothing is left behind


def test_a_file_that_cannot_be_written_is_the_users_error(run, tmp_path, capsys):
    (tmp_path / "file").write_text("x")
    complains(capsys, "plot", str(run), "-o", str(tmp_path / "file"), says="exists")
    complains(capsys, "report", str(run), "-o", str(tmp_path), says="directory")
    complains(capsys, "export", str(run), "-o", str(tmp_path / "no" / "x.csv"), says="No such file")
    complains(capsys, "plot", "x" * 5000, says="too long")


def test_figures_are_written_in_the_format_asked_for(run, tmp_path, capsys):
    assert main(["plot", str(run), "-o", str(tmp_path), "--format", "svg"]) == 0
    first = (tmp_path / "pareto.svg").read_bytes()
    assert first.startswith(b"<?xml")
    assert main(["plot", str(run), "-o", str(tmp_path), "--format", "svg"]) == 0
    assert (tmp_path / "pareto.svg").read_bytes() == first
    assert main(["plot", str(run), "--format", "doc"]) == 2


def test_debug_shows_where_an_error_arose():
    with pytest.raises(InputError):
        main(["run", "no-such-scenario", "--debug"])


def test_a_fault_of_ours_is_said_to_be_one(capsys, monkeypatch):
    monkeypatch.setattr("archsim.envs.scenario.load_scenario", lambda _: 1 / 0)
    assert main(["run", "smoke"]) == 1
    error = capsys.readouterr().err
    assert "internal error: ZeroDivisionError" in error
    assert "Traceback" not in error


@pytest.mark.parametrize("words", [["frobnicate"], ["run"], ["list", "nonsense"], ["best", "--x"]])
def test_a_wrong_command_line_is_status_2(capsys, words):
    assert main(words) == 2
    assert "Traceback" not in capsys.readouterr().err


def test_help_and_version_are_quick_and_load_nothing_heavy():
    code = (
        "import sys; from archsim.cli import main; status = main(['--help']);"
        "heavy = {'numpy', 'numba', 'scipy', 'torch', 'matplotlib', 'gymnasium', 'pydantic'};"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules); sys.exit(status)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for command in ("run", "plot", "report", "best", "evaluate", "import", "bench", "validate"):
        assert command in done.stdout
    assert archsim("--version").stdout.startswith("archsim ")


@pytest.mark.parametrize(
    "command",
    ["run", "plot", "report", "best", "export", "import", "evaluate", "list", "bench", "validate",
     "check-agent"],
)  # fmt: skip
def test_every_command_explains_itself(capsys, command):
    assert main([command, "--help"]) == 0
    assert "Usage" in capsys.readouterr().out


def every_command(group=None, words=()):
    """All commands, those of groups too, with their words."""
    import typer

    from archsim.cli import app

    group = typer.main.get_command(app) if group is None else group
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from every_command(command, (*words, name))
        else:
            yield (*words, name)


@pytest.mark.parametrize("words", list(every_command()), ids=" ".join)
def test_every_command_shows_an_example(words, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    assert main([*words, "-h"]) == 0
    after_usage = capsys.readouterr().out.partition("Usage:")[2].partition("\n")[2]
    assert f"archsim {' '.join(words)}" in after_usage


def test_run_prints_the_agents_and_the_designs(run, capsys):
    words = ["run", "smoke", "-a", "random", "-a", "genetic,population=8", "--quiet"]
    assert main([*words, "--seeds", "2", "--budget", "40", "-o", str(run)]) == 0
    out = capsys.readouterr().out
    assert "genetic(population=8)" in out
    assert "best objective" in out
    assert "0 evaluated now" in out


def test_progress_is_plain_lines_where_nobody_watches(tmp_path):
    done = archsim("run", "smoke", "-a", "random", "--seeds", "1", "--budget", "10", "-o", "r",
                   cwd=tmp_path)  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "1 runs, 1 to do" in done.stderr
    assert "\x1b" not in done.stdout + done.stderr


def test_plot_report_export_and_best_write_what_they_say(run, tmp_path, capsys):
    assert main(["plot", str(run), "-o", str(tmp_path)]) == 0
    assert main(["report", str(run), "-o", str(tmp_path / "r.html")]) == 0
    assert main(["export", str(run), "-o", str(tmp_path / "e.csv")]) == 0
    names = {path.name for path in tmp_path.iterdir()}
    assert {"pareto.png", "convergence.png", "hypervolume.png", "r.html", "e.csv"} <= names
    capsys.readouterr()
    assert main(["best", str(run)]) == 0
    out = capsys.readouterr().out
    assert "Why it wins" in out
    assert "Limits" in out
    assert main(["best", str(run), "--by", "energy_j", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["by"] == "energy_j"


def test_a_crashing_agent_makes_the_status_1(tmp_path, capsys):
    file = tmp_path / "bad.py"
    file.write_text(
        "class Bad:\n    encoding = 'multidiscrete'\n    vectorized = False\n"
        "    def __init__(self, env, seed=0, options=None):\n        pass\n"
        "    def search(self):\n        raise ValueError('my own fault')\n"
    )
    words = ["run", "smoke", "-a", f"{file}:Bad", "-a", "random", "--quiet", "--budget", "10"]
    assert main([*words, "-o", str(tmp_path / "run")]) == 1
    captured = capsys.readouterr()
    assert "my own fault" in captured.err
    assert "Traceback" not in captured.err
    assert "random" in captured.out


@pytest.mark.parametrize(
    ("search", "says"),
    [("pass", "no design was evaluated"), ("raise SystemExit(3)", "SystemExit: 3")],
)
def test_an_agent_that_evaluates_nothing_is_said_to(tmp_path, capsys, search, says):
    file = tmp_path / "idle.py"
    file.write_text(
        "class Idle:\n    encoding = 'multidiscrete'\n    vectorized = False\n"
        "    def __init__(self, env, seed=0, options=None):\n        pass\n"
        f"    def search(self):\n        {search}\n"
    )
    words = ["run", "smoke", "-a", f"{file}:Idle", "--quiet", "--seeds", "1", "--budget", "10"]
    assert main([*words, "-o", str(tmp_path / "run")]) == 1
    assert says in capsys.readouterr().err
    complains(capsys, "best", str(tmp_path / "run"), says="no evaluation")


def test_an_agents_file_that_ends_the_program_is_an_error(tmp_path, capsys):
    (tmp_path / "ends.py").write_text("raise SystemExit(0)\n")
    complains(capsys, "check-agent", f"{tmp_path / 'ends.py'}:X", says="SystemExit")


@pytest.mark.parametrize("kind", ["workloads", "machines", "agents", "scenarios", "dataflows"])
def test_list_shows_what_ships(capsys, kind):
    assert main(["list", kind]) == 0
    expected = {
        "workloads": "resnet50",
        "machines": "eyeriss",
        "agents": "genetic",
        "scenarios": "smoke",
        "dataflows": "weight_stationary",
    }
    assert expected[kind] in capsys.readouterr().out
    assert main(["list", kind, "--json"]) == 0
    assert expected[kind] in [row[kind[:-1]] for row in json.loads(capsys.readouterr().out)]


def test_evaluate_prints_text_and_json(capsys):
    assert main(["evaluate", "-w", "squeezenet", "-m", "tiny"]) == 0
    assert "latency" in capsys.readouterr().out.lower()
    assert main(["evaluate", "-w", "squeezenet", "-m", "tiny", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["latency_s"] > 0


def test_import_writes_a_workload_that_evaluates_alike(tmp_path, capsys):
    source = tmp_path / "net.csv"
    source.write_text(
        "Layer name, IFMAP Height, IFMAP Width, Filter Height, Filter Width, Channels, "
        "Num Filter, Strides,\nconv1, 8, 8, 3, 3, 4, 8, 1,\n"
    )
    assert main(["import", str(source), "-o", str(tmp_path / "net.yaml")]) == 0
    assert "10,368" in capsys.readouterr().out  # 6 x 6 x 3 x 3 x 4 x 8 MACs


def test_a_reader_that_leaves_early_is_no_error():
    process = subprocess.Popen(
        [sys.executable, "-m", "archsim", "list", "workloads"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    process.stdout.close()
    errors = process.stderr.read().decode()
    process.wait(60)
    assert "Traceback" not in errors
    assert "BrokenPipe" not in errors


def test_agents_and_their_options_are_read_from_one_word():
    choice = parse_agent("genetic,population=48,crossover=0.8")
    assert (choice.name, choice.options) == ("genetic", {"population": 48, "crossover": 0.8})
    assert parse_agent("dir/my.py:Mine").name == "dir/my.py:Mine"


def test_tools_take_options_as_keywords():
    assert parse_options(["--a-b", "1", "--c=x", "--d"]) == {"a_b": 1, "c": "x", "d": True}
    with pytest.raises(InputError):
        parse_options(["stray"])


def test_the_module_runs_like_the_command():
    assert archsim("--help", env={**os.environ, "COLUMNS": "80"}).returncode == 0
