"""The searchers: one readable file each, an options dataclass on top, the gym API underneath.

An agent is a class with

- ``encoding``: the action space it wants, ``"multidiscrete"``, ``"box"`` or ``"discrete"``;
- ``vectorized``: True to be given a ``gymnasium.vector.VectorEnv`` instead of an ``Env``;
- ``__init__(self, env, seed=0, options=None)``, the annotation of ``options`` naming a dataclass;
- ``search(self)``, which steps ``env`` until ``info["budget_exhausted"]``;

and, where they differ from the default, ``stepwise = True`` (one parameter a step, with action
masks), ``deterministic = True`` (the seed changes nothing), ``extra = "rl"`` (what to install), and
a static ``designs_per_step(options)``, the width of the vector environment it would like.
"""

from __future__ import annotations

import ast
import difflib
import functools
import hashlib
import importlib
import importlib.util
import inspect
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from archsim.agents.options import AgentOptions, option, options_class, options_from_mapping
from archsim.errors import ArchsimError, InputError

__all__ = [
    "AGENTS",
    "ENCODINGS",
    "AgentInfo",
    "AgentOptions",
    "available_agents",
    "designs_per_step",
    "load_agent",
    "option",
    "options_class",
    "options_from_mapping",
]

ENCODINGS = ("multidiscrete", "box", "discrete")

AGENTS: dict[str, str] = {
    "random": "archsim.agents.random_search:RandomSearch",
    "grid": "archsim.agents.grid:GridSearch",
    "coordinate_descent": "archsim.agents.coordinate_descent:CoordinateDescent",
    "annealing": "archsim.agents.annealing:Annealing",
    "genetic": "archsim.agents.genetic:Genetic",
    "ant_colony": "archsim.agents.ant_colony:AntColony",
    "nsga2": "archsim.agents.nsga2:Nsga2",
    "cmaes": "archsim.agents.cmaes:Cmaes",
    "tpe": "archsim.agents.tpe:Tpe",
    "gp": "archsim.agents.gp:Gp",
    "ppo": "archsim.agents.ppo:Ppo",
    "a2c": "archsim.agents.a2c:A2c",
    "sac": "archsim.agents.sac:Sac",
    "maskable_ppo": "archsim.agents.maskable_ppo:MaskablePpo",
    "ippo": "archsim.agents.ippo:Ippo",
    "mappo": "archsim.agents.mappo:Mappo",
    "qmix": "archsim.agents.qmix:Qmix",
}


@dataclass(frozen=True)
class AgentInfo:
    """A line of the table of agents.

    Attributes:
        name: Name in scenarios and on the command line.
        summary: What it does, in one line.
        needs: The ``archsim[...]`` extra it needs; empty when it needs none.
        encoding: The action space it wants.
        vectorized: Whether it evaluates batches.
        stepwise: Whether it decides one parameter a step.
    """

    name: str
    summary: str
    needs: str
    encoding: str
    vectorized: bool
    stepwise: bool


def available_agents() -> list[AgentInfo]:
    """The agents that ship, in the order of the registry.

    Examples:
        >>> [agent.name for agent in available_agents()][:3]
        ['random', 'grid', 'coordinate_descent']
    """
    table = []
    for name in AGENTS:
        agent = load_agent(name)
        table.append(
            AgentInfo(
                name=name,
                summary=(inspect.getdoc(agent) or "").splitlines()[0],
                needs=getattr(agent, "extra", None) or "",
                encoding=agent.encoding,
                vectorized=agent.vectorized,
                stepwise=bool(getattr(agent, "stepwise", False)),
            )
        )
    return table


def designs_per_step(agent: type[Any], options: Any, default: int = 64) -> int:
    """Width of the vector environment an agent would like.

    Args:
        agent: An agent class.
        options: Its options, or None for the defaults.
        default: Used when the agent does not say.

    Returns:
        At least 1; 1 for an agent that is not vectorised.
    """
    if not agent.vectorized:
        return 1
    wish = getattr(agent, "designs_per_step", None)
    if wish is None:
        return default
    if options is None:
        target = options_class(agent)
        options = target() if target else None
    width = wish(options)
    if not isinstance(width, int) or isinstance(width, bool) or width < 1:
        raise InputError(
            "designs_per_step must return a positive number",
            source=agent.__name__,
            found=width,
            expected="an int of at least 1",
        )
    return width


def load_agent(spec: str) -> type[Any]:
    """Find an agent class.

    Args:
        spec: The name of a shipped agent, or ``path/to/file.py:Class`` for one of your own. The
            file is executed as a program: use only files you trust.

    Returns:
        The class.

    Raises:
        InputError: No such agent (near names are listed), file or class, the file fails when it is
            run, or the class is no agent; the message says what is missing.

    Examples:
        >>> load_agent("random").encoding
        'multidiscrete'
        >>> load_agent("randon")  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        archsim.errors.InputError: no such agent; ...
    """
    if not isinstance(spec, str):
        raise InputError(
            "an agent is named by text", found=spec, expected="a name or file.py:Class"
        )
    if spec in AGENTS:
        module, _, name = AGENTS[spec].partition(":")
        return getattr(importlib.import_module(module), name)
    path, colon, name = spec.rpartition(":")
    if not colon:
        if spec.endswith(".py"):
            raise InputError("the class is missing", found=spec, expected=f"{spec}:Class")
        near = ", ".join(difflib.get_close_matches(spec, AGENTS, n=3)) or ", ".join(AGENTS)
        raise InputError("no such agent", found=spec, expected=f"{near}, or path/to/file.py:Class")
    file = Path(path)
    agent = _class_of(_load_file(file), name, file)
    check_interface(agent, spec)
    return agent


def _load_file(path: Path) -> ModuleType:
    """Run an agent's file as a module of its own; a file loaded before is not run again."""
    if path.suffix != ".py" or not path.is_file():
        raise InputError(
            "no such file", source=path, expected="a Python file, path/to/file.py:Class"
        )
    try:
        source = path.read_bytes()
        tree = ast.parse(source, filename=str(path))
    except OSError as error:
        raise InputError(f"cannot read file: {error.strerror}", source=path) from None
    except (SyntaxError, ValueError) as error:
        line = getattr(error, "lineno", None)
        raise InputError(
            f"not a Python program: {getattr(error, 'msg', error)}",
            source=path,
            field=f"line {line}" if line else None,
        ) from None
    return _execute(str(path.resolve()), hashlib.sha256(source).hexdigest(), _Tree(tree))


class _Tree:
    """A parsed file that does not take part in the comparison of cached calls."""

    def __init__(self, tree: ast.Module) -> None:
        self.tree = tree

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Tree)

    def __hash__(self) -> int:
        return 0


@functools.lru_cache(maxsize=64)
def _execute(path: str, digest: str, parsed: _Tree) -> ModuleType:
    """Run a parsed file; cached by path and content."""
    name = "archsim_agent_" + hashlib.sha256(f"{path}:{digest}".encode()).hexdigest()[:16]
    spec = importlib.util.spec_from_loader(name, loader=None, origin=path)
    assert spec is not None  # it is None only without a name
    module = importlib.util.module_from_spec(spec)
    module.__file__ = path
    # Dataclasses resolve their annotations through sys.modules.
    sys.modules[name] = module
    try:
        exec(compile(parsed.tree, path, "exec"), module.__dict__)
    except ArchsimError:
        del sys.modules[name]
        raise
    except ModuleNotFoundError as error:
        del sys.modules[name]
        raise InputError(
            f"the file imports {error.name!r}, which is not installed", source=path
        ) from error
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        raise InputError(
            f"the file fails when it is run: {type(error).__name__}: {error}", source=path
        ) from error
    return module


def _class_of(module: ModuleType, name: str, path: Path) -> type[Any]:
    """The class of a module, or an error that lists those it has."""
    agent = getattr(module, name, None) if name else None
    if isinstance(agent, type):
        return agent
    own = [
        key
        for key, value in vars(module).items()
        if isinstance(value, type) and value.__module__ == module.__name__
    ]
    raise InputError(
        "no such class in the file", source=path, found=name, expected=", ".join(own) or "a class"
    )


def check_interface(agent: type[Any], source: object = None) -> None:
    """Check that a class is an agent, as far as that shows without running it.

    Args:
        agent: The class.
        source: Named in errors.

    Raises:
        InputError: An attribute or method is missing or wrong; the message says which.
    """

    def refuse(field: str, message: str, found: object, expected: str) -> None:
        raise InputError(
            message,
            source=source or getattr(agent, "__name__", agent),
            field=field,
            found=found,
            expected=expected,
        )

    if not isinstance(agent, type):
        raise InputError("an agent is a class", source=source, found=agent, expected="a class")
    encoding = getattr(agent, "encoding", None)
    if encoding not in ENCODINGS:
        refuse("encoding", "the class attribute is missing or wrong", encoding, str(ENCODINGS))
    for flag in ("vectorized", "stepwise", "deterministic"):
        value = getattr(agent, flag, None if flag == "vectorized" else False)
        if not isinstance(value, bool):
            refuse(flag, "the class attribute is missing or wrong", value, "True or False")
    if agent.vectorized and getattr(agent, "stepwise", False):
        refuse("stepwise", "a stepwise agent cannot be vectorized", True, "one of the two")
    search = getattr(agent, "search", None)
    if not callable(search):
        refuse("search", "the method is missing", search, "def search(self) -> None")
    else:
        try:
            inspect.signature(search).bind(object())
        except TypeError as error:
            refuse("search", f"the method needs arguments: {error}", None, "def search(self)")
    try:
        inspect.signature(agent).bind(object(), seed=0, options=None)
    except TypeError as error:
        expected = "def __init__(self, env, seed=0, options=None)"
        refuse("__init__", f"the constructor does not fit: {error}", None, expected)
