"""What can be explored: a design space, a cost model and an objective behind one batch function.

An environment for a cost model of one's own is one small class, a :class:`DesignProblem`: its
parameters, the names of its metrics, what is wanted of them, and a function that evaluates a batch
of designs. Everything else follows from it:

>>> import gymnasium as gym
>>> from archsim.envs import DesignProblem, Objective, parallel_env
>>> from archsim.space import Parameter
>>> class Mesh(DesignProblem):
...     '''A mesh of routers for all-to-all traffic.'''
...
...     space = DesignSpace(
...         [
...             Parameter("nodes", (16, 64, 256), role="compute"),
...             Parameter("link_bits", (32, 64, 128), role="interconnect"),
...         ],
...         ["nodes * link_bits <= 16384"],
...     )
...     metric_names = ("latency_s", "energy_j", "area_mm2")
...     objective = Objective(("latency_s", "energy_j"), limits={"area_mm2": 1.5})
...
...     def evaluate_batch(self, designs):
...         values = self.space.decode(designs)
...         hops = 2 / 3 * np.sqrt(values["nodes"])
...         return {
...             "latency_s": 1e-9 * (3 * hops + 4096 / values["link_bits"]),
...             "energy_j": 1e-12 * 4096 * hops,
...             "area_mm2": 1e-4 * values["nodes"] * values["link_bits"],
...         }
>>> env = gym.make("archsim/Design-v0", scenario=Mesh())
>>> observation, info = env.reset(seed=0)
>>> observation, reward, terminated, truncated, info = env.step([0, 2])  # 16 nodes, 128 bits
>>> info["feasible"], reward > 0.5  # better than the middle of the space
(True, True)
>>> parallel_env(Mesh()).team  # agents by the roles of the parameters
{'compute': ('nodes',), 'interconnect': ('link_bits',)}

``archsim/DesignStepwise-v0``, the vector environments, the recorder, the learned proxy and all
agents take it as it is. Where the class lies in a module that can be imported,
``archsim run my_models:Mesh`` explores it in processes of their own, with store, resume, tables,
figures and report, and a scenario file names it by ``environment: my_models:Mesh``
(:mod:`archsim.envs.custom`).
"""

from __future__ import annotations

import copy
import inspect
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Generic, Protocol, Self, runtime_checkable

import numpy as np

from archsim.envs.custom import scenario_of
from archsim.envs.kinds import kind_of
from archsim.envs.objective import SCORES, Objective
from archsim.envs.scenario import (
    BaseScenario,
    Kindred,
    error_context,
    load_scenario,
    load_scenario_of,
)
from archsim.errors import InputError
from archsim.space import DesignSpace

Metrics = dict[str, np.ndarray]


@runtime_checkable
class SupportsEvaluation(Protocol):
    """What an environment needs of a problem; any cost model can stand behind it."""

    space: DesignSpace
    objective: Objective
    metric_names: tuple[str, ...]
    features: np.ndarray

    def evaluate(self, indices: np.ndarray) -> Metrics:
        """Metrics, ``feasible``, ``violation``, ``objective``, ``reward`` of int64[B, P] legal
        designs, each an array [B]."""


class DesignProblem(ABC):
    """A design problem; subclass it for a cost model of one's own, see the module.

    A subclass gives ``space``, ``metric_names`` and ``objective``, as class attributes or in an
    ``__init__`` (with plain data as arguments) that ends with ``super().__init__()``, and
    :meth:`evaluate_batch`. The other attributes may be given too.

    Attributes:
        space: The design space.
        metric_names: Metrics of every evaluation, in order. Names end in their SI unit
            (``latency_s``, ``energy_j``, ``area_mm2``), which figures and tables show.
        objective: What is wanted. References that are not given become the metrics of the
            reference design, so a reward above 1/2 beats it.
        reference_design: Value by parameter of the design others are compared with; those not
            named have the middle of their values.
        reference_metrics: Its metrics.
        reference_name: What the reference is, in reports.
        features: float32[F] in [0, 1], what agents may know of the workload; none unless given.
        refusal: Why a design that keeps its limits is infeasible, in reports.
        environment: Kind of its scenarios (:mod:`archsim.envs.kinds`); ``module:Class`` of a
            problem of one's own.
        arguments: What it was made with, by name.

    Raises:
        InputError: An attribute is missing or wrong, or the metrics are not what was promised.
    """

    space: DesignSpace
    objective: Objective
    metric_names: tuple[str, ...]
    features: np.ndarray = np.zeros(0, dtype=np.float32)
    reference_design: Mapping[str, Any] = {}
    reference_name = "reference design"
    refusal = "is not possible"
    environment: str = ""
    arguments: Mapping[str, Any]
    reference_metrics: dict[str, float]
    #: The objective before references were filled in.
    wanted: Objective
    _scenario: Any = None

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if not cls.environment or ":" in cls.environment:
            cls.environment = f"{cls.__module__}:{cls.__qualname__}"

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        made = super().__new__(cls)
        # so that another process can make the same problem
        made.arguments = _bound(cls, args, kwargs)
        return made

    def __init__(self) -> None:
        for name in ("space", "metric_names", "objective"):
            if not hasattr(self, name):
                raise InputError("a problem needs it", source=type(self).__name__, field=name)
        self.metric_names = tuple(self.metric_names)
        for name in self.metric_names:
            if name in SCORES or not name.replace(".", "_").isidentifier():
                raise InputError("not a name for a metric", field="metric_names", found=name)
        with error_context(source=type(self).__name__):
            self._settle(self.objective)

    def _settle(self, wanted: Objective) -> None:
        """Take an objective; the reference design fills in what it leaves open."""
        wanted.check_metrics(self.metric_names)
        found = self.reference()
        self.reference_metrics = {name: float(found[name][0]) for name in self.metric_names}
        self.wanted, self.objective = wanted, wanted.with_default_references(self.reference_metrics)

    @abstractmethod
    def evaluate_batch(self, designs: np.ndarray) -> Mapping[str, Any]:
        """Metrics of a batch of designs.

        Args:
            designs: int64[B, P] index vectors of legal designs; ``self.space.decode(designs)`` are
                the values, an array [B] by parameter.

        Returns:
            Array [B], or one number for all, by metric: every one of ``metric_names``, finite.
            Also ``feasible`` (bool) or ``violation`` (0, or how far a design is from possible; the
            logarithm of asked over had is a good measure) where not every design is possible. A
            design costs the same in every batch.
        """

    def reference(self) -> Metrics:
        """Metrics of the design others are compared with, arrays [1]."""
        middle = (self.space.cardinalities - 1) // 2
        for name, value in self.reference_design.items():
            if name not in self.space.names:
                raise InputError("unknown parameter", field="reference_design", found=name)
            at = self.space.names.index(name)
            middle[at] = self.space.parameters[at].index_of(value)
        return self._measured(self.space.repair(middle)[None])

    def evaluate(self, indices: np.ndarray) -> Metrics:
        """Evaluate legal designs.

        Args:
            indices: int64[B, P] index vectors.

        Returns:
            Array [B] by name: every metric (SI units, see the suffix), ``feasible`` (bool),
            ``violation`` (>= 0), ``objective`` and ``reward``, see
            :mod:`archsim.envs.objective`.
        """
        if not hasattr(self, "reference_metrics"):
            raise InputError("__init__ must end with super().__init__()", source=repr(type(self)))
        metrics = self._measured(self.space.check_indices(np.atleast_2d(indices)))
        metrics.update(self.objective.score(metrics))
        return metrics

    def _measured(self, designs: np.ndarray) -> Metrics:
        """Metrics of a batch, of the promised names and shapes."""
        found = dict(self.evaluate_batch(designs))
        shape = (len(designs),)
        for name in self.metric_names:
            if name not in found:
                raise InputError("evaluate_batch gives no such metric", field=name)
        for name, column in found.items():
            if not isinstance(column, np.ndarray) or column.shape != shape:
                found[name] = _column(name, column, shape)
        return found

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.space!r})"

    @property
    def subject(self) -> str:
        """What is designed for what, in words."""
        return (inspect.getdoc(type(self)) or type(self).__name__).splitlines()[0].rstrip(".")

    @property
    def scenario(self) -> Any:
        """The scenario another process opens to the same problem.

        Raises:
            InputError: The class cannot be imported, or was not made with plain data.
        """
        return self._scenario or scenario_of(self)

    def explored_as(self, scenario: Any) -> Self:
        """The same problem as a scenario poses it: its objective, and its further constraints.

        Raises:
            InputError: They do not fit the problem.
        """
        made = copy.copy(self)
        made._scenario = scenario
        if scenario.constraints:
            rules = [*(rule.text for rule in self.space.constraints), *scenario.constraints]
            made.space = DesignSpace(self.space.parameters, rules)
        with error_context(source=scenario.name, field="objective"):
            made._settle(scenario.objective.build())
        return made

    def content(self) -> dict[str, Any]:
        """Plain data that decides every number of a design, for digests."""
        spec = self.scenario.model_dump(mode="json", include={"arguments", "objective"})
        return {
            **spec,
            "environment": self.environment,
            "metrics": list(self.metric_names),
            "parameters": [
                [p.name, list(p.values), p.role, p.ordered, p.log] for p in self.space.parameters
            ],
            "constraints": [rule.text for rule in self.space.constraints],
        }

    def portable(self, directory: Path) -> dict[str, Any]:
        """The scenario as data that stands alone in a directory.

        Args:
            directory: Files the scenario refers to are copied to its folder ``inputs``.
        """
        data: dict[str, Any] = self.scenario.model_dump(mode="json", exclude_defaults=True)
        self.carry(data, directory)
        return data

    def carry(self, data: dict[str, Any], directory: Path) -> None:  # noqa: B027 (none, by default)
        """Copy the files that a scenario refers to into a directory, and name the copies."""


class ScenarioProblem(DesignProblem, Generic[Kindred]):
    """The problem a kind of scenario poses; a subclass names the model and opens the rest.

    Args:
        scenario: A scenario of that kind, or anything
            :func:`archsim.envs.scenario.load_scenario` takes.

    Attributes:
        model: Model of the scenarios.
        scenario: The checked scenario.

    Raises:
        InputError: The scenario is wrong.
    """

    model: ClassVar[type[BaseScenario]]

    def __init__(self, scenario: str | Path | Mapping[str, Any] | BaseScenario) -> None:
        self._scenario = load_scenario_of(self.model, scenario)
        self.space = self.scenario.build_space()
        self.open(self.scenario)
        with error_context(source=self.scenario.name):
            self._settle(self.scenario.objective.build())

    @property
    def scenario(self) -> Kindred:
        """The checked scenario."""
        return self._scenario

    @abstractmethod
    def open(self, spec: Kindred) -> None:
        """Read what the scenario names; sets ``metric_names`` and ``features``."""

    @abstractmethod
    def reference(self) -> Metrics:
        """Metrics of what designs are compared with, arrays [1]."""

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.scenario.name!r}, {self.space!r})"


def _bound(cls: type, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    """The arguments of a class by name; none where they do not fit, as ``__init__`` will say."""
    try:
        return dict(inspect.signature(cls).bind(*args, **kwargs).arguments)
    except (TypeError, ValueError):
        return {}


def _column(name: str, given: Any, shape: tuple[int, ...]) -> np.ndarray:
    """A metric as an array [B].

    Raises:
        InputError: It is none, and no number for all designs.
    """
    try:
        column = np.asarray(given)
        if column.dtype.kind in "biuf":
            return np.array(np.broadcast_to(column, shape))
    except ValueError:
        pass
    raise InputError(
        "evaluate_batch gives something else than one number a design",
        field=name, found=np.shape(given) or given, expected=f"an array of shape {shape}",
    )  # fmt: skip


def copy_input(path: str, directory: Path, name: str | None = None) -> str:
    """Copy a file into the folder ``inputs`` of a directory; its name relative to the latter."""
    inputs = directory / "inputs"
    inputs.mkdir(exist_ok=True)
    name = name or Path(path).name
    (inputs / name).write_bytes(Path(path).read_bytes())
    return f"inputs/{name}"


def as_problem(source: Any) -> Any:
    """A problem as it is, or the problem of a scenario, by its kind of environment.

    Args:
        source: Something that supports evaluation (:class:`SupportsEvaluation`), or anything
            :func:`archsim.envs.scenario.load_scenario` takes.

    Raises:
        InputError: The scenario is wrong.
    """
    if not isinstance(source, (str, Path, Mapping, BaseScenario)) and isinstance(
        source, SupportsEvaluation
    ):
        return source
    scenario = load_scenario(source)
    return kind_of(scenario.environment).problem_class()(scenario)


def log_share(value: float, most: float) -> float:
    """A logarithm over that of a generous maximum, as features are told; 0 for 0, 1 for most."""
    return float(np.log1p(value) / np.log1p(most))
