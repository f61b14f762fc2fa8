"""Study files: which agents are compared on which scenarios, and what is asked of the results.

A study is scenarios x agents x seeds under one budget. Its scenarios are named, or made from a
base by axes: every combination of one entry of each axis is laid over the base, entry by entry,
mapping by mapping. Agents are listed, or swept: every combination of the values of their options
is an agent of its own, which is how the lottery of hyperparameters is drawn.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from os.path import isfile  # false, no error, for a name no file can have
from pathlib import Path
from typing import Any

from pydantic import Field, field_validator, model_validator

from archsim.envs.kinds import DEFAULT, kind_of
from archsim.envs.scenario import (
    SCENARIOS,
    AgentSpec,
    BaseScenario,
    error_context,
    is_file,
    load_scenario,
)
from archsim.errors import InputError
from archsim.explore.runner import AgentChoice, canonical
from archsim.inputs import Strict, parse_yaml, read_text, validate

_NAME = r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,79}$"
#: Agents, swept ones included, and scenarios a study may have.
MAX_AGENTS, MAX_CELLS = 5000, 1000


class QuestionSpec(Strict):
    """Something the study is to settle: does each of some agents end better than each other one?"""

    claim: str = Field(min_length=1, max_length=300, description="what is claimed, a sentence")
    ours: tuple[str, ...] = Field(min_length=1, description="agents said to be better")
    theirs: tuple[str, ...] = Field(min_length=1)


class StudySpec(Strict):
    """One study: a YAML file that starts with ``study:``, see ``scenarios/marl_dram.yaml``."""

    study: str = Field(pattern=_NAME, description="name")
    title: str = Field("", max_length=200)
    description: str = Field("", max_length=4000)
    scenarios: tuple[str, ...] = Field((), max_length=MAX_CELLS, description="names or files")
    base: dict[str, Any] | None = Field(None, description="scenario the axes are laid over")
    axes: dict[str, dict[str, dict[str, Any]]] = Field(
        default_factory=dict, max_length=4, description="axis -> entry -> fields of the scenario"
    )
    table: bool = Field(False, description="simulate the whole space first, for exact regret")
    agents: tuple[AgentSpec, ...] = ()
    sweeps: dict[str, dict[str, Any]] = Field(
        default_factory=dict, description="agent -> option -> list of values, or one value"
    )
    seeds: int = Field(10, ge=1, le=10_000, description="runs of every agent on every scenario")
    budget: int = Field(500, ge=1, le=10**9, description="evaluations of every run")
    workers: int = Field(1, ge=1, le=4096, description="processes")
    questions: tuple[QuestionSpec, ...] = Field((), max_length=32)

    @field_validator("agents", mode="before")
    @classmethod
    def _names_are_agents(cls, value: Any) -> Any:
        if isinstance(value, (list, tuple)):
            return [{"name": item} if isinstance(item, str) else item for item in value]
        return value

    @model_validator(mode="after")
    def _complete(self) -> StudySpec:
        if bool(self.scenarios) == (self.base is not None):
            raise ValueError("a study needs either scenarios or base")
        if self.axes and self.base is None:
            raise ValueError("axes need a base to be laid over")
        if not self.agents and not self.sweeps:
            raise ValueError("a study needs agents or sweeps")
        for axis, entries in self.axes.items():
            if not entries:
                raise ValueError(f"axis {axis} has no entry")
        return self

    def choices(self) -> tuple[AgentChoice, ...]:
        """Every agent with its options, each once.

        Raises:
            InputError: Options are no plain data, or there are too many.
        """
        found = {}
        for agent in self.agents:
            choice = AgentChoice(agent.name, dict(agent.options))
            found[choice.name, canonical(choice.options)] = choice
        for name, options in self.sweeps.items():
            for drawn in combinations(options):
                found[name, canonical(drawn)] = AgentChoice(name, drawn)
                if len(found) > MAX_AGENTS:
                    raise InputError(
                        "too many agents",
                        source=self.study,
                        field="sweeps",
                        expected=str(MAX_AGENTS),
                    )
        return tuple(found.values())


def combinations(options: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Every combination of listed values; what is no list is the same in all.

    Example:
        >>> list(combinations({"ants": [2, 4], "elites": 1}))
        [{'ants': 2, 'elites': 1}, {'ants': 4, 'elites': 1}]
    """
    lists = [value if isinstance(value, (list, tuple)) else [value] for value in options.values()]
    for values in itertools.product(*lists):
        yield dict(zip(options, values, strict=True))


@dataclass(frozen=True)
class Cell:
    """One scenario of a study.

    Attributes:
        name: Of its folder.
        place: Entry by axis; empty for a scenario that was named.
        scenario: The scenario.
    """

    name: str
    place: Mapping[str, str]
    scenario: BaseScenario


def load_study(source: str | Path | Mapping[str, Any]) -> tuple[StudySpec, tuple[Cell, ...]]:
    """Read and check a study.

    Args:
        source: Name of a shipped study, path of a YAML file, or plain data.

    Raises:
        InputError: Names file, field, what was found and what was expected.
    """
    if isinstance(source, Mapping):
        spec, where, folder = validate(dict(source), StudySpec, "<study>"), "<study>", None
    else:
        path = _find(source)
        data = parse_yaml(read_text(path), path)
        if isinstance(data, dict) and "study" not in data and "objective" in data:
            raise InputError("this is a scenario, no study; use archsim run", source=path)
        spec, where, folder = validate(data, StudySpec, path), str(path), path.parent
    with error_context(source=where):
        cells = tuple(_cells(spec, folder))
        names = [cell.name for cell in cells]
        for name in names:
            if names.count(name) > 1:
                raise InputError("scenario named twice", field="scenarios", found=name)
        labels = {choice.name for choice in spec.choices()}
        for question in spec.questions:
            for name in (*question.ours, *question.theirs):
                if name not in labels:
                    raise InputError(
                        "not among the agents",
                        field="questions",
                        found=name,
                        expected=", ".join(sorted(labels)),
                    )
    return spec, cells


def _find(source: str | Path) -> Path:
    if isinstance(source, str) and not is_file(source):
        path = SCENARIOS / f"{source}.yaml"
        if isfile(path):
            return path
    return Path(source)


def _cells(spec: StudySpec, folder: Path | None) -> Iterator[Cell]:
    for name in spec.scenarios:
        inside = folder / name if folder is not None else Path(name)
        scenario = load_scenario(inside if is_file(name) and isfile(inside) else name)
        yield Cell(scenario.name, {}, scenario)
    if spec.base is None:
        return
    count = 1
    for entries in spec.axes.values():
        count *= len(entries)
    if count > MAX_CELLS:
        raise InputError("too many scenarios", field="axes", found=count, expected=str(MAX_CELLS))
    for chosen in itertools.product(*spec.axes.values()):
        place = dict(zip(spec.axes, chosen, strict=True))
        data: dict[str, Any] = spec.base
        for axis, entry in place.items():
            data = laid_over(data, spec.axes[axis][entry])
        name = "-".join(chosen) or spec.study
        data = {"title": ", ".join(chosen).replace("_", " ") or spec.title, **data, "name": name}
        with error_context(field="axes" if chosen else "base"):
            kind = kind_of(data.get("environment", DEFAULT))
            scenario = validate(data, kind.scenario_model(), name)
            yield Cell(name, place, load_scenario(scenario.resolved(folder or Path.cwd())))


def laid_over(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Two mappings as one; where both hold a mapping, those are laid over one another.

    Example:
        >>> laid_over({"a": {"x": 1, "y": 2}, "b": 3}, {"a": {"y": 4}})
        {'a': {'x': 1, 'y': 4}, 'b': 3}
    """
    found = dict(below)
    for key, value in above.items():
        old = found.get(key)
        both = isinstance(old, Mapping) and isinstance(value, Mapping)
        found[key] = laid_over(old, value) if both else value  # type: ignore[arg-type]
    return found
