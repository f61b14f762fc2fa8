"""What the guides show works: their files, commands and Python are written, run and executed."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from archsim.cli import main

DOCS = Path(__file__).parents[2] / "docs"
GUIDES = ("machine", "agents", "environments", "dram", "from_timeloop", "counting")
BLOCK = re.compile(r"^```(sh|python|yaml)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINES = 140


def guide(name: str) -> str:
    return (DOCS / f"{name}.md").read_text(encoding="utf-8")


def carry_out(kind: str, code: str) -> None:
    """Write a block that names its file; run any other."""
    named = re.match(r"# file: (\S+)\n", code)
    if named:
        Path(named[1]).write_text(code.removeprefix(named[0]), encoding="utf-8")
    elif kind == "python":
        exec(compile(code, "guide", "exec"), {"__name__": "guide"})
    else:
        assert kind == "sh", "a YAML block without a file"
        for line in code.splitlines():
            words = shlex.split(line, comments=True)
            if words:
                assert words[0] == "archsim"
                assert main(words[1:]) == 0, line


@pytest.mark.parametrize("name", GUIDES)
def test_blocks_run_in_order(name: str, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    for kind, code in BLOCK.findall(guide(name)):
        carry_out(kind, code)


@pytest.mark.parametrize("name", GUIDES)
def test_guides_are_short_and_their_links_lead_somewhere(name: str) -> None:
    text = guide(name)
    assert len(text.splitlines()) <= LINES
    for target in re.findall(r"\]\(([^)]+)\)", text):
        page, _, place = target.partition("#")
        found = (DOCS / page).read_text(encoding="utf-8")
        titles = [re.sub(r"[^\w -]", "", t).lower() for t in re.findall(r"^#+ (.*)", found, re.M)]
        assert not place or place in [title.replace(" ", "-") for title in titles], target


def test_the_index_names_every_guide() -> None:
    for name in GUIDES:
        assert f"({name}.md)" in guide("README")


def test_a_guide_that_is_wrong_would_be_noticed(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(AssertionError):
        carry_out("sh", "archsim evaluate -w no_such_network -m tiny\n")
