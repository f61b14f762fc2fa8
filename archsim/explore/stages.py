"""A line now and then about a long computation that is no exploration."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any

from archsim.explore.progress import Lines
from archsim.explore.records import Run
from archsim.explore.units import duration

#: Seconds between two lines.
LINE_EVERY_S = 5.0


def stages(what: str, stream: Any = None) -> Callable[[int, int], None]:
    """Something to call with how much is done, of how much; it writes a line every few seconds.

    Args:
        what: What is being done.
        stream: Where to write; standard error when not given.
    """
    began = last = time.monotonic()

    def advance(done: int, total: int) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= LINE_EVERY_S or (done >= total and last > began):
            last = now
            share = 100 * done / max(total, 1)
            line = f"{what}: {done:,} of {total:,} ({share:.0f} %) after {duration(now - began)}"
            print(line, file=stream or sys.stderr, flush=True)

    return advance


class RunLines(Lines):
    """Plain lines for thousands of short runs: how far they are, and what failed."""

    def finish(self, run: Run) -> None:
        """See `Progress`."""
        if run.status == "failed":
            super().finish(run)
        else:
            self.advance(run.id, run.count, "")
