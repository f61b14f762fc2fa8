"""GP: Bayesian optimisation with a Gaussian process (Optuna's GPSampler).

Matern-5/2 kernel with a length scale a parameter, log expected improvement (Ament et al.,
arXiv:2310.20708), times the chance of being feasible where constraints are violated (Gardner et
al., ICML 2014). Fitting is cubic in the number of designs, so it sees at most ``window`` of them.
"""

from __future__ import annotations

import contextlib
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np

from archsim.agents.evaluation import BudgetSpent, Evaluator
from archsim.agents.options import AgentOptions, option, require
from archsim.agents.tpe import ask_and_tell, quiet_optuna


@dataclass(frozen=True)
class Options(AgentOptions):
    """Options of Gaussian-process optimisation."""

    startup: int = option(10, "Random designs before the first fit (Optuna's).", low=2)
    deterministic: bool = option(True, "Tell the model that evaluations carry no noise.")
    window: int = option(
        300, "Most designs the model sees: the best half and the latest half.", low=20
    )


class Gp:
    """Bayesian optimisation (Optuna): Gaussian process, log expected improvement, constraints."""

    encoding = "multidiscrete"
    vectorized = False
    extra = "search,torch"

    def __init__(self, env: Any, seed: int = 0, options: Options | None = None) -> None:
        quiet_optuna()
        # More threads than one fight over the cores of a parallel run.
        require("torch", "torch").set_num_threads(1)
        self.options = options or Options()
        self.evaluate = Evaluator(env, seed)
        self.seed = seed

    def search(self) -> None:
        """Propose one design at a time until the recorder's budget is spent."""
        import optuna

        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            sampler = optuna.samplers.GPSampler(
                n_startup_trials=self.options.startup,
                deterministic_objective=self.options.deterministic,
                seed=self.seed,
                warn_independent_sampling=False,
            )
        # Optuna divides zero by zero, and copes, when no design is likely to be feasible.
        with contextlib.suppress(BudgetSpent), np.errstate(invalid="ignore"):
            ask_and_tell(
                self.evaluate, sampler, np.random.default_rng(self.seed), self.options.window
            )
