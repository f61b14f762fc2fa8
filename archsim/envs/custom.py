"""Scenarios of problems of one's own: ``environment: module:Class`` names a class in a module.

As Gymnasium's ``module:Env-v0``, the name is imported from where Python finds modules; no file
that lies beside a scenario or in a run directory is ever executed. A complete file::

    name: mesh
    environment: my_models:Mesh
    arguments: {traffic: 4096}
    objective: {minimize: [latency_s, energy_j], limits: {area_mm2: 6}}
    run: {agents: [random, genetic], seeds: 2, budget: 200}

``objective`` may be left out for that of the class, ``arguments`` where it needs none; constraints
are added to those of the class. The class is an :class:`archsim.envs.problem.DesignProblem`.
"""

from __future__ import annotations

import importlib
import inspect
import json
import re
import sys
from functools import lru_cache
from pathlib import Path
from typing import Any

from pydantic import Field, model_validator

from archsim.envs.objective import Objective
from archsim.envs.scenario import BaseScenario, ObjectiveSpec, error_context
from archsim.errors import InputError
from archsim.space import DesignSpace

#: ``module:Class``, both dotted.
ENTRY = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")


class CustomScenario(BaseScenario):
    """An exploration of a problem of one's own."""

    environment: str = Field(pattern=f"^{ENTRY.pattern}$")
    arguments: dict[str, Any] = Field(default_factory=dict, description="of the class, plain data")
    parameters: tuple[()] = Field((), description="those of the class")
    objective: ObjectiveSpec

    @model_validator(mode="before")
    @classmethod
    def _class_says_what_is_wanted(cls, data: Any) -> Any:
        if isinstance(data, dict) and data.get("objective") is None:
            name, arguments = data.get("environment"), data.get("arguments") or {}
            if isinstance(name, str) and isinstance(arguments, dict) and ENTRY.fullmatch(name):
                made = _made(_class_of(name), _plain(arguments))
                data = {**data, "objective": _objective_data(made.wanted)}
        return data

    def problem(self) -> Any:
        """The problem.

        Raises:
            InputError: There is no such class, or it does not take the arguments.
        """
        return _made(_class_of(self.environment), _plain(self.arguments)).explored_as(self)

    def build_space(self) -> DesignSpace:
        """The design space.

        Raises:
            InputError: The problem cannot be made.
        """
        return self.problem().space

    def metric_names(self) -> tuple[str, ...]:
        """Metrics its cost model gives."""
        return self.problem().metric_names

    def resolved(self, folder: Path) -> CustomScenario:
        """Itself: it names no files."""
        return self

    def check(self) -> None:
        """Make the problem, which checks everything.

        Raises:
            InputError: The first thing wrong.
        """
        self.problem()


def open_custom(scenario: CustomScenario) -> Any:
    """The problem of a scenario."""
    return scenario.problem()


def scenario_of(problem: Any) -> CustomScenario:
    """The scenario that another process opens to the same problem.

    Args:
        problem: A :class:`archsim.envs.problem.DesignProblem` of one's own.

    Raises:
        InputError: Its class cannot be imported, it was not made with plain data, or it has an
            objective of a class of its own.
    """
    name = problem.environment
    if name.startswith("__main__:") or not ENTRY.fullmatch(name):
        raise InputError(
            "another process cannot import the class; put it at the top of a module",
            field="environment", found=name,
        )  # fmt: skip
    if _class_of(name) is not type(problem):
        raise InputError("another class has this name", field="environment", found=name)
    if type(problem.wanted) is not Objective:
        raise InputError(
            "a scenario cannot describe an objective of another class",
            field="objective", found=type(problem.wanted).__name__,
        )  # fmt: skip
    data = {
        "name": type(problem).__name__,
        "environment": name,
        "arguments": json.loads(_plain(problem.arguments)),
        "objective": _objective_data(problem.wanted),
    }
    return CustomScenario.model_validate(data)


def _objective_data(wanted: Objective) -> dict[str, Any]:
    return {
        "minimize": list(wanted.minimize),
        "limits": dict(wanted.limits),
        "scalar": {
            "kind": wanted.kind,
            "metric": wanted.metric,
            "weights": dict(wanted.weights),
            "references": dict(wanted.references),
        },
    }


def _plain(arguments: Any) -> str:
    """Arguments as text, equal for equal ones."""
    try:
        return json.dumps(dict(arguments), sort_keys=True, allow_nan=False)
    except (TypeError, ValueError):
        raise InputError(
            "a problem that others open is made with plain data",
            field="arguments", found=dict(arguments), expected="numbers, text, lists, mappings",
        ) from None  # fmt: skip


@lru_cache(maxsize=16)
def _made(kind: Any, arguments: str) -> Any:
    with error_context(field="arguments"):
        given = json.loads(arguments)
        try:
            inspect.signature(kind).bind(**given)
        except TypeError as error:
            raise InputError(f"the class does not take these: {error}", found=given) from None
        return kind(**given)


def _class_of(name: str) -> Any:
    """The class behind ``module:Class``.

    Raises:
        InputError: There is none, or it is no problem.
    """
    module, _, path = name.partition(":")
    try:
        found: Any = importlib.import_module(module)
    except Exception as error:  # whatever a module does when it is loaded
        why = f"{type(error).__name__}: {error}"
        if isinstance(error, ModuleNotFoundError) and module.startswith(error.name or "?"):
            why += "; set PYTHONPATH to the folder of the module"
        raise InputError(
            f"the module cannot be imported: {why}", field="environment", found=name
        ) from error
    for part in path.split("."):
        found = getattr(found, part, None)
    if not isinstance(found, type) or not hasattr(found, "explored_as"):
        raise InputError(
            "no problem of this name there", field="environment", found=name,
            expected="a subclass of archsim.envs.DesignProblem",
            source=getattr(sys.modules.get(module), "__file__", None),
        )  # fmt: skip
    return found


__all__ = ["CustomScenario", "open_custom", "scenario_of"]
