"""Learned cost models: the metrics of a problem predicted in a microsecond, and when not to trust.

A proxy is trained on designs the real model evaluated (:func:`train_proxy`), stored as plain arrays
(never as code), and tied to the problem by a digest of all that decides its numbers but for the
objective, which is applied to the predictions. It is used as a fidelity: :class:`ProxyProblem` is
the same problem with predicted metrics, and environments offer ``proxy(path)`` so that a searcher
may screen many designs by it and have the promising ones evaluated for real
(:mod:`archsim.agents.screening`).
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from archsim.envs.problem import Metrics
from archsim.errors import InputError
from archsim.models.regressor import Regressor, Training, arrays_of, fit, from_arrays

FORMAT = 1
#: Designs evaluated at a time for training.
CHUNK = 2048
#: Share of the sample that is held out from training: it sets the threshold of disagreement.
HELD_OUT = 0.1
#: Share of the held-out designs on which members disagree more than on designs that are trusted.
DISTRUSTED = 0.01

Advance = Callable[[str, int, int], None]


@dataclass(frozen=True, eq=False)
class Proxy:
    """A learned cost model.

    Attributes:
        digest: Of the problem it was trained on, see :func:`digest_of`.
        subject: That problem in words.
        metrics: Names of the metrics it predicts.
        logarithmic: Which of them are learned as logarithms, bool[metrics].
        mean: Of what is learned, float64[metrics].
        scale: Its standard deviation, float64[metrics].
        seen: Which values of every parameter were among the training designs.
        doubt: Disagreement of the members beyond which a design is out of distribution.
        samples: Designs it was trained on.
        seed: They were drawn with.
        regressor: The networks.
        source: The file, if it came from one.
    """

    digest: str
    subject: str
    metrics: tuple[str, ...]
    logarithmic: np.ndarray
    mean: np.ndarray
    scale: np.ndarray
    seen: tuple[np.ndarray, ...]
    doubt: float
    samples: int
    seed: int
    regressor: Regressor
    source: str = ""

    def predict(self, designs: np.ndarray) -> tuple[Metrics, np.ndarray]:
        """Metrics of designs, and which are out of distribution.

        Args:
            designs: int64[B, P] index vectors.

        Returns:
            The metrics, float64[B] each, with ``feasible`` (whether the model takes the design,
            limits aside); and bool[B]: a value that was never trained on, or members that disagree
            more than they do on all but 1 % of held-out designs.
        """
        every = self.regressor.members(designs)
        outputs = every.mean(axis=0, dtype=np.float64)
        count = len(self.metrics)
        values = outputs[:, :count] * self.scale + self.mean
        np.exp(values, out=values, where=self.logarithmic)
        found: Metrics = {name: values[:, at].copy() for at, name in enumerate(self.metrics)}
        found["feasible"] = outputs[:, count] > 0
        strange = self._doubtful(every) > self.doubt
        if not all(known.all() for known in self.seen):
            for known, column in zip(self.seen, designs.T, strict=True):
                strange |= ~known[column]
        return found, strange

    def _doubtful(self, every: np.ndarray) -> np.ndarray:
        """How far members are apart, at most over the metrics, in units of their scale: [B]."""
        return np.ptp(every[:, :, : len(self.metrics)], axis=0).max(axis=1)

    def save(self, path: str | Path) -> None:
        """Write an ``.npz`` file of plain arrays; it appears when it is complete."""
        path = Path(path)
        header = {
            "format": FORMAT,
            "digest": self.digest,
            "subject": self.subject,
            "metrics": list(self.metrics),
            "doubt": self.doubt,
            "samples": self.samples,
            "seed": self.seed,
            "members": len(self.regressor.layers),
            "depth": len(self.regressor.layers[0]),
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.with_name(path.name + ".new")
        arrays: dict[str, Any] = {
            "header": np.frombuffer(json.dumps(header).encode(), np.uint8),
            "logarithmic": self.logarithmic,
            "mean": self.mean,
            "scale": self.scale,
            **{f"seen_{at}": known for at, known in enumerate(self.seen)},
            **arrays_of(self.regressor),
        }
        with draft.open("wb") as file:
            np.savez(file, **arrays)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)

    def check_problem(self, problem: Any) -> None:
        """See that it was trained on this problem.

        Raises:
            InputError: On another one.
        """
        if digest_of(problem) != self.digest:
            raise InputError(
                "the proxy was trained on another problem (its space, workload, machine or memory "
                "differs); train one on this with archsim proxy train",
                source=self.source or None,
                found=self.subject,
                expected=problem.subject,
            )


def load_proxy(path: str | Path, problem: Any = None) -> Proxy:
    """Read a proxy; nothing in the file is executed.

    Args:
        path: The file.
        problem: What it is to be used on, if anything.

    Raises:
        InputError: There is none, it is damaged, or it was trained on another problem.
    """
    proxy = _read(path)
    if problem is not None:
        proxy.check_problem(problem)
    return proxy


def _read(path: str | Path) -> Proxy:
    import zipfile

    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except FileNotFoundError:
        raise InputError(
            "no such file", source=path, expected="one of archsim proxy train"
        ) from None
    except (OSError, ValueError, KeyError, zipfile.BadZipFile, EOFError, AttributeError) as error:
        raise InputError(f"not a proxy: {error}", source=path) from None
    try:
        header = json.loads(arrays["header"].tobytes())
        if header["format"] != FORMAT:
            raise ValueError("another version")
        members, depth = int(header["members"]), int(header["depth"])
        if not (1 <= members <= 64 and 2 <= depth <= 16):
            raise ValueError("shape of the networks")
        regressor = from_arrays(arrays, members, depth)
        metrics = tuple(str(name) for name in header["metrics"])
        outputs = regressor.layers[0][-1][1].size
        mean, scale, logarithmic = arrays["mean"], arrays["scale"], arrays["logarithmic"]
        seen = tuple(arrays[f"seen_{at}"] for at in range(len(regressor.sizes)))
        for array, kind in ((mean, np.float64), (scale, np.float64), (logarithmic, np.bool_)):
            if array.shape != (len(metrics),) or array.dtype != kind:
                raise ValueError("scales of the metrics")
        if outputs != len(metrics) + 1 or any(
            known.shape != (size,) or known.dtype != np.bool_
            for known, size in zip(seen, regressor.sizes, strict=True)
        ):
            raise ValueError("outputs or values")
        return Proxy(
            str(header["digest"]), str(header["subject"]), metrics, logarithmic, mean, scale, seen,
            float(header["doubt"]), int(header["samples"]), int(header["seed"]), regressor,
            str(path),
        )  # fmt: skip
    except (KeyError, ValueError, TypeError, AttributeError) as error:
        raise InputError(f"not a proxy: {error}", source=path) from None


def digest_of(problem: Any) -> str:
    """Digest of all that decides the metrics of a problem's designs; the objective does not.

    Raises:
        InputError: The problem does not say what it is made of.
    """
    content = getattr(problem, "content", None)
    if content is None:
        raise InputError(
            "only problems of scenarios can have a proxy", found=type(problem).__name__
        )
    kept = {name: value for name, value in content().items() if name != "objective"}
    return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()


def refused(problem: Any, metrics: Metrics) -> np.ndarray:
    """Which designs the model itself refuses, limits aside: bool[B]."""
    alone = problem.objective.score({name: metrics[name] for name in problem.metric_names})
    return np.asarray(metrics["violation"]) > alone["violation"] + 1e-9


def distinct_designs(problem: Any, count: int, seed: int) -> np.ndarray:
    """Legal designs, each once, in the order they were drawn; all of a small space."""
    space = problem.space
    rng = np.random.default_rng(seed)
    found: dict[bytes, np.ndarray] = {}
    for _ in range(8):
        for design in space.sample(rng, count):
            if len(found) < count:
                found.setdefault(design.tobytes(), design)
        if len(found) == count:
            break
    return np.stack(list(found.values()))


def evaluated(problem: Any, designs: np.ndarray, advance: Advance | None = None) -> Metrics:
    """The real metrics of designs, a chunk at a time."""
    parts: list[Metrics] = []
    for start in range(0, len(designs), CHUNK):
        parts.append(problem.evaluate(designs[start : start + CHUNK]))
        if advance is not None:
            advance("designs evaluated", min(start + CHUNK, len(designs)), len(designs))
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def train_proxy(
    problem: Any,
    samples: int = 20_000,
    seed: int = 0,
    training: Training | None = None,
    advance: Advance | None = None,
) -> Proxy:
    """Train a proxy on designs drawn at random and evaluated by the real model.

    Args:
        problem: The problem of a scenario.
        samples: Designs to draw; a tenth is held out, to know what the members disagree on.
        seed: Of the designs.
        training: How the networks are trained.
        advance: Hears of the stages.

    Raises:
        InputError: Too few designs.
    """
    if samples < 100:
        raise InputError("too few designs to learn from", field="samples", found=samples)
    digest = digest_of(problem)
    designs = distinct_designs(problem, samples, seed)
    found = evaluated(problem, designs, advance)
    names = tuple(problem.metric_names)
    values = np.stack([found[name] for name in names], axis=1).astype(np.float64)
    values[~np.isfinite(values)] = np.nan
    logarithmic = np.nanmin(values, axis=0) > 0
    learned = np.where(logarithmic, np.log(np.where(logarithmic, values, 1.0)), values)
    mean, scale = np.nanmean(learned, axis=0), np.nanstd(learned, axis=0)
    scale[~(scale > 0)] = 1.0
    taken = np.where(refused(problem, found), -1.0, 1.0)
    targets = np.column_stack([(learned - mean) / scale, taken])
    held = max(10, int(HELD_OUT * len(designs)))
    sizes = problem.space.cardinalities.tolist()
    regressor = fit(
        designs[held:],
        targets[held:],
        sizes,
        [parameter.ordered for parameter in problem.space.parameters],
        training or Training(seed=seed),
        None if advance is None else lambda done, total: advance("steps of training", done, total),
    )
    seen = []
    for size, column in zip(sizes, designs[held:].T, strict=True):
        known = np.zeros(size, dtype=bool)
        known[column] = True
        seen.append(known)
    proxy = Proxy(
        digest, problem.subject, names, logarithmic, mean, scale, tuple(seen), np.inf, len(designs),
        seed, regressor,
    )  # fmt: skip
    doubts = proxy._doubtful(regressor.members(designs[:held]))
    doubt = float(np.quantile(doubts, 1 - DISTRUSTED))
    return replace(proxy, doubt=doubt)


class ProxyProblem:
    """A problem whose metrics are predicted: the lowest of its fidelities.

    Everything but ``evaluate`` and ``content`` is the real problem's.

    Args:
        problem: The real problem, or anything :func:`archsim.envs.as_problem` takes.
        proxy: Its proxy, or the file of one.

    Raises:
        InputError: The proxy was trained on another problem.
    """

    def __init__(self, problem: Any, proxy: Proxy | str | Path) -> None:
        from archsim.envs.problem import as_problem

        self.real = as_problem(problem)
        self.proxy = proxy if isinstance(proxy, Proxy) else load_proxy(proxy)
        self.proxy.check_problem(self.real)
        self.space, self.objective = self.real.space, self.real.objective
        self.metric_names, self.features = self.real.metric_names, self.real.features

    def __getattr__(self, name: str) -> Any:
        if name == "real":
            raise AttributeError(name)
        return getattr(self.real, name)

    def content(self) -> dict[str, Any]:
        """The real problem's, and the weights: other numbers are another problem."""
        weights = hashlib.sha256()
        for array in arrays_of(self.proxy.regressor).values():
            weights.update(array.tobytes())
        return {**self.real.content(), "proxy": weights.hexdigest()}

    def evaluate(self, indices: np.ndarray) -> Metrics:
        """Predicted metrics and their score, with ``out_of_distribution`` (bool[B])."""
        designs = self.space.check_indices(np.atleast_2d(indices))
        metrics, strange = self.proxy.predict(designs)
        metrics.update(self.objective.score(metrics))
        metrics["out_of_distribution"] = strange
        return metrics
