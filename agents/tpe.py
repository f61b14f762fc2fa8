"""TPE: two densities, of good and of other designs, and their ratio (Optuna's TPESampler).

Bergstra et al., NeurIPS 2011; Watanabe, arXiv:2304.11127 for what the options do. The violation of
a design is handed over as a constraint, so feasible designs always rank first.
"""

from __future__ import annotations

import contextlib
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np

from archsim.agents.evaluation import BudgetSpent, Evaluator
from archsim.agents.options import AgentOptions, option, require


@dataclass(frozen=True)
class Options(AgentOptions):
    """Options of TPE."""

    startup: int = option(10, "Random designs before the densities are used (Optuna's).", low=1)
    candidates: int = option(24, "Samples compared for every proposal (Optuna's).", low=1)
    multivariate: bool = option(
        False, "Model parameters jointly; with few designs it may settle on one category too early."
    )
    window: int = option(
        1000, "Most designs the densities see: the best half and the latest half.", low=20
    )


def distributions(evaluate: Evaluator) -> dict[str, Any]:
    """Optuna's view of the action space: integers for ordered parameters, else categories."""
    from optuna.distributions import CategoricalDistribution, IntDistribution

    result: dict[str, Any] = {}
    for column, (size, ordered) in enumerate(zip(evaluate.sizes, evaluate.ordered, strict=True)):
        # Two values have no order worth modelling, but integers are cheaper than categories.
        if ordered or size <= 2:
            result[f"p{column}"] = IntDistribution(0, int(size) - 1)
        else:
            result[f"p{column}"] = CategoricalDistribution(list(range(int(size))))
    return result


def quiet_optuna() -> Any:
    """Import Optuna without its log lines; a missing package names its extra."""
    optuna = require("optuna", "search")
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return optuna


def ask_and_tell(evaluate: Evaluator, sampler: Any, rng: np.random.Generator, window: int) -> None:
    """Let an Optuna sampler propose designs until the budget is spent.

    A proposal that breaks a constraint of the space is repaired, and one that was evaluated before
    is exchanged for an unknown neighbour: neither would teach the sampler anything.

    Args:
        evaluate: The environment.
        sampler: An Optuna sampler.
        rng: Source of randomness for neighbours.
        window: Most designs the sampler learns from; older ones beyond it are thinned out.
    """
    optuna = quiet_optuna()
    space = distributions(evaluate)
    study = optuna.create_study(sampler=sampler)
    known: set[bytes] = set()
    while True:
        if len(study.get_trials(deepcopy=False)) >= window:
            study = thinned(study, sampler, window // 2)
        trial = study.ask(fixed_distributions=space)
        wanted = np.array([trial.params[name] for name in space], dtype=np.int64)
        design = unknown_near(evaluate, wanted, known, rng)
        known.add(design.tobytes())
        if not np.array_equal(design, wanted):
            study.tell(trial, state=optuna.trial.TrialState.FAIL)
            study.enqueue_trial(dict(zip(space, design.tolist(), strict=True)))
            trial = study.ask(fixed_distributions=space)
        scores = evaluate(design[None])
        trial.set_constraint("violation", float(scores.violation[0]))
        # The reward is bounded; the objective of an infeasible design would dwarf all others.
        study.tell(trial, -float(scores.reward[0]))


def unknown_near(
    evaluate: Evaluator, wanted: np.ndarray, known: set[bytes], rng: np.random.Generator
) -> np.ndarray:
    """The legal design nearest to a proposal, or a random walk away from it if that is known."""
    design = evaluate.repair(wanted[None])[0]
    for _ in range(64):
        if design.tobytes() not in known:
            break
        design = design.copy()
        column = int(rng.integers(len(design)))
        design[column] = rng.integers(evaluate.sizes[column])
        design = evaluate.repair(design[None])[0]
    return design


def thinned(study: Any, sampler: Any, keep: int) -> Any:
    """A study with the better half and the latest half of what it shall keep."""
    optuna = quiet_optuna()
    done = optuna.trial.TrialState.COMPLETE
    trials = study.get_trials(deepcopy=False, states=(done,))
    ranked = sorted(trials, key=lambda t: (max(t.constraints.values()), t.value, t.number))
    chosen = {trial.number for trial in ranked[: keep // 2]}
    chosen |= {trial.number for trial in trials[-(keep // 2) :]}
    smaller = optuna.create_study(sampler=sampler)
    smaller.add_trials([trial for trial in trials if trial.number in chosen])
    return smaller


class Tpe:
    """Tree-structured Parzen estimator (Optuna): samples where good designs are dense."""

    encoding = "multidiscrete"
    vectorized = False
    extra = "search"

    def __init__(self, env: Any, seed: int = 0, options: Options | None = None) -> None:
        quiet_optuna()
        self.options = options or Options()
        self.evaluate = Evaluator(env, seed)
        self.seed = seed

    def search(self) -> None:
        """Propose one design at a time until the recorder's budget is spent."""
        import optuna

        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            sampler = optuna.samplers.TPESampler(
                n_startup_trials=self.options.startup,
                n_ei_candidates=self.options.candidates,
                multivariate=self.options.multivariate,
                seed=self.seed,
            )
        with contextlib.suppress(BudgetSpent):
            ask_and_tell(
                self.evaluate, sampler, np.random.default_rng(self.seed), self.options.window
            )
