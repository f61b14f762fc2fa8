"""Reading YAML a user wrote: safe, bounded, and with errors that name file and field."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, Generic, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from archsim.errors import InputError

MAX_YAML_BYTES = 16 * 1024 * 1024
MAX_YAML_NODES = 2_000_000


class Strict(BaseModel):
    """Base of every model read from a file: frozen, and an unknown field is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


Model = TypeVar("Model", bound=BaseModel)


class _Loader(yaml.CSafeLoader if hasattr(yaml, "CSafeLoader") else yaml.SafeLoader):  # type: ignore[misc]
    """Safe loader that also refuses duplicate keys and alias bombs, and reads 1e9 as a number."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, (str, int, float, bool)):
                raise yaml.constructor.ConstructorError(
                    None, None, "keys must be plain scalars", key_node.start_mark
                )
            if key in seen and key != "<<":
                raise yaml.constructor.ConstructorError(
                    None, None, f"duplicate key {key!r}", key_node.start_mark
                )
            seen.add(key)
        return super().construct_mapping(node, deep)


_FLOAT_CHARS = list("-+0123456789.")
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    __import__("re").compile(r"^[-+]?(?:[0-9][0-9_]*)(?:\.[0-9_]*)?[eE][-+]?[0-9]+$"),
    _FLOAT_CHARS,
)


def _tagged(tags: Sequence[str]) -> type[_Loader]:
    """A loader that also takes mappings with these tags, as mappings with a key ``tag``."""

    class Loader(_Loader):
        pass

    def construct(loader: _Loader, suffix: str, node: yaml.Node) -> dict[Any, Any]:
        if suffix not in tags:
            raise yaml.constructor.ConstructorError(
                None, None, f"unknown tag '!{suffix}'", node.start_mark
            )
        return {"tag": suffix, **loader.construct_mapping(node, deep=True)}  # type: ignore[arg-type]

    Loader.add_multi_constructor("!", construct)
    return Loader


def parse_yaml(text: str, source: object = "<text>", tags: Sequence[str] = ()) -> Any:
    """Parse YAML text safely.

    Args:
        text: The YAML document.
        source: Name used in errors.
        tags: Local tags that mappings may carry (``!Name``); the name is kept under ``tag``.

    Returns:
        Plain Python data (dict, list, str, int, float, bool, None).

    Raises:
        InputError: The text is no YAML, or is unreasonably large once expanded.
    """
    try:
        # Subclasses of SafeLoader, both.
        data = yaml.load(text, Loader=_tagged(tags) if tags else _Loader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f"line {mark.line + 1}, column {mark.column + 1}" if mark else None
        problem = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise InputError(f"not valid YAML: {problem}", source=source, field=place) from None
    except (RecursionError, ValueError, OverflowError) as error:
        raise InputError(f"not valid YAML: {error}", source=source) from None
    _check_size(data, source)
    return data


def _check_size(data: Any, source: object) -> None:
    """Refuse documents that aliases expand beyond reason (counts every visit, shared or not)."""
    stack, visited = [(data, 0)], 0
    while stack:
        item, depth = stack.pop()
        visited += 1
        if visited > MAX_YAML_NODES or depth > 64:
            raise InputError("the document is too large or too deeply nested", source=source)
        if isinstance(item, dict):
            stack.extend((value, depth + 1) for value in item.values())
        elif isinstance(item, list):
            stack.extend((value, depth + 1) for value in item)


def read_text(path: str | Path) -> str:
    """Read a bounded UTF-8 text file.

    Raises:
        InputError: The file is missing, unreadable, too large or not UTF-8.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            data = file.read(MAX_YAML_BYTES + 1)  # a device or pipe has no size to ask for
        if len(data) > MAX_YAML_BYTES:
            raise InputError(f"file larger than {MAX_YAML_BYTES} bytes", source=path)
        return data.decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")
    except UnicodeDecodeError:
        raise InputError("not a UTF-8 text file", source=path) from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise InputError(f"cannot read file: {reason}", source=path) from None


def validate(data: Any, model: type[Model], source: object = "<data>") -> Model:
    """Validate plain data into a pydantic model, with a readable error.

    Raises:
        InputError: Names the first offending field, its value and what was expected.
    """
    if not isinstance(data, dict):
        raise InputError(
            "the document must be a mapping", source=source, found=data, expected="key: value lines"
        )
    try:
        return model.model_validate(data)
    except ValidationError as error:
        problems = error.errors(include_url=False)
        # A misspelled field is missing under its right name too; the spelling says more.
        unknown = [p for p in problems if p["type"] == "extra_forbidden"]
        first = unknown[0] if unknown and problems[0]["type"] == "missing" else problems[0]
        field = ".".join(str(part) for part in first["loc"]) or None
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        if first["type"] == "extra_forbidden":
            known = _fields_at(model, data, first["loc"][:-1])
            raise InputError(
                "no such field" + more,
                source=source,
                field=field,
                found=str(first["loc"][-1]),
                expected=", ".join(known) or None,
            ) from None
        if first["type"] == "literal_error":
            raise InputError(
                "no such choice" + more,
                source=source,
                field=field,
                found=first["input"],
                expected=first["ctx"]["expected"],
            ) from None
        found = first.get("input") if first["type"] != "missing" else None
        raise InputError(first["msg"] + more, source=source, field=field, found=found) from None
    except RecursionError:
        raise InputError("the document is too deeply nested", source=source) from None


def _fields_at(model: type[BaseModel], data: Any, place: Sequence[int | str]) -> list[str]:
    """Names of the fields that may stand at a place of a document; none where it is not known.

    Args:
        model: The model of the document.
        data: The document.
        place: Keys, positions and tags of unions on the way, as pydantic reports them.
    """
    models, items = [model], [data]
    for part in place:
        if isinstance(part, int):
            items = [item[part] for item in items if isinstance(item, list) and part < len(item)]
            continue
        named = [m for m in models if part in m.model_fields]
        if named:
            models = [one for m in named for one in _models_in(m.model_fields[part].annotation)]
            items = [item[part] for item in items if isinstance(item, dict) and part in item]
        else:  # the tag or the name of a member of a union
            tagged = [m for m in models if part == m.__name__ or part in _tags(m)]
            models = tagged or models
    return list(dict.fromkeys(name for m in models for name in m.model_fields))


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    """Models anywhere in an annotation: ``list[A | B]`` holds ``A`` and ``B``."""
    from typing import get_args

    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [found for one in get_args(annotation) for found in _models_in(one)]


def _tags(model: type[BaseModel]) -> set[object]:
    """Values of the literals that tell members of a union apart."""
    from typing import Literal, get_args, get_origin

    kinds = (field.annotation for field in model.model_fields.values())
    return {value for kind in kinds if get_origin(kind) is Literal for value in get_args(kind)}


def load_yaml(path: str | Path, model: type[Model]) -> Model:
    """Read a YAML file into a pydantic model.

    Raises:
        InputError: The file cannot be read, is no YAML, or does not fit the model.
    """
    return validate(parse_yaml(read_text(path), path), model, path)


class Shelf(Generic[Model]):
    """YAML files of one kind that archsim ships, beside those a user names.

    Args:
        folder: Where the shipped ones lie, each under its name.
        model: What they are read into.
        what: Their kind, for errors.
    """

    def __init__(self, folder: Path, model: type[Model], what: str) -> None:
        self.folder, self.model, self.what = folder, model, what
        self.names = cache(self._names)
        self._shipped = cache(self._read)

    def _names(self) -> tuple[str, ...]:
        return tuple(sorted(path.stem for path in self.folder.glob("*.yaml")))

    def _read(self, name: str) -> Model:
        return load_yaml(self.folder / f"{name}.yaml", self.model)

    def load(self, name: str | Path | dict[str, Any]) -> Model:
        """One by the name of a shipped file, by path of a YAML file, or from plain data.

        Raises:
            InputError: There is none, or a field is wrong.
        """
        if isinstance(name, dict):
            return validate(name, self.model)
        if str(name) in self.names():
            return self._shipped(str(name))
        if Path(name).suffix in {".yaml", ".yml"}:
            return load_yaml(name, self.model)
        raise InputError(
            f"no such {self.what}",
            found=str(name),
            expected=f"{', '.join(self.names())}, or a .yaml file",
        )
