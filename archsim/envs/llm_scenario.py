"""Scenarios of language-model systems: which steps are served, and what of the system is chosen."""

from __future__ import annotations

from os.path import isfile  # false, no error, for a name no file can have
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import Field, field_validator, model_validator

from archsim.envs.scenario import (
    BaseScenario,
    Number,
    ValuesSpec,
    checked_places,
    error_context,
    is_file,
    resolved_name,
)
from archsim.errors import InputError
from archsim.hardware.dot_product import WEIGHT_FORMATS
from archsim.inputs import Strict
from archsim.space import Parameter
from archsim.space.parameter import Role
from archsim.system.llm.experts import Composition
from archsim.system.llm.plan import DEGREES, PLACED, Plan
from archsim.system.llm.rows import DEFAULTS
from archsim.system.llm.serving import ServedStep, Terms, metric_names
from archsim.workload import available_models
from archsim.workload.quality import perplexity, published_models
from archsim.workload.steps import Bits

#: Where a tensor lies that is in no other tier: with the engine.
HOME = "home"
SIZES = ("batch", "context")
#: What a parameter may set, one of them.
TARGETS = ("path", "plan", "size", "bits")


class ExpertsSpec(Strict):
    """A composition: equal experts behind a router (``model`` is every expert's)."""

    count: int = Field(ge=1, le=100_000, description="experts")
    home: str = Field(min_length=1, description="tier that holds all of them")
    router: str | None = Field(None, min_length=1, description="its model; default the experts'")
    tokens: int = Field(20, ge=1, le=4096, description="answered to each prompt")
    skew: float = Field(0.0, ge=0, le=10, description="asked for as rank^-skew; 0 is alike")
    ahead: bool = Field(False, description="the next expert is copied while one runs")


class StepSpec(Strict):
    """One kind of step that is served."""

    model: str = Field(min_length=1, description="shipped model, or config relative to the file")
    phase: Literal["prefill", "decode", "experts"] = Field(
        "decode", description="experts: a batch of prompts to a composition of experts"
    )
    batch: int = Field(1, ge=1, le=2**20, description="requests")
    context: int = Field(4096, ge=1, le=2**24, description="tokens in each one's cache afterwards")
    new: int | None = Field(None, ge=1, le=2**24, description="new tokens; default by phase")
    weight: float = Field(1.0, gt=0, le=1e9, description="how often it happens in the mix")
    imbalance: float = Field(1.0, ge=1, le=1e3, description="load of the fullest group of experts")
    name: str | None = Field(None, pattern=r"^[A-Za-z][A-Za-z0-9_-]{0,39}$", description="label")

    experts: ExpertsSpec | None = Field(None, description="of phase experts")

    @model_validator(mode="after")
    def _experts_are_said(self) -> StepSpec:
        if (self.phase == "experts") != (self.experts is not None):
            raise ValueError("phase experts, and only that, says which experts")
        if self.experts is not None and self.new is not None:
            raise ValueError("a prompt to experts is read whole: its context")
        return self

    @property
    def label(self) -> str:
        """Its name in metrics; default model and phase."""
        stem = Path(self.model).stem if is_config(self.model) else self.model
        return self.name or f"{stem.replace('.', '_')}-{self.phase}"


class BitsSpec(Strict):
    """Bits an element by what it is."""

    weight: float = Field(16.0, gt=0, le=64)
    activation: float = Field(16.0, gt=0, le=64)
    kv: float = Field(16.0, gt=0, le=64)


class QualitySpec(Strict):
    """How the weights are quantised: published perplexity becomes a metric.

    The figures hold for weights alone (``archsim.workload.quality``), so activations and caches
    keep 16 bits.
    """

    format: Literal[WEIGHT_FORMATS] = Field(description="number format below 16 bits")  # type: ignore[valid-type]
    group_size: int = Field(128, ge=1, le=2**20, description="weights that share metadata")
    metadata_bits: float = Field(
        16.0, ge=0, le=1024, description="of a group, stored beside its weights below 16 bits"
    )
    corpus: Literal["wikitext2", "c4"] = "wikitext2"

    def perplexity(self, model: str, bits: Any) -> np.ndarray:
        """Published perplexity at bits of a weight, array [B]; NaN where there is none."""
        return perplexity(model, self.format, bits, self.group_size, self.corpus)

    def stored_bits(self, bits: float) -> float:
        """Bits of a weight with its share of the group's metadata."""
        return bits + (self.metadata_bits / self.group_size if bits < 16 else 0.0)


class TermsSpec(Strict):
    """What running the system costs."""

    years: float = Field(4.0, gt=0, le=100, description="lifetime")
    usd_per_kwh: float = Field(0.10, ge=0, le=100)
    grid_g_per_kwh: float = Field(380.0, ge=0, le=1e5, description="g CO2e a kWh")
    pue: float = Field(1.2, ge=1, le=10, description="power at the wall over that of the machine")


class ChoiceSpec(ValuesSpec):
    """One parameter: a value of the machine, of the plan, a size of the steps, or a width."""

    path: str | tuple[str, ...] | dict[str, Number] | None = Field(
        None, description="dotted machine path(s), or by path what one unit is worth there"
    )
    plan: Literal[tuple(DEFAULTS)] | None = Field(None, description="field of the plan")  # type: ignore[valid-type]
    size: Literal["batch", "context"] | None = Field(None, description="of the steps")
    bits: Literal["weight", "activation", "kv"] | None = Field(
        None, description="bits an element of these"
    )
    steps: tuple[str, ...] = Field((), description="labels the size is of; default all")
    scale: Number = Field(1, gt=0, description="machine value = value x scale")
    role: Role
    ordered: bool | None = None
    log: bool = False

    @model_validator(mode="after")
    def _one_target(self) -> ChoiceSpec:
        if sum(getattr(self, target) is not None for target in TARGETS) != 1:
            raise ValueError(f"a parameter sets one of: {', '.join(TARGETS)}")
        if self.scale != 1 and self.path is None:
            raise ValueError("only values of the machine are scaled")
        if self.steps and self.size is None:
            raise ValueError("only a size belongs to steps")
        return self

    @property
    def paths(self) -> dict[str, float]:
        """What one unit is worth, by machine path."""
        if self.path is None:
            return {}
        if isinstance(self.path, dict):
            return {path: float(worth * self.scale) for path, worth in self.path.items()}
        names = (self.path,) if isinstance(self.path, str) else self.path
        return dict.fromkeys(names, float(self.scale))

    def build(self) -> Parameter:
        """The parameter of the design space.

        Raises:
            InputError: Its values do not make a parameter, or none of what it sets.
        """
        parameter = self.parameter(role=self.role, ordered=self.ordered, log=self.log)
        wanted = self._kinds()
        if parameter.kind not in wanted:
            raise InputError(
                "not values of what it sets", field=self.name, found=parameter.values[:4],
                expected=" or ".join(wanted),
            )  # fmt: skip
        whole = self.size is not None or self.plan in DEGREES.values()
        if whole and any(v < 1 or v != int(v) for v in parameter.values):  # type: ignore[operator,arg-type]
            raise InputError(
                "must be positive whole numbers", field=self.name, found=parameter.values[:4]
            )
        if self.bits is not None:
            with error_context(field=self.name):
                for value in parameter.values:
                    Bits(**{self.bits: value})  # type: ignore[arg-type]
        if self.plan is not None and self.plan.endswith("_share"):
            outside = [v for v in parameter.values if not 0 <= v <= 1]  # type: ignore[operator]
            if outside:
                raise InputError("must be a share", field=self.name, found=outside[0])
        return parameter

    def _kinds(self) -> tuple[str, ...]:
        """Kinds of values that what it sets takes."""
        if self.plan is None:
            return ("number",) if self.size or self.bits else ("number", "string", "boolean")
        default = DEFAULTS[self.plan]
        return ("string",) if default is None else ("boolean",) if default is False else ("number",)


class LLMScenario(BaseScenario):
    """An exploration of systems that serve language models."""

    environment: Literal["llm_system"]
    machine: str = Field(min_length=1, description="shipped name, or file relative to the scenario")
    steps: tuple[StepSpec, ...] = Field(min_length=1, max_length=16)
    bits: BitsSpec = BitsSpec.model_validate({})
    quality: QualitySpec | None = Field(None, description="how weights are quantised")
    plan: str = Field("tp1", max_length=200, description="what no parameter sets of the plan")
    data: Literal["given", "rest"] = Field(
        "given", description="rest: groups of requests on all devices left by tensor and pipeline"
    )
    expert: Literal["given", "group"] = Field(
        "given", description="group: experts dealt out over all devices of a stage"
    )
    terms: TermsSpec = TermsSpec.model_validate({})
    parameters: tuple[ChoiceSpec, ...] = Field(min_length=1, max_length=256)

    @field_validator("steps")
    @classmethod
    def _labels_once(cls, steps: tuple[StepSpec, ...]) -> tuple[StepSpec, ...]:
        labels = [step.label for step in steps]
        for label in labels:
            if labels.count(label) > 1:
                raise ValueError(f"two steps are called {label!r}; give them a name")
        return steps

    def targets(self, spec: ChoiceSpec) -> list[str]:
        """What it sets: paths, a field of the plan, a size of steps, or bits.

        Raises:
            InputError: It sets what the scenario derives.
        """
        if spec.plan in self.derived:
            raise InputError(f"the scenario derives {spec.plan}", found=spec.plan)
        sizes = self.labels(spec) if spec.size else ()
        plan = [f"plan {spec.plan}"] if spec.plan else []
        width = [f"bits {spec.bits}"] if spec.bits else []
        return [*spec.paths, *plan, *width, *(f"{label} {spec.size}" for label in sizes)]

    @property
    def derived(self) -> tuple[str, ...]:
        """Fields of the plan that follow from others."""
        rules = {"data": self.data == "rest", "expert": self.expert == "group"}
        return tuple(name for name, follows in rules.items() if follows)

    def labels(self, spec: ChoiceSpec) -> tuple[str, ...]:
        """Steps a size belongs to.

        Raises:
            InputError: There is no such step.
        """
        known = tuple(step.label for step in self.steps)
        for label in spec.steps:
            if label not in known:
                raise InputError(
                    "no such step", field="steps", found=label, expected=", ".join(known)
                )
        return spec.steps or known

    def metric_names(self) -> tuple[str, ...]:
        """Metrics its cost model gives."""
        names = metric_names([s.phase for s in self.steps], [s.label for s in self.steps])
        return (*names, "perplexity") if self.quality else names

    def resolved(self, folder: Path) -> LLMScenario:
        """Itself with the names of files in a folder made absolute."""
        steps = tuple(
            step.model_copy(
                update={
                    "model": _config(step.model, folder),
                    "name": step.label,
                    "experts": step.experts
                    and step.experts.model_copy(
                        update={
                            "router": step.experts.router and _config(step.experts.router, folder)
                        }
                    ),
                }
            )
            for step in self.steps
        )
        machine = resolved_name(self.machine, folder)
        return self.model_copy(update={"steps": steps, "machine": machine})

    def served(self) -> tuple[ServedStep, ...]:
        """The steps with their models read.

        Raises:
            InputError: A model cannot be read, or a step makes no sense.
        """
        from archsim.workload import load_model

        found = []
        for step in self.steps:
            with error_context(field=f"steps.{step.label}"):
                model = load_model(step.model)
                if step.phase == "decode" and not model.architecture.causal:
                    raise InputError("an encoder does not decode", field="phase")
                new = step.new or (step.context if step.phase == "prefill" else 1)
                if new > step.context:
                    raise InputError("the context includes the new tokens", field="context")
                composition = None
                if step.experts is not None:
                    said = step.experts
                    router = model if said.router is None else load_model(said.router)
                    composition = Composition(
                        model, router, said.count, said.home, step.context, said.tokens, said.skew,
                        said.ahead,
                    )  # fmt: skip
            found.append(
                ServedStep(
                    step.label, model, step.phase, step.batch, step.context, step.new, step.weight,
                    step.imbalance, composition,
                )
            )  # fmt: skip
        return tuple(found)

    def numbers(self, **chosen: float) -> Bits:
        """Bits an element as stored; those that are not chosen as the scenario says."""
        found = {**self.bits.model_dump(), **chosen}
        if self.quality is not None:
            found["weight"] = self.quality.stored_bits(found["weight"])
        return Bits(**found)

    def costs(self) -> Terms:
        """What running the system costs."""
        return Terms(**self.terms.model_dump())

    def check(self) -> None:
        """Check everything that can be checked without evaluating a design.

        Raises:
            InputError: The first thing wrong.
        """
        from archsim.hardware import load_machine

        for step in self.steps:
            with error_context(field=f"steps.{step.label}.model"):
                for name in {step.model, (step.experts and step.experts.router) or step.model}:
                    _check_model(name)
        with error_context(field="objective"):
            self.objective.build().check_metrics(self.metric_names())
        with error_context(field="plan"):
            Plan.parse(self.plan)
        with error_context(field="quality"):
            self._check_quality()
        space = self.build_space()
        with error_context(field="machine"):
            machine = load_machine(self.machine)
        for step in self.steps:
            if step.experts is not None:
                with error_context(field=f"steps.{step.label}.experts"):
                    machine.item("tiers", step.experts.home)
        for spec, parameter in zip(self.parameters, space.parameters, strict=True):
            with error_context(field=f"parameters.{parameter.name}"):
                self._check_values(spec, parameter, machine)

    def _check_quality(self) -> None:
        """See that the quality of every choice is published.

        Raises:
            InputError: It is not.
        """
        if self.quality is None:
            return
        chosen = {spec.bits: spec for spec in self.parameters if spec.bits is not None}
        for name in ("activation", "kv"):
            if name in chosen or getattr(self.bits, name) != 16:
                raise InputError(
                    "the published figures are of weights alone", field=f"bits.{name}",
                    found=getattr(self.bits, name), expected="16, without a parameter for it",
                )  # fmt: skip
        models = sorted({step.model for step in self.steps})
        if len(models) > 1:
            raise InputError("perplexities of models cannot be compared", found=models)
        wanted = chosen["weight"].build().table if "weight" in chosen else [self.bits.weight]
        known = [b for b in range(1, 17) if np.isfinite(self.quality.perplexity(models[0], b))]
        for bits in wanted:
            if bits not in known:
                raise InputError(
                    f"no published perplexity of {models[0]} in this format at these bits",
                    field="bits.weight", found=float(bits),
                    expected=", ".join(map(str, known)) or f"one of {published_models()}",
                )  # fmt: skip

    def _check_values(self, spec: ChoiceSpec, parameter: Parameter, machine: Any) -> None:
        """Try values on the machine: of more than so many that many, both ends included."""
        if spec.plan in PLACED:
            for name in parameter.values:
                if name != HOME:
                    machine.item("tiers", str(name))
        if spec.size == "context" and any(s.experts for s in self.steps):
            raise InputError("the prompts of experts have one length", field="size")
        new = [s.new or 1 for s in self.steps if s.label in self.labels(spec)]
        if spec.size == "context" and parameter.table.min() < max(new):
            raise InputError(
                "the context includes the new tokens", found=int(parameter.table.min()),
                expected=f"at least {max(new)}",
            )  # fmt: skip
        for at in checked_places(parameter) if spec.paths else ():
            machine.with_values(machine_values(spec, parameter, at))


def machine_values(spec: ChoiceSpec, parameter: Parameter, index: Any) -> dict[str, Any]:
    """What each machine path gets of a parameter: plain for an index, arrays for int64[B]."""
    if isinstance(index, int):
        value = parameter.values[index]
        if parameter.kind != "number":
            return dict.fromkeys(spec.paths, value)
        return {path: _plain(value * worth) for path, worth in spec.paths.items()}  # type: ignore[operator]
    column = parameter.table[index]
    if parameter.kind != "number":
        return dict.fromkeys(spec.paths, column)
    return {path: column * worth for path, worth in spec.paths.items()}


def _plain(value: Any) -> Any:
    """Whole numbers as such, as fields that count want them."""
    return int(value) if float(value).is_integer() and abs(value) < 2**53 else value


def is_config(name: str) -> bool:
    """Whether a model in a scenario is a file rather than a shipped one."""
    return is_file(name) or name.endswith(".json")


def _config(name: str, folder: Path) -> str:
    inside = folder / name
    return str(inside.resolve()) if is_config(name) and isfile(inside) else name


def _check_model(name: str) -> None:
    if is_config(name):
        if not isfile(name):
            raise InputError("no such file", found=name)
    elif name not in available_models():
        import difflib

        known = available_models()
        near = difflib.get_close_matches(name, known, n=3) or known
        raise InputError(
            "no such model", found=name, expected=f"a config.json, or one of {', '.join(near)}"
        )
