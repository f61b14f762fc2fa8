"""Promise: options are typed dataclasses; a misspelled or mistyped one is never swallowed."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import pytest

from archsim.agents import AGENTS, AgentOptions, load_agent, option, options_class
from archsim.agents import options_from_mapping as build
from archsim.errors import InputError


@pytest.mark.parametrize("name", AGENTS)
def test_options_are_frozen_typed_and_described(name):
    target = options_class(load_agent(name))
    options = build(load_agent(name), None)
    assert isinstance(options, target)
    fields = dataclasses.fields(target)
    assert fields
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(options, fields[0].name, 1)
    for field in fields:
        assert len(field.metadata["help"]) > 10
        assert getattr(build(target, {}), field.name) == field.default


@pytest.mark.parametrize("name", AGENTS)
@pytest.mark.parametrize("wrong", ["text", {"a": 1}, [[1]], float("nan"), -(10**9), b"x"])
def test_no_option_takes_nonsense(name, wrong):
    agent = load_agent(name)
    for field in dataclasses.fields(options_class(agent)):
        with pytest.raises(InputError, match=field.name):
            build(agent, {field.name: wrong})


@pytest.mark.parametrize(
    ("agent", "mapping", "words"),
    [
        ("genetic", {"populaton": 4}, "no such option; found 'populaton'; expected population"),
        ("genetic", {"population": 1}, "out of range; found 1; expected at least 2"),
        ("genetic", {"population": 2.5}, "wrong type; found 2.5; expected int"),
        ("genetic", {"population": True}, "expected int"),
        ("genetic", {"population": None}, "expected int"),
        ("genetic", {"mutation": "high"}, "expected float or None"),
        ("genetic", {"crossover": 1.5}, "from 0 to 1"),
        ("coordinate_descent", {"shuffle": 1}, "expected bool"),
        ("ppo", {"hidden": [32, "x"]}, "hidden"),
        ("ppo", {"hidden": [32, 0]}, "at least 1"),
        ("random", {3: 4}, "no such option"),
        ("random", [("batch", 3)], "must be a mapping"),
        ("random", "batch", "must be a mapping"),
    ],
)
def test_wrong_options_are_named(agent, mapping, words):
    with pytest.raises(InputError, match=words):
        build(load_agent(agent), mapping)


def test_whole_numbers_serve_as_floats_and_lists_as_tuples():
    assert build(load_agent("genetic"), {"crossover": 1}).crossover == 1.0
    assert build(load_agent("ppo"), {"hidden": [8, 4]}).hidden == (8, 4)
    assert build(load_agent("genetic"), {"mutation": None}).mutation is None


def test_direct_construction_is_checked_too():
    with pytest.raises(InputError, match="population"):
        options_class(load_agent("genetic"))(population=0)


def test_options_of_foreign_agents():
    @dataclass
    class Plain:
        depth: int
        rate: float = 0.5

    class Agent:
        def __init__(self, env, seed: int = 0, options: Plain | None = None) -> None:
            self.options = options

        def search(self) -> None:
            pass

    class NoOptions:
        def __init__(self, env, seed=0, options=None):
            pass

        def search(self) -> None:
            pass

    # Annotations are text in this file, and Plain is local: they cannot be resolved.
    with pytest.raises(InputError, match="cannot be resolved"):
        options_class(Agent)
    Agent.__init__.__annotations__["options"] = Plain | None
    assert build(Agent, {"depth": 3}) == Plain(3)
    with pytest.raises(InputError, match="depth: a required option is missing"):
        build(Agent, {"rate": 0.1})
    assert build(NoOptions, None) is None
    with pytest.raises(InputError, match="takes no options"):
        build(NoOptions, {"depth": 3})


def test_choices():
    @dataclass(frozen=True)
    class Chosen(AgentOptions):
        kind: str = option("a", "one of two", choices=("a", "b"))

    assert Chosen("b").kind == "b"
    with pytest.raises(InputError, match="one of 'a', 'b'"):
        Chosen("c")
