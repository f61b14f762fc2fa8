"""What the user sees while runs go on: live bars on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from typing import Any, Protocol

from archsim.explore.records import Run
from archsim.explore.units import duration

#: Seconds between two plain lines.
LINE_EVERY_S = 5.0


class Progress(Protocol):
    """Hears how an exploration goes."""

    def start(self, runs: Sequence[Run]) -> None:
        """The runs of the plan, with what is stored of each."""

    def advance(self, run: int, count: int, best: str) -> None:
        """A run has stored ``count`` evaluations; ``best`` is its best so far, in words."""

    def finish(self, run: Run) -> None:
        """A run ended (see its status)."""

    def note(self, text: str) -> None:
        """Something worth a line."""

    def stop(self) -> None:
        """Nothing follows."""


class Silent:
    """Shows nothing."""

    def start(self, runs: Sequence[Run]) -> None:
        """See `Progress`."""

    def advance(self, run: int, count: int, best: str) -> None:
        """See `Progress`."""

    def finish(self, run: Run) -> None:
        """See `Progress`."""

    def note(self, text: str) -> None:
        """See `Progress`."""

    def stop(self) -> None:
        """See `Progress`."""


class Lines:
    """Plain lines, for logs and pipes.

    Args:
        stream: Where to write; standard error when not given.
    """

    def __init__(self, stream: Any = None) -> None:
        self._stream = stream or sys.stderr
        self._labels: dict[int, str] = {}
        self._counts: dict[int, int] = {}
        self._total = 0
        self._began = self._last = time.monotonic()

    def start(self, runs: Sequence[Run]) -> None:
        """See `Progress`."""
        self._labels = {run.id: f"{run.label} seed {run.seed}" for run in runs}
        self._counts = {run.id: run.count if run.status == "done" else 0 for run in runs}
        self._total = sum(run.budget for run in runs)
        todo = sum(run.status != "done" for run in runs)
        self.note(f"{len(runs)} runs, {todo} to do, {self._total:,} evaluations in all")

    def advance(self, run: int, count: int, best: str) -> None:
        """See `Progress`."""
        self._counts[run] = count
        now = time.monotonic()
        if now - self._last >= LINE_EVERY_S:
            self._last = now
            done = sum(self._counts.values())
            share = 100 * done / max(1, self._total)
            self.note(
                f"{duration(now - self._began)}: {done:,} of {self._total:,} evaluations "
                f"({share:.0f} %)"
            )

    def finish(self, run: Run) -> None:
        """See `Progress`."""
        self._counts[run.id] = run.count
        if run.status == "failed":
            self.note(f"{self._labels[run.id]}: failed: {run.error}")
        else:
            self.note(f"{self._labels[run.id]}: {run.count:,} evaluations")

    def note(self, text: str) -> None:
        """See `Progress`."""
        print(text, file=self._stream, flush=True)

    def stop(self) -> None:
        """See `Progress`."""


class Bars:
    """One live bar an agent (its seeds together), and one for the whole.

    Args:
        console: A `rich.console.Console`; one on standard error when not given.
    """

    def __init__(self, console: Any = None) -> None:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )

        self._bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(compact=True),
            TextColumn("{task.fields[best]}", style="dim"),
            console=console or Console(stderr=True),
            refresh_per_second=5,
        )
        self._task: dict[int, Any] = {}
        self._counts: dict[int, int] = {}
        self._best: dict[Any, str] = {}
        self._all: Any = None

    def start(self, runs: Sequence[Run]) -> None:
        """See `Progress`."""
        groups: dict[tuple[str, str], list[Run]] = {}
        for run in runs:
            groups.setdefault((run.label, run.phase), []).append(run)
        for (label, phase), members in groups.items():
            text = label if phase == "compare" else f"{label} (filling the front)"
            total = sum(run.budget for run in members)
            task = self._bars.add_task(text, total=total, best="")
            for run in members:
                self._task[run.id] = task
                self._counts[run.id] = run.count if run.status == "done" else 0
        total = sum(run.budget for run in runs)
        self._all = self._bars.add_task("[bold]all", total=total, best="")
        self._bars.start()
        for run in runs:
            self._show(run.id)

    def _show(self, run: int, best: str = "") -> None:
        task = self._task[run]
        done = sum(count for other, count in self._counts.items() if self._task[other] == task)
        self._bars.update(task, completed=done, best=best or self._best.get(task, ""))
        self._best[task] = best or self._best.get(task, "")
        self._bars.update(self._all, completed=sum(self._counts.values()))

    def advance(self, run: int, count: int, best: str) -> None:
        """See `Progress`."""
        self._counts[run] = count
        self._show(run, best)

    def finish(self, run: Run) -> None:
        """See `Progress`."""
        # A run that ended early (a finite space) counts as whole.
        self._counts[run.id] = run.budget if run.status == "done" else run.count
        self._show(run.id, "[red]failed" if run.status == "failed" else "")
        if run.status == "failed":
            self.note(f"{run.label} seed {run.seed}: failed: {run.error}")

    def note(self, text: str) -> None:
        """See `Progress`."""
        self._bars.console.print(text, markup=False, highlight=False)

    def stop(self) -> None:
        """See `Progress`."""
        self._bars.stop()


def default_progress() -> Progress:
    """Bars on a terminal, lines elsewhere."""
    return Bars() if sys.stderr.isatty() else Lines()
