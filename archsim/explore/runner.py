"""Agents x seeds under one budget, in parallel, interruptible at any moment.

The plan is written to the store first; each run is then carried out by a worker, whose evaluations
arrive in batches and are on disk before they count. Asking again for the same plan goes on:
finished runs are left alone, an interrupted one starts over with its seed and is answered from the
store until it reaches new ground, so what it ends with is what it would have ended with.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from archsim.errors import ArchsimError, InputError
from archsim.explore.executor import Event, Executor, Job, LocalExecutor, cores
from archsim.explore.progress import Progress, Silent
from archsim.explore.records import Batch, Run
from archsim.explore.store import STORE_NAME, Store

#: Modules worth importing once for all runs; everything else imports in no time.
_HEAVY = ("stable_baselines3", "sb3_contrib", "torch", "optuna", "pymoo", "cma", "scipy")

#: Most runs of an agent, evaluations of a run, and processes (as in scenario files).
MAX_SEEDS, MAX_BUDGET, MAX_WORKERS = 10_000, 10**9, 4096

#: Stored designs evaluated anew before a store is continued.
_CHECKED_DESIGNS = 3


@dataclass(frozen=True)
class AgentChoice:
    """An agent and its options.

    Attributes:
        name: Shipped name or ``file.py:Class``.
        options: Options that differ from the defaults.
    """

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Fill:
    """What goes on after the comparison, to fill the front; never part of the statistics.

    Attributes:
        agent: A batch searcher.
        evaluations: How many designs it may ask for.
        seed: Its seed.
    """

    agent: AgentChoice
    evaluations: int
    seed: int = 0


@dataclass(frozen=True)
class Plan:
    """What to run.

    Attributes:
        agents: The agents to compare.
        seeds: Runs of each agent, with seeds 0 .. seeds-1.
        budget: Evaluations of each run.
        workers: Runs at the same time.
        fill: What follows, if anything.
    """

    agents: tuple[AgentChoice, ...]
    seeds: int
    budget: int
    workers: int
    fill: Fill | None = None

    def __post_init__(self) -> None:
        for name, most in (("seeds", MAX_SEEDS), ("budget", MAX_BUDGET), ("workers", MAX_WORKERS)):
            if not 1 <= (value := getattr(self, name)) <= most:
                words = "must be at least 1" if value < 1 else "too many"
                raise InputError(words, field=name, found=value, expected=f"1 to {most:,}")
        if not self.agents:
            raise InputError("no agent to run", field="agents", expected="at least one")
        names = [(agent.name, canonical(agent.options)) for agent in self.agents]
        twice = [name for name in names if names.count(name) > 1]
        if twice:
            raise InputError("the same agent is listed twice", field="agents", found=twice[0][0])


@dataclass(frozen=True)
class Summary:
    """How an exploration ended.

    Attributes:
        directory: The run directory.
        runs: The runs of the plan as stored.
        evaluations: Evaluations stored for these runs.
        designs: Distinct designs in the store.
        fresh: Designs that were evaluated now rather than found in the store.
        elapsed_s: Wall time.
    """

    directory: Path
    runs: tuple[Run, ...]
    evaluations: int
    designs: int
    fresh: int
    elapsed_s: float

    @property
    def failed(self) -> tuple[Run, ...]:
        """Runs whose agent crashed."""
        return tuple(run for run in self.runs if run.status == "failed")


class Interrupted(ArchsimError):
    """Ctrl-C or a request to end, after everything evaluated so far was stored."""

    exit_status = 130  # as a shell reports SIGINT

    def __init__(self, directory: Path, evaluations: int) -> None:
        self.directory = directory
        self.evaluations = evaluations
        super().__init__(
            f"interrupted; {evaluations:,} evaluations are stored in {directory}. "
            "Run the same command again to go on."
        )


def canonical(options: Mapping[str, Any]) -> str:
    """Options as text that is equal for equal options."""
    try:
        return json.dumps(dict(options), sort_keys=True) if options else ""
    except TypeError as error:
        raise InputError(f"options must be plain data: {error}", found=dict(options)) from None


def explore(
    scenario: Any,
    plan: Plan,
    out: str | Path,
    *,
    progress: Progress | None = None,
    executor: Executor | None = None,
    command: str = "",
) -> Summary:
    """Carry out a plan on a scenario, or go on where it was left.

    Args:
        scenario: An `archsim.envs.Scenario`, its path or its name.
        plan: Agents, seeds, budget.
        out: The run directory; made when missing, gone on with when it holds the same scenario.
        progress: Hears how it goes.
        executor: Where runs are carried out; processes of this machine when not given.
        command: The command that asked for it, kept for the report.

    Raises:
        InputError: The plan or scenario is wrong, or the directory holds something else.
        Interrupted: Ctrl-C; everything evaluated so far is stored.
    """
    from archsim.explore.problem import open_problem

    began = time.monotonic()
    sources = check_agents(plan)  # cheap, so first
    opened = open_problem(scenario)
    directory = Path(out)
    directory.mkdir(parents=True, exist_ok=True)
    with exclusive(directory):
        store = Store.open_or_create(
            directory / STORE_NAME, opened.layout, opened.digest, opened.meta
        )
        with store:
            session = _Session(store, directory, plan, progress or Silent())
            store.set_meta("command", command)
            session.prepare(opened, sources)
            session.carry_out(executor or _local_executor(plan))
            runs = tuple(session.current())
            return Summary(
                directory,
                runs,
                sum(run.count for run in runs),
                store.designs(),
                store.designs() - session.known,
                time.monotonic() - began,
            )


def check_agents(plan: Plan) -> dict[str, str]:
    """Find every agent and check its options before anything runs; digests of foreign files."""
    from archsim.agents import load_agent, options_from_mapping

    choices = [*plan.agents, *([plan.fill.agent] if plan.fill else [])]
    sources = {}
    for choice in choices:
        agent = load_agent(choice.name)
        options_from_mapping(agent, choice.options)
        path = choice.name.rpartition(":")[0]
        content = Path(path).read_bytes() if path.endswith(".py") else b""
        sources[choice.name] = hashlib.sha256(content).hexdigest()[:16] if content else ""
    return sources


def _local_executor(plan: Plan) -> LocalExecutor:
    return LocalExecutor(plan.workers, preloads(choice.name for choice in plan.agents))


def preloads(agents: Iterable[str]) -> list[str]:
    """Slow modules to import once, before the runs of these agents branch off."""
    found: set[str] = set()
    for agent in set(agents):
        found |= _heavy_imports(agent)
    return sorted(found)


def _heavy_imports(agent: str) -> set[str]:
    """Slow libraries an agent's file mentions in an import, at any depth."""
    import ast
    import inspect

    from archsim.agents import load_agent

    try:
        tree = ast.parse(Path(inspect.getfile(load_agent(agent))).read_text(encoding="utf-8"))
    except (OSError, TypeError, SyntaxError, UnicodeDecodeError):
        return set()
    names = set()
    if getattr(load_agent(agent), "extra", None) in ("rl", "torch"):
        names.add("torch")  # maybe through a module of ours
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
    return {name.split(".")[0] for name in names} & set(_HEAVY)


def _is_deterministic(agent: str) -> bool:
    from archsim.agents import load_agent

    return bool(getattr(load_agent(agent), "deterministic", False))


class _Session:
    """One call of `explore`: the plan in the store, and the loop that carries it out."""

    def __init__(self, store: Store, directory: Path, plan: Plan, progress: Progress) -> None:
        self.store, self.directory, self.plan, self.progress = store, directory, plan, progress
        self.known = store.designs()
        self.ids: list[int] = []
        self.counts: dict[int, int] = {}
        self.best: dict[int, float] = {}
        names = store.layout.metrics
        self._objective, self._feasible = names.index("objective"), names.index("feasible")

    def current(self) -> list[Run]:
        """The runs of the plan as they stand."""
        stored = {run.id: run for run in self.store.runs()}
        return [stored[run] for run in self.ids]

    def prepare(self, opened: Any, sources: Mapping[str, str]) -> None:
        """Write the plan, and make sure that old and new numbers may stand side by side."""
        wanted = []
        for choice in self.plan.agents:
            # One run says it all where the seed changes nothing.
            seeds = 1 if _is_deterministic(choice.name) else self.plan.seeds
            for seed in range(seeds):
                key = (choice.name, canonical(choice.options), seed, self.plan.budget, "compare")
                wanted.append(key)
        if self.plan.fill:
            fill = self.plan.fill
            options = canonical(fill.agent.options)
            wanted.append((fill.agent.name, options, fill.seed, fill.evaluations, "fill"))
        runs = self.store.plan(wanted)
        self.ids = [run.id for run in runs]
        for run in runs:
            if self.store.note_source(run.id, sources[run.agent]):
                self.progress.note(f"{run.label}: the agent's file has changed; it starts again")
        self.store.set_meta("budget", str(self.plan.budget))
        self.store.set_meta("plan", json.dumps(self.ids))
        opened.save(self.directory)
        if self.known and any(run.status != "done" for run in self.current()):
            _check_numbers(self.store, opened)

    def carry_out(self, executor: Executor) -> None:
        """Run what is not done yet; a crashed agent does not stop the others."""
        runs = self.current()
        self.progress.start(runs)
        queue = deque(sorted((r for r in runs if r.status != "done"), key=_urgency))
        active: set[int] = set()
        try:
            with _terminable():
                while queue or active:
                    while queue and len(active) < executor.slots:
                        run = queue.popleft()
                        self.store.set_status(run.id, "running")
                        self.counts[run.id] = 0
                        executor.submit(self._job(run))
                        active.add(run.id)
                    for event in executor.poll(0.5):
                        if self._handle(event):
                            active.discard(event.run)
        except KeyboardInterrupt:
            for event in executor.stop(3.0):
                self._handle(event)
            total = sum(run.count for run in self.current())
            raise Interrupted(self.directory, total) from None
        finally:
            executor.close()
            self.progress.stop()

    def _job(self, run: Run) -> Job:
        threads = cores() if run.phase == "fill" else max(1, cores() // self.plan.workers)
        return Job(
            run=run.id,
            agent=run.agent,
            options=json.loads(run.options) if run.options else {},
            seed=run.seed,
            budget=run.budget,
            scenario=(self.directory / "scenario.yaml").resolve(),
            store=self.store.path.resolve(),
            threads=threads,
            metrics=self.store.layout.metrics,
        )

    def _handle(self, event: Event) -> bool:
        """Store what an event brings; True when it ends the run."""
        if event.kind == "batch":
            self._keep(event.run, event.payload)
            return False
        if event.kind == "done":
            if self.store.truncate(event.run, event.payload):
                self.progress.note(f"run {event.run} ended earlier than its interrupted attempt")
            self.store.set_status(event.run, "done")
        else:
            self.store.set_status(event.run, "failed", event.payload[0])
        self.progress.finish(self.store.run(event.run))
        return True

    def _keep(self, run: int, batch: Batch) -> None:
        if self.store.add(run, batch):
            self.progress.note(
                f"run {run} did not repeat its interrupted attempt: its agent is not "
                "deterministic; the evaluations from there on are the new ones"
            )
        self.counts[run] += len(batch)
        good = batch.metrics[batch.metrics[:, self._feasible] > 0, self._objective]
        if len(good):
            self.best[run] = min(self.best.get(run, np.inf), float(good.min()))
        best = self.best.get(run)
        self.progress.advance(
            run, self.counts[run], "" if best is None else f"objective {best:.5g}"
        )


def _urgency(run: Run) -> tuple[bool, int, int]:
    """Comparison before filling; all agents' first seeds before the second ones."""
    return run.phase == "fill", run.seed, run.id


def _check_numbers(store: Store, opened: Any) -> None:
    """Refuse to mix numbers of a changed model into a store: evaluate a few designs anew."""
    stored = store.sample_designs(_CHECKED_DESIGNS)
    fresh = opened.evaluate(stored.indices)
    for name, values in stored.metrics.items():
        if not np.allclose(fresh[name], values, rtol=1e-9, atol=0.0):
            raise InputError(
                "the cost model gives other numbers now than when the store was written "
                f"({name}: {values[0]!r} then, {float(fresh[name][0])!r} now); mixing them would "
                "falsify the comparison: choose another --out",
                source=store.path,
            )


@contextlib.contextmanager
def exclusive(directory: Path) -> Iterator[None]:
    """Hold a run directory for one writing process; the system lets go when the process ends.

    Raises:
        ArchsimError: Another process is running in the directory.
    """
    with (directory / ".lock").open("a+") as file:
        try:
            _lock(file)
        except OSError:
            raise ArchsimError(
                f"{directory}: another archsim is exploring in this directory; wait for it or "
                "choose another --out"
            ) from None
        yield


def _lock(file: Any) -> None:
    try:
        import fcntl
    except ImportError:
        import importlib

        msvcrt: Any = importlib.import_module("msvcrt")
        file.seek(0)
        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
    else:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


@contextlib.contextmanager
def _terminable() -> Iterator[None]:
    """Treat a polite request to end (SIGTERM, a closed terminal) like Ctrl-C."""
    import signal

    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    before = {}
    for name in ("SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)
        # Only the main thread may set handlers; elsewhere the defaults stay.
        with contextlib.suppress(ValueError):
            if number is not None:
                before[number] = signal.signal(number, interrupt)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def plan_for(
    scenario: Any,
    *,
    agents: Sequence[AgentChoice] | None = None,
    seeds: int | None = None,
    budget: int | None = None,
    workers: int | None = None,
    fill: int | None = None,
) -> Plan:
    """The plan a scenario asks for, with changes.

    Args:
        scenario: An `archsim.envs.Scenario`.
        agents: Run these instead (nothing is filled then, unless ``fill`` says so).
        seeds: Runs of each agent.
        budget: Evaluations of each run.
        workers: Runs at the same time.
        fill: Evaluations to fill the front with; 0 for none.

    Raises:
        InputError: A number below 1, or an agent listed twice.
    """
    settings = scenario.run
    given = settings.fill
    choices = tuple(agents or (_choice(agent) for agent in settings.agents))
    plan = Plan(
        choices,
        settings.seeds if seeds is None else seeds,
        settings.budget if budget is None else budget,
        settings.workers if workers is None else workers,
    )
    if fill is not None and not 0 <= fill <= MAX_BUDGET:
        raise InputError("not a number of evaluations", field="fill", found=fill)
    if fill == 0 or (fill is None and (given is None or agents)):
        return plan
    filler = _choice(given) if given else AgentChoice("nsga2", {"population": 512})
    return replace(plan, fill=Fill(filler, fill or given.evaluations))


def _choice(agent: Any) -> AgentChoice:
    if isinstance(agent, str):
        return AgentChoice(agent)
    return AgentChoice(agent.name, dict(agent.options or {}))
