"""What the README shows works: its agent, its Python, its commands, its links."""

from __future__ import annotations

import inspect
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from archsim import bench, validate
from archsim.agents import load_agent
from archsim.cli import app, main
from archsim.cli.explore import parse_agent
from archsim.cli.tools import parse_options
from archsim.envs.scenario import load_scenario
from archsim.hardware import load_machine
from archsim.testing import check_agent
from archsim.workload import load_model, load_workload

ROOT = Path(__file__).parents[2]
#: Lines, blank ones aside, of a complete agent.
AGENT_LINES = 30


def text() -> str:
    return (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    """The code blocks of a language."""
    found = re.findall(rf"^```{language}\n(.*?)^```$", text(), re.MULTILINE | re.DOTALL)
    assert found, f"README.md has no {language} block"
    return found


def shell_lines(program: str) -> list[list[str]]:
    """Words of every command line of a program in the shell blocks."""
    lines = "\n".join(blocks("sh")).replace("\\\n", " ").splitlines()
    words = [shlex.split(line, comments=True) for line in lines]
    found = [line for line in words if line and line[0] == program]
    assert found, f"README.md shows no {program} command"
    return found


def mentioned(program: str) -> list[list[str]]:
    """Words of every command of a program in running text, often without its arguments."""
    prose = re.sub(r"^```.*?^```$", "", text(), flags=re.MULTILINE | re.DOTALL)
    code = (shlex.split(item) for item in re.findall(r"`([^`\n]+)`", prose))
    return [words for words in code if len(words) > 1 and words[0] == program]


def custom_agent(folder: Path) -> str:
    """The README's own agent, written to a file; what the command line calls it."""
    code = next((block for block in blocks("python") if "class HillClimber" in block), None)
    assert code is not None, "README.md shows no class HillClimber"
    file = folder / "my_agent.py"
    file.write_text(code, encoding="utf-8")
    return f"{file}:HillClimber"


def test_the_custom_agent_is_short_and_keeps_the_contract(tmp_path: Path) -> None:
    agent = custom_agent(tmp_path)
    lines = (tmp_path / "my_agent.py").read_text(encoding="utf-8").splitlines()
    assert sum(bool(line.strip()) for line in lines) <= AGENT_LINES
    assert check_agent(agent).evaluations == 64


def test_the_custom_agent_explores_on_the_command_line(tmp_path: Path, capsys) -> None:
    agent = custom_agent(tmp_path)
    words = ["run", "smoke", "--agent", agent, "--agent", "random", "--seeds", "1"]
    status = main([*words, "--budget", "60", "--quiet", "--out", str(tmp_path / "run")])
    shown = capsys.readouterr()
    assert status == 0, shown.err
    assert "HillClimber" in shown.out


@pytest.mark.parametrize("block", [b for b in blocks("python") if "HillClimber" not in b])
def test_python_blocks_run(block: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error::UserWarning", "-c", block],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr


def parsed(words: list[str]) -> tuple[str, dict]:
    """The command a line names and its parameters, as the command line itself reads them."""
    group = typer.main.get_command(app)
    with group.make_context("archsim", list(words)) as outer:
        rest = [*getattr(outer, "_protected_args", []), *outer.args]
        name, command, rest = group.resolve_command(outer, rest)
        with command.make_context(name, rest, parent=outer) as inner:
            tools = {"bench": bench.main, "validate": validate.main}
            if name in tools:
                inspect.signature(tools[name]).bind(
                    inner.params["name"], **parse_options(inner.args)
                )
            return name, inner.params


@pytest.mark.parametrize("words", shell_lines("archsim"), ids=" ".join)
def test_commands_exist_and_take_these_options(words: list[str]) -> None:
    name, given = parsed(words[1:])
    if name == "evaluate":
        load_model(given["workload"]) if given.get("phase") else load_workload(given["workload"])
        load_machine(given["machine"])
    if name == "run":
        scenario = given["scenario"]
        load_scenario(ROOT / scenario if "/" in scenario else scenario)
        for agent in given["agent"] or []:
            if ".py:" not in agent:
                load_agent(parse_agent(agent).name)


def test_commands_named_in_the_text_exist() -> None:
    commands = typer.main.get_command(app).commands
    for words in mentioned("archsim"):
        assert words[1] in commands, words
        if len(words) > 2:
            parsed(words[1:])


@pytest.mark.parametrize(
    "line", ["explode", "run smoke --sedes 3", "evaluate -w alexnet", "bench x y"]
)
def test_wrong_commands_would_be_noticed(line: str) -> None:
    with pytest.raises(Exception, match=r"(?i)no such|missing|unexpected"):
        parsed(line.split())


def test_make_targets_exist() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for words in shell_lines("make") + mentioned("make"):
        assert set(words[1:]) <= targets, words


def test_links_and_folders_exist() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", text()):
        assert target.startswith("https://") or (ROOT / target).exists(), target
    for row in re.findall(r"^\| `.*", text(), re.MULTILINE):
        for folder in re.findall(r"`([a-z/_]+/)`", row.split("|")[1]):
            assert (ROOT / folder).is_dir(), folder


def test_nothing_is_left_to_fill_in() -> None:
    assert "@@" not in text()
