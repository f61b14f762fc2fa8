"""The problem a scenario of language-model systems poses: hardware, placement and parallelism."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from archsim.envs.llm_scenario import HOME, LLMScenario, is_config, machine_values
from archsim.envs.problem import Metrics, ScenarioProblem, copy_input, log_share
from archsim.envs.scenario import error_context, is_file
from archsim.system.llm.launches import Launches, Roof, launches_of, roof_of
from archsim.system.llm.plan import PLACED, Plan
from archsim.system.llm.resolved import resolved
from archsim.system.llm.rows import DEFAULTS, Plans
from archsim.system.llm.serving import Served, ServedStep, Serving

#: What :func:`step_features` gives, in order.
FEATURES: tuple[str, ...] = (
    "decode_share",
    "parameters",
    "active_share",
    "layers",
    "cache_per_token",
    "batch",
    "context",
    "steps",
)
#: Figures of launches that add up.
_SUMMED = ("macs", "bytes_moved", "latency_s")


class LLMProblem(ScenarioProblem[LLMScenario]):
    """The design problem of a scenario of language-model systems.

    The reference of the objective is the machine as shipped under the scenario's plan.

    Args:
        scenario: An :class:`LLMScenario`, or anything :func:`load_scenario` takes.

    Attributes:
        system: The machine the parameters change.
        metric_names: Metrics of every evaluation, in order (``archsim.system.llm.serving``).
        features: float32[8] in [0, 1], see :func:`step_features`.

    Raises:
        InputError: The scenario is wrong.

    Example:
        >>> problem = LLMProblem("llm_405b_node")
        >>> designs = problem.space.sample(np.random.default_rng(0), 4)
        >>> metrics = problem.evaluate(designs)
        >>> metrics["tpot_s"].shape, bool(np.isfinite(metrics["reward"]).all())
        ((4,), True)
    """

    model = LLMScenario
    environment = "llm_system"
    reference_name = "machine as shipped"
    refusal = "does not fit"

    def open(self, spec: LLMScenario) -> None:
        """Read the machine and the models."""
        from archsim.hardware import load_machine

        self.system = load_machine(spec.machine)
        with error_context(source=spec.name):
            steps = spec.served()
            self.serving = Serving(self.system, steps, spec.numbers(), spec.costs())
            self.metric_names = spec.metric_names()
            plan = Plan.parse(spec.plan)
            given = {name: getattr(plan, name) for name in DEFAULTS}
            self._fixed = {name: ("" if v is None else v) for name, v in given.items()}
        self._widths = {s.bits: at for at, s in enumerate(spec.parameters) if s.bits is not None}
        self._of_bits = {self.serving.bits: self.serving}
        self.features = step_features(steps)

    def reference(self) -> Metrics:
        """Metrics of the machine as shipped."""
        return self._with_quality(self._shipped().metrics, np.array([self.scenario.bits.weight]))

    @property
    def subject(self) -> str:
        """What is designed for what, in words."""
        said = [
            f"{step.model.name} {step.phase} (batch {step.batch}, context {step.context:,})"
            for step in self.serving.steps
        ]
        return f"{', '.join(said)} on {Path(self.scenario.machine).stem}"

    def content(self) -> dict[str, Any]:
        """Plain data that decides every number of a design, for digests."""
        include = {"parameters", "constraints", "objective", "bits", "plan", "data", "expert",
                   "terms"}  # fmt: skip
        found = self.scenario.model_dump(mode="json", include=include)
        if self.scenario.quality is not None:
            found["quality"] = self.scenario.quality.model_dump(mode="json")
        for spec in found["parameters"]:  # as in stores that are older than this field
            if spec["bits"] is None:
                del spec["bits"]
        found["environment"] = self.environment
        found["machine"] = self.system.model_dump(mode="json")
        found["steps"] = [
            [step.label, step.phase, step.batch, step.context, step.new, step.weight,
             step.imbalance, repr(step.model.architecture), _said(step)]
            for step in self.serving.steps
        ]  # fmt: skip
        return found

    def carry(self, data: dict[str, Any], directory: Path) -> None:
        """Copy the machine and the models that are files."""
        if is_file(self.scenario.machine):
            data["machine"] = copy_input(self.scenario.machine, directory)
        for item, step in zip(data["steps"], self.serving.steps, strict=True):
            item["name"] = step.label
            for holder, key, name in (
                (item, "model", step.label),
                (item.get("experts") or {}, "router", f"{step.label}-router"),
            ):
                if is_config(holder.get(key) or ""):
                    holder[key] = copy_input(holder[key], directory, f"{name}.json")

    def evaluate_batch(self, designs: np.ndarray) -> Mapping[str, Any]:
        """Metrics of the systems that designs stand for, and how far they are from possible."""
        served = self.served(designs)
        metrics = {**served.metrics, "violation": served.violation}
        return self._with_quality(metrics, self._bits("weight", designs))

    def _with_quality(self, metrics: Mapping[str, Any], weight_bits: np.ndarray) -> Metrics:
        """Metrics with the published perplexity, where the scenario asks for it."""
        found = dict(metrics)
        if self.scenario.quality is not None:
            model = self.scenario.steps[0].model
            found["perplexity"] = self.scenario.quality.perplexity(model, weight_bits)
        return found

    def _bits(self, name: str, designs: np.ndarray) -> np.ndarray:
        """Bits an element of something, without metadata: float64[B]."""
        if name in self._widths:
            at = self._widths[name]
            return self.space.parameters[at].table[designs[:, at]].astype(np.float64)
        return np.full(len(designs), getattr(self.scenario.bits, name))

    def served(self, indices: np.ndarray) -> Served:
        """Full costs of designs, with what is not possible about them.

        Designs whose numbers have other widths are priced apart; costs of steps are then those of
        the first width.
        """
        designs = np.atleast_2d(self.space.check_indices(indices))
        if not self._widths:
            return self._served(self.serving, designs)
        columns = np.stack([self._bits(name, designs) for name in self._widths], axis=1)
        widths, group_of = np.unique(columns, axis=0, return_inverse=True)
        parts = []
        for group, row in enumerate(widths.tolist()):
            bits = self.scenario.numbers(**dict(zip(self._widths, row, strict=True)))
            if bits not in self._of_bits:
                steps, terms = self.serving.steps, self.serving.terms
                self._of_bits[bits] = Serving(self.system, steps, bits, terms)
            parts.append(self._served(self._of_bits[bits], designs[group_of.ravel() == group]))
        if len(parts) == 1:
            return parts[0]
        back = np.argsort(np.argsort(group_of.ravel(), kind="stable"), kind="stable")
        return _rows(Served.joined(parts), back)

    def _served(self, serving: Serving, designs: np.ndarray) -> Served:
        """Full costs of designs whose numbers have the same widths."""
        found = serving.evaluate(*self._chosen(designs))
        if len(found.violation) == len(designs):
            return found
        at = np.zeros(len(designs), dtype=np.int64)  # nothing but widths is chosen: all are alike
        return _rows(found, at)

    def _chosen(self, designs: np.ndarray) -> tuple[dict[str, Any], dict[str, Any], dict[Any, Any]]:
        """What designs set: values of the machine, columns of the plan, sizes of steps."""
        hardware: dict[str, np.ndarray] = {}
        plan: dict[str, Any] = {}
        sizes: dict[tuple[str, str], np.ndarray] = {}
        pairs = zip(self.scenario.parameters, self.space.parameters, strict=True)
        for place, (spec, parameter) in enumerate(pairs):
            column = parameter.table[designs[:, place]]
            hardware |= machine_values(spec, parameter, designs[:, place])
            if spec.plan is not None:
                plan[spec.plan] = np.where(column == HOME, "", column) if (
                    spec.plan in PLACED
                ) else column  # fmt: skip
            if spec.size is not None:
                sizes |= {(label, spec.size): column for label in self.scenario.labels(spec)}
        return hardware, self._derived(hardware, {**self._fixed, **plan}), sizes

    def _shipped(self) -> Served:
        return self.serving.evaluate({}, self._derived({}, self._fixed))

    def breakdown(self, design: np.ndarray | None) -> dict[str, dict[str, float]]:
        """Where energy, time and area of a design go, for figures.

        Args:
            design: int64[P]; None is the machine as shipped.

        Returns:
            ``energy_j``, ``latency_s`` and ``area_mm2`` by component (time by what binds); each
            sums to the metric of that name.
        """
        return (self._shipped() if design is None else self.served(design)).breakdown(
            [step.weight for step in self.serving.steps]
        )

    def roofline(self, design: np.ndarray | None) -> tuple[Roof, list[Launches]]:
        """What one device launches in all steps, as often as each happens, under its roof.

        Args:
            design: int64[P]; None is the machine as shipped.

        Returns:
            The roof, and the launches of each step (none of compositions of experts, nor where no
            one roof holds, see :func:`archsim.system.llm.launches.launches_of`).
        """
        designs = np.empty((0, 0)) if design is None else np.atleast_2d(design)
        hardware, plan, sizes = (
            ({}, self._derived({}, self._fixed), {}) if design is None else self._chosen(designs)
        )
        widths = {} if design is None else {n: self._bits(n, designs)[0] for n in self._widths}
        ready = resolved(self.system, self.scenario.numbers(**widths), hardware)
        found = []
        for step in self.serving.steps:
            if step.composition is not None:
                continue
            asked = {
                n: np.ravel(sizes.get((step.label, n), getattr(step, n)))[0]
                for n in ("batch", "context")
            }
            prefix = f"{step.label}: " if len(self.serving.steps) > 1 else ""
            for part in launches_of(
                step.model, ready, Plans.of(plan), phase=step.phase, new=step.new,
                imbalance=step.imbalance, **asked,
            ):  # fmt: skip
                often = {n: getattr(part, n) * step.weight for n in _SUMMED}
                found.append(replace(part, name=prefix + part.name, **often))
        return roof_of(ready), found

    def _derived(self, hardware: Mapping[str, Any], plan: Mapping[str, Any]) -> dict[str, Any]:
        """A plan's columns with those that follow from others."""
        from archsim.hardware import resolve_node

        found = dict(plan)
        if "data" in self.scenario.derived:
            groups = {p: v for p, v in hardware.items() if p.startswith("groups.")}
            devices = resolve_node(self.system, groups).devices
            cut = np.asarray(found["tensor"]) * found["pipeline"]
            found["data"] = np.maximum(np.floor(devices / cut), 1.0)
        if "expert" in self.scenario.derived:
            found["expert"] = np.asarray(found["tensor"]) * found["data"]
        return found

    def explain(self, design: np.ndarray) -> str:
        """One design in words: every step's time, limits and memory, and what is not possible."""
        served = self.served(design)
        lines = [step.explain() for step in served.steps]
        lines += [f"impossible: {why}" for why in served.reasons()]
        return "\n".join(lines)


def _rows(served: Served, at: np.ndarray) -> Served:
    """Designs of a batch by row, int64[B]; costs of steps stay those of the first."""
    return replace(
        served,
        metrics={name: column[at] for name, column in served.metrics.items()},
        excess={name: column[at] for name, column in served.excess.items()},
    )


def _said(step: ServedStep) -> list[Any] | None:
    """What of a composition of experts decides numbers."""
    of = step.composition
    if of is None:
        return None
    return [of.experts, of.home, of.tokens, of.skew, of.ahead, repr(of.router.architecture)]


def step_features(steps: tuple[ServedStep, ...]) -> np.ndarray:
    """What an agent may know of the steps, weighted by how often they happen.

    Returns:
        float32[8] in [0, 1], in the order of :data:`FEATURES`: share of decode steps; parameters,
        share active for a token, layers, bytes cached for a token, batch, context and number of
        kinds of steps (logarithms over those of a generous maximum, but the share).
    """
    rows = [
        [
            float(step.phase == "decode"),
            log_share(step.model.parameters, 1e13),
            step.model.active_parameters / step.model.parameters,
            log_share(len(step.model.architecture.layers), 1e3),
            log_share(step.model.architecture.cached_elements_per_token, 1e7),
            log_share(step.batch, 1e6),
            log_share(step.context, 1e8),
            log_share(len(steps), 16.0),
        ]
        for step in steps
    ]
    weights = [step.weight for step in steps]
    return np.average(rows, axis=0, weights=weights).clip(0.0, 1.0).astype(np.float32)


__all__ = ["FEATURES", "LLMProblem", "LLMScenario", "step_features"]
