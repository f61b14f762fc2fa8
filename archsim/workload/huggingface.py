"""Language models from a Hugging Face ``config.json`` (a local file), and those that ship.

Nothing is downloaded and no code of a model runs: a config is facts, read strictly (see
``huggingface_config``) by the family its ``model_type`` names (see ``huggingface_families``).
"""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from pydantic import Field

from archsim.errors import InputError
from archsim.inputs import Strict, load_yaml
from archsim.workload.huggingface_config import Fields, read_config
from archsim.workload.huggingface_families import FAMILIES
from archsim.workload.language import LanguageModel

#: Folder of the shipped models, inside that of the shipped workloads.
FOLDER = "language"


class ModelFile(Strict):
    """A shipped model: a config's facts and where they come from.

    Attributes:
        source: Where the facts are published.
        published: Figures published for the model, to compare with.
        config: Fields of its ``config.json``.
    """

    source: str = Field(min_length=1, max_length=4000)
    published: dict[str, float] = Field(default_factory=dict)
    config: dict[str, Any]


def model_folder() -> Path:
    """The folder the shipped models lie in."""
    return Path(str(files("archsim") / "workloads" / FOLDER))


@cache
def available_models() -> tuple[str, ...]:
    """Names of the shipped language models, sorted."""
    return tuple(sorted(path.stem for path in model_folder().glob("*.yaml")))


def model_of(
    config: Mapping[str, Any], name: str, source: object = "<config>", prefix: str = ""
) -> LanguageModel:
    """The model a config describes.

    Args:
        config: The fields of a ``config.json``.
        name: Name to give the model.
        source: File named in errors.
        prefix: Where in that file the config stands, e.g. ``config.``.

    Raises:
        InputError: Unknown ``model_type``; a field that is missing, of the wrong type, contradicts
            another, or does not belong to that type.
    """
    kind = config.get("model_type")
    if not isinstance(kind, str) or kind not in FAMILIES:
        close = get_close_matches(str(kind), FAMILIES, 2, 0.6)
        raise InputError(
            "unknown model_type" if kind is not None else "a field is missing",
            source=source,
            field=prefix + "model_type",
            found=kind,
            expected=" or ".join(close) or "one of " + ", ".join(FAMILIES),
        )
    fields = Fields(config, source, prefix)
    architecture = FAMILIES[kind](fields)
    fields.finish()
    return LanguageModel(name, architecture, str(source))


def load_model(name_or_path: str | Path) -> LanguageModel:
    """A language model: a shipped one by name, or a ``config.json``.

    Args:
        name_or_path: A name of ``available_models()``, the path of a ``.json`` config, or that of
            a ``.yaml`` file in the form of the shipped ones.

    Raises:
        InputError: No such model, or a config that cannot be read.

    Example:
        >>> load_model("llama-2-7b").parameters
        6738415616
    """
    path = Path(name_or_path)
    text = str(name_or_path)
    names = available_models()
    if text in names:
        return _shipped(text)
    if path.suffix == ".json":
        name = path.parent.name if path.name == "config.json" and path.parent.name else path.stem
        return model_of(read_config(path), name, path)
    if path.suffix not in (".yaml", ".yml"):
        close = get_close_matches(text, names, 3) or names
        raise InputError(
            "no such model", found=text, expected="a config.json, or one of " + ", ".join(close)
        )
    return _read(path)


@cache
def _shipped(name: str) -> LanguageModel:
    """A shipped model, read once: its file does not change while a program runs."""
    return _read(model_folder() / f"{name}.yaml")


def _read(path: Path) -> LanguageModel:
    file = load_yaml(path, ModelFile)
    model = model_of(file.config, path.stem, path, "config.")
    return LanguageModel(model.name, model.architecture, file.source, file.published)
