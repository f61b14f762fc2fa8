"""A scenario opened for exploration: what the store must know, and a copy that stands alone."""

from __future__ import annotations

import hashlib
import json
import platform
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from archsim.explore.records import Layout
from archsim.explore.units import title

#: Written beside every design, after the metrics of the cost model.
SCORES = ("objective", "violation", "feasible")
#: Libraries whose versions are kept with the results.
_LIBRARIES = (
    "numpy",
    "scipy",
    "numba",
    "gymnasium",
    "moocore",
    "optuna",
    "pymoo",
    "cma",
    "torch",
    "stable-baselines3",
    "sb3-contrib",
)


@dataclass(frozen=True)
class Opened:
    """A scenario ready to be explored.

    Attributes:
        problem: Its `archsim.envs.Problem`, or that of another kind of environment.
    """

    problem: Any

    @property
    def scenario(self) -> Any:
        """The checked scenario."""
        return self.problem.scenario

    @property
    def space(self) -> Any:
        """Its design space."""
        return self.problem.space

    @cached_property
    def layout(self) -> Layout:
        """Columns of a stored design."""
        metrics = tuple(name for name in self.problem.metric_names if name not in SCORES)
        return Layout(tuple(self.space.names), metrics + SCORES)

    @cached_property
    def digest(self) -> str:
        """Digest of all that decides a design's numbers: space, objective, what is designed.

        Name, title and run settings are left out: more seeds or a larger budget continue a store.
        """
        text = json.dumps(self.problem.content(), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    @cached_property
    def meta(self) -> dict[str, str]:
        """Text kept in the store, so that results can be read without opening the scenario."""
        spec = self.scenario
        return {
            "name": spec.name,
            "title": spec.title or spec.name,
            "objectives": json.dumps(spec.objective.minimize),
            "limits": json.dumps(dict(spec.objective.limits)),
            "objective_label": self._objective_label(),
            "versions": json.dumps(versions()),
        }

    def _objective_label(self) -> str:
        if self.problem.objective.label:
            return self.problem.objective.label
        scalar = self.scenario.objective.scalar
        names = [title(name).lower() for name in self.scenario.objective.minimize]
        if scalar.kind == "single":
            return title(scalar.metric or self.scenario.objective.minimize[0]).lower()
        if len(names) == 1:
            return names[0]
        mean = "weighted mean" if scalar.kind == "weighted" else "geometric mean"
        return f"{mean} of {', '.join(names[:-1])} and {names[-1]}"

    def evaluate(self, indices: np.ndarray) -> dict[str, np.ndarray]:
        """Every stored column of designs, as float64[B].

        Args:
            indices: int64[B, P] legal index vectors.
        """
        found = self.problem.evaluate(np.asarray(indices, dtype=np.int64))
        return {name: np.asarray(found[name], dtype=np.float64) for name in self.layout.metrics}

    def save(self, directory: Path) -> Path:
        """Write the scenario into a run directory, with the files it refers to.

        Returns:
            The path of the copy, which opens to the same digest wherever the directory is.
        """
        path = directory / "scenario.yaml"
        if path.exists():
            return path
        data = self.problem.portable(directory)
        draft = path.with_suffix(".new")
        draft.write_text(yaml.safe_dump(data, sort_keys=False), encoding="utf-8")
        draft.replace(path)
        return path


def open_problem(scenario: Any) -> Opened:
    """Open a scenario by name or path, or one already loaded."""
    from archsim.envs.problem import as_problem

    return Opened(as_problem(scenario))


def versions() -> dict[str, str]:
    """Versions of Python, of this package and of the libraries that shape results."""
    from importlib.metadata import PackageNotFoundError, version

    import archsim

    found = {"archsim": archsim.__version__, "python": platform.python_version()}
    for name in _LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    found["platform"] = f"{platform.system()} {platform.machine()}"
    return found
