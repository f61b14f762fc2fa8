"""Promise: a wrong agent is refused with a sentence, never with a traceback."""

from __future__ import annotations

import subprocess
import sys

import pytest

from archsim.agents import load_agent
from archsim.errors import ArchsimError, InputError, MissingExtraError

AGENT = """
class {name}:
    encoding = {encoding!r}
    vectorized = False
    def __init__(self, env, seed=0, options=None):
        pass
    def search(self):
        pass
"""


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("genetics", "genetic"),
        ("cma_es", "cmaes"),
        ("", "no such agent"),
        ("nowhere.py:Agent", "no such file"),
        ("nowhere.py", "the class is missing"),
        (":", "no such file"),
        ("random:RandomSearch", "no such file"),
        (3, "named by text"),
        (None, "named by text"),
    ],
)
def test_unknown_agents(spec, words):
    with pytest.raises(InputError, match=words):
        load_agent(spec)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("class Agent(:\n", "line 1: not a Python program"),
        ("\0", "not a Python program"),
        ("import no_such_package_at_all\n", "'no_such_package_at_all', which is not installed"),
        ("1 / 0\n", "ZeroDivisionError: division by zero"),
        ("class Other: pass\n", "no such class in the file.*expected Other"),
        ("Agent = 3\n", "no such class in the file"),
        ("class Agent: pass\n", "encoding"),
        ("class Agent:\n    encoding = 'box'\n", "vectorized"),
        ("class Agent:\n    encoding = 'box'\n    vectorized = 1\n", "vectorized"),
        ("class Agent:\n    encoding = 'box'\n    vectorized = True\n", "search"),
        (AGENT.format(name="Agent", encoding="cube"), "encoding.*found 'cube'"),
        (AGENT.format(name="Agent", encoding="box").replace("seed=0, ", ""), "__init__"),
        (
            AGENT.format(name="Agent", encoding="box").replace("search(self", "search(self, n"),
            "arg",
        ),
        (AGENT.format(name="Agent", encoding="box") + "    stepwise = 'no'\n", "stepwise"),
    ],
)
def test_wrong_files(tmp_path, text, words):
    file = tmp_path / "mine.py"
    file.write_text(text)
    with pytest.raises(InputError, match=f"(?s)mine.py.*{words}"):
        load_agent(f"{file}:Agent")


def test_a_folder_and_a_binary_file_are_refused(tmp_path):
    (tmp_path / "folder.py").mkdir()
    (tmp_path / "binary.py").write_bytes(b"\xff\xfe\x00\x01")
    for name in ("folder.py", "binary.py"):
        with pytest.raises(InputError):
            load_agent(f"{tmp_path / name}:Agent")


def test_a_file_is_read_anew_when_it_changes(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(AGENT.format(name="Agent", encoding="box"))
    first = load_agent(f"{file}:Agent")
    assert load_agent(f"{file}:Agent") is first
    file.write_text(AGENT.format(name="Agent", encoding="discrete"))
    assert load_agent(f"{file}:Agent").encoding == "discrete"


@pytest.mark.parametrize(
    ("package", "agent", "extra"),
    [
        ("pymoo", "nsga2", "search"),
        ("cma", "cmaes", "search"),
        ("optuna", "tpe", "search"),
        ("torch", "gp", "torch"),
        ("stable_baselines3", "sac", "rl"),
        ("sb3_contrib", "maskable_ppo", "rl"),
    ],
)
def test_a_missing_package_is_named_with_its_extra(monkeypatch, package, agent, extra):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingExtraError, match=rf"'{package}'.*archsim\[{extra}\]") as caught:
        load_agent(agent)(None)
    assert isinstance(caught.value, ArchsimError)


def test_listing_agents_imports_no_library():
    program = (
        "import sys, archsim.agents as a; a.available_agents();"
        "print([m for m in ('torch', 'optuna', 'pymoo', 'cma', 'numba') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr
