"""Where the reference data is, and tables of comparisons."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from archsim.errors import ArchsimError

VARIABLE = "ARCHSIM_REFS"


def references(folder: str) -> Path:
    """Folder with one set of reference data.

    Args:
        folder: ``timeloop``, ``scalesim`` ...

    Returns:
        ``$ARCHSIM_REFS/folder``, by default ``../shared/refs/folder`` beside the repository.

    Raises:
        ArchsimError: There is no such folder.
    """
    given = os.environ.get(VARIABLE)
    root = Path(given) if given else Path(__file__).resolve().parents[3] / "shared" / "refs"
    found = root / folder
    if not found.is_dir():
        raise ArchsimError(
            f"this comparison needs the reference data in {folder!r}, which is not in "
            f"{str(root)!r}; set the environment variable {VARIABLE} to the folder that holds it"
        )
    return found


def table(headers: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Plain text table; numbers to the right.

    Example:
        >>> print(table(("case", "cycles"), [("a", 12), ("long", 3)]))
        case  cycles
        a         12
        long       3
    """
    cells = [[str(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(headers, *cells, strict=True)]

    def line(row: Sequence[str]) -> str:
        first = f"{row[0]:<{widths[0]}}"
        rest = (f"{cell:>{width}}" for cell, width in zip(row[1:], widths[1:], strict=True))
        return "  ".join([first, *rest]).rstrip()

    return "\n".join([line(list(headers)), *map(line, cells)])


def ratio(ours: float, theirs: float) -> str:
    """Ours over theirs, for a table."""
    return f"{ours / theirs:.2f}"
