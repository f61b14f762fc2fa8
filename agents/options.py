"""Options of a searcher: a frozen dataclass whose types and ranges are checked when it is made."""

from __future__ import annotations

import dataclasses
import difflib
import inspect
import math
import typing
from collections.abc import Mapping
from typing import Any

from archsim.errors import InputError, MissingExtraError


def option(
    default: Any,
    help: str,
    *,
    low: float | None = None,
    high: float | None = None,
    choices: tuple[Any, ...] | None = None,
) -> Any:
    """A dataclass field with a description and a closed range (or a set of choices).

    Args:
        default: Value used when the user says nothing.
        help: What it does, in one sentence, with its source where it has one.
        low: Smallest value accepted.
        high: Largest value accepted.
        choices: The only values accepted.
    """
    metadata = {"help": help, "low": low, "high": high, "choices": choices}
    return dataclasses.field(default=default, metadata=metadata)


@dataclasses.dataclass(frozen=True)
class AgentOptions:
    """Base of the option dataclasses: a wrong type or a value out of range is an InputError."""

    def __post_init__(self) -> None:
        hints = typing.get_type_hints(type(self))
        for field in dataclasses.fields(self):
            checked = check_value(field, hints[field.name], getattr(self, field.name))
            object.__setattr__(self, field.name, checked)


def check_value(field: dataclasses.Field, hint: Any, value: Any) -> Any:
    """Check one option against its annotation and its range.

    Args:
        field: The dataclass field.
        hint: Its resolved annotation.
        value: What the user gave.

    Returns:
        The value, in the type of the annotation.

    Raises:
        InputError: The type is wrong, or the value is outside the range or the choices.
    """
    from pydantic import TypeAdapter, ValidationError

    expected = describe_type(hint)
    if isinstance(value, list) and "tuple" in expected:
        value = tuple(value)
    try:
        value = TypeAdapter(hint).validate_python(value, strict=True)
    except ValidationError:
        raise InputError(
            "option of a wrong type", field=field.name, found=value, expected=expected
        ) from None
    low, high = field.metadata.get("low"), field.metadata.get("high")
    choices = field.metadata.get("choices")
    if choices is not None and value not in choices:
        raise InputError(
            "option is none of the choices",
            field=field.name,
            found=value,
            expected="one of " + ", ".join(map(repr, choices)),
        )
    for number in value if isinstance(value, tuple) else (value,):
        if isinstance(number, bool) or not isinstance(number, (int, float)):
            continue
        below, above = low is not None and number < low, high is not None and number > high
        if below or above or not math.isfinite(number):
            raise InputError(
                "option out of range", field=field.name, found=value, expected=_range(low, high)
            )
    return value


def _range(low: float | None, high: float | None) -> str:
    """The closed range in words."""
    if low is None and high is None:
        return "a finite number"
    if high is None:
        return f"at least {low:g}"
    return f"at most {high:g}" if low is None else f"from {low:g} to {high:g}"


def describe_type(hint: Any) -> str:
    """Name an annotation as a user would: ``int``, ``float or None``, ``one of 'a', 'b'``."""
    if hint is type(None):
        return "None"
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Literal:
        return "one of " + ", ".join(map(repr, arguments))
    if arguments and origin is not tuple:
        return " or ".join(describe_type(argument) for argument in arguments)
    return str(hint) if arguments else getattr(hint, "__name__", str(hint))


def options_class(agent: type[Any]) -> type[Any] | None:
    """The dataclass an agent takes as ``options``, read from the annotation of its constructor.

    Args:
        agent: An agent class (or an options dataclass, which is returned as it is).

    Returns:
        The dataclass, or None when the agent takes no options.
    """
    if dataclasses.is_dataclass(agent) and not hasattr(agent, "search"):
        return agent
    parameter = inspect.signature(agent).parameters.get("options")
    if parameter is None or parameter.annotation is inspect.Parameter.empty:
        return None
    hint = parameter.annotation
    if isinstance(hint, str):
        try:
            hint = typing.get_type_hints(agent.__init__).get("options")  # type: ignore[misc]
        except (NameError, TypeError) as error:
            raise InputError(
                f"the annotation of options cannot be resolved: {error}",
                source=agent.__name__,
                field="__init__",
            ) from None
    for candidate in (hint, *typing.get_args(hint)):
        if isinstance(candidate, type) and dataclasses.is_dataclass(candidate):
            return candidate
    return None


def options_from_mapping(cls: type, mapping: Mapping[str, Any] | None) -> Any:
    """Turn the ``options`` of a scenario into the dataclass of an agent.

    Args:
        cls: An agent class, or an options dataclass.
        mapping: Option names and values, e.g. ``{"population": 24}``; None means defaults.

    Returns:
        An instance of the dataclass, or None when the agent takes no options and none are given.

    Raises:
        InputError: An option does not exist (near names are listed), has a wrong type, is out of
            range, or a required one is missing.
    """
    target = options_class(cls)
    if mapping is not None and not isinstance(mapping, Mapping):
        raise InputError(
            "options must be a mapping", source=cls.__name__, found=mapping, expected="name: value"
        )
    mapping = dict(mapping or {})
    if target is None:
        if mapping:
            raise InputError("this agent takes no options", source=cls.__name__, found=mapping)
        return None
    fields = {field.name: field for field in dataclasses.fields(target) if field.init}
    for name in mapping:
        if name not in fields:
            near = difflib.get_close_matches(str(name), fields, n=3)
            expected = ", ".join(near or fields) or "no option at all"
            raise InputError("no such option", source=cls.__name__, found=name, expected=expected)
    missing = dataclasses.MISSING
    for name, field in fields.items():
        required = field.default is missing and field.default_factory is missing
        if required and name not in mapping:
            raise InputError("a required option is missing", source=cls.__name__, field=name)
    hints = typing.get_type_hints(target)
    try:
        values = {n: check_value(fields[n], hints[n], value) for n, value in mapping.items()}
        return target(**values)
    except InputError as error:
        raise InputError(
            error.message,
            source=cls.__name__,
            field=error.field,
            found=error.found,
            expected=error.expected,
        ) from None
    except (TypeError, ValueError) as error:
        raise InputError(f"options refused: {error}", source=cls.__name__) from None


def require(package: str, extra: str) -> Any:
    """Import an optional package, or say which extra brings it.

    Args:
        package: Import name.
        extra: The ``archsim[extra]`` that installs it.

    Returns:
        The imported module.

    Raises:
        MissingExtraError: The package is not installed.
    """
    import importlib

    try:
        return importlib.import_module(package)
    except ImportError:
        raise MissingExtraError(package, extra) from None
