"""Errors a user can cause, each saying where, what was found and what was expected."""

from __future__ import annotations


class ArchsimError(Exception):
    """Base of every error raised on purpose; the command line prints it without a traceback."""


class ArchsimWarning(UserWarning):
    """Base of every warning archsim issues."""


def _shortened(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 3] + "..."


def _meant(found: object, expected: str) -> str:
    """The name nearest to a mistyped one, where many are listed; else nothing."""
    import difflib
    import re

    names = re.findall(r"[\w./+-]*\w", expected)
    if not isinstance(found, str) or not 2 < len(found) < 100 or len(names) < 3:
        return ""
    near = difflib.get_close_matches(found, names, 1, 0.7)
    return f"; did you mean {near[0]!r}?" if near and near[0] != found else ""


class InputError(ArchsimError):
    """An input file, field or argument is not what it should be.

    Args:
        message: What is wrong, in words.
        source: The file (or other origin) it was read from.
        field: Dotted path of the field inside the source, e.g. ``engines.array.levels.glb``.
        found: The offending value.
        expected: What would have been accepted.
    """

    def __init__(
        self,
        message: str,
        *,
        source: object | None = None,
        field: str | None = None,
        found: object | None = None,
        expected: str | None = None,
    ) -> None:
        self.message = message
        self.source = None if source is None else str(source)
        self.field = field
        self.found = found
        self.expected = expected
        super().__init__(str(self))

    def __str__(self) -> str:
        field = self.field and _shortened(self.field, 200)
        where = ": ".join(part for part in (self.source, field) if part)
        message = _shortened(self.message, 800)
        text = f"{where}: {message}" if where else message
        if self.found is not None:
            text += f"; found {_shortened(repr(self.found), 120)}"
        if self.expected:
            text += _meant(self.found, self.expected)
            text += f"; expected {_shortened(self.expected, 800)}"
        # Names come from files too: whatever they hold, the message is one line of plain text.
        return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


class MissingExtraError(ArchsimError):
    """An optional dependency is needed; names the extra that brings it.

    Args:
        package: The import that failed.
        extra: The ``archsim[extra]`` that installs it.
    """

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(
            f"this needs the package {package!r}; install it with: pip install 'archsim[{extra}]'"
        )
