"""Finding workloads: shipped by name, or any model file an importer reads."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from importlib.resources import files
from pathlib import Path

from archsim.errors import InputError
from archsim.workload.batch import rebatch
from archsim.workload.graph import Workload

SUFFIXES = (".yaml", ".yml", ".onnx", ".csv", ".json")


def shipped_folder() -> Path:
    """The folder the shipped workloads lie in."""
    return Path(str(files("archsim") / "workloads"))


def available_workloads() -> tuple[str, ...]:
    """Names of the shipped workloads, sorted."""
    return tuple(sorted(path.stem for path in shipped_folder().glob("*.yaml")))


def load_workload(name_or_path: str | Path, batch: int | None = None) -> Workload:
    """A shipped workload by name, or a model file by path.

    A language model is named with the step wanted of it, ``MODEL:PHASE:CONTEXT``, e.g.
    ``llama-2-7b:decode:4096`` or ``path/config.json:prefill:512``; its layers are written out
    (``archsim.workload.load_model`` gives steps with equal layers folded, and every option).

    Args:
        name_or_path: A name of ``available_workloads()``, or the path of a ``.yaml`` workload (or
            Timeloop problem), ``.onnx`` model or SCALE-Sim ``.csv`` topology.
        batch: Batch to rescale to; None keeps the file's own (one request for language models).

    Raises:
        InputError: No such workload, a malformed file, or a graph whose batch cannot be changed.
    """
    text = str(name_or_path)
    step = language_step(text)
    if step is not None:
        from archsim.workload.fold import unfold
        from archsim.workload.huggingface import load_model

        model, phase, context = step
        return unfold(load_model(model).workload(phase, batch=batch or 1, context=context))
    if isinstance(name_or_path, Path) or text.lower().endswith(SUFFIXES) or "/" in text:
        return import_model(name_or_path, batch)
    names = available_workloads()
    if text not in names:
        _refuse_model(text)
        close = get_close_matches(text, names, 3) or names
        raise InputError(
            "no such workload", found=text, expected="a path, or one of " + ", ".join(close)
        )
    from archsim.workload.yaml_form import load_workload_yaml

    workload = load_workload_yaml(shipped_folder() / f"{text}.yaml")
    return workload if batch is None else rebatch(workload, batch)


def language_step(text: str) -> tuple[str, str, int] | None:
    """Read ``MODEL:PHASE:CONTEXT``; None if the text has no such form.

    Example:
        >>> language_step("llama-2-7b:decode:4096")
        ('llama-2-7b', 'decode', 4096)
    """
    model, _, rest = text.partition(":")
    phase, _, context = rest.partition(":")
    if not model or phase not in ("prefill", "decode"):
        return None
    if not context.isdecimal() or len(context) > 12:
        raise InputError(
            "cannot read the step", found=text, expected="MODEL:PHASE:CONTEXT with a whole number"
        )
    return model, phase, int(context)


def import_model(
    path: str | Path, batch: int | None = None, symbols: Mapping[str, int] | None = None
) -> Workload:
    """Import a model file by its suffix.

    Args:
        path: ``.onnx``; ``.yaml``/``.yml`` (a workload, or a Timeloop problem); ``.csv`` (a
            SCALE-Sim topology).
        batch: Batch wanted; None is 1 for a symbolic ONNX batch, else the file's own.
        symbols: Values of further symbolic dimensions of an ONNX model, e.g. ``{"seq": 128}``.

    Raises:
        InputError: The file is not what its suffix says, or uses something that has no cost.
        MissingExtraError: An ONNX file, and onnx is not installed.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix == ".onnx":
        from archsim.workload.onnx import import_onnx

        return import_onnx(path, batch=batch, symbols=symbols)
    if symbols:
        raise InputError("only ONNX models have symbols", source=path, found=dict(symbols))
    if suffix == ".csv":
        from archsim.workload.scalesim import import_scalesim

        workload = import_scalesim(path)
    elif suffix in (".yaml", ".yml"):
        workload = _read_yaml(path)
    elif suffix == ".json":
        raise InputError(
            "a config of a language model is a workload only with a step of it",
            source=path,
            expected=f"{path}:decode:4096, say (model, phase, context)",
        )
    else:
        raise InputError("unknown kind of model file", source=path, expected=", ".join(SUFFIXES))
    return workload if batch is None else rebatch(workload, batch)


def _refuse_model(text: str) -> None:
    """Say what is missing where the name of a language model stands alone."""
    from archsim.workload.huggingface import available_models

    if text in available_models():
        raise InputError(
            "a language model is a workload only with a step of it",
            found=text,
            expected=f"{text}:decode:4096, say (model, phase, context)",
        )


def _read_yaml(path: Path) -> Workload:
    from archsim.inputs import parse_yaml, read_text, validate
    from archsim.workload.timeloop import problem_from
    from archsim.workload.yaml_form import build
    from archsim.workload.yaml_schema import Document

    data = parse_yaml(read_text(path), path)
    if isinstance(data, dict) and "problem" in data:
        return problem_from(data, path).workload
    return build(validate(data, Document, path), path)
