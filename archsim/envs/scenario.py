"""A scenario file: what is designed for what, what is wanted, and how to search."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from os.path import isfile  # false, no error, for a name no file can have
from pathlib import Path
from typing import Any, Literal, Self, TypeVar, get_args

from pydantic import ConfigDict, Field, field_validator, model_validator

from archsim.envs.kinds import DEFAULT, kind_of
from archsim.envs.objective import Objective
from archsim.errors import InputError
from archsim.inputs import Strict, parse_yaml, read_text, validate
from archsim.space import DesignSpace, Parameter

#: Shipped scenarios (the top-level folder, or the link to it inside an installed package).
SCENARIOS = Path(__file__).resolve().parent.parent / "scenarios"
#: Values of one parameter that are tried on the machine at load; of more, this many evenly spread.
CHECKED_VALUES = 256
Number = int | float
_NAME = r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,79}$"


class RangeSpec(Strict):
    """A range of numbers: ``step`` for integers, ``points`` for a quantised real range."""

    low: Number
    high: Number
    step: int | None = Field(None, ge=1)
    points: int | None = Field(None, ge=2)

    @model_validator(mode="after")
    def _one_kind(self) -> RangeSpec:
        if (self.step is None) == (self.points is None):
            raise ValueError("a range needs either step (integers) or points (real numbers)")
        if self.step is not None and not (isinstance(self.low, int) and isinstance(self.high, int)):
            raise ValueError("a range with a step needs integer low and high")
        return self


class ValuesSpec(Strict):
    """What a parameter may be: listed values or a range."""

    name: str
    values: tuple[bool | int | float | str, ...] | None = Field(None, min_length=1)
    range: RangeSpec | None = None

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.values is None) == (self.range is None):
            raise ValueError("a parameter needs either values or range")
        return self

    def parameter(self, **fields: Any) -> Parameter:
        """The parameter with these values, and other fields as given.

        Raises:
            InputError: The values do not make a parameter.
        """
        if self.values is not None:
            return Parameter(self.name, self.values, **fields)
        assert self.range is not None  # the validator saw to it
        return ranged(self.name, self.range, **fields)

    def build(self) -> Parameter:
        """The parameter of the design space.

        Raises:
            InputError: Its values do not make a parameter.
        """
        raise NotImplementedError


def ranged(name: str, bounds: RangeSpec, **fields: Any) -> Parameter:
    """The parameter of a range.

    Raises:
        InputError: The range makes no parameter.
    """
    if bounds.step is not None:
        return Parameter.integer(name, int(bounds.low), int(bounds.high), bounds.step, **fields)
    return Parameter.continuous(name, bounds.low, bounds.high, bounds.points or 2, **fields)


class ScalarSpec(Strict):
    """How the minimised metrics make one number, see :class:`archsim.envs.objective.Objective`."""

    kind: Literal["log_product", "weighted", "single"] = "log_product"
    metric: str | None = None
    weights: dict[str, float] = Field(default_factory=dict)
    references: dict[str, float] = Field(
        default_factory=dict, description="default: the scenario's machine as shipped"
    )


class ObjectiveSpec(Strict):
    """What is wanted."""

    minimize: tuple[str, ...] = Field(min_length=1, max_length=8)
    limits: dict[str, float] = Field(default_factory=dict)
    scalar: ScalarSpec = Field(default_factory=ScalarSpec)

    def build(self) -> Objective:
        """The objective.

        Raises:
            InputError: Its fields contradict each other.
        """
        scalar = self.scalar
        return Objective(
            self.minimize,
            self.limits,
            scalar.kind,
            scalar.metric,
            scalar.weights,
            scalar.references,
        )


class AgentSpec(Strict):
    """A searcher and its options."""

    name: str = Field(min_length=1, description="shipped agent, or path/to/file.py:Class")
    options: dict[str, Any] = Field(default_factory=dict)


class FillSpec(AgentSpec):
    """A batch searcher that goes on to fill the front after the comparison."""

    evaluations: int = Field(ge=1, le=10**9)

    @model_validator(mode="before")
    @classmethod
    def _agent_is_name(cls, data: Any) -> Any:
        if isinstance(data, Mapping) and "agent" in data and "name" not in data:
            return {("name" if key == "agent" else key): value for key, value in data.items()}
        return data


class RunSettings(Strict):
    """How ``archsim run`` searches; the command line overrides each."""

    agents: tuple[AgentSpec, ...] = Field((AgentSpec(name="random"),), min_length=1)
    seeds: int = Field(1, ge=1, le=10_000, description="runs of every agent, seeds 0, 1, ...")
    budget: int = Field(100, ge=1, le=10**9, description="evaluations of every run")
    workers: int = Field(1, ge=1, le=4096, description="processes")
    fill: FillSpec | None = None

    @field_validator("agents", mode="before")
    @classmethod
    def _names_are_agents(cls, value: Any) -> Any:
        return named(value)

    @field_validator("agents")
    @classmethod
    def _each_once(cls, agents: tuple[AgentSpec, ...]) -> tuple[AgentSpec, ...]:
        for at, agent in enumerate(agents):
            if agent in agents[:at]:
                raise ValueError(f"the same agent is listed twice: {agent.name}")
        return agents


def named(value: Any) -> Any:
    """A list in which a bare string stands for ``{name: string}``."""
    if isinstance(value, (list, tuple)):
        return [{"name": item} if isinstance(item, str) else item for item in value]
    return value


class BaseScenario(Strict):
    """What every kind of exploration has: one YAML file, see ``scenarios/`` for complete ones.

    Load with :func:`load_scenario`, which picks the kind by ``environment`` and checks the rest.
    """

    model_config = ConfigDict(ignored_types=(cached_property,))

    name: str = Field(pattern=_NAME)
    title: str = Field("", max_length=200)
    description: str = Field("", max_length=4000)
    environment: str = DEFAULT
    parameters: Any
    constraints: tuple[str, ...] = Field((), max_length=256)
    objective: ObjectiveSpec
    run: RunSettings = RunSettings.model_validate({})

    def build_space(self) -> DesignSpace:
        """The design space.

        Raises:
            InputError: A parameter or constraint is wrong, nothing is legal, or two parameters set
                the same.
        """
        parameters: list[Parameter] = []
        taken: dict[str, str] = {}
        for spec in self.parameters:
            with error_context(field=f"parameters.{spec.name}"):
                parameters.append(spec.build())
                for target in self.targets(spec):
                    if target in taken:
                        raise InputError(f"{taken[target]!r} already sets this", found=target)
                    taken[target] = spec.name
        return DesignSpace(parameters, self.constraints)

    def targets(self, spec: Any) -> Iterable[str]:
        """Names of what a parameter sets, each set by one parameter only."""
        raise NotImplementedError

    def metric_names(self) -> tuple[str, ...]:
        """Metrics its cost model may give; the opened problem knows for sure."""
        raise NotImplementedError

    def resolved(self, folder: Path) -> BaseScenario:
        """Itself with the names of files in a folder made absolute."""
        raise NotImplementedError

    def check(self) -> None:
        """Check everything that can be checked without evaluating a design.

        Raises:
            InputError: The first thing wrong.
        """
        raise NotImplementedError


#: Scenarios of one kind of environment.
Kindred = TypeVar("Kindred", bound=BaseScenario)


def checked_places(parameter: Parameter) -> list[int]:
    """Values of a parameter that are tried at load, by place: all, or :data:`CHECKED_VALUES`."""
    count = parameter.cardinality
    tried = min(count, CHECKED_VALUES)
    return [at * (count - 1) // max(tried - 1, 1) for at in range(tried)]


def is_file(name: str) -> bool:
    """Whether a name in a scenario stands for a file rather than for something shipped."""
    return "/" in name or "\\" in name or name.endswith((".yaml", ".yml", ".onnx", ".csv"))


@contextmanager
def error_context(source: object = None, field: str | None = None) -> Iterator[None]:
    """Say in which file and field an :class:`InputError` raised inside arose."""
    try:
        yield
    except InputError as error:
        inner = error.field
        if field and inner and not inner.startswith(field):
            last = field.rsplit(".", 1)[-1]
            inner = field if inner in ("name", last) else f"{field} ({inner})"
        message = error.message
        if source is not None and error.source not in (None, str(source)):
            message = f"{message} [{error.source}]"
        raise InputError(
            message,
            source=error.source if source is None else source,
            field=inner or field,
            found=error.found,
            expected=error.expected,
        ) from None


def available_scenarios(environment: str | None = None) -> tuple[str, ...]:
    """Names of the shipped scenarios.

    Args:
        environment: Of this kind only.
    """
    found = sorted(path for path in SCENARIOS.glob("*.yaml") if not is_study(path))
    return tuple(
        path.stem for path in found if environment is None or _kind_in(path) == environment
    )


def _kind_in(path: Path) -> str:
    """The kind of environment a shipped scenario names."""
    lines = path.read_text(encoding="utf-8").splitlines()
    named = [line.split(":", 1)[1].strip() for line in lines if line.startswith("environment:")]
    return named[0] if named else DEFAULT


def is_study(path: Path) -> bool:
    """Whether a file compares agents on scenarios (``archsim study``) and is none itself."""
    with path.open("rb") as file:
        return file.read(6) == b"study:"


def load_scenario(source: str | Path | Mapping[str, Any] | BaseScenario) -> BaseScenario:
    """Read and check a scenario.

    Args:
        source: Name of a shipped scenario, path of a YAML file, plain data, a scenario, or
            ``module:Class`` of a problem of one's own.

    Returns:
        The scenario, of the model its kind of environment has
        (:data:`archsim.envs.kinds.KINDS`), its relative file names resolved, checked as its
        ``check`` says.

    Raises:
        InputError: Names file, field, what was found and what was expected.
    """
    where: object
    if isinstance(source, BaseScenario):
        scenario, where, folder = source, source.name, None
    elif isinstance(source, Mapping):
        where, folder = "<scenario>", None
        scenario = _validated(dict(source), where)
    elif isinstance(source, str) and ":" in source and not is_file(source):
        where, folder = source, None
        scenario = _validated({"name": source.rpartition(":")[2], "environment": source}, where)
    elif not isinstance(source, (str, Path)):
        raise InputError(
            "no scenario",
            field="scenario",
            found=source,
            expected="a name, a path, plain data, a scenario or a problem",
        )
    else:
        path = _find(source)
        scenario, where, folder = (
            _validated(parse_yaml(read_text(path), path), path),
            path,
            path.parent,
        )
    with error_context(source=where):
        if folder is not None:
            scenario = scenario.resolved(folder)
        scenario.check()
    return scenario


def load_scenario_of(
    model: type[Kindred], source: str | Path | Mapping[str, Any] | BaseScenario
) -> Kindred:
    """Read and check a scenario of one kind of environment.

    Args:
        model: Of its scenarios.
        source: As for :func:`load_scenario`.

    Raises:
        InputError: It is of another kind, or wrong.
    """
    found = load_scenario(source)
    if not isinstance(found, model):
        raise InputError(
            "the scenario is of another environment; archsim.envs.as_problem opens any",
            source=found.name,
            field="environment",
            found=found.environment,
            expected=get_args(model.model_fields["environment"].annotation)[0],
        )
    return found


def _validated(data: Any, source: object) -> BaseScenario:
    named = data.get("environment", DEFAULT) if isinstance(data, Mapping) else DEFAULT
    return validate(data, kind_of(named, source).scenario_model(), source)


def _find(source: str | Path) -> Path:
    if isinstance(source, str) and not is_file(source):
        path = SCENARIOS / f"{source}.yaml"
        if not isfile(path) and not isfile(source):
            known = available_scenarios()
            near = difflib.get_close_matches(source, known, n=3) or known
            raise InputError(
                "no such scenario", found=source, expected=f"a path, or one of {', '.join(near)}"
            )
        return path if isfile(path) else Path(source)
    return Path(source)


def resolved_name(name: str, folder: Path) -> str:
    """A file name made absolute, where it is one of a file in the folder."""
    inside = folder / name
    return str(inside.resolve()) if is_file(name) and isfile(inside) else name
